//! Two people on different frontends grab the same thing: one of them gets it.

use mesh::Role;
use nodes::game::kind;
use nodes::protocol::{Act, Wares, codes};
use tests::village::seen::count;
use tests::village::{Land, Person, Plan, Reply, Village, story};

/// Trees with one stroke each.
const TREES: u16 = 6;

/// How often both reach into the box.
const GRABS: u64 = 6;

async fn two_people(village: &mut Village) -> (Person, Person) {
    let mut ann = village.person("Ann", 1, 30, 30).await;
    let mut bob = village.person("Bob", 1, 30, 32).await;
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
fn two_who_take_the_same_goods_out_of_a_box_get_them_once() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let (mut ann, mut bob) = two_people(village).await;
        village.gives(&mut ann, "wood", 4).await;
        village.gives(&mut ann, "stone", 5 * GRABS).await;
        village.gives(&mut ann, "axe", 1).await;
        ann.waits_until("what she was given", |seen| seen.carries("axe") == 1).await;
        let chest = ann.does(Act::Build { facility: "box".to_owned(), x: 30, y: 31, turned: 0 }).await;
        for person in [&mut ann, &mut bob] {
            person.sees(kind::FACILITY, "box", |it| it.id == chest).await;
        }

        // An axe, which is one of its kind.
        let axe: Vec<_> = ann.seen.wares.uniques.clone();
        let axe = Wares { stacks: Vec::new(), uniques: axe };
        ann.does(Act::Put { object: chest, wares: axe.clone() }).await;
        one_has_won(&race(&mut ann, &mut bob, &Act::Take { object: chest, wares: axe }).await);
        assert_eq!(village.carried(ann.player, "axe") + village.carried(bob.player, "axe"), 1);

        // Stones, five at a time, which are all there are in it.
        let stones = Wares { stacks: vec![("stone".to_owned(), 5)], uniques: Vec::new() };
        for _ in 0..GRABS {
            ann.does(Act::Put { object: chest, wares: stones.clone() }).await;
            one_has_won(&race(&mut ann, &mut bob, &Act::Take { object: chest, wares: stones.clone() }).await);
            assert_eq!(count(&bob.looks_into(chest).await, "stone"), 0);
            let carried = village.carried(ann.player, "stone") + village.carried(bob.player, "stone");
            assert_eq!(carried, 5 * GRABS);
            // Whoever won gives them back to her.
            let won = village.carried(bob.player, "stone");
            if won > 0 {
                let wares = Wares { stacks: vec![("stone".to_owned(), won)], uniques: Vec::new() };
                bob.does(Act::Gift { player: ann.player, wares }).await;
                ann.waits_until("her stones", |seen| seen.carries("stone") == 5 * GRABS).await;
            }
        }
        assert_eq!((village.holds("stone"), village.holds("axe")), (5 * GRABS, 1));
    });
}
