//! Placeholder.
use tests::village::*;

#[test]
fn people_come_in_and_see_each_other() {
    let land = Land::meadow(1, "green", 64, 64).natural("pine", 20, 20).habitat("goat", 3, 30, 30, 6, 6).harbour(3, 30);
    story(Plan::new([land]), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        ann.sees_person(bob.player).await;
        bob.walks_to(31, 32).await;
        let there = bob.seen.tile();
        assert_eq!(there, (31, 32));
        ann.waits_until("Bob beside her", |seen| seen.thing(1002).is_some_and(|it| it.tile == (31, 32))).await;
        village.gives(&mut ann, "wood", 4).await;
        assert_eq!(village.carried(ann.player, "wood"), 4);
        village.kill("frontend-1");
        ann.arrives("frontend-2").await;
        ann.sees_person(bob.player).await;
    });
}
