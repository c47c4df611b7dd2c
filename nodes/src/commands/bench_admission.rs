//! `wildmesh bench admission`: a burst of logins that do not all fit, through two gateways, with one of them killed.
//!
//! Two gateways, two frontends and all clients are in this process; the directory is an etcd of its own if there is one on
//! this machine. Accounts are prepared straight in the store under the cheapest password hash, whose cost is not what is
//! measured. Clients log in over keep-alive connections, ask for their place when told to, connect to their frontend over
//! WebSocket, stay a while and leave. A checker watches the directory by itself: it, not the gateways, says who came first.

mod checker;
mod clients;
mod etcd;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cartographer::geometry::{Tile, UNITS_PER_TILE};
use cartographer::ground::Ground;
use estate::account;
use estate::player::Birth;
use estate::store::Store;
use estate::store::memory::MemoryStore;
use futures_util::future::join_all;
use mesh::directory::Directory;
use mesh::directory::memory::MemoryDirectory;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeId, PeerState, Role};
use prometheus::IntGauge;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::calendar::Calendar;
use crate::cli::BenchAdmission;
use crate::frontend::shard::Limits;
use crate::frontend::{Config as FrontendConfig, listener};
use crate::game::content::Content;
use crate::gateway::passwords::{PasswordCost, Passwords};
use crate::gateway::{Config as GatewayConfig, queue};
use crate::islands::{self, Archipelago};
use crate::metrics::Exposition;
use crate::wiring::{self, Membership, Node, Setup, drivers};
use checker::Checker;
use clients::Clients;
use etcd::Etcd;

/// The password of all accounts.
const PASSWORD: &str = "correct horse";

/// Accounts that are made at once.
const ACCOUNTS_AT_ONCE: u64 = 256;

/// How long the nodes may take to find each other.
const READY: Duration = Duration::from_secs(30);

/// How long all may take to be let in, at most.
const DEADLINE: Duration = Duration::from_secs(900);

/// How often ticks are looked at. Their longest is kept for longer than that.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Descriptors that are not players' sockets.
const OTHER_DESCRIPTORS: u32 = 1_000;

/// Runs the command.
pub async fn run(bench: BenchAdmission) -> Result<()> {
    let descriptors = raise_descriptors();
    // A player has a socket at either end, both in this process.
    let capacity = bench.capacity.min(descriptors.saturating_sub(OTHER_DESCRIPTORS) / 4);
    let etcd = if bench.embedded { None } else { Etcd::start().await? };
    let kind = if etcd.is_some() { "etcd" } else { "embedded" };
    let ground = Place::start(&bench, capacity, etcd.as_ref()).await?;
    eprintln!("{} accounts are made; directory: {kind}; room for {capacity} players on each frontend", bench.joins);
    ground.accounts(bench.joins).await?;

    let checker = Checker::start(ground.directory.clone(), &ground.prefix, &ground.tasks).await?;
    let urls = ground.gateways.iter().filter_map(|node| node.mesh.me().public.clone()).collect();
    let began = Instant::now();
    let stay = Duration::from_secs(bench.stay);
    let clients = Clients::start(urls, bench.joins, bench.connections, stay, &ground.tasks);
    let mut killed = 0;
    let mut longest_tick_us = 0;
    let mut told = Instant::now();
    while clients.admitted() < bench.joins && began.elapsed() < DEADLINE {
        sleep(WATCH_EVERY).await;
        for frontend in &ground.frontends {
            longest_tick_us = longest_tick_us.max(frontend.report.borrow().tick_us[2]);
        }
        if killed == 0 && !bench.spare && clients.admitted() >= bench.joins / 2 {
            killed = u32::from(ground.kill_doorkeeper().await);
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            eprintln!("{:>5.0} s: {}", began.elapsed().as_secs_f64(), clients.progress());
        }
    }
    let report = clients.report();
    let admit_s = report.last_admitted.map_or(0.0, |at| at.duration_since(began).as_secs_f64());
    let (out_of_order, unseen) = checker.counted();
    let figures = json!({
        "joins": bench.joins,
        "admitted": report.admitted,
        "queued": report.queued,
        "out_of_order": out_of_order,
        "unseen_by_checker": unseen,
        "lost_places": report.lost,
        "refused": report.refused,
        "hellos": report.hellos,
        "hellos_failed": report.hellos_failed,
        "answers": report.answers,
        "answers_ms": { "p50": report.p50_ms, "p99": report.p99_ms, "most": report.most_ms },
        "admit_s": admit_s,
        "rate_s": report.admitted as f64 / admit_s.max(1e-9),
        "most_per_s": bench.rate,
        "longest_tick_ms": longest_tick_us as f64 / 1_000.0,
        "gateways_killed": killed,
        "directory": kind,
        "password_hash": "argon2id, 8 KiB, 1 pass: its cost is not measured",
    });
    if bench.json {
        println!("{figures}");
    } else {
        println!("{figures:#}");
    }
    ground.stop();
    Ok(())
}

/// The nodes, and what they share.
struct Place {
    tasks: Tasks,
    gateways: Vec<Node>,
    frontends: Vec<Node>,
    store: Arc<dyn Store>,
    islands: Archipelago,
    directory: Arc<dyn Directory>,
    prefix: String,
}

impl Place {
    async fn start(bench: &BenchAdmission, capacity: u32, etcd: Option<&Etcd>) -> Result<Place> {
        let tasks = Tasks::real();
        let (memory, network) = (MemoryDirectory::start(&tasks, 0), MemoryNetwork::new(0));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let exposition = Exposition::new();
        let islands = islands::open(bench.islands.as_deref())?;
        let (mut gateways, mut frontends) = (Vec::new(), Vec::new());
        let mut directory: Arc<dyn Directory> = Arc::new(memory.client());
        for (role, number) in [(Role::Frontend, 1), (Role::Frontend, 2), (Role::Gateway, 1), (Role::Gateway, 2)] {
            let name = format!("{role}-{number}");
            let (tasks, secret) = (Tasks::real(), drivers::secret()?);
            directory = match etcd {
                Some(etcd) => drivers::etcd(&etcd.endpoint, &tasks).await?,
                None => Arc::new(memory.client()),
            };
            let (door, scheme) = door(role).await?;
            let public = format!("{scheme}://{}", door.local_addr()?);
            let setup = Setup {
                membership: membership(),
                node: NodeId::new(&name)?,
                role,
                directory: directory.clone(),
                transport: network.transport(&name, &tasks),
                store: store.clone(),
                islands: islands::open(bench.islands.as_deref())?,
                tasks,
                door: Some(door),
                public: Some(public),
                frontend: FrontendConfig {
                    capacity,
                    shards: 1,
                    limits: Limits { every_ticks: 2, ..Limits::default() },
                },
                gateway: GatewayConfig {
                    passwords: PasswordCost::cheap(),
                    admissions_per_second: bench.rate,
                    ..GatewayConfig::default()
                },
                exposition: exposition.clone(),
                secret,
                content: Content::bundled(),
                calendar: Calendar::real(),
                steward: None,
            };
            let node = wiring::start(setup).await.with_context(|| format!("could not start {name}"))?;
            if role == Role::Gateway { gateways.push(node) } else { frontends.push(node) }
        }
        if let Some(etcd) = etcd {
            directory = drivers::etcd(&etcd.endpoint, &tasks).await?;
        }
        let prefix = queue::prefix(&District::new(&membership().cluster, &membership().district));
        let ground = Place { tasks, gateways, frontends, store, islands, directory, prefix };
        ground.ready().await?;
        Ok(ground)
    }

    async fn ready(&self) -> Result<()> {
        let nodes = || self.gateways.iter().chain(&self.frontends);
        let others = nodes().count() - 1;
        let all = async {
            for node in nodes() {
                let up = |table: &Arc<mesh::PeerTable>| {
                    table.iter().filter(|peer| peer.state == PeerState::Up && !peer.load.is_empty()).count() == others
                };
                node.mesh.watch_peers().wait_for(up).await.context("a node has stopped")?;
            }
            Ok(())
        };
        timeout(READY, all).await.context("the nodes have not found each other")?
    }

    /// Makes the accounts `bench-0`, `bench-1`, …, with players all over the islands.
    async fn accounts(&self, count: u64) -> Result<()> {
        let gauge = IntGauge::new("hashes", "hashes").context("a gauge")?;
        let passwords = Passwords::new(PasswordCost::cheap(), gauge).map_err(|error| anyhow!("{error}"))?;
        let hash = passwords.hash(PASSWORD.to_owned(), [7; 16]).await.map_err(|error| anyhow!(error.code()))?;
        let mut random = StdRng::seed_from_u64(1);
        let lasting = self.islands.lasting();
        for first in (0..count).step_by(ACCOUNTS_AT_ONCE as usize) {
            let some = first..(first + ACCOUNTS_AT_ONCE).min(count);
            let made = some.map(|number| {
                let terrain = &lasting[number as usize % lasting.len()];
                let (width, height) = terrain.size();
                let tile = std::iter::repeat_with(|| {
                    let bits = random.next_u32();
                    Tile { x: (bits >> 16) as u16 % width, y: bits as u16 % height }
                });
                let tile = tile.take(10_000).find(|tile| terrain.walkable(*tile)).unwrap_or(Tile { x: 0, y: 0 });
                let middle = |tile: u16| i32::from(tile) * UNITS_PER_TILE + UNITS_PER_TILE / 2;
                let birth = Birth { hue: 0, island: terrain.id().0, x: middle(tile.x), y: middle(tile.y) };
                let (name, hash, mut draws) = (clients::name(number), &hash, StdRng::seed_from_u64(number + 1));
                async move {
                    let draw = move || draws.next_u64();
                    account::register(&*self.store, &name, hash, number + 1, &birth, draw).await.map(|_| ())
                }
            });
            let made: Vec<_> = made.collect();
            join_all(made).await.into_iter().collect::<Result<(), _>>().context("an account could not be made")?;
        }
        Ok(())
    }

    /// Kills the gateway that lets players in: nothing of it runs afterwards.
    async fn kill_doorkeeper(&self) -> bool {
        let Ok(Some(entry)) = self.directory.get(&format!("{}doorkeeper", self.prefix)).await else { return false };
        let office: queue::Office = serde_json::from_slice(&entry.value).unwrap_or_default();
        let found = self.gateways.iter().find(|node| node.mesh.me().node.as_str() == office.node);
        if let Some(node) = found {
            eprintln!("killing {}, which keeps the door", office.node);
            node.tasks.stop();
        }
        found.is_some()
    }

    fn stop(self) {
        self.gateways.iter().chain(&self.frontends).for_each(|node| node.tasks.stop());
        self.tasks.stop();
    }
}

async fn door(role: Role) -> Result<(TcpListener, &'static str)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(match role {
        Role::Frontend => (listener::bind(address)?, "ws"),
        _ => (TcpListener::bind(address).await?, "http"),
    })
}

fn membership() -> Membership {
    Membership {
        cluster: "bench".to_owned(),
        district: "main".to_owned(),
        key: b"of the bench".to_vec(),
        lease_ttl_s: 5,
    }
}

/// Raises the soft limit of open files to the hard one, by the system's own tool; returns what the limit is then.
fn raise_descriptors() -> u32 {
    let limits = || std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let read = |column: usize| {
        let text = limits();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        line.split_whitespace().nth(column).and_then(|number| number.parse::<u32>().ok()).unwrap_or(1_024)
    };
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={0}:{0}", read(4));
    // Where there is no such tool, the limit stays as it is and fewer players fit.
    let _ = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    read(3)
}

/// A folder of its own for this process.
fn folder(of: &str) -> std::path::PathBuf {
    Path::new(&std::env::temp_dir()).join(format!("wildmesh-{of}-{}", std::process::id()))
}
