//! How players come into the world of a frontend, how clients come and go, and how players leave.
//!
//! A player without a client lingers for a while, so that a lost connection may come back. Nobody comes in while the
//! node's lease is lost. It NEVER waits for a document: keepers save and release by themselves.
//!
//! A welcome brings the next token. Until its client was heard it may never have come: so long the token that was shown for it
//! is as good as the next one, wherever it is shown again. Of two clients the newest NEVER has to wait longer than the older one
//! may take to be heard, and only one is live.

use std::collections::BTreeSet;

use cartographer::geometry::{Cell, ObjectId};
use cartographer::motion::Motion;
use estate::player::{Unseated, WELL};
use tokio::sync::oneshot;

use super::hearing::OWN_PARTY;
use super::show::{farewell, wire_motion};
use super::{Attached, Join, LINGER_MS, NewClient, Player, Players};
use crate::frontend::acts::Pace;
use crate::frontend::keeper::Standing;
use crate::frontend::operations::Operations;
use crate::frontend::sessions::Farewell;
use crate::frontend::shard::{ClientId, Order};
use crate::frontend::tickets::SessionId;
use crate::frontend::wire::Wire;
use crate::game::{Body, GameWorld, player};
use crate::protocol::{ServerMessage, Welcome, codes};

impl Player {
    /// Whether a token of this session and turn is good.
    pub(super) fn admits(&self, session: SessionId, turn: u64) -> Result<(), Unseated> {
        if self.session != session {
            return Err(Unseated::Replaced);
        }
        if turn < self.turn && !planted::is("resume_not_rotated") {
            return Err(Unseated::Used);
        }
        Ok(())
    }

    /// Whether a client that is here was given the token after this one and may yet be heard: then this one is used up.
    pub(super) fn may_be_heard(&self, turn: u64) -> bool {
        self.unheard && self.client.is_some() && turn <= self.turn
    }
}

impl Players {
    pub(super) fn join(&mut self, world: &mut GameWorld, now: u64, join: Join) {
        let Join { player: id, session, epoch, body, island, place, walks, battle, .. } = join;
        let Join { turn, client, keeper, reply, floor, floor_s, home, .. } = join;
        let health = match &body {
            Body::Player(body) => body.health,
            _ => WELL,
        };
        let refused = |code, text: String| Err(Farewell::new(code, text));
        if !self.may_own() {
            let _ = reply.send(refused(codes::UNAVAILABLE, "this frontend's lease is lost: try again".to_owned()));
            return;
        }
        if self.players.len() >= self.shared.config.capacity as usize {
            let text = format!("this frontend is full ({} players)", self.players.len());
            let _ = reply.send(refused(codes::FULL, text));
            return;
        }
        self.comes_back(world, now, id);
        if let Err(e) = world.spawn(now, id, epoch, island, place, body, true) {
            let _ = reply.send(refused(codes::UNAVAILABLE, e.to_string()));
            return;
        }
        let now_s = self.shared.calendar.now_s();
        let earlier_ms = if floor_s == 0 { 0 } else { now_s.saturating_sub(floor_s).saturating_mul(1_000) };
        let fresh = Player {
            session,
            turn,
            unheard: false,
            sure: true,
            island,
            client: None,
            sight: BTreeSet::new(),
            keeper,
            // Another turn: so the first save follows at once.
            saved: Standing { island, place, health, floor, floor_s, turn: turn.wrapping_sub(1) },
            home,
            operations: Operations::new(id, epoch.0, floor, earlier_ms, now),
            pace: Pace::default(),
            trades: BTreeSet::new(),
            party: 0,
            freed: 0,
            since_ms: now,
        };
        self.players.insert(id, fresh);
        // Before anything is asked for: should this node die soon, whoever comes next knows since when that was.
        self.save(world, now, id);
        self.watch_wounds(now, id, health);
        self.round.push_back(id);
        if let Some((to, speed)) = walks {
            // What is in the way now stops it here; the refusal means nothing else.
            let _ = world.walk(now, id, place, to, speed);
        }
        // A battle that knows nothing of it, or is over, leaves it free.
        self.rejoin(world, now, id, battle);
        match client {
            Some(client) => self.connect(world, now, id, client),
            None => self.lingering.push_back((now + LINGER_MS, id)),
        }
        // If the flow has given up meanwhile, the player lingers and goes.
        let _ = reply.send(Ok(()));
    }

    /// A client comes back to its player with a token of this session and turn; `waited` if whoever has it was given the time
    /// to be heard.
    pub(super) fn attach(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        (session, turn, waited): (SessionId, u64, bool),
        client: NewClient,
    ) -> Attached {
        let acts = self.acts_for(id);
        let Some(player) = self.players.get_mut(&id) else { return Attached::Absent(client) };
        if let Err(unseated) = player.admits(session, turn) {
            return Attached::Refused(unseated.into());
        }
        if !acts {
            let text = "this frontend does not know yet whether the player is still its own: try again";
            return Attached::Refused(Farewell::new(codes::UNAVAILABLE, text));
        }
        if !waited && player.may_be_heard(turn) {
            return Attached::Later(client);
        }
        player.turn = player.turn.max(turn);
        self.connect(world, now, id, client);
        // An older token is to be worthless elsewhere too.
        self.save(world, now, id);
        Attached::Here
    }

    /// A client was heard that has read its welcome: the token that it showed for it is used up, here and elsewhere.
    pub(super) fn heard(&mut self, world: &GameWorld, now: u64, id: ObjectId, client: ClientId) {
        if let Some(player) = self.players.get_mut(&id)
            && player.unheard
            && player.client == Some(client)
        {
            player.unheard = false;
            player.turn = player.turn.saturating_add(1);
            self.save(world, now, id);
        }
    }

    /// Makes `client` the player's client: welcome, clocks, and whatever it sees already.
    pub(super) fn connect(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, client: NewClient) {
        let Some(player) = self.players.get_mut(&id) else { return };
        player.unheard = true;
        let next = player.turn.saturating_add(1);
        if let Some(old) = player.client.replace(client.id) {
            self.clients.remove(&old);
            self.shared.metrics.farewells.with_label_values(&[codes::REPLACED]).inc();
            self.shards.order(old, Order::Close(Some(farewell(codes::REPLACED, "another connection has taken over"))));
        }
        self.clients.insert(client.id, id);
        if let Some(gap_ms) = self.moves.gap_ms(now, id) {
            self.shared.metrics.move_gap.observe(gap_ms as f64 / 1_000.0);
        }
        let motion = world.get(id).map_or_else(|| Motion::standing(player.saved.place, now), |real| real.motion());
        let welcome = ServerMessage::Welcome(Welcome {
            player: id.0,
            resume_token: self.shared.resume_token(player.session, id, next),
            publisher: self.shared.publisher,
            now_ms: now,
            island: player.island.0,
            motion: wire_motion(motion),
            max_speed: player::MAX_SPEED,
            vision_radius_tiles: world.config().vision_radius_tiles,
            linger_tiles: world.config().linger_tiles,
            fallbacks: self.shared.fallbacks(),
            first_operation: world.get(id).map_or(0, |real| real.epoch().0 << 20),
        });
        self.shards.order(client.id, Order::Add(client.sink));
        self.say(client.id, &welcome);
        self.shards.order(client.id, Order::Say(Wire::is_welcomed()));
        self.say(client.id, &ServerMessage::Clocks(self.clocks.clone()));
        self.bags_due.insert(id);
        self.look_at(id, OWN_PARTY);
        let trades = self.players.get(&id).map_or_else(Vec::new, |player| player.trades.iter().copied().collect());
        for trade in trades {
            self.look_at(id, trade);
        }
        let Some(player) = self.players.get(&id) else { return };
        if !player.sight.is_empty() {
            let cells: Vec<Cell> = player.sight.iter().filter(|cell| cell.island == player.island).copied().collect();
            let entered = cells.iter().map(|c| (c.x, c.y)).collect();
            let vision = ServerMessage::Vision { island: player.island.0, entered, left: Vec::new() };
            self.say(client.id, &vision);
            self.asked.extend(cells.into_iter().map(|cell| (client.id, cell)));
        }
    }

    pub(super) fn detach(&mut self, now: u64, client: ClientId) {
        let Some(id) = self.clients.remove(&client) else { return };
        self.moves.lost(id, client);
        self.shards.order(client, Order::Close(None));
        if let Some(player) = self.players.get_mut(&id)
            && player.client == Some(client)
        {
            player.client = None;
            self.lingering.push_back((now + LINGER_MS, id));
        }
    }

    /// Removes a player from the world; its keeper saves and releases the document, then tells `done`.
    ///
    /// Its session may come back elsewhere if this frontend leaves, or if it only had no client for too long; whatever else
    /// ends it ends it for good.
    pub(super) fn close(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        words: Option<(&'static str, &str)>,
        done: Option<oneshot::Sender<()>>,
    ) {
        let heard = self.players.get(&id).is_some_and(|player| player.client.is_some());
        if let Some((code, _)) = words.filter(|_| heard) {
            self.shared.metrics.farewells.with_label_values(&[code]).inc();
        }
        let keeps_seat = words.is_none_or(|(code, _)| code == codes::DRAINING);
        let last = words.map(|(code, text)| farewell(code, text));
        self.leave_all(world, now, id);
        self.remove(world, now, id, last, keeps_seat, done);
    }

    /// Removes a player from the world, out of its battle, trades and party; `last` is what its client is told before its
    /// connection ends. Its session may come back.
    pub(super) fn part(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        last: Option<Wire>,
        done: Option<oneshot::Sender<()>>,
    ) {
        self.leave_all(world, now, id);
        self.remove(world, now, id, last, true, done);
    }

    fn leave_all(&mut self, world: &mut GameWorld, now: u64, id: ObjectId) {
        self.leave_battle(world, now, id);
        self.leave_trades(id);
    }

    /// Removes a player from the world and nothing else: what it is in goes on, for whoever has it next.
    pub(super) fn remove(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        last: Option<Wire>,
        keeps_seat: bool,
        done: Option<oneshot::Sender<()>>,
    ) {
        self.moves.give_up(id);
        self.fighting.remove(&id);
        self.quit_party(id);
        let standing = self.standing(world, now, id);
        let Some(player) = self.players.remove(&id) else { return };
        self.wounded.remove(&id);
        world.remove(now, id);
        if let Some(client) = player.client {
            self.clients.remove(&client);
            self.shards.order(client, Order::Close(last));
        }
        self.shared.end_session(now, player.session);
        player.keeper.leave(standing.unwrap_or(player.saved), keeps_seat, done);
    }
}
