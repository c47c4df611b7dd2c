//! Frontends that die, freeze or lose their lease: their players come back elsewhere with the token of their last welcome, as
//! others last saw them, and once.

use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::store::memory::{Fault, Rates};
use futures_util::future::join_all;
use mesh::{NodeId, Role};
use nodes::frontend::players::LINGER_MS;
use nodes::game::player::MAX_SPEED;
use nodes::methods::{CloseSession, SESSION_CLOSE, pack};
use nodes::protocol::{Act, Command, UNITS_PER_TILE, Wares, codes};
use tests::village::{Land, Person, Plan, Reply, Village, story};
use tokio::time::Instant;

/// From a dead node's record being gone to the welcome of its players elsewhere.
const BACK: Duration = Duration::from_secs(2);

/// Players of one frontend that come back at once.
const MANY: usize = 300;

/// Deaths of frontends under an act.
const DEATHS: u64 = 10;

fn meadow() -> Plan {
    Plan::new([Land::meadow(1, "green", 96, 64)]).with(Role::Frontend, 3)
}

fn gift(player: u64) -> Act {
    Act::Gift { player, wares: Wares { stacks: vec![("wood".to_owned(), 1)], uniques: Vec::new() } }
}

fn walk_east(person: &Person, tiles: i32) -> Command {
    let (x, y) = person.seen.place();
    Command::Walk { from: (x, y), to: (x + tiles * UNITS_PER_TILE, y), speed: MAX_SPEED }
}

/// Waits until no node has a record of this one any more; when that was.
async fn gone(village: &Village, name: &str, watcher: &str) -> Instant {
    let dead = NodeId::new(name).expect("a name");
    let there = || village.node(watcher).mesh.peers().get(&dead).is_some();
    village.until("a record to go", || !there()).await;
    Instant::now()
}

/// Waits until a player's document says that nobody holds it.
async fn nobodys(village: &Village, player: u64) {
    let key = format!("player/{player}");
    village.until("a player to be nobody's", || village.document(&key).is_some_and(|it| it["owner"].is_null())).await;
}

#[test]
fn who_walked_when_its_frontend_was_killed_comes_back_elsewhere_where_others_see_it() {
    for there in ["frontend-2", "frontend-3"] {
        story(meadow(), async |village| {
            let mut ann = village.person("Ann", 1, 10, 30).await;
            let mut bob = village.person("Bob", 1, 20, 30).await;
            ann.arrives("frontend-1").await;
            bob.arrives("frontend-2").await;
            bob.sees_person(ann.player).await;
            ann.commands(walk_east(&ann, 45)).await;
            village.passes(Duration::from_secs(2)).await;
            village.kill("frontend-1");
            let (back, record_gone) = tokio::join!(
                async {
                    ann.resumes(there).await;
                    Instant::now()
                },
                gone(village, "frontend-1", there)
            );
            let took = back.saturating_duration_since(record_gone);
            assert!(took < BACK, "{took:?} after the record was gone");
            let saved = village.document(&format!("player/{}", ann.player)).expect("Ann");
            assert_eq!(saved["owner"]["node"], there);
            assert_eq!(saved["owner"]["epoch"], 2, "claimed once");
            // A step in the time that passes between two looks is as much as they may be apart.
            bob.look();
            let seen = bob.sees_person(ann.player).await;
            let (x, y) = ann.seen.tile();
            assert!(x > 30, "Ann walked on as everybody saw: she is at {x}");
            assert!((seen.tile.0 - x).abs() <= 1 && seen.tile.1 == y, "{:?} and ({x}, {y})", seen.tile);
            // And she still walks: to where she was going.
            bob.waits_until("the end of Ann's walk", |seen| seen.thing(ann.player).is_some_and(|it| it.tile.0 == 55))
                .await;
        });
    }
}

#[test]
fn an_act_in_flight_when_its_frontend_dies_happens_once_though_its_session_goes_on_elsewhere() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        ann.arrives("frontend-1").await;
        village.gives(&mut ann, "wood", DEATHS).await;
        village.store_is(Rates { delay: Duration::from_millis(10), ..Rates::default() });
        let mut died_before = 0;
        for death in 0..DEATHS {
            let here = ann.frontend().to_owned();
            let other = if here == "frontend-1" { "frontend-2" } else { "frontend-1" };
            let number = ann.next_number();
            let seq = ann.begins(gift(bob.player));
            village.passes(Duration::from_millis(death * 60)).await;
            village.kill(&here);
            ann.look();
            died_before += u64::from(!ann.seen.answers.contains_key(&seq));
            ann.resumes(other).await;
            let reply = ann.insists(number, &gift(bob.player)).await;
            assert_eq!(reply, Reply::Done(0), "after death {death}");
            assert_eq!(ann.asks_again(number).await, Reply::Done(0), "and again");
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
fn hundreds_of_a_killed_frontend_come_back_at_once() {
    story(meadow(), async |village| {
        let mut crowd = Vec::new();
        for index in 0..MANY {
            let mut one =
                village.person(&format!("One {index}"), 1, 2 + (index % 90) as u16, 2 + (index / 5) as u16).await;
            one.looks = false;
            one.arrives("frontend-1").await;
            crowd.push(one);
        }
        village.kill("frontend-1");
        let reads = ["frontend-2", "frontend-3"].map(|name| village.store_of(name).calls());
        let back = join_all(crowd.iter_mut().enumerate().map(async |(index, one)| {
            one.resumes(["frontend-2", "frontend-3"][index % 2]).await;
            Instant::now()
        }));
        let (back, record_gone) = tokio::join!(back, gone(village, "frontend-1", "frontend-2"));
        let last = back.into_iter().max().expect("a crowd").saturating_duration_since(record_gone);
        assert!(last < BACK, "the last came back {last:?} after the record was gone");
        for (name, before) in ["frontend-2", "frontend-3"].into_iter().zip(reads) {
            let calls = village.store_of(name).calls() - before;
            assert!(calls < 20 * MANY as u64, "{name} called the store {calls} times");
        }
        for one in &mut crowd {
            assert!(one.commands(Command::Stop).await.is_some(), "{} is answered", one.name);
        }
    });
}

#[test]
fn a_token_works_once_wherever_it_is_shown() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        ann.arrives("frontend-1").await;
        let first = ann.token();
        ann.vanishes();
        ann.resumes("frontend-1").await;
        let second = ann.token();
        assert_ne!(first, second);
        let mut thief = ann.twin();
        for frontend in ["frontend-1", "frontend-2", "frontend-3"] {
            let told = thief.shows(frontend, &first).await.expect_err("it was used");
            assert!(told.starts_with(codes::TICKET_USED), "{frontend}: {told}");
        }
        assert!(ann.act(Act::Bag {}).await.1.done(), "a stolen old token harms nobody");
        // It goes on elsewhere while its former frontend lives: that lets it go.
        ann.vanishes();
        ann.resumes("frontend-2").await;
        for frontend in ["frontend-1", "frontend-2", "frontend-3"] {
            let told = thief.shows(frontend, &second).await.expect_err("it was used");
            assert!(told.starts_with(codes::TICKET_USED), "{frontend}: {told}");
        }
        // Also when who knew the last one is dead.
        let third = ann.token();
        village.kill("frontend-2");
        ann.resumes("frontend-3").await;
        let told = thief.shows("frontend-1", &third).await.expect_err("it was used");
        assert!(told.starts_with(codes::TICKET_USED), "{told}");
    });
}

/// Nobody is let in with this token anywhere.
async fn is_used_up(thief: &mut Person, token: &str) {
    for frontend in ["frontend-1", "frontend-2", "frontend-3"] {
        let told = thief.shows(frontend, token).await.expect_err("it was used");
        assert!(told.starts_with(codes::TICKET_USED), "{frontend}: {told}");
    }
}

#[test]
fn a_welcome_that_never_comes_uses_up_no_token_and_one_that_was_heard_of_does() {
    for (there, ends) in [("frontend-1", true), ("frontend-1", false), ("frontend-2", true), ("frontend-2", false)] {
        story(meadow(), async |village| {
            let mut ann = village.person("Ann", 1, 30, 30).await;
            ann.arrives("frontend-1").await;
            let older = ann.token();
            ann.vanishes();
            ann.resumes("frontend-1").await;
            let token = ann.token();
            ann.vanishes();
            let mut thief = ann.twin();
            let mut lost = Vec::new();
            // However often, where she was or elsewhere.
            for frontend in ["frontend-1", "frontend-1", "frontend-2"] {
                lost.push(ann.is_welcomed_in_vain(frontend, &token, ends).await);
                is_used_up(&mut thief, &older).await;
            }
            ann.shows(there, &token).await.unwrap_or_else(|e| panic!("{there}, ends: {ends}: {e}"));
            assert_ne!(ann.token(), token);
            is_used_up(&mut thief, &token).await;
            is_used_up(&mut thief, &older).await;
            assert!(ann.act(Act::Bag {}).await.1.done(), "a stolen old token harms nobody");
            village.until("one client to be live", || ends || lost.iter().all(|pipe| pipe.closed())).await;
            let next = ann.token();
            ann.vanishes();
            ann.resumes("frontend-3").await;
            is_used_up(&mut thief, &next).await;
            assert!(ann.act(Act::Bag {}).await.1.done() && !ann.is_lost());
        });
    }
}

#[test]
fn a_welcome_that_never_came_uses_up_no_token_though_its_frontend_let_the_player_go_or_died() {
    for dies in [false, true] {
        story(meadow(), async |village| {
            let mut ann = village.person("Ann", 1, 30, 30).await;
            ann.arrives("frontend-1").await;
            let older = ann.token();
            ann.vanishes();
            ann.resumes("frontend-1").await;
            let token = ann.token();
            ann.vanishes();
            ann.is_welcomed_in_vain("frontend-1", &token, true).await;
            if dies {
                village.kill("frontend-1");
                village.revive("frontend-1").await;
            } else {
                village.passes(Duration::from_millis(LINGER_MS)).await;
                nobodys(village, ann.player).await;
            }
            let mut thief = ann.twin();
            let told = thief.shows("frontend-3", &older).await.expect_err("it was used");
            assert!(told.starts_with(codes::TICKET_USED), "dies: {dies}: {told}");
            ann.shows("frontend-2", &token).await.unwrap_or_else(|e| panic!("dies: {dies}: {e}"));
            is_used_up(&mut thief, &token).await;
            assert!(ann.act(Act::Bag {}).await.1.done() && !ann.is_lost());
        });
    }
}

#[test]
fn who_is_not_heard_loses_its_player_to_the_newest_connection_and_whoever_asks_for_something_was_heard() {
    for there in ["frontend-1", "frontend-2"] {
        for asks in [false, true] {
            story(meadow(), async |village| {
                let mut ann = village.person("Ann", 1, 30, 30).await;
                ann.arrives("frontend-1").await;
                let mut again = ann.twin();
                ann.vanishes();
                ann.echoes = false;
                ann.resumes("frontend-1").await;
                if asks {
                    assert!(ann.act(Act::Bag {}).await.1.done());
                    let told = again.tries_to_resume(there).await.expect_err("it was used");
                    assert!(told.starts_with(codes::TICKET_USED), "{told}");
                    assert!(!ann.is_lost());
                } else {
                    again.resumes(there).await;
                    assert!(again.act(Act::Bag {}).await.1.done());
                    let (code, _) = ann.waits_for("a farewell", |seen| seen.farewell.clone()).await;
                    assert_eq!(code, codes::REPLACED);
                }
            });
        }
    }
}

#[test]
fn of_two_who_show_one_token_at_the_same_moment_at_two_frontends_one_gets_in() {
    for dies in [false, true] {
        story(meadow(), async |village| {
            let mut ann = village.person("Ann", 1, 30, 30).await;
            ann.arrives("frontend-1").await;
            let mut twin = ann.twin();
            if dies {
                village.kill("frontend-1");
            }
            let (one, other) = tokio::join!(ann.tries_to_resume("frontend-2"), twin.tries_to_resume("frontend-3"));
            let told: Vec<&String> = [&one, &other].into_iter().filter_map(|told| told.as_ref().err()).collect();
            assert_eq!(told.len(), 1, "{one:?} {other:?}");
            assert!(told[0].starts_with(codes::TICKET_USED), "{told:?}");
            let winner = if one.is_ok() { &mut ann } else { &mut twin };
            assert!(winner.act(Act::Bag {}).await.1.done());
            assert!(!winner.is_lost());
        });
    }
}

#[test]
fn the_newest_session_wins_and_the_older_client_is_told_so_wherever_it_is() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        ann.arrives("frontend-1").await;
        let mut newer = ann.twin();
        newer.arrives("frontend-2").await;
        ann.waits_until("a farewell", |seen| seen.farewell.as_ref().is_some_and(|it| it.0 == codes::REPLACED)).await;
        for frontend in ["frontend-1", "frontend-2", "frontend-3"] {
            let told = ann.tries_to_resume(frontend).await.expect_err("a newer session has it");
            assert!(told.starts_with(codes::REPLACED), "{frontend}: {told}");
        }
        assert!(newer.act(Act::Bag {}).await.1.done(), "it goes on undisturbed");
    });
}

#[test]
fn the_players_of_a_frozen_frontend_come_back_elsewhere_and_nothing_it_does_when_it_thaws_counts() {
    for newer in [false, true] {
        story(meadow(), async |village| {
            let mut ann = village.person("Ann", 1, 30, 30).await;
            let bob = village.person("Bob", 1, 32, 30).await;
            ann.arrives("frontend-1").await;
            village.gives(&mut ann, "wood", 3).await;
            ann.waits_until("the wood", |seen| seen.carries("wood") == 3).await;
            village.freeze("frontend-1", true);
            // What it says now waits in the frozen frontend.
            let gave = ann.begins(gift(bob.player));
            let walked = ann.says(walk_east(&ann, 20));
            let mut again = ann.twin();
            match newer {
                true => drop(again.arrives("frontend-2").await),
                false => drop(again.resumes("frontend-2").await),
            }
            village.freeze("frontend-1", false);
            let code = ann.waits_for("a farewell", |seen| seen.farewell.clone()).await.0;
            assert_eq!(code, if newer { codes::REPLACED } else { codes::FENCED });
            for seq in [gave, walked] {
                let done = matches!(
                    ann.seen.answers.get(&seq),
                    Some(nodes::protocol::Outcome::Ok { .. } | nodes::protocol::Outcome::Made { .. })
                );
                assert!(!done, "answered as done: {:?}", ann.seen.answers);
            }
            assert_eq!(village.carried(ann.player, "wood"), 3);
            assert_eq!(
                village.document(&format!("player/{}", ann.player)).expect("Ann")["owner"]["node"],
                "frontend-2"
            );
            assert!(again.act(Act::Bag {}).await.1.done(), "who has the player goes on");
            village.is_whole().await;
        });
    }
}

#[test]
fn a_frontend_whose_lease_was_lost_goes_on_with_players_whom_nobody_claimed() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 32, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-1").await;
        let epoch = |village: &Village, player: u64| {
            village.document(&format!("player/{player}")).expect("one")["epoch"].clone()
        };
        let before = (epoch(village, ann.player), epoch(village, bob.player));
        village.freeze("frontend-1", true);
        gone(village, "frontend-1", "frontend-2").await;
        let mut newer = bob.twin();
        newer.arrives("frontend-2").await;
        village.freeze("frontend-1", false);
        village.is_whole().await;
        assert_eq!(ann.does(Act::Bag {}).await, 0, "the same client, the same connection");
        assert!(!ann.is_lost());
        assert_eq!(epoch(village, ann.player), before.0, "nobody has claimed her");
        bob.waits_until("a farewell", |seen| seen.farewell.as_ref().is_some_and(|it| it.0 == codes::REPLACED)).await;
        assert_ne!(epoch(village, bob.player), before.1);
        ann.walks_to(40, 30).await;
    });
}

#[test]
fn a_store_that_is_away_leaves_the_token_as_good_as_it_was() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        ann.arrives("frontend-1").await;
        village.kill("frontend-1");
        gone(village, "frontend-1", "frontend-2").await;
        village.store_of("frontend-2").unreachable(true);
        let told = ann.tries_to_resume("frontend-2").await.expect_err("the store is away");
        assert!(told.starts_with(codes::UNAVAILABLE), "{told}");
        village.store_of("frontend-2").unreachable(false);
        ann.resumes("frontend-2").await;
        assert!(ann.act(Act::Bag {}).await.1.done());
    });
}

#[test]
fn a_session_that_was_ended_never_comes_back_wherever_its_player_was() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        for (frontend, dies) in [("frontend-1", false), ("frontend-1", true)] {
            ann.arrives(frontend).await;
            if dies {
                village.kill(frontend);
                gone(village, frontend, "frontend-2").await;
            }
            let close = CloseSession { session: ann.session, player: ObjectId(ann.player) };
            let asked = NodeId::new("frontend-3").expect("a name");
            let mesh = &village.node("frontend-2").mesh;
            mesh.call(&asked, &SESSION_CLOSE, pack(&close)).await.expect("it is ended");
            let seat = village.document(&format!("player/{}", ann.player)).expect("Ann")["seat"].clone();
            assert_eq!(seat["session"], "", "dies: {dies}");
            let told = ann.tries_to_resume("frontend-2").await.expect_err("it is over");
            assert!(told.starts_with(codes::SESSION_ENDED), "{told}");
            nobodys(village, ann.player).await;
        }
    });
}

#[test]
fn who_has_been_away_for_a_while_comes_back_anywhere_and_after_ten_minutes_nowhere() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        ann.arrives("frontend-1").await;
        ann.vanishes();
        nobodys(village, ann.player).await;
        ann.resumes("frontend-2").await;
        ann.vanishes();
        nobodys(village, ann.player).await;
        village.passes(Duration::from_secs(11 * 60)).await;
        let told = ann.tries_to_resume("frontend-2").await.expect_err("too late");
        assert!(told.starts_with(codes::SESSION_ENDED), "{told}");
    });
}

#[test]
fn tokens_that_were_forged_or_cut_are_refused() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        ann.arrives("frontend-1").await;
        let token = ann.token();
        let mut twin = ann.twin();
        let changed = format!("{}{}", &token[..128], if token.ends_with('0') { '1' } else { '0' });
        for bad in ["r", "", &token[..70], &token[1..], &changed, &format!("{token}00"), &"é".repeat(64)] {
            let told = twin.shows("frontend-2", bad).await.expect_err("no token of ours");
            assert!(told.starts_with(codes::TICKET_FORGED), "{bad:?}: {told}");
        }
        assert!(ann.act(Act::Bag {}).await.1.done());
    });
}

#[test]
fn a_claim_that_was_given_up_in_doubt_leaves_nobody_without_a_keeper() {
    story(meadow(), async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        // The claim is carried out and not answered, and nothing is heard of the store afterwards.
        village.store_of("frontend-1").at(1, Fault::LoseReply);
        (2..200).for_each(|call| village.store_of("frontend-1").at(call, Fault::Refuse));
        let told = ann.tries_to_arrive("frontend-1").await.expect_err("the store does not answer");
        assert!(told.starts_with(codes::UNAVAILABLE), "{told}");
        let key = format!("player/{}", ann.player);
        let owner = village.document(&key).expect("Ann")["owner"].clone();
        assert_eq!(owner["node"], "frontend-1", "it was claimed all the same");
        village.store_of("frontend-1").clear();
        nobodys(village, ann.player).await;
        village.gives(&mut ann, "wood", 3).await;
        assert_eq!(village.carried(ann.player, "wood"), 3);
        ann.arrives("frontend-2").await;
    });
}
