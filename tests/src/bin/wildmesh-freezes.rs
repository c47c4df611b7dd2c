//! Freezes and thaws owners in a row and shows that there never were two: see `tests::freezes`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tests::freezes;

/// Owners of real processes that are stopped beyond their lease while players are on them, and go on
#[derive(Parser)]
#[command(name = "wildmesh-freezes", version)]
struct Args {
    /// How many owners are frozen, one after the other
    #[arg(long, default_value_t = 64)]
    freezes: u32,
    /// Print the result as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Be so many players who watch, and do what standard input says
    #[arg(long, hide = true, requires = "gateway")]
    witnesses: Option<usize>,
    /// Where they come in
    #[arg(long, hide = true)]
    gateway: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if there never were two owners.
fn run(args: &Args) -> Result<bool> {
    if let (Some(count), Some(gateway)) = (args.witnesses, &args.gateway) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(freezes::witness::run(gateway, count))?;
        return Ok(true);
    }
    let outcome = freezes::run(args.freezes, &std::env::current_exe().context("this program's own path")?);
    outcome.violations.iter().for_each(|violation| eprintln!("  {violation}"));
    eprintln!("{} freezes, {} violations: {outcome:?}", outcome.freezes, outcome.violations.len());
    if args.json {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(outcome.violations.is_empty())
}
