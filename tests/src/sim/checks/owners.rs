//! What must hold at every moment, also while faults go on: who acts as the owner of what, and that ghosts never go back.
//!
//! A node *acts* as the owner of what is real in its world while it runs, is not frozen and believes in its own lease. Two of
//! one epoch never may. One of a lower epoch may for a moment, if it has just thawed or has its lease again (it is about to
//! find out), if its lease was ended before its time (nobody can have told it before its next renewal), or if something stands
//! between it and the others or its documents. What gardens show
//! has no owner but its documents, and is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use nodes::game::kind;
use tokio::time::{Duration, Instant};

use super::{Census, Held, TOLD};
use crate::sim::cluster::Cluster;

/// How long a node that was frozen or had lost its lease may take to find out that others have taken over.
const FINDS_OUT: Duration = Duration::from_millis(2_000);

/// How long the owner of a lower epoch may act beside that of a higher one in any case: what is under way between two ticks.
const HAND_OVER: Duration = Duration::from_millis(600);

/// How long somebody MUST have been shown hurt in a battle for whoever takes it over to know it: its ghosts are as old as their
/// last frame or keyframe.
const SEEN_BY_ALL: Duration = Duration::from_secs(3);

/// Who is hurt in a battle, and since when.
#[derive(Default)]
struct Wounds {
    /// The highest epoch of the battle that was seen.
    epoch: u64,
    /// When it was seen last.
    at: Option<Instant>,
    /// Nobody leads it, and somebody who can be asked still sees it; or it was led when it was looked at last.
    remembered: bool,
    hurt: BTreeMap<u64, Instant>,
}

/// What has been seen so far.
#[derive(Default)]
pub struct Owners {
    /// The highest state that each life of a node has shown of each object.
    highest: BTreeMap<(u64, u64), (u64, u64)>,
    /// Since when two act for one object: object, the lower one's life.
    both: BTreeMap<(u64, u64), Instant>,
    /// Which nodes acted at the last look, and since when they do.
    acting: BTreeMap<u64, Instant>,
    /// Who is hurt in each battle.
    wounds: BTreeMap<u64, Wounds>,
    found: Vec<String>,
    more: usize,
}

impl Owners {
    /// Looks at a moment.
    pub fn look(&mut self, cluster: &Cluster, census: &[Census]) {
        let now = Instant::now();
        for node in census {
            if node.acts {
                self.acting.entry(node.life).or_insert(now);
            } else if self.acting.remove(&node.life).is_some() {
                cluster.counts.add("lease_lost");
            }
            self.ghosts(cluster, node);
        }
        self.acts(cluster, census, now);
        self.wounds(cluster, census, now);
    }

    /// All that was wrong.
    pub fn found(mut self) -> Vec<String> {
        if self.more > 0 {
            self.found.push(format!("… and {} more of this kind", self.more));
        }
        self.found
    }

    fn tell(&mut self, what: String) {
        tracing::info!(what, "found wrong");
        if self.found.len() < 2 * TOLD { self.found.push(what) } else { self.more += 1 }
    }

    fn ghosts(&mut self, cluster: &Cluster, node: &Census) {
        for (id, ghost) in node.ghosts.iter().filter(|(_, ghost)| is_owned(ghost)) {
            let told = (ghost.epoch, ghost.version);
            let highest = self.highest.entry((node.life, *id)).or_insert(told);
            let before = *highest;
            *highest = before.max(told);
            if told < before {
                let name = &cluster.places[node.place].name;
                self.tell(format!("{name} showed {id} as {before:?} and shows it as {told:?} now"));
            }
        }
    }

    fn wounds(&mut self, cluster: &Cluster, census: &[Census], now: Instant) {
        let well = |node: &&Census| cluster.places[node.place].troubled_until.is_none_or(|until| until < now);
        let led: BTreeSet<u64> = census.iter().flat_map(|node| node.members.keys().copied()).collect();
        for (battle, wounds) in self.wounds.iter_mut().filter(|(battle, _)| !led.contains(battle)) {
            let sees = |node: &Census| node.ghosts.get(battle).is_some_and(|ghost| ghost.epoch == wounds.epoch);
            wounds.remembered = census.iter().filter(well).any(sees);
        }
        let rooms = census.iter().filter(|node| node.acts).flat_map(|node| {
            let epoch = |battle| node.reals.get(battle).map_or(0, |held| held.epoch);
            node.members.iter().map(move |(battle, members)| (node, *battle, epoch(battle), members))
        });
        let mut forgotten = Vec::new();
        for (node, battle, epoch, members) in rooms {
            let before = self.wounds.entry(battle).or_default();
            if epoch < before.epoch {
                // Of one that is about to find out that another goes on with it.
                continue;
            }
            let last = before.at.filter(|_| epoch > before.epoch && before.remembered && well(&node));
            for (member, _) in members.iter().filter(|(_, health)| *health == 100) {
                let hurt = last.zip(before.hurt.get(member));
                if hurt.is_some_and(|(last, since)| last.duration_since(*since) >= SEEN_BY_ALL) {
                    forgotten.push(format!("battle {battle} went on elsewhere and forgot the wounds of {member}"));
                }
            }
            // Who has fallen leaves, and may come again well.
            let hurt = members.iter().filter(|(_, health)| (1..100).contains(health));
            let hurt = hurt.map(|(member, _)| (*member, before.hurt.get(member).copied().unwrap_or(now))).collect();
            *before = Wounds { epoch, at: Some(now), remembered: true, hurt };
        }
        forgotten.into_iter().for_each(|what| self.tell(what));
    }

    fn acts(&mut self, cluster: &Cluster, census: &[Census], now: Instant) {
        let mut owners: BTreeMap<u64, Vec<(&Census, &Held)>> = BTreeMap::new();
        for node in census.iter().filter(|node| node.acts) {
            for (id, held) in node.reals.iter().filter(|(_, held)| is_owned(held)) {
                owners.entry(*id).or_default().push((node, held));
            }
        }
        let mut both = BTreeMap::new();
        for (id, owners) in owners.into_iter().filter(|(_, owners)| owners.len() > 1) {
            let highest = owners.iter().map(|(_, held)| held.epoch).max().unwrap_or(0);
            let names: Vec<String> = owners
                .iter()
                .map(|(node, held)| format!("{} (epoch {})", cluster.places[node.place].name, held.epoch))
                .collect();
            if owners.iter().filter(|(_, held)| held.epoch == highest).count() > 1 {
                self.tell(format!("object {id} has two owners of one epoch: {names:?}"));
            }
            for (node, _) in owners.iter().filter(|(_, held)| held.epoch < highest) {
                let since = self.both.get(&(id, node.life)).copied().unwrap_or(now);
                both.insert((id, node.life), since);
                if since == now {
                    cluster.counts.add("two_acted_for_a_moment");
                }
                if now.duration_since(since) > HAND_OVER && !self.may_not_know(cluster, node, now) {
                    self.tell(format!("object {id} has owners that act beside each other: {names:?}"));
                }
            }
        }
        self.both = both;
    }

    fn may_not_know(&self, cluster: &Cluster, node: &Census, now: Instant) -> bool {
        let place = &cluster.places[node.place];
        let lately = |at: Option<Instant>| at.is_some_and(|at| now <= at + FINDS_OUT);
        lately(place.woken)
            || lately(self.acting.get(&node.life).copied())
            || place.misled_until.is_some_and(|until| now <= until)
            || place.troubled_until.is_some_and(|until| now <= until + FINDS_OUT)
    }
}

/// What a node owns, rather than shows.
fn is_owned(held: &Held) -> bool {
    matches!(held.kind, kind::PLAYER | kind::ANIMAL | kind::BATTLE)
}
