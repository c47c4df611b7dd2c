//! What must hold: pure comparisons of what all nodes hold and what all clients are shown.

use std::collections::BTreeMap;

use cartographer::geometry::Cell;
use cartographer::motion::Motion;
use cartographer::world::Stats;
use mesh::{MeshView, PeerState};
use nodes::game::GameWorld;
use nodes::world_loop::Inspection;
use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::walkers::{self, Walkers};

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
}

/// What one node holds and believes.
#[derive(Clone, Debug)]
pub struct Census {
    /// Its number.
    pub place: usize,
    reals: BTreeMap<u64, Held>,
    ghosts: BTreeMap<u64, Held>,
    seen: Vec<Cell>,
    trace: u64,
    /// Its world's counts.
    pub stats: Stats,
    view: MeshView,
}

/// Asks every running, unfrozen node.
pub async fn census(cluster: &Cluster) -> Vec<Census> {
    let mut all = Vec::new();
    for (place, running) in cluster.places.iter().enumerate() {
        let Some(node) = running.node.as_ref().filter(|_| !running.frozen) else { continue };
        let (tell, told) = oneshot::channel();
        let view = node.mesh.view();
        let publisher = node.mesh.me().incarnation.0;
        let look: Inspection = Box::new(move |world| {
            // An error means that the census has been given up.
            let _ = tell.send(look_at(world, place, publisher, view));
        });
        node.inspect(look).await;
        if let Ok(census) = told.await {
            all.push(census);
        }
    }
    all
}

fn look_at(world: &GameWorld, place: usize, publisher: u64, view: MeshView) -> Census {
    let reals = world.reals().map(|real| {
        let (epoch, version) = (real.epoch().0, real.version());
        (real.id().0, Held { publisher, epoch, version, motion: real.motion(), cell: real.cell() })
    });
    let ghosts = world.ghosts().map(|(id, ghost)| {
        let (epoch, version) = (ghost.epoch().0, ghost.version());
        (id.0, Held { publisher: ghost.publisher(), epoch, version, motion: ghost.motion(), cell: ghost.cell() })
    });
    Census {
        place,
        reals: reals.collect(),
        ghosts: ghosts.collect(),
        seen: world.seen_cells(),
        trace: world.trace_hash(),
        stats: world.stats(),
        view,
    }
}

/// What was true a moment ago, is true, and was true right after what is judged had been looked at. Players rest when it is
/// judged; animals never do, and news of them is under way for a moment.
pub struct Truth {
    then: BTreeMap<u64, Held>,
    now: BTreeMap<u64, Held>,
    after: BTreeMap<u64, Held>,
}

impl Truth {
    /// From three censuses, the first of them [`super::LAG_MS`] older.
    pub fn new(then: &[Census], now: &[Census], after: &[Census]) -> Truth {
        Truth { then: reals(then), now: reals(now), after: reals(after) }
    }

    /// Whether this is what is told of an object, as it is or was a moment ago. Of what has not changed there is one truth.
    fn holds(&self, id: u64, told: (u64, u64)) -> bool {
        let state = |held: &Held| (held.epoch, held.version);
        let (then, after) = (self.then.get(&id).map(state), self.after.get(&id).map(state));
        (then.is_some() || after.is_some())
            && then.is_none_or(|then| then <= told)
            && after.is_none_or(|after| told <= after)
    }

    /// The objects that have been in one cell all the while.
    fn settled(&self) -> impl Iterator<Item = (&u64, &Held)> {
        let there = |all: &BTreeMap<u64, Held>, id, cell| all.get(id).is_some_and(|held| held.cell == cell);
        let both = move |id, cell| there(&self.then, id, cell) && there(&self.after, id, cell);
        self.now.iter().filter(move |(id, held)| both(id, held.cell))
    }
}

fn reals(census: &[Census]) -> BTreeMap<u64, Held> {
    census.iter().flat_map(|node| node.reals.iter().map(|(id, held)| (*id, *held))).collect()
}

/// All that is wrong in a mesh that should be whole and quiet.
pub fn violations(cluster: &Cluster, census: &[Census], truth: &Truth, walkers: &Walkers) -> Vec<String> {
    let mut found = Vec::new();
    let names = |place: usize| cluster.places[place].name.as_str();
    if census.len() != cluster.places.len() {
        found.push(format!("{} of {} nodes answer", census.len(), cluster.places.len()));
    }
    tell(&mut found, membership(census, &names));
    let mut owned: BTreeMap<u64, Held> = BTreeMap::new();
    let mut twice = Vec::new();
    for node in census {
        for (id, held) in &node.reals {
            if let Some(other) = owned.insert(*id, *held) {
                twice
                    .push(format!("object {id} is real at {} ({held:?}) and elsewhere ({other:?})", names(node.place)));
            }
        }
    }
    tell(&mut found, twice);
    for node in census {
        tell(&mut found, ghosts(node, truth, names(node.place)));
    }
    tell(&mut found, clients(truth, walkers));
    found
}

fn membership<'a>(census: &[Census], names: &impl Fn(usize) -> &'a str) -> Vec<String> {
    let mut found = Vec::new();
    for node in census {
        let name = names(node.place);
        if !node.view.registered {
            found.push(format!("{name} is not registered"));
        }
        if node.view.peers.len() + 1 != census.len() {
            found.push(format!("{name} knows {} peers of {}", node.view.peers.len(), census.len() - 1));
        }
        for peer in &node.view.peers {
            if peer.state != PeerState::Up || !peer.agrees {
                found.push(format!(
                    "{name} sees {} {} ({:?}), agrees: {}",
                    peer.node, peer.state, peer.reason, peer.agrees
                ));
            }
        }
    }
    found
}

/// In every cell that the node sees, its ghosts MUST be the others' reals; elsewhere it MUST hold none.
fn ghosts(node: &Census, truth: &Truth, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let seen: std::collections::BTreeSet<Cell> = node.seen.iter().copied().collect();
    for (id, ghost) in &node.ghosts {
        match truth.now.get(id) {
            _ if !truth.holds(*id, (ghost.epoch, ghost.version)) => {
                found.push(format!("{name} holds {id} as {ghost:?}, it is {:?}", truth.now.get(id)));
            }
            Some(real) if (real.epoch, real.version) == (ghost.epoch, ghost.version) && real != ghost => {
                found.push(format!("{name} holds {id} as {ghost:?}, it is {real:?}"));
            }
            _ if !seen.contains(&ghost.cell) => found.push(format!("{name} holds {id} in a cell it does not see")),
            _ => {}
        }
    }
    for (id, real) in truth.settled() {
        if seen.contains(&real.cell) && !node.reals.contains_key(id) && !node.ghosts.contains_key(id) {
            found.push(format!("{name} sees the cell of {id} and holds no ghost of it ({real:?})"));
        }
    }
    if !found.is_empty() {
        found.insert(0, format!("{name} has {:?} and made {:?}", node.stats, node.view.counters));
    }
    found
}

/// Every walker MUST be in, and be shown exactly what is in the cells that it sees.
fn clients(truth: &Truth, walkers: &Walkers) -> Vec<String> {
    let mut found = Vec::new();
    for client in &walkers.shown {
        let client = walkers::lock(client);
        let Some(sight) = &client.sight else {
            found.push("a walker is out".to_owned());
            continue;
        };
        let who = client.player;
        for (id, ghost) in sight.ghosts() {
            let told = (ghost.epoch, ghost.version);
            let same = |real: &Held| (real.epoch, real.version) != told || real.publisher == ghost.publisher;
            if !truth.holds(id, told) || !truth.now.get(&id).is_none_or(same) {
                found.push(format!("walker {who} is shown {id} as {ghost:?}, it is {:?}", truth.now.get(&id)));
            }
        }
        for (id, real) in truth.settled() {
            if sight.cells().contains(&(real.cell.x, real.cell.y)) && sight.ghost(*id).is_none() {
                found.push(format!("walker {who} is not shown {id} ({real:?})"));
            }
        }
        if sight.cells().is_empty() {
            found.push(format!("walker {who} sees no cell"));
        }
    }
    found
}

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
    fn mix(&mut self, value: u64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
