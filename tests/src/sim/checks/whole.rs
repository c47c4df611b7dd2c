//! What must hold when faults are over and the mesh had its time: every node, ghost, client, document and battle agrees.

use std::collections::{BTreeMap, BTreeSet};

use cartographer::geometry::{Cell, IslandId, Place};
use estate::player::{Owner, PlayerDocument};
use estate::post;
use estate::store::Stored;
use mesh::{PeerState, Role};
use nodes::game::kind;
use serde::Deserialize;

use super::{Census, Held, tell};
use crate::sim::cluster::Cluster;
use crate::sim::faults;
use crate::sim::people::{FIRST_PLAYER, People, lock};

/// What was true a moment ago, is true, and was true right after what is judged had been looked at. Players rest when it is
/// judged; animals never do, and news of them is under way for a moment.
pub struct Truth {
    then: BTreeMap<u64, Held>,
    now: BTreeMap<u64, Held>,
    after: BTreeMap<u64, Held>,
}

impl Truth {
    /// From three censuses, the first of them older by as long as news may take.
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
pub fn violations(cluster: &Cluster, census: &[Census], truth: &Truth, people: &People) -> Vec<String> {
    let mut found = Vec::new();
    if census.len() != cluster.places.len() {
        found.push(format!("{} of {} nodes answer", census.len(), cluster.places.len()));
    }
    tell(&mut found, membership(cluster, census));
    tell(&mut found, twice(cluster, census));
    for node in census {
        tell(&mut found, ghosts(node, truth, &cluster.places[node.place].name));
    }
    tell(&mut found, clients(truth, people));
    tell(&mut found, battles(cluster, census));
    let documents = cluster.store.snapshot();
    tell(&mut found, players(census, &documents, people));
    tell(&mut found, habitats(cluster, census, &documents, people));
    if faults::steward(cluster).is_none() {
        found.push("no running node is the steward".to_owned());
    }
    found
}

fn membership(cluster: &Cluster, census: &[Census]) -> Vec<String> {
    let mut found = Vec::new();
    for node in census {
        let name = &cluster.places[node.place].name;
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

/// Every object MUST be real once.
fn twice(cluster: &Cluster, census: &[Census]) -> Vec<String> {
    let mut owned: BTreeMap<u64, (usize, Held)> = BTreeMap::new();
    let mut found = Vec::new();
    for node in census {
        for (id, held) in &node.reals {
            if let Some((other, its)) = owned.insert(*id, (node.place, *held)) {
                let (name, other) = (&cluster.places[node.place].name, &cluster.places[other].name);
                found.push(format!("object {id} is real at {name} ({held:?}) and at {other} ({its:?})"));
            }
        }
    }
    found
}

/// In every cell that the node sees, its ghosts MUST be the others' reals; elsewhere it MUST hold none.
fn ghosts(node: &Census, truth: &Truth, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let seen: BTreeSet<Cell> = node.seen.iter().copied().collect();
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

/// Everybody MUST be in, wait for nothing, and be shown exactly what is in the cells that they see.
fn clients(truth: &Truth, people: &People) -> Vec<String> {
    let mut found = Vec::new();
    for shown in &people.shown {
        let shown = lock(shown);
        let who = shown.player;
        found.extend(shown.malformed.iter().map(|what| format!("person {who} was sent nonsense: {what}")));
        found.extend(shown.strayed.iter().map(|what| format!("person {who} {what}")));
        if shown.open > 0 {
            found.push(format!("person {who} still waits: {}", shown.state));
        }
        if let Some(what) = &shown.not_replaced {
            found.push(format!("person {who} has a newer session, and {what}"));
        }
        let Some(sight) = &shown.sight else {
            found.push(format!("person {who} is out: {}", shown.state));
            continue;
        };
        if sight.cells.is_empty() {
            found.push(format!("person {who} sees no cell"));
        }
        let mut ids = BTreeSet::new();
        for (id, publisher, epoch, version) in &sight.ghosts {
            ids.insert(*id);
            let told = (*epoch, *version);
            let same = |real: &Held| (real.epoch, real.version) != told || real.publisher == *publisher;
            if !truth.holds(*id, told) || !truth.now.get(id).is_none_or(same) {
                found.push(format!(
                    "person {who} is shown {id} as {told:?} of {publisher:x}, it is {:?}",
                    truth.now.get(id)
                ));
            }
        }
        for (id, real) in truth.settled() {
            let cell = (real.cell.x, real.cell.y);
            if real.cell.island.0 == sight.island && sight.cells.contains(&cell) && !ids.contains(id) {
                found.push(format!("person {who} is not shown {id} ({real:?})"));
            }
        }
    }
    found
}

/// Whoever fights MUST be in a battle that goes on and knows it, and the other way round.
fn battles(cluster: &Cluster, census: &[Census]) -> Vec<String> {
    let mut found = Vec::new();
    let ids = |members: &Vec<(u64, u8)>| members.iter().map(|(member, _)| *member).collect::<Vec<_>>();
    let rooms: BTreeMap<u64, Vec<u64>> =
        census.iter().flat_map(|node| node.members.iter().map(|(id, members)| (*id, ids(members)))).collect();
    let mut fighting = BTreeMap::new();
    for node in census {
        let fighters = node.reals.iter().filter(|(_, held)| held.battle != 0);
        for (id, held) in fighters {
            fighting.insert(*id, held.battle);
            let name = &cluster.places[node.place].name;
            match rooms.get(&held.battle) {
                None => found.push(format!("{id} at {name} is in battle {}, which is nowhere", held.battle)),
                Some(members) if !members.contains(id) => {
                    found.push(format!("{id} at {name} is in battle {}, which does not know it", held.battle));
                }
                Some(_) => {}
            }
        }
    }
    for (battle, members) in rooms {
        for member in members.iter().filter(|member| fighting.get(member) != Some(&battle)) {
            let is = fighting.get(member);
            found.push(format!("battle {battle} has the member {member}, which is in {is:?}"));
        }
    }
    found
}

/// Every player's document MUST name the life of the frontend where the player is, under the epoch that it has there.
fn players(census: &[Census], documents: &BTreeMap<String, Stored>, people: &People) -> Vec<String> {
    let mut found = Vec::new();
    for player in FIRST_PLAYER..FIRST_PLAYER + people.shown.len() as u64 {
        let key = estate::player::key(player);
        let document = documents.get(&key).and_then(|stored| {
            estate::document::decode::<PlayerDocument>(&key, &stored.value).ok().map(|(document, _)| document)
        });
        let Some(document) = document else {
            found.push(format!("{key} is gone or cannot be read"));
            continue;
        };
        let live = census.iter().find_map(|node| Some((node.life, node.reals.get(&player)?.epoch)));
        let owner = document.owner.map(|owner| (owner.incarnation, owner.epoch));
        if live.is_none() || live != owner {
            found.push(format!("player {player} is live at {live:x?}, and its document says {owner:x?}"));
        }
    }
    found
}

#[derive(Deserialize)]
struct Head {
    owner: Option<Owner>,
}

/// Every habitat that players see MUST be awake on one zoo that lives.
fn habitats(
    cluster: &Cluster,
    census: &[Census],
    documents: &BTreeMap<String, Stored>,
    people: &People,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut watched = BTreeSet::new();
    for shown in &people.shown {
        let shown = lock(shown);
        let Some(sight) = &shown.sight else { continue };
        watched.extend(sight.cells.iter().map(|(x, y)| Cell::new(IslandId(sight.island), *x, *y)));
    }
    let zoos: BTreeMap<u64, &Census> =
        census.iter().filter(|node| node.role == Role::Zoo).map(|node| (node.life, node)).collect();
    for island in &cluster.islands {
        for (index, habitat) in island.habitats().iter().enumerate() {
            let (least, most) = habitat.bounds;
            let middle = Place::new((least.x + most.x) / 2, (least.y + most.y) / 2);
            if !middle.cell(island.id()).is_some_and(|cell| watched.contains(&cell)) {
                continue;
            }
            let key = post::key("habitat", &format!("{}.{index}", island.id().0));
            let owner = documents.get(&key).and_then(|stored| serde_json::from_slice::<Head>(&stored.value).ok());
            match owner.and_then(|head| head.owner) {
                Some(owner) if zoos.contains_key(&owner.incarnation) => {}
                other => {
                    let seen = people.shown.iter().map(|shown| lock(shown));
                    let who = seen.filter(|it| it.sight.as_ref().is_some_and(|sight| sight.island == island.id().0));
                    let who: Vec<u64> = who.map(|it| it.player).collect();
                    found.push(format!("{key} is seen (on the island are {who:?}), and awake nowhere: {other:?}"));
                }
            }
        }
    }
    let animals = census.iter().flat_map(|node| node.reals.iter().filter(|(_, held)| held.kind == kind::ANIMAL));
    if watched.is_empty() || animals.count() == 0 {
        found.push("nobody sees an animal".to_owned());
    }
    found
}
