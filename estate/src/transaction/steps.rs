//! Steps of transactions on documents: under compare-and-swap here, or by the live owner of the document.

use std::time::Duration;

use tokio::time::sleep;

use super::arbiter::{self, State};
use super::participant::{Act, AnyDocument, Outcome, Step, Stepped};
use super::{Intent, TransactionError, Transactions};
use crate::document::Attempts;
use crate::store::{StoreError, Version};

/// How often a live owner that does not answer well is asked again.
const OWNER_ASKED: u32 = 3;
/// The pause before it is asked again; each further one is longer by as much.
const OWNER_PAUSE: Duration = Duration::from_millis(50);

/// A document as it lies in the store at a version; none lies there if there is no version.
pub(super) struct Held<'a> {
    document: Box<dyn AnyDocument + 'a>,
    version: Option<Version>,
}

impl Transactions {
    /// Takes a step: by the owner of the document if it lives, or else here.
    pub(super) async fn take(&self, step: &Step) -> Result<Stepped, TransactionError> {
        self.take_held(step, None).await.map(|(stepped, _)| stepped)
    }

    /// The same on a document as the caller has just written it: it is read only if somebody has written it since. Gives it
    /// as it is written now, if it was written here.
    pub(super) async fn take_held<'a>(
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
