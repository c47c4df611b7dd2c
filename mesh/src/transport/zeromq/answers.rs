//! The request endpoint: one ROUTER socket, which takes everybody's requests and sends the answers back.
//!
//! ROUTER waits for a peer whose queue is full, and with it everybody else would. So it never gets that far: what is
//! under way to one peer is bounded by a window, and who lets it fill is cut off (its DEALER notices, and so does its
//! hub). While the hub does not take its events nothing is read here, but answers go on. Who has connected and says
//! nothing of ours for a while is cut off too: places at this endpoint are bounded.

use std::sync::Arc;

use ::zeromq::util::PeerIdentity;
use ::zeromq::{
    MultiPeerBackend, RouterSendHalf, RouterSocket, Socket, SocketEvent, SocketSend, ZmqMessage, ZmqResult,
};
use bytes::Bytes;
use futures_util::StreamExt;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::flow::{Intake, Window};
use super::wire::{self, Message, Receipt, Report};
use super::{Driver, Limits, Monitor, incoming, request_options};
use crate::transport::{Counters, Event, MESSAGE_BYTES, Route};

/// Answers that wait for the endpoint's task, at most.
pub(super) const ANSWERS: usize = 4_096;

/// The request endpoint.
pub(super) struct Answers {
    send: RouterSendHalf,
    backend: Arc<dyn MultiPeerBackend>,
    routes: FxHashMap<Bytes, Counts>,
    reports: mpsc::Sender<Report>,
    life: u64,
    driver: Driver,
}

#[derive(Default)]
struct Counts {
    window: Window,
    intake: Intake,
    /// It has said something of ours. Our own requesters report as soon as they are connected.
    known: bool,
    /// Ticks in which it could have.
    mute_ticks: u64,
}

/// A ROUTER that is bound already, and its monitor.
pub(super) async fn open(listener: std::net::TcpListener, limits: &Limits) -> ZmqResult<(RouterSocket, Monitor)> {
    let mut socket = RouterSocket::with_options(request_options(limits));
    let monitor = socket.monitor().boxed();
    socket.bind_listener(listener).await?;
    Ok((socket, monitor))
}

/// Serves the endpoint until the driver ends. Reports of subscribers go to `reports`.
pub(super) async fn run(
    (socket, mut monitor): (RouterSocket, Monitor),
    mut answers: mpsc::Receiver<(Route, Bytes)>,
    reports: mpsc::Sender<Report>,
    life: u64,
    driver: Driver,
) {
    let backend = socket.backend();
    let (send, mut recv) = socket.split();
    let mut endpoint = Answers { send, backend, routes: FxHashMap::default(), reports, life, driver };
    let mut tick = interval(Duration::from_millis(endpoint.driver.limits.tick_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(event) = monitor.next() => endpoint.heard(event),
            _ = tick.tick() => endpoint.tick(),
            answer = answers.recv() => match answer {
                Some((route, message)) => endpoint.answer(&route, message).await,
                None => return,
            },
            message = incoming(&endpoint.driver.events, &mut recv) => {
                let over = match message {
                    Some(Ok(message)) => endpoint.take(message).await.is_none(),
                    Some(Err(_)) => false,
                    None => true,
                };
                if over {
                    return;
                }
            }
        }
    }
}

impl Answers {
    fn heard(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Accepted(_, identity) => {
                self.routes.insert(identity.into(), Counts::default());
            }
            SocketEvent::Disconnected(identity) => {
                self.routes.remove(&*identity);
            }
            SocketEvent::AcceptFailed(error) => {
                debug!(%error, "a connection to the request endpoint failed");
                Counters::add(&self.driver.counters.refused, 1);
            }
            _ => {}
        }
    }

    /// Cuts off who has been connected for [`Limits::greeting_ms`] and was never heard. What waits while the hub does not
    /// take its events was not read by our own doing, and does not count.
    fn tick(&mut self) {
        if self.driver.events.full() {
            return;
        }
        let patience = self.driver.limits.greeting_ms / self.driver.limits.tick_ms;
        let mute = |counts: &mut Counts| {
            counts.mute_ticks += 1;
            !counts.known && counts.mute_ticks > patience
        };
        let mute: Vec<Bytes> = self.routes.iter_mut().filter_map(|(r, c)| mute(c).then(|| r.clone())).collect();
        for route in mute {
            debug!("a requester that says nothing was cut off");
            Counters::add(&self.driver.counters.evicted, 1);
            self.cut_off(&route);
        }
    }

    async fn answer(&mut self, route: &Route, message: Bytes) {
        let Some(counts) = self.routes.get_mut(&route.0) else {
            // The asker is gone; so is its interest in the answer.
            Counters::add(&self.driver.counters.dropped, 1);
            return;
        };
        if message.len() > MESSAGE_BYTES {
            Counters::add(&self.driver.counters.refused, 1);
        } else if counts.window.open(&self.driver.limits) {
            counts.window.sent(message.len());
            self.post(&route.0.clone(), wire::hub(message)).await;
        } else {
            warn!("a peer does not take its answers and is cut off");
            Counters::add(&self.driver.counters.dropped, 1);
            Counters::add(&self.driver.counters.evicted, 1);
            self.cut_off(&route.0.clone());
        }
    }

    /// Sorts one message. `None` when the hub is gone.
    async fn take(&mut self, message: ZmqMessage) -> Option<()> {
        let mut frames = message.into_vec();
        // ROUTER puts the sender's identity in front.
        let from = frames.remove(0);
        let counts = self.routes.entry(from.clone()).or_default();
        counts.known = true;
        match wire::open(&frames) {
            Ok(Message::Hub(message)) if message.len() <= MESSAGE_BYTES => {
                let due = counts.intake.received(message.len(), &self.driver.limits);
                self.driver.events.send(Event::Requested { route: Route(from.clone()), message }).await.ok()?;
                if due {
                    self.receipt(&from).await;
                }
            }
            Ok(Message::Report(report)) if counts.window.confirm(report.received) => {
                // When full, a later report says more.
                let _ = self.reports.try_send(report);
                self.receipt(&from).await;
            }
            _ => {
                Counters::add(&self.driver.counters.refused, 1);
                self.cut_off(&from);
            }
        }
        Some(())
    }

    async fn receipt(&mut self, to: &Bytes) {
        let Some(counts) = self.routes.get_mut(to) else { return };
        let receipt = Receipt { life: self.life, received: counts.intake.tell() };
        self.post(to, wire::receipt(&receipt)).await;
    }

    async fn post(&mut self, to: &Bytes, mut message: ZmqMessage) {
        message.push_front(to.clone());
        if self.send.send(message).await.is_err() {
            // The connection has just ended; the monitor tells.
            Counters::add(&self.driver.counters.dropped, 1);
        }
    }

    fn cut_off(&mut self, route: &Bytes) {
        self.routes.remove(route);
        if let Ok(identity) = PeerIdentity::try_from(route.clone()) {
            self.backend.peer_disconnected(&identity);
        }
    }
}
