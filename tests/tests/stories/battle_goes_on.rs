//! Battles outlive the nodes that they depend on: colosseums are killed, frozen and emptied, and a fighter's frontend dies.
//!
//! Ann and Bob, at two frontends, fight a boar. Whatever happens, no wound that was shown is undone, exchanges are numbered
//! without gaps, and loot comes once.

use std::time::Duration;

use mesh::Role;
use nodes::game::kind;
use nodes::protocol::{Act, codes};
use tests::village::seen::Seen;
use tests::village::{Land, PATIENCE, Person, Plan, Reply, Village, story};
use tokio::time::{Instant, sleep};

/// The pause between two rounds of blows.
const PAUSE: Duration = Duration::from_millis(250);

/// A dead node's lease, and what may pass until others have taken over.
const TAKEN_OVER: Duration = Duration::from_secs(5 + 2);

/// Rounds of blows, at most.
const BLOWS: u32 = 2_000;

struct Fight {
    ann: Person,
    bob: Person,
    boar: u64,
    battle: u64,
    /// The colosseum that leads it.
    colosseum: String,
    /// The least health that the boar was shown with.
    health: u8,
    /// Rounds in which somebody did not see the battle.
    unseen: u32,
}

fn plan(toughness: u16) -> Plan {
    let land = Land::meadow(1, "green", 64, 64).habitat("wild_boar", 1, 30, 30, 4, 4);
    Plan::new([land]).with(Role::Colosseum, 2).with(Role::Zoo, 1).changing(|content| {
        let boar = content.species.get_mut("wild_boar").expect("there are boars");
        (boar.toughness, boar.harm, boar.fear, boar.respawn_s) = (toughness, 0, 0, 100_000);
        boar.loot = [("meat".to_owned(), 5)].into();
    })
}

impl Fight {
    async fn begins(village: &mut Village) -> Fight {
        let mut ann = village.person("Ann", 1, 29, 31).await;
        let mut bob = village.person("Bob", 1, 29, 32).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        let boar = ann.sees(kind::ANIMAL, "wild_boar", |_| true).await.id;
        let mut battle = None;
        for _ in 0..100 {
            let at = ann.waits_for("the boar", |seen| seen.thing(boar)).await.tile;
            if let (_, Reply::Done(number)) = ann.act(Act::Attack { target: boar }).await {
                battle = Some(number);
                break;
            }
            let (x, y) = ann.seen.tile();
            if (at.0 - x).abs().max((at.1 - y).abs()) > 1 {
                ann.walks_to(at.0 as u16, at.1 as u16).await;
            }
            sleep(PAUSE).await;
        }
        let battle = battle.expect("a battle with the boar");
        let room = bob.sees(kind::BATTLE, "", |it| it.id == battle).await;
        let (x, y) = room.tile;
        bob.walks_to(x as u16, y as u16).await;
        bob.does(Act::Join { battle }).await;
        let colosseum = village.name_of(room.publisher).expect("a node that runs").to_owned();
        Fight { ann, bob, boar, battle, colosseum, health: 100, unseen: 0 }
    }

    /// Both strike once, as far as they may; what became of it. No wound is undone.
    async fn round(&mut self) -> [Reply; 2] {
        let act = Act::Blow { blow: 0, target: self.boar };
        let (first, second) = tokio::join!(self.ann.act(act.clone()), self.bob.act(act));
        sleep(PAUSE).await;
        self.watch();
        [first.1, second.1]
    }

    fn watch(&mut self) {
        let before = self.health;
        for person in [&mut self.ann, &mut self.bob] {
            if person.is_lost() {
                continue;
            }
            person.look();
            if person.seen.thing(self.battle).is_none() {
                self.unseen += 1;
            }
            if let Some(boar) = person.seen.thing(self.boar) {
                assert!(boar.view.health <= before, "a wound was undone: {} after {before}", boar.view.health);
                self.health = self.health.min(boar.view.health);
            }
        }
    }

    async fn strikes_until(&mut self, what: &str, enough: impl Fn(&Seen, &Fight) -> bool) {
        for _ in 0..BLOWS {
            self.round().await;
            if enough(&self.ann.seen, self) {
                return;
            }
        }
        panic!("they strike in vain for {what}: {}", self.ann.seen);
    }

    /// The battle is led by another colosseum, within this time.
    async fn goes_on_elsewhere(&mut self, village: &Village, within: Duration) {
        let began = Instant::now();
        loop {
            self.watch();
            let leads = self.ann.seen.thing(self.battle).and_then(|it| village.name_of(it.publisher));
            if leads.is_some_and(|name| name != self.colosseum) {
                return;
            }
            assert!(began.elapsed() < within, "nobody goes on with the battle: {}", self.ann.seen);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// They win, exchanges have no gaps, and loot comes once.
    async fn is_won(&mut self, village: &Village) {
        let battle = self.battle;
        self.strikes_until("the end", |seen, _| seen.thing(battle).is_none()).await;
        self.ann.waits_until("the boar's end", |seen| seen.named(kind::ANIMAL, "wild_boar").is_empty()).await;
        self.ann.walks_to(35, 40).await;
        let numbers: Vec<u64> = self.ann.seen.exchanges.keys().map(|(_, number)| *number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "every exchange was shown");
        let end = Instant::now() + PATIENCE;
        let carried = || village.carried(self.ann.player, "meat") + village.carried(self.bob.player, "meat");
        while carried() < 5 {
            assert!(Instant::now() < end, "no loot: {}", carried());
            sleep(PAUSE).await;
        }
        assert_eq!((carried(), village.holds("meat")), (5, 5));
    }
}

#[test]
fn a_battle_whose_colosseum_is_killed_before_it_could_save_goes_on_with_every_wound_that_was_shown() {
    story(plan(900), async |village| {
        let mut fight = Fight::begins(village).await;
        fight.strikes_until("a wound", |_, fight| fight.health < 95).await;
        village.store_is_away(&fight.colosseum, true);
        let saved = fight.health;
        fight.strikes_until("wounds that are not saved", |_, fight| fight.health + 6 < saved).await;
        village.kill(&fight.colosseum);
        fight.goes_on_elsewhere(village, TAKEN_OVER).await;
        fight.is_won(village).await;
    });
}

#[test]
fn a_battle_whose_colosseum_is_emptied_goes_on_and_nobody_sees_it_gone_or_is_refused_for_good() {
    story(plan(600), async |village| {
        let mut fight = Fight::begins(village).await;
        fight.strikes_until("a wound", |_, fight| fight.health < 95).await;
        (fight.unseen, fight.bob.seen.farewell) = (0, None);
        let (node, health) = (village.takes_out(&fight.colosseum), fight.health);
        let fights_on = async {
            let mut refusals = Vec::new();
            while fight.health + 10 > health {
                for reply in fight.round().await {
                    match reply {
                        Reply::Done(_) => {}
                        Reply::Refused(code, _) if [codes::TOO_SOON, codes::BUSY].contains(&code.as_str()) => {}
                        other => refusals.push(other),
                    }
                }
            }
            refusals
        };
        let ((), refusals) = tokio::join!(node.leave(), fights_on);
        assert_eq!((refusals, fight.unseen), (vec![], 0));
        fight.goes_on_elsewhere(village, PAUSE).await;
        fight.is_won(village).await;
    });
}

#[test]
fn a_colosseum_that_freezes_and_thaws_does_not_disturb_the_battle_that_another_has_taken_over() {
    story(plan(600), async |village| {
        let mut fight = Fight::begins(village).await;
        fight.strikes_until("a wound", |_, fight| fight.health < 95).await;
        let frozen = fight.colosseum.clone();
        village.freeze(&frozen, true);
        // Blows at it are lost; whoever strikes asks again later.
        fight.goes_on_elsewhere(village, TAKEN_OVER).await;
        let health = fight.health;
        fight.strikes_until("more wounds", |_, fight| fight.health + 5 < health).await;
        village.freeze(&frozen, false);
        fight.unseen = 0;
        let health = fight.health;
        fight.strikes_until("yet more wounds", |_, fight| fight.health + 20 < health).await;
        assert_eq!(fight.unseen, 0, "the battle was gone from sight");
        let battle = fight.battle;
        let still_there =
            village.looks_at(&frozen, move |world| world.get(cartographer::geometry::ObjectId(battle)).is_some());
        assert!(!still_there.await, "two rooms");
        fight.is_won(village).await;
    });
}

#[test]
fn who_fights_beside_one_whose_frontend_died_fights_on_and_the_absent_one_is_not_struck() {
    story(plan(900), async |village| {
        let mut fight = Fight::begins(village).await;
        let (bob, battle) = (fight.bob.player, fight.battle);
        fight.strikes_until("a wound", |_, fight| fight.health < 98).await;
        village.kill("frontend-2");
        let members = move |seen: &Seen| {
            let shown = seen.thing(battle).map(|it| nodes::game::battle::Battle::of(&it.view.detail));
            shown.flatten().map(|shown| shown.members).unwrap_or_default()
        };
        // Absent for a while, then out of it; Ann goes on.
        fight
            .strikes_until("Bob to be out", |seen, _| {
                let shown = members(seen);
                !shown.is_empty() && shown.iter().all(|(id, ..)| *id != bob)
            })
            .await;
        let health = fight.health;
        fight.strikes_until("more wounds", |_, fight| fight.health + 3 < health).await;
        fight.bob.arrives("frontend-1").await;
        fight.bob.walks_to(28, 28).await;
        let before = fight.ann.seen.exchanges.len();
        fight.is_won(village).await;
        assert!(fight.ann.seen.exchanges.len() > before);
    });
}
