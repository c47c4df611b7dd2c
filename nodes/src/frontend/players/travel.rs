//! Journeys: a player is put elsewhere, on this island or another of this node.
//!
//! Whoever travels leaves battle and trades behind; its document follows at once. It NEVER begins a journey by itself.

use cartographer::geometry::{IslandId, ObjectId, Place};

use super::Players;
use crate::frontend::acts::withdraw_all;
use crate::game::GameWorld;

impl Players {
    /// Puts a player elsewhere. A place that is none leaves it where it is.
    pub(super) fn travel(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, island: IslandId, place: Place) {
        self.leave_battle(world, now, id);
        self.leave_trades(id);
        if let Err(error) = world.teleport(now, id, island, place) {
            tracing::warn!(player = id.0, island = island.0, %error, "a player cannot be put elsewhere");
            return;
        }
        let Some(player) = self.players.get_mut(&id) else { return };
        player.island = island;
        player.pace.astray = player.pace.joins;
        self.save(world, now, id);
    }

    /// A player goes: out of its trades.
    pub(super) fn leave_trades(&mut self, id: ObjectId) {
        let Some(player) = self.players.get_mut(&id) else { return };
        let numbers: Vec<u64> = std::mem::take(&mut player.trades).into_iter().collect();
        let Some(inputs) = self.inputs.upgrade().filter(|_| !numbers.is_empty()) else { return };
        self.shared.tasks.spawn(withdraw_all(self.shared.clone(), inputs, id, numbers));
    }
}
