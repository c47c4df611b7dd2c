//! Whole meshes in one task, on simulated transport, directory, store and time, from one seed.
//!
//! A run has two phases. In the first, walkers walk while faults befall the nodes: cuts one way and both, delay, loss, a
//! silent directory, ended watches, freezes beyond the lease, kills and restarts. Then everything is healed, and within
//! [`CONVERGE_MS`] of simulated time the mesh must be whole and every ghost equal to its real. The same configuration
//! gives the same trace, in any process: a failing seed repeats itself.

pub mod checks;
pub mod cluster;
pub mod faults;
pub mod walkers;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use tokio::time::sleep;

use checks::Truth;
use cluster::Cluster;
use faults::Nemesis;
use walkers::Walkers;

/// How long the mesh has to become whole again after the last fault, in simulated milliseconds.
pub const CONVERGE_MS: u64 = 5_000;

/// How old what is shown of something that never rests may be, in simulated milliseconds: two ticks, the network's delay, and
/// as long as a client takes to look again, twice over.
const LAG_MS: u64 = 500;

/// How long the mesh has to form at the beginning, in simulated milliseconds.
const FORM_MS: u64 = 3_000;

/// One run.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Everything that is left to chance comes from it.
    pub seed: u64,
    /// Frontends.
    pub frontends: usize,
    /// Nodes of other roles: zoo, garden, colosseum in turn.
    pub others: usize,
    /// Walkers.
    pub walkers: usize,
    /// How long faults go on, in simulated milliseconds.
    pub faults_ms: u64,
    /// A planted bug, by its name in [`planted::LIST`]; none in a true run.
    pub bug: Option<&'static str>,
}

impl SimConfig {
    /// Ten nodes and two hundred walkers.
    pub fn new(seed: u64) -> SimConfig {
        SimConfig { seed, frontends: 7, others: 3, walkers: 200, faults_ms: 15_000, bug: None }
    }
}

/// What a run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was wrong, in words; empty in a good run.
    pub violations: Vec<String>,
    /// A number that is the same for every run of the same configuration.
    pub trace: u64,
    /// Simulated milliseconds, all nodes together.
    pub node_ms: u64,
    /// What happened, by name: faults, joins, gaps, …. A run that exercises little shows it here.
    pub counts: BTreeMap<String, u64>,
}

/// Runs one seed, on a runtime of its own.
pub fn run(config: &SimConfig) -> Outcome {
    // The runtime's own builder is infallible without I/O but for lack of memory.
    #[allow(clippy::unwrap_used, reason = "a process without memory for a runtime cannot test anything")]
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let run = || runtime.block_on(simulate(config));
    match config.bug {
        Some(bug) => planted::with(bug, run),
        None => run(),
    }
}

async fn simulate(config: &SimConfig) -> Outcome {
    let mut outcome = Outcome { seed: config.seed, ..Outcome::default() };
    let mut cluster = match Cluster::start(config).await {
        Ok(cluster) => cluster,
        Err(e) => {
            outcome.violations.push(format!("the cluster did not start: {e:#}"));
            return outcome;
        }
    };
    let mut trace = checks::Trace::default();
    sleep(Duration::from_millis(FORM_MS)).await;
    let walkers = Walkers::start(config, &cluster);
    let mut nemesis = Nemesis::new(StdRng::seed_from_u64(config.seed ^ 0x006e_656d));
    let mut passed = 0;
    while passed < config.faults_ms {
        passed += nemesis.step(&mut cluster).await;
        trace.add(&checks::census(&cluster).await);
    }
    nemesis.heal(&mut cluster).await;
    tracing::info!("the last fault is over");
    walkers.rest();
    sleep(Duration::from_millis(CONVERGE_MS - LAG_MS)).await;
    let then = checks::census(&cluster).await;
    sleep(Duration::from_millis(LAG_MS)).await;
    let census = checks::census(&cluster).await;
    trace.add(&census);
    let truth = Truth::new(&then, &census, &checks::census(&cluster).await);
    outcome.violations.extend(checks::violations(&cluster, &census, &truth, &walkers));
    walkers.stop();
    outcome.counts = nemesis.counts.clone();
    walkers.count(&mut outcome.counts);
    for node in &census {
        for (name, count) in [("gaps", node.stats.gaps), ("repaired", node.stats.repaired), ("asked", node.stats.asked)]
        {
            *outcome.counts.entry(name.to_owned()).or_default() += count;
        }
    }
    outcome.trace = trace.finish();
    outcome.node_ms = (FORM_MS + passed + CONVERGE_MS) * (config.frontends + config.others) as u64;
    cluster.stop();
    outcome
}
