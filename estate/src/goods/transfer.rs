//! Moving goods between documents, in one leg or many, all or nothing.
//!
//! Legs are merged to one part for each document. All that leaves a place MUST be there before; what comes from the mint is
//! created, what goes to it destroyed. A player's own page books what the player makes or uses, so that gathering, crafting
//! and paying are changes of one document. A transfer NEVER moves half of its legs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Goods, GoodsEffect, Place, UNIQUE_BYTES};
use crate::transaction::{OperationId, Part, Refusal, Request, TransactionError, Transactions};

/// The most stacks and uniques that one transfer moves, over all legs.
pub const MOVED_MOST: usize = 256;

// Both ends of each leg, and its booking, lie in the arbiter's document.
const _: () = assert!(MOVED_MOST * 3 * (UNIQUE_BYTES + 256) <= crate::store::VALUE_BYTES);

/// Goods that go from one place to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// Where they are.
    pub from: Place,
    /// Where they go.
    pub to: Place,
    /// What goes. Uniques from the mint MUST have serials of the transfer's own operation.
    pub goods: Goods,
}

/// Moves goods. `Ok` means that all legs are done, durably; a refusal that none is: `too_little`, `changed` (a unique is not
/// as named), `full`, `missing` (no such player or box), `overflow`, `taken`, `malformed`.
pub async fn transfer(transactions: &Transactions, op: OperationId, legs: &[Leg]) -> Result<(), TransactionError> {
    let parts = parts(op, legs)?;
    transactions.run(Request::transfer(op, parts)).await
}

/// The parts of a transfer, one for each document, for transactions that do more than move goods.
pub fn parts(op: OperationId, legs: &[Leg]) -> Result<Vec<Part>, Refusal> {
    check(op, legs)?;
    let mut effects = BTreeMap::<Place, GoodsEffect>::new();
    for Leg { from, to, goods } in legs {
        if *from == Place::Mint {
            // Players book by themselves.
            let book = if let Place::Player(_) = to { *to } else { Place::Mint };
            effects.entry(book).or_default().create.add(goods)?;
        } else {
            effects.entry(*from).or_default().take.add(goods)?;
        }
        if *to == Place::Mint {
            let book = if let Place::Player(_) = from { *from } else { Place::Mint };
            effects.entry(book).or_default().destroy.add(goods)?;
        } else {
            effects.entry(*to).or_default().put.add(goods)?;
        }
    }
    Ok(effects.iter().map(|(place, effect)| place.part(op, effect)).collect())
}

fn check(op: OperationId, legs: &[Leg]) -> Result<(), Refusal> {
    let malformed = |why: String| Err(Refusal::new("malformed", why));
    let moved: usize = legs.iter().map(|leg| leg.goods.entries()).sum();
    if legs.is_empty() || legs.iter().any(|leg| leg.goods.is_empty()) {
        return malformed("a transfer of nothing".to_owned());
    }
    if moved > MOVED_MOST {
        return malformed(format!("a transfer of {moved} stacks and uniques; the bound is {MOVED_MOST}"));
    }
    for leg in legs {
        if leg.from == Place::Mint && leg.to == Place::Mint {
            return malformed("a leg from the mint to the mint".to_owned());
        }
        if leg.from == Place::Mint {
            check_serials(op, &leg.goods)?;
        }
    }
    Ok(())
}

/// Refuses to create uniques whose serials are not of the operation that creates them.
pub(super) fn check_serials(op: OperationId, goods: &Goods) -> Result<(), Refusal> {
    match goods.uniques.keys().find(|serial| serial.op != op) {
        Some(serial) => {
            Err(Refusal::new("malformed", format!("serial {serial} is not of operation {op}, which is to create it")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
