//! What every [`Store`] keeps, as one suite that runs on every driver.
//!
//! A driver's tests give a [`Harness`] and call [`all`]. Every check works under keys of its own (below the harness's
//! prefix), so that one store, even a lasting one, serves the whole suite. It NEVER relies on what the trait does not
//! promise. Outside this crate: feature `conformance`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    Ack, Expiry, KEY_BYTES, Outcome, SCAN_LIMIT, Store, StoreError, Stored, VALUE_BYTES, Version, WriteOptions,
};

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(600);

/// A store under test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A client of the store. Several clients see the same documents.
    fn client(&self) -> Arc<dyn Store>;

    /// What all keys of this run begin with; nothing may lie under it yet.
    fn prefix(&self) -> String;

    /// Lets time pass by the store's clock.
    async fn pass(&self, time: Duration);
}

/// Runs every check.
///
/// # Panics
/// At the first promise that the driver breaks.
pub async fn all(harness: &dyn Harness) {
    a_document_is_read_as_it_was_written(harness).await;
    an_insert_never_overwrites(harness).await;
    a_replace_wants_the_present_version(harness).await;
    a_remove_wants_the_present_version(harness).await;
    every_write_makes_a_new_version(harness).await;
    a_removed_key_starts_anew(harness).await;
    an_expired_document_is_gone(harness).await;
    a_replace_keeps_or_changes_the_expiry(harness).await;
    a_touch_changes_expiry_and_version(harness).await;
    keys_and_values_have_bounds(harness).await;
    a_scan_walks_a_prefix_in_order(harness).await;
    of_many_inserts_one_wins(harness).await;
    counters_add_up_under_contention(harness).await;
    an_acknowledged_write_is_seen_by_every_client(harness).await;
    assert!(!harness.client().describe().await.is_empty());
}

struct Place {
    store: Arc<dyn Store>,
    prefix: String,
}

impl Place {
    fn new(harness: &dyn Harness, name: &str) -> Place {
        Place { store: harness.client(), prefix: format!("{}{name}/", harness.prefix()) }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn get(&self, name: &str) -> Option<Stored> {
        self.store.get(&self.key(name)).await.expect("get")
    }

    async fn insert(&self, name: &str, value: &str) -> Result<Version, StoreError> {
        self.insert_with(name, value, WriteOptions::default()).await
    }

    async fn insert_with(&self, name: &str, value: &str, options: WriteOptions) -> Result<Version, StoreError> {
        self.store.insert(&self.key(name), bytes(value), options).await
    }

    async fn replace(&self, name: &str, value: &str, version: Version) -> Result<Version, StoreError> {
        self.replace_with(name, value, version, WriteOptions::default()).await
    }

    async fn replace_with(
        &self,
        name: &str,
        value: &str,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        self.store.replace(&self.key(name), bytes(value), version, options).await
    }

    async fn remove(&self, name: &str, version: Version) -> Result<(), StoreError> {
        self.store.remove(&self.key(name), version, WriteOptions::default()).await
    }

    async fn touch(&self, name: &str, expiry: Expiry) -> Result<Version, StoreError> {
        self.store.touch(&self.key(name), expiry).await
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn a_document_is_read_as_it_was_written(harness: &dyn Harness) {
    let place = Place::new(harness, "read");
    assert_eq!(place.get("nothing").await, None);
    let version = place.insert("a", "one").await.expect("insert");
    assert_eq!(place.get("a").await, Some(Stored { value: bytes("one"), version }));
    let version = place.replace("a", "two", version).await.expect("replace");
    assert_eq!(place.get("a").await, Some(Stored { value: bytes("two"), version }));
    let version = place.insert_with("early", "", WriteOptions::early()).await.expect("an empty value");
    assert_eq!(place.get("early").await, Some(Stored { value: Bytes::new(), version }));
    let binary = Bytes::from((0..=255).collect::<Vec<u8>>());
    place.store.insert(&place.key("binary"), binary.clone(), WriteOptions::default()).await.expect("any bytes");
    assert_eq!(place.get("binary").await.map(|stored| stored.value), Some(binary));
    place.insert("Ünïcödé 한국", "x").await.expect("any letters in keys");
    assert!(place.get("Ünïcödé 한국").await.is_some());
}

async fn an_insert_never_overwrites(harness: &dyn Harness) {
    let place = Place::new(harness, "insert");
    let version = place.insert("a", "one").await.expect("insert");
    assert_eq!(place.insert("a", "two").await, Err(StoreError::Exists));
    assert_eq!(place.get("a").await, Some(Stored { value: bytes("one"), version }));
    assert_eq!(StoreError::Exists.outcome(), Outcome::NotDone);
}

async fn a_replace_wants_the_present_version(harness: &dyn Harness) {
    let place = Place::new(harness, "replace");
    assert_eq!(place.replace("a", "x", Version(1)).await, Err(StoreError::NotFound));
    let first = place.insert("a", "one").await.expect("insert");
    let second = place.replace("a", "two", first).await.expect("replace");
    assert_eq!(place.replace("a", "three", first).await, Err(StoreError::Conflict));
    assert_eq!(place.get("a").await, Some(Stored { value: bytes("two"), version: second }));
}

async fn a_remove_wants_the_present_version(harness: &dyn Harness) {
    let place = Place::new(harness, "remove");
    assert_eq!(place.remove("a", Version(1)).await, Err(StoreError::NotFound));
    let first = place.insert("a", "one").await.expect("insert");
    let second = place.replace("a", "two", first).await.expect("replace");
    assert_eq!(place.remove("a", first).await, Err(StoreError::Conflict));
    place.remove("a", second).await.expect("remove");
    assert_eq!(place.get("a").await, None);
    assert_eq!(place.remove("a", second).await, Err(StoreError::NotFound));
    assert_eq!(place.replace("a", "three", second).await, Err(StoreError::NotFound));
}

async fn every_write_makes_a_new_version(harness: &dyn Harness) {
    let place = Place::new(harness, "versions");
    let mut seen = vec![place.insert("a", "same").await.expect("insert")];
    for _ in 0..20 {
        let last = *seen.last().expect("one");
        let next = place.replace("a", "same", last).await.expect("replace");
        assert!(!seen.contains(&next), "version {next} came twice");
        seen.push(next);
    }
}

async fn a_removed_key_starts_anew(harness: &dyn Harness) {
    let place = Place::new(harness, "anew");
    let first = place.insert("a", "same").await.expect("insert");
    place.remove("a", first).await.expect("remove");
    let second = place.insert("a", "same").await.expect("insert again");
    assert_ne!(first, second);
    assert_eq!(place.replace("a", "x", first).await, Err(StoreError::Conflict), "a version of its former life");
}

async fn an_expired_document_is_gone(harness: &dyn Harness) {
    let place = Place::new(harness, "expiry");
    let version = place.insert_with("a", "one", WriteOptions::expiring(SHORT)).await.expect("insert");
    place.insert_with("b", "one", WriteOptions::expiring(SHORT)).await.expect("insert");
    place.insert_with("long", "one", WriteOptions::expiring(LONG)).await.expect("insert");
    assert!(place.get("a").await.is_some());
    harness.pass(SHORT + EXPIRY_GRACE).await;
    assert_eq!(place.get("a").await, None);
    assert!(place.get("long").await.is_some());
    assert_eq!(place.replace("a", "two", version).await, Err(StoreError::NotFound));
    assert_eq!(place.remove("a", version).await, Err(StoreError::NotFound));
    assert_eq!(place.touch("a", Expiry::Never).await, Err(StoreError::NotFound));
    let scanned = place.store.scan(&place.prefix, None, 10).await.expect("scan");
    assert_eq!(scanned.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [place.key("long")]);
    let again = place.insert("a", "three").await.expect("insert over an expired one");
    assert_ne!(again, version);
    harness.pass(SHORT + EXPIRY_GRACE).await;
    assert!(place.get("a").await.is_some(), "the new one lives for ever");
}

/// Stores that count in seconds may be late by one.
const EXPIRY_GRACE: Duration = Duration::from_secs(1);

async fn a_replace_keeps_or_changes_the_expiry(harness: &dyn Harness) {
    let place = Place::new(harness, "keep");
    for name in ["kept", "never", "longer"] {
        let version = place.insert_with(name, "one", WriteOptions::expiring(SHORT)).await.expect("insert");
        let expiry = match name {
            "never" => Expiry::Never,
            "longer" => Expiry::In(LONG),
            _ => Expiry::Keep,
        };
        let options = WriteOptions { expiry, ack: Ack::Durable };
        place.replace_with(name, "two", version, options).await.expect("replace");
    }
    let version = place.insert("mortal", "one").await.expect("insert");
    place.replace_with("mortal", "two", version, WriteOptions::expiring(SHORT)).await.expect("replace");
    harness.pass(SHORT + EXPIRY_GRACE).await;
    assert_eq!(place.get("kept").await, None, "a replaced document keeps its expiry");
    assert_eq!(place.get("mortal").await, None);
    assert!(place.get("never").await.is_some());
    assert!(place.get("longer").await.is_some());
}

async fn a_touch_changes_expiry_and_version(harness: &dyn Harness) {
    let place = Place::new(harness, "touch");
    assert_eq!(place.touch("nothing", Expiry::Never).await, Err(StoreError::NotFound));
    let version = place.insert_with("a", "one", WriteOptions::expiring(SHORT)).await.expect("insert");
    let touched = place.touch("a", Expiry::In(LONG)).await.expect("touch");
    assert_ne!(version, touched);
    assert_eq!(place.replace("a", "two", version).await, Err(StoreError::Conflict));
    harness.pass(SHORT + EXPIRY_GRACE).await;
    assert_eq!(place.get("a").await, Some(Stored { value: bytes("one"), version: touched }));
}

async fn keys_and_values_have_bounds(harness: &dyn Harness) {
    let place = Place::new(harness, "bounds");
    let refused = |result: Result<Version, StoreError>| matches!(result, Err(StoreError::Invalid(_)));
    let options = WriteOptions::default();
    let longest = format!("{}{}", place.prefix, "k".repeat(KEY_BYTES - place.prefix.len()));
    place.store.insert(&longest, bytes("x"), options).await.expect("the longest key");
    assert!(place.store.get(&longest).await.expect("get").is_some());
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    place.store.insert(&place.key("large"), value.clone(), options).await.expect("the longest value");
    assert_eq!(place.get("large").await.map(|stored| stored.value), Some(value));
    for key in ["", &format!("{longest}k"), "a\0b", "line\nbreak"] {
        assert!(refused(place.store.insert(key, bytes("x"), options).await), "key {key:?}");
        assert!(matches!(place.store.get(key).await, Err(StoreError::Invalid(_))), "key {key:?}");
    }
    let too_large = Bytes::from(vec![7; VALUE_BYTES + 1]);
    assert!(refused(place.store.insert(&place.key("larger"), too_large, options).await));
    let at_once = WriteOptions::expiring(Duration::from_millis(1));
    assert!(refused(place.insert_with("brief", "x", at_once).await));
    assert_eq!(place.get("brief").await, None);
}

async fn a_scan_walks_a_prefix_in_order(harness: &dyn Harness) {
    let place = Place::new(harness, "scan");
    let count = SCAN_LIMIT + 50;
    for n in 0..count {
        place.insert(&format!("in/{n:05}"), &n.to_string()).await.expect("insert");
    }
    for outside in ["im", "in", "in.", "in0", "io/0"] {
        place.insert(outside, "outside").await.expect("insert");
    }
    let prefix = place.key("in/");
    for limit in [1, 7, SCAN_LIMIT, usize::MAX] {
        let (mut keys, mut after) = (Vec::new(), None::<String>);
        loop {
            let some = place.store.scan(&prefix, after.as_deref(), limit).await.expect("scan");
            assert!(some.len() <= limit.min(SCAN_LIMIT));
            let Some((last, _)) = some.last() else { break };
            after = Some(last.clone());
            keys.extend(some.into_iter().map(|(key, stored)| (key, stored.value)));
            if limit == 1 && keys.len() > 20 {
                break;
            }
        }
        let wanted = (0..count).map(|n| (place.key(&format!("in/{n:05}")), bytes(&n.to_string())));
        let wanted: Vec<_> = wanted.take(if limit == 1 { keys.len() } else { count }).collect();
        assert_eq!(keys, wanted, "limit {limit}");
    }
    // The empty prefix walks the whole store.
    let whole = place.store.scan("", Some(&place.key("in/00004")), 3).await.expect("scan");
    let keys: Vec<_> = whole.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["in/00005", "in/00006", "in/00007"].map(|key| place.key(key)));
    assert_eq!(place.store.scan("", None, 1).await.expect("scan").len(), 1);
    assert_eq!(place.store.scan(&prefix, None, 0).await, Ok(Vec::new()));
    assert_eq!(place.store.scan(&place.key("none"), None, 10).await, Ok(Vec::new()));
}

async fn of_many_inserts_one_wins(harness: &dyn Harness) {
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let place = Place::new(harness, "race");
        tasks.spawn(async move { (n, place.insert("a", &n.to_string()).await) });
    }
    let results = tasks.join_all().await;
    let winners: Vec<_> = results.iter().filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "one insert wins");
    assert!(results.iter().all(|(_, result)| matches!(result, Ok(_) | Err(StoreError::Exists))));
    let place = Place::new(harness, "race");
    assert_eq!(place.get("a").await.map(|stored| stored.value), Some(bytes(&winners[0].0.to_string())));
}

async fn counters_add_up_under_contention(harness: &dyn Harness) {
    const TASKS: u64 = 16;
    const EACH: u64 = 25;
    let place = Place::new(harness, "counter");
    place.insert("a", "0").await.expect("insert");
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let place = Place::new(harness, "counter");
        tasks.spawn(async move {
            let mut done = 0;
            while done < EACH {
                let stored = place.get("a").await.expect("there");
                let count: u64 = std::str::from_utf8(&stored.value).expect("text").parse().expect("number");
                match place.replace("a", &(count + 1).to_string(), stored.version).await {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error, StoreError::Conflict),
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(place.get("a").await.map(|stored| stored.value), Some(bytes(&(TASKS * EACH).to_string())));
}

async fn an_acknowledged_write_is_seen_by_every_client(harness: &dyn Harness) {
    let one = Place::new(harness, "clients");
    let other = Place::new(harness, "clients");
    let version = one.insert("a", "one").await.expect("insert");
    let version = other.replace("a", "two", version).await.expect("the other client has the version at once");
    assert_eq!(one.get("a").await, Some(Stored { value: bytes("two"), version }));
}
