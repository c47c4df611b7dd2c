//! `wildmesh bench world`: what a world of the size of Durango's second beta costs on this machine.
//!
//! 836 islands with 3,000,000 mirages and 100,000 animals. Opened, there is no document; a touch is one transaction that makes
//! a mirage an object and pays into a bag, on the embedded store as nodes have it. Then every habitat is woken in one
//! world, with a player on every island, and each mind is made to think at least once a second: decisions per second of
//! processor time count all that comes of them, the world's tick with its frames included. Asleep the same rules run with
//! nobody watching.

pub mod day;
pub(crate) mod maker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cartographer::geometry::{IslandId, ObjectId, Place, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use cartographer::world::WorldConfig;
use estate::goods::{Goods, GoodsEffect, Place as Where};
use estate::kinds;
use estate::land::nature::{self, Growth, Nature, Touch};
use estate::land::{By, Grounds};
use estate::player::{self, Birth};
use estate::store::Store;
use estate::store::embedded::{self, Durability};
use estate::transaction::{NoOwners, OperationId, Transactions};
use hdrhistogram::Histogram;
use serde_json::{Map, json};
use tokio::time::Instant;

use super::bench_estate::{cpu_us, scratch};
use crate::cli::BenchWorld;
use crate::game::GameWorld;
use crate::game::content::Content;
use crate::game::grounds::Terrains;
use crate::game::minds::Minds;
use crate::game::minds::lore::{Lore, What};
use crate::game::minds::picture::Seen;
use crate::game::minds::thought::mix;
use crate::islands::Archipelago;
use crate::zoo::dens::{Dens, Moment};
use crate::zoo::habitats::{self, HabitatId};
use maker::{Drawing, SIDE};

/// Natural objects on each island: on 836 islands 3,000,000.
const NATURALS: usize = 3_589;
/// Habitats on each island, and animals in each: on 836 islands 100,320.
const HABITATS: usize = 4;
const ANIMALS: u16 = 30;
/// Touches that are measured, and those before them that are not.
const TOUCHES: u64 = 2_000;
const WARM_UP: u64 = 100;
/// Players whose bags are paid into.
const PLAYERS: u64 = 64;
/// New islands that are measured.
const NEW_ISLANDS: u32 = 21;
/// Between two ticks of the world, in milliseconds.
const TICK_MS: u64 = 50;
/// For how long nobody watches, in seconds of the world's time.
const ASLEEP_S: u64 = 600;

/// Runs the command.
pub async fn run(bench: BenchWorld) -> Result<()> {
    let folder = scratch("world")?;
    let figures = measure(&bench, &folder).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))?;
    let figures = figures?;
    if bench.json {
        println!("{figures}");
    }
    Ok(())
}

async fn measure(bench: &BenchWorld, folder: &Path) -> Result<serde_json::Value> {
    let islands = folder.join("islands");
    let drawing = draw(&islands, bench.islands)?;
    let started = Instant::now();
    let opened = cartographer::terrain::open_folder(&islands)?;
    let archipelago = Archipelago::new(opened.into_iter().map(Arc::new));
    let mut world = GameWorld::new(WorldConfig::new(1));
    let terrains = archipelago.all();
    for terrain in terrains.iter() {
        world.add_island(terrain.id(), terrain.clone());
    }
    let open_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let mirages: usize = terrains.iter().map(|terrain| terrain.natural_count()).sum();
    eprintln!("{} islands with {mirages} mirages opened in {open_ms:.0} ms", terrains.len());

    let store = embedded::open(&folder.join("store"), Durability::Power).await?;
    let documents = store.scan("", None, estate::store::SCAN_LIMIT).await?.len();
    if documents != 0 {
        bail!("{documents} documents before anything was touched");
    }
    let touch_ms = touches(Arc::new(store), &archipelago).await?;
    let asleep_core_share = asleep(&mut world, &archipelago)?;
    let awake = Awake::wake(&mut world, &archipelago)?;
    let animals_awake = awake.minds.len();
    let memory_mib = memory_mib().context("the memory of this process cannot be read")?;
    let decisions_per_core_s = awake.run(&mut world, bench.seconds);
    let memory_mib = memory_mib.max(self::memory_mib().unwrap_or_default());
    eprintln!("{animals_awake} animals awake; {memory_mib:.0} MiB in all");
    let new_island_ms = new_island(&islands, bench.islands, &drawing, &mut world)?;
    Ok(json!({
        "open_ms": open_ms, "memory_mib": memory_mib, "documents": documents, "touch_ms": touch_ms,
        "animals_awake": animals_awake, "decisions_per_core_s": decisions_per_core_s,
        "asleep_core_share": asleep_core_share, "new_island_ms": new_island_ms,
    }))
}

/// Draws the islands, with habitats of the content's species in turn.
fn draw(folder: &Path, islands: u32) -> Result<Drawing> {
    maker::begin(folder)?;
    let content = Content::bundled();
    let species = content.species.keys().cycle().take(HABITATS);
    let habitats = species.map(|name| (name.clone(), ANIMALS)).collect();
    let drawing = Drawing { naturals: NATURALS, habitats, rocks: 0 };
    (1..=islands).try_for_each(|island| maker::island(folder, island, &drawing))?;
    Ok(drawing)
}

/// The time of touches, one after another: each makes a mirage an object and puts wood into a bag, durably.
async fn touches(store: Arc<dyn Store>, islands: &Archipelago) -> Result<serde_json::Value> {
    let grounds = Arc::new(Terrains::new(islands));
    let owners = Arc::new(NoOwners { all_gone: true });
    let transactions = Transactions::new(store, kinds::all(grounds.clone()), owners, 1);
    for id in 1..=PLAYERS {
        let birth = Birth { hue: 120, island: 1, x: 4_096, y: 4_096 };
        player::create(&**transactions.store(), id, "bench", &format!("player {id}"), &birth).await?;
    }
    let all = islands.all();
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    for n in 0..WARM_UP + TOUCHES {
        let terrain = all.get(n as usize % all.len()).context("no island")?;
        let of_island = n as usize / all.len() * 97;
        let mirage = terrain.naturals_within(Tile::new(0, 0), Tile::new(SIDE, SIDE)).nth(of_island);
        let (tile, _) = mirage.context("no mirage")?;
        let natural = grounds.natural(terrain.id(), tile);
        let growth = Growth { strokes: 5, regrow_s: 60 };
        let whole = Nature { natural, name: "tree".to_owned(), left: growth.strokes, since_s: 1_800_000_000 };
        let nature = whole.struck(growth, 1_800_000_000).context("a tree has strokes")?;
        let id = ObjectId(1_000_000 + n);
        let touch = Touch { id, island: terrain.id(), tile, nature, now_s: 1_800_000_000 };
        let (op, owner) = (OperationId(u128::from(mix(n)) << 64 | u128::from(n)), 1 + n % PLAYERS);
        let wood = Goods::stack("wood".parse()?, 2);
        let bag = Where::Player(owner).part(op, &GoodsEffect::craft(Goods::default(), wood));
        let started = Instant::now();
        nature::touch(&transactions, &*grounds, op, By::Player(ObjectId(owner)), &touch, &[bag]).await?;
        if n >= WARM_UP {
            latency.saturating_record((started.elapsed().as_micros() as u64).max(1));
        }
    }
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    eprintln!("{TOUCHES} touches: p50 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.99));
    Ok(json!({ "p50": ms(0.5), "p99": ms(0.99) }))
}

/// The share of a core that the rules take while nobody watches.
fn asleep(world: &mut GameWorld, islands: &Archipelago) -> Result<f64> {
    let lore = Arc::new(Lore::new(&Content::bundled()));
    let (minds, mut dens) = (&mut Minds::new(lore, 1, 1), Dens::default());
    let nobody = std::collections::BTreeSet::new();
    let started = cpu_us();
    for tick in 0..ASLEEP_S * 1_000 / TICK_MS {
        let now = tick * TICK_MS;
        world.tick(now);
        if tick.is_multiple_of(1_000 / TICK_MS) {
            let seen = habitats::watched(&nobody, |island| islands.get(island));
            if !seen.is_empty() {
                bail!("{} habitats are seen by nobody", seen.len());
            }
            dens.replace_dead(world, minds, Moment { now, now_s: now / 1_000 });
        }
        if minds.is_due(now) {
            bail!("a mind thinks in a world that is asleep");
        }
    }
    let share = (cpu_us() - started) / (ASLEEP_S as f64 * 1e6);
    eprintln!("asleep: {:.6} of a core", share);
    Ok(share)
}

/// All animals awake.
struct Awake {
    minds: Minds,
    players: Vec<Seen>,
    now: u64,
}

impl Awake {
    fn wake(world: &mut GameWorld, islands: &Archipelago) -> Result<Awake> {
        let mut minds = Minds::new(Arc::new(Lore::new(&Content::bundled())), 1, 1);
        minds.hurry(1_000);
        let now = ASLEEP_S * 1_000;
        let (mut dens, at) = (Dens::default(), Moment { now, now_s: 1_800_000_000 });
        let mut players = Vec::new();
        for terrain in islands.all().iter() {
            let island = terrain.id();
            for index in 0..terrain.habitats().len() as u16 {
                let id = HabitatId { island, index };
                if !dens.wake(world, &mut minds, at, id, terrain, 1, &Map::new(), |_| None) {
                    bail!("habitat {id} does not wake");
                }
            }
            let place = Tile::new(SIDE / 2, SIDE / 2).centre();
            let id = ObjectId(1 + u64::from(island.0));
            players.push(Seen { id, island, place, what: What::PLAYER, flees: false, mind: None });
        }
        Ok(Awake { minds, players, now })
    }

    /// Decisions per second of processor time.
    fn run(mut self, world: &mut GameWorld, seconds: u64) -> f64 {
        // The first tick tells of all who woke; it is not what is measured.
        world.tick(self.now);
        let (mut thinking, mut ticking, mut ticks) = (Duration::ZERO, Duration::ZERO, 0_u32);
        let (cpu, before) = (cpu_us(), self.minds.counts().decisions);
        for _ in 0..seconds * 1_000 / TICK_MS {
            self.now += TICK_MS;
            let started = Instant::now();
            world.tick(self.now);
            ticking += started.elapsed();
            self.walk();
            let started = Instant::now();
            if self.minds.is_due(self.now) {
                self.minds.tick(world, self.now, &self.players);
            }
            thinking += started.elapsed();
            ticks += 1;
        }
        let core_s = (cpu_us() - cpu) / 1e6;
        let decisions = self.minds.counts().decisions - before;
        let rate = decisions as f64 / core_s.max(0.001);
        eprintln!(
            "{decisions} decisions in {seconds} s of the world and {core_s:.2} s of a core: {rate:.0} a second; a tick thinks {:.2} ms and tells {:.2} ms; {} alarms",
            thinking.as_secs_f64() * 1e3 / f64::from(ticks.max(1)),
            ticking.as_secs_f64() * 1e3 / f64::from(ticks.max(1)),
            self.minds.counts().alarms,
        );
        rate
    }

    /// Players walk in circles, so that now and then a threat comes into somebody's sight.
    fn walk(&mut self) {
        for player in &mut self.players {
            let step = (self.now / TICK_MS + player.id.0) % 1_024;
            let along = |step: u64| (step.min(1_024 - step) * 48) as i32;
            player.place = Place::new(2_048 + along(step), 2_048 + along((step + 256) % 1_024));
        }
    }
}

/// The median time to open one more island and to add it to the world.
fn new_island(folder: &Path, islands: u32, drawing: &Drawing, world: &mut GameWorld) -> Result<f64> {
    let mut took = Vec::new();
    for number in islands + 1..=islands + NEW_ISLANDS {
        maker::island(folder, number, drawing)?;
        let started = Instant::now();
        let terrain = Terrain::open(folder.join(format!("island-{number}.tmj")))?;
        if terrain.id() != IslandId(number) || terrain.size() != (SIDE, SIDE) {
            bail!("island {number} is not as it was drawn");
        }
        world.add_island(terrain.id(), Arc::new(terrain));
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    let median = took[took.len() / 2];
    eprintln!("one more island: {median:.2} ms");
    Ok(median)
}

/// The memory of this process that is resident, in MiB.
fn memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1_024.0)
}
