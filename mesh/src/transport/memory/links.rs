//! The life of links in memory: opened, broken, silent, connected again, and what is owed to their hubs for it.

use rustc_hash::FxHashSet;
use tokio::time::{Duration, Instant};

use super::flight::{Payload, Way};
use super::network::{Conn, ConnId, Key, Link, Network};
use crate::transport::{Endpoints, Event, LinkId};

/// How long a cut must last until a link notices.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// The pause between attempts to connect again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// How often a link that does not come back says so.
pub(super) const BROKEN_AGAIN: Duration = Duration::from_secs(3);

impl Network {
    pub(super) fn open(&mut self, now: Instant, key: Key, link: LinkId, to: &Endpoints) {
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

    pub(super) fn disconnect(&mut self, key: Key, link: LinkId) {
        let link = self.nodes.get_mut(&key).and_then(|n| n.links.remove(&link));
        if let Some(link) = link {
            self.close(link.conn);
        }
    }

    /// Forgets a connection at its far end. What is under way on it comes to nothing, but for requests.
    pub(super) fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        if let Some(peer) = self.nodes.get_mut(&conn.to) {
            peer.inbound.retain(|c| *c != id);
        }
    }

    /// Does what is due on a node's links: notices silence, connects again.
    pub(super) fn run_links(&mut self, now: Instant, key: Key) {
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
    pub(super) fn tell_losses(&mut self, now: Instant, key: Key) {
        let Some(node) = self.nodes.get(&key).filter(|n| n.under_way.is_empty()) else { return };
        let lost: Vec<LinkId> = node.links.iter().filter(|(_, l)| l.up && l.missed).map(|(id, _)| *id).collect();
        for link in lost {
            self.tell_lost(now, key, link);
        }
    }

    /// Tells a link's loss, if there was one and messages can flow again.
    pub(super) fn tell_lost(&mut self, now: Instant, key: Key, id: LinkId) {
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

    /// Starts and stops the wait for silence, and repairs what healed before anybody noticed.
    pub(super) fn faults_changed(&mut self, now: Instant) {
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
}
