//! What is held or moved: counted stacks and uniques with serials, and how much of it fits.
//!
//! All arithmetic is checked: a [`Goods`] never goes below nothing or over its bound, and a refused change leaves it for
//! the caller to throw away. It NEVER forgets a unique's data, and takes a unique only if it is exactly as named.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{ItemName, Serial};
use crate::transaction::Refusal;

/// The most bytes of a unique's data, as JSON.
pub const UNIQUE_BYTES: usize = 1_024;

/// The most slots of a container: a document with so many uniques is far from the store's bound.
pub const SLOTS_MOST: u32 = 256;

/// How deep a unique's data may be nested: far less than a reader of JSON bears.
const DEPTH: u32 = 8;

// Half of a document for what it holds, the other half for all else.
const _: () = assert!(SLOTS_MOST as usize * (UNIQUE_BYTES + 256) <= crate::store::VALUE_BYTES / 2);

/// One item that is not like others of its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// What it is.
    pub item: ItemName,
    /// What the game knows of it: at most [`UNIQUE_BYTES`] of JSON, without fractions, whose text does not give back the
    /// same number everywhere.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

/// How much a container holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many slots it has, at most [`SLOTS_MOST`]. A unique takes one.
    pub slots: u32,
    /// How many of a stack one slot holds.
    pub per_stack: u64,
}

impl Limits {
    /// Refuses limits that no container can have.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.slots > SLOTS_MOST || self.per_stack == 0 {
            let why = format!("limits of {} slots with {} each; at most {SLOTS_MOST}", self.slots, self.per_stack);
            return Err(Refusal::new("malformed", why));
        }
        Ok(())
    }
}

/// Goods: a bag's content and what is moved alike.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goods {
    /// How many there are of what is counted. Nothing is never an entry.
    #[serde(deserialize_with = "stacks")]
    pub stacks: BTreeMap<ItemName, u64>,
    /// What is one of its kind.
    pub uniques: BTreeMap<Serial, Unique>,
}

/// Documents leave out what is empty. In the calls between nodes a field is told by its place alone, so there all stand.
impl Serialize for Goods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = !serializer.is_human_readable();
        let (stacks, uniques) = (whole || !self.stacks.is_empty(), whole || !self.uniques.is_empty());
        let mut fields = serializer.serialize_struct("Goods", usize::from(stacks) + usize::from(uniques))?;
        match stacks {
            true => fields.serialize_field("stacks", &self.stacks)?,
            false => fields.skip_field("stacks")?,
        }
        match uniques {
            true => fields.serialize_field("uniques", &self.uniques)?,
            false => fields.skip_field("uniques")?,
        }
        fields.end()
    }
}

/// Reads stacks; an entry of nothing is as good as none.
fn stacks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<ItemName, u64>, D::Error> {
    let mut stacks = BTreeMap::<ItemName, u64>::deserialize(deserializer)?;
    stacks.retain(|_, count| *count > 0);
    Ok(stacks)
}

impl Goods {
    /// One stack.
    pub fn stack(item: ItemName, count: u64) -> Goods {
        Goods { stacks: BTreeMap::from([(item, count)]), uniques: BTreeMap::new() }
    }

    /// One unique.
    pub fn unique(serial: Serial, unique: Unique) -> Goods {
        Goods { stacks: BTreeMap::new(), uniques: BTreeMap::from([(serial, unique)]) }
    }

    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.uniques.is_empty() && self.stacks.values().all(|count| *count == 0)
    }

    /// How many stacks and uniques there are.
    pub fn entries(&self) -> usize {
        self.stacks.len() + self.uniques.len()
    }

    /// Adds goods, or refuses with `overflow`, `taken` (a serial that is there already) or `malformed`.
    pub fn add(&mut self, more: &Goods) -> Result<(), Refusal> {
        for (item, count) in more.stacks.iter().filter(|(_, count)| **count > 0) {
            let held = self.stacks.entry(item.clone()).or_default();
            let sum = held.checked_add(*count);
            *held = sum.ok_or_else(|| Refusal::new("overflow", format!("no number holds that many {item}")))?;
        }
        for (serial, unique) in &more.uniques {
            unique.check()?;
            if self.uniques.insert(*serial, unique.clone()).is_some() {
                return Err(Refusal::new("taken", format!("{} {serial} is there already", unique.item)));
            }
        }
        Ok(())
    }

    /// Takes goods away, or refuses with `too_little` or, for a unique that is not as named, `changed`.
    pub fn remove(&mut self, less: &Goods) -> Result<(), Refusal> {
        for (item, count) in less.stacks.iter().filter(|(_, count)| **count > 0) {
            let held = self.stacks.get(item).copied().unwrap_or(0);
            match held.checked_sub(*count) {
                Some(0) => self.stacks.remove(item),
                Some(rest) => self.stacks.insert(item.clone(), rest),
                None => return Err(Refusal::new("too_little", format!("there are {held} {item}, not {count}"))),
            };
        }
        for (serial, unique) in &less.uniques {
            match self.uniques.remove(serial) {
                Some(held) if held == *unique => {}
                Some(_) => {
                    return Err(Refusal::new("changed", format!("{} {serial} is not as it was", unique.item)));
                }
                None => return Err(Refusal::new("too_little", format!("{} {serial} is not there", unique.item))),
            }
        }
        Ok(())
    }

    /// How many slots the goods take: a stack as many as it fills or begins, a unique one.
    pub fn slots(&self, per_stack: u64) -> u64 {
        // A limit of nothing is refused where limits are set.
        let per_stack = per_stack.max(1);
        let stacks = self.stacks.values().map(|count| count.div_ceil(per_stack));
        stacks.fold(self.uniques.len() as u64, u64::saturating_add)
    }

    /// Takes `take`, then adds `put`, within `limits`: else refuses, also with `full`. Goods that are over their limits
    /// already may become fewer.
    pub(crate) fn change(&mut self, take: &Goods, put: &Goods, limits: Limits) -> Result<(), Refusal> {
        let before = self.slots(limits.per_stack);
        self.remove(take)?;
        self.add(put)?;
        let after = self.slots(limits.per_stack);
        if after > u64::from(limits.slots) && after > before {
            return Err(Refusal::new("full", format!("{after} slots are needed, there are {}", limits.slots)));
        }
        Ok(())
    }
}

impl Unique {
    /// Refuses data that is too large, too deep or not exact.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let bytes = serde_json::to_vec(&self.data).map_or(usize::MAX, |text| text.len());
        let sound = bytes <= UNIQUE_BYTES && self.data.values().all(|value| is_exact(value, DEPTH));
        let why = || format!("data of a {}: at most {UNIQUE_BYTES} bytes, no fractions, {DEPTH} deep", self.item);
        if sound { Ok(()) } else { Err(Refusal::new("malformed", why())) }
    }
}

fn is_exact(value: &Value, depth: u32) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => depth > 0 && values.iter().all(|value| is_exact(value, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|value| is_exact(value, depth - 1)),
    }
}
