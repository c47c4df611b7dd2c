//! Names, serials, stacks, limits and books; and the small world that the tests of transfers, trades and promises share.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::balance::balance;
use super::*;
use crate::player::{Birth, PlayerDocument};
use crate::store::memory::MemoryStore;
use crate::transaction::{Kind, NoOwners, Refusal, TransactionError, Transactions};

pub(super) const ANN: u64 = 1;
pub(super) const BOB: u64 = 2;
pub(super) const CAT: u64 = 3;

/// The operation that made everything that was there before.
pub(super) const FIRST: OperationId = OperationId(0xf1);

pub(super) fn item(name: &str) -> ItemName {
    name.parse().expect("a name")
}

/// Goods from text: `"3 wood #1 sword"` is a stack of three and the sword with the first operation's serial 1.
pub(super) fn goods(text: &str) -> Goods {
    let mut goods = Goods::default();
    let words: Vec<&str> = text.split_whitespace().collect();
    for pair in words.chunks(2) {
        let more = match pair[0].strip_prefix('#') {
            Some(index) => {
                let serial = Serial { op: FIRST, index: index.parse().expect("an index") };
                let data = json!({"wear": index, "by": ["ann", null, true, -3]});
                let Value::Object(data) = data else { panic!("an object") };
                Goods::unique(serial, Unique { item: item(pair[1]), data })
            }
            None => Goods::stack(item(pair[1]), pair[0].parse().expect("a count")),
        };
        goods.add(&more).expect("sound goods");
    }
    goods
}

/// A store with players, and transactions over it.
pub(super) struct World {
    pub(super) store: MemoryStore,
    pub(super) transactions: Transactions,
}

/// Transactions of a node on a store. With different seeds they are different nodes.
pub(super) fn transactions(store: &MemoryStore, seed: u64) -> Transactions {
    Transactions::new(Arc::new(store.client()), kinds(Kinds::default()), Arc::new(NoOwners { all_gone: true }), seed)
}

impl World {
    /// Ann, Bob and Cat with what they hold.
    pub(super) async fn new(holds: [&str; 3]) -> World {
        let store = MemoryStore::new();
        let birth = Birth { hue: 1, island: 1, x: 0, y: 0 };
        let world = World { transactions: transactions(&store, 1), store };
        for (id, text) in [ANN, BOB, CAT].into_iter().zip(holds) {
            player::create(&world.store, id, &format!("account{id}"), "Name", &birth).await.expect("create");
            if !text.is_empty() {
                world.run(FIRST, &[leg(Place::Mint, Place::Player(id), text)]).await.expect("made");
            }
        }
        world
    }

    pub(super) async fn run(&self, op: OperationId, legs: &[Leg]) -> Result<(), TransactionError> {
        transfer(&self.transactions, op, legs).await
    }

    pub(super) fn player(&self, id: u64) -> PlayerDocument {
        let stored = &self.store.snapshot()[&player::key(id)];
        serde_json::from_slice(&stored.value).expect("a player")
    }

    /// What is at a place. No document is as good as nothing.
    pub(super) fn at(&self, place: Place) -> Goods {
        if let Place::Player(id) = place {
            return self.player(id).bag;
        }
        let snapshot = self.store.snapshot();
        let stored = snapshot.get(&place.key(FIRST));
        stored.map_or_else(Goods::default, |stored| {
            let document: container::ContainerDocument = serde_json::from_slice(&stored.value).expect("a container");
            document.goods
        })
    }

    /// The books agree and nothing is held.
    pub(super) fn is_even(&self) {
        let balance = balance(&self.store.snapshot()).expect("readable");
        assert_eq!(balance.differences().collect::<Vec<_>>(), Vec::new());
        assert_eq!(balance.unsettled(), 0);
    }

    /// All documents but arbiters and tombstones, without what transactions leave: to see that nothing changed.
    pub(super) fn content(&self) -> BTreeMap<String, Value> {
        let strip = |value: &[u8]| {
            let mut value: Value = serde_json::from_slice(value).expect("json");
            let fields = value.as_object_mut().expect("an object");
            fields.remove("marks");
            // Raised by every write of a transaction.
            fields.remove("epoch");
            value
        };
        let snapshot = self.store.snapshot();
        let documents = snapshot.iter().filter(|(key, _)| !key.starts_with("transfer/"));
        let blank = |value: &Value| value["goods"] == json!({}) && value.get("limits").is_none();
        let contents = documents.map(|(key, stored)| (key.clone(), strip(&stored.value)));
        contents.filter(|(_, value)| !blank(value)).collect()
    }
}

pub(super) fn leg(from: Place, to: Place, text: &str) -> Leg {
    Leg { from, to, goods: goods(text) }
}

/// The code of a refusal.
pub(super) fn code<T: fmt::Debug>(result: &Result<T, TransactionError>) -> &str {
    match result {
        Ok(_) => "ok",
        Err(TransactionError::Refused(refusal)) => &refusal.code,
        Err(error) => panic!("{error}"),
    }
}

fn refused(result: Result<(), Refusal>) -> String {
    result.map_or_else(|refusal| refusal.code, |()| "ok".to_owned())
}

#[test]
fn names_of_items_are_short_and_plain() {
    for good in ["a", "wood", "iron_bar_2", "0", "_", &"x".repeat(NAME_MOST)] {
        let name: ItemName = good.parse().expect(good);
        assert_eq!((name.as_str(), name.to_string().as_str()), (good, good));
        assert_eq!(serde_json::from_value::<ItemName>(json!(good)).ok(), Some(name));
    }
    for bad in ["", "Wood", "wo od", "wood/1", "é", "a-b", "a\0", &"x".repeat(NAME_MOST + 1)] {
        assert!(bad.parse::<ItemName>().is_err(), "{bad}");
        assert!(serde_json::from_value::<ItemName>(json!(bad)).is_err(), "{bad}");
    }
    let long = "x".repeat(1_000_000).parse::<ItemName>().expect_err("too long");
    assert!(long.to_string().len() < 200, "an error is short");
}

#[test]
fn a_serial_has_one_text() {
    let serial = Serial { op: OperationId(0xab), index: 7 };
    assert_eq!(serial.to_string(), "000000000000000000000000000000ab-7");
    assert_eq!(serial.to_string().parse(), Ok(serial));
    let op = "000000000000000000000000000000ab";
    for bad in ["", "-", op, &format!("{op}-"), &format!("{op}-07"), &format!("{op}-+7"), &format!("{op}-65536")] {
        assert!(bad.parse::<Serial>().is_err(), "{bad}");
    }
    assert!(format!("{}-7", op.to_uppercase()).parse::<Serial>().is_err(), "capitals");
    assert!("é".repeat(500).parse::<Serial>().is_err());
}

#[test]
fn hashes_of_serials_differ() {
    let mut seen = std::collections::BTreeSet::new();
    for op in 0..64_u128 {
        for index in 0..64 {
            for op in [op, op << 64, !op] {
                seen.insert(Serial { op: OperationId(op), index }.hash());
            }
        }
    }
    // Zero is the same number shifted.
    assert_eq!(seen.len(), 64 * 64 * 3 - 64);
}

#[test]
fn forged_goods_are_refused() {
    let serial = Serial { op: FIRST, index: 0 };
    for bad in [
        json!({"stacks": {"wood": -1}}),
        json!({"stacks": {"wood": 1.5}}),
        json!({"stacks": {"wood": "3"}}),
        json!({"stacks": {"wood": null}}),
        json!({"stacks": {"Wood": 1}}),
        json!({"stacks": [1]}),
        json!({"uniques": {"1": {"item": "axe"}}}),
        json!({"uniques": {serial.to_string(): {"item": "an axe"}}}),
        json!({"uniques": {serial.to_string(): {"item": "axe", "count": 2}}}),
        json!({"uniques": {serial.to_string(): {"item": "axe", "data": [1]}}}),
        json!({"coins": 3}),
        json!(3),
    ] {
        assert!(serde_json::from_value::<Goods>(bad.clone()).is_err(), "{bad}");
        assert!(serde_json::from_str::<Goods>(&bad.to_string()).is_err(), "{bad}");
        let effect = json!({"put": bad});
        assert!(serde_json::from_value::<GoodsEffect>(effect).is_err(), "{bad}");
    }
    for huge in ["18446744073709551616", "1e30", "-0.1", "1e1000"] {
        let text = format!(r#"{{"stacks":{{"wood":{huge}}}}}"#);
        assert!(serde_json::from_str::<Goods>(&text).is_err(), "{huge}");
    }
    for unknown in [json!({"puts": {}}), json!({"keep": {"after": 0}}), json!({"experience": -1}), json!({"close": 1})]
    {
        assert!(serde_json::from_value::<GoodsEffect>(unknown.clone()).is_err(), "{unknown}");
    }
    let nothing: Goods = serde_json::from_value(json!({"stacks": {"wood": 0, "stone": 2}})).expect("sound");
    assert_eq!(nothing, goods("2 stone"), "an entry of nothing is none");
}

#[test]
fn goods_read_back_as_they_were_written() {
    for text in ["", "3 wood", "3 wood 4 stone", "#1 sword", "1 wood #1 sword #2 sword #65535 map"] {
        let goods = goods(text);
        let written = serde_json::to_string(&goods).expect("json");
        assert_eq!(serde_json::from_str::<Goods>(&written).expect("json"), goods, "{written}");
        let through = serde_json::from_value::<Goods>(serde_json::to_value(&goods).expect("json"));
        assert_eq!(through.expect("json"), goods);
    }
    assert_eq!(serde_json::to_string(&Goods::default()).expect("json"), "{}");
}

/// Changes `held` within limits of 4 slots with 10 each; what is refused has a code instead of an outcome.
fn check_change(held: &str, take: &str, put: &str, expected: &str) {
    let mut changed = goods(held);
    let result = changed.change(&goods(take), &goods(put), Limits { slots: 4, per_stack: 10 });
    match result {
        Ok(()) => assert_eq!(changed, goods(expected), "{held} - {take} + {put}"),
        Err(refusal) => assert_eq!(refusal.code, expected, "{held} - {take} + {put}"),
    }
}

#[test]
fn what_is_taken_must_be_there_and_what_is_put_must_fit() {
    for (held, take, put, expected) in [
        ("", "", "3 wood", "3 wood"),
        ("3 wood", "3 wood", "", ""),
        ("3 wood", "1 wood", "2 stone", "2 wood 2 stone"),
        ("3 wood", "4 wood", "", "too_little"),
        ("3 wood", "1 stone", "", "too_little"),
        ("3 wood", "4 wood", "4 wood", "too_little"),
        ("3 wood", "3 wood", "3 wood", "3 wood"),
        ("#1 sword", "#1 sword", "", ""),
        ("#1 sword", "#1 sword", "#1 sword", "#1 sword"),
        ("#1 sword", "#2 sword", "", "too_little"),
        ("#1 sword", "#1 map", "", "changed"),
        ("#1 sword", "", "#1 sword", "taken"),
        ("#1 sword", "", "#1 map", "taken"),
        ("", "", "40 wood", "40 wood"),
        ("", "", "41 wood", "full"),
        ("", "", "31 wood 9 stone", "full"),
        ("", "", "30 wood 10 stone", "30 wood 10 stone"),
        ("", "", "1 a 1 b 1 c 1 d", "1 a 1 b 1 c 1 d"),
        ("1 a 1 b 1 c #1 d", "", "1 e", "full"),
        ("1 a 1 b 1 c #1 d", "#1 d", "1 e", "1 a 1 b 1 c 1 e"),
        ("1 a 1 b 1 c 1 d", "", "9 a", "10 a 1 b 1 c 1 d"),
        ("1 a 1 b 1 c 1 d", "", "10 a", "full"),
        // More than fits, by hand or because limits were once higher: it may become less, not more.
        ("90 wood", "5 wood", "", "85 wood"),
        ("90 wood", "20 wood", "1 stone", "70 wood 1 stone"),
        ("90 wood", "10 wood", "1 stone", "80 wood 1 stone"),
        ("90 wood", "9 wood", "1 stone", "full"),
        ("90 wood", "", "1 stone", "full"),
        ("18446744073709551615 wood", "", "1 wood", "overflow"),
        ("1 wood", "", "18446744073709551615 wood", "overflow"),
        ("1 wood", "1 wood", "18446744073709551615 wood", "full"),
    ] {
        check_change(held, take, put, expected);
    }
}

#[test]
fn slots_never_overflow() {
    let many = goods("18446744073709551615 a 18446744073709551615 b #1 c");
    assert_eq!(many.slots(1), u64::MAX);
    assert_eq!(many.slots(0), u64::MAX);
    assert_eq!(many.slots(u64::MAX), 3);
}

#[test]
fn data_of_uniques_is_small_shallow_and_exact() {
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    for (data, expected) in [
        (json!({}), "ok"),
        (json!({"wear": 3, "by": "ann", "tags": [1, null, {"a": true}]}), "ok"),
        (json!({"wear": u64::MAX, "luck": i64::MIN}), "ok"),
        (json!({"wear": 0.5}), "malformed"),
        (json!({"wear": 1.0}), "malformed"),
        (json!({"tags": [[{"x": [1e300]}]]}), "malformed"),
        (json!({"text": "x".repeat(UNIQUE_BYTES)}), "malformed"),
        (json!({"text": "x".repeat(UNIQUE_BYTES - 11)}), "ok"),
        (json!({"deep": deep(8)}), "ok"),
        (json!({"deep": deep(9)}), "malformed"),
        (json!({"deep": deep(100)}), "malformed"),
    ] {
        let Value::Object(data) = data else { panic!("an object") };
        let serial = Serial { op: FIRST, index: 0 };
        let unique = Goods::unique(serial, Unique { item: item("axe"), data: data.clone() });
        assert_eq!(refused(Goods::default().add(&unique)), expected, "{data:?}");
    }
}

#[test]
fn a_page_books_everything_and_refuses_what_no_number_holds() {
    let mut page = Page::default();
    assert!(page.is_empty());
    page.book(&goods("3 wood #1 axe #2 axe"), &goods("1 wood")).expect("booked");
    page.book(&goods("2 wood"), &goods("#1 axe 4 stone")).expect("booked");
    let axe = Serial { op: FIRST, index: 2 }.hash();
    let expected = json!({
        "created": {"wood": 5},
        "destroyed": {"wood": 1, "stone": 4},
        "uniques": {"axe": {"created": 2, "destroyed": 1, "sum": axe}},
    });
    assert_eq!(serde_json::to_value(&page).expect("json"), expected);
    assert_eq!(serde_json::from_value::<Page>(expected).expect("json"), page);
    let much = goods("18446744073709551613 wood");
    assert_eq!(refused(page.book(&much, &Goods::default())), "overflow");
    assert_eq!(refused(page.book(&Goods::default(), &goods("18446744073709551615 wood"))), "overflow");
    let mut page = Page::default();
    for n in 0..mint::ITEMS_MOST {
        page.book(&goods(&format!("1 item_{n}")), &Goods::default()).expect("booked");
    }
    assert_eq!(refused(page.book(&goods("1 another"), &Goods::default())), "full");
}

#[test]
fn each_kind_refuses_what_it_does_not_do() {
    let one = goods("1 wood");
    let limits = Limits { slots: 1, per_stack: 10 };
    let effects = [
        ("take", GoodsEffect { take: one.clone(), ..GoodsEffect::default() }),
        ("put", GoodsEffect { put: one.clone(), ..GoodsEffect::default() }),
        ("create", GoodsEffect { create: one.clone(), ..GoodsEffect::default() }),
        ("destroy", GoodsEffect { destroy: one, ..GoodsEffect::default() }),
        ("limits", GoodsEffect::open(limits)),
        ("close", GoodsEffect::close()),
        ("experience", GoodsEffect { experience: 1, ..GoodsEffect::default() }),
        ("keep", GoodsEffect { keep: Some(Keep { after: 0, to: 1 }), ..GoodsEffect::default() }),
    ];
    let allowed = |kind: &str| -> &[&str] {
        match kind {
            "player" => &["take", "put", "create", "destroy", "experience", "keep"],
            "box" => &["take", "put", "limits", "close"],
            "ground" => &["take", "put"],
            _ => &["create", "destroy"],
        }
    };
    for (name, effect) in effects {
        let player = |effect: &GoodsEffect| {
            let text = r#"{"v":4,"id":1,"account":"a","name":"A","hue":1,"owner":null,"epoch":0,"writes":0,"island":1,
                "seat":{"session":"","turn":0,"until_s":0},"held":0,
                "x":0,"y":0,"health":100,"home":1,"floor":0,"bag":{"stacks":{"wood":1}},"page":{},"kept":0,"experience":0}"#;
            let mut document: PlayerDocument = serde_json::from_str(text).expect("a player");
            PlayerKind.apply(&mut document, effect)
        };
        let container = |effect: &GoodsEffect| {
            let mut document = BoxKind.born("box/1").expect("a box");
            if effect.limits.is_none() {
                BoxKind.apply(&mut document, &GoodsEffect::open(limits)).expect("built");
                document.0.goods =
                    if effect.close || !effect.put.is_empty() { Goods::default() } else { goods("1 wood") };
            }
            BoxKind.apply(&mut document, effect)
        };
        let ground = |effect: &GoodsEffect| {
            let mut document = GroundKind.born("ground/1/2/3").expect("ground");
            document.0.goods = goods("1 wood");
            GroundKind.apply(&mut document, effect)
        };
        let mint = |effect: &GoodsEffect| MintKind.apply(&mut MintKind.born("mint/5").expect("a shard"), effect);
        let results = [
            ("player", player(&effect)),
            ("box", container(&effect)),
            ("ground", ground(&effect)),
            ("mint", mint(&effect)),
        ];
        for (kind, result) in results {
            let expected = if allowed(kind).contains(&name) { "ok" } else { "malformed" };
            assert_eq!(refused(result), expected, "{kind}: {name}");
        }
    }
}

#[test]
fn keys_that_are_not_canonical_name_nothing() {
    let born = |key: &str| match key.split('/').next() {
        Some("box") => BoxKind.born(key).is_ok(),
        Some("ground") => GroundKind.born(key).is_ok(),
        Some("mint") => MintKind.born(key).is_ok(),
        Some("trade") => TradeKind.born(key).is_ok(),
        Some("promise") => PromiseKind.born(key).is_ok(),
        _ => PlayerKind.born(key).is_ok(),
    };
    let op = FIRST.to_string();
    for good in ["box/0", "box/9007199254740991", "ground/0/0/0", "ground/4294967295/65535/65535", "mint/0", "mint/63"]
    {
        assert!(born(good), "{good}");
    }
    assert!(born(&format!("trade/{op}")) && born("promise/7"));
    for bad in [
        "box/",
        "box/01",
        "box/-1",
        "box/9007199254740992",
        "box/1/2",
        "ground/1/2",
        "ground/1/2/3/4",
        "ground/1/2/65536",
        "ground/1/+2/3",
        "mint/64",
        "mint/00",
        "mint/",
        "trade/1",
        "trade/",
        "promise/",
        "promise/07",
        "player/1",
    ] {
        assert!(!born(bad), "{bad}");
    }
    assert!(!born(&format!("trade/{}", op.to_uppercase())));
}

#[tokio::test(start_paused = true)]
async fn a_balance_sees_every_item_that_is_lost_doubled_or_forged() {
    let world = World::new(["5 wood #1 sword #2 sword", "7 stone", ""]).await;
    world.is_even();
    let even = world.store.snapshot();
    for (from, to, expected) in [
        (r#""wood":5"#, r#""wood":4"#, "wood: 4 held, but 5 created and 0 destroyed"),
        (r#""wood":5"#, r#""wood":10"#, "wood: 10 held, but 5 created and 0 destroyed"),
        ("f1-1", "f1-3", "sword: 2 held, but 2 created and 0 destroyed, or others"),
        (r#""item":"sword""#, r#""item":"map""#, "map: 2 held, but 0 created and 0 destroyed, or others"),
    ] {
        let mut documents = even.clone();
        let stored = documents.get_mut(&player::key(ANN)).expect("Ann");
        let text = String::from_utf8(stored.value.to_vec()).expect("text");
        // The page comes after the bag and stays as it is.
        let (bag, page) = text.split_at(text.find("\"page\"").expect("a page"));
        let forged = bag.replace(from, to) + page;
        assert_ne!(forged, text);
        stored.value = forged.into();
        let found = balance(&documents).expect("readable").differences().next().expect("a difference");
        assert_eq!(found.to_string(), expected);
    }
    let mut without = even.clone();
    without.remove(&player::key(BOB));
    assert!(balance(&without).expect("readable").differences().next().is_none(), "gone with its own page");
    assert_eq!(balance(&even).expect("readable").held(&item("wood")), 5);
    assert_eq!(balance(&even).expect("readable").held_uniques(&item("sword")), 2);
}
