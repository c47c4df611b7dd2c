//! The roles of Wildmesh and everything that makes them a program: wiring, the gateway, operations, the bundled game.
//!
//! The only crate that knows all the others. Role modules (`frontend`, `gateway`, …) NEVER import one another; what two of
//! them need lies beside them (`world_loop`, `load`, `metrics`) or in a library crate.

pub mod cli;
pub mod commands;
pub mod wiring;

pub mod frontend;
pub mod gateway;

pub mod colosseum;
pub mod garden;
pub mod zoo;

pub mod steward;

pub mod game;
pub mod world_loop;

pub mod protocol;

pub mod client;

pub mod bots;

pub mod audience;
pub mod battles;
pub mod calendar;
pub mod choose;
pub mod draining;
pub mod election;
pub mod islands;
pub mod last_seen;
pub mod load;
pub mod methods;
pub mod metrics;
pub mod ops;
pub mod owners;
pub mod passage;
pub mod rendezvous;
pub mod report;
pub mod role;
mod sent;
