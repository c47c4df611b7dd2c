//! A connected bot: messages as they come, a walk every few seconds, and a round of checks every second.
//!
//! One timer per bot, which fires about once a second; everything in a round is bounded by a constant.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};

use super::{Bot, End};
use crate::bots::Layout;
use crate::bots::checks::{self, Watcher};
use crate::client::{ClientError, Incoming};
use crate::protocol::{
    CellXy, ClientMessage, Command, Content, Entry, Frame, Malformed, Outcome, ServerMessage, UNITS_PER_TILE, codes,
};

/// Between two rounds of checks.
const ROUND: Duration = Duration::from_secs(1);
/// Between two walks: at least the first, at most both together.
const WALK_EVERY: (Duration, Duration) = (Duration::from_millis(2500), Duration::from_millis(1500));
/// After a walk that led nowhere.
const WALK_AGAIN: Duration = Duration::from_millis(700);
/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(10);
/// After so long a silence the frontend is asked for a sign, every second; without one it is given up later.
const SILENCE: Duration = Duration::from_secs(2);
const GIVEN_UP: Duration = Duration::from_secs(7);
/// A cell whose keyframe has not come after so long is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// An answer that has not come after so long is an error.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// When our own timer is this late, what we see says nothing about the mesh.
const OWN_LAG: Duration = Duration::from_millis(250);
/// Messages taken in before a round, at most.
const CATCH_UP: usize = 512;
/// Ages measured between two rounds.
const AGES_PER_ROUND: u32 = 8;
/// Between two turns of a settler: at least the first, at most both together.
const TURN_EVERY: (Duration, Duration) = (Duration::from_millis(550), Duration::from_millis(150));
/// One command in so many is a stop.
const STOP_ONE_IN: u64 = 16;

/// When the bot does what next, and what it may still do in this round.
pub(super) struct Timing {
    round: Instant,
    walk: Instant,
    ping: Instant,
    asked: Instant,
    ages_left: u32,
    clocks_left: u32,
    turn: u64,
}

impl Timing {
    pub(super) fn new(now: Instant) -> Self {
        Self { round: now, walk: now, ping: now + PING_EVERY, asked: now, ages_left: 0, clocks_left: 4, turn: 0 }
    }

    /// Keeps the bots from doing everything at the same moment.
    pub(super) fn scatter(&mut self, now: Instant, by: Duration) {
        self.round = now + by;
        self.walk = now + by;
    }

    fn next(&self) -> Instant {
        self.round.min(self.walk)
    }
}

impl Bot {
    /// Plays until the run stops or the connection ends.
    pub(super) async fn play(&mut self) -> End {
        let now = Instant::now();
        self.timing.round = now + Duration::from_millis(self.walker.below(1000));
        self.timing.walk = self.timing.walk.max(now);
        let timer = sleep_until(self.timing.next());
        tokio::pin!(timer);
        loop {
            let done = tokio::select! { biased;
                () = &mut timer => {
                    let done = self.wake().await;
                    timer.as_mut().reset(self.timing.next());
                    done
                }
                incoming = self.connection.next() => match incoming {
                    Ok(incoming) => self.receive(incoming).await,
                    Err(error) => Err(error),
                }
            };
            match done {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return End::Lost(error),
            }
        }
    }

    async fn receive(&mut self, incoming: Incoming) -> Result<Option<End>, ClientError> {
        let now = Instant::now();
        self.heard = now;
        if let Some(since) = self.silent.take() {
            self.shared.tally().gap.saturating_record(now.saturating_duration_since(since).as_micros() as u64);
        }
        if let Incoming::Frame(_) | Incoming::Message(ServerMessage::Answer { .. } | ServerMessage::Pong { .. }) =
            incoming
        {
            self.shared.presence().plays(self.index, now);
        }
        match incoming {
            Incoming::Frame(bytes) => {
                let frame = self.shared.frames().decode(&bytes)?;
                if let Some(cell) = self.frame(&frame, bytes.len(), now) {
                    self.timing.asked = now;
                    self.connection.send(&ClientMessage::Ask { cells: vec![cell] }).await?;
                }
            }
            Incoming::Message(message) => return self.message(message, now),
        }
        Ok(None)
    }

    /// Takes in a frame; gives the cell to ask for if some are missing.
    fn frame(&mut self, frame: &std::sync::Arc<Frame>, bytes: usize, now: Instant) -> Option<CellXy> {
        let effect = self.sight.apply(frame);
        if effect.updates > 0 && self.timing.ages_left > 0 {
            self.measure_ages(frame, now);
        }
        if frame.head.publisher == self.welcome.publisher && self.timing.clocks_left > 0 {
            self.timing.clocks_left -= 1;
            self.shared.registry().observe_clock(frame.head.publisher, now, frame.head.time_ms);
        }
        checks::count(&mut self.shared.tally(), self.player, &frame.head, bytes, &effect);
        self.settler_saw(frame, &effect);
        if effect.updates > 0 {
            self.look_at_oneself(now);
        }
        effect.gap.then_some(frame.head.cell)
    }

    fn measure_ages(&mut self, frame: &Frame, now: Instant) {
        let Content::Delta(entries) = &frame.content else { return };
        let mut registry = self.shared.registry();
        for entry in entries {
            let Entry::Move { id, motion, .. } = entry else { continue };
            let applied = self.sight.ghost(*id).is_some_and(|ghost| ghost.motion == *motion);
            if *id == self.player || !applied {
                continue;
            }
            if let Some(age) = registry.received(*id, motion.since_ms, now) {
                self.shared.tally().age.saturating_record(age.as_micros() as u64);
            }
            self.timing.ages_left -= 1;
            if self.timing.ages_left == 0 {
                return;
            }
        }
    }

    fn message(&mut self, message: ServerMessage, now: Instant) -> Result<Option<End>, ClientError> {
        match message {
            ServerMessage::Answer { seq, outcome } => self.answered(seq, outcome, now),
            ServerMessage::Vision { island, entered, left } => {
                self.sight.set_vision(island, &entered, &left);
                self.settler_missed();
            }
            ServerMessage::Clocks(clocks) => self.sight.set_clocks(&clocks),
            ServerMessage::Pong { now_ms, .. } => {
                self.shared.registry().observe_clock(self.welcome.publisher, now, now_ms);
            }
            ServerMessage::Redirect { url, token } => return Ok(Some(End::Redirected { url, token })),
            ServerMessage::Farewell { code, text } => return Err(ClientError::Farewell { code, text }),
            ServerMessage::Welcome(_) => return Err(Malformed::Expected("only one welcome").into()),
            // Frames come as bytes; the rest is for those who play more than walking.
            other => self.settler_told(&other, now),
        }
        Ok(None)
    }

    fn answered(&mut self, seq: u32, outcome: Outcome, now: Instant) {
        if self.settler_answered(seq, &outcome, now) {
            return;
        }
        let Some((_, sent)) = self.pending.take_if(|(pending, _)| *pending == seq) else {
            self.shared.tally().error("answer", format!("an answer to {seq}, which nobody asked"));
            return;
        };
        let mut led_nowhere = false;
        let mut tally = self.shared.tally();
        tally.answer.saturating_record(now.saturating_duration_since(sent).as_micros() as u64);
        let motion = match outcome {
            Outcome::Ok { motion } => {
                tally.report.answered += 1;
                if motion.is_none() {
                    tally.error("answer", format!("no motion in the answer to {seq}"));
                }
                motion
            }
            Outcome::Made { .. } => None,
            Outcome::Refused { code, text, motion } => {
                tally.report.refused += 1;
                // Animals attack also those who only walk about.
                let stopped = [codes::IN_BATTLE, codes::DEFEATED].contains(&code.as_str());
                if !stopped && ![codes::BLOCKED, codes::OUT_OF_PLACE, codes::UNAVAILABLE].contains(&code.as_str()) {
                    tally.error(&format!("refused_{code}"), text);
                }
                self.shared.event(self.index, "refused", &code);
                *tally.report.refused_by_code.entry(code).or_default() += 1;
                led_nowhere = true;
                motion
            }
        };
        for age in self.shared.registry().answered(self.player, motion, now) {
            tally.age.saturating_record(age.as_micros() as u64);
        }
        drop(tally);
        if let Some(motion) = motion {
            self.motion = motion;
            led_nowhere |= checks::distance((motion.x, motion.y), motion.end()) < UNITS_PER_TILE as u32;
        }
        if led_nowhere {
            self.walker.blocked();
            self.timing.walk = self.timing.walk.min(now + WALK_AGAIN);
            if let Some(settler) = &mut self.settler {
                settler.blocked();
            }
        }
    }

    async fn wake(&mut self) -> Result<Option<End>, ClientError> {
        let now = Instant::now();
        if self.shared.stopped() {
            return Ok(Some(End::Stopped));
        }
        if self.shared.settling_up() && self.settles_up(now).await {
            return Ok(Some(End::Stopped));
        }
        if now >= self.timing.round {
            let lag = now.saturating_duration_since(self.timing.round);
            self.timing.round = now + ROUND;
            if let Some(end) = self.catch_up().await? {
                return Ok(Some(end));
            }
            self.round(lag, now).await?;
        }
        if now >= self.timing.walk && self.settler.is_some() {
            self.timing.walk =
                now + TURN_EVERY.0 + Duration::from_millis(self.walker.below(TURN_EVERY.1.as_millis() as u64));
            self.settle_turn().await?;
        }
        if now >= self.timing.walk {
            let pause = WALK_EVERY.0 + Duration::from_millis(self.walker.below(WALK_EVERY.1.as_millis() as u64));
            self.timing.walk = now + pause;
            if self.shared.config.layout != Layout::Still {
                self.command().await?;
            }
        }
        Ok(None)
    }

    /// Takes in what has arrived already: what waits in our own socket is not the mesh's delay.
    async fn catch_up(&mut self) -> Result<Option<End>, ClientError> {
        for _ in 0..CATCH_UP {
            let Some(incoming) = self.connection.next().now_or_never() else { break };
            if let Some(end) = self.receive(incoming?).await? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    async fn command(&mut self) -> Result<(), ClientError> {
        if self.pending.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let from = self.place(now);
        let stop = self.walker.below(STOP_ONE_IN) == 0;
        let command = if stop {
            Command::Stop
        } else {
            // Who is still on the way to the crowd does not dawdle.
            let dawdle = if self.walker.is_home(from) { self.welcome.max_speed / 2 } else { 1 };
            let speed = self.welcome.max_speed - self.walker.below(u64::try_from(dawdle).unwrap_or(1)) as i32;
            Command::Walk { from, to: self.walker.next(from), speed }
        };
        self.send_walk(command, now).await
    }

    /// Sends a walk or a stop.
    pub(super) async fn send_walk(&mut self, command: Command, now: Instant) -> Result<(), ClientError> {
        self.seq = self.seq.wrapping_add(1);
        self.pending = Some((self.seq, now));
        self.shared.registry().sent(self.player, now);
        self.shared.tally().report.commands += 1;
        self.connection.send(&ClientMessage::Command { seq: self.seq, command }).await
    }

    async fn round(&mut self, lag: Duration, now: Instant) -> Result<(), ClientError> {
        self.shared.tally().own_lag.saturating_record((lag.as_micros() as u64).max(1));
        let home = self.walker.is_home(self.place(now));
        self.count_home(home);
        self.timing.ages_left = AGES_PER_ROUND;
        self.timing.clocks_left = 4;
        self.timing.turn = self.timing.turn.wrapping_add(1 + self.walker.below(64));
        if lag > OWN_LAG {
            self.shared.was_late(now);
        }
        if self.shared.is_late(now) {
            self.shared.tally().report.checks.skipped_while_late += 1;
        } else {
            self.check(now);
        }
        if let Some((seq, _)) = self.pending.take_if(|(_, sent)| now.saturating_duration_since(*sent) > ANSWER_DEADLINE)
        {
            self.shared.registry().answered(self.player, None, now);
            self.shared.tally().error("unanswered", format!("player {}: no answer to {seq}", self.player));
        }
        let silence = now.saturating_duration_since(self.heard);
        if silence > GIVEN_UP && !self.shared.is_late(now) {
            return Err(ClientError::Late("sign of life"));
        }
        if now >= self.timing.ping || silence > SILENCE {
            self.timing.ping = now + PING_EVERY;
            self.connection.send(&ClientMessage::Ping { t: i64::from(self.seq) }).await?;
        }
        let waiting = self.sight.waiting();
        if !waiting.is_empty() && now.saturating_duration_since(self.timing.asked) > ASK_AGAIN {
            self.timing.asked = now;
            self.connection.send(&ClientMessage::Ask { cells: waiting }).await?;
        }
        Ok(())
    }

    fn count_home(&mut self, home: bool) {
        let was = std::mem::replace(&mut self.home, home);
        let mut tally = self.shared.tally();
        tally.report.gathered = (tally.report.gathered + u64::from(home)).saturating_sub(u64::from(was));
    }

    fn check(&mut self, now: Instant) {
        let registry = self.shared.registry();
        let mut tally = self.shared.tally();
        let watcher = Watcher { id: self.player, radius_tiles: self.welcome.vision_radius_tiles };
        checks::round(&registry, &mut tally, watcher, &self.sight, self.timing.turn, now);
        drop(tally);
        self.compare_shown(self.timing.turn);
    }
}
