//! The steward: a duty of whichever node wins the directory's election. It keeps islands in step with the players.
//!
//! What it does follows from what it sees by a pure function ([`planner`]); what should exist stands in a document
//! ([`book`]), and the records in the directory, which all nodes follow, are written after it. An election ([`crate::election`])
//! sees to it that as a rule one node does this for a district; that two of one moment do no harm, compare-and-swap does.
//! Islands that last are NEVER removed, and nobody's island sinks without a warning.

pub mod planner;

pub mod book;

pub mod births;
pub mod clearing;
pub mod pauses;

pub mod duty;
pub mod office;

pub mod day;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use duty::{Parts, serve};

/// Kinds of documents that stewards keep beside those of the estate.
pub const DOCUMENTS: &[&str] = &["islands"];

/// How a steward looks after its district's islands.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldRules {
    /// How long an unstable island lives, from its making until it sinks; each a fifth more or less.
    pub life: Duration,
    /// How long before its end everybody is warned.
    pub warning: Duration,
    /// How long a sinking island waits, at most, for the last to leave it.
    pub patience: Duration,
    /// How far ahead growth is looked at: as long as it takes until a new island is of use.
    pub ahead: Duration,
    /// How long there must have been clearly too many islands before one is given up early.
    pub lull: Duration,
    /// How often the steward looks.
    pub every: Duration,
    /// Players that an unstable island is meant for.
    pub players_per_island: u32,
    /// The share of all players, in percent, for which unstable islands are kept ready even if fewer are there.
    pub share_percent: u32,
    /// Animals per player of the district that open unstable islands may hold together, at most. Those of
    /// [`WorldRules::islands_least`] islands are always allowed.
    pub animals_per_player: u32,
    /// Unstable islands that there are even with nobody in the world.
    pub islands_least: u32,
    /// Unstable islands of the district, at most.
    pub islands_most: u32,
}

impl Default for WorldRules {
    fn default() -> WorldRules {
        WorldRules {
            life: Duration::from_secs(2 * 3_600),
            warning: Duration::from_secs(300),
            patience: Duration::from_secs(60),
            ahead: Duration::from_secs(120),
            lull: Duration::from_secs(900),
            every: Duration::from_secs(5),
            players_per_island: 40,
            share_percent: 30,
            animals_per_player: 4,
            islands_least: 1,
            islands_most: 800,
        }
    }
}

impl WorldRules {
    /// The usual rules with another life of islands; what else takes time is in proportion, where it would not fit.
    pub fn with_life(life: Duration) -> WorldRules {
        let usual = WorldRules::default();
        let at_most = |usual: Duration, part: u32| usual.min(life / part);
        WorldRules {
            life,
            warning: at_most(usual.warning, 4),
            patience: at_most(usual.patience, 4).max(Duration::from_secs(5)),
            ahead: at_most(usual.ahead, 10),
            lull: at_most(usual.lull, 4),
            every: at_most(usual.every, 20).max(Duration::from_millis(200)),
            ..usual
        }
    }
}
