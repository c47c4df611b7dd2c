//! The one task of a node that writes its world: it takes inputs, ticks at 20 Hz, and hands out what comes of it.
//!
//! Whether the node may act as an owner is asked of its lease before anything is done ([`WorldLoop::mind_the_lease`]), not
//! learnt from events: a node that wakes from a freeze has lost it before it takes its next input or tick. What it owns is NEVER
//! published when another may own it: not later than the lease lasts, and, after the node may have been gone from the
//! directory, not before its rules have confirmed from the documents that what is here is theirs.
//!
//! Roles share this loop and bring their [`Rules`]. Inside, everything is synchronous; whatever waits (asking a peer for
//! keyframes, a login, a save) runs elsewhere and comes back as an [`Input`]. The loop NEVER waits for anything but its
//! next input or tick.

mod topics;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{Block, Cell, IslandId, ObjectId};
use cartographer::ground::Ground;
use cartographer::world::{CellFrame, Stats, TickOutput};
use hdrhistogram::Histogram;
use mesh::registry::OwnLease;
use mesh::tasks::Tasks;
use mesh::{CallRefusal, Event, Incarnation, IncomingCall, Mesh, Method, NodeId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::draining::Draining;
use crate::game::GameWorld;
use crate::last_seen;
use crate::load::Load;
use crate::methods::moving::CELLS_GHOSTS;
use crate::methods::{CELLS_ASK, CELLS_VERIFY, pack, unpack};
use crate::metrics::Metrics;
use crate::protocol::codes;
use topics::Topics;

/// Milliseconds between two ticks: 20 Hz.
pub const TICK_MS: u64 = 50;

/// Inputs that wait for the world, at most; beyond it senders wait.
pub const INPUTS: usize = 8_192;

/// Events taken before a tick, at most, so that a flood of them cannot keep the tick from coming.
const DRAIN: usize = 4_096;

/// How often the world tells others about itself, in ticks: once a second.
const REPORT_TICKS: u64 = 20;

/// What comes to the world from flows that wait.
pub enum Input<I> {
    /// A peer asks about our cells.
    Call(IncomingCall),
    /// A peer answered with keyframes; `None` if it could not be asked.
    Answered(u64, Vec<Cell>, Option<Vec<Bytes>>),
    /// A peer compared digests; these cells differ.
    Differ(u64, Vec<Cell>),
    /// Somebody looks at the world between two inputs: for checks and tools.
    Inspect(Inspection),
    /// There is one more island.
    AddIsland(IslandId, Arc<dyn Ground>),
    /// An island is gone. The world lets it go when nothing of this node is there any more.
    RemoveIsland(IslandId),
    /// Something for the role.
    Role(I),
}

/// A look at a world.
pub type Inspection = Box<dyn FnOnce(&GameWorld) + Send>;

/// What a role adds to the loop.
pub trait Rules: Send + 'static {
    /// What its flows tell it.
    type Input: Send + 'static;

    /// Takes one input.
    fn input(&mut self, world: &mut GameWorld, now_ms: u64, input: Self::Input);

    /// A tick has run. `frames` are those of all cells touched since the last tick, own and forwarded, in order.
    fn ticked(&mut self, world: &mut GameWorld, now_ms: u64, out: &TickOutput, frames: Vec<CellFrame>);

    /// Frames of others have just been applied; [`Rules::ticked`] brings them again with the next tick.
    fn applied(&mut self, world: &GameWorld, frames: &[CellFrame]) {
        let _ = (world, frames);
    }

    /// The node's right to act as an owner is lost or back. Told before the first input or tick for which that is so.
    fn lease(&mut self, world: &mut GameWorld, now_ms: u64, held: bool) {
        let _ = (world, now_ms, held);
    }

    /// True while it is not known whether what this world holds is still this node's. Then nothing is published, and no
    /// keyframe told: what others miss meanwhile they find missing and ask for, as after any loss.
    fn is_silent(&self) -> bool {
        false
    }

    /// Adds what the role knows to the load that rides in heartbeats.
    fn load(&self, load: &mut Load) {
        let _ = load;
    }
}

/// What a world says of itself once a second.
#[derive(Clone, Debug, Default)]
pub struct WorldReport {
    /// Counts.
    pub stats: Stats,
    /// The load that it last told its peers.
    pub load: Load,
    /// The cells it sees.
    pub cells: BTreeSet<Cell>,
    /// How many objects of its own are on each island.
    pub by_island: BTreeMap<IslandId, u32>,
    /// Ticks since the start.
    pub ticks: u64,
    /// The time a tick takes, in microseconds, over the last seconds: 50th and 99th percentile, and the longest.
    pub tick_us: [u64; 3],
    /// The longest tick since the start, in microseconds.
    pub longest_tick_us: u64,
}

impl WorldReport {
    /// The cells seen of one island.
    pub fn cells_of(&self, island: IslandId) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |c| c.island == island)
    }
}

/// A running world, from outside.
pub struct WorldHandle<I> {
    /// The way in.
    pub inputs: mpsc::Sender<Input<I>>,
    /// What it last said of itself.
    pub report: watch::Receiver<Arc<WorldReport>>,
}

impl<I> Clone for WorldHandle<I> {
    fn clone(&self) -> Self {
        WorldHandle { inputs: self.inputs.clone(), report: self.report.clone() }
    }
}

impl<I> WorldHandle<I> {
    /// Hands the role something; false if the world is gone.
    pub async fn role(&self, input: I) -> bool {
        self.inputs.send(Input::Role(input)).await.is_ok()
    }
}

/// Starts the loop on a thread of its own (in simulation: on the current runtime).
///
/// While the node is `draining` its peers are told so with its load. `make` builds the rules; it is given the handle, which flows of the role need too.
pub fn start<R: Rules>(
    world: GameWorld,
    mesh: Mesh,
    events: mpsc::Receiver<Event>,
    metrics: Arc<Metrics>,
    draining: Draining,
    tasks: &Tasks,
    make: impl FnOnce(&WorldHandle<R::Input>) -> R,
) -> std::io::Result<WorldHandle<R::Input>> {
    let (inputs, receiver) = mpsc::channel(INPUTS);
    let (reporter, report) = watch::channel(Arc::default());
    let handle = WorldHandle { inputs: inputs.clone(), report };
    let rules = make(&handle);
    let name = format!("world {}", mesh.me().node);
    let lease = mesh.lease();
    let looped = WorldLoop {
        world,
        rules,
        topics: Topics::default(),
        peers: BTreeMap::new(),
        forwards: Vec::new(),
        seen: BTreeSet::new(),
        leaving: BTreeSet::new(),
        ticks: 0,
        timing: Timing::default(),
        mesh,
        metrics,
        tasks: tasks.clone(),
        inputs: inputs.downgrade(),
        reporter,
        draining,
        lease,
        term: None,
    };
    tasks.spawn_thread(&name, move || looped.run(events, receiver))?;
    Ok(handle)
}

struct WorldLoop<R: Rules> {
    world: GameWorld,
    rules: R,
    topics: Topics,
    /// The name of every greeted peer, by the number under which it publishes.
    peers: BTreeMap<u64, NodeId>,
    /// Frames of others applied since the last tick.
    forwards: Vec<CellFrame>,
    seen: BTreeSet<Cell>,
    /// Islands that are gone, but not from this world yet.
    leaving: BTreeSet<IslandId>,
    ticks: u64,
    timing: Timing,
    mesh: Mesh,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    /// Weak, so that the world ends when everybody who feeds it has gone.
    inputs: mpsc::WeakSender<Input<R::Input>>,
    reporter: watch::Sender<Arc<WorldReport>>,
    draining: Draining,
    lease: OwnLease,
    /// The term that the rules know of; `None` within if they know that there is none, without if they were told nothing yet.
    term: Option<Option<u64>>,
}

impl<R: Rules> WorldLoop<R> {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, mut inputs: mpsc::Receiver<Input<R::Input>>) {
        let mut ticker = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticker.tick() => {
                    // What a peer said in one tick comes in several messages: an object that crosses a border leaves by one
                    // and enters by another. Taking all that is here keeps clients from seeing it gone in between.
                    for _ in 0..DRAIN {
                        let Ok(event) = events.try_recv() else { break };
                        self.event(event);
                    }
                    self.tick();
                }
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                input = inputs.recv() => match input {
                    Some(input) => self.input(input),
                    None => return,
                },
            }
        }
    }

    /// Tells the rules of a lease that was lost or came back since this was asked last.
    fn mind_the_lease(&mut self, now: u64) {
        let term = self.lease.term();
        if self.term == Some(term) || planted::is("lease_loss_untold") {
            return;
        }
        let before = self.term.replace(term);
        if before != Some(None) {
            self.rules.lease(&mut self.world, now, false);
        }
        if term.is_some() {
            self.rules.lease(&mut self.world, now, true);
        }
    }

    /// Whether what is real here may be shown to others.
    fn may_speak(&self) -> bool {
        self.lease.speaks() && !self.rules.is_silent()
    }

    fn event(&mut self, event: Event) {
        let now = self.mesh.now_ms();
        self.mind_the_lease(now);
        if !matches!(event, Event::Frames { .. }) {
            tracing::debug!(node = %self.mesh.me().node, ?event, "the world is told");
        }
        match event {
            Event::Frames { from, parts, .. } => {
                for part in parts {
                    let applied = self.world.apply(now, from.0, part);
                    self.metrics.frames_applied.inc_by(applied.len() as u64);
                    self.rules.applied(&self.world, &applied);
                    self.forwards.extend(applied);
                }
            }
            Event::PeerUp(peer) => {
                let Incarnation(publisher) = peer.record.incarnation;
                self.peers.insert(publisher, peer.record.node.clone());
                self.world.peer_up(now, publisher);
            }
            Event::PeerDown { .. } => {}
            Event::PeerGone { incarnation, .. } => {
                self.peers.remove(&incarnation.0);
                self.world.peer_gone(now, incarnation.0);
            }
            Event::Lost { from } => self.world.lost(now, from.0),
            Event::NameTaken { by } => {
                tracing::error!(
                    "another living node has the name {} (life {:x}): this one stops",
                    by.node,
                    by.incarnation.0
                );
                self.tasks.stop();
            }
            // The lease itself has been asked already.
            Event::OwnLeaseLost | Event::OwnLeaseBack => {}
        }
    }

    fn input(&mut self, input: Input<R::Input>) {
        let now = self.mesh.now_ms();
        self.mind_the_lease(now);
        match input {
            Input::Role(input) => self.rules.input(&mut self.world, now, input),
            Input::Answered(publisher, cells, Some(frames)) => {
                let applied = self.world.apply_answer(now, publisher, &cells, frames);
                self.forwards.extend(applied);
            }
            Input::Answered(publisher, cells, None) => self.world.ask_failed(now, publisher, &cells),
            Input::Differ(publisher, cells) => self.world.apply_verify(now, publisher, &cells),
            Input::AddIsland(id, ground) => {
                self.leaving.remove(&id);
                self.world.add_island(id, ground);
            }
            Input::RemoveIsland(id) => drop(self.leaving.insert(id)),
            Input::Inspect(look) => look(&self.world),
            Input::Call(call) => self.answer(call),
        }
    }

    fn answer(&mut self, call: IncomingCall) {
        let speaks = self.may_speak();
        let answer = match call.method.as_str() {
            name if !speaks && [CELLS_ASK.name, CELLS_VERIFY.name].contains(&name) => {
                Err(CallRefusal::new(codes::UNAVAILABLE, "this node does not know at the moment what it owns"))
            }
            name if name == CELLS_ASK.name => unpack::<Vec<Cell>>(&call.body)
                .map(|cells| pack(&self.world.answer_ask(&cells).into_iter().map(Part).collect::<Vec<_>>())),
            name if name == CELLS_VERIFY.name => {
                unpack::<Vec<(Block, u16, u64)>>(&call.body).map(|digests| pack(&self.world.answer_verify(&digests)))
            }
            name if name == CELLS_GHOSTS.name => unpack::<Vec<ObjectId>>(&call.body).map(|objects| {
                let peers = self.mesh.peers();
                let offset = |publisher| peers.by_incarnation(Incarnation(publisher)).map_or(0, |p| p.clock_offset_ms);
                pack(&last_seen::look(&self.world, self.mesh.now_ms(), &objects, offset))
            }),
            other => Err(CallRefusal::unknown_method(other)),
        };
        call.answer(answer);
    }

    fn tick(&mut self) {
        let started = Instant::now();
        let now = self.mesh.now_ms();
        self.mind_the_lease(now);
        let out = self.world.tick(now);
        // Whoever misses these asks for keyframes when it hears of this node again.
        if self.may_speak() {
            self.publish(&out);
        }
        let mut frames = std::mem::take(&mut self.forwards);
        frames.extend(out.forwards.iter().chain(&out.frames).cloned());
        self.look(&out);
        for ask in &out.asks {
            self.ask(ask.publisher, ask.cells.clone());
        }
        for verify in self.world.verify(now) {
            self.verify(verify.publisher, verify.digests);
        }
        self.rules.ticked(&mut self.world, now, &out, frames);
        self.ticks += 1;
        self.timing.add(started.elapsed());
        self.metrics.tick_seconds.observe(started.elapsed().as_secs_f64());
        if self.ticks.is_multiple_of(REPORT_TICKS) {
            self.leaving.retain(|id| !self.world.remove_island(*id));
            self.report();
        }
    }

    /// Publishes the tick's frames: one message per block of cells, the frames inside shared with everybody else.
    fn publish(&mut self, out: &TickOutput) {
        let mut blocks: BTreeMap<Block, Vec<Bytes>> = BTreeMap::new();
        for frame in &out.frames {
            self.metrics.frames_published.inc();
            self.metrics.frame_bytes_published.inc_by(frame.bytes.len() as u64);
            blocks.entry(frame.cell.block()).or_default().push(frame.bytes.clone());
        }
        for (block, parts) in blocks {
            self.mesh.publish(self.topics.of(block), parts);
        }
    }

    /// Follows the node's vision: subscribes to the blocks of cells that come into it, leaves those that go out.
    fn look(&mut self, out: &TickOutput) {
        for cell in &out.watch {
            self.seen.insert(*cell);
            if let Some(topic) = self.topics.enter(cell.block()) {
                self.mesh.subscribe(topic);
            }
        }
        for cell in &out.unwatch {
            self.seen.remove(cell);
            if let Some(topic) = self.topics.leave(cell.block()) {
                self.mesh.unsubscribe(topic);
            }
        }
    }

    fn ask(&self, publisher: u64, cells: Vec<Cell>) {
        self.metrics.keyframes_asked.inc_by(cells.len() as u64);
        let body = pack(&cells);
        self.flow(publisher, &CELLS_ASK, body, move |answer| {
            let frames = answer.and_then(|bytes| unpack::<Vec<Part>>(&bytes).ok());
            Input::Answered(publisher, cells, frames.map(|parts| parts.into_iter().map(|p| p.0).collect()))
        });
    }

    fn verify(&self, publisher: u64, digests: Vec<(Block, u16, u64)>) {
        self.flow(publisher, &CELLS_VERIFY, pack(&digests), move |answer| {
            Input::Differ(publisher, answer.and_then(|bytes| unpack(&bytes).ok()).unwrap_or_default())
        });
    }

    /// Calls a peer in the background and brings what comes of it back as an input.
    fn flow(
        &self,
        publisher: u64,
        method: &'static Method,
        body: Bytes,
        back: impl FnOnce(Option<Bytes>) -> Input<R::Input> + Send + 'static,
    ) {
        let Some(inputs) = self.inputs.upgrade() else { return };
        let (mesh, peer) = (self.mesh.clone(), self.peers.get(&publisher).cloned());
        self.tasks.spawn(async move {
            let answer = match peer {
                Some(peer) => mesh.call(&peer, method, body).await.ok(),
                None => None,
            };
            // An error means that the world has ended.
            let _ = inputs.send(back(answer)).await;
        });
    }

    fn report(&mut self) {
        let stats = self.world.stats();
        self.metrics.reals.set(stats.reals as i64);
        self.metrics.ghosts.set(stats.ghosts as i64);
        self.metrics.vision_cells.set(self.seen.len() as i64);
        let tick_us = self.timing.percentiles();
        let mut load = Load { tick_p99_us: tick_us[1] as u32, ..Load::default() };
        load.sees = self.seen.iter().map(|c| (c.island.0, c.x, c.y)).collect();
        load.crowds = self.world.reals().map(|r| r.cell()).map(|c| (c.island.0, c.x, c.y)).collect();
        load.draining = self.draining.has_begun();
        self.rules.load(&mut load);
        let mut by_island = BTreeMap::new();
        self.world.reals().for_each(|real| *by_island.entry(real.cell().island).or_default() += 1);
        self.mesh.set_load(Bytes::from(load.encode()));
        self.reporter.send_replace(Arc::new(WorldReport {
            stats,
            load,
            cells: self.seen.clone(),
            by_island,
            ticks: self.ticks,
            tick_us,
            longest_tick_us: self.timing.longest_us,
        }));
    }
}

/// How long ticks take. Keeps the last seconds, so that a load follows what is now.
#[derive(Default)]
struct Timing {
    recent: Option<Histogram<u64>>,
    previous: Option<Histogram<u64>>,
    longest_us: u64,
}

impl Timing {
    /// Ticks in one of the two halves of the window.
    const HALF: u64 = 100;

    fn add(&mut self, took: Duration) {
        let us = took.as_micros() as u64;
        self.longest_us = self.longest_us.max(us);
        if self.recent.as_ref().is_some_and(|h| h.len() >= Self::HALF) {
            self.previous = self.recent.take();
        }
        if self.recent.is_none() {
            // Bounds that the library accepts: the error cannot occur, and without a histogram nothing is measured.
            self.recent = Histogram::new_with_bounds(1, 60_000_000, 2).ok();
        }
        if let Some(recent) = &mut self.recent {
            recent.saturating_record(us.max(1));
        }
    }

    fn percentiles(&self) -> [u64; 3] {
        let mut both = self.recent.clone();
        if let (Some(both), Some(previous)) = (&mut both, &self.previous) {
            // Histograms of equal bounds always add.
            let _ = both.add(previous);
        }
        both.map_or([0; 3], |h| [h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.max()])
    }
}

/// Bytes as MessagePack's own byte string.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Part(#[serde(with = "part")] Bytes);

mod part {
    //! `bytes::Bytes` as a MessagePack byte string.
    use bytes::Bytes;
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Bytes, D::Error> {
        struct ByteString;
        impl Visitor<'_> for ByteString {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }
        }
        input.deserialize_bytes(ByteString)
    }
}
