//! `wildmesh bench day`: a day of a small world's animals, the same for the same seed, whatever the number of threads.
//!
//! The zoo's own rules without sockets and documents: habitats wake where watchers wander and sleep where nobody looks, with
//! what is kept in memory; minds think, hunters kill, the dead are replaced. The world ticks five times a second, a day has
//! 1,440 seconds: a minute for an hour. The trace is a hash of every frame of the day and of all that is there in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use cartographer::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use cartographer::terrain::Terrain;
use cartographer::world::WorldConfig;
use serde_json::{Map, Value, json};

use super::maker::{self, Drawing, SIDE};
use crate::cli::BenchDay;
use crate::commands::bench_estate::scratch;
use crate::game::content::{Content, Species};
use crate::game::minds::lore::{Lore, What};
use crate::game::minds::picture::Seen;
use crate::game::minds::thought::mix;
use crate::game::minds::{Minds, Strike};
use crate::game::player::Player;
use crate::game::{Body, GameWorld};
use crate::zoo::dens::{self, Dens, Moment, Struck};
use crate::zoo::habitats::{self, HabitatId};

/// The length of a day, in seconds of the world's time.
pub const DAY_S: u64 = 1_440;
/// Between two ticks, in milliseconds.
const TICK_MS: u64 = 200;
/// The second of the calendar at which the day begins.
const BEGIN_S: u64 = 1_800_000_000;
/// The islands.
const ISLANDS: u32 = 3;
/// Those who look.
const WATCHERS: u64 = 6;
/// How far they see, in tiles, and how fast they walk, in units per second.
const SIGHT_TILES: i32 = 40;
const SPEED: i32 = 800;
/// How long a habitat stays awake that nobody watches, in milliseconds.
const LINGER_MS: u64 = 5_000;

/// Runs the command.
pub fn run(bench: &BenchDay) -> Result<()> {
    let folder = scratch("day")?;
    let done = islands(&folder.join("islands")).map(|islands| {
        let mut day = Day::new(bench.seed, usize::from(bench.threads), islands);
        day.pass(bench.seconds);
        day.told(bench)
    });
    std::fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))?;
    let told = done?;
    eprintln!(
        "a day of {} s with seed {}: {} habitats woke, {} decisions, {} animals died; trace {}",
        bench.seconds,
        bench.seed,
        told["woken"],
        told["decisions"],
        told["died"],
        told["trace"].as_str().unwrap_or_default(),
    );
    if bench.json {
        println!("{told}");
    }
    Ok(())
}

/// The day's islands, drawn in this folder and opened.
pub(super) fn islands(folder: &Path) -> Result<BTreeMap<IslandId, Arc<Terrain>>> {
    maker::begin(folder)?;
    let names = ["goat", "wolf", "goat", "wild_boar", "goat", "wolf", "goat", "wild_boar", "goat"];
    let habitats = names.map(|name| (name.to_owned(), if name == "goat" { 16 } else { 4 })).to_vec();
    let drawing = Drawing { naturals: 100, habitats, rocks: 40 };
    (1..=ISLANDS).try_for_each(|island| maker::island(folder, island, &drawing))?;
    let opened = cartographer::terrain::open_folder(folder)?;
    Ok(opened.into_iter().map(|terrain| (terrain.id(), Arc::new(terrain))).collect())
}

/// The bundled content, with wolves that hunt its goats.
fn content() -> Content {
    let mut content = (*Content::bundled()).clone();
    if let Some(boar) = content.species.get("wild_boar").cloned() {
        let hunts = vec!["goat".to_owned()];
        let wolf = Species { hunts, fear: 15, herd: 50, run_speed: 1_000, sight_tiles: 14, harm: 20, ..boar };
        content.species.insert("wolf".to_owned(), wolf);
    }
    content
}

/// Somebody who wanders about and looks.
struct Watcher {
    id: ObjectId,
    island: IslandId,
    to: Place,
    choices: u64,
}

/// A day.
pub(super) struct Day {
    seed: u64,
    now: u64,
    world: GameWorld,
    minds: Minds,
    dens: Dens,
    islands: BTreeMap<IslandId, Arc<Terrain>>,
    watchers: Vec<Watcher>,
    /// What was kept of habitats that sleep, and their last epochs.
    kept: BTreeMap<HabitatId, (u64, Map<String, Value>)>,
    unwatched: BTreeMap<HabitatId, u64>,
    woken: u64,
    died: u64,
    most_awake: usize,
}

impl Day {
    pub(super) fn new(seed: u64, threads: usize, islands: BTreeMap<IslandId, Arc<Terrain>>) -> Day {
        let mut world = GameWorld::new(WorldConfig::new(1));
        for (id, terrain) in &islands {
            world.add_island(*id, terrain.clone());
        }
        let minds = Minds::new(Arc::new(Lore::new(&content())), seed, threads);
        let mut watchers = Vec::new();
        for i in 0..WATCHERS {
            let (id, island) = (ObjectId(1 + i), IslandId(1 + (i % u64::from(ISLANDS)) as u32));
            let place = islands.get(&island).map_or(Place::default(), |terrain| terrain.arrival(mix(seed ^ i)));
            let body = Body::Player(Player { name: format!("watcher {i}"), health: 100, ..Player::default() });
            // A place of a terrain of ours is on its island.
            let _ = world.spawn(0, id, Epoch(1), island, place, body, false);
            watchers.push(Watcher { id, island, to: place, choices: seed ^ mix(id.0) });
        }
        Day {
            seed,
            now: 0,
            world,
            minds,
            dens: Dens::default(),
            islands,
            watchers,
            kept: BTreeMap::new(),
            unwatched: BTreeMap::new(),
            woken: 0,
            died: 0,
            most_awake: 0,
        }
    }

    /// Lets so many seconds pass.
    pub(super) fn pass(&mut self, seconds: u64) {
        for tick in 0..seconds * 1_000 / TICK_MS {
            self.now += TICK_MS;
            self.world.tick(self.now);
            self.wander();
            if tick.is_multiple_of(1_000 / TICK_MS) {
                self.look();
                let at = self.moment();
                self.dens.replace_dead(&mut self.world, &mut self.minds, at);
            }
            if self.minds.is_due(self.now) {
                let players: Vec<Seen> = self.watchers.iter().filter_map(|watcher| self.player(watcher)).collect();
                let strikes = self.minds.tick(&mut self.world, self.now, &players);
                strikes.into_iter().for_each(|strike| self.strike(strike));
            }
        }
    }

    /// A number for all that happened.
    pub(super) fn trace(&self) -> u64 {
        mix(self.world.trace_hash() ^ mix(self.died ^ mix(self.minds.counts().decisions)))
    }

    fn told(&self, bench: &BenchDay) -> Value {
        let habitats: usize = self.islands.values().map(|terrain| terrain.habitats().len()).sum();
        let animals = self.islands.values().flat_map(|terrain| terrain.habitats()).map(|it| u64::from(it.animals));
        json!({
            "seed": self.seed, "threads": bench.threads, "day_s": bench.seconds, "tick_ms": TICK_MS,
            "islands": self.islands.len(), "habitats": habitats, "animals": animals.sum::<u64>(),
            "woken": self.woken, "most_awake": self.most_awake, "decisions": self.minds.counts().decisions,
            "alarms": self.minds.counts().alarms, "died": self.died, "trace": format!("{:016x}", self.trace()),
        })
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, now_s: BEGIN_S + self.now / 1_000 }
    }

    fn player(&self, watcher: &Watcher) -> Option<Seen> {
        let place = self.world.get(watcher.id)?.place(self.now);
        Some(Seen { id: watcher.id, island: watcher.island, place, what: What::PLAYER, flees: false, mind: None })
    }

    /// Watchers walk from place to place, and now and then sail to another island.
    fn wander(&mut self) {
        for watcher in &mut self.watchers {
            let Some(real) = self.world.get(watcher.id) else { continue };
            if real.motion().is_moving(self.now) {
                continue;
            }
            watcher.choices = mix(watcher.choices);
            let (bits, place) = (watcher.choices, real.place(self.now));
            if bits.is_multiple_of(8) {
                let island = IslandId(1 + (bits >> 32) as u32 % ISLANDS);
                let Some(terrain) = self.islands.get(&island) else { continue };
                if self.world.teleport(self.now, watcher.id, island, terrain.arrival(bits)).is_ok() {
                    watcher.island = island;
                }
                continue;
            }
            let along = |bits: u64| (bits % u64::from(SIDE)) as i32 * 256 + 128;
            watcher.to = Place::new(along(bits >> 16), along(bits >> 40));
            // Blocked: another place is tried at the next tick.
            let _ = self.world.walk(self.now, watcher.id, place, watcher.to, SPEED);
        }
    }

    /// Wakes the habitats that are seen, and puts those to sleep that nobody has seen for a while.
    fn look(&mut self) {
        let mut cells = BTreeSet::new();
        for watcher in &self.watchers {
            let Some(place) = self.world.get(watcher.id).map(|real| real.place(self.now)) else { continue };
            let reach = SIGHT_TILES * 256;
            let along = |at: i32, by: i32| at.saturating_add(by).clamp(0, i32::from(SIDE) * 256 - 1) / Cell::UNITS;
            for y in along(place.y, -reach)..=along(place.y, reach) {
                cells.extend(
                    (along(place.x, -reach)..=along(place.x, reach))
                        .map(|x| Cell::new(watcher.island, x as u16, y as u16)),
                );
            }
        }
        let seen = habitats::watched(&cells, |island| self.islands.get(&island).cloned());
        let at = self.moment();
        for id in &seen {
            self.unwatched.remove(id);
            let Some(terrain) = self.islands.get(&id.island).filter(|_| self.dens.get(*id).is_none()) else { continue };
            let (epoch, state) = self.kept.remove(id).unwrap_or_default();
            let Day { dens, world, minds, .. } = self;
            if dens.wake(world, minds, at, *id, terrain, epoch + 1, &state, |_| None) {
                self.woken += 1;
            }
        }
        self.most_awake = self.most_awake.max(self.minds.len());
        let awake: Vec<HabitatId> = self.dens.ids().filter(|id| !seen.contains(id)).collect();
        for id in awake {
            let since = *self.unwatched.entry(id).or_insert(self.now);
            let Some(epoch) = self.dens.get(id).map(|den| den.epoch).filter(|_| self.now >= since + LINGER_MS) else {
                continue;
            };
            let state = self.dens.state(&self.world, &self.minds, at, id);
            self.dens.sleep(&mut self.world, &mut self.minds, self.now, id);
            self.kept.insert(id, (epoch, state));
            self.unwatched.remove(&id);
        }
    }

    fn strike(&mut self, strike: Strike) {
        let Strike { hunter, prey } = strike;
        let kind = self.minds.get(hunter).and_then(|mind| self.minds.lore().kind(mind.kind));
        let (Some(harm), at) = (kind.map(|kind| kind.species.harm), self.moment()) else { return };
        if self.dens.strike(&mut self.world, &mut self.minds, at, prey, harm) == Struck::Dead {
            self.died += 1;
            self.dens.bury(&mut self.world, self.now, prey);
            dens::fed(&mut self.minds, self.now, hunter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(seed: u64, threads: usize, folder: &Path) -> (u64, u64, u64) {
        let islands = islands(&folder.join(format!("{seed}-{threads}"))).expect("drawn and opened");
        let mut day = Day::new(seed, threads, islands);
        day.pass(DAY_S / 12);
        assert!(day.woken > 3 && day.minds.counts().decisions > 2_000, "{:?}", day.told_of());
        (day.trace(), day.minds.counts().decisions, day.died)
    }

    impl Day {
        fn told_of(&self) -> (u64, usize, u64) {
            (self.woken, self.most_awake, self.minds.counts().decisions)
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_day_with_one_and_with_two_threads_and_another_seed_another() {
        let folder = scratch("day-test").expect("a folder");
        let (one, two, other) = (day(1, 1, &folder), day(1, 2, &folder), day(2, 1, &folder));
        std::fs::remove_dir_all(&folder).expect("ours");
        assert_eq!(one, two);
        assert_ne!(one.0, other.0);
    }
}
