//! The people's own accounts: what every acknowledged act moved, and what nobody was told of.
//!
//! An act that was answered as done is sure: it must be in the documents, once. One that was refused is sure too: it must not
//! be. One whose answer was lost for good may be there or not, once. So each holder of goods has an amount between two
//! bounds, which are one wherever nothing is uncertain. Items that animals leave behind are not booked: they come of no act.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use estate::document::decode;
use estate::goods::Goods;
use estate::goods::container::BoxDocument;
use estate::goods::promise::{PromiseDocument, What};
use estate::goods::trade::{TradeDocument, TradeState};
use estate::player::{self, PlayerDocument};
use estate::store::Stored;

/// Items that come of slain animals, which nobody books.
pub const UNBOOKED: [&str; 2] = ["hide", "meat"];

/// Differences that are told, at most.
const TOLD: usize = 8;

/// Who holds goods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A player, in its bag or in what is promised to it.
    Player(u64),
    /// A box.
    Box(u64),
}

/// What an act moves: who, which item, how many more.
pub type Change = Vec<(Holder, String, i64)>;

/// All accounts. Clones are the same.
#[derive(Clone, Default)]
pub struct Books(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sure: BTreeMap<(Holder, String), i64>,
    maybe: Vec<Change>,
    /// Boxes that were built, sure or not.
    boxes: BTreeSet<u64>,
    /// Trades of which somebody was told that they are done (true) or given up.
    trades: BTreeMap<u64, bool>,
    wrong: Vec<String>,
}

impl Books {
    /// It was acknowledged.
    pub fn done(&self, change: &Change) {
        let mut state = self.lock();
        for (holder, item, more) in change {
            *state.sure.entry((*holder, item.clone())).or_default() += more;
        }
    }

    /// Nobody will ever know.
    pub fn maybe(&self, change: Change) {
        if !change.is_empty() {
            self.lock().maybe.push(change);
        }
    }

    /// A box was built, or may have been.
    pub fn built(&self, number: u64) {
        self.lock().boxes.insert(number);
    }

    /// Somebody was told how a trade ended.
    pub fn trade(&self, number: u64, done: bool) {
        let mut state = self.lock();
        if state.trades.insert(number, done).is_some_and(|told| told != done) {
            state.wrong.push(format!("trade {number} was told as done to one and as given up to the other"));
        }
    }

    /// How many acts have an end that nobody knows.
    pub fn uncertain(&self) -> usize {
        self.lock().maybe.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the accounts and the documents differ.
    pub fn differences(&self, documents: &BTreeMap<String, Stored>) -> Vec<String> {
        let state = self.lock();
        let mut found = state.wrong.clone();
        let mut expected: BTreeMap<(Holder, String), (i64, i64)> =
            state.sure.iter().map(|(key, count)| (key.clone(), (*count, *count))).collect();
        for (holder, item, more) in state.maybe.iter().flatten() {
            let (least, most) = expected.entry((*holder, item.clone())).or_default();
            (*least, *most) = (*least + more.min(&0), *most + more.max(&0));
        }
        let mut held = BTreeMap::new();
        for (key, stored) in documents {
            if let Err(e) = count(&mut held, &mut expected, &state.trades, documents, key, stored, &mut found) {
                found.push(format!("{key} cannot be read: {e}"));
            }
        }
        let keys: BTreeSet<&(Holder, String)> = held.keys().chain(expected.keys()).collect();
        let mut wrong = 0;
        for key in keys.into_iter().filter(|(_, item)| !UNBOOKED.contains(&item.as_str())) {
            let (held, (least, most)) =
                (held.get(key).copied().unwrap_or(0), expected.get(key).copied().unwrap_or((0, 0)));
            if held < least || held > most {
                wrong += 1;
                if wrong <= TOLD {
                    found.push(format!("{:?} holds {held} {}, and {least} to {most} were acknowledged", key.0, key.1));
                }
            }
        }
        if wrong > TOLD {
            found.push(format!("… and {} more accounts that differ", wrong - TOLD));
        }
        found
    }
}

type Held = BTreeMap<(Holder, String), i64>;

fn count(
    held: &mut Held,
    expected: &mut BTreeMap<(Holder, String), (i64, i64)>,
    told: &BTreeMap<u64, bool>,
    documents: &BTreeMap<String, Stored>,
    key: &str,
    stored: &Stored,
    found: &mut Vec<String>,
) -> Result<(), estate::document::DocumentError> {
    let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
    let number = rest.parse::<u64>().unwrap_or(0);
    match kind {
        "player" => {
            let (document, _) = decode::<PlayerDocument>(key, &stored.value)?;
            hold(held, Holder::Player(document.id), &document.bag);
        }
        "box" => {
            let (document, _) = decode::<BoxDocument>(key, &stored.value)?;
            hold(held, Holder::Box(number), &document.0.goods);
        }
        "promise" => {
            let kept = match documents.get(&player::key(number)) {
                Some(stored) => decode::<PlayerDocument>(key, &stored.value)?.0.kept,
                None => 0,
            };
            let (document, _) = decode::<PromiseDocument>(key, &stored.value)?;
            for promised in document.queue.iter().filter(|promised| promised.id > kept) {
                if let What::Goods(goods) = &promised.what {
                    hold(held, Holder::Player(number), goods);
                }
            }
        }
        "trade" => {
            let (document, _) = decode::<TradeDocument>(key, &stored.value)?;
            let done = document.state == TradeState::Done;
            if done {
                let [one, two] = &document.sides;
                for (from, to) in [(one, two), (two, one)] {
                    for (item, count) in items(&from.offer) {
                        for (player, more) in [(from.player, -count), (to.player, count)] {
                            let (least, most) = expected.entry((Holder::Player(player), item.clone())).or_default();
                            (*least, *most) = (*least + more, *most + more);
                        }
                    }
                }
            }
            let of =
                |number: &u64| nodes::frontend::operations::named(b"wildmesh trade", &[*number]).to_string() == rest;
            if let Some((number, told)) = told.iter().find(|(number, _)| of(number))
                && *told != done
            {
                found.push(format!(
                    "trade {number} was told as {}, and is {:?}",
                    if *told { "done" } else { "given up" },
                    document.state
                ));
            }
        }
        _ => {}
    }
    Ok(())
}

fn hold(held: &mut Held, holder: Holder, goods: &Goods) {
    for (item, count) in items(goods) {
        *held.entry((holder, item)).or_default() += count;
    }
}

fn items(goods: &Goods) -> Vec<(String, i64)> {
    let stacks = goods.stacks.iter().map(|(item, count)| (item.as_str().to_owned(), *count as i64));
    stacks.chain(goods.uniques.values().map(|unique| (unique.item.as_str().to_owned(), 1))).collect()
}
