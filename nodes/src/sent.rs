//! How many players this node sent to each frontend lately, and where they arrive: what their loads do not say yet.
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
pub(crate) struct Sent {
    windows: Mutex<Option<Windows>>,
}

#[derive(Debug)]
struct Windows {
    since: Instant,
    now: Counts,
    before: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    all: FxHashMap<NodeId, u32>,
    blocks: FxHashMap<(NodeId, u32), u32>,
}

impl Sent {
    /// One more was sent there, to arrive in this block (by its mark, see `load`).
    pub(crate) fn count(&self, node: &NodeId, block: Option<u32>) {
        self.with(|windows| {
            *windows.now.all.entry(node.clone()).or_default() += 1;
            if let Some(block) = block {
                *windows.now.blocks.entry((node.clone(), block)).or_default() += 1;
            }
        });
    }

    /// How many were sent there lately, in all and to this block.
    pub(crate) fn lately(&self, node: &NodeId, block: Option<u32>) -> (u32, u32) {
        let at = block.map(|block| (node.clone(), block));
        self.with(|windows| {
            let both = [&windows.now, &windows.before];
            let all = both.iter().filter_map(|counts| counts.all.get(node)).sum();
            let here = both.iter().filter_map(|counts| counts.blocks.get(at.as_ref()?)).sum();
            (all, here)
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Windows) -> T) -> T {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Windows { since: now, now: Counts::default(), before: Counts::default() };
        let windows = windows.get_or_insert_with(fresh);
        let age = now.duration_since(windows.since);
        if age >= WINDOW {
            let last = std::mem::take(&mut windows.now);
            windows.before = if age < WINDOW * 2 { last } else { Counts::default() };
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
        for block in [Some(1), Some(1), Some(2), None] {
            sent.count(&a, block);
        }
        assert_eq!((sent.lately(&a, Some(1)), sent.lately(&b, Some(1))), ((4, 2), (0, 0)));
        tokio::time::advance(WINDOW).await;
        sent.count(&a, Some(1));
        assert_eq!(sent.lately(&a, Some(1)), (5, 3));
        tokio::time::advance(WINDOW).await;
        assert_eq!(sent.lately(&a, Some(1)), (1, 1));
        tokio::time::advance(WINDOW * 3).await;
        assert_eq!(sent.lately(&a, None), (0, 0));
    }
}
