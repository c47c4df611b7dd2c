//! The hub: the one task of a node that owns the transport's channels, membership and calls.
//!
//! It is a shell around pure state machines: it takes what happens, steps them, and carries out their effects. It NEVER
//! waits for the program, for a peer or for the directory: every queue in front of it and behind it is bounded, and says
//! what happens when full.

mod handle;
mod outlet;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tracing::error;

use crate::directory::Directory;
use crate::events::{Event, Inbox, IncomingCall};
use crate::membership::Setup;
use crate::peers::MeshView;
use crate::record::NodeRecord;
use crate::registry::{self, District};
use crate::tasks::Tasks;
use crate::transport::Transport;

pub use handle::Mesh;
use handle::Shared;

/// Events that wait for the program, at most; beyond it frames are dropped, counted, and told as lost.
pub const EVENTS: usize = 8_192;

/// Calls of peers that wait for the program, at most; beyond it they are refused as overloaded.
pub const CALLS: usize = 2_048;

/// Orders of the program that wait for the hub, at most; beyond it callers wait, and sends are dropped and counted.
pub const ORDERS: usize = 8_192;

/// The largest load that [`Mesh::set_load`] takes, in bytes.
pub const LOAD_BYTES: usize = 256;

/// What a node brings to the mesh.
#[derive(Clone)]
pub struct Config {
    /// The cluster's name: nodes of different clusters refuse each other.
    pub cluster: String,
    /// The district's name: nodes connect within theirs.
    pub district: String,
    /// The cluster's key, which every greeting proves.
    pub key: Vec<u8>,
    /// This node.
    pub record: NodeRecord,
    /// Where all randomness of the hub comes from; MUST differ from life to life outside simulation.
    pub seed: u64,
    /// How long the node's record outlives its last keep-alive, in seconds.
    pub lease_ttl_s: u32,
}

/// Starts the hub on a thread of its own (in simulation: on the current runtime).
///
/// If no thread can be had, the whole node is stopped: without a hub it is none.
pub fn start(config: Config, transport: Transport, directory: Arc<dyn Directory>, tasks: &Tasks) -> (Mesh, Inbox) {
    let (event_sender, events) = mpsc::channel::<Event>(EVENTS);
    let (call_sender, calls) = mpsc::channel::<IncomingCall>(CALLS);
    let registration = registry::Config {
        district: District::new(&config.cluster, &config.district),
        record: config.record.clone(),
        lease_ttl_s: config.lease_ttl_s,
    };
    let (registry, registry_events) = registry::start(registration, directory, tasks);
    let view = MeshView::new(&config.cluster, &config.district, &config.record);
    let (shared, orders) = Shared::new(view, &transport);
    let mesh = Mesh::new(shared.clone(), registry.clone());
    let refresh = Arc::new(Notify::new());
    tasks.spawn(run::refresher(registry.clone(), refresh.clone()));
    let Config { cluster, district, key, record, seed, .. } = config;
    let parts = run::Parts {
        shared,
        orders,
        transport,
        registry,
        registry_events,
        refresh,
        events: event_sender,
        calls: call_sender,
        setup: Setup { cluster, district, key, record, seed },
        tasks: tasks.clone(),
    };
    if let Err(error) = tasks.spawn_thread("hub", move || run::Hub::new(parts).run()) {
        error!("no thread for the hub, so this node stops: {error}");
        tasks.stop();
    }
    (mesh, Inbox { events, calls })
}
