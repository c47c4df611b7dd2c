//! The simulation as a test: many seeds converge, one seed repeats itself in another process, a planted bug is found.

use std::process::Command;

use tests::sim::{self, SimConfig};

/// Seeds that must all converge.
const SEEDS: u64 = 50;

/// Within so many seeds a planted bug must be found.
const FIND_WITHIN: u64 = 50;

#[test]
fn after_faults_stop_every_ghost_equals_its_real_and_membership_agrees() {
    let run = |seeds: std::ops::Range<u64>| {
        seeds.map(|seed| sim::run(&SimConfig::new(seed))).filter(|o| !o.violations.is_empty()).collect::<Vec<_>>()
    };
    // Each run is one thread's work; two halves use two cores.
    let failed = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(SEEDS / 2..SEEDS));
        let mut failed = run(0..SEEDS / 2);
        failed.extend(other.join().expect("the other half of the seeds"));
        failed
    });
    for outcome in &failed {
        eprintln!("seed {}: {:#?}", outcome.seed, outcome.violations);
        eprintln!(
            "repeat it: cargo run --release -p wildmesh-tests --bin wildmesh-sim -- --seed {} --trace",
            outcome.seed
        );
    }
    assert!(failed.is_empty(), "{} of {SEEDS} seeds failed", failed.len());
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
fn a_mesh_without_gap_repair_is_found_out() {
    let bugs = sim::planted(Some("no_gap_repair")).expect("a planted bug");
    let found =
        (0..FIND_WITHIN).find(|&seed| !sim::run(&SimConfig { seed, bugs }).violations.is_empty());
    eprintln!("gap repair off: found by seed {found:?}");
    assert!(found.is_some(), "not found within {FIND_WITHIN} seeds");
}
