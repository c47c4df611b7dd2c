//! Whether the gateway lives, and whether it can do its work: directory, store and a frontend, each really asked.
//!
//! Probes come from balancers, many and often: the answer is found once a second at most, by one prober at a time.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use estate::store::{Ack, Expiry, StoreError, WriteOptions};
use futures_util::future::{join3, select_ok};
use mesh::Role;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::App;
use super::error::chain;
use crate::methods::NODE_REPORT;
use crate::metrics::TEXT_TYPE;

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the document lives that the store is checked with.
const PROBE_LIFE: Duration = Duration::from_secs(60);

/// Frontends asked at once, at most; one answer is enough.
const FRONTENDS: usize = 3;

/// The answer of `GET /ready`.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// True if all checks are.
    ready: bool,
    /// What was checked, in the order of the data path.
    checks: Vec<Check>,
}

#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// The last answer, and the turn to find the next.
#[derive(Debug, Default)]
pub struct LastReadiness(Mutex<Option<(Instant, Readiness)>>);

/// `GET /health`: the process lives and answers, and whether it is about to go.
pub async fn health(State(app): State<Arc<App>>) -> Response {
    #[derive(Serialize)]
    struct Health<'a> {
        status: &'static str,
        node: &'a str,
        version: &'a str,
        uptime_ms: u64,
    }
    let me = app.mesh.me();
    let status = if app.stopping() { "draining" } else { "alive" };
    let health = Health { status, node: me.node.as_str(), version: &me.version, uptime_ms: app.mesh.now_ms() };
    fresh(Json(health).into_response())
}

/// `GET /ready`: the whole data path works. 503 otherwise, and while the gateway is being shut down.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let mut last = app.readiness.0.lock().await;
    let known = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, readiness)| readiness.clone());
    let mut readiness = match known {
        Some(readiness) => readiness,
        None => {
            let found = find(&app).await;
            *last = Some((Instant::now(), found.clone()));
            found
        }
    };
    drop(last);
    if app.stopping() {
        readiness.ready = false;
        readiness.checks.push(Check { name: "gateway", ok: false, detail: "draining".to_owned() });
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    fresh((status, Json(readiness)).into_response())
}

/// `GET /metrics`
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    fresh(([(CONTENT_TYPE, TEXT_TYPE)], app.exposition.text()).into_response())
}

fn fresh(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn find(app: &App) -> Readiness {
    let (directory, store, frontend) = join3(within(directory(app)), within(store(app)), within(frontend(app))).await;
    let checks: Vec<Check> = [("directory", directory), ("store", store), ("frontend", frontend)]
        .into_iter()
        .map(|(name, result)| Check { name, ok: result.is_ok(), detail: result.unwrap_or_else(|why| why) })
        .collect();
    for check in checks.iter().filter(|check| !check.ok) {
        tracing::warn!(check = check.name, why = check.detail, "not ready");
    }
    Readiness { ready: checks.iter().all(|check| check.ok), checks }
}

async fn within(check: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    let late = |_| Err(format!("no answer within {} ms", PATIENCE.as_millis()));
    tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(late)
}

async fn directory(app: &App) -> Result<String, String> {
    let read = app.directory.get("/wildmesh/readiness").await;
    read.map(|_| "answers".to_owned()).map_err(|error| chain(&error))
}

/// Writes a document of this node's own and reads it back.
async fn store(app: &App) -> Result<String, String> {
    let options = WriteOptions { expiry: Expiry::In(PROBE_LIFE), ack: Ack::Early };
    let key = format!("readiness/{}", app.mesh.me().node);
    let value = Bytes::from(app.mesh.now_ms().to_string());
    let told = |error: StoreError| chain(&error);
    let written = match app.store().get(&key).await.map_err(told)? {
        Some(stored) => app.store().replace(&key, value.clone(), stored.version, options).await,
        None => app.store().insert(&key, value.clone(), options).await,
    };
    match written {
        Ok(_) => {}
        // Another probe of a node of the same name, or expiry in between: the store answers all the same.
        Err(StoreError::Conflict | StoreError::Exists | StoreError::NotFound) => return Ok("answers".to_owned()),
        Err(error) => return Err(chain(&error)),
    }
    match app.store().get(&key).await.map_err(told)? {
        Some(stored) if stored.value == value => Ok("reads and writes".to_owned()),
        _ => Err("does not read what was written".to_owned()),
    }
}

async fn frontend(app: &App) -> Result<String, String> {
    let peers = app.mesh.peers();
    let asked: Vec<_> = peers
        .up(Role::Frontend)
        .take(FRONTENDS)
        .map(|peer| {
            let node = peer.record.node.clone();
            Box::pin(async move {
                let answer = app.mesh.call(&node, &NODE_REPORT, Bytes::new()).await;
                answer.map(|_| format!("{node} answers")).map_err(|error| error.to_string())
            })
        })
        .collect();
    if asked.is_empty() {
        return Err("no frontend is up".to_owned());
    }
    select_ok(asked).await.map(|(answer, _)| answer)
}
