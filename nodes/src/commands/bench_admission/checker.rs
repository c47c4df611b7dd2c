//! Who came first, by the keys of the directory alone: an entry that goes while an earlier one stays is out of order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use mesh::directory::{Directory, Entry, Revision, WatchEvent};
use mesh::tasks::Tasks;

use crate::gateway::queue::Waiting;

/// Counts entries that went out of order.
#[derive(Clone, Default)]
pub(super) struct Checker(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Those who wait, by class, revision of making and number within the call.
    line: BTreeMap<(u8, Revision, u32), String>,
    keys: BTreeMap<String, (u8, Revision, u32)>,
    /// Those that went at this revision.
    going: (Revision, Vec<(u8, Revision, u32)>),
    out_of_order: u64,
    unseen: u64,
}

impl Checker {
    /// Watches the queue under `prefix` for as long as `tasks` run.
    pub(super) async fn start(directory: Arc<dyn Directory>, prefix: &str, tasks: &Tasks) -> Result<Checker> {
        let checker = Checker::default();
        let begin = format!("{prefix}waiting/");
        let mut watch = directory.watch(&begin, 0).await?;
        let seen = checker.clone();
        tasks.spawn(async move {
            let mut events = Vec::new();
            while watch.recv_many(&mut events, 1_024).await > 0 {
                for event in events.drain(..) {
                    if let WatchEvent::Ended { .. } = event {
                        // What happened until the next watch began is not judged.
                        let Ok((entries, revision)) = directory.list(&begin).await else { return };
                        seen.with(|it| it.begin_anew(&entries));
                        let Ok(next) = directory.watch(&begin, revision + 1).await else { return };
                        watch = next;
                        break;
                    }
                    seen.with(|it| it.take(event));
                }
                events.clear();
            }
        });
        Ok(checker)
    }

    /// How many went out of order, and how many it did not see go.
    pub(super) fn counted(&self) -> (u64, u64) {
        self.with(|seen| {
            seen.judge();
            (seen.out_of_order, seen.unseen)
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Put(entry) => self.put(&entry),
            WatchEvent::Deleted { key, revision } => {
                if self.going.0 != revision {
                    self.judge();
                    self.going.0 = revision;
                }
                if let Some(order) = self.keys.remove(&key) {
                    self.line.remove(&order);
                    self.going.1.push(order);
                }
            }
            WatchEvent::Ended { .. } => {}
        }
    }

    fn put(&mut self, entry: &Entry) {
        let Ok(waiting) = serde_json::from_slice::<Waiting>(&entry.value) else { return };
        let order = (waiting.class.into(), entry.created, waiting.number);
        if let Some(before) = self.keys.insert(entry.key.clone(), order) {
            self.line.remove(&before);
        }
        self.line.insert(order, entry.key.clone());
    }

    /// Those who went at one revision went at once: whoever stays and came before one of them was passed over.
    fn judge(&mut self) {
        let first = self.line.keys().next();
        let passed = |order: &&(u8, Revision, u32)| first.is_some_and(|first| first < order);
        self.out_of_order += self.going.1.iter().filter(passed).count() as u64;
        self.going.1.clear();
    }

    fn begin_anew(&mut self, entries: &[Entry]) {
        self.judge();
        let before = self.keys.len();
        self.keys.clear();
        self.line.clear();
        entries.iter().for_each(|entry| self.put(entry));
        self.unseen += before.saturating_sub(self.keys.len()) as u64;
    }
}
