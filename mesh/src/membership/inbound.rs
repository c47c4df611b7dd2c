//! Greetings of others: who may come in, who must wait for the directory, and who is turned away.

use bytes::Bytes;
use rand::RngCore;
use tracing::{debug, warn};

use super::greeting::{Exchange, Refusal, Side};
use super::peer::{Greeting, Reason};
use super::{Membership, Now};
use crate::peers::StrangerView;
use crate::record::{NodeId, NodeRecord};
use crate::transport::Route;
use crate::wire::{Bytes32, Hello, Reply};

/// Greetings under way at most; beyond it the oldest is forgotten, and will be said again.
pub(super) const GREETERS: usize = 256;

/// How long a greeter may take to answer the challenge, in milliseconds.
const CHALLENGE_MS: u64 = 10_000;

/// How long a proven greeter may wait until the directory shows it, in milliseconds.
pub(super) const UNREGISTERED_MS: u64 = 2_000;

/// Refused nodes that are remembered for people to see; beyond it the one refused longest ago is forgotten.
pub(super) const STRANGERS: usize = 32;

/// What is remembered of a stranger's name, in characters.
const NAME_CHARS: usize = 64;

/// Somebody whose greeting is under way.
#[derive(Debug)]
pub(super) struct Greeter {
    route: Route,
    hello: Hello,
    /// The body of the hello, as it goes into the proofs.
    record_bytes: Bytes,
    node: NodeId,
    nonce: Bytes32,
    /// True if it knows the key: only the directory does not show it yet.
    proven: bool,
    until_ms: u64,
}

/// Somebody who was refused.
pub(super) type Stranger = StrangerView;

impl Membership {
    /// Somebody says hello.
    pub(super) fn greeted(&mut self, now: Now, route: Route, hello: Hello, record_bytes: Bytes) {
        if self.leaving {
            return;
        }
        let node = match self.admissible(&hello, &record_bytes) {
            Ok(node) => node,
            Err(refusal) => return self.turn_away(now, route, &hello.node, hello.number, refusal),
        };
        let mut nonce = Bytes32::default();
        self.rng.fill_bytes(&mut nonce);
        let exchange = Exchange { hello: &hello, record: &record_bytes, nonce: &nonce };
        let proof = self.key.prove(Side::Greeted, &exchange);
        let number = hello.number;
        self.greeters.retain(|greeter| greeter.route != route);
        if self.greeters.len() == GREETERS {
            self.greeters.remove(0);
        }
        let until_ms = now.ms() + CHALLENGE_MS;
        let greeter = Greeter { route: route.clone(), hello, record_bytes, node, nonce, proven: false, until_ms };
        self.greeters.push(greeter);
        self.reply(route, &Reply::Challenge { number, nonce, proof });
    }

    /// Whether a hello is meant for this node and comes from one that could be a peer.
    fn admissible(&self, hello: &Hello, record_bytes: &[u8]) -> Result<NodeId, Refusal> {
        if hello.protocol != self.me.protocol {
            return Err(Refusal::OtherVersion { theirs: hello.protocol, ours: self.me.protocol });
        }
        if hello.cluster != self.cluster {
            return Err(Refusal::OtherCluster { theirs: hello.cluster.clone(), ours: self.cluster.clone() });
        }
        if hello.district != self.district {
            return Err(Refusal::OtherDistrict { theirs: hello.district.clone(), ours: self.district.clone() });
        }
        if hello.to != self.me.node.as_str() || hello.to_incarnation != self.me.incarnation {
            return Err(Refusal::NotMe { node: self.me.node.clone(), incarnation: self.me.incarnation });
        }
        let node = NodeId::new(&hello.node).map_err(|_| Refusal::Malformed)?;
        let record: NodeRecord = rmp_serde::from_slice(record_bytes).map_err(|_| Refusal::Malformed)?;
        let itself = record.node == node && record.incarnation == hello.incarnation && node != self.me.node;
        if itself { Ok(node) } else { Err(Refusal::Malformed) }
    }

    /// A greeter answers our challenge.
    pub(super) fn proven(&mut self, now: Now, route: &Route, number: u64, proof: &Bytes32) {
        let place = self.greeters.iter().position(|g| g.route == *route && g.hello.number == number && !g.proven);
        let Some(place) = place else { return };
        let greeter = &mut self.greeters[place];
        let exchange = Exchange { hello: &greeter.hello, record: &greeter.record_bytes, nonce: &greeter.nonce };
        if !self.key.verify(Side::Greeter, &exchange, proof) {
            let greeter = self.greeters.remove(place);
            return self.turn_away(now, greeter.route, &greeter.hello.node, number, Refusal::WrongKey);
        }
        greeter.proven = true;
        greeter.until_ms = now.ms() + UNREGISTERED_MS;
        let node = greeter.node.clone();
        if !self.let_in_proven(now, &node) {
            debug!(peer = %node, "greeted by a node that the directory has not shown; reading it anew");
            self.refresh();
        }
    }

    /// Lets a proven greeter in if the directory shows the very life that greeted.
    pub(super) fn let_in_proven(&mut self, now: Now, node: &NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(node) else { return false };
        let incarnation = peer.record.incarnation;
        let place = self.greeters.iter().rposition(|g| {
            g.proven && g.node == *node && (g.hello.incarnation == incarnation || planted::is("former_life_let_in"))
        });
        let Some(place) = place else { return false };
        let Greeter { route, hello, .. } = self.greeters.remove(place);
        // Whatever else this life said before is over.
        self.greeters.retain(|g| g.node != *node || g.hello.incarnation != incarnation || !g.proven);
        if let Some(old) = peer.route.replace(route.clone()) {
            self.routes.remove(&old);
        }
        peer.leaving_ms = None;
        self.routes.insert(route.clone(), node.clone());
        self.heartbeat_wanted = true;
        self.reply(route, &Reply::Welcome { number: hello.number });
        self.answer_with_greeting(now, node);
        self.settle(now, node);
        true
    }

    /// A peer that reaches us can perhaps be reached again: our own greeting need not wait out its pause.
    fn answer_with_greeting(&mut self, now: Now, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let waits = match &peer.greeting {
            Greeting::Due { at_ms } => *at_ms > now.ms() && !matches!(peer.failed, Some(Reason::Refused(_))),
            Greeting::Said { .. } => peer.failures > 0,
            Greeting::Proved { .. } | Greeting::Done => false,
        };
        if waits {
            peer.failures = 0;
            peer.greeting = Greeting::Due { at_ms: now.ms() };
            self.greet_if_due(now, node);
        }
    }

    /// A greeter found our proof wrong.
    pub(super) fn rejected(&mut self, now: Now, route: &Route, number: u64, refusal: &Refusal) {
        let place = self.greeters.iter().position(|g| g.route == *route && g.hello.number == number);
        if let Some(place) = place {
            let greeter = self.greeters.remove(place);
            self.note_stranger(now, &greeter.hello.node, refusal);
        }
    }

    /// Forgets greeters that do not go on, and refuses those that the directory does not show.
    pub(super) fn expire_greeters(&mut self, now: Now) {
        let now_ms = now.ms();
        let (over, still) = std::mem::take(&mut self.greeters).into_iter().partition(|g| now_ms >= g.until_ms);
        self.greeters = still;
        let over: Vec<Greeter> = over;
        for greeter in over.into_iter().filter(|greeter| greeter.proven) {
            let number = greeter.hello.number;
            self.turn_away(now, greeter.route, &greeter.hello.node, number, Refusal::Unregistered);
        }
    }

    fn turn_away(&mut self, now: Now, route: Route, name: &str, number: u64, refusal: Refusal) {
        self.note_stranger(now, name, &refusal);
        self.reply(route, &Reply::Refused { number, refusal });
    }

    /// Remembers and logs a refusal; a stranger who comes again and again is logged ever more rarely.
    fn note_stranger(&mut self, now: Now, name: &str, refusal: &Refusal) {
        self.counts.refused += 1;
        let name: String = name.chars().take(NAME_CHARS).collect();
        let reason = refusal.to_string();
        let place = self.strangers.iter().position(|s| s.node == name && s.reason == reason);
        let mut stranger = match place {
            Some(place) => self.strangers.remove(place),
            None => Stranger { node: name, reason, refusals: 0, last_ms: 0 },
        };
        stranger.refusals += 1;
        stranger.last_ms = now.ms();
        if stranger.refusals.is_power_of_two() {
            let Stranger { node, refusals, .. } = &stranger;
            warn!(greeter = ?node, refusals, "refused the greeting of a node that {refusal}");
        }
        if self.strangers.len() == STRANGERS {
            self.strangers.remove(0);
        }
        self.strangers.push(stranger);
    }
}
