//! Bots: players that are programs, which load a mesh and check from outside what it shows them.
//!
//! Every bot has an account, joins over REST and WebSocket like anybody else, walks about and keeps what it is shown.
//! Since all bots of one process know where they truly are (their frontends answered them so), they check each other:
//! who ought to be in sight and is not shown, who is shown in a wrong place, how old news is when it arrives. Checks are
//! samples at a bounded rate, and are left out while the bots' own process lags, so that its slowness is NEVER taken for
//! the mesh's. All bots of a run live on one thread of their own. Nothing here is part of a node.

pub mod report;

mod registry;

mod presence;

mod checks;

mod frames;

mod walker;

pub mod settle;

mod bot;

mod shared;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh::tasks::Tasks;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep};

pub use presence::{Away, HUNG_AFTER};
pub use report::{BotsReport, ErrorKind, Gaps, Percentiles, SettleReport};
use shared::Shared;

use crate::client::{ClientError, Gateway, rest::Island};

/// How many bots join at the same time unless said otherwise.
pub const JOINS_AT_ONCE: usize = 16;
/// Bots beyond this are refused: a process has only so many sockets.
pub const MAX_PLAYERS: usize = 20_000;
/// How long a run waits for its bots to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What the bots do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Behaviour {
    /// They walk about.
    #[default]
    Walk,
    /// They live the whole game: gather, build, trade, hunt, sail.
    Settle,
}

/// Where the bots walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// All over their islands, and over all islands in turn.
    #[default]
    Spread,
    /// All within a few cells of one place on one island.
    Crowd,
    /// Everybody stands where they came in, all over the islands.
    Still,
}

/// What the bots of a run are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Play,
    /// They begin nothing new, and leave when their accounts agree.
    SettleUp,
    /// They leave.
    Leave,
}

/// What a run of bots is to do.
#[derive(Clone, Debug)]
pub struct BotsConfig {
    /// The gateway's base address, `http://host:port`.
    pub gateway: String,
    /// How many bots.
    pub players: usize,
    /// How long they play after the last one has joined or failed to; `None`: until stopped.
    pub seconds: Option<u64>,
    /// What they do.
    pub behaviour: Behaviour,
    /// Where they walk, or begin to settle.
    pub layout: Layout,
    /// Which islands they join; none named: all that the gateway lists. A crowd takes the smallest of them, and gathers
    /// round its first spawn point.
    pub islands: Vec<u32>,
    /// Decides names, passwords and walks; the same seed comes back to the same accounts.
    pub seed: u64,
    /// How many join at the same time.
    pub joins_at_once: usize,
    /// How long the bots may take at the end to finish what they have begun and to compare their accounts with what they
    /// are told; not at all if zero. It ends as soon as all have.
    pub settle_up: Duration,
    /// Where a line for every event is written, for plots.
    pub timeline: Option<PathBuf>,
}

impl BotsConfig {
    /// A hundred spread bots without end, at this gateway.
    pub fn new(gateway: impl Into<String>) -> Self {
        Self {
            gateway: gateway.into(),
            players: 100,
            seconds: None,
            behaviour: Behaviour::Walk,
            layout: Layout::Spread,
            islands: Vec::new(),
            seed: 1,
            joins_at_once: JOINS_AT_ONCE,
            settle_up: Duration::ZERO,
            timeline: None,
        }
    }
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BotsError {
    /// The gateway does not work for us.
    #[error("the islands could not be listed")]
    Gateway(#[from] ClientError),
    /// There is nowhere to walk.
    #[error("there is no island to join")]
    NoIsland,
    /// Too many bots for one process.
    #[error("at most {MAX_PLAYERS} bots fit one process")]
    TooMany,
    /// The timeline cannot be written.
    #[error("the timeline cannot be written")]
    Timeline(#[source] std::io::Error),
    /// The operating system gave us no thread.
    #[error("no thread for the bots")]
    Thread(#[from] std::io::Error),
}

/// Runs the bots for as long as the configuration says; `progress` is called about once a second.
pub async fn run(config: BotsConfig, progress: impl FnMut(&BotsReport)) -> Result<BotsReport, BotsError> {
    run_until(config, std::future::pending(), progress).await
}

/// The same, until `stop` is ready at the latest.
pub async fn run_until(
    config: BotsConfig,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(&BotsReport),
) -> Result<BotsReport, BotsError> {
    if config.players > MAX_PLAYERS {
        return Err(BotsError::TooMany);
    }
    let gateway = Gateway::new(&config.gateway)?;
    let islands = chosen_islands(&config, gateway.islands().await?)?;
    let (seconds, settle_up) = (config.seconds, config.settle_up);
    let (stopping, stopped) = watch::channel(Phase::Play);
    let shared = Arc::new(Shared::new(config, gateway, islands, stopped).map_err(BotsError::Timeline)?);
    let tasks = Tasks::real();
    start(&tasks, shared.clone())?;

    tokio::pin!(stop);
    let mut second = interval(Duration::from_secs(1));
    let mut all_tried: Option<Instant> = None;
    loop {
        tokio::select! { biased;
            () = &mut stop => break,
            _ = second.tick() => {}
        }
        shared.sweep();
        progress(&shared.report());
        if all_tried.is_none() && shared.all_tried() {
            all_tried = Some(Instant::now());
        }
        let over = all_tried.zip(seconds).is_some_and(|(since, limit)| since.elapsed() >= Duration::from_secs(limit));
        if over || shared.all_ended() {
            break;
        }
    }
    // Who was connected then is of interest, not that all have left now.
    let connected = shared.report().connected;
    stopping.send_replace(Phase::SettleUp);
    let patience = Instant::now() + settle_up;
    while !shared.all_ended() && Instant::now() < patience {
        second.tick().await;
        shared.sweep();
        progress(&shared.report());
    }
    stopping.send_replace(Phase::Leave);
    let patience = Instant::now() + GOODBYE;
    while !shared.all_ended() && Instant::now() < patience {
        sleep(Duration::from_millis(20)).await;
    }
    tasks.stop();
    shared.sweep();
    Ok(BotsReport { connected, ..shared.report() })
}

/// All bots on one thread: they need no more, and the mesh under test keeps the other cores.
fn start(tasks: &Tasks, shared: Arc<Shared>) -> std::io::Result<()> {
    let spawner = tasks.clone();
    tasks.spawn_thread("bots", move || async move {
        if let Some(commons) = shared.settle.clone() {
            let gateway = shared.gateway.clone();
            spawner.spawn(async move { commons.learn_all(&gateway).await });
        }
        for index in 0..shared.config.players {
            spawner.spawn(bot::live(shared.clone(), index));
        }
        spawner.until_stopped().await;
    })
}

fn chosen_islands(config: &BotsConfig, listed: Vec<Island>) -> Result<Vec<Island>, BotsError> {
    // An island that comes and goes is only joined by those who ask for it.
    let wanted = |island: &Island| match config.islands.is_empty() {
        true => island.stability != "unstable",
        false => config.islands.contains(&island.id),
    };
    let mut islands: Vec<Island> = listed.into_iter().filter(wanted).collect();
    islands.sort_by_key(|island| island.id);
    if config.layout == Layout::Crowd {
        // Those who arrive elsewhere on the island have a way to go.
        islands.sort_by_key(|island| (u32::from(island.width_tiles) * u32::from(island.height_tiles), island.id));
        islands.truncate(1);
    }
    if islands.is_empty() { Err(BotsError::NoIsland) } else { Ok(islands) }
}
