//! The state of a network in memory: its nodes, their connections, and what is under way between them.
//!
//! All of it is behind one lock, and no call waits. Time comes in as an argument. Whatever is iterated has an order of
//! its own, so that runs repeat.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::{Fault, Faults, Name};
use super::flight::{Counted, Flight, Payload, Stream, Way};
use super::links::SILENCE;
use crate::transport::events::Outbox;
use crate::transport::{Command, Counters, Event, LinkId, MESSAGE_BYTES, Route, Topic, fits, weight};

/// One life of a node on the network; rises with each.
pub(super) type Key = u64;

/// One connection; rises with each. 0 is none.
pub(super) type ConnId = u64;

/// What a node's driver should do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing any more: the node has left, or another life has its name.
    Gone,
    /// [`Network::take`] an event as soon as the hub has room.
    Ready,
    /// Ask again then, or when woken.
    At(Option<Instant>),
}

/// The state.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) faults: Faults,
    pub(super) names: BTreeMap<Name, Key>,
    pub(super) nodes: BTreeMap<Key, Node>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) last: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Name,
    pub(super) events: Outbox,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: Arc<Notify>,
    pub(super) interest: FxHashSet<Topic>,
    pub(super) links: BTreeMap<LinkId, Link>,
    /// Connections that others opened to this node.
    pub(super) inbound: Vec<ConnId>,
    pub(super) under_way: BinaryHeap<Flight>,
    pub(super) under_way_bytes: usize,
}

/// A link that a node opened.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) to: Name,
    /// The present connection, or the last one while its remains are under way.
    pub(super) conn: ConnId,
    pub(super) up: bool,
    /// Messages may have been missed: `Lost` is due when messages flow again.
    pub(super) missed: bool,
    pub(super) retry_at: Option<Instant>,
    pub(super) silent_at: Option<Instant>,
    pub(super) broken_at: Option<Instant>,
}

/// Both connections of one link, while it is up.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) owner: Key,
    pub(super) link: LinkId,
    pub(super) to: Key,
    pub(super) owner_name: Name,
    pub(super) to_name: Name,
    pub(super) interest: FxHashSet<Topic>,
    pub(super) streams: [Stream; 4],
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        let (names, nodes, conns) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Network { faults: Faults::new(seed), names, nodes, conns, last: 0 }
    }

    /// A node appears.
    pub(super) fn join(
        &mut self,
        now: Instant,
        name: &str,
        events: Outbox,
        counters: Arc<Counters>,
        wake: Arc<Notify>,
    ) -> Key {
        if let Some(former) = self.names.get(name).copied() {
            self.leave(now, former);
        }
        let (key, name) = (self.number(), Name::from(name));
        self.names.insert(name.clone(), key);
        let (interest, links, inbound, under_way) = Default::default();
        let node = Node { name, events, counters, wake, interest, links, inbound, under_way, under_way_bytes: 0 };
        self.nodes.insert(key, node);
        key
    }

    /// A node is gone, for good. Its peers' links break, now or, behind a cut, when they notice.
    pub(super) fn leave(&mut self, now: Instant, key: Key) {
        let Some(node) = self.nodes.remove(&key) else { return };
        node.wake.notify_one();
        self.names.remove(&node.name);
        for link in node.links.into_values() {
            self.close(link.conn);
        }
        for conn in node.inbound {
            let Some(Conn { owner, link, to_name, owner_name, .. }) = self.conns.get(&conn) else { continue };
            let (owner, link) = (*owner, *link);
            let cut = self.faults.cut(to_name, owner_name);
            let Some(opened) = self.nodes.get_mut(&owner).and_then(|n| n.links.get_mut(&link)) else { continue };
            opened.up = false;
            opened.missed = true;
            if cut {
                opened.silent_at.get_or_insert(now + SILENCE);
                self.wake(owner);
            } else {
                self.transmit(now, conn, Way::Answers, Payload::Event(Event::Broken { link }));
            }
        }
    }

    /// Does what a node's hub asks.
    pub(super) fn obey(&mut self, now: Instant, key: Key, command: Command) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        match command {
            Command::Publish { topic, parts } => self.publish(now, key, &topic, parts),
            Command::Send { link, message } => {
                let conn = node.links.get(&link).filter(|l| l.up).map(|l| l.conn);
                self.send(now, key, conn, Way::Requests, message);
            }
            Command::Answer { route, message } => {
                let conn = <[u8; 8]>::try_from(&route.0[..]).ok().map(u64::from_be_bytes);
                self.send(now, key, conn, Way::Answers, message);
            }
            Command::Subscribe(topic) => {
                if node.interest.insert(topic.clone()) {
                    self.tell_peers(now, key, || Payload::Add(topic.clone()));
                }
            }
            Command::Unsubscribe(topic) => {
                if node.interest.remove(&topic) {
                    self.tell_peers(now, key, || Payload::Remove(topic.clone()));
                }
            }
            Command::Connect { link, to } => {
                self.disconnect(key, link);
                self.open(now, key, link, &to);
            }
            Command::Disconnect { link } => self.disconnect(key, link),
        }
    }

    pub(super) fn set_fault(&mut self, now: Instant, from: &str, to: &str, fault: Option<Fault>) {
        self.faults.set(from, to, fault);
        self.faults_changed(now);
    }

    pub(super) fn set_default_fault(&mut self, now: Instant, fault: Fault) {
        self.faults.set_default(fault);
        self.faults_changed(now);
    }

    pub(super) fn heal(&mut self, now: Instant) {
        self.faults.clear();
        self.faults_changed(now);
    }

    /// Does what is due at a node and needs no event, and says what comes next.
    pub(super) fn next(&mut self, now: Instant, key: Key) -> Next {
        if !self.nodes.contains_key(&key) {
            return Next::Gone;
        }
        self.run_links(now, key);
        self.tell_losses(now, key);
        loop {
            let Some(node) = self.nodes.get_mut(&key) else { return Next::Gone };
            let Some(first) = node.under_way.peek() else {
                let timers = node.links.values().flat_map(|l| [l.retry_at, l.silent_at]).flatten().min();
                return Next::At(timers);
            };
            if first.due > now {
                let timers = node.links.values().flat_map(|l| [l.retry_at, l.silent_at]).flatten();
                return Next::At(Some(timers.fold(first.due, Instant::min)));
            }
            if matches!(first.payload, Payload::Event(_)) {
                return Next::Ready;
            }
            self.take(now, key);
        }
    }

    /// Takes the first message that is due at a node. `None` if it came to nothing.
    pub(super) fn take(&mut self, now: Instant, key: Key) -> Option<Event> {
        let node = self.nodes.get_mut(&key)?;
        if node.under_way.peek().is_none_or(|f| f.due > now) {
            return None;
        }
        let flight = node.under_way.pop()?;
        node.under_way_bytes -= flight.payload.bytes();
        if let Some(conn) = self.conns.get_mut(&flight.conn) {
            conn.streams[flight.way as usize].under_way -= 1;
        }
        let event = self.arrive(now, key, flight.conn, flight.payload)?;
        Counted::of(&event).add(&self.nodes.get(&key)?.counters);
        Some(event)
    }

    fn publish(&mut self, now: Instant, key: Key, topic: &Topic, parts: Vec<Bytes>) {
        let Some(node) = self.nodes.get(&key) else { return };
        if !fits(&parts) {
            Counters::add(&node.counters.refused, 1);
            return;
        }
        Counters::add(&node.counters.published, 1);
        Counters::add(&node.counters.published_bytes, weight(&parts) as u64);
        for index in 0..node.inbound.len() {
            // Transmitting opens and closes nothing, so that the indices stay.
            let Some(conn) = self.nodes.get(&key).and_then(|n| n.inbound.get(index).copied()) else { return };
            let Some(to) = self.conns.get(&conn).filter(|c| c.interest.contains(topic)) else { continue };
            let published = Event::Published { link: to.link, topic: topic.clone(), parts: parts.clone() };
            self.transmit(now, conn, Way::Published, Payload::Event(published));
        }
    }

    fn send(&mut self, now: Instant, key: Key, conn: Option<ConnId>, way: Way, message: Bytes) {
        let Some(node) = self.nodes.get(&key) else { return };
        if message.len() > MESSAGE_BYTES {
            Counters::add(&node.counters.refused, 1);
            return;
        }
        let known = conn.and_then(|id| self.conns.get(&id).map(|c| (id, c.owner == key, c.to == key, c.link)));
        let event = match (known, way) {
            (Some((id, true, ..)), Way::Requests) => {
                Event::Requested { route: Route(Bytes::copy_from_slice(&id.to_be_bytes())), message }
            }
            (Some((_, _, true, link)), Way::Answers) => Event::Answered { link, message },
            _ => {
                Counters::add(&node.counters.dropped, 1);
                return;
            }
        };
        if let Some(conn) = conn {
            self.transmit(now, conn, way, Payload::Event(event));
        }
    }

    pub(super) fn tell_peers(&mut self, now: Instant, key: Key, payload: impl Fn() -> Payload) {
        let Some(node) = self.nodes.get(&key) else { return };
        let conns: Vec<ConnId> = node.links.values().filter(|l| l.up).map(|l| l.conn).collect();
        for conn in conns {
            self.transmit(now, conn, Way::Interest, payload());
        }
    }

    pub(super) fn wake(&self, key: Key) {
        if let Some(node) = self.nodes.get(&key) {
            node.wake.notify_one();
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}
