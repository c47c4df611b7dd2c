//! What this node believes of the others: the table that programs route by, and the view that people look at.
//!
//! Both are snapshots, made by the hub whenever something changes. Nothing here decides anything.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::membership::greeting::Refusal;
use crate::record::{Incarnation, NodeId, NodeRecord, Role};

/// How the link to a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// In the directory, and not yet greeted both ways.
    Connecting,
    /// Greeted both ways, and heard.
    Up,
    /// It was up; now the link works one way only, or not at all. It is given no new work.
    Suspect,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerState::Connecting => "connecting",
            PeerState::Up => "up",
            PeerState::Suspect => "suspect",
        })
    }
}

/// One peer that the directory shows.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its record in the directory.
    pub record: Arc<NodeRecord>,
    /// How the link to it stands.
    pub state: PeerState,
    /// What to add to its clock to get ours, in milliseconds.
    pub clock_offset_ms: i64,
    /// The same in microseconds.
    pub clock_offset_us: i64,
    /// The shortest round trip of late, in microseconds; 0 before the first.
    pub rtt_us: u64,
    /// What it last said of its load (see [`crate::Mesh::set_load`]).
    pub load: Bytes,
}

/// All peers of this node's district that the directory shows, without the node itself.
#[derive(Clone, Debug, Default)]
pub struct PeerTable {
    /// By name.
    pub peers: BTreeMap<NodeId, PeerInfo>,
}

impl PeerTable {
    /// One peer.
    pub fn get(&self, node: &NodeId) -> Option<&PeerInfo> {
        self.peers.get(node)
    }

    /// The peer that lives this life.
    pub fn by_incarnation(&self, incarnation: Incarnation) -> Option<&PeerInfo> {
        self.peers.values().find(|peer| peer.record.incarnation == incarnation)
    }

    /// All peers, by name.
    pub fn iter(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.values()
    }

    /// The peers of a role that may be given work, by name.
    pub fn up(&self, role: Role) -> impl Iterator<Item = &PeerInfo> {
        self.peers.values().filter(move |peer| {
            peer.record.role == role && (peer.state == PeerState::Up || planted::is("suspect_given_work"))
        })
    }
}

/// What a node believes of every node, for `wildmesh status` and the gateway's `/v1/mesh`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeshView {
    /// The node whose view this is.
    pub node: NodeRecord,
    /// Its cluster.
    pub cluster: String,
    /// Its district.
    pub district: String,
    /// Its clock, in milliseconds since it started.
    pub now_ms: u64,
    /// True while its own lease surely lives.
    pub registered: bool,
    /// What is wrong with the directory, while it does not answer.
    pub directory_down: Option<String>,
    /// The digest of whom it hears, in hexadecimal: equal on all nodes of a whole mesh.
    pub hears: String,
    /// Its peers, by name.
    pub peers: Vec<PeerView>,
    /// Who else tried to greet it and was refused.
    pub strangers: Vec<StrangerView>,
    /// Counts; they only ever rise.
    pub counters: MeshCounters,
}

impl MeshView {
    /// The view of a node that has seen nothing yet.
    pub(crate) fn new(cluster: &str, district: &str, node: &NodeRecord) -> MeshView {
        MeshView {
            node: node.clone(),
            cluster: cluster.to_owned(),
            district: district.to_owned(),
            now_ms: 0,
            registered: false,
            directory_down: None,
            hears: String::new(),
            peers: Vec::new(),
            strangers: Vec::new(),
            counters: MeshCounters::default(),
        }
    }
}

/// What a node believes of one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// Who.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Its present life.
    pub incarnation: Incarnation,
    /// How the link stands.
    pub state: PeerState,
    /// Why it does not stand better, in words.
    pub reason: Option<String>,
    /// The refusal of this node's greeting, if that is why.
    pub refusal: Option<Refusal>,
    /// Since when it stands so, in milliseconds of the viewing node's clock.
    pub since_ms: u64,
    /// The shortest round trip of late, in microseconds.
    pub rtt_us: u64,
    /// What to add to its clock to get the viewing node's, in microseconds.
    pub clock_offset_us: i64,
    /// How long ago its last heartbeat came, in milliseconds.
    pub heard_ms_ago: Option<u64>,
    /// The digest of whom it hears, in hexadecimal; empty before its first heartbeat.
    #[serde(default)]
    pub hears: String,
    /// True if it hears the same nodes as the viewing node, itself included.
    pub agrees: bool,
    /// Whom the directory has and the peer does not hear.
    pub misses: Vec<NodeId>,
    /// How often the link was opened anew.
    pub reconnects: u64,
}

/// Somebody who greeted this node and was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StrangerView {
    /// The name it gave.
    pub node: String,
    /// Why it was refused, in words.
    pub reason: String,
    /// How often.
    pub refusals: u64,
    /// When last, in milliseconds of the viewing node's clock.
    pub last_ms: u64,
}

/// Counts of what the hub did. All only ever rise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshCounters {
    /// Frames handed to the program.
    pub frames: u64,
    /// Frames dropped because the program did not take them.
    pub frames_dropped: u64,
    /// Frames and requests dropped because their sender had not greeted.
    pub ungreeted: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Greetings that this node refused.
    pub greetings_refused: u64,
    /// Calls that this node made.
    pub calls: u64,
    /// Calls that failed, for any reason.
    pub calls_failed: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Calls turned away by an open breaker.
    pub breaker_open: u64,
    /// Calls that peers made here.
    pub served: u64,
    /// Repeated requests that were not carried out again.
    pub repeats: u64,
    /// Calls of peers refused because too many are under way.
    pub overloaded: u64,
    /// Messages without answer that were dropped, here or there.
    pub hints_dropped: u64,
    /// Answers that came after their call had ended.
    pub late_answers: u64,
    /// Messages published by this node (by the transport's count).
    pub published: u64,
    /// Bytes published by this node.
    pub published_bytes: u64,
    /// Messages received by subscription.
    pub received: u64,
    /// Bytes received by subscription.
    pub received_bytes: u64,
    /// Messages dropped by the transport because a queue was full.
    pub transport_dropped: u64,
    /// Subscribers cut off because they did not keep up.
    pub evicted: u64,
    /// Messages that the transport refused as malformed or too large.
    pub transport_refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_given_to_those_of_a_role_that_are_up() {
        let states = [PeerState::Up, PeerState::Suspect, PeerState::Connecting, PeerState::Up];
        let peers = states.into_iter().enumerate().map(|(index, state)| {
            let node = NodeId::new(&format!("node-{index}")).unwrap();
            let record = NodeRecord {
                node: node.clone(),
                role: if index == 3 { Role::Garden } else { Role::Zoo },
                incarnation: Incarnation(index as u64),
                publish: String::new(),
                request: String::new(),
                public: None,
                version: String::new(),
                protocol: 1,
            };
            let record = Arc::new(record);
            let (clock_offset_ms, clock_offset_us, rtt_us, load) = (0, 0, 0, Bytes::new());
            (node, PeerInfo { record, state, clock_offset_ms, clock_offset_us, rtt_us, load })
        });
        let table = PeerTable { peers: peers.collect() };
        let up: Vec<&str> = table.up(Role::Zoo).map(|peer| peer.record.node.as_str()).collect();
        assert_eq!(up, ["node-0"]);
    }
}
