//! Gardens in a mesh on simulated time: two of them, one store, and a node that asks as frontends do.

mod facilities;
mod nature;
mod nodes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::{Cell, Chunk, IslandId, ObjectId, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::goods::transfer::{Leg, transfer};
use estate::goods::{Goods, Place};
use estate::player::{self, Birth};
use estate::store::memory::{Faults, MemoryStore};
use estate::transaction::OperationId;
use mesh::directory::memory::{MemoryClient, MemoryDirectory};
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{CallError, NodeId, Role};
use tokio::time::{Instant, sleep};

use super::*;
use crate::game::Body;
use crate::game::content::{Facility, Natural};
use crate::game::thing::Thing;
use crate::methods::living::{GardenAnswer, GardenAsk, GardenWhat, Watch};
use crate::metrics::Exposition;
use crate::wiring::{self, Membership, Node, Setup};

/// The island on which all happens.
const ISLAND: IslandId = IslandId(3);
const ANN: ObjectId = ObjectId(1);
const BOB: ObjectId = ObjectId(2);
const BEGINNING_S: u64 = 1_800_000_000;
/// How long a state is waited for, in simulated time.
const PATIENCE: Duration = Duration::from_secs(30);
const REGROW_S: u64 = 60;
const BURNS_S: u64 = 120;

/// Two gardens and somebody who asks them.
struct Village {
    gardens: Vec<Option<Node>>,
    clients: Vec<MemoryClient>,
    /// What may befall each node's way to the store.
    stores: Vec<Faults>,
    asker: Node,
    network: MemoryNetwork,
    store: MemoryStore,
    terrain: Arc<Terrain>,
    content: Arc<Content>,
    calendar: Calendar,
    /// What needs a tool.
    hard: String,
    said: u64,
    ground: Tasks,
}

/// The content of these tests: whatever grows yields wood; what is called `hard` needs a pick.
fn content(terrain: &Terrain, hard: &str) -> Content {
    let natural = |tool: Option<&str>| Natural {
        yields: "wood".to_owned(),
        count: 2,
        strokes: 3,
        tool: tool.map(str::to_owned),
        regrow_s: REGROW_S,
    };
    let named = (0..=u16::MAX).filter_map(|number| terrain.natural_name(number));
    let mut naturals: BTreeMap<String, Natural> = named.map(|name| (name.to_owned(), natural(None))).collect();
    naturals.insert(hard.to_owned(), natural(Some("pick")));
    let takes = |count: u64| BTreeMap::from([("wood".to_owned(), count)]);
    let plain = |size, count| Facility {
        size,
        takes: takes(count),
        slots: 0,
        door: false,
        burns: None,
        solid: true,
        own_land: false,
    };
    let facilities = BTreeMap::from([
        ("box".to_owned(), Facility { slots: 4, ..plain((1, 1), 4) }),
        ("hearth".to_owned(), Facility { burns: Some(("wood".to_owned(), BURNS_S)), ..plain((2, 1), 1) }),
        ("door".to_owned(), Facility { door: true, own_land: true, ..plain((1, 1), 2) }),
    ]);
    let mut content = Content { naturals, facilities, ..Content::default() };
    content.tuning.holding_most = 2;
    content
}

impl Village {
    async fn start() -> Village {
        let ground = Tasks::simulated();
        let (directory, network) = (MemoryDirectory::start(&ground, 1), MemoryNetwork::new(1));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
        let opened = crate::islands::open(Some(&folder)).expect("the islands");
        let terrain = opened.get(ISLAND).expect("the island");
        let (store, calendar) = (MemoryStore::new(), Calendar::beginning(BEGINNING_S));
        let (width, height) = terrain.size();
        let all = terrain.naturals_within(Tile::new(0, 0), Tile::new(width, height));
        let named =
            all.filter(|(tile, _)| terrain.walkable(*tile)).filter_map(|(_, number)| terrain.natural_name(number));
        let hard = named.max().expect("something grows").to_owned();
        let content = Arc::new(content(&terrain, &hard));
        let mut nodes = Vec::new();
        let mut clients = Vec::new();
        let mut stores = Vec::new();
        for (n, role) in [Role::Garden, Role::Garden, Role::Colosseum].into_iter().enumerate() {
            let (name, tasks) = (format!("{role}-{n}"), Tasks::simulated());
            clients.push(directory.client());
            let documents = store.client();
            stores.push(documents.faults());
            let setup = Setup {
                membership: Membership {
                    cluster: "test".to_owned(),
                    district: "main".to_owned(),
                    key: b"a key".to_vec(),
                    lease_ttl_s: 5,
                },
                node: NodeId::new(&name).expect("a name"),
                role,
                directory: Arc::new(clients[n].clone()),
                transport: network.transport(&name, &tasks),
                store: Arc::new(documents),
                islands: crate::islands::Archipelago::new([terrain.clone()]),
                tasks,
                door: None,
                public: None,
                frontend: crate::frontend::Config::default(),
                gateway: Default::default(),
                exposition: Exposition::new(),
                secret: [n as u8 + 1; 32],
                content: content.clone(),
                calendar,
                steward: None,
            };
            nodes.push(wiring::start(setup).await.expect("a node"));
        }
        for node in &nodes {
            let mut peers = node.mesh.watch_peers();
            let whole = |table: &Arc<mesh::PeerTable>| {
                table.iter().filter(|peer| peer.state == mesh::PeerState::Up).count() == 2
            };
            tokio::time::timeout(PATIENCE, peers.wait_for(whole)).await.expect("in time").expect("it runs");
        }
        for (id, name) in [(ANN, "ann"), (BOB, "bob")] {
            let birth = Birth { hue: 0, island: ISLAND.0, x: 0, y: 0 };
            player::create(&store, id.0, name, name, &birth).await.expect("a player");
        }
        let asker = nodes.pop().expect("three nodes");
        let gardens = nodes.into_iter().map(Some).collect();
        Village { gardens, clients, stores, asker, network, store, terrain, content, calendar, hard, said: 0, ground }
    }

    fn garden(&self, n: usize) -> &Node {
        self.gardens[n].as_ref().expect("it runs")
    }

    /// Asks a garden; the refusal's code, or what else went wrong in words.
    async fn ask(&self, n: usize, op: u64, player: ObjectId, what: GardenWhat) -> Result<GardenAnswer, String> {
        let ask = GardenAsk { op: operation(op), player, island: ISLAND, what };
        let garden = NodeId::new(&format!("garden-{n}")).expect("a name");
        let answer = self.asker.mesh.call_once(&garden, &GARDEN_DO, ask.op.0, pack(&ask)).await;
        match answer {
            Ok(answer) => Ok(unpack(&answer).expect("an answer")),
            Err(CallError::Refused { refusal, .. }) => Err(refusal.code),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The code of a refusal; empty for success.
    async fn code(&self, n: usize, op: u64, player: ObjectId, what: GardenWhat) -> String {
        self.ask(n, op, player, what).await.err().unwrap_or_default()
    }

    /// Tells all gardens that players see these cells, and no others.
    async fn look_at(&mut self, cells: &[Cell]) {
        self.said += 1;
        let watch = Watch { seq: self.said, whole: true, added: cells.to_vec(), removed: Vec::new() };
        for garden in self.gardens.iter().flatten() {
            let me = &garden.mesh.me().node;
            self.asker.mesh.call(me, &WATCH_CELLS, pack(&watch)).await.expect("it listens");
        }
    }

    /// What a garden shows.
    async fn shown(&self, n: usize) -> BTreeMap<ObjectId, Thing> {
        let (tell, told) = oneshot::channel();
        let look = move |world: &crate::game::GameWorld| {
            let thing = |body: &Body| match body {
                Body::Thing(thing) => thing.clone(),
                other => panic!("{other:?} in a garden"),
            };
            let _ = tell.send(world.reals().map(|real| (real.id(), thing(real.body()))).collect());
        };
        assert!(self.garden(n).inspect(Box::new(look)).await, "the world runs");
        told.await.expect("the world tells")
    }

    /// Waits until a garden shows what is wanted.
    async fn until_shown(&self, n: usize, what: &str, wanted: impl Fn(&BTreeMap<ObjectId, Thing>) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown(n).await;
            if wanted(&shown) {
                return;
            }
            assert!(Instant::now() < end, "garden {n} never showed {what}, but {shown:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn wood(&self, player: ObjectId) -> u64 {
        let kept = player::find(&self.store, player.0).await.expect("read").expect("a player");
        kept.document.bag.stacks.get(&"wood".parse().expect("a name")).copied().unwrap_or(0)
    }

    async fn give_wood(&self, op: u64, player: ObjectId, count: u64) {
        let leg = Leg { from: Place::Mint, to: Place::Player(player.0), goods: wood(count) };
        transfer(&self.asker.estate, operation(op), &[leg]).await.expect("a gift");
    }

    /// The first tile on which a natural object of such a name grows.
    fn natural(&self, fits: impl Fn(&str) -> bool) -> Tile {
        let (width, height) = self.terrain.size();
        let mut all = self.terrain.naturals_within(Tile::new(0, 0), Tile::new(width, height));
        let named = |number| self.terrain.natural_name(number).is_some_and(&fits);
        let found = all.find(|(tile, number)| named(*number) && self.terrain.walkable(*tile));
        found.map(|(tile, _)| tile).expect("one grows there")
    }

    fn tree(&self) -> Tile {
        self.natural(|name| name != self.hard)
    }

    /// The upper left tile of a chunk where there is room to build, with land in the two chunks to the right of it.
    fn meadow(&self) -> Tile {
        let (width, height) = self.terrain.size();
        let chunks = (0..height / 16).flat_map(|y| (0..width / 16 - 2).map(move |x| Tile::new(x * 16, y * 16)));
        let area = |first: &Tile, wide: u16, high: u16| {
            let first = *first;
            (0..high).flat_map(move |dy| (0..wide).map(move |dx| Tile::new(first.x + dx, first.y + dy)))
        };
        let empty = |tile: Tile| self.terrain.walkable(tile) && self.terrain.natural_at(tile).is_none();
        let land =
            |first: &Tile, dx| area(&Tile::new(first.x + dx, first.y), 16, 16).any(|tile| self.terrain.walkable(tile));
        let mut fit = chunks.filter(|first| area(first, 5, 3).all(empty) && land(first, 16) && land(first, 32));
        fit.next().expect("an empty place")
    }

    /// True if the natural object on a tile is as by nature.
    async fn is_mirage(&self, tile: Tile) -> bool {
        let grounds = Terrains::new(&crate::islands::Archipelago::new([self.terrain.clone()]));
        let found = estate::land::nature::standing(&self.asker.estate, &grounds, ISLAND, tile).await.expect("read");
        matches!(found, estate::land::nature::Found::Natural(_))
    }

    /// Which garden shows a chunk while both are up, and which does not.
    fn keepers(&self, chunk: Chunk) -> (usize, usize) {
        let names: Vec<NodeId> = (0..2).map(|n| NodeId::new(&format!("garden-{n}")).expect("a name")).collect();
        let keeper = keeper(chunk, &names).expect("one of them").clone();
        if keeper == names[0] { (0, 1) } else { (1, 0) }
    }

    fn kill(&mut self, n: usize) {
        self.gardens[n].take().expect("it runs").tasks.stop();
    }

    /// All documents agree; stops everything.
    async fn end(mut self) {
        let report = estate::audit::audit(&self.asker.estate, false, &mut |_| {}).await.expect("audit");
        assert!(report.clean(), "{:#?}", report.findings);
        for n in 0..2 {
            self.gardens[n].take().into_iter().for_each(|node| node.tasks.stop());
        }
        self.asker.tasks.stop();
        self.ground.stop();
    }
}

fn operation(op: u64) -> OperationId {
    OperationId(u128::from(op) << 90 | u128::from(op))
}

fn wood(count: u64) -> Goods {
    Goods::stack("wood".parse().expect("a name"), count)
}

fn gather(tile: Tile) -> GardenWhat {
    GardenWhat::Gather { tile, tools: Vec::new() }
}

fn build(facility: &str, tile: Tile) -> GardenWhat {
    GardenWhat::Build { facility: facility.to_owned(), tile, turned: 0 }
}
