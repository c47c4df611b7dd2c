//! One circuit breaker: after several failures in a row it turns calls away for a while, then lets one through to try.
//!
//! There is one for each peer and method, so that a failing method NEVER takes others with it.

/// Failures in a row that open it.
const FAILURES: u32 = 5;

/// How long it stays open: the first time and at most, in milliseconds.
const OPEN_MS: (u64, u64) = (1_000, 30_000);

/// The breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    state: State,
    /// How long it was open last.
    open_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls pass; so many failed in a row.
    Closed { failures: u32 },
    /// No call passes before this time.
    Open { until_ms: u64 },
    /// One call was let through; it decides. If nothing is heard of it, another may try at this time.
    Trying { until_ms: u64 },
}

impl Default for State {
    fn default() -> State {
        State::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a call may pass that will end by `deadline_ms` from now; if not, when to ask again, in milliseconds.
    pub(super) fn pass(&mut self, now_ms: u64, deadline_ms: u64) -> Result<(), u64> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until_ms } | State::Trying { until_ms } if now_ms < until_ms => Err(until_ms - now_ms),
            State::Open { .. } | State::Trying { .. } => {
                self.state = State::Trying { until_ms: now_ms + deadline_ms.max(1) };
                Ok(())
            }
        }
    }

    /// A call was answered.
    pub(super) fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// A call was not answered, or not properly.
    pub(super) fn failed(&mut self, now_ms: u64) {
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES => {
                self.state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } | State::Trying { .. } => {
                self.open_ms = (self.open_ms * 2).clamp(OPEN_MS.0, OPEN_MS.1);
                self.state = State::Open { until_ms: now_ms + self.open_ms };
            }
            // A call that had passed before it opened says nothing new.
            State::Open { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Step {
        Fail(u64),
        Succeed,
        Pass(u64),
        Refuse(u64, u64),
    }
    use Step::{Fail, Pass, Refuse, Succeed};

    fn check(steps: &[Step]) {
        let mut breaker = Breaker::default();
        for (i, step) in steps.iter().enumerate() {
            match step {
                Fail(now) => breaker.failed(*now),
                Succeed => breaker.succeeded(),
                Pass(now) => assert_eq!(breaker.pass(*now, 500), Ok(()), "step {i}"),
                Refuse(now, retry_in) => assert_eq!(breaker.pass(*now, 500), Err(*retry_in), "step {i}"),
            }
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        check(&[Fail(0), Fail(0), Fail(0), Fail(0), Succeed, Fail(1), Fail(1), Fail(1), Fail(1), Pass(1)]);
        check(&[Fail(0), Fail(0), Fail(0), Fail(0), Fail(0), Refuse(0, 1000), Refuse(999, 1)]);
    }

    #[test]
    fn one_call_tries_and_decides() {
        let opened = || vec![Fail(0), Fail(0), Fail(0), Fail(0), Fail(0), Pass(1000), Refuse(1001, 499)];
        let with = |more: Vec<Step>| check(&opened().into_iter().chain(more).collect::<Vec<_>>());
        with(vec![Succeed, Pass(1002), Pass(1002)]);
        with(vec![Fail(1500), Refuse(1500, 2000), Pass(3500), Fail(3600), Refuse(3600, 4000)]);
        with(vec![Pass(1500), Refuse(1501, 499)]);
    }

    #[test]
    fn the_pause_has_a_bound() {
        let mut breaker = Breaker::default();
        let mut now = 0;
        for _ in 0..100 {
            breaker.failed(now);
            if let Err(wait) = breaker.pass(now, 1) {
                assert!(wait <= OPEN_MS.1);
                now += wait;
                assert!(breaker.pass(now, 1).is_ok());
            }
        }
    }
}
