//! Writes into the queue: puts players in line, keeps their entries alive, and takes out those who leave. In batches, so
//! that a burst costs the directory one write for a hundred players.
//!
//! Joins are written one batch after the other, in the order in which they came. A write whose reply was lost is made
//! again, and finds its own entries by their session, so that NOBODY gets two places; and who has a place already keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cartographer::geometry::ObjectId;
use mesh::directory::{self, CHANGES, Change, Changed, Directory, Error, Expect, LeaseId, Revision};
use mesh::tasks::Tasks;
use rustc_hash::FxHashMap;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::follower::Line;
use super::view::key;
use super::{LEASE_S, LEASE_SHARED, QueueError, Waiting};

/// Joins that wait to be written, at most; beyond it they are refused.
const ASKS: usize = 4_096;

/// How often a batch is written, at most, when its lease is gone or its reply lost.
const TRIES: usize = 3;

/// How often the entries that were polled are kept alive.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The session that waits: another than the one that was to join, if the player waited already.
    pub session: Uuid,
    /// When the entry was made.
    pub created: Revision,
}

struct Ask {
    waiting: Waiting,
    reply: oneshot::Sender<Result<Joined, QueueError>>,
}

/// Writes into one queue. Clones share it.
#[derive(Clone)]
pub struct Scribe {
    asks: mpsc::Sender<Ask>,
    pen: Arc<Pen>,
    /// Joins that were asked for and not answered yet.
    pending: Arc<AtomicUsize>,
}

struct Pen {
    directory: Arc<dyn Directory>,
    prefix: String,
    lease: Mutex<Option<(LeaseId, Instant)>>,
}

impl Scribe {
    /// Writes into the queue under `prefix` for as long as `tasks` run.
    pub fn start(directory: Arc<dyn Directory>, prefix: &str, line: Arc<Line>, tasks: &Tasks) -> Scribe {
        let (asks, inbox) = mpsc::channel(ASKS);
        let pen = Arc::new(Pen { directory, prefix: prefix.to_owned(), lease: Mutex::default() });
        tasks.spawn(write_joins(pen.clone(), inbox));
        tasks.spawn(keep(pen.clone(), line));
        Scribe { asks, pen, pending: Arc::default() }
    }

    /// How many are being put in line now.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Puts a player in line, unless it has a place: then that one is told.
    pub async fn join(&self, waiting: Waiting) -> Result<Joined, QueueError> {
        let _counted = Counted::new(&self.pending);
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(Ask { waiting, reply }).map_err(|_| QueueError::Busy)?;
        answer.await.unwrap_or_else(|_| Err(QueueError::Away("this gateway is stopping".to_owned())))
    }

    /// Takes out the entry of a player that was made at this revision. Gone already is as good.
    pub async fn leave(&self, player: ObjectId, created: Revision) -> Result<(), QueueError> {
        let key = key(&self.pen.prefix, player);
        let change = Change { key, expect: Expect::Created(created), becomes: None };
        let mut left = self.pen.directory.change(None, std::slice::from_ref(&change)).await;
        if matches!(left, Err(Error::Ambiguous { .. })) {
            left = self.pen.directory.change(None, &[change]).await;
        }
        left.map(|_| ()).map_err(away)
    }
}

/// Counts one up for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Counted<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn away(error: Error) -> QueueError {
    QueueError::Away(error.to_string())
}

async fn write_joins(pen: Arc<Pen>, mut inbox: mpsc::Receiver<Ask>) {
    let mut batch = Vec::with_capacity(CHANGES);
    while inbox.recv_many(&mut batch, CHANGES).await > 0 {
        let mut asks: Vec<Ask> = Vec::with_capacity(batch.len());
        // A player who asks twice in one batch gets one place, and both get the same answer.
        let mut again: FxHashMap<ObjectId, Vec<oneshot::Sender<Result<Joined, QueueError>>>> = FxHashMap::default();
        for mut ask in batch.drain(..) {
            let player = ask.waiting.player;
            if asks.iter().any(|other| other.waiting.player == player) {
                again.entry(player).or_default().push(ask.reply);
            } else {
                ask.waiting.number = asks.len() as u32;
                asks.push(ask);
            }
        }
        let waiting: Vec<Waiting> = asks.iter().map(|ask| ask.waiting.clone()).collect();
        let joined = pen.write(&waiting).await;
        for (ask, result) in asks.into_iter().zip(joined) {
            let others = again.remove(&ask.waiting.player).unwrap_or_default();
            // Whoever does not wait for the answer any more finds the place when it asks again.
            others.into_iter().for_each(|reply| drop(reply.send(result.clone())));
            let _ = ask.reply.send(result);
        }
    }
}

impl Pen {
    /// Makes entries, and tells of each what stands there now.
    async fn write(&self, waiting: &[Waiting]) -> Vec<Result<Joined, QueueError>> {
        let changed = match self.put(waiting, |_| Expect::Missing).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%error, players = waiting.len(), "players could not be put in line");
                return vec![Err(away(error)); waiting.len()];
            }
        };
        let mut joined = Vec::with_capacity(waiting.len());
        for (one, done) in waiting.iter().zip(changed.done) {
            let made = Joined { session: one.session, created: changed.revision };
            joined.push(if done { Ok(made) } else { self.present(one).await });
        }
        joined
    }

    /// What stands under the player's key already: its own entry, if a reply was lost, or an earlier one.
    async fn present(&self, one: &Waiting) -> Result<Joined, QueueError> {
        let entry = self.directory.get(&key(&self.prefix, one.player)).await.map_err(away)?;
        // Gone between the two calls: let in or left. The client asks again, and is told so.
        let gone = || QueueError::Away("the player's former place was just given up".to_owned());
        let entry = entry.ok_or_else(gone)?;
        let found: Waiting =
            serde_json::from_slice(&entry.value).map_err(|error| QueueError::Away(error.to_string()))?;
        if one.class < found.class {
            let better = Waiting { class: one.class, ..found.clone() };
            if let Err(error) = self.put(&[better], |_| Expect::Modified(entry.modified)).await {
                tracing::debug!(%error, "a waiting player could not be put into a better class");
            }
        }
        Ok(Joined { session: found.session, created: entry.created })
    }

    /// Writes entries under the present lease, each if what is expected of it holds.
    async fn put(&self, waiting: &[Waiting], expect: impl Fn(usize) -> Expect) -> directory::Result<Changed> {
        let mut tries = 1;
        loop {
            let lease = self.lease().await?;
            let change = |(index, one): (usize, &Waiting)| Change {
                key: key(&self.prefix, one.player),
                expect: expect(index),
                becomes: Some((one.to_bytes(), Some(lease))),
            };
            let changes: Vec<Change> = waiting.iter().enumerate().map(change).collect();
            match self.directory.change(None, &changes).await {
                // Without a guard there is always an answer.
                Ok(changed) => return changed.ok_or_else(|| Error::Refused("no answer".to_owned())),
                Err(Error::LeaseGone(gone)) if tries < TRIES => self.give_up(gone).await,
                Err(Error::Ambiguous { .. }) if tries < TRIES => {}
                Err(error) => return Err(error),
            }
            tries += 1;
        }
    }

    /// The lease that entries are put under now.
    async fn lease(&self) -> directory::Result<LeaseId> {
        let mut lease = self.lease.lock().await;
        match *lease {
            Some((id, granted)) if granted.elapsed() < LEASE_SHARED => Ok(id),
            _ => {
                let asked = Instant::now();
                let id = self.directory.grant(LEASE_S).await?;
                *lease = Some((id, asked));
                Ok(id)
            }
        }
    }

    async fn give_up(&self, gone: LeaseId) {
        let mut lease = self.lease.lock().await;
        lease.take_if(|(id, _)| *id == gone);
    }
}

/// Moves entries that were polled to the present lease.
async fn keep(pen: Arc<Pen>, line: Arc<Line>) {
    loop {
        sleep(KEEP_EVERY).await;
        loop {
            let polled = line.view().take_polled(CHANGES);
            if polled.is_empty() {
                break;
            }
            let waiting: Vec<Waiting> = polled.iter().map(|(waiting, _)| waiting.clone()).collect();
            // Whoever was written by another gateway meanwhile was kept alive by it; what fails is tried after the next poll.
            if let Err(error) = pen.put(&waiting, |index| Expect::Modified(polled[index].1)).await {
                tracing::warn!(%error, "entries of the queue could not be kept alive");
                break;
            }
        }
    }
}
