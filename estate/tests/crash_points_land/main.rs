//! Land under every schedule within bounds: deaths, pauses, lost, late and doubled calls while things are built, taken down
//! and moved, while natural objects are used up and grow again, and while land is claimed.
//!
//! Every driver asks for its operation twice in a row. What a scenario is and how a failure is repeated stands in
//! `estate::schedules`. A test here NEVER times anything: counts are printed
//! (`cargo test -p wildmesh-estate --test crash_points_land -- --nocapture`).
#![allow(clippy::expect_used)]

mod works;

mod nature;

mod claims;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use estate::document::{Document, Migration, decode};
use estate::land::checks::disagreements;
use estate::land::claims::{Claim, Extension, claim as claim_land, extend, give_away, give_up, pay};
use estate::land::nature::{Gathering, Growth, Nature, gather, restore};
use estate::land::works::{Building, build, demolish, move_to};
use estate::land::{By, Footprint, Grounds, HoldingDocument, ObjectDocument, Rotation, kinds};
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
const REGROW_S: u64 = 100;

/// An even island with one tree.
struct Plain;

impl Grounds for Plain {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island == ISLAND).then_some((128, 128))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        self.size(island).is_some_and(|size| tile.is_within(size))
    }

    fn natural(&self, island: IslandId, tile: Tile) -> u32 {
        if island == ISLAND && tile == TREE { TREE_NUMBER } else { 0 }
    }
}

/// Where the one natural object grows, far from where all else is done.
const TREE: Tile = Tile::new(100, 100);
const TREE_NUMBER: u32 = 7;

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
    Gather { by: ObjectId, id: ObjectId, strokes: u32, now_s: u64 },
    Restore { seen: Nature },
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
                build(node, &Plain, op, By::Player(by), &hut, &price()).await
            }
            Ask::Demolish { by } => demolish(node, op, By::Player(by), OBJECT, &price()).await,
            Ask::Move { x, y } => {
                let to = (Tile::new(x, y), Rotation::R90);
                move_to(node, &Plain, op, By::Player(ANN), OBJECT, to, &price()).await
            }
            Ask::Gather { by, id, strokes, now_s } => {
                let (natural, name, growth) = (TREE_NUMBER, "pine".to_owned(), Growth { strokes, regrow_s: REGROW_S });
                let gathering = Gathering { id, island: ISLAND, tile: TREE, natural, name, growth, now_s };
                gather(node, &Plain, op, By::Player(by), &gathering, &price()).await
            }
            Ask::Restore { seen } => restore(node, op, OBJECT, &seen, &[]).await,
            Ask::Claim { owner, holding, now_s } => {
                let claim = Claim { holding, chunk, owner, now_s, paid_until_s: now_s + 10 };
                claim_land(node, &Plain, op, &claim, &[]).await
            }
            Ask::Extend { by, holding } => {
                let extension = Extension { holding, chunk, by, now_s: NOW_S };
                extend(node, &Plain, op, &extension, &[]).await
            }
            Ask::Pay { holding, now_s } => pay(node, op, holding, now_s, 10, &[]).await,
            Ask::GiveUp { by, holding } => give_up(node, op, by, holding, chunk, &[]).await,
            Ask::GiveAway { by, holding, to } => give_away(node, op, by, holding, to, &[]).await,
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
                "changed" => "changed",
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
    let works =
        |ask: &&Ask| matches!(ask, Ask::Build { .. } | Ask::Demolish { .. } | Ask::Move { .. } | Ask::Gather { .. });
    asks.iter().filter(works).count() as i64
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

/// The usual faults, but less of everything, because these protocols make many calls: about a minute and a half on two cores.
/// `WILDMESH_SCHEDULES=1` and more for the usual bounds with so many thousand schedules of each search.
fn bounds() -> Bounds {
    let usual = Bounds::default();
    match std::env::var("WILDMESH_SCHEDULES").ok().and_then(|text| text.parse::<u64>().ok()) {
        Some(thousands) => Bounds { schedules: 1_000 * thousands, random: 1_000 * thousands, ..usual },
        None => Bounds { faults_alone: 1, preemptions_with_fault: 0, schedules: 1_300, random: 300, ..usual },
    }
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

const FIRST: ObjectId = ObjectId(500);
const SECOND: ObjectId = ObjectId(501);
const FORMER: ObjectId = ObjectId(499);
const DEED: &str = "deed/1/3/3";

fn claim(owner: ObjectId, holding: ObjectId, now_s: u64) -> Ask {
    Ask::Claim { owner, holding, now_s }
}
