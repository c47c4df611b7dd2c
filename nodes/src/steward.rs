//! The steward: a duty of whichever node wins the directory's election. It keeps islands in step with the players.

use std::time::Duration;

/// How a steward looks after its district's islands.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldRules {
    /// How long an unstable island lives, from its making until it sinks.
    pub life: Duration,
    /// How long before its end everybody is warned.
    pub warning: Duration,
    /// How long a sinking island waits, at most, for the last to leave it.
    pub patience: Duration,
    /// Players that an unstable island is meant for.
    pub players_per_island: u32,
    /// Animals per player of the district that unstable islands may hold together, at most; what the islands of
    /// [`WorldRules::islands_least`] hold is always allowed.
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
            players_per_island: 40,
            animals_per_player: 20,
            islands_least: 1,
            islands_most: 800,
        }
    }
}
