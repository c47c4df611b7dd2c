//! What people do: each deed looks at what is in sight and asks for an act, or walks to where one may be asked for.
//!
//! A deed also says what its act would move, for the books. It decides by what a client knows only; what it asks for may well
//! be refused.

use nodes::game::battle::Battle;
use nodes::game::player::MAX_SPEED;
use nodes::game::{kind, pose};
use nodes::protocol::{Act, Command, UNITS_PER_TILE, Wares};
use rand::Rng;

use super::person::Person;
use super::{FIRST_PLAYER, Phase};
use crate::sim::books::{Change, Holder, UNBOOKED};
use crate::sim::lands;
use crate::village::Thing;

/// How far one reaches, in tiles; a little less than the rules say.
const REACH: i32 = 2;

macro_rules! deeds {
    ($($(#[$doc:meta])* $deed:ident $weight:literal),* $(,)?) => {
        /// What people do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Deed {
            $($(#[$doc])* $deed),*
        }

        impl Deed {
            /// All of them, and how often each among the others.
            pub const ALL: &[(Deed, u32)] = &[$((Deed::$deed, $weight)),*];
        }
    };
}

deeds! {
    /// Walks about.
    Walk 12,
    /// Walks to where people meet.
    Meet 8,
    /// Takes a stroke at what grows near.
    Gather 10,
    /// Makes a tool or a bandage.
    Craft 4,
    /// Eats a berry.
    Eat 2,
    /// Builds a box, a hearth or a fence.
    Build 4,
    /// Takes something down.
    Demolish 1,
    /// Uses a hearth or a door.
    Use 2,
    /// Puts goods into a box.
    Put 6,
    /// Takes goods out of a box.
    Take 5,
    /// Claims land.
    Claim 2,
    /// Gives land up.
    GiveUp 1,
    /// Hunts.
    Hunt 10,
    /// Trades.
    Trade 12,
    /// Gives.
    Gift 8,
    /// Finds company, and leaves it.
    Party 4,
    /// Says something.
    Chat 2,
    /// Sails.
    Sail 3,
    /// Loses the connection.
    Vanish 2,
    /// Logs out.
    LogOut 1,
    /// Comes in a second time.
    SecondSession 1,
    /// Asks once more for what was done long ago, under its number.
    Repeat 3,
}

/// The name under which an act that is done is counted, if it is.
pub(super) fn told_as(act: &Act) -> Option<&'static str> {
    Some(match act {
        Act::Gather { .. } => "gathered",
        Act::Craft { .. } => "crafted",
        Act::Eat { .. } => "eaten",
        Act::Build { .. } => "built",
        Act::Demolish { .. } => "demolished",
        Act::Use { .. } => "used",
        Act::Put { .. } => "box_put",
        Act::Take { .. } => "box_taken",
        Act::Claim {} => "claimed_land",
        Act::GiveUp {} => "gave_up_land",
        Act::Attack { .. } => "battle_begun",
        Act::Join { .. } => "battle_joined",
        Act::Gift { .. } => "gift_done",
        Act::Enter { .. } => "party_entered",
        Act::Sail { .. } => "sailed",
        _ => return None,
    })
}

/// The battle in which a person is, as it is shown.
pub(super) fn my_battle(person: &Person) -> Option<u64> {
    let view = &person.seen.sight.ghost(person.seen.me())?.view;
    (view.pose == pose::FIGHTS).then_some(view.tie)
}

/// Does it, or what leads to it.
pub(super) fn perform(person: &mut Person, deed: Deed) {
    // Notes come one after the other.
    for index in person.noted..person.seen.notes.len() {
        match person.seen.notes[index].code.as_str() {
            "defeated" => person.count("defeated"),
            "loot" => person.count("animal_slain"),
            _ => {}
        }
    }
    person.noted = person.seen.notes.len();
    match deed {
        Deed::Walk => walk_about(person),
        Deed::Meet => meet(person),
        Deed::Gather => gather(person),
        Deed::Craft => craft(person),
        Deed::Eat => {
            if person.seen.carries("berry") > 0 {
                let change = vec![mine(person, "berry", -1)];
                person.act(Act::Eat { item: "berry".to_owned() }, change);
            }
        }
        Deed::Build => build(person),
        Deed::Demolish => with_a(person, |_, thing| {
            let object = thing.id;
            Some((Act::Demolish { object }, Vec::new()))
        }),
        Deed::Use => with_a(person, |person, thing| {
            let burns = thing.view.name == "hearth";
            let change = if burns { vec![mine(person, "wood", -1)] } else { Vec::new() };
            matches!(thing.view.name.as_str(), "hearth" | "door").then_some((Act::Use { object: thing.id }, change))
        }),
        Deed::Put => with_a(person, put),
        Deed::Take => with_a(person, take),
        Deed::Claim => person.act(Act::Claim {}, Vec::new()),
        Deed::GiveUp => person.act(Act::GiveUp {}, Vec::new()),
        Deed::Hunt => hunt(person),
        Deed::Trade => trade(person),
        Deed::Gift => gift(person),
        Deed::Party => party(person),
        Deed::Chat => {
            let channel = person.random.random_range(0..3);
            person.act(Act::Chat { channel, text: "hello".to_owned() }, Vec::new());
        }
        Deed::Sail => sail(person),
        Deed::Vanish | Deed::LogOut | Deed::SecondSession | Deed::Repeat => {}
    }
}

fn mine(person: &Person, item: &str, more: i64) -> (Holder, String, i64) {
    (Holder::Player(person.number), item.to_owned(), more)
}

fn walk_to(person: &mut Person, (x, y): (i32, i32)) {
    let units = |tile: i32| tile * UNITS_PER_TILE + UNITS_PER_TILE / 2;
    let from = person.seen.place();
    person.says(Command::Walk { from, to: (units(x), units(y)), speed: MAX_SPEED });
}

fn walk_about(person: &mut Person) {
    let (x, y) = person.seen.tile();
    let to = (x + person.random.random_range(-7..=7), y + person.random.random_range(-7..=7));
    walk_to(person, (to.0.max(3), to.1.max(3)));
}

fn meet(person: &mut Person) {
    let square = lands::SQUARES[person.random.random_range(0..lands::SQUARES.len())];
    let by = (person.random.random_range(-2..=2), person.random.random_range(-2..=2));
    let (x, y) = if person.seen.island() == lands::HOME { square } else { (20, 18) };
    walk_to(person, (i32::from(x) + by.0, i32::from(y) + by.1));
}

fn far(one: (i32, i32), two: (i32, i32)) -> i32 {
    (one.0 - two.0).abs().max((one.1 - two.1).abs())
}

fn gather(person: &mut Person) {
    let (x, y) = person.seen.tile();
    let Some(island) = person.world.islands.get(&person.seen.island()) else { return };
    let corner = |by: i32| cartographer::geometry::Tile {
        x: u16::try_from(x + by).unwrap_or(0),
        y: u16::try_from(y + by).unwrap_or(0),
    };
    let near: Vec<(cartographer::geometry::Tile, u16)> =
        island.naturals_within(corner(-REACH), corner(REACH + 1)).collect();
    if near.is_empty() {
        return walk_about(person);
    }
    let (tile, number) = near[person.random.random_range(0..near.len())];
    let natural = island.natural_name(number).and_then(|name| person.world.content.naturals.get(name));
    let Some((item, count)) = natural.map(|natural| (natural.yields.clone(), natural.count)) else { return };
    let change = vec![mine(person, &item, count as i64)];
    person.act(Act::Gather { x: tile.x, y: tile.y }, change);
}

fn craft(person: &mut Person) {
    let recipe = ["axe", "knife", "bandage"][person.random.random_range(0..3)];
    let Some(known) = person.world.content.recipes.get(recipe).cloned() else { return };
    let mut change: Change = known.takes.iter().map(|(item, count)| mine(person, item, -(*count as i64))).collect();
    change.push(mine(person, &known.makes, known.count as i64));
    person.act(Act::Craft { recipe: recipe.to_owned() }, change);
}

fn build(person: &mut Person) {
    let facility = ["box", "box", "hearth", "fence", "door"][person.random.random_range(0..5)];
    let Some(known) = person.world.content.facilities.get(facility).cloned() else { return };
    let (x, y) = person.seen.tile();
    let by = (person.random.random_range(-REACH..=REACH), person.random.random_range(-REACH..=REACH));
    let (Ok(x), Ok(y)) = (u16::try_from(x + by.0), u16::try_from(y + by.1)) else { return };
    let change = known.takes.iter().map(|(item, count)| mine(person, item, -(*count as i64))).collect();
    person.act(Act::Build { facility: facility.to_owned(), x, y, turned: 0 }, change);
}

/// Does something with a facility in reach, or walks to one.
fn with_a(person: &mut Person, what: impl Fn(&mut Person, &Thing) -> Option<(Act, Change)>) {
    let at = person.seen.tile();
    let all = person.seen.all(kind::FACILITY);
    let near: Vec<&Thing> = all.iter().filter(|thing| far(thing.tile, at) <= REACH).collect();
    if near.is_empty() {
        if !all.is_empty() {
            let to = all[person.random.random_range(0..all.len())].tile;
            walk_to(person, to);
        }
        return;
    }
    let thing = near[person.random.random_range(0..near.len())];
    if let Some((act, change)) = what(person, thing) {
        person.act(act, change);
    }
}

/// Some goods of the bag: an item and how many, or a unique by its serial.
fn some(person: &mut Person) -> Option<(Wares, String, i64)> {
    let booked = |item: &str| !UNBOOKED.contains(&item);
    let wares = &person.seen.wares;
    let uniques: Vec<(String, String)> = wares.uniques.clone();
    let stacks: Vec<(String, u64)> = wares.stacks.iter().filter(|(item, _)| booked(item)).cloned().collect();
    if !uniques.is_empty() && person.random.random_ratio(1, 4) {
        let unique = uniques[person.random.random_range(0..uniques.len())].clone();
        let item = unique.1.clone();
        return Some((Wares { stacks: Vec::new(), uniques: vec![unique] }, item, 1));
    }
    if stacks.is_empty() {
        return None;
    }
    let (item, most) = stacks[person.random.random_range(0..stacks.len())].clone();
    let count = person.random.random_range(1..=most.min(3));
    Some((Wares { stacks: vec![(item.clone(), count)], uniques: Vec::new() }, item, count as i64))
}

fn put(person: &mut Person, thing: &Thing) -> Option<(Act, Change)> {
    if thing.view.name != "box" {
        return None;
    }
    let (wares, item, count) = some(person)?;
    let change = vec![mine(person, &item, -count), (Holder::Box(thing.id), item, count)];
    Some((Act::Put { object: thing.id, wares }, change))
}

fn take(person: &mut Person, thing: &Thing) -> Option<(Act, Change)> {
    if thing.view.name != "box" {
        return None;
    }
    let Some(store) = person.seen.stores.get(&thing.id).filter(|store| !store.stacks.is_empty()) else {
        return Some((Act::Look { object: thing.id }, Vec::new()));
    };
    let (item, most) = store.stacks[person.random.random_range(0..store.stacks.len())].clone();
    let count = person.random.random_range(1..=most.min(3));
    let wares = Wares { stacks: vec![(item.clone(), count)], uniques: Vec::new() };
    let change = vec![mine(person, &item, count as i64), (Holder::Box(thing.id), item, -(count as i64))];
    // What is left is looked at again before the next time.
    if person.random.random_ratio(1, 2) {
        person.seen.stores.remove(&thing.id);
    }
    Some((Act::Take { object: thing.id, wares }, change))
}

fn hunt(person: &mut Person) {
    if let Some(battle) = my_battle(person) {
        let Some(room) = person.seen.thing(battle) else { return };
        let members = Battle::of(&room.view.detail).map(|battle| battle.members).unwrap_or_default();
        if members.iter().any(|(id, side, _)| *id != person.number && *side == 0) {
            person.count("fought_together");
        }
        let Some((target, ..)) = members.iter().find(|(_, side, health)| *side == 1 && *health > 0) else { return };
        let act = match person.random.random_range(0..12) {
            0 if person.phase() == Phase::Playing => Act::Flee {},
            1 => Act::Blow { blow: 1, target: *target },
            2 => Act::Blow { blow: 2, target: *target },
            _ => Act::Blow { blow: 0, target: *target },
        };
        return person.act(act, Vec::new());
    }
    if person.phase() != Phase::Playing {
        return;
    }
    let at = person.seen.tile();
    let battles = person.seen.all(kind::BATTLE);
    if let Some(room) = battles.iter().find(|room| far(room.tile, at) <= REACH) {
        return person.act(Act::Join { battle: room.id }, Vec::new());
    }
    let animals = person.seen.all(kind::ANIMAL);
    let alive = animals.iter().filter(|animal| animal.view.pose != pose::DEFEATED);
    let Some(animal) = alive.min_by_key(|animal| far(animal.tile, at)) else { return meet(person) };
    if far(animal.tile, at) <= REACH {
        person.act(Act::Attack { target: animal.id }, Vec::new());
    } else {
        walk_to(person, animal.tile);
    }
}

/// Another player in reach, or a walk to where there are some.
fn somebody(person: &mut Person) -> Option<u64> {
    let at = person.seen.tile();
    let me = person.number;
    let near = person.seen.all(kind::PLAYER);
    let near: Vec<u64> = near.iter().filter(|it| it.id != me && far(it.tile, at) <= REACH).map(|it| it.id).collect();
    if near.is_empty() {
        meet(person);
        return None;
    }
    Some(near[person.random.random_range(0..near.len())])
}

fn trade(person: &mut Person) {
    let open = person.seen.trades.values().rev().find(|trade| trade.state == 0).cloned();
    let Some(open) = open else {
        if let Some(player) = somebody(person) {
            person.act(Act::Trade { player }, Vec::new());
        }
        return;
    };
    let nothing = |wares: &Wares| wares.stacks.is_empty() && wares.uniques.is_empty();
    let (mine, theirs) = (&open.mine, &open.theirs);
    let act = if person.random.random_ratio(1, 15) {
        Act::Withdraw { trade: open.trade }
    } else if nothing(&mine.wares) {
        let Some((wares, ..)) = some(person) else { return };
        Act::Offer { trade: open.trade, wares }
    } else if !mine.consents && (!nothing(&theirs.wares) || person.random.random_ratio(1, 4)) {
        Act::Consent { trade: open.trade, round: open.round }
    } else {
        return;
    };
    person.act(act, Vec::new());
}

fn gift(person: &mut Person) {
    let other = FIRST_PLAYER + person.random.random_range(0..person.world.people);
    let Some((wares, item, count)) = some(person).filter(|_| other != person.number) else { return };
    let change = vec![mine(person, &item, -count), (Holder::Player(other), item, count)];
    person.act(Act::Gift { player: other, wares }, change);
}

fn party(person: &mut Person) {
    let invited = person.seen.notes.iter().rev().find(|note| note.code == "invite").map(|note| note.number);
    let party = person.seen.party();
    let act = match invited {
        _ if party.party != 0 && person.random.random_ratio(1, 3) => {
            if party.leader == person.number {
                Act::Dissolve {}
            } else {
                Act::Leave {}
            }
        }
        _ if party.party != 0 && party.leader == person.number && person.random.random_ratio(1, 3) => {
            let Some(player) = party.members.iter().find(|member| **member != person.number) else { return };
            Act::Lead { player: *player }
        }
        Some(number) if party.party == 0 => Act::Enter { party: number },
        _ => {
            let player = FIRST_PLAYER + person.random.random_range(0..person.world.people);
            Act::Invite { player }
        }
    };
    person.act(act, Vec::new());
}

fn sail(person: &mut Person) {
    let home = person.seen.island() == lands::HOME;
    let (harbour, island) = if home { (lands::HARBOUR, lands::AWAY) } else { ((20, 14), lands::HOME) };
    let harbour = (i32::from(harbour.0), i32::from(harbour.1));
    if far(person.seen.tile(), harbour) <= 4 {
        person.act(Act::Sail { island }, Vec::new());
    } else {
        walk_to(person, harbour);
    }
}
