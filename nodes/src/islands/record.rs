//! The record of an island in the directory: what it is, where it belongs, and how it stands with it.
//!
//! Records are written by the stewards and read by everybody. What cannot be read is skipped, NEVER a panic.

use cartographer::geometry::{IslandId, Place};
use cartographer::ground::Ground;
use cartographer::terrain::{Stability, Terrain};
use mesh::directory::Entry;
use mesh::registry::District;
use serde::{Deserialize, Serialize};

/// Numbers of islands are below this: they are part of objects' numbers.
pub const ISLAND_LIMIT: u32 = 1 << 26;

/// One island.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IslandRecord {
    /// Its number.
    pub id: IslandId,
    /// Its name for people.
    pub title: String,
    /// The name of the terrain package that it is made from.
    pub template: String,
    /// The district whose nodes serve it.
    pub district: String,
    /// Whether it lasts.
    pub kind: IslandKind,
    /// How it stands with it.
    pub state: IslandState,
    /// When it was made, in seconds since 1970.
    pub born_s: u64,
    /// When it sinks, in seconds since 1970; 0 for one that lasts.
    #[serde(default)]
    pub ends_s: u64,
    /// Its width and height in tiles.
    #[serde(default)]
    pub size: (u16, u16),
    /// Where ships land: for nodes that have not its package.
    #[serde(default)]
    pub harbours: Vec<Landing>,
}

/// A harbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// Its name, for people.
    pub name: String,
    /// Where, in 1/256 tile.
    pub x: i32,
    /// Where, in 1/256 tile.
    pub y: i32,
}

impl Landing {
    /// The place.
    pub fn place(&self) -> Place {
        Place::new(self.x, self.y)
    }
}

/// Whether an island lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IslandKind {
    /// There for ever.
    Stable,
    /// Gone after its life.
    Unstable,
}

/// How it stands with an island.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IslandState {
    /// Everybody may come.
    Open,
    /// It sinks soon, at `ends_s`; one may still come.
    Warned,
    /// It sinks: nobody arrives any more, and whoever is there is brought home.
    Sinking,
}

impl IslandKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            IslandKind::Stable => "stable",
            IslandKind::Unstable => "unstable",
        }
    }
}

impl IslandState {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            IslandState::Open => "open",
            IslandState::Warned => "warned",
            IslandState::Sinking => "sinking",
        }
    }
}

impl IslandRecord {
    /// The record of an open island with this land, made now. `ends_s` is 0 for one that lasts.
    pub fn new(terrain: &Terrain, district: &str, born_s: u64, ends_s: u64) -> IslandRecord {
        let landing = |h: &cartographer::terrain::Harbour| Landing { name: h.name.clone(), x: h.place.x, y: h.place.y };
        IslandRecord {
            id: terrain.id(),
            title: terrain.title().to_owned(),
            template: terrain.name().to_owned(),
            district: district.to_owned(),
            kind: match terrain.stability() {
                Stability::Stable => IslandKind::Stable,
                Stability::Unstable => IslandKind::Unstable,
            },
            state: IslandState::Open,
            born_s,
            ends_s,
            size: terrain.size(),
            harbours: terrain.harbours().iter().map(landing).collect(),
        }
    }

    /// As it stands in the directory.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing plain values to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record; none, with a log, if it is none or does not belong where it stands.
    pub fn read(prefix: &str, entry: &Entry) -> Option<IslandRecord> {
        let place = entry.key.strip_prefix(prefix)?;
        let reason = match serde_json::from_slice::<IslandRecord>(&entry.value) {
            Ok(record) if record.id.0 == 0 || record.id.0 >= ISLAND_LIMIT => "its number is out of range".to_owned(),
            Ok(record) if place == record.id.to_string() => return Some(record),
            Ok(record) => format!("it names itself {}", record.id),
            Err(error) => error.to_string(),
        };
        tracing::warn!(key = entry.key, revision = entry.modified, reason, "skipped a bad record of an island");
        None
    }
}

/// What the keys of all islands of the district's cluster begin with.
pub fn prefix(district: &District) -> String {
    format!("{}islands/", district.cluster_prefix())
}

/// The key of one island.
pub fn key(district: &District, id: IslandId) -> String {
    format!("{}islands/{id}", district.cluster_prefix())
}
