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
    /// Plant this bug: no_gap_repair, no_verify, no_version_check, no_keyframe_removal, no_ghost_ageing
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
    let Some(bugs) = sim::planted(args.bug.as_deref()) else {
        eprintln!("error: no bug is called {:?}; see --help", args.bug.unwrap_or_default());
        return ExitCode::FAILURE;
    };
    let (first, count) = match args.seed {
        Some(seed) => (seed, if args.seeds == 10 { 1 } else { args.seeds }),
        None => (0, args.seeds),
    };
    let (mut violations, mut node_ms) = (0, 0);
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for seed in first..first + count {
        let outcome = sim::run(&SimConfig { seed, bugs });
        eprintln!("seed {seed}: trace {:016x}, {} violations", outcome.trace, outcome.violations.len());
        outcome.violations.iter().for_each(|v| eprintln!("  {v}"));
        violations += outcome.violations.len();
        node_ms += outcome.node_ms;
        outcome.sometimes.into_iter().for_each(|(name, n)| *counts.entry(name).or_default() += n);
    }
    let node_hours = node_ms as f64 / 3_600_000.0;
    eprintln!("{count} seeds, {node_hours:.2} node-hours, {violations} violations; what happened: {counts:?}");
    if args.json {
        println!("{}", json!({ "seeds": count, "violations": violations, "node_hours": node_hours, "counts": counts }));
    }
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
