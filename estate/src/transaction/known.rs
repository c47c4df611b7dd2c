//! What one node has seen of others' transactions: since when each has been pending, and which are surely closed; and which
//! operations it drives itself.
//!
//! Both memories are bounded and only spare time: a forgotten attempt is waited for anew or looked up again. They NEVER
//! decide anything; the arbiters do.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

use super::OperationId;

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
    /// How many attempts of this node stand, by operation: no more than drivers run.
    driven: FxHashMap<OperationId, usize>,
}

/// An attempt of this node that stands in its arbiter.
pub(super) struct Driven<'a> {
    known: &'a Known,
    op: OperationId,
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.known.with(|inner| {
            if let Some(attempts) = inner.driven.get_mut(&self.op) {
                *attempts -= 1;
                if *attempts == 0 {
                    inner.driven.remove(&self.op);
                }
            }
        });
    }
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

    /// An attempt at this operation stands in its arbiter, until what is given back is dropped.
    pub(super) fn drive(&self, op: OperationId) -> Driven<'_> {
        self.with(|inner| *inner.driven.entry(op).or_default() += 1);
        Driven { known: self, op }
    }

    /// True while an attempt of this node at this operation stands in its arbiter.
    pub(super) fn is_driven(&self, op: OperationId) -> bool {
        self.with(|inner| inner.driven.contains_key(&op))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        // Both memories stay whole if a thread panics in between: each change is one insertion or removal.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
