//! Documents in memory: for tests and the simulation, with faults on demand.
//!
//! Every client ([`MemoryStore::client`]) sees the same documents and has faults of its own, so that one node may lose
//! the store while another does not. All of it is deterministic: time is tokio's, order is the calls' order, chance
//! comes from a seed. It NEVER survives the process and never spawns anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    Expiry, SCAN_LIMIT, Store, StoreError, Stored, Version, WriteOptions, check_expiry, check_key, check_write,
};

mod faults;

pub use faults::{Fault, Faults, Rates};

/// How many writes pass between two sweeps of expired documents that nobody asks for any more.
const SWEEP_EVERY: u64 = 1_024;

/// One client of a store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    documents: Arc<Mutex<Documents>>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Documents {
    by_key: BTreeMap<String, Document>,
    writes: u64,
    /// Writes whose clients were told "may be": they land when their time comes, in the order of their numbers.
    late: BTreeMap<(Instant, u64), Write>,
    late_number: u64,
}

#[derive(Debug)]
struct Document {
    value: Bytes,
    version: Version,
    expires: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Write {
    Insert { key: String, value: Bytes, expiry: Expiry },
    Replace { key: String, value: Bytes, version: Version, expiry: Expiry },
    Remove { key: String, version: Version },
    Touch { key: String, expiry: Expiry },
}

impl MemoryStore {
    /// An empty store and its first client.
    pub fn new() -> MemoryStore {
        MemoryStore { documents: Arc::default(), faults: Faults::default() }
    }

    /// Another client of the same documents, with faults of its own.
    pub fn client(&self) -> MemoryStore {
        MemoryStore { documents: self.documents.clone(), faults: Faults::default() }
    }

    /// The handle to this client's faults.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// All documents as they are now, past any fault: for checkers.
    pub fn snapshot(&self) -> BTreeMap<String, Stored> {
        let mut documents = self.lock();
        let now = Instant::now();
        documents.land(now);
        documents
            .by_key
            .iter()
            .filter(|(_, document)| document.lives(now))
            .map(|(key, document)| (key.clone(), document.stored()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Documents> {
        // A panic elsewhere leaves whole documents behind: each change below is one assignment.
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, write: Write) -> Result<Version, StoreError> {
        let call = self.faults.begin();
        if !call.reachable {
            return Err(unreachable());
        }
        pause(call.before).await;
        match call.fault {
            Some(Fault::Refuse) => return Err(unreachable()),
            Some(Fault::LoseRequest) => {
                pause(call.deadline).await;
                return Err(lost());
            }
            Some(Fault::Late(time)) => {
                self.lock().post(Instant::now() + time, write);
                pause(call.deadline).await;
                return Err(lost());
            }
            Some(Fault::StopBefore) => std::future::pending().await,
            Some(Fault::Storm) => self.lock().stir(write.key()),
            Some(Fault::LoseReply | Fault::StopAfter) | None => {}
        }
        if !self.faults.reachable() {
            return Err(lost());
        }
        let result = self.lock().apply(Instant::now(), write);
        pause(call.after).await;
        match call.fault {
            Some(Fault::StopAfter) => std::future::pending().await,
            Some(Fault::LoseReply) => {
                pause(call.deadline).await;
                Err(lost())
            }
            _ if !self.faults.reachable() => Err(lost()),
            _ => result,
        }
    }

    async fn read<T>(&self, read: impl FnOnce(&Documents, Instant) -> T) -> Result<T, StoreError> {
        let call = self.faults.begin();
        if !call.reachable {
            return Err(unreachable());
        }
        pause(call.before).await;
        match call.fault {
            Some(Fault::Refuse | Fault::LoseRequest | Fault::LoseReply | Fault::Late(_)) => {
                pause(call.deadline).await;
                return Err(unreachable());
            }
            Some(Fault::StopBefore) => std::future::pending().await,
            Some(Fault::StopAfter | Fault::Storm) | None => {}
        }
        let result = {
            let mut documents = self.lock();
            let now = Instant::now();
            documents.land(now);
            read(&documents, now)
        };
        pause(call.after).await;
        match call.fault {
            Some(Fault::StopAfter) => std::future::pending().await,
            _ if !self.faults.reachable() => Err(unreachable()),
            _ => Ok(result),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        check_key(key)?;
        self.read(|documents, now| documents.live(key, now).map(Document::stored)).await
    }

    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError> {
        check_write(key, &value, options.expiry)?;
        self.write(Write::Insert { key: key.to_owned(), value, expiry: options.expiry }).await
    }

    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        check_write(key, &value, options.expiry)?;
        self.write(Write::Replace { key: key.to_owned(), value, version, expiry: options.expiry }).await
    }

    async fn remove(&self, key: &str, version: Version, _options: WriteOptions) -> Result<(), StoreError> {
        check_key(key)?;
        self.write(Write::Remove { key: key.to_owned(), version }).await.map(|_| ())
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        check_key(key)?;
        check_expiry(expiry)?;
        self.write(Write::Touch { key: key.to_owned(), expiry }).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored)>, StoreError> {
        let from = after.map_or(prefix, |after| after.max(prefix)).to_owned();
        self.read(|documents, now| {
            documents
                .by_key
                .range(from..)
                .take_while(|(key, _)| key.starts_with(prefix))
                .filter(|(key, document)| after.is_none_or(|after| key.as_str() > after) && document.lives(now))
                .take(limit.min(SCAN_LIMIT))
                .map(|(key, document)| (key.clone(), document.stored()))
                .collect()
        })
        .await
    }

    async fn estimate(&self) -> Option<u64> {
        Some(self.lock().by_key.len() as u64)
    }

    async fn describe(&self) -> String {
        format!("memory, {} documents, lost when the process ends", self.lock().by_key.len())
    }
}

impl Documents {
    fn live(&self, key: &str, now: Instant) -> Option<&Document> {
        self.by_key.get(key).filter(|document| document.lives(now))
    }

    /// Keeps a write that lands later.
    fn post(&mut self, when: Instant, write: Write) {
        self.late_number += 1;
        self.late.insert((when, self.late_number), write);
    }

    /// Applies the late writes whose time has come.
    fn land(&mut self, now: Instant) {
        while let Some(first) = self.late.first_entry() {
            if first.key().0 > now {
                return;
            }
            let ((when, _), write) = first.remove_entry();
            // Nobody waits for the result any more.
            let _ = self.decide(when, write);
        }
    }

    fn apply(&mut self, now: Instant, write: Write) -> Result<Version, StoreError> {
        self.land(now);
        if self.writes.is_multiple_of(SWEEP_EVERY) {
            self.by_key.retain(|_, document| document.lives(now));
        }
        self.decide(now, write)
    }

    fn decide(&mut self, now: Instant, write: Write) -> Result<Version, StoreError> {
        let version = Version(self.writes + 1);
        match write {
            Write::Insert { key, value, expiry } => {
                if self.live(&key, now).is_some() {
                    return Err(StoreError::Exists);
                }
                let expires = expires(expiry, None, now);
                self.by_key.insert(key, Document { value, version, expires });
            }
            Write::Replace { key, value, version: expected, expiry } => {
                let document = self.expect(&key, Some(expected), now)?;
                let expires = expires(expiry, document.expires, now);
                *document = Document { value, version, expires };
            }
            Write::Remove { key, version: expected } => {
                self.expect(&key, Some(expected), now)?;
                self.by_key.remove(&key);
            }
            Write::Touch { key, expiry } => {
                let document = self.expect(&key, None, now)?;
                document.expires = expires(expiry, document.expires, now);
                document.version = version;
            }
        }
        self.writes += 1;
        Ok(version)
    }

    fn expect(&mut self, key: &str, version: Option<Version>, now: Instant) -> Result<&mut Document, StoreError> {
        let document = self.by_key.get_mut(key).filter(|document| document.lives(now)).ok_or(StoreError::NotFound)?;
        if version.is_some_and(|version| version != document.version) {
            return Err(StoreError::Conflict);
        }
        Ok(document)
    }

    /// Gives a document a new version, as if somebody had touched it.
    fn stir(&mut self, key: &str) {
        if let Some(document) = self.by_key.get_mut(key) {
            self.writes += 1;
            document.version = Version(self.writes);
        }
    }
}

impl Document {
    fn lives(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    fn stored(&self) -> Stored {
        Stored { value: self.value.clone(), version: self.version }
    }
}

impl Write {
    fn key(&self) -> &str {
        match self {
            Write::Insert { key, .. }
            | Write::Replace { key, .. }
            | Write::Remove { key, .. }
            | Write::Touch { key, .. } => key,
        }
    }
}

fn expires(expiry: Expiry, present: Option<Instant>, now: Instant) -> Option<Instant> {
    match expiry {
        Expiry::Keep => present,
        Expiry::Never => None,
        Expiry::In(time) => Some(now + time),
    }
}

async fn pause(time: std::time::Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn unreachable() -> StoreError {
    StoreError::Unavailable("cut off by the test".to_owned())
}

fn lost() -> StoreError {
    StoreError::Ambiguous("reply lost by the test".to_owned())
}

#[cfg(test)]
mod tests;
