//! Sight: which cells the node sees, as the counted union of what its objects see and of what it watches.
//!
//! Counts change at once, but the outside is told once a tick, and only of the net difference: a cell that was left and
//! entered again within a tick is not mentioned. A cell NEVER has feeds unless it is seen.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{Body, SightChange, TickOutput, World};
use crate::geometry::Cell;

/// The cells that are seen, counted.
#[derive(Debug, Default)]
pub(super) struct Vision {
    counts: FxHashMap<Cell, u32>,
    /// Cells whose count may have come from or to nothing since the last tick, and whether they were seen then.
    touched: BTreeMap<Cell, bool>,
}

impl Vision {
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The cells that are seen, in no order that means anything.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> {
        self.counts.keys().copied()
    }

    pub(super) fn see(&mut self, cell: Cell) {
        let count = self.counts.entry(cell).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.touched.entry(cell).or_insert(false);
        }
    }

    pub(super) fn unsee(&mut self, cell: Cell) {
        let Some(count) = self.counts.get_mut(&cell) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&cell);
            self.touched.entry(cell).or_insert(true);
        }
    }
}

impl<B: Body> World<B> {
    /// Lets the node see cells without an object that does. Counted: watch twice, unwatch twice.
    pub fn watch_cells(&mut self, cells: impl IntoIterator<Item = Cell>) {
        cells.into_iter().for_each(|cell| self.vision.see(cell));
    }

    /// Takes back [`World::watch_cells`]. Cells MUST have been watched.
    pub fn unwatch_cells(&mut self, cells: impl IntoIterator<Item = Cell>) {
        cells.into_iter().for_each(|cell| self.vision.unsee(cell));
    }

    /// Whether the node sees the cell.
    pub fn sees(&self, cell: Cell) -> bool {
        self.vision.counts.contains_key(&cell)
    }

    /// Whether the node sees the cell and has been told by every publisher that it knows what is there.
    pub fn knows(&self, cell: Cell) -> bool {
        let told = |peer: &super::feeds::Peer| {
            peer.gone_at.is_some() || peer.feeds.get(&cell).is_some_and(|feed| feed.last.is_some())
        };
        self.sees(cell) && self.peers.values().all(told)
    }

    /// All cells that the node sees, sorted.
    pub fn seen_cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = self.vision.counts.keys().copied().collect();
        cells.sort_unstable();
        cells
    }

    /// Tells a seer what it sees newly and no longer.
    pub(super) fn tell_sight(&mut self, id: crate::geometry::ObjectId, out: &mut TickOutput) {
        let Some(real) = self.reals.get_mut(&id) else { return };
        let (before, Some(sight)) = (real.sight_said, real.sight) else { return };
        if before == Some(sight) {
            return;
        }
        real.sight_said = Some(sight);
        let entered: Vec<Cell> = sight.beyond(before).collect();
        let left: Vec<Cell> = before.map_or(Vec::new(), |before| before.beyond(Some(sight)).collect());
        entered.iter().for_each(|cell| self.vision.see(*cell));
        left.iter().for_each(|cell| self.vision.unsee(*cell));
        out.vision.push(SightChange { object: id, entered, left });
    }

    /// Tells what the node as a whole sees newly and no longer, and opens and closes feeds accordingly.
    pub(super) fn look_around(&mut self, out: &mut TickOutput) {
        for (cell, was_seen) in std::mem::take(&mut self.vision.touched) {
            match (was_seen, self.sees(cell)) {
                (false, true) => {
                    out.watch.push(cell);
                    self.open_feeds(cell);
                }
                (true, false) => {
                    out.unwatch.push(cell);
                    self.close_feeds(cell);
                }
                (true, true) => self.open_feeds(cell),
                (false, false) => {}
            }
        }
    }
}
