//! The nodes of a simulated mesh: started, killed, frozen, drained and started again by number.
//!
//! Everything that a node is made from is the real code but for transport, directory, store and time. A place keeps its way
//! to directory and store over all lives of its node. Nothing here decides when anything happens: see `faults`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Result;
use cartographer::terrain::Terrain;
use estate::store::memory::{Faults as StoreFaults, MemoryStore, Rates};
use estate::transaction::Transactions;
use mesh::directory::memory::{MemoryClient, MemoryDirectory};
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::transport::memory::{Fault, MemoryNetwork};
use mesh::{Mesh, NodeId, Role};
use nodes::calendar::Calendar;
use nodes::colosseum::ColosseumInput;
use nodes::draining::Draining;
use nodes::frontend::players::FrontInput;
use nodes::game::GameWorld;
use nodes::game::content::Content;
use nodes::garden::GardenInput;
use nodes::islands::Archipelago;
use nodes::metrics::Exposition;
use nodes::steward::WorldRules;
use nodes::wiring::{self, Door, Membership, Node, Setup};
use nodes::world_loop::{Input, Inspection, WorldHandle};
use nodes::zoo::ZooInput;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::documents::{Ledger, Watched};
use super::lands;
use super::plan::Plan;
use super::sometimes::Counts;
use crate::village::Doors;

/// The cluster and the district of all nodes.
const CLUSTER: &str = "sim";
const DISTRICT: &str = "main";

/// How long a node's lease is, in seconds.
pub const LEASE_S: u32 = 5;

/// The day on which runs begin, in seconds since 1970.
const BEGINNING_S: u64 = 1_800_000_000;

/// The way into a node's world, to look at it.
enum Eyes {
    Frontend(WorldHandle<FrontInput>),
    Zoo(WorldHandle<ZooInput>),
    Garden(WorldHandle<GardenInput>),
    Colosseum(WorldHandle<ColosseumInput>),
}

impl Eyes {
    async fn look(&self, look: Inspection) -> bool {
        match self {
            Eyes::Frontend(world) => world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Eyes::Zoo(world) => world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Eyes::Garden(world) => world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Eyes::Colosseum(world) => world.inputs.send(Input::Inspect(look)).await.is_ok(),
        }
    }
}

/// One life of a node.
pub struct Life {
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// Its tasks.
    pub tasks: Tasks,
    /// Its transactions.
    pub estate: Arc<Transactions>,
    /// Whether it is being emptied.
    pub draining: Draining,
    eyes: Eyes,
    /// Until it is told to leave.
    node: Option<Node>,
}

impl Life {
    fn new(node: Node) -> Option<Life> {
        let eyes = match &node.door {
            Door::Frontend(frontend) => Eyes::Frontend(frontend.world.clone()),
            Door::Zoo(zoo) => Eyes::Zoo(zoo.world.clone()),
            Door::Garden(garden) => Eyes::Garden(garden.world.clone()),
            Door::Colosseum(colosseum) => Eyes::Colosseum(colosseum.world.clone()),
            // A gateway serves HTTP, which is not simulated.
            Door::Gateway(_) => return None,
        };
        Some(Life {
            mesh: node.mesh.clone(),
            tasks: node.tasks.clone(),
            estate: node.estate.clone(),
            draining: node.draining.clone(),
            eyes,
            node: Some(node),
        })
    }

    /// The number of this life.
    pub fn incarnation(&self) -> u64 {
        self.mesh.me().incarnation.0
    }

    /// Lets somebody look at its world between two inputs; nothing if the world is gone.
    pub async fn look<T: Send + 'static>(&self, look: impl FnOnce(&GameWorld) -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let look: Inspection = Box::new(move |world| {
            // An error means that nobody waits any more.
            let _ = tell.send(look(world));
        });
        tokio::select! {
            biased;
            told = async {
                if !self.eyes.look(look).await {
                    return None;
                }
                told.await.ok()
            } => told,
            () = self.tasks.until_stopped() => None,
        }
    }
}

/// One node's place in the mesh, whoever lives there.
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its way to the directory, the same for all its lives.
    pub client: MemoryClient,
    /// What befalls its way to the store.
    pub store: StoreFaults,
    /// The running node, if one runs.
    pub life: Option<Life>,
    /// Whether it is frozen, and since when.
    pub frozen: Option<Instant>,
    /// Until when it may believe itself the owner of what others have taken over: its lease was ended before its time.
    pub misled_until: Option<Instant>,
    /// When it thawed.
    pub woken: Option<Instant>,
    /// Until when something stands between it and others, the directory or the store.
    pub troubled_until: Option<Instant>,
}

impl Place {
    /// The running node, unless it is frozen.
    pub fn awake(&self) -> Option<&Life> {
        self.life.as_ref().filter(|life| self.frozen.is_none() && !life.tasks.stopped())
    }
}

/// A simulated mesh.
pub struct Cluster {
    /// The network between the nodes.
    pub network: MemoryNetwork,
    /// The directory.
    pub directory: MemoryDirectory,
    /// The documents, past all faults.
    pub store: MemoryStore,
    /// What all nodes wrote.
    pub ledger: Ledger,
    /// The nodes.
    pub places: Vec<Place>,
    /// The islands.
    pub islands: Vec<Arc<Terrain>>,
    /// The game's content.
    pub content: Arc<Content>,
    /// The frontends that run, by name, as clients find them.
    pub doors: Doors,
    /// What happened.
    pub counts: Counts,
    calendar: Calendar,
    calendars_s: u64,
    delay: Duration,
    random: StdRng,
    ground: Tasks,
}

impl Cluster {
    /// Starts all nodes.
    pub async fn start(plan: &Plan, counts: &Counts) -> Result<Cluster> {
        let ground = Tasks::simulated();
        let directory = MemoryDirectory::start(&ground, plan.seed);
        let store = MemoryStore::new();
        let roles = plan.nodes.iter().flat_map(|(role, count)| (1..=*count).map(|number| (*role, number)));
        let places = roles.map(|(role, number)| Place {
            name: format!("{role}-{number}"),
            role,
            client: directory.client(),
            store: store.client().faults(),
            life: None,
            frozen: None,
            misled_until: None,
            woken: None,
            troubled_until: None,
        });
        let mut cluster = Cluster {
            network: MemoryNetwork::new(plan.seed),
            places: places.collect(),
            directory,
            ledger: Ledger::default(),
            islands: lands::terrains(),
            content: lands::content(plan.fierce),
            doors: Doors::default(),
            counts: counts.clone(),
            calendar: Calendar::beginning(BEGINNING_S),
            calendars_s: plan.calendars_s,
            delay: Duration::from_millis(plan.delay_ms.into()),
            random: StdRng::seed_from_u64(plan.seed ^ 0x636c_7573),
            ground,
            store,
        };
        if plan.delay_ms > 0 {
            cluster.network.set_default_fault(Fault::delay(plan.delay_ms, plan.delay_ms / 2));
        }
        for i in 0..cluster.places.len() {
            cluster.revive(i).await?;
        }
        Ok(cluster)
    }

    /// The district of all nodes.
    pub fn district() -> District {
        District::new(CLUSTER, DISTRICT)
    }

    /// A node's way to the store is well: as slow as it is, and nothing worse.
    pub fn well(&mut self, i: usize) {
        self.places[i].store.clear();
        if !self.delay.is_zero() {
            let seed = self.random.next_u64();
            self.places[i].store.random(seed, Rates { delay: self.delay, ..Rates::default() });
        }
    }

    /// Forgets the lives that have ended by themselves: nodes that have left, and those that found their names taken.
    pub fn reap(&mut self) {
        for i in 0..self.places.len() {
            if self.places[i].life.as_ref().is_some_and(|life| life.tasks.stopped()) {
                let left = self.places[i].life.take().is_some_and(|life| life.node.is_none());
                self.counts.add(if left { "left_in_order" } else { "stopped_by_itself" });
                self.shut(i);
            }
        }
    }

    /// Starts a node that is dead.
    pub async fn revive(&mut self, i: usize) -> Result<()> {
        self.reap();
        if self.places[i].life.is_some() {
            return Ok(());
        }
        let tasks = Tasks::simulated();
        let mut secret = [0; 32];
        self.random.fill_bytes(&mut secret);
        let wrong_s = self.random.random_range(0..=self.calendars_s);
        let way = self.store.client();
        self.places[i].store = way.faults();
        self.well(i);
        let place = &mut self.places[i];
        let store = Watched::new(way, &place.name, self.ledger.clone(), self.counts.clone());
        let public = (place.role == Role::Frontend).then(|| format!("ws://sim/{}", place.name));
        let setup = Setup {
            membership: Membership {
                cluster: CLUSTER.to_owned(),
                district: DISTRICT.to_owned(),
                key: b"the simulation's key".to_vec(),
                lease_ttl_s: LEASE_S,
            },
            node: NodeId::new(&place.name)?,
            role: place.role,
            directory: Arc::new(place.client.clone()),
            transport: self.network.transport(&place.name, &tasks),
            store: Arc::new(store),
            islands: Archipelago::new(self.islands.iter().cloned()),
            tasks,
            door: None,
            public,
            frontend: nodes::frontend::Config::default(),
            gateway: Default::default(),
            exposition: Exposition::new(),
            secret,
            content: self.content.clone(),
            calendar: Calendar::beginning(self.calendar.now_s() + wrong_s),
            steward: Some(WorldRules { islands_least: 0, islands_most: 0, ..WorldRules::default() }),
        };
        let node = wiring::start(setup).await?;
        if let Door::Frontend(frontend) = &node.door {
            let door = (frontend.sessions.clone(), node.tasks.clone());
            self.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(place.name.clone(), door);
        }
        (place.life, place.misled_until, place.woken) = (Life::new(node), None, None);
        Ok(())
    }

    /// Kills a node: nothing of it runs afterwards.
    pub fn kill(&mut self, i: usize) {
        self.freeze(i, false);
        if let Some(life) = self.places[i].life.take() {
            life.tasks.stop();
        }
        self.shut(i);
    }

    /// Tells a node to leave, as SIGTERM does. It goes on until it has given away what it owns.
    pub fn drain(&mut self, i: usize) {
        let Some(life) = &mut self.places[i].life else { return };
        if let Some(node) = life.node.take() {
            life.tasks.spawn(node.leave());
        }
    }

    /// Freezes or thaws a node, as SIGSTOP and SIGCONT do.
    pub fn freeze(&mut self, i: usize, frozen: bool) {
        let place = &mut self.places[i];
        let since = place.frozen.take();
        if frozen {
            place.frozen = since.or(Some(Instant::now()));
        } else if since.is_some() {
            place.woken = Some(Instant::now());
        }
        if let Some(life) = &place.life {
            life.tasks.freeze(frozen);
        }
    }

    /// Ends a node's lease before its time. False if it has none.
    pub fn lose_lease(&mut self, i: usize) -> bool {
        let prefix = Cluster::district().prefix().to_owned();
        let name = format!("/{}", self.places[i].name);
        let mut own = self.directory.peek(&prefix).into_iter().filter(|entry| entry.key.ends_with(&name));
        let Some(lease) = own.find_map(|entry| entry.lease) else { return false };
        let lost = self.directory.lose_lease(lease);
        if lost {
            self.places[i].misled_until = Some(Instant::now() + Duration::from_secs(u64::from(LEASE_S) + 1));
        }
        lost
    }

    /// Transactions of some node that runs.
    pub fn estate(&self) -> Option<&Arc<Transactions>> {
        self.places.iter().find_map(Place::awake).map(|life| &life.estate)
    }

    /// Kills everything.
    pub fn stop(&mut self) {
        (0..self.places.len()).for_each(|i| self.kill(i));
        self.ground.stop();
    }

    fn shut(&mut self, i: usize) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.places[i].name);
    }
}
