//! A bot's own account of its goods, kept by what it did, and compared with what the frontend says it carries.
//!
//! The account outlives connections: an act whose answer was lost is asked for again, and booked when it is answered. What the
//! bot cannot know it keeps as a *maybe* (it happened as a whole or not at all), what others may have left for it is bounded by
//! what they say they gave, and loot may come for a while after a battle. Within these bounds the bag must agree to the piece:
//! less than the account allows is *lost*, more is *doubled*. Compared is only after quiet, and a difference is asked about
//! before it is a finding. Everything here is bounded; it NEVER believes a bag without saying so ([`Account::doubts`]).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{ANSWER_DEADLINE, Eyes, Settler};
use crate::protocol::{Act, Wares};

/// Nothing was done for so long: what comes has come.
const QUIET: Duration = Duration::from_secs(2);
/// After the bag that was asked for, so long is waited for another one.
const SETTLED: Duration = Duration::from_secs(2);
/// Things that may have happened, at most: all combinations are tried. With more the account is given up and begun anew.
const MAYBES: usize = 6;
/// What has not shown in the bag for so long did not happen.
const MAYBE_FOR: Duration = Duration::from_secs(90);
/// Loot may come so long after the last sign of a battle: the colosseum may have died meanwhile.
const LOOT_FOR: Duration = Duration::from_secs(180);

/// What is carried: items and how many, each unique as one of its item.
pub(super) type Counts = BTreeMap<String, u64>;

/// What an act changes in the bag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) more: Counts,
    pub(super) less: Counts,
}

impl Effect {
    pub(super) fn is_nothing(&self) -> bool {
        self.more.is_empty() && self.less.is_empty()
    }
}

/// What the bot believes to carry, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What the bot believes; `None` while it doubts. Below zero is what the frontend must have given without saying so.
    own: Option<BTreeMap<String, i64>>,
    told: Counts,
    uniques: Vec<(String, String)>,
    told_once: bool,
    /// When it last did or heard something that changes goods.
    changed: Option<Instant>,
    /// A difference was seen, and the bag has been asked for.
    question: Question,
    /// What may have happened, and since when that is so.
    maybes: Vec<(Effect, Instant)>,
    /// When there was last a sign of a battle.
    fought: Option<Instant>,
    /// What came of what others gave.
    received: Counts,
    /// How often the bag had to be believed.
    doubts: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    Wanted,
    Asked,
    /// The bag has not come yet since then.
    Answered(Instant),
    /// The bag has come, then.
    Told(Instant),
}

/// What comparing gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// Not now.
    Not,
    /// They agree.
    Same,
    /// They differ, also after the bag was asked for: what is missing, and what is too much.
    Different(Counts, Counts),
    /// They differ, and the bag that was asked for does not come: what was told last is believed, and the bag asked for again.
    Untold,
}

/// What may make a bag larger than its account.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    /// What others may have given, ever.
    pub(super) gifts: &'a Counts,
    /// Whether an item is one that battles yield.
    pub(super) loot: &'a dyn Fn(&str) -> bool,
}

impl Account {
    /// How many of an item are carried, as far as is known.
    pub(super) fn has(&self, item: &str) -> u64 {
        let told = self.told.get(item).copied().unwrap_or(0);
        let own = self.own.as_ref().map(|own| own.get(item).copied().unwrap_or(0));
        own.map_or(told, |own| u64::try_from(own).unwrap_or(0))
    }

    /// Everything carried that is counted, as the frontend told it.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (&String, u64)> {
        let unique = |item: &str| self.uniques.iter().any(|(_, name)| name == item);
        self.told.iter().filter(move |(item, _)| !unique(item)).map(|(item, count)| (item, *count))
    }

    /// Something unaccountable happened: the next bag is believed.
    pub(super) fn doubt(&mut self) {
        self.doubts += u64::from(self.own.take().is_some());
        self.maybes.clear();
        self.question = Question::None;
    }

    /// How often the bag had to be believed.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts
    }

    /// A sign of a battle: loot may come.
    pub(super) fn fights(&mut self, now: Instant) {
        self.fought = Some(now);
    }

    /// What came of what others gave.
    pub(super) fn received(&self) -> &Counts {
        &self.received
    }

    /// The frontend's word.
    pub(super) fn told(&mut self, wares: &Wares, now: Instant) {
        self.told = counts(wares);
        self.uniques.clone_from(&wares.uniques);
        self.told_once = true;
        self.changed = Some(now);
        if matches!(self.question, Question::Answered(_) | Question::Told(_)) {
            self.question = Question::Told(now);
        }
    }

    /// Something was done.
    pub(super) fn change(&mut self, effect: &Effect, now: Instant) {
        if effect.is_nothing() {
            return;
        }
        self.changed = Some(now);
        if let Some(own) = &mut self.own {
            apply(own, effect);
        }
    }

    /// Something may have been done.
    pub(super) fn maybe(&mut self, effect: Effect, now: Instant) {
        if effect.is_nothing() || self.own.is_none() {
            return;
        }
        if self.maybes.len() >= MAYBES {
            return self.doubt();
        }
        self.changed = Some(now);
        self.maybes.push((effect, now));
    }

    /// Whether it was done is known now: it is no maybe any more. `false` if it was none.
    pub(super) fn settle_maybe(&mut self, effect: &Effect) -> bool {
        let at = self.maybes.iter().position(|(maybe, _)| maybe == effect);
        at.map(|at| self.maybes.remove(at)).is_some()
    }

    /// The act by which to ask for the bag, if it is wanted.
    pub(super) fn question(&mut self) -> Option<Act> {
        let wanted = self.question == Question::Wanted || !self.told_once && self.question == Question::None;
        if !wanted {
            return None;
        }
        self.question = Question::Asked;
        Some(Act::Bag {})
    }

    /// The bag is wanted whatever was told before.
    pub(super) fn inquire(&mut self) {
        self.question = Question::Wanted;
    }

    /// The question was answered: the bag is to come.
    pub(super) fn answered(&mut self, now: Instant) {
        if self.question == Question::Asked {
            self.question = Question::Answered(now);
        }
    }

    /// The question was surely not answered.
    pub(super) fn not_answered(&mut self) {
        if self.question == Question::Asked {
            self.question = Question::Wanted;
        }
    }

    /// Compares, if it is quiet.
    pub(super) fn compare(&mut self, sources: &Sources<'_>, now: Instant) -> Compared {
        let quiet = self.changed.is_some_and(|at| now.saturating_duration_since(at) > QUIET);
        if !quiet || !self.told_once {
            return Compared::Not;
        }
        let believed = || self.told.iter().map(|(item, count)| (item.clone(), signed(*count))).collect();
        let Some(own) = &self.own else {
            self.own = Some(believed());
            // What was given until now may be in it.
            self.received.clone_from(sources.gifts);
            // What differs from now on is a new question.
            if matches!(self.question, Question::Told(_)) {
                self.question = Question::None;
            }
            return Compared::Not;
        };
        let loot = self.fought.is_some_and(|at| now.saturating_duration_since(at) < LOOT_FOR);
        let explained = (0..1_u32 << self.maybes.len()).find_map(|mask| {
            let mut happened = own.clone();
            self.chosen(mask).for_each(|(effect, _)| apply(&mut happened, effect));
            Some((mask, self.explain(&happened, sources, loot)?))
        });
        if let Some((mask, gifts)) = explained {
            for (item, count) in gifts {
                *self.received.entry(item).or_default() += count;
            }
            self.own = Some(believed());
            let mut index = 0;
            self.maybes.retain(|(_, since)| {
                let happened = mask >> index & 1 == 1;
                index += 1;
                !happened && now.saturating_duration_since(*since) < MAYBE_FOR
            });
            if !matches!(self.question, Question::Asked | Question::Answered(_)) {
                self.question = Question::None;
            }
            self.changed = None;
            return Compared::Same;
        }
        match self.question {
            Question::None => {
                self.question = Question::Wanted;
                Compared::Not
            }
            Question::Told(at) if now.saturating_duration_since(at) > SETTLED => {
                let different = difference(own, &self.told);
                self.own = Some(believed());
                self.maybes.clear();
                self.question = Question::None;
                different
            }
            Question::Answered(at) if now.saturating_duration_since(at) > ANSWER_DEADLINE => {
                self.doubt();
                self.question = Question::Wanted;
                Compared::Untold
            }
            _ => Compared::Not,
        }
    }

    fn chosen(&self, mask: u32) -> impl Iterator<Item = &(Effect, Instant)> {
        self.maybes.iter().enumerate().filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, maybe)| maybe)
    }

    /// What of the gifts explains that more was told than is believed; `None` if nothing explains it.
    fn explain(&self, own: &BTreeMap<String, i64>, sources: &Sources<'_>, loot: bool) -> Option<Counts> {
        let mut came = Counts::new();
        for item in own.keys().chain(self.told.keys()) {
            let more = signed(self.told.get(item).copied().unwrap_or(0)) - own.get(item).copied().unwrap_or(0);
            let Ok(more) = u64::try_from(more) else { return None };
            let given = sources.gifts.get(item).copied().unwrap_or(0);
            let due = given.saturating_sub(self.received.get(item).copied().unwrap_or(0));
            if more > due && !(loot && (sources.loot)(item)) {
                return None;
            }
            if more.min(due) > 0 {
                came.insert(item.clone(), more.min(due));
            }
        }
        Some(came)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn apply(own: &mut BTreeMap<String, i64>, effect: &Effect) {
    for (item, count) in &effect.more {
        *own.entry(item.clone()).or_default() += signed(*count);
    }
    for (item, count) in &effect.less {
        *own.entry(item.clone()).or_default() -= signed(*count);
    }
    own.retain(|_, count| *count != 0);
}

fn difference(own: &BTreeMap<String, i64>, told: &Counts) -> Compared {
    let (mut missing, mut more) = (Counts::new(), Counts::new());
    for item in own.keys().chain(told.keys()) {
        let by = signed(told.get(item).copied().unwrap_or(0)) - own.get(item).copied().unwrap_or(0);
        match u64::try_from(by) {
            Ok(0) => {}
            Ok(by) => drop(more.insert(item.clone(), by)),
            Err(_) => drop(missing.insert(item.clone(), by.unsigned_abs())),
        }
    }
    Compared::Different(missing, more)
}

/// Goods by item.
pub(super) fn counts(wares: &Wares) -> Counts {
    let mut counts = Counts::new();
    for (item, count) in &wares.stacks {
        *counts.entry(item.clone()).or_default() += count;
    }
    for (_, item) in &wares.uniques {
        *counts.entry(item.clone()).or_default() += 1;
    }
    counts
}

impl Settler {
    /// Compares the account with the bag; true if they agree just now.
    pub(super) fn check_account(&mut self, eyes: &Eyes<'_>) -> bool {
        let gifts = self.commons.given_to(self.me);
        let content = self.commons.content.clone();
        let loot = |item: &str| content.species.values().any(|species| species.loot.contains_key(item));
        let sources = Sources { gifts: &gifts.asked, loot: &loot };
        match self.account.compare(&sources, eyes.now) {
            Compared::Not => false,
            Compared::Same => {
                self.commons.report().accounts_checked += 1;
                true
            }
            Compared::Untold => {
                let me = self.me;
                self.commons
                    .report()
                    .finding("bag_untold", || format!("player {me} asked for its bag and was not told it"));
                false
            }
            Compared::Different(missing, more) => {
                let me = self.me;
                let last = format!("{:?}", self.recent);
                // What is too much has come at least: it is not missed as a gift, too.
                for (item, count) in &more {
                    *self.account.received.entry(item.clone()).or_default() += count;
                }
                let mut report = self.commons.report();
                if !missing.is_empty() {
                    report.lost += 1;
                    report.finding("lost", || format!("player {me} misses {missing:?} in its bag; last acts {last}"));
                }
                if !more.is_empty() {
                    report.doubled += 1;
                    report.finding("doubled", || {
                        format!("player {me} has {more:?} too much in its bag; last acts {last}")
                    });
                }
                false
            }
        }
    }
}
