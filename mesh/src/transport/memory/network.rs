//! The state of a network in memory: its nodes, their connections, and what is under way between them.
//!
//! All of it is behind one lock, and no call waits. Time comes in as an argument. Whatever is iterated has an order of
//! its own, so that runs repeat.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Duration, Instant};

use super::faults::{Fate, Fault, Faults, Name};
use crate::transport::events::Outbox;
use crate::transport::{Command, Counters, Endpoints, Event, LinkId, MESSAGE_BYTES, Route, Topic, fits, weight};

/// One life of a node on the network; rises with each.
pub(super) type Key = u64;

/// One connection; rises with each. 0 is none.
type ConnId = u64;

/// Messages under way to one node, at most; beyond it they are dropped (and the loss told, where it would be silent).
const UNDER_WAY: usize = 65_536;

/// The same, in bytes.
const UNDER_WAY_BYTES: usize = 64 << 20;

/// How long a cut must last until a link notices.
const SILENCE: Duration = Duration::from_secs(5);

/// The pause between attempts to connect again.
const RETRY: Duration = Duration::from_millis(100);

/// How often a link that does not come back says so.
const BROKEN_AGAIN: Duration = Duration::from_secs(3);

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
    faults: Faults,
    names: BTreeMap<Name, Key>,
    nodes: BTreeMap<Key, Node>,
    conns: BTreeMap<ConnId, Conn>,
    last: u64,
}

#[derive(Debug)]
struct Node {
    name: Name,
    events: Outbox,
    counters: Arc<Counters>,
    wake: Arc<Notify>,
    interest: FxHashSet<Topic>,
    links: BTreeMap<LinkId, Link>,
    /// Connections that others opened to this node.
    inbound: Vec<ConnId>,
    under_way: BinaryHeap<Flight>,
    under_way_bytes: usize,
}

/// A link that a node opened.
#[derive(Debug)]
struct Link {
    to: Name,
    /// The present connection, or the last one while its remains are under way.
    conn: ConnId,
    up: bool,
    /// Messages may have been missed: `Lost` is due when messages flow again.
    missed: bool,
    retry_at: Option<Instant>,
    silent_at: Option<Instant>,
    broken_at: Option<Instant>,
}

/// Both connections of one link, while it is up.
#[derive(Debug)]
struct Conn {
    owner: Key,
    link: LinkId,
    to: Key,
    owner_name: Name,
    to_name: Name,
    interest: FxHashSet<Topic>,
    streams: [Stream; 4],
}

/// One order of messages.
#[derive(Clone, Copy, Debug)]
enum Way {
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
struct Stream {
    last: Option<Instant>,
    under_way: u32,
}

#[derive(Debug)]
enum Payload {
    Event(Event),
    Add(Topic),
    Remove(Topic),
    Interest(FxHashSet<Topic>),
}

#[derive(Debug)]
struct Flight {
    due: Instant,
    order: u64,
    conn: ConnId,
    way: Way,
    payload: Payload,
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

    fn tell_peers(&mut self, now: Instant, key: Key, payload: impl Fn() -> Payload) {
        let Some(node) = self.nodes.get(&key) else { return };
        let conns: Vec<ConnId> = node.links.values().filter(|l| l.up).map(|l| l.conn).collect();
        for conn in conns {
            self.transmit(now, conn, Way::Interest, payload());
        }
    }

    fn open(&mut self, now: Instant, key: Key, link: LinkId, to: &Endpoints) {
        let name = to.publish.strip_prefix("mem://").and_then(|n| n.strip_suffix("/publish"));
        let name = name.unwrap_or(&to.publish).into();
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let opened = Link {
            to: name,
            conn: 0,
            up: false,
            missed: false,
            retry_at: Some(now),
            silent_at: None,
            broken_at: Some(now),
        };
        node.links.insert(link, opened);
        self.run_links(now, key);
    }

    fn disconnect(&mut self, key: Key, link: LinkId) {
        let link = self.nodes.get_mut(&key).and_then(|n| n.links.remove(&link));
        if let Some(link) = link {
            self.close(link.conn);
        }
    }

    /// Forgets a connection at its far end. What is under way on it comes to nothing, but for requests.
    fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        if let Some(peer) = self.nodes.get_mut(&conn.to) {
            peer.inbound.retain(|c| *c != id);
        }
    }

    /// Does what is due on a node's links: notices silence, connects again.
    fn run_links(&mut self, now: Instant, key: Key) {
        let Some(node) = self.nodes.get(&key) else { return };
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let waiting = node.links.iter().filter(|(_, l)| due(l.retry_at) || due(l.silent_at));
        let waiting: Vec<LinkId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(link) = self.nodes.get_mut(&key).and_then(|n| n.links.get_mut(&id)) else { continue };
            if due(link.silent_at) {
                let conn = std::mem::take(&mut link.conn);
                link.up = false;
                link.missed = true;
                (link.silent_at, link.retry_at, link.broken_at) = (None, Some(now), Some(now));
                self.close(conn);
            }
            self.connect(now, key, id);
        }
    }

    fn connect(&mut self, now: Instant, key: Key, id: LinkId) {
        let Some(node) = self.nodes.get(&key) else { return };
        let (owner_name, interest) = (node.name.clone(), node.interest.clone());
        let Some(link) = node.links.get(&id).filter(|l| !l.up) else { return };
        let to_name = link.to.clone();
        let reachable = !self.faults.cut(&owner_name, &to_name) && !self.faults.cut(&to_name, &owner_name);
        let Some(to) = self.names.get(&to_name).copied().filter(|_| reachable) else {
            let Some(link) = self.nodes.get_mut(&key).and_then(|n| n.links.get_mut(&id)) else { return };
            link.retry_at = Some(now + RETRY);
            if link.broken_at.is_some_and(|at| at <= now) {
                link.broken_at = Some(now + BROKEN_AGAIN);
                self.hand_over(now, key, 0, Way::Answers, Payload::Event(Event::Broken { link: id }));
            }
            return;
        };
        let conn = self.number();
        let Some(link) = self.nodes.get_mut(&key).and_then(|n| n.links.get_mut(&id)) else { return };
        let former = std::mem::replace(&mut link.conn, conn);
        link.up = true;
        (link.retry_at, link.silent_at, link.broken_at) = (None, None, None);
        self.close(former);
        let streams = Default::default();
        let opened = Conn { owner: key, link: id, to, owner_name, to_name, interest: FxHashSet::default(), streams };
        self.conns.insert(conn, opened);
        if let Some(peer) = self.nodes.get_mut(&to) {
            peer.inbound.push(conn);
        }
        self.transmit(now, conn, Way::Interest, Payload::Interest(interest));
        self.tell_lost(now, key, id);
    }

    /// Tells all losses of a node that has caught up.
    fn tell_losses(&mut self, now: Instant, key: Key) {
        let Some(node) = self.nodes.get(&key).filter(|n| n.under_way.is_empty()) else { return };
        let lost: Vec<LinkId> = node.links.iter().filter(|(_, l)| l.up && l.missed).map(|(id, _)| *id).collect();
        for link in lost {
            self.tell_lost(now, key, link);
        }
    }

    /// Tells a link's loss, if there was one and messages can flow again.
    fn tell_lost(&mut self, now: Instant, key: Key, id: LinkId) {
        let Some(link) = self.nodes.get_mut(&key).and_then(|n| n.links.get_mut(&id)) else { return };
        if !link.up || !link.missed {
            return;
        }
        let conn = link.conn;
        let Some(Conn { owner_name, to_name, .. }) = self.conns.get(&conn) else { return };
        if self.faults.cut(to_name, owner_name) {
            return;
        }
        link.missed = false;
        self.transmit(now, conn, Way::Published, Payload::Event(Event::Lost { link: id }));
    }

    /// Sends a payload on its way, and marks what a cut swallows.
    fn transmit(&mut self, now: Instant, id: ConnId, way: Way, payload: Payload) {
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

    fn missed(&mut self, owner: Key, link: LinkId) {
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
    fn hand_over(&mut self, now: Instant, receiver: Key, conn: ConnId, way: Way, mut payload: Payload) {
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
    fn arrive(&mut self, now: Instant, key: Key, id: ConnId, payload: Payload) -> Option<Event> {
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

    /// Starts and stops the wait for silence, and repairs what healed before anybody noticed.
    fn faults_changed(&mut self, now: Instant) {
        let conns: Vec<(ConnId, Key, LinkId, bool)> = self
            .conns
            .iter()
            .map(|(id, c)| {
                let forth = self.faults.cut(&c.owner_name, &c.to_name);
                (*id, c.owner, c.link, forth || self.faults.cut(&c.to_name, &c.owner_name))
            })
            .collect();
        for (id, owner, link_id, cut) in conns {
            let Some(node) = self.nodes.get_mut(&owner) else { continue };
            let Some(link) = node.links.get_mut(&link_id).filter(|l| l.conn == id && l.up) else { continue };
            if cut {
                link.silent_at.get_or_insert(now + SILENCE);
                self.wake(owner);
            } else if link.silent_at.take().is_some() {
                let interest = node.interest.clone();
                self.transmit(now, id, Way::Interest, Payload::Interest(interest));
                self.tell_lost(now, owner, link_id);
            }
        }
    }

    fn wake(&self, key: Key) {
        if let Some(node) = self.nodes.get(&key) {
            node.wake.notify_one();
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// What an event adds to its receiver's counts.
struct Counted {
    messages: u64,
    bytes: u64,
}

impl Counted {
    fn of(event: &Event) -> Counted {
        match event {
            Event::Published { parts, .. } => Counted { messages: 1, bytes: weight(parts) as u64 },
            _ => Counted { messages: 0, bytes: 0 },
        }
    }

    fn add(self, counters: &Counters) {
        Counters::add(&counters.received, self.messages);
        Counters::add(&counters.received_bytes, self.bytes);
    }
}

impl Payload {
    /// True if it is a hub's, so that it may be lost.
    fn is_message(&self) -> bool {
        matches!(self, Payload::Event(Event::Published { .. } | Event::Requested { .. } | Event::Answered { .. }))
    }

    fn bytes(&self) -> usize {
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
