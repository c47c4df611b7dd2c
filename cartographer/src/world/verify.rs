//! Verification: finding what sequence numbers cannot show, the loss of a cell's last frame.
//!
//! Every [`VERIFY_MS`] a node sends each publisher a digest, per block, of what it believes the publisher holds in those
//! of the block's cells that have been quiet; the publisher names the cells in which it believes otherwise, and the node
//! asks for their keyframes. Lively cells are left out: their next frame shows the gap. A digest says nothing of order, so
//! it is NEVER wrong because two nodes list the same objects differently.

use std::collections::BTreeMap;

use super::cells::told;
use super::{Body, World};
use crate::geometry::{Block, Cell, Epoch, ObjectId};

/// How often each publisher is verified, in milliseconds.
pub const VERIFY_MS: u64 = 2_000;
/// A cell in which something happened so lately is left out, in milliseconds.
pub const QUIET_MS: u64 = 1_000;
/// The most blocks that are answered at once.
pub const VERIFY_BLOCKS: usize = 4_096;
/// The most cells that an answer names; the rest is found next time.
const DIFFERENT_CELLS: usize = 4_096;

/// What this node believes of a publisher, to be sent to it. What it answers goes to [`World::apply_verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// Whom to ask.
    pub publisher: u64,
    /// Blocks, the cells meant in each (bits by [`Cell::index_in_block`]), and the digest over them. Sorted by block.
    pub digests: Vec<(Block, u16, u64)>,
}

impl<B: Body> World<B> {
    /// The verifications that are due. To be called every tick, or every few.
    pub fn verify(&mut self, now: u64) -> Vec<Verify> {
        let now = self.advance(now);
        if planted::is("no_verify") || planted::is("no_gap_repair") {
            return Vec::new();
        }
        let due = self.peers.iter_mut().filter(|(_, peer)| peer.gone_at.is_none() && peer.verify_at <= now);
        let due: Vec<u64> = due
            .map(|(publisher, peer)| {
                peer.verify_at = now + VERIFY_MS;
                *publisher
            })
            .collect();
        let all = due.into_iter().map(|publisher| Verify { publisher, digests: self.digests_of(now, publisher) });
        all.filter(|verify| !verify.digests.is_empty()).collect()
    }

    fn digests_of(&mut self, now: u64, publisher: u64) -> Vec<(Block, u16, u64)> {
        let mut blocks: BTreeMap<Block, (u16, u64)> = BTreeMap::new();
        let Some(peer) = self.peers.get_mut(&publisher) else { return Vec::new() };
        for (cell, feed) in &mut peer.feeds {
            if feed.last.is_none() || peer.wanted.contains_key(cell) || feed.applied_at + QUIET_MS > now {
                continue;
            }
            let ghosts = &self.ghosts;
            let objects = feed.ghosts.iter().filter_map(|id| ghosts.get(id).map(|it| (*id, it.epoch, it.version)));
            let last = feed.last.unwrap_or(0);
            let digest = *feed.digest.get_or_insert_with(|| digest(*cell, last, objects));
            let (mask, sum) = blocks.entry(cell.block()).or_default();
            *mask |= 1 << cell.index_in_block();
            *sum = sum.wrapping_add(digest);
        }
        blocks.into_iter().map(|(block, (mask, sum))| (block, mask, sum)).collect()
    }

    /// The publisher's side: the cells of these blocks in which this node holds something else than the digests say.
    pub fn answer_verify(&mut self, digests: &[(Block, u16, u64)]) -> Vec<Cell> {
        let mut different = Vec::new();
        for (block, mask, theirs) in digests.iter().take(VERIFY_BLOCKS) {
            if different.len() > DIFFERENT_CELLS {
                break;
            }
            let cells: Vec<Cell> = block.cells().filter(|cell| mask & 1 << cell.index_in_block() != 0).collect();
            let ours = cells.iter().fold(0u64, |sum, cell| sum.wrapping_add(self.own_digest(*cell)));
            if ours == *theirs {
                continue;
            }
            // What changed just now is on its way, or will be found next time.
            let now = self.now;
            let is_quiet = |cell: &Cell| self.cells.get(cell).is_none_or(|own| own.changed_at + QUIET_MS / 2 <= now);
            different.extend(cells.into_iter().filter(is_quiet));
        }
        different
    }

    /// The asker's side: takes the cells that the publisher named, and asks for their keyframes with the next tick.
    pub fn apply_verify(&mut self, now: u64, publisher: u64, cells: &[Cell]) {
        let now = self.advance(now);
        let Some(peer) = self.peers.get_mut(&publisher) else { return };
        for cell in cells {
            if peer.feeds.contains_key(cell) && !peer.wanted.contains_key(cell) {
                self.stats.repaired += 1;
                peer.want(*cell, now);
            }
        }
    }

    fn own_digest(&mut self, cell: Cell) -> u64 {
        let Some(own) = self.cells.get_mut(&cell) else {
            let seq = self.dormant.get(&cell).copied().unwrap_or(0);
            return digest(cell, seq, std::iter::empty());
        };
        if own.digest.is_none() {
            let told = told(&self.reals, own).map(|real| (real.id, real.epoch, real.version));
            own.digest = Some(digest(cell, own.seq.unwrap_or(0), told));
        }
        own.digest.unwrap_or_default()
    }

    /// A number for all that this world holds, in whatever order.
    pub(super) fn state_hash(&self) -> u64 {
        let moving = |motion: &crate::motion::Motion| {
            let place = (motion.from.x as u32 as u64) << 32 | motion.from.y as u32 as u64;
            let velocity = (motion.velocity.0 as u32 as u64) << 32 | motion.velocity.1 as u32 as u64;
            mix(place ^ mix(velocity ^ mix(motion.since ^ mix(u64::from(motion.duration_ms)))))
        };
        let reals = self.reals.values().fold(0u64, |sum, it| {
            let hash = object(it.id, it.epoch, it.version) ^ moving(&it.motion) ^ hash_bytes(&it.raw);
            sum.wrapping_add(mix(hash ^ hash_cell(it.cell)))
        });
        self.ghosts.iter().fold(mix(reals), |sum, (id, it)| {
            let hash = object(*id, it.epoch, it.version) ^ moving(&it.motion) ^ hash_bytes(&it.raw);
            sum.wrapping_add(mix(hash ^ hash_cell(it.cell) ^ mix(it.publisher)))
        })
    }
}

/// The digest of what one publisher said of one cell. The number of the last frame is part of it, though the objects alone
/// would do for the ghosts: an object that left for a cell out of a client's sight is taken back from that client only by
/// the very frame that says so.
fn digest(cell: Cell, seq: u64, objects: impl Iterator<Item = (ObjectId, Epoch, u64)>) -> u64 {
    let sum = objects.fold(0u64, |sum, (id, epoch, version)| sum.wrapping_add(object(id, epoch, version)));
    mix(hash_cell(cell) ^ mix(sum ^ mix(seq)))
}

fn object(id: ObjectId, epoch: Epoch, version: u64) -> u64 {
    mix(id.0 ^ mix(epoch.0 ^ mix(version)))
}

fn hash_cell(cell: Cell) -> u64 {
    mix(u64::from(cell.island.0) << 32 | u64::from(cell.x) << 16 | u64::from(cell.y))
}

/// A hash of bytes that is the same on every machine.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    rest.iter().fold(hash, |hash, byte| mix(hash ^ u64::from(*byte)))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
