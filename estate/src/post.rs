//! Posts: documents that one node at a time looks after, such as a habitat's sleep or a battle's course.
//!
//! A node [`claim`]s a post, which makes it the owner of the next epoch, [`save`]s the state as often as it likes and
//! [`release`]s it in the end. A post that was never kept begins with an empty state. What players' documents promise
//! holds here too: one owner for each epoch, a write whose reply was lost recognises itself, a fenced owner learns it at
//! its next save. A post is no participant of transactions, NEVER holds goods, and NEVER judges who is gone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{Document, DocumentError, Migration, peek};
use crate::owned::{self, Hold, Lost, Owned, Tenure, named};
use crate::store::{Ack, EXPIRY_MIN, Expiry, Store, WriteOptions};

pub use crate::owned::{Claimant, Gone, Owner};

/// A post as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostDocument {
    /// The version of the document's form.
    pub v: u32,
    /// Who looks after it.
    pub owner: Option<Owner>,
    /// Who looked after it last. A post that expired begins with epoch 1 again: by this a former owner of an epoch of the
    /// same number sees that it is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Owner>,
    /// Raised by every claim.
    pub epoch: u64,
    /// How often it has been written.
    pub writes: u64,
    /// Whatever its owners keep there.
    pub state: Map<String, Value>,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for PostDocument {
    const KIND: &'static str = "post";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

impl Owned for PostDocument {
    fn tenure(&self) -> Tenure {
        Tenure { owner: self.owner.clone(), epoch: self.epoch, writes: self.writes }
    }

    fn hold(&mut self, tenure: Tenure) {
        if tenure.owner.is_some() {
            self.last.clone_from(&tenure.owner);
        }
        Tenure { owner: self.owner, epoch: self.epoch, writes: self.writes } = tenure;
    }

    fn left_by(&self, owner: &Owner) -> bool {
        self.last.as_ref() == Some(owner)
    }
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is yours.
    Claimed(Box<Held>),
    /// Somebody who is not gone looks after it.
    HeldBy(Owner),
}

/// A post that this node looks after.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The state as last saved, and as it is to be saved next.
    pub state: Map<String, Value>,
    key: String,
    /// The document as last written, or tried to.
    document: PostDocument,
    hold: Hold,
}

impl Held {
    /// The owner: this node, with the epoch that it owns.
    pub fn owner(&self) -> &Owner {
        &self.hold.owner
    }

    /// The epoch that this node owns.
    pub fn epoch(&self) -> u64 {
        self.hold.owner.epoch
    }

    /// True once it was released or fenced: nothing can be saved any more.
    pub fn over(&self) -> bool {
        self.hold.over
    }

    /// The document's key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Why a post could not be saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Somebody else owns it now, or nobody does: stop looking after it at once. What was to be saved is lost, unless it
    /// was the write of a [`release`] whose reply was lost before the next owner's claim.
    #[error("fenced: {key} is no longer owned here, but by {}", named(by))]
    Fenced {
        /// The post's key.
        key: String,
        /// The present owner, if there is one and this program can read it.
        by: Option<Owner>,
    },
    /// The store's or the document's. The post is still owned as far as anybody knows; save again later.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// The key of a post.
pub fn key(kind: &str, name: &str) -> String {
    format!("post/{kind}/{name}")
}

/// Reads a post as last saved. Never writes.
pub async fn find(store: &dyn Store, key: &str) -> Result<Option<PostDocument>, DocumentError> {
    Ok(peek::<PostDocument>(store, key).await?.map(|kept| kept.document))
}

/// Makes `me` the owner of the post under `key`, if nobody looks after it or `gone` says that its owner is gone for
/// good. One that is missing is made, with an empty state and epoch 1. A claimed post does not expire.
///
/// Repeating a claim with the same number repeats the same claim; a former claim of the same life of the same node is
/// taken over like that of a dead one, so a node MUST ask itself before it claims.
pub async fn claim(store: &dyn Store, key: &str, me: &Claimant, gone: &dyn Gone) -> Result<Claim, DocumentError> {
    let born = || Some(PostDocument { v: PostDocument::VERSION, ..PostDocument::default() });
    Ok(match owned::claim(store, key, me, gone, born, |_| true, lasting(Ack::Durable)).await? {
        owned::Claimed::Yours(mut document, hold, _) => {
            let state = std::mem::take(&mut document.state);
            Claim::Claimed(Box::new(Held { state, key: key.to_owned(), document, hold }))
        }
        owned::Claimed::HeldBy(owner) => Claim::HeldBy(owner),
        // Never so: a missing post is born, and every claimant is admitted.
        owned::Claimed::Missing | owned::Claimed::NotAdmitted(..) => {
            return Err(DocumentError::Malformed { key: key.to_owned(), reason: "it cannot be made".to_owned() });
        }
    })
}

/// Saves a post's state.
///
/// [`PostError::Fenced`] means that another owns it: it is over. Any other error leaves it owned and unsaved, or saved
/// without anybody knowing: saving again is right in both cases.
pub async fn save(store: &dyn Store, held: &mut Held, ack: Ack) -> Result<(), PostError> {
    write(store, held, true, lasting(ack)).await
}

/// Saves a post's state for the last time and gives the post up; `keep` says for how long the document stays then, at
/// least [`EXPIRY_MIN`], or for ever. After an error other than [`PostError::Fenced`] it may be repeated.
pub async fn release(store: &dyn Store, held: &mut Held, keep: Option<Duration>) -> Result<(), PostError> {
    let expiry = keep.map_or(Expiry::Never, |time| Expiry::In(time.max(EXPIRY_MIN)));
    write(store, held, false, WriteOptions { expiry, ack: Ack::Durable }).await?;
    held.hold.over = true;
    Ok(())
}

/// Options of a write by which the post stays owned: it may have been released to expire before.
fn lasting(ack: Ack) -> WriteOptions {
    WriteOptions { expiry: Expiry::Never, ack }
}

async fn write(store: &dyn Store, held: &mut Held, keeps: bool, options: WriteOptions) -> Result<(), PostError> {
    let Held { state, key, document, hold } = held;
    // A copy: whoever drops this call half-way still has the state.
    document.state.clone_from(state);
    owned::write(store, key, document, hold, keeps, options).await.map_err(|lost| match lost {
        Lost::Fenced(by) => PostError::Fenced { key: key.clone(), by },
        Lost::Document(error) => PostError::Document(error),
    })
}

#[cfg(test)]
mod tests;
