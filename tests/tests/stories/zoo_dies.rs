//! Zoos die, leave and freeze while players look at their animals, and fight with them.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh::Role;
use nodes::game::{kind, pose};
use nodes::protocol::Act;
use tests::village::{Land, Person, Plan, Reply, Seen, Thing, Village, story};
use tokio::time::{Instant, sleep};

/// How long animals pause, at most, when their zoo dies: the lease and two seconds.
const PAUSE: Duration = Duration::from_secs(7);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Rounds of blows after which the beast must have fallen, or something is wrong.
const BLOWS: u32 = 200;

/// A meadow with a herd.
fn herd() -> Plan {
    Plan::new([Land::meadow(1, "green", 96, 96).habitat("goat", 5, 40, 40, 12, 12)]).with(Role::Zoo, 3)
}

/// Ann sees the whole herd; which animals these are, and whose.
async fn sees_the_herd(village: &mut Village) -> (Person, BTreeSet<u64>, String) {
    let mut ann = village.person("Ann", 1, 46, 58).await;
    ann.arrives("frontend-1").await;
    let goats = ann
        .waits_for("the herd", |seen| {
            let goats = seen.named(kind::ANIMAL, "goat");
            (goats.len() == 5).then_some(goats)
        })
        .await;
    let owner = village.name_of(goats[0].publisher).expect("a node that runs").to_owned();
    (ann, goats.into_iter().map(|goat| goat.id).collect(), owner)
}

fn herd_of(seen: &Seen) -> BTreeSet<u64> {
    seen.named(kind::ANIMAL, "goat").into_iter().map(|goat| goat.id).collect()
}

/// The tiles of all goats.
fn places(seen: &Seen) -> Vec<(u64, (i32, i32))> {
    seen.named(kind::ANIMAL, "goat").into_iter().map(|goat| (goat.id, goat.tile)).collect()
}

#[test]
fn a_herd_whose_zoo_dies_pauses_and_goes_on_from_where_it_was_seen_last() {
    story(herd(), async |village| {
        let (mut ann, herd, owner) = sees_the_herd(village).await;
        // Time enough to be elsewhere than at the beginning, and not saved.
        village.passes(Duration::from_secs(8)).await;
        ann.look();
        village.kill(&owner);
        let (died, before) = (Instant::now(), places(&ann.seen));
        loop {
            ann.look();
            let goats = ann.seen.named(kind::ANIMAL, "goat");
            assert_eq!(herd_of(&ann.seen), herd, "after {:?}: {}", died.elapsed(), ann.seen);
            // A walk that was under way may have ended; nobody jumps.
            for (goat, (_, tile)) in goats.iter().zip(&before) {
                let far = (goat.tile.0 - tile.0).abs().max((goat.tile.1 - tile.1).abs());
                assert!(far <= 24, "goat {} jumped {far} tiles", goat.id);
            }
            let heir = |goat: &Thing| village.name_of(goat.publisher).is_some_and(|name| name.starts_with("zoo"));
            if goats.iter().all(heir) {
                break;
            }
            assert!(died.elapsed() < PAUSE, "nobody takes the herd over: {}", ann.seen);
            sleep(LOOK).await;
        }
        let then = places(&ann.seen);
        ann.waits_until("the herd going on", |seen| places(seen) != then).await;
        village.revive(&owner).await;
        village.is_whole().await;
    });
}

#[test]
fn a_herd_whose_zoo_is_drained_goes_on_elsewhere_and_is_never_out_of_sight() {
    story(herd(), async |village| {
        let (mut ann, herd, owner) = sees_the_herd(village).await;
        let publisher = ann.seen.named(kind::ANIMAL, "goat")[0].publisher;
        let leaving = village.takes_out(&owner);
        let began = Instant::now();
        let watch = async {
            let mut moved = None;
            while moved.is_none() || began.elapsed() < Duration::from_secs(15) {
                ann.look();
                assert_eq!(herd_of(&ann.seen), herd, "after {:?}: {}", began.elapsed(), ann.seen);
                let goats = ann.seen.named(kind::ANIMAL, "goat");
                if moved.is_none() && goats.iter().all(|goat| goat.publisher != publisher) {
                    moved = Some(began.elapsed());
                }
                assert!(began.elapsed() < Duration::from_secs(30), "the herd does not move: {}", ann.seen);
                sleep(LOOK).await;
            }
            moved
        };
        let ((), moved) = tokio::join!(leaving.leave(), watch);
        assert!(moved.is_some_and(|moved| moved < Duration::from_secs(1)), "no lease is waited for: {moved:?}");
        village.revive(&owner).await;
        village.is_whole().await;
    });
}

#[test]
fn a_frozen_zoo_that_was_replaced_and_thaws_disturbs_nobody() {
    story(herd(), async |village| {
        let (mut ann, herd, owner) = sees_the_herd(village).await;
        let publisher = ann.seen.named(kind::ANIMAL, "goat")[0].publisher;
        for round in 0..3 {
            village.freeze(&owner, true);
            ann.waits_until("another zoo's herd", |seen| {
                let goats = seen.named(kind::ANIMAL, "goat");
                goats.len() == 5 && goats.iter().all(|goat| goat.publisher != publisher)
            })
            .await;
            village.passes(Duration::from_secs(2)).await;
            village.freeze(&owner, false);
            let thawed = Instant::now();
            while thawed.elapsed() < Duration::from_secs(6) {
                ann.look();
                let goats = ann.seen.named(kind::ANIMAL, "goat");
                assert_eq!(herd_of(&ann.seen), herd, "round {round}: {}", ann.seen);
                assert!(
                    goats.iter().all(|goat| goat.publisher != publisher),
                    "round {round}: it acts for what it lost"
                );
                sleep(LOOK).await;
            }
            village.is_whole().await;
            let reals = village.looks_at(&owner, |world| world.stats().reals).await;
            assert_eq!(reals, 0, "round {round}: it has let go");
            // The herd comes back to it when the others leave it.
            let others: Vec<String> = village.running(Role::Zoo).into_iter().filter(|name| *name != owner).collect();
            for other in &others {
                village.leaves(other).await;
            }
            let mine = |seen: &Seen| seen.named(kind::ANIMAL, "goat").iter().all(|goat| goat.publisher == publisher);
            ann.waits_until("the herd back at its first zoo", |seen| mine(seen) && herd_of(seen) == herd).await;
            for other in &others {
                village.revive(other).await;
            }
            village.is_whole().await;
        }
    });
}

/// A meadow with one boar that is not afraid, and what it leaves behind.
fn hunt(toughness: u16) -> Plan {
    let land = Land::meadow(1, "green", 64, 64).habitat("wild_boar", 1, 30, 30, 4, 4);
    Plan::new([land]).with(Role::Zoo, 3).changing(|content| {
        let boar = content.species.get_mut("wild_boar").expect("there are boars");
        (boar.toughness, boar.harm, boar.fear) = (toughness, 2, 0);
        boar.respawn_s = 100_000;
        boar.loot = [("meat".to_owned(), 5)].into();
    })
}

/// Attacks an animal that may be walking about: goes after it until it is in reach.
async fn attack(person: &mut Person, animal: u64) -> u64 {
    for _ in 0..100 {
        let at = person.waits_for("the animal", |seen| seen.thing(animal)).await.tile;
        if let (_, Reply::Done(battle)) = person.act(Act::Attack { target: animal }).await {
            return battle;
        }
        let (x, y) = person.seen.tile();
        if (at.0 - x).abs().max((at.1 - y).abs()) > 1 {
            person.walks_to(at.0 as u16, at.1 as u16).await;
        }
        sleep(Duration::from_millis(300)).await;
    }
    panic!("{} cannot attack: {}", person.name, person.seen);
}

/// Strikes until `enough`, whatever becomes of the blows.
async fn strikes(person: &mut Person, boar: u64, enough: impl Fn(&Seen) -> bool) {
    for _ in 0..BLOWS {
        let (_, reply) = person.act(Act::Blow { blow: 0, target: boar }).await;
        assert_ne!(reply, Reply::Lost);
        sleep(Duration::from_millis(400)).await;
        person.look();
        if enough(&person.seen) {
            return;
        }
    }
    panic!("{} strikes and strikes: {}", person.name, person.seen);
}

/// Ann has begun to slay a boar; the battle, the boar, and whose it is.
async fn slays(village: &mut Village) -> (Person, u64, Thing, String) {
    let mut ann = village.person("Ann", 1, 29, 31).await;
    ann.arrives("frontend-1").await;
    let boar = ann.sees(kind::ANIMAL, "wild_boar", |_| true).await;
    let owner = village.name_of(boar.publisher).expect("a node that runs").to_owned();
    let battle = attack(&mut ann, boar.id).await;
    strikes(&mut ann, boar.id, |seen| seen.thing(boar.id).is_some_and(|it| it.view.health < 80)).await;
    (ann, battle, boar, owner)
}

/// The boar is slain in the same battle, once, and stays dead.
async fn is_slain_once(village: &mut Village, ann: &mut Person, battle: u64, boar: u64) {
    strikes(ann, boar, |seen| seen.thing(battle).is_none()).await;
    ann.waits_until("the boar's end", |seen| seen.thing(boar).is_none()).await;
    let player = ann.player;
    village.until("the loot", || village.carried(player, "meat") == 5).await;
    village.passes(Duration::from_secs(20)).await;
    ann.look();
    assert!(ann.seen.thing(boar).is_none(), "the dead are dead: {}", ann.seen);
    assert_eq!(village.holds("meat"), 5, "it was slain once");
}

#[test]
fn a_boar_whose_zoo_dies_stays_in_its_battle_with_its_wounds_and_is_slain_once() {
    story(hunt(300), async |village| {
        let (mut ann, battle, boar, owner) = slays(village).await;
        let wounds = ann.seen.thing(boar.id).expect("it is there").view.health;
        village.kill(&owner);
        let elsewhere = |it: &Thing| it.id == boar.id && it.publisher != boar.publisher;
        let taken = ann.sees(kind::ANIMAL, "wild_boar", elsewhere).await;
        assert!(taken.view.health <= wounds, "it has its wounds: {} and {wounds}", taken.view.health);
        assert_eq!((taken.view.pose, taken.view.tie), (pose::FIGHTS, battle), "it is in its battle");
        is_slain_once(village, &mut ann, battle, boar.id).await;
        village.revive(&owner).await;
        village.is_whole().await;
    });
}

#[test]
fn a_boar_whose_zoo_is_drained_stays_in_its_battle_and_is_slain_once() {
    story(hunt(300), async |village| {
        let (mut ann, battle, boar, owner) = slays(village).await;
        village.leaves(&owner).await;
        let elsewhere = |it: &Thing| it.id == boar.id && it.publisher != boar.publisher;
        let taken = ann.sees(kind::ANIMAL, "wild_boar", elsewhere).await;
        assert_eq!((taken.view.pose, taken.view.tie), (pose::FIGHTS, battle), "it is in its battle");
        is_slain_once(village, &mut ann, battle, boar.id).await;
        village.revive(&owner).await;
        village.is_whole().await;
    });
}

#[test]
fn a_boar_that_was_slain_stays_dead_though_its_zoo_dies_at_once() {
    story(hunt(60), async |village| {
        let (mut ann, battle, boar, owner) = slays(village).await;
        let player = ann.player;
        // As soon as anybody can know that it has fallen.
        strikes(&mut ann, boar.id, |seen| seen.thing(boar.id).is_none_or(|it| it.view.health == 0)).await;
        village.kill(&owner);
        village.until("the loot", || village.carried(player, "meat") == 5).await;
        ann.waits_until("the battle's end", |seen| seen.thing(battle).is_none()).await;
        ann.waits_until("the boar's end", |seen| seen.thing(boar.id).is_none()).await;
        village.passes(Duration::from_secs(20)).await;
        ann.look();
        assert!(ann.seen.thing(boar.id).is_none(), "the dead are dead: {}", ann.seen);
        assert_eq!(village.holds("meat"), 5);
        village.revive(&owner).await;
        village.is_whole().await;
    });
}
