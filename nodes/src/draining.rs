//! Whether a node is being emptied: set once, told to peers with the load, watched by whoever hands something over.
//!
//! A draining node goes on serving what it has, and is given nothing new. Nothing here EVER stops anything by itself.

pub mod order;

use mesh::peers::PeerTable;
use mesh::{NodeId, Role};
use tokio::sync::watch;

use crate::load::Load;

/// Whether this node is being emptied. Clones share it.
#[derive(Clone, Debug)]
pub struct Draining(watch::Sender<bool>);

impl Default for Draining {
    fn default() -> Draining {
        Draining(watch::channel(false).0)
    }
}

impl Draining {
    /// From now on this node is being emptied.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub async fn begun(&self) {
        // Its sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

/// The peers of a role that may be given something new: up, and not being emptied as far as they have said.
pub fn takes_work(peers: &PeerTable, role: Role) -> Vec<NodeId> {
    let ready = peers.up(role).filter(|peer| {
        !Load::decode(&peer.load).is_some_and(|load| load.draining) || planted::is("draining_given_work")
    });
    ready.map(|peer| peer.record.node.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh::peers::{PeerInfo, PeerState};
    use mesh::record::{Incarnation, NodeRecord};

    use super::*;

    #[test]
    fn who_says_that_it_is_being_emptied_is_given_nothing_new() {
        let peers = [("zoo-1", false), ("zoo-2", true)].map(|(name, draining)| {
            let node = NodeId::new(name).expect("a name");
            let record = NodeRecord {
                node: node.clone(),
                role: Role::Zoo,
                incarnation: Incarnation(1),
                publish: String::new(),
                request: String::new(),
                public: None,
                version: String::new(),
                protocol: 1,
            };
            let load = Load { draining, ..Load::default() }.encode().into();
            let (record, state) = (Arc::new(record), PeerState::Up);
            (node, PeerInfo { record, state, clock_offset_ms: 0, clock_offset_us: 0, rtt_us: 0, load })
        });
        let mut table = PeerTable { peers: peers.into_iter().collect() };
        assert_eq!(takes_work(&table, Role::Zoo), [NodeId::new("zoo-1").expect("a name")]);
        // Whoever has not said anything yet is not thought to leave.
        table.peers.values_mut().for_each(|peer| peer.load = Default::default());
        assert_eq!(takes_work(&table, Role::Zoo).len(), 2);
    }
}
