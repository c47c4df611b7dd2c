//! Documents that this node owns without knowing: claims whose replies were lost, and whose flows have given up.
//!
//! Such a document names a living owner and has no keeper: no transaction could reach it. So whoever gives up in doubt has it
//! looked at for a while, and a step that comes for it has it looked at at once. What is found is claimed anew and released. A
//! document that has a keeper here is NEVER touched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::player::{self, Claim, Claimant, Owner, Seat, Seating};
use mesh::{CallRefusal, NodeId};
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use super::keeper::Keeper;
use super::sessions::Sessions;
use super::tickets::SessionId;
use crate::methods::{CloseSession, SESSION_CLOSE, pack};
use crate::protocol::codes;

/// When a document in doubt is looked at: after each of these pauses, the last of them again and again.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15), Duration::from_secs(30)];

/// How often in all it is looked at while the store does not answer; then only a step that comes for it finds it.
const LOOKS_MOST: usize = 64;

/// The players whose documents have keepers here, also such as are still releasing.
#[derive(Clone, Default)]
pub(super) struct Keepers(Arc<Mutex<BTreeMap<ObjectId, usize>>>);

impl Keepers {
    /// A keeper of a player's document, as long as the result lives.
    pub(super) fn keep(&self, player: ObjectId) -> Kept {
        *self.lock().entry(player).or_default() += 1;
        Kept(self.clone(), player)
    }

    /// Whether a player's document has a keeper here.
    pub(super) fn has(&self, player: ObjectId) -> bool {
        self.lock().contains_key(&player)
    }

    /// Whether no document has a keeper here.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectId, usize>> {
        // Whole after a panic elsewhere: each change is one of a number.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A keeper that lives.
pub(super) struct Kept(Keepers, ObjectId);

impl Drop for Kept {
    fn drop(&mut self) {
        let mut keepers = self.0.lock();
        if let Some(count) = keepers.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                keepers.remove(&self.1);
            }
        }
    }
}

/// Looks at documents for which steps have come without finding a keeper.
pub(super) async fn look_after(sessions: Sessions, mut orphans: mpsc::Receiver<String>) {
    while let Some(key) = orphans.recv().await {
        let player = key.strip_prefix("player/").and_then(|id| id.parse().ok());
        if let Some(player) = player {
            sessions.adopt(ObjectId(player)).await;
        }
    }
}

impl Sessions {
    /// A claim was given up that may have been carried out, or may yet be.
    pub(super) fn claim_in_doubt(&self, player: ObjectId) {
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            let mut unclear = 0;
            let last = LOOKS[LOOKS.len() - 1];
            for look in 0..LOOKS_MOST {
                sleep(LOOKS.get(look).copied().unwrap_or(last)).await;
                match sessions.adopt(player).await {
                    Some(true) => return,
                    Some(false) if look - unclear + 1 >= LOOKS.len() => return,
                    Some(false) => {}
                    None => unclear += 1,
                }
            }
            tracing::warn!(player = player.0, "it is not known what became of a claim");
        });
    }

    /// Releases a player's document if this life of this node owns it and nobody here keeps it. True if somebody keeps it now,
    /// false if it is not ours, none if that could not be found out.
    pub(super) async fn adopt(&self, player: ObjectId) -> Option<bool> {
        let shared = &self.shared;
        let turn = shared.turn(player);
        // Whoever has the lock claims it, or looks after it.
        let Ok(_turn) = turn.try_lock() else { return None };
        if shared.keepers.has(player) {
            return Some(true);
        }
        let found = player::find(shared.store(), player.0).await.ok()?;
        let ours = found.is_some_and(|kept| kept.document.owner.is_some_and(|it| it.lives_with(&shared.claimant)));
        if !ours {
            return Some(false);
        }
        let me = Claimant { claim: shared.random(), ..shared.claimant.clone() };
        match player::claim(shared.store(), player.0, &me, &Seating::AsItIs, &|_: &Owner| false).await.ok()? {
            Claim::Claimed(claimed) => {
                tracing::info!(player = player.0, "a player that was claimed without anybody's knowing is released");
                // A keeper that is dropped releases, however long that takes.
                drop(Keeper::start(shared.clone(), self.world.clone(), *claimed));
                Some(true)
            }
            _ => Some(false),
        }
    }

    /// Empties the seat of a player that is not here, if this session sits in it: whoever holds the player is told to.
    pub(super) async fn clear_seat(&self, player: ObjectId, session: SessionId) -> Result<(), CallRefusal> {
        let shared = &self.shared;
        let busy = |text: String| CallRefusal::new(codes::UNAVAILABLE, text);
        if !self.is_released(player).await {
            return Err(busy("the player's document is being released".to_owned()));
        }
        let back = Seating::Back { session: Seat::name(session.0), turn: None, now_s: 0 };
        let me = Claimant { claim: shared.random(), ..shared.claimant.clone() };
        match player::claim(shared.store(), player.0, &me, &back, &*shared.owners).await {
            Ok(Claim::Claimed(mut claimed)) => {
                claimed.document.seat.clear();
                drop(Keeper::start(shared.clone(), self.world.clone(), *claimed));
                Ok(())
            }
            Ok(Claim::HeldBy(owner)) => {
                let close = CloseSession { session: Uuid::from_u128(session.0), player };
                let node = NodeId::new(&owner.node).map_err(|error| busy(error.to_string()))?;
                let closed = shared.mesh.call(&node, &SESSION_CLOSE, pack(&close)).await;
                closed.map(drop).map_err(|error| busy(format!("{} has the player: {error}", owner.node)))
            }
            // Nobody's, another's, or over: there is nothing to end.
            Ok(Claim::Unseated(_) | Claim::Missing) => Ok(()),
            Err(error) => {
                self.claim_in_doubt(player);
                Err(busy(error.to_string()))
            }
        }
    }
}
