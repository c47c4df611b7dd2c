//! Cells in which this node publishes: who is there, what is to be told, and the keyframe.
//!
//! A tick gives at most one frame per cell, encoded once. A keyframe is kept until something in its cell changes, so that
//! any number of joins costs one. A sequence number of a cell is NEVER used for two frames: what is kept of a cell that has
//! been empty for long is its number.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{Body, CellFrame, Real, TickOutput, World};
use crate::frame::{Header, Writer};
use crate::geometry::{Cell, Epoch, ObjectId};

/// How long a cell must have been empty to become dormant, in milliseconds.
const DORMANT_MS: u64 = 60_000;

/// A cell in which this node has objects, or has had some lately.
#[derive(Debug, Default)]
pub(super) struct OwnCell {
    /// Of the last frame; `None` before the first.
    pub(super) seq: Option<u64>,
    pub(super) members: Vec<ObjectId>,
    /// When something here last changed, or was last told.
    pub(super) changed_at: u64,
    keyframe: Option<Bytes>,
    pub(super) digest: Option<u64>,
    /// Whether it waits to become dormant.
    is_waning: bool,
}

impl OwnCell {
    /// Notes that what is here changed.
    pub(super) fn touch(&mut self, now: u64) {
        self.changed_at = now;
        self.keyframe = None;
        self.digest = None;
    }
}

/// An object that was removed, and that others must be told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    /// Where they believe it is.
    pub(super) cell: Cell,
    pub(super) id: ObjectId,
    pub(super) epoch: Epoch,
    pub(super) version: u64,
}

/// One entry of a frame that is to be written. Sorted, the entries of a cell stand together and in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    cell: Cell,
    /// Leaves come first, for an object may leave and come again under a new epoch.
    stays: bool,
    id: ObjectId,
    /// What happened earlier is told earlier, for readers take only rising versions.
    version: u64,
    what: What,
    epoch: Epoch,
    other: Option<Cell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Leave,
    Enter,
    Change,
    Move,
}

impl<B: Body> World<B> {
    /// Puts an object on a cell's list and returns its place there.
    pub(super) fn join_cell(&mut self, now: u64, cell: Cell, id: ObjectId) -> u32 {
        let dormant = &mut self.dormant;
        let own =
            self.cells.entry(cell).or_insert_with(|| OwnCell { seq: dormant.remove(&cell), ..OwnCell::default() });
        own.touch(now);
        own.members.push(id);
        (own.members.len() - 1) as u32
    }

    /// Takes the object at `slot` off a cell's list.
    pub(super) fn quit_cell(&mut self, now: u64, cell: Cell, slot: u32) {
        let Some(own) = self.cells.get_mut(&cell) else { return };
        own.touch(now);
        own.members.swap_remove(slot as usize);
        if let Some(moved) = own.members.get(slot as usize)
            && let Some(real) = self.reals.get_mut(moved)
        {
            real.slot = slot;
        }
        if own.members.is_empty() && !std::mem::replace(&mut own.is_waning, true) {
            self.emptied.push_back((now, cell));
        }
    }

    /// Makes one frame of each cell in which something happened since the last tick.
    pub(super) fn publish(&mut self, now: u64, out: &mut TickOutput) {
        let mut planned = self.plan(out);
        planned.sort_unstable();
        for entries in planned.chunk_by(|a, b| a.cell == b.cell) {
            let bytes = self.encode(now, entries);
            self.stats.frames += 1;
            self.stats.frame_bytes += bytes.len() as u64;
            self.trace = super::verify::mix(self.trace ^ super::verify::hash_bytes(&bytes));
            out.frames.push(CellFrame { cell: entries[0].cell, bytes });
        }
        out.vision.sort_unstable_by_key(|change| change.object);
        self.let_sleep(now);
    }

    /// What is to be told, and whose view changed, of everything that is dirty.
    fn plan(&mut self, out: &mut TickOutput) -> Vec<Planned> {
        let mut planned = Vec::with_capacity(self.dirty.len() + self.removed.len());
        planned.extend(self.removed.drain(..).map(|it| Planned {
            cell: it.cell,
            stays: false,
            what: What::Leave,
            id: it.id,
            version: it.version,
            epoch: it.epoch,
            other: None,
        }));
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(real) = self.reals.get_mut(&id) else { continue };
            if !std::mem::take(&mut real.is_dirty) {
                continue;
            }
            let epoch = real.epoch;
            let entry = |cell, what, version, other| {
                let stays = what != What::Leave;
                Planned { cell, stays, id, version, what, epoch, other }
            };
            let (new_view, new_motion) = (real.new_view, real.new_motion);
            if real.said == Some(real.cell) {
                planned.extend(new_view.map(|version| entry(real.cell, What::Change, version, None)));
                planned.extend(new_motion.map(|version| entry(real.cell, What::Move, version, None)));
            } else {
                let version = real.version;
                planned.extend(real.said.map(|said| entry(said, What::Leave, version, Some(real.cell))));
                planned.push(entry(real.cell, What::Enter, version, real.said));
            }
            real.said = Some(real.cell);
            real.new_view = None;
            real.new_motion = None;
            self.tell_sight(id, out);
        }
        self.dirty = dirty;
        planned
    }

    /// The frame that says this; a keyframe if the cell was never spoken of.
    fn encode(&mut self, now: u64, entries: &[Planned]) -> Bytes {
        let cell = entries[0].cell;
        let own = self.cells.entry(cell).or_default();
        own.touch(now);
        let header = Header {
            is_keyframe: own.seq.is_none(),
            publisher: self.config.publisher,
            cell,
            // Should the cell have had a life before this (its island was removed and came again), this is above it.
            seq: own.seq.map_or(now.max(1), |seq| seq + 1),
            time_ms: now,
        };
        own.seq = Some(header.seq);
        if header.is_keyframe {
            return self.encode_keyframe(header);
        }
        self.writer.begin(&header, entries.len());
        for entry in entries {
            let Planned { id, version, epoch, other, .. } = *entry;
            // The format names only cells of the same island.
            let other = other.filter(|other| other.island == cell.island);
            match (entry.what, self.reals.get(&id)) {
                (What::Enter, Some(real)) => self.writer.enter(&real.whole(), other),
                (What::Change, Some(real)) => self.writer.change(id, version, &real.raw),
                (What::Move, Some(real)) => self.writer.moves(id, version, &real.motion),
                _ => self.writer.leave(id, epoch, version, other),
            }
        }
        self.writer.end()
    }

    /// A keyframe of one of our cells, kept for as long as nothing changes there.
    fn encode_keyframe(&mut self, header: Header) -> Bytes {
        let Some(own) = self.cells.get_mut(&header.cell) else { return empty_keyframe(&mut self.writer, header) };
        let told = || told(&self.reals, own);
        self.writer.begin(&header, told().count());
        told().for_each(|real| self.writer.list(&real.whole()));
        let bytes = self.writer.end();
        own.keyframe = Some(bytes.clone());
        bytes
    }

    /// This node's keyframe of a cell; `None` if nobody was ever told of anything there.
    pub fn own_keyframe(&mut self, cell: Cell) -> Option<Bytes> {
        let header = |seq, time_ms| Header { is_keyframe: true, publisher: self.config.publisher, cell, seq, time_ms };
        let Some(own) = self.cells.get(&cell) else {
            let header = header(*self.dormant.get(&cell)?, self.now);
            return Some(empty_keyframe(&mut self.writer, header));
        };
        if let Some(keyframe) = &own.keyframe {
            return Some(keyframe.clone());
        }
        let header = header(own.seq?, self.now);
        self.stats.keyframes += 1;
        Some(self.encode_keyframe(header))
    }

    /// What somebody who begins to see the cell must be told: a keyframe of each publisher, this node among them, that has
    /// something there. One who is told this knows that of all others there is nothing.
    pub fn keyframes(&mut self, cell: Cell) -> Vec<Bytes> {
        let mut keyframes = Vec::new();
        if self.cells.get(&cell).is_some_and(|own| !own.members.is_empty()) {
            keyframes.extend(self.own_keyframe(cell));
        }
        self.ghost_keyframes(cell, false, &mut keyframes);
        keyframes
    }

    /// As [`World::keyframes`], but with the empty ones too: for somebody who missed frames, and may hold what is gone.
    pub fn all_keyframes(&mut self, cell: Cell) -> Vec<Bytes> {
        let mut keyframes: Vec<Bytes> = self.own_keyframe(cell).into_iter().collect();
        self.ghost_keyframes(cell, true, &mut keyframes);
        keyframes
    }

    /// This node's keyframes of the cells that another asks for; empty ones where it has nothing. Stops after
    /// [`super::ANSWER_BYTES`]: who asked misses the rest and asks again.
    pub fn answer_ask(&mut self, cells: &[Cell]) -> Vec<Bytes> {
        let mut answer = Vec::new();
        let mut size = 0;
        for &cell in cells.iter().take(super::ASK_CELLS) {
            let keyframe = self.own_keyframe(cell).unwrap_or_else(|| {
                let publisher = self.config.publisher;
                let header = Header { is_keyframe: true, publisher, cell, seq: 0, time_ms: self.now };
                empty_keyframe(&mut self.writer, header)
            });
            size += keyframe.len();
            if size > super::ANSWER_BYTES && !answer.is_empty() {
                break;
            }
            answer.push(keyframe);
        }
        answer
    }

    /// Keeps no more than the number of cells that have been empty for long.
    fn let_sleep(&mut self, now: u64) {
        while let Some(&(since, cell)) = self.emptied.front() {
            if since.saturating_add(DORMANT_MS) > now {
                break;
            }
            self.emptied.pop_front();
            let Some(own) = self.cells.get_mut(&cell) else { continue };
            own.is_waning = own.members.is_empty();
            if own.is_waning && own.changed_at.saturating_add(DORMANT_MS) > now {
                self.emptied.push_back((now, cell));
            } else if own.is_waning {
                self.dormant.extend(own.seq.map(|seq| (cell, seq)));
                self.cells.remove(&cell);
            }
        }
    }
}

/// The members of a cell that frames have spoken of. The others are told by the next tick's frame, or, if they go before
/// that, never: a keyframe that listed them would have nothing to take them back.
pub(super) fn told<'a, B: Body>(
    reals: &'a FxHashMap<ObjectId, Real<B>>,
    own: &'a OwnCell,
) -> impl Iterator<Item = &'a Real<B>> {
    own.members.iter().filter_map(|id| reals.get(id)).filter(|real| real.said == Some(real.cell))
}

/// A keyframe that lists nothing.
pub(super) fn empty_keyframe(writer: &mut Writer, header: Header) -> Bytes {
    writer.begin(&header, 0);
    writer.end()
}
