//! Real processes that hammer one store with land and goods while they are killed at random, and the proof that nothing was
//! lost, doubled or left behind.
//!
//! Eight processes ([`child`]) do builds, demolitions, moves, claims, transfers, trades and promises on few documents: twelve
//! players, six boxes, three grounds, nine chunks, a handful of holdings. Each keeps a log of its own ([`log`]): what it is
//! about to ask, and, only after the answer, what the answer was. The parent ([`parent`]) kills random ones with SIGKILL and
//! starts others, which ask again, under the same ids, what their predecessor left unanswered.
//!
//! The proof is an account kept apart from the estate. Every question says beforehand what it changes if it happens
//! ([`Ask::account`]): so many coins less here and more there, one object more, one chunk more in a holding, a box of its own
//! with a unique item in it. In the end whatever has no answer is asked once more, so that each operation is either
//! acknowledged or not; the sums of all acknowledged ones MUST be, number by number, what is read in the store. One that was
//! lost, happened twice, or happened though it was refused would show in at least two numbers. The audit checks the rest:
//! deeds, objects and holdings against each other, goods against the mint, and that no transaction is left.

use cartographer::geometry::{Chunk, IslandId, Tile};
use estate::land::Grounds;

mod ask;
pub mod child;
mod log;
pub mod parent;

pub use ask::{Answer, Ask};

/// Players, from number 1.
pub const PLAYERS: u64 = 12;
/// Boxes, from number 1.
pub const BOXES: u64 = 6;
/// Chunks in a row and in a column; the grounds of the first row's are used.
pub const CHUNKS: u16 = 3;
/// Chunks of the first row and column may be claimed: enough for four holdings and for quarrels about them.
pub const CLAIMABLE: u16 = 2;
/// Processes.
pub const PROCESSES: usize = 8;
/// Operations that one process has under way.
pub const TASKS: usize = 4;

/// The island of it all.
pub const ISLAND: IslandId = IslandId(1);
/// The tiles of the chunks' side.
pub const SIDE_TILES: u16 = CHUNKS * 16;

/// Some second of 2026: the estate has no clock, and nothing here is ever forfeited.
pub const NOW_S: u64 = 1_780_000_000;

/// Three by three chunks of grass.
#[derive(Clone, Copy, Debug)]
pub struct Meadow;

impl Grounds for Meadow {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island == ISLAND).then_some((SIDE_TILES, SIDE_TILES))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        self.size(island).is_some_and(|size| tile.is_within(size))
    }

    fn natural(&self, _: IslandId, _: Tile) -> u32 {
        0
    }
}

/// All chunks.
pub fn chunks() -> impl Iterator<Item = Chunk> {
    (0..CHUNKS).flat_map(|y| (0..CHUNKS).map(move |x| Chunk { island: ISLAND, x, y }))
}

/// SplitMix64 (Steele, Lea and Flood, 2014): what is done, and to whom.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which MUST NOT be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// A number from the first of `range` to below its second.
    pub fn between(&mut self, (least, bound): (u64, u64)) -> u64 {
        least + self.below(bound - least)
    }
}
