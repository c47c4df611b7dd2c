//! A player in transactions: what may be done to its document, and how its owner does it to document and memory together.
//!
//! The owner's rule: what [`take`] answers is durable. A step changes the document in memory, which is then saved; if the
//! saving fails the memory stays changed and *unsaved*, and every later step saves before it answers, so that "already" is
//! never said of what a crash could still undo. An owner that was fenced NEVER answers a step.

use super::{Claimed, Owner, PlayerDocument, PlayerError, find, key, save};
use crate::document::DocumentError;
use crate::goods::{BAG, GoodsEffect};
use crate::store::Ack;
use crate::transaction::participant::{self, Act, Step, Stepped};
use crate::transaction::{Kind, Marks, Refusal, TransactionError, Transactions};

/// Players in transactions.
#[derive(Clone, Copy, Debug)]
pub struct PlayerKind;

impl Kind for PlayerKind {
    type Document = PlayerDocument;
    type Effect = GoodsEffect;

    fn born(&self, key: &str) -> Result<PlayerDocument, Refusal> {
        Err(Refusal::new("missing", format!("there is no {key}")))
    }

    fn marks<'a>(&self, document: &'a mut PlayerDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut PlayerDocument, effect: &GoodsEffect) -> Result<(), Refusal> {
        if effect.limits.is_some() || effect.close {
            return Err(Refusal::new("malformed", "a player is neither built nor demolished"));
        }
        if let Some(keep) = effect.keep {
            if document.kept != keep.after || keep.to <= keep.after {
                let why = format!("the last promise kept is {}, not {}", document.kept, keep.after);
                return Err(Refusal::new("kept", why));
            }
            document.kept = if planted::is("promise_kept_twice") { keep.after } else { keep.to };
        }
        document.bag.change(&effect.take, &effect.put, BAG)?;
        document.page.book(&effect.create, &effect.destroy)?;
        document.experience = document.experience.saturating_add(effect.experience);
        Ok(())
    }

    fn is_blank(&self, _key: &str, _document: &PlayerDocument) -> bool {
        false
    }

    fn owner(&self, document: &PlayerDocument) -> Option<Owner> {
        document.owner.clone()
    }

    fn disown(&self, document: &mut PlayerDocument) {
        document.owner = None;
        document.epoch += 1;
    }
}

/// Takes a step of a transaction on a player that this node owns: in memory, and durably in the store before it answers.
///
/// Calls for one player MUST come one after another, as `&mut` says. An error means that the step may have been taken: if
/// [`Claimed::over`] holds, the player is not owned here any more and whoever asked reads anew who owns it; else the step may
/// come again.
pub async fn take(
    transactions: &Transactions,
    claimed: &mut Claimed,
    step: &Step,
) -> Result<Stepped, TransactionError> {
    if step.key != key(claimed.document.id) {
        let why = format!("a step on {} came to the owner of {}", step.key, key(claimed.document.id));
        return Ok(Stepped::Refused(Refusal::new("malformed", why)));
    }
    if claimed.hold.over {
        return Err(fenced(claimed, step));
    }
    if claimed.unsaved {
        settle(transactions, claimed, step).await?;
    }
    // A request that comes late would mark what was settled long ago. "Already" is safe: an attempt that is not pending
    // never becomes so again, and its driver finds that out when it commits.
    let held = claimed.document.marks.intent.as_ref() == Some(&step.intent);
    if matches!(step.act, Act::Mark { .. }) && !held && !transactions.may_mark(&step.intent).await? {
        return Ok(Stepped::Already);
    }
    // Whoever is told that an effect is applied closes its transaction: an owner of old, that does not know yet of the heir
    // in whose document the intent stands, MUST NOT say so.
    if matches!(step.act, Act::Apply { .. }) && !held && !planted::is("stale_owner_answers") {
        check_owned(transactions, claimed, step).await?;
    }
    let stepped = participant::take(&PlayerKind, &mut claimed.document, step);
    if stepped == Stepped::Taken && !planted::is("step_answered_unsaved") {
        claimed.unsaved = true;
        settle(transactions, claimed, step).await?;
    }
    Ok(stepped)
}

/// Makes durable what steps have changed.
async fn settle(transactions: &Transactions, claimed: &mut Claimed, step: &Step) -> Result<(), TransactionError> {
    match save(&**transactions.store(), claimed, Ack::Durable).await {
        Ok(()) => Ok(()),
        Err(PlayerError::Document(error)) => Err(TransactionError::Document(error)),
        Err(PlayerError::Fenced { .. } | PlayerError::IdTaken(_)) => Err(fenced(claimed, step)),
    }
}

/// An error if the document is not owned here any more, or cannot be read.
async fn check_owned(transactions: &Transactions, claimed: &mut Claimed, step: &Step) -> Result<(), TransactionError> {
    match find(&**transactions.store(), claimed.document.id).await {
        // Whatever others write raises the epoch.
        Ok(Some(kept)) if kept.document.epoch == claimed.hold.owner.epoch => Ok(()),
        Ok(_) | Err(DocumentError::Newer { .. }) => {
            claimed.hold.over = true;
            Err(fenced(claimed, step))
        }
        Err(error) => Err(TransactionError::Unknown { op: step.intent.op, why: error.to_string() }),
    }
}

/// A write whose reply was lost may lie under the next owner's claim, so a fenced owner cannot tell what became of a step.
fn fenced(claimed: &Claimed, step: &Step) -> TransactionError {
    let why = format!("{} is no longer owned here", key(claimed.document.id));
    TransactionError::Unknown { op: step.intent.op, why }
}

#[cfg(test)]
mod tests;
