//! Sailing: how a player gets from a harbour to another island.
//!
//! Between islands of this node a player is put elsewhere by [`FrontInput::Travel`](super::players::FrontInput::Travel). It
//! NEVER moves a player who fights.

use cartographer::geometry::IslandId;
use mesh::CallRefusal;

use super::acts::{Actor, Begun};
use crate::protocol::codes;

/// Sails to another island.
pub(super) fn sail(_actor: &Actor<'_>, island: IslandId) -> Begun {
    Err(CallRefusal::new(codes::UNAVAILABLE, format!("no ship sails to island {} yet", island.0)))
}
