//! The garden: natural objects, facilities and land, as documents say; shown while somebody looks.
//!
//! What players want done ([`desk`]) is one transaction of the estate each, durable before it is answered, so that a garden's
//! death loses nothing and two gardens asked for one operation do it once. Beside that a garden keeps the land awake that
//! players see and rendezvous names it for ([`awake`]): reals in its world ([`scenes`]), made from documents ([`things`]).
//! They are for the eye only: documents decide. It NEVER keeps anything that is not in a document.
//!
//! A garden that leaves, or whose land is another's because that has come or come back, has the other show it first
//! (`garden.take`), under higher epochs than its own; one that leaves ends what it has begun, too. After a time without its lease a garden publishes nothing before it has
//! forgotten all that it showed and reads it anew.

mod awake;
mod pulse;
mod scenes;
mod things;

mod desk;
mod facilities;
mod land;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::Chunk;
use estate::land::Grounds;
use estate::transaction::Transactions;
use futures_util::future::join_all;
use mesh::{CallRefusal, Incarnation, IncomingCall, Mesh, Method, NodeId, Role};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::audience::{self, Audience};
use crate::calendar::Calendar;
use crate::draining::{Draining, takes_work};
use crate::game::content::Content;
use crate::game::grounds::Terrains;
use crate::islands::Archipelago;
use crate::methods::living::{GARDEN_DO, WATCH_CELLS};
use crate::methods::{pack, unpack};
use crate::protocol::codes;
use crate::rendezvous;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, WorldHandle};
use awake::Wish;
use pulse::Pulse;
use scenes::{GardenRules, Lease, Scene};

/// Tells the garden that shows a chunk that another has changed it: the [`Chunk`]. A hint; the chunk is read now and then
/// anyway.
const GARDEN_CHANGED: Method = Method::send("garden.changed");

/// Garden → garden: shows land that the caller is about to show no more: [`TakeOver`] → nothing, once it is shown. Refused with
/// `draining`, or `unavailable` if some of it is not shown yet. A hint like all that is shown.
const GARDEN_TAKE: Method = Method::sync("garden.take", 3_000);

/// Land that another garden is to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TakeOver {
    /// Which chunks; those that nobody sees may be left out.
    chunks: Vec<Chunk>,
    /// The highest epoch under which the caller has shown anything: whatever replaces it needs a higher one, however the two
    /// calendars differ.
    epoch: u64,
    /// The caller leaves; else the land is the other garden's because rendezvous says so.
    leaves: bool,
}

/// Chunks that are handed over in one call, at most.
const TAKEN: usize = 512;

/// How long whoever takes land over waits for it to be shown: less than the patience of the call.
const TAKE_PATIENCE: Duration = Duration::from_millis(2_500);

/// How long a leaving garden waits for others to show its land, all together.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what others show is given to reach everybody, before this garden shows it no more.
const SETTLE: Duration = Duration::from_millis(300);

/// How long a leaving garden waits for what it was asked to do: as long as whoever asked.
const ACTS_TIMEOUT: Duration = Duration::from_millis(GARDEN_DO.deadline_ms as u64);

const _: () = assert!(TAKE_PATIENCE.as_millis() < GARDEN_TAKE.deadline_ms as u128);

/// Wishes that wait for the flow that keeps the land awake. One that does not fit is dropped: the chunk is read later.
const WISHES: usize = 1_024;

/// How long an answer waits for what it changed to be shown.
const SHOWN: Duration = Duration::from_millis(500);

/// How long an act may take here before it stands in its arbiter. Frontends ask the next garden soon after: one that comes back
/// from a freeze MUST NOT begin what another has refused meanwhile. What stands in an arbiter others see and wait for, or abort,
/// before they refuse it: that goes on, however slow the store is; cut off, it would be left to be waited for, and never be done
/// where a store is always so slow.
const ACTS_MOST: Duration = Duration::from_millis(2_500);

/// How long a leaving garden waits for its reals to have passed on.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(ACTS_MOST.as_millis() < GARDEN_DO.deadline_ms as u128);

/// What flows tell the world.
pub enum GardenInput {
    /// What a chunk shows from now on.
    Show(Box<Scene>),
    /// These chunks show nothing any more.
    Hide(Vec<Chunk>),
    /// What the highest epoch is under which anything was shown.
    Epoch(oneshot::Sender<u64>),
    /// Nothing is shown any more, for good. Told when others have been told.
    Leave(oneshot::Sender<()>),
}

/// A running garden.
#[derive(Clone)]
pub struct Garden {
    /// Its world.
    pub world: WorldHandle<GardenInput>,
    audience: Audience,
    shared: Arc<Shared>,
}

/// What the flows of a garden share.
struct Shared {
    mesh: Mesh,
    estate: Arc<Transactions>,
    grounds: Arc<dyn Grounds>,
    islands: Archipelago,
    content: Arc<Content>,
    calendar: Calendar,
    draining: Draining,
    wishes: mpsc::Sender<Wish>,
    /// How many acts are under way here.
    acts: watch::Sender<usize>,
    /// No act is taken any more.
    closed: watch::Sender<bool>,
    pulse: Pulse,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Garden> {
    let Parts { mesh, events, world, estate, islands, content, calendar, metrics, tasks, draining, .. } = parts;
    let (wishes, wished) = mpsc::channel(WISHES);
    let grounds = Arc::new(Terrains::new(&islands));
    let shared = Arc::new(Shared {
        mesh: mesh.clone(),
        estate,
        grounds,
        islands,
        content,
        calendar,
        draining: draining.clone(),
        wishes,
        acts: watch::Sender::new(0),
        closed: watch::Sender::new(false),
        pulse: Pulse::new(),
    });
    let beating = shared.clone();
    tasks.spawn(async move { beating.pulse.beat().await });
    let (lease, leased) = watch::channel(Lease::default());
    let things = metrics.gauge("things", "Facilities, natural objects and marks of holdings that are shown.");
    let chunks = metrics.gauge("awake_chunks", "Chunks with a deed that players see and this garden shows.");
    let rules = GardenRules::new(mesh.me(), mesh.lease(), lease, things);
    let world = world_loop::start(world, mesh.clone(), events, metrics, draining, &tasks, |_| rules)?;
    let audience = Audience::default();
    tasks.spawn(awake::run(shared.clone(), world.clone(), audience.cells(), leased, wished, chunks));
    tasks.spawn(audience::follow(mesh, audience.clone()));
    Ok(Garden { world, audience, shared })
}

impl Garden {
    /// Has other gardens show what this one does, ends what it was asked to do, and shows nothing any more: the first half of
    /// leaving the mesh.
    pub async fn leave(&self) {
        let shared = &self.shared;
        match timeout(TAKE_TIMEOUT, self.hand_over()).await {
            Ok(true) => sleep(SETTLE).await,
            Ok(false) => {}
            Err(_) => {
                tracing::warn!(node = %shared.mesh.me().node, "some land was not taken over in time: it flickers")
            }
        }
        shared.closed.send_replace(true);
        let (gone, done) = oneshot::channel();
        if self.world.role(GardenInput::Leave(gone)).await && timeout(LEAVE_TIMEOUT, done).await.is_err() {
            tracing::warn!(node = %shared.mesh.me().node, "what this garden showed may stay in sight for a while");
        }
        let mut acts = shared.acts.subscribe();
        if timeout(ACTS_TIMEOUT, acts.wait_for(|acts| *acts == 0)).await.is_err() {
            tracing::warn!(node = %shared.mesh.me().node, "some acts have not ended: whoever asked asks others");
        }
    }

    /// Has others show what this garden shows. False if nobody does.
    async fn hand_over(&self) -> bool {
        let shared = &self.shared;
        let ((asked, shown), (highest, epoch)) = (oneshot::channel(), oneshot::channel());
        if shared.wishes.send(Wish::Leave(asked)).await.is_err() || !self.world.role(GardenInput::Epoch(highest)).await
        {
            return false;
        }
        let (Ok(chunks), Ok(epoch)) = (shown.await, epoch.await) else { return false };
        let others = takes_work(&shared.mesh.peers(), Role::Garden);
        let mut by_heir: BTreeMap<&NodeId, Vec<Chunk>> = BTreeMap::new();
        for chunk in chunks {
            if let Some(heir) = keeper(chunk, &others) {
                by_heir.entry(heir).or_default().push(chunk);
            }
        }
        let calls = by_heir.iter().flat_map(|(heir, chunks)| chunks.chunks(TAKEN).map(move |chunks| (*heir, chunks)));
        let calls = calls.map(async |(heir, chunks)| {
            let take = TakeOver { chunks: chunks.to_vec(), epoch, leaves: true };
            let taken = shared.mesh.call(heir, &GARDEN_TAKE, pack(&take)).await;
            taken.inspect_err(|error| tracing::debug!(%error, "a garden does not take land over")).is_ok()
        });
        join_all(calls).await.contains(&true)
    }
}

#[async_trait]
impl Answers for Garden {
    fn takes(&self, family: &str) -> bool {
        ["garden", "watch"].contains(&family)
    }

    async fn answer(&self, call: IncomingCall) {
        match call.method.as_str() {
            name if name == WATCH_CELLS.name => self.audience.answer(call),
            name if name == GARDEN_DO.name => {
                let answer = match unpack(&call.body) {
                    _ if *self.shared.closed.borrow() => {
                        Err(CallRefusal::new(codes::DRAINING, "this garden is leaving"))
                    }
                    // It may be as old as a freeze was long, and another garden may have refused it meanwhile.
                    _ if !self.shared.mesh.lease().holds() || !self.shared.pulse.is_steady() => {
                        // An earlier try of the same call may have been carried out here, too.
                        let text =
                            "this garden has slept, or lost its lease, for a moment: ask again under the same number";
                        Err(CallRefusal::new(codes::UNKNOWN, text))
                    }
                    Ok(ask) => {
                        let _acts = Acting::begin(&self.shared.acts);
                        self.shared.serve(&ask).await.map(|answer| pack(&answer))
                    }
                    Err(refusal) => Err(refusal),
                };
                call.answer(answer);
            }
            name if name == GARDEN_TAKE.name => {
                let answer = match unpack(&call.body) {
                    Ok(take) => self.shared.take_over(call.incarnation, take).await,
                    Err(refusal) => Err(refusal),
                };
                call.answer(answer.map(|()| bytes::Bytes::new()));
            }
            name if name == GARDEN_CHANGED.name => {
                if let Ok(chunk) = unpack::<Chunk>(&call.body) {
                    // Dropped if too many wait: it is read later anyway.
                    let _ = self.shared.wishes.try_send(Wish::Read { chunk, shown: None });
                }
            }
            other => {
                let refusal = CallRefusal::unknown_method(other);
                call.answer(Err(refusal));
            }
        }
    }
}

/// An act that is under way.
struct Acting<'a>(&'a watch::Sender<usize>);

impl Acting<'_> {
    fn begin(acts: &watch::Sender<usize>) -> Acting<'_> {
        acts.send_modify(|acts| *acts += 1);
        Acting(acts)
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|acts| *acts -= 1);
    }
}

impl Shared {
    /// Shows what a garden of this life is about to show no more; returns when it is shown, or has taken too long.
    async fn take_over(&self, life: Incarnation, take: TakeOver) -> Result<(), CallRefusal> {
        if self.draining.has_begun() || *self.closed.borrow() {
            return Err(CallRefusal::new(codes::DRAINING, "this garden is leaving, too"));
        }
        let all = async {
            let mut shown = Vec::with_capacity(take.chunks.len().min(TAKEN));
            // Errors mean that the node stops.
            let _ = self.wishes.send(Wish::Outrank { epoch: take.epoch, leaver: take.leaves.then_some(life) }).await;
            for chunk in take.chunks.into_iter().take(TAKEN) {
                let (tell, told) = oneshot::channel();
                let _ = self.wishes.send(Wish::Read { chunk, shown: Some(tell) }).await;
                shown.push(told);
            }
            join_all(shown).await.iter().all(Result::is_ok)
        };
        match timeout(TAKE_PATIENCE, all).await {
            Ok(true) => Ok(()),
            _ => Err(CallRefusal::new(codes::UNAVAILABLE, "some of that land is not shown here yet")),
        }
    }

    /// Has whoever shows this chunk look again; waits a little for it if that is this garden.
    async fn changed(&self, chunk: Chunk) {
        let gardens = self.gardens();
        match keeper(chunk, &gardens) {
            Some(other) if *other != self.mesh.me().node => self.mesh.send(other, &GARDEN_CHANGED, pack(&chunk)),
            _ => {
                let (shown, done) = oneshot::channel();
                if self.wishes.try_send(Wish::Read { chunk, shown: Some(shown) }).is_ok() {
                    // It is done already; only the sight of it is late.
                    let _ = timeout(SHOWN, done).await;
                }
            }
        }
    }
}

impl Shared {
    /// The gardens that show land: those that are up, this one included, without those that are leaving.
    fn gardens(&self) -> Vec<NodeId> {
        let mut gardens = takes_work(&self.mesh.peers(), Role::Garden);
        if gardens.is_empty() || !self.draining.has_begun() {
            gardens.push(self.mesh.me().node.clone());
        }
        gardens
    }
}

/// Which of these gardens shows a chunk.
fn keeper(chunk: Chunk, gardens: &[NodeId]) -> Option<&NodeId> {
    let mut key = b"chunk".to_vec();
    key.extend(chunk.island.0.to_be_bytes());
    key.extend(chunk.x.to_be_bytes());
    key.extend(chunk.y.to_be_bytes());
    rendezvous::choose(&key, gardens)
}
