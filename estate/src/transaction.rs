//! Changes of several documents that happen all or not at all: one protocol for land and goods alike.
//!
//! The *arbiter* is the one document in which a transaction is decided (a transfer of its own, or an entry of a land
//! ledger); its *participants* are the documents that it changes. A driver writes the arbiter as `pending`, marks an intent
//! in every participant in the order of their keys (checking there that the effect is possible), swaps the arbiter to
//! `committed` (the moment of truth), applies each effect and clears its intent in one compare-and-swap, and closes the
//! arbiter. Whoever meets an intent settles it by what the arbiter says; anybody may finish what another began.
//!
//! It promises: a paused or dead driver neither loses, doubles nor holds up anything for longer than [`PATIENCE`]; an
//! operation asked for again under its id happens once and gives the same answer for [`REMEMBERED`]. What makes it safe:
//!
//! - Every write is a compare-and-swap against the version that was read *before* the arbiter was looked at.
//! - An intent names the one attempt (`token`) that wrote it; only that attempt's driver marks and commits, and only while
//!   the arbiter is still pending. Decisions never change: committed stays committed, aborted stays aborted.
//! - An effect is applied only where its intent stands, and takes the intent away in the same write.
//! - A document that becomes empty stays as a tombstone for [`REMEMBERED`], so that a late write cannot bring back an intent
//!   that was settled long ago.
//!
//! It NEVER compares two clocks: patience is counted by whoever waits, on its own monotonic clock. Sources of the protocol:
//! two-phase commit with a replicated decision record, as in Percolator and in MongoDB's "perform two-phase commits".

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::document::DocumentError;
pub use crate::owned::Gone;
use crate::player::Owner;
use crate::store::{Outcome, Store, StoreError};

pub mod participant;

pub mod arbiter;

mod driver;
mod known;
mod settle;
mod steps;

pub use participant::{AnyKind, Kind, Kinds, Marks, Step, Stepped};

use known::Known;

/// How long a transaction that somebody else drives is seen pending before it is aborted by whoever meets it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a driver tries before it gives up by itself, so that it is seldom aborted by others.
pub const DRIVING: Duration = Duration::from_secs(4);

/// How long an operation's answer is remembered, and how long a tombstone stays: clients MUST NOT ask again after half of it.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// The most documents that one transaction changes: a party and all its members, and some more.
pub const PARTS: usize = 20;

/// How deep an effect may be nested: a reader of JSON bears 128 levels, and arbiters and documents add some of their own.
pub const EFFECT_DEPTH: u32 = 64;

const _: () = assert!(DRIVING.as_millis() < PATIENCE.as_millis());
const _: () = assert!(PATIENCE.as_millis() * 10 < REMEMBERED.as_millis());

/// The name of an operation, chosen by whoever asks for it and never used for another. In JSON 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u128);

impl OperationId {
    /// The id of an operation that follows from what it does, so that whoever comes to do the same does it once. `what` MUST
    /// begin with words that no other sort of operation begins with.
    pub fn derived(what: &impl Serialize) -> OperationId {
        // Plain values of our own, which can always be written.
        let text = arbiter::canonical(&serde_json::to_value(what).unwrap_or_default());
        // FNV-1a of 128 bits (Fowler, Noll and Vo): nobody gains by two texts of one number, as nothing is created here.
        let hash = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        OperationId(text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, hash))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OperationId {
    type Err = String;

    fn from_str(text: &str) -> Result<OperationId, String> {
        let exact = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| exact);
        number.map(OperationId).ok_or_else(|| format!("{text:?} is not an operation id of 32 hexadecimal digits"))
    }
}

impl Serialize for OperationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OperationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OperationId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A mark in a document that names the transaction which holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The key of the arbiter: of the transfer, or of the ledger.
    pub arbiter: String,
    /// The operation.
    pub op: OperationId,
    /// The attempt at it: a new one for each, never used again.
    pub token: u64,
}

/// What a transaction does to one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The document.
    pub key: String,
    /// The effect, in the form of the document's kind.
    pub effect: Value,
}

impl Part {
    /// The effect of kind `K` on the document under `key`.
    pub fn new<K: Kind>(key: impl Into<String>, effect: &K::Effect) -> Part {
        // Effects are plain enums of our own; none has a map with keys that are not text.
        let effect = serde_json::to_value(effect).unwrap_or(Value::Null);
        Part { key: key.into(), effect }
    }
}

/// True if a value has at most so many levels of lists and maps within one another.
pub(crate) fn is_shallow(value: &Value, levels: u32) -> bool {
    match value {
        Value::Array(values) => levels > 0 && values.iter().all(|value| is_shallow(value, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|value| is_shallow(value, levels - 1)),
        _ => true,
    }
}

/// A change of several documents, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The operation. Asked again under the same id, it happens once.
    pub op: OperationId,
    /// The key of its arbiter. None: a transfer of its own; or, if it changes one document only, that very document, which
    /// remembers it beside [`participant::RECENT`] others.
    pub arbiter: Option<String>,
    /// What it does, one part for each document; at most [`PARTS`].
    pub parts: Vec<Part>,
    /// What was asked for, as a number ([`Request::asked`]), where the parts follow from more than that. An operation id that
    /// comes back asking for something else is refused.
    pub asked: Option<u64>,
}

impl Request {
    /// A transaction with an arbiter of its own, or of one part alone.
    pub fn transfer(op: OperationId, parts: Vec<Part>) -> Request {
        Request { op, arbiter: None, parts, asked: None }
    }

    /// A transaction with an arbiter of its own even if it changes one document only: for documents that so many change that
    /// they cannot remember whose operations they were.
    pub fn remembered(op: OperationId, parts: Vec<Part>) -> Request {
        Request { op, arbiter: Some(arbiter::transfer_key(op)), parts, asked: None }
    }

    /// A transaction that is decided in a ledger.
    pub fn land(op: OperationId, ledger: impl Into<String>, parts: Vec<Part>) -> Request {
        Request { op, arbiter: Some(ledger.into()), parts, asked: None }
    }

    /// For operations whose parts are made from what was read as well: only `arguments` tell what was asked for. Such an
    /// operation MUST ask [`Transactions::happened`] before it reads.
    #[must_use]
    pub fn asked(mut self, arguments: &impl Serialize) -> Request {
        let text = arbiter::canonical(&serde_json::to_value(arguments).unwrap_or_default());
        self.asked = Some(arbiter::digest_of(&[text.as_bytes()]));
        self
    }
}

/// What is not possible, and why. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// A short word for programs, such as `too_little` or `occupied`.
    pub code: String,
    /// What is wrong and where, for people.
    pub why: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &str, why: impl Into<String>) -> Refusal {
        Refusal { code: code.to_owned(), why: why.into() }
    }
}

/// Why a transaction gave no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// It is not possible. Nothing was changed, and asking again under the same id gives the same answer or a newer truth.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Others hold a document for too long. Nothing was changed; it may be asked for again under the same id.
    #[error("busy: {0} is held by another transaction or its owner does not answer")]
    Busy(String),
    /// The store's or a document's: what became of it tells [`TransactionError::outcome`].
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It may have happened: ask again under the same id to learn it.
    #[error("operation {op} may or may not have happened: {why}")]
    Unknown {
        /// The operation.
        op: OperationId,
        /// What kept it from being known.
        why: String,
    },
    /// A committed effect cannot be applied to a document that somebody changed by hand: `estate audit` shows it.
    #[error("document {key} no longer fits the committed operation {op}: {why}")]
    Stuck {
        /// The document.
        key: String,
        /// The operation.
        op: OperationId,
        /// What the document refuses.
        why: String,
    },
}

impl From<StoreError> for TransactionError {
    fn from(error: StoreError) -> TransactionError {
        TransactionError::Document(DocumentError::Store(error))
    }
}

impl TransactionError {
    /// What became of the operation.
    pub fn outcome(&self) -> Outcome {
        match self {
            TransactionError::Refused(_) | TransactionError::Busy(_) => Outcome::NotDone,
            TransactionError::Document(error) => error.outcome(),
            TransactionError::Unknown { .. } => Outcome::Maybe,
            TransactionError::Stuck { .. } => Outcome::Done,
        }
    }
}

/// Live owners of documents, and which of them are gone.
#[async_trait]
pub trait Owners: Gone + 'static {
    /// Has the owner take a step on a document that it holds, by [`participant::take`], in memory and store together.
    ///
    /// An error means that the step may have been taken, or may yet be.
    async fn take(&self, owner: &Owner, step: &Step) -> Result<Stepped, TransactionError>;
}

/// No live owners: for tools on a store that no node uses. Owners named in documents count as gone only if `all_gone`.
#[derive(Clone, Copy, Debug)]
pub struct NoOwners {
    /// Whether every owner that a document names is known to be gone.
    pub all_gone: bool,
}

#[async_trait]
impl Gone for NoOwners {
    async fn is_gone(&self, _owner: &Owner) -> bool {
        self.all_gone
    }
}

#[async_trait]
impl Owners for NoOwners {
    async fn take(&self, owner: &Owner, step: &Step) -> Result<Stepped, TransactionError> {
        Err(TransactionError::Busy(format!("{}, owned by {},", step.key, owner.node)))
    }
}

/// The one place where a node drives and settles transactions. Cheap to share.
pub struct Transactions {
    store: Arc<dyn Store>,
    kinds: Kinds,
    owners: Arc<dyn Owners>,
    known: Known,
    tokens: AtomicU64,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

impl Transactions {
    /// Transactions over `store`. `seed` MUST be random and new for every life of a node: tokens come from it.
    pub fn new(store: Arc<dyn Store>, kinds: Kinds, owners: Arc<dyn Owners>, seed: u64) -> Transactions {
        Transactions { store, kinds, owners, known: Known::default(), tokens: AtomicU64::new(seed) }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The kinds of documents that take part.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// A number that no other attempt uses: the steps of SplitMix64 (Steele, Lea and Flood, 2014) never repeat.
    pub(crate) fn token(&self) -> u64 {
        let mut z = self.tokens.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests;
