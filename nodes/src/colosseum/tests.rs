//! Colosseums in a mesh in memory, on simulated time, with doubles for the nodes that own fighters.

mod district;

use cartographer::geometry::{Epoch, ObjectId};
use district::{Arena, District, Owner, until};
use estate::audit::audit;
use estate::goods::transfer::{Leg, transfer};
use estate::goods::{Goods, Place};
use estate::player::{self, Birth};
use estate::post;
use estate::store::memory::Rates;
use estate::store::{Store, WriteOptions};
use estate::transaction::OperationId;
use mesh::Role;
use tokio::time::{Duration, Instant};

use super::flows;
use super::rules::SHOWN_MS;
use crate::game::battle::Battle;
use crate::game::combat::{GRACE_MS, blow};
use crate::methods::living::Freed;
use crate::methods::moving::Seen;

const HERO: u64 = 11;
const BOAR: u64 = 1 << 52 | 3;

/// One colosseum or two, a frontend with a hero, and a zoo with a boar.
struct Scene {
    district: District,
    arenas: Vec<Arena>,
    front: Owner,
    zoo: Owner,
    hero: ObjectId,
    boar: ObjectId,
}

impl Scene {
    async fn new(arenas: u32) -> Scene {
        let district = District::new();
        let birth = Birth { hue: 0, island: 7, x: 0, y: 0 };
        for id in [HERO, HERO + 1] {
            player::create(&district.store, id, "account", &format!("player {id}"), &birth).await.expect("made");
        }
        let arenas: Vec<Arena> = (1..=arenas).map(|n| district.arena(&format!("colosseum-{n}"))).collect();
        let (front, zoo) = (district.owner("frontend-1", Role::Frontend), district.owner("zoo-1", Role::Zoo));
        let others = arenas.len() + 1;
        front.meets(others).await;
        zoo.meets(others).await;
        for arena in &arenas {
            arena.meets(others).await;
        }
        let hero = front.has(HERO, 0, |hero| hero.harm = 40);
        let boar = zoo.has(BOAR, 1, |boar| boar.harm = 1);
        Scene { district, arenas, front, zoo, hero, boar }
    }

    fn arena(&self) -> &Arena {
        &self.arenas[0]
    }

    /// The hero attacks the boar in a battle of this number.
    async fn begin(&self, battle: u64) {
        let number = self.front.open(self.arena(), battle, self.hero, &self.zoo, self.boar).await;
        assert_eq!(number, Ok(battle));
    }

    async fn has(&self, item: &str) -> u64 {
        let player = player::find(&self.district.store, HERO).await.expect("read").expect("a player").document;
        player.bag.stacks.get(&item.parse().expect("an item")).copied().unwrap_or(0)
    }

    async fn experience(&self) -> u64 {
        player::find(&self.district.store, HERO).await.expect("read").expect("a player").document.experience
    }

    async fn clean(&self, at: &Arena) {
        let report = audit(&at.estate, false, &mut |_| {}).await.expect("audited");
        assert!(report.clean(), "{:#?}", report.findings);
    }
}

#[tokio::test(start_paused = true)]
async fn a_beast_is_fought_and_defeated_and_its_loot_is_the_winners() {
    let scene = Scene::new(1).await;
    let (arena, front, zoo) = (scene.arena(), &scene.front, &scene.zoo);
    scene.begin(5).await;
    assert_eq!(front.open(arena, 5, scene.hero, zoo, scene.boar).await, Ok(5), "opening again is the same");
    assert_eq!((arena.health(5, scene.hero).await, arena.health(5, scene.boar).await), (Some(100), Some(100)));
    until("the boar is struck", async || {
        let _ = front.act(arena, 5, scene.hero, blow::STRIKE, scene.boar).await;
        zoo.fighter(scene.boar).health < 100
    })
    .await;
    assert_eq!(Some(zoo.fighter(scene.boar).health), arena.health(5, scene.boar).await, "owners are told");
    let first = front.act(arena, 5, scene.hero, blow::STRIKE, scene.boar).await;
    let second = front.act(arena, 5, scene.hero, blow::STRIKE, scene.boar).await;
    assert!(first.is_err() || second == Err("too_soon".to_owned()));
    front.fight_on(arena, 5, scene.hero, blow::STRIKE, scene.boar).await;
    until("the boar is given back", async || zoo.battle_of(scene.boar) == 0).await;
    let ends = (front.freed(scene.hero), zoo.freed(scene.boar));
    assert!(matches!(&*ends.0, [(1..=100, Freed::Won)]) && ends.1 == [(0, Freed::Defeated)], "{ends:?}");
    assert_eq!((scene.has("meat").await, scene.has("hide").await, scene.experience().await), (4, 2, 30));
    let notes: Vec<_> =
        front.kept().notes.iter().map(|note| (note.code.clone(), note.text.clone(), note.number)).collect();
    assert_eq!(notes, [("loot".to_owned(), "2 hide, 4 meat, 30 experience".to_owned(), 5)]);
    until("the battle is gone from the world", async || arena.shown(5).await.is_none()).await;
    assert_eq!(front.resume(arena, 5).await, Err("missing".to_owned()));
    let counted = &arena.colosseum.flows.shared.exchanges;
    assert_eq!(counted.with_label_values(&["blow", "falls"]).get(), 1);

    // Its number is used up: whoever asks under it late gets no second battle, and the beast stays free.
    let boar = zoo.has(BOAR, 1, |_| {});
    assert_eq!(front.open(arena, 5, scene.hero, zoo, boar).await, Err("missing".to_owned()));
    until("the beast is given back", async || zoo.battle_of(boar) == 0).await;
    scene.clean(arena).await;
}

#[tokio::test(start_paused = true)]
async fn fighters_of_several_nodes_come_go_and_flee_and_nobody_stays_behind() {
    let scene = Scene::new(1).await;
    let (arena, front, zoo) = (scene.arena(), &scene.front, &scene.zoo);
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (0, 10_000));
    let other = scene.district.owner("frontend-2", Role::Frontend);
    other.meets(3).await;
    let friend = other.has(HERO + 1, 0, |_| {});
    scene.begin(6).await;
    assert_eq!(other.join(arena, 99, friend).await, Err("missing".to_owned()));
    other.join(arena, 6, friend).await.expect("joined");
    other.join(arena, 6, friend).await.expect("the same again");
    assert_eq!(arena.shown(6).await.expect("a battle").1.members.len(), 3);
    assert_eq!(
        other.act(arena, 6, scene.hero, blow::STRIKE, scene.boar).await,
        Err("forbidden".to_owned()),
        "a node speaks for its own"
    );
    front.leave(arena, 6, scene.hero).await.expect("left");
    until("the hero is out", async || front.freed(scene.hero) == [(100, Freed::Left)]).await;
    assert_eq!(front.act(arena, 6, scene.hero, blow::STRIKE, scene.boar).await, Err("missing".to_owned()));
    other.fight_on(arena, 6, friend, blow::FLEE, friend).await;
    assert!(matches!(&*other.freed(friend), [(_, Freed::Left)]));
    until("the boar is given back", async || matches!(&*zoo.freed(scene.boar), [(_, Freed::Won)])).await;
    until("the battle is gone", async || arena.shown(6).await.is_none()).await;
    assert_eq!(scene.has("meat").await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_begin_is_refused_and_leaves_nobody_locked_in() {
    let scene = Scene::new(1).await;
    let (arena, front, zoo) = (scene.arena(), &scene.front, &scene.zoo);
    let refused = async |opener, of: &Owner, target, code: &str| {
        assert_eq!(front.open(arena, 7, opener, of, target).await, Err(code.to_owned()));
    };
    let friend = front.has(HERO + 1, 0, |_| {});
    let weak = front.has(HERO + 2, 0, |weak| weak.health = 0);
    let liar = front.has(HERO + 3, 0, |liar| liar.node = zoo.node.clone());
    refused(scene.hero, zoo, ObjectId(404), "missing").await;
    refused(scene.hero, front, friend, "forbidden").await;
    refused(weak, zoo, scene.boar, "defeated").await;
    refused(liar, zoo, scene.boar, "forbidden").await;
    // The answer of the boar's owner is lost, and lost again: the boar is asked for, and given back.
    zoo.kept().lose_takes = 3;
    refused(scene.hero, zoo, scene.boar, "unavailable").await;
    until("all are given back", async || zoo.battle_of(scene.boar) == 0 && front.battle_of(friend) == 0).await;
    // The store is away.
    arena.faults.unreachable(true);
    refused(scene.hero, zoo, scene.boar, "unavailable").await;
    arena.faults.unreachable(false);
    until("the boar is given back", async || zoo.battle_of(scene.boar) == 0).await;
    assert_eq!(zoo.fighter(scene.boar).health, 100);
    scene.begin(7).await;
}

#[tokio::test(start_paused = true)]
async fn two_who_attack_the_same_beast_are_in_one_battle() {
    let scene = Scene::new(2).await;
    let (front, zoo) = (&scene.front, &scene.zoo);
    let (here, there) = (&scene.arenas[0], &scene.arenas[1]);
    let other = scene.district.owner("frontend-2", Role::Frontend);
    other.meets(4).await;
    let (friend, third) = (other.has(HERO + 1, 0, |_| {}), other.has(HERO + 2, 0, |_| {}));
    let both = tokio::join!(
        front.open(here, 21, scene.hero, zoo, scene.boar),
        other.open(there, 22, friend, zoo, scene.boar),
    );
    let number = zoo.battle_of(scene.boar);
    assert_eq!(both, (Ok(number), Ok(number)), "both are told the one battle");
    let (arena, late, who) = if number == 21 { (here, &other, friend) } else { (there, front, scene.hero) };
    let members = arena.shown(number).await.expect("a battle").1.members;
    assert_eq!(members.len(), 3, "both are in it, wherever they asked: {members:?}");
    let act = late.act(arena, number, who, blow::GUARD, who).await;
    assert_eq!(act, Ok(()), "its own node speaks for it");
    assert_eq!(other.open(arena, 23, third, zoo, scene.boar).await, Ok(number));
    assert_eq!(arena.shown(number).await.expect("a battle").1.members.len(), 4);
    assert!(here.shown(23).await.is_none() && there.shown(23).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_battle_goes_on_elsewhere_with_the_wounds_that_it_had() {
    let scene = Scene::new(2).await;
    let (front, zoo) = (&scene.front, &scene.zoo);
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (1, 1_000));
    let (dies, goes_on) = (&scene.arenas[0], &scene.arenas[1]);
    scene.begin(8).await;
    until("the boar is wounded", async || {
        let _ = front.act(dies, 8, scene.hero, blow::HEAVY, scene.boar).await;
        zoo.fighter(scene.boar).health < 95
    })
    .await;
    let (epoch, before) = dies.shown(8).await.expect("it is here");
    assert_eq!(front.resume(goes_on, 8).await, Err("elsewhere".to_owned()), "its colosseum lives");
    let wounds = move |shown: &Battle| shown.members.clone();
    // What was shown is saved at once; then the node dies.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let saved = dies.shown(8).await.map_or(before, |(_, shown)| shown);
    dies.tasks.stop();
    until("it goes on", async || front.resume(goes_on, 8).await.is_ok()).await;
    front.resume(goes_on, 8).await.expect("it is here already");
    let (later, shown) = goes_on.shown(8).await.expect("it is here");
    assert_eq!(later, epoch + 1, "watchers take it for the newer");
    let last = saved.exchanges.last().expect("exchanges").number;
    let new = shown.exchanges.iter().filter(|exchange| exchange.number > last).count();
    assert!(new > 0 || wounds(&shown) == wounds(&saved), "{saved:?}, then {shown:?}");
    assert!(shown.exchanges.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    assert_eq!(front.resume(goes_on, 9).await, Err("missing".to_owned()), "there never was such a battle");
    zoo.leave(goes_on, 8, scene.boar).await.expect("left");
    until("all are given back", async || front.battle_of(scene.hero) == 0 && zoo.battle_of(scene.boar) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_colosseum_that_leaves_has_its_battles_go_on_elsewhere_at_once() {
    let scene = Scene::new(2).await;
    let (front, zoo) = (&scene.front, &scene.zoo);
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (1, 1_000));
    let (leaves, goes_on) = (&scene.arenas[0], &scene.arenas[1]);
    scene.begin(8).await;
    until("the boar is wounded", async || {
        let _ = front.act(leaves, 8, scene.hero, blow::HEAVY, scene.boar).await;
        zoo.fighter(scene.boar).health < 95
    })
    .await;
    let wounds = |shown: Option<(u64, Battle)>| shown.expect("a battle").1.members;
    let (epoch, before) = (leaves.shown(8).await.expect("here").0, wounds(leaves.shown(8).await));
    let began = Instant::now();
    leaves.colosseum.leave().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // It is there without anybody having asked for it, and its members know.
    assert_eq!(goes_on.shown(8).await.expect("it goes on").0, epoch + 1);
    assert_eq!(wounds(goes_on.shown(8).await), before);
    assert_eq!((front.kept().told_by[&goes_on.node], zoo.kept().told_by[&goes_on.node]), (1, 1));
    assert!(leaves.shown(8).await.is_some(), "it is to be seen here until it is seen there");
    let late = front.act(leaves, 8, scene.hero, blow::STRIKE, scene.boar).await;
    assert_eq!(late, Err("elsewhere".to_owned()));
    assert_eq!(front.resume(leaves, 8).await, Err("elsewhere".to_owned()));
    assert_eq!(front.open(leaves, 9, scene.hero, zoo, scene.boar).await, Err("draining".to_owned()));
    zoo.leave(goes_on, 8, scene.boar).await.expect("left");
    until("all are given back", async || front.battle_of(scene.hero) == 0 && zoo.battle_of(scene.boar) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_over_is_to_be_seen_here_until_it_is_seen_there_and_then_no_more() {
    for silent in [false, true] {
        let scene = Scene::new(2).await;
        let (leaves, goes_on) = (&scene.arenas[0], &scene.arenas[1]);
        scene.begin(8).await;
        leaves.colosseum.leave().await;
        goes_on.tasks.freeze(silent);
        let handed = Instant::now();
        assert!(leaves.shown(8).await.is_some(), "nobody shows it yet");
        // The node lives on: it may have other battles that nobody takes.
        until("it is here no more", async || leaves.shown(8).await.is_none()).await;
        let shown_ms = handed.elapsed().as_millis() as u64;
        let bound = if silent { SHOWN_MS..SHOWN_MS + 200 } else { 0..SHOWN_MS / 2 };
        assert!(bound.contains(&shown_ms), "{shown_ms} ms, silent: {silent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_colosseum_that_slept_too_long_drops_what_another_has_taken_over() {
    let scene = Scene::new(2).await;
    let (front, zoo) = (&scene.front, &scene.zoo);
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (1, 1_000));
    let (sleeps, goes_on) = (&scene.arenas[0], &scene.arenas[1]);
    scene.begin(8).await;
    until("the boar strikes", async || sleeps.exchanges() > 0).await;
    sleeps.tasks.freeze(true);
    until("it goes on", async || front.resume(goes_on, 8).await.is_ok()).await;
    let (before, told) = (sleeps.exchanges(), front.kept().told_by[&sleeps.node]);
    sleeps.tasks.freeze(false);
    until("it is dropped", async || sleeps.shown(8).await.is_none()).await;
    assert_eq!((sleeps.exchanges(), front.kept().told_by[&sleeps.node]), (before, told), "nothing more happened there");
    assert_eq!(front.act(sleeps, 8, scene.hero, blow::GUARD, scene.hero).await, Err("busy".to_owned()));
    assert_eq!(goes_on.shown(8).await.expect("it goes on").1.members.len(), 2);
    assert_eq!((front.battle_of(scene.hero), zoo.battle_of(scene.boar)), (8, 8), "nobody was given back");
    assert_eq!((front.freed(scene.hero).len(), zoo.freed(scene.boar).len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_before_the_lease_was_lost_and_answered_after_it_was_back_is_not_begun() {
    let scene = Scene::new(3).await;
    let [dies, slow, goes_on] = &scene.arenas[..] else { panic!("three") };
    scene.begin(8).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    dies.tasks.stop();
    until("it is gone", async || slow.meets_only(3)).await;
    slow.faults.random(1, Rates { delay: Duration::from_secs(60), ..Rates::default() });
    let _ = scene.front.resume(slow, 8).await;
    until("it is claimed", async || {
        let post = post::find(&scene.district.store, &flows::key(8)).await.expect("read").expect("a post");
        post.owner.is_some_and(|owner| owner.node == slow.node.as_str())
    })
    .await;
    slow.faults.clear();
    slow.tasks.freeze(true);
    until("it goes on elsewhere", async || scene.front.resume(goes_on, 8).await.is_ok()).await;
    slow.tasks.freeze(false);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!scene.front.kept().told_by.contains_key(&slow.node), "it speaks of a battle that is another's");
    assert_eq!((slow.shown(8).await.is_none(), goes_on.shown(8).await.is_some()), (true, true));
}

#[tokio::test(start_paused = true)]
async fn a_colosseum_that_slept_and_kept_its_battle_goes_on_with_it() {
    let scene = Scene::new(1).await;
    let (front, zoo, arena) = (&scene.front, &scene.zoo, scene.arena());
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (1, 1_000));
    scene.begin(8).await;
    arena.tasks.freeze(true);
    tokio::time::sleep(Duration::from_secs(30)).await;
    arena.tasks.freeze(false);
    let before = arena.exchanges();
    until("it fights on", async || {
        let _ = front.act(arena, 8, scene.hero, blow::STRIKE, scene.boar).await;
        arena.exchanges() > before + 3
    })
    .await;
    assert_eq!(arena.shown(8).await.expect("it is here").1.members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_for_a_lost_battle_there_is_one_room() {
    // It dies at several moments between two looks at the directory.
    for moment_ms in [0, 30, 90, 150] {
        let scene = Scene::new(3).await;
        let (front, zoo) = (&scene.front, &scene.zoo);
        zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (1, 1_000));
        let [dies, one, two] = &scene.arenas[..] else { panic!("three") };
        scene.begin(8).await;
        tokio::time::sleep(Duration::from_millis(200 + moment_ms)).await;
        dies.tasks.stop();
        until("somebody has it", async || {
            let asked =
                tokio::join!(front.resume(one, 8), zoo.resume(one, 8), front.resume(two, 8), zoo.resume(two, 8));
            let known = ["elsewhere".to_owned(), "busy".to_owned()];
            let answers = [asked.0, asked.1, asked.2, asked.3];
            assert!(answers.iter().all(|it| it.as_ref().err().is_none_or(|code| known.contains(code))), "{answers:?}");
            let rooms = [one.shown(8).await.is_some(), two.shown(8).await.is_some()];
            assert_ne!(rooms, [true; 2], "two rooms");
            // Who asked at the same place got the same answer.
            assert_eq!((answers[0].is_ok(), answers[2].is_ok()), (answers[1].is_ok(), answers[3].is_ok()));
            rooms != [false; 2] && answers.iter().any(Result::is_ok)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wound_that_was_shown_is_there_although_the_room_died_before_it_could_be_saved() {
    let scene = Scene::new(2).await;
    let (front, zoo) = (&scene.front, &scene.zoo);
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (0, 900));
    let (dies, goes_on) = (&scene.arenas[0], &scene.arenas[1]);
    scene.begin(8).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let saved = dies.seen(8).await;
    dies.faults.unreachable(true);
    let before = dies.exchanges();
    until("some blows are struck", async || {
        let _ = front.act(dies, 8, scene.hero, blow::HEAVY, scene.boar).await;
        dies.exchanges() >= before + 6
    })
    .await;
    let seen = dies.seen(8).await;
    let health = dies.health(8, scene.boar).await.expect("a member");
    assert!(health < 100, "and it is wounded");
    // An older sight counts as little as one under another epoch.
    let wrong = Seen { epoch: Epoch(seen.epoch.0 + 7), version: 1_000, ..saved.clone() };
    front.kept().sees = vec![Seen { version: 2, ..saved }, wrong];
    zoo.kept().sees = vec![seen.clone()];
    dies.tasks.stop();
    until("it goes on", async || front.resume(goes_on, 8).await.is_ok()).await;
    let (_, shown) = goes_on.shown(8).await.expect("it is here");
    assert!(goes_on.health(8, scene.boar).await.expect("a member") <= health, "no wound is undone: {shown:?}");
    let last = Battle::of(&seen.view.detail).expect("a battle").exchanges.last().expect("exchanges").number;
    assert!(shown.exchanges.iter().any(|exchange| exchange.number == last), "and none is told anew");
}

#[tokio::test(start_paused = true)]
async fn a_fighter_that_moves_keeps_its_wounds_and_its_former_owner_has_no_say() {
    let scene = Scene::new(1).await;
    let (front, zoo, arena) = (&scene.front, &scene.zoo, scene.arena());
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (9, 10_000));
    let other = scene.district.owner("frontend-2", Role::Frontend);
    other.meets(3).await;
    scene.begin(8).await;
    until("the hero is wounded", async || arena.health(8, scene.hero).await.is_some_and(|health| health < 90)).await;
    // What its document says may be older than its wounds.
    let hero = other.has(HERO, 0, |_| {});
    other.join(arena, 8, hero).await.expect("it is there now");
    until("its new owner is told", async || other.fighter(hero).health < 90).await;
    let no = Err("forbidden".to_owned());
    assert_eq!(front.act(arena, 8, hero, blow::STRIKE, scene.boar).await, no);
    assert_eq!(front.leave(arena, 8, hero).await, no);
    assert_eq!(other.act(arena, 8, hero, blow::GUARD, hero).await, Ok(()));
    zoo.leave(arena, 8, scene.boar).await.expect("left");
    until("it is given back to its new owner", async || matches!(&*other.freed(hero), [(..90, Freed::Won)])).await;
    assert_eq!((front.freed(hero).len(), other.battle_of(hero)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_falls_while_its_owner_hands_it_over_or_dies_is_given_to_whoever_has_it_then() {
    for dies in [false, true] {
        let scene = Scene::new(1).await;
        let (front, zoo, arena) = (&scene.front, &scene.zoo, scene.arena());
        scene.begin(8).await;
        let next = scene.district.owner("zoo-2", Role::Zoo);
        next.meets(3).await;
        if dies {
            zoo.kept().mute = true;
        } else {
            zoo.kept().moved_on = true;
        }
        front.fight_on(arena, 8, scene.hero, blow::STRIKE, scene.boar).await;
        until("its owner is asked to take it back", async || zoo.kept().asked_back > 0).await;
        if dies {
            zoo.tasks.stop();
            until("it is gone", async || arena.meets_only(2)).await;
        }
        let boar = next.has(BOAR, 1, |_| {});
        next.join(arena, 8, boar).await.expect("it speaks for it now");
        until("it is given back", async || next.freed(boar) == [(0, Freed::Defeated)]).await;
        until("the battle is gone", async || arena.shown(8).await.is_none()).await;
        assert_eq!((scene.has("meat").await, zoo.freed(scene.boar).len()), (4, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fighter_whom_nobody_takes_over_leaves_and_the_battle_ends() {
    let scene = Scene::new(1).await;
    let (front, zoo, arena) = (&scene.front, &scene.zoo, scene.arena());
    zoo.has(BOAR, 1, |boar| (boar.harm, boar.toughness) = (1, 10_000));
    scene.begin(8).await;
    zoo.tasks.stop();
    until("its owner is gone", async || arena.meets_only(1)).await;
    let before = arena.exchanges();
    let gone = Instant::now();
    assert_eq!(front.act(arena, 8, scene.hero, blow::STRIKE, scene.boar).await, Err("busy".to_owned()));
    until("the hero has won", async || matches!(&*front.freed(scene.hero), [(_, Freed::Won)])).await;
    let waited = gone.elapsed().as_millis() as u64;
    assert!((GRACE_MS - 1_000..GRACE_MS + 2_000).contains(&waited), "{waited} ms");
    assert_eq!(arena.exchanges(), before, "nobody struck whom nobody answers for");
    until("the battle is gone", async || arena.shown(8).await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn loot_is_owed_for_as_long_as_the_store_is_away() {
    let scene = Scene::new(2).await;
    let (front, zoo, arena) = (&scene.front, &scene.zoo, scene.arena());
    scene.begin(8).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    arena.faults.unreachable(true);
    // The fight goes on: wounds are volatile. Who has won is free, what has fallen waits for what is owed for it.
    front.fight_on(arena, 8, scene.hero, blow::STRIKE, scene.boar).await;
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    assert_eq!((scene.has("meat").await, zoo.battle_of(scene.boar)), (0, 8));
    arena.faults.unreachable(false);
    until("the loot is paid", async || scene.has("meat").await == 4).await;
    until("the boar is given back", async || zoo.freed(scene.boar) == [(0, Freed::Defeated)]).await;
    // And what is owed goes with the battle to another colosseum.
    let boar = zoo.has(BOAR, 1, |boar| boar.harm = 1);
    assert_eq!(front.open(arena, 10, scene.hero, zoo, boar).await, Ok(10));
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.arenas[1].faults.unreachable(true);
    arena.faults.random(3, Rates { refuse: 1_000, ..Rates::default() });
    front.fight_on(arena, 10, scene.hero, blow::STRIKE, boar).await;
    arena.faults.clear();
    scene.arenas[1].faults.unreachable(false);
    arena.colosseum.leave().await;
    until("the boar is given back", async || zoo.freed(boar).last() == Some(&(0, Freed::Defeated))).await;
    assert_eq!(scene.has("meat").await, 8, "once for each boar");
    scene.clean(arena).await;
}

/// Has the document of a battle forget that the boar's loot was paid, as though the room had died before it could save that.
async fn forget_payment(scene: &Scene, battle: u64) {
    let store = &scene.district.store;
    let stored = store.get(&flows::key(battle)).await.expect("read").expect("a document");
    let mut document: serde_json::Value = serde_json::from_slice(&stored.value).expect("JSON");
    let spoils = &mut document["state"]["room"]["spoils"];
    assert_eq!(*spoils, serde_json::json!([]), "it is paid");
    *spoils = serde_json::json!([{
        "animal": BOAR, "player": HERO, "node": "frontend-1", "goods": { "meat": 4, "hide": 2 }, "experience": 30,
    }]);
    let value = serde_json::to_vec(&document).expect("JSON").into();
    store.replace(&flows::key(battle), value, stored.version, WriteOptions::default()).await.expect("written");
}

/// Has the boar fall while nobody takes it back, so that its loot is paid and it is still to be freed; then the room dies,
/// even before it could save that it has paid, and goes on elsewhere.
async fn loot_once(prepare: impl AsyncFnOnce(&Scene), faults: Option<u64>) -> Scene {
    let scene = Scene::new(2).await;
    let (front, zoo) = (&scene.front, &scene.zoo);
    prepare(&scene).await;
    let (dies, goes_on) = (&scene.arenas[0], &scene.arenas[1]);
    zoo.kept().mute = true;
    scene.begin(9).await;
    if let Some(seed) = faults {
        let rates = Rates { refuse: 60, lose_request: 60, lose_reply: 150, storm: 60, ..Rates::default() };
        dies.faults.random(seed, rates);
    }
    front.fight_on(dies, 9, scene.hero, blow::STRIKE, scene.boar).await;
    until("the zoo is asked to take the boar back", async || zoo.kept().asked_back > 0).await;
    assert_eq!(zoo.battle_of(scene.boar), 9, "it does not");
    dies.tasks.stop();
    forget_payment(&scene, 9).await;
    until("it goes on", async || zoo.resume(goes_on, 9).await.is_ok()).await;
    zoo.kept().mute = false;
    until("the boar is given back", async || zoo.freed(scene.boar) == [(0, Freed::Defeated)]).await;
    until("the battle is gone", async || goes_on.shown(9).await.is_none()).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn loot_is_paid_once_although_the_room_dies_between_loot_and_freeing() {
    for faults in [None, Some(1), Some(2), Some(3)] {
        let scene = loot_once(async |_| {}, faults).await;
        let got = (scene.has("meat").await, scene.has("hide").await, scene.experience().await);
        assert_eq!(got, (4, 2, 30), "{faults:?}");
        // What a driver that died has committed may lie about until somebody meets it: that is finished first.
        audit(&scene.arenas[1].estate, true, &mut |_| {}).await.expect("audited");
        scene.clean(&scene.arenas[1]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_a_full_bag_is_promised_the_loot_and_learns_all_the_same() {
    let stone = |count| Goods::stack("stone".parse().expect("an item"), count);
    let full = async |scene: &Scene| {
        let leg = Leg { from: Place::Mint, to: Place::Player(HERO), goods: stone(64_000) };
        transfer(&scene.arena().estate, OperationId(1), &[leg]).await.expect("a full bag");
    };
    let scene = loot_once(full, None).await;
    assert_eq!((scene.has("meat").await, scene.experience().await), (0, 30));
    // Room is made, and the promise is kept: once.
    let estate = &scene.arenas[1].estate;
    let leg = Leg { from: Place::Player(HERO), to: Place::Mint, goods: stone(64_000) };
    transfer(estate, OperationId(2), &[leg]).await.expect("an empty bag");
    estate::goods::promise::keep(estate, HERO).await.expect("kept");
    assert_eq!((scene.has("meat").await, scene.has("hide").await, scene.experience().await), (4, 2, 30));
    scene.clean(&scene.arenas[1]).await;
}
