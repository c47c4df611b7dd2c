//! Players in battles: handed over to a room, told how they are, given back.
//!
//! While a player fights its room decides; here its health is shown, and it does not walk. A player whose room is lost (its
//! colosseum is gone, or the battle has not been seen for a while), or of which it is not sure that it has the player, joins
//! it again wherever it goes on; so does one who came here from another frontend in a battle. Where nobody goes on with it the
//! player is free. Rooms that believe a player to be in them who is not are told so. A player NEVER is in two battles.

use cartographer::geometry::ObjectId;
use estate::player::WELL;
use mesh::{CallRefusal, Incarnation, NodeId};
use tokio::sync::oneshot;

use super::{FrontInput, Players};
use crate::battles::{self, Found};
use crate::frontend::acts::{Room, as_fighter, leave, note};
use crate::frontend::people::{FighterCall, FighterWhat};
use crate::game::battle::Battle;
use crate::game::{Body, GameWorld};
use crate::methods::living::{Fighter, FighterFreed, FighterTake, FighterTold, Freed};
use crate::protocol::codes;
use crate::world_loop::Input;

/// How long a battle may be out of sight before its room is asked for, in milliseconds.
const UNSEEN_MS: u64 = 4_000;

/// How long a room may leave it open whether it has the player before the player joins again, in milliseconds: time for its
/// word to come.
const UNSURE_MS: u64 = 1_500;

/// The life of a colosseum that is not known yet.
pub(in crate::frontend) const UNKNOWN: Incarnation = Incarnation(0);

/// The health with which a defeated player wakes at home.
const AWAKES: u8 = WELL / 2;

/// A player's battle.
pub(in crate::frontend) struct Fights {
    /// Where it is.
    pub room: Room,
    /// When it was last seen, or begun.
    seen_ms: u64,
    /// Which colosseum has said that the player is in it.
    sure: Incarnation,
    /// Since when that is not the one that leads it, or the battle is shown without the player.
    unsure_ms: Option<u64>,
    /// It is being joined again; dropped, that ends.
    rejoins: Option<oneshot::Sender<()>>,
}

impl Players {
    /// A colosseum says something of a fighter.
    pub(super) fn fighter(&mut self, world: &mut GameWorld, now: u64, call: FighterCall) {
        let FighterCall { from, life, what } = call;
        match what {
            FighterWhat::Take(take, reply) => {
                // An error means that the colosseum's call has ended meanwhile: it frees the player, or tells it something.
                let _ = reply.send(self.take_fighter(world, now, take, from, life));
            }
            FighterWhat::Told(told) => self.told_fighter(world, now, told, from, life),
            // It has gone to another frontend, which the room hears of soon; until then this is asked again.
            FighterWhat::Freed(freed, reply) if self.moves.went(freed.object) => drop(reply),
            FighterWhat::Freed(freed, reply) => {
                self.freed(world, now, freed);
                // An error means that nobody waits for it.
                let _ = reply.send(());
            }
        }
    }

    fn take_fighter(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        take: FighterTake,
        node: NodeId,
        life: Incarnation,
    ) -> Result<Fighter, CallRefusal> {
        let refused = |code, text: &str| Err(CallRefusal::new(code, text));
        let FighterTake { battle, object } = take;
        if !self.lease_held {
            return refused(codes::UNAVAILABLE, "this frontend has lost its lease for the moment");
        }
        let Some(player) = self.players.get(&object) else { return refused(codes::MISSING, "no such player here") };
        let carried = player.keeper.carried();
        let Some(Body::Player(body)) = world.get(object).map(|real| real.body().clone()) else {
            return refused(codes::MISSING, "no such player here");
        };
        if body.battle != 0 && body.battle != battle {
            return refused(codes::IN_BATTLE, &body.battle.to_string());
        }
        if body.health == 0 {
            return refused(codes::DEFEATED, "the player has been defeated");
        }
        if let Some(player) = self.players.get_mut(&object) {
            // It was freed before and is wanted again, as by a room that went on elsewhere.
            player.freed = 0;
        }
        self.fights(world, now, object, Room { battle, node, life });
        Ok(as_fighter(&self.shared, object, &body, &carried))
    }

    fn told_fighter(&mut self, world: &mut GameWorld, now: u64, told: FighterTold, node: NodeId, life: Incarnation) {
        let FighterTold { battle, object, health } = told;
        match self.fighting.get_mut(&object) {
            Some(fights) if fights.room.battle == battle => {
                (fights.room.node, fights.room.life, fights.seen_ms) = (node, life, now);
                fights.sure = life;
                self.set_health(world, now, object, health);
            }
            // It fights on where it has gone.
            _ if self.moves.went(object) => {}
            // A word that was late.
            _ if self.players.get(&object).is_some_and(|player| player.freed == battle) => {}
            // One that is about to begin, if its answer is under way.
            _ if self.players.get(&object).is_some_and(|player| player.pace.joins && !player.pace.astray) => {}
            _ => self.leave_room(object, Room { battle, node, life }),
        }
    }

    /// A player is in a battle.
    pub(in crate::frontend) fn fights(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, room: Room) {
        let Some(player) = self.players.get(&id) else { return self.leave_room(id, room) };
        // It was over before the answer came that it has begun.
        if player.freed == room.battle {
            return;
        }
        if self.fighting.get(&id).is_some_and(|fights| fights.room.battle != room.battle) {
            return self.leave_room(id, room);
        }
        // Who stands already stays so; the refusal means nothing else.
        let _ = world.stop(now, id);
        let (battle, sure) = (room.battle, room.life);
        self.change_body(world, now, id, |body| body.battle = battle);
        self.fighting.insert(id, Fights { room, seen_ms: now, sure, unsure_ms: None, rejoins: None });
    }

    /// A player that has come here from another frontend was in a battle: it is in it again, with the wounds that the room says,
    /// or is free if the room knows of no battle. Until the room has answered its blows wait.
    pub(super) fn rejoin(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, battle: u64) {
        if battle == 0 || self.fighting.contains_key(&id) {
            return;
        }
        if let Some(player) = self.players.get_mut(&id) {
            player.freed = 0;
        }
        let room = Room { battle, node: self.shared.mesh.me().node.clone(), life: UNKNOWN };
        self.fights(world, now, id, room);
        self.look_for_room(world, id);
    }

    /// Has a player join its battle again, wherever that goes on.
    fn look_for_room(&mut self, world: &GameWorld, id: ObjectId) {
        let (Some(player), Some(inputs)) = (self.players.get(&id), self.inputs.upgrade()) else { return };
        let Some(Body::Player(body)) = world.get(id).map(|real| real.body()) else { return };
        let fighter = as_fighter(&self.shared, id, body, &player.keeper.carried());
        let Some(fights) = self.fighting.get_mut(&id) else { return };
        let peers = self.shared.mesh.peers();
        let ghost = world.ghost(ObjectId(fights.room.battle)).map(|ghost| Incarnation(ghost.publisher()));
        let leads = ghost.and_then(|life| peers.by_incarnation(life)).map(|peer| peer.record.node.clone());
        let at = leads.or_else(|| (fights.room.life != UNKNOWN).then(|| fights.room.node.clone()));
        let (goes_on, mut given_up) = oneshot::channel();
        fights.rejoins = Some(goes_on);
        let (shared, battle) = (self.shared.clone(), fights.room.battle);
        self.shared.tasks.spawn(async move {
            let found = tokio::select! {
                biased;
                // It was freed, or has gone: nothing is said for it any more.
                _ = &mut given_up => return,
                found = battles::rejoin(&shared.mesh, battle, at, fighter) => found,
            };
            // An error means that the world has ended.
            let _ = inputs.send(Input::Role(FrontInput::Rejoined { player: id, battle, found })).await;
        });
    }

    /// A battle gives a player back.
    fn freed(&mut self, world: &mut GameWorld, now: u64, freed: FighterFreed) {
        let FighterFreed { battle, object, health, how } = freed;
        let Some(player) = self.players.get_mut(&object) else { return };
        if self.fighting.get(&object).is_some_and(|fights| fights.room.battle != battle) {
            return;
        }
        player.freed = battle;
        let (home, island) = (player.home, player.island);
        if self.fighting.remove(&object).is_none() {
            return;
        }
        self.change_body(world, now, object, |body| body.battle = 0);
        if how != Freed::Defeated {
            self.set_health(world, now, object, health.max(1));
            return;
        }
        self.set_health(world, now, object, AWAKES);
        let told = note(object, "defeated", "one has been defeated, and wakes at home", battle);
        self.noted(&told);
        let arrival = [home, island].into_iter().find_map(|island| {
            let place = self.shared.arrival(island, object.0)?;
            world.has_island(island).then_some((island, place))
        });
        if let Some((island, place)) = arrival {
            self.travel(world, now, object, island, place);
        }
    }

    /// A player goes: out of its battle, if it is in one.
    pub(super) fn leave_battle(&mut self, world: &mut GameWorld, now: u64, id: ObjectId) {
        let Some(fights) = self.fighting.remove(&id) else { return };
        if let Some(player) = self.players.get_mut(&id) {
            player.freed = fights.room.battle;
        }
        self.change_body(world, now, id, |body| body.battle = 0);
        self.leave_room(id, fights.room);
    }

    /// Tells a room that a player is not in it.
    pub(in crate::frontend) fn leave_room(&self, id: ObjectId, room: Room) {
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move { leave(&shared, id, &room).await });
    }

    /// Looks for rooms that are lost: with every tick for those whose colosseum is gone, and now and then (`whole`) for
    /// everything else.
    pub(super) fn check_rooms(&mut self, world: &GameWorld, now: u64, whole: bool) {
        if !self.lease_held {
            return;
        }
        let peers = self.shared.mesh.peers();
        let mut lost = Vec::new();
        for (id, fights) in self.fighting.iter_mut().filter(|(_, fights)| fights.rejoins.is_none()) {
            let lives = |room: &Room| peers.get(&room.node).is_some_and(|peer| peer.record.incarnation == room.life);
            if !whole && lives(&fights.room) {
                continue;
            }
            let ghost = world.ghost(ObjectId(fights.room.battle));
            let leads = ghost.and_then(|ghost| peers.by_incarnation(Incarnation(ghost.publisher())));
            if let Some(peer) = leads {
                fights.seen_ms = now;
                (fights.room.node, fights.room.life) = (peer.record.node.clone(), peer.record.incarnation);
            }
            let shown = ghost.filter(|_| leads.is_some()).and_then(|ghost| Battle::of(&ghost.view().detail));
            let listed = shown.is_none_or(|battle| battle.members.iter().any(|(member, ..)| *member == id.0));
            let unsure = !listed || fights.sure != fights.room.life;
            if !unsure {
                fights.unsure_ms = None;
            }
            let since = if unsure { Some(*fights.unsure_ms.get_or_insert(now)) } else { None };
            let too_long = since.is_some_and(|since| now >= since + UNSURE_MS);
            if !lives(&fights.room) || now >= fights.seen_ms + UNSEEN_MS || too_long {
                lost.push(*id);
            }
        }
        for id in lost {
            self.look_for_room(world, id);
        }
    }

    /// A player's battle was found again, or surely is no more.
    pub(super) fn rejoined(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, battle: u64, found: Found) {
        let Some(fights) = self.fighting.get_mut(&id).filter(|fights| fights.room.battle == battle) else { return };
        (fights.rejoins, fights.unsure_ms, fights.seen_ms) = (None, None, now);
        match found {
            Found::At((node, life)) => {
                (fights.room.node, fights.room.life, fights.sure) = (node, life, life);
            }
            Found::Over | Found::Lost => {
                let health = self.health_of(world, id);
                self.freed(world, now, FighterFreed { battle, object: id, health, how: Freed::Left });
            }
        }
    }
}
