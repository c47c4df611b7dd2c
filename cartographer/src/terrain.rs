//! Terrain packages: islands drawn in the Tiled editor (`.tmx`, `.tmj`), opened, checked, and kept in little memory.
//!
//! A map has tile layers of class (or name) `ground`, whose tiles have a class that names their kind and a bool property
//! `walkable`; upper layers cover lower ones, and where nothing is drawn there is deep water. A tile layer `naturals`
//! holds the natural objects: the number of each is its tile's id within its tileset. Object layers hold habitats
//! (class `habitat`: a rectangle or polygon, property `species`), spawn points (class `spawn`) and harbours (class
//! `harbour`). Properties of the map: `island` (int, its number), `title`, and `kind` (`stable` or `unstable`).
//! Layers of class `decor` and images are for the eye only. What cannot be used is refused with the file, the layer and
//! the reason.
//!
//! Opening makes no objects: an island costs its map and nothing else. Files are NEVER trusted: no input makes this
//! module panic, and memory and time stay in proportion to the file and to the largest island.

mod data;
mod draft;
mod error;
mod marks;
mod naturals;
mod picture;
mod read;
mod relief;
mod survey;
mod tilesets;
mod tmx;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{Reason, TerrainError};
pub use picture::{MAX_PICTURE_PIXELS, Picture};

use crate::geometry::{IslandId, Place, Tile, UNITS_PER_TILE};
use crate::ground::Ground;
use naturals::Naturals;
use tilesets::Shelf;

/// An island: its number and title, and the map that it shares with all islands made from the same package.
#[derive(Clone, Debug)]
pub struct Terrain {
    id: IslandId,
    title: String,
    land: Arc<Land>,
}

/// What a package says of the land itself, whatever number and title an island made from it has.
#[derive(Debug)]
struct Land {
    name: String,
    stability: Stability,
    size: (u16, u16),
    kinds: Box<[Kind]>,
    /// The index of each tile's kind, row by row.
    ground: Box<[u8]>,
    /// A bit for each tile, in the same order.
    walkable: Box<[u64]>,
    naturals: Naturals,
    natural_names: BTreeMap<u16, String>,
    habitats: Vec<Habitat>,
    spawns: Vec<Spawn>,
    harbours: Vec<Harbour>,
}

/// Whether an island lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Large and there for ever.
    Stable,
    /// Small and rich, and gone after its life.
    Unstable,
}

/// A kind of ground, as the tileset describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name, for instance `grass`: the class of its tiles.
    pub name: String,
    /// Whether it is water (bool property `water`).
    pub water: bool,
    /// Its colour on map pictures, red, green, blue (property `colour`).
    pub colour: Option<[u8; 3]>,
}

/// Where players arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its name, for people.
    pub name: String,
    /// The point itself. One can stand there.
    pub place: Place,
    /// How far around the point arrivals may spread, in tiles (int property `spread`).
    pub spread_tiles: u16,
}

/// Where ships land.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harbour {
    /// Its name, for people.
    pub name: String,
    /// The landing, beside the water. One can stand there.
    pub place: Place,
}

/// A place from which animals wake when watched, and into which they vanish when not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habitat {
    /// Its name, for people.
    pub name: String,
    /// The species (string property `species`).
    pub species: String,
    /// How many live there (int property `animals`), at least one.
    pub animals: u16,
    /// The least and the greatest coordinates of its corners.
    pub bounds: (Place, Place),
    /// Its corners in order; four for a rectangle.
    pub corners: Box<[Place]>,
}

impl Habitat {
    /// Whether this place lies in it: by the even-odd rule, in whole numbers.
    pub fn contains(&self, place: Place) -> bool {
        let mut inside = false;
        let mut previous = self.corners.last().copied().unwrap_or_default();
        for &corner in &self.corners {
            if (corner.y > place.y) != (previous.y > place.y) {
                let wide = |from: i32, to: i32| i64::from(to) - i64::from(from);
                let side = wide(corner.x, previous.x) * wide(corner.y, place.y)
                    - wide(corner.x, place.x) * wide(corner.y, previous.y);
                inside ^= (side > 0) == (previous.y > corner.y);
            }
            previous = corner;
        }
        inside
    }
}

/// How many tiles around a spawn are tried before an arrival is put on the spawn itself.
const ARRIVAL_TRIES: u64 = 16;

impl Terrain {
    /// Opens the map in this file. Its tilesets are read from where it names them.
    pub fn open(path: impl AsRef<Path>) -> Result<Terrain, TerrainError> {
        open(path.as_ref(), &mut Shelf::default())
    }

    /// The island's number.
    pub fn id(&self) -> IslandId {
        self.id
    }

    /// Another island with the same map. The map is shared: this costs the title and nothing else.
    pub fn instance(&self, id: IslandId, title: impl Into<String>) -> Terrain {
        Terrain { id, title: title.into(), land: self.land.clone() }
    }

    /// Its map's name: the file's, without the ending. All islands made from one package share it.
    pub fn name(&self) -> &str {
        &self.land.name
    }

    /// Its name for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whether it lasts.
    pub fn stability(&self) -> Stability {
        self.land.stability
    }

    /// The kind of ground of this tile; nothing off the island.
    pub fn kind_at(&self, tile: Tile) -> Option<&Kind> {
        self.land.kind_at(tile)
    }

    /// All kinds of ground of its tilesets.
    pub fn kinds(&self) -> &[Kind] {
        &self.land.kinds
    }

    /// The number of the natural object on this tile, if there is one.
    pub fn natural_at(&self, tile: Tile) -> Option<u16> {
        self.land.naturals.get(tile)
    }

    /// The natural objects from tile `first` (with it) to `end` (without its row and column), row by row.
    pub fn naturals_within(&self, first: Tile, end: Tile) -> impl Iterator<Item = (Tile, u16)> {
        self.land.naturals.within(first, end)
    }

    /// How many natural objects there are.
    pub fn natural_count(&self) -> usize {
        self.land.naturals.len()
    }

    /// What natural objects of this number are called: the class of their tile. Only numbers that occur have names.
    pub fn natural_name(&self, number: u16) -> Option<&str> {
        self.land.natural_names.get(&number).map(String::as_str)
    }

    /// The habitats, in the order of the map.
    pub fn habitats(&self) -> &[Habitat] {
        &self.land.habitats
    }

    /// The spawn points, in the order of the map; at least one.
    pub fn spawns(&self) -> &[Spawn] {
        &self.land.spawns
    }

    /// The harbours, in the order of the map.
    pub fn harbours(&self) -> &[Harbour] {
        &self.land.harbours
    }

    /// Where somebody arrives: at a spawn point, or on a tile near it where it spreads arrivals. Every choice follows
    /// from `bits`, which SHOULD be random; one can stand there.
    pub fn arrival(&self, bits: u64) -> Place {
        let count = self.land.spawns.len() as u64;
        let Some(spawn) = self.land.spawns.get((bits % count.max(1)) as usize) else { return Place::default() };
        let side = u64::from(spawn.spread_tiles) * 2 + 1;
        for attempt in 0..ARRIVAL_TRIES {
            let bits = mixed(bits.wrapping_add(attempt));
            let offset = |bits: u64| ((bits % side) as i32 - i32::from(spawn.spread_tiles)) * UNITS_PER_TILE;
            let place = spawn.place.offset(offset(bits & 0xffff_ffff), offset(bits >> 32));
            if place.tile().is_some_and(|tile| self.walkable(tile)) {
                return place;
            }
        }
        spawn.place
    }

    /// How many tiles one can walk on.
    pub fn walkable_tiles(&self) -> usize {
        self.land.walkable.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Bytes of memory that the map takes, however many islands share it.
    pub fn bytes(&self) -> usize {
        let land = &self.land;
        size_of::<Terrain>()
            + size_of::<Land>()
            + land.ground.len()
            + size_of_val(&*land.walkable)
            + land.naturals.bytes()
    }
}

impl Land {
    /// Land that is all deep water.
    fn at_sea(name: String, stability: Stability, size: (u16, u16)) -> Land {
        let tiles = usize::from(size.0) * usize::from(size.1);
        Land {
            name,
            stability,
            size,
            kinds: Box::default(),
            ground: vec![0; tiles].into(),
            walkable: vec![0; tiles.div_ceil(u64::BITS as usize)].into(),
            naturals: Naturals::default(),
            natural_names: BTreeMap::new(),
            habitats: Vec::new(),
            spawns: Vec::new(),
            harbours: Vec::new(),
        }
    }

    fn kind_at(&self, tile: Tile) -> Option<&Kind> {
        self.kinds.get(usize::from(*self.ground.get(self.index(tile)?)?))
    }

    fn is_walkable(&self, tile: Tile) -> bool {
        let Some(index) = self.index(tile) else { return false };
        self.walkable[index / u64::BITS as usize] >> (index % u64::BITS as usize) & 1 != 0
    }

    fn set_ground(&mut self, tile: Tile, kind: u8, walkable: bool) {
        let Some(index) = self.index(tile) else { return };
        self.ground[index] = kind;
        let (word, bit) = (index / u64::BITS as usize, index % u64::BITS as usize);
        self.walkable[word] = (self.walkable[word] & !(1 << bit)) | (u64::from(walkable) << bit);
    }

    fn index(&self, tile: Tile) -> Option<usize> {
        tile.is_within(self.size).then(|| usize::from(tile.y) * usize::from(self.size.0) + usize::from(tile.x))
    }
}

impl Ground for Terrain {
    fn size(&self) -> (u16, u16) {
        self.land.size
    }

    fn walkable(&self, tile: Tile) -> bool {
        self.land.is_walkable(tile)
    }
}

/// Opens all islands of a folder: its maps, and the one map in each folder within it that holds any. In the order of their
/// numbers, which MUST differ. Hidden files and folders are left out.
pub fn open_folder(folder: impl AsRef<Path>) -> Result<Vec<Terrain>, TerrainError> {
    let mut shelf = Shelf::default();
    let mut islands: BTreeMap<IslandId, (PathBuf, Terrain)> = BTreeMap::new();
    for path in maps(folder.as_ref())? {
        let terrain = open(&path, &mut shelf)?;
        let island = terrain.id();
        if let Some((other, _)) = islands.get(&island) {
            return Err(TerrainError::new(&path, Reason::DuplicateIsland { island, other: other.clone() }));
        }
        islands.insert(island, (path, terrain));
    }
    Ok(islands.into_values().map(|(_, terrain)| terrain).collect())
}

fn open(path: &Path, shelf: &mut Shelf) -> Result<Terrain, TerrainError> {
    let draft = read::map(path)?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    survey::terrain(path, name, draft, shelf)
}

/// The maps of a folder and of the folders in it, by name.
fn maps(folder: &Path) -> Result<Vec<PathBuf>, TerrainError> {
    let mut maps = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            maps.extend(read::is_map(&path).then_some(path));
            continue;
        }
        let mut inner = entries(&path)?;
        inner.retain(|path| read::is_map(path));
        if inner.len() > 1 {
            return Err(TerrainError::new(&path, Reason::MapsInFolder { maps: inner.len() }));
        }
        maps.append(&mut inner);
    }
    Ok(maps)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, TerrainError> {
    let refused = |e| TerrainError::new(folder, Reason::Unreadable(e));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Spreads bits evenly: the finisher of SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(bits: u64) -> u64 {
    let mut z = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
