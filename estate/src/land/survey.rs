//! The survey before an operation: to which holdings the deeds point, and whether those list the chunks.
//!
//! A survey only proposes. Whatever it has seen goes into the parts of the transaction as an expectation, so that the
//! truth is decided where documents are marked; a change in between is refused as [`codes::CHANGED`] and surveyed anew. It
//! therefore NEVER refuses by itself: an operation that has happened long ago is recognised before anything is refused.

use std::collections::{BTreeMap, BTreeSet};

use cartographer::geometry::{Chunk, ObjectId};
use futures_util::future::try_join_all;

use super::deed::{DeedAct, DeedDocument, DeedEffect, DeedKind};
use super::holding::{HoldingDocument, HoldingEffect, HoldingKind};
use super::object::ObjectDocument;
use super::{By, SURVEYS, check_id, codes, deed, holding, object};
use crate::document::{Document, DocumentError, decode, peek};
use crate::transaction::{Part, TransactionError, Transactions};

/// What is to be done to the deeds of some chunks.
pub(super) type Acts = BTreeMap<Chunk, Vec<DeedAct>>;

/// Some chunks as they were read.
pub(super) struct Survey {
    chunks: BTreeMap<Chunk, Ground>,
}

/// Whose one chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// Its deed points nowhere.
    Free,
    /// Its deed points to this holding, which does not list it.
    Stale(ObjectId),
    /// Its deed points to this holding, which lists it.
    Held(ObjectId),
}

impl Survey {
    /// Reads the deeds of these chunks and the holdings to which they point.
    pub(super) async fn of(
        transactions: &Transactions,
        chunks: impl Iterator<Item = Chunk>,
    ) -> Result<Survey, TransactionError> {
        let chunks: BTreeSet<Chunk> = chunks.collect();
        let pointers = chunks.iter().map(|chunk| pointer(transactions, *chunk));
        let pointers = try_join_all(pointers).await?;
        let ids: BTreeSet<ObjectId> = pointers.iter().flatten().copied().collect();
        let holdings = try_join_all(ids.iter().map(|id| holding_as_read(transactions, *id))).await?;
        let holdings: BTreeMap<ObjectId, Option<HoldingDocument>> = ids.into_iter().zip(holdings).collect();
        let ground = |chunk: Chunk, pointer: Option<ObjectId>| match pointer {
            None => Ground::Free,
            Some(id) if holdings[&id].as_ref().is_some_and(|holding| holding.lists(chunk)) => Ground::Held(id),
            Some(id) => Ground::Stale(id),
        };
        let chunks = chunks.into_iter().zip(pointers).map(|(chunk, pointer)| (chunk, ground(chunk, pointer))).collect();
        Ok(Survey { chunks })
    }

    /// The first holding that lists any of these chunks.
    pub(super) fn holder(&self, mut chunks: impl Iterator<Item = Chunk>) -> Option<ObjectId> {
        chunks.find_map(|chunk| match self.chunks.get(&chunk) {
            Some(Ground::Held(id)) => Some(*id),
            _ => None,
        })
    }

    /// The parts that do `acts`, refused as [`codes::OWNED`] unless `by` may change these chunks.
    ///
    /// A holding that is pointed to takes part: if it lists the chunk it must be `by`'s; if not, it must not come to list
    /// it meanwhile, and the pointer to it goes.
    pub(super) fn parts(&self, by: By, mut acts: Acts) -> Vec<Part> {
        let mut guards: BTreeMap<ObjectId, (Vec<Chunk>, Vec<Chunk>)> = BTreeMap::new();
        let mut parts = Vec::new();
        if let By::Player(player) = by {
            for (chunk, acts) in &mut acts {
                let (expected, to) = match self.chunks.get(chunk) {
                    Some(Ground::Held(id)) => {
                        guards.entry(*id).or_default().0.push(*chunk);
                        (Some(*id), Some(*id))
                    }
                    Some(Ground::Stale(id)) => {
                        guards.entry(*id).or_default().1.push(*chunk);
                        (Some(*id), None)
                    }
                    Some(Ground::Free) | None => (None, None),
                };
                acts.insert(0, DeedAct::Point { expected, to });
            }
            let guard = |(id, (listed, free))| {
                Part::new::<HoldingKind>(holding::key(id), &HoldingEffect::Guard { by: player, listed, free })
            };
            parts.extend(guards.into_iter().map(guard));
        }
        let deed = |(chunk, acts)| Part::new::<DeedKind>(deed::key(chunk), &DeedEffect { acts });
        parts.extend(acts.into_iter().map(deed));
        parts
    }
}

/// To which holding a chunk's deed points, as it was last written.
pub(super) async fn pointer(transactions: &Transactions, chunk: Chunk) -> Result<Option<ObjectId>, TransactionError> {
    Ok(deed_as_read(transactions, chunk).await?.and_then(|deed| deed.holding))
}

/// A chunk's deed as it was last written, if ever, and right in itself.
async fn deed_as_read(transactions: &Transactions, chunk: Chunk) -> Result<Option<DeedDocument>, TransactionError> {
    as_read(transactions, &deed::key(chunk), is_deed_of(chunk)).await
}

/// The same with nothing undecided in it, in one reading if nothing is.
pub(super) async fn deed_settled(
    transactions: &Transactions,
    chunk: Chunk,
) -> Result<Option<DeedDocument>, TransactionError> {
    settled(transactions, &deed::key(chunk), is_deed_of(chunk)).await
}

fn is_deed_of(chunk: Chunk) -> impl Fn(&DeedDocument) -> Result<(), String> {
    move |deed| {
        if deed.chunk() != chunk {
            return Err(format!("it says that it is the deed of chunk {}", deed.chunk()));
        }
        deed.holding.map_or(Ok(()), |id| check_id("a holding", id)).map_err(|refusal| refusal.why)
    }
}

/// A holding as it was last written, if ever, and right in itself.
pub(super) async fn holding_as_read(
    transactions: &Transactions,
    id: ObjectId,
) -> Result<Option<HoldingDocument>, TransactionError> {
    as_read(transactions, &holding::key(id), is_holding(id)).await
}

/// The same with nothing undecided in it, in one reading if nothing is.
pub(super) async fn holding_settled(
    transactions: &Transactions,
    id: ObjectId,
) -> Result<Option<HoldingDocument>, TransactionError> {
    settled(transactions, &holding::key(id), is_holding(id)).await
}

fn is_holding(id: ObjectId) -> impl Fn(&HoldingDocument) -> Result<(), String> {
    move |holding| {
        if holding.id == id { Ok(()) } else { Err(format!("it says that it is holding {}", holding.id)) }
    }
}

/// An object as it was last written, if ever, and right in itself; it may be gone.
pub(super) async fn object_as_read(
    transactions: &Transactions,
    id: ObjectId,
) -> Result<Option<ObjectDocument>, TransactionError> {
    as_read(transactions, &object::key(id), is_object(id)).await
}

/// The same with nothing undecided in it, in one reading if nothing is.
pub(super) async fn object_settled(
    transactions: &Transactions,
    id: ObjectId,
) -> Result<Option<ObjectDocument>, TransactionError> {
    settled(transactions, &object::key(id), is_object(id)).await
}

fn is_object(id: ObjectId) -> impl Fn(&ObjectDocument) -> Result<(), String> {
    move |object| {
        if object.id == id { Ok(()) } else { Err(format!("it says that it is object {}", object.id)) }
    }
}

async fn as_read<D: Document>(
    transactions: &Transactions,
    key: &str,
    check: impl Fn(&D) -> Result<(), String>,
) -> Result<Option<D>, TransactionError> {
    let Some(kept) = peek::<D>(&**transactions.store(), key).await? else { return Ok(None) };
    checked(key, kept.document, check).map(Some)
}

async fn settled<D: Document>(
    transactions: &Transactions,
    key: &str,
    check: impl Fn(&D) -> Result<(), String>,
) -> Result<Option<D>, TransactionError> {
    let Some(stored) = transactions.settled(key).await? else { return Ok(None) };
    let (document, _) = decode(key, &stored.value)?;
    checked(key, document, check).map(Some)
}

fn checked<D>(key: &str, document: D, check: impl Fn(&D) -> Result<(), String>) -> Result<D, TransactionError> {
    match check(&document) {
        Ok(()) => Ok(document),
        Err(reason) => Err(DocumentError::Malformed { key: key.to_owned(), reason }.into()),
    }
}

/// The bounded surveys of one operation.
pub(super) struct Surveys {
    left: u32,
}

impl Surveys {
    pub(super) fn new() -> Surveys {
        Surveys { left: SURVEYS }
    }

    /// After a run of the transaction: nothing to survey again, or the answer for the caller.
    pub(super) fn after(&mut self, result: Result<(), TransactionError>) -> Option<Result<(), TransactionError>> {
        let changed = matches!(&result, Err(TransactionError::Refused(refusal)) if refusal.code == codes::CHANGED);
        if !changed || self.left == 0 {
            return Some(result);
        }
        self.left -= 1;
        None
    }
}
