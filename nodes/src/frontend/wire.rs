//! One message as it lies on a client's socket: a WebSocket header in front of bytes that are shared with everybody else.
//!
//! A server's frames are not masked (RFC 6455, section 5.1), so the whole message is the same for every client: the body
//! stays the very `Bytes` that the owner of the cell encoded, and only these few header bytes are made, once per message.

use bytes::Bytes;

/// The longest header of an unmasked WebSocket frame, in bytes.
const HEADER_BYTES: usize = 10;

/// A final binary frame (RFC 6455, section 5.2).
const FINAL_BINARY: u8 = 0x82;

/// A ping (RFC 6455, section 5.5.2).
const PING: u8 = 0x89;

/// A pong (RFC 6455, section 5.5.3).
const PONG: u8 = 0x8a;

/// What is in the ping that comes right behind a welcome. Every client's library answers it by itself (RFC 6455, section 5.5.2)
/// when it has read it, and with it the welcome.
pub const WELCOMED: &[u8] = b"welcomed";

/// A whole WebSocket message, ready to be written. Cloning copies no body.
#[derive(Clone, Debug)]
pub struct Wire {
    header: [u8; HEADER_BYTES],
    header_length: u8,
    body: Bytes,
}

impl Wire {
    /// Puts a header in front of `body`.
    pub fn new(body: Bytes) -> Wire {
        Wire::with(FINAL_BINARY, body)
    }

    /// Asks whether the welcome that was written before it has come.
    pub fn is_welcomed() -> Wire {
        Wire::with(PING, Bytes::from_static(WELCOMED))
    }

    /// The answer to a WebSocket ping with this payload.
    pub fn pong(payload: Bytes) -> Wire {
        Wire::with(PONG, payload)
    }

    fn with(kind: u8, body: Bytes) -> Wire {
        let mut header = [0; HEADER_BYTES];
        header[0] = kind;
        let length = body.len();
        let header_length = if length < 126 {
            header[1] = length as u8;
            2
        } else if let Ok(short) = u16::try_from(length) {
            header[1] = 126;
            header[2..4].copy_from_slice(&short.to_be_bytes());
            4
        } else {
            header[1] = 127;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        };
        Wire { header, header_length, body }
    }

    /// The header's bytes.
    pub fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_length)]
    }

    /// The message itself.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Header and body together, in bytes.
    pub fn len(&self) -> usize {
        usize::from(self.header_length) + self.body.len()
    }

    /// NEVER true: a message has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What remains after the first `skip` bytes are written, as up to two slices.
    pub fn rest(&self, skip: usize) -> (&[u8], &[u8]) {
        let header = self.header();
        if skip < header.len() {
            (&header[skip..], &self.body)
        } else {
            (&[], &self.body[(skip - header.len()).min(self.body.len())..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(length: usize, header: &[u8]) {
        let wire = Wire::new(Bytes::from(vec![7; length]));
        assert_eq!(wire.header(), header, "{length} bytes");
        assert_eq!(wire.len(), header.len() + length);
        for skip in [0, 1, header.len(), wire.len()] {
            let (head, body) = wire.rest(skip);
            assert_eq!(head.len() + body.len(), wire.len() - skip);
        }
    }

    #[test]
    fn headers_follow_the_three_length_forms() {
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(65_535, &[0x82, 126, 0xff, 0xff]);
        check(65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn the_body_is_shared_not_copied() {
        let body = Bytes::from(vec![1; 1000]);
        let wire = Wire::new(body.clone());
        assert_eq!(wire.body().as_ptr(), body.as_ptr());
        assert_eq!(wire.clone().body().as_ptr(), body.as_ptr());
    }
}
