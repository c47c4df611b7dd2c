//! Why a terrain package is refused: the file, the layer where one is to blame, and the reason, in words for designers.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::geometry::{IslandId, MAX_ISLAND_TILES, Tile};

/// A refused terrain package. Its text names the file, the layer (where one is to blame) and the reason.
#[derive(Debug)]
pub struct TerrainError {
    /// The file at fault: the map, or the tileset or folder that it needs.
    pub file: PathBuf,
    /// The layer at fault, with its groups in front (`shore/naturals`), if it is a layer's fault.
    pub layer: Option<String>,
    /// What is wrong with it.
    pub reason: Reason,
}

impl TerrainError {
    pub(super) fn new(file: &Path, reason: Reason) -> TerrainError {
        TerrainError { file: file.to_owned(), layer: None, reason }
    }

    pub(super) fn in_layer(file: &Path, layer: &str, reason: Reason) -> TerrainError {
        TerrainError { file: file.to_owned(), layer: Some(layer.to_owned()), reason }
    }
}

impl fmt::Display for TerrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(layer) = &self.layer {
            write!(f, "layer {layer:?}: ")?;
        }
        self.reason.fmt(f)
    }
}

impl std::error::Error for TerrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.reason)
    }
}

/// What makes a terrain package unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file or folder could not be read.
    #[error("cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// The file is larger than any terrain package has reason to be.
    #[error("is larger than the {limit} bytes that are allowed")]
    FileTooLarge {
        /// The most bytes a file may have.
        limit: u64,
    },
    /// It is not well-formed, or not what it claims to be.
    #[error("is not a Tiled map or tileset: {0}")]
    Format(String),
    /// Only square tiles seen from above make an island.
    #[error("is {0:?}, and only orthogonal maps make an island")]
    Orientation(String),
    /// The map is empty, or larger than an island may be.
    #[error("is {width}×{height} tiles; an island has 1 to {MAX_ISLAND_TILES} along each side")]
    Size {
        /// Tiles along x.
        width: u64,
        /// Tiles along y.
        height: u64,
    },
    /// A property of the map is missing or wrong.
    #[error("map property {name:?} {problem}")]
    Property {
        /// The property.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A tileset cannot be used.
    #[error("tileset {tileset:?} {problem}")]
    Tileset {
        /// Its name or source.
        tileset: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The map has more layers than are read.
    #[error("has more than {limit} layers")]
    TooManyLayers {
        /// The most layers a map may have.
        limit: usize,
    },
    /// The layer's class (or its name, where it has no class) says nothing that is understood.
    #[error("is a tile layer of unknown use; its class or name must be ground, naturals or decor")]
    UnknownUse,
    /// Two layers have this name, or do the same work.
    #[error("stands twice in the map")]
    DuplicateLayer,
    /// No layer says where the ground is.
    #[error("has no layer of class or name \"ground\"")]
    NoGround,
    /// The layer is not of the map's size.
    #[error("is {width}×{height} tiles on a map of {map_width}×{map_height}")]
    LayerSize {
        /// The layer's tiles along x.
        width: u32,
        /// The layer's tiles along y.
        height: u32,
        /// The map's tiles along x.
        map_width: u32,
        /// The map's tiles along y.
        map_height: u32,
    },
    /// The layer is drawn somewhere else than its tiles are.
    #[error("is drawn with an offset; move its contents instead")]
    Offset,
    /// A chunk of an infinite map is malformed.
    #[error("chunk at {x},{y} {problem}")]
    Chunk {
        /// Its left edge, in tiles.
        x: i32,
        /// Its upper edge, in tiles.
        y: i32,
        /// What is wrong with it.
        problem: String,
    },
    /// The layer's data is encoded in a way that is not read.
    #[error(
        "encoding {encoding:?} with compression {compression:?} is not read; save as CSV, Base64, zlib, gzip or zstd"
    )]
    Encoding {
        /// The declared encoding; empty where there is none.
        encoding: String,
        /// The declared compression; empty where there is none.
        compression: String,
    },
    /// The layer's data is broken.
    #[error("data is broken: {0}")]
    Data(String),
    /// The layer's data has too little or too much for its size.
    #[error("data has {} tiles than the {expected} that its size asks for", if *.more { "more" } else { "fewer" })]
    DataLength {
        /// Tiles by the declared size.
        expected: usize,
        /// Whether there are more.
        more: bool,
    },
    /// A tile number that belongs to no tileset.
    #[error("tile {tile} has the number {gid}, which no tileset of the map knows")]
    UnknownTile {
        /// Where.
        tile: Tile,
        /// The map-wide tile number, without its flags.
        gid: u32,
    },
    /// A tile that cannot stand in this layer.
    #[error("tile {tile} shows tile id {id} of tileset {tileset:?}, which {problem}")]
    WrongTile {
        /// Where.
        tile: Tile,
        /// The number within its tileset.
        id: u32,
        /// The tileset.
        tileset: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More kinds of ground than one byte can tell apart.
    #[error("has more than 255 kinds of ground")]
    TooManyKinds,
    /// An object that cannot be used.
    #[error("object {object} {problem}")]
    Object {
        /// Its id, class and name.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody could enter the island.
    #[error("has no object of class \"spawn\"")]
    NoSpawn,
    /// Two packages in a folder claim the same number.
    #[error("has the island number {island} of {}", .other.display())]
    DuplicateIsland {
        /// The number.
        island: IslandId,
        /// The package that has it too.
        other: PathBuf,
    },
    /// A folder within the folder of islands holds several maps.
    #[error("holds {maps} maps (.tmx or .tmj); the folder of an island holds one")]
    MapsInFolder {
        /// How many.
        maps: usize,
    },
}
