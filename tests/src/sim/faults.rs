//! What befalls the nodes, drawn from the seed: one step at a time, several at once, all of them undone by `heal`.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh::directory::memory::Cut;
use mesh::transport::memory::Fault;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::cluster::Cluster;

/// The longest that one fault lasts, in simulated milliseconds: longer than a lease.
const LONGEST_MS: u64 = 8_000;

/// What ends when a fault's time is over.
#[derive(Clone, Copy, Debug)]
enum Cure {
    Way(usize, usize),
    Directory(usize),
    Thaw(usize),
    Revive(usize),
}

/// Whoever makes the faults.
pub struct Nemesis {
    random: StdRng,
    now_ms: u64,
    cures: Vec<(u64, Cure)>,
    /// How many faults of each kind there were.
    pub counts: BTreeMap<String, u64>,
}

impl Nemesis {
    /// No faults yet.
    pub fn new(random: StdRng) -> Nemesis {
        Nemesis { random, now_ms: 0, cures: Vec::new(), counts: BTreeMap::new() }
    }

    /// Brings one fault, cures those whose time is over, and lets some time pass. Returns how much, in milliseconds.
    pub async fn step(&mut self, cluster: &mut Cluster) -> u64 {
        self.strike(cluster);
        let pause = self.random.random_range(100..900);
        sleep(Duration::from_millis(pause)).await;
        self.now_ms += pause;
        let (due, later) = self.cures.drain(..).partition(|(at, _)| *at <= self.now_ms);
        self.cures = later;
        for (_, cure) in due {
            self.cure(cluster, cure).await;
        }
        pause
    }

    /// Cures everything.
    pub async fn heal(&mut self, cluster: &mut Cluster) {
        for (_, cure) in std::mem::take(&mut self.cures) {
            self.cure(cluster, cure).await;
        }
        cluster.network.heal();
        for i in 0..cluster.places.len() {
            cluster.places[i].client.heal();
            cluster.places[i].client.lose_by_chance(0, 0);
            cluster.freeze(i, false);
            self.cure(cluster, Cure::Revive(i)).await;
        }
    }

    fn strike(&mut self, cluster: &mut Cluster) {
        let count = cluster.places.len();
        let (one, two) = (self.random.random_range(0..count), self.random.random_range(0..count));
        let until = self.now_ms + self.random.random_range(200..LONGEST_MS);
        let kind = self.random.random_range(0..100);
        let name = match kind {
            0..20 => {
                self.way(cluster, one, two, Fault::CUT, until);
                "cut_one_way"
            }
            20..32 => {
                self.way(cluster, one, two, Fault::CUT, until);
                self.way(cluster, two, one, Fault::CUT, until);
                "cut_both_ways"
            }
            32..38 => {
                for other in 0..count {
                    self.way(cluster, one, other, Fault::CUT, until);
                    self.way(cluster, other, one, Fault::CUT, until);
                }
                "isolated"
            }
            38..55 => {
                let loss = Fault { loss_per_mille: self.random.random_range(20..300), ..Fault::NONE };
                self.way(cluster, one, two, loss, until);
                "loss"
            }
            55..65 => {
                let delay = Fault::delay(self.random.random_range(1..80), self.random.random_range(0..150));
                self.way(cluster, one, two, delay, until);
                "delay"
            }
            65..72 => {
                let silent = self.random.random_bool(0.5);
                cluster.places[one].client.cut(if silent { Cut::Silent } else { Cut::Refused });
                self.cures.push((until, Cure::Directory(one)));
                "directory_cut"
            }
            72..78 => {
                cluster.places[one].client.lose_by_chance(100, 100);
                self.cures.push((until, Cure::Directory(one)));
                "directory_loss"
            }
            78..83 => {
                cluster.places[one].client.end_watches("cancelled by the simulation");
                "watch_ended"
            }
            83..86 => {
                cluster.directory.compact();
                cluster.directory.end_watches();
                "compaction"
            }
            86..93 => {
                cluster.kill(one);
                self.cures.push((until, Cure::Revive(one)));
                "kill"
            }
            _ => {
                cluster.freeze(one, true);
                self.cures.push((until, Cure::Thaw(one)));
                "freeze"
            }
        };
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    fn way(&mut self, cluster: &Cluster, from: usize, to: usize, fault: Fault, until: u64) {
        if from != to {
            cluster.network.set_fault(&cluster.places[from].name, &cluster.places[to].name, fault);
            self.cures.push((until, Cure::Way(from, to)));
        }
    }

    async fn cure(&mut self, cluster: &mut Cluster, cure: Cure) {
        match cure {
            Cure::Way(from, to) => {
                cluster.network.set_fault(&cluster.places[from].name, &cluster.places[to].name, Fault::NONE);
            }
            Cure::Directory(i) => {
                cluster.places[i].client.heal();
                cluster.places[i].client.lose_by_chance(0, 0);
            }
            Cure::Thaw(i) => cluster.freeze(i, false),
            Cure::Revive(i) => {
                // A node that cannot start is missed by the checks.
                if let Err(e) = cluster.revive(i).await {
                    tracing::error!("{} did not start: {e:#}", cluster.places[i].name);
                }
            }
        }
    }
}
