//! One person: comes in, plays, loses the connection, comes back somewhere, asks again for what was under way.
//!
//! It is as patient as a good client: an act whose end it does not know is asked for again under its number until somebody
//! knows, and a frontend that says nothing is left for another. It NEVER looks into a node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cartographer::terrain::Terrain;
use nodes::game::content::Content;
use nodes::protocol::{Act, ClientMessage, Command, Outcome, ServerMessage, UNITS_PER_TILE, Welcome, codes};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::deeds::{self, Deed};
use super::line::{Entry, Key, Line};
use super::{InSight, Phase, Shown, lock, phase_of};
use crate::sim::books::{Books, Change};
use crate::sim::plan::weighed;
use crate::sim::sometimes::Counts;
use crate::village::{Doors, Seen};

/// Between two looks at what was shown, in simulated milliseconds.
const LOOK_MS: u64 = 100;

/// How long a person waits at a door: as long as a lease and what follows its end.
const AT_THE_DOOR: Duration = Duration::from_secs(14);

/// How long a frontend may say nothing at all before it is left.
const SILENCE: Duration = Duration::from_secs(4);

/// How often a person makes sure that its frontend is there.
const PING: Duration = Duration::from_millis(1_500);

/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_secs(5);

/// How often an act is asked for before it is given up as unknown.
const ASKS: u32 = 60;

/// Acts of one person that may be open.
const OPEN: usize = 2;

/// Acts that a person remembers to have done.
const PAST: usize = 40;

/// How far from where one has logged out one may be when one comes in again, in 1/256 tile: one walks until the frontend hears of
/// it.
const STRAYED: i32 = 2 * UNITS_PER_TILE;

/// What all people of a run share.
pub struct World {
    /// The frontends.
    pub doors: Doors,
    /// The islands, as clients have them from their packages.
    pub islands: BTreeMap<u32, Arc<Terrain>>,
    /// The content, as clients have it.
    pub content: Arc<Content>,
    /// What happened.
    pub counts: Counts,
    /// What was acknowledged.
    pub books: Books,
    /// What people do, and how often.
    pub deeds: Vec<(Deed, u32)>,
    /// Between two deeds.
    pub pace_ms: (u64, u64),
    /// How many people there are.
    pub people: u64,
    /// What is done now.
    pub phase: Arc<AtomicU8>,
    /// Nothing befalls the nodes.
    pub calm: bool,
}

/// An act whose end is not known.
struct Open {
    act: Act,
    change: Change,
    /// The number that it was asked under last.
    seq: u32,
    asked: Instant,
    /// When it is to be asked for again.
    again: Option<Instant>,
    asks: u32,
    /// It may have happened.
    unsure: bool,
    /// It was asked for in an earlier claim of the player: what the world says now may refuse what has happened already.
    earlier: bool,
}

/// Somebody who plays.
pub struct Person {
    pub(super) number: u64,
    pub(super) random: StdRng,
    pub(super) world: Arc<World>,
    pub(super) seen: Seen,
    /// How far what was seen has been worked through.
    pub(super) noted: usize,
    window: Arc<Mutex<Shown>>,
    line: Option<Line>,
    frontend: String,
    /// Frontends at which the present session has been.
    been_at: Vec<String>,
    resume: Option<String>,
    next: u64,
    seq: u32,
    open: BTreeMap<u64, Open>,
    /// The next session is to be at the same frontend.
    stays_here: bool,
    /// Acts that were answered as done, oldest first.
    past: VecDeque<(u64, Act)>,
    /// The island and the place of an orderly farewell.
    parted: Option<(u32, (i32, i32))>,
    heard: Instant,
    pinged: Instant,
    entered: Instant,
    next_deed: Instant,
    shadow: Option<(Line, Instant, String)>,
    trades: BTreeMap<u64, u8>,
    trace: u64,
}

impl Person {
    /// Somebody who has not come in yet.
    pub(super) fn new(number: u64, random: StdRng, world: Arc<World>, window: Arc<Mutex<Shown>>) -> Person {
        let now = Instant::now();
        Person {
            number,
            random,
            world,
            seen: Seen::default(),
            noted: 0,
            window,
            line: None,
            frontend: String::new(),
            been_at: Vec::new(),
            resume: None,
            next: 0,
            seq: 0,
            open: BTreeMap::new(),
            stays_here: false,
            past: VecDeque::new(),
            parted: None,
            heard: now,
            pinged: now,
            entered: now,
            next_deed: now,
            shadow: None,
            trades: BTreeMap::new(),
            trace: number,
        }
    }

    /// Lives until the run ends.
    pub(super) async fn live(mut self) {
        let first = self.random.random_range(0..1_500);
        sleep(Duration::from_millis(first)).await;
        loop {
            if self.line.is_none() {
                self.come_in().await;
            }
            self.look();
            self.leave_if_lost();
            if self.line.is_some() {
                self.ask_again();
                self.make_sure();
                if Instant::now() >= self.next_deed && self.seen.welcome.is_some() {
                    self.do_something().await;
                }
            }
            self.show();
            sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    pub(super) fn phase(&self) -> Phase {
        phase_of(&self.world.phase)
    }

    pub(super) fn count(&self, name: &str) {
        self.world.counts.add(name);
    }

    async fn come_in(&mut self) {
        let Some((name, key)) = self.choose_door() else {
            self.tell("no frontend runs");
            sleep(Duration::from_millis(300)).await;
            return;
        };
        let door = self.world.doors.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let Some(door) = door else {
            sleep(Duration::from_millis(200)).await;
            return;
        };
        let resumes = matches!(key, Key::Resume(_));
        self.tell(&format!("at the door of {name}"));
        match Line::open(door, self.number, key.clone(), AT_THE_DOOR).await {
            Entry::In(line) => {
                self.is_in(name, line, &key);
            }
            Entry::Refused(code) => {
                self.count(&format!("refused_at_the_door_{code}"));
                self.mix(code.len() as u64);
                // Not now is not never.
                if resumes && !matches!(code.as_str(), codes::UNAVAILABLE | codes::DRAINING | codes::FULL) {
                    self.resume = None;
                }
                let pause = self.random.random_range(100..600);
                sleep(Duration::from_millis(pause)).await;
            }
            Entry::Broken => {
                self.count("door_broken");
                sleep(Duration::from_millis(100)).await;
            }
            Entry::Silent => self.count("door_silent"),
        }
    }

    /// Where to try: where one was sent, where one was, or anywhere; by what one has.
    fn choose_door(&mut self) -> Option<(String, Key)> {
        let names: Vec<String> = {
            let doors = self.world.doors.lock().unwrap_or_else(PoisonError::into_inner);
            doors.keys().cloned().collect()
        };
        if names.is_empty() {
            return None;
        }
        if let Some((url, token)) = self.seen.redirect.take() {
            let name = url.rsplit('/').next().unwrap_or_default().to_owned();
            self.count("followed_a_redirect");
            if token.starts_with('r') {
                self.resume = Some(token.clone());
                return Some((name, Key::Resume(token)));
            }
            return Some((name, Key::Ticket(token)));
        }
        let anywhere = names[self.random.random_range(0..names.len())].clone();
        let anywhere = if self.stays_here && names.contains(&self.frontend) { self.frontend.clone() } else { anywhere };
        // A token that is refused for the moment is not tried for ever: a gateway gives a new session.
        match self.resume.clone().filter(|_| self.random.random_ratio(5, 6)) {
            Some(token) => {
                let same = names.contains(&self.frontend) && self.random.random_ratio(1, 2);
                Some((if same { self.frontend.clone() } else { anywhere }, Key::Resume(token)))
            }
            None => Some((anywhere, Key::Session(Uuid::from_u128(self.random.random())))),
        }
    }

    fn is_in(&mut self, name: String, line: Line, key: &Key) {
        match key {
            Key::Resume(_) if name == self.frontend => self.count("resumed_at_the_same_frontend"),
            Key::Resume(_) => {
                self.count("resumed_at_another_frontend");
                if !self.been_at.contains(&name) && self.been_at.len() >= 2 {
                    self.count("resumed_at_a_third_frontend");
                }
            }
            Key::Ticket(_) => {}
            Key::Session(_) => {
                self.been_at.clear();
                self.count("logged_in");
            }
        }
        if !self.been_at.contains(&name) {
            self.been_at.push(name.clone());
        }
        let now = Instant::now();
        (self.heard, self.pinged, self.entered, self.next_deed) = (now, now, now, now);
        (self.frontend, self.line) = (name, Some(line));
        self.seen.begin();
        self.seen.notes.clear();
        self.seen.chats.clear();
        self.seen.exchanges.clear();
        self.noted = 0;
    }

    /// Takes what was shown and told.
    fn look(&mut self) {
        let Some(line) = &self.line else { return };
        let (mut gap, messages) = (false, line.take());
        for bytes in messages {
            self.heard = Instant::now();
            match ServerMessage::decode(&bytes) {
                Ok(ServerMessage::Welcome(welcome)) => {
                    self.resume = Some(welcome.resume_token.clone()).filter(|token| !token.is_empty());
                    let first = welcome.first_operation;
                    self.mix(first);
                    self.compare_place(&welcome);
                    self.seen.take(ServerMessage::Welcome(welcome));
                    self.welcomed(first);
                }
                Ok(ServerMessage::Answer { seq, outcome }) => {
                    if let Outcome::Ok { motion: Some(motion) } | Outcome::Refused { motion: Some(motion), .. } =
                        &outcome
                    {
                        self.seen.motion = *motion;
                    }
                    self.answered(seq, &outcome);
                }
                Ok(ServerMessage::Trade(trade)) => {
                    if trade.state != 0 && self.trades.insert(trade.trade, trade.state) != Some(trade.state) {
                        self.world.books.trade(trade.trade, trade.state == 1);
                        self.count(if trade.state == 1 { "trade_done" } else { "trade_given_up" });
                    }
                    self.seen.take(ServerMessage::Trade(trade));
                }
                Ok(message) => gap |= self.seen.take(message),
                Err(e) => lock(&self.window).malformed.push(e.to_string()),
            }
        }
        if gap {
            let cells = self.seen.sight.waiting();
            self.send(&ClientMessage::Ask { cells });
        }
    }

    /// Who has logged out in order, and comes in again, is where it was.
    fn compare_place(&mut self, welcome: &Welcome) {
        let Some((island, (x, y))) = self.parted.take() else { return };
        let now = i64::try_from(welcome.now_ms).unwrap_or(i64::MAX);
        let is = welcome.motion.at(now);
        if (welcome.island, true) != (island, (is.0 - x).abs().max((is.1 - y).abs()) <= STRAYED) {
            lock(&self.window).strayed.push(format!(
                "was at {:?} of {island} and is at {is:?} of {}",
                (x, y),
                welcome.island
            ));
        }
    }

    /// A welcome: what was asked for before is asked for again.
    fn welcomed(&mut self, first: u64) {
        let later = self.next != 0 && first > self.next;
        self.next = self.next.max(first);
        let now = Instant::now();
        for open in self.open.values_mut() {
            // It may have been done before the connection was lost.
            (open.unsure, open.again) = (true, Some(now));
            open.earlier |= later;
        }
    }

    fn answered(&mut self, seq: u32, outcome: &Outcome) {
        self.mix(u64::from(seq));
        let Some(number) = self.open.iter().find(|(_, open)| open.seq == seq).map(|(number, _)| *number) else {
            return;
        };
        let Some(open) = self.open.get_mut(&number) else { return };
        let now = Instant::now();
        tracing::debug!(
            player = self.number,
            number,
            seq,
            act = ?open.act,
            change = ?open.change,
            open.unsure,
            open.earlier,
            ?outcome,
            "was told"
        );
        let (code, made) = match outcome {
            Outcome::Ok { .. } => ("", 0),
            Outcome::Made { number } => ("", *number),
            Outcome::Refused { code, .. } => (code.as_str(), 0),
        };
        match code {
            "" => self.done(number, made),
            codes::UNKNOWN => {
                (open.unsure, open.again) = (true, Some(now + Duration::from_millis(400)));
                self.count("act_answered_unknown");
            }
            codes::BUSY | codes::TOO_SOON | codes::UNAVAILABLE | codes::FLOOD if open.unsure => {
                open.again = Some(now + Duration::from_millis(400));
            }
            // Refused, and never begun: it is not done. Whoever cannot know says so by another code.
            _ if !open.unsure => drop(self.open.remove(&number)),
            codes::STALE => self.never_known(number),
            _ if open.earlier => self.never_known(number),
            _ => drop(self.open.remove(&number)),
        }
    }

    fn done(&mut self, number: u64, made: u64) {
        let Some(open) = self.open.remove(&number) else { return };
        self.mix(number);
        if open.asks > 1 {
            self.count("act_asked_again_and_done");
        }
        if open.earlier {
            self.count("act_done_in_a_later_session");
        }
        if let Some(name) = deeds::told_as(&open.act) {
            self.count(name);
        }
        if let Act::Build { facility, .. } = &open.act
            && self.world.content.facilities.get(facility).is_some_and(|facility| facility.slots > 0)
        {
            self.world.books.built(made);
        }
        self.world.books.done(&open.change);
        if !open.change.is_empty() {
            self.past.push_back((number, open.act));
            self.past.drain(..self.past.len().saturating_sub(PAST));
        }
    }

    /// Asks for something again that was answered as done: it is not to happen twice, whatever is answered now.
    fn repeat(&mut self) {
        if self.past.is_empty() {
            return;
        }
        let (number, act) = self.past[self.random.random_range(0..self.past.len())].clone();
        self.count("act_repeated");
        self.says(Command::Act { number, act });
    }

    fn never_known(&mut self, number: u64) {
        if let Some(open) = self.open.remove(&number) {
            self.count("act_never_known");
            self.world.books.maybe(open.change);
        }
    }

    /// Asks again for what is not known, under its number.
    fn ask_again(&mut self) {
        let now = Instant::now();
        let due = |open: &Open| open.again.is_some_and(|at| now >= at) || now >= open.asked + ANSWER;
        let numbers: Vec<u64> = self.open.iter().filter(|(_, open)| due(open)).map(|(number, _)| *number).collect();
        if self.seen.welcome.is_none() {
            return;
        }
        for number in numbers {
            let seq = self.seq + 1;
            let Some(open) = self.open.get_mut(&number) else { continue };
            if open.asks >= ASKS {
                self.never_known(number);
                continue;
            }
            (open.seq, open.asked, open.again) = (seq, now, None);
            // Whatever is said of this asking, the one before may be under way.
            open.unsure = true;
            open.asks += 1;
            let act = open.act.clone();
            self.seq = seq;
            self.send(&ClientMessage::Command { seq, command: Command::Act { number, act } });
        }
    }

    /// Asks whether the frontend is there.
    fn make_sure(&mut self) {
        let now = Instant::now();
        if now >= self.pinged + PING {
            self.pinged = now;
            self.send(&ClientMessage::Ping { t: i64::from(self.seq) });
        }
        let waits = |(_, since, _): &(Line, Instant, String)| now < *since + AT_THE_DOOR;
        match self.shadow.take() {
            Some((line, _, _)) if line.is_over() => self.count("replaced_by_a_newer_session"),
            Some(shadow) if waits(&shadow) => self.shadow = Some(shadow),
            // Not closed in time: told by the checkers if its process is awake in the end.
            Some(shadow) => self.shadow = Some(shadow),
            None => {}
        }
    }

    fn leave_if_lost(&mut self) {
        let Some(line) = &self.line else { return };
        let silent = self.heard.elapsed() > SILENCE;
        let told = self.seen.farewell.is_some() || self.seen.redirect.is_some();
        if !(line.is_over() || silent || told) {
            return;
        }
        if let Some((code, _)) = &self.seen.farewell {
            let name = format!("farewell_{code}");
            self.count(&name);
            if matches!(code.as_str(), codes::REPLACED | codes::SESSION_ENDED) {
                self.resume = None;
            }
        }
        if silent && !told {
            self.count("frontend_found_silent");
        }
        if let Some(line) = self.line.take() {
            line.hang_up();
        }
    }

    async fn do_something(&mut self) {
        let (least, most) = self.world.pace_ms;
        let pause = self.random.random_range(least..=most);
        self.next_deed = Instant::now() + Duration::from_millis(pause);
        let fights = deeds::my_battle(self).is_some();
        let deed = match self.phase() {
            _ if fights => Some(Deed::Hunt),
            Phase::Playing => weighed(&mut self.random, &self.world.deeds),
            Phase::Settling => None,
        };
        match deed {
            None => {}
            Some(Deed::Vanish) => {
                self.vanish().await;
            }
            Some(Deed::LogOut) => {
                if let Some(line) = self.line.take() {
                    // Who dies comes in elsewhere, and who was about to sail may have.
                    let stays = self.world.calm && self.open.is_empty() && self.seen.health > 50;
                    self.parted = stays.then(|| (self.seen.island(), self.seen.place()));
                    line.end(self.number);
                    self.resume = None;
                    self.count("logged_out");
                    let pause = self.random.random_range(200..5_000);
                    sleep(Duration::from_millis(pause)).await;
                }
            }
            Some(Deed::SecondSession) => self.come_in_twice().await,
            Some(Deed::Repeat) => self.repeat(),
            Some(deed) => deeds::perform(self, deed),
        }
    }

    /// Loses the connection without a word, and is away for a moment.
    async fn vanish(&mut self) {
        if let Some(line) = self.line.take() {
            line.hang_up();
        }
        self.count("vanished");
        let pause = self.random.random_range(0..2_000);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Comes in a second time, elsewhere or here, while the first connection stands.
    async fn come_in_twice(&mut self) {
        if self.shadow.is_some() || self.line.is_none() {
            return;
        }
        let (older, frontend) = (self.line.take(), self.frontend.clone());
        // As often here as elsewhere.
        (self.resume, self.stays_here) = (None, self.random.random_ratio(1, 2));
        self.come_in().await;
        self.stays_here = false;
        match (older, &self.line) {
            (Some(older), Some(_)) => self.shadow = Some((older, Instant::now(), frontend)),
            (older, None) => (self.line, self.frontend) = (older, frontend),
            (None, Some(_)) => {}
        }
    }

    /// Asks for an act, if not too many are open.
    pub(super) fn act(&mut self, act: Act, change: Change) {
        if self.open.len() >= OPEN || self.next == 0 {
            return;
        }
        let number = self.next;
        self.next += 1;
        let seq = self.says(Command::Act { number, act: act.clone() });
        let (asked, again) = (Instant::now(), None);
        let open = Open { act, change, seq, asked, again, asks: 1, unsure: false, earlier: false };
        self.open.insert(number, open);
    }

    /// Sends a command.
    pub(super) fn says(&mut self, command: Command) -> u32 {
        self.seq += 1;
        let seq = self.seq;
        self.send(&ClientMessage::Command { seq, command });
        seq
    }

    fn send(&mut self, message: &ClientMessage) {
        if let Some(line) = &mut self.line {
            line.send(message);
        }
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    fn tell(&self, state: &str) {
        let mut window = lock(&self.window);
        state.clone_into(&mut window.state);
        (window.sight, window.open) = (None, self.open.len());
    }

    /// Lets the checkers see.
    fn show(&self) {
        let mut window = lock(&self.window);
        (window.open, window.trace) = (self.open.len(), self.trace);
        window.not_replaced =
            self.shadow.as_ref().map(|(_, _, frontend)| format!("an older connection to {frontend} stands"));
        if self.phase() == Phase::Playing {
            return;
        }
        let sight = &self.seen.sight;
        window.sight = self.line.as_ref().filter(|_| self.seen.welcome.is_some()).map(|_| InSight {
            ghosts: sight.ghosts().map(|(id, ghost)| (id, ghost.publisher, ghost.epoch, ghost.version)).collect(),
            island: sight.island(),
            cells: sight.cells().iter().copied().collect(),
        });
        let acts: Vec<String> =
            self.open.iter().map(|(n, open)| format!("{n} {} ({} asks)", open.act.op(), open.asks)).collect();
        window.state = format!("in at {}, waits for {acts:?}", self.frontend);
    }
}
