//! The store in memory keeps the suite, and its faults do what they say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Fault, MemoryStore, Rates};
use crate::store::conformance::{self, Harness};
use crate::store::{Expiry, Outcome, Store, StoreError, Version, WriteOptions};

/// The store, and how long its ways are, at most.
struct Memory(MemoryStore, Duration);

#[async_trait]
impl Harness for Memory {
    fn client(&self) -> Arc<dyn Store> {
        let client = self.0.client();
        client.faults().random(7, Rates { delay: self.1, ..Rates::default() });
        Arc::new(client)
    }

    fn prefix(&self) -> String {
        "suite/".to_owned()
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_conforms() {
    for delay in [Duration::ZERO, Duration::from_millis(3)] {
        conformance::all(&Memory(MemoryStore::new(), delay)).await;
    }
}

fn one() -> Bytes {
    Bytes::from_static(b"one")
}

async fn insert(store: &MemoryStore, key: &str) -> Result<Version, StoreError> {
    store.insert(key, one(), WriteOptions::default()).await
}

/// Runs one insert under `fault` and tells whether the document is there, at once and a minute later.
async fn check(fault: Fault, outcome: Option<Outcome>, there: bool, later: bool) {
    let store = MemoryStore::new();
    store.faults().at(0, fault);
    let result = tokio::time::timeout(Duration::from_secs(1), insert(&store, "a")).await;
    let found = result.ok().and_then(Result::err).map(|error| error.outcome());
    assert_eq!(found, outcome, "{fault:?}");
    assert_eq!(store.snapshot().contains_key("a"), there, "{fault:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.client().get("a").await.expect("get").is_some(), later, "{fault:?}");
}

#[tokio::test(start_paused = true)]
async fn every_fault_does_what_it_says() {
    check(Fault::Refuse, Some(Outcome::NotDone), false, false).await;
    check(Fault::LoseRequest, Some(Outcome::Maybe), false, false).await;
    check(Fault::LoseReply, Some(Outcome::Maybe), true, true).await;
    check(Fault::Late(Duration::from_secs(5)), Some(Outcome::Maybe), false, true).await;
    check(Fault::StopBefore, None, false, false).await;
    check(Fault::StopAfter, None, true, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_makes_a_write_conflict() {
    let store = MemoryStore::new();
    let version = insert(&store, "a").await.expect("insert");
    store.faults().at(0, Fault::Storm);
    let result = store.replace("a", one(), version, WriteOptions::default()).await;
    assert_eq!(result, Err(StoreError::Conflict));
    let stored = store.get("a").await.expect("get").expect("there");
    assert_eq!(stored.value, one());
    store.replace("a", one(), stored.version, WriteOptions::default()).await.expect("with the new version");
}

#[tokio::test(start_paused = true)]
async fn one_client_may_be_cut_off_while_another_is_not() {
    let (here, there) = (MemoryStore::new(), MemoryStore::new());
    let other = here.client();
    here.faults().unreachable(true);
    assert_eq!(insert(&here, "a").await.expect_err("cut").outcome(), Outcome::NotDone);
    assert!(here.get("a").await.is_err());
    insert(&other, "a").await.expect("the other client");
    here.faults().unreachable(false);
    assert!(here.get("a").await.expect("back").is_some());
    assert!(there.get("a").await.expect("another store").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_cut_off_during_a_write_cannot_know() {
    let store = Arc::new(MemoryStore::new());
    store.faults().random(1, Rates { delay: Duration::from_secs(1), ..Rates::default() });
    let (cut, writer) = (store.faults(), store.clone());
    let write = tokio::spawn(async move { insert(&writer, "a").await });
    while cut.calls() == 0 {
        tokio::task::yield_now().await;
    }
    cut.unreachable(true);
    assert_eq!(write.await.expect("join").expect_err("cut").outcome(), Outcome::Maybe);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_faults() {
    async fn run(seed: u64) -> Vec<Result<Version, StoreError>> {
        let store = MemoryStore::new();
        let rates = Rates { refuse: 200, lose_reply: 200, lose_request: 100, storm: 100, late: 50, ..Rates::default() };
        store.faults().random(seed, rates);
        let mut results = Vec::new();
        for n in 0..200 {
            results.push(insert(&store, &format!("{}", n % 20)).await);
            results.push(store.touch("3", Expiry::Never).await);
        }
        results
    }
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}
