//! Land under every schedule within bounds: deaths, pauses, lost, late and doubled calls while things are built, taken down
//! and moved, and while land is claimed.
//!
//! Every driver asks for its operation twice in a row. What a scenario is and how a failure is repeated stands in
//! `estate::schedules`. A test here NEVER times anything: counts are printed
//! (`cargo test -p wildmesh-estate --test crash_points_land -- --nocapture`).
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use estate::document::{Document, Migration, decode};
use estate::land::checks::disagreements;
use estate::land::claims::{self, Claim, Extension};
use estate::land::works::{self, Building};
use estate::land::{By, Footprint, GRACE_S, Grounds, HoldingDocument, ObjectDocument, Rotation, kinds};
use estate::schedules::{Bounds, End, Report, Scenario, explore};
use estate::store::{Outcome, SCAN_LIMIT, Store, Stored, WriteOptions};
use estate::transaction::{
    Kind, Kinds, Marks, NoOwners, OperationId, Part, REMEMBERED, Refusal, TransactionError, Transactions,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const ISLAND: IslandId = IslandId(1);
const ANN: ObjectId = ObjectId(1);
const BOB: ObjectId = ObjectId(2);
const OBJECT: ObjectId = ObjectId(10);
const NOW_S: u64 = 1_000_000;
const COINS: i64 = 10;
const PRICE: i64 = 3;

/// An even island.
struct Plain;

impl Grounds for Plain {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island == ISLAND).then_some((128, 128))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        self.size(island).is_some_and(|size| tile.is_within(size))
    }

    fn natural(&self, _island: IslandId, _tile: Tile) -> u32 {
        0
    }
}

/// What operations cost, as far as land is concerned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PurseDocument {
    v: u32,
    coins: i64,
    #[serde(default)]
    marks: Marks,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Document for PurseDocument {
    const KIND: &'static str = "purse";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

struct PurseKind;

impl Kind for PurseKind {
    type Document = PurseDocument;
    type Effect = i64;

    fn born(&self, _key: &str) -> Result<PurseDocument, Refusal> {
        Err(Refusal::new("missing", "the setup makes the purse"))
    }

    fn marks<'a>(&self, document: &'a mut PurseDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut PurseDocument, effect: &i64) -> Result<(), Refusal> {
        document.coins += effect;
        if document.coins < 0 { Err(Refusal::new("too_little", "the purse is empty")) } else { Ok(()) }
    }

    fn is_blank(&self, _key: &str, _document: &PurseDocument) -> bool {
        false
    }
}

fn price() -> Vec<Part> {
    vec![Part::new::<PurseKind>("purse/1", &-PRICE)]
}

fn node(store: Arc<dyn Store>, seed: u64) -> Transactions {
    let kinds = kinds(Kinds::default(), Arc::new(Plain)).with(PurseKind);
    Transactions::new(store, kinds, Arc::new(NoOwners { all_gone: false }), seed)
}

fn chunk(x: u16, y: u16) -> Chunk {
    Chunk { island: ISLAND, x, y }
}

fn rectangle(x: u16, y: u16, width: u8, height: u8) -> Footprint {
    Footprint::new(Tile::new(x, y), width, height, Rotation::R0).expect("footprint")
}

/// One operation, as a client asks for it.
#[derive(Clone, Debug)]
enum Ask {
    Build { by: ObjectId, id: ObjectId, footprint: Footprint },
    Demolish { by: ObjectId },
    Move { x: u16, y: u16 },
    Claim { owner: ObjectId, holding: ObjectId, now_s: u64 },
    Extend { by: ObjectId, holding: ObjectId },
    Pay { holding: ObjectId, now_s: u64 },
    GiveUp { by: ObjectId, holding: ObjectId },
    GiveAway { by: ObjectId, holding: ObjectId, to: ObjectId },
}

/// The chunk about which claims are.
const AREA: (u16, u16) = (3, 3);

impl Ask {
    /// The price is paid by works, not by what concerns holdings only.
    async fn once(&self, node: &Transactions, op: u128) -> Result<(), TransactionError> {
        let (op, chunk) = (OperationId(op), chunk(AREA.0, AREA.1));
        match self.clone() {
            Ask::Build { by, id, footprint } => {
                let kind = "hut".to_owned();
                let hut = Building { id, kind, island: ISLAND, footprint, made_s: NOW_S, data: Map::new() };
                works::build(node, &Plain, op, By::Player(by), &hut, &price()).await
            }
            Ask::Demolish { by } => works::demolish(node, op, By::Player(by), OBJECT, &price()).await,
            Ask::Move { x, y } => {
                let to = (Tile::new(x, y), Rotation::R90);
                works::move_to(node, &Plain, op, By::Player(ANN), OBJECT, to, &price()).await
            }
            Ask::Claim { owner, holding, now_s } => {
                let claim = Claim { holding, chunk, owner, now_s, paid_until_s: now_s + 10 };
                claims::claim(node, &Plain, op, &claim, &[]).await
            }
            Ask::Extend { by, holding } => {
                let extension = Extension { holding, chunk, by, now_s: NOW_S };
                claims::extend(node, &Plain, op, &extension, &[]).await
            }
            Ask::Pay { holding, now_s } => claims::pay(node, op, holding, now_s, 10, &[]).await,
            Ask::GiveUp { by, holding } => claims::give_up(node, op, by, holding, chunk, &[]).await,
            Ask::GiveAway { by, holding, to } => claims::give_away(node, op, by, holding, to, &[]).await,
        }
    }
}

/// What one driver was told: the operation, and both answers.
#[derive(Clone, Debug)]
struct Told {
    op: u128,
    answers: [Result<(), TransactionError>; 2],
}

impl Told {
    /// The newest answer that says for sure what became of it.
    fn surely(&self) -> Option<bool> {
        let of = |answer: &Result<(), TransactionError>| match answer {
            Ok(()) => Some(true),
            Err(error) => match error.outcome() {
                Outcome::Done => Some(true),
                Outcome::NotDone => Some(false),
                Outcome::Maybe => None,
            },
        };
        // A success is never taken back; a refusal may be followed by one.
        let [first, second] = [of(&self.answers[0]), of(&self.answers[1])];
        if first == Some(true) || second == Some(true) { Some(true) } else { second }
    }

    fn codes(&self) -> [&str; 2] {
        let code = |answer: &'_ Result<(), TransactionError>| match answer {
            Ok(()) => "",
            Err(TransactionError::Refused(refusal)) => match refusal.code.as_str() {
                "occupied" => "occupied",
                "owned" => "owned",
                "missing" => "missing",
                "unpaid" => "unpaid",
                _ => "other",
            },
            Err(_) => "error",
        };
        [code(&self.answers[0]), code(&self.answers[1])]
    }
}

/// Reads everything as ordinary reading does, looks whether all agrees, and waits until what is only memory has gone.
async fn recover(store: Arc<dyn Store>) -> Result<(), String> {
    let reader = node(store.clone(), 1 << 50);
    let wrong = |error: TransactionError| error.to_string();
    for (key, _) in scan(&store).await {
        match key.split('/').next() {
            Some("ledger") => reader.settle_ledger(&key).await.map_err(wrong)?,
            Some("deed" | "object" | "holding" | "purse") => reader.settle(&key).await.map_err(wrong)?,
            _ => {}
        }
    }
    let documents = scan(&store).await;
    ensure(disagreements(&documents, &Plain).is_empty(), || disagreements(&documents, &Plain).join("; "))?;
    tokio::time::sleep(REMEMBERED * 2).await;
    Ok(())
}

async fn scan(store: &Arc<dyn Store>) -> BTreeMap<String, Stored> {
    let all = store.scan("", None, SCAN_LIMIT).await.expect("scan");
    assert!(all.len() < SCAN_LIMIT);
    all.into_iter().collect()
}

async fn setup(store: Arc<dyn Store>, before: Vec<Ask>) {
    let purse = format!(r#"{{"v":1,"coins":{}}}"#, COINS + PRICE * works_in(&before));
    store.insert("purse/1", Bytes::from(purse), WriteOptions::default()).await.expect("purse");
    let node = node(store, 1 << 51);
    for (n, ask) in before.iter().enumerate() {
        ask.once(&node, 1_000 + n as u128).await.expect("the setup");
    }
    tokio::time::sleep(REMEMBERED * 2).await;
}

fn works_in(asks: &[Ask]) -> i64 {
    asks.iter().filter(|ask| matches!(ask, Ask::Build { .. } | Ask::Demolish { .. } | Ask::Move { .. })).count() as i64
}

/// A scenario: what was before, and who asks for what. Drivers with the same operation id ask for the same thing.
fn scenario(name: &str, before: &[Ask], asks: &[(u128, Ask)]) -> Scenario<Told> {
    let before = before.to_vec();
    let scenario = Scenario::new(name).setup(move |store| setup(store, before.clone())).recover(recover);
    asks.iter().enumerate().fold(scenario, |scenario, (driver, (op, ask))| {
        let (op, ask) = (*op, ask.clone());
        scenario.driver(move |store| {
            let ask = ask.clone();
            async move {
                let node = node(store, (driver as u64 + 1) << 32);
                let answers = [ask.once(&node, op).await, ask.once(&node, op).await];
                Told { op, answers }
            }
        })
    })
}

/// Explores, prints what was tried, and wants it to be something.
fn prove(scenario: &Scenario<Told>) -> Report {
    let report = explore(scenario, &bounds());
    println!("{report}");
    assert!(report.schedules > 1_000 && report.stopped > 0 && report.lost > 0 && report.paused > 0, "{report}");
    report
}

/// The usual faults, fewer schedules: these protocols make many calls. `WILDMESH_SCHEDULES=5` for five times as many.
fn bounds() -> Bounds {
    let times: u64 = std::env::var("WILDMESH_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let usual = Bounds::default();
    Bounds { schedules: 1_500 * times, random: usual.random * times, ..usual }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn left<D: Document>(end: &End<Told>, key: &str) -> Result<Option<D>, String> {
    let Some(stored) = end.documents.get(key) else { return Ok(None) };
    decode(key, &stored.value).map(|(document, _)| Some(document)).map_err(|error| error.to_string())
}

fn object(end: &End<Told>, id: ObjectId) -> Result<Option<ObjectDocument>, String> {
    left(end, &format!("object/{id}"))
}

fn holding(end: &End<Told>, id: ObjectId) -> Result<Option<HoldingDocument>, String> {
    left(end, &format!("holding/{id}"))
}

/// What holds in every scenario: all documents agree, only `keys` are left, what has `happened` was paid for and told.
fn check(end: &End<Told>, keys: &[String], paid: bool, happened: &[(u128, bool)]) -> Result<(), String> {
    let wrong = disagreements(&end.documents, &Plain);
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    let mut keys = keys.to_vec();
    keys.push("purse/1".to_owned());
    keys.sort();
    ensure(end.documents.keys().eq(&keys), || format!("left are {:?}, not {keys:?}", end.documents.keys()))?;
    let purse: PurseDocument = left(end, "purse/1")?.ok_or("the purse is gone")?;
    let times = if paid { happened.iter().filter(|(_, happened)| *happened).count() as i64 } else { 0 };
    ensure(purse.coins == COINS - PRICE * times, || format!("{} coins after {happened:?}", purse.coins))?;
    for (op, happened) in happened {
        let told: Vec<&Told> = end.told().filter(|told| told.op == *op).collect();
        let success = told.iter().any(|told| told.surely() == Some(true));
        ensure(!success || *happened, || format!("operation {op} did not happen: {told:?}"))?;
        // Whoever was told nothing, or told that it is not known, may have made it happen.
        let drivers = end.answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).count();
        let all_refused = drivers == 0 && told.iter().all(|told| told.surely() == Some(false));
        ensure(!all_refused || !*happened, || format!("operation {op} has happened: {told:?}"))?;
        for one in told {
            let both = [one.answers[0].is_ok(), one.answers[1].is_ok()];
            let second_known = one.answers[1].as_ref().err().is_none_or(|error| error.outcome() != Outcome::Maybe);
            let failed = matches!(one.answers[1], Err(TransactionError::Document(_) | TransactionError::Busy(_)));
            ensure(both != [true, false] || !second_known || failed, || format!("asked twice: {one:?}"))?;
        }
    }
    // Without faults nobody is left without a clear answer.
    let clear = |told: &Told| !told.codes().contains(&"error") && !told.codes().contains(&"other");
    ensure(end.faults > 0 || end.told().all(clear), || format!("{:?}", end.answers))
}

/// The same where all drivers ask for one operation and nobody wants anything else: it is never told to be impossible.
fn check_sole(end: &End<Told>, keys: &[String], paid: bool, happened: bool) -> Result<(), String> {
    let refused = |told: &Told| told.answers.iter().any(|answer| matches!(answer, Err(TransactionError::Refused(_))));
    ensure(!end.told().any(refused), || format!("refused without a reason: {:?}", end.answers))?;
    ensure(happened || end.faults > 0, || "it has not happened".to_owned())?;
    check(end, keys, paid, &[(1, happened)])
}

fn keys_of(footprint: &Footprint, id: ObjectId) -> Vec<String> {
    let deeds = footprint.by_chunk(ISLAND).into_keys().map(|chunk| format!("deed/{ISLAND}/{}/{}", chunk.x, chunk.y));
    deeds.chain([format!("object/{id}")]).collect()
}

#[test]
fn a_build_across_four_chunks_asked_for_by_two_drivers_happens_once() {
    let footprint = rectangle(15, 15, 2, 2);
    let build = Ask::Build { by: ANN, id: OBJECT, footprint: footprint.clone() };
    let scenario = scenario("one build twice", &[], &[(1, build.clone()), (1, build)]).check(move |end| {
        let built = object(end, OBJECT)?.is_some();
        let keys = if built { keys_of(&footprint, OBJECT) } else { Vec::new() };
        check_sole(end, &keys, true, built)
    });
    prove(&scenario);
}

#[test]
fn of_two_builds_that_overlap_across_four_chunks_at_most_one_stands() {
    let (left, right) = (rectangle(15, 15, 2, 2), rectangle(16, 14, 2, 3));
    let asks = [
        (1, Ask::Build { by: ANN, id: OBJECT, footprint: left.clone() }),
        (2, Ask::Build { by: BOB, id: ObjectId(11), footprint: right.clone() }),
    ];
    let scenario = scenario("two builds", &[], &asks).check(move |end| {
        let built = [object(end, OBJECT)?.is_some(), object(end, ObjectId(11))?.is_some()];
        let keys = match built {
            [true, false] => keys_of(&left, OBJECT),
            [false, true] => keys_of(&right, ObjectId(11)),
            [false, false] => Vec::new(),
            [true, true] => return Err("both stand".to_owned()),
        };
        ensure(end.faults > 0 || end.alone || built != [false, false], || "none stands".to_owned())?;
        let codes: Vec<[&str; 2]> = end.told().map(Told::codes).collect();
        let fits = codes.iter().flatten().all(|code| ["", "occupied"].contains(code));
        ensure(end.faults > 0 || fits, || format!("{codes:?}"))?;
        check(end, &keys, true, &[(1, built[0]), (2, built[1])])
    });
    prove(&scenario);
}

fn hut(footprint: &Footprint) -> Vec<Ask> {
    vec![Ask::Build { by: ANN, id: OBJECT, footprint: footprint.clone() }]
}

#[test]
fn a_demolition_asked_for_by_two_drivers_leaves_nothing() {
    let footprint = rectangle(15, 15, 2, 2);
    let demolish = Ask::Demolish { by: ANN };
    let asks = [(1, demolish.clone()), (1, demolish)];
    let scenario = scenario("one demolition twice", &hut(&footprint), &asks).check(move |end| {
        let gone = object(end, OBJECT)?.is_none();
        let keys = if gone { Vec::new() } else { keys_of(&footprint, OBJECT) };
        check_sole(end, &keys, true, gone)
    });
    prove(&scenario);
}

#[test]
fn a_move_onto_its_own_tiles_asked_for_by_two_drivers_happens_once() {
    let (from, to) = (rectangle(15, 15, 3, 2), rectangle(16, 16, 3, 2));
    let to = to.at(Tile::new(16, 16), Rotation::R90).expect("turned");
    let asks = [(1, Ask::Move { x: 16, y: 16 }), (1, Ask::Move { x: 16, y: 16 })];
    let scenario = scenario("one move twice", &hut(&from), &asks).check(move |end| {
        let object = object(end, OBJECT)?.ok_or("it is gone")?;
        let moved = object.footprint == to;
        ensure(moved || object.footprint == from, || format!("it stands at {:?}", object.footprint))?;
        check_sole(end, &keys_of(&object.footprint, OBJECT), true, moved)
    });
    prove(&scenario);
}

#[test]
fn of_a_move_and_a_demolition_at_once_each_told_is_true() {
    let from = rectangle(15, 15, 2, 2);
    // Another ledger than the old place's.
    let asks = [(1, Ask::Move { x: 47, y: 15 }), (2, Ask::Demolish { by: ANN })];
    let scenario = scenario("move and demolition", &hut(&from), &asks).check(move |end| {
        let object = object(end, OBJECT)?;
        let purse: PurseDocument = left(end, "purse/1")?.ok_or("the purse is gone")?;
        let gone = object.is_none();
        // Whether it was moved before it went, only what was paid tells.
        let moved = object.as_ref().map_or(purse.coins == COINS - 2 * PRICE, |object| object.footprint != from);
        let keys = object.map_or(Vec::new(), |object| keys_of(&object.footprint, OBJECT));
        check(end, &keys, true, &[(1, moved), (2, gone)])
    });
    prove(&scenario);
}

const FIRST: ObjectId = ObjectId(500);
const SECOND: ObjectId = ObjectId(501);
const FORMER: ObjectId = ObjectId(499);
const DEED: &str = "deed/1/3/3";

fn claim(owner: ObjectId, holding: ObjectId, now_s: u64) -> Ask {
    Ask::Claim { owner, holding, now_s }
}

#[test]
fn a_claim_asked_for_by_two_drivers_makes_one_holding() {
    let asks = [(1, claim(ANN, FIRST, NOW_S)), (1, claim(ANN, FIRST, NOW_S))];
    let scenario = scenario("one claim twice", &[], &asks).check(|end| {
        let held = holding(end, FIRST)?.is_some();
        let keys = if held { vec![DEED.to_owned(), format!("holding/{FIRST}")] } else { Vec::new() };
        check_sole(end, &keys, false, held)
    });
    prove(&scenario);
}

#[test]
fn of_two_claimants_of_free_land_at_most_one_wins() {
    let asks = [(1, claim(ANN, FIRST, NOW_S)), (2, claim(BOB, SECOND, NOW_S))];
    let scenario = scenario("two claimants", &[], &asks).check(|end| {
        let held = [holding(end, FIRST)?.is_some(), holding(end, SECOND)?.is_some()];
        let keys = match held {
            [true, false] => vec![DEED.to_owned(), format!("holding/{FIRST}")],
            [false, true] => vec![DEED.to_owned(), format!("holding/{SECOND}")],
            [false, false] => Vec::new(),
            [true, true] => return Err("both hold it".to_owned()),
        };
        ensure(end.faults > 0 || end.alone || held != [false, false], || "nobody holds it".to_owned())?;
        check(end, &keys, false, &[(1, held[0]), (2, held[1])])
    });
    prove(&scenario);
}

#[test]
fn of_two_claimants_of_expired_land_at_most_one_wins_and_the_former_owner_loses_it() {
    let later_s = NOW_S + 10 + GRACE_S + 1;
    let asks = [(1, claim(ANN, FIRST, later_s)), (2, claim(BOB, SECOND, later_s))];
    let before = [claim(ObjectId(9), FORMER, NOW_S)];
    let scenario = scenario("two claimants of expired land", &before, &asks).check(|end| {
        let held = [FIRST, SECOND, FORMER].map(|id| holding(end, id).map(|held| held.map(|held| held.id)));
        let held = held.into_iter().collect::<Result<Vec<_>, String>>()?;
        let holders: Vec<ObjectId> = held.iter().flatten().copied().collect();
        ensure(holders.len() == 1, || format!("it is held by {holders:?}"))?;
        ensure(end.faults > 0 || end.alone || holders != [FORMER], || "nobody won".to_owned())?;
        let keys = [DEED.to_owned(), format!("holding/{}", holders[0])];
        check(end, &keys, false, &[(1, holders[0] == FIRST), (2, holders[0] == SECOND)])
    });
    prove(&scenario);
}

#[test]
fn a_claim_of_expired_land_while_its_owner_pays_leaves_one_of_them_with_it() {
    let later_s = NOW_S + 10 + GRACE_S + 1;
    let asks = [(1, claim(ANN, FIRST, later_s)), (2, Ask::Pay { holding: FORMER, now_s: later_s })];
    let before = [claim(ObjectId(9), FORMER, NOW_S)];
    let scenario = scenario("claim of expired land and payment", &before, &asks).check(move |end| {
        let (first, former) = (holding(end, FIRST)?, holding(end, FORMER)?);
        let paid = former.as_ref().is_some_and(|former| former.paid_until_s == later_s + 10);
        let holder = match (&first, &former) {
            (Some(_), None) => FIRST,
            (None, Some(_)) => FORMER,
            _ => return Err(format!("{first:?} and {former:?}")),
        };
        ensure(end.faults > 0 || end.alone || paid || first.is_some(), || "neither happened".to_owned())?;
        check(end, &[DEED.to_owned(), format!("holding/{holder}")], false, &[(1, first.is_some()), (2, paid)])
    });
    prove(&scenario);
}

#[test]
fn a_build_that_clears_a_stale_pointer_while_the_holding_comes_back_loses_no_land() {
    // The holding has the chunk beside; the deed of the area points to it, though it does not list it.
    let stale = |scenario: Scenario<Told>| {
        scenario.setup(|store| async move {
            let beside = r#"{"v":1,"island":1,"x":4,"y":3,"stands":{},"holding":500}"#;
            let stale = r#"{"v":1,"island":1,"x":3,"y":3,"stands":{},"holding":500}"#;
            let holding =
                r#"{"v":1,"id":500,"island":1,"owner":1,"chunks":[[4,3]],"paid_until_s":9000000,"since_s":0}"#;
            let purse = format!(r#"{{"v":1,"coins":{COINS}}}"#);
            for (key, text) in
                [("deed/1/4/3", beside), (DEED, stale), ("holding/500", holding), ("purse/1", purse.as_str())]
            {
                let value = Bytes::copy_from_slice(text.as_bytes());
                store.insert(key, value, WriteOptions::default()).await.expect("insert");
            }
        })
    };
    let footprint = rectangle(50, 50, 1, 1);
    let asks = [
        (1, Ask::Build { by: BOB, id: OBJECT, footprint: footprint.clone() }),
        (2, Ask::Extend { by: ANN, holding: FIRST }),
    ];
    let scenario = stale(scenario("stale pointer", &[], &asks)).check(move |end| {
        let (built, extended) =
            (object(end, OBJECT)?.is_some(), holding(end, FIRST)?.is_some_and(|h| h.chunks.len() == 2));
        let keys = ["deed/1/4/3".to_owned(), format!("holding/{FIRST}")].into_iter();
        let area = (built || extended || end.documents.contains_key(DEED)).then_some(DEED.to_owned());
        let hut = built.then(|| format!("object/{OBJECT}"));
        let keys: Vec<String> = keys.chain(area).chain(hut).collect();
        let paid = [(1, built)];
        check(end, &keys, true, &paid)?;
        let told = end.told().any(|told| told.op == 2 && told.surely() == Some(true));
        ensure(!told || extended, || "an extension was told that did not happen".to_owned())
    });
    prove(&scenario);
}

#[test]
fn a_chunk_given_up_and_claimed_at_once_is_never_held_twice() {
    let asks = [(1, Ask::GiveUp { by: ObjectId(9), holding: FORMER }), (2, claim(ANN, FIRST, NOW_S))];
    let before = [claim(ObjectId(9), FORMER, NOW_S)];
    let scenario = scenario("give up and claim", &before, &asks).check(|end| {
        let (former, first) = (holding(end, FORMER)?.is_some(), holding(end, FIRST)?.is_some());
        let keys = match (former, first) {
            (true, false) => vec![DEED.to_owned(), format!("holding/{FORMER}")],
            (false, true) => vec![DEED.to_owned(), format!("holding/{FIRST}")],
            (false, false) => Vec::new(),
            (true, true) => return Err("it is held twice".to_owned()),
        };
        check(end, &keys, false, &[(1, !former), (2, first)])
    });
    prove(&scenario);
}

#[test]
fn a_build_on_ones_own_land_while_it_is_given_away_is_paid_for_exactly_if_it_stands() {
    let footprint = rectangle(47, 50, 2, 1);
    let asks = [
        (1, Ask::Build { by: ANN, id: OBJECT, footprint: footprint.clone() }),
        (2, Ask::GiveAway { by: ANN, holding: FIRST, to: BOB }),
    ];
    let before = [claim(ANN, FIRST, NOW_S)];
    let scenario = scenario("build and give away", &before, &asks).check(move |end| {
        let built = object(end, OBJECT)?.is_some();
        let given = holding(end, FIRST)?.ok_or("the holding is gone")?.owner == BOB;
        let mut keys = vec![DEED.to_owned(), format!("holding/{FIRST}")];
        if built {
            keys.extend(["deed/1/2/3".to_owned(), format!("object/{OBJECT}")]);
        }
        ensure(end.faults > 0 || end.alone || given, || "it was not given away".to_owned())?;
        check(end, &keys, true, &[(1, built)])?;
        let told = end.told().any(|told| told.op == 2 && told.surely() == Some(true));
        ensure(!told || given, || "a gift was told that did not happen".to_owned())
    });
    prove(&scenario);
}
