//! What a frontend says to a client.
//!
//! The frontend encodes these once per client; frames among them come ready-made from the world and are only decoded
//! here. Fields beyond the known ones are skipped, so that a client outlives additions to the protocol.

use bytes::Bytes;

use super::acts::{Field, MAX_NUMBER, Wares};
use super::frames::{DELTA, Frame, KEYFRAME};
use super::motion::Motion;
use super::wire::{self, Malformed, Reader};
use super::{CellXy, MAX_TEXT_BYTES, MAX_TOKEN_BYTES};

const WELCOME: u64 = 101;
const ANSWER: u64 = 102;
const REDIRECT: u64 = 103;
const PONG: u64 = 104;
const CLOCKS: u64 = 105;
const VISION: u64 = 106;
const FAREWELL: u64 = 107;
const BAG: u64 = 108;
const STORE: u64 = 109;
const CHAT: u64 = 110;
const PARTY: u64 = 111;
const TRADE: u64 = 112;
const NOTE: u64 = 113;

/// The most cells of an island: 4096×4096 tiles in cells of 32×32.
const MAX_CELLS: usize = 128 * 128;

/// A message to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// `[10, …]` or `[11, …]`: what a node says about a cell.
    Frame(Frame),
    /// `[101, …]`: the session has begun or goes on.
    Welcome(Welcome),
    /// `[102, seq, 0, result]` or `[102, seq, 1, code, text, detail]`.
    Answer {
        /// The command's number.
        seq: u32,
        /// What became of it.
        outcome: Outcome,
    },
    /// `[103, url, token]`: another frontend has the player now; connect there with this token.
    Redirect {
        /// The other frontend's WebSocket address.
        url: String,
        /// What to say hello with, as [`super::HelloKind::of`] says.
        token: String,
    },
    /// `[104, t, now_ms]`.
    Pong {
        /// The ping's number.
        t: i64,
        /// The frontend's clock.
        now_ms: u64,
    },
    /// `[105, [[publisher, offset_ms, node]…]]`: how to translate publishers' times into the frontend's.
    Clocks(Vec<Clock>),
    /// `[106, island, [[cx, cy]…], [[cx, cy]…]]`: which cells this client sees from now on, and which no longer.
    Vision {
        /// The island.
        island: u32,
        /// Cells that have come into sight; their keyframes follow.
        entered: Vec<CellXy>,
        /// Cells out of sight; objects in them are to be dropped.
        left: Vec<CellXy>,
    },
    /// `[107, code, text]`: the frontend closes the connection after this.
    Farewell {
        /// One of [`super::codes`].
        code: String,
        /// For people.
        text: String,
    },
    /// `[108, wares, experience, health]`: what the player carries and is, whenever that changed.
    Bag {
        /// What it carries.
        wares: Wares,
        /// What it has learnt.
        experience: u64,
        /// Its health in percent.
        health: u8,
    },
    /// `[109, object, wares]`: what a box holds.
    Store {
        /// The box.
        object: u64,
        /// What is in it.
        wares: Wares,
    },
    /// `[110, channel, player, name, text]`: somebody said something.
    Chat {
        /// 0 near, 1 party, 2 island.
        channel: u8,
        /// Who.
        player: u64,
        /// Their name.
        name: String,
        /// What.
        text: String,
    },
    /// `[111, party, leader, [[player, name]…]]`: the party as it is now; party 0: none.
    Party {
        /// Its number.
        party: u64,
        /// Who leads it.
        leader: u64,
        /// Who is in it.
        members: Vec<(u64, String)>,
    },
    /// `[112, trade, other, name, round, mine, theirs, state]`: a trade as it is now.
    Trade(TradeState),
    /// `[113, code, text, number]`: something that the player should know.
    Note {
        /// For programs: `gift`, `invite`, `trade`, `island_sinks`, `brought_home`, `defeated`, `loot`, `experience`, ….
        code: String,
        /// For people.
        text: String,
        /// The party, trade, amount or seconds that it is about; 0 if there is none.
        number: u64,
    },
}

/// A trade as one of the two sees it: `[112, trade, other, name, round, mine, theirs, state]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeState {
    /// Its number.
    pub trade: u64,
    /// The other player.
    pub other: u64,
    /// Their name.
    pub name: String,
    /// Rises with every change; a consent names it.
    pub round: u64,
    /// What the player gives: `[wares, consents]`.
    pub mine: Side,
    /// What the other gives.
    pub theirs: Side,
    /// 0 open, 1 done, 2 withdrawn.
    pub state: u8,
}

/// One side of a trade: `[wares, consents]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// What this side gives.
    pub wares: Wares,
    /// Whether it agrees to the round.
    pub consents: bool,
}

/// `[101, player_id, resume_token, publisher, now_ms, island, motion, max_speed, vision_radius_tiles, linger_tiles,
/// [fallback_url…], first_operation]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The object that is this player.
    pub player: u64,
    /// Says hello after a lost connection; a new one comes with every welcome.
    pub resume_token: String,
    /// The frontend's own publisher number.
    pub publisher: u64,
    /// The frontend's clock.
    pub now_ms: u64,
    /// The island where the player is.
    pub island: u32,
    /// The player's own motion, on the frontend's clock.
    pub motion: Motion,
    /// The most that `walk` may ask for, in 1/256 tile per second.
    pub max_speed: i32,
    /// Cells come into sight within this distance.
    pub vision_radius_tiles: u16,
    /// Cells leave sight this much further out.
    pub linger_tiles: u16,
    /// Where to try if this frontend is gone.
    pub fallbacks: Vec<String>,
    /// The number of the first act of this session; each has a higher one.
    pub first_operation: u64,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; walk and stop give the motion that really began, which may end before the asked place.
    Ok {
        /// The player's motion, on the frontend's clock.
        motion: Option<Motion>,
    },
    /// Done, and this is the number of what came of it: a holding, a battle, a trade, a party.
    Made {
        /// The number.
        number: u64,
    },
    /// Not done.
    Refused {
        /// One of [`super::codes`].
        code: String,
        /// For people.
        text: String,
        /// The player's true motion where the client must be put back.
        motion: Option<Motion>,
    },
}

/// One publisher's clock: frontend time = publisher time + `offset_ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The publisher number in frames.
    pub publisher: u64,
    /// Milliseconds to add to its times.
    pub offset_ms: i64,
    /// The node's id, for people.
    pub node: String,
}

impl ServerMessage {
    /// Reads one message, the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.array("a message")?;
        let kind: u64 = reader.int("a message's number")?;
        if kind == DELTA || kind == KEYFRAME {
            let frame = Frame::read(&mut reader, count, kind)?;
            reader.end()?;
            return Ok(Self::Frame(frame));
        }
        let known = Self::field_count(kind)?;
        if count < known {
            return Err(Malformed::Fields("a message"));
        }
        let (message, read) = Self::read(&mut reader, kind, count)?;
        reader.skip(count - read)?;
        reader.end()?;
        Ok(message)
    }

    fn field_count(kind: u64) -> Result<usize, Malformed> {
        match kind {
            WELCOME => Ok(12),
            TRADE => Ok(8),
            CHAT => Ok(5),
            ANSWER | VISION | BAG | PARTY | NOTE => Ok(4),
            REDIRECT | PONG | FAREWELL | STORE => Ok(3),
            CLOCKS => Ok(2),
            other => Err(Malformed::UnknownMessage(other)),
        }
    }

    /// The message and the number of elements read for it.
    fn read(reader: &mut Reader<'_>, kind: u64, count: usize) -> Result<(Self, usize), Malformed> {
        let message = match kind {
            WELCOME => Self::Welcome(Welcome::read(reader)?),
            ANSWER => return Self::read_answer(reader, count),
            REDIRECT => Self::Redirect {
                url: reader.text(MAX_TEXT_BYTES, "url")?.to_owned(),
                token: reader.text(MAX_TOKEN_BYTES, "token")?.to_owned(),
            },
            PONG => Self::Pong { t: reader.int("t")?, now_ms: reader.int("now_ms")? },
            CLOCKS => {
                let length = reader.array("clocks")?;
                Self::Clocks((0..length).map(|_| Clock::read(reader)).collect::<Result<_, _>>()?)
            }
            VISION => Self::Vision {
                island: reader.int("island")?,
                entered: reader.cells(MAX_CELLS, "entered")?,
                left: reader.cells(MAX_CELLS, "left")?,
            },
            BAG => Self::Bag {
                wares: Wares::read(reader, "wares")?,
                experience: reader.int("experience")?,
                health: reader.int("health")?,
            },
            STORE => Self::Store { object: reader.below(MAX_NUMBER, "object")?, wares: Wares::read(reader, "wares")? },
            CHAT => Self::Chat {
                channel: reader.int("channel")?,
                player: reader.below(MAX_NUMBER, "player")?,
                name: reader.text(MAX_TEXT_BYTES, "name")?.to_owned(),
                text: reader.text(MAX_TEXT_BYTES, "text")?.to_owned(),
            },
            PARTY => Self::Party {
                party: reader.below(MAX_NUMBER, "party")?,
                leader: reader.below(MAX_NUMBER, "leader")?,
                members: read_members(reader)?,
            },
            TRADE => Self::Trade(TradeState::read(reader)?),
            NOTE => Self::Note {
                code: reader.text(MAX_TEXT_BYTES, "code")?.to_owned(),
                text: reader.text(MAX_TEXT_BYTES, "text")?.to_owned(),
                number: reader.below(MAX_NUMBER, "number")?,
            },
            _ => Self::Farewell {
                code: reader.text(MAX_TEXT_BYTES, "code")?.to_owned(),
                text: reader.text(MAX_TEXT_BYTES, "text")?.to_owned(),
            },
        };
        Ok((message, Self::field_count(kind)?))
    }

    fn read_answer(reader: &mut Reader<'_>, count: usize) -> Result<(Self, usize), Malformed> {
        let seq = reader.int("seq")?;
        match reader.int::<u64>("status")? {
            0 => {
                let mut ahead = *reader;
                let outcome = match ahead.below(MAX_NUMBER, "a result") {
                    Ok(number) => {
                        *reader = ahead;
                        Outcome::Made { number }
                    }
                    Err(_) => Outcome::Ok { motion: read_motion_or_nil(reader)? },
                };
                Ok((Self::Answer { seq, outcome }, 4))
            }
            1 if count < 6 => Err(Malformed::Fields("a refusal")),
            1 => {
                let outcome = Outcome::Refused {
                    code: reader.text(MAX_TEXT_BYTES, "code")?.to_owned(),
                    text: reader.text(MAX_TEXT_BYTES, "text")?.to_owned(),
                    motion: read_motion_or_nil(reader)?,
                };
                Ok((Self::Answer { seq, outcome }, 6))
            }
            _ => Err(Malformed::OutOfRange("status")),
        }
    }

    /// The message's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        self.put(&mut out);
        out.into()
    }

    /// Appends the message's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Frame(frame) => frame.put(out),
            Self::Welcome(welcome) => welcome.put(out),
            Self::Answer { seq, outcome } => put_answer(out, *seq, outcome),
            Self::Redirect { url, token } => put_texts(out, REDIRECT, url, token),
            Self::Farewell { code, text } => put_texts(out, FAREWELL, code, text),
            Self::Pong { t, now_ms } => {
                wire::put_array(out, 3);
                wire::put_uint(out, PONG);
                wire::put_int(out, *t);
                wire::put_uint(out, *now_ms);
            }
            Self::Clocks(clocks) => {
                wire::put_array(out, 2);
                wire::put_uint(out, CLOCKS);
                wire::put_array(out, clocks.len());
                clocks.iter().for_each(|clock| clock.put(out));
            }
            Self::Vision { island, entered, left } => {
                wire::put_array(out, 4);
                wire::put_uint(out, VISION);
                wire::put_uint(out, *island);
                wire::put_cells(out, entered);
                wire::put_cells(out, left);
            }
            Self::Bag { wares, experience, health } => {
                wire::put_array(out, 4);
                wire::put_uint(out, BAG);
                wares.put(out);
                wire::put_uint(out, *experience);
                wire::put_uint(out, *health);
            }
            Self::Store { object, wares } => {
                wire::put_array(out, 3);
                wire::put_uint(out, STORE);
                wire::put_uint(out, *object);
                wares.put(out);
            }
            Self::Chat { channel, player, name, text } => {
                wire::put_array(out, 5);
                wire::put_uint(out, CHAT);
                wire::put_uint(out, *channel);
                wire::put_uint(out, *player);
                wire::put_text(out, name);
                wire::put_text(out, text);
            }
            Self::Party { party, leader, members } => {
                wire::put_array(out, 4);
                wire::put_uint(out, PARTY);
                wire::put_uint(out, *party);
                wire::put_uint(out, *leader);
                wire::put_array(out, members.len());
                for (player, name) in members {
                    wire::put_array(out, 2);
                    wire::put_uint(out, *player);
                    wire::put_text(out, name);
                }
            }
            Self::Trade(trade) => trade.put(out),
            Self::Note { code, text, number } => {
                wire::put_array(out, 4);
                wire::put_uint(out, NOTE);
                wire::put_text(out, code);
                wire::put_text(out, text);
                wire::put_uint(out, *number);
            }
        }
    }
}

fn read_members(reader: &mut Reader<'_>) -> Result<Vec<(u64, String)>, Malformed> {
    let length = reader.array("members")?;
    let member = |_| {
        reader.fields(2, "a member")?;
        Ok((reader.below(MAX_NUMBER, "player")?, reader.text(MAX_TEXT_BYTES, "name")?.to_owned()))
    };
    (0..length).map(member).collect()
}

impl TradeState {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            trade: reader.below(MAX_NUMBER, "trade")?,
            other: reader.below(MAX_NUMBER, "other")?,
            name: reader.text(MAX_TEXT_BYTES, "name")?.to_owned(),
            round: reader.below(MAX_NUMBER, "round")?,
            mine: Side::read(reader)?,
            theirs: Side::read(reader)?,
            state: reader.int("state")?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 8);
        wire::put_uint(out, TRADE);
        wire::put_uint(out, self.trade);
        wire::put_uint(out, self.other);
        wire::put_text(out, &self.name);
        wire::put_uint(out, self.round);
        self.mine.put(out);
        self.theirs.put(out);
        wire::put_uint(out, self.state);
    }
}

impl Side {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.fields(2, "a side")?;
        let wares = Wares::read(reader, "wares")?;
        Ok(Side { wares, consents: reader.int::<u8>("consents")? != 0 })
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 2);
        self.wares.put(out);
        wire::put_uint(out, self.consents);
    }
}

impl Welcome {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let welcome = Self {
            player: reader.int("player_id")?,
            resume_token: reader.text(MAX_TOKEN_BYTES, "resume_token")?.to_owned(),
            publisher: reader.int("publisher")?,
            now_ms: reader.int("now_ms")?,
            island: reader.int("island")?,
            motion: Motion::read(reader)?,
            max_speed: reader.int("max_speed")?,
            vision_radius_tiles: reader.int("vision_radius_tiles")?,
            linger_tiles: reader.int("linger_tiles")?,
            fallbacks: Vec::new(),
            first_operation: 0,
        };
        let length = reader.array("fallbacks")?;
        let fallbacks = (0..length).map(|_| Ok(reader.text(MAX_TEXT_BYTES, "fallback")?.to_owned()));
        let fallbacks = fallbacks.collect::<Result<_, Malformed>>()?;
        Ok(Self { fallbacks, first_operation: reader.below(MAX_NUMBER, "first_operation")?, ..welcome })
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 12);
        wire::put_uint(out, WELCOME);
        wire::put_uint(out, self.player);
        wire::put_text(out, &self.resume_token);
        wire::put_uint(out, self.publisher);
        wire::put_uint(out, self.now_ms);
        wire::put_uint(out, self.island);
        self.motion.put(out);
        wire::put_int(out, self.max_speed);
        wire::put_uint(out, self.vision_radius_tiles);
        wire::put_uint(out, self.linger_tiles);
        wire::put_array(out, self.fallbacks.len());
        self.fallbacks.iter().for_each(|url| wire::put_text(out, url));
        wire::put_uint(out, self.first_operation);
    }
}

impl Clock {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.array("a clock")?;
        if count < 3 {
            return Err(Malformed::Fields("a clock"));
        }
        let clock = Self {
            publisher: reader.int("publisher")?,
            offset_ms: reader.int("offset_ms")?,
            node: reader.text(MAX_TEXT_BYTES, "node")?.to_owned(),
        };
        reader.skip(count - 3)?;
        Ok(clock)
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 3);
        wire::put_uint(out, self.publisher);
        wire::put_int(out, self.offset_ms);
        wire::put_text(out, &self.node);
    }
}

fn read_motion_or_nil(reader: &mut Reader<'_>) -> Result<Option<Motion>, Malformed> {
    if reader.nil() { Ok(None) } else { Motion::read(reader).map(Some) }
}

fn put_motion_or_nil(out: &mut Vec<u8>, motion: Option<&Motion>) {
    match motion {
        Some(motion) => motion.put(out),
        None => wire::put_nil(out),
    }
}

fn put_answer(out: &mut Vec<u8>, seq: u32, outcome: &Outcome) {
    match outcome {
        Outcome::Ok { motion } => {
            wire::put_array(out, 4);
            wire::put_uint(out, ANSWER);
            wire::put_uint(out, seq);
            wire::put_uint(out, 0_u64);
            put_motion_or_nil(out, motion.as_ref());
        }
        Outcome::Made { number } => {
            wire::put_array(out, 4);
            wire::put_uint(out, ANSWER);
            wire::put_uint(out, seq);
            wire::put_uint(out, 0_u64);
            wire::put_uint(out, *number);
        }
        Outcome::Refused { code, text, motion } => {
            wire::put_array(out, 6);
            wire::put_uint(out, ANSWER);
            wire::put_uint(out, seq);
            wire::put_uint(out, 1_u64);
            wire::put_text(out, code);
            wire::put_text(out, text);
            put_motion_or_nil(out, motion.as_ref());
        }
    }
}

fn put_texts(out: &mut Vec<u8>, kind: u64, first: &str, second: &str) {
    wire::put_array(out, 3);
    wire::put_uint(out, kind);
    wire::put_text(out, first);
    wire::put_text(out, second);
}
