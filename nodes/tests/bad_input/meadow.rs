//! A mesh in this process, two ordinary players who walk and see each other all the time, and the way in for a third who
//! means no good.
//!
//! The ordinary players are on different frontends, so that what one sees of the other crosses the mesh. They count
//! what must never happen to them; [`Meadow::undisturbed`] looks at the counts and waits for fresh steps of both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{IslandId, ObjectId};
use cartographer::terrain::Terrain;
use futures_util::{SinkExt, StreamExt};
use mesh::CallRefusal;
use nodes::client::{Connection, Gateway, Incoming, ServerClock, Sight};
use nodes::commands::up::{LocalConfig, LocalMesh};
use nodes::frontend::{Config, Frontend};
use nodes::methods::{OpenSession, SessionOffer};
use nodes::protocol::{
    ClientMessage, Command, HelloKind, Outcome, PROTOCOL, ServerMessage, UNITS_PER_TILE, Welcome, frames,
};
use nodes::wiring::{Door, Node};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// How long a check waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(20);

/// Between two walks of an ordinary player.
const STEP: Duration = Duration::from_millis(300);

/// Ordinary players must be this near to each other at the start, in units: well within sight.
const NEAR: i32 = 24 * UNITS_PER_TILE;

/// Accounts that are made in search of two whose players begin near each other.
const ACCOUNTS: usize = 24;

/// The two frontends.
pub(crate) const NODES: [&str; 2] = ["frontend-1", "frontend-2"];

/// A socket of somebody who follows no rules.
pub(crate) type Raw = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Meadow {
    pub(crate) mesh: LocalMesh,
    pub(crate) island: Terrain,
    /// The player of the one who means no good.
    pub(crate) mallory: u64,
    ordinary: [Arc<Mutex<Life>>; 2],
    _lives: JoinSet<()>,
}

/// A connection with its welcome.
type Entered = (Connection, Welcome);

/// What an ordinary player has seen.
#[derive(Debug, Default)]
struct Life {
    friend: u64,
    friend_version: u64,
    friend_steps: u64,
    friend_in_sight: bool,
    walks: u64,
    gaps: u64,
    ended: Option<String>,
}

impl Meadow {
    pub(crate) async fn start() -> Meadow {
        Meadow::with(Config::default()).await
    }

    pub(crate) async fn with(frontend: Config) -> Meadow {
        let mesh = mesh(2, frontend).await;
        let island = Terrain::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../islands/santorini.tmx")).unwrap();
        let gateway = Gateway::new(&format!("http://{}", mesh.http)).unwrap();
        let mallory = gateway.create_account("mallory", "correct horse").await.unwrap().player;
        let (first, second) = neighbours(&mesh, &gateway, island.id()).await;
        let mut lives = JoinSet::new();
        let friends = [second.1.player, first.1.player];
        let ordinary = [first, second].into_iter().zip(friends).map(|((connection, welcome), friend)| {
            let life = Arc::new(Mutex::new(Life { friend, ..Life::default() }));
            lives.spawn(live(connection, welcome, life.clone()));
            life
        });
        let ordinary: Vec<_> = ordinary.collect();
        let meadow = Meadow { mesh, island, mallory, ordinary: ordinary.try_into().unwrap(), _lives: lives };
        meadow.undisturbed("before anything").await;
        meadow
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        node(&self.mesh, name)
    }

    pub(crate) fn refused(&self, name: &str, code: &str) -> u64 {
        self.node(name).metrics.refusals.with_label_values(&[code]).get()
    }

    pub(crate) fn farewells(&self, name: &str, code: &str) -> u64 {
        self.node(name).metrics.farewells.with_label_values(&[code]).get()
    }

    /// Steps that the ordinary players have seen of each other.
    pub(crate) fn steps(&self) -> u64 {
        self.ordinary.iter().map(|life| lock(life).friend_steps).min().unwrap_or_default()
    }

    /// Both ordinary players are where they were: connected, nothing missing, and new steps of the other come in.
    pub(crate) async fn undisturbed(&self, after: &str) {
        let lives = || self.ordinary.iter().map(|life| lock(life));
        let before: Vec<(u64, u64)> = lives().map(|life| (life.friend_steps, life.walks)).collect();
        let went_on = until(|| {
            lives().any(|life| life.ended.is_some())
                || lives().zip(&before).all(|(life, was)| life.friend_steps >= was.0 + 2 && life.walks >= was.1 + 2)
        });
        let went_on = went_on.await;
        for life in lives() {
            assert!(
                went_on && life.ended.is_none() && life.gaps == 0 && life.friend_in_sight,
                "after {after}: {life:?}"
            );
        }
    }

    /// Does something bad, which must be counted under this code by the frontend, and must disturb nobody.
    pub(crate) async fn counted<T>(&self, name: &str, code: &str, what: &str, bad: impl Future<Output = T>) -> T {
        let before = self.refused(name, code);
        let done = timeout(PATIENCE, bad).await.unwrap_or_else(|_| panic!("{what}: no end"));
        assert!(until(|| self.refused(name, code) > before).await, "{what}: {code} is not counted");
        self.undisturbed(what).await;
        done
    }

    /// A ticket of this frontend for the one who means no good, and where to go with it.
    pub(crate) fn ticket(&self, name: &str) -> (String, String) {
        offer(&self.mesh, name, self.mallory, Some(self.island.id()))
    }

    /// Comes in as anybody does.
    pub(crate) async fn enter(&self, name: &str) -> (Raw, Welcome) {
        let (url, ticket) = self.ticket(name);
        let mut socket = dial(&url).await;
        socket.say(&hello(&ticket, HelloKind::Ticket)).await;
        let welcome = socket.welcome().await;
        (socket, welcome)
    }

    /// Waits until nobody but the ordinary player is connected to this frontend.
    pub(crate) async fn alone(&self, name: &str) {
        assert!(until(|| self.node(name).metrics.clients.get() == 1).await, "{name} still has other clients");
    }
}

/// A mesh in this process, all of whose nodes have found each other.
pub(crate) async fn mesh(frontends: u32, frontend: Config) -> LocalMesh {
    let islands = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../islands").into());
    let config = LocalConfig::small(frontends, frontend, islands);
    let mesh = LocalMesh::start(config).await.unwrap();
    mesh.ready().await.unwrap();
    mesh
}

pub(crate) fn hello(token: &str, kind: HelloKind) -> ClientMessage {
    ClientMessage::Hello { protocol: PROTOCOL, token: token.to_owned(), kind }
}

pub(crate) fn frontend(node: &Node) -> &Frontend {
    match &node.door {
        Door::Frontend(frontend) => frontend,
        _ => panic!("{} is no frontend", node.mesh.me().node),
    }
}

/// A WebSocket connection, without hello.
pub(crate) async fn dial(url: &str) -> Raw {
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

/// Waits for a state; false if it does not come.
pub(crate) async fn until(mut state: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !state() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// What an attacker does with a socket.
pub(crate) trait Talk {
    async fn say(&mut self, message: &ClientMessage);
    async fn send_bytes(&mut self, bytes: &[u8]);
    /// The next message that `wanted` takes; its connection ending before it is a failure.
    async fn hear<T>(&mut self, wanted: impl FnMut(ServerMessage) -> Option<T>) -> T;
    async fn welcome(&mut self) -> Welcome;
    /// The code of the farewell that comes sooner or later.
    async fn farewell(&mut self) -> String;
    async fn ask(&mut self, seq: u32, command: Command) -> Outcome;
}

impl Talk for Raw {
    async fn say(&mut self, message: &ClientMessage) {
        self.send_bytes(&message.encode()).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.send(Message::Binary(Bytes::copy_from_slice(bytes))).await.unwrap();
    }

    async fn hear<T>(&mut self, mut wanted: impl FnMut(ServerMessage) -> Option<T>) -> T {
        let heard = timeout(PATIENCE, async {
            loop {
                match self.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        if let Some(found) = wanted(ServerMessage::decode(&bytes).unwrap()) {
                            return found;
                        }
                    }
                    // The library answers pings by itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("the connection ended early: {other:?}"),
                }
            }
        });
        heard.await.expect("it comes in time")
    }

    async fn welcome(&mut self) -> Welcome {
        self.hear(|message| match message {
            ServerMessage::Welcome(welcome) => Some(welcome),
            other => panic!("no welcome but {other:?}"),
        })
        .await
    }

    async fn farewell(&mut self) -> String {
        self.hear(|message| if let ServerMessage::Farewell { code, .. } = message { Some(code) } else { None }).await
    }

    async fn ask(&mut self, seq: u32, command: Command) -> Outcome {
        self.say(&ClientMessage::Command { seq, command }).await;
        self.hear(|message| match message {
            ServerMessage::Answer { seq: of, outcome } if of == seq => Some(outcome),
            _ => None,
        })
        .await
    }
}

fn node<'a>(mesh: &'a LocalMesh, name: &str) -> &'a Node {
    mesh.nodes.iter().find(|node| node.mesh.me().node.as_str() == name).expect("a node of that name")
}

/// Asks a frontend to expect this player.
pub(crate) fn open(
    mesh: &LocalMesh,
    name: &str,
    player: u64,
    island: Option<IslandId>,
) -> Result<SessionOffer, CallRefusal> {
    let open = OpenSession { session: Uuid::new_v4(), player: ObjectId(player), island };
    frontend(node(mesh, name)).sessions.open(&open)
}

/// Where to connect as this player, and the ticket for it.
pub(crate) fn offer(mesh: &LocalMesh, name: &str, player: u64, island: Option<IslandId>) -> (String, String) {
    let offer = open(mesh, name, player, island).unwrap();
    (offer.url, offer.ticket)
}

/// Two players near each other, one on each frontend.
async fn neighbours(mesh: &LocalMesh, gateway: &Gateway, island: IslandId) -> (Entered, Entered) {
    let (mut on_first, mut on_second): (Vec<Entered>, Vec<Entered>) = Default::default();
    for number in 0..ACCOUNTS {
        let account = gateway.create_account(&format!("ordinary{number}"), "correct horse").await.unwrap();
        let (url, ticket) = offer(mesh, NODES[number % 2], account.player, Some(island));
        let entered = Connection::open(&url, &ticket, HelloKind::Ticket).await.unwrap();
        if number % 2 == 0 {
            on_first.push(entered)
        } else {
            on_second.push(entered)
        }
        let near =
            |a: &Welcome, b: &Welcome| (a.motion.x - b.motion.x).abs() < NEAR && (a.motion.y - b.motion.y).abs() < NEAR;
        let pairs = (0..on_first.len()).flat_map(|a| (0..on_second.len()).map(move |b| (a, b)));
        let found = pairs.into_iter().find(|(a, b)| near(&on_first[*a].1, &on_second[*b].1));
        if let Some((a, b)) = found {
            let pair = (on_first.swap_remove(a), on_second.swap_remove(b));
            // The others leave; the rest of this test knows how many clients there are.
            for (connection, _) in on_first.into_iter().chain(on_second) {
                connection.close().await;
            }
            for name in NODES {
                assert!(until(|| node(mesh, name).metrics.clients.get() == 1).await, "a client stays at {name}");
            }
            return pair;
        }
    }
    panic!("no two of {ACCOUNTS} players begin near each other");
}

/// An ordinary player's life: a step now and then, and a look at everything that comes.
async fn live(mut connection: Connection, welcome: Welcome, life: Arc<Mutex<Life>>) {
    let home = (welcome.motion.x, welcome.motion.y);
    let mut clock = ServerClock::new(Instant::now(), welcome.now_ms);
    let (mut sight, mut motion, mut seq, mut waiting) = (Sight::new(), welcome.motion, 0, false);
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            incoming = connection.next() => {
                let message = match incoming {
                    Ok(Incoming::Frame(bytes)) => ServerMessage::decode(&bytes),
                    Ok(Incoming::Message(message)) => Ok(message),
                    Err(e) => return lock(&life).ended = Some(e.chain()),
                };
                match message {
                    Ok(ServerMessage::Frame(frame)) => {
                        if frame.head.publisher == welcome.publisher {
                            clock.observe(Instant::now(), frame.head.time_ms);
                        }
                        see(&mut sight, frame, &mut lock(&life));
                    }
                    Ok(ServerMessage::Vision { island, entered, left }) => sight.set_vision(island, &entered, &left),
                    Ok(ServerMessage::Clocks(clocks)) => sight.set_clocks(&clocks),
                    Ok(ServerMessage::Answer { outcome, .. }) => {
                        waiting = false;
                        let now = match outcome {
                            Outcome::Ok { motion } => {
                                lock(&life).walks += 1;
                                motion
                            }
                            Outcome::Made { .. } => None,
                            // Blocked, or late on a busy machine: the next step goes elsewhere, from the truth.
                            Outcome::Refused { motion, .. } => motion,
                        };
                        motion = now.unwrap_or(motion);
                    }
                    Ok(ServerMessage::Bag { .. } | ServerMessage::Note { .. } | ServerMessage::Party { .. }) => {}
                    Ok(ServerMessage::Farewell { code, text }) => {
                        return lock(&life).ended = Some(format!("{code}: {text}"));
                    }
                    Ok(_) => {}
                    Err(e) => return lock(&life).ended = Some(e.to_string()),
                }
            }
            _ = steps.tick(), if !waiting => {
                seq += 1;
                let way = [(1, 0), (0, 1), (-1, 0), (0, -1)][seq as usize % 4];
                let to = (home.0 + way.0 * UNITS_PER_TILE, home.1 + way.1 * UNITS_PER_TILE);
                let from = motion.at(clock.at_ms(Instant::now()));
                let walk = ClientMessage::Command { seq, command: Command::Walk { from, to, speed: 256 } };
                waiting = true;
                if let Err(e) = connection.send(&walk).await {
                    return lock(&life).ended = Some(e.chain());
                }
            }
        }
    }
}

fn see(sight: &mut Sight, frame: frames::Frame, life: &mut Life) {
    let effect = sight.apply(&Arc::new(frame));
    life.gaps += u64::from(effect.gap);
    let friend = sight.ghost(life.friend);
    life.friend_in_sight = friend.is_some();
    if let Some(ghost) = friend
        && ghost.version != life.friend_version
    {
        life.friend_version = ghost.version;
        life.friend_steps += 1;
    }
}

fn lock(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}
