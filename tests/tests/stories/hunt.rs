//! Two players on different frontends fight a beast that a third node owns.

use nodes::game::battle::Exchange;
use nodes::game::kind;
use nodes::protocol::Act;
use tests::village::seen::Packet;
use tests::village::{Land, Person, Plan, Reply, story};

/// Blows after which the beast must have fallen, or something is wrong.
const BLOWS: u32 = 200;

#[test]
fn two_players_on_different_frontends_fight_a_beast_of_a_third_node_and_its_loot_comes_once() {
    let land = Land::meadow(1, "green", 64, 64).habitat("wild_boar", 1, 30, 30, 4, 4);
    let plan = Plan::new([land]).changing(|content| {
        let boar = content.species.get_mut("wild_boar").expect("there are boars");
        (boar.toughness, boar.harm, boar.fear) = (60, 2, 0);
        boar.respawn_s = 100_000;
        boar.loot = [("meat".to_owned(), 5), ("hide".to_owned(), 1)].into();
    });
    story(plan, async |village| {
        let mut ann = village.person("Ann", 1, 29, 31).await;
        let mut bob = village.person("Bob", 1, 29, 32).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        let boar = ann.sees(kind::ANIMAL, "wild_boar", |_| true).await;
        bob.sees(kind::ANIMAL, "wild_boar", |it| it.id == boar.id).await;
        let owner = village.name_of(boar.publisher).expect("a node that runs").to_owned();
        assert!(owner.starts_with("zoo"), "the boar is {owner}'s");

        let battle = begins(&mut ann, boar.id).await;
        bob.sees(kind::BATTLE, "", |it| it.id == battle).await;
        bob.does(Act::Join { battle }).await;
        for _ in 0..BLOWS {
            if ann.seen.noted("loot") && bob.seen.thing(battle).is_none() {
                break;
            }
            for fighter in [&mut ann, &mut bob] {
                // Once the boar has fallen there is no battle, and that is what they are told.
                let (_, reply) = fighter.act(Act::Blow { blow: 0, target: boar.id }).await;
                assert_ne!(reply, Reply::Lost);
            }
            tokio::time::sleep(std::time::Duration::from_millis(village.content.tuning.blow_ms / 2)).await;
            ann.look();
            bob.look();
        }
        for fighter in [&mut ann, &mut bob] {
            fighter.waits_until("the end of the battle", |seen| seen.thing(battle).is_none()).await;
            fighter.waits_until("the boar's end", |seen| seen.thing(boar.id).is_none()).await;
            fighter.waits_until("loot", |seen| seen.noted("loot") || seen.noted("experience")).await;
            fighter.walks_to(35, 40).await;
        }

        // Both were shown the same exchanges, each in one packet with its reaction: the same packet of the same node.
        let told = |person: &Person| -> Vec<((u64, u64), (Exchange, Packet))> {
            let exchanges = person.seen.exchanges.iter().filter(|((of, _), _)| *of == battle);
            exchanges.map(|(key, told)| (*key, *told)).collect()
        };
        let (of_ann, of_bob) = (told(&ann), told(&bob));
        assert!(!of_ann.is_empty(), "there was a fight");
        for (key, shown) in &of_bob {
            let ours = of_ann.iter().find(|(other, _)| other == key);
            assert_eq!(ours.map(|(_, shown)| shown), Some(shown), "exchange {key:?}");
        }
        let numbers: Vec<u64> = of_ann.iter().map(|((_, number), _)| *number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "none was missed");
        let by = |actor: u64| of_ann.iter().any(|(_, (exchange, _))| exchange.actor == actor);
        assert!(by(ann.player) && by(bob.player), "both have struck");
        let harm: u64 = of_ann
            .iter()
            .filter(|(_, (exchange, _))| exchange.target == boar.id)
            .map(|(_, (exchange, _))| u64::from(exchange.harm))
            .sum();
        assert!(harm >= 100, "it fell by what it was dealt: {harm}");

        // The loot came once, whoever has it.
        let carried = |item: &str| village.carried(ann.player, item) + village.carried(bob.player, item);
        assert_eq!((carried("meat"), carried("hide")), (5, 1));
        assert_eq!((village.holds("meat"), village.holds("hide")), (5, 1));
    });
}

/// Attacks an animal that may be walking about: goes after it until it is in reach.
async fn begins(person: &mut Person, animal: u64) -> u64 {
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
