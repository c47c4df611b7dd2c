//! What the mesh last saw of objects whose owner is gone: the freshest ghost that any node holds.
//!
//! Whoever takes something over reads from its document what is durable, and from here what is not: place, wounds, pose. A ghost
//! counts only under the epoch of the owner that is gone; it NEVER overrules a document that was saved by a later one.

use std::collections::BTreeMap;
use std::time::Duration;

use cartographer::geometry::{Epoch, ObjectId};
use cartographer::motion::Motion;
use futures_util::future::join_all;
use mesh::{Mesh, NodeId, PeerState};
use tokio::time::timeout;

use crate::game::GameWorld;
use crate::methods::moving::{CELLS_GHOSTS, GHOSTS, Seen};
use crate::methods::{pack, unpack};

/// How long all nodes together are waited for: what is not told by then is not worth a player's time.
const PATIENCE: Duration = Duration::from_millis(600);

/// What this world sees of objects. `offset_ms` tells by publisher what to add to its clock to get `now`.
pub fn look(world: &GameWorld, now: u64, objects: &[ObjectId], offset_ms: impl Fn(u64) -> i64) -> Vec<Seen> {
    let seen = |object: &ObjectId| {
        let ghost = world.ghost(*object)?;
        let theirs = now.saturating_add_signed(-offset_ms(ghost.publisher()));
        let motion = ghost.motion();
        let left = motion.ends().saturating_sub(theirs);
        Some(Seen {
            object: *object,
            epoch: ghost.epoch(),
            version: ghost.version(),
            publisher: ghost.publisher(),
            island: ghost.cell().island,
            motion: Motion {
                from: motion.at(theirs),
                since: 0,
                duration_ms: u32::try_from(left).unwrap_or(u32::MAX),
                ..motion
            },
            view: ghost.view().clone(),
        })
    };
    objects.iter().take(GHOSTS).filter_map(seen).collect()
}

/// Asks every node that is up what it sees of `objects`, this one by `own` ([`look`] in its world), and keeps the freshest of
/// each under the epoch that `epoch` names.
pub async fn freshest(
    mesh: &Mesh,
    objects: &[ObjectId],
    own: Vec<Seen>,
    epoch: impl Fn(ObjectId) -> Epoch,
) -> BTreeMap<ObjectId, Seen> {
    let found = asked(mesh, objects, own).await;
    pick(found, |seen| seen.epoch == epoch(seen.object) || planted::is("last_seen_of_any_epoch"))
}

/// Of each object the freshest that was seen of it, among what counts.
pub fn pick(found: impl IntoIterator<Item = Seen>, counts: impl Fn(&Seen) -> bool) -> BTreeMap<ObjectId, Seen> {
    let mut freshest: BTreeMap<ObjectId, Seen> = BTreeMap::new();
    for seen in found.into_iter().filter(|seen| counts(seen)) {
        match freshest.get(&seen.object) {
            Some(known) if (known.epoch, known.version) >= (seen.epoch, seen.version) => {}
            _ => drop(freshest.insert(seen.object, seen)),
        }
    }
    freshest
}

/// All that this node (by `own`) and every other one that is up sees of `objects`, whatever the epoch.
pub async fn asked(mesh: &Mesh, objects: &[ObjectId], own: Vec<Seen>) -> Vec<Seen> {
    let peers: Vec<NodeId> = {
        let table = mesh.peers();
        let up = table.iter().filter(|peer| peer.state == PeerState::Up);
        up.map(|peer| peer.record.node.clone()).collect()
    };
    let mut found = own;
    for objects in objects.chunks(GHOSTS) {
        let body = pack(&objects);
        let asked = peers.iter().map(|peer| {
            let body = body.clone();
            async move { timeout(PATIENCE, mesh.call(peer, &CELLS_GHOSTS, body)).await.ok()?.ok() }
        });
        let answers = join_all(asked).await;
        found.extend(answers.into_iter().flatten().filter_map(|body| unpack::<Vec<Seen>>(&body).ok()).flatten());
    }
    found
}
