//! The order to empty a node: a key in the directory that an operator writes and the node itself watches and removes.
//!
//! It names the life of the node that is meant, so that an order that was left behind NEVER empties the next node of that
//! name. While the node empties itself it tells in the same key how far it is.

use std::time::Duration;

use mesh::directory::{self, Directory, Entry, WatchEvent};
use mesh::registry::District;
use mesh::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The pause after a failed call or a watch that ended; it doubles up to [`PAUSE_MOST`].
const PAUSE_LEAST: Duration = Duration::from_millis(100);

/// The longest pause between tries.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// How often the key is read though the watch tells nothing.
const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// The key under which a node is told to empty itself.
pub fn key(district: &District, node: &NodeId) -> String {
    format!("{}{}/drain/{node}", district.cluster_prefix(), district.name())
}

/// What stands under the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// Why, for people.
    pub reason: String,
    /// The life that is meant; without it, whichever reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<u64>,
    /// How far the node is, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far a node is with emptying itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Players that are still there.
    pub players: u32,
    /// Objects of its own that are still there.
    pub bodies: u32,
}

impl DrainOrder {
    /// As it stands in the directory.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing plain values to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads one. What is no order at all is one without words: somebody wants the node to go.
    pub fn read(value: &[u8]) -> DrainOrder {
        serde_json::from_slice(value).unwrap_or_default()
    }

    fn means(&self, life: Incarnation) -> bool {
        self.life.is_none_or(|meant| meant == life.0)
    }
}

/// Watches for the order of one life of a node, tells it, and ends.
pub async fn follow(
    directory: std::sync::Arc<dyn Directory>,
    key: String,
    life: Incarnation,
    told: watch::Sender<Option<DrainOrder>>,
) {
    let mut pause = PAUSE_LEAST;
    loop {
        match round(&*directory, &key, life).await {
            Ok(Some(order)) => {
                told.send_replace(Some(order));
                return;
            }
            Ok(None) => pause = PAUSE_LEAST,
            Err(error) => {
                tracing::debug!(%error, "the order to empty this node cannot be looked for");
                pause = (pause * 2).min(PAUSE_MOST);
            }
        }
        sleep(pause).await;
    }
}

/// Reads and watches until the order comes, or it is time to read again.
async fn round(directory: &dyn Directory, key: &str, life: Incarnation) -> directory::Result<Option<DrainOrder>> {
    let (entries, revision) = directory.list(key).await?;
    // Other nodes' names may begin with this one's.
    for entry in entries.iter().filter(|entry| entry.key == key) {
        if let Some(order) = judge(directory, entry, life).await? {
            return Ok(Some(order));
        }
    }
    let mut watch = directory.watch(key, revision + 1).await?;
    loop {
        match timeout(COMPARE_EVERY, watch.recv()).await {
            Ok(Some(WatchEvent::Put(entry))) if entry.key == key => {
                if let Some(order) = judge(directory, &entry, life).await? {
                    return Ok(Some(order));
                }
            }
            Ok(Some(WatchEvent::Put(_) | WatchEvent::Deleted { .. })) => {}
            Ok(Some(WatchEvent::Ended { .. }) | None) | Err(_) => return Ok(None),
        }
    }
}

/// The order, if it is this life's; one that an earlier life left behind is removed.
async fn judge(directory: &dyn Directory, entry: &Entry, life: Incarnation) -> directory::Result<Option<DrainOrder>> {
    let order = DrainOrder::read(&entry.value);
    if order.means(life) {
        return Ok(Some(order));
    }
    tracing::info!(key = entry.key, "an order to empty an earlier life of this node was left behind");
    directory.delete(&entry.key, Some(entry.modified)).await?;
    Ok(None)
}

/// Tells how far the node is, if the key still stands.
pub async fn tell(directory: &dyn Directory, key: &str, progress: Progress) -> directory::Result<()> {
    let Some(entry) = directory.get(key).await? else { return Ok(()) };
    let order = DrainOrder { progress: Some(progress), ..DrainOrder::read(&entry.value) };
    // Whoever wrote it anew meanwhile is told with the next round.
    directory.swap(key, entry.modified, &order.to_bytes(), entry.lease).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh::directory::memory::MemoryDirectory;
    use mesh::tasks::Tasks;

    use super::*;

    const LIFE: Incarnation = Incarnation(7);

    fn node_key(name: &str) -> String {
        key(&District::new("c", "main"), &NodeId::new(name).expect("a name"))
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_is_taken_by_the_life_that_it_means_and_by_no_other() {
        let tasks = Tasks::simulated();
        let server = MemoryDirectory::start(&tasks, 1);
        let client = server.client();
        let key = node_key("zoo-1");
        assert_eq!(key, "/wildmesh/c/main/drain/zoo-1");
        let put = async |key: &str, life| {
            let order = DrainOrder { reason: "a new version".to_owned(), life, ..DrainOrder::default() };
            client.put(key, &order.to_bytes(), None).await.expect("written");
        };
        // Left behind by the life before, and one for a node whose name begins alike.
        put(&key, Some(6)).await;
        put(&node_key("zoo-10"), None).await;
        let (told, mut hears) = watch::channel(None);
        tasks.spawn(follow(Arc::new(server.client()), key.clone(), LIFE, told));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(client.get(&key).await.expect("read"), None, "what was left behind is gone");
        assert!(hears.borrow().is_none(), "and nobody was told");
        put(&key, Some(LIFE.0)).await;
        let told = timeout(Duration::from_secs(5), hears.wait_for(Option::is_some)).await.expect("in time");
        assert_eq!(told.expect("told").as_ref().map(|order| order.reason.as_str()), Some("a new version"));
        let progress = Progress { players: 3, bodies: 4 };
        tell(&client, &key, progress).await.expect("told");
        let entry = client.get(&key).await.expect("read").expect("there");
        assert_eq!(DrainOrder::read(&entry.value).progress, Some(progress));
        client.delete(&key, None).await.expect("removed");
        tell(&client, &key, progress).await.expect("nothing to tell");
        assert_eq!(client.get(&key).await.expect("read"), None, "and a key that is gone is not written again");
        tasks.stop();
    }

    #[test]
    fn whatever_stands_under_the_key_is_an_order() {
        for value in [&b""[..], b"{}", b"x", b"{\"reason\":7}"] {
            assert!(DrainOrder::read(value).means(LIFE), "{value:?}");
        }
        assert!(!DrainOrder::read(b"{\"reason\":\"x\",\"life\":8}").means(LIFE));
    }
}
