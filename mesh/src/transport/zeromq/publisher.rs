//! The publishing endpoint: one PUB socket, its pulses, and the eviction of subscribers that do not keep up.
//!
//! PUB's own queue per subscriber has no bound that holds, so the bound is here: pulses ride in the same stream as the
//! messages, subscribers report them over the request connection, and who is too far behind is cut off. It NEVER waits
//! for one that stands still; it is slowed only by the fastest (see [`Ledger::ahead`]). What already waits for one that
//! is cut off stays in memory (shared with the others) until it reads or its connection ends: at most the hard limit.
//!
//! Publishing costs grow with the subscriptions of all subscribers together, because PUB compares each message with
//! each of them until one fits. 50 peers, one message to a topic that 5 of them want, 100 bytes in 2 parts; CPU time of
//! the publisher's thread with all that it does to send them, best of 3 on 2 busy cores
//! (`cargo run --release -p wildmesh-mesh --example publishing`):
//!
//! | subscriptions of each peer | of all | µs per message |
//! |---|---|---|
//! | 1 | 50 | 9.2 |
//! | 10 | 500 | 9.5 |
//! | 60 | 3,000 | 11.5 |
//! | 100 | 5,000 | 13.4 |
//! | 500 | 25,000 | 30.9 |
//!
//! So 500 cells of each peer as topics of their own would triple the cost; as 60 to 100 blocks of 4×4 cells they add less
//! than half.
//!
//! The same program (`-- --bytes`), one publisher and one reader: 254,000 messages of 1 KiB and 119,000 of 4 KiB a second,
//! 86 % and 97 % of what the library alone did on the same busy machine. At 256 B it is 58 %: so frames travel together.

use std::net::TcpListener;
use std::sync::Arc;

use ::zeromq::util::PeerIdentity;
use ::zeromq::{PubSocket, Socket, SocketEvent, SocketSend, ZmqResult};
use bytes::Bytes;
use futures_util::StreamExt;
use tracing::{debug, warn};

use super::flow::Ledger;
use super::wire::{self, Header, PULSE, Token};
use super::{Limits, Monitor, subscription_options};
use crate::transport::{Counters, Topic, fits, weight};

/// The publishing endpoint.
pub(super) struct Publisher {
    socket: PubSocket,
    monitor: Monitor,
    ledger: Ledger,
    life: u64,
    sequence: u64,
    idle_ticks: u32,
    limits: Limits,
    counters: Arc<Counters>,
    pulse: Bytes,
}

impl Publisher {
    /// Takes over a listener that is bound already.
    pub(super) async fn open(
        listener: TcpListener,
        life: u64,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> ZmqResult<Publisher> {
        let mut socket = PubSocket::with_options(subscription_options(&limits));
        let monitor = socket.monitor().boxed();
        socket.bind_listener(listener).await?;
        let pulse = Bytes::from_static(PULSE.as_bytes());
        let ledger = Ledger::default();
        Ok(Publisher { socket, monitor, ledger, life, sequence: 0, idle_ticks: 0, limits, counters, pulse })
    }

    /// Publishes a message to whoever subscribed.
    pub(super) async fn publish(&mut self, topic: &Topic, parts: Vec<Bytes>, now_ms: u64) {
        if !fits(&parts) {
            Counters::add(&self.counters.refused, 1);
            return;
        }
        let bytes = weight(&parts);
        Counters::add(&self.counters.published, 1);
        Counters::add(&self.counters.published_bytes, bytes as u64);
        self.ledger.published(bytes);
        self.send(topic.bytes().clone(), parts).await;
        if self.ledger.since_pulse() >= self.limits.pulse_bytes {
            self.pulse().await;
        }
        if self.ledger.worst() > self.limits.backlog_bytes {
            self.evict(now_ms);
        }
    }

    /// True while publishing more serves nobody; see [`Ledger::ahead`].
    pub(super) fn ahead(&self, now_ms: u64) -> bool {
        self.ledger.ahead(now_ms, &self.limits)
    }

    /// To be called every [`Limits::pulse_ms`]: pulses, less often when nothing is published, and evicts.
    pub(super) async fn tick(&mut self, now_ms: u64) {
        self.idle_ticks += 1;
        if self.ledger.since_pulse() > 0 || self.idle_ticks >= self.limits.idle_pulses {
            self.pulse().await;
        }
        self.evict(now_ms);
    }

    /// A subscriber says how far it has come.
    pub(super) fn report(&mut self, token: &Token, sequence: u64, now_ms: u64) {
        self.ledger.report(token, sequence, now_ms);
    }

    /// Waits for what happens at the socket. Cancel-safe.
    pub(super) async fn event(&mut self) -> SocketEvent {
        match self.monitor.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Keeps account of who subscribes.
    pub(super) fn heard(&mut self, event: SocketEvent, now_ms: u64) {
        match event {
            SocketEvent::Accepted(from, identity) => match Token::try_from(&*identity) {
                Ok(token) => {
                    self.ledger.accepted(token, now_ms);
                    // The next tick pulses: it tells the subscriber that its subscriptions hold.
                    self.idle_ticks = self.limits.idle_pulses;
                }
                Err(_) => {
                    debug!(%from, "a subscriber that is none of ours was cut off");
                    self.cut_off(&identity);
                }
            },
            SocketEvent::Disconnected(identity) => {
                if let Ok(token) = Token::try_from(&*identity) {
                    self.ledger.gone(&token);
                }
            }
            SocketEvent::AcceptFailed(error) => {
                debug!(%error, "a connection to the publishing endpoint failed");
                Counters::add(&self.counters.refused, 1);
            }
            _ => {}
        }
    }

    async fn pulse(&mut self) {
        self.idle_ticks = 0;
        self.ledger.pulse(self.sequence + 1);
        self.send(self.pulse.clone(), Vec::new()).await;
    }

    async fn send(&mut self, topic: Bytes, parts: Vec<Bytes>) {
        self.sequence += 1;
        let header = Header { life: self.life, sequence: self.sequence };
        if let Err(error) = self.socket.send(wire::published(topic, header, parts)).await {
            warn!(%error, "publishing failed");
            Counters::add(&self.counters.dropped, 1);
        }
    }

    fn evict(&mut self, now_ms: u64) {
        for token in self.ledger.laggards(now_ms, &self.limits) {
            warn!(backlog_bytes = self.ledger.worst(), "a subscriber does not keep up and is cut off");
            self.ledger.gone(&token);
            if let Ok(identity) = PeerIdentity::try_from(&token[..]) {
                self.cut_off(&identity);
            }
        }
    }

    fn cut_off(&mut self, identity: &PeerIdentity) {
        Counters::add(&self.counters.evicted, 1);
        self.socket.backend().peer_disconnected(identity);
    }
}
