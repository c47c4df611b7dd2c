//! Driving a transaction to its end, and settling what others have left.
//!
//! Every wait here is bounded: by [`DRIVING`] for whoever drives, by [`PATIENCE`] for whoever meets another's intent.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::arbiter::{self, Begun, Change, Entry, Read, State, digest, transfer_key};
use super::participant::{Act, AnyDocument, Kind, Outcome, Step, Stepped};
use super::{
    DRIVING, EFFECT_DEPTH, Intent, OperationId, PARTS, PATIENCE, Part, REMEMBERED, Refusal, Request, TransactionError,
    Transactions, is_shallow,
};
use crate::document::{Attempts, Kept, peek};
use crate::store::{StoreError, Version};

/// The first pause of whoever waits for another transaction; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
/// The longest pause.
const PAUSE_MOST: Duration = Duration::from_millis(100);

/// How often a live owner that does not answer well is asked again.
const OWNER_ASKED: u32 = 3;
/// The pause before it is asked again; each further one is longer by as much.
const OWNER_PAUSE: Duration = Duration::from_millis(50);

/// What became of another's intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// The document is clear of it.
    Clear,
    /// It is still being driven by somebody who may be alive.
    Pending,
}

/// A document as it lies in the store at a version; none lies there if there is no version.
struct Held<'a> {
    document: Box<dyn AnyDocument + 'a>,
    version: Option<Version>,
}

/// Growing pauses of one who waits, a little different for each so that they do not come back together.
struct Pauses {
    next: Duration,
    spread: u64,
}

impl Pauses {
    fn new(spread: u64) -> Pauses {
        Pauses { next: PAUSE_FIRST, spread }
    }

    async fn pause(&mut self) {
        let extra = self.next.mul_f64((self.spread % 256) as f64 / 256.0);
        self.spread = self.spread.rotate_right(8);
        sleep(self.next + extra).await;
        self.next = (self.next * 2).min(PAUSE_MOST);
    }
}

/// What kept another transaction from being settled, as told by one that found it in its way: nothing is said of its own
/// outcome but that the document is busy.
fn of_another(key: &str, error: TransactionError) -> TransactionError {
    match error {
        TransactionError::Stuck { .. } | TransactionError::Unknown { .. } | TransactionError::Refused(_) => {
            tracing::warn!(key, %error, "the transaction that holds a document cannot be settled");
            TransactionError::Busy(key.to_owned())
        }
        error => error,
    }
}

impl Transactions {
    /// Makes the change, all of it or nothing; when it answers, it is durable.
    ///
    /// `Ok`, [`TransactionError::Refused`] and [`TransactionError::Busy`] are the truth about the operation; after any other
    /// error ask again under the same id.
    pub async fn run(&self, request: Request) -> Result<(), TransactionError> {
        let request = self.checked(request)?;
        let started = Instant::now();
        if let ([part], None) = (request.parts.as_slice(), &request.ledger) {
            let act = Act::Alone { effect: part.effect.clone() };
            return self.run_alone(request.op, &part.key, act, started).await;
        }
        let arbiter = request.ledger.clone().unwrap_or_else(|| transfer_key(request.op));
        let digest = request.asked.unwrap_or_else(|| digest(&request.parts));
        if !arbiter::is_transfer(&arbiter)
            && let Err(error) = self.sweep(&arbiter).await
        {
            tracing::debug!(arbiter, %error, "a ledger could not be swept");
        }
        let mut pauses = Pauses::new(self.token());
        loop {
            let intent = Intent { arbiter: arbiter.clone(), op: request.op, token: self.token() };
            let entry = Entry { token: intent.token, state: State::Pending, digest, parts: request.parts.clone() };
            let held = match arbiter::begin(&*self.store, &arbiter, request.op, &entry).await? {
                Begun::Mine(held) => held,
                Begun::Done => return Ok(()),
                Begun::Misused => {
                    let why = format!("operation {} was used for something else", request.op);
                    return Err(Refusal::new("misused", why).into());
                }
                Begun::Over if started.elapsed() >= DRIVING => {
                    let why = "the store keeps losing its arbiter".to_owned();
                    return Err(TransactionError::Unknown { op: request.op, why });
                }
                Begun::Over => continue,
                Begun::Full => return Err(TransactionError::Busy(arbiter)),
                Begun::Theirs(theirs) => {
                    self.settle_own(&arbiter, request.op, &theirs).await?;
                    if started.elapsed() >= DRIVING {
                        let why = "another driver is at it".to_owned();
                        return Err(TransactionError::Unknown { op: request.op, why });
                    }
                    pauses.pause().await;
                    continue;
                }
            };
            let marked = match self.mark_all(&intent, &request.parts, started).await {
                Ok(marked) => marked,
                Err(error) => {
                    self.give_up(&intent, &request.parts).await;
                    return self.unless_happened(&arbiter, request.op, error).await;
                }
            };
            if let Some(held) = self.commit(&intent, held, started).await? {
                self.finish(&intent, &entry, held, marked).await;
                return Ok(());
            }
            // Somebody lost patience with this attempt. What it left is cleared, and it is tried anew.
            self.clear_all(&intent, &request.parts).await;
            if started.elapsed() >= DRIVING {
                let busy = TransactionError::Busy(arbiter.clone());
                return self.unless_happened(&arbiter, request.op, busy).await;
            }
        }
    }

    /// An answer that nothing has happened, unless another driver of the same operation has made it happen: one that was
    /// aborted and slept finds its own effect in the documents, and would take it for a reason to refuse.
    async fn unless_happened(
        &self,
        arbiter: &str,
        op: OperationId,
        error: TransactionError,
    ) -> Result<(), TransactionError> {
        if !matches!(error, TransactionError::Refused(_) | TransactionError::Busy(_)) {
            return Err(error);
        }
        let ledger = (!arbiter::is_transfer(arbiter)).then_some(arbiter);
        if self.happened(op, ledger).await? { Ok(()) } else { Err(error) }
    }

    /// Whether an operation with an arbiter has happened, asked before its parts are made from what is read. One that is
    /// being driven by others is waited for, at most [`PATIENCE`]; then it is aborted.
    pub async fn happened(&self, op: OperationId, ledger: Option<&str>) -> Result<bool, TransactionError> {
        let arbiter = ledger.map_or_else(|| transfer_key(op), str::to_owned);
        let mut pauses = Pauses::new(self.token());
        loop {
            match arbiter::look(&*self.store, &arbiter, op).await? {
                None if ledger.is_some() => return Ok(arbiter::is_remembered(&*self.store, op).await?),
                None => return Ok(false),
                Some(entry) if entry.state == State::Done => return Ok(true),
                Some(entry) if entry.state == State::Aborted => return Ok(false),
                Some(entry) => {
                    if self.settle_own(&arbiter, op, &entry).await? == Settled::Pending {
                        pauses.pause().await;
                    }
                }
            }
        }
    }

    /// A change of one document that guards itself against coming twice: the effect is refused, or changes nothing, when
    /// it was applied before. One compare-and-swap, which remembers nothing.
    ///
    /// After a refusal as well as after an error the document tells whether it has happened.
    pub async fn run_guarded(&self, op: OperationId, part: &Part) -> Result<(), TransactionError> {
        let act = Act::Guarded { effect: part.effect.clone() };
        self.run_alone(op, &part.key, act, Instant::now()).await
    }

    /// A change of one document alone: one compare-and-swap, which also remembers the operation.
    async fn run_alone(&self, op: OperationId, key: &str, act: Act, started: Instant) -> Result<(), TransactionError> {
        let intent = Intent { arbiter: String::new(), op, token: self.token() };
        let mut pauses = Pauses::new(intent.token);
        let step = Step { key: key.to_owned(), intent, act };
        loop {
            match self.take(&step).await? {
                Stepped::Taken | Stepped::Already => return Ok(()),
                Stepped::Refused(refusal) => return Err(refusal.into()),
                Stepped::Unclosed(_) => {}
                Stepped::Busy(other) => {
                    let settled = self.settle_other(key, &other).await?;
                    if settled == Settled::Pending && started.elapsed() >= DRIVING {
                        return Err(TransactionError::Busy(key.to_owned()));
                    }
                    if settled == Settled::Pending {
                        pauses.pause().await;
                    }
                }
            }
        }
    }

    fn checked(&self, mut request: Request) -> Result<Request, TransactionError> {
        if request.parts.is_empty() || request.parts.len() > PARTS {
            let why = format!("a transaction of {} documents; the bounds are 1 and {PARTS}", request.parts.len());
            return Err(Refusal::new("malformed", why).into());
        }
        request.parts.sort_by(|a, b| a.key.cmp(&b.key));
        for part in &request.parts {
            self.kinds.of(&part.key)?;
            // An arbiter that nobody can read would hold its documents for ever; a ledger, all land of its area.
            if !is_shallow(&part.effect, EFFECT_DEPTH) {
                let why = format!("an effect on {} of more than {EFFECT_DEPTH} levels", part.key);
                return Err(Refusal::new("malformed", why).into());
            }
        }
        if let Some(pair) = request.parts.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(Refusal::new("malformed", format!("two parts change {}", pair[0].key)).into());
        }
        Ok(request)
    }

    /// Marks every participant, in the order of their keys, so that of two transactions one always gets through.
    /// Gives them as they were written, so that nothing is read again if nobody else writes.
    async fn mark_all(
        &self,
        intent: &Intent,
        parts: &[Part],
        started: Instant,
    ) -> Result<Vec<Option<Held<'_>>>, TransactionError> {
        let mut marked = Vec::with_capacity(parts.len());
        for part in parts {
            let mut pauses = Pauses::new(intent.token);
            let mut closed = None;
            loop {
                let act = Act::Mark { effect: part.effect.clone(), closed };
                let step = Step { key: part.key.clone(), intent: intent.clone(), act };
                let (stepped, held) = self.take_held(&step, None).await?;
                match stepped {
                    Stepped::Taken | Stepped::Already => {
                        marked.push(held);
                        break;
                    }
                    Stepped::Refused(refusal) => return Err(refusal.into()),
                    Stepped::Unclosed(last) => {
                        self.close(&last).await.map_err(|error| of_another(&part.key, error))?;
                        closed = Some(last.token);
                    }
                    Stepped::Busy(other) => {
                        let settled = self.settle_other(&part.key, &other).await?;
                        if settled == Settled::Pending && started.elapsed() >= DRIVING {
                            return Err(TransactionError::Busy(part.key.clone()));
                        }
                        if settled == Settled::Pending {
                            pauses.pause().await;
                        }
                    }
                }
            }
        }
        Ok(marked)
    }

    /// The moment of truth. None if this attempt was aborted, or if all of it is over; else the arbiter as it was written,
    /// if that is known.
    async fn commit(
        &self,
        intent: &Intent,
        held: Option<Read>,
        started: Instant,
    ) -> Result<Option<Option<Read>>, TransactionError> {
        let commit = |entry: &Entry| match entry.state {
            State::Pending if entry.token == intent.token => {
                Change::Put(Entry { state: State::Committed, ..entry.clone() })
            }
            _ => Change::Leave,
        };
        let unknown = |why: String| TransactionError::Unknown { op: intent.op, why };
        let changed = arbiter::change_held(&*self.store, &intent.arbiter, intent.op, held, commit).await;
        let (entry, held) = changed.map_err(|error| unknown(error.to_string()))?;
        match entry {
            Some(entry) if entry.token == intent.token => {
                Ok(matches!(entry.state, State::Committed | State::Done).then_some(held))
            }
            Some(_) => Ok(None),
            // Only time takes a transfer's arbiter away, though this driver's own clock may have stood still meanwhile.
            None if arbiter::is_transfer(&intent.arbiter) => Err(unknown("its memory has expired".to_owned())),
            // Memories have their time: whoever slept longer cannot tell what became of its own commit.
            None if started.elapsed() >= REMEMBERED / 2 => Err(unknown("its driver slept for too long".to_owned())),
            // Dropped undone; or finished by others after a commit whose reply was lost, and then nothing of it is left to
            // be cleared. A memory of the operation does not tell which: it may be another attempt's, and then what this
            // one has marked since MUST NOT be applied. The operation is begun anew, which knows a done one.
            None => Ok(None),
        }
    }

    /// Applies a committed transaction to all participants and closes its arbiter. What fails is left to whoever meets it.
    async fn finish(&self, intent: &Intent, entry: &Entry, held: Option<Read>, marked: Vec<Option<Held<'_>>>) {
        if let Err(error) = self.try_finish_held(intent, entry, held, marked).await {
            tracing::warn!(op = %intent.op, %error, "a committed operation is left for others to finish");
        }
    }

    async fn try_finish(&self, intent: &Intent, entry: &Entry) -> Result<(), TransactionError> {
        self.try_finish_held(intent, entry, None, Vec::new()).await
    }

    async fn try_finish_held(
        &self,
        intent: &Intent,
        entry: &Entry,
        held: Option<Read>,
        marked: Vec<Option<Held<'_>>>,
    ) -> Result<(), TransactionError> {
        let marked = marked.into_iter().chain(std::iter::repeat_with(|| None));
        let applied = entry.parts.iter().zip(marked).map(|(part, marked)| async {
            let act = Act::Apply { effect: part.effect.clone() };
            let step = Step { key: part.key.clone(), intent: intent.clone(), act };
            match self.take_held(&step, marked).await?.0 {
                Stepped::Refused(refusal) => {
                    Err(TransactionError::Stuck { key: part.key.clone(), op: intent.op, why: refusal.why })
                }
                _ => Ok(()),
            }
        });
        join_all(applied).await.into_iter().collect::<Result<(), TransactionError>>()?;
        let transfer = arbiter::is_transfer(&intent.arbiter);
        if !transfer {
            arbiter::remember(&*self.store, intent.op, entry.digest).await?;
        }
        let done = |entry: &Entry| match entry.state {
            State::Committed if entry.token == intent.token && transfer => {
                Change::Put(Entry { state: State::Done, parts: Vec::new(), ..entry.clone() })
            }
            State::Committed if entry.token == intent.token => Change::Drop,
            _ => Change::Leave,
        };
        arbiter::change_held(&*self.store, &intent.arbiter, intent.op, held, done).await?;
        self.known.close(intent.token);
        Ok(())
    }

    /// Aborts an attempt that cannot go on, and clears its marks. What fails is left to whoever meets it.
    async fn give_up(&self, intent: &Intent, parts: &[Part]) {
        match self.abort(intent).await {
            Ok(Some(entry)) if entry.state == State::Committed => {}
            Ok(_) => self.clear_all(intent, parts).await,
            Err(error) => tracing::debug!(op = %intent.op, %error, "an attempt was left pending"),
        }
    }

    /// Swaps a pending attempt to aborted; gives its entry as it stands then, if it still has one.
    async fn abort(&self, intent: &Intent) -> Result<Option<Entry>, TransactionError> {
        let transfer = arbiter::is_transfer(&intent.arbiter);
        let abort = |entry: &Entry| match entry.state {
            State::Pending if entry.token == intent.token && transfer => {
                Change::Put(Entry { state: State::Aborted, parts: Vec::new(), ..entry.clone() })
            }
            State::Pending if entry.token == intent.token => Change::Drop,
            _ => Change::Leave,
        };
        let entry = arbiter::change(&*self.store, &intent.arbiter, intent.op, abort).await?;
        Ok(entry.filter(|entry| entry.token == intent.token))
    }

    async fn clear_all(&self, intent: &Intent, parts: &[Part]) {
        let cleared = parts.iter().map(|part| async {
            let step = Step { key: part.key.clone(), intent: intent.clone(), act: Act::Clear };
            if let Err(error) = self.take(&step).await {
                tracing::debug!(key = part.key, %error, "an aborted intent was left behind");
            }
        });
        join_all(cleared).await;
    }

    /// Settles another transaction's intent that stands in the way of one's own. What becomes of the other is never told as
    /// the outcome of one's own: a document whose holder cannot be finished is busy.
    async fn settle_other(&self, key: &str, other: &Intent) -> Result<Settled, TransactionError> {
        self.settle_intent(key, other).await.map_err(|error| of_another(key, error))
    }

    /// Settles an intent that was met in the document under `key`. The document MUST have been read before.
    async fn settle_intent(&self, key: &str, intent: &Intent) -> Result<Settled, TransactionError> {
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
    async fn settle_own(&self, arbiter: &str, op: OperationId, entry: &Entry) -> Result<Settled, TransactionError> {
        self.settle_entry(arbiter, op, entry).await.map_err(|error| match error {
            TransactionError::Stuck { .. } | TransactionError::Unknown { .. } => error,
            error => TransactionError::Unknown { op, why: error.to_string() },
        })
    }

    /// Finishes a committed entry, or aborts a pending one that has tried patience for long enough.
    async fn settle_entry(&self, arbiter: &str, op: OperationId, entry: &Entry) -> Result<Settled, TransactionError> {
        let intent = Intent { arbiter: arbiter.to_owned(), op, token: entry.token };
        match entry.state {
            State::Committed => self.try_finish(&intent, entry).await?,
            State::Pending if self.known.pending_for(entry.token) < PATIENCE => return Ok(Settled::Pending),
            State::Pending => match self.abort(&intent).await? {
                Some(now) if now.state == State::Committed => self.try_finish(&intent, &now).await?,
                _ => self.clear_all(&intent, &entry.parts).await,
            },
            State::Aborted | State::Done => {}
        }
        Ok(Settled::Clear)
    }

    /// Sees that the transfer last applied to a document is closed.
    async fn close(&self, last: &Intent) -> Result<(), TransactionError> {
        if self.known.is_closed(last.token) {
            return Ok(());
        }
        let entry = arbiter::look(&*self.store, &last.arbiter, last.op).await?;
        if let Some(entry) = entry.filter(|entry| entry.token == last.token && entry.state == State::Committed) {
            match self.try_finish(last, &entry).await {
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
    async fn sweep(&self, ledger: &str) -> Result<bool, TransactionError> {
        let mut clear = true;
        for (op, entry) in arbiter::entries(&*self.store, ledger).await? {
            // A driver that is alive closes what it has committed.
            if self.known.pending_for(entry.token) < PATIENCE {
                clear = false;
                continue;
            }
            match self.settle_entry(ledger, op, &entry).await {
                Ok(settled) => clear &= settled == Settled::Clear,
                // One that cannot be finished must not stop the others of its area.
                Err(error) => {
                    tracing::debug!(ledger, %op, %error, "an entry could not be settled");
                    clear = false;
                }
            }
        }
        Ok(clear)
    }

    /// Waits until nothing in a ledger is undecided or unfinished, at most for twice [`PATIENCE`].
    pub async fn settle_ledger(&self, ledger: &str) -> Result<(), TransactionError> {
        let (started, mut pauses) = (Instant::now(), Pauses::new(self.token()));
        while !self.sweep(ledger).await? {
            if started.elapsed() >= PATIENCE * 2 {
                return Err(TransactionError::Busy(ledger.to_owned()));
            }
            pauses.pause().await;
        }
        Ok(())
    }

    /// Settles whatever transaction holds the document under `key`, as reading it would.
    pub async fn settle(&self, key: &str) -> Result<(), TransactionError> {
        let kind = self.kinds.of(key)?;
        let (started, mut pauses, mut met) = (Instant::now(), Pauses::new(self.token()), None);
        loop {
            let Some(stored) = self.store.get(key).await? else { return Ok(()) };
            let Some(intent) = kind.head(key, &stored.value)?.marks.intent else { return Ok(()) };
            let again = met.replace(intent.token) == Some(intent.token);
            // One that is met again though it was cleared is unknown to the document's owner: its next save will tell.
            if self.settle_intent(key, &intent).await? == Settled::Pending || again {
                if started.elapsed() >= PATIENCE * 2 {
                    return Err(TransactionError::Busy(key.to_owned()));
                }
                pauses.pause().await;
            }
        }
    }

    /// Reads a document with nothing undecided in it: whatever transaction holds it is settled first, which takes at most
    /// twice [`PATIENCE`]. A document that holds nothing is none.
    ///
    /// What a live owner has not saved yet is not in it.
    pub async fn read<K: Kind>(&self, kind: &K, key: &str) -> Result<Option<Kept<K::Document>>, TransactionError> {
        let (started, mut pauses, mut met) = (Instant::now(), Pauses::new(self.token()), None);
        loop {
            let Some(mut kept) = peek::<K::Document>(&*self.store, key).await? else { return Ok(None) };
            let marks = kind.marks(&mut kept.document).clone();
            if let Some(intent) = marks.intent {
                let again = met.replace(intent.token) == Some(intent.token);
                if self.settle_intent(key, &intent).await? == Settled::Pending || again {
                    if started.elapsed() >= PATIENCE * 2 {
                        return Err(TransactionError::Busy(key.to_owned()));
                    }
                    pauses.pause().await;
                }
                continue;
            }
            if let Some(last) = marks.last {
                self.close(&last).await?;
            }
            return Ok(Some(kept).filter(|kept| !kind.is_blank(key, &kept.document)));
        }
    }

    /// Takes a step: by the owner of the document if it lives, or else here.
    async fn take(&self, step: &Step) -> Result<Stepped, TransactionError> {
        self.take_held(step, None).await.map(|(stepped, _)| stepped)
    }

    /// The same on a document as the caller has just written it: it is read only if somebody has written it since. Gives it
    /// as it is written now, if it was written here.
    async fn take_held<'a>(
        &'a self,
        step: &Step,
        mut held: Option<Held<'a>>,
    ) -> Result<(Stepped, Option<Held<'a>>), TransactionError> {
        let kind = self.kinds.of(&step.key)?;
        let (mut attempts, mut asked) = (Attempts::new(), 0);
        loop {
            // Once an owner was asked and did not answer well, it may have taken the step: no later failure is sure of it.
            let failed = |error: StoreError| match asked {
                0 => TransactionError::from(error),
                _ => TransactionError::Unknown { op: step.intent.op, why: error.to_string() },
            };
            let Held { mut document, version } = match held.take() {
                Some(held) => held,
                None => match self.store.get(&step.key).await {
                    Ok(stored) => {
                        let document = kind.open(&step.key, stored.as_ref().map(|stored| &*stored.value))?;
                        Held { document, version: stored.map(|stored| stored.version) }
                    }
                    Err(error) => {
                        attempts.after(error).await.map_err(failed)?;
                        continue;
                    }
                },
            };
            if let Some(owner) = &document.owner()
                && !self.owners.is_gone(owner).await
            {
                // It may be letting go of the document just now: whoever has it next is asked again.
                match self.owners.take(owner, step).await {
                    Err(_) if asked < OWNER_ASKED => {
                        asked += 1;
                        sleep(OWNER_PAUSE * asked).await;
                        continue;
                    }
                    // What is done by one step alone may be done, or be done yet: only a mark is nothing without a commit.
                    Err(error) if matches!(step.act, Act::Alone { .. } | Act::Guarded { .. }) => {
                        return Err(TransactionError::Unknown { op: step.intent.op, why: error.to_string() });
                    }
                    answer => return answer.map(|stepped| (stepped, None)),
                }
            }
            let mut outcome = document.step(step)?;
            if let (Stepped::Unclosed(last), Act::Mark { effect, .. }) = (&outcome.stepped, &step.act)
                && self.known.is_closed(last.token)
            {
                let act = Act::Mark { effect: effect.clone(), closed: Some(last.token) };
                outcome = document.step(&Step { act, ..step.clone() })?;
            }
            let Outcome { stepped, write } = outcome;
            let Some((value, options)) = write else { return Ok((stepped, None)) };
            let written = match version {
                Some(version) => self.store.replace(&step.key, value, version, options).await,
                None => self.store.insert(&step.key, value, options).await,
            };
            match written {
                Ok(version) => return Ok((stepped, Some(Held { document, version: Some(version) }))),
                Err(error) => attempts.after(error).await.map_err(failed)?,
            }
        }
    }

    /// What a live owner MUST ask before it marks an intent in memory: whether that attempt may still be marked. Without
    /// it a request that comes twice, the second time after the end, would mark what is long settled.
    pub async fn may_mark(&self, intent: &Intent) -> Result<bool, TransactionError> {
        let entry = arbiter::look(&*self.store, &intent.arbiter, intent.op).await?;
        Ok(entry.is_some_and(|entry| entry.token == intent.token && entry.state == State::Pending))
    }
}
