//! The zoo: wakes habitats that players see, and runs the animals' minds.

use async_trait::async_trait;
use cartographer::world::{CellFrame, TickOutput};
use mesh::{CallRefusal, IncomingCall};

use crate::game::GameWorld;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, Rules, WorldHandle};

/// What flows tell the world.
pub enum ZooInput {}

/// A running zoo.
#[derive(Clone)]
pub struct Zoo {
    /// Its world.
    pub world: WorldHandle<ZooInput>,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Zoo> {
    let Parts { mesh, events, world, metrics, tasks, .. } = parts;
    let world = world_loop::start(world, mesh, events, metrics, &tasks, |_| ZooRules)?;
    Ok(Zoo { world })
}

impl Zoo {
    /// Saves and releases what it owns: the first half of leaving the mesh.
    pub async fn leave(&self) {}
}

#[async_trait]
impl Answers for Zoo {
    fn takes(&self, _family: &str) -> bool {
        false
    }

    async fn answer(&self, call: IncomingCall) {
        let refusal = CallRefusal::unknown_method(&call.method);
        call.answer(Err(refusal));
    }
}

struct ZooRules;

impl Rules for ZooRules {
    type Input = ZooInput;

    fn input(&mut self, _: &mut GameWorld, _: u64, input: ZooInput) {
        match input {}
    }

    fn ticked(&mut self, _: &mut GameWorld, _: u64, _: &TickOutput, _: Vec<CellFrame>) {}
}
