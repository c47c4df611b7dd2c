//! Boxes and the ground: documents that hold goods, and nothing else.
//!
//! A box is there from when it is built ([`GoodsEffect::open`]) until it is demolished ([`GoodsEffect::close`]), which it
//! refuses unless it is empty. The ground is there where something lies on it. Neither books anything: what is created on
//! the ground is booked by the mint. A container NEVER holds more than its limits.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GROUND, Goods, GoodsEffect, Limits};
use crate::document::{Document, Migration};
use crate::transaction::{Kind, Marks, Refusal};

/// What a box and the ground of a chunk have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerDocument {
    /// The version of the document's form.
    pub v: u32,
    /// What it holds.
    pub goods: Goods,
    /// How much it holds. A box without limits is not built; the ground has those of [`GROUND`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

const VERSION: u32 = 1;

impl ContainerDocument {
    fn new() -> ContainerDocument {
        let (goods, marks) = (Goods::default(), Marks::default());
        ContainerDocument { v: VERSION, goods, limits: None, marks, rest: Map::new() }
    }
}

/// A box, under `box/OBJECT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BoxDocument(pub ContainerDocument);

/// The ground of a chunk, under `ground/ISLAND/X/Y`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroundDocument(pub ContainerDocument);

impl Document for BoxDocument {
    const KIND: &'static str = "box";
    const VERSION: u32 = VERSION;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.0.v
    }
}

impl Document for GroundDocument {
    const KIND: &'static str = "ground";
    const VERSION: u32 = VERSION;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.0.v
    }
}

/// The key of a box.
pub fn box_key(object: u64) -> String {
    format!("box/{object}")
}

/// The key of the ground of a chunk.
pub fn ground_key(island: u32, x: u16, y: u16) -> String {
    format!("ground/{island}/{x}/{y}")
}

/// Boxes in transactions.
#[derive(Clone, Copy, Debug)]
pub struct BoxKind;

impl Kind for BoxKind {
    type Document = BoxDocument;
    type Effect = GoodsEffect;

    fn born(&self, key: &str) -> Result<BoxDocument, Refusal> {
        let object = key.strip_prefix("box/").and_then(|id| id.parse().ok()).filter(|id| *id < 1 << 53);
        match object.filter(|id| key == box_key(*id)) {
            Some(_) => Ok(BoxDocument(ContainerDocument::new())),
            None => Err(Refusal::new("malformed", format!("{key} is not the key of a box"))),
        }
    }

    fn marks<'a>(&self, document: &'a mut BoxDocument) -> &'a mut Marks {
        &mut document.0.marks
    }

    fn apply(&self, document: &mut BoxDocument, effect: &GoodsEffect) -> Result<(), Refusal> {
        let container = &mut document.0;
        let holding = only_holds(effect)?;
        if let Some(limits) = effect.limits {
            limits.check()?;
            if container.limits.is_some() {
                return Err(Refusal::new("taken", "the box stands already"));
            }
            container.limits = Some(limits);
        }
        let Some(limits) = container.limits else {
            return Err(Refusal::new("missing", "there is no such box"));
        };
        container.goods.change(&holding.take, &holding.put, limits)?;
        if effect.close {
            if !container.goods.is_empty() {
                return Err(Refusal::new("not_empty", "the box is not empty"));
            }
            container.limits = None;
        }
        Ok(())
    }

    fn is_blank(&self, _key: &str, document: &BoxDocument) -> bool {
        document.0.goods.is_empty() && document.0.limits.is_none() && document.0.rest.is_empty()
    }
}

/// The ground in transactions.
#[derive(Clone, Copy, Debug)]
pub struct GroundKind;

impl Kind for GroundKind {
    type Document = GroundDocument;
    type Effect = GoodsEffect;

    fn born(&self, key: &str) -> Result<GroundDocument, Refusal> {
        let read = || {
            let mut words = key.strip_prefix("ground/")?.split('/');
            let (island, x, y) =
                (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            (key == ground_key(island, x, y)).then(|| GroundDocument(ContainerDocument::new()))
        };
        read().ok_or_else(|| Refusal::new("malformed", format!("{key} is not the key of a chunk's ground")))
    }

    fn marks<'a>(&self, document: &'a mut GroundDocument) -> &'a mut Marks {
        &mut document.0.marks
    }

    fn apply(&self, document: &mut GroundDocument, effect: &GoodsEffect) -> Result<(), Refusal> {
        let holding = only_holds(effect)?;
        if effect.limits.is_some() || effect.close {
            return Err(Refusal::new("malformed", "the ground is neither built nor demolished"));
        }
        document.0.goods.change(&holding.take, &holding.put, document.0.limits.unwrap_or(GROUND))
    }

    fn is_blank(&self, _key: &str, document: &GroundDocument) -> bool {
        document.0.goods.is_empty() && document.0.limits.is_none() && document.0.rest.is_empty()
    }
}

/// Refuses what only players and the mint can do.
fn only_holds(effect: &GoodsEffect) -> Result<&GoodsEffect, Refusal> {
    let books = !effect.create.is_empty() || !effect.destroy.is_empty();
    if books || effect.experience > 0 || effect.keep.is_some() {
        return Err(Refusal::new("malformed", "a container only holds"));
    }
    Ok(effect)
}
