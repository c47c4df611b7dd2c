//! Herds in a world of their own: flight, hunting, keeping together, ways around, and the same results on more threads.

use cartographer::geometry::{Epoch, Tile};
use cartographer::ground::Plain;
use cartographer::world::WorldConfig;

use super::*;
use crate::game::animal::Animal;
use crate::game::content::{Content, Species};

const ISLAND: IslandId = IslandId(7);
const STEP_MS: u64 = 50;

/// Goats, wolves that hunt them, and boars that hunt players.
fn lore() -> Arc<Lore> {
    let species = |walk, run, sight, hunts: &[&str], fear, herd, curiosity| Species {
        walk_speed: walk,
        run_speed: run,
        sight_tiles: sight,
        hunts: hunts.iter().map(|name| (*name).to_owned()).collect(),
        fear,
        herd,
        curiosity,
        toughness: 80,
        harm: 20,
        loot: std::collections::BTreeMap::new(),
        experience: 1,
        respawn_s: 60,
    };
    let mut content = Content::default();
    content.species.insert("boar".to_owned(), species(220, 950, 9, &["player"], 20, 20, 30));
    content.species.insert("goat".to_owned(), species(200, 900, 10, &[], 70, 60, 20));
    content.species.insert("wolf".to_owned(), species(250, 1_100, 14, &["goat"], 10, 40, 20));
    Arc::new(Lore::new(&content))
}

struct Farm {
    world: GameWorld,
    minds: Minds,
    now: u64,
    animals: Vec<ObjectId>,
}

impl Farm {
    fn new(seed: u64, threads: usize) -> Farm {
        let mut world = GameWorld::new(WorldConfig::new(1));
        world.add_island(ISLAND, Arc::new(Plain::new(256, 256)));
        Farm { world, minds: Minds::new(lore(), seed, threads), now: 1_000, animals: Vec::new() }
    }

    /// A herd whose habitat is this rectangle of tiles, its animals in the middle or on `at`.
    fn herd(&mut self, species: &str, from: (u16, u16), to: (u16, u16), count: u64, at: Option<Tile>) -> Vec<ObjectId> {
        let (first, last) = (Tile::new(from.0, from.1).corner(), Tile::new(to.0, to.1).corner());
        let corners = [first, Place::new(last.x, first.y), last, Place::new(first.x, last.y)];
        let habitat = Habitat {
            name: String::new(),
            species: species.to_owned(),
            animals: count as u16,
            bounds: (first, last),
            corners: Box::new(corners),
        };
        let herd = self.minds.add_herd(ISLAND, Arc::new(Plain::new(256, 256)), habitat);
        let what = self.minds.lore().number(species).expect("a species");
        let middle = at.unwrap_or(Tile::new((from.0 + to.0) / 2, (from.1 + to.1) / 2));
        let first_id = self.animals.len() as u64 + 1;
        let ids: Vec<ObjectId> = (first_id..first_id + count).map(ObjectId).collect();
        for (id, i) in ids.iter().zip(0..) {
            let place = Tile::new(middle.x + i % 5, middle.y + i / 5 % 5).centre();
            let animal =
                Animal { species: species.to_owned(), hue: 0, pose: pose::IDLE, health: 100, herd: 1, battle: 0 };
            self.world
                .spawn(self.now, *id, Epoch(1), ISLAND, place, Body::Animal(animal), false)
                .expect("a free place");
            self.minds.add(self.now, *id, herd, what, Drives::default(), Motion::standing(place, self.now));
        }
        self.animals.extend(&ids);
        ids
    }

    fn drive(&mut self, ids: &[ObjectId], change: impl Fn(&mut Drives)) {
        ids.iter().for_each(|id| self.minds.change(self.now, *id, &change));
    }

    fn run(&mut self, ms: u64, others: &[Seen]) -> Vec<Strike> {
        let mut strikes = Vec::new();
        for _ in 0..ms / STEP_MS {
            self.now += STEP_MS;
            self.world.tick(self.now);
            if self.minds.is_due(self.now) {
                strikes.extend(self.minds.tick(&mut self.world, self.now, others));
            }
        }
        strikes
    }

    fn place(&self, id: ObjectId) -> Place {
        self.world.get(id).expect("it is here").place(self.now)
    }

    fn poses(&self, ids: &[ObjectId], pose: u8) -> usize {
        ids.iter().filter(|id| self.world.get(**id).is_some_and(|real| real.view().pose == pose)).count()
    }

    /// How far the nearest of them is from a place, in tiles.
    fn nearest(&self, ids: &[ObjectId], place: Place) -> u64 {
        ids.iter().map(|id| self.place(*id).distance_squared(place).isqrt() / 256).min().unwrap_or(0)
    }
}

fn player(tile: Tile) -> Seen {
    Seen { id: ObjectId(900), island: ISLAND, place: tile.centre(), what: What::PLAYER, flees: false, mind: None }
}

#[test]
fn a_herd_runs_from_a_player_together_and_is_calm_again_when_nobody_is_there() {
    let mut farm = Farm::new(1, 1);
    let goats = farm.herd("goat", (80, 80), (120, 120), 12, None);
    farm.run(5_000, &[]);
    assert_eq!(farm.poses(&goats, pose::FLEES), 0);
    let decisions = farm.minds.counts().decisions;
    assert!(decisions < 12 * 10, "{decisions} decisions of twelve calm goats in five seconds");
    let place = farm.place(goats[0]).tile().expect("on the island");
    let player = player(place);
    farm.run(600, &[player]);
    assert!(farm.poses(&goats, pose::FLEES) >= 10, "{} of 12 flee", farm.poses(&goats, pose::FLEES));
    assert!(farm.minds.counts().alarms > 0, "the player woke them");
    farm.run(3_000, &[player]);
    assert!(
        farm.nearest(&goats, player.place) >= 5,
        "the nearest is {} tiles away",
        farm.nearest(&goats, player.place)
    );
    farm.run(30_000, &[]);
    assert_eq!(farm.poses(&goats, pose::FLEES), 0);
}

#[test]
fn those_who_fear_little_stay_and_hunt_the_player_when_they_are_hungry() {
    let mut farm = Farm::new(2, 1);
    let boars = farm.herd("boar", (80, 80), (120, 120), 3, None);
    let near = player(Tile::new(106, 100));
    farm.drive(&boars, |drives| drives.hunger = 0.1);
    let calm = farm.run(3_000, &[player(Tile::new(109, 100))]);
    assert_eq!((calm.len(), farm.poses(&boars, pose::FLEES)), (0, 0));
    farm.drive(&boars, |drives| drives.hunger = 0.9);
    let strikes = farm.run(6_000, &[near]);
    assert!(strikes.iter().any(|strike| strike.prey == near.id && boars.contains(&strike.hunter)), "{strikes:?}");
}

#[test]
fn goats_flee_from_wolves_of_another_herd_and_hungry_wolves_catch_some() {
    let mut farm = Farm::new(3, 1);
    let goats = farm.herd("goat", (80, 80), (120, 120), 12, None);
    let wolves = farm.herd("wolf", (80, 80), (130, 130), 2, Some(Tile::new(108, 100)));
    farm.drive(&wolves, |drives| drives.hunger = 0.9);
    let early = farm.run(1_500, &[]);
    assert!(farm.poses(&goats, pose::FLEES) >= 6, "{} of 12 flee", farm.poses(&goats, pose::FLEES));
    assert!(farm.poses(&wolves, pose::HUNTS) == 2);
    let late = farm.run(60_000, &[]);
    let strikes = [early, late].concat();
    assert!(!strikes.is_empty(), "wolves are faster");
    assert!(strikes.iter().all(|strike| wolves.contains(&strike.hunter) && goats.contains(&strike.prey)));
}

#[test]
fn a_herd_stays_together_and_at_home() {
    let mut farm = Farm::new(4, 1);
    let goats = farm.herd("goat", (60, 60), (140, 140), 20, None);
    farm.run(600_000, &[]);
    let places: Vec<Place> = goats.iter().map(|id| farm.place(*id)).collect();
    let middle = |along: fn(&Place) -> i32| places.iter().map(along).sum::<i32>() / places.len() as i32;
    let centre = Place::new(middle(|place| place.x), middle(|place| place.y));
    let mut far: Vec<u64> = places.iter().map(|place| place.distance_squared(centre).isqrt() / 256).collect();
    far.sort_unstable();
    assert!(far[10] <= 8 && far[19] <= 25, "distances from the middle in tiles: {far:?}");
    assert!(places.iter().any(|place| *place != places[0]), "they have walked");
    let home = centre.tile().expect("a tile");
    assert!((60..140).contains(&home.x) && (60..140).contains(&home.y), "the herd is at {home}");
    assert!(farm.poses(&goats, pose::BUSY) + farm.poses(&goats, pose::SLEEPS) > 0);
}

#[test]
fn an_animal_that_is_astray_finds_its_way_home_around_a_wall() {
    let mut farm = Farm::new(5, 1);
    let wall: Vec<Tile> = (90..111).flat_map(|y| [Tile::new(70, y), Tile::new(71, y)]).collect();
    farm.minds.block(ISLAND, wall.iter().copied().collect());
    let goats = farm.herd("goat", (74, 96), (84, 106), 1, Some(Tile::new(66, 100)));
    farm.drive(&goats, |drives| (drives.hunger, drives.fatigue) = (0.0, 0.0));
    let mut home = false;
    for _ in 0..1_200 {
        farm.run(100, &[]);
        let tile = farm.place(goats[0]).tile().expect("on the island");
        assert!(!wall.contains(&tile), "it walks through the wall at {tile}");
        home |= (74..84).contains(&tile.x) && (96..106).contains(&tile.y);
    }
    assert!(home, "it is at {:?}", farm.place(goats[0]).tile());
}

#[test]
fn the_tired_sleep_and_the_hungry_eat_until_they_are_well() {
    let mut farm = Farm::new(6, 1);
    let goats = farm.herd("goat", (80, 80), (120, 120), 4, None);
    farm.drive(&goats, |drives| (drives.fatigue, drives.hunger) = (0.95, 0.1));
    farm.run(20_000, &[]);
    assert_eq!(farm.poses(&goats, pose::SLEEPS), 4);
    let decisions = farm.minds.counts().decisions;
    farm.run(60_000, &[]);
    assert!(farm.minds.counts().decisions - decisions <= 4 * 11, "sleepers think seldom");
    farm.run(240_000, &[]);
    assert_eq!(farm.poses(&goats, pose::SLEEPS), 0, "they have slept enough");
    farm.drive(&goats, |drives| drives.hunger = 0.9);
    farm.run(150_000, &[]);
    let hunger = |id: &ObjectId| farm.minds.drives(farm.now, *id).expect("a mind").hunger;
    assert!(goats.iter().all(|id| hunger(id) < 0.6), "{:?}", goats.iter().map(hunger).collect::<Vec<_>>());
}

#[test]
fn an_animal_in_somebody_elses_control_does_not_think_and_a_held_herd_rests() {
    let mut farm = Farm::new(7, 1);
    let goats = farm.herd("goat", (80, 80), (120, 120), 2, None);
    let at = player(Tile::new(100, 100));
    farm.run(2_500, &[]);
    let motion = farm.world.stop(farm.now, goats[0]).expect("here");
    farm.minds.pause(farm.now, goats[0], true, motion);
    let place = farm.place(goats[0]);
    farm.run(4_000, &[at]);
    assert_eq!(farm.place(goats[0]), place);
    assert_ne!(farm.place(goats[1]), place);
    farm.minds.pause(farm.now, goats[0], false, motion);
    let herd = farm.minds.get(goats[0]).expect("a mind").herd;
    farm.minds.hold(herd, true);
    let decisions = farm.minds.counts().decisions;
    farm.run(3_000, &[at]);
    assert_eq!(farm.minds.counts().decisions, decisions);
    farm.minds.hold(herd, false);
    farm.run(3_000, &[at]);
    assert_ne!(farm.place(goats[0]), place);
    farm.minds.remove(goats[0]);
    farm.minds.remove(goats[1]);
    assert!(farm.minds.is_empty());
}

fn trace(seed: u64, threads: usize) -> (u64, u64) {
    let mut farm = Farm::new(seed, threads);
    for x in [60, 100, 140] {
        farm.herd("goat", (x, 60), (x + 30, 90), 60, None);
        let wolves = farm.herd("wolf", (x, 70), (x + 30, 100), 20, None);
        farm.drive(&wolves, |drives| drives.hunger = 0.8);
    }
    farm.run(6_000, &[]);
    (farm.world.trace_hash(), farm.minds.counts().decisions)
}

#[test]
fn more_threads_give_the_same_world_and_another_seed_another() {
    let one = trace(1, 1);
    assert_eq!(one, trace(1, 2));
    assert_eq!(one, trace(1, 5));
    assert_ne!(one.0, trace(2, 1).0);
}

#[test]
fn thoughts_of_one_tick_are_bounded_and_none_is_forgotten() {
    let mut farm = Farm::new(8, 2);
    let more = 300;
    farm.herd("goat", (20, 20), (230, 230), THOUGHTS as u64 + more, None);
    // None is due at once: each has its own moment within the first two seconds.
    farm.now += 5_000;
    farm.minds.tick(&mut farm.world, farm.now, &[]);
    assert_eq!(farm.minds.counts().decisions, THOUGHTS as u64);
    farm.minds.tick(&mut farm.world, farm.now, &[]);
    assert_eq!(farm.minds.counts().decisions, THOUGHTS as u64 + more);
}
