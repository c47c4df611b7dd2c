//! Which topics this node wants, and how every link learns of changes.
//!
//! The set is the truth; changes go out on a bounded channel, and a link that missed some compares with the set.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashSet;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::transport::Topic;

/// Changes that a link may be behind before it compares sets instead.
const CHANGES: usize = 4_096;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Subscribe to it.
    Add(Topic),
    /// Unsubscribe from it.
    Remove(Topic),
}

/// The topics that this node wants.
#[derive(Clone, Debug)]
pub(super) struct Interest {
    topics: Arc<Mutex<FxHashSet<Topic>>>,
    changes: broadcast::Sender<Change>,
}

impl Interest {
    /// Nothing yet.
    pub(super) fn new() -> Interest {
        Interest { topics: Arc::default(), changes: broadcast::Sender::new(CHANGES) }
    }

    /// Adds or removes; saying so twice does nothing.
    pub(super) fn change(&self, change: Change) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match &change {
            Change::Add(topic) => topics.insert(topic.clone()),
            Change::Remove(topic) => topics.remove(topic),
        };
        if new {
            // Nobody listening is fine: who comes later takes the set.
            let _ = self.changes.send(change);
        }
    }

    /// A follower that has applied nothing yet.
    pub(super) fn follow(&self) -> Follower {
        Follower { applied: FxHashSet::default(), changes: self.changes.subscribe(), interest: self.clone() }
    }

    fn topics(&self) -> FxHashSet<Topic> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What one connection has subscribed to, and what it has yet to learn.
#[derive(Debug)]
pub(super) struct Follower {
    applied: FxHashSet<Topic>,
    changes: broadcast::Receiver<Change>,
    interest: Interest,
}

impl Follower {
    /// The topic of that name, if this connection is subscribed to it.
    pub(super) fn topic(&self, name: &[u8]) -> Option<Topic> {
        self.applied.get(name).cloned()
    }

    /// Compares with the whole set: what is to be done now. Counts as applied.
    pub(super) fn compare(&mut self) -> Vec<Change> {
        // First the channel, then the set: a change between the two is met twice, and then does nothing.
        self.changes = self.changes.resubscribe();
        let wanted = self.interest.topics();
        let mut todo: Vec<Change> = self.applied.difference(&wanted).cloned().map(Change::Remove).collect();
        todo.extend(wanted.difference(&self.applied).cloned().map(Change::Add));
        self.applied = wanted;
        todo
    }

    /// Waits for changes and takes all that are there; never empty-handed for long. Cancel-safe.
    pub(super) async fn changed(&mut self) -> Vec<Change> {
        let mut next = match self.changes.recv().await {
            Ok(change) => Ok(change),
            Err(RecvError::Lagged(_)) => return self.compare(),
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        let mut todo = Vec::new();
        loop {
            match next {
                Ok(change) => {
                    let new = match &change {
                        Change::Add(topic) => self.applied.insert(topic.clone()),
                        Change::Remove(topic) => self.applied.remove(topic),
                    };
                    if new {
                        todo.push(change);
                    }
                }
                Err(TryRecvError::Lagged(_)) => {
                    todo.extend(self.compare());
                    return todo;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return todo,
            }
            next = self.changes.try_recv();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: usize) -> Topic {
        Topic::new(&format!("t{n}"))
    }

    #[tokio::test]
    async fn a_follower_learns_of_changes_in_order() {
        let interest = Interest::new();
        interest.change(Change::Add(topic(1)));
        let mut follower = interest.follow();
        assert_eq!(follower.compare(), [Change::Add(topic(1))]);
        interest.change(Change::Add(topic(1)));
        interest.change(Change::Remove(topic(1)));
        interest.change(Change::Add(topic(2)));
        assert_eq!(follower.changed().await, [Change::Remove(topic(1)), Change::Add(topic(2))]);
        assert_eq!(follower.topic(b"t2"), Some(topic(2)));
        assert_eq!(follower.topic(b"t1"), None);
    }

    #[tokio::test]
    async fn a_follower_that_missed_changes_compares() {
        let interest = Interest::new();
        let mut follower = interest.follow();
        interest.change(Change::Add(topic(0)));
        for round in 1..CHANGES {
            interest.change(Change::Add(topic(round)));
            interest.change(Change::Remove(topic(round)));
        }
        assert_eq!(follower.changed().await, [Change::Add(topic(0))]);
    }
}
