//! The tilesets of a map: which kind of ground each tile number is, and whether one can walk there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Kind;
use super::draft::{self, TileNote, property};
use super::error::{Reason, TerrainError};
use super::read;

/// Tiles in a tileset, at most.
const MAX_TILES: u32 = 1 << 16;
/// The highest map-wide tile number, so that a table of all of them stays small.
const MAX_NUMBER: u32 = 1 << 20;
/// Bits of a tile number that say how the tile is mirrored and turned; the ground does not care.
const FLAGS: u32 = 0xf000_0000;
/// The kind of ground where nothing is drawn.
const SEA: &str = "deep_water";

/// A tileset, read once and shared by the maps that use it.
#[derive(Debug)]
struct Tiles {
    name: String,
    count: u32,
    facts: BTreeMap<u32, Facts>,
}

/// What a tileset says of one tile.
#[derive(Debug)]
struct Facts {
    class: String,
    walkable: Option<bool>,
    water: bool,
    colour: Option<[u8; 3]>,
}

/// The external tilesets read so far, by file.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    tilesets: BTreeMap<PathBuf, Arc<Tiles>>,
}

impl Shelf {
    fn external(&mut self, map: &Path, source: &str) -> Result<Arc<Tiles>, TerrainError> {
        let refused = |problem| {
            let reason = Reason::Tileset { tileset: source.to_owned(), problem };
            TerrainError::new(map, reason)
        };
        if Path::new(source).is_absolute() {
            return Err(refused("is named by an absolute path; other machines have other folders".to_owned()));
        }
        let path = map.parent().unwrap_or(Path::new("")).join(source);
        let file = path.canonicalize().map_err(|e| refused(format!("cannot be found: {e}")))?;
        if let Some(tiles) = self.tilesets.get(&file) {
            return Ok(Arc::clone(tiles));
        }
        let tiles = Arc::new(Tiles::check(&path, read::tileset(&path)?)?);
        self.tilesets.insert(file, Arc::clone(&tiles));
        Ok(tiles)
    }
}

impl Tiles {
    fn check(file: &Path, tileset: draft::Tileset) -> Result<Tiles, TerrainError> {
        let refused = |problem| {
            let reason = Reason::Tileset { tileset: tileset.name.clone(), problem };
            TerrainError::new(file, reason)
        };
        let mut facts = BTreeMap::new();
        for note in &tileset.tiles {
            if note.id >= MAX_TILES {
                return Err(refused(format!("has a tile {}; numbers below {MAX_TILES} are read", note.id)));
            }
            let of_tile = |problem: &str| refused(format!("tile {}: {problem}", note.id));
            if facts.insert(note.id, Facts::check(note).map_err(of_tile)?).is_some() {
                return Err(of_tile("stands twice"));
            }
        }
        if tileset.tilecount > MAX_TILES {
            return Err(refused(format!("declares {} tiles; {MAX_TILES} are allowed", tileset.tilecount)));
        }
        let count = facts.last_key_value().map_or(0, |(id, _)| id + 1).max(tileset.tilecount);
        Ok(Tiles { name: tileset.name, count, facts })
    }
}

impl Facts {
    fn check(note: &TileNote) -> Result<Facts, &'static str> {
        let flag = |name, problem| match property(&note.properties, name) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or(problem),
        };
        let colour = match property(&note.properties, "colour") {
            None => None,
            Some(value) => Some(value.as_text().and_then(colour).ok_or("property \"colour\" is no colour")?),
        };
        Ok(Facts {
            class: note.class.clone(),
            walkable: flag("walkable", "property \"walkable\" is no bool")?,
            water: flag("water", "property \"water\" is no bool")?.unwrap_or(false),
            colour,
        })
    }
}

/// `#rrggbb` or `#aarrggbb`, as Tiled writes colours.
fn colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    let [_, red, green, blue] = number.to_be_bytes();
    matches!(digits.len(), 6 | 8).then_some([red, green, blue])
}

/// What a map-wide tile number means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    tileset: u16,
    /// The number within its tileset.
    pub(super) id: u16,
    /// As ground: the index of its kind, and whether one can walk there; or why it is no ground.
    pub(super) ground: Result<(u8, bool), &'static str>,
    /// As a natural object: nothing, or why it is none.
    pub(super) natural: Result<(), &'static str>,
}

/// All tile numbers of one map.
#[derive(Debug)]
pub(super) struct Palette {
    tilesets: Vec<Arc<Tiles>>,
    slots: Vec<Option<Slot>>,
    kinds: Vec<Kind>,
}

impl Palette {
    /// Opens the tilesets of the map in this file.
    pub(super) fn open(map: &Path, drafts: Vec<draft::Tileset>, shelf: &mut Shelf) -> Result<Palette, TerrainError> {
        let sea = Kind { name: SEA.to_owned(), water: true, colour: None };
        let mut palette = Palette { tilesets: Vec::new(), slots: Vec::new(), kinds: vec![sea] };
        for draft in drafts {
            let first = draft.firstgid;
            let tiles = match draft.source.as_deref() {
                Some(source) => shelf.external(map, source)?,
                None => Arc::new(Tiles::check(map, draft)?),
            };
            palette.add(first, tiles).map_err(|reason| TerrainError::new(map, reason))?;
        }
        Ok(palette)
    }

    fn add(&mut self, first: u32, tiles: Arc<Tiles>) -> Result<(), Reason> {
        let refused = |problem: &str| Reason::Tileset { tileset: tiles.name.clone(), problem: problem.to_owned() };
        let end = first.saturating_add(tiles.count);
        if first == 0 || end > MAX_NUMBER {
            return Err(refused("has tile numbers (firstgid) out of bounds"));
        }
        let index = u16::try_from(self.tilesets.len()).map_err(|_| refused("is one too many"))?;
        if self.slots.len() < end as usize {
            self.slots.resize(end as usize, None);
        }
        for id in 0..tiles.count {
            let slot = self.slot(index, id, tiles.facts.get(&id))?;
            if self.slots[(first + id) as usize].replace(slot).is_some() {
                return Err(refused("claims tile numbers (firstgid) of another tileset"));
            }
        }
        self.tilesets.push(tiles);
        Ok(())
    }

    fn slot(&mut self, tileset: u16, id: u32, facts: Option<&Facts>) -> Result<Slot, Reason> {
        let ground = match facts {
            Some(Facts { walkable: Some(_), class, .. }) if class.is_empty() => {
                Err("has no class that names its kind of ground")
            }
            Some(facts @ Facts { walkable: Some(walkable), .. }) => Ok((self.kind(facts)?, *walkable)),
            _ => Err("has no bool property \"walkable\""),
        };
        let natural = match facts {
            Some(Facts { walkable: Some(_), .. }) => Err("is ground, not a natural object"),
            _ => Ok(()),
        };
        Ok(Slot { tileset, id: id as u16, ground, natural })
    }

    /// The index of this tile's kind; tiles of one class are one kind.
    fn kind(&mut self, facts: &Facts) -> Result<u8, Reason> {
        let index = match self.kinds.iter().position(|kind| kind.name == facts.class) {
            Some(index) => index,
            None => {
                self.kinds.push(Kind { name: facts.class.clone(), water: facts.water, colour: None });
                self.kinds.len() - 1
            }
        };
        let kind = &mut self.kinds[index];
        kind.colour = kind.colour.or(facts.colour);
        u8::try_from(index).map_err(|_| Reason::TooManyKinds)
    }

    /// The map-wide number without its flags, and what it means; nothing for the empty tile.
    pub(super) fn look_up(&self, number: u32) -> Option<(u32, Option<&Slot>)> {
        let number = number & !FLAGS;
        if number == 0 { None } else { Some((number, self.slots.get(number as usize).and_then(Option::as_ref))) }
    }

    /// The name of this slot's tileset.
    pub(super) fn tileset(&self, slot: &Slot) -> &str {
        self.tilesets.get(usize::from(slot.tileset)).map_or("", |tiles| &tiles.name)
    }

    /// Whether two slots are of one tileset.
    pub(super) fn same_tileset(&self, one: &Slot, other: &Slot) -> bool {
        one.tileset == other.tileset
    }

    /// What the class of this slot's tile is, if it has one.
    pub(super) fn class(&self, slot: &Slot) -> Option<&str> {
        let facts = self.tilesets.get(usize::from(slot.tileset))?.facts.get(&u32::from(slot.id))?;
        Some(facts.class.as_str()).filter(|class| !class.is_empty())
    }

    /// The kinds of ground, by index.
    pub(super) fn into_kinds(self) -> Vec<Kind> {
        self.kinds
    }
}
