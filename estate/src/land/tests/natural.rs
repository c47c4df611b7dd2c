//! Natural objects that are touched, used up, and grow again.

use cartographer::geometry::{ObjectId, Tile};
use futures_util::future::join_all;

use super::{ANN, BOB, ISLAND, Meadow, NOW_S, World, chunk, code, price};
use crate::land::nature::{Found, Gathering, Growth, Nature, SORT, gather, restore, standing};
use crate::land::{By, works};
use crate::transaction::{OperationId, TransactionError};

const GROWTH: Growth = Growth { strokes: 3, regrow_s: 10 };

fn pine(left: u32, since_s: u64) -> Nature {
    Nature { natural: Meadow::TREE_NUMBER, name: "pine".to_owned(), left, since_s }
}

impl World {
    async fn gather(&self, op: u128, by: By, id: u64, now_s: u64) -> Result<(), TransactionError> {
        self.gather_at(op, by, id, Meadow::TREE, now_s).await
    }

    async fn gather_at(&self, op: u128, by: By, id: u64, tile: Tile, now_s: u64) -> Result<(), TransactionError> {
        let (natural, name) = (Meadow::TREE_NUMBER, "pine".to_owned());
        let gathering = Gathering { id: ObjectId(id), island: ISLAND, tile, natural, name, growth: GROWTH, now_s };
        gather(&self.node, &Meadow, OperationId(op), by, &gathering, &[price(1)]).await
    }

    async fn found(&self) -> Found {
        standing(&self.other, &Meadow, ISLAND, Meadow::TREE).await.expect("read")
    }
}

#[test]
fn what_is_left_is_a_function_of_time() {
    for (left, since_s, now_s, wanted) in [
        (0, 100, 100, (0, 100)),
        (0, 100, 109, (0, 100)),
        (0, 100, 110, (1, 110)),
        (0, 100, 125, (2, 120)),
        (0, 100, 130, (3, 130)),
        (0, 100, 999, (3, 999)),
        (1, 100, 119, (2, 110)),
        (3, 100, 100, (3, 100)),
        (9, 100, 101, (3, 101)),
        // A clock that is behind.
        (1, 100, 50, (1, 100)),
    ] {
        let now = pine(left, since_s).at(GROWTH, now_s);
        assert_eq!((now.left, now.since_s), wanted, "{left} since {since_s} at {now_s}");
    }
    assert_eq!(pine(1, 100).whole_at_s(GROWTH), 120);
    assert_eq!(pine(0, 100).struck(GROWTH, 105), None);
    assert_eq!(pine(0, 100).struck(GROWTH, 115), Some(pine(0, 110)), "what had begun to grow goes on");
    assert_eq!(pine(2, 100).struck(GROWTH, 500), Some(pine(2, 500)), "a whole one begins to grow now");
    let odd = Growth { strokes: 0, regrow_s: 0 };
    assert_eq!(pine(0, 100).struck(odd, 500), None);
    assert_eq!(pine(u32::MAX, u64::MAX).at(odd, 0).left, 0);
}

#[tokio::test(start_paused = true)]
async fn a_tree_is_felled_stroke_by_stroke_grows_again_and_leaves_no_document() {
    let world = World::new();
    world.fill_purse(20).await;
    assert_eq!(world.found().await, Found::Natural(Meadow::TREE_NUMBER));
    for (op, wanted) in [(1, ""), (1, ""), (2, ""), (3, ""), (3, ""), (4, "missing"), (1, "")] {
        assert_eq!(code(world.gather(op, ANN, 10, NOW_S).await), wanted, "operation {op}");
    }
    assert_eq!(world.coins(), 17, "each stroke once");
    assert_eq!(world.found().await, Found::Touched(ObjectId(10), pine(0, NOW_S)));
    let object = works::object(&world.other, ObjectId(10)).await.expect("read").expect("it stands");
    assert_eq!((object.kind.as_str(), object.builder), (SORT, ObjectId(0)));
    assert_eq!(code(works::demolish(&world.node, OperationId(5), ANN, ObjectId(10), &[]).await), "owned");
    assert_eq!(code(world.build(6, ANN, 11, super::rectangle(5, 5, 1, 1)).await), "occupied");
    // One stroke has grown.
    assert_eq!(code(world.gather(7, BOB, 12, NOW_S + 10).await), "");
    assert_eq!(code(world.gather(8, BOB, 13, NOW_S + 10).await), "missing");
    // It is put back as it is, by whoever has seen it so.
    let (whole, op) = (pine(0, NOW_S + 10), OperationId(9));
    assert_eq!(code(restore(&world.node, op, ObjectId(10), &pine(0, NOW_S), &[]).await), "changed");
    assert_eq!(code(restore(&world.node, op, ObjectId(10), &whole, &[]).await), "");
    assert_eq!(code(restore(&world.other, op, ObjectId(10), &whole, &[]).await), "");
    assert_eq!(code(restore(&world.other, OperationId(10), ObjectId(10), &whole, &[]).await), "missing");
    assert_eq!(world.found().await, Found::Natural(Meadow::TREE_NUMBER));
    assert_eq!(code(world.gather(3, ANN, 10, NOW_S).await), "", "asked again, long after");
    assert_eq!(world.coins(), 16);
    assert_eq!(world.settled().await, ["purse/1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_gathered_where_one_may_not_or_nothing_grows() {
    let world = World::new();
    world.fill_purse(2).await;
    world.claim(1, 1, 500, chunk(0, 0)).await.expect("claim");
    assert_eq!(code(world.gather(2, BOB, 10, NOW_S).await), "owned");
    assert_eq!(code(world.gather_at(3, BOB, 10, Tile::new(20, 20), NOW_S).await), "missing");
    assert_eq!(code(world.gather_at(4, BOB, 10, Tile::new(200, 0), NOW_S).await), "outside");
    assert_eq!(code(world.gather(5, ANN, 0, NOW_S).await), "malformed");
    assert_eq!(code(world.gather(6, ANN, 10, NOW_S).await), "", "the owner may");
    assert_eq!(code(world.gather(7, BOB, 11, NOW_S).await), "owned", "touched or not");
    assert_eq!(code(world.gather(8, ANN, 11, NOW_S).await), "");
    assert_eq!(code(world.gather(9, ANN, 11, NOW_S).await), "too_little", "what it costs cannot be paid");
    assert_eq!(world.found().await, Found::Touched(ObjectId(10), pine(1, NOW_S)));
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn of_many_who_gather_at_once_as_many_have_something_as_there_were_strokes() {
    for seed in 0..20 {
        let world = World::seeded(seed);
        world.fill_purse(20).await;
        let all = (0..8_u64).map(|n| world.gather(10 + u128::from(n), By::Player(ObjectId(1 + n)), 20 + n, NOW_S));
        let answers: Vec<String> = join_all(all).await.into_iter().map(code).collect();
        assert_eq!(answers.iter().filter(|code| code.is_empty()).count(), 3, "seed {seed}: {answers:?}");
        assert_eq!(answers.iter().filter(|code| *code == "missing").count(), 5, "seed {seed}: {answers:?}");
        assert_eq!(world.coins(), 17);
        assert!(matches!(world.found().await, Found::Touched(_, nature) if nature == pine(0, NOW_S)));
        world.settled().await;
    }
}
