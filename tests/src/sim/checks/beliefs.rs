//! What nodes believe, held against what the directory knows: of their own leases at every moment, of the dead when there was
//! time to hear of them. And of each other: who is up for one end of a link is up for the other, soon.
//!
//! A lease is believed in by its holder alone and needs no event to be doubted: so those that stand still are looked at too,
//! and nobody may be found to speak under a lease that is over, whatever its tasks have or have not done since they woke up.

use std::collections::{BTreeMap, BTreeSet};

use mesh::PeerState;
use mesh::record::NodeRecord;
use tokio::time::{Duration, Instant};

use super::{Census, TOLD};
use crate::sim::cluster::Cluster;

/// How long two ends of a link may disagree whether the other is there: one hears nothing for a while before it says so, the
/// other hears of it with the next heartbeats, and of those a network that stutters lets none through for as long again.
const AGREE: Duration = Duration::from_millis(9_000);

/// Who is found to count on a lease that is over, or on a peer that does not count on it.
#[derive(Default)]
pub struct Beliefs {
    /// Since when one life holds another for up that does not hold it for up.
    one_sided: BTreeMap<(u64, u64), Instant>,
    /// Lives that were told of.
    told: BTreeSet<u64>,
    found: Vec<String>,
}

impl Beliefs {
    /// Looks at a moment.
    pub fn look(&mut self, cluster: &Cluster, census: &[Census]) {
        self.leases(cluster);
        self.links(cluster, census);
    }

    fn links(&mut self, cluster: &Cluster, census: &[Census]) {
        let now = Instant::now();
        let mut ups: BTreeSet<(u64, u64)> = BTreeSet::new();
        // Who is leaving says so, and goes on hearing the others.
        let stays = |node: &&Census| cluster.places[node.place].awake().is_some_and(|life| !life.draining.has_begun());
        let all: Vec<&Census> = census.iter().filter(stays).collect();
        for node in &all {
            let up = node.view.peers.iter().filter(|peer| peer.state == PeerState::Up);
            ups.extend(up.map(|peer| (node.life, peer.incarnation.0)));
        }
        let mut one_sided = BTreeMap::new();
        for one in &all {
            for other in all.iter().filter(|other| other.life != one.life) {
                let pair = (one.life, other.life);
                if !ups.contains(&pair) || ups.contains(&(other.life, one.life)) {
                    continue;
                }
                let since = *one_sided.entry(pair).or_insert(self.one_sided.get(&pair).copied().unwrap_or(now));
                if now.duration_since(since) > AGREE && self.told.insert(one.life) && self.found.len() < TOLD {
                    let name = |node: &Census| &cluster.places[node.place].name;
                    self.found.push(format!(
                        "{} holds {} for up, which has not held it for up since {} ms",
                        name(one),
                        name(other),
                        now.duration_since(since).as_millis()
                    ));
                }
            }
        }
        self.one_sided = one_sided;
    }

    fn leases(&mut self, cluster: &Cluster) {
        let listed = listed(cluster);
        let now = Instant::now();
        for place in &cluster.places {
            let Some(life) = place.life.as_ref().filter(|life| !life.tasks.stopped()) else { continue };
            // Whose lease was ended before its time cannot know before its next renewal.
            let misled = place.misled_until.is_some_and(|until| now <= until);
            if misled || !life.mesh.lease().speaks() || listed.contains(&life.incarnation()) {
                continue;
            }
            if self.told.insert(life.incarnation()) && self.found.len() < TOLD {
                let is = if place.frozen.is_some() { "stands still" } else { "runs" };
                self.found.push(format!("{} {is} and counts on a lease that is over", place.name));
            }
        }
    }

    /// All that was wrong.
    pub fn found(self) -> Vec<String> {
        self.found
    }
}

/// The lives that are registered.
fn listed(cluster: &Cluster) -> BTreeSet<u64> {
    let entries = cluster.directory.peek(Cluster::district().prefix());
    let records = entries.iter().filter_map(|entry| serde_json::from_slice::<NodeRecord>(&entry.value).ok());
    records.map(|record| record.incarnation.0).collect()
}

/// Everybody who was told of somebody that is registered no more. To be asked when there was time to hear of it.
pub fn of_the_dead(cluster: &Cluster, census: &[Census]) -> Vec<String> {
    let listed = listed(cluster);
    let mut found = Vec::new();
    for node in census {
        let dead = node.view.peers.iter().filter(|peer| !listed.contains(&peer.incarnation.0));
        let name = &cluster.places[node.place].name;
        found.extend(dead.map(|peer| format!("{name} does not know that {} is gone: {}", peer.node, peer.state)));
    }
    found
}
