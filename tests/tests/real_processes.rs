//! Real processes, a real etcd and a real network (namespaces on this machine): nodes are killed, links cut one way, etcd
//! restarted. The mesh heals, no other process dies, memory stays flat, and players from outside find nothing wrong.

use serde_json::Value;
use tests::processes::{RealCluster, wait_for};

const GATEWAY: usize = 0;
const FRONTEND: usize = 1;
const OTHER_FRONTEND: usize = 2;
const ZOO: usize = 3;

const ROLES: [&str; 4] = ["gateway", "frontend", "frontend", "zoo"];

/// Memory that a node may grow by in a test of this length, in MiB.
const GROWTH_MIB: f64 = 96.0;

fn assert_clean(report: &Value, players: u64) {
    for name in ["wrong_positions", "missing_neighbours", "gaps", "errors"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
    assert_eq!(report["joined"], players, "{report}");
    assert!(report["neighbours_seen"].as_u64() > Some(0), "nobody saw anybody: {report}");
    assert!(report["checks"]["positions"].as_u64() > Some(0), "nothing was checked: {report}");
}

#[test]
fn separate_processes_find_each_other_and_show_each_others_players() {
    let cluster = RealCluster::start("walk", &ROLES);
    assert_clean(&cluster.bots(40, 8, &["--layout", "crowd"]), 40);
}

#[test]
fn killed_nodes_come_back_cut_links_heal_and_etcd_may_restart() {
    let mut cluster = RealCluster::start("heal", &ROLES);
    assert_clean(&cluster.bots(20, 3, &[]), 20);
    let before: Vec<f64> = cluster.nodes.iter().flatten().map(|n| n.memory_mib()).collect();

    for victim in [FRONTEND, ZOO, GATEWAY] {
        cluster.kill_node(victim);
        cluster.start_node(victim);
        cluster.until_whole();
    }
    assert_clean(&cluster.bots(20, 3, &["--seed", "2"]), 20);

    // One direction of one link, for longer than a lease: both ends must notice, and agree again afterwards.
    cluster.net.cut(FRONTEND + 1, OTHER_FRONTEND + 1);
    wait_for("the cut link to be seen", || {
        let status = cluster.status()?;
        (status["whole"] == false).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(10));
    assert!(cluster.nodes.iter().flatten().all(|n| n.alive()), "a cut link kills nobody");
    cluster.net.heal(OTHER_FRONTEND + 1);
    cluster.until_whole();
    assert_clean(&cluster.bots(20, 3, &["--seed", "3"]), 20);

    let etcd = cluster.etcd.take().expect("etcd runs");
    etcd.signal("KILL");
    wait_for("etcd's death", || (!etcd.alive()).then_some(()));
    drop(etcd);
    assert!(cluster.nodes.iter().flatten().all(|n| n.alive()), "a dead directory kills nobody");
    cluster.start_etcd();
    cluster.until_whole();
    assert_clean(&cluster.bots(20, 3, &["--seed", "4"]), 20);

    for (node, before) in cluster.nodes.iter().flatten().zip(before) {
        let now = node.memory_mib();
        assert!(now < before + GROWTH_MIB, "{} has grown from {before:.0} to {now:.0} MiB", node.name);
    }
}

#[test]
fn a_frozen_frontend_delays_nobody_and_is_connected_again_when_it_wakes() {
    let cluster = RealCluster::start("freeze", &ROLES);
    let frozen = cluster.nodes[OTHER_FRONTEND].as_ref().expect("it runs");
    frozen.signal("STOP");
    wait_for("the frozen node to be missed", || {
        let status = cluster.status()?;
        (status["whole"] == false).then_some(())
    });
    // The directory drops it after its lease; players then go to the other frontend, undisturbed.
    wait_for("the frozen node to leave the directory", || {
        let status = cluster.status()?;
        (status["nodes"].as_array()?.len() == ROLES.len() - 1).then_some(())
    });
    assert_clean(&cluster.bots(20, 4, &[]), 20);
    frozen.signal("CONT");
    cluster.until_whole();
    assert_clean(&cluster.bots(20, 3, &["--seed", "2"]), 20);
}

#[test]
fn strangers_are_refused_with_words_on_both_sides() {
    let cluster = RealCluster::start("strangers", &ROLES);
    let etcd = format!("http://{}:2379", cluster.net.host(0).address);
    let store = format!("embedded:{}", cluster.folder().join("store").display());
    let host = cluster.outside().clone();
    let address = host.address.to_string();
    let islands = concat!(env!("CARGO_MANIFEST_DIR"), "/../islands");
    let binary = tests::processes::binary();
    let words = [
        binary.to_str().expect("a printable path"), "node", "--role", "zoo", "--name", "stranger", "--etcd", &etcd, "--store",
        &store, "--key", "another key", "--bind", &address, "--islands", islands,
    ];
    let stranger = tests::processes::Process::start(&host, "stranger", cluster.folder(), &words);
    wait_for("the gateway to refuse the stranger", || cluster.log(GATEWAY).contains("key").then_some(()));
    let own = cluster.folder().join("stranger.log");
    wait_for("the stranger to say why", || std::fs::read_to_string(&own).ok()?.contains("key").then_some(()));
    assert!(stranger.alive(), "a refused node goes on trying");
    drop(stranger);
    cluster.until_whole();
    assert_clean(&cluster.bots(10, 3, &[]), 10);
}

#[test]
fn an_unreachable_etcd_is_a_clear_error() {
    let output = std::process::Command::new(tests::processes::binary())
        .args(["node", "--role", "zoo", "--store", "memory", "--key", "a key for tests", "--etcd", "http://127.0.0.1:1"])
        .args(["--islands", concat!(env!("CARGO_MANIFEST_DIR"), "/../islands")])
        .output()
        .expect("the node's output");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("http://127.0.0.1:1"), "{said}");
}
