//! How documents lie in LMDB, and what one write does to the tables.
//!
//! `documents`: key → version (8 bytes), expiry in ms of the wall clock (8, 0 for never), value. `expiries`: expiry and
//! version (8 bytes each, big-endian, so that the soonest comes first) → key; exactly one entry per mortal document.
//! `meta`: the store's format and durability. Everything here runs inside a transaction of the caller's; it NEVER
//! begins or commits one.

use std::ops::Bound;

use bytes::Bytes;
use heed::types::{Bytes as Raw, Str};
use heed::{Database, Env, RoTxn, RwTxn, WithTls};

use super::{Durability, FORMAT};
use crate::store::{Expiry, StoreError, Stored, Version};

const HEAD_BYTES: usize = 16;

/// The tables of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    documents: Database<Raw, Raw>,
    expiries: Database<Raw, Raw>,
}

/// What `meta` says of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Nothing: the file was empty, and it now says [`FORMAT`] and the durability that was asked for.
    Fresh,
    /// A store of this format.
    Store(Durability),
    /// A store of a newer format.
    Newer(u32),
    /// An LMDB file of another program.
    Foreign,
    /// A store whose own record cannot be read.
    Damaged,
}

/// One write, to be decided inside a transaction.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Insert { key: Box<str>, value: Bytes, expiry: Expiry },
    Replace { key: Box<str>, value: Bytes, version: Version, expiry: Expiry },
    Remove { key: Box<str>, version: Version },
    Touch { key: Box<str>, expiry: Expiry },
}

/// Why a write was not applied.
pub(super) enum Refusal {
    /// By the document's state: the answer to this write alone.
    Decided(StoreError),
    /// By LMDB: the whole transaction is spoilt.
    Failed(heed::Error),
}

impl From<heed::Error> for Refusal {
    fn from(error: heed::Error) -> Refusal {
        Refusal::Failed(error)
    }
}

/// A document as it lies in the file.
struct Record<'a> {
    version: Version,
    /// 0: never.
    expires_ms: u64,
    value: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (version, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, value) = rest.split_first_chunk::<8>()?;
        Some(Record { version: Version(u64::from_le_bytes(*version)), expires_ms: u64::from_le_bytes(*expires), value })
    }

    fn lives(&self, now_ms: u64) -> bool {
        self.expires_ms == 0 || self.expires_ms > now_ms
    }
}

/// Opens the store's record, making it for `durability` if the file is empty.
pub(super) fn recorded(env: &Env<WithTls>, txn: &mut RwTxn<'_>, durability: Durability) -> heed::Result<Recorded> {
    let Some(meta) = env.open_database::<Str, Str>(txn, Some("meta"))? else {
        let main = env.open_database::<Raw, Raw>(txn, None)?;
        if main.is_some_and(|main| main.first(txn).is_ok_and(|first| first.is_some())) {
            return Ok(Recorded::Foreign);
        }
        let meta = env.create_database::<Str, Str>(txn, Some("meta"))?;
        meta.put(txn, "kind", "wildmesh store")?;
        meta.put(txn, "format", &FORMAT.to_string())?;
        meta.put(txn, "durability", durability.as_str())?;
        return Ok(Recorded::Fresh);
    };
    if meta.get(txn, "kind").ok().flatten() != Some("wildmesh store") {
        return Ok(Recorded::Foreign);
    }
    let format = meta.get(txn, "format").ok().flatten().and_then(|text| text.parse::<u32>().ok());
    let durability = meta.get(txn, "durability").ok().flatten().and_then(|text| text.parse().ok());
    Ok(match (format, durability) {
        (Some(found), _) if found > FORMAT => Recorded::Newer(found),
        (Some(_), Some(durability)) => Recorded::Store(durability),
        _ => Recorded::Damaged,
    })
}

/// Changes the recorded durability.
pub(super) fn record(env: &Env<WithTls>, txn: &mut RwTxn<'_>, durability: Durability) -> heed::Result<()> {
    env.create_database::<Str, Str>(txn, Some("meta"))?.put(txn, "durability", durability.as_str())
}

impl Tables {
    pub(super) fn open(env: &Env<WithTls>, txn: &mut RwTxn<'_>) -> heed::Result<Tables> {
        Ok(Tables {
            documents: env.create_database(txn, Some("documents"))?,
            expiries: env.create_database(txn, Some("expiries"))?,
        })
    }

    /// How many documents there are, expired ones that were not swept yet included.
    pub(super) fn count(&self, txn: &RoTxn<'_, WithTls>) -> heed::Result<u64> {
        self.documents.len(txn)
    }

    pub(super) fn get(
        &self,
        txn: &RoTxn<'_, WithTls>,
        key: &str,
        now_ms: u64,
    ) -> heed::Result<Result<Option<Stored>, StoreError>> {
        let Some(bytes) = self.documents.get(txn, key.as_bytes())? else { return Ok(Ok(None)) };
        let Some(record) = Record::parse(bytes) else { return Ok(Err(corrupt(key))) };
        Ok(Ok(record.lives(now_ms).then(|| stored(&record))))
    }

    /// Living documents below `prefix` and after `after`, up to `limit`, among the next `visit` keys; and where to go on
    /// if that was not the end.
    pub(super) fn scan(
        &self,
        txn: &RoTxn<'_, WithTls>,
        (prefix, after): (&str, Option<&str>),
        (limit, visit): (usize, usize),
        now_ms: u64,
        found: &mut Vec<(String, Stored)>,
    ) -> heed::Result<Result<Option<String>, StoreError>> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            // LMDB knows no empty key.
            _ if prefix.is_empty() => Bound::Unbounded,
            _ => Bound::Included(prefix.as_bytes()),
        };
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
        let mut last = None;
        for (visited, entry) in self.documents.range(txn, &range)?.enumerate() {
            let (key, bytes) = entry?;
            if !key.starts_with(prefix.as_bytes()) || found.len() == limit {
                return Ok(Ok(None));
            }
            if visited == visit {
                return Ok(Ok(last));
            }
            let key = String::from_utf8_lossy(key).into_owned();
            let Some(record) = Record::parse(bytes) else { return Ok(Err(corrupt(&key))) };
            last = Some(key.clone());
            if record.lives(now_ms) {
                found.push((key, stored(&record)));
            }
        }
        Ok(Ok(None))
    }

    /// Decides a write and applies it; it gets `version` if it succeeds.
    pub(super) fn apply(
        &self,
        txn: &mut RwTxn<'_>,
        write: &Write,
        version: Version,
        now_ms: u64,
    ) -> Result<Version, Refusal> {
        match write {
            Write::Insert { key, value, expiry } => {
                let present = self.present(txn, key)?;
                if present.is_some_and(|(_, expires_ms)| expires_ms == 0 || expires_ms > now_ms) {
                    return Err(Refusal::Decided(StoreError::Exists));
                }
                // What lies there still has expired and was not swept yet.
                self.forget(txn, present)?;
                self.put(txn, key, value, version, expires_ms(*expiry, 0, now_ms))?;
            }
            Write::Replace { key, value, version: expected, expiry } => {
                let present = self.expect(txn, key, Some(*expected), now_ms)?;
                self.forget(txn, Some(present))?;
                self.put(txn, key, value, version, expires_ms(*expiry, present.1, now_ms))?;
            }
            Write::Remove { key, version: expected } => {
                let present = self.expect(txn, key, Some(*expected), now_ms)?;
                self.forget(txn, Some(present))?;
                self.documents.delete(txn, key.as_bytes())?;
            }
            Write::Touch { key, expiry } => {
                let present = self.expect(txn, key, None, now_ms)?;
                let bytes = self.documents.get(txn, key.as_bytes())?.unwrap_or_default();
                let value = Bytes::copy_from_slice(bytes.get(HEAD_BYTES..).unwrap_or_default());
                self.forget(txn, Some(present))?;
                self.put(txn, key, &value, version, expires_ms(*expiry, present.1, now_ms))?;
            }
        }
        Ok(version)
    }

    /// Removes up to `most` documents whose time was over at `now_ms`; how many it were.
    pub(super) fn sweep(&self, txn: &mut RwTxn<'_>, now_ms: u64, most: usize) -> heed::Result<usize> {
        let mut swept = 0;
        while swept < most {
            let Some((entry, key)) = self.expiries.first(txn)? else { break };
            if expiry_of(entry).is_some_and(|expires_ms| expires_ms > now_ms) {
                break;
            }
            let (entry, key) = (entry.to_vec(), key.to_vec());
            self.expiries.delete(txn, &entry)?;
            self.documents.delete(txn, &key)?;
            swept += 1;
        }
        Ok(swept)
    }

    /// True if a document's time was over at `now_ms`.
    pub(super) fn sweepable(&self, txn: &RoTxn<'_, WithTls>, now_ms: u64) -> heed::Result<bool> {
        let first = self.expiries.first(txn)?;
        Ok(first.is_some_and(|(entry, _)| expiry_of(entry).is_none_or(|expires_ms| expires_ms <= now_ms)))
    }

    fn present(&self, txn: &RwTxn<'_>, key: &str) -> Result<Option<(Version, u64)>, Refusal> {
        let Some(bytes) = self.documents.get(txn, key.as_bytes())? else { return Ok(None) };
        let record = Record::parse(bytes).ok_or_else(|| Refusal::Decided(corrupt(key)))?;
        Ok(Some((record.version, record.expires_ms)))
    }

    fn expect(
        &self,
        txn: &RwTxn<'_>,
        key: &str,
        version: Option<Version>,
        now_ms: u64,
    ) -> Result<(Version, u64), Refusal> {
        let present = self.present(txn, key)?.filter(|(_, expires_ms)| *expires_ms == 0 || *expires_ms > now_ms);
        let present = present.ok_or(Refusal::Decided(StoreError::NotFound))?;
        if version.is_some_and(|version| version != present.0) {
            return Err(Refusal::Decided(StoreError::Conflict));
        }
        Ok(present)
    }

    fn put(&self, txn: &mut RwTxn<'_>, key: &str, value: &[u8], version: Version, expires_ms: u64) -> heed::Result<()> {
        use std::io::Write as _;
        self.documents.put_reserved(txn, key.as_bytes(), HEAD_BYTES + value.len(), |space| {
            space.write_all(&version.0.to_le_bytes())?;
            space.write_all(&expires_ms.to_le_bytes())?;
            space.write_all(value)
        })?;
        if expires_ms > 0 {
            self.expiries.put(txn, &expiry_entry(expires_ms, version), key.as_bytes())?;
        }
        Ok(())
    }

    /// Takes a document's entry out of `expiries`.
    fn forget(&self, txn: &mut RwTxn<'_>, present: Option<(Version, u64)>) -> heed::Result<()> {
        if let Some((version, expires_ms)) = present
            && expires_ms > 0
        {
            self.expiries.delete(txn, &expiry_entry(expires_ms, version))?;
        }
        Ok(())
    }
}

fn expires_ms(expiry: Expiry, present: u64, now_ms: u64) -> u64 {
    match expiry {
        Expiry::Keep => present,
        Expiry::Never => 0,
        Expiry::In(time) => now_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn expiry_entry(expires_ms: u64, version: Version) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&expires_ms.to_be_bytes());
    entry[8..].copy_from_slice(&version.0.to_be_bytes());
    entry
}

fn expiry_of(entry: &[u8]) -> Option<u64> {
    entry.first_chunk::<8>().map(|first| u64::from_be_bytes(*first))
}

fn stored(record: &Record<'_>) -> Stored {
    Stored { value: Bytes::copy_from_slice(record.value), version: record.version }
}

fn corrupt(key: &str) -> StoreError {
    StoreError::Corrupt(format!("{key} is shorter than its head"))
}
