//! A person: a client through the real protocol, without a socket, that a story tells what to do.
//!
//! What it says goes through the frontend's gate, what it is shown comes out of a shard. A person only knows what the
//! protocol says, waits for states and NEVER for times, and ends the story with all that it has seen when a state does not
//! come about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::player::{self, Birth};
use estate::store::memory::MemoryStore;
use mesh::tasks::Tasks;
use nodes::frontend::connection::Gate;
use nodes::frontend::players::{FrontInput, Said};
use nodes::frontend::sessions::Sessions;
use nodes::frontend::shard::ClientId;
use nodes::game::player::MAX_SPEED;
use nodes::methods::OpenSession;
use nodes::protocol::frames::is_frame;
use nodes::protocol::{
    Act, ClientMessage, Command, HelloKind, Outcome, PROTOCOL, ServerMessage, UNITS_PER_TILE, Wares, codes,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::seen::{Seen, Thing};
use crate::pipe::{Pipe, within};

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

    /// Comes in at a frontend, however long it takes that its former one is believed dead.
    pub async fn arrives(&mut self, frontend: &str) -> &mut Person {
        self.line = None;
        let mut why = String::new();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.try_to_come_in(frontend).await {
                Ok(()) => return self,
                Err(refused) => why = refused,
            }
            sleep(AGAIN).await;
        }
        panic!("{} does not get in at {frontend}: {why}", self.name);
    }

    /// Tries once to come in at a frontend with a new session; why it is not let in: code and text.
    pub async fn tries_to_arrive(&mut self, frontend: &str) -> Result<(), String> {
        self.try_to_come_in(frontend).await
    }

    async fn try_to_come_in(&mut self, frontend: &str) -> Result<(), String> {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(frontend).cloned();
        let (sessions, process) = door.ok_or("it does not run")?;
        let session = Uuid::from_u128(self.random.random());
        let offer = sessions.open(&OpenSession { session, player: ObjectId(self.player), island: None });
        let offer = offer.map_err(|refused| refused.to_string())?;
        self.session = session;
        self.connect(frontend, sessions, process, &offer.ticket).await
    }

    async fn connect(
        &mut self,
        frontend: &str,
        sessions: Sessions,
        process: Tasks,
        ticket: &str,
    ) -> Result<(), String> {
        let pipe = Arc::new(Pipe::default());
        let sink = pipe.clone();
        let kind = HelloKind::of(ticket);
        let entering = sessions.hello(PROTOCOL, ticket, kind, move || sink);
        let entered = within(&process, ANSWER_MS, entering).await.ok_or("it does not answer")?;
        let id = entered.map_err(|farewell| format!("{}: {}", farewell.code, farewell.text))?;
        let (gate, since) = (Gate::new(0), Instant::now());
        self.line = Some(Line { sessions, process, id, gate, pipe, since });
        self.frontend = frontend.to_owned();
        self.seen.begin();
        // Whoever let one in may die before it has said so.
        let until = Instant::now() + PATIENCE;
        while self.seen.welcome.is_none() {
            if self.is_lost() || Instant::now() >= until {
                return Err("it was lost before its welcome".to_owned());
            }
            sleep(LOOK).await;
            self.look();
        }
        let first = self.seen.welcome.as_ref().map_or(0, |welcome| welcome.first_operation);
        // A session that goes on may ask again for what it asked for.
        self.next = if kind == HelloKind::Resume { self.next.max(first) } else { first };
        if kind == HelloKind::Ticket {
            self.acts.clear();
        }
        Ok(())
    }

    /// Goes on wherever one can: where it was sent if it was, else where the welcome said, else anywhere, as clients do whose
    /// frontend is gone.
    ///
    /// # Panics
    /// If nobody lets this person back in within [`PATIENCE`].
    pub async fn comes_along(&mut self) -> &mut Person {
        let until = Instant::now() + PATIENCE;
        while !self.is_lost() && self.seen.redirect.is_none() {
            assert!(Instant::now() < until, "{} has nowhere to come along to: {}", self.name, self.seen);
            sleep(LOOK).await;
            self.look();
        }
        self.look();
        let (sent, mut token) = self.seen.redirect.clone().unzip();
        let known = self.seen.welcome.clone();
        if token.is_none() {
            token = known.as_ref().map(|welcome| welcome.resume_token.clone());
        }
        let token = token.unwrap_or_else(|| panic!("{} was never anywhere", self.name));
        let mut why = self.seen.farewell.clone().map_or_else(String::new, |(code, text)| format!("{code}: {text}"));
        while Instant::now() < until {
            let fallbacks = known.iter().flat_map(|welcome| welcome.fallbacks.clone());
            let named = sent.clone().into_iter().chain(fallbacks);
            let mut names: Vec<String> = named.filter_map(|url| url.rsplit('/').next().map(str::to_owned)).collect();
            names.extend(self.doors.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned());
            for name in names {
                match self.shows(&name, &token).await {
                    Ok(()) => return self,
                    Err(refused) => why = format!("{name}: {refused}"),
                }
            }
            sleep(AGAIN).await;
        }
        panic!("{} does not get back in: {why}; {}", self.name, self.seen);
    }

    /// Does something as [`Person::does`], wherever one is sent meanwhile: what nobody answered is asked again there, under the
    /// same number.
    pub async fn does_on_the_way(&mut self, act: Act) -> u64 {
        let (mut number, mut reply) = self.act(act.clone()).await;
        for _ in 0..TRIES {
            match &reply {
                Reply::Done(made) => return *made,
                Reply::Lost => {
                    self.comes_along().await;
                    reply = self.act_as(number, act.clone()).await;
                }
                Reply::Refused(code, _) if code == codes::UNKNOWN => {
                    sleep(AGAIN).await;
                    reply = self.act_as(number, act.clone()).await;
                }
                Reply::Refused(code, _) if passes(code) => {
                    sleep(AGAIN).await;
                    (number, reply) = self.act(act.clone()).await;
                }
                Reply::Refused(..) => panic!("{} cannot {act:?}: {reply:?}; {}", self.name, self.seen),
            }
        }
        panic!("{} never gets to {act:?}: {reply:?}; {}", self.name, self.seen);
    }

    /// Follows the redirect that was told, to the frontend where it leads.
    pub async fn follows(&mut self) {
        let (url, ticket) = self.waits_for("a redirect", |seen| seen.redirect.clone()).await;
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let (sessions, process) = door.unwrap_or_else(|| panic!("{}: {url} leads nowhere", self.name));
        let came = self.connect(&name, sessions, process, &ticket).await;
        came.unwrap_or_else(|e| panic!("{} was sent to {url} and not let in: {e}", self.name));
    }

    /// Shows a ticket or passage at a frontend; why it is not let in there: code and text. Its present connection stays
    /// as it is unless another is let in.
    pub async fn shows(&mut self, frontend: &str, token: &str) -> Result<(), String> {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(frontend).cloned();
        let (sessions, process) = door.ok_or("it does not run")?;
        self.connect(frontend, sessions, process, token).await
    }

    /// Shows a token at a frontend that lets its owner in, whose welcome never comes; the other end of that connection. If it
    /// `ends` the frontend hears of that, else it believes that somebody is there.
    ///
    /// # Panics
    /// If it is not let in.
    pub async fn is_welcomed_in_vain(&mut self, frontend: &str, token: &str, ends: bool) -> Arc<Pipe> {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(frontend).cloned();
        let (sessions, process) = door.unwrap_or_else(|| panic!("{frontend} does not run"));
        let pipe = Arc::new(Pipe::default());
        let sink = pipe.clone();
        let entering = sessions.hello(PROTOCOL, token, HelloKind::of(token), move || sink);
        let entered = within(&process, ANSWER_MS, entering).await;
        let id = entered.unwrap_or_else(|| panic!("{frontend} does not answer {}", self.name));
        let id = id.unwrap_or_else(|e| panic!("{} is not let in at {frontend}: {e:?}", self.name));
        if ends {
            sessions.try_role(FrontInput::Detach(id));
        }
        pipe
    }

    /// The token of the last welcome.
    pub fn token(&self) -> String {
        self.seen.welcome.as_ref().map(|welcome| welcome.resume_token.clone()).unwrap_or_default()
    }

    /// Comes back with the token of the last welcome at a frontend, however long that takes it; why it is not let in: code and
    /// text.
    pub async fn tries_to_resume(&mut self, frontend: &str) -> Result<(), String> {
        let token = self.token();
        self.shows(frontend, &token).await
    }

    /// Comes back with the token of the last welcome at a frontend, which may first have to wait for another to be dead.
    ///
    /// # Panics
    /// If it is not let in.
    pub async fn resumes(&mut self, frontend: &str) -> &mut Person {
        let resumed = self.tries_to_resume(frontend).await;
        resumed.unwrap_or_else(|e| panic!("{} cannot come back at {frontend}: {e}", self.name));
        self
    }

    /// Another client of the same player, with the same token and no connection.
    pub fn twin(&self) -> Person {
        let mut seen = Seen::default();
        seen.welcome.clone_from(&self.seen.welcome);
        Person {
            name: format!("{} again", self.name),
            seen,
            line: None,
            frontend: String::new(),
            doors: self.doors.clone(),
            random: StdRng::seed_from_u64(self.player ^ 0x7_7769_6e00),
            acts: self.acts.clone(),
            ..*self
        }
    }

    /// Goes out of the game; returns when the player's document is released.
    pub async fn goes_offline(&mut self) {
        let Some(line) = self.line.take() else { return };
        line.say(FrontInput::Detach(line.id));
        line.sessions.close(ObjectId(self.player), "the story says so").await;
    }

    /// Loses the connection without a word, as a client that crashes.
    pub fn vanishes(&mut self) {
        if let Some(line) = self.line.take() {
            line.say(FrontInput::Detach(line.id));
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

    /// Walks to the middle of a tile, in a straight line, and waits until there.
    ///
    /// # Panics
    /// If something is in the way.
    pub async fn walks_to(&mut self, x: u16, y: u16) {
        let to = middle((x, y));
        for _ in 0..TRIES {
            self.look();
            let command = Command::Walk { from: self.seen.place(), to, speed: MAX_SPEED };
            let outcome = self.commands(command).await;
            match outcome {
                Some(Outcome::Ok { motion: Some(motion) }) => {
                    let end = motion.end_ms() as i64;
                    self.waits_until("the end of a walk", |seen| seen.now_ms() >= end).await;
                    let near = |a: i32, b: i32| (a - b).abs() <= UNITS_PER_TILE / 2;
                    let (at_x, at_y) = motion.end();
                    if near(at_x, to.0) && near(at_y, to.1) {
                        return;
                    }
                    // Something stands in the way, or the walk was replaced: once more from where one is.
                }
                Some(Outcome::Refused { code, .. }) if code == codes::OUT_OF_PLACE => {}
                other => panic!("{} cannot walk to ({x}, {y}): {other:?}; {}", self.name, self.seen),
            }
        }
        panic!("{} does not get to ({x}, {y}): {}", self.name, self.seen);
    }

    /// Does something under a number of its own, and waits for the answer.
    pub async fn act(&mut self, act: Act) -> (u64, Reply) {
        let number = self.next;
        self.next += 1;
        self.acts.insert(number, act.clone());
        (number, self.act_as(number, act).await)
    }

    /// Does something under this number.
    pub async fn act_as(&mut self, number: u64, act: Act) -> Reply {
        let seq = self.says(Command::Act { number, act });
        self.reply_to(seq).await
    }

    /// Waits for what became of an act that was begun.
    pub async fn reply_to(&mut self, seq: u32) -> Reply {
        match self.outcome(seq).await {
            Some(Outcome::Ok { .. }) => Reply::Done(0),
            Some(Outcome::Made { number }) => Reply::Done(number),
            Some(Outcome::Refused { code, text, .. }) => Reply::Refused(code, text),
            None => Reply::Lost,
        }
    }

    /// Asks again for what was asked under this number.
    pub async fn asks_again(&mut self, number: u64) -> Reply {
        let act = self.acts.get(&number).unwrap_or_else(|| panic!("nothing was asked under {number}")).clone();
        self.act_as(number, act).await
    }

    /// Does something as a patient client does it: what nobody knows is asked again under its number, and what was refused
    /// for the moment is tried again. The number of what came of it, or 0.
    ///
    /// # Panics
    /// If it is refused for good.
    pub async fn does(&mut self, act: Act) -> u64 {
        let mut last = None;
        let mut unknown = None;
        for _ in 0..TRIES {
            let (number, reply) = match unknown.take() {
                Some(number) => (number, self.asks_again(number).await),
                None => self.act(act.clone()).await,
            };
            match &reply {
                Reply::Done(made) => return *made,
                Reply::Refused(code, _) if code == codes::UNKNOWN => unknown = Some(number),
                Reply::Refused(code, _) if passes(code) => {}
                Reply::Refused(..) | Reply::Lost => panic!("{} cannot {act:?}: {reply:?}; {}", self.name, self.seen),
            }
            last = Some(reply);
            sleep(AGAIN).await;
        }
        panic!("{} never gets to {act:?}: {last:?}; {}", self.name, self.seen);
    }

    /// Asks for an act under this number, as often as nobody knows what became of it or it is refused for the moment only.
    pub async fn insists(&mut self, number: u64, act: &Act) -> Reply {
        let mut last = Reply::Lost;
        for _ in 0..TRIES {
            last = self.act_as(number, act.clone()).await;
            match &last {
                Reply::Refused(code, _) if passes(code) || code == codes::UNKNOWN => sleep(AGAIN).await,
                _ => return last,
            }
        }
        last
    }

    /// Tries something that is refused for good; the refusal's code.
    ///
    /// # Panics
    /// If it is done.
    pub async fn is_refused(&mut self, act: Act) -> String {
        for _ in 0..TRIES {
            match self.act(act.clone()).await.1 {
                Reply::Refused(code, _) if !passes(&code) && code != codes::UNKNOWN => return code,
                Reply::Refused(..) => {}
                reply => panic!("{} should not get to {act:?}: {reply:?}; {}", self.name, self.seen),
            }
            sleep(AGAIN).await;
        }
        panic!("{} gets no clear refusal of {act:?}: {}", self.name, self.seen);
    }

    /// Builds a facility of one tile on some tile in reach; its number.
    ///
    /// # Panics
    /// If no tile around is good for it.
    pub async fn builds(&mut self, facility: &str) -> u64 {
        let (x, y) = self.seen.tile();
        let mut last = None;
        for (x, y) in (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (x + dx, y + dy))) {
            let (Ok(x), Ok(y)) = (u16::try_from(x), u16::try_from(y)) else { continue };
            for _ in 0..TRIES {
                let (_, reply) = self.act(Act::Build { facility: facility.to_owned(), x, y, turned: 0 }).await;
                match &reply {
                    Reply::Done(object) => return *object,
                    Reply::Refused(code, _) if passes(code) => sleep(AGAIN).await,
                    _ => {
                        last = Some(reply);
                        break;
                    }
                }
            }
        }
        panic!("{} can build no {facility} here: {last:?}; {}", self.name, self.seen);
    }

    /// What the bag holds, asked for now.
    pub async fn bag(&mut self) -> Wares {
        let bags = self.seen.bags;
        self.does(Act::Bag {}).await;
        self.waits_for("the bag", |seen| (seen.bags > bags).then(|| seen.wares.clone())).await
    }

    /// What a box holds, looked into now.
    pub async fn looks_into(&mut self, object: u64) -> Wares {
        self.seen.stores.remove(&object);
        self.does(Act::Look { object }).await;
        self.waits_for("what is in the box", |seen| seen.stores.get(&object).cloned()).await
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

/// Refusals that are over after a while.
fn passes(code: &str) -> bool {
    matches!(code, codes::BUSY | codes::TOO_SOON | codes::UNAVAILABLE | codes::FLOOD)
}

fn middle((x, y): (u16, u16)) -> (i32, i32) {
    let units = |tile: u16| i32::from(tile) * UNITS_PER_TILE + UNITS_PER_TILE / 2;
    (units(x), units(y))
}
