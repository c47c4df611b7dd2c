//! Sailing: how a player gets from a harbour to another island, and home from one that sinks.
//!
//! Between islands of this district a player is put elsewhere by [`FrontInput::Travel`]. To another district it goes by a
//! passage: a document that the frontend there takes. The passage is written while the player is still here, so that whatever
//! fails leaves the player where it is; then the player's document is saved and released, and the client's last message is the
//! redirect. A player who fights or has been defeated NEVER sails.

use std::sync::Arc;

use cartographer::geometry::{IslandId, ObjectId, Place};
use mesh::registry::{self, District};
use mesh::{CallRefusal, Role};
use tokio::sync::oneshot;

use super::Shared;
use super::acts::{Actor, Begin, Begun, Came, Done, later, refused};
use super::players::FrontInput;
use super::sessions::Farewell;
use crate::islands::record::{IslandRecord, IslandState};
use crate::passage::{self, Passage, Refused};
use crate::protocol::codes;
use crate::world_loop::Input;

/// How far from a harbour one may be to board a ship, in tiles.
const BOARDING_TILES: i32 = 6;

/// Units in a tile.
const UNITS: i32 = 256;

/// Sails to another island.
pub(super) fn sail(actor: &Actor<'_>, island: IslandId) -> Begun {
    if actor.island() == island {
        return match actor.is_again() {
            true => Ok(Begin::Now(Ok(Done::Done).into())),
            false => refused(codes::FORBIDDEN, "the player is on that island"),
        };
    }
    actor.fit()?;
    let chart = actor.shared().islands.chart();
    let here = chart.get(actor.island());
    let reach = i64::from(BOARDING_TILES * UNITS);
    let boards = here.is_some_and(|it| it.harbours().iter().any(|h| i64::from(actor.place().reach(h.place)) <= reach));
    if !boards {
        return refused(codes::TOO_FAR, "no harbour is in reach");
    }
    let sinks = chart.record(island).is_some_and(|record| record.state == IslandState::Sinking);
    if sinks {
        return refused(codes::MISSING, "that island is sinking");
    }
    let (shared, inputs, player) = (actor.shared().clone(), actor.inputs().clone(), actor.player());
    if chart.get(island).is_some() {
        let Some(place) = landing(&shared, island) else { return refused(codes::MISSING, "no ship lands there") };
        return later(async move {
            match inputs.send(Input::Role(FrontInput::Travel { player, island, place })).await {
                Ok(()) => Ok(Done::Done).into(),
                Err(_) => unavailable("this frontend is stopping").into(),
            }
        });
    }
    let Some(record) = chart.record(island).cloned() else {
        return refused(codes::MISSING, "there is no such island");
    };
    later(async move {
        match depart(&shared, player, &record).await {
            Ok((url, token)) => {
                let (done, left) = oneshot::channel();
                let depart = FrontInput::Depart { player, url, token, done };
                // An error means that the world has ended; then `left` is dropped too.
                let _ = inputs.send(Input::Role(depart)).await;
                match left.await {
                    Ok(()) => Came::from(Ok(Done::Done)),
                    // The passage expires unused.
                    Err(_) => unavailable("the player has left by another way, or may not sail now").into(),
                }
            }
            Err(refusal) => Err(refusal).into(),
        }
    })
}

fn unavailable(text: &str) -> Result<Done, CallRefusal> {
    Err(CallRefusal::new(codes::UNAVAILABLE, text))
}

/// Where ships land on an island of this district; where there is no harbour, where people arrive.
pub(super) fn landing(shared: &Shared, island: IslandId) -> Option<Place> {
    let terrain = shared.islands.get(island)?;
    terrain.harbours().first().map(|harbour| harbour.place).or_else(|| Some(terrain.arrival(shared.random())))
}

/// Writes a passage to an island of another district; where to connect, and with which token.
async fn depart(
    shared: &Arc<Shared>,
    player: ObjectId,
    record: &IslandRecord,
) -> Result<(String, String), CallRefusal> {
    let refusal = |text: String| CallRefusal::new(codes::UNAVAILABLE, text);
    let there: District = shared.district.sibling(&record.district);
    let nodes = registry::read(&*shared.directory, &there).await.map_err(|error| refusal(error.to_string()))?;
    let mut ports: Vec<(String, String)> = nodes
        .into_iter()
        .filter(|node| node.role == Role::Frontend)
        .filter_map(|node| Some((node.node.to_string(), node.public?)))
        .collect();
    if ports.is_empty() {
        return Err(refusal(format!("no frontend of district {} is there", record.district)));
    }
    let (node, url) = ports.swap_remove((shared.random() % ports.len() as u64) as usize);
    let mut random = [0; 32];
    random.chunks_mut(8).for_each(|part| part.copy_from_slice(&shared.random().to_be_bytes()[..part.len()]));
    let token = passage::token(random);
    let passage = Passage { player, island: record.id };
    passage::grant(shared.store(), &token, passage, &node).await.map_err(|error| refusal(error.to_string()))?;
    Ok((url, token))
}

/// Takes the passage that a client shows.
pub(super) async fn arrive(shared: &Shared, token: &str) -> Result<Passage, Farewell> {
    let (me, attempt) = (shared.mesh.me().node.to_string(), shared.random().max(1));
    passage::take(shared.store(), token, &me, attempt).await.map_err(|refused| {
        let code = match refused {
            Refused::Forged => codes::TICKET_FORGED,
            Refused::Expired => codes::TICKET_EXPIRED,
            Refused::Used => codes::TICKET_USED,
            Refused::Document(_) => codes::UNAVAILABLE,
        };
        Farewell::new(code, refused.to_string())
    })
}
