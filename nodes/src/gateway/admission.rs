//! Who is let in at once, and who waits in line: what `POST /v1/sessions` decides for a player who has proved who it is.
//!
//! A player that a frontend holds already goes there: it takes nobody's room. Everybody else is let in at once only while
//! nobody waits, there is room, and this gateway's share of the rate is not used up; else it waits ([`super::queue`]). While
//! the directory is away nobody can know who waits: then nobody is let in, and those who wait keep their places.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cartographer::geometry::{IslandId, ObjectId};
use estate::player::{Owner, PlayerDocument};
use mesh::registry::{self, District};
use mesh::{NodeRecord, Role};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use super::error::{ApiError, ApiResult};
use super::hall::{self, NoEntry};
use super::queue::follower::Line;
use super::queue::scribe::Scribe;
use super::queue::view::Place;
use super::queue::{Class, POLL_LEAST, POLL_MOST, QueueError, Waiting};
use super::session::SessionDocument;
use crate::calendar::Calendar;
use crate::methods::OpenSession;

/// What a client is told to wait when no frontend takes it.
const RETRY_AFTER_S: u32 = 5;

/// What it is told to wait when the queue cannot be reached.
const AWAY_AFTER_S: u32 = 1;

/// What it is told to wait when the queue is full.
const FULL_AFTER_S: u32 = 30;

/// How long a login waits for this gateway to know the queue.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// How long a login waits for its own entry to be told here.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// How long a reading of who lives is good for.
const LIVING_FRESH: Duration = Duration::from_secs(1);

/// What a gateway's way in is made of.
pub struct Admission {
    /// Who waits.
    pub line: Arc<Line>,
    /// Who puts them there.
    pub scribe: Scribe,
    most: usize,
    per_second: u32,
    share: Mutex<(f64, Instant)>,
    living: tokio::sync::Mutex<Option<(Instant, Arc<Vec<NodeRecord>>)>>,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A frontend expects the player.
    Admitted(Uuid, Box<SessionDocument>),
    /// It waits.
    Queued(Place),
}

impl Admission {
    /// A way in that lets in so many each second, and lets so many wait, at most.
    pub fn new(line: Arc<Line>, scribe: Scribe, per_second: u32, most: usize) -> Admission {
        let share = Mutex::new((f64::from(per_second), Instant::now()));
        Admission { line, scribe, most, per_second: per_second.max(1), share, living: Default::default() }
    }

    /// Takes one of those that this gateway may let in at once: its part of the rate, never more than a second of it.
    fn take_share(&self, gateways: usize) -> bool {
        let rate = f64::from(self.per_second) / gateways.max(1) as f64;
        let now = Instant::now();
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        share.0 = (share.0 + now.duration_since(share.1).as_secs_f64() * rate).min(rate.max(1.0));
        share.1 = now;
        let may = share.0 >= 1.0;
        share.0 -= f64::from(u8::from(may));
        may
    }

    /// For how long somebody will wait, in seconds, as far as anybody can tell.
    pub fn wait_s(&self, ahead: u32) -> u32 {
        let told = self.line.view().office().map_or(0.0, |office| office.per_s);
        let rate = if told > 0.0 { told } else { f64::from(self.per_second) };
        (f64::from(ahead) / rate).ceil() as u32
    }

    /// When somebody should ask again, in seconds: often when its turn is near.
    pub fn poll_s(&self, wait_s: u32) -> u32 {
        (wait_s / 10).clamp(POLL_LEAST.as_secs() as u32, POLL_MOST.as_secs() as u32)
    }
}

/// Lets a player in, or puts it in line.
pub async fn seek(app: &App, player: &PlayerDocument, island: Option<IslandId>) -> ApiResult<Entry> {
    let id = ObjectId(player.id);
    let session = app.random_uuid();
    let at = (player.island, player.x, player.y);
    let mut waiting = Waiting { session, player: id, class: Class::Arriving, number: 0, island, at };
    let open = OpenSession { session, player: id, island };
    let arrival = hall::arrival_of(app, &waiting);
    let home = player.owner.as_ref().and_then(|owner| hall::home(app, &owner.node, owner.incarnation));
    if home.is_some()
        && let Ok(document) = hall::enter(app, &open, &arrival, home.as_ref()).await
    {
        return Ok(Entry::Admitted(session, Box::new(document)));
    }
    let way = &app.admission;
    if !way.line.until_fresh(KNOWN_WITHIN).await {
        return Err(away("this gateway does not know who waits"));
    }
    let present = way.line.view().poll_player(id, Instant::now());
    if let Some(place) = present {
        return Ok(Entry::Queued(place));
    }
    if !hall::any(app) && way.line.view().is_empty() {
        return Err(no_frontend());
    }
    if nobody_waits(way) && hall::room(app) > 0 && way.take_share(gateways(app)) {
        match hall::enter(app, &open, &arrival, None).await {
            Ok(document) => {
                app.counts.admissions.with_label_values(&["direct"]).inc();
                return Ok(Entry::Admitted(session, Box::new(document)));
            }
            Err(NoEntry::Full) => {}
            Err(NoEntry::Unreachable) => return Err(no_frontend()),
            Err(NoEntry::Unfit(why)) => return Err(ApiError::bad("unknown_island", why)),
        }
    }
    if way.line.view().len() + way.scribe.pending() >= way.most {
        let text = "as many wait as may; ask again later";
        return Err(ApiError::unavailable("queue_full", text, FULL_AFTER_S));
    }
    waiting.class = class(app, player).await;
    let joined = way.scribe.join(waiting).await.map_err(|error| match error {
        QueueError::Away(why) => away(&why),
        QueueError::Busy => ApiError::unavailable("busy", "too many logins at once; ask again shortly", 2),
    })?;
    let place = way.line.until_player(id, joined.created, TOLD_WITHIN).await;
    // Not told here in time: let in or gone by now, or this gateway's watch lags behind. The next poll tells.
    let length = way.line.view().len() as u32;
    let (session, created) = (joined.session, joined.created);
    let unknown = Place { place: length + 1, length: length + 1, player: id, session, created };
    Ok(Entry::Queued(place.unwrap_or(unknown)))
}

fn nobody_waits(way: &Admission) -> bool {
    way.line.view().is_empty() && way.scribe.pending() == 0
}

fn gateways(app: &App) -> usize {
    1 + app.mesh.peers().up(Role::Gateway).count()
}

fn away(why: &str) -> ApiError {
    tracing::warn!(why, "a login was refused");
    let text = "the queue cannot be reached just now; whoever waits keeps the place";
    ApiError::unavailable("unavailable", text, AWAY_AFTER_S)
}

fn no_frontend() -> ApiError {
    ApiError::unavailable("no_frontend", "no frontend can be reached; ask again shortly", RETRY_AFTER_S)
}

/// Whose frontend died under them goes before the others, for as long as their seat is kept.
async fn class(app: &App, player: &PlayerDocument) -> Class {
    let Some(owner) = &player.owner else { return Class::Arriving };
    let lives = |records: &[NodeRecord]| records.iter().any(|record| is(owner, record));
    if app.mesh.peers().iter().any(|peer| is(owner, &peer.record)) || !seat_is_fresh(player) {
        return Class::Arriving;
    }
    // The owner may be another district's: the directory knows.
    match living(&app.admission, app).await {
        Some(records) if !lives(&records) => Class::Returning,
        _ => Class::Arriving,
    }
}

fn is(owner: &Owner, record: &NodeRecord) -> bool {
    record.node.as_str() == owner.node && record.incarnation.0 == owner.incarnation
}

/// Whether the player's seat can still be resumed. A document that knows no seats says nothing against it.
fn seat_is_fresh(player: &PlayerDocument) -> bool {
    let fields = serde_json::to_value(player).unwrap_or(Value::Null);
    fields["seat"]["until_s"].as_u64().is_none_or(|until_s| until_s > Calendar::real().now_s())
}

/// Who lives in the cluster, read at most once a second however many ask.
async fn living(way: &Admission, app: &App) -> Option<Arc<Vec<NodeRecord>>> {
    let mut kept = way.living.lock().await;
    if let Some((_, records)) = kept.as_ref().filter(|(at, _)| at.elapsed() < LIVING_FRESH) {
        return Some(records.clone());
    }
    let district: &District = &app.district;
    let records = Arc::new(registry::read_cluster(&*app.directory, district).await.ok()?);
    *kept = Some((Instant::now(), records.clone()));
    Some(records)
}
