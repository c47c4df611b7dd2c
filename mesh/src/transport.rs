//! How bytes travel between two nodes: the seam under which ZeroMQ (or memory) lies.
//!
//! A driver is a task that takes [`Command`]s and gives [`Event`]s; [`Transport`] is the pair of channels to it. The
//! driver owns every socket. It NEVER blocks the caller: what does not fit is refused or dropped, and counted. When the
//! hub does not take its events the driver stops reading; nothing is ever lost without an event that says so, except
//! requests and answers, whose senders wait for a reply with a deadline of their own.

pub mod memory;
pub mod zeromq;

mod events;

#[cfg(test)]
mod conformance;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::events::Events;

/// Commands that wait for the driver, at most; beyond it [`Transport::command`] refuses.
pub const COMMANDS: usize = 16_384;

/// Events that wait for the hub, at most; beyond it the driver stops reading its sockets.
pub const EVENTS: usize = 16_384;

/// The same, in bytes.
pub const EVENTS_BYTES: usize = 64 << 20;

/// The largest message that a driver takes or gives, all parts together, in bytes. Larger ones are refused or dropped.
pub const MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// The most parts that one published message may have.
pub const MESSAGE_PARTS: usize = 4_096;

/// The name of a topic: 1 to 32 ASCII characters, no spaces. Two topics of the mesh NEVER are prefixes of one another.
///
/// Clones share the name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Bytes);

impl Topic {
    /// Takes a name.
    ///
    /// # Panics
    /// If it is not 1 to 32 graphic ASCII characters: topics are made by programs, not by people.
    pub fn new(name: &str) -> Topic {
        assert!((1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()), "bad topic {name:?}");
        Topic(Bytes::copy_from_slice(name.as_bytes()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        // `new` lets only ASCII in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The name's bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// So that sets of topics can be asked for bytes that came over the wire. Equality and hash are those of the bytes.
impl Borrow<[u8]> for Topic {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A connection that this node opened to another. Numbers are never used twice by one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The way back to whoever sent a request: the identity of its connection at our request endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route(pub Bytes);

/// Where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Its publishing endpoint.
    pub publish: String,
    /// Its request endpoint.
    pub request: String,
}

/// What the hub asks of a driver.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open both connections (to the peer's publishing and request endpoints); all present subscriptions apply to it.
    Connect {
        /// The number under which the hub knows the connection.
        link: LinkId,
        /// Where to.
        to: Endpoints,
    },
    /// Close both connections. Once the driver has taken the command it sends no more events of this link; those that
    /// already wait for the hub stay there.
    Disconnect {
        /// Which.
        link: LinkId,
    },
    /// Take messages of a topic on every link, present and future.
    Subscribe(Topic),
    /// Stop taking them.
    Unsubscribe(Topic),
    /// Publish to whoever subscribed. Parts arrive as they are.
    Publish {
        /// The topic.
        topic: Topic,
        /// The message, in parts that may be shared with others.
        parts: Vec<Bytes>,
    },
    /// Send to the peer's request endpoint.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: Bytes,
    },
    /// Send back to whoever sent a request.
    Answer {
        /// The way back.
        route: Route,
        /// The message.
        message: Bytes,
    },
}

/// What a driver tells the hub.
#[derive(Clone, Debug)]
pub enum Event {
    /// A peer published.
    Published {
        /// The link it came on.
        link: LinkId,
        /// The topic.
        topic: Topic,
        /// The parts, as published.
        parts: Vec<Bytes>,
    },
    /// Somebody sent to our request endpoint.
    Requested {
        /// The way back.
        route: Route,
        /// The message.
        message: Bytes,
    },
    /// A peer answered on a link that we opened.
    Answered {
        /// The link.
        link: LinkId,
        /// The message.
        message: Bytes,
    },
    /// The link's request connection failed (peer closed, refused or not greeted in time). The driver goes on trying to
    /// connect it again, and says so again whenever it has failed; what was sent and not answered is lost. A peer that
    /// was restarted on the same endpoints is ALWAYS announced by this before anything of its new life is delivered.
    Broken {
        /// The link.
        link: LinkId,
    },
    /// Messages of this link were surely lost (the publishing connection failed, was silent for too long, or was evicted
    /// as a laggard). Comes when messages flow again, before the first of them, so that what is asked for now is seen.
    Lost {
        /// The link.
        link: LinkId,
    },
}

/// Counts of what the driver did, for metrics. All only ever rise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages published.
    pub published: AtomicU64,
    /// Bytes published, before they are copied to each subscriber.
    pub published_bytes: AtomicU64,
    /// Messages received by subscription.
    pub received: AtomicU64,
    /// Bytes received by subscription.
    pub received_bytes: AtomicU64,
    /// Messages dropped because a queue was full.
    pub dropped: AtomicU64,
    /// Subscribers cut off because they did not keep up.
    pub evicted: AtomicU64,
    /// Messages refused as malformed or too large.
    pub refused: AtomicU64,
}

impl Counters {
    /// Adds to one of the counts. They are read by metrics only, so no order between them is promised.
    fn add(count: &AtomicU64, n: u64) {
        count.fetch_add(n, Ordering::Relaxed);
    }
}

/// What can go wrong before a driver runs. Afterwards it reports by events and counters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The driver's thread could not be started.
    #[error("cannot start the transport's thread")]
    Thread(#[source] std::io::Error),
}

/// The bytes of all parts together.
fn weight(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

/// True if a message of these parts may be published.
fn fits(parts: &[Bytes]) -> bool {
    parts.len() <= MESSAGE_PARTS && weight(parts) <= MESSAGE_BYTES
}

/// The channels to a running driver.
#[derive(Debug)]
pub struct Transport {
    /// Where this node is bound.
    pub endpoints: Endpoints,
    /// What happens.
    pub events: Events,
    /// Counts for metrics.
    pub counters: Arc<Counters>,
    /// The driver's inbox.
    pub commands: mpsc::Sender<Command>,
}

impl Transport {
    /// Hands the driver a command; false (and counted as dropped) if its queue is full or the driver is gone.
    pub fn command(&self, command: Command) -> bool {
        let sent = self.commands.try_send(command).is_ok();
        if !sent {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}
