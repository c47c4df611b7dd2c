//! Sessions over HTTP: a player who proved the password is let in or put in line, and asks by the session's number how it
//! stands, at any gateway.
//!
//! The frontend makes the ticket; `hall` finds the frontend, `admission` decides who waits. What was answered lies in a
//! document that expires, so that every gateway can repeat it. A session NEVER moves or blocks a player by itself:
//! entering the world is the frontend's business.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use cartographer::geometry::{IslandId, ObjectId};
use estate::document;
use estate::store::{Ack, Expiry, WriteOptions};
use mesh::{NodeId, Role};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use super::admission::{self, Entry};
use super::edge::ClientAddress;
use super::error::{ApiError, ApiResult, Body, Segment};
use super::queue::Office;
use super::queue::view::Place;
use super::session::{FrontendAddress, MEMORY, SessionDocument, key};
use crate::methods::{CloseSession, SESSION_CLOSE, pack};

/// How long an entry of the queue may take to be told here that another gateway has made.
const LAG: Duration = Duration::from_millis(500);

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
    #[serde(flatten)]
    door: Option<DoorAnswer>,
    #[serde(flatten)]
    line: Option<LineAnswer>,
}

/// Where a client that was let in goes.
#[derive(Debug, Serialize)]
struct DoorAnswer {
    frontend: FrontendAddress,
    ticket: String,
    expires_in_s: u32,
}

/// Where a client that waits stands.
#[derive(Debug, Serialize)]
struct LineAnswer {
    /// From 1.
    place: u32,
    /// Players before it.
    ahead: u32,
    /// Players who wait, in all.
    waiting: u32,
    /// About how long it will wait, in seconds.
    wait_s: u32,
    /// When to ask again, in seconds.
    poll_s: u32,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum SessionState {
    /// It waits in line.
    Queued,
    /// A frontend expects the player, or has it.
    Admitted,
    /// It was ended, or its frontend is gone.
    Closed,
}

/// `POST /v1/sessions`
pub async fn create(
    State(app): State<Arc<App>>,
    axum::Extension(client): axum::Extension<ClientAddress>,
    Body(new): Body<NewSession>,
) -> ApiResult<(StatusCode, Json<SessionAnswer>)> {
    let account = super::accounts::authenticate(&app, client, &new.name, new.password).await?;
    let player = super::accounts::player_of(&app, &account).await?;
    let island = new.island.map(IslandId);
    if let Some(wanted) = island.filter(|wanted| app.islands.get(*wanted).is_none()) {
        return Err(ApiError::bad("unknown_island", format!("there is no island {}", wanted.0)));
    }
    match admission::seek(&app, &player, island).await? {
        Entry::Admitted(session, document) => {
            remember(&app, session, &document).await?;
            Ok((StatusCode::CREATED, Json(answer(session, *document, SessionState::Admitted))))
        }
        Entry::Queued(place) => Ok((StatusCode::ACCEPTED, Json(queued(&app, &place)))),
    }
}

/// `GET /v1/sessions/{id}`: where it stands in line, from memory; or the document that says it was let in.
pub async fn get(State(app): State<Arc<App>>, Segment(id): Segment) -> ApiResult<Json<SessionAnswer>> {
    let session = parse(&id)?;
    let place = app.admission.line.view().poll(session, Instant::now());
    if let Some(place) = place {
        return Ok(Json(queued(&app, &place)));
    }
    if let Some(known) = find(&app, session).await? {
        return Ok(Json(told(&app, session, known.document)));
    }
    // Another gateway may have put it in line a moment ago, and let it in meanwhile.
    if let Some(place) = app.admission.line.until_session(session, LAG).await {
        return Ok(Json(queued(&app, &place)));
    }
    match find(&app, session).await? {
        Some(known) => Ok(Json(told(&app, session, known.document))),
        None if !app.admission.line.fresh() => {
            Err(ApiError::unavailable("unavailable", "this gateway does not know who waits just now", 1))
        }
        None => Err(unknown_session()),
    }
}

/// `DELETE /v1/sessions/{id}`: the player leaves the line or the world.
pub async fn close(State(app): State<Arc<App>>, Segment(id): Segment) -> ApiResult<StatusCode> {
    let session = parse(&id)?;
    let place = app.admission.line.until_session(session, Duration::ZERO).await;
    if let Some(place) = &place {
        let left = app.admission.scribe.leave(place.player, place.created).await;
        left.map_err(|error| ApiError::failed("leaving the queue", &error))?;
    }
    let document::Kept { document: mut known, version } = match find(&app, session).await? {
        Some(known) => known,
        None if place.is_some() => return Ok(StatusCode::NO_CONTENT),
        None => return Err(unknown_session()),
    };
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
    let at_home = owner.and_then(|owner| holder(app, &owner.node, owner.incarnation));
    let chosen = || known.frontend.as_ref().filter(|_| lives(app, known)).map(|frontend| frontend.node.clone());
    let any = || app.mesh.peers().up(Role::Frontend).next().map(|peer| peer.record.node.clone());
    Ok(at_home.or_else(chosen).or_else(any))
}

/// The frontend that owns a player, if it is up in that very life; also one that is being emptied.
fn holder(app: &App, node: &str, incarnation: u64) -> Option<NodeId> {
    let peers = app.mesh.peers();
    let peer = peers.get(&NodeId::new(node).ok()?)?;
    let up = peer.state == mesh::PeerState::Up && peer.record.incarnation.0 == incarnation;
    (up && peer.record.role == Role::Frontend).then(|| peer.record.node.clone())
}

/// The answer of `GET /v1/queue`.
#[derive(Debug, Serialize)]
pub struct QueueAnswer {
    /// How many wait.
    waiting: u32,
    /// How many of them are returning.
    returning: u32,
    /// Whether this gateway knows the queue as it is now.
    fresh: bool,
    /// Who lets them in, if anybody does.
    doorkeeper: Option<Office>,
}

/// `GET /v1/queue`: how many wait, and who lets them in. From memory.
pub async fn queue(State(app): State<Arc<App>>) -> Json<QueueAnswer> {
    let fresh = app.admission.line.fresh();
    let view = app.admission.line.view();
    let (waiting, returning, doorkeeper) = (view.len() as u32, view.returning(), view.office().cloned());
    Json(QueueAnswer { waiting, returning, fresh, doorkeeper })
}

fn queued(app: &App, place: &Place) -> SessionAnswer {
    let ahead = place.place.saturating_sub(1);
    let wait_s = app.admission.wait_s(ahead);
    let poll_s = app.admission.poll_s(wait_s);
    let line = LineAnswer { place: place.place, ahead, waiting: place.length.max(place.place), wait_s, poll_s };
    let (session, player) = (place.session, place.player.0);
    SessionAnswer { session, state: SessionState::Queued, player, door: None, line: Some(line) }
}

fn told(app: &App, session: Uuid, known: SessionDocument) -> SessionAnswer {
    let state = if known.closed || !lives(app, &known) { SessionState::Closed } else { SessionState::Admitted };
    answer(session, known, state)
}

fn answer(session: Uuid, known: SessionDocument, state: SessionState) -> SessionAnswer {
    let SessionDocument { player, frontend, ticket, expires_in_s, .. } = known;
    let door = frontend.map(|frontend| DoorAnswer { frontend, ticket, expires_in_s });
    SessionAnswer { session, state, player, door, line: None }
}

fn parse(id: &str) -> ApiResult<Uuid> {
    Uuid::try_parse(id).map_err(|_| unknown_session())
}

fn unknown_session() -> ApiError {
    ApiError::unknown(
        "unknown_session",
        "no such session; it never was, it is long over, or nobody asked for it in line",
    )
}

async fn find(app: &App, session: Uuid) -> ApiResult<Option<document::Kept<SessionDocument>>> {
    let found = document::peek(app.store(), &key(session)).await;
    found.map_err(|error| ApiError::failed("reading the session", &error))
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
    let peer = known.frontend.as_ref().and_then(|frontend| peers.get(&frontend.node));
    peer.is_some_and(|peer| peer.record.incarnation.0 == known.incarnation)
}
