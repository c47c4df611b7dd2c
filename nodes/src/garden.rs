//! The garden: natural objects, facilities and land, as documents say; shown while somebody looks.
//!
//! What players want done ([`desk`]) is one transaction of the estate each, durable before it is answered, so that a garden's
//! death loses nothing and two gardens asked for one operation do it once. Beside that a garden keeps the land awake that
//! players see and rendezvous names it for ([`awake`]): reals in its world ([`scenes`]), made from documents ([`things`]).
//! They are for the eye only: documents decide. It NEVER keeps anything that is not in a document.

mod awake;
mod scenes;
mod things;

mod desk;
mod facilities;
mod land;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::Chunk;
use estate::land::Grounds;
use estate::transaction::Transactions;
use mesh::{CallRefusal, Incarnation, IncomingCall, Mesh, Method, NodeId, Role};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::audience::Audience;
use crate::calendar::Calendar;
use crate::game::content::Content;
use crate::game::grounds::Terrains;
use crate::islands::Archipelago;
use crate::methods::living::{GARDEN_DO, WATCH_CELLS};
use crate::methods::{pack, unpack};
use crate::rendezvous;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, WorldHandle};
use awake::Wish;
use scenes::{GardenRules, Lease, Scene};

/// Tells the garden that shows a chunk that another has changed it: the [`Chunk`]. A hint; the chunk is read now and then
/// anyway.
const GARDEN_CHANGED: Method = Method::send("garden.changed");

/// Wishes that wait for the flow that keeps the land awake. One that does not fit is dropped: the chunk is read later.
const WISHES: usize = 1_024;

/// How long an answer waits for what it changed to be shown.
const SHOWN: Duration = Duration::from_millis(500);

/// How long a leaving garden waits for its reals to have passed on.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What flows tell the world.
pub enum GardenInput {
    /// What a chunk shows from now on.
    Show(Box<Scene>),
    /// These chunks show nothing any more.
    Hide(Vec<Chunk>),
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
    wishes: mpsc::Sender<Wish>,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Garden> {
    let Parts { mesh, events, world, estate, islands, content, calendar, metrics, tasks, draining, .. } = parts;
    let (wishes, wished) = mpsc::channel(WISHES);
    let grounds = Arc::new(Terrains::new(&islands));
    let shared = Arc::new(Shared { mesh: mesh.clone(), estate, grounds, islands, content, calendar, wishes });
    let (lease, leased) = watch::channel(Lease::default());
    let things = metrics.gauge("things", "Facilities, natural objects and marks of holdings that are shown.");
    let chunks = metrics.gauge("awake_chunks", "Chunks with a deed that players see and this garden shows.");
    let rules = GardenRules::new(mesh.me(), lease, things);
    let world = world_loop::start(world, mesh.clone(), events, metrics, draining, &tasks, |_| rules)?;
    let audience = Audience::default();
    tasks.spawn(awake::run(shared.clone(), world.clone(), audience.cells(), leased, wished, chunks));
    tasks.spawn(mourn(mesh, audience.clone()));
    Ok(Garden { world, audience, shared })
}

/// Forgets what frontends saw whose lives are over.
async fn mourn(mesh: Mesh, audience: Audience) {
    let mut peers = mesh.watch_peers();
    let mut lives: BTreeSet<Incarnation> = BTreeSet::new();
    loop {
        let now: BTreeSet<Incarnation> = peers.borrow_and_update().iter().map(|peer| peer.record.incarnation).collect();
        lives.difference(&now).for_each(|life| audience.gone(*life));
        lives = now;
        if peers.changed().await.is_err() {
            return;
        }
    }
}

impl Garden {
    /// Lets its reals pass on, so that clients see them on another garden soon: the first half of leaving the mesh.
    pub async fn leave(&self) {
        let (gone, done) = oneshot::channel();
        if self.world.role(GardenInput::Leave(gone)).await && timeout(LEAVE_TIMEOUT, done).await.is_err() {
            tracing::warn!(node = %self.shared.mesh.me().node, "what this garden showed may stay in sight for a while");
        }
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
                    Ok(ask) => self.shared.serve(&ask).await.map(|answer| pack(&answer)),
                    Err(refusal) => Err(refusal),
                };
                call.answer(answer);
            }
            name if name == GARDEN_CHANGED.name => {
                if let Ok(chunk) = unpack::<Chunk>(&call.body) {
                    // Dropped if too many wait: it is read later anyway.
                    let _ = self.shared.wishes.try_send(Wish { chunk, shown: None });
                }
            }
            other => {
                let refusal = CallRefusal::unknown_method(other);
                call.answer(Err(refusal));
            }
        }
    }
}

impl Shared {
    /// Has whoever shows this chunk look again; waits a little for it if that is this garden.
    async fn changed(&self, chunk: Chunk) {
        let gardens = gardens(&self.mesh);
        match keeper(chunk, &gardens) {
            Some(other) if *other != self.mesh.me().node => self.mesh.send(other, &GARDEN_CHANGED, pack(&chunk)),
            _ => {
                let (shown, done) = oneshot::channel();
                if self.wishes.try_send(Wish { chunk, shown: Some(shown) }).is_ok() {
                    // It is done already; only the sight of it is late.
                    let _ = timeout(SHOWN, done).await;
                }
            }
        }
    }
}

/// The gardens that are up, this one included.
fn gardens(mesh: &Mesh) -> Vec<NodeId> {
    let peers = mesh.peers();
    let up = peers.up(Role::Garden).map(|peer| peer.record.node.clone());
    up.chain(std::iter::once(mesh.me().node.clone())).collect()
}

/// Which of these gardens shows a chunk.
fn keeper(chunk: Chunk, gardens: &[NodeId]) -> Option<&NodeId> {
    let mut key = b"chunk".to_vec();
    key.extend(chunk.island.0.to_be_bytes());
    key.extend(chunk.x.to_be_bytes());
    key.extend(chunk.y.to_be_bytes());
    rendezvous::choose(&key, gardens)
}
