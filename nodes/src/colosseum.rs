//! The colosseum: runs battles, each a room with a scheduler of its own.

use async_trait::async_trait;
use cartographer::world::{CellFrame, TickOutput};
use mesh::{CallRefusal, IncomingCall};

use crate::game::GameWorld;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, Rules, WorldHandle};

/// What flows tell the world.
pub enum ColosseumInput {}

/// A running colosseum.
#[derive(Clone)]
pub struct Colosseum {
    /// Its world.
    pub world: WorldHandle<ColosseumInput>,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Colosseum> {
    let Parts { mesh, events, world, metrics, tasks, .. } = parts;
    let world = world_loop::start(world, mesh, events, metrics, &tasks, |_| ColosseumRules)?;
    Ok(Colosseum { world })
}

impl Colosseum {
    /// Saves and releases what it owns: the first half of leaving the mesh.
    pub async fn leave(&self) {}
}

#[async_trait]
impl Answers for Colosseum {
    fn takes(&self, _family: &str) -> bool {
        false
    }

    async fn answer(&self, call: IncomingCall) {
        let refusal = CallRefusal::unknown_method(&call.method);
        call.answer(Err(refusal));
    }
}

struct ColosseumRules;

impl Rules for ColosseumRules {
    type Input = ColosseumInput;

    fn input(&mut self, _: &mut GameWorld, _: u64, input: ColosseumInput) {
        match input {}
    }

    fn ticked(&mut self, _: &mut GameWorld, _: u64, _: &TickOutput, _: Vec<CellFrame>) {}
}
