//! Whole hubs on the network and the directory in memory, on paused time: what a program on a node gets to see.

mod calls;
mod chaos;
mod flow;
mod links;
mod real;
mod strangers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::*;
use crate::CallError;
use crate::directory::memory::{MemoryClient, MemoryDirectory};
use crate::peers::PeerState;
use crate::record::{Incarnation, NodeId, PROTOCOL_VERSION, Role};
use crate::transport::memory::{MemoryNetwork, endpoints};

/// Longer than anything takes; on paused time it costs little.
const LONG: Duration = Duration::from_secs(120);

/// How often a state that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A network and a directory.
struct Place {
    tasks: Tasks,
    network: MemoryNetwork,
    directory: MemoryDirectory,
}

impl Place {
    fn new(seed: u64) -> Place {
        let tasks = Tasks::simulated();
        let directory = MemoryDirectory::start(&tasks, seed);
        Place { tasks, network: MemoryNetwork::new(seed), directory }
    }

    fn node(&self, name: &str, life: u64) -> Node {
        self.node_with(config(name, life), Arc::new(self.directory.client()))
    }

    fn node_with(&self, config: Config, directory: Arc<dyn Directory>) -> Node {
        let tasks = Tasks::simulated();
        let transport = self.network.transport(config.record.node.as_str(), &tasks);
        let record = config.record.clone();
        let (mesh, inbox) = start(config, transport, directory, &tasks);
        Node { id: record.node, tasks, mesh, inbox, seen: Vec::new() }
    }

    /// Two nodes that are up with each other.
    async fn pair(&self) -> (Node, Node) {
        let (one, two) = (self.node("zoo-1", 1), self.node("zoo-2", 2));
        one.until_up(&two).await;
        two.until_up(&one).await;
        (one, two)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn record(name: &str, life: u64) -> NodeRecord {
    let endpoints = endpoints(name);
    NodeRecord {
        node: id(name),
        role: Role::Zoo,
        incarnation: Incarnation(life),
        publish: endpoints.publish,
        request: endpoints.request,
        public: None,
        version: "test".to_owned(),
        protocol: PROTOCOL_VERSION,
    }
}

fn config(name: &str, life: u64) -> Config {
    Config {
        cluster: "test".to_owned(),
        district: "north".to_owned(),
        key: b"secret".to_vec(),
        record: record(name, life),
        seed: life,
        lease_ttl_s: 5,
    }
}

/// A node with a program that only looks.
struct Node {
    id: NodeId,
    tasks: Tasks,
    mesh: Mesh,
    inbox: Inbox,
    seen: Vec<String>,
}

impl Node {
    fn state(&self, of: &NodeId) -> Option<PeerState> {
        self.mesh.peers().get(of).map(|peer| peer.state)
    }

    fn incarnation(&self) -> Incarnation {
        self.mesh.me().incarnation
    }

    async fn until_state(&self, of: &NodeId, state: Option<PeerState>) {
        until(&format!("{of} is {state:?} at {}", self.id), || self.state(of) == state).await;
    }

    async fn until_up(&self, other: &Node) {
        let up = || {
            let peers = self.mesh.peers();
            let peer = peers.by_incarnation(other.incarnation());
            peer.is_some_and(|peer| peer.record.node == other.id && peer.state == PeerState::Up)
        };
        until(&format!("{} is up at {}", other.id, self.id), up).await;
    }

    /// Takes what was told by now and gives all that was told so far, in words.
    fn told(&mut self) -> &[String] {
        while let Ok(event) = self.inbox.events.try_recv() {
            self.seen.push(words(&event));
        }
        &self.seen
    }

    async fn until_told(&mut self, words: &str) {
        let start = Instant::now();
        while !self.told().iter().any(|told| told == words) {
            assert!(start.elapsed() < LONG, "{} waits in vain for {words:?} after {:?}", self.id, self.seen);
            sleep(LOOK).await;
        }
    }

    /// Answers every call with its own body, at once, for ever.
    fn echo(&mut self) {
        let (_, none) = mpsc::channel(1);
        let mut calls = std::mem::replace(&mut self.inbox.calls, none);
        self.tasks.spawn(async move {
            while let Some(call) = calls.recv().await {
                let body = call.body.clone();
                call.answer(Ok(body));
            }
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::PeerUp(peer) => format!("up {}/{}", peer.record.node, peer.record.incarnation.0),
        Event::PeerDown { peer, incarnation, reason } => format!("down {peer}/{} {reason:?}", incarnation.0),
        Event::PeerGone { peer, incarnation } => format!("gone {peer}/{}", incarnation.0),
        Event::Frames { from, topic, .. } => format!("frames {} {}", from.0, topic.as_str()),
        Event::Lost { from } => format!("lost {}", from.0),
        Event::OwnLeaseLost => "own lease lost".to_owned(),
        Event::OwnLeaseBack => "own lease back".to_owned(),
        Event::NameTaken { by } => format!("name taken by {}", by.incarnation.0),
    }
}

/// Waits until something is true.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "never: {what}");
        sleep(LOOK).await;
    }
}
