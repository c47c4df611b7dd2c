//! The names of things on the mesh: nodes, roles, incarnations, and the record each node keeps in the directory.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The version of the protocol between nodes. Nodes of different versions refuse each other's greeting.
pub const PROTOCOL_VERSION: u32 = 1;

/// The name of a node, unique within its cluster: for instance `frontend-1`. At most 64 characters of `[a-z0-9-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Checks and takes a name. Errors say what is wrong with it.
    pub fn new(name: &str) -> Result<NodeId, InvalidNodeId> {
        let fits = !name.is_empty() && name.len() <= 64;
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits && plain { Ok(NodeId(name.into())) } else { Err(InvalidNodeId(name.to_owned())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node name that breaks the rules.
#[derive(Debug, thiserror::Error)]
#[error("node name {0:?} is not 1 to 64 characters of a-z, 0-9 and '-'")]
pub struct InvalidNodeId(String);

/// One life of a node: drawn at random when its process starts, so that a restarted node is not taken for its former
/// self. Below 2^48, so that every client language's number holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Makes an incarnation from random bits; the caller supplies them (no hidden randomness in the cores).
    pub fn from_random(bits: u64) -> Incarnation {
        Incarnation((bits & ((1 << 48) - 1)).max(1))
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves clients over WebSocket and owns their players.
    Frontend,
    /// Serves REST and the web pages.
    Gateway,
    /// Owns animals.
    Zoo,
    /// Owns static objects.
    Garden,
    /// Runs battles.
    Colosseum,
}

impl Role {
    /// All roles, in the order in which `wildmesh up` starts them.
    pub const ALL: [Role; 5] = [Role::Garden, Role::Zoo, Role::Colosseum, Role::Frontend, Role::Gateway];

    /// The role's name in keys, flags and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Frontend => "frontend",
            Role::Gateway => "gateway",
            Role::Zoo => "zoo",
            Role::Garden => "garden",
            Role::Colosseum => "colosseum",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        Role::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a role; the roles are frontend, gateway, zoo, garden, colosseum"))
    }
}

/// What a node says of itself in the directory, under its lease, and in its greeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Where it publishes, for instance `tcp://10.0.0.5:7001`.
    pub publish: String,
    /// Where it takes requests, for instance `tcp://10.0.0.5:7002`.
    pub request: String,
    /// The address that clients use (`ws://…` of a frontend, `http://…` of a gateway), if it serves any.
    pub public: Option<String>,
    /// The version of the software, for people.
    pub version: String,
    /// The version of the protocol between nodes: [`PROTOCOL_VERSION`].
    pub protocol: u32,
}
