//! The gateway: REST for clients and operators, the web pages, and the live map.
//!
//! It owns nothing that must not be lost: accounts, players and sessions are documents, so that any other gateway serves
//! as well. Requests are bounded in number, size, time and cost, and every failure is answered as JSON. It watches the
//! world as others do, through a world loop without objects, only while somebody looks. When the frontends are full, players
//! wait in one queue ([`queue`]), which lies in the directory. It NEVER decides who owns what (the store does), nor lets
//! anybody into the world against the frontends' will.

pub mod routes;

pub mod accounts;
pub mod sessions;

pub mod admission;
pub mod queue;

pub mod hall;
pub mod session;

pub mod census;
pub mod disagree;

pub mod feed;
pub mod observer;

pub mod islands;
pub mod land;

pub mod checks;
pub mod pages;

pub mod edge;
pub mod error;
pub mod limits;
pub mod passwords;
pub mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cartographer::geometry::IslandId;
use cartographer::terrain::Terrain;
use estate::store::Store;
use estate::transaction::Transactions;
use mesh::directory::Directory;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::{Event, Mesh};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use uuid::Uuid;

use crate::draining::Draining;
use crate::game::GameWorld;
use crate::game::grounds::Terrains;
use crate::islands::Archipelago;
use crate::metrics::{Exposition, Metrics};
use crate::sent::Sent;
use crate::world_loop::{self, WorldHandle, WorldReport};
use admission::Admission;
use checks::LastReadiness;
use edge::Edge;
use error::{ApiError, ApiResult};
use feed::MapFeed;
use islands::Atlas;
use limits::{Limiter, Rate};
use observer::{MapInput, Observer};
use passwords::{PasswordCost, Passwords};
use queue::doorkeeper::{self, Counts};
use queue::follower::{self, Line};
use queue::scribe::Scribe;
use server::Server;

/// How long requests under way may take to finish when the gateway is shut down.
const SHUT_DOWN_PATIENCE: Duration = edge::REQUEST_TIMEOUT;

/// Players let in each second, at most, unless told otherwise.
pub const ADMISSIONS_PER_SECOND: u32 = 250;

/// Players who may wait, at most, unless told otherwise.
pub const QUEUE_MOST: usize = 100_000;
/// How long a gateway that is being drained goes on serving while it says so: longer than balancers and clients take between
/// two looks at its health.
const GRACE: Duration = Duration::from_secs(4);

/// How a gateway is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What a password's hash costs.
    pub passwords: PasswordCost,
    /// How many accounts one address may make. Loopback is exempt.
    pub creations: Rate,
    /// How many failed logins one address may have. Loopback is exempt.
    pub failures: Rate,
    /// Requests come through a balancer, whose `x-forwarded-for` names the client.
    pub trust_forwarded: bool,
    /// How many players the district lets in each second, at most. The same on all its gateways.
    pub admissions_per_second: u32,
    /// How many may wait, at most.
    pub queue_most: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            passwords: PasswordCost::standard(),
            creations: Rate { burst: 1_000, per_minute: 600 },
            failures: Rate { burst: 100, per_minute: 60 },
            trust_forwarded: false,
            admissions_per_second: ADMISSIONS_PER_SECOND,
            queue_most: QUEUE_MOST,
        }
    }
}

/// What a gateway is made from.
pub struct GatewayContext {
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// What the mesh tells it: peers and frames.
    pub events: mpsc::Receiver<Event>,
    /// Its world: all islands added, no objects.
    pub world: GameWorld,
    /// Where nodes are registered.
    pub directory: Arc<dyn Directory>,
    /// Where it belongs.
    pub district: District,
    /// Where documents lie, and transactions over them.
    pub estate: Arc<Transactions>,
    /// The islands.
    pub islands: Archipelago,
    /// Where it takes HTTP connections.
    pub http: TcpListener,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// What `/metrics` shows: all nodes of the process.
    pub exposition: Exposition,
    /// Its tasks.
    pub tasks: Tasks,
    /// Its set-up.
    pub config: Config,
    /// Whether it is being emptied.
    pub draining: Draining,
    /// Where its session ids and salts come from: secret and random, of this process only.
    pub secret: [u8; 32],
}

/// Kinds of documents that gateways keep beside those of the estate.
pub const DOCUMENTS: &[&str] = &["readiness", "session"];

/// What the handlers of one gateway share.
pub struct App {
    mesh: Mesh,
    world: WorldHandle<MapInput>,
    directory: Arc<dyn Directory>,
    district: District,
    estate: Arc<Transactions>,
    grounds: Terrains,
    islands: Archipelago,
    metrics: Arc<Metrics>,
    exposition: Exposition,
    tasks: Tasks,
    passwords: Passwords,
    creations: Limiter,
    failures: Limiter,
    sent: Sent,
    admission: Admission,
    counts: Counts,
    censuses: Semaphore,
    atlas: Atlas,
    feed: MapFeed,
    readiness: LastReadiness,
    random: Mutex<StdRng>,
    draining: Draining,
    stop: watch::Sender<bool>,
}

/// A running gateway.
pub struct Gateway {
    /// Where it takes HTTP connections.
    pub address: SocketAddr,
    /// Its world.
    pub world: WorldHandle<MapInput>,
    app: Arc<App>,
    server: Server,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The password cost is outside argon2's bounds.
    #[error("password cost refused: {0}")]
    Passwords(argon2::Error),
    /// No thread for the world, or the listener has no address.
    #[error("the gateway could not start")]
    Io(#[from] std::io::Error),
}

/// Starts a gateway: it answers when this returns, until the node's tasks stop or [`Gateway::shut_down`].
///
/// What peers ask of the node is the caller's to answer; questions about cells go to [`Gateway::world`].
pub async fn serve(ctx: GatewayContext) -> Result<Gateway, StartError> {
    let GatewayContext { mesh, events, world, directory, estate, islands, http, metrics, .. } = ctx;
    let (tasks, config, exposition, draining) = (ctx.tasks, ctx.config, ctx.exposition, ctx.draining);
    let address = http.local_addr()?;
    let passwords = Passwords::new(config.passwords, metrics.hashes.clone()).map_err(StartError::Passwords)?;
    let rules = Observer::new(metrics.clone());
    let world = world_loop::start(world, mesh.clone(), events, metrics.clone(), draining.clone(), &tasks, |_| rules)?;
    let waiting = metrics.gauge("queue_length", "Players who wait in line, as this gateway knows.");
    let prefix = queue::prefix(&ctx.district);
    let line = Line::new(&prefix, waiting);
    tasks.spawn(follower::follow(directory.clone(), prefix.clone(), line.clone()));
    let scribe = Scribe::start(directory.clone(), &prefix, line.clone(), &tasks);
    let counts = Counts::new(&metrics);
    let app = Arc::new(App {
        atlas: Atlas::new(),
        admission: Admission::new(line.clone(), scribe, config.admissions_per_second, config.queue_most),
        counts: counts.clone(),
        mesh,
        world: world.clone(),
        directory,
        district: ctx.district,
        estate,
        grounds: Terrains::new(&islands),
        islands,
        metrics: metrics.clone(),
        exposition,
        tasks: tasks.clone(),
        passwords,
        creations: Limiter::new(config.creations),
        failures: Limiter::new(config.failures),
        sent: Sent::default(),
        censuses: Semaphore::new(census::CENSUSES),
        feed: MapFeed::default(),
        readiness: LastReadiness::default(),
        draining,
        random: Mutex::new(StdRng::from_seed(ctx.secret)),
        stop: watch::Sender::new(false),
    });
    tasks.spawn(feed::tell_nodes(app.clone()));
    let keeper = doorkeeper::Parts {
        node: app.mesh.me().node.to_string(),
        directory: app.directory.clone(),
        prefix,
        line,
        estate: app.estate.clone(),
        frontends: Arc::new(hall::Hall(app.clone())),
        per_second: config.admissions_per_second.max(1),
        spread: app.mesh.me().incarnation.0,
        counts,
    };
    let acting = app.clone();
    let may = move || acting.mesh.lease().holds() && !acting.stopping();
    tasks.spawn(doorkeeper::serve(keeper, may));
    let edge = Edge::new(metrics.clone(), config.trust_forwarded);
    let router = routes::router(app.clone(), edge);
    let server = Server::start(http, router, metrics.http_connections.clone(), &tasks);
    tracing::info!(%address, "the gateway serves");
    Ok(Gateway { address, world, app, server })
}

impl Gateway {
    /// Says that it is going, and serves on until whoever chooses among gateways has had time to see that.
    pub async fn drain(&self) {
        tokio::time::sleep(GRACE).await;
    }

    /// From now on it is not ready; takes no new connections, tells viewers goodbye, and lets requests under way finish.
    pub async fn shut_down(&self) {
        self.app.stop.send_replace(true);
        if !self.server.shut_down(SHUT_DOWN_PATIENCE).await {
            tracing::warn!("requests were still under way when the gateway was shut down");
        }
    }
}

impl App {
    fn store(&self) -> &dyn Store {
        &**self.estate.store()
    }

    /// It is going: soon no more connections are taken.
    fn stopping(&self) -> bool {
        *self.stop.borrow() || self.draining.has_begun()
    }

    fn own_report(&self) -> Arc<WorldReport> {
        self.world.report.borrow().clone()
    }

    fn island(&self, id: &str) -> ApiResult<Arc<Terrain>> {
        let wanted = id.parse::<u32>().ok().map(IslandId);
        let found = wanted.and_then(|id| self.islands.chart().known(id).cloned());
        found.ok_or_else(|| ApiError::unknown("unknown_island", "no such island; /v1/islands lists them"))
    }

    fn random_u64(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn random_salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut salt);
        salt
    }

    fn random_uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random_salt()).into_uuid()
    }
}
