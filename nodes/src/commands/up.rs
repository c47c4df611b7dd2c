//! `wildmesh up`: the whole mesh in one process, on embedded defaults.
//!
//! The nodes are those of `wildmesh node`, put together by the same code; only the directory is in this process, and the
//! transport too unless `--transport zeromq` is given. Nothing is left running when it ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use estate::store::Store;
use mesh::directory::memory::MemoryDirectory;
use mesh::tasks::Tasks;
use mesh::transport::Transport;
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeId, Role};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::signals::Signals;
use crate::bots::{self, BotsConfig, BotsReport};
use crate::calendar::Calendar;
use crate::cli::{Up, Wires};
use crate::frontend::{Config as FrontendConfig, listener};
use crate::game::content::Content;
use crate::gateway::Config as GatewayConfig;
use crate::islands::{self, Archipelago};
use crate::metrics::Exposition;
use crate::steward::WorldRules;
use crate::wiring::drivers::{self, StoreSpec};
use crate::wiring::{self, Membership, Node, Setup};

/// How long the nodes may take to find each other before `up` says that something is wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// Every so many seconds the settlers' doings are logged.
const SETTLERS_TOLD: u64 = 60;

/// A whole mesh in one process.
pub struct LocalMesh {
    /// Its nodes; the gateway is the last of those it starts with.
    pub nodes: Vec<Node>,
    /// Where the gateway serves.
    pub http: SocketAddr,
    /// The tasks of the directory.
    tasks: Tasks,
    maker: Maker,
}

/// How to start a [`LocalMesh`].
pub struct LocalConfig {
    /// How many frontends.
    pub frontends: u32,
    /// Each frontend's set-up.
    pub frontend: FrontendConfig,
    /// The gateway's set-up.
    pub gateway: GatewayConfig,
    /// Where the gateway serves.
    pub http: SocketAddr,
    /// Where documents lie.
    pub store: StoreSpec,
    /// What the nodes talk over.
    pub wires: Wires,
    /// The folder of terrain packages.
    pub islands: Option<std::path::PathBuf>,
    /// How many zoos.
    pub zoos: u32,
    /// How many gardens.
    pub gardens: u32,
    /// How many colosseums.
    pub colosseums: u32,
    /// The folder of the game's data files; none: those that come with the program.
    pub content: Option<std::path::PathBuf>,
    /// How islands that come and go are looked after; none: there are none.
    pub steward: Option<WorldRules>,
}

impl LocalConfig {
    /// One node of each role and nothing kept, for tests and benchmarks: so many frontends of this set-up, with the islands
    /// of this folder, and none that come and go.
    pub fn small(frontends: u32, frontend: FrontendConfig, islands: Option<std::path::PathBuf>) -> LocalConfig {
        LocalConfig {
            frontends,
            frontend,
            gateway: GatewayConfig::default(),
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            store: StoreSpec::Memory,
            wires: Wires::Memory,
            islands,
            zoos: 1,
            gardens: 1,
            colosseums: 1,
            content: None,
            steward: None,
        }
    }
}

/// Runs the command.
pub async fn run(up: Up) -> Result<()> {
    let mut signals = Signals::new().context("could not wait for signals")?;
    let started = Instant::now();
    let config = LocalConfig {
        frontends: up.frontends,
        frontend: FrontendConfig::default(),
        gateway: up.gateway.config(),
        http: up.http,
        store: up.data,
        wires: up.transport,
        islands: up.islands,
        zoos: up.zoos,
        gardens: up.gardens,
        colosseums: up.colosseums,
        content: up.content,
        steward: Some(up.unstable.rules()),
    };
    let mesh = LocalMesh::start(config).await?;
    mesh.ready().await?;
    let url = format!("http://{}", mesh.http);
    println!(
        "Wildmesh is up after {:.1} s. Open {url}/ in a browser; Ctrl-C stops it.",
        started.elapsed().as_secs_f64()
    );
    if up.bots > 0 {
        let config =
            BotsConfig { players: up.bots, behaviour: up.behaviour, layout: up.layout, ..BotsConfig::new(url) };
        tokio::spawn(async move {
            let mut rounds = 0_u64;
            let progress = |report: &BotsReport| {
                rounds += 1;
                tracing::debug!("{report:?}");
                if let Some(settle) = report.settle.as_ref().filter(|_| rounds.is_multiple_of(SETTLERS_TOLD)) {
                    tracing::info!("the settlers: {}", super::bots::settled(settle));
                }
            };
            let report = bots::run(config, progress).await;
            if let Err(e) = report {
                tracing::error!("the bots have stopped: {e:#}");
            }
        });
    }
    signals.next().await;
    println!("Stopping: players are saved, nodes leave.");
    tokio::select! {
        () = mesh.leave() => Ok(()),
        () = signals.next() => bail!("stopped before all had left: what was not saved is as it was saved last"),
    }
}

/// What all nodes of a [`LocalMesh`] are made from.
struct Maker {
    directory: MemoryDirectory,
    network: MemoryNetwork,
    wires: Wires,
    ip: IpAddr,
    membership: Membership,
    store: Arc<dyn Store>,
    islands: Archipelago,
    content: Arc<Content>,
    calendar: Calendar,
    exposition: Exposition,
    frontend: FrontendConfig,
    gateway: GatewayConfig,
    steward: Option<WorldRules>,
}

impl Maker {
    /// Starts one node; clients come in by `door`.
    async fn start(&self, role: Role, number: u32, door: Option<TcpListener>) -> Result<Node> {
        let name = format!("{role}-{number}");
        let (tasks, secret) = (Tasks::real(), drivers::secret()?);
        let transport: Transport = match self.wires {
            Wires::Memory => self.network.transport(&name, &tasks),
            Wires::Zeromq => drivers::zeromq(self.ip, &self.ip.to_string(), wiring::incarnation(&secret), &tasks)?,
        };
        let scheme = if role == Role::Gateway { "http" } else { "ws" };
        let public = door.as_ref().and_then(|d| Some(format!("{scheme}://{}", d.local_addr().ok()?)));
        let setup = Setup {
            membership: self.membership.clone(),
            node: NodeId::new(&name)?,
            role,
            directory: Arc::new(self.directory.client()),
            transport,
            store: self.store.clone(),
            islands: self.islands.clone(),
            tasks,
            door,
            public,
            frontend: self.frontend.clone(),
            gateway: self.gateway,
            exposition: self.exposition.clone(),
            secret,
            content: self.content.clone(),
            calendar: self.calendar,
            steward: self.steward.clone(),
        };
        wiring::start(setup).await.with_context(|| format!("could not start {name}"))
    }
}

impl LocalMesh {
    /// Starts all nodes.
    pub async fn start(config: LocalConfig) -> Result<LocalMesh> {
        let tasks = Tasks::real();
        let islands = islands::open(config.islands.as_deref())?;
        let store = drivers::store(&config.store).await?;
        let door = TcpListener::bind(config.http).await.with_context(|| {
            format!("could not serve at {}: is another program there? Choose another address by --http", config.http)
        })?;
        let http = door.local_addr()?;
        let membership = Membership {
            cluster: "local".to_owned(),
            district: "main".to_owned(),
            key: drivers::secret()?.to_vec(),
            lease_ttl_s: 5,
        };
        let maker = Maker {
            directory: MemoryDirectory::start(&tasks, 0),
            network: MemoryNetwork::new(0),
            wires: config.wires,
            ip: http.ip(),
            membership,
            store,
            islands,
            content: super::content::open(config.content.as_deref())?,
            calendar: Calendar::real(),
            exposition: Exposition::new(),
            frontend: config.frontend,
            gateway: config.gateway,
            steward: config.steward,
        };
        let mut mesh = LocalMesh { nodes: Vec::new(), http, tasks, maker };
        let counts = [
            (Role::Garden, config.gardens),
            (Role::Zoo, config.zoos),
            (Role::Colosseum, config.colosseums),
            (Role::Frontend, config.frontends),
        ];
        for (role, number) in counts.into_iter().flat_map(|(role, count)| (1..=count).map(move |n| (role, n))) {
            mesh.add(role, number).await?;
        }
        let gateway = mesh.maker.start(Role::Gateway, 1, Some(door)).await?;
        mesh.nodes.push(gateway);
        Ok(mesh)
    }

    /// Starts one more node that is no gateway.
    pub async fn add(&mut self, role: Role, number: u32) -> Result<()> {
        let door = match role {
            Role::Frontend => Some(listener::bind(SocketAddr::new(self.maker.ip, 0))?),
            _ => None,
        };
        let node = self.maker.start(role, number, door).await?;
        self.nodes.push(node);
        Ok(())
    }

    /// Waits until every node is connected with every other.
    pub async fn ready(&self) -> Result<()> {
        let others = self.nodes.len() - 1;
        let all = async {
            for node in &self.nodes {
                let mut peers = node.mesh.watch_peers();
                let up = |table: &Arc<mesh::PeerTable>| {
                    table.iter().filter(|p| p.state == mesh::PeerState::Up).count() == others
                };
                peers.wait_for(up).await.context("a node has stopped")?;
            }
            Ok(())
        };
        tokio::time::timeout(READY_TIMEOUT, all)
            .await
            .with_context(|| format!("the nodes have not all found each other within {} s", READY_TIMEOUT.as_secs()))?
    }

    /// Players are saved, nodes leave; the gateway last. Nobody is moved: there is nowhere to go.
    pub async fn leave(self) {
        self.nodes.iter().for_each(|node| node.draining.begin());
        for node in self.nodes {
            node.leave().await;
        }
        self.tasks.stop();
    }
}
