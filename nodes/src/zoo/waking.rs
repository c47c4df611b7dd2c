//! Habitats that wake, are saved and fall asleep, and what becomes of those that others have taken.
//!
//! Synchronous, as all that the world runs. While it is not known whether a habitat is still ours its minds rest, nothing is
//! saved and nobody is answered for its animals; what turns out to be another's goes at once. It NEVER asks twice at once for
//! the same habitat's save.

use std::collections::BTreeMap;

use cartographer::geometry::ObjectId;
use mesh::Incarnation;
use tokio::sync::oneshot;

use super::Claimed;
use super::dens::{Fitness, Last, post_of};
use super::habitats::HabitatId;
use super::rejoin;
use super::rules::{CLAIM_AGAIN_MS, SAVE_MS, SECOND_MS, ZooRules};
use super::stages::{Awake, Refused, Stage};
use crate::game::{GameWorld, kind};
use crate::last_seen;
use crate::methods::moving::{GHOSTS, Seen};
use rand::RngCore;

impl ZooRules {
    /// A habitat's post is ours.
    pub(super) fn claimed(&mut self, world: &mut GameWorld, now: u64, claimed: Claimed) {
        let Claimed { id, epoch, state, seen, keeper } = claimed;
        let at = self.moment(now);
        // A claim of before the lease was lost may be another's by now.
        let timely = match self.stages.get(&id) {
            Some(Stage::Claiming(claiming)) => claiming.gaps == self.shared.mesh.lease().gaps(),
            _ => false,
        };
        let expected = self.moves.expects(id);
        let wanted = timely && self.is_sure() && !self.leaving && (expected || self.seen.contains(&id));
        let terrain = self.shared.terrain(id.island).filter(|_| wanted);
        let taken_over = seen.is_some();
        let saved_under = state.get("epoch").and_then(serde_json::Value::as_u64).unwrap_or(epoch.saturating_sub(1));
        let last = match (seen, &terrain) {
            (Some(seen), Some(_)) => self.last_seen(world, now, id, saved_under..epoch, seen, expected),
            _ => BTreeMap::new(),
        };
        let known = |animal: ObjectId| last.get(&animal).copied();
        let woken = terrain
            .is_some_and(|terrain| self.dens.wake(world, &mut self.minds, at, id, &terrain, epoch, &state, known));
        if !woken {
            keeper.leave(state, None);
            self.stages.insert(id, Stage::Leaving);
            self.moves.answer_expected(id, false);
            return;
        }
        tracing::debug!(habitat = %id, epoch, "a habitat wakes");
        self.counts.taken_over.add(i64::from(taken_over));
        // Spread, so that not all that woke together are saved together. What was taken over is saved at once: it is newer
        // than what was found.
        let spread = now + SAVE_MS / 2 + self.random.next_u64() % (SAVE_MS / 2);
        let save_at = if taken_over { now } else { spread };
        let awake = Awake { epoch, keeper, unwatched_since: None, save_at, saving: None, doubt: None };
        self.stages.insert(id, Stage::Awake(awake));
        self.moves.answer_expected(id, true);
        for (animal, battle) in self.dens.fighters(world, id) {
            self.enter(world, now, animal, battle);
            if let Some(fighter) = self.fighter(world, animal) {
                let room = world.ghost(ObjectId(battle)).map(|ghost| Incarnation(ghost.publisher()));
                let peers = self.shared.mesh.peers();
                let at = room.and_then(|room| Some(peers.by_incarnation(room)?.record.node.clone()));
                let flow = rejoin::rejoin(self.shared.clone(), self.handle.clone(), battle, at, fighter);
                self.shared.tasks.spawn(flow);
            }
        }
    }

    /// How the animals of a habitat were under its last owners since it was saved, as this node and others saw them.
    /// `handed`: that was after the last thing that happened to them, so that only where they are can be newer.
    fn last_seen(
        &self,
        world: &GameWorld,
        now: u64,
        id: HabitatId,
        epochs: std::ops::Range<u64>,
        seen: Vec<Seen>,
        handed: bool,
    ) -> BTreeMap<ObjectId, Last> {
        let animals: Vec<ObjectId> = seen.iter().map(|seen| seen.object).chain(self.objects_of(id)).collect();
        let look =
            |animals: &[ObjectId]| last_seen::look(world, now, animals, |publisher| self.sights.offset(publisher));
        let own: Vec<Seen> = animals.chunks(GHOSTS).flat_map(look).collect();
        let in_time = |seen: &Seen| epochs.contains(&post_of(seen.epoch)) || planted::is("last_seen_of_any_epoch");
        let counts = |seen: &Seen| seen.view.kind == kind::ANIMAL && in_time(seen);
        let freshest = last_seen::pick(own.into_iter().chain(seen), counts);
        let last = |seen: Seen| {
            let (dx, dy) = (f64::from(seen.motion.velocity.0), f64::from(seen.motion.velocity.1));
            let speed = dx.hypot(dy).round() as i32;
            let walks = (seen.motion.is_moving(0) && speed > 0).then(|| (seen.motion.end(), speed));
            let battle = if seen.view.pose == crate::game::pose::FIGHTS { seen.view.tie } else { 0 };
            let fitness = (!handed).then_some(Fitness { health: seen.view.health, battle });
            Last { place: seen.motion.from, walks, fitness }
        };
        freshest.into_iter().map(|(animal, seen)| (animal, last(seen))).collect()
    }

    /// The numbers of a habitat's animals.
    fn objects_of(&self, id: HabitatId) -> Vec<ObjectId> {
        let terrain = self.shared.terrain(id.island);
        let habitat = terrain.as_ref().and_then(|terrain| terrain.habitats().get(usize::from(id.index)));
        let animal = |index| crate::game::animal::AnimalId { island: id.island, habitat: id.index, index }.object();
        (0..habitat.map_or(0, |habitat| habitat.animals)).map(animal).collect()
    }

    /// A habitat was not to be had.
    pub(super) fn not_claimed(&mut self, now: u64, id: HabitatId, why: super::NotClaimed) {
        let waited = match self.stages.get(&id) {
            Some(Stage::Claiming(claiming)) => claiming.pause_ms,
            _ => 0,
        };
        // Who lives and has it keeps it for as long as it is seen: that it is gone is told by the directory.
        let pause_ms = match why {
            super::NotClaimed::Held => (waited * 2).clamp(CLAIM_AGAIN_MS, super::rules::CLAIM_LATER_MS),
            super::NotClaimed::Failed => CLAIM_AGAIN_MS,
        };
        self.stages.insert(id, Stage::Refused(Refused { again: now + pause_ms, pause_ms }));
        self.moves.answer_expected(id, false);
    }

    /// The habitat is somebody else's: its animals go at once.
    pub(super) fn drop_at_once(&mut self, world: &mut GameWorld, now: u64, id: HabitatId, epoch: u64) {
        if !matches!(self.stages.get(&id), Some(Stage::Awake(awake)) if awake.epoch == epoch) {
            // If it was being given up while this was found out, it is: its keeper says no more.
            return self.released(world, now, (id, epoch), true);
        }
        tracing::info!(habitat = %id, epoch, "another zoo has taken a habitat over");
        self.dens.sleep(world, &mut self.minds, now, id);
        self.deaths.forget(id);
        // That they are gone from here is not to be told either: they are another's.
        self.hush |= self.unsure.remove(&id);
        self.moves.went(id, None);
        let refused = Refused { again: now + CLAIM_AGAIN_MS, pause_ms: CLAIM_AGAIN_MS };
        self.stages.insert(id, Stage::Refused(refused));
    }

    /// Saves a habitat, unless it is being saved: then it is saved once more when that is done.
    pub(super) fn save(&mut self, world: &GameWorld, now: u64, id: HabitatId) {
        let (at, sure) = (self.moment(now), self.is_sure());
        let Some(Stage::Awake(awake)) = self.stages.get_mut(&id) else { return };
        if !sure || awake.doubt.is_some() {
            return;
        }
        if awake.saving.is_some() {
            awake.save_at = now;
            return;
        }
        self.numbers += 1;
        let state = self.dens.state(world, &self.minds, at, id);
        if awake.keeper.save(state, self.numbers) {
            (awake.saving, awake.save_at) = (Some(self.numbers), now + SAVE_MS);
            self.deaths.saving(id, self.numbers);
        }
    }

    /// A habitat is saved.
    pub(super) fn saved(&mut self, world: &mut GameWorld, now: u64, (id, epoch): (HabitatId, u64), number: u64) {
        let Some(Stage::Awake(awake)) = self.stages.get_mut(&id) else { return };
        if awake.epoch != epoch {
            return;
        }
        awake.saving = awake.saving.filter(|saving| *saving != number);
        let again = awake.saving.is_none() && now >= awake.save_at;
        self.deaths_saved(world, now, id, number);
        if again {
            self.save(world, now, id);
        }
    }

    /// A habitat could not be saved: a newer state is, in a second.
    pub(super) fn unsaved(&mut self, now: u64, id: HabitatId, epoch: u64) {
        if let Some(Stage::Awake(awake)) = self.stages.get_mut(&id)
            && awake.epoch == epoch
        {
            (awake.saving, awake.save_at) = (None, now + SECOND_MS);
            self.deaths.not_saved(id);
        }
    }

    /// Saves a habitat for the last time and takes its animals out of the world.
    pub(super) fn put_to_sleep(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: HabitatId,
        done: Option<oneshot::Sender<()>>,
    ) {
        let state = self.dens.state(world, &self.minds, self.moment(now), id);
        if let Some(Stage::Awake(awake)) = self.stages.insert(id, Stage::Leaving) {
            self.dens.sleep(world, &mut self.minds, now, id);
            self.deaths.forget(id);
            self.unsure.remove(&id);
            awake.keeper.leave(state, done);
        }
    }

    /// Asks whether a habitat is still ours; until that is answered nothing is done for it. `gap`: the lease was not held all
    /// the time, and until it is answered nothing is shown either.
    pub(super) fn check(&mut self, id: HabitatId, gap: bool) {
        let (Some(Stage::Awake(awake)), Some(den)) = (self.stages.get_mut(&id), self.dens.get(id)) else { return };
        if awake.doubt.is_some() && !gap {
            return;
        }
        self.minds.hold(den.herd, true);
        self.numbers += 1;
        awake.doubt = Some(self.numbers);
        if gap {
            self.unsure.insert(id);
        }
        // A keeper that is busy is asked again in a second.
        awake.keeper.check(self.numbers);
    }

    /// A habitat is still ours.
    pub(super) fn checked(&mut self, id: HabitatId, epoch: u64, number: u64) {
        if let (Some(Stage::Awake(awake)), Some(den)) = (self.stages.get_mut(&id), self.dens.get(id))
            && awake.epoch == epoch
            && awake.doubt == Some(number)
        {
            awake.doubt = None;
            self.unsure.remove(&id);
            self.minds.hold(den.herd, false);
        }
    }

    /// The lease was not held all the time: others may have taken anything over. Nothing is shown, saved or answered for what
    /// was ours until its post says that it still is.
    pub(super) fn recheck(&mut self, world: &mut GameWorld, now: u64) {
        self.gaps = self.shared.mesh.lease().gaps();
        let awake: Vec<HabitatId> = self.dens.ids().collect();
        for id in awake {
            match self.stages.get(&id) {
                Some(Stage::Awake(_)) => self.check(id, true),
                // What was given up is surely not ours.
                _ => {
                    self.hush = true;
                    self.let_go(world, now, id);
                }
            }
        }
        self.try_again(now);
    }

    /// What was not to be had is tried again at once.
    pub(super) fn try_again(&mut self, now: u64) {
        for stage in self.stages.values_mut() {
            if let Stage::Refused(refused) = stage {
                refused.again = now;
            }
        }
    }
}
