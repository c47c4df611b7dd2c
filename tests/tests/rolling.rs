//! Real processes are emptied and replaced one after another while players are there: nobody is dropped.

use serde_json::Value;
use tests::processes::{RealCluster, wait_for};

const ROLES: [&str; 10] =
    ["gateway", "frontend", "frontend", "frontend", "zoo", "zoo", "garden", "garden", "colosseum", "colosseum"];

const PLAYERS: u64 = 24;

/// What the bots may not have seen.
fn assert_nobody_was_dropped(report: &Value) {
    for name in ["drops", "rejoins", "wrong_positions", "missing_neighbours", "jumps"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
    assert_eq!(report["connected"], PLAYERS, "not all are there at the end: {report}");
    assert_eq!(report["errors"], 0, "{report}");
}

#[test]
fn every_node_of_every_role_is_replaced_under_load_and_nobody_is_dropped() {
    let mut cluster = RealCluster::start("rolling", &ROLES);
    let (code, result) = cluster.drain("frontend-99", &[]);
    assert_eq!((code, result), (Some(2), Value::Null), "there is no such node");
    let bots = cluster.start_bots(PLAYERS as usize, 20, &["--layout", "crowd"]);
    let all = format!("{PLAYERS} of {PLAYERS} in");
    wait_for("all players", || bots.said(&all).then_some(()));

    // One frontend by the operator's word, all others by signal.
    let (code, result) = cluster.drain("frontend-1", &["--timeout", "60"]);
    assert_eq!((code, &result["gone"]), (Some(0), &Value::Bool(true)), "{result}");
    cluster.until_left(1);
    cluster.start_node(1);
    for node in [2, 4, 6, 8, 3, 5, 7, 9] {
        cluster.until_whole();
        cluster.replace_node(node);
    }
    cluster.until_whole();
    let report = bots.report();
    assert_nobody_was_dropped(&report);
    assert!(report["redirects"].as_u64() >= Some(PLAYERS), "too few were moved: {report}");

    // The gateway too: it says so first, and its successor serves.
    cluster.replace_node(0);
    cluster.until_whole();
}
