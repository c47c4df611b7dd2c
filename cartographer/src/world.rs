//! The world of one node: the reals it owns, the ghosts of what others own, and the frames that keep them alike.
//!
//! [`World`] is a value. It is written by one task, synchronously; it NEVER awaits, reads no clock, draws no random number
//! and touches no socket. The same calls in the same order give the same outputs, byte for byte. `now` is always in
//! milliseconds of the node's own clock, and never goes back: an earlier one counts as the latest.
//!
//! **One step of the tick** ([`World::tick`], 20 times a second):
//! 1. *Events* ([`events`]). Every moving real has at most one: the moment it crosses a line of the grid on which its cell or
//!    its view may change. Standing costs nothing, walking straight costs one event per line.
//! 2. *Frames* ([`cells`]). Whatever changed since the last tick is gathered by cell and becomes one frame per cell, encoded
//!    once: the changes of an object within a tick are told as one. The first frame of a cell's life is a keyframe.
//! 3. *Sight* ([`sights`]). What each seeing object sees newly or no longer; the counted union of it, and of
//!    [`World::watch_cells`], is what the node subscribes to.
//! 4. *Asks* ([`feeds`]). Which keyframes are missing, publisher by publisher; repeated until they come.
//!
//! **Versions.** Everything that happens to a real raises its version by one, so (epoch, version) names one state of it. A
//! mutation raises it at once, the frame carries what the object is when the tick ends; a keyframe made in between may
//! thus already hold what the next frame tells again, and the version makes that harmless. An object that is spawned again
//! MUST have a higher epoch than before.
//!
//! **Feeds.** For every publisher and cell in view there is a feed: the last sequence number taken. The next one is
//! applied, an older one is dropped, a later one waits in a bounded buffer while the keyframe is asked for. A keyframe
//! that is not older than the feed is the whole truth about its publisher and cell. A quiet cell whose last frame was lost is
//! found by comparing digests ([`verify`]), every two seconds.
//!
//! **Sequence numbers.** A cell's stream begins at the publisher's clock in milliseconds and counts on by one for ever: of
//! a cell that has been empty for long nothing but its number is kept. For a cell of which it never spoke the publisher
//! answers with an empty keyframe numbered 0.
//!
//! **What was departed.** A ghost that left is remembered for a while by its (epoch, version), so that an older frame of
//! another cell, arriving late, does not bring it back.

mod cells;
mod events;
mod feeds;
mod ghosts;
mod islands;
mod reals;
mod sights;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::Writer;
use crate::geometry::{Cell, IslandId, ObjectId};
use crate::motion::Motion;
use crate::vision::SightRules;

pub use feeds::{ANSWER_BYTES, ASK_AGAIN_MS, ASK_CELLS, ASK_TIMEOUT_MS, BUFFERED_FRAMES};
pub use ghosts::Ghost;
pub use reals::Real;
pub use verify::{QUIET_MS, VERIFY_BLOCKS, VERIFY_MS, Verify};

/// The game's state of an object. The world is generic over it and never looks inside.
pub trait Body: Send + 'static {
    /// The part that others may see. Its encoding MUST be at most [`crate::frame::VIEW_BYTES`] long, and give an equal view
    /// when it is read again.
    type View: Clone + PartialEq + Debug + Serialize + DeserializeOwned + Send + 'static;

    /// What others see of it now. MUST depend on nothing but the body.
    fn view(&self) -> Self::View;
}

/// How a world behaves.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// The number under which this node publishes: its incarnation, below 2^48, never used before.
    pub publisher: u64,
    /// Cells that touch the square of this reach around a seeing object come into view.
    pub vision_radius_tiles: u16,
    /// They leave when they are this much farther away.
    pub linger_tiles: u16,
    /// How far from the truth a walk may claim to begin, in units.
    pub tolerance_units: u32,
    /// How long the ghosts of a publisher that is gone stay, in milliseconds.
    pub ghost_grace_ms: u64,
}

impl WorldConfig {
    /// The usual values, for this publisher.
    pub fn new(publisher: u64) -> WorldConfig {
        WorldConfig {
            publisher,
            vision_radius_tiles: 40,
            linger_tiles: 16,
            tolerance_units: 256,
            ghost_grace_ms: 10_000,
        }
    }
}

/// One frame, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellFrame {
    /// The cell it is about.
    pub cell: Cell,
    /// The frame; clones share the bytes.
    pub bytes: Bytes,
}

/// How the view of an object changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SightChange {
    /// Who sees.
    pub object: ObjectId,
    /// Cells now seen and not before, row by row. [`World::keyframes`] of each tells what is there.
    pub entered: Vec<Cell>,
    /// Cells seen before and no longer, row by row. They may be of another island.
    pub left: Vec<Cell>,
}

/// Keyframes that are missing, to be asked of one publisher. What it answers goes to [`World::apply_answer`]; if it does not,
/// say so with [`World::ask_failed`]. The world asks again by itself in both cases, as long as it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub publisher: u64,
    /// For which cells; at most [`ASK_CELLS`].
    pub cells: Vec<Cell>,
}

/// What a tick gives out. Everything is sorted, and the same in every run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickOutput {
    /// This node's own frames: to be published, and forwarded to its clients who see the cell.
    pub frames: Vec<CellFrame>,
    /// Frames in the name of publishers that are gone: to be forwarded to clients, not published.
    pub forwards: Vec<CellFrame>,
    /// Whose view changed. Objects that were removed are not mentioned.
    pub vision: Vec<SightChange>,
    /// Cells that this node sees now and did not before: subscribe them before asking.
    pub watch: Vec<Cell>,
    /// Cells that it saw and no longer sees.
    pub unwatch: Vec<Cell>,
    /// Keyframes to ask for.
    pub asks: Vec<Ask>,
    /// Reals of this node of which another claims a higher epoch: this node's owner rights are over, look at the document.
    pub fenced: Vec<ObjectId>,
}

/// Why an object cannot be put somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnRefusal {
    /// The island was never added.
    #[error("unknown island")]
    UnknownIsland,
    /// The place is not on the island.
    #[error("place outside the island")]
    OutsideIsland,
    /// This node holds it already.
    #[error("object is already here")]
    AlreadyReal,
    /// Teleporting: this node does not hold it.
    #[error("unknown object")]
    Unknown,
    /// The number or epoch is not below 2^53.
    #[error("number out of range")]
    Range,
}

/// Why a walk is refused. Where there is a motion, it is the true one, to which a client is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkRefusal {
    /// This node does not hold the object.
    #[error("unknown object")]
    Unknown,
    /// The claimed beginning is too far from the truth.
    #[error("too far from the true place")]
    OutOfPlace {
        /// The true motion.
        motion: Motion,
    },
    /// Not one unit can be walked in this direction.
    #[error("the way is blocked")]
    Blocked {
        /// The true motion.
        motion: Motion,
    },
    /// The speed is not from 1 to [`crate::motion::MAX_SPEED`] units per second.
    #[error("speed out of range")]
    BadSpeed,
}

/// Counts. The first block is of now, the second only ever rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Objects that this node owns.
    pub reals: usize,
    /// Copies of what others own.
    pub ghosts: usize,
    /// Cells in which this node publishes or has lately.
    pub cells: usize,
    /// Cells that this node sees.
    pub seen_cells: usize,
    /// Publishers known.
    pub publishers: usize,
    /// Pairs of publisher and seen cell.
    pub feeds: usize,
    /// Keyframes that are missing.
    pub wanted: usize,
    /// Crossings that are scheduled, outdated ones included.
    pub scheduled: usize,
    /// Ghosts remembered after they left.
    pub departed: usize,

    /// Events that have run.
    pub events: u64,
    /// Own frames encoded by ticks.
    pub frames: u64,
    /// Bytes of them.
    pub frame_bytes: u64,
    /// Keyframes encoded outside ticks, own and of ghosts.
    pub keyframes: u64,
    /// Frames of others applied.
    pub applied: u64,
    /// Frames of others that were older than what was known.
    pub old: u64,
    /// Frames of others for cells nobody here sees, or of unknown publishers.
    pub ignored: u64,
    /// Frames of others that were no frames.
    pub malformed: u64,
    /// Gaps found in a feed.
    pub gaps: u64,
    /// Cells for which a keyframe was asked.
    pub asked: u64,
    /// Cells in which a comparison found a difference.
    pub repaired: u64,
}

/// The world of one node.
pub struct World<B: Body> {
    config: WorldConfig,
    sight: SightRules,
    now: u64,
    islands: FxHashMap<IslandId, islands::Island>,

    reals: FxHashMap<ObjectId, Real<B>>,
    /// Reals to be looked at by the next tick, each once as long as it lives.
    dirty: Vec<ObjectId>,
    /// Reals removed since the last tick that others were told of.
    removed: Vec<cells::Removed>,
    cells: FxHashMap<Cell, cells::OwnCell>,
    /// Cells that became empty, by when; in order of time.
    emptied: VecDeque<(u64, Cell)>,
    /// The last sequence numbers of cells that have been empty for long.
    dormant: FxHashMap<Cell, u64>,
    writer: Writer,
    schedule: events::Schedule,

    vision: sights::Vision,

    peers: BTreeMap<u64, feeds::Peer>,
    ghosts: FxHashMap<ObjectId, Ghost<B::View>>,
    departed: ghosts::Departed,
    fenced: Vec<ObjectId>,

    stats: Stats,
    trace: u64,
}

impl<B: Body> World<B> {
    /// An empty world.
    ///
    /// # Panics
    /// If the publisher's number is not below 2^48.
    pub fn new(config: WorldConfig) -> World<B> {
        assert!(config.publisher < crate::frame::PUBLISHER_LIMIT, "publisher {} is out of range", config.publisher);
        World {
            sight: SightRules::new(config.vision_radius_tiles, config.linger_tiles),
            config,
            now: 0,
            islands: FxHashMap::default(),
            reals: FxHashMap::default(),
            dirty: Vec::new(),
            removed: Vec::new(),
            cells: FxHashMap::default(),
            emptied: VecDeque::new(),
            dormant: FxHashMap::default(),
            writer: Writer::default(),
            schedule: events::Schedule::default(),
            vision: sights::Vision::default(),
            peers: BTreeMap::new(),
            ghosts: FxHashMap::default(),
            departed: ghosts::Departed::default(),
            fenced: Vec::new(),
            stats: Stats::default(),
            trace: 0,
        }
    }

    /// How it was made.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// Lets a tick pass: runs what is due, and gives out what the rest of the node must do.
    pub fn tick(&mut self, now: u64) -> TickOutput {
        let now = self.advance(now);
        let mut out = TickOutput::default();
        self.run_due(now);
        self.age_out(now, &mut out);
        self.publish(now, &mut out);
        self.look_around(&mut out);
        self.ask(now, &mut out);
        self.departed.forget(now);
        out.fenced = std::mem::take(&mut self.fenced);
        out.fenced.sort_unstable();
        out.fenced.dedup();
        out
    }

    /// Counts of what is and what happened.
    pub fn stats(&self) -> Stats {
        let feeds = self.peers.values().map(|peer| peer.feeds.len()).sum();
        let wanted = self.peers.values().map(|peer| peer.wanted.len()).sum();
        Stats {
            reals: self.reals.len(),
            ghosts: self.ghosts.len(),
            cells: self.cells.len(),
            seen_cells: self.vision.len(),
            publishers: self.peers.len(),
            feeds,
            wanted,
            scheduled: self.schedule.len(),
            departed: self.departed.len(),
            ..self.stats
        }
    }

    /// A number that differs, almost surely, between two worlds that published other bytes or hold other objects. For
    /// simulations that must repeat themselves.
    pub fn trace_hash(&self) -> u64 {
        self.state_hash() ^ self.trace
    }

    /// Moves the clock on. Time never goes back.
    fn advance(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }
}

impl<B: Body> Debug for World<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("publisher", &self.config.publisher).field("stats", &self.stats()).finish()
    }
}
