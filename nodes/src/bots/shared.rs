//! What all bots of a run share: the configuration, the truth, decoded frames and the tally.
//!
//! All bots run on one thread, so that these locks are NEVER contended but by the report once a second; none is held
//! across an await.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::frames::FrameCache;
use super::registry::Registry;
use super::report::{BotsReport, Tally};
use super::{BotsConfig, Layout};
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
}

impl Shared {
    pub(super) fn new(
        config: BotsConfig,
        gateway: Gateway,
        islands: Vec<Island>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            joining: Semaphore::new(config.joins_at_once.max(1)),
            tally: Mutex::new(Tally::new(config.players)),
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

    pub(super) fn report(&self) -> BotsReport {
        self.tally().snapshot(self.started.elapsed().as_secs_f64())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
