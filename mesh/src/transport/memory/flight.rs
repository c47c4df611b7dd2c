//! Messages under way in memory: what befalls them, where they wait, and what they do where they arrive.

use rustc_hash::FxHashSet;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::faults::Fate;
use super::links::{BROKEN_AGAIN, RETRY};
use super::network::{ConnId, Key, Network};
use crate::transport::{Counters, Event, LinkId, Topic, weight};

/// Messages under way to one node, at most; beyond it they are dropped (and the loss told, where it would be silent).
const UNDER_WAY: usize = 65_536;

/// The same, in bytes.
const UNDER_WAY_BYTES: usize = 64 << 20;

/// One order of messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// From the peer to the owner of the link.
    Published,
    /// From the peer to the owner of the link.
    Answers,
    /// From the owner of the link to the peer.
    Requests,
    /// From the owner of the link to the peer.
    Interest,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    pub(super) last: Option<Instant>,
    pub(super) under_way: u32,
}

#[derive(Debug)]
pub(super) enum Payload {
    Event(Event),
    Add(Topic),
    Remove(Topic),
    Interest(FxHashSet<Topic>),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) due: Instant,
    pub(super) order: u64,
    pub(super) conn: ConnId,
    pub(super) way: Way,
    pub(super) payload: Payload,
}

impl Network {
    /// Sends a payload on its way, and marks what a cut swallows.
    pub(super) fn transmit(&mut self, now: Instant, id: ConnId, way: Way, payload: Payload) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (receiver, from, to) = match way {
            Way::Published | Way::Answers => (conn.owner, &conn.to_name, &conn.owner_name),
            Way::Requests | Way::Interest => (conn.to, &conn.owner_name, &conn.to_name),
        };
        let (owner, link) = (conn.owner, conn.link);
        let published = matches!(payload, Payload::Event(Event::Published { .. } | Event::Lost { .. }));
        match self.faults.fate(from, to, payload.is_message()) {
            Fate::Arrives(after) => {
                if matches!(payload, Payload::Event(Event::Published { .. })) {
                    if self.catching_up(owner, link) {
                        return;
                    }
                    self.tell_lost(now, owner, link);
                }
                let Some(stream) = self.conns.get(&id).map(|c| c.streams[way as usize]) else { return };
                let due = stream.last.map_or(now + after, |last| last.max(now + after));
                if after.is_zero() && stream.under_way == 0 {
                    self.hand_over(now, receiver, id, way, payload);
                } else {
                    self.enqueue(receiver, Flight { due, order: 0, conn: id, way, payload });
                }
            }
            Fate::Cut if published => self.missed(owner, link),
            Fate::Cut | Fate::Vanishes => {}
        }
    }

    pub(super) fn missed(&mut self, owner: Key, link: LinkId) {
        if let Some(link) = self.nodes.get_mut(&owner).and_then(|n| n.links.get_mut(&link)) {
            link.missed = true;
        }
    }

    /// True while a hub that has missed something for want of room has still much to take: then it misses more, rather
    /// than being told of one loss after the other. Counts what it misses.
    fn catching_up(&self, owner: Key, link: LinkId) -> bool {
        let Some(node) = self.nodes.get(&owner) else { return false };
        let missed = node.links.get(&link).is_some_and(|l| l.missed);
        let behind = missed && (node.under_way.len() > UNDER_WAY / 2 || node.under_way_bytes > UNDER_WAY_BYTES / 2);
        if behind {
            Counters::add(&node.counters.dropped, 1);
        }
        behind
    }

    /// Gives a payload to its receiver at once, or, if its hub has no room or others wait already, lets it wait.
    pub(super) fn hand_over(&mut self, now: Instant, receiver: Key, conn: ConnId, way: Way, mut payload: Payload) {
        let Some(node) = self.nodes.get(&receiver) else { return };
        if node.under_way.peek().is_none_or(|first| first.due > now) {
            let Some(event) = self.arrive(now, receiver, conn, payload) else { return };
            let Some(node) = self.nodes.get(&receiver) else { return };
            let counted = Counted::of(&event);
            match node.events.try_send(event) {
                Ok(()) => return counted.add(&node.counters),
                Err(TrySendError::Full(event)) => payload = Payload::Event(event),
                Err(TrySendError::Closed(_)) => return,
            }
        }
        self.enqueue(receiver, Flight { due: now, order: 0, conn, way, payload });
    }

    fn enqueue(&mut self, receiver: Key, mut flight: Flight) {
        flight.order = self.number();
        let Some(node) = self.nodes.get_mut(&receiver) else { return };
        let bytes = flight.payload.bytes();
        let full = node.under_way.len() >= UNDER_WAY || node.under_way_bytes + bytes > UNDER_WAY_BYTES;
        if full && flight.payload.is_message() && !node.under_way.is_empty() {
            Counters::add(&node.counters.dropped, 1);
            if let Payload::Event(Event::Published { link, .. }) = flight.payload {
                self.missed(receiver, link);
            }
            return;
        }
        if let Some(conn) = self.conns.get_mut(&flight.conn) {
            let stream = &mut conn.streams[flight.way as usize];
            stream.last = Some(flight.due);
            stream.under_way += 1;
        }
        node.under_way_bytes += bytes;
        let first = node.under_way.peek().is_none_or(|f| flight.due < f.due);
        node.under_way.push(flight);
        if first {
            node.wake.notify_one();
        }
    }

    /// What a payload does where it arrives. Doing it twice does no harm.
    pub(super) fn arrive(&mut self, now: Instant, key: Key, id: ConnId, payload: Payload) -> Option<Event> {
        let event = match payload {
            Payload::Event(event) => event,
            Payload::Add(topic) => {
                self.conns.get_mut(&id)?.interest.insert(topic);
                return None;
            }
            Payload::Remove(topic) => {
                self.conns.get_mut(&id)?.interest.remove(&topic);
                return None;
            }
            Payload::Interest(topics) => {
                self.conns.get_mut(&id)?.interest = topics;
                return None;
            }
        };
        let node = self.nodes.get_mut(&key)?;
        match &event {
            Event::Requested { .. } => {}
            Event::Broken { link } => {
                let link = node.links.get_mut(link)?;
                if !link.up && link.retry_at.is_none() {
                    (link.retry_at, link.broken_at) = (Some(now + RETRY), Some(now + BROKEN_AGAIN));
                    node.wake.notify_one();
                }
            }
            Event::Published { link, .. } | Event::Answered { link, .. } | Event::Lost { link } => {
                node.links.get(link).filter(|l| l.conn == id)?;
            }
        }
        Some(event)
    }
}

/// What an event adds to its receiver's counts.
pub(super) struct Counted {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Counted {
    pub(super) fn of(event: &Event) -> Counted {
        match event {
            Event::Published { parts, .. } => Counted { messages: 1, bytes: weight(parts) as u64 },
            _ => Counted { messages: 0, bytes: 0 },
        }
    }

    pub(super) fn add(self, counters: &Counters) {
        Counters::add(&counters.received, self.messages);
        Counters::add(&counters.received_bytes, self.bytes);
    }
}

impl Payload {
    /// True if it is a hub's, so that it may be lost.
    fn is_message(&self) -> bool {
        matches!(self, Payload::Event(Event::Published { .. } | Event::Requested { .. } | Event::Answered { .. }))
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Payload::Event(Event::Published { parts, .. }) => weight(parts),
            Payload::Event(Event::Requested { message, .. } | Event::Answered { message, .. }) => message.len(),
            _ => 0,
        }
    }
}

/// The heap gives the greatest first: that is the one due first, and of those the one that was sent first.
impl Ord for Flight {
    fn cmp(&self, other: &Flight) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Flight) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Flight) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}
