//! The tiles on which an object stands: a rectangle of at most a chunk's size, turned, with holes where it has a mask.
//!
//! A value that is there is right: what would be empty, too large or beyond every island cannot be made or read. The
//! footprint NEVER knows its island; whether it fits on it is decided elsewhere.

use std::collections::BTreeMap;

use cartographer::geometry::{Chunk, IslandId, MAX_ISLAND_TILES, TILES_PER_CHUNK, Tile};
use serde::{Deserialize, Serialize};

use super::codes;
use crate::transaction::Refusal;

/// The longest side, in tiles: a chunk's.
pub const SIDE_TILES: u8 = TILES_PER_CHUNK as u8;

/// The most chunks that one footprint touches.
pub const CHUNKS: usize = 4;

/// How far an object is turned, clockwise as seen on the map. In JSON the degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum Rotation {
    /// Not at all.
    #[default]
    R0,
    /// 90 degrees.
    R90,
    /// 180 degrees.
    R180,
    /// 270 degrees.
    R270,
}

impl Rotation {
    /// All of them.
    pub const ALL: [Rotation; 4] = [Rotation::R0, Rotation::R90, Rotation::R180, Rotation::R270];
}

impl From<Rotation> for u16 {
    fn from(rotation: Rotation) -> u16 {
        rotation as u16 * 90
    }
}

impl TryFrom<u16> for Rotation {
    type Error = String;

    fn try_from(degrees: u16) -> Result<Rotation, String> {
        let found = Rotation::ALL.into_iter().find(|rotation| u16::from(*rotation) == degrees);
        found.ok_or_else(|| format!("a rotation of {degrees} degrees; it is 0, 90, 180 or 270"))
    }
}

/// The tiles on which an object stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Footprint {
    form: Form,
}

/// A footprint as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Form {
    origin: Tile,
    width: u8,
    height: u8,
    #[serde(default)]
    rotation: Rotation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Vec<u16>>,
}

impl TryFrom<Form> for Footprint {
    type Error = Refusal;

    fn try_from(form: Form) -> Result<Footprint, Refusal> {
        let Form { width, height, .. } = form;
        if !(1..=SIDE_TILES).contains(&width) || !(1..=SIDE_TILES).contains(&height) {
            let why = format!("a footprint of {width}×{height} tiles; the bounds are 1 and {SIDE_TILES}");
            return Err(Refusal::new(codes::TOO_LARGE, why));
        }
        if form.origin.x >= MAX_ISLAND_TILES || form.origin.y >= MAX_ISLAND_TILES {
            return Err(Refusal::new(codes::OUTSIDE, format!("tile {} lies beyond every island", form.origin)));
        }
        if let Some(rows) = &form.mask {
            let fits = |row: &u16| u32::from(*row) >> width == 0;
            if rows.len() != usize::from(height) || !rows.iter().all(fits) || rows.iter().all(|row| *row == 0) {
                let why = format!("a mask that does not fit {width}×{height} tiles or leaves none");
                return Err(Refusal::new(codes::MALFORMED, why));
            }
        }
        Ok(Footprint { form })
    }
}

impl From<Footprint> for Form {
    fn from(footprint: Footprint) -> Form {
        footprint.form
    }
}

impl Footprint {
    /// A rectangle whose top-left tile *after turning* is `origin`; `width` and `height` are those before turning, in tiles
    /// from 1 to [`SIDE_TILES`]. Refused: [`codes::TOO_LARGE`], [`codes::OUTSIDE`] every island.
    pub fn new(origin: Tile, width: u8, height: u8, rotation: Rotation) -> Result<Footprint, Refusal> {
        Footprint::try_from(Form { origin, width, height, rotation, mask: None })
    }

    /// The same with holes: one number for each row before turning, in which bit `i` stands for the tile in column `i`.
    /// Refused as [`codes::MALFORMED`] if the rows do not fit or leave no tile.
    pub fn masked(self, rows: Vec<u16>) -> Result<Footprint, Refusal> {
        Footprint::try_from(Form { mask: Some(rows), ..self.form })
    }

    /// The same elsewhere, turned otherwise.
    pub fn at(&self, origin: Tile, rotation: Rotation) -> Result<Footprint, Refusal> {
        Footprint::try_from(Form { origin, rotation, ..self.form.clone() })
    }

    /// The top-left tile of the rectangle around it.
    pub fn origin(&self) -> Tile {
        self.form.origin
    }

    /// How far it is turned.
    pub fn rotation(&self) -> Rotation {
        self.form.rotation
    }

    /// Width and height of the rectangle around it as it lies on the map, in tiles.
    pub fn size(&self) -> (u8, u8) {
        match self.form.rotation {
            Rotation::R0 | Rotation::R180 => (self.form.width, self.form.height),
            Rotation::R90 | Rotation::R270 => (self.form.height, self.form.width),
        }
    }

    /// Its tiles, row by row as it lies on the map. At the farthest edge some may lie beyond every island.
    pub fn tiles(&self) -> impl Iterator<Item = Tile> {
        let (width, height) = self.size();
        let Tile { x, y } = self.form.origin;
        let all = (0..height).flat_map(move |dy| (0..width).map(move |dx| (dx, dy)));
        // No overflow: the origin is below MAX_ISLAND_TILES, a side at most a chunk's.
        all.filter(|(dx, dy)| self.covers(*dx, *dy))
            .map(move |(dx, dy)| Tile::new(x + u16::from(dx), y + u16::from(dy)))
    }

    /// Whether it covers this tile, counted from its top-left one.
    fn covers(&self, dx: u8, dy: u8) -> bool {
        let Form { width, height, rotation, mask, .. } = &self.form;
        let Some(rows) = mask else { return true };
        let (column, row) = match rotation {
            Rotation::R0 => (dx, dy),
            Rotation::R90 => (dy, height - 1 - dx),
            Rotation::R180 => (width - 1 - dx, height - 1 - dy),
            Rotation::R270 => (width - 1 - dy, dx),
        };
        rows.get(usize::from(row)).is_some_and(|bits| bits >> column & 1 == 1)
    }

    /// Its tiles by the chunks in which they lie, at most [`CHUNKS`], as numbers within each ([`index_in_chunk`]).
    pub fn by_chunk(&self, island: IslandId) -> BTreeMap<Chunk, Vec<u8>> {
        let mut chunks: BTreeMap<Chunk, Vec<u8>> = BTreeMap::new();
        for tile in self.tiles() {
            chunks.entry(tile.chunk(island)).or_default().push(index_in_chunk(tile));
        }
        chunks
    }
}

/// A tile's number within its chunk: 0 to 255, row by row.
pub fn index_in_chunk(tile: Tile) -> u8 {
    // Below 256: both remainders are below 16.
    ((tile.y % TILES_PER_CHUNK) * TILES_PER_CHUNK + tile.x % TILES_PER_CHUNK) as u8
}

/// The tile with this number in its chunk; nothing for a chunk beyond what any tile number reaches.
pub fn tile_in_chunk(chunk: Chunk, index: u8) -> Option<Tile> {
    let first = chunk.first_tile()?;
    let (dx, dy) = (u16::from(index) % TILES_PER_CHUNK, u16::from(index) / TILES_PER_CHUNK);
    Some(Tile::new(first.x.checked_add(dx)?, first.y.checked_add(dy)?))
}
