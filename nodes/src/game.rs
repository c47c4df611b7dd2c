//! The bundled game: the only place that knows what a body is.
//!
//! Everything else carries bodies and their views without looking inside. What a view holds goes to clients as it is, so
//! nothing secret is EVER put in one.

pub mod content;

pub mod player;

pub mod animal;
pub mod battle;
pub mod combat;
pub mod minds;
pub mod thing;

pub mod grounds;

use cartographer::geometry::{Chunk, ObjectId};
use cartographer::world::World;
use estate::transaction::OperationId;
use serde::{Deserialize, Serialize};

use animal::Animal;
use battle::Battle;
use player::Player;
use thing::Thing;

/// The world of a node of this game.
pub type GameWorld = World<Body>;

/// The state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Somebody's character; owned by a frontend.
    Player(Player),
    /// An animal; owned by a zoo.
    Animal(Animal),
    /// A facility, or a natural object that was touched; owned by a garden.
    Thing(Thing),
    /// A battle that goes on; owned by a colosseum.
    Battle(Battle),
}

/// What others may see of a body, on the wire the array `[kind, name, hue, pose, health, tie, detail]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// One of [`kind`].
    pub kind: u8,
    /// The name of a player; the species, facility or natural object.
    pub name: String,
    /// A colour, in degrees of the colour circle, 0 to 359.
    pub hue: u16,
    /// What it does: one of [`pose`]; of a thing the bits of [`thing::state`].
    pub pose: u8,
    /// Its health in percent; of a natural object how much is left of it.
    pub health: u8,
    /// Whom or what it belongs to: the battle of one who fights, else a player's party; an animal's herd; a facility's
    /// builder; a chunk's holding. 0 if nothing.
    pub tie: u64,
    /// More, by kind. Facility: `[[width, height, turned]]`. Battle: see [`battle::Battle`]. Else nothing.
    pub detail: Vec<Vec<u64>>,
}

/// What a view is of.
pub mod kind {
    /// A player.
    pub const PLAYER: u8 = 0;
    /// An animal.
    pub const ANIMAL: u8 = 1;
    /// A facility: something built.
    pub const FACILITY: u8 = 2;
    /// A natural object that was touched and has not grown again.
    pub const NATURE: u8 = 3;
    /// A battle.
    pub const BATTLE: u8 = 4;
    /// A chunk that belongs to a holding; `tie` is the holding.
    pub const LAND: u8 = 5;
}

/// What a player or an animal does.
pub mod pose {
    /// Stands or walks about.
    pub const IDLE: u8 = 0;
    /// Sleeps.
    pub const SLEEPS: u8 = 1;
    /// Eats or works.
    pub const BUSY: u8 = 2;
    /// Runs away.
    pub const FLEES: u8 = 3;
    /// Is after somebody.
    pub const HUNTS: u8 = 4;
    /// Is in the battle that `tie` names.
    pub const FIGHTS: u8 = 5;
    /// Has been defeated.
    pub const DEFEATED: u8 = 6;
}

/// The number of what an operation makes: a facility, a battle, a party, a trade. Below 2^51, so never an animal's or a
/// chunk's.
pub fn made_by(op: OperationId) -> ObjectId {
    ObjectId(((op.0 >> 77) as u64).max(1))
}

/// The number of the object that shows whose a chunk is.
pub fn land_marker(chunk: Chunk) -> ObjectId {
    let island = u64::from(chunk.island.0) & ((1 << 26) - 1);
    ObjectId(1 << 51 | island << 16 | u64::from(chunk.x & 0xff) << 8 | u64::from(chunk.y & 0xff))
}

impl cartographer::world::Body for Body {
    type View = View;

    fn view(&self) -> View {
        match self {
            Body::Player(player) => player.view(),
            Body::Animal(animal) => animal.view(),
            Body::Thing(thing) => thing.view(),
            Body::Battle(battle) => battle.view(),
        }
    }
}
