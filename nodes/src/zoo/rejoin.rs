//! Animals that were in a battle when they came to this zoo: their room is told whose they are now.
//!
//! A room that knows of no such battle, or does not take the animal, lets it go. What stays open, the watch over battles of
//! which nothing is seen decides. It NEVER decides what becomes of a battle.

use std::sync::Arc;

use mesh::NodeId;

use super::{Shared, ZooInput};
use crate::battles::{self, Found};
use crate::methods::living::Fighter;
use crate::world_loop::WorldHandle;

/// Tells the room of an animal's battle that it is this zoo's now; `at` is where the battle was seen last.
pub(super) async fn rejoin(
    shared: Arc<Shared>,
    world: WorldHandle<ZooInput>,
    battle: u64,
    at: Option<NodeId>,
    fighter: Fighter,
) {
    let animal = fighter.object;
    let over = match battles::rejoin(&shared.mesh, battle, at, fighter).await {
        Found::At(_) | Found::Lost => false,
        Found::Over => true,
    };
    world.role(ZooInput::Rejoined { animal, battle, over }).await;
}
