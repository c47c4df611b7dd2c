//! Two worlds, one that tells and one that listens, step by step.

use bytes::Bytes;

use super::*;
use crate::frame::header;
use crate::geometry::Cell;
use crate::world::{ASK_AGAIN_MS, ASK_TIMEOUT_MS, Ask, CellFrame, VERIFY_MS};

const TELLER: u64 = 2;
const CELL: Cell = Cell::new(ISLAND, 1, 1);

/// A world that tells of objects 1 to 3 in one cell, and one that has taken its keyframes. Clocks are the same.
fn pair() -> (World<Creature>, World<Creature>) {
    let (mut teller, mut listener) = (world(TELLER), world(1));
    for id in 1..=3 {
        spawn(&mut teller, 0, id, tile(40, 40), false);
    }
    teller.tick(0);
    listener.watch_cells([CELL, Cell::new(ISLAND, 2, 1)]);
    listener.peer_up(0, TELLER);
    catch_up(&mut teller, &mut listener, 0);
    assert_eq!(listener.ghosts_in(CELL).count(), 3);
    (teller, listener)
}

/// Answers whatever the listener asks for; returns what it forwards.
fn catch_up(teller: &mut World<Creature>, listener: &mut World<Creature>, now: u64) -> Vec<CellFrame> {
    let mut forward = Vec::new();
    for Ask { publisher, cells } in listener.tick(now).asks {
        let answer = teller.answer_ask(&cells);
        forward.extend(listener.apply_answer(now, publisher, &cells, answer));
    }
    forward
}

/// Something happens in the cell; the frame that tells it.
fn happen(teller: &mut World<Creature>, now: u64) -> Bytes {
    teller.change(now, ObjectId(1), |body| body.hue += 1).expect("it is here");
    let frames = teller.tick(now).frames;
    assert_eq!(frames.len(), 1);
    frames[0].bytes.clone()
}

fn hue(world: &World<Creature>) -> Option<u32> {
    world.ghost(ObjectId(1)).map(|ghost| ghost.view().0)
}

fn seqs(frames: &[CellFrame]) -> Vec<u64> {
    frames.iter().map(|frame| header(&frame.bytes).expect("a frame").seq).collect()
}

#[test]
fn keyframes_of_ghosts_are_kept_until_something_changes_there() {
    let (mut teller, mut listener) = pair();
    let first = listener.keyframes(CELL);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].as_ptr(), listener.keyframes(CELL)[0].as_ptr());
    let encoded = listener.stats().keyframes;
    listener.apply(50, TELLER, happen(&mut teller, 50));
    let next = listener.keyframes(CELL);
    assert_eq!(next[0], teller.own_keyframe(CELL).expect("its own"), "the ghosts' keyframe is the publisher's");
    assert_eq!((listener.keyframes(CELL), listener.stats().keyframes), (next, encoded + 1));
    let empty = Cell::new(ISLAND, 2, 1);
    assert_eq!((listener.keyframes(empty).len(), listener.all_keyframes(empty).len()), (0, 1));
}

#[test]
fn frames_that_come_too_early_wait_and_are_forwarded_in_order() {
    let (mut teller, mut listener) = pair();
    let frames: Vec<Bytes> = (1..=5).map(|tick| happen(&mut teller, tick * 50)).collect();
    let mut apply = |index: usize| seqs(&listener.apply(300, TELLER, frames[index].clone()));
    assert_eq!(apply(0), [2]);
    assert!(apply(0).is_empty());
    assert!(apply(3).is_empty());
    assert!(apply(2).is_empty());
    assert_eq!(apply(1), [3, 4, 5]);
    assert!(apply(2).is_empty());
    assert_eq!(apply(4), [6]);
    assert_eq!(hue(&listener), Some(6));
}

#[test]
fn a_gap_is_closed_by_a_keyframe_and_what_had_waited_for_it() {
    let (mut teller, mut listener) = pair();
    let frames: Vec<Bytes> = (1..=3).map(|tick| happen(&mut teller, tick * 50)).collect();
    assert!(listener.apply(150, TELLER, frames[2].clone()).is_empty());
    assert_eq!(hue(&listener), Some(1));
    let asks = listener.tick(200).asks;
    assert_eq!(asks, [Ask { publisher: TELLER, cells: vec![CELL] }]);
    let answer = teller.answer_ask(&asks[0].cells);
    let late = happen(&mut teller, 200);
    assert!(listener.apply(200, TELLER, late).is_empty());
    assert_eq!(seqs(&listener.apply_answer(210, TELLER, &asks[0].cells, answer)), [4, 5]);
    assert_eq!(hue(&listener), Some(5));
    assert_eq!(listener.stats().wanted, 0);
}

#[test]
fn what_is_wanted_is_asked_for_until_it_comes() {
    let (mut teller, mut listener) = pair();
    happen(&mut teller, 50);
    let early = happen(&mut teller, 100);
    listener.apply(100, TELLER, early);
    let wanted = [Ask { publisher: TELLER, cells: vec![CELL] }];
    assert_eq!(listener.tick(100).asks, wanted);
    assert!(listener.tick(100 + ASK_TIMEOUT_MS - 1).asks.is_empty(), "one ask at a time");
    assert_eq!(listener.tick(100 + ASK_TIMEOUT_MS).asks, wanted, "nothing was heard");
    let now = 10_000;
    listener.ask_failed(now, TELLER, &[CELL]);
    assert!(listener.tick(now + ASK_AGAIN_MS - 1).asks.is_empty());
    assert_eq!(listener.tick(now + ASK_AGAIN_MS).asks, wanted, "it failed");
    let now = 20_000;
    listener.apply_answer(now, TELLER, &[CELL], Vec::new());
    assert_eq!(listener.tick(now + ASK_AGAIN_MS).asks, wanted, "the answer left it out");
    let answer = teller.answer_ask(&[CELL]);
    listener.apply_answer(now + 500, TELLER, &[CELL], answer);
    assert!(listener.tick(now + 100_000).asks.is_empty());
    assert_eq!(hue(&listener), Some(3));
}

#[test]
fn ghosts_of_a_publisher_that_is_gone_stay_for_the_grace_and_go_with_a_frame() {
    let (mut teller, mut listener) = pair();
    listener.peer_gone(1_000, TELLER);
    listener.peer_gone(5_000, TELLER);
    assert!(listener.tick(10_999).forwards.is_empty());
    assert_eq!(listener.stats().ghosts, 3);
    let forwards = listener.tick(11_000).forwards;
    let cells: Vec<Cell> = forwards.iter().map(|frame| frame.cell).collect();
    assert_eq!(cells, [CELL, Cell::new(ISLAND, 2, 1)]);
    assert_eq!((listener.stats().ghosts, listener.stats().publishers), (0, 0));
    listener.check();

    // Back after all, with nothing said in between: its keyframe is not older than the farewell.
    listener.peer_up(12_000, TELLER);
    let seen = seqs(&catch_up(&mut teller, &mut listener, 12_000));
    assert!(seen[0] >= seqs(&forwards)[0]);
    assert_eq!(listener.stats().ghosts, 3);
    listener.peer_gone(13_000, TELLER);
    listener.peer_up(14_000, TELLER);
    assert!(listener.tick(100_000).forwards.is_empty(), "it came back in time");
    assert_eq!(listener.stats().ghosts, 3);
}

#[test]
fn a_new_owner_takes_over_and_the_old_one_is_not_heard_any_more() {
    let (mut teller, mut listener) = pair();
    let mut heir = world(3);
    listener.peer_up(0, 3);
    catch_up(&mut heir, &mut listener, 0);
    heir.peer_up(0, TELLER);
    heir.spawn(60, ObjectId(1), Epoch(2), ISLAND, tile(41, 41), creature(70), true).expect("a free place");
    for frame in heir.tick(60).frames {
        listener.apply(60, 3, frame.bytes.clone());
        teller.watch_cells([frame.cell]);
        teller.tick(60);
        teller.peer_up(60, 3);
        teller.apply(60, 3, frame.bytes);
    }
    assert_eq!(listener.ghost(ObjectId(1)).map(|it| (it.publisher(), it.epoch())), Some((3, Epoch(2))));
    assert_eq!(teller.tick(110).fenced, [ObjectId(1)]);
    listener.apply(110, TELLER, happen(&mut teller, 120));
    assert_eq!(hue(&listener), Some(70), "the old owner changes nothing");
    teller.remove(130, ObjectId(1));
    for frame in teller.tick(130).frames {
        listener.apply(130, TELLER, frame.bytes);
    }
    assert_eq!(hue(&listener), Some(70), "nor does it take the object away");
    assert_eq!(hue(&teller), Some(70), "to the old owner it is a ghost now");
    let stale = teller.own_keyframe(CELL).expect("two are left");
    heir.watch_cells([CELL]);
    heir.apply(140, TELLER, stale);
    assert!(heir.ghost(ObjectId(1)).is_none());
    [teller, listener, heir].iter().for_each(World::check);
}

/// Lets the listener verify the teller; the cells that differ.
fn verify(teller: &mut World<Creature>, listener: &mut World<Creature>, now: u64) -> Vec<Cell> {
    teller.tick(now);
    let verify = listener.verify(now);
    assert_eq!(verify.len(), 1);
    let different = teller.answer_verify(&verify[0].digests);
    listener.apply_verify(now, TELLER, &different);
    different
}

#[test]
fn the_loss_of_a_last_frame_is_found_by_comparing() {
    let (mut teller, mut listener) = pair();
    let mut now = 5 * VERIFY_MS;
    assert_eq!(verify(&mut teller, &mut listener, now), []);
    assert!(listener.verify(now + VERIFY_MS - 1).is_empty(), "not before it is time");
    happen(&mut teller, now);
    now += 2 * VERIFY_MS;
    assert!(verify(&mut teller, &mut listener, now).contains(&CELL));
    catch_up(&mut teller, &mut listener, now);
    assert_eq!(hue(&listener), Some(2));
    now += VERIFY_MS;
    assert_eq!(verify(&mut teller, &mut listener, now), []);

    // An object goes where the listener hears of it first, and the frame that says whence is lost: the ghosts agree, but
    // a client that sees only the old cell would keep it.
    let next = Cell::new(ISLAND, 2, 1);
    teller.teleport(now, ObjectId(1), ISLAND, tile(70, 40)).expect("a free place");
    let frames = teller.tick(now).frames;
    listener.apply(now, TELLER, frames[1].bytes.clone());
    assert_eq!(listener.ghost(ObjectId(1)).map(|ghost| ghost.cell()), Some(next));
    now += 2 * VERIFY_MS;
    assert!(verify(&mut teller, &mut listener, now).contains(&CELL));
    let forwarded = catch_up(&mut teller, &mut listener, now);
    assert!(forwarded.iter().any(|frame| frame.cell == CELL));
}

#[test]
fn a_late_frame_does_not_bring_back_what_left() {
    let (mut teller, mut listener) = pair();
    let stale = teller.own_keyframe(CELL).expect("its own");
    // The listener hears of the move and then of the end, both in the other cell, before anything of the first.
    teller.teleport(50, ObjectId(1), ISLAND, tile(70, 40)).expect("a free place");
    listener.apply(50, TELLER, teller.tick(50).frames[1].bytes.clone());
    teller.remove(100, ObjectId(1));
    listener.apply(100, TELLER, teller.tick(100).frames[0].bytes.clone());
    assert_eq!(hue(&listener), None);
    listener.apply_answer(150, TELLER, &[CELL], vec![stale]);
    assert_eq!(hue(&listener), None, "the keyframe is older than the end");
    assert_eq!(listener.stats().ghosts, 2);
    listener.check();
}

#[test]
fn leaving_view_drops_the_ghosts_and_entering_it_asks_again() {
    let (mut teller, mut listener) = pair();
    listener.unwatch_cells([CELL]);
    let out = listener.tick(50);
    assert_eq!((out.unwatch, listener.stats().ghosts), (vec![CELL], 0));
    assert!(listener.apply(60, TELLER, happen(&mut teller, 60)).is_empty(), "a neighbour of what is seen");
    listener.watch_cells([CELL]);
    assert_eq!(seqs(&catch_up(&mut teller, &mut listener, 100)), [2]);
    assert_eq!(hue(&listener), Some(2));
    listener.check();
}

/// Found by the simulation (seed 13): a frozen node thawed, lost its players, met its peers again and was joined anew, all
/// before its next tick.
#[test]
fn a_cell_seen_again_within_a_tick_has_the_feeds_of_peers_that_came_up_meanwhile() {
    let (mut teller, mut listener) = (world(TELLER), world(1));
    spawn(&mut teller, 0, 1, tile(40, 40), false);
    teller.tick(0);
    listener.watch_cells([CELL]);
    listener.tick(0);
    listener.unwatch_cells([CELL]);
    listener.peer_up(10, TELLER);
    listener.watch_cells([CELL]);
    catch_up(&mut teller, &mut listener, 50);
    assert_eq!(listener.ghosts_in(CELL).count(), 1);
}

/// Found by the simulation (seed 24): a walk crossed a cell's border and back between two ticks.
#[test]
fn an_object_that_left_its_cell_and_came_back_within_a_tick_is_told_in_its_last_version() {
    let (mut teller, mut listener) = pair();
    teller.teleport(50, ObjectId(1), ISLAND, tile(70, 40)).expect("it is here");
    teller.teleport(50, ObjectId(1), ISLAND, tile(41, 40)).expect("it is here");
    for frame in teller.tick(50).frames {
        listener.apply(50, TELLER, frame.bytes);
    }
    let real = teller.get(ObjectId(1)).expect("it is here");
    let ghost = listener.ghost(ObjectId(1)).expect("it is in view");
    assert_eq!((ghost.version(), ghost.motion(), ghost.cell()), (real.version(), real.motion(), real.cell()));
}

/// The same, when nothing but crossings happened.
#[test]
fn crossings_alone_are_told_too() {
    let (mut teller, mut listener) = pair();
    let before = teller.get(ObjectId(1)).expect("it is here").version();
    teller.move_cell(50, ObjectId(1), Cell::new(ISLAND, 2, 1));
    teller.move_cell(50, ObjectId(1), CELL);
    for frame in teller.tick(50).frames {
        listener.apply(50, TELLER, frame.bytes);
    }
    assert_eq!(listener.ghost(ObjectId(1)).expect("it is in view").version(), before + 2);
}
