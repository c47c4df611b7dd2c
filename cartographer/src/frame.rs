//! Frames: what one node says about one cell, as bytes. The same bytes travel on the mesh and to every client.
//!
//! MessagePack arrays, written and read field by field:
//! ```text
//! delta    [10, publisher, island, cx, cy, seq, time_ms, [entry…]]
//! keyframe [11, publisher, island, cx, cy, seq, time_ms, [[id, epoch, version, motion, view]…]]
//! entry    enter [0, id, epoch, version, motion, view, from]   from: nil (appeared) or [cx, cy]
//!          change [1, id, version, view]
//!          move   [2, id, version, motion]
//!          leave  [3, id, epoch, version, to]                  to: nil (gone) or [cx, cy]
//! motion   [x, y, vx, vy, since_ms, duration_ms]
//! ```
//! A delta's entries are in order: leaves first, then by object and rising version. Views are the game's: any MessagePack
//! value, passed on byte for byte. Reading takes any bytes whatever: it NEVER panics, reserves no more memory than the
//! bytes could fill, and gives either a whole frame or an error. Writers never write more elements than the format says;
//! readers refuse any other number.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::geometry::{Cell, Epoch, IslandId, MAX_ISLAND_TILES, ObjectId, Place, TILES_PER_CELL};
use crate::motion::Motion;

/// The longest view, encoded, in bytes.
pub const VIEW_BYTES: usize = 16 * 1024;
/// The longest frame that is read, in bytes.
pub const FRAME_BYTES: usize = 8 * 1024 * 1024;
/// Publishers and their numbers stay below this, so that every client language's number holds them.
pub const PUBLISHER_LIMIT: u64 = 1 << 48;
/// Sequence numbers, versions, epochs and times stay below this, for the same reason.
pub const NUMBER_LIMIT: u64 = 1 << 53;

const DELTA: u64 = 10;
const KEYFRAME: u64 = 11;
const ENTER: u64 = 0;
const CHANGE: u64 = 1;
const MOVE: u64 = 2;
const LEAVE: u64 = 3;

/// No view nests deeper.
const VIEW_DEPTH: usize = 32;
/// The shortest entry, in bytes.
const LEAST_ENTRY: usize = 4;
const CELLS: u64 = (MAX_ISLAND_TILES / TILES_PER_CELL) as u64;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// They end too early, or a value has another type.
    #[error("not the MessagePack that a frame is made of")]
    Shape,
    /// A number is out of the range that its field may have.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// Longer than a frame may be, or followed by more.
    #[error("frame or view too long, or followed by other bytes")]
    Length,
    /// The view is not one of this game.
    #[error("view cannot be read")]
    View(#[source] rmp_serde::decode::Error),
}

/// What every frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether it tells everything that the publisher holds in the cell, or only what changed.
    pub is_keyframe: bool,
    /// Who says it: the incarnation of a node.
    pub publisher: u64,
    /// Of which cell.
    pub cell: Cell,
    /// Counts the frames of this publisher and cell.
    pub seq: u64,
    /// When, in milliseconds of the publisher's clock.
    pub time_ms: u64,
}

/// One object, whole, as a keyframe lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<'a, V> {
    /// The object.
    pub id: ObjectId,
    /// Its owner's epoch.
    pub epoch: Epoch,
    /// Rises with everything that happens to it in this epoch.
    pub version: u64,
    /// Where it is.
    pub motion: Motion,
    /// How it looks.
    pub view: V,
    /// The view as it was encoded.
    pub raw: &'a [u8],
}

/// What happened to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a, V> {
    /// It is now in this cell.
    Enter {
        /// All of it.
        object: Listed<'a, V>,
        /// The cell of the same island that it came from; `None` if it appeared.
        from: Option<(u16, u16)>,
    },
    /// It looks different.
    Change {
        /// The object.
        id: ObjectId,
        /// Its version since.
        version: u64,
        /// How it looks now.
        view: V,
        /// The view as it was encoded.
        raw: &'a [u8],
    },
    /// It moves differently.
    Move {
        /// The object.
        id: ObjectId,
        /// Its version since.
        version: u64,
        /// How it moves now.
        motion: Motion,
    },
    /// It is no longer in this cell.
    Leave {
        /// The object.
        id: ObjectId,
        /// Its owner's epoch.
        epoch: Epoch,
        /// Its version since.
        version: u64,
        /// The cell of the same island that it went to; `None` if it is gone, or on another island.
        to: Option<(u16, u16)>,
    },
}

/// What follows the header.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a, V> {
    /// What changed.
    Delta(Vec<Entry<'a, V>>),
    /// All that is there.
    Keyframe(Vec<Listed<'a, V>>),
}

/// Reads a frame's header, and nothing else.
pub fn header(bytes: &[u8]) -> Result<Header, FrameError> {
    Reader::of(bytes)?.header()
}

/// Reads a whole frame.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<(Header, Content<'_, V>), FrameError> {
    let mut reader = Reader::of(bytes)?;
    let header = reader.header()?;
    let count = reader.array()?;
    let content = if header.is_keyframe {
        let mut listed = reader.room(count);
        for _ in 0..count {
            reader.expect_array(5)?;
            listed.push(reader.listed()?);
        }
        Content::Keyframe(listed)
    } else {
        let mut entries = reader.room(count);
        for _ in 0..count {
            entries.push(reader.entry()?);
        }
        Content::Delta(entries)
    };
    if reader.rest.is_empty() { Ok((header, content)) } else { Err(FrameError::Length) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn of(bytes: &'a [u8]) -> Result<Reader<'a>, FrameError> {
        if bytes.len() > FRAME_BYTES { Err(FrameError::Length) } else { Ok(Reader { rest: bytes }) }
    }

    /// An empty list with room for `count` things, or for as many as the bytes could hold.
    fn room<T>(&self, count: u32) -> Vec<T> {
        Vec::with_capacity((count as usize).min(self.rest.len() / LEAST_ENTRY))
    }

    fn array(&mut self) -> Result<u32, FrameError> {
        rmp::decode::read_array_len(&mut self.rest).map_err(|_| FrameError::Shape)
    }

    fn expect_array(&mut self, length: u32) -> Result<(), FrameError> {
        if self.array()? == length { Ok(()) } else { Err(FrameError::Shape) }
    }

    fn number(&mut self, limit: u64, name: &'static str) -> Result<u64, FrameError> {
        let number: u64 = rmp::decode::read_int(&mut self.rest).map_err(|_| FrameError::Shape)?;
        if number < limit { Ok(number) } else { Err(FrameError::Range(name)) }
    }

    fn signed(&mut self) -> Result<i32, FrameError> {
        rmp::decode::read_int(&mut self.rest).map_err(|_| FrameError::Shape)
    }

    fn header(&mut self) -> Result<Header, FrameError> {
        self.expect_array(8)?;
        let is_keyframe = match self.number(u64::MAX, "kind")? {
            DELTA => false,
            KEYFRAME => true,
            _ => return Err(FrameError::Range("kind")),
        };
        let publisher = self.number(PUBLISHER_LIMIT, "publisher")?;
        let island = IslandId(self.number(1 << 32, "island")? as u32);
        let (x, y) = self.cell()?;
        let seq = self.number(NUMBER_LIMIT, "seq")?;
        let time_ms = self.number(NUMBER_LIMIT, "time")?;
        Ok(Header { is_keyframe, publisher, cell: Cell::new(island, x, y), seq, time_ms })
    }

    fn cell(&mut self) -> Result<(u16, u16), FrameError> {
        Ok((self.number(CELLS, "cell")? as u16, self.number(CELLS, "cell")? as u16))
    }

    fn other_cell(&mut self) -> Result<Option<(u16, u16)>, FrameError> {
        if let [NIL, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(None);
        }
        self.expect_array(2)?;
        self.cell().map(Some)
    }

    fn id(&mut self) -> Result<ObjectId, FrameError> {
        self.number(NUMBER_LIMIT, "id").map(ObjectId)
    }

    fn version(&mut self) -> Result<u64, FrameError> {
        self.number(NUMBER_LIMIT, "version")
    }

    fn epoch(&mut self) -> Result<Epoch, FrameError> {
        self.number(NUMBER_LIMIT, "epoch").map(Epoch)
    }

    fn motion(&mut self) -> Result<Motion, FrameError> {
        self.expect_array(6)?;
        Ok(Motion {
            from: Place { x: self.signed()?, y: self.signed()? },
            velocity: (self.signed()?, self.signed()?),
            since: self.number(NUMBER_LIMIT, "since")?,
            duration_ms: self.number(1 << 32, "duration")? as u32,
        })
    }

    fn view<V: DeserializeOwned>(&mut self) -> Result<(V, &'a [u8]), FrameError> {
        let length = value_length(self.rest).ok_or(FrameError::Shape)?;
        if length > VIEW_BYTES {
            return Err(FrameError::Length);
        }
        let (raw, rest) = self.rest.split_at(length);
        self.rest = rest;
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(raw);
        deserializer.set_max_depth(VIEW_DEPTH);
        let view = V::deserialize(&mut deserializer).map_err(FrameError::View)?;
        Ok((view, raw))
    }

    fn listed<V: DeserializeOwned>(&mut self) -> Result<Listed<'a, V>, FrameError> {
        let (id, epoch, version, motion) = (self.id()?, self.epoch()?, self.version()?, self.motion()?);
        let (view, raw) = self.view()?;
        Ok(Listed { id, epoch, version, motion, view, raw })
    }

    fn entry<V: DeserializeOwned>(&mut self) -> Result<Entry<'a, V>, FrameError> {
        let length = self.array()?;
        match (self.number(u64::MAX, "entry")?, length) {
            (ENTER, 7) => Ok(Entry::Enter { object: self.listed()?, from: self.other_cell()? }),
            (CHANGE, 4) => {
                let (id, version) = (self.id()?, self.version()?);
                let (view, raw) = self.view()?;
                Ok(Entry::Change { id, version, view, raw })
            }
            (MOVE, 4) => Ok(Entry::Move { id: self.id()?, version: self.version()?, motion: self.motion()? }),
            (LEAVE, 5) => Ok(Entry::Leave {
                id: self.id()?,
                epoch: self.epoch()?,
                version: self.version()?,
                to: self.other_cell()?,
            }),
            _ => Err(FrameError::Shape),
        }
    }
}

const NIL: u8 = 0xc0;

/// The length in bytes of the one MessagePack value at the front; `None` if it is not whole.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    let mut values = 1u64;
    // Every round consumes a byte at least, so hostile lengths end at the end of the bytes.
    while values > 0 {
        values -= 1;
        let marker = *bytes.get(at)?;
        at += 1;
        let mut length = |size: usize| -> Option<u64> {
            let digits = bytes.get(at..at + size)?;
            at += size;
            Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
        };
        let (skip, inner) = match marker {
            0x00..=0x7f | 0xe0..=0xff | NIL | 0xc2 | 0xc3 => (0, 0),
            0x80..=0x8f => (0, u64::from(marker & 15) * 2),
            0x90..=0x9f => (0, u64::from(marker & 15)),
            0xa0..=0xbf => (u64::from(marker & 31), 0),
            0xc1 => return None,
            0xc4 | 0xd9 => (length(1)?, 0),
            0xc5 | 0xda => (length(2)?, 0),
            0xc6 | 0xdb => (length(4)?, 0),
            0xc7 => (length(1)? + 1, 0),
            0xc8 => (length(2)? + 1, 0),
            0xc9 => (length(4)? + 1, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4..=0xd8 => ((1 << (marker - 0xd4)) + 1, 0),
            0xdc => (0, length(2)?),
            0xdd => (0, length(4)?),
            0xde => (0, length(2)? * 2),
            0xdf => (0, length(4)? * 2),
        };
        values += inner;
        at = at.checked_add(usize::try_from(skip).ok()?)?;
        if at > bytes.len() {
            return None;
        }
    }
    Some(at)
}

/// Encodes a view.
///
/// # Panics
/// If its `Serialize` fails or gives more than [`VIEW_BYTES`]: both are the game's mistakes.
pub fn encode_view<V: Serialize>(view: &V) -> Box<[u8]> {
    let raw = rmp_serde::to_vec(view).expect("a view can always be encoded");
    assert!(raw.len() <= VIEW_BYTES, "a view of {} bytes", raw.len());
    raw.into_boxed_slice()
}

/// Writes frames, one after another, into memory that it keeps.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// What a writer needs to know of an object to list it whole.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The object.
    pub id: ObjectId,
    /// Its owner's epoch.
    pub epoch: Epoch,
    /// Its version.
    pub version: u64,
    /// Where it is.
    pub motion: &'a Motion,
    /// Its view, encoded.
    pub raw: &'a [u8],
}

impl Writer {
    /// Begins a frame that will have `count` entries.
    pub fn begin(&mut self, header: &Header, count: usize) {
        self.bytes.clear();
        self.array(8);
        self.number(if header.is_keyframe { KEYFRAME } else { DELTA });
        self.number(header.publisher);
        self.number(u64::from(header.cell.island.0));
        self.number(u64::from(header.cell.x));
        self.number(u64::from(header.cell.y));
        self.number(header.seq);
        self.number(header.time_ms);
        self.array(count as u32);
    }

    /// The frame that was begun, when all its entries are written.
    pub fn end(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes)
    }

    /// A keyframe's entry.
    pub fn list(&mut self, object: &Whole<'_>) {
        self.array(5);
        self.whole(object);
    }

    /// An object is now in the frame's cell.
    pub fn enter(&mut self, object: &Whole<'_>, from: Option<Cell>) {
        self.array(7);
        self.number(ENTER);
        self.whole(object);
        self.other_cell(from);
    }

    /// An object looks different.
    pub fn change(&mut self, id: ObjectId, version: u64, raw: &[u8]) {
        self.array(4);
        self.number(CHANGE);
        self.number(id.0);
        self.number(version);
        self.bytes.extend_from_slice(raw);
    }

    /// An object moves differently.
    pub fn moves(&mut self, id: ObjectId, version: u64, motion: &Motion) {
        self.array(4);
        self.number(MOVE);
        self.number(id.0);
        self.number(version);
        self.motion(motion);
    }

    /// An object is no longer in the frame's cell.
    pub fn leave(&mut self, id: ObjectId, epoch: Epoch, version: u64, to: Option<Cell>) {
        self.array(5);
        self.number(LEAVE);
        self.number(id.0);
        self.number(epoch.0);
        self.number(version);
        self.other_cell(to);
    }

    fn whole(&mut self, object: &Whole<'_>) {
        self.number(object.id.0);
        self.number(object.epoch.0);
        self.number(object.version);
        self.motion(object.motion);
        self.bytes.extend_from_slice(object.raw);
    }

    /// Appends a motion.
    fn motion(&mut self, motion: &Motion) {
        self.array(6);
        self.signed(motion.from.x);
        self.signed(motion.from.y);
        self.signed(motion.velocity.0);
        self.signed(motion.velocity.1);
        self.number(motion.since);
        self.number(u64::from(motion.duration_ms));
    }

    fn other_cell(&mut self, cell: Option<Cell>) {
        match cell {
            None => self.bytes.push(NIL),
            Some(cell) => {
                self.array(2);
                self.number(u64::from(cell.x));
                self.number(u64::from(cell.y));
            }
        }
    }

    // Writing to memory never fails.
    fn array(&mut self, length: u32) {
        let _ = rmp::encode::write_array_len(&mut self.bytes, length);
    }

    fn number(&mut self, number: u64) {
        let _ = rmp::encode::write_uint(&mut self.bytes, number);
    }

    fn signed(&mut self, number: i32) {
        let _ = rmp::encode::write_sint(&mut self.bytes, i64::from(number));
    }
}
