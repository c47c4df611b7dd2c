//! Two players on different frontends fight a beast that a third node owns.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh::Role;
use nodes::game::battle::Exchange;
use nodes::game::kind;
use nodes::protocol::Act;
use tests::village::seen::Packet;
use tests::village::{Land, Person, Plan, Reply, Seen, Thing, Village, story};

/// Rounds of blows after which the beast must have fallen, or something is wrong.
const BLOWS: u32 = 200;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(400);

/// A meadow with one boar that is not afraid, and what it leaves behind.
fn plan(toughness: u16) -> Plan {
    let land = Land::meadow(1, "green", 64, 64).habitat("wild_boar", 1, 30, 30, 4, 4);
    Plan::new([land]).with(Role::Colosseum, 2).changing(|content| {
        let boar = content.species.get_mut("wild_boar").expect("there are boars");
        (boar.toughness, boar.harm, boar.fear) = (toughness, 2, 0);
        boar.respawn_s = 100_000;
        boar.loot = [("meat".to_owned(), 5), ("hide".to_owned(), 1)].into();
    })
}

/// Ann and Bob come in at different frontends, see the boar, and are in a battle with it; its number.
async fn begin(village: &mut Village) -> (Person, Person, Thing, u64) {
    let mut ann = village.person("Ann", 1, 29, 31).await;
    let mut bob = village.person("Bob", 1, 29, 32).await;
    ann.arrives("frontend-1").await;
    bob.arrives("frontend-2").await;
    let boar = ann.sees(kind::ANIMAL, "wild_boar", |_| true).await;
    bob.sees(kind::ANIMAL, "wild_boar", |it| it.id == boar.id).await;
    let owner = village.name_of(boar.publisher).expect("a node that runs").to_owned();
    assert!(owner.starts_with("zoo"), "the boar is {owner}'s");
    let battle = attack(&mut ann, boar.id).await;
    bob.sees(kind::BATTLE, "", |it| it.id == battle).await;
    bob.does(Act::Join { battle }).await;
    (ann, bob, boar, battle)
}

/// Both strike until `enough`, whatever becomes of their blows: once the boar has fallen there is no battle.
async fn strike(ann: &mut Person, bob: &mut Person, boar: u64, enough: impl Fn(&Seen) -> bool) {
    for _ in 0..BLOWS {
        for fighter in [&mut *ann, &mut *bob] {
            let (_, reply) = fighter.act(Act::Blow { blow: 0, target: boar }).await;
            assert_ne!(reply, Reply::Lost);
        }
        tokio::time::sleep(PAUSE).await;
        ann.look();
        bob.look();
        if enough(&ann.seen) && enough(&bob.seen) {
            return;
        }
    }
    panic!("they strike and strike: Ann is {}\nBob is {}", ann.seen, bob.seen);
}

/// The battle's exchanges as somebody was shown them.
fn shown(person: &Person, battle: u64) -> BTreeMap<u64, (Exchange, Packet)> {
    let exchanges = person.seen.exchanges.iter().filter(|((of, _), _)| *of == battle);
    exchanges.map(|((_, number), told)| (*number, *told)).collect()
}

/// The boar's loot is there once, whoever has it, and both are free to go.
async fn one_boar_was_slain(village: &Village, ann: &mut Person, bob: &mut Person, boar: u64, battle: u64) {
    for fighter in [&mut *ann, &mut *bob] {
        fighter.waits_until("the end of the battle", |seen| seen.thing(battle).is_none()).await;
        fighter.waits_until("the boar's end", |seen| seen.thing(boar).is_none()).await;
        fighter.walks_to(35, 40).await;
    }
    let carried = |item: &str| village.carried(ann.player, item) + village.carried(bob.player, item);
    assert_eq!((carried("meat"), carried("hide")), (5, 1));
    assert_eq!((village.holds("meat"), village.holds("hide")), (5, 1));
}

#[test]
fn two_players_on_different_frontends_fight_a_beast_of_a_third_node_and_its_loot_comes_once() {
    story(plan(60), async |village| {
        let (mut ann, mut bob, boar, battle) = begin(village).await;
        strike(&mut ann, &mut bob, boar.id, |seen| seen.thing(battle).is_none()).await;
        one_boar_was_slain(village, &mut ann, &mut bob, boar.id, battle).await;

        // Both were shown the same exchanges, each blow with its reaction in one packet: the same packet of the same node.
        let (of_ann, of_bob) = (shown(&ann, battle), shown(&bob, battle));
        assert!(!of_ann.is_empty(), "there was a fight");
        for (number, told) in &of_bob {
            assert_eq!(of_ann.get(number), Some(told), "exchange {number}");
        }
        assert_eq!(of_ann.keys().copied().collect::<Vec<_>>(), (1..=of_ann.len() as u64).collect::<Vec<_>>());
        let exchanges = || of_ann.values().map(|(exchange, _)| exchange);
        assert!([ann.player, bob.player].iter().all(|who| exchanges().any(|it| it.actor == *who)), "both struck");
        let of_the_boar = |it: &&Exchange| it.target == boar.id;
        let harm: u64 = exchanges().filter(of_the_boar).map(|exchange| u64::from(exchange.harm)).sum();
        let back: u64 = exchanges().filter(|it| it.actor == boar.id).map(|exchange| u64::from(exchange.back)).sum();
        assert!(harm + back >= 100, "it fell by what it was dealt: {harm} and {back}");
    });
}

#[test]
fn a_battle_whose_colosseum_dies_goes_on_elsewhere_and_its_loot_comes_once() {
    story(plan(300), async |village| {
        let (mut ann, mut bob, boar, battle) = begin(village).await;
        strike(&mut ann, &mut bob, boar.id, |seen| seen.exchanges.len() >= 4).await;
        let room = ann.sees(kind::BATTLE, "", |it| it.id == battle).await;
        let colosseum = village.name_of(room.publisher).expect("a node that runs").to_owned();
        assert!(colosseum.starts_with("colosseum"), "the battle is {colosseum}'s");
        let hurt = |seen: &Seen| seen.thing(boar.id).map_or(100, |it| it.view.health);
        let health = hurt(&ann.seen);
        assert!(health < 100, "the boar is hurt");

        village.kill(&colosseum);
        for fighter in [&mut ann, &mut bob] {
            let elsewhere = |it: &Thing| it.id == battle && it.publisher != room.publisher;
            fighter.sees(kind::BATTLE, "", elsewhere).await;
            fighter.waits_until("the wounds it had", |seen| hurt(seen) <= health).await;
        }
        strike(&mut ann, &mut bob, boar.id, |seen| seen.thing(battle).is_none()).await;
        one_boar_was_slain(village, &mut ann, &mut bob, boar.id, battle).await;
    });
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
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    panic!("{} cannot attack: {}", person.name, person.seen);
}
