//! Reading and writing single MessagePack values for the messages of this protocol.
//!
//! [`Reader`] walks over borrowed bytes, copies nothing, and says what it expected where it fails. It NEVER panics,
//! never reads past the end, never recurses, and never trusts a length before checking it against the bytes that are
//! really there. The `put_*` functions append to a `Vec<u8>`, which cannot fail.

use rmp::Marker;

/// Why bytes are not a message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end in the middle of a value.
    #[error("the message ends early")]
    Truncated,
    /// A value of another type stands where this one belongs.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A number is outside the range of its field.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// A text or list is longer than allowed.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// An array has too few elements, or a client's has too many.
    #[error("wrong number of fields in {0}")]
    Fields(&'static str),
    /// Bytes are left over behind the message.
    #[error("bytes behind the end of the message")]
    Trailing,
    /// The first element names no message that we know.
    #[error("unknown message {0}")]
    UnknownMessage(u64),
    /// A well-formed command of an unknown name; it deserves an answer under its `seq`.
    #[error("unknown command {op:?}")]
    UnknownOp {
        /// The command's number.
        seq: u32,
        /// The name that we do not know.
        op: String,
    },
    /// A command of a known name with wrong arguments; it deserves an answer under its `seq`.
    #[error("wrong arguments of {op}: {why}")]
    BadArguments {
        /// The command's number.
        seq: u32,
        /// The command's name.
        op: &'static str,
        /// What is wrong with them.
        why: Box<Malformed>,
    },
}

/// A cursor over the bytes of one message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err(Malformed::Truncated);
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    fn big_endian(&mut self, count: usize) -> Result<u64, Malformed> {
        Ok(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    /// Any integer, of whatever MessagePack form.
    fn integer(&mut self, what: &'static str) -> Result<i128, Malformed> {
        Ok(match self.marker()? {
            Marker::FixPos(value) => i128::from(value),
            Marker::FixNeg(value) => i128::from(value),
            Marker::U8 => i128::from(self.big_endian(1)?),
            Marker::U16 => i128::from(self.big_endian(2)?),
            Marker::U32 => i128::from(self.big_endian(4)?),
            Marker::U64 => i128::from(self.big_endian(8)?),
            Marker::I8 => i128::from(self.big_endian(1)? as u8 as i8),
            Marker::I16 => i128::from(self.big_endian(2)? as u16 as i16),
            Marker::I32 => i128::from(self.big_endian(4)? as u32 as i32),
            Marker::I64 => i128::from(self.big_endian(8)? as i64),
            _ => return Err(Malformed::Expected(what)),
        })
    }

    /// An integer that fits its field's type.
    pub fn int<T: TryFrom<i128>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        T::try_from(self.integer(what)?).map_err(|_| Malformed::OutOfRange(what))
    }

    /// An unsigned integer below `limit`.
    pub fn below(&mut self, limit: u64, what: &'static str) -> Result<u64, Malformed> {
        let value: u64 = self.int(what)?;
        if value < limit { Ok(value) } else { Err(Malformed::OutOfRange(what)) }
    }

    /// The number of elements of an array that begins here; NEVER more than bytes are left.
    pub fn array(&mut self, what: &'static str) -> Result<usize, Malformed> {
        let length = match self.marker()? {
            Marker::FixArray(length) => u64::from(length),
            Marker::Array16 => self.big_endian(2)?,
            Marker::Array32 => self.big_endian(4)?,
            _ => return Err(Malformed::Expected(what)),
        };
        // Every element takes a byte at least, so that a lying length cannot make us allocate.
        if length > self.rest.len() as u64 { Err(Malformed::Truncated) } else { Ok(length as usize) }
    }

    /// An array of exactly `length` elements.
    pub fn fields(&mut self, length: usize, what: &'static str) -> Result<(), Malformed> {
        if self.array(what)? == length { Ok(()) } else { Err(Malformed::Fields(what)) }
    }

    /// A text of at most `limit` bytes, borrowed.
    pub fn text(&mut self, limit: usize, what: &'static str) -> Result<&'a str, Malformed> {
        let length = match self.marker()? {
            Marker::FixStr(length) => u64::from(length),
            Marker::Str8 => self.big_endian(1)?,
            Marker::Str16 => self.big_endian(2)?,
            Marker::Str32 => self.big_endian(4)?,
            _ => return Err(Malformed::Expected(what)),
        };
        if length > limit as u64 {
            return Err(Malformed::TooLong(what));
        }
        std::str::from_utf8(self.take(length as usize)?).map_err(|_| Malformed::Expected(what))
    }

    /// Takes a nil if one stands here.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.rest.first() == Some(&Marker::Null.to_u8());
        if is_nil {
            self.rest = &self.rest[1..];
        }
        is_nil
    }

    /// A list of cells, at most `limit` of them.
    pub fn cells(&mut self, limit: usize, what: &'static str) -> Result<Vec<(u16, u16)>, Malformed> {
        let length = self.array(what)?;
        if length > limit {
            return Err(Malformed::TooLong(what));
        }
        (0..length).map(|_| self.cell(what)).collect()
    }

    /// One cell, `[x, y]`.
    pub fn cell(&mut self, what: &'static str) -> Result<(u16, u16), Malformed> {
        self.fields(2, what)?;
        Ok((self.int(what)?, self.int(what)?))
    }

    /// Jumps over `count` whole values, nested as they may be, without recursion.
    pub fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        let mut pending = count as u64;
        while pending > 0 {
            pending -= 1;
            let (bytes, nested) = self.extent()?;
            if bytes > self.rest.len() as u64 || nested > self.rest.len() as u64 {
                return Err(Malformed::Truncated);
            }
            self.rest = &self.rest[bytes as usize..];
            pending += nested;
        }
        Ok(())
    }

    /// How many bytes follow the marker here, and how many values after them belong to it.
    fn extent(&mut self) -> Result<(u64, u64), Malformed> {
        Ok(match self.marker()? {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::Reserved => return Err(Malformed::Expected("a value")),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(length) => (u64::from(length), 0),
            Marker::Str8 | Marker::Bin8 => (self.big_endian(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (self.big_endian(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (self.big_endian(4)?, 0),
            Marker::FixArray(length) => (0, u64::from(length)),
            Marker::Array16 => (0, self.big_endian(2)?),
            Marker::Array32 => (0, self.big_endian(4)?),
            Marker::FixMap(length) => (0, 2 * u64::from(length)),
            Marker::Map16 => (0, 2 * self.big_endian(2)?),
            Marker::Map32 => (0, 2 * self.big_endian(4)?),
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (self.big_endian(1)? + 1, 0),
            Marker::Ext16 => (self.big_endian(2)? + 1, 0),
            Marker::Ext32 => (self.big_endian(4)? + 1, 0),
        })
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// Appends an array's head.
pub fn put_array(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    // Writing into a vector cannot fail.
    let _ = rmp::encode::write_array_len(out, length);
}

/// Appends an unsigned integer in its shortest form.
pub fn put_uint(out: &mut Vec<u8>, value: impl Into<u64>) {
    let _ = rmp::encode::write_uint(out, value.into());
}

/// Appends a signed integer in its shortest form.
pub fn put_int(out: &mut Vec<u8>, value: impl Into<i64>) {
    let _ = rmp::encode::write_sint(out, value.into());
}

/// Appends a text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let _ = rmp::encode::write_str(out, text);
}

/// Appends a nil.
pub fn put_nil(out: &mut Vec<u8>) {
    let _ = rmp::encode::write_nil(out);
}

/// Appends a cell, `[x, y]`.
pub fn put_cell(out: &mut Vec<u8>, cell: (u16, u16)) {
    put_array(out, 2);
    put_uint(out, cell.0);
    put_uint(out, cell.1);
}

/// Appends a list of cells.
pub fn put_cells(out: &mut Vec<u8>, cells: &[(u16, u16)]) {
    put_array(out, cells.len());
    for cell in cells {
        put_cell(out, *cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_every_form() {
        for (bytes, expected) in [
            (vec![0x05], 5),
            (vec![0xff], -1),
            (vec![0xcc, 0x05], 5),
            (vec![0xcd, 0, 5], 5),
            (vec![0xce, 0, 0, 0, 5], 5),
            (vec![0xcf, 0, 0, 0, 0, 0, 0, 0, 5], 5),
            (vec![0xd0, 0xfb], -5),
            (vec![0xd1, 0xff, 0xfb], -5),
            (vec![0xd2, 0xff, 0xff, 0xff, 0xfb], -5),
            (vec![0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb], -5),
        ] {
            assert_eq!(Reader::new(&bytes).int::<i64>("n"), Ok(expected), "{bytes:x?}");
        }
        assert_eq!(Reader::new(&[0xff]).int::<u32>("n"), Err(Malformed::OutOfRange("n")));
        assert_eq!(Reader::new(&[0xcd, 1]).int::<u32>("n"), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0xc0]).int::<u32>("n"), Err(Malformed::Expected("n")));
    }

    #[test]
    fn a_lying_length_is_refused_before_anything_is_allocated() {
        assert_eq!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff]).array("list"), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0xdb, 0, 0, 0, 9, b'a']).text(100, "text"), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0xdb, 0xff, 0, 0, 9, b'a']).text(100, "text"), Err(Malformed::TooLong("text")));
    }

    #[test]
    fn skipping_takes_nested_values_whole() {
        // [1, [2, {"a": nil}], bin(1)] and then 7.
        let bytes = [0x93, 1, 0x92, 2, 0x81, 0xa1, b'a', 0xc0, 0xc4, 1, 0xaa, 7];
        let mut reader = Reader::new(&bytes);
        reader.skip(1).unwrap();
        assert_eq!(reader.int::<u8>("seven"), Ok(7));
        assert!(Reader::new(&[0x9f; 64]).skip(1).is_err());
        assert!(Reader::new(&[0xc1]).skip(1).is_err());
    }
}
