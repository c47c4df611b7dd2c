//! Runs seeds of the simulation and says which fail, or plants bugs and says how many seeds find them. A failing seed repeats
//! itself with `--seed`.

use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value, json};
use tests::sim::Outcome;
use tests::sim::campaign::{self, Campaign, Found};
use tests::sim::sometimes;

/// Whole meshes on simulated transport, directory, store and time
#[derive(Parser)]
#[command(name = "wildmesh-sim", version)]
struct Args {
    /// How many seeds to run; 1 if --seed is given, otherwise 10
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long)]
    seed: Option<u64>,
    /// Log what the nodes say (RUST_LOG chooses what)
    #[arg(long)]
    trace: bool,
    /// Print the result as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Threads; each runs whole seeds
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Plant this bug, by its name in the list of planted bugs
    #[arg(long)]
    bug: Option<String>,
    /// List the bugs that can be planted: name, who finds it (the simulation or a test), the test if one is named, what goes
    /// wrong; separated by tabulators
    #[arg(long)]
    list: bool,
    /// Plant every bug that the simulation is to find in turn (or the one of --bug) and count the seeds until it is found
    #[arg(long)]
    mutations: bool,
    /// With --mutations: how often each is hunted for, with other seeds
    #[arg(long, default_value_t = 1)]
    tries: u64,
}

/// Logs carry simulated milliseconds.
struct SimulatedTime(std::sync::OnceLock<tokio::time::Instant>);

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let now = tokio::time::Instant::now();
        write!(w, "{:>6} ms", now.saturating_duration_since(*self.0.get_or_init(|| now)).as_millis())
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
            .with_timer(SimulatedTime(std::sync::OnceLock::new()))
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
    if args.list {
        planted::LIST.iter().for_each(|bug| {
            let finder = if bug.simulated { "simulation" } else { "test" };
            println!("{}\t{finder}\t{}\t{}", bug.name, bug.found_by, bug.what);
        });
        return ExitCode::SUCCESS;
    }
    let first = args.seed.unwrap_or(0);
    if args.mutations {
        return hunt(&args, bug, first);
    }
    let count = args.seeds.unwrap_or(if args.seed.is_some() { 1 } else { 10 });
    let seeds: Vec<u64> = (first..first + count).collect();
    let done = Campaign::run(&seeds, bug, args.threads, tell);
    report(&done);
    if args.json {
        println!("{}", summary(&done, &[]));
    }
    if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(outcome: &Outcome) {
    eprintln!("seed {}: trace {:016x}, {} violations", outcome.seed, outcome.trace, outcome.violations.len());
    outcome.violations.iter().for_each(|v| eprintln!("  {v}"));
}

fn report(done: &Campaign) {
    let failed: Vec<u64> = done.failed.iter().map(|outcome| outcome.seed).collect();
    eprintln!("{} seeds, {:.2} node-hours, {} failed: {failed:?}", done.seeds, done.node_hours(), failed.len());
    eprintln!("faults: {:?}", done.faults);
    eprintln!("what happened now and then: {:?}", done.sometimes);
    let never = sometimes::missing(&done.sometimes);
    if !never.is_empty() {
        eprintln!("what never happened: {never:?}");
    }
}

fn hunt(args: &Args, bug: Option<&'static str>, first: u64) -> ExitCode {
    let bugs: Vec<&'static str> =
        planted::LIST.iter().filter(|it| bug.map_or(it.simulated, |bug| bug == it.name)).map(|it| it.name).collect();
    let all = campaign::hunt(&bugs, args.tries, first, args.threads, |found| {
        let after = found.median().map_or("not found".to_owned(), |after| format!("found after {after} seeds"));
        eprintln!("{:<28} {after} {:?}: {}", found.bug, found.after, found.by);
    });
    if args.json {
        println!("{}", summary(&Campaign::default(), &all));
    }
    if all.iter().all(|found| found.median().is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(done: &Campaign, hunted: &[Found]) -> Value {
    let medians: Map<String, Value> =
        hunted.iter().filter_map(|found| Some((found.bug.to_owned(), found.median()?.into()))).collect();
    json!({
        "seeds": done.seeds,
        "violations": done.failed.iter().map(|outcome| outcome.violations.len()).sum::<usize>(),
        "failed": done.failed.iter().map(|outcome| outcome.seed).collect::<Vec<_>>(),
        "node_hours": done.node_hours(),
        "faults": done.faults,
        "sometimes": done.sometimes,
        "mutations": { "planted": hunted.len(), "found": medians.len(), "median_seeds": medians },
    })
}
