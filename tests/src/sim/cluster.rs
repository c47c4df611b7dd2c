//! The nodes of a simulated mesh: started, killed, frozen and started again by name.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use cartographer::terrain::Terrain;
use estate::store::memory::MemoryStore;
use mesh::directory::memory::{MemoryClient, MemoryDirectory};
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeId, Role};
use nodes::calendar::Calendar;
use nodes::frontend::sessions::Sessions;
use nodes::game::content::Content;
use nodes::islands::Archipelago;
use nodes::metrics::Exposition;
use nodes::wiring::{self, Door, Membership, Node, Setup};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::SimConfig;

/// The island on which simulated players walk: the smallest of the bundled ones.
const ISLAND: &str = "santorini";

/// One node's place in the mesh, whoever lives there.
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its way to the directory, the same for all its lives.
    pub client: MemoryClient,
    /// The running node, if it runs.
    pub node: Option<Node>,
    /// Whether it is frozen.
    pub frozen: bool,
}

/// A simulated mesh.
pub struct Cluster {
    /// The network between the nodes.
    pub network: MemoryNetwork,
    /// The directory.
    pub directory: MemoryDirectory,
    /// The store.
    pub store: MemoryStore,
    /// The nodes.
    pub places: Vec<Place>,
    /// The islands.
    pub islands: Arc<Vec<Arc<Terrain>>>,
    /// The frontends that walkers may try, as they are now. `None`: not running.
    pub frontends: Frontends,
    calendar: Calendar,
    random: StdRng,
    ground: Tasks,
}

/// The frontends as clients find them: by number, with what tells whether the process lives.
pub type Frontends = Arc<Mutex<Vec<Option<(Sessions, Tasks)>>>>;

impl Cluster {
    /// Starts all nodes.
    pub async fn start(config: &SimConfig) -> Result<Cluster> {
        let ground = Tasks::simulated();
        let directory = MemoryDirectory::start(&ground, config.seed);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
        let islands = nodes::islands::open(Some(&folder))?;
        let all = islands.all();
        let island = all.iter().find(|t| t.name() == ISLAND).context("the simulation's island is missing")?;
        let roles = std::iter::repeat_n(Role::Frontend, config.frontends)
            .chain([Role::Zoo, Role::Garden, Role::Colosseum].into_iter().cycle().take(config.others));
        let places = roles.enumerate().map(|(i, role)| Place {
            name: format!("{role}-{i}"),
            role,
            client: directory.client(),
            node: None,
            frozen: false,
        });
        let mut cluster = Cluster {
            network: MemoryNetwork::new(config.seed),
            places: places.collect(),
            directory,
            store: MemoryStore::new(),
            islands: Arc::new(vec![island.clone()]),
            frontends: Arc::new(Mutex::new((0..config.frontends).map(|_| None).collect())),
            calendar: Calendar::beginning(1_800_000_000),
            random: StdRng::seed_from_u64(config.seed),
            ground,
        };
        for i in 0..cluster.places.len() {
            cluster.revive(i).await?;
        }
        Ok(cluster)
    }

    /// Starts a node that is dead.
    pub async fn revive(&mut self, i: usize) -> Result<()> {
        if self.places[i].node.is_some() {
            return Ok(());
        }
        let tasks = Tasks::simulated();
        let mut secret = [0; 32];
        self.random.fill_bytes(&mut secret);
        let place = &mut self.places[i];
        let setup = Setup {
            membership: Membership {
                cluster: "sim".to_owned(),
                district: "main".to_owned(),
                key: b"the simulation's key".to_vec(),
                lease_ttl_s: 5,
            },
            node: NodeId::new(&place.name)?,
            role: place.role,
            directory: Arc::new(place.client.clone()),
            transport: self.network.transport(&place.name, &tasks),
            store: Arc::new(self.store.client()),
            islands: Archipelago::new(self.islands.iter().cloned()),
            tasks,
            door: None,
            public: None,
            frontend: nodes::frontend::Config::default(),
            gateway: Default::default(),
            exposition: Exposition::new(),
            secret,
            content: Content::bundled(),
            calendar: self.calendar,
            steward: None,
        };
        let node = wiring::start(setup).await?;
        if let Door::Frontend(frontend) = &node.door {
            self.list(i, Some((frontend.sessions.clone(), node.tasks.clone())));
        }
        self.places[i].node = Some(node);
        Ok(())
    }

    /// Kills a node: nothing of it runs afterwards.
    pub fn kill(&mut self, i: usize) {
        self.freeze(i, false);
        if let Some(node) = self.places[i].node.take() {
            node.tasks.stop();
        }
        self.list(i, None);
    }

    /// Freezes or thaws a node, as SIGSTOP and SIGCONT do.
    pub fn freeze(&mut self, i: usize, frozen: bool) {
        let place = &mut self.places[i];
        place.frozen = frozen;
        if let Some(node) = &place.node {
            node.tasks.freeze(frozen);
        }
    }

    /// Kills everything.
    pub fn stop(&mut self) {
        (0..self.places.len()).for_each(|i| self.kill(i));
        self.ground.stop();
    }

    fn list(&self, i: usize, frontend: Option<(Sessions, Tasks)>) {
        let mut frontends = self.frontends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = frontends.get_mut(i) {
            *entry = frontend;
        }
    }
}
