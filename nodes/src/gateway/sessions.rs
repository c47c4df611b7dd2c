//! Sessions: a player who proved the password is sent to a frontend that expects it, with a ticket.
//!
//! The frontend makes the ticket; the gateway chooses it (`choose`), asks it by an idempotent call, and goes to the next
//! one if it refuses or fails. What was answered lies in a document that expires, so that every gateway can repeat it.
//! A session NEVER moves or blocks a player by itself: entering the world is the frontend's business.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use cartographer::geometry::{Cell, IslandId, ObjectId, Place, TILES_PER_CELL, UNITS_PER_TILE};
use cartographer::ground::Ground;
use estate::document::{self, Document, Migration};
use estate::player::PlayerDocument;
use estate::store::{Ack, Expiry, WriteOptions};
use mesh::{CallError, NodeId, PeerState, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::App;
use super::choose::{self, Arrival, Candidate};
use super::edge::{ClientAddress, REQUEST_TIMEOUT};
use super::error::{ApiError, ApiResult, Body, Segment};
use crate::load::{Load, block_mark};
use crate::methods::{CloseSession, OpenSession, SESSION_CLOSE, SESSION_OPEN, SessionOffer, pack, unpack};

/// Frontends asked for one session, at most.
const TRIES: usize = 3;

/// What is left of a request's time for the password, the store and the way there.
const REST_MS: u128 = 5_000;

const _: () = assert!(TRIES as u128 * SESSION_OPEN.deadline_ms as u128 + REST_MS < REQUEST_TIMEOUT.as_millis());

/// How long a session is remembered for those who ask for it.
const MEMORY: Duration = Duration::from_secs(3600);

/// The reach of a player's vision, in tiles: what `WorldConfig` has; a wrong one would cost a little sharing only.
const VISION_TILES: i32 = 40;

/// What a client is told to wait when no frontend takes it.
const RETRY_AFTER_S: u32 = 5;

/// The body of `POST /v1/sessions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    name: String,
    password: String,
    island: Option<u32>,
}

/// A session, as clients see it.
#[derive(Debug, Serialize)]
pub struct SessionAnswer {
    session: Uuid,
    state: SessionState,
    player: u64,
    frontend: FrontendAddress,
    ticket: String,
    expires_in_s: u32,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum SessionState {
    /// A frontend expects the player, or has it.
    Admitted,
    /// It was ended, or its frontend is gone.
    Closed,
}

/// Where the client goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FrontendAddress {
    node: NodeId,
    url: String,
}

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SessionDocument {
    v: u32,
    player: u64,
    frontend: FrontendAddress,
    /// The frontend's life: in its next one it knows nothing of the session.
    incarnation: u64,
    ticket: String,
    expires_in_s: u32,
    closed: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Document for SessionDocument {
    const KIND: &'static str = "session";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

fn key(session: Uuid) -> String {
    format!("session/{session}")
}

/// `POST /v1/sessions`
pub async fn create(
    State(app): State<Arc<App>>,
    axum::Extension(client): axum::Extension<ClientAddress>,
    Body(new): Body<NewSession>,
) -> ApiResult<(StatusCode, Json<SessionAnswer>)> {
    let account = super::accounts::authenticate(&app, client, &new.name, new.password).await?;
    let player = super::accounts::player_of(&app, &account).await?;
    let arrival = arrival(&app, &player, new.island)?;
    let session = app.random_uuid();
    let open = OpenSession { session, player: ObjectId(player.id), island: new.island.map(IslandId) };
    let home = player.owner.as_ref().and_then(|owner| home(&app, &owner.node, owner.incarnation));
    let admitted = admit(&app, &open, &arrival, home.as_ref()).await?;
    remember(&app, session, &admitted).await?;
    Ok((StatusCode::CREATED, Json(answer(session, admitted, SessionState::Admitted))))
}

/// `GET /v1/sessions/{id}`
pub async fn get(State(app): State<Arc<App>>, Segment(id): Segment) -> ApiResult<Json<SessionAnswer>> {
    let session = parse(&id)?;
    let known = load(&app, session).await?.document;
    let state = if known.closed || !lives(&app, &known) { SessionState::Closed } else { SessionState::Admitted };
    Ok(Json(answer(session, known, state)))
}

/// `DELETE /v1/sessions/{id}`: the player leaves the world.
pub async fn close(State(app): State<Arc<App>>, Segment(id): Segment) -> ApiResult<StatusCode> {
    let session = parse(&id)?;
    let document::Kept { document: mut known, version } = load(&app, session).await?;
    if !known.closed
        && let Some(frontend) = whoever_ends(&app, &known).await?
    {
        let close = CloseSession { session, player: ObjectId(known.player) };
        let done = app.mesh.call(&frontend, &SESSION_CLOSE, pack(&close)).await;
        done.map_err(|error| ApiError::failed("asking the frontend to close the session", &error))?;
    }
    known.closed = true;
    let bytes = encode(&known)?;
    let options = WriteOptions { expiry: Expiry::Keep, ack: Ack::Early };
    if let Err(error) = app.store().replace(&key(session), bytes, version, options).await {
        // The frontend has let the player go; that others still read "admitted" for a while harms nobody.
        tracing::debug!(%session, %error, "a closed session could not be marked");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The frontend that is to end a session: the one that has the player, else the one that was chosen for it, else any, so that
/// nobody comes back to a player whose frontend has died.
async fn whoever_ends(app: &App, known: &SessionDocument) -> ApiResult<Option<NodeId>> {
    let found = estate::player::find(app.store(), known.player).await;
    let player = found.map_err(|error| ApiError::failed("reading the player", &error))?;
    let owner = player.and_then(|kept| kept.document.owner);
    let at_home = owner.and_then(|owner| home(app, &owner.node, owner.incarnation));
    let chosen = || lives(app, known).then(|| known.frontend.node.clone());
    let any = || app.mesh.peers().up(Role::Frontend).next().map(|peer| peer.record.node.clone());
    Ok(at_home.or_else(chosen).or_else(any))
}

fn answer(session: Uuid, known: SessionDocument, state: SessionState) -> SessionAnswer {
    let SessionDocument { player, frontend, ticket, expires_in_s, .. } = known;
    SessionAnswer { session, state, player, frontend, ticket, expires_in_s }
}

fn parse(id: &str) -> ApiResult<Uuid> {
    Uuid::try_parse(id).map_err(|_| unknown_session())
}

fn unknown_session() -> ApiError {
    ApiError::unknown("unknown_session", "no such session; it never was, or it is long over")
}

async fn load(app: &App, session: Uuid) -> ApiResult<document::Kept<SessionDocument>> {
    let found = document::peek(app.store(), &key(session)).await;
    found.map_err(|error| ApiError::failed("reading the session", &error))?.ok_or_else(unknown_session)
}

fn encode(known: &SessionDocument) -> ApiResult<Bytes> {
    document::encode(known).map_err(|error| ApiError::failed("writing the session", &error))
}

async fn remember(app: &App, session: Uuid, known: &SessionDocument) -> ApiResult<()> {
    let options = WriteOptions { expiry: Expiry::In(MEMORY), ack: Ack::Early };
    if let Err(error) = app.store().insert(&key(session), encode(known)?, options).await {
        // The client has its ticket all the same; only asking for the session again will not work.
        tracing::warn!(%session, %error, "a session could not be remembered");
    }
    Ok(())
}

fn lives(app: &App, known: &SessionDocument) -> bool {
    let peers = app.mesh.peers();
    peers.get(&known.frontend.node).is_some_and(|peer| peer.record.incarnation.0 == known.incarnation)
}

/// The frontend that owns the player now, if it is up in that very life.
fn home(app: &App, node: &str, incarnation: u64) -> Option<NodeId> {
    let peers = app.mesh.peers();
    let peer = peers.get(&NodeId::new(node).ok()?)?;
    let up = peer.state == PeerState::Up && peer.record.incarnation.0 == incarnation;
    (up && peer.record.role == Role::Frontend).then(|| peer.record.node.clone())
}

/// Where the player begins, and what it will see there.
fn arrival(app: &App, player: &PlayerDocument, wanted: Option<u32>) -> ApiResult<Arrival> {
    let island = IslandId(wanted.unwrap_or(player.island));
    let terrain = app.islands.get(island);
    match (terrain, wanted) {
        (None, Some(wanted)) => Err(ApiError::bad("unknown_island", format!("there is no island {wanted}"))),
        // The island the player was on is gone: the frontend finds another.
        (None, None) => Ok(Arrival::default()),
        (Some(terrain), _) => {
            let last = Place::new(player.x, player.y);
            let spawn = || terrain.spawns().first().map_or(last, |spawn| spawn.place);
            let begins = if island.0 == player.island { last } else { spawn() };
            Ok(Arrival { cell: begins.cell(island), sees: cells_around(island, begins, terrain.size()) })
        }
    }
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

/// Asks frontends, best first, until one expects the player.
async fn admit(app: &App, open: &OpenSession, arrival: &Arrival, home: Option<&NodeId>) -> ApiResult<SessionDocument> {
    let block = arrival.cell.map(|cell| block_mark(cell.island.0, cell.x, cell.y));
    let ranked = choose::rank(&candidates(app, block), arrival, home);
    let mut why = "no frontend is up".to_owned();
    let mut full = ranked.is_empty() && app.mesh.peers().up(Role::Frontend).next().is_some();
    for node in ranked.into_iter().take(TRIES) {
        let asked = match app.mesh.call(&node, &SESSION_OPEN, pack(open)).await {
            Ok(answer) => unpack::<SessionOffer>(&answer).map_err(|refusal| (false, refusal.to_string())),
            Err(error) => Err((is_full(&error), error.to_string())),
        };
        match asked {
            Ok(offer) => {
                app.metrics.sessions.with_label_values(&["admitted"]).inc();
                app.sent.count(&node, block);
                return Ok(expected(app, open, node, offer));
            }
            Err((refused_as_full, reason)) => {
                app.metrics.sessions.with_label_values(&["refused"]).inc();
                tracing::info!(%node, session = %open.session, reason, "a frontend did not take a session");
                full = refused_as_full;
                why = reason;
            }
        }
    }
    app.metrics.sessions.with_label_values(&["no_frontend"]).inc();
    tracing::warn!(session = %open.session, why, "no frontend for a session");
    let (code, text) = if full {
        ("full", "all frontends are full; ask again shortly")
    } else {
        ("no_frontend", "no frontend can be reached; ask again shortly")
    };
    Err(ApiError::unavailable(code, text, RETRY_AFTER_S))
}

fn is_full(error: &CallError) -> bool {
    matches!(error, CallError::Refused { refusal, .. } if refusal.code == "full")
}

fn expected(app: &App, open: &OpenSession, node: NodeId, offer: SessionOffer) -> SessionDocument {
    let incarnation = app.mesh.peers().get(&node).map_or(0, |peer| peer.record.incarnation.0);
    SessionDocument {
        v: SessionDocument::VERSION,
        player: open.player.0,
        frontend: FrontendAddress { node, url: offer.url },
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
