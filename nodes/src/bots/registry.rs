//! The truth about every bot of this process, as its own frontend told it, and the clocks of those frontends.
//!
//! One shared table. Bots report their welcome, their commands and the answers; watchers look up who ought to be near,
//! where somebody truly is, and when the command was sent that made a motion. NEVER grows with time: one entry per bot,
//! with short bounded lists.

use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::client::ServerClock;
use crate::protocol::{CellXy, Motion, UNITS_PER_CELL};

/// Receipts kept of a motion whose command has not been answered yet.
const MAX_EARLY: usize = 64;

/// What is true of one bot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    /// Connected, as far as it knows.
    pub(super) connected: bool,
    /// Its island.
    pub(super) island: u32,
    /// Its frontend's publisher number, whose clock the motion is on.
    pub(super) publisher: u64,
    /// Its motion.
    pub(super) motion: Motion,
    /// When it was welcomed last.
    pub(super) welcomed: Instant,
    /// When the motion became known.
    pub(super) changed: Instant,
    /// When a command was sent that is not answered yet.
    pub(super) in_flight: Option<Instant>,
}

#[derive(Debug)]
struct Record {
    truth: Truth,
    bucket: (u32, CellXy),
    /// When the command of the present motion was sent.
    sent: Option<Instant>,
    /// Motions seen by watchers before their walker had its answer: since when, and received when.
    early: Vec<(u64, Instant)>,
}

/// The table of all bots.
#[derive(Debug, Default)]
pub(super) struct Registry {
    records: FxHashMap<u64, Record>,
    /// Who was where at last report: candidates for neighbours, not the truth.
    buckets: FxHashMap<(u32, CellXy), Vec<u64>>,
    clocks: FxHashMap<u64, ServerClock>,
    /// Where the first bot was welcomed on each island.
    firsts: FxHashMap<u32, (i32, i32)>,
}

impl Registry {
    /// A bot was welcomed.
    pub(super) fn welcomed(&mut self, id: u64, island: u32, publisher: u64, motion: Motion, now: Instant) {
        let truth = Truth { connected: true, island, publisher, motion, welcomed: now, changed: now, in_flight: None };
        let bucket = bucket(island, &motion);
        if let Some(old) = self.records.insert(id, Record { truth, bucket, sent: None, early: Vec::new() }) {
            remove_from(&mut self.buckets, old.bucket, id);
        }
        self.buckets.entry(bucket).or_default().push(id);
        self.firsts.entry(island).or_insert((motion.x, motion.y));
    }

    /// A bot lost its connection or left.
    pub(super) fn lost(&mut self, id: u64) {
        if let Some(record) = self.records.get_mut(&id) {
            record.truth.connected = false;
        }
    }

    /// A bot is about to send a command.
    pub(super) fn sent(&mut self, id: u64, now: Instant) {
        if let Some(record) = self.records.get_mut(&id) {
            record.truth.in_flight = Some(now);
        }
    }

    /// A bot has its answer; gives the ages of what watchers received before.
    pub(super) fn answered(&mut self, id: u64, motion: Option<Motion>, now: Instant) -> Vec<Duration> {
        let Some(record) = self.records.get_mut(&id) else { return Vec::new() };
        let sent = record.truth.in_flight.take();
        let early = std::mem::take(&mut record.early);
        let Some(motion) = motion else { return Vec::new() };
        if record.truth.motion == motion {
            return Vec::new();
        }
        record.truth.motion = motion;
        record.truth.changed = now;
        record.sent = sent;
        let bucket = bucket(record.truth.island, &motion);
        if bucket != record.bucket {
            remove_from(&mut self.buckets, std::mem::replace(&mut record.bucket, bucket), id);
            self.buckets.entry(bucket).or_default().push(id);
        }
        let Some(sent) = sent else { return Vec::new() };
        let same = early.into_iter().filter(|(since, _)| *since == motion.since_ms);
        same.map(|(_, received)| received.saturating_duration_since(sent)).collect()
    }

    /// A watcher received a motion of `id` that began at `since_ms`; gives its age if that is known already.
    pub(super) fn received(&mut self, id: u64, since_ms: u64, now: Instant) -> Option<Duration> {
        let record = self.records.get_mut(&id)?;
        if record.truth.motion.since_ms == since_ms {
            return Some(now.saturating_duration_since(record.sent?));
        }
        if since_ms > record.truth.motion.since_ms && record.truth.in_flight.is_some() && record.early.len() < MAX_EARLY
        {
            record.early.push((since_ms, now));
        }
        None
    }

    /// What is true of a bot; `None` for everybody who is not one.
    pub(super) fn truth(&self, id: u64) -> Option<&Truth> {
        self.records.get(&id).map(|record| &record.truth)
    }

    /// At most `limit` bots that may be near a place, beginning at a different one for every `turn`.
    pub(super) fn near(&self, island: u32, place: (i32, i32), turn: u64, limit: usize) -> Vec<u64> {
        let centre = cell_of(place);
        let around = [-1, 0, 1].into_iter().flat_map(|dy| [-1, 0, 1].map(|dx| (dx, dy)));
        let buckets: Vec<&Vec<u64>> = around
            .filter_map(|(dx, dy)| Some((centre.0.checked_add_signed(dx)?, centre.1.checked_add_signed(dy)?)))
            .filter_map(|cell| self.buckets.get(&(island, cell)))
            .collect();
        let total: usize = buckets.iter().map(|bucket| bucket.len()).sum();
        if total == 0 {
            return Vec::new();
        }
        let first = (turn % total as u64) as usize;
        let all = buckets.iter().flat_map(|bucket| bucket.iter().copied());
        all.cycle().skip(first).take(limit.min(total)).collect()
    }

    /// Where the first bot was welcomed on an island.
    pub(super) fn first_place(&self, island: u32) -> Option<(i32, i32)> {
        self.firsts.get(&island).copied()
    }

    /// A server's clock was seen.
    pub(super) fn observe_clock(&mut self, publisher: u64, now: Instant, server_ms: u64) {
        self.clocks
            .entry(publisher)
            .and_modify(|clock| clock.observe(now, server_ms))
            .or_insert_with(|| ServerClock::new(now, server_ms));
    }

    /// A server's clock, as well as we know it.
    pub(super) fn clock(&self, publisher: u64) -> Option<&ServerClock> {
        self.clocks.get(&publisher)
    }
}

fn cell_of(place: (i32, i32)) -> CellXy {
    let along = |units: i32| u16::try_from(units.div_euclid(UNITS_PER_CELL)).unwrap_or(0);
    (along(place.0), along(place.1))
}

fn bucket(island: u32, motion: &Motion) -> (u32, CellXy) {
    (island, cell_of((motion.x, motion.y)))
}

fn remove_from(buckets: &mut FxHashMap<(u32, CellXy), Vec<u64>>, key: (u32, CellXy), id: u64) {
    let Some(ids) = buckets.get_mut(&key) else { return };
    ids.retain(|other| *other != id);
    if ids.is_empty() {
        buckets.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: i32, since_ms: u64) -> Motion {
        Motion { x, y: 100, vx: 100, vy: 0, since_ms, duration_ms: 3000 }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_age_runs_from_the_command_to_the_receipt_in_whichever_order_news_comes() {
        let start = Instant::now();
        let mut registry = Registry::default();
        registry.welcomed(1, 1, 7, at(0, 10), start);
        registry.sent(1, start);
        assert_eq!(registry.received(1, 50, start + 20 * MS), None, "its walker has no answer yet");
        assert_eq!(registry.answered(1, Some(at(5, 50)), start + 30 * MS), [20 * MS]);
        assert_eq!(registry.received(1, 50, start + 40 * MS), Some(40 * MS));
        assert_eq!(registry.received(1, 10, start + 40 * MS), None, "old news");
        assert_eq!(registry.received(2, 50, start), None, "no bot");
    }

    #[test]
    fn a_refusal_leaves_the_truth_as_it_was_unless_it_puts_back() {
        let start = Instant::now();
        let mut registry = Registry::default();
        registry.welcomed(1, 1, 7, at(0, 10), start);
        registry.sent(1, start);
        registry.answered(1, None, start + MS);
        assert_eq!(registry.truth(1).unwrap().motion, at(0, 10));
        assert!(registry.truth(1).unwrap().in_flight.is_none());
        registry.sent(1, start);
        registry.answered(1, Some(at(9, 11)), start + MS);
        assert_eq!(registry.truth(1).unwrap().motion, at(9, 11));
    }

    #[test]
    fn neighbours_are_found_by_where_they_were_last_and_everybody_has_a_turn() {
        let start = Instant::now();
        let mut registry = Registry::default();
        for id in 0..10 {
            registry.welcomed(id, 1, 7, at(id as i32 * 20, 10), start);
        }
        registry.welcomed(20, 1, 7, at(10 * UNITS_PER_CELL, 10), start);
        registry.welcomed(21, 2, 7, at(0, 10), start);
        let mut seen = std::collections::BTreeSet::new();
        for turn in 0..10 {
            seen.extend(registry.near(1, (0, 0), turn, 3));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        registry.sent(0, start);
        registry.answered(0, Some(at(10 * UNITS_PER_CELL, 20)), start);
        assert!(!registry.near(1, (0, 0), 0, 100).contains(&0));
        assert!(registry.near(1, (10 * UNITS_PER_CELL, 0), 0, 100).contains(&0));
        assert_eq!(registry.near(3, (0, 0), 0, 100), Vec::<u64>::new());
    }
}
