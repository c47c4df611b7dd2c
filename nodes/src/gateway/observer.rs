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

#[cfg(test)]
mod tests {
    use super::*;
    use cartographer::geometry::{Epoch, ObjectId, Place};
    use cartographer::ground::Plain;
    use cartographer::world::WorldConfig;

    use crate::game::{Body, player::Player};

    const ISLAND: IslandId = IslandId(1);
    const SIZE: (u16, u16) = (64, 64);

    /// An owner of one walker, and a gateway's world with its rules, joined by hand.
    struct Pair {
        owner: GameWorld,
        world: GameWorld,
        rules: Observer,
        now_ms: u64,
    }

    impl Pair {
        fn new() -> Pair {
            let make = |publisher| {
                let mut world = GameWorld::new(WorldConfig::new(publisher));
                world.add_island(ISLAND, Arc::new(Plain::new(SIZE.0, SIZE.1)));
                world
            };
            let (mut owner, mut world) = (make(1), make(2));
            let body = Body::Player(Player { name: "walker".to_owned(), hue: 0, ..Player::default() });
            owner.spawn(0, ObjectId(7), Epoch(1), ISLAND, Place::new(2_000, 2_000), body, true).unwrap();
            world.peer_up(0, 1);
            Pair { owner, world, rules: Observer::new(Metrics::new("gateway-1", "gateway")), now_ms: 0 }
        }

        fn join(&mut self, id: u64, room: usize) -> mpsc::Receiver<Batch> {
            let (queue, batches) = mpsc::channel(room);
            let join = MapInput::Join(ISLAND, SIZE, Viewer { id: ViewerId(id), queue });
            self.rules.input(&mut self.world, self.now_ms, join);
            batches
        }

        /// One tick, in which the walker turns round.
        fn tick(&mut self) {
            self.now_ms += 50;
            let now = self.now_ms;
            let to = Place::new(if now.is_multiple_of(100) { 500 } else { 4_000 }, 2_000);
            let from = self.owner.get(ObjectId(7)).unwrap().place(now);
            self.owner.walk(now, ObjectId(7), from, to, 512).unwrap();
            let mut frames = Vec::new();
            for frame in self.owner.tick(now).frames {
                frames.extend(self.world.apply(now, 1, frame.bytes));
            }
            let out = self.world.tick(now);
            for ask in &out.asks {
                let answer = self.owner.answer_ask(&ask.cells);
                frames.extend(self.world.apply_answer(now, 1, &ask.cells, answer));
            }
            self.rules.ticked(&mut self.world, now, &out, frames);
        }
    }

    fn taken(batches: &mut mpsc::Receiver<Batch>) -> Vec<(bool, usize)> {
        let mut taken = Vec::new();
        while let Ok(batch) = batches.try_recv() {
            taken.push(match batch {
                Batch::Anew(frames) => (true, frames.len()),
                Batch::Frames(frames) => (false, frames.len()),
            });
        }
        taken
    }

    #[test]
    fn a_viewer_gets_everything_then_each_frame() {
        let mut pair = Pair::new();
        let mut first = pair.join(1, 10);
        (0..4).for_each(|_| pair.tick());
        let got = taken(&mut first);
        assert!(got[0].0, "the beginning is a fresh start");
        assert!(got[1..].iter().all(|(anew, frames)| !anew && *frames > 0), "{got:?}");

        let mut second = pair.join(2, 10);
        pair.tick();
        assert_eq!(taken(&mut second), [(true, 1)], "the walker's cell, as it is now");
        assert_eq!(taken(&mut first), [(false, 1)]);
    }

    #[test]
    fn a_slow_viewer_gets_nothing_until_it_has_taken_all_then_everything_anew() {
        let mut pair = Pair::new();
        let mut slow = pair.join(1, 2);
        let mut quick = pair.join(2, 100);
        (0..10).for_each(|_| pair.tick());
        let dropped = pair.rules.metrics.map_frames_dropped.get();
        assert!(dropped > 0);
        assert_eq!(taken(&mut slow).len(), 2, "no more than its queue holds");
        pair.tick();
        assert_eq!(taken(&mut slow), [(true, 1)]);
        pair.tick();
        assert_eq!(taken(&mut slow), [(false, 1)], "and then the frames again");
        assert!(taken(&mut quick)[1..].iter().all(|(anew, _)| !anew), "others are not concerned");
    }

    #[test]
    fn an_island_is_watched_while_somebody_looks_and_a_little_longer() {
        let mut pair = Pair::new();
        let batches = pair.join(1, 10);
        pair.tick();
        let corner = Cell::new(ISLAND, 1, 1);
        assert!(pair.world.sees(corner));
        assert_eq!(pair.rules.metrics.map_viewers.get(), 1);
        drop(batches);
        pair.tick();
        assert_eq!(pair.rules.metrics.map_viewers.get(), 0);
        assert!(pair.world.sees(corner), "somebody may come back");
        (0..=LINGER_MS / 50).for_each(|_| pair.tick());
        pair.tick();
        assert!(!pair.world.sees(corner));
        let mut again = pair.join(2, 100);
        (0..4).for_each(|_| pair.tick());
        assert!(!taken(&mut again).is_empty());
    }
}
