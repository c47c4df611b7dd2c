//! Who is there, and whether the link to each works both ways.
//!
//! A pure state machine: records of the directory, messages and time go in; commands to the transport and events for the
//! program come out. It promises that both ends of a link agree on it after a while: connecting is a handshake, a node
//! greeted by somebody unknown reads the directory and connects back, and a link that works one way only is `Suspect` at
//! both ends and opened anew until it heals. A link NEVER decides that a node is dead: only the directory does.

pub(crate) mod clock;
pub mod greeting;
mod heartbeat;
mod inbound;
mod messages;
mod outbound;
mod peer;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use tracing::{info, warn};

use self::greeting::Key;
use self::inbound::{Greeter, Stranger};
pub(crate) use self::messages::Asked;
use self::peer::{Greeting, Peer, Reason};
use crate::events::{Down, Event};
use crate::peers::PeerState;
use crate::record::{Incarnation, NodeId, NodeRecord};
use crate::transport::{Command, Endpoints, LinkId, Route, Topic};
use crate::wire::{HEARTBEAT_TOPIC, Request};

/// How often time is told to the machine, in milliseconds.
pub(crate) const TICK_MS: u64 = 100;

/// How often a heartbeat is published, in milliseconds.
const HEARTBEAT_MS: u64 = 1_000;

/// A peer not heard for so long is suspect, in milliseconds.
const SILENT_MS: u64 = 3_000;

/// How often each peer is pinged, in milliseconds; twice as often while it owes an answer.
const PING_MS: u64 = 2_000;

/// An answer to a ping older than this says nothing of clocks, in milliseconds.
const PING_MAX_MS: u64 = 10_000;

/// A peer that answers nothing for so long is suspect, in milliseconds.
const MUTE_MS: u64 = 4_500;

/// A peer that does not hear us for so long is suspect, in milliseconds.
const UNLISTED_MS: u64 = 2_500;

/// A peer that has not come up for so long after the directory showed it is suspect, in milliseconds.
const CONNECTING_MS: u64 = 3_000;

/// How long a suspect peer is given before its link is opened anew, in milliseconds: the transport repairs its
/// connections itself, and on a busy machine patience is cheaper than a new link.
const PATIENCE_MS: u64 = 3_000;

/// How long a link may take to be greeted before a new one takes its place, in milliseconds.
const LINK_MS: u64 = 10_000;

/// The pauses between two new links to a suspect peer: the first and the longest, in milliseconds.
const RELINK_MS: (u64, u64) = (2_000, 16_000);

/// New links to suspect peers: at most so many at once, and one more after each such time, in milliseconds. What slows
/// all links down would otherwise be made worse by opening all of them anew.
const RELINKS: (u64, u64) = (4, 500);

/// A link that was up for so long starts with short pauses again, in milliseconds.
const SETTLED_MS: u64 = 10_000;

/// At most so often does a disagreement make this node read the directory, in milliseconds.
const REFRESH_MS: u64 = 5_000;

/// A peer that said that it is leaving and still publishes heartbeats so long afterwards is not, in milliseconds.
const LEAVING_MS: u64 = 6_000;

/// A gap between two ticks that means that this node itself slept, in milliseconds: silence in it is no evidence.
const SLEPT_MS: u64 = 1_000;

const _: () = assert!(HEARTBEAT_MS * 2 < SILENT_MS, "one lost heartbeat makes nobody suspect");
const _: () = assert!(PING_MS * 2 < MUTE_MS, "one lost ping makes nobody suspect");
const _: () = assert!(HEARTBEAT_MS * 2 < UNLISTED_MS, "a peer is asked at least twice before it is suspect");
const _: () = assert!(TICK_MS * 5 < SLEPT_MS && SLEPT_MS < SILENT_MS, "late ticks are noticed before they do harm");

/// A moment of this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Now {
    /// Microseconds since the node started.
    pub(crate) us: u64,
}

impl Now {
    /// Milliseconds since the node started.
    pub(crate) fn ms(self) -> u64 {
        self.us / 1000
    }
}

/// What the machine is about.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) cluster: String,
    pub(crate) district: String,
    pub(crate) key: Vec<u8>,
    pub(crate) record: NodeRecord,
    pub(crate) seed: u64,
}

/// What the hub is to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Hand this to the transport.
    Transport(Command),
    /// Tell the program (and the calls).
    Tell(Event),
    /// Read the directory anew.
    Refresh,
}

/// Counts; they only ever rise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ungreeted: u64,
    pub(crate) malformed: u64,
    pub(crate) refused: u64,
}

/// The machine.
pub(crate) struct Membership {
    me: NodeRecord,
    /// The own record as every hello carries it.
    me_bytes: Vec<u8>,
    cluster: String,
    district: String,
    key: Key,
    rng: StdRng,
    peers: BTreeMap<NodeId, Peer>,
    links: FxHashMap<LinkId, NodeId>,
    routes: FxHashMap<Route, NodeId>,
    greeters: Vec<Greeter>,
    strangers: Vec<Stranger>,
    last_link: u64,
    last_number: u64,
    /// The digest of whom this node hears, as of the last tick.
    hears: u64,
    next_heartbeat_ms: u64,
    /// Somebody new listens: the next heartbeat shall not wait.
    heartbeat_wanted: bool,
    next_refresh_ms: u64,
    /// From when on as many new links as [`RELINKS`] allows may be opened.
    relinks_free_ms: u64,
    last_tick_ms: u64,
    leaving: bool,
    effects: Vec<Effect>,
    /// True if a snapshot would show something new that programs route by.
    changed: bool,
    pub(crate) counts: Counts,
}

impl Membership {
    pub(crate) fn new(setup: Setup, now: Now) -> Membership {
        let key = Key::new(setup.key);
        let rng = StdRng::from_seed(key.seed(setup.seed, setup.record.incarnation));
        let me_bytes = rmp_serde::to_vec_named(&setup.record).unwrap_or_default();
        let mut membership = Membership {
            me: setup.record,
            me_bytes,
            cluster: setup.cluster,
            district: setup.district,
            key,
            rng,
            peers: BTreeMap::new(),
            links: FxHashMap::default(),
            routes: FxHashMap::default(),
            greeters: Vec::new(),
            strangers: Vec::new(),
            last_link: 0,
            last_number: 0,
            hears: 0,
            next_heartbeat_ms: now.ms(),
            heartbeat_wanted: false,
            next_refresh_ms: 0,
            relinks_free_ms: 0,
            last_tick_ms: now.ms(),
            leaving: false,
            effects: Vec::new(),
            changed: true,
            counts: Counts::default(),
        };
        membership.effects.push(Effect::Transport(Command::Subscribe(Topic::new(HEARTBEAT_TOPIC))));
        membership.hears = membership.digest(now);
        membership
    }

    /// What the hub is to do now, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// True if peers or their states changed since the last time this was asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The directory shows a node, or a new life of one, or says something else of one.
    pub(crate) fn appeared(&mut self, now: Now, record: NodeRecord) {
        if record.node == self.me.node {
            return;
        }
        let node = record.node.clone();
        match self.peers.get_mut(&node) {
            Some(peer) if peer.record.incarnation == record.incarnation => {
                let moved = peer.record.publish != record.publish || peer.record.request != record.request;
                peer.record = Arc::new(record);
                self.changed = true;
                if moved {
                    self.relink(now, &node);
                }
            }
            known => {
                if let Some(old) = known.map(|peer| peer.record.clone()) {
                    self.gone(&old);
                }
                info!(peer = %node, incarnation = record.incarnation.0, role = %record.role, "the directory shows a node");
                self.connect(now, record);
            }
        }
    }

    fn connect(&mut self, now: Now, record: NodeRecord) {
        let node = record.node.clone();
        let link = self.open(&record, &node);
        self.peers.insert(node.clone(), Peer::new(now.ms(), Arc::new(record), link));
        self.changed = true;
        self.greet_if_due(now, &node);
        self.let_in_proven(now, &node);
        self.settle(now, &node);
    }

    fn open(&mut self, record: &NodeRecord, node: &NodeId) -> LinkId {
        self.last_link += 1;
        let link = LinkId(self.last_link);
        let to = Endpoints { publish: record.publish.clone(), request: record.request.clone() };
        self.links.insert(link, node.clone());
        self.effects.push(Effect::Transport(Command::Connect { link, to }));
        link
    }

    /// Closes the link to a peer and opens a new one.
    fn relink(&mut self, now: Now, node: &NodeId) {
        let Some(peer) = self.peers.get(node) else { return };
        let (old, record) = (peer.link, peer.record.clone());
        self.links.remove(&old);
        self.effects.push(Effect::Transport(Command::Disconnect { link: old }));
        let link = self.open(&record, node);
        if let Some(peer) = self.peers.get_mut(node) {
            peer.relinked(now.ms(), link);
        }
        self.greet_if_due(now, node);
        self.settle(now, node);
    }

    /// The directory removed a life of a node.
    pub(crate) fn gone(&mut self, record: &NodeRecord) {
        let node = &record.node;
        let incarnation = record.incarnation;
        if self.peers.get(node).is_none_or(|peer| peer.record.incarnation != incarnation) {
            return;
        }
        let Some(peer) = self.peers.remove(node) else { return };
        info!(peer = %node, incarnation = incarnation.0, "the directory removed a node");
        self.links.remove(&peer.link);
        self.effects.push(Effect::Transport(Command::Disconnect { link: peer.link }));
        if let Some(route) = peer.route {
            self.routes.remove(&route);
        }
        if peer.state == PeerState::Up {
            let down = Event::PeerDown { peer: node.clone(), incarnation, reason: Down::Gone };
            self.effects.push(Effect::Tell(down));
        }
        self.effects.push(Effect::Tell(Event::PeerGone { peer: node.clone(), incarnation }));
        self.changed = true;
    }

    /// The request connection of a link failed; the transport goes on trying.
    pub(crate) fn broken(&mut self, now: Now, link: LinkId) {
        self.notice_sleep(now);
        let Some(node) = self.links.get(&link).cloned() else { return };
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.greeting == Greeting::Done
        {
            peer.ungreeted(now.ms() + TICK_MS, Reason::Broken);
            self.settle(now, &node);
        }
    }

    /// Something published by the peer behind a link was lost.
    pub(crate) fn lost(&mut self, link: LinkId) {
        let peer = self.links.get(&link).and_then(|node| self.peers.get(node));
        if let Some(peer) = peer.filter(|peer| peer.known_to_program) {
            self.effects.push(Effect::Tell(Event::Lost { from: peer.record.incarnation }));
        }
    }

    /// A peer says that it is leaving. The directory will say when it is gone.
    fn said_bye(&mut self, now: Now, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.leaving_ms = Some(now.ms());
        }
        self.settle(now, node);
    }

    /// Tells all peers that this node is leaving, and greets nobody any more.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
        let links: Vec<LinkId> = self.peers.values().map(|peer| peer.link).collect();
        for link in links {
            self.send(link, &Request::Bye, b"");
        }
    }

    /// Time passes: every [`TICK_MS`].
    pub(crate) fn tick(&mut self, now: Now, load: &[u8]) {
        let now_ms = now.ms();
        self.notice_sleep(now);
        self.last_tick_ms = now_ms;
        self.expire_greeters(now);
        let nodes: Vec<NodeId> = self.peers.keys().cloned().collect();
        for node in &nodes {
            self.greet_if_due(now, node);
            self.ping_if_due(now, node);
            self.settle(now, node);
            self.relink_if_due(now, node);
        }
        let hears = self.digest(now);
        self.heartbeat_wanted |= hears != self.hears;
        self.hears = hears;
        if (now_ms >= self.next_heartbeat_ms || self.heartbeat_wanted) && !self.leaving {
            self.beat(now, load);
        }
    }

    /// Forgives the peers their silence while this node itself was held up. Comes before anything else that is judged by
    /// time.
    fn notice_sleep(&mut self, now: Now) {
        let now_ms = now.ms();
        let gap_ms = now_ms.saturating_sub(self.last_tick_ms);
        if gap_ms > SLEPT_MS {
            self.last_tick_ms = now_ms;
            warn!(gap_ms, "this node was held up; the silence of its peers meanwhile does not count");
            self.peers.values_mut().for_each(|peer| peer.forgive(now_ms, gap_ms));
        }
    }

    fn relink_if_due(&mut self, now: Now, node: &NodeId) {
        let now_ms = now.ms();
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.state == PeerState::Up && now_ms.saturating_sub(peer.since_ms) >= SETTLED_MS {
            peer.relink_pause_ms = RELINK_MS.0;
        }
        let helps = !matches!(peer.reason, Some(Reason::Refused(_) | Reason::Leaving));
        let tried = peer.greeting == Greeting::Done || now_ms.saturating_sub(peer.linked_ms) >= LINK_MS;
        let free = self.relinks_free_ms < now_ms + RELINKS.0 * RELINKS.1;
        if peer.state == PeerState::Suspect && helps && tried && free && now_ms >= peer.next_relink_ms {
            self.relinks_free_ms = self.relinks_free_ms.max(now_ms) + RELINKS.1;
            peer.next_relink_ms = now_ms + peer.relink_pause_ms;
            peer.relink_pause_ms = (peer.relink_pause_ms * 2).min(RELINK_MS.1);
            self.relink(now, node);
        }
    }

    /// Brings the state of a peer in line with what is known of its link, and tells the program.
    fn settle(&mut self, now: Now, node: &NodeId) {
        let now_ms = now.ms();
        let Some(peer) = self.peers.get_mut(node) else { return };
        let incarnation = peer.record.incarnation;
        let standing = peer.standing(now_ms);
        match (peer.state, standing) {
            (PeerState::Up, Ok(())) => {}
            (PeerState::Up, Err(reason)) => {
                warn!(peer = %node, incarnation = incarnation.0, %reason, "a peer is suspect");
                peer.next_relink_ms = now_ms + PATIENCE_MS;
                peer.turn(now_ms, PeerState::Suspect, Some(reason));
                let down = Event::PeerDown { peer: node.clone(), incarnation, reason: Down::Cut };
                self.effects.push(Effect::Tell(down));
                self.changed = true;
            }
            (_, Ok(())) => {
                info!(peer = %node, incarnation = incarnation.0, "a peer is up");
                peer.turn(now_ms, PeerState::Up, None);
                let again = std::mem::replace(&mut peer.known_to_program, true);
                let up = Event::PeerUp(peer.info());
                self.effects.push(Effect::Tell(up));
                if again {
                    // A new link cannot know what the old one missed.
                    self.effects.push(Effect::Tell(Event::Lost { from: incarnation }));
                }
                self.changed = true;
            }
            (PeerState::Connecting, Err(reason)) => {
                if now_ms.saturating_sub(peer.since_ms) > CONNECTING_MS {
                    warn!(peer = %node, incarnation = incarnation.0, %reason, "a peer does not come up");
                    peer.next_relink_ms = now_ms + PATIENCE_MS;
                    peer.turn(now_ms, PeerState::Suspect, Some(reason));
                    self.changed = true;
                } else {
                    peer.reason = Some(reason);
                }
            }
            (PeerState::Suspect, Err(reason)) => peer.reason = Some(reason),
        }
    }

    /// The nodes that the directory shows, this one included.
    fn members(&self) -> BTreeSet<(&NodeId, Incarnation)> {
        let peers = self.peers.values().map(|peer| (&peer.record.node, peer.record.incarnation));
        peers.chain([(&self.me.node, self.me.incarnation)]).collect()
    }

    fn refresh(&mut self) {
        self.effects.push(Effect::Refresh);
    }

    /// How the link to a node stands; `None` if the directory does not show it.
    pub(crate) fn state(&self, node: &NodeId) -> Option<PeerState> {
        self.peers.get(node).map(|peer| peer.state)
    }

    /// The link to a peer that has let us in.
    pub(crate) fn link(&self, node: &NodeId) -> Option<LinkId> {
        self.peers.get(node).filter(|peer| peer.greeting == Greeting::Done).map(|peer| peer.link)
    }

    /// The way back to a life of a peer, if it has greeted.
    pub(crate) fn route(&self, node: &NodeId, incarnation: Incarnation) -> Option<Route> {
        self.peers.get(node).filter(|peer| peer.record.incarnation == incarnation)?.route.clone()
    }
}
