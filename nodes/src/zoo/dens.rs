//! The habitats that are awake here: their animals, from waking to falling asleep, and what is kept of them.
//!
//! An animal wakes where it was when its habitat fell asleep, or fresher, where a ghost of it stood; one that is new is put
//! somewhere in the habitat that depends on nothing but its number. What passes while nobody looks is a function of the
//! calendar: wounds heal, hunger grows, and the dead are replaced. Synchronous; it NEVER asks for a document or a clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use cartographer::geometry::{Epoch, ObjectId, Place};
use cartographer::ground::Ground;
use cartographer::motion::Motion;
use cartographer::terrain::Terrain;
use serde_json::{Map, Value, json};

use super::habitats::HabitatId;
use crate::game::animal::{Animal, AnimalId};
use crate::game::minds::drives::{Drives, Goal};
use crate::game::minds::lore::{Lore, What};
use crate::game::minds::thought::mix;
use crate::game::minds::{HerdId, Minds, percent};
use crate::game::{Body, GameWorld, pose};

/// Places that are tried for a new animal.
const TRIES: u64 = 64;

/// How much less hungry prey makes.
const MEAL: f32 = 0.6;

/// The moment at which something happens, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds of the node's clock.
    pub now: u64,
    /// Seconds of the calendar.
    pub now_s: u64,
}

/// What is known of an animal besides what was saved: how its ghost was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Where.
    pub place: Place,
    /// Its health in percent.
    pub health: u8,
}

/// What became of a blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    /// There is no such animal here.
    Missing,
    /// It is in this battle, and cannot be struck from outside.
    InBattle(u64),
    /// It lives.
    Hurt,
    /// It is dead.
    Dead,
}

/// Births that epochs tell apart during one post. Beyond it the newborn is not shown until the habitat has slept.
const BIRTHS: u64 = (1 << BIRTH_BITS) - 1;
const BIRTH_BITS: u32 = 16;

/// The epoch of an animal: whoever takes the place of a dead one has its number, and MUST have a higher epoch.
pub fn epoch_under(post: u64, births: u64) -> Epoch {
    Epoch(post << BIRTH_BITS | births)
}

/// The epoch of the post under which an animal has this epoch.
pub fn post_of(epoch: Epoch) -> u64 {
    epoch.0 >> BIRTH_BITS
}

/// A habitat that is awake.
#[derive(Debug)]
pub struct Den {
    /// Its herd's minds.
    pub herd: HerdId,
    /// The epoch of its post.
    pub epoch: u64,
    /// How many animals took the places of dead ones since it woke.
    births: u64,
    /// The species.
    pub what: What,
    terrain: Arc<Terrain>,
    /// When those that are dead died, in seconds of the calendar.
    deaths: BTreeMap<u16, u64>,
}

/// The habitats that are awake.
#[derive(Debug, Default)]
pub struct Dens {
    dens: BTreeMap<HabitatId, Den>,
    animals: usize,
}

/// What was saved of one animal: `[index, x, y, health, hunger, fatigue]`.
#[derive(Clone, Copy, Debug)]
struct Kept {
    place: Place,
    drives: Drives,
}

/// Reads what was kept of a habitat. What cannot be read is as if it had not been kept.
fn read(state: &Map<String, Value>, now_s: u64, heal_per_minute: u8) -> (BTreeMap<u16, Kept>, BTreeMap<u16, u64>) {
    let rows = |name: &str| {
        let rows = state.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        rows.iter().filter_map(|row| row.as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>())
    };
    let saved_s = state.get("saved_s").and_then(Value::as_u64).unwrap_or(now_s);
    let slept_ms = now_s.saturating_sub(saved_s).saturating_mul(1_000);
    let share = |percent: i64| percent.clamp(0, 100) as f32 / 100.0;
    let animal = |row: Vec<i64>| {
        let &[index, x, y, health, hunger, fatigue] = row.as_slice() else { return None };
        let place = Place::new(i32::try_from(x).ok()?, i32::try_from(y).ok()?);
        let drives = Drives {
            hunger: share(hunger),
            fatigue: share(fatigue),
            health: share(health.max(1)),
            ..Drives::default()
        };
        Some((u16::try_from(index).ok()?, Kept { place, drives: drives.after(slept_ms, Goal::Sleep, heal_per_minute) }))
    };
    let death = |row: Vec<i64>| {
        let &[index, at_s] = row.as_slice() else { return None };
        // A death in the future is a wrong clock's: it counts from now on.
        Some((u16::try_from(index).ok()?, u64::try_from(at_s).ok()?.min(now_s)))
    };
    (rows("animals").filter_map(animal).collect(), rows("deaths").filter_map(death).collect())
}

impl Dens {
    /// Habitats that are awake.
    pub fn ids(&self) -> impl Iterator<Item = HabitatId> {
        self.dens.keys().copied()
    }

    /// How many are awake.
    pub fn len(&self) -> usize {
        self.dens.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.dens.is_empty()
    }

    /// Animals that habitats which are awake may have, the dead included.
    pub fn animals(&self) -> usize {
        self.animals
    }

    /// A habitat that is awake.
    pub fn get(&self, id: HabitatId) -> Option<&Den> {
        self.dens.get(&id)
    }

    /// The habitat of an animal, if it is awake.
    pub fn of(&self, animal: ObjectId) -> Option<HabitatId> {
        let AnimalId { island, habitat, .. } = AnimalId::of(animal)?;
        let id = HabitatId { island, index: habitat };
        self.dens.contains_key(&id).then_some(id)
    }

    /// Wakes a habitat under the epoch of its post; false if it has no species of ours, or is awake already. `last` tells how an
    /// animal's ghost was, if that is fresher than what was saved.
    #[expect(clippy::too_many_arguments, reason = "waking joins all of these")]
    pub fn wake(
        &mut self,
        world: &mut GameWorld,
        minds: &mut Minds,
        at: Moment,
        id: HabitatId,
        terrain: &Arc<Terrain>,
        epoch: u64,
        state: &Map<String, Value>,
        last: impl Fn(ObjectId) -> Option<Last>,
    ) -> bool {
        let Some(habitat) = terrain.habitats().get(usize::from(id.index)) else { return false };
        let Some(what) = minds.lore().number(&habitat.species) else { return false };
        if self.dens.contains_key(&id) {
            return false;
        }
        let (kept, deaths) = read(state, at.now_s, minds.lore().tuning.heal_per_minute);
        let herd = minds.add_herd(id.island, terrain.clone(), habitat.clone());
        let mut den = Den { herd, epoch, births: 0, what, terrain: terrain.clone(), deaths };
        den.bury(minds.lore(), at.now_s);
        for index in 0..habitat.animals {
            if den.deaths.contains_key(&index) {
                continue;
            }
            let mut one = kept.get(&index).copied();
            if let Some(last) = last(den.animal(id, index)) {
                let mut drives = one.map_or(Drives::default(), |kept| kept.drives);
                drives.health = f32::from(last.health.clamp(1, 100)) / 100.0;
                one = Some(Kept { place: last.place, drives });
            }
            den.spawn(world, minds, at.now, id, index, one);
        }
        self.animals += usize::from(habitat.animals);
        self.dens.insert(id, den);
        true
    }

    /// What is to be kept of a habitat: `{"saved_s", "animals": [[index, x, y, health, hunger, fatigue]…], "deaths": [[index,
    /// at_s]…]}`, shares in percent.
    pub fn state(&self, world: &GameWorld, minds: &Minds, at: Moment, id: HabitatId) -> Map<String, Value> {
        let Some(den) = self.dens.get(&id) else { return Map::new() };
        let mut animals = Vec::new();
        for index in 0..den.size(id) {
            let object = den.animal(id, index);
            if let (Some(real), Some(drives)) = (world.get(object), minds.drives(at.now, object)) {
                let Place { x, y } = real.place(at.now);
                let share = |drive: f32| (drive * 100.0) as u8;
                animals.push(json!([index, x, y, percent(drives.health), share(drives.hunger), share(drives.fatigue)]));
            }
        }
        let deaths: Vec<Value> = den.deaths.iter().map(|(index, at_s)| json!([index, at_s])).collect();
        let fields = [("saved_s", at.now_s.into()), ("animals", animals.into()), ("deaths", deaths.into())];
        fields.map(|(name, value): (&str, Value)| (name.to_owned(), value)).into_iter().collect()
    }

    /// Takes a habitat's animals out of the world; nothing is kept here.
    pub fn sleep(&mut self, world: &mut GameWorld, minds: &mut Minds, now: u64, id: HabitatId) -> bool {
        let Some(den) = self.dens.remove(&id) else { return false };
        let size = den.size(id);
        for index in 0..size {
            let object = den.animal(id, index);
            // Only what has its mind here is ours: a number may clash with another object's.
            if minds.remove(object).is_some() {
                world.remove(now, object);
            }
        }
        minds.remove_herd(den.herd);
        self.animals -= usize::from(size);
        true
    }

    /// An animal has died.
    pub fn died(&mut self, world: &mut GameWorld, minds: &mut Minds, at: Moment, animal: ObjectId) {
        let (Some(id), Some(AnimalId { index, .. })) = (self.of(animal), AnimalId::of(animal)) else { return };
        if minds.remove(animal).is_none() {
            return;
        }
        world.remove(at.now, animal);
        if let Some(den) = self.dens.get_mut(&id) {
            den.deaths.insert(index, at.now_s);
        }
    }

    /// An animal is struck by one whose blow takes so much of a player's health.
    pub fn strike(&mut self, world: &mut GameWorld, minds: &mut Minds, at: Moment, prey: ObjectId, harm: u8) -> Struck {
        let body = world.get(prey).filter(|_| self.of(prey).is_some()).map(|real| real.body());
        let Some(Body::Animal(animal)) = body else { return Struck::Missing };
        if animal.battle != 0 {
            return Struck::InBattle(animal.battle);
        }
        let species = minds.lore().number(&animal.species).and_then(|what| minds.lore().kind(what));
        let toughness = u32::from(species.map_or(100, |kind| kind.species.toughness).max(1));
        let loss = (u32::from(harm) * 100 / toughness).clamp(1, 100) as u8;
        let health = animal.health.saturating_sub(loss);
        if health == 0 {
            self.died(world, minds, at, prey);
            return Struck::Dead;
        }
        set_health(world, minds, at.now, prey, health);
        minds.change(at.now, prey, |drives| drives.dread = 1.0);
        Struck::Hurt
    }

    /// Puts others in the place of those who died long enough ago; returns how many.
    pub fn replace_dead(&mut self, world: &mut GameWorld, minds: &mut Minds, at: Moment) -> usize {
        let mut replaced = 0;
        for (id, den) in &mut self.dens {
            for index in den.bury(minds.lore(), at.now_s) {
                den.births = (den.births + 1).min(BIRTHS);
                replaced += usize::from(den.spawn(world, minds, at.now, *id, index, None));
            }
        }
        replaced
    }
}

impl Den {
    fn size(&self, id: HabitatId) -> u16 {
        self.terrain.habitats().get(usize::from(id.index)).map_or(0, |habitat| habitat.animals)
    }

    fn animal(&self, id: HabitatId, index: u16) -> ObjectId {
        AnimalId { island: id.island, habitat: id.index, index }.object()
    }

    /// Forgets those who died so long ago that others take their places, and returns them.
    fn bury(&mut self, lore: &Lore, now_s: u64) -> Vec<u16> {
        if self.deaths.is_empty() {
            return Vec::new();
        }
        let respawn_s = lore.kind(self.what).map_or(0, |kind| kind.species.respawn_s);
        let due = self.deaths.iter().filter(|(_, at_s)| now_s >= at_s.saturating_add(respawn_s));
        let due: Vec<u16> = due.map(|(index, _)| *index).collect();
        self.deaths.retain(|index, _| !due.contains(index));
        due
    }

    fn spawn(
        &self,
        world: &mut GameWorld,
        minds: &mut Minds,
        now: u64,
        id: HabitatId,
        index: u16,
        kept: Option<Kept>,
    ) -> bool {
        let walkable = |place: Place| place.tile().is_some_and(|tile| self.terrain.walkable(tile));
        let kept = kept.filter(|kept| walkable(kept.place));
        let Some(place) = kept.map(|kept| kept.place).or_else(|| self.spread(id, index)) else { return false };
        let drives = kept.map_or_else(|| fresh(self.animal(id, index)), |kept| kept.drives);
        let Some(species) = minds.lore().kind(self.what).map(|kind| kind.name.clone()) else { return false };
        let object = self.animal(id, index);
        let animal = Animal {
            species,
            hue: (mix(object.0) % 360) as u16,
            pose: pose::IDLE,
            health: percent(drives.health),
            herd: u64::from(id.index) + 1,
            battle: 0,
        };
        let spawned = world.spawn(
            now,
            object,
            epoch_under(self.epoch, self.births),
            id.island,
            place,
            Body::Animal(animal),
            false,
        );
        if let Err(refusal) = spawned {
            tracing::warn!(%refusal, object = object.0, habitat = %id, "an animal cannot be here");
            return false;
        }
        minds.add(now, object, self.herd, self.what, drives, Motion::standing(place, now));
        true
    }

    /// Where an animal is when nothing is known of it.
    fn spread(&self, id: HabitatId, index: u16) -> Option<Place> {
        let habitat = self.terrain.habitats().get(usize::from(id.index))?;
        let (first, last) = habitat.bounds;
        let along = |low: i32, high: i32, bits: u64| low + (bits % (high - low).max(1) as u64) as i32;
        let start = mix(self.animal(id, index).0);
        (0..TRIES).find_map(|attempt| {
            let bits = mix(start.wrapping_add(attempt));
            let place = Place::new(along(first.x, last.x, bits & 0xffff_ffff), along(first.y, last.y, bits >> 32));
            // A narrow habitat is hard to hit: in the end anywhere within its bounds will do.
            let inside = attempt >= TRIES / 2 || habitat.contains(place);
            let tile = place.tile().filter(|tile| inside && self.terrain.walkable(*tile))?;
            Some(tile.centre())
        })
    }
}

/// Sets an animal's health, in percent.
pub fn set_health(world: &mut GameWorld, minds: &mut Minds, now: u64, animal: ObjectId, health: u8) {
    let health = health.min(100);
    world.change(now, animal, |body| {
        if let Body::Animal(animal) = body {
            animal.health = health;
        }
    });
    minds.change(now, animal, |drives| drives.health = f32::from(health) / 100.0);
}

/// Prey makes a hunter less hungry.
pub fn fed(minds: &mut Minds, now: u64, hunter: ObjectId) {
    minds.change(now, hunter, |drives| drives.hunger = (drives.hunger - MEAL).max(0.0));
}

/// How a new animal feels: each a little different.
fn fresh(animal: ObjectId) -> Drives {
    let share = |salt: u64| (mix(animal.0 ^ salt) % 1_000) as f32 / 1_000.0;
    Drives { hunger: 0.6 * share(1), fatigue: 0.5 * share(2), boredom: share(3), ..Drives::default() }
}
