//! One battle on this colosseum: the room, its keeper, and what is owed for it.
//!
//! What is owed waits until the room was saved as it was when the debt arose, so that a colosseum that takes over finds the
//! debt too. Pure but for the snapshots that it hands to the keeper.

use std::collections::BTreeMap;

use cartographer::geometry::Epoch;
use serde_json::{Map, Value};

use super::keeper::{Keeper, Snapshot};
use crate::game::battle::Battle;
use crate::game::combat::{Debt, Room};

/// A fighter is given back unsaved if the store has not answered for so long, in milliseconds: nobody stays locked in
/// because documents are out of reach.
const FREE_ANYWAY_MS: u64 = 5_000;

/// The field of a post's state that holds the room.
const ROOM: &str = "room";
/// The field that says that the battle is over.
const ENDED: &str = "ended";

/// A battle that comes to be here.
pub struct Hosting {
    pub(super) room: Room,
    pub(super) epoch: Epoch,
    pub(super) keeper: Keeper,
}

/// A battle that is here.
pub(super) struct Hosted {
    pub(super) room: Room,
    keeper: Keeper,
    /// What others were last shown.
    pub(super) shown: Battle,
    /// Counts snapshots.
    revision: u64,
    /// The last one that was saved.
    saved: u64,
    /// It stands still until this revision is saved: the lease was lost, and another may have taken over.
    still_until: Option<u64>,
    owed: BTreeMap<Debt, Owed>,
}

struct Owed {
    revision: u64,
    since_ms: u64,
    under_way: bool,
}

impl Hosted {
    pub(super) fn new(hosting: Hosting) -> Hosted {
        let Hosting { room, keeper, .. } = hosting;
        let shown = room.view();
        Hosted { room, keeper, shown, revision: 0, saved: 0, still_until: None, owed: BTreeMap::new() }
    }

    /// Whether nothing may happen here at the moment.
    pub(super) fn still(&self) -> bool {
        self.still_until.is_some()
    }

    /// The lease was lost: nothing happens until [`Hosted::check`] has found the post unchanged.
    pub(super) fn stand_still(&mut self) {
        self.still_until = Some(u64::MAX);
    }

    /// Looks, by saving, whether the post is still ours.
    pub(super) fn check(&mut self, now: u64) {
        self.save(now);
        self.still_until = Some(self.revision);
    }

    /// A snapshot was saved.
    pub(super) fn saved(&mut self, revision: u64) {
        self.saved = self.saved.max(revision);
        if self.still_until.is_some_and(|until| self.saved >= until) {
            self.still_until = None;
        }
    }

    /// Has the room saved as it is now.
    pub(super) fn save(&mut self, now: u64) {
        self.revision += 1;
        // Goods that are to be paid must not be paid twice: whoever takes over has to know of them for sure.
        let durable = self.owed.keys().any(|debt| matches!(debt, Debt::Spoil { .. }));
        let state = state_of(&self.room.at_rest(now));
        self.keeper.save(Snapshot { revision: self.revision, state, durable, last: false });
    }

    /// Saves for the last time and gives the post up; what comes back ends when that is done.
    pub(super) fn release(&mut self, now: u64) -> Option<tokio::sync::oneshot::Receiver<()>> {
        self.revision += 1;
        let ended = self.room.done(now);
        let state = if ended { ended_state() } else { state_of(&self.room.at_rest(now)) };
        self.keeper.save(Snapshot { revision: self.revision, state, durable: true, last: true });
        self.keeper.done()
    }

    /// Takes note of what the room owes now. True if that has changed.
    pub(super) fn take_stock(&mut self, now: u64) -> bool {
        let debts = self.room.debts();
        let before = self.owed.len();
        self.owed.retain(|debt, _| debts.contains(debt));
        let mut changed = self.owed.len() != before;
        for debt in debts {
            // Revisions begin with 1: the snapshot that is made because of this debt.
            let owed = Owed { revision: self.revision + 1, since_ms: now, under_way: false };
            self.owed.entry(debt).or_insert_with(|| {
                changed = true;
                owed
            });
        }
        changed
    }

    /// What may be settled now; each is given out once.
    pub(super) fn due(&mut self, now: u64) -> Vec<Debt> {
        let saved = self.saved;
        let mut due = Vec::new();
        for (debt, owed) in self.owed.iter_mut().filter(|(_, owed)| !owed.under_way) {
            let late = matches!(debt, Debt::Member(_)) && now >= owed.since_ms + FREE_ANYWAY_MS;
            if saved >= owed.revision || late {
                owed.under_way = true;
                due.push(*debt);
            }
        }
        due
    }
}

/// What a room leaves in its document.
fn state_of(room: &Room) -> Map<String, Value> {
    // A room is plain values with texts and numbers: it always becomes JSON.
    let room = serde_json::to_value(room).unwrap_or_default();
    Map::from_iter([(ROOM.to_owned(), room)])
}

fn ended_state() -> Map<String, Value> {
    Map::from_iter([(ENDED.to_owned(), Value::Bool(true))])
}

/// The room in a document's state; `None` if the battle is over or never began.
pub(super) fn room_of(state: &Map<String, Value>) -> Option<Room> {
    let room = state.get(ROOM)?;
    let read: Result<Room, _> = serde::Deserialize::deserialize(room);
    read.inspect_err(|error| tracing::error!(%error, "a battle's document cannot be read: it is given up")).ok()
}
