//! Promises at home and away: kept once, in order, and never lost, whoever gives and keeps at the same time.

use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::goods::tests::{ANN, BOB, FIRST, World, code, goods, leg, transactions};
use crate::goods::{Serial, Unique};
use crate::store::memory::{Fault, Rates};
use crate::transaction::participant::RECENT;

const A: Place = Place::Player(ANN);
const B: Place = Place::Player(BOB);

fn op(n: u128) -> OperationId {
    OperationId(n)
}

fn queue(world: &World, player: u64) -> Vec<u64> {
    let snapshot = world.store.snapshot();
    let document = snapshot
        .get(&key(player))
        .map(|stored| serde_json::from_slice::<PromiseDocument>(&stored.value).expect("promises"));
    document.map_or_else(Vec::new, |document| document.queue.iter().map(|promised| promised.id).collect())
}

async fn send(world: &World, n: u128, text: &str) -> String {
    code(&give(&world.transactions, op(n), A, BOB, What::Goods(goods(text))).await).to_owned()
}

async fn kept(world: &World) -> Keeping {
    keep(&world.transactions, BOB).await.expect("kept")
}

#[tokio::test(start_paused = true)]
async fn what_is_left_for_somebody_away_is_kept_at_the_next_login() {
    let world = World::new(["10 wood #1 sword", "", ""]).await;
    assert_eq!(send(&world, 1, "3 wood #1 sword").await, "ok");
    give(&world.transactions, op(2), A, BOB, What::Experience(70)).await.expect("given");
    give(&world.transactions, op(3), A, BOB, What::Note("for you".to_owned())).await.expect("given");
    let fish = Goods::unique(
        Serial { op: op(4), index: 0 },
        Unique { item: "fish".parse().expect("a name"), data: Map::new() },
    );
    give(&world.transactions, op(4), Place::Mint, BOB, What::Goods(fish.clone())).await.expect("given");
    assert_eq!((world.player(ANN).bag, world.player(BOB).bag), (goods("7 wood"), Goods::default()));
    assert_eq!(queue(&world, BOB), [1, 2, 3, 4]);
    world.is_even();
    let keeping = kept(&world).await;
    let texts: Vec<u64> = keeping.kept.iter().map(|promised| promised.id).collect();
    assert_eq!((texts.as_slice(), keeping.waiting, keeping.blocked), ([1, 2, 3, 4].as_slice(), 0, None));
    assert_eq!(keeping.kept[2].what, What::Note("for you".to_owned()));
    let bob = world.player(BOB);
    let mut all = goods("3 wood #1 sword");
    all.add(&fish).expect("sound");
    assert_eq!((bob.bag, bob.experience, bob.kept), (all, 70, 4));
    world.is_even();
    for _ in 0..2 {
        assert_eq!(kept(&world).await, Keeping::default());
        assert_eq!((world.player(BOB).experience, queue(&world, BOB)), (70, vec![]));
    }
    tokio::time::sleep(crate::transaction::REMEMBERED).await;
    assert_eq!(send(&world, 5, "1 wood").await, "ok");
    assert_eq!(queue(&world, BOB), [5], "ids only rise, however long nothing waited");
}

#[tokio::test(start_paused = true)]
async fn a_promise_is_given_once_however_often_it_is_asked_for() {
    let world = World::new(["900 wood", "", ""]).await;
    assert_eq!(send(&world, 1, "3 wood").await, "ok");
    give(&world.transactions, op(2), A, BOB, What::Note("hello".to_owned())).await.expect("given");
    for n in 100..100 + 2 * RECENT as u128 {
        assert_eq!(send(&world, n, "1 wood").await, "ok");
        give(&world.transactions, op(n + 1_000), A, BOB, What::Experience(1)).await.expect("given");
    }
    kept(&world).await;
    let before = world.content();
    assert_eq!(send(&world, 1, "3 wood").await, "ok");
    give(&world.transactions, op(2), A, BOB, What::Note("hello".to_owned())).await.expect("given before");
    assert_eq!(world.content(), before);
    assert_eq!((world.player(BOB).experience, world.player(BOB).kept), (32, 66));
    world.is_even();
}

#[tokio::test(start_paused = true)]
async fn keeping_leaves_the_memory_of_what_the_player_asked_for() {
    let world = World::new(["900 wood", "", ""]).await;
    let gather = [leg(Place::Mint, B, "1 berry")];
    world.run(op(1), &gather).await.expect("gathered");
    for n in 100..100 + 2 * RECENT as u128 {
        assert_eq!(send(&world, n, "1 wood").await, "ok");
        kept(&world).await;
    }
    world.run(op(1), &gather).await.expect("gathered before");
    assert_eq!(world.player(BOB).bag, goods("1 berry 32 wood"));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_waits_and_blocks_what_comes_behind() {
    let world = World::new(["10 wood 7 stone", "63000 sand", ""]).await;
    for (n, text) in [(1, "2 wood"), (2, "3 stone"), (3, "1 wood")] {
        assert_eq!(send(&world, n, text).await, "ok");
    }
    let blocked = |keeping: &Keeping| keeping.blocked.as_ref().map(|refusal| refusal.code.clone());
    let keeping = kept(&world).await;
    assert_eq!((keeping.kept.len(), keeping.waiting, blocked(&keeping)), (1, 2, Some("full".to_owned())));
    assert_eq!((world.player(BOB).bag, world.player(BOB).kept), (goods("63000 sand 2 wood"), 1));
    let keeping = kept(&world).await;
    assert_eq!((keeping.kept.len(), keeping.waiting, blocked(&keeping)), (0, 2, Some("full".to_owned())));
    // The third would fit, but waits its turn.
    assert_eq!(queue(&world, BOB), [2, 3]);
    world.is_even();
    world.run(op(9), &[leg(B, Place::Mint, "1000 sand")]).await.expect("dropped");
    let keeping = kept(&world).await;
    assert_eq!((keeping.kept.len(), keeping.waiting, blocked(&keeping)), (2, 0, None));
    assert_eq!((world.player(BOB).bag, queue(&world, BOB)), (goods("62000 sand 3 wood 3 stone"), vec![]));
    world.is_even();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_promised_is_refused_and_stays_with_its_giver() {
    let world = World::new(["10 wood", "", ""]).await;
    let before = world.content();
    let note = |bytes: usize| What::Note("x".repeat(bytes));
    for (from, to, what, expected) in [
        (A, BOB, What::Goods(goods("11 wood")), "too_little"),
        (A, BOB, What::Goods(goods("#1 sword")), "too_little"),
        (A, BOB, What::Goods(Goods::default()), "malformed"),
        (A, BOB, What::Experience(0), "malformed"),
        (A, BOB, note(0), "malformed"),
        (A, BOB, note(NOTE_BYTES + 1), "malformed"),
        (A, 99, What::Goods(goods("1 wood")), "missing"),
        (Place::Player(99), BOB, What::Goods(goods("1 wood")), "missing"),
        (Place::Box(5), BOB, What::Goods(goods("1 wood")), "missing"),
        (Place::Mint, BOB, What::Goods(goods("64001 wood")), "full"),
        (Place::Mint, BOB, What::Goods(goods("#1 sword")), "malformed"),
        (Place::Mint, BOB, What::Goods(goods("18446744073709551615 wood")), "full"),
    ] {
        let result = give(&world.transactions, op(1), from, to, what.clone()).await;
        assert_eq!(code(&result), expected, "{what:?}");
        let after: Vec<_> = world.content().into_iter().filter(|(key, _)| key.starts_with("player/")).collect();
        assert_eq!(after, before.clone().into_iter().collect::<Vec<_>>(), "{what:?}");
        assert_eq!(queue(&world, BOB), Vec::<u64>::new());
    }
    world.is_even();
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_bounded_in_number_and_in_bytes() {
    let world = World::new(["900 wood", "", ""]).await;
    let gifts = QUEUE_MOST - QUEUE_MOST / SPARED;
    for n in 0..gifts as u128 {
        assert_eq!(send(&world, n, "1 wood").await, "ok");
    }
    assert_eq!(send(&world, 999, "1 wood").await, "full");
    // Whoever sends many gifts keeps nothing else away from a player.
    let mint = async |n: u128| {
        let given = give(&world.transactions, op(n), Place::Mint, BOB, What::Goods(goods("1 hide"))).await;
        given.map_or_else(|error| code(&Err::<(), _>(error)).to_owned(), |_| "ok".to_owned())
    };
    for n in gifts as u128..QUEUE_MOST as u128 {
        assert_eq!(mint(n).await, "ok");
    }
    assert_eq!(mint(998).await, "full");
    assert_eq!(kept(&world).await.kept.len(), QUEUE_MOST, "all in one go");
    assert_eq!(send(&world, 999, "1 wood").await, "ok", "room again");
    let mut document = PromiseKind.born("promise/2").expect("promises");
    let data = serde_json::json!({"text": "x".repeat(1_000)});
    let (mut most, mut from, mut gifts) = (0, A, 0);
    let refusal = loop {
        let mut many = Goods::default();
        for index in 0..60 {
            let Value::Object(data) = data.clone() else { panic!("an object") };
            let unique = Unique { item: "book".parse().expect("a name"), data };
            many.add(&Goods::unique(Serial { op: op(most), index }, unique)).expect("sound");
        }
        if let Err(refusal) = document.add(op(most), &What::Goods(many), from) {
            if from == Place::Mint {
                break refusal;
            }
            // It was refused after it was put there: the caller throws it away.
            document.queue.pop();
            (from, gifts) = (Place::Mint, most);
            continue;
        }
        most += 1;
    };
    // Sixty books take about 65 kB.
    assert_eq!((refusal.code.as_str(), gifts, most), ("full", 6, 8));
}

#[tokio::test(start_paused = true)]
async fn experience_stays_at_the_highest_number() {
    let world = World::new(["", "", ""]).await;
    for n in 1..=2 {
        give(&world.transactions, op(n), Place::Mint, BOB, What::Experience(u64::MAX - 1)).await.expect("given");
        assert_eq!(kept(&world).await.kept.len(), 1);
    }
    assert_eq!(world.player(BOB).experience, u64::MAX);
}

/// Keeps what waits with one fault at one call, as a node would that dies or loses a reply there; then another node keeps.
#[tokio::test(start_paused = true)]
async fn whatever_fails_at_whichever_call_each_promise_is_kept_once() {
    let faults = [
        Fault::Refuse,
        Fault::LoseRequest,
        Fault::LoseReply,
        Fault::Late(Duration::from_millis(1)),
        Fault::Late(Duration::from_secs(1)),
        Fault::StopBefore,
        Fault::StopAfter,
        Fault::Storm,
    ];
    let mut kept_by_second = 0;
    for call in 0..12 {
        for fault in faults {
            let world = World::new(["10 wood", "", ""]).await;
            assert_eq!(send(&world, 1, "3 wood").await, "ok");
            give(&world.transactions, op(2), A, BOB, What::Experience(5)).await.expect("given");
            let client = world.store.client();
            client.faults().at(call, fault);
            let node = Transactions::new(
                std::sync::Arc::new(client),
                crate::goods::kinds(crate::transaction::Kinds::default()),
                std::sync::Arc::new(crate::transaction::NoOwners { all_gone: true }),
                9,
            );
            // Whatever it comes to, or if it stops for good.
            let _ = tokio::time::timeout(Duration::from_secs(60), keep(&node, BOB)).await;
            world.is_even();
            kept_by_second += kept(&world).await.kept.len();
            let bob = world.player(BOB);
            assert_eq!((bob.bag, bob.experience, bob.kept), (goods("3 wood"), 5, 2), "{fault:?} at {call}");
            assert_eq!(queue(&world, BOB), Vec::<u64>::new(), "{fault:?} at {call}");
            world.is_even();
        }
    }
    assert!(kept_by_second > 0, "some were left to the second");
}

#[tokio::test(start_paused = true)]
async fn many_who_give_and_keep_at_once_lose_and_double_nothing() {
    for seed in 0..20 {
        let world = World::new(["900 wood", "62990 sand", ""]).await;
        let mut tasks = JoinSet::new();
        for index in 0..4_u64 {
            let client = world.store.client();
            let rates = Rates {
                lose_reply: 30,
                storm: 30,
                delay: Duration::from_millis(5),
                deadline: Duration::from_millis(20),
                ..Rates::default()
            };
            client.faults().random(seed * 10 + index, rates);
            let node = Transactions::new(
                std::sync::Arc::new(client),
                crate::goods::kinds(crate::transaction::Kinds::default()),
                std::sync::Arc::new(crate::transaction::NoOwners { all_gone: true }),
                seed * 100 + index,
            );
            tasks.spawn(async move {
                let mut notes = 0;
                for round in 0..6_u64 {
                    let n = op(u128::from(index * 100 + round));
                    if index % 2 == 0 {
                        let what = What::Goods(goods("3 wood"));
                        while give(&node, n, A, BOB, what.clone()).await.is_err() {}
                    } else if let Ok(keeping) = keep(&node, BOB).await {
                        notes += keeping.kept.len();
                    }
                }
                notes
            });
        }
        let mut told = 0;
        while let Some(one) = tasks.join_next().await {
            told += one.expect("no panic");
        }
        let reader = transactions(&world.store, seed + 5_000);
        let last = keep(&reader, BOB).await.expect("kept");
        // Sand takes 63 slots, the wood the last one.
        assert_eq!(last.waiting, 0, "seed {seed}: {last:?}");
        reader.read(&PlayerKind, &player::key(ANN)).await.expect("settled");
        assert!(told + last.kept.len() <= 12, "seed {seed}: nobody was told twice");
        assert_eq!((world.player(BOB).bag, world.player(BOB).kept), (goods("62990 sand 36 wood"), 12), "seed {seed}");
        world.is_even();
    }
    assert_eq!(FIRST, op(0xf1), "no operation above is that of the setup");
}
