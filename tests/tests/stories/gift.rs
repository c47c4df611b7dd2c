//! A gift for somebody who is not there.

use nodes::protocol::{Act, Wares};
use tests::village::{Land, Plan, story};

#[test]
fn a_gift_reaches_somebody_who_was_offline_once() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        bob.goes_offline().await;
        village.gives(&mut ann, "wood", 5).await;
        ann.waits_until("her wood", |seen| seen.carries("wood") == 5).await;

        let wares = Wares { stacks: vec![("wood".to_owned(), 3)], uniques: Vec::new() };
        let (number, reply) = ann.act(Act::Gift { player: bob.player, wares }).await;
        assert!(reply.done(), "{reply:?}");
        assert!(ann.asks_again(number).await.done(), "asked again it is as done as before");
        ann.waits_until("two wood left", |seen| seen.carries("wood") == 2).await;
        assert_eq!(village.carried(bob.player, "wood"), 0, "he is not at home");

        // Everything that could remember it in memory dies.
        village.restart("frontend-1").await;
        bob.arrives("frontend-2").await;
        bob.waits_until("his gift", |seen| seen.carries("wood") == 3 && seen.noted("gift")).await;

        // Coming home again brings nothing more.
        bob.goes_offline().await;
        bob.arrives("frontend-1").await;
        bob.waits_until("his wood", |seen| seen.carries("wood") == 3).await;
        assert_eq!(village.holds("wood"), 5);
    });
}
