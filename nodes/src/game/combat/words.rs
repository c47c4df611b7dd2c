//! What happens to a battle, what comes of it, and why something cannot be.

use std::collections::BTreeMap;

use cartographer::geometry::ObjectId;
use mesh::NodeId;
use serde::{Deserialize, Serialize};

use crate::game::battle::Exchange;
use crate::methods::living::Fighter;
use crate::protocol::codes;

/// What the defeat of an animal gives to one who fought it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoil {
    /// The animal.
    pub animal: ObjectId,
    /// Who gets it.
    pub player: ObjectId,
    /// Who owns the player, to tell it.
    pub node: NodeId,
    /// What, by item.
    pub goods: BTreeMap<String, u64>,
    /// What the player learns.
    pub experience: u64,
}

/// What is owed for a battle, until [`Event::Settled`] says that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Debt {
    /// A spoil is to be paid.
    Spoil {
        /// Of which animal.
        animal: ObjectId,
        /// To whom.
        player: ObjectId,
    },
    /// A member is to be given back to its owner.
    Member(ObjectId),
}

/// What happens to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody comes, or has a new owner: whoever says so last speaks for it from then on.
    Join(Fighter, u64),
    /// Somebody is taken out.
    Leave(ObjectId),
    /// A fighter's command.
    Act {
        /// Who.
        actor: ObjectId,
        /// One of [`super::blow`].
        blow: u8,
        /// Whom.
        target: ObjectId,
        /// The command's number.
        cause: u64,
    },
    /// A tick: commands that waited are carried out, animals act, grace and patience end.
    Tick,
    /// The lives of nodes that are there; owners of all others are gone.
    Living(Vec<(NodeId, u64)>),
    /// A debt is settled.
    Settled(Debt),
}

/// What is to be done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An exchange took place; the view shows it.
    Exchange(Exchange),
    /// A member's health has changed: its owner is told.
    Told {
        /// The owner's node.
        node: NodeId,
        /// Who.
        object: ObjectId,
        /// Its health.
        health: u8,
    },
}

/// Why something cannot be done. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The last blow is too short a time ago.
    #[error("it has been too short a time since the last blow")]
    TooSoon,
    /// The actor or its target is not (any more) in this battle, or the battle is over.
    #[error("no such fighter stands in this battle")]
    Missing,
    /// No place is left.
    #[error("the battle is full")]
    Full,
    /// It has no health left to fight.
    #[error("it has been defeated")]
    Defeated,
    /// One does not strike one's own side, and there is no such blow.
    #[error("that cannot be struck, or not so")]
    Forbidden,
    /// It is being given back from this battle at this moment.
    #[error("it is just leaving this battle")]
    Busy,
    /// Its owner is gone, and nobody has taken it over yet.
    #[error("nobody looks after that fighter for the moment")]
    Away,
}

impl Refused {
    /// What clients are told.
    pub fn code(self) -> &'static str {
        match self {
            Refused::TooSoon => codes::TOO_SOON,
            Refused::Missing => codes::MISSING,
            Refused::Full => codes::FULL,
            Refused::Defeated => codes::DEFEATED,
            Refused::Forbidden => codes::FORBIDDEN,
            Refused::Busy | Refused::Away => codes::BUSY,
        }
    }
}
