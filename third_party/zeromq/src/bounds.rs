//! wildmesh: what a peer may cost. This file is not part of upstream; see README.md.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// What a peer may cost. Whoever goes beyond loses its connection; nobody else notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The bytes of all frames of one incoming message together. An announced length beyond it is refused before
    /// anything is reserved for it.
    pub message_bytes: usize,
    /// The frames of one incoming message.
    pub message_frames: usize,
    /// The bytes of one command frame, and of any frame that comes before the peer's READY.
    pub command_bytes: usize,
    /// The subscriptions that a PUB socket keeps for one peer.
    pub subscriptions: usize,
    /// The accepted connections that one binding holds at once, half-open ones included; further ones are closed.
    pub connections: usize,
    /// How long an accepted connection may take to greet.
    pub handshake: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            message_bytes: 64 << 20,
            message_frames: 64 << 10,
            command_bytes: 8 << 10,
            subscriptions: 64 << 10,
            connections: 4_096,
            handshake: crate::DEFAULT_CONNECT_TIMEOUT,
        }
    }
}

/// One of the connections that a binding may hold; given back when both halves of the connection are gone.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    pub(crate) fn take(held: &Arc<AtomicUsize>, max: usize) -> Option<Arc<Slot>> {
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < max).then_some(n + 1)
        })
        .ok()?;
        Some(Arc::new(Slot(held.clone())))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
