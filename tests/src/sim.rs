//! Whole meshes of real role code in one task, on simulated transport, directory, store and time, from one seed.
//!
//! A run has two phases. In the first, people play while faults befall the nodes ([`plan`] draws both from the seed), and at
//! every look nobody may act as an owner beside another. Then everything is healed, people bring to an end what they have
//! begun, and within [`CONVERGE_MS`] of simulated time the mesh must be whole: every ghost equal to its real, everybody in,
//! every document owned by who lives, every account equal to the documents. The same seed gives the same trace, in any
//! process: a failing seed repeats itself.
//!
//! Workload ([`people`]), faults ([`faults`]) and checkers ([`checks`], [`books`], [`documents`]) are apart. What is modelled on:
//! the simulation of FoundationDB (Zhou et al., SIGMOD 2021) and TigerBeetle's VOPR. NOT simulated: gateways (they serve HTTP),
//! the drivers of etcd, Couchbase, LMDB and ZeroMQ, threads, and the system's memory and files.

pub mod plan;

pub mod cluster;
pub mod documents;
pub mod lands;

pub mod books;
pub mod people;

pub mod faults;

pub mod checks;
pub mod sometimes;

pub mod campaign;
pub mod regressions;

use std::collections::BTreeMap;
use std::time::Duration;

use estate::audit::{Rule, audit};
use estate::goods::balance::balance;
use estate::store::Stored;
use serde::Serialize;
use tokio::time::sleep;

pub use plan::{Plan, SimConfig};

use checks::beliefs::{self, Beliefs};
use checks::owners::Owners;
use checks::whole::{self, Truth};
use checks::{Trace, census};
use cluster::Cluster;
use faults::Nemesis;
use people::People;
use sometimes::Counts;

/// How long the mesh has to become whole again after the last fault, in simulated milliseconds: longer than a lease, a
/// client's patience at a door, and an act's flow together.
pub const CONVERGE_MS: u64 = 90_000;

/// How old what is shown of something that never rests may be, in simulated milliseconds: two ticks, the network's delay, and
/// as long as a client takes to look again, twice over.
const LAG_MS: u64 = 500;

/// Between two looks at all nodes, in simulated milliseconds.
const LOOK_MS: u64 = 250;

/// Between two looks whether the mesh is whole again, in simulated milliseconds.
const WHOLE_MS: u64 = 2_000;

/// How often to look for a moment without transactions, at most.
const REST_LOOKS: usize = 60;

/// How long after a node's death another cannot reach the directory, from when to when, and by when everybody must know of
/// it, in simulated milliseconds: the dead one's lease ends meanwhile, and the other keeps its own.
const UNSEEN_MS: (u64, u64) = (3_000, 6_000);
const KNOWN_MS: u64 = 12_000;

/// How long the mesh has to form at the beginning, in simulated milliseconds.
const FORM_MS: u64 = 2_000;

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
    /// How many faults of each kind there were.
    pub faults: BTreeMap<String, u64>,
    /// What happened now and then, by name: see [`sometimes`].
    pub sometimes: BTreeMap<String, u64>,
}

/// Runs one seed, on a runtime of its own.
pub fn run(config: &SimConfig) -> Outcome {
    // The runtime's own builder is infallible without I/O but for lack of memory.
    #[allow(clippy::unwrap_used, reason = "a process without memory for a runtime cannot test anything")]
    let runtime = crate::pipe::runtime(config.seed).build().unwrap();
    let run = || runtime.block_on(Run::new(config));
    match config.bug {
        Some(bug) => planted::with(bug, run),
        None => run(),
    }
}

/// A run under way.
struct Run {
    outcome: Outcome,
    cluster: Cluster,
    people: People,
    nemesis: Nemesis,
    owners: Owners,
    beliefs: Beliefs,
    trace: Trace,
    passed_ms: u64,
}

impl Run {
    #[allow(clippy::new_ret_no_self, reason = "a run is its outcome")]
    async fn new(config: &SimConfig) -> Outcome {
        let (plan, counts) = (Plan::draw(config.seed), Counts::default());
        let mut outcome = Outcome { seed: config.seed, ..Outcome::default() };
        tracing::info!(?plan, "begins");
        let cluster = match Cluster::start(&plan, &counts).await {
            Ok(cluster) => cluster,
            Err(e) => {
                outcome.violations.push(format!("the cluster did not start: {e:#}"));
                return outcome;
            }
        };
        sleep(Duration::from_millis(FORM_MS)).await;
        let people = People::start(&plan, &cluster).await;
        let nemesis = Nemesis::new(&plan, &counts);
        let (owners, beliefs, trace) = (Owners::default(), Beliefs::default(), Trace::default());
        let mut run = Run { outcome, cluster, people, nemesis, owners, beliefs, trace, passed_ms: FORM_MS };
        run.play(plan.faults_ms).await;
        if plan.mourns {
            run.mourn().await;
        }
        run.heal().await;
        run.finish(&counts).await
    }

    /// Time passes, and everything is looked at.
    async fn pass(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(LOOK_MS);
            sleep(Duration::from_millis(step)).await;
            left -= step;
            self.passed_ms += step;
            let census = census(&self.cluster).await;
            self.trace.add(&census);
            self.owners.look(&self.cluster, &census);
            self.beliefs.look(&self.cluster, &census);
        }
    }

    async fn play(&mut self, faults_ms: u64) {
        let mut passed = 0;
        while passed < faults_ms {
            let pause = self.nemesis.pause();
            self.pass(pause).await;
            self.nemesis.pass(&mut self.cluster, pause).await;
            passed += pause;
            self.nemesis.strike(&mut self.cluster).await;
        }
    }

    /// One more dies while another cannot reach the directory. All else is well, and nobody takes its place before everybody
    /// must know.
    async fn mourn(&mut self) {
        self.nemesis.heal_the_living(&mut self.cluster).await;
        let Some(blind) = self.nemesis.die(&mut self.cluster) else { return };
        self.pass(UNSEEN_MS.0).await;
        self.nemesis.blind(&mut self.cluster, blind, UNSEEN_MS.1 - UNSEEN_MS.0);
        self.pass(UNSEEN_MS.1 - UNSEEN_MS.0).await;
        self.nemesis.heal_the_living(&mut self.cluster).await;
        self.pass(KNOWN_MS - UNSEEN_MS.1).await;
        let census = census(&self.cluster).await;
        self.outcome.violations.extend(beliefs::of_the_dead(&self.cluster, &census));
    }

    /// The last fault is over. Within its time everything must be as it should.
    async fn heal(&mut self) {
        self.nemesis.heal(&mut self.cluster).await;
        self.people.settle();
        tracing::info!("the last fault is over");
        let mut healed_ms = 0;
        loop {
            self.pass(WHOLE_MS - LAG_MS).await;
            self.nemesis.restore(&mut self.cluster).await;
            let then = census(&self.cluster).await;
            self.pass(LAG_MS).await;
            let now = census(&self.cluster).await;
            let truth = Truth::new(&then, &now, &census(&self.cluster).await);
            healed_ms += WHOLE_MS;
            let found = whole::violations(&self.cluster, &now, &truth, &self.people);
            if found.is_empty() {
                tracing::info!(healed_ms, "the mesh is whole");
                return;
            }
            if healed_ms >= CONVERGE_MS {
                self.outcome.violations.extend(found);
                return;
            }
            tracing::debug!(healed_ms, ?found, "not whole yet");
        }
    }

    /// All documents at one moment at which no transaction is under way, and whether goods add up in them.
    async fn at_rest(&mut self) -> BTreeMap<String, Stored> {
        for _ in 0..REST_LOOKS {
            let documents = self.cluster.store.snapshot();
            match balance(&documents) {
                Ok(found) if found.unsettled() == 0 => {
                    self.outcome.violations.extend(found.differences().map(|it| format!("goods: {it}")));
                    return documents;
                }
                Ok(_) => self.pass(LAG_MS).await,
                Err(error) => {
                    self.outcome.violations.push(format!("goods cannot be counted: {error}"));
                    return documents;
                }
            }
        }
        self.outcome.violations.push("some transaction never ends".to_owned());
        self.cluster.store.snapshot()
    }

    async fn finish(mut self, counts: &Counts) -> Outcome {
        self.people.stop();
        for shown in &self.people.shown {
            self.trace.mix(people::lock(shown).trace);
        }
        if let Some(estate) = self.cluster.estate().cloned() {
            // What the dead have left undone is settled by whoever meets it: here the audit does.
            match audit(&estate, true, &mut |_| {}).await {
                Ok(report) => {
                    counts.add_many("left_for_readers", report.repaired);
                    // Goods that change hands while it walks are counted below.
                    let left = report.findings.iter().filter(|it| !it.repaired && it.rule != Rule::Goods);
                    self.outcome
                        .violations
                        .extend(left.take(8).map(|it| format!("audit: {} {:?}: {}", it.key, it.rule, it.text)));
                }
                Err(e) => self.outcome.violations.push(format!("the audit could not read the store: {e}")),
            }
        }
        let documents = self.at_rest().await;
        self.outcome.violations.extend(self.people.books.differences(&documents));
        self.outcome.violations.extend(self.cluster.ledger.wrong());
        self.outcome.violations.extend(self.owners.found());
        self.outcome.violations.extend(self.beliefs.found());
        for (key, stored) in &documents {
            tracing::trace!(key, value = %String::from_utf8_lossy(&stored.value), "a document at the end");
            self.trace.mix_bytes(key.as_bytes());
            self.trace.mix_bytes(&stored.value);
        }
        counts.add_many("uncertain_acts", self.people.books.uncertain() as u64);
        let mut outcome = self.outcome;
        outcome.trace = self.trace.finish();
        outcome.node_ms = self.passed_ms * self.cluster.places.len() as u64;
        outcome.faults = self.nemesis.faults.all();
        for (name, count) in &outcome.faults {
            counts.add_many(&format!("fault_{name}"), *count);
        }
        outcome.sometimes = counts.all();
        self.cluster.stop();
        outcome
    }
}
