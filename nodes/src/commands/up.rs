//! `wildmesh up`: the whole mesh in one process, on embedded defaults.
//!
//! The nodes are those of `wildmesh node`, put together by the same code; only the directory is in this process, and the
//! transport too unless `--transport zeromq` is given. Nothing is left running when it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh::directory::memory::MemoryDirectory;
use mesh::tasks::Tasks;
use mesh::transport::Transport;
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeId, Role};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::signals;
use crate::bots::{self, BotsConfig, BotsReport};
use crate::calendar::Calendar;
use crate::cli::{Up, Wires};
use crate::frontend::{Config as FrontendConfig, listener};
use crate::gateway::Config as GatewayConfig;
use crate::islands;
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
    /// Its nodes; the gateway is the last.
    pub nodes: Vec<Node>,
    /// Where the gateway serves.
    pub http: SocketAddr,
    /// The tasks of the directory.
    tasks: Tasks,
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
    signals::stop().await.context("could not wait for signals")?;
    println!("Stopping: players are saved, nodes leave.");
    mesh.leave().await;
    Ok(())
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
        let directory = MemoryDirectory::start(&tasks, 0);
        let network = MemoryNetwork::new(0);
        let membership = Membership {
            cluster: "local".to_owned(),
            district: "main".to_owned(),
            key: drivers::secret()?.to_vec(),
            lease_ttl_s: 5,
        };
        let exposition = Exposition::new();
        let (content, calendar) = (super::content::open(config.content.as_deref())?, Calendar::real());
        let mut doors = vec![door];
        let mut nodes = Vec::new();
        let mut roles: Vec<(Role, u32)> = Vec::new();
        let counts = [
            (Role::Garden, config.gardens),
            (Role::Zoo, config.zoos),
            (Role::Colosseum, config.colosseums),
            (Role::Frontend, config.frontends),
        ];
        roles.extend(counts.into_iter().flat_map(|(role, count)| (1..=count).map(move |n| (role, n))));
        roles.push((Role::Gateway, 1));
        for (role, number) in roles {
            let name = format!("{role}-{number}");
            let node = NodeId::new(&name)?;
            let (tasks, secret) = (Tasks::real(), drivers::secret()?);
            let transport: Transport = match config.wires {
                Wires::Memory => network.transport(&name, &tasks),
                Wires::Zeromq => {
                    let life = wiring::incarnation(&secret);
                    drivers::zeromq(http.ip(), &http.ip().to_string(), life, &tasks)?
                }
            };
            let door = match role {
                Role::Frontend => Some(listener::bind(SocketAddr::new(http.ip(), 0))?),
                Role::Gateway => doors.pop(),
                _ => None,
            };
            let scheme = if role == Role::Gateway { "http" } else { "ws" };
            let public = door.as_ref().and_then(|d| Some(format!("{scheme}://{}", d.local_addr().ok()?)));
            let setup = Setup {
                membership: membership.clone(),
                node,
                role,
                directory: Arc::new(directory.client()),
                transport,
                store: store.clone(),
                islands: islands.clone(),
                tasks,
                door,
                public,
                frontend: config.frontend.clone(),
                gateway: config.gateway,
                exposition: exposition.clone(),
                secret,
                content: content.clone(),
                calendar,
                steward: config.steward.clone(),
            };
            nodes.push(wiring::start(setup).await.with_context(|| format!("could not start {name}"))?);
        }
        Ok(LocalMesh { nodes, http, tasks })
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

    /// Players are saved, nodes leave; the gateway last.
    pub async fn leave(self) {
        for node in self.nodes {
            node.leave().await;
        }
        self.tasks.stop();
    }
}
