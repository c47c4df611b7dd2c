//! The client protocol: every message between a client and its frontend, field by field, in MessagePack arrays.
//!
//! Both directions are here as closed enums, used by the frontend, the client library and the bots alike, so that the
//! two ends cannot drift apart; `clients/PROTOCOL.md` describes the same for other languages, and
//! `clients/vectors.json` pins the bytes. Encoding always takes the shortest MessagePack form. Decoding takes any form,
//! allocates no more than the message's own length warrants, and NEVER panics whatever the bytes are. What a client
//! sends must have exactly the fields named; what a server sends may have more at the end, which are skipped, so that
//! old clients live with newer servers. This module NEVER touches a socket and knows no world.

pub mod wire;

pub mod motion;

pub mod frames;

pub mod acts;
pub mod requests;

pub mod replies;

pub use acts::{Act, Wares};
pub use frames::{Content, Entry, Frame, FrameHead, Shown, View};
pub use motion::Motion;
pub use replies::{Clock, Outcome, ServerMessage, Side, TradeState, Welcome};
pub use requests::{ClientMessage, Command, HelloKind};
pub use wire::Malformed;

/// The version that `hello` names.
pub const PROTOCOL: u32 = 1;

/// A cell of the island that the message is about: column and row, in cells of 32×32 tiles.
pub type CellXy = (u16, u16);

/// Units in one tile: positions are in 1/256 tile.
pub const UNITS_PER_TILE: i32 = 256;
/// The side of a cell, in tiles.
pub const TILES_PER_CELL: i32 = 32;
/// The side of a cell, in units.
pub const UNITS_PER_CELL: i32 = UNITS_PER_TILE * TILES_PER_CELL;

/// The longest message that a client may send, in bytes; a frontend MUST refuse longer ones unread.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 4096;
/// The longest message that a client should be ready for, in bytes.
pub const MAX_SERVER_MESSAGE_BYTES: usize = 4 << 20;
/// The longest ticket or resume token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;
/// The longest name of a command, in bytes.
pub const MAX_OP_BYTES: usize = 32;
/// The most cells whose keyframes one message may ask for.
pub const MAX_ASK_CELLS: usize = 256;
/// The longest text field in what a server sends (names, addresses, explanations), in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;

/// The codes of refusals and farewells, as they go over the wire.
pub mod codes {
    /// A walk's claimed start is too far from where the player truly is.
    pub const OUT_OF_PLACE: &str = "out_of_place";
    /// The first step of a walk is already on ground that nobody can walk on.
    pub const BLOCKED: &str = "blocked";
    /// A walk asks for more than `max_speed`.
    pub const TOO_FAST: &str = "too_fast";
    /// More commands than the frontend allows in a second.
    pub const FLOOD: &str = "flood";
    /// A command whose name this frontend does not know.
    pub const UNKNOWN_OP: &str = "unknown_op";
    /// Bytes that are not a message of this protocol.
    pub const MALFORMED: &str = "malformed";
    /// The `protocol` of `hello` is not one that this frontend speaks.
    pub const PROTOCOL: &str = "protocol";
    /// No `hello` within the time for it.
    pub const HELLO_LATE: &str = "hello_late";
    /// Another connection took over this player.
    pub const REPLACED: &str = "replaced";
    /// The frontend is shutting down.
    pub const DRAINING: &str = "draining";
    /// The client cannot keep up with what it sees.
    pub const SLOW: &str = "slow";
    /// The ticket's time is over.
    pub const TICKET_EXPIRED: &str = "ticket_expired";
    /// The ticket was used before.
    pub const TICKET_USED: &str = "ticket_used";
    /// The ticket is not one that this frontend made.
    pub const TICKET_FORGED: &str = "ticket_forged";
    /// The session of this token is over.
    pub const SESSION_ENDED: &str = "session_ended";
    /// No place is left on this frontend.
    pub const FULL: &str = "full";
    /// The frontend cannot do this at the moment: its lease or its store is away. Try again.
    pub const UNAVAILABLE: &str = "unavailable";
    /// It is too far away.
    pub const TOO_FAR: &str = "too_far";
    /// There is no such thing (any more).
    pub const MISSING: &str = "missing";
    /// The content knows no such item, recipe or facility, or it cannot be used so.
    pub const UNKNOWN_NAME: &str = "unknown_name";
    /// Not while in a battle, or not outside of one.
    pub const IN_BATTLE: &str = "in_battle";
    /// Only in a battle.
    pub const NO_BATTLE: &str = "no_battle";
    /// The player has been defeated, or is too weak for it.
    pub const DEFEATED: &str = "defeated";
    /// It has been too short a time since the last one.
    pub const TOO_SOON: &str = "too_soon";
    /// One is not allowed to.
    pub const FORBIDDEN: &str = "forbidden";
    /// Too many of one's acts are under way, or others hold what it needs: try again.
    pub const BUSY: &str = "busy";
    /// The operation's number is too old or not of this life: see `first_operation`.
    pub const STALE: &str = "stale";
    /// It may or may not have happened: ask again under the same number.
    pub const UNKNOWN: &str = "unknown";
    /// A tool or facility that it needs is not at hand.
    pub const NEEDS: &str = "needs";
    /// One is in a party already, or in none, or it is full.
    pub const PARTY: &str = "party";
    /// Another node has become the player's owner.
    pub const FENCED: &str = "fenced";
}

#[cfg(test)]
mod vectors;
