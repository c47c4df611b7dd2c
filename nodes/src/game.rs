//! The bundled game: the only place that knows what a body is.
//!
//! Everything else carries bodies and their views without looking inside. What a view holds goes to clients as it is, so
//! nothing secret is EVER put in one.

pub mod grounds;
pub mod player;

use cartographer::world::World;
use serde::{Deserialize, Serialize};

use player::Player;

/// The world of a node of this game.
pub type GameWorld = World<Body>;

/// The state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Somebody's character.
    Player(Player),
}

/// What others may see of a body, on the wire the array `[kind, name, hue]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View(pub u8, pub String, pub u16);

/// The `kind` of a player's view.
pub const KIND_PLAYER: u8 = 0;

impl cartographer::world::Body for Body {
    type View = View;

    fn view(&self) -> View {
        match self {
            Body::Player(player) => View(KIND_PLAYER, player.name.clone(), player.hue),
        }
    }
}
