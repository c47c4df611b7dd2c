//! What a bot sees at one moment: itself, and everything in sight, in the place where it is now.

use tokio::time::Instant;

use crate::client::{Ghost, Sight};
use crate::protocol::{UNITS_PER_TILE, View};

/// What is seen at one moment.
#[derive(Debug)]
pub(in crate::bots) struct Eyes<'a> {
    pub(in crate::bots) now: Instant,
    pub(in crate::bots) island: u32,
    /// Where the player is, in units.
    pub(in crate::bots) place: (i32, i32),
    /// Whether it walks.
    pub(in crate::bots) walking: bool,
    /// The frontend's clock.
    pub(in crate::bots) server_ms: i64,
    pub(in crate::bots) sight: &'a Sight,
}

/// Something that is seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) id: u64,
    pub(super) place: (i32, i32),
    pub(super) view: &'a View,
}

impl Seen<'_> {
    /// The tile on which it is.
    pub(super) fn tile(&self) -> (u16, u16) {
        tile_of(self.place)
    }
}

impl<'a> Eyes<'a> {
    /// Everything of one kind.
    pub(super) fn all(&self, kind: u8) -> impl Iterator<Item = Seen<'a>> {
        self.sight.ghosts().filter(move |(_, ghost)| ghost.view.kind == kind).map(|(id, ghost)| self.seen(id, ghost))
    }

    /// The nearest of one kind that is wanted.
    pub(super) fn nearest(&self, kind: u8, wanted: impl Fn(&Seen<'a>) -> bool) -> Option<Seen<'a>> {
        self.all(kind).filter(wanted).min_by_key(|seen| (self.away(seen.place), seen.id))
    }

    /// One thing.
    pub(super) fn one(&self, id: u64) -> Option<Seen<'a>> {
        self.sight.ghost(id).map(|ghost| self.seen(id, ghost))
    }

    fn seen(&self, id: u64, ghost: &'a Ghost) -> Seen<'a> {
        let now_ms = self.server_ms - self.sight.offset_ms(ghost.publisher).unwrap_or(0);
        Seen { id, place: ghost.motion.at(now_ms), view: &ghost.view }
    }

    /// How far away a place is, in units, the longer way of the two along the axes.
    pub(super) fn away(&self, place: (i32, i32)) -> u32 {
        self.place.0.abs_diff(place.0).max(self.place.1.abs_diff(place.1))
    }

    /// The chunk on which the player stands.
    pub(super) fn chunk(&self) -> (u16, u16) {
        let (x, y) = tile_of(self.place);
        (x / CHUNK, y / CHUNK)
    }
}

/// The side of a chunk, in tiles.
pub(super) const CHUNK: u16 = 16;

/// The tile of a place.
pub(super) fn tile_of(place: (i32, i32)) -> (u16, u16) {
    let along = |units: i32| u16::try_from(units.div_euclid(UNITS_PER_TILE)).unwrap_or(0);
    (along(place.0), along(place.1))
}

/// The middle of a tile.
pub(super) fn middle(tile: (u16, u16)) -> (i32, i32) {
    let along = |tile: u16| i32::from(tile) * UNITS_PER_TILE + UNITS_PER_TILE / 2;
    (along(tile.0), along(tile.1))
}
