//! `wildmesh bots`: players who check what they are shown.

use std::time::Duration;

use anyhow::Result;

use super::signals;
use crate::bots::{self, BotsConfig, BotsReport, SettleReport};
use crate::cli;

/// Runs the command. With `--json` the report is the last line of standard output; faults do not fail the command, for
/// whoever asked for figures judges them.
pub async fn run(args: cli::Bots) -> Result<()> {
    let config = BotsConfig {
        players: args.players,
        seconds: Some(args.seconds),
        behaviour: args.behaviour,
        layout: args.layout,
        seed: args.seed.unwrap_or(1),
        settle_up: Duration::from_secs(args.settle_up),
        timeline: args.timeline,
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
        "{:5.0} s  {} of {} in  age p50 {:.0} p99 {:.0} ms  wrong {}  missing {}  gaps {}  errors {}  acknowledged {}  lost {}  \
         doubled {}  hung {}",
        report.seconds,
        report.connected,
        report.players,
        report.age_ms.p50,
        report.age_ms.p99,
        report.wrong_positions,
        report.missing_neighbours,
        report.gaps,
        report.errors,
        report.acknowledged,
        report.lost,
        report.doubled,
        report.hung
    )
}

/// What settlers did, found and saw, a line each.
pub fn settled(settle: &SettleReport) -> String {
    let mut text = format!(
        "{} acts of {} kinds done, {} asked again; {} battles, {} exchanges seen ({} of own commands); {} trades (both sides); \
         islands {:?}; {} accounts and {} objects compared; answers p50 {:.0} p99 {:.0} ms; {} findings",
        settle.acts_done(),
        settle.kinds_done(),
        settle.asked_again,
        settle.battles,
        settle.exchanges_seen,
        settle.own_exchanges,
        settle.trades_done,
        settle.islands,
        settle.accounts_checked,
        settle.objects_compared,
        settle.answer_ms.p50,
        settle.answer_ms.p99,
        settle.found()
    );
    for (op, acts) in &settle.acts {
        let refused: Vec<String> = acts.refused.iter().map(|(code, count)| format!("{code} {count}")).collect();
        text.push_str(&format!("\n  {op}: {} asked, {} done; refused: {}", acts.asked, acts.done, refused.join(", ")));
    }
    for (goal, counts) in &settle.goals {
        text.push_str(&format!("\n  goal {goal}: {} reached, {} given up", counts.done, counts.given_up));
    }
    for (kind, found) in &settle.findings {
        text.push_str(&format!("\n  FOUND {kind}: {} times, first: {}", found.count, found.first.join("; ")));
    }
    text
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
    for (cause, away) in &report.away_ms {
        let (count, p50, p99, most) = (away.count, away.p50, away.p99, away.most);
        text.push_str(&format!("\n  away ({cause}): {count} times, p50 {p50:.0} p99 {p99:.0} most {most:.0} ms"));
    }
    if let Some(settle) = &report.settle {
        text.push('\n');
        text.push_str(&settled(settle));
    }
    text
}
