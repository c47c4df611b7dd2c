//! The documents of one bucket, with versions and expiry as Couchbase keeps them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// Expiries above this many seconds are dates, those below are spans: thirty days.
const SPAN_MAX: u32 = 30 * 24 * 60 * 60;

/// A write as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The operation's number.
    pub opcode: u8,
    /// The key, without its collection.
    pub key: String,
    /// The durability level of its framing extras, if it had one.
    pub durability: Option<u8>,
    /// Whether it asked for the expiry to stay.
    pub preserve_expiry: bool,
    /// Whether it was applied.
    pub applied: bool,
}

/// A document.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) value: Bytes,
    pub(super) flags: u32,
    pub(super) cas: u64,
    /// The second in which it expires, counted as Unix does; 0 for never.
    pub(super) expires: u32,
}

/// What is in a bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Scopes with their collections, and the collections' numbers.
    pub(super) scopes: BTreeMap<String, BTreeMap<String, u32>>,
    /// How often the collections have changed.
    pub(super) manifest: u64,
    /// The collections with a primary index.
    pub(super) indexes: BTreeSet<(String, String)>,
    pub(super) documents: BTreeMap<(u32, Bytes), Document>,
}

impl Bucket {
    pub(super) fn with_default_collection() -> Bucket {
        let mut bucket = Bucket { manifest: 1, ..Bucket::default() };
        bucket.scopes.entry("_default".to_owned()).or_default().insert("_default".to_owned(), 0);
        bucket
    }

    /// The number of a collection.
    pub(super) fn collection(&self, scope: &str, collection: &str) -> Option<u32> {
        self.scopes.get(scope)?.get(collection).copied()
    }

    pub(super) fn has_collection(&self, id: u32) -> bool {
        self.scopes.values().flat_map(BTreeMap::values).any(|one| *one == id)
    }

    /// The document under a key, if there is one that lives.
    pub(super) fn live(&mut self, collection: u32, key: &Bytes, now: u32) -> Option<&mut Document> {
        let key = (collection, key.clone());
        if self.documents.get(&key).is_some_and(|document| document.expires != 0 && document.expires < now) {
            self.documents.remove(&key);
        }
        self.documents.get_mut(&key)
    }

    /// The keys of a collection from one on, in order, of documents that live.
    pub(super) fn keys_from<'a>(
        &'a self,
        collection: u32,
        from: &'a [u8],
        now: u32,
    ) -> impl Iterator<Item = &'a Bytes> {
        let first = (collection, Bytes::copy_from_slice(from));
        self.documents
            .range(first..)
            .take_while(move |((id, _), _)| *id == collection)
            .filter(move |(_, document)| document.expires == 0 || document.expires >= now)
            .map(|((_, key), _)| key)
    }
}

/// The second in which something expires that is written with `expiry` now.
pub(super) fn expires(expiry: u32, now: u32) -> u32 {
    match expiry {
        0 => 0,
        span if span <= SPAN_MAX => now + span,
        date => date,
    }
}
