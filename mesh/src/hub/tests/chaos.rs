//! Many nodes, random cuts, restarts: when the faults stop, all agree. And the same seed gives the same run.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::transport::memory::Fault;

/// A mesh of `count` nodes under `rounds` of random cuts and restarts, then healed. Gives all that was told.
async fn storm(seed: u64, count: u64, rounds: u32) -> Vec<Vec<String>> {
    let place = Place::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let name = |index: u64| format!("zoo-{index}");
    let mut nodes: Vec<Node> = (0..count).map(|index| place.node(&name(index), index + 1)).collect();
    let (mut lives, mut past) = (count, Vec::new());
    for _ in 0..rounds {
        for _ in 0..rng.random_range(1..8) {
            let (from, to) = (rng.random_range(0..count), rng.random_range(0..count));
            let fault = match rng.random_range(0..4) {
                0 => Fault::NONE,
                1 => Fault { loss_per_mille: 200, ..Fault::delay(10, 300) },
                _ => Fault::CUT,
            };
            place.network.set_fault(&name(from), &name(to), fault);
        }
        if rng.random_bool(0.3) {
            lives += 1;
            let index = rng.random_range(0..count);
            nodes[index as usize].tasks.stop();
            past.push(nodes[index as usize].told().to_vec());
            nodes[index as usize] = place.node(&name(index), lives);
        }
        sleep(Duration::from_millis(rng.random_range(100..8_000))).await;
        for node in &mut nodes {
            node.told();
        }
    }
    place.network.heal();
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.id != one.id) {
            one.until_up(other).await;
        }
    }
    until("all agree", || nodes.iter().all(|node| node.mesh.view().peers.iter().all(|peer| peer.agrees))).await;
    past.extend(nodes.iter_mut().map(|node| node.told().to_vec()));
    past
}

/// Every life at every node: up and down in turns, gone once, nothing after it.
fn check_order(told: &[String]) {
    let mut up: std::collections::BTreeMap<&str, bool> = Default::default();
    let mut gone = std::collections::BTreeSet::new();
    for words in told {
        let mut parts = words.split(' ');
        let (what, who) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !["up", "down", "gone"].contains(&what) {
            continue;
        }
        assert!(!gone.contains(who), "{words} after it was gone: {told:?}");
        match what {
            "up" => assert_ne!(up.insert(who, true), Some(true), "{words} twice: {told:?}"),
            "down" => assert_eq!(up.insert(who, false), Some(true), "{words} was not up: {told:?}"),
            _ => {
                assert_ne!(up.get(who), Some(&true), "{words} before down: {told:?}");
                gone.insert(who);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_nodes_agree_after_a_storm_of_cuts_and_restarts() {
    for seed in 0..4 {
        for told in storm(seed, 10, 12).await {
            check_order(&told);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    assert_eq!(storm(11, 5, 6).await, storm(11, 5, 6).await);
}
