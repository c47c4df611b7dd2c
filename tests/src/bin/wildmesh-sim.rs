//! Runs seeds of the simulation and says which fail. A failing seed repeats itself with `--seed`.

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tests::sim::{self, SimConfig};

/// Whole meshes on simulated transport, directory, store and time
#[derive(Parser)]
#[command(name = "wildmesh-sim", version)]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first seed, or the only one when --seeds is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Log what the nodes say (RUST_LOG chooses what)
    #[arg(long)]
    trace: bool,
    /// Print the result as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Plant this bug, by its name in the list of planted bugs
    #[arg(long)]
    bug: Option<String>,
}

/// Logs carry simulated milliseconds.
struct SimulatedTime(tokio::time::Instant);

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:>6} ms", tokio::time::Instant::now().saturating_duration_since(self.0).as_millis())
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.trace {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_timer(SimulatedTime(tokio::time::Instant::now()))
            .init();
    }
    let bug = args.bug.as_deref().map(|name| planted::find(name).ok_or(name)).transpose();
    let bug = match bug {
        Ok(bug) => bug.map(|bug| bug.name),
        Err(name) => {
            eprintln!("error: no bug is called {name:?}; there are:");
            planted::LIST.iter().for_each(|bug| eprintln!("  {:<26} {}", bug.name, bug.what));
            return ExitCode::FAILURE;
        }
    };
    let (first, count) = match args.seed {
        Some(seed) => (seed, if args.seeds == 10 { 1 } else { args.seeds }),
        None => (0, args.seeds),
    };
    let (mut violations, mut node_ms) = (0, 0);
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for seed in first..first + count {
        let outcome = sim::run(&SimConfig { bug, ..SimConfig::new(seed) });
        eprintln!("seed {seed}: trace {:016x}, {} violations", outcome.trace, outcome.violations.len());
        outcome.violations.iter().for_each(|v| eprintln!("  {v}"));
        violations += outcome.violations.len();
        node_ms += outcome.node_ms;
        outcome.counts.into_iter().for_each(|(name, n)| *counts.entry(name).or_default() += n);
    }
    let node_hours = node_ms as f64 / 3_600_000.0;
    eprintln!("{count} seeds, {node_hours:.2} node-hours, {violations} violations; what happened: {counts:?}");
    if args.json {
        println!("{}", json!({ "seeds": count, "violations": violations, "node_hours": node_hours, "counts": counts }));
    }
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
