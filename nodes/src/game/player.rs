//! What a player's character is, and how fast it walks.

/// The fastest that a player may walk, in 1/256 tile per second: 4 tiles per second.
pub const MAX_SPEED: i32 = 1024;

/// A player's character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Player {
    /// The name that others see.
    pub name: String,
    /// The colour of its clothes, in degrees of the colour circle, 0 to 359.
    pub hue: u16,
}
