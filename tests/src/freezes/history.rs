//! What owners write: the owners and epochs that documents name, as they follow one another.
//!
//! A thread of its own reads all documents with owners again and again, as any process of the machine may. Every accepted write
//! of an owner names it with its epoch; so a write of an owner that was replaced shows as an epoch that goes back, or as an
//! epoch with two owners. What it finds is told in the end. It NEVER writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use estate::store::{SCAN_LIMIT, Store, embedded};
use serde_json::Value;

/// How often documents are read.
pub const EVERY: Duration = Duration::from_millis(100);

/// The kinds of documents with owners.
const KINDS: [&str; 2] = ["player/", "post/"];

/// An owner as a document names it: node, life, claim.
type Named = (String, u64, u64);

#[derive(Debug, Default)]
struct Document {
    owner: Option<Named>,
    epoch: u64,
    writes: u64,
    /// Who has owned which epoch.
    owners: BTreeMap<u64, Named>,
    value: Value,
}

#[derive(Debug, Default)]
struct History {
    documents: BTreeMap<String, Document>,
    claims: u64,
    /// How often all have been read.
    rounds: u64,
    violations: Vec<String>,
}

impl History {
    /// Takes a document as it is now.
    fn take(&mut self, key: &str, value: Value) {
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let (epoch, writes) = (number("epoch"), number("writes"));
        let owner = value["owner"].as_object().map(|owner| {
            let number = |name: &str| owner.get(name).and_then(Value::as_u64).unwrap_or_default();
            let node = owner.get("node").and_then(Value::as_str).unwrap_or_default();
            (node.to_owned(), number("incarnation"), number("claim"))
        });
        let known = self.documents.entry(key.to_owned()).or_default();
        // A post that has expired begins anew with its first epoch; players' documents never do.
        if epoch < known.epoch && epoch == 1 && writes == 1 && key.starts_with("post/") {
            *known = Document::default();
        }
        if (epoch, writes) < (known.epoch, known.writes) {
            let (before, now) = ((known.epoch, known.writes), (epoch, writes));
            self.violations.push(format!("{key} went back from epoch and write {before:?} to {now:?} by {owner:?}"));
        }
        if let Some(owner) = &owner {
            match known.owners.get(&epoch) {
                None => {
                    known.owners.insert(epoch, owner.clone());
                    self.claims += 1;
                }
                Some(other) if other != owner => {
                    self.violations.push(format!("epoch {epoch} of {key} has two owners: {other:?} and {owner:?}"));
                }
                Some(_) => {}
            }
        }
        (known.owner, known.epoch, known.writes, known.value) = (owner, epoch, writes, value);
    }
}

/// The thread that reads.
pub struct Historian {
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Historian {
    /// Starts reading the embedded store in this folder.
    pub fn start(folder: PathBuf) -> Historian {
        let (history, stop) = (Arc::<Mutex<History>>::default(), Arc::<AtomicBool>::default());
        let (out, until) = (history.clone(), stop.clone());
        #[allow(clippy::disallowed_methods, reason = "it watches real processes, on real time")]
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let store = embedded::open(&folder, None).await.expect("the store of the nodes");
                while !until.load(Ordering::SeqCst) {
                    read_all(&store, &out).await;
                    lock(&out).rounds += 1;
                    tokio::time::sleep(EVERY).await;
                }
                store.close().await;
            });
        });
        Historian { history, stop, thread: Some(thread) }
    }

    /// The documents that this node owns now.
    pub fn owned_by(&self, node: &str) -> BTreeSet<String> {
        let history = lock(&self.history);
        let owned = history.documents.iter().filter(|(_, it)| it.owner.as_ref().is_some_and(|(name, ..)| name == node));
        owned.map(|(key, _)| key.clone()).collect()
    }

    /// How many of these documents somebody else than `node` owns now.
    pub fn taken_from(&self, keys: &BTreeSet<String>, node: &str) -> u64 {
        let history = lock(&self.history);
        let theirs = |key: &&String| {
            let owner = history.documents.get(*key).and_then(|it| it.owner.as_ref());
            owner.is_some_and(|(name, ..)| name != node)
        };
        keys.iter().filter(theirs).count() as u64
    }

    /// How many of a stackable item a player carries, by its document.
    pub fn carried(&self, player: u64, item: &str) -> Option<u64> {
        let history = lock(&self.history);
        let document = history.documents.get(&format!("player/{player}"))?;
        Some(document.value["bag"]["stacks"][item].as_u64().unwrap_or(0))
    }

    /// Waits until all documents have been read as they are now.
    pub fn catch_up(&self) {
        let rounds = || lock(&self.history).rounds;
        // One reading may be under way.
        let fresh = rounds() + 2;
        crate::processes::wait_for("the documents to be read", || (rounds() >= fresh).then_some(()));
    }

    /// Claims that were seen.
    pub fn claims(&self) -> u64 {
        lock(&self.history).claims
    }

    /// Ends; what was wrong.
    pub fn stop(mut self) -> Vec<String> {
        self.end();
        std::mem::take(&mut lock(&self.history).violations)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            lock(&self.history).violations.push("the documents could not be read".to_owned());
        }
    }
}

impl Drop for Historian {
    fn drop(&mut self) {
        self.end();
    }
}

async fn read_all(store: &dyn Store, history: &Mutex<History>) {
    for kind in KINDS {
        let mut after: Option<String> = None;
        loop {
            // A store that is busy is read again in a moment.
            let Ok(page) = store.scan(kind, after.as_deref(), SCAN_LIMIT).await else { return };
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let mut history = lock(history);
            for (key, stored) in page {
                if let Ok(value) = serde_json::from_slice(&stored.value) {
                    history.take(&key, value);
                }
            }
        }
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(writes: &[(u64, u64, Option<&str>)]) -> Vec<String> {
        let mut history = History::default();
        for (epoch, writes, node) in writes {
            let owner = node.map(|node| json!({ "node": node, "incarnation": 1, "epoch": epoch, "claim": 1 }));
            history.take("player/1", json!({ "owner": owner, "epoch": epoch, "writes": writes }));
        }
        history.violations
    }

    #[test]
    fn a_write_of_an_owner_that_was_replaced_is_found() {
        let well = [(1, 1, Some("a")), (1, 5, Some("a")), (2, 6, Some("b")), (2, 7, None), (3, 8, Some("a"))];
        assert_eq!(found(&well), Vec::<String>::new());
        assert_eq!(found(&[(1, 1, Some("a")), (2, 2, Some("b")), (1, 3, Some("a"))]).len(), 1, "fencing");
        assert_eq!(found(&[(1, 1, Some("a")), (1, 2, Some("b"))]).len(), 1, "the epoch was not raised");
    }
}
