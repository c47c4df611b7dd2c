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
///
/// Two questions are answered. May this node *decide* as an owner ([`OwnLease::holds`])? Only while a part of the lease, the
/// margin, is still left. May what it *says* of what it owns still be heard ([`OwnLease::speaks`])? While the lease surely
/// lasts, so that the last word of an owner, that all stands still, is said before another may speak.
#[derive(Clone, Debug)]
pub struct OwnLease {
    began: Instant,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Milliseconds after `began`; 0: not held.
    until_ms: AtomicU64,
    /// When the lease itself may be over, in milliseconds after `began`; 0: it may be over now.
    over_ms: AtomicU64,
    /// How often the node has begun to hold.
    term: AtomicU64,
}

impl OwnLease {
    pub(super) fn new() -> OwnLease {
        OwnLease { began: Instant::now(), state: Arc::default() }
    }

    /// True if this node may act as an owner at this moment.
    pub fn holds(&self) -> bool {
        !self.left().is_zero() || (planted::is("freeze_unnoticed") && self.state.until_ms.load(Ordering::SeqCst) != 0)
    }

    /// True if nobody can have taken over yet: what this node says of what it owns may be said.
    pub fn speaks(&self) -> bool {
        self.holds() || Instant::now() < self.at(&self.state.over_ms)
    }

    /// The number of the unbroken time for which the lease is held at this moment. Whoever finds another one than before does
    /// not know that it was held in between: others may have taken over.
    pub fn term(&self) -> Option<u64> {
        let term = self.gaps();
        // A term that begins is counted before it holds: whoever reads in between finds none, and the new one next time.
        (self.holds() && self.gaps() == term).then_some(term)
    }

    /// For how long from now on the node may surely act as an owner.
    pub fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    /// How often the node has come by its lease anew, the first time included. Whoever finds the lease held, and this number
    /// as it was, knows that it was held all the time between: others cannot have taken anything over. To be read after
    /// [`OwnLease::holds`].
    pub fn gaps(&self) -> u64 {
        self.state.term.load(Ordering::SeqCst)
    }

    pub(super) fn until(&self) -> Instant {
        self.at(&self.state.until_ms)
    }

    fn at(&self, ms: &AtomicU64) -> Instant {
        self.began + Duration::from_millis(ms.load(Ordering::SeqCst))
    }

    /// Counts anew from a renewal sent at `sent`.
    pub(super) fn renewed(&self, sent: Instant, ttl: Duration) {
        let since_began = |at: Instant| {
            let ms = at.saturating_duration_since(self.began).as_millis();
            u64::try_from(ms).unwrap_or(u64::MAX)
        };
        if !self.holds() {
            self.state.term.fetch_add(1, Ordering::SeqCst);
        }
        self.state.over_ms.store(since_began(sent + ttl), Ordering::SeqCst);
        self.state.until_ms.store(since_began(sent + usable(ttl)), Ordering::SeqCst);
    }

    /// The node no longer decides. The lease itself may last.
    pub(super) fn lapse(&self) {
        self.state.until_ms.store(0, Ordering::SeqCst);
    }

    /// The lease is over, or the key is gone: others may take over.
    pub(super) fn end(&self) {
        self.lapse();
        self.state.over_ms.store(0, Ordering::SeqCst);
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

    #[tokio::test(start_paused = true)]
    async fn what_is_owned_may_be_spoken_of_as_long_as_the_lease_itself_lasts() {
        let lease = OwnLease::new();
        assert!(!lease.speaks());
        lease.renewed(Instant::now(), Duration::from_secs(5));
        advance(Duration::from_millis(4999)).await;
        assert!(!lease.holds() && lease.speaks());
        lease.lapse();
        assert!(lease.speaks(), "it has noticed in time");
        advance(Duration::from_millis(1)).await;
        assert!(!lease.speaks());
        lease.renewed(Instant::now(), Duration::from_secs(5));
        lease.end();
        assert!(!lease.speaks(), "the key is gone, whatever the clock says");
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_was_broken_is_told_from_one_that_was_not_even_if_nobody_looked_in_between() {
        let lease = OwnLease::new();
        assert_eq!(lease.term(), None);
        let renew = || lease.renewed(Instant::now(), Duration::from_secs(5));
        renew();
        let first = lease.term().expect("held");
        advance(Duration::from_secs(3)).await;
        renew();
        assert_eq!(lease.term(), Some(first));
        advance(Duration::from_secs(4)).await;
        assert_eq!(lease.term(), None);
        renew();
        let second = lease.term().expect("held");
        lease.end();
        renew();
        assert_eq!((second, lease.term()), (first + 1, Some(first + 2)));
    }
}
