//! The district as this node sees it: a pure state that listings and watch events change, and that says what changed.
//!
//! News never goes backwards: what is older than the last listing is ignored. What cannot be read is skipped; a record
//! that *becomes* unreadable keeps its last reading, since its node lives on. NEVER panics on what stands there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Listing, Nodes, RegistryEvent};
use crate::directory::{Entry, Revision, WatchEvent};
use crate::record::{NodeId, NodeRecord};

/// Reads a node's record; none, with a log, if it is no record or does not belong where it stands.
pub(super) fn parse(prefix: &str, entry: &Entry) -> Option<NodeRecord> {
    let place = entry.key.strip_prefix(prefix)?;
    let reason = match serde_json::from_slice::<NodeRecord>(&entry.value) {
        Ok(record) if NodeId::new(record.node.as_str()).is_err() => "its name breaks the rules".to_owned(),
        Ok(record) if place == format!("{}/{}", record.role, record.node) => return Some(record),
        Ok(record) => format!("it names itself {}/{}", record.role, record.node),
        Err(error) => error.to_string(),
    };
    tracing::warn!(key = entry.key, revision = entry.modified, reason, "skipped a bad record in the directory");
    None
}

/// What came of a piece of news.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What to tell, in order.
    pub(super) events: Vec<RegistryEvent>,
    /// At this revision the own key was not as it should be: the keeper is to look.
    pub(super) own_key: Option<Revision>,
}

/// The nodes of the district.
#[derive(Debug)]
pub(super) struct NodeSet {
    prefix: String,
    me: NodeRecord,
    own_key: String,
    /// By key: a name may stand under two roles for a moment, while it moves.
    known: BTreeMap<String, NodeRecord>,
    /// The revision of the last listing: everything up to it is in.
    listed: Revision,
    /// The highest revision of any news so far.
    latest: Revision,
}

impl NodeSet {
    pub(super) fn new(prefix: &str, own_key: String, me: NodeRecord) -> NodeSet {
        NodeSet { prefix: prefix.to_owned(), me, own_key, known: BTreeMap::new(), listed: 0, latest: 0 }
    }

    /// The nodes by name, without this one.
    pub(super) fn snapshot(&self) -> Arc<Nodes> {
        Arc::new(self.known.values().map(|record| (record.node.clone(), record.clone())).collect())
    }

    /// From where a watch goes on after the last listing.
    pub(super) fn watch_from(&self) -> Revision {
        self.listed + 1
    }

    /// True if a listing is at least as new as everything that is known.
    pub(super) fn is_news(&self, listing: &Listing) -> bool {
        listing.revision >= self.latest
    }

    /// Takes a listing for the whole truth. What went is told before what came.
    pub(super) fn adopt(&mut self, listing: &Listing) -> Outcome {
        let missing = Some(listing.revision);
        let mut outcome = Outcome { own_key: missing, ..Outcome::default() };
        let entries: BTreeMap<&str, &Entry> = listing.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        let gone: Vec<String> = self.known.keys().filter(|key| !entries.contains_key(key.as_str())).cloned().collect();
        for key in gone {
            self.remove(&key, &mut outcome);
        }
        for entry in &listing.entries {
            if entry.key == self.own_key {
                outcome.own_key = missing.filter(|_| !self.is_mine(entry));
            } else {
                self.put(entry, &mut outcome);
            }
        }
        self.listed = listing.revision;
        self.latest = listing.revision;
        outcome
    }

    /// Takes in one event of a watch that began at [`NodeSet::watch_from`].
    pub(super) fn apply(&mut self, event: &WatchEvent) -> Outcome {
        let mut outcome = Outcome::default();
        match event {
            WatchEvent::Put(entry) if entry.modified > self.listed => {
                self.latest = self.latest.max(entry.modified);
                if entry.key == self.own_key {
                    outcome.own_key = Some(entry.modified).filter(|_| !self.is_mine(entry));
                } else {
                    self.put(entry, &mut outcome);
                }
            }
            WatchEvent::Deleted { key, revision } if *revision > self.listed => {
                self.latest = self.latest.max(*revision);
                outcome.own_key = Some(*revision).filter(|_| *key == self.own_key);
                self.remove(key, &mut outcome);
            }
            _ => {}
        }
        outcome
    }

    fn is_mine(&self, entry: &Entry) -> bool {
        parse(&self.prefix, entry).is_some_and(|record| record == self.me)
    }

    fn put(&mut self, entry: &Entry, outcome: &mut Outcome) {
        let Some(record) = parse(&self.prefix, entry) else { return };
        if record.node == self.me.node {
            // Our name in another role: the keeper judges who has it. It is no peer of ours.
            outcome.own_key = outcome.own_key.max(Some(entry.modified));
            return;
        }
        match self.known.insert(entry.key.clone(), record.clone()) {
            None => outcome.events.push(RegistryEvent::NodeAppeared(record)),
            Some(before) if before == record => {}
            Some(before) if before.incarnation == record.incarnation => {
                outcome.events.push(RegistryEvent::NodeChanged(record));
            }
            Some(before) => {
                outcome.events.push(RegistryEvent::NodeGone(before));
                outcome.events.push(RegistryEvent::NodeAppeared(record));
            }
        }
    }

    fn remove(&mut self, key: &str, outcome: &mut Outcome) {
        if let Some(record) = self.known.remove(key) {
            outcome.events.push(RegistryEvent::NodeGone(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::record;
    use RegistryEvent::{NodeAppeared, NodeChanged, NodeGone};

    const PREFIX: &str = "/wildmesh/c/d/nodes/";

    fn key(name: &str) -> String {
        format!("{PREFIX}frontend/{name}")
    }

    fn entry(name: &str, incarnation: u64, modified: Revision) -> Entry {
        let value = serde_json::to_vec(&record(name, incarnation)).unwrap();
        Entry { key: key(name), value, created: modified, modified, lease: Some(1) }
    }

    fn set() -> NodeSet {
        NodeSet::new(PREFIX, key("me"), record("me", 1))
    }

    fn listing(revision: Revision, entries: &[Entry]) -> Listing {
        Listing { entries: entries.to_vec(), revision }
    }

    fn put(set: &mut NodeSet, entry: Entry) -> Vec<RegistryEvent> {
        set.apply(&WatchEvent::Put(entry)).events
    }

    fn delete(set: &mut NodeSet, name: &str, revision: Revision) -> Vec<RegistryEvent> {
        set.apply(&WatchEvent::Deleted { key: key(name), revision }).events
    }

    #[test]
    fn events_after_a_listing_change_it_and_older_ones_do_not() {
        let mut set = set();
        assert_eq!(set.adopt(&listing(10, &[entry("a", 1, 3)])).events, [NodeAppeared(record("a", 1))]);
        assert_eq!(set.watch_from(), 11);
        assert_eq!(delete(&mut set, "a", 9), [], "older than the listing");
        assert_eq!(put(&mut set, entry("b", 2, 11)), [NodeAppeared(record("b", 2))]);
        assert_eq!(put(&mut set, entry("b", 2, 12)), [], "the same again");
        assert_eq!(delete(&mut set, "a", 13), [NodeGone(record("a", 1))]);
        assert_eq!(delete(&mut set, "b", 13), [NodeGone(record("b", 2))], "two at one revision");
        assert_eq!(delete(&mut set, "b", 13), []);
        assert!(!set.is_news(&listing(12, &[])));
        assert!(set.is_news(&listing(13, &[])));
    }

    #[test]
    fn a_new_life_is_one_that_went_and_one_that_came() {
        let mut set = set();
        put(&mut set, entry("a", 1, 1));
        assert_eq!(put(&mut set, entry("a", 2, 2)), [NodeGone(record("a", 1)), NodeAppeared(record("a", 2))]);
        let changed = NodeRecord { version: "next".into(), ..record("a", 2) };
        let entry = Entry { value: serde_json::to_vec(&changed).unwrap(), ..entry("a", 2, 3) };
        assert_eq!(put(&mut set, entry), [NodeChanged(changed)]);
    }

    #[test]
    fn a_listing_tells_what_the_watch_missed() {
        let mut set = set();
        set.adopt(&listing(1, &[entry("a", 1, 1), entry("b", 1, 1), entry("c", 1, 1)]));
        let told = set.adopt(&listing(9, &[entry("b", 2, 5), entry("c", 1, 1), entry("d", 1, 6)])).events;
        assert_eq!(
            told,
            [
                NodeGone(record("a", 1)),
                NodeGone(record("b", 1)),
                NodeAppeared(record("b", 2)),
                NodeAppeared(record("d", 1))
            ]
        );
        assert_eq!(set.snapshot().keys().map(NodeId::as_str).collect::<Vec<_>>(), ["b", "c", "d"]);
    }

    #[test]
    fn a_bad_record_is_skipped_and_changes_nothing() {
        let mut set = set();
        put(&mut set, entry("a", 1, 1));
        for value in ["", "{", "[]", "\u{0}", r#"{"node":"a"}"#] {
            let bad = |name: &str| Entry { value: value.as_bytes().to_vec(), ..entry(name, 1, 2) };
            assert_eq!(put(&mut set, bad("a")), [], "the last reading stays");
            assert_eq!(put(&mut set, bad("b")), []);
        }
        let misplaced = Entry { key: key("b"), ..entry("c", 1, 3) };
        assert_eq!(put(&mut set, misplaced), []);
        let named = serde_json::to_string(&record("x", 1)).unwrap().replace("\"x\"", "\"../X\"");
        let unruly = Entry { key: key("../X"), value: named.into_bytes(), ..entry("x", 1, 3) };
        assert_eq!(put(&mut set, unruly), []);
        assert_eq!(set.snapshot().len(), 1);
        assert_eq!(delete(&mut set, "b", 4), []);
    }

    #[test]
    fn the_own_key_is_no_peer_but_is_looked_after() {
        let mut set = set();
        let mine = set.adopt(&listing(1, &[entry("me", 1, 1)]));
        assert_eq!(mine, Outcome::default());
        assert_eq!(set.adopt(&listing(2, &[])).own_key, Some(2), "missing");
        let other = Entry { value: serde_json::to_vec(&record("me", 2)).unwrap(), ..entry("me", 2, 3) };
        let taken = set.apply(&WatchEvent::Put(other));
        assert_eq!(taken, Outcome { events: vec![], own_key: Some(3) });
        assert_eq!(set.apply(&WatchEvent::Deleted { key: key("me"), revision: 4 }).own_key, Some(4));
        assert!(set.snapshot().is_empty());
    }
}
