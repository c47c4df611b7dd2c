//! Footprints: which tiles, which chunks, which ledger.

use std::collections::BTreeSet;

use cartographer::geometry::{MAX_ISLAND_TILES, TILES_PER_CHUNK, Tile};

use super::{ISLAND, chunk, rectangle};
use crate::land::footprint::{CHUNKS, Footprint, Rotation, SIDE_TILES, index_in_chunk, tile_in_chunk};
use crate::land::ledger::{self, SIDE_CHUNKS, STRIDE_CHUNKS};

/// Draws as SplitMix64 does.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// The picture of a footprint: one line for each row of the rectangle around it.
fn picture(footprint: &Footprint) -> String {
    let tiles: BTreeSet<Tile> = footprint.tiles().collect();
    let (width, height) = footprint.size();
    let Tile { x, y } = footprint.origin();
    let row = |dy: u8| -> String {
        let there = |dx: u8| tiles.contains(&Tile::new(x + u16::from(dx), y + u16::from(dy)));
        (0..width).map(|dx| if there(dx) { '#' } else { '.' }).collect()
    };
    (0..height).map(row).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_mask_turns_clockwise_with_its_object_at_every_corner_of_a_chunk() {
    // Three columns, two rows: the upper one full, of the lower one only the first.
    for corner in [(0, 0), (14, 0), (15, 15), (0, 15), (31, 47), (16, 14), (4080, 4080)] {
        let check = |rotation: Rotation, expected: &str| {
            let upright = Footprint::new(Tile::from(corner), 3, 2, rotation).expect("footprint");
            let footprint = upright.masked(vec![0b111, 0b001]).expect("mask");
            assert_eq!(picture(&footprint), expected, "{rotation:?} at {corner:?}");
            let tiles: Vec<Tile> = footprint.tiles().collect();
            let mut by_chunk = footprint.by_chunk(ISLAND);
            for tile in &tiles {
                let indices = by_chunk.get_mut(&tile.chunk(ISLAND)).expect("its chunk");
                let place = indices.iter().position(|index| *index == index_in_chunk(*tile)).expect("its number");
                assert_eq!(tile_in_chunk(tile.chunk(ISLAND), indices.remove(place)), Some(*tile));
            }
            assert!(by_chunk.values().all(Vec::is_empty), "no tile more");
            assert_eq!(tiles.len(), 4);
        };
        check(Rotation::R0, "### #..");
        check(Rotation::R90, "## .# .#");
        check(Rotation::R180, "..# ###");
        check(Rotation::R270, "#. #. ##");
    }
}

#[test]
fn four_turns_by_90_degrees_are_none() {
    let mut draw = Draw(3);
    for _ in 0..2_000 {
        let (width, height) = (1 + draw.below(16) as u8, 1 + draw.below(16) as u8);
        let rows: Vec<u16> = (0..height).map(|_| (draw.below(1 << width)) as u16).collect();
        if rows.iter().all(|row| *row == 0) {
            continue;
        }
        let upright = Footprint::new(Tile::new(100, 200), width, height, Rotation::R0).expect("footprint");
        let upright = upright.masked(rows).expect("mask");
        let mut turned: BTreeSet<(u16, u16)> = upright.tiles().map(|tile| (tile.x - 100, tile.y - 200)).collect();
        let mut tall = u16::from(height);
        for rotation in [Rotation::R90, Rotation::R180, Rotation::R270, Rotation::R0] {
            // A quarter turn clockwise takes the first column, read upwards, to the first row.
            turned = turned.into_iter().map(|(x, y)| (tall - 1 - y, x)).collect();
            let footprint = upright.at(Tile::new(100, 200), rotation).expect("turned");
            let seen: BTreeSet<(u16, u16)> = footprint.tiles().map(|tile| (tile.x - 100, tile.y - 200)).collect();
            assert_eq!(seen, turned, "{width}×{height} by {rotation:?}");
            tall = u16::from(footprint.size().1);
        }
    }
}

#[test]
fn one_ledger_covers_every_footprint_and_none_touches_more_than_two_by_two_chunks() {
    let mut draw = Draw(1);
    let check = |origin: Tile, width: u8, height: u8, rotation: Rotation| {
        let footprint = Footprint::new(origin, width, height, rotation).expect("footprint");
        let chunks = footprint.by_chunk(ISLAND);
        assert!(chunks.len() <= CHUNKS, "{footprint:?}");
        let key = ledger::key(ISLAND, &footprint);
        let numbers: Vec<u16> = key.split('/').skip(2).map(|word| word.parse().expect("a number")).collect();
        for chunk in chunks.keys() {
            for (ledger, chunk) in [(numbers[0], chunk.x), (numbers[1], chunk.y)] {
                let first = ledger * STRIDE_CHUNKS;
                assert!((first..first + SIDE_CHUNKS).contains(&chunk), "{key} does not cover {footprint:?}");
            }
        }
        let (xs, ys): (BTreeSet<u16>, BTreeSet<u16>) = chunks.keys().map(|chunk| (chunk.x, chunk.y)).unzip();
        assert!(xs.len() <= 2 && ys.len() <= 2);
        let tiles: usize = chunks.values().map(Vec::len).sum();
        assert_eq!(tiles, usize::from(width) * usize::from(height));
    };
    for _ in 0..20_000 {
        let origin = Tile::new(draw.below(MAX_ISLAND_TILES.into()) as u16, draw.below(MAX_ISLAND_TILES.into()) as u16);
        let rotation = Rotation::ALL[draw.below(4) as usize];
        check(origin, 1 + draw.below(16) as u8, 1 + draw.below(16) as u8, rotation);
    }
    // Every place within a ledger, at the largest.
    for x in 0..STRIDE_CHUNKS * TILES_PER_CHUNK {
        for y in 0..STRIDE_CHUNKS * TILES_PER_CHUNK {
            check(Tile::new(x, y), SIDE_TILES, SIDE_TILES, Rotation::R0);
        }
    }
    assert_eq!(ledger::key_of_chunk(chunk(5, 3)), "ledger/7/1/1");
}

#[test]
fn two_footprints_that_share_a_chunk_and_different_ledgers_still_meet_in_the_deed() {
    let (left, right) = (rectangle(2 * 16 + 8, 0, 16, 1), rectangle(3 * 16 + 8, 0, 8, 1));
    assert_ne!(ledger::key(ISLAND, &left), ledger::key(ISLAND, &right));
    assert!(left.by_chunk(ISLAND).keys().any(|chunk| right.by_chunk(ISLAND).contains_key(chunk)));
}

#[test]
fn what_is_no_footprint_can_neither_be_made_nor_read() {
    let made = |width, height| Footprint::new(Tile::new(0, 0), width, height, Rotation::R0).map_err(|error| error.code);
    for (width, height) in [(0, 1), (1, 0), (17, 1), (1, 17), (255, 255)] {
        assert_eq!(made(width, height), Err("too_large".to_owned()));
    }
    assert!(made(16, 16).is_ok());
    let far = Footprint::new(Tile::new(MAX_ISLAND_TILES, 0), 1, 1, Rotation::R0).map_err(|error| error.code);
    assert_eq!(far, Err("outside".to_owned()));
    let good = r#"{"origin":[3,4],"width":2,"height":1,"rotation":90,"mask":[1]}"#;
    let footprint: Footprint = serde_json::from_str(good).expect("good");
    assert_eq!(serde_json::to_string(&footprint).expect("text"), good);
    for (bad, wanted) in [
        (r#"{"origin":[3,4],"width":0,"height":1}"#, "a footprint of 0×1 tiles"),
        (r#"{"origin":[3,4],"width":2,"height":300}"#, "invalid value"),
        (r#"{"origin":[3,4],"width":2,"height":1,"rotation":45}"#, "a rotation of 45 degrees"),
        (r#"{"origin":[3,4],"width":2,"height":1,"mask":[0]}"#, "a mask that does not fit"),
        (r#"{"origin":[3,4],"width":2,"height":1,"mask":[4]}"#, "a mask that does not fit"),
        (r#"{"origin":[3,4],"width":2,"height":1,"mask":[1,1]}"#, "a mask that does not fit"),
        (r#"{"origin":[65535,65535],"width":16,"height":16}"#, "lies beyond every island"),
        (r#"{"origin":[-1,4],"width":2,"height":1}"#, "invalid value"),
    ] {
        let error = serde_json::from_str::<Footprint>(bad).expect_err(bad).to_string();
        assert!(error.contains(wanted), "{bad}: {error}");
    }
}
