//! The election to a duty that one node at a time has (a district's steward, the doorkeeper of its queue): one key in the
//! directory, under a lease, taken by compare-and-swap.
//!
//! Who holds the key has the duty until its lease ends or it gives the key up. A term ends *before* the lease could, and
//! is checked against the directory itself before anything is done in its name, or what is done there is guarded by it
//! ([`Term::guard`]). What two holders of one moment could do to one another is nevertheless nothing: every write of theirs
//! MUST be a compare-and-swap of its own. Who waits for the office is told by the directory when it falls vacant
//! ([`vacancy`]), so that a term that was resigned is followed by another at once.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh::directory::{self, Directory, Guard, LeaseId, Revision, WatchEvent};
use mesh::registry::District;
use tokio::time::{Instant, sleep, timeout};

/// The part of a lease that is not used: time to stop before another may begin.
const MARGIN_PERCENT: u32 = 20;

/// Renewals within one lease.
const RENEWALS: u32 = 4;

/// The key of a duty of a district.
pub fn key(district: &District, duty: &str) -> String {
    format!("{}{}/{duty}", district.cluster_prefix(), district.name())
}

/// One time in office.
pub struct Term {
    directory: Arc<dyn Directory>,
    key: String,
    lease: LeaseId,
    ttl: Duration,
    created: Revision,
    revision: Mutex<Revision>,
    /// Until when the lease surely lasts.
    until: Mutex<Instant>,
}

/// Tries to get the duty; `None` if somebody else has it. `value` is what stands in the key then.
pub async fn stand(
    directory: Arc<dyn Directory>,
    key: &str,
    ttl_s: u32,
    value: &[u8],
) -> directory::Result<Option<Term>> {
    if directory.get(key).await?.is_some() {
        return Ok(None);
    }
    let (began, ttl) = (Instant::now(), Duration::from_secs(ttl_s.into()));
    let lease = directory.grant(ttl_s).await?;
    let won = match directory.swap(key, 0, value, Some(lease)).await {
        // Whether a swap whose reply was lost has happened, the key itself tells.
        Err(directory::Error::Ambiguous { .. }) => {
            directory.get(key).await?.filter(|entry| entry.lease == Some(lease)).map(|entry| entry.modified)
        }
        won => won?,
    };
    let Some(revision) = won else {
        // A lease that is not revoked ends by itself.
        let _ = directory.revoke(lease).await;
        return Ok(None);
    };
    let (created, revision, until) = (revision, Mutex::new(revision), Mutex::new(began + usable(ttl)));
    Ok(Some(Term { directory, key: key.to_owned(), lease, ttl, created, revision, until }))
}

/// Waits until the directory tells that nobody is the steward, or for so long: then it is worth a look.
pub async fn vacancy(directory: &dyn Directory, key: &str, patience: Duration) {
    let watched = async {
        // First watched, then looked at: a key that goes in between is seen to go.
        let Ok(mut changes) = directory.watch(key, 0).await else { return pending().await };
        match directory.get(key).await {
            // Nobody is: others may be about to stand too, and the caller spreads them.
            Ok(None) => return,
            Ok(Some(_)) => {}
            Err(_) => return pending().await,
        }
        loop {
            match changes.recv().await {
                Some(WatchEvent::Deleted { key: deleted, .. }) if deleted == key => return,
                Some(WatchEvent::Put(_) | WatchEvent::Deleted { .. }) => {}
                Some(WatchEvent::Ended { .. }) | None => return,
            }
        }
    };
    // That time is over says as much as an end: look.
    let _ = timeout(patience, watched).await;
}

fn usable(ttl: Duration) -> Duration {
    ttl * (100 - MARGIN_PERCENT) / 100
}

impl Term {
    /// Whether the term surely lasts at this moment, as far as time tells.
    pub fn holds(&self) -> bool {
        Instant::now() < *lock(&self.until) || planted::is("steward_after_its_term")
    }

    /// Renews the lease for as long as it lasts; returns when the term is over.
    pub async fn keep(&self) {
        while self.holds() {
            sleep(self.ttl / RENEWALS).await;
            let sent = Instant::now();
            match self.directory.keep_alive(self.lease).await {
                // A term that was found over does not begin again.
                Ok(()) if self.holds() => *lock(&self.until) = sent + usable(self.ttl),
                Ok(()) => return,
                Err(directory::Error::LeaseGone(_)) => self.end(),
                // Tried again next time; the term lasts while the lease does.
                Err(error) => tracing::debug!(%error, key = self.key, "the lease of a term could not be renewed"),
            }
        }
    }

    /// What holds in the directory while this is the term: writes under it do nothing once another has begun.
    pub fn guard(&self) -> Guard<'_> {
        Guard { key: &self.key, created: self.created }
    }

    /// Whether the key is still ours, as the directory has it now. A key that is not ends the term.
    pub async fn confirm(&self) -> bool {
        match self.directory.get(&self.key).await {
            _ if planted::is("steward_after_its_term") => true,
            Ok(Some(entry)) if entry.lease == Some(self.lease) => self.holds(),
            Ok(_) => {
                self.end();
                false
            }
            // Not known: nothing is done in its name now, and the lease decides about later.
            Err(_) => false,
        }
    }

    /// Writes into the key, if it is still ours. False: it is not, or nobody knows.
    pub async fn tell(&self, value: &[u8]) -> bool {
        let known = *lock(&self.revision);
        match self.directory.swap(&self.key, known, value, Some(self.lease)).await {
            Ok(Some(revision)) => {
                *lock(&self.revision) = revision;
                return true;
            }
            Ok(None) => {}
            Err(directory::Error::LeaseGone(_)) => self.end(),
            Err(_) => return false,
        }
        // Another revision than the one known: ours all the same, if a write of ours has lost its reply.
        match self.directory.get(&self.key).await {
            Ok(Some(entry)) if entry.lease == Some(self.lease) => *lock(&self.revision) = entry.modified,
            Ok(_) => self.end(),
            Err(_) => {}
        }
        false
    }

    /// Gives the key up, so that another need not wait for the lease to end.
    pub async fn resign(self) {
        // What is not revoked ends by itself.
        let _ = self.directory.revoke(self.lease).await;
    }

    /// The term is known to be over.
    pub fn end(&self) {
        *lock(&self.until) = Instant::now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole after a panic elsewhere: each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mesh::directory::memory::MemoryDirectory;
    use mesh::tasks::Tasks;

    use super::*;

    const KEY: &str = "/wildmesh/c/main/steward";

    #[tokio::test(start_paused = true)]
    async fn of_two_candidates_one_wins_and_the_other_does_when_the_lease_is_lost() {
        let tasks = Tasks::simulated();
        let server = MemoryDirectory::start(&tasks, 1);
        let (ann, bob) = (Arc::new(server.client()), Arc::new(server.client()));
        let (first, second) = tokio::join!(stand(ann.clone(), KEY, 5, b"ann"), stand(bob.clone(), KEY, 5, b"bob"));
        let (first, second) = (first.expect("answered"), second.expect("answered"));
        assert!(first.is_some() != second.is_some(), "one of two");
        let (winner, other) = if first.is_some() { (first, bob.clone()) } else { (second, ann.clone()) };
        let winner = winner.expect("somebody won");
        assert!(winner.confirm().await && winner.tell(b"more").await);
        assert!(stand(other.clone(), KEY, 5, b"x").await.expect("answered").is_none());
        assert!(server.lose_lease(winner.lease));
        assert!(winner.holds(), "it cannot know yet");
        assert!(!winner.confirm().await && !winner.holds(), "but it asks before it acts");
        let next = stand(other, KEY, 5, b"x").await.expect("answered").expect("the key is free");
        assert!(!winner.tell(b"late").await, "a late write changes nothing");
        assert!(next.confirm().await);
        next.resign().await;
        assert!(server.peek(KEY).is_empty());
        tasks.stop();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_office_hears_at_once_that_it_is_vacant() {
        let tasks = Tasks::simulated();
        let server = MemoryDirectory::start(&tasks, 1);
        let (ann, bob) = (Arc::new(server.client()), server.client());
        let long = Duration::from_secs(3_600);
        // Nobody has it: no wait at all. Somebody has: as long as nothing happens.
        timeout(Duration::from_secs(1), vacancy(&bob, KEY, long)).await.expect("nobody has it");
        let term = stand(ann.clone(), KEY, 5, b"ann").await.expect("answered").expect("won");
        assert!(term.tell(b"a deed").await);
        let looks = Instant::now();
        vacancy(&bob, KEY, Duration::from_secs(4)).await;
        assert_eq!(looks.elapsed().as_secs(), 4, "it looks now and then all the same");
        // Resigned, it is told at once; of one that died, when its lease ends.
        let began = Instant::now();
        let resigns = async {
            term.tell(b"the last deed").await;
            term.resign().await;
        };
        tokio::join!(vacancy(&bob, KEY, long), resigns);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        let died = stand(ann, KEY, 5, b"ann").await.expect("answered").expect("won");
        drop(died);
        let began = Instant::now();
        vacancy(&bob, KEY, long).await;
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert!(server.peek(KEY).is_empty());
        tasks.stop();
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_lasts_while_its_lease_is_renewed_and_ends_before_another_may_begin() {
        let tasks = Tasks::simulated();
        let server = MemoryDirectory::start(&tasks, 1);
        let client = server.client();
        let term = stand(Arc::new(client.clone()), KEY, 5, b"ann").await.expect("answered").expect("won");
        let renewed = tokio::time::timeout(Duration::from_secs(60), term.keep()).await;
        assert!(renewed.is_err() && term.holds(), "renewed for a minute");
        client.cut(mesh::directory::memory::Cut::Silent);
        let began = Instant::now();
        term.keep().await;
        assert!(began.elapsed() < Duration::from_secs(5) && !term.holds(), "{:?}", began.elapsed());
        assert!(!server.peek(KEY).is_empty(), "others see the key for a little longer");
        tasks.stop();
    }
}
