//! Land that passes from garden to garden: shown here until it is shown there.
//!
//! What is another's because that has come, or come back, is offered to it under the highest epoch of this garden; what it does
//! not take is offered again with the next beat, and shown meanwhile. It NEVER hides what nobody else is known to show, unless
//! nobody sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cartographer::geometry::Chunk;
use mesh::{CallError, CallRefusal, Incarnation, NodeId};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::super::{GARDEN_TAKE, GardenInput, SETTLE, Shared, TAKEN, TakeOver, keeper};
use super::Awake;
use crate::methods::pack;
use crate::world_loop::WorldHandle;

impl Awake {
    /// Another garden has land of ours shown here from now on. False if the world is gone.
    pub(super) async fn outranks(&mut self, epoch: u64, leaver: Option<Incarnation>) -> bool {
        self.leavers.extend(leaver);
        self.floor = self.floor.max(epoch);
        self.peers_changed().await
    }

    /// Has other gardens show what is theirs by now and still shown here; the rest of `lost` comes back.
    pub(super) fn pass_on(&mut self, lost: Vec<Chunk>) -> Vec<Chunk> {
        let me = self.shared.mesh.me().node.clone();
        let mut by_heir: BTreeMap<NodeId, Vec<Chunk>> = BTreeMap::new();
        let mut rest = Vec::new();
        for chunk in lost {
            let seen = self.held && self.cells.contains(&chunk.cell());
            let heir = keeper(chunk, &self.gardens).filter(|heir| seen && **heir != me);
            match (self.chunks.get_mut(&chunk), heir) {
                (Some(woken), Some(_)) if woken.passed => {}
                (Some(woken), Some(heir)) if woken.shows => {
                    woken.passed = true;
                    by_heir.entry(heir.clone()).or_default().push(chunk);
                }
                _ => rest.push(chunk),
            }
        }
        for (heir, chunks) in by_heir {
            for chunks in chunks.chunks(TAKEN).map(<[Chunk]>::to_vec) {
                let flow = pass_on(self.shared.clone(), self.world.clone(), heir.clone(), chunks);
                self.passing.push(Box::pin(flow));
            }
        }
        rest
    }

    /// Other gardens show these now, or do not yet: then they stay. False if the world is gone.
    pub(super) async fn passed(&mut self, chunks: Vec<Chunk>, taken: bool) -> bool {
        for chunk in &chunks {
            if let Some(woken) = self.chunks.get_mut(chunk) {
                woken.passed = false;
            }
        }
        self.untaken |= !taken;
        let gone = chunks.into_iter().filter(|chunk| taken && !self.is_ours(*chunk)).collect();
        self.sleep(gone).await
    }

    /// Offers again what others have not taken. False if the world is gone.
    pub(super) async fn offer(&mut self) -> bool {
        if !std::mem::take(&mut self.untaken) {
            return true;
        }
        let lost = self.chunks.keys().filter(|chunk| !self.is_ours(**chunk)).copied().collect();
        let lost = self.pass_on(lost);
        self.sleep(lost).await
    }
}

/// Has another garden show land; whether it does.
async fn pass_on(
    shared: Arc<Shared>,
    world: WorldHandle<GardenInput>,
    heir: NodeId,
    chunks: Vec<Chunk>,
) -> (Vec<Chunk>, bool) {
    let (highest, epoch) = oneshot::channel();
    if !world.role(GardenInput::Epoch(highest)).await {
        return (chunks, false);
    }
    let Ok(epoch) = epoch.await else { return (chunks, false) };
    let take = TakeOver { chunks, epoch, leaves: false };
    let taken = match shared.mesh.call(&heir, &GARDEN_TAKE, pack(&take)).await {
        Ok(_) => true,
        // An older program, which does not know of this, shows it all the same.
        Err(CallError::Refused { refusal, .. }) => refusal.code == CallRefusal::UNKNOWN_METHOD,
        Err(_) => false,
    };
    if taken {
        sleep(SETTLE).await;
    }
    (take.chunks, taken)
}
