//! Acts: what a player does beyond walking, from what the world knows of it to the answer.
//!
//! An act is checked at once against what only the world's task knows: alive, not in a battle, within reach, not too soon.
//! What waits (documents, gardens, colosseums) is a flow that holds no world state and comes back as an input; its answer goes
//! to whoever asked last under the act's number, or nowhere if they are gone. At most [`UNDER_WAY`] acts of one player are
//! under way, in no promised order. An act that may have happened is asked for again without the world's checks, so that the
//! same number gives the same result. A refusal changes NOTHING.
//!
//! [`UNDER_WAY`]: super::operations::UNDER_WAY

mod answers;

mod battle;
mod chat;
mod craft;
mod earlier;
mod garden;
mod gift;
mod party;
mod trade;
mod wares;

use std::sync::Arc;

use cartographer::geometry::{Cell, IslandId, ObjectId, Place, Tile};
use estate::transaction::{OperationId, TransactionError};
use futures_util::future::BoxFuture;
use mesh::{CallRefusal, Incarnation, NodeId};
use tokio::sync::mpsc;

use super::Shared;
use super::keeper::Carried;
use super::players::FrontInput;
use super::sail;
use crate::game::{GameWorld, View, kind, player};
use crate::methods::living::{self, Note, Saying};
use crate::protocol::{Act, ServerMessage, codes};
use crate::world_loop::Input;

pub(super) use battle::{as_fighter, leave};
pub(super) use chat::{NEAR, PARTY};
pub use gift::told;
pub use party::{Seen as SeenParty, look as look_at_party};
pub use trade::{look as look_at_trade, trade_id, withdraw_all};
pub use wares::wares_of;

/// Units in a tile.
const UNITS: i32 = 256;

/// How wide anything that stands on the land is at most, in tiles.
const WIDEST_TILES: i32 = 16;

/// What a flow of an act comes back with.
pub struct Came {
    /// What became of the act.
    pub result: Result<Done, CallRefusal>,
    /// What is to be done in the world because of it, in order.
    pub then: Vec<Then>,
}

/// An act that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Done.
    Done,
    /// Done, and this is the number of what came of it.
    Made(u64),
}

/// What follows from an act.
pub enum Then {
    /// The client is told.
    Say(Box<ServerMessage>),
    /// The client is told its bag.
    ShowBag,
    /// The player feels better, by so many percent.
    Fed(u8),
    /// The player is in a battle now.
    Fights(Room),
    /// Everybody here who hears it is told.
    Heard(Saying),
    /// A try to get into a battle is over.
    Tried,
}

/// Where a battle is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its number.
    pub battle: u64,
    /// Its colosseum.
    pub node: NodeId,
    /// Which life of it.
    pub life: Incarnation,
}

impl From<Result<Done, CallRefusal>> for Came {
    fn from(result: Result<Done, CallRefusal>) -> Came {
        Came { result, then: Vec::new() }
    }
}

impl Came {
    fn done() -> Came {
        Ok(Done::Done).into()
    }

    fn and(mut self, then: Then) -> Came {
        self.then.push(then);
        self
    }
}

/// What an act comes to at once.
pub(super) enum Begin {
    /// All of it.
    Now(Came),
    /// It waits.
    Later(BoxFuture<'static, Came>),
}

/// A beginning, or a refusal.
pub(super) type Begun = Result<Begin, CallRefusal>;

/// A flow that begins.
pub(super) fn later(flow: impl Future<Output = Came> + Send + 'static) -> Begun {
    Ok(Begin::Later(Box::pin(flow)))
}

/// A refusal.
pub(super) fn refused<T>(code: &str, text: impl Into<String>) -> Result<T, CallRefusal> {
    Err(CallRefusal::new(code, text))
}

/// What a client is told when a transaction gives no success.
fn refusal(error: &TransactionError) -> CallRefusal {
    let mut refusal = living::refusal(error);
    match refusal.code.as_str() {
        "stranger" => codes::FORBIDDEN.clone_into(&mut refusal.code),
        "misused" => codes::STALE.clone_into(&mut refusal.code),
        _ => {}
    }
    refusal
}

/// How often a player may do what is not to be done too often.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the next stroke may come.
    stroke_ms: u64,
    voice: chat::Voice,
    /// A flow is trying to get the player into a battle.
    pub(super) joins: bool,
    /// The player has been put elsewhere since that flow began: it is not to be in that battle.
    pub(super) astray: bool,
}

/// Who acts, and what is around.
pub(super) struct Actor<'a> {
    world: &'a GameWorld,
    shared: &'a Arc<Shared>,
    inputs: mpsc::Sender<Input<FrontInput>>,
    now: u64,
    id: ObjectId,
    island: IslandId,
    place: Place,
    body: &'a player::Player,
    carried: Arc<Carried>,
    /// The room of the player's battle, if it is in one.
    room: Option<Room>,
    /// How many trades of the player are open.
    trades: usize,
    number: u64,
    op: OperationId,
    /// Nothing but this session can have begun it.
    fresh: bool,
    /// It may have happened already: what the world says now does not matter.
    again: bool,
}

impl Actor<'_> {
    /// The island it is on.
    pub(super) fn island(&self) -> IslandId {
        self.island
    }

    /// Where it is.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Who it is.
    pub(super) fn player(&self) -> ObjectId {
        self.id
    }

    /// What the frontend's tasks share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.shared
    }

    /// The way into the world.
    pub(super) fn inputs(&self) -> &mpsc::Sender<Input<FrontInput>> {
        &self.inputs
    }

    /// Whether the act may have happened already.
    pub(super) fn is_again(&self) -> bool {
        self.again
    }

    /// Refuses whoever has been defeated or fights.
    pub(super) fn ready(&self) -> Result<(), CallRefusal> {
        if self.again { Ok(()) } else { self.fit() }
    }

    /// Refuses whoever has been defeated or fights, also if it may have happened already: for what would happen again.
    pub(super) fn fit(&self) -> Result<(), CallRefusal> {
        if self.body.battle != 0 {
            return refused(codes::IN_BATTLE, "not while in a battle");
        }
        if self.body.health == 0 {
            return refused(codes::DEFEATED, "the player has been defeated");
        }
        Ok(())
    }

    fn reach(&self) -> i32 {
        i32::from(self.shared.content.tuning.reach_tiles) * UNITS
    }

    /// Refuses what is out of reach: so many tiles from `first` on.
    fn reaches(&self, first: Tile, size: (i32, i32)) -> Result<(), CallRefusal> {
        let along = |at: i32, first: u16, count: i32| {
            let low = i32::from(first) * UNITS;
            (low - at).max(at - (low + count * UNITS)).max(0)
        };
        let far = along(self.place.x, first.x, size.0).max(along(self.place.y, first.y, size.1));
        if self.again || far <= self.reach() {
            return Ok(());
        }
        refused(codes::TOO_FAR, format!("it is {} tiles away", far / UNITS))
    }

    fn sees(&self, object: ObjectId) -> Option<(Place, &View)> {
        seen(self.world, self.shared, self.now, self.island, object)
    }

    /// The tiles on which a thing stands.
    fn footprint(place: Place, view: &View) -> Option<(Tile, (i32, i32))> {
        let first = place.tile()?;
        let extent = view.detail.first().filter(|_| view.kind == kind::FACILITY);
        let side = |index: usize| {
            let tiles = extent.and_then(|extent| extent.get(index)).copied().unwrap_or(1);
            i32::try_from(tiles).unwrap_or(1).clamp(1, WIDEST_TILES)
        };
        Some((first, (side(0), side(1))))
    }

    /// Another player who is in reach.
    fn person(&self, other: u64) -> Result<ObjectId, CallRefusal> {
        let object = ObjectId(other);
        if object == self.id {
            return refused(codes::FORBIDDEN, "not with oneself");
        }
        if self.again {
            return Ok(object);
        }
        beside(self.place, self.reach(), self.sees(object)).map(|()| object)
    }

    /// What stands around: things whose first tile is near enough that they may be in reach.
    fn things(&self) -> impl Iterator<Item = (ObjectId, Place, &View)> {
        let margin = self.reach() + WIDEST_TILES * UNITS;
        let corner = |dx: i32, dy: i32| {
            let at = self.place.offset(dx, dy);
            Place::new(at.x.max(0), at.y.max(0)).cell(self.island)
        };
        let ends = corner(-margin, -margin).zip(corner(margin, margin).or_else(|| self.place.cell(self.island)));
        let (first, last) = ends.unwrap_or_default();
        let (world, island) = (self.world, self.island);
        let cells = (first.y..=last.y).flat_map(move |y| (first.x..=last.x).map(move |x| Cell::new(island, x, y)));
        let ghosts = cells.flat_map(move |cell| world.ghosts_in(cell));
        ghosts.map(|(id, ghost)| (id, ghost.motion().from, ghost.view()))
    }

    /// The tools in the player's bag.
    fn tools(&self) -> Vec<String> {
        let items =
            self.carried.bag.uniques.values().filter_map(|unique| self.content().items.get(unique.item.as_str()));
        let mut tools: Vec<String> = items.filter_map(|item| item.tool.clone()).collect();
        tools.sort_unstable();
        tools.dedup();
        tools
    }

    fn content(&self) -> &crate::game::content::Content {
        &self.shared.content
    }

    /// Whether the operation may be known from before: then documents are asked before it is begun.
    fn before(&self) -> bool {
        self.again || !self.fresh
    }
}

/// Where an object of this island is now and how it looks, if it is in sight.
fn seen<'a>(
    world: &'a GameWorld,
    shared: &Shared,
    now: u64,
    island: IslandId,
    object: ObjectId,
) -> Option<(Place, &'a View)> {
    if let Some(real) = world.get(object) {
        return (real.island() == island).then(|| (real.place(now), real.view()));
    }
    let ghost = world.ghost(object)?;
    let peers = shared.mesh.peers();
    let peer = peers.by_incarnation(Incarnation(ghost.publisher()));
    let its_now = now.saturating_add_signed(peer.map_or(0, |peer| -peer.clock_offset_ms));
    (ghost.cell().island == island).then(|| (ghost.place(its_now), ghost.view()))
}

/// Refuses whoever is no player beside one who stands at `place`.
fn beside(place: Place, reach: i32, other: Option<(Place, &View)>) -> Result<(), CallRefusal> {
    match other {
        Some((at, view)) if view.kind == kind::PLAYER => {
            if i64::from(place.reach(at)) > i64::from(reach) {
                return refused(codes::TOO_FAR, format!("{} is too far away", view.name));
            }
            Ok(())
        }
        Some(_) => refused(codes::FORBIDDEN, "that is no player"),
        None => refused(codes::MISSING, "no such player is in sight"),
    }
}

/// Begins an act.
fn begin(actor: &Actor<'_>, pace: &mut Pace, act: &Act) -> Begun {
    match act {
        Act::Gather { x, y } => garden::gather(actor, pace, Tile { x: *x, y: *y }),
        Act::Build { facility, x, y, turned } => garden::build(actor, facility, Tile { x: *x, y: *y }, *turned),
        Act::Demolish { object } => garden::demolish(actor, ObjectId(*object)),
        Act::Use { object } => garden::operate(actor, ObjectId(*object)),
        Act::Put { object, wares } => garden::put(actor, ObjectId(*object), wares),
        Act::Take { object, wares } => garden::take(actor, ObjectId(*object), wares),
        Act::Look { object } => garden::look(actor, ObjectId(*object)),
        Act::Claim {} => garden::claim(actor),
        Act::GiveUp {} => garden::give_up(actor),
        Act::Craft { recipe } => craft::craft(actor, recipe),
        Act::Eat { item } => craft::eat(actor, item),
        Act::Attack { target } => battle::attack(actor, pace, ObjectId(*target)),
        Act::Join { battle } => battle::join(actor, pace, ObjectId(*battle)),
        Act::Blow { blow, target } => battle::blow(actor, *blow, ObjectId(*target)),
        Act::Flee {} => battle::flee(actor),
        Act::Trade { player } => trade::open(actor, *player),
        Act::Offer { trade, wares } => trade::offer(actor, *trade, wares),
        Act::Consent { trade, round } => trade::consent(actor, *trade, *round),
        Act::Withdraw { trade } => trade::withdraw(actor, *trade),
        Act::Gift { player, wares } => gift::gift(actor, *player, wares),
        Act::Chat { channel, text } => chat::chat(actor, pace, *channel, text),
        Act::Sail { island } => sail::sail(actor, IslandId(*island)),
        Act::Bag {} => Ok(Begin::Now(Came::done().and(Then::ShowBag))),
        Act::Invite { player } => party::invite(actor, *player),
        Act::Enter { party } => party::enter(actor, *party),
        Act::Leave {} => party::leave_party(actor),
        Act::Lead { player } => party::lead(actor, *player),
        Act::Dissolve {} => party::dissolve(actor),
    }
}

/// A word for a player, as a note.
pub fn note(player: ObjectId, code: &str, text: impl Into<String>, number: u64) -> Note {
    Note { players: vec![player], code: code.to_owned(), text: text.into(), number }
}
