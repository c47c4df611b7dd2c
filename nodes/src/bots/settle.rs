//! Bots that settle: players that live the whole game by what they see, through the client protocol only.
//!
//! A [`Settler`] has a stack of goals and asks for one act at a time, each under its operation number; after a lost
//! connection it asks again under the same number, on whatever frontend, until it is answered or refused as too old. It checks
//! while it plays: that answers come, that refusals are such as may happen to an honest player, that its own account of its
//! goods and works is what the frontend and the gateway say, and that battles are shown whole. It is a value: sockets, clocks
//! and requests are its bot's. It NEVER knows more than a player could.

pub mod report;

pub(super) mod commons;

mod account;
mod closing;
mod eyes;
mod fight;
mod goals;
mod mind;
mod people;
pub(super) mod works;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::protocol::{Act, Outcome, ServerMessage, Wares, codes};
use account::{Account, Effect};
use commons::Commons;
pub(super) use eyes::Eyes;
use fight::Battles;
use goals::{Goal, What};
use people::People;
use works::Works;

/// An answer that has not come after so long is a finding, and the act is asked again under its number.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// An act is asked again under its number for so long: longer than any frontend takes it, so that it ends with an answer.
const ASKED_FOR: Duration = Duration::from_secs(6 * 60);
/// Acts that are remembered for the words of a finding.
const RECENT: usize = 8;
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
    codes::FENCED,
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

/// Refusals that say nothing about an act which may have happened before.
const SAYS_NOTHING: &[&str] = &[codes::UNKNOWN, codes::UNAVAILABLE, codes::BUSY, codes::DRAINING, codes::FENCED];

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
    /// What it changes in the bag; `None` if that cannot be known.
    effect: Option<Effect>,
    /// On which island, and on which chunk of it.
    place: commons::ChunkKey,
    begun: Instant,
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
    /// The number with which this life of the session begins: what is below was asked for in an earlier one.
    life: u64,
    works: Works,
    /// Its last acts, and what came of them.
    recent: VecDeque<(u64, &'static str, String)>,
    /// It finishes what it has begun, and compares its accounts.
    closing: Option<closing::Closing>,
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
            life: 0,
            works: Works::default(),
            recent: VecDeque::new(),
            closing: None,
        }
    }

    /// A welcome: what was not answered is asked again under its number; what is carried will be told.
    pub(super) fn welcomed(&mut self, me: u64, island: u32, first_operation: u64) {
        self.me = me;
        self.life = first_operation;
        self.next_number = self.next_number.max(first_operation);
        self.account.not_answered();
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
        let agrees = self.check_account(eyes);
        self.battles.overdue(eyes, &self.commons);
        if let Some(act) = self.account.question() {
            return self.ask(eyes, act);
        }
        if self.closing.is_some() {
            return self.close_turn(eyes, agrees);
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
        let effect = self.effect(&act, eyes);
        if let Act::Gift { player, wares } = &act {
            self.commons.gives(*player, &account::counts(wares));
        }
        let (now, (x, y)) = (eyes.now, eyes.chunk());
        let place = (eyes.island, x, y);
        let asked =
            Asked { seq: None, number, act: act.clone(), effect, place, begun: now, sent: now, asks: 1, again: None };
        self.asked = Some(asked);
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
        if eyes.now.saturating_duration_since(asked.begun) > ASKED_FOR {
            let (me, op, number) = (self.me, asked.act.op(), asked.number);
            self.commons
                .report()
                .finding("never_answered", || format!("player {me}: {op} {number} was never answered"));
            let asked = self.asked.take()?;
            self.unresolved(&asked, "never answered", eyes);
            self.give_up();
            return Some(Wish::Rest);
        }
        (asked.sent, asked.seq, asked.again) = (eyes.now, None, Some(eyes.now + ANSWER_DEADLINE));
        self.commons.report().asked_again += 1;
        Some(Wish::Act(asked.number, asked.act.clone()))
    }

    /// What was asked under this `seq`, and since when it is wanted.
    pub(super) fn under_way(&self, seq: u32) -> Option<(&'static str, Instant)> {
        let asked = self.asked.as_ref().filter(|asked| asked.seq == Some(seq))?;
        Some((asked.act.op(), asked.begun))
    }

    /// An answer; `false` if it is to nothing that this settler asked.
    pub(super) fn answered(&mut self, seq: u32, outcome: &Outcome, eyes: &Eyes<'_>) -> bool {
        let Some(asked) = self.asked.take_if(|asked| asked.seq == Some(seq)) else { return false };
        self.commons.report().answered_in(eyes.now.saturating_duration_since(asked.sent));
        match outcome {
            Outcome::Refused { code, text, .. } => self.was_refused(asked, code, text, eyes),
            Outcome::Ok { .. } | Outcome::Made { .. } => {
                let made = if let Outcome::Made { number } = outcome { Some(*number) } else { None };
                self.remember(&asked, "done");
                let mut report = self.commons.report();
                report.act(asked.act.op()).done += 1;
                report.acknowledged += 1;
                report.acknowledged_again += u64::from(asked.asks > 1);
                drop(report);
                self.battles.asked(&asked.act, asked.number, eyes.now);
                self.done(&asked, made, eyes);
            }
        }
        true
    }

    fn was_refused(&mut self, asked: Asked, code: &str, text: &str, eyes: &Eyes<'_>) {
        self.remember(&asked, code);
        self.commons.report().refused(asked.act.op(), code);
        self.rest_until = Some(eyes.now + PAUSE);
        // It may have happened: only the same number tells.
        let unsure = code == codes::UNKNOWN || asked.asks > 1 && SAYS_NOTHING.contains(&code);
        if unsure {
            let again = Some(eyes.now + 2 * PAUSE);
            self.asked = Some(Asked { seq: None, again, ..asked });
            return;
        }
        let stale = code == codes::STALE && asked.asks > 1;
        if stale {
            self.unresolved(&asked, code, eyes);
            return self.give_up();
        }
        self.judge_refusal(&asked.act, code, text);
        self.account.not_answered();
        if asked.number < self.life {
            // In an earlier life it may have happened, whatever stands against it now.
            self.commons.report().refused_again += 1;
            self.unresolved(&asked, code, eyes);
        } else if let Act::Gift { player, wares } = &asked.act {
            self.commons.gives_not(*player, &account::counts(wares));
        } else if let Act::Consent { .. } = &asked.act {
            self.disagrees();
        }
        self.refused(&asked.act, code, eyes);
        if SAYS_NOTHING.contains(&code) {
            self.rest_until = Some(eyes.now + 3 * PAUSE);
        }
    }

    /// Nobody can tell any more whether an act happened: the bag will.
    fn unresolved(&mut self, asked: &Asked, why: &str, eyes: &Eyes<'_>) {
        self.commons.report().unresolved(why);
        self.account.not_answered();
        match asked.effect.clone() {
            Some(effect) => self.account.maybe(effect, eyes.now),
            None => self.account.doubt(),
        }
        self.works.unsure(&asked.act, asked.place);
    }

    fn remember(&mut self, asked: &Asked, what: &str) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        let asks = if asked.asks > 1 { format!(" asked {} times", asked.asks) } else { String::new() };
        self.recent.push_back((asked.number, asked.act.op(), format!("{what}{asks}")));
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
            ServerMessage::Note { code, text, number } => {
                match code.as_str() {
                    // From bots: they say so themselves.
                    "gift" if text.contains(" from player ") => {}
                    "loot" | "defeated" => self.account.fights(now),
                    "invite" | "trade" | "experience" | "word" | "island_sinks" => {}
                    // Whatever else came or went, the bag tells.
                    _ => self.account.doubt(),
                }
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
