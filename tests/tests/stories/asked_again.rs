//! Acts whose answers do not come: asked for again under their numbers they happen once, whatever died meanwhile.

use std::time::Duration;

use estate::store::memory::Rates;
use nodes::protocol::{Act, Wares};
use tests::village::{Land, Plan, Reply, story};

/// Deaths of frontends under an act.
const DEATHS: u64 = 16;

/// Gifts through a bad store.
const GIFTS: u64 = 30;

fn gift(player: u64) -> Act {
    Act::Gift { player, wares: Wares { stacks: vec![("wood".to_owned(), 1)], uniques: Vec::new() } }
}

#[test]
fn an_act_whose_frontend_dies_under_it_is_asked_again_elsewhere_and_happens_once() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        ann.arrives("frontend-1").await;
        village.gives(&mut ann, "wood", DEATHS).await;
        // The store takes its time, so that a frontend may die at any step of a transaction.
        village.store_is(Rates { delay: Duration::from_millis(10), ..Rates::default() });
        let mut died_before = 0;
        for death in 0..DEATHS {
            let here = ann.frontend().to_owned();
            let other = if here == "frontend-1" { "frontend-2" } else { "frontend-1" };
            let number = ann.next_number();
            let seq = ann.begins(gift(bob.player));
            village.passes(Duration::from_millis(death * 40)).await;
            village.kill(&here);
            ann.look();
            died_before += u64::from(!ann.seen.answers.contains_key(&seq));
            ann.arrives(other).await;
            let reply = ann.insists(number, &gift(bob.player)).await;
            assert_eq!(reply, Reply::Done(0), "after death {death}");
            assert_eq!(village.carried(ann.player, "wood"), DEATHS - death - 1, "after death {death}");
            village.revive(&here).await;
            village.is_whole().await;
        }
        assert!((1..DEATHS).contains(&died_before), "{died_before} of {DEATHS} answers were lost");
        village.store_is_well();
        bob.arrives("frontend-1").await;
        bob.waits_until("all gifts", |seen| seen.carries("wood") == DEATHS).await;
        assert_eq!(village.holds("wood"), DEATHS);
    });
}

#[test]
fn an_act_of_a_session_long_ago_is_too_old_to_happen_again() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let bob = village.person("Bob", 1, 34, 30).await;
        ann.arrives("frontend-1").await;
        village.gives(&mut ann, "wood", 9).await;
        let number = ann.next_number();
        ann.does(gift(bob.player)).await;
        for _ in 0..2 {
            ann.goes_offline().await;
            // Documents have forgotten it then.
            village.passes(estate::transaction::REMEMBERED + Duration::from_secs(60)).await;
            ann.arrives("frontend-2").await;
            let reply = ann.act_as(number, gift(bob.player)).await;
            assert_eq!((reply.code(), village.carried(ann.player, "wood")), ("stale", 8));
        }
    });
}

#[test]
fn what_is_answered_as_done_through_a_store_that_loses_replies_is_done_once() {
    story(Plan::new([Land::meadow(1, "green", 64, 64)]), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        village.gives(&mut ann, "wood", GIFTS).await;
        village.store_is(Rates {
            refuse: 30,
            lose_request: 20,
            lose_reply: 40,
            storm: 40,
            delay: Duration::from_millis(5),
            deadline: Duration::from_millis(200),
            ..Rates::default()
        });
        let (mut given, mut refused) = (0, 0);
        for _ in 0..GIFTS {
            let number = ann.next_number();
            let (_, reply) = ann.act(gift(bob.player)).await;
            let reply = if reply.done() { reply } else { ann.insists(number, &gift(bob.player)).await };
            match reply {
                Reply::Done(_) => given += 1,
                Reply::Refused(..) => refused += 1,
                Reply::Lost => panic!("no answer at all: {}", ann.seen),
            }
        }
        village.store_is_well();
        assert!(given >= GIFTS / 2, "{given} given, {refused} refused");
        ann.waits_until("what is left", |seen| seen.carries("wood") == GIFTS - given).await;
        bob.waits_until("all gifts", |seen| seen.carries("wood") == given).await;
        assert_eq!(village.holds("wood"), GIFTS);
    });
}
