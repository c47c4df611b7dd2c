//! `wildmesh bench combat`: how long it takes from a fighter's command until every watcher has seen the exchange.
//!
//! A colosseum, two frontends and their watchers are real: nodes as everywhere, and clients over WebSocket. The members of
//! the battles are owned by four more nodes of the mesh, which are real to the mesh and doubles to the game ([`owners`]): they
//! hand fighters over, command them by the calls that frontends and zoos use, and take them back. Everything runs in this
//! process, over ZeroMQ unless told otherwise. Measured is from the command's call to the last watcher that sees the exchange
//! which it caused; what never comes to somebody is counted, and so is every packet in which a blow and its reaction are
//! not together.

mod owners;
mod watchers;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cartographer::geometry::{IslandId, ObjectId, Place};
use estate::player::{self, Birth};
use estate::store::Store;
use estate::store::memory::MemoryStore;
use hdrhistogram::Histogram;
use mesh::directory::memory::MemoryDirectory;
use mesh::record::PROTOCOL_VERSION;
use mesh::tasks::Tasks;
use mesh::transport::Transport;
use mesh::transport::memory::MemoryNetwork;
use mesh::{Mesh, NodeId, NodeRecord, PeerState, Role};
use rustc_hash::FxHashMap;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::bots::Percentiles;
use crate::calendar::Calendar;
use crate::cli::{BenchCombat, Wires};
use crate::frontend::{Config as FrontendConfig, listener};
use crate::game::content::Content;
use crate::islands;
use crate::methods::OpenSession;
use crate::metrics::Exposition;
use crate::wiring::{self, Door, Membership, Node, Setup, drivers};
use owners::Owner;

/// How long the nodes may take to find each other, and watchers to come in.
const READY: Duration = Duration::from_secs(30);

/// How long an exchange may take to reach the last watcher before it counts as unseen.
const LATE: Duration = Duration::from_secs(5);

/// Players and beasts of one battle: one or two on each of the four nodes.
const PLAYERS: u64 = 4;
const BEASTS: u64 = 2;

/// The first player's number, and the first beast's.
const FIRST_PLAYER: u64 = 1_000;
const FIRST_BEAST: u64 = 1 << 52;

/// What is measured.
#[derive(Default)]
struct Tally {
    /// Commands that not every watcher has seen carried out, by number.
    under_way: FxHashMap<u64, UnderWay>,
    seen: Option<Histogram<u64>>,
    /// Calls with commands, by how they were answered.
    answers: BTreeMap<String, u64>,
    /// Exchanges seen, by all watchers together.
    exchanges: u64,
    /// It is over: watchers may go.
    over: bool,
    /// Packets in which something was missing: see [`watchers`].
    apart: u64,
    gaps: u64,
    battles: u64,
    next: u64,
}

struct UnderWay {
    sent: Instant,
    watchers: usize,
}

type Shared = Arc<Mutex<Tally>>;

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// A command goes out; its number comes back in the exchange.
    fn sends(&mut self, watchers: usize) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next, UnderWay { sent: Instant::now(), watchers });
        self.next
    }

    /// A command was not carried out.
    fn refused(&mut self, cause: u64, code: &str) {
        self.under_way.remove(&cause);
        *self.answers.entry(code.to_owned()).or_default() += 1;
    }

    /// One more watcher has seen it.
    fn sees(&mut self, cause: u64, at: Instant) {
        let Some(command) = self.under_way.get_mut(&cause) else { return };
        command.watchers -= 1;
        if command.watchers > 0 {
            return;
        }
        let us = at.saturating_duration_since(command.sent).as_micros() as u64;
        self.under_way.remove(&cause);
        if let Some(seen) = &mut self.seen {
            seen.saturating_record(us.max(1));
        }
    }
}

/// Runs the command.
pub async fn run(bench: BenchCombat) -> Result<()> {
    let ground = Ground::start(&bench).await?;
    // Bounds that the library accepts.
    let seen = Histogram::new_with_bounds(1, 60_000_000, 3).ok();
    let tally: Shared = Arc::new(Mutex::new(Tally { seen, ..Tally::default() }));
    let watchers = ground.watchers(&bench, &tally).await?;
    eprintln!("{} battles with members on 4 nodes, {watchers} watchers on 2 frontends", bench.battles);
    let end = Instant::now() + Duration::from_secs(bench.seconds);
    let battles = (0..bench.battles).map(|index| ground.battles(index, watchers, &tally, end));
    for done in futures_util::future::join_all(battles).await {
        done?;
    }
    let late = Instant::now() + LATE;
    while !lock(&tally).under_way.is_empty() && Instant::now() < late {
        sleep(Duration::from_millis(10)).await;
    }
    let measured = std::mem::replace(&mut *lock(&tally), Tally { over: true, ..Tally::default() });
    report(&bench, &measured, watchers);
    ground.leave().await;
    if measured.apart > 0 || !measured.under_way.is_empty() || measured.exchanges == 0 {
        let (apart, unseen) = (measured.apart, measured.under_way.len());
        bail!("{apart} packets in which something was missing, {unseen} exchanges not seen by everybody");
    }
    Ok(())
}

fn report(bench: &BenchCombat, tally: &Tally, watchers: usize) {
    let exchanges = tally.exchanges / watchers.max(1) as u64;
    let (latency, commands, longest) = tally
        .seen
        .as_ref()
        .map_or_else(Default::default, |seen| (Percentiles::of(seen), seen.len(), seen.max() as f64 / 1_000.0));
    eprintln!(
        "from command to every watcher: p50 {:.1} ms, p99 {:.1} ms, longest {longest:.1} ms ({commands} commands); \
         {exchanges} exchanges in {} battles; {} packets apart, {} not seen by everybody, {} gaps; refused: {:?}",
        latency.p50,
        latency.p99,
        tally.battles,
        tally.apart,
        tally.under_way.len(),
        tally.gaps,
        tally.answers
    );
    if bench.json {
        let figures = json!({
            "exchange_ms": { "p50": latency.p50, "p99": latency.p99, "max": longest },
            "commands": commands, "exchanges": exchanges, "battles": tally.battles, "apart": tally.apart,
            "unseen": tally.under_way.len(), "gaps": tally.gaps, "refused": tally.answers, "watchers": watchers,
            "member_nodes": 4, "real": ["colosseum", "frontends", "watching clients"],
            "doubles": ["owners of the members"],
        });
        println!("{figures}");
    }
}

/// The nodes.
struct Ground {
    tasks: Tasks,
    colosseum: Node,
    frontends: Vec<Node>,
    owners: Vec<Owner>,
    store: Arc<dyn Store>,
    island: IslandId,
    place: Place,
}

/// What all nodes of the bench are made from.
struct Maker {
    directory: MemoryDirectory,
    network: MemoryNetwork,
    wires: Wires,
    store: Arc<dyn Store>,
    exposition: Exposition,
    membership: Membership,
}

impl Maker {
    fn new(tasks: &Tasks, wires: Wires) -> Maker {
        let membership = Membership {
            cluster: "bench".to_owned(),
            district: "main".to_owned(),
            key: b"of the bench".to_vec(),
            lease_ttl_s: 5,
        };
        Maker {
            directory: MemoryDirectory::start(tasks, 0),
            network: MemoryNetwork::new(0),
            wires,
            store: Arc::new(MemoryStore::new()),
            exposition: Exposition::new(),
            membership,
        }
    }

    fn transport(&self, name: &str, secret: &[u8; 32], tasks: &Tasks) -> Result<Transport> {
        Ok(match self.wires {
            Wires::Memory => self.network.transport(name, tasks),
            Wires::Zeromq => {
                drivers::zeromq(IpAddr::V4(Ipv4Addr::LOCALHOST), "127.0.0.1", wiring::incarnation(secret), tasks)?
            }
        })
    }

    /// A real node.
    async fn node(&self, role: Role, number: u32, folder: Option<&Path>) -> Result<Node> {
        let name = format!("{role}-{number}");
        let (tasks, secret) = (Tasks::real(), drivers::secret()?);
        let transport = self.transport(&name, &secret, &tasks)?;
        let door = match role {
            Role::Frontend => Some(listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?),
            _ => None,
        };
        let public = door.as_ref().and_then(|door| Some(format!("ws://{}", door.local_addr().ok()?)));
        let setup = Setup {
            membership: self.membership.clone(),
            node: NodeId::new(&name)?,
            role,
            directory: Arc::new(self.directory.client()),
            transport,
            store: self.store.clone(),
            islands: islands::open(folder)?,
            tasks,
            door,
            public,
            frontend: FrontendConfig::default(),
            gateway: Default::default(),
            exposition: self.exposition.clone(),
            secret,
            content: Content::bundled(),
            calendar: Calendar::real(),
            steward: None,
        };
        wiring::start(setup).await.with_context(|| format!("could not start {name}"))
    }

    /// A double.
    fn owner(&self, role: Role, number: u32) -> Result<Owner> {
        let name = format!("{role}-{number}");
        let (tasks, secret) = (Tasks::real(), drivers::secret()?);
        let transport = self.transport(&name, &secret, &tasks)?;
        let life = wiring::incarnation(&secret);
        let record = NodeRecord {
            node: NodeId::new(&name)?,
            role,
            incarnation: life,
            publish: transport.endpoints.publish.clone(),
            request: transport.endpoints.request.clone(),
            public: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
        };
        let Membership { cluster, district, key, lease_ttl_s } = self.membership.clone();
        let config = mesh::Config { cluster, district, key, record, seed: life.0, lease_ttl_s };
        let (mesh, inbox) = mesh::start(config, transport, Arc::new(self.directory.client()), &tasks);
        Ok(Owner::start(mesh, inbox, tasks))
    }
}

impl Ground {
    async fn start(bench: &BenchCombat) -> Result<Ground> {
        let tasks = Tasks::real();
        let maker = Maker::new(&tasks, bench.transport);
        let folder = bench.islands.as_deref();
        let colosseum = maker.node(Role::Colosseum, 1, folder).await?;
        let frontends =
            vec![maker.node(Role::Frontend, 1, folder).await?, maker.node(Role::Frontend, 2, folder).await?];
        // Two that own players and two that own beasts.
        let doubles = [(Role::Frontend, 3), (Role::Frontend, 4), (Role::Zoo, 1), (Role::Zoo, 2)];
        let owners: Vec<Owner> =
            doubles.into_iter().map(|(role, number)| maker.owner(role, number)).collect::<Result<_>>()?;
        let terrains = islands::open(folder)?;
        let terrain = terrains.lasting().into_iter().next().context("no island that lasts")?;
        let (island, place) = (terrain.id(), terrain.arrival(0));
        let ground = Ground { tasks, colosseum, frontends, owners, store: maker.store, island, place };
        let meshes = ground.owners.iter().map(|owner| &owner.mesh);
        let meshes: Vec<&Mesh> =
            meshes.chain(ground.frontends.iter().map(|node| &node.mesh)).chain([&ground.colosseum.mesh]).collect();
        for mesh in &meshes {
            let mut peers = mesh.watch_peers();
            let others = meshes.len() - 1;
            let met = peers.wait_for(|table| table.iter().filter(|p| p.state == PeerState::Up).count() == others);
            timeout(READY, met).await.context("the nodes did not find each other")??;
        }
        Ok(ground)
    }

    /// Has the watchers come in, on both frontends in turn; gives their number.
    async fn watchers(&self, bench: &BenchCombat, tally: &Shared) -> Result<usize> {
        for index in 0..bench.watchers {
            let id = 1 + index as u64;
            let birth = Birth { hue: 0, island: self.island.0, x: self.place.x, y: self.place.y };
            player::create(&*self.store, id, &format!("watcher{id}"), &format!("watcher{id}"), &birth).await?;
            let node = &self.frontends[index % self.frontends.len()];
            let Door::Frontend(frontend) = &node.door else { bail!("no frontend") };
            let open = OpenSession { session: Uuid::from_u128(id.into()), player: ObjectId(id), island: None };
            let offer = frontend.sessions.open(&open).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            watchers::start(&offer.url, &offer.ticket, tally.clone(), &self.tasks).await?;
        }
        Ok(bench.watchers)
    }

    /// One battle after the other, until the end.
    async fn battles(&self, index: u64, watchers: usize, tally: &Shared, end: Instant) -> Result<()> {
        let colosseum = &self.colosseum.mesh.me().node;
        let [fronts, zoos] = [&self.owners[..2], &self.owners[2..]];
        let mut round = 0;
        while Instant::now() < end {
            // Numbers of battles are used once only.
            let number = 1 + index + 10_000 * round;
            round += 1;
            let players: Vec<(&Owner, ObjectId)> = (0..PLAYERS)
                .map(|n| (&fronts[(n % 2) as usize], ObjectId(FIRST_PLAYER + index * PLAYERS + n)))
                .collect();
            let beasts: Vec<(&Owner, ObjectId)> =
                (0..BEASTS).map(|n| (&zoos[(n % 2) as usize], ObjectId(FIRST_BEAST + index * BEASTS + n))).collect();
            players.iter().for_each(|(owner, id)| owner.has(*id, 0));
            beasts.iter().for_each(|(owner, id)| owner.has(*id, 1));
            // Each battle a little aside of the next, all in sight of all.
            let place = self.place.offset(index as i32 % 8 * 64, index as i32 / 8 * 64);
            let begun = owners::begin(colosseum, number, (self.island, place), &players, &beasts).await;
            begun.context("a battle could not begin")?;
            lock(tally).battles += 1;
            let fights = players.iter().map(|(owner, id)| {
                owner.fight(colosseum, number, *id, beasts[(id.0 % BEASTS) as usize].1, tally, watchers, end)
            });
            futures_util::future::join_all(fights).await;
            for (owner, id) in players.iter().chain(&beasts) {
                owner.gets_out(colosseum, number, *id).await?;
            }
        }
        Ok(())
    }

    async fn leave(self) {
        for owner in self.owners {
            owner.mesh.leave().await;
            owner.tasks.stop();
        }
        for node in self.frontends {
            node.leave().await;
        }
        self.colosseum.leave().await;
        self.tasks.stop();
    }
}
