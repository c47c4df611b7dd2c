//! Bots that settle: players that live the whole game by what they see, through the client protocol only.
//!
//! A [`Settler`] has a stack of goals and asks for one act at a time, each under its operation number; after a lost
//! connection it asks again under the same number. It checks while it plays: that answers come, that refusals are such as
//! may happen to an honest player, that its own account of its goods is what the frontend says, and that battles are shown
//! whole. It is a value: sockets, clocks and requests are its bot's. It NEVER knows more than a player could.

pub mod report;

pub(super) mod commons;

mod account;
mod eyes;
mod fight;
mod goals;
mod mind;
mod people;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::protocol::{Act, Outcome, ServerMessage, Wares, codes};
use account::Account;
use commons::Commons;
pub(super) use eyes::Eyes;
use fight::Battles;
use goals::{Goal, What};
use people::People;

/// An answer that has not come after so long is a finding, and the act is asked again under its number.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// How often an act is asked in all.
const ASKS: u32 = 4;
/// Steps of planning in one turn.
const PLANS: usize = 10;
/// After a refusal that says that others were faster, or the server is busy.
const PAUSE: Duration = Duration::from_millis(400);

/// Codes of refusals that may happen to an honest player: others were faster, or things are not as they looked.
const EXPECTED: &[&str] = &[
    codes::UNAVAILABLE,
    codes::TOO_FAR,
    codes::MISSING,
    codes::IN_BATTLE,
    codes::NO_BATTLE,
    codes::DEFEATED,
    codes::TOO_SOON,
    codes::FORBIDDEN,
    codes::BUSY,
    codes::UNKNOWN,
    codes::NEEDS,
    codes::PARTY,
    codes::FULL,
    codes::DRAINING,
    "occupied",
    "owned",
    "outside",
    "water",
    "too_large",
    "too_little",
    "taken",
    "not_adjacent",
    "not_empty",
    "unpaid",
    "changed",
    "done",
    "withdrawn",
    "overflow",
    "stranger",
];

/// What a settler wants done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    Rest,
    /// Walk towards a place.
    Walk((i32, i32)),
    /// An act, under this number.
    Act(u64, Act),
}

/// An act that is not answered yet.
#[derive(Debug)]
struct Asked {
    /// Under what `seq`, once it was sent.
    seq: Option<u32>,
    number: u64,
    act: Act,
    sent: Instant,
    asks: u32,
    /// Not before this.
    again: Option<Instant>,
}

/// One bot's mind and memory.
#[derive(Debug)]
pub(super) struct Settler {
    commons: Arc<Commons>,
    rng: StdRng,
    me: u64,
    next_number: u64,
    asked: Option<Asked>,
    rest_until: Option<Instant>,
    account: Account,
    health: u8,
    goals: Vec<Goal>,
    /// Legs in a row that led nowhere, and where the last leg went.
    blocked: u32,
    heading: Option<(i32, i32)>,
    /// When each kind of goal was last chosen.
    chosen: BTreeMap<&'static str, Instant>,
    /// Natural objects that gave nothing lately.
    spent: FxHashMap<(u32, u16, u16), Instant>,
    /// What it has built: object, facility, island and tile.
    built: Vec<(u64, String, u32, (u16, u16))>,
    /// Its chunks, as far as it was told.
    land: Vec<(u32, u16, u16)>,
    /// What boxes held when they were last looked into.
    stores: BTreeMap<u64, Wares>,
    people: People,
    battles: Battles,
}

/// Facilities that are remembered.
const BUILT_KEPT: usize = 32;

impl Settler {
    /// A settler without memories.
    pub(super) fn new(commons: Arc<Commons>, seed: u64, me: u64) -> Settler {
        Settler {
            commons,
            rng: StdRng::seed_from_u64(seed),
            me,
            next_number: 0,
            asked: None,
            rest_until: None,
            account: Account::default(),
            health: 100,
            goals: Vec::new(),
            blocked: 0,
            heading: None,
            chosen: BTreeMap::new(),
            spent: FxHashMap::default(),
            built: Vec::new(),
            land: Vec::new(),
            stores: BTreeMap::new(),
            people: People::default(),
            battles: Battles::default(),
        }
    }

    /// A welcome: what was not answered is asked again under its number; what is carried will be told.
    pub(super) fn welcomed(&mut self, me: u64, island: u32, first_operation: u64) {
        self.me = me;
        self.next_number = self.next_number.max(first_operation);
        self.account.doubt();
        self.heading = None;
        self.battles.forget();
        if let Some(asked) = &mut self.asked {
            asked.seq = None;
            asked.again = None;
        }
        let mut report = self.commons.report();
        report.islands.insert(island);
    }

    /// What it wants done now.
    pub(super) fn turn(&mut self, eyes: &Eyes<'_>) -> Wish {
        if let Some(wish) = self.unanswered(eyes) {
            return wish;
        }
        if self.rest_until.is_some_and(|until| eyes.now < until) {
            return Wish::Rest;
        }
        self.check_account(eyes);
        self.battles.overdue(eyes, &self.commons);
        if let Some(act) = self.account.question(eyes.now) {
            return self.ask(eyes, act);
        }
        if let Some(battle) = self.battle(eyes) {
            return self.fight(eyes, battle);
        }
        if let Some(act) = self.deal(eyes) {
            return self.ask(eyes, act);
        }
        // Who trades stays with the other.
        if let Some(other) = self.people.trade.as_ref().and_then(|trade| eyes.one(trade.other)) {
            return match self.near(eyes, other.place, 1) {
                Err(goals::Step::Walk(to)) => Wish::Walk(to),
                _ => Wish::Rest,
            };
        }
        self.pursue(eyes)
    }

    /// Goes on with the topmost goal, or chooses one.
    fn pursue(&mut self, eyes: &Eyes<'_>) -> Wish {
        for _ in 0..PLANS {
            let Some(goal) = self.goals.last() else {
                let what = self.choose(eyes);
                self.push(what, eyes.now);
                continue;
            };
            if eyes.now > goal.until {
                self.give_up();
                continue;
            }
            let what = goal.what.clone();
            match self.step(eyes, what) {
                goals::Step::Rest => return Wish::Rest,
                goals::Step::Walk(to) => return Wish::Walk(to),
                goals::Step::Act(act) => return self.ask(eyes, act),
                goals::Step::First(what) if self.goals.len() < goals::DEEPEST => self.push(what, eyes.now),
                goals::Step::First(_) | goals::Step::Failed => self.give_up(),
                goals::Step::Done => self.finish(),
            }
        }
        Wish::Rest
    }

    fn push(&mut self, what: What, now: Instant) {
        self.blocked = 0;
        self.heading = None;
        self.goals.push(Goal::new(what, now));
    }

    fn finish(&mut self) {
        self.blocked = 0;
        self.heading = None;
        if let Some(goal) = self.goals.pop() {
            self.commons.report().goal(goal.what.name()).done += 1;
        }
    }

    /// Gives up the goal and everything for which it was.
    fn give_up(&mut self) {
        self.blocked = 0;
        self.heading = None;
        if let Some(goal) = self.goals.first() {
            self.commons.report().goal(goal.what.name()).given_up += 1;
        }
        self.goals.clear();
    }

    fn ask(&mut self, eyes: &Eyes<'_>, act: Act) -> Wish {
        let number = self.next_number;
        self.next_number += 1;
        self.commons.report().act(act.op()).asked += 1;
        self.asked = Some(Asked { seq: None, number, act: act.clone(), sent: eyes.now, asks: 1, again: None });
        Wish::Act(number, act)
    }

    /// The bot has sent the act of the last wish under this `seq`.
    pub(super) fn sent(&mut self, seq: u32, now: Instant) {
        if let Some(asked) = &mut self.asked {
            (asked.seq, asked.sent, asked.again) = (Some(seq), now, None);
        }
    }

    /// Waits for an answer, or asks again.
    fn unanswered(&mut self, eyes: &Eyes<'_>) -> Option<Wish> {
        let asked = self.asked.as_mut()?;
        let lost = asked.seq.is_none() && asked.again.is_none();
        let late = eyes.now.saturating_duration_since(asked.sent) > ANSWER_DEADLINE;
        if late && asked.seq.is_some() {
            let (me, op, number) = (self.me, asked.act.op(), asked.number);
            self.commons.report().finding("unanswered", || format!("player {me}: no answer to {op} {number}"));
        }
        if !(lost || late || asked.again.is_some_and(|at| eyes.now >= at)) {
            return Some(Wish::Rest);
        }
        asked.asks += 1;
        if asked.asks > ASKS {
            self.account.doubt();
            self.asked = None;
            self.give_up();
            return Some(Wish::Rest);
        }
        (asked.sent, asked.seq, asked.again) = (eyes.now, None, Some(eyes.now + ANSWER_DEADLINE));
        self.commons.report().asked_again += 1;
        Some(Wish::Act(asked.number, asked.act.clone()))
    }

    /// An answer; `false` if it is to nothing that this settler asked.
    pub(super) fn answered(&mut self, seq: u32, outcome: &Outcome, eyes: &Eyes<'_>) -> bool {
        let Some(asked) = self.asked.take_if(|asked| asked.seq == Some(seq)) else { return false };
        let Asked { number, act, sent, .. } = &asked;
        self.commons.report().answered_in(eyes.now.saturating_duration_since(*sent));
        match outcome {
            Outcome::Refused { code, text, .. } => {
                let retry = code == codes::UNKNOWN || code == codes::UNAVAILABLE || code == codes::BUSY;
                self.commons.report().refused(act.op(), code);
                self.judge_refusal(act, code, text);
                self.rest_until = Some(eyes.now + PAUSE);
                if code == codes::UNKNOWN {
                    // It may have happened: only the same number tells.
                    self.asked = Some(Asked { seq: None, again: Some(eyes.now + 2 * PAUSE), ..asked });
                    return true;
                }
                let act = asked.act;
                self.refused(&act, code, eyes);
                if retry {
                    self.rest_until = Some(eyes.now + 3 * PAUSE);
                }
            }
            Outcome::Ok { .. } | Outcome::Made { .. } => {
                let made = if let Outcome::Made { number } = outcome { Some(*number) } else { None };
                self.commons.report().act(act.op()).done += 1;
                self.battles.asked(act, *number, eyes.now);
                let act = asked.act;
                self.done(&act, made, eyes);
            }
        }
        true
    }

    fn judge_refusal(&self, act: &Act, code: &str, text: &str) {
        if !EXPECTED.contains(&code) {
            let me = self.me;
            let kind = format!("refused_{code}");
            self.commons.report().finding(&kind, || format!("player {me}: {act:?} was refused with {code}: {text}"));
        }
    }

    /// A message that is no answer.
    pub(super) fn told(&mut self, message: &ServerMessage, now: Instant) {
        match message {
            ServerMessage::Bag { wares, health, .. } => {
                self.health = *health;
                self.account.told(wares, now);
            }
            ServerMessage::Store { object, wares } => {
                if self.stores.len() >= BUILT_KEPT {
                    self.stores.clear();
                }
                self.stores.insert(*object, wares.clone());
            }
            ServerMessage::Chat { .. } => self.commons.report().chats_heard += 1,
            ServerMessage::Note { code, number, .. } => {
                // Whatever else came or went, the bag tells.
                self.account.doubt();
                self.people.noted(code, *number);
                if code == "defeated" || code == "brought_home" {
                    self.goals.clear();
                }
                self.commons.report().noted(code);
            }
            ServerMessage::Party { party, leader, members } => self.people.party(*party, *leader, members),
            ServerMessage::Trade(state) => self.traded(state, now),
            _ => {}
        }
    }

    /// The last leg of a walk led nowhere.
    pub(super) fn blocked(&mut self) {
        self.blocked += 1;
        self.heading = None;
    }

    /// Frames were missed: battles are looked at anew.
    pub(super) fn missed(&mut self) {
        self.battles.forget();
    }

    /// It is on this island.
    pub(super) fn arrived(&mut self, island: u32) {
        self.heading = None;
        self.commons.report().islands.insert(island);
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(0..limit.max(1))
    }
}
