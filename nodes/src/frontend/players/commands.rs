//! What clients say once they are in, and what becomes of it at once.
//!
//! Every command is answered under its number. What breaks the rules is refused with a code that programs read and, where
//! the client must be put back, the true motion. It NEVER trusts a place that a client claims.

use cartographer::geometry::{Cell, ObjectId, Place};
use cartographer::world::WalkRefusal;

use super::show::wire_motion;
use super::{Players, Said};
use crate::frontend::shard::{ClientId, Order};
use crate::frontend::wire::Wire;
use crate::game::{GameWorld, player};
use crate::protocol::{Command, Outcome, ServerMessage, codes};

impl Players {
    pub(super) fn said(&mut self, world: &mut GameWorld, now: u64, client: ClientId, said: Said) {
        let Some(&id) = self.clients.get(&client) else { return };
        // What is asked for is asked for by one who has its welcome. Pings say nothing: whoever waits for it may send them.
        if matches!(said, Said::Echo | Said::Command(..) | Said::Ask(_)) {
            self.heard(world, now, id, client);
        }
        if self.moves.holds_back(id) {
            return self.said_on_the_way(world, now, client, id, said);
        }
        match said {
            Said::Command(seq, command) => {
                self.shared.metrics.commands.with_label_values(&[command.op()]).inc();
                if let Command::Act { number, act } = &command {
                    return self.act(world, now, client, id, seq, *number, act);
                }
                let outcome = self.command(world, now, id, &command);
                self.decided.push((client, id, seq, outcome));
            }
            Said::Refused(seq, code, text) => {
                self.shared.metrics.refusals.with_label_values(&[code]).inc();
                let motion = world.get(id).map(|real| wire_motion(real.motion()));
                let outcome = Outcome::Refused { code: code.to_owned(), text, motion };
                if let Some(seq) = seq {
                    self.say(client, &ServerMessage::Answer { seq, outcome });
                }
            }
            Said::Ask(cells) => {
                let Some(player) = self.players.get(&id) else { return };
                let island = player.island;
                let cells = cells.into_iter().map(|(x, y)| Cell::new(island, x, y));
                let seen = cells.filter(|c| player.sight.contains(c));
                self.asked.extend(seen.map(|cell| (client, cell)));
            }
            Said::Ping(t) => self.say(client, &ServerMessage::Pong { t, now_ms: now }),
            Said::Knock(payload) => self.shards.order(client, Order::Say(Wire::pong(payload))),
            Said::Echo => {}
            Said::Expelled(code, text) => self.close(world, now, id, Some((code, &text)), None),
        }
    }

    /// Answers what was decided during the tick. What this node has not published as an owner was not granted: if it was frozen
    /// or has lost its lease meanwhile, others may own the player, and have never seen it go.
    pub(super) fn tell_decided(&mut self, world: &GameWorld) {
        let mut decided = std::mem::take(&mut self.decided);
        for (client, id, seq, mut outcome) in decided.drain(..) {
            // Whoever has had its last words meanwhile hears nothing after them.
            if self.clients.get(&client) != Some(&id) {
                continue;
            }
            if matches!(outcome, Outcome::Ok { .. }) && !self.acts_for(id) {
                outcome = lapsed(world, id);
            }
            if let Outcome::Refused { code, .. } = &outcome {
                self.shared.metrics.refusals.with_label_values(&[code]).inc();
            }
            self.say(client, &ServerMessage::Answer { seq, outcome });
        }
        // Its room is used again.
        self.decided = decided;
    }

    pub(super) fn command(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, command: &Command) -> Outcome {
        let truth = world.get(id).map(|real| wire_motion(real.motion()));
        let refused = |code: &str, text: String| Outcome::Refused { code: code.to_owned(), text, motion: truth };
        if !self.acts_for(id) {
            return lapsed(world, id);
        }
        match *command {
            Command::Walk { .. } if self.fighting.contains_key(&id) => {
                refused(codes::IN_BATTLE, "one does not walk about in a battle".to_owned())
            }
            Command::Walk { from, to, speed } => {
                if !(1..=player::MAX_SPEED).contains(&speed) {
                    let text =
                        format!("speed {speed} is not within 1 to {} (1/256 tile per second)", player::MAX_SPEED);
                    return refused(codes::TOO_FAST, text);
                }
                match world.walk(now, id, Place::new(from.0, from.1), Place::new(to.0, to.1), speed) {
                    Ok(motion) => Outcome::Ok { motion: Some(wire_motion(motion)) },
                    Err(refusal) => refused(walk_code(&refusal), refusal.to_string()),
                }
            }
            // Answered by itself: see `acts`.
            Command::Act { .. } => refused(codes::UNKNOWN_OP, "no such command here".to_owned()),
            Command::Stop => match world.stop(now, id) {
                Some(motion) => Outcome::Ok { motion: Some(wire_motion(motion)) },
                None => refused(codes::UNAVAILABLE, "the player is not in this world any more".to_owned()),
            },
        }
    }
}

fn walk_code(refusal: &WalkRefusal) -> &'static str {
    match refusal {
        WalkRefusal::OutOfPlace { .. } => codes::OUT_OF_PLACE,
        WalkRefusal::Blocked { .. } => codes::BLOCKED,
        _ => codes::UNAVAILABLE,
    }
}

/// What whoever asks is told while this node may not act as an owner.
fn lapsed(world: &GameWorld, id: ObjectId) -> Outcome {
    let motion = world.get(id).map(|real| wire_motion(real.motion()));
    let text = "this frontend has lost its lease for the moment: try again".to_owned();
    Outcome::Refused { code: codes::UNAVAILABLE.to_owned(), text, motion }
}
