//! The gate between a driver and the store: every call waits here until the scheduler has decided about it.
//!
//! A call is kept as data ([`Request`]), so that the scheduler may carry it out once, twice, later or never. The gate
//! NEVER carries out anything by itself.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;

use super::schedule::CallKind;
use crate::store::{Expiry, Store, StoreError, Stored, Version, WriteOptions};

/// The most bytes of a value that a trace shows.
const SHOWN_BYTES: usize = 160;

/// A call, as data.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Get { key: String },
    Insert { key: String, value: Bytes, options: WriteOptions },
    Replace { key: String, value: Bytes, version: Version, options: WriteOptions },
    Remove { key: String, version: Version, options: WriteOptions },
    Touch { key: String, expiry: Expiry },
    Scan { prefix: String, after: Option<String>, limit: usize },
}

/// What a call gives when it succeeds.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Read(Option<Stored>),
    Written(Version),
    Removed,
    Scanned(Vec<(String, Stored)>),
}

pub(super) type Reply = Result<Answer, StoreError>;

impl Request {
    pub(super) fn kind(&self) -> CallKind {
        match self {
            Request::Get { .. } | Request::Scan { .. } => CallKind::Read,
            Request::Insert { .. } | Request::Touch { .. } => CallKind::Write,
            Request::Replace { .. } | Request::Remove { .. } => CallKind::Swap,
        }
    }

    /// Carries it out.
    pub(super) async fn perform(self, store: &dyn Store) -> Reply {
        match self {
            Request::Get { key } => store.get(&key).await.map(Answer::Read),
            Request::Insert { key, value, options } => store.insert(&key, value, options).await.map(Answer::Written),
            Request::Replace { key, value, version, options } => {
                store.replace(&key, value, version, options).await.map(Answer::Written)
            }
            Request::Remove { key, version, options } => {
                store.remove(&key, version, options).await.map(|()| Answer::Removed)
            }
            Request::Touch { key, expiry } => store.touch(&key, expiry).await.map(Answer::Written),
            Request::Scan { prefix, after, limit } => {
                store.scan(&prefix, after.as_deref(), limit).await.map(Answer::Scanned)
            }
        }
    }

    /// Gives the document that a swap names a new version, as if somebody had touched it.
    pub(super) async fn stir(&self, store: &dyn Store) {
        if let Request::Replace { key, .. } | Request::Remove { key, .. } = self {
            // A document that is not there cannot be touched, and the swap fails anyway.
            let _ = store.touch(key, Expiry::Keep).await;
        }
    }
}

fn shown(value: &Bytes) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(SHOWN_BYTES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Get { key } => write!(f, "get {key}"),
            Request::Insert { key, value, .. } => write!(f, "insert {key} {}", shown(value)),
            Request::Replace { key, value, version, .. } => write!(f, "replace {key}@{version} {}", shown(value)),
            Request::Remove { key, version, .. } => write!(f, "remove {key}@{version}"),
            Request::Touch { key, .. } => write!(f, "touch {key}"),
            Request::Scan { prefix, after, .. } => write!(f, "scan {prefix} after {after:?}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Read(None) => f.write_str("nothing there"),
            Answer::Read(Some(stored)) => write!(f, "@{} {}", stored.version, shown(&stored.value)),
            Answer::Written(version) => write!(f, "@{version}"),
            Answer::Removed => f.write_str("removed"),
            Answer::Scanned(found) => write!(f, "{} documents", found.len()),
        }
    }
}

/// The place where the reply to one call is put.
#[derive(Debug, Default)]
struct Slot {
    reply: Option<Reply>,
    waker: Option<Waker>,
    /// The caller has given up on it.
    left: bool,
}

type SharedSlot = Arc<Mutex<Slot>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One thread runs all of it; a driver that panics does so outside of the gate.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that waits for the scheduler.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    slot: SharedSlot,
}

impl Call {
    pub(super) fn answer(self, reply: Reply) {
        let mut slot = lock(&self.slot);
        slot.reply = Some(reply);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

/// One driver's gate. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    calls: Arc<Mutex<VecDeque<Call>>>,
}

impl Gate {
    /// The kind of the oldest call that waits.
    pub(super) fn waiting(&self) -> Option<CallKind> {
        let mut calls = lock(&self.calls);
        // A caller that gave up before its request was sent never sends it.
        calls.retain(|call| !lock(&call.slot).left);
        calls.front().map(|call| call.request.kind())
    }

    /// Takes the oldest call that waits.
    pub(super) fn take(&self) -> Option<Call> {
        lock(&self.calls).pop_front()
    }

    async fn pass(&self, request: Request) -> Reply {
        let slot = SharedSlot::default();
        lock(&self.calls).push_back(Call { request, slot: slot.clone() });
        Passing(slot).await
    }

    async fn write(&self, request: Request) -> Result<Version, StoreError> {
        match self.pass(request).await? {
            Answer::Written(version) => Ok(version),
            other => Err(foreign(&other)),
        }
    }
}

fn foreign(answer: &Answer) -> StoreError {
    StoreError::Corrupt(format!("the gate gave an answer of another call: {answer}"))
}

struct Passing(SharedSlot);

impl Future for Passing {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let mut slot = lock(&self.0);
        match slot.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        lock(&self.0).left = true;
    }
}

#[async_trait]
impl Store for Gate {
    async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        match self.pass(Request::Get { key: key.to_owned() }).await? {
            Answer::Read(stored) => Ok(stored),
            other => Err(foreign(&other)),
        }
    }

    async fn insert(&self, key: &str, value: Bytes, options: WriteOptions) -> Result<Version, StoreError> {
        self.write(Request::Insert { key: key.to_owned(), value, options }).await
    }

    async fn replace(
        &self,
        key: &str,
        value: Bytes,
        version: Version,
        options: WriteOptions,
    ) -> Result<Version, StoreError> {
        self.write(Request::Replace { key: key.to_owned(), value, version, options }).await
    }

    async fn remove(&self, key: &str, version: Version, options: WriteOptions) -> Result<(), StoreError> {
        match self.pass(Request::Remove { key: key.to_owned(), version, options }).await? {
            Answer::Removed => Ok(()),
            other => Err(foreign(&other)),
        }
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<Version, StoreError> {
        self.write(Request::Touch { key: key.to_owned(), expiry }).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Stored)>, StoreError> {
        let request = Request::Scan { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        match self.pass(request).await? {
            Answer::Scanned(found) => Ok(found),
            other => Err(foreign(&other)),
        }
    }

    async fn describe(&self) -> String {
        "memory, behind the gate of a schedule".to_owned()
    }
}
