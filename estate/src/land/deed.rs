//! Deeds: what stands on each tile of one chunk, and which holding it points to.
//!
//! A deed that was never written is what the terrain package says. One that has become that again is none: it goes by
//! itself. What stands where is decided here and NEVER by looking at other documents; whose the land is, a deed only hints.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cartographer::geometry::{Chunk, IslandId, MAX_ISLAND_TILES, ObjectId, TILES_PER_CHUNK};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::footprint::tile_in_chunk;
use super::{Grounds, codes};
use crate::document::{Document, Migration};
use crate::transaction::{Kind, Marks, Refusal};

/// The deed of one chunk, under `deed/ISLAND/X/Y`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeedDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The island.
    pub island: IslandId,
    /// The chunk, from the island's left edge.
    pub x: u16,
    /// The chunk, from the island's upper edge.
    pub y: u16,
    /// What stands on the tiles, by [`super::footprint::index_in_chunk`]. The others are empty.
    pub stands: BTreeMap<u8, Stand>,
    /// The holding to which the chunk belongs if that holding lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<ObjectId>,
    /// What transactions have left.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for DeedDocument {
    const KIND: &'static str = "deed";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

impl DeedDocument {
    /// The chunk.
    pub fn chunk(&self) -> Chunk {
        Chunk { island: self.island, x: self.x, y: self.y }
    }
}

/// What stands on a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// A natural object that nobody has touched, by its number.
    Natural(u32),
    /// An object with a document of its own.
    Object(ObjectId),
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stand::Natural(number) => write!(f, "natural object {number}"),
            Stand::Object(id) => write!(f, "object {id}"),
        }
    }
}

/// What is done to a deed: one thing after the other, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeedEffect {
    /// In this order.
    pub acts: Vec<DeedAct>,
}

/// One thing done to a deed. Tiles are numbered by [`super::footprint::index_in_chunk`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeedAct {
    /// The object comes to stand on these tiles. Refused as [`codes::OCCUPIED`] where something else stands.
    Occupy {
        /// The object.
        object: ObjectId,
        /// The tiles.
        tiles: Vec<u8>,
    },
    /// The object stands on these tiles no more. Refused as [`codes::DISAGREES`] if it does not stand on all of them.
    Vacate {
        /// The object.
        object: ObjectId,
        /// The tiles.
        tiles: Vec<u8>,
    },
    /// The natural object of this number goes. Refused as [`codes::MISSING`] if it is not there.
    Clear {
        /// The tile.
        tile: u8,
        /// The number it must have.
        natural: u32,
    },
    /// A natural object of this number comes. Refused as [`codes::OCCUPIED`] if anything is there.
    Restore {
        /// The tile.
        tile: u8,
        /// Its number, not 0.
        natural: u32,
    },
    /// The deed points to `to` from now on. Refused as [`codes::CHANGED`] if it does not point to `expected`.
    Point {
        /// Where it must point.
        expected: Option<ObjectId>,
        /// Where it will.
        to: Option<ObjectId>,
    },
}

/// The key of a chunk's deed.
pub fn key(chunk: Chunk) -> String {
    format!("deed/{}/{}/{}", chunk.island, chunk.x, chunk.y)
}

/// The chunk whose deed has this key, in the one form in which it may be written; nothing for any other text.
pub fn chunk_of(key_text: &str) -> Option<Chunk> {
    let mut words = key_text.strip_prefix("deed/")?.split('/');
    let mut word = || words.next();
    let (island, x, y) = (word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
    let chunk = Chunk { island: IslandId(island), x, y };
    (key(chunk) == key_text).then_some(chunk)
}

/// Deeds in transactions.
#[derive(Clone)]
pub struct DeedKind {
    grounds: Arc<dyn Grounds>,
}

impl fmt::Debug for DeedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeedKind").finish_non_exhaustive()
    }
}

impl DeedKind {
    /// Deeds of these islands.
    pub fn new(grounds: Arc<dyn Grounds>) -> DeedKind {
        DeedKind { grounds }
    }
}

impl Kind for DeedKind {
    type Document = DeedDocument;
    type Effect = DeedEffect;

    fn born(&self, key: &str) -> Result<DeedDocument, Refusal> {
        let not_a_deed = || Refusal::new(codes::MALFORMED, format!("{key:?} is not the key of a deed"));
        born(&*self.grounds, chunk_of(key).ok_or_else(not_a_deed)?)
    }

    fn marks<'a>(&self, document: &'a mut DeedDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut DeedDocument, effect: &DeedEffect) -> Result<(), Refusal> {
        effect.acts.iter().try_for_each(|act| apply(document, act))
    }

    fn is_blank(&self, key: &str, document: &DeedDocument) -> bool {
        let alone = document.holding.is_none() && document.rest.is_empty();
        // The number of things differs in nearly every deed that is not blank, and naturals are quickly counted; what
        // has no key of its own is never blank, so that it stays for people to look at.
        alone && chunk_of(key).is_some_and(|chunk| document.stands == naturals(&*self.grounds, chunk))
    }
}

/// The deed as the terrain package has it, or [`codes::OUTSIDE`].
pub fn born(grounds: &dyn Grounds, chunk: Chunk) -> Result<DeedDocument, Refusal> {
    let size = grounds.size(chunk.island);
    let size = size.ok_or_else(|| Refusal::new(codes::OUTSIDE, format!("there is no island {}", chunk.island)))?;
    if !chunk.first_tile().is_some_and(|tile| tile.is_within(size)) {
        return Err(Refusal::new(codes::OUTSIDE, format!("chunk {chunk} lies outside its island")));
    }
    Ok(DeedDocument {
        v: DeedDocument::VERSION,
        island: chunk.island,
        x: chunk.x,
        y: chunk.y,
        stands: naturals(grounds, chunk),
        holding: None,
        marks: Marks::default(),
        rest: Map::new(),
    })
}

/// What stands in a chunk by nature.
pub(super) fn naturals(grounds: &dyn Grounds, chunk: Chunk) -> BTreeMap<u8, Stand> {
    let natural = |index: u8| {
        let number = grounds.natural(chunk.island, tile_in_chunk(chunk, index)?);
        (number != 0).then_some((index, Stand::Natural(number)))
    };
    (0..=u8::MAX).filter_map(natural).collect()
}

fn apply(deed: &mut DeedDocument, act: &DeedAct) -> Result<(), Refusal> {
    let at = |deed: &DeedDocument, index: u8| match tile_in_chunk(deed.chunk(), index) {
        Some(tile) => format!("tile {tile} of island {}", deed.island),
        None => format!("tile {index} of chunk {}", deed.chunk()),
    };
    match act {
        DeedAct::Occupy { object, tiles } => {
            for tile in tiles {
                if let Some(other) = deed.stands.insert(*tile, Stand::Object(*object)) {
                    return Err(Refusal::new(codes::OCCUPIED, format!("{other} stands on {}", at(deed, *tile))));
                }
            }
        }
        DeedAct::Vacate { object, tiles } => {
            for tile in tiles {
                if deed.stands.remove(tile) != Some(Stand::Object(*object)) {
                    let why = format!("by its deed, object {object} does not stand on {}", at(deed, *tile));
                    return Err(Refusal::new(codes::DISAGREES, why));
                }
            }
        }
        DeedAct::Clear { tile, natural } => {
            if deed.stands.remove(tile) != Some(Stand::Natural(*natural)) {
                let why = format!("there is no natural object {natural} on {}", at(deed, *tile));
                return Err(Refusal::new(codes::MISSING, why));
            }
        }
        DeedAct::Restore { tile, natural } => {
            if *natural == 0 {
                return Err(Refusal::new(codes::MALFORMED, "natural object 0 is none"));
            }
            if let Some(other) = deed.stands.insert(*tile, Stand::Natural(*natural)) {
                return Err(Refusal::new(codes::OCCUPIED, format!("{other} stands on {}", at(deed, *tile))));
            }
        }
        DeedAct::Point { expected, to } => {
            if deed.holding != *expected {
                let why = format!("the deed of chunk {} points to another holding than was read", deed.chunk());
                return Err(Refusal::new(codes::CHANGED, why));
            }
            deed.holding = *to;
        }
    }
    Ok(())
}

// The tiles of a chunk are exactly the values of their number's type.
const _: () = assert!(TILES_PER_CHUNK as usize * TILES_PER_CHUNK as usize == u8::MAX as usize + 1);
// Every tile of every chunk that an island may have has a number.
const _: () = assert!(MAX_ISLAND_TILES.checked_add(TILES_PER_CHUNK).is_some());
