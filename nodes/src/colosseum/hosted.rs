//! One battle on this colosseum: the room, its keeper, and what is owed for it.
//!
//! What is owed waits until the room was saved as it was when the debt arose, so that a colosseum that takes over finds the
//! debt too; what cannot be settled is tried again after growing pauses. A spoil is NEVER given up: it stays in the document,
//! and keeps the room. A member is given up when its owner has been gone for [`GRACE_MS`], or does not answer for good. Pure but
//! for the snapshots that it hands to the keeper.

use std::collections::BTreeMap;
use std::time::Duration;

use cartographer::geometry::{Epoch, ObjectId};
use serde_json::{Map, Value};

use super::keeper::{Keeper, Snapshot};
use crate::game::battle::Battle;
use crate::game::combat::{Debt, GRACE_MS, Room};

/// A fighter is given back unsaved if the store has not answered for so long, in milliseconds: nobody stays locked in
/// because documents are out of reach.
const FREE_ANYWAY_MS: u64 = 5_000;

/// The first pause after which something owed is tried again, and the longest, in milliseconds.
const PAUSE_MS: (u64, u64) = (250, 5_000);

/// How often an owner that lives and does not answer is asked to take its fighter back: with the pauses, about ten minutes.
const FREE_TRIES: u32 = 120;

/// How long the document of a battle stays that is over, or that waits to be resumed.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// How long it stays if goods are still owed for it: whoever asks for the battle again has them paid.
const KEPT_OWING: Duration = Duration::from_secs(24 * 3_600);

/// The field of a post's state that holds the room.
const ROOM: &str = "room";
/// The field that holds the epoch under which the room was shown.
const EPOCH: &str = "epoch";
/// The field that says that the battle is over.
const ENDED: &str = "ended";

/// A battle that comes to be here.
pub struct Hosting {
    pub(super) room: Room,
    pub(super) epoch: Epoch,
    pub(super) keeper: Keeper,
    /// The term of the lease in which its post was claimed.
    pub(super) term: Option<u64>,
}

/// A battle that is here.
pub(super) struct Hosted {
    pub(super) room: Room,
    epoch: Epoch,
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
    tries: u32,
    /// When it may be tried again.
    next_ms: u64,
}

/// What is to be done about a debt now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is to be settled.
    Settle(Debt),
    /// Nobody is left to whom it could be settled.
    Void(Debt),
}

impl Hosted {
    pub(super) fn new(hosting: Hosting) -> Hosted {
        let Hosting { room, epoch, keeper, .. } = hosting;
        let shown = room.view();
        Hosted { room, epoch, keeper, shown, revision: 0, saved: 0, still_until: None, owed: BTreeMap::new() }
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

    /// A snapshot was saved. True if the battle stood still until then, and goes on: what was under way may have been lost
    /// meanwhile, and is tried anew.
    pub(super) fn saved(&mut self, revision: u64) -> bool {
        self.saved = self.saved.max(revision);
        if self.still_until.is_none_or(|until| self.saved < until) {
            return false;
        }
        self.still_until = None;
        self.owed.values_mut().for_each(|owed| owed.under_way = false);
        true
    }

    /// Has the room saved as it is now.
    pub(super) fn save(&mut self, now: u64) {
        self.revision += 1;
        // Goods that are to be paid must not be paid twice: whoever takes over has to know of them for sure.
        let durable = self.owed.keys().any(|debt| matches!(debt, Debt::Spoil { .. }));
        let state = state_of(&self.room.at_rest(now), self.epoch);
        self.keeper.save(Snapshot { revision: self.revision, state, durable, last: None });
    }

    /// Saves for the last time and gives the post up; what comes back ends when that is done.
    pub(super) fn release(&mut self, now: u64) -> Option<tokio::sync::oneshot::Receiver<()>> {
        self.revision += 1;
        let ended = self.room.done(now);
        let state = if ended { ended_state() } else { state_of(&self.room.at_rest(now), self.epoch) };
        let owes_goods = self.room.debts().iter().any(|debt| matches!(debt, Debt::Spoil { .. }));
        let last = Some(if owes_goods { KEPT_OWING } else { KEPT });
        self.keeper.save(Snapshot { revision: self.revision, state, durable: true, last });
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
            let owed = Owed { revision: self.revision + 1, since_ms: now, under_way: false, tries: 0, next_ms: now };
            self.owed.entry(debt).or_insert_with(|| {
                changed = true;
                owed
            });
        }
        changed
    }

    /// What may be settled now; each is given out once, until it is [`Hosted::put_off`].
    pub(super) fn due(&mut self, now: u64) -> Vec<Due> {
        let (saved, room) = (self.saved, &self.room);
        let mut due = Vec::new();
        for (debt, owed) in self.owed.iter_mut().filter(|(_, owed)| !owed.under_way && owed.next_ms <= now) {
            let member = if let Debt::Member(object) = debt { room.member(*object) } else { None };
            let late = member.is_some() && now >= owed.since_ms + FREE_ANYWAY_MS;
            if saved < owed.revision && !late {
                continue;
            }
            match member.map(|member| member.away_ms()) {
                Some(Some(since)) if now < since + GRACE_MS => {}
                Some(Some(_)) => due.push(Due::Void(*debt)),
                Some(None) if owed.tries >= FREE_TRIES => due.push(Due::Void(*debt)),
                _ => {
                    owed.under_way = true;
                    due.push(Due::Settle(*debt));
                }
            }
        }
        due
    }

    /// A debt could not be settled for now.
    pub(super) fn put_off(&mut self, debt: Debt, now: u64) {
        if let Some(owed) = self.owed.get_mut(&debt) {
            let pause = PAUSE_MS.0.saturating_mul(1 << owed.tries.min(16)).min(PAUSE_MS.1);
            (owed.under_way, owed.tries, owed.next_ms) = (false, owed.tries.saturating_add(1), now + pause);
        }
    }

    /// A fighter has a new owner: if it is owed, it is given back to that one at once.
    pub(super) fn hurry(&mut self, object: ObjectId, now: u64) {
        if let Some(owed) = self.owed.get_mut(&Debt::Member(object)) {
            (owed.tries, owed.next_ms) = (0, now);
        }
    }
}

/// What a room leaves in its document.
pub(super) fn state_of(room: &Room, epoch: Epoch) -> Map<String, Value> {
    // A room is plain values with texts and numbers: it always becomes JSON.
    let room = serde_json::to_value(room).unwrap_or_default();
    Map::from_iter([(ROOM.to_owned(), room), (EPOCH.to_owned(), epoch.0.into())])
}

/// The epoch under which the room in a document's state was shown, if it says so.
pub(super) fn epoch_of(state: &Map<String, Value>) -> Option<Epoch> {
    state.get(EPOCH).and_then(Value::as_u64).map(Epoch)
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
