//! Events: the moments at which a moving object crosses a line that matters.
//!
//! A real has at most one event that counts, found by its stamp; outdated ones stay in the heap until their time comes or
//! until they are more than the rest, and are then swept out. The heap NEVER holds more than four times the reals, and a
//! few.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Body, World};
use crate::geometry::{Cell, ObjectId};

/// Outdated events that are always allowed.
const SLACK: usize = 1024;
/// Events per real, outdated ones included, beyond which the heap is swept.
const EVENTS_PER_REAL: usize = 4;

/// The events to come.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// By time, then in the order they were made.
    heap: BinaryHeap<Reverse<(u64, u64, ObjectId)>>,
    stamp: u64,
}

impl Schedule {
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    fn add(&mut self, at: u64, id: ObjectId) -> u64 {
        self.stamp += 1;
        self.heap.push(Reverse((at, self.stamp, id)));
        self.stamp
    }

    fn pop_due(&mut self, now: u64) -> Option<(u64, ObjectId)> {
        let Reverse((at, stamp, id)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((stamp, id))
    }
}

impl<B: Body> World<B> {
    /// Runs what is due.
    pub(super) fn run_due(&mut self, now: u64) {
        while let Some((stamp, id)) = self.schedule.pop_due(now) {
            if self.reals.get(&id).is_some_and(|real| real.crossing == Some(stamp)) {
                self.stats.events += 1;
                self.cross(now, id);
            }
        }
        if self.schedule.len() > self.reals.len() * EVENTS_PER_REAL + SLACK {
            let reals = &self.reals;
            self.schedule
                .heap
                .retain(|Reverse((_, stamp, id))| reals.get(id).is_some_and(|real| real.crossing == Some(*stamp)));
        }
    }

    /// Brings an object's cell and view up to where it is, and plans when they may change next.
    pub(super) fn cross(&mut self, now: u64, id: ObjectId) {
        let Some(real) = self.reals.get(&id) else { return };
        let place = real.motion.at(now);
        // A walk never leaves the island, so there is always a cell.
        if let Some(cell) = place.cell(real.cell.island) {
            self.move_cell(now, id, cell);
        }
        self.look_again(id, place);
        let Some(real) = self.reals.get_mut(&id) else { return };
        let grid = if real.sight.is_some() { self.sight.grid() } else { Cell::UNITS };
        real.crossing = real.motion.next_crossing(now, grid).map(|at| self.schedule.add(at, id));
    }
}
