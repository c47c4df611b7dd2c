//! Players that another frontend has or wants: let go to where their session comes in, kept, or dropped.
//!
//! A session that comes back elsewhere takes its player with it: battle and walk go on there. A newer session ends the older
//! one. What another node has claimed already is dropped without a word to anybody but its client: its battle, its trades and
//! its document are NEVER touched.

use cartographer::geometry::{Epoch, ObjectId};
use tokio::sync::oneshot;

use super::Players;
use super::show::farewell;
use crate::frontend::sessions::Farewell;
use crate::frontend::tickets::SessionId;
use crate::game::{Body, GameWorld};
use crate::methods::Yielded;
use crate::protocol::codes;

/// What becomes of a player that another frontend wants.
pub enum Yields {
    /// It is let go: what its document does not say, and when that is released.
    LetGo(Yielded, oneshot::Receiver<()>),
    /// It is not here.
    Absent,
    /// Its client was welcomed after that token was shown, and may yet be heard: to be asked again soon.
    Later,
}

impl Players {
    /// Lets a player go to where this session comes in: a new one if it has no turn, else one that comes back; `waited` if its
    /// client was given the time to be heard.
    pub(super) fn yield_to(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        session: SessionId,
        turn: Option<u64>,
        waited: bool,
    ) -> Result<Yields, Farewell> {
        let Some(player) = self.players.get(&id) else { return Ok(Yields::Absent) };
        let (done, released) = oneshot::channel();
        let Some(turn) = turn else {
            self.close(world, now, id, Some((codes::REPLACED, "a newer session has taken over")), Some(done));
            return Ok(Yields::LetGo(Yielded::default(), released));
        };
        player.admits(session, turn)?;
        if !waited && player.may_be_heard(turn) {
            return Ok(Yields::Later);
        }
        if player.client.is_some() {
            self.shared.metrics.farewells.with_label_values(&[codes::REPLACED]).inc();
        }
        let yielded = Yielded { walks: walks(world, now, id), battle: battle(world, id) };
        let last = farewell(codes::REPLACED, "another connection has taken over");
        self.remove(world, now, id, Some(last), true, Some(done));
        Ok(Yields::LetGo(yielded, released))
    }

    /// Whether a player is in a battle, or about to be told so by its room.
    pub(super) fn is_fighting(&self, world: &GameWorld, id: ObjectId) -> bool {
        self.fighting.contains_key(&id) || battle(world, id) != 0
    }

    /// The document of a player says that it is still ours.
    pub(super) fn sure(&mut self, world: &GameWorld, id: ObjectId, epoch: Epoch) {
        if let Some(player) = self.players.get_mut(&id)
            && self.lease_held
            && world.get(id).is_some_and(|real| real.epoch() == epoch)
        {
            player.sure = true;
        }
    }

    /// Another node owns a player that was ours under this epoch.
    pub(super) fn fenced(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        epoch: Epoch,
        (code, text): (&'static str, &'static str),
    ) {
        // One that has come in here again since is another's business.
        let Some(player) = self.players.get(&id).filter(|_| world.get(id).is_some_and(|it| it.epoch() == epoch)) else {
            return;
        };
        if player.client.is_some() {
            self.shared.metrics.farewells.with_label_values(&[code]).inc();
        }
        self.remove(world, now, id, Some(farewell(code, text)), true, None);
    }
}

/// Where a player is going, and how fast, if it walks.
pub(in crate::frontend) fn walks(world: &GameWorld, now: u64, id: ObjectId) -> Option<((i32, i32), i32)> {
    let motion = world.get(id)?.motion();
    let (end, speed) = (motion.end(), speed(motion.velocity));
    motion.is_moving(now).then_some(((end.x, end.y), speed))
}

/// How fast something moves, in 1/256 tile a second.
pub(in crate::frontend) fn speed((x, y): (i32, i32)) -> i32 {
    let squared = i64::from(x) * i64::from(x) + i64::from(y) * i64::from(y);
    // A root that is rounded up is no faster than what was asked for, whose components were rounded down.
    i32::try_from(squared.isqrt() + i64::from(squared.isqrt().pow(2) < squared)).unwrap_or(i32::MAX)
}

/// The battle in which a player is; 0 if it is in none.
pub(in crate::frontend) fn battle(world: &GameWorld, id: ObjectId) -> u64 {
    match world.get(id).map(cartographer::world::Real::body) {
        Some(Body::Player(body)) => body.battle,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::speed;

    #[test]
    fn a_speed_is_told_from_its_components() {
        for (velocity, told) in
            [((0, 0), 0), ((1024, 0), 1024), ((-3, 4), 5), ((724, 724), 1024), ((i32::MIN, 0), i32::MAX)]
        {
            assert_eq!(speed(velocity), told, "{velocity:?}");
        }
    }
}
