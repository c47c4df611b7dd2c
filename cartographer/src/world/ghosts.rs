//! Ghosts: synchronised copies of what other nodes own, for reading.
//!
//! A ghost NEVER goes back to an older (epoch, version), and never stands in for an object that this node holds under the
//! same or a later epoch.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Body, World};
use crate::frame::{Entry, Listed};
use crate::geometry::{Cell, Epoch, ObjectId, Place};
use crate::motion::Motion;

/// How long a ghost that left is remembered, in milliseconds: longer than any frame is under way.
const REMEMBER_MS: u64 = 10_000;
/// Ghosts that are remembered at most; the oldest gives way.
const REMEMBERED: usize = 65_536;

/// A copy of an object that another node owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Ghost<V> {
    pub(super) publisher: u64,
    pub(super) epoch: Epoch,
    pub(super) version: u64,
    pub(super) cell: Cell,
    /// Where it stands in its feed's list.
    pub(super) slot: u32,
    pub(super) motion: Motion,
    pub(super) view: V,
    /// The view as it came.
    pub(super) raw: Box<[u8]>,
}

impl<V> Ghost<V> {
    /// The node that holds the real.
    pub fn publisher(&self) -> u64 {
        self.publisher
    }

    /// The epoch of its owner.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The version it shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The cell its owner said it is in.
    pub fn cell(&self) -> Cell {
        self.cell
    }

    /// How it moves, in the time of its publisher's clock.
    pub fn motion(&self) -> Motion {
        self.motion
    }

    /// Where it is at `publisher_now`, in milliseconds of its publisher's clock.
    pub fn place(&self, publisher_now: u64) -> Place {
        self.motion.at(publisher_now)
    }

    /// How it looks.
    pub fn view(&self) -> &V {
        &self.view
    }
}

/// Objects that left, remembered so that late frames do not bring them back.
#[derive(Debug, Default)]
pub(super) struct Departed {
    last: FxHashMap<ObjectId, Gone>,
    order: VecDeque<(u64, ObjectId)>,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    state: (Epoch, u64),
    until: u64,
}

impl Departed {
    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    /// Notes the state in which an object left; a later one that was noted before stays.
    pub(super) fn note(&mut self, now: u64, id: ObjectId, state: (Epoch, u64)) {
        let until = now + REMEMBER_MS;
        let gone = self.last.entry(id).or_insert(Gone { state, until });
        *gone = Gone { state: gone.state.max(state), until };
        self.order.push_back((until, id));
        while self.order.len() > REMEMBERED {
            self.forget_first();
        }
    }

    /// Whether the object left in a later state than this.
    fn is_later(&self, id: ObjectId, state: (Epoch, u64)) -> bool {
        self.last.get(&id).is_some_and(|gone| gone.state > state)
    }

    /// Forgets what left long ago.
    pub(super) fn forget(&mut self, now: u64) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((until, id)) = self.order.pop_front()
            && self.last.get(&id).is_some_and(|gone| gone.until <= until)
        {
            self.last.remove(&id);
        }
    }
}

impl<B: Body> World<B> {
    /// The copy of an object that another node owns, if it is in view.
    pub fn ghost(&self, id: ObjectId) -> Option<&Ghost<B::View>> {
        self.ghosts.get(&id)
    }

    /// All copies, in no order that means anything (but the same in every run).
    pub fn ghosts(&self) -> impl Iterator<Item = (ObjectId, &Ghost<B::View>)> {
        self.ghosts.iter().map(|(id, ghost)| (*id, ghost))
    }

    /// The copies in a cell, publisher by publisher.
    pub fn ghosts_in(&self, cell: Cell) -> impl Iterator<Item = (ObjectId, &Ghost<B::View>)> {
        let feeds = self.peers.values().filter_map(move |peer| peer.feeds.get(&cell));
        feeds.flat_map(|feed| &feed.ghosts).filter_map(|id| Some((*id, self.ghosts.get(id)?)))
    }

    /// Takes a keyframe as the whole truth about a publisher and a cell.
    pub(super) fn apply_keyframe(&mut self, now: u64, publisher: u64, cell: Cell, listed: Vec<Listed<'_, B::View>>) {
        let known = self.feed(publisher, cell).map_or(&[][..], |feed| &feed.ghosts);
        if !known.is_empty() && !planted::is("no_keyframe_removal") {
            let present: FxHashSet<ObjectId> = listed.iter().map(|object| object.id).collect();
            let known = self.feed(publisher, cell).map_or(&[][..], |feed| &feed.ghosts);
            let absent: Vec<ObjectId> = known.iter().copied().filter(|id| !present.contains(id)).collect();
            absent.into_iter().for_each(|id| self.depart(now, id));
        }
        listed.into_iter().for_each(|object| self.take_object(publisher, cell, object));
    }

    /// Takes one entry of a delta.
    pub(super) fn apply_entry(&mut self, now: u64, publisher: u64, cell: Cell, entry: Entry<'_, B::View>) {
        let is_careless = planted::is("no_version_check");
        match entry {
            Entry::Enter { object, .. } => self.take_object(publisher, cell, object),
            Entry::Change { id, version, view, raw } => {
                if let Some(ghost) = self.ghosts.get_mut(&id)
                    && ghost.publisher == publisher
                    && (version > ghost.version || is_careless)
                {
                    ghost.version = version;
                    ghost.view = view;
                    ghost.raw = raw.into();
                    self.touch_elsewhere(publisher, cell, id);
                }
            }
            Entry::Move { id, version, motion } => {
                if let Some(ghost) = self.ghosts.get_mut(&id)
                    && ghost.publisher == publisher
                    && (version > ghost.version || is_careless)
                {
                    ghost.version = version;
                    ghost.motion = motion;
                    self.touch_elsewhere(publisher, cell, id);
                }
            }
            Entry::Leave { id, epoch, version, .. } => match self.ghosts.get(&id) {
                Some(ghost)
                    if ghost.cell == cell && ((epoch, version) >= (ghost.epoch, ghost.version) || is_careless) =>
                {
                    self.depart(now, id);
                    self.departed.note(now, id, (epoch, version));
                }
                Some(_) => {}
                None => self.departed.note(now, id, (epoch, version)),
            },
        }
    }

    /// Takes an object as it is told, unless something newer is known of it.
    fn take_object(&mut self, publisher: u64, cell: Cell, object: Listed<'_, B::View>) {
        let Listed { id, epoch, version, motion, view, raw } = object;
        let is_careless = planted::is("no_version_check");
        match self.reals.get(&id).map(|real| real.epoch) {
            Some(ours) if ours >= epoch => return,
            Some(_) => self.fenced.push(id),
            None => {}
        }
        let is_newer = match self.ghosts.get(&id) {
            Some(ghost) if planted::is("epoch_not_compared") => version > ghost.version,
            Some(ghost) => (epoch, version) > (ghost.epoch, ghost.version),
            None => !self.departed.is_later(id, (epoch, version)) || planted::is("departed_forgotten"),
        };
        if !is_newer && !is_careless {
            return;
        }
        self.drop_ghost(id);
        let Some(feed) = self.feed(publisher, cell) else { return };
        feed.ghosts.push(id);
        feed.touch();
        let slot = (feed.ghosts.len() - 1) as u32;
        self.ghosts.insert(id, Ghost { publisher, epoch, version, cell, slot, motion, view, raw: raw.into() });
    }

    /// Removes a ghost and remembers that it left.
    pub(super) fn depart(&mut self, now: u64, id: ObjectId) {
        if let Some(ghost) = self.ghosts.get(&id) {
            let state = (ghost.epoch, ghost.version);
            self.departed.note(now, id, state);
            self.drop_ghost(id);
        }
    }

    /// Removes a ghost.
    pub(super) fn drop_ghost(&mut self, id: ObjectId) {
        let Some(ghost) = self.ghosts.remove(&id) else { return };
        let Some(feed) = self.feed(ghost.publisher, ghost.cell) else { return };
        feed.touch();
        feed.ghosts.swap_remove(ghost.slot as usize);
        if let Some(moved) = feed.ghosts.get(ghost.slot as usize).copied()
            && let Some(moved) = self.ghosts.get_mut(&moved)
        {
            moved.slot = ghost.slot;
        }
    }

    /// If the ghost stands in another cell than the frame that changed it, that cell's keyframe is outdated too.
    fn touch_elsewhere(&mut self, publisher: u64, cell: Cell, id: ObjectId) {
        if let Some(there) = self.ghosts.get(&id).map(|ghost| ghost.cell)
            && there != cell
            && let Some(feed) = self.feed(publisher, there)
        {
            feed.touch();
        }
    }
}
