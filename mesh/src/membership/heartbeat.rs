//! Heartbeats: what a node says once a second, and what two nodes do that do not hear the same.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{HEARTBEAT_MS, LEAVING_MS, Membership, Now, REFRESH_MS};
use crate::hub::LOAD_BYTES;
use crate::record::{Incarnation, NodeId};
use crate::transport::{Command, Route, Topic};
use crate::wire::{self, HEARTBEAT_TOPIC, Heartbeat, Reply, Request};

/// At most so often is a peer asked whom it hears, in milliseconds.
const ASK_MS: u64 = 1_000;

/// Entries of a peer's list that are looked at.
const LIST_MAX: usize = 4_096;

impl Membership {
    /// Publishes a heartbeat.
    pub(super) fn beat(&mut self, now: Now, load: &[u8]) {
        self.heartbeat_wanted = false;
        self.next_heartbeat_ms = now.ms() + HEARTBEAT_MS;
        let heartbeat = Heartbeat { incarnation: self.me.incarnation, hears: self.hears };
        let parts = vec![wire::encode(&heartbeat, load)];
        let publish = Command::Publish { topic: Topic::new(HEARTBEAT_TOPIC), parts };
        self.effects.push(super::Effect::Transport(publish));
    }

    /// A greeted peer's heartbeat came.
    pub(super) fn beaten(&mut self, now: Now, node: &NodeId, parts: &[Bytes]) {
        let now_ms = now.ms();
        let Some(peer) = self.peers.get_mut(node) else { return };
        let [message] = parts else {
            self.counts.malformed += 1;
            return;
        };
        let Ok((heartbeat, load)) = wire::decode::<Heartbeat>(message) else {
            self.counts.malformed += 1;
            return;
        };
        if heartbeat.incarnation != peer.record.incarnation || load.len() > LOAD_BYTES {
            self.counts.malformed += 1;
            return;
        }
        peer.heard_ms = Some(now_ms);
        peer.leaving_ms = peer.leaving_ms.filter(|said_ms| now_ms.saturating_sub(*said_ms) < LEAVING_MS);
        peer.load = load;
        peer.hears = heartbeat.hears;
        if peer.hears == self.hears {
            // Our digest includes ourselves: it hears us.
            peer.unlisted_ms = None;
            peer.misses.clear();
        } else if now_ms >= peer.next_ask_ms {
            peer.next_ask_ms = now_ms + ASK_MS - super::TICK_MS;
            let link = peer.link;
            self.send(link, &Request::Hears, b"");
        }
        self.settle(now, node);
    }

    /// A peer says whom it hears, because we asked: both of us hold that against the directory.
    pub(super) fn told_whom_it_hears(&mut self, now: Now, node: &NodeId, nodes: &[(NodeId, Incarnation)]) {
        let heard: std::collections::BTreeSet<(&NodeId, Incarnation)> =
            nodes.iter().take(LIST_MAX).map(|(node, incarnation)| (node, *incarnation)).collect();
        let members = self.members();
        let misses: Vec<NodeId> = members.difference(&heard).map(|(node, _)| (*node).clone()).collect();
        let knows_more = heard.difference(&members).next().is_some();
        let listed = heard.contains(&(&self.me.node, self.me.incarnation));
        if let Some(peer) = self.peers.get_mut(node) {
            peer.answered_ms = now.ms();
            peer.misses = misses;
            peer.unlisted_ms = if listed { None } else { peer.unlisted_ms.or(Some(now.ms())) };
        }
        if knows_more {
            self.refresh_now_and_then(now);
        }
        self.settle(now, node);
    }

    /// Answers a peer that asked.
    pub(super) fn say_whom_we_hear(&mut self, now: Now, route: Route) {
        let nodes = self.heard(now).map(|(node, incarnation)| (node.clone(), incarnation)).collect();
        self.reply(route, &Reply::Hears { nodes });
    }

    /// Whom this node hears, itself included, by name.
    fn heard(&self, now: Now) -> impl Iterator<Item = (&NodeId, Incarnation)> {
        let peers = self.peers.values().filter(move |peer| peer.heard(now.ms()));
        let mut heard: Vec<_> = peers.map(|peer| (&peer.record.node, peer.record.incarnation)).collect();
        let me = (&self.me.node, self.me.incarnation);
        let place = heard.partition_point(|other| *other < me);
        heard.insert(place, me);
        heard.into_iter()
    }

    /// The digest of whom this node hears: the same on every node that hears the same, whatever its build.
    pub(super) fn digest(&self, now: Now) -> u64 {
        let mut hash = Sha256::new();
        for (node, incarnation) in self.heard(now) {
            hash.update((node.as_str().len() as u64).to_le_bytes());
            hash.update(node.as_str());
            hash.update(incarnation.0.to_le_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        u64::from_le_bytes(first).max(1)
    }

    /// Reads the directory anew, but not for every disagreement.
    pub(super) fn refresh_now_and_then(&mut self, now: Now) {
        if now.ms() >= self.next_refresh_ms {
            self.next_refresh_ms = now.ms() + REFRESH_MS;
            self.refresh();
        }
    }
}
