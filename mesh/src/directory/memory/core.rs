//! What the in-process directory knows, as a pure state: keys, leases, history and watches, driven by calls and by the
//! time that comes in as an argument.
//!
//! It follows etcd's own semantics (revisions, leases, compaction), which the conformance suite compares. It NEVER
//! waits, and NEVER reads a clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::SILENCE;
use super::faults::Faults;
use crate::directory::{Change, Changed, Entry, Error, Expect, Guard, LeaseId, Result, Revision, WatchEvent};

/// Events that a watch holds for a slow receiver, at most, beyond those it began with.
pub(super) const WATCH_EVENTS: usize = 1024;

/// Events of the past that are kept for watches that begin in the past; older ones are compacted away.
const HISTORY: usize = 8192;

/// All that the directory knows.
#[derive(Debug)]
pub(super) struct Core {
    revision: Revision,
    /// Watches from before this revision are refused.
    compacted: Revision,
    keys: BTreeMap<String, Entry>,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: LeaseId,
    history: VecDeque<WatchEvent>,
    watches: BTreeMap<u64, Watch>,
    last_watch: u64,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<String>,
}

/// One watch of one client.
#[derive(Debug)]
struct Watch {
    client: Arc<Faults>,
    prefix: String,
    from: Revision,
    sender: mpsc::Sender<WatchEvent>,
    /// The place kept free in the channel, so that `Ended` always fits.
    last_place: mpsc::OwnedPermit<WatchEvent>,
    /// What is still on its way to the client, with the time of its arrival.
    on_the_way: VecDeque<(Instant, WatchEvent)>,
}

impl Core {
    pub(super) fn new() -> Core {
        Core {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            history: VecDeque::new(),
            watches: BTreeMap::new(),
            last_watch: 0,
        }
    }

    /// Brings the state up to `now`: ends leases, delivers what has arrived.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut due: Vec<(Instant, LeaseId)> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, lease)| (lease.ends, *id)).collect();
        due.sort_unstable();
        for (_, id) in due {
            self.end_lease(id, now);
        }
        let watches: Vec<u64> = self.watches.keys().copied().collect();
        watches.into_iter().for_each(|id| self.deliver(id, now));
    }

    /// When `settle` has something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let leases = self.leases.values().map(|lease| lease.ends);
        let events = self.watches.values().filter_map(|watch| match watch.client.cut_since() {
            Some(since) => Some(since + SILENCE),
            None => watch.on_the_way.front().map(|(at, _)| *at),
        });
        leases.chain(events).min()
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, Lease { ttl, ends: now + ttl, keys: BTreeSet::new() });
        self.last_lease
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<()> {
        let lease = self.leases.get_mut(&id).ok_or(Error::LeaseGone(id))?;
        lease.ends = now + lease.ttl;
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: LeaseId, now: Instant) -> Result<()> {
        if self.end_lease(id, now) { Ok(()) } else { Err(Error::LeaseGone(id)) }
    }

    /// Ends a lease with all its keys, at one revision; false if there was none.
    pub(super) fn end_lease(&mut self, id: LeaseId, now: Instant) -> bool {
        let Some(lease) = self.leases.remove(&id) else { return false };
        if !lease.keys.is_empty() {
            self.revision += 1;
        }
        for key in lease.keys {
            self.keys.remove(&key);
            self.tell(WatchEvent::Deleted { key, revision: self.revision }, now);
        }
        true
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.keys.get(key).cloned()
    }

    pub(super) fn list(&self, prefix: &str) -> (Vec<Entry>, Revision) {
        let from_prefix = self.keys.range(prefix.to_owned()..);
        let entries = from_prefix.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry.clone());
        (entries.collect(), self.revision)
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8], lease: Option<LeaseId>, now: Instant) -> Result<Revision> {
        if let Some(id) = lease
            && !self.leases.contains_key(&id)
        {
            return Err(Error::LeaseGone(id));
        }
        self.revision += 1;
        self.write(key, value, lease, now);
        Ok(self.revision)
    }

    /// Writes a key at the present revision.
    fn write(&mut self, key: &str, value: &[u8], lease: Option<LeaseId>, now: Instant) {
        let before = self.keys.get(key);
        if let Some(old) = before.and_then(|entry| entry.lease).and_then(|id| self.leases.get_mut(&id)) {
            old.keys.remove(key);
        }
        let created = before.map_or(self.revision, |entry| entry.created);
        if let Some(new) = lease.and_then(|id| self.leases.get_mut(&id)) {
            new.keys.insert(key.to_owned());
        }
        let entry = Entry { key: key.to_owned(), value: value.to_vec(), created, modified: self.revision, lease };
        self.keys.insert(key.to_owned(), entry.clone());
        self.tell(WatchEvent::Put(entry), now);
    }

    pub(super) fn swap(
        &mut self,
        key: &str,
        expected: Revision,
        value: &[u8],
        lease: Option<LeaseId>,
        now: Instant,
    ) -> Result<Option<Revision>> {
        let present = self.keys.get(key).map_or(0, |entry| entry.modified);
        if present == expected { self.put(key, value, lease, now).map(Some) } else { Ok(None) }
    }

    pub(super) fn delete(&mut self, key: &str, expected: Option<Revision>, now: Instant) -> bool {
        let Some(entry) = self.keys.get(key) else { return false };
        if expected.is_some_and(|revision| revision != entry.modified) {
            return false;
        }
        self.revision += 1;
        self.erase(key, now);
        true
    }

    /// Removes a key at the present revision.
    fn erase(&mut self, key: &str, now: Instant) {
        let Some(entry) = self.keys.remove(key) else { return };
        if let Some(lease) = entry.lease.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
        self.tell(WatchEvent::Deleted { key: key.to_owned(), revision: self.revision }, now);
    }

    /// Makes all changes whose expectations hold, at one revision.
    pub(super) fn change(
        &mut self,
        guard: Option<Guard<'_>>,
        changes: &[Change],
        now: Instant,
    ) -> Result<Option<Changed>> {
        let guarded = |guard: Guard<'_>| self.keys.get(guard.key).is_some_and(|entry| entry.created == guard.created);
        if !guard.is_none_or(guarded) {
            return Ok(None);
        }
        let holds = |change: &Change| match (change.expect, self.keys.get(&change.key)) {
            (Expect::Missing, found) => found.is_none() && change.becomes.is_some(),
            (Expect::Created(revision), found) => found.is_some_and(|entry| entry.created == revision),
            (Expect::Modified(revision), found) => found.is_some_and(|entry| entry.modified == revision),
        };
        let done: Vec<bool> = changes.iter().map(holds).collect();
        let happening = || changes.iter().zip(&done).filter(|(_, done)| **done).map(|(change, _)| change);
        let leases = happening().filter_map(|change| change.becomes.as_ref()?.1);
        if let Some(gone) = leases.into_iter().find(|id| !self.leases.contains_key(id)) {
            return Err(Error::LeaseGone(gone));
        }
        if done.contains(&true) {
            self.revision += 1;
        }
        for change in happening() {
            match &change.becomes {
                Some((value, lease)) => self.write(&change.key, value, *lease, now),
                None => self.erase(&change.key, now),
            }
        }
        Ok(Some(Changed { revision: self.revision, done }))
    }

    pub(super) fn watch(
        &mut self,
        client: Arc<Faults>,
        prefix: &str,
        from: Revision,
        now: Instant,
    ) -> mpsc::Receiver<WatchEvent> {
        // Watches that nobody reads any more go when the next one comes; so their number is bounded by those in use.
        self.watches.retain(|_, watch| !watch.sender.is_closed());
        let from = if from <= 0 { self.revision + 1 } else { from };
        let past: Vec<WatchEvent> =
            self.history.iter().filter(|event| concerns(event, prefix, from)).cloned().collect();
        let (sender, receiver) = mpsc::channel(past.len() + WATCH_EVENTS + 1);
        let Ok(last_place) = sender.clone().try_reserve_owned() else { return receiver };
        let prefix = prefix.to_owned();
        self.last_watch += 1;
        let id = self.last_watch;
        self.watches.insert(id, Watch { client, prefix, from, sender, last_place, on_the_way: VecDeque::new() });
        if from < self.compacted {
            self.end_watch(id, format!("revision {from} is compacted; {} is the oldest", self.compacted));
            return receiver;
        }
        past.into_iter().for_each(|event| self.send(id, event, now));
        self.deliver(id, now);
        receiver
    }

    /// Forgets all history: watches from before now are refused, as after etcd's compaction.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision + 1;
        self.history.clear();
    }

    /// Ends the watches of one client, or of all.
    pub(super) fn end_watches(&mut self, client: Option<&Arc<Faults>>, reason: &str) {
        let theirs = |watch: &Watch| client.is_none_or(|client| Arc::ptr_eq(client, &watch.client));
        let ids: Vec<u64> = self.watches.iter().filter(|(_, watch)| theirs(watch)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.end_watch(id, reason.to_owned()));
    }

    fn end_watch(&mut self, id: u64, reason: String) {
        if let Some(watch) = self.watches.remove(&id) {
            watch.last_place.send(WatchEvent::Ended { reason });
        }
    }

    /// Notes an event and tells every watch that it concerns.
    fn tell(&mut self, event: WatchEvent, now: Instant) {
        let concerned = self.watches.iter().filter(|(_, watch)| concerns(&event, &watch.prefix, watch.from));
        let ids: Vec<u64> = concerned.map(|(id, _)| *id).collect();
        for id in ids {
            self.send(id, event.clone(), now);
            self.deliver(id, now);
        }
        self.history.push_back(event);
        if self.history.len() > HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = self.compacted.max(revision_of(&oldest) + 1);
        }
    }

    /// Puts an event on its way to a watch; events never overtake one another.
    fn send(&mut self, id: u64, event: WatchEvent, now: Instant) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let soonest = watch.on_the_way.back().map_or(now, |(at, _)| *at);
        watch.on_the_way.push_back(((now + watch.client.draw_delay()).max(soonest), event));
        if watch.on_the_way.len() > WATCH_EVENTS + HISTORY {
            self.end_watch(id, "the watcher is too slow".to_owned());
        }
    }

    /// Hands over what has arrived. A cut client gets nothing, and after a silence learns that the watch is over.
    fn deliver(&mut self, id: u64, now: Instant) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if let Some(since) = watch.client.cut_since() {
            if now >= since + SILENCE {
                self.end_watch(id, "connection lost".to_owned());
            }
            return;
        }
        while watch.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, event)) = watch.on_the_way.pop_front() else { return };
            match watch.sender.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.end_watch(id, "the watcher is too slow".to_owned());
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.watches.remove(&id);
                    return;
                }
            }
        }
    }
}

fn revision_of(event: &WatchEvent) -> Revision {
    match event {
        WatchEvent::Put(entry) => entry.modified,
        WatchEvent::Deleted { revision, .. } => *revision,
        WatchEvent::Ended { .. } => 0,
    }
}

fn concerns(event: &WatchEvent, prefix: &str, from: Revision) -> bool {
    let key = match event {
        WatchEvent::Put(entry) => &entry.key,
        WatchEvent::Deleted { key, .. } => key,
        WatchEvent::Ended { .. } => return false,
    };
    revision_of(event) >= from && key.starts_with(prefix)
}
