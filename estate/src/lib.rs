//! Documents and what is decided over them: the store, accounts, players and who owns them.
//!
//! `estate` knows no socket and no world: a document is bytes under a key, changed by compare-and-swap only. It promises
//! that an owned document has one owner per epoch, and that an acknowledged write is neither lost nor doubled, whatever
//! dies in between. It NEVER depends on two clocks agreeing: time may only decide when somebody may *try* to take over.

pub mod store;

pub mod document;

pub mod transaction;

mod owned;

pub mod account;
pub mod player;

pub mod post;

pub mod party;

pub mod goods;

pub mod land;

#[cfg(any(test, feature = "conformance"))]
pub mod schedules;

pub mod kinds;

pub mod audit;

pub use store::{embedded, memory};
