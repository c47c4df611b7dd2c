//! `wildmesh bots`: players who check what they are shown.

use anyhow::Result;

use super::signals;
use crate::bots::{self, BotsConfig, BotsReport};
use crate::cli;

/// Runs the command. With `--json` the report is the last line of standard output; faults do not fail the command, for
/// whoever asked for figures judges them.
pub async fn run(args: cli::Bots) -> Result<()> {
    let config = BotsConfig {
        players: args.players,
        seconds: Some(args.seconds),
        layout: args.layout,
        seed: args.seed.unwrap_or(1),
        ..BotsConfig::new(args.gateway)
    };
    let stop = async {
        // Without signals the run ends by its time.
        if signals::stop().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let report = bots::run_until(config, stop, |report| eprintln!("{}", line(report))).await?;
    eprintln!("{}", summary(&report));
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn line(report: &BotsReport) -> String {
    format!(
        "{:5.0} s  {} of {} in  age p50 {:.0} p99 {:.0} ms  wrong {}  missing {}  gaps {}  errors {}",
        report.seconds,
        report.connected,
        report.players,
        report.age_ms.p50,
        report.age_ms.p99,
        report.wrong_positions,
        report.missing_neighbours,
        report.gaps,
        report.errors
    )
}

fn summary(report: &BotsReport) -> String {
    let mut text = format!(
        "{} joined; {} places and {} neighbours checked; {} commands, {} refused; {} drops, {} resumes",
        report.joined,
        report.checks.positions,
        report.checks.neighbours,
        report.commands,
        report.refused,
        report.drops,
        report.resumes
    );
    for finding in &report.first_findings {
        text.push_str("\n  ");
        text.push_str(finding);
    }
    for (kind, errors) in &report.error_kinds {
        text.push_str(&format!("\n  {kind}: {} times, first: {}", errors.count, errors.first.join("; ")));
    }
    text
}
