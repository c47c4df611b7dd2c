//! A Tiled map as its file has it, before anything is believed: what the XML and the JSON form have in common.
//!
//! The shape is the JSON form's, so that serde reads that one; `tmx` builds the same from XML. Nothing here reserves memory
//! because a file declares a number: memory follows from the bytes that are really there.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A map.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Draft {
    /// `map`; the JSON form says it, the XML form's root is called so.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) orientation: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) tilewidth: u32,
    pub(super) tileheight: u32,
    pub(super) infinite: bool,
    pub(super) properties: Vec<Property>,
    pub(super) tilesets: Vec<Tileset>,
    pub(super) layers: Vec<Layer>,
}

/// A tileset: embedded, read from its own file, or only named by `source`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tileset {
    /// `tileset` in a JSON file of its own.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) firstgid: u32,
    pub(super) source: Option<String>,
    pub(super) name: String,
    pub(super) tilecount: u32,
    pub(super) tiles: Vec<TileNote>,
}

/// What a tileset says of one of its tiles.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TileNote {
    pub(super) id: u32,
    #[serde(rename = "type", alias = "class")]
    pub(super) class: String,
    pub(super) properties: Vec<Property>,
}

/// A layer of any kind; `kind` is the JSON form's `type`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Layer {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) offsetx: f64,
    pub(super) offsety: f64,
    pub(super) encoding: Option<String>,
    pub(super) compression: Option<String>,
    pub(super) data: Option<Data>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) objects: Vec<Object>,
    pub(super) layers: Vec<Layer>,
}

/// A part of an infinite map's layer, in tiles.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) data: Option<Data>,
}

/// Tile numbers, as text still to be decoded or as plain numbers.
#[derive(Debug)]
pub(super) enum Data {
    Text(String),
    Numbers(Vec<u32>),
}

/// An object: a point, a rectangle or another shape, in pixels.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) id: u32,
    pub(super) name: String,
    #[serde(rename = "type", alias = "class")]
    pub(super) class: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) rotation: f64,
    pub(super) point: bool,
    pub(super) ellipse: bool,
    pub(super) capsule: bool,
    pub(super) polygon: Option<Vec<Corner>>,
    pub(super) polyline: Option<IgnoredAny>,
    pub(super) text: Option<IgnoredAny>,
    pub(super) gid: Option<u32>,
    pub(super) template: Option<String>,
    pub(super) properties: Vec<Property>,
}

/// A corner of a polygon, in pixels from its object.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Corner {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A custom property.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Property {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: Value,
}

/// A property's value; lists and classes are not looked into.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    #[default]
    Other,
}

impl Value {
    pub(super) fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        if let Value::Int(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Value::Text(value) = self { Some(value) } else { None }
    }
}

/// The value of the property of this name, if there is one.
pub(super) fn property<'a>(properties: &'a [Property], name: &str) -> Option<&'a Value> {
    properties.iter().find(|p| p.name == name).map(|p| &p.value)
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        struct DataVisitor;
        impl<'de> Visitor<'de> for DataVisitor {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tile numbers, or a text that encodes them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Data, E> {
                Ok(Data::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = seq.next_element()? {
                    numbers.push(number);
                }
                Ok(Data::Numbers(numbers))
            }
        }
        deserializer.deserialize_any(DataVisitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a property's value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(i64::try_from(value).map_or(Value::Other, Value::Int))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}
