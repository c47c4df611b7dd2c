//! What happens to whom and when, drawn from a seed: a pure function, the same for the same seed.
//!
//! Of every role at least one node is left alone at any time, and of the directory's members at most one is hit, so that
//! whatever players notice has a bound. What a replacement takes is not known beforehand; whoever carries the plan out leaves
//! out what would break this rule then.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The nodes of the cluster, by role.
pub const LAYOUT: [(&str, usize); 5] = [("gateway", 2), ("frontend", 3), ("zoo", 2), ("garden", 2), ("colosseum", 2)];

/// The lease of nodes, in seconds.
pub const LEASE_S: u64 = 5;

/// So long after a fault its node counts as hit: it has to come back, and others to let go of what they took over.
pub const MARGIN_MS: u64 = (LEASE_S + 5) * 1_000;

/// What the schedule is restricted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// Frontends are killed, one at a time, each down for longer than a lease.
    KillFrontend,
    /// The same with zoos.
    KillZoo,
    /// The same with gardens.
    KillGarden,
    /// The same with colosseums.
    KillColosseum,
    /// The same with gateways.
    KillGateway,
    /// Nodes are frozen for longer than their lease.
    Freeze,
    /// Links are cut, one way and both.
    Cut,
    /// The directory: its leader is killed, nodes are cut off from it.
    Directory,
    /// The store's writers are held up.
    Store,
    /// Every node is replaced in turn.
    Rolling,
    /// Nothing happens: what the bots find then is the game's.
    Nothing,
}

/// What happens.
#[allow(missing_docs, reason = "node, from, to and for_ms (milliseconds) say what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and another life after a while.
    Kill { node: usize, for_ms: u64 },
    /// SIGSTOP, and SIGCONT after a while.
    Freeze { node: usize, for_ms: u64 },
    /// What one node sends does not reach another, and the other way round if `both`.
    Cut { from: usize, to: usize, both: bool, for_ms: u64 },
    /// A node does not reach the directory.
    NoDirectory { node: usize, for_ms: u64 },
    /// The store's writers wait.
    Stall { for_ms: u64 },
    /// The directory's leader is killed, and comes back after a while.
    Leader { for_ms: u64 },
    /// SIGTERM, and another life as soon as it has ended.
    Replace { node: usize },
}

/// When it happens, in milliseconds from the first moment at which everybody plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// Its kind, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill",
            Fault::Freeze { .. } => "freeze",
            Fault::Cut { both: false, .. } => "cut_one_way",
            Fault::Cut { .. } => "cut",
            Fault::NoDirectory { .. } => "no_directory",
            Fault::Stall { .. } => "stall",
            Fault::Leader { .. } => "leader",
            Fault::Replace { .. } => "replace",
        }
    }

    /// The nodes that are hit.
    pub fn nodes(&self) -> Vec<usize> {
        match self {
            Fault::Kill { node, .. } | Fault::Freeze { node, .. } | Fault::NoDirectory { node, .. } => vec![*node],
            Fault::Replace { node } => vec![*node],
            Fault::Cut { from, to, .. } => vec![*from, *to],
            Fault::Stall { .. } | Fault::Leader { .. } => Vec::new(),
        }
    }

    /// How long it lasts; a replacement as long as it commonly takes.
    pub fn for_ms(&self) -> u64 {
        match self {
            Fault::Kill { for_ms, .. }
            | Fault::Freeze { for_ms, .. }
            | Fault::Cut { for_ms, .. }
            | Fault::NoDirectory { for_ms, .. }
            | Fault::Stall { for_ms }
            | Fault::Leader { for_ms } => *for_ms,
            Fault::Replace { .. } => 10_000,
        }
    }
}

/// The names of all nodes, by their numbers.
pub fn names() -> Vec<String> {
    LAYOUT.iter().flat_map(|(role, count)| (0..*count).map(move |i| format!("{role}-{i}"))).collect()
}

/// The role of a node.
pub fn role(node: usize) -> &'static str {
    let mut first = 0;
    for (role, count) in LAYOUT {
        first += count;
        if node < first {
            return role;
        }
    }
    unreachable!("there are {first} nodes, no {node}")
}

/// The nodes of a role.
pub fn of_role(wanted: &str) -> Vec<usize> {
    (0..names().len()).filter(|node| role(*node) == wanted).collect()
}

/// Whether nodes may be hit while others are: of each role one must be left.
pub fn leaves_one(hit: &[usize], more: &[usize]) -> bool {
    LAYOUT.iter().all(|(role, _)| {
        let hit_now = |node: &usize| hit.contains(node) || more.contains(node);
        more.iter().all(|node| self::role(*node) != *role) || of_role(role).iter().any(|node| !hit_now(node))
    })
}

/// What happens within so many milliseconds.
pub fn plan(seed: u64, length_ms: u64, only: Option<Only>) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut planned: Vec<Planned> = Vec::new();
    let (mut at_ms, mut round) = (2_000, 0);
    while at_ms < length_ms {
        let Some(fault) = draw(&mut rng, only, round) else { return Vec::new() };
        let hit: Vec<usize> = hit_at(&planned, at_ms);
        let directory = |fault: &Fault| matches!(fault, Fault::Leader { .. } | Fault::Stall { .. });
        let lasting = |it: &&Planned| it.at_ms + it.fault.for_ms() + MARGIN_MS > at_ms && directory(&it.fault);
        let alone = !directory(&fault) || !planned.iter().any(|it| lasting(&it));
        let fits = at_ms + fault.for_ms() <= length_ms;
        if leaves_one(&hit, &fault.nodes()) && alone && fits {
            let pause_ms = match only {
                // Each by itself, so that what is noticed is of this one.
                Some(_) => fault.for_ms() + MARGIN_MS + rng.random_range(0..2_000),
                None => rng.random_range(3_000..9_000),
            };
            planned.push(Planned { at_ms, fault });
            at_ms += pause_ms;
            round += 1;
        } else {
            at_ms += 500;
        }
    }
    planned
}

fn hit_at(planned: &[Planned], at_ms: u64) -> Vec<usize> {
    let lasting = planned.iter().filter(|it| it.at_ms + it.fault.for_ms() + MARGIN_MS > at_ms);
    lasting.flat_map(|it| it.fault.nodes()).collect()
}

fn draw(rng: &mut StdRng, only: Option<Only>, round: usize) -> Option<Fault> {
    let one_of = |rng: &mut StdRng, role: &str| {
        let nodes = of_role(role);
        nodes[rng.random_range(0..nodes.len())]
    };
    let killed = |rng: &mut StdRng, role: &str| {
        let node = one_of(rng, role);
        Some(Fault::Kill { node, for_ms: rng.random_range(8_000..12_000) })
    };
    let all = names().len();
    match only {
        Some(Only::Nothing) => None,
        Some(Only::KillFrontend) => killed(rng, "frontend"),
        Some(Only::KillZoo) => killed(rng, "zoo"),
        Some(Only::KillGarden) => killed(rng, "garden"),
        Some(Only::KillColosseum) => killed(rng, "colosseum"),
        Some(Only::KillGateway) => killed(rng, "gateway"),
        Some(Only::Freeze) => Some(freeze(rng)),
        Some(Only::Cut) => Some(cut(rng)),
        Some(Only::Directory) if round.is_multiple_of(2) => {
            Some(Fault::Leader { for_ms: rng.random_range(1_000..6_000) })
        }
        Some(Only::Directory) => Some(no_directory(rng)),
        Some(Only::Store) => Some(Fault::Stall { for_ms: rng.random_range(1_000..6_000) }),
        Some(Only::Rolling) => Some(Fault::Replace { node: round % all }),
        None => Some(match rng.random_range(0..100) {
            0..34 => Fault::Kill { node: rng.random_range(0..all), for_ms: rng.random_range(500..9_000) },
            34..50 => freeze(rng),
            50..68 => cut(rng),
            68..76 => no_directory(rng),
            76..82 => Fault::Stall { for_ms: rng.random_range(1_000..5_000) },
            82..88 => Fault::Leader { for_ms: rng.random_range(1_000..6_000) },
            _ => Fault::Replace { node: rng.random_range(0..all) },
        }),
    }
}

fn freeze(rng: &mut StdRng) -> Fault {
    let lease_ms = LEASE_S * 1_000;
    Fault::Freeze {
        node: rng.random_range(0..names().len()),
        for_ms: rng.random_range(lease_ms + 2_000..lease_ms + 7_000),
    }
}

fn cut(rng: &mut StdRng) -> Fault {
    let all = names().len();
    let from = rng.random_range(0..all);
    let to = (from + rng.random_range(1..all)) % all;
    Fault::Cut { from, to, both: rng.random_bool(0.5), for_ms: rng.random_range(3_000..12_000) }
}

fn no_directory(rng: &mut StdRng) -> Fault {
    Fault::NoDirectory { node: rng.random_range(0..names().len()), for_ms: rng.random_range(2_000..10_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_always_leaves_one_of_each_role() {
        for seed in 0..50 {
            let planned = plan(seed, 600_000, None);
            assert_eq!(planned, plan(seed, 600_000, None));
            assert!(planned.len() > 40, "{}", planned.len());
            for (i, one) in planned.iter().enumerate() {
                let hit = hit_at(&planned[..i], one.at_ms);
                assert!(leaves_one(&hit, &one.fault.nodes()), "seed {seed}: {one:?} while {hit:?} are hit");
                assert!(one.at_ms + one.fault.for_ms() <= 600_000, "it ends before the quiet: {one:?}");
            }
        }
        assert_ne!(plan(1, 600_000, None), plan(2, 600_000, None));
    }

    #[test]
    fn every_kind_of_fault_comes_and_a_restriction_holds() {
        let kinds: std::collections::BTreeSet<_> =
            plan(1, 3_600_000, None).iter().map(|planned| planned.fault.kind()).collect();
        assert_eq!(kinds.len(), 8, "{kinds:?}");
        let killed = plan(1, 600_000, Some(Only::KillZoo));
        assert!(killed.len() > 20 && killed.iter().all(|it| role(it.fault.nodes()[0]) == "zoo"));
        assert!(killed.windows(2).all(|pair| pair[1].at_ms - pair[0].at_ms > MARGIN_MS));
        let replaced: Vec<usize> =
            plan(1, 600_000, Some(Only::Rolling)).iter().flat_map(|it| it.fault.nodes()).take(11).collect();
        assert_eq!(replaced, (0..11).collect::<Vec<_>>());
        assert!(plan(1, 600_000, Some(Only::Nothing)).is_empty());
    }
}
