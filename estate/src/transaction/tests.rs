//! Transactions over jars: documents that hold a number.

use serde_json::Map;
use tokio::time::advance;

use super::arbiter::{LEDGER_ENTRIES, LedgerDocument, State, TransferDocument, operation_key, transfer_key};
use super::participant::{Act, take};
use super::*;
use crate::document::{Document, Migration, decode};
use crate::store::WriteOptions;
use crate::store::memory::{Fault, MemoryStore};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Jar {
    v: u32,
    amount: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
    #[serde(default)]
    epoch: u64,
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    marks: Marks,
}

impl Document for Jar {
    const KIND: &'static str = "jar";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

struct Jars;

impl Kind for Jars {
    type Document = Jar;
    type Effect = i64;

    fn born(&self, _key: &str) -> Result<Jar, Refusal> {
        Ok(Jar { v: 1, amount: 0, owner: None, epoch: 0, marks: Marks::default() })
    }

    fn marks<'a>(&self, jar: &'a mut Jar) -> &'a mut Marks {
        &mut jar.marks
    }

    fn apply(&self, jar: &mut Jar, effect: &i64) -> Result<(), Refusal> {
        jar.amount += effect;
        if jar.amount < 0 { Err(Refusal::new("too_little", format!("{} too little", -jar.amount))) } else { Ok(()) }
    }

    fn is_blank(&self, _key: &str, jar: &Jar) -> bool {
        jar.amount == 0
    }

    fn owner(&self, jar: &Jar) -> Option<Owner> {
        jar.owner.clone()
    }

    fn disown(&self, jar: &mut Jar) {
        jar.owner = None;
        jar.epoch += 1;
    }
}

fn transactions(store: &MemoryStore, seed: u64) -> Transactions {
    let owners = Arc::new(NoOwners { all_gone: true });
    Transactions::new(Arc::new(store.client()), Kinds::default().with(Jars), owners, seed)
}

fn pour(op: u128, amount: i64, from: &str, to: &str) -> Request {
    let parts = vec![Part::new::<Jars>(from, &-amount), Part::new::<Jars>(to, &amount)];
    Request::transfer(OperationId(op), parts)
}

fn build(op: u128, ledger: &str, key: &str) -> Request {
    let parts = vec![Part::new::<Jars>(key, &1), Part::new::<Jars>("jar/built", &1)];
    Request::land(OperationId(op), ledger, parts)
}

async fn fill(transactions: &Transactions, key: &str, amount: i64) {
    let op = OperationId(u128::from(transactions.token()));
    let filled = transactions.run(Request::transfer(op, vec![Part::new::<Jars>(key, &amount)])).await;
    filled.expect("filled");
}

async fn amount(transactions: &Transactions, key: &str) -> i64 {
    transactions.read(&Jars, key).await.expect("read").map_or(0, |kept| kept.document.amount)
}

fn code(result: Result<(), TransactionError>) -> String {
    match result.expect_err("refused") {
        TransactionError::Refused(refusal) => refusal.code,
        other => panic!("not a refusal: {other}"),
    }
}

fn raw(store: &MemoryStore, key: &str) -> Option<Jar> {
    store.snapshot().get(key).map(|stored| decode(key, &stored.value).expect("a jar").0)
}

#[tokio::test(start_paused = true)]
async fn a_transaction_happens_once_however_often_it_is_asked_for() {
    let store = MemoryStore::new();
    let (here, there) = (transactions(&store, 1), transactions(&store, 2));
    fill(&here, "jar/a", 10).await;
    for asked in [&here, &there, &here] {
        asked.run(pour(7, 4, "jar/a", "jar/b")).await.expect("poured");
        assert!(asked.happened(OperationId(7), None).await.expect("known"));
    }
    assert_eq!((amount(&here, "jar/a").await, amount(&there, "jar/b").await), (6, 4));
    for _ in 0..2 {
        here.run(build(8, "ledger/x", "jar/wall")).await.expect("built");
        there.run(build(8, "ledger/x", "jar/wall")).await.expect("built");
        assert!(here.happened(OperationId(8), Some("ledger/x")).await.expect("known"));
    }
    assert_eq!(amount(&here, "jar/wall").await, 1);
    assert!(!here.happened(OperationId(9), Some("ledger/x")).await.expect("known"));
}

#[tokio::test(start_paused = true)]
async fn an_operation_on_one_document_is_one_write() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    for _ in 0..3 {
        let one = Request::transfer(OperationId(5), vec![Part::new::<Jars>("jar/a", &3)]);
        jars.run(one).await.expect("filled");
    }
    assert_eq!(amount(&jars, "jar/a").await, 3);
    assert_eq!(store.snapshot().len(), 1, "no arbiter");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_everything_as_it_was() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/b", 3).await;
    let before = raw(&store, "jar/b");
    assert_eq!(code(jars.run(pour(1, 4, "jar/b", "jar/a")).await), "too_little");
    assert_eq!(code(jars.run(pour(2, 4, "jar/nothing", "jar/b")).await), "too_little");
    let after = raw(&store, "jar/b").map(|jar| Jar { epoch: 0, ..jar });
    assert_eq!(after, before, "but for the epoch, which every write that is not an owner's raises");
    assert_eq!(amount(&jars, "jar/a").await, 0);
    advance(REMEMBERED).await;
    assert_eq!(store.snapshot().keys().collect::<Vec<_>>(), ["jar/b"], "nothing is left over");
    // The same operation may come back when it is possible.
    fill(&jars, "jar/b", 1).await;
    jars.run(pour(1, 4, "jar/b", "jar/a")).await.expect("poured");
    assert_eq!(amount(&jars, "jar/a").await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_makes_no_sense_is_refused() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/a", 9).await;
    jars.run(pour(1, 2, "jar/a", "jar/b")).await.expect("poured");
    let none = Request::transfer(OperationId(2), Vec::new());
    let many = (0..=PARTS).map(|n| Part::new::<Jars>(format!("jar/{n}"), &1)).collect();
    let unknown = vec![Part { key: "crown/1".to_owned(), effect: Value::from(1) }];
    let odd = vec![Part { key: "jar/a".to_owned(), effect: Value::from("much") }];
    for (request, expected) in [
        (none, "malformed"),
        (Request::transfer(OperationId(3), many), "malformed"),
        (Request::transfer(OperationId(4), unknown), "malformed"),
        (Request::transfer(OperationId(5), odd), "malformed"),
        (pour(6, 1, "jar/a", "jar/a"), "malformed"),
        (pour(1, 3, "jar/a", "jar/b"), "misused"),
    ] {
        assert_eq!(code(jars.run(request).await), expected);
    }
    assert_eq!(amount(&jars, "jar/a").await, 7);
}

/// Leaves a transaction that stopped for ever at its store's call number `at`.
async fn stopped_at(store: &MemoryStore, seed: u64, request: Request, at: u64, fault: Fault) {
    let client = store.client();
    client.faults().at(at, fault);
    let owners = Arc::new(NoOwners { all_gone: true });
    let driver = Transactions::new(Arc::new(client), Kinds::default().with(Jars), owners, seed);
    let run = tokio::time::timeout(PATIENCE * 100, driver.run(request)).await;
    assert!(run.is_err(), "call {at} is not one of the transaction's");
}

/// The call that commits a pour, counted from 0: the arbiter read and written, both jars read and marked.
const COMMIT_WRITTEN: u64 = 6;

#[tokio::test(start_paused = true)]
async fn what_a_dead_driver_left_pending_is_undone_when_patience_ends_and_not_before() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/a", 10).await;
    stopped_at(&store, 2, pour(1, 4, "jar/a", "jar/b"), COMMIT_WRITTEN, Fault::StopBefore).await;
    assert!(raw(&store, "jar/a").expect("there").marks.intent.is_some());
    let began = tokio::time::Instant::now();
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/b").await), (10, 0));
    assert!(began.elapsed() >= PATIENCE);
    let transfer = store.snapshot()[&transfer_key(OperationId(1))].value.clone();
    let (transfer, _) = decode::<TransferDocument>("transfer", &transfer).expect("a transfer");
    assert_eq!(transfer.entry.state, State::Aborted);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_driver_left_committed_is_finished_by_whoever_reads() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/a", 10).await;
    stopped_at(&store, 2, pour(1, 4, "jar/a", "jar/b"), COMMIT_WRITTEN, Fault::StopAfter).await;
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/b").await), (6, 4));
    advance(REMEMBERED).await;
    assert_eq!(store.snapshot().len(), 2, "only the jars are left");
}

#[tokio::test(start_paused = true)]
async fn a_pending_transaction_in_the_way_is_waited_for_and_then_aborted() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/a", 10).await;
    stopped_at(&store, 2, pour(1, 4, "jar/a", "jar/b"), COMMIT_WRITTEN, Fault::StopBefore).await;
    let busy = jars.run(pour(2, 5, "jar/a", "jar/c")).await.expect_err("held");
    assert_eq!(busy, TransactionError::Busy("jar/a".to_owned()));
    jars.run(pour(2, 5, "jar/a", "jar/c")).await.expect("patience is over by now");
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/b").await), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_is_swept_of_what_dead_drivers_left() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    // The ledger is swept (one read) before it is read, the memory looked up, and the entry written.
    stopped_at(&store, 2, build(1, "ledger/x", "jar/wall"), 3, Fault::StopAfter).await;
    assert!(jars.settle_ledger("ledger/x").await.is_ok());
    let ledger = store.snapshot()["ledger/x"].value.clone();
    assert!(decode::<LedgerDocument>("ledger/x", &ledger).expect("a ledger").0.entries.is_empty());
    assert_eq!(amount(&jars, "jar/wall").await, 0);
    jars.run(build(1, "ledger/x", "jar/wall")).await.expect("built");
    assert!(store.snapshot().contains_key(&operation_key(OperationId(1))));
    advance(REMEMBERED).await;
    assert_eq!(store.snapshot().keys().collect::<Vec<_>>(), ["jar/built", "jar/wall"]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_finished_stops_nobody_else_in_its_ledger() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    // Swept and read at once, memory and entry; both jars read and marked; committed.
    stopped_at(&store, 2, build(1, "ledger/x", "jar/wall"), 7, Fault::StopAfter).await;
    let broken = store.get("jar/wall").await.expect("read").expect("there");
    store.replace("jar/wall", "{".into(), broken.version, WriteOptions::default()).await.expect("broken by hand");
    advance(PATIENCE * 2).await;
    let parts = vec![Part::new::<Jars>("jar/door", &1), Part::new::<Jars>("jar/lock", &1)];
    jars.run(Request::land(OperationId(2), "ledger/x", parts)).await.expect("built");
    assert_eq!(amount(&jars, "jar/door").await, 1);
    let held = jars.run(build(3, "ledger/x", "jar/window")).await.expect_err("jar/built is held");
    assert!(matches!(held, TransactionError::Document(_) | TransactionError::Busy(_)), "{held}");
    assert_eq!(jars.settle_ledger("ledger/x").await, Err(TransactionError::Busy("ledger/x".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_full_ledger_is_busy() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    for n in 0..LEDGER_ENTRIES as u128 {
        stopped_at(&store, n as u64 + 9, build(n, "ledger/x", "jar/wall"), 2, Fault::StopAfter).await;
    }
    let busy = jars.run(build(99, "ledger/x", "jar/wall")).await.expect_err("full");
    assert_eq!(busy, TransactionError::Busy("ledger/x".to_owned()));
    advance(PATIENCE).await;
    jars.run(build(99, "ledger/x", "jar/wall")).await.expect("built once patience is over");
}

#[tokio::test(start_paused = true)]
async fn a_dead_owner_is_fenced_by_a_transaction_on_its_document() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    let owner = Owner { node: "frontend-a".to_owned(), incarnation: 1, epoch: 3, claim: 1 };
    let jar = Jar { v: 1, amount: 5, owner: Some(owner), epoch: 3, marks: Marks::default() };
    let value = crate::document::encode(&jar).expect("encoded");
    store.insert("jar/a", value, WriteOptions::default()).await.expect("inserted");
    let alive = Arc::new(NoOwners { all_gone: false });
    let polite = Transactions::new(Arc::new(store.client()), Kinds::default().with(Jars), alive, 2);
    let busy = polite.run(pour(1, 2, "jar/a", "jar/b")).await;
    assert!(matches!(busy, Err(TransactionError::Busy(_))), "{busy:?}");
    jars.run(pour(2, 2, "jar/a", "jar/b")).await.expect("poured");
    let jar = raw(&store, "jar/a").expect("there");
    assert_eq!((jar.amount, jar.owner), (3, None));
    assert!(jar.epoch > 3, "the owner is fenced should it wake");
}

#[tokio::test(start_paused = true)]
async fn many_drivers_over_few_jars_lose_and_double_nothing() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    for n in 0..3 {
        fill(&jars, &format!("jar/{n}"), 100).await;
    }
    let mut set = tokio::task::JoinSet::new();
    for n in 0..60_u128 {
        let driver = transactions(&store, 100 + n as u64);
        let request = pour(n + 1, 1, &format!("jar/{}", n % 3), &format!("jar/{}", (n / 3) % 3));
        set.spawn(async move { (n % 3 != (n / 3) % 3, driver.run(request).await) });
    }
    let mut happened = 0;
    while let Some(done) = set.join_next().await {
        let (sensible, result) = done.expect("no panic");
        happened += u32::from(result.is_ok());
        assert!(sensible || result.is_err());
        assert!(!sensible || result.is_ok() || matches!(result, Err(TransactionError::Busy(_))), "{result:?}");
    }
    let mut total = 0;
    for n in 0..3 {
        total += amount(&jars, &format!("jar/{n}")).await;
    }
    assert_eq!(total, 300);
    assert!(happened >= 30, "only {happened} of 40 got through");
}

#[test]
fn a_step_that_comes_twice_or_late_has_no_effect() {
    let intent = Intent { arbiter: transfer_key(OperationId(1)), op: OperationId(1), token: 7 };
    let step = |act| Step { key: "jar/a".to_owned(), intent: intent.clone(), act };
    let mark = step(Act::Mark { effect: Value::from(5), closed: None });
    let apply = step(Act::Apply { effect: Value::from(5) });
    let mut jar = Jars.born("jar/a").expect("a jar");
    assert_eq!(take(&Jars, &mut jar, &apply), Stepped::Already, "never marked");
    assert_eq!(take(&Jars, &mut jar, &mark), Stepped::Taken);
    assert_eq!(take(&Jars, &mut jar, &mark), Stepped::Already);
    let other = Step { intent: Intent { token: 8, ..intent.clone() }, ..mark.clone() };
    assert_eq!(take(&Jars, &mut jar, &other), Stepped::Busy(intent.clone()));
    assert_eq!(take(&Jars, &mut jar, &apply), Stepped::Taken);
    assert_eq!(take(&Jars, &mut jar, &apply), Stepped::Already);
    assert_eq!(take(&Jars, &mut jar, &step(Act::Clear)), Stepped::Already);
    assert_eq!(jar.amount, 5);
    assert_eq!(take(&Jars, &mut jar, &other), Stepped::Unclosed(intent.clone()));
    let knowing = Step { act: Act::Mark { effect: Value::from(5), closed: Some(7) }, ..other };
    assert_eq!(take(&Jars, &mut jar, &knowing), Stepped::Taken);
}

#[test]
fn operation_ids_are_read_as_they_are_written() {
    let id = OperationId(0xabc);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(serde_json::from_str::<OperationId>(&serde_json::to_string(&id).expect("text")).expect("id"), id);
    for bad in ["", "abc", "0000000000000000000000000000000g", "+0000000000000000000000000000001"] {
        assert!(bad.parse::<OperationId>().is_err(), "{bad}");
    }
}

#[test]
fn documents_keep_what_they_do_not_know() {
    let text = r#"{"v":1,"entries":{},"colour":"red"}"#;
    let (ledger, _) = decode::<LedgerDocument>("ledger/x", text.as_bytes()).expect("a ledger");
    assert_eq!(ledger.rest, Map::from_iter([("colour".to_owned(), Value::from("red"))]));
}

/// A pour of 4 from `jar/a` to `jar/b` that a dead driver left committed, and then `jar/b` claimed by an owner that lives but
/// does not answer. Gives a node that knows it to be alive.
async fn committed_with_a_mute_owner(store: &MemoryStore) -> Transactions {
    let jars = transactions(store, 1);
    fill(&jars, "jar/a", 10).await;
    stopped_at(store, 2, pour(1, 4, "jar/a", "jar/b"), COMMIT_WRITTEN, Fault::StopAfter).await;
    let owner = Owner { node: "frontend-a".to_owned(), incarnation: 1, epoch: 1, claim: 1 };
    let claimed = Jar { owner: Some(owner), ..raw(store, "jar/b").expect("there") };
    let stored = store.get("jar/b").await.expect("read").expect("there");
    let value = crate::document::encode(&claimed).expect("encoded");
    store.replace("jar/b", value, stored.version, WriteOptions::default()).await.expect("claimed");
    let alive = Arc::new(NoOwners { all_gone: false });
    Transactions::new(Arc::new(store.client()), Kinds::default().with(Jars), alive, 3)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_a_committed_operation_has_not_happened_because_an_owner_is_mute() {
    let store = MemoryStore::new();
    let node = committed_with_a_mute_owner(&store).await;
    for _ in 0..2 {
        let told = node.run(pour(1, 4, "jar/a", "jar/b")).await.expect_err("jar/b cannot be reached");
        assert_ne!(told.outcome(), Outcome::NotDone, "{told}");
        let told = node.happened(OperationId(1), None).await.expect_err("not finished");
        assert_ne!(told.outcome(), Outcome::NotDone, "{told}");
    }
    let jars = transactions(&store, 4);
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/b").await), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn a_mute_owner_holds_up_only_its_own_document() {
    let store = MemoryStore::new();
    let node = committed_with_a_mute_owner(&store).await;
    // Whoever comes first finishes what it can reach.
    node.run(pour(2, 1, "jar/a", "jar/c")).await.expect_err("jar/b's owner is asked, once");
    node.run(pour(2, 1, "jar/a", "jar/c")).await.expect("jar/a is clear");
    assert_eq!((amount(&node, "jar/a").await, amount(&node, "jar/c").await), (5, 1));
    let jars = transactions(&store, 4);
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/b").await), (5, 4));
    advance(REMEMBERED).await;
    assert_eq!(store.snapshot().len(), 3, "nothing is left but the jars");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_not_told_to_have_happened_because_an_earlier_one_is_stuck() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/a", 10).await;
    fill(&jars, "jar/b", 10).await;
    stopped_at(&store, 2, pour(1, 4, "jar/a", "jar/b"), COMMIT_WRITTEN, Fault::StopAfter).await;
    let stored = store.get("jar/b").await.expect("read").expect("there");
    let broken = Jar { amount: -100, ..raw(&store, "jar/b").expect("there") };
    let value = crate::document::encode(&broken).expect("encoded");
    store.replace("jar/b", value, stored.version, WriteOptions::default()).await.expect("broken by hand");
    let first = jars.run(pour(2, 1, "jar/a", "jar/c")).await;
    assert!(matches!(first, Err(TransactionError::Busy(_))), "{first:?}");
    jars.run(pour(2, 1, "jar/a", "jar/c")).await.expect("jar/a is clear of it");
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/c").await), (5, 1));
    let stuck = jars.run(pour(1, 4, "jar/a", "jar/b")).await.expect_err("jar/b does not fit");
    assert_eq!(stuck.outcome(), Outcome::Done, "{stuck}");
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_memory_expired_while_its_clock_stood_still_does_not_begin_again() {
    let store = MemoryStore::new();
    let jars = transactions(&store, 1);
    fill(&jars, "jar/a", 10).await;
    let client = store.client();
    client.faults().at(COMMIT_WRITTEN, Fault::LoseReply);
    let owners = Arc::new(NoOwners { all_gone: true });
    let driver = Transactions::new(Arc::new(client), Kinds::default().with(Jars), owners, 2);
    let running = tokio::spawn(async move { driver.run(pour(1, 4, "jar/a", "jar/b")).await });
    while raw(&store, "jar/b").is_none_or(|jar| jar.amount == 0) {
        tokio::task::yield_now().await;
        amount(&jars, "jar/b").await;
        jars.happened(OperationId(1), None).await.expect("settled");
    }
    let key = transfer_key(OperationId(1));
    let done = store.get(&key).await.expect("read").expect("there");
    store.remove(&key, done.version, WriteOptions::default()).await.expect("as if a quarter of an hour had passed");
    let told = running.await.expect("no panic").expect_err("it cannot know");
    assert_eq!(told.outcome(), Outcome::Maybe, "{told}");
    assert_eq!((amount(&jars, "jar/a").await, amount(&jars, "jar/b").await), (6, 4));
}

/// Owners that take every step, and whose answers are lost.
struct Unheard(MemoryStore);

#[async_trait]
impl Gone for Unheard {
    async fn is_gone(&self, _owner: &Owner) -> bool {
        false
    }
}

#[async_trait]
impl Owners for Unheard {
    async fn take(&self, _owner: &Owner, step: &Step) -> Result<Stepped, TransactionError> {
        let mut jar = raw(&self.0, &step.key).expect("there");
        if take(&Jars, &mut jar, step) == Stepped::Taken {
            let stored = self.0.get(&step.key).await?.expect("there");
            let value = crate::document::encode(&jar).expect("encoded");
            self.0.replace(&step.key, value, stored.version, WriteOptions::default()).await?;
        }
        Err(TransactionError::Busy(step.key.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_nothing_happened_when_an_owners_answer_was_lost() {
    let store = MemoryStore::new();
    let owner = Owner { node: "frontend-a".to_owned(), incarnation: 1, epoch: 3, claim: 1 };
    let jar = Jar { v: 1, amount: 5, owner: Some(owner), epoch: 3, marks: Marks::default() };
    let value = crate::document::encode(&jar).expect("encoded");
    store.insert("jar/a", value, WriteOptions::default()).await.expect("inserted");
    let owners = Arc::new(Unheard(store.client()));
    let node = Transactions::new(Arc::new(store.client()), Kinds::default().with(Jars), owners, 2);
    let part = Part::new::<Jars>("jar/a", &-2);
    let told = node.run(Request::transfer(OperationId(1), vec![part.clone()])).await.expect_err("unheard");
    assert_eq!(raw(&store, "jar/a").expect("there").amount, 3, "it has happened");
    assert_eq!(told.outcome(), Outcome::Maybe, "{told}");
    let told = node.run_guarded(OperationId(2), &part).await.expect_err("unheard");
    assert_eq!(told.outcome(), Outcome::Maybe, "{told}");
}

/// Owners that live and have nothing to do.
struct Content;

#[async_trait]
impl Gone for Content {
    async fn is_gone(&self, _owner: &Owner) -> bool {
        false
    }
}

#[async_trait]
impl Owners for Content {
    async fn take(&self, _owner: &Owner, _step: &Step) -> Result<Stepped, TransactionError> {
        Ok(Stepped::Already)
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_of_which_the_owner_does_not_know_is_not_cleared_without_end() {
    let store = MemoryStore::new();
    let owner = Owner { node: "frontend-a".to_owned(), incarnation: 1, epoch: 3, claim: 1 };
    let intent = Intent { arbiter: transfer_key(OperationId(1)), op: OperationId(1), token: 1 };
    let marks = Marks { intent: Some(intent), ..Marks::default() };
    let jar = Jar { v: 1, amount: 5, owner: Some(owner), epoch: 3, marks };
    let value = crate::document::encode(&jar).expect("encoded");
    store.insert("jar/a", value, WriteOptions::default()).await.expect("written by hand while its owner lives");
    let node = Transactions::new(Arc::new(store.client()), Kinds::default().with(Jars), Arc::new(Content), 2);
    assert_eq!(node.settle("jar/a").await, Err(TransactionError::Busy("jar/a".to_owned())));
    assert_eq!(node.read(&Jars, "jar/a").await.map(drop), Err(TransactionError::Busy("jar/a".to_owned())));
}
