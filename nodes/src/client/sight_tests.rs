//! Tests of the rules of feeds.

use super::*;
use crate::protocol::FrameHead;

const P: u64 = 7;
const Q: u64 = 8;
const CELL: CellXy = (1, 1);
const NEXT: CellXy = (2, 1);

fn head(publisher: u64, cell: CellXy, keyframe: bool, seq: u64) -> FrameHead {
    FrameHead { keyframe, publisher, island: 1, cell, seq, time_ms: 1000 }
}

fn object(id: u64, epoch: u64, version: u64) -> Shown {
    let view = Arc::new(View { name: format!("o{id}"), hue: 0, ..View::default() });
    Shown { id, epoch, version, motion: Motion::still(0, 0, 0), view }
}

fn keyframe(publisher: u64, cell: CellXy, seq: u64, objects: Vec<Shown>) -> Arc<Frame> {
    Arc::new(Frame { head: head(publisher, cell, true, seq), content: Content::Keyframe(objects) })
}

fn delta(publisher: u64, cell: CellXy, seq: u64, entries: Vec<Entry>) -> Arc<Frame> {
    Arc::new(Frame { head: head(publisher, cell, false, seq), content: Content::Delta(entries) })
}

fn moved(id: u64, version: u64, x: i32) -> Entry {
    Entry::Move { id, version, motion: Motion::still(x, 0, 0) }
}

fn sight() -> Sight {
    let mut sight = Sight::new();
    sight.set_vision(1, &[CELL, NEXT], &[]);
    sight
}

#[test]
fn deltas_in_order_apply_and_old_ones_do_not() {
    let mut sight = sight();
    assert_eq!(sight.apply(&keyframe(P, CELL, 5, vec![object(1, 1, 1)])).appeared, 1);
    assert_eq!(sight.apply(&delta(P, CELL, 6, vec![moved(1, 2, 9)])).updates, 1);
    assert!(sight.apply(&delta(P, CELL, 6, vec![moved(1, 3, 10)])).old);
    assert_eq!(sight.ghost(1).unwrap().motion.x, 9);
}

#[test]
fn a_gap_waits_for_a_keyframe_and_then_catches_up() {
    let mut sight = sight();
    sight.apply(&keyframe(P, CELL, 5, vec![object(1, 1, 1), object(2, 1, 1)]));
    assert!(sight.apply(&delta(P, CELL, 7, vec![moved(1, 3, 30)])).gap);
    assert!(sight.apply(&delta(P, CELL, 8, vec![moved(1, 4, 40)])).waits);
    assert_eq!(sight.waiting(), [CELL]);
    assert_eq!(sight.ghost(1).unwrap().motion.x, 0, "nothing applies over a gap");
    let effect = sight.apply(&keyframe(P, CELL, 7, vec![object(1, 1, 3)]));
    assert!(!effect.gap);
    assert_eq!(sight.ghost(1).unwrap().motion.x, 40, "the frame after the keyframe had waited");
    assert!(sight.ghost(2).is_none(), "a keyframe is the whole truth");
    assert!(sight.waiting().is_empty());
}

#[test]
fn a_delta_of_an_unknown_feed_begins_it_for_its_cell_was_empty() {
    let mut sight = sight();
    let enters = vec![Entry::Enter { object: object(1, 1, 1), from: None }];
    assert_eq!(sight.apply(&delta(P, CELL, 70, enters)).appeared, 1);
    assert_eq!(sight.apply(&delta(P, CELL, 71, vec![moved(1, 2, 9)])).updates, 1);
    assert!(sight.apply(&delta(P, CELL, 73, vec![])).gap);
}

#[test]
fn frames_of_cells_out_of_sight_are_dropped() {
    let mut sight = sight();
    assert!(sight.apply(&keyframe(P, (9, 9), 5, vec![object(1, 1, 1)])).stray);
    assert_eq!(sight.ghosts().len(), 0);
}

#[test]
fn objects_of_cells_that_leave_sight_are_dropped_with_their_feeds() {
    let mut sight = sight();
    sight.apply(&keyframe(P, CELL, 5, vec![object(1, 1, 1)]));
    sight.apply(&keyframe(P, NEXT, 5, vec![object(2, 1, 1)]));
    sight.set_vision(1, &[], &[CELL]);
    assert!(sight.ghost(1).is_none() && sight.ghost(2).is_some());
    sight.set_vision(1, &[CELL], &[]);
    let enters = vec![Entry::Enter { object: object(3, 1, 1), from: None }];
    assert_eq!(sight.apply(&delta(P, CELL, 9, enters)).appeared, 1, "the feed begins anew");
    sight.set_vision(2, &[CELL], &[]);
    assert_eq!(sight.ghosts().len(), 0, "another island");
}

#[test]
fn crossing_a_border_works_in_either_order_of_frames() {
    for enter_first in [true, false] {
        let mut sight = sight();
        sight.apply(&keyframe(P, CELL, 1, vec![object(1, 1, 1)]));
        sight.apply(&keyframe(P, NEXT, 1, vec![]));
        let enter = delta(P, NEXT, 2, vec![Entry::Enter { object: object(1, 1, 2), from: Some(CELL) }]);
        let leave = delta(P, CELL, 2, vec![Entry::Leave { id: 1, epoch: 1, version: 1, to: Some(NEXT) }]);
        let frames = if enter_first { [enter, leave] } else { [leave, enter] };
        frames.iter().for_each(|frame| {
            sight.apply(frame);
        });
        assert_eq!(sight.ghost(1).map(|ghost| ghost.cell), Some(NEXT), "enter first: {enter_first}");
    }
}

#[test]
fn a_ghost_follows_its_new_owner_and_never_goes_back() {
    let mut sight = sight();
    sight.apply(&keyframe(P, CELL, 1, vec![object(1, 1, 9)]));
    sight.apply(&keyframe(Q, CELL, 1, vec![object(1, 2, 0)]));
    assert_eq!(sight.ghost(1).unwrap().publisher, Q);
    sight.apply(&delta(P, CELL, 2, vec![moved(1, 10, 99)]));
    assert_eq!(sight.ghost(1).unwrap().motion.x, 0, "the old owner is not believed");
    sight.apply(&keyframe(P, CELL, 3, vec![object(1, 1, 11)]));
    assert_eq!(sight.ghost(1).unwrap().epoch, 2);
    sight.apply(&keyframe(P, CELL, 4, vec![]));
    assert!(sight.ghost(1).is_some(), "the old owner's empty cell takes nothing of the new owner's");
}

#[test]
fn the_frames_that_wait_are_bounded() {
    let mut sight = sight();
    sight.apply(&keyframe(P, CELL, 1, vec![object(1, 1, 1)]));
    for seq in 3..1000 {
        sight.apply(&delta(P, CELL, seq, vec![moved(1, seq, seq as i32)]));
    }
    assert_eq!(sight.feeds[&(P, CELL)].waiting.as_ref().unwrap().len(), MAX_WAITING_FRAMES);
    // The keyframe is older than the oldest frame kept: the feed has a gap again and says so.
    assert!(sight.apply(&keyframe(P, CELL, 2, vec![object(1, 1, 2)])).gap);
    assert_eq!(sight.apply(&keyframe(P, CELL, 999, vec![object(1, 1, 999)])).updates, 1);
}

#[test]
fn an_entry_about_an_unknown_object_is_an_orphan() {
    let mut sight = sight();
    sight.apply(&keyframe(P, CELL, 1, vec![]));
    assert_eq!(sight.apply(&delta(P, CELL, 2, vec![moved(5, 1, 1)])).orphans, 1);
}

#[test]
fn what_is_not_newer_changes_nothing() {
    let mut sight = sight();
    sight.apply(&keyframe(P, CELL, 1, vec![object(1, 1, 4)]));
    assert_eq!(sight.apply(&delta(P, CELL, 2, vec![moved(1, 4, 99), moved(1, 3, 98)])).updates, 0);
    // The object has moved on to the next cell, as a keyframe told: its old cell's farewell comes too late to matter.
    sight.apply(&keyframe(P, NEXT, 1, vec![object(1, 1, 5)]));
    sight.apply(&delta(P, CELL, 3, vec![Entry::Leave { id: 1, epoch: 1, version: 5, to: Some(NEXT) }]));
    assert_eq!(sight.ghost(1).map(|ghost| (ghost.cell, ghost.motion.x)), Some((NEXT, 0)));
}
