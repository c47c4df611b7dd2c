//! Snapshots for programs and people.

use super::{Membership, Now};
use crate::peers::{MeshView, PeerTable, PeerView};

impl Membership {
    /// The table that programs route by.
    pub(crate) fn table(&self) -> PeerTable {
        PeerTable { peers: self.peers.iter().map(|(node, peer)| (node.clone(), peer.info())).collect() }
    }

    /// Fills in what membership knows of a view.
    pub(crate) fn show(&self, now: Now, view: &mut MeshView) {
        let now_ms = now.ms();
        view.now_ms = now_ms;
        view.hears = format!("{:016x}", self.hears);
        view.peers = self.peers.values().map(|peer| self.show_peer(now_ms, peer)).collect();
        view.strangers.clone_from(&self.strangers);
        view.counters.ungreeted = self.counts.ungreeted;
        view.counters.malformed = self.counts.malformed;
        view.counters.greetings_refused = self.counts.refused;
    }

    fn show_peer(&self, now_ms: u64, peer: &super::peer::Peer) -> PeerView {
        PeerView {
            node: peer.record.node.clone(),
            role: peer.record.role,
            incarnation: peer.record.incarnation,
            state: peer.state,
            reason: peer.reason.as_ref().map(ToString::to_string),
            refusal: match &peer.reason {
                Some(super::peer::Reason::Refused(refusal)) => Some(refusal.clone()),
                _ => None,
            },
            since_ms: peer.since_ms,
            rtt_us: peer.clock.rtt_us(),
            clock_offset_us: peer.clock.offset_us(),
            heard_ms_ago: peer.heard_ms.map(|heard| now_ms.saturating_sub(heard)),
            hears: if peer.hears == 0 { String::new() } else { format!("{:016x}", peer.hears) },
            agrees: peer.hears == self.hears,
            misses: peer.misses.clone(),
            reconnects: peer.reconnects,
        }
    }
}
