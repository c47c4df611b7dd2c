//! Documents in a folder of this machine, shared by all processes of it: LMDB through `heed`.
//!
//! Reads go straight to the memory map, with a short transaction each. Writes go through one thread per process, which
//! commits them in groups; an OS file lock stands in front of every write transaction, so that a killed process never
//! leaves the others waiting (see `turnstile`). What was acknowledged survives SIGKILL always, and a loss of power by
//! [`Durability`]. It NEVER opens a folder that holds anything else, and never works on network file systems.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heed::{RoTxn, WithTls};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{error::Elapsed, timeout};

use super::{
    Ack, Expiry, SCAN_LIMIT, Store, StoreError, Stored, Version, WriteOptions, check_expiry, check_key, check_write,
};

mod environment;
mod folder;
mod opening;
mod records;
mod turnstile;
mod writer;

pub use folder::OpenError;
pub use opening::{open, open_with, switch_durability};

use environment::Environment;
use records::{Tables, Write};
use turnstile::Seats;
use writer::{Message, Operation};

/// The version of the files' layout, recorded in the store.
pub const FORMAT: u32 = 1;

/// The size of the memory map, the same in every process: the most that a store can hold. Address space, not memory.
pub const MAP_BYTES: usize = 64 << 30;

/// Writes that wait for the writer, at most; beyond it callers wait, up to [`WRITE_DEADLINE`].
pub const QUEUE: usize = 4_096;

/// How long a write waits for the queue and the commit. Longer only when the disk or another process hangs.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Keys that one read transaction of a scan visits: a long one would keep old pages from being used again.
const SCAN_VISITS: usize = 1_000;

/// What acknowledged writes survive; recorded in the store, the same for all its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process, but not of the machine: nothing waits for the disk. After a loss of power the store
    /// may be damaged: for caches, tests, and machines whose state is thrown away with them.
    Process,
    /// A loss of power. Writes with [`Ack::Early`] may lose the last second by it; the store is whole in any case.
    Power,
    /// A loss of power, with [`Ack::Early`] as well.
    Strict,
}

impl Durability {
    /// The name in flags and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Power => "power",
            Durability::Strict => "strict",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Durability, String> {
        [Durability::Process, Durability::Power, Durability::Strict]
            .into_iter()
            .find(|durability| durability.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a durability; the durabilities are process, power, strict"))
    }
}

/// Milliseconds since 1970 by the machine's clock, by which documents expire in all processes alike.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How to open a store.
#[derive(Clone)]
pub struct Settings {
    /// What it must have; `None` for whatever it has, and [`Durability::Power`] for a new one.
    pub durability: Option<Durability>,
    /// The clock of expiry; for tests.
    pub clock: Clock,
    /// The size of the map: [`MAP_BYTES`], but for tests of a full store.
    pub map_bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { durability: None, clock: Arc::new(wall_clock_ms), map_bytes: MAP_BYTES }
    }
}

/// Counts of what the writer of this process did, for metrics. All only ever rise.
#[derive(Debug)]
pub struct Counters {
    /// Transactions.
    pub groups: AtomicU64,
    /// Writes decided in them.
    pub writes: AtomicU64,
    /// Expired documents removed.
    pub swept: AtomicU64,
    /// Readers of dead processes cleared.
    pub dead_readers: AtomicU64,
}

/// An open store. The folder is free for this process again once every handle is gone and the writer has ended, which
/// [`EmbeddedStore::close`] waits for.
pub struct EmbeddedStore {
    env: Environment,
    tables: Tables,
    folder: PathBuf,
    durability: Durability,
    clock: Clock,
    seats: Arc<Seats>,
    counters: Arc<Counters>,
    queue: mpsc::Sender<Message>,
    closed: AtomicBool,
    /// Distinguishes this opening from others of the process, for [`SEATED`].
    number: u64,
}

thread_local! {
    /// The stores (by number) in whose reader table this thread has a seat.
    static SEATED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl EmbeddedStore {
    /// What the store's writes survive.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// What the writer of this process has done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Ends the store in this process: writes queued before are answered and made durable, later calls refused. Returns
    /// when the writer has ended.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let (done, ended) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            // The writer lets go of it when it has ended.
            let _ = ended.await;
        }
    }

    /// Reads in a transaction of its own, on the caller's thread.
    fn read<T>(&self, read: impl FnOnce(&RoTxn<'_, WithTls>) -> heed::Result<T>) -> Result<T, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let seated = SEATED.with_borrow(|seated| seated.contains(&self.number));
        let seat = if seated { None } else { Some(self.seats.hold()) };
        let seat = seat.transpose().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let txn = self.env.read_txn().map_err(writer::store_error)?;
        if seat.is_some() {
            SEATED.with_borrow_mut(|seated| seated.push(self.number));
            drop(seat);
        }
        read(&txn).map_err(writer::store_error)
    }

    /// Queues a write and waits for its answer, up to [`WRITE_DEADLINE`].
    async fn write(&self, write: Write, ack: Ack) -> Result<Version, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let (answer, answered) = oneshot::channel();
        let claim = Arc::new(AtomicBool::new(false));
        let operation = Operation { write, ack, claim: claim.clone(), answer };
        let result = timeout(WRITE_DEADLINE, async {
            self.queue.send(Message::Write(operation)).await.map_err(|_| StoreError::Closed)?;
            answered.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the store's writer died".to_owned())))
        })
        .await;
        result.unwrap_or_else(|_: Elapsed| {
            let waited = format!("no answer in {WRITE_DEADLINE:?}; does the disk or a stopped process hang?");
            let mine = Operation::take(&claim);
            Err(if mine { StoreError::Unavailable(waited) } else { StoreError::Ambiguous(waited) })
        })
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        check_key(key)?;
        let now_ms = (self.clock)();
        self.read(|txn| self.tables.get(txn, key, now_ms))?
    }

    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError> {
        check_write(key, &value, options.expiry)?;
        self.write(Write::Insert { key: key.into(), value, expiry: options.expiry }, options.ack).await
    }

    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        check_write(key, &value, options.expiry)?;
        self.write(Write::Replace { key: key.into(), value, version, expiry: options.expiry }, options.ack).await
    }

    async fn remove(&self, key: &str, version: Version, options: WriteOptions) -> Result<(), StoreError> {
        check_key(key)?;
        self.write(Write::Remove { key: key.into(), version }, options.ack).await.map(|_| ())
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        check_key(key)?;
        check_expiry(expiry)?;
        self.write(Write::Touch { key: key.into(), expiry }, Ack::Durable).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored)>, StoreError> {
        let (limit, now_ms) = (limit.min(SCAN_LIMIT), (self.clock)());
        let (mut found, mut from) = (Vec::new(), after.map(str::to_owned));
        if limit == 0 {
            return Ok(found);
        }
        loop {
            let place = (prefix, from.as_deref());
            let more = self.read(|txn| self.tables.scan(txn, place, (limit, SCAN_VISITS), now_ms, &mut found))??;
            if more.is_none() || found.len() == limit {
                return Ok(found);
            }
            from = more;
            tokio::task::yield_now().await;
        }
    }

    async fn estimate(&self) -> Option<u64> {
        self.read(|txn| self.tables.count(txn)).ok()
    }

    async fn describe(&self) -> String {
        let documents = self.estimate().await.map_or("?".to_owned(), |count| count.to_string());
        let bytes = self.env.real_disk_size().unwrap_or_default();
        format!(
            "embedded in {}, format {FORMAT}, durability {}, {documents} documents, {} MiB",
            self.folder.display(),
            self.durability,
            bytes >> 20
        )
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("folder", &self.folder).field("durability", &self.durability).finish()
    }
}

#[allow(clippy::disallowed_methods)] // expiry counts across processes and restarts; simulation uses the memory driver
fn wall_clock_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
