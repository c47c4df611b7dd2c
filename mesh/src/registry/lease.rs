//! How long this node may surely act as an owner: the own lease, counted on this node's monotonic clock alone.
//!
//! The count begins when the last successful renewal was *sent*, and ends a margin before the lease could. It needs no
//! event to be right: whoever asks after a long freeze gets a no, whatever tasks have or have not run yet. The clock
//! stands still while a virtual machine is suspended; then only compare-and-swap protects, as it always does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The part of a lease that is not used: time to stop acting before others may begin.
const MARGIN_PERCENT: u32 = 20;

/// How long after sending a renewal a node may act as an owner.
pub(super) fn usable(ttl: Duration) -> Duration {
    ttl * (100 - MARGIN_PERCENT) / 100
}

/// The own lease, readable from anywhere. Clones share it.
#[derive(Clone, Debug)]
pub struct OwnLease {
    began: Instant,
    /// Milliseconds after `began`; 0: not held.
    until_ms: Arc<AtomicU64>,
    /// Renewals that came when the lease was not held any more.
    gaps: Arc<AtomicU64>,
}

impl OwnLease {
    pub(super) fn new() -> OwnLease {
        OwnLease { began: Instant::now(), until_ms: Arc::default(), gaps: Arc::default() }
    }

    /// True if this node may act as an owner at this moment.
    pub fn holds(&self) -> bool {
        !self.left().is_zero() || (planted::is("freeze_unnoticed") && self.until_ms.load(Ordering::SeqCst) != 0)
    }

    /// For how long from now on the node may surely act as an owner.
    pub fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    /// How often the node has come by its lease anew, the first time included. Whoever finds the lease held, and this number
    /// as it was, knows that it was held all the time between: others cannot have taken anything over. To be read after
    /// [`OwnLease::holds`].
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::SeqCst)
    }

    pub(super) fn until(&self) -> Instant {
        self.began + Duration::from_millis(self.until_ms.load(Ordering::SeqCst))
    }

    /// Counts anew from a renewal sent at `sent`.
    pub(super) fn renewed(&self, sent: Instant, ttl: Duration) {
        if !self.holds() {
            // Before the lease can be found held again.
            self.gaps.fetch_add(1, Ordering::SeqCst);
        }
        let until = (sent + usable(ttl)).saturating_duration_since(self.began);
        self.until_ms.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(super) fn end(&self) {
        self.until_ms.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_from_when_its_renewal_was_sent() {
        let lease = OwnLease::new();
        assert!(!lease.holds());
        let sent = Instant::now();
        advance(Duration::from_secs(1)).await;
        lease.renewed(sent, Duration::from_secs(5));
        assert_eq!(lease.left(), Duration::from_secs(3));
        advance(Duration::from_millis(2999)).await;
        assert!(lease.holds());
        advance(Duration::from_millis(1)).await;
        assert!(!lease.holds(), "a fifth of the lease before it ends");
        assert_eq!(lease.gaps(), 1);
        lease.renewed(Instant::now(), Duration::from_secs(5));
        assert!(lease.holds());
        assert_eq!(lease.gaps(), 2, "it was not held all the time");
        advance(Duration::from_secs(1)).await;
        lease.renewed(Instant::now(), Duration::from_secs(5));
        assert_eq!(lease.gaps(), 2, "it was");
        lease.end();
        assert!(!lease.holds());
    }
}
