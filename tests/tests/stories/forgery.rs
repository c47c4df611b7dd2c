//! Clients that claim what they may not: refused with a clear code, and nothing happens, or happens once.

use nodes::game::kind;
use nodes::protocol::{Act, Wares, codes};
use tests::village::seen::count;
use tests::village::{Land, Plan, story};

fn wares(item: &str, count: u64) -> Wares {
    Wares { stacks: vec![(item.to_owned(), count)], uniques: Vec::new() }
}

#[test]
fn whoever_asks_for_what_is_not_theirs_to_do_is_refused_and_nothing_happens() {
    let land = Land::meadow(1, "green", 96, 64).natural("pine", 60, 30).natural("pine", 31, 30);
    story(Plan::new([land]), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut eve = village.person("Eve", 1, 58, 28).await;
        ann.arrives("frontend-1").await;
        eve.arrives("frontend-2").await;
        village.gives(&mut ann, "wood", 10).await;
        ann.waits_until("her wood", |seen| seen.carries("wood") == 10).await;
        let chest = ann.does(Act::Build { facility: "box".to_owned(), x: 30, y: 31, turned: 0 }).await;
        ann.sees(kind::FACILITY, "box", |it| it.id == chest).await;
        ann.does(Act::Put { object: chest, wares: wares("wood", 6) }).await;
        eve.sees(kind::FACILITY, "box", |it| it.id == chest).await;

        // Out of reach: a tree, a box, a person, a place.
        assert_eq!(eve.is_refused(Act::Gather { x: 31, y: 30 }).await, codes::TOO_FAR);
        assert_eq!(eve.is_refused(Act::Take { object: chest, wares: wares("wood", 1) }).await, codes::TOO_FAR);
        assert_eq!(eve.is_refused(Act::Look { object: chest }).await, codes::TOO_FAR);
        assert_eq!(eve.is_refused(Act::Demolish { object: chest }).await, codes::TOO_FAR);
        assert_eq!(eve.is_refused(Act::Trade { player: ann.player }).await, codes::TOO_FAR);
        let far = Act::Build { facility: "box".to_owned(), x: 40, y: 31, turned: 0 };
        assert_ne!(eve.is_refused(far).await, "");

        // What is not there, and what nobody knows.
        assert_eq!(eve.is_refused(Act::Gather { x: 58, y: 27 }).await, codes::MISSING);
        assert_eq!(eve.is_refused(Act::Take { object: 12_345, wares: wares("wood", 1) }).await, codes::MISSING);
        assert_eq!(eve.is_refused(Act::Craft { recipe: "crown".to_owned() }).await, codes::UNKNOWN_NAME);
        let palace = Act::Build { facility: "palace".to_owned(), x: 57, y: 28, turned: 0 };
        assert_eq!(eve.is_refused(palace).await, codes::UNKNOWN_NAME);
        assert_eq!(eve.is_refused(Act::Eat { item: "wood".to_owned() }).await, codes::UNKNOWN_NAME);
        assert_eq!(eve.is_refused(Act::Consent { trade: 777, round: 1 }).await, codes::MISSING);
        assert_ne!(eve.is_refused(Act::Enter { party: 777 }).await, "");

        // Goods that she does not have, or that are none.
        eve.is_refused(Act::Gift { player: ann.player, wares: wares("wood", 1) }).await;
        eve.is_refused(Act::Gift { player: ann.player, wares: wares("gold", 1) }).await;
        eve.is_refused(Act::Build { facility: "box".to_owned(), x: 57, y: 28, turned: 0 }).await;
        eve.is_refused(Act::Craft { recipe: "axe".to_owned() }).await;
        let axe = Wares { stacks: Vec::new(), uniques: vec![(format!("{:032x}-0", 7), "axe".to_owned())] };
        eve.is_refused(Act::Gift { player: ann.player, wares: axe }).await;

        // Somebody else's holding: she may neither build there nor open what stands there.
        ann.does(Act::Claim {}).await;
        eve.walks_to(31, 28).await;
        assert_eq!(eve.is_refused(Act::Take { object: chest, wares: wares("wood", 1) }).await, codes::FORBIDDEN);
        assert_eq!(eve.is_refused(Act::Look { object: chest }).await, codes::FORBIDDEN);
        assert_ne!(eve.is_refused(Act::Demolish { object: chest }).await, "");
        village.gives(&mut ann, "wood", 4).await;
        ann.waits_until("more wood", |seen| seen.carries("wood") >= 4).await;
        let empty = ann.does(Act::Build { facility: "box".to_owned(), x: 30, y: 29, turned: 0 }).await;
        eve.sees(kind::FACILITY, "box", |it| it.id == empty).await;
        assert_ne!(eve.is_refused(Act::Demolish { object: empty }).await, "");
        village.gives(&mut eve, "wood", 4).await;
        let there = Act::Build { facility: "box".to_owned(), x: 29, y: 28, turned: 0 };
        assert_ne!(eve.is_refused(there).await, "");
        assert_ne!(eve.is_refused(Act::Claim {}).await, "");
        assert_ne!(eve.is_refused(Act::GiveUp {}).await, "");

        assert_eq!(count(&ann.looks_into(chest).await, "wood"), 6);
        assert!(eve.seen.thing(empty).is_some() && eve.seen.thing(chest).is_some());
        assert_eq!((village.carried(eve.player, "wood"), village.carried(ann.player, "wood")), (4, 0));
        assert_eq!(village.holds("wood"), 10);
    });
}

#[test]
fn what_is_asked_twice_happens_once_and_numbers_of_other_lives_are_refused() {
    let land = Land::meadow(1, "green", 64, 64).natural("pine", 31, 30);
    let plan = Plan::new([land]).changing(|content| {
        let pine = content.naturals.get_mut("pine").expect("there are pines");
        (pine.strokes, pine.count, pine.regrow_s) = (5, 2, 100_000);
        pine.tool = None;
    });
    story(plan, async |village| {
        let gather = Act::Gather { x: 31, y: 30 };
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 30, 32).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-1").await;

        // The same stroke, five times, and once more through another frontend after hers has died.
        let (number, reply) = ann.act(gather.clone()).await;
        assert!(reply.done(), "{reply:?}");
        for _ in 0..4 {
            assert!(ann.asks_again(number).await.done());
        }
        ann.waits_until("two wood", |seen| seen.carries("wood") == 2).await;
        village.kill("frontend-1");
        ann.arrives("frontend-2").await;
        assert!(ann.act_as(number, gather.clone()).await.done(), "what was done is done");
        assert_eq!(village.carried(ann.player, "wood"), 2);

        // A number that was used for something else, one of a later life, one of long ago.
        let gift = Act::Gift { player: bob.player, wares: wares("wood", 1) };
        let (used, reply) = ann.act(gift).await;
        assert!(reply.done(), "{reply:?}");
        assert_eq!(ann.act_as(used, gather.clone()).await.code(), codes::STALE);
        let first = ann.seen.welcome.as_ref().map_or(0, |welcome| welcome.first_operation);
        assert_eq!(ann.act_as(first + (1 << 20), gather.clone()).await.code(), codes::STALE);
        assert_eq!(ann.act_as((1 << 53) - 1, gather.clone()).await.code(), codes::STALE);
        village.passes(std::time::Duration::from_secs(70)).await;
        assert_eq!(ann.act_as(number, gather).await.code(), codes::STALE, "its life is over for more than a minute");

        bob.arrives("frontend-2").await;
        bob.waits_until("his gift", |seen| seen.carries("wood") == 1).await;
        assert_eq!((village.carried(ann.player, "wood"), village.holds("wood")), (1, 2));
    });
}
