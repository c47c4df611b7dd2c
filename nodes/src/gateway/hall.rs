//! The frontends as the way in sees them: how much room they have, which one a player goes to, and how it is asked.
//!
//! Frontends count those they expect themselves, and refuse when they are full: what is counted here is only what they
//! last said and what was sent since. A preference that is wrong costs a call, NEVER a place.

use std::sync::Arc;

use async_trait::async_trait;
use cartographer::geometry::{Cell, IslandId, ObjectId, Place, TILES_PER_CELL, UNITS_PER_TILE};
use cartographer::ground::Ground;
use estate::document::Document;
use mesh::{CallError, NodeId, PeerState, Role};
use serde_json::Map;

use super::App;
use super::edge::REQUEST_TIMEOUT;
use super::queue::Waiting;
use super::queue::doorkeeper::{Frontends, Refused};
use super::session::{FrontendAddress, SessionDocument};
use crate::choose::{self, Arrival, Candidate};
use crate::load::{Load, block_mark};
use crate::methods::{OpenSession, SESSION_OPEN, SessionOffer, pack, unpack};

/// Frontends asked for one session, at most.
const TRIES: usize = 3;

/// What is left of a request's time for the password, the queue, the store and the way there.
const REST_MS: u128 = 5_000;

const _: () = assert!(TRIES as u128 * SESSION_OPEN.deadline_ms as u128 + REST_MS < REQUEST_TIMEOUT.as_millis());

/// The reach of a player's vision, in tiles: what `WorldConfig` has; a wrong one would cost a little sharing only.
const VISION_TILES: i32 = 40;

/// How many players a frontend is taken to have room for that has not said anything yet.
const ROOM_UNKNOWN: u32 = 8;

/// Why no frontend expects a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// All that could be reached are full or being emptied.
    Full,
    /// None could be reached.
    Unreachable,
    /// They will not have this player.
    Unfit(String),
}

/// The frontends of a gateway's district.
pub struct Hall(pub Arc<App>);

#[async_trait]
impl Frontends for Hall {
    fn room(&self) -> u32 {
        room(&self.0)
    }

    async fn open(&self, waiting: &Waiting) -> Result<SessionDocument, Refused> {
        let open = OpenSession { session: waiting.session, player: waiting.player, island: waiting.island };
        let opened = match enter(&self.0, &open, &arrival_of(&self.0, waiting), None).await {
            // The island sank while the player waited: it comes in where it was.
            Err(NoEntry::Unfit(_)) if open.island.is_some() => {
                let open = OpenSession { island: None, ..open };
                enter(&self.0, &open, &Arrival::default(), None).await
            }
            opened => opened,
        };
        opened.map_err(|no| match no {
            NoEntry::Full | NoEntry::Unreachable => Refused::Full,
            NoEntry::Unfit(why) => Refused::Unfit(why),
        })
    }
}

/// How many more players the frontends would take, by what they said and what was sent to them since.
pub fn room(app: &App) -> u32 {
    let peers = app.mesh.peers();
    let left = |peer: &mesh::PeerInfo| {
        let (sent, _) = app.sent.lately(&peer.record.node, None);
        match Load::decode(&peer.load) {
            Some(load) if load.draining => 0,
            Some(load) => load.capacity.saturating_sub(load.players.saturating_add(load.expected).saturating_add(sent)),
            None => ROOM_UNKNOWN.saturating_sub(sent),
        }
    };
    peers.up(Role::Frontend).map(left).fold(0, u32::saturating_add)
}

/// True if any frontend is up.
pub fn any(app: &App) -> bool {
    app.mesh.peers().up(Role::Frontend).next().is_some()
}

/// The frontend that owns the player now, if it is up in that very life and takes somebody.
pub fn home(app: &App, node: &str, incarnation: u64) -> Option<NodeId> {
    let peers = app.mesh.peers();
    let peer = peers.get(&NodeId::new(node).ok()?)?;
    let up = peer.state == PeerState::Up && peer.record.incarnation.0 == incarnation;
    let stays = !Load::decode(&peer.load).is_some_and(|load| load.draining);
    (up && stays && peer.record.role == Role::Frontend).then(|| peer.record.node.clone())
}

/// What a player will see who begins on the island it wants, or where it was.
pub fn arrival_of(app: &App, waiting: &Waiting) -> Arrival {
    let (last, x, y) = waiting.at;
    let island = waiting.island.unwrap_or(IslandId(last));
    // The island the player was on may be gone: the frontend finds another.
    let Some(terrain) = app.islands.get(island) else { return Arrival::default() };
    let last_place = Place::new(x, y);
    let spawn = || terrain.spawns().first().map_or(last_place, |spawn| spawn.place);
    let begins = if island.0 == last { last_place } else { spawn() };
    Arrival { cell: begins.cell(island), sees: cells_around(island, begins, terrain.size()) }
}

fn cells_around(island: IslandId, place: Place, size: (u16, u16)) -> Vec<Cell> {
    let along = |units: i32, tiles: u16| {
        let last = (i32::from(tiles) - 1).max(0);
        let cell = |tile: i32| (tile.clamp(0, last) / i32::from(TILES_PER_CELL)) as u16;
        let tile = units.div_euclid(UNITS_PER_TILE);
        cell(tile.saturating_sub(VISION_TILES))..=cell(tile.saturating_add(VISION_TILES))
    };
    let columns = along(place.x, size.0);
    along(place.y, size.1).flat_map(|y| columns.clone().map(move |x| Cell::new(island, x, y))).collect()
}

/// Asks frontends, best first, until one expects the player; only that one if `only` names one.
pub async fn enter(
    app: &App,
    open: &OpenSession,
    arrival: &Arrival,
    only: Option<&NodeId>,
) -> Result<SessionDocument, NoEntry> {
    let block = arrival.cell.map(|cell| block_mark(cell.island.0, cell.x, cell.y));
    let mut ranked = choose::rank(&candidates(app, block), arrival, only);
    ranked.truncate(if only.is_some() { 1 } else { TRIES });
    let mut why = if any(app) { NoEntry::Full } else { NoEntry::Unreachable };
    for node in ranked {
        let reason = match app.mesh.call(&node, &SESSION_OPEN, pack(open)).await {
            Ok(answer) => match unpack::<SessionOffer>(&answer) {
                Ok(offer) => {
                    app.metrics.sessions.with_label_values(&["admitted"]).inc();
                    app.sent.count(&node, block);
                    return Ok(expected(app, open.player, node, offer));
                }
                Err(refusal) => (NoEntry::Unreachable, refusal.to_string()),
            },
            Err(error) => (no_entry(&error), error.to_string()),
        };
        app.metrics.sessions.with_label_values(&["refused"]).inc();
        tracing::debug!(%node, session = %open.session, reason = reason.1, "a frontend did not take a session");
        why = reason.0;
    }
    app.metrics.sessions.with_label_values(&["no_frontend"]).inc();
    Err(why)
}

fn no_entry(error: &CallError) -> NoEntry {
    match error {
        CallError::Refused { refusal, .. } => match refusal.code.as_str() {
            "full" | "draining" => NoEntry::Full,
            "unknown_island" => NoEntry::Unfit(refusal.to_string()),
            _ => NoEntry::Unreachable,
        },
        _ => NoEntry::Unreachable,
    }
}

fn expected(app: &App, player: ObjectId, node: NodeId, offer: SessionOffer) -> SessionDocument {
    let incarnation = app.mesh.peers().get(&node).map_or(0, |peer| peer.record.incarnation.0);
    SessionDocument {
        v: SessionDocument::VERSION,
        player: player.0,
        frontend: Some(FrontendAddress { node, url: offer.url }),
        incarnation,
        ticket: offer.ticket,
        expires_in_s: offer.expires_in_s,
        closed: false,
        rest: Map::new(),
    }
}

fn candidates(app: &App, block: Option<u32>) -> Vec<Candidate> {
    let peers = app.mesh.peers();
    let candidate = |peer: &mesh::PeerInfo| {
        let node = peer.record.node.clone();
        let (sent, sent_here) = app.sent.lately(&node, block);
        Candidate { node, load: Load::decode(&peer.load), sent, sent_here }
    };
    peers.up(Role::Frontend).map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(x_tiles: i32, y_tiles: i32, size: (u16, u16), columns: (u16, u16), rows: (u16, u16)) {
        let place = Place::new(x_tiles * UNITS_PER_TILE, y_tiles * UNITS_PER_TILE);
        let cells = cells_around(IslandId(1), place, size);
        let expected: Vec<Cell> = (rows.0..=rows.1)
            .flat_map(|y| (columns.0..=columns.1).map(move |x| Cell::new(IslandId(1), x, y)))
            .collect();
        assert_eq!(cells, expected, "at {x_tiles},{y_tiles}");
    }

    #[test]
    fn a_player_sees_the_cells_around_it_that_are_on_the_island() {
        check(100, 100, (512, 512), (1, 4), (1, 4));
        check(0, 0, (512, 512), (0, 1), (0, 1));
        check(511, 100, (512, 512), (14, 15), (1, 4));
        check(-50, 9_000, (64, 64), (0, 0), (1, 1));
        check(5, 5, (1, 1), (0, 0), (0, 0));
    }
}
