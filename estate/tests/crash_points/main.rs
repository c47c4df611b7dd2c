//! Every protocol over several calls, under every schedule within bounds: deaths, pauses, lost, late and doubled calls.
//!
//! One file for each protocol. What a scenario is and how a failure is repeated stands in `estate::schedules`. A test
//! here NEVER times anything: counts are printed (`cargo test -p wildmesh-estate --test crash_points -- --nocapture`).
#![allow(clippy::expect_used)]

mod accounts;
mod claims;
mod goods;
mod islands;
mod migrations;
mod parties;
mod posts;
mod protocol;

use std::collections::BTreeMap;

use estate::document::{Document, decode};
use estate::schedules::{Bounds, Report, Scenario, explore};
use estate::store::Stored;

/// Explores within the usual bounds, prints what was tried, and wants it to be something.
fn prove<T: 'static>(scenario: &Scenario<T>) -> Report {
    let report = explore(scenario, &Bounds::default());
    println!("{report}");
    assert!(report.schedules > 1_000 && report.stopped > 0 && report.lost > 0 && report.paused > 0, "{report}");
    report
}

/// A document among those that were left, if it is there.
fn left<D: Document>(documents: &BTreeMap<String, Stored>, key: &str) -> Result<Option<D>, String> {
    let Some(stored) = documents.get(key) else { return Ok(None) };
    decode(key, &stored.value).map(|(document, _)| Some(document)).map_err(|error| error.to_string())
}

/// Fails a check with what it says, unless the condition holds.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
