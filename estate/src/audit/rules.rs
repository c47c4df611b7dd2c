//! What one document must keep, by itself and together with those that it names.
//!
//! A rule broken is only a [`Doubt`]: on a store in use the other document may just be on its way. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};

use cartographer::geometry::{Chunk, ObjectId};

use super::Rule;
use crate::account::AccountDocument;
use crate::document::{Document, DocumentError, decode, peek};
use crate::goods::promise::PromiseDocument;
use crate::land::{DeedDocument, HoldingDocument, ObjectDocument, Stand, deed, holding, object};
use crate::party::{self, MemberDocument, PartyDocument};
use crate::player::{self, PlayerDocument};
use crate::post::PostDocument;
use crate::store::{Store, StoreError};
use crate::transaction::arbiter::{
    Entry, LedgerDocument, OperationDocument, State, TransferDocument, is_transfer, look, operation_key,
};
use crate::transaction::{Intent, OperationId, Transactions};

/// Something that is wrong with a document, or is being changed just now.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) key: String,
    pub(super) rule: Rule,
    pub(super) text: String,
    /// The attempt that stands in the way, if the rule is about one.
    pub(super) token: Option<u64>,
    /// What the rule is about within the document.
    pub(super) about: About,
}

/// What a rule is about within a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The document as a whole.
    All,
    /// An operation in a ledger, or that of a transfer.
    Operation(OperationId),
    /// An object in a deed.
    Object(ObjectId),
    /// A chunk of an object or holding.
    Chunk(Chunk),
    /// A member of a party.
    Player(u64),
}

impl Doubt {
    /// True if this is what `other` was about.
    pub(super) fn is(&self, other: &Doubt) -> bool {
        (self.rule, self.token, self.about) == (other.rule, other.token, other.about)
    }
}

/// The doubts about one document.
struct Doubts<'a> {
    store: &'a dyn Store,
    key: &'a str,
    found: Vec<Doubt>,
    stale_pointers: u64,
}

impl Doubts<'_> {
    fn add(&mut self, rule: Rule, about: About, text: impl Into<String>) {
        self.found.push(Doubt { key: self.key.to_owned(), rule, text: text.into(), token: None, about });
    }

    fn add_attempt(&mut self, rule: Rule, op: OperationId, token: u64, text: impl Into<String>) {
        let (key, about) = (self.key.to_owned(), About::Operation(op));
        self.found.push(Doubt { key, rule, text: text.into(), token: Some(token), about });
    }
}

/// Checks one document: its doubts, and how many of its pointers are stale. An error is the store's.
pub(super) async fn check(
    transactions: &Transactions,
    key: &str,
    value: &[u8],
) -> Result<(Vec<Doubt>, u64), StoreError> {
    let mut doubts = Doubts { store: &**transactions.store(), key, found: Vec::new(), stale_pointers: 0 };
    match doubts.check(transactions, value).await {
        Ok(()) => {}
        Err(DocumentError::Store(error)) => return Err(error),
        // Of another document: told when its turn comes. Of this one: told now.
        Err(error) if error.key() == Some(key) => doubts.add(Rule::Readable, About::All, error.to_string()),
        Err(_) => {}
    }
    Ok((doubts.found, doubts.stale_pointers))
}

impl Doubts<'_> {
    async fn check(&mut self, transactions: &Transactions, value: &[u8]) -> Result<(), DocumentError> {
        let key = self.key;
        match key.split('/').next().unwrap_or(key) {
            AccountDocument::KIND => drop(decode::<AccountDocument>(key, value)?),
            PostDocument::KIND => drop(decode::<PostDocument>(key, value)?),
            TransferDocument::KIND => self.transfer(&decode::<TransferDocument>(key, value)?.0.entry),
            LedgerDocument::KIND => self.ledger(&decode::<LedgerDocument>(key, value)?.0).await?,
            OperationDocument::KIND => drop(decode::<OperationDocument>(key, value)?),
            kind if transactions.kinds().is_beside(kind) => {}
            kind => {
                let Ok(participant) = transactions.kinds().of(key) else {
                    self.add(Rule::Known, About::All, format!("documents of kind {kind} are unknown to this program"));
                    return Ok(());
                };
                if let Some(intent) = participant.head(key, value)?.marks.intent {
                    self.intent(&intent).await?;
                }
                match kind {
                    PlayerDocument::KIND => self.named(key == player::key(decode::<PlayerDocument>(key, value)?.0.id)),
                    PromiseDocument::KIND => self.promises(&decode::<PromiseDocument>(key, value)?.0),
                    DeedDocument::KIND => self.deed(&decode::<DeedDocument>(key, value)?.0).await?,
                    ObjectDocument::KIND => self.object(&decode::<ObjectDocument>(key, value)?.0).await?,
                    HoldingDocument::KIND => self.holding(&decode::<HoldingDocument>(key, value)?.0).await?,
                    PartyDocument::KIND => self.party(&decode::<PartyDocument>(key, value)?.0).await?,
                    MemberDocument::KIND => self.member(&decode::<MemberDocument>(key, value)?.0).await?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn named(&mut self, well: bool) {
        if !well {
            self.add(Rule::Readable, About::All, "the document is not the one that its key names");
        }
    }

    fn transfer(&mut self, entry: &Entry) {
        let op = self.key.strip_prefix("transfer/").and_then(|op| op.parse().ok());
        let Some(op) = op else { return self.named(false) };
        match entry.state {
            State::Pending => self.add_attempt(Rule::Transfer, op, entry.token, "a transfer is left undecided"),
            State::Committed => self.add_attempt(Rule::Transfer, op, entry.token, "a transfer is left unfinished"),
            State::Aborted | State::Done => {}
        }
    }

    async fn ledger(&mut self, ledger: &LedgerDocument) -> Result<(), DocumentError> {
        for (op, entry) in &ledger.entries {
            let how = if entry.state == State::Pending { "undecided" } else { "unfinished" };
            self.add_attempt(Rule::Ledger, *op, entry.token, format!("operation {op} is left {how}"));
            let remembered = peek::<OperationDocument>(self.store, &operation_key(*op)).await?.is_some();
            if remembered && entry.state == State::Pending {
                let text = format!("operation {op} is remembered as done, but still to be decided");
                self.add_attempt(Rule::Operation, *op, entry.token, text);
            }
        }
        Ok(())
    }

    async fn intent(&mut self, intent: &Intent) -> Result<(), DocumentError> {
        let entry = match look(self.store, &intent.arbiter, intent.op).await {
            Ok(entry) => entry.filter(|entry| entry.token == intent.token),
            Err(DocumentError::Store(error)) if !matches!(error, StoreError::Invalid(_)) => return Err(error.into()),
            // What names itself no arbiter holds its document for ever: nobody can tell what became of it.
            Err(error) => {
                let text = format!("held by operation {} in {:?}: {error}", intent.op, intent.arbiter);
                self.add_attempt(Rule::Intent, intent.op, intent.token, text);
                return Ok(());
            }
        };
        let kind = if is_transfer(&intent.arbiter) { "transfer" } else { "entry" };
        let text = match entry.map(|entry| entry.state) {
            Some(State::Pending) => {
                format!("held by operation {} in {}, which is undecided", intent.op, intent.arbiter)
            }
            Some(State::Committed) => format!("operation {} has happened and is not applied here", intent.op),
            Some(State::Aborted) => format!("operation {} was aborted, but its intent stands", intent.op),
            Some(State::Done) => format!("operation {} is closed, but its intent stands", intent.op),
            None => {
                format!("an intent names operation {} in {}, where there is no such {kind}", intent.op, intent.arbiter)
            }
        };
        self.add_attempt(Rule::Intent, intent.op, intent.token, text);
        Ok(())
    }

    fn promises(&mut self, promises: &PromiseDocument) {
        let ids: Vec<u64> = promises.queue.iter().map(|promised| promised.id).collect();
        if !ids.is_sorted_by(|a, b| a < b) || ids.last().is_some_and(|last| *last >= promises.next) {
            self.add(Rule::Promise, About::All, format!("promises out of order: {ids:?}, next {}", promises.next));
        }
        let ops: BTreeSet<OperationId> = promises.queue.iter().map(|promised| promised.op).collect();
        if ops.len() < ids.len() {
            self.add(Rule::Promise, About::All, "one operation stands twice in the queue");
        }
    }

    async fn deed(&mut self, document: &DeedDocument) -> Result<(), DocumentError> {
        let chunk = document.chunk();
        self.named(deed::key(chunk) == self.key);
        let mut objects: BTreeMap<ObjectId, Vec<u8>> = BTreeMap::new();
        for (tile, stand) in &document.stands {
            if let Stand::Object(id) = stand {
                objects.entry(*id).or_default().push(*tile);
            }
        }
        for (id, tiles) in objects {
            let object = peek::<ObjectDocument>(self.store, &object::key(id)).await?.map(|kept| kept.document);
            if object.as_ref().is_some_and(|object| object.marks.intent.is_some()) {
                // It is just being built or taken down: told as an intent, if that lasts.
                continue;
            }
            let Some(object) = object.filter(ObjectDocument::stands) else {
                let text = format!("object {id} stands on {} tiles and does not exist", tiles.len());
                self.add(Rule::Deed, About::Object(id), text);
                continue;
            };
            let own = object.footprint.by_chunk(object.island).remove(&chunk).unwrap_or_default();
            if tiles.iter().any(|tile| !own.contains(tile)) {
                let text = format!("object {id} stands on tiles here that are not its own");
                self.add(Rule::Overlap, About::Object(id), text);
            }
        }
        // Where a pointer leads to a holding that does not list the chunk is free land: giving up a holding leaves it behind.
        if let Some(id) = document.holding {
            let holding = peek::<HoldingDocument>(self.store, &holding::key(id)).await?;
            self.stale_pointers += u64::from(!holding.is_some_and(|kept| kept.document.lists(chunk)));
        }
        Ok(())
    }

    async fn object(&mut self, document: &ObjectDocument) -> Result<(), DocumentError> {
        self.named(object::key(document.id) == self.key);
        if !document.stands() {
            return Ok(());
        }
        for (chunk, tiles) in document.footprint.by_chunk(document.island) {
            let deed = peek::<DeedDocument>(self.store, &deed::key(chunk)).await?;
            let stands = deed.map(|kept| kept.document.stands).unwrap_or_default();
            let missing = tiles.iter().filter(|tile| stands.get(tile) != Some(&Stand::Object(document.id))).count();
            if missing > 0 {
                let text = format!("{missing} of its tiles in {} are not its own there", deed::key(chunk));
                self.add(Rule::Object, About::Chunk(chunk), text);
            }
        }
        Ok(())
    }

    async fn holding(&mut self, document: &HoldingDocument) -> Result<(), DocumentError> {
        self.named(holding::key(document.id) == self.key);
        for (x, y) in &document.chunks {
            let chunk = Chunk { island: document.island, x: *x, y: *y };
            let deed = peek::<DeedDocument>(self.store, &deed::key(chunk)).await?;
            let to = deed.and_then(|kept| kept.document.holding);
            if to != Some(document.id) {
                let named = to.map_or("nowhere".to_owned(), |id| format!("to holding {id}"));
                let text = format!("{} belongs to it and points {named}", deed::key(chunk));
                self.add(Rule::Holding, About::Chunk(chunk), text);
            }
        }
        Ok(())
    }

    async fn party(&mut self, document: &PartyDocument) -> Result<(), DocumentError> {
        self.named(party::key(document.id) == self.key);
        if !document.members.is_empty() && !document.has(document.leader) {
            self.add(Rule::Party, About::All, format!("its leader {} is not in it", document.leader));
        }
        if document.members.iter().collect::<BTreeSet<_>>().len() < document.members.len() {
            self.add(Rule::Party, About::All, format!("somebody is in it twice: {:?}", document.members));
        }
        for player in &document.members {
            let member = peek::<MemberDocument>(self.store, &party::member_key(*player)).await?;
            let told = member.and_then(|kept| kept.document.party);
            if told != Some(document.id) {
                let told = told.map_or("none".to_owned(), |id| format!("party {id}"));
                self.add(Rule::Party, About::Player(*player), format!("its member {player} is told to be in {told}"));
            }
        }
        Ok(())
    }

    async fn member(&mut self, document: &MemberDocument) -> Result<(), DocumentError> {
        self.named(party::member_key(document.player) == self.key);
        let Some(id) = document.party else { return Ok(()) };
        let party = peek::<PartyDocument>(self.store, &party::key(id)).await?;
        if !party.is_some_and(|kept| kept.document.has(document.player)) {
            self.add(Rule::Party, About::All, format!("party {id} does not list the player"));
        }
        Ok(())
    }
}
