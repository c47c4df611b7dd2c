//! Audits of a small sound world, of the same world broken by hand in every way, and of transactions left half-way.

use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::*;
use crate::goods::promise::{self, What};
use crate::goods::transfer::{Leg, transfer};
use crate::goods::{Goods, Place, Serial, Unique};
use crate::land::{By, Footprint, Grounds, Rotation, claims, works};
use crate::player::Birth;
use crate::store::WriteOptions;
use crate::store::memory::{Fault, MemoryStore};
use crate::transaction::{NoOwners, OperationId, REMEMBERED};
use crate::{kinds, party, player};

const ISLAND: IslandId = IslandId(1);

/// An island of grass.
struct Meadow;

impl Grounds for Meadow {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island == ISLAND).then_some((256, 256))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        island == ISLAND && tile.x < 256 && tile.y < 256
    }

    fn natural(&self, _island: IslandId, tile: Tile) -> u32 {
        u32::from(tile.x == 5 && tile.y == 5)
    }
}

fn transactions(store: &MemoryStore, seed: u64) -> Transactions {
    let owners = Arc::new(NoOwners { all_gone: true });
    Transactions::new(Arc::new(store.client()), kinds::all(Arc::new(Meadow)).beside(&["session"]), owners, seed)
}

async fn check(store: &MemoryStore, repair: bool) -> Report {
    audit(&transactions(store, 99), repair, &mut |_| {}).await.expect("the store is there")
}

fn wood(count: u64) -> Goods {
    Goods::stack("wood".parse().expect("a name"), count)
}

fn leg(from: Place, to: Place, goods: Goods) -> Leg {
    Leg { from, to, goods }
}

/// Two players in one party with goods, a promise, a house over two chunks and a holding.
async fn world() -> MemoryStore {
    let store = MemoryStore::new();
    let estate = transactions(&store, 1);
    for id in [1, 2] {
        let birth = Birth { hue: 0, island: 1, x: 0, y: 0 };
        player::create(&store, id, &format!("account{id}"), "Ann", &birth).await.expect("made");
    }
    let sword = OperationId(2);
    let serial = Serial { op: sword, index: 0 };
    let sword = Goods::unique(serial, Unique { item: "sword".parse().expect("a name"), data: Map::new() });
    let (ann, bob) = (Place::Player(1), Place::Player(2));
    transfer(&estate, OperationId(1), &[leg(Place::Mint, ann, wood(9))]).await.expect("gathered");
    transfer(&estate, OperationId(2), &[leg(Place::Mint, bob, sword)]).await.expect("made");
    transfer(&estate, OperationId(3), &[leg(ann, bob, wood(4))]).await.expect("given");
    promise::give(&estate, OperationId(4), Place::Mint, 2, What::Goods(wood(3))).await.expect("promised");
    let building = works::Building {
        id: ObjectId(80),
        kind: "house".to_owned(),
        island: ISLAND,
        footprint: Footprint::new(Tile { x: 14, y: 2 }, 4, 2, Rotation::R0).expect("a footprint"),
        made_s: 1,
        data: Map::new(),
    };
    works::build(&estate, &Meadow, OperationId(5), By::Player(ObjectId(1)), &building, &[]).await.expect("built");
    let chunk = Chunk { island: ISLAND, x: 3, y: 3 };
    let claim = claims::Claim { holding: ObjectId(70), chunk, owner: ObjectId(1), now_s: 1, paid_until_s: 1_000 };
    claims::claim(&estate, &Meadow, OperationId(6), &claim, &[]).await.expect("claimed");
    party::found(&estate, OperationId(7), 60, 1).await.expect("founded");
    party::invite(&estate, OperationId(8), 1, 2).await.expect("invited");
    party::enter(&estate, OperationId(10), 60, 2, 8).await.expect("entered");
    store
}

/// Changes a document by hand.
async fn edit(store: &MemoryStore, key: &str, change: impl FnOnce(&mut Value)) {
    let stored = store.get(key).await.expect("read").unwrap_or_else(|| panic!("no {key}"));
    let mut value = serde_json::from_slice(&stored.value).expect("JSON");
    change(&mut value);
    let value = Bytes::from(value.to_string());
    store.replace(key, value, stored.version, WriteOptions::default()).await.expect("written");
}

async fn put(store: &MemoryStore, key: &str, value: &str) {
    store.insert(key, Bytes::from(value.to_owned()), WriteOptions::default()).await.expect("written");
}

#[tokio::test(start_paused = true)]
async fn a_sound_world_is_clean_and_an_audit_writes_nothing() {
    let store = world().await;
    let before = store.snapshot();
    for repair in [false, true] {
        let report = check(&store, repair).await;
        assert!(report.clean() && report.found == 0 && !report.in_use, "{report:?}");
        assert_eq!((report.documents["player"], report.documents["deed"], report.documents["object"]), (2, 3, 1));
    }
    assert_eq!(store.snapshot(), before);
    assert!(check(&MemoryStore::new(), true).await.clean(), "an empty store");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_broken_by_hand_is_found() {
    type Change = fn(&mut Value);
    let rows: &[(&str, Change, &[Rule], bool)] = &[
        ("player/1", |v| v["bag"]["stacks"]["wood"] = json!(6), &[Rule::Goods], false),
        ("player/1", |v| v["page"]["created"]["wood"] = json!(8), &[Rule::Goods], false),
        ("player/1", |v| v["bag"]["stacks"]["wood"] = json!(-1), &[Rule::Readable, Rule::Goods], false),
        ("player/1", |v| v["v"] = json!(99), &[Rule::Readable, Rule::Goods], false),
        ("player/1", |v| v["id"] = json!(3), &[Rule::Readable], false),
        ("player/2", |v| v["bag"]["uniques"] = json!({}), &[Rule::Goods], false),
        (
            "player/2",
            |v| {
                let sword = v["bag"]["uniques"][format!("{}-0", OperationId(2))].take();
                v["bag"]["uniques"] = json!({ format!("{}-0", OperationId(77)): sword });
            },
            &[Rule::Serials],
            false,
        ),
        ("promise/2", |v| v["queue"][0]["id"] = json!(9), &[Rule::Promise], false),
        ("deed/1/0/0", |v| *v = json!({"v": 1, "island": 1, "x": 0, "y": 0, "stands": {}}), &[Rule::Object], false),
        ("deed/1/0/0", |v| v["stands"]["0"] = json!({"object": 80}), &[Rule::Overlap], false),
        ("deed/1/0/0", |v| v["stands"]["0"] = json!({"object": 81}), &[Rule::Deed], true),
        ("deed/1/0/0", |v| v["x"] = json!(7), &[Rule::Readable, Rule::Overlap], false),
        ("deed/1/3/3", |v| drop(v["holding"].take()), &[Rule::Holding], false),
        ("holding/70", |v| v["chunks"] = json!([[3, 3], [3, 4]]), &[Rule::Holding], false),
        ("object/80", |v| v["kind"] = json!(""), &[Rule::Deed, Rule::Deed], true),
        ("object/80", |v| v["island"] = json!("here"), &[Rule::Readable], false),
        ("party/60", |v| v["members"] = json!([1]), &[Rule::Party], false),
        ("party/60", |v| v["members"] = json!([1, 2, 2]), &[Rule::Party], false),
        ("party/60", |v| v["members"] = json!([1, 2, 3]), &[Rule::Party], false),
        ("party/60", |v| v["leader"] = json!(9), &[Rule::Party], false),
        ("party/60", |v| v["id"] = json!(61), &[Rule::Readable, Rule::Party, Rule::Party], false),
        ("member/2", |v| drop(v["party"].take()), &[Rule::Party], false),
        ("member/2", |v| v["party"] = json!(61), &[Rule::Party, Rule::Party], false),
        ("member/1", |v| v["player"] = json!(5), &[Rule::Readable, Rule::Party], false),
    ];
    for (key, change, expected, mended) in rows {
        let store = world().await;
        edit(&store, key, change).await;
        let found = |report: &Report| {
            let mut rules: Vec<Rule> = report.findings.iter().map(|finding| finding.rule).collect();
            rules.sort_unstable();
            rules
        };
        let report = check(&store, false).await;
        assert_eq!(found(&report), *expected, "{key}: {:#?}", report.findings);
        assert!(!report.clean());
        let before = store.snapshot();
        let repaired = check(&store, true).await;
        assert_eq!((found(&repaired), repaired.clean()), (expected.to_vec(), *mended), "{:#?}", repaired.findings);
        if *mended {
            assert!(check(&store, false).await.clean(), "{key} is mended for good");
        } else {
            assert_eq!(store.snapshot(), before, "{key}: what cannot be mended is left as it is");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pointer_that_a_holding_left_behind_is_free_land_and_no_finding() {
    let store = world().await;
    claims::give_up_all(&transactions(&store, 4), OperationId(9), ObjectId(1), ObjectId(70), &[])
        .await
        .expect("given up");
    let report = check(&store, false).await;
    assert!(report.clean() && report.stale_pointers == 1, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn strange_documents_are_named() {
    let store = world().await;
    put(&store, "wine/1", "{}").await;
    put(&store, "wine", "\u{1}").await;
    put(&store, "session/1", "\u{1}").await;
    put(&store, "account/x", "[").await;
    put(&store, "ledger/1/0/9", r#"{"v":1,"entries":{"zz":{}}}"#).await;
    put(&store, "transfer/short", r#"{"v":1,"token":1,"state":"done","digest":0}"#).await;
    let report = check(&store, false).await;
    let found: Vec<(&str, Rule)> = report.findings.iter().map(|f| (f.key.as_str(), f.rule)).collect();
    let expected = [
        ("account/x", Rule::Readable),
        ("ledger/1/0/9", Rule::Readable),
        ("transfer/short", Rule::Readable),
        ("wine", Rule::Known),
        ("wine/1", Rule::Known),
    ];
    assert_eq!(found, expected);
}

/// Leaves a transfer of Ann's and a build that stopped for ever at their store's call number `at`.
async fn half_way(store: &MemoryStore, at: u64, fault: Fault) {
    for seed in [5, 6] {
        let client = store.client();
        client.faults().at(at, fault);
        let owners = Arc::new(NoOwners { all_gone: true });
        let estate = Transactions::new(Arc::new(client), kinds::all(Arc::new(Meadow)), owners, seed);
        let legs = [leg(Place::Player(1), Place::Player(2), wood(2))];
        let building = works::Building {
            id: ObjectId(81),
            kind: "hut".to_owned(),
            island: ISLAND,
            footprint: Footprint::new(Tile { x: 80, y: 80 }, 2, 2, Rotation::R0).expect("a footprint"),
            made_s: 1,
            data: Map::new(),
        };
        let run = async {
            if seed == 5 {
                let _ = transfer(&estate, OperationId(50), &legs).await;
            } else {
                let by = By::Player(ObjectId(2));
                let _ = works::build(&estate, &Meadow, OperationId(51), by, &building, &[]).await;
            }
        };
        // Ended or stopped for ever.
        let _ = timeout(PATIENCE / 2, run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_dead_driver_leaves_is_found_and_settled() {
    let (mut left, mut clean) = (0, 0);
    for at in 1..=20 {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let store = world().await;
            half_way(&store, at, fault).await;
            let seen = check(&store, false).await;
            let unfinished = |f: &Finding| matches!(f.rule, Rule::Intent | Rule::Transfer | Rule::Ledger);
            left += u32::from(!seen.clean());
            clean += u32::from(seen.clean());
            // Deeds and objects of a build that is half applied disagree until it is finished.
            let told = seen.clean() || seen.findings.iter().any(unfinished);
            assert!(told, "{at} {fault:?}: {:#?}", seen.findings);
            let repaired = check(&store, true).await;
            assert!(repaired.clean(), "{at} {fault:?}: {:#?}", repaired.findings);
            let after = check(&store, false).await;
            assert!(after.clean() && after.found == 0, "{at} {fault:?}: {:#?}", after.findings);
            tokio::time::advance(REMEMBERED).await;
            let over = store.snapshot();
            assert!(over.keys().all(|key| !key.starts_with("transfer/") && !key.starts_with("operation/")));
        }
    }
    assert!(left >= 16 && clean >= 2, "{left} left something, {clean} nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_no_finding() {
    let store = world().await;
    half_way(&store, 7, Fault::StopBefore).await;
    // Somebody else settles it while the audit waits.
    let other = transactions(&store, 8);
    let (report, ()) = tokio::join!(check(&store, false), async {
        tokio::time::sleep(PATIENCE / 2).await;
        let settled = tokio::join!(other.settle("player/1"), other.settle_ledger("ledger/1/1/1"));
        assert_eq!(settled, (Ok(()), Ok(())));
    });
    assert!(report.clean() && report.under_way > 0, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_findings_has_a_bound() {
    let store = MemoryStore::new();
    for n in 0..FINDINGS + 10 {
        put(&store, &format!("wine/{n}"), "{}").await;
    }
    let report = check(&store, true).await;
    assert_eq!((report.findings.len(), report.found), (FINDINGS, FINDINGS as u64 + 10));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_ends_the_audit() {
    let store = world().await;
    let client = store.client();
    client.faults().at(2, Fault::Refuse);
    let owners = Arc::new(NoOwners { all_gone: true });
    let estate = Transactions::new(Arc::new(client), kinds::all(Arc::new(Meadow)), owners, 1);
    let failed = audit(&estate, false, &mut |_| {}).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_names_what_can_be_no_arbiter_is_a_finding_and_does_not_end_the_audit() {
    for arbiter in ["", "a\u{1}b", "player/1", "nothing", &"x".repeat(300)] {
        let store = world().await;
        let intent = json!({"arbiter": arbiter, "op": OperationId(9), "token": 1});
        edit(&store, "player/2", |player| player["marks"] = json!({"intent": intent})).await;
        let report = check(&store, false).await;
        let found: Vec<(&str, Rule)> = report.findings.iter().map(|f| (f.key.as_str(), f.rule)).collect();
        assert_eq!(found, [("player/2", Rule::Intent)], "{arbiter:?}");
    }
}
