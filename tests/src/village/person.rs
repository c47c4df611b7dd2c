//! A person: a client through the real protocol, without a socket, that a story tells what to do.
//!
//! What it says goes through the frontend's gate, what it is shown comes out of a shard. A person only knows what the
//! protocol says, waits for states and NEVER for times, and ends the story with all that it has seen when a state does not
//! come about.

mod coming;
mod deeds;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use estate::player::{self, Birth};
use estate::store::memory::MemoryStore;
use mesh::tasks::Tasks;
use nodes::frontend::connection::Gate;
use nodes::frontend::players::{FrontInput, Said};
use nodes::frontend::sessions::Sessions;
use nodes::frontend::shard::ClientId;
use nodes::protocol::frames::is_frame;
use nodes::protocol::{Act, ClientMessage, Command, Outcome, ServerMessage, UNITS_PER_TILE};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::seen::{Seen, Thing};
use crate::pipe::Pipe;

/// How long a state may take to come about, in simulated time: longer than leases, graces and patience together.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what was shown.
const LOOK: Duration = Duration::from_millis(50);

/// How long a frontend may take to let somebody in, or a command to be answered, before a person believes it lost.
const ANSWER_MS: u64 = 20_000;

/// Between two tries of what may succeed later.
const AGAIN: Duration = Duration::from_millis(250);

/// Times that something is tried that may succeed later.
const TRIES: u32 = 100;

/// The doors of the frontends that run, by name.
pub type Doors = Arc<Mutex<BTreeMap<String, (Sessions, Tasks)>>>;

/// What became of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done; the number of what came of it, or 0.
    Done(u64),
    /// It is not: code and text.
    Refused(String, String),
    /// Nobody knows: the frontend was lost before it answered.
    Lost,
}

impl Reply {
    /// The code of a refusal; nothing of anything else.
    pub fn code(&self) -> &str {
        match self {
            Reply::Refused(code, _) => code,
            Reply::Done(_) | Reply::Lost => "",
        }
    }

    /// True if it is done.
    pub fn done(&self) -> bool {
        matches!(self, Reply::Done(_))
    }
}

/// Somebody who plays.
pub struct Person {
    /// The name.
    pub name: String,
    /// The player's number.
    pub player: u64,
    /// All that this person was shown and told.
    pub seen: Seen,
    /// The session with which this person came in last.
    pub session: Uuid,
    /// False for one of a crowd, who does not look at what is in sight.
    pub looks: bool,
    /// False for one whose answers to pings are lost.
    pub echoes: bool,
    line: Option<Line>,
    frontend: String,
    doors: Doors,
    random: StdRng,
    seq: u32,
    next: u64,
    acts: BTreeMap<u64, Act>,
}

/// A connection.
struct Line {
    sessions: Sessions,
    process: Tasks,
    id: ClientId,
    gate: Gate,
    pipe: Arc<Pipe>,
    since: Instant,
}

impl Person {
    /// Somebody new, born at the middle of this tile.
    pub(super) async fn born(
        store: &MemoryStore,
        doors: Doors,
        number: u64,
        name: &str,
        island: u32,
        tile: (u16, u16),
    ) -> Person {
        let (x, y) = middle(tile);
        let birth = Birth { hue: (number % 360) as u16, island, x, y };
        let born = player::create(store, number, name, name, &birth).await;
        born.unwrap_or_else(|e| panic!("{name} was not born: {e}"));
        Person {
            name: name.to_owned(),
            player: number,
            seen: Seen::default(),
            session: Uuid::nil(),
            looks: true,
            echoes: true,
            line: None,
            frontend: String::new(),
            doors,
            random: StdRng::seed_from_u64(number),
            seq: 0,
            next: 0,
            acts: BTreeMap::new(),
        }
    }

    /// The frontend at which this person is.
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// Takes what was shown and told since the last look.
    pub fn look(&mut self) {
        let Some(line) = &self.line else { return };
        let mut gap = false;
        for bytes in line.pipe.take() {
            if !self.looks && is_frame(&bytes) {
                continue;
            }
            match ServerMessage::decode(&bytes) {
                Ok(message) => gap |= self.seen.take(message),
                Err(e) => self.seen.malformed.push(format!("{e}: {bytes:02x?}")),
            }
        }
        assert!(self.seen.malformed.is_empty(), "{} was sent nonsense: {:?}", self.name, self.seen.malformed);
        if line.pipe.pinged() && self.echoes {
            line.say(FrontInput::Said(line.id, Said::Echo));
        }
        if gap {
            let cells = self.seen.sight.waiting();
            self.send(&ClientMessage::Ask { cells });
        }
    }

    /// Whether the connection is lost: the process is dead, or the frontend took its leave.
    pub fn is_lost(&self) -> bool {
        self.line.as_ref().is_none_or(|line| line.process.stopped() || line.pipe.closed())
    }

    /// Waits until `state` gives something.
    ///
    /// # Panics
    /// After [`PATIENCE`] of simulated time, with what was seen.
    pub async fn waits_for<T>(&mut self, what: &str, state: impl FnMut(&Seen) -> Option<T>) -> T {
        self.waits_long(PATIENCE, what, state).await
    }

    /// Waits as long as this until `state` gives something.
    ///
    /// # Panics
    /// If it does not.
    pub async fn waits_long<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut state: impl FnMut(&Seen) -> Option<T>,
    ) -> T {
        let until = Instant::now() + patience;
        loop {
            self.look();
            if let Some(reached) = state(&self.seen) {
                return reached;
            }
            if Instant::now() >= until {
                panic!("{} waited {} s in vain for {what}: {}", self.name, patience.as_secs(), self.seen);
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until a state holds.
    pub async fn waits_until(&mut self, what: &str, mut state: impl FnMut(&Seen) -> bool) {
        self.waits_for(what, |seen| state(seen).then_some(())).await;
    }

    /// Waits until a thing of this kind and name is in sight that is as wanted; the first such.
    pub async fn sees(&mut self, kind: u8, name: &str, mut wanted: impl FnMut(&Thing) -> bool) -> Thing {
        let what = format!("a {name:?} of kind {kind}");
        self.waits_for(&what, |seen| seen.named(kind, name).into_iter().find(|thing| wanted(thing))).await
    }

    /// Waits until another person is in sight.
    pub async fn sees_person(&mut self, other: u64) -> Thing {
        self.waits_for(&format!("the sight of player {other}"), |seen| seen.thing(other)).await
    }

    /// The number that the next act will have; it is used when it is said.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Sends a command and waits for what becomes of it; nothing if the connection is lost first.
    pub async fn commands(&mut self, command: Command) -> Option<Outcome> {
        let seq = self.says(command);
        self.outcome(seq).await
    }

    async fn outcome(&mut self, seq: u32) -> Option<Outcome> {
        let until = Instant::now() + Duration::from_millis(ANSWER_MS);
        while Instant::now() < until {
            self.look();
            if let Some(outcome) = self.seen.answers.remove(&seq) {
                return Some(outcome);
            }
            if self.is_lost() {
                return None;
            }
            sleep(LOOK).await;
        }
        None
    }

    /// Sends a command and does not wait; its seq.
    pub fn says(&mut self, command: Command) -> u32 {
        if let Command::Act { number, .. } = &command {
            // No other act gets a number that has been used.
            self.next = self.next.max(number + 1);
        }
        self.seq += 1;
        let seq = self.seq;
        self.send(&ClientMessage::Command { seq, command });
        seq
    }

    /// Does something under a number of its own and does not wait; its seq.
    pub fn begins(&mut self, act: Act) -> u32 {
        let number = self.next;
        self.next += 1;
        self.acts.insert(number, act.clone());
        self.says(Command::Act { number, act })
    }

    fn send(&mut self, message: &ClientMessage) {
        let Some(line) = self.line.as_mut() else { return };
        let said = line.gate.take(line.since.elapsed().as_millis() as u64, &message.encode());
        line.say(FrontInput::Said(line.id, said));
    }
}

impl Line {
    /// What a client sends arrives at the process, unless it is dead; a frozen one takes it when it thaws.
    fn say(&self, input: FrontInput) {
        if !self.process.stopped() {
            self.sessions.try_role(input);
        }
    }
}

fn middle((x, y): (u16, u16)) -> (i32, i32) {
    let units = |tile: u16| i32::from(tile) * UNITS_PER_TILE + UNITS_PER_TILE / 2;
    (units(x), units(y))
}
