//! The registry over both drivers: on memory with paused time and every fault, on a real etcd through its restarts.

mod faults;
mod names;
mod real;
mod storm;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::directory::memory::{MemoryClient, MemoryDirectory};
use crate::record::{Incarnation, PROTOCOL_VERSION, Role};

/// Longer than anything takes; on paused time it costs nothing.
const LONG: Duration = Duration::from_secs(60);

/// A frontend's record. Lives of one name have endpoints of their own, as with ports chosen by the system.
pub(super) fn record(name: &str, incarnation: u64) -> NodeRecord {
    NodeRecord {
        node: NodeId::new(name).unwrap(),
        role: Role::Frontend,
        incarnation: Incarnation(incarnation),
        publish: format!("tcp://127.0.0.1:1{incarnation}"),
        request: format!("tcp://127.0.0.1:2{incarnation}"),
        public: None,
        version: "test".to_owned(),
        protocol: PROTOCOL_VERSION,
    }
}

pub(super) fn config(record: NodeRecord) -> Config {
    Config { district: District::new("test", "north"), record, lease_ttl_s: LEASE_TTL_S }
}

/// A node with nothing but a registry.
pub(super) struct Node {
    pub(super) tasks: Tasks,
    pub(super) registry: Registry,
    pub(super) events: mpsc::Receiver<RegistryEvent>,
    pub(super) record: NodeRecord,
}

impl Node {
    pub(super) fn start(directory: Arc<dyn Directory>, record: NodeRecord) -> Node {
        Node::start_with(directory, config(record))
    }

    pub(super) fn start_with(directory: Arc<dyn Directory>, config: Config) -> Node {
        let tasks = Tasks::simulated();
        let record = config.record.clone();
        let (registry, events) = start(config, directory, &tasks);
        Node { tasks, registry, events, record }
    }

    /// Starts and waits until registered.
    pub(super) async fn up(directory: Arc<dyn Directory>, record: NodeRecord) -> Node {
        let mut node = Node::start(directory, record);
        node.until(|event| matches!(event, RegistryEvent::OwnLeaseBack { .. })).await;
        node
    }

    /// Waits for an event; returns all up to and with it.
    pub(super) async fn until(&mut self, wanted: impl Fn(&RegistryEvent) -> bool) -> Vec<RegistryEvent> {
        let mut seen = Vec::new();
        loop {
            let event = match timeout(LONG, self.events.recv()).await {
                Ok(event) => event.unwrap_or_else(|| panic!("{} ended after {seen:?}", self.record.node)),
                Err(_) => panic!("{} waits in vain after {seen:?}", self.record.node),
            };
            seen.push(event);
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
    }

    pub(super) async fn until_event(&mut self, wanted: RegistryEvent) -> Vec<RegistryEvent> {
        self.until(|event| *event == wanted).await
    }

    /// What was told by now.
    pub(super) fn told(&mut self) -> Vec<RegistryEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

pub(super) struct World {
    pub(super) directory: MemoryDirectory,
}

impl World {
    pub(super) fn new() -> World {
        World { directory: MemoryDirectory::start(&Tasks::simulated(), 7) }
    }

    /// A registered node and its way to the directory.
    pub(super) async fn node(&self, name: &str, incarnation: u64) -> (Node, MemoryClient) {
        let client = self.directory.client();
        (Node::up(Arc::new(client.clone()), record(name, incarnation)).await, client)
    }

    /// Waits until this is what stands in the directory.
    pub(super) async fn until_stands(&self, nodes: &[&NodeRecord]) {
        let began = Instant::now();
        loop {
            let entries = self.directory.peek("/wildmesh/test/north/nodes/");
            let stands: Vec<NodeRecord> =
                entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect();
            if stands.iter().eq(nodes.iter().copied()) {
                return;
            }
            assert!(began.elapsed() < LONG, "what stands is {stands:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[test]
fn keys_are_made_of_plain_names() {
    let check = |cluster: &str, district: &str, expected: &str| {
        assert_eq!(District::new(cluster, district).prefix(), expected);
    };
    check("test", "north", "/wildmesh/test/north/nodes/");
    check("Test_1.a", "n-1", "/wildmesh/Test_1.a/n-1/nodes/");
    check("a/b", "é%", "/wildmesh/a%2Fb/%C3%A9%25/nodes/");
    let key = District::new("test", "north").key(&record("frontend-1", 1));
    assert_eq!(key, "/wildmesh/test/north/nodes/frontend/frontend-1");
}

#[tokio::test(start_paused = true)]
async fn the_living_of_a_cluster_are_those_of_all_its_districts() {
    let directory = MemoryDirectory::start(&Tasks::simulated(), 1);
    let client: Arc<dyn Directory> = Arc::new(directory.client());
    let mut nodes = Vec::new();
    for (cluster, district, name) in [("test", "north", "a"), ("test", "so/uth", "b"), ("test2", "north", "c")] {
        let record = record(name, nodes.len() as u64 + 1);
        let config = Config { district: District::new(cluster, district), record, lease_ttl_s: LEASE_TTL_S };
        let node = Node::start_with(client.clone(), config);
        node.registry.registered().await.expect("registered");
        nodes.push(node);
    }
    // What else may lie in a cluster's keys is no node.
    client.put("/wildmesh/test/north/queue/7", b"{}", None).await.expect("put");
    client.put("/wildmesh/test/nodes", b"{}", None).await.expect("put");
    for district in ["north", "elsewhere"] {
        let living = read_cluster(&*client, &District::new("test", district)).await.expect("read");
        let names: Vec<&str> = living.iter().map(|record| record.node.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
