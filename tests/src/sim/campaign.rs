//! Many seeds on some threads, and the hunt for planted bugs: what the command line and the test share.
//!
//! Each run is one thread's work from beginning to end; which thread runs which seed changes nothing of any run.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Outcome, SimConfig, run};

/// Seeds after which a planted bug counts as not found.
pub const FIND_WITHIN: u64 = 1_000;

/// What all runs together found.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Seeds that were run.
    pub seeds: u64,
    /// The runs that found something, by seed.
    pub failed: Vec<Outcome>,
    /// Simulated milliseconds, all nodes together.
    pub node_ms: u64,
    /// How many faults of each kind there were.
    pub faults: BTreeMap<String, u64>,
    /// What happened now and then, and how often.
    pub sometimes: BTreeMap<String, u64>,
}

impl Campaign {
    /// Runs these seeds, telling `each` of every one as it ends.
    pub fn run(seeds: &[u64], bug: Option<&'static str>, threads: usize, each: impl Fn(&Outcome) + Sync) -> Campaign {
        let (next, all) = (AtomicU64::new(0), Mutex::new(Campaign::default()));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                        let outcome = survive(&SimConfig { seed: *seed, bug });
                        each(&outcome);
                        all.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
                    }
                });
            }
        });
        let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.failed.sort_by_key(|outcome| outcome.seed);
        all
    }

    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.node_ms += outcome.node_ms;
        for (all, some) in [(&mut self.faults, &outcome.faults), (&mut self.sometimes, &outcome.sometimes)] {
            some.iter().for_each(|(name, count)| *all.entry(name.clone()).or_default() += count);
        }
        if !outcome.violations.is_empty() {
            self.failed.push(outcome);
        }
    }

    /// Simulated hours, all nodes together.
    pub fn node_hours(&self) -> f64 {
        self.node_ms as f64 / 3_600_000.0
    }
}

/// Runs a seed; a panic of what runs in it is a violation like others.
fn survive(config: &SimConfig) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(config))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Outcome { seed: config.seed, violations: vec![format!("it panicked: {text}")], ..Outcome::default() }
    })
}

/// What became of a planted bug.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its name.
    pub bug: &'static str,
    /// After how many seeds it was found each time that was tried; nothing: not within [`FIND_WITHIN`].
    pub after: Vec<Option<u64>>,
    /// What gave it away first.
    pub by: String,
}

impl Found {
    /// The median of seeds until it was found; none if it was not found more often than not.
    pub fn median(&self) -> Option<u64> {
        let mut after = self.after.clone();
        after.sort_by_key(|after| after.unwrap_or(u64::MAX));
        after.get(after.len() / 2).copied().flatten()
    }
}

/// Plants one bug after the other and counts the seeds until each is found, `tries` times with other seeds.
pub fn hunt(bugs: &[&'static str], tries: u64, first: u64, threads: usize, each: impl Fn(&Found) + Sync) -> Vec<Found> {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let found = hunt_one(bug, tries, first);
                    each(&found);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|found: &Found| found.bug);
    all
}

fn hunt_one(bug: &'static str, tries: u64, first: u64) -> Found {
    let mut found = Found { bug, after: Vec::new(), by: String::new() };
    for attempt in 0..tries.max(1) {
        let begin = first + attempt * FIND_WITHIN;
        let after = (begin..begin + FIND_WITHIN).find(|seed| {
            let outcome = survive(&SimConfig { seed: *seed, bug: Some(bug) });
            if let (Some(first), true) = (outcome.violations.first(), found.by.is_empty()) {
                found.by.clone_from(first);
            }
            !outcome.violations.is_empty()
        });
        found.after.push(after.map(|seed| seed - begin + 1));
    }
    found
}
