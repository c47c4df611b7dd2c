//! Documents that a hand has broken: clear errors, and they are left as they are.

use cartographer::geometry::ObjectId;

use super::{ANN, Meadow, World, chunk, code, overwrite, rectangle};
use crate::document::{DocumentError, peek};
use crate::land::deed::{DeedDocument, Stand, chunk_of};
use crate::land::works::{self, demolish, move_to};
use crate::land::{Rotation, claims};
use crate::transaction::{OperationId, TransactionError};

#[tokio::test(start_paused = true)]
async fn a_broken_deed_is_named_with_what_is_wrong_and_left_as_it_is() {
    for (bad, wanted) in [
        (r#"{"v":1,"island":7,"x":2,"y":1,"stands":{}}"#, "it says that it is the deed of chunk 7:2,1"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{"256":{"natural":1}}}"#, "malformed"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{"a":{"natural":1}}}"#, "malformed"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{"5":{"house":1}}}"#, "unknown variant `house`"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{"5":{"object":-3}}}"#, "malformed"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{},"holding":0}"#, "0 is no number of a holding"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{},"holding":18446744073709551615}"#, "no number of a holding"),
        (r#"{"v":1,"island":7,"x":1,"stands":{}}"#, "missing field `y`"),
        (r#"{"v":1,"island":7,"x":1,"y":1,"stands":{},"marks":{"intent":7}}"#, "malformed"),
        (r#"{"v":2,"island":7,"x":1,"y":1,"stands":{}}"#, "has version 2; this program knows up to 1: upgrade it"),
        ("not a deed", "malformed"),
    ] {
        let world = World::new();
        world.put("deed/7/1/1", bad).await;
        let before = world.documents()["deed/7/1/1"].clone();
        let mut errors = vec![
            world.build(1, ANN, 10, rectangle(20, 20, 1, 1)).await.expect_err(bad),
            world.build(2, ANN, 11, rectangle(30, 30, 4, 4)).await.expect_err(bad),
            world.claim(3, 1, 500, chunk(1, 1)).await.expect_err(bad),
            works::deed(&world.node, &Meadow, chunk(1, 1)).await.expect_err(bad),
        ];
        errors.push(claims::whose(&world.node, chunk(1, 1)).await.expect_err(bad));
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("document deed/7/1/1") && text.contains(wanted), "{bad}: {text}");
        }
        assert_eq!(world.documents()["deed/7/1/1"], before, "{bad}");
        // Beside it the world goes on.
        assert_eq!(code(world.build(4, ANN, 12, rectangle(40, 20, 1, 1)).await), "", "{bad}");
        assert!(world.documents().keys().all(|key| !key.starts_with("object/10") && !key.starts_with("object/11")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_object_or_holding_is_named_too() {
    let world = World::new();
    world.put("object/10", r#"{"v":1,"id":11,"kind":"hut","island":7,"footprint":{"origin":[1,1],"width":1,"height":1},"builder":1,"made_s":0}"#).await;
    world.put("object/12", r#"{"v":1,"id":12,"kind":"hut","island":7,"footprint":{"origin":[1,1],"width":0,"height":1},"builder":1,"made_s":0}"#).await;
    world
        .put("holding/500", r#"{"v":1,"id":501,"island":7,"owner":1,"chunks":[[1,1]],"paid_until_s":0,"since_s":0}"#)
        .await;
    world.put("deed/7/1/1", r#"{"v":1,"island":7,"x":1,"y":1,"stands":{},"holding":500}"#).await;
    let text = |error: TransactionError| {
        assert!(matches!(error, TransactionError::Document(DocumentError::Malformed { .. })), "{error:?}");
        error.to_string()
    };
    let told = text(demolish(&world.node, OperationId(1), ANN, ObjectId(10), &[]).await.expect_err("10"));
    assert_eq!(told, "document object/10 is malformed: it says that it is object 11");
    let told = text(demolish(&world.node, OperationId(1), ANN, ObjectId(12), &[]).await.expect_err("12"));
    assert!(told.starts_with("document object/12 is malformed: a footprint of 0×1 tiles"), "{told}");
    let told = text(world.build(2, ANN, 13, rectangle(20, 20, 1, 1)).await.expect_err("on 500"));
    assert_eq!(told, "document holding/500 is malformed: it says that it is holding 501");
}

#[tokio::test(start_paused = true)]
async fn an_object_on_tiles_that_its_deed_does_not_know_is_neither_taken_down_nor_moved() {
    let world = World::new();
    world.build(1, ANN, 10, rectangle(20, 20, 2, 1)).await.expect("build");
    let mut deed: DeedDocument =
        peek(&world.store, "deed/7/1/1").await.expect("read").map(|kept| kept.document).expect("there");
    let index = crate::land::footprint::index_in_chunk(cartographer::geometry::Tile::new(21, 20));
    deed.stands.insert(index, Stand::Object(ObjectId(99)));
    overwrite(&world, "deed/7/1/1", &deed).await;
    let before = (world.text("deed/7/1/1"), world.text("object/10"));
    assert_eq!(code(demolish(&world.node, OperationId(2), ANN, ObjectId(10), &[]).await), "disagrees");
    let to = (cartographer::geometry::Tile::new(24, 20), Rotation::R0);
    assert_eq!(code(move_to(&world.node, &Meadow, OperationId(3), ANN, ObjectId(10), to, &[]).await), "disagrees");
    assert_eq!((world.text("deed/7/1/1"), world.text("object/10")), before);
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_program_has_added_to_a_deed_is_kept_and_keeps_it() {
    let world = World::new();
    world.put("deed/7/1/1", r#"{"v":1,"island":7,"x":1,"y":1,"stands":{},"weather":"rain"}"#).await;
    world.build(1, ANN, 10, rectangle(20, 20, 2, 1)).await.expect("build");
    demolish(&world.node, OperationId(2), ANN, ObjectId(10), &[]).await.expect("demolish");
    assert_eq!(world.settled().await, ["deed/7/1/1"]);
    assert!(world.text("deed/7/1/1").contains(r#""weather":"rain""#));
}

#[test]
fn only_one_way_of_writing_names_a_deed() {
    assert_eq!(chunk_of("deed/7/1/2"), Some(chunk(1, 2)));
    for bad in [
        "deed/7/1",
        "deed/7/1/2/3",
        "deed/7/01/2",
        "deed/7/+1/2",
        "deed/7/1/2 ",
        "deeds/7/1/2",
        "deed/7/1/65536",
        "",
        "deed/-7/1/2",
    ] {
        assert_eq!(chunk_of(bad), None, "{bad}");
    }
}
