//! What minds know of the species: the content's table by small numbers, and who hunts and who fears whom.
//!
//! Made once when a node starts. The number of a species is its place in the order of names, so that every node with the
//! same content has the same numbers; they NEVER leave the node.

use cartographer::geometry::UNITS_PER_TILE;

use crate::game::content::{Content, Species, Tuning};

/// What an animal may notice: a species by its number, or one of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct What(pub u16);

impl What {
    /// A player.
    pub const PLAYER: What = What(u16::MAX);
    /// A facility.
    pub const FACILITY: What = What(u16::MAX - 1);
    /// An animal of a species that this node's content does not know.
    pub const STRANGE: What = What(u16::MAX - 2);
}

/// One species, as minds need it.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its name in the content.
    pub name: String,
    /// What the content says.
    pub species: Species,
    /// How far it notices others, in units.
    pub sight: i32,
    /// Fear, herd and curiosity, 0 to 1.
    pub fear: f32,
    /// How closely it keeps to its herd.
    pub herd: f32,
    /// How curious it is.
    pub curiosity: f32,
    /// Whether it eats animals.
    pub eats_meat: bool,
    /// Whether others have to fear it: it hunts some species.
    pub is_threat: bool,
    hunts: Box<[bool]>,
    hunts_players: bool,
}

impl Kind {
    /// Whether it hunts these.
    pub fn hunts(&self, what: What) -> bool {
        match what {
            What::PLAYER => self.hunts_players,
            What(number) => self.hunts.get(usize::from(number)).copied().unwrap_or(false),
        }
    }
}

/// The species of the content.
#[derive(Clone, Debug)]
pub struct Lore {
    kinds: Vec<Kind>,
    /// The farthest sight of all, in units.
    pub farthest: i32,
    /// Numbers of the rules.
    pub tuning: Tuning,
}

impl Lore {
    /// What the content says, by numbers.
    pub fn new(content: &Content) -> Lore {
        let names: Vec<&String> = content.species.keys().collect();
        let share = |percent: u8| f32::from(percent.min(100)) / 100.0;
        let kinds = content.species.iter().map(|(name, species)| {
            let hunts: Box<[bool]> = names.iter().map(|name| species.hunts.contains(name)).collect();
            let eats_meat = hunts.contains(&true);
            Kind {
                name: name.clone(),
                species: species.clone(),
                sight: i32::from(species.sight_tiles) * UNITS_PER_TILE,
                fear: share(species.fear),
                herd: share(species.herd),
                curiosity: share(species.curiosity),
                eats_meat,
                is_threat: eats_meat,
                hunts,
                hunts_players: species.hunts.iter().any(|name| name == "player"),
            }
        });
        let kinds: Vec<Kind> = kinds.collect();
        let farthest = kinds.iter().map(|kind| kind.sight).max().unwrap_or(0);
        Lore { kinds, farthest, tuning: content.tuning.clone() }
    }

    /// A species by its name.
    pub fn number(&self, name: &str) -> Option<What> {
        let found = self.kinds.binary_search_by(|kind| kind.name.as_str().cmp(name)).ok()?;
        u16::try_from(found).ok().map(What)
    }

    /// A species by its number; `None` for what is no species of the content.
    pub fn kind(&self, what: What) -> Option<&Kind> {
        self.kinds.get(usize::from(what.0))
    }

    /// How much `who` fears `whom`, 0 to 1: players, and those that hunt it. Nobody fears what it hunts itself as much.
    pub fn fears(&self, who: &Kind, own: What, whom: What) -> f32 {
        let feared = whom == What::PLAYER || self.kind(whom).is_some_and(|kind| kind.hunts(own));
        match (feared, who.hunts(whom)) {
            (false, _) => 0.0,
            (true, false) => who.fear,
            (true, true) => who.fear * 0.5,
        }
    }

    /// Whether somebody may fear these.
    pub fn is_threat(&self, what: What) -> bool {
        what == What::PLAYER || self.kind(what).is_some_and(|kind| kind.is_threat)
    }
}
