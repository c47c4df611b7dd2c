//! Whether this process has slept of late: stopped, swapped out, or starved.
//!
//! What waited meanwhile is as old as that, and whoever asked may have gone elsewhere long ago. A beat comes ten times a second;
//! one that is missing tells, whether or not anybody has noticed it yet. It is about this process's own clock only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Between two beats.
const BEAT: Duration = Duration::from_millis(100);

/// A pause between two beats that is sleep.
const SLEPT_MS: u64 = 1_000;

/// How long what waited is let come in after that, to be refused.
const WAKING_MS: u64 = 1_000;

/// The pulse of this process.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    /// The last beat, in milliseconds after `began`.
    last_ms: AtomicU64,
    /// Until when what comes in may be as old as the sleep.
    waking_ms: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Pulse {
        Pulse { began: Instant::now(), last_ms: AtomicU64::new(0), waking_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// True if what comes in now has not waited for long.
    pub(super) fn is_steady(&self) -> bool {
        let now = self.now_ms();
        let awake = now.saturating_sub(self.last_ms.load(Ordering::SeqCst)) < SLEPT_MS;
        awake && now >= self.waking_ms.load(Ordering::SeqCst)
    }

    fn beats(&self) {
        let now = self.now_ms();
        if now.saturating_sub(self.last_ms.swap(now, Ordering::SeqCst)) >= SLEPT_MS {
            self.waking_ms.store(now + WAKING_MS, Ordering::SeqCst);
        }
    }

    /// Beats until the node stops.
    pub(super) async fn beat(&self) {
        loop {
            self.beats();
            sleep(BEAT).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waited_while_the_process_slept_is_known_to_be_old_before_and_after_the_next_beat() {
        let pulse = Pulse::new();
        pulse.beats();
        assert!(pulse.is_steady());
        advance(Duration::from_millis(SLEPT_MS)).await;
        assert!(!pulse.is_steady(), "nobody has noticed yet");
        pulse.beats();
        assert!(!pulse.is_steady(), "what waited comes now");
        for _ in 0..10 {
            advance(BEAT).await;
            pulse.beats();
        }
        assert!(pulse.is_steady());
    }
}
