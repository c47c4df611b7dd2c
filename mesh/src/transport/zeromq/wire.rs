//! What the driver's messages look like on ZeroMQ: envelopes around the hub's bytes, and a few messages of its own.
//!
//! Decoding NEVER panics: everything here came over a socket. What is malformed is an `Err(Malformed)` and gets counted.
//!
//! ```text
//! published   [topic, header, part…]      header: version u8, life u64, sequence u64
//! pulse       [PULSE, header]             the same, from the driver itself, on a topic that no hub can name
//! message     [[version, 0], bytes]       a request or an answer
//! report      [[version, 1], token, sequence u64, tally]   subscriber → publisher, over the request connection
//! receipt     [[version, 2], life u64, tally]              the answer to a report, or when much has come in
//! tally       messages u64, bytes u64                      what the sender has received on this connection so far
//! ```
//! Integers are little-endian. Reports and receipts are one frame; they are written with a comma here for reading only.

use ::zeromq::ZmqMessage;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version of these envelopes. Others are refused.
const VERSION: u8 = 1;

/// The topic of pulses. Not graphic, so that it can be no hub's [`Topic`](crate::transport::Topic).
pub(super) const PULSE: &str = "\u{1}";

/// The identity of one subscribing connection: drawn afresh for each, so that its end never concerns the next one.
pub(super) type Token = [u8; 16];

/// The bytes of a header.
const HEADER: usize = 17;

/// What a publisher says with each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The publisher's life: another number means another process on the same endpoint.
    pub(super) life: u64,
    /// Rises by one with each message or pulse of this life.
    pub(super) sequence: u64,
}

/// What has come in on one request connection, counted by its receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Messages.
    pub(super) messages: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// How far a subscriber has come, and what its request connection has taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Which subscribing connection.
    pub(super) token: Token,
    /// The last pulse that it has seen.
    pub(super) sequence: u64,
    /// Answers received.
    pub(super) received: Tally,
}

/// What the request endpoint has taken in of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The life of the node that answers there.
    pub(super) life: u64,
    /// Requests received.
    pub(super) received: Tally,
}

/// What arrives on either end of a request connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The hub's.
    Hub(Bytes),
    /// From the connecting side.
    Report(Report),
    /// From the bound side.
    Receipt(Receipt),
}

/// A message that follows no form of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

const HUB: [u8; 2] = [VERSION, 0];
const REPORT: [u8; 2] = [VERSION, 1];
const RECEIPT: [u8; 2] = [VERSION, 2];

/// Wraps what the hub publishes; copies no part.
pub(super) fn published(topic: Bytes, header: Header, parts: Vec<Bytes>) -> ZmqMessage {
    let mut encoded = BytesMut::with_capacity(HEADER);
    encoded.put_u8(VERSION);
    encoded.put_u64_le(header.life);
    encoded.put_u64_le(header.sequence);
    let mut message = ZmqMessage::from(topic);
    message.push_back(encoded.freeze());
    parts.into_iter().for_each(|part| message.push_back(part));
    message
}

/// Unwraps what was published: the topic, the header and the parts.
pub(super) fn open_published(message: ZmqMessage) -> Result<(Bytes, Header, Vec<Bytes>), Malformed> {
    let mut frames = message.into_vec();
    if frames.len() < 2 {
        return Err(Malformed);
    }
    let parts = frames.split_off(2);
    let [topic, mut header] = <[Bytes; 2]>::try_from(frames).map_err(|_| Malformed)?;
    if header.len() != HEADER || header.get_u8() != VERSION {
        return Err(Malformed);
    }
    Ok((topic, Header { life: header.get_u64_le(), sequence: header.get_u64_le() }, parts))
}

/// Wraps a request or an answer; copies nothing.
pub(super) fn hub(message: Bytes) -> ZmqMessage {
    let mut frames = ZmqMessage::from(Bytes::from_static(&HUB));
    frames.push_back(message);
    frames
}

/// Writes a report.
pub(super) fn report(report: &Report) -> ZmqMessage {
    let mut frame = BytesMut::with_capacity(42);
    frame.put_slice(&REPORT);
    frame.put_slice(&report.token);
    frame.put_u64_le(report.sequence);
    put_tally(&mut frame, report.received);
    frame.freeze().into()
}

/// Writes a receipt.
pub(super) fn receipt(receipt: &Receipt) -> ZmqMessage {
    let mut frame = BytesMut::with_capacity(26);
    frame.put_slice(&RECEIPT);
    frame.put_u64_le(receipt.life);
    put_tally(&mut frame, receipt.received);
    frame.freeze().into()
}

/// Reads the frames of a message on a request connection (without the identity that a ROUTER puts before them).
pub(super) fn open(frames: &[Bytes]) -> Result<Message, Malformed> {
    match frames {
        [head, message] if **head == HUB => Ok(Message::Hub(message.clone())),
        [frame] if frame.starts_with(&REPORT) && frame.len() == 42 => {
            let mut rest = frame.slice(2..);
            let mut token = Token::default();
            rest.copy_to_slice(&mut token);
            Ok(Message::Report(Report { token, sequence: rest.get_u64_le(), received: get_tally(&mut rest) }))
        }
        [frame] if frame.starts_with(&RECEIPT) && frame.len() == 26 => {
            let mut rest = frame.slice(2..);
            Ok(Message::Receipt(Receipt { life: rest.get_u64_le(), received: get_tally(&mut rest) }))
        }
        _ => Err(Malformed),
    }
}

fn put_tally(frame: &mut BytesMut, tally: Tally) {
    frame.put_u64_le(tally.messages);
    frame.put_u64_le(tally.bytes);
}

fn get_tally(frame: &mut Bytes) -> Tally {
    Tally { messages: frame.get_u64_le(), bytes: frame.get_u64_le() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn what_is_wrapped_comes_out_the_same() {
        let parts = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        let header = Header { life: 7, sequence: u64::MAX };
        let opened = open_published(published(Bytes::from_static(b"topic"), header, parts.clone()));
        assert_eq!(opened, Ok((Bytes::from_static(b"topic"), header, parts)));

        let tally = Tally { messages: 3, bytes: 1 << 40 };
        let told = Report { token: [9; 16], sequence: 12, received: tally };
        assert_eq!(open(&report(&told).into_vec()), Ok(Message::Report(told)));
        let told = Receipt { life: 5, received: tally };
        assert_eq!(open(&receipt(&told).into_vec()), Ok(Message::Receipt(told)));
        let bytes = Bytes::from_static(b"bytes");
        assert_eq!(open(&hub(bytes.clone()).into_vec()), Ok(Message::Hub(bytes)));
    }

    #[test]
    fn parts_are_shared_and_not_copied() {
        let part = Bytes::from(vec![1; 1000]);
        let message = published(Bytes::from_static(b"t"), Header { life: 1, sequence: 1 }, vec![part.clone()]);
        assert_eq!(message.get(2).map(|p| p.as_ptr()), Some(part.as_ptr()));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut frames: Vec<Bytes> = Vec::new();
            for _ in 0..rng.random_range(1..4) {
                let mut frame: Vec<u8> = (0..rng.random_range(0..50)).map(|_| rng.random()).collect();
                if rng.random() && frame.len() > 1 {
                    frame[..2].copy_from_slice(&[VERSION, rng.random_range(0..4)]);
                }
                frames.push(frame.into());
            }
            let _ = open(&frames);
            if let Ok(message) = ZmqMessage::try_from(frames) {
                let _ = open_published(message);
            }
        }
    }
}
