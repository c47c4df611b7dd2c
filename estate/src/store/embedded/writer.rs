//! The one thread of the process that writes: it takes what is queued, decides all of it in one transaction, commits, and
//! answers.
//!
//! A group is as large as what has come in while the last one was committed, up to [`GROUP`]. Between groups it clears
//! dead readers and sweeps expired documents. It NEVER answers before the commit, and never holds the right to write
//! while it waits for work.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use heed::{MdbError, RwTxn};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::environment::Environment;
use super::records::{Refusal, Tables, Write};
use super::turnstile::{Seats, Turn, Turnstile};
use super::{Clock, Counters, Durability};
use crate::store::{Ack, StoreError, Version};

/// The most writes that one transaction takes.
const GROUP: usize = 512;

/// Bits of a version that number the writes of one transaction.
const INDEX_BITS: u32 = 20;
const _: () = assert!(GROUP < 1 << INDEX_BITS);

/// How often dead readers are cleared and expired documents swept; also the longest that an early answer runs ahead of
/// the disk while nobody else writes.
const CHORES_EVERY: Duration = Duration::from_secs(1);

/// The most documents swept in one transaction.
const SWEEP: usize = 256;

/// What LMDB says when the disk took only part of a page: most likely it is full.
const EIO: i32 = 5;

type Answer = Result<Version, StoreError>;

/// What the writer is asked.
pub(super) enum Message {
    Write(Operation),
    /// Answer what is queued, make all of it durable, and end.
    Close(oneshot::Sender<()>),
}

/// One write and who waits for it.
pub(super) struct Operation {
    pub(super) write: Write,
    pub(super) ack: Ack,
    pub(super) claim: Arc<AtomicBool>,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Operation {
    /// Whoever calls it first has the operation: the writer to apply it, or the caller to give up waiting.
    pub(super) fn take(claim: &AtomicBool) -> bool {
        !claim.swap(true, Ordering::AcqRel)
    }
}

/// The writer's side of an open store.
pub(super) struct Writer {
    pub(super) env: Environment,
    pub(super) tables: Tables,
    pub(super) durability: Durability,
    pub(super) turnstile: Turnstile,
    pub(super) seats: Arc<Seats>,
    /// Held for its lock.
    pub(super) _member: File,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) inbox: mpsc::Receiver<Message>,
    /// Who waits for the end.
    pub(super) closers: Vec<oneshot::Sender<()>>,
}

impl Writer {
    /// Runs until every handle is gone or one asks to close.
    pub(super) fn run(mut self, runtime: &Runtime) {
        let mut chores_at = Instant::now() + CHORES_EVERY;
        let mut unsynced = false;
        let mut messages = Vec::with_capacity(GROUP);
        loop {
            let received =
                runtime.block_on(async { timeout_at(chores_at, self.inbox.recv_many(&mut messages, GROUP)).await });
            if received == Ok(0) {
                break;
            }
            self.group(&mut messages, &mut unsynced);
            if !self.closers.is_empty() {
                break;
            }
            if Instant::now() >= chores_at {
                let more = self.chores(&mut unsynced);
                chores_at = Instant::now() + if more { Duration::ZERO } else { CHORES_EVERY };
            }
        }
        self.drain(messages, unsynced);
    }

    /// Answers everything that was queued before the end.
    fn drain(mut self, mut messages: Vec<Message>, mut unsynced: bool) {
        self.inbox.close();
        loop {
            while messages.len() < GROUP {
                let Ok(message) = self.inbox.try_recv() else { break };
                messages.push(message);
            }
            if messages.is_empty() {
                break;
            }
            self.group(&mut messages, &mut unsynced);
        }
        if let Err(error) = self.env.force_sync() {
            tracing::error!(%error, "the store could not be synced at its end");
        }
        let closers = std::mem::take(&mut self.closers);
        drop(self);
        for closer in closers {
            // The closer may have stopped waiting.
            let _ = closer.send(());
        }
    }

    /// Writes what was received, together with what arrives until it is this process's turn.
    fn group(&mut self, messages: &mut Vec<Message>, unsynced: &mut bool) {
        if messages.is_empty() {
            return;
        }
        let turn = self.turnstile.enter();
        while messages.len() < GROUP {
            let Ok(message) = self.inbox.try_recv() else { break };
            messages.push(message);
        }
        let mut group = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Write(operation) if Operation::take(&operation.claim) => group.push(operation),
                // Its caller has given up.
                Message::Write(_) => {}
                Message::Close(done) => self.closers.push(done),
            }
        }
        match turn {
            Ok(turn) => self.commit(turn, group, unsynced),
            Err(error) => refuse(group, &StoreError::Unavailable(format!("the store's turnstile failed: {error}"))),
        }
    }

    fn commit(&self, turn: Turn<'_>, group: Vec<Operation>, unsynced: &mut bool) {
        match self.transact(&turn, &group, unsynced) {
            Ok(answers) => {
                drop(turn);
                self.counters.groups.fetch_add(1, Ordering::Relaxed);
                self.counters.writes.fetch_add(group.len() as u64, Ordering::Relaxed);
                for (operation, answer) in group.into_iter().zip(answers) {
                    // The caller may have stopped waiting.
                    let _ = operation.answer.send(answer);
                }
            }
            // One write may be what spoilt it (no room for it): the others get a transaction each.
            Err(StoreError::Full(_)) if group.len() > 1 => {
                for operation in group {
                    let one = std::slice::from_ref(&operation);
                    let answer = self.transact(&turn, one, unsynced).and_then(|mut answers| answers.remove(0));
                    let _ = operation.answer.send(answer);
                }
            }
            Err(error) => refuse(group, &error),
        }
    }

    /// One transaction. An error means that none of the group happened, or none surely.
    fn transact(&self, turn: &Turn<'_>, group: &[Operation], unsynced: &mut bool) -> Result<Vec<Answer>, StoreError> {
        let now_ms = (self.clock)();
        let mut txn = self.begin(turn)?;
        let base = (txn.id() as u64) << INDEX_BITS;
        let mut answers = Vec::with_capacity(group.len());
        let (mut changed, mut wants_disk) = (false, false);
        for (index, operation) in group.iter().enumerate() {
            let version = Version(base | index as u64);
            match self.tables.apply(&mut txn, &operation.write, version, now_ms) {
                Ok(version) => {
                    changed = true;
                    wants_disk |= operation.ack == Ack::Durable;
                    answers.push(Ok(version));
                }
                Err(Refusal::Decided(error)) => answers.push(Err(error)),
                Err(Refusal::Failed(error)) => return Err(store_error(error)),
            }
        }
        txn.commit().map_err(|error| self.commit_error(turn, error))?;
        *unsynced |= changed;
        if changed && wants_disk && self.durability == Durability::Power {
            self.sync(group, &mut answers, unsynced);
        }
        Ok(answers)
    }

    /// Brings the commit's last page to the disk, for those who wait for it.
    fn sync(&self, group: &[Operation], answers: &mut [Answer], unsynced: &mut bool) {
        match self.env.force_sync() {
            Ok(()) => *unsynced = false,
            Err(error) => {
                for (operation, answer) in group.iter().zip(answers) {
                    if operation.ack == Ack::Durable && answer.is_ok() {
                        *answer = Err(StoreError::NotDurable(error.to_string()));
                    }
                }
            }
        }
    }

    fn begin(&self, _turn: &Turn<'_>) -> Result<RwTxn<'_>, StoreError> {
        // If the last writer was killed, LMDB clears its readers here, for which the seats must be held.
        let _seat = self.seats.hold().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.env.write_txn().map_err(store_error)
    }

    /// After a failed commit: LMDB says by refusing the next transaction whether it knows what is on the disk.
    fn commit_error(&self, turn: &Turn<'_>, error: heed::Error) -> StoreError {
        let short = matches!(&error, heed::Error::Io(io) if io.raw_os_error() == Some(EIO));
        match self.begin(turn) {
            Ok(_unused) if short => StoreError::Full(format!("the disk is full or failing: {error}")),
            Ok(_unused) => store_error(error),
            Err(_) => StoreError::Ambiguous(format!("commit failed half-way: {error}")),
        }
    }

    /// What is due now and then; true if there is more to sweep.
    fn chores(&self, unsynced: &mut bool) -> bool {
        let cleared = self.seats.hold().map_err(heed::Error::Io).and_then(|_seat| self.env.clear_stale_readers());
        match cleared {
            Ok(dead) => _ = self.counters.dead_readers.fetch_add(dead as u64, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the store's dead readers could not be cleared"),
        }
        // Only `power` runs ahead of the disk by intent; `process` leaves the disk to the kernel.
        if *unsynced && self.durability == Durability::Power {
            match self.env.force_sync() {
                Ok(()) => *unsynced = false,
                Err(error) => tracing::error!(%error, "the store could not be synced"),
            }
        }
        match self.sweep() {
            Ok(swept) => {
                self.counters.swept.fetch_add(swept as u64, Ordering::Relaxed);
                swept == SWEEP
            }
            Err(error) => {
                tracing::warn!(%error, "expired documents could not be swept");
                false
            }
        }
    }

    fn sweep(&self) -> Result<usize, StoreError> {
        let now_ms = (self.clock)();
        if !self.due(now_ms)? {
            return Ok(0);
        }
        let turn = self.turnstile.enter().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let mut txn = self.begin(&turn)?;
        let swept = self.tables.sweep(&mut txn, now_ms, SWEEP).map_err(store_error)?;
        txn.commit().map_err(store_error)?;
        Ok(swept)
    }

    fn due(&self, now_ms: u64) -> Result<bool, StoreError> {
        // This thread's first read takes a seat; later ones find it taken. Once a second, holding it costs nothing.
        let _seat = self.seats.hold().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let txn = self.env.read_txn().map_err(store_error)?;
        self.tables.sweepable(&txn, now_ms).map_err(store_error)
    }
}

fn refuse(group: Vec<Operation>, error: &StoreError) {
    for operation in group {
        let _ = operation.answer.send(Err(error.clone()));
    }
}

/// What an error of LMDB means for a write that it kept from happening, or for a read.
pub(super) fn store_error(error: heed::Error) -> StoreError {
    use std::io::ErrorKind;
    match &error {
        heed::Error::Mdb(MdbError::MapFull | MdbError::TxnFull) => StoreError::Full(error.to_string()),
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound) => StoreError::Corrupt(error.to_string()),
        heed::Error::Mdb(MdbError::Panic) => {
            StoreError::Unavailable("LMDB gave up after a failed write to the disk; restart this process".to_owned())
        }
        heed::Error::Io(io) => match io.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                StoreError::Full(error.to_string())
            }
            _ => StoreError::Unavailable(error.to_string()),
        },
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// What the store's writer has done in this process; all only ever rise.
pub(super) fn counters() -> Arc<Counters> {
    Arc::new(Counters {
        groups: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        swept: AtomicU64::new(0),
        dead_readers: AtomicU64::new(0),
    })
}
