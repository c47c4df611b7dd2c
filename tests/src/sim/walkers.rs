//! The workload: players who log in, walk, are shown the world, lose their frontends and come back.
//!
//! Each is a client as real ones are, but for the socket: its bytes go through the frontend's gate, and what a shard
//! writes to it is parsed and kept. It checks nothing itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cartographer::geometry::ObjectId;
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::player::{self, Birth};
use estate::store::memory::MemoryStore;
use mesh::tasks::Tasks;
use nodes::client::sight::Sight;
use nodes::frontend::connection::Gate;
use nodes::frontend::players::FrontInput;
use nodes::frontend::sessions::Sessions;
use nodes::frontend::shard::ClientId;
use nodes::methods::OpenSession;
use nodes::protocol::{ClientMessage, Command, HelloKind, Motion, Outcome, PROTOCOL, ServerMessage, UNITS_PER_TILE};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::SimConfig;
use super::cluster::{Cluster, Frontends};
use crate::pipe::{Pipe, within};

/// How long a walker waits for an answer before it believes its frontend dead, in simulated milliseconds.
const PATIENCE_MS: u64 = 3_000;

/// Between two tries to come in, in simulated milliseconds.
const TRY_AGAIN_MS: u64 = 300;

/// The longest walk along either axis, in seconds: all have ended when the checks come.
const LEG_S: i32 = 2;

/// How often a walker looks at what it was shown, in simulated milliseconds.
const LOOK_MS: u64 = 100;

/// All walkers of a run.
pub struct Walkers {
    resting: Arc<AtomicBool>,
    tasks: Tasks,
    /// What each is shown now; `None` while it is out.
    pub shown: Vec<Arc<Mutex<Client>>>,
}

/// A walker's client.
#[derive(Default)]
pub struct Client {
    /// What it is shown, while it is in.
    pub sight: Option<Sight>,
    /// Its player.
    pub player: u64,
    /// Its frontend's number.
    pub frontend: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl Client {
    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }
}

impl Walkers {
    /// Starts them all.
    pub fn start(config: &SimConfig, cluster: &Cluster) -> Walkers {
        let (resting, tasks) = (Arc::new(AtomicBool::new(false)), Tasks::simulated());
        let shown = (0..config.walkers).map(|i| {
            let client = Arc::new(Mutex::new(Client::default()));
            let walker = Walker {
                player: 1_000 + i as u64,
                random: StdRng::seed_from_u64(config.seed.wrapping_mul(1_000_003) + i as u64),
                frontends: cluster.frontends.clone(),
                store: cluster.store.client(),
                resting: resting.clone(),
                client: client.clone(),
                size: size_units(&cluster.islands[0]),
            };
            tasks.spawn(walker.live());
            client
        });
        Walkers { shown: shown.collect(), resting: resting.clone(), tasks: tasks.clone() }
    }

    /// From now on nobody begins a walk. Whoever is out comes in.
    pub fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
    }

    /// Ends them all.
    pub fn stop(&self) {
        self.tasks.stop();
    }

    /// Adds what they did.
    pub fn count(&self, counts: &mut BTreeMap<String, u64>) {
        for client in &self.shown {
            for (name, count) in &lock(client).counts {
                *counts.entry((*name).to_owned()).or_default() += count;
            }
        }
    }
}

fn size_units(terrain: &Terrain) -> (i32, i32) {
    let (width, height) = terrain.size();
    (i32::from(width) * UNITS_PER_TILE, i32::from(height) * UNITS_PER_TILE)
}

struct Walker {
    player: u64,
    random: StdRng,
    frontends: Frontends,
    store: MemoryStore,
    resting: Arc<AtomicBool>,
    client: Arc<Mutex<Client>>,
    size: (i32, i32),
}

struct Visit {
    sessions: Sessions,
    process: Tasks,
    id: ClientId,
    gate: Gate,
    pipe: Arc<Pipe>,
    motion: Motion,
    now_ms: u64,
    arrived: Instant,
    waiting_since: Option<Instant>,
    over: bool,
}

impl Walker {
    async fn live(mut self) {
        self.be_born().await;
        loop {
            let Some(visit) = self.come_in().await else {
                sleep(Duration::from_millis(TRY_AGAIN_MS)).await;
                continue;
            };
            lock(&self.client).count("joins");
            self.walk_about(visit).await;
            let mut client = lock(&self.client);
            client.sight = None;
            client.count("losses");
        }
    }

    async fn be_born(&mut self) {
        let birth = Birth { hue: (self.player % 360) as u16, island: 0, x: 0, y: 0 };
        let name = format!("walker {}", self.player);
        // The store of the walkers' own handle has no faults.
        if let Err(e) = player::create(&self.store, self.player, &name, &name, &birth).await {
            tracing::error!("{name} was not born: {e}");
        }
    }

    async fn come_in(&mut self) -> Option<Visit> {
        let (number, sessions, process) = self.choose()?;
        let open =
            OpenSession { session: Uuid::from_u128(self.random.random()), player: ObjectId(self.player), island: None };
        // What a client waits for at a process: its answer, or its end.
        let pipe = Arc::new(Pipe::default());
        let entering = async {
            let offer = sessions.open(&open).ok()?;
            let sink = pipe.clone();
            sessions.hello(PROTOCOL, &offer.ticket, HelloKind::Ticket, move || sink).await.ok()
        };
        let entered = within(&process, PATIENCE_MS, entering).await.flatten();
        let Some(id) = entered else {
            lock(&self.client).count("refused_entries");
            return None;
        };
        {
            let mut client = lock(&self.client);
            client.sight = Some(Sight::new());
            (client.player, client.frontend) = (self.player, number);
        }
        let gate = Gate::new(0);
        let (motion, arrived) = (Motion::still(0, 0, 0), Instant::now());
        Some(Visit {
            sessions,
            process,
            id,
            gate,
            pipe,
            motion,
            now_ms: 0,
            arrived,
            waiting_since: Some(arrived),
            over: false,
        })
    }

    fn choose(&mut self) -> Option<(usize, Sessions, Tasks)> {
        let frontends = self.frontends.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.random.random_range(0..frontends.len());
        frontends[number].as_ref().map(|(sessions, tasks)| (number, sessions.clone(), tasks.clone()))
    }

    async fn walk_about(&mut self, mut visit: Visit) {
        let mut next_walk = Instant::now();
        let mut seq = 0;
        loop {
            sleep(Duration::from_millis(LOOK_MS)).await;
            self.look(&mut visit).await;
            let silent = visit.waiting_since.is_some_and(|since| since.elapsed() > Duration::from_millis(PATIENCE_MS));
            if visit.over || silent || visit.process.stopped() || visit.pipe.closed() {
                visit.say(FrontInput::Detach(visit.id));
                return;
            }
            // A resting walker pings now and then, so that it notices a frozen frontend.
            if visit.waiting_since.is_some() || Instant::now() < next_walk {
                continue;
            }
            next_walk = Instant::now() + Duration::from_millis(self.random.random_range(500..2_500));
            seq += 1;
            let message = if self.resting.load(Ordering::SeqCst) {
                ClientMessage::Ping { t: seq }
            } else {
                self.walk(&visit, seq as u32)
            };
            visit.send(&message);
        }
    }

    fn walk(&mut self, visit: &Visit, seq: u32) -> ClientMessage {
        let now = visit.now_ms as i64 + visit.arrived.elapsed().as_millis() as i64;
        let from = visit.motion.at(now);
        let speed = self.random.random_range(300..=1024);
        let reach = speed * LEG_S;
        let to = (
            (from.0 + self.random.random_range(-reach..=reach)).clamp(0, self.size.0 - 1),
            (from.1 + self.random.random_range(-reach..=reach)).clamp(0, self.size.1 - 1),
        );
        ClientMessage::Command { seq, command: Command::Walk { from, to, speed } }
    }

    /// Takes what the shard wrote.
    async fn look(&mut self, visit: &mut Visit) {
        let mut asks = Vec::new();
        for message in visit.pipe.take() {
            let mut client = lock(&self.client);
            let decoded = ServerMessage::decode(&message);
            let Some(sight) = client.sight.as_mut() else { return };
            match decoded {
                Ok(ServerMessage::Frame(frame)) => {
                    let effect = sight.apply(&Arc::new(frame));
                    if effect.gap {
                        asks = sight.waiting();
                        client.count("client_gaps");
                    }
                }
                Ok(ServerMessage::Welcome(welcome)) => {
                    visit.motion = welcome.motion;
                    visit.set_clock(welcome.now_ms);
                }
                Ok(ServerMessage::Answer { outcome, .. }) => {
                    visit.waiting_since = None;
                    match outcome {
                        Outcome::Ok { motion } => {
                            visit.motion = motion.unwrap_or(visit.motion);
                            client.count("walks");
                        }
                        Outcome::Made { .. } => {}
                        Outcome::Refused { motion, .. } => {
                            visit.motion = motion.unwrap_or(visit.motion);
                            client.count("refused_walks");
                        }
                    }
                }
                Ok(ServerMessage::Pong { now_ms, .. }) => visit.set_clock(now_ms),
                Ok(ServerMessage::Clocks(clocks)) => sight.set_clocks(&clocks),
                Ok(ServerMessage::Vision { island, entered, left }) => sight.set_vision(island, &entered, &left),
                Ok(ServerMessage::Farewell { .. } | ServerMessage::Redirect { .. }) => visit.over = true,
                Ok(_) => {}
                Err(e) => {
                    tracing::error!("a client was sent nonsense: {e}");
                    client.count("malformed");
                }
            }
        }
        if !asks.is_empty() {
            visit.send(&ClientMessage::Ask { cells: asks });
        }
    }
}

impl Visit {
    fn set_clock(&mut self, now_ms: u64) {
        (self.now_ms, self.arrived, self.waiting_since) = (now_ms, Instant::now(), None);
    }

    /// What a client sends arrives at the process, unless it is dead; a frozen one takes it when it thaws.
    fn send(&mut self, message: &ClientMessage) {
        let now = self.now_ms + self.arrived.elapsed().as_millis() as u64;
        let said = self.gate.take(now, &message.encode());
        if !matches!(message, ClientMessage::Ask { .. }) {
            self.waiting_since = Some(Instant::now());
        }
        self.say(FrontInput::Said(self.id, said));
    }

    fn say(&self, input: FrontInput) {
        if !self.process.stopped() {
            self.sessions.try_role(input);
        }
    }
}

/// Locks a client.
pub fn lock(client: &Mutex<Client>) -> MutexGuard<'_, Client> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}
