//! What a player's character is, and how fast it walks.

use super::{View, kind, pose};

/// The fastest that a player may walk, in 1/256 tile per second: 4 tiles per second.
pub const MAX_SPEED: i32 = 1024;

/// A player's character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Player {
    /// The name that others see.
    pub name: String,
    /// The colour of its clothes, in degrees of the colour circle, 0 to 359.
    pub hue: u16,
    /// Its health in percent, 0 to 100.
    pub health: u8,
    /// Its party; 0 if it is in none.
    pub party: u64,
    /// The battle that has control of it; 0 if it is in none.
    pub battle: u64,
}

impl Player {
    /// What others see.
    pub fn view(&self) -> View {
        let (pose, tie) = if self.battle != 0 { (pose::FIGHTS, self.battle) } else { (pose::IDLE, self.party) };
        let (kind, detail) = (kind::PLAYER, Vec::new());
        View { kind, name: self.name.clone(), hue: self.hue, pose, health: self.health, tie, detail }
    }
}
