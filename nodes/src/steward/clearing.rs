//! Takes away what is left of an island that has sunk: its habitats' sleep, and what stands on its land.
//!
//! Whatever is done here may be done again: a steward that dies half-way leaves the rest to the next one. A document that a
//! living node still looks after is NEVER taken from it: then clearing fails, and is tried again later.

use std::sync::Arc;

use cartographer::terrain::Terrain;
use estate::document::DocumentError;
use estate::land::ending;
use estate::post::{self, Gone, PostDocument};
use estate::store::{Store, StoreError, WriteOptions};
use estate::transaction::{TransactionError, Transactions};

use crate::game::grounds::Terrains;
use crate::owners::MeshOwners;

/// Why an island could not be cleared.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// The store's or a document's.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The land could not be gone through.
    #[error(transparent)]
    Land(#[from] TransactionError),
    /// Something still stands there.
    #[error("{count} documents of the land are left: {why}")]
    Left {
        /// How many.
        count: u64,
        /// Why, for the first of them.
        why: String,
    },
    /// Somebody still looks after it.
    #[error("{node} still looks after {key}")]
    Held {
        /// What.
        key: String,
        /// Who.
        node: String,
    },
}

impl From<StoreError> for ClearError {
    fn from(error: StoreError) -> ClearError {
        ClearError::Document(error.into())
    }
}

/// Clears the documents of this island. What lay in boxes is promised to those who built them.
pub async fn clear(
    estate: &Arc<Transactions>,
    grounds: &Terrains,
    owners: &MeshOwners,
    terrain: &Terrain,
) -> Result<(), ClearError> {
    let cleared = ending::clear(estate, grounds, terrain.id(), &mut |_| ()).await?;
    if cleared.left > 0 {
        let why = cleared.reasons.into_iter().next().unwrap_or_default();
        return Err(ClearError::Left { count: cleared.left, why });
    }
    let store = &**estate.store();
    for index in 0..terrain.habitats().len() {
        clear_post(store, owners, &post::key("habitat", &format!("{}.{index}", terrain.id()))).await?;
    }
    Ok(())
}

async fn clear_post(store: &dyn Store, owners: &MeshOwners, key: &str) -> Result<(), ClearError> {
    let Some(kept) = estate::document::peek::<PostDocument>(store, key).await? else { return Ok(()) };
    if let Some(owner) = kept.document.owner
        && !owners.is_gone(&owner).await
    {
        return Err(ClearError::Held { key: key.to_owned(), node: owner.node });
    }
    match store.remove(key, kept.version, WriteOptions::default()).await {
        Ok(()) | Err(StoreError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
