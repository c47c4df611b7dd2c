//! What one client is shown: its cells, a feed per publisher and cell, and the ghosts that come of them.
//!
//! These are the protocol's rules of feeds (`clients/PROTOCOL.md`, section "Feeds"), the same that nodes follow among
//! themselves. Nothing here reads a clock, touches a socket or panics on what a server sends; a gap is reported to the
//! caller, who asks for the cell again. Memory is bounded by the cells in sight: frames of other cells are dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::protocol::{CellXy, Clock, Content, Entry, Frame, Motion, Shown, View};

/// Newer frames kept while a keyframe is awaited; beyond it the oldest go, and the keyframe must be newer still.
pub const MAX_WAITING_FRAMES: usize = 64;

/// What a client knows of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Ghost {
    /// Who speaks for it.
    pub publisher: u64,
    /// With `version`, says which of two statements is newer.
    pub epoch: u64,
    /// Counts its changes.
    pub version: u64,
    /// The cell in which its publisher holds it.
    pub cell: CellXy,
    /// Where it is, on the publisher's clock.
    pub motion: Motion,
    /// What it looks like.
    pub view: Arc<View>,
}

/// What a frame did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Entries that changed something, with those of frames that had waited.
    pub updates: u32,
    /// Ghosts that came into sight.
    pub appeared: u32,
    /// This frame showed that some are missing: the caller MUST ask for the cell.
    pub gap: bool,
    /// It was about a cell that is not in sight.
    pub stray: bool,
    /// It was old news.
    pub old: bool,
    /// It waits for a keyframe.
    pub waits: bool,
    /// Entries about objects that nobody had told us of.
    pub orphans: u32,
}

#[derive(Debug, Default)]
struct Feed {
    last: u64,
    /// Frames that came after a gap; `None` when there is none.
    waiting: Option<VecDeque<Arc<Frame>>>,
}

/// All that one client is shown.
#[derive(Debug, Default)]
pub struct Sight {
    island: u32,
    cells: FxHashSet<CellXy>,
    feeds: FxHashMap<(u64, CellXy), Feed>,
    ghosts: FxHashMap<u64, Ghost>,
    clocks: FxHashMap<u64, i64>,
}

impl Sight {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The island in sight.
    pub fn island(&self) -> u32 {
        self.island
    }

    /// The cells in sight.
    pub fn cells(&self) -> &FxHashSet<CellXy> {
        &self.cells
    }

    /// One object, if it is shown.
    pub fn ghost(&self, id: u64) -> Option<&Ghost> {
        self.ghosts.get(&id)
    }

    /// All objects shown.
    pub fn ghosts(&self) -> impl ExactSizeIterator<Item = (u64, &Ghost)> {
        self.ghosts.iter().map(|(id, ghost)| (*id, ghost))
    }

    /// What to add to a publisher's time for the frontend's.
    pub fn offset_ms(&self, publisher: u64) -> Option<i64> {
        self.clocks.get(&publisher).copied()
    }

    /// All offsets known.
    pub fn clocks(&self) -> impl Iterator<Item = (u64, i64)> {
        self.clocks.iter().map(|(publisher, offset)| (*publisher, *offset))
    }

    /// Cells whose keyframe is awaited.
    pub fn waiting(&self) -> Vec<CellXy> {
        let mut cells: Vec<CellXy> =
            self.feeds.iter().filter(|(_, feed)| feed.waiting.is_some()).map(|((_, cell), _)| *cell).collect();
        cells.sort_unstable();
        cells.dedup();
        cells
    }

    /// A clocks message.
    pub fn set_clocks(&mut self, clocks: &[Clock]) {
        self.clocks.extend(clocks.iter().map(|clock| (clock.publisher, clock.offset_ms)));
    }

    /// A vision message. Another island begins with nothing in sight.
    pub fn set_vision(&mut self, island: u32, entered: &[CellXy], left: &[CellXy]) {
        if island != self.island {
            self.cells.clear();
            self.feeds.clear();
            self.ghosts.clear();
            self.island = island;
        }
        if !left.is_empty() {
            left.iter().for_each(|cell| {
                self.cells.remove(cell);
            });
            self.feeds.retain(|(_, cell), _| self.cells.contains(cell));
            self.ghosts.retain(|_, ghost| self.cells.contains(&ghost.cell));
        }
        self.cells.extend(entered);
    }

    /// A frame.
    pub fn apply(&mut self, frame: &Arc<Frame>) -> Effect {
        let mut effect = Effect::default();
        let head = &frame.head;
        if head.island != self.island || !self.cells.contains(&head.cell) {
            effect.stray = true;
        } else if head.keyframe {
            self.apply_keyframe(frame, &mut effect);
        } else {
            self.apply_delta(frame, &mut effect);
        }
        effect
    }

    fn apply_keyframe(&mut self, frame: &Frame, effect: &mut Effect) {
        let key = (frame.head.publisher, frame.head.cell);
        let known = self.feeds.contains_key(&key);
        let feed = self.feeds.entry(key).or_default();
        if known && frame.head.seq < feed.last {
            effect.old = true;
            return;
        }
        feed.last = frame.head.seq;
        let waiting = feed.waiting.take();
        self.replace(frame, known, effect);
        for later in waiting.into_iter().flatten() {
            if later.head.seq > self.feeds.get(&key).map_or(0, |feed| feed.last) {
                self.apply_delta(&later, effect);
            }
        }
    }

    /// A feed that we do not know had nothing in the cell when the cell came into sight, else a keyframe had come: its
    /// first frame begins it, whatever its number.
    fn apply_delta(&mut self, frame: &Arc<Frame>, effect: &mut Effect) {
        let key = (frame.head.publisher, frame.head.cell);
        let seq = frame.head.seq;
        let feed = self.feeds.entry(key).or_insert_with(|| Feed { last: seq.saturating_sub(1), waiting: None });
        if seq <= feed.last {
            effect.old = true;
        } else if let Some(waiting) = &mut feed.waiting {
            if waiting.len() == MAX_WAITING_FRAMES {
                waiting.pop_front();
            }
            waiting.push_back(frame.clone());
            effect.waits = true;
        } else if seq == feed.last + 1 {
            feed.last = seq;
            self.apply_entries(frame, effect);
        } else {
            feed.waiting = Some(VecDeque::from([frame.clone()]));
            effect.gap = true;
        }
    }

    /// A keyframe is the whole truth about its publisher's objects in its cell.
    fn replace(&mut self, frame: &Frame, known: bool, effect: &mut Effect) {
        let Content::Keyframe(objects) = &frame.content else { return };
        if known {
            let listed: FxHashSet<u64> = objects.iter().map(|object| object.id).collect();
            let (publisher, cell) = (frame.head.publisher, frame.head.cell);
            self.ghosts.retain(|id, ghost| ghost.publisher != publisher || ghost.cell != cell || listed.contains(id));
        }
        objects.iter().for_each(|object| self.show(frame, object, effect));
    }

    fn apply_entries(&mut self, frame: &Frame, effect: &mut Effect) {
        let Content::Delta(entries) = &frame.content else { return };
        for entry in entries {
            match entry {
                Entry::Enter { object, .. } => self.show(frame, object, effect),
                Entry::Leave { id, epoch, version, .. } => self.hide(frame, *id, (*epoch, *version), effect),
                Entry::Change { id, version, view } => {
                    self.touch(frame, *id, *version, effect, |ghost| ghost.view = view.clone());
                }
                Entry::Move { id, version, motion } => {
                    self.touch(frame, *id, *version, effect, |ghost| ghost.motion = *motion);
                }
            }
        }
    }

    fn show(&mut self, frame: &Frame, object: &Shown, effect: &mut Effect) {
        let ghost = Ghost {
            publisher: frame.head.publisher,
            epoch: object.epoch,
            version: object.version,
            cell: frame.head.cell,
            motion: object.motion,
            view: object.view.clone(),
        };
        match self.ghosts.entry(object.id) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(ghost);
                effect.appeared += 1;
                effect.updates += 1;
            }
            std::collections::hash_map::Entry::Occupied(mut known) => {
                if (object.epoch, object.version) > (known.get().epoch, known.get().version) {
                    known.insert(ghost);
                    effect.updates += 1;
                }
            }
        }
    }

    fn hide(&mut self, frame: &Frame, id: u64, age: (u64, u64), effect: &mut Effect) {
        let Some(ghost) = self.ghosts.get(&id) else { return };
        if ghost.cell == frame.head.cell && age >= (ghost.epoch, ghost.version) {
            self.ghosts.remove(&id);
            effect.updates += 1;
        }
    }

    fn touch(&mut self, frame: &Frame, id: u64, version: u64, effect: &mut Effect, change: impl FnOnce(&mut Ghost)) {
        match self.ghosts.get_mut(&id) {
            Some(ghost) if ghost.publisher == frame.head.publisher && version > ghost.version => {
                ghost.version = version;
                change(ghost);
                effect.updates += 1;
            }
            Some(_) => {}
            None => effect.orphans += 1,
        }
    }
}

#[cfg(test)]
#[path = "sight_tests.rs"]
mod tests;
