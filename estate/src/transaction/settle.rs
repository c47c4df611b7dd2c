//! Settling what other transactions have left in documents and ledgers, and reading documents with nothing undecided.
//!
//! Decisions are the arbiters'; whoever comes here only makes documents follow them, or aborts what has been pending for
//! longer than [`PATIENCE`]. What becomes of another's transaction is NEVER told as the outcome of one's own.

use tokio::time::Instant;

use super::arbiter::{self, Entry, Read, State};
use super::driver::{Pauses, Settled};
use super::participant::{Act, Kind, Step};
use super::{Intent, OperationId, PATIENCE, Part, TransactionError, Transactions};
use crate::document::{Kept, peek};
use crate::store::Stored;

/// What kept another transaction from being settled, as told by one that found it in its way: nothing is said of its own
/// outcome but that the document is busy.
pub(super) fn of_another(key: &str, error: TransactionError) -> TransactionError {
    match error {
        TransactionError::Stuck { .. } | TransactionError::Unknown { .. } | TransactionError::Refused(_) => {
            tracing::warn!(key, %error, "the transaction that holds a document cannot be settled");
            TransactionError::Busy(key.to_owned())
        }
        error => error,
    }
}

impl Transactions {
    /// Settles an intent that was met in the document under `key`. The document MUST have been read before.
    pub(super) async fn settle_intent(&self, key: &str, intent: &Intent) -> Result<Settled, TransactionError> {
        let entry = arbiter::look(&*self.store, &intent.arbiter, intent.op).await?;
        if let Some(entry) = entry.filter(|entry| entry.token == intent.token)
            && matches!(entry.state, State::Pending | State::Committed)
        {
            let settled = self.settle_entry(&intent.arbiter, intent.op, &entry).await?;
            if settled == Settled::Pending {
                return Ok(settled);
            }
        }
        // Aborted, or closed long ago: only the mark is left, if it still is.
        let step = Step { key: key.to_owned(), intent: intent.clone(), act: Act::Clear };
        self.take(&step).await?;
        Ok(Settled::Clear)
    }

    /// Settles what another driver has made of one's own operation. What keeps it from being finished is never told as if it
    /// had not happened.
    pub(super) async fn settle_own(
        &self,
        arbiter: &str,
        op: OperationId,
        entry: &Entry,
    ) -> Result<Settled, TransactionError> {
        self.settle_entry(arbiter, op, entry).await.map_err(|error| match error {
            TransactionError::Stuck { .. } | TransactionError::Unknown { .. } => error,
            error => TransactionError::Unknown { op, why: error.to_string() },
        })
    }

    /// Finishes a committed entry, or aborts a pending one that has tried patience for long enough.
    async fn settle_entry(&self, arbiter: &str, op: OperationId, entry: &Entry) -> Result<Settled, TransactionError> {
        let intent = Intent { arbiter: arbiter.to_owned(), op, token: entry.token };
        match entry.state {
            State::Committed => self.finish(&intent, entry, None, Vec::new()).await?,
            State::Pending if self.known.pending_for(entry.token) < PATIENCE => return Ok(Settled::Pending),
            State::Pending => match self.abort(&intent).await? {
                Some(now) if now.state == State::Committed => self.finish(&intent, &now, None, Vec::new()).await?,
                _ if planted::is("aborted_applied") => self.finish(&intent, entry, None, Vec::new()).await?,
                _ => self.clear_all(&intent, &entry.parts).await,
            },
            State::Aborted | State::Done => {}
        }
        Ok(Settled::Clear)
    }

    /// Sees that the transfer last applied to a document is closed.
    pub(super) async fn close(&self, last: &Intent) -> Result<(), TransactionError> {
        if self.known.is_closed(last.token) {
            return Ok(());
        }
        let entry = arbiter::look(&*self.store, &last.arbiter, last.op).await?;
        if let Some(entry) = entry.filter(|entry| entry.token == last.token && entry.state == State::Committed) {
            match self.finish(last, &entry, None, Vec::new()).await {
                Ok(()) => {}
                // It is found again by the intent that stands there still: this document need not wait for that one.
                Err(_) if self.stands(last, &entry.parts).await? => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.known.close(last.token);
        Ok(())
    }

    /// True if the intent stands in one of these documents, or may stand in one that cannot be read.
    async fn stands(&self, intent: &Intent, parts: &[Part]) -> Result<bool, TransactionError> {
        for part in parts {
            let kind = self.kinds.of(&part.key)?;
            let Some(stored) = self.store.get(&part.key).await? else { continue };
            if kind.head(&part.key, &stored.value).map_or(true, |head| head.marks.intent.as_ref() == Some(intent)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Settles what has stood in a ledger for longer than patience allows.
    pub(super) async fn sweep(&self, ledger: &str) -> Result<bool, TransactionError> {
        Ok(self.sweep_held(ledger).await?.0)
    }

    /// The same; gives the ledger as it was read, unless something was settled in it.
    pub(super) async fn sweep_held(&self, ledger: &str) -> Result<(bool, Option<Read>), TransactionError> {
        let mut clear = true;
        let (read, entries) = arbiter::entries(&*self.store, ledger).await?;
        let mut held = Some(read);
        for (op, entry) in entries {
            // A driver that is alive closes what it has committed.
            if self.known.pending_for(entry.token) < PATIENCE {
                clear = false;
                continue;
            }
            held = None;
            match self.settle_entry(ledger, op, &entry).await {
                Ok(settled) => clear &= settled == Settled::Clear,
                // One that cannot be finished must not stop the others of its area.
                Err(error) => {
                    tracing::debug!(ledger, %op, %error, "an entry could not be settled");
                    clear = false;
                }
            }
        }
        Ok((clear, held))
    }

    /// Waits until nothing in a ledger is undecided or unfinished, at most for twice [`PATIENCE`].
    pub async fn settle_ledger(&self, ledger: &str) -> Result<(), TransactionError> {
        let mut waiting = Waiting::new(self);
        while !self.sweep(ledger).await? {
            waiting.wait(ledger).await?;
        }
        Ok(())
    }

    /// Settles whatever transaction holds the document under `key`, as reading it would.
    pub async fn settle(&self, key: &str) -> Result<(), TransactionError> {
        self.settled(key).await.map(drop)
    }

    /// The same; gives the document as it was read with nothing undecided in it.
    pub(crate) async fn settled(&self, key: &str) -> Result<Option<Stored>, TransactionError> {
        let kind = self.kinds.of(key)?;
        let mut waiting = Waiting::new(self);
        loop {
            let Some(stored) = self.store.get(key).await? else { return Ok(None) };
            let Some(intent) = kind.head(key, &stored.value)?.marks.intent else { return Ok(Some(stored)) };
            self.settle_or_wait(key, &intent, &mut waiting).await?;
        }
    }

    /// Reads a document with nothing undecided in it: whatever transaction holds it is settled first, which takes at most
    /// twice [`PATIENCE`]. A document that holds nothing is none.
    ///
    /// What a live owner has not saved yet is not in it.
    pub async fn read<K: Kind>(&self, kind: &K, key: &str) -> Result<Option<Kept<K::Document>>, TransactionError> {
        let mut waiting = Waiting::new(self);
        loop {
            let Some(mut kept) = peek::<K::Document>(&*self.store, key).await? else { return Ok(None) };
            let marks = kind.marks(&mut kept.document).clone();
            if let Some(intent) = marks.intent {
                self.settle_or_wait(key, &intent, &mut waiting).await?;
                continue;
            }
            if let Some(last) = marks.last {
                self.close(&last).await?;
            }
            return Ok(Some(kept).filter(|kept| !kind.is_blank(key, &kept.document)));
        }
    }

    async fn settle_or_wait(&self, key: &str, intent: &Intent, waiting: &mut Waiting) -> Result<(), TransactionError> {
        // One that is met again though it was cleared is unknown to the document's owner: its next save will tell.
        let again = waiting.met.replace(intent.token) == Some(intent.token);
        if self.settle_intent(key, intent).await? == Settled::Pending || again {
            return waiting.wait(key).await;
        }
        Ok(())
    }
}

/// The wait of a reader, at most for twice [`PATIENCE`].
struct Waiting {
    started: Instant,
    pauses: Pauses,
    met: Option<u64>,
}

impl Waiting {
    fn new(transactions: &Transactions) -> Waiting {
        Waiting { started: Instant::now(), pauses: Pauses::new(transactions.token()), met: None }
    }

    async fn wait(&mut self, key: &str) -> Result<(), TransactionError> {
        if self.started.elapsed() >= PATIENCE * 2 {
            return Err(TransactionError::Busy(key.to_owned()));
        }
        self.pauses.pause().await;
        Ok(())
    }
}
