//! A bot's own account of its goods, kept by what it did, and compared with what the frontend says it carries.
//!
//! Whatever the bot cannot know (gifts, loot, a lost session) makes it doubt; then the next bag is believed. Compared is only
//! after quiet, and a difference is asked about before it is a finding.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Eyes, Settler};
use crate::protocol::{Act, Wares};

/// Nothing was done for so long: what comes has come.
const QUIET: Duration = Duration::from_secs(2);
/// A bag that was asked for has come within this time after its answer.
const SETTLED: Duration = Duration::from_secs(2);

/// What is carried: items and how many, each unique as one of its item.
pub(super) type Counts = BTreeMap<String, u64>;

/// What the bot believes to carry, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What the bot believes; `None` while it doubts.
    own: Option<Counts>,
    told: Counts,
    uniques: Vec<(String, String)>,
    told_once: bool,
    /// When it last did or heard something that changes goods.
    changed: Option<Instant>,
    /// A difference was seen, and the bag has been asked for.
    question: Question,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    Wanted,
    Asked(Instant),
}

/// What comparing gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// Not now.
    Not,
    /// They agree.
    Same,
    /// They differ, also after the bag was asked for: own, told.
    Different(Counts, Counts),
}

impl Account {
    /// How many of an item are carried, as far as is known.
    pub(super) fn has(&self, item: &str) -> u64 {
        self.own.as_ref().unwrap_or(&self.told).get(item).copied().unwrap_or(0)
    }

    /// Everything carried that is counted, as the frontend told it.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (&String, u64)> {
        let unique = |item: &str| self.uniques.iter().any(|(_, name)| name == item);
        self.told.iter().filter(move |(item, _)| !unique(item)).map(|(item, count)| (item, *count))
    }

    /// What came to be known otherwise than by doing: the next bag is believed.
    pub(super) fn doubt(&mut self) {
        self.own = None;
        self.question = Question::None;
    }

    /// The frontend's word.
    pub(super) fn told(&mut self, wares: &Wares, now: Instant) {
        self.told = counts(wares);
        self.uniques.clone_from(&wares.uniques);
        self.told_once = true;
        self.changed = Some(now);
    }

    /// Something was done: so much more, so much less.
    pub(super) fn change(&mut self, more: &Counts, less: &Counts, now: Instant) {
        self.changed = Some(now);
        let Some(own) = &mut self.own else { return };
        for (item, count) in more {
            *own.entry(item.clone()).or_default() += count;
        }
        let mut short = false;
        for (item, count) in less {
            let held = own.entry(item.clone()).or_default();
            short |= *held < *count;
            *held = held.saturating_sub(*count);
        }
        own.retain(|_, count| *count > 0);
        // It was done although the account says that it could not be: the account is wrong, and comparing tells.
        if short {
            self.question = Question::Wanted;
        }
    }

    /// The act by which to ask for the bag, if it is wanted.
    pub(super) fn question(&mut self, now: Instant) -> Option<Act> {
        let wanted = self.question == Question::Wanted || !self.told_once && self.question == Question::None;
        if !wanted {
            return None;
        }
        self.question = Question::Asked(now);
        Some(Act::Bag {})
    }

    /// Compares, if it is quiet.
    pub(super) fn compare(&mut self, now: Instant) -> Compared {
        let quiet = self.changed.is_some_and(|at| now.saturating_duration_since(at) > QUIET);
        if !quiet || !self.told_once {
            return Compared::Not;
        }
        let Some(own) = &self.own else {
            self.own = Some(self.told.clone());
            return Compared::Not;
        };
        if *own == self.told {
            self.question = Question::None;
            self.changed = None;
            return Compared::Same;
        }
        match self.question {
            Question::None => {
                self.question = Question::Wanted;
                Compared::Not
            }
            Question::Asked(at) if now.saturating_duration_since(at) > SETTLED => {
                let different = Compared::Different(own.clone(), self.told.clone());
                self.doubt();
                different
            }
            Question::Wanted | Question::Asked(_) => Compared::Not,
        }
    }
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
    pub(super) fn check_account(&mut self, eyes: &Eyes<'_>) {
        let gifts = self.commons.gifts_to(self.me);
        match self.account.compare(eyes.now) {
            Compared::Not => {}
            Compared::Same => self.commons.report().accounts_checked += 1,
            Compared::Different(own, told) => {
                // Others may have given something of which no note came yet.
                let more = |item: &String| told.get(item).copied().unwrap_or(0) >= own.get(item).copied().unwrap_or(0);
                if gifts && own.keys().all(more) {
                    return;
                }
                let me = self.me;
                let differs: Vec<String> = own
                    .keys()
                    .chain(told.keys().filter(|item| !own.contains_key(*item)))
                    .filter(|item| own.get(*item) != told.get(*item))
                    .map(|item| format!("{item}: {:?} believed, {:?} told", own.get(item), told.get(item)))
                    .collect();
                self.commons.report().finding("account", || format!("player {me}: {}", differs.join(", ")));
            }
        }
    }
}
