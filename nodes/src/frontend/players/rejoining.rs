//! Players who come in while they are in a battle: their room is told who has them now.
//!
//! A battle goes on while one of its fighters moves to another frontend. The new one asks the colosseums for the room, which
//! takes it as the fighter's new owner; where nobody knows of the battle the player is free. Until then the player is shown as
//! fighting and does NEVER walk.

use std::time::Duration;

use cartographer::geometry::ObjectId;
use mesh::{CallError, NodeId, Role};
use tokio::time::sleep;

use super::{FrontInput, Players};
use crate::frontend::Shared;
use crate::frontend::acts::{Room, as_fighter};
use crate::frontend::people::battle_key;
use crate::game::{Body, GameWorld};
use crate::methods::living::{BATTLE_JOIN, BATTLE_RESUME, BattleJoin, Fighter};
use crate::methods::pack;
use crate::protocol::codes;
use crate::rendezvous;
use crate::world_loop::Input;

/// How often the colosseums are asked for a room before a player is free.
const ROUNDS: u32 = 8;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// Colosseums that are asked in each round, at most.
const ASKED: usize = 8;

impl Players {
    /// A player came in that is in a battle: its room is asked to take this node as its owner.
    pub(super) fn rejoin_battle(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, battle: u64) {
        let Some(inputs) = self.inputs.upgrade() else { return };
        let Some(Body::Player(body)) = world.get(id).map(|real| real.body().clone()) else { return };
        let Some(player) = self.players.get_mut(&id) else { return };
        // What the room says of it before its answer is there is about a battle that begins.
        player.pace.joins = true;
        let fighter = as_fighter(&self.shared, id, &body, &player.keeper.carried());
        self.change_body(world, now, id, |body| body.battle = battle);
        // Who stands already stays so; the refusal means nothing else.
        let _ = world.stop(now, id);
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            let room = find(&shared, battle, fighter).await;
            // An error means that the world has ended.
            let _ = inputs.send(Input::Role(FrontInput::Rejoined { player: id, battle, room })).await;
        });
    }

    /// The room of a player that came in was asked.
    pub(super) fn rejoined(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, battle: u64, room: Option<Room>) {
        let astray = match self.players.get_mut(&id) {
            Some(player) if super::yielding::battle(world, id) == battle => {
                player.pace.joins = false;
                std::mem::take(&mut player.pace.astray)
            }
            // It has left meanwhile.
            _ => true,
        };
        match room {
            Some(room) if astray => self.leave_room(id, room),
            Some(room) => self.fights(world, now, id, room),
            None if !astray => self.change_body(world, now, id, |body| body.battle = 0),
            None => {}
        }
    }

    /// Whether a player is in a battle, or about to be told so by its room.
    pub(super) fn is_fighting(&self, world: &GameWorld, id: ObjectId) -> bool {
        self.fighting.contains_key(&id) || super::yielding::battle(world, id) != 0
    }
}

/// Asks the colosseums for the room of a battle, and has it take the fighter as its own.
async fn find(shared: &Shared, battle: u64, fighter: Fighter) -> Option<Room> {
    let joins = pack(&BattleJoin { battle, fighter });
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(PAUSE).await;
        }
        let peers = shared.mesh.peers();
        let up: Vec<NodeId> = peers.up(Role::Colosseum).map(|peer| peer.record.node.clone()).collect();
        // One that does not answer may be the one that has it.
        let mut unclear = up.is_empty();
        for node in rendezvous::ranked(&battle_key(battle), &up).into_iter().take(ASKED) {
            match shared.mesh.call(node, &BATTLE_JOIN, joins.clone()).await {
                Ok(_) => {
                    let life = shared.mesh.peers().get(node)?.record.incarnation;
                    return Some(Room { battle, node: node.clone(), life });
                }
                Err(CallError::Refused { refusal, .. }) if refusal.code == codes::MISSING => {}
                Err(error) => {
                    tracing::debug!(battle, %node, %error, "a colosseum does not take a fighter back");
                    unclear = true;
                }
            }
        }
        if unclear {
            continue;
        }
        // Nobody leads it: its colosseum may have gone with it.
        for node in rendezvous::ranked(&battle_key(battle), &up).into_iter().take(1) {
            match shared.mesh.call(node, &BATTLE_RESUME, pack(&battle)).await {
                Err(CallError::Refused { refusal, .. }) if refusal.code == codes::MISSING => return None,
                Ok(_) => {}
                Err(error) => tracing::debug!(battle, %node, %error, "a colosseum does not go on with a battle"),
            }
        }
    }
    None
}
