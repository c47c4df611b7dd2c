//! The zoo: wakes habitats that players see, runs their animals' minds, and puts them to sleep when nobody looks.
//!
//! A habitat that is seen is claimed by the zoo that rendezvous names: its post (`post/habitat/ISLAND.INDEX`) has one owner,
//! whose epoch is that of all its animals. While it is awake its animals are reals of this node's world and have minds
//! ([`crate::game::minds`]); every half minute, and when it falls asleep, what matters of them is saved with the post. Asleep
//! it is a document that nobody reads, or nothing. A zoo that is fenced, or whose lease is lost, lets its minds rest at once.
//!
//! When a zoo dies the next one claims what is seen as soon as the directory says so, and goes on from the freshest sight of
//! each animal that any node has ([`crate::last_seen`]). A zoo that leaves hands its habitats on, a bounded number at once:
//! saved, given up, woken by the next one (`animal.wake`), and shown here until they are shown there. A zoo that joins gets
//! what wakes from then on: whatever is awake stays where it is until nobody looks. After a time without its lease, as when the
//! process was frozen, a zoo shows, saves and answers nothing for a habitat before its post has said that it is still its own.
//!
//! Fights: a hunter that has reached a player opens a battle, from then on the battle's room has control of it; blows among
//! animals are dealt here and by calls between zoos. It NEVER decides a battle.

pub mod dens;
pub mod habitats;

mod deaths;
mod fights;
mod gauges;
mod keeper;
mod moves;
mod rejoin;
mod rules;
mod sights;
mod stages;
mod waking;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::{IslandId, ObjectId};
use cartographer::terrain::Terrain;
use estate::transaction::Transactions;
use mesh::tasks::Tasks;
use mesh::{CallRefusal, IncomingCall, Mesh, NodeId};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::audience::{self, Audience};
use crate::calendar::Calendar;
use crate::draining::Draining;
use crate::game::content::Content;
use crate::islands::Archipelago;
use crate::methods::moving::Seen;
use crate::owners::MeshOwners;
use crate::role::{Answers, Parts};
use crate::world_loop::{self, WorldHandle};
use habitats::HabitatId;
use keeper::Keeper;

/// How long a leaving zoo waits for its habitats to be saved, and taken over by others.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What flows tell the world.
pub enum ZooInput {
    /// A habitat's post is ours.
    Claimed(Box<Claimed>),
    /// It is not.
    NotClaimed(HabitatId, NotClaimed),
    /// It still is, under this epoch, as was asked under this number.
    Checked {
        /// Which.
        id: HabitatId,
        /// Its epoch.
        epoch: u64,
        /// The question's number.
        number: u64,
    },
    /// It is saved as it was given under this number.
    Saved {
        /// Which.
        id: HabitatId,
        /// Its epoch.
        epoch: u64,
        /// The state's number.
        number: u64,
    },
    /// It could not be saved, or asked about: the store is away.
    Unsaved(HabitatId, u64),
    /// It is somebody else's now; it was ours under this epoch.
    Fenced(HabitatId, u64),
    /// It was given up.
    Released {
        /// Which.
        id: HabitatId,
        /// Its epoch.
        epoch: u64,
        /// False if that is taking long, and goes on.
        given_up: bool,
    },
    /// It was given up, and this zoo has woken it since; none if none has.
    HandedOn(HabitatId, u64, Option<NodeId>),
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
    /// A battle in which an animal was when it came to us was told so, or is over for it.
    Rejoined {
        /// The animal.
        animal: ObjectId,
        /// Which.
        battle: u64,
        /// Whether it is free.
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

/// A habitat whose post was claimed.
pub struct Claimed {
    id: HabitatId,
    epoch: u64,
    state: Map<String, Value>,
    /// What other nodes last saw of its animals, if that can be newer than what was saved.
    seen: Option<Vec<Seen>>,
    keeper: Keeper,
}

/// Why a habitat was not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClaimed {
    /// Somebody who lives has it.
    Held,
    /// Store or directory could not be asked.
    Failed,
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
    draining: Draining,
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
        draining: draining.clone(),
        claims: AtomicU64::new(1),
    });
    let cells = audience.cells();
    let counted = metrics.clone();
    let world = world_loop::start(world, mesh.clone(), events, metrics, draining, &tasks, |handle| {
        rules::ZooRules::new(shared, handle.clone(), cells, &counted, secret)
    })?;
    tasks.spawn(audience::follow(mesh, audience.clone()));
    Ok(Zoo { world, audience })
}

impl Zoo {
    /// Saves and releases what it owns, and has other zoos go on with it: the first half of leaving the mesh. Its animals are
    /// shown until others show them.
    pub async fn leave(&self) {
        let (reply, told) = oneshot::channel();
        let all = async {
            if !self.world.role(ZooInput::Leave(reply)).await {
                return;
            }
            for done in told.await.unwrap_or_default() {
                // An error means that the habitat was another's by then, which is as good as done.
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
