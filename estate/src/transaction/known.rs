//! What one node has seen of others' transactions: since when each has been pending, and which are surely closed.
//!
//! Both memories are bounded and only spare time: a forgotten attempt is waited for anew or looked up again. They NEVER
//! decide anything; the arbiters do.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

/// How many attempts are remembered of each sort.
const MOST: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pending: FxHashMap<u64, Instant>,
    pending_order: VecDeque<u64>,
    closed: FxHashSet<u64>,
    closed_order: VecDeque<u64>,
}

impl Known {
    /// How long this attempt has been seen pending: nothing at the first time.
    pub(super) fn pending_for(&self, token: u64) -> Duration {
        let now = Instant::now();
        self.with(|inner| {
            if let Some(first) = inner.pending.get(&token) {
                return now.duration_since(*first);
            }
            if inner.pending_order.len() == MOST
                && let Some(oldest) = inner.pending_order.pop_front()
            {
                inner.pending.remove(&oldest);
            }
            inner.pending_order.push_back(token);
            inner.pending.insert(token, now);
            Duration::ZERO
        })
    }

    /// This attempt's arbiter is closed or gone: all its participants are clear.
    pub(super) fn close(&self, token: u64) {
        self.with(|inner| {
            if !inner.closed.insert(token) {
                return;
            }
            if inner.closed_order.len() == MOST
                && let Some(oldest) = inner.closed_order.pop_front()
            {
                inner.closed.remove(&oldest);
            }
            inner.closed_order.push_back(token);
        });
    }

    /// True if this attempt is known to be closed.
    pub(super) fn is_closed(&self, token: u64) -> bool {
        self.with(|inner| inner.closed.contains(&token))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        // Both memories stay whole if a thread panics in between: each change is one insertion or removal.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
