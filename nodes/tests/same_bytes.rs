//! The bytes of a frame are encoded once, by the owner of the cell, and never copied on their way to anybody's socket.
//!
//! Two frontends over transport, directory and store in memory, on tokio's paused clock. Between the owner and its
//! transport is a tap that keeps every frame, so that no address is used twice while the test looks; every client is a
//! sink that notes the addresses it is given. NEVER a socket: what the kernel copies is not our business.

// What a test makes itself may be unwrapped; clippy's exception for tests covers test functions only.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{ObjectId, Place};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use cartographer::world::Stats;
use estate::player::{self, Birth};
use estate::store::memory::MemoryStore;
use mesh::directory::memory::MemoryDirectory;
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::transport::{COMMANDS, Command as TransportCommand, Transport};
use mesh::{NodeId, Role};
use nodes::frontend::players::{FrontInput, Said};
use nodes::frontend::shard::{ClientId, Sink};
use nodes::frontend::{Config, Frontend};
use nodes::game::GameWorld;
use nodes::methods::OpenSession;
use nodes::metrics::Exposition;
use nodes::protocol::{Command, FrameHead, HelloKind, PROTOCOL, ServerMessage, UNITS_PER_TILE, frames};
use nodes::wiring::{self, Door, Membership, Node, Setup};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Rounds of walks, and players of the owner who walk in each.
const ROUNDS: i32 = 20;
const WALKERS: usize = 3;

/// Longer than any walk here, and than frames are under way, in simulated time.
const QUIET: Duration = Duration::from_secs(10);

/// How long a state may take to come, in simulated time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client was given: every slice's address, with a copy to compare, and when each write came.
#[derive(Default)]
struct Noted {
    slices: Vec<(usize, Vec<u8>)>,
    writes: Vec<Instant>,
}

#[derive(Clone, Default)]
struct Client(Arc<Mutex<Noted>>);

impl Sink for Client {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut noted = self.0.lock().unwrap();
        noted.writes.push(Instant::now());
        noted.slices.extend(slices.iter().map(|slice| (slice.as_ptr() as usize, slice.to_vec())));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn close(&self) {}
}

impl Client {
    fn clear(&self) {
        *self.0.lock().unwrap() = Noted::default();
    }
}

/// The frames that a node gave its transport; kept, so that their addresses stay theirs.
type Tap = Arc<Mutex<Vec<Bytes>>>;

/// The transport with a tap in front of it.
fn tapped(transport: Transport, tap: Tap, tasks: &Tasks) -> Transport {
    let (commands, mut inbox) = mpsc::channel(COMMANDS);
    let Transport { endpoints, events, counters, commands: onward } = transport;
    tasks.spawn(async move {
        while let Some(command) = inbox.recv().await {
            if let TransportCommand::Publish { parts, .. } = &command {
                tap.lock().unwrap().extend(parts.iter().filter(|part| frames::is_frame(part)).cloned());
            }
            if onward.send(command).await.is_err() {
                return;
            }
        }
    });
    Transport { endpoints, events, counters, commands }
}

struct Stage {
    network: MemoryNetwork,
    directory: MemoryDirectory,
    store: MemoryStore,
    island: Arc<Terrain>,
    _ground: Tasks,
}

impl Stage {
    fn new() -> Stage {
        let ground = Tasks::simulated();
        let island = Terrain::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../islands/santorini.tmx")).unwrap();
        Stage {
            network: MemoryNetwork::new(1),
            directory: MemoryDirectory::start(&ground, 1),
            store: MemoryStore::new(),
            island: Arc::new(island),
            _ground: ground,
        }
    }

    async fn frontend(&self, number: u8, tap: Tap) -> Node {
        let (name, tasks) = (format!("frontend-{number}"), Tasks::simulated());
        let setup = Setup {
            membership: Membership {
                cluster: "test".to_owned(),
                district: "main".to_owned(),
                key: b"the test's key".to_vec(),
                lease_ttl_s: 5,
            },
            node: NodeId::new(&name).unwrap(),
            role: Role::Frontend,
            directory: Arc::new(self.directory.client()),
            transport: tapped(self.network.transport(&name, &tasks), tap, &tasks),
            store: Arc::new(self.store.client()),
            islands: nodes::islands::Archipelago::new([self.island.clone()]),
            tasks,
            door: None,
            public: None,
            frontend: Config::default(),
            gateway: Default::default(),
            exposition: Exposition::new(),
            secret: [number; 32],
            content: nodes::game::content::Content::bundled(),
            calendar: nodes::calendar::Calendar::real(),
            steward: None,
        };
        wiring::start(setup).await.unwrap()
    }

    /// A player who stands at this place and whose client is a sink.
    async fn enter(&self, node: &Node, id: u64, place: Place) -> (ClientId, Client) {
        let name = format!("player {id}");
        let birth = Birth { hue: 0, island: self.island.id().0, x: place.x, y: place.y };
        player::create(&self.store.client(), id, &name, &name, &birth).await.unwrap();
        let open = OpenSession { session: Uuid::from_u128(id.into()), player: ObjectId(id), island: None };
        let (sessions, client) = (&frontend(node).sessions, Client::default());
        let (ticket, sink) = (sessions.open(&open).unwrap().ticket, Arc::new(client.clone()));
        (sessions.hello(PROTOCOL, &ticket, HelloKind::Ticket, || sink).await.unwrap(), client)
    }

    /// Places on land near to each other, no two in the same cell.
    fn places(&self) -> Vec<Place> {
        let middle = self.island.spawns()[0].place;
        let mut cells = BTreeSet::new();
        let mut places = Vec::new();
        let offsets = (0..30)
            .flat_map(|reach| (-reach..=reach).flat_map(move |x| [(x, -reach), (x, reach), (reach, x), (-reach, x)]));
        for (x, y) in offsets {
            let place = middle.offset(x * UNITS_PER_TILE, y * UNITS_PER_TILE);
            let around = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
                .map(|(x, y)| place.offset(x * UNITS_PER_TILE, y * UNITS_PER_TILE));
            let land = around.iter().all(|p| p.tile().is_some_and(|tile| self.island.walkable(tile)));
            let side = 32 * UNITS_PER_TILE;
            if land && cells.insert((place.x / side, place.y / side)) {
                places.push(place);
            }
        }
        places
    }
}

fn frontend(node: &Node) -> &Frontend {
    match &node.door {
        Door::Frontend(frontend) => frontend,
        _ => panic!("no frontend"),
    }
}

async fn stats(node: &Node) -> Stats {
    let (tell, told) = oneshot::channel();
    let look = move |world: &GameWorld| {
        // An error means that the test has given up.
        let _ = tell.send(world.stats());
    };
    assert!(node.inspect(Box::new(look)).await);
    told.await.unwrap()
}

fn ticks(node: &Node) -> u64 {
    node.metrics.tick_seconds.get_sample_count()
}

fn writes(node: &Node) -> u64 {
    frontend(node).counters.writes.load(Ordering::Relaxed)
}

async fn until(what: &str, node: &Node, state: impl Fn(Stats) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !state(stats(node).await) {
        assert!(Instant::now() < end, "{what}: {:?}", stats(node).await);
        sleep(Duration::from_millis(50)).await;
    }
}

fn head(frame: &[u8]) -> FrameHead {
    match ServerMessage::decode(frame).unwrap() {
        ServerMessage::Frame(frame) => frame.head,
        other => panic!("no frame but {other:?}"),
    }
}

/// Every frame was handed to this client once, as the very allocation that the owner's world made.
fn check_same(frames: &[Bytes], client: &Client, whose: &str) {
    let mut given: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for (address, copy) in &client.0.lock().unwrap().slices {
        given.entry(*address).or_default().push(copy.clone());
    }
    for frame in frames {
        let here = given.get(&(frame.as_ptr() as usize)).map_or(&[][..], |copies| &copies[..]);
        assert_eq!(here, [frame.to_vec()], "{whose} was not given the owner's bytes of {:?}", head(frame));
    }
}

/// No two writes in one tick: ticks stand 50 ms apart on the paused clock.
fn check_writes(client: &Client, whose: &str) {
    let writes = &client.0.lock().unwrap().writes;
    assert!(!writes.is_empty());
    let twice = writes.windows(2).find(|pair| pair[1] - pair[0] < Duration::from_millis(50));
    assert_eq!(twice, None, "{whose} was written to twice in one tick");
}

#[tokio::test(start_paused = true)]
async fn the_owners_bytes_reach_every_client_of_every_frontend_uncopied_in_one_write_per_tick() {
    let stage = Stage::new();
    let tap = Tap::default();
    let owner = stage.frontend(1, tap.clone()).await;
    let other = stage.frontend(2, Tap::default()).await;
    let places = stage.places();
    assert!(places.len() >= WALKERS, "land in several cells: {places:?}");
    let mut walkers = Vec::new();
    for (id, place) in (1..).zip(&places).take(WALKERS) {
        let (client, sink) = stage.enter(&owner, id, *place).await;
        walkers.push((client, sink, *place));
    }
    let (_, watcher) = stage.enter(&other, 100, places[0]).await;
    until("the owner sees the watcher", &owner, |stats| stats.reals == WALKERS && stats.ghosts == 1).await;
    until("the watcher's frontend has the ghosts", &other, |stats| stats.ghosts == WALKERS).await;
    sleep(QUIET).await;

    tap.lock().unwrap().clear();
    walkers.iter().for_each(|(_, sink, _)| sink.clear());
    watcher.clear();
    let (stats_before, ticks_before, writes_before) = (stats(&owner).await, ticks(&owner), writes(&owner));
    for round in 0..ROUNDS {
        for (client, _, place) in &walkers {
            // To and fro by a tile, each time to the end, so that everybody knows where it begins.
            let beside = (place.x + UNITS_PER_TILE, place.y);
            let (from, to) = if round % 2 == 0 { ((place.x, place.y), beside) } else { (beside, (place.x, place.y)) };
            let walk = Said::Command(round as u32, Command::Walk { from, to, speed: 1024 });
            assert!(frontend(&owner).sessions.try_role(FrontInput::Said(*client, walk)));
        }
        sleep(Duration::from_millis(500)).await;
    }
    sleep(QUIET).await;

    let frames = tap.lock().unwrap().clone();
    let heads: Vec<FrameHead> = frames.iter().map(|frame| head(frame)).collect();
    assert_eq!(heads.len(), WALKERS * ROUNDS as usize, "each walk touched one cell: {heads:?}");
    let per_tick: BTreeSet<_> = heads.iter().map(|head| (head.cell, head.time_ms)).collect();
    assert_eq!(per_tick.len(), heads.len(), "one frame per cell and tick");
    let stats_after = stats(&owner).await;
    assert_eq!(stats_after.frames - stats_before.frames, heads.len() as u64, "each encoded once");
    assert_eq!(stats_after.keyframes, stats_before.keyframes, "and nothing else encoded");
    for (_, sink, _) in &walkers {
        check_same(&frames, sink, "a client of the owner");
        check_writes(sink, "a client of the owner");
    }
    check_same(&frames, &watcher, "a client of the other frontend");
    check_writes(&watcher, "a client of the other frontend");
    let noted: usize = walkers.iter().map(|(_, sink, _)| sink.0.lock().unwrap().writes.len()).sum();
    let (wrote, ticked) = (writes(&owner) - writes_before, ticks(&owner) - ticks_before);
    assert_eq!(wrote, noted as u64, "the counter counts the writes");
    assert!(wrote <= ticked * WALKERS as u64, "{wrote} writes in {ticked} ticks");
    assert!(wrote <= (WALKERS * ROUNDS as usize * 2) as u64, "one for a round's frames and answer, or two: {wrote}");
    for node in [owner, other] {
        node.leave().await;
    }
}
