//! Repairs that any reader might make: settling transactions, and clearing from a deed what does not exist.

use super::Rule;
use super::rules::{About, Doubt};
use crate::document::peek;
use crate::land::deed::{DeedAct, DeedEffect};
use crate::land::{DeedDocument, DeedKind, Stand};
use crate::transaction::{OperationId, Part, Request, TransactionError, Transactions};

/// Tries to mend what `doubt` is about; false if nothing here can. Whether it helped is seen by looking again.
pub(super) async fn repair(transactions: &Transactions, doubt: &Doubt) -> bool {
    let done = match (doubt.rule, doubt.about) {
        (Rule::Intent, _) => transactions.settle(&doubt.key).await,
        (Rule::Transfer, About::Operation(op)) => transactions.happened(op, None).await.map(drop),
        (Rule::Ledger | Rule::Operation, _) => transactions.settle_ledger(&doubt.key).await,
        (Rule::Deed, About::Object(object)) => {
            let deed = peek::<DeedDocument>(&**transactions.store(), &doubt.key).await;
            let stands = deed.ok().flatten().map(|kept| kept.document.stands).unwrap_or_default();
            let its = |stand: &Stand| *stand == Stand::Object(object);
            let tiles = stands.into_iter().filter(|(_, stand)| its(stand)).map(|(tile, _)| tile).collect();
            alone(transactions, &doubt.key, DeedAct::Vacate { object, tiles }).await
        }
        _ => return false,
    };
    if let Err(error) = done {
        tracing::warn!(key = doubt.key, %error, "could not be repaired");
    }
    true
}

async fn alone(transactions: &Transactions, key: &str, act: DeedAct) -> Result<(), TransactionError> {
    let op = OperationId(u128::from(transactions.token()) << 64 | u128::from(transactions.token()));
    let effect = DeedEffect { acts: vec![act] };
    transactions.run(Request::transfer(op, vec![Part::new::<DeedKind>(key, &effect)])).await
}
