//! Animals that were in a battle when they came to this zoo: their room is told whose they are now.
//!
//! Where the room is, the battle's document says; one whose colosseum is gone is asked for as by anybody who is in it. A room
//! that knows of no such battle lets the animal go. Every wait is bounded; what stays open, the watch over battles of which
//! nothing is seen decides. It NEVER decides what becomes of a battle.

use std::sync::Arc;
use std::time::Duration;

use estate::post;
use mesh::{CallError, NodeId, Role};
use tokio::time::sleep;

use super::{Shared, ZooInput};
use crate::draining::takes_work;
use crate::methods::living::{BATTLE_JOIN, BATTLE_RESUME, BattleJoin};
use crate::methods::pack;
use crate::protocol::codes;
use crate::rendezvous::choose;
use crate::world_loop::WorldHandle;

/// How often it is tried, and the pause in between: together longer than it takes until a dead colosseum's lease has ended.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Tells the room of an animal's battle that it is this zoo's now.
pub(super) async fn rejoin(shared: Arc<Shared>, world: WorldHandle<ZooInput>, join: BattleJoin) {
    let (animal, battle) = (join.fighter.object, join.battle);
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        if let Some(over) = try_once(&shared, &join).await {
            world.role(ZooInput::Rejoined { animal, battle, over }).await;
            return;
        }
    }
    tracing::warn!(battle, animal = animal.0, "the room of an animal that was taken over was not found");
}

/// Whether the battle is over for the animal; none if that is not known yet.
async fn try_once(shared: &Shared, join: &BattleJoin) -> Option<bool> {
    let key = post::key("battle", &join.battle.to_string());
    let found = match post::find(&**shared.estate.store(), &key).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(battle = join.battle, %error, "where a battle is cannot be read");
            return None;
        }
    };
    let living = shared.owners.living().await;
    let owner = found.and_then(|post| post.owner.filter(|owner| !living.is_gone(owner)));
    let node = match owner {
        Some(owner) => NodeId::new(&owner.node).ok()?,
        None => {
            // Its colosseum is gone, or it is over: who goes on with it, or that nobody does, the next one says.
            let colosseums = takes_work(&shared.mesh.peers(), Role::Colosseum);
            let node = choose(&join.battle.to_be_bytes(), &colosseums)?.clone();
            match shared.mesh.call(&node, &BATTLE_RESUME, pack(&join.battle)).await {
                Ok(_) => node,
                Err(CallError::Refused { refusal, .. }) if refusal.code == codes::MISSING => return Some(true),
                Err(_) => return None,
            }
        }
    };
    match shared.mesh.call(&node, &BATTLE_JOIN, pack(join)).await {
        Ok(_) => Some(false),
        Err(CallError::Refused { refusal, .. }) if [codes::MISSING, codes::DEFEATED].contains(&&*refusal.code) => {
            Some(true)
        }
        Err(error) => {
            tracing::debug!(battle = join.battle, %error, "a room has not taken over an animal yet");
            None
        }
    }
}
