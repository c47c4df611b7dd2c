//! The frontend's rules: its players, what they ask for, and what they are shown.
//!
//! Runs inside the world loop, synchronously. Whatever waits (claiming and saving documents, sockets) is elsewhere: the
//! session flows bring players in, keepers save them, shards write to sockets. Here a player is a real in the world, a
//! client that may come and go, and a keeper that guards its document. It NEVER acts for a player while the node's lease
//! is lost.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use cartographer::motion::Motion;
use cartographer::world::{CellFrame, TickOutput, WalkRefusal};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;

use super::Shared;
use super::keeper::Keeper;
use super::shard::{ClientId, Gone, Notice, Order, Sink};
use super::shards::Shards;
use super::tickets::SessionId;
use super::wire::Wire;
use crate::game::{Body, GameWorld, player};
use crate::load::Load;
use crate::protocol::{self, Command, Outcome, ServerMessage, Welcome, codes};
use crate::world_loop::{Rules, TICK_MS};

/// How long a player without a client stays in the world, waiting for it to come back, in milliseconds.
pub const LINGER_MS: u64 = 30_000;

/// How often a moving player's place is saved, in ticks: every 30 seconds.
const SAVE_TICKS: usize = 600;

/// How often clients are told of clocks that changed, in ticks: once a second.
const CLOCK_TICKS: u64 = 20;

/// How far a clock's offset must move before clients are told, in milliseconds.
const CLOCK_SHIFT_MS: i64 = 5;

/// What the session flows and the shards tell the rules.
pub enum FrontInput {
    /// A claimed player comes in.
    Join(Box<Join>),
    /// A client comes back to its player.
    Attach {
        /// Which player.
        player: ObjectId,
        /// Under which session.
        session: SessionId,
        /// The new client.
        client: NewClient,
        /// True if the player was still there.
        reply: oneshot::Sender<bool>,
    },
    /// A client's connection has ended; its player lingers.
    Detach(ClientId),
    /// A client said something.
    Said(ClientId, Said),
    /// What the shards noticed.
    Notices(Vec<Notice>),
    /// A player must go: a newer session, another owner, an operator.
    Close {
        /// Which player.
        player: ObjectId,
        /// Why, as a farewell's code.
        code: &'static str,
        /// For people.
        text: String,
        /// Told when the player's document is saved and released; dropped if the player was not here.
        done: oneshot::Sender<()>,
    },
    /// Everybody must go: the node leaves. Told what each keeper will tell when its document is released.
    CloseAll(oneshot::Sender<Vec<oneshot::Receiver<()>>>),
}

/// A player that comes in.
pub struct Join {
    /// Its id.
    pub player: ObjectId,
    /// Its session.
    pub session: SessionId,
    /// The epoch under which its document was claimed.
    pub epoch: Epoch,
    /// What it is.
    pub body: Body,
    /// Where it begins.
    pub island: IslandId,
    /// Where it begins.
    pub place: Place,
    /// Its client.
    pub client: NewClient,
    /// Who guards its document.
    pub keeper: Keeper,
    /// Told whether it is in.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// A connection that wants to be a player's client.
pub struct NewClient {
    /// Its number.
    pub id: ClientId,
    /// Where its bytes go.
    pub sink: Arc<dyn Sink>,
    /// The token by which it may come back.
    pub resume_token: String,
}

/// What a client may say once it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A command, to be answered under its number.
    Command(u32, Command),
    /// A command that cannot be carried out, to be refused: number, code, text.
    Refused(Option<u32>, &'static str, String),
    /// Keyframes are wanted again.
    Ask(Vec<(u16, u16)>),
    /// A ping of the protocol.
    Ping(i64),
    /// A ping of WebSocket itself, with its payload.
    Knock(Bytes),
    /// It broke the rules and is let go: code, text.
    Expelled(&'static str, String),
}

struct Player {
    session: SessionId,
    island: IslandId,
    client: Option<ClientId>,
    sight: BTreeSet<Cell>,
    keeper: Keeper,
    saved: Place,
}

/// The rules of a frontend.
pub struct Players {
    shared: Arc<Shared>,
    players: FxHashMap<ObjectId, Player>,
    clients: FxHashMap<ClientId, ObjectId>,
    /// Players without a client, and when they go; oldest first.
    lingering: VecDeque<(u64, ObjectId)>,
    /// All players in turn, for saving.
    round: VecDeque<ObjectId>,
    /// How many saves are due, in parts of [`SAVE_TICKS`].
    saves_due: usize,
    shards: Shards,
    /// Cells that clients asked for again since the last tick; each comes once, however often it was asked for.
    asked: BTreeSet<(ClientId, Cell)>,
    clocks: Vec<protocol::Clock>,
    ticks: u64,
    lease_held: bool,
}

impl Players {
    /// No players yet.
    pub(super) fn new(shared: Arc<Shared>, shards: Shards) -> Players {
        Players {
            shared,
            players: FxHashMap::default(),
            clients: FxHashMap::default(),
            lingering: VecDeque::new(),
            round: VecDeque::new(),
            saves_due: 0,
            shards,
            asked: BTreeSet::new(),
            clocks: Vec::new(),
            ticks: 0,
            lease_held: true,
        }
    }

    fn join(&mut self, world: &mut GameWorld, now: u64, join: Join) {
        let Join { player: id, session, epoch, body, island, place, client, keeper, reply } = join;
        if !self.lease_held {
            let _ = reply.send(Err("this frontend's lease is lost: try again".to_owned()));
            return;
        }
        if self.players.len() >= self.shared.config.capacity as usize {
            let _ = reply.send(Err(format!("this frontend is full ({} players)", self.players.len())));
            return;
        }
        if let Err(e) = world.spawn(now, id, epoch, island, place, body, true) {
            let _ = reply.send(Err(e.to_string()));
            return;
        }
        let fresh = Player { session, island, client: None, sight: BTreeSet::new(), keeper, saved: place };
        self.players.insert(id, fresh);
        self.round.push_back(id);
        self.connect(world, now, id, client);
        // If the flow has given up meanwhile, the player lingers and goes.
        let _ = reply.send(Ok(()));
    }

    /// Makes `client` the player's client: welcome, clocks, and whatever it sees already.
    fn connect(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, client: NewClient) {
        let Some(player) = self.players.get_mut(&id) else { return };
        if let Some(old) = player.client.replace(client.id) {
            self.clients.remove(&old);
            self.shared.metrics.farewells.with_label_values(&[codes::REPLACED]).inc();
            self.shards.order(old, Order::Close(Some(farewell(codes::REPLACED, "another connection has taken over"))));
        }
        self.clients.insert(client.id, id);
        let motion = world.get(id).map_or_else(|| Motion::standing(player.saved, now), |real| real.motion());
        let welcome = ServerMessage::Welcome(Welcome {
            player: id.0,
            resume_token: client.resume_token,
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
        self.say(client.id, &ServerMessage::Clocks(self.clocks.clone()));
        let Some(player) = self.players.get(&id) else { return };
        if !player.sight.is_empty() {
            let cells: Vec<Cell> = player.sight.iter().copied().collect();
            let entered = cells.iter().map(|c| (c.x, c.y)).collect();
            let vision = ServerMessage::Vision { island: player.island.0, entered, left: Vec::new() };
            self.say(client.id, &vision);
            self.asked.extend(cells.into_iter().map(|cell| (client.id, cell)));
        }
    }

    fn say(&mut self, client: ClientId, message: &ServerMessage) {
        self.shards.order(client, Order::Say(Wire::new(message.encode())));
    }

    fn detach(&mut self, now: u64, client: ClientId) {
        let Some(id) = self.clients.remove(&client) else { return };
        self.shards.order(client, Order::Close(None));
        if let Some(player) = self.players.get_mut(&id)
            && player.client == Some(client)
        {
            player.client = None;
            self.lingering.push_back((now + LINGER_MS, id));
        }
    }

    /// Removes a player from the world; its keeper saves and releases the document, then tells `done`.
    fn close(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        words: Option<(&'static str, &str)>,
        done: Option<oneshot::Sender<()>>,
    ) {
        let Some(player) = self.players.remove(&id) else { return };
        let place = world.get(id).map_or(player.saved, |real| real.place(now));
        world.remove(now, id);
        if let Some(client) = player.client {
            self.clients.remove(&client);
            let last = words.map(|(code, text)| farewell(code, text));
            if let Some((code, _)) = words {
                self.shared.metrics.farewells.with_label_values(&[code]).inc();
            }
            self.shards.order(client, Order::Close(last));
        }
        self.shared.end_session(now, player.session);
        player.keeper.leave(player.island, place, done);
    }

    fn said(&mut self, world: &mut GameWorld, now: u64, client: ClientId, said: Said) {
        let Some(&id) = self.clients.get(&client) else { return };
        match said {
            Said::Command(seq, command) => {
                self.shared.metrics.commands.with_label_values(&[command.op()]).inc();
                let outcome = self.command(world, now, id, &command);
                if let Outcome::Refused { code, .. } = &outcome {
                    self.shared.metrics.refusals.with_label_values(&[code]).inc();
                }
                self.say(client, &ServerMessage::Answer { seq, outcome });
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
            Said::Expelled(code, text) => self.close(world, now, id, Some((code, &text)), None),
        }
    }

    fn command(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, command: &Command) -> Outcome {
        let truth = world.get(id).map(|real| wire_motion(real.motion()));
        let refused = |code: &str, text: String| Outcome::Refused { code: code.to_owned(), text, motion: truth };
        if !self.lease_held {
            return refused(
                codes::UNAVAILABLE,
                "this frontend has lost its lease for the moment: try again".to_owned(),
            );
        }
        match *command {
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
            Command::Act { .. } => refused(codes::UNKNOWN_OP, "no such command yet".to_owned()),
            Command::Stop => match world.stop(now, id) {
                Some(motion) => Outcome::Ok { motion: Some(wire_motion(motion)) },
                None => refused(codes::UNAVAILABLE, "the player is not in this world any more".to_owned()),
            },
        }
    }

    fn notice(&mut self, world: &mut GameWorld, now: u64, notice: Notice) {
        match notice {
            Notice::Refresh(client, cells) => {
                let player = self.clients.get(&client).and_then(|id| self.players.get(id));
                if let Some(player) = player {
                    let seen = cells.into_iter().filter(|c| player.sight.contains(c));
                    self.asked.extend(seen.map(|cell| (client, cell)));
                }
            }
            Notice::Gone(client, why) => {
                if why == Gone::Slow {
                    self.shared.metrics.farewells.with_label_values(&[codes::SLOW]).inc();
                }
                self.detach(now, client);
            }
        }
        let _ = world;
    }

    /// Tells every client whose sight changed, and brings the keyframes that were asked for.
    fn show(&mut self, world: &mut GameWorld, out: &TickOutput) {
        // Many clients enter the same cells in one tick: each keyframe gets its header once.
        let mut keyframes: FxHashMap<Cell, Vec<Wire>> = FxHashMap::default();
        let mut fresh = FxHashSet::default();
        for change in &out.vision {
            let Some(player) = self.players.get_mut(&change.object) else { continue };
            for cell in &change.left {
                player.sight.remove(cell);
            }
            player.sight.extend(change.entered.iter().copied());
            let Some(client) = player.client else { continue };
            let vision = ServerMessage::Vision {
                island: player.island.0,
                entered: change.entered.iter().map(|c| (c.x, c.y)).collect(),
                left: change.left.iter().map(|c| (c.x, c.y)).collect(),
            };
            self.shards.order(client, Order::Say(Wire::new(vision.encode())));
            for cell in &change.left {
                self.shards.order(client, Order::Leave(*cell));
            }
            for cell in &change.entered {
                let wires = keyframes.entry(*cell).or_insert_with(|| wires(world.all_keyframes(*cell)));
                self.shards.order(client, Order::Enter(*cell, wires.clone()));
                fresh.insert((client, *cell));
            }
        }
        for (client, cell) in std::mem::take(&mut self.asked) {
            let wires = keyframes.entry(cell).or_insert_with(|| wires(world.all_keyframes(cell)));
            if !fresh.contains(&(client, cell)) {
                self.shards.order(client, Order::Enter(cell, wires.clone()));
            }
        }
    }

    /// Tells all clients when a publisher appears or its clock has moved.
    fn tell_clocks(&mut self) {
        let now = self.shared.clocks();
        let same = now.len() == self.clocks.len()
            && now
                .iter()
                .zip(&self.clocks)
                .all(|(a, b)| a.publisher == b.publisher && (a.offset_ms - b.offset_ms).abs() <= CLOCK_SHIFT_MS);
        if same {
            return;
        }
        self.clocks = now;
        let wire = Wire::new(ServerMessage::Clocks(self.clocks.clone()).encode());
        for client in self.clients.keys() {
            self.shards.order(*client, Order::Say(wire.clone()));
        }
    }

    /// Saves the places of a share of the players, so that all have their turn every [`SAVE_TICKS`].
    fn save_some(&mut self, world: &GameWorld, now: u64) {
        self.saves_due += self.round.len();
        while self.saves_due >= SAVE_TICKS {
            self.saves_due -= SAVE_TICKS;
            let Some(id) = self.round.pop_front() else { return };
            let Some(player) = self.players.get_mut(&id) else { continue };
            self.round.push_back(id);
            if let Some(real) = world.get(id) {
                let place = real.place(now);
                if place == player.saved {
                    player.keeper.visit();
                } else if player.keeper.save(player.island, place) {
                    player.saved = place;
                }
            }
        }
    }
}

impl Rules for Players {
    type Input = FrontInput;

    fn input(&mut self, world: &mut GameWorld, now: u64, input: FrontInput) {
        match input {
            FrontInput::Join(join) => self.join(world, now, *join),
            FrontInput::Attach { player, session, client, reply } => {
                let here = self.players.get(&player).is_some_and(|p| p.session == session);
                if here {
                    self.connect(world, now, player, client);
                }
                let _ = reply.send(here);
            }
            FrontInput::Detach(client) => self.detach(now, client),
            FrontInput::Said(client, said) => self.said(world, now, client, said),
            FrontInput::Notices(notices) => {
                for notice in notices {
                    self.notice(world, now, notice);
                }
            }
            FrontInput::Close { player, code, text, done } => {
                self.close(world, now, player, Some((code, &text)), Some(done));
            }
            FrontInput::CloseAll(reply) => {
                let mut ids: Vec<ObjectId> = self.players.keys().copied().collect();
                ids.sort_unstable();
                let released = ids.into_iter().map(|id| {
                    let (done, released) = oneshot::channel();
                    self.close(world, now, id, Some((codes::DRAINING, "this frontend is leaving")), Some(done));
                    released
                });
                // An error means that nobody waits for them.
                let _ = reply.send(released.collect());
            }
        }
    }

    fn ticked(&mut self, world: &mut GameWorld, now: u64, out: &TickOutput, frames: Vec<CellFrame>) {
        self.ticks += 1;
        while let Some(&(due, id)) = self.lingering.front()
            && due <= now
        {
            self.lingering.pop_front();
            let alone = self.players.get(&id).is_some_and(|p| p.client.is_none());
            // A player that came back and left again lingers by a later entry.
            if alone && !self.lingering.iter().any(|(_, other)| *other == id) {
                self.close(world, now, id, None, None);
            }
        }
        if self.ticks % CLOCK_TICKS == 1 {
            self.tell_clocks();
        }
        for fenced in &out.fenced {
            if let Some(player) = self.players.get(fenced) {
                player.keeper.check();
            }
        }
        self.show(world, out);
        self.save_some(world, now);
        self.shards.send(frames);
        self.shared.metrics.players.set(self.players.len() as i64);
        self.shared.metrics.clients.set(self.clients.len() as i64);
    }

    fn lease(&mut self, world: &mut GameWorld, now: u64, held: bool) {
        self.lease_held = held;
        if held {
            // Others may have taken over meanwhile: every keeper looks whether the document is still ours.
            self.players.values().for_each(|p| p.keeper.check());
            return;
        }
        let ids: Vec<ObjectId> = self.players.keys().copied().collect();
        for id in ids {
            // Who stands already stays so; the refusal means nothing else.
            let _ = world.stop(now, id);
        }
    }

    fn load(&self, load: &mut Load) {
        load.players = self.players.len() as u32;
        load.capacity = self.shared.config.capacity;
        load.draining = !self.lease_held || self.shared.draining();
    }
}

fn wires(keyframes: Vec<Bytes>) -> Vec<Wire> {
    keyframes.into_iter().map(Wire::new).collect()
}

fn walk_code(refusal: &WalkRefusal) -> &'static str {
    match refusal {
        WalkRefusal::OutOfPlace { .. } => codes::OUT_OF_PLACE,
        WalkRefusal::Blocked { .. } => codes::BLOCKED,
        _ => codes::UNAVAILABLE,
    }
}

/// A motion as the client protocol writes it.
pub(super) fn wire_motion(motion: Motion) -> protocol::Motion {
    protocol::Motion {
        x: motion.from.x,
        y: motion.from.y,
        vx: motion.velocity.0,
        vy: motion.velocity.1,
        since_ms: motion.since,
        duration_ms: motion.duration_ms,
    }
}

fn farewell(code: &str, text: &str) -> Wire {
    Wire::new(ServerMessage::Farewell { code: code.to_owned(), text: text.to_owned() }.encode())
}

const _: () = assert!(LINGER_MS > 10 * TICK_MS, "a lost connection must have time to come back");
