//! What land operations know of islands: their size, where one can build, and what grows there by nature.
//!
//! The terrain packages of a node answer it. An answer NEVER changes while documents refer to it.

use cartographer::geometry::{IslandId, Tile};

/// The islands as the terrain packages have them.
pub trait Grounds: Send + Sync + 'static {
    /// The island's width and height in tiles; nothing if there is no such island.
    fn size(&self, island: IslandId) -> Option<(u16, u16)>;

    /// Whether something can stand on this tile; false off the island.
    fn buildable(&self, island: IslandId, tile: Tile) -> bool;

    /// The number of the natural object on this tile; 0 if there is none, and off the island.
    fn natural(&self, island: IslandId, tile: Tile) -> u32;
}
