//! The messages between two hubs, and how they become bytes.
//!
//! A message is a MessagePack header followed by a raw body, so that bodies are never copied on arrival. Bytes from
//! outside NEVER panic: what cannot be read is an error, and whoever reads it counts and drops it.
//!
//! [`Request::Hello`] and [`Reply::Refused`] MUST keep their shape for ever, so that nodes of different protocol versions
//! can tell each other what is wrong.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::calls::{CallRefusal, Lane};
use crate::membership::greeting::Refusal;
use crate::record::{Incarnation, NodeId};
use crate::transport::MESSAGE_BYTES;

/// The topic of the heartbeats.
pub(crate) const HEARTBEAT_TOPIC: &str = "~heartbeat";

/// The largest message that is read from somebody who has not greeted, in bytes.
pub(crate) const GREETING_BYTES: usize = 4096;

/// What a header may add to a body, in bytes: the room that a call's body must leave.
pub(crate) const HEADER_BYTES: usize = 1024;

/// The largest body of a call or an answer, in bytes.
pub(crate) const BODY_BYTES: usize = MESSAGE_BYTES - HEADER_BYTES;

/// How deep a header may nest.
const NESTING: usize = 16;

/// 32 random or computed bytes.
pub(crate) type Bytes32 = [u8; 32];

/// The first message on a link. Its body is the sender's record, in MessagePack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The sender's protocol version.
    pub(crate) protocol: u32,
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its district.
    pub(crate) district: String,
    /// Its name.
    pub(crate) node: String,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Whom it wants to reach.
    pub(crate) to: String,
    /// Which life of it.
    pub(crate) to_incarnation: Incarnation,
    /// Rises with every greeting on the sender's side; replies repeat it.
    pub(crate) number: u64,
    /// The sender's challenge.
    pub(crate) nonce: Bytes32,
}

/// What is sent to a peer's request endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// I would like to be let in.
    Hello(Hello),
    /// The answer to your challenge.
    Proof { number: u64, proof: Bytes32 },
    /// Your answer to my challenge is no good.
    Reject { number: u64, refusal: Refusal },
    /// What is your clock? Ours is this, in microseconds.
    Ping { sent_us: u64 },
    /// Whom do you hear?
    Hears,
    /// Please do this and answer. The body is the argument.
    Call { id: u64, method: String, lane: Lane, operation: Option<(u64, u64)> },
    /// Please take note. The body is the note.
    Cast { method: String },
    /// I am leaving.
    Bye,
}

/// What comes back on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// My answer to your challenge, and mine to you.
    Challenge { number: u64, nonce: Bytes32, proof: Bytes32 },
    /// You are let in.
    Welcome { number: u64 },
    /// You are not.
    Refused { number: u64, refusal: Refusal },
    /// You have not greeted (or I have forgotten it): greet first.
    GreetFirst,
    /// What your ping said, and my clock when it came, in microseconds.
    Pong { sent_us: u64, clock_us: u64 },
    /// Whom I hear, myself included.
    Hears { nodes: Vec<(NodeId, Incarnation)> },
    /// The answer to a call. The body is the result.
    Answer { id: u64 },
    /// The refusal of a call.
    No { id: u64, refusal: CallRefusal },
}

/// What a node publishes about once a second. The body is its load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// Whose.
    pub(crate) incarnation: Incarnation,
    /// The digest of whom it hears, itself included.
    pub(crate) hears: u64,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("not MessagePack of the expected shape")]
    Shape(#[from] rmp_serde::decode::Error),
}

/// A header and a body as one message.
pub(crate) fn encode<T: Serialize>(header: &T, body: &[u8]) -> Bytes {
    let mut writer = BytesMut::with_capacity(128 + body.len()).writer();
    let written = rmp_serde::encode::write(&mut writer, header);
    debug_assert!(written.is_ok(), "memory takes every header");
    let mut message = writer.into_inner();
    message.extend_from_slice(body);
    message.freeze()
}

/// Reads a header; the rest is the body, shared with `message`.
pub(crate) fn decode<T: DeserializeOwned>(message: &Bytes) -> Result<(T, Bytes), Unreadable> {
    let mut reader = rmp_serde::Deserializer::new(message.as_ref());
    reader.set_max_depth(NESTING);
    let header = T::deserialize(&mut reader)?;
    let rest = reader.into_inner().len();
    Ok((header, message.slice(message.len() - rest..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

    fn samples() -> Vec<Bytes> {
        let hello = Hello {
            protocol: 1,
            cluster: "home".into(),
            district: "north".into(),
            node: "zoo-1".into(),
            incarnation: Incarnation(7),
            to: "zoo-2".into(),
            to_incarnation: Incarnation(9),
            number: 3,
            nonce: [5; 32],
        };
        let call = Request::Call { id: 9, method: "m".into(), lane: Lane::Commit, operation: Some((u64::MAX, 1)) };
        let nodes = vec![(NodeId::new("zoo-1").unwrap(), Incarnation(7))];
        vec![
            encode(&Request::Hello(hello), b"record"),
            encode(&call, b"arguments"),
            encode(&Request::Hears, b""),
            encode(&Reply::Hears { nodes }, b""),
            encode(&Reply::No { id: 4, refusal: CallRefusal::new("no", "never") }, b""),
            encode(&Heartbeat { incarnation: Incarnation(4), hears: 77 }, b"load"),
        ]
    }

    #[test]
    fn a_message_comes_back_as_it_was_and_its_body_is_not_copied() {
        let sent = Request::Call { id: 9, method: "m".into(), lane: Lane::Sync, operation: None };
        let message = encode(&sent, b"arguments");
        let (header, body) = decode::<Request>(&message).unwrap();
        assert_eq!(header, sent);
        assert_eq!(&body[..], b"arguments");
        assert_eq!(body.as_ptr_range().end, message.as_ptr_range().end);
    }

    #[test]
    fn random_and_damaged_bytes_are_errors_or_messages_and_never_panics() {
        let mut rng = StdRng::seed_from_u64(1);
        let samples = samples();
        for round in 0..20_000 {
            let mut bytes = if round % 2 == 0 {
                samples[rng.random_range(0..samples.len())].to_vec()
            } else {
                vec![0; rng.random_range(0..200)]
            };
            if round % 2 == 0 {
                for _ in 0..rng.random_range(1..4) {
                    let place = rng.random_range(0..bytes.len());
                    bytes[place] = rng.random();
                }
                bytes.truncate(rng.random_range(0..=bytes.len()));
            } else {
                rng.fill_bytes(&mut bytes);
            }
            let bytes = Bytes::from(bytes);
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Reply>(&bytes);
            let _ = decode::<Heartbeat>(&bytes);
        }
    }

    #[test]
    fn nests_that_are_too_deep_are_refused() {
        assert!(decode::<Request>(&Bytes::from(vec![0x91; 100_000])).is_err());
    }
}
