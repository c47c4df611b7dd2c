//! Real processes, a real etcd and a real network (namespaces on this machine): nodes are killed, links cut one way, etcd
//! restarted. The mesh heals, no other process dies, memory stays flat, and players from outside find nothing wrong.
//!
//! The tests take turns: each judges how its own processes keep up, which others would slow down.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tests::processes::{KEY, Process, RealCluster, wait_for};

const GATEWAY: usize = 0;
const FRONTEND: usize = 1;
const OTHER_FRONTEND: usize = 2;
const ZOO: usize = 3;

const ROLES: [&str; 4] = ["gateway", "frontend", "frontend", "zoo"];

/// Memory that a node may grow by in a test of this length, in MiB.
const GROWTH_MIB: f64 = 96.0;

/// Descriptors that a node may have more after the faults than before: links on their way, files just being read.
const GROWTH_DESCRIPTORS: usize = 24;

/// Longer than a lease (5 s) and than everything by which nodes judge a silent link.
const CUT: Duration = Duration::from_secs(10);

static TURN: Mutex<()> = Mutex::new(());

/// A test that failed has left nothing that could disturb the next one.
fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A crowd, so that everybody sees somebody.
fn play(cluster: &RealCluster, players: usize, seconds: u64) -> Value {
    cluster.bots(players, seconds, &["--layout", "crowd"])
}

fn assert_clean(report: &Value, players: u64) {
    assert_eq!(report["drops"], 0, "{report}");
    assert_shown_truly(report, players);
}

fn assert_shown_truly(report: &Value, players: u64) {
    for name in ["wrong_positions", "missing_neighbours", "gaps", "errors"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
    assert_eq!(report["connected"], players, "not all are there at the end: {report}");
    assert_eq!(report["joined"], players, "{report}");
    assert!(report["neighbours_seen"].as_u64() > Some(0), "nobody saw anybody: {report}");
    assert!(report["checks"]["neighbours"].as_u64() > Some(0), "nobody was looked for: {report}");
    assert!(report["checks"]["positions"].as_u64() > Some(0), "no place was checked: {report}");
}

/// The kinds of disagreement that the gateway sees, and whom they concern.
fn disagreements(status: &Value) -> BTreeSet<(String, Vec<String>)> {
    let list = status["disagreements"].as_array().into_iter().flatten();
    list.map(|found| {
        let nodes = found["nodes"].as_array().into_iter().flatten();
        let nodes = nodes.filter_map(|node| node.as_str().map(str::to_owned)).collect();
        (found["kind"].as_str().unwrap_or_default().to_owned(), nodes)
    })
    .collect()
}

fn assert_all_alive(cluster: &RealCluster, why: &str) {
    for node in cluster.nodes.iter().flatten() {
        assert!(node.alive(), "{why}, but {} is dead:\n{}", node.name, cluster.log_of(&node.name));
    }
}

#[test]
fn separate_processes_show_each_others_players_and_strangers_are_refused_with_words_on_both_sides() {
    let _turn = turn();
    let cluster = RealCluster::start("strangers", &ROLES);
    assert_clean(&play(&cluster, 40, 6), 40);

    let host = cluster.outside().clone();
    let stranger = cluster.start_other(&host, "zoo", "stranger", &["--key", "another key"]);
    wait_for("the gateway to refuse the stranger", || {
        let log = cluster.log_of("gateway-0");
        log.lines()
            .any(|line| line.contains("stranger") && line.contains("does not have the same cluster key"))
            .then_some(())
    });
    wait_for("the stranger to say why", || {
        cluster.log_of("other-stranger").contains("does not have the same cluster key").then_some(())
    });
    assert!(stranger.alive(), "a refused node goes on trying");
    drop(stranger);
    cluster.until_whole();
    assert_clean(&play(&cluster, 10, 4), 10);
}

#[test]
fn clusters_never_mix_on_one_etcd_and_network_and_a_name_has_one_node() {
    let _turn = turn();
    let cluster = RealCluster::start("names", &["gateway", "zoo"]);
    let host = cluster.outside().clone();
    // The same node names and even the same key: only the cluster's name differs.
    let other = ["--cluster", "another", "--key", KEY];
    let gateway = cluster.start_other(&host, "gateway", "gateway-0", &other);
    let zoo = cluster.start_other(&host, "zoo", "zoo-1", &other);
    let url = format!("http://{}:8080", host.address);
    wait_for("the other cluster to be whole", || {
        let status = cluster.status_at(&url)?;
        (status["whole"] == true && status["nodes"].as_array()?.len() == 2).then_some(())
    });
    cluster.until_whole();
    let lives = |status: &Value| -> BTreeSet<u64> {
        status["nodes"].as_array().into_iter().flatten().filter_map(|node| node["publisher"].as_u64()).collect()
    };
    let (ours, theirs) = (cluster.status().expect("our status"), cluster.status_at(&url).expect("their status"));
    assert_eq!((lives(&ours).len(), lives(&theirs).len()), (2, 2));
    assert!(lives(&ours).is_disjoint(&lives(&theirs)), "{ours}\n{theirs}");
    // When one ends, the other misses nobody.
    drop((gateway, zoo));
    cluster.until_whole();
    assert_all_alive(&cluster, "a foreign cluster's end concerns nobody");

    let second = cluster.start_other(&host, "zoo", "zoo-1", &["--key", KEY]);
    wait_for("the second of a name to end", || (!second.alive()).then_some(()));
    let said = cluster.log_of("other-zoo-1");
    assert!(said.contains("another living node has the name zoo-1"), "{said}");
    cluster.until_whole();
    assert_all_alive(&cluster, "the first of a name keeps it");
}

#[test]
fn killed_nodes_come_back_cut_links_heal_and_etcd_may_restart() {
    let _turn = turn();
    let mut cluster = RealCluster::start("heal", &ROLES);
    kill_a_frontend_under_players(&mut cluster);
    let sizes = |cluster: &RealCluster| -> Vec<(f64, usize)> {
        cluster.nodes.iter().flatten().map(|node| (node.memory_mib(), node.descriptors())).collect()
    };
    let before = sizes(&cluster);

    for victim in [ZOO, GATEWAY] {
        cluster.kill_node(victim);
        cluster.start_node(victim);
        cluster.until_whole();
        assert_all_alive(&cluster, "a killed node takes nobody with it");
    }
    assert_clean(&play(&cluster, 20, 3), 20);

    cut_one_direction(&cluster);
    assert_clean(&play(&cluster, 20, 3), 20);

    restart_etcd_under_players(&mut cluster);
    lose_etcd_for_longer_than_a_lease(&mut cluster);
    assert_clean(&play(&cluster, 20, 3), 20);

    for ((node, before), now) in cluster.nodes.iter().flatten().zip(before).zip(sizes(&cluster)) {
        let ((memory, descriptors), (memory_now, descriptors_now)) = (before, now);
        assert!(memory_now < memory + GROWTH_MIB, "{} has grown from {memory:.0} to {memory_now:.0} MiB", node.name);
        let limit = descriptors + GROWTH_DESCRIPTORS;
        assert!(descriptors_now < limit, "{} has {descriptors_now} descriptors, {descriptors} before", node.name);
    }
}

/// Its players come in elsewhere, or at its next life, and nobody is shown anything wrong meanwhile.
fn kill_a_frontend_under_players(cluster: &mut RealCluster) {
    let bots = cluster.start_bots(20, 14, &["--layout", "crowd"]);
    let victim = wait_for("20 players", || {
        let status = cluster.status()?;
        let players = [FRONTEND, OTHER_FRONTEND].map(|i| players(&status, &format!("frontend-{i}")));
        let busier = if players[0] > players[1] { FRONTEND } else { OTHER_FRONTEND };
        (players.iter().sum::<u64>() == 20).then_some(busier)
    });
    cluster.kill_node(victim);
    cluster.start_node(victim);
    let report = bots.report();
    assert!(report["drops"].as_u64() > Some(0), "nobody was on the busier frontend: {report}");
    assert_shown_truly(&report, 20);
    cluster.until_whole();
    assert_all_alive(cluster, "a killed frontend takes nobody with it");
}

/// How many players a node says it has.
fn players(status: &Value, node: &str) -> u64 {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.filter(|row| row["node"] == node).filter_map(|row| row["load"]["players"].as_u64()).sum()
}

/// Both ends notice, nobody else is doubted, and both agree again afterwards.
fn cut_one_direction(cluster: &RealCluster) {
    cluster.net.cut(FRONTEND + 1, OTHER_FRONTEND + 1);
    let ends: Vec<String> = vec!["frontend-1".to_owned(), "frontend-2".to_owned()];
    let apart = BTreeSet::from([("apart".to_owned(), ends)]);
    wait_for("both ends to doubt the cut link", || (disagreements(&cluster.status()?) == apart).then_some(()));
    std::thread::sleep(CUT);
    assert_eq!(disagreements(&cluster.status().expect("the gateway answers")), apart, "nobody else is doubted");
    assert_all_alive(cluster, "a cut link kills nobody");
    cluster.net.heal(OTHER_FRONTEND + 1);
    cluster.until_whole();
}

fn kill_etcd(cluster: &mut RealCluster) {
    let etcd = cluster.etcd.take().expect("etcd runs");
    etcd.signal("KILL");
    wait_for("etcd's death", || (!etcd.alive()).then_some(()));
}

/// As long as leases hold, those who play notice nothing.
fn restart_etcd_under_players(cluster: &mut RealCluster) {
    let bots = cluster.start_bots(20, 6, &["--layout", "crowd"]);
    wait_for("20 players", || bots.said("20 of 20 in").then_some(()));
    kill_etcd(cluster);
    cluster.start_etcd();
    assert_clean(&bots.report(), 20);
    cluster.until_whole();
    assert_all_alive(cluster, "a restarted directory kills nobody");
}

/// All leases run out; nobody dies of it, and all come back by themselves.
fn lose_etcd_for_longer_than_a_lease(cluster: &mut RealCluster) {
    kill_etcd(cluster);
    until_nobody_is_registered(cluster);
    assert_all_alive(cluster, "a dead directory kills nobody");
    cluster.start_etcd();
    cluster.until_whole();
    assert_all_alive(cluster, "a returning directory kills nobody");
}

fn until_nobody_is_registered(cluster: &RealCluster) {
    wait_for("every node to know that its lease may have run out", || {
        let found = disagreements(&cluster.status()?);
        let unregistered = found.iter().filter(|(kind, _)| kind == "unregistered").count();
        (unregistered == ROLES.len()).then_some(())
    });
}

#[test]
fn a_frozen_frontend_delays_nobody_and_is_connected_again_when_it_wakes_and_so_is_etcd() {
    let _turn = turn();
    let cluster = RealCluster::start("freeze", &ROLES);
    let frozen: &Process = cluster.nodes[OTHER_FRONTEND].as_ref().expect("it runs");
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
    assert_clean(&play(&cluster, 20, 4), 20);
    frozen.signal("CONT");
    cluster.until_whole();
    assert_clean(&play(&cluster, 20, 3), 20);

    // A directory that hangs is worse than one that is gone: nothing says so.
    let etcd = cluster.etcd.as_ref().expect("etcd runs");
    etcd.signal("STOP");
    until_nobody_is_registered(&cluster);
    etcd.signal("CONT");
    cluster.until_whole();
    assert_clean(&play(&cluster, 20, 3), 20);
}
