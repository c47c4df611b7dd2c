//! Where documents lie: keys with values, versions and expiry, changed by compare-and-swap only.
//!
//! The trait promises what every driver can keep: a write is applied whole or not at all, its answer comes after it is
//! as durable as was asked, and an error says whether the write happened ([`StoreError::outcome`]). It NEVER hides an
//! uncertain outcome and NEVER waits without bound. Drivers: [`embedded`] (LMDB, the default), [`memory`] (tests and
//! simulation, with faults), `couchbase` (behind the feature of that name). One suite, [`conformance`], holds for all of
//! them.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub mod memory;

pub mod embedded;

#[cfg(feature = "couchbase")]
pub mod couchbase;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

/// The longest key, in bytes: what Couchbase takes (250) less its collection prefix. LMDB would take 511.
pub const KEY_BYTES: usize = 240;

/// The longest value, in bytes. Documents are kilobytes; the bound keeps a full queue of writes small.
pub const VALUE_BYTES: usize = 1024 * 1024;

/// The most documents that one [`Store::scan`] gives.
pub const SCAN_LIMIT: usize = 1_000;

/// The shortest time to live that every driver keeps: Couchbase counts in seconds.
pub const EXPIRY_MIN: Duration = Duration::from_secs(1);

/// The state of a document that compare-and-swap compares. Every write makes one that this key never had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A document as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its value.
    pub value: Bytes,
    /// Its version, for the next write.
    pub version: Version,
}

/// How long a document lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// As it was: a new document lives for ever, a replaced one keeps its expiry.
    #[default]
    Keep,
    /// For ever.
    Never,
    /// From this write on, at least [`EXPIRY_MIN`]. An expired document is as good as removed.
    In(Duration),
}

/// How sure a write is to stay before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// As sure as the store can make it. For everything that a player was told has happened.
    #[default]
    Durable,
    /// Applied and seen by everybody; a loss of power may take back the last moments. For positions and hints.
    Early,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How long the document lives.
    pub expiry: Expiry,
    /// When the answer comes.
    pub ack: Ack,
}

impl WriteOptions {
    /// The document lives for `time` from this write on.
    pub fn expiring(time: Duration) -> WriteOptions {
        WriteOptions { expiry: Expiry::In(time), ..WriteOptions::default() }
    }

    /// The answer need not wait for the disk.
    pub fn early() -> WriteOptions {
        WriteOptions { ack: Ack::Early, ..WriteOptions::default() }
    }
}

/// What became of a write that ended in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It surely did not happen and never will.
    NotDone,
    /// It surely happened.
    Done,
    /// It may have happened, or may yet happen: read back before deciding anything.
    Maybe,
}

/// Errors of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An insert found a document under the key.
    #[error("a document is already there")]
    Exists,
    /// A replace, remove or touch found none.
    #[error("no such document")]
    NotFound,
    /// The document has another version than the write named.
    #[error("the document has changed since it was read")]
    Conflict,
    /// The key or value breaks the store's rules.
    #[error("refused by the store: {0}")]
    Invalid(String),
    /// The store could not be asked, or could not take the write: it surely did not happen.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// There is no room left. It surely did not happen.
    #[error("store full: {0}")]
    Full(String),
    /// The store was closed. It surely did not happen.
    #[error("store closed")]
    Closed,
    /// What lies there cannot be read.
    #[error("stored document unreadable: {0}")]
    Corrupt(String),
    /// The reply was lost or late: the write may have happened.
    #[error("write may or may not have happened: {0}")]
    Ambiguous(String),
    /// The write happened and is seen by everybody, but is not as durable as was asked.
    #[error("written, but not made durable: {0}")]
    NotDurable(String),
}

impl StoreError {
    /// What became of the write.
    pub fn outcome(&self) -> Outcome {
        match self {
            StoreError::Ambiguous(_) => Outcome::Maybe,
            StoreError::NotDurable(_) => Outcome::Done,
            StoreError::Exists
            | StoreError::NotFound
            | StoreError::Conflict
            | StoreError::Invalid(_)
            | StoreError::Unavailable(_)
            | StoreError::Full(_)
            | StoreError::Closed
            | StoreError::Corrupt(_) => Outcome::NotDone,
        }
    }
}

/// A store of documents. Every call has a deadline inside the driver; none waits for ever.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads a document. One that has expired is not there.
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError>;

    /// Writes a document that is not there yet, or [`StoreError::Exists`].
    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError>;

    /// Writes a document whose present version is `version`, or [`StoreError::Conflict`] or [`StoreError::NotFound`].
    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError>;

    /// Removes a document whose present version is `version`, or [`StoreError::Conflict`] or [`StoreError::NotFound`].
    async fn remove(&self, key: &str, version: Version, options: WriteOptions) -> Result<(), StoreError>;

    /// Changes how long a document lives, whatever its version, or [`StoreError::NotFound`]. It has a new version
    /// afterwards, which is returned: a compare-and-swap against the former one is refused.
    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError>;

    /// Documents whose keys start with `prefix` and come after `after`, in the order of their keys' bytes: at most
    /// `limit`, NEVER more than [`SCAN_LIMIT`]. An empty answer means the end. For tools, not for the game.
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored)>, StoreError>;

    /// About how many documents there are, where that is known without counting: for progress bars.
    async fn estimate(&self) -> Option<u64> {
        None
    }

    /// What the store is, for people: kind, place, durability.
    async fn describe(&self) -> String;
}

/// Checks a key by the rules of all drivers: 1 to [`KEY_BYTES`] bytes, no control characters.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(StoreError::Invalid(format!("a key of {} bytes; the bounds are 1 and {KEY_BYTES}", key.len())));
    }
    if key.chars().any(char::is_control) {
        return Err(StoreError::Invalid(format!("key {key:?} holds a control character")));
    }
    Ok(())
}

/// Checks key and value of a write.
pub(crate) fn check_write(key: &str, value: &Bytes, expiry: Expiry) -> Result<(), StoreError> {
    check_key(key)?;
    check_expiry(expiry)?;
    if value.len() > VALUE_BYTES {
        return Err(StoreError::Invalid(format!("a value of {} bytes; the bound is {VALUE_BYTES}", value.len())));
    }
    Ok(())
}

/// Checks an expiry.
pub(crate) fn check_expiry(expiry: Expiry) -> Result<(), StoreError> {
    match expiry {
        Expiry::In(time) if time < EXPIRY_MIN => {
            Err(StoreError::Invalid(format!("a time to live of {time:?}; the least is {EXPIRY_MIN:?}")))
        }
        _ => Ok(()),
    }
}
