//! The commands of the binary, one file each. Each takes its flags and returns when its work is done.

pub mod node;
pub mod up;

pub mod bots;
pub mod content;
pub mod drain;
pub mod estate;
pub mod status;
pub mod store;

pub mod bench_admission;
pub mod bench_combat;
pub mod bench_drain;
pub mod bench_estate;
pub mod bench_frontend;
pub mod bench_mesh;
pub mod bench_population;
pub mod bench_world;

mod signals;
