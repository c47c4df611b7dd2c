//! The islands that a world knows: their ground, and how to find what lies where.
//!
//! The ground of an island NEVER changes while it is known.

use std::sync::Arc;

use super::{Body, SpawnRefusal, World};
use crate::geometry::{Cell, IslandId, Place};
use crate::ground::Ground;

/// One island.
pub(super) struct Island {
    /// What it is like to walk on.
    pub(super) ground: Arc<dyn Ground>,
}

impl<B: Body> World<B> {
    /// Adds an island, so that objects can be there. An island that is known already keeps its ground.
    pub fn add_island(&mut self, id: IslandId, ground: Arc<dyn Ground>) {
        self.islands.entry(id).or_insert(Island { ground });
    }

    /// Forgets an island, and all that was said of its cells; false if this node still holds objects there.
    ///
    /// MUST NOT be followed by adding an island of the same number within as many milliseconds as frames were published
    /// of one of its cells, lest their numbers come again.
    pub fn remove_island(&mut self, id: IslandId) -> bool {
        if self.reals.values().any(|real| real.cell.island == id) || self.removed.iter().any(|it| it.cell.island == id)
        {
            return false;
        }
        self.islands.remove(&id);
        self.cells.retain(|cell, _| cell.island != id);
        self.dormant.retain(|cell, _| cell.island != id);
        true
    }

    /// Whether the island was added.
    pub fn has_island(&self, id: IslandId) -> bool {
        self.islands.contains_key(&id)
    }

    /// Where on the island the place is, if one can be put there.
    pub(super) fn locate(&self, island: IslandId, place: Place) -> Result<Cell, SpawnRefusal> {
        let size = self.islands.get(&island).ok_or(SpawnRefusal::UnknownIsland)?.ground.size();
        if !place.is_within(size) {
            return Err(SpawnRefusal::OutsideIsland);
        }
        place.cell(island).ok_or(SpawnRefusal::OutsideIsland)
    }
}
