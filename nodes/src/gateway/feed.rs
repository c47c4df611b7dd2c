//! The live map, `GET /v1/map?island=N` over WebSocket: who is there, and every frame of the island.
//!
//! To the viewer:
//! ```text
//! text    {"type":"nodes","island":N,"now_ms":T,"nodes":[…],"waiting":W}   at once and every second: see [`NodeOnMap`]
//! text    {"type":"reset","now_ms":T}    everything known before is void; keyframes of all there is follow
//! binary  [10 …] [11 …]                  frames, exactly as their owners published them
//! ```
//! The first frames come after a `reset`; a viewer that did not keep up gets another. What viewers send is ignored. The
//! gateway's clock is what `now_ms` tells; a frame's times are its publisher's, and gateway time = publisher time +
//! `offset_ms`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use cartographer::geometry::IslandId;
use cartographer::ground::Ground;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use mesh::{Incarnation, NodeId, PeerState, Role};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::App;
use super::census;
use super::error::{ApiError, ApiResult};
use super::observer::{BATCHES, Batch, MapInput, Viewer, ViewerId};
use super::server::stopped;
use crate::methods::{NodeReport, ReportedLoad, Run};
use crate::world_loop::Input;

/// Viewers at once, at most.
const VIEWERS: usize = 256;

/// How often viewers are told who is there.
const CENSUS_EVERY: Duration = Duration::from_secs(1);

/// The least time between two censuses, however often viewers come.
const CENSUS_PAUSE: Duration = Duration::from_millis(50);

/// How long one write to a viewer may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a viewer is pinged, so that dead connections are found.
const PING_EVERY: Duration = Duration::from_secs(20);

/// The largest message that a viewer may send, in bytes.
const INCOMING_BYTES: usize = 1024;

/// One node, as the `nodes` message tells it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeOnMap {
    /// Its name.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// The publisher in its frames.
    pub publisher: Incarnation,
    /// How the gateway's link to it stands.
    pub state: PeerState,
    /// What it says of its load.
    pub load: Option<ReportedLoad>,
    /// What to add to its clock to get the gateway's, in milliseconds.
    pub offset_ms: i64,
    /// A number that stays the same for this node while the gateway lives, from 0: for its colour.
    pub colour: u32,
    /// The cells of this island that it sees: `[[y, x of the first, how many]…]`.
    pub cells: Vec<Run>,
}

#[derive(Serialize)]
struct NodesMessage<'a> {
    r#type: &'static str,
    island: IslandId,
    now_ms: u64,
    nodes: &'a [NodeOnMap],
    /// Players who wait in line.
    waiting: usize,
}

/// The latest `nodes` message of every island that somebody looks at.
type Messages = Arc<BTreeMap<IslandId, Utf8Bytes>>;

/// What the viewers of one gateway share.
#[derive(Debug)]
pub struct MapFeed {
    places: Arc<Semaphore>,
    next_viewer: AtomicU64,
    looked_at: Mutex<BTreeMap<IslandId, u32>>,
    messages: watch::Sender<Messages>,
    wake: tokio::sync::Notify,
}

impl Default for MapFeed {
    /// Nobody looks yet.
    fn default() -> MapFeed {
        MapFeed {
            places: Arc::new(Semaphore::new(VIEWERS)),
            next_viewer: AtomicU64::new(1),
            looked_at: Mutex::default(),
            messages: watch::Sender::new(Arc::default()),
            wake: tokio::sync::Notify::new(),
        }
    }
}

impl MapFeed {
    fn islands(&self) -> Vec<IslandId> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn look(&self, island: IslandId) {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).entry(island).or_default() += 1;
        self.wake.notify_one();
    }

    fn look_away(&self, island: IslandId) {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = looked_at.get_mut(&island) {
            *count -= 1;
            if *count == 0 {
                looked_at.remove(&island);
            }
        }
    }
}

/// The query of the live map.
#[derive(Debug, Deserialize)]
pub struct MapQuery {
    island: String,
}

/// `GET /v1/map?island=N`
pub async fn live(
    State(app): State<Arc<App>>,
    query: Result<Query<MapQuery>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    let Query(MapQuery { island }) = query.map_err(|bad| ApiError::bad("bad_query", bad.body_text()))?;
    let terrain = app.island(&island)?;
    let (island, size) = (terrain.id(), terrain.size());
    let upgrade = upgrade.map_err(|_| {
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "this is a WebSocket: connect with ws://")
    })?;
    let place = app.feed.places.clone().try_acquire_owned();
    let place = place.map_err(|_| ApiError::unavailable("busy", "too many viewers of the live map", 10))?;
    let upgrade = upgrade.max_message_size(INCOMING_BYTES).max_frame_size(INCOMING_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        // The connection's own task would outlive the node; the viewer's ends with it.
        let tasks = app.tasks.clone();
        tasks.spawn(view(app, socket, island, size, place));
    }))
}

async fn view(app: Arc<App>, socket: WebSocket, island: IslandId, size: (u16, u16), _place: OwnedSemaphorePermit) {
    let id = ViewerId(app.feed.next_viewer.fetch_add(1, Ordering::Relaxed));
    let (queue, batches) = mpsc::channel(BATCHES);
    let join = MapInput::Join(island, size, Viewer { id, queue });
    if !app.world.role(join).await {
        return;
    }
    app.feed.look(island);
    tracing::debug!(viewer = id.0, island = island.0, "a viewer of the live map came");
    let why = show(&app, socket, island, batches).await;
    tracing::debug!(viewer = id.0, why, "a viewer of the live map went");
    app.feed.look_away(island);
    // An error means that the world has ended.
    let _ = app.world.inputs.send(Input::Role(MapInput::Leave(island, id))).await;
}

/// Shows the island until the viewer goes, is too slow or the gateway is shut down; says which.
async fn show(app: &App, socket: WebSocket, island: IslandId, mut batches: mpsc::Receiver<Batch>) -> &'static str {
    let (mut out, mut incoming) = socket.split();
    let mut messages = app.feed.messages.subscribe();
    let mut stop = app.stop.subscribe();
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let given: Vec<Message> = tokio::select! {
            biased;
            () = stopped(&mut stop) => {
                let close = CloseFrame { code: close_code::AWAY, reason: Utf8Bytes::from_static("shutting down") };
                write(&mut out, vec![Message::Close(Some(close))]).await;
                return "shutting down";
            }
            said = incoming.next() => match said {
                Some(Ok(Message::Close(_))) | None => return "closed",
                Some(Err(_)) => return "failed",
                Some(Ok(_)) => continue,
            },
            changed = messages.changed() => {
                if changed.is_err() {
                    return "stopped";
                }
                let text = messages.borrow_and_update().get(&island).cloned();
                text.into_iter().map(Message::Text).collect()
            }
            batch = batches.recv() => match batch {
                Some(Batch::Frames(frames)) => frames.iter().cloned().map(Message::Binary).collect(),
                Some(Batch::Anew(frames)) => {
                    let reset = format!(r#"{{"type":"reset","now_ms":{}}}"#, app.mesh.now_ms());
                    let frames = frames.into_iter().map(Message::Binary);
                    std::iter::once(Message::Text(reset.into())).chain(frames).collect()
                }
                None => return "stopped",
            },
            _ = pings.tick() => vec![Message::Ping(bytes::Bytes::new())],
        };
        if !write(&mut out, given).await {
            return "too slow or gone";
        }
    }
}

/// Writes messages in one go; false if the viewer did not take them in time.
async fn write(out: &mut SplitSink<WebSocket, Message>, messages: Vec<Message>) -> bool {
    let all = async {
        for message in messages {
            out.feed(message).await?;
        }
        out.flush().await
    };
    matches!(tokio::time::timeout(WRITE_TIMEOUT, all).await, Ok(Ok(())))
}

/// Tells viewers who is there, once a second while anybody looks. Ends with the node.
pub async fn tell_nodes(app: Arc<App>) {
    let mut colours: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut last: BTreeMap<NodeId, NodeReport> = BTreeMap::new();
    loop {
        if app.feed.islands().is_empty() {
            last.clear();
            app.feed.wake.notified().await;
        }
        let asked = census::reports(&app.mesh, &app.own_report()).await;
        let rows = census::rows(&app.mesh);
        for (node, said) in asked {
            // A node that does not answer just now is shown as it was.
            if let Ok(report) = said {
                last.insert(node, report);
            }
        }
        last.retain(|node, report| rows.iter().any(|row| row.node == *node && row.publisher == report.publisher));
        for row in &rows {
            let next = colours.len() as u32;
            colours.entry(row.node.clone()).or_insert(next);
        }
        let message = |island: IslandId| {
            let nodes: Vec<NodeOnMap> = rows.iter().map(|row| on_map(row, island, &last, &colours)).collect();
            let (now_ms, waiting) = (app.mesh.now_ms(), app.admission.line.view().len());
            let message = NodesMessage { r#type: "nodes", island, now_ms, nodes: &nodes, waiting };
            // Writing plain values to memory cannot fail.
            (island, Utf8Bytes::from(serde_json::to_string(&message).unwrap_or_default()))
        };
        app.feed.messages.send_replace(Arc::new(app.feed.islands().into_iter().map(message).collect()));
        tokio::select! {
            biased;
            () = app.feed.wake.notified() => tokio::time::sleep(CENSUS_PAUSE).await,
            () = tokio::time::sleep(CENSUS_EVERY) => {}
        }
    }
}

fn on_map(
    row: &census::NodeRow,
    island: IslandId,
    reports: &BTreeMap<NodeId, NodeReport>,
    colours: &BTreeMap<NodeId, u32>,
) -> NodeOnMap {
    let report = reports.get(&row.node);
    NodeOnMap {
        id: row.node.clone(),
        role: row.role,
        publisher: row.publisher,
        state: row.state,
        load: row.load,
        offset_ms: row.offset_ms,
        colour: colours.get(&row.node).copied().unwrap_or(0),
        cells: report.and_then(|report| report.vision.get(&island).cloned()).unwrap_or_default(),
    }
}
