//! A village in this process, and the hands of its players: real clients that act and listen.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cartographer::geometry::{ObjectId, Place, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::audit::audit;
use estate::goods::transfer::{Leg, transfer};
use estate::goods::{Goods, Place as Where};
use estate::player::{self, PlayerDocument};
use estate::transaction::OperationId;
use nodes::client::{Connection, Gateway, Incoming};
use nodes::commands::up::{LocalConfig, LocalMesh};
use nodes::frontend::Config;
use nodes::frontend::players::FrontInput;
use nodes::game::content::Content;
use nodes::game::{View, kind};
use nodes::methods::OpenSession;
use nodes::protocol::{Act, ClientMessage, Command, HelloKind, Outcome, ServerMessage, TradeState, Wares, Welcome};
use nodes::wiring::{Door, Node};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How long a state is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Village {
    mesh: LocalMesh,
    island: Terrain,
    gifts: AtomicU64,
}

/// A party as a client sees it: number, leader, members.
pub(crate) type SeenParty = (u64, u64, Vec<(u64, String)>);

/// A player's client.
pub(crate) struct Hand {
    connection: Connection,
    pub(crate) welcome: Welcome,
    number: u64,
    seq: u32,
    /// What was said to it and not asked for yet.
    heard: Vec<ServerMessage>,
}

pub(crate) fn some(item: &str, count: u64) -> Goods {
    Goods::stack(item.parse().unwrap(), count)
}

pub(crate) fn wares(stacks: &[(&str, u64)]) -> Wares {
    let stacks = stacks.iter().map(|(item, count)| ((*item).to_owned(), *count)).collect();
    Wares { stacks, uniques: Vec::new() }
}

/// The code of a refusal; nothing if it is none.
pub(crate) fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Refused { code, .. } => code,
        _ => "",
    }
}

impl Village {
    pub(crate) async fn start() -> Village {
        let islands = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
        let config = LocalConfig::small(2, Config::default(), Some(islands.clone()));
        let mesh = LocalMesh::start(config).await.unwrap();
        mesh.ready().await.unwrap();
        let island = Terrain::open(islands.join("santorini.tmx")).unwrap();
        Village { mesh, island, gifts: AtomicU64::new(1) }
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.mesh.nodes.iter().find(|node| node.mesh.me().node.as_str() == name).unwrap()
    }

    /// How far players reach, in tiles.
    pub(crate) fn reach(&self) -> i32 {
        Content::bundled().tuning.reach_tiles.into()
    }

    /// A new player who comes in at this frontend.
    pub(crate) async fn enter(&self, name: &str, frontend: &str) -> Hand {
        let gateway = Gateway::new(&format!("http://{}", self.mesh.http)).unwrap();
        let account = gateway.create_account(name, "correct horse").await.unwrap();
        self.come_in(account.player, frontend).await
    }

    async fn come_in(&self, player: u64, frontend: &str) -> Hand {
        let Door::Frontend(door) = &self.node(frontend).door else { panic!("{frontend} is no frontend") };
        let island = Some(self.island.id());
        let offer =
            door.sessions.open(&OpenSession { session: Uuid::new_v4(), player: ObjectId(player), island }).unwrap();
        let (connection, welcome) = Connection::open(&offer.url, &offer.ticket, HelloKind::Ticket).await.unwrap();
        let number = welcome.first_operation;
        Hand { connection, welcome, number, seq: 0, heard: Vec::new() }
    }

    /// The same player in another session.
    pub(crate) async fn come_again(&self, hand: Hand, frontend: &str) -> Hand {
        let player = hand.player();
        hand.connection.close().await;
        self.come_in(player, frontend).await
    }

    /// Goods out of nothing.
    pub(crate) async fn give(&self, to: &Hand, goods: Goods) {
        let op = OperationId(self.gifts.fetch_add(1, Ordering::Relaxed).into());
        let leg = Leg { from: Where::Mint, to: Where::Player(to.player()), goods };
        transfer(&self.node("gateway-1").estate, op, &[leg]).await.unwrap();
    }

    pub(crate) async fn document(&self, of: &Hand) -> PlayerDocument {
        let store = self.node("gateway-1").estate.store();
        player::find(&**store, of.player()).await.unwrap().unwrap().document
    }

    pub(crate) async fn held(&self, by: &Hand, item: &str) -> u64 {
        self.document(by).await.bag.stacks.get(&item.parse().unwrap()).copied().unwrap_or(0)
    }

    /// Brings players beside each other, and waits until each is seen by both frontends.
    pub(crate) async fn gather(&self, hands: &[&Hand]) {
        let place = self.island.arrival(0);
        for hand in hands {
            self.put(hand, place).await;
        }
        for hand in hands {
            self.arrived(hand, place, true).await;
        }
    }

    /// Brings a player to the other end of the island.
    pub(crate) async fn send_away(&self, hand: &Hand) {
        let here = self.island.arrival(0);
        let size = self.island.size();
        let tiles = (0..size.1).flat_map(|y| (0..size.0).map(move |x| Tile { x, y }));
        let far = tiles.filter(|tile| self.island.walkable(*tile)).max_by_key(|tile| tile.centre().reach(here));
        let place = far.unwrap().centre();
        self.put(hand, place).await;
        self.arrived(hand, place, false).await;
    }

    async fn put(&self, hand: &Hand, place: Place) {
        let (player, island) = (ObjectId(hand.player()), self.island.id());
        for name in ["frontend-1", "frontend-2"] {
            let Door::Frontend(door) = &self.node(name).door else { panic!("{name} is no frontend") };
            assert!(door.world.role(FrontInput::Travel { player, island, place }).await);
        }
    }

    /// Waits until the frontends have a player at a place; if `all`, both do, one of them by a ghost.
    async fn arrived(&self, hand: &Hand, place: Place, all: bool) {
        let player = ObjectId(hand.player());
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (mut reals, mut ghosts) = (0, 0);
            for name in ["frontend-1", "frontend-2"] {
                let (tell, told) = oneshot::channel();
                let look = move |world: &nodes::game::GameWorld| {
                    let real = world.get(player).map(|real| real.motion().end());
                    let ghost = world.ghost(player).map(|ghost| ghost.motion().end());
                    let _ = tell.send((real, ghost));
                };
                self.node(name).inspect(Box::new(look)).await;
                let (real, ghost) = told.await.unwrap();
                reals += usize::from(real == Some(place));
                ghosts += usize::from(ghost == Some(place));
            }
            if reals == 1 && (ghosts == 1 || !all) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "the player is not there");
            sleep(LOOK).await;
        }
    }

    /// Brings a player beside something that is gathered by hand: its tile, and what a stroke yields.
    pub(crate) async fn beside_something(&self, hand: &mut Hand) -> (Tile, String, u64) {
        let (content, size) = (Content::bundled(), self.island.size());
        let end = Tile { x: size.0, y: size.1 };
        let naturals = self.island.naturals_within(Tile { x: 0, y: 0 }, end);
        let found = naturals.filter_map(|(tile, number)| {
            let natural = content.naturals.get(self.island.natural_name(number)?)?;
            let beside = Tile { x: tile.x + 1, y: tile.y };
            let fit = natural.tool.is_none() && self.island.walkable(beside);
            fit.then(|| (tile, beside.centre(), natural.yields.clone(), natural.count))
        });
        let (tile, place, yields, count) = found.min_by_key(|found| found.0).unwrap();
        self.put(hand, place).await;
        self.arrived(hand, place, false).await;
        (tile, yields, count)
    }

    /// Has a player build something on the first free tile around, and waits until it can be seen.
    pub(crate) async fn build(&self, hand: &mut Hand, facility: &str) -> u64 {
        let place = self.island.arrival(0);
        self.put(hand, place).await;
        self.arrived(hand, place, false).await;
        let here = place.tile().unwrap();
        for (dx, dy) in (0..3).flat_map(|y| (0..3).map(move |x| (x, y))) {
            let built = Act::Build { facility: facility.to_owned(), x: here.x + dx, y: here.y + dy, turned: 0 };
            match hand.act(built).await {
                Outcome::Made { number } => return self.shown(number).await,
                refused => println!("not there: {refused:?}"),
            }
        }
        panic!("nothing can be built here")
    }

    async fn shown(&self, object: u64) -> u64 {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (tell, told) = oneshot::channel();
            let look = move |world: &nodes::game::GameWorld| {
                let _ = tell.send(world.ghost(ObjectId(object)).is_some());
            };
            self.node("frontend-2").inspect(Box::new(look)).await;
            if told.await.unwrap() {
                return object;
            }
            assert!(tokio::time::Instant::now() < end, "it is not shown");
            sleep(LOOK).await;
        }
    }

    /// Brings a player beside an animal and has it attacked: the animal, and the battle.
    pub(crate) async fn hunt(&self, hand: &mut Hand, species: &'static str) -> (u64, u64) {
        let habitats = self.island.habitats();
        let den = habitats.iter().find(|habitat| habitat.species == species).unwrap();
        let (low, high) = den.bounds;
        self.put(hand, Place::new((low.x + high.x) / 2, (low.y + high.y) / 2)).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            assert!(tokio::time::Instant::now() < end, "no animal can be attacked");
            let (tell, told) = oneshot::channel();
            let look = move |world: &nodes::game::GameWorld| {
                let well = |view: &View| view.kind == kind::ANIMAL && view.name == species && view.health > 0;
                let animals = world.ghosts().filter(|(_, ghost)| well(ghost.view()));
                let _ = tell.send(animals.map(|(id, ghost)| (id.0, ghost.motion().end())).min());
            };
            self.node("frontend-1").inspect(Box::new(look)).await;
            let Some((animal, place)) = told.await.unwrap() else {
                sleep(LOOK).await;
                continue;
            };
            self.put(hand, place).await;
            match hand.act(Act::Attack { target: animal }).await {
                Outcome::Made { number } => return (animal, number),
                refused => println!("not yet: {refused:?}"),
            }
        }
    }

    pub(crate) async fn clean(&self) {
        let report = audit(&self.node("gateway-1").estate, false, &mut |_| {}).await.unwrap();
        assert!(report.clean(), "{:#?}", report.findings);
    }

    pub(crate) async fn leave(self) {
        self.mesh.leave().await;
    }
}

impl Hand {
    pub(crate) fn player(&self) -> u64 {
        self.welcome.player
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(crate) async fn act(&mut self, act: Act) -> Outcome {
        let number = self.next_number();
        self.act_as(number, act).await
    }

    pub(crate) async fn act_as(&mut self, number: u64, act: Act) -> Outcome {
        self.command(Command::Act { number, act }).await
    }

    pub(crate) async fn command(&mut self, command: Command) -> Outcome {
        self.seq += 1;
        let seq = self.seq;
        self.connection.send(&ClientMessage::Command { seq, command }).await.unwrap();
        // The gate takes so many messages a second.
        sleep(LOOK).await;
        self.until(|message| match message {
            ServerMessage::Answer { seq: answered, outcome } if *answered == seq => Some(outcome.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until something is said. What is passed over is kept.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&ServerMessage) -> Option<T>) -> T {
        if let Some((at, found)) = self.heard.iter().enumerate().find_map(|(at, m)| Some((at, wanted(m)?))) {
            self.heard.remove(at);
            return found;
        }
        let told = async {
            loop {
                let Incoming::Message(message) = self.connection.next().await.unwrap() else { continue };
                if let Some(found) = wanted(&message) {
                    return found;
                }
                self.heard.push(message);
            }
        };
        timeout(PATIENCE, told).await.expect("it is never said")
    }

    pub(crate) fn has_heard(&self, said: &str) -> bool {
        self.heard.iter().any(|message| matches!(message, ServerMessage::Chat { text, .. } if text == said))
    }

    pub(crate) async fn store(&mut self, wanted: u64) -> Wares {
        self.until(|message| match message {
            ServerMessage::Store { object, wares } => (*object == wanted).then(|| wares.clone()),
            _ => None,
        })
        .await
    }

    /// Whether a note has come; it is kept.
    pub(crate) fn told(&self, wanted: &str) -> bool {
        self.heard.iter().any(|message| matches!(message, ServerMessage::Note { code, .. } if code == wanted))
    }

    pub(crate) async fn bag(&mut self, wanted: impl Fn(&Wares) -> bool) -> Wares {
        self.until(|message| match message {
            ServerMessage::Bag { wares, .. } => wanted(wares).then(|| wares.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn health(&mut self, wanted: impl Fn(u8) -> bool) -> u8 {
        self.until(|message| match message {
            ServerMessage::Bag { health, .. } => wanted(*health).then_some(*health),
            _ => None,
        })
        .await
    }

    pub(crate) async fn note(&mut self, wanted: &str) -> (String, u64) {
        self.until(|message| match message {
            ServerMessage::Note { code, text, number } if code == wanted => Some((text.clone(), *number)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn party(&mut self, wanted: impl Fn(&SeenParty) -> bool) -> SeenParty {
        self.until(|message| match message {
            ServerMessage::Party { party, leader, members } => {
                let seen = (*party, *leader, members.clone());
                wanted(&seen).then_some(seen)
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn trade(&mut self, wanted: impl Fn(&TradeState) -> bool) -> TradeState {
        self.until(|message| match message {
            ServerMessage::Trade(trade) => wanted(trade).then(|| trade.clone()),
            _ => None,
        })
        .await
    }
}
