//! The end of an island: what lies in boxes goes to those who built them, what stands is taken down, what was claimed is free.
//!
//! [`clear`] walks the documents of one island, which a scan finds by their keys, and ends each of them by transactions
//! that are right by themselves: goods leave a box together with the promise that holds them, a box goes with the object
//! around it. So whoever dies half-way, or does it at the same time, loses and doubles nothing, and the next one goes on. It
//! NEVER waits for the game: nobody may build there any more when it is called for the last time.

use std::collections::{BTreeMap, BTreeSet};

use cartographer::geometry::{Chunk, IslandId, ObjectId};

use super::deed::{self, DeedAct, DeedDocument, DeedEffect, DeedKind, Stand};
use super::survey::deed_settled;
use super::{By, Grounds, claims, codes, object, works};
use crate::document::{Document, DocumentError};
use crate::goods::container::GroundDocument;
use crate::goods::promise::{self, QUEUE_MOST, What};
use crate::goods::{BAG, BoxKind, Goods, GoodsEffect, GroundKind, Leg, Place, transfer};
use crate::store::SCAN_LIMIT;
use crate::transaction::arbiter::LedgerDocument;
use crate::transaction::{OperationId, Part, TransactionError, Transactions};

/// How often one document is looked at again because others change it meanwhile.
const LOOKS: usize = 16;

/// The most steps in which one container is emptied: more than promises fit one player's queue.
const EMPTYINGS: usize = QUEUE_MOST + LOOKS;

/// How often all is gone through: what a dead driver holds at first is free at the second time.
const PASSES: usize = 2;

/// The most reasons that are told for what was left; the others are only counted.
pub const REASONS: usize = 20;

/// What the clearing of an island came to. What two stewards do at the same time, both may count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Objects that were taken down.
    pub objects: u64,
    /// Deeds that are as by nature again.
    pub deeds: u64,
    /// Chunks that holdings have given up.
    pub chunks: u64,
    /// Promises into which the content of boxes went.
    pub promised: u64,
    /// Items that nobody could be promised.
    pub destroyed: u64,
    /// Documents that could not be ended. Unless there are none, clear again later.
    pub left: u64,
    /// Why, for the first [`REASONS`] of them.
    pub reasons: Vec<String>,
}

/// Ends everything that players have left on an island. `progress` is told after every chunk. To be repeated until nothing is
/// left, and once more when nobody can build there any more.
///
/// Goods in boxes are promised to whoever built the box; where that is nobody, or too many promises wait already, they are
/// destroyed and booked so, as is what lies on the ground.
///
/// # Errors
/// The store's. What keeps one document from being ended is told in [`Cleared`].
pub async fn clear(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    island: IslandId,
    progress: &mut (dyn FnMut(&Cleared) + Send),
) -> Result<Cleared, TransactionError> {
    let mut ending = Ending { transactions, terrain: grounds, island, cleared: Cleared::default() };
    for _ in 0..PASSES {
        (ending.cleared.left, ending.cleared.reasons) = (0, Vec::new());
        ending.deeds(progress).await?;
        ending.grounds(progress).await?;
        ending.ledgers().await?;
        if ending.cleared.left == 0 {
            break;
        }
    }
    Ok(ending.cleared)
}

struct Ending<'a> {
    transactions: &'a Transactions,
    terrain: &'a dyn Grounds,
    island: IslandId,
    cleared: Cleared,
}

impl Ending<'_> {
    async fn deeds(&mut self, progress: &mut (dyn FnMut(&Cleared) + Send)) -> Result<(), TransactionError> {
        let prefix = format!("{}/{}/", DeedDocument::KIND, self.island);
        let mut after = None;
        while let Some(keys) = self.page(&prefix, &mut after).await? {
            // What lies under a key that is none is the audit's to tell.
            for chunk in keys.iter().filter_map(|key| deed::chunk_of(key)) {
                self.chunk(chunk).await?;
                progress(&self.cleared);
            }
        }
        Ok(())
    }

    /// What lies on the ground was given up by whoever dropped it.
    async fn grounds(&mut self, progress: &mut (dyn FnMut(&Cleared) + Send)) -> Result<(), TransactionError> {
        let prefix = format!("{}/{}/", GroundDocument::KIND, self.island);
        let mut after = None;
        while let Some(keys) = self.page(&prefix, &mut after).await? {
            for key in keys {
                // Both kinds are numbered alike.
                let chunk = deed::chunk_of(&key.replacen(GroundDocument::KIND, DeedDocument::KIND, 1));
                let Some(Chunk { x, y, .. }) = chunk else { continue };
                let emptied = self.empty(Place::Ground { island: self.island.0, x, y }, None).await;
                self.note(&key, emptied)?;
                progress(&self.cleared);
            }
        }
        Ok(())
    }

    /// Whoever died half-way may have taken an object down, and not yet the box in it: then only the ledger
    /// knows.
    async fn ledgers(&mut self) -> Result<(), TransactionError> {
        let prefix = format!("{}/{}/", LedgerDocument::KIND, self.island);
        let mut after = None;
        while let Some(keys) = self.page(&prefix, &mut after).await? {
            for key in keys {
                let settled = self.transactions.settle_ledger(&key).await;
                self.note(&key, settled)?;
            }
        }
        Ok(())
    }

    /// The next keys that start with `prefix`; nothing after the last.
    async fn page(&self, prefix: &str, after: &mut Option<String>) -> Result<Option<Vec<String>>, TransactionError> {
        let page = self.transactions.store().scan(prefix, after.as_deref(), SCAN_LIMIT).await?;
        let keys: Vec<String> = page.into_iter().map(|(key, _)| key).collect();
        let Some(last) = keys.last() else { return Ok(None) };
        *after = Some(last.clone());
        Ok(Some(keys))
    }

    /// What keeps one document from being ended is counted, and the others go on; only the store's own errors end it all.
    fn note(&mut self, key: &str, result: Result<(), TransactionError>) -> Result<(), TransactionError> {
        match result {
            Ok(()) => Ok(()),
            Err(error @ TransactionError::Document(DocumentError::Store(_))) => Err(error),
            Err(error) => {
                self.cleared.left += 1;
                if self.cleared.reasons.len() < REASONS {
                    self.cleared.reasons.push(format!("{key}: {error}"));
                }
                Ok(())
            }
        }
    }

    async fn chunk(&mut self, chunk: Chunk) -> Result<(), TransactionError> {
        let key = deed::key(chunk);
        let deed = self.deed(chunk).await;
        let objects = deed.as_ref().map(objects_in).unwrap_or_default();
        if let Err(error) = deed {
            return self.note(&key, Err(error));
        }
        for id in objects {
            let ended = self.object(id).await;
            self.note(&object::key(id), ended)?;
        }
        let freed = self.free(chunk).await;
        self.note(&key, freed)?;
        let restored = self.restore(chunk).await;
        self.note(&key, restored)
    }

    /// A chunk's deed, with nothing undecided in it; one of nothing where there is none.
    async fn deed(&self, chunk: Chunk) -> Result<Option<DeedDocument>, TransactionError> {
        deed_settled(self.transactions, chunk).await
    }

    /// Takes an object down, after what lies in it has gone to whoever built it.
    async fn object(&mut self, id: ObjectId) -> Result<(), TransactionError> {
        let place = Place::Box(id.0);
        let op = OperationId::derived(&("end of an island: object", self.island, id));
        for _ in 0..LOOKS {
            let object = works::object(self.transactions, id).await?;
            // One that is not here has no claim to these tiles: they go with the deed.
            let Some(object) = object.filter(|object| object.island == self.island) else { return Ok(()) };
            let builder = Some(object.builder.0).filter(|builder| *builder != 0);
            self.empty(place, builder).await?;
            let boxed = self.transactions.read(&BoxKind, &place.key(op)).await?.is_some();
            let close = boxed.then(|| place.part(op, &GoodsEffect::close()));
            match works::demolish(self.transactions, op, By::World, id, close.as_slice()).await {
                Ok(()) => {
                    self.cleared.objects += 1;
                    return Ok(());
                }
                // Somebody has put something in; or was faster, which the next look tells.
                Err(error) if is_refused(&error, &["not_empty"]) => {}
                Err(error) if is_refused(&error, &[codes::MISSING]) => {
                    if works::object(self.transactions, id).await?.is_some() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(TransactionError::Busy(object::key(id)))
    }

    /// Empties a container: into promises to a player, as long as they fit, and out of the world otherwise.
    async fn empty(&mut self, place: Place, to: Option<u64>) -> Result<(), TransactionError> {
        let (mut to, mut before, mut again) = (to, Goods::default(), 0_u32);
        for _ in 0..EMPTYINGS {
            let goods = self.goods(place).await?;
            if goods.is_empty() {
                return Ok(());
            }
            // The id follows from what is there, so that two stewards do one thing; the same goods put there again are
            // another thing.
            again = if goods == before { again + 1 } else { 0 };
            let op = OperationId::derived(&("end of an island: goods", place, to, &goods, again));
            let moved = match to {
                Some(player) => {
                    let given = What::Goods(bagful(&goods));
                    let given = promise::give(self.transactions, op, place, player, given).await;
                    given.map(|_| self.cleared.promised += 1)
                }
                None => {
                    let legs = [Leg { from: place, to: Place::Mint, goods: goods.clone() }];
                    let destroyed = transfer(self.transactions, op, &legs).await;
                    destroyed.map(|()| self.cleared.destroyed += items(&goods))
                }
            };
            before = goods;
            match moved {
                Err(error) if to.is_some() && is_refused(&error, &["full", "missing"]) => to = None,
                // It has changed since it was read.
                Err(error) if is_refused(&error, &["too_little", "changed"]) => {}
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
        Err(TransactionError::Busy(place.key(OperationId(0))))
    }

    async fn goods(&self, place: Place) -> Result<Goods, TransactionError> {
        let key = place.key(OperationId(0));
        let container = match place {
            Place::Box(_) => self.transactions.read(&BoxKind, &key).await?.map(|kept| kept.document.0),
            _ => self.transactions.read(&GroundKind, &key).await?.map(|kept| kept.document.0),
        };
        Ok(container.map(|container| container.goods).unwrap_or_default())
    }

    /// Has the holding that lists a chunk give it up.
    async fn free(&mut self, chunk: Chunk) -> Result<(), TransactionError> {
        for look in 0..LOOKS {
            let Some(holding) = claims::whose(self.transactions, chunk).await? else { return Ok(()) };
            let (id, by) = (holding.id, holding.owner);
            let op = OperationId::derived(&("end of an island: chunk", chunk, id, by, holding.since_s, look));
            match claims::give_up(self.transactions, op, by, id, chunk, &[]).await {
                Ok(()) => self.cleared.chunks += 1,
                // Given up or given away since it was read.
                Err(error) if is_refused(&error, &[codes::MISSING, codes::OWNED, codes::CHANGED]) => {}
                Err(error) => return Err(error),
            }
        }
        Err(TransactionError::Busy(deed::key(chunk)))
    }

    /// Makes a deed what the terrain package says; then it goes by itself. What still stands, and whose land it still is, was
    /// told before and stays.
    async fn restore(&mut self, chunk: Chunk) -> Result<(), TransactionError> {
        let key = deed::key(chunk);
        let native = deed::naturals(self.terrain, chunk);
        for _ in 0..LOOKS {
            let Some(deed) = self.deed(chunk).await? else { return Ok(()) };
            let mut standing = BTreeSet::new();
            for id in objects_in(&Some(deed.clone())) {
                let object = works::object(self.transactions, id).await?;
                standing.extend(object.filter(|object| object.island == self.island).map(|object| object.id));
            }
            let held = claims::whose(self.transactions, chunk).await?.is_some();
            let acts = undo(&deed, &native, &standing, held);
            if acts.is_empty() {
                return Ok(());
            }
            let op = OperationId::derived(&("end of an island: deed", chunk, &acts));
            // What is undone already is refused.
            match self.transactions.run_guarded(op, &Part::new::<DeedKind>(&key, &DeedEffect { acts })).await {
                Ok(()) => self.cleared.deeds += 1,
                Err(TransactionError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(TransactionError::Busy(key))
    }
}

/// What makes a deed that of the terrain package again, but for objects that stand and for a holding that has the chunk.
fn undo(deed: &DeedDocument, native: &BTreeMap<u8, Stand>, standing: &BTreeSet<ObjectId>, held: bool) -> Vec<DeedAct> {
    let mut acts = Vec::new();
    let mut gone: BTreeMap<ObjectId, Vec<u8>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (tile, stand) in deed.stands.iter().filter(|(tile, stand)| native.get(tile) != Some(stand)) {
        match stand {
            Stand::Natural(natural) => acts.push(DeedAct::Clear { tile: *tile, natural: *natural }),
            Stand::Object(id) if standing.contains(id) => drop(taken.insert(*tile)),
            Stand::Object(id) => gone.entry(*id).or_default().push(*tile),
        }
    }
    acts.extend(gone.into_iter().map(|(object, tiles)| DeedAct::Vacate { object, tiles }));
    for (tile, stand) in native.iter().filter(|(tile, stand)| deed.stands.get(tile) != Some(stand)) {
        if let Stand::Natural(natural) = stand
            && !taken.contains(tile)
        {
            acts.push(DeedAct::Restore { tile: *tile, natural: *natural });
        }
    }
    if deed.holding.is_some() && !held {
        acts.push(DeedAct::Point { expected: deed.holding, to: None });
    }
    acts
}

fn objects_in(deed: &Option<DeedDocument>) -> BTreeSet<ObjectId> {
    let stands = deed.iter().flat_map(|deed| deed.stands.values());
    let object = |stand: &Stand| if let Stand::Object(id) = stand { Some(*id) } else { None };
    stands.filter_map(object).collect()
}

/// As much of goods as one bag holds: a promise of more could never be kept.
fn bagful(goods: &Goods) -> Goods {
    let mut bag = Goods::default();
    let mut slots = u64::from(BAG.slots);
    for (serial, unique) in goods.uniques.iter().take(BAG.slots as usize) {
        bag.uniques.insert(*serial, unique.clone());
        slots -= 1;
    }
    for (item, count) in &goods.stacks {
        let some = (*count).min(slots * BAG.per_stack);
        if some > 0 {
            bag.stacks.insert(item.clone(), some);
            slots -= some.div_ceil(BAG.per_stack);
        }
    }
    bag
}

/// How many items there are, whatever they are.
fn items(goods: &Goods) -> u64 {
    goods.stacks.values().fold(goods.uniques.len() as u64, |sum, count| sum.saturating_add(*count))
}

fn is_refused(error: &TransactionError, words: &[&str]) -> bool {
    matches!(error, TransactionError::Refused(refusal) if words.contains(&refusal.code.as_str()))
}

#[cfg(test)]
mod tests;
