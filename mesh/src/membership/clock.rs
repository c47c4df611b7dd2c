//! What a peer's clock shows when ours shows something: offset and round trip, from pings.
//!
//! The offset is estimated as NTP does (RFC 5905, section 8), from the exchange with the shortest round trip among the
//! last few: queues only ever lengthen a trip, so the shortest lies least. It NEVER decides anything.

use std::collections::VecDeque;

/// Exchanges that are remembered: at one in two seconds, half a minute, over which clocks drift by about a millisecond.
const SAMPLES: usize = 16;

/// The largest offset that is believed: a century, far from every overflow.
const OFFSET_MAX_US: i128 = 1 << 52;

/// The filter over one peer's pings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    rtt_us: u64,
    offset_us: i64,
}

impl Clock {
    /// Takes an exchange: when we asked and got the answer (our clock), and what the peer's clock showed in between.
    pub(crate) fn sample(&mut self, asked_us: u64, answered_us: u64, theirs_us: u64) {
        let rtt_us = answered_us.saturating_sub(asked_us);
        let middle_us = i128::from(asked_us) + i128::from(rtt_us / 2);
        // A peer may claim any clock; what does not fit is cut off rather than trusted.
        let apart_us = (middle_us - i128::from(theirs_us)).clamp(-OFFSET_MAX_US, OFFSET_MAX_US);
        let offset_us = i64::try_from(apart_us).unwrap_or_default();
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { rtt_us, offset_us });
    }

    /// True once there was an exchange.
    pub(crate) fn known(&self) -> bool {
        !self.samples.is_empty()
    }

    /// What to add to the peer's clock to get ours, in microseconds; 0 before the first exchange.
    pub(crate) fn offset_us(&self) -> i64 {
        self.best().map_or(0, |sample| sample.offset_us)
    }

    /// The shortest round trip of late, in microseconds; 0 before the first exchange.
    pub(crate) fn rtt_us(&self) -> u64 {
        self.best().map_or(0, |sample| sample.rtt_us)
    }

    /// Among equals the latest, because clocks drift.
    fn best(&self) -> Option<&Sample> {
        self.samples.iter().rev().min_by_key(|sample| sample.rtt_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(samples: &[(u64, u64, u64)], offset_us: i64, rtt_us: u64) {
        let mut clock = Clock::default();
        for (asked, answered, theirs) in samples {
            clock.sample(*asked, *answered, *theirs);
        }
        assert_eq!((clock.offset_us(), clock.rtt_us()), (offset_us, rtt_us), "{samples:?}");
    }

    #[test]
    fn the_offset_comes_from_the_shortest_round_trip() {
        check(&[], 0, 0);
        check(&[(1_000, 1_200, 600)], 500, 200);
        check(&[(1_000, 1_200, 600), (5_000, 9_000, 4_700)], 500, 200);
        check(&[(1_000, 9_000, 600), (10_000, 10_100, 9_650)], 400, 100);
        check(&[(1_000, 1_200, 10_100)], -9_000, 200);
    }

    #[test]
    fn old_exchanges_are_forgotten_and_mad_clocks_do_no_harm() {
        let mut clock = Clock::default();
        clock.sample(0, 1, 0);
        for i in 1..=SAMPLES as u64 {
            clock.sample(i * 1_000, i * 1_000 + 100, 0);
        }
        assert_eq!(clock.rtt_us(), 100);
        clock.sample(5, 5, u64::MAX);
        assert_eq!(clock.offset_us(), -(1 << 52));
    }
}
