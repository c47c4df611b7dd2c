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
    of_epochs(asked(mesh, objects, own).await, epoch)
}

/// Of each object the freshest that was seen of it under the epoch that `epoch` names.
fn of_epochs(found: Vec<Seen>, epoch: impl Fn(ObjectId) -> Epoch) -> BTreeMap<ObjectId, Seen> {
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

#[cfg(test)]
mod tests {
    use cartographer::geometry::{IslandId, Place};

    use super::*;
    use crate::game::View;

    fn seen(object: u64, epoch: u64, version: u64) -> Seen {
        let motion = Motion::standing(Place::default(), 0);
        let (object, epoch, view) = (ObjectId(object), Epoch(epoch), View::default());
        Seen { object, epoch, version, publisher: version, island: IslandId(1), motion, view }
    }

    #[test]
    fn only_what_was_seen_under_the_epoch_of_the_document_counts_and_of_that_the_freshest() {
        let found = vec![seen(1, 4, 9), seen(1, 5, 2), seen(1, 5, 3), seen(1, 6, 1), seen(2, 4, 7)];
        let last = of_epochs(found, |_| Epoch(5));
        assert_eq!(last.into_values().collect::<Vec<_>>(), [seen(1, 5, 3)], "nothing is known of the second");
    }
}
