//! What the world must know of the land: how large it is and where one can walk.
//!
//! The world asks through [`Ground`]; a terrain package answers, or [`Plain`] where no map is wanted. An answer NEVER
//! changes during the ground's life, for motion is computed ahead from it.

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
