//! What a run of bots found: counts of faults and of work, and percentiles.
//!
//! Written as JSON by `wildmesh bots`; the names of the fields are part of the tool's contract. A report NEVER hides
//! that little was looked at: the numbers of checks stand beside the numbers of faults.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::presence::Away;
pub use super::settle::report::SettleReport;

/// The first messages kept of every kind of error.
pub const MESSAGES_PER_KIND: usize = 3;
/// The first findings kept in words.
pub const FINDINGS_KEPT: usize = 10;

/// Two percentiles of a time, in milliseconds; 0 when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
}

impl Percentiles {
    /// Of a histogram in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: ms(0.5), p99: ms(0.99) }
    }
}

/// How long nothing was heard, in milliseconds; 0 when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Gaps {
    /// Half were shorter.
    pub p50: f64,
    /// One in a hundred was longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Gaps {
    /// Of a histogram in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let Percentiles { p50, p99 } = Percentiles::of(histogram);
        Self { p50, p99, max: if histogram.is_empty() { 0.0 } else { histogram.max() as f64 / 1000.0 } }
    }
}

/// Errors of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorKind {
    /// How many.
    pub count: u64,
    /// The first few, in words.
    pub first: Vec<String>,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// Neighbours that ought to be in sight, looked for.
    pub neighbours: u64,
    /// Places shown, compared with the truth.
    pub positions: u64,
    /// Clock offsets compared.
    pub clocks: u64,
    /// Samples passed over because somebody was just changing course or had just come.
    pub unsettled: u64,
    /// Rounds of checks left out because the bots' own process was late.
    pub skipped_while_late: u64,
}

/// What a run of bots found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BotsReport {
    /// Bots asked for.
    pub players: u64,
    /// Bots that were welcomed at least once.
    pub joined: u64,
    /// Settled bots shown in a wrong place.
    pub wrong_positions: u64,
    /// Bots that ought to be in sight and were not shown.
    pub missing_neighbours: u64,
    /// Frames that showed that earlier ones are missing.
    pub gaps: u64,
    /// Everything that went wrong in words, see `error_kinds`.
    pub errors: u64,
    /// Acts of settlers that were answered with success: they MUST have happened, once.
    pub acknowledged: u64,
    /// Times that a settler's account of goods, works and land holds something acknowledged that is not there.
    pub lost: u64,
    /// Times that there is more than a settler's account allows.
    pub doubled: u64,
    /// Times that a bot could not play for longer than a minute.
    pub hung: u64,
    /// How long bots could not play after a loss of connection, by its cause: from the loss (or the last sign of life) to the
    /// first frame or answer.
    pub away_ms: BTreeMap<String, Away>,
    /// From a walker's command to a neighbour's receipt of the new motion.
    pub age_ms: Percentiles,
    /// From asking for a session to the welcome.
    pub join_ms: Percentiles,

    /// Clock offsets that are off by more than the tolerance.
    pub wrong_clocks: u64,
    /// Errors by kind.
    pub error_kinds: BTreeMap<String, ErrorKind>,
    /// The first wrong positions, missing neighbours and clocks, in words.
    pub first_findings: Vec<String>,
    /// What was checked.
    pub checks: Checks,
    /// Seconds since the start.
    pub seconds: f64,
    /// Bots connected now.
    pub connected: u64,
    /// Bots that are where they are to walk: in a crowd, those that have arrived.
    pub gathered: u64,
    /// Times that somebody came into sight.
    pub neighbours_seen: u64,
    /// Entries of frames that changed something.
    pub updates: u64,
    /// Frames received.
    pub frames: u64,
    /// Bytes of messages received.
    pub bytes: u64,
    /// Commands sent.
    pub commands: u64,
    /// Commands carried out.
    pub answered: u64,
    /// Commands refused.
    pub refused: u64,
    /// The same by code.
    pub refused_by_code: BTreeMap<String, u64>,
    /// Connections lost.
    pub drops: u64,
    /// Connections taken up again with the resume token at the same frontend.
    pub resumes: u64,
    /// The same at a fallback frontend.
    pub fallback_resumes: u64,
    /// New sessions after a loss, through the gateway.
    pub rejoins: u64,
    /// Redirects followed.
    pub redirects: u64,
    /// Bots that were more than two tiles from where they knew themselves after a new welcome.
    pub jumps: u64,
    /// Times that the gateway asked us to come again later.
    pub join_retries: u64,
    /// Accounts that existed already.
    pub accounts_reused: u64,
    /// Frames about cells out of sight.
    pub stray_frames: u64,
    /// Entries about objects never introduced.
    pub orphan_entries: u64,
    /// From a lost connection to the next welcome.
    pub resume_ms: Percentiles,
    /// From a redirect to the next welcome.
    pub redirect_ms: Percentiles,
    /// From the last that was heard before a redirect was followed to the first that was heard after the welcome.
    pub gap_ms: Gaps,
    /// Between a command and its answer.
    pub answer_ms: Percentiles,
    /// By how much clock offsets were off.
    pub clock_error_ms: Percentiles,
    /// How late the bots' own timers were.
    pub own_lag_ms: Percentiles,
    /// What settlers did, saw and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<SettleReport>,
}

impl BotsReport {
    /// All that should be zero in a calm run, by kind.
    pub fn faults_by_kind(&self) -> [(&'static str, u64); 8] {
        [
            ("wrong_positions", self.wrong_positions),
            ("missing_neighbours", self.missing_neighbours),
            ("gaps", self.gaps),
            ("errors", self.errors),
            ("wrong_clocks", self.wrong_clocks),
            ("not_joined", self.players.saturating_sub(self.joined)),
            ("hung", self.hung),
            ("accounts", self.settle.as_ref().map_or(0, SettleReport::found)),
        ]
    }

    /// The same, added up.
    pub fn faults(&self) -> u64 {
        self.faults_by_kind().iter().map(|(_, count)| count).sum()
    }
}

/// Times in microseconds, up to ten minutes, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    // Bounds and digits are constants that the constructor accepts.
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// The histograms behind a report.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) report: BotsReport,
    pub(super) age: Histogram<u64>,
    pub(super) join: Histogram<u64>,
    pub(super) resume: Histogram<u64>,
    pub(super) redirect: Histogram<u64>,
    pub(super) gap: Histogram<u64>,
    pub(super) answer: Histogram<u64>,
    pub(super) clock_error: Histogram<u64>,
    pub(super) own_lag: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(players: usize) -> Self {
        Self {
            report: BotsReport { players: players as u64, ..BotsReport::default() },
            age: histogram(),
            join: histogram(),
            resume: histogram(),
            redirect: histogram(),
            gap: histogram(),
            answer: histogram(),
            clock_error: histogram(),
            own_lag: histogram(),
        }
    }

    /// Counts an error and keeps the first few messages of its kind.
    pub(super) fn error(&mut self, kind: &str, message: String) {
        self.report.errors += 1;
        let kind = self.report.error_kinds.entry(kind.to_owned()).or_default();
        kind.count += 1;
        if kind.first.len() < MESSAGES_PER_KIND {
            kind.first.push(message);
        }
    }

    /// Keeps the first few findings in words.
    pub(super) fn finding(&mut self, describe: impl FnOnce() -> String) {
        if self.report.first_findings.len() < FINDINGS_KEPT {
            self.report.first_findings.push(describe());
        }
    }

    pub(super) fn snapshot(&self, seconds: f64) -> BotsReport {
        BotsReport {
            seconds,
            age_ms: Percentiles::of(&self.age),
            join_ms: Percentiles::of(&self.join),
            resume_ms: Percentiles::of(&self.resume),
            redirect_ms: Percentiles::of(&self.redirect),
            gap_ms: Gaps::of(&self.gap),
            answer_ms: Percentiles::of(&self.answer),
            clock_error_ms: Percentiles::of(&self.clock_error),
            own_lag_ms: Percentiles::of(&self.own_lag),
            ..self.report.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_begins_with_the_fields_of_its_contract() {
        let mut tally = Tally::new(3);
        tally.age.saturating_record(51_000);
        tally.error("socket", "first".to_owned());
        let json = serde_json::to_value(tally.snapshot(1.0)).unwrap();
        for field in ["players", "joined", "wrong_positions", "missing_neighbours", "gaps", "errors"] {
            assert!(json[field].is_u64(), "{field}");
        }
        for field in ["age_ms", "join_ms"] {
            assert!(json[field]["p50"].is_f64() && json[field]["p99"].is_f64(), "{field}");
        }
        assert_eq!(json["age_ms"]["p50"].as_f64().unwrap().round(), 51.0);
        assert_eq!(json["errors"], 1);
        assert_eq!(json["error_kinds"]["socket"]["first"][0], "first");
    }

    #[test]
    fn every_kind_of_fault_makes_the_sum_non_zero() {
        let calm = BotsReport { players: 2, joined: 2, ..BotsReport::default() };
        assert_eq!(calm.faults(), 0);
        for spoil in [
            (|report: &mut BotsReport| report.wrong_positions = 1) as fn(&mut BotsReport),
            |report| report.missing_neighbours = 1,
            |report| report.gaps = 1,
            |report| report.errors = 1,
            |report| report.wrong_clocks = 1,
            |report| report.hung = 1,
            |report| report.joined = 1,
        ] {
            let mut report = calm.clone();
            spoil(&mut report);
            assert_eq!(report.faults(), 1);
        }
    }
}
