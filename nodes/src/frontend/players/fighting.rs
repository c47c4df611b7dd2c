//! Players in battles: handed over to a room, told how they are, given back.
//!
//! While a player fights its room decides; here its health is shown, and it does not walk. A room that a colosseum took with
//! it, or that has not been seen for a while, is asked for at the other colosseums; where nobody goes on with it the players
//! are free. Rooms that believe a player to be in them who is not are told so. A player NEVER is in two battles.

use std::collections::BTreeSet;
use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::player::WELL;
use mesh::{CallError, CallRefusal, Incarnation, NodeId, Role};
use tokio::time::sleep;

use super::{FrontInput, Players};
use crate::frontend::Shared;
use crate::frontend::acts::{Room, as_fighter, leave, note};
use crate::frontend::people::{FighterCall, FighterWhat, battle_key};
use crate::game::{Body, GameWorld};
use crate::methods::living::{BATTLE_RESUME, Fighter, FighterFreed, FighterTake, FighterTold, Freed};
use crate::methods::pack;
use crate::protocol::codes;
use crate::rendezvous;
use crate::world_loop::Input;

/// How long a battle may be out of sight before its room is asked for, in milliseconds.
const UNSEEN_MS: u64 = 10_000;

/// How often the colosseums are asked for a room before its players are free.
const RESUME_ROUNDS: u32 = 8;

/// Colosseums that are asked in each round, at most.
const RESUME_ASKED: usize = 3;

/// The pause between two rounds.
const RESUME_PAUSE: Duration = Duration::from_secs(1);

/// The health with which a defeated player wakes at home.
const AWAKES: u8 = WELL / 2;

/// A player's battle.
pub(in crate::frontend) struct Fights {
    /// Where it is.
    pub room: Room,
    /// When it was last seen, or begun.
    seen_ms: u64,
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
        let battle = room.battle;
        self.change_body(world, now, id, |body| body.battle = battle);
        self.fighting.insert(id, Fights { room, seen_ms: now });
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

    /// Looks for rooms that are lost, and asks for them elsewhere.
    pub(super) fn check_rooms(&mut self, world: &GameWorld, now: u64) {
        let peers = self.shared.mesh.peers();
        let mut lost = BTreeSet::new();
        for fights in self.fighting.values_mut() {
            if let Some(ghost) = world.ghost(ObjectId(fights.room.battle)) {
                fights.seen_ms = now;
                let life = Incarnation(ghost.publisher());
                if let Some(peer) = peers.by_incarnation(life) {
                    (fights.room.node, fights.room.life) = (peer.record.node.clone(), life);
                }
            }
            let peer = peers.get(&fights.room.node);
            let lives = peer.is_some_and(|peer| peer.record.incarnation == fights.room.life);
            if !lives || now >= fights.seen_ms + UNSEEN_MS {
                lost.insert((fights.room.battle, lives.then(|| fights.room.node.clone())));
            }
        }
        for (battle, at) in lost {
            if self.resuming.insert(battle) {
                self.resume(battle, at);
            }
        }
    }

    fn resume(&self, battle: u64, at: Option<NodeId>) {
        let Some(inputs) = self.inputs.upgrade() else { return };
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            let room = find_room(&shared, battle, at).await;
            // An error means that the world has ended.
            let _ = inputs.send(Input::Role(FrontInput::Resumed { battle, room })).await;
        });
    }

    /// A room was found again, or surely is no more.
    pub(super) fn resumed(&mut self, world: &mut GameWorld, now: u64, battle: u64, room: Option<Room>) {
        self.resuming.remove(&battle);
        let inside = self.fighting.iter().filter(|(_, fights)| fights.room.battle == battle);
        let inside: Vec<ObjectId> = inside.map(|(id, _)| *id).collect();
        for id in inside {
            match (&room, self.fighting.get_mut(&id)) {
                (Some(room), Some(fights)) => (fights.room, fights.seen_ms) = (room.clone(), now),
                (None, _) => {
                    let health = self.health_of(world, id);
                    self.freed(world, now, FighterFreed { battle, object: id, health, how: Freed::Left });
                }
                (Some(_), None) => {}
            }
        }
    }
}

/// Asks the colosseums for a room, the one where it was first if that lives.
async fn find_room(shared: &Shared, battle: u64, at: Option<NodeId>) -> Option<Room> {
    for round in 0..RESUME_ROUNDS {
        if round > 0 {
            sleep(RESUME_PAUSE).await;
        }
        let peers = shared.mesh.peers();
        let up: Vec<NodeId> = peers.up(Role::Colosseum).map(|peer| peer.record.node.clone()).collect();
        let ranked = rendezvous::ranked(&battle_key(battle), &up);
        let first = at.iter().filter(|node| up.contains(node));
        let rest = ranked.into_iter().filter(|node| Some(*node) != at.as_ref());
        for node in first.chain(rest).take(RESUME_ASKED) {
            match shared.mesh.call(node, &BATTLE_RESUME, pack(&battle)).await {
                Ok(_) => {
                    let life = shared.mesh.peers().get(node)?.record.incarnation;
                    return Some(Room { battle, node: node.clone(), life });
                }
                Err(CallError::Refused { refusal, .. }) if refusal.code == codes::MISSING => return None,
                Err(error) => tracing::debug!(battle, %error, "a colosseum does not go on with a battle"),
            }
        }
    }
    tracing::warn!(battle, "no colosseum goes on with a battle: its players are free");
    None
}
