//! A cluster in memory for the gateway's tests: real gateways and hubs over memory transport, directory and store, and
//! frontends that answer as the test wants.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cartographer::geometry::{Epoch, ObjectId};
use cartographer::terrain::Terrain;
use cartographer::world::{CellFrame, TickOutput, WorldConfig};
use estate::store::memory::MemoryStore;
use estate::transaction::{NoOwners, Transactions};
use mesh::directory::memory::MemoryDirectory;
use mesh::record::PROTOCOL_VERSION;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{CallRefusal, Inbox, Incarnation, Mesh, NodeId, NodeRecord, Role};
use nodes::draining::Draining;
use nodes::game::{Body, GameWorld, grounds::Terrains, player::Player};
use nodes::gateway::limits::Rate;
use nodes::gateway::passwords::PasswordCost;
use nodes::gateway::{self, Gateway, GatewayContext};
use nodes::islands::Archipelago;
use nodes::load::Load;
use nodes::methods::{CloseSession, NODE_REPORT, OpenSession, SESSION_CLOSE, SESSION_OPEN, SessionOffer, pack, unpack};
use nodes::metrics::{Exposition, Metrics};
use nodes::report;
use nodes::world_loop::{self, Input, Rules};
use serde_json::Value;
use tokio::net::TcpListener;

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The object that [`Site::beast`] brings into the world.
pub(crate) const BEAST: ObjectId = ObjectId(4711);

pub(crate) struct Site {
    pub(crate) tasks: Tasks,
    pub(crate) network: MemoryNetwork,
    pub(crate) directory: MemoryDirectory,
    pub(crate) store: MemoryStore,
    pub(crate) islands: Archipelago,
    lives: AtomicU64,
}

/// A gateway, with a client of it.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) mesh: Mesh,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) base: String,
    http: reqwest::Client,
}

/// What a pretended frontend does when asked for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Welcoming,
    Full,
    Draining,
    Silent,
}

/// A pretended frontend.
pub(crate) struct Frontend {
    pub(crate) mesh: Mesh,
    pub(crate) tasks: Tasks,
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) opened: Arc<AtomicUsize>,
    pub(crate) closed: Arc<Mutex<Vec<ObjectId>>>,
}

impl Site {
    pub(crate) fn new() -> Site {
        let tasks = Tasks::real();
        let map = concat!(env!("CARGO_MANIFEST_DIR"), "/../islands/santorini.tmx");
        let terrain = Terrain::open(map).expect("the bundled island opens");
        Site {
            network: MemoryNetwork::new(7),
            directory: MemoryDirectory::start(&tasks, 7),
            store: MemoryStore::new(),
            islands: Archipelago::new([Arc::new(terrain)]),
            lives: AtomicU64::new(1),
            tasks,
        }
    }

    fn join(&self, name: &str, role: Role, tasks: &Tasks) -> (Mesh, Inbox, Incarnation) {
        let transport = self.network.transport(name, tasks);
        let incarnation = Incarnation(self.lives.fetch_add(1, Ordering::SeqCst));
        let record = NodeRecord {
            node: NodeId::new(name).unwrap(),
            role,
            incarnation,
            publish: transport.endpoints.publish.clone(),
            request: transport.endpoints.request.clone(),
            public: Some(format!("ws://{name}.test")),
            version: "test".to_owned(),
            protocol: PROTOCOL_VERSION,
        };
        let config = mesh::Config {
            cluster: "test".to_owned(),
            district: "main".to_owned(),
            key: b"key".to_vec(),
            record,
            seed: incarnation.0,
            lease_ttl_s: 5,
        };
        let (mesh, inbox) = mesh::start(config, transport, Arc::new(self.directory.client()), tasks);
        (mesh, inbox, incarnation)
    }

    fn world(&self, incarnation: Incarnation) -> GameWorld {
        let mut world = GameWorld::new(WorldConfig::new(incarnation.0));
        self.islands.all().iter().for_each(|terrain| world.add_island(terrain.id(), terrain.clone()));
        world
    }

    /// Transactions over the site's documents.
    pub(crate) fn estate(&self) -> Transactions {
        let kinds = estate::kinds::all(Arc::new(Terrains::new(&self.islands)));
        Transactions::new(Arc::new(self.store.client()), kinds, Arc::new(NoOwners { all_gone: false }), 7)
    }

    pub(crate) async fn gateway(&self, name: &str) -> Served {
        let config = gateway::Config { passwords: PasswordCost::cheap(), ..gateway::Config::default() };
        self.gateway_with(name, config).await
    }

    pub(crate) async fn gateway_with(&self, name: &str, config: gateway::Config) -> Served {
        let tasks = Tasks::real();
        let (mesh, Inbox { events, mut calls }, incarnation) = self.join(name, Role::Gateway, &tasks);
        let metrics = Metrics::new(name, "gateway");
        let exposition = Exposition::new();
        exposition.add(metrics.clone());
        let gateway = gateway::serve(GatewayContext {
            mesh: mesh.clone(),
            events,
            world: self.world(incarnation),
            directory: Arc::new(self.directory.client()),
            district: District::new("test", "main"),
            estate: Arc::new(self.estate()),
            islands: self.islands.clone(),
            http: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            metrics: metrics.clone(),
            exposition,
            tasks: tasks.clone(),
            config,
            draining: Draining::default(),
            secret: [incarnation.0 as u8; 32],
        })
        .await
        .expect("the gateway starts");
        let (answering, world) = (mesh.clone(), gateway.world.clone());
        tasks.spawn(async move {
            while let Some(call) = calls.recv().await {
                if call.method == NODE_REPORT.name {
                    call.answer(Ok(report::node(&answering, &world.report.borrow())));
                } else if world.inputs.send(Input::Call(call)).await.is_err() {
                    return;
                }
            }
        });
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Served { base: format!("http://{}", gateway.address), gateway, mesh, tasks, metrics, http }
    }

    /// A gateway that lets only so many wait.
    pub(crate) async fn gateway_with_queue(&self, name: &str, queue_most: usize) -> Served {
        let passwords = PasswordCost::cheap();
        self.gateway_with(name, gateway::Config { passwords, queue_most, ..gateway::Config::default() }).await
    }

    /// A node of role frontend that owns nothing and answers as its mood is.
    pub(crate) fn frontend(&self, name: &str, mood: Mood, players: u32) -> Frontend {
        let tasks = Tasks::real();
        let (mesh, Inbox { mut events, mut calls }, _) = self.join(name, Role::Frontend, &tasks);
        let load = Load { players, capacity: 1_000, ..Load::default() };
        mesh.set_load(load.encode().into());
        let frontend = Frontend {
            mesh: mesh.clone(),
            tasks: tasks.clone(),
            mood: Arc::new(Mutex::new(mood)),
            opened: Arc::default(),
            closed: Arc::default(),
        };
        tasks.spawn(async move { while events.recv().await.is_some() {} });
        let (mood, opened, closed) = (frontend.mood.clone(), frontend.opened.clone(), frontend.closed.clone());
        let name = name.to_owned();
        tasks.spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(call) = calls.recv().await {
                let mood = *mood.lock().unwrap();
                let answer = match (call.method.as_str(), mood) {
                    (_, Mood::Silent) => {
                        unanswered.push(call);
                        continue;
                    }
                    (name, _) if name == NODE_REPORT.name => Ok(report::node(&mesh, &Default::default())),
                    (name, _) if name == SESSION_CLOSE.name => {
                        closed.lock().unwrap().push(unpack::<CloseSession>(&call.body).unwrap().player);
                        Ok(bytes::Bytes::new())
                    }
                    (method, Mood::Welcoming) if method == SESSION_OPEN.name => {
                        opened.fetch_add(1, Ordering::SeqCst);
                        let open = unpack::<OpenSession>(&call.body).unwrap();
                        let ticket = format!("ticket of {} at {name}", open.player);
                        Ok(pack(&SessionOffer { ticket, url: format!("ws://{name}.test"), expires_in_s: 30 }))
                    }
                    (_, Mood::Full) => Err(CallRefusal::new("full", "no room")),
                    (_, Mood::Draining) => Err(CallRefusal::new("draining", "going")),
                    (method, _) => Err(CallRefusal::unknown_method(method)),
                };
                call.answer(answer);
            }
        });
        frontend
    }

    /// A node that owns one object, standing at the island's first spawn point.
    pub(crate) fn beast(&self, name: &str) -> (Mesh, Tasks) {
        let tasks = Tasks::real();
        let (mesh, Inbox { events, mut calls }, incarnation) = self.join(name, Role::Zoo, &tasks);
        let terrain = self.islands.all()[0].clone();
        let rules = Lair { terrain, done: false };
        let metrics = Metrics::new(name, "zoo");
        let world = world_loop::start(
            self.world(incarnation),
            mesh.clone(),
            events,
            metrics,
            Draining::default(),
            &tasks,
            |_| rules,
        )
        .unwrap();
        let answering = mesh.clone();
        tasks.spawn(async move {
            while let Some(call) = calls.recv().await {
                if call.method == NODE_REPORT.name {
                    call.answer(Ok(report::node(&answering, &world.report.borrow())));
                } else if world.inputs.send(Input::Call(call)).await.is_err() {
                    return;
                }
            }
        });
        (mesh, tasks)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Frontend {
    /// Says that it has so many players.
    pub(crate) fn set_players(&self, players: u32) {
        let load = Load { players, capacity: 1_000, ..Load::default() };
        self.mesh.set_load(load.encode().into());
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

struct Lair {
    terrain: Arc<Terrain>,
    done: bool,
}

impl Rules for Lair {
    type Input = std::convert::Infallible;

    fn input(&mut self, _: &mut GameWorld, _: u64, input: Self::Input) {
        match input {}
    }

    fn ticked(&mut self, world: &mut GameWorld, now_ms: u64, _: &TickOutput, _: Vec<CellFrame>) {
        if !std::mem::replace(&mut self.done, true) {
            let body = Body::Player(Player { name: "beast".to_owned(), hue: 7, ..Player::default() });
            let place = self.terrain.spawns()[0].place;
            world.spawn(now_ms, BEAST, Epoch(1), self.terrain.id(), place, body, true).unwrap();
        }
    }
}

/// An answer: status, JSON body (null if it is none) and headers.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) bytes: bytes::Bytes,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or("")
    }
}

impl Served {
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.request("POST", path).json(&body)).await
    }

    /// Waits until the gateway has so many frontends up.
    pub(crate) async fn until_frontends(&self, count: usize) {
        until("the frontends are up", async || self.mesh.peers().up(Role::Frontend).count() == count).await;
    }

    pub(crate) async fn account(&self, name: &str) -> u64 {
        let made = self.post("/v1/accounts", serde_json::json!({ "name": name, "password": "correct horse" })).await;
        assert_eq!(made.status, 201, "{}", made.json);
        made.json["player"].as_u64().unwrap()
    }

    pub(crate) async fn session(&self, name: &str) -> Answer {
        self.post("/v1/sessions", serde_json::json!({ "name": name, "password": "correct horse" })).await
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("the gateway answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.expect("the body arrives");
    Answer { status, json: serde_json::from_slice(&bytes).unwrap_or_default(), headers, bytes }
}

/// Waits for a state.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("this never came true: {what}");
    }
}

/// Limits so small that a test reaches them.
pub(crate) fn tight() -> gateway::Config {
    let rate = Rate { burst: 2, per_minute: 1 };
    gateway::Config {
        passwords: PasswordCost::cheap(),
        creations: rate,
        failures: rate,
        trust_forwarded: true,
        ..gateway::Config::default()
    }
}
