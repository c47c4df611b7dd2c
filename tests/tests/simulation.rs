//! The simulation as a test: many seeds hold, what is rare happened, a seed repeats itself in another process, bugs are found.

use std::process::Command;

use tests::sim::campaign::{Campaign, hunt};
use tests::sim::{self, SimConfig, regressions, sometimes};

/// Seeds that must all hold.
const SEEDS: u64 = 200;

/// Each run is one thread's work; two use two cores.
const THREADS: usize = 2;

#[test]
fn whatever_befalls_the_nodes_nothing_is_lost_or_doubled_and_the_mesh_becomes_whole_again() {
    let mut seeds: Vec<u64> = regressions::SEEDS.iter().map(|(seed, _)| *seed).collect();
    seeds.extend((0..SEEDS).filter(|seed| !regressions::SEEDS.iter().any(|(other, _)| other == seed)));
    let done = Campaign::run(&seeds, None, THREADS, |_| {});
    for outcome in &done.failed {
        eprintln!("seed {}: {:#?}", outcome.seed, outcome.violations);
        eprintln!(
            "repeat it: cargo run --release -p wildmesh-tests --bin wildmesh-sim -- --seed {} --trace",
            outcome.seed
        );
    }
    assert!(done.failed.is_empty(), "{} of {} seeds failed", done.failed.len(), seeds.len());
    let never = sometimes::missing(&done.sometimes);
    assert!(never.is_empty(), "never happened in {} seeds: {never:?}", seeds.len());
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes() {
    let run = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_wildmesh-sim")).args(["--seed", "7"]).output().expect("wildmesh-sim");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|l| l.starts_with("seed 7: trace ")).expect("a trace line").to_owned()
    };
    assert_eq!(run(), run());
    assert_ne!(sim::run(&SimConfig::new(8)).trace, sim::run(&SimConfig::new(9)).trace, "other seeds, other traces");
}

#[test]
fn a_planted_bug_is_found_within_few_seeds() {
    let bugs = ["no_gap_repair", "no_fencing", "intent_not_checked"];
    for found in hunt(&bugs, 1, 0, THREADS, |_| {}) {
        assert!(found.median().is_some(), "{} was not found", found.bug);
    }
}
