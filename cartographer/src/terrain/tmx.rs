//! Reads the XML form of maps and tilesets (`.tmx`, `.tsx`) into a draft.
//!
//! Entities that a document defines itself are never expanded, depth and number of elements are bounded, and text is
//! borrowed from the file: a broken or hostile document costs no more than its own size.

use std::borrow::Cow;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde::de::IgnoredAny;

use super::draft::{Chunk, Corner, Data, Draft, Layer, Object, Property, TileNote, Tileset, Value};
use super::read::MAX_ELEMENTS;

/// Elements within elements, at most.
const MAX_DEPTH: usize = 32;

type Read<T> = Result<T, String>;

/// Reads a map; errors say what is wrong with the document.
pub(super) fn map(text: &str) -> Read<Draft> {
    let root = root(text, "map")?;
    let mut draft = Draft {
        kind: "map".to_owned(),
        orientation: root.text("orientation")?,
        width: root.number("width")?,
        height: root.number("height")?,
        tilewidth: root.number("tilewidth")?,
        tileheight: root.number("tileheight")?,
        infinite: root.number::<u8>("infinite")? != 0,
        properties: root.properties()?,
        ..Draft::default()
    };
    for child in &root.children {
        match child.name() {
            "tileset" => draft.tilesets.push(child.tileset()?),
            _ => draft.layers.extend(child.layer()?),
        }
    }
    Ok(draft)
}

/// Reads a tileset's own file; errors say what is wrong with the document.
pub(super) fn tileset(text: &str) -> Read<Tileset> {
    root(text, "tileset")?.tileset()
}

/// An element with what is in it.
struct Element<'a> {
    start: BytesStart<'a>,
    children: Vec<Element<'a>>,
    content: Cow<'a, str>,
}

fn root<'a>(text: &'a str, name: &str) -> Read<Element<'a>> {
    let mut reader = Reader::from_str(text);
    let mut budget = MAX_ELEMENTS;
    loop {
        let (start, empty) = match reader.read_event().map_err(|e| at(&reader, &e.to_string()))? {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::Eof => return Err(format!("it ends before <{name}>")),
            _ => continue,
        };
        if start.local_name().as_ref() != name {
            return Err(format!("its root is <{}>, not <{name}>", start.local_name().as_ref()));
        }
        return if empty { Ok(Element::empty(start)) } else { element(&mut reader, start, 1, &mut budget) };
    }
}

fn element<'a>(
    reader: &mut Reader<&'a [u8]>,
    start: BytesStart<'a>,
    depth: usize,
    budget: &mut usize,
) -> Read<Element<'a>> {
    let mut it = Element::empty(start);
    if depth > MAX_DEPTH {
        return Err(at(reader, &format!("elements are nested deeper than {MAX_DEPTH}")));
    }
    loop {
        *budget =
            budget.checked_sub(1).ok_or_else(|| at(reader, &format!("it has more than {MAX_ELEMENTS} elements")))?;
        match reader.read_event().map_err(|e| at(reader, &e.to_string()))? {
            Event::Start(start) => it.children.push(element(reader, start, depth + 1, budget)?),
            Event::Empty(start) => it.children.push(Element::empty(start)),
            Event::Text(text) => it.append(text.into_inner()),
            Event::CData(text) => it.append(text.into_inner()),
            Event::GeneralRef(name) => {
                let text = resolved(&name).ok_or_else(|| at(reader, "it uses an entity of its own"))?;
                it.append(Cow::Owned(text));
            }
            Event::End(_) => return Ok(it),
            Event::Eof => return Err(format!("it ends inside <{}>", it.name())),
            _ => {}
        }
    }
}

fn resolved(name: &BytesRef<'_>) -> Option<String> {
    match name.resolve_char_ref() {
        Ok(Some(character)) => Some(character.to_string()),
        Ok(None) => resolve_predefined_entity(name).map(str::to_owned),
        Err(_) => None,
    }
}

fn at(reader: &Reader<&[u8]>, problem: &str) -> String {
    format!("{problem} (at byte {})", reader.buffer_position())
}

impl<'a> Element<'a> {
    fn empty(start: BytesStart<'a>) -> Element<'a> {
        Element { start, children: Vec::new(), content: Cow::Borrowed("") }
    }

    fn append(&mut self, text: Cow<'a, str>) {
        if self.content.is_empty() { self.content = text } else { self.content.to_mut().push_str(&text) }
    }

    fn name(&self) -> &str {
        self.start.local_name().into_inner()
    }

    fn children(&self, name: &str) -> impl Iterator<Item = &Element<'a>> {
        self.children.iter().filter(move |child| child.name() == name)
    }

    /// The attribute of this name. Duplicates are not looked for: that would cost the square of their number.
    fn attribute(&self, name: &str) -> Read<Option<Cow<'_, str>>> {
        for attribute in self.start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|e| format!("<{}>: {e}", self.name()))?;
            if attribute.key.local_name().as_ref() == name {
                return attribute
                    .normalized_value(XmlVersion::Implicit1_0)
                    .map(Some)
                    .map_err(|e| format!("<{}> {name}: {e}", self.name()));
            }
        }
        Ok(None)
    }

    fn optional_text(&self, name: &str) -> Read<Option<String>> {
        Ok(self.attribute(name)?.map(Cow::into_owned))
    }

    fn text(&self, name: &str) -> Read<String> {
        Ok(self.optional_text(name)?.unwrap_or_default())
    }

    fn optional<T: std::str::FromStr>(&self, name: &str) -> Read<Option<T>> {
        let Some(text) = self.attribute(name)? else { return Ok(None) };
        text.trim()
            .parse()
            .map(Some)
            .map_err(|_| format!("<{}> {name}={text:?} is not a number that fits", self.name()))
    }

    fn number<T: std::str::FromStr + Default>(&self, name: &str) -> Read<T> {
        Ok(self.optional(name)?.unwrap_or_default())
    }

    /// Tiled has called it `type`, `class` and `type` again.
    fn class(&self) -> Read<String> {
        let class = self.text("type")?;
        if class.is_empty() { self.text("class") } else { Ok(class) }
    }

    fn properties(&self) -> Read<Vec<Property>> {
        self.children("properties").flat_map(|list| list.children("property")).map(Element::property).collect()
    }

    fn property(&self) -> Read<Property> {
        let (name, kind) = (self.text("name")?, self.text("type")?);
        let text = match self.optional_text("value")? {
            Some(text) => text,
            None => self.content.trim().to_owned(),
        };
        let value = match kind.as_str() {
            "bool" => match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(format!("property {name:?} is neither true nor false")),
            },
            "int" => Value::Int(text.parse().map_err(|_| format!("property {name:?} is not a whole number"))?),
            "" | "string" | "color" | "file" => Value::Text(text),
            _ => Value::Other,
        };
        Ok(Property { name, kind, value })
    }

    fn tileset(&self) -> Read<Tileset> {
        let tile = |tile: &Element<'a>| -> Read<TileNote> {
            let id = tile.optional("id")?.ok_or("a <tile> has no id")?;
            Ok(TileNote { id, class: tile.class()?, properties: tile.properties()? })
        };
        Ok(Tileset {
            kind: "tileset".to_owned(),
            firstgid: self.number("firstgid")?,
            source: self.optional_text("source")?,
            name: self.text("name")?,
            tilecount: self.number("tilecount")?,
            tiles: self.children("tile").map(tile).collect::<Read<_>>()?,
        })
    }

    /// This element as a layer; nothing if it is no layer.
    fn layer(&self) -> Read<Option<Layer>> {
        let kind = match self.name() {
            "layer" => "tilelayer",
            "objectgroup" => "objectgroup",
            "imagelayer" => "imagelayer",
            "group" => "group",
            _ => return Ok(None),
        };
        let mut layer = Layer {
            kind: kind.to_owned(),
            name: self.text("name")?,
            class: self.text("class")?,
            width: self.number("width")?,
            height: self.number("height")?,
            offsetx: self.number("offsetx")?,
            offsety: self.number("offsety")?,
            ..Layer::default()
        };
        for child in &self.children {
            match (kind, child.name()) {
                ("tilelayer", "data") => child.fill(&mut layer)?,
                ("objectgroup", "object") => layer.objects.push(child.object()?),
                ("group", _) => layer.layers.extend(child.layer()?),
                _ => {}
            }
        }
        Ok(Some(layer))
    }

    /// Takes this `<data>` into the layer.
    fn fill(&self, layer: &mut Layer) -> Read<()> {
        let text = |it: &Element<'_>| Some(Data::Text(it.content.trim().to_owned()));
        layer.encoding = self.optional_text("encoding")?;
        layer.compression = self.optional_text("compression")?;
        layer.data = text(self);
        for chunk in self.children("chunk") {
            layer.chunks.push(Chunk {
                x: chunk.number("x")?,
                y: chunk.number("y")?,
                width: chunk.number("width")?,
                height: chunk.number("height")?,
                data: text(chunk),
            });
        }
        Ok(())
    }

    fn object(&self) -> Read<Object> {
        let has = |name| self.children(name).next().is_some();
        let polygon = match self.children("polygon").next() {
            Some(polygon) => Some(polygon.corners()?),
            None => None,
        };
        Ok(Object {
            id: self.number("id")?,
            name: self.text("name")?,
            class: self.class()?,
            x: self.number("x")?,
            y: self.number("y")?,
            width: self.number("width")?,
            height: self.number("height")?,
            rotation: self.number("rotation")?,
            point: has("point"),
            ellipse: has("ellipse"),
            capsule: has("capsule"),
            polygon,
            polyline: has("polyline").then_some(IgnoredAny),
            text: has("text").then_some(IgnoredAny),
            gid: self.optional("gid")?,
            template: self.optional_text("template")?,
            properties: self.properties()?,
        })
    }

    fn corners(&self) -> Read<Vec<Corner>> {
        let corner = |pair: &str| {
            let (x, y) = pair.split_once(',')?;
            Some(Corner { x: x.parse().ok()?, y: y.parse().ok()? })
        };
        let points = self.text("points")?;
        let corners: Option<Vec<Corner>> = points.split_whitespace().map(corner).collect();
        corners.ok_or_else(|| format!("<polygon> points={points:?} are not pairs of numbers"))
    }
}
