//! Hammers one store from eight processes that are killed at random, and proves that nothing was lost, doubled or left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tests::couchbase::{Options, TestServer};
use tests::hammer::child::{self, Life};
use tests::hammer::parent::{self, Hammering};
use tokio::process::Command;

/// Land and goods on few documents, by many processes that die
#[derive(Parser)]
#[command(name = "wildmesh-hammer", version)]
struct Args {
    /// How long processes are killed, in seconds
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// An empty store: a folder or couchbase://… [default: a folder of its own, taken away if all is well]
    #[arg(long)]
    store: Option<String>,
    /// Instead: a Couchbase test server of so many nodes
    #[arg(long, conflicts_with = "store")]
    couchbase_nodes: Option<usize>,
    /// What kills and operations are drawn from [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Be one of the processes
    #[arg(long, hide = true)]
    child: bool,
    /// The process's log
    #[arg(long, hide = true)]
    log: Option<PathBuf>,
    /// The log of the one before
    #[arg(long, hide = true)]
    predecessor: Option<PathBuf>,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let mut builder = if args.child {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(args));
    // A process that waits for its standard input on a thread must not wait for it at its end.
    runtime.shutdown_background();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(rand::random);
    if args.child {
        let store = args.store.context("--store")?;
        let life = Life { store, log: args.log.context("--log")?, predecessor: args.predecessor, seed };
        return child::run(life).await.map(|()| true);
    }
    let folder = tempfile::Builder::new().prefix("wildmesh-hammer-").tempdir()?;
    let server = match args.couchbase_nodes {
        Some(nodes) => Some(TestServer::start(Options { nodes, ..Options::default() }).await?),
        None => None,
    };
    let store = match (&server, args.store) {
        (Some(server), _) => server.address(),
        (None, Some(store)) => store,
        (None, None) => folder.path().join("store").display().to_string(),
    };
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs)?;
    eprintln!("seed {seed}, logs in {}", logs.display());
    let hammering = Hammering { store, logs, seconds: args.seconds, seed };
    let own = std::env::current_exe().context("own path")?;
    let outcome = parent::run(&hammering, || Command::new(&own)).await;
    if !outcome.as_ref().is_ok_and(parent::Outcome::is_good) {
        // For whoever looks into it.
        eprintln!("kept: {}", folder.keep().display());
    }
    let outcome = outcome?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(outcome.is_good())
}
