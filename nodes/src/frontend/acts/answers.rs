//! The way of an act through the world: judged, begun, ended, answered.
//!
//! An answer goes to whoever asked last under the act's number, and is counted by a closed set of codes. What follows from an
//! act happens only while its player is here. It NEVER waits: what does is spawned, and comes back as an input.

use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::transaction::OperationId;
use futures_util::future::BoxFuture;
use mesh::CallRefusal;
use tokio::time::timeout;

use super::earlier::Tried;
use super::{Actor, Begin, Begun, Came, Done, Then, UNITS, begin, beside, refused, seen};
use crate::frontend::operations::Judged;
use crate::frontend::players::{FrontInput, Players};
use crate::frontend::shard::ClientId;
use crate::game::{Body, GameWorld};
use crate::protocol::{Act, Outcome, ServerMessage, codes};
use crate::world_loop::Input;

/// How long the flow of an act may take before its outcome is unknown: longer than each of its steps' own bounds together.
const FLOW_MOST: Duration = Duration::from_secs(30);

impl Players {
    /// A client asks for an act.
    #[expect(clippy::too_many_arguments, reason = "who asks for what, under which two numbers, and in which world")]
    pub(in crate::frontend) fn act(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        client: ClientId,
        id: ObjectId,
        seq: u32,
        number: u64,
        act: &Act,
    ) {
        let held = self.acts_for(id);
        let Some(player) = self.players.get_mut(&id) else { return };
        let judged = match held {
            true => player.operations.ask(now, number, act, client, seq),
            false => {
                let text = "this frontend has lost its lease for the moment: try again";
                // What is under way may be done yet.
                let code = if player.operations.is_open(number) { codes::UNKNOWN } else { codes::UNAVAILABLE };
                return self.answer_act(client, seq, act.op(), refusal_outcome(code, text));
            }
        };
        let (op, again) = match judged {
            Judged::Do(op) => (op, false),
            Judged::Again(op) => (op, true),
            Judged::Waits => return,
            Judged::Told(outcome) => return self.answer_act(client, seq, act.op(), outcome),
            Judged::Busy => {
                let text = "too many acts are under way";
                return self.answer_act(client, seq, act.op(), refusal_outcome(codes::BUSY, text));
            }
            Judged::Stale(why) => {
                return self.answer_act(client, seq, act.op(), refusal_outcome(codes::STALE, why));
            }
        };
        let begun = self.begin(world, now, id, (number, op, again), act);
        // What an earlier try or an earlier life has done is done, whatever stands against it now.
        let tried = (again || self.is_earlier(id, number)).then(|| {
            let real = world.get(id);
            let stands = real.and_then(|real| real.place(now).tile().map(|tile| tile.chunk(real.island())));
            Tried { shared: self.shared.clone(), op, player: id, act: act.clone(), stands }
        });
        match (begun, tried) {
            (Ok(Begin::Now(came)), _) => self.acted(world, now, id, number, act.op(), came),
            (Ok(Begin::Later(flow)), None) => self.spawn_act(id, number, act.op(), flow),
            (Ok(Begin::Later(flow)), Some(tried)) => {
                let flow = async move { tried.or_happened(flow.await).await };
                self.spawn_act(id, number, act.op(), Box::pin(flow));
            }
            (Err(refusal), None) => self.acted(world, now, id, number, act.op(), Err(refusal).into()),
            (Err(refusal), Some(tried)) => {
                let flow = async move { tried.or_happened(Err(refusal).into()).await };
                self.spawn_act(id, number, act.op(), Box::pin(flow));
            }
        }
    }

    /// Whether an act may have been asked for before this life of its player.
    fn is_earlier(&self, id: ObjectId, number: u64) -> bool {
        self.players.get(&id).is_some_and(|player| !player.operations.is_fresh(number))
    }

    fn begin(
        &mut self,
        world: &GameWorld,
        now: u64,
        id: ObjectId,
        (number, op, again): (u64, OperationId, bool),
        act: &Act,
    ) -> Begun {
        let gone = || CallRefusal::new(codes::UNAVAILABLE, "the player is not in this world any more");
        let inputs = self.inputs.upgrade().ok_or_else(gone)?;
        let player = self.players.get_mut(&id).ok_or_else(gone)?;
        let real = world.get(id).ok_or_else(gone)?;
        let Body::Player(body) = real.body() else { return Err(gone()) };
        let actor = Actor {
            world,
            shared: &self.shared,
            inputs,
            now,
            id,
            island: real.island(),
            place: real.place(now),
            body,
            carried: player.keeper.carried(),
            room: self.fighting.get(&id).map(|fights| fights.room.clone()),
            trades: player.trades.len(),
            number,
            op,
            fresh: player.operations.is_fresh(number),
            again,
        };
        begin(&actor, &mut player.pace, act)
    }

    fn spawn_act(&self, id: ObjectId, number: u64, op: &'static str, flow: BoxFuture<'static, Came>) {
        let Some(inputs) = self.inputs.upgrade() else { return };
        self.shared.tasks.spawn(async move {
            let late = || CallRefusal::new(codes::UNKNOWN, "it took too long: ask again under the same number");
            let came = timeout(FLOW_MOST, flow)
                .await
                .unwrap_or_else(|_| Came { result: Err(late()), then: vec![Then::Tried] });
            // An error means that the world has ended.
            let _ = inputs.send(Input::Role(FrontInput::Acted { player: id, number, op, came })).await;
        });
    }

    /// An act has come to its end.
    pub(in crate::frontend) fn acted(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        number: u64,
        op: &'static str,
        came: Came,
    ) {
        let Came { result, then } = came;
        let outcome = match result {
            Ok(Done::Done) => Outcome::Ok { motion: None },
            Ok(Done::Made(number)) => Outcome::Made { number },
            Err(refusal) => refusal_outcome(&refusal.code, &refusal.text),
        };
        let told = self.players.get_mut(&id).and_then(|player| player.operations.end(number, &outcome));
        // Of a life that is over: its player is gone, or has come back since and knows nothing of it.
        let Some((client, seq)) = told else {
            self.abandon(then, id);
            return;
        };
        let open = self.players.get(&id).is_some_and(|player| player.operations.is_open(number));
        let outcome = match outcome {
            // Refused this time; whether it happened at an earlier one nobody knows yet.
            Outcome::Refused { text, .. } if open => refusal_outcome(codes::UNKNOWN, &text),
            outcome => outcome,
        };
        self.answer_act(client, seq, op, outcome);
        for then in then {
            match then {
                Then::Say(message) if self.clients.contains_key(&client) => self.say(client, &message),
                Then::Say(_) => {}
                Then::ShowBag => drop(self.bags_due.insert(id)),
                Then::Fed(percent) => self.mend(world, now, id, percent),
                Then::Fights(room) if self.players.get(&id).is_some_and(|player| player.pace.astray) => {
                    self.leave_room(id, room);
                }
                Then::Fights(room) => self.fights(world, now, id, room),
                Then::Heard(saying) => self.hear(world, now, &saying),
                Then::Tried => {
                    if let Some(player) = self.players.get_mut(&id) {
                        (player.pace.joins, player.pace.astray) = (false, false);
                    }
                }
            }
        }
    }

    /// Whether another player stands beside an own one.
    pub(in crate::frontend) fn are_near(
        &self,
        world: &GameWorld,
        now: u64,
        id: ObjectId,
        other: ObjectId,
    ) -> Result<(), CallRefusal> {
        let Some(real) = world.get(id).filter(|_| self.players.contains_key(&id)) else {
            return refused(codes::MISSING, "the player is not in this world any more");
        };
        let reach = i32::from(self.shared.content.tuning.reach_tiles) * UNITS;
        beside(real.place(now), reach, seen(world, &self.shared, now, real.island(), other))
    }

    /// What follows from the act of a player who is gone: nothing but that it must not stay in a battle.
    fn abandon(&mut self, then: Vec<Then>, id: ObjectId) {
        for then in then {
            if let Then::Fights(room) = then {
                self.leave_room(id, room);
            }
        }
    }

    /// Counts what became of an act, and tells whoever asked for it if they are still there.
    fn answer_act(&mut self, client: ClientId, seq: u32, op: &'static str, outcome: Outcome) {
        let metrics = &self.shared.metrics;
        let counted = match &outcome {
            Outcome::Refused { code, .. } => {
                metrics.refusals.with_label_values(&[counted_code(code)]).inc();
                if code == codes::UNKNOWN { "unknown" } else { "refused" }
            }
            Outcome::Ok { .. } | Outcome::Made { .. } => "done",
        };
        metrics.acts.with_label_values(&[op, counted]).inc();
        if self.clients.contains_key(&client) {
            self.say(client, &ServerMessage::Answer { seq, outcome });
        }
    }
}

fn refusal_outcome(code: &str, text: &str) -> Outcome {
    Outcome::Refused { code: code.to_owned(), text: text.to_owned(), motion: None }
}

/// Codes under which refusals of acts are counted each by itself. All come from programs of ours, but some from other nodes,
/// which may be newer.
const COUNTED: [&str; 35] = [
    codes::UNAVAILABLE,
    codes::TOO_FAR,
    codes::MISSING,
    codes::UNKNOWN_NAME,
    codes::IN_BATTLE,
    codes::NO_BATTLE,
    codes::DEFEATED,
    codes::TOO_SOON,
    codes::FORBIDDEN,
    codes::BUSY,
    codes::STALE,
    codes::UNKNOWN,
    codes::NEEDS,
    codes::PARTY,
    codes::FENCED,
    codes::FULL,
    codes::BLOCKED,
    codes::MALFORMED,
    codes::FLOOD,
    "too_little",
    "changed",
    "overflow",
    "taken",
    "done",
    "withdrawn",
    "lapsed",
    "kept",
    "outside",
    "water",
    "occupied",
    "owned",
    "too_large",
    "not_adjacent",
    "unpaid",
    "disagrees",
];

fn counted_code(code: &str) -> &'static str {
    COUNTED.iter().find(|known| **known == code).copied().unwrap_or("other")
}
