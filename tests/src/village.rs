//! A village: a whole mesh of real role code on simulated network, directory, store and time, for stories.
//!
//! Like the simulation ([`crate::sim`]), but told instead of drawn by chance: nodes have names, islands are drawn by the story
//! and small, and [`Person`]s do what the story says. All calendars pass with simulated time. Every story ends with an
//! audit of all documents.

pub mod land;

pub mod person;
pub mod seen;

mod trouble;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cartographer::terrain::Terrain;
use estate::audit::audit;
use estate::goods::transfer::{Leg, transfer};
use estate::goods::{Goods, ItemName, Place, Serial, Unique};
use estate::store::memory::{Faults, MemoryStore, Rates};
use estate::transaction::{OperationId, Transactions};
use mesh::directory::Directory;
use mesh::directory::memory::{MemoryClient, MemoryDirectory};
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeId, PeerState, Role};
use nodes::calendar::Calendar;
use nodes::election;
use nodes::frontend;
use nodes::game::GameWorld;
use nodes::game::content::Content;
use nodes::islands::Archipelago;
use nodes::islands::record::{self, IslandKind, IslandRecord, IslandState};
use nodes::metrics::Exposition;
use nodes::steward::WorldRules;
use nodes::steward::office::Office;
use nodes::wiring::{self, DRAIN_TIMEOUT, Door, Membership, Node, Setup};
use nodes::world_loop::Inspection;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

pub use land::Land;
pub use person::{Doors, PATIENCE, Person, Reply};
pub use seen::{Seen, Thing};

/// The variable that names another seed than 1.
const SEED: &str = "WILDMESH_STORY_SEED";

/// Where the village's nodes belong.
const CLUSTER: &str = "village";
const DISTRICT: &str = "main";

/// How long news from the directory may take to reach everybody.
const SETTLE: Duration = Duration::from_secs(2);

/// The day on which stories begin, in seconds since 1970.
const BEGINNING_S: u64 = 1_800_000_000;

/// Between two looks at the mesh.
const LOOK: Duration = Duration::from_millis(100);

/// How long a node is dead, or the store away, when it is restarted: longer than a lease.
const RESTART: Duration = Duration::from_secs(7);

/// Player numbers begin here.
const FIRST_PLAYER: u64 = 1_000;

/// A district: its name, its nodes by role, its islands.
pub type OtherDistrict = (String, Vec<(Role, usize)>, Vec<Land>);

/// What a village is made from.
pub struct Plan {
    /// Everything that is left to chance comes from it.
    pub seed: u64,
    /// Nodes, by role.
    pub nodes: Vec<(Role, usize)>,
    /// The islands.
    pub lands: Vec<Land>,
    /// The game's content: the bundled one, as the story changes it.
    pub content: Content,
    /// How stewards look after the islands that come and go; without it nobody does.
    pub steward: Option<WorldRules>,
    /// Other districts of the cluster: name, nodes by role, islands. Their nodes are named `DISTRICT-ROLE-NUMBER`.
    pub districts: Vec<OtherDistrict>,
}

impl Plan {
    /// Two frontends, two gardens, two zoos and a colosseum.
    pub fn new(lands: impl Into<Vec<Land>>) -> Plan {
        let nodes = vec![(Role::Frontend, 2), (Role::Garden, 2), (Role::Zoo, 2), (Role::Colosseum, 1)];
        // Stories hold for any seed; another one is tried by the variable.
        let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        Plan {
            seed,
            nodes,
            lands: lands.into(),
            content: (*Content::bundled()).clone(),
            steward: None,
            districts: Vec::new(),
        }
    }

    /// With so many nodes of a role.
    pub fn with(mut self, role: Role, count: usize) -> Plan {
        self.nodes.retain(|(other, _)| *other != role);
        self.nodes.push((role, count));
        self
    }

    /// With stewards.
    pub fn looked_after(mut self, rules: WorldRules) -> Plan {
        self.steward = Some(rules);
        self
    }

    /// With another district: these nodes and islands are its own, directory and store are the same.
    pub fn beside(mut self, district: &str, nodes: &[(Role, usize)], lands: impl Into<Vec<Land>>) -> Plan {
        self.districts.push((district.to_owned(), nodes.to_vec(), lands.into()));
        self
    }

    /// With content changed by the story.
    pub fn changing(mut self, change: impl FnOnce(&mut Content)) -> Plan {
        change(&mut self.content);
        self
    }
}

/// Tells a story in a village of its own, on a runtime of its own with simulated time. Afterwards all documents are audited.
///
/// # Panics
/// If the story fails, or the audit finds something.
pub fn story(plan: Plan, tell: impl AsyncFnOnce(&mut Village)) {
    let runtime = crate::pipe::runtime(plan.seed).build();
    runtime.expect("a runtime").block_on(async {
        let mut village = Village::build(plan).await;
        tell(&mut village).await;
        village.is_clean().await;
        village.stop();
    });
}

/// One node's place in the village, whoever lives there.
struct House {
    role: Role,
    district: String,
    directory: MemoryClient,
    node: Option<Node>,
    /// The tasks of a node that empties itself.
    leaving: Option<Tasks>,
    /// What may befall its way to the store.
    store: Faults,
    frozen: bool,
}

/// A mesh in which a story happens.
pub struct Village {
    /// The network between the nodes.
    pub network: MemoryNetwork,
    /// The documents.
    pub store: MemoryStore,
    /// The game's content.
    pub content: Arc<Content>,
    /// What day it is.
    pub calendar: Calendar,
    terrains: Vec<Arc<Terrain>>,
    steward: Option<WorldRules>,
    rates: Option<Rates>,
    directory: MemoryDirectory,
    houses: BTreeMap<String, House>,
    doors: Doors,
    random: StdRng,
    ground: Tasks,
    people: u64,
    gifts: u128,
    _folder: TempDir,
}

impl Village {
    async fn build(plan: Plan) -> Village {
        let ground = Tasks::simulated();
        let directory = MemoryDirectory::start(&ground, plan.seed);
        let folder = crate::processes::folder();
        let mut districts = plan.districts;
        districts.insert(0, (DISTRICT.to_owned(), plan.nodes, plan.lands));
        let open = |land: &Land| Arc::new(land.open(folder.path()));
        let islands: Vec<Vec<Arc<Terrain>>> =
            districts.iter().map(|(_, _, lands)| lands.iter().map(open).collect()).collect();
        if districts.len() > 1 {
            for ((district, _, _), islands) in districts.iter().zip(&islands) {
                land::belong(&directory.client(), &District::new(CLUSTER, district), islands).await;
            }
        }
        let mut village = Village {
            network: MemoryNetwork::new(plan.seed),
            store: MemoryStore::new(),
            content: Arc::new(plan.content),
            calendar: Calendar::beginning(BEGINNING_S),
            terrains: islands.into_iter().flatten().collect(),
            steward: plan.steward,
            rates: None,
            directory,
            houses: BTreeMap::new(),
            doors: Doors::default(),
            random: StdRng::seed_from_u64(plan.seed),
            ground,
            people: 0,
            gifts: 0,
            _folder: folder,
        };
        for (district, nodes, _) in &districts {
            for (role, number) in nodes.iter().flat_map(|(role, count)| (1..=*count).map(|number| (*role, number))) {
                let name = match district == DISTRICT {
                    true => format!("{role}-{number}"),
                    false => format!("{district}-{role}-{number}"),
                };
                village.add_to(district, &name, role).await;
            }
        }
        village.is_whole().await;
        if districts.len() > 1 {
            sleep(SETTLE).await;
        }
        village
    }

    /// Adds a node.
    pub async fn add(&mut self, name: &str, role: Role) {
        self.add_to(DISTRICT, name, role).await;
    }

    async fn add_to(&mut self, district: &str, name: &str, role: Role) {
        let house = House {
            role,
            district: district.to_owned(),
            directory: self.directory.client(),
            node: None,
            leaving: None,
            store: self.store.client().faults(),
            frozen: false,
        };
        self.houses.insert(name.to_owned(), house);
        self.revive(name).await;
    }

    fn house(&mut self, name: &str) -> &mut House {
        self.houses.get_mut(name).unwrap_or_else(|| panic!("no node is called {name}"))
    }

    /// Starts a node that is dead.
    pub async fn revive(&mut self, name: &str) {
        let tasks = Tasks::simulated();
        let mut secret = [0; 32];
        self.random.fill_bytes(&mut secret);
        let store = self.store.client();
        let faults = store.faults();
        if let Some(rates) = self.rates {
            faults.random(self.random.next_u64(), rates);
        }
        let transport = self.network.transport(name, &tasks);
        let islands = Archipelago::new(self.terrains.iter().cloned());
        let (content, calendar, steward) = (self.content.clone(), self.calendar, self.steward.clone());
        let house = self.house(name);
        if house.node.is_some() {
            return;
        }
        house.store = faults;
        let setup = Setup {
            membership: Membership {
                cluster: CLUSTER.to_owned(),
                district: house.district.clone(),
                key: b"the village's key".to_vec(),
                lease_ttl_s: 5,
            },
            node: NodeId::new(name).expect("a node's name"),
            role: house.role,
            directory: Arc::new(house.directory.clone()),
            transport,
            store: Arc::new(store),
            islands,
            tasks,
            door: None,
            public: (house.role == Role::Frontend).then(|| format!("ws://village/{name}")),
            frontend: frontend::Config::default(),
            gateway: Default::default(),
            exposition: Exposition::new(),
            secret,
            content,
            calendar,
            steward,
        };
        let node = wiring::start(setup).await.unwrap_or_else(|e| panic!("{name} did not start: {e:#}"));
        let door = match &node.door {
            Door::Frontend(frontend) => Some((frontend.sessions.clone(), node.tasks.clone())),
            _ => None,
        };
        house.node = Some(node);
        if let Some(door) = door {
            self.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), door);
        }
    }

    /// Kills a node: nothing of it runs afterwards.
    pub fn kill(&mut self, name: &str) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let house = self.house(name);
        house.frozen = false;
        let leaving = house.leaving.take();
        for tasks in house.node.take().map(|node| node.tasks).into_iter().chain(leaving) {
            tasks.freeze(false);
            tasks.stop();
        }
    }

    /// Takes a running node out of the village, for a story that has it leave in order while other things happen
    /// ([`Node::leave`]).
    pub fn takes_out(&mut self, name: &str) -> Node {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.house(name).node.take().unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// Has a node empty itself and leave; done when it is gone. The story goes on beside it (`tokio::join!`).
    pub fn drains(&mut self, name: &str) -> impl Future<Output = ()> + use<> {
        let (doors, name) = (self.doors.clone(), name.to_owned());
        let house = self.house(&name);
        let node = house.node.take().unwrap_or_else(|| panic!("{name} does not run"));
        house.leaving = Some(node.tasks.clone());
        async move {
            node.drain(DRAIN_TIMEOUT, std::future::pending()).await;
            doors.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
    }

    /// Has a node empty itself and leave, and waits until it is gone.
    pub async fn drain(&mut self, name: &str) {
        self.drains(name).await;
    }

    /// Cuts a node's way to the store, or mends it.
    pub fn store_is_away(&self, name: &str, away: bool) {
        self.houses.get(name).unwrap_or_else(|| panic!("no node is called {name}")).store.unreachable(away);
    }

    /// Kills a node, and starts it again when the directory has forgotten its life.
    pub async fn restart(&mut self, name: &str) {
        self.kill(name);
        sleep(RESTART).await;
        self.revive(name).await;
    }

    /// Freezes or thaws a node, as SIGSTOP and SIGCONT do.
    pub fn freeze(&mut self, name: &str, frozen: bool) {
        let house = self.house(name);
        house.frozen = frozen;
        if let Some(node) = &house.node {
            node.tasks.freeze(frozen);
        }
    }

    /// Takes the store away from everybody for a while: what it has answered as written is there afterwards, nothing else.
    pub async fn restart_store(&mut self) {
        self.houses.values().for_each(|house| house.store.unreachable(true));
        sleep(RESTART).await;
        self.houses.values().for_each(|house| house.store.unreachable(false));
    }

    /// What may befall a running node's way to the store.
    pub fn store_of(&self, name: &str) -> Faults {
        self.houses.get(name).unwrap_or_else(|| panic!("no node is called {name}")).store.clone()
    }

    /// Lets calls to the store take time and go wrong, on every node, from now on.
    pub fn store_is(&mut self, rates: Rates) {
        self.rates = Some(rates);
        for house in self.houses.values() {
            house.store.random(self.random.next_u64(), rates);
        }
    }

    /// The store is well again.
    pub fn store_is_well(&mut self) {
        self.rates = None;
        self.houses.values().for_each(|house| house.store.clear());
    }

    /// Waits until every running node hears every other of its district.
    ///
    /// # Panics
    /// After [`PATIENCE`] of simulated time.
    pub async fn is_whole(&self) {
        let awake = || self.houses.values().filter(|house| !house.frozen);
        let running = || awake().filter_map(|house| Some((&house.district, house.node.as_ref()?)));
        let whole = |(district, node): (&String, &Node)| {
            let expected = running().filter(|(other, _)| *other == district).count();
            let view = node.mesh.view();
            let up = view.peers.iter().filter(|peer| peer.state == PeerState::Up && peer.agrees).count();
            view.registered && up + 1 == expected && view.peers.len() + 1 == expected
        };
        self.until("the mesh to be whole", || running().all(whole)).await;
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// After [`PATIENCE`] of simulated time.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "the village waited {} s in vain for {what}", PATIENCE.as_secs());
            sleep(LOOK).await;
        }
    }

    /// The islands that come and go, as the directory knows them.
    pub async fn islands(&self) -> Vec<IslandRecord> {
        let prefix = record::prefix(&District::new(CLUSTER, DISTRICT));
        let (entries, _) = self.directory.client().list(&prefix).await.expect("the directory answers");
        let records = entries.iter().filter_map(|entry| IslandRecord::read(&prefix, entry));
        records.filter(|record| record.kind == IslandKind::Unstable).collect()
    }

    /// The node that is steward, if there is one.
    pub async fn steward(&self) -> Option<String> {
        let key = election::key(&District::new(CLUSTER, DISTRICT), "steward");
        let entry = self.directory.client().get(&key).await.expect("the directory answers")?;
        serde_json::from_slice::<Office>(&entry.value).ok().map(|office| office.node)
    }

    /// Waits until the stewards have made an island that comes and goes, and everybody knows it; its number.
    ///
    /// # Panics
    /// After [`PATIENCE`] of simulated time.
    pub async fn new_island(&self) -> u32 {
        let end = Instant::now() + PATIENCE;
        loop {
            let open = self.islands().await.into_iter().find(|it| it.state == IslandState::Open);
            if let Some(island) = open {
                sleep(SETTLE).await;
                return island.id.0;
            }
            assert!(Instant::now() < end, "no steward has made an island");
            sleep(LOOK).await;
        }
    }

    /// Waits until an island is gone.
    ///
    /// # Panics
    /// After ten times [`PATIENCE`] of simulated time.
    pub async fn is_gone(&self, island: u32) {
        let end = Instant::now() + 10 * PATIENCE;
        while self.islands().await.iter().any(|it| it.id.0 == island) {
            assert!(Instant::now() < end, "island {island} is still there: {:?}", self.islands().await);
            sleep(LOOK).await;
        }
    }

    /// Lets time pass.
    pub async fn passes(&self, time: Duration) {
        sleep(time).await;
    }

    /// A running node.
    pub fn node(&self, name: &str) -> &Node {
        let house = self.houses.get(name).unwrap_or_else(|| panic!("no node is called {name}"));
        house.node.as_ref().unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// Looks at a running node's world.
    ///
    /// # Panics
    /// If the world is gone.
    pub async fn looks_at<T: Send + 'static>(
        &self,
        name: &str,
        look: impl FnOnce(&GameWorld) -> T + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        let look: Inspection = Box::new(move |world| {
            // An error means that the story is over.
            let _ = tell.send(look(world));
        });
        assert!(self.node(name).inspect(look).await, "the world of {name} is gone");
        told.await.unwrap_or_else(|_| panic!("the world of {name} ended"))
    }

    /// The name of the running node whose present life this is.
    pub fn name_of(&self, publisher: u64) -> Option<&str> {
        let lives = |house: &House| house.node.as_ref().is_some_and(|node| node.mesh.me().incarnation.0 == publisher);
        self.houses.iter().find(|(_, house)| lives(house)).map(|(name, _)| name.as_str())
    }

    /// The running nodes of a role, by name.
    pub fn running(&self, role: Role) -> Vec<String> {
        let runs = |house: &&House| house.role == role && house.node.is_some();
        self.houses.iter().filter(|(_, house)| runs(house)).map(|(name, _)| name.clone()).collect()
    }

    /// Somebody new, born on a tile of an island.
    pub async fn person(&mut self, name: &str, island: u32, x: u16, y: u16) -> Person {
        self.people += 1;
        let number = FIRST_PLAYER + self.people;
        Person::born(&self.store.client(), self.doors.clone(), number, name, island, (x, y)).await
    }

    /// Transactions of some running node.
    pub fn estate(&self) -> &Arc<Transactions> {
        let running = self.houses.values().filter(|house| !house.frozen).find_map(|house| house.node.as_ref());
        &running.expect("somebody runs").estate
    }

    /// Puts so many of an item into somebody's bag, out of nothing, and waits until they know.
    pub async fn gives(&mut self, person: &mut Person, item: &str, count: u64) {
        self.gifts += 1;
        let op = OperationId(self.gifts << 64 | 0x67_6966_7400);
        let name: ItemName = item.parse().expect("the name of an item");
        let goods = if self.content.items.get(item).is_some_and(|item| item.tool.is_some()) {
            let unique = Unique { item: name, data: serde_json::Map::new() };
            Goods::unique(Serial { op, index: 0 }, unique)
        } else {
            Goods::stack(name, count)
        };
        let leg = Leg { from: Place::Mint, to: Place::Player(person.player), goods };
        let given = transfer(self.estate(), op, &[leg]).await;
        given.unwrap_or_else(|e| panic!("{} could not be given {count} {item}: {e}", person.name));
    }

    /// A document as it is in the store.
    pub fn document(&self, key: &str) -> Option<Value> {
        let stored = self.store.snapshot().remove(key)?;
        serde_json::from_slice(&stored.value).ok()
    }

    /// The keys of all documents that begin so.
    pub fn documents(&self, prefix: &str) -> Vec<String> {
        self.store.snapshot().into_keys().filter(|key| key.starts_with(prefix)).collect()
    }

    /// How many of an item there are in the whole world, stacked or not.
    pub fn holds(&self, item: &str) -> u64 {
        let balance = estate::goods::balance::balance(&self.store.snapshot()).expect("documents that can be read");
        let item: ItemName = item.parse().expect("the name of an item");
        (balance.held(&item) + balance.held_uniques(&item)) as u64
    }

    /// What a player carries, by its document.
    pub fn carried(&self, player: u64, item: &str) -> u64 {
        let document = self.document(&format!("player/{player}")).expect("the player's document");
        let stack = document["bag"]["stacks"][item].as_u64().unwrap_or(0);
        let uniques = document["bag"]["uniques"].as_object();
        stack + uniques.map_or(0, |uniques| uniques.values().filter(|unique| unique["item"] == item).count() as u64)
    }

    /// Audits all documents.
    ///
    /// # Panics
    /// If something is wrong.
    pub async fn is_clean(&self) {
        let report = audit(self.estate(), false, &mut |_| {}).await.expect("the store answers");
        assert!(report.clean(), "the audit found {:#?}", report.findings);
    }

    fn stop(&mut self) {
        let names: Vec<String> = self.houses.keys().cloned().collect();
        names.iter().for_each(|name| self.kill(name));
        self.ground.stop();
    }
}
