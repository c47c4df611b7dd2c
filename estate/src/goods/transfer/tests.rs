//! Transfers as anybody would ask for them: what happens, what is refused, and that a refusal leaves everything as it was.

use super::*;
use crate::goods::tests::{ANN, BOB, CAT, FIRST, World, code, goods, item, leg, transactions};
use crate::goods::{BAG, GROUND, ItemName, Limits, Serial, Unique};
use crate::player;

const OP: OperationId = OperationId(0xabc);
const CHEST: Place = Place::Box(77);
const GRASS: Place = Place::Ground { island: 1, x: 2, y: 3 };
const A: Place = Place::Player(ANN);
const B: Place = Place::Player(BOB);
const C: Place = Place::Player(CAT);

/// Ann with ten wood, five stone and a sword, Bob with nothing, Cat with a full bag, and a chest of two slots.
async fn village() -> World {
    let world = World::new(["10 wood 5 stone #1 sword", "", "64000 sand"]).await;
    let built = GoodsEffect::open(Limits { slots: 2, per_stack: 10 });
    let request = Request::transfer(OperationId(0xb0), vec![CHEST.part(OP, &built)]);
    world.transactions.run(request).await.expect("built");
    world
}

/// Transfers in a village, twice; then each of the places holds what is expected, or nothing has changed.
async fn check(legs: &[(Place, Place, &str)], expected: &str, holds: &[(Place, &str)]) {
    let world = village().await;
    let before = world.content();
    let legs: Vec<Leg> = legs.iter().map(|(from, to, text)| leg(*from, *to, text)).collect();
    for _ in 0..2 {
        let result = world.run(OP, &legs).await;
        assert_eq!(code(&result), expected, "{legs:?}: {result:?}");
        if expected != "ok" {
            assert_eq!(world.content(), before, "{legs:?}");
        }
        for (place, text) in holds {
            assert_eq!(world.at(*place), goods(text), "{place:?} after {legs:?}");
        }
        world.is_even();
    }
}

#[tokio::test(start_paused = true)]
async fn goods_move_between_any_two_places() {
    check(&[(A, B, "3 wood")], "ok", &[(A, "7 wood 5 stone #1 sword"), (B, "3 wood")]).await;
    check(&[(A, B, "10 wood 5 stone #1 sword")], "ok", &[(A, ""), (B, "10 wood 5 stone #1 sword")]).await;
    check(&[(A, CHEST, "10 wood #1 sword")], "ok", &[(A, "5 stone"), (CHEST, "10 wood #1 sword")]).await;
    check(&[(A, GRASS, "#1 sword 1 wood")], "ok", &[(A, "9 wood 5 stone"), (GRASS, "1 wood #1 sword")]).await;
    check(&[(Place::Mint, GRASS, "7 gold")], "ok", &[(GRASS, "7 gold")]).await;
    check(&[(Place::Mint, A, "7 wood")], "ok", &[(A, "17 wood 5 stone #1 sword")]).await;
    check(&[(A, Place::Mint, "7 wood #1 sword")], "ok", &[(A, "3 wood 5 stone")]).await;
}

#[tokio::test(start_paused = true)]
async fn many_legs_are_one_change_of_each_document() {
    let legs = [
        (A, B, "3 wood"),
        (A, CHEST, "2 wood"),
        (A, B, "1 wood #1 sword"),
        (C, GRASS, "500 sand"),
        (A, GRASS, "5 stone"),
    ];
    let holds =
        [(A, "4 wood"), (B, "4 wood #1 sword"), (CHEST, "2 wood"), (GRASS, "5 stone 500 sand"), (C, "63500 sand")];
    check(&legs, "ok", &holds).await;
    let swap = [(A, C, "10 wood"), (C, A, "1000 sand")];
    check(&swap, "ok", &[(A, "1000 sand 5 stone #1 sword"), (C, "63000 sand 10 wood")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_leg_to_where_it_comes_from_changes_nothing_but_must_be_possible() {
    check(&[(A, A, "10 wood #1 sword")], "ok", &[(A, "10 wood 5 stone #1 sword")]).await;
    check(&[(A, A, "11 wood")], "too_little", &[]).await;
    check(&[(A, A, "6 wood"), (A, A, "5 wood")], "too_little", &[]).await;
    check(&[(C, C, "64000 sand")], "ok", &[(C, "64000 sand")]).await;
}

#[tokio::test(start_paused = true)]
async fn what_leaves_must_have_been_there_before() {
    // Bob would pass on what he gets.
    check(&[(A, B, "3 wood"), (B, C, "3 wood")], "too_little", &[]).await;
    check(&[(A, B, "3 wood"), (B, GRASS, "1 wood")], "too_little", &[]).await;
    check(&[(A, B, "6 wood"), (A, GRASS, "5 wood")], "too_little", &[]).await;
    check(&[(GRASS, B, "1 wood")], "too_little", &[]).await;
    check(&[(CHEST, A, "#1 sword")], "too_little", &[]).await;
    check(&[(B, A, "1 wood"), (A, B, "1 wood")], "too_little", &[]).await;
    check(&[(A, B, "#1 map")], "changed", &[]).await;
    check(&[(A, Place::Mint, "11 wood")], "too_little", &[]).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_is_refused_with_all_legs() {
    check(&[(A, B, "1 wood"), (A, C, "1 wood")], "full", &[]).await;
    check(&[(A, CHEST, "1 wood 1 stone #1 sword")], "full", &[]).await;
    check(&[(Place::Mint, B, "64001 sand")], "full", &[]).await;
    check(&[(Place::Mint, C, "1 wood")], "full", &[]).await;
    // Room that is made by the same transfer counts.
    check(&[(C, GRASS, "1000 sand"), (A, C, "10 wood")], "ok", &[(C, "63000 sand 10 wood")]).await;
    let most = GROUND.per_stack * u64::from(GROUND.slots);
    check(&[(Place::Mint, GRASS, &format!("{} sand", most + 1))], "full", &[]).await;
    check(&[(Place::Mint, GRASS, &format!("{most} sand"))], "ok", &[(GRASS, &format!("{most} sand"))]).await;
}

#[tokio::test(start_paused = true)]
async fn numbers_never_wrap() {
    let huge = format!("{} wood", u64::MAX);
    check(&[(Place::Mint, A, &huge)], "overflow", &[]).await;
    check(&[(Place::Mint, A, &huge), (Place::Mint, A, "1 wood")], "overflow", &[]).await;
    check(&[(A, B, &huge), (A, B, "1 wood")], "overflow", &[]).await;
    check(&[(A, B, &huge)], "too_little", &[]).await;
    check(&[(Place::Mint, GRASS, &huge)], "full", &[]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_transfer_is_refused() {
    check(&[], "malformed", &[]).await;
    check(&[(A, B, "")], "malformed", &[]).await;
    check(&[(A, B, "1 wood"), (A, B, "")], "malformed", &[]).await;
    check(&[(Place::Mint, Place::Mint, "1 wood")], "malformed", &[]).await;
    check(&[(Place::Mint, A, "#9 axe")], "malformed", &[]).await;
    check(&[(A, Place::Player(99), "1 wood")], "missing", &[]).await;
    check(&[(A, Place::Box(78), "1 wood")], "missing", &[]).await;
    check(&[(A, Place::Box(1 << 53), "1 wood")], "malformed", &[]).await;
    let many: Vec<String> = (0..=MOVED_MOST).map(|n| format!("1 item_{n}")).collect();
    check(&[(Place::Mint, GRASS, &many.join(" "))], "malformed", &[]).await;
    let zero = Leg { from: A, to: B, goods: Goods::stack(item("wood"), 0) };
    assert_eq!(code(&village().await.run(OP, &[zero]).await), "malformed");
}

#[tokio::test(start_paused = true)]
async fn a_serial_that_is_there_already_is_never_put_again() {
    let world = village().await;
    let axe =
        |index| Goods::unique(Serial { op: OP, index }, Unique { item: item("axe"), data: serde_json::Map::new() });
    let twice = [Leg { from: Place::Mint, to: A, goods: axe(0) }, Leg { from: Place::Mint, to: A, goods: axe(0) }];
    assert_eq!(code(&world.run(OP, &twice).await), "taken");
    let both = [Leg { from: Place::Mint, to: A, goods: axe(0) }, Leg { from: Place::Mint, to: GRASS, goods: axe(1) }];
    world.run(OP, &both).await.expect("made");
    world.run(OP, &both).await.expect("made once");
    world.is_even();
    let moved = [Leg { from: A, to: GRASS, goods: axe(0) }];
    world.run(OperationId(0xabd), &moved).await.expect("dropped");
    assert_eq!(
        world.at(GRASS).uniques.keys().copied().collect::<Vec<_>>(),
        [0, 1].map(|index| Serial { op: OP, index })
    );
    world.is_even();
}

#[tokio::test(start_paused = true)]
async fn a_unique_keeps_its_serial_and_data_on_its_way_through_many_hands() {
    let world = village().await;
    let sword = goods("#1 sword");
    let way = [A, CHEST, B, GRASS, C, A];
    // Cat's bag is full: the sword's way through it makes room.
    for (n, pair) in way.windows(2).enumerate() {
        let mut legs = vec![leg(pair[0], pair[1], "#1 sword")];
        if pair[1] == C {
            legs.push(leg(C, GRASS, "1000 sand"));
        }
        world.run(OperationId(1_000 + n as u128), &legs).await.expect("moved");
        assert_eq!(world.at(pair[1]).uniques, sword.uniques);
        world.is_even();
    }
}

#[tokio::test(start_paused = true)]
async fn gathering_and_crafting_is_one_change_of_the_players_document_alone() {
    let world = village().await;
    let writes = |world: &World| {
        let snapshot = world.store.snapshot();
        snapshot.into_iter().map(|(key, stored)| (key, stored.version)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = writes(&world);
    world.run(OP, &[leg(A, Place::Mint, "4 wood"), leg(Place::Mint, A, "2 plank")]).await.expect("crafted");
    let after = writes(&world);
    let changed: Vec<&String> =
        after.iter().filter(|(key, version)| before.get(*key) != Some(*version)).map(|(key, _)| key).collect();
    assert_eq!(changed, [&player::key(ANN)]);
    let ann = world.player(ANN);
    assert_eq!(ann.bag, goods("6 wood 5 stone 2 plank #1 sword"));
    let booked = |page: &std::collections::BTreeMap<ItemName, u64>, name: &str| page.get(&item(name)).copied();
    assert_eq!((booked(&ann.page.created, "plank"), booked(&ann.page.destroyed, "wood")), (Some(2), Some(4)));
    world.is_even();
    let effect = GoodsEffect::craft(goods("4 wood"), goods("2 plank"));
    let crafted = parts(OP, &[leg(A, Place::Mint, "4 wood"), leg(Place::Mint, A, "2 plank")]).expect("sound");
    assert_eq!(crafted, [A.part(OP, &effect)], "the same as by hand");
}

#[tokio::test(start_paused = true)]
async fn a_box_is_built_once_and_demolished_only_when_empty() {
    let world = village().await;
    let ask = async |op: u128, effect: &GoodsEffect| {
        let part = CHEST.part(OperationId(op), effect);
        code(&world.transactions.run(Request::transfer(OperationId(op), vec![part])).await).to_owned()
    };
    assert_eq!(ask(1, &GoodsEffect::open(Limits { slots: 9, per_stack: 9 })).await, "taken");
    world.run(OP, &[leg(A, CHEST, "1 wood")]).await.expect("stored");
    assert_eq!(ask(2, &GoodsEffect::close()).await, "not_empty");
    world.run(OperationId(3), &[leg(CHEST, B, "1 wood")]).await.expect("taken out");
    assert_eq!(ask(4, &GoodsEffect::close()).await, "ok");
    assert_eq!(ask(4, &GoodsEffect::close()).await, "ok", "asked again");
    assert_eq!(code(&world.run(OperationId(5), &[leg(B, CHEST, "1 wood")]).await), "missing");
    assert_eq!(ask(6, &GoodsEffect::open(Limits { slots: 300, per_stack: 9 })).await, "malformed");
    assert_eq!(ask(7, &GoodsEffect::open(Limits { slots: 3, per_stack: 0 })).await, "malformed");
    assert_eq!(ask(8, &GoodsEffect::open(Limits { slots: 3, per_stack: 5 })).await, "ok");
    assert_eq!(code(&world.run(OperationId(9), &[leg(A, CHEST, "9 wood #1 sword")]).await), "ok");
    world.is_even();
}

#[tokio::test(start_paused = true)]
async fn ground_on_which_nothing_lies_is_no_document_after_a_while() {
    let world = village().await;
    world.run(OP, &[leg(A, GRASS, "1 wood")]).await.expect("dropped");
    world.run(OperationId(2), &[leg(GRASS, A, "1 wood")]).await.expect("picked up");
    let key = GRASS.key(OP);
    assert!(world.store.snapshot().contains_key(&key), "late writes are still refused by it");
    assert_eq!(world.transactions.read(&crate::goods::GroundKind, &key).await, Ok(None));
    tokio::time::sleep(crate::transaction::REMEMBERED).await;
    let left: Vec<String> = world.store.snapshot().into_keys().collect();
    assert_eq!(left, ["box/77", "player/1", "player/2", "player/3"]);
}

#[tokio::test(start_paused = true)]
async fn an_operation_id_that_comes_back_for_something_else_is_refused() {
    let world = village().await;
    world.run(OP, &[leg(A, B, "1 wood")]).await.expect("moved");
    assert_eq!(code(&world.run(OP, &[leg(A, B, "2 wood")]).await), "misused");
    assert_eq!(world.at(B), goods("1 wood"));
}

#[tokio::test(start_paused = true)]
async fn many_at_once_over_few_documents_lose_and_double_nothing() {
    let world = World::new(["300 wood", "300 wood", "300 wood"]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..6_u64 {
        let node = transactions(&world.store, 1_000 + index);
        tasks.spawn(async move {
            let mut done = 0_u64;
            for round in 0..20_u64 {
                let (from, to) = (1 + (index + round) % 3, 1 + (index + round + 1 + index % 2) % 3);
                let legs = [leg(Place::Player(from), Place::Player(to), "7 wood")];
                let op = OperationId(u128::from(index * 1_000 + round));
                done += u64::from(transfer(&node, op, &legs).await.is_ok());
            }
            done
        });
    }
    let mut done = 0;
    while let Some(one) = tasks.join_next().await {
        done += one.expect("no panic");
    }
    assert!(done > 60, "most get through: {done}");
    assert_eq!(world.content().len(), 3);
    world.is_even();
    assert_eq!(crate::goods::balance::balance(&world.store.snapshot()).expect("readable").held(&item("wood")), 900);
    assert_eq!(BAG.slots, 64, "the numbers above are those of this bag");
    assert_eq!(FIRST, OperationId(0xf1));
}
