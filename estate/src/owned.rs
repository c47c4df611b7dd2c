//! Documents with owners: how one becomes the owner of an epoch, writes, lets go, and learns that another has taken over.
//!
//! Shared by players and posts. A claim swaps the claimant in as the owner of the next epoch; every write of the owner
//! counts, so that one whose reply was lost recognises itself by owner and count. Nothing here judges whether an owner is
//! gone, and nothing here EVER writes over another owner's document.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::document::{Attempts, Document, DocumentError, Kept, encode, peek};
use crate::store::{Outcome, Store, Version, WriteOptions};

/// Who holds a document, since which claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node's name.
    pub node: String,
    /// The node's life.
    pub incarnation: u64,
    /// The epoch that it owns.
    pub epoch: u64,
    /// The token of the claim, unique within the node's life.
    pub claim: u64,
}

/// Who wants a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The node's name.
    pub node: String,
    /// The node's life.
    pub incarnation: u64,
    /// A number that no other claim of this node's life uses (random bits, or a counter). By it a claim whose reply was
    /// lost recognises itself; repeating a claim with the same number repeats the same claim.
    pub claim: u64,
}

impl Owner {
    /// True if this is the very claim of `me`.
    fn is(&self, me: &Claimant) -> bool {
        self.lives_with(me) && self.claim == me.claim
    }

    /// True if this is an owner of the same life of the same node.
    pub fn lives_with(&self, me: &Claimant) -> bool {
        self.node == me.node && self.incarnation == me.incarnation
    }
}

/// Says whether an owner is gone for good.
///
/// A claim asks *after* it has read the document, and then swaps against what it has read: an owner that was thought dead, comes
/// back and writes is not robbed by a judgement of before. So the answer MUST rest on nothing older than the question, and an
/// owner that may have been thought dead MUST write before it acts again.
#[async_trait]
pub trait Gone: Send + Sync {
    /// Whether this owner's life has surely ended.
    async fn is_gone(&self, owner: &Owner) -> bool;
}

/// One who knows without asking.
#[async_trait]
impl<F: Fn(&Owner) -> bool + Send + Sync> Gone for F {
    async fn is_gone(&self, owner: &Owner) -> bool {
        self(owner)
    }
}

/// An owner for messages to people.
pub(crate) fn named(owner: &Option<Owner>) -> String {
    owner.as_ref().map_or("nobody known".to_owned(), |owner| format!("{} (epoch {})", owner.node, owner.epoch))
}

/// Who holds a document, and how often it was claimed and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenure {
    pub(crate) owner: Option<Owner>,
    pub(crate) epoch: u64,
    pub(crate) writes: u64,
}

/// A kind of document that has owners.
pub(crate) trait Owned: Document {
    /// Its tenure as it stands.
    fn tenure(&self) -> Tenure;

    /// Changes the tenure.
    fn hold(&mut self, tenure: Tenure);

    /// The epoch of the last owner, if that did not let go of the document; else 0.
    fn abandoned(&self) -> u64 {
        self.tenure().owner.map_or(0, |owner| owner.epoch)
    }

    /// Whether this document, which nobody owns and whose epoch is that of `owner`, can be as `owner` left it. Only where
    /// documents expire do epochs begin anew, and may another have had the same one.
    fn left_by(&self, owner: &Owner) -> bool {
        let _ = owner;
        true
    }
}

/// What an owner knows of its document's place in the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hold {
    pub(crate) version: Version,
    pub(crate) owner: Owner,
    /// Released or fenced: nothing can be written any more.
    pub(crate) over: bool,
}

/// What became of a claim.
pub(crate) enum Claimed<D> {
    /// It is the claimant's now. The number is that of whoever held it last and did not let go; 0 if nobody did, or if that is
    /// not known any more.
    Yours(D, Hold, u64),
    HeldBy(Owner),
    /// `admits` says no to the document as it is.
    NotAdmitted(D),
    Missing,
}

/// Why an owner's write failed.
pub(crate) enum Lost {
    /// Somebody else owns the document now, or nobody does.
    Fenced(Option<Owner>),
    /// Still owned as far as anybody knows.
    Document(DocumentError),
}

impl<E: Into<DocumentError>> From<E> for Lost {
    fn from(error: E) -> Lost {
        Lost::Document(error.into())
    }
}

/// Makes `me` the owner of a document, if nobody holds it, or a former claim of the same life of the same node does, or
/// `gone` says that its owner is gone for good. `born` makes one that is missing, if it may be made. `admits` judges the
/// document before anything else; it may change what the claim writes, and is not asked
/// about a claim that is there already.
pub(crate) async fn claim<D: Owned>(
    store: &dyn Store,
    key: &str,
    me: &Claimant,
    gone: &dyn Gone,
    born: impl Fn() -> Option<D> + Send + Sync,
    admits: impl Fn(&mut D) -> bool + Send + Sync,
    options: WriteOptions,
) -> Result<Claimed<D>, DocumentError> {
    let mut attempts = Attempts::new();
    loop {
        let (mut document, version) = match peek::<D>(store, key).await {
            Ok(Some(Kept { document, version })) => (document, Some(version)),
            Ok(None) => match born() {
                Some(document) => (document, None),
                None => return Ok(Claimed::Missing),
            },
            Err(error) => {
                attempts.after_reading(error).await?;
                continue;
            }
        };
        let tenure = document.tenure();
        if let (Some(owner), Some(version)) = (&tenure.owner, version)
            && owner.is(me)
        {
            let hold = Hold { version, owner: owner.clone(), over: false };
            return Ok(Claimed::Yours(document, hold, 0));
        }
        let other = tenure.owner.filter(|owner| !owner.lives_with(me));
        let is_gone = match &other {
            Some(owner) => gone.is_gone(owner).await,
            None => false,
        };
        if !admits(&mut document) {
            return Ok(Claimed::NotAdmitted(document));
        }
        let abandoned = document.abandoned();
        if let Some(owner) = other.filter(|_| !is_gone && !planted::is("claim_without_asking")) {
            return Ok(Claimed::HeldBy(owner));
        }
        let epoch = tenure.epoch + u64::from(!planted::is("epoch_not_raised"));
        let owner = Owner { node: me.node.clone(), incarnation: me.incarnation, epoch, claim: me.claim };
        document.hold(Tenure { owner: Some(owner.clone()), epoch, writes: tenure.writes + 1 });
        let value = encode(&document)?;
        let written = match version {
            Some(version) => store.replace(key, value, version, options).await,
            None => store.insert(key, value, options).await,
        };
        match written {
            Ok(version) => return Ok(Claimed::Yours(document, Hold { version, owner, over: false }, abandoned)),
            Err(error) if planted::is("ambiguous_claim_failed") && error.outcome() == Outcome::Maybe => {
                return Err(error.into());
            }
            Err(error) => attempts.after(error).await?,
        }
    }
}

/// Writes an owned document until it is surely there, or surely somebody else's; `keeps` says whether it stays owned. An
/// error other than [`Lost::Fenced`] leaves it owned and unwritten, or written without anybody knowing: writing again is
/// right in both cases.
pub(crate) async fn write<D: Owned>(
    store: &dyn Store,
    key: &str,
    document: &mut D,
    hold: &mut Hold,
    keeps: bool,
    options: WriteOptions,
) -> Result<(), Lost> {
    if hold.over {
        return Err(Lost::Fenced(None));
    }
    let owner = keeps.then(|| hold.owner.clone());
    let writes = document.tenure().writes + 1;
    let wanted = Tenure { owner, epoch: hold.owner.epoch, writes };
    document.hold(wanted.clone());
    let value = encode(document)?;
    let mut attempts = Attempts::new();
    loop {
        match store.replace(key, value.clone(), hold.version, options).await {
            Ok(version) => {
                hold.version = version;
                return Ok(());
            }
            Err(error) if planted::is("ambiguous_write_done") && error.outcome() == Outcome::Maybe => return Ok(()),
            Err(error) => attempts.after(error).await?,
        }
        let present = match peek::<D>(store, key).await {
            Ok(present) => present,
            // Only another owner can have written what this program does not know.
            Err(DocumentError::Newer { .. }) => None,
            Err(error) => {
                attempts.after_reading(error).await?;
                continue;
            }
        };
        match standing(hold, &wanted, present.as_ref().map(|kept| &kept.document)) {
            Standing::Written => {
                hold.version = present.map_or(hold.version, |kept| kept.version);
                return Ok(());
            }
            Standing::Owned => hold.version = present.map_or(hold.version, |kept| kept.version),
            Standing::Fenced(_) if planted::is("no_fencing") => {
                hold.version = present.map_or(hold.version, |kept| kept.version)
            }
            Standing::Fenced(by) => {
                hold.over = true;
                return Err(Lost::Fenced(by));
            }
        }
    }
}

enum Standing {
    /// The write is there.
    Written,
    /// It is not, but the document is still this owner's.
    Owned,
    /// The document is not this owner's.
    Fenced(Option<Owner>),
}

/// Tells from the document as it is now what became of the write of `wanted` by the owner of `hold`.
fn standing<D: Owned>(hold: &Hold, wanted: &Tenure, present: Option<&D>) -> Standing {
    let Some(present) = present else { return Standing::Fenced(None) };
    let now = present.tenure();
    // Every claim raises the epoch, so nobody else has held it since; without an owner it is as a release of ours left it
    // whose reply was lost.
    let ours = now.epoch == hold.owner.epoch
        && now.owner.as_ref().map_or_else(|| present.left_by(&hold.owner), |owner| *owner == hold.owner);
    match ours {
        true if now == *wanted => Standing::Written,
        true => Standing::Owned,
        false => Standing::Fenced(now.owner),
    }
}
