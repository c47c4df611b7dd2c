//! Where goods come from and go to: pages on which every creation and destruction is booked.
//!
//! A page lies in every player's document, so that gathering and crafting is one compare-and-swap, and in the mint's
//! shards for what comes into the world without a player. Over all pages and documents, what was created less what was
//! destroyed is what is held. A page NEVER forgets: numbers on it only grow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Goods, GoodsEffect, ItemName};
use crate::document::{Document, Migration};
use crate::transaction::{Kind, Marks, OperationId, Refusal};

/// How many documents the mint is spread over.
pub const SHARDS: u64 = 64;

/// The most kinds of items that one page books.
pub const ITEMS_MOST: usize = 1_024;

/// What one page has booked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// Counted items that came into the world.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub created: BTreeMap<ItemName, u64>,
    /// Counted items that left it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub destroyed: BTreeMap<ItemName, u64>,
    /// Unique items.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub uniques: BTreeMap<ItemName, UniquePage>,
}

/// What one page has booked of one unique item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UniquePage {
    /// How many came into the world.
    pub created: u64,
    /// How many left it.
    pub destroyed: u64,
    /// The wrapping sum of [`super::Serial::hash`] over those created, less that over those destroyed.
    pub sum: u64,
}

impl Page {
    /// True if nothing was ever booked.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.destroyed.is_empty() && self.uniques.is_empty()
    }

    /// Books what comes into the world and what leaves it, or refuses with `overflow` or, for too many kinds of items,
    /// `full`.
    pub fn book(&mut self, create: &Goods, destroy: &Goods) -> Result<(), Refusal> {
        for (goods, page) in [(create, &mut self.created), (destroy, &mut self.destroyed)] {
            for (item, count) in goods.stacks.iter().filter(|(_, count)| **count > 0) {
                let booked = page.entry(item.clone()).or_default();
                *booked = booked.checked_add(*count).ok_or_else(|| overflow(item))?;
            }
        }
        for (serial, unique) in &create.uniques {
            let page = self.uniques.entry(unique.item.clone()).or_default();
            page.created = page.created.checked_add(1).ok_or_else(|| overflow(&unique.item))?;
            page.sum = page.sum.wrapping_add(serial.hash());
        }
        for (serial, unique) in &destroy.uniques {
            let page = self.uniques.entry(unique.item.clone()).or_default();
            page.destroyed = page.destroyed.checked_add(1).ok_or_else(|| overflow(&unique.item))?;
            page.sum = page.sum.wrapping_sub(serial.hash());
        }
        let most = self.created.len().max(self.destroyed.len()).max(self.uniques.len());
        if most > ITEMS_MOST {
            return Err(Refusal::new("full", format!("a page books at most {ITEMS_MOST} kinds of items")));
        }
        Ok(())
    }
}

fn overflow(item: &ItemName) -> Refusal {
    Refusal::new("overflow", format!("no number holds all {item} that there have been"))
}

/// One shard of the mint, under `mint/SHARD`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MintDocument {
    /// The version of the document's form.
    pub v: u32,
    /// What was booked here.
    pub page: Page,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for MintDocument {
    const KIND: &'static str = "mint";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// The key of the shard that books what `op` creates or destroys without a player.
pub fn key(op: OperationId) -> String {
    // The remainder is below SHARDS.
    format!("mint/{}", (op.0 % u128::from(SHARDS)) as u64)
}

/// Shards of the mint in transactions.
#[derive(Clone, Copy, Debug)]
pub struct MintKind;

impl Kind for MintKind {
    type Document = MintDocument;
    type Effect = GoodsEffect;

    fn born(&self, key: &str) -> Result<MintDocument, Refusal> {
        if !(0..SHARDS).any(|shard| key == format!("mint/{shard}")) {
            return Err(Refusal::new("malformed", format!("the mint has no shard {key}")));
        }
        Ok(MintDocument { v: MintDocument::VERSION, page: Page::default(), marks: Marks::default(), rest: Map::new() })
    }

    fn marks<'a>(&self, document: &'a mut MintDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut MintDocument, effect: &GoodsEffect) -> Result<(), Refusal> {
        let GoodsEffect { create, destroy, .. } = effect;
        let booking = GoodsEffect { create: create.clone(), destroy: destroy.clone(), ..GoodsEffect::default() };
        if *effect != booking {
            return Err(Refusal::new("malformed", "the mint only creates and destroys"));
        }
        document.page.book(create, destroy)
    }

    fn is_blank(&self, _key: &str, document: &MintDocument) -> bool {
        document.page.is_empty() && document.rest.is_empty()
    }
}
