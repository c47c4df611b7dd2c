//! Players who come in: claimed, put where they were last seen, and given to the world.
//!
//! One way for all: with a ticket, with a resume token, with a passage, or moved here by another frontend without a client. The
//! flow goes on when whoever waits for it gives up, so that a claim NEVER stays without a keeper: a player that nobody waits for
//! any more is released as it was.
//!
//! What a dead owner had not saved is taken from what others last saw ([`Glances`]): all who ask within a moment are asked for
//! together.

use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::{Epoch, IslandId, ObjectId, Place};
use cartographer::ground::Ground;
use estate::player::PlayerDocument;
use mesh::Incarnation;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::claiming::Taken;
use super::keeper::Keeper;
use super::players::{Attached, FrontInput, Join, NewClient, speed};
use super::sessions::{Farewell, HEARD, HEARD_LOOK, Sessions};
use super::tickets::SessionId;
use crate::game::{Body, player, player::Player, pose};
use crate::last_seen;
use crate::methods::moving::{GHOSTS, Seen};
use crate::protocol::codes;
use crate::world_loop::Input;

/// Players of dead owners that wait to be looked for, at most; further ones wait before that.
const WISHES: usize = 1_024;

/// How long wishes are gathered, so that many are one question.
const GATHER: Duration = Duration::from_millis(10);

/// How long what others saw is waited for: longer than all nodes together are.
const GLANCE: Duration = Duration::from_millis(1_500);

/// Somebody who comes in.
pub(super) struct Arriving {
    /// Who.
    pub(super) player: ObjectId,
    /// Its session.
    pub(super) session: SessionId,
    /// By what right.
    pub(super) comes: Comes,
    /// Where it begins, unless its owner was gone: then it begins where it was last seen.
    pub(super) begins: Begins,
    /// Where it walks (1/256 tile), and how fast (1/256 tile a second), if it does.
    pub(super) walks: Option<((i32, i32), i32)>,
    /// The battle in which it is; 0 if it is in none.
    pub(super) battle: u64,
    /// Its client; without one it lingers in the world.
    pub(super) client: Option<NewClient>,
}

/// By what right somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// Its session is new, and wins over any other.
    Anew,
    /// Its session comes back, with a token of this turn.
    Back {
        /// The token's turn.
        turn: u64,
    },
    /// Another frontend has released it for this one, and its session goes on.
    Moved,
}

/// Where somebody begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// Where its document says, unless it asked for another island.
    On(Option<IslandId>),
    /// Here.
    At(IslandId, Place),
}

/// Somebody who has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// The turn of the last token that its client is known to have: the next one is what `Shared::resume_token` is to be given.
    pub(super) turn: u64,
}

/// What others last saw of a player.
pub(super) struct Glance {
    /// What.
    pub(super) seen: Seen,
    at: Instant,
}

impl Glance {
    fn now(&self) -> u64 {
        u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Where it is now.
    fn place(&self) -> Place {
        self.seen.motion.at(self.now())
    }

    /// Where it still walks, and how fast.
    fn walks(&self) -> Option<((i32, i32), i32)> {
        let motion = self.seen.motion;
        let end = motion.end();
        motion.is_moving(self.now()).then(|| ((end.x, end.y), speed(motion.velocity)))
    }
}

/// A question for what was last seen of a player, under an epoch.
pub(super) struct Wish(ObjectId, Epoch, oneshot::Sender<Option<Glance>>);

/// The way to [`look_around`].
pub(super) struct Glances(mpsc::Sender<Wish>);

impl Glances {
    pub(super) fn new() -> (Glances, mpsc::Receiver<Wish>) {
        let (wishes, wished) = mpsc::channel(WISHES);
        (Glances(wishes), wished)
    }

    /// What any node last saw of a player under this epoch.
    pub(super) async fn at(&self, player: ObjectId, epoch: Epoch) -> Option<Glance> {
        let (reply, seen) = oneshot::channel();
        let asked = async {
            self.0.send(Wish(player, epoch, reply)).await.ok()?;
            seen.await.ok()?
        };
        timeout(GLANCE, asked).await.ok()?
    }
}

/// Answers wishes, as many together as come within a moment.
pub(super) async fn look_around(sessions: Sessions, mut wished: mpsc::Receiver<Wish>) {
    while let Some(first) = wished.recv().await {
        sleep(GATHER).await;
        let mut wishes = vec![first];
        while wishes.len() < GHOSTS
            && let Ok(wish) = wished.try_recv()
        {
            wishes.push(wish);
        }
        let looking = sessions.clone();
        sessions.shared.tasks.spawn(async move { looking.look_for(wishes).await });
    }
}

impl Sessions {
    async fn look_for(&self, wishes: Vec<Wish>) {
        let shared = &self.shared;
        let epochs: FxHashMap<ObjectId, Epoch> =
            wishes.iter().map(|Wish(player, epoch, _)| (*player, *epoch)).collect();
        let mut players: Vec<ObjectId> = epochs.keys().copied().collect();
        players.sort_unstable();
        let (tell, told) = oneshot::channel();
        let (mesh, objects) = (shared.mesh.clone(), players.clone());
        let look = Input::Inspect(Box::new(move |world| {
            let peers = mesh.peers();
            let offset = |publisher| peers.by_incarnation(Incarnation(publisher)).map_or(0, |it| it.clock_offset_ms);
            // An error means that nobody waits for it.
            let _ = tell.send(last_seen::look(world, mesh.now_ms(), &objects, offset));
        }));
        let own = match self.world.inputs.send(look).await {
            Ok(()) => told.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        // An epoch that nobody has asked for has no ghosts: epochs begin at 1.
        let epoch = |player: ObjectId| epochs.get(&player).copied().unwrap_or_default();
        let mut found = last_seen::freshest(&shared.mesh, &players, own, epoch).await;
        let at = Instant::now();
        for Wish(player, epoch, reply) in wishes {
            let seen = found.remove(&player).filter(|seen| seen.epoch == epoch);
            // An error means that nobody waits for it any more.
            let _ = reply.send(seen.map(|seen| Glance { seen, at }));
        }
    }

    /// Brings a player in, by a flow of its own that does not end half-way.
    ///
    /// Asked again for a player that has come in already under this session without a client (`Comes::Moved`): the same answer.
    pub(super) async fn bring_in(&self, arriving: Arriving) -> Result<Arrived, Farewell> {
        let (mut reply, told) = oneshot::channel();
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            let turn = sessions.shared.turn(arriving.player);
            let _turn = tokio::select! {
                biased;
                () = reply.closed() => return,
                turn = turn.lock() => turn,
            };
            let arrived = sessions.arrive(arriving, || !reply.is_closed()).await;
            // An error means that nobody waits for it: what came in lingers.
            let _ = reply.send(arrived);
        });
        told.await.unwrap_or_else(|_| Err(Farewell::new(codes::UNAVAILABLE, "this frontend is stopping")))
    }

    async fn arrive(&self, mut arriving: Arriving, wanted: impl Fn() -> bool + Sync) -> Result<Arrived, Farewell> {
        if let Some(arrived) = self.come_back(&mut arriving, &wanted).await? {
            return Ok(arrived);
        }
        if self.shared.draining() {
            return Err(Farewell::new(codes::DRAINING, "this frontend is leaving"));
        }
        let taken = self.claim(&arriving, &wanted).await?;
        let wanted = wanted();
        self.join(arriving, taken, wanted).await
    }

    /// Somebody whose player is here already.
    async fn come_back(
        &self,
        arriving: &mut Arriving,
        wanted: impl Fn() -> bool + Sync,
    ) -> Result<Option<Arrived>, Farewell> {
        let stopping = || Farewell::new(codes::UNAVAILABLE, "this frontend is stopping");
        let (player, session) = (arriving.player, arriving.session);
        match arriving.comes {
            Comes::Anew => self.close(player, "a newer session has taken over").await,
            Comes::Back { turn } => {
                let Some(client) = arriving.client.take() else { return Ok(None) };
                arriving.client = self.attach(player, (session, turn), client, wanted).await?;
                if arriving.client.is_none() {
                    return Ok(Some(Arrived { turn }));
                }
            }
            Comes::Moved => {
                let (reply, seated) = oneshot::channel();
                if !self.world.role(FrontInput::Seated(player, reply)).await {
                    return Err(stopping());
                }
                match seated.await.map_err(|_| stopping())? {
                    Some((present, turn)) if present == session => return Ok(Some(Arrived { turn })),
                    Some(_) => return Err(estate::player::Unseated::Replaced.into()),
                    None => {}
                }
            }
        }
        Ok(None)
    }

    /// Gives a player that is here its client, which is returned if the player is not here.
    ///
    /// Somebody who was welcomed after the same token had been shown, and whose connection lives as far as anybody knows, is first
    /// given [`HEARD`] to be heard: then the token is used up. If it is not, its welcome may never have come, and the newest
    /// connection has the player.
    async fn attach(
        &self,
        player: ObjectId,
        (session, turn): (SessionId, u64),
        mut client: NewClient,
        wanted: impl Fn() -> bool + Sync,
    ) -> Result<Option<NewClient>, Farewell> {
        let stopping = || Farewell::new(codes::UNAVAILABLE, "this frontend is stopping");
        let until = Instant::now() + HEARD;
        loop {
            let waited = Instant::now() >= until;
            let (reply, attached) = oneshot::channel();
            if !self.world.role(FrontInput::Attach { player, session, turn, waited, client, reply }).await {
                return Err(stopping());
            }
            match attached.await.map_err(|_| stopping())? {
                Attached::Here => return Ok(None),
                Attached::Refused(farewell) => return Err(farewell),
                Attached::Absent(absent) => return Ok(Some(absent)),
                // NEVER so when it has waited.
                Attached::Later(later) => client = later,
            }
            sleep(HEARD_LOOK).await;
            if !wanted() {
                return Err(Farewell::new(codes::UNAVAILABLE, "nobody waits for it any more"));
            }
        }
    }

    /// Gives a claimed player to the world; one that nobody waits for any more is released.
    async fn join(&self, arriving: Arriving, taken: Taken, wanted: bool) -> Result<Arrived, Farewell> {
        let Taken { claimed, glance, yielded } = taken;
        let document = claimed.document.clone();
        let epoch = Epoch(claimed.epoch());
        // Dropped before the player is in the world it releases the document, whose seat is as it was.
        let keeper = Keeper::start(self.shared.clone(), self.world.clone(), claimed);
        if !wanted {
            return Err(Farewell::new(codes::UNAVAILABLE, "nobody waits for it any more"));
        }
        let seen = glance.as_ref().and_then(|glance| self.stands(glance));
        let begins = match arriving.begins {
            Begins::At(island, place) => Some((island, place)),
            Begins::On(None) => seen.or_else(|| self.start_of(&document, None)),
            Begins::On(wanted) => {
                seen.filter(|(on, _)| wanted == Some(*on)).or_else(|| self.start_of(&document, wanted))
            }
        };
        let Some((island, place)) = begins else {
            return Err(Farewell::new(codes::UNAVAILABLE, "this frontend has no island to begin on"));
        };
        let here = seen == Some((island, place)) || arriving.comes != Comes::Anew;
        let walked = glance.as_ref().and_then(Glance::walks).or(arriving.walks).or(yielded.walks).filter(|_| here);
        let fights = glance.as_ref().map_or(0, |glance| match glance.seen.view.pose {
            pose::FIGHTS => glance.seen.view.tie,
            _ => 0,
        });
        let battle = [arriving.battle, yielded.battle, fights].into_iter().find(|battle| *battle != 0 && here);
        // Nobody has a token whose turn is 0, by which a move is told from a return.
        let turn = document.seat.turn.max(1);
        let (reply, joined) = oneshot::channel();
        let join = Join {
            player: arriving.player,
            session: arriving.session,
            epoch,
            body: Body::Player(body_of(&document, glance.as_ref())),
            island,
            place,
            walks: walked.map(|((x, y), speed)| (Place::new(x, y), speed.min(player::MAX_SPEED))),
            battle: battle.unwrap_or(0),
            turn,
            floor: document.floor,
            floor_s: document.floor_s,
            home: IslandId(document.home),
            client: arriving.client,
            keeper,
            reply,
        };
        let stopping = || Farewell::new(codes::UNAVAILABLE, "this frontend is stopping");
        if !self.world.role(FrontInput::Join(Box::new(join))).await {
            return Err(stopping());
        }
        joined.await.map_err(|_| stopping())?.map(|()| Arrived { turn })
    }

    /// Where a player was last seen, if one can stand there.
    fn stands(&self, glance: &Glance) -> Option<(IslandId, Place)> {
        let (island, place) = (glance.seen.island, glance.place());
        let chart = self.shared.islands.chart();
        let terrain: &Arc<_> = chart.get(island).filter(|_| chart.takes_arrivals(island))?;
        place.tile().is_some_and(|tile| terrain.walkable(tile)).then_some((island, place))
    }
}

/// A player as its document has it, with the wounds that others have seen.
fn body_of(document: &PlayerDocument, glance: Option<&Glance>) -> Player {
    let health = glance.map_or(document.health, |glance| glance.seen.view.health);
    Player { name: document.name.clone(), hue: document.hue, health, ..Player::default() }
}
