//! A client as the protocol describes it, for the tests: it believes only the frames that its node sends it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Look, World};
use crate::frame::{Content, Entry, Listed, decode};
use crate::geometry::{Cell, ObjectId};
use crate::motion::Motion;
use crate::world::tests::Creature;
use crate::world::{CellFrame, SightChange};

/// What one believes of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Belief {
    pub(super) publisher: u64,
    pub(super) state: (u64, u64),
    pub(super) cell: Cell,
    pub(super) motion: Motion,
    pub(super) view: Look,
}

/// A client that sees through one object's eyes.
#[derive(Default)]
pub(super) struct Client {
    seen: BTreeSet<Cell>,
    feeds: BTreeMap<(u64, Cell), u64>,
    pub(super) objects: BTreeMap<ObjectId, Belief>,
    /// Frames that were missing in what its node sent.
    pub(super) gaps: u32,
}

impl Client {
    /// Its view changed: cells left are forgotten, cells entered are told by keyframes.
    pub(super) fn look(&mut self, world: &mut World<Creature>, change: &SightChange) {
        for cell in &change.left {
            self.seen.remove(cell);
            self.objects.retain(|_, belief| belief.cell != *cell);
            self.feeds.retain(|(_, of), _| of != cell);
        }
        for cell in &change.entered {
            self.seen.insert(*cell);
            world.keyframes(*cell).iter().for_each(|bytes| self.apply(bytes));
        }
    }

    /// Frames of a tick, or forwarded ones; those of cells that it does not see are not sent to it.
    pub(super) fn frames(&mut self, frames: &[CellFrame]) {
        for frame in frames {
            if self.seen.contains(&frame.cell) {
                self.apply(&frame.bytes);
            }
        }
    }

    /// What it sees.
    pub(super) fn seen(&self) -> &BTreeSet<Cell> {
        &self.seen
    }

    fn apply(&mut self, bytes: &[u8]) {
        let (header, content) = decode::<Look>(bytes).expect("a node forwards only frames");
        let feed = (header.publisher, header.cell);
        // Of a publisher that sent no keyframe there was nothing when the cell was entered.
        let last = self.feeds.get(&feed).copied();
        match content {
            _ if last.is_some_and(|last| header.seq < last || (header.seq == last && !header.is_keyframe)) => return,
            Content::Keyframe(listed) => {
                let present: BTreeSet<ObjectId> = listed.iter().map(|object| object.id).collect();
                self.objects.retain(|id, it| (it.publisher, it.cell) != feed || present.contains(id));
                listed.into_iter().for_each(|object| self.take(header.publisher, header.cell, object));
            }
            Content::Delta(entries) => {
                self.gaps += u32::from(last.is_some_and(|last| header.seq != last + 1));
                entries.into_iter().for_each(|entry| self.entry(header.publisher, header.cell, entry));
            }
        }
        self.feeds.insert(feed, header.seq);
    }

    fn take(&mut self, publisher: u64, cell: Cell, object: Listed<'_, Look>) {
        let Listed { id, epoch, version, motion, view, .. } = object;
        let state = (epoch.0, version);
        if self.objects.get(&id).is_none_or(|known| state > known.state) {
            self.objects.insert(id, Belief { publisher, state, cell, motion, view });
        }
    }

    fn entry(&mut self, publisher: u64, cell: Cell, entry: Entry<'_, Look>) {
        match entry {
            Entry::Enter { object, .. } => self.take(publisher, cell, object),
            Entry::Change { id, version, view, .. } => {
                self.newer(publisher, id, version).into_iter().for_each(|it| it.view = view.clone());
            }
            Entry::Move { id, version, motion } => {
                self.newer(publisher, id, version).into_iter().for_each(|it| it.motion = motion);
            }
            Entry::Leave { id, epoch, version, .. } => {
                self.objects.retain(|of, it| *of != id || it.cell != cell || it.state > (epoch.0, version));
            }
        }
    }

    /// The object, raised to this version, if that is higher than its own.
    fn newer(&mut self, publisher: u64, id: ObjectId, version: u64) -> Option<&mut Belief> {
        let known = self.objects.get_mut(&id).filter(|it| it.publisher == publisher && version > it.state.1)?;
        known.state.1 = version;
        Some(known)
    }
}
