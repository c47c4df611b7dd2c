//! Every node's way to the documents, watched: whose write made whom the owner, and what nobody was told.
//!
//! The watch sees only what the store answered, as the node did. It counts rare paths, and checks two promises of documents
//! with owners: a player's epoch never has two owners, and never goes down. It NEVER changes an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use estate::player::Owner;
use estate::store::memory::MemoryStore;
use estate::store::{Expiry, Store, StoreError, Stored, Version, WriteOptions};
use serde::Deserialize;

use super::sometimes::Counts;

/// What all nodes' writes have come to.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The head of each owned document, and the version at which it was written.
    tenures: BTreeMap<String, (Version, Head)>,
    /// Claims whose replies were lost: document, node, epoch.
    unsure: BTreeSet<(String, String, u64)>,
    /// Who began each transaction.
    drivers: BTreeMap<String, String>,
    wrong: Vec<String>,
}

/// What the head of an owned document says.
#[derive(Clone, Debug, Deserialize)]
struct Head {
    owner: Option<Owner>,
    epoch: u64,
}

impl Ledger {
    /// What was wrong, in words.
    pub fn wrong(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's store.
pub struct Watched {
    store: MemoryStore,
    node: String,
    ledger: Ledger,
    counts: Counts,
}

impl Watched {
    /// The store of a node.
    pub fn new(store: MemoryStore, node: &str, ledger: Ledger, counts: Counts) -> Watched {
        Watched { store, node: node.to_owned(), ledger, counts }
    }

    fn written(&self, key: &str, value: Option<Head>, inserted: bool, answer: &Result<Version, StoreError>) {
        tracing::trace!(node = self.node, key, inserted, ?answer, "a document is written");
        if key.starts_with("transfer/") {
            self.arbiter(key, inserted, answer);
        }
        let Some(head) = value else { return };
        let mut state = self.ledger.lock();
        let known = state.tenures.get(key).cloned();
        if let (Ok(version), Some((newer, _))) = (answer, &known)
            && version < newer
        {
            // The reply was slower than the next writer's.
            return;
        }
        let former = known.map(|(_, head)| head);
        let name = |what: &str| {
            let kind = key.split('/').nth(1).filter(|_| key.starts_with("post/")).unwrap_or("player");
            format!("{kind}_{what}")
        };
        let is_mine = head.owner.as_ref().is_some_and(|owner| owner.node == self.node);
        match answer {
            Ok(version) => {
                if let (Some(former), false) = (&former, inserted) {
                    // Posts expire, and begin with epoch 1 again.
                    let lasts = key.starts_with("player/");
                    if lasts && head.epoch < former.epoch {
                        state.wrong.push(format!("{key}: epoch {} after {}", head.epoch, former.epoch));
                    }
                    match (&former.owner, &head.owner) {
                        (Some(was), Some(is)) if lasts && was != is && head.epoch == former.epoch => {
                            state.wrong.push(format!("{key}: epoch {} has two owners: {was:?}, {is:?}", head.epoch));
                        }
                        (Some(was), Some(is)) if (&was.node, was.incarnation) != (&is.node, is.incarnation) => {
                            self.counts.add(&match name("claimed_from_the_dead").as_str() {
                                "habitat_claimed_from_the_dead" => "habitat_taken_over".to_owned(),
                                "battle_claimed_from_the_dead" => "battle_resumed".to_owned(),
                                other => other.to_owned(),
                            });
                        }
                        _ => {}
                    }
                }
                if is_mine && state.unsure.remove(&(key.to_owned(), self.node.clone(), head.epoch)) {
                    self.counts.add("claim_after_ambiguous_reply");
                }
                state.tenures.insert(key.to_owned(), (*version, head));
            }
            Err(StoreError::Ambiguous(_))
                if is_mine && former.as_ref().is_none_or(|former| head.epoch > former.epoch) =>
            {
                state.unsure.insert((key.to_owned(), self.node.clone(), head.epoch));
            }
            Err(StoreError::Conflict)
                if is_mine
                    && former.as_ref().is_some_and(|former| former.owner.is_some() && former.epoch > head.epoch) =>
            {
                self.counts.add("fenced_save");
            }
            Err(_) => {}
        }
    }

    fn arbiter(&self, key: &str, inserted: bool, answer: &Result<Version, StoreError>) {
        match answer {
            Ok(_) if inserted => drop(self.ledger.lock().drivers.insert(key.to_owned(), self.node.clone())),
            Ok(_) => {
                let state = self.ledger.lock();
                if state.drivers.get(key).is_some_and(|driver| *driver != self.node) {
                    self.counts.add("settled_by_a_stranger");
                }
            }
            Err(StoreError::Ambiguous(_)) => self.counts.add("arbiter_ambiguous"),
            Err(_) => {}
        }
    }
}

fn head(key: &str, value: &Bytes) -> Option<Head> {
    let owned = key.starts_with("player/") || key.starts_with("post/");
    owned.then(|| serde_json::from_slice(value).ok()).flatten()
}

#[async_trait]
impl Store for Watched {
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let found = self.store.get(key).await;
        if let Err(error) = &found {
            tracing::trace!(node = self.node, key, %error, "a document is not read");
        }
        found
    }

    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError> {
        let head = head(key, &value);
        let answer = self.store.insert(key, value, options).await;
        self.written(key, head, true, &answer);
        answer
    }

    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        let head = head(key, &value);
        let answer = self.store.replace(key, value, version, options).await;
        self.written(key, head, false, &answer);
        answer
    }

    async fn remove(&self, key: &str, version: Version, options: WriteOptions) -> Result<(), StoreError> {
        self.store.remove(key, version, options).await
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        self.store.touch(key, expiry).await
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
