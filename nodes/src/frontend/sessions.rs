//! The way of a player into the world and out of it: tickets, resume tokens, sessions that end. Async flows that hold no world
//! state.
//!
//! A player is live on one node at a time and the newest session wins: whoever still has the player is asked to save and
//! release it (`claiming`). A session comes back to its player with its last token, here or at any other frontend
//! (`arriving`). Whether a claim succeeds is decided by compare-and-swap in the store alone, NEVER by a clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cartographer::geometry::{IslandId, ObjectId, Place};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::player::{PlayerDocument, Unseated};
use mesh::tasks::Tasks;
use mesh::{CallRefusal, IncomingCall};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::arriving::{Arriving, Begins, Comes};
use super::people;
use super::players::{FrontInput, NewClient, Yields};
use super::sail;
use super::shard::{ClientId, Sink};
use super::tickets::{Guest, RESUME_MARK, Refused, Resume, SessionId, TICKET_TTL_MS};
use crate::methods::{
    CloseSession, OpenSession, SESSION_CLOSE, SESSION_OPEN, SESSION_YIELD, SessionOffer, YieldSession, Yielded, pack,
    unpack,
};
use crate::passage;
use crate::protocol::{HelloKind, PROTOCOL, codes};
use crate::role::Answers;
use crate::world_loop::{Input, TICK_MS, WorldHandle};

/// How long a player may take to leave this node for its newer session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the flow of a player that comes in is waited for when it is to leave: well within the deadlines of the calls that
/// ask for it.
const TURN_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How long a client that was welcomed may take to be heard when somebody else shows the token that it showed: longer than a
/// round trip and a tick, shorter than anybody waits who comes back.
pub(super) const HEARD: Duration = Duration::from_millis(1_000);

/// Between two looks whether it was.
pub(super) const HEARD_LOOK: Duration = Duration::from_millis(TICK_MS);

const _: () = assert!(
    2 * HEARD.as_millis() <= SESSION_YIELD.deadline_ms as u128 && HEARD.as_millis() < CLOSE_TIMEOUT.as_millis()
);

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

impl From<Unseated> for Farewell {
    fn from(why: Unseated) -> Farewell {
        let code = match why {
            Unseated::Replaced => codes::REPLACED,
            Unseated::Used => codes::TICKET_USED,
            Unseated::Ended => codes::SESSION_ENDED,
        };
        Farewell::new(code, why.to_string())
    }
}

impl From<Refused> for Farewell {
    fn from(why: Refused) -> Farewell {
        Farewell::new(why.code(), why.to_string())
    }
}

type Lock = tokio::sync::Mutex<()>;

/// Locks of players who come in or go, as long as somebody has one; and how many there were when that was last looked at.
#[derive(Default)]
pub(super) struct Turns(Mutex<(BTreeMap<ObjectId, Weak<Lock>>, usize)>);

impl Turns {
    /// The lock of a player.
    pub(super) fn of(&self, player: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (locks, swept_at) = &mut *turns;
        if locks.len() >= 2 * *swept_at + 64 {
            locks.retain(|_, lock| lock.strong_count() > 0);
            *swept_at = locks.len();
        }
        let lock = locks.entry(player).or_default();
        lock.upgrade().unwrap_or_else(|| {
            let fresh = Arc::default();
            *lock = Arc::downgrade(&fresh);
            fresh
        })
    }
}

/// A client whose token was made by us: who comes, and how.
pub(super) enum Proven {
    /// With a ticket of this frontend.
    Ticket(SessionId, Guest),
    /// With a passage from another district.
    Passage(String),
    /// With a resume token of this cluster.
    Resume(Resume),
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
                Ok(close) => self.end(&close).await.map(|()| Bytes::new()),
                Err(refusal) => Err(refusal),
            }
        } else if call.method == SESSION_YIELD.name {
            match unpack::<YieldSession>(&call.body) {
                Ok(wanted) => self.yield_to(&wanted).await.map(|yielded| pack(&yielded)),
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
        self.close_session(player, None, why).await;
    }

    /// The same for one session of it; false if the player is not here under that session.
    async fn close_session(&self, player: ObjectId, session: Option<SessionId>, why: &str) -> bool {
        let (done, finished) = oneshot::channel();
        let close = FrontInput::Close { player, session, code: codes::REPLACED, text: why.to_owned(), done };
        if self.world.inputs.send(Input::Role(close)).await.is_err() {
            return false;
        }
        // Dropped: not here. Late: the claim will see who owns the document.
        !matches!(tokio::time::timeout(CLOSE_TIMEOUT, finished).await, Ok(Err(_)))
    }

    /// Ends a session for good, wherever its player is: it leaves the world, and its seat is empty.
    async fn end(&self, close: &CloseSession) -> Result<(), CallRefusal> {
        let CloseSession { session, player } = *close;
        let named = (!session.is_nil()).then(|| SessionId(session.as_u128()));
        let turn = self.shared.turn(player);
        let _turn = tokio::time::timeout(TURN_TIMEOUT, turn.lock()).await;
        if self.close_session(player, named, "the session was ended").await {
            return Ok(());
        }
        match named {
            Some(session) => self.clear_seat(player, session).await,
            None => Ok(()),
        }
    }

    /// Another frontend takes a player: it is let go, and its document released.
    async fn yield_to(&self, wanted: &YieldSession) -> Result<Yielded, CallRefusal> {
        let YieldSession { player, session, turn } = *wanted;
        let lock = self.shared.turn(player);
        let turn_of_it = tokio::time::timeout(TURN_TIMEOUT, lock.lock()).await;
        let stopping = || CallRefusal::new(codes::UNAVAILABLE, "this frontend is stopping");
        let session = SessionId(session.as_u128());
        let until = Instant::now() + HEARD;
        let yields = loop {
            let waited = Instant::now() >= until;
            let (reply, said) = oneshot::channel();
            if !self.world.role(FrontInput::Yield { player, session, turn, waited, reply }).await {
                return Err(stopping());
            }
            match said.await.map_err(|_| stopping())? {
                // NEVER so when it has waited.
                Ok(Yields::Later) => sleep(HEARD_LOOK).await,
                Ok(Yields::LetGo(yielded, released)) => break Some((yielded, released)),
                Ok(Yields::Absent) => break None,
                Err(farewell) => return Err(CallRefusal::new(farewell.code, farewell.text)),
            }
        };
        match yields {
            Some((yielded, released)) => {
                // An error means that it was fenced: there is nothing to release.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, released).await;
                Ok(yielded)
            }
            None => {
                drop(turn_of_it);
                // Whoever asks believes that it is ours: it is being released, or was claimed without our knowing.
                if self.is_released(player).await && self.adopt(player).await == Some(true) {
                    self.is_released(player).await;
                }
                Ok(Yielded::default())
            }
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

    /// A client's first message. On success the world has its sink, and the client's number is returned. A client whose
    /// player's owner has died waits until another may own it; one that gives up drops the call.
    ///
    /// `hand_over` is called when the token was found good: from then on only the returned sink may write.
    pub async fn hello(
        &self,
        protocol: u32,
        token: &str,
        kind: HelloKind,
        hand_over: impl FnOnce() -> Arc<dyn Sink> + Send,
    ) -> Result<ClientId, Farewell> {
        let proven = self.prove(protocol, token, kind)?;
        self.admit(proven, hand_over).await
    }

    /// Checks a client's first message. A ticket that was good is used up by it until [`Sessions::admit`] has failed.
    pub(super) fn prove(&self, protocol: u32, token: &str, kind: HelloKind) -> Result<Proven, Farewell> {
        if protocol != PROTOCOL {
            let text = format!("this frontend speaks protocol {PROTOCOL}, the client {protocol}: update the older one");
            return Err(Farewell::new(codes::PROTOCOL, text));
        }
        if token.starts_with(RESUME_MARK) || kind == HelloKind::Resume {
            return Ok(Proven::Resume(self.shared.resume_key.read(token)?));
        }
        if passage::is_token(token) {
            return Ok(Proven::Passage(token.to_owned()));
        }
        let (session, guest) = self.shared.book().redeem(self.shared.mesh.now_ms(), token)?;
        Ok(Proven::Ticket(session, guest))
    }

    /// Lets a client in whose token is good.
    pub(super) async fn admit(
        &self,
        proven: Proven,
        hand_over: impl FnOnce() -> Arc<dyn Sink> + Send,
    ) -> Result<ClientId, Farewell> {
        let shared = &self.shared;
        let ticket = match &proven {
            Proven::Ticket(session, _) => Some(*session),
            Proven::Passage(_) | Proven::Resume(_) => None,
        };
        // Also if this call is dropped.
        let mut used = UsedTicket { sessions: self, ticket };
        let full = |_| Farewell::new(codes::FULL, "too many clients wait here already");
        let _waits = shared.waiting.try_acquire().map_err(full)?;
        let (player, session, comes, begins) = match proven {
            Proven::Ticket(session, guest) => (guest.player, session, Comes::Anew, Begins::On(guest.island)),
            Proven::Resume(Resume { session, player, turn }) => {
                (player, session, Comes::Back { turn }, Begins::On(None))
            }
            Proven::Passage(token) => {
                if shared.draining() {
                    return Err(Farewell::new(codes::DRAINING, "this frontend is leaving"));
                }
                let passage = sail::arrive(shared, &token).await?;
                let session = SessionId(u128::from(shared.random()) << 64 | u128::from(shared.random()));
                let harbour = sail::landing(shared, passage.island).map(|place| (passage.island, place));
                let harbour = harbour.filter(|(island, _)| shared.islands.chart().takes_arrivals(*island));
                let begins =
                    harbour.map_or(Begins::On(Some(passage.island)), |(island, place)| Begins::At(island, place));
                (passage.player, session, Comes::Anew, begins)
            }
        };
        let client = NewClient { id: shared.next_client(), sink: hand_over() };
        let id = client.id;
        let arriving = Arriving { player, session, comes, begins, walks: None, battle: 0, client: Some(client) };
        let entered = self.bring_in(arriving).await;
        if ticket.is_some() {
            shared.expected().came(session);
        }
        entered?;
        used.ticket = None;
        Ok(id)
    }

    /// Where a player begins: where it was, unless it asked for another island or its place is no longer land.
    pub(super) fn start_of(&self, document: &PlayerDocument, wanted: Option<IslandId>) -> Option<(IslandId, Place)> {
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
}

/// Gives a ticket back that has let nobody in.
struct UsedTicket<'a> {
    sessions: &'a Sessions,
    ticket: Option<SessionId>,
}

impl Drop for UsedTicket<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.ticket {
            self.sessions.shared.book().give_back(session);
        }
    }
}
