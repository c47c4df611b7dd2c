//! What people may write after `wildmesh bench`.
//!
//! Words and their bounds only: what is measured, and how, is in the commands.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use estate::store::embedded::Durability;

use super::Wires;
use crate::bots::{Behaviour, Layout};
use crate::commands;
use crate::wiring::drivers::StoreSpec;

/// `wildmesh bench`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// How far ghosts lag behind, and bytes per second between two nodes, against the bare zeromq crate
    Mesh(BenchMesh),
    /// Clients carried per core, spread and in a crowd, and what an idle frontend costs
    Frontend(BenchFrontend),
    /// How long players hear nothing when the frontend on which they play is emptied
    Drain(BenchDrain),
    /// How long it takes from a fighter's command until every watcher has seen the exchange
    Combat(BenchCombat),
    /// Transfers, trades, builds and claims, against the bare store writes that they need
    Estate(BenchEstate),
    /// A whole world's islands, mirages and animals: opening, memory, touches, minds awake and asleep
    World(BenchWorld),
    /// A simulated day of a small world's animals, and a number that stands for all that happened
    Day(BenchDay),
    /// A burst of logins through the queue, with a gateway killed: order, answers, ticks
    Admission(BenchAdmission),
    /// A day of players coming and going: do islands and animals follow them? Writes a picture
    Population(BenchPopulation),
    /// The server side of `bench frontend`, in a process of its own so that it can be measured from outside
    #[command(hide = true)]
    FrontendServer(BenchFrontendServer),
}

/// `wildmesh bench admission`
#[derive(Args, Debug)]
pub struct BenchAdmission {
    /// How many log in, all at once
    #[arg(long, default_value_t = 32_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub joins: u64,
    /// Players let in each second, at most
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Players that each of the two frontends takes, as far as this process may have sockets
    #[arg(long, default_value_t = 4_000)]
    pub capacity: u32,
    /// How long a player stays once it is in, in seconds
    #[arg(long, default_value_t = 8)]
    pub stay: u64,
    /// Connections over which they log in and ask
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// Use the directory of this process even if this machine has etcd
    #[arg(long)]
    pub embedded: bool,
    /// Kill no gateway
    #[arg(long)]
    pub spare: bool,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench population`
#[derive(Args, Debug)]
pub struct BenchPopulation {
    /// Where the picture is written
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench mesh`
#[derive(Args, Debug)]
pub struct BenchMesh {
    /// How long each part runs, in seconds
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench frontend`
#[derive(Args, Debug)]
pub struct BenchFrontend {
    /// Walking clients of the spread part
    #[arg(long, default_value_t = 2_000)]
    pub players: usize,
    /// Walking clients of the crowd part
    #[arg(long, default_value_t = 500)]
    pub crowd: usize,
    /// Standing clients of the idle part
    #[arg(long, default_value_t = 1_000)]
    pub idle: usize,
    /// How long each part runs once all are in, in seconds
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench drain`
#[derive(Args, Debug)]
pub struct BenchDrain {
    /// How many players, over three frontends
    #[arg(long, default_value_t = 500)]
    pub players: usize,
    /// What they do
    #[arg(long, value_enum, default_value_t = Behaviour::Walk)]
    pub behaviour: Behaviour,
    /// Where they walk, or begin to settle
    #[arg(long, value_enum, default_value_t = Layout::Spread)]
    pub layout: Layout,
    /// How long they play before and after, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// What the nodes talk over
    #[arg(long, value_enum, default_value_t = Wires::Memory)]
    pub transport: Wires,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench estate`
#[derive(Args, Debug)]
pub struct BenchEstate {
    /// How long each part runs, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// An empty store, or a folder in which to make one [default: a folder of its own, taken away afterwards]
    #[arg(long)]
    pub store: Option<StoreSpec>,
    /// What the embedded store's writes survive: process, power or strict. The others are measured for comparison, spread only
    #[arg(long, default_value_t = Durability::Power)]
    pub durability: Durability,
    /// Instead: fill a store with this many deeds and three objects on each, open it and audit it
    #[arg(long)]
    pub size: bool,
    /// How many deeds
    #[arg(long, default_value_t = 1_000_000, requires = "size", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub deeds: u64,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench world`
#[derive(Args, Debug)]
pub struct BenchWorld {
    /// For how many seconds of the world's time the animals are awake
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// How many islands
    #[arg(long, default_value_t = 836, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub islands: u32,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench day`
#[derive(Args, Debug)]
pub struct BenchDay {
    /// What the day's whims and ways are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads that share the animals' thoughts: they change nothing
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// How long the day is, in seconds of the world's time: a minute for an hour
    #[arg(long, default_value_t = commands::bench_world::day::DAY_S, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Print the result as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh bench combat`
#[derive(Args, Debug)]
pub struct BenchCombat {
    /// For how long, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Battles at a time, each with six members on four nodes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub battles: u64,
    /// Clients who watch all battles, on two frontends
    #[arg(long, default_value_t = 8)]
    pub watchers: usize,
    /// What the nodes talk over
    #[arg(long, value_enum, default_value_t = Wires::Zeromq)]
    pub transport: Wires,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// The server of `wildmesh bench frontend`
#[derive(Args, Debug)]
pub struct BenchFrontendServer {
    /// Where the gateway serves
    #[arg(long)]
    pub http: SocketAddr,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
}
