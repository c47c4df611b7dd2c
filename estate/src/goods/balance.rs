//! The books over a whole store: per item, what is held against what the pages have booked.
//!
//! A [`Balance`] takes one document at a time and keeps one line per item, however many documents there are. It holds for a
//! store at rest: while a transaction is half applied, goods are under way ([`Balance::unsettled`] counts the documents
//! that transactions hold). It NEVER changes anything.

use std::collections::BTreeMap;

use super::container::{BoxDocument, ContainerDocument, GroundDocument};
use super::mint::{MintDocument, Page};
use super::promise::{PromiseDocument, What};
use super::{Goods, ItemName};
use crate::document::{Document, DocumentError, decode};
use crate::player::{self, PlayerDocument};
use crate::store::Stored;
use crate::transaction::Marks;

/// What is held and what is booked, of every item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    stacks: BTreeMap<ItemName, Line>,
    uniques: BTreeMap<ItemName, Line>,
    unsettled: u64,
}

/// One item's line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    held: u128,
    created: u128,
    destroyed: u128,
    /// The wrapping sum of the hashes of serials held, less what is booked.
    serials: u64,
}

impl Line {
    fn is_even(&self) -> bool {
        self.held.checked_add(self.destroyed) == Some(self.created) && self.serials == 0
    }
}

/// An item whose books do not agree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{item}: {held} held, but {created} created and {destroyed} destroyed{}", if *.serials { ", or others" } else { "" })]
pub struct Difference {
    /// The item.
    pub item: ItemName,
    /// Whether it is the uniques of that name, not the stacks.
    pub unique: bool,
    /// How many are held.
    pub held: u128,
    /// How many were created.
    pub created: u128,
    /// How many of them were destroyed.
    pub destroyed: u128,
    /// Whether the serials held are not those that were created.
    pub serials: bool,
}

impl Balance {
    /// The player whose last kept promise [`Balance::add`] needs for the document under `key`, if it needs one.
    pub fn asks(key: &str) -> Option<u64> {
        key.strip_prefix("promise/")?.parse().ok()
    }

    /// Counts one document; those that hold and book no goods are passed over. `kept` is the last promise that the player
    /// of [`Balance::asks`] has kept (0 otherwise): what is kept already is in the player's bag.
    pub fn add(&mut self, key: &str, bytes: &[u8], kept: u64) -> Result<(), DocumentError> {
        match key.split('/').next().unwrap_or(key) {
            PlayerDocument::KIND => {
                let (document, _) = decode::<PlayerDocument>(key, bytes)?;
                self.hold(&document.bag);
                self.book(&document.page);
                self.mark(&document.marks);
            }
            BoxDocument::KIND => self.container(&decode::<BoxDocument>(key, bytes)?.0.0),
            GroundDocument::KIND => self.container(&decode::<GroundDocument>(key, bytes)?.0.0),
            MintDocument::KIND => {
                let (document, _) = decode::<MintDocument>(key, bytes)?;
                self.book(&document.page);
                self.mark(&document.marks);
            }
            PromiseDocument::KIND => {
                let (document, _) = decode::<PromiseDocument>(key, bytes)?;
                for promised in document.queue.iter().filter(|promised| promised.id > kept) {
                    if let What::Goods(goods) = &promised.what {
                        self.hold(goods);
                    }
                }
                self.mark(&document.marks);
            }
            _ => {}
        }
        Ok(())
    }

    /// How many documents were held by transactions. Settle them and count anew before believing a difference.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// How many of a counted item are held.
    pub fn held(&self, item: &ItemName) -> u128 {
        self.stacks.get(item).map_or(0, |line| line.held)
    }

    /// How many of a unique item are held.
    pub fn held_uniques(&self, item: &ItemName) -> u128 {
        self.uniques.get(item).map_or(0, |line| line.held)
    }

    /// Every item whose books do not agree.
    pub fn differences(&self) -> impl Iterator<Item = Difference> {
        let named = |unique: bool| {
            move |(item, line): (&ItemName, &Line)| {
                let Line { held, created, destroyed, serials } = *line;
                let serials = serials != 0;
                (!line.is_even()).then(|| Difference { item: item.clone(), unique, held, created, destroyed, serials })
            }
        };
        self.stacks.iter().filter_map(named(false)).chain(self.uniques.iter().filter_map(named(true)))
    }

    fn container(&mut self, document: &ContainerDocument) {
        self.hold(&document.goods);
        self.mark(&document.marks);
    }

    fn mark(&mut self, marks: &Marks) {
        self.unsettled += u64::from(marks.intent.is_some());
    }

    fn hold(&mut self, goods: &Goods) {
        for (item, count) in &goods.stacks {
            self.stacks.entry(item.clone()).or_default().held += u128::from(*count);
        }
        for (serial, unique) in &goods.uniques {
            let line = self.uniques.entry(unique.item.clone()).or_default();
            line.held += 1;
            line.serials = line.serials.wrapping_add(serial.hash());
        }
    }

    fn book(&mut self, page: &Page) {
        for (item, count) in &page.created {
            self.stacks.entry(item.clone()).or_default().created += u128::from(*count);
        }
        for (item, count) in &page.destroyed {
            self.stacks.entry(item.clone()).or_default().destroyed += u128::from(*count);
        }
        for (item, page) in &page.uniques {
            let line = self.uniques.entry(item.clone()).or_default();
            line.created += u128::from(page.created);
            line.destroyed += u128::from(page.destroyed);
            line.serials = line.serials.wrapping_sub(page.sum);
        }
    }
}

/// The balance over documents in memory, such as a store's snapshot.
pub fn balance(documents: &BTreeMap<String, Stored>) -> Result<Balance, DocumentError> {
    let mut balance = Balance::default();
    for (key, stored) in documents {
        let player = Balance::asks(key).map(player::key).and_then(|player| documents.get_key_value(&player));
        let kept = match player {
            Some((key, stored)) => decode::<PlayerDocument>(key, &stored.value)?.0.kept,
            None => 0,
        };
        balance.add(key, &stored.value, kept)?;
    }
    Ok(balance)
}
