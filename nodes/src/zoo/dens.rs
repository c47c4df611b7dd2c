//! The habitats that are awake here: their animals, from waking to falling asleep, and what is kept of them.
//!
//! An animal wakes where it was when its habitat fell asleep, or fresher, where a ghost of it stood; one that is new is put
//! somewhere in the habitat that depends on nothing but its number. What passes while nobody looks is a function of the
//! calendar: wounds heal, hunger grows, and the dead are replaced. Who dies lies where it fell, seen by all with no health
//! left, until its death is known to be saved: so whoever takes over knows of it, by the document or by the sight of it.
//! Synchronous; it NEVER asks for a document or a clock.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Where it was going, and how fast, in units per second.
    pub walks: Option<(Place, i32)>,
    /// How it was, if that is fresher than what was saved too.
    pub fitness: Option<Fitness>,
}

/// What else a ghost tells of an animal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitness {
    /// Its health in percent; 0: it is dead.
    pub health: u8,
    /// The battle that has control of it; 0 if it is in none.
    pub battle: u64,
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
    /// Those of the dead who are still to be seen.
    corpses: BTreeSet<u16>,
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
    battle: u64,
    walks: Option<(Place, i32)>,
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
    let battle = |row: Vec<i64>| {
        let &[index, battle] = row.as_slice() else { return None };
        Some((u16::try_from(index).ok()?, u64::try_from(battle).ok()?))
    };
    let battles: BTreeMap<u16, u64> = rows("battles").filter_map(battle).collect();
    let animal = |row: Vec<i64>| {
        let &[index, x, y, health, hunger, fatigue] = row.as_slice() else { return None };
        let place = Place::new(i32::try_from(x).ok()?, i32::try_from(y).ok()?);
        let drives = Drives {
            hunger: share(hunger),
            fatigue: share(fatigue),
            health: share(health.max(1)),
            ..Drives::default()
        };
        let index = u16::try_from(index).ok()?;
        let drives = drives.after(slept_ms, Goal::Sleep, heal_per_minute);
        Some((index, Kept { place, drives, battle: battles.get(&index).copied().unwrap_or(0), walks: None }))
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
        let mut den = Den { herd, epoch, births: 0, what, terrain: terrain.clone(), deaths, corpses: BTreeSet::new() };
        den.bury(minds.lore(), at.now_s);
        for index in 0..habitat.animals {
            if den.deaths.contains_key(&index) {
                continue;
            }
            let mut one = kept.get(&index).copied();
            if let Some(Last { place, walks, fitness }) = last(den.animal(id, index)) {
                let mut drives = one.map_or(Drives::default(), |kept| kept.drives);
                let mut battle = one.map_or(0, |kept| kept.battle);
                if let Some(fitness) = fitness {
                    if fitness.health == 0 {
                        // It died, and its owner with it before the death was saved.
                        den.deaths.insert(index, at.now_s);
                        continue;
                    }
                    drives.health = f32::from(fitness.health.min(100)) / 100.0;
                    battle = fitness.battle;
                }
                one = Some(Kept { place, drives, battle, walks });
            }
            den.spawn(world, minds, at.now, id, index, one);
        }
        self.animals += usize::from(habitat.animals);
        self.dens.insert(id, den);
        true
    }

    /// What is to be kept of a habitat: `{"saved_s", "animals": [[index, x, y, health, hunger, fatigue]…], "deaths": [[index,
    /// at_s]…], "battles": [[index, battle]…], "epoch"}`, shares in percent; `epoch` is that under which it is saved.
    pub fn state(&self, world: &GameWorld, minds: &Minds, at: Moment, id: HabitatId) -> Map<String, Value> {
        let Some(den) = self.dens.get(&id) else { return Map::new() };
        let (mut animals, mut battles, mut fallen) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..den.size(id) {
            let object = den.animal(id, index);
            if let (Some(real), Some(drives)) = (world.get(object), minds.drives(at.now, object)) {
                if percent(drives.health) == 0 {
                    // Its battle has told so, and gives it back dead in a moment.
                    fallen.push(json!([index, at.now_s]));
                    continue;
                }
                let Place { x, y } = real.place(at.now);
                let share = |drive: f32| (drive * 100.0) as u8;
                animals.push(json!([index, x, y, percent(drives.health), share(drives.hunger), share(drives.fatigue)]));
                if let Body::Animal(Animal { battle, .. }) = real.body()
                    && *battle != 0
                {
                    battles.push(json!([index, battle]));
                }
            }
        }
        let deaths = den.deaths.iter().map(|(index, at_s)| json!([index, at_s]));
        let deaths: Vec<Value> = deaths.chain(fallen).collect();
        let fields = [
            ("saved_s", at.now_s.into()),
            ("animals", animals.into()),
            ("deaths", deaths.into()),
            ("battles", battles.into()),
            ("epoch", den.epoch.into()),
        ];
        fields.map(|(name, value): (&str, Value)| (name.to_owned(), value)).into_iter().collect()
    }

    /// Takes a habitat's animals out of the world; nothing is kept here.
    pub fn sleep(&mut self, world: &mut GameWorld, minds: &mut Minds, now: u64, id: HabitatId) -> bool {
        let Some(den) = self.dens.remove(&id) else { return false };
        let size = den.size(id);
        for index in 0..size {
            let object = den.animal(id, index);
            // Only what has its mind here is ours: a number may clash with another object's.
            if minds.remove(object).is_some() || den.corpses.contains(&index) {
                world.remove(now, object);
            }
        }
        minds.remove_herd(den.herd);
        self.animals -= usize::from(size);
        true
    }

    /// An animal has died. It lies there until [`Dens::bury`]; false if it is not here, or dead already.
    pub fn died(&mut self, world: &mut GameWorld, minds: &mut Minds, at: Moment, animal: ObjectId) -> bool {
        let (Some(id), Some(AnimalId { index, .. })) = (self.of(animal), AnimalId::of(animal)) else { return false };
        let Some(den) = self.dens.get_mut(&id).filter(|_| minds.remove(animal).is_some()) else { return false };
        den.deaths.insert(index, at.now_s);
        den.corpses.insert(index);
        let _ = world.stop(at.now, animal);
        world.change(at.now, animal, |body| {
            if let Body::Animal(animal) = body {
                (animal.health, animal.battle, animal.pose) = (0, 0, pose::DEFEATED);
            }
        });
        true
    }

    /// A death is saved: the dead is seen no more.
    pub fn bury(&mut self, world: &mut GameWorld, now: u64, animal: ObjectId) {
        let (Some(id), Some(AnimalId { index, .. })) = (self.of(animal), AnimalId::of(animal)) else { return };
        if self.dens.get_mut(&id).is_some_and(|den| den.corpses.remove(&index)) {
            world.remove(now, animal);
        }
    }

    /// Whether an animal has died and is still to be seen.
    pub fn is_corpse(&self, animal: ObjectId) -> bool {
        let index = AnimalId::of(animal).map(|it| it.index);
        let den = self.of(animal).and_then(|id| self.dens.get(&id));
        den.zip(index).is_some_and(|(den, index)| den.corpses.contains(&index))
    }

    /// The animals of a habitat that are in battles, and in which.
    pub fn fighters(&self, world: &GameWorld, id: HabitatId) -> Vec<(ObjectId, u64)> {
        let fights = |object: ObjectId| match world.get(object).map(|real| real.body()) {
            Some(Body::Animal(Animal { battle, .. })) if *battle != 0 => Some((object, *battle)),
            _ => None,
        };
        self.objects(id).into_iter().filter_map(fights).collect()
    }

    /// The numbers of a habitat's animals, dead or alive.
    pub fn objects(&self, id: HabitatId) -> Vec<ObjectId> {
        let Some(den) = self.dens.get(&id) else { return Vec::new() };
        (0..den.size(id)).map(|index| den.animal(id, index)).collect()
    }

    /// Whether another node shows some animal of a habitat that is here, under a higher epoch, and whether it shows all.
    pub fn is_outranked(&self, world: &GameWorld, id: HabitatId) -> (bool, bool) {
        let (mut some, mut all) = (false, true);
        for object in self.objects(id) {
            let Some(ours) = world.get(object).map(|real| real.epoch()) else { continue };
            let outranked = world.ghost(object).is_some_and(|ghost| ghost.epoch() > ours);
            (some, all) = (some || outranked, all && outranked);
        }
        (some, all)
    }

    /// An animal is struck by one whose blow takes so much of a player's health.
    pub fn strike(&mut self, world: &mut GameWorld, minds: &mut Minds, at: Moment, prey: ObjectId, harm: u8) -> Struck {
        let body = world.get(prey).filter(|_| self.of(prey).is_some()).map(|real| real.body());
        let Some(Body::Animal(animal)) = body.filter(|_| !self.is_corpse(prey)) else { return Struck::Missing };
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
                if den.corpses.remove(&index) {
                    world.remove(at.now, den.animal(*id, index));
                }
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
        let battle = kept.map_or(0, |kept| kept.battle);
        let animal = Animal {
            species,
            hue: (mix(object.0) % 360) as u16,
            pose: pose::IDLE,
            health: percent(drives.health),
            herd: u64::from(id.index) + 1,
            battle,
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
        // Who was under way goes on; one that is blocked stands, and thinks again.
        let walks = kept.and_then(|kept| kept.walks).filter(|_| battle == 0);
        let motion = walks.and_then(|(to, speed)| world.walk(now, object, place, to, speed).ok());
        minds.add(now, object, self.herd, self.what, drives, motion.unwrap_or(Motion::standing(place, now)));
        if battle != 0 {
            minds.pause(now, object, true, Motion::standing(place, now));
        }
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
