//! The frontend's rules: its players, what they ask for, and what they are shown.
//!
//! Runs inside the world loop, synchronously. Whatever waits (claiming and saving documents, sockets) is elsewhere: the
//! session flows bring players in, keepers save them, shards write to sockets. Here a player is a real in the world, a
//! client that may come and go, and a keeper that guards its document. It NEVER acts for a player while the node's lease
//! is lost.

mod commands;
mod entering;
mod show;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use cartographer::world::{CellFrame, TickOutput};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::Shared;
use super::keeper::Keeper;
use super::shard::{ClientId, Notice, Sink};
use super::shards::Shards;
use super::tickets::SessionId;
use crate::game::{Body, GameWorld};
use crate::load::Load;
use crate::protocol::{self, Command, codes};
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

const _: () = assert!(LINGER_MS > 10 * TICK_MS, "a lost connection must have time to come back");
