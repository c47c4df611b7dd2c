//! The one place that chooses drivers and puts a node together: mesh, world, role, and the calls between them.
//!
//! `wildmesh up`, `wildmesh node` and the simulation start their nodes here, by the same code, with other drivers. A node
//! starts whole or not at all: an error names what is missing.

pub mod drivers;

mod leaving;

use std::sync::Arc;

use anyhow::{Context, Result};
use cartographer::world::WorldConfig;
use estate::kinds;
use estate::store::Store;
use estate::transaction::Transactions;
use mesh::directory::Directory;
use mesh::record::PROTOCOL_VERSION;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::transport::Transport;
use mesh::{Inbox, Incarnation, IncomingCall, Mesh, NodeId, NodeRecord, Role};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::calendar::Calendar;
use crate::colosseum::{self, Colosseum};
use crate::draining::{Draining, order};
use crate::frontend::tickets::ResumeKey;
use crate::frontend::{self, Frontend, listener};
use crate::game::GameWorld;
use crate::game::content::Content;
use crate::game::grounds::Terrains;
use crate::garden::{self, Garden};
use crate::gateway::{self, Gateway, GatewayContext};
use crate::islands::{self, Archipelago, follower, record};
use crate::methods::{ISLANDS_COUNT, pack};
use crate::metrics::{Exposition, Metrics};
use crate::owners::{Hands, MeshOwners};
use crate::passage;
use crate::report;
use crate::role::{Answers, Parts};
use crate::steward::{self, WorldRules};
use crate::world_loop::{Input, Inspection, WorldReport};
use crate::zoo::{self, Zoo};
use leaving::Exit;

pub use leaving::DRAIN_TIMEOUT;

/// How long the ghosts of a node that the directory has removed stay, in milliseconds: time for another to take over what
/// they stand for.
const GHOST_GRACE_MS: u64 = 3_000;

/// Where a node belongs.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The cluster: nodes of different clusters never mix.
    pub cluster: String,
    /// The district: nodes connect within theirs.
    pub district: String,
    /// The secret that every greeting proves.
    pub key: Vec<u8>,
    /// The lease of a node's record, in seconds.
    pub lease_ttl_s: u32,
}

/// What a node is made from.
pub struct Setup {
    /// Where it belongs.
    pub membership: Membership,
    /// Its name.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// The directory.
    pub directory: Arc<dyn Directory>,
    /// Its way to the other nodes.
    pub transport: Transport,
    /// Where documents lie.
    pub store: Arc<dyn Store>,
    /// The islands that it serves.
    pub islands: Archipelago,
    /// Its tasks.
    pub tasks: Tasks,
    /// Where clients come in (frontend: WebSocket, gateway: HTTP). None in simulation.
    pub door: Option<TcpListener>,
    /// The address that clients are told.
    pub public: Option<String>,
    /// The frontend's set-up.
    pub frontend: frontend::Config,
    /// The gateway's set-up.
    pub gateway: gateway::Config,
    /// Where all nodes of this process are counted.
    pub exposition: Exposition,
    /// All randomness of the node's life: secret and new for every life outside simulation.
    pub secret: [u8; 32],
    /// The game's content.
    pub content: Arc<Content>,
    /// What day it is.
    pub calendar: Calendar,
    /// How it looks after the islands if it is elected their steward; none: it never stands for election.
    pub steward: Option<WorldRules>,
}

/// A running node.
pub struct Node {
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// Its tasks.
    pub tasks: Tasks,
    /// Its transactions over documents.
    pub estate: Arc<Transactions>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// What its world says of itself.
    pub report: watch::Receiver<Arc<WorldReport>>,
    /// Where it serves clients.
    pub door: Door,
    /// Whether it is being emptied.
    pub draining: Draining,
    /// What it takes to leave in order.
    exit: Exit,
}

/// How a node serves clients.
pub enum Door {
    /// It serves none: a garden.
    Garden(Garden),
    /// It serves none: a zoo.
    Zoo(Zoo),
    /// It serves none: a colosseum.
    Colosseum(Colosseum),
    /// Players, over WebSocket.
    Frontend(Frontend),
    /// Everybody, over HTTP.
    Gateway(Gateway),
}

/// The life that this secret stands for. The transport needs it before the node is put together.
pub fn incarnation(secret: &[u8; 32]) -> Incarnation {
    let hash = Sha256::new().chain_update(b"incarnation").chain_update(secret).finalize();
    Incarnation::from_random(u64::from_be_bytes(std::array::from_fn(|i| hash[i])))
}

/// Starts a node. It joins the mesh in the background.
pub async fn start(setup: Setup) -> Result<Node> {
    let incarnation = incarnation(&setup.secret);
    let mut random = StdRng::from_seed(setup.secret);
    let record = NodeRecord {
        node: setup.node.clone(),
        role: setup.role,
        incarnation,
        publish: setup.transport.endpoints.publish.clone(),
        request: setup.transport.endpoints.request.clone(),
        public: setup.public.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL_VERSION,
    };
    let config = mesh::Config {
        cluster: setup.membership.cluster.clone(),
        district: setup.membership.district.clone(),
        key: setup.membership.key.clone(),
        record,
        seed: random.next_u64(),
        lease_ttl_s: setup.membership.lease_ttl_s,
    };
    let metrics = Metrics::new(setup.node.as_str(), setup.role.as_str());
    setup.exposition.add(metrics.clone());
    let draining = Draining::default();
    let (mesh, inbox) = mesh::start(config, setup.transport, setup.directory.clone(), &setup.tasks);
    let config = WorldConfig { ghost_grace_ms: GHOST_GRACE_MS, ..WorldConfig::new(incarnation.0) };
    let mut world = GameWorld::new(config);
    let district = District::new(&setup.membership.cluster, &setup.membership.district);
    let islands = setup.islands.of_district(district.name());
    let added = islands.all();
    for terrain in added.iter() {
        world.add_island(terrain.id(), terrain.clone());
    }
    let mut secret = [0; 32];
    random.fill_bytes(&mut secret);
    let hands = Arc::new(Hands::default());
    let owners = Arc::new(MeshOwners {
        mesh: mesh.clone(),
        directory: setup.directory.clone(),
        district: district.clone(),
        hands: hands.clone(),
        looks: crate::owners::Looks::default(),
    });
    let kinds = kinds::all(Arc::new(Terrains::new(&islands)))
        .beside(gateway::DOCUMENTS)
        .beside(steward::DOCUMENTS)
        .beside(passage::DOCUMENTS);
    let estate = Arc::new(Transactions::new(setup.store, kinds, owners.clone(), random.next_u64()));
    let Inbox { events, calls } = inbox;
    let tasks = setup.tasks.clone();
    let prefix = record::prefix(&district);
    tasks.spawn(follower::follow(setup.directory.clone(), prefix, islands.clone()));
    let duty = setup.steward.map(|rules| (rules, setup.directory.clone(), owners.clone(), islands.clone()));
    let (exit, ends) = Exit::new(setup.directory.clone(), order::key(&district, &mesh.me().node));
    tasks.spawn(order::follow(setup.directory.clone(), exit.key.clone(), incarnation, ends.ordered));
    let under_way = exit.calls.clone();
    let (calendar, district_of_duty) = (setup.calendar, district.clone());
    let (report, door) = match setup.role {
        Role::Frontend => {
            let parts = frontend::Parts {
                mesh: mesh.clone(),
                events,
                estate: estate.clone(),
                owners,
                islands: islands.clone(),
                metrics: metrics.clone(),
                tasks: tasks.clone(),
                config: setup.frontend,
                secret,
                world,
                content: setup.content,
                calendar: setup.calendar,
                directory: setup.directory,
                district,
                draining: draining.clone(),
                resume_key: ResumeKey::new(&setup.membership.key),
                lease_ttl_s: setup.membership.lease_ttl_s,
            };
            let frontend = frontend::start(parts).context("could not start the frontend's threads")?;
            if let Some(door) = setup.door {
                tasks.spawn(listener::serve(door, frontend.sessions.clone()));
            }
            let inputs = frontend.world.inputs.clone();
            tasks.spawn(islands::keep_world(islands, added, inputs.clone()));
            let dispatch = Dispatch::new(&mesh, frontend.world.report.clone(), inputs, hands, under_way, &tasks);
            tasks.spawn(dispatch.run(calls, Some(Arc::new(frontend.sessions.clone()))));
            (frontend.world.report.clone(), Door::Frontend(frontend))
        }
        Role::Gateway => {
            let door = setup.door.context("a gateway needs an address to serve HTTP at")?;
            let context = GatewayContext {
                mesh: mesh.clone(),
                events,
                world,
                estate: estate.clone(),
                directory: setup.directory,
                district,
                islands: islands.clone(),
                http: door,
                metrics: metrics.clone(),
                exposition: setup.exposition,
                tasks: tasks.clone(),
                config: setup.gateway,
                draining: draining.clone(),
                secret,
            };
            let serving = gateway::serve(context).await?;
            let world = &serving.world;
            tasks.spawn(islands::keep_world(islands, added, world.inputs.clone()));
            let dispatch = Dispatch::new(&mesh, world.report.clone(), world.inputs.clone(), hands, under_way, &tasks);
            tasks.spawn(dispatch.run(calls, None));
            (world.report.clone(), Door::Gateway(serving))
        }
        Role::Zoo | Role::Garden | Role::Colosseum => {
            let parts = Parts {
                mesh: mesh.clone(),
                events,
                world,
                estate: estate.clone(),
                owners,
                directory: setup.directory,
                district,
                islands: islands.clone(),
                content: setup.content,
                calendar: setup.calendar,
                metrics: metrics.clone(),
                tasks: tasks.clone(),
                draining: draining.clone(),
                secret,
            };
            const FAILED: &str = "could not start the world's thread";
            macro_rules! serve {
                ($role:ident, $door:ident) => {{
                    let role = $role::start(parts).context(FAILED)?;
                    let (report, inputs) = (role.world.report.clone(), role.world.inputs.clone());
                    tasks.spawn(islands::keep_world(islands, added, inputs.clone()));
                    let dispatch = Dispatch::new(&mesh, report.clone(), inputs, hands, under_way, &tasks);
                    tasks.spawn(dispatch.run(calls, Some(Arc::new(role.clone()))));
                    (report, Door::$door(role))
                }};
            }
            match setup.role {
                Role::Zoo => serve!(zoo, Zoo),
                Role::Garden => serve!(garden, Garden),
                _ => serve!(colosseum, Colosseum),
            }
        }
    };
    if let Some((rules, directory, owners, islands)) = duty {
        let serving = steward::serve(steward::Parts {
            mesh: mesh.clone(),
            directory,
            district: district_of_duty,
            estate: estate.clone(),
            owners,
            islands,
            report: report.clone(),
            calendar,
            lease_ttl_s: setup.membership.lease_ttl_s,
            rules,
            draining: draining.clone(),
            resign: ends.resign,
        });
        let serves = ends.serves;
        tasks.spawn(async move {
            serving.await;
            drop(serves);
        });
    }
    Ok(Node { mesh, tasks, estate, metrics, report, door, draining, exit })
}

impl Node {
    /// Lets somebody look at its world. False if the world is gone.
    pub async fn inspect(&self, look: Inspection) -> bool {
        match &self.door {
            Door::Frontend(frontend) => frontend.world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Door::Gateway(gateway) => gateway.world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Door::Garden(role) => role.world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Door::Zoo(role) => role.world.inputs.send(Input::Inspect(look)).await.is_ok(),
            Door::Colosseum(role) => role.world.inputs.send(Input::Inspect(look)).await.is_ok(),
        }
    }
}

/// Takes the calls of peers to whoever answers them.
struct Dispatch<I> {
    mesh: Mesh,
    report: watch::Receiver<Arc<WorldReport>>,
    world: mpsc::Sender<Input<I>>,
    hands: Arc<Hands>,
    /// A place for each call that is being answered.
    under_way: Arc<Semaphore>,
    tasks: Tasks,
}

impl<I: Send + 'static> Dispatch<I> {
    fn new(
        mesh: &Mesh,
        report: watch::Receiver<Arc<WorldReport>>,
        world: mpsc::Sender<Input<I>>,
        hands: Arc<Hands>,
        under_way: Arc<Semaphore>,
        tasks: &Tasks,
    ) -> Dispatch<I> {
        Dispatch { mesh: mesh.clone(), report, world, hands, under_way, tasks: tasks.clone() }
    }

    async fn run(self, mut calls: mpsc::Receiver<IncomingCall>, role: Option<Arc<dyn Answers>>) {
        while let Some(call) = calls.recv().await {
            let family = call.method.split('.').next().unwrap_or_default();
            match &role {
                // A world that does not keep up drops the question, and the asker is told so.
                _ if family == "cells" => drop(self.world.try_send(Input::Call(call))),
                _ if family == "estate" => {
                    let hands = self.hands.clone();
                    self.answer(async move { hands.answer(call).await });
                }
                _ if call.method == crate::methods::NODE_REPORT.name => {
                    let answer = report::node(&self.mesh, &self.report.borrow());
                    call.answer(Ok(answer));
                }
                _ if call.method == ISLANDS_COUNT.name => {
                    let answer = pack(&self.report.borrow().by_island);
                    call.answer(Ok(answer));
                }
                Some(role) if role.takes(family) => {
                    let role = role.clone();
                    self.answer(async move { role.answer(call).await });
                }
                _ => {
                    let refusal = mesh::CallRefusal::unknown_method(&call.method);
                    call.answer(Err(refusal));
                }
            }
        }
    }
    /// Answers one call, so that whoever leaves knows of it.
    fn answer(&self, answering: impl Future<Output = ()> + Send + 'static) {
        // With so many under way one more is not waited for at the end; it is answered all the same.
        let place = self.under_way.clone().try_acquire_owned().ok();
        self.tasks.spawn(async move {
            answering.await;
            drop(place);
        });
    }
}
