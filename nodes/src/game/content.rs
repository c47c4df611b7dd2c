//! The game's content: items, natural objects, facilities, recipes, species and tunings, read from data files.
//!
//! The files that come with the program are built in; another folder of the same six files may take their place. Content
//! is checked as a whole when it is read: what refers to nothing, cannot be made or makes no sense is an error that names
//! file, line and field, and all of them are told at once. It NEVER changes while a node runs.

mod read;

mod check;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

/// Everything that the data files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// What can be carried.
    pub items: BTreeMap<String, Item>,
    /// What natural objects yield.
    pub naturals: BTreeMap<String, Natural>,
    /// What can be built.
    pub facilities: BTreeMap<String, Facility>,
    /// What can be crafted.
    pub recipes: BTreeMap<String, Recipe>,
    /// The animals.
    pub species: BTreeMap<String, Species>,
    /// Numbers of the rules.
    pub tuning: Tuning,
}

/// Something that can be carried.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Item {
    /// Health that eating it gives back, in percent; 0: one cannot eat it.
    pub food: u8,
    /// The tool that it is, such as `axe`; a tool is a unique.
    pub tool: Option<String>,
    /// What it adds to a blow, in percent of health.
    pub harm: u8,
}

/// A natural object, by the name that the tileset gives it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Natural {
    /// The item that each stroke yields.
    pub yields: String,
    /// How many of it.
    pub count: u64,
    /// Strokes until it is used up.
    pub strokes: u32,
    /// The tool without which nothing comes of it.
    #[serde(default)]
    pub tool: Option<String>,
    /// How long one stroke takes to grow again, in seconds.
    pub regrow_s: u64,
}

/// Something that can be built.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facility {
    /// Width and height in tiles, 1 to 16 each.
    pub size: (u8, u8),
    /// What it takes.
    pub takes: BTreeMap<String, u64>,
    /// Slots of goods that it holds; it is a box then.
    #[serde(default)]
    pub slots: u32,
    /// Whether it opens and shuts.
    #[serde(default)]
    pub door: bool,
    /// The item that it burns, and for how many seconds one burns; it is a hearth then.
    #[serde(default)]
    pub burns: Option<(String, u64)>,
    /// Whether it stands in the way of animals (a door only while it is shut).
    #[serde(default)]
    pub solid: bool,
    /// Whether it may be built only on one's own land.
    #[serde(default)]
    pub own_land: bool,
}

/// How something is crafted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The item.
    pub makes: String,
    /// How many of it.
    #[serde(default = "one")]
    pub count: u64,
    /// What it takes.
    pub takes: BTreeMap<String, u64>,
    /// The facility beside which one must stand; a hearth must be lit.
    #[serde(default)]
    pub at: Option<String>,
    /// What one learns by it.
    #[serde(default)]
    pub experience: u64,
}

fn one() -> u64 {
    1
}

/// A species of animals. Speeds are in 1/256 tile per second, distances in tiles.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Species {
    /// How it walks when nothing hurries it.
    pub walk_speed: i32,
    /// How it runs.
    pub run_speed: i32,
    /// How far it notices others.
    pub sight_tiles: u16,
    /// What it hunts: species, or `player`.
    #[serde(default)]
    pub hunts: Vec<String>,
    /// How much it fears those who hunt it and players, 0 to 100.
    pub fear: u8,
    /// How closely it keeps to its herd, 0 to 100.
    pub herd: u8,
    /// How curious it is, 0 to 100.
    pub curiosity: u8,
    /// Its strength: how many percent of a player's health its whole health is worth.
    pub toughness: u16,
    /// What its blow takes, in percent of a player's health.
    pub harm: u8,
    /// What its defeat yields.
    pub loot: BTreeMap<String, u64>,
    /// What its defeat teaches.
    pub experience: u64,
    /// How long after its death another takes its place, in seconds.
    pub respawn_s: u64,
}

/// Numbers of the rules.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// How far a player reaches, in tiles.
    pub reach_tiles: u16,
    /// How far voices carry, in tiles.
    pub voice_tiles: u16,
    /// Between two strokes of one player, in milliseconds.
    pub stroke_ms: u64,
    /// Between two blows of one fighter, in milliseconds.
    pub blow_ms: u64,
    /// What a player's bare blow takes of an animal of toughness 100, in percent.
    pub blow_harm: u8,
    /// How fast health comes back outside battles, in percent per minute.
    pub heal_per_minute: u8,
    /// Members of a party, at most.
    pub party_most: u8,
    /// Chunks of one holding, at most.
    pub holding_most: u8,
    /// Things that one can say in a minute.
    pub chats_per_minute: u32,
    /// For how long a claim is paid, in seconds.
    pub claim_s: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            reach_tiles: 3,
            voice_tiles: 24,
            stroke_ms: 500,
            blow_ms: 800,
            blow_harm: 12,
            heal_per_minute: 20,
            party_most: 8,
            holding_most: 9,
            chats_per_minute: 20,
            claim_s: 30 * 24 * 60 * 60,
        }
    }
}

/// Why content cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A file cannot be read.
    #[error("could not read {file}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Files say what makes no sense: everything that was found, by file and line.
    #[error("{}", lines(.0))]
    Wrong(Vec<Wrong>),
}

/// Something in a file that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// Which file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The field, such as `axe.takes.wood`.
    pub field: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { file, line, field, problem } = self;
        if field.is_empty() {
            write!(f, "{file}:{line}: {problem}")
        } else {
            write!(f, "{file}:{line}: {field}: {problem}")
        }
    }
}

fn lines(all: &[Wrong]) -> String {
    all.iter().map(Wrong::to_string).collect::<Vec<_>>().join("\n")
}

const FILES: [(&str, &str); 6] = [
    ("items.toml", include_str!("content/items.toml")),
    ("naturals.toml", include_str!("content/naturals.toml")),
    ("facilities.toml", include_str!("content/facilities.toml")),
    ("recipes.toml", include_str!("content/recipes.toml")),
    ("species.toml", include_str!("content/species.toml")),
    ("tuning.toml", include_str!("content/tuning.toml")),
];

impl Content {
    /// The content that comes with the program.
    ///
    /// # Panics
    /// If it is wrong: a test reads it.
    #[expect(clippy::expect_used, reason = "it is part of the program, and tested")]
    pub fn bundled() -> Arc<Content> {
        let texts = FILES.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Arc::new(Content::read(&texts).expect("the bundled content"))
    }

    /// Reads the six files of a folder.
    pub fn open(folder: &Path) -> Result<Arc<Content>, ContentError> {
        let mut texts = FILES.map(|(name, _)| (folder.join(name).display().to_string(), String::new()));
        for (file, text) in &mut texts {
            let found = std::fs::read_to_string(&*file);
            *text = found.map_err(|source| ContentError::Read { file: file.clone(), source })?;
        }
        Ok(Arc::new(Content::read(&texts)?))
    }

    /// Reads the six texts, each with the file's name for errors, in the order of [`FILES`].
    fn read(texts: &[(String, String); 6]) -> Result<Content, ContentError> {
        let (content, sources) = read::all(texts).map_err(ContentError::Wrong)?;
        let wrong = check::all(&content, &sources);
        if wrong.is_empty() { Ok(content) } else { Err(ContentError::Wrong(wrong)) }
    }
}
