//! The zoo: wakes habitats that players see, runs their animals' minds, and puts them to sleep when nobody looks.
//!
//! A habitat that is seen is claimed by the zoo that rendezvous names: its post (`post/habitat/ISLAND.INDEX`) has one owner,
//! whose epoch is that of all its animals. While it is awake its animals are reals of this node's world and have minds
//! ([`crate::game::minds`]); every half minute, and when it falls asleep, what matters of them is saved with the post. Asleep
//! it is a document that nobody reads, or nothing. A zoo that is fenced, or whose lease is lost, lets its minds rest at once.
//!
//! Fights: a hunter that has reached a player opens a battle, from then on the battle's room has control of it; blows among
//! animals are dealt here and by calls between zoos. It NEVER decides a battle.

pub mod dens;
pub mod habitats;

mod fights;
mod keeper;
mod rules;
mod sights;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::{IslandId, ObjectId};
use cartographer::terrain::Terrain;
use estate::transaction::Transactions;
use mesh::tasks::Tasks;
use mesh::{CallRefusal, Incarnation, IncomingCall, Mesh, NodeId, Role};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::audience::Audience;
use crate::calendar::Calendar;
use crate::game::content::Content;
use crate::islands::Archipelago;
use crate::owners::MeshOwners;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, WorldHandle};
use habitats::HabitatId;
use keeper::Keeper;

/// How long a leaving zoo waits for its habitats to be saved.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(8);

/// What flows tell the world.
pub enum ZooInput {
    /// A habitat's post is ours.
    Claimed {
        /// Which.
        id: HabitatId,
        /// Its epoch.
        epoch: u64,
        /// What was kept of it.
        state: Map<String, Value>,
        /// Who looks after the post.
        keeper: Keeper,
    },
    /// It is not.
    NotClaimed(HabitatId),
    /// It still is, under this epoch.
    Checked(HabitatId, u64),
    /// It is somebody else's now; it was ours under this epoch.
    Fenced(HabitatId, u64),
    /// It was given up.
    Released(HabitatId, u64),
    /// A peer asks.
    Call(IncomingCall),
    /// A battle that an animal wanted was opened, or not.
    Opened {
        /// The animal.
        animal: ObjectId,
        /// The battle in which it is, or may be without our knowing; none if it surely is in none.
        battle: Option<u64>,
        /// Whether it surely is.
        sure: bool,
        /// The colosseum.
        node: NodeId,
    },
    /// Another colosseum was asked to go on with a battle; `over`: there is nothing to go on with.
    Resumed {
        /// Which.
        battle: u64,
        /// Whether it is over.
        over: bool,
    },
    /// Another zoo tells what became of a hunter's blow.
    Struck {
        /// Who struck.
        hunter: ObjectId,
        /// Whether the prey is dead.
        killed: bool,
    },
    /// The node leaves: everything is given up. Told what each keeper will tell when it is done.
    Leave(oneshot::Sender<Vec<oneshot::Receiver<()>>>),
}

/// What the flows of a zoo share.
pub(crate) struct Shared {
    mesh: Mesh,
    estate: Arc<Transactions>,
    owners: Arc<MeshOwners>,
    islands: Archipelago,
    content: Arc<Content>,
    calendar: Calendar,
    tasks: Tasks,
    claims: AtomicU64,
}

impl Shared {
    /// A number that no other claim of this life has.
    fn next_claim(&self) -> u64 {
        self.claims.fetch_add(1, Ordering::Relaxed)
    }

    fn terrain(&self, island: IslandId) -> Option<Arc<Terrain>> {
        self.islands.get(island)
    }
}

/// A running zoo.
#[derive(Clone)]
pub struct Zoo {
    /// Its world.
    pub world: WorldHandle<ZooInput>,
    audience: Audience,
}

/// Starts it.
pub fn start(parts: Parts) -> std::io::Result<Zoo> {
    let Parts {
        mesh, events, world, estate, owners, islands, content, calendar, metrics, tasks, secret, draining, ..
    } = parts;
    let audience = Audience::default();
    let shared = Arc::new(Shared {
        mesh: mesh.clone(),
        estate,
        owners,
        islands,
        content,
        calendar,
        tasks: tasks.clone(),
        claims: AtomicU64::new(1),
    });
    let cells = audience.cells();
    let counted = metrics.clone();
    let world = world_loop::start(world, mesh.clone(), events, metrics, draining, &tasks, |handle| {
        rules::ZooRules::new(shared, handle.clone(), cells, &counted, secret)
    })?;
    tasks.spawn(forget_gone(mesh, audience.clone()));
    Ok(Zoo { world, audience })
}

/// Tells the audience of frontends that the directory has removed.
async fn forget_gone(mesh: Mesh, audience: Audience) {
    let mut peers = mesh.watch_peers();
    let mut known: BTreeSet<Incarnation> = BTreeSet::new();
    loop {
        let now: BTreeSet<Incarnation> = {
            let table = peers.borrow_and_update();
            let frontends = table.iter().filter(|peer| peer.record.role == Role::Frontend);
            frontends.map(|peer| peer.record.incarnation).collect()
        };
        known.difference(&now).for_each(|gone| audience.gone(*gone));
        known = now;
        if peers.changed().await.is_err() {
            return;
        }
    }
}

impl Zoo {
    /// Saves and releases what it owns: the first half of leaving the mesh.
    pub async fn leave(&self) {
        let (reply, told) = oneshot::channel();
        let all = async {
            if !self.world.role(ZooInput::Leave(reply)).await {
                return;
            }
            for done in told.await.unwrap_or_default() {
                // An error means that the keeper was fenced, which is as good as done.
                let _ = done.await;
            }
        };
        if timeout(LEAVE_TIMEOUT, all).await.is_err() {
            tracing::warn!("some habitats could not be saved in time; the lease's end gives them up");
        }
    }
}

#[async_trait]
impl Answers for Zoo {
    fn takes(&self, family: &str) -> bool {
        matches!(family, "watch" | "fighter" | "animal")
    }

    async fn answer(&self, call: IncomingCall) {
        match call.method.split('.').next() {
            Some("watch") => self.audience.answer(call),
            Some("fighter" | "animal") => drop(self.world.role(ZooInput::Call(call)).await),
            _ => {
                let refusal = CallRefusal::unknown_method(&call.method);
                call.answer(Err(refusal));
            }
        }
    }
}
