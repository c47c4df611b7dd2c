//! The strongly consistent registry that all nodes share: keys with values, leases, compare-and-swap and watches.
//!
//! What is decided here is decided for everybody. The trait is as small as etcd's own semantics allow; drivers are etcd
//! and memory. It NEVER hides an uncertain outcome: [`Error::Ambiguous`] says that a write may have happened.

pub mod etcd;
pub mod memory;

#[cfg(test)]
mod conformance;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

/// No call to a directory takes longer than this.
pub const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// A place in the directory's history. Every write makes a higher one.
pub type Revision = i64;

/// The number of a lease.
pub type LeaseId = i64;

/// One key as it stood at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision at which the key was made: the order of arrival.
    pub created: Revision,
    /// The revision at which it was last written: what compare-and-swap compares.
    pub modified: Revision,
    /// The lease it lives under, if any.
    pub lease: Option<LeaseId>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key was written.
    Put(Entry),
    /// A key was removed or its lease ended, at this revision.
    Deleted {
        /// The key.
        key: String,
        /// When.
        revision: Revision,
    },
    /// The watch is over (compaction, lost connection, cancelled): the caller lists and watches anew. Always the last.
    Ended {
        /// Why, for logs.
        reason: String,
    },
}

/// Errors of the directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory could be reached, or none answered a call that only reads: the call surely had no effect.
    #[error("directory unreachable at {endpoints}: {reason}")]
    Unavailable {
        /// The addresses tried.
        endpoints: String,
        /// What the driver said.
        reason: String,
    },
    /// A write whose reply was lost: it may have happened. Read back before deciding anything.
    #[error("directory write may or may not have happened: {reason}")]
    Ambiguous {
        /// What the driver said.
        reason: String,
    },
    /// The lease is gone.
    #[error("lease {0} has expired or never was")]
    LeaseGone(LeaseId),
    /// The directory answered that the call is wrong.
    #[error("directory refused: {0}")]
    Refused(String),
}

/// Results of directory calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The directory. Every call has a deadline inside the driver; none waits for ever.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Makes a lease that ends `ttl_s` seconds after its last keep-alive.
    async fn grant(&self, ttl_s: u32) -> Result<LeaseId>;

    /// Keeps a lease alive once. The lease counts from when this call was *made*, not from when it returned.
    async fn keep_alive(&self, lease: LeaseId) -> Result<()>;

    /// Ends a lease; its keys go.
    async fn revoke(&self, lease: LeaseId) -> Result<()>;

    /// Reads one key.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Reads all keys that start with `prefix`, in key order, with the revision at which this was true.
    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision)>;

    /// Writes a key whatever was there.
    async fn put(&self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Result<Revision>;

    /// Writes a key if `expected` is its present `modified` revision (0: if it does not exist). `None` if it is not.
    async fn swap(
        &self,
        key: &str,
        expected: Revision,
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>>;

    /// Removes a key if `expected` is its present `modified` revision, or whatever it is with `None`. True if removed.
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<bool>;

    /// Tells every change to keys under `prefix` from revision `from` on (0: from now on), in order, then
    /// [`WatchEvent::Ended`].
    ///
    /// The channel is bounded; a watcher too slow for it gets `Ended`. Dropping the receiver ends the watch. Where the
    /// history before `from` is compacted away, the watch begins and ends at once.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<mpsc::Receiver<WatchEvent>>;

    /// What the directory is, for people: kind, address, version, and warnings about known faults of that version.
    async fn describe(&self) -> Result<String>;
}
