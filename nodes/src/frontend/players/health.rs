//! How players are: health that battles take, that food gives, and that comes back by itself.
//!
//! Health comes back by time outside of battles, in steps, so that a wounded crowd is not a stream of changes. It NEVER comes
//! back to a player who fights: there its room decides.

use cartographer::geometry::ObjectId;
use estate::player::WELL;

use super::Players;
use crate::game::{Body, GameWorld, player};

/// Health comes back by so many percent at once.
const STEP: u8 = 5;

const MINUTE_MS: u64 = 60_000;

impl Players {
    /// A player's health in percent; 0 if it is not here.
    pub(super) fn health_of(&self, world: &GameWorld, id: ObjectId) -> u8 {
        match world.get(id).map(cartographer::world::Real::body) {
            Some(Body::Player(body)) => body.health,
            _ => 0,
        }
    }

    /// Changes a player's body.
    pub(super) fn change_body(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        change: impl FnOnce(&mut player::Player),
    ) {
        world.change(now, id, |body| {
            if let Body::Player(body) = body {
                change(body);
            }
        });
    }

    /// A player is so well now.
    pub(super) fn set_health(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, health: u8) {
        let health = health.min(WELL);
        if health == self.health_of(world, id) {
            return;
        }
        self.change_body(world, now, id, |body| body.health = health);
        self.bags_due.insert(id);
        self.watch_wounds(now, id, health);
    }

    /// Notes a player whose health is to come back.
    pub(super) fn watch_wounds(&mut self, now: u64, id: ObjectId, health: u8) {
        if health >= WELL {
            self.wounded.remove(&id);
        } else {
            self.wounded.entry(id).or_insert(now);
        }
    }

    /// A player feels better. Food does not help while a room has its health.
    pub(in crate::frontend) fn mend(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, percent: u8) {
        if self.players.contains_key(&id) && !self.fighting.contains_key(&id) {
            let health = self.health_of(world, id).saturating_add(percent);
            self.set_health(world, now, id, health);
        }
    }

    /// Lets health come back to all who do not fight.
    pub(super) fn heal(&mut self, world: &mut GameWorld, now: u64) {
        let per_minute = u64::from(self.shared.content.tuning.heal_per_minute);
        let ids: Vec<ObjectId> = self.wounded.keys().copied().collect();
        for id in ids {
            let health = self.health_of(world, id);
            let missing = u64::from(WELL - health.min(WELL));
            let Some(since) = self.wounded.get_mut(&id) else { continue };
            if self.fighting.contains_key(&id) {
                *since = now;
                continue;
            }
            let grown = now.saturating_sub(*since) * per_minute / MINUTE_MS;
            if grown >= u64::from(STEP) || (grown > 0 && grown >= missing) {
                // What has grown beyond whole percents is kept.
                *since += grown * MINUTE_MS / per_minute;
                let grown = u8::try_from(grown.min(missing)).unwrap_or(WELL);
                self.set_health(world, now, id, health + grown);
            }
        }
    }
}
