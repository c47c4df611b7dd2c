//! Live documents and their owners: how a transaction reaches the node that holds a document, and who is gone for good.
//!
//! A keeper of a document registers its queue under the document's key ([`Hands`]); steps of transactions come to it from
//! this node or, by the call [`ESTATE_TAKE`], from others. Steps may come twice or late: `estate` makes that harmless.
//! Nothing here decides that an owner is gone: the directory does, and without it nobody is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use estate::player::{Gone, Owner};
use estate::transaction::{Owners, Step, Stepped, TransactionError};
use mesh::directory::Directory;
use mesh::registry::{self, District};
use mesh::{CallRefusal, IncomingCall, Mesh, NodeId, NodeRecord};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until, timeout};

use crate::methods::{ESTATE_TAKE, pack, unpack};

/// How long a keeper is waited for: as long as a peer waits for the answer to its call.
const ANSWERED: Duration = Duration::from_secs(2);

/// The directory is asked at most this often whether owners are gone, however many want to know: five times a second.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

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
pub struct Hands {
    held: Mutex<FxHashMap<String, mpsc::Sender<Take>>>,
    orphans: Mutex<Option<mpsc::Sender<String>>>,
}

impl Hands {
    /// From now on `orphans` is told the keys of documents that others believe to be held here and that have no keeper: a claim
    /// of this node may have been carried out without its knowing. What does not fit into the queue is told at the next step.
    pub fn tell_orphans(&self, orphans: mpsc::Sender<String>) {
        *self.orphans.lock().unwrap_or_else(PoisonError::into_inner) = Some(orphans);
    }

    fn is_orphan(&self, key: &str) {
        if let Some(orphans) = &*self.orphans.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = orphans.try_send(key.to_owned());
        }
    }

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
        let keeper = self.lock().get(&step.key).cloned();
        let keeper = keeper.ok_or_else(|| {
            self.is_orphan(&step.key);
            absent()
        })?;
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
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The looks into the directory that those who wait for a dead owner share.
    pub looks: Looks,
}

/// Looks into the directory, shared by all who want to know at one time whether somebody is gone.
#[derive(Default)]
pub struct Looks {
    asked: AtomicU64,
    last: tokio::sync::Mutex<Option<Look>>,
}

struct Look {
    /// Everybody who asked before this number asked before the reading began.
    covers: u64,
    began: Instant,
    living: Living,
}

impl Looks {
    /// What a reading told that began after this was asked for. Whoever asks while one is under way shares the next.
    async fn look(&self, read: impl Future<Output = Living> + Send) -> Living {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.covers > ticket) {
            return look.living.clone();
        }
        if let Some(look) = &*last {
            sleep_until(look.began + LOOK_EVERY).await;
        }
        let (covers, began) = (self.asked.load(Ordering::SeqCst), Instant::now());
        let living = read.await;
        *last = Some(Look { covers, began, living: living.clone() });
        living
    }
}

impl MeshOwners {
    fn is_me(&self, owner: &Owner) -> bool {
        let me = self.mesh.me();
        me.node.as_str() == owner.node && me.incarnation.0 == owner.incarnation
    }
}

impl MeshOwners {
    /// Whether the owner's life is this node's, or that of a node that this one follows in the directory.
    pub fn is_seen(&self, owner: &Owner) -> bool {
        let peers = self.mesh.peers();
        let node = NodeId::new(&owner.node).ok();
        self.is_me(owner) || node.and_then(|node| peers.get(&node)).is_some_and(|peer| lives_in(&peer.record, owner))
    }

    /// Asks the directory who lives.
    async fn living(&self) -> Living {
        match registry::read_cluster(&*self.directory, &self.district).await {
            Ok(records) => Living(Some(Arc::new(records))),
            Err(error) => {
                tracing::warn!(%error, "the directory cannot say who lives: nobody is taken for gone");
                Living(None)
            }
        }
    }
}

/// The lives that the directory knew when it was asked.
#[derive(Clone)]
struct Living(Option<Arc<Vec<NodeRecord>>>);

impl Living {
    /// True if the owner's life has surely ended. Without a directory nobody is known to be gone.
    fn is_gone(&self, owner: &Owner) -> bool {
        self.0.as_ref().is_some_and(|records| !records.iter().any(|record| lives_in(record, owner)))
    }
}

#[async_trait]
impl Gone for MeshOwners {
    async fn is_gone(&self, owner: &Owner) -> bool {
        !self.is_seen(owner) && self.looks.look(self.living()).await.is_gone(owner)
    }
}

#[async_trait]
impl Owners for MeshOwners {
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

    fn living() -> Living {
        Living(Some(Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_who_ask_at_once_share_two_readings_and_those_who_go_on_asking_five_a_second() {
        let (looks, readings) = (Looks::default(), AtomicU64::new(0));
        let read = async || {
            readings.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            living()
        };
        futures_util::future::join_all((0..1_000).map(|_| looks.look(read()))).await;
        assert_eq!(readings.load(Ordering::SeqCst), 2, "the first, and one for all who came while it was under way");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            futures_util::future::join_all((0..10).map(|_| looks.look(read()))).await;
        }
        let many = readings.load(Ordering::SeqCst);
        assert!(many <= 2 + 10 * 5 + 2, "{many} readings in 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_is_told_by_a_reading_that_began_after_the_question() {
        let (looks, began) = (Looks::default(), Mutex::new(Vec::new()));
        let read = async || {
            began.lock().unwrap().push(Instant::now());
            tokio::time::sleep(Duration::from_millis(50)).await;
            living()
        };
        let late = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let asked = Instant::now();
            looks.look(read()).await;
            asked
        };
        let (_, asked) = tokio::join!(looks.look(read()), late);
        assert!(began.lock().unwrap().last().is_some_and(|began| *began >= asked), "it shared one that was older");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_on_a_document_without_a_keeper_calls_for_one() {
        let hands = Hands::default();
        assert!(hands.take(&step()).await.is_err(), "nobody listens yet");
        let (orphans, mut told) = mpsc::channel(1);
        hands.tell_orphans(orphans);
        for _ in 0..3 {
            assert!(matches!(hands.take(&step()).await, Err(TransactionError::Busy(_))));
        }
        assert_eq!(told.try_recv().as_deref(), Ok("player/1"));
        assert!(told.try_recv().is_err(), "what did not fit is told another time");
    }
}
