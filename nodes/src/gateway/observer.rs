//! The gateway's world: no object of its own, only cells that are watched while somebody looks at the live map.
//!
//! Frames of watched cells go to viewers unchanged, one shared batch per island and tick. A viewer that does not keep up
//! gets none until it has taken all it was given, then the whole island anew. Runs inside the world loop; it NEVER waits
//! for a viewer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Cell, IslandId, TILES_PER_CELL};
use cartographer::world::{CellFrame, TickOutput};
use tokio::sync::mpsc;

use crate::game::GameWorld;
use crate::metrics::Metrics;
use crate::world_loop::Rules;

/// Batches that wait for one viewer, at most: two seconds' worth.
pub const BATCHES: usize = 40;

/// How long an island stays watched after its last viewer has gone, in milliseconds: reloading a page costs nothing.
const LINGER_MS: u64 = 10_000;

/// The number of a viewer. NEVER used twice by one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewerId(pub u64);

/// What a viewer is given.
#[derive(Clone, Debug)]
pub enum Batch {
    /// The frames of one tick.
    Frames(Arc<Vec<Bytes>>),
    /// Everything there is now. What the viewer knew before is void.
    Anew(Vec<Bytes>),
}

/// Somebody who looks at an island.
#[derive(Debug)]
pub struct Viewer {
    /// Its number.
    pub id: ViewerId,
    /// Where to.
    pub queue: mpsc::Sender<Batch>,
}

/// What the HTTP side tells the world.
#[derive(Debug)]
pub enum MapInput {
    /// A viewer of an island of this size in tiles.
    Join(IslandId, (u16, u16), Viewer),
    /// It has gone.
    Leave(IslandId, ViewerId),
}

/// The rules of the gateway's world.
#[derive(Debug)]
pub struct Observer {
    islands: BTreeMap<IslandId, Watched>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Watched {
    cells: Vec<Cell>,
    viewers: Vec<Looking>,
    empty_since_ms: Option<u64>,
}

#[derive(Debug)]
struct Looking {
    viewer: Viewer,
    /// It was given less than everything and needs all anew.
    behind: bool,
}

impl Observer {
    /// Nobody looks yet.
    pub fn new(metrics: Arc<Metrics>) -> Observer {
        Observer { islands: BTreeMap::new(), metrics }
    }

    fn join(&mut self, world: &mut GameWorld, island: IslandId, size: (u16, u16), viewer: Viewer) {
        let watched = self.islands.entry(island).or_insert_with(|| {
            let cells = cells_of(island, size);
            world.watch_cells(cells.iter().copied());
            Watched { cells, viewers: Vec::new(), empty_since_ms: None }
        });
        watched.empty_since_ms = None;
        watched.viewers.push(Looking { viewer, behind: true });
        self.metrics.map_viewers.inc();
    }

    fn leave(&mut self, now_ms: u64, island: IslandId, id: ViewerId) {
        if let Some(watched) = self.islands.get_mut(&island) {
            watched.keep(now_ms, &self.metrics, |looking| looking.viewer.id != id);
        }
    }

    /// Stops watching islands that nobody has looked at for a while.
    fn forget(&mut self, world: &mut GameWorld, now_ms: u64) {
        self.islands.retain(|_, watched| {
            let kept = watched.empty_since_ms.is_none_or(|since| now_ms.saturating_sub(since) < LINGER_MS);
            if !kept {
                world.unwatch_cells(watched.cells.iter().copied());
            }
            kept
        });
    }
}

impl Watched {
    fn keep(&mut self, now_ms: u64, metrics: &Metrics, wanted: impl Fn(&Looking) -> bool) {
        let before = self.viewers.len();
        self.viewers.retain(wanted);
        metrics.map_viewers.sub((before - self.viewers.len()) as i64);
        if self.viewers.is_empty() && self.empty_since_ms.is_none() {
            self.empty_since_ms = Some(now_ms);
        }
    }

    fn give(&mut self, world: &mut GameWorld, frames: Vec<Bytes>, metrics: &Metrics) {
        let frames = Arc::new(frames);
        let mut anew: Option<Vec<Bytes>> = None;
        for looking in &mut self.viewers {
            let queue = &looking.viewer.queue;
            // A viewer that is behind has taken all it was given when its queue is empty.
            let batch = if !looking.behind {
                if frames.is_empty() {
                    continue;
                }
                Batch::Frames(frames.clone())
            } else if queue.capacity() == queue.max_capacity() {
                let cells = &self.cells;
                let all = anew.get_or_insert_with(|| cells.iter().flat_map(|cell| world.keyframes(*cell)).collect());
                Batch::Anew(all.clone())
            } else {
                metrics.map_frames_dropped.inc_by(frames.len() as u64);
                continue;
            };
            let count = match &batch {
                Batch::Frames(frames) => frames.len(),
                Batch::Anew(frames) => frames.len(),
            };
            let taken = queue.try_send(batch).is_ok();
            looking.behind = !taken;
            let counter = if taken { &metrics.map_frames } else { &metrics.map_frames_dropped };
            counter.inc_by(count as u64);
        }
    }
}

impl Rules for Observer {
    type Input = MapInput;

    fn input(&mut self, world: &mut GameWorld, now_ms: u64, input: MapInput) {
        match input {
            MapInput::Join(island, size, viewer) => self.join(world, island, size, viewer),
            MapInput::Leave(island, id) => self.leave(now_ms, island, id),
        }
    }

    fn ticked(&mut self, world: &mut GameWorld, now_ms: u64, _out: &TickOutput, frames: Vec<CellFrame>) {
        let mut by_island: BTreeMap<IslandId, Vec<Bytes>> = BTreeMap::new();
        for CellFrame { cell, bytes } in frames {
            by_island.entry(cell.island).or_default().push(bytes);
        }
        for (island, watched) in &mut self.islands {
            watched.keep(now_ms, &self.metrics, |looking| !looking.viewer.queue.is_closed());
            watched.give(world, by_island.remove(island).unwrap_or_default(), &self.metrics);
        }
        self.forget(world, now_ms);
    }
}

fn cells_of(island: IslandId, size: (u16, u16)) -> Vec<Cell> {
    let (width, height) = (size.0.div_ceil(TILES_PER_CELL), size.1.div_ceil(TILES_PER_CELL));
    (0..height).flat_map(|y| (0..width).map(move |x| Cell::new(island, x, y))).collect()
}
