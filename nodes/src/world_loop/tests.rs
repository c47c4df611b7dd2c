//! What the loop promises about the order of events and ticks, on simulated time and with a peer that is a world by hand.

use cartographer::geometry::{Epoch, ObjectId, Place};
use cartographer::ground::Plain;
use cartographer::world::{Ask, WorldConfig};
use mesh::directory::memory::{Cut, MemoryClient, MemoryDirectory};
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeRecord, Role};

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration as Time;

use super::*;
use crate::game::Body;
use crate::game::player::Player;

const PEER: u64 = 2;
const WALKER: ObjectId = ObjectId(2);
const ISLAND: IslandId = IslandId(7);

/// What the rules saw in one tick: the cells of the frames, and where the peer's object was.
type Ticked = (Vec<Cell>, Option<Cell>);

/// Rules that tell what they are told.
struct Telling(mpsc::UnboundedSender<Ticked>);

impl Rules for Telling {
    type Input = ();

    fn input(&mut self, _: &mut GameWorld, _: u64, (): ()) {}

    fn ticked(&mut self, world: &mut GameWorld, _: u64, _: &TickOutput, frames: Vec<CellFrame>) {
        let seen_in = world.ghost(WALKER).map(|ghost| ghost.cell());
        // An error means that the test is over.
        let _ = self.0.send((frames.iter().map(|frame| frame.cell).collect(), seen_in));
    }
}

fn world(publisher: u64) -> GameWorld {
    let mut world = GameWorld::new(WorldConfig::new(publisher));
    world.add_island(ISLAND, Arc::new(Plain::new(512, 512)));
    world
}

fn spawn(world: &mut GameWorld, id: ObjectId, place: Place, sees: bool) {
    let body = Body::Player(Player { name: format!("player {}", id.0), hue: 0, ..Player::default() });
    world.spawn(0, id, Epoch(1), ISLAND, place, body, sees).expect("a free place");
}

/// The middle of a tile.
fn tile(x: i32, y: i32) -> Place {
    Place::new(x * 256 + 128, y * 256 + 128)
}

/// A world that sees its peer's object on one side of a border between two blocks, and the peer's two frames, of the two
/// cells, of its crossing.
fn crossing() -> (GameWorld, Vec<CellFrame>) {
    let (mut watcher, mut peer) = (world(1), world(PEER));
    spawn(&mut watcher, ObjectId(1), tile(126, 40), true);
    spawn(&mut peer, WALKER, tile(127, 40), false);
    peer.tick(0);
    watcher.peer_up(0, PEER);
    for Ask { publisher, cells } in watcher.tick(0).asks {
        let answer = peer.answer_ask(&cells);
        watcher.apply_answer(0, publisher, &cells, answer);
    }
    peer.teleport(0, WALKER, ISLAND, tile(129, 40)).expect("a place on the island");
    let frames = peer.tick(0).frames;
    (watcher, frames)
}

/// A node alone in its district. It has no part in the events, which the test makes itself.
fn alone(tasks: &Tasks) -> Mesh {
    in_directory(MemoryDirectory::start(tasks, 1).client(), tasks)
}

/// The same, with its own way to the directory.
fn in_directory(directory: MemoryClient, tasks: &Tasks) -> Mesh {
    let transport = MemoryNetwork::new(1).transport("zoo-1", tasks);
    let record = NodeRecord {
        node: NodeId::new("zoo-1").expect("a name"),
        role: Role::Zoo,
        incarnation: Incarnation(1),
        publish: transport.endpoints.publish.clone(),
        request: transport.endpoints.request.clone(),
        public: None,
        version: String::new(),
        protocol: 1,
    };
    let (cluster, district) = ("test".to_owned(), "test".to_owned());
    let config = mesh::Config { cluster, district, key: b"key".to_vec(), record, seed: 1, lease_ttl_s: 5 };
    mesh::start(config, transport, Arc::new(directory), tasks).0
}

#[tokio::test(start_paused = true)]
async fn all_that_a_peer_has_said_is_applied_before_the_tick_that_is_due() {
    let tasks = Tasks::simulated();
    let (watcher, frames) = crossing();
    let cells: Vec<Cell> = frames.iter().map(|frame| frame.cell).collect();
    let (left, entered) = (Cell::new(ISLAND, 3, 1), Cell::new(ISLAND, 4, 1));
    assert_eq!(
        BTreeSet::from_iter(cells.clone()),
        BTreeSet::from([left, entered]),
        "it leaves by one and enters by another"
    );
    assert_eq!(watcher.ghost(WALKER).map(|ghost| ghost.cell()), Some(left));

    // Both messages wait when the first tick, which is due at once, comes.
    let (events, inbox) = mpsc::channel(16);
    for frame in frames {
        let topic = mesh::transport::Topic::new(&frame.cell.block().topic());
        let said = Event::Frames { from: Incarnation(PEER), topic, parts: vec![frame.bytes] };
        events.try_send(said).expect("there is room");
    }
    let (telling, mut told) = mpsc::unbounded_channel();
    let metrics = Metrics::new("zoo-1", "zoo");
    let _world = start(watcher, alone(&tasks), inbox, metrics, Draining::default(), &tasks, |_| Telling(telling))
        .expect("started");
    let (forwarded, seen_in) = told.recv().await.expect("it ticks");
    assert_eq!((forwarded, seen_in), (cells, Some(entered)));
    tasks.stop();
}

/// What rules were told of their lease, and ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Lease(bool),
    Tick,
}

/// Rules whose object never rests, so that every tick has a frame of their own.
struct Owning {
    told: mpsc::UnboundedSender<Told>,
    confirmed: Arc<AtomicBool>,
    turns: u16,
    /// Kept, or the loop would take the hub for gone.
    _hub: mpsc::Sender<Event>,
}

impl Rules for Owning {
    type Input = ();

    fn input(&mut self, _: &mut GameWorld, _: u64, (): ()) {}

    fn ticked(&mut self, world: &mut GameWorld, now: u64, _: &TickOutput, _: Vec<CellFrame>) {
        self.turns += 1;
        let turned = Player { hue: self.turns % 360, ..Player::default() };
        world.change(now, WALKER, |body| *body = Body::Player(turned));
        // An error means that the test is over.
        let _ = self.told.send(Told::Tick);
    }

    fn lease(&mut self, _: &mut GameWorld, _: u64, held: bool) {
        let _ = self.told.send(Told::Lease(held));
    }

    fn is_silent(&self) -> bool {
        !self.confirmed.load(Ordering::SeqCst)
    }
}

/// A node with a restless object, its frames counted, and what its rules are told.
async fn restless(
    tasks: &Tasks,
    directory: MemoryClient,
) -> (Mesh, Arc<Metrics>, Arc<AtomicBool>, mpsc::UnboundedReceiver<Told>, WorldHandle<()>) {
    let mesh = in_directory(directory, tasks);
    let mut world = world(1);
    spawn(&mut world, WALKER, tile(40, 40), false);
    let (telling, mut told) = mpsc::unbounded_channel();
    let (confirmed, metrics) = (Arc::new(AtomicBool::new(true)), Metrics::new("zoo-1", "zoo"));
    // No event ever comes: what the loop knows of its lease it has asked.
    let (hub, events) = mpsc::channel(1);
    let rules = Owning { told: telling, confirmed: confirmed.clone(), turns: 0, _hub: hub };
    let handle = start(world, mesh.clone(), events, metrics.clone(), Draining::default(), tasks, |_| rules);
    let handle = handle.expect("started");
    until(&mut told, Told::Lease(true)).await;
    assert!(mesh.lease().holds());
    until_published(&metrics, 0.0, &mut told).await;
    (mesh, metrics, confirmed, told, handle)
}

/// Waits for a word; what came before it.
async fn until(told: &mut mpsc::UnboundedReceiver<Told>, wanted: Told) -> Vec<Told> {
    let mut before = Vec::new();
    loop {
        match told.recv().await.expect("the loop runs") {
            word if word == wanted => return before,
            word => before.push(word),
        }
    }
}

fn published(metrics: &Metrics) -> f64 {
    metrics.frames_published.get() as f64
}

/// Waits until more frames than this are published, for at most some ticks.
async fn until_published(metrics: &Metrics, more_than: f64, told: &mut mpsc::UnboundedReceiver<Told>) {
    for _ in 0..20 {
        if published(metrics) > more_than {
            return;
        }
        until(told, Told::Tick).await;
    }
    panic!("nothing is published");
}

#[tokio::test(start_paused = true)]
async fn whoever_wakes_from_a_freeze_beyond_its_lease_is_told_first_and_is_silent_until_it_knows_what_it_owns() {
    let (ground, tasks) = (Tasks::simulated(), Tasks::simulated());
    let directory = MemoryDirectory::start(&ground, 1);
    let (mesh, metrics, confirmed, mut told, _world) = restless(&tasks, directory.client()).await;
    tasks.freeze(true);
    tokio::time::sleep(Time::from_secs(10)).await;
    assert!(directory.peek("/wildmesh/test/test/nodes").is_empty(), "it is gone for all");
    while told.try_recv().is_ok() {}
    let before = published(&metrics);
    confirmed.store(false, Ordering::SeqCst);
    tasks.freeze(false);
    assert_eq!(until(&mut told, Told::Tick).await, [Told::Lease(false)], "before its first tick");
    until(&mut told, Told::Lease(true)).await;
    for _ in 0..20 {
        until(&mut told, Told::Tick).await;
    }
    assert!(mesh.lease().holds());
    assert_eq!(published(&metrics), before, "others may own it");
    confirmed.store(true, Ordering::SeqCst);
    until_published(&metrics, before, &mut told).await;
    tasks.stop();
    ground.stop();
}

#[tokio::test(start_paused = true)]
async fn who_loses_its_lease_in_time_says_its_last_word_and_then_nothing() {
    let (ground, tasks) = (Tasks::simulated(), Tasks::simulated());
    let directory = MemoryDirectory::start(&ground, 1);
    let client = directory.client();
    let (mesh, metrics, _, mut told, _world) = restless(&tasks, client.clone()).await;
    client.cut(Cut::Silent);
    until(&mut told, Told::Lease(false)).await;
    let before = published(&metrics);
    until_published(&metrics, before, &mut told).await;
    assert!(!mesh.lease().holds() && mesh.lease().speaks(), "within the lease, though it decides nothing more");
    while !directory.peek("/wildmesh/test/test/nodes").is_empty() {
        until(&mut told, Told::Tick).await;
    }
    let last = published(&metrics);
    for _ in 0..40 {
        until(&mut told, Told::Tick).await;
    }
    assert_eq!(published(&metrics), last, "others may have taken over");
    client.heal();
    until(&mut told, Told::Lease(true)).await;
    until_published(&metrics, last, &mut told).await;
    tasks.stop();
    ground.stop();
}
