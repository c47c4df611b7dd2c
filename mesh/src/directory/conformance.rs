//! What every driver of the directory must do: one suite, run on memory and on a real etcd.
//!
//! Leases here are the shortest that etcd grants. Memory runs on paused time, so that waiting costs nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::memory::MemoryDirectory;
use super::{CHANGES, Change, Directory, Entry, Error, Expect, Guard, WatchEvent};
use crate::tasks::Tasks;
use crate::testing::EtcdServer;

/// A lease of this many seconds is granted as asked by every driver.
const TTL_S: u32 = 2;

/// More than any event takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// A driver with what the suite needs beside the trait.
#[async_trait]
trait Subject: Send + Sync {
    fn directory(&self) -> &dyn Directory;
    async fn compact(&self);
}

struct Memory {
    whole: MemoryDirectory,
    client: super::memory::MemoryClient,
}

#[async_trait]
impl Subject for Memory {
    fn directory(&self) -> &dyn Directory {
        &self.client
    }

    async fn compact(&self) {
        self.whole.compact();
    }
}

struct Etcd {
    server: Arc<EtcdServer>,
    client: super::etcd::EtcdDirectory,
}

#[async_trait]
impl Subject for Etcd {
    fn directory(&self) -> &dyn Directory {
        &self.client
    }

    async fn compact(&self) {
        self.server.compact().await;
    }
}

async fn memory() -> Memory {
    let whole = MemoryDirectory::start(&Tasks::simulated(), 1);
    let client = whole.client();
    Memory { whole, client }
}

async fn etcd() -> Etcd {
    etcd_at(EtcdServer::shared().await).await
}

/// For cases that would disturb others.
async fn etcd_alone() -> Etcd {
    etcd_at(Arc::new(EtcdServer::start().await)).await
}

async fn etcd_at(server: Arc<EtcdServer>) -> Etcd {
    let client = server.directory(&Tasks::real()).await;
    Etcd { server, client }
}

/// Each case gets a prefix of its own, since they share an etcd.
macro_rules! conformance {
    ($memory:ident, $etcd:ident($start_etcd:ident): $($case:ident),* $(,)?) => {
        mod $memory {
            $(#[tokio::test(start_paused = true)] async fn $case() {
                super::$case(&super::memory().await, concat!("/", stringify!($case), "/")).await;
            })*
        }
        mod $etcd {
            $(#[tokio::test] async fn $case() {
                super::$case(&super::$start_etcd().await, concat!("/", stringify!($case), "/")).await;
            })*
        }
    };
}

conformance! {
    on_memory, on_etcd(etcd):
    a_key_reads_as_it_was_written,
    a_missing_key_is_none,
    a_swap_needs_the_revision_it_expects,
    a_created_key_keeps_its_order_of_arrival,
    a_delete_needs_the_revision_it_expects,
    a_list_has_the_keys_of_its_prefix_in_order,
    a_long_list_is_whole,
    a_key_goes_with_its_revoked_lease,
    a_key_goes_when_its_lease_runs_out,
    a_lease_kept_alive_stays,
    a_lease_that_is_gone_says_so,
    a_key_rewritten_under_another_lease_outlives_the_first,
    a_watch_tells_every_change_in_order,
    a_watch_from_the_past_tells_the_past,
    a_watch_from_a_listing_on_misses_nothing,
    a_watch_tells_only_its_prefix,
    a_slow_watcher_is_ended_and_not_waited_for,
    of_many_swaps_at_once_one_wins,
    each_of_many_changes_happens_by_what_it_expects_itself,
    changes_of_one_call_have_one_revision_and_their_order,
    changes_happen_only_while_their_guard_stands,
    changes_under_a_lease_that_is_gone_say_so,
    too_many_changes_or_two_of_one_key_are_refused,
    the_description_names_the_driver,
}

conformance! {
    on_memory_alone, on_etcd_alone(etcd_alone):
    a_watch_from_before_a_compaction_ends,
}

async fn next(events: &mut mpsc::Receiver<WatchEvent>) -> WatchEvent {
    let event = timeout(LONG, events.recv()).await.expect("an event in time");
    event.expect("the last event is `Ended`, not silence")
}

async fn value_of(directory: &dyn Directory, key: &str) -> Option<Vec<u8>> {
    directory.get(key).await.unwrap().map(|entry| entry.value)
}

async fn a_key_reads_as_it_was_written(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let lease = directory.grant(TTL_S).await.unwrap();
    let revision = directory.put(&key, b"\x00\xff", Some(lease)).await.unwrap();
    let expected =
        Entry { key: key.clone(), value: vec![0, 255], created: revision, modified: revision, lease: Some(lease) };
    assert_eq!(directory.get(&key).await.unwrap(), Some(expected));
    let later = directory.put(&key, b"", None).await.unwrap();
    assert!(later > revision);
    let entry = directory.get(&key).await.unwrap().unwrap();
    assert_eq!((entry.created, entry.modified, entry.lease), (revision, later, None));
}

async fn a_missing_key_is_none(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    assert_eq!(directory.get(&format!("{prefix}a")).await.unwrap(), None);
    assert!(directory.list(prefix).await.unwrap().0.is_empty());
    assert!(!directory.delete(&format!("{prefix}a"), None).await.unwrap());
    assert!(!directory.delete(&format!("{prefix}a"), Some(0)).await.unwrap());
    assert!(!directory.delete(&format!("{prefix}a"), Some(1)).await.unwrap());
}

async fn a_swap_needs_the_revision_it_expects(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    assert_eq!(directory.swap(&key, 1, b"no", None).await.unwrap(), None);
    let first = directory.swap(&key, 0, b"1", None).await.unwrap().expect("the key was missing");
    assert_eq!(directory.swap(&key, 0, b"no", None).await.unwrap(), None);
    let second = directory.swap(&key, first, b"2", None).await.unwrap().expect("the revision was right");
    assert_eq!(directory.swap(&key, first, b"no", None).await.unwrap(), None);
    assert_eq!(directory.get(&key).await.unwrap().map(|entry| entry.modified), Some(second));
    assert_eq!(value_of(directory, &key).await.as_deref(), Some(&b"2"[..]));
}

async fn a_created_key_keeps_its_order_of_arrival(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    for name in ["c", "a", "b"] {
        directory.swap(&format!("{prefix}{name}"), 0, b"", None).await.unwrap().expect("a new key");
    }
    directory.put(&format!("{prefix}c"), b"again", None).await.unwrap();
    let (mut entries, _) = directory.list(prefix).await.unwrap();
    entries.sort_by_key(|entry| entry.created);
    let names: Vec<&str> = entries.iter().map(|entry| &entry.key[prefix.len()..]).collect();
    assert_eq!(names, ["c", "a", "b"]);
}

async fn a_delete_needs_the_revision_it_expects(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let first = directory.put(&key, b"1", None).await.unwrap();
    let second = directory.put(&key, b"2", None).await.unwrap();
    assert!(!directory.delete(&key, Some(first)).await.unwrap());
    assert!(directory.delete(&key, Some(second)).await.unwrap());
    assert_eq!(directory.get(&key).await.unwrap(), None);
    directory.put(&key, b"3", None).await.unwrap();
    assert!(directory.delete(&key, None).await.unwrap());
}

async fn a_list_has_the_keys_of_its_prefix_in_order(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let inside = format!("{prefix}d1/");
    for key in ["d1/b", "d1/a/x", "d1/a", "d10/c", "d1", "d2/a"] {
        directory.put(&format!("{prefix}{key}"), key.as_bytes(), None).await.unwrap();
    }
    let (entries, revision) = directory.list(&inside).await.unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| &entry.key[inside.len()..]).collect();
    assert_eq!(names, ["a", "a/x", "b"]);
    assert!(entries.iter().all(|entry| entry.modified <= revision));
}

async fn a_long_list_is_whole(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    for number in 0..1100 {
        directory.put(&format!("{prefix}{number:04}"), b"", None).await.unwrap();
    }
    let (entries, revision) = directory.list(prefix).await.unwrap();
    assert_eq!(entries.len(), 1100);
    assert!(entries.is_sorted_by(|a, b| a.key < b.key));
    assert!(entries.iter().all(|entry| entry.modified <= revision));
}

async fn a_key_goes_with_its_revoked_lease(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let lease = directory.grant(TTL_S).await.unwrap();
    directory.put(&format!("{prefix}a"), b"", Some(lease)).await.unwrap();
    let last = directory.put(&format!("{prefix}b"), b"", None).await.unwrap();
    let mut events = directory.watch(prefix, last + 1).await.unwrap();
    directory.revoke(lease).await.unwrap();
    let (entries, revision) = directory.list(prefix).await.unwrap();
    let left: Vec<&str> = entries.iter().map(|entry| &entry.key[prefix.len()..]).collect();
    assert_eq!(left, ["b"]);
    match next(&mut events).await {
        WatchEvent::Deleted { key, revision: at } => assert!(key == format!("{prefix}a") && at <= revision),
        other => panic!("{other:?}"),
    }
}

async fn a_key_goes_when_its_lease_runs_out(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let granted = Instant::now();
    let lease = directory.grant(TTL_S).await.unwrap();
    let revision = directory.put(&format!("{prefix}a"), b"", Some(lease)).await.unwrap();
    let mut events = directory.watch(prefix, revision + 1).await.unwrap();
    assert!(matches!(next(&mut events).await, WatchEvent::Deleted { key, .. } if key == format!("{prefix}a")));
    assert!(granted.elapsed() >= Duration::from_secs(TTL_S.into()), "not before its time");
    assert_eq!(directory.get(&format!("{prefix}a")).await.unwrap(), None);
}

async fn a_lease_kept_alive_stays(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    // The one left alone is granted for longer, so that its end proves that the other has outlived its time.
    let kept = directory.grant(2 * TTL_S).await.unwrap();
    let left = directory.grant(3 * TTL_S).await.unwrap();
    directory.put(&format!("{prefix}kept"), b"", Some(kept)).await.unwrap();
    let revision = directory.put(&format!("{prefix}left"), b"", Some(left)).await.unwrap();
    let mut events = directory.watch(prefix, revision + 1).await.unwrap();
    let ended = loop {
        directory.keep_alive(kept).await.unwrap();
        if let Ok(event) = timeout(Duration::from_millis(300), events.recv()).await {
            break event;
        }
    };
    assert!(matches!(ended, Some(WatchEvent::Deleted { key, .. }) if key == format!("{prefix}left")));
    assert!(directory.get(&format!("{prefix}kept")).await.unwrap().is_some());
}

async fn a_lease_that_is_gone_says_so(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let lease = directory.grant(TTL_S).await.unwrap();
    directory.revoke(lease).await.unwrap();
    let gone = |error: &Error| matches!(error, Error::LeaseGone(id) if *id == lease);
    assert!(directory.keep_alive(lease).await.is_err_and(|error| gone(&error)));
    assert!(directory.revoke(lease).await.is_err_and(|error| gone(&error)));
    assert!(directory.put(&key, b"", Some(lease)).await.is_err_and(|error| gone(&error)));
    assert!(directory.swap(&key, 0, b"", Some(lease)).await.is_err_and(|error| gone(&error)));
    assert_eq!(directory.get(&key).await.unwrap(), None, "nothing was written");
    assert_eq!(directory.swap(&key, 9, b"", Some(lease)).await.unwrap(), None, "the comparison comes first");
}

async fn a_key_rewritten_under_another_lease_outlives_the_first(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let first = directory.grant(TTL_S).await.unwrap();
    let second = directory.grant(60).await.unwrap();
    let revision = directory.put(&key, b"1", Some(first)).await.unwrap();
    directory.swap(&key, revision, b"2", Some(second)).await.unwrap().expect("the revision was right");
    directory.revoke(first).await.unwrap();
    assert_eq!(value_of(directory, &key).await.as_deref(), Some(&b"2"[..]));
    directory.revoke(second).await.unwrap();
    assert_eq!(value_of(directory, &key).await, None);
}

async fn a_watch_tells_every_change_in_order(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let mut events = directory.watch(prefix, 0).await.unwrap();
    let first = directory.put(&key, b"1", None).await.unwrap();
    let second = directory.put(&key, b"2", None).await.unwrap();
    directory.delete(&key, None).await.unwrap();
    let put = |modified, value: &[u8]| {
        WatchEvent::Put(Entry { key: key.clone(), value: value.to_vec(), created: first, modified, lease: None })
    };
    assert_eq!(next(&mut events).await, put(first, b"1"));
    assert_eq!(next(&mut events).await, put(second, b"2"));
    match next(&mut events).await {
        WatchEvent::Deleted { key: gone, revision } => assert!(gone == key && revision > second),
        other => panic!("{other:?}"),
    }
}

async fn a_watch_from_the_past_tells_the_past(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let mut revisions = Vec::new();
    for value in [b"1", b"2", b"3"] {
        revisions.push(directory.put(&key, value, None).await.unwrap());
    }
    let mut events = directory.watch(prefix, revisions[1]).await.unwrap();
    for revision in &revisions[1..] {
        assert!(matches!(next(&mut events).await, WatchEvent::Put(entry) if entry.modified == *revision));
    }
}

async fn a_watch_from_a_listing_on_misses_nothing(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let (_, revision) = directory.list(prefix).await.unwrap();
    let between = directory.put(&format!("{prefix}a"), b"", None).await.unwrap();
    assert!(between > revision);
    let mut events = directory.watch(prefix, revision + 1).await.unwrap();
    assert!(matches!(next(&mut events).await, WatchEvent::Put(entry) if entry.modified == between));
}

async fn a_watch_from_before_a_compaction_ends(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let old = directory.put(&format!("{prefix}a"), b"1", None).await.unwrap();
    directory.put(&format!("{prefix}a"), b"2", None).await.unwrap();
    subject.compact().await;
    let mut events = directory.watch(prefix, old).await.unwrap();
    assert!(matches!(next(&mut events).await, WatchEvent::Ended { reason } if reason.contains("compacted")));
    assert_eq!(timeout(LONG, events.recv()).await.expect("an end"), None);
    let (entries, revision) = directory.list(prefix).await.unwrap();
    assert_eq!(entries.len(), 1, "what stands is not touched");
    let mut events = directory.watch(prefix, revision + 1).await.unwrap();
    let last = directory.put(&format!("{prefix}a"), b"3", None).await.unwrap();
    assert!(matches!(next(&mut events).await, WatchEvent::Put(entry) if entry.modified == last));
}

async fn a_watch_tells_only_its_prefix(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let mut events = directory.watch(&format!("{prefix}d1/"), 0).await.unwrap();
    for key in ["d10/a", "d1", "d/a", "d1/a"] {
        directory.put(&format!("{prefix}{key}"), b"", None).await.unwrap();
    }
    assert!(matches!(next(&mut events).await, WatchEvent::Put(entry) if entry.key == format!("{prefix}d1/a")));
}

async fn a_slow_watcher_is_ended_and_not_waited_for(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let mut events = directory.watch(prefix, 0).await.unwrap();
    for _ in 0..1200 {
        directory.put(&key, b"", None).await.unwrap();
    }
    while events.len() < 1024 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // On memory the watch is over by now; etcd's has its patience, which is counted from when the channel was full.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let mut told = 0;
    let ended = loop {
        match next(&mut events).await {
            WatchEvent::Ended { reason } => break reason,
            _ => told += 1,
        }
    };
    assert!(ended.contains("too slow"), "{ended}");
    assert!((1..1200).contains(&told), "{told}");
    assert!(directory.get(&key).await.unwrap().is_some(), "others go on");
}

async fn of_many_swaps_at_once_one_wins(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = format!("{prefix}a");
    let try_it = || directory.swap(&key, 0, b"", None);
    let outcomes = tokio::join!(try_it(), try_it(), try_it(), try_it());
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3];
    assert_eq!(outcomes.into_iter().filter(|outcome| outcome.as_ref().unwrap().is_some()).count(), 1);
}

fn put(key: String, expect: Expect, value: &[u8]) -> Change {
    Change { key, expect, becomes: Some((value.to_vec(), None)) }
}

async fn each_of_many_changes_happens_by_what_it_expects_itself(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let key = |name: &str| format!("{prefix}{name}");
    let made = directory.put(&key("a"), b"1", None).await.unwrap();
    let written = directory.put(&key("a"), b"2", None).await.unwrap();
    let gone = directory.put(&key("gone"), b"1", None).await.unwrap();
    directory.put(&key("stays"), b"1", None).await.unwrap();
    let changes = [
        put(key("new"), Expect::Missing, b"1"),
        put(key("stays"), Expect::Missing, b"no"),
        put(key("a"), Expect::Modified(made), b"no"),
        Change { key: key("gone"), expect: Expect::Created(gone), becomes: None },
        Change { key: key("never"), expect: Expect::Missing, becomes: None },
        put(key("nowhere"), Expect::Created(made), b"no"),
    ];
    let changed = directory.change(None, &changes).await.unwrap().expect("no guard");
    assert_eq!(changed.done, [true, false, false, true, false, false]);
    let second = [put(key("a"), Expect::Created(made), b"3")];
    let again = directory.change(None, &second).await.unwrap().expect("no guard");
    assert!(again.done[0] && again.revision > changed.revision);
    let third =
        [put(key("a"), Expect::Modified(again.revision), b"4"), put(key("new"), Expect::Modified(written), b"no")];
    assert_eq!(directory.change(None, &third).await.unwrap().expect("no guard").done, [true, false]);
    let (entries, _) = directory.list(prefix).await.unwrap();
    let left: Vec<(&str, &[u8])> =
        entries.iter().map(|entry| (&entry.key[prefix.len()..], entry.value.as_slice())).collect();
    assert_eq!(left, [("a", &b"4"[..]), ("new", b"1"), ("stays", b"1")]);
    assert_eq!(entries[0].created, made, "what is written again was made once");
}

async fn changes_of_one_call_have_one_revision_and_their_order(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let mut events = directory.watch(prefix, 0).await.unwrap();
    let lease = directory.grant(60).await.unwrap();
    let keys: Vec<String> = (0..CHANGES).rev().map(|number| format!("{prefix}{number:03}")).collect();
    let change =
        |key: &String| Change { key: key.clone(), expect: Expect::Missing, becomes: Some((vec![], Some(lease))) };
    let changes: Vec<Change> = keys.iter().map(change).collect();
    let changed = directory.change(None, &changes).await.unwrap().expect("no guard");
    assert_eq!(changed.done, vec![true; CHANGES]);
    for key in &keys {
        match next(&mut events).await {
            WatchEvent::Put(entry) => {
                assert_eq!((&entry.key, entry.created, entry.lease), (key, changed.revision, Some(lease)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(directory.change(None, &changes).await.unwrap().expect("no guard").done, vec![false; CHANGES]);
    directory.revoke(lease).await.unwrap();
    assert!(directory.list(prefix).await.unwrap().0.is_empty(), "all live under the lease");
}

async fn changes_happen_only_while_their_guard_stands(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let (guard, key) = (format!("{prefix}guard"), format!("{prefix}a"));
    let first = directory.put(&guard, b"", None).await.unwrap();
    directory.put(&guard, b"written again", None).await.unwrap();
    let by = |created| Some(Guard { key: &guard, created });
    let changed = directory.change(by(first), &[put(key.clone(), Expect::Missing, b"1")]).await.unwrap();
    let made = changed.expect("the guard stands").revision;
    directory.delete(&guard, None).await.unwrap();
    let remove = [Change { key: key.clone(), expect: Expect::Created(made), becomes: None }];
    assert_eq!(directory.change(by(first), &remove).await.unwrap(), None);
    let second = directory.put(&guard, b"", None).await.unwrap();
    assert_eq!(directory.change(by(first), &remove).await.unwrap(), None, "another has made it anew");
    assert_eq!(value_of(directory, &key).await.as_deref(), Some(&b"1"[..]));
    assert!(directory.change(by(second), &remove).await.unwrap().expect("the guard stands").done[0]);
}

async fn changes_under_a_lease_that_is_gone_say_so(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let lease = directory.grant(TTL_S).await.unwrap();
    directory.revoke(lease).await.unwrap();
    let under = |name: &str| Change {
        key: format!("{prefix}{name}"),
        expect: Expect::Missing,
        becomes: Some((b"1".to_vec(), Some(lease))),
    };
    let failed = directory.change(None, &[put(format!("{prefix}b"), Expect::Missing, b"1"), under("a")]).await;
    assert!(matches!(failed, Err(Error::LeaseGone(id)) if id == lease), "{failed:?}");
    assert!(directory.list(prefix).await.unwrap().0.is_empty(), "nothing was written");
}

async fn too_many_changes_or_two_of_one_key_are_refused(subject: &dyn Subject, prefix: &str) {
    let directory = subject.directory();
    let many: Vec<Change> = (0..=CHANGES).map(|n| put(format!("{prefix}{n}"), Expect::Missing, b"")).collect();
    let twice =
        vec![put(format!("{prefix}a"), Expect::Missing, b"1"), put(format!("{prefix}a"), Expect::Missing, b"2")];
    for changes in [many, twice] {
        assert!(matches!(directory.change(None, &changes).await, Err(Error::Refused(_))));
    }
    assert!(directory.list(prefix).await.unwrap().0.is_empty());
}

async fn the_description_names_the_driver(subject: &dyn Subject, _: &str) {
    let text = subject.directory().describe().await.unwrap();
    assert!(text.contains("in-process") || text.starts_with("etcd 3."), "{text}");
    if text.starts_with("etcd 3.4") {
        assert!(text.contains("warning") && text.contains("3.5.23"), "{text}");
    }
}
