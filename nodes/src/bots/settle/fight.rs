//! Battles: what a settler does in one, and whether battles are shown whole.
//!
//! A battle's view carries its last exchanges. Whoever watches must see each once, blow and reaction together, numbered
//! without gaps; and a fighter must see what came of each of its own commands.

use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::commons::Commons;
use super::{Eyes, Settler, Wish};
use crate::game::battle::Battle;
use crate::game::{kind, pose};
use crate::protocol::{Act, View};

/// Between two commands; more than the content's `blow_ms`.
const BETWEEN: Duration = Duration::from_millis(1_000);
/// An exchange must follow its command within this time, as long as the battle is seen.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// A battle that cannot be seen so long after it was begun is not waited for.
const UNSEEN: Duration = Duration::from_secs(6);
/// Below this health a fighter flees, in percent.
const FLEES_BELOW: u8 = 30;
/// Battles whose last exchange is remembered.
const BATTLES_KEPT: usize = 64;
/// The highest number that names a blow, and a reaction.
const NAMED: (u8, u8) = (3, 6);

/// What is remembered of battles.
#[derive(Debug, Default)]
pub(super) struct Battles {
    /// The last exchange seen, by battle.
    seen: FxHashMap<u64, u64>,
    /// The battle that was begun or joined, and when.
    begun: Option<(u64, Instant)>,
    last: Option<Instant>,
    /// Commands that were taken, and whose exchange has not been seen.
    owed: Vec<(u64, Instant)>,
}

impl Battles {
    /// Everything is shown anew.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
        self.owed.clear();
    }

    pub(super) fn begun(&mut self, battle: Option<u64>, now: Instant) {
        self.begun = battle.map(|battle| (battle, now));
    }

    pub(super) fn over(&mut self, now: Instant) {
        self.begun = None;
        self.last = Some(now);
        self.owed.clear();
    }

    /// A command of a battle was taken.
    pub(super) fn asked(&mut self, act: &Act, number: u64, now: Instant) {
        if matches!(act, Act::Blow { .. } | Act::Flee {}) {
            self.owed.push((number, now));
        }
    }

    /// Commands whose exchange does not come although their battle goes on before our eyes.
    pub(super) fn overdue(&mut self, eyes: &Eyes<'_>, commons: &Commons) {
        let fights = |battle: u64| eyes.one(battle).is_some();
        if self.begun.is_none_or(|(battle, _)| !fights(battle)) {
            self.owed.clear();
            return;
        }
        self.owed.retain(|(number, at)| {
            let late = eyes.now.saturating_duration_since(*at) > EXCHANGE_DEADLINE;
            if late {
                commons.report().finding("exchange_missing", || format!("no exchange came of command {number}"));
            }
            !late
        });
    }

    /// A battle is shown: its exchanges are counted and checked.
    fn shown(&mut self, battle: u64, view: &View, commons: &Commons) {
        let Some(told) = Battle::of(&view.detail) else {
            commons.report().finding("battle_view", || format!("battle {battle} is shown as {:?}", view.detail));
            return;
        };
        if self.seen.len() >= BATTLES_KEPT {
            self.seen.clear();
        }
        let mut report = commons.report();
        let numbers: Vec<u64> = told.exchanges.iter().map(|exchange| exchange.number).collect();
        let rising = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let ends = numbers.last().copied().unwrap_or(0) == view.tie || numbers.is_empty();
        if !rising || !ends {
            let tie = view.tie;
            report.finding("exchange_numbers", || format!("battle {battle} shows {numbers:?}, the last is {tie}"));
        }
        let last = self.seen.get(&battle).copied();
        if let (Some(last), Some(first)) = (last, numbers.first())
            && *first > last + 1
        {
            report.finding("exchange_gap", || format!("battle {battle}: after {last} comes {first}"));
        }
        for exchange in told.exchanges.iter().filter(|exchange| last.is_none_or(|last| exchange.number > last)) {
            report.exchanges_seen += 1;
            if exchange.blow > NAMED.0 || exchange.reaction > NAMED.1 {
                report.finding("exchange_half", || format!("battle {battle}: {exchange:?}"));
            }
            let owed = self.owed.len();
            self.owed.retain(|(number, _)| *number != exchange.cause);
            report.own_exchanges += (owed - self.owed.len()) as u64;
        }
        let newest = numbers.last().copied().unwrap_or(0).max(last.unwrap_or(0));
        self.seen.insert(battle, newest);
    }
}

impl Settler {
    /// Something of kind battle has been shown.
    pub(in crate::bots) fn saw_battle(&mut self, battle: u64, view: &View) {
        let commons = self.commons.clone();
        self.battles.shown(battle, view, &commons);
    }

    /// The battle in which the bot is, as far as it sees.
    pub(super) fn battle(&mut self, eyes: &Eyes<'_>) -> Option<u64> {
        let own = eyes.one(self.me);
        if let Some(seen) = own.filter(|seen| seen.view.kind == kind::PLAYER && seen.view.pose == pose::FIGHTS) {
            let battle = seen.view.tie;
            self.account.fights(eyes.now);
            if self.battles.begun.is_none_or(|(known, _)| known != battle) {
                // Somebody has attacked us.
                self.battles.begun = Some((battle, eyes.now));
                self.commons.report().battles += 1;
            }
            return Some(battle);
        }
        let (battle, since) = self.battles.begun?;
        let listed = eyes.one(battle).is_some_and(|seen| fights(seen.view, self.me));
        if listed || eyes.now.saturating_duration_since(since) < UNSEEN && own.is_none() {
            return Some(battle);
        }
        self.battles.over(eyes.now);
        None
    }

    /// What to do in the battle now.
    pub(super) fn fight(&mut self, eyes: &Eyes<'_>, battle: u64) -> Wish {
        let pausing = self.battles.last.is_some_and(|at| eyes.now.saturating_duration_since(at) < BETWEEN);
        let Some(seen) = eyes.one(battle).filter(|_| !pausing) else { return Wish::Rest };
        let Some(told) = Battle::of(&seen.view.detail) else { return Wish::Rest };
        let own = told.members.iter().find(|(id, ..)| *id == self.me);
        let Some((_, side, health)) = own.copied() else { return Wish::Rest };
        let weakest = told.members.iter().filter(|(_, other, health)| *other != side && *health > 0);
        let Some((target, ..)) = weakest.min_by_key(|(id, _, health)| (*health, *id)).copied() else {
            return Wish::Rest;
        };
        if health == 0 {
            return Wish::Rest;
        }
        self.battles.last = Some(eyes.now);
        self.health = health;
        let act = match self.below(20) {
            _ if health < FLEES_BELOW => Act::Flee {},
            0 => Act::Flee {},
            1..=3 => Act::Blow { blow: 1, target: self.me },
            4..=8 => Act::Blow { blow: 2, target },
            _ => Act::Blow { blow: 0, target },
        };
        self.ask(eyes, act)
    }
}

fn fights(view: &View, me: u64) -> bool {
    Battle::of(&view.detail).is_some_and(|battle| battle.members.iter().any(|(id, ..)| *id == me))
}
