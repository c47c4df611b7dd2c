//! Paths that a good simulation walks now and then, counted by name: what never happens was never tested.
//!
//! The names in [`MUST`] are asserted over all seeds of a test, not of one. Counting NEVER changes what happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often each thing happened. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counts {
    /// It happened once more.
    pub fn add(&self, name: &str) {
        self.add_many(name, 1);
    }

    /// It happened so many times more.
    pub fn add_many(&self, name: &str, times: u64) {
        let mut counts = self.lock();
        match counts.get_mut(name) {
            Some(count) => *count += times,
            None => drop(counts.insert(name.to_owned(), times)),
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What must have happened at least once over the seeds of the test.
pub const MUST: &[&str] = &[
    // Owners.
    "player_claimed_from_the_dead",
    "habitat_taken_over",
    "battle_resumed",
    "claim_after_ambiguous_reply",
    "fenced_save",
    "two_acted_for_a_moment",
    // Sessions.
    "logged_in",
    "resumed_at_the_same_frontend",
    "replaced_by_a_newer_session",
    "frontend_found_silent",
    // Acts.
    "act_asked_again_and_done",
    "act_done_in_a_later_session",
    "act_answered_unknown",
    "act_repeated",
    "arbiter_ambiguous",
    "settled_by_a_stranger",
    "trade_done",
    "gift_done",
    "box_put",
    "box_taken",
    "built",
    "claimed_land",
    "crafted",
    "sailed",
    "battle_begun",
    "animal_slain",
    // Nodes.
    "drained",
    "drained_with_a_fight",
    "drained_with_players",
    "lease_lost",
    "fault_lease_lost_early",
    "thawed_beyond_the_lease",
    "steward_died",
    "member_died_in_battle",
    "died_unseen",
];

/// Those of [`MUST`] that have not happened.
pub fn missing(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    MUST.iter().filter(|name| counts.get(**name).is_none_or(|count| *count == 0)).copied().collect()
}
