//! One world by itself: what a tick tells, when it tells nothing, and what things cost in encodings.

use bytes::Bytes;

use super::*;
use crate::frame::{Content, Entry, Header, decode};
use crate::geometry::Cell;
use crate::world::{CellFrame, Real, SpawnRefusal, TickOutput, WalkRefusal};

fn content(bytes: &Bytes) -> (Header, Content<'_, Look>) {
    decode::<Look>(bytes).expect("a frame of ours can be read")
}

/// A tick's frames in words.
fn told(out: &TickOutput) -> Vec<String> {
    let mut told = Vec::new();
    for CellFrame { cell, bytes } in &out.frames {
        let (header, content) = content(bytes);
        assert_eq!(header.cell, *cell);
        let here = format!("{},{}", cell.x, cell.y);
        match content {
            Content::Keyframe(listed) => {
                let ids: Vec<u64> = listed.iter().map(|object| object.id.0).collect();
                told.push(format!("{here} key {ids:?}"));
            }
            Content::Delta(entries) => told.extend(entries.iter().map(|entry| match entry {
                Entry::Enter { object, from } => format!("{here} enter {} from {from:?}", object.id.0),
                Entry::Change { id, view, .. } => format!("{here} change {} to {}", id.0, view.0),
                Entry::Move { id, .. } => format!("{here} move {}", id.0),
                Entry::Leave { id, to, .. } => format!("{here} leave {} to {to:?}", id.0),
            })),
        }
    }
    told
}

#[test]
fn a_tick_tells_what_changed_once_and_in_order() {
    let mut world = world(1);
    let check = |out: &TickOutput, expected: &[&str]| assert_eq!(told(out), expected);
    spawn(&mut world, 1_000, 2, tile(1, 1), false);
    spawn(&mut world, 1_000, 1, tile(31, 1), false);
    check(&world.tick(1_000), &["0,0 key [2, 1]"]);
    check(&world.tick(1_050), &[]);

    world.walk(1_050, ObjectId(1), tile(31, 1), tile(40, 1), 1_024).expect("an open way");
    world.walk(1_060, ObjectId(1), tile(31, 1), tile(41, 1), 1_024).expect("an open way");
    world.change(1_060, ObjectId(2), |body| body.hue = 9);
    world.change(1_060, ObjectId(2), |body| body.hue = 10);
    world.change(1_060, ObjectId(1), |body| body.secret = 3);
    check(&world.tick(1_100), &["0,0 move 1", "0,0 change 2 to 10"]);
    check(&world.tick(1_150), &[]);

    // Half a tile to the border at four tiles a second.
    check(&world.tick(1_200), &["0,0 leave 1 to Some((1, 0))", "1,0 key [1]"]);
    check(&world.tick(60_000), &[]);
    assert_eq!(world.get(ObjectId(1)).expect("it is here").place(60_000).tile(), Some((41, 1).into()));

    world.teleport(60_000, ObjectId(1), ISLAND, tile(2, 2)).expect("a free place");
    check(&world.tick(60_050), &["0,0 enter 1 from Some((1, 0))", "1,0 leave 1 to Some((0, 0))"]);

    assert_eq!(world.remove(60_050, ObjectId(1)).map(|body| body.secret), Some(3));
    world.spawn(60_050, ObjectId(1), Epoch(2), ISLAND, tile(1, 2), creature(5), false).expect("a free place");
    spawn(&mut world, 60_050, 8, tile(9, 9), false);
    world.remove(60_051, ObjectId(8));
    check(&world.tick(60_100), &["0,0 leave 1 to None", "0,0 enter 1 from None"]);
    world.check();
}

#[test]
fn a_cell_that_was_crossed_between_ticks_is_not_forgotten_by_a_new_walk() {
    let mut world = world(1);
    spawn(&mut world, 0, 1, tile(31, 1), true);
    world.tick(0);
    world.walk(0, ObjectId(1), tile(31, 1), tile(60, 1), 2_560).expect("an open way");
    // The border was crossed after 50 ms, and no tick came since.
    world.walk(400, ObjectId(1), tile(35, 1), tile(35, 20), 100).expect("an open way");
    world.tick(450);
    assert_eq!(world.get(ObjectId(1)).map(|real| real.cell()), Some(Cell::new(ISLAND, 1, 0)));
    world.check();
}

#[test]
fn many_objects_and_changes_in_a_cell_cost_one_encoding_a_tick() {
    let mut world = world(1);
    for id in 0..500 {
        spawn(&mut world, 0, id, tile((id % 30) as i32, (id / 30) as i32), false);
    }
    assert_eq!(world.tick(0).frames.len(), 1);
    for tick in 1..=20 {
        for id in 0..500 {
            let place = world.get(ObjectId(id)).expect("it is here").place(tick * 50);
            world.walk(tick * 50, ObjectId(id), place, tile(15, 15), 300).expect("an open way");
            world.change(tick * 50, ObjectId(id), |body| body.hue += 1);
        }
        let out = world.tick(tick * 50);
        let mut cells: Vec<Cell> = out.frames.iter().map(|frame| frame.cell).collect();
        cells.dedup();
        assert_eq!(cells.len(), out.frames.len(), "one frame per cell");
        assert_eq!(out.frames.len(), 1);
    }
    let stats = world.stats();
    assert_eq!((stats.frames, stats.keyframes), (21, 0));
}

#[test]
fn many_joins_in_a_tick_cost_one_keyframe_and_share_its_bytes() {
    let mut world = world(1);
    for id in 0..200 {
        spawn(&mut world, 0, id, tile(20, 20), true);
    }
    let out = world.tick(0);
    assert_eq!((out.frames.len(), out.vision.len()), (1, 200));
    let mut shared = None;
    for change in &out.vision {
        for cell in &change.entered {
            for keyframe in world.keyframes(*cell) {
                assert_eq!(keyframe.as_ptr(), *shared.get_or_insert(keyframe.as_ptr()), "the same bytes for all");
            }
        }
    }
    assert!(shared.is_some());
    assert_eq!(world.stats().keyframes, 0, "the cell's first frame was the keyframe");
    spawn(&mut world, 10, 1_000, tile(20, 20), true);
    world.tick(50);
    let first = world.keyframes(tile(20, 20).cell(ISLAND).expect("a cell"));
    let again = world.keyframes(tile(20, 20).cell(ISLAND).expect("a cell"));
    assert_eq!(first[0].as_ptr(), again[0].as_ptr());
    assert_eq!(world.stats().keyframes, 1);
    assert_eq!(content(&first[0]).0.seq, 2, "it carries the number of the cell's last frame");
}

#[test]
fn a_step_that_continues_costs_nothing() {
    let mut world = world(1);
    spawn(&mut world, 0, 1, tile(1, 1), true);
    world.tick(0);
    let motion = world.walk(0, ObjectId(1), tile(1, 1), tile(301, 1), 256).expect("an open way");
    world.tick(50);
    let before = world.stats();
    for now in (100..motion.ends()).step_by(50) {
        world.tick(now);
    }
    let after = world.stats();
    assert_eq!(after.events - before.events, 37, "one event per line of the 8-tile grid over 300 tiles");
    // Nine borders; each cell left and entered tells two frames.
    assert_eq!(after.frames - before.frames, 18);
    assert!(after.scheduled <= 1);
}

#[test]
fn walking_to_and_fro_along_a_border_does_not_flap() {
    let mut world = world(1);
    // The radius of 40 tiles reaches the next cells from x = 152 on.
    spawn(&mut world, 0, 1, tile(151, 100), true);
    world.tick(0);
    let (mut vision, mut watch) = (0, 0);
    let mut now = 0;
    for round in 0..200 {
        let place = world.get(ObjectId(1)).expect("it is here").place(now);
        world.walk(now, ObjectId(1), place, tile(if round % 2 == 0 { 154 } else { 149 }, 100), 1_024).expect("a way");
        for _ in 0..30 {
            now += 50;
            let out = world.tick(now);
            vision += out.vision.len();
            watch += out.watch.len() + out.unwatch.len();
        }
    }
    assert!(vision <= 1, "the view changed {vision} times");
    assert!(watch <= 8, "{watch} cells came or went");
}

#[test]
fn what_the_node_sees_is_the_counted_union_of_what_its_objects_see() {
    let mut world = world(1);
    spawn(&mut world, 0, 1, tile(100, 100), true);
    spawn(&mut world, 0, 2, tile(110, 100), true);
    let out = world.tick(0);
    assert_eq!(out.vision.iter().map(|it| it.object.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(out.watch, world.seen_cells());
    let all = out.watch.len();
    world.watch_cells([Cell::new(ISLAND, 15, 15), Cell::new(ISLAND, 3, 3)]);
    world.remove(10, ObjectId(1));
    let out = world.tick(50);
    assert_eq!(out.watch, [Cell::new(ISLAND, 15, 15)]);
    let sight = world.get(ObjectId(2)).and_then(Real::sight).expect("it sees");
    assert_eq!(world.seen_cells().len(), sight.cells().count() + 1);
    assert_eq!(out.unwatch.len(), all - sight.cells().count());
    world.remove(60, ObjectId(2));
    world.unwatch_cells([Cell::new(ISLAND, 15, 15)]);
    world.tick(100);
    assert_eq!(world.seen_cells(), [Cell::new(ISLAND, 3, 3)], "watched, whoever else sees it");
}

#[test]
fn refusals_say_why_and_carry_the_true_motion() {
    let mut world = world(1);
    let spawn_at = |world: &mut World<Creature>, id, epoch, island, place| {
        world.spawn(0, ObjectId(id), Epoch(epoch), IslandId(island), place, creature(1), true)
    };
    assert_eq!(spawn_at(&mut world, 1, 1, 8, tile(1, 1)), Err(SpawnRefusal::UnknownIsland));
    assert_eq!(spawn_at(&mut world, 1, 1, 7, tile(512, 1)), Err(SpawnRefusal::OutsideIsland));
    assert_eq!(spawn_at(&mut world, 1, 1, 7, Place::new(-1, 5)), Err(SpawnRefusal::OutsideIsland));
    assert_eq!(spawn_at(&mut world, u64::MAX, 1, 7, tile(1, 1)), Err(SpawnRefusal::Range));
    assert_eq!(spawn_at(&mut world, 1, 1, 7, tile(1, 1)), Ok(()));
    assert_eq!(spawn_at(&mut world, 1, 2, 7, tile(1, 1)), Err(SpawnRefusal::AlreadyReal));
    let id = ObjectId(1);
    let motion = world.get(id).expect("it is here").motion();
    let mut walk = |from, to, speed| world.walk(0, id, from, to, speed);
    assert_eq!(walk(tile(2, 2), tile(9, 9), 256), Err(WalkRefusal::OutOfPlace { motion }));
    assert_eq!(walk(tile(1, 1), tile(9, 9), 0), Err(WalkRefusal::BadSpeed));
    assert_eq!(walk(tile(1, 1), tile(9, 9), i32::MAX), Err(WalkRefusal::BadSpeed));
    assert_eq!(walk(Place::new(i32::MIN, i32::MAX), tile(9, 9), 256), Err(WalkRefusal::OutOfPlace { motion }));
    assert!(walk(tile(1, 1).offset(200, 100), tile(9, 9), 256).is_ok_and(|motion| motion.from == tile(1, 1)));
    assert_eq!(world.walk(0, ObjectId(2), tile(1, 1), tile(1, 1), 1), Err(WalkRefusal::Unknown));
    assert_eq!(world.teleport(0, ObjectId(2), ISLAND, tile(1, 1)), Err(SpawnRefusal::Unknown));
    assert_eq!((world.stop(0, ObjectId(2)), world.remove(0, ObjectId(2)).is_none()), (None, true));
    let stopped = world.stop(500, id).expect("it is here");
    assert!(!stopped.is_moving(500) && stopped.from != tile(1, 1));
}

#[test]
fn a_sequence_number_of_a_cell_never_comes_again() {
    let mut world = world(1);
    let cell = tile(5, 5).cell(ISLAND).expect("a cell");
    let mut last = 0;
    let mut now = 10_000;
    world.tick(now);
    for round in 0..20u64 {
        let answer = world.answer_ask(&[cell]);
        assert_eq!(content(&answer[0]), (Header { seq: last, ..content(&answer[0]).0 }, Content::Keyframe(vec![])));
        world.spawn(now, ObjectId(1), Epoch(round), ISLAND, tile(5, 5), creature(1), false).expect("a free place");
        for tick in 0..50 {
            world.change(now, ObjectId(1), |body| body.hue += 1);
            if tick == 49 {
                world.remove(now, ObjectId(1));
            }
            let out = world.tick(now + tick);
            let (header, _) = content(&out.frames[0].bytes);
            let is_first = last == 0;
            assert_eq!((header.is_keyframe, header.seq), (is_first, if is_first { now } else { last + 1 }));
            last = header.seq;
        }
        now += if round % 2 == 0 { 100 } else { 200_000 };
        world.tick(now);
        assert_eq!(world.stats().cells, usize::from(round % 2 == 0), "of cells that are empty for long little is kept");
    }
    assert!(world.remove_island(ISLAND));
    assert_eq!(content(&world.answer_ask(&[cell])[0]).0.seq, 0);
}

#[test]
fn outdated_events_do_not_pile_up() {
    let mut world = world(1);
    spawn(&mut world, 0, 1, tile(100, 100), true);
    for step in 0..100_000u64 {
        // So slow that the crossing lies half an hour ahead.
        let _ = world.walk(step, ObjectId(1), tile(100, 100), tile(200, 100), 1);
        if step % 50 == 0 {
            world.tick(step);
        }
    }
    assert!(world.stats().scheduled < 1_200, "{} events", world.stats().scheduled);
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let run = |seed: u64| {
        let mut world = world(1);
        let mut dice = Dice::new(seed);
        let mut outputs = Vec::new();
        for tick in 0..200u64 {
            let now = tick * 50;
            for _ in 0..10 {
                let id = ObjectId(dice.below(60));
                let place = tile(dice.below(512) as i32, dice.below(512) as i32);
                match dice.below(6) {
                    0 => drop(world.spawn(now, id, Epoch(tick), ISLAND, place, creature(3), dice.chance(50))),
                    1 => drop(world.remove(now, id)),
                    2 => drop(world.teleport(now, id, ISLAND, place)),
                    3 => drop(world.change(now, id, |body| body.hue += 1)),
                    _ => {
                        let from = world.get(id).map_or(place, |real| real.place(now));
                        let _ = world.walk(now, id, from, place, 2_000);
                    }
                }
            }
            outputs.push(world.tick(now));
            world.check();
        }
        (outputs, world.trace_hash())
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert!(first == again, "the outputs differ");
    assert_ne!(first.1, other.1);
}

#[test]
fn a_walk_around_what_is_in_the_way_stops_before_it_and_others_walk_through() {
    let mut world = world(1);
    spawn(&mut world, 0, 1, tile(1, 1), false);
    let door: crate::ground::Blocked = [crate::geometry::Tile::new(4, 1)].into_iter().collect();
    let stopped = world.walk_around(0, ObjectId(1), &door, tile(9, 1), 512).expect("some of the way");
    assert_eq!(stopped.end().tile(), Some((3, 1).into()));
    let through = world.walk(0, ObjectId(1), tile(1, 1), tile(9, 1), 512).expect("the land is open");
    assert_eq!(through.end().tile(), Some((9, 1).into()));
    let refused =
        |world: &mut World<Creature>, id, speed| world.walk_around(9_000, ObjectId(id), &door, tile(1, 1), speed);
    assert_eq!(refused(&mut world, 1, 0), Err(WalkRefusal::BadSpeed));
    assert_eq!(refused(&mut world, 7, 512), Err(WalkRefusal::Unknown));
}
