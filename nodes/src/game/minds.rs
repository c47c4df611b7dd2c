//! The animals' minds: when each thinks, what it sees then, and what comes of it.
//!
//! Utility AI ([`drives`]) over a picture of what is near ([`picture`]), with ways around what is in the way ([`paths`]). A mind
//! says itself when it thinks next: calm in seconds, alarmed in fractions of one; a threat that comes into sight wakes it. So
//! cost follows what happens, not animals × ticks, and whatever sleeps unwatched is not here at all.
//!
//! [`Minds::tick`] takes three steps. *Prepare*: the picture is painted, and the minds that are due are collected, the oldest
//! first, at most [`THOUGHTS`], and put in the order of their numbers. *Execute*: each thought ([`thought`]) is a pure function
//! of the animal, the picture, the ground and a seed of its own; threads share them without locks. *Apply*: in the order of
//! the animals' numbers. So the same calls give the same world, whatever the number of threads. Nothing here NEVER reads a
//! clock, waits, or asks for a document.

pub mod drives;
pub mod lore;
pub mod paths;
pub mod picture;
pub mod thought;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use cartographer::geometry::{IslandId, ObjectId, Place};
use cartographer::ground::{Blocked, Ground, Overlay};
use cartographer::motion::Motion;
use cartographer::terrain::Habitat;
use rustc_hash::FxHashMap;

use super::{Body, GameWorld, pose};
use drives::{Drives, Goal};
use lore::{Lore, What};
use picture::{Picture, Seen};
use thought::{Decision, Scene, Step, mix};

/// Thoughts in one tick, at most; the rest waits for the next, the oldest first.
pub const THOUGHTS: usize = 8_192;
/// Thoughts that are worth a thread.
const SHARE: usize = 32;
/// How often it is looked whether a threat has come into somebody's sight, in milliseconds.
const ALARM_EVERY_MS: u64 = 200;
/// A mind that has just thought is not alarmed again for so many milliseconds.
const ALARM_GAP_MS: u64 = 400;
/// Between two thoughts of one mind, at least, in milliseconds.
const LEAST_MS: u64 = 100;
/// Between two thoughts of one mind, at most, in milliseconds.
pub const LONGEST_MS: u64 = 15_000;
/// How much a wound must have healed before others are told.
const HEALED: u8 = 5;

/// A herd: the animals of one habitat.
pub struct Herd {
    /// The island.
    pub island: IslandId,
    /// Its land.
    pub ground: Arc<dyn Ground>,
    /// Where it lives.
    pub habitat: Habitat,
    /// Its middle, at the last tick; `None` without animals.
    pub centre: Option<Place>,
    sum: (i64, i64, i64),
    /// Its minds do not think for now.
    held: bool,
    is_there: bool,
}

impl Herd {
    /// A place in the habitat, chosen by bits; its middle if none is found quickly.
    pub fn somewhere(&self, bits: u64) -> Place {
        let (first, last) = self.habitat.bounds;
        let along = |low: i32, high: i32, bits: u64| low + (bits % (high - low).max(1) as u64) as i32;
        let places = (0..16).map(|attempt| {
            let bits = mix(bits.wrapping_add(attempt));
            Place::new(along(first.x, last.x, bits & 0xffff_ffff), along(first.y, last.y, bits >> 32))
        });
        let walkable = |place: &Place| place.tile().is_some_and(|tile| self.ground.walkable(tile));
        let found = places.into_iter().find(|place| self.habitat.contains(*place) && walkable(place));
        found.unwrap_or(Place::new(first.x.midpoint(last.x), first.y.midpoint(last.y)))
    }
}

/// The number of a herd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HerdId(u32);

/// One animal's mind.
#[derive(Clone, Debug)]
pub struct Mind {
    /// The animal.
    pub id: ObjectId,
    /// Its species.
    pub kind: What,
    /// Its herd.
    pub herd: HerdId,
    /// What drove it when it last thought.
    pub drives: Drives,
    /// What it is about.
    pub goal: Goal,
    /// How it moves.
    pub motion: Motion,
    /// The legs after this one, last leg first.
    pub legs: Vec<Place>,
    /// When it last thought.
    pub thought_at: u64,
    /// Decisions so far.
    pub count: u64,
    next_at: u64,
    /// It sees itself what it fears.
    first_hand: bool,
    pose: u8,
    shown_health: u8,
    /// Somebody else has control of it.
    paused: bool,
    is_there: bool,
}

/// An animal strikes another, or a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Who.
    pub hunter: ObjectId,
    /// Whom.
    pub prey: ObjectId,
}

/// Counts; they only ever rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Decisions.
    pub decisions: u64,
    /// Minds that a threat woke.
    pub alarms: u64,
}

/// All minds of a node.
pub struct Minds {
    lore: Arc<Lore>,
    seed: u64,
    threads: usize,
    /// Between two thoughts of one mind, at most, in milliseconds.
    longest_ms: u64,
    minds: Vec<Mind>,
    free: Vec<u32>,
    slots: FxHashMap<ObjectId, u32>,
    herds: Vec<Herd>,
    free_herds: Vec<u32>,
    /// Who thinks when. An entry counts if the mind says so too.
    schedule: BinaryHeap<Reverse<(u64, u32)>>,
    alarm_at: u64,
    picture: Picture,
    blocked: FxHashMap<IslandId, Blocked>,
    nothing: Blocked,
    counts: Counts,
}

impl Minds {
    /// No minds yet. Whims are drawn from `seed`; `threads` share the thoughts, at least one.
    pub fn new(lore: Arc<Lore>, seed: u64, threads: usize) -> Minds {
        Minds {
            lore,
            seed,
            threads: threads.max(1),
            longest_ms: LONGEST_MS,
            minds: Vec::new(),
            free: Vec::new(),
            slots: FxHashMap::default(),
            herds: Vec::new(),
            free_herds: Vec::new(),
            schedule: BinaryHeap::new(),
            alarm_at: 0,
            picture: Picture::default(),
            blocked: FxHashMap::default(),
            nothing: Blocked::default(),
            counts: Counts::default(),
        }
    }

    /// Has every mind think at least so often, in milliseconds.
    pub fn hurry(&mut self, longest_ms: u64) {
        self.longest_ms = longest_ms.clamp(LEAST_MS, LONGEST_MS);
    }

    /// The species.
    pub fn lore(&self) -> &Arc<Lore> {
        &self.lore
    }

    /// Animals that have a mind here.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Counts.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sets what is in the way of animals on an island.
    pub fn block(&mut self, island: IslandId, blocked: Blocked) {
        if blocked.is_empty() {
            self.blocked.remove(&island);
        } else {
            self.blocked.insert(island, blocked);
        }
    }

    /// A herd without animals.
    pub fn add_herd(&mut self, island: IslandId, ground: Arc<dyn Ground>, habitat: Habitat) -> HerdId {
        let herd = Herd { island, ground, habitat, centre: None, sum: (0, 0, 0), held: false, is_there: true };
        match self.free_herds.pop() {
            Some(slot) => {
                self.herds[slot as usize] = herd;
                HerdId(slot)
            }
            None => {
                self.herds.push(herd);
                HerdId(self.herds.len() as u32 - 1)
            }
        }
    }

    /// Forgets a herd. Its animals MUST have been removed.
    pub fn remove_herd(&mut self, herd: HerdId) {
        if let Some(gone) = self.herds.get_mut(herd.0 as usize)
            && std::mem::replace(&mut gone.is_there, false)
        {
            self.free_herds.push(herd.0);
        }
    }

    /// A herd, as it was at the last tick.
    pub fn herd(&self, herd: HerdId) -> Option<&Herd> {
        self.herds.get(herd.0 as usize).filter(|herd| herd.is_there)
    }

    /// Lets a herd's minds rest, or think again.
    pub fn hold(&mut self, herd: HerdId, held: bool) {
        if let Some(herd) = self.herds.get_mut(herd.0 as usize) {
            herd.held = held;
        }
    }

    /// Gives an animal of the world a mind. It thinks first within a moment, each at its own.
    pub fn add(&mut self, now: u64, id: ObjectId, herd: HerdId, kind: What, drives: Drives, motion: Motion) {
        let next_at = now + mix(id.0) % self.longest_ms.min(2_000);
        let mind = Mind {
            id,
            kind,
            herd,
            drives,
            goal: Goal::Wander,
            motion,
            legs: Vec::new(),
            thought_at: now,
            count: 0,
            next_at,
            first_hand: false,
            pose: pose::IDLE,
            shown_health: percent(drives.health),
            paused: false,
            is_there: true,
        };
        self.remove(id);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.minds[slot as usize] = mind;
                slot
            }
            None => {
                self.minds.push(mind);
                self.minds.len() as u32 - 1
            }
        };
        self.slots.insert(id, slot);
        self.schedule.push(Reverse((next_at, slot)));
    }

    /// Takes an animal's mind away, and tells what drove it.
    pub fn remove(&mut self, id: ObjectId) -> Option<Drives> {
        let slot = self.slots.remove(&id)?;
        let mind = &mut self.minds[slot as usize];
        mind.is_there = false;
        mind.legs = Vec::new();
        self.free.push(slot);
        Some(mind.drives)
    }

    /// A mind.
    pub fn get(&self, id: ObjectId) -> Option<&Mind> {
        self.minds.get(*self.slots.get(&id)? as usize)
    }

    /// What drives an animal at this moment.
    pub fn drives(&self, now: u64, id: ObjectId) -> Option<Drives> {
        let mind = self.get(id)?;
        Some(mind.drives.after(now.saturating_sub(mind.thought_at), mind.goal, self.lore.tuning.heal_per_minute))
    }

    /// Changes what drives an animal, and lets it think soon.
    pub fn change(&mut self, now: u64, id: ObjectId, change: impl FnOnce(&mut Drives)) {
        let Some(mut drives) = self.drives(now, id) else { return };
        change(&mut drives);
        let Some(slot) = self.slots.get(&id).copied() else { return };
        let mind = &mut self.minds[slot as usize];
        (mind.drives, mind.thought_at, mind.shown_health) = (drives, now, percent(drives.health));
        self.wake(now, slot);
    }

    /// Somebody else takes control of an animal, or gives it back: meanwhile it does not think, and stands.
    pub fn pause(&mut self, now: u64, id: ObjectId, paused: bool, motion: Motion) {
        let Some(slot) = self.slots.get(&id).copied() else { return };
        let mind = &mut self.minds[slot as usize];
        (mind.paused, mind.motion, mind.pose) = (paused, motion, pose::IDLE);
        mind.legs.clear();
        if !paused {
            self.wake(now, slot);
        }
    }

    fn wake(&mut self, now: u64, slot: u32) {
        self.minds[slot as usize].next_at = now;
        self.schedule.push(Reverse((now, slot)));
    }

    /// Whether a tick at `now` would do anything: a mind is due, or it is time to look out for threats.
    pub fn is_due(&self, now: u64) -> bool {
        let due = self.schedule.peek().is_some_and(|Reverse((at, _))| *at <= now);
        due || (!self.is_empty() && now >= self.alarm_at)
    }

    /// Lets those think who are due. `others` is what there is to see besides the animals that have their minds here.
    pub fn tick(&mut self, world: &mut GameWorld, now: u64, others: &[Seen]) -> Vec<Strike> {
        self.paint(now, others);
        if now >= self.alarm_at {
            self.alarm_at = now + ALARM_EVERY_MS;
            self.alarm(now);
        }
        let due = self.prepare(now);
        let decisions = self.execute(now, &due);
        self.apply(world, now, decisions)
    }

    /// Puts everybody into the picture, and finds the middle of each herd.
    fn paint(&mut self, now: u64, others: &[Seen]) {
        let Minds { picture, minds, herds, .. } = self;
        picture.clear(minds.len() + others.len());
        herds.iter_mut().for_each(|herd| herd.sum = (0, 0, 0));
        for (mind, slot) in minds.iter().zip(0_u32..).filter(|(mind, _)| mind.is_there) {
            let Some(herd) = herds.get_mut(mind.herd.0 as usize) else { continue };
            let place = mind.motion.at(now);
            let (x, y, count) = herd.sum;
            herd.sum = (x + i64::from(place.x), y + i64::from(place.y), count + 1);
            let flees = mind.goal == Goal::Flee && mind.first_hand;
            picture.add(Seen { id: mind.id, island: herd.island, place, what: mind.kind, flees, mind: Some(slot) });
        }
        others.iter().for_each(|seen| picture.add(*seen));
        for herd in herds {
            let (x, y, count) = herd.sum;
            herd.centre = (count > 0).then(|| Place::new((x / count.max(1)) as i32, (y / count.max(1)) as i32));
        }
    }

    /// Wakes the minds that have a threat in sight and do not think soon by themselves.
    fn alarm(&mut self, now: u64) {
        let mut woken = Vec::new();
        for threat in self.picture.all().filter(|seen| self.lore.is_threat(seen.what)) {
            self.picture.around(threat.island, threat.place, self.lore.farthest, |seen, squared| {
                let Some(slot) = seen.mind else { return };
                let mind = &self.minds[slot as usize];
                let is_calm = mind.goal != Goal::Flee && now >= mind.thought_at + ALARM_GAP_MS && mind.next_at > now;
                if is_calm
                    && let Some(kind) = self.lore.kind(mind.kind)
                    && thought::alarms(&self.lore, mind, kind, threat.what, squared)
                {
                    woken.push(slot);
                }
            });
        }
        woken.sort_unstable();
        woken.dedup();
        self.counts.alarms += woken.len() as u64;
        woken.into_iter().for_each(|slot| self.wake(now, slot));
    }

    /// Those who are due, in the order of their numbers.
    fn prepare(&mut self, now: u64) -> Vec<u32> {
        let mut due: Vec<(ObjectId, u32)> = Vec::new();
        while due.len() < THOUGHTS
            && let Some(Reverse((at, slot))) = self.schedule.peek().copied()
            && at <= now
        {
            self.schedule.pop();
            let mind = &mut self.minds[slot as usize];
            if !mind.is_there || mind.paused || mind.next_at != at {
                continue;
            }
            if self.herds.get(mind.herd.0 as usize).is_none_or(|herd| herd.held) {
                mind.next_at = now + self.longest_ms.min(1_000);
                self.schedule.push(Reverse((mind.next_at, slot)));
                continue;
            }
            due.push((mind.id, slot));
        }
        due.sort_unstable();
        due.dedup();
        due.into_iter().map(|(_, slot)| slot).collect()
    }

    fn overlay<'a>(&'a self, herd: &'a Herd) -> Overlay<'a> {
        Overlay { ground: &*herd.ground, blocked: self.blocked.get(&herd.island).unwrap_or(&self.nothing) }
    }

    fn think(&self, now: u64, slot: u32) -> Option<Decision> {
        let mind = self.minds.get(slot as usize)?;
        let herd = self.herds.get(mind.herd.0 as usize)?;
        let ground = self.overlay(herd);
        let scene = Scene { lore: &self.lore, picture: &self.picture, ground, herd, now, seed: self.seed };
        Some(thought::think(slot, mind, &scene))
    }

    /// What those who are due decide, in their order, whatever the number of threads.
    fn execute(&self, now: u64, due: &[u32]) -> Vec<Decision> {
        let all = |slots: &[u32]| slots.iter().filter_map(|slot| self.think(now, *slot)).collect::<Vec<_>>();
        let threads = self.threads.min(due.len().div_ceil(SHARE)).max(1);
        if threads == 1 {
            return all(due);
        }
        let (own, rest) = due.split_at(due.len().div_ceil(threads));
        std::thread::scope(|scope| {
            let shares = rest.chunks(due.len().div_ceil(threads));
            let helpers: Vec<_> = shares.map(|slots| scope.spawn(move || all(slots))).collect();
            let mut decisions = all(own);
            for helper in helpers {
                match helper.join() {
                    Ok(more) => decisions.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            decisions
        })
    }

    fn apply(&mut self, world: &mut GameWorld, now: u64, decisions: Vec<Decision>) -> Vec<Strike> {
        let mut strikes = Vec::new();
        self.counts.decisions += decisions.len() as u64;
        for decision in decisions {
            let Minds { minds, herds, blocked, nothing, schedule, .. } = self;
            let mind = &mut minds[decision.slot as usize];
            let Some(herd) = herds.get(mind.herd.0 as usize) else { continue };
            (mind.drives, mind.goal, mind.thought_at) = (decision.drives, decision.goal, now);
            (mind.legs, mind.count, mind.first_hand) = (decision.legs, mind.count + 1, decision.first_hand);
            match decision.step {
                Step::Keep => {}
                Step::Stand if !mind.motion.is_moving(now) => {}
                Step::Stand => mind.motion = world.stop(now, mind.id).unwrap_or(mind.motion),
                Step::Walk(to, speed) => {
                    let blocked = blocked.get(&herd.island).unwrap_or(nothing);
                    // Blocked: it stays as it is, and thinks again.
                    mind.motion = world.walk_around(now, mind.id, blocked, to, speed).unwrap_or(mind.motion);
                }
            }
            show(world, now, mind, decision.pose);
            strikes.extend(decision.strikes.map(|prey| Strike { hunter: mind.id, prey }));
            let mut next_at = now + decision.next_ms.clamp(LEAST_MS, self.longest_ms);
            if decision.on_arrival && mind.motion.is_moving(now) {
                next_at = next_at.min(mind.motion.ends()).max(now + LEAST_MS);
            }
            mind.next_at = next_at;
            schedule.push(Reverse((next_at, decision.slot)));
        }
        strikes
    }
}

/// Lets others see what an animal does, and how it has healed.
fn show(world: &mut GameWorld, now: u64, mind: &mut Mind, pose: u8) {
    let health = percent(mind.drives.health);
    let healed = health >= mind.shown_health.saturating_add(HEALED) || (health == 100 && mind.shown_health < 100);
    if pose == mind.pose && !healed {
        return;
    }
    (mind.pose, mind.shown_health) = (pose, health);
    world.change(now, mind.id, |body| {
        if let Body::Animal(animal) = body {
            (animal.pose, animal.health) = (pose, health);
        }
    });
}

/// A share of health in percent; what is not dead has at least one.
pub fn percent(health: f32) -> u8 {
    match (health.clamp(0.0, 1.0) * 100.0) as u8 {
        0 if health > 0.0 => 1,
        percent => percent,
    }
}
