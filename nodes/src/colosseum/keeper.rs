//! The keeper of one battle's document: saves the latest state, one save at a time, and releases it in the end.
//!
//! The world hands it snapshots and NEVER waits for it; snapshots in between are skipped. A save that is refused because
//! another node has claimed the post ends it at once, and the world is told.

use std::sync::Arc;
use std::time::Duration;

use estate::post::{self, Held, PostError};
use estate::store::{Ack, Store};
use serde_json::{Map, Value};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::ColosseumInput;
use crate::world_loop::WorldHandle;

/// The pause after a save that failed; a newer snapshot is not waited for longer.
const PAUSE: Duration = Duration::from_millis(500);

/// How often the last save is tried.
const LAST_SAVES: u32 = 10;

/// How long the document of a battle stays that was taken up and put down again.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// What is to be saved.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// Counts them.
    pub(super) revision: u64,
    /// The state.
    pub(super) state: Map<String, Value>,
    /// Whether goods depend on it.
    pub(super) durable: bool,
    /// The post is given up with it, and its document stays for so long.
    pub(super) last: Option<Duration>,
}

/// The world's side of a keeper.
pub(super) struct Keeper {
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    done: Option<oneshot::Receiver<()>>,
}

/// The other side, to be run.
pub(super) struct Keeping {
    pub(super) number: u64,
    pub(super) held: Box<Held>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Dropped when all is done.
    done: oneshot::Sender<()>,
}

/// A keeper of a claimed post.
pub(super) fn of(number: u64, held: Box<Held>) -> (Keeper, Keeping) {
    let (sender, snapshots) = watch::channel(None);
    let (done, is_done) = oneshot::channel();
    (Keeper { snapshots: sender, done: Some(is_done) }, Keeping { number, held, snapshots, done })
}

impl Keeper {
    /// Has a snapshot saved as soon as the save before it is answered.
    pub(super) fn save(&self, snapshot: Snapshot) {
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    /// Ends when the keeper has ended.
    pub(super) fn done(&mut self) -> Option<oneshot::Receiver<()>> {
        self.done.take()
    }
}

impl Keeping {
    /// Saves until the last snapshot is saved, the battle is another's, or the world has dropped it.
    pub(super) async fn run(mut self, store: Arc<dyn Store>, world: WorldHandle<ColosseumInput>) {
        let mut failed = 0;
        while self.snapshots.changed().await.is_ok() {
            loop {
                let Some(snapshot) = self.snapshots.borrow_and_update().clone() else { break };
                match save(&*store, &mut self.held, &snapshot).await {
                    Ok(()) => {
                        failed = 0;
                        world.role(ColosseumInput::Saved(self.number, snapshot.revision)).await;
                        if snapshot.last.is_some() {
                            return;
                        }
                        break;
                    }
                    Err(PostError::Fenced { key, .. }) => {
                        tracing::info!(key, "a battle goes on elsewhere");
                        world.role(ColosseumInput::Fenced(self.number)).await;
                        return;
                    }
                    Err(error) => {
                        failed += 1;
                        tracing::warn!(battle = self.number, failed, %error, "a battle could not be saved yet");
                        if snapshot.last.is_some() && failed >= LAST_SAVES {
                            return;
                        }
                        sleep(PAUSE).await;
                    }
                }
            }
        }
        drop(self.done);
    }

    /// Gives up a post under which nothing has come to be: what was found there stays for whoever asks next.
    pub(super) async fn put_down(mut self, store: &dyn Store) {
        let keep = if self.held.state.is_empty() { PAUSE } else { KEPT };
        // Tried once: whoever wants the post may take it over when this node is gone.
        if let Err(error) = post::release(store, &mut self.held, Some(keep)).await {
            tracing::debug!(battle = self.number, %error, "a post is left behind");
        }
    }
}

async fn save(store: &dyn Store, held: &mut Held, snapshot: &Snapshot) -> Result<(), PostError> {
    held.state.clone_from(&snapshot.state);
    if let Some(keep) = snapshot.last {
        return post::release(store, held, Some(keep)).await;
    }
    post::save(store, held, if snapshot.durable { Ack::Durable } else { Ack::Early }).await
}
