//! Players that go to another frontend, and those that come from one, as far as the world is concerned.
//!
//! Who goes is frozen first: what its client says from then on is not answered here but asked for again where it goes. When its
//! acts have ended (or [`ACTS_MS`] have passed) its document is saved and released, and it is no player of this node any more.
//! Its real stays in sight until the new owner shows it, so that nobody sees it vanish; then its client gets its last words.
//! Nothing here waits, and a player that was released is NEVER acted for.

use std::collections::{BTreeMap, VecDeque};

use cartographer::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use cartographer::ground::Ground;
use cartographer::vision::SightRules;
use tokio::sync::oneshot;

use super::hearing::OWN_PARTY;
use super::show::farewell;
use super::yielding::{battle, walks};
use super::{Players, Said};
use crate::frontend::shard::{ClientId, Order};
use crate::frontend::tickets::SessionId;
use crate::frontend::wire::Wire;
use crate::game::GameWorld;
use crate::methods::moving::{Expect, TRADES};
use crate::protocol::{ServerMessage, codes};

/// How long the acts of a player that goes are waited for, in milliseconds.
pub const ACTS_MS: u64 = 1_000;

/// How long a player that was released stays in sight at most while another frontend takes it, in milliseconds: longer than
/// all that is tried then.
const TAKING_MS: u64 = 30_000;

/// How long it stays in sight after it was taken, if its new owner is not seen, in milliseconds.
const SHOWN_MS: u64 = 1_000;

/// How long it is remembered who went, in milliseconds: what others still say to them here is not answered.
const REMEMBERED_MS: u64 = 20_000;

/// How long the surroundings of a player that is expected stay watched, in milliseconds.
const WATCHED_MS: u64 = 10_000;

/// Players that may be expected at once; of more the surroundings are not watched.
const EXPECTED: usize = 1_024;

/// How long after it came in a walk may have gone on that nobody steered meanwhile, in milliseconds.
const WALKED_MS: u64 = 2_000;

const _: () = assert!(ACTS_MS < TAKING_MS && SHOWN_MS < TAKING_MS);

/// What the flows of moving tell the world.
pub enum MoveInput {
    /// Who is here.
    Roll(oneshot::Sender<Vec<Stays>>),
    /// Somebody is about to come: told when what it will see is known.
    Expect(Expect, oneshot::Sender<()>),
    /// A player is to go. Told when it is on its way; dropped if it is not here or goes by another way.
    LetGo(ObjectId, oneshot::Sender<LetGo>),
    /// A player that was let go is elsewhere, or nowhere: the last words to its client.
    Went(ObjectId, Wire),
    /// A player that came from another frontend is in.
    Came(Box<Came>),
}

/// A player that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// Who.
    pub player: ObjectId,
    /// Where.
    pub island: IslandId,
    /// Where.
    pub place: Place,
    /// What it sees.
    pub sees: Vec<Cell>,
    /// Since when it is here, in milliseconds of this node's clock.
    pub since_ms: u64,
}

/// A player that is on its way.
pub struct LetGo {
    /// Its session.
    pub session: SessionId,
    /// The turn of the last token that its client is known to have.
    pub turn: u64,
    /// The epoch under which it was held.
    pub epoch: Epoch,
    /// Where it was going (1/256 tile) and how fast (1/256 tile a second), if it did.
    pub walks: Option<((i32, i32), i32)>,
    /// Its battle, or 0.
    pub battle: u64,
    /// When it was where its document says.
    pub at_ms: u64,
    /// Its open trades.
    pub trades: Vec<u64>,
    /// Whether it has a client.
    pub client: bool,
    /// Told when its document is released, or could not be for long; dropped if another owns it.
    pub released: oneshot::Receiver<()>,
}

/// A player that came.
pub struct Came {
    /// Who.
    pub player: ObjectId,
    /// Where it was going and how fast, if it did.
    pub walks: Option<(Place, i32)>,
    /// For how long it has gone on meanwhile, in milliseconds.
    pub walked_ms: u64,
    /// Its open trades.
    pub trades: Vec<u64>,
    /// A client is about to follow it, which has been nobody's for so long already, in milliseconds.
    pub followed: Option<u64>,
}

/// Those who go and come.
#[derive(Default)]
pub(super) struct Moves {
    /// Frozen, until their acts have ended or this time is over.
    frozen: BTreeMap<ObjectId, (u64, oneshot::Sender<LetGo>)>,
    /// Released, and still in sight until then.
    leaving: BTreeMap<ObjectId, Leaving>,
    /// Who went, and until when that is remembered; oldest first in `gone_order`.
    gone: BTreeMap<ObjectId, u64>,
    gone_order: VecDeque<(u64, ObjectId)>,
    /// Cells that are watched for those who are about to come, and until when; oldest first.
    watched: VecDeque<(u64, Vec<Cell>)>,
    /// Who waits until such cells are known.
    expected: Vec<(Vec<Cell>, oneshot::Sender<()>)>,
    /// Whose clients are about to follow them, and since when.
    followed: BTreeMap<ObjectId, u64>,
}

struct Leaving {
    client: Option<ClientId>,
    until_ms: u64,
    /// Its new owner shows it.
    shown: bool,
}

impl Moves {
    /// Whether what its client says is not for this node any more.
    pub(super) fn holds_back(&self, id: ObjectId) -> bool {
        self.frozen.contains_key(&id) || self.leaving.contains_key(&id)
    }

    /// Whether it has gone to another frontend of late: what is said to it here is late.
    pub(super) fn went(&self, id: ObjectId) -> bool {
        self.gone.contains_key(&id)
    }

    /// A client is lost whose player is on its way.
    pub(super) fn lost(&mut self, id: ObjectId, client: ClientId) {
        if let Some(leaving) = self.leaving.get_mut(&id)
            && leaving.client == Some(client)
        {
            leaving.client = None;
        }
    }

    /// A player goes by another way: whoever wanted it to move hears nothing.
    pub(super) fn give_up(&mut self, id: ObjectId) {
        self.frozen.remove(&id);
        self.followed.remove(&id);
    }

    /// How long a player was nobody's whose client is here now, if it came from another frontend.
    pub(super) fn gap_ms(&mut self, now: u64, id: ObjectId) -> Option<u64> {
        self.followed.remove(&id).map(|since| now.saturating_sub(since))
    }
}

impl Players {
    pub(super) fn moving(&mut self, world: &mut GameWorld, now: u64, input: MoveInput) {
        match input {
            MoveInput::Roll(reply) => {
                // An error means that nobody waits for it.
                let _ = reply.send(self.roll(world, now));
            }
            MoveInput::Expect(expect, reply) => self.expect(world, now, &expect, reply),
            MoveInput::LetGo(id, reply) => {
                // Without the right to act as an owner nothing is given away.
                if self.acts_for(id) {
                    self.moves.frozen.insert(id, (now + ACTS_MS, reply));
                    self.let_go_if_done(world, now, id);
                }
            }
            MoveInput::Went(id, last) => self.went(now, id, last),
            MoveInput::Came(came) => self.came(world, now, *came),
        }
    }

    fn roll(&self, world: &GameWorld, now: u64) -> Vec<Stays> {
        let stays = |(id, player): (&ObjectId, &super::Player)| {
            let real = world.get(*id)?;
            let (island, sees) = (player.island, player.sight.iter().copied().collect());
            Some(Stays { player: *id, island, place: real.place(now), sees, since_ms: player.since_ms })
        };
        let mut roll: Vec<Stays> = self.players.iter().filter_map(stays).collect();
        roll.sort_unstable_by_key(|stays| stays.player);
        roll
    }

    /// Watches what a player will see, for a while.
    fn expect(&mut self, world: &mut GameWorld, now: u64, expect: &Expect, reply: oneshot::Sender<()>) {
        let Some(terrain) = self.shared.islands.get(expect.island) else { return };
        if self.moves.watched.len() >= EXPECTED || self.moves.expected.len() >= EXPECTED {
            // An error means that nobody waits for it.
            let _ = reply.send(());
            return;
        }
        let config = world.config();
        let rules = SightRules::new(config.vision_radius_tiles, config.linger_tiles);
        let place = Place::new(expect.place.0, expect.place.1);
        let cells: Vec<Cell> = rules.look(expect.island, terrain.size(), place, None).cells().collect();
        world.watch_cells(cells.iter().copied());
        self.moves.watched.push_back((now + WATCHED_MS, cells.clone()));
        self.moves.expected.push((cells, reply));
        self.tell_expected(world);
    }

    fn tell_expected(&mut self, world: &GameWorld) {
        let waiting = std::mem::take(&mut self.moves.expected);
        for (cells, reply) in waiting {
            if reply.is_closed() {
                continue;
            }
            if cells.iter().all(|cell| world.knows(*cell)) {
                // An error means that whoever asked has lost patience.
                let _ = reply.send(());
            } else {
                self.moves.expected.push((cells, reply));
            }
        }
    }

    /// What a client says whose player is on its way: only what needs no player is answered.
    pub(super) fn said_on_the_way(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        client: ClientId,
        id: ObjectId,
        said: Said,
    ) {
        match said {
            Said::Ping(t) => self.say(client, &ServerMessage::Pong { t, now_ms: now }),
            Said::Knock(payload) => self.shards.order(client, Order::Say(Wire::pong(payload))),
            Said::Expelled(code, text) if self.players.contains_key(&id) => {
                self.close(world, now, id, Some((code, &text)), None);
            }
            Said::Expelled(code, text) => {
                self.clients.remove(&client);
                self.moves.lost(id, client);
                self.shards.order(client, Order::Close(Some(farewell(code, &text))));
            }
            // It asks again where it goes.
            Said::Command(..) | Said::Refused(..) | Said::Ask(_) | Said::Echo => {}
        }
    }

    /// Lets a frozen player go if nothing of it is under way any more, or that was waited for long enough.
    fn let_go_if_done(&mut self, world: &mut GameWorld, now: u64, id: ObjectId) {
        let Some((until_ms, reply)) = self.moves.frozen.get(&id) else { return };
        let busy = self.players.get(&id).is_some_and(|player| player.operations.under_way() > 0);
        if reply.is_closed() || !self.players.contains_key(&id) {
            self.moves.frozen.remove(&id);
        } else if !busy || now >= *until_ms {
            self.let_go(world, now, id);
        }
    }

    fn let_go(&mut self, world: &mut GameWorld, now: u64, id: ObjectId) {
        let Some((_, reply)) = self.moves.frozen.remove(&id) else { return };
        let Some(epoch) = world.get(id).map(cartographer::world::Real::epoch) else { return };
        let standing = self.standing(world, now, id);
        let (walks, battle) = (walks(world, now, id), battle(world, id));
        self.fighting.remove(&id);
        self.quit_party(id);
        let Some(player) = self.players.remove(&id) else { return };
        self.wounded.remove(&id);
        let (released, done) = oneshot::channel();
        let let_go = LetGo {
            session: player.session,
            turn: player.turn,
            epoch,
            walks,
            battle,
            at_ms: now,
            trades: player.trades.iter().copied().take(TRADES).collect(),
            client: player.client.is_some(),
            released: done,
        };
        self.moves.leaving.insert(id, Leaving { client: player.client, until_ms: now + TAKING_MS, shown: false });
        self.moves.gone.insert(id, now + REMEMBERED_MS);
        self.moves.gone_order.push_back((now + REMEMBERED_MS, id));
        self.shared.end_session(now, player.session);
        player.keeper.leave(standing.unwrap_or(player.saved), true, Some(released));
        // An error means that whoever wanted it has given up: it is released, and the time in sight ends by itself.
        let _ = reply.send(let_go);
    }

    /// A player that was let go is where it is: its client is told, and it is soon out of sight here.
    fn went(&mut self, now: u64, id: ObjectId, last: Wire) {
        let Some(leaving) = self.moves.leaving.get_mut(&id) else { return };
        leaving.until_ms = if leaving.shown { now } else { now + SHOWN_MS };
        if let Some(client) = leaving.client.take() {
            self.clients.remove(&client);
            self.shards.order(client, Order::Close(Some(last)));
        }
    }

    /// A player that was let go is not in sight here any more.
    pub(super) fn take_out_of_sight(&mut self, world: &mut GameWorld, now: u64, id: ObjectId) {
        let Some(leaving) = self.moves.leaving.remove(&id) else { return };
        if let Some(client) = leaving.client {
            self.clients.remove(&client);
            let last = farewell(codes::DRAINING, "this frontend has let the player go: come back to another");
            self.shards.order(client, Order::Close(Some(last)));
        }
        world.remove(now, id);
    }

    /// Everybody must go: those on their way too.
    pub(super) fn end_moves(&mut self, world: &mut GameWorld, now: u64) {
        let leaving: Vec<ObjectId> = self.moves.leaving.keys().copied().collect();
        for id in leaving {
            self.take_out_of_sight(world, now, id);
        }
    }

    /// What passes with time.
    pub(super) fn look_at_moves(&mut self, world: &mut GameWorld, now: u64, fenced: &[ObjectId]) {
        let frozen: Vec<ObjectId> = self.moves.frozen.keys().copied().collect();
        for id in frozen {
            self.let_go_if_done(world, now, id);
        }
        for id in fenced {
            if let Some(leaving) = self.moves.leaving.get_mut(id) {
                leaving.shown = true;
            }
        }
        let ended = |leaving: &Leaving| leaving.until_ms <= now || (leaving.shown && leaving.client.is_none());
        let over = self.moves.leaving.iter().filter(|(_, leaving)| ended(leaving));
        let over: Vec<ObjectId> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.take_out_of_sight(world, now, id);
        }
        while let Some((until_ms, id)) = self.moves.gone_order.front().copied()
            && until_ms <= now
        {
            self.moves.gone_order.pop_front();
            if self.moves.gone.get(&id).is_some_and(|until_ms| *until_ms <= now) {
                self.moves.gone.remove(&id);
            }
        }
        self.tell_expected(world);
        while self.moves.watched.front().is_some_and(|(until_ms, _)| *until_ms <= now) {
            if let Some((_, cells)) = self.moves.watched.pop_front() {
                world.unwatch_cells(cells);
            }
        }
        self.moves.followed.retain(|_, since| now.saturating_sub(*since) < TAKING_MS);
    }

    /// A player comes in under a new claim: of its earlier life here nothing is left.
    pub(super) fn comes_back(&mut self, world: &mut GameWorld, now: u64, id: ObjectId) {
        self.take_out_of_sight(world, now, id);
        self.moves.give_up(id);
        self.moves.gone.remove(&id);
    }

    /// A player that came from another frontend walks on, and is shown its trades.
    fn came(&mut self, world: &mut GameWorld, now: u64, came: Came) {
        let Came { player: id, walks, walked_ms, trades, followed } = came;
        let Some(island) = self.players.get(&id).map(|player| player.island) else { return };
        if let Some((to, speed)) = walks.filter(|_| !self.is_fighting(world, id)) {
            walk_on(world, now, id, island, (to, speed), walked_ms.min(WALKED_MS));
        }
        if let Some(since) = followed.filter(|_| self.players.get(&id).is_some_and(|player| player.client.is_none())) {
            self.moves.followed.insert(id, now.saturating_sub(since));
        }
        // Also without a client: others see of which party it is.
        for number in std::iter::once(OWN_PARTY).chain(trades.into_iter().take(TRADES)) {
            self.look_at(id, number);
        }
    }
}

/// Lets a player that was put where its document says go on from where it is by now.
fn walk_on(world: &mut GameWorld, now: u64, id: ObjectId, island: IslandId, walk: (Place, i32), walked_ms: u64) {
    let (to, speed) = walk;
    let Some(from) = world.get(id).map(|real| real.place(now)) else { return };
    // Refused: something stands in the way here, or it has arrived. Then it stands.
    let Ok(motion) = world.walk(now, id, from, to, speed) else { return };
    let there = motion.at(now + walked_ms);
    if world.teleport(now, id, island, there).is_ok() {
        let _ = world.walk(now, id, there, to, speed);
    }
}
