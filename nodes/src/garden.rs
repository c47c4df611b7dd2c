//! The garden: owns facilities and natural objects while somebody sees or touches them.

use async_trait::async_trait;
use cartographer::world::{CellFrame, TickOutput};
use mesh::{CallRefusal, IncomingCall};

use crate::game::GameWorld;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, Rules, WorldHandle};

/// What flows tell the world.
pub enum GardenInput {}

/// A running garden.
#[derive(Clone)]
pub struct Garden {
    /// Its world.
    pub world: WorldHandle<GardenInput>,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Garden> {
    let Parts { mesh, events, world, metrics, tasks, .. } = parts;
    let world = world_loop::start(world, mesh, events, metrics, &tasks, |_| GardenRules)?;
    Ok(Garden { world })
}

impl Garden {
    /// Saves and releases what it owns: the first half of leaving the mesh.
    pub async fn leave(&self) {}
}

#[async_trait]
impl Answers for Garden {
    fn takes(&self, _family: &str) -> bool {
        false
    }

    async fn answer(&self, call: IncomingCall) {
        let refusal = CallRefusal::unknown_method(&call.method);
        call.answer(Err(refusal));
    }
}

struct GardenRules;

impl Rules for GardenRules {
    type Input = GardenInput;

    fn input(&mut self, _: &mut GameWorld, _: u64, input: GardenInput) {
        match input {}
    }

    fn ticked(&mut self, _: &mut GameWorld, _: u64, _: &TickOutput, _: Vec<CellFrame>) {}
}
