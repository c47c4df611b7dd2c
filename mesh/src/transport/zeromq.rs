//! The driver over ZeroMQ: a PUB and a ROUTER that this node binds, a SUB and a DEALER for each link that it opens.
//!
//! All sockets live on one thread with a current-thread runtime: on a multi-threaded one PUB deadlocks when
//! subscriptions change while it publishes. What the library does not bound is bounded here (see [`Limits`]), what it
//! does not notice (silence, a peer that never greets) is noticed here, and what it does not repair is made anew.
//! Connecting NEVER delays anything but the link that is being connected.
//!
//! What stands against strangers: the library is patched (`third_party/zeromq`) and told what a connection may cost
//! ([`options`]): lengths are refused when announced, half-open connections end, connections and subscriptions are
//! counted. Here, messages that follow no form of ours are refused and counted and their senders cut off, and so is who
//! has greeted and then says nothing of ours. What does NOT stand against them: nothing is encrypted, whoever knows the
//! envelopes may hold a connection, and whoever holds them all keeps others out. The endpoints are for private networks.

mod flow;
mod interest;
mod wire;

mod answers;
mod publisher;
mod requests;
mod subscriber;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ::zeromq::{Bounds, SocketEvent, SocketOptions, SocketRecv, ZmqMessage, ZmqResult};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tracing::{debug, error};

use self::interest::{Change, Interest};
use self::publisher::Publisher;
use self::requests::{Queue, Requests};
use self::subscriber::{Progress, Subscriber};
use super::events::{self, Outbox};
use super::{COMMANDS, Command, Counters, Endpoints, Error, LinkId, MESSAGE_BYTES, MESSAGE_PARTS, Route, Transport};
use crate::tasks::Tasks;

/// Commands, or messages of one connection, taken in one go, at most. The sockets' own tasks run in between.
const BATCH: usize = 128;

/// Subscribers' reports that wait for the publisher, at most. Later ones say more, so that dropping some does no harm.
const REPORTS: usize = 1_024;

/// The bytes of a command of ZeroMQ itself, at most: its READY, which takes some fifty.
const COMMAND_BYTES: usize = 1_024;

/// The bytes that our envelopes, a topic included, add to a hub's message, at most.
const ENVELOPE_BYTES: usize = 64;

/// How to start the driver.
#[derive(Clone, Debug)]
pub struct ZmqConfig {
    /// The address to listen on; `0.0.0.0` for all.
    pub bind_ip: IpAddr,
    /// The host that others use to reach this node; the listening address if it is `None`.
    pub host: Option<String>,
    /// The port to publish on; 0 for any.
    pub publish_port: u16,
    /// The port to take requests on; 0 for any.
    pub request_port: u16,
    /// This life of the node, for instance its incarnation: another number than any earlier process on these endpoints.
    pub life: u64,
    /// Where the identities of connections come from. MUST differ between lives, and SHOULD be hard to guess.
    pub seed: u64,
    /// What to bound, and how long to wait.
    pub limits: Limits,
}

impl ZmqConfig {
    /// Listens on any ports of `bind_ip`; the life serves as seed.
    pub fn new(bind_ip: IpAddr, life: u64) -> ZmqConfig {
        let limits = Limits::DEFAULT;
        ZmqConfig { bind_ip, host: None, publish_port: 0, request_port: 0, life, seed: life, limits }
    }
}

/// The driver's bounds. The defaults suit districts of some fifty nodes; tests make them smaller.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests (or answers) under way to one peer and not confirmed by it.
    pub window_messages: u64,
    /// The same, in bytes.
    pub window_bytes: u64,
    /// Requests that wait for one peer in front of its window.
    pub queue_messages: usize,
    /// The same, in bytes.
    pub queue_bytes: u64,
    /// Bytes published and not yet reported by a subscriber, beyond which it must progress or is cut off.
    pub backlog_bytes: u64,
    /// The same, beyond which it is cut off in any case.
    pub backlog_hard_bytes: u64,
    /// Bytes by which publishing may run ahead of even the fastest subscriber; beyond it the driver takes no commands.
    pub pace_bytes: u64,
    /// How long a subscriber with too long a backlog may stand still.
    pub patience_ms: u64,
    /// How long a subscriber may take to report for the first time, and a requester to say anything of ours.
    pub greeting_ms: u64,
    /// Connections that either endpoint holds at once, half-open ones included. Further ones are closed.
    pub connections: usize,
    /// Topics that one subscriber may hold: as many as the blocks of 64 islands of the largest size.
    pub subscriptions: usize,
    /// The time between pulses while something is published.
    pub pulse_ms: u64,
    /// The bytes between pulses when much is published.
    pub pulse_bytes: u64,
    /// With nothing to publish only every so many-th pulse is sent.
    pub idle_pulses: u32,
    /// How long a connection may take until both sides have greeted.
    pub connect_ms: u64,
    /// How often a link reports and looks whether the peer is silent.
    pub tick_ms: u64,
    /// Ticks without a sign of the peer, after which a connection is made anew.
    pub silent_ticks: u32,
    /// The pause before the second attempt to connect; it doubles with each.
    pub backoff_ms: u64,
    /// The longest pause between attempts.
    pub backoff_max_ms: u64,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Limits = Limits {
        window_messages: 8_192,
        window_bytes: 2 * MESSAGE_BYTES as u64,
        queue_messages: 4_096,
        queue_bytes: 2 * MESSAGE_BYTES as u64,
        backlog_bytes: 32 << 20,
        backlog_hard_bytes: 128 << 20,
        pace_bytes: 16 << 20,
        patience_ms: 1_000,
        greeting_ms: 10_000,
        connections: 512,
        subscriptions: 65_536,
        pulse_ms: 250,
        pulse_bytes: 1 << 20,
        idle_pulses: 4,
        connect_ms: 3_000,
        tick_ms: 1_000,
        silent_ticks: 5,
        backoff_ms: 50,
        backoff_max_ms: 2_000,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

const _: () = {
    let limits = Limits::DEFAULT;
    let silence_ms = limits.tick_ms * limits.silent_ticks as u64;
    assert!(2 * limits.pulse_ms * (limits.idle_pulses as u64) < silence_ms, "a lost pulse is not silence");
    assert!(2 * limits.pulse_ms < limits.patience_ms, "a reader must have something to report within the patience");
    assert!(silence_ms < limits.greeting_ms, "a link notices first that its reports do not arrive");
    assert!(limits.pulse_bytes * 8 < limits.pace_bytes, "reports come often enough to keep up the pace");
    assert!(limits.pace_bytes < limits.backlog_bytes && limits.backlog_bytes < limits.backlog_hard_bytes);
};

/// What every part of the driver needs.
#[derive(Clone)]
struct Driver {
    events: Outbox,
    counters: Arc<Counters>,
    limits: Limits,
}

/// The options of every socket: what may come in on one connection of it. Beyond it the connection is closed.
fn options(limits: &Limits, message_bytes: usize, message_frames: usize) -> SocketOptions {
    let handshake = Duration::from_millis(limits.connect_ms);
    let mut options = SocketOptions::default();
    options.connect_timeout(handshake).bounds(Bounds {
        message_bytes,
        message_frames,
        command_bytes: COMMAND_BYTES,
        subscriptions: limits.subscriptions,
        connections: limits.connections,
        handshake,
    });
    options
}

/// What comes to a PUB: subscriptions, which are a byte and a topic.
fn subscription_options(limits: &Limits) -> SocketOptions {
    options(limits, ENVELOPE_BYTES, 1)
}

/// What comes to a SUB: published messages in their envelope.
fn published_options(limits: &Limits) -> SocketOptions {
    options(limits, MESSAGE_BYTES + ENVELOPE_BYTES, MESSAGE_PARTS + 2)
}

/// What comes to a ROUTER or DEALER: an envelope and a message.
fn request_options(limits: &Limits) -> SocketOptions {
    options(limits, MESSAGE_BYTES + ENVELOPE_BYTES, 2)
}

/// What a socket tells about its connections.
type Monitor = futures_util::stream::BoxStream<'static, SocketEvent>;

/// Binds both endpoints and starts the driver on a thread of its own. It ends with `tasks`, or when the hub drops the
/// [`Transport`].
pub fn start(config: ZmqConfig, tasks: &Tasks) -> Result<Transport, Error> {
    let (publish, publish_at) = listen(&config, config.publish_port)?;
    let (request, request_at) = listen(&config, config.request_port)?;
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (outbox, events) = events::channel();
    let counters = Arc::new(Counters::default());
    let driver = Driver { events: outbox, counters: counters.clone(), limits: config.limits.clone() };
    let scope = tasks.clone();
    let task = move || async move {
        if let Err(error) = run(config, (publish, request), inbox, driver, scope).await {
            error!(%error, "the transport has failed");
        }
    };
    tasks.spawn_thread("mesh-zeromq", task).map_err(Error::Thread)?;
    Ok(Transport { endpoints: Endpoints { publish: publish_at, request: request_at }, events, counters, commands })
}

fn listen(config: &ZmqConfig, port: u16) -> Result<(TcpListener, String), Error> {
    let address = SocketAddr::new(config.bind_ip, port);
    let bound = TcpListener::bind(address).and_then(|l| l.local_addr().map(|at| (l, at)));
    let (listener, at) = bound.map_err(|source| Error::Bind { address, source })?;
    let endpoint = match &config.host {
        Some(host) => format!("tcp://{host}:{}", at.port()),
        None => format!("tcp://{at}"),
    };
    Ok((listener, endpoint))
}

async fn run(
    config: ZmqConfig,
    (publish, request): (TcpListener, TcpListener),
    mut commands: mpsc::Receiver<Command>,
    driver: Driver,
    tasks: Tasks,
) -> ZmqResult<()> {
    // Zero stands for a life not yet known.
    let life = config.life.max(1);
    let publisher = Publisher::open(publish, life, driver.limits.clone(), driver.counters.clone()).await?;
    let router = answers::open(request, &driver.limits).await?;
    let (answers, to_answer) = mpsc::channel(answers::ANSWERS);
    let (to_report, mut reports) = mpsc::channel(REPORTS);
    tasks.spawn(answers::run(router, to_answer, to_report, life, driver.clone()));

    let mut tick = interval(Duration::from_millis(driver.limits.pulse_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let now_ms = move || started.elapsed().as_millis() as u64;
    let rng = StdRng::seed_from_u64(config.seed);
    let (interest, links) = (Interest::new(), FxHashMap::default());
    let mut node = Node { publisher, answers, interest, links, rng, driver, tasks };
    loop {
        let ahead = node.publisher.ahead(now_ms());
        tokio::select! {
            biased;
            _ = tick.tick() => node.publisher.tick(now_ms()).await,
            event = node.publisher.event() => node.publisher.heard(event, now_ms()),
            Some(report) = reports.recv() => node.publisher.report(&report.token, report.sequence, now_ms()),
            command = commands.recv(), if !ahead => {
                let Some(command) = command else { return Ok(()) };
                node.obey_many(command, &mut commands, now_ms()).await;
                // The sockets' tasks share this thread; what was just published leaves before more is taken.
                tokio::task::yield_now().await;
            }
        }
    }
}

struct Node {
    publisher: Publisher,
    answers: mpsc::Sender<(Route, Bytes)>,
    interest: Interest,
    links: FxHashMap<LinkId, Link>,
    rng: StdRng,
    driver: Driver,
    tasks: Tasks,
}

/// An open link. Dropping it stops both its halves before they run again.
struct Link {
    queue: Queue,
    _open: watch::Sender<()>,
}

impl Node {
    /// Obeys a command and some more that wait behind it.
    async fn obey_many(&mut self, first: Command, more: &mut mpsc::Receiver<Command>, now_ms: u64) {
        self.obey(first, now_ms).await;
        for _ in 1..BATCH {
            if self.publisher.ahead(now_ms) {
                return;
            }
            let Ok(command) = more.try_recv() else { return };
            self.obey(command, now_ms).await;
        }
    }

    async fn obey(&mut self, command: Command, now_ms: u64) {
        match command {
            Command::Publish { topic, parts } => self.publisher.publish(&topic, parts, now_ms).await,
            Command::Send { link, message } => self.send(link, message),
            Command::Answer { route, message } => {
                if self.answers.try_send((route, message)).is_err() {
                    Counters::add(&self.driver.counters.dropped, 1);
                }
            }
            Command::Subscribe(topic) => self.interest.change(Change::Add(topic)),
            Command::Unsubscribe(topic) => self.interest.change(Change::Remove(topic)),
            Command::Connect { link, to } => self.connect(link, to),
            Command::Disconnect { link } => {
                self.links.remove(&link);
            }
        }
    }

    fn send(&mut self, link: LinkId, message: Bytes) {
        if message.len() > MESSAGE_BYTES {
            Counters::add(&self.driver.counters.refused, 1);
            return;
        }
        let sent = self.links.get(&link).is_some_and(|l| l.queue.push(message));
        if !sent {
            Counters::add(&self.driver.counters.dropped, 1);
        }
    }

    fn connect(&mut self, link: LinkId, to: Endpoints) {
        let limits = &self.driver.limits;
        let (queue, queued) = requests::queue(limits.queue_messages, limits.queue_bytes);
        let (progress, progressed) = watch::channel(Progress::default());
        let (open, closed) = watch::channel(());
        let life = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber {
            link,
            endpoint: to.publish,
            interest: self.interest.clone(),
            life: life.clone(),
            progress,
            rng: StdRng::seed_from_u64(self.rng.next_u64()),
            driver: self.driver.clone(),
            missed: false,
        };
        let (driver, endpoint) = (self.driver.clone(), to.request);
        let requests = Requests { link, endpoint, queue: queued, progress: progressed, life, driver };
        self.tasks.spawn(until_closed(closed.clone(), subscriber.run()));
        self.tasks.spawn(until_closed(closed, requests.run()));
        // A link of the same number is closed by this; hubs never use one twice.
        if self.links.insert(link, Link { queue, _open: open }).is_some() {
            debug!(link = link.0, "a link's number was used again");
        }
    }
}

async fn until_closed(mut closed: watch::Receiver<()>, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        _ = closed.changed() => {}
        () = work => {}
    }
}

/// The next message, once the hub has room for an event: while it has none, nothing is read, the peer's sends pile up
/// and the peer is told. Cancel-safe. `None` when the hub is gone.
async fn incoming<S: SocketRecv>(events: &Outbox, socket: &mut S) -> Option<ZmqResult<ZmqMessage>> {
    let permit = events.reserve().await.ok()?;
    let message = socket.recv().await;
    drop(permit);
    Some(message)
}

/// True if the library may be given this endpoint: it panics on transports that it was built without.
fn tcp_only(endpoint: &str) -> bool {
    endpoint.starts_with("tcp://")
}

/// Pauses between attempts: twice as long each time, up to a limit.
struct Backoff {
    next_ms: u64,
    first_ms: u64,
    max_ms: u64,
}

impl Backoff {
    fn new(limits: &Limits) -> Backoff {
        Backoff { next_ms: limits.backoff_ms, first_ms: limits.backoff_ms, max_ms: limits.backoff_max_ms }
    }

    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(self.next_ms);
        self.next_ms = (self.next_ms * 2).min(self.max_ms);
        pause
    }

    fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }
}
