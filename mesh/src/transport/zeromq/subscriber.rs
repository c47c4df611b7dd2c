//! The subscribing half of a link: one SUB socket per peer, made anew whenever it fails or falls silent.
//!
//! One socket per peer, because dropping the socket is the only way to disconnect. Each connection has an identity of
//! its own, because PUB forgets a subscriber by identity when it notices, perhaps late, that a connection has ended. It
//! NEVER delivers a message of another life of the peer than the one that its request endpoint has confirmed: the hub
//! learns of a restart (by `Broken`) before it sees anything of the new life.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::zeromq::util::PeerIdentity;
use ::zeromq::{Socket, SocketEvent, SubSocket, ZmqMessage, ZmqResult};
use futures_util::{FutureExt, StreamExt};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Duration, MissedTickBehavior, interval, sleep, timeout};
use tracing::debug;

use super::interest::{Change, Follower, Interest};
use super::wire::{self, PULSE, Token};
use super::{BATCH, Backoff, Driver, Monitor, incoming, published_options, tcp_only};
use crate::transport::{Counters, Event, LinkId, MESSAGE_BYTES, weight};

/// How far this subscriber has come: the identity of its connection and the last pulse seen on it (0: none yet).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The identity.
    pub(super) token: Token,
    /// The pulse.
    pub(super) sequence: u64,
}

/// The subscribing half of a link.
pub(super) struct Subscriber {
    /// The link.
    pub(super) link: LinkId,
    /// The peer's publishing endpoint.
    pub(super) endpoint: String,
    /// What to subscribe to.
    pub(super) interest: Interest,
    /// The life that the peer's request endpoint has confirmed; 0 before it has. The other half writes it.
    pub(super) life: Arc<AtomicU64>,
    /// Tells the other half what to report.
    pub(super) progress: watch::Sender<Progress>,
    /// Where identities come from.
    pub(super) rng: StdRng,
    /// The driver's channels and limits.
    pub(super) driver: Driver,
    /// Messages were, or may have been, missed since the last one that was delivered.
    pub(super) missed: bool,
}

struct Session {
    socket: SubSocket,
    monitor: Monitor,
    follower: Follower,
    token: Token,
}

impl Subscriber {
    /// Connects, receives and connects again, until the link is closed.
    pub(super) async fn run(mut self) {
        if !tcp_only(&self.endpoint) {
            // The other half says so; there is nothing to connect to.
            self.progress.send_replace(Progress::default());
            return std::future::pending().await;
        }
        let mut backoff = Backoff::new(&self.driver.limits);
        loop {
            match self.connect().await {
                Ok(session) => {
                    backoff.reset();
                    self.progress.send_replace(Progress { token: session.token, sequence: 0 });
                    if self.receive(session).await.is_none() {
                        return;
                    }
                    self.missed = true;
                }
                Err(error) => {
                    debug!(link = self.link.0, %error, "cannot subscribe");
                    // The other half has waited for this long enough.
                    self.progress.send_modify(|_| {});
                }
            }
            sleep(backoff.next()).await;
        }
    }

    async fn connect(&mut self) -> ZmqResult<Session> {
        let mut token: Token = self.rng.random();
        // ZeroMQ keeps identities that begin with zero to itself.
        token[0] |= 1;
        let mut options = published_options(&self.driver.limits);
        options.peer_identity(PeerIdentity::try_from(&token[..])?);
        let mut socket = SubSocket::with_options(options);
        let monitor = socket.monitor().boxed();
        let mut follower = self.interest.follow();
        socket.subscribe(PULSE).await?;
        apply(&mut socket, follower.compare()).await?;
        socket.connect(&self.endpoint).await?;
        Ok(Session { socket, monitor, follower, token })
    }

    /// Receives until the connection ends. `None` when the hub is gone.
    async fn receive(&mut self, mut session: Session) -> Option<()> {
        let limits = self.driver.limits.clone();
        let mut tick = interval(Duration::from_millis(limits.tick_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_ticks = 0;
        loop {
            tokio::select! {
                biased;
                event = session.monitor.next() => {
                    if matches!(event, None | Some(SocketEvent::Disconnected(_))) {
                        debug!(link = self.link.0, "the publishing connection has ended");
                        return Some(());
                    }
                }
                changes = session.follower.changed() => {
                    // A peer that does not take a few bytes for that long is as good as gone.
                    let limit = Duration::from_millis(limits.connect_ms);
                    if !matches!(timeout(limit, apply(&mut session.socket, changes)).await, Ok(Ok(()))) {
                        return Some(());
                    }
                }
                message = incoming(&self.driver.events, &mut session.socket) => {
                    let Ok(message) = message? else { return Some(()) };
                    silent_ticks = 0;
                    self.take(&mut session, message).await?;
                    // What has come with it is taken at once: much cheaper than looking everywhere for each message.
                    for _ in 1..BATCH {
                        let more = incoming(&self.driver.events, &mut session.socket).now_or_never();
                        let Some(Some(Ok(message))) = more else { break };
                        self.take(&mut session, message).await?;
                    }
                }
                // Ticks are counted, not time: a process that slept wakes to one tick, and then reads what waits.
                _ = tick.tick() => {
                    silent_ticks += 1;
                    if silent_ticks > limits.silent_ticks && !self.driver.events.full() {
                        debug!(link = self.link.0, "the publishing connection is silent");
                        return Some(());
                    }
                }
            }
        }
    }

    /// Sorts one message. `None` when the hub is gone.
    async fn take(&mut self, session: &mut Session, message: ZmqMessage) -> Option<()> {
        let counters = &self.driver.counters;
        let Ok((name, header, parts)) = wire::open_published(message) else {
            Counters::add(&counters.refused, 1);
            return Some(());
        };
        let confirmed = header.life == self.life.load(Ordering::Relaxed);
        if confirmed && self.missed {
            self.missed = false;
            self.driver.events.send(Event::Lost { link: self.link }).await.ok()?;
        }
        if *name == *PULSE.as_bytes() {
            self.progress.send_replace(Progress { token: session.token, sequence: header.sequence });
            return Some(());
        }
        let bytes = weight(&parts);
        if bytes > MESSAGE_BYTES {
            Counters::add(&counters.refused, 1);
            return Some(());
        }
        // What we have unsubscribed from may still be under way; it is of no use to anybody.
        let Some(topic) = session.follower.topic(&name) else { return Some(()) };
        if !confirmed {
            self.missed = true;
            return Some(());
        }
        Counters::add(&counters.received, 1);
        Counters::add(&counters.received_bytes, bytes as u64);
        self.driver.events.send(Event::Published { link: self.link, topic, parts }).await.ok()
    }
}

async fn apply(socket: &mut SubSocket, changes: Vec<Change>) -> ZmqResult<()> {
    for change in changes {
        match change {
            Change::Add(topic) => socket.subscribe(topic.as_str()).await?,
            Change::Remove(topic) => socket.unsubscribe(topic.as_str()).await?,
        }
    }
    Ok(())
}
