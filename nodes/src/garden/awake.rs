//! Keeps the land awake that players see: which chunks those are, reading them, and putting back what has grown again.
//!
//! A chunk is this garden's while a player sees its cell and rendezvous names this garden. It is read when it becomes so,
//! when somebody says that it has changed, and now and then in case nobody did; what is read goes to the world. Only the
//! difference is handled when players or gardens come and go. What a garden that is lost has shown is shown over what anybody
//! still sees of it, at once, and not when that is forgotten. What is not shown in time is shown later: NEVER is anything
//! decided by it.

mod passing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::{Cell, Chunk, ObjectId, TILES_PER_CELL, TILES_PER_CHUNK};
use estate::document::{Document, peek};
use estate::land::nature::{self, Nature};
use estate::land::{DeedDocument, HoldingDocument, ObjectDocument, Stand, deed, holding, object};
use estate::transaction::{Intent, OperationId, TransactionError};
use futures_util::stream::{FuturesUnordered, StreamExt};
use mesh::{Incarnation, NodeId, PeerState};
use prometheus::IntGauge;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::scenes::{Actor, Lease, Scene};
use super::things::{self, Shown};
use super::{GardenInput, Shared, keeper};
use crate::last_seen;
use crate::world_loop::WorldHandle;

/// Chunks that are read at once, at most.
const READERS: usize = 16;

/// Natural objects that are put back at once, at most; the others wait until their chunk is read again.
const RESTORERS: usize = 8;

/// After what time a chunk is read again though nobody said that it has changed.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(10);

/// How often that is looked for.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// How long somebody may still see what a garden showed that is lost: its lease, the grace of ghosts, and some more.
const LOST_SEEN: Duration = Duration::from_secs(15);

/// Chunks along a cell's side.
const CHUNKS: u16 = TILES_PER_CELL / TILES_PER_CHUNK;

/// What is wished of the land.
pub(super) enum Wish {
    /// That a chunk be read again.
    Read {
        /// Which.
        chunk: Chunk,
        /// Told when what was read is on its way to the world; dropped if this garden does not show the chunk.
        shown: Option<oneshot::Sender<()>>,
    },
    /// That what another garden shows be shown here, as far as it is ours, and under higher epochs than this.
    Outrank {
        /// The highest of its epochs.
        epoch: u64,
        /// Its life, if it leaves.
        leaver: Option<Incarnation>,
    },
    /// That no more land be woken, because this garden leaves. Told which chunks it shows.
    Leave(oneshot::Sender<Vec<Chunk>>),
}

/// What was found in a chunk.
struct Read {
    deed: bool,
    things: Vec<Shown>,
    whole: Vec<(ObjectId, Nature)>,
    now_s: u64,
    /// The highest epoch under which anybody was asked about it and still sees any of it.
    seen: u64,
}

/// What is known of a chunk that is awake.
#[derive(Default)]
struct Woken {
    reading: bool,
    queued: bool,
    read: Option<Instant>,
    deed: bool,
    shows: bool,
    /// Another garden is being asked to show it.
    passed: bool,
    /// Who waits for the reading under way, and for the one after it.
    waiting: Vec<oneshot::Sender<()>>,
    next: Vec<oneshot::Sender<()>>,
}

type Flow<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Awake {
    shared: Arc<Shared>,
    world: WorldHandle<GardenInput>,
    held: bool,
    changes: u64,
    cells: Arc<BTreeSet<Cell>>,
    gardens: Vec<NodeId>,
    /// Gardens that have said that they leave.
    leavers: BTreeSet<Incarnation>,
    /// The highest epoch under which any of them has shown anything.
    floor: u64,
    /// Until then somebody may see what a garden has shown that is lost, or this one in a former life: what is shown anew is
    /// shown over that.
    careful_until: Instant,
    /// This garden leaves.
    leaves: bool,
    chunks: BTreeMap<Chunk, Woken>,
    queue: VecDeque<Chunk>,
    reading: FuturesUnordered<Flow<(Chunk, Result<Read, TransactionError>)>>,
    restoring: FuturesUnordered<Flow<(Chunk, ObjectId)>>,
    passing: FuturesUnordered<Flow<(Vec<Chunk>, bool)>>,
    /// Some of what was offered to others was not taken.
    untaken: bool,
    /// What is being put back.
    restored: BTreeSet<ObjectId>,
    gauge: IntGauge,
}

/// Keeps the land awake until the node stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    world: WorldHandle<GardenInput>,
    mut cells: watch::Receiver<Arc<BTreeSet<Cell>>>,
    mut lease: watch::Receiver<Lease>,
    mut wishes: mpsc::Receiver<Wish>,
    gauge: IntGauge,
) {
    let mut peers = shared.mesh.watch_peers();
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut awake = Awake {
        gardens: shared.gardens(),
        leavers: BTreeSet::new(),
        floor: 0,
        careful_until: Instant::now() + LOST_SEEN,
        leaves: false,
        shared,
        world,
        held: true,
        changes: 0,
        cells: Arc::default(),
        chunks: BTreeMap::new(),
        queue: VecDeque::new(),
        reading: FuturesUnordered::new(),
        restoring: FuturesUnordered::new(),
        passing: FuturesUnordered::new(),
        untaken: false,
        restored: BTreeSet::new(),
        gauge,
    };
    loop {
        let goes_on = tokio::select! {
            biased;
            changed = lease.changed() => {
                let now = *lease.borrow_and_update();
                changed.is_ok() && awake.leased(now).await
            }
            changed = cells.changed() => {
                let seen = cells.borrow_and_update().clone();
                changed.is_ok() && awake.looked(seen).await
            }
            changed = peers.changed() => {
                peers.mark_unchanged();
                changed.is_ok() && awake.peers_changed().await
            }
            Some(wish) = wishes.recv() => match wish {
                Wish::Read { chunk, shown } => {
                    awake.wished(chunk, shown);
                    true
                }
                Wish::Outrank { epoch, leaver } => awake.outranks(epoch, leaver).await,
                Wish::Leave(reply) => {
                    awake.leaves = true;
                    let shown = awake.chunks.iter().filter(|(_, woken)| woken.shows).map(|(chunk, _)| *chunk);
                    // An error means that nobody waits any more.
                    let _ = reply.send(shown.collect());
                    true
                }
            },
            Some((chunk, read)) = awake.reading.next(), if !awake.reading.is_empty() => awake.read(chunk, read).await,
            Some((chunk, object)) = awake.restoring.next(), if !awake.restoring.is_empty() => {
                awake.restored.remove(&object);
                awake.wished(chunk, None);
                true
            }
            Some((chunks, taken)) = awake.passing.next(), if !awake.passing.is_empty() => awake.passed(chunks, taken).await,
            _ = beat.tick() => {
                awake.beat();
                awake.offer().await
            }
        };
        if !goes_on {
            return;
        }
        awake.begin_reading();
    }
}

impl Awake {
    /// The lease was lost or is back: the world has forgotten all.
    async fn leased(&mut self, lease: Lease) -> bool {
        if lease.changes != self.changes {
            self.changes = lease.changes;
            self.held = lease.held;
            self.chunks.clear();
            self.queue.clear();
        }
        self.consider_all().await
    }

    /// Players see other cells than before.
    async fn looked(&mut self, cells: Arc<BTreeSet<Cell>>) -> bool {
        let before = std::mem::replace(&mut self.cells, cells);
        let now = self.cells.clone();
        let lost: Vec<Chunk> = before.difference(&now).flat_map(|cell| chunks_of(*cell)).collect();
        let come: Vec<Chunk> = now.difference(&before).flat_map(|cell| chunks_of(*cell)).collect();
        come.into_iter().for_each(|chunk| self.wake(chunk));
        self.sleep(lost).await
    }

    async fn peers_changed(&mut self) -> bool {
        let gardens = self.others_and_me();
        if gardens == self.gardens {
            return true;
        }
        let peers = self.shared.mesh.peers();
        let is_up = |node: &NodeId| peers.get(node).is_some_and(|peer| peer.state == PeerState::Up);
        if self.gardens.iter().any(|node| !gardens.contains(node) && !is_up(node)) {
            self.careful_until = Instant::now() + LOST_SEEN;
        }
        self.gardens = gardens;
        self.consider_all().await
    }

    /// The gardens that show land, without those that said that they leave.
    fn others_and_me(&mut self) -> Vec<NodeId> {
        let mut gardens = self.shared.gardens();
        if !self.leavers.is_empty() {
            let peers = self.shared.mesh.peers();
            self.leavers.retain(|life| peers.by_incarnation(*life).is_some());
            let leaves =
                |node: &NodeId| peers.get(node).is_some_and(|it| self.leavers.contains(&it.record.incarnation));
            gardens.retain(|node| !leaves(node));
        }
        gardens
    }

    /// Looks at every chunk that is seen, or awake.
    async fn consider_all(&mut self) -> bool {
        let cells = self.cells.clone();
        cells.iter().flat_map(|cell| chunks_of(*cell)).for_each(|chunk| self.wake(chunk));
        let lost = self.chunks.keys().filter(|chunk| !self.is_ours(**chunk)).copied().collect();
        let lost = self.pass_on(lost);
        self.sleep(lost).await
    }

    fn is_ours(&self, chunk: Chunk) -> bool {
        let me = &self.shared.mesh.me().node;
        // A garden that leaves goes on showing what it does until others have it, and begins nothing.
        let ours = match self.leaves || self.shared.draining.has_begun() {
            true => self.chunks.contains_key(&chunk),
            false => keeper(chunk, &self.gardens) == Some(me),
        };
        self.held && self.cells.contains(&chunk.cell()) && ours
    }

    fn wake(&mut self, chunk: Chunk) {
        if !self.chunks.contains_key(&chunk) && self.is_ours(chunk) {
            self.chunks.insert(chunk, Woken { queued: true, ..Woken::default() });
            self.queue.push_back(chunk);
        }
    }

    /// False if the world is gone.
    async fn sleep(&mut self, chunks: Vec<Chunk>) -> bool {
        let gone: Vec<Chunk> = chunks.into_iter().filter(|chunk| self.chunks.remove(chunk).is_some()).collect();
        self.count();
        gone.is_empty() || self.world.role(GardenInput::Hide(gone)).await
    }

    fn wished(&mut self, chunk: Chunk, shown: Option<oneshot::Sender<()>>) {
        let Some(woken) = self.chunks.get_mut(&chunk) else { return };
        woken.next.extend(shown);
        if !woken.queued {
            woken.queued = true;
            // Before those that are only read in case.
            self.queue.push_front(chunk);
        }
    }

    fn beat(&mut self) {
        let now = Instant::now();
        for (chunk, woken) in &mut self.chunks {
            if !woken.queued && !woken.reading && woken.read.is_none_or(|read| now - read >= READ_AGAIN) {
                woken.queued = true;
                self.queue.push_back(*chunk);
            }
        }
    }

    fn begin_reading(&mut self) {
        // One that is being read already comes again when that is done.
        for _ in 0..self.queue.len() {
            if self.reading.len() >= READERS {
                return;
            }
            let Some(chunk) = self.queue.pop_front() else { return };
            let Some(woken) = self.chunks.get_mut(&chunk) else { continue };
            if woken.reading {
                continue;
            }
            (woken.queued, woken.reading) = (false, true);
            woken.waiting.append(&mut woken.next);
            let (shared, careful) = (self.shared.clone(), !woken.shows && Instant::now() < self.careful_until);
            self.reading.push(Box::pin(async move { (chunk, read(&shared, chunk, careful).await) }));
        }
    }

    /// A chunk was read. False if the world is gone.
    async fn read(&mut self, chunk: Chunk, read: Result<Read, TransactionError>) -> bool {
        // It may sleep by now, or have been woken anew: then what was read is as good, and it is read once more.
        let Some(woken) = self.chunks.get_mut(&chunk) else { return true };
        woken.reading = false;
        woken.read = Some(Instant::now());
        let waiting = std::mem::take(&mut woken.waiting);
        if woken.queued {
            self.queue.push_front(chunk);
        }
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(?chunk, %error, "a chunk cannot be read: it is tried again later");
                return true;
            }
        };
        woken.deed = read.deed;
        let empty = read.things.is_empty();
        if !empty || woken.shows {
            woken.shows = !empty;
            let scene = self.shared.scene(chunk, read.things, read.now_s, self.floor.max(read.seen));
            if !self.world.role(GardenInput::Show(Box::new(scene))).await {
                return false;
            }
        }
        for shown in waiting {
            // An error means that nobody waits any more.
            let _ = shown.send(());
        }
        self.restore(chunk, read.whole);
        self.count();
        true
    }

    /// Puts back what has grown again.
    fn restore(&mut self, chunk: Chunk, whole: Vec<(ObjectId, Nature)>) {
        for (id, seen) in whole {
            if self.restoring.len() >= RESTORERS || !self.restored.insert(id) {
                continue;
            }
            let shared = self.shared.clone();
            self.restoring.push(Box::pin(async move {
                if let Err(error) = nature::restore(&shared.estate, restoring(id, &seen), id, &seen, &[]).await {
                    tracing::debug!(object = id.0, %error, "what has grown again was not put back");
                }
                (chunk, id)
            }));
        }
    }

    fn count(&self) {
        self.gauge.set(self.chunks.values().filter(|woken| woken.deed).count() as i64);
    }
}

impl Shared {
    /// What was read, by the world's clock.
    fn scene(&self, chunk: Chunk, things: Vec<Shown>, now_s: u64, floor: u64) -> Scene {
        let (world_ms, calendar_ms) = (self.mesh.now_ms(), self.calendar.now_ms());
        let at_ms = |at_s: u64| world_ms.saturating_add(at_s.saturating_mul(1_000).saturating_sub(calendar_ms));
        let actor = |Shown { id, place, now, later }| {
            let later = later.into_iter().map(|(at_s, thing)| (at_ms(at_s), thing)).collect();
            Actor { id, place, now, later }
        };
        Scene { chunk, now_s, floor, things: things.into_iter().map(actor).collect() }
    }
}

fn chunks_of(cell: Cell) -> impl Iterator<Item = Chunk> {
    let (x, y) = (cell.x.saturating_mul(CHUNKS), cell.y.saturating_mul(CHUNKS));
    let all = (0..CHUNKS).flat_map(move |dy| (0..CHUNKS).map(move |dx| (dx, dy)));
    all.map(move |(dx, dy)| Chunk { island: cell.island, x: x.saturating_add(dx), y: y.saturating_add(dy) })
}

/// The operation that puts back what was seen so: the same for all gardens, and for no other state.
fn restoring(id: ObjectId, seen: &Nature) -> OperationId {
    let hash = Sha256::new()
        .chain_update(b"wildmesh restore")
        .chain_update(id.0.to_be_bytes())
        .chain_update(seen.left.to_be_bytes())
        .chain_update(seen.since_s.to_be_bytes())
        .finalize();
    OperationId(u128::from_be_bytes(std::array::from_fn(|i| hash[i])))
}

/// Reads what a chunk shows; if `careful`, asks all nodes under which epochs they see any of it, too.
async fn read(shared: &Shared, chunk: Chunk, careful: bool) -> Result<Read, TransactionError> {
    let mut read = read_documents(shared, chunk).await?;
    if careful && !read.things.is_empty() {
        let shown: Vec<ObjectId> = read.things.iter().map(|thing| thing.id).collect();
        // Epochs follow calendars, which differ, and count seconds: alone they do not tell who has come later.
        let seen = last_seen::asked(&shared.mesh, &shown, Vec::new()).await;
        read.seen = seen.iter().map(|seen| seen.epoch.0).max().unwrap_or(0);
    }
    Ok(read)
}

/// Its deed, the objects that begin in it, and whose it is.
async fn read_documents(shared: &Shared, chunk: Chunk) -> Result<Read, TransactionError> {
    let found = settled::<DeedDocument>(shared, &deed::key(chunk), |it| it.marks.intent.as_ref()).await?;
    let now_s = shared.calendar.now_s();
    let mut read = Read { deed: found.is_some(), things: Vec::new(), whole: Vec::new(), now_s, seen: 0 };
    let Some(found) = found else { return Ok(read) };
    let objects: BTreeSet<ObjectId> = found
        .stands
        .values()
        .filter_map(|stand| match stand {
            Stand::Object(id) => Some(*id),
            Stand::Natural(_) => None,
        })
        .collect();
    for id in objects {
        let object = match settled::<ObjectDocument>(shared, &object::key(id), |it| it.marks.intent.as_ref()).await {
            Ok(object) => object,
            Err(TransactionError::Document(error)) if error.key().is_some() => {
                tracing::warn!(%error, "an object cannot be read: it is not shown");
                continue;
            }
            Err(error) => return Err(error),
        };
        let begins_here = |it: &ObjectDocument| it.stands() && it.footprint.origin().chunk(it.island) == chunk;
        let Some(object) = object.filter(begins_here) else { continue };
        read.things.push(things::shown(&object, &shared.content, now_s));
        read.whole.extend(things::whole(&object, &shared.content, now_s).map(|nature| (id, nature)));
    }
    if let Some(id) = found.holding {
        let held = settled::<HoldingDocument>(shared, &holding::key(id), |it| it.marks.intent.as_ref()).await?;
        let lists = held.is_some_and(|held| held.lists(chunk));
        read.things.extend(things::land(chunk, id).filter(|_| lists));
    }
    Ok(read)
}

/// Reads a document; one that a transaction holds is settled first, as far as that can be done.
async fn settled<D: Document>(
    shared: &Shared,
    key: &str,
    intent: impl Fn(&D) -> Option<&Intent>,
) -> Result<Option<D>, TransactionError> {
    let store = &**shared.estate.store();
    let Some(kept) = peek::<D>(store, key).await? else { return Ok(None) };
    if intent(&kept.document).is_none() {
        return Ok(Some(kept.document));
    }
    if let Err(error) = shared.estate.settle(key).await {
        tracing::debug!(key, %error, "shown as it was before what is being done to it");
        return Ok(Some(kept.document));
    }
    Ok(peek::<D>(store, key).await?.map(|kept| kept.document))
}
