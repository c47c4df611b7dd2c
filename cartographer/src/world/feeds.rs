//! Feeds: what is taken from other publishers, in order, and what is asked for again.
//!
//! A feed belongs to one publisher and one cell that this node sees. It applies each frame once and in order; what comes
//! too early waits, bounded, for a keyframe. What is wanted is asked for until it comes. A feed NEVER takes a frame that
//! is not whole, and never forwards one that it did not apply: whoever gets the forwarded frames gets a stream without
//! gaps.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::cells::empty_keyframe;
use super::{Ask, Body, CellFrame, TickOutput, World};
use crate::frame::{self, Content, Header, Whole};
use crate::geometry::{Cell, ObjectId};

/// Frames of one feed that wait for a keyframe, at most; the oldest gives way, for a keyframe will cover it.
pub const BUFFERED_FRAMES: usize = 64;
/// Cells in one ask, at most.
pub const ASK_CELLS: usize = 256;
/// The bytes of an answer to one ask, about.
pub const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// An ask that nothing was heard of is repeated after this long, in milliseconds.
pub const ASK_TIMEOUT_MS: u64 = 3_000;
/// An ask that failed, or was answered in part, is repeated after this long, in milliseconds.
pub const ASK_AGAIN_MS: u64 = 250;

const _: () = assert!(ASK_AGAIN_MS < ASK_TIMEOUT_MS);
const _: () = assert!(ANSWER_BYTES <= frame::FRAME_BYTES);

/// Another node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) feeds: FxHashMap<Cell, Feed>,
    /// Cells whose keyframe is missing, and when to ask for it (again). Filled by [`Peer::want`] only.
    pub(super) wanted: BTreeMap<Cell, u64>,
    /// When to look at `wanted` again; not later than the earliest in it.
    ask_at: u64,
    /// When to verify it next.
    pub(super) verify_at: u64,
    /// If it is gone: when its ghosts are removed.
    pub(super) gone_at: Option<u64>,
}

impl Peer {
    /// Wants a cell's keyframe at `at` or earlier.
    pub(super) fn want(&mut self, cell: Cell, at: u64) {
        let due = self.wanted.entry(cell).or_insert(at);
        *due = at.min(*due);
        self.ask_at = self.ask_at.min(at);
    }

    /// Puts off a cell that is wanted.
    fn put_off(&mut self, cell: Cell, at: u64) {
        if let Some(due) = self.wanted.get_mut(&cell) {
            *due = at;
            self.ask_at = self.ask_at.min(at);
        }
    }
}

/// What is known of one publisher in one cell.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// The last sequence number applied; `None` until the first keyframe.
    pub(super) last: Option<u64>,
    /// The publisher's time of that frame.
    time_ms: u64,
    /// Our time of it.
    pub(super) applied_at: u64,
    /// Ghosts that are here.
    pub(super) ghosts: Vec<ObjectId>,
    /// Frames that came too early.
    pub(super) waiting: BTreeMap<u64, Bytes>,
    keyframe: Option<Bytes>,
    pub(super) digest: Option<u64>,
}

impl Feed {
    /// Notes that what is here changed.
    pub(super) fn touch(&mut self) {
        self.keyframe = None;
        self.digest = None;
    }
}

/// What to do with a frame.
enum Verdict {
    Apply,
    Old,
    Wait,
}

impl<B: Body> World<B> {
    /// A publisher can be heard: everything this node sees is asked of it. Harmless to repeat; takes back
    /// [`World::peer_gone`].
    pub fn peer_up(&mut self, now: u64, publisher: u64) {
        let now = self.advance(now);
        if publisher == self.config.publisher {
            return;
        }
        // Spread over the period, so that not all peers are verified in one tick.
        let verify_at = now + super::VERIFY_MS + publisher % super::VERIFY_MS;
        let peer = self.peers.entry(publisher).or_insert_with(|| Peer { verify_at, ..Peer::default() });
        peer.gone_at = None;
        for cell in self.vision.cells() {
            peer.feeds.entry(cell).or_default();
            peer.want(cell, now);
        }
    }

    /// A publisher is gone for good, or cut off: unless it comes up again within the grace, its ghosts are removed.
    pub fn peer_gone(&mut self, now: u64, publisher: u64) {
        let now = self.advance(now);
        if let Some(peer) = self.peers.get_mut(&publisher) {
            peer.gone_at.get_or_insert(now.saturating_add(self.config.ghost_grace_ms));
        }
    }

    /// Something that this publisher said was surely lost: every keyframe is asked of it again.
    pub fn lost(&mut self, now: u64, publisher: u64) {
        let now = self.advance(now);
        if planted::is("no_gap_repair") {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&publisher) {
            let cells: Vec<Cell> = peer.feeds.keys().copied().collect();
            cells.into_iter().for_each(|cell| peer.want(cell, now));
        }
    }

    /// Takes a frame that came from `publisher`, and returns what clients who see the cell are to be sent: the very same
    /// bytes if it was applied, nothing if it was not, and those that had waited for it.
    pub fn apply(&mut self, now: u64, publisher: u64, bytes: Bytes) -> Vec<CellFrame> {
        let now = self.advance(now);
        let mut forward = Vec::new();
        match frame::header(&bytes) {
            Ok(header) if header.publisher == publisher => self.take(now, header, bytes, &mut forward),
            _ => self.stats.malformed += 1,
        }
        forward
    }

    /// Takes the answer to an [`Ask`] for these cells. Cells that it leaves out are asked for again.
    pub fn apply_answer(&mut self, now: u64, publisher: u64, cells: &[Cell], frames: Vec<Bytes>) -> Vec<CellFrame> {
        let now = self.advance(now);
        let forward = frames.into_iter().flat_map(|bytes| self.apply(now, publisher, bytes)).collect();
        if planted::is("keyframe_lost")
            && let Some(peer) = self.peers.get_mut(&publisher)
        {
            peer.wanted.clear();
        }
        if let Some(peer) = self.peers.get_mut(&publisher) {
            cells.iter().for_each(|cell| peer.put_off(*cell, now + ASK_AGAIN_MS));
        }
        forward
    }

    /// An [`Ask`] was not answered.
    pub fn ask_failed(&mut self, now: u64, publisher: u64, cells: &[Cell]) {
        self.apply_answer(now, publisher, cells, Vec::new());
    }

    fn take(&mut self, now: u64, header: Header, bytes: Bytes, forward: &mut Vec<CellFrame>) {
        let Header { publisher, cell, seq, is_keyframe, .. } = header;
        let is_careless = planted::is("no_gap_repair");
        let Some(feed) = self.feed(publisher, cell) else {
            self.stats.ignored += 1;
            return;
        };
        let verdict = match feed.last {
            Some(last) if seq < last || (seq == last && !is_keyframe) => Verdict::Old,
            _ if is_keyframe => Verdict::Apply,
            Some(last) if seq == last + 1 || is_careless => Verdict::Apply,
            _ => Verdict::Wait,
        };
        match verdict {
            Verdict::Old => self.stats.old += 1,
            Verdict::Wait => {
                if feed.waiting.len() >= BUFFERED_FRAMES {
                    feed.waiting.pop_first();
                }
                feed.waiting.insert(seq, bytes);
                self.stats.gaps += 1;
                self.want(publisher, cell, now);
            }
            Verdict::Apply => {
                self.apply_whole(now, header, bytes, forward);
                self.apply_waiting(now, publisher, cell, forward);
            }
        }
    }

    /// Applies what had waited for the frame just applied.
    fn apply_waiting(&mut self, now: u64, publisher: u64, cell: Cell, forward: &mut Vec<CellFrame>) {
        loop {
            let Some(feed) = self.feed(publisher, cell) else { return };
            let (Some(last), Some(first)) = (feed.last, feed.waiting.first_entry()) else { return };
            if *first.key() > last + 1 {
                self.want(publisher, cell, now);
                return;
            }
            let (seq, bytes) = first.remove_entry();
            match frame::header(&bytes) {
                Ok(header) if seq == last + 1 => self.apply_whole(now, header, bytes, forward),
                _ => {}
            }
        }
    }

    /// Applies a frame whose turn it is, all of it or, if it cannot be read, nothing.
    fn apply_whole(&mut self, now: u64, header: Header, bytes: Bytes, forward: &mut Vec<CellFrame>) {
        let Header { publisher, cell, .. } = header;
        match frame::decode::<B::View>(&bytes) {
            Err(_) => {
                self.stats.malformed += 1;
                self.want(publisher, cell, now);
                return;
            }
            Ok((_, Content::Keyframe(listed))) => {
                if let Some(peer) = self.peers.get_mut(&publisher) {
                    peer.wanted.remove(&cell);
                }
                self.apply_keyframe(now, publisher, cell, listed);
            }
            Ok((_, Content::Delta(entries))) => {
                entries.into_iter().for_each(|entry| self.apply_entry(now, publisher, cell, entry));
            }
        }
        if let Some(feed) = self.feed(publisher, cell) {
            feed.last = Some(header.seq);
            feed.time_ms = header.time_ms;
            feed.applied_at = now;
            feed.touch();
        }
        self.stats.applied += 1;
        forward.push(CellFrame { cell, bytes });
    }

    pub(super) fn feed(&mut self, publisher: u64, cell: Cell) -> Option<&mut Feed> {
        self.peers.get_mut(&publisher)?.feeds.get_mut(&cell)
    }

    /// Wants a keyframe because of what a feed showed.
    fn want(&mut self, publisher: u64, cell: Cell, now: u64) {
        if planted::is("no_gap_repair") {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&publisher)
            && !peer.wanted.contains_key(&cell)
        {
            peer.want(cell, now);
        }
    }

    /// The node begins to see a cell, or sees it again before it was told that it did not: a peer that came up in between
    /// has no feed of it yet.
    pub(super) fn open_feeds(&mut self, cell: Cell) {
        let now = self.now;
        for peer in self.peers.values_mut() {
            if let Entry::Vacant(vacant) = peer.feeds.entry(cell) {
                vacant.insert(Feed::default());
                peer.want(cell, now);
            }
        }
    }

    /// The node no longer sees a cell.
    pub(super) fn close_feeds(&mut self, cell: Cell) {
        for peer in self.peers.values_mut() {
            peer.wanted.remove(&cell);
            for ghost in peer.feeds.remove(&cell).into_iter().flat_map(|feed| feed.ghosts) {
                self.ghosts.remove(&ghost);
            }
        }
    }

    /// Removes the ghosts of publishers that have been gone for the grace.
    pub(super) fn age_out(&mut self, now: u64, out: &mut TickOutput) {
        if planted::is("no_ghost_ageing") {
            return;
        }
        let over = self.peers.iter().filter(|(_, peer)| peer.gone_at.is_some_and(|at| at <= now));
        let over: Vec<u64> = over.map(|(publisher, _)| *publisher).collect();
        for publisher in over {
            let Some(peer) = self.peers.remove(&publisher) else { continue };
            let mut feeds: Vec<(Cell, Feed)> = peer.feeds.into_iter().collect();
            feeds.sort_unstable_by_key(|(cell, _)| *cell);
            for (cell, feed) in feeds {
                feed.ghosts.iter().for_each(|id| self.depart(now, *id));
                // Said of empty feeds too: a client may hold an object that has a new owner where the client does not see
                // it. The same number as the last frame's: should the publisher come back, its next one is still newer.
                let Some(seq) = feed.last else { continue };
                let header = Header { is_keyframe: true, publisher, cell, seq, time_ms: feed.time_ms };
                out.forwards.push(CellFrame { cell, bytes: empty_keyframe(&mut self.writer, header) });
            }
        }
    }

    /// Gives out what is to be asked now.
    pub(super) fn ask(&mut self, now: u64, out: &mut TickOutput) {
        for (&publisher, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.gone_at.is_none() && peer.ask_at <= now)
        {
            let mut cells = Vec::new();
            for (cell, due) in peer.wanted.iter_mut().filter(|(_, due)| **due <= now) {
                cells.push(*cell);
                *due = now + ASK_TIMEOUT_MS;
            }
            peer.ask_at = peer.wanted.values().copied().min().unwrap_or(u64::MAX);
            self.stats.asked += cells.len() as u64;
            out.asks.extend(cells.chunks(ASK_CELLS).map(|cells| Ask { publisher, cells: cells.to_vec() }));
        }
    }

    /// Adds the keyframes of what others hold in a cell, as far as this node knows it.
    pub(super) fn ghost_keyframes(&mut self, cell: Cell, with_empty: bool, keyframes: &mut Vec<Bytes>) {
        for (&publisher, peer) in &mut self.peers {
            let Some(feed) = peer.feeds.get_mut(&cell) else { continue };
            let Some(seq) = feed.last.filter(|_| with_empty || !feed.ghosts.is_empty()) else { continue };
            if feed.keyframe.is_none() {
                let header = Header { is_keyframe: true, publisher, cell, seq, time_ms: feed.time_ms };
                self.writer.begin(&header, feed.ghosts.len());
                for (id, it) in feed.ghosts.iter().filter_map(|id| Some((id, self.ghosts.get(id)?))) {
                    let Self { writer, .. } = self;
                    let whole =
                        Whole { id: *id, epoch: it.epoch, version: it.version, motion: &it.motion, raw: &it.raw };
                    writer.list(&whole);
                }
                feed.keyframe = Some(self.writer.end());
                self.stats.keyframes += 1;
            }
            keyframes.extend(feed.keyframe.clone());
        }
    }
}
