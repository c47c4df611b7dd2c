//! A store that counts what is asked of it and keeps the order of the writes: what an operation costs, told by itself.
//!
//! It passes every call on unchanged and NEVER answers by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use estate::store::{Expiry, Store, StoreError, Stored, Version, WriteOptions};
use serde::Serialize;

/// What was asked, per operation where it was divided by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Calls {
    /// Documents read.
    pub(super) reads: f64,
    /// Documents written.
    pub(super) writes: f64,
    /// Writes one after another, where those that go side by side count as one.
    pub(super) waves: f64,
    /// Bytes written, keys not counted.
    pub(super) bytes: f64,
}

/// One write of an operation.
#[derive(Clone, Debug)]
pub(super) struct Stroke {
    /// Which of the operation's documents.
    pub(super) slot: usize,
    /// How large its value was.
    pub(super) bytes: usize,
    /// How it was written.
    pub(super) options: WriteOptions,
}

/// A document that an operation writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// What its key starts with.
    pub(super) kind: String,
    /// Whether the operation inserted it.
    pub(super) fresh: bool,
}

/// The writes of an operation, wave by wave: a wave begins when the last one is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Its documents, in the order in which they were first written.
    pub(super) slots: Vec<Slot>,
    /// Its writes.
    pub(super) waves: Vec<Vec<Stroke>>,
}

impl Shape {
    /// True if both write the same kinds of documents in the same order; sizes aside.
    pub(super) fn is_like(&self, other: &Shape) -> bool {
        let order = |shape: &Shape| -> Vec<Vec<usize>> {
            shape.waves.iter().map(|wave| wave.iter().map(|stroke| stroke.slot).collect()).collect()
        };
        self.slots == other.slots && order(self) == order(other)
    }
}

#[derive(Debug, Default)]
struct Recording {
    reads: u64,
    under_way: u32,
    shape: Shape,
    slots: BTreeMap<String, usize>,
    wave_over: bool,
}

impl Recording {
    fn begin(&mut self, key: &str, bytes: usize, options: WriteOptions, fresh: bool) {
        let slots = &mut self.shape.slots;
        let slot = *self.slots.entry(key.to_owned()).or_insert_with(|| {
            slots.push(Slot { kind: key.split('/').next().unwrap_or(key).to_owned(), fresh });
            slots.len() - 1
        });
        if self.wave_over || self.shape.waves.is_empty() {
            self.shape.waves.push(Vec::new());
            self.wave_over = false;
        }
        if let Some(wave) = self.shape.waves.last_mut() {
            wave.push(Stroke { slot, bytes, options });
        }
        self.under_way += 1;
    }

    fn end(&mut self) {
        self.under_way -= 1;
        self.wave_over |= self.under_way == 0;
    }
}

/// A store of which every call is written down.
pub(super) struct Counted {
    store: Arc<dyn Store>,
    recording: Mutex<Recording>,
}

impl Counted {
    pub(super) fn new(store: Arc<dyn Store>) -> Counted {
        Counted { store, recording: Mutex::default() }
    }

    /// What was asked since this was last called: one operation's calls and writes, if one has run alone.
    pub(super) fn take(&self) -> (Calls, Shape) {
        let Recording { reads, shape, .. } = self.with(std::mem::take);
        let strokes = || shape.waves.iter().flatten();
        let calls = Calls {
            reads: reads as f64,
            writes: strokes().count() as f64,
            waves: shape.waves.len() as f64,
            bytes: strokes().map(|stroke| stroke.bytes).sum::<usize>() as f64,
        };
        (calls, shape)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Recording) -> T) -> T {
        f(&mut self.recording.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Store for Counted {
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        self.with(|recording| recording.reads += 1);
        self.store.get(key).await
    }

    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError> {
        self.with(|recording| recording.begin(key, value.len(), options, true));
        let result = self.store.insert(key, value, options).await;
        self.with(Recording::end);
        result
    }

    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        self.with(|recording| recording.begin(key, value.len(), options, false));
        let result = self.store.replace(key, value, version, options).await;
        self.with(Recording::end);
        result
    }

    async fn remove(&self, key: &str, version: Version, options: WriteOptions) -> Result<(), StoreError> {
        self.with(|recording| recording.begin(key, 0, options, false));
        let result = self.store.remove(key, version, options).await;
        self.with(Recording::end);
        result
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        let options = WriteOptions { expiry, ..WriteOptions::default() };
        self.with(|recording| recording.begin(key, 0, options, false));
        let result = self.store.touch(key, expiry).await;
        self.with(Recording::end);
        result
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored)>, StoreError> {
        self.store.scan(prefix, after, limit).await
    }

    async fn estimate(&self) -> Option<u64> {
        self.store.estimate().await
    }

    async fn describe(&self) -> String {
        self.store.describe().await
    }
}
