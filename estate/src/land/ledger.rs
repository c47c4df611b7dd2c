//! Which ledger decides what: ledgers cover 4×4 chunks and overlap their neighbours by one.
//!
//! With a stride of three, the ledger of a footprint's lowest chunk always covers all of it, so that two footprints that
//! share a tile are never decided without seeing the same deed. The ledgers themselves are the transactions' own.

use cartographer::geometry::{Chunk, IslandId};

use super::footprint::Footprint;

/// From one ledger to the next, in chunks.
pub const STRIDE_CHUNKS: u16 = 3;
/// The side of the area that one ledger covers, in chunks.
pub const SIDE_CHUNKS: u16 = 4;

/// The key of the ledger of this chunk: the one whose area begins with it or up to two chunks before it.
pub fn key_of_chunk(chunk: Chunk) -> String {
    format!("ledger/{}/{}/{}", chunk.island, chunk.x / STRIDE_CHUNKS, chunk.y / STRIDE_CHUNKS)
}

/// The key of the ledger that covers this footprint.
pub fn key(island: IslandId, footprint: &Footprint) -> String {
    key_of_chunk(footprint.origin().chunk(island))
}
