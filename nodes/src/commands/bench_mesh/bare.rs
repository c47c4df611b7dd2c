//! The bare `zeromq` crate, as the yardstick: one PUB, one SUB, each on a thread of its own with a current-thread runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use mesh::tasks::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use zeromq::{PubSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

use super::{MEETING, PARTS, WINDOW, parts, rate};
use crate::bots::Percentiles;

/// The time from sending to receiving messages of this size at this rate.
pub(super) async fn lag(seconds: u64, bytes: usize, per_s: u64) -> Result<Percentiles> {
    let tasks = Tasks::real();
    let origin = Instant::now();
    let (heard, endpoint) = listen(&tasks).await?;
    let (done, sent) = oneshot::channel();
    let body = vec![7; bytes.max(8)];
    tasks.spawn_thread("bare sub", move || async move {
        // The receiver sees the end of the channel if this fails.
        let _ = done.send(subscribe_and_time(endpoint, origin, seconds).await);
    })?;
    let publishing = async move {
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < Duration::from_secs(seconds + 1) {
            let due = started.elapsed().as_micros() as u64 * per_s.max(1) / 1_000_000;
            while count < due {
                count += 1;
                let mut body = body.clone();
                body[..8].copy_from_slice(&(origin.elapsed().as_nanos() as u64).to_le_bytes());
                if heard.send(vec![Bytes::from(body)]).await.is_err() {
                    return;
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    publishing.await;
    let histogram = timeout(MEETING, sent).await.context("the bare crate delivered nothing")???;
    tasks.stop();
    Ok(Percentiles::of(&histogram))
}

async fn subscribe_and_time(endpoint: String, origin: Instant, seconds: u64) -> Result<Histogram<u64>> {
    let mut socket = SubSocket::new();
    socket.connect(&endpoint).await?;
    socket.subscribe("t").await?;
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        let Ok(message) = timeout(Duration::from_secs(1), socket.recv()).await else { continue };
        let message = message?;
        let Some(stamp) = message.get(1).and_then(|part| part.get(..8)) else { continue };
        let sent_ns = u64::from_le_bytes(stamp.try_into()?);
        let now_ns = origin.elapsed().as_nanos() as u64;
        histogram.saturating_record((now_ns.saturating_sub(sent_ns) / 1_000).max(1));
    }
    Ok(histogram)
}

/// A bound PUB on a thread of its own: whatever comes into the channel is published under one topic.
async fn listen(tasks: &Tasks) -> Result<(mpsc::Sender<Vec<Bytes>>, String)> {
    let (sender, mut inbox) = mpsc::channel::<Vec<Bytes>>(WINDOW as usize * 2);
    let (bound, binding) = oneshot::channel();
    tasks.spawn_thread("bare pub", move || async move {
        let mut socket = PubSocket::new();
        let endpoint = socket.bind("tcp://127.0.0.1:0").await.map(|endpoint| endpoint.to_string());
        let _ = bound.send(endpoint);
        while let Some(parts) = inbox.recv().await {
            let mut message = ZmqMessage::from("t");
            parts.into_iter().for_each(|part| message.push_back(part));
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })?;
    Ok((sender, binding.await??))
}

/// One PUB and one SUB, of which one publishes as fast as the other takes.
pub(super) struct Link {
    sender: mpsc::Sender<Vec<Bytes>>,
    received: Arc<AtomicU64>,
    sent: u64,
    tasks: Tasks,
}

impl Link {
    pub(super) async fn start() -> Result<Link> {
        let tasks = Tasks::real();
        let (sender, endpoint) = listen(&tasks).await?;
        let received = Arc::new(AtomicU64::new(0));
        let count = received.clone();
        tasks.spawn_thread("bare sub", move || async move {
            let mut socket = SubSocket::new();
            if socket.connect(&endpoint).await.is_err() || socket.subscribe("t").await.is_err() {
                return;
            }
            while let Ok(message) = socket.recv().await {
                count.fetch_add((message.len() == PARTS + 1) as u64, Ordering::Release);
            }
        })?;
        let knock = async {
            while received.load(Ordering::Acquire) == 0 {
                if sender.send(parts()).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(200)).await;
        };
        timeout(MEETING, knock).await.context("nothing arrived over the bare crate")?;
        let sent = received.load(Ordering::Acquire);
        Ok(Link { sender, received, sent, tasks })
    }

    /// MiB per second over one round.
    pub(super) async fn round(&mut self, length: Duration) -> f64 {
        let (started, before) = (Instant::now(), self.received.load(Ordering::Acquire));
        while started.elapsed() < length {
            let open = self.sent < self.received.load(Ordering::Acquire) + WINDOW;
            if open && self.sender.try_send(parts()).is_ok() {
                self.sent += 1;
            } else {
                tokio::task::yield_now().await;
            }
        }
        rate(self.received.load(Ordering::Acquire) - before, started.elapsed())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}
