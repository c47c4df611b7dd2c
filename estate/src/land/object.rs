//! Objects that stand on the land: what each is, where it stands, who built it, and what the game keeps about it.
//!
//! An object's document and the deeds under it always agree, because they change in one transaction. The id of an object
//! that is gone is NEVER used again while anybody may still ask about it.

use cartographer::geometry::{IslandId, ObjectId, Tile};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::footprint::{Footprint, Rotation};
use super::{codes, number_in};
use crate::document::{Document, Migration};
use crate::transaction::{Kind, Marks, OperationId, Refusal, is_shallow};

/// The longest name of a sort of object, in bytes.
pub const SORT_BYTES: usize = 32;

/// The most bytes of JSON that the game keeps about one object.
pub const DATA_BYTES: usize = 32 * 1024;

/// How deep what the game keeps about one object may be nested.
pub const DATA_DEPTH: u32 = 32;

/// One object, under `object/ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectDocument {
    /// The version of the document's form.
    pub v: u32,
    /// Its number.
    pub id: ObjectId,
    /// What it is, such as `box`; empty once it is gone.
    pub kind: String,
    /// The island on which it stands.
    pub island: IslandId,
    /// Where.
    pub footprint: Footprint,
    /// The holding on whose land it was built or last moved: for people; whose the land is now, its chunks tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<ObjectId>,
    /// The player who built it; 0 if the game did.
    pub builder: ObjectId,
    /// When it was built, in seconds since 1970.
    pub made_s: u64,
    /// What the game keeps about it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    /// The operation that took it away. The document expires soon after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<OperationId>,
    /// What transactions have left.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for ObjectDocument {
    const KIND: &'static str = "object";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

impl ObjectDocument {
    /// True if it stands: not before it is built and not after it is taken away.
    pub fn stands(&self) -> bool {
        !self.kind.is_empty()
    }
}

/// What is done to an object's document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectEffect {
    /// It comes into being. Refused as [`codes::TAKEN`] if the id is or was another's.
    Create(Box<Creation>),
    /// It goes for good. Refused as [`codes::MISSING`], or [`codes::OWNED`] if it is not the builder's who must have built it.
    Remove {
        /// The operation.
        op: OperationId,
        /// Where it must stand.
        at: Footprint,
        /// Who must have built it.
        builder: Option<ObjectId>,
        /// Fields that its data must have, else it is refused as [`codes::CHANGED`].
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        expected: Map<String, Value>,
    },
    /// It moves. Refused as `Remove` is, and as [`codes::CHANGED`] if it stands elsewhere than was read.
    Move {
        /// Where it must stand.
        from: Footprint,
        /// Where it will.
        to: Footprint,
        /// The holding on whose land that is.
        holding: Option<ObjectId>,
        /// Who must have built it.
        builder: Option<ObjectId>,
    },
    /// Fields of its data are set; those set to null go. Refused as [`codes::MISSING`] or [`codes::TOO_LARGE`].
    Change {
        /// The fields.
        set: Map<String, Value>,
    },
    /// The same, if its data is as it was read; else refused as [`codes::CHANGED`].
    Swap {
        /// Fields that its data must have; null: that it must not have.
        expected: Map<String, Value>,
        /// The fields.
        set: Map<String, Value>,
    },
}

/// What a new object is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Creation {
    /// What it is: 1 to [`SORT_BYTES`] of a-z, 0-9 and _.
    pub kind: String,
    /// The island.
    pub island: IslandId,
    /// Where it stands.
    pub footprint: Footprint,
    /// The holding on whose land.
    pub holding: Option<ObjectId>,
    /// The player who builds it; 0 if the game does.
    pub builder: ObjectId,
    /// Now, in seconds since 1970.
    pub made_s: u64,
    /// What the game keeps about it.
    pub data: Map<String, Value>,
}

/// The key of an object's document.
pub fn key(id: ObjectId) -> String {
    format!("object/{id}")
}

/// Objects in transactions.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectKind;

impl Kind for ObjectKind {
    type Document = ObjectDocument;
    type Effect = ObjectEffect;

    fn born(&self, key: &str) -> Result<ObjectDocument, Refusal> {
        let id = number_in(key, ObjectDocument::KIND)?;
        Ok(ObjectDocument {
            v: ObjectDocument::VERSION,
            id,
            kind: String::new(),
            island: IslandId(0),
            footprint: Footprint::new(Tile::new(0, 0), 1, 1, Rotation::R0)?,
            holding: None,
            builder: ObjectId(0),
            made_s: 0,
            data: Map::new(),
            removed: None,
            marks: Marks::default(),
            rest: Map::new(),
        })
    }

    fn marks<'a>(&self, document: &'a mut ObjectDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut ObjectDocument, effect: &ObjectEffect) -> Result<(), Refusal> {
        match effect {
            ObjectEffect::Create(creation) => create(document, creation),
            ObjectEffect::Remove { op, at, builder, expected } => {
                check_standing(document, at, *builder)?;
                check_unchanged(document, expected)?;
                document.kind = String::new();
                document.data = Map::new();
                document.rest = Map::new();
                document.removed = Some(*op);
                Ok(())
            }
            ObjectEffect::Move { from, to, holding, builder } => {
                check_standing(document, from, *builder)?;
                document.footprint = to.clone();
                document.holding = *holding;
                Ok(())
            }
            ObjectEffect::Change { set } => change(document, set),
            ObjectEffect::Swap { expected, set } => {
                check_there(document)?;
                check_unchanged(document, expected)?;
                change(document, set)
            }
        }
    }

    fn is_blank(&self, _key: &str, document: &ObjectDocument) -> bool {
        !document.stands()
    }
}

fn create(document: &mut ObjectDocument, creation: &Creation) -> Result<(), Refusal> {
    if document.stands() || document.removed.is_some() {
        return Err(Refusal::new(codes::TAKEN, format!("object id {} is or was another's", document.id)));
    }
    let Creation { kind, island, footprint, holding, builder, made_s, data } = creation.clone();
    *document = ObjectDocument { kind, island, footprint, holding, builder, made_s, data, ..document.clone() };
    check_data(document)
}

fn check_there(document: &ObjectDocument) -> Result<(), Refusal> {
    if document.stands() {
        return Ok(());
    }
    Err(Refusal::new(codes::MISSING, format!("there is no object {}", document.id)))
}

/// Refuses unless the data has these fields as they were read.
fn check_unchanged(document: &ObjectDocument, expected: &Map<String, Value>) -> Result<(), Refusal> {
    let same = |(name, value): (&String, &Value)| document.data.get(name).unwrap_or(&Value::Null) == value;
    if expected.iter().all(same) {
        return Ok(());
    }
    Err(Refusal::new(codes::CHANGED, format!("object {} is not as it was read", document.id)))
}

fn check_standing(document: &ObjectDocument, at: &Footprint, builder: Option<ObjectId>) -> Result<(), Refusal> {
    check_there(document)?;
    if document.footprint != *at {
        return Err(Refusal::new(codes::CHANGED, format!("object {} stands elsewhere than was read", document.id)));
    }
    if builder.is_some_and(|builder| builder != document.builder) {
        let why = format!("object {} stands on free land and was built by {}", document.id, document.builder);
        return Err(Refusal::new(codes::OWNED, why));
    }
    Ok(())
}

fn change(document: &mut ObjectDocument, set: &Map<String, Value>) -> Result<(), Refusal> {
    check_there(document)?;
    for (name, value) in set {
        if value.is_null() {
            document.data.remove(name);
        } else {
            document.data.insert(name.clone(), value.clone());
        }
    }
    check_data(document)
}

fn check_data(document: &ObjectDocument) -> Result<(), Refusal> {
    // Maps of JSON values can always be written.
    let bytes = serde_json::to_vec(&document.data).map_or(usize::MAX, |text| text.len());
    if bytes > DATA_BYTES {
        let why = format!("{bytes} bytes of data about object {}; the bound is {DATA_BYTES}", document.id);
        return Err(Refusal::new(codes::TOO_LARGE, why));
    }
    // What is nested deeper than a reader bears could be written and never read again.
    if !document.data.values().all(|value| is_shallow(value, DATA_DEPTH)) {
        let why = format!("data about object {} of more than {DATA_DEPTH} levels", document.id);
        return Err(Refusal::new(codes::TOO_LARGE, why));
    }
    Ok(())
}

/// Checks the name of a sort of object.
pub fn check_sort(kind: &str) -> Result<(), Refusal> {
    let plain = kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if kind.is_empty() || kind.len() > SORT_BYTES || !plain {
        let why = format!("{kind:?} is no sort of object: it has 1 to {SORT_BYTES} of a-z, 0-9 and _");
        return Err(Refusal::new(codes::MALFORMED, why));
    }
    Ok(())
}
