//! The frontend's rules: its players, what they ask for, and what they are shown.
//!
//! Runs inside the world loop, synchronously. Whatever waits (claiming and saving documents, sockets) is elsewhere: the
//! session flows bring players in, keepers save them, shards write to sockets. Here a player is a real in the world, a
//! client that may come and go, and a keeper that guards its document. It NEVER acts for a player while the node's lease
//! is lost.

mod commands;
mod entering;
mod show;
mod yielding;

mod fighting;
mod health;
mod hearing;
pub mod moving;
mod sailing;
mod travel;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cartographer::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use cartographer::world::{CellFrame, TickOutput};
use mesh::CallRefusal;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot, watch};

use super::Shared;
use super::acts::{Came, Pace, SeenParty};
use super::keeper::{Keeper, Standing};
use super::operations::Operations;
use super::people::FighterCall;
use super::sessions::Farewell;
use super::shard::{ClientId, Notice, Order, Sink};
use super::shards::Shards;
use super::tickets::SessionId;
use super::wire::Wire;
use crate::battles::Found;
use crate::game::{Body, GameWorld};
use crate::load::Load;
use crate::methods::living::{Changed, Note, Saying};
use crate::protocol::{self, Command, TradeState, codes};
use crate::world_loop::{Input, Rules, TICK_MS};
use fighting::Fights;
use moving::{MoveInput, Moves};

pub(super) use fighting::UNKNOWN;
pub(super) use yielding::{Yields, speed};

/// How long a player without a client stays in the world, waiting for it to come back, in milliseconds.
pub const LINGER_MS: u64 = 30_000;

/// How often a moving player's place is saved, in ticks: every 30 seconds.
const SAVE_TICKS: usize = 600;

/// How often clients are told of clocks that changed, in ticks: once a second.
const CLOCK_TICKS: u64 = 20;

/// How often those who wake things are told what players see, in ticks: as often as they listen.
const LOOKOUT_TICKS: u64 = 4;

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
        /// The turn of its token.
        turn: u64,
        /// Whether whoever has the player was given the time to be heard.
        waited: bool,
        /// The new client.
        client: NewClient,
        /// Told what became of it.
        reply: oneshot::Sender<Attached>,
    },
    /// Asks for the session of a player and the turn of the last token that its client is known to have; none if the player is
    /// not here.
    Seated(ObjectId, oneshot::Sender<Option<(SessionId, u64)>>),
    /// A player goes to another frontend, where a session of it comes in.
    Yield {
        /// Which player.
        player: ObjectId,
        /// The session that comes in there.
        session: SessionId,
        /// The turn of the token with which it comes back; none if it is new.
        turn: Option<u64>,
        /// Whether whoever has the player was given the time to be heard.
        waited: bool,
        /// Told what becomes of the player.
        reply: oneshot::Sender<Result<Yields, Farewell>>,
    },
    /// The document of a player says that this epoch of it is still ours.
    Sure {
        /// Which player.
        player: ObjectId,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Another has claimed a player that was ours.
    Fenced {
        /// Which player.
        player: ObjectId,
        /// The epoch that was ours.
        epoch: Epoch,
        /// What its client is told.
        words: (&'static str, &'static str),
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
        /// Only if this is its session, if one is named.
        session: Option<SessionId>,
        /// Why, as a farewell's code.
        code: &'static str,
        /// For people.
        text: String,
        /// Told when the player's document is saved and released; dropped if the player was not here.
        done: oneshot::Sender<()>,
    },
    /// The flow of an act has ended.
    Acted {
        /// Whose act it was.
        player: ObjectId,
        /// Its number.
        number: u64,
        /// Its name on the wire.
        op: &'static str,
        /// What came of it.
        came: Came,
    },
    /// What a player carries has changed.
    Carries(ObjectId),
    /// Asks whether another player is in reach of one of ours.
    AreNear {
        /// Ours.
        player: ObjectId,
        /// The other.
        other: ObjectId,
        /// Told whether they are.
        reply: oneshot::Sender<Result<(), CallRefusal>>,
    },
    /// Somebody says something.
    Heard(Saying),
    /// Something has changed that may concern players here.
    Changed(Changed),
    /// Something that players here should know.
    Noted(Note),
    /// A trade or a party was looked at for a player.
    Looked(ObjectId, Looked),
    /// A colosseum says something of a fighter.
    Fighter(FighterCall),
    /// A player has joined its battle again, or it is over.
    Rejoined {
        /// Who.
        player: ObjectId,
        /// Which battle.
        battle: u64,
        /// Where it goes on.
        found: Found,
    },
    /// A player is to be put elsewhere.
    Travel {
        /// Who.
        player: ObjectId,
        /// An island of this node.
        island: IslandId,
        /// Where.
        place: Place,
    },
    /// A player leaves for a frontend of another district.
    Depart {
        /// Who.
        player: ObjectId,
        /// Where its client is to connect.
        url: String,
        /// And with what.
        token: String,
        /// Told when its document is saved and released; dropped if the player was not here, or may not sail.
        done: oneshot::Sender<()>,
    },
    /// A player that has left is released: the last words to the client that was its own.
    Parted(ClientId, Wire),
    /// Somebody goes to another frontend, or comes from one.
    Moving(MoveInput),
    /// Everybody must go: the node leaves. Told what each keeper will tell when its document is released.
    CloseAll(oneshot::Sender<Vec<oneshot::Receiver<()>>>),
}

/// What was looked at for a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// A trade, by its number: how it is, if it could be read and the player has a part in it.
    Trade(u64, Option<TradeState>),
    /// The party in which the player is, if it could be read.
    Party(Option<SeenParty>),
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
    /// Where it walks, and how fast, if it does.
    pub walks: Option<(Place, i32)>,
    /// The battle in which it is; 0 if it is in none.
    pub battle: u64,
    /// The turn of the last token that its client is known to have; it gets the next one.
    pub turn: u64,
    /// Its client; without one it lingers.
    pub client: Option<NewClient>,
    /// The lowest number of an act that its document lets in.
    pub floor: u64,
    /// Since when such acts may have been asked for, in seconds since 1970; 0 if that is not known.
    pub floor_s: u64,
    /// The island to which it is brought when it has been defeated.
    pub home: IslandId,
    /// Who guards its document.
    pub keeper: Keeper,
    /// Told whether it is in.
    pub reply: oneshot::Sender<Result<(), Farewell>>,
}

/// What became of a client that came back.
pub enum Attached {
    /// It has its player again.
    Here,
    /// It is too late, or not its player any more.
    Refused(Farewell),
    /// The player is not here.
    Absent(NewClient),
    /// Another client was welcomed after this token was shown, and may yet be heard: to be asked again soon.
    Later(NewClient),
}

/// A connection that wants to be a player's client.
pub struct NewClient {
    /// Its number.
    pub id: ClientId,
    /// Where its bytes go.
    pub sink: Arc<dyn Sink>,
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
    /// It has read its welcome.
    Echo,
    /// It broke the rules and is let go: code, text.
    Expelled(&'static str, String),
}

pub(super) struct Player {
    session: SessionId,
    /// The turn of the last token that its client is known to have: the lowest that is good.
    turn: u64,
    /// Its client was welcomed with the next token and was not heard since: that may never have come.
    unheard: bool,
    /// Surely ours: false from when the lease was lost until the document has said so.
    pub(super) sure: bool,
    island: IslandId,
    client: Option<ClientId>,
    sight: BTreeSet<Cell>,
    pub(super) keeper: Keeper,
    saved: Standing,
    home: IslandId,
    pub(super) operations: Operations,
    pub(super) pace: Pace,
    /// Its open trades, by their numbers on the wire.
    pub(super) trades: BTreeSet<u64>,
    /// Its party, as it was last seen; 0 if it is in none.
    party: u64,
    /// The battle that it was last freed from.
    freed: u64,
    /// Since when it is here, in milliseconds of the node's clock.
    since_ms: u64,
}

/// The rules of a frontend.
pub struct Players {
    pub(super) shared: Arc<Shared>,
    /// Weak, so that the world ends when everybody who feeds it has gone.
    pub(super) inputs: mpsc::WeakSender<Input<FrontInput>>,
    pub(super) players: FxHashMap<ObjectId, Player>,
    pub(super) clients: FxHashMap<ClientId, ObjectId>,
    /// Players without a client, and when they go; oldest first.
    lingering: VecDeque<(u64, ObjectId)>,
    /// All players in turn, for saving.
    round: VecDeque<ObjectId>,
    /// How many saves are due, in parts of [`SAVE_TICKS`].
    saves_due: usize,
    shards: Shards,
    /// Cells that clients asked for again since the last tick; each comes once, however often it was asked for.
    asked: BTreeSet<(ClientId, Cell)>,
    /// What commands that came since the last tick are answered when this one has been published.
    decided: Vec<(ClientId, ObjectId, u32, protocol::Outcome)>,
    clocks: Vec<protocol::Clock>,
    ticks: u64,
    pub(super) lease_held: bool,
    /// Who fights.
    pub(super) fighting: BTreeMap<ObjectId, Fights>,
    /// Who is not well, and since when their health has not come back.
    wounded: BTreeMap<ObjectId, u64>,
    /// Who is to be told their bag with the next tick.
    pub(super) bags_due: BTreeSet<ObjectId>,
    /// What is being looked at for a player, a trade or (0) its party, and whether that has changed since.
    looking: BTreeMap<(ObjectId, u64), bool>,
    /// Who has been told that their island sinks: which one, and how urgently.
    warned: BTreeMap<ObjectId, (IslandId, usize)>,
    /// Own players by party.
    parties: BTreeMap<u64, BTreeSet<ObjectId>>,
    /// The cells that players see, and whether that has changed since it was told.
    sees: (BTreeSet<Cell>, bool),
    watches: watch::Sender<Arc<BTreeSet<Cell>>>,
    /// Who goes to other frontends, and comes from them.
    moves: Moves,
}

impl Players {
    /// No players yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        shards: Shards,
        inputs: mpsc::WeakSender<Input<FrontInput>>,
        watches: watch::Sender<Arc<BTreeSet<Cell>>>,
    ) -> Players {
        Players {
            shared,
            inputs,
            players: FxHashMap::default(),
            clients: FxHashMap::default(),
            lingering: VecDeque::new(),
            round: VecDeque::new(),
            saves_due: 0,
            shards,
            asked: BTreeSet::new(),
            decided: Vec::new(),
            clocks: Vec::new(),
            ticks: 0,
            lease_held: true,
            fighting: BTreeMap::new(),
            wounded: BTreeMap::new(),
            bags_due: BTreeSet::new(),
            looking: BTreeMap::new(),
            warned: BTreeMap::new(),
            parties: BTreeMap::new(),
            sees: (BTreeSet::new(), false),
            watches,
            moves: Moves::default(),
        }
    }

    /// What the document is to keep of a player as it is now.
    fn standing(&mut self, world: &GameWorld, now: u64, id: ObjectId) -> Option<Standing> {
        let health = self.health_of(world, id);
        let player = self.players.get_mut(&id)?;
        let real = world.get(id)?;
        let (island, place, floor) = (player.island, real.place(now), player.operations.floor(now));
        let floor_s = self.shared.calendar.now_s().saturating_sub(player.operations.oldest_ms(now).div_ceil(1_000));
        Some(Standing { island, place, health, floor, floor_s, turn: player.turn })
    }

    /// Whether this node may act for a player at this moment: its lease holds, and if it did not for a while the player's
    /// document has said since that it is still ours.
    pub(super) fn acts_for(&self, id: ObjectId) -> bool {
        self.may_own() && self.players.get(&id).is_some_and(|player| player.sure)
    }

    /// Whether the node's lease holds: also asked of the lease itself, which knows it before anybody is told.
    pub(super) fn may_own(&self) -> bool {
        self.lease_held && self.shared.mesh.lease().holds()
    }

    /// Has a player saved.
    fn save(&mut self, world: &GameWorld, now: u64, id: ObjectId) {
        if !self.may_own() {
            return;
        }
        let Some(standing) = self.standing(world, now, id) else { return };
        let Some(player) = self.players.get_mut(&id) else { return };
        if standing.is_saved_by(&player.saved) {
            player.keeper.visit();
        } else if player.keeper.save(standing) {
            player.saved = standing;
        }
    }

    /// Tells those who wake things what players see.
    fn look_out(&mut self, out: &TickOutput) {
        let (seen, fresh) = &mut self.sees;
        *fresh |= !out.watch.is_empty() || !out.unwatch.is_empty();
        seen.extend(out.watch.iter().copied());
        for cell in &out.unwatch {
            seen.remove(cell);
        }
        if *fresh && self.ticks.is_multiple_of(LOOKOUT_TICKS) {
            *fresh = false;
            self.watches.send_replace(Arc::new(seen.clone()));
        }
    }

    /// Saves the places of a share of the players, so that all have their turn every [`SAVE_TICKS`].
    fn save_some(&mut self, world: &GameWorld, now: u64) {
        self.saves_due += self.round.len();
        while self.saves_due >= SAVE_TICKS {
            self.saves_due -= SAVE_TICKS;
            let Some(id) = self.round.pop_front() else { return };
            if !self.players.contains_key(&id) {
                continue;
            }
            self.round.push_back(id);
            self.save(world, now, id);
        }
    }
}

impl Rules for Players {
    type Input = FrontInput;

    fn input(&mut self, world: &mut GameWorld, now: u64, input: FrontInput) {
        match input {
            FrontInput::Join(join) => self.join(world, now, *join),
            FrontInput::Attach { player, session, turn, waited, client, reply } => {
                let attached = self.attach(world, now, player, (session, turn, waited), client);
                // An error means that the connection has ended meanwhile: its sink will say so.
                let _ = reply.send(attached);
            }
            FrontInput::Seated(player, reply) => {
                // An error means that nobody waits for it.
                let _ = reply.send(self.players.get(&player).map(|player| (player.session, player.turn)));
            }
            FrontInput::Yield { player, session, turn, waited, reply } => {
                // An error means that nobody waits for it: the player is released all the same.
                let _ = reply.send(self.yield_to(world, now, player, session, turn, waited));
            }
            FrontInput::Sure { player, epoch } => self.sure(world, player, epoch),
            FrontInput::Fenced { player, epoch, words } => self.fenced(world, now, player, epoch, words),
            FrontInput::Detach(client) => self.detach(now, client),
            FrontInput::Said(client, said) => self.said(world, now, client, said),
            FrontInput::Notices(notices) => {
                for notice in notices {
                    self.notice(world, now, notice);
                }
            }
            FrontInput::Close { player, session, code, text, done } => {
                let present = self.players.get(&player).map(|player| player.session);
                if session.is_none() || session == present {
                    self.close(world, now, player, Some((code, &text)), Some(done));
                }
            }
            FrontInput::Acted { player, number, op, came } => self.acted(world, now, player, number, op, came),
            FrontInput::Carries(player) => drop(self.bags_due.insert(player)),
            FrontInput::AreNear { player, other, reply } => {
                // An error means that whoever asked has given up.
                let _ = reply.send(self.are_near(world, now, player, other));
            }
            FrontInput::Heard(saying) => self.hear(world, now, &saying),
            FrontInput::Changed(changed) => self.changed(&changed),
            FrontInput::Noted(note) => self.noted(&note),
            FrontInput::Looked(player, looked) => self.looked(world, now, player, looked),
            FrontInput::Fighter(call) => self.fighter(world, now, call),
            FrontInput::Rejoined { player, battle, found } => self.rejoined(world, now, player, battle, found),
            FrontInput::Travel { player, island, place } => {
                if self.players.contains_key(&player) {
                    self.travel(world, now, player, island, place);
                }
            }
            FrontInput::Depart { player, url, token, done } => self.depart(world, now, player, (url, token), done),
            FrontInput::Parted(client, last) => self.shards.order(client, Order::Close(Some(last))),
            FrontInput::Moving(input) => self.moving(world, now, input),
            FrontInput::CloseAll(reply) => {
                self.end_moves(world, now);
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
        self.tell_decided(world);
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
            self.check_rooms(world, now, true);
            self.heal(world, now);
            self.look_at_islands(world, now);
        }
        self.check_rooms(world, now, false);
        for fenced in &out.fenced {
            if let Some(player) = self.players.get(fenced) {
                player.keeper.check();
            }
        }
        self.look_at_moves(world, now, &out.fenced);
        self.show(world, out);
        self.show_bags(world);
        self.look_out(out);
        self.save_some(world, now);
        self.shards.send(frames);
        self.shared.metrics.players.set(self.players.len() as i64);
        self.shared.metrics.players_in_battle.set(self.fighting.len() as i64);
        self.shared.metrics.clients.set(self.clients.len() as i64);
    }

    fn lease(&mut self, world: &mut GameWorld, now: u64, held: bool) {
        self.lease_held = held;
        if held {
            // Others may have taken over meanwhile: every keeper looks whether the document is still ours.
            self.players.values().for_each(|p| p.keeper.check());
            return;
        }
        self.players.values_mut().for_each(|player| player.sure = false);
        let ids: Vec<ObjectId> = self.players.keys().copied().collect();
        for id in ids {
            // Who stands already stays so; the refusal means nothing else.
            let _ = world.stop(now, id);
        }
    }

    fn load(&self, load: &mut Load) {
        load.players = self.players.len() as u32;
        load.capacity = self.shared.config.capacity;
        load.expected = self.shared.expected().count(self.shared.mesh.now_ms());
        load.draining |= !self.lease_held;
    }
}

const _: () = assert!(LINGER_MS > 10 * TICK_MS, "a lost connection must have time to come back");
