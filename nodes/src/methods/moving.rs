//! The calls by which players move between frontends, and by which what was last seen of something is found.
//!
//! A frontend that lets a player go (it drains, it is overloaded) has another expect it, releases the player's document, and
//! has the other one take it; only then is the client redirected. Whatever fails on the way leaves a released document, which
//! any frontend can claim by the client's resume token.

use cartographer::geometry::{Epoch, IslandId, ObjectId};
use cartographer::motion::Motion;
use mesh::Method;
use serde::{Deserialize, Serialize};

use crate::game::View;

/// Frontend → frontend: gets the view of a place ready for a player that is about to come: [`Expect`] → nothing, once the
/// cells there have been heard of, or after two seconds. Refused with `draining` or `full`.
pub const MOVING_EXPECT: Method = Method::sync("moving.expect", 3_000);

/// Frontend → frontend: takes a player that the caller has released: [`Moved`] → [`MovedTo`]. Asked again after a lost answer
/// it answers the same. Refused with `draining`, `full`, or `replaced` if the player has a newer session.
pub const MOVING_TAKE: Method = Method::sync("moving.take", 4_000);

/// Who is about to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Who.
    pub player: ObjectId,
    /// Where it is.
    pub island: IslandId,
    /// Where it is, in 1/256 tile.
    pub place: (i32, i32),
}

/// A player that was released by the caller, and what its document does not say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Who.
    pub player: ObjectId,
    /// Its session: it goes on.
    pub session: uuid::Uuid,
    /// The epoch under which the caller held it.
    pub epoch: Epoch,
    /// Where it was going, in 1/256 tile, and how fast, in 1/256 tile a second; none if it stood.
    pub walks: Option<((i32, i32), i32)>,
    /// The battle in which it is; 0 if it is in none.
    pub battle: u64,
    /// When it was where its document says, on the caller's clock.
    #[serde(default)]
    pub at_ms: u64,
    /// Its open trades, by their numbers on the wire; at most [`TRADES`] are looked at.
    #[serde(default)]
    pub trades: Vec<u64>,
    /// Whether a client of its is about to be sent after it.
    #[serde(default)]
    pub followed: bool,
}

/// Open trades that come over with a player, at most.
pub const TRADES: usize = 64;

/// Where a player is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedTo {
    /// Where its client connects.
    pub url: String,
    /// And with what, as a resume.
    pub token: String,
}

/// Asks a node what it sees of objects, dead or alive their owners: `[object…]`, at most [`GHOSTS`] → `[Seen…]`, of those it
/// knows anything of.
pub const CELLS_GHOSTS: Method = Method::query("cells.ghosts", 500);

/// Objects that are asked for at once, at most.
pub const GHOSTS: usize = 256;

/// What is seen of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub object: ObjectId,
    /// The epoch of its owner.
    pub epoch: Epoch,
    /// The version that is seen: of one epoch a higher one is fresher.
    pub version: u64,
    /// Who published it.
    pub publisher: u64,
    /// Where.
    pub island: IslandId,
    /// Where it is now and where it goes: `from` is its place when this was answered, `since` 0, and `duration_ms` what was
    /// left of the walk then.
    pub motion: Motion,
    /// How it looks.
    pub view: View,
}
