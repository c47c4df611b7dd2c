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
use super::presence::Presence;
use super::registry::Registry;
use super::report::{BotsReport, SettleReport, Tally};
use super::settle::commons::Commons;
use super::{Behaviour, BotsConfig, Layout, Phase};
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
    phase: watch::Receiver<Phase>,
    tried: AtomicUsize,
    ended: AtomicUsize,
    registry: Mutex<Registry>,
    frames: Mutex<FrameCache>,
    tally: Mutex<Tally>,
    presence: Mutex<Presence>,
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
        phase: watch::Receiver<Phase>,
    ) -> std::io::Result<Self> {
        let presence = Mutex::new(Presence::new(config.timeline.as_deref())?);
        Ok(Self {
            joining: Semaphore::new(config.joins_at_once.max(1)),
            late_ms: AtomicU64::new(u64::MAX),
            tally: Mutex::new(Tally::new(config.players)),
            settle: (config.behaviour == Behaviour::Settle).then(|| Arc::new(Commons::new(islands.clone()))),
            config,
            gateway,
            islands,
            started: Instant::now(),
            phase,
            presence,
            tried: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            registry: Mutex::default(),
            frames: Mutex::default(),
        })
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

    /// The bots are to leave.
    pub(super) fn stopped(&self) -> bool {
        *self.phase.borrow() == Phase::Leave
    }

    /// The bots are to begin nothing new.
    pub(super) fn settling_up(&self) -> bool {
        *self.phase.borrow() == Phase::SettleUp
    }

    pub(super) fn presence(&self) -> MutexGuard<'_, Presence> {
        lock(&self.presence)
    }

    /// Something happened to a bot.
    pub(super) fn event(&self, bot: usize, event: &str, detail: &str) {
        self.presence().event(Some(bot), event, detail, Instant::now());
    }

    /// Looks who has been away for too long, and writes a line of totals.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let report = self.report();
        let mut presence = self.presence();
        if !self.is_late(now) {
            presence.sweep(now);
        }
        let totals = format!(
            "connected={} acknowledged={} refused={} lost={} doubled={} hung={}",
            report.connected, report.acknowledged, report.refused, report.lost, report.doubled, report.hung
        );
        presence.event(None, "totals", &totals, now);
        presence.flush();
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
        let settle = self.settle.as_ref().map(|commons| commons.snapshot());
        let of = |count: fn(&SettleReport) -> u64| settle.as_ref().map_or(0, count);
        let (acknowledged, lost, doubled) = (of(|it| it.acknowledged), of(|it| it.lost), of(|it| it.doubled));
        let presence = self.presence();
        let (hung, away_ms) = (presence.hung(), presence.away_ms());
        drop(presence);
        BotsReport { acknowledged, lost, doubled, hung, away_ms, settle, ..report }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
