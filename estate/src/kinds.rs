//! All kinds of documents of the estate, in one place: for transactions, audits and rehearsals.

use std::sync::Arc;

use crate::account::AccountDocument;
use crate::document::{Rehearsal, rehearse};
use crate::goods::container::{BoxDocument, GroundDocument};
use crate::goods::mint::MintDocument;
use crate::goods::promise::PromiseDocument;
use crate::goods::trade::TradeDocument;
use crate::goods::{self};
use crate::land::{self, DeedDocument, Grounds, HoldingDocument, ObjectDocument};
use crate::party::{self, MemberDocument, PartyDocument};
use crate::player::PlayerDocument;
use crate::post::PostDocument;
use crate::store::{Store, StoreError};
use crate::transaction::Kinds;
use crate::transaction::arbiter::{LedgerDocument, OperationDocument, TransferDocument};

/// The kinds that take part in transactions: players, containers, mints, trades, promises, deeds, objects, holdings,
/// parties and their members.
pub fn all(grounds: Arc<dyn Grounds>) -> Kinds {
    party::kinds(land::kinds(goods::kinds(Kinds::default()), grounds))
}

/// Rehearses the migrations of every kind: reads all documents as the game would, without writing. `progress` is told the
/// kind and how many of it have been read.
pub async fn rehearse_all(
    store: &dyn Store,
    progress: &mut (dyn FnMut(&'static str, u64) + Send),
) -> Result<Vec<(&'static str, Rehearsal)>, StoreError> {
    let mut found = Vec::new();
    macro_rules! each {
        ($($document:ty),+ $(,)?) => {$(
            let kind = <$document as crate::document::Document>::KIND;
            found.push((kind, rehearse::<$document>(store, &mut |read| progress(kind, read)).await?));
        )+};
    }
    each!(
        AccountDocument,
        PlayerDocument,
        PostDocument,
        BoxDocument,
        GroundDocument,
        MintDocument,
        TradeDocument,
        PromiseDocument,
        DeedDocument,
        ObjectDocument,
        HoldingDocument,
        PartyDocument,
        MemberDocument,
        TransferDocument,
        LedgerDocument,
        OperationDocument,
    );
    Ok(found)
}
