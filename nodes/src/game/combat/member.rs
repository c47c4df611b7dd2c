//! One who fights: whose it is, how it is, and when it may act again.
//!
//! A value; the room changes it.

use cartographer::geometry::ObjectId;
use serde::{Deserialize, Serialize};

use crate::methods::living::{Fighter, Freed};

/// One who fights. Times are in milliseconds of the clock of whoever runs the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who; its health is the room's.
    pub fighter: Fighter,
    /// Which life of the owner's node has it.
    pub life: u64,
    /// When it will have all its stamina again.
    pub(super) rested_ms: u64,
    /// Until when it guards.
    pub(super) guard_ms: u64,
    /// From when on it may act again.
    pub(super) ready_ms: u64,
    /// Who struck it last.
    pub(super) struck_by: Option<ObjectId>,
    /// Who has struck it.
    pub(super) strikers: Vec<ObjectId>,
    /// Flights that failed.
    pub(super) tries: u8,
    /// Since when its owner is gone.
    pub(super) away_ms: Option<u64>,
    /// How the battle ended for it. From then on it only waits to be given back.
    pub(super) end: Option<Freed>,
    /// The number of the last command of its player that was accepted, so that one that is asked again happens once; 0
    /// before the first, and for animals.
    #[serde(default)]
    pub(super) cause: u64,
}

impl Member {
    pub(super) fn new(fighter: Fighter, life: u64, now: u64) -> Member {
        let fighter = Fighter { health: fighter.health.min(100), ..fighter };
        Member {
            fighter,
            life,
            rested_ms: now,
            guard_ms: 0,
            ready_ms: now,
            struck_by: None,
            strikers: Vec::new(),
            tries: 0,
            away_ms: None,
            end: None,
            cause: 0,
        }
    }

    /// Who.
    pub fn id(&self) -> ObjectId {
        self.fighter.object
    }

    /// True while it fights.
    pub fn stands(&self) -> bool {
        self.end.is_none()
    }

    /// Since when its owner is gone, if it is. Who is absent neither acts nor is struck: nobody is there to answer for it.
    pub fn away_ms(&self) -> Option<u64> {
        self.away_ms
    }

    /// True while it fights and its owner is there.
    pub(super) fn is_present(&self) -> bool {
        self.stands() && self.away_ms.is_none()
    }

    /// How the battle ended for it, if it has.
    pub fn end(&self) -> Option<Freed> {
        self.end
    }

    pub(super) fn guards(&self, now: u64) -> bool {
        self.guard_ms > now
    }
}
