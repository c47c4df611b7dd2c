//! Chaos: a whole cluster of real processes in network namespaces, a seeded schedule of faults, and bots that keep accounts.
//!
//! Exits with 1 if anything was lost, doubled or hung, if a process died by itself or has grown, or if the documents are not
//! whole; then everything that tells why stays in the report's folder.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tests::chaos::plan::Only;
use tests::chaos::run::{self, Options, Stop};

/// A cluster of real processes under kills, freezes, cuts and replacements, while bots keep their accounts
#[derive(Parser)]
#[command(name = "wildmesh-chaos", version)]
struct Args {
    /// How long faults happen, in minutes
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// How many bots play
    #[arg(long, default_value_t = 60)]
    bots: usize,
    /// What faults and bots are drawn from [default: random, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Only this
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Where report, logs and data go [default: a folder of its own among the temporary ones, printed]
    #[arg(long)]
    report: Option<PathBuf>,
    /// What nodes log, as RUST_LOG has it
    #[arg(long, default_value = "info")]
    log: String,
    /// Start all nodes with this program, and bring them back with the one under test: a deploy with mixed versions
    #[arg(long, value_name = "PROGRAM")]
    upgrade_from: Option<PathBuf>,
    /// Keep documents and the directory's data, also of a good run
    #[arg(long)]
    keep: bool,
    /// Print the figures as JSON on the last line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match chaos(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chaos(args: Args) -> Result<bool> {
    let stop = Stop::default();
    stop_at_signals(&stop)?;
    let seed = args.seed.unwrap_or_else(|| rand::random::<u64>() % 1_000_000);
    let folder = match args.report {
        Some(folder) => std::path::absolute(folder).context("the report's folder")?,
        None => tempfile::Builder::new().prefix("wildmesh-chaos-").tempdir()?.keep(),
    };
    let length = Duration::try_from_secs_f64(args.minutes * 60.0).context("--minutes")?;
    let upgrade_from = args.upgrade_from.map(|program| program.canonicalize().context("--upgrade-from")).transpose()?;
    let Args { bots, only, log: verbose, .. } = args;
    let options = Options { length, bots, seed, only, folder, verbose, upgrade_from, loud: true };
    let outcome = run::run(&options, &stop).with_context(|| format!("logs are in {}", options.folder.display()))?;
    if outcome.failures.is_empty() && !args.keep {
        for name in ["store", "etcd-0", "etcd-1", "etcd-2"] {
            // Only room is lost if they stay.
            let _ = std::fs::remove_dir_all(options.folder.join(name));
        }
    }
    println!("{}report: {}", outcome.text, options.folder.join("report.html").display());
    if args.json {
        println!("{}", outcome.json);
    }
    Ok(outcome.failures.is_empty())
}

/// At Ctrl-C and SIGTERM the run ends and takes everything down that it started; at the second one the program ends at once.
fn stop_at_signals(stop: &Stop) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
                eprintln!("stopping");
            }
        });
    });
    Ok(())
}
