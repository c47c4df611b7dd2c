//! The calls between zoos: hunters of one and prey of another, and habitats that one gives up and another is to wake.

use cartographer::geometry::{IslandId, ObjectId};
use mesh::Method;
use serde::{Deserialize, Serialize};

/// A hunter of one zoo strikes prey of another, zoo → zoo: [`Struck`] → whether the prey is dead (bool). Refused with
/// `missing` if it is not there, with `in_battle` if it cannot be struck. Never repeated: a blow that may have been lost is
/// lost, the next one comes in a second.
pub const ANIMAL_STRUCK: Method = Method::commit("animal.struck", 2_000);

/// A blow among animals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// Who strikes.
    pub hunter: ObjectId,
    /// Whom.
    pub prey: ObjectId,
    /// What the blow takes, in percent of a player's health.
    pub harm: u8,
}

/// Zoo → zoo: wakes a habitat that the caller has just given up: [`Wake`] → nothing, once its animals are there. Asked again
/// after a lost answer it answers the same. Refused with `draining`, `full`, `missing` (there is no such habitat), or `busy` if
/// another has it. NEVER decides who owns it: a claim does.
pub const ANIMAL_WAKE: Method = Method::sync("animal.wake", 4_000);

/// Which habitat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Its island.
    pub island: IslandId,
    /// Its index on the island.
    pub index: u16,
    /// The epoch under which the caller held it.
    pub epoch: u64,
}
