//! The embedded store keeps the suite, its promises about folders and durability, and what it was told before it closed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::store::conformance::{self, Harness};
use crate::store::{Outcome, WriteOptions};

/// A clock that tests move by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn clock(&self) -> Clock {
        let ms = self.0.clone();
        Arc::new(move || 1_000_000 + ms.load(Ordering::SeqCst))
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

struct Embedded {
    store: Arc<EmbeddedStore>,
    hand: Hand,
}

#[async_trait]
impl Harness for Embedded {
    fn client(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn prefix(&self) -> String {
        "suite/".to_owned()
    }

    async fn pass(&self, time: Duration) {
        self.hand.pass(time);
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put(store: &EmbeddedStore, key: &str, text: &str) -> Version {
    store.insert(key, value(text), WriteOptions::default()).await.expect("insert")
}

async fn conforms(durability: Durability) {
    let (folder, hand) = (folder(), Hand::default());
    let settings = Settings { durability: Some(durability), clock: hand.clock(), ..Settings::default() };
    let store = Arc::new(open_with(folder.path(), settings).await.expect("open"));
    conformance::all(&Embedded { store: store.clone(), hand }).await;
    assert!(store.describe().await.contains(durability.as_str()));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_embedded_store_conforms_with_durability_process() {
    conforms(Durability::Process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_embedded_store_conforms_with_durability_power() {
    conforms(Durability::Power).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_embedded_store_conforms_with_durability_strict() {
    conforms(Durability::Strict).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_closing_and_opening_again() {
    let folder = folder();
    let store = open(folder.path(), Durability::Process).await.expect("open");
    let version = put(&store, "a", "one").await;
    store.close().await;
    drop(store);
    let store = open(folder.path(), None).await.expect("whatever durability it has");
    assert_eq!(store.durability(), Durability::Process);
    assert_eq!(store.get("a").await, Ok(Some(Stored { value: value("one"), version })));
    let next = store.replace("a", value("two"), version, WriteOptions::default()).await.expect("replace");
    assert!(next > version);
    store.close().await;
}

#[tokio::test]
async fn threads_that_read_may_end_while_the_last_handle_goes() {
    let folder = folder();
    for _ in 0..100 {
        let store = Arc::new(open(folder.path(), Durability::Process).await.expect("open"));
        let both = Arc::new(std::sync::Barrier::new(2));
        let (reader, waiting) = (store.clone(), both.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            reader.read(|txn| reader.tables.count(txn)).expect("read");
            drop(reader);
            waiting.wait();
        });
        both.wait();
        store.close().await;
        drop(store);
        thread.expect("spawn").join().expect("join");
    }
}

#[tokio::test]
async fn a_folder_replaced_under_an_open_process_is_refused() {
    let parent = folder();
    let at = parent.path().join("store");
    open(&at, Durability::Process).await.expect("open").close().await;
    fs::rename(&at, parent.path().join("away")).expect("rename");
    let error = open(&at, Durability::Process).await.expect_err("replaced");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("were replaced while this process had them open"), "{error}: {source}");
}

#[tokio::test]
async fn closing_answers_what_was_queued_and_refuses_the_rest() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Durability::Process).await.expect("open"));
    let mut tasks = JoinSet::new();
    for n in 0..2_000 {
        let store = store.clone();
        tasks.spawn(async move { (n, store.insert(&n.to_string(), value("x"), WriteOptions::default()).await) });
    }
    while store.counters().groups.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    store.close().await;
    let results = tasks.join_all().await;
    assert_eq!(store.get("1").await, Err(StoreError::Closed));
    assert_eq!(store.insert("y", value("x"), WriteOptions::default()).await, Err(StoreError::Closed));
    store.close().await;
    drop(store);
    let store = open(folder.path(), None).await.expect("open again");
    for (n, result) in results {
        let there = store.get(&n.to_string()).await.expect("get").is_some();
        assert_eq!(there, result.is_ok(), "write {n}: {result:?}");
        assert!(matches!(result, Ok(_) | Err(StoreError::Closed)));
    }
    store.close().await;
}

#[tokio::test]
async fn writes_that_slip_in_behind_the_close_are_answered() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Durability::Process).await.expect("open"));
    let gate = turnstile::Turnstile::open(folder.path()).expect("as another process would");
    let turn = gate.enter().expect("enter");
    let closing = store.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    while store.queue.capacity() == QUEUE && !store.closed.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    for n in 0..1_500 {
        let (answer, answered) = oneshot::channel();
        let write = Write::Insert { key: n.to_string().into(), value: value("x"), expiry: Expiry::Never };
        let operation = Operation { write, ack: Ack::Durable, claim: Arc::default(), answer };
        assert!(store.queue.try_send(Message::Write(operation)).is_ok());
        answers.push(answered);
    }
    drop(turn);
    for answer in answers {
        answer.await.expect("an answer").expect("written");
    }
    closing.await.expect("closed");
}

#[tokio::test]
async fn a_scan_of_many_expired_documents_goes_on_in_another_transaction() {
    let (folder, hand) = (folder(), Hand::default());
    let settings = Settings { durability: Some(Durability::Process), clock: hand.clock(), ..Settings::default() };
    let store = open_with(folder.path(), settings).await.expect("open");
    for n in 0..20 {
        put(&store, &format!("in/{n:02}"), "x").await;
    }
    for visits in 1..25 {
        let (mut found, mut from, mut transactions) = (Vec::new(), None::<String>, 0);
        loop {
            let place = ("in/", from.as_deref());
            let more = store.read(|txn| store.tables.scan(txn, place, (100, visits), 0, &mut found));
            transactions += 1;
            match more.expect("read").expect("whole") {
                Some(last) => from = Some(last),
                None => break,
            }
        }
        let keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, (0..20).map(|n| format!("in/{n:02}")).collect::<Vec<_>>(), "{visits} visits");
        assert_eq!(transactions, 20_usize.div_ceil(visits), "{visits} visits");
    }
    store.close().await;
}

#[tokio::test]
async fn expired_documents_are_swept() {
    let (folder, hand) = (folder(), Hand::default());
    let settings = Settings { durability: Some(Durability::Process), clock: hand.clock(), ..Settings::default() };
    let store = open_with(folder.path(), settings).await.expect("open");
    for n in 0..600 {
        let options = WriteOptions::expiring(Duration::from_secs(if n % 3 == 0 { 500 } else { 5 }));
        store.insert(&format!("{n}"), value("x"), options).await.expect("insert");
    }
    put(&store, "lasting", "x").await;
    // One was replaced and lives longer: its first expiry must not take it away.
    let again = WriteOptions::expiring(Duration::from_secs(500));
    let version = store.get("1").await.expect("get").expect("there").version;
    store.replace("1", value("y"), version, again).await.expect("replace");
    hand.pass(Duration::from_secs(6));
    while store.counters().swept.load(Ordering::SeqCst) < 399 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.read(|txn| store.tables.count(txn)), Ok(202));
    assert_eq!(store.get("1").await.expect("get").map(|stored| stored.value), Some(value("y")));
    store.close().await;
}

/// Opens a folder that `make` has prepared and expects an error that starts so; nothing may be added to the folder.
async fn refused(make: impl FnOnce(&Path), wanted: &str) {
    let folder = folder();
    make(folder.path());
    let list = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).expect("list").map(|entry| entry.expect("entry").path()).collect();
        names.sort();
        names
    };
    let before = list(folder.path());
    let error = open(folder.path().join("store"), Durability::Process).await.expect_err(wanted);
    let said = error.to_string().replace(&folder.path().join("store").display().to_string(), "STORE");
    assert!(said.starts_with(wanted), "{said}");
    assert_eq!(list(folder.path()), before);
}

#[tokio::test]
async fn a_path_that_is_no_store_is_refused_and_left_alone() {
    refused(|at| fs::write(at.join("store"), "text").expect("write"), "STORE is not a folder").await;
    let foreign = |at: &Path, name: &str, bytes: &[u8]| {
        fs::create_dir(at.join("store")).expect("create");
        fs::write(at.join("store").join(name), bytes).expect("write");
    };
    refused(|at| foreign(at, "letter.txt", b"dear"), "STORE is not a wildmesh store: it holds \"letter.txt\"").await;
    refused(|at| foreign(at, "data.mdb", &[7; 9_000]), "STORE is not a wildmesh store: its data.mdb is no LMDB file")
        .await;
    refused(|at| foreign(at, "data.mdb", b"short"), "STORE is not a wildmesh store: its data.mdb is no LMDB file")
        .await;
}

/// Another program's LMDB file with one table.
#[allow(unsafe_code)] // made the way another program would
fn foreign_lmdb(at: &Path) {
    fs::create_dir_all(at).expect("create");
    // SAFETY: nobody else has the folder.
    let env = unsafe { heed::EnvOpenOptions::new().map_size(1 << 20).max_dbs(2).open(at) }.expect("open");
    let mut txn = env.write_txn().expect("begin");
    let table = env.create_database::<heed::types::Str, heed::types::Str>(&mut txn, Some("theirs")).expect("table");
    table.put(&mut txn, "a", "b").expect("put");
    txn.commit().expect("commit");
}

#[tokio::test]
async fn an_lmdb_file_of_another_program_is_refused_and_keeps_its_data() {
    let folder = folder();
    foreign_lmdb(folder.path());
    let error = open(folder.path(), Durability::Process).await.expect_err("foreign");
    assert!(matches!(&error, OpenError::NotAStore { reason, .. } if reason == "its data.mdb is another program's"));
    assert!(open(folder.path(), Durability::Process).await.is_err(), "and it is so again");
}

#[tokio::test]
async fn a_store_whose_making_was_cut_short_is_made_anew() {
    let folder = folder();
    for name in turnstile::FILES.iter().chain(&["data.mdb"]) {
        fs::write(folder.path().join(name), "").expect("write");
    }
    let store = open(folder.path(), None).await.expect("open");
    assert_eq!(store.durability(), Durability::Power);
    put(&store, "a", "one").await;
    store.close().await;
}

#[tokio::test]
async fn a_second_opening_in_the_same_process_is_refused() {
    let folder = folder();
    let store = open(folder.path(), Durability::Process).await.expect("open");
    let again = open(folder.path(), Durability::Process).await;
    assert!(matches!(again, Err(OpenError::AlreadyOpen(_))), "{again:?}");
    put(&store, "a", "one").await;
    store.close().await;
}

#[tokio::test]
async fn another_durability_is_refused_until_it_is_switched() {
    let folder = folder();
    let store = open(folder.path(), Durability::Process).await.expect("open");
    put(&store, "a", "one").await;
    let switched = switch_durability(folder.path(), Durability::Strict).await;
    assert!(matches!(switched, Err(OpenError::Locked { .. })), "while it is open: {switched:?}");
    store.close().await;
    drop(store);
    let other = open(folder.path(), Durability::Strict).await.expect_err("another");
    let wanted = "has durability process, not strict; open it with process, or stop all its processes and switch it";
    assert!(other.to_string().ends_with(wanted), "{other}");
    switch_durability(folder.path(), Durability::Strict).await.expect("switch");
    let store = open(folder.path(), Durability::Strict).await.expect("open");
    assert!(store.get("a").await.expect("get").is_some());
    store.close().await;
}

#[tokio::test]
async fn a_folder_that_a_tool_needs_to_itself_is_locked() {
    let folder = folder();
    let tool = turnstile::members(folder.path()).expect("file");
    tool.lock().expect("lock");
    let error = open(folder.path(), Durability::Process).await.expect_err("locked");
    assert!(error.to_string().ends_with("is locked: a tool needs it to itself"), "{error}");
    tool.unlock().expect("unlock");
    open(folder.path(), Durability::Process).await.expect("open").close().await;
}

#[tokio::test]
async fn a_newer_format_and_a_damaged_record_are_refused() {
    for (field, content, wanted) in [
        ("format", "2", "has format 2; this program knows 1: upgrade it"),
        ("durability", "wishful", "is damaged: its record of format and durability cannot be read"),
        ("kind", "other", "its data.mdb is another program's; give an empty folder or a store"),
    ] {
        let folder = folder();
        let store = open(folder.path(), Durability::Process).await.expect("open");
        let mut txn = store.env.write_txn().expect("begin");
        let meta = store.env.create_database::<heed::types::Str, heed::types::Str>(&mut txn, Some("meta"));
        meta.expect("meta").put(&mut txn, field, content).expect("put");
        txn.commit().expect("commit");
        store.close().await;
        drop(store);
        let error = open(folder.path(), None).await.expect_err(wanted);
        assert!(error.to_string().ends_with(wanted), "{error}");
    }
}

#[tokio::test]
async fn a_full_store_refuses_what_does_not_fit_and_keeps_the_rest() {
    let folder = folder();
    let settings = Settings { durability: Some(Durability::Process), map_bytes: 4 << 20, ..Settings::default() };
    let store = Arc::new(open_with(folder.path(), settings).await.expect("open"));
    let large = Bytes::from(vec![1; 100_000]);
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let (store, large) = (store.clone(), large.clone());
        tasks.spawn(async move { (n, store.insert(&n.to_string(), large, WriteOptions::default()).await) });
    }
    let results = tasks.join_all().await;
    let kept = results.iter().filter(|(_, result)| result.is_ok()).count();
    assert!((10..42).contains(&kept), "{kept} fit");
    for (n, result) in &results {
        let there = store.get(&n.to_string()).await.expect("get");
        assert_eq!(there.is_some(), result.is_ok());
        if let Err(error) = result {
            assert!(matches!(error, StoreError::Full(_)), "{error}");
            assert_eq!(error.outcome(), Outcome::NotDone);
        } else if let Some(stored) = there {
            store.remove(&n.to_string(), stored.version, WriteOptions::default()).await.expect("room is given back");
        }
    }
    put(&store, "again", "there is room").await;
    store.close().await;
}

#[tokio::test]
async fn a_write_that_waits_for_a_hanging_process_is_given_up_and_never_happens() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Durability::Process).await.expect("open"));
    let gate = turnstile::Turnstile::open(folder.path()).expect("as another process would");
    let turn = gate.enter().expect("enter");
    // From here on deadlines pass at once.
    tokio::time::pause();
    let (first, second) = (store.clone(), store.clone());
    let first = tokio::spawn(async move { first.insert("a", value("x"), WriteOptions::default()).await });
    let second = tokio::spawn(async move { second.insert("b", value("x"), WriteOptions::default()).await });
    for write in [first, second] {
        let error = write.await.expect("join").expect_err("no answer");
        assert_eq!(error.outcome(), Outcome::NotDone, "{error}");
    }
    tokio::time::resume();
    drop(turn);
    put(&store, "c", "x").await;
    for abandoned in ["a", "b"] {
        assert_eq!(store.get(abandoned).await, Ok(None));
    }
    store.close().await;
}
