//! The way of a player into the world and out of it: tickets, claims, joins. Async flows that hold no world state.
//!
//! A player is live on one node at a time and the newest session wins: whoever still has the player is asked to save and
//! release it; a node that the directory no longer knows is not asked. Whether the claim succeeds is decided by
//! compare-and-swap in the store alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cartographer::geometry::{Epoch, IslandId, ObjectId, Place};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::player::{self, Claim, Claimant, Claimed, PlayerDocument};
use mesh::tasks::Tasks;
use mesh::{CallRefusal, IncomingCall, NodeId};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Shared;
use super::keeper::Keeper;
use super::people;
use super::players::{FrontInput, Join, NewClient};
use super::sail;
use super::shard::{ClientId, Sink};
use super::tickets::{Guest, Kind, SessionId, TICKET_TTL_MS};
use crate::game::{Body, player::Player};
use crate::methods::{CloseSession, OpenSession, SESSION_CLOSE, SESSION_OPEN, SessionOffer, pack, unpack};
use crate::passage;
use crate::protocol::{HelloKind, PROTOCOL, codes};
use crate::role::Answers;
use crate::world_loop::{Input, TICK_MS, WorldHandle};

/// How often a claim is tried when others hold the player or change its document meanwhile.
const CLAIMS: u32 = 5;

/// The pause between two tries of a claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// How long a player may take to leave this node for its newer session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long farewells may take to reach their sockets: the tick that brings them, and one more.
const LAST_WORDS: Duration = Duration::from_millis(2 * TICK_MS);

/// Last words: why a client is not let in, or not any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The code that programs read.
    pub code: &'static str,
    /// The text that people read.
    pub text: String,
}

impl Farewell {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Farewell {
        Farewell { code, text: text.into() }
    }
}

/// The flows of one frontend.
#[derive(Clone)]
pub struct Sessions {
    pub(super) shared: Arc<Shared>,
    pub(super) world: WorldHandle<FrontInput>,
}

#[async_trait]
impl Answers for Sessions {
    fn takes(&self, family: &str) -> bool {
        family == "session" || family == "moving" || people::FAMILIES.contains(&family)
    }

    async fn answer(&self, call: IncomingCall) {
        if people::FAMILIES.iter().any(|family| call.method.starts_with(family)) {
            return people::answer(self, call).await;
        }
        if call.method.starts_with("moving.") {
            return self.answer_moving(call).await;
        }
        let answer = if call.method == SESSION_OPEN.name {
            unpack::<OpenSession>(&call.body).and_then(|open| self.open(&open)).map(|offer| pack(&offer))
        } else if call.method == SESSION_CLOSE.name {
            match unpack::<CloseSession>(&call.body) {
                Ok(close) => {
                    self.close(close.player, "a newer session has taken over").await;
                    Ok(Bytes::new())
                }
                Err(refusal) => Err(refusal),
            }
        } else {
            Err(CallRefusal::unknown_method(&call.method))
        };
        call.answer(answer);
    }
}

impl Sessions {
    /// The node's tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// Hands the world something without waiting; false if its queue is full or it has ended.
    pub fn try_role(&self, input: FrontInput) -> bool {
        self.world.inputs.try_send(Input::Role(input)).is_ok()
    }

    /// Expects a player and makes its ticket. Asked again for the same session: the same ticket.
    pub fn open(&self, open: &OpenSession) -> Result<SessionOffer, CallRefusal> {
        let shared = &self.shared;
        if shared.draining() {
            return Err(CallRefusal::new("draining", "this frontend is leaving"));
        }
        if let Some(island) = open.island
            && !shared.islands.chart().takes_arrivals(island)
        {
            return Err(CallRefusal::new("unknown_island", format!("no island {} here", island.0)));
        }
        let players = shared.metrics.players.get().max(0) as u32;
        let (now, session) = (shared.mesh.now_ms(), SessionId(open.session.as_u128()));
        if !shared.expected().expect(now, session, players, shared.config.capacity) {
            return Err(CallRefusal::new(
                "full",
                format!("{players} players are here or expected, as many as this frontend takes"),
            ));
        }
        let guest = Guest { player: open.player, island: open.island };
        let ticket = shared.book().offer(now, session, guest, shared.random());
        if ticket.is_none() {
            shared.expected().came(session);
        }
        let ticket = ticket.ok_or_else(|| CallRefusal::new("full", "too many sessions, or this one has been used"))?;
        let url = shared.mesh.me().public.clone().unwrap_or_default();
        Ok(SessionOffer { ticket, url, expires_in_s: (TICKET_TTL_MS / 1000) as u32 })
    }

    /// Makes a player leave this node, and waits until its document is released. Nothing to do if it is not here.
    pub async fn close(&self, player: ObjectId, why: &str) {
        let (done, finished) = oneshot::channel();
        let close = FrontInput::Close { player, code: codes::REPLACED, text: why.to_owned(), done };
        if self.world.inputs.send(Input::Role(close)).await.is_ok() {
            // Dropped: not here. Late: the claim will see who owns the document.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, finished).await;
        }
    }

    /// Everybody leaves: the first half of leaving the mesh. Returns when all documents are released and all farewells
    /// had their tick to be written, or after [`CLOSE_TIMEOUT`].
    pub async fn close_all(&self) {
        let all = async {
            let (reply, closed) = oneshot::channel();
            if self.world.inputs.send(Input::Role(FrontInput::CloseAll(reply))).await.is_err() {
                return;
            }
            for released in closed.await.unwrap_or_default() {
                // An error means that this one was fenced: there is nothing to release.
                let _ = released.await;
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            tracing::warn!("not all players could be saved in time; their last saved places stand");
        }
    }

    /// A client's first message. On success the world has its sink, and the client's number is returned.
    ///
    /// `hand_over` is called when the client is let in: from then on only the returned sink may write.
    pub async fn hello(
        &self,
        protocol: u32,
        token: &str,
        kind: HelloKind,
        hand_over: impl FnOnce() -> Arc<dyn Sink> + Send,
    ) -> Result<ClientId, Farewell> {
        if protocol != PROTOCOL {
            let text = format!("this frontend speaks protocol {PROTOCOL}, the client {protocol}: update the older one");
            return Err(Farewell::new(codes::PROTOCOL, text));
        }
        if kind == HelloKind::Ticket && passage::is_token(token) {
            return self.land(token, hand_over).await;
        }
        let now = self.shared.mesh.now_ms();
        let wanted = match kind {
            HelloKind::Ticket => Kind::Ticket,
            HelloKind::Resume => Kind::Resume,
        };
        let (session, guest) = (self.shared.book().redeem(now, token, wanted))
            .map_err(|refused| Farewell::new(refused.code(), refused.to_string()))?;
        let entered = match kind {
            HelloKind::Ticket => self.enter(session, guest, None, hand_over).await,
            HelloKind::Resume => self.resume(session, guest, hand_over).await,
        };
        if kind == HelloKind::Ticket {
            self.shared.expected().came(session);
        }
        if entered.is_err() && kind == HelloKind::Ticket {
            self.shared.end_session(self.shared.mesh.now_ms(), session);
        }
        entered
    }

    /// A client comes from another district, with a passage.
    async fn land(&self, token: &str, hand_over: impl FnOnce() -> Arc<dyn Sink> + Send) -> Result<ClientId, Farewell> {
        let shared = &self.shared;
        if shared.draining() {
            return Err(Farewell::new(codes::DRAINING, "this frontend is leaving"));
        }
        let passage = sail::arrive(shared, token).await?;
        let guest = Guest { player: passage.player, island: Some(passage.island) };
        let session = SessionId(u128::from(shared.random()) << 64 | u128::from(shared.random()));
        let (now, nonce) = (shared.mesh.now_ms(), shared.random());
        let full = || Farewell::new(codes::FULL, "too many sessions");
        let ticket = shared.book().offer(now, session, guest, nonce).ok_or_else(full)?;
        let redeemed = shared.book().redeem(now, &ticket, Kind::Ticket);
        redeemed.map_err(|refused| Farewell::new(refused.code(), refused.to_string()))?;
        let harbour = sail::landing(shared, passage.island).map(|place| (passage.island, place));
        let harbour = harbour.filter(|(island, _)| shared.islands.chart().takes_arrivals(*island));
        let entered = self.enter(session, guest, harbour, hand_over).await;
        if entered.is_err() {
            shared.end_session(shared.mesh.now_ms(), session);
        }
        entered
    }

    async fn resume(
        &self,
        session: SessionId,
        guest: Guest,
        hand_over: impl FnOnce() -> Arc<dyn Sink> + Send,
    ) -> Result<ClientId, Farewell> {
        let gone = || Farewell::new("session_ended", "the session is over: ask the gateway for a new one");
        let client = self.new_client(session, hand_over).ok_or_else(gone)?;
        let id = client.id;
        let (reply, here) = oneshot::channel();
        let attach = FrontInput::Attach { player: guest.player, session, client, reply };
        if self.world.role(attach).await && here.await.unwrap_or(false) { Ok(id) } else { Err(gone()) }
    }

    async fn enter(
        &self,
        session: SessionId,
        guest: Guest,
        begins: Option<(IslandId, Place)>,
        hand_over: impl FnOnce() -> Arc<dyn Sink> + Send,
    ) -> Result<ClientId, Farewell> {
        // Two sessions of one player on this node go one after the other.
        let turn = self.shared.turn(guest.player);
        let _turn = turn.lock().await;
        let claimed = self.claim(guest.player).await?;
        let document = claimed.document.clone();
        let epoch = Epoch(claimed.epoch());
        let keeper = Keeper::start(self.shared.clone(), self.world.clone(), claimed);
        let Some((island, place)) = begins.or_else(|| self.start_of(&document, guest.island)) else {
            return Err(Farewell::new(codes::UNAVAILABLE, "this frontend has no island to begin on"));
        };
        let client = self.new_client(session, hand_over);
        let client = client.ok_or_else(|| Farewell::new("session_ended", "the session ended while it began"))?;
        let (reply, joined) = oneshot::channel();
        let (id, body) = (
            client.id,
            Body::Player(Player {
                name: document.name,
                hue: document.hue,
                health: document.health,
                ..Player::default()
            }),
        );
        let player = guest.player;
        let (floor, floor_s, home) = (document.floor, document.floor_s, IslandId(document.home));
        let join = Join { player, session, epoch, body, island, place, floor, floor_s, home, client, keeper, reply };
        if !self.world.role(FrontInput::Join(Box::new(join))).await {
            return Err(Farewell::new(codes::UNAVAILABLE, "this frontend is stopping"));
        }
        match joined.await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(text)) => Err(Farewell::new(codes::FULL, text)),
            Err(_) => Err(Farewell::new(codes::UNAVAILABLE, "this frontend is stopping")),
        }
    }

    /// Claims the player's document, asking whoever has the player to let it go.
    async fn claim(&self, id: ObjectId) -> Result<Claimed, Farewell> {
        let shared = &self.shared;
        let me = Claimant { claim: shared.random(), ..shared.claimant.clone() };
        let mut why = String::new();
        for attempt in 0..CLAIMS {
            if attempt > 0 {
                tokio::time::sleep(CLAIM_PAUSE * attempt).await;
            }
            // Our own copy, if we have one, is the freshest and must be saved first.
            if !planted::is("second_session_stays") {
                self.close(id, "a newer session has taken over").await;
            }
            let living = shared.owners.living().await;
            match player::claim(shared.store(), id.0, &me, |owner| living.is_gone(owner)).await {
                Ok(Claim::Claimed(claimed)) => return Ok(*claimed),
                Ok(Claim::Missing) => return Err(Farewell::new(codes::UNAVAILABLE, "no such player")),
                Ok(Claim::HeldBy(owner)) => {
                    why = format!("{} still has this player", owner.node);
                    if let Ok(node) = NodeId::new(&owner.node) {
                        let close = CloseSession { session: Uuid::nil(), player: id };
                        if let Err(e) = shared.mesh.call(&node, &SESSION_CLOSE, pack(&close)).await {
                            why = format!("{why}, and cannot be asked to let it go: {e}");
                        }
                    }
                }
                Err(e) => why = e.to_string(),
            }
        }
        tracing::warn!(player = id.0, why, "could not claim a player");
        Err(Farewell::new(codes::UNAVAILABLE, format!("the player could not be claimed: {why}")))
    }

    /// Where a player begins: where it was, unless it asked for another island or its place is no longer land.
    fn start_of(&self, document: &PlayerDocument, wanted: Option<IslandId>) -> Option<(IslandId, Place)> {
        let (chart, lasting) = (self.shared.islands.chart(), self.shared.islands.lasting());
        let last = IslandId(document.island);
        let named = |id: IslandId| chart.get(id).filter(|_| chart.takes_arrivals(id));
        let spread = || lasting.get((document.id % lasting.len().max(1) as u64) as usize);
        let home = || named(IslandId(document.home));
        let terrain: &Arc<Terrain> = named(wanted.unwrap_or(last)).or_else(home).or_else(spread)?;
        let place = Place::new(document.x, document.y);
        let stands = last == terrain.id() && place.tile().is_some_and(|tile| terrain.walkable(tile));
        if stands {
            return Some((terrain.id(), place));
        }
        let spawns = terrain.spawns();
        let spawn = spawns.get((document.id / 7 % spawns.len().max(1) as u64) as usize)?;
        Some((terrain.id(), spawn.place))
    }

    fn new_client(&self, session: SessionId, hand_over: impl FnOnce() -> Arc<dyn Sink>) -> Option<NewClient> {
        let nonce = self.shared.random();
        let resume_token = self.shared.book().resume_token(session, nonce)?;
        Some(NewClient { id: self.shared.next_client(), sink: hand_over(), resume_token })
    }
}

/// STUB until `sessions` delivers.
pub struct Arriving;

impl Arriving {
    pub(super) fn moved(_moved: &crate::methods::moving::Moved) -> Arriving {
        Arriving
    }
}

impl Sessions {
    pub(super) async fn bring_in(&self, _arriving: Arriving) -> Result<String, Farewell> {
        Err(Farewell::new("unavailable", "stub"))
    }
}

impl Shared {
    pub(super) fn resume_token(&self, _session: SessionId, _player: ObjectId, _turn: u64) -> String {
        String::new()
    }
}
