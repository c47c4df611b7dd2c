//! Islands that end: with people's things on them, twice at once, half-way, and where something cannot be ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::Tile;
use serde_json::Map;
use tokio::time::{sleep, timeout};

use super::*;
use crate::audit::audit;
use crate::goods::balance::balance;
use crate::goods::promise::PromiseDocument;
use crate::goods::{Limits, Serial, Unique};
use crate::kinds;
use crate::land::claims::Claim;
use crate::land::works::Building;
use crate::land::{Footprint, Rotation};
use crate::player::{self, Birth};
use crate::store::memory::{Fault, MemoryStore};
use crate::store::{Store, WriteOptions};
use crate::transaction::{NoOwners, REMEMBERED};

/// The island that ends, and one that stays.
const SINKING: IslandId = IslandId(12);
const LASTING: IslandId = IslandId(1);
const ANN: u64 = 1;
const BOB: u64 = 2;
/// Nobody of this number has ever been made.
const NOBODY: u64 = 3;

struct Meadow;

impl Grounds for Meadow {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        [SINKING, LASTING].contains(&island).then_some((64, 64))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        self.size(island).is_some_and(|size| tile.is_within(size))
    }

    fn natural(&self, _island: IslandId, tile: Tile) -> u32 {
        if tile == Tile::new(40, 40) { 9 } else { 0 }
    }
}

fn node(store: &MemoryStore, seed: u64) -> Transactions {
    let owners = Arc::new(NoOwners { all_gone: true });
    Transactions::new(Arc::new(store.client()), kinds::all(Arc::new(Meadow)), owners, seed)
}

fn some(item: &str, count: u64) -> Goods {
    Goods::stack(item.parse().expect("a name"), count)
}

fn swords(op: u128, count: u16) -> Goods {
    let sword = || Unique { item: "sword".parse().expect("a name"), data: Map::new() };
    let serial = |index| Serial { op: OperationId(op), index };
    Goods { uniques: (0..count).map(|index| (serial(index), sword())).collect(), ..Goods::default() }
}

/// Builds a box of this number, with goods in it.
async fn chest(on: &Transactions, island: IslandId, id: u64, by: By, goods: &[Goods], limits: Limits) {
    let footprint = Footprint::new(Tile::new((id % 16) as u16 * 3, (id / 16) as u16 * 3), 2, 1, Rotation::R0);
    let (kind, footprint) = ("chest".to_owned(), footprint.expect("a footprint"));
    let building = Building { id: ObjectId(id), kind, island, footprint, made_s: 1, data: Map::new() };
    let op = OperationId(1_000 + u128::from(id));
    let open = Place::Box(id).part(op, &GoodsEffect::open(limits));
    works::build(on, &Meadow, op, by, &building, &[open]).await.expect("built");
    for (n, goods) in goods.iter().enumerate() {
        let op = goods.uniques.keys().next().map_or(OperationId(9_000 + u128::from(id) * 10 + n as u128), |s| s.op);
        put(on, op.0, Place::Box(id), goods.clone()).await;
    }
}

async fn put(on: &Transactions, op: u128, place: Place, goods: Goods) {
    transfer(on, OperationId(op), &[Leg { from: Place::Mint, to: place, goods }]).await.expect("put");
}

const SMALL: Limits = Limits { slots: 16, per_stack: 100 };
const HUGE: Limits = Limits { slots: 256, per_stack: 1_000_000 };

/// Ann and Bob, an island that lasts with a chest of Ann's, and one that will sink: two chests of Ann's over chunks' borders,
/// one of Bob's, one of nobody's, one of the game's; a holding, a felled tree, and wood on the ground.
async fn world() -> MemoryStore {
    let store = MemoryStore::new();
    for id in [ANN, BOB] {
        let birth = Birth { hue: 0, island: LASTING.0, x: 0, y: 0 };
        player::create(&store, id, &format!("account{id}"), "Name", &birth).await.expect("made");
    }
    let on = node(&store, 1);
    let (ann, bob, nobody) = (By::Player(ObjectId(ANN)), By::Player(ObjectId(BOB)), By::Player(ObjectId(NOBODY)));
    chest(&on, LASTING, 100, ann, &[some("wood", 5)], SMALL).await;
    chest(&on, SINKING, 21, ann, &[some("wood", 30), swords(50, 2)], SMALL).await;
    chest(&on, SINKING, 26, ann, &[some("stone", 7)], SMALL).await;
    chest(&on, SINKING, 32, bob, &[], SMALL).await;
    chest(&on, SINKING, 33, nobody, &[some("wood", 3)], SMALL).await;
    chest(&on, SINKING, 34, By::World, &[some("gold", 2), swords(51, 1)], SMALL).await;
    let claim = |holding, x, owner| Claim {
        holding: ObjectId(holding),
        chunk: Chunk { island: SINKING, x, y: 0 },
        owner: ObjectId(owner),
        now_s: 1,
        paid_until_s: 1_000,
    };
    claims::claim(&on, &Meadow, OperationId(60), &claim(ANN, 0, ANN), &[]).await.expect("claimed");
    claims::claim(&on, &Meadow, OperationId(61), &claim(BOB, 3, BOB), &[]).await.expect("claimed");
    // A pointer that was left behind.
    claims::give_up_all(&on, OperationId(62), ObjectId(BOB), ObjectId(BOB), &[]).await.expect("given up");
    let tree = (SINKING, Tile::new(40, 40));
    works::clear_natural(&on, &Meadow, OperationId(63), By::World, tree, 9, &[]).await.expect("felled");
    put(&on, 64, Place::Ground { island: SINKING.0, x: 1, y: 1 }, some("wood", 11)).await;
    put(&on, 65, Place::Ground { island: LASTING.0, x: 1, y: 1 }, some("wood", 4)).await;
    store
}

async fn end(store: &MemoryStore, seed: u64) -> Cleared {
    clear(&node(store, seed), &Meadow, SINKING, &mut |_| {}).await.expect("the store is there")
}

/// What waits for a player, all together.
fn promised(store: &MemoryStore, player: u64) -> Goods {
    let mut all = Goods::default();
    let queue = store
        .snapshot()
        .get(&promise::key(player))
        .map(|stored| serde_json::from_slice::<PromiseDocument>(&stored.value).expect("promises").queue);
    for one in queue.unwrap_or_default() {
        let What::Goods(goods) = one.what else { panic!("{one:?}") };
        all.add(&goods).expect("sound");
    }
    all
}

fn both(one: Goods, other: &Goods) -> Goods {
    let mut all = one;
    all.add(other).expect("sound");
    all
}

/// Nothing of the sinking island is left, all of the lasting one is; goods are where they belong and add up.
async fn check_ended(store: &MemoryStore, context: &str) {
    sleep(REMEMBERED * 2).await;
    let left = store.snapshot();
    let balance = balance(&left).expect("readable");
    let wrong: Vec<String> = balance.differences().map(|difference| difference.to_string()).collect();
    let held: Vec<_> =
        left.iter().filter(|(_, stored)| String::from_utf8_lossy(&stored.value).contains("intent")).collect();
    assert!(wrong.is_empty() && balance.unsettled() == 0, "{context}: {wrong:?} {held:?}");
    let keys: Vec<&str> = left
        .keys()
        .map(String::as_str)
        .filter(|key| !key.starts_with("mint/") && !key.starts_with("player/"))
        .collect();
    let lasting = ["box/100", "deed/1/0/1", "ground/1/1/1", "object/100", "promise/1"];
    assert_eq!(keys, lasting, "{context}");
    assert_eq!(promised(store, ANN), both(both(some("wood", 30), &swords(50, 2)), &some("stone", 7)), "{context}");
    let held = |item: &str| balance.held(&item.parse().expect("a name"));
    assert_eq!((held("wood"), held("stone"), held("gold")), (30 + 5 + 4, 7, 0), "{context}");
    assert_eq!(balance.held_uniques(&"sword".parse().expect("a name")), 2, "{context}");
}

#[tokio::test(start_paused = true)]
async fn an_island_ends_and_nobody_loses_what_lay_in_a_box() {
    let store = world().await;
    let mut told = 0;
    let cleared = clear(&node(&store, 2), &Meadow, SINKING, &mut |_| told += 1).await.expect("cleared");
    assert_eq!((cleared.objects, cleared.chunks, cleared.promised, cleared.left), (5, 1, 2, 0), "{cleared:?}");
    assert_eq!(cleared.destroyed, 3 + 2 + 1 + 11, "what is nobody's goes");
    assert!(told >= 5, "{told}");
    let again = end(&store, 3).await;
    assert_eq!(again, Cleared::default(), "there is nothing left to do");
    check_ended(&store, "once").await;
    let report = audit(&node(&store, 77), false, &mut |_| {}).await.expect("audit");
    assert!(report.clean() && report.found == 0, "{:?}", report.findings);
    assert_eq!(end(&store, 4).await, Cleared::default());
}

#[tokio::test(start_paused = true)]
async fn an_island_that_nobody_touched_is_cleared_without_a_write() {
    let store = MemoryStore::new();
    assert_eq!(end(&store, 1).await, Cleared::default());
    assert!(store.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_stewards_at_once_do_the_work_once() {
    for seed in 0..8 {
        let store = world().await;
        let slow = |seed: u64| {
            let client = store.client();
            let rates = crate::store::memory::Rates { delay: Duration::from_millis(3), ..Default::default() };
            client.faults().random(seed, rates);
            let owners = Arc::new(NoOwners { all_gone: true });
            Transactions::new(Arc::new(client), kinds::all(Arc::new(Meadow)), owners, seed)
        };
        let (one, other) = (slow(seed * 2 + 10), slow(seed * 2 + 11));
        let (mut tell, mut tell_too) = (|_: &Cleared| {}, |_: &Cleared| {});
        let (a, b) =
            tokio::join!(clear(&one, &Meadow, SINKING, &mut tell), clear(&other, &Meadow, SINKING, &mut tell_too));
        let left = a.expect("cleared").left + b.expect("cleared").left;
        assert_eq!(left, 0, "seed {seed}");
        check_ended(&store, &format!("seed {seed}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_dies_at_whichever_call_the_next_one_goes_on() {
    let run = async |at: u64, fault: Fault| {
        let store = world().await;
        let client = store.client();
        client.faults().at(at, fault);
        let calls = client.faults();
        let owners = Arc::new(NoOwners { all_gone: true });
        let first = Transactions::new(Arc::new(client), kinds::all(Arc::new(Meadow)), owners, 5);
        let ended = timeout(Duration::from_secs(60), clear(&first, &Meadow, SINKING, &mut |_| {})).await;
        (store, calls.calls(), ended)
    };
    let (_, calls, _) = run(u64::MAX / 2, Fault::StopBefore).await;
    assert!(calls > 150, "{calls} calls");
    for at in 0..calls {
        // Every fault at every call is tried by the explorer, on a smaller island.
        let fault = [Fault::StopBefore, Fault::StopAfter, Fault::LoseReply][at as usize % 3];
        let (store, _, _) = run(at, fault).await;
        let cleared = end(&store, 6).await;
        assert_eq!(cleared.left, 0, "call {at} {fault:?}: {cleared:?}");
        check_ended(&store, &format!("call {at} {fault:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_box_of_more_than_a_bag_goes_in_several_promises_and_what_the_queue_does_not_take_is_destroyed() {
    let store = world().await;
    let on = node(&store, 2);
    let bagfuls = QUEUE_MOST as u64 + 3;
    let full = u64::from(BAG.slots) * BAG.per_stack;
    let goods = [swords(70, 100), some("sand", full * bagfuls)];
    chest(&on, SINKING, 40, By::Player(ObjectId(BOB)), &goods, HUGE).await;
    let cleared = end(&store, 3).await;
    assert_eq!((cleared.left, cleared.objects), (0, 6), "{cleared:?}");
    let waiting = promised(&store, BOB);
    assert_eq!(waiting.uniques.len(), 100, "uniques go first");
    let sand = waiting.stacks.values().sum::<u64>();
    // Two promises have swords; the second has room for sand beside them.
    let beside = (u64::from(BAG.slots) * 2 - 100) * BAG.per_stack;
    assert_eq!(sand, full * (QUEUE_MOST as u64 - 2) + beside);
    assert_eq!(cleared.destroyed, 3 + 2 + 1 + 11 + full * bagfuls - sand);
    let balance = balance(&store.snapshot()).expect("readable");
    assert_eq!(balance.differences().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ended_is_told_and_all_else_goes_on() {
    let store = world().await;
    let stored = store.get("object/26").await.expect("read").expect("there");
    let text = String::from_utf8(stored.value.to_vec()).expect("text").replace("\"width\":2", "\"width\":3");
    store.replace("object/26", Bytes::from(text), stored.version, WriteOptions::default()).await.expect("written");
    let cleared = end(&store, 2).await;
    assert_eq!((cleared.objects, cleared.left), (4, 1), "{cleared:?}");
    assert!(cleared.reasons[0].starts_with("object/26: refused: by its deed"), "{:?}", cleared.reasons);
    assert_eq!(promised(&store, ANN).stacks.values().sum::<u64>(), 37, "its box was emptied all the same");
    let deeds: Vec<String> = store.snapshot().into_keys().filter(|key| key.starts_with("object/26")).collect();
    assert_eq!(deeds.len(), 1, "it stands until somebody looks at it");
}

#[tokio::test(start_paused = true)]
async fn the_same_goods_put_into_a_box_again_meanwhile_are_promised_too() {
    let store = world().await;
    let on = node(&store, 2);
    let mut ending = Ending { transactions: &on, terrain: &Meadow, island: SINKING, cleared: Cleared::default() };
    for n in 0..3 {
        ending.empty(Place::Box(26), Some(ANN)).await.expect("emptied");
        put(&on, 80 + n, Place::Box(26), some("stone", 7)).await;
    }
    assert_eq!(promised(&store, ANN), some("stone", 21));
    assert_eq!(end(&store, 3).await.left, 0);
    assert_eq!(promised(&store, ANN).stacks.values().sum::<u64>(), 30 + 28);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_ends_the_clearing_with_its_error() {
    let store = world().await;
    let client = store.client();
    client.faults().unreachable(true);
    let owners = Arc::new(NoOwners { all_gone: true });
    let on = Transactions::new(Arc::new(client), kinds::all(Arc::new(Meadow)), owners, 1);
    let error = clear(&on, &Meadow, SINKING, &mut |_| {}).await.expect_err("no store");
    assert_eq!(error.outcome(), crate::store::Outcome::NotDone);
}
