//! Fights: hunters that reach their prey, fighters that battles take and give back, and battles whose room is gone.
//!
//! While an animal is in a battle its health is the room's, it stands, and it does not think. Whoever asks for what is not
//! so is refused; nothing here NEVER waits, for calls run in flows of their own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cartographer::geometry::ObjectId;
use mesh::calls::Outcome;
use mesh::{CallError, CallRefusal, Incarnation, IncomingCall, NodeId};
use rand::RngCore;

use super::ZooInput;
use super::dens::{self, set_health};
use super::moves::Whereabouts;
use super::rules::ZooRules;
use super::sights::within_reach;
use crate::battles;
use crate::game::animal::Animal;
use crate::game::battle::Battle;
use crate::game::content::Species;
use crate::game::minds::Strike;
use crate::game::{Body, GameWorld, View, kind, made_by, pose};
use crate::methods::animals::{ANIMAL_STRUCK, ANIMAL_WAKE, Struck};
use crate::methods::living::{
    BATTLE_LEAVE, BATTLE_OPEN, BATTLE_RESUME, BattleLeave, BattleOpen, FIGHTER_FREED, FIGHTER_TAKE, FIGHTER_TOLD,
    Fighter, FighterFreed, FighterTake, FighterTold, Freed,
};
use crate::methods::{pack, unpack};
use crate::protocol::codes;

/// The side of animals.
const ANIMALS: u8 = 1;
/// Battles that animals open in a second, at most.
const OPENS_PER_S: u32 = 8;
/// Blows at prey of other zoos in a second, at most.
const BLOWS_PER_S: u32 = 64;
/// A battle of which nothing is seen for so long is asked for, in milliseconds.
const SILENT_MS: u64 = 4_000;
/// How long an animal may be in a battle whose room does not name it, in milliseconds: longer than one that moves is on its
/// way. Then it is free.
const UNNAMED_MS: u64 = 15_000;
/// How often a battle is asked for; then its animals are free. Should a room of it appear later, it is told so.
const ASKED_MOST: u32 = 15;

/// What is said of an animal that may be this zoo's or not.
const UNSURE: &str = "for the moment it is not known whose the animal is";

/// What goes on.
#[derive(Debug, Default)]
pub(super) struct Fights {
    /// Animals in battles, and since when nothing has been seen of the battle.
    fighting: BTreeMap<ObjectId, Fighting>,
    /// Animals that wait for a battle to be opened.
    opening: BTreeSet<ObjectId>,
    /// Calls that may still be made in this second.
    opens_left: u32,
    blows_left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Fighting {
    battle: u64,
    silent_since: Option<u64>,
    /// How often it has been asked for since it was seen.
    asked: u32,
    /// Since when the battle is seen without it.
    unnamed_since: Option<u64>,
}

impl Fights {
    /// Animals in battles.
    pub(super) fn len(&self) -> usize {
        self.fighting.len()
    }

    /// Forgets those that are not here any more.
    pub(super) fn retain(&mut self, is_here: impl Fn(ObjectId) -> bool) {
        self.fighting.retain(|animal, _| is_here(*animal));
        self.opening.retain(|animal| is_here(*animal));
    }
}

fn animal(world: &GameWorld, id: ObjectId) -> Option<&Animal> {
    match world.get(id)?.body() {
        Body::Animal(animal) => Some(animal),
        _ => None,
    }
}

fn refused<T>(code: &'static str, text: impl Into<String>) -> Result<T, CallRefusal> {
    Err(CallRefusal::new(code, text))
}

impl ZooRules {
    fn species(&self, world: &GameWorld, id: ObjectId) -> Option<&Species> {
        self.shared.content.species.get(&animal(world, id)?.species)
    }

    /// The animal as a fighter.
    pub(super) fn fighter(&self, world: &GameWorld, id: ObjectId) -> Option<Fighter> {
        let (body, species) = (animal(world, id)?, self.species(world, id)?);
        Some(Fighter {
            object: id,
            node: self.shared.mesh.me().node.clone(),
            side: ANIMALS,
            name: body.species.clone(),
            health: body.health,
            harm: species.harm,
            toughness: species.toughness,
            fear: species.fear,
        })
    }

    /// Answers a peer's call.
    pub(super) fn call(&mut self, world: &mut GameWorld, now: u64, call: IncomingCall) {
        match call.method.as_str() {
            name if name == FIGHTER_TAKE.name => {
                let answer = unpack(&call.body).and_then(|take| self.take(world, now, take));
                call.answer(answer.map(|fighter| pack(&fighter)));
            }
            name if name == FIGHTER_TOLD.name => match unpack::<FighterTold>(&call.body) {
                Ok(told) => match self.whereabouts(told.object) {
                    // Nothing is done for anybody while it is not known whose it is.
                    Whereabouts::Unsure => call.answer(refused(codes::UNAVAILABLE, UNSURE)),
                    Whereabouts::Gone(id, to) => self.pass_on(call, &FIGHTER_TOLD, id, to),
                    _ => {
                        self.told(world, now, told, call.from.clone());
                        call.answer(Ok(Bytes::new()));
                    }
                },
                Err(refusal) => call.answer(Err(refusal)),
            },
            name if name == FIGHTER_FREED.name => match unpack::<FighterFreed>(&call.body) {
                Ok(freed) => match self.whereabouts(freed.object) {
                    Whereabouts::Unsure => call.answer(refused(codes::UNAVAILABLE, UNSURE)),
                    Whereabouts::Gone(id, to) => self.pass_on(call, &FIGHTER_FREED, id, to),
                    _ => {
                        let animal = freed.object;
                        self.freed(world, now, freed);
                        self.when_saved(now, animal, call, Bytes::new());
                    }
                },
                Err(refusal) => call.answer(Err(refusal)),
            },
            name if name == ANIMAL_STRUCK.name => match unpack::<Struck>(&call.body) {
                Ok(struck) => match self.struck(world, now, struck) {
                    Ok(true) => self.when_saved(now, struck.prey, call, pack(&true)),
                    answer => call.answer(answer.map(|killed| pack(&killed))),
                },
                Err(refusal) => call.answer(Err(refusal)),
            },
            name if name == ANIMAL_WAKE.name => self.wake(now, call),
            other => {
                let refusal = CallRefusal::unknown_method(other);
                call.answer(Err(refusal));
            }
        }
    }

    /// A battle takes control of an animal.
    fn take(&mut self, world: &mut GameWorld, now: u64, take: FighterTake) -> Result<Fighter, CallRefusal> {
        let FighterTake { battle, object } = take;
        let missing = || CallRefusal::new(codes::MISSING, format!("no animal {} is here", object.0));
        match self.whereabouts(object) {
            Whereabouts::Here => {}
            Whereabouts::Unknown => return Err(missing()),
            _ => return refused(codes::UNAVAILABLE, UNSURE),
        }
        let fighter = self.fighter(world, object).ok_or_else(missing)?;
        let present = animal(world, object).map_or(0, |animal| animal.battle);
        if present != 0 && present != battle {
            return refused(codes::IN_BATTLE, present.to_string());
        }
        if fighter.health == 0 {
            return refused(codes::DEFEATED, format!("{} {} has been defeated", fighter.name, object.0));
        }
        self.enter(world, now, object, battle);
        Ok(fighter)
    }

    pub(super) fn enter(&mut self, world: &mut GameWorld, now: u64, object: ObjectId, battle: u64) {
        self.fights.opening.remove(&object);
        self.fights.fighting.insert(object, Fighting { battle, silent_since: None, asked: 0, unnamed_since: None });
        let motion = world.stop(now, object).unwrap_or_default();
        self.minds.pause(now, object, true, motion);
        change(world, now, object, |animal| (animal.battle, animal.pose) = (battle, pose::IDLE));
    }

    /// A battle tells how an animal is. A room that believes an animal to be in it that is not, such as one that went on
    /// elsewhere, is told so: else it would keep a fighter that nobody can hurt.
    fn told(&mut self, world: &mut GameWorld, now: u64, told: FighterTold, from: NodeId) {
        let FighterTold { battle, object, health } = told;
        match self.fights.fighting.get(&object) {
            Some(fighting) if fighting.battle == battle => set_health(world, &mut self.minds, now, object, health),
            // One that is about to begin, if its answer is under way.
            _ if self.fights.opening.contains(&object) => {}
            // What has just died is not in the battle any more, and its room learns that when the death is saved.
            _ if self.dens.is_corpse(object) => {}
            _ => self.not_in(object, battle, from),
        }
    }

    /// A battle gives an animal back. One that is not in this battle is left as it is.
    fn freed(&mut self, world: &mut GameWorld, now: u64, freed: FighterFreed) {
        let FighterFreed { battle, object, health, how } = freed;
        if self.fights.fighting.get(&object).is_none_or(|fighting| fighting.battle != battle) {
            return;
        }
        self.fights.fighting.remove(&object);
        if health == 0 || how == Freed::Defeated {
            let at = self.moment(now);
            if self.dens.died(world, &mut self.minds, at, object) {
                self.has_died(world, now, object);
            }
            return;
        }
        set_health(world, &mut self.minds, now, object, health);
        self.release(world, now, object);
        match how {
            Freed::Won => dens::fed(&mut self.minds, now, object),
            _ => self.minds.change(now, object, |drives| drives.dread = 1.0),
        }
    }

    /// Gives an animal's mind back to it.
    fn release(&mut self, world: &mut GameWorld, now: u64, object: ObjectId) {
        self.fights.fighting.remove(&object);
        change(world, now, object, |animal| animal.battle = 0);
        let motion = world.get(object).map(|real| real.motion()).unwrap_or_default();
        self.minds.pause(now, object, false, motion);
    }

    /// What comes of the blows that hunters deal.
    pub(super) fn strikes(&mut self, world: &mut GameWorld, now: u64, strikes: Vec<Strike>) {
        for strike in strikes {
            let Strike { hunter, prey } = strike;
            let Some(harm) = self.species(world, hunter).map(|species| species.harm) else { continue };
            if self.dens.of(prey).is_some() && world.get(prey).is_some() {
                if let Ok(true) = self.struck(world, now, Struck { hunter, prey, harm }) {
                    self.fed(now, hunter);
                }
                continue;
            }
            let Some(ghost) = world.ghost(prey) else { continue };
            let peers = self.shared.mesh.peers();
            let Some(peer) = peers.by_incarnation(Incarnation(ghost.publisher())) else { continue };
            let node = peer.record.node.clone();
            match ghost.view().kind {
                kind::PLAYER => self.open(world, now, hunter, prey, node),
                kind::ANIMAL => self.strike_elsewhere(Struck { hunter, prey, harm }, node),
                _ => {}
            }
        }
    }

    /// A blow at an animal of ours: whether it is dead.
    fn struck(&mut self, world: &mut GameWorld, now: u64, struck: Struck) -> Result<bool, CallRefusal> {
        let Struck { prey, harm, .. } = struck;
        let at = self.moment(now);
        let became = match self.may_act(prey) {
            true => self.dens.strike(world, &mut self.minds, at, prey, harm),
            false => dens::Struck::Missing,
        };
        match became {
            dens::Struck::Missing => refused(codes::MISSING, format!("no animal {} is here", prey.0)),
            dens::Struck::InBattle(battle) => refused(codes::IN_BATTLE, battle.to_string()),
            dens::Struck::Hurt => Ok(false),
            dens::Struck::Dead => {
                self.has_died(world, now, prey);
                Ok(true)
            }
        }
    }

    fn fed(&mut self, now: u64, hunter: ObjectId) {
        self.counts.meals.inc();
        dens::fed(&mut self.minds, now, hunter);
    }

    /// Another zoo has told what became of a blow.
    pub(super) fn blow_landed(&mut self, now: u64, hunter: ObjectId, killed: bool) {
        if killed {
            self.fed(now, hunter);
        }
    }

    fn strike_elsewhere(&mut self, struck: Struck, node: NodeId) {
        let Some(left) = self.fights.blows_left.checked_sub(1) else { return };
        self.fights.blows_left = left;
        let (shared, world) = (self.shared.clone(), self.handle.clone());
        self.shared.tasks.spawn(async move {
            let answer = shared.mesh.call(&node, &ANIMAL_STRUCK, pack(&struck)).await;
            let killed = answer.is_ok_and(|body| unpack::<bool>(&body).unwrap_or(false));
            world.role(ZooInput::Struck { hunter: struck.hunter, killed }).await;
        });
    }

    /// A hunter has reached a player.
    fn open(&mut self, world: &GameWorld, now: u64, hunter: ObjectId, player: ObjectId, node: NodeId) {
        let (Some(opener), Some(real)) = (self.fighter(world, hunter), world.get(hunter)) else { return };
        let place = real.place(now);
        let reaches = world
            .ghost(player)
            .is_some_and(|ghost| within_reach(place, ghost.place(self.sights.theirs(ghost.publisher(), now))));
        let busy = self.fights.opening.contains(&hunter) || self.fights.fighting.contains_key(&hunter);
        if busy || !reaches || self.fights.opens_left == 0 {
            return;
        }
        let peers = self.shared.mesh.peers();
        let Some((colosseum, _)) = battles::choose(&peers) else { return };
        self.fights.opens_left -= 1;
        self.fights.opening.insert(hunter);
        self.counts.opened.inc();
        let op = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        let battle = made_by(estate::transaction::OperationId(op)).0;
        let (island, target) = (real.island(), player);
        let open = BattleOpen { battle, island, place, opener, target, target_node: node };
        let (shared, handle) = (self.shared.clone(), self.handle.clone());
        self.shared.tasks.spawn(async move {
            let answer = shared.mesh.call(&colosseum, &BATTLE_OPEN, pack(&open)).await;
            if let Err(error) = &answer {
                tracing::debug!(%error, hunter = hunter.0, player = player.0, "a battle was not opened");
            }
            let (battle, sure) = match answer {
                Ok(body) => (unpack::<u64>(&body).ok(), true),
                // It may be in the room: the room is told that it is not.
                Err(error) if error.outcome() == Outcome::Maybe => (Some(open.battle), false),
                Err(_) => (None, false),
            };
            handle.role(ZooInput::Opened { animal: hunter, battle, sure, node: colosseum }).await;
        });
    }

    /// A battle was opened for an animal, or not. Returns the battle in which it is now.
    pub(super) fn opened(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        animal: ObjectId,
        battle: Option<u64>,
    ) -> Option<u64> {
        // The room may have taken, and even freed, the animal before its answer came.
        let waits = self.fights.opening.remove(&animal);
        if let Some(battle) = battle
            && waits
            && self.may_act(animal)
            && world.get(animal).is_some()
        {
            self.enter(world, now, animal, battle);
        }
        self.fights.fighting.get(&animal).map(|fighting| fighting.battle)
    }

    /// Tells a room that an animal is not in its battle.
    pub(super) fn not_in(&self, animal: ObjectId, battle: u64, node: NodeId) {
        let leave = BattleLeave { battle, object: animal };
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            if let Err(error) = shared.mesh.call(&node, &BATTLE_LEAVE, pack(&leave)).await {
                tracing::debug!(%error, animal = animal.0, "a battle was not told that an animal is not in it");
            }
        });
    }

    /// Once a second: refills what may be done, and asks for battles of which nothing is seen any more.
    pub(super) fn watch_battles(&mut self, world: &mut GameWorld, now: u64) {
        (self.fights.opens_left, self.fights.blows_left) = (OPENS_PER_S, BLOWS_PER_S);
        let peers = self.shared.mesh.peers();
        let (mut silent, mut given_up) = (BTreeSet::new(), Vec::new());
        let ours: BTreeSet<ObjectId> =
            self.fights.fighting.keys().copied().filter(|animal| self.may_act(*animal)).collect();
        let fighting = self.fights.fighting.iter_mut().filter(|(animal, _)| ours.contains(animal));
        for (animal, Fighting { battle, silent_since, asked, unnamed_since }) in fighting {
            let ghost = world.ghost(ObjectId(*battle));
            let named = ghost.is_none_or(|ghost| names(ghost.view(), *animal));
            *unnamed_since = if named { None } else { unnamed_since.or(Some(now)) };
            if unnamed_since.is_some_and(|since| now >= since + UNNAMED_MS) {
                given_up.push(*animal);
                continue;
            }
            let room = ghost.map(|ghost| Incarnation(ghost.publisher()));
            if room.is_some_and(|room| peers.by_incarnation(room).is_some()) {
                (*silent_since, *asked) = (None, 0);
            } else if *asked >= ASKED_MOST {
                given_up.push(*animal);
            } else if now >= *silent_since.get_or_insert(now) + SILENT_MS {
                (*silent_since, *asked) = (Some(now), *asked + 1);
                silent.insert(*battle);
            }
        }
        for animal in given_up {
            tracing::warn!(animal = animal.0, "no colosseum leads this animal in a battle: it is free");
            self.release(world, now, animal);
        }
        for battle in silent {
            let Some(node) = battles::ranked(&peers, battle).into_iter().next() else { continue };
            let (shared, handle) = (self.shared.clone(), self.handle.clone());
            self.shared.tasks.spawn(async move {
                let answer = shared.mesh.call(&node, &BATTLE_RESUME, pack(&battle)).await;
                let over = matches!(&answer, Err(CallError::Refused { refusal, .. }) if refusal.code == codes::MISSING);
                handle.role(ZooInput::Resumed { battle, over }).await;
            });
        }
    }

    /// The room of a battle in which an animal came to us has been told so, or it is over for the animal.
    pub(super) fn rejoined(&mut self, world: &mut GameWorld, now: u64, animal: ObjectId, battle: u64, over: bool) {
        if over
            && self.may_act(animal)
            && self.fights.fighting.get(&animal).is_some_and(|fighting| fighting.battle == battle)
        {
            self.release(world, now, animal);
        }
    }

    /// A colosseum has answered for a battle of which nothing was seen.
    pub(super) fn resumed(&mut self, world: &mut GameWorld, now: u64, battle: u64, over: bool) {
        let members = self.fights.fighting.iter().filter(|(_, fighting)| over && fighting.battle == battle);
        let members: Vec<ObjectId> = members.map(|(animal, _)| *animal).collect();
        let members = members.into_iter().filter(|animal| self.may_act(*animal)).collect::<Vec<_>>();
        members.into_iter().for_each(|animal| self.release(world, now, animal));
    }
}

/// Whether a battle, as it is seen, has somebody in it.
fn names(view: &View, object: ObjectId) -> bool {
    Battle::of(&view.detail).is_none_or(|battle| battle.members.iter().any(|(member, _, _)| *member == object.0))
}

fn change(world: &mut GameWorld, now: u64, object: ObjectId, change: impl FnOnce(&mut Animal)) {
    world.change(now, object, |body| {
        if let Body::Animal(animal) = body {
            change(animal);
        }
    });
}
