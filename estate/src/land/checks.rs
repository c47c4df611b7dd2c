//! What must hold between all land documents of a store when nothing is under way: for tests, in plain words.
//!
//! Written apart from the operations and from the audit, on purpose: it looks at whole documents and NEVER at how they came
//! about.

use std::collections::{BTreeMap, BTreeSet};

use cartographer::geometry::{Chunk, ObjectId, Tile};

use super::deed::{self, DeedDocument, Stand};
use super::footprint::tile_in_chunk;
use super::holding::{self, HoldingDocument};
use super::nature::{self, Nature};
use super::object::{self, ObjectDocument};
use super::{Grounds, HOLDING_CHUNKS};
use crate::document::{Document, decode};
use crate::store::Stored;
use crate::transaction::arbiter::LedgerDocument;

/// Everything that is wrong between deeds, objects, holdings and ledgers; nothing if all is well.
///
/// Every tile of every object is that object's by its deed and the other way round; what else stands is as the terrain package
/// says or was restored; every chunk of a holding is pointed to by its deed; no intent and no ledger entry is left.
pub fn disagreements(documents: &BTreeMap<String, Stored>, grounds: &dyn Grounds) -> Vec<String> {
    let mut wrong = Vec::new();
    let deeds: Vec<DeedDocument> = all(documents, &mut wrong);
    let objects: Vec<ObjectDocument> = all(documents, &mut wrong);
    let holdings: Vec<HoldingDocument> = all(documents, &mut wrong);
    let ledgers: Vec<LedgerDocument> = all(documents, &mut wrong);
    let mut by_deeds: BTreeMap<ObjectId, BTreeSet<(u32, Tile)>> = BTreeMap::new();
    let mut pointers: BTreeMap<Chunk, ObjectId> = BTreeMap::new();
    for deed in &deeds {
        let key = deed::key(deed.chunk());
        if !documents.contains_key(&key) {
            wrong.push(format!("the deed of chunk {} lies under another key", deed.chunk()));
        }
        if let Some(intent) = &deed.marks.intent {
            wrong.push(format!("{key} is held by {intent:?}"));
        }
        pointers.extend(deed.holding.map(|holding| (deed.chunk(), holding)));
        for (index, stand) in &deed.stands {
            let Some(tile) = tile_in_chunk(deed.chunk(), *index) else { continue };
            if !grounds.buildable(deed.island, tile) && grounds.natural(deed.island, tile) == 0 {
                wrong.push(format!("{stand} stands on tile {tile} where nothing can"));
            }
            if let Stand::Object(id) = stand {
                by_deeds.entry(*id).or_default().insert((deed.island.0, tile));
            }
        }
    }
    for object in &objects {
        let key = object::key(object.id);
        if let Some(intent) = &object.marks.intent {
            wrong.push(format!("{key} is held by {intent:?}"));
        }
        let own = if object.stands() {
            object.footprint.tiles().map(|tile| (object.island.0, tile)).collect()
        } else {
            BTreeSet::new()
        };
        if object.kind == nature::SORT && (Nature::of(object).is_none() || own.len() != 1) {
            wrong.push(format!("{key} is no natural object: {:?} on {own:?}", object.data));
        }
        let told = by_deeds.remove(&object.id).unwrap_or_default();
        if own != told {
            wrong.push(format!("{key} stands on {own:?}, but by the deeds on {told:?}"));
        }
    }
    wrong.extend(by_deeds.iter().map(|(id, tiles)| format!("there is no object {id} on {tiles:?}")));
    for holding in &holdings {
        let key = holding::key(holding.id);
        if let Some(intent) = &holding.marks.intent {
            wrong.push(format!("{key} is held by {intent:?}"));
        }
        if holding.chunks.len() > HOLDING_CHUNKS {
            wrong.push(format!("{key} has {} chunks", holding.chunks.len()));
        }
        for (x, y) in &holding.chunks {
            let chunk = Chunk { island: holding.island, x: *x, y: *y };
            if pointers.get(&chunk) != Some(&holding.id) {
                wrong.push(format!("{key} lists chunk {chunk}, whose deed points to {:?}", pointers.get(&chunk)));
            }
        }
    }
    let entries: usize = ledgers.iter().map(|ledger| ledger.entries.len()).sum();
    if entries > 0 {
        wrong.push(format!("{entries} entries are left in ledgers"));
    }
    wrong
}

/// All documents of a kind.
fn all<D: Document>(documents: &BTreeMap<String, Stored>, wrong: &mut Vec<String>) -> Vec<D> {
    let prefix = format!("{}/", D::KIND);
    let mut found = Vec::new();
    for (key, stored) in documents.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)) {
        match decode::<D>(key, &stored.value) {
            Ok((document, _)) => found.push(document),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    found
}
