//! What a run of settling bots did, saw and found.
//!
//! Written as part of the bots' report; the names of the fields are part of the tool's contract. A finding is something
//! that must not happen to an honest player, whatever others do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bots::report::{ErrorKind, MESSAGES_PER_KIND, Percentiles, histogram};

/// One kind of act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Acts {
    /// How many were asked.
    pub asked: u64,
    /// How many were done.
    pub done: u64,
    /// How many were refused, by code.
    pub refused: BTreeMap<String, u64>,
}

/// One kind of goal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Goals {
    /// Reached.
    pub done: u64,
    /// Given up.
    pub given_up: u64,
}

/// What a run of settling bots did, saw and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SettleReport {
    /// Acts by their names on the wire.
    pub acts: BTreeMap<String, Acts>,
    /// Acts asked again under their old number.
    pub asked_again: u64,
    /// Goals by name.
    pub goals: BTreeMap<String, Goals>,
    /// Battles in which a bot was.
    pub battles: u64,
    /// Exchanges of battles that bots saw, each counted for each who saw it.
    pub exchanges_seen: u64,
    /// Exchanges that came of a bot's own command.
    pub own_exchanges: u64,
    /// Trades done, each counted for both sides.
    pub trades_done: u64,
    /// Times that something was heard.
    pub chats_heard: u64,
    /// Notes by code.
    pub notes: BTreeMap<String, u64>,
    /// Islands on which bots were.
    pub islands: BTreeSet<u32>,
    /// Bags compared with a bot's own account.
    pub accounts_checked: u64,
    /// Objects shown to several bots, compared.
    pub objects_compared: u64,
    /// Between an act and its answer.
    pub answer_ms: Percentiles,
    /// Acts answered with success: they MUST have happened, once.
    pub acknowledged: u64,
    /// Those of them whose first answer was lost, and that were asked for again.
    pub acknowledged_again: u64,
    /// Differences between a bot's account and what it was told or shown: something acknowledged is missing.
    pub lost: u64,
    /// The same: something acknowledged happened more than once, or what never was acknowledged nor possible.
    pub doubled: u64,
    /// Acts of which nobody could tell any more whether they happened, by the last word.
    pub unresolved: BTreeMap<String, u64>,
    /// Acts of an earlier life that were refused for what stands against them now.
    pub refused_again: u64,
    /// Times that a bag had to be believed instead of compared.
    pub doubts: u64,
    /// Bots whose accounts all agreed at the end.
    pub settled_up: u64,
    /// Works and land compared at the end.
    pub works_checked: u64,
    /// Everything found, by kind.
    pub findings: BTreeMap<String, ErrorKind>,
}

impl SettleReport {
    /// How many findings there are in all.
    pub fn found(&self) -> u64 {
        self.findings.values().map(|kind| kind.count).sum()
    }

    /// Acts done, of all kinds.
    pub fn acts_done(&self) -> u64 {
        self.acts.values().map(|acts| acts.done).sum()
    }

    /// Kinds of acts of which at least one was done.
    pub fn kinds_done(&self) -> usize {
        self.acts.values().filter(|acts| acts.done > 0).count()
    }
}

/// The report while it is made.
#[derive(Debug)]
pub(in crate::bots) struct SettleTally {
    report: SettleReport,
    answers: Histogram<u64>,
}

impl Default for SettleTally {
    fn default() -> SettleTally {
        SettleTally { report: SettleReport::default(), answers: histogram() }
    }
}

impl std::ops::Deref for SettleTally {
    type Target = SettleReport;

    fn deref(&self) -> &SettleReport {
        &self.report
    }
}

impl std::ops::DerefMut for SettleTally {
    fn deref_mut(&mut self) -> &mut SettleReport {
        &mut self.report
    }
}

impl SettleTally {
    pub(super) fn act(&mut self, op: &str) -> &mut Acts {
        self.report.acts.entry(op.to_owned()).or_default()
    }

    pub(super) fn refused(&mut self, op: &str, code: &str) {
        *self.act(op).refused.entry(code.to_owned()).or_default() += 1;
    }

    pub(super) fn goal(&mut self, name: &str) -> &mut Goals {
        self.report.goals.entry(name.to_owned()).or_default()
    }

    pub(super) fn noted(&mut self, code: &str) {
        *self.report.notes.entry(code.to_owned()).or_default() += 1;
    }

    pub(super) fn answered_in(&mut self, time: Duration) {
        self.answers.saturating_record((time.as_micros() as u64).max(1));
    }

    pub(super) fn unresolved(&mut self, why: &str) {
        *self.report.unresolved.entry(why.to_owned()).or_default() += 1;
    }

    /// Counts a finding, and keeps the first few of its kind in words.
    pub(super) fn finding(&mut self, kind: &str, describe: impl FnOnce() -> String) {
        let kind = self.report.findings.entry(kind.to_owned()).or_default();
        kind.count += 1;
        if kind.first.len() < MESSAGES_PER_KIND {
            kind.first.push(describe());
        }
    }

    pub(in crate::bots) fn snapshot(&self) -> SettleReport {
        SettleReport { answer_ms: Percentiles::of(&self.answers), ..self.report.clone() }
    }
}
