//! The world as values: geometry, terrain, motion, vision, real and ghost, frames.
//!
//! The pure core of Wildmesh. It NEVER awaits, never reads a clock, never draws a random number and never touches a
//! socket or a store; time comes in as milliseconds. The only I/O is reading a terrain package.

pub mod frame;
pub mod geometry;
pub mod ground;
pub mod motion;
pub mod terrain;
pub mod vision;
pub mod world;
