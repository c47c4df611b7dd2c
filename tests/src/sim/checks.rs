//! What must hold: pure comparisons of what all nodes hold, what all clients are shown, and what the documents say.
//!
//! [`owners`] and [`beliefs`] look while faults go on, [`whole`] when they are over. They NEVER change anything.

pub mod beliefs;
pub mod owners;
pub mod whole;

use std::collections::BTreeMap;

use cartographer::geometry::Cell;
use cartographer::motion::Motion;
use cartographer::world::Stats;
use mesh::{MeshView, Role};
use nodes::game::{GameWorld, View, kind, pose};

use super::cluster::Cluster;

/// Violations told of one kind, at most.
const TOLD: usize = 5;

/// An object as some node holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    publisher: u64,
    epoch: u64,
    version: u64,
    motion: Motion,
    cell: Cell,
    kind: u8,
    /// The battle in which it is, or 0.
    battle: u64,
}

/// What one node holds and believes.
#[derive(Clone, Debug)]
pub struct Census {
    /// Its number.
    pub place: usize,
    /// Its role.
    pub role: Role,
    /// Which life this is.
    pub life: u64,
    /// Whether it may act as an owner.
    pub acts: bool,
    /// What it owns.
    pub reals: BTreeMap<u64, Held>,
    /// What it holds of others.
    pub ghosts: BTreeMap<u64, Held>,
    /// The cells that it sees.
    pub seen: Vec<Cell>,
    /// A number that stands for all that its world did.
    pub trace: u64,
    /// Its world's counts.
    pub stats: Stats,
    view: MeshView,
    /// The battles that it leads: who is in them, and their health in percent.
    members: BTreeMap<u64, Vec<(u64, u8)>>,
}

/// Asks every running, unfrozen node.
pub async fn census(cluster: &Cluster) -> Vec<Census> {
    let mut all = Vec::new();
    for (place, running) in cluster.places.iter().enumerate() {
        let Some(life) = running.awake() else { continue };
        let (view, role, lease) = (life.mesh.view(), running.role, life.mesh.lease());
        let publisher = life.incarnation();
        // Asked in the same moment as what it holds.
        let look = move |world: &GameWorld| look_at(world, place, role, publisher, lease.holds(), view);
        if let Some(census) = life.look(look).await {
            all.push(census);
        }
    }
    all
}

fn battle_of(view: &View) -> u64 {
    let may = matches!(view.kind, kind::PLAYER | kind::ANIMAL) && view.pose == pose::FIGHTS;
    if may { view.tie } else { 0 }
}

fn look_at(world: &GameWorld, place: usize, role: Role, publisher: u64, acts: bool, view: MeshView) -> Census {
    let reals = world.reals().map(|real| {
        let (epoch, version, view) = (real.epoch().0, real.version(), real.view());
        let (motion, cell, kind, battle) = (real.motion(), real.cell(), view.kind, battle_of(view));
        (real.id().0, Held { publisher, epoch, version, motion, cell, kind, battle })
    });
    let ghosts = world.ghosts().map(|(id, ghost)| {
        let (epoch, version, view, publisher) = (ghost.epoch().0, ghost.version(), ghost.view(), ghost.publisher());
        let (motion, cell, kind, battle) = (ghost.motion(), ghost.cell(), view.kind, battle_of(view));
        (id.0, Held { publisher, epoch, version, motion, cell, kind, battle })
    });
    let battles = world.reals().filter(|real| real.view().kind == kind::BATTLE).filter_map(|real| {
        let battle = nodes::game::battle::Battle::of(&real.view().detail)?;
        Some((real.id().0, battle.members.iter().map(|(member, _, health)| (*member, *health)).collect()))
    });
    Census {
        place,
        role,
        life: publisher,
        acts,
        reals: reals.collect(),
        ghosts: ghosts.collect(),
        seen: world.seen_cells(),
        trace: world.trace_hash(),
        stats: world.stats(),
        view,
        members: battles.collect(),
    }
}

/// Adds some of what was found, and how much more there is.
fn tell(found: &mut Vec<String>, mut more: Vec<String>) {
    let count = more.len();
    more.truncate(TOLD);
    found.extend(more);
    if count > TOLD {
        found.push(format!("… and {} more of this kind", count - TOLD));
    }
}

/// A number that stands for all that happened.
#[derive(Default)]
pub struct Trace(u64);

impl Trace {
    /// Adds a census.
    pub fn add(&mut self, census: &[Census]) {
        for node in census {
            self.mix(node.place as u64);
            self.mix(node.trace);
        }
    }

    /// The number.
    pub fn finish(self) -> u64 {
        self.0
    }

    /// FNV-1a over the bytes (Fowler, Noll, Vo).
    pub fn mix(&mut self, value: u64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds bytes.
    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
