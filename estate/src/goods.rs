//! Goods: what players, boxes and the ground hold, how it comes into the world, and how it changes hands.
//!
//! What is held is a [`Goods`]: stacks that are counted, and uniques that each have a serial. Every document that holds or
//! books goods takes part in transactions with a [`GoodsEffect`], so that goods move by [`transfer`]s, [`trade`]s and
//! [`promise`]s and in no other way. It promises that over all documents, per item, what is held is what was created less
//! what was destroyed, serial by serial ([`Balance`]); that arithmetic never wraps; and that a refusal changes nothing.
//! It NEVER reads a clock, draws a number, or knows what an item is for.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::player::{self, PlayerKind};
use crate::transaction::{Kinds, OperationId, Part};

mod bag;

pub mod container;
pub mod mint;

pub mod promise;
pub mod trade;
pub mod transfer;

pub mod balance;

pub use bag::{Goods, Limits, SLOTS_MOST, UNIQUE_BYTES, Unique};
pub use balance::{Balance, Difference};
pub use container::{BoxKind, GroundKind};
pub use mint::{MintKind, Page};
pub use promise::PromiseKind;
pub use trade::TradeKind;
pub use transfer::{Leg, transfer};

/// The longest name of an item, in bytes.
pub const NAME_MOST: usize = 32;

/// What a player's bag holds.
pub const BAG: Limits = Limits { slots: 64, per_stack: 1_000 };

/// What one chunk of ground holds.
pub const GROUND: Limits = Limits { slots: 256, per_stack: 1_000_000 };

/// The kinds of documents that hold or book goods, added to `kinds`.
#[must_use]
pub fn kinds(kinds: Kinds) -> Kinds {
    kinds.with(PlayerKind).with(BoxKind).with(GroundKind).with(MintKind).with(TradeKind).with(PromiseKind)
}

/// The name of an item: 1 to [`NAME_MOST`] of `a`-`z`, `0`-`9` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemName(Box<str>);

/// A text that is no name of an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an item: 1 to {NAME_MOST} of a-z, 0-9 and '_'")]
pub struct BadName(String);

impl ItemName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ItemName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<ItemName, BadName> {
        let plain = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let good = plain && (1..=NAME_MOST).contains(&text.len());
        // What is told of a bad name is cut, so that an error is never as long as what was sent.
        if good { Ok(ItemName(text.into())) } else { Err(BadName(text.chars().take(NAME_MOST + 1).collect())) }
    }
}

impl fmt::Display for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ItemName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ItemName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ItemName, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What tells one unique item from all others: the operation that created it, and which of its items it is. Written
/// `OPERATION-INDEX`. No counter is needed anywhere; but an operation id MUST NOT be used again once it is forgotten
/// ([`crate::transaction::REMEMBERED`], [`crate::transaction::participant::RECENT`]): it would make the same serial twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    /// The operation that created it.
    pub op: OperationId,
    /// Which of the items that the operation created.
    pub index: u16,
}

impl Serial {
    /// A number for sums over serials, in which no two cancel out by chance.
    pub fn hash(self) -> u64 {
        // Halves of a 128-bit number: each cast keeps what is meant.
        let (high, low) = ((self.op.0 >> 64) as u64, self.op.0 as u64);
        mix(mix(mix(high) ^ low) ^ u64::from(self.index))
    }
}

/// SplitMix64's step (Steele, Lea and Flood, 2014): spreads a number over all 64 bits.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.op, self.index)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Serial, String> {
        let read = || {
            let (op, index) = text.split_once('-')?;
            let serial = Serial { op: op.parse().ok()?, index: index.parse().ok()? };
            // One serial has one text: no capitals, no signs, no leading zeros.
            (serial.to_string() == text).then_some(serial)
        };
        read().ok_or_else(|| format!("{:?} is not a serial", text.chars().take(48).collect::<String>()))
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Serial, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where goods are, or come from, or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A player's bag.
    Player(u64),
    /// A box, by its object id.
    Box(u64),
    /// The ground of one chunk.
    Ground {
        /// The island.
        island: u32,
        /// The chunk's column.
        x: u16,
        /// The chunk's row.
        y: u16,
    },
    /// Out of nothing, or into it.
    Mint,
}

impl Place {
    /// The key of the place's document. `op` chooses the mint's shard.
    pub fn key(&self, op: OperationId) -> String {
        match *self {
            Place::Player(id) => player::key(id),
            Place::Box(object) => container::box_key(object),
            Place::Ground { island, x, y } => container::ground_key(island, x, y),
            Place::Mint => mint::key(op),
        }
    }

    /// What `effect` does at this place, as a part of the transaction `op`.
    pub fn part(&self, op: OperationId, effect: &GoodsEffect) -> Part {
        // The kind only names the effect's type, and that is the same at all places.
        Part::new::<PlayerKind>(self.key(op), effect)
    }
}

/// What is done to a document that holds or books goods. First what is taken leaves, then what is put comes in, so that all
/// that leaves MUST have been there before, and room is what is left in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GoodsEffect {
    /// What leaves.
    #[serde(skip_serializing_if = "Goods::is_empty")]
    pub take: Goods,
    /// What comes in.
    #[serde(skip_serializing_if = "Goods::is_empty")]
    pub put: Goods,
    /// What is booked as created. It MUST be put somewhere by the same transaction. Only where there is a [`Page`].
    #[serde(skip_serializing_if = "Goods::is_empty")]
    pub create: Goods,
    /// What is booked as destroyed. It MUST be taken from somewhere by the same transaction. Only where there is a [`Page`].
    #[serde(skip_serializing_if = "Goods::is_empty")]
    pub destroy: Goods,
    /// The box is built now, and holds so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The box is demolished now, and MUST be empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub close: bool,
    /// What the player learns. It stays at the highest number.
    #[serde(skip_serializing_if = "is_zero")]
    pub experience: u64,
    /// The promises that are kept by this effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

/// Promises that are kept: those with ids above `after`, up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The last one that was kept before, without which the effect is refused.
    pub after: u64,
    /// The last one that is kept now.
    pub to: u64,
}

// By reference, as serde asks for it.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl GoodsEffect {
    /// A player makes something out of something: `used` is taken and destroyed, `made` is created and put. Gathering uses
    /// nothing, paying makes nothing.
    pub fn craft(used: Goods, made: Goods) -> GoodsEffect {
        GoodsEffect { take: used.clone(), destroy: used, put: made.clone(), create: made, ..GoodsEffect::default() }
    }

    /// A box is built.
    pub fn open(limits: Limits) -> GoodsEffect {
        GoodsEffect { limits: Some(limits), ..GoodsEffect::default() }
    }

    /// A box is demolished, if it is empty.
    pub fn close() -> GoodsEffect {
        GoodsEffect { close: true, ..GoodsEffect::default() }
    }
}

#[cfg(test)]
mod tests;
