//! Gardens die, leave and freeze while players look at the land and work on it.

use std::time::Duration;

use estate::store::memory::Rates;
use mesh::Role;
use nodes::game::kind;
use nodes::protocol::{Act, Command};
use tests::village::{Land, Person, Plan, Reply, Thing, Village, story};
use tokio::time::{Instant, sleep};

/// How long the next touch takes to land on another garden, at most: the lease and a second.
const TOUCH: Duration = Duration::from_secs(6);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The tree.
const PINE: Act = Act::Gather { x: 30, y: 30 };

/// A meadow with a tree of many strokes.
fn plan() -> Plan {
    let land = Land::meadow(1, "green", 64, 64).natural("pine", 30, 30);
    Plan::new([land]).with(Role::Garden, 3).changing(|content| {
        let pine = content.naturals.get_mut("pine").expect("there are pines");
        (pine.strokes, pine.count, pine.regrow_s) = (40, 1, 100_000);
        pine.tool = None;
    })
}

/// Ann has struck the tree once; which garden shows it.
async fn strikes_once(village: &mut Village) -> (Person, Thing, String) {
    let mut ann = village.person("Ann", 1, 31, 30).await;
    ann.arrives("frontend-1").await;
    ann.does(PINE).await;
    let pine = ann.sees(kind::NATURE, "pine", |_| true).await;
    let garden = village.name_of(pine.publisher).expect("a node that runs").to_owned();
    assert!(garden.starts_with("garden"), "the tree is {garden}'s");
    (ann, pine, garden)
}

/// As many strokes were struck as there is wood.
async fn has(ann: &mut Person, village: &Village, wood: u64) {
    ann.waits_until("the wood", |seen| seen.carries("wood") == wood).await;
    assert_eq!((village.carried(ann.player, "wood"), village.holds("wood")), (wood, wood));
}

#[test]
fn a_stroke_lands_on_another_garden_before_the_lease_of_the_dead_one_has_ended_and_once() {
    story(plan(), async |village| {
        let (mut ann, pine, garden) = strikes_once(village).await;
        // Its stroke is under way when the garden dies.
        let number = ann.next_number();
        let seq = ann.says(Command::Act { number, act: PINE });
        village.passes(Duration::from_millis(2)).await;
        village.kill(&garden);
        let died = Instant::now();
        let reply = ann.reply_to(seq).await;
        let reply = if reply.done() { reply } else { ann.insists(number, &PINE).await };
        assert_eq!(reply, Reply::Done(0));
        assert!(died.elapsed() < Duration::from_secs(3), "no lease is waited for: {:?}", died.elapsed());
        has(&mut ann, village, 2).await;
        ann.does(PINE).await;
        assert!(died.elapsed() < TOUCH, "{:?}", died.elapsed());
        has(&mut ann, village, 3).await;
        // Others show it, as it is now, over what the dead one showed in the same second.
        let elsewhere = |it: &Thing| it.id == pine.id && it.publisher != pine.publisher;
        ann.sees(kind::NATURE, "pine", elsewhere).await;
        assert!(died.elapsed() < TOUCH + Duration::from_secs(1), "{:?}", died.elapsed());
        village.revive(&garden).await;
        village.is_whole().await;
    });
}

#[test]
fn the_land_of_a_garden_that_is_drained_is_never_out_of_sight_and_every_act_is_done() {
    story(plan(), async |village| {
        let (mut ann, pine, garden) = strikes_once(village).await;
        let leaving = village.takes_out(&garden);
        let began = Instant::now();
        let watch = async {
            let (mut strokes, mut moved) = (1, None);
            while moved.is_none() || began.elapsed() < Duration::from_secs(10) {
                if strokes < 8 {
                    ann.does(PINE).await;
                    strokes += 1;
                }
                ann.look();
                let there = ann.seen.thing(pine.id).unwrap_or_else(|| panic!("the tree is gone: {}", ann.seen));
                if moved.is_none() && there.publisher != pine.publisher {
                    moved = Some(began.elapsed());
                }
                assert!(began.elapsed() < Duration::from_secs(30), "nobody takes the tree over: {}", ann.seen);
                sleep(LOOK).await;
            }
            (strokes, moved)
        };
        let ((), (strokes, moved)) = tokio::join!(leaving.leave(), watch);
        assert!(moved.is_some_and(|moved| moved < Duration::from_secs(5)), "no lease is waited for: {moved:?}");
        has(&mut ann, village, strokes).await;
        village.revive(&garden).await;
        village.is_whole().await;
    });
}

#[test]
fn a_garden_that_is_frozen_in_the_midst_of_a_stroke_and_thaws_later_does_not_double_it() {
    story(plan(), async |village| {
        let (mut ann, pine, garden) = strikes_once(village).await;
        // A transaction takes time, so that it can be interrupted.
        village.store_is(Rates { delay: Duration::from_millis(3), ..Rates::default() });
        let mut wood = 1;
        for round in 0..8_u64 {
            let number = ann.next_number();
            let seq = ann.says(Command::Act { number, act: PINE });
            // Each time a little later in it, the first times before it has come.
            village.passes(Duration::from_millis(4 * round)).await;
            village.freeze(&garden, true);
            let frozen = Instant::now();
            let reply = ann.reply_to(seq).await;
            let reply = if reply.done() { reply } else { ann.insists(number, &PINE).await };
            assert_eq!(reply, Reply::Done(0), "round {round}");
            assert!(frozen.elapsed() < Duration::from_secs(12), "round {round}: {:?}", frozen.elapsed());
            wood += 1;
            let elsewhere = |it: &Thing| it.id == pine.id && it.publisher != pine.publisher;
            ann.sees(kind::NATURE, "pine", elsewhere).await;
            village.passes(Duration::from_secs(3)).await;
            village.freeze(&garden, false);
            let thawed = Instant::now();
            while thawed.elapsed() < Duration::from_secs(5) {
                ann.look();
                assert!(ann.seen.thing(pine.id).is_some(), "round {round}: the tree is gone: {}", ann.seen);
                sleep(LOOK).await;
            }
            village.is_whole().await;
            // What is seen is what is there: nobody shows the tree as it was.
            let left = (40 - wood) * 100 / 40;
            let as_it_is = |it: &Thing| it.id == pine.id && u64::from(it.view.health) == left;
            ann.sees(kind::NATURE, "pine", as_it_is).await;
            has(&mut ann, village, wood).await;
        }
    });
}
