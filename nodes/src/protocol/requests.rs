//! What a client says to its frontend.
//!
//! Decoding is strict and meets hostile bytes: a command with an unknown name or wrong arguments is told apart from
//! bytes that are no message at all, since the first deserve an answer and the second a farewell.

use bytes::Bytes;

use super::acts::Act;
use super::wire::{self, Malformed, Reader};
use super::{CellXy, MAX_ASK_CELLS, MAX_OP_BYTES, MAX_TOKEN_BYTES};

const HELLO: u64 = 1;
const COMMAND: u64 = 2;
const ASK: u64 = 3;
const PING: u64 = 4;

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// `[1, protocol, token, kind]`: the first message, within 5 s of connecting.
    Hello {
        /// The protocol's version.
        protocol: u32,
        /// The ticket or the resume token.
        token: String,
        /// Which of the two.
        kind: HelloKind,
    },
    /// `[2, seq, op, …arguments]`.
    Command {
        /// Rises with every command; the answer carries it.
        seq: u32,
        /// What to do.
        command: Command,
    },
    /// `[3, [[cx, cy]…]]`: asks again for the keyframes of these cells.
    Ask {
        /// The cells, on the island where the player is.
        cells: Vec<CellXy>,
    },
    /// `[4, t]`.
    Ping {
        /// Any number; it comes back in the pong.
        t: i64,
    },
}

/// What the token of a hello is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// 0: a ticket from the gateway, or a passage from a redirect.
    Ticket,
    /// 1: the resume token of an earlier welcome, or from a redirect.
    Resume,
}

impl HelloKind {
    /// How the token of a redirect is shown: resume tokens begin with `r`.
    pub fn of(token: &str) -> HelloKind {
        if token.starts_with('r') { HelloKind::Resume } else { HelloKind::Ticket }
    }
}

/// What a player does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `"walk", from_x, from_y, to_x, to_y, speed`.
    Walk {
        /// Where the client believes the player to be, in 1/256 tile.
        from: (i32, i32),
        /// Where to go, in 1/256 tile.
        to: (i32, i32),
        /// 1/256 tile per second.
        speed: i32,
    },
    /// `"stop"`: stands still where the player is now.
    Stop,
    /// `op, number, …arguments`: see [`Act`].
    Act {
        /// The act's operation number.
        number: u64,
        /// What it is.
        act: Act,
    },
}

impl Command {
    /// The name on the wire.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Walk { .. } => "walk",
            Self::Stop => "stop",
            Self::Act { act, .. } => act.op(),
        }
    }
}

impl ClientMessage {
    /// Reads one message, the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.array("a message")?;
        let message = match reader.int("a message's number")? {
            HELLO => Self::read_hello(&mut reader, count)?,
            COMMAND => Self::read_command(&mut reader, count)?,
            ASK => {
                expect_fields(count, 2, "ask")?;
                Self::Ask { cells: reader.cells(MAX_ASK_CELLS, "cells")? }
            }
            PING => {
                expect_fields(count, 2, "ping")?;
                Self::Ping { t: reader.int("t")? }
            }
            other => return Err(Malformed::UnknownMessage(other)),
        };
        reader.end()?;
        Ok(message)
    }

    fn read_hello(reader: &mut Reader<'_>, count: usize) -> Result<Self, Malformed> {
        expect_fields(count, 4, "hello")?;
        Ok(Self::Hello {
            protocol: reader.int("protocol")?,
            token: reader.text(MAX_TOKEN_BYTES, "token")?.to_owned(),
            kind: match reader.int::<u64>("kind")? {
                0 => HelloKind::Ticket,
                1 => HelloKind::Resume,
                _ => return Err(Malformed::OutOfRange("kind")),
            },
        })
    }

    fn read_command(reader: &mut Reader<'_>, count: usize) -> Result<Self, Malformed> {
        if count < 3 {
            return Err(Malformed::Fields("command"));
        }
        let seq = reader.int("seq")?;
        let name = reader.text(MAX_OP_BYTES, "op")?;
        let (op, command) = match name {
            "walk" => ("walk", Self::read_walk(reader, count)),
            "stop" => ("stop", expect_fields(count, 3, "stop").map(|()| Command::Stop)),
            other if super::acts::ACTS.contains(&other) => Self::read_act(reader, other, count)?,
            other => {
                // Nobody may hide nonsense behind an unknown name.
                reader.skip(count - 3)?;
                reader.end()?;
                return Err(Malformed::UnknownOp { seq, op: other.to_owned() });
            }
        };
        match command {
            Ok(command) => Ok(Self::Command { seq, command }),
            Err(why) => Err(Malformed::BadArguments { seq, op, why: Box::new(why) }),
        }
    }

    fn read_act(
        reader: &mut Reader<'_>,
        op: &str,
        count: usize,
    ) -> Result<(&'static str, Result<Command, Malformed>), Malformed> {
        let arguments = count.checked_sub(4).ok_or(Malformed::Fields("act"))?;
        let number = reader.below(super::acts::MAX_NUMBER, "number");
        let (op, act) = Act::read(reader, op, arguments).ok_or(Malformed::Fields("act"))?;
        Ok((op, number.and_then(|number| Ok(Command::Act { number, act: act?.bounded()? }))))
    }

    fn read_walk(reader: &mut Reader<'_>, count: usize) -> Result<Command, Malformed> {
        expect_fields(count, 8, "walk")?;
        Ok(Command::Walk {
            from: (reader.int("from_x")?, reader.int("from_y")?),
            to: (reader.int("to_x")?, reader.int("to_y")?),
            speed: reader.int("speed")?,
        })
    }

    /// The message's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Hello { protocol, token, kind } => {
                wire::put_array(&mut out, 4);
                wire::put_uint(&mut out, HELLO);
                wire::put_uint(&mut out, *protocol);
                wire::put_text(&mut out, token);
                wire::put_uint(&mut out, matches!(kind, HelloKind::Resume));
            }
            Self::Command { seq, command } => put_command(&mut out, *seq, command),
            Self::Ask { cells } => {
                wire::put_array(&mut out, 2);
                wire::put_uint(&mut out, ASK);
                wire::put_cells(&mut out, cells);
            }
            Self::Ping { t } => {
                wire::put_array(&mut out, 2);
                wire::put_uint(&mut out, PING);
                wire::put_int(&mut out, *t);
            }
        }
        out.into()
    }
}

fn put_command(out: &mut Vec<u8>, seq: u32, command: &Command) {
    let arguments = match command {
        Command::Walk { from, to, speed } => vec![from.0, from.1, to.0, to.1, *speed],
        Command::Stop => Vec::new(),
        Command::Act { number, act } => {
            wire::put_array(out, act.elements());
            wire::put_uint(out, COMMAND);
            wire::put_uint(out, seq);
            return act.put(out, *number);
        }
    };
    wire::put_array(out, 3 + arguments.len());
    wire::put_uint(out, COMMAND);
    wire::put_uint(out, seq);
    wire::put_text(out, command.op());
    arguments.into_iter().for_each(|argument| wire::put_int(out, argument));
}

fn expect_fields(count: usize, expected: usize, what: &'static str) -> Result<(), Malformed> {
    if count == expected { Ok(()) } else { Err(Malformed::Fields(what)) }
}

#[cfg(test)]
mod tests {
    use super::super::acts;
    use super::*;

    fn check(message: ClientMessage) {
        let bytes = message.encode();
        assert_eq!(ClientMessage::decode(&bytes), Ok(message));
        for end in 0..bytes.len() {
            assert!(ClientMessage::decode(&bytes[..end]).is_err(), "{end} of {bytes:?}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(ClientMessage::decode(&longer).is_err());
    }

    #[test]
    fn every_message_survives_the_wire_and_no_part_of_one_passes_for_a_whole() {
        check(ClientMessage::Hello { protocol: 1, token: "t".repeat(300), kind: HelloKind::Ticket });
        check(ClientMessage::Hello { protocol: 1, token: String::new(), kind: HelloKind::Resume });
        check(ClientMessage::Command {
            seq: 7,
            command: Command::Walk { from: (-1, 70_000), to: (i32::MIN, i32::MAX), speed: 1024 },
        });
        check(ClientMessage::Command { seq: u32::MAX, command: Command::Stop });
        check(ClientMessage::Ask { cells: vec![(0, 0), (127, 65_535)] });
        check(ClientMessage::Ping { t: i64::MIN });
    }

    #[test]
    fn a_bad_command_is_told_apart_from_no_message() {
        // [2, 9, "fly"]
        let unknown = [0x93, 2, 9, 0xa3, b'f', b'l', b'y'];
        assert_eq!(ClientMessage::decode(&unknown), Err(Malformed::UnknownOp { seq: 9, op: "fly".into() }));
        // [2, 9, "stop", 1]
        let surplus = [0x94, 2, 9, 0xa4, b's', b't', b'o', b'p', 1];
        assert!(matches!(ClientMessage::decode(&surplus), Err(Malformed::BadArguments { seq: 9, op: "stop", .. })));
        assert!(matches!(ClientMessage::decode(b"hello"), Err(Malformed::Expected(_))));
    }

    fn command(number: u64, act: Act) -> ClientMessage {
        ClientMessage::Command { seq: 8, command: Command::Act { number, act } }
    }

    #[test]
    fn every_act_survives_the_wire_and_none_is_forgotten_here() {
        let samples = acts::samples();
        let named: Vec<&str> = samples.iter().map(Act::op).collect();
        assert_eq!(named, acts::ACTS);
        for act in samples {
            check(command(3 << 20, act.clone()));
            check(command(acts::MAX_NUMBER - 1, act));
        }
        check(command(0, Act::Put { object: 0, wares: acts::Wares::default() }));
    }

    #[test]
    fn an_act_with_arguments_of_another_number_or_kind_is_answered_as_such() {
        for act in acts::samples() {
            let op = act.op();
            let refused = |bytes: &[u8], why: &str| {
                let decoded = ClientMessage::decode(bytes);
                let told = matches!(&decoded, Err(Malformed::BadArguments { seq: 8, op: named, .. }) if *named == op);
                assert!(told, "{op} with {why}: {decoded:?}");
            };
            let bytes = command(5, act).encode();
            let mut more = bytes.to_vec();
            more[0] += 1;
            more.push(0);
            refused(&more, "an argument too many");
            let mut huge = bytes.to_vec();
            let number_at = 4 + op.len();
            assert_eq!(huge[number_at], 5);
            huge.splice(number_at..=number_at, [0xcf, 0, 0x20, 0, 0, 0, 0, 0, 0]);
            refused(&huge, "a number of 2^53");
            huge.splice(number_at..number_at + 9, [0xa1, b'x']);
            refused(&huge, "a text for its number");
        }
        // [2, 8, "bag"]: not even a number.
        assert!(ClientMessage::decode(&[0x93, 2, 8, 0xa3, b'b', b'a', b'g']).is_err());
    }

    #[test]
    fn lists_and_texts_of_acts_are_bounded() {
        let refused = |act: Act| {
            let decoded = ClientMessage::decode(&command(1, act).encode());
            let long = |why: &Malformed| matches!(why, Malformed::TooLong(_));
            assert!(matches!(&decoded, Err(Malformed::BadArguments { why, .. }) if long(why)), "{decoded:?}");
        };
        refused(Act::Chat { channel: 0, text: "x".repeat(acts::MAX_CHAT_BYTES + 1) });
        check(command(1, Act::Chat { channel: 0, text: "x".repeat(acts::MAX_CHAT_BYTES) }));
        let stacks = |count: usize| acts::Wares { stacks: vec![("w".to_owned(), 1); count], uniques: vec![] };
        refused(Act::Gift { player: 1, wares: stacks(acts::MAX_WARES + 1) });
        check(command(1, Act::Gift { player: 1, wares: stacks(acts::MAX_WARES) }));
        let uniques = vec![("s".to_owned(), "i".to_owned()); acts::MAX_WARES + 1];
        refused(Act::Put { object: 1, wares: acts::Wares { stacks: vec![], uniques } });
        let stacks = vec![("w".repeat(acts::MAX_NAME_BYTES + 1), 1)];
        refused(Act::Take { object: 1, wares: acts::Wares { stacks, uniques: vec![] } });
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let walk = Command::Walk { from: (1, 2), to: (3, 4), speed: 5 };
        let mut seeds = vec![ClientMessage::Command { seq: 7, command: walk }.encode()];
        seeds.extend(acts::samples().into_iter().map(|act| command(1 << 40, act).encode()));
        let mut state = 1_u64;
        for seed in seeds {
            for _ in 0..5_000 {
                let mut bytes = seed.to_vec();
                for _ in 0..3 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = (state >> 33) as usize % bytes.len();
                    bytes[at] = (state >> 20) as u8;
                }
                if let Ok(message) = ClientMessage::decode(&bytes) {
                    // Whatever passes is a message that survives its own encoding.
                    assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
                }
            }
        }
    }
}
