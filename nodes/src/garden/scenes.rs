//! The garden's part of the world: reals of what documents say, chunk by chunk, and how they change as time passes.
//!
//! What a chunk shows comes whole, as one input, and replaces what it showed. Changes that are foreseen (a hearth goes out, a
//! tree grows) happen at their tick, whether or not the chunk is read again. Without the lease nothing is shown. It NEVER
//! decides anything: what is lost here is the sight of it only. After a time without the lease others may show what was shown
//! here: all of it is forgotten, without a word, and read anew before anything is said of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cartographer::geometry::{Chunk, Epoch, IslandId, ObjectId, Place};
use cartographer::world::{CellFrame, TickOutput};
use mesh::NodeRecord;
use mesh::registry::OwnLease;
use prometheus::IntGauge;
use rustc_hash::FxHashMap;
use tokio::sync::{oneshot, watch};

use super::GardenInput;
use crate::game::thing::Thing;
use crate::game::{Body, GameWorld};
use crate::world_loop::Rules;

/// How long the epoch of a real that was removed is remembered, in milliseconds: longer than a second, in which all epochs
/// are the same.
const GONE_MS: u64 = 5_000;

/// What one chunk shows.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Which chunk.
    pub(super) chunk: Chunk,
    /// When it was read, in seconds since 1970.
    pub(super) now_s: u64,
    /// What is shown anew MUST have a higher epoch than this.
    pub(super) floor: u64,
    /// What stands there.
    pub(super) things: Vec<Actor>,
}

/// One thing, and what it becomes by itself.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) id: ObjectId,
    pub(super) place: Place,
    pub(super) now: Thing,
    /// By the world's clock, in milliseconds, rising.
    pub(super) later: VecDeque<(u64, Thing)>,
}

/// Whether the node may show anything, and how often that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) held: bool,
    pub(super) changes: u64,
}

impl Default for Lease {
    fn default() -> Lease {
        Lease { held: true, changes: 0 }
    }
}

/// The rules of a garden's world.
pub(super) struct GardenRules {
    /// Tells epochs of gardens apart that show the same thing in the same second.
    mark: u64,
    lease: watch::Sender<Lease>,
    held: bool,
    own: OwnLease,
    /// The lease's gaps since which all that is shown was read.
    gaps: u64,
    /// What was forgotten in this tick is not to be told.
    hush: bool,
    left: bool,
    /// The highest epoch used so far.
    highest: u64,
    leaving: Vec<oneshot::Sender<()>>,
    chunks: BTreeMap<Chunk, BTreeSet<ObjectId>>,
    /// The chunk by which each real is shown.
    home: FxHashMap<ObjectId, Chunk>,
    later: FxHashMap<ObjectId, VecDeque<(u64, Thing)>>,
    due: BTreeSet<(u64, ObjectId)>,
    /// The epochs of reals removed of late, and when.
    gone: BTreeMap<ObjectId, (u64, u64)>,
    things: IntGauge,
}

impl GardenRules {
    pub(super) fn new(me: &NodeRecord, own: OwnLease, lease: watch::Sender<Lease>, things: IntGauge) -> GardenRules {
        let mark = me.node.as_str().bytes().fold(0_u8, |mark, byte| mark.wrapping_mul(31).wrapping_add(byte));
        GardenRules {
            mark: mark.into(),
            lease,
            held: true,
            gaps: own.gaps(),
            own,
            hush: false,
            left: false,
            highest: 0,
            leaving: Vec::new(),
            chunks: BTreeMap::new(),
            home: FxHashMap::default(),
            later: FxHashMap::default(),
            due: BTreeSet::new(),
            gone: BTreeMap::new(),
            things,
        }
    }

    fn show(&mut self, world: &mut GameWorld, now_ms: u64, scene: Scene) {
        let Scene { chunk, now_s, floor, things } = scene;
        let listed: BTreeSet<ObjectId> = things.iter().map(|thing| thing.id).collect();
        let before = self.chunks.remove(&chunk).unwrap_or_default();
        for id in before.difference(&listed) {
            self.remove(world, now_ms, chunk, *id);
        }
        if !listed.is_empty() {
            self.chunks.insert(chunk, listed);
        }
        for thing in things {
            self.put(world, now_ms, chunk, (now_s, floor), thing);
        }
    }

    fn hide(&mut self, world: &mut GameWorld, now_ms: u64, chunk: Chunk) {
        for id in self.chunks.remove(&chunk).unwrap_or_default() {
            self.remove(world, now_ms, chunk, id);
        }
    }

    fn hide_all(&mut self, world: &mut GameWorld, now_ms: u64) {
        let all: Vec<Chunk> = self.chunks.keys().copied().collect();
        all.into_iter().for_each(|chunk| self.hide(world, now_ms, chunk));
    }

    fn put(&mut self, world: &mut GameWorld, now_ms: u64, chunk: Chunk, (now_s, floor): (u64, u64), actor: Actor) {
        let Actor { id, place, now, later } = actor;
        if let Some(epoch) = world.get(id).map(|real| real.epoch().0).filter(|epoch| *epoch <= floor) {
            // Another garden has shown it meanwhile: it is shown anew, over that.
            world.remove(now_ms, id);
            self.gone.insert(id, (epoch, now_ms));
        }
        let there = world.get(id).map(|real| (real.island(), real.place(now_ms)));
        match there {
            Some(at) => {
                world.change(now_ms, id, |body| *body = Body::Thing(now));
                if at != (chunk.island, place) && world.teleport(now_ms, id, chunk.island, place).is_err() {
                    tracing::debug!(object = id.0, "a thing has moved to where nothing can be");
                }
            }
            None => {
                let epoch = self.epoch(world, id, now_s, floor);
                if !spawn(world, now_ms, (id, epoch), chunk.island, place, now) {
                    return;
                }
            }
        }
        self.home.insert(id, chunk);
        self.foresee(id, later);
        self.things.set(self.home.len() as i64);
    }

    fn epoch(&mut self, world: &GameWorld, id: ObjectId, now_s: u64, floor: u64) -> Epoch {
        let ghost = world.ghost(id).map_or(0, |ghost| ghost.epoch().0 + 1);
        let own = self.gone.get(&id).map_or(0, |(epoch, _)| epoch + 1);
        let by_calendar = now_s.saturating_mul(256).saturating_add(self.mark);
        let epoch = ghost.max(own).max(by_calendar).max(floor.saturating_add(1));
        self.highest = self.highest.max(epoch);
        Epoch(epoch)
    }

    /// Removes a real, unless another chunk shows it by now.
    fn remove(&mut self, world: &mut GameWorld, now_ms: u64, chunk: Chunk, id: ObjectId) {
        if self.home.get(&id) != Some(&chunk) {
            return;
        }
        self.home.remove(&id);
        self.foresee(id, VecDeque::new());
        if let Some(epoch) = world.get(id).map(|real| real.epoch().0) {
            world.remove(now_ms, id);
            self.gone.insert(id, (epoch, now_ms));
        }
        self.things.set(self.home.len() as i64);
    }

    fn foresee(&mut self, id: ObjectId, later: VecDeque<(u64, Thing)>) {
        if let Some((at_ms, _)) = self.later.remove(&id).and_then(|mut old| old.pop_front()) {
            self.due.remove(&(at_ms, id));
        }
        if let Some((at_ms, _)) = later.front() {
            self.due.insert((*at_ms, id));
            self.later.insert(id, later);
        }
    }

    fn run_due(&mut self, world: &mut GameWorld, now_ms: u64) {
        while let Some((_, id)) = self.due.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            let mut later = self.later.get(&id).cloned().unwrap_or_default();
            if let Some((_, thing)) = later.pop_front() {
                world.change(now_ms, id, |body| *body = Body::Thing(thing));
            }
            // Takes what was due off the list, too.
            self.foresee(id, later);
        }
    }
}

fn spawn(
    world: &mut GameWorld,
    now_ms: u64,
    (id, epoch): (ObjectId, Epoch),
    island: IslandId,
    place: Place,
    thing: Thing,
) -> bool {
    let spawned = world.spawn(now_ms, id, epoch, island, place, Body::Thing(thing), false);
    if let Err(error) = &spawned {
        tracing::debug!(object = id.0, %error, "a thing cannot be shown");
    }
    spawned.is_ok()
}

impl Rules for GardenRules {
    type Input = GardenInput;

    fn input(&mut self, world: &mut GameWorld, now_ms: u64, input: GardenInput) {
        match input {
            GardenInput::Show(_) if !self.held || self.left => {}
            GardenInput::Show(scene) => self.show(world, now_ms, *scene),
            GardenInput::Hide(chunks) => chunks.into_iter().for_each(|chunk| self.hide(world, now_ms, chunk)),
            // An error means that nobody waits any more.
            GardenInput::Epoch(reply) => drop(reply.send(self.highest)),
            GardenInput::Leave(gone) => {
                self.left = true;
                self.hide_all(world, now_ms);
                self.lease.send_modify(|lease| *lease = Lease { held: false, changes: lease.changes + 1 });
                self.leaving.push(gone);
            }
        }
    }

    fn ticked(&mut self, world: &mut GameWorld, now_ms: u64, _: &TickOutput, _: Vec<CellFrame>) {
        self.hush = false;
        if self.own.holds() && self.own.gaps() != self.gaps {
            self.gaps = self.own.gaps();
            self.hush = true;
            self.hide_all(world, now_ms);
            let held = self.held && !self.left;
            self.lease.send_modify(|lease| *lease = Lease { held, changes: lease.changes + 1 });
        }
        self.run_due(world, now_ms);
        self.gone.retain(|_, (_, at_ms)| *at_ms + GONE_MS > now_ms);
        for gone in self.leaving.drain(..) {
            // The frames of this tick have been published. An error means that nobody waits any more.
            let _ = gone.send(());
        }
    }

    fn lease(&mut self, world: &mut GameWorld, now_ms: u64, held: bool) {
        self.held = held;
        if !held {
            self.hide_all(world, now_ms);
        }
        let held = held && !self.left;
        self.lease.send_modify(|lease| *lease = Lease { held, changes: lease.changes + 1 });
    }

    fn is_silent(&self) -> bool {
        self.hush || !self.own.holds() || self.own.gaps() != self.gaps
    }
}
