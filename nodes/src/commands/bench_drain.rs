//! `wildmesh bench drain`: players on one frontend, two more beside it, and how long each hears nothing when the first is
//! emptied while they play.
//!
//! A whole mesh in this process, with real sockets to bots on a thread of their own. A gap is what a client sees: from the last
//! that it heard of the old frontend to the first that it heard of the new one. It NEVER counts who was not there before.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh::Role;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::up::{LocalConfig, LocalMesh};
use crate::bots::{self, BotsConfig, BotsReport, Gaps};
use crate::cli::BenchDrain;
use crate::frontend::Config as FrontendConfig;
use crate::protocol::codes;
use crate::wiring::DRAIN_TIMEOUT;

/// How long all may take to come in.
const JOINING: Duration = Duration::from_secs(300);

/// The frontends that are there besides the one that is emptied.
const OTHERS: u32 = 2;

/// Refusals that asking again under the same number does not mend, and that only a player's move could cause.
const UNMENDABLE: [&str; 4] = [codes::FENCED, codes::STALE, codes::UNKNOWN_OP, codes::MALFORMED];

/// What is printed.
#[derive(Debug, Serialize)]
struct Figures {
    /// Players on the frontend when it was told to empty itself.
    players: u64,
    /// Of them, those that followed a redirect.
    moved: u64,
    /// Connections that were lost without one.
    dropped: u64,
    /// Commands refused for good because of it.
    refused: u64,
    gap_ms: Gaps,
    /// How long it took until the frontend was gone.
    drain_s: f64,
    /// Players who were more than two tiles from where they knew themselves afterwards.
    jumps: u64,
    /// Faults that the bots saw in the whole run, those before the drain among them.
    faults: u64,
    /// Those since the drain began, by kind.
    faults_by_kind: BTreeMap<&'static str, u64>,
    /// How late the bots' own timers were: what the gaps owe to them.
    clients_own_lag_ms: bots::Percentiles,
}

/// Runs the command.
pub async fn run(bench: BenchDrain) -> Result<()> {
    let config =
        LocalConfig { wires: bench.transport, ..LocalConfig::small(1, FrontendConfig::default(), bench.islands) };
    let mut mesh = LocalMesh::start(config).await?;
    mesh.ready().await?;
    let (reports, seen) = watch::channel(BotsReport::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let players = bench.players;
    let config = BotsConfig {
        players,
        seconds: None,
        behaviour: bench.behaviour,
        layout: bench.layout,
        joins_at_once: 64,
        ..BotsConfig::new(format!("http://{}", mesh.http))
    };
    let until = async {
        // An error means that this run is over.
        let _ = stopped.await;
    };
    let playing = bots::run_until(config, until, |report| drop(reports.send_replace(report.clone())));
    let pause = Duration::from_secs(bench.seconds);
    let measured = async {
        let drained = drain(&mut mesh, players as u64, seen.clone(), pause).await;
        // An error means that the bots have stopped by themselves.
        let _ = stop.send(());
        drained
    };
    let (report, drained) = tokio::join!(playing, measured);
    let (report, (before, drain_s)) = (report?, drained?);
    mesh.leave().await;
    let figures = figures(&before, &report, drain_s);
    eprintln!(
        "{} of {} players moved in {:.1} s, {} dropped, {} refused for good; gaps p50 {:.0} p99 {:.0} max {:.0} ms",
        figures.moved,
        figures.players,
        figures.drain_s,
        figures.dropped,
        figures.refused,
        figures.gap_ms.p50,
        figures.gap_ms.p99,
        figures.gap_ms.max
    );
    for (kind, errors) in &report.error_kinds {
        eprintln!("  {kind}: {} times, first: {}", errors.count, errors.first.join("; "));
    }
    report.first_findings.iter().for_each(|finding| eprintln!("  {finding}"));
    if bench.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// Waits until all play on the one frontend, adds the others, empties the first, and lets all play on. What the bots had seen
/// before, and how long it took.
async fn drain(
    mesh: &mut LocalMesh,
    players: u64,
    mut seen: watch::Receiver<BotsReport>,
    pause: Duration,
) -> Result<(BotsReport, f64)> {
    let joined = timeout(JOINING, seen.wait_for(|report| report.connected >= players)).await;
    joined.with_context(|| format!("not all players came in within {} s", JOINING.as_secs()))?.context("no bots")?;
    for number in 2..=OTHERS + 1 {
        mesh.add(Role::Frontend, number).await?;
    }
    mesh.ready().await?;
    sleep(pause).await;
    let at = mesh.nodes.iter().position(|node| node.mesh.me().role == Role::Frontend);
    let Some(first) = at.map(|at| mesh.nodes.remove(at)) else { bail!("there is no frontend") };
    let before = BotsReport { connected: u64::from(first.report.borrow().load.players), ..seen.borrow().clone() };
    eprintln!("{} is emptied of {} players", first.mesh.me().node, before.connected);
    let began = Instant::now();
    first.drain(DRAIN_TIMEOUT, std::future::pending()).await;
    let drain_s = began.elapsed().as_secs_f64();
    sleep(pause).await;
    Ok((before, drain_s))
}

fn figures(before: &BotsReport, after: &BotsReport, drain_s: f64) -> Figures {
    let unmendable =
        |report: &BotsReport| UNMENDABLE.iter().filter_map(|code| report.refused_by_code.get(*code)).sum::<u64>();
    let kinds = after.faults_by_kind().into_iter().zip(before.faults_by_kind());
    let since = kinds.map(|((kind, after), (_, before))| (kind, after.saturating_sub(before)));
    Figures {
        players: before.connected,
        moved: after.redirects.saturating_sub(before.redirects),
        dropped: after.drops.saturating_sub(before.drops),
        refused: unmendable(after).saturating_sub(unmendable(before)),
        gap_ms: after.gap_ms,
        drain_s,
        jumps: after.jumps.saturating_sub(before.jumps),
        faults: after.faults(),
        faults_by_kind: since.filter(|(_, count)| *count > 0).collect(),
        clients_own_lag_ms: after.own_lag_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_of_the_drain_alone() {
        let before = BotsReport { connected: 7, redirects: 1, drops: 2, jumps: 3, ..BotsReport::default() };
        let mut after = BotsReport { redirects: 8, drops: 3, jumps: 3, ..before.clone() };
        after.refused_by_code.insert(codes::FENCED.to_owned(), 2);
        after.refused_by_code.insert(codes::BLOCKED.to_owned(), 9);
        after.gap_ms = Gaps { p50: 30.0, p99: 90.0, max: 120.0 };
        after.gaps = 4;
        let figures = serde_json::to_value(figures(&before, &after, 1.5)).expect("JSON");
        let expected = serde_json::json!({ "players": 7, "moved": 7, "dropped": 1, "refused": 2, "jumps": 0, "drain_s": 1.5,
            "faults": 4, "faults_by_kind": { "gaps": 4 },
            "gap_ms": { "p50": 30.0, "p99": 90.0, "max": 120.0 } });
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(figures[name], *value, "{name}");
        }
    }
}
