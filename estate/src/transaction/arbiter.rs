//! Where transactions are decided: transfers with a document each, and ledgers with an entry for each land transaction.
//!
//! All changes here are one compare-and-swap of one document, made until its outcome is known. Decisions are monotone:
//! pending becomes committed or aborted, committed becomes done; nothing ever goes back, and a new attempt at an aborted
//! operation has a new token. This module NEVER touches a participant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{OperationId, Part, REMEMBERED};
use crate::document::{Attempts, Document, DocumentError, Kept, Migration, encode, peek};
use crate::store::{Ack, Expiry, Outcome, Store, StoreError, Version, WriteOptions};

/// The most transactions that one ledger decides at a time.
pub const LEDGER_ENTRIES: usize = 64;

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Intents are being marked; may still be aborted.
    Pending,
    /// It has happened; effects are being applied.
    Committed,
    /// It has not happened and never will under this token.
    Aborted,
    /// It has happened, and all participants are clear.
    Done,
}

/// One transaction, as its arbiter keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The attempt.
    pub token: u64,
    /// How far it has come.
    pub state: State,
    /// What was asked for, as a number: an id MUST NOT be used for something else.
    pub digest: u64,
    /// What it does: all that is needed to finish it. Empty once it is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A transfer: the arbiter of one transaction, under `transfer/OPERATION`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The transaction.
    #[serde(flatten)]
    pub entry: Entry,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for TransferDocument {
    const KIND: &'static str = "transfer";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// A ledger: the arbiter of the land transactions of an area, under `ledger/…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The transactions that are not done yet.
    pub entries: BTreeMap<OperationId, Entry>,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for LedgerDocument {
    const KIND: &'static str = "ledger";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// The memory of a land transaction that is done, under `operation/OPERATION`, until it expires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationDocument {
    /// The version of the document's form.
    pub v: u32,
    /// What was asked for, as a number.
    pub digest: u64,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for OperationDocument {
    const KIND: &'static str = "operation";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// The key of the transfer that decides `op`.
pub fn transfer_key(op: OperationId) -> String {
    format!("transfer/{op}")
}

/// The key of the memory of `op`.
pub fn operation_key(op: OperationId) -> String {
    format!("operation/{op}")
}

/// True if the arbiter under this key decides one transaction only.
pub fn is_transfer(arbiter: &str) -> bool {
    arbiter.starts_with("transfer/")
}

/// What was asked for, as a number.
pub fn digest(parts: &[Part]) -> u64 {
    let effects: Vec<String> = parts.iter().map(|part| canonical(&part.effect)).collect();
    let texts: Vec<&[u8]> =
        parts.iter().zip(&effects).flat_map(|(part, effect)| [part.key.as_bytes(), effect.as_bytes()]).collect();
    digest_of(&texts)
}

/// A value as text that is the same in every build: whether JSON objects keep their order or are sorted depends on what
/// else is linked into a program.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let fields: Vec<String> =
                fields.into_iter().map(|(name, value)| format!("{name:?}:{}", canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(canonical).collect();
            format!("[{}]", values.join(","))
        }
        plain => plain.to_string(),
    }
}

/// FNV-1a of some texts (Fowler, Noll and Vo), each ended by a byte that no text has.
pub(super) fn digest_of(texts: &[&[u8]]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a change of an arbiter comes to.
pub(super) enum Change {
    /// Nothing is written.
    Leave,
    /// The entry becomes this.
    Put(Entry),
    /// The entry goes: only in ledgers.
    Drop,
}

/// What was found when a transaction was to begin.
pub(super) enum Begun {
    /// The arbiter stands, pending, with the caller's token; as it was written, if that is known.
    Mine(Option<Read>),
    /// The operation has happened, and all is clear.
    Done,
    /// An entry of another attempt stands: pending or committed.
    Theirs(Entry),
    /// The attempt may have begun and be over already: a reader that met it may still clear what stands under its token.
    /// Try again under a new one.
    Over,
    /// The id was used for something else.
    Misused,
    /// The ledger has no room.
    Full,
}

/// Reads the entry of `op` in an arbiter.
pub(crate) async fn look(store: &dyn Store, arbiter: &str, op: OperationId) -> Result<Option<Entry>, DocumentError> {
    let mut attempts = Attempts::new();
    loop {
        let found = if is_transfer(arbiter) {
            peek::<TransferDocument>(store, arbiter).await.map(|kept| kept.map(|kept| kept.document.entry))
        } else {
            let ledger = peek::<LedgerDocument>(store, arbiter).await;
            ledger.map(|kept| kept.and_then(|mut kept| kept.document.entries.remove(&op)))
        };
        match found {
            Ok(entry) => return Ok(entry),
            Err(error) => attempts.after_reading(error).await?,
        }
    }
}

/// Reads a ledger and its entries.
pub(super) async fn entries(
    store: &dyn Store,
    key: &str,
) -> Result<(Read, BTreeMap<OperationId, Entry>), DocumentError> {
    let kept = peek::<LedgerDocument>(store, key).await?;
    let entries = kept.as_ref().map(|kept| kept.document.entries.clone()).unwrap_or_default();
    Ok((Read::Ledger(kept), entries))
}

/// True if a land transaction is remembered as done.
pub(super) async fn is_remembered(store: &dyn Store, op: OperationId) -> Result<bool, DocumentError> {
    let mut attempts = Attempts::new();
    loop {
        match peek::<OperationDocument>(store, &operation_key(op)).await {
            Ok(kept) => return Ok(kept.is_some()),
            Err(error) => attempts.after_reading(error).await?,
        }
    }
}

/// Remembers a land transaction as done. MUST come before its entry leaves the ledger.
pub(super) async fn remember(store: &dyn Store, op: OperationId, digest: u64) -> Result<(), DocumentError> {
    let document = OperationDocument { v: OperationDocument::VERSION, digest, rest: Map::new() };
    let (key, value) = (operation_key(op), encode(&document)?);
    let mut attempts = Attempts::new();
    loop {
        match store.insert(&key, value.clone(), WriteOptions::expiring(REMEMBERED)).await {
            Ok(_) | Err(StoreError::Exists) => return Ok(()),
            Err(error) => attempts.after(error).await?,
        }
    }
}

/// Writes the entry as pending, unless the operation is known. The arbiter as the caller has just read it is read again only
/// if somebody has written since.
pub(super) async fn begin(
    store: &dyn Store,
    arbiter: &str,
    op: OperationId,
    entry: &Entry,
    mut held: Option<Read>,
) -> Result<Begun, DocumentError> {
    let (mut attempts, mut doubt) = (Attempts::new(), false);
    loop {
        let (document, found) = match held_or_read(store, arbiter, op, &mut held).await {
            Ok(read) => read,
            Err(error) => {
                attempts.after_reading(error).await?;
                continue;
            }
        };
        match found {
            Some(found) if found.token == entry.token && found.state == State::Pending => return Ok(Begun::Mine(None)),
            // A token that may have stood once is never written again.
            None if doubt => return Ok(Begun::Over),
            Some(found) if found.state == State::Aborted && (doubt || found.token == entry.token) => {
                return Ok(Begun::Over);
            }
            None => {}
            Some(found) if found.state == State::Aborted => {}
            Some(found) if found.digest != entry.digest => return Ok(Begun::Misused),
            Some(found) if found.state == State::Done => return Ok(Begun::Done),
            Some(found) => return Ok(Begun::Theirs(found)),
        }
        if let Read::Ledger(ledger) = &document {
            // The memory is looked up after the ledger was read and before it is swapped: whoever finished the
            // operation in between has changed the ledger, and the swap is refused.
            match peek::<OperationDocument>(store, &operation_key(op)).await {
                Ok(Some(kept)) if kept.document.digest != entry.digest => return Ok(Begun::Misused),
                Ok(Some(_)) => return Ok(Begun::Done),
                Ok(None) => {}
                Err(error) => {
                    attempts.after_reading(error).await?;
                    continue;
                }
            }
            if ledger.as_ref().is_some_and(|kept| kept.document.entries.len() >= LEDGER_ENTRIES) {
                return Ok(Begun::Full);
            }
        }
        match write(store, arbiter, op, document, Change::Put(entry.clone())).await {
            Ok(written) => return Ok(Begun::Mine(Some(written))),
            Err(DocumentError::Store(error)) => {
                doubt |= error.outcome() == Outcome::Maybe;
                attempts.after(error).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Changes the entry of `op` as `decide` says, until that is surely done; gives the entry as it stands then. `decide` is
/// asked anew after a doubtful write and MUST recognise its own.
pub(super) async fn change(
    store: &dyn Store,
    arbiter: &str,
    op: OperationId,
    decide: impl Fn(&Entry) -> Change,
) -> Result<Option<Entry>, DocumentError> {
    change_held(store, arbiter, op, None, decide).await.map(|(entry, _)| entry)
}

/// The same from the arbiter as the caller has just written it: read only if somebody has written since. Gives it as it is
/// written now.
pub(super) async fn change_held(
    store: &dyn Store,
    arbiter: &str,
    op: OperationId,
    mut held: Option<Read>,
    decide: impl Fn(&Entry) -> Change,
) -> Result<(Option<Entry>, Option<Read>), DocumentError> {
    let mut attempts = Attempts::new();
    loop {
        let (document, found) = match held_or_read(store, arbiter, op, &mut held).await {
            Ok(read) => read,
            Err(error) => {
                attempts.after_reading(error).await?;
                continue;
            }
        };
        let Some(entry) = found else { return Ok((None, None)) };
        let change = decide(&entry);
        let after = match &change {
            Change::Leave => return Ok((Some(entry), None)),
            Change::Put(entry) => Some(entry.clone()),
            Change::Drop => None,
        };
        match write(store, arbiter, op, document, change).await {
            Ok(written) => return Ok((after, Some(written))),
            Err(DocumentError::Store(error)) => attempts.after(error).await?,
            Err(error) => return Err(error),
        }
    }
}

/// An arbiter as it was read, or has just been written.
pub(super) enum Read {
    Transfer(Option<crate::document::Kept<TransferDocument>>),
    Ledger(Option<crate::document::Kept<LedgerDocument>>),
}

impl Read {
    fn entry(&self, op: OperationId) -> Option<Entry> {
        match self {
            Read::Transfer(kept) => kept.as_ref().map(|kept| kept.document.entry.clone()),
            Read::Ledger(kept) => kept.as_ref().and_then(|kept| kept.document.entries.get(&op).cloned()),
        }
    }
}

/// An arbiter as the caller holds it, the first time; read, each further one.
async fn held_or_read(
    store: &dyn Store,
    arbiter: &str,
    op: OperationId,
    held: &mut Option<Read>,
) -> Result<(Read, Option<Entry>), DocumentError> {
    match held.take() {
        Some(held) => {
            let found = held.entry(op);
            Ok((held, found))
        }
        None => read(store, arbiter, op).await,
    }
}

async fn read(store: &dyn Store, arbiter: &str, op: OperationId) -> Result<(Read, Option<Entry>), DocumentError> {
    if is_transfer(arbiter) {
        let kept = peek::<TransferDocument>(store, arbiter).await?;
        let entry = kept.as_ref().map(|kept| kept.document.entry.clone());
        return Ok((Read::Transfer(kept), entry));
    }
    let kept = peek::<LedgerDocument>(store, arbiter).await?;
    let entry = kept.as_ref().and_then(|kept| kept.document.entries.get(&op).cloned());
    Ok((Read::Ledger(kept), entry))
}

async fn write(
    store: &dyn Store,
    arbiter: &str,
    op: OperationId,
    read: Read,
    change: Change,
) -> Result<Read, DocumentError> {
    let (mut written, value, version, expiry, ack) = match read {
        Read::Transfer(kept) => {
            let Change::Put(entry) = change else { return Ok(Read::Transfer(kept)) };
            // What is committed stays until all participants are clear; everything else is only memory.
            let expiry = if entry.state == State::Committed { Expiry::Never } else { Expiry::In(REMEMBERED) };
            let ack = if entry.state == State::Done { Ack::Early } else { Ack::Durable };
            let (rest, version) = match kept {
                Some(kept) => (kept.document.rest, Some(kept.version)),
                None => (Map::new(), None),
            };
            let document = TransferDocument { v: TransferDocument::VERSION, entry, rest };
            let value = encode(&document)?;
            (Read::Transfer(Some(Kept { document, version: Version(0) })), value, version, expiry, ack)
        }
        Read::Ledger(kept) => {
            let (mut document, version) = match kept {
                Some(kept) => (kept.document, Some(kept.version)),
                None => {
                    let entries = BTreeMap::new();
                    (LedgerDocument { v: LedgerDocument::VERSION, entries, rest: Map::new() }, None)
                }
            };
            match change {
                Change::Put(entry) => document.entries.insert(op, entry),
                Change::Drop => document.entries.remove(&op),
                Change::Leave => return Ok(Read::Ledger(None)),
            };
            let expiry = if document.entries.is_empty() { Expiry::In(REMEMBERED) } else { Expiry::Never };
            let value = encode(&document)?;
            (Read::Ledger(Some(Kept { document, version: Version(0) })), value, version, expiry, Ack::Durable)
        }
    };
    let options = WriteOptions { expiry, ack };
    let now = match version {
        Some(version) => store.replace(arbiter, value, version, options).await?,
        None => store.insert(arbiter, value, options).await?,
    };
    match &mut written {
        Read::Transfer(Some(kept)) => kept.version = now,
        Read::Ledger(Some(kept)) => kept.version = now,
        Read::Transfer(None) | Read::Ledger(None) => {}
    }
    Ok(written)
}
