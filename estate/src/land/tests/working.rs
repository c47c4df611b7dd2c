//! Building, demolishing, moving, gathering.

use cartographer::geometry::{ObjectId, Tile};
use futures_util::future::join_all;
use serde_json::json;

use super::{ANN, BOB, ISLAND, Meadow, World, chunk, code, hut, price, rectangle};
use crate::land::deed::Stand;
use crate::land::footprint::{Footprint, Rotation};
use crate::land::works::{self, change, clear_natural, demolish, move_to, restore_natural};
use crate::land::{By, deed};
use crate::transaction::OperationId;

#[tokio::test(start_paused = true)]
async fn what_is_built_stands_in_every_chunk_it_touches_and_leaves_nothing_when_it_is_gone() {
    let world = World::new();
    for (n, (x, y)) in [(0, 0), (14, 0), (15, 15), (16, 31), (184, 134)].into_iter().enumerate() {
        let id = 10 + n as u64;
        let footprint = rectangle(x, y, 4, 4);
        assert_eq!(code(world.build(id.into(), ANN, id, footprint.clone()).await), "");
        let object = works::object(&world.other, ObjectId(id)).await.expect("read").expect("it stands");
        assert_eq!((object.kind.as_str(), object.footprint.clone()), ("hut", footprint));
        for tile in object.footprint.tiles() {
            let deed = works::deed(&world.other, &Meadow, tile.chunk(ISLAND)).await.expect("deed");
            let index = crate::land::footprint::index_in_chunk(tile);
            assert_eq!(deed.stands[&index], Stand::Object(ObjectId(id)));
        }
        assert_eq!(code(demolish(&world.other, OperationId(100 + n as u128), ANN, ObjectId(id), &[]).await), "");
        assert_eq!(works::object(&world.node, ObjectId(id)).await.expect("read"), None);
    }
    assert_eq!(world.settled().await, Vec::<String>::new(), "untouched land has no documents");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_built_where_it_cannot_stand() {
    let world = World::new();
    world.build(1, ANN, 10, rectangle(30, 30, 4, 4)).await.expect("the first");
    let before = world.text("deed/7/1/1");
    for (footprint, wanted) in [
        (rectangle(199, 0, 2, 1), "outside"),
        (rectangle(0, 149, 1, 2), "outside"),
        (rectangle(4000, 4000, 1, 1), "outside"),
        (rectangle(4095, 4095, 16, 16), "outside"),
        (rectangle(60, 70, 5, 1), "water"),
        (Footprint::new(Meadow::LAKE, 1, 1, Rotation::R0).expect("footprint"), "water"),
        (rectangle(4, 4, 2, 2), "occupied"),
        (rectangle(33, 33, 1, 1), "occupied"),
        (rectangle(20, 20, 16, 16), "occupied"),
        (rectangle(30, 30, 4, 4), "occupied"),
    ] {
        assert_eq!(code(world.build(2, ANN, 11, footprint.clone()).await), wanted, "{footprint:?}");
    }
    let mut elsewhere = hut(11, rectangle(0, 0, 1, 1));
    elsewhere.island.0 = 8;
    assert_eq!(code(works::build(&world.node, &Meadow, OperationId(2), ANN, &elsewhere, &[]).await), "outside");
    for bad in ["", "Hut", "hut 2", "a-very-long-name-of-a-very-long-sort-of-hut", "hütte"] {
        let building = works::Building { kind: bad.to_owned(), ..hut(11, rectangle(0, 0, 1, 1)) };
        assert_eq!(code(works::build(&world.node, &Meadow, OperationId(2), ANN, &building, &[]).await), "malformed");
    }
    for bad in [0, 1 << 53, u64::MAX] {
        assert_eq!(code(world.build(2, ANN, bad, rectangle(0, 0, 1, 1)).await), "malformed");
        assert_eq!(code(world.build(2, By::Player(ObjectId(bad)), 11, rectangle(0, 0, 1, 1)).await), "malformed");
    }
    assert_eq!(code(world.build(2, ANN, 10, rectangle(50, 50, 1, 1)).await), "taken");
    assert_eq!(world.text("deed/7/1/1"), before, "what stands there stays as it is");
    // A mask leaves room for what stands within its rectangle; the gap of the first hut's neighbour is free.
    let around = rectangle(29, 29, 6, 6).masked(vec![63, 33, 33, 33, 33, 63]).expect("mask");
    assert_eq!(code(world.build(2, ANN, 11, around).await), "");
    let left = world.settled().await;
    assert_eq!(left, ["deed/7/1/1", "deed/7/1/2", "deed/7/2/1", "deed/7/2/2", "object/10", "object/11"]);
}

#[tokio::test(start_paused = true)]
async fn on_somebody_elses_land_nothing_changes_and_on_ones_own_all_does() {
    let world = World::new();
    // Bob's hut stands across a border; then Ann claims the chunk on one side of it.
    world.build(1, BOB, 10, rectangle(46, 5, 4, 1)).await.expect("on free land");
    world.claim(2, 1, 500, chunk(2, 0)).await.expect("claim");
    assert_eq!(code(world.build(3, BOB, 11, rectangle(40, 0, 1, 1)).await), "owned");
    assert_eq!(code(world.build(4, BOB, 11, rectangle(31, 3, 2, 1)).await), "owned");
    assert_eq!(code(demolish(&world.node, OperationId(5), BOB, ObjectId(10), &[]).await), "owned");
    let to = (Tile::new(60, 5), Rotation::R0);
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(6), BOB, ObjectId(10), to, &[]).await), "owned");
    let tree = (ISLAND, Tile::new(36, 40));
    world.claim(7, 1, 501, tree.1.chunk(ISLAND)).await.expect("claim of a chunk with a tree");
    assert_eq!(code(clear_natural(&world.node, &Meadow, OperationId(8), BOB, tree, 12, &[]).await), "owned");
    // The owner may do all of it, with others' things too; the world as well.
    assert_eq!(code(world.build(9, ANN, 11, rectangle(40, 0, 1, 1)).await), "");
    let hut = works::object(&world.other, ObjectId(11)).await.expect("read").expect("it stands");
    assert_eq!(hut.holding, Some(ObjectId(500)));
    let to = (Tile::new(46, 6), Rotation::R0);
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(10), ANN, ObjectId(10), to, &[]).await), "");
    assert_eq!(code(demolish(&world.node, OperationId(11), ANN, ObjectId(10), &[]).await), "");
    assert_eq!(code(clear_natural(&world.node, &Meadow, OperationId(12), ANN, tree, 12, &[]).await), "");
    assert_eq!(code(world.build(13, By::World, 12, rectangle(41, 0, 1, 1)).await), "");
    assert_eq!(code(demolish(&world.node, OperationId(14), By::World, ObjectId(11), &[]).await), "");
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn on_free_land_only_the_builder_takes_down_and_moves() {
    let world = World::new();
    world.build(1, ANN, 10, rectangle(20, 20, 2, 2)).await.expect("build");
    let to = (Tile::new(30, 20), Rotation::R0);
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(2), BOB, ObjectId(10), to, &[]).await), "owned");
    assert_eq!(code(demolish(&world.node, OperationId(3), BOB, ObjectId(10), &[]).await), "owned");
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(4), ANN, ObjectId(10), to, &[]).await), "");
    assert_eq!(code(demolish(&world.node, OperationId(5), ANN, ObjectId(10), &[]).await), "");
    assert_eq!(code(demolish(&world.node, OperationId(6), ANN, ObjectId(10), &[]).await), "missing");
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(7), ANN, ObjectId(10), to, &[]).await), "missing");
    assert_eq!(code(world.build(8, ANN, 10, rectangle(20, 20, 2, 2)).await), "taken", "an id is used once");
    assert_eq!(world.settled().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_is_refused_leaves_everything_as_it_was() {
    let world = World::new();
    world.fill_purse(10).await;
    let build = |op, coins: i64| {
        let (node, hut) = (&world.node, hut(10, rectangle(30, 30, 4, 4)));
        async move { works::build(node, &Meadow, OperationId(op), ANN, &hut, &[price(coins)]).await }
    };
    assert_eq!(code(build(1, 11).await), "too_little");
    assert_eq!(world.settled().await, ["purse/1"]);
    assert_eq!(code(build(1, 7).await), "", "asked again when it can be paid");
    assert_eq!(world.coins(), 3);
    let to = (Tile::new(33, 33), Rotation::R0);
    let moved = move_to(&world.node, &Meadow, OperationId(2), ANN, ObjectId(10), to, &[price(4)]).await;
    assert_eq!(code(moved), "too_little");
    assert_eq!(code(demolish(&world.node, OperationId(3), ANN, ObjectId(10), &[price(4)]).await), "too_little");
    let tree = (ISLAND, Meadow::TREE);
    assert_eq!(
        code(clear_natural(&world.node, &Meadow, OperationId(4), ANN, tree, 12, &[price(4)]).await),
        "too_little"
    );
    assert_eq!(world.coins(), 3);
    assert_eq!(code(demolish(&world.node, OperationId(5), ANN, ObjectId(10), &[price(-2)]).await), "");
    assert_eq!(world.coins(), 5, "a cost may be a gain");
    assert_eq!(world.settled().await, ["purse/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_thing_moves_onto_tiles_on_which_it_stands_itself() {
    let world = World::new();
    world.build(1, ANN, 10, rectangle(14, 14, 3, 2)).await.expect("build");
    world.build(2, ANN, 11, rectangle(20, 14, 1, 1)).await.expect("a neighbour");
    for (n, (x, y, rotation)) in
        [(15, 14, Rotation::R0), (15, 14, Rotation::R90), (15, 15, Rotation::R270), (15, 15, Rotation::R270)]
            .into_iter()
            .enumerate()
    {
        let to = (Tile::new(x, y), rotation);
        let op = OperationId(10 + n as u128);
        assert_eq!(code(move_to(&world.node, &Meadow, op, ANN, ObjectId(10), to, &[]).await), "", "{to:?}");
    }
    let far = (Tile::new(180, 130), Rotation::R0);
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(20), ANN, ObjectId(10), far, &[]).await), "");
    for (op, to, wanted) in [
        (21, (Tile::new(19, 14), Rotation::R0), "occupied"),
        (22, (Tile::new(199, 14), Rotation::R0), "outside"),
        (23, (Tile::new(4096, 0), Rotation::R0), "outside"),
        (24, (Tile::new(63, 64), Rotation::R90), "water"),
    ] {
        assert_eq!(code(move_to(&world.node, &Meadow, OperationId(op), ANN, ObjectId(10), to, &[]).await), wanted);
    }
    assert_eq!(world.settled().await, ["deed/7/1/0", "deed/7/11/8", "object/10", "object/11"]);
}

#[tokio::test(start_paused = true)]
async fn of_many_who_build_in_one_place_at_once_exactly_one_does() {
    for (seed, many) in [2, 3, 5, 16, 2, 3, 5, 16].into_iter().enumerate() {
        let world = World::seeded(seed as u64);
        let built = (0..many).map(|n| {
            let node = if n % 2 == 0 { &world.node } else { &world.other };
            // All of them want the tile (47, 47), where four chunks meet, from different sides.
            let (x, y) = (47 - n as u16 % 2, 47 - n as u16 % 3);
            let hut = hut(100 + n, rectangle(x, y, 2, 3));
            async move { works::build(node, &Meadow, OperationId(n.into()), ANN, &hut, &[]).await }
        });
        let answers: Vec<String> = join_all(built).await.into_iter().map(code).collect();
        assert_eq!(answers.iter().filter(|code| code.is_empty()).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|code| *code == "occupied").count(), many as usize - 1, "{answers:?}");
        let left = world.settled().await;
        assert_eq!(left.iter().filter(|key| key.starts_with("object/")).count(), 1, "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn neighbours_in_one_chunk_build_at_once_and_all_stand() {
    let world = World::new();
    let built = (0..32).map(|n| {
        let node = if n % 2 == 0 { &world.node } else { &world.other };
        let hut = hut(100 + n, rectangle(16 + n as u16 % 8, 16 + n as u16 / 8, 1, 1));
        async move { works::build(node, &Meadow, OperationId(n.into()), ANN, &hut, &[]).await }
    });
    let answers: Vec<String> = join_all(built).await.into_iter().map(code).collect();
    assert!(answers.iter().all(String::is_empty), "{answers:?}");
    assert_eq!(world.settled().await.len(), 33);
}

#[tokio::test(start_paused = true)]
async fn an_operation_asked_for_again_has_the_same_answer_though_the_world_has_changed_since() {
    let world = World::new();
    world.fill_purse(100).await;
    let costs = [price(1)];
    let footprint = rectangle(30, 30, 4, 4);
    let build = || async {
        let hut = hut(10, footprint.clone());
        code(works::build(&world.other, &Meadow, OperationId(1), ANN, &hut, &costs).await)
    };
    let to = (Tile::new(32, 32), Rotation::R90);
    let shift = || async { code(move_to(&world.other, &Meadow, OperationId(2), ANN, ObjectId(10), to, &costs).await) };
    let raze = || async { code(demolish(&world.other, OperationId(3), ANN, ObjectId(10), &costs).await) };
    let tree = (ISLAND, Meadow::TREE);
    let fell = || async { code(clear_natural(&world.other, &Meadow, OperationId(4), ANN, tree, 12, &costs).await) };
    let grow = || async { code(restore_natural(&world.other, &Meadow, OperationId(5), ANN, tree, 12, &costs).await) };

    assert_eq!([build().await, build().await], ["", ""]);
    assert_eq!([shift().await, shift().await, build().await], ["", "", ""]);
    // It is elsewhere by now, and then it is gone.
    let away = (Tile::new(120, 100), Rotation::R0);
    move_to(&world.node, &Meadow, OperationId(6), ANN, ObjectId(10), away, &[]).await.expect("away");
    assert_eq!([shift().await, build().await], ["", ""]);
    assert_eq!([raze().await, raze().await, shift().await, build().await], ["", "", "", ""]);
    assert_eq!([fell().await, fell().await], ["", ""]);
    assert_eq!([grow().await, grow().await, fell().await], ["", "", ""]);
    // Somebody else has claimed and built there since.
    for (op, chunk) in [(20, chunk(1, 1)), (21, chunk(2, 2)), (22, chunk(0, 0)), (23, chunk(7, 6))] {
        world.claim(op, 2, op as u64, chunk).await.expect("claim");
    }
    world.build(30, BOB, 40, rectangle(32, 32, 1, 1)).await.expect("Bob builds");
    assert_eq!([build().await, shift().await, raze().await, fell().await, grow().await], ["", "", "", "", ""]);
    assert_eq!(world.coins(), 95, "each was paid for once");
    // The same id for something else is refused.
    assert_eq!(code(world.build(1, ANN, 11, rectangle(50, 50, 1, 1)).await), "misused");
    let other = (Tile::new(32, 33), Rotation::R90);
    world.build(31, ANN, 41, rectangle(48, 48, 1, 1)).await.expect("another");
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(2), ANN, ObjectId(41), other, &[]).await), "misused");
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_natural_object_goes_once_and_comes_back_as_it_was() {
    let world = World::new();
    let tree = (ISLAND, Meadow::TREE);
    assert_eq!(code(clear_natural(&world.node, &Meadow, OperationId(1), ANN, tree, 11, &[]).await), "missing");
    let felled = (0..4).map(|n| clear_natural(&world.node, &Meadow, OperationId(2 + n), ANN, tree, 12, &[]));
    let answers: Vec<String> = join_all(felled).await.into_iter().map(code).collect();
    assert_eq!(answers.iter().filter(|code| code.is_empty()).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|code| *code == "missing").count(), 3, "{answers:?}");
    assert!(world.documents().contains_key("deed/7/0/0"));
    world.build(10, ANN, 10, rectangle(5, 5, 1, 1)).await.expect("in its place");
    assert_eq!(code(restore_natural(&world.node, &Meadow, OperationId(11), ANN, tree, 12, &[]).await), "occupied");
    demolish(&world.node, OperationId(12), ANN, ObjectId(10), &[]).await.expect("demolish");
    assert_eq!(code(restore_natural(&world.node, &Meadow, OperationId(13), ANN, tree, 0, &[]).await), "malformed");
    let off = (ISLAND, Tile::new(200, 5));
    assert_eq!(code(restore_natural(&world.node, &Meadow, OperationId(14), ANN, off, 12, &[]).await), "outside");
    assert_eq!(world.settled().await, ["deed/7/0/0"], "a felled tree is remembered");
    assert_eq!(code(restore_natural(&world.node, &Meadow, OperationId(15), By::World, tree, 12, &[]).await), "");
    assert_eq!(world.settled().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_the_game_keeps_about_a_thing_changes_by_itself_and_is_bounded() {
    let world = World::new();
    world.build(1, ANN, 10, rectangle(20, 20, 1, 1)).await.expect("build");
    let set = |value: serde_json::Value| value.as_object().expect("fields").clone();
    let id = ObjectId(10);
    change(&world.node, OperationId(2), id, set(json!({"wear": 3, "sign": "Ann's"}))).await.expect("change");
    change(&world.node, OperationId(3), id, set(json!({"wear": null, "door": {"open": true}}))).await.expect("change");
    change(&world.node, OperationId(2), id, set(json!({"wear": 3, "sign": "Ann's"}))).await.expect("asked again");
    let data = works::object(&world.other, id).await.expect("read").expect("it stands").data;
    assert_eq!(json!(data), json!({"sign": "Ann's", "door": {"open": true}}));
    let long = set(json!({"sign": "x".repeat(40_000)}));
    assert_eq!(code(change(&world.node, OperationId(4), id, long.clone()).await), "too_large");
    assert_eq!(code(change(&world.node, OperationId(5), ObjectId(11), set(json!({"a": 1}))).await), "missing");
    let building = works::Building { data: long, ..hut(12, rectangle(50, 50, 1, 1)) };
    assert_eq!(code(works::build(&world.node, &Meadow, OperationId(6), ANN, &building, &[]).await), "too_large");
    assert_eq!(world.settled().await, [deed::key(chunk(1, 1)), "object/10".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_back_is_never_written() {
    // A reader of JSON bears 128 levels; each document and each arbiter adds some.
    for (depth, refusal) in [(40, "too_large"), (124, "malformed"), (200, "malformed")] {
        let world = World::new();
        let nested = (0..depth).fold(json!(null), |inner, _| json!([inner]));
        let set = json!({"deep": nested}).as_object().expect("fields").clone();
        let building = works::Building { data: set.clone(), ..hut(7, rectangle(1, 1, 2, 2)) };
        let built = works::build(&world.node, &Meadow, OperationId(1), ANN, &building, &[]).await;
        assert_eq!(code(built), refusal, "{depth}");
        assert_eq!(code(world.build(2, BOB, 8, rectangle(1, 1, 2, 2)).await), "", "{depth}: the place is still free");
        assert_eq!(code(change(&world.node, OperationId(3), ObjectId(8), set).await), refusal, "{depth}");
        assert!(works::object(&world.node, ObjectId(8)).await.expect("readable").is_some());
        world.settled().await;
    }
}
