//! The colosseum: runs battles, each a room of [`crate::game::combat`] with a document that outlives this node.
//!
//! The rooms live in the world task ([`rules`]); every room has a keeper that saves it ([`keeper`]); whatever waits, such as
//! taking a fighter from its owner, giving it back or paying spoils, is a flow ([`flows`]). The battle is an object of the
//! world, so that each exchange reaches every watcher by the ordinary frames.
//!
//! How calls are answered:
//! - `battle.open` is idempotent by its number. The opener is trusted from its owner, who calls; the target is taken from
//!   its own. A target that fights already in battle N is not taken: the opener joins N, here or at the colosseum that looks
//!   after it, and the answer is N. So whoever is answered a number is in that battle.
//! - `battle.join` of a member gives it its place back, with the wounds that it has, and makes the caller its owner: what its
//!   former owner says of it is refused from then on.
//! - `battle.resume` answers nothing when the battle is here, `missing` when it is over or never was, and `elsewhere` with a
//!   node's name while that leads it, as far as the directory knows. All who ask at the same time are answered the same.
//! - What concerns a battle that was handed over is refused with `elsewhere` for as long as this node lives.
//!
//! While the store is away battles that are there go on: wounds are volatile, and watchers have seen them. None begins, none is
//! resumed, nobody who has fallen is paid for or, an animal, given back until the fall is saved; what is owed stays owed, in the
//! room and in its document.
//!
//! It NEVER acts without its lease, and after a pause in which it may have lost it not before it has found, by saving, that a
//! battle still is its own; it NEVER pays a spoil or gives a fallen animal back before the fall is saved.

mod coming;
mod flows;
mod hosted;
mod keeper;
mod rules;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use estate::post::Claimant;
use estate::transaction::Transactions;
use futures_util::{StreamExt, stream};
use mesh::tasks::Tasks;
use mesh::{CallRefusal, IncomingCall, Mesh, NodeId, Role};
use prometheus::{IntCounterVec, IntGauge};
use tokio::sync::{mpsc, oneshot};

use crate::draining::Draining;
use crate::game::GameWorld;
use crate::game::combat::{Debt, Event};
use crate::game::content::Content;
use crate::methods::living::{BATTLE_ACT, BATTLE_JOIN, BATTLE_LEAVE, BATTLE_OPEN, BATTLE_RESUME};
use crate::methods::living::{BattleAct, BattleJoin, BattleLeave, BattleOpen};
use crate::methods::{pack, unpack};
use crate::metrics::Metrics;
use crate::owners::MeshOwners;
use crate::protocol::codes;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, WorldHandle};
use flows::Flows;
use hosted::Hosting;
use rules::ColosseumRules;

/// Battles on one colosseum, at most; others are refused with `full`.
pub const ROOMS: usize = 512;

/// How long leaving waits for the last saves, and for others to go on with the battles.
const LEAVING: Duration = Duration::from_secs(10);

/// Battles that are handed over at the same time.
const HAND_OVERS: usize = 16;

/// What flows tell the world.
pub enum ColosseumInput {
    /// A battle is to be made or resumed under this number: may it be here?
    Reserve {
        /// Which.
        number: u64,
        /// If it is just being brought here the asker waits for that, until then at most; 0 if it does not wait.
        until_ms: u64,
        /// Where the answer goes.
        reply: Reply<Reserved>,
    },
    /// Nothing came of it, for this reason: who waits is told the same. Without a reason, who waits asks anew.
    Forget(u64, Option<CallRefusal>),
    /// A battle is here from now on.
    Host(Box<Hosting>, Reply<()>),
    /// Something happens in a battle, by the word of this life of this node.
    Happens {
        /// In which.
        number: u64,
        /// Who says so.
        from: Life,
        /// What.
        event: Event,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// A battle was saved as it was at this revision.
    Saved(u64, u64),
    /// Another node looks after this battle now.
    Fenced(u64),
    /// Something owed for a battle has been done.
    Settled(u64, Debt),
    /// Something owed for a battle could not be done yet.
    Unsettled(u64, Debt),
    /// A battle that was released here goes on at another node; at none: it is over.
    Moved(u64, Option<NodeId>),
    /// The lives of nodes that the directory shows.
    Living(Vec<Life>),
    /// This node leaves: rooms are saved and released. The answer comes when every keeper has its order: the battles, and what
    /// ends when they are released.
    Leave(oneshot::Sender<Vec<Released>>),
}

/// One life of a node.
pub type Life = (NodeId, u64);

/// A battle that is being released, and what ends when that is done.
pub type Released = (u64, oneshot::Receiver<()>);

/// Where the world's answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, CallRefusal>>;

/// What becomes of a battle that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It is here.
    Here,
    /// Somebody else's wish to bring it has come to nothing.
    Nothing(CallRefusal),
    /// It is the asker's to bring, until it says [`ColosseumInput::Host`] or [`ColosseumInput::Forget`].
    Yours,
}

/// What the tasks of a colosseum share.
pub(crate) struct Shared {
    pub(crate) mesh: Mesh,
    pub(crate) estate: Arc<Transactions>,
    pub(crate) owners: Arc<MeshOwners>,
    pub(crate) content: Arc<Content>,
    pub(crate) tasks: Tasks,
    pub(crate) battles: IntGauge,
    pub(crate) fighters: IntGauge,
    pub(crate) exchanges: IntCounterVec,
    claims: AtomicU64,
}

impl Shared {
    fn new(
        mesh: Mesh,
        estate: Arc<Transactions>,
        owners: Arc<MeshOwners>,
        content: Arc<Content>,
        tasks: Tasks,
        metrics: &Metrics,
    ) -> Shared {
        let battles = metrics.gauge("battles", "Battles that go on here.");
        let fighters = metrics.gauge("fighters", "Members of all battles here.");
        let labels = ["blow", "reaction"];
        let exchanges = metrics.counters("exchanges_total", "Exchanges, by blow and reaction.", &labels);
        let claims = AtomicU64::new(1);
        Shared { mesh, estate, owners, content, tasks, battles, fighters, exchanges, claims }
    }

    /// Who claims a post: a new number every time.
    pub(crate) fn claimant(&self) -> Claimant {
        let me = self.mesh.me();
        let claim = self.claims.fetch_add(1, Ordering::Relaxed);
        Claimant { node: me.node.to_string(), incarnation: me.incarnation.0, claim }
    }

    /// The owner for whom a caller speaks: itself, or, if it is a colosseum, whoever asked it.
    fn speaks_for(&self, from: &Life, owner: &NodeId) -> Result<Life, CallRefusal> {
        let peers = self.mesh.peers();
        let is_colosseum = peers.get(&from.0).is_some_and(|peer| peer.record.role == Role::Colosseum);
        match peers.get(owner) {
            Some(peer) if is_colosseum => Ok((owner.clone(), peer.record.incarnation.0)),
            _ => is_owner(from, owner).map(|()| from.clone()),
        }
    }

    /// Whether a life of a node is over, for the directory.
    pub(crate) fn is_gone(&self, (node, life): &Life) -> bool {
        let me = self.mesh.me();
        let here = me.node == *node && me.incarnation.0 == *life;
        !here && self.mesh.peers().get(node).is_none_or(|peer| peer.record.incarnation.0 != *life)
    }
}

/// A running colosseum.
#[derive(Clone)]
pub struct Colosseum {
    /// Its world.
    pub world: WorldHandle<ColosseumInput>,
    flows: Arc<Flows>,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Colosseum> {
    let Parts { mesh, events, world, metrics, tasks, estate, owners, content, draining, .. } = parts;
    let shared = Shared::new(mesh, estate, owners, content, tasks, &metrics);
    run(shared, world, events, metrics, draining)
}

fn run(
    shared: Shared,
    world: GameWorld,
    events: mpsc::Receiver<mesh::Event>,
    metrics: Arc<Metrics>,
    draining: Draining,
) -> std::io::Result<Colosseum> {
    let (mesh, tasks) = (shared.mesh.clone(), shared.tasks.clone());
    let shared = Arc::new(shared);
    let (rules, is_draining) = (shared.clone(), draining.clone());
    let make = |handle: &_| ColosseumRules::new(rules, handle, is_draining);
    let world = world_loop::start(world, mesh, events, metrics, draining, &tasks, make)?;
    tasks.spawn(tell_lives(shared.clone(), world.clone()));
    let flows = Arc::new(Flows { shared, world: world.clone() });
    Ok(Colosseum { world, flows })
}

/// Tells the world who lives, whenever that changes.
async fn tell_lives(shared: Arc<Shared>, world: WorldHandle<ColosseumInput>) {
    let mut peers = shared.mesh.watch_peers();
    let mut told = BTreeSet::new();
    loop {
        let lives: BTreeSet<Life> = peers
            .borrow_and_update()
            .iter()
            .map(|peer| (peer.record.node.clone(), peer.record.incarnation.0))
            .collect();
        if lives != told {
            if !world.role(ColosseumInput::Living(lives.iter().cloned().collect())).await {
                return;
            }
            told = lives;
        }
        if peers.changed().await.is_err() {
            return;
        }
    }
}

impl Colosseum {
    /// Saves and releases all battles, and has others go on with them: the first half of leaving the mesh. Waits for both, at most
    /// [`LEAVING`]. The battles stay to be seen here until they are seen elsewhere.
    pub async fn leave(&self) {
        let (reply, answer) = oneshot::channel();
        if !self.world.role(ColosseumInput::Leave(reply)).await {
            return;
        }
        let Ok(released) = answer.await else { return };
        let flows = &self.flows;
        let moves =
            stream::iter(released).for_each_concurrent(HAND_OVERS, |(number, saved)| flows.hand_over(number, saved));
        if tokio::time::timeout(LEAVING, moves).await.is_err() {
            tracing::warn!(
                "not every battle could be handed over in time; their fighters' owners ask for them elsewhere"
            );
        }
    }
}

#[async_trait]
impl Answers for Colosseum {
    fn takes(&self, family: &str) -> bool {
        family == "battle"
    }

    async fn answer(&self, call: IncomingCall) {
        let from = (call.from.clone(), call.incarnation.0);
        let answer = self.flows.answer(from, &call.method, &call.body).await;
        call.answer(answer);
    }
}

impl Flows {
    async fn answer(&self, from: Life, method: &str, body: &[u8]) -> Result<Bytes, CallRefusal> {
        let nothing = |()| Bytes::new();
        match method {
            name if name == BATTLE_OPEN.name => {
                let ask: BattleOpen = unpack(body)?;
                is_owner(&from, &ask.opener.node)?;
                self.open(from, ask).await.map(|number| pack(&number))
            }
            name if name == BATTLE_JOIN.name => {
                let BattleJoin { battle, fighter } = unpack(body)?;
                let owner = self.shared.speaks_for(&from, &fighter.node)?;
                let event = Event::Join(fighter, owner.1);
                self.happens(battle, owner, event).await.map(nothing)
            }
            name if name == BATTLE_ACT.name => {
                let BattleAct { battle, actor, blow, target, cause } = unpack(body)?;
                self.happens(battle, from, Event::Act { actor, blow, target, cause }).await.map(nothing)
            }
            name if name == BATTLE_LEAVE.name => {
                let BattleLeave { battle, object } = unpack(body)?;
                self.happens(battle, from, Event::Leave(object)).await.map(nothing)
            }
            name if name == BATTLE_RESUME.name => self.resume(unpack(body)?).await.map(nothing),
            other => Err(CallRefusal::unknown_method(other)),
        }
    }
}

fn is_owner((from, _): &Life, named: &NodeId) -> Result<(), CallRefusal> {
    if from == named {
        return Ok(());
    }
    Err(CallRefusal::new(codes::FORBIDDEN, format!("{from} does not speak for a fighter of {named}")))
}
