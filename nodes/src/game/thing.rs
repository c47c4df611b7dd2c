//! What stands on the land and is awake: facilities, and natural objects that were touched.

use super::{View, kind};

/// The bits of a thing's `pose`.
pub mod state {
    /// A door stands open.
    pub const OPEN: u8 = 1;
    /// A hearth burns.
    pub const LIT: u8 = 2;
    /// A natural object is used up, and grows again.
    pub const USED_UP: u8 = 4;
}

/// A thing, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// Something that was built.
    Facility {
        /// Which, a name of the content.
        facility: String,
        /// Bits of [`state`].
        state: u8,
        /// Who built it.
        builder: u64,
        /// Width and height in tiles as it stands, and how it is turned.
        extent: (u8, u8, u8),
    },
    /// A natural object that was touched and has not grown again.
    Nature {
        /// Which, a name of the content.
        natural: String,
        /// Bits of [`state`].
        state: u8,
        /// How much of it is left, in percent.
        left: u8,
    },
    /// A chunk that belongs to a holding.
    Land {
        /// The holding: the number of the player whose it is.
        holding: u64,
    },
}

impl Thing {
    /// What others see.
    pub fn view(&self) -> View {
        match self {
            Thing::Facility { facility, state, builder, extent } => View {
                kind: kind::FACILITY,
                name: facility.clone(),
                hue: 0,
                pose: *state,
                health: 100,
                tie: *builder,
                detail: vec![vec![extent.0.into(), extent.1.into(), extent.2.into()]],
            },
            Thing::Nature { natural, state, left } => View {
                kind: kind::NATURE,
                name: natural.clone(),
                hue: 0,
                pose: *state,
                health: *left,
                tie: 0,
                detail: Vec::new(),
            },
            Thing::Land { holding } => View { kind: kind::LAND, health: 100, tie: *holding, ..View::default() },
        }
    }
}
