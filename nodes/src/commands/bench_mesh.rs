//! `wildmesh bench mesh`: how far ghosts lag behind their reals, and how many bytes two nodes move, each beside the bare
//! `zeromq` crate in the same run.
//!
//! Two whole nodes (hub and world loop) talk over ZeroMQ on loopback. *Lag* is the time from an object's change on one to
//! the application of it to the ghost on the other, so it holds the wait for the tick (up to 50 ms); *frame lag* leaves that
//! out. The bare crate sends messages of a frame's size at the same rate. *Throughput* alternates between the two in short
//! rounds, with the same window of messages under way, and is told as the median of the rounds' ratios.

mod bare;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cartographer::frame::{self, Content, Entry};
use cartographer::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use cartographer::ground::Plain;
use cartographer::world::{CellFrame, TickOutput, WorldConfig};
use hdrhistogram::Histogram;
use mesh::directory::memory::MemoryDirectory;
use mesh::record::PROTOCOL_VERSION;
use mesh::tasks::Tasks;
use mesh::{Event, Inbox, Mesh, NodeId, NodeRecord, PeerState, Role, Topic};
use rustc_hash::FxHashMap;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::bots::Percentiles;
use crate::cli::BenchMesh;
use crate::draining::Draining;
use crate::game::{Body, GameWorld, View, player::Player};
use crate::metrics::Metrics;
use crate::wiring::{self, drivers};
use crate::world_loop::{self, Input, Rules, TICK_MS};

/// Walkers on the node that owns them.
const WALKERS: u64 = 5_000;

/// Changes of course per second: a walker every 2.5 s, about what 5,000 clients do, half of what a frontend is built for.
const CHANGES_PER_S: u64 = 2_000;

/// The side of the plain, in tiles.
const SIDE: u16 = 1_024;

/// The island's number.
const ISLAND: IslandId = IslandId(1);

/// Messages of the throughput part: so many parts of so many bytes, as a block of cells makes them in a busy tick.
const PARTS: usize = 8;
const PART_BYTES: usize = 1_024;

/// Messages under way, at most.
const WINDOW: u64 = 256;

/// Rounds of the throughput part.
const ROUNDS: usize = 7;

/// How long the two nodes may take to find each other.
const MEETING: Duration = Duration::from_secs(15);

/// Runs the command.
pub async fn run(bench: BenchMesh) -> Result<()> {
    let lag = lag(bench.seconds).await?;
    let bare = bare::lag(bench.seconds, lag.frame_bytes, lag.frames_per_s).await?;
    eprintln!(
        "ghosts lag behind by p50 {:.1} p99 {:.1} ms ({} changes; a tick is {TICK_MS} ms); from publishing to the ghost p50 {:.3} p99 {:.3} ms",
        lag.ghost.p50, lag.ghost.p99, lag.changes, lag.frame.p50, lag.frame.p99
    );
    eprintln!(
        "bare zeromq, {} bytes {} times a second: p50 {:.3} p99 {:.3} ms",
        lag.frame_bytes, lag.frames_per_s, bare.p50, bare.p99
    );
    let mut rounds = Vec::new();
    let length = Duration::from_millis((bench.seconds * 1_000 / ROUNDS as u64).max(300));
    let (sender, receiver) = pair("throughput").await?;
    let mut link = MeshLink::start(sender, receiver).await?;
    let mut raw = bare::Link::start().await?;
    for round in 0..ROUNDS {
        let ours = link.round(length).await;
        let theirs = raw.round(length).await;
        eprintln!("round {round}: mesh {:.0} MiB/s, bare {:.0} MiB/s, ratio {:.2}", ours, theirs, ours / theirs);
        rounds.push((ours / theirs, ours, theirs));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, ours, theirs) = rounds[rounds.len() / 2];
    eprintln!("throughput: {ratio:.2} of the bare crate's (median of {ROUNDS} rounds)");
    if bench.json {
        let figures = json!({
            "ghost_lag_ms": lag.ghost, "frame_lag_ms": lag.frame, "bare_lag_ms": bare, "throughput_ratio": ratio,
            "mesh_mib_per_s": ours, "bare_mib_per_s": theirs, "tick_ms": TICK_MS, "changes": lag.changes,
            "frames_per_s": lag.frames_per_s, "frame_bytes": lag.frame_bytes,
        });
        println!("{figures}");
    }
    Ok(())
}

/// One end of a pair of nodes.
struct End {
    mesh: Mesh,
    inbox: Inbox,
    tasks: Tasks,
}

/// Two nodes that have greeted each other over ZeroMQ.
async fn pair(cluster: &str) -> Result<(End, End)> {
    let ground = Tasks::real();
    let directory = MemoryDirectory::start(&ground, 0);
    let mut ends = Vec::new();
    for name in ["zoo-1", "zoo-2"] {
        let (tasks, secret) = (Tasks::real(), drivers::secret()?);
        let life = wiring::incarnation(&secret);
        let transport = drivers::zeromq(IpAddr::V4(Ipv4Addr::LOCALHOST), "127.0.0.1", life, &tasks)?;
        let record = NodeRecord {
            node: NodeId::new(name)?,
            role: Role::Zoo,
            incarnation: life,
            publish: transport.endpoints.publish.clone(),
            request: transport.endpoints.request.clone(),
            public: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
        };
        let config = mesh::Config {
            cluster: cluster.to_owned(),
            district: "bench".to_owned(),
            key: b"of the bench".to_vec(),
            record,
            seed: life.0,
            lease_ttl_s: 5,
        };
        let (mesh, inbox) = mesh::start(config, transport, Arc::new(directory.client()), &tasks);
        ends.push(End { mesh, inbox, tasks });
    }
    for end in &ends {
        let mut peers = end.mesh.watch_peers();
        let met = peers.wait_for(|table| table.iter().any(|p| p.state == PeerState::Up));
        timeout(MEETING, met).await.context("the two nodes did not find each other")??;
    }
    let second = ends.pop().context("two nodes")?;
    let first = ends.pop().context("two nodes")?;
    Ok((first, second))
}

struct Lag {
    ghost: Percentiles,
    frame: Percentiles,
    changes: u64,
    frames_per_s: u64,
    frame_bytes: usize,
}

/// When things happened, shared by the two worlds.
struct Times {
    changed: Mutex<FxHashMap<u64, Instant>>,
    published: Mutex<FxHashMap<(Cell, u64), Instant>>,
    ghost: Mutex<Histogram<u64>>,
    frame: Mutex<Histogram<u64>>,
    frames: AtomicU64,
    frame_bytes: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node that owns the walkers.
struct Walking(Arc<Times>);

impl Rules for Walking {
    type Input = (ObjectId, Place);

    fn input(&mut self, world: &mut GameWorld, now_ms: u64, (id, to): (ObjectId, Place)) {
        let Some(from) = world.get(id).map(|real| real.place(now_ms)) else { return };
        // A walker that is where it is to go stands; nothing is measured then.
        if world.walk(now_ms, id, from, to, 768).is_err() {
            lock(&self.0.changed).remove(&id.0);
        }
    }

    fn ticked(&mut self, _: &mut GameWorld, _: u64, out: &TickOutput, _: Vec<CellFrame>) {
        let (now, mut published) = (Instant::now(), lock(&self.0.published));
        for frame in &out.frames {
            if let Ok(header) = frame::header(&frame.bytes) {
                published.insert((header.cell, header.seq), now);
            }
            self.0.frames.fetch_add(1, Ordering::Relaxed);
            self.0.frame_bytes.fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

/// The node that holds the ghosts.
struct Watching(Arc<Times>);

impl Rules for Watching {
    type Input = std::convert::Infallible;

    fn input(&mut self, _: &mut GameWorld, _: u64, input: Self::Input) {
        match input {}
    }

    fn ticked(&mut self, _: &mut GameWorld, _: u64, _: &TickOutput, _: Vec<CellFrame>) {}

    fn applied(&mut self, _: &GameWorld, frames: &[CellFrame]) {
        let now = Instant::now();
        let us = |since: Instant| now.saturating_duration_since(since).as_micros() as u64;
        for frame in frames {
            let Ok((header, Content::Delta(entries))) = frame::decode::<View>(&frame.bytes) else { continue };
            if let Some(published) = lock(&self.0.published).remove(&(header.cell, header.seq)) {
                lock(&self.0.frame).saturating_record(us(published).max(1));
            }
            for entry in entries {
                let id = match entry {
                    Entry::Enter { object, .. } => object.id,
                    Entry::Move { id, .. } => id,
                    Entry::Change { .. } | Entry::Leave { .. } => continue,
                };
                if let Some(changed) = lock(&self.0.changed).remove(&id.0) {
                    lock(&self.0.ghost).saturating_record(us(changed).max(1));
                }
            }
        }
    }
}

/// Takes calls about cells to the world, as a node's dispatcher does.
fn answer<I: Send + 'static>(
    end: &Tasks,
    mut calls: tokio::sync::mpsc::Receiver<mesh::IncomingCall>,
    world: tokio::sync::mpsc::Sender<Input<I>>,
) {
    end.spawn(async move {
        while let Some(call) = calls.recv().await {
            if world.send(Input::Call(call)).await.is_err() {
                return;
            }
        }
    });
}

fn world_of(mesh: &Mesh) -> GameWorld {
    let mut world = GameWorld::new(WorldConfig::new(mesh.me().incarnation.0));
    world.add_island(ISLAND, Arc::new(Plain::new(SIDE, SIDE)));
    world
}

async fn lag(seconds: u64) -> Result<Lag> {
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map(Mutex::new);
    let times = Arc::new(Times {
        changed: Mutex::default(),
        published: Mutex::default(),
        ghost: histogram()?,
        frame: histogram()?,
        frames: AtomicU64::new(0),
        frame_bytes: AtomicU64::new(0),
    });
    let (owner, watcher) = pair("lag").await?;
    let side = i32::from(SIDE) * 256;
    let place = |n: u64| {
        Place::new(
            (n.wrapping_mul(2_654_435_761) % side as u64) as i32,
            (n.wrapping_mul(40_503_001) % side as u64) as i32,
        )
    };
    let mut owned = world_of(&owner.mesh);
    for id in 1..=WALKERS {
        let body = Body::Player(Player { name: format!("walker {id}"), hue: (id % 360) as u16, ..Player::default() });
        owned.spawn(0, ObjectId(id), Epoch(1), ISLAND, place(id), body, false).context("a walker on the plain")?;
    }
    let mut seen = world_of(&watcher.mesh);
    let cells = SIDE / 32;
    seen.watch_cells((0..cells).flat_map(|y| (0..cells).map(move |x| Cell::new(ISLAND, x, y))));
    let metrics = |mesh: &Mesh| Metrics::new(mesh.me().node.as_str(), "zoo");
    let Inbox { events, calls } = owner.inbox;
    let walking = world_loop::start(
        owned,
        owner.mesh.clone(),
        events,
        metrics(&owner.mesh),
        Draining::default(),
        &owner.tasks,
        |_| Walking(times.clone()),
    )?;
    answer(&owner.tasks, calls, walking.inputs.clone());
    let Inbox { events, calls } = watcher.inbox;
    let watching = world_loop::start(
        seen,
        watcher.mesh.clone(),
        events,
        metrics(&watcher.mesh),
        Draining::default(),
        &watcher.tasks,
        |_| Watching(times.clone()),
    )?;
    answer(&watcher.tasks, calls, watching.inputs.clone());
    let mut report = watching.report.clone();
    let all = report.wait_for(|r| r.stats.ghosts as u64 == WALKERS);
    timeout(MEETING, all).await.context("the ghosts did not all appear")??;

    let (started, mut sent) = (Instant::now(), 0_u64);
    let mut before = (0, 0);
    let warm_up = CHANGES_PER_S;
    while sent < CHANGES_PER_S * seconds + warm_up {
        let due = started.elapsed().as_micros() as u64 * CHANGES_PER_S / 1_000_000;
        while sent < due {
            sent += 1;
            let id = sent % WALKERS + 1;
            lock(&times.changed).insert(id, Instant::now());
            walking.role((ObjectId(id), place(sent.wrapping_mul(7_919)))).await;
            if sent == warm_up {
                lock(&times.ghost).reset();
                lock(&times.frame).reset();
                before = (times.frames.load(Ordering::Relaxed), times.frame_bytes.load(Ordering::Relaxed));
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    let frames = times.frames.load(Ordering::Relaxed) - before.0;
    let bytes = times.frame_bytes.load(Ordering::Relaxed) - before.1;
    let (ghost, frame) = (lock(&times.ghost).clone(), lock(&times.frame).clone());
    owner.tasks.stop();
    watcher.tasks.stop();
    Ok(Lag {
        ghost: Percentiles::of(&ghost),
        frame: Percentiles::of(&frame),
        changes: ghost.len(),
        frames_per_s: frames / seconds.max(1),
        frame_bytes: (bytes / frames.max(1)) as usize,
    })
}

/// Two nodes of which one publishes as fast as the other takes.
struct MeshLink {
    sender: End,
    received: Arc<AtomicU64>,
    sent: u64,
    _receiver: (Mesh, Tasks),
}

impl MeshLink {
    async fn start(sender: End, receiver: End) -> Result<MeshLink> {
        let received = Arc::new(AtomicU64::new(0));
        let topic = Topic::new("throughput");
        receiver.mesh.subscribe(topic.clone());
        let (count, mut events) = (received.clone(), receiver.inbox.events);
        receiver.tasks.spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Frames { parts, .. } = event {
                    count.fetch_add((parts.len() == PARTS) as u64, Ordering::Release);
                }
            }
        });
        // Until the subscription has arrived, what is published goes nowhere.
        let knock = async {
            while received.load(Ordering::Acquire) == 0 {
                sender.mesh.publish(topic.clone(), parts());
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(200)).await;
        };
        timeout(MEETING, knock).await.context("nothing arrived over the mesh")?;
        let sent = received.load(Ordering::Acquire);
        Ok(MeshLink { sender, received, sent, _receiver: (receiver.mesh, receiver.tasks) })
    }

    /// MiB per second over one round.
    async fn round(&mut self, length: Duration) -> f64 {
        let topic = Topic::new("throughput");
        let (started, before) = (Instant::now(), self.received.load(Ordering::Acquire));
        while started.elapsed() < length {
            if self.sent < self.received.load(Ordering::Acquire) + WINDOW {
                self.sender.mesh.publish(topic.clone(), parts());
                self.sent += 1;
            } else {
                tokio::task::yield_now().await;
            }
        }
        rate(self.received.load(Ordering::Acquire) - before, started.elapsed())
    }
}

fn rate(messages: u64, took: Duration) -> f64 {
    messages as f64 * (PARTS * PART_BYTES) as f64 / f64::from(1 << 20) / took.as_secs_f64()
}

fn parts() -> Vec<Bytes> {
    static PART: [u8; PART_BYTES] = [7; PART_BYTES];
    (0..PARTS).map(|_| Bytes::from_static(&PART)).collect()
}

impl Drop for MeshLink {
    fn drop(&mut self) {
        self.sender.tasks.stop();
        self._receiver.1.stop();
    }
}
