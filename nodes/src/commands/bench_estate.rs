//! `wildmesh bench estate`: what transfers, trades, builds and claims cost beside the bare store writes that they need.
//!
//! *Spread*: many tasks, each on documents of its own. *Hot*: few tasks on the same few documents. The writes of each
//! operation are recorded while it runs alone; the yardstick then does just those (as many, as large, as dependent on one
//! another, on the same store, by as many tasks), in short rounds that alternate with rounds of the operation. `ratio` is
//! the time that one operation takes over the time of its bare writes: the median of the rounds' ratios. At the end the
//! store is audited; a bench that leaves anything wrong behind fails.

mod counted;
mod size;
mod world;
mod yardstick;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use estate::audit;
use estate::store::Store;
use estate::store::embedded::{self, Durability};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cli::BenchEstate;
use crate::wiring::drivers::{self, StoreSpec};
use counted::{Calls, Counted, Shape, Slot};
use world::{Chance, HOT_CHUNKS, HOT_PLAYERS, Hand, PLAYERS, Work, World};
use yardstick::Yardstick;

/// Tasks of a spread part.
const TASKS: usize = 64;
/// Tasks of a hot part.
const HOT_TASKS: usize = 16;

/// Rounds of each part, of the operation and of the yardstick in turn.
const ROUNDS: u64 = 9;
/// The shortest round.
const ROUND_LEAST: Duration = Duration::from_millis(100);

/// Operations before one is recorded, and how many are recorded.
const WARM_UP: usize = 300;
const RECORDED: usize = 64;

/// Runs the command.
pub async fn run(bench: BenchEstate) -> Result<()> {
    if bench.size {
        return size::run(&bench).await;
    }
    let mut place = Place::of(&bench)?;
    let figures = measure_all(&bench, &mut place).await;
    place.close()?;
    let figures = figures?;
    if bench.json {
        println!("{figures}");
    }
    Ok(())
}

async fn measure_all(bench: &BenchEstate, place: &mut Place) -> Result<Value> {
    let secret = drivers::secret()?;
    let seed = u64::from_le_bytes(std::array::from_fn(|i| secret[i]));
    let length = Duration::from_secs(bench.seconds);
    let store = place.open(bench.durability).await?;
    let described = store.describe().await;
    eprintln!("{described}");
    let mut part = Bench::new(store, seed).await?;
    let calls = part.record().await?;
    print_calls(&calls);
    let mut figures = serde_json::Map::new();
    for work in Work::ALL {
        let spread = part.measure(work, false, length).await?;
        let hot = part.measure(work, true, length).await?;
        let mut value = serde_json::to_value(&spread)?;
        value["hot"] = serde_json::to_value(&hot)?;
        figures.insert(work.name().to_owned(), value);
    }
    part.finish().await?;
    figures.insert("store".to_owned(), Value::from(described));
    figures.insert("calls".to_owned(), serde_json::to_value(&calls)?);
    if place.is_embedded() {
        figures.insert("durability".to_owned(), Value::from(bench.durability.as_str()));
        let mut others = serde_json::Map::new();
        for durability in [Durability::Process, Durability::Power, Durability::Strict] {
            let mut one = serde_json::Map::new();
            if durability == bench.durability {
                for work in Work::ALL {
                    one.insert(work.name().to_owned(), figures[work.name()].clone());
                }
            } else {
                eprintln!("durability {durability}:");
                let mut part = Bench::new(place.open(durability).await?, seed).await?;
                part.record().await?;
                for work in Work::ALL {
                    one.insert(work.name().to_owned(), serde_json::to_value(part.measure(work, false, length).await?)?);
                }
                part.finish().await?;
            }
            others.insert(durability.as_str().to_owned(), one.into());
        }
        figures.insert("durabilities".to_owned(), others.into());
    }
    figures.insert("audit".to_owned(), json!("clean"));
    Ok(Value::Object(figures))
}

fn print_calls(calls: &BTreeMap<&'static str, Calls>) {
    eprintln!("calls of one operation alone:");
    for (name, Calls { reads, writes, waves, bytes }) in calls {
        eprintln!(
            "  {name:<8} {reads:>4.1} reads {writes:>4.1} writes, {waves:>4.1} of them one after another, {bytes:>6.0} bytes written"
        );
    }
}

/// Where the bench's stores lie.
enum Place {
    /// Folders of its own, taken away afterwards; one for each durability.
    Folders(std::path::PathBuf),
    /// Any other store, which must be empty.
    Named(StoreSpec),
}

impl Place {
    fn of(bench: &BenchEstate) -> Result<Place> {
        match &bench.store {
            None => Ok(Place::Folders(scratch("estate")?)),
            Some(StoreSpec::Embedded(folder)) => {
                std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
                Ok(Place::Folders(folder.join(format!("bench-estate-{}", std::process::id()))))
            }
            Some(other) => Ok(Place::Named(other.clone())),
        }
    }

    fn is_embedded(&self) -> bool {
        matches!(self, Place::Folders(_))
    }

    async fn open(&mut self, durability: Durability) -> Result<Arc<dyn Store>> {
        let store: Arc<dyn Store> = match self {
            Place::Folders(folder) => {
                let folder = folder.join(durability.as_str());
                std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
                Arc::new(embedded::open(&folder, durability).await?)
            }
            Place::Named(spec) => drivers::store(spec).await?,
        };
        if !store.scan("", None, 1).await?.is_empty() {
            bail!("the store holds documents; the bench wants an empty one, so that its audit means something");
        }
        Ok(store)
    }

    /// Takes away what lies on this machine; elsewhere the documents stay.
    fn close(&self) -> Result<()> {
        if let Place::Folders(folder) = self {
            std::fs::remove_dir_all(folder).with_context(|| format!("could not remove {}", folder.display()))?;
        }
        Ok(())
    }
}

/// A folder that is not there yet, below the system's for temporary files.
pub(super) fn scratch(name: &str) -> Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("wildmesh-bench-{name}-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    Ok(folder)
}

/// What one part found.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    /// Operations per second, all tasks together: the median round.
    per_s: f64,
    /// The time of an operation over that of its bare writes: the median of the rounds' ratios.
    ratio: f64,
    /// The least and the greatest of them.
    ratios: [f64; 2],
    p50_ms: f64,
    p99_ms: f64,
    /// The bare writes' own.
    bare_p50_ms: f64,
    bare_p99_ms: f64,
    /// Processor time of this process for one operation, and for its bare writes.
    cpu_us: f64,
    bare_cpu_us: f64,
    operations: u64,
    /// Operations that gave up because others were in the way.
    busy: u64,
    tasks: usize,
}

/// One store under measurement.
struct Bench {
    store: Arc<dyn Store>,
    world: Arc<World>,
    shapes: BTreeMap<Work, Shape>,
    chance: Chance,
}

impl Bench {
    async fn new(store: Arc<dyn Store>, seed: u64) -> Result<Bench> {
        let mut chance = Chance(seed);
        let world = Arc::new(World::new(store.clone(), chance.bits())?);
        // One task more, for recording.
        world.people(TASKS as u64 + 1, &mut chance).await?;
        Ok(Bench { store, world, shapes: BTreeMap::new(), chance })
    }

    /// Runs every operation alone, some times, and writes down what it asks of the store.
    async fn record(&mut self) -> Result<BTreeMap<&'static str, Calls>> {
        let counted = Arc::new(Counted::new(self.store.clone()));
        let world = World::new(counted.clone(), self.chance.bits())?;
        let mut hand = Hand::new(TASKS, false, self.chance.bits());
        let mut found = BTreeMap::new();
        for work in Work::ALL {
            for _ in 0..WARM_UP {
                world.once(work, &mut hand).await?;
            }
            counted.take();
            let (mut sum, mut shapes) = (Calls::default(), Vec::<(u32, Shape)>::new());
            for _ in 0..RECORDED {
                world.once(work, &mut hand).await?;
                let (calls, shape) = counted.take();
                sum.reads += calls.reads / RECORDED as f64;
                sum.writes += calls.writes / RECORDED as f64;
                sum.waves += calls.waves / RECORDED as f64;
                sum.bytes += calls.bytes / RECORDED as f64;
                match shapes.iter_mut().find(|(_, other)| other.is_like(&shape)) {
                    Some((seen, _)) => *seen += 1,
                    None => shapes.push((1, shape)),
                }
            }
            let usual = shapes.into_iter().max_by_key(|(seen, _)| *seen).context("nothing was recorded")?;
            self.shapes.insert(work, usual.1);
            found.insert(work.name(), sum);
        }
        Ok(found)
    }

    /// Measures one part in alternating rounds.
    async fn measure(&mut self, work: Work, hot: bool, length: Duration) -> Result<Figures> {
        let tasks = if hot { HOT_TASKS } else { TASKS };
        let shape = self.shapes.get(&work).context("not recorded")?.clone();
        let count = |shape: &Shape, slot: &Slot| if hot { shared(shape, slot) } else { TASKS * PLAYERS as usize };
        // In a hot part the ledger and the deeds are there before.
        let shape = if hot { settled(shape) } else { shape };
        let yardstick = Arc::new(Yardstick::new(self.store.clone(), shape, count).await?);
        let seed = self.chance.bits();
        let mut hands: Vec<Hand> = (0..tasks).map(|task| Hand::new(task, hot, seed)).collect();
        let each = (length / (2 * ROUNDS as u32)).max(ROUND_LEAST);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let world = self.world.clone();
            ours.push(
                round(&mut hands, each, move |mut hand| {
                    let world = world.clone();
                    async move {
                        let done = world.once(work, &mut hand).await;
                        (hand, done)
                    }
                })
                .await?,
            );
            let yardstick = yardstick.clone();
            bare.push(
                round(&mut hands, each, move |mut hand| {
                    let yardstick = yardstick.clone();
                    async move {
                        let task = (hand.task as usize, tasks);
                        let done = yardstick.once(task, hot, &mut hand.chance).await;
                        (hand, done.map(|()| true))
                    }
                })
                .await?,
            );
        }
        let figures = Figures::of(&ours, &bare, tasks)?;
        let Figures {
            per_s, ratio, ratios, p50_ms, p99_ms, bare_p50_ms, bare_p99_ms, cpu_us, bare_cpu_us, busy, ..
        } = figures;
        eprintln!(
            "{:<8} {:<6} {per_s:>7.0} /s, {ratio:.2} of the bare writes' time ({:.2} to {:.2}), p50 {p50_ms:.2} p99 {p99_ms:.2} ms \
             (bare {bare_p50_ms:.2}, {bare_p99_ms:.2}), CPU {cpu_us:.0} µs (bare {bare_cpu_us:.0}), {busy} busy",
            work.name(),
            if hot { "hot" } else { "spread" },
            ratios[0],
            ratios[1],
        );
        yardstick::clear(&self.store).await?;
        Ok(figures)
    }

    /// Audits the store.
    async fn finish(self) -> Result<()> {
        let report = audit::audit(&self.world.transactions, false, &mut |_| {}).await?;
        if !report.clean() {
            let first: Vec<String> =
                report.findings.iter().take(5).map(|finding| format!("{}: {}", finding.key, finding.text)).collect();
            bail!("{} findings after the bench: {}", report.found, first.join("; "));
        }
        let documents: u64 = report.documents.values().sum();
        eprintln!("audit of {documents} documents: clean");
        Ok(())
    }
}

/// How many documents of a slot all tasks of a hot part share.
fn shared(shape: &Shape, slot: &Slot) -> usize {
    let all = match slot.kind.as_str() {
        "player" => HOT_PLAYERS as usize,
        "deed" => HOT_CHUNKS as usize,
        "ledger" => 1,
        _ => HOT_TASKS,
    };
    all / shape.slots.iter().filter(|other| other.kind == slot.kind).count().max(1)
}

/// The same writes on a ledger and on deeds that have been written before.
fn settled(mut shape: Shape) -> Shape {
    for slot in &mut shape.slots {
        slot.fresh &= !matches!(slot.kind.as_str(), "ledger" | "deed");
    }
    shape
}

/// One round.
struct Round {
    done: u64,
    busy: u64,
    seconds: f64,
    cpu_us: f64,
    latency_us: Histogram<u64>,
}

/// Every hand does it over and over until the time is up.
async fn round<F>(
    hands: &mut Vec<Hand>,
    length: Duration,
    once: impl Fn(Hand) -> F + Clone + Send + 'static,
) -> Result<Round>
where
    F: Future<Output = (Hand, Result<bool>)> + Send,
{
    let tasks = hands.len() as f64;
    let mut running = JoinSet::new();
    let cpu_before = cpu_us();
    let started = Instant::now();
    for mut hand in hands.drain(..) {
        let once = once.clone();
        running.spawn(async move {
            let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
            let (mut done, mut busy) = (0_u64, 0_u64);
            while started.elapsed() < length {
                let began = Instant::now();
                let (back, happened) = once(hand).await;
                hand = back;
                if happened? {
                    done += 1;
                    latency.saturating_record((began.elapsed().as_micros() as u64).max(1));
                } else {
                    busy += 1;
                }
            }
            anyhow::Ok((hand, done, busy, latency, started.elapsed()))
        });
    }
    let mut latency_us = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let (mut done, mut busy, mut seconds) = (0, 0, 0.0);
    while let Some(ended) = running.join_next().await {
        let (hand, its, in_vain, latency, took) = ended.context("a task of the bench died")??;
        hands.push(hand);
        done += its;
        busy += in_vain;
        seconds += took.as_secs_f64() / tasks;
        latency_us.add(latency)?;
    }
    Ok(Round { done, busy, seconds, cpu_us: cpu_us() - cpu_before, latency_us })
}

impl Figures {
    fn of(ours: &[Round], bare: &[Round], tasks: usize) -> Result<Figures> {
        let rate = |round: &Round| round.done as f64 / round.seconds;
        if ours.iter().chain(bare).any(|round| round.done == 0) {
            bail!("a round ended before anything was done: ask for more --seconds");
        }
        let ratios = sorted(ours.iter().zip(bare).map(|(ours, bare)| rate(bare) / rate(ours)));
        let together = |rounds: &[Round]| -> Result<Histogram<u64>> {
            let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
            for round in rounds {
                all.add(&round.latency_us)?;
            }
            Ok(all)
        };
        let ms = |latency: &Histogram<u64>, quantile: f64| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let cpu = |rounds: &[Round]| {
            let done: u64 = rounds.iter().map(|round| round.done).sum();
            rounds.iter().map(|round| round.cpu_us).sum::<f64>() / done as f64
        };
        let (own, yardstick) = (together(ours)?, together(bare)?);
        Ok(Figures {
            per_s: median(&sorted(ours.iter().map(rate))),
            ratio: median(&ratios),
            ratios: [ratios[0], ratios[ratios.len() - 1]],
            p50_ms: ms(&own, 0.5),
            p99_ms: ms(&own, 0.99),
            bare_p50_ms: ms(&yardstick, 0.5),
            bare_p99_ms: ms(&yardstick, 0.99),
            cpu_us: cpu(ours),
            bare_cpu_us: cpu(bare),
            operations: ours.iter().map(|round| round.done).sum(),
            busy: ours.iter().map(|round| round.busy).sum(),
            tasks,
        })
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The processor time of this process so far, all threads together, in microseconds.
pub(super) fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Fields 14 and 15 of proc(5), user and system, in ticks of 10 ms.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() as f64 * 10_000.0
}
