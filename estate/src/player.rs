//! Player documents and their owners: one owner per epoch, whatever fails in between.
//!
//! A node that wants a player [`claim`]s its document: it swaps itself in as the owner of the next epoch. From then on
//! only it writes ([`save`]), until its last save [`release`]s. An owner whose save finds another owner was *fenced* and
//! drops the player at once. With the player its *seat* is claimed, in the same write: the one session that may come back to
//! it, wherever its client comes back to. Whether a former owner is gone is the caller's knowledge (the directory's); this module
//! NEVER judges that by time, and NEVER takes from a living owner.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{Attempts, Document, DocumentError, Kept, Migration, encode, peek};
use crate::goods::{Goods, Page};
use crate::owned::{self, Hold, Lost, Owned, Tenure, named};
use crate::store::{Ack, Store, StoreError, WriteOptions};
use crate::transaction::Marks;

mod seat;

mod steps;

pub use crate::owned::{Claimant, Gone, Owner};
pub use seat::{Seat, Seating, Unseated};
pub use steps::{PlayerKind, take};

/// The health of a player who lacks nothing, in percent.
pub const WELL: u8 = 100;

/// A player's character.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The player's object id, below 2^53.
    pub id: u64,
    /// The account it belongs to, by the account's lower-case name.
    pub account: String,
    /// The name that others see.
    pub name: String,
    /// The colour, in degrees from 0 to 359.
    pub hue: u16,
    /// Who holds it.
    pub owner: Option<Owner>,
    /// Raised by every claim, and by every write of a transaction while nobody holds it: what an owner wrote last is only
    /// its own as long as this stays.
    pub epoch: u64,
    /// How often it has been written: with the owner, the token by which a write recognises itself.
    pub writes: u64,
    /// The island it is on.
    pub island: u32,
    /// Where, in 1/256 tile from the island's left edge.
    pub x: i32,
    /// Where, in 1/256 tile from the island's top edge.
    pub y: i32,
    /// How well it is, in percent. Written by its owner, as places are.
    pub health: u8,
    /// The stable island to which it is brought home. Written by its owner.
    pub home: u32,
    /// The lowest number of an act that is still taken from its clients. Written by its owner.
    pub floor: u64,
    /// No act from `floor` on was asked for before this, in seconds since 1970; 0 if that is not known. Written by its owner:
    /// by this the next one knows whether what became of those acts is still remembered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub floor_s: u64,
    /// What it carries. Changed by transactions only.
    pub bag: Goods,
    /// What it has made and used up. Changed by transactions only.
    pub page: Page,
    /// The id of the last promise that was kept. Changed by transactions only.
    pub kept: u64,
    /// What it has learnt.
    pub experience: u64,
    /// The session that may come back. Written by its owner, and by claims.
    pub seat: Seat,
    /// The epoch under which it was claimed and not released since, whoever has written it then; 0 if it was released.
    pub held: u64,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for PlayerDocument {
    const KIND: &'static str = "player";
    const VERSION: u32 = 4;
    const MIGRATIONS: &'static [Migration] = &[with_goods, with_a_life, with_a_seat];

    fn v(&self) -> u32 {
        self.v
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// To version 2: a player has a bag, a page, promises and experience, all of them empty.
fn with_goods(fields: &mut Map<String, Value>) -> Result<(), String> {
    let empty = || Value::Object(Map::new());
    add(fields, 1, [("bag", empty()), ("page", empty()), ("kept", 0.into()), ("experience", 0.into())])
}

/// To version 3: a player is well, at home where it is, and no act of its clients is too old.
fn with_a_life(fields: &mut Map<String, Value>) -> Result<(), String> {
    let island = fields.get("island").cloned().ok_or("it is on no island")?;
    add(fields, 2, [("health", WELL.into()), ("home", island), ("floor", 0.into())])
}

/// To version 4: nobody sits in the player's seat. Who owned it then left no word of how it let go.
fn with_a_seat(fields: &mut Map<String, Value>) -> Result<(), String> {
    let empty = serde_json::json!({"session": "", "turn": 0, "until_s": 0});
    add(fields, 3, [("seat", empty), ("held", 0.into())])
}

/// Adds fields that a document of version `from` does not know.
fn add<const N: usize>(fields: &mut Map<String, Value>, from: u32, fresh: [(&str, Value); N]) -> Result<(), String> {
    for (name, value) in fresh {
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(format!("it has a field {name:?} already, which version {from} does not know"));
        }
    }
    Ok(())
}

impl Owned for PlayerDocument {
    fn tenure(&self) -> Tenure {
        Tenure { owner: self.owner.clone(), epoch: self.epoch, writes: self.writes }
    }

    fn abandoned(&self) -> u64 {
        self.owner.as_ref().map_or(self.held, |owner| owner.epoch)
    }

    fn hold(&mut self, tenure: Tenure) {
        self.held = tenure.owner.as_ref().map_or(0, |owner| owner.epoch);
        Tenure { owner: self.owner, epoch: self.epoch, writes: self.writes } = tenure;
    }
}

/// Where a player comes into the world, and what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The colour, in degrees from 0 to 359.
    pub hue: u16,
    /// The island.
    pub island: u32,
    /// Where, in 1/256 tile from the island's left edge.
    pub x: i32,
    /// Where, in 1/256 tile from the island's top edge.
    pub y: i32,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is yours.
    Claimed(Box<Claimed>),
    /// Somebody who is not gone holds it.
    HeldBy(Owner),
    /// The seat cannot be taken so, whoever holds the player.
    Unseated(Unseated),
    /// There is no such player.
    Missing,
}

/// A player that this node owns: the document as last saved, and as it is to be saved next.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The document. Change it and [`save`]; `owner`, `epoch` and `writes` are kept by this module.
    pub document: PlayerDocument,
    hold: Hold,
    abandoned: u64,
    /// Memory has what a step did and the store may not: see [`take`].
    unsaved: bool,
}

impl Claimed {
    /// The owner: this node, with the epoch that it owns.
    pub fn owner(&self) -> &Owner {
        &self.hold.owner
    }

    /// The epoch that this node owns.
    pub fn epoch(&self) -> u64 {
        self.hold.owner.epoch
    }

    /// The epoch of the owner from whom it was taken over, which had not released it: what it had not saved is in nobody's
    /// document. 0 if there was none, or the claim's own reply was lost.
    pub fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// True once it was released or fenced: nothing can be saved any more.
    pub fn over(&self) -> bool {
        self.hold.over
    }

    /// The document as it is in memory was written, and answered as surely as `ack` says.
    fn saved(&mut self, ack: Ack) {
        self.unsaved &= ack != Ack::Durable;
    }
}

/// Why a player could not be made or saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlayerError {
    /// The id belongs to a player of another account: draw another.
    #[error("player id {0} is taken")]
    IdTaken(u64),
    /// Somebody else owns the document now, or nobody does: drop the real at once. What was to be saved is lost, unless it
    /// was the write of a [`release`] whose reply was lost before the next owner's claim.
    #[error("fenced: player {id} is no longer owned here, but by {}", named(by))]
    Fenced {
        /// The player.
        id: u64,
        /// The present owner, if there is one and this program can read it.
        by: Option<Owner>,
    },
    /// The store's or the document's. The player is still owned as far as anybody knows; save again later.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<StoreError> for PlayerError {
    fn from(error: StoreError) -> PlayerError {
        PlayerError::Document(DocumentError::Store(error))
    }
}

/// The key of a player's document.
pub fn key(id: u64) -> String {
    format!("player/{id}")
}

/// A player id from random bits: from 1 to 2^53 - 1, so that every client language's number holds it. Whether it is free
/// is decided by [`create`].
pub fn id_from_random(bits: u64) -> u64 {
    (bits & ((1 << 53) - 1)).max(1)
}

/// Reads a player as last saved.
pub async fn find(store: &dyn Store, id: u64) -> Result<Option<Kept<PlayerDocument>>, DocumentError> {
    peek(store, &key(id)).await
}

/// Makes a player. Repeating it with the same id and account gives the player that is there.
pub async fn create(
    store: &dyn Store,
    id: u64,
    account: &str,
    name: &str,
    birth: &Birth,
) -> Result<Kept<PlayerDocument>, PlayerError> {
    let document = PlayerDocument {
        v: PlayerDocument::VERSION,
        id,
        account: account.to_owned(),
        name: name.to_owned(),
        hue: birth.hue,
        owner: None,
        epoch: 0,
        writes: 0,
        island: birth.island,
        x: birth.x,
        y: birth.y,
        health: WELL,
        home: birth.island,
        floor: 0,
        floor_s: 0,
        bag: Goods::default(),
        page: Page::default(),
        kept: 0,
        experience: 0,
        seat: Seat::default(),
        held: 0,
        marks: Marks::default(),
        rest: Map::new(),
    };
    let (key, value) = (key(id), encode(&document)?);
    let mut attempts = Attempts::new();
    loop {
        match store.insert(&key, value.clone(), WriteOptions::default()).await {
            Ok(version) => return Ok(Kept { document, version }),
            Err(error) => attempts.after(error).await?,
        }
        match peek::<PlayerDocument>(store, &key).await {
            Ok(Some(kept)) if kept.document.account == account => return Ok(kept),
            Ok(Some(_)) => return Err(PlayerError::IdTaken(id)),
            Ok(None) => {}
            Err(error) => attempts.after_reading(error).await?,
        }
    }
}

/// Makes `me` the owner of a player, if nobody holds it or `gone` says that its owner is gone for good.
///
/// The claim swaps in `me` with the next epoch. If its reply was lost it finds itself already the owner and acts as
/// such. A former claim of the same life of the same node is taken over like that of a dead one (and fenced): a flow
/// that died half-way must not lock the player. So a node MUST ask its own sessions before it claims.
///
/// `seating` says for which session; it is judged first and written with the claim.
pub async fn claim(
    store: &dyn Store,
    id: u64,
    me: &Claimant,
    seating: &Seating,
    gone: &dyn Gone,
) -> Result<Claim, DocumentError> {
    let admits = |document: &mut PlayerDocument| seating.take(&mut document.seat).is_ok();
    Ok(match owned::claim(store, &key(id), me, gone, || None, admits, WriteOptions::default()).await? {
        owned::Claimed::Yours(document, hold, abandoned) => {
            Claim::Claimed(Box::new(Claimed { document, hold, abandoned, unsaved: false }))
        }
        owned::Claimed::HeldBy(owner) => Claim::HeldBy(owner),
        owned::Claimed::NotAdmitted(mut document) => {
            Claim::Unseated(seating.take(&mut document.seat).err().unwrap_or(Unseated::Ended))
        }
        owned::Claimed::Missing => Claim::Missing,
    })
}

/// Saves an owned player.
///
/// [`PlayerError::Fenced`] means that another owns it: it is over. Any other error leaves it owned and unsaved, or saved
/// without anybody knowing: saving again is right in both cases.
pub async fn save(store: &dyn Store, claimed: &mut Claimed, ack: Ack) -> Result<(), PlayerError> {
    write(store, claimed, true, ack).await
}

/// Saves an owned player for the last time and gives it up. After an error other than [`PlayerError::Fenced`] it may be
/// repeated.
pub async fn release(store: &dyn Store, claimed: &mut Claimed) -> Result<(), PlayerError> {
    write(store, claimed, false, Ack::Durable).await?;
    claimed.hold.over = true;
    Ok(())
}

async fn write(store: &dyn Store, claimed: &mut Claimed, keeps: bool, ack: Ack) -> Result<(), PlayerError> {
    let Claimed { document, hold, .. } = claimed;
    let (id, options) = (document.id, WriteOptions { ack, ..WriteOptions::default() });
    owned::write(store, &key(id), document, hold, keeps, options).await.map_err(|lost| match lost {
        Lost::Fenced(by) => PlayerError::Fenced { id, by },
        Lost::Document(error) => error.into(),
    })?;
    claimed.saved(ack);
    Ok(())
}

#[cfg(test)]
mod tests;
