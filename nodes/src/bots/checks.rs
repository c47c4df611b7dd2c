//! What one bot is shown against what is true of another: pure judgements, and rounds of them that fill the report.
//!
//! The judgements keep away from moments when the answer depends on who hears first: somebody who has just come, who
//! waits for an answer, or whose motion is new, is *unsettled*. A judgement NEVER needs two clocks to agree where the
//! same publisher speaks: both motions are then compared at the same moment of its clock.

use std::time::Duration;

use tokio::time::Instant;

use super::registry::{Registry, Truth};
use super::report::Tally;
use crate::client::Sight;
use crate::client::sight::Effect;
use crate::protocol::{FrameHead, UNITS_PER_TILE};

/// Neighbours looked for in one round.
const NEIGHBOURS_PER_ROUND: usize = 8;
/// Places compared in one round.
const PLACES_PER_ROUND: usize = 8;

/// Somebody who came later than this ago is not looked for yet.
pub(super) const SETTLED_PRESENCE: Duration = Duration::from_secs(2);
/// A motion younger than this is not compared yet.
pub(super) const SETTLED_MOTION: Duration = Duration::from_secs(1);
/// Two bots walking apart or together at full speed for as long as settling takes, in tiles: so much nearer than the
/// radius of vision a neighbour must be to be missed.
pub(super) const MARGIN_TILES: i32 = 16;
/// A place shown may be off by so much, in units: one rounding each, and a millisecond.
pub(super) const PLACE_TOLERANCE: u32 = 8;
/// The same where two clocks come in: a quarter of a second at full speed, in units.
pub(super) const PLACE_TOLERANCE_ACROSS_CLOCKS: u32 = UNITS_PER_TILE as u32;
/// An offset between clocks may be off by so much.
pub(super) const CLOCK_TOLERANCE_US: u64 = 250_000;
/// Clocks seen less often than this are not compared.
const CLOCK_SAMPLES: u32 = 10;

/// What a judgement found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// Not shown although near.
    Missing,
    /// Shown in a wrong place.
    WrongPlace {
        /// Where it is shown.
        shown: (i32, i32),
        /// Where it is.
        truth: (i32, i32),
    },
    /// Nothing can be said now.
    Unsettled,
    /// Nothing is to be said: too far away, or no bot of ours.
    None,
}

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watcher {
    /// Its own object.
    pub(super) id: u64,
    /// Within what distance it is promised to see, in tiles.
    pub(super) radius_tiles: u16,
}

/// One round: samples of neighbours, of places shown and of clocks, counted in the tally. `turn` decides whose turn it is.
pub(super) fn round(registry: &Registry, tally: &mut Tally, watcher: Watcher, sight: &Sight, turn: u64, now: Instant) {
    let me = watcher.id;
    let Some(my_place) = registry.truth(me).and_then(|truth| Some((truth.island, place(registry, truth, now)?))) else {
        return;
    };
    for other in registry.near(my_place.0, my_place.1, turn, NEIGHBOURS_PER_ROUND) {
        match judge_presence(registry, watcher, sight, other, now) {
            Verdict::Missing => {
                tally.report.checks.neighbours += 1;
                tally.report.missing_neighbours += 1;
                let truth = registry.truth(other);
                tally.finding(|| format!("player {me} at {my_place:?} is not shown {other}: {truth:?}"));
            }
            Verdict::Unsettled => tally.report.checks.unsettled += 1,
            Verdict::None => {}
            Verdict::Fine | Verdict::WrongPlace { .. } => tally.report.checks.neighbours += 1,
        }
    }
    let first = (turn % (sight.ghosts().len() as u64).max(1)) as usize;
    for (other, ghost) in sight.ghosts().skip(first).take(PLACES_PER_ROUND) {
        match judge_place(registry, watcher, sight, other, now) {
            Verdict::WrongPlace { shown, truth } => {
                tally.report.checks.positions += 1;
                tally.report.wrong_positions += 1;
                let known = registry.truth(other);
                tally.finding(|| {
                    format!("player {me} is shown {other} at {shown:?}, not {truth:?}: {ghost:?}, {known:?}")
                });
            }
            Verdict::Unsettled => tally.report.checks.unsettled += 1,
            Verdict::None => {}
            Verdict::Fine | Verdict::Missing => tally.report.checks.positions += 1,
        }
    }
    for (publisher, offset_ms) in sight.clocks() {
        let Some(error) = clock_error_us(registry, watcher, publisher, offset_ms, now) else { continue };
        tally.report.checks.clocks += 1;
        tally.clock_error.saturating_record(error.max(1));
        if error > CLOCK_TOLERANCE_US {
            tally.report.wrong_clocks += 1;
            tally.finding(|| format!("player {me}: the clock of {publisher} is off by {error} µs"));
        }
    }
}

/// Counts what a frame did.
pub(super) fn count(tally: &mut Tally, me: u64, head: &FrameHead, bytes: usize, effect: &Effect) {
    let report = &mut tally.report;
    report.frames += 1;
    report.bytes += bytes as u64;
    report.updates += u64::from(effect.updates);
    report.neighbours_seen += u64::from(effect.appeared);
    report.stray_frames += u64::from(effect.stray);
    report.orphan_entries += u64::from(effect.orphans);
    if effect.gap {
        report.gaps += 1;
        tally.finding(|| format!("player {me}: a gap before {head:?}"));
    }
}

/// Whether `other` ought to be shown to the watcher and is not.
pub(super) fn judge_presence(
    registry: &Registry,
    watcher: Watcher,
    sight: &Sight,
    other: u64,
    now: Instant,
) -> Verdict {
    let (Some(me), Some(them)) = (registry.truth(watcher.id), registry.truth(other)) else { return Verdict::None };
    if other == watcher.id || me.island != them.island {
        return Verdict::None;
    }
    let (Some(my_place), Some(their_place)) = (place(registry, me, now), place(registry, them, now)) else {
        return Verdict::Unsettled;
    };
    let reach = (i32::from(watcher.radius_tiles) - MARGIN_TILES) * UNITS_PER_TILE;
    if i64::from(distance(my_place, their_place)) > i64::from(reach) {
        return Verdict::None;
    }
    if !present(me, now) || !present(them, now) {
        return Verdict::Unsettled;
    }
    if sight.ghost(other).is_some() { Verdict::Fine } else { Verdict::Missing }
}

/// Whether `other` is shown to the watcher where it truly is.
pub(super) fn judge_place(registry: &Registry, watcher: Watcher, sight: &Sight, other: u64, now: Instant) -> Verdict {
    let (Some(me), Some(them)) = (registry.truth(watcher.id), registry.truth(other)) else { return Verdict::None };
    let Some(ghost) = sight.ghost(other) else { return Verdict::None };
    if other == watcher.id {
        return Verdict::None;
    }
    let settled = now.saturating_duration_since(them.changed) > SETTLED_MOTION && them.in_flight.is_none();
    if !settled || !them.connected || !present(me, now) {
        return Verdict::Unsettled;
    }
    let Some(their_clock) = registry.clock(them.publisher) else { return Verdict::Unsettled };
    let truth = them.motion.at(their_clock.at_ms(now));
    let (shown, tolerance) = if ghost.publisher == them.publisher {
        (ghost.motion.at(their_clock.at_ms(now)), PLACE_TOLERANCE)
    } else {
        let offsets = registry.clock(me.publisher).zip(sight.offset_ms(ghost.publisher));
        let Some((my_clock, offset)) = offsets else { return Verdict::Unsettled };
        (ghost.motion.at(my_clock.at_ms(now).saturating_sub(offset)), PLACE_TOLERANCE_ACROSS_CLOCKS)
    };
    let elsewhere = me.island != them.island;
    if elsewhere || distance(shown, truth) > tolerance { Verdict::WrongPlace { shown, truth } } else { Verdict::Fine }
}

/// By how many microseconds the offset that the watcher was told for a publisher is off, if both clocks are well known.
pub(super) fn clock_error_us(
    registry: &Registry,
    watcher: Watcher,
    publisher: u64,
    offset_ms: i64,
    now: Instant,
) -> Option<u64> {
    let me = registry.truth(watcher.id)?;
    let (mine, theirs) = (registry.clock(me.publisher)?, registry.clock(publisher)?);
    if mine.samples().min(theirs.samples()) < CLOCK_SAMPLES {
        return None;
    }
    let true_offset_us = mine.at_us(now).saturating_sub(theirs.at_us(now));
    Some(true_offset_us.abs_diff(offset_ms.saturating_mul(1000)))
}

/// Connected for long enough and not waiting for an answer.
fn present(truth: &Truth, now: Instant) -> bool {
    truth.connected && truth.in_flight.is_none() && now.saturating_duration_since(truth.welcomed) > SETTLED_PRESENCE
}

fn place(registry: &Registry, truth: &Truth, now: Instant) -> Option<(i32, i32)> {
    Some(truth.motion.at(registry.clock(truth.publisher)?.at_ms(now)))
}

/// The longer of the distances along the axes.
pub(super) fn distance(a: (i32, i32), b: (i32, i32)) -> u32 {
    a.0.abs_diff(b.0).max(a.1.abs_diff(b.1))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
