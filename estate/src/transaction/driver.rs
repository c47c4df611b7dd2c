//! Driving a transaction to its end: arbiter, marks, commit, effects.
//!
//! Every wait here is bounded: by [`DRIVING`] for whoever drives, by [`PATIENCE`](super::PATIENCE) for whoever meets another's
//! intent. What one attempt has written it does not read again: a refused compare-and-swap tells that somebody else has.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::arbiter::{self, Begun, Change, Entry, Read, State, digest, transfer_key};
use super::participant::{Act, Step, Stepped};
use super::settle::of_another;
use super::steps::Held;
use super::{
    DRIVING, EFFECT_DEPTH, Intent, OperationId, PARTS, Part, REMEMBERED, Refusal, Request, TransactionError,
    Transactions, is_shallow,
};
use crate::store::Outcome;

/// The first pause of whoever waits for another transaction; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
/// The longest pause.
const PAUSE_MOST: Duration = Duration::from_millis(100);

/// What became of another's intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The document is clear of it.
    Clear,
    /// It is still being driven by somebody who may be alive.
    Pending,
}

/// What became of a commit.
enum Commit {
    /// It has happened. The arbiter as it was written, if that is known.
    Done(Option<Read>),
    /// This attempt was aborted, or all of it is over.
    Over,
}

/// Growing pauses of one who waits, a little different for each so that they do not come back together.
pub(super) struct Pauses {
    next: Duration,
    spread: u64,
}

impl Pauses {
    pub(super) fn new(spread: u64) -> Pauses {
        Pauses { next: PAUSE_FIRST, spread }
    }

    pub(super) async fn pause(&mut self) {
        let extra = self.next.mul_f64((self.spread % 256) as f64 / 256.0);
        self.spread = self.spread.rotate_right(8);
        sleep(self.next + extra).await;
        self.next = (self.next * 2).min(PAUSE_MOST);
    }
}

impl Transactions {
    /// Makes the change, all of it or nothing; when it answers, it is durable.
    ///
    /// `Ok`, [`TransactionError::Refused`] and [`TransactionError::Busy`] are the truth about the operation; after any other
    /// error ask again under the same id.
    pub async fn run(&self, request: Request) -> Result<(), TransactionError> {
        let request = self.checked(request)?;
        let (op, mut maybe) = (request.op, false);
        match self.drive(request, &mut maybe).await {
            Err(error @ TransactionError::Document(_)) if maybe && error.outcome() == Outcome::NotDone => {
                Err(TransactionError::Unknown { op, why: error.to_string() })
            }
            result => result,
        }
    }

    /// `maybe` is set as soon as an attempt has gone so far that it may have happened, by whomever: a store that then refuses to
    /// be read has not said that nothing was changed.
    async fn drive(&self, request: Request, maybe: &mut bool) -> Result<(), TransactionError> {
        let started = Instant::now();
        if let ([part], None) = (request.parts.as_slice(), &request.arbiter) {
            let act = Act::Alone { effect: part.effect.clone() };
            return self.run_alone(request.op, &part.key, act, started).await;
        }
        let arbiter = request.arbiter.clone().unwrap_or_else(|| transfer_key(request.op));
        let digest = request.asked.unwrap_or_else(|| digest(&request.parts));
        let mut swept = None;
        if !arbiter::is_transfer(&arbiter) {
            match self.sweep_held(&arbiter).await {
                Ok((_, held)) => swept = held,
                Err(error) => tracing::debug!(arbiter, %error, "a ledger could not be swept"),
            }
        }
        let mut pauses = Pauses::new(self.token());
        loop {
            let intent = Intent { arbiter: arbiter.clone(), op: request.op, token: self.token() };
            let entry = Entry { token: intent.token, state: State::Pending, digest, parts: request.parts.clone() };
            let held = match arbiter::begin(&*self.store, &arbiter, request.op, &entry, swept.take()).await? {
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
                    *maybe = true;
                    self.settle_own(&arbiter, request.op, &theirs).await?;
                    if started.elapsed() >= DRIVING {
                        let why = "another driver is at it".to_owned();
                        return Err(TransactionError::Unknown { op: request.op, why });
                    }
                    pauses.pause().await;
                    continue;
                }
            };
            let _driven = self.known.drive(request.op);
            let marked = match self.mark_all(&intent, &request.parts, started).await {
                Ok(marked) => marked,
                Err(error) => {
                    self.give_up(&intent, &request.parts).await;
                    return self.unless_happened(&arbiter, request.op, error).await;
                }
            };
            *maybe = true;
            if let Commit::Done(held) = self.commit(&intent, held, started).await? {
                if let Err(error) = self.finish(&intent, &entry, held, marked).await {
                    tracing::warn!(op = %intent.op, %error, "a committed operation is left for others to finish");
                }
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

    /// True while an attempt of this node at the operation stands in its arbiter, where others see how far it has come and
    /// may abort it. What is not driven they cannot know of: a caller that is not sure that it is still wanted MUST NOT go on.
    pub fn drives(&self, op: OperationId) -> bool {
        self.known.is_driven(op)
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
    /// being driven by others is waited for, at most [`PATIENCE`]; then it is aborted. An error is always
    /// [`TransactionError::Unknown`]: who cannot look does not know.
    pub async fn happened(&self, op: OperationId, ledger: Option<&str>) -> Result<bool, TransactionError> {
        let looked = self.look_whether_happened(op, ledger).await;
        looked.map_err(|error| TransactionError::Unknown { op, why: error.to_string() })
    }

    async fn look_whether_happened(&self, op: OperationId, ledger: Option<&str>) -> Result<bool, TransactionError> {
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
                Stepped::Busy(other) => self.make_way(key, &other, started, &mut pauses).await?,
                // Only marks ask for the last transfer to be closed: an owner that says so is none of this version.
                Stepped::Unclosed(_) => return Err(TransactionError::Busy(key.to_owned())),
            }
        }
    }

    /// Settles another transaction's intent that stands in the way, or waits for it a little: an error once this driver's own
    /// time is up.
    async fn make_way(
        &self,
        key: &str,
        other: &Intent,
        started: Instant,
        pauses: &mut Pauses,
    ) -> Result<(), TransactionError> {
        let settled = self.settle_intent(key, other).await.map_err(|error| of_another(key, error))?;
        if settled == Settled::Pending {
            if started.elapsed() >= DRIVING {
                return Err(TransactionError::Busy(key.to_owned()));
            }
            pauses.pause().await;
        }
        Ok(())
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
                    Stepped::Busy(other) => self.make_way(&part.key, &other, started, &mut pauses).await?,
                }
            }
        }
        Ok(marked)
    }

    /// The moment of truth.
    async fn commit(&self, intent: &Intent, held: Option<Read>, started: Instant) -> Result<Commit, TransactionError> {
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
            Some(entry) if entry.token == intent.token && matches!(entry.state, State::Committed | State::Done) => {
                Ok(Commit::Done(held))
            }
            Some(_) => Ok(Commit::Over),
            // Only time takes a transfer's arbiter away, though this driver's own clock may have stood still meanwhile.
            None if arbiter::is_transfer(&intent.arbiter) => Err(unknown("its memory has expired".to_owned())),
            // Memories have their time: whoever slept longer cannot tell what became of its own commit.
            None if started.elapsed() >= REMEMBERED / 2 => Err(unknown("its driver slept for too long".to_owned())),
            // Dropped undone; or finished by others after a commit whose reply was lost, and then nothing of it is left to
            // be cleared. A memory of the operation does not tell which: it may be another attempt's, and then what this
            // one has marked since MUST NOT be applied. The operation is begun anew, which knows a done one.
            None => Ok(Commit::Over),
        }
    }

    /// Applies a committed transaction to all participants and closes its arbiter, from these as they were written if that is
    /// known. What fails is left to whoever meets it.
    pub(super) async fn finish(
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
            State::Committed if entry.token == intent.token && transfer && !planted::is("transfer_forgotten") => {
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
    pub(super) async fn abort(&self, intent: &Intent) -> Result<Option<Entry>, TransactionError> {
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

    pub(super) async fn clear_all(&self, intent: &Intent, parts: &[Part]) {
        let cleared = parts.iter().map(|part| async {
            let step = Step { key: part.key.clone(), intent: intent.clone(), act: Act::Clear };
            if let Err(error) = self.take(&step).await {
                tracing::debug!(key = part.key, %error, "an aborted intent was left behind");
            }
        });
        join_all(cleared).await;
    }
}
