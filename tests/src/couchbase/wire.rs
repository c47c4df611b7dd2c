//! Couchbase's binary protocol: packets of 24 bytes of header, framing extras, extras, key and value.
//!
//! Reads what a client sends and writes what it is answered. It NEVER interprets an operation.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const REQUEST: u8 = 0x80;
/// A request with framing extras.
const FLEXIBLE_REQUEST: u8 = 0x08;
const REPLY: u8 = 0x81;

/// The longest body that a client may send: Couchbase's bound on documents, and a little.
const BODY_BYTES: usize = 21 * 1024 * 1024;

/// Framing extras: a durability level.
pub(super) const FRAME_DURABILITY: u8 = 1;
/// Framing extras: the expiry stays as it was.
pub(super) const FRAME_PRESERVE_EXPIRY: u8 = 5;

/// Operations, as clients number them.
pub(super) mod op {
    pub(crate) const GET: u8 = 0x00;
    pub(crate) const SET: u8 = 0x01;
    pub(crate) const ADD: u8 = 0x02;
    pub(crate) const REPLACE: u8 = 0x03;
    pub(crate) const DELETE: u8 = 0x04;
    pub(crate) const NOOP: u8 = 0x0a;
    pub(crate) const TOUCH: u8 = 0x1c;
    pub(crate) const GET_AND_TOUCH: u8 = 0x1d;
    pub(crate) const HELLO: u8 = 0x1f;
    pub(crate) const SASL_LIST: u8 = 0x20;
    pub(crate) const SASL_AUTH: u8 = 0x21;
    pub(crate) const SASL_STEP: u8 = 0x22;
    pub(crate) const SELECT_BUCKET: u8 = 0x89;
    pub(crate) const GET_META: u8 = 0xa0;
    pub(crate) const CLUSTER_CONFIG: u8 = 0xb5;
    pub(crate) const COLLECTION_ID: u8 = 0xbb;
    pub(crate) const ERROR_MAP: u8 = 0xfe;
}

/// How a request ended.
pub(super) mod status {
    pub(crate) const OK: u16 = 0x00;
    pub(crate) const NOT_FOUND: u16 = 0x01;
    pub(crate) const EXISTS: u16 = 0x02;
    pub(crate) const TOO_BIG: u16 = 0x03;
    pub(crate) const INVALID: u16 = 0x04;
    pub(crate) const NOT_MY_VBUCKET: u16 = 0x07;
    pub(crate) const NO_BUCKET: u16 = 0x08;
    pub(crate) const AUTH_ERROR: u16 = 0x20;
    pub(crate) const AUTH_CONTINUE: u16 = 0x21;
    pub(crate) const ACCESS: u16 = 0x24;
    pub(crate) const UNKNOWN_COMMAND: u16 = 0x81;
    pub(crate) const COLLECTION_UNKNOWN: u16 = 0x88;
    pub(crate) const SCOPE_UNKNOWN: u16 = 0x8c;
    pub(crate) const DURABILITY_IMPOSSIBLE: u16 = 0xa1;
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) opcode: u8,
    pub(super) vbucket: u16,
    pub(super) opaque: u32,
    pub(super) cas: u64,
    /// The framing extras, by number.
    pub(super) frames: Vec<(u8, Bytes)>,
    pub(super) extras: Bytes,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// What it is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) cas: u64,
    pub(super) extras: Bytes,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

impl Reply {
    pub(super) fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub(super) fn value(value: impl Into<Bytes>) -> Reply {
        Reply { value: value.into(), ..Reply::default() }
    }

    /// The packet that answers `request`.
    pub(super) fn encode(&self, request: &Request) -> Bytes {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let mut packet = BytesMut::with_capacity(24 + body);
        packet.put_u8(REPLY);
        packet.put_u8(request.opcode);
        packet.put_u16(self.key.len() as u16);
        packet.put_u8(self.extras.len() as u8);
        packet.put_u8(0);
        packet.put_u16(self.status);
        packet.put_u32(body as u32);
        packet.put_u32(request.opaque);
        packet.put_u64(self.cas);
        packet.put_slice(&self.extras);
        packet.put_slice(&self.key);
        packet.put_slice(&self.value);
        packet.freeze()
    }
}

/// Reads one request, or nothing when the client has closed.
pub(super) async fn read_request(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut header = [0; 24];
    match from.read_exact(&mut header).await {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let number = |at: usize, bytes: usize| header[at..at + bytes].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let (frames_length, key_length) = match header[0] {
        REQUEST => (0, number(2, 2) as usize),
        FLEXIBLE_REQUEST => (number(2, 1) as usize, number(3, 1) as usize),
        magic => return Err(broken(format!("magic {magic:02x}"))),
    };
    let (extras_length, body_length) = (header[4] as usize, number(8, 4) as usize);
    if body_length > BODY_BYTES || frames_length + key_length + extras_length > body_length {
        return Err(broken(format!("a body of {body_length} bytes")));
    }
    let mut body = vec![0; body_length];
    from.read_exact(&mut body).await?;
    let mut body = Bytes::from(body);
    Ok(Some(Request {
        opcode: header[1],
        vbucket: number(6, 2) as u16,
        opaque: number(12, 4) as u32,
        cas: number(16, 8),
        frames: frames(body.split_to(frames_length))?,
        extras: body.split_to(extras_length),
        key: body.split_to(key_length),
        value: body,
    }))
}

/// Framing extras: each a byte of number and length, of which fifteen means "more follows", and its bytes.
fn frames(mut bytes: Bytes) -> io::Result<Vec<(u8, Bytes)>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let first = bytes.split_to(1)[0];
        let (number, length) = (first >> 4, usize::from(first & 0x0f));
        if number == 0x0f || length == 0x0f || length > bytes.len() {
            return Err(broken(format!("a frame of {length} bytes, number {number}")));
        }
        frames.push((number, bytes.split_to(length)));
    }
    Ok(frames)
}

/// Splits a key into the number of its collection (LEB128) and the key proper.
pub(super) fn split_key(key: &Bytes) -> Option<(u32, Bytes)> {
    let mut collection = 0u32;
    for (at, byte) in key.iter().enumerate().take(5) {
        collection |= u32::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((collection, key.slice(at + 1..)));
        }
    }
    None
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_with_frames_is_taken_apart() {
        let mut packet = vec![FLEXIBLE_REQUEST, op::REPLACE, 3, 4, 8, 0, 0, 9, 0, 0, 0, 17, 0, 0, 0, 7];
        packet.extend(5u64.to_be_bytes());
        packet.extend([0x11, 0x01, 0x50]);
        packet.extend([0; 8]);
        packet.extend(b"\x08abc");
        packet.extend(b"{}");
        let request = read_request(&mut packet.as_slice()).await.expect("sound").expect("one");
        assert_eq!((request.opcode, request.vbucket, request.opaque, request.cas), (op::REPLACE, 9, 7, 5));
        assert_eq!(request.frames, [(1, Bytes::from_static(&[1])), (5, Bytes::new())]);
        assert_eq!(split_key(&request.key), Some((8, Bytes::from_static(b"abc"))));
        assert_eq!(request.value, "{}");
    }

    #[test]
    fn collections_are_numbered_in_leb128() {
        let check = |bytes: &'static [u8], expected| {
            assert_eq!(split_key(&Bytes::from_static(bytes)).map(|(collection, _)| collection), expected, "{bytes:?}");
        };
        check(&[0, 1], Some(0));
        check(&[0x88, 0x01, 1], Some(136));
        check(&[0x80, 0x80], None);
    }
}
