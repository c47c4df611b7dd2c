//! What all bots of a run share: the configuration, the truth, decoded frames and the tally.
//!
//! All bots run on one thread, so that these locks are NEVER contended but by the report once a second; none is held
//! across an await.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::frames::FrameCache;
use super::registry::Registry;
use super::report::{BotsReport, Tally};
use super::settle::commons::Commons;
use super::{Behaviour, BotsConfig, Layout};
use crate::client::{Gateway, rest::Island};

/// What all bots of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: BotsConfig,
    pub(super) gateway: Gateway,
    pub(super) islands: Vec<Island>,
    /// Bounds how many join at once.
    pub(super) joining: Semaphore,
    started: Instant,
    stopped: watch::Receiver<bool>,
    tried: AtomicUsize,
    ended: AtomicUsize,
    registry: Mutex<Registry>,
    frames: Mutex<FrameCache>,
    tally: Mutex<Tally>,
    /// What settlers share, if the bots settle.
    pub(super) settle: Option<Arc<Commons>>,
    /// When one of our own timers was last found late, in milliseconds since the start.
    late_ms: AtomicU64,
}

/// After one of our own timers was late, nothing is checked for so long: all sockets have to be caught up with first.
const CATCHING_UP: Duration = Duration::from_secs(2);

impl Shared {
    pub(super) fn new(
        config: BotsConfig,
        gateway: Gateway,
        islands: Vec<Island>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            joining: Semaphore::new(config.joins_at_once.max(1)),
            late_ms: AtomicU64::new(u64::MAX),
            tally: Mutex::new(Tally::new(config.players)),
            settle: (config.behaviour == Behaviour::Settle).then(|| Arc::new(Commons::new(islands.clone()))),
            config,
            gateway,
            islands,
            started: Instant::now(),
            stopped,
            tried: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            registry: Mutex::default(),
            frames: Mutex::default(),
        }
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    pub(super) fn frames(&self) -> MutexGuard<'_, FrameCache> {
        lock(&self.frames)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// The island of the bot with this number.
    pub(super) fn island(&self, index: usize) -> &Island {
        match self.config.layout {
            Layout::Crowd => &self.islands[0],
            Layout::Spread | Layout::Still => &self.islands[index % self.islands.len()],
        }
    }

    pub(super) fn stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// A bot has joined, or failed to.
    pub(super) fn count_tried(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    /// A bot's life is over.
    pub(super) fn count_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all_tried(&self) -> bool {
        self.tried.load(Ordering::Relaxed) >= self.config.players
    }

    pub(super) fn all_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) >= self.config.players
    }

    /// One of our own timers was late.
    pub(super) fn was_late(&self, now: Instant) {
        self.late_ms.store(self.since_start_ms(now), Ordering::Relaxed);
    }

    /// Whether that was not long ago.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let late_ms = self.late_ms.load(Ordering::Relaxed);
        late_ms != u64::MAX && self.since_start_ms(now).saturating_sub(late_ms) < CATCHING_UP.as_millis() as u64
    }

    fn since_start_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    pub(super) fn report(&self) -> BotsReport {
        let report = self.tally().snapshot(self.started.elapsed().as_secs_f64());
        BotsReport { settle: self.settle.as_ref().map(|commons| commons.snapshot()), ..report }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
