//! The suite on the network in memory, and what only this driver promises: faults, freezing, repeatable runs.

use super::*;
use crate::transport::conformance::{Fabric, Node, conformance};

struct InMemory(MemoryNetwork);

impl Fabric for InMemory {
    fn node(&mut self, name: &str, _on: Option<&Endpoints>) -> Node {
        let tasks = Tasks::simulated();
        Node { transport: self.0.transport(name, &tasks), tasks }
    }
}

conformance!(InMemory(MemoryNetwork::new(1)));
