//! How players go to another frontend, and come from one: draining, rebalancing, and being asked to take somebody.
//!
//! Who is to go is first expected elsewhere, so that the view there is ready before anything is given up. Then the world lets it
//! go, its document is released, the other frontend claims it, and only then the client is told where to go. Whatever fails on
//! the way leaves a released document, and a client with a token that every frontend takes: nobody is EVER dropped because a
//! frontend is emptied. At most [`MOVES_AT_ONCE`] are on their way at a time.

pub mod rebalance;

use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{ObjectId, Place};
use futures_util::StreamExt;
use futures_util::stream;
use mesh::calls::Outcome;
use mesh::{CallError, CallRefusal, IncomingCall, NodeId, Role};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::arriving::{Arriving, Begins, Comes};
use super::players::FrontInput;
use super::players::moving::{Came, LetGo, MoveInput, Stays};
use super::sessions::Sessions;
use super::tickets::SessionId;
use super::wire::Wire;
use crate::choose::{self, Arrival, Candidate};
use crate::load::{Load, block_mark};
use crate::methods::moving::{Expect, MOVING_EXPECT, MOVING_TAKE, Moved, MovedTo};
use crate::methods::{pack, unpack};
use crate::protocol::{ServerMessage, codes};

/// Players on their way at once, at most.
const MOVES_AT_ONCE: usize = 32;

/// Frontends that are asked for one player, at most.
const TRIES: usize = 3;

/// How long the surroundings of somebody who is expected may take to be known; whoever comes is shown them as they come.
const EXPECT_PATIENCE: Duration = Duration::from_secs(2);

/// How long the release of a document may take before its client is sent on all the same, to wait where it goes.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// How long somebody who could take players is looked for before those left are let go.
const NOBODY_PATIENCE: Duration = Duration::from_secs(3);

/// The pause before those are tried again whom nobody took.
const AGAIN: Duration = Duration::from_millis(250);

/// Between two looks whether the last documents are released.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Refusals that say whose the player is by now.
const TAKEN: [&str; 3] = [codes::REPLACED, codes::TICKET_USED, codes::SESSION_ENDED];

/// What came of it that a player was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Another frontend has it.
    Moved,
    /// It is nobody's, and its client was sent to another frontend.
    Redirected,
    /// It is nobody's, and there is no other frontend.
    Nowhere,
    /// It belongs to somebody else already.
    Taken,
    /// It has gone by another way.
    Gone,
    /// Nobody wants it: it is still here.
    Stayed,
}

impl Move {
    fn name(self) -> &'static str {
        match self {
            Move::Moved => "moved",
            Move::Redirected => "redirected",
            Move::Nowhere => "nowhere",
            Move::Taken => "taken",
            Move::Gone => "gone",
            Move::Stayed => "stayed",
        }
    }
}

impl Sessions {
    /// Hands all players to other frontends. Returns when nobody is left and all documents are released, or when nobody takes
    /// those who are left.
    pub async fn empty(&self) {
        let mut alone: Option<Instant> = None;
        while let Some(roll) = self.roll().await {
            if roll.is_empty() {
                if self.shared.keepers.is_empty() {
                    // The last ones are shown by their new owners before they are not shown here any more.
                    return sleep(LOOK_EVERY).await;
                }
                // The last documents are being released, or somebody is just coming in who had its ticket before.
                sleep(LOOK_EVERY).await;
                continue;
            }
            let moves = stream::iter(roll).map(|stays| self.send_away(stays, None));
            let came: Vec<Move> = moves.buffer_unordered(MOVES_AT_ONCE).collect().await;
            // Those who go by another way, or may not go now, say nothing about whether anybody takes players.
            if came.iter().any(|it| !matches!(it, Move::Stayed | Move::Gone)) {
                alone = None;
                continue;
            }
            let unwanted = came.iter().all(|it| *it == Move::Stayed);
            if unwanted && alone.get_or_insert_with(Instant::now).elapsed() >= NOBODY_PATIENCE {
                tracing::warn!(players = came.len(), "no frontend takes these players: they are saved and let go");
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// Who is here; `None` if the world is gone.
    async fn roll(&self) -> Option<Vec<Stays>> {
        let (reply, roll) = oneshot::channel();
        self.world.role(FrontInput::Moving(MoveInput::Roll(reply))).await;
        roll.await.ok()
    }

    /// Has a player go to another frontend: this one, or the one that suits it best.
    async fn send_away(&self, stays: Stays, to: Option<&NodeId>) -> Move {
        let shared = &self.shared;
        let ranked = match to {
            Some(node) => vec![node.clone()],
            None => self.frontends(&stays),
        };
        let player = stays.player;
        let expect = Expect { player, island: stays.island, place: (stays.place.x, stays.place.y) };
        let mut chosen = None;
        for node in ranked.iter().take(TRIES) {
            match shared.mesh.call(node, &MOVING_EXPECT, pack(&expect)).await {
                Ok(_) => {
                    chosen = Some(node);
                    break;
                }
                Err(error) => tracing::debug!(player = player.0, %error, "a frontend does not expect a player"),
            }
        }
        let came = match chosen {
            Some(node) => {
                shared.sent.count(node, block_of(&stays));
                let others = ranked.iter().filter(|other| *other != node);
                let order: Vec<NodeId> = std::iter::once(node).chain(others).cloned().collect();
                self.hand_over(player, &order).await
            }
            None => Move::Stayed,
        };
        shared.metrics.moved.with_label_values(&[came.name()]).inc();
        came
    }

    /// The frontends that take players, the best for this one first.
    fn frontends(&self, stays: &Stays) -> Vec<NodeId> {
        let shared = &self.shared;
        let block = block_of(stays);
        let peers = shared.mesh.peers();
        let candidates: Vec<Candidate> = peers
            .up(Role::Frontend)
            .map(|peer| {
                let node = peer.record.node.clone();
                let (sent, sent_here) = shared.sent.lately(&node, block);
                Candidate { node, load: Load::decode(&peer.load), sent, sent_here }
            })
            .collect();
        let arrival = Arrival { cell: stays.place.cell(stays.island), sees: stays.sees.clone() };
        choose::rank(&candidates, &arrival, None)
    }

    /// Lets a player go, has the first of these frontends take it that can, and tells its client.
    async fn hand_over(&self, player: ObjectId, order: &[NodeId]) -> Move {
        let (reply, on_its_way) = oneshot::channel();
        self.world.role(FrontInput::Moving(MoveInput::LetGo(player, reply))).await;
        let Ok(mut let_go) = on_its_way.await else { return Move::Gone };
        let released = timeout(RELEASE_PATIENCE, &mut let_go.released).await;
        let (came, last) = match released {
            Ok(Ok(())) => self.find_a_place(player, &let_go, order).await,
            Ok(Err(_)) => (Move::Taken, farewell(codes::FENCED, "another node owns this player now")),
            // The store does not answer us. Where the client goes it is waited for; our keeper goes on trying.
            Err(_) => self.send_on(player, &let_go, order),
        };
        // False means that the world has ended.
        self.world.role(FrontInput::Moving(MoveInput::Went(player, last))).await;
        came
    }

    /// Has one of these frontends take a player that was released.
    async fn find_a_place(&self, player: ObjectId, let_go: &LetGo, order: &[NodeId]) -> (Move, Wire) {
        let moved = Moved {
            player,
            session: uuid::Uuid::from_u128(let_go.session.0),
            epoch: let_go.epoch,
            walks: let_go.walks,
            battle: let_go.battle,
            at_ms: let_go.at_ms,
            trades: let_go.trades.clone(),
            followed: let_go.client,
        };
        let body = pack(&moved);
        let mut rest = order;
        while let Some((node, others)) = rest.split_first() {
            match self.shared.mesh.call(node, &MOVING_TAKE, body.clone()).await {
                Ok(answer) => match unpack::<MovedTo>(&answer) {
                    Ok(MovedTo { url, token }) => return (Move::Moved, redirect(url, token)),
                    Err(refusal) => tracing::warn!(%node, %refusal, "a frontend took a player and does not say where"),
                },
                // Its client has come in elsewhere, or another has taken its place.
                Err(CallError::Refused { refusal, .. }) if TAKEN.contains(&refusal.code.as_str()) => {
                    return (Move::Taken, farewell(codes::REPLACED, &refusal.text));
                }
                Err(error) => {
                    tracing::info!(player = player.0, %node, %error, "a frontend did not take a player");
                    if error.outcome() == Outcome::Maybe {
                        return self.send_on(player, let_go, others);
                    }
                }
            }
            rest = others;
        }
        self.send_on(player, let_go, order)
    }

    /// Nobody is known to have the player: its client goes to one of these frontends all the same, or to any other, which
    /// claims it there.
    fn send_on(&self, player: ObjectId, let_go: &LetGo, order: &[NodeId]) -> (Move, Wire) {
        let shared = &self.shared;
        let peers = shared.mesh.peers();
        let named = order.iter().filter_map(|node| peers.get(node));
        let mut frontends = named.chain(peers.up(Role::Frontend));
        let token = shared.resume_token(let_go.session, player, let_go.turn.saturating_add(1));
        match frontends.find_map(|peer| peer.record.public.clone()) {
            Some(url) => (Move::Redirected, redirect(url, token)),
            None => (Move::Nowhere, farewell(codes::DRAINING, "this frontend is leaving, and there is no other now")),
        }
    }

    /// Answers a call of the family `moving`.
    pub(super) async fn answer_moving(&self, call: IncomingCall) {
        let answer = match call.method.as_str() {
            name if name == MOVING_EXPECT.name => match unpack::<Expect>(&call.body) {
                Ok(expect) => self.expect(expect).await.map(|()| Bytes::new()),
                Err(refusal) => Err(refusal),
            },
            name if name == MOVING_TAKE.name => match unpack::<Moved>(&call.body) {
                Ok(moved) => self.take(&call.from, moved).await.map(|moved| pack(&moved)),
                Err(refusal) => Err(refusal),
            },
            other => Err(CallRefusal::unknown_method(other)),
        };
        call.answer(answer);
    }

    /// Whether anybody else may come.
    fn takes_players(&self) -> Result<(), CallRefusal> {
        let shared = &self.shared;
        if shared.draining() {
            return Err(CallRefusal::new(codes::DRAINING, "this frontend is leaving"));
        }
        let players = shared.metrics.players.get();
        if players >= i64::from(shared.config.capacity) {
            let text = format!("{players} players are here, as many as this frontend takes");
            return Err(CallRefusal::new(codes::FULL, text));
        }
        Ok(())
    }

    /// Gets the surroundings of a player ready that is about to come.
    async fn expect(&self, expect: Expect) -> Result<(), CallRefusal> {
        self.takes_players()?;
        if self.shared.islands.get(expect.island).is_none() {
            return Err(CallRefusal::new("unknown_island", format!("no island {} here", expect.island.0)));
        }
        let (reply, known) = oneshot::channel();
        self.world.role(FrontInput::Moving(MoveInput::Expect(expect, reply))).await;
        // Late: it is shown what is known, and the rest as it comes.
        let _ = timeout(EXPECT_PATIENCE, known).await;
        Ok(())
    }

    /// Takes a player that another frontend has released.
    async fn take(&self, from: &NodeId, moved: Moved) -> Result<MovedTo, CallRefusal> {
        self.takes_players()?;
        let session = SessionId(moved.session.as_u128());
        let arriving = Arriving {
            player: moved.player,
            session,
            comes: Comes::Moved,
            begins: Begins::On(None),
            walks: moved.walks,
            battle: moved.battle,
            client: None,
        };
        let arrived = self.bring_in(arriving).await.map_err(|why| CallRefusal::new(why.code, why.text))?;
        let shared = &self.shared;
        let token = shared.resume_token(session, moved.player, arrived.turn.saturating_add(1));
        // Offsets are off by milliseconds: a step, not a jump.
        let offset_ms = shared.mesh.peers().get(from).map_or(0, |peer| peer.clock_offset_ms);
        let walked_ms = shared.mesh.now_ms().saturating_sub(moved.at_ms.saturating_add_signed(offset_ms));
        let came = Came {
            player: moved.player,
            walks: moved.walks.map(|((x, y), speed)| (Place::new(x, y), speed)),
            walked_ms,
            trades: moved.trades,
            followed: moved.followed.then_some(walked_ms),
        };
        self.world.role(FrontInput::Moving(MoveInput::Came(Box::new(came)))).await;
        Ok(MovedTo { url: shared.mesh.me().public.clone().unwrap_or_default(), token })
    }
}

fn block_of(stays: &Stays) -> Option<u32> {
    stays.place.cell(stays.island).map(|cell| block_mark(cell.island.0, cell.x, cell.y))
}

fn redirect(url: String, token: String) -> Wire {
    Wire::new(ServerMessage::Redirect { url, token }.encode())
}

fn farewell(code: &str, text: &str) -> Wire {
    Wire::new(ServerMessage::Farewell { code: code.to_owned(), text: text.to_owned() }.encode())
}
