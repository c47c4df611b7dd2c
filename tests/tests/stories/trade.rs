//! Trades that are given up at the last moment.

use nodes::protocol::{Act, Wares};
use tests::village::{Land, Person, Plan, Village, story};

/// Races of a consent against a withdrawal.
const RACES: u64 = 6;

fn wares(item: &str, count: u64) -> Wares {
    Wares { stacks: vec![(item.to_owned(), count)], uniques: Vec::new() }
}

async fn two_traders(village: &mut Village) -> (Person, Person) {
    let mut ann = village.person("Ann", 1, 30, 30).await;
    let mut bob = village.person("Bob", 1, 31, 30).await;
    ann.arrives("frontend-1").await;
    bob.arrives("frontend-2").await;
    ann.sees_person(bob.player).await;
    village.gives(&mut ann, "wood", 40).await;
    village.gives(&mut bob, "stone", 40).await;
    ann.waits_until("her wood", |seen| seen.carries("wood") == 40).await;
    bob.waits_until("his stone", |seen| seen.carries("stone") == 40).await;
    (ann, bob)
}

/// Opens a trade, and both say what they give. The trade's number, and the round to which both may agree.
async fn agree(ann: &mut Person, bob: &mut Person) -> (u64, u64) {
    let trade = ann.does(Act::Trade { player: bob.player }).await;
    bob.waits_until("the trade", |seen| seen.trades.contains_key(&trade)).await;
    ann.does(Act::Offer { trade, wares: wares("wood", 3) }).await;
    bob.does(Act::Offer { trade, wares: wares("stone", 2) }).await;
    let both = |seen: &tests::village::Seen| {
        let state = seen.trades.get(&trade)?;
        let filled = !state.mine.wares.stacks.is_empty() && !state.theirs.wares.stacks.is_empty();
        filled.then_some(state.round)
    };
    let round = bob.waits_for("both offers", both).await;
    assert_eq!(ann.waits_for("both offers", both).await, round);
    (trade, round)
}

#[test]
fn a_trade_that_is_withdrawn_at_the_last_moment_moves_nothing() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let (mut ann, mut bob) = two_traders(village).await;
        let (trade, round) = agree(&mut ann, &mut bob).await;
        ann.does(Act::Consent { trade, round }).await;
        bob.waits_until("her consent", |seen| seen.trades[&trade].theirs.consents).await;
        bob.does(Act::Withdraw { trade }).await;
        for trader in [&mut ann, &mut bob] {
            trader.waits_until("the end of the trade", |seen| seen.trades[&trade].state == 2).await;
        }
        let code = bob.is_refused(Act::Consent { trade, round }).await;
        assert!(!code.is_empty());
        assert_eq!((ann.seen.carries("wood"), ann.seen.carries("stone")), (40, 0));
        assert_eq!((village.carried(ann.player, "wood"), village.carried(bob.player, "stone")), (40, 40));

        // An offer that changes under a consent makes it void.
        let (trade, round) = agree(&mut ann, &mut bob).await;
        ann.does(Act::Consent { trade, round }).await;
        bob.does(Act::Offer { trade, wares: wares("stone", 1) }).await;
        bob.is_refused(Act::Consent { trade, round }).await;
        let newer =
            bob.waits_for("a newer round", |seen| Some(seen.trades[&trade].round).filter(|it| *it > round)).await;
        bob.does(Act::Consent { trade, round: newer }).await;
        assert_eq!((village.carried(ann.player, "wood"), village.carried(bob.player, "wood")), (40, 0));

        // With her consent to what it is now, it is done, once.
        ann.waits_until("the newer round", |seen| seen.trades[&trade].round >= newer).await;
        ann.does(Act::Consent { trade, round: newer }).await;
        ann.waits_until("one stone", |seen| (seen.carries("wood"), seen.carries("stone")) == (37, 1)).await;
        bob.waits_until("three wood", |seen| (seen.carries("wood"), seen.carries("stone")) == (3, 39)).await;
        assert_eq!((village.holds("wood"), village.holds("stone")), (40, 40));
    });
}

#[test]
fn a_consent_and_a_withdrawal_at_once_give_one_end_for_both() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let (mut ann, mut bob) = two_traders(village).await;
        let mut done = 0;
        for race in 0..RACES {
            let (trade, round) = agree(&mut ann, &mut bob).await;
            ann.does(Act::Consent { trade, round }).await;
            bob.waits_until("her consent", |seen| seen.trades[&trade].theirs.consents).await;
            // In half of the races she is a little later.
            let late = std::time::Duration::from_millis(race * 3);
            let withdraw = async {
                tokio::time::sleep(late).await;
                ann.act(Act::Withdraw { trade }).await
            };
            let (withdrawn, consented) = tokio::join!(withdraw, bob.act(Act::Consent { trade, round }));
            let state = bob.waits_for("an end", |seen| Some(seen.trades[&trade].state).filter(|it| *it != 0)).await;
            assert_eq!(
                ann.waits_for("an end", |seen| Some(seen.trades[&trade].state).filter(|it| *it != 0)).await,
                state
            );
            assert!(withdrawn.1.done() != consented.1.done(), "{withdrawn:?} {consented:?}");
            assert_eq!(state, if consented.1.done() { 1 } else { 2 });
            done += u64::from(consented.1.done());
            let expected = (40 - 3 * done, 2 * done);
            ann.waits_until("her goods", |seen| (seen.carries("wood"), seen.carries("stone")) == expected).await;
            let expected = (3 * done, 40 - 2 * done);
            bob.waits_until("his goods", |seen| (seen.carries("wood"), seen.carries("stone")) == expected).await;
        }
    });
}
