//! What the loop promises about the order of events and ticks, on simulated time and with a peer that is a world by hand.

use cartographer::geometry::{Epoch, ObjectId, Place};
use cartographer::ground::Plain;
use cartographer::world::{Ask, WorldConfig};
use mesh::directory::memory::MemoryDirectory;
use mesh::transport::memory::MemoryNetwork;
use mesh::{NodeRecord, Role};

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
    let directory = MemoryDirectory::start(tasks, 1);
    mesh::start(config, transport, Arc::new(directory.client()), tasks).0
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
