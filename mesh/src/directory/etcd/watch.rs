//! One watch of etcd: opened, pumped into a bounded channel, and ended with a reason. It NEVER resumes.

use std::time::Duration;

use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::entry;
use super::outcome::Failure;
use crate::directory::{Revision, WatchEvent};

/// Events that wait for a receiver, at most; then etcd itself holds them back for [`PATIENCE`].
pub(super) const EVENTS: usize = 1024;

/// How long a receiver may leave a full channel unread before its watch ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// A watch that etcd has confirmed, with the first answer if it already says more.
pub(super) struct Opened {
    stream: WatchStream,
    first: Option<WatchResponse>,
}

/// Opens a watch and waits until etcd confirms it.
pub(super) async fn open(
    mut client: Client,
    prefix: &str,
    end: Vec<u8>,
    from: Revision,
) -> Result<Opened, etcd_client::Error> {
    let options = WatchOptions::new().with_range(end).with_start_revision(from).with_fragment();
    let mut stream = client.watch(prefix, Some(options)).await?;
    let first = stream.message().await?;
    Ok(Opened { stream, first })
}

/// Hands on events until the watch ends or nobody listens.
pub(super) async fn pump(opened: Opened, sender: mpsc::Sender<WatchEvent>) {
    let Opened { mut stream, first } = opened;
    let mut next = Ok(first);
    let reason = loop {
        match next {
            Ok(Some(answer)) => {
                if let Some(reason) = forward(&answer, &sender).await {
                    break reason;
                }
            }
            Ok(None) => break "etcd closed the watch".to_owned(),
            Err(error) => break format!("{:?}", Failure::of(&error)),
        }
        next = tokio::select! {
            biased;
            () = sender.closed() => return,
            answer = stream.message() => answer,
        };
    };
    // The connection's share of this watch is given up before waiting for a slow receiver to make room.
    drop(stream);
    let _ = sender.send(WatchEvent::Ended { reason }).await;
}

/// Hands on one answer's events; the reason if it was the last.
async fn forward(answer: &WatchResponse, sender: &mpsc::Sender<WatchEvent>) -> Option<String> {
    for event in answer.events() {
        let Some(kv) = event.kv() else { continue };
        let told = match event.event_type() {
            EventType::Put => WatchEvent::Put(entry(kv)),
            EventType::Delete => {
                let key = String::from_utf8_lossy(kv.key()).into_owned();
                WatchEvent::Deleted { key, revision: kv.mod_revision() }
            }
        };
        match timeout(PATIENCE, sender.send(told)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Some("nobody listens".to_owned()),
            Err(_) => return Some("the watcher is too slow".to_owned()),
        }
    }
    if answer.compact_revision() > 0 {
        return Some(format!("compacted up to revision {}", answer.compact_revision()));
    }
    answer.canceled().then(|| format!("cancelled by etcd: {}", answer.cancel_reason()))
}
