//! Small islands, drawn by the story that plays on them: a meadow in the sea, and what the story puts there.
//!
//! An island is written as a map of the Tiled editor, with the tileset of the bundled islands, and opened like any other:
//! what cannot be used is refused by the same reader.

use std::path::Path;
use std::sync::Arc;

use cartographer::terrain::Terrain;
use mesh::directory::Directory;
use mesh::registry::District;
use nodes::islands::record::{self, IslandRecord};
use serde_json::{Value, json};

/// The tileset of the bundled islands.
const TILESET: &str = include_str!("../../../islands/tileset.tsx");

/// Pixels along a tile's side.
const PIXELS: u32 = 16;

/// Tiles of sea around the meadow.
const SHORE: u16 = 2;

/// An island to be.
#[derive(Clone, Debug)]
pub struct Land {
    name: String,
    id: u32,
    kind: &'static str,
    size: (u16, u16),
    ground: Vec<u32>,
    naturals: Vec<u32>,
    objects: Vec<Value>,
}

impl Land {
    /// Grass of so many tiles, the outermost of which are sea, with a spawn point in the middle.
    pub fn meadow(id: u32, name: &str, width: u16, height: u16) -> Land {
        let tiles = usize::from(width) * usize::from(height);
        let mut land = Land {
            name: name.to_owned(),
            id,
            kind: "stable",
            size: (width, height),
            ground: vec![gid("grass"); tiles],
            naturals: vec![0; tiles],
            objects: Vec::new(),
        };
        for (x, y, width, height) in [
            (0, 0, width, SHORE),
            (0, height - SHORE, width, SHORE),
            (0, 0, SHORE, height),
            (width - SHORE, 0, SHORE, height),
        ] {
            land = land.ground("deep_water", x, y, width, height);
        }
        land.point("spawn", "the middle", (width / 2, height / 2), json!([]))
    }

    /// Makes it one that sinks.
    pub fn unstable(mut self) -> Land {
        self.kind = "unstable";
        self
    }

    /// Covers a rectangle with a kind of ground, such as `deep_water` or `cliff`.
    pub fn ground(mut self, kind: &str, x: u16, y: u16, width: u16, height: u16) -> Land {
        for tile in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))) {
            let index = self.index(tile);
            self.ground[index] = gid(kind);
        }
        self
    }

    /// Puts a natural object on a tile.
    pub fn natural(mut self, name: &str, x: u16, y: u16) -> Land {
        let index = self.index((x, y));
        self.naturals[index] = gid(name);
        self
    }

    /// Gives a rectangle to animals of a species.
    pub fn habitat(mut self, species: &str, animals: u16, x: u16, y: u16, width: u16, height: u16) -> Land {
        let pixels = |tiles: u16| u32::from(tiles) * PIXELS;
        let id = self.objects.len() + 1;
        self.objects.push(json!({
            "id": id, "name": format!("{species} {id}"), "type": "habitat", "visible": true, "rotation": 0,
            "x": pixels(x), "y": pixels(y), "width": pixels(width), "height": pixels(height),
            "properties": [
                { "name": "animals", "type": "int", "value": animals },
                { "name": "species", "type": "string", "value": species },
            ],
        }));
        self
    }

    /// Puts a harbour on a tile, which must be at most four tiles from water.
    pub fn harbour(self, x: u16, y: u16) -> Land {
        self.point("harbour", "the harbour", (x, y), json!([]))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Writes the map into a folder and opens it.
    ///
    /// # Panics
    /// If the story has drawn what is no island.
    pub fn open(&self, folder: &Path) -> Terrain {
        std::fs::write(folder.join("tileset.tsx"), TILESET).expect("the tileset is written");
        let path = folder.join(format!("{}.tmj", self.name));
        std::fs::write(&path, self.map().to_string()).expect("the map is written");
        Terrain::open(&path).unwrap_or_else(|e| panic!("{} is no island: {e}", self.name))
    }

    fn point(mut self, class: &str, name: &str, (x, y): (u16, u16), properties: Value) -> Land {
        let middle = |tile: u16| u32::from(tile) * PIXELS + PIXELS / 2;
        let id = self.objects.len() + 1;
        self.objects.push(json!({
            "id": id, "name": name, "type": class, "point": true, "visible": true, "rotation": 0,
            "x": middle(x), "y": middle(y), "width": 0, "height": 0, "properties": properties,
        }));
        self
    }

    fn index(&self, (x, y): (u16, u16)) -> usize {
        assert!(x < self.size.0 && y < self.size.1, "{} has no tile ({x}, {y})", self.name);
        usize::from(y) * usize::from(self.size.0) + usize::from(x)
    }

    fn map(&self) -> Value {
        let (width, height) = self.size;
        let layer = |id: u32, name: &str, data: &[u32]| {
            json!({
                "id": id, "name": name, "class": name, "type": "tilelayer", "x": 0, "y": 0, "width": width,
                "height": height, "opacity": 1, "visible": true, "data": data,
            })
        };
        json!({
            "type": "map", "version": "1.10", "tiledversion": "1.10.2", "orientation": "orthogonal",
            "renderorder": "right-down", "infinite": false, "compressionlevel": -1, "width": width, "height": height,
            "tilewidth": PIXELS, "tileheight": PIXELS, "nextlayerid": 4, "nextobjectid": self.objects.len() + 1,
            "properties": [
                { "name": "island", "type": "int", "value": self.id },
                { "name": "kind", "type": "string", "value": self.kind },
                { "name": "title", "type": "string", "value": self.name },
            ],
            "tilesets": [{ "firstgid": 1, "source": "tileset.tsx" }],
            "layers": [
                layer(1, "ground", &self.ground),
                layer(2, "naturals", &self.naturals),
                {
                    "id": 3, "name": "places", "type": "objectgroup", "draworder": "topdown", "x": 0, "y": 0,
                    "opacity": 1, "visible": true, "objects": self.objects,
                },
            ],
        })
    }
}

/// Writes records that say to which district these islands belong, as its steward does.
pub(super) async fn belong(directory: &dyn Directory, district: &District, islands: &[Arc<Terrain>]) {
    for island in islands {
        let record = IslandRecord::new(island, district.name(), 0, 0);
        let key = record::key(district, record.id);
        directory.put(&key, &record.to_bytes(), None).await.expect("the directory takes the record of an island");
    }
}

/// The map-wide number of the tile of this class.
fn gid(class: &str) -> u32 {
    let marked = format!(" type=\"{class}\"");
    let line = TILESET.lines().find(|line| line.contains("<tile id=") && line.contains(&marked));
    let line = line.unwrap_or_else(|| panic!("the tileset has no {class}"));
    let id = line.split('"').nth(1).and_then(|id| id.parse::<u32>().ok()).expect("a tile has a number");
    id + 1
}
