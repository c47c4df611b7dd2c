//! Bytes that nobody should send: they are refused whole, and never make a world panic or contradict itself.

use bytes::Bytes;

use super::*;
use crate::frame::{Header, Writer, decode, header};
use crate::geometry::Cell;
use crate::motion::Motion;
use crate::world::Ask;

const CELL: Cell = Cell::new(ISLAND, 1, 1);

/// All that one world says of a busy cell and its neighbours.
fn story(publisher: u64, seed: u64) -> Vec<Bytes> {
    let mut world = world(publisher);
    let mut dice = Dice::new(seed);
    let mut frames = Vec::new();
    for tick in 0..30u64 {
        let now = tick * 50;
        for _ in 0..4 {
            let id = ObjectId(1 + dice.below(12));
            let place = tile(20 + dice.below(50) as i32, 20 + dice.below(50) as i32);
            match dice.below(5) {
                0 => drop(world.spawn(now, id, Epoch(tick), ISLAND, place, creature(tick as u32), false)),
                1 => drop(world.remove(now, id)),
                2 => drop(world.change(now, id, |body| body.name.push('é'))),
                _ => {
                    let from = world.get(id).map_or(place, |real| real.place(now));
                    let _ = world.walk(now, id, from, place, 9_000);
                }
            }
        }
        frames.extend(world.tick(now).frames.into_iter().map(|frame| frame.bytes));
    }
    frames
}

/// A world that sees the cells of the story.
fn listener() -> World<Creature> {
    let mut world = world(1);
    spawn(&mut world, 0, 1, tile(40, 40), true);
    world.tick(0);
    world.peer_up(0, 2);
    let asks = world.tick(10).asks;
    assert!(matches!(&asks[..], [Ask { publisher: 2, cells }] if cells.contains(&CELL)));
    world
}

#[test]
fn whatever_was_written_is_read_again() {
    let mut kinds = [0; 2];
    for seed in 0..20 {
        for bytes in story(2, seed) {
            let (head, content) = decode::<Look>(&bytes).expect("a frame of ours can be read");
            assert_eq!(head, header(&bytes).expect("the header alone too"));
            kinds[usize::from(head.is_keyframe)] += 1;
            for end in 0..bytes.len() {
                assert!(decode::<Look>(&bytes[..end]).is_err(), "a part of a frame is no frame");
            }
            let mut longer = bytes.to_vec();
            longer.push(0xc0);
            assert!(decode::<Look>(&longer).is_err());
            drop(content);
        }
    }
    assert!(kinds[0] > 50 && kinds[1] > 50, "{kinds:?}");
}

#[test]
fn mutated_frames_never_panic_and_never_corrupt() {
    let mut refused = 0;
    for seed in 0..60 {
        let mut world = listener();
        let mut dice = Dice::new(seed);
        let frames = story(2, seed % 7);
        for round in 0..600u64 {
            let mut bytes = frames[dice.below(frames.len() as u64) as usize].to_vec();
            for _ in 0..dice.below(4) {
                let at = dice.below(bytes.len() as u64) as usize;
                match dice.below(5) {
                    0 => bytes[at] = dice.below(256) as u8,
                    1 => bytes[at] ^= 1 << dice.below(8),
                    2 => bytes.truncate(at + 1),
                    3 => bytes.insert(at, [0xdd, 0xdf, 0xdb, 0xc6, 0xcf, 0xd3, 0xc1, 0xff][dice.below(8) as usize]),
                    _ => drop(bytes.remove(at)),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let before = world.stats().malformed;
            let forward = world.apply(round * 7, 2, bytes.into());
            for frame in &forward {
                assert!(decode::<Look>(&frame.bytes).is_ok(), "only what can be read is forwarded");
            }
            refused += world.stats().malformed - before;
            if round % 50 == 0 {
                world.tick(round * 7);
                world.verify(round * 7);
                world.keyframes(CELL).iter().for_each(|bytes| drop(decode::<Look>(bytes).expect("our own keyframe")));
                world.check();
            }
        }
        world.check();
    }
    assert!(refused > 1_000, "{refused} refused");
}

#[test]
fn random_bytes_are_no_frames() {
    let mut world = listener();
    let mut dice = Dice::new(9);
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..dice.below(60)).map(|_| dice.below(256) as u8).collect();
        if dice.chance(50) {
            // Begins like a frame.
            let head = [0x98, 10 + dice.below(2) as u8, 2, 7, 1, 1, 1, 1, 0x91];
            bytes.splice(0..0, head);
        }
        assert!(world.apply(0, 2, bytes.clone().into()).is_empty());
        world.apply_answer(0, 2, &[CELL], vec![bytes.into()]);
    }
    assert_eq!(world.stats().ghosts, 0);
    world.check();
}

#[test]
fn lengths_that_lie_reserve_no_memory_and_nesting_does_not_recurse() {
    let mut world = listener();
    // Four billion entries in ten bytes.
    let lie = [0x98, 11, 2, 7, 1, 1, 1, 1, 0xdd, 0xff, 0xff, 0xff, 0xff];
    assert!(world.apply(0, 2, Bytes::copy_from_slice(&lie)).is_empty());
    // A keyframe with one object whose view nests a hundred thousand arrays.
    for depth in [1_000, 100_000] {
        let mut deep = vec![0x98, 11, 2, 7, 1, 1, 1, 1, 0x91, 0x95, 5, 1, 1, 0x96, 0, 0, 0, 0, 0, 0];
        deep.extend(std::iter::repeat_n(0x91, depth));
        deep.push(0xc0);
        assert!(world.apply(0, 2, deep.into()).is_empty());
    }
    assert_eq!(world.stats().malformed, 3);
    world.check();
}

#[test]
fn frames_in_another_name_or_of_unseen_cells_change_nothing() {
    let mut world = listener();
    let mut writer = Writer::default();
    let motion = Motion::standing(tile(40, 40), 0);
    let raw = crate::frame::encode_view(&Look(1, "x".into()));
    let mut frame = |publisher, cell| {
        let header = Header { is_keyframe: true, publisher, cell, seq: 1, time_ms: 1 };
        writer.begin(&header, 1);
        let id = ObjectId(77);
        writer.list(&crate::frame::Whole { id, epoch: Epoch(1), version: 1, motion: &motion, raw: &raw });
        writer.end()
    };
    let far = Cell::new(ISLAND, 14, 14);
    assert!(world.apply(0, 2, frame(3, CELL)).is_empty(), "in another's name");
    assert!(world.apply(0, 3, frame(3, CELL)).is_empty(), "of a publisher that was never up");
    assert!(world.apply(0, 1, frame(1, CELL)).is_empty(), "in our own name");
    assert!(world.apply(0, 2, frame(2, far)).is_empty(), "of a cell that nobody sees");
    assert_eq!(world.stats().ghosts, 0);
    assert_eq!(world.apply(0, 2, frame(2, CELL)).len(), 1);
    assert_eq!(world.ghost(ObjectId(77)).map(|ghost| ghost.view().0), Some(1));
    // An object that is real here stays ours.
    spawn(&mut world, 0, 78, tile(41, 41), false);
    world.spawn(0, ObjectId(77), Epoch(1), ISLAND, tile(40, 40), creature(5), false).expect("a ghost is no hindrance");
    assert!(world.ghost(ObjectId(77)).is_none());
    world.apply(0, 2, frame(2, CELL));
    assert!(world.ghost(ObjectId(77)).is_none());
    world.check();
}

#[test]
fn absurd_questions_are_answered_within_bounds() {
    let mut world = listener();
    let all: Vec<Cell> = (0..2_000).map(|n| Cell::new(IslandId(n), u16::MAX, u16::MAX)).collect();
    assert_eq!(world.answer_ask(&all).len(), crate::world::ASK_CELLS);
    let blocks: Vec<_> = all.iter().map(|cell| (cell.block(), u16::MAX, 1)).collect();
    assert!(world.answer_verify(&blocks).len() <= 4_096 + 16);
    world.apply_verify(0, 2, &all);
    world.ask_failed(0, 9, &all);
    world.peer_gone(u64::MAX / 4, 2);
    world.tick(u64::MAX / 2);
    world.check();
}
