//! Tests of the zoo.

mod takeover;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cartographer::geometry::{Cell, Epoch, Place};
use cartographer::terrain::{Stability, Terrain};
use estate::post::{self, Claim, Claimant};
use estate::store::memory::{Faults, MemoryStore};
use mesh::directory::memory::{MemoryClient, MemoryDirectory};
use mesh::transport::memory::MemoryNetwork;
use mesh::{Incarnation, NodeId, Role};

use super::*;
use crate::game::animal::AnimalId;
use crate::game::minds::Minds;
use crate::game::minds::lore::Lore;
use crate::game::{Body, GameWorld};
use crate::methods::animals::{ANIMAL_STRUCK, Struck};
use crate::methods::living::{
    BATTLE_ACT, BATTLE_OPEN, BattleAct, BattleOpen, FIGHTER_FREED, FIGHTER_TAKE, FIGHTER_TOLD, Fighter, FighterFreed,
    FighterTake, FighterTold, Freed, Watch,
};
use crate::methods::{pack, unpack};
use crate::metrics::Exposition;
use crate::wiring::{self, Door, Membership, Node, Setup};
use dens::{Dens, Last, Moment, epoch_under, post_of};

/// The frontend that tells what players see.
const FRONTEND: Incarnation = Incarnation(77);

/// An island with habitats, and content that knows their species.
fn land() -> (Arc<Terrain>, Arc<Content>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
    let terrains = cartographer::terrain::open_folder(folder).expect("the islands that come with Wildmesh");
    let lasting = terrains.into_iter().filter(|it| it.stability() == Stability::Stable && !it.habitats().is_empty());
    let terrain = lasting.min_by_key(Terrain::bytes).expect("there is one");
    let mut content = (*Content::bundled()).clone();
    let goat = content.species["goat"].clone();
    for habitat in terrain.habitats() {
        content.species.entry(habitat.species.clone()).or_insert_with(|| goat.clone());
    }
    (Arc::new(terrain), Arc::new(content))
}

struct Reserve {
    ground: Tasks,
    network: MemoryNetwork,
    directory: MemoryDirectory,
    store: MemoryStore,
    terrain: Arc<Terrain>,
    content: Arc<Content>,
    zoos: Vec<Node>,
    /// Each node's ways to the store and to the directory.
    ways: RefCell<BTreeMap<String, (Faults, MemoryClient)>>,
}

impl Reserve {
    async fn new(zoos: u8) -> Reserve {
        let ground = Tasks::simulated();
        let directory = MemoryDirectory::start(&ground, 1);
        let (terrain, content) = land();
        let (network, store) = (MemoryNetwork::new(1), MemoryStore::new());
        let (zoos_yet, ways) = (Vec::new(), RefCell::default());
        let mut reserve = Reserve { ground, network, directory, store, terrain, content, zoos: zoos_yet, ways };
        for i in 0..zoos {
            let zoo = reserve.node(&format!("zoo-{i}"), Role::Zoo, i).await;
            reserve.zoos.push(zoo);
        }
        for zoo in &reserve.zoos {
            let mut peers = zoo.mesh.watch_peers();
            let others = usize::from(zoos) - 1;
            peers.wait_for(|peers| peers.up(Role::Zoo).count() == others).await.expect("the mesh runs");
        }
        reserve
    }

    async fn node(&self, name: &str, role: Role, i: u8) -> Node {
        let tasks = Tasks::simulated();
        let (store, directory) = (self.store.client(), self.directory.client());
        self.ways.borrow_mut().insert(name.to_owned(), (store.faults(), directory.clone()));
        let membership = Membership {
            cluster: "test".to_owned(),
            district: "main".to_owned(),
            key: b"key".to_vec(),
            lease_ttl_s: 5,
        };
        wiring::start(Setup {
            membership,
            node: NodeId::new(name).expect("a name"),
            role,
            directory: Arc::new(directory),
            transport: self.network.transport(name, &tasks),
            store: Arc::new(store),
            islands: Archipelago::new([self.terrain.clone()]),
            steward: None,
            tasks,
            door: None,
            public: None,
            frontend: crate::frontend::Config::default(),
            gateway: Default::default(),
            exposition: Exposition::new(),
            secret: [i + 1; 32],
            content: self.content.clone(),
            calendar: Calendar::beginning(1_800_000_000),
        })
        .await
        .expect("it starts")
    }

    fn role(&self, i: usize) -> &Zoo {
        match &self.zoos[i].door {
            Door::Zoo(zoo) => zoo,
            _ => panic!("no zoo"),
        }
    }

    /// Takes the store from a zoo, or gives it back.
    fn store_is_away(&self, i: usize, away: bool) {
        self.ways.borrow()[&format!("zoo-{i}")].0.unreachable(away);
    }

    /// A zoo's way to the directory.
    fn way_to_directory(&self, i: usize) -> MemoryClient {
        self.ways.borrow()[&format!("zoo-{i}")].1.clone()
    }

    /// The first habitat's post, as it is kept.
    fn post(&self) -> Value {
        let key = post::key("habitat", &format!("{}.0", self.terrain.id().0));
        let kept = self.store.snapshot().remove(&key);
        kept.map_or(Value::Null, |kept| serde_json::from_slice(&kept.value).expect("a document"))
    }

    /// Waits for a state.
    async fn until_so(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..2_000 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never came to {what}: {}", self.post());
    }

    /// Tells all zoos that players see the first habitat, or nothing.
    fn show(&self, seq: u64, seen: bool) {
        let bounds = self.terrain.habitats()[0].bounds;
        let middle = Place::new(bounds.0.x.midpoint(bounds.1.x), bounds.0.y.midpoint(bounds.1.y));
        let cells: Vec<Cell> = middle.cell(self.terrain.id()).into_iter().filter(|_| seen).collect();
        for i in 0..self.zoos.len() {
            let watch = Watch { seq, whole: true, added: cells.clone(), removed: Vec::new() };
            self.role(i).audience.told(FRONTEND, watch).expect("taken");
        }
    }

    async fn look<T: Send + 'static>(&self, i: usize, look: impl FnOnce(&GameWorld) -> T + Send + 'static) -> T {
        let (reply, told) = oneshot::channel();
        let inspected = self.zoos[i].inspect(Box::new(move |world| drop(reply.send(look(world))))).await;
        assert!(inspected, "the world runs");
        told.await.expect("it was looked at")
    }

    /// The first habitat's animals that are real on a zoo, with their epochs and places.
    async fn animals(&self, i: usize) -> Vec<(ObjectId, Epoch, Place)> {
        let now = self.zoos[i].mesh.now_ms();
        let animals = move |world: &GameWorld| {
            let first = world.reals().filter(|real| AnimalId::of(real.id()).is_some_and(|id| id.habitat == 0));
            let mut all: Vec<_> = first.map(|real| (real.id(), real.epoch(), real.place(now))).collect();
            all.sort_unstable();
            all
        };
        self.look(i, animals).await
    }

    /// Waits until one zoo has animals for which this holds, and says which.
    async fn until(&self, holds: impl Fn(&[(ObjectId, Epoch, Place)]) -> bool) -> usize {
        for _ in 0..10_000 {
            for i in 0..self.zoos.len() {
                if !self.zoos[i].tasks.stopped() && holds(&self.animals(i).await) {
                    return i;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it has not come so far");
    }

    async fn stop(self) {
        self.zoos.iter().for_each(|zoo| zoo.tasks.stop());
        self.ground.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn a_habitat_wakes_on_one_zoo_when_it_is_seen_and_sleeps_where_its_animals_are_when_nobody_looks() {
    let reserve = Reserve::new(2).await;
    reserve.show(1, true);
    let first = reserve.until(|animals| !animals.is_empty()).await;
    assert_eq!(reserve.animals(1 - first).await, [], "one zoo has it");
    let count = reserve.terrain.habitats()[0].animals;
    let awake = reserve.animals(first).await;
    assert_eq!(awake.len(), usize::from(count));
    let before = awake.clone();
    reserve.until(|animals| animals.len() == before.len() && animals != before).await;
    reserve.show(2, false);
    reserve.until(|animals| animals.is_empty()).await;
    let mut last = None;
    for _ in 0..400 {
        let posts = reserve.store.snapshot();
        let released = posts.iter().filter(|(key, value)| {
            key.starts_with("post/habitat/") && value.value.windows(12).any(|w| w == b"\"owner\":null")
        });
        last = released.map(|(key, _)| key.clone()).next();
        if last.is_some() && reserve.animals(first).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(last.is_some(), "a post was given up");
    let quiet = reserve.look(first, |world| (world.stats().seen_cells, world.trace_hash())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let later = reserve.look(first, |world| (world.stats().seen_cells, world.trace_hash())).await;
    assert_eq!((quiet.0, quiet), (0, later), "asleep nothing happens and nothing is watched");
    // It wakes again under the next epoch.
    reserve.show(3, true);
    let post = post_of(awake[0].1);
    reserve.until(|animals| animals.first().is_some_and(|it| post_of(it.1) == post + 1)).await;
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_a_zoo_dies_another_goes_on_from_where_its_animals_were_last_seen() {
    let reserve = Reserve::new(2).await;
    reserve.show(1, true);
    let first = reserve.until(|animals| !animals.is_empty()).await;
    let second = 1 - first;
    // Long enough to walk, and not so long that it is saved.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let ghosts = reserve.look(second, |world| world.stats().ghosts).await;
    assert!(ghosts > 0, "the zoo that is next in line sees the animals");
    let before = reserve.animals(first).await;
    reserve.zoos[first].tasks.stop();
    let heir = reserve.until(|animals| !animals.is_empty()).await;
    assert_eq!(heir, second);
    let after = reserve.animals(second).await;
    assert_eq!(after.len(), before.len());
    for ((id, epoch, place), (before_id, before_epoch, before_place)) in after.into_iter().zip(before) {
        assert_eq!((id, post_of(epoch)), (before_id, post_of(before_epoch) + 1));
        // A walk that was under way goes on until it ends, and minds have thought a moment.
        let tiles = place.distance_squared(before_place).isqrt() / 256;
        assert!(tiles <= 24, "{id:?} jumped {tiles} tiles");
    }
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_zoo_that_is_fenced_drops_its_animals_and_comes_back_under_a_later_epoch() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let (_, epoch, _) = reserve.animals(0).await[0];
    let usurper = Claimant { node: "zoo-9".to_owned(), incarnation: 9, claim: 9 };
    let key = post::key("habitat", &format!("{}.0", reserve.terrain.id().0));
    let claim =
        post::claim(&reserve.store.client(), &key, &usurper, &|_: &post::Owner| true).await.expect("the store answers");
    let Claim::Claimed(held) = claim else { panic!("not claimed: {claim:?}") };
    assert_eq!(held.epoch(), post_of(epoch) + 1);
    let of_first = |animals: &[(ObjectId, Epoch, Place)]| animals.first().map(|it| post_of(it.1));
    // Its next save tells it. Nobody has ever heard of the usurper, so then it may claim again.
    reserve.until(|animals| of_first(animals).is_none()).await;
    reserve.until(|animals| of_first(animals) == Some(post_of(epoch) + 2)).await;
    reserve.stop().await;
}

/// The battle in which an animal is, if it is there.
fn battle_of(world: &GameWorld, object: ObjectId) -> Option<u64> {
    match world.get(object).map(|real| real.body()) {
        Some(Body::Animal(animal)) => Some(animal.battle),
        _ => None,
    }
}

async fn ask<T: serde::Serialize>(zoo: &Zoo, method: &str, body: &T) -> Result<bytes::Bytes, CallRefusal> {
    let (call, mut answer) = IncomingCall::pretend(NodeId::new("colosseum-1").expect("a name"), method, pack(body));
    zoo.answer(call).await;
    answer.recv().await.expect("an answer").result
}

#[tokio::test(start_paused = true)]
async fn a_battle_takes_an_animal_and_gives_it_back_and_no_other_may() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let zoo = reserve.role(0);
    let object = reserve.animals(0).await[0].0;
    let take = |battle, object| FighterTake { battle, object };
    let fighter: Fighter =
        unpack(&ask(zoo, FIGHTER_TAKE.name, &take(5, object)).await.expect("taken")).expect("a fighter");
    assert_eq!((fighter.object, fighter.side, fighter.health), (object, 1, 100));
    let again = ask(zoo, FIGHTER_TAKE.name, &take(5, object)).await;
    assert!(again.is_ok(), "asked again by the same battle");
    let other = ask(zoo, FIGHTER_TAKE.name, &take(6, object)).await.expect_err("another battle");
    assert_eq!((other.code.as_str(), other.text.as_str()), ("in_battle", "5"));
    let missing = ask(zoo, FIGHTER_TAKE.name, &take(6, ObjectId(1))).await.expect_err("no such animal");
    assert_eq!(missing.code, "missing");
    let malformed = ask(zoo, FIGHTER_TAKE.name, &"what").await.expect_err("no body");
    assert_eq!(malformed.code, CallRefusal::MALFORMED);

    let body = move |world: &GameWorld| match world.get(object).map(|real| real.body()) {
        Some(Body::Animal(animal)) => Some((animal.battle, animal.health)),
        _ => None,
    };
    ask(zoo, FIGHTER_TOLD.name, &FighterTold { battle: 5, object, health: 40 }).await.expect("told");
    ask(zoo, FIGHTER_TOLD.name, &FighterTold { battle: 6, object, health: 1 }).await.expect("ignored");
    assert_eq!(reserve.look(0, body).await, Some((5, 40)));
    let place = reserve.animals(0).await[0].2;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reserve.animals(0).await[0].2, place, "it stands");
    ask(zoo, FIGHTER_FREED.name, &FighterFreed { battle: 6, object, health: 0, how: Freed::Defeated })
        .await
        .expect("ignored");
    assert_eq!(reserve.look(0, body).await, Some((5, 40)));
    ask(zoo, FIGHTER_FREED.name, &FighterFreed { battle: 5, object, health: 30, how: Freed::Left })
        .await
        .expect("freed");
    assert_eq!(reserve.look(0, body).await, Some((0, 30)));

    ask(zoo, FIGHTER_TAKE.name, &take(7, object)).await.expect("taken");
    ask(zoo, FIGHTER_FREED.name, &FighterFreed { battle: 7, object, health: 0, how: Freed::Defeated })
        .await
        .expect("dead");
    assert_eq!(reserve.look(0, body).await, None);
    // Another takes its place when its time has come.
    reserve.until(|animals| animals.iter().any(|it| it.0 == object)).await;
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_believes_a_free_animal_to_be_in_it_is_told_that_it_is_not() {
    let mut reserve = Reserve::new(0).await;
    for species in Arc::make_mut(&mut reserve.content).species.values_mut() {
        // Neither falls nor flees while it is struck here.
        (species.toughness, species.fear, species.harm) = (1_000, 0, 0);
    }
    let zoo = reserve.node("zoo-0", Role::Zoo, 0).await;
    reserve.zoos.push(zoo);
    let arena = reserve.node("colosseum-1", Role::Colosseum, 9).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let Door::Colosseum(colosseum) = &arena.door else { panic!("no colosseum") };
    let mut peers = arena.mesh.watch_peers();
    peers.wait_for(|peers| peers.up(Role::Zoo).count() == 1).await.expect("the mesh runs");
    let (object, _, place) = reserve.animals(0).await[0];
    // Somebody who lives, and has no more to say than that.
    let owner = reserve.node("garden-1", Role::Garden, 8).await;
    peers.wait_for(|peers| peers.up(Role::Garden).count() == 1).await.expect("the mesh runs");
    let (frontend, life, opener) = (owner.mesh.me().node.clone(), owner.mesh.me().incarnation, ObjectId(7));
    let fighter = Fighter {
        object: opener,
        node: frontend.clone(),
        side: 0,
        name: "Ann".to_owned(),
        health: 100,
        harm: 50,
        toughness: 100,
        fear: 0,
    };
    let (island, target_node) = (reserve.terrain.id(), reserve.zoos[0].mesh.me().node.clone());
    let open = BattleOpen { battle: 5, island, place, opener: fighter, target: object, target_node };
    let ask = async |method: &str, body| {
        let (call, mut answer) = IncomingCall::pretend_in((frontend.clone(), life), method, body);
        colosseum.answer(call).await;
        answer.recv().await.expect("an answer").result
    };
    ask(BATTLE_OPEN.name, pack(&open)).await.expect("it begins");
    assert_eq!(reserve.look(0, move |world| battle_of(world, object)).await, Some(5));
    // As if the battle had been given up here, and had gone on elsewhere.
    let freed = FighterFreed { battle: 5, object, health: 100, how: Freed::Left };
    self::ask(reserve.role(0), FIGHTER_FREED.name, &freed).await.expect("freed");
    let struck = tokio::time::Instant::now();
    let mut goes_on = true;
    while goes_on {
        // A blow that hurts tells the zoo how its animal is.
        let act = BattleAct { battle: 5, actor: opener, blow: 0, target: object, cause: 1 };
        let _ = ask(BATTLE_ACT.name, pack(&act)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (reply, told) = oneshot::channel();
        let room = move |world: &GameWorld| {
            // An error means that nobody waits any more.
            let _ = reply.send(world.get(ObjectId(5)).is_some());
        };
        assert!(arena.inspect(Box::new(room)).await, "the world runs");
        goes_on = told.await.expect("it was looked at");
        let grace = Duration::from_millis(crate::game::combat::GRACE_MS);
        assert!(struck.elapsed() < grace, "the room keeps a beast that is free");
    }
    assert_eq!(reserve.look(0, move |world| battle_of(world, object)).await, Some(0));
    owner.tasks.stop();
    arena.tasks.stop();
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_animal_whose_battle_nobody_goes_on_with_is_free_at_last() {
    let reserve = Reserve::new(1).await;
    let arena = reserve.node("colosseum-1", Role::Colosseum, 9).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let object = reserve.animals(0).await[0].0;
    // A node that lives looks after the battle's document, and does not run the battle.
    let me = reserve.zoos[0].mesh.me();
    let owner = Claimant { node: me.node.to_string(), incarnation: me.incarnation.0, claim: 1_000_000 };
    post::claim(&reserve.store.client(), "post/battle/5", &owner, &|_: &post::Owner| false).await.expect("claimed");
    ask(reserve.role(0), FIGHTER_TAKE.name, &FighterTake { battle: 5, object }).await.expect("taken");
    let tie = move |world: &GameWorld| battle_of(world, object);
    assert_eq!(reserve.look(0, tie).await, Some(5));
    for _ in 0..1_000 {
        if reserve.look(0, tie).await == Some(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(reserve.look(0, tie).await, Some(0), "it stands still for ever");
    arena.tasks.stop();
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_blows_of_another_zoos_hunter_wound_and_kill_and_one_in_a_battle_is_safe_from_them() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let zoo = reserve.role(0);
    let object = reserve.animals(0).await[0].0;
    let health = move |world: &GameWorld| world.get(object).map(|real| real.view().health);
    let struck = Struck { hunter: ObjectId(5), prey: object, harm: 3 };
    let strike =
        async || ask(zoo, ANIMAL_STRUCK.name, &struck).await.map(|body| unpack::<bool>(&body).expect("a bool"));
    assert_eq!(strike().await, Ok(false));
    let hurt = reserve.look(0, health).await.expect("it lives");
    assert!((1..100).contains(&hurt), "{hurt} percent");
    ask(zoo, FIGHTER_TAKE.name, &FighterTake { battle: 5, object }).await.expect("taken");
    assert_eq!(strike().await.expect_err("in a battle").code, "in_battle");
    let freed = FighterFreed { battle: 5, object, health: hurt, how: Freed::Left };
    ask(zoo, FIGHTER_FREED.name, &freed).await.expect("freed");
    let mut blows = 0;
    while strike().await == Ok(false) {
        blows += 1;
        assert!(blows < 100, "it does not die");
    }
    assert_eq!(reserve.look(0, health).await, None);
    assert_eq!(strike().await.expect_err("it is dead").code, "missing");
    reserve.stop().await;
}

#[test]
fn what_is_kept_of_a_habitat_brings_it_back_and_what_cannot_be_read_begins_anew() {
    let (terrain, content) = land();
    let id = HabitatId { island: terrain.id(), index: 0 };
    let lore = Arc::new(Lore::new(&content));
    let animal = |index| AnimalId { island: id.island, habitat: 0, index }.object();
    let fresh = || {
        let mut world = GameWorld::new(cartographer::world::WorldConfig::new(1));
        world.add_island(id.island, terrain.clone());
        (world, Minds::new(lore.clone(), 1, 1), Dens::default())
    };
    let wake = |state: &Map<String, Value>, now_s, last: Option<Last>| {
        let (mut world, mut minds, mut dens) = fresh();
        let at = Moment { now: 1_000, now_s };
        let known = |object| last.filter(|_| object == animal(1));
        assert!(dens.wake(&mut world, &mut minds, at, id, &terrain, 3, state, known));
        (world, minds, dens)
    };
    let places = |world: &GameWorld| {
        let mut all: Vec<_> = world.reals().map(|real| (real.id(), real.place(1_000))).collect();
        all.sort_unstable();
        all
    };
    let (mut world, mut minds, mut dens) = wake(&Map::new(), 5_000, None);
    let born = places(&world);
    assert!(
        born.iter().all(|(_, place)| place.tile().is_some())
            && born.len() == usize::from(terrain.habitats()[0].animals)
    );
    assert_eq!(born, places(&wake(&Map::new(), 9_000, None).0), "where the first are is always the same");

    let moved = world.walk(2_000, animal(0), born[0].1, born[1].1, 4_000).map_or(born[0].1, |motion| motion.end());
    minds.change(2_000, animal(0), |drives| drives.health = 0.5);
    dens.died(&mut world, &mut minds, Moment { now: 60_000, now_s: 5_060 }, animal(2));
    let state = dens.state(&world, &minds, Moment { now: 60_000, now_s: 5_060 }, id);
    // Who takes a dead one's place while the habitat is awake has its number, and is another: nobody may take news of it for
    // old news of the dead.
    let before = epoch_under(3, 0);
    assert_eq!(world.get(animal(1)).map(|real| real.epoch()), Some(before));
    let long_after = Moment { now: 70_000, now_s: 5_060 + 100_000 };
    assert_eq!(dens.replace_dead(&mut world, &mut minds, long_after), 1);
    let born_again = world.get(animal(2)).map(|real| real.epoch()).expect("another is there");
    assert!(born_again > before && post_of(born_again) == 3, "{born_again:?}");

    let (later, minds, _) = wake(&state, 5_061, None);
    assert_eq!(later.get(animal(0)).expect("there").place(1_000), moved);
    assert!(later.get(animal(2)).is_none(), "the dead are dead");
    let health = minds.drives(1_000, animal(0)).expect("a mind").health;
    assert!((0.5..0.9).contains(&health), "{health}");
    let (much_later, minds, _) = wake(&state, 5_060 + 100_000, None);
    assert!(much_later.get(animal(2)).is_some(), "others have taken the place of the dead");
    assert!(minds.drives(1_000, animal(0)).expect("a mind").health > 0.99, "wounds have healed");
    let fitness = Some(dens::Fitness { health: 7, battle: 77 });
    let seen = Last { place: born[0].1, walks: None, fitness };
    let (taken_over, ..) = wake(&state, 5_061, Some(seen));
    assert_eq!(taken_over.get(animal(1)).map(|real| (real.place(1_000), real.view().health)), Some((born[0].1, 7)));
    assert_eq!(battle_of(&taken_over, animal(1)), Some(77), "it is in its battle");
    let dead = Last { fitness: Some(dens::Fitness { health: 0, battle: 0 }), ..seen };
    let (without, minds, dens_then) = wake(&state, 5_061, Some(dead));
    assert!(without.get(animal(1)).is_none(), "who was last seen dead is dead");
    let kept = dens_then.state(&without, &minds, Moment { now: 1_000, now_s: 5_061 }, id);
    assert!(
        kept["deaths"].as_array().is_some_and(|deaths| deaths.contains(&serde_json::json!([1, 5_061]))),
        "{kept:?}"
    );
    // Where a battle or a death was saved, and nothing fresher was seen but the place, they stay.
    let walked = wake(&kept, 5_062, Some(Last { fitness: None, ..seen })).0;
    assert!(walked.get(animal(1)).is_none(), "the dead do not walk");
    let fights = taken_over_state(&state, 1, 77);
    assert_eq!(battle_of(&wake(&fights, 5_061, None).0, animal(1)), Some(77));

    for broken in [
        "{\"animals\": 7, \"deaths\": {}}",
        "{\"animals\": [[0], [1, 2, 3, 4, 5], \"x\", [99999999, 1, 1, 1, 1, 1], [0, -5, 99999999999, 1, 1, 1]]}",
        "{\"deaths\": [[-1, 4], [3, -9], [4]], \"saved_s\": \"never\"}",
    ] {
        let state = serde_json::from_str::<Map<String, Value>>(broken).expect("an object");
        assert_eq!(places(&wake(&state, 5_000, None).0), born, "{broken}");
    }
    assert!(dens.sleep(&mut world, &mut minds_of(&lore), 70_000, id));
}

/// What was kept of a habitat, with an animal in a battle.
fn taken_over_state(state: &Map<String, Value>, index: u16, battle: u64) -> Map<String, Value> {
    let mut state = state.clone();
    state.insert("battles".to_owned(), serde_json::json!([[index, battle]]));
    state
}

/// Minds without animals: sleeping with them takes nothing out of a world that is not theirs.
fn minds_of(lore: &Arc<Lore>) -> Minds {
    Minds::new(lore.clone(), 1, 1)
}
