//! Follows the records of islands: lists, watches from there, and lists again whenever the watch ends, and now and then
//! anyway.
//!
//! What is told is always a whole state, so that a lost watch loses no island. Nothing is EVER concluded from a call that
//! failed: until the directory answers again, the islands stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::IslandId;
use mesh::directory::{self, Directory, Entry, Revision, WatchEvent};
use tokio::time::{Instant, sleep, sleep_until};

use super::Archipelago;
use super::record::IslandRecord;

/// The first pause after a failed call or a watch that ended soon; it doubles up to [`PAUSE_MOST`].
const PAUSE_LEAST: Duration = Duration::from_millis(100);

/// The longest pause between tries.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// A watch that lived this long has worked: the next one is opened without a pause.
const WORKED: Duration = Duration::from_secs(10);

/// How often everything is listed and compared with what the watch told.
const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// How long the stewards are given to write the records again in a directory that lost its data.
const GRACE: Duration = Duration::from_secs(10);

/// Follows what stands under `prefix` and tells the archipelago, for ever.
pub async fn follow(directory: Arc<dyn Directory>, prefix: String, islands: Archipelago) {
    let mut follower = Follower { records: Records::new(&prefix), directory, prefix, islands };
    let mut pause = Duration::ZERO;
    loop {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let began = Instant::now();
        match follower.round().await {
            Ok(reason) => tracing::debug!(reason, "the watch on the islands ended; listing anew"),
            Err(error) => tracing::warn!(%error, "following the islands failed; trying again"),
        }
        let worked = began.elapsed() >= WORKED;
        pause = if worked { Duration::ZERO } else { (pause * 2).clamp(PAUSE_LEAST, PAUSE_MOST) };
    }
}

struct Follower {
    directory: Arc<dyn Directory>,
    prefix: String,
    records: Records,
    islands: Archipelago,
}

impl Follower {
    /// Lists, watches from there, and follows until that ends; says why it did.
    async fn round(&mut self) -> directory::Result<String> {
        self.list().await?;
        let mut watch = self.directory.watch(&self.prefix, self.records.listed + 1).await?;
        let mut compare_at = Instant::now() + COMPARE_EVERY;
        loop {
            tokio::select! {
                biased;
                event = watch.recv() => match event {
                    Some(WatchEvent::Ended { reason }) => return Ok(reason),
                    None => return Ok("the driver stopped".to_owned()),
                    Some(event) => if self.records.apply(&event) {
                        self.tell();
                    }
                },
                () = sleep_until(compare_at) => {
                    // A healthy watch has told everything, save what is still on its way: watching anew costs little.
                    if self.list().await? {
                        return Ok("a comparison found what the watch had not told".to_owned());
                    }
                    compare_at = Instant::now() + COMPARE_EVERY;
                }
            }
        }
    }

    /// Lists everything; true if it differs from what was known.
    async fn list(&mut self) -> directory::Result<bool> {
        let (mut entries, mut revision) = self.directory.list(&self.prefix).await?;
        if revision < self.records.latest {
            tracing::error!(revision, "the directory went back in time: was it restored or emptied?");
            sleep(GRACE).await;
            (entries, revision) = self.directory.list(&self.prefix).await?;
        }
        let news = self.records.adopt(&entries, revision);
        self.tell();
        Ok(news)
    }

    fn tell(&self) {
        self.islands.adopt(self.records.known.clone());
    }
}

/// The records as they were told: a pure state. News never goes backwards.
#[derive(Debug)]
struct Records {
    prefix: String,
    known: BTreeMap<IslandId, IslandRecord>,
    /// The revision of the last listing: everything up to it is in.
    listed: Revision,
    /// The highest revision of any news so far.
    latest: Revision,
}

impl Records {
    fn new(prefix: &str) -> Records {
        Records { prefix: prefix.to_owned(), known: BTreeMap::new(), listed: 0, latest: 0 }
    }

    /// Takes a listing for the whole truth; true if something is different. A record that became unreadable keeps its last
    /// reading: its island lives on.
    fn adopt(&mut self, entries: &[Entry], revision: Revision) -> bool {
        let mut listed = BTreeMap::new();
        for entry in entries {
            let place = entry.key.strip_prefix(&self.prefix).and_then(|id| id.parse().ok()).map(IslandId);
            let kept = || place.and_then(|id| self.known.get(&id).cloned());
            if let Some(record) = IslandRecord::read(&self.prefix, entry).or_else(kept) {
                listed.insert(record.id, record);
            }
        }
        (self.listed, self.latest) = (revision, revision);
        let news = listed != self.known;
        self.known = listed;
        news
    }

    /// Takes in one event of a watch; true if something is different.
    fn apply(&mut self, event: &WatchEvent) -> bool {
        match event {
            WatchEvent::Put(entry) if entry.modified > self.listed => {
                self.latest = self.latest.max(entry.modified);
                let Some(record) = IslandRecord::read(&self.prefix, entry) else { return false };
                self.known.insert(record.id, record.clone()).as_ref() != Some(&record)
            }
            WatchEvent::Deleted { key, revision } if *revision > self.listed => {
                self.latest = self.latest.max(*revision);
                let place = key.strip_prefix(&self.prefix).and_then(|id| id.parse().ok()).map(IslandId);
                place.is_some_and(|id| self.known.remove(&id).is_some())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::islands::tests::record;

    const PREFIX: &str = "/wildmesh/c/islands/";

    fn entry(id: u32, modified: Revision) -> Entry {
        Entry {
            key: format!("{PREFIX}{id}"),
            value: record(id, "main").to_bytes(),
            created: modified,
            modified,
            lease: None,
        }
    }

    #[test]
    fn news_never_goes_backwards_and_a_bad_record_keeps_its_last_reading() {
        let mut records = Records::new(PREFIX);
        assert!(records.adopt(&[entry(5, 3)], 10));
        assert!(!records.apply(&WatchEvent::Deleted { key: format!("{PREFIX}5"), revision: 9 }), "older");
        assert!(records.apply(&WatchEvent::Put(entry(6, 11))));
        assert!(!records.apply(&WatchEvent::Put(entry(6, 12))), "the same again");
        for value in ["", "{", "[]", "\u{0}", "{\"id\":5}"] {
            let bad = Entry { value: value.as_bytes().to_vec(), ..entry(5, 13) };
            assert!(!records.apply(&WatchEvent::Put(bad.clone())));
            assert!(!records.adopt(&[bad, entry(6, 11)], 13));
        }
        let stray = Entry { key: format!("{PREFIX}7"), ..entry(8, 14) };
        assert!(!records.apply(&WatchEvent::Put(stray)), "it names itself another");
        assert_eq!(records.known.keys().map(|id| id.0).collect::<Vec<_>>(), [5, 6]);
        assert!(records.apply(&WatchEvent::Deleted { key: format!("{PREFIX}5"), revision: 15 }));
        assert!(records.adopt(&[], 16) && records.known.is_empty());
    }
}
