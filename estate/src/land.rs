//! Land: what stands on each tile, and whose the ground is.
//!
//! Three kinds of documents. A *deed* ([`deed`]) says what stands on each tile of one chunk; where there is none, the
//! terrain package is the deed ([`Grounds`]). An *object*'s document ([`object`]) says what it is and where it stands. A
//! *holding* ([`holding`]) is a private estate and the truth about whose land a chunk is; deeds only point to it, and a
//! pointer to a holding that does not list the chunk is free land. [`works`] builds, demolishes and moves; [`nature`] is
//! what becomes of natural objects that are touched; [`claims`] takes land, pays for it and gives it up; [`ending`] ends a
//! whole island.
//!
//! It promises: at most one thing stands on a tile, and it knows the tiles on which it stands; a chunk belongs to one
//! holding at most, and the deed of every chunk that a holding lists points to it. Every operation here may be asked for
//! again under its id, and happens once with the same answer. What is not possible is refused by a code of [`codes`], and
//! then nothing was changed. It NEVER reads a clock (`now_s` comes in), keeps an index or asks a query: everything is
//! found by key, and by a scan of keys where an island ends.

use std::sync::Arc;

use cartographer::geometry::ObjectId;

use crate::transaction::{Kinds, Refusal};

pub mod footprint;
pub mod grounds;

pub mod deed;
pub mod holding;
pub mod object;

pub mod ledger;

pub mod claims;
pub mod nature;
pub mod works;

pub mod ending;

mod survey;

#[cfg(any(test, feature = "conformance"))]
pub mod checks;

pub use deed::{DeedDocument, DeedKind, Stand};
pub use footprint::{Footprint, Rotation};
pub use grounds::Grounds;
pub use holding::{HoldingDocument, HoldingKind};
pub use object::{ObjectDocument, ObjectKind};

/// How long a holding stays safe after the time it was paid for, in seconds: three days.
pub const GRACE_S: u64 = 3 * 24 * 60 * 60;

/// The most chunks of one holding.
pub const HOLDING_CHUNKS: usize = 64;

/// How often an operation reads again because the land has changed between its reading and its marking.
const SURVEYS: u32 = 16;

/// The words by which programs tell refusals apart.
pub mod codes {
    /// A part of it lies outside the island, or there is no such island.
    pub const OUTSIDE: &str = "outside";
    /// A part of it lies on ground that nothing can stand on.
    pub const WATER: &str = "water";
    /// Something stands there.
    pub const OCCUPIED: &str = "occupied";
    /// It is somebody else's.
    pub const OWNED: &str = "owned";
    /// It is larger than a chunk, or a holding has as many chunks as it may.
    pub const TOO_LARGE: &str = "too_large";
    /// There is no such thing (any more).
    pub const MISSING: &str = "missing";
    /// The id has been used for another.
    pub const TAKEN: &str = "taken";
    /// A chunk touches no side of the holding.
    pub const NOT_ADJACENT: &str = "not_adjacent";
    /// The holding is not paid for.
    pub const UNPAID: &str = "unpaid";
    /// It lies elsewhere or is another than was thought. Operations read again by themselves before they answer this.
    pub const CHANGED: &str = "changed";
    /// The question itself makes no sense.
    pub const MALFORMED: &str = "malformed";
    /// Documents disagree: somebody changed one by hand. `wildmesh estate audit` tells more.
    pub const DISAGREES: &str = "disagrees";
}

/// Who wants to change the land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A player, who may build on free land and on its own; and take down or move what stands on its own land, and what it
    /// built on free land.
    Player(ObjectId),
    /// The game itself (decay, an island's end): it is never refused for whose the land is.
    World,
}

/// `kinds` with deeds, objects and holdings.
#[must_use]
pub fn kinds(kinds: Kinds, grounds: Arc<dyn Grounds>) -> Kinds {
    kinds.with(DeedKind::new(grounds)).with(ObjectKind).with(HoldingKind)
}

/// Checks the number of a player, an object or a holding, which comes from outside.
fn check_id(what: &str, id: ObjectId) -> Result<(), Refusal> {
    if (1..=ObjectId::MAX.0).contains(&id.0) {
        return Ok(());
    }
    Err(Refusal::new(codes::MALFORMED, format!("{id} is no number of {what}: they go from 1 to {}", ObjectId::MAX)))
}

/// The number after the slash of a key such as `object/7`, in the one form in which it may be written.
fn number_in(key: &str, kind: &str) -> Result<ObjectId, Refusal> {
    let number = key.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
    let id = number.and_then(|text| text.parse().ok().filter(|id: &u64| id.to_string() == text)).map(ObjectId);
    let id = id.ok_or_else(|| Refusal::new(codes::MALFORMED, format!("{key:?} is not the key of a {kind}")))?;
    check_id(kind, id).map(|()| id)
}

#[cfg(test)]
mod tests;
