//! Frames as clients see them: what one node says about one cell in one tick.
//!
//! The frontend passes frames on unchanged, so that encoding them is cartographer's business; the encoder here serves
//! test vectors and test doubles, and gives the same bytes. Decoding keeps no reference to the message.

use std::sync::Arc;

use super::CellXy;
use super::motion::{MAX_TIME_MS, Motion};
use super::wire::{self, Malformed, Reader};

/// The first element of a delta frame.
pub const DELTA: u64 = 10;
/// The first element of a keyframe.
pub const KEYFRAME: u64 = 11;

/// Object ids, epochs, versions and sequence numbers are below this, so that every language can hold them in a double.
const MAX_NUMBER: u64 = 1 << 53;
/// Publisher numbers are below this.
const MAX_PUBLISHER: u64 = 1 << 48;
const MAX_NAME_BYTES: usize = 256;

/// Whether these bytes claim to be a frame, told by the message's number alone.
pub fn is_frame(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    reader.array("a frame").is_ok() && matches!(reader.int::<u64>("a kind"), Ok(DELTA | KEYFRAME))
}

/// What a frame says before its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameHead {
    /// Whether this is a keyframe.
    pub keyframe: bool,
    /// The incarnation of the node that says it.
    pub publisher: u64,
    /// The island.
    pub island: u32,
    /// The cell.
    pub cell: CellXy,
    /// Counts the frames of this publisher and cell.
    pub seq: u64,
    /// The publisher's clock, in milliseconds.
    pub time_ms: u64,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Who says it, about which cell, and when.
    pub head: FrameHead,
    /// What it says.
    pub content: Content,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// What has changed since the frame before.
    Delta(Vec<Entry>),
    /// All objects that the publisher holds in the cell.
    Keyframe(Vec<Shown>),
}

/// An object with all that others may see of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The object.
    pub id: u64,
    /// Rises with every change of owner.
    pub epoch: u64,
    /// Rises with every change of the object within an epoch.
    pub version: u64,
    /// Where it is, as a function of time.
    pub motion: Motion,
    /// What it looks like.
    pub view: Arc<View>,
}

/// The bundled game's view of an object: `[kind, name, hue, pose, health, tie, detail]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// 0 a player, 1 an animal, 2 a facility, 3 a natural object that was touched, 4 a battle.
    pub kind: u8,
    /// The name of a player; the species, facility or natural object.
    pub name: String,
    /// A colour, in degrees.
    pub hue: u16,
    /// What it does: see [`crate::game::pose`].
    pub pose: u8,
    /// Its health in percent.
    pub health: u8,
    /// Whom or what it belongs to: a player's party, the battle of one who fights, a facility's builder; 0 if nothing.
    pub tie: u64,
    /// More, by kind: lists of numbers.
    pub detail: Vec<Vec<u64>>,
}

/// One line of a delta.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// An object is now in this cell; `from` is the cell that it left, nil if it appeared.
    Enter {
        /// All of it.
        object: Shown,
        /// The cell that it came from.
        from: Option<CellXy>,
    },
    /// Its view is another.
    Change {
        /// The object.
        id: u64,
        /// Its new version.
        version: u64,
        /// Its new view.
        view: Arc<View>,
    },
    /// Its motion is another.
    Move {
        /// The object.
        id: u64,
        /// Its new version.
        version: u64,
        /// Its new motion.
        motion: Motion,
    },
    /// An object is no longer in this cell; `to` is the cell that it went to, nil if it is gone.
    Leave {
        /// The object.
        id: u64,
        /// Its epoch when it left.
        epoch: u64,
        /// Its version when it left.
        version: u64,
        /// The cell that it went to.
        to: Option<CellXy>,
    },
}

impl FrameHead {
    /// Reads the head alone: enough to tell whether the rest is worth decoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.array("a frame")?;
        let kind = reader.int("a kind")?;
        Self::read(&mut reader, count, kind)
    }

    fn read(reader: &mut Reader<'_>, count: usize, kind: u64) -> Result<Self, Malformed> {
        if kind != DELTA && kind != KEYFRAME {
            return Err(Malformed::UnknownMessage(kind));
        }
        if count < 8 {
            return Err(Malformed::Fields("a frame"));
        }
        Ok(Self {
            keyframe: kind == KEYFRAME,
            publisher: reader.below(MAX_PUBLISHER, "publisher")?,
            island: reader.int("island")?,
            cell: (reader.int("cx")?, reader.int("cy")?),
            seq: reader.below(MAX_NUMBER, "seq")?,
            time_ms: reader.below(MAX_TIME_MS, "time_ms")?,
        })
    }
}

impl Frame {
    /// Reads one frame, the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.array("a frame")?;
        let kind = reader.int("a kind")?;
        let frame = Self::read(&mut reader, count, kind)?;
        reader.end()?;
        Ok(frame)
    }

    /// Reads what follows the kind in an array of `count` elements.
    pub(super) fn read(reader: &mut Reader<'_>, count: usize, kind: u64) -> Result<Self, Malformed> {
        let head = FrameHead::read(reader, count, kind)?;
        let length = reader.array("entries")?;
        let content = if head.keyframe {
            Content::Keyframe((0..length).map(|_| Shown::read(reader)).collect::<Result<_, _>>()?)
        } else {
            Content::Delta((0..length).map(|_| Entry::read(reader)).collect::<Result<_, _>>()?)
        };
        reader.skip(count - 8)?;
        Ok(Self { head, content })
    }

    /// Appends the frame's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        let head = &self.head;
        wire::put_array(out, 8);
        wire::put_uint(out, if head.keyframe { KEYFRAME } else { DELTA });
        wire::put_uint(out, head.publisher);
        wire::put_uint(out, head.island);
        wire::put_uint(out, head.cell.0);
        wire::put_uint(out, head.cell.1);
        wire::put_uint(out, head.seq);
        wire::put_uint(out, head.time_ms);
        match &self.content {
            Content::Delta(entries) => {
                wire::put_array(out, entries.len());
                entries.iter().for_each(|entry| entry.put(out));
            }
            Content::Keyframe(objects) => {
                wire::put_array(out, objects.len());
                for object in objects {
                    wire::put_array(out, 5);
                    object.put(out);
                }
            }
        }
    }
}

impl View {
    fn read(reader: &mut Reader<'_>) -> Result<Arc<Self>, Malformed> {
        let count = reader.array("view")?;
        if count < 3 {
            return Err(Malformed::Fields("view"));
        }
        let mut view = Self {
            kind: reader.int("kind")?,
            name: reader.text(MAX_NAME_BYTES, "name")?.to_owned(),
            hue: reader.int("hue")?,
            ..Self::default()
        };
        if count < 7 {
            reader.skip(count - 3)?;
            return Ok(Arc::new(view));
        }
        view.pose = reader.int("pose")?;
        view.health = reader.int("health")?;
        view.tie = reader.below(MAX_NUMBER, "tie")?;
        let rows = reader.array("detail")?;
        for _ in 0..rows {
            let length = reader.array("detail")?;
            view.detail.push((0..length).map(|_| reader.int("detail")).collect::<Result<_, _>>()?);
        }
        reader.skip(count - 7)?;
        Ok(Arc::new(view))
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 7);
        wire::put_uint(out, self.kind);
        wire::put_text(out, &self.name);
        wire::put_uint(out, self.hue);
        wire::put_uint(out, self.pose);
        wire::put_uint(out, self.health);
        wire::put_uint(out, self.tie);
        wire::put_array(out, self.detail.len());
        for row in &self.detail {
            wire::put_array(out, row.len());
            row.iter().for_each(|number| wire::put_uint(out, *number));
        }
    }
}

impl Shown {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.array("an object")?;
        if count < 5 {
            return Err(Malformed::Fields("an object"));
        }
        let object = Self::read_fields(reader)?;
        reader.skip(count - 5)?;
        Ok(object)
    }

    fn read_fields(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: reader.below(MAX_NUMBER, "id")?,
            epoch: reader.below(MAX_NUMBER, "epoch")?,
            version: reader.below(MAX_NUMBER, "version")?,
            motion: Motion::read(reader)?,
            view: View::read(reader)?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_uint(out, self.id);
        wire::put_uint(out, self.epoch);
        wire::put_uint(out, self.version);
        self.motion.put(out);
        self.view.put(out);
    }
}

const ENTER: u64 = 0;
const CHANGE: u64 = 1;
const MOVE: u64 = 2;
const LEAVE: u64 = 3;

impl Entry {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.array("an entry")?;
        let kind: u64 = reader.int("an entry's kind")?;
        let known = match kind {
            ENTER => 7,
            CHANGE | MOVE => 4,
            LEAVE => 5,
            other => return Err(Malformed::UnknownMessage(other)),
        };
        if count < known {
            return Err(Malformed::Fields("an entry"));
        }
        let entry = Self::read_fields(reader, kind)?;
        reader.skip(count - known)?;
        Ok(entry)
    }

    fn read_fields(reader: &mut Reader<'_>, kind: u64) -> Result<Self, Malformed> {
        if kind == ENTER {
            let object = Shown::read_fields(reader)?;
            return Ok(Self::Enter { object, from: read_cell_or_nil(reader, "from")? });
        }
        let id = reader.below(MAX_NUMBER, "id")?;
        Ok(match kind {
            CHANGE => Self::Change { id, version: reader.below(MAX_NUMBER, "version")?, view: View::read(reader)? },
            MOVE => Self::Move { id, version: reader.below(MAX_NUMBER, "version")?, motion: Motion::read(reader)? },
            _ => Self::Leave {
                id,
                epoch: reader.below(MAX_NUMBER, "epoch")?,
                version: reader.below(MAX_NUMBER, "version")?,
                to: read_cell_or_nil(reader, "to")?,
            },
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Enter { object, from } => {
                wire::put_array(out, 7);
                wire::put_uint(out, ENTER);
                object.put(out);
                put_cell_or_nil(out, *from);
            }
            Self::Change { id, version, view } => {
                wire::put_array(out, 4);
                wire::put_uint(out, CHANGE);
                wire::put_uint(out, *id);
                wire::put_uint(out, *version);
                view.put(out);
            }
            Self::Move { id, version, motion } => {
                wire::put_array(out, 4);
                wire::put_uint(out, MOVE);
                wire::put_uint(out, *id);
                wire::put_uint(out, *version);
                motion.put(out);
            }
            Self::Leave { id, epoch, version, to } => {
                wire::put_array(out, 5);
                wire::put_uint(out, LEAVE);
                wire::put_uint(out, *id);
                wire::put_uint(out, *epoch);
                wire::put_uint(out, *version);
                put_cell_or_nil(out, *to);
            }
        }
    }
}

fn read_cell_or_nil(reader: &mut Reader<'_>, what: &'static str) -> Result<Option<CellXy>, Malformed> {
    if reader.nil() { Ok(None) } else { reader.cell(what).map(Some) }
}

fn put_cell_or_nil(out: &mut Vec<u8>, cell: Option<CellXy>) {
    match cell {
        Some(cell) => wire::put_cell(out, cell),
        None => wire::put_nil(out),
    }
}
