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

/// Changes in one call of [`Directory::change`], at most: what etcd takes in one transaction (128, of which the call itself
/// uses some), with room to spare.
pub const CHANGES: usize = 100;

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

/// What must hold of a key for a change to it to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Missing,
    /// It was made at this revision, however often it was written since.
    Created(Revision),
    /// It was last written at this revision.
    Modified(Revision),
}

/// One change among several that are made in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What must hold of it for this change to happen; the others happen or not by what they expect themselves.
    pub expect: Expect,
    /// What it becomes: a value and the lease it lives under, or nothing.
    pub becomes: Option<(Vec<u8>, Option<LeaseId>)>,
}

/// A key that must still be the one that was made at that revision, or none of the changes happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard<'a> {
    /// The key.
    pub key: &'a str,
    /// When it was made.
    pub created: Revision,
}

/// What became of changes made in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The revision that all which happened have in common, or the present one if none did.
    pub revision: Revision,
    /// Whether each happened, in the order in which they were given.
    pub done: Vec<bool>,
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

/// Refuses what no driver takes: too many changes, or two of one key.
fn check_changes(changes: &[Change]) -> Result<()> {
    let mut keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    keys.sort_unstable();
    if changes.len() > CHANGES {
        Err(Error::Refused(format!("{} changes in one call; {CHANGES} is the most", changes.len())))
    } else if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        Err(Error::Refused("two changes of one key in one call".to_owned()))
    } else {
        Ok(())
    }
}

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

    /// Makes up to [`CHANGES`] changes of different keys at once: each happens if what it expects holds, and those that
    /// happen do so at one revision, in the order given. `None` if the guard does not hold; then none has happened.
    ///
    /// If a lease that is named by a change which would happen is gone, none happens.
    async fn change(&self, guard: Option<Guard<'_>>, changes: &[Change]) -> Result<Option<Changed>>;

    /// Tells every change to keys under `prefix` from revision `from` on (0: from now on), in order, then
    /// [`WatchEvent::Ended`].
    ///
    /// The channel is bounded; a watcher too slow for it gets `Ended`. Dropping the receiver ends the watch. Where the
    /// history before `from` is compacted away, the watch begins and ends at once.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<mpsc::Receiver<WatchEvent>>;

    /// What the directory is, for people: kind, address, version, and warnings about known faults of that version.
    async fn describe(&self) -> Result<String>;
}
