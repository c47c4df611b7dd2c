//! Where things are: places, tiles, chunks, cells and blocks of an island, and the ids of what stands there.
//!
//! Everything here is a small copyable value. Conversions are total: any input whatever gives a value or `None`, and
//! NEVER a panic. Serialised, every type is an integer or a short array, in JSON and MessagePack alike.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Positions are fixed-point: this many units make one tile.
pub const UNITS_PER_TILE: i32 = 256;
/// The side of a chunk, the unit of land deeds, in tiles.
pub const TILES_PER_CHUNK: u16 = 16;
/// The side of a cell, the unit of vision, in tiles.
pub const TILES_PER_CELL: u16 = 32;
/// The side of a block, the unit of subscription, in cells.
pub const CELLS_PER_BLOCK: u16 = 4;
/// The longest side an island may have, in tiles.
pub const MAX_ISLAND_TILES: u16 = 4096;
/// The length of every block's topic, in ASCII characters.
pub const TOPIC_LENGTH: usize = 16;

const _: () = assert!(TILES_PER_CELL.is_multiple_of(TILES_PER_CHUNK));
const _: () = assert!(MAX_ISLAND_TILES.is_multiple_of(TILES_PER_CELL * CELLS_PER_BLOCK));
// Every place of an island, and a good way beyond it, fits an i32.
const _: () = assert!((MAX_ISLAND_TILES as i64) * (UNITS_PER_TILE as i64) < (i32::MAX as i64) / 64);

/// The number of an island, unique within a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IslandId(pub u32);

/// The number of an object, unique within a cluster. Below 2^53, so that every client language's number holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(pub u64);

impl ObjectId {
    /// The highest number an object may have.
    pub const MAX: ObjectId = ObjectId((1 << 53) - 1);
}

/// How often ownership of an object has changed hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

/// A position on an island in units of 1/256 tile; the origin is the island's top-left corner, y grows downwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(i32, i32)", into = "(i32, i32)")]
pub struct Place {
    /// Units to the right.
    pub x: i32,
    /// Units downwards.
    pub y: i32,
}

impl Place {
    /// The place with these coordinates, in units.
    pub const fn new(x: i32, y: i32) -> Place {
        Place { x, y }
    }

    /// The tile this place lies on; `None` left of, above or more than [`MAX_ISLAND_TILES`] away from the origin.
    pub fn tile(self) -> Option<Tile> {
        let along = |units: i32| {
            let tile = u16::try_from(units.div_euclid(UNITS_PER_TILE)).ok()?;
            (tile < MAX_ISLAND_TILES).then_some(tile)
        };
        Some(Tile { x: along(self.x)?, y: along(self.y)? })
    }

    /// The cell this place lies in; `None` where [`Place::tile`] is.
    pub fn cell(self, island: IslandId) -> Option<Cell> {
        Some(self.tile()?.cell(island))
    }

    /// Whether this place lies on an island of this size in tiles.
    pub fn is_within(self, size: (u16, u16)) -> bool {
        let along = |units: i32, tiles: u16| units >= 0 && units / UNITS_PER_TILE < i32::from(tiles);
        along(self.x, size.0) && along(self.y, size.1)
    }

    /// The nearest place on an island of this size in tiles. A size of nothing gives the origin.
    pub fn clamped(self, size: (u16, u16)) -> Place {
        let along = |units: i32, tiles: u16| units.clamp(0, (i32::from(tiles) * UNITS_PER_TILE - 1).max(0));
        Place { x: along(self.x, size.0), y: along(self.y, size.1) }
    }

    /// This place moved by `(dx, dy)` units, held at the ends of i32.
    pub fn offset(self, dx: i32, dy: i32) -> Place {
        Place { x: self.x.saturating_add(dx), y: self.y.saturating_add(dy) }
    }

    /// The square of the straight distance to `other`, in units squared, held at the end of u64.
    pub fn distance_squared(self, other: Place) -> u64 {
        let square = |a: i32, b: i32| {
            let difference = u64::from(a.abs_diff(b));
            difference * difference
        };
        square(self.x, other.x).saturating_add(square(self.y, other.y))
    }

    /// The longer of the distances along x and along y, in units: `other` lies in the square of this reach.
    pub fn reach(self, other: Place) -> u32 {
        self.x.abs_diff(other.x).max(self.y.abs_diff(other.y))
    }
}

/// The smallest area that a static object can stand on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u16, u16)", into = "(u16, u16)")]
pub struct Tile {
    /// Tiles to the right of the island's left edge.
    pub x: u16,
    /// Tiles below the island's upper edge.
    pub y: u16,
}

impl Tile {
    /// The tile with these coordinates.
    pub const fn new(x: u16, y: u16) -> Tile {
        Tile { x, y }
    }

    /// Its top-left corner, the lowest place on it.
    pub fn corner(self) -> Place {
        Place { x: i32::from(self.x) * UNITS_PER_TILE, y: i32::from(self.y) * UNITS_PER_TILE }
    }

    /// The place in its middle.
    pub fn centre(self) -> Place {
        self.corner().offset(UNITS_PER_TILE / 2, UNITS_PER_TILE / 2)
    }

    /// The cell it belongs to.
    pub fn cell(self, island: IslandId) -> Cell {
        Cell { island, x: self.x / TILES_PER_CELL, y: self.y / TILES_PER_CELL }
    }

    /// The chunk it belongs to.
    pub fn chunk(self, island: IslandId) -> Chunk {
        Chunk { island, x: self.x / TILES_PER_CHUNK, y: self.y / TILES_PER_CHUNK }
    }

    /// Whether it lies on an island of this size in tiles.
    pub fn is_within(self, size: (u16, u16)) -> bool {
        self.x < size.0 && self.y < size.1
    }
}

/// 16×16 tiles: the unit of land deeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u32, u16, u16)", into = "(u32, u16, u16)")]
pub struct Chunk {
    /// The island.
    pub island: IslandId,
    /// Chunks to the right.
    pub x: u16,
    /// Chunks downwards.
    pub y: u16,
}

impl Chunk {
    /// The cell it belongs to.
    pub fn cell(self) -> Cell {
        const CHUNKS: u16 = TILES_PER_CELL / TILES_PER_CHUNK;
        Cell { island: self.island, x: self.x / CHUNKS, y: self.y / CHUNKS }
    }

    /// Its top-left tile; `None` for a chunk beyond what any tile number reaches.
    pub fn first_tile(self) -> Option<Tile> {
        Some(Tile { x: self.x.checked_mul(TILES_PER_CHUNK)?, y: self.y.checked_mul(TILES_PER_CHUNK)? })
    }
}

/// 2×2 chunks, 32×32 tiles: the unit of vision and of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u32, u16, u16)", into = "(u32, u16, u16)")]
pub struct Cell {
    /// The island.
    pub island: IslandId,
    /// Cells to the right.
    pub x: u16,
    /// Cells downwards.
    pub y: u16,
}

impl Cell {
    /// The side of a cell in units.
    pub const UNITS: i32 = TILES_PER_CELL as i32 * UNITS_PER_TILE;

    /// The cell with these coordinates.
    pub const fn new(island: IslandId, x: u16, y: u16) -> Cell {
        Cell { island, x, y }
    }

    /// The block it belongs to.
    pub fn block(self) -> Block {
        Block { island: self.island, x: self.x / CELLS_PER_BLOCK, y: self.y / CELLS_PER_BLOCK }
    }

    /// Its number within its block: 0 to 15, row by row. The bit of a block's mask.
    pub fn index_in_block(self) -> u8 {
        ((self.y % CELLS_PER_BLOCK) * CELLS_PER_BLOCK + self.x % CELLS_PER_BLOCK) as u8
    }

    /// Its top-left corner, the lowest place in it.
    pub fn corner(self) -> Place {
        Place { x: i32::from(self.x) * Cell::UNITS, y: i32::from(self.y) * Cell::UNITS }
    }

    /// Whether this place lies in it.
    pub fn contains(self, place: Place) -> bool {
        let along = |units: i32, cell: u16| units.div_euclid(Cell::UNITS) == i32::from(cell);
        along(place.x, self.x) && along(place.y, self.y)
    }

    /// Whether a part of it lies on an island of this size in tiles.
    pub fn is_within(self, size: (u16, u16)) -> bool {
        self.x < size.0.div_ceil(TILES_PER_CELL) && self.y < size.1.div_ceil(TILES_PER_CELL)
    }
}

/// 4×4 cells: the unit of subscription. One block is one PUB/SUB topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u32, u16, u16)", into = "(u32, u16, u16)")]
pub struct Block {
    /// The island.
    pub island: IslandId,
    /// Blocks to the right.
    pub x: u16,
    /// Blocks downwards.
    pub y: u16,
}

impl Block {
    /// Its cells, row by row, in the order of [`Cell::index_in_block`]. Those beyond what a number reaches are left out.
    pub fn cells(self) -> impl Iterator<Item = Cell> {
        (0..(CELLS_PER_BLOCK * CELLS_PER_BLOCK) as u8).filter_map(move |index| self.cell(index))
    }

    /// The cell with this [`Cell::index_in_block`]; `None` for 16 and above, and beyond what a number reaches.
    pub fn cell(self, index: u8) -> Option<Cell> {
        let (dx, dy) = (u16::from(index) % CELLS_PER_BLOCK, u16::from(index) / CELLS_PER_BLOCK);
        if dy >= CELLS_PER_BLOCK {
            return None;
        }
        let along = |block: u16, d: u16| block.checked_mul(CELLS_PER_BLOCK)?.checked_add(d);
        Some(Cell { island: self.island, x: along(self.x, dx)?, y: along(self.y, dy)? })
    }

    /// The name of its topic: [`TOPIC_LENGTH`] lower-case hex digits, different for every block, so that none is the
    /// prefix of another.
    ///
    /// The digits that differ most between neighbouring blocks come first, because subscriptions are matched from the
    /// front: each of the first eight holds two bits of x and two of y, lowest first, the last eight hold the island,
    /// lowest first.
    pub fn topic(self) -> String {
        let place = spread(self.x) | (spread(self.y) << 1);
        let digits = u64::from(place) | (u64::from(self.island.0) << 32);
        (0..TOPIC_LENGTH).map(|i| HEX[(digits >> (4 * i)) as usize & 15] as char).collect()
    }

    /// The block whose [`Block::topic`] this is; `None` for any other text.
    pub fn from_topic(topic: &str) -> Option<Block> {
        if topic.len() != TOPIC_LENGTH {
            return None;
        }
        let mut digits = 0u64;
        for byte in topic.bytes().rev() {
            let digit = HEX.iter().position(|&h| h == byte)?;
            digits = (digits << 4) | digit as u64;
        }
        let place = digits as u32;
        Some(Block { island: IslandId((digits >> 32) as u32), x: gather(place), y: gather(place >> 1) })
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Moves bit i to bit 2i (the half of a Morton code).
fn spread(bits: u16) -> u32 {
    let mut b = u32::from(bits);
    b = (b | (b << 8)) & 0x00ff_00ff;
    b = (b | (b << 4)) & 0x0f0f_0f0f;
    b = (b | (b << 2)) & 0x3333_3333;
    (b | (b << 1)) & 0x5555_5555
}

/// Moves bit 2i back to bit i, leaving out the odd ones.
fn gather(bits: u32) -> u16 {
    let mut b = bits & 0x5555_5555;
    b = (b | (b >> 1)) & 0x3333_3333;
    b = (b | (b >> 2)) & 0x0f0f_0f0f;
    b = (b | (b >> 4)) & 0x00ff_00ff;
    (b | (b >> 8)) as u16
}

/// The conversions serde goes through: a pair for what is on one island, a triple for what names its island.
macro_rules! as_array {
    ($pair:ident, $number:ty) => {
        impl From<($number, $number)> for $pair {
            fn from((x, y): ($number, $number)) -> $pair {
                $pair { x, y }
            }
        }
        impl From<$pair> for ($number, $number) {
            fn from(it: $pair) -> ($number, $number) {
                (it.x, it.y)
            }
        }
    };
    ($triple:ident) => {
        impl From<(u32, u16, u16)> for $triple {
            fn from((island, x, y): (u32, u16, u16)) -> $triple {
                $triple { island: IslandId(island), x, y }
            }
        }
        impl From<$triple> for (u32, u16, u16) {
            fn from(it: $triple) -> (u32, u16, u16) {
                (it.island.0, it.x, it.y)
            }
        }
        impl fmt::Display for $triple {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{},{}", self.island, self.x, self.y)
            }
        }
    };
}

as_array!(Place, i32);
as_array!(Tile, u16);
as_array!(Chunk);
as_array!(Cell);
as_array!(Block);

impl fmt::Display for IslandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.x, self.y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTREMES: [i32; 9] = [i32::MIN, i32::MIN + 1, -257, -1, 0, 1, 255, i32::MAX - 1, i32::MAX];

    #[test]
    fn places_fall_into_tiles_cells_and_blocks() {
        let check = |x, y, tile: Option<(u16, u16)>, cell: Option<(u16, u16)>| {
            let place = Place::new(x, y);
            assert_eq!(place.tile(), tile.map(Tile::from), "{place:?}");
            assert_eq!(place.cell(IslandId(7)), cell.map(|(x, y)| Cell::new(IslandId(7), x, y)), "{place:?}");
        };
        check(0, 0, Some((0, 0)), Some((0, 0)));
        check(255, 256, Some((0, 1)), Some((0, 0)));
        check(8191, 8192, Some((31, 32)), Some((0, 1)));
        check(-1, 0, None, None);
        check(4096 * 256 - 1, 0, Some((4095, 0)), Some((127, 0)));
        check(4096 * 256, 0, None, None);
        check(0, i32::MAX, None, None);
        let cell = Cell::new(IslandId(7), 127, 5);
        assert_eq!(cell.block(), Block { island: IslandId(7), x: 31, y: 1 });
        assert_eq!(cell.index_in_block(), 4 + 3);
    }

    #[test]
    fn no_input_makes_a_conversion_panic() {
        for x in EXTREMES {
            for y in EXTREMES {
                let place = Place::new(x, y);
                let size = (x as u16, y as u16);
                assert_eq!(place.clamped(size).is_within(size), size.0 > 0 && size.1 > 0);
                if place.is_within((4096, 4096)) {
                    let tile = place.tile().expect("a place on an island has a tile");
                    assert!(tile.is_within((4096, 4096)) && tile.cell(IslandId(1)).contains(place));
                }
                for other in EXTREMES {
                    let other = Place::new(other, x);
                    assert_eq!(place.distance_squared(other), other.distance_squared(place));
                    assert_eq!(place.offset(other.x, other.y), other.offset(x, y));
                    assert_eq!(place.reach(other), other.reach(place));
                }
                let (x, y) = (x as u16, y as u16);
                let cell = Cell::new(IslandId(u32::MAX), x, y);
                assert!(cell.contains(cell.corner()));
                assert_eq!(cell.block().cell(cell.index_in_block()), Some(cell));
                assert!(Block { island: IslandId(0), x, y }.cells().count() <= 16);
                assert_eq!(Block { island: IslandId(0), x, y }.cell(16), None);
                let _ = (Chunk { island: IslandId(0), x, y }.first_tile(), Tile::new(x, y).centre());
            }
        }
    }

    #[test]
    fn a_topic_has_a_fixed_length_and_names_exactly_one_block() {
        let mut seen = std::collections::BTreeSet::new();
        for island in [0, 1, 2, 16, 835, u32::MAX] {
            for x in (0..32).chain([255, 256, u16::MAX]) {
                for y in (0..32).chain([255, 256, u16::MAX]) {
                    let block = Block { island: IslandId(island), x, y };
                    let topic = block.topic();
                    assert_eq!(topic.len(), TOPIC_LENGTH);
                    assert_eq!(Block::from_topic(&topic), Some(block));
                    assert!(seen.insert(topic));
                }
            }
        }
        assert_eq!(Block { island: IslandId(0x123), x: 5, y: 2 }.topic(), "9100000032100000");
        for wrong in
            ["", "910000003210000", "91000000321000000", "9100000032100g00", "91000000321000A0", "é10000003210000"]
        {
            assert_eq!(Block::from_topic(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sixteen_neighbouring_blocks_differ_in_the_first_digit_of_their_topics() {
        let first = |x, y| Block { island: IslandId(3), x, y }.topic().remove(0);
        let digits: std::collections::BTreeSet<char> =
            (8..12).flat_map(|x| (20..24).map(move |y| first(x, y))).collect();
        assert_eq!(digits.len(), 16);
    }

    #[test]
    fn values_are_short_arrays_in_every_format() {
        let cell = Cell::new(IslandId(1), 2, 3);
        assert_eq!(
            serde_json::to_string(&(Place::new(-1, 2), Tile::new(3, 4), cell, ObjectId(9), Epoch(1))).unwrap(),
            "[[-1,2],[3,4],[1,2,3],9,1]"
        );
        let bytes = rmp_serde::to_vec(&cell).unwrap();
        assert_eq!(bytes, [0x93, 1, 2, 3]);
        assert_eq!(rmp_serde::from_slice::<Cell>(&bytes).unwrap(), cell);
    }
}
