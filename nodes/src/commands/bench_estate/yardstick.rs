//! The yardstick of `bench estate`: the writes that an operation needs, and nothing else.
//!
//! It writes documents of its own with the sizes, options and order of a recorded operation, as many at a time, on the same
//! store. Where operations share documents it holds locks in memory from the first write to the last, in place of intents.
//! It NEVER reads, encodes or decides anything; its documents lie under `bench/` and are taken away afterwards.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use estate::store::{SCAN_LIMIT, Store, StoreError, Version, WriteOptions};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::counted::{Shape, Slot, Stroke};
use super::world::Chance;

/// What the keys of its documents start with.
const PREFIX: &str = "bench/";

/// Documents made or removed at a time.
const AT_A_TIME: usize = 512;

/// A document's key and its version.
type Written = (String, Version);

/// Documents that stay and are written again and again.
struct Pool {
    documents: Vec<Arc<Mutex<Written>>>,
}

/// The writes of one kind of operation.
pub(super) struct Yardstick {
    store: Arc<dyn Store>,
    shape: Shape,
    /// For each slot that is not fresh, the documents that it may be.
    pools: Vec<Pool>,
    /// For each slot, the wave after which it is let go.
    until: Vec<usize>,
}

/// A document under the hands of one operation.
enum Held {
    /// One of a pool, free.
    Free(Arc<Mutex<Written>>),
    /// One of a pool, locked.
    Locked(OwnedMutexGuard<Written>),
    /// One that nobody else knows.
    Own(String, Option<Version>),
}

impl Held {
    fn key(&self) -> (&str, Option<Version>) {
        match self {
            Held::Free(_) => ("", None),
            Held::Locked(document) => (&document.0, Some(document.1)),
            Held::Own(key, version) => (key, *version),
        }
    }

    fn written(&mut self, new: Version) {
        match self {
            Held::Free(_) => {}
            Held::Locked(document) => document.1 = new,
            Held::Own(_, version) => *version = Some(new),
        }
    }
}

impl Yardstick {
    /// Makes the documents that `shape` writes again; `count` says how many of a slot there are.
    pub(super) async fn new(
        store: Arc<dyn Store>,
        shape: Shape,
        count: impl Fn(&Shape, &Slot) -> usize,
    ) -> Result<Yardstick> {
        let (mut pools, mut until) = (Vec::new(), Vec::new());
        for (slot, of) in shape.slots.iter().enumerate() {
            let strokes = || shape.waves.iter().enumerate().flat_map(|(at, wave)| wave.iter().map(move |s| (at, s)));
            let first = strokes().find(|(_, stroke)| stroke.slot == slot).map_or(0, |(_, stroke)| stroke.bytes);
            until.push(strokes().filter(|(_, stroke)| stroke.slot == slot).map(|(at, _)| at).max().unwrap_or(0));
            let count = if of.fresh { 0 } else { count(&shape, of).max(1) };
            let making = (0..count).map(|n| {
                let (store, key) = (store.clone(), format!("{PREFIX}{}/{slot}/{n}", of.kind));
                async move {
                    let version = store.insert(&key, value(first), WriteOptions::early()).await?;
                    Ok::<_, StoreError>(Arc::new(Mutex::new((key, version))))
                }
            });
            pools.push(Pool { documents: stream::iter(making).buffered(AT_A_TIME).try_collect().await? });
        }
        Ok(Yardstick { store, shape, pools, until })
    }

    /// The writes of one operation of the task `task` of `tasks`: each has documents of its own (`shared` false), or all
    /// have the same.
    pub(super) async fn once(&self, (task, tasks): (usize, usize), shared: bool, chance: &mut Chance) -> Result<()> {
        let mut held = Vec::with_capacity(self.pools.len());
        for (pool, slot) in self.pools.iter().zip(&self.shape.slots) {
            let all = pool.documents.len();
            let (from, many) = if shared { (0, all) } else { (task * (all / tasks), all / tasks) };
            held.push(if many == 0 {
                let id = (u128::from(chance.bits()) << 64) | u128::from(chance.bits());
                Held::Own(format!("{PREFIX}{}/{id:032x}", slot.kind), None)
            } else {
                Held::Free(pool.documents[from + chance.below(many as u64) as usize].clone())
            });
        }
        for (at, wave) in self.shape.waves.iter().enumerate() {
            for stroke in wave {
                // Always in the order of the slots' first writes, and no document is in two slots: no circle.
                if let Held::Free(document) = &held[stroke.slot] {
                    held[stroke.slot] = Held::Locked(document.clone().lock_owned().await);
                }
            }
            let versions = try_join_all(wave.iter().map(|stroke| self.write(stroke, &held[stroke.slot]))).await?;
            for (stroke, version) in wave.iter().zip(versions) {
                let one = &mut held[stroke.slot];
                one.written(version);
                // A ledger is no operation's alone: it is changed and let go.
                let over = self.until[stroke.slot] == at || self.shape.slots[stroke.slot].kind == "ledger";
                if over && let Held::Locked(document) = one {
                    let document = OwnedMutexGuard::mutex(document).clone();
                    *one = Held::Free(document);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, stroke: &Stroke, held: &Held) -> Result<Version, StoreError> {
        match held.key() {
            (key, Some(version)) => self.store.replace(key, value(stroke.bytes), version, stroke.options).await,
            (key, None) => self.store.insert(key, value(stroke.bytes), stroke.options).await,
        }
    }
}

fn value(bytes: usize) -> Bytes {
    Bytes::from(vec![b' '; bytes])
}

/// Takes away all documents of all yardsticks.
pub(super) async fn clear(store: &Arc<dyn Store>) -> Result<()> {
    loop {
        let page =
            store.scan(PREFIX, None, SCAN_LIMIT).await.context("could not look for the yardstick's documents")?;
        if page.is_empty() {
            return Ok(());
        }
        let mut removing = stream::iter(page.into_iter().map(|(key, stored)| {
            let store = store.clone();
            async move { store.remove(&key, stored.version, WriteOptions::early()).await }
        }))
        .buffer_unordered(AT_A_TIME);
        while let Some(removed) = removing.next().await {
            // What has expired meanwhile is gone as well.
            match removed {
                Ok(()) | Err(StoreError::NotFound) => {}
                Err(error) => bail!("the yardstick's documents could not be removed: {error}"),
            }
        }
    }
}
