//! How many players this gateway sent to each frontend lately: what their loads do not say yet.
//!
//! Heartbeats come about once a second; within that time a burst would otherwise all go to the same frontend.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh::NodeId;
use rustc_hash::FxHashMap;
use tokio::time::Instant;

/// The length of one of the two windows that are counted: a player sent counts for one to two of them.
const WINDOW: Duration = Duration::from_millis(1_500);

/// Counts of the present window and the one before.
#[derive(Debug, Default)]
pub struct Sent {
    windows: Mutex<Option<Windows>>,
}

#[derive(Debug)]
struct Windows {
    since: Instant,
    now: FxHashMap<NodeId, u32>,
    before: FxHashMap<NodeId, u32>,
}

impl Sent {
    /// One more was sent there.
    pub fn count(&self, node: &NodeId) {
        self.with(|windows| *windows.now.entry(node.clone()).or_default() += 1);
    }

    /// How many were sent there lately.
    pub fn lately(&self, node: &NodeId) -> u32 {
        self.with(|windows| windows.now.get(node).unwrap_or(&0) + windows.before.get(node).unwrap_or(&0))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Windows) -> T) -> T {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Windows { since: now, now: FxHashMap::default(), before: FxHashMap::default() };
        let windows = windows.get_or_insert_with(fresh);
        let age = now.duration_since(windows.since);
        if age >= WINDOW {
            let last = std::mem::take(&mut windows.now);
            windows.before = if age < WINDOW * 2 { last } else { FxHashMap::default() };
            windows.since = now;
        }
        look(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_counts_until_loads_must_have_told() {
        let (sent, a, b) = (Sent::default(), NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        for _ in 0..3 {
            sent.count(&a);
        }
        assert_eq!((sent.lately(&a), sent.lately(&b)), (3, 0));
        tokio::time::advance(WINDOW).await;
        sent.count(&a);
        assert_eq!(sent.lately(&a), 4);
        tokio::time::advance(WINDOW).await;
        assert_eq!(sent.lately(&a), 1);
        tokio::time::advance(WINDOW * 3).await;
        assert_eq!(sent.lately(&a), 0);
    }
}
