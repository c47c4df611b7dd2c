//! `wildmesh bench frontend`: how many clients one core carries, walking all over and in a crowd, and what standing costs.
//!
//! The server is a process of its own (one frontend at 10 writes a second to each client, a gateway, and the other roles,
//! which have nothing to do); all its CPU time is charged to the frontend, but for the idle part, where what the process
//! used before any client came is shared out among its nodes. The clients are the bots, in this process. What is reported
//! is a ratio of CPU time and so holds on a noisy machine: clients divided by the cores that the server used.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::up::{LocalConfig, LocalMesh};
use crate::bots::{self, BotsConfig, BotsReport, Layout};
use crate::cli::{BenchFrontend, BenchFrontendServer};
use crate::frontend::Config as FrontendConfig;
use crate::frontend::shard::Limits;

/// How long the server may take to be ready.
const READY: Duration = Duration::from_secs(15);

/// How long all clients may take to come in.
const JOINING: Duration = Duration::from_secs(300);

/// How long the mesh is left to settle before it is measured.
const SETTLE: Duration = Duration::from_secs(3);

/// How long the server is measured before any client is in.
const EMPTY: Duration = Duration::from_secs(5);

/// Nodes in the server's process, each of which costs something even when nobody is there.
const NODES: f64 = 5.0;

/// How often `/proc` counts processor time, per second (USER_HZ, 100 on every Linux).
const CLOCK_TICKS: f64 = 100.0;

#[derive(Debug, Serialize)]
struct Part {
    players: usize,
    clients_per_core: f64,
    core_share: f64,
    empty_core_share: f64,
    cpu_us_per_client_s: f64,
    tick_ms: Tick,
    age_ms: bots::Percentiles,
    wrong_positions: u64,
    missing_neighbours: u64,
    gaps: u64,
    errors: u64,
    mib_per_s: f64,
    clients_own_lag_ms: bots::Percentiles,
}

#[derive(Debug, Serialize)]
struct Tick {
    p99: f64,
}

/// Runs the command.
pub async fn run(bench: BenchFrontend) -> Result<()> {
    let spread = part("spread", bench.players, bench.seconds, |config| config).await?;
    let crowd = part("crowd", bench.crowd, bench.seconds, |c| BotsConfig { layout: Layout::Crowd, ..c }).await?;
    let idle = part("idle", bench.idle, bench.seconds, |c| BotsConfig { layout: Layout::Still, ..c }).await?;
    // The other nodes of the process cost what they cost without clients; the frontend is charged with the rest.
    let idle_core_share = idle.core_share - idle.empty_core_share * (NODES - 1.0) / NODES;
    eprintln!(
        "idle: the frontend alone uses {:.2} % of a core for {} standing clients",
        idle_core_share * 100.0,
        bench.idle
    );
    if bench.json {
        let figures = json!({ "spread": spread, "crowd": crowd, "idle": idle, "idle_core_share": idle_core_share });
        println!("{figures}");
    }
    Ok(())
}

/// Runs the server until its standard input ends, which it does at the latest when the measuring process dies.
pub async fn serve(server: BenchFrontendServer) -> Result<()> {
    let limits = Limits { every_ticks: 2, ..Limits::default() };
    let mesh = LocalMesh::start(LocalConfig {
        http: server.http,
        ..LocalConfig::small(1, FrontendConfig { limits, ..FrontendConfig::default() }, server.islands)
    })
    .await?;
    mesh.ready().await?;
    let (ended, until_ended) = tokio::sync::oneshot::channel();
    #[allow(
        clippy::disallowed_methods,
        reason = "standard input has no asynchronous form; this thread only waits for its end"
    )]
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while std::io::stdin().read(&mut sink).is_ok_and(|n| n > 0) {}
        let _ = ended.send(());
    });
    let _ = until_ended.await;
    mesh.leave().await;
    Ok(())
}

async fn part(name: &str, players: usize, seconds: u64, set: impl FnOnce(BotsConfig) -> BotsConfig) -> Result<Part> {
    let http = free_address().await?;
    let server = Server::start(http)?;
    let url = format!("http://{http}");
    ready(&url).await?;
    sleep(SETTLE).await;
    let empty_core_share = server.core_share(EMPTY).await?;
    eprintln!("{name}: {players} clients come in");
    let (reports, mut seen) = watch::channel(BotsReport::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = set(BotsConfig { players, seconds: None, joins_at_once: 64, ..BotsConfig::new(&url) });
    let running = tokio::spawn(async move {
        let stopped = async {
            // An error means that the measuring has failed: the run ends too.
            let _ = stopped.await;
        };
        bots::run_until(config, stopped, |report| {
            reports.send_replace(report.clone());
        })
        .await
    });
    let all_in = seen.wait_for(|report| report.connected >= players as u64);
    match timeout(JOINING, all_in).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => bail!("the clients have stopped: {:?}", running.await),
        Err(_) => bail!("not all of {players} clients came in within {} s", JOINING.as_secs()),
    }
    sleep(SETTLE).await;
    let (bytes, started) = (seen.borrow().bytes, Instant::now());
    let core_share = server.core_share(Duration::from_secs(seconds)).await?;
    let bytes = seen.borrow().bytes - bytes;
    let wall = started.elapsed().as_secs_f64();
    let tick_p99_us = frontend_tick_us(&url).await?;
    let _ = stop.send(());
    let report = running.await.context("the clients failed")??;
    let part = Part {
        players,
        clients_per_core: players as f64 / core_share.max(1e-6),
        core_share,
        empty_core_share,
        cpu_us_per_client_s: core_share * 1e6 / players as f64,
        tick_ms: Tick { p99: tick_p99_us / 1000.0 },
        age_ms: report.age_ms,
        wrong_positions: report.wrong_positions,
        missing_neighbours: report.missing_neighbours,
        gaps: report.gaps,
        errors: report.errors,
        mib_per_s: bytes as f64 / wall / f64::from(1 << 20),
        clients_own_lag_ms: report.own_lag_ms,
    };
    eprintln!(
        "{name}: {players} clients on {:.3} of a core = {:.0} clients per core; tick p99 {:.2} ms; age p99 {:.0} ms; faults {}",
        part.core_share,
        part.clients_per_core,
        part.tick_ms.p99,
        part.age_ms.p99,
        report.faults()
    );
    Ok(part)
}

struct Server(Child);

impl Server {
    fn start(http: SocketAddr) -> Result<Server> {
        let program: PathBuf = std::env::current_exe().context("this program does not know where it lies")?;
        let child = Command::new(program)
            .env("RUST_LOG", "warn")
            .args(["bench", "frontend-server", "--http", &http.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("could not start the server's process")?;
        Ok(Server(child))
    }

    /// The part of one core that the server uses over some time.
    async fn core_share(&self, over: Duration) -> Result<f64> {
        let (cpu, started) = (self.cpu_s()?, Instant::now());
        sleep(over).await;
        Ok((self.cpu_s()? - cpu) / started.elapsed().as_secs_f64())
    }

    /// The processor time that the server has used, in seconds (fields 14 and 15 of /proc/PID/stat, see proc(5)).
    fn cpu_s(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.0.id());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / CLOCK_TICKS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its input ends with this; killing it is for the case that it hangs.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port on loopback")?;
    Ok(listener.local_addr()?)
}

async fn ready(url: &str) -> Result<()> {
    let asked = async {
        loop {
            if reqwest::get(format!("{url}/ready")).await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(READY, asked).await.with_context(|| format!("the server was not ready within {} s", READY.as_secs()))
}

async fn frontend_tick_us(url: &str) -> Result<f64> {
    let nodes: serde_json::Value = reqwest::get(format!("{url}/v1/nodes")).await?.json().await?;
    let list = nodes.as_array().or_else(|| nodes["nodes"].as_array());
    let ticks = list.into_iter().flatten().filter(|n| n["role"] == "frontend");
    ticks.filter_map(|n| n["load"]["tick_p99_us"].as_f64()).reduce(f64::max).context("no frontend told its tick time")
}
