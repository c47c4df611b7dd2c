//! Taking land, paying for it, giving it up and away.
//!
//! The holding is the truth; a deed's pointer is changed with it where one chunk is won or given up, and left behind where
//! a whole holding goes (whoever next comes by clears it). What is not paid for stays its owner's until somebody else
//! claims it: it is NEVER taken by time alone.

use cartographer::geometry::{Chunk, ObjectId};

use super::deed::{DeedAct, DeedEffect, DeedKind};
use super::footprint::tile_in_chunk;
use super::holding::{HoldingDocument, HoldingEffect, HoldingKind, PAID_MOST_S};
use super::survey::{Surveys, deed_settled, holding_settled, pointer};
use super::{GRACE_S, Grounds, check_id, codes, deed, holding, ledger};
use crate::transaction::{OperationId, Part, Refusal, Request, TransactionError, Transactions};

/// A chunk to be claimed as the first of a new holding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The new holding's number: drawn at random, and the same when it is asked for again.
    pub holding: ObjectId,
    /// The chunk.
    pub chunk: Chunk,
    /// The player who claims it.
    pub owner: ObjectId,
    /// Now, in seconds since 1970.
    pub now_s: u64,
    /// Until when it is paid for.
    pub paid_until_s: u64,
}

/// A chunk to be added to a holding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The holding.
    pub holding: ObjectId,
    /// The chunk.
    pub chunk: Chunk,
    /// The player whose the holding is.
    pub by: ObjectId,
    /// Now, in seconds since 1970.
    pub now_s: u64,
}

/// Claims a chunk that is nobody's, or whose holding was paid for until more than [`GRACE_S`] before now: as the first of a
/// new holding. What stands there stays.
///
/// Refused: [`codes::OUTSIDE`] the island, all [`codes::WATER`], [`codes::OWNED`] by anybody (the claimant too),
/// [`codes::TAKEN`] holding id, and as `costs` are.
pub async fn claim(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    claim: &Claim,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let Claim { holding, chunk, owner, now_s, paid_until_s } = *claim;
    check_id("a holding", holding)?;
    check_id("a player", owner)?;
    check_chunk(grounds, chunk)?;
    if paid_until_s.max(now_s) > PAID_MOST_S {
        return Err(Refusal::new(codes::MALFORMED, format!("times go up to second {PAID_MOST_S}")).into());
    }
    let found = HoldingEffect::Found { owner, chunk, since_s: now_s, paid_until_s };
    take(transactions, op, holding, &found, chunk, now_s, costs, &("claim", holding, chunk, owner)).await
}

/// Adds a chunk to a holding that touches one of its sides, under the conditions of [`claim`].
///
/// Refused besides: [`codes::MISSING`], [`codes::OWNED`] (the holding is not `by`'s), [`codes::NOT_ADJACENT`],
/// [`codes::TOO_LARGE`] (it has [`super::HOLDING_CHUNKS`] already), [`codes::UNPAID`].
pub async fn extend(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    extension: &Extension,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let Extension { holding, chunk, by, now_s } = *extension;
    check_id("a holding", holding)?;
    check_id("a player", by)?;
    check_chunk(grounds, chunk)?;
    let grow = HoldingEffect::Extend { by, chunk, unpaid_before_s: now_s.saturating_sub(GRACE_S) };
    take(transactions, op, holding, &grow, chunk, now_s, costs, &("extend", holding, chunk, by)).await
}

/// Lets a holding gain a chunk: its own part, the deed's, and that of the holding to which the deed points now.
#[allow(clippy::too_many_arguments)] // each is a plain value that two callers have at hand
async fn take(
    transactions: &Transactions,
    op: OperationId,
    holding: ObjectId,
    effect: &HoldingEffect,
    chunk: Chunk,
    now_s: u64,
    costs: &[Part],
    asked: &(impl serde::Serialize + Sync),
) -> Result<(), TransactionError> {
    let mut surveys = Surveys::new();
    loop {
        let expected = pointer(transactions, chunk).await?;
        let acts = vec![DeedAct::Point { expected, to: Some(holding) }];
        let mut parts = vec![
            Part::new::<DeedKind>(deed::key(chunk), &DeedEffect { acts }),
            Part::new::<HoldingKind>(holding::key(holding), effect),
        ];
        if let Some(other) = expected.filter(|other| *other != holding) {
            let yielded = HoldingEffect::Yield { chunk, unpaid_before_s: now_s.saturating_sub(GRACE_S) };
            parts.push(Part::new::<HoldingKind>(holding::key(other), &yielded));
        }
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger::key_of_chunk(chunk), parts).asked(asked);
        if let Some(answer) = surveys.after(transactions.run(request).await) {
            return answer;
        }
    }
}

/// Gives up one chunk of a holding; what is left of it may then lie apart. With its last chunk the holding goes.
///
/// Refused: [`codes::MISSING`] (holding or chunk), [`codes::OWNED`], and as `costs` are.
pub async fn give_up(
    transactions: &Transactions,
    op: OperationId,
    by: ObjectId,
    holding: ObjectId,
    chunk: Chunk,
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_id("a holding", holding)?;
    check_id("a player", by)?;
    let asked = ("give up", holding, chunk, by);
    let mut surveys = Surveys::new();
    loop {
        let expected = pointer(transactions, chunk).await?;
        let to = expected.filter(|other| *other != holding);
        let acts = vec![DeedAct::Point { expected, to }];
        let mut parts = vec![
            Part::new::<DeedKind>(deed::key(chunk), &DeedEffect { acts }),
            Part::new::<HoldingKind>(holding::key(holding), &HoldingEffect::GiveUp { by, chunk }),
        ];
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger::key_of_chunk(chunk), parts).asked(&asked);
        if let Some(answer) = surveys.after(transactions.run(request).await) {
            return answer;
        }
    }
}

/// Gives up a whole holding. Without `costs` this is one compare-and-swap, however large it is.
///
/// Refused: [`codes::MISSING`], [`codes::OWNED`], and as `costs` are.
pub async fn give_up_all(
    transactions: &Transactions,
    op: OperationId,
    by: ObjectId,
    holding: ObjectId,
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_id("a player", by)?;
    let asked = ("give up all", holding, by);
    on_holding(transactions, op, holding, &HoldingEffect::GiveUpAll { by }, costs, &asked).await
}

/// Gives a holding to another player, with all that stands on it; with `costs` it may be a sale.
///
/// Refused: [`codes::MISSING`], [`codes::OWNED`], and as `costs` are. Whether the other wants it is the game's to ask.
pub async fn give_away(
    transactions: &Transactions,
    op: OperationId,
    by: ObjectId,
    holding: ObjectId,
    to: ObjectId,
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_id("a player", by)?;
    check_id("a player", to)?;
    let asked = ("give away", holding, by, to);
    on_holding(transactions, op, holding, &HoldingEffect::GiveAway { by, to }, costs, &asked).await
}

/// Pays for a holding: `seconds` more, counted from now if it was paid for until some time before. Anybody may, and the
/// owner even after [`GRACE_S`], as long as nobody has claimed the land.
///
/// Refused: [`codes::MISSING`], [`codes::TOO_LARGE`] (beyond [`PAID_MOST_S`]), and as `costs` are.
pub async fn pay(
    transactions: &Transactions,
    op: OperationId,
    holding: ObjectId,
    now_s: u64,
    seconds: u64,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let asked = ("pay", holding, seconds);
    on_holding(transactions, op, holding, &HoldingEffect::Pay { now_s, seconds }, costs, &asked).await
}

async fn on_holding(
    transactions: &Transactions,
    op: OperationId,
    holding: ObjectId,
    effect: &HoldingEffect,
    costs: &[Part],
    asked: &(impl serde::Serialize + Sync),
) -> Result<(), TransactionError> {
    check_id("a holding", holding)?;
    let mut parts = vec![Part::new::<HoldingKind>(holding::key(holding), effect)];
    parts.extend_from_slice(costs);
    transactions.run(Request::transfer(op, parts).asked(asked)).await
}

/// A holding, with nothing undecided about it; nothing if it has no chunks (any more).
pub async fn holding(transactions: &Transactions, id: ObjectId) -> Result<Option<HoldingDocument>, TransactionError> {
    check_id("a holding", id)?;
    Ok(holding_settled(transactions, id).await?.filter(|holding| !holding.chunks.is_empty()))
}

/// The holding to which a chunk belongs, with nothing undecided about it; nothing if it is free land.
pub async fn whose(transactions: &Transactions, chunk: Chunk) -> Result<Option<HoldingDocument>, TransactionError> {
    let deed = deed_settled(transactions, chunk).await?;
    let Some(id) = deed.and_then(|deed| deed.holding) else { return Ok(None) };
    Ok(holding(transactions, id).await?.filter(|holding| holding.lists(chunk)))
}

/// Checks that a chunk lies on its island and that something can stand somewhere in it.
fn check_chunk(grounds: &dyn Grounds, chunk: Chunk) -> Result<(), Refusal> {
    deed::born(grounds, chunk)?;
    let mut tiles = (0..=u8::MAX).filter_map(|index| tile_in_chunk(chunk, index));
    if !tiles.any(|tile| grounds.buildable(chunk.island, tile)) {
        return Err(Refusal::new(codes::WATER, format!("nothing can stand anywhere in chunk {chunk}")));
    }
    Ok(())
}
