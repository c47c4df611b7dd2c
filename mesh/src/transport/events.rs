//! The way of events from a driver to its hub: a channel that is bounded in number and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{Notify, mpsc};

use super::{EVENTS, EVENTS_BYTES, Event, weight};

/// The hub's end.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    waiting: Arc<Waiting>,
}

/// The driver's end.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<Event>,
    waiting: Arc<Waiting>,
}

/// Room for one event.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    permit: mpsc::Permit<'a, Event>,
    waiting: &'a Waiting,
}

/// The hub is gone.
#[derive(Debug)]
pub(super) struct HubGone;

#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    room: Notify,
}

/// Makes both ends.
pub(super) fn channel() -> (Outbox, Events) {
    let (sender, receiver) = mpsc::channel(EVENTS);
    let waiting = Arc::<Waiting>::default();
    (Outbox { sender, waiting: waiting.clone() }, Events { receiver, waiting })
}

impl Events {
    /// The next event; `None` when the driver has ended. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await?;
        self.waiting.taken(&event);
        Some(event)
    }

    /// The next event, if one is there.
    pub fn try_recv(&mut self) -> Result<Event, TryRecvError> {
        let event = self.receiver.try_recv()?;
        self.waiting.taken(&event);
        Ok(event)
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

impl Outbox {
    /// Waits for room. One event of any size fits whenever the bytes that wait are below their limit. Cancel-safe.
    pub(super) async fn reserve(&self) -> Result<Permit<'_>, HubGone> {
        loop {
            // Made before the look, so that room that is made in between is not missed.
            let room = self.waiting.room.notified();
            if self.waiting.bytes.load(Ordering::Acquire) < EVENTS_BYTES {
                break;
            }
            tokio::select! {
                biased;
                () = self.sender.closed() => return Err(HubGone),
                () = room => {}
            }
        }
        let permit = self.sender.reserve().await.map_err(|_| HubGone)?;
        Ok(Permit { permit, waiting: &self.waiting })
    }

    /// Waits for room and sends.
    pub(super) async fn send(&self, event: Event) -> Result<(), HubGone> {
        self.reserve().await?.send(event);
        Ok(())
    }

    /// Sends if there is room.
    pub(super) fn try_send(&self, event: Event) -> Result<(), TrySendError<Event>> {
        if self.waiting.bytes.load(Ordering::Acquire) >= EVENTS_BYTES {
            return Err(TrySendError::Full(event));
        }
        let bytes = bytes(&event);
        self.waiting.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.sender.try_send(event).inspect_err(|_| {
            self.waiting.bytes.fetch_sub(bytes, Ordering::AcqRel);
        })
    }

    /// True if the hub has no room at the moment.
    pub(super) fn full(&self) -> bool {
        self.sender.capacity() == 0 || self.waiting.bytes.load(Ordering::Acquire) >= EVENTS_BYTES
    }
}

impl Permit<'_> {
    /// Sends.
    pub(super) fn send(self, event: Event) {
        self.waiting.bytes.fetch_add(bytes(&event), Ordering::AcqRel);
        self.permit.send(event);
    }
}

impl Waiting {
    fn taken(&self, event: &Event) {
        let bytes = bytes(event);
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= EVENTS_BYTES && before - bytes < EVENTS_BYTES {
            self.room.notify_waiters();
        }
    }
}

fn bytes(event: &Event) -> usize {
    match event {
        Event::Published { parts, .. } => weight(parts),
        Event::Requested { message, .. } | Event::Answered { message, .. } => message.len(),
        Event::Broken { .. } | Event::Lost { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::LinkId;
    use bytes::Bytes;

    fn heavy() -> Event {
        Event::Answered { link: LinkId(1), message: Bytes::from(vec![0; EVENTS_BYTES / 4]) }
    }

    #[tokio::test]
    async fn the_bytes_that_wait_are_bounded_too() {
        let (outbox, mut events) = channel();
        for _ in 0..4 {
            outbox.try_send(heavy()).expect("room");
        }
        assert!(outbox.full());
        assert!(matches!(outbox.try_send(heavy()), Err(TrySendError::Full(_))));
        let mut sending = Box::pin(outbox.send(heavy()));
        tokio::select! {
            biased;
            _ = &mut sending => panic!("there was no room"),
            () = tokio::task::yield_now() => {}
        }
        assert!(events.recv().await.is_some());
        assert!(sending.await.is_ok());
        drop(events);
        assert!(outbox.send(heavy()).await.is_err());
    }
}
