//! What goes wrong between one client and the store in memory, planned call by call or drawn from a seed.
//!
//! A plan names calls by their number; rates draw from a seeded generator, so that a seed repeats a run exactly. It
//! NEVER draws unless rates are set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything happens, and says so.
    Refuse,
    /// The request is lost: nothing happens, and the caller cannot know.
    LoseRequest,
    /// It is applied, the reply is lost: the caller cannot know.
    LoseReply,
    /// The caller is told that it may have happened; it happens (or is refused) only after this time.
    Late(Duration),
    /// The caller stops for ever before the call.
    StopBefore,
    /// The caller stops for ever after the call.
    StopAfter,
    /// Somebody touches the document just before a write: same value, new version.
    Storm,
}

/// How often calls go wrong, in calls of 1,000, and how long they take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// [`Fault::Refuse`].
    pub refuse: u16,
    /// [`Fault::LoseRequest`].
    pub lose_request: u16,
    /// [`Fault::LoseReply`].
    pub lose_reply: u16,
    /// [`Fault::Late`], by up to [`Rates::late_by`].
    pub late: u16,
    /// The longest that a late write is late.
    pub late_by: Duration,
    /// [`Fault::Storm`].
    pub storm: u16,
    /// The longest way to the store, and the longest way back.
    pub delay: Duration,
    /// How long a caller waits before it takes a reply for lost.
    pub deadline: Duration,
}

/// The handle to one client's faults. Clones steer the same client.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    unreachable: bool,
    calls: u64,
    plan: BTreeMap<u64, Fault>,
    rates: Option<Rates>,
    random: u64,
}

/// What becomes of one call.
pub(super) struct Call {
    pub(super) reachable: bool,
    pub(super) fault: Option<Fault>,
    pub(super) before: Duration,
    pub(super) after: Duration,
    pub(super) deadline: Duration,
}

impl Faults {
    /// Cuts the client off, or lets it back. A write under way when it is cut off may or may not happen.
    pub fn unreachable(&self, yes: bool) {
        self.lock().unreachable = yes;
    }

    /// Plans a fault: `call` counts this client's calls from 0, reads and writes alike, from now on.
    pub fn at(&self, call: u64, fault: Fault) {
        let mut state = self.lock();
        let number = state.calls + call;
        state.plan.insert(number, fault);
    }

    /// Draws faults and delays from a seed from now on; a planned fault comes first.
    pub fn random(&self, seed: u64, rates: Rates) {
        let mut state = self.lock();
        state.random = seed;
        state.rates = Some(rates);
    }

    /// Ends all faults, planned and drawn.
    pub fn clear(&self) {
        let mut state = self.lock();
        *state = State { calls: state.calls, ..State::default() };
    }

    /// How many calls the client has made.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub(super) fn reachable(&self) -> bool {
        !self.lock().unreachable
    }

    pub(super) fn begin(&self) -> Call {
        let mut state = self.lock();
        let number = state.calls;
        state.calls += 1;
        let planned = state.plan.remove(&number);
        let mut call = Call {
            reachable: !state.unreachable,
            fault: planned,
            before: Duration::ZERO,
            after: Duration::ZERO,
            deadline: Duration::ZERO,
        };
        if let Some(rates) = state.rates {
            let drawn = state.draw_fault(&rates);
            call.fault = planned.or(drawn);
            call.before = state.draw_time(rates.delay);
            call.after = state.draw_time(rates.delay);
            call.deadline = rates.deadline;
        }
        call
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw_fault(&mut self, rates: &Rates) -> Option<Fault> {
        let late = Fault::Late(self.draw_time(rates.late_by));
        let mut point = self.draw() % 1_000;
        let faults = [
            (rates.refuse, Fault::Refuse),
            (rates.lose_request, Fault::LoseRequest),
            (rates.lose_reply, Fault::LoseReply),
            (rates.late, late),
            (rates.storm, Fault::Storm),
        ];
        for (rate, fault) in faults {
            if point < u64::from(rate) {
                return Some(fault);
            }
            point -= u64::from(rate);
        }
        None
    }

    fn draw_time(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.draw() % (micros + 1))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to choose faults.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
