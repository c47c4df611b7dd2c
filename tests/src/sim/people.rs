//! The workload: people who play, each a client of the real protocol with an account of its own.
//!
//! They know what the protocol tells them, and the terrain. Nothing here checks anything: what they were told and shown is
//! kept for the checkers. They go through three phases: playing, settling (nothing new is begun, what is open is brought to
//! an end), and resting.

pub mod deeds;
pub mod line;
pub mod person;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use estate::goods::transfer::{Leg, transfer};
use estate::goods::{Goods, ItemName, Place};
use estate::player::{self, Birth};
use estate::transaction::OperationId;
use mesh::tasks::Tasks;
use nodes::protocol::UNITS_PER_TILE;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::books::{Books, Holder};
use super::cluster::Cluster;
use super::lands;
use super::plan::Plan;
use person::{Person, World};

/// Player numbers begin here.
pub const FIRST_PLAYER: u64 = 1_000;

/// What everybody is born with.
const DOWRY: [(&str, u64); 7] =
    [("wood", 40), ("stone", 20), ("berry", 6), ("flint", 4), ("fibre", 6), ("herb", 4), ("clay", 4)];

/// What people do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They play.
    Playing,
    /// They begin nothing, and bring to an end what they have begun.
    Settling,
}

/// What is known of a person from outside.
#[derive(Default)]
pub struct Shown {
    /// Its player.
    pub player: u64,
    /// What it is shown, while it is in and settles.
    pub sight: Option<InSight>,
    /// Acts whose ends it does not know yet.
    pub open: usize,
    /// In words: where it is, and what it waits for.
    pub state: String,
    /// Messages that could not be read.
    pub malformed: Vec<String>,
    /// Places in which it was after an orderly farewell that are not those where it had been.
    pub strayed: Vec<String>,
    /// A connection of an older session that was never closed.
    pub not_replaced: Option<String>,
    /// A number that stands for all that it was told.
    pub trace: u64,
}

/// What a client is shown.
#[derive(Clone, Debug, Default)]
pub struct InSight {
    /// Objects: number, publisher, epoch, version.
    pub ghosts: Vec<(u64, u64, u64, u64)>,
    /// The island and the cells that it sees.
    pub island: u32,
    /// The cells that it sees.
    pub cells: BTreeSet<(u16, u16)>,
}

/// Everybody.
pub struct People {
    /// What is known of each.
    pub shown: Vec<Arc<Mutex<Shown>>>,
    /// What they were told.
    pub books: Books,
    phase: Arc<AtomicU8>,
    tasks: Tasks,
}

impl People {
    /// They are born, and begin to play.
    pub async fn start(plan: &Plan, cluster: &Cluster) -> People {
        let (phase, tasks, books) = (Arc::new(AtomicU8::new(0)), Tasks::simulated(), Books::default());
        let world = Arc::new(World {
            doors: cluster.doors.clone(),
            islands: cluster.islands.iter().map(|island| (island.id().0, island.clone())).collect::<BTreeMap<_, _>>(),
            content: cluster.content.clone(),
            counts: cluster.counts.clone(),
            books: books.clone(),
            deeds: plan.deeds.clone(),
            pace_ms: plan.pace_ms,
            people: plan.people as u64,
            phase: phase.clone(),
            calm: plan.faults.is_empty(),
        });
        let mut shown = Vec::new();
        for number in FIRST_PLAYER..FIRST_PLAYER + plan.people as u64 {
            let mut random = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000_003) ^ number);
            be_born(cluster, &books, number, &mut random).await;
            let window = Arc::new(Mutex::new(Shown { player: number, ..Shown::default() }));
            tasks.spawn(Person::new(number, random, world.clone(), window.clone()).live());
            shown.push(window);
        }
        People { shown, books, phase, tasks }
    }

    /// From now on they bring to an end what they have begun.
    pub fn settle(&self) {
        self.phase.store(1, Ordering::SeqCst);
    }

    /// Ends them all.
    pub fn stop(&self) {
        self.tasks.stop();
    }
}

/// What phase it is.
fn phase_of(phase: &AtomicU8) -> Phase {
    if phase.load(Ordering::SeqCst) == 0 { Phase::Playing } else { Phase::Settling }
}

/// The store of the newborn has no faults: they come from a time before the run.
async fn be_born(cluster: &Cluster, books: &Books, number: u64, random: &mut StdRng) {
    let (x, y) = lands::SQUARES[random.random_range(0..lands::SQUARES.len())];
    let spread = |at: u16, by: i32| (i32::from(at) + by) * UNITS_PER_TILE + UNITS_PER_TILE / 2;
    let (dx, dy) = (random.random_range(-5..=5), random.random_range(-5..=5));
    let birth = Birth { hue: (number % 360) as u16, island: lands::HOME, x: spread(x, dx), y: spread(y, dy) };
    let name = format!("person {number}");
    let store = cluster.store.client();
    if let Err(e) = player::create(&store, number, &name, &name, &birth).await {
        tracing::error!("{name} was not born: {e}");
    }
    let Some(estate) = cluster.estate() else { return };
    let mut goods = Goods::default();
    for (item, count) in DOWRY {
        let Ok(item) = item.parse::<ItemName>() else { continue };
        goods.stacks.insert(item, count);
    }
    let leg = Leg { from: Place::Mint, to: Place::Player(number), goods };
    match transfer(estate, OperationId(u128::from(number) << 64 | 0x64_6f77), &[leg]).await {
        Ok(()) => {
            let change = DOWRY.map(|(item, count)| (Holder::Player(number), item.to_owned(), count as i64));
            books.done(&change.to_vec());
        }
        Err(e) => tracing::error!("{name} was born without goods: {e}"),
    }
}

/// Locks what is known of a person.
pub fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
