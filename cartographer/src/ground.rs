//! What the world must know of the land: how large it is and where one can walk.
//!
//! The world asks through [`Ground`]; a terrain package answers, or [`Plain`] where no map is wanted. An answer NEVER
//! changes during the ground's life, for motion is computed ahead from it.

use rustc_hash::FxHashSet;

use crate::geometry::{MAX_ISLAND_TILES, Tile};

/// Land to walk on. Implementations MUST give the same answers for ever, and fast: motion asks for every tile on the way.
pub trait Ground: Send + Sync {
    /// Width and height in tiles; each at most [`MAX_ISLAND_TILES`].
    fn size(&self) -> (u16, u16);

    /// Whether one can stand and walk on this tile. MUST be false for tiles outside [`Ground::size`].
    fn walkable(&self, tile: Tile) -> bool;
}

/// Even land without a map, walkable everywhere: for simulation, benchmarks and tests.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    size: (u16, u16),
}

impl Plain {
    /// A plain of this size in tiles, cut to [`MAX_ISLAND_TILES`].
    pub fn new(width: u16, height: u16) -> Plain {
        Plain { size: (width.min(MAX_ISLAND_TILES), height.min(MAX_ISLAND_TILES)) }
    }
}

impl Ground for Plain {
    fn size(&self) -> (u16, u16) {
        self.size
    }

    fn walkable(&self, tile: Tile) -> bool {
        tile.is_within(self.size)
    }
}

/// Tiles of an island that stand in the way of some who walk there, such as those under a shut door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    tiles: FxHashSet<Tile>,
}

impl Blocked {
    /// Whether nothing stands in the way.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// Whether this tile is in the way.
    pub fn contains(&self, tile: Tile) -> bool {
        !self.tiles.is_empty() && self.tiles.contains(&tile)
    }
}

impl FromIterator<Tile> for Blocked {
    fn from_iter<I: IntoIterator<Item = Tile>>(tiles: I) -> Blocked {
        Blocked { tiles: tiles.into_iter().collect() }
    }
}

/// A ground with tiles in the way, as they are at one moment: for one walk or one search, then made anew.
#[derive(Clone, Copy)]
pub struct Overlay<'a> {
    /// The land.
    pub ground: &'a dyn Ground,
    /// What is in the way on it.
    pub blocked: &'a Blocked,
}

impl Ground for Overlay<'_> {
    fn size(&self) -> (u16, u16) {
        self.ground.size()
    }

    fn walkable(&self, tile: Tile) -> bool {
        self.ground.walkable(tile) && !self.blocked.contains(tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_not_walkable_and_the_rest_is_as_the_land() {
        let (plain, blocked) = (Plain::new(4, 4), [Tile::new(1, 1), Tile::new(9, 9)].into_iter().collect());
        let overlay = Overlay { ground: &plain, blocked: &blocked };
        assert_eq!(overlay.size(), (4, 4));
        let walkable = |x, y| overlay.walkable(Tile::new(x, y));
        assert!(walkable(0, 1) && !walkable(1, 1) && !walkable(4, 0) && !walkable(9, 9));
        assert!(!blocked.is_empty() && Blocked::default().is_empty());
    }
}
