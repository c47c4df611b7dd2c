//! The requesting half of a link: one DEALER socket per peer, made anew after any failure.
//!
//! Any error of a DEALER is final, and after its peer's restart it never works again: so it is replaced whole. What waits
//! for a peer is bounded here, not in the socket: at most a window is under way, and the queue in front of it is short.
//! It NEVER sends on a new connection what was queued for an old one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::zeromq::{DealerSendHalf, DealerSocket, Socket, SocketEvent, SocketSend, ZmqMessage, ZmqResult};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, MissedTickBehavior, interval, sleep};
use tracing::debug;

use super::flow::{Intake, Window};
use super::subscriber::Progress;
use super::wire::{self, Message, Report};
use super::{Backoff, Driver, Monitor, incoming, request_options, tcp_only};
use crate::transport::{Counters, Event, LinkId, MESSAGE_BYTES};

/// The end of a link's queue that the driver's loop holds.
#[derive(Debug)]
pub(super) struct Queue {
    messages: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// The end that the link reads.
#[derive(Debug)]
pub(super) struct Queued {
    messages: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicU64>,
}

/// A queue of requests, bounded in number and bytes. One message of any size fits into an empty queue.
pub(super) fn queue(messages_max: usize, bytes_max: u64) -> (Queue, Queued) {
    let (sender, receiver) = mpsc::channel(messages_max);
    let bytes = Arc::new(AtomicU64::new(0));
    (Queue { messages: sender, bytes: bytes.clone(), bytes_max }, Queued { messages: receiver, bytes })
}

impl Queue {
    /// Appends a message; false if there is no room.
    pub(super) fn push(&self, message: Bytes) -> bool {
        let len = message.len() as u64;
        let waiting = self.bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting + len > self.bytes_max {
            return false;
        }
        let pushed = self.messages.try_send(message).is_ok();
        if pushed {
            self.bytes.fetch_add(len, Ordering::Relaxed);
        }
        pushed
    }
}

impl Queued {
    async fn next(&mut self) -> Option<Bytes> {
        let message = self.messages.recv().await?;
        self.bytes.fetch_sub(message.len() as u64, Ordering::Relaxed);
        Some(message)
    }

    fn clear(&mut self) -> u64 {
        let mut cleared = 0;
        while let Ok(message) = self.messages.try_recv() {
            self.bytes.fetch_sub(message.len() as u64, Ordering::Relaxed);
            cleared += 1;
        }
        cleared
    }
}

/// The requesting half of a link.
pub(super) struct Requests {
    /// The link.
    pub(super) link: LinkId,
    /// The peer's request endpoint.
    pub(super) endpoint: String,
    /// What to send.
    pub(super) queue: Queued,
    /// What to report to the publisher.
    pub(super) progress: watch::Receiver<Progress>,
    /// Where to write the life that the peer confirms.
    pub(super) life: Arc<AtomicU64>,
    /// The driver's channels and limits.
    pub(super) driver: Driver,
}

/// One connection.
struct Session {
    send: DealerSendHalf,
    window: Window,
    intake: Intake,
    unanswered: u32,
}

/// Why a connection is over.
enum End {
    /// It failed; the next one may work.
    Broken,
    /// The hub or the other half is gone: so is the link.
    Closed,
}

impl Requests {
    /// Connects, exchanges messages and connects again, until the link is closed.
    pub(super) async fn run(mut self) {
        // Subscribe first, greet afterwards: what the peer publishes to a node that it knows is then seen from the start.
        // When the first attempt to subscribe has failed, this half goes on alone.
        if self.progress.changed().await.is_err() {
            return;
        }
        let mut backoff = Backoff::new(&self.driver.limits);
        loop {
            match self.connect().await {
                Ok((socket, monitor)) => {
                    backoff.reset();
                    if let End::Closed = self.exchange(socket, monitor).await {
                        return;
                    }
                }
                Err(error) => debug!(link = self.link.0, %error, "cannot connect"),
            }
            Counters::add(&self.driver.counters.dropped, self.queue.clear());
            if self.driver.events.send(Event::Broken { link: self.link }).await.is_err() {
                return;
            }
            sleep(backoff.next()).await;
        }
    }

    async fn connect(&self) -> ZmqResult<(DealerSocket, Monitor)> {
        if !tcp_only(&self.endpoint) {
            return Err(zeromq::ZmqError::Other("only tcp:// endpoints are served"));
        }
        let mut socket = DealerSocket::with_options(request_options(&self.driver.limits));
        let monitor = socket.monitor().boxed();
        socket.connect(&self.endpoint).await?;
        Ok((socket, monitor))
    }

    async fn exchange(&mut self, socket: DealerSocket, mut monitor: Monitor) -> End {
        let (send, mut recv) = socket.split();
        let mut session = Session { send, window: Window::default(), intake: Intake::default(), unanswered: 0 };
        let limits = self.driver.limits.clone();
        let mut tick = interval(Duration::from_millis(limits.tick_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                biased;
                event = monitor.next() => match event {
                    None | Some(SocketEvent::Disconnected(_)) => Err(End::Broken),
                    Some(_) => Ok(()),
                },
                message = incoming(&self.driver.events, &mut recv) => match message {
                    Some(Ok(message)) => self.take(&mut session, message).await,
                    Some(Err(_)) => Err(End::Broken),
                    None => Err(End::Closed),
                },
                changed = self.progress.changed() => match changed {
                    Ok(()) => self.report(&mut session).await,
                    Err(_) => Err(End::Closed),
                },
                // The first tick comes at once: so does the first report, whose receipt tells the peer's life.
                _ = tick.tick() => {
                    session.unanswered += 1;
                    let silent = session.unanswered > limits.silent_ticks && !self.driver.events.full();
                    if silent { Err(End::Broken) } else { self.report(&mut session).await }
                }
                request = self.queue.next(), if session.window.open(&limits) => match request {
                    Some(request) => {
                        session.window.sent(request.len());
                        post(&mut session.send, wire::hub(request)).await
                    }
                    None => Err(End::Closed),
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn take(&mut self, session: &mut Session, message: ZmqMessage) -> Result<(), End> {
        let refused = &self.driver.counters.refused;
        match wire::open(&message.into_vec()) {
            Ok(Message::Hub(message)) if message.len() <= MESSAGE_BYTES => {
                let due = session.intake.received(message.len(), &self.driver.limits);
                let answered = Event::Answered { link: self.link, message };
                self.driver.events.send(answered).await.map_err(|_| End::Closed)?;
                if due { self.report(session).await } else { Ok(()) }
            }
            Ok(Message::Receipt(receipt)) if session.window.confirm(receipt.received) => {
                session.unanswered = 0;
                self.life.store(receipt.life, Ordering::Relaxed);
                Ok(())
            }
            _ => {
                Counters::add(refused, 1);
                Ok(())
            }
        }
    }

    async fn report(&mut self, session: &mut Session) -> Result<(), End> {
        let progress = *self.progress.borrow_and_update();
        let received = session.intake.tell();
        let report = Report { token: progress.token, sequence: progress.sequence, received };
        post(&mut session.send, wire::report(&report)).await
    }
}

async fn post(socket: &mut DealerSendHalf, message: ZmqMessage) -> Result<(), End> {
    socket.send(message).await.map_err(|_| End::Broken)
}
