//! Documents in Couchbase, over the official SDK.
//!
//! One collection holds everything; a version is Couchbase's CAS. Every call ends within a bound ([`CALL_DEADLINE`]),
//! whatever the SDK does (it has no time-outs, and some of its calls never return after a lost connection). The driver
//! NEVER lets a write that may have happened pass for one that did not.
//!
//! **A lost reply.** Every write carries a token of 24 bits in the document's flags (of which Couchbase itself uses only
//! the highest eight). An insert whose reply was lost is read back: the same value with the same token is ours, and the
//! insert is reported as done, with its version. A replace or remove is sent again: twice it cannot be applied, because
//! the second finds the version gone; a replace is then read back, too. What is not settled so is reported as
//! [`StoreError::Ambiguous`]. An insert in doubt is NEVER sent again: the first may have been found and removed since.
//!
//! **Durability.** [`Ack::Durable`] is Couchbase's `majority`, unless the address says otherwise; [`Ack::Early`] is the
//! active node's memory.
//!
//! **Expiry** counts in whole seconds, rounded up. From thirty days on the SDK turns it into a date by this machine's
//! clock. A touch is a replace of the document by itself: Couchbase's own touch has no durability, cannot make a
//! document live for ever through this SDK, and leaves the version as it was if the expiry does not change.
//!
//! **Scan** asks the query service for the keys (the SDK has no KV range scan), by the primary index that
//! [`setup::init`] makes, up to date as of the call, in the order of the keys' bytes; the documents are then read by
//! key, so that values may be any bytes. Only tools need the query service: the game never scans.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use couchbase::collection::Collection;
use couchbase::durability_level::DurabilityLevel;
use couchbase::options::kv_options::{InsertOptions, RemoveOptions, ReplaceOptions};
use tokio::time::{Instant, sleep, timeout};

use super::{Ack, Expiry, Store, StoreError, Stored, Version, WriteOptions, check_expiry, check_key, check_write};

pub mod config;
pub mod setup;

mod answer;
mod connect;
mod link;
mod scan;
mod tokens;
mod whispers;

use answer::Failure;
pub use config::{CouchbaseConfig, Durability, Password};
pub use connect::{CONNECT_DEADLINE, ConnectError};
use link::Links;
use tokens::Tokens;

/// How long one request may take before it is taken for lost.
pub const ATTEMPT: Duration = Duration::from_millis(2_500);

/// How long a call goes on trying, with everything that is sent again and read back. It ends one [`ATTEMPT`] later at
/// most.
pub const CALL_DEADLINE: Duration = Duration::from_secs(9);

/// The first pause before something is sent again; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A lost request can be sent again and the document read back before the deadline.
const _: () = assert!(CALL_DEADLINE.as_millis() > 3 * (ATTEMPT.as_millis() + PAUSE_MAX.as_millis()));

/// A collection of a Couchbase cluster. Clones share its connections.
#[derive(Clone)]
pub struct CouchbaseStore {
    inner: Arc<Inner>,
}

struct Inner {
    links: Links,
    durability: Durability,
    tokens: Tokens,
}

/// Connects within [`CONNECT_DEADLINE`]. `seed` is what write tokens are drawn from: another one in every process.
pub async fn connect(config: CouchbaseConfig, seed: u64) -> Result<CouchbaseStore, ConnectError> {
    let durability = config.durability;
    let links = Links::open(config).await?;
    Ok(CouchbaseStore { inner: Arc::new(Inner { links, durability, tokens: Tokens::new(seed) }) })
}

/// A write, as often as it must be sent.
enum Write<'a> {
    Insert { value: &'a [u8], flags: u32, expiry: Expiry },
    Replace { value: &'a [u8], flags: u32, expiry: Expiry, version: Version },
    Remove { version: Version },
}

/// A document with what Couchbase knows of it.
struct Found {
    stored: Stored,
    flags: u32,
}

/// The time and the pauses of one call.
struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Patience {
        Patience { deadline: Instant::now() + CALL_DEADLINE, pause: PAUSE_MIN }
    }

    /// Waits a little, or says that there is no time left for another attempt.
    async fn wait(&mut self) -> bool {
        if Instant::now() + self.pause + ATTEMPT > self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

impl Inner {
    /// Sends one request and waits for its answer for [`ATTEMPT`] at most.
    async fn attempt<T, F>(&self, request: impl FnOnce(Collection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = couchbase::error::Result<T>> + Send,
    {
        let link = self.links.present();
        match timeout(ATTEMPT, connect::call(request(link.collection.clone()))).await {
            Ok(Ok(answer)) => {
                link.answered();
                Ok(answer)
            }
            Ok(Err(e)) => {
                let failure = answer::sort(&e);
                match failure {
                    Failure::Unknown(_) => {}
                    Failure::Refused(_) | Failure::Busy(_) => link.answered(),
                }
                Err(failure)
            }
            Err(_) => {
                self.links.silent(&link);
                Err(Failure::Unknown(format!("no reply within {ATTEMPT:?}")))
            }
        }
    }

    async fn read_once(&self, key: &str) -> Result<Option<Found>, Failure> {
        let read = self.attempt(|collection| async move { collection.get(key, None).await }).await;
        match read {
            Ok(result) => {
                let (value, flags) = result.content_as_raw();
                let stored = Stored { value: Bytes::copy_from_slice(value), version: Version(result.cas()) };
                Ok(Some(Found { stored, flags }))
            }
            Err(Failure::Refused(StoreError::NotFound)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Reads until something answers, within the call's patience.
    async fn read(&self, key: &str, patience: &mut Patience) -> Result<Option<Found>, StoreError> {
        loop {
            let why = match self.read_once(key).await {
                Ok(found) => return Ok(found),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Busy(why) | Failure::Unknown(why)) => why,
            };
            if !patience.wait().await {
                return Err(StoreError::Unavailable(why));
            }
        }
    }

    async fn send(&self, key: &str, write: &Write<'_>, ack: Ack) -> Result<Version, Failure> {
        let level = match (ack, self.durability) {
            (Ack::Early, _) | (_, Durability::None) => None,
            (Ack::Durable, Durability::Majority) => Some(DurabilityLevel::MAJORITY),
            (Ack::Durable, Durability::MajorityAndPersist) => Some(DurabilityLevel::MAJORITY_AND_PERSIST_ACTIVE),
            (Ack::Durable, Durability::Persist) => Some(DurabilityLevel::PERSIST_TO_MAJORITY),
        };
        let done = match *write {
            Write::Insert { value, flags, expiry } => {
                let mut options = InsertOptions::new();
                options.durability_level = level;
                options.expiry = seconds(expiry);
                self.attempt(|to| async move { to.insert_raw(key, value, flags, options).await }).await?
            }
            Write::Replace { value, flags, expiry, version } => {
                let mut options = ReplaceOptions::new().cas(cas(version));
                options.durability_level = level;
                options.expiry = seconds(expiry);
                // Without it, Couchbase takes a replace without expiry for one that clears it.
                options.preserve_expiry = (expiry == Expiry::Keep).then_some(true);
                self.attempt(|to| async move { to.replace_raw(key, value, flags, options).await }).await?
            }
            Write::Remove { version } => {
                let mut options = RemoveOptions::new().cas(cas(version));
                options.durability_level = level;
                self.attempt(|to| async move { to.remove(key, options).await }).await?
            }
        };
        Ok(Version(done.cas()))
    }

    /// Writes, and settles what became of it.
    async fn write(&self, key: &str, write: Write<'_>, ack: Ack) -> Result<Version, StoreError> {
        let mut patience = Patience::new();
        self.expect_answers(key, &mut patience).await?;
        // Why an earlier attempt may have had its effect, if one may.
        let mut doubt: Option<String> = None;
        loop {
            let why = match (self.send(key, &write, ack).await, &doubt) {
                (Ok(version), _) => return Ok(version),
                (Err(Failure::Refused(error)), None) => return Err(error),
                (Err(Failure::Refused(_)), Some(why)) => {
                    let why = why.clone();
                    return self.settle(key, &write, why, &mut patience).await;
                }
                (Err(Failure::Busy(why)), _) => why,
                (Err(Failure::Unknown(why)), _) => {
                    doubt.get_or_insert_with(|| why.clone());
                    why
                }
            };
            let time_left = patience.wait().await;
            match doubt {
                Some(doubt) if matches!(write, Write::Insert { .. }) => {
                    return self.settle(key, &write, doubt, &mut patience).await;
                }
                Some(doubt) if !time_left => return Err(StoreError::Ambiguous(doubt)),
                None if !time_left => return Err(StoreError::Unavailable(why)),
                _ => {}
            }
        }
    }

    /// Before a write over a link that was last silent: a read, so that a store that is down refuses writes instead of
    /// leaving every one of them in doubt.
    async fn expect_answers(&self, key: &str, patience: &mut Patience) -> Result<(), StoreError> {
        if self.links.present().is_silent() {
            self.read(key, patience).await?;
        }
        Ok(())
    }

    /// An attempt in doubt that is not to be sent again: reads back whether it is there.
    async fn settle(
        &self,
        key: &str,
        write: &Write<'_>,
        why: String,
        patience: &mut Patience,
    ) -> Result<Version, StoreError> {
        let (Write::Insert { value, flags, .. } | Write::Replace { value, flags, .. }) = *write else {
            return Err(StoreError::Ambiguous(why));
        };
        match self.read(key, patience).await {
            Ok(Some(found)) if found.flags == flags && found.stored.value == value => Ok(found.stored.version),
            // Ours may have been overwritten since.
            Ok(_) => Err(StoreError::Ambiguous(why)),
            Err(error) => Err(StoreError::Ambiguous(format!("{why}; could not be read back: {error}"))),
        }
    }

    /// Replaces a document by itself.
    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        let deadline = Instant::now() + CALL_DEADLINE;
        let mut doubt = None;
        loop {
            let found = match self.read(key, &mut Patience { deadline, pause: PAUSE_MIN }).await {
                Ok(found) => found,
                Err(error) => return Err(doubt.map_or(error, StoreError::Ambiguous)),
            };
            let Some(Found { stored, flags }) = found else {
                return Err(doubt.map_or(StoreError::NotFound, StoreError::Ambiguous));
            };
            // The flags stay: whoever is still in doubt about the write that made them finds it.
            let write = Write::Replace { value: &stored.value, flags, expiry, version: stored.version };
            match self.send(key, &write, Ack::Durable).await {
                Ok(version) => return Ok(version),
                Err(Failure::Refused(StoreError::Conflict)) | Err(Failure::Busy(_)) => {}
                Err(Failure::Refused(error)) => return Err(doubt.map_or(error, StoreError::Ambiguous)),
                Err(Failure::Unknown(why)) => doubt = Some(why),
            }
            if Instant::now() + PAUSE_MIN + ATTEMPT > deadline {
                let busy = StoreError::Unavailable("the document changes too often to be touched".to_owned());
                return Err(doubt.map_or(busy, StoreError::Ambiguous));
            }
            sleep(PAUSE_MIN).await;
        }
    }
}

#[async_trait]
impl Store for CouchbaseStore {
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        check_key(key)?;
        Ok(self.inner.read(key, &mut Patience::new()).await?.map(|found| found.stored))
    }

    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError> {
        check_write(key, &value, options.expiry)?;
        let flags = self.inner.tokens.flags(&value);
        let write = Write::Insert { value: &value, flags, expiry: options.expiry };
        self.inner.write(key, write, options.ack).await
    }

    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        check_write(key, &value, options.expiry)?;
        let flags = self.inner.tokens.flags(&value);
        let write = Write::Replace { value: &value, flags, expiry: options.expiry, version };
        self.inner.write(key, write, options.ack).await
    }

    async fn remove(&self, key: &str, version: Version, options: WriteOptions) -> Result<(), StoreError> {
        check_key(key)?;
        self.inner.write(key, Write::Remove { version }, options.ack).await.map(|_| ())
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        check_key(key)?;
        check_expiry(expiry)?;
        self.inner.touch(key, expiry).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored)>, StoreError> {
        scan::scan(&self.inner, prefix, after, limit).await
    }

    async fn describe(&self) -> String {
        format!("{}, durability {}", self.inner.links.config(), self.inner.durability.name())
    }
}

/// The expiry as the SDK takes it: whole seconds, never fewer than asked for.
fn seconds(expiry: Expiry) -> Option<Duration> {
    match expiry {
        Expiry::Keep | Expiry::Never => None,
        Expiry::In(time) => Some(Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))),
    }
}

/// The CAS of a version. Zero would mean "whatever is there" to Couchbase, and is no version; one never was any.
fn cas(version: Version) -> u64 {
    version.0.max(1)
}
