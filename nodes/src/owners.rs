//! Live documents and their owners: how a transaction reaches the node that holds a document, and who is gone for good.
//!
//! A keeper of a document registers its queue under the document's key ([`Hands`]); steps of transactions come to it from
//! this node or, by the call [`ESTATE_TAKE`], from others. Steps may come twice or late: `estate` makes that harmless.
//! Nothing here decides that an owner is gone: the directory does, and without it nobody is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use estate::player::Owner;
use estate::transaction::{Owners, Step, Stepped, TransactionError};
use mesh::directory::Directory;
use mesh::registry::{self, District};
use mesh::{CallRefusal, IncomingCall, Mesh, NodeId, NodeRecord};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};

use crate::methods::{ESTATE_TAKE, pack, unpack};

/// How long a keeper is waited for: as long as a peer waits for the answer to its call.
const ANSWERED: Duration = Duration::from_secs(2);

/// A step that waits for the keeper of its document.
#[derive(Debug)]
pub struct Take {
    /// The step.
    pub step: Step,
    /// Where the answer goes. Dropped: the document is not kept here any more. Closed: nobody waits any more, and the step
    /// need not be taken.
    pub reply: oneshot::Sender<Result<Stepped, TransactionError>>,
}

/// The documents that this node holds, by key, and the queues of their keepers.
#[derive(Debug, Default)]
pub struct Hands(Mutex<FxHashMap<String, mpsc::Sender<Take>>>);

impl Hands {
    /// From now on steps on the document under `key` go to `keeper`.
    pub fn hold(&self, key: &str, keeper: mpsc::Sender<Take>) {
        self.lock().insert(key.to_owned(), keeper);
    }

    /// The document is not held any more, unless a newer keeper holds it.
    pub fn let_go(&self, key: &str, keeper: &mpsc::Sender<Take>) {
        let mut held = self.lock();
        if held.get(key).is_some_and(|present| present.same_channel(keeper)) {
            held.remove(key);
        }
    }

    /// Has the keeper of the step's document take it.
    pub async fn take(&self, step: &Step) -> Result<Stepped, TransactionError> {
        let absent = || TransactionError::Busy(step.key.clone());
        let keeper = self.lock().get(&step.key).cloned().ok_or_else(absent)?;
        let (reply, answer) = oneshot::channel();
        let asked = async {
            // A keeper with a full queue is waited for: its queue is short.
            keeper.send(Take { step: step.clone(), reply }).await.map_err(|_| absent())?;
            answer.await.map_err(|_| absent())?
        };
        timeout(ANSWERED, asked).await.map_err(|_| absent())?
    }

    /// Answers the calls that are about documents held here.
    pub async fn answer(&self, call: IncomingCall) {
        let answer = if call.method == ESTATE_TAKE.name {
            match unpack::<Step>(&call.body) {
                Ok(step) => self.take(&step).await.map(|stepped| pack(&stepped)).map_err(refusal),
                Err(refusal) => Err(refusal),
            }
        } else {
            Err(CallRefusal::unknown_method(&call.method))
        };
        call.answer(answer);
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<String, mpsc::Sender<Take>>> {
        // Whole after a panic elsewhere: each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(error: TransactionError) -> CallRefusal {
    CallRefusal::new("not_taken", error.to_string())
}

/// The owners in one district, asked over the mesh.
pub struct MeshOwners {
    /// This node's place in the mesh.
    pub mesh: Mesh,
    /// Who lives.
    pub directory: Arc<dyn Directory>,
    /// Where in the directory the nodes are: those of all districts count.
    pub district: District,
    /// What this node itself holds.
    pub hands: Arc<Hands>,
}

impl MeshOwners {
    fn is_me(&self, owner: &Owner) -> bool {
        let me = self.mesh.me();
        me.node.as_str() == owner.node && me.incarnation.0 == owner.incarnation
    }
}

impl MeshOwners {
    /// Asks the directory who lives.
    pub async fn living(&self) -> Living {
        match registry::read_cluster(&*self.directory, &self.district).await {
            Ok(records) => Living(Some(records)),
            Err(error) => {
                tracing::warn!(%error, "the directory cannot say who lives: nobody is taken for gone");
                Living(None)
            }
        }
    }
}

/// The lives that the directory knew when it was asked.
pub struct Living(Option<Vec<NodeRecord>>);

impl Living {
    /// False if the directory could not say who lives.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// True if the owner's life has surely ended. Without a directory nobody is known to be gone.
    pub fn is_gone(&self, owner: &Owner) -> bool {
        self.0.as_ref().is_some_and(|records| !records.iter().any(|record| lives_in(record, owner)))
    }
}

#[async_trait]
impl Owners for MeshOwners {
    async fn is_gone(&self, owner: &Owner) -> bool {
        let here = self.is_me(owner) || self.mesh.peers().iter().any(|peer| lives_in(&peer.record, owner));
        !here && self.living().await.is_gone(owner)
    }

    async fn take(&self, owner: &Owner, step: &Step) -> Result<Stepped, TransactionError> {
        if self.is_me(owner) {
            return self.hands.take(step).await;
        }
        let busy = |why: String| {
            tracing::debug!(key = step.key, owner = owner.node, why, "an owner did not take a step");
            TransactionError::Busy(step.key.clone())
        };
        let node = NodeId::new(&owner.node).map_err(|error| busy(error.to_string()))?;
        let answer: Bytes =
            self.mesh.call(&node, &ESTATE_TAKE, pack(step)).await.map_err(|error| busy(error.to_string()))?;
        unpack(&answer).map_err(|refusal| busy(refusal.to_string()))
    }
}

fn lives_in(record: &NodeRecord, owner: &Owner) -> bool {
    record.node.as_str() == owner.node
        && (record.incarnation.0 == owner.incarnation || planted::is("life_not_compared"))
}

#[cfg(test)]
mod tests {
    use estate::transaction::participant::Act;
    use estate::transaction::{Intent, OperationId};

    use super::*;

    fn step() -> Step {
        let intent = Intent { arbiter: String::new(), op: OperationId(1), token: 1 };
        Step { key: "player/1".to_owned(), intent, act: Act::Clear }
    }

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_does_not_answer_is_not_waited_for_without_end() {
        let hands = Hands::default();
        let (door, mut takes) = mpsc::channel(1);
        hands.hold("player/1", door);
        // The first waits for its answer, the second for room in the queue.
        let step = step();
        let both = async { tokio::join!(hands.take(&step), hands.take(&step)) };
        let told = timeout(Duration::from_secs(60), both).await.expect("both end");
        assert!(matches!(told, (Err(TransactionError::Busy(_)), Err(TransactionError::Busy(_)))), "{told:?}");
        assert!(takes.try_recv().expect("it came").reply.is_closed(), "the keeper sees that nobody waits any more");
    }
}
