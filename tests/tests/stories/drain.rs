//! Nodes are emptied while people play on them: nobody is dropped, nothing is lost, and the world goes on.

use std::time::Duration;

use mesh::Role;
use nodes::game::kind;
use nodes::game::player::MAX_SPEED;
use nodes::protocol::{Act, Command, UNITS_PER_TILE, Wares, codes};
use tests::village::{Land, Person, Plan, Village, story};
use tokio::time::{Instant, sleep};

/// Between two looks at what others see.
const LOOK: Duration = Duration::from_millis(50);

/// How far from where it was to be a walker may ever be seen, in 1/256 tile: a fifth of what it walks in a second.
const STEP: i32 = MAX_SPEED / 4;

fn meadow(frontends: usize) -> Plan {
    Plan::new([Land::meadow(1, "green", 64, 64)]).with(Role::Frontend, frontends)
}

fn wood(count: u64) -> Wares {
    Wares { stacks: vec![("wood".to_owned(), count)], uniques: Vec::new() }
}

fn middle(x: i32, y: i32) -> (i32, i32) {
    (x * UNITS_PER_TILE + UNITS_PER_TILE / 2, y * UNITS_PER_TILE + UNITS_PER_TILE / 2)
}

/// Who owns a player, by its document.
fn owner(village: &Village, player: u64) -> Option<String> {
    let document = village.document(&format!("player/{player}")).expect("the player's document");
    document["owner"]["node"].as_str().map(str::to_owned)
}

/// Follows until the node is gone, then to its end; in which frontend that is.
async fn is_elsewhere(village: &Village, person: &mut Person, not: &[&str]) -> String {
    let at = person.frontend().to_owned();
    assert!(!not.contains(&at.as_str()), "{} is still at {at}", person.name);
    assert_eq!(owner(village, person.player).as_deref(), Some(at.as_str()));
    at
}

#[test]
fn a_walker_walks_on_while_its_frontend_is_emptied_and_nobody_sees_it_vanish_or_jump() {
    story(meadow(3), async |village| {
        let mut ann = village.person("Ann", 1, 10, 30).await;
        let mut cid = village.person("Cid", 1, 24, 32).await;
        ann.arrives("frontend-1").await;
        cid.arrives("frontend-2").await;
        cid.sees_person(ann.player).await;
        let walk = Command::Walk { from: ann.seen.place(), to: middle(44, 30), speed: MAX_SPEED / 2 };
        ann.commands(walk).await.expect("an answer");
        let session = village.document(&format!("player/{}", ann.player)).expect("hers")["seat"]["session"].clone();

        let drained = village.drains("frontend-1");
        let her = ann.player;
        let watches = async {
            // What Cid is shown of her, from before the drain until after it.
            let mut last: Option<(Instant, (i32, i32))> = None;
            let until = Instant::now() + Duration::from_secs(6);
            while Instant::now() < until {
                cid.look();
                let ghost = cid.seen.sight.ghost(her).unwrap_or_else(|| panic!("she vanished: {}", cid.seen));
                let offset = cid.seen.sight.offset_ms(ghost.publisher).unwrap_or(0);
                let place = ghost.motion.at(cid.seen.now_ms() - offset);
                if let Some((then, before)) = last {
                    let ms = i32::try_from(then.elapsed().as_millis()).expect("moments");
                    let far = (place.0 - before.0).abs().max((place.1 - before.1).abs());
                    assert!(
                        far <= MAX_SPEED / 2 * ms / 1_000 + STEP,
                        "she jumps from {before:?} to {place:?} in {ms} ms"
                    );
                    assert!(place.0 + STEP >= before.0, "she goes back from {before:?} to {place:?}");
                }
                last = Some((Instant::now(), place));
                sleep(LOOK).await;
            }
        };
        let follows = async {
            ann.follows().await;
        };
        tokio::join!(drained, watches, follows);
        is_elsewhere(village, &mut ann, &["frontend-1"]).await;
        let seat = village.document(&format!("player/{}", ann.player)).expect("hers")["seat"]["session"].clone();
        assert_eq!(seat, session, "the same session goes on");
        ann.waits_until("the end of her walk", |seen| seen.tile() == (44, 30)).await;
        ann.sees_person(cid.player).await;
        ann.walks_to(20, 30).await;
        village.is_whole().await;
    });
}

#[test]
fn a_trade_a_party_and_somebody_who_has_lost_its_connection_come_along() {
    story(meadow(3), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 31, 30).await;
        let mut dan = village.person("Dan", 1, 33, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        dan.arrives("frontend-1").await;
        ann.sees_person(bob.player).await;
        bob.sees_person(dan.player).await;
        village.gives(&mut ann, "wood", 9).await;
        ann.waits_until("her wood", |seen| seen.carries("wood") == 9).await;
        let party = ann.does(Act::Invite { player: dan.player }).await;
        dan.waits_until("an invitation", |seen| seen.noted("invite")).await;
        dan.does(Act::Enter { party }).await;
        ann.waits_until("her party", |seen| seen.party().members.len() == 2).await;
        let trade = ann.does(Act::Trade { player: bob.player }).await;
        bob.waits_until("the trade", |seen| seen.trades.contains_key(&trade)).await;
        ann.does(Act::Offer { trade, wares: wood(4) }).await;
        let token = dan.seen.welcome.clone().expect("his welcome").resume_token;
        dan.vanishes();

        ann.seen.trades.clear();
        tokio::join!(village.drains("frontend-1"), async {
            ann.follows().await;
        });
        is_elsewhere(village, &mut ann, &["frontend-1"]).await;
        // She is shown the trade again as it is, and it goes on.
        ann.waits_until("her offer", |seen| {
            seen.trades.get(&trade).is_some_and(|it| it.state == 0 && !it.mine.wares.stacks.is_empty())
        })
        .await;
        let round = bob.waits_for("her offer", |seen| {
            seen.trades.get(&trade).filter(|it| !it.theirs.wares.stacks.is_empty()).map(|it| it.round)
        });
        let round = round.await;
        ann.does(Act::Consent { trade, round }).await;
        bob.does(Act::Consent { trade, round }).await;
        bob.waits_until("four wood", |seen| seen.carries("wood") == 4).await;
        ann.waits_until("five left", |seen| seen.carries("wood") == 5).await;
        // He stands where he stood, and comes back with the token that he has.
        assert!(bob.seen.thing(dan.player).is_some(), "he lingers elsewhere");
        let there = owner(village, dan.player).expect("somebody has him");
        assert_ne!(there, "frontend-1");
        dan.shows(&there, &token).await.expect("let in");
        dan.waits_until("his party", |seen| seen.party().party == party).await;
        ann.waits_until("both in the party", |seen| seen.party().members.len() == 2).await;
    });
}

#[test]
fn a_gift_that_is_on_its_way_when_its_givers_frontend_is_emptied_comes_once() {
    story(meadow(3), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 31, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        ann.sees_person(bob.player).await;
        village.gives(&mut ann, "wood", 60).await;
        ann.waits_until("her wood", |seen| seen.carries("wood") == 60).await;
        let drained = village.drains("frontend-1");
        let gives = async {
            for _ in 0..40 {
                ann.does_on_the_way(Act::Gift { player: bob.player, wares: wood(1) }).await;
            }
        };
        tokio::join!(drained, gives);
        assert_ne!(ann.frontend(), "frontend-1");
        bob.waits_until("forty wood", |seen| seen.carries("wood") == 40).await;
        ann.waits_until("twenty left", |seen| seen.carries("wood") == 20).await;
        assert_eq!(village.holds("wood"), 60);
    });
}

#[test]
fn two_frontends_are_emptied_at_once_and_everybody_ends_on_those_that_stay() {
    story(meadow(4), async |village| {
        let mut people = Vec::new();
        for number in 0..24_u16 {
            let mut person = village.person(&format!("P{number}"), 1, 10 + number, 20 + number % 7).await;
            person.arrives(if number % 2 == 0 { "frontend-1" } else { "frontend-2" }).await;
            person.looks = false;
            people.push(person);
        }
        let (one, two) = (village.drains("frontend-1"), village.drains("frontend-2"));
        let follow = futures_util::future::join_all(people.iter_mut().map(async |person| {
            // Whoever is sent to the other one that is being emptied is sent on.
            while ["frontend-1", "frontend-2"].contains(&person.frontend()) {
                person.comes_along().await;
            }
        }));
        tokio::join!(one, two, follow);
        village.is_whole().await;
        for person in &mut people {
            is_elsewhere(village, person, &["frontend-1", "frontend-2"]).await;
            person.does(Act::Bag {}).await;
        }
    });
}

#[test]
fn when_the_only_frontend_is_emptied_everybody_is_told_saved_and_let_back_in_later() {
    story(meadow(1), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        ann.arrives("frontend-1").await;
        ann.walks_to(36, 33).await;
        village.gives(&mut ann, "wood", 5).await;
        let told = async { ann.waits_for("a farewell", |seen| seen.farewell.clone()).await };
        let ((), (code, _)) = tokio::join!(village.drains("frontend-1"), told);
        assert_eq!(code, codes::DRAINING);
        assert_eq!(owner(village, ann.player), None, "she is nobody's");
        village.add("frontend-2", Role::Frontend).await;
        village.is_whole().await;
        ann.comes_along().await;
        assert_eq!((ann.frontend(), ann.seen.tile()), ("frontend-2", (36, 33)));
        ann.waits_until("her wood", |seen| seen.carries("wood") == 5).await;
    });
}

#[test]
fn when_the_frontend_that_takes_everybody_dies_on_the_way_they_land_elsewhere() {
    for late_ms in (0..400).step_by(10) {
        story(meadow(3), async |village| {
            let mut people = Vec::new();
            for number in 0..6_u16 {
                let mut person = village.person(&format!("P{number}"), 1, 20 + number, 30).await;
                person.arrives("frontend-1").await;
                person.looks = false;
                people.push(person);
            }
            let drained = village.drains("frontend-1");
            let dies = async {
                sleep(Duration::from_millis(late_ms)).await;
                village.kill("frontend-2");
            };
            let follow = futures_util::future::join_all(people.iter_mut().map(async |person| {
                while person.frontend() != "frontend-3" {
                    person.comes_along().await;
                }
            }));
            tokio::join!(drained, dies, follow);
            for person in &mut people {
                is_elsewhere(village, person, &["frontend-1", "frontend-2"]).await;
                person.does(Act::Bag {}).await;
            }
        });
    }
}

#[test]
fn a_frontend_whose_store_is_away_while_it_is_emptied_loses_nobody() {
    story(meadow(3), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 31, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-1").await;
        ann.walks_to(36, 33).await;
        village.store_is_away("frontend-1", true);
        let drained = village.drains("frontend-1");
        let back = async {
            sleep(Duration::from_secs(8)).await;
            village.store_is_away("frontend-1", false);
        };
        let follow = async {
            tokio::join!(ann.comes_along(), bob.comes_along());
        };
        tokio::join!(drained, back, follow);
        for person in [&mut ann, &mut bob] {
            is_elsewhere(village, person, &["frontend-1"]).await;
        }
        assert_eq!(ann.seen.tile(), (36, 33), "where she was let go");
    });
}

#[test]
fn a_fighter_fights_on_at_another_frontend() {
    let land = Land::meadow(1, "green", 64, 64).habitat("wild_boar", 1, 30, 30, 4, 4);
    let plan = Plan::new([land]).with(Role::Frontend, 3).changing(|content| {
        let boar = content.species.get_mut("wild_boar").expect("there are boars");
        (boar.toughness, boar.harm, boar.fear) = (60, 2, 0);
        boar.respawn_s = 100_000;
        boar.loot = [("meat".to_owned(), 5)].into();
    });
    story(plan, async |village| {
        let mut ann = village.person("Ann", 1, 29, 31).await;
        ann.arrives("frontend-1").await;
        let boar = ann.sees(kind::ANIMAL, "wild_boar", |_| true).await;
        let battle = ann.does(Act::Attack { target: boar.id }).await;
        ann.sees(kind::BATTLE, "", |it| it.id == battle).await;
        ann.act(Act::Blow { blow: 0, target: boar.id }).await;
        let drained = village.drains("frontend-1");
        tokio::join!(drained, async {
            ann.follows().await;
        });
        is_elsewhere(village, &mut ann, &["frontend-1"]).await;
        assert_eq!(ann.is_refused(Act::Attack { target: boar.id }).await, codes::IN_BATTLE, "she is in it still");
        for _ in 0..200 {
            ann.look();
            if ann.seen.thing(battle).is_none() {
                break;
            }
            ann.act(Act::Blow { blow: 0, target: boar.id }).await;
            sleep(Duration::from_millis(400)).await;
        }
        ann.waits_until("the end of the battle", |seen| seen.thing(battle).is_none()).await;
        ann.waits_until("her loot", |seen| seen.carries("meat") == 5).await;
        ann.walks_to(35, 40).await;
        assert_eq!(village.holds("meat"), 5);
    });
}
