//! Two people on different frontends grab the same thing: one of them gets it.

use mesh::Role;
use nodes::game::kind;
use nodes::protocol::{Act, Wares, codes};
use tests::village::seen::count;
use tests::village::{Land, Person, Plan, Reply, Village, story};

/// Trees with one stroke each.
const TREES: u16 = 6;

/// Tiles on which both build.
const TILES: u16 = 5;

/// How often goods are taken out of the box.
const GRABS: u64 = 4;

async fn two_people(village: &mut Village) -> (Person, Person) {
    let mut ann = village.person("Ann", 1, 30, 30).await;
    let mut bob = village.person("Bob", 1, 31, 29).await;
    ann.arrives("frontend-1").await;
    bob.arrives("frontend-2").await;
    ann.sees_person(bob.player).await;
    bob.sees_person(ann.player).await;
    (ann, bob)
}

/// Both try at once until one of them has it; whoever was only told to come again comes again.
async fn race(ann: &mut Person, bob: &mut Person, act: &Act) -> [Reply; 2] {
    async fn insist(person: &mut Person, act: &Act) -> Reply {
        let (mut number, mut reply) = person.act(act.clone()).await;
        for _ in 0..50 {
            match reply.code() {
                codes::UNKNOWN => reply = person.asks_again(number).await,
                codes::BUSY | codes::TOO_SOON | codes::UNAVAILABLE => {
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    (number, reply) = person.act(act.clone()).await;
                }
                _ => break,
            }
        }
        reply
    }
    let (first, second) = tokio::join!(insist(ann, act), insist(bob, act));
    [first, second]
}

fn one_has_won(replies: &[Reply; 2]) {
    let winners = replies.iter().filter(|reply| reply.done()).count();
    assert_eq!(winners, 1, "{replies:?}");
    assert!(!replies.contains(&Reply::Lost), "{replies:?}");
}

#[test]
fn two_who_want_the_last_stroke_of_a_tree_get_it_once() {
    let land = (0..TREES).fold(Land::meadow(1, "green", 64, 64), |land, i| land.natural("pine", 28 + i, 31));
    let plan = Plan::new([land]).with(Role::Garden, 3).changing(|content| {
        let pine = content.naturals.get_mut("pine").expect("there are pines");
        (pine.strokes, pine.count, pine.regrow_s) = (1, 2, 100_000);
        pine.tool = None;
    });
    story(plan, async |village| {
        let (mut ann, mut bob) = two_people(village).await;
        for tree in 0..TREES {
            let replies = race(&mut ann, &mut bob, &Act::Gather { x: 28 + tree, y: 31 }).await;
            one_has_won(&replies);
            let wood = 2 * (u64::from(tree) + 1);
            assert_eq!(village.carried(ann.player, "wood") + village.carried(bob.player, "wood"), wood);
        }
        assert_eq!(village.holds("wood"), 2 * u64::from(TREES));
    });
}

#[test]
fn two_who_build_on_the_same_tile_or_claim_the_same_land_do_it_once() {
    let plan = Plan::new([Land::meadow(1, "green", 64, 64)]).with(Role::Garden, 3);
    story(plan, async |village| {
        let cost = village.content.facilities["box"].takes["wood"];
        let (mut ann, mut bob) = two_people(village).await;
        for person in [&mut ann, &mut bob] {
            village.gives(person, "wood", 100).await;
            person.waits_until("wood", |seen| seen.carries("wood") == 100).await;
        }
        for tile in 0..TILES {
            let build = Act::Build { facility: "box".to_owned(), x: 28 + tile, y: 31, turned: 0 };
            one_has_won(&race(&mut ann, &mut bob, &build).await);
            let carried = village.carried(ann.player, "wood") + village.carried(bob.player, "wood");
            assert_eq!(carried, 200 - cost * (u64::from(tile) + 1), "the loser keeps the wood");
        }
        one_has_won(&race(&mut ann, &mut bob, &Act::Claim {}).await);
        for person in [&mut ann, &mut bob] {
            person
                .waits_until("all that was built", |seen| seen.named(kind::FACILITY, "box").len() == usize::from(TILES))
                .await;
        }
    });
}

#[test]
fn goods_that_are_taken_out_of_a_box_many_times_at_once_come_out_once() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let (mut ann, mut bob) = two_people(village).await;
        village.gives(&mut ann, "wood", 4).await;
        village.gives(&mut ann, "stone", 5).await;
        village.gives(&mut ann, "axe", 1).await;
        ann.waits_until("what she was given", |seen| seen.carries("axe") == 1).await;
        let chest = ann.does(Act::Build { facility: "box".to_owned(), x: 30, y: 31, turned: 0 }).await;
        for person in [&mut ann, &mut bob] {
            person.sees(kind::FACILITY, "box", |it| it.id == chest).await;
        }
        let axe = Wares { stacks: Vec::new(), uniques: ann.seen.wares.uniques.clone() };
        let stones = Wares { stacks: vec![("stone".to_owned(), 5)], uniques: Vec::new() };
        for (item, wares, most) in [("axe", axe, 1), ("stone", stones, 5)] {
            for _ in 0..GRABS {
                ann.does(Act::Put { object: chest, wares: wares.clone() }).await;
                assert_eq!(count(&ann.looks_into(chest).await, item), most);
                // She reaches in several times at once, under different numbers, and somebody else does as well.
                let take = Act::Take { object: chest, wares: wares.clone() };
                let begun = [(); 4].map(|()| (ann.next_number(), ann.begins(take.clone())));
                assert_eq!(bob.is_refused(take.clone()).await, codes::FORBIDDEN);
                let mut out = 0;
                for (number, seq) in begun {
                    let mut reply = ann.reply_to(seq).await;
                    if reply.code() == codes::UNKNOWN {
                        reply = ann.insists(number, &take).await;
                    }
                    out += u64::from(reply.done());
                }
                if out == 0 {
                    ann.does(take).await;
                }
                assert!(out <= 1, "{out} times {most} {item}");
                assert_eq!(village.carried(ann.player, item), most);
                assert_eq!(count(&ann.looks_into(chest).await, item), 0);
            }
        }
        assert_eq!((village.holds("stone"), village.holds("axe")), (5, 1));
    });
}
