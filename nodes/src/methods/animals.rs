//! The calls between zoos: hunters of one and prey of another.

use cartographer::geometry::ObjectId;
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
