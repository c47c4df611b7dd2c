//! What goes wrong between one client and the in-process directory, on purpose and repeatably.
//!
//! Faults belong to one client, so that one node can be cut off while the others go on. They are decided here and
//! carried out by the client; this module NEVER touches what the directory knows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// How a client is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The directory's host says no: calls fail at once, watches end at once. As when etcd is being restarted.
    Refused,
    /// Nothing comes through and nobody says so: calls run into their deadline; watches go quiet, and end after
    /// [`SILENCE`](super::SILENCE), unless the cut is healed before. As when a cable is pulled.
    Silent,
}

/// The calls that a loss is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `get`, `list`, `watch` and `describe`.
    Reads,
    /// `put`, `swap`, `delete` and `change`.
    Writes,
    /// `grant`, `keep_alive` and `revoke`.
    Leases,
}

/// What gets lost of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The request: nothing happened.
    Request,
    /// The reply: it happened.
    Reply,
}

/// The faults of one client.
#[derive(Debug)]
pub(super) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cut: Option<(Cut, Instant)>,
    lose_next: [[u32; 2]; 3],
    lose_permille: [u16; 2],
    delay_ms: (u64, u64),
    reply_delay: Duration,
    chance: StdRng,
}

/// What is to become of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) loss: Option<Loss>,
    pub(super) delay_there: Duration,
    pub(super) delay_back: Duration,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Faults {
        let chance = StdRng::seed_from_u64(seed);
        let state = State {
            cut: None,
            lose_next: [[0; 2]; 3],
            lose_permille: [0; 2],
            delay_ms: (0, 0),
            reply_delay: Duration::ZERO,
            chance,
        };
        Faults { state: Mutex::new(state) }
    }

    pub(super) fn set_cut(&self, cut: Option<Cut>) {
        self.state().cut = cut.map(|cut| (cut, Instant::now()));
    }

    pub(super) fn cut(&self) -> Option<Cut> {
        self.state().cut.map(|(cut, _)| cut)
    }

    /// Since when the client has been cut off.
    pub(super) fn cut_since(&self) -> Option<Instant> {
        self.state().cut.map(|(_, since)| since)
    }

    pub(super) fn lose_next(&self, calls: Calls, loss: Loss, count: u32) {
        self.state().lose_next[calls as usize][loss as usize] = count;
    }

    pub(super) fn set_loss(&self, requests_permille: u16, replies_permille: u16) {
        self.state().lose_permille = [requests_permille, replies_permille];
    }

    pub(super) fn set_delay(&self, least_ms: u64, most_ms: u64) {
        self.state().delay_ms = (least_ms.min(most_ms), most_ms);
    }

    pub(super) fn set_reply_delay(&self, delay_ms: u64) {
        self.state().reply_delay = Duration::from_millis(delay_ms);
    }

    pub(super) fn draw_delay(&self) -> Duration {
        self.state().delay()
    }

    pub(super) fn draw(&self, calls: Calls) -> Fate {
        let mut state = self.state();
        let mut loss = None;
        for kind in [Loss::Request, Loss::Reply] {
            let planned = state.lose_next[calls as usize][kind as usize];
            let permille = state.lose_permille[kind as usize];
            let by_chance = permille > 0 && state.chance.random_range(0..1000) < permille;
            if loss.is_none() && (planned > 0 || by_chance) {
                state.lose_next[calls as usize][kind as usize] = planned.saturating_sub(1);
                loss = Some(kind);
            }
        }
        Fate { loss, delay_there: state.delay(), delay_back: state.delay() + state.reply_delay }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn delay(&mut self) -> Duration {
        let (least, most) = self.delay_ms;
        // No draw without a delay, so that turning delays on for one client changes nothing for a run without them.
        if most == 0 { Duration::ZERO } else { Duration::from_millis(self.chance.random_range(least..=most)) }
    }
}
