//! Bytes between nodes: who is there, how messages reach them, and what becomes of a call.
//!
//! `mesh` knows no island and no document: topics, methods and payloads are bytes to it. It promises that a stalled or
//! dead peer never delays traffic to the others and never grows memory without bound. Its logic is in pure state
//! machines (`membership`, `calls`); sockets and etcd live in drivers behind `transport` and `directory`.

pub mod record;
pub mod tasks;

pub mod directory;
pub mod registry;
pub mod transport;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub mod calls;
pub mod events;
pub mod hub;
pub mod membership;
pub mod peers;
mod wire;

pub use calls::{CallError, CallRefusal, Lane, Method};
pub use events::{Down, Event, Inbox, IncomingCall, Peer};
pub use hub::{Config, Mesh, start};
pub use membership::greeting::Refusal;
pub use peers::{MeshView, PeerInfo, PeerState, PeerTable};
pub use record::{Incarnation, NodeId, NodeRecord, Role};
pub use transport::Topic;
