//! The frontend: serves clients over WebSocket, owns their players, and streams to each what it sees.
//!
//! Three kinds of tasks: the world loop with the rules of [`players`]; the shards, which write to sockets; and the async
//! flows of [`sessions`] and [`listener`], which hold no world state. Simulation drives the same code without the
//! listener: a client is then a [`shard::Sink`] in memory and a [`connection::Gate`].

pub mod players;

pub mod sessions;

mod arriving;
mod claiming;
mod orphans;

pub mod acts;
pub mod operations;

pub mod people;
pub mod sail;

pub mod moving;

pub mod connection;
pub mod listener;
pub mod tickets;

mod expected;

pub mod shard;
mod shards;
pub mod socket;
pub mod wire;

mod keeper;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cartographer::geometry::{IslandId, ObjectId, Place};
use estate::player::Claimant;
use estate::store::Store;
use estate::transaction::Transactions;
use mesh::directory::Directory;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::{Event, Mesh, Role};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::audience;
use crate::calendar::Calendar;
use crate::draining::Draining;
use crate::game::GameWorld;
use crate::game::content::Content;
use crate::islands::Archipelago;
use crate::metrics::Metrics;
use crate::owners::MeshOwners;
use crate::protocol;
use crate::sent::Sent;
use crate::world_loop::{self, WorldHandle};
use arriving::Glances;
use expected::Expected;
use orphans::Keepers;
use players::{FrontInput, Players};
use sessions::{Sessions, Turns};
use shard::{ClientId, Limits, Shard, ShardCounters};
use shards::Shards;
use tickets::{Book, Resume, ResumeKey, SessionId};

/// Claims of players' documents that are under way at once; further ones wait for their turn.
const CLAIMS: usize = 64;

/// Clients that may wait for their players to be claimed, at most; further ones are refused.
const WAITING: usize = 16_384;

/// Keys of documents without a keeper that wait to be looked at; what does not fit is told again.
const ORPHANS: usize = 256;

/// Lists of notices from shards that wait for the world, at most; a shard then waits.
const NOTICES: usize = 64;

/// How a frontend is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Players that it takes, at most.
    pub capacity: u32,
    /// Shards: threads that write to sockets.
    pub shards: u32,
    /// Bounds for slow clients.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Config {
        Config { capacity: 12_000, shards: 1, limits: Limits::default() }
    }
}

/// What the tasks of one frontend share.
pub struct Shared {
    mesh: Mesh,
    estate: Arc<Transactions>,
    owners: Arc<MeshOwners>,
    islands: Archipelago,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    config: Config,
    claimant: Claimant,
    publisher: u64,
    book: Mutex<Book>,
    expected: Mutex<Expected>,
    random: Mutex<StdRng>,
    clients: AtomicU64,
    turns: Turns,
    resume_key: ResumeKey,
    /// How long the record of a dead node may stay in the directory.
    lease_ttl: Duration,
    claims: Semaphore,
    waiting: Semaphore,
    keepers: Keepers,
    glances: Glances,
    content: Arc<Content>,
    calendar: Calendar,
    directory: Arc<dyn Directory>,
    district: District,
    draining: Draining,
    /// Where players were sent of late.
    sent: Sent,
}

/// What a frontend is made from.
pub struct Parts {
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// What the mesh tells it.
    pub events: mpsc::Receiver<Event>,
    /// Where documents lie, and transactions over them.
    pub estate: Arc<Transactions>,
    /// Who owns documents: this node, for steps of others' transactions, and the others, to be asked before a player is taken
    /// over.
    pub owners: Arc<MeshOwners>,
    /// The islands that it serves.
    pub islands: Archipelago,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Its tasks.
    pub tasks: Tasks,
    /// Its set-up.
    pub config: Config,
    /// The secret that signs its tickets: random, of this process only.
    pub secret: [u8; 32],
    /// Its world, without objects.
    pub world: GameWorld,
    /// The game's content.
    pub content: Arc<Content>,
    /// What day it is.
    pub calendar: Calendar,
    /// The directory.
    pub directory: Arc<dyn Directory>,
    /// Where it belongs.
    pub district: District,
    /// Whether it is being emptied.
    pub draining: Draining,
    /// What makes and checks resume tokens, on all frontends of the cluster.
    pub resume_key: ResumeKey,
    /// The lease of nodes' records, in seconds.
    pub lease_ttl_s: u32,
}

/// A running frontend.
pub struct Frontend {
    /// Its flows.
    pub sessions: Sessions,
    /// Its world.
    pub world: WorldHandle<FrontInput>,
    /// What its shards count.
    pub counters: Arc<ShardCounters>,
}

/// Starts the world loop and the shards. Sockets are served by [`listener::serve`].
pub fn start(parts: Parts) -> std::io::Result<Frontend> {
    let Parts { mesh, events, estate, owners, islands, metrics, lease_ttl_s, .. } = parts;
    let Parts { tasks, config, secret, world, content, calendar, directory, district, draining, resume_key, .. } =
        parts;
    let me = mesh.me().clone();
    let mut random = StdRng::from_seed(secret);
    let mut key = [0; 32];
    random.fill_bytes(&mut key);
    let (glances, glanced) = Glances::new();
    let (orphans, orphaned) = mpsc::channel(ORPHANS);
    owners.hands.tell_orphans(orphans);
    let shared = Arc::new(Shared {
        claimant: Claimant { node: me.node.to_string(), incarnation: me.incarnation.0, claim: 0 },
        publisher: me.incarnation.0,
        book: Mutex::new(Book::new(key)),
        expected: Mutex::default(),
        random: Mutex::new(random),
        clients: AtomicU64::new(1),
        turns: Turns::default(),
        resume_key,
        lease_ttl: Duration::from_secs(lease_ttl_s.into()),
        claims: Semaphore::new(CLAIMS),
        waiting: Semaphore::new(WAITING),
        keepers: Keepers::default(),
        glances,
        draining: draining.clone(),
        sent: Sent::default(),
        content,
        calendar,
        directory,
        district,
        mesh: mesh.clone(),
        estate,
        owners,
        islands,
        metrics: metrics.clone(),
        tasks: tasks.clone(),
        config,
    });
    let counters = Arc::new(ShardCounters::default());
    let (notices, mut noticed) = mpsc::channel(NOTICES);
    let mut ports = Vec::new();
    for number in 0..shared.config.shards.max(1) {
        let (batches, inbox) = mpsc::channel(shard::BATCHES);
        let shard = Shard::new(shared.config.limits, counters.clone());
        let notices = notices.clone();
        tasks.spawn_thread(&format!("shard {number}"), move || shard::run(shard, inbox, notices))?;
        ports.push(batches);
    }
    let (watches, sees) = watch::channel(Arc::default());
    let make = |world: &WorldHandle<FrontInput>| {
        Players::new(shared.clone(), Shards::new(ports), world.inputs.downgrade(), watches)
    };
    let world = world_loop::start(world, mesh.clone(), events, metrics.clone(), draining, &tasks, make)?;
    tasks.spawn(audience::lookout(mesh, world.report.clone(), sees));
    let inbound = world.clone();
    tasks.spawn(async move {
        while let Some(list) = noticed.recv().await {
            if !inbound.role(FrontInput::Notices(list)).await {
                return;
            }
        }
    });
    let counted = counters.clone();
    metrics.before_reading(move |m| {
        let rise = |counter: &prometheus::IntCounter, to: &AtomicU64| {
            counter.inc_by(to.load(Ordering::Relaxed).saturating_sub(counter.get()));
        };
        rise(&m.client_bytes, &counted.bytes);
        rise(&m.client_frames_dropped, &counted.skipped);
    });
    let sessions = Sessions { shared, world: world.clone() };
    tasks.spawn(moving::rebalance::run(sessions.clone()));
    tasks.spawn(arriving::look_around(sessions.clone(), glanced));
    tasks.spawn(orphans::look_after(sessions.clone(), orphaned));
    Ok(Frontend { sessions, world, counters })
}

impl Shared {
    fn store(&self) -> &dyn Store {
        &**self.estate.store()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn next_client(&self) -> ClientId {
        ClientId(self.clients.fetch_add(1, Ordering::Relaxed))
    }

    /// The lock under which a player comes in, goes, or is looked for: one flow after the other.
    fn turn(&self, player: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.of(player)
    }

    /// Makes a token by which a session comes back to its player at any frontend.
    fn resume_token(&self, session: SessionId, player: ObjectId, turn: u64) -> String {
        self.resume_key.token(&Resume { session, player, turn })
    }

    /// Where somebody comes into an island, if it is served here; `bits` spreads them.
    fn arrival(&self, island: IslandId, bits: u64) -> Option<Place> {
        self.islands.get(island).map(|terrain| terrain.arrival(bits))
    }

    fn draining(&self) -> bool {
        self.draining.has_begun()
    }

    fn end_session(&self, now_ms: u64, session: SessionId) {
        self.book().end(now_ms, session);
    }

    /// Two other frontends that a client may try when this one is lost.
    fn fallbacks(&self) -> Vec<String> {
        let peers = self.mesh.peers();
        let frontends = peers.up(Role::Frontend).filter_map(|p| p.record.public.clone());
        frontends.take(2).collect()
    }

    /// How the clocks of this node and its peers stand to ours.
    fn clocks(&self) -> Vec<protocol::Clock> {
        let me = self.mesh.me();
        let own = protocol::Clock { publisher: self.publisher, offset_ms: 0, node: me.node.to_string() };
        let peers = self.mesh.peers();
        let others = peers.iter().map(|p| protocol::Clock {
            publisher: p.record.incarnation.0,
            offset_ms: p.clock_offset_ms,
            node: p.record.node.to_string(),
        });
        let mut clocks: Vec<protocol::Clock> = std::iter::once(own).chain(others).collect();
        clocks.sort_unstable_by_key(|c| c.publisher);
        clocks
    }
}
