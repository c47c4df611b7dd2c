//! What gardens do for players: land, natural objects, facilities and boxes.
//!
//! The frontend checks reach and pace; everything that is in documents the garden checks and changes, in one transaction with
//! the player's bag. The garden that rendezvous names is asked first; one that is not up, goes while it is asked, or does not
//! answer soon is passed over, under the same operation id, so that whoever answers, it happens once: no lease is waited for.
//! Gardens that are leaving are asked only if there are no others. This NEVER changes land or goods itself.

use std::sync::Arc;

use cartographer::geometry::{Chunk, ObjectId, Tile};
use estate::goods::Goods;
use estate::goods::container::{BoxKind, box_key};
use estate::transaction::OperationId;
use mesh::calls::Outcome;
use mesh::{CallError, CallRefusal, Mesh, NodeId, PeerState, PeerTable, Role};
use tokio::time::{Duration, sleep};

use super::wares::{goods_of, held, wares_of};
use super::{Actor, Begun, Came, Done, Pace, Shared, Then, later, refusal, refused};
use crate::draining::takes_work;
use crate::game::kind;
use crate::methods::living::{GARDEN_DO, GardenAnswer, GardenAsk, GardenWhat};
use crate::methods::{pack, unpack};
use crate::protocol::{ServerMessage, Wares, codes};
use crate::rendezvous;

/// Gardens that are asked for one act, at most.
const GARDENS_TRIED: usize = 3;

/// How long a garden's answer is waited for while there is another to ask. The last one has the whole patience of the call.
const PATIENCE: Duration = Duration::from_secs(2);

const _: () = assert!(PATIENCE.as_millis() < GARDEN_DO.deadline_ms as u128);

/// A stroke at what grows or lies on a tile.
pub(super) fn gather(actor: &Actor<'_>, pace: &mut Pace, tile: Tile) -> Begun {
    actor.ready()?;
    actor.reaches(tile, (1, 1))?;
    if !actor.again {
        if actor.now < pace.stroke_ms {
            return refused(codes::TOO_SOON, "one stroke after the other");
        }
        pace.stroke_ms = actor.now + actor.content().tuning.stroke_ms;
    }
    ask(actor, tile.chunk(actor.island), GardenWhat::Gather { tile, tools: actor.tools() })
}

/// Builds a facility whose upper left tile is `tile`.
pub(super) fn build(actor: &Actor<'_>, facility: &str, tile: Tile, turned: u8) -> Begun {
    actor.ready()?;
    let Some(built) = actor.content().facilities.get(facility) else {
        return refused(codes::UNKNOWN_NAME, "there is no such facility");
    };
    if turned > 3 {
        return refused(codes::MALFORMED, format!("{turned} quarters; there are 0 to 3"));
    }
    let (width, height) = (i32::from(built.size.0), i32::from(built.size.1));
    actor.reaches(tile, if turned.is_multiple_of(2) { (width, height) } else { (height, width) })?;
    ask(actor, tile.chunk(actor.island), GardenWhat::Build { facility: facility.to_owned(), tile, turned })
}

/// Takes a facility down.
pub(super) fn demolish(actor: &Actor<'_>, object: ObjectId) -> Begun {
    let chunk = facility(actor, object)?;
    ask(actor, chunk, GardenWhat::Demolish { object })
}

/// Opens or shuts a door, lights a hearth.
pub(super) fn operate(actor: &Actor<'_>, object: ObjectId) -> Begun {
    let chunk = facility(actor, object)?;
    ask(actor, chunk, GardenWhat::Use { object })
}

/// Looks into a box.
pub(super) fn look(actor: &Actor<'_>, object: ObjectId) -> Begun {
    let chunk = facility(actor, object)?;
    ask(actor, chunk, GardenWhat::Look { object })
}

/// From the bag into a box.
pub(super) fn put(actor: &Actor<'_>, object: ObjectId, wares: &Wares) -> Begun {
    let chunk = facility(actor, object)?;
    let goods = goods_of(actor.content(), wares, &actor.carried.bag);
    if actor.before() {
        let request = Request::of(actor, chunk);
        let player_gave = move |goods| GardenWhat::Put { object, goods };
        return later(async move { request.unless_happened(goods, player_gave).await });
    }
    let goods = goods?;
    held(&goods, &actor.carried.bag)?;
    ask(actor, chunk, GardenWhat::Put { object, goods })
}

/// Out of a box into the bag.
pub(super) fn take(actor: &Actor<'_>, object: ObjectId, wares: &Wares) -> Begun {
    let chunk = facility(actor, object)?;
    let (request, wares) = (Request::of(actor, chunk), wares.clone());
    let before = actor.before();
    later(async move {
        // Only uniques must be looked up: what is counted the garden finds or misses by itself.
        let there = match wares.uniques.is_empty() {
            true => Ok(Goods::default()),
            false => request.holds(object).await,
        };
        let goods = there.and_then(|there| goods_of(&request.shared.content, &wares, &there));
        let what = move |goods| GardenWhat::Take { object, goods };
        match goods {
            _ if before => request.unless_happened(goods, what).await,
            Ok(goods) => request.ask(what(goods)).await,
            Err(refusal) => Err(refusal).into(),
        }
    })
}

/// Claims the chunk on which the player stands.
pub(super) fn claim(actor: &Actor<'_>) -> Begun {
    actor.ready()?;
    let chunk = stands_on(actor)?;
    ask(actor, chunk, GardenWhat::Claim { chunk: (chunk.x, chunk.y) })
}

/// Gives up the chunk on which the player stands.
pub(super) fn give_up(actor: &Actor<'_>) -> Begun {
    actor.ready()?;
    let chunk = stands_on(actor)?;
    ask(actor, chunk, GardenWhat::GiveUp { chunk: (chunk.x, chunk.y) })
}

fn stands_on(actor: &Actor<'_>) -> Result<Chunk, CallRefusal> {
    let tile = actor.place.tile();
    tile.map(|tile| tile.chunk(actor.island)).ok_or_else(|| CallRefusal::new(codes::MISSING, "there is no land here"))
}

/// The chunk of a facility that is in reach.
fn facility(actor: &Actor<'_>, object: ObjectId) -> Result<Chunk, CallRefusal> {
    actor.ready()?;
    let seen = actor.sees(object).filter(|(_, view)| view.kind == kind::FACILITY);
    match seen.and_then(|(place, view)| Actor::footprint(place, view)) {
        Some((first, size)) => {
            actor.reaches(first, size)?;
            Ok(first.chunk(actor.island))
        }
        // It may be gone because of this very act: any garden knows.
        None if actor.again => stands_on(actor),
        None => refused(codes::MISSING, format!("no facility {} is in sight", object.0)),
    }
}

fn ask(actor: &Actor<'_>, chunk: Chunk, what: GardenWhat) -> Begun {
    let request = Request::of(actor, chunk);
    later(async move { request.ask(what).await })
}

/// What gardens are asked, without what exactly.
struct Request {
    shared: Arc<Shared>,
    player: ObjectId,
    op: OperationId,
    chunk: Chunk,
}

impl Request {
    fn of(actor: &Actor<'_>, chunk: Chunk) -> Request {
        Request { shared: actor.shared.clone(), player: actor.id, op: actor.op, chunk }
    }

    /// Asks, unless it has happened already: what it was about may lie elsewhere now for that very reason.
    async fn unless_happened(
        self,
        goods: Result<Goods, CallRefusal>,
        what: impl FnOnce(Goods) -> GardenWhat + Send,
    ) -> Came {
        match self.shared.estate.happened(self.op, None).await {
            Ok(true) => Came::done(),
            Ok(false) => match goods {
                Ok(goods) => self.ask(what(goods)).await,
                Err(refusal) => Err(refusal).into(),
            },
            Err(error) => Err(CallRefusal::new(codes::UNKNOWN, error.to_string())).into(),
        }
    }

    /// What a box holds.
    async fn holds(&self, object: ObjectId) -> Result<Goods, CallRefusal> {
        match self.shared.estate.read(&BoxKind, &box_key(object.0)).await {
            Ok(Some(kept)) => Ok(kept.document.0.goods),
            Ok(None) => refused(codes::MISSING, "there is no such box"),
            Err(error) => Err(refusal(&error)),
        }
    }

    async fn ask(self, what: GardenWhat) -> Came {
        let object = match &what {
            GardenWhat::Look { object } => object.0,
            _ => 0,
        };
        let ask = GardenAsk { op: self.op, player: self.player, island: self.chunk.island, what };
        match self.tell_gardens(&ask).await {
            Ok(GardenAnswer::Done) => Came::done(),
            Ok(GardenAnswer::Made(number)) => Ok(Done::Made(number.0)).into(),
            Ok(GardenAnswer::Holds(goods)) => {
                let store = ServerMessage::Store { object, wares: wares_of(&goods) };
                Came::done().and(Then::Say(Box::new(store)))
            }
            Err(refusal) => Err(refusal).into(),
        }
    }

    async fn tell_gardens(&self, ask: &GardenAsk) -> Result<GardenAnswer, CallRefusal> {
        let peers = self.shared.mesh.peers();
        let mut gardens = takes_work(&peers, Role::Garden);
        if gardens.is_empty() {
            gardens = peers.up(Role::Garden).map(|peer| peer.record.node.clone()).collect();
        }
        let mut ranked = rendezvous::ranked(&chunk_key(self.chunk), &gardens);
        ranked.truncate(GARDENS_TRIED);
        let (body, mut maybe) = (pack(ask), false);
        for (garden, left) in ranked.iter().zip((0..ranked.len()).rev()) {
            tracing::trace!(garden = garden.as_str(), op = %self.op, "a garden is asked");
            let call = self.shared.mesh.call_once(garden, &GARDEN_DO, self.op.0, body.clone());
            let answer = tokio::select! {
                biased;
                answer = call => answer,
                () = sleep(PATIENCE), if left > 0 => {
                    tracing::debug!(garden = garden.as_str(), op = %self.op, "a garden takes long: the next one is asked");
                    maybe = true;
                    continue;
                }
                () = lost(&self.shared.mesh, garden), if left > 0 => {
                    tracing::debug!(garden = garden.as_str(), op = %self.op, "a garden is lost: the next one is asked");
                    maybe = true;
                    continue;
                }
            };
            let error = match answer {
                Ok(answer) => return unpack(&answer).map_err(|r| CallRefusal::new(codes::UNKNOWN, r.text)),
                Err(error) => error,
            };
            tracing::debug!(garden = garden.as_str(), op = %self.op, %error, "a garden did not do it");
            match error {
                CallError::Refused { refusal, .. } if is_answer(&refusal) => {
                    // An earlier garden may still be at it, whatever this one says.
                    return if maybe { refused(codes::UNKNOWN, refusal.text) } else { Err(refusal) };
                }
                error => maybe |= error.outcome() == Outcome::Maybe,
            }
        }
        match maybe {
            true => refused(codes::UNKNOWN, "no garden answered: ask again under the same number"),
            false => refused(codes::UNAVAILABLE, "no garden is there at the moment"),
        }
    }
}

/// Waits until a node is not up any more: whatever it was asked, its answer may never come.
async fn lost(mesh: &Mesh, node: &NodeId) {
    let mut peers = mesh.watch_peers();
    let is_up = |peers: &Arc<PeerTable>| peers.get(node).is_some_and(|peer| peer.state == PeerState::Up);
    // An error means that this node stops.
    let _ = peers.wait_for(|peers| !is_up(peers)).await;
}

/// True for what a garden says of the act; false for what the mesh says of the garden.
fn is_answer(refusal: &CallRefusal) -> bool {
    let of_the_mesh = [CallRefusal::UNKNOWN_METHOD, CallRefusal::OVERLOADED, CallRefusal::DROPPED, codes::DRAINING];
    !of_the_mesh.contains(&refusal.code.as_str())
}

/// What rendezvous names the garden of a chunk by.
fn chunk_key(chunk: Chunk) -> Vec<u8> {
    let mut key = b"chunk".to_vec();
    key.extend(chunk.island.0.to_be_bytes());
    key.extend(chunk.x.to_be_bytes());
    key.extend(chunk.y.to_be_bytes());
    key
}
