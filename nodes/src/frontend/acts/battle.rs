//! Battles from a player's side: getting into one, acting in it, trying to get out.
//!
//! A battle is a room on a colosseum. The frontend checks reach before and hands the player over; from then on the room has
//! its health and says when it is free. Whose answer is lost may be in the room without knowing it, so the room is told that
//! it is not. A blow goes after a room that is just being handed over to another colosseum; the room carries out each command
//! once, by its number. This NEVER decides a blow.

use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::ObjectId;
use mesh::calls::Outcome;
use mesh::{CallError, CallRefusal, Incarnation, NodeId, Role};
use tokio::time::sleep;

use super::{Actor, Begun, Came, Done, Pace, Room, Shared, Then, later, refused};
use crate::battles::{self, Found};
use crate::frontend::players::UNKNOWN;
use crate::game::{kind, made_by, player, pose};
use crate::methods::living::{
    BATTLE_ACT, BATTLE_JOIN, BATTLE_LEAVE, BATTLE_OPEN, BattleAct, BattleJoin, BattleLeave, BattleOpen, ELSEWHERE,
    Fighter,
};
use crate::methods::{pack, unpack};
use crate::protocol::codes;

/// Colosseums that are asked for a battle, at most.
const COLOSSEUMS_ASKED: usize = 8;

/// How often a command goes after its room, and the pause in between: together longer than a room takes to be handed over.
const BLOW_TRIES: u32 = 30;
const BLOW_PAUSE: Duration = Duration::from_millis(100);

/// The side of players.
const PLAYERS: u8 = 0;

/// A heavy blow: the last of those that a client may ask for.
const HEAVY: u8 = 2;

/// Flight, as the colosseum counts it.
const FLIGHT: u8 = 3;

/// What a player's health is worth: the measure of all toughness.
const TOUGHNESS: u16 = 100;

/// Attacks an animal in reach.
pub(super) fn attack(actor: &Actor<'_>, pace: &mut Pace, target: ObjectId) -> Begun {
    may_begin(actor, pace)?;
    let Some((place, view)) = actor.sees(target) else {
        return refused(codes::MISSING, format!("no animal {} is in sight", target.0));
    };
    if view.kind != kind::ANIMAL {
        return refused(codes::FORBIDDEN, "only animals are attacked");
    }
    if i64::from(actor.place.reach(place)) > i64::from(actor.reach()) {
        return refused(codes::TOO_FAR, format!("the {} is too far away", view.name));
    }
    if view.pose == pose::DEFEATED || view.health == 0 {
        return refused(codes::DEFEATED, format!("the {} has been defeated", view.name));
    }
    if view.pose == pose::FIGHTS
        && let Some(room) = room_of(actor, ObjectId(view.tie))
    {
        return enter(actor, pace, room);
    }
    let peers = actor.shared.mesh.peers();
    let publisher = actor.world.ghost(target).map(|ghost| Incarnation(ghost.publisher()));
    let Some(target_node) = publisher.and_then(|p| peers.by_incarnation(p)).map(|peer| peer.record.node.clone()) else {
        return refused(codes::MISSING, "nobody looks after that animal at the moment");
    };
    let Some((node, life)) = battles::choose(&peers) else {
        return refused(codes::UNAVAILABLE, "no colosseum is there at the moment");
    };
    let battle = made_by(actor.op).0;
    let room = Room { battle, node, life };
    let opener = fighter(actor);
    let open = BattleOpen { battle, island: actor.island, place, opener, target, target_node };
    pace.joins = true;
    let (shared, player) = (actor.shared.clone(), actor.id);
    later(async move {
        let answer = shared.mesh.call(&room.node, &BATTLE_OPEN, pack(&open)).await;
        let came = match answer {
            Ok(answer) => match unpack::<u64>(&answer) {
                Ok(battle) if battle == room.battle => into(room),
                // The target fights already, and that battle may be led elsewhere.
                Ok(battle) => enter_anywhere(&shared, BattleJoin { battle, fighter: open.opener }, room.node).await,
                Err(refusal) => Err(CallRefusal::new(codes::UNKNOWN, refusal.text)).into(),
            },
            Err(error) => not_in(&shared, player, &room, error),
        };
        came.and(Then::Tried)
    })
}

/// Joins a battle in reach.
pub(super) fn join(actor: &Actor<'_>, pace: &mut Pace, battle: ObjectId) -> Begun {
    may_begin(actor, pace)?;
    let Some((place, _)) = actor.sees(battle).filter(|(_, view)| view.kind == kind::BATTLE) else {
        return refused(codes::MISSING, format!("no battle {} is in sight", battle.0));
    };
    if i64::from(actor.place.reach(place)) > i64::from(actor.reach()) {
        return refused(codes::TOO_FAR, "the battle is too far away");
    }
    let Some(room) = room_of(actor, battle) else {
        return refused(codes::UNAVAILABLE, "nobody leads that battle at the moment");
    };
    enter(actor, pace, room)
}

/// Does something in the battle.
pub(super) fn blow(actor: &Actor<'_>, blow: u8, target: ObjectId) -> Begun {
    if blow > HEAVY {
        return refused(codes::MALFORMED, format!("no blow {blow}; there are 0 to {HEAVY}"));
    }
    strike(actor, blow, target)
}

/// Tries to get away.
pub(super) fn flee(actor: &Actor<'_>) -> Begun {
    strike(actor, FLIGHT, actor.id)
}

fn strike(actor: &Actor<'_>, blow: u8, target: ObjectId) -> Begun {
    let Some(room) = actor.room.clone() else {
        return refused(codes::NO_BATTLE, "one is in no battle");
    };
    if room.life == UNKNOWN {
        return refused(codes::BUSY, "one is just coming back into the battle");
    }
    // Another colosseum may have gone on with it: its publisher is who leads it.
    let room = room_of(actor, ObjectId(room.battle)).unwrap_or(room);
    let act = BattleAct { battle: actor.body.battle, actor: actor.id, blow, target, cause: actor.number };
    let shared = actor.shared.clone();
    later(async move { send(&shared, room, &act).await.map(|()| Done::Done).into() })
}

/// Brings a command to its room, also if that is just being handed over. What surely was not carried out is tried again; what
/// may have been is the client's to ask again under the same number.
async fn send(shared: &Shared, room: Room, act: &BattleAct) -> Result<(), CallRefusal> {
    let (mut node, mut last) = (room.node.clone(), None);
    for round in 0..BLOW_TRIES {
        if round > 0 {
            sleep(BLOW_PAUSE).await;
        }
        let error = match shared.mesh.call(&node, &BATTLE_ACT, pack(act)).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let answered = error.outcome() == Outcome::Answered;
        last = Some(of_call(&error));
        let refusal = match &error {
            CallError::Refused { refusal, .. } => refusal,
            // It has left: whoever it has handed the battle to is asked, surely for the first time.
            CallError::UnknownPeer(_) => {
                match battles::find(&shared.mesh, act.battle, None).await {
                    Found::At((other, _)) => node = other,
                    Found::Over => return Err(CallRefusal::new(codes::NO_BATTLE, "the battle is over")),
                    Found::Lost => return Err(of_call(&error)),
                }
                continue;
            }
            _ => return Err(of_call(&error)),
        };
        match refusal.code.as_str() {
            ELSEWHERE => node = NodeId::new(&refusal.text).unwrap_or(node),
            codes::DRAINING | codes::BUSY | codes::UNAVAILABLE if answered => {}
            // A new life of that node knows nothing of what the former one led.
            codes::MISSING if node == room.node && !lives(shared, &room) => {}
            _ => return Err(of_call(&error)),
        }
    }
    Err(last.unwrap_or_else(|| CallRefusal::new(codes::BUSY, "the battle is just being handed over")))
}

fn lives(shared: &Shared, room: &Room) -> bool {
    shared.mesh.peers().get(&room.node).is_some_and(|peer| peer.record.incarnation == room.life)
}

fn may_begin(actor: &Actor<'_>, pace: &Pace) -> Result<(), CallRefusal> {
    if pace.joins {
        return refused(codes::IN_BATTLE, "one is about to fight already");
    }
    actor.ready()?;
    // Asked again: what the world says of the player counts nevertheless.
    if actor.body.battle != 0 {
        return refused(codes::IN_BATTLE, "one is in a battle");
    }
    Ok(())
}

fn enter(actor: &Actor<'_>, pace: &mut Pace, room: Room) -> Begun {
    pace.joins = true;
    let joins = BattleJoin { battle: room.battle, fighter: fighter(actor) };
    let (shared, player) = (actor.shared.clone(), actor.id);
    later(async move {
        let came = match shared.mesh.call(&room.node, &BATTLE_JOIN, pack(&joins)).await {
            Ok(_) => into(room),
            Err(CallError::Refused { refusal, .. }) if refusal.code == ELSEWHERE => {
                let node = NodeId::new(&refusal.text).unwrap_or(room.node);
                enter_anywhere(&shared, joins, node).await
            }
            Err(error) => not_in(&shared, player, &room, error),
        };
        came.and(Then::Tried)
    })
}

/// Joins a battle of which only the number is known: first where the question was asked, then wherever it is led.
async fn enter_anywhere(shared: &Arc<Shared>, joins: BattleJoin, first: NodeId) -> Came {
    let (battle, player) = (joins.battle, joins.fighter.object);
    let peers = shared.mesh.peers();
    let up = peers.up(Role::Colosseum).map(|peer| (peer.record.node.clone(), peer.record.incarnation));
    let mut colosseums: Vec<(NodeId, Incarnation)> = up.collect();
    colosseums.sort_by_key(|(node, _)| *node != first);
    for (node, life) in colosseums.into_iter().take(COLOSSEUMS_ASKED) {
        let room = Room { battle, node, life };
        match shared.mesh.call(&room.node, &BATTLE_JOIN, pack(&joins)).await {
            Ok(_) => return into(room),
            Err(CallError::Refused { refusal, .. })
                if [codes::MISSING, codes::DRAINING, ELSEWHERE].contains(&refusal.code.as_str()) => {}
            Err(error) => return not_in(shared, player, &room, error),
        }
    }
    refused(codes::BUSY, "the battle in which the target is cannot be found at the moment").into()
}

fn into(room: Room) -> Came {
    let made: Came = Ok(Done::Made(room.battle)).into();
    made.and(Then::Fights(room))
}

/// The call failed. Where it may have been carried out nevertheless, the room is told that the player is not there.
fn not_in(shared: &Arc<Shared>, player: ObjectId, room: &Room, error: CallError) -> Came {
    if error.outcome() != Outcome::Answered {
        let (shared, room) = (shared.clone(), room.clone());
        let tasks = shared.tasks.clone();
        tasks.spawn(async move { leave(&shared, player, &room).await });
        return refused(codes::UNAVAILABLE, error.to_string()).into();
    }
    Err(of_call(&error)).into()
}

/// Takes a player out of a room. If nobody hears it, the room finds out when it tells the player something.
pub(crate) async fn leave(shared: &Shared, player: ObjectId, room: &Room) {
    let leaves = BattleLeave { battle: room.battle, object: player };
    if let Err(error) = shared.mesh.call(&room.node, &BATTLE_LEAVE, pack(&leaves)).await {
        tracing::debug!(player = player.0, battle = room.battle, %error, "a colosseum did not hear who leaves");
    }
}

/// Where a battle that is in sight is led.
fn room_of(actor: &Actor<'_>, battle: ObjectId) -> Option<Room> {
    let ghost = actor.world.ghost(battle).filter(|ghost| ghost.view().kind == kind::BATTLE)?;
    let life = Incarnation(ghost.publisher());
    let node: NodeId = actor.shared.mesh.peers().by_incarnation(life)?.record.node.clone();
    Some(Room { battle: battle.0, node, life })
}

fn fighter(actor: &Actor<'_>) -> Fighter {
    as_fighter(actor.shared, actor.id, actor.body, &actor.carried)
}

/// A player as a colosseum takes it: its best weapon counts.
pub(crate) fn as_fighter(
    shared: &Shared,
    id: ObjectId,
    body: &player::Player,
    carried: &crate::frontend::keeper::Carried,
) -> Fighter {
    let items = &shared.content.items;
    let uniques = carried.bag.uniques.values().map(|unique| &unique.item);
    let names = carried.bag.stacks.keys().chain(uniques);
    let best = names.filter_map(|name| items.get(name.as_str())).map(|item| item.harm).max().unwrap_or(0);
    Fighter {
        object: id,
        node: shared.mesh.me().node.clone(),
        side: PLAYERS,
        name: body.name.clone(),
        health: body.health,
        harm: shared.content.tuning.blow_harm.saturating_add(best),
        toughness: TOUGHNESS,
        fear: 0,
    }
}

/// What a client is told when a colosseum could not be asked.
fn of_call(error: &CallError) -> CallRefusal {
    match error {
        // Which colosseum it is, and whether it is leaving, is nothing that a client could do anything about but try again.
        CallError::Refused { refusal, .. } if [codes::DRAINING, ELSEWHERE].contains(&refusal.code.as_str()) => {
            CallRefusal::new(codes::BUSY, "the battle is just being handed over")
        }
        CallError::Refused { refusal, .. } if error.outcome() == Outcome::Answered => refusal.clone(),
        error if error.outcome() == Outcome::Maybe => CallRefusal::new(codes::UNKNOWN, error.to_string()),
        error => CallRefusal::new(codes::UNAVAILABLE, error.to_string()),
    }
}
