//! The bot of a settler: carries out what the settler wishes, and gives it what comes in.
//!
//! A settler's player is stopped, moved and brought to other islands by others than itself; its own ghost tells of that.

use std::time::Duration;

use tokio::time::Instant;

use super::Bot;
use crate::bots::settle::commons::Shown;
use crate::bots::settle::works::Found;
use crate::bots::settle::{Eyes, Settler, Wish};
use crate::client::ClientError;
use crate::client::sight::Effect;
use crate::game::kind;
use crate::protocol::{ClientMessage, Command, Content, Entry, Frame, Motion, Outcome, ServerMessage};

/// An act that took longer, with all asking again, is an event of the timeline.
const SLOW: Duration = Duration::from_secs(1);
/// Objects compared with what other bots are shown, in one round.
const COMPARED: usize = 6;

impl Bot {
    /// What the bot sees now.
    fn eyes(&self, now: Instant) -> Eyes<'_> {
        let server_ms = self.shared.registry().clock(self.welcome.publisher).map(|clock| clock.at_ms(now));
        let server_ms = server_ms.unwrap_or_else(|| i64::try_from(self.motion.since_ms).unwrap_or(0));
        let walking = i64::try_from(self.motion.end_ms()).is_ok_and(|end| server_ms < end);
        let place = self.motion.at(server_ms);
        Eyes { now, island: self.sight.island(), place, walking, server_ms, sight: &self.sight }
    }

    /// With the settler, and what it sees.
    fn settling<T>(&mut self, now: Instant, does: impl FnOnce(&mut Settler, &Eyes<'_>) -> T) -> Option<T> {
        let mut settler = self.settler.take()?;
        let done = does(&mut settler, &self.eyes(now));
        self.settler = Some(settler);
        Some(done)
    }

    /// Asks the settler what it wishes, and does it.
    pub(super) async fn settle_turn(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        // Nothing is in sight yet: wait until there is.
        if self.sight.cells().is_empty() {
            return Ok(());
        }
        match self.settling(now, |settler, eyes| settler.turn(eyes)) {
            Some(Wish::Walk(to)) if self.pending.is_none() => {
                let from = self.place(now);
                self.send_walk(Command::Walk { from, to, speed: self.welcome.max_speed }, now).await
            }
            Some(Wish::Act(number, act)) => {
                self.seq = self.seq.wrapping_add(1);
                let seq = self.seq;
                if let Some(settler) = &mut self.settler {
                    settler.sent(seq, now);
                }
                self.shared.tally().report.commands += 1;
                let command = Command::Act { number, act };
                self.connection.send(&ClientMessage::Command { seq, command }).await
            }
            _ => Ok(()),
        }
    }

    /// Finishes what was begun; `true` when nothing is left to do or compare.
    pub(super) async fn settles_up(&mut self, now: Instant) -> bool {
        let Some(settler) = &mut self.settler else { return true };
        settler.close(now);
        if let Some(chunks) = settler.to_look_at() {
            let mut found = Vec::with_capacity(chunks.len());
            for key in chunks {
                match self.shared.gateway.chunk(key.0, key.1, key.2).await {
                    Ok(shown) => found.push((key, Found::of(&shown))),
                    // An island that has sunk since took along what stood there.
                    Err(ClientError::Refused { status: 404, .. }) => {}
                    // Next time.
                    Err(_) => return false,
                }
            }
            settler.looked_at(&found);
        }
        settler.settled_up()
    }

    /// An answer to an act; `false` if it is to something else.
    pub(super) fn settler_answered(&mut self, seq: u32, outcome: &Outcome, now: Instant) -> bool {
        let asked = self.settler.as_ref().and_then(|settler| settler.under_way(seq));
        if !self.settling(now, |settler, eyes| settler.answered(seq, outcome, eyes)).unwrap_or(false) {
            return false;
        }
        if let Some((op, begun)) = asked {
            let took = now.saturating_duration_since(begun);
            if took > SLOW {
                self.shared.event(self.index, "slow", &format!("{} {op}", took.as_millis()));
            }
        }
        let mut tally = self.shared.tally();
        let motion = match outcome {
            Outcome::Ok { motion } => {
                tally.report.answered += 1;
                *motion
            }
            Outcome::Made { .. } => {
                tally.report.answered += 1;
                None
            }
            Outcome::Refused { code, motion, .. } => {
                tally.report.refused += 1;
                self.shared.event(self.index, "refused", code);
                *tally.report.refused_by_code.entry(code.clone()).or_default() += 1;
                *motion
            }
        };
        drop(tally);
        if let Some(motion) = motion {
            self.adopt(motion, now);
        }
        true
    }

    /// Any other message.
    pub(super) fn settler_told(&mut self, message: &ServerMessage, now: Instant) {
        if let Some(settler) = &mut self.settler {
            settler.told(message, now);
        }
    }

    /// Cells have gone out of sight, or frames are missing: battles begin anew for the eye.
    pub(super) fn settler_missed(&mut self) {
        if let Some(settler) = &mut self.settler {
            settler.missed();
        }
    }

    /// A frame was applied.
    pub(super) fn settler_saw(&mut self, frame: &Frame, effect: &Effect) {
        let Some(settler) = &mut self.settler else { return };
        if effect.gap || effect.waits {
            settler.missed();
        }
        if effect.updates == 0 {
            return;
        }
        match &frame.content {
            Content::Delta(entries) => {
                for entry in entries {
                    let (id, view) = match entry {
                        Entry::Enter { object, .. } => (object.id, &object.view),
                        Entry::Change { id, view, .. } => (*id, view),
                        Entry::Move { .. } | Entry::Leave { .. } => continue,
                    };
                    if view.kind == kind::BATTLE {
                        settler.saw_battle(id, view);
                    }
                }
            }
            Content::Keyframe(objects) => {
                let battles = objects.iter().filter(|object| object.view.kind == kind::BATTLE);
                battles.for_each(|object| settler.saw_battle(object.id, &object.view));
            }
        }
    }

    /// Takes over where others have put the player: an animal that attacks it stops it where it stands.
    pub(super) fn look_at_oneself(&mut self, now: Instant) {
        if self.pending.is_some() {
            return;
        }
        let Some(own) = self.sight.ghost(self.player) else { return };
        let newer = own.motion != self.motion && own.motion.since_ms >= self.motion.since_ms;
        let elsewhere = || self.shared.registry().truth(self.player).is_some_and(|it| it.island != self.sight.island());
        if own.publisher == self.welcome.publisher && (newer || self.settler.is_some() && elsewhere()) {
            self.adopt(own.motion, now);
        }
    }

    /// The player's true motion, of which no walk of its own told.
    fn adopt(&mut self, motion: Motion, now: Instant) {
        self.motion = motion;
        let island = self.sight.island();
        self.shared.registry().welcomed(self.player, island, self.welcome.publisher, motion, now);
        if let Some(settler) = &mut self.settler {
            settler.arrived(island);
        }
    }

    /// Compares some of what is shown with what others are shown.
    pub(super) fn compare_shown(&self, turn: u64) {
        let Some(commons) = &self.shared.settle else { return };
        let first = (turn % (self.sight.ghosts().len() as u64).max(1)) as usize;
        for (id, ghost) in self.sight.ghosts().skip(first).take(COMPARED) {
            let &crate::client::Ghost { epoch, version, publisher, motion, .. } = ghost;
            commons.shown(self.player, id, Shown { epoch, version, publisher, motion });
        }
    }
}
