//! What a world costs: walkers spread over an island, walkers in one crowd, joins, and ghosts.
//!
//! ```text
//! cargo run --release -p wildmesh-cartographer --example world_cost [walkers]
//! ```
//! Times are CPU time of one thread, the world alone: no sockets, no clients. They come from Linux' scheduler, whose count
//! moves in steps of 4 ms: sums are right whatever else runs on the machine, single short stretches are not; where the
//! scheduler cannot be asked they are wall time. The worst tick is wall time, and means something on an idle machine only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{Epoch, IslandId, ObjectId, Place};
use cartographer::ground::Plain;
use cartographer::world::{Body, World, WorldConfig};

const ISLAND: IslandId = IslandId(1);
const TICK_MS: u64 = 50;
/// Every walker chooses a new way this often.
const AIM_MS: u64 = 2_500;
const SPEED: i32 = 1_024;

struct Player {
    name: String,
    hue: u16,
}

impl Body for Player {
    type View = (u8, String, u16);

    fn view(&self) -> Self::View {
        (0, self.name.clone(), self.hue)
    }
}

/// A repeatable source of choices (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    fn place(&mut self, from_tile: u64, side_tiles: u64) -> Place {
        let mut along = || ((from_tile * 256) + self.below(side_tiles * 256)) as i32;
        Place::new(along(), along())
    }
}

/// A stretch of work, as long as it took on the CPU and on the wall.
#[derive(Clone, Copy, Default)]
struct Took {
    cpu: Duration,
    wall: Duration,
}

#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "measuring is what this program is for")]
fn timed<T>(total: &mut Took, work: impl FnOnce() -> T) -> T {
    let scheduled = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    let (cpu, wall) = (scheduled(), std::time::Instant::now());
    let result = work();
    let wall = wall.elapsed();
    total.wall += wall;
    total.cpu += scheduled().zip(cpu).map_or(wall, |(end, begin)| end.saturating_sub(begin));
    result
}

fn empty(publisher: u64) -> World<Player> {
    let mut world = World::new(WorldConfig::new(publisher));
    world.add_island(ISLAND, Arc::new(Plain::new(2048, 2048)));
    world
}

fn join(world: &mut World<Player>, now: u64, id: u64, place: Place) {
    let body = Player { name: format!("walker {id}"), hue: id as u16 };
    world.spawn(now, ObjectId(id), Epoch(1), ISLAND, place, body, true).expect("a place on the island");
}

/// What a stretch of walking cost, and said.
#[derive(Default)]
struct Cost {
    inputs: Took,
    ticks: Took,
    worst: Duration,
    seconds: u64,
    frames: Vec<Bytes>,
}

/// Lets all walk about for some simulated seconds; those who see new cells are told them, as a frontend would.
fn walk(world: &mut World<Player>, dice: &mut Dice, walkers: u64, area: (u64, u64), start: u64, seconds: u64) -> Cost {
    let mut cost = Cost { seconds, ..Cost::default() };
    let per_aim = AIM_MS / TICK_MS;
    for tick in 0..seconds * 1_000 / TICK_MS {
        let now = start + tick * TICK_MS;
        let turn: Vec<(u64, Place)> =
            (tick % per_aim..walkers).step_by(per_aim as usize).map(|id| (id, dice.place(area.0, area.1))).collect();
        timed(&mut cost.inputs, || {
            for (id, to) in turn {
                let from = world.get(ObjectId(id)).map(|real| real.place(now)).unwrap_or_default();
                let _ = world.walk(now, ObjectId(id), from, to, SPEED);
            }
        });
        let before = cost.ticks.wall;
        let out = timed(&mut cost.ticks, || {
            let out = world.tick(now);
            for change in &out.vision {
                for cell in &change.entered {
                    std::hint::black_box(world.keyframes(*cell));
                }
            }
            out
        });
        cost.worst = cost.worst.max(cost.ticks.wall - before);
        cost.frames.extend(out.frames.into_iter().map(|frame| frame.bytes));
    }
    cost
}

fn ms(took: Took) -> f64 {
    took.cpu.as_secs_f64() * 1_000.0
}

fn report(title: &str, cost: &Cost) {
    let seconds = cost.seconds as f64;
    let bytes: usize = cost.frames.iter().map(Bytes::len).sum();
    println!(
        "{title}: {:.1} ms per simulated second (walk {:.1}, tick {:.1}), worst tick {:.2} ms, {:.0} frames/s, {:.0} KB/s",
        (ms(cost.inputs) + ms(cost.ticks)) / seconds,
        ms(cost.inputs) / seconds,
        ms(cost.ticks) / seconds,
        cost.worst.as_secs_f64() * 1_000.0,
        cost.frames.len() as f64 / seconds,
        bytes as f64 / seconds / 1_000.0,
    );
}

/// Joins one by one into a world that is full, and what each costs with the tick that tells it.
fn joins(world: &mut World<Player>, dice: &mut Dice, first: u64, count: u64, area: (u64, u64), start: u64) {
    let mut total = Took::default();
    let places: Vec<Place> = (0..count).map(|_| dice.place(area.0, area.1)).collect();
    let per_tick = 20;
    for (tick, places) in places.chunks(per_tick).enumerate() {
        let now = start + tick as u64 * TICK_MS;
        // What the others do at this time is not the joins' cost.
        world.tick(now);
        timed(&mut total, || {
            for (index, place) in places.iter().enumerate() {
                join(world, now, first + (tick * per_tick + index) as u64, *place);
            }
            let out = world.tick(now);
            for change in &out.vision {
                for cell in &change.entered {
                    std::hint::black_box(world.keyframes(*cell));
                }
            }
        });
    }
    println!(
        "  join, {per_tick} a tick, with its frames and the keyframes of all cells then seen: {:.1} us each",
        ms(total) * 1e3 / count as f64
    );
}

fn main() {
    let walkers: u64 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(10_000);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let everywhere = (24, 2_000);

    let mut world = empty(1);
    let mut spawning = Took::default();
    let places: Vec<Place> = (0..walkers).map(|_| dice.place(everywhere.0, everywhere.1)).collect();
    timed(&mut spawning, || {
        places.iter().enumerate().for_each(|(id, place)| join(&mut world, 0, id as u64, *place));
        world.tick(0)
    });
    println!("{walkers} join in one tick: {:.1} us each", ms(spawning) * 1e3 / walkers as f64);
    walk(&mut world, &mut dice, walkers, everywhere, TICK_MS, 5);
    let spread = walk(&mut world, &mut dice, walkers, everywhere, 6_000, 10);
    report(&format!("{walkers} walkers spread over 2048x2048"), &spread);
    println!("  {:?}", world.stats());
    joins(&mut world, &mut dice, 1_000_000, 2_000, everywhere, 20_000);

    let crowd = 2_000;
    let square = (1_024, 32);
    let mut world = empty(1);
    (0..crowd).for_each(|id| join(&mut world, 0, id, dice.place(square.0, square.1)));
    walk(&mut world, &mut dice, crowd, square, 0, 5);
    let crowded = walk(&mut world, &mut dice, crowd, square, 6_000, 10);
    report(&format!("{crowd} walkers in one cell"), &crowded);
    joins(&mut world, &mut dice, 1_000_000, 500, square, 20_000);

    // The same walkers as ghosts: a node that sees the whole island and takes all their frames.
    let mut source = empty(1);
    (0..walkers).for_each(|id| join(&mut source, 0, id, dice.place(everywhere.0, everywhere.1)));
    let mut mirror = empty(2);
    source.tick(0);
    mirror.watch_cells(source.seen_cells());
    mirror.tick(0);
    mirror.peer_up(0, 1);
    let mut catching_up = Took::default();
    timed(&mut catching_up, || {
        for ask in mirror.tick(0).asks {
            let answer = source.answer_ask(&ask.cells);
            mirror.apply_answer(0, 1, &ask.cells, answer);
        }
    });
    println!("{} ghosts made from keyframes in {:.1} ms", mirror.stats().ghosts, ms(catching_up));
    let told = walk(&mut source, &mut dice, walkers, everywhere, TICK_MS, 10);
    let mut applying = Took::default();
    let count = told.frames.len();
    timed(&mut applying, || {
        for bytes in told.frames {
            std::hint::black_box(mirror.apply(TICK_MS, 1, bytes));
        }
    });
    let mut verifying = Took::default();
    let digests = timed(&mut verifying, || {
        mirror.tick(60_000);
        let digests = mirror.verify(60_000);
        let different: usize = digests.iter().map(|verify| source.answer_verify(&verify.digests).len()).sum();
        assert_eq!(different, 0, "the mirror agrees");
        digests.iter().map(|verify| verify.digests.len()).sum::<usize>()
    });
    println!(
        "as ghosts: {:.1} ms per simulated second to apply {} frames/s; one verification of {digests} blocks, both sides: {:.2} ms",
        ms(applying) / told.seconds as f64,
        count as u64 / told.seconds,
        ms(verifying)
    );
}
