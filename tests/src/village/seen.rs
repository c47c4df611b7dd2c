//! What a person has been shown and told: kept as it comes, for stories to look at.
//!
//! Only what the client protocol brings is in here. It NEVER asks a node, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use nodes::client::{ServerClock, Sight};
use nodes::game::battle::{Battle, Exchange};
use nodes::game::kind;
use nodes::protocol::{
    Content, Entry, Frame, Motion, Outcome, ServerMessage, TradeState, UNITS_PER_TILE, View, Wares, Welcome,
};
use tokio::time::Instant;

/// Notes and chats that a picture of what was seen tells, at most.
const TOLD: usize = 6;

/// One thing in sight.
#[derive(Clone, Debug, PartialEq)]
pub struct Thing {
    /// Its number.
    pub id: u64,
    /// Which node's life says so.
    pub publisher: u64,
    /// The tile on which it is now.
    pub tile: (i32, i32),
    /// What it looks like.
    pub view: Arc<View>,
}

/// A message about a party.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartyShown {
    /// Its number; 0: none.
    pub party: u64,
    /// Who leads it.
    pub leader: u64,
    /// Who is in it.
    pub members: BTreeSet<u64>,
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// 0 near, 1 party, 2 island.
    pub channel: u8,
    /// Who.
    pub player: u64,
    /// What.
    pub text: String,
}

/// Something that one should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// For programs.
    pub code: String,
    /// For people.
    pub text: String,
    /// What it is about.
    pub number: u64,
}

/// The frame that brought something: publisher, island, cell, number.
pub type Packet = (u64, u32, (u16, u16), u64);

/// All that a person has been shown and told. What was said stays when the person comes in elsewhere; what was in sight
/// does not.
#[derive(Default)]
pub struct Seen {
    /// The present session's welcome.
    pub welcome: Option<Welcome>,
    /// What is in sight.
    pub sight: Sight,
    /// The own motion as last answered.
    pub motion: Motion,
    /// What is carried.
    pub wares: Wares,
    /// How many `bag` messages came.
    pub bags: u64,
    /// What has been learnt.
    pub experience: u64,
    /// The own health in percent.
    pub health: u8,
    /// What boxes held when looked into.
    pub stores: BTreeMap<u64, Wares>,
    /// What was said, oldest first.
    pub chats: Vec<Chat>,
    /// All that was told of parties, oldest first.
    pub parties: Vec<PartyShown>,
    /// The trades as they are.
    pub trades: BTreeMap<u64, TradeState>,
    /// What one should know, oldest first.
    pub notes: Vec<Note>,
    /// The exchanges of battles, by battle and number, and the packets that brought them first.
    pub exchanges: BTreeMap<(u64, u64), (Exchange, Packet)>,
    /// What became of commands, by their seq.
    pub answers: BTreeMap<u32, Outcome>,
    /// Why the session ended, if it did.
    pub farewell: Option<(String, String)>,
    /// Where to go, if one was sent elsewhere: url and ticket.
    pub redirect: Option<(String, String)>,
    /// Messages that could not be read; there MUST be none.
    pub malformed: Vec<String>,
    clock: Option<ServerClock>,
}

impl Seen {
    /// A new session begins: what was in sight is gone.
    pub(crate) fn begin(&mut self) {
        self.welcome = None;
        self.sight = Sight::new();
        self.answers.clear();
        (self.farewell, self.redirect, self.clock) = (None, None, None);
    }

    /// Takes a message. True if cells must be asked for again.
    pub(crate) fn take(&mut self, message: ServerMessage) -> bool {
        match message {
            ServerMessage::Frame(frame) => return self.watch(frame),
            ServerMessage::Welcome(welcome) => {
                self.motion = welcome.motion;
                self.observe(welcome.now_ms);
                self.welcome = Some(welcome);
            }
            ServerMessage::Answer { seq, outcome } => {
                match &outcome {
                    Outcome::Ok { motion: Some(motion) } | Outcome::Refused { motion: Some(motion), .. } => {
                        self.motion = *motion;
                    }
                    _ => {}
                }
                self.answers.insert(seq, outcome);
            }
            ServerMessage::Redirect { url, token } => self.redirect = Some((url, token)),
            ServerMessage::Pong { now_ms, .. } => self.observe(now_ms),
            ServerMessage::Clocks(clocks) => self.sight.set_clocks(&clocks),
            ServerMessage::Vision { island, entered, left } => self.sight.set_vision(island, &entered, &left),
            ServerMessage::Farewell { code, text } => self.farewell = Some((code, text)),
            ServerMessage::Bag { wares, experience, health } => {
                (self.wares, self.experience, self.health) = (wares, experience, health);
                self.bags += 1;
            }
            ServerMessage::Store { object, wares } => {
                self.stores.insert(object, wares);
            }
            ServerMessage::Chat { channel, player, text, .. } => self.chats.push(Chat { channel, player, text }),
            ServerMessage::Party { party, leader, members } => {
                let members = members.into_iter().map(|(player, _)| player).collect();
                self.parties.push(PartyShown { party, leader, members });
            }
            ServerMessage::Trade(trade) => {
                self.trades.insert(trade.trade, trade);
            }
            ServerMessage::Note { code, text, number } => self.notes.push(Note { code, text, number }),
        }
        false
    }

    fn observe(&mut self, now_ms: u64) {
        let now = Instant::now();
        self.clock.get_or_insert_with(|| ServerClock::new(now, now_ms)).observe(now, now_ms);
    }

    fn watch(&mut self, frame: Frame) -> bool {
        let packet = (frame.head.publisher, frame.head.island, frame.head.cell, frame.head.seq);
        let views: Vec<(u64, Arc<View>)> = match &frame.content {
            Content::Keyframe(objects) => objects.iter().map(|object| (object.id, object.view.clone())).collect(),
            Content::Delta(entries) => entries.iter().filter_map(viewed).collect(),
        };
        for (id, view) in views.into_iter().filter(|(_, view)| view.kind == kind::BATTLE) {
            for exchange in Battle::of(&view.detail).map(|battle| battle.exchanges).unwrap_or_default() {
                self.exchanges.entry((id, exchange.number)).or_insert((exchange, packet));
            }
        }
        self.sight.apply(&Arc::new(frame)).gap
    }

    /// The frontend's time now, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.clock.map_or(0, |clock| clock.at_ms(Instant::now()))
    }

    /// The player that this is.
    pub fn me(&self) -> u64 {
        self.welcome.as_ref().map_or(0, |welcome| welcome.player)
    }

    /// The island in sight.
    pub fn island(&self) -> u32 {
        self.sight.island()
    }

    /// Where this person is now, in 1/256 tile: what everybody is shown, or what was answered last.
    pub fn place(&self) -> (i32, i32) {
        let shown = self.sight.ghost(self.me()).map(|ghost| ghost.motion);
        let newest = shown.filter(|shown| shown.since_ms >= self.motion.since_ms).unwrap_or(self.motion);
        newest.at(self.now_ms())
    }

    /// The tile on which this person is now.
    pub fn tile(&self) -> (i32, i32) {
        tile_of(self.place())
    }

    /// Everything of a kind in sight, in the order of the numbers.
    pub fn all(&self, kind: u8) -> Vec<Thing> {
        let mut things: Vec<Thing> = self
            .sight
            .ghosts()
            .filter(|(_, ghost)| ghost.view.kind == kind)
            .map(|(id, ghost)| {
                let now = self.now_ms() - self.sight.offset_ms(ghost.publisher).unwrap_or(0);
                let tile = tile_of(ghost.motion.at(now));
                Thing { id, publisher: ghost.publisher, tile, view: ghost.view.clone() }
            })
            .collect();
        things.sort_unstable_by_key(|thing| thing.id);
        things
    }

    /// Everything of a kind and name in sight, in the order of the numbers.
    pub fn named(&self, kind: u8, name: &str) -> Vec<Thing> {
        let mut things = self.all(kind);
        things.retain(|thing| thing.view.name == name);
        things
    }

    /// One thing in sight.
    pub fn thing(&self, id: u64) -> Option<Thing> {
        let kind = self.sight.ghost(id)?.view.kind;
        self.all(kind).into_iter().find(|thing| thing.id == id)
    }

    /// How many of an item are carried.
    pub fn carries(&self, item: &str) -> u64 {
        count(&self.wares, item)
    }

    /// The party as last told.
    pub fn party(&self) -> PartyShown {
        self.parties.last().cloned().unwrap_or_default()
    }

    /// Whether a note of this code has come.
    pub fn noted(&self, code: &str) -> bool {
        self.notes.iter().any(|note| note.code == code)
    }

    /// Whether somebody was heard to say this.
    pub fn heard(&self, text: &str) -> bool {
        self.chats.iter().any(|chat| chat.text == text)
    }
}

/// How many of an item there are in wares, stacked or not.
pub fn count(wares: &Wares, item: &str) -> u64 {
    let stacks: u64 = wares.stacks.iter().filter(|(name, _)| name == item).map(|(_, count)| count).sum();
    stacks + wares.uniques.iter().filter(|(_, name)| name == item).count() as u64
}

fn viewed(entry: &Entry) -> Option<(u64, Arc<View>)> {
    match entry {
        Entry::Enter { object, .. } => Some((object.id, object.view.clone())),
        Entry::Change { id, view, .. } => Some((*id, view.clone())),
        Entry::Move { .. } | Entry::Leave { .. } => None,
    }
}

fn tile_of((x, y): (i32, i32)) -> (i32, i32) {
    (x.div_euclid(UNITS_PER_TILE), y.div_euclid(UNITS_PER_TILE))
}

/// A picture for the message of a story that fails.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<(u8, String), Vec<String>> = BTreeMap::new();
        for (id, ghost) in self.sight.ghosts() {
            let (x, y) = tile_of(ghost.motion.end());
            let looks = format!("{id} at ({x}, {y}), pose {}, health {}", ghost.view.pose, ghost.view.health);
            kinds.entry((ghost.view.kind, ghost.view.name.clone())).or_default().push(looks);
        }
        write!(f, "on island {} at {:?}, health {}", self.island(), self.tile(), self.health)?;
        write!(f, ", carries {:?}; party {:?}", self.wares, self.party())?;
        for ((kind, name), mut things) in kinds {
            let count = things.len();
            things.sort_unstable();
            things.truncate(TOLD);
            write!(f, "\n  sees {count} of kind {kind} {name:?}: {}", things.join("; "))?;
        }
        let last = |length: usize| length.saturating_sub(TOLD);
        write!(f, "\n  notes: {:?}", &self.notes[last(self.notes.len())..])?;
        write!(f, "\n  heard: {:?}", &self.chats[last(self.chats.len())..])?;
        write!(f, "\n  trades: {:?}, exchanges: {}", self.trades.values(), self.exchanges.len())?;
        write!(f, "\n  farewell: {:?}, redirect: {:?}", self.farewell, self.redirect)
    }
}
