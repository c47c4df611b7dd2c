//! The command line: what people may write, and what becomes of an error.
//!
//! A command's last line on standard output is its result when `--json` is given; logs and progress go to standard error.

mod bench;
mod documents;

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh::Role;

use crate::bots::{Behaviour, Layout};
use crate::commands;
use crate::gateway;
use crate::wiring::{self, drivers::StoreSpec};
pub use bench::{
    Bench, BenchAdmission, BenchCombat, BenchDay, BenchDrain, BenchEstate, BenchFrontend, BenchFrontendServer,
    BenchMesh, BenchPopulation, BenchWorld,
};
pub use documents::{Audit, Deed, Estate, Give, Migrate, Show, Store, StoreArg};

/// A game server for one seamless, lasting world, run by a mesh of equal nodes.
#[derive(Debug, Parser)]
#[command(name = "wildmesh", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole mesh in one process, and a page to look at it
    Up(Up),
    /// Run one node, found by the others through etcd
    Node(Box<Node>),
    /// Send players who check what they are shown
    Bots(Bots),
    /// Show the mesh as its members see it; disagreements are marked
    Status(Status),
    /// Empty a node: what it has goes to others, and it leaves
    Drain(Drain),
    /// Set up or try out where documents lie
    #[command(subcommand)]
    Store(Store),
    /// Look at documents, check them all, and mend what is safe to mend
    #[command(subcommand)]
    Estate(Estate),
    /// Tell which documents this program could not read
    Migrate(Migrate),
    /// Look at the game's data files
    #[command(subcommand)]
    Content(ContentCommand),
    /// Measure, as ratios and medians in one run
    #[command(subcommand)]
    Bench(Bench),
}

/// `wildmesh up`
#[derive(Args, Debug)]
pub struct Up {
    /// How many frontends
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub frontends: u32,
    /// How many zoos, which own the animals
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub zoos: u32,
    /// How many gardens, which own what stands on the land
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub gardens: u32,
    /// How many colosseums, which own the battles
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub colosseums: u32,
    /// How many players of our own walk about
    #[arg(long, default_value_t = 0)]
    pub bots: usize,
    /// What they do
    #[arg(long, value_enum, default_value_t = Behaviour::Walk)]
    pub behaviour: Behaviour,
    /// Where they walk, or begin to settle
    #[arg(long, value_enum, default_value_t = Layout::Spread)]
    pub layout: Layout,
    /// The folder for documents, or `memory`
    #[arg(long, default_value = "data")]
    pub data: StoreSpec,
    /// Where the gateway serves REST and the page
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// What the nodes talk over
    #[arg(long, value_enum, default_value_t = Wires::Memory)]
    pub transport: Wires,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// The folder of the game's data files [default: those that come with the program]
    #[arg(long)]
    pub content: Option<PathBuf>,
    /// How players are let in
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// How islands come and go
    #[command(flatten)]
    pub unstable: UnstableArgs,
}

/// How unstable islands are looked after.
#[derive(Args, Clone, Debug)]
pub struct UnstableArgs {
    /// How long an unstable island lives, in seconds, a fifth more or less
    #[arg(long, default_value_t = 7_200, value_parser = clap::value_parser!(u64).range(20..=31_536_000))]
    pub unstable_life: u64,
    /// Players that an unstable island is meant for
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub unstable_players: u32,
    /// Unstable islands that there are even with nobody in the world
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=800))]
    pub unstable_least: u32,
    /// Unstable islands of a district, at most; 0 for none at all
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(0..=800))]
    pub unstable_most: u32,
    /// Animals of unstable islands for each player of the district, at most
    #[arg(long, default_value_t = 4)]
    pub unstable_animals: u32,
}

/// `wildmesh node`
#[derive(Args, Debug)]
pub struct Node {
    /// What the node does: frontend, gateway, zoo, garden or colosseum
    #[arg(long)]
    pub role: Role,
    /// Its name, unique in the cluster [default: the role and four random letters]
    #[arg(long)]
    pub name: Option<String>,
    /// The directory's addresses, separated by commas
    #[arg(long, env = "WILDMESH_ETCD", default_value = "http://127.0.0.1:2379")]
    pub etcd: String,
    /// Where documents lie: `embedded:DIR` (shared by the processes of one machine), `memory`, or
    /// `couchbase://USER@HOST[,HOST]/BUCKET[/SCOPE[/COLLECTION]]` (`couchbases://` for TLS) with the password in
    /// WILDMESH_STORE_PASSWORD
    #[arg(long, env = "WILDMESH_STORE", hide_env_values = true)]
    pub store: StoreSpec,
    /// The cluster: nodes of different clusters never mix
    #[arg(long, env = "WILDMESH_CLUSTER", default_value = "wildmesh")]
    pub cluster: String,
    /// The district: nodes connect within theirs
    #[arg(long, env = "WILDMESH_DISTRICT", default_value = "main")]
    pub district: String,
    /// The cluster's secret, the same on all nodes
    #[arg(long, env = "WILDMESH_KEY", hide_env_values = true)]
    pub key: String,
    /// The address on which the mesh's sockets listen
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// The address or name under which other nodes reach them [default: the one of --bind]
    #[arg(long)]
    pub advertise: Option<String>,
    /// Where clients come in (frontend: WebSocket, gateway: HTTP) [default: any port of --bind; gateway: 8080]
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// The address that clients are told [default: the one of --listen]
    #[arg(long)]
    pub public: Option<String>,
    /// Where metrics and health are served over HTTP, for roles other than the gateway
    #[arg(long)]
    pub ops: Option<SocketAddr>,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// The folder of the game's data files, the same on all nodes [default: those that come with the program]
    #[arg(long)]
    pub content: Option<PathBuf>,
    /// How long the node's record outlives its last keep-alive, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=60))]
    pub lease: u32,
    /// How long the node may take to hand over what it has when it is to leave (SIGTERM, `wildmesh drain`), in seconds; then
    /// the rest is saved and let go. A second signal does that at once
    #[arg(long, default_value_t = wiring::DRAIN_TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain_timeout: u64,
    /// The frontend's bounds
    #[command(flatten)]
    pub frontend: FrontendArgs,
    /// How a gateway lets players in
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// How islands come and go, if this node is elected to look after them
    #[command(flatten)]
    pub unstable: UnstableArgs,
}

/// How players are let in.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// Players that a district lets in each second, at most; the same on all its gateways
    #[arg(long, default_value_t = gateway::ADMISSIONS_PER_SECOND, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub admissions_per_second: u32,
    /// Players who may wait in line, at most; beyond it logins are refused
    #[arg(long, default_value_t = gateway::QUEUE_MOST as u32)]
    pub queue_most: u32,
}

/// The bounds of a frontend.
#[derive(Args, Clone, Debug)]
pub struct FrontendArgs {
    /// Players that a frontend takes at most
    #[arg(long, default_value_t = 12_000)]
    pub capacity: u32,
    /// Threads of a frontend that write to sockets
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: u32,
    /// How often a client is written to, per second: 20, 10 or 5
    #[arg(long, default_value_t = 20, value_parser = parse_hz)]
    pub stream_hz: u32,
}

/// `wildmesh bots`
#[derive(Args, Debug)]
pub struct Bots {
    /// A gateway, or several separated by commas: the next is asked when one does not answer
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub gateway: String,
    /// How many
    #[arg(long, default_value_t = 100)]
    pub players: usize,
    /// For how long, in seconds, once they are in
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// What they do
    #[arg(long, value_enum, default_value_t = Behaviour::Walk)]
    pub behaviour: Behaviour,
    /// Where they walk, or begin to settle
    #[arg(long, value_enum, default_value_t = Layout::Spread)]
    pub layout: Layout,
    /// What their ways and names are drawn from
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long they may take at the end (or when told to stop) to finish what they have begun and compare their accounts with
    /// what they are told, in seconds
    #[arg(long, default_value_t = 0)]
    pub settle_up: u64,
    /// Write a line for every event to this file: milliseconds since 1970, bot, event, detail, separated by tabs
    #[arg(long)]
    pub timeline: Option<PathBuf>,
    /// Print the report as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh status`
#[derive(Args, Debug)]
pub struct Status {
    /// A gateway
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub gateway: String,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh drain`
#[derive(Args, Debug)]
pub struct Drain {
    /// The node, by its name
    pub node: String,
    /// The directory's addresses, separated by commas
    #[arg(long, env = "WILDMESH_ETCD", default_value = "http://127.0.0.1:2379")]
    pub etcd: String,
    /// The cluster to which it belongs
    #[arg(long, env = "WILDMESH_CLUSTER", default_value = "wildmesh")]
    pub cluster: String,
    /// The district to which it belongs
    #[arg(long, env = "WILDMESH_DISTRICT", default_value = "main")]
    pub district: String,
    /// Why, for the node's log
    #[arg(long, default_value = "wildmesh drain")]
    pub reason: String,
    /// For how long to wait until it is gone, in seconds; it goes on emptying itself after that
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Print the result as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh content`
#[derive(Debug, Subcommand)]
pub enum ContentCommand {
    /// Check the data files: `ok`, or every error with file, line and field
    Check {
        /// A folder of items.toml, naturals.toml, facilities.toml, recipes.toml, species.toml and tuning.toml [default: those
        /// that come with the program]
        folder: Option<PathBuf>,
    },
}

/// What nodes of one process talk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wires {
    /// Channels in memory
    Memory,
    /// ZeroMQ over loopback, as between machines
    Zeromq,
}

fn parse_hz(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(hz @ (20 | 10 | 5)) => Ok(hz),
        _ => Err(
            "a frontend ticks 20 times a second and writes at every tick, every second or every fourth: 20, 10 or 5"
                .to_owned(),
        ),
    }
}

/// Runs what was asked, and tells an error whole: what failed, and why, one cause a line.
pub fn run(cli: Cli) -> ExitCode {
    logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: could not start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        let done = match cli.command {
            Command::Up(up) => commands::up::run(up).await,
            Command::Node(node) => commands::node::run(*node).await,
            Command::Bots(bots) => commands::bots::run(bots).await,
            Command::Status(status) => commands::status::run(status).await,
            // These tell by their exit code what they found.
            Command::Drain(drain) => return commands::drain::run(drain).await,
            Command::Estate(estate) => return commands::estate::run(estate).await,
            Command::Migrate(migrate) => return commands::estate::migrate(migrate).await,
            Command::Content(ContentCommand::Check { folder }) => return Ok(commands::content::check(folder)),
            Command::Store(Store::Init(store)) => commands::store::init(store).await,
            Command::Store(Store::Check(store)) => commands::store::check(store).await,
            Command::Bench(Bench::Admission(bench)) => commands::bench_admission::run(bench).await,
            Command::Bench(Bench::Population(bench)) => commands::bench_population::run(&bench),
            Command::Bench(Bench::Mesh(bench)) => commands::bench_mesh::run(bench).await,
            Command::Bench(Bench::Drain(bench)) => commands::bench_drain::run(bench).await,
            Command::Bench(Bench::Combat(bench)) => commands::bench_combat::run(bench).await,
            Command::Bench(Bench::Estate(bench)) => commands::bench_estate::run(bench).await,
            Command::Bench(Bench::World(bench)) => commands::bench_world::run(bench).await,
            Command::Bench(Bench::Day(bench)) => commands::bench_world::day::run(&bench),
            Command::Bench(Bench::Frontend(bench)) => commands::bench_frontend::run(bench).await,
            Command::Bench(Bench::FrontendServer(server)) => commands::bench_frontend::serve(server).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e}");
            e.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error; `RUST_LOG` chooses what, `WILDMESH_LOG=json` how.
fn logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        // Couchbase's SDK tells of every connection it makes; what matters of it the store says itself.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,couchbase=error,couchbase_core=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours are for people; in a file they are noise that no search expects.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // Set once, at the start; a second time (in tests) changes nothing.
    if std::env::var("WILDMESH_LOG").is_ok_and(|form| form == "json") {
        let _ = builder.json().try_init();
    } else {
        let _ = builder.with_target(false).try_init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_flags_are_refused_with_what_is_allowed() {
        for (line, said) in [
            ("wildmesh node --role wizard --store memory --key k", "the roles are"),
            ("wildmesh node --role zoo --store mongo:x --key k", "not a kind of store"),
            ("wildmesh node --role frontend --store memory --key k --stream-hz 7", "20, 10 or 5"),
            ("wildmesh up --frontends 0", "1..=64"),
            ("wildmesh up --http nowhere", "--http"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
