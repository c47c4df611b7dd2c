//! What one seed is like, drawn from it: how many nodes and people, what they do, what befalls them, and how often.
//!
//! Swarm testing (Groce, Zhang, Eide, Chen, Regehr, 2012): a run that does everything a little hides what only happens when
//! much of one thing meets none of another. So each seed leaves out about half of the deeds and of the faults. Nothing here
//! EVER depends on anything but the seed.

use mesh::Role;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faults::FaultKind;
use super::people::deeds::Deed;

/// One run.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Everything that is left to chance comes from it.
    pub seed: u64,
    /// A planted bug, by its name in [`planted::LIST`]; none in a true run.
    pub bug: Option<&'static str>,
}

impl SimConfig {
    /// A true run.
    pub fn new(seed: u64) -> SimConfig {
        SimConfig { seed, bug: None }
    }
}

/// What a seed has drawn.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Nodes, by role.
    pub nodes: Vec<(Role, usize)>,
    /// How many people there are.
    pub people: usize,
    /// What they do, and how often each among the others.
    pub deeds: Vec<(Deed, u32)>,
    /// Between two deeds of one person at least and at most, in simulated milliseconds.
    pub pace_ms: (u64, u64),
    /// What befalls the nodes, and how often each among the others; nothing in a calm run.
    pub faults: Vec<(FaultKind, u32)>,
    /// Between two faults at most, in simulated milliseconds.
    pub calm_ms: u64,
    /// The longest that one fault lasts, in simulated milliseconds.
    pub longest_ms: u64,
    /// How long faults go on, in simulated milliseconds.
    pub faults_ms: u64,
    /// The ordinary delay of messages and of the store, in milliseconds.
    pub delay_ms: u32,
    /// By how many seconds calendars differ, at most.
    pub calendars_s: u64,
    /// How many animals a habitat has.
    pub fierce: bool,
    /// Whether at the end one more dies, and nobody takes its place until everybody knows.
    pub mourns: bool,
}

impl Plan {
    /// What the seed draws.
    pub fn draw(seed: u64) -> Plan {
        let mut random = StdRng::seed_from_u64(seed ^ 0x70_6c61_6e00);
        let nodes = vec![
            (Role::Frontend, if random.random_ratio(1, 5) { 2 } else { 3 }),
            (Role::Zoo, if random.random_ratio(1, 4) { 1 } else { 2 }),
            (Role::Garden, if random.random_ratio(1, 4) { 1 } else { 2 }),
            (Role::Colosseum, random.random_range(1..=2)),
        ];
        let deeds = Deed::ALL.iter().filter_map(|(deed, weight)| {
            let often = random.random_range(1..=4);
            let kept = *deed == Deed::Walk || random.random_bool(0.6);
            kept.then_some((*deed, weight * often))
        });
        let deeds: Vec<(Deed, u32)> = deeds.collect();
        // Nine in ten runs have faults; of these each kind is there or not.
        let troubled = !random.random_ratio(1, 12);
        let faults = FaultKind::ALL.iter().filter_map(|(kind, weight)| {
            let often = random.random_range(1..=4);
            (random.random_bool(0.4) && troubled).then_some((*kind, weight * often))
        });
        let faults: Vec<(FaultKind, u32)> = faults.collect();
        let slow = random.random_range(200..2_000);
        Plan {
            seed,
            nodes,
            people: random.random_range(8..=24),
            deeds,
            pace_ms: (slow / 4, slow),
            faults,
            calm_ms: random.random_range(400..3_000),
            longest_ms: random.random_range(1_000..9_000),
            faults_ms: random.random_range(12_000..24_000),
            delay_ms: if random.random_bool(0.3) { random.random_range(1..20) } else { 0 },
            calendars_s: if random.random_bool(0.3) { random.random_range(1..60) } else { 0 },
            fierce: random.random_bool(0.5),
            mourns: troubled && random.random_ratio(1, 3),
        }
    }
}

/// Draws one of several by weight; `None` of none.
pub fn weighed<T: Copy>(random: &mut StdRng, all: &[(T, u32)]) -> Option<T> {
    let total: u32 = all.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut point = random.random_range(0..total);
    for (one, weight) in all {
        if point < *weight {
            return Some(*one);
        }
        point -= weight;
    }
    None
}
