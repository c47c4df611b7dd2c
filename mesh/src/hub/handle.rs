//! The handle that the rest of a node holds: cheap to clone, and it never makes the world wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{LOAD_BYTES, ORDERS};
use crate::calls::{CallError, Lane, Method};
use crate::peers::{MeshView, PeerTable};
use crate::record::{NodeId, NodeRecord};
use crate::registry::{JoinError, OwnLease, Registry};
use crate::transport::{self, Topic, Transport};

/// A node's handle to the mesh.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    registry: Registry,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("me", &self.shared.me.node).finish_non_exhaustive()
    }
}

/// What the program wants of the hub.
#[derive(Debug)]
pub(crate) enum Order {
    /// A call with an answer.
    Call {
        to: NodeId,
        method: &'static Method,
        body: Bytes,
        operation: Option<u128>,
        reply: oneshot::Sender<Result<Bytes, CallError>>,
    },
    /// A message without one.
    Send { to: NodeId, method: &'static Method, body: Bytes },
    /// Leave the mesh.
    Leave { done: oneshot::Sender<()> },
}

/// The hub's end of the handle.
pub(crate) type Orders = mpsc::Receiver<Order>;

/// What the handle and the hub share.
pub(crate) struct Shared {
    pub(crate) me: NodeRecord,
    started: Instant,
    orders: mpsc::Sender<Order>,
    publish: mpsc::Sender<transport::Command>,
    pub(crate) transport: Arc<transport::Counters>,
    /// Changes of subscriptions that the hub has not taken yet: the latest wish for each topic.
    subscriptions: Mutex<BTreeMap<Topic, bool>>,
    /// Tells the hub of such changes.
    pub(crate) resubscribe: Notify,
    load: Mutex<Bytes>,
    pub(crate) sends_dropped: AtomicU64,
    pub(crate) peers: watch::Sender<Arc<PeerTable>>,
    pub(crate) view: watch::Sender<Arc<MeshView>>,
}

impl Shared {
    pub(crate) fn new(view: MeshView, transport: &Transport) -> (Arc<Shared>, Orders) {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let shared = Shared {
            me: view.node.clone(),
            started: Instant::now(),
            orders,
            publish: transport.commands.clone(),
            transport: transport.counters.clone(),
            subscriptions: Mutex::default(),
            resubscribe: Notify::new(),
            load: Mutex::default(),
            sends_dropped: AtomicU64::new(0),
            peers: watch::Sender::new(Arc::default()),
            view: watch::Sender::new(Arc::new(view)),
        };
        (Arc::new(shared), receiver)
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment at which the node's clock shows `ms`.
    pub(crate) fn at_ms(&self, ms: u64) -> Instant {
        self.started + Duration::from_millis(ms)
    }

    pub(crate) fn load(&self) -> Bytes {
        self.load.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take_subscriptions(&self) -> BTreeMap<Topic, bool> {
        std::mem::take(&mut *self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wish(&self, topic: Topic, wanted: bool) {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).insert(topic, wanted);
        self.resubscribe.notify_one();
    }
}

impl Mesh {
    pub(crate) fn new(shared: Arc<Shared>, registry: Registry) -> Mesh {
        Mesh { shared, registry }
    }

    /// This node's record.
    pub fn me(&self) -> &NodeRecord {
        &self.shared.me
    }

    /// This node's lease in the directory: a cheap and exact answer to "may I act as an owner at this moment?".
    pub fn lease(&self) -> OwnLease {
        self.registry.lease()
    }

    /// Waits until this node is registered for the first time, or surely will not be. The caller sets the deadline.
    pub async fn registered(&self) -> Result<(), JoinError> {
        self.registry.registered().await
    }

    /// This node's clock: milliseconds since it started. Never goes back.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_us() / 1000
    }

    /// Publishes to every peer that subscribed to the topic. Never waits; what does not fit is dropped and counted.
    pub fn publish(&self, topic: Topic, parts: Vec<Bytes>) {
        if self.shared.publish.try_send(transport::Command::Publish { topic, parts }).is_err() {
            self.shared.transport.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a topic of every peer, present and future. A subscription is handed to the transport before any later call.
    pub fn subscribe(&self, topic: Topic) {
        self.shared.wish(topic, true);
    }

    /// No longer takes a topic. A few frames may still come.
    pub fn unsubscribe(&self, topic: Topic) {
        self.shared.wish(topic, false);
    }

    /// Calls a method of a peer and waits for the answer, at most for the method's deadline.
    ///
    /// On the commit lane such a call is sent once and never repeated: see [`Mesh::call_once`].
    pub async fn call(&self, to: &NodeId, method: &'static Method, body: Bytes) -> Result<Bytes, CallError> {
        self.ask(to, method, body, None).await
    }

    /// Calls a method under an operation id: however often it is asked, also by other nodes, the peer carries it out once
    /// while it remembers the operation, and answers the same.
    pub async fn call_once(
        &self,
        to: &NodeId,
        method: &'static Method,
        operation: u128,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        self.ask(to, method, body, Some(operation)).await
    }

    async fn ask(
        &self,
        to: &NodeId,
        method: &'static Method,
        body: Bytes,
        operation: Option<u128>,
    ) -> Result<Bytes, CallError> {
        debug_assert!(method.lane != Lane::Async, "{} has no answer: send it", method.name);
        let (reply, answer) = oneshot::channel();
        let order = Order::Call { to: to.clone(), method, body, operation, reply };
        let patience = Duration::from_millis(u64::from(method.deadline_ms));
        match self.shared.orders.send_timeout(order, patience).await {
            Ok(()) => answer.await.unwrap_or(Err(CallError::Stopped)),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(CallError::Overloaded { peer: to.clone() }),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(CallError::Stopped),
        }
    }

    /// Sends a message that is never answered. Never waits; what does not fit is dropped and counted.
    pub fn send(&self, to: &NodeId, method: &'static Method, body: Bytes) {
        if self.shared.orders.try_send(Order::Send { to: to.clone(), method, body }).is_err() {
            self.shared.sends_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets what every heartbeat says of this node's load.
    ///
    /// # Panics
    /// If it is larger than [`LOAD_BYTES`]: programs make it, not people.
    pub fn set_load(&self, load: Bytes) {
        assert!(load.len() <= LOAD_BYTES, "a load of {} bytes", load.len());
        *self.shared.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// The peers, as they are now.
    pub fn peers(&self) -> Arc<PeerTable> {
        self.shared.peers.borrow().clone()
    }

    /// The peers, as they change.
    pub fn watch_peers(&self) -> watch::Receiver<Arc<PeerTable>> {
        self.shared.peers.subscribe()
    }

    /// What this node believes of every node, at most a second old.
    pub fn view(&self) -> MeshView {
        self.shared.view.borrow().as_ref().clone()
    }

    /// Leaves: takes the record out of the directory, tells the peers, and stops the hub. Calls fail from then on.
    ///
    /// Returns when that is done, or could not be done in a few seconds (then the lease runs out by itself).
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.shared.orders.send(Order::Leave { done }).await.is_ok() {
            // An error means that the hub stopped, which is as good as left.
            let _ = left.await;
        }
    }
}
