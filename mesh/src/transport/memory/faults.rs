//! What may befall messages in memory, by direction, and the dice that decide it.
//!
//! Each direction has dice of its own, so that traffic elsewhere never changes what happens on it.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::FxHasher;
use tokio::time::Duration;

/// The name of a node.
pub(super) type Name = Arc<str>;

/// What befalls messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// How long each takes, at least, in milliseconds.
    pub delay_ms: u32,
    /// How much longer it may take, in milliseconds. Messages of one connection stay in order.
    pub jitter_ms: u32,
    /// How many of a thousand vanish without a sign. (Subscriptions do not: a real connection would send them again.)
    pub loss_per_mille: u16,
    /// Nothing gets through. Links notice after some seconds, if it lasts, and connect again when it is over.
    pub cut: bool,
}

impl Fault {
    /// No fault.
    pub const NONE: Fault = Fault { delay_ms: 0, jitter_ms: 0, loss_per_mille: 0, cut: false };

    /// Nothing gets through.
    pub const CUT: Fault = Fault { cut: true, ..Fault::NONE };

    /// Messages take so long.
    pub const fn delay(delay_ms: u32, jitter_ms: u32) -> Fault {
        Fault { delay_ms, jitter_ms, ..Fault::NONE }
    }
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives after this time.
    Arrives(Duration),
    /// It vanishes.
    Vanishes,
    /// It meets a cut.
    Cut,
}

/// All faults of a network.
#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    default: Fault,
    pairs: BTreeMap<(Name, Name), Fault>,
    dice: BTreeMap<(Name, Name), StdRng>,
    /// True while nothing is set at all: the way that must be fast.
    calm: bool,
}

impl Faults {
    /// None.
    pub(super) fn new(seed: u64) -> Faults {
        Faults { seed, default: Fault::NONE, pairs: BTreeMap::new(), dice: BTreeMap::new(), calm: true }
    }

    /// Sets a direction's fault; `None` makes it as the others.
    pub(super) fn set(&mut self, from: &str, to: &str, fault: Option<Fault>) {
        let pair = (from.into(), to.into());
        match fault {
            Some(fault) => self.pairs.insert(pair, fault),
            None => self.pairs.remove(&pair),
        };
        self.calm = self.default == Fault::NONE && self.pairs.is_empty();
    }

    /// Sets the fault of all directions that have none of their own.
    pub(super) fn set_default(&mut self, fault: Fault) {
        self.default = fault;
        self.calm = fault == Fault::NONE && self.pairs.is_empty();
    }

    /// Takes all away. The dice go on from where they are.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.set_default(Fault::NONE);
    }

    /// True if nothing gets from one to the other.
    pub(super) fn cut(&self, from: &Name, to: &Name) -> bool {
        !self.calm && self.of(from, to).cut
    }

    /// Decides about one message. Only `loseable` ones vanish by chance.
    pub(super) fn fate(&mut self, from: &Name, to: &Name, loseable: bool) -> Fate {
        if self.calm {
            return Fate::Arrives(Duration::ZERO);
        }
        let fault = self.of(from, to);
        if fault.cut {
            return Fate::Cut;
        }
        if fault.loss_per_mille > 0 && loseable && self.dice(from, to).random_range(0..1000) < fault.loss_per_mille {
            return Fate::Vanishes;
        }
        let jitter_ms = if fault.jitter_ms > 0 { self.dice(from, to).random_range(0..=fault.jitter_ms) } else { 0 };
        Fate::Arrives(Duration::from_millis(u64::from(fault.delay_ms) + u64::from(jitter_ms)))
    }

    fn of(&self, from: &Name, to: &Name) -> Fault {
        self.pairs.get(&(from.clone(), to.clone())).copied().unwrap_or(self.default)
    }

    fn dice(&mut self, from: &Name, to: &Name) -> &mut StdRng {
        let seed = self.seed;
        self.dice.entry((from.clone(), to.clone())).or_insert_with(|| {
            let mut hasher = FxHasher::default();
            (seed, from, to).hash(&mut hasher);
            StdRng::seed_from_u64(hasher.finish())
        })
    }
}
