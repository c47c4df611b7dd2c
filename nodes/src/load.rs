//! What a node says of its load in every heartbeat: few enough bytes to ride along, enough to choose a frontend by.
//!
//! The set of cells a node sees is told as a small sketch over blocks of 4×4 cells: a block that is seen is always found
//! in it, one that is not seen is rarely. The blocks in which most of its objects stand are told with their numbers. It
//! NEVER decides anything but a preference: a stale or wrong load costs a little sharing or balance, nothing else.

use std::fmt;

use rustc_hash::FxHashMap;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes that an encoded load takes; heartbeats carry no more.
pub const LOAD_BYTES: usize = 256;

/// Bytes of a sketch. With two marks a block, 150 blocks give 4 % false hits, 400 blocks 22 %.
const SKETCH_BYTES: usize = 160;
const SKETCH_BITS: u64 = SKETCH_BYTES as u64 * 8;

/// Cells along one side of a block of the sketch.
const BLOCK_CELLS: u16 = 4;

/// Crowded blocks that are told.
const CROWDS: usize = 6;

// Four numbers of at most 5 bytes, a bool, a crowd's mark (5), size (3) and head (1), and four heads of at most 2.
const _: () = assert!(4 * 5 + 1 + SKETCH_BYTES + CROWDS * 9 + 4 * 2 <= LOAD_BYTES);

/// What a node says of its load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Players it owns now.
    pub players: u32,
    /// Players it would take at most; 0 on nodes that take none.
    pub capacity: u32,
    /// The time its world loop takes for a tick, 99th percentile of the last seconds, in microseconds.
    pub tick_p99_us: u32,
    /// It is being emptied and takes nobody new.
    pub draining: bool,
    /// The cells it sees, roughly.
    pub sees: Sketch,
    /// Where most of its objects stand.
    #[serde(default)]
    pub crowds: Crowds,
    /// Players who hold a ticket of it and have not come yet: room that is taken.
    #[serde(default)]
    pub expected: u32,
}

impl Load {
    /// The load as heartbeats carry it: at most [`LOAD_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        // Writing plain values to memory cannot fail; an empty load would be ignored like a missing one.
        rmp_serde::to_vec(self).unwrap_or_default()
    }

    /// Reads what another node said. `None` if it is not a load: the node is then treated as one that said nothing.
    pub fn decode(bytes: &[u8]) -> Option<Load> {
        rmp_serde::from_slice(bytes).ok()
    }
}

/// A set of cells, kept by blocks in fixed space. It finds every block put in, and some that were not.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch([u8; SKETCH_BYTES]);

impl Sketch {
    /// Puts in the block of a cell.
    pub fn insert(&mut self, island: u32, cell_x: u16, cell_y: u16) {
        for bit in marks(island, cell_x, cell_y) {
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// True if the cell's block was put in, and now and then if it was not.
    pub fn contains(&self, island: u32, cell_x: u16, cell_y: u16) -> bool {
        marks(island, cell_x, cell_y).into_iter().all(|bit| self.0[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

impl FromIterator<(u32, u16, u16)> for Sketch {
    fn from_iter<I: IntoIterator<Item = (u32, u16, u16)>>(cells: I) -> Sketch {
        let mut sketch = Sketch::default();
        cells.into_iter().for_each(|(island, x, y)| sketch.insert(island, x, y));
        sketch
    }
}

/// The blocks in which most of a node's objects stand, and how many: the fullest only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowds(Vec<(u32, u16)>);

impl Crowds {
    /// How many objects stand in the cell's block; 0 if it is not among the fullest.
    pub fn around(&self, island: u32, cell_x: u16, cell_y: u16) -> u32 {
        let wanted = block_mark(island, cell_x, cell_y);
        self.0.iter().find(|(mark, _)| *mark == wanted).map_or(0, |(_, count)| u32::from(*count))
    }
}

impl FromIterator<(u32, u16, u16)> for Crowds {
    /// From the cell of each object.
    fn from_iter<I: IntoIterator<Item = (u32, u16, u16)>>(cells: I) -> Crowds {
        let mut counts: FxHashMap<u32, u16> = FxHashMap::default();
        for (island, x, y) in cells {
            let count = counts.entry(block_mark(island, x, y)).or_default();
            *count = count.saturating_add(1);
        }
        let mut fullest: Vec<(u32, u16)> = counts.into_iter().collect();
        fullest.sort_unstable_by_key(|(mark, count)| (u16::MAX - count, *mark));
        fullest.truncate(CROWDS);
        Crowds(fullest)
    }
}

fn marks(island: u32, cell_x: u16, cell_y: u16) -> [usize; 2] {
    let hash = block_hash(island, cell_x, cell_y);
    [((hash & 0xffff_ffff) % SKETCH_BITS) as usize, ((hash >> 32) % SKETCH_BITS) as usize]
}

/// A number for the cell's block, almost surely different for every block.
pub fn block_mark(island: u32, cell_x: u16, cell_y: u16) -> u32 {
    (block_hash(island, cell_x, cell_y) >> 32) as u32
}

fn block_hash(island: u32, cell_x: u16, cell_y: u16) -> u64 {
    let (x, y) = (u64::from(cell_x / BLOCK_CELLS), u64::from(cell_y / BLOCK_CELLS));
    mix(u64::from(island) << 32 | x << 16 | y)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every node must mark a block alike.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch([0; SKETCH_BYTES])
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: u32 = self.0.iter().map(|byte| byte.count_ones()).sum();
        write!(f, "Sketch({set} of {SKETCH_BITS} bits)")
    }
}

impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sketch, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Sketch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{SKETCH_BYTES} bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Sketch, E> {
                let exact = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(Sketch(exact))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_load_fits_into_a_heartbeat_and_comes_back_the_same() {
        let load = Load {
            players: u32::MAX,
            capacity: u32::MAX,
            tick_p99_us: u32::MAX,
            draining: true,
            sees: (0..u16::MAX).map(|x| (7, x, x)).collect(),
            crowds: (0..600_000).map(|n| (7, n as u16 % 30 * 4, 0)).collect(),
            expected: u32::MAX,
        };
        assert_eq!(load.crowds.0.len(), CROWDS);
        let bytes = load.encode();
        assert!(bytes.len() <= LOAD_BYTES, "{} bytes", bytes.len());
        assert_eq!(Load::decode(&bytes), Some(load));
    }

    #[test]
    fn bytes_that_are_not_a_load_are_none() {
        for bad in [&b""[..], b"\xc0", b"\x95\x01\x02\x03\xc3\xc4\x01\x00", b"hello"] {
            assert_eq!(Load::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn crowds_are_the_fullest_blocks() {
        let stand = |count: usize, x: u16| std::iter::repeat_n((1, x * 4 + 3, 2), count);
        let crowds: Crowds = (0..10).flat_map(|x| stand(100 - usize::from(x), x)).collect();
        assert_eq!([0, 5, 6].map(|x| crowds.around(1, x * 4, 0)), [100, 95, 0]);
        assert_eq!(crowds.around(2, 0, 0), 0);
    }

    #[test]
    fn a_sketch_finds_all_that_was_put_in_and_little_else() {
        let sketch: Sketch = (0..10).flat_map(|x| (0..15).map(move |y| (1, x * 4, y * 4))).collect();
        for x in 0..40 {
            for y in 0..60 {
                assert!(sketch.contains(1, x, y));
            }
        }
        let strangers = (0..10_000).filter(|i| sketch.contains(2, i % 100 * 4, i / 100 * 4)).count();
        assert!(strangers < 800, "{strangers} of 10,000 blocks were found that never went in");
    }
}
