//! This node's place in the directory, and its view of who else is there.
//!
//! Registering keeps one record alive under a lease and says honestly when the lease *may* have run out; following
//! tells who appeared, changed and went. Death is decided by the directory alone: a node is gone when its key is, and
//! NEVER because a call failed. A record that cannot be read is skipped and logged.
//!
//! Everything runs on tokio's clock and on tasks of the node's [`Tasks`], so that simulated time drives it.

mod follower;
mod keeper;
mod lease;
mod name;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};

pub use lease::OwnLease;

use crate::directory::{self, Directory, Entry, Revision};
use crate::record::{NodeId, NodeRecord};
use crate::tasks::Tasks;

/// Events that wait for the hub, at most. Beyond it the follower waits; its view is a state, so nothing gets lost.
pub const EVENTS: usize = 256;

/// The shortest lease, in seconds: etcd grants none that is shorter.
pub const LEASE_TTL_MIN_S: u32 = 2;

/// The lease that nodes live under unless told otherwise, in seconds.
pub const LEASE_TTL_S: u32 = 5;

/// How often the whole district is listed and compared with what the watch told.
pub const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// The nodes of a district by name, without this one.
pub type Nodes = BTreeMap<NodeId, NodeRecord>;

/// What to register, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node lives.
    pub district: District,
    /// What it says of itself. Its endpoints MUST be bound already: a record of an earlier life with the very same
    /// endpoints is taken for dead because of that.
    pub record: NodeRecord,
    /// The lease, in seconds; raised to [`LEASE_TTL_MIN_S`].
    pub lease_ttl_s: u32,
}

impl Config {
    fn ttl(&self) -> Duration {
        Duration::from_secs(self.lease_ttl_s.max(LEASE_TTL_MIN_S).into())
    }
}

/// What the registry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryEvent {
    /// A node is there. Also told when a node starts a new life, after `NodeGone` of the former.
    NodeAppeared(NodeRecord),
    /// A node that is there, in the same life, says something else of itself.
    NodeChanged(NodeRecord),
    /// The directory removed this life of the node: what it owned may be taken over.
    NodeGone(NodeRecord),
    /// The first whole listing has been told: whoever was there has appeared. Told once.
    Listed,
    /// This node is registered and may act as an owner: for the first time, or again after `OwnLeaseLost`.
    OwnLeaseBack {
        /// Others may have seen it gone meanwhile, and may have taken over what it owned. False at the first time.
        was_gone: bool,
    },
    /// The own lease may have run out, or will before this can be acted upon: stop acting as an owner at once.
    OwnLeaseLost,
    /// Another living node has this node's name. Final: the registry has given up, and the node MUST stop.
    NameTaken {
        /// Who has it.
        by: NodeRecord,
    },
    /// The directory does not answer.
    DirectoryDown {
        /// What was said last.
        reason: String,
    },
    /// The directory answers again.
    DirectoryBack,
}

/// One district of one cluster: where its nodes' keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct District {
    cluster: String,
    prefix: String,
}

/// The part of a district's keys that its nodes' records stand under.
const NODES: &str = "nodes";

impl District {
    /// Names a district. Characters other than letters, digits, `.`, `_` and `-` are written as `%` and their code.
    pub fn new(cluster: &str, district: &str) -> District {
        let cluster = format!("/wildmesh/{}/", segment(cluster));
        District { prefix: format!("{cluster}{}/{NODES}/", segment(district)), cluster }
    }

    /// Its name, as it stands in keys.
    pub fn name(&self) -> &str {
        self.prefix.strip_prefix(&self.cluster).and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// Another district of the same cluster, by its name as it stands in keys.
    pub fn sibling(&self, name: &str) -> District {
        District { prefix: format!("{}{name}/{NODES}/", self.cluster), cluster: self.cluster.clone() }
    }

    /// What the keys of its whole cluster begin with; it ends with a slash.
    pub fn cluster_prefix(&self) -> &str {
        &self.cluster
    }

    /// What the keys of all its nodes begin with; it ends with a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of one node.
    pub fn key(&self, record: &NodeRecord) -> String {
        format!("{}{}/{}", self.prefix, record.role, record.node)
    }
}

fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// All that stands under a district's prefix at one revision.
#[derive(Clone, Debug)]
struct Listing {
    entries: Vec<Entry>,
    revision: Revision,
}

/// Reads the records of all districts of the district's cluster as they are now: who may own a document.
pub async fn read_cluster(directory: &dyn Directory, district: &District) -> directory::Result<Vec<NodeRecord>> {
    let (entries, _) = directory.list(&district.cluster).await?;
    let record = |entry: &Entry| {
        let mut parts = entry.key.strip_prefix(&district.cluster)?.split('/');
        let (there, NODES) = (parts.next()?, parts.next()?) else { return None };
        nodes::parse(&format!("{}{there}/{NODES}/", district.cluster), entry)
    };
    Ok(entries.iter().filter_map(record).collect())
}

/// Reads the records of a district as they are now. For tools that are no node themselves.
pub async fn read(directory: &dyn Directory, district: &District) -> directory::Result<Vec<NodeRecord>> {
    let (entries, _) = directory.list(district.prefix()).await?;
    Ok(entries.iter().filter_map(|entry| nodes::parse(district.prefix(), entry)).collect())
}

/// A handle to a node's running registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    directory: Arc<dyn Directory>,
    district: District,
    me: NodeId,
    lease: OwnLease,
    state: watch::Receiver<State>,
    known: watch::Receiver<Arc<Nodes>>,
    leave: watch::Sender<bool>,
    asked: AtomicU64,
    last_read: Mutex<Option<LastRead>>,
    to_follower: watch::Sender<Option<Arc<Listing>>>,
}

/// How far the registration has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Joining,
    Registered,
    Taken(Box<NodeRecord>),
    Left,
}

struct LastRead {
    /// Everybody who asked before this number asked before the reading began.
    covers: u64,
    listing: Arc<Listing>,
}

/// Why a node is not registered.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another living node has the name.
    #[error(
        "the name {} is taken: {} with incarnation {} lives at {}",
        .by.node, .by.role, .by.incarnation.0, .by.request
    )]
    NameTaken {
        /// Who has it.
        by: Box<NodeRecord>,
    },
    /// The node is stopping.
    #[error("the node has left the directory")]
    Left,
}

/// Starts registering this node and following its district; both go on until `tasks` stop.
pub fn start(
    config: Config,
    directory: Arc<dyn Directory>,
    tasks: &Tasks,
) -> (Registry, mpsc::Receiver<RegistryEvent>) {
    let (events, told) = mpsc::channel(EVENTS);
    let (state_out, state) = watch::channel(State::Joining);
    let (known_out, known) = watch::channel(Arc::default());
    let (to_follower, readings) = watch::channel(None);
    let (leave, leaving) = watch::channel(false);
    let lease = OwnLease::new();
    let link = Arc::new(keeper::Link::default());
    let keeper = keeper::Keeper::new(keeper::Setup {
        config: config.clone(),
        directory: directory.clone(),
        lease: lease.clone(),
        events: events.clone(),
        state: state_out,
        leaving,
        link: link.clone(),
    });
    let follower = follower::Follower::new(follower::Setup {
        district: config.district.clone(),
        record: config.record.clone(),
        directory: directory.clone(),
        events,
        known: known_out,
        readings,
        link,
        grace: 2 * config.ttl(),
    });
    tasks.spawn(keeper.run());
    tasks.spawn(follower.run());
    let shared = Shared {
        directory,
        district: config.district,
        me: config.record.node,
        lease,
        state,
        known,
        leave,
        asked: AtomicU64::new(0),
        last_read: Mutex::new(None),
        to_follower,
    };
    (Registry { shared: Arc::new(shared) }, told)
}

impl Registry {
    /// The own lease: a cheap and exact answer to "may I act as an owner at this moment?", without waiting for events.
    pub fn lease(&self) -> OwnLease {
        self.shared.lease.clone()
    }

    /// Waits until the node is registered for the first time, or surely will not be. The caller sets the deadline.
    pub async fn registered(&self) -> Result<(), JoinError> {
        let mut state = self.shared.state.clone();
        let settled = state.wait_for(|state| *state != State::Joining).await;
        match settled.as_deref() {
            Ok(State::Registered) => Ok(()),
            Ok(State::Taken(by)) => Err(JoinError::NameTaken { by: by.clone() }),
            _ => Err(JoinError::Left),
        }
    }

    /// The other nodes of the district, as far as told.
    pub fn known(&self) -> Arc<Nodes> {
        self.shared.known.borrow().clone()
    }

    /// Reads the other nodes of the district as they are now: for a node that was greeted by a stranger.
    ///
    /// Whoever asks while a reading is under way shares the next one, so that a thousand strangers cost two readings.
    /// What was read also goes the way of all news, as events.
    pub async fn read_now(&self) -> directory::Result<Nodes> {
        let shared = &self.shared;
        let ticket = shared.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = shared.last_read.lock().await;
        let fresh = last.as_ref().filter(|read| read.covers > ticket).map(|read| read.listing.clone());
        let listing = match fresh {
            Some(listing) => listing,
            None => {
                let covers = shared.asked.load(Ordering::SeqCst);
                let (entries, revision) = shared.directory.list(shared.district.prefix()).await?;
                let listing = Arc::new(Listing { entries, revision });
                shared.to_follower.send_replace(Some(listing.clone()));
                *last = Some(LastRead { covers, listing: listing.clone() });
                listing
            }
        };
        drop(last);
        let records = listing.entries.iter().filter_map(|entry| nodes::parse(shared.district.prefix(), entry));
        Ok(records.filter(|record| record.node != shared.me).map(|record| (record.node.clone(), record)).collect())
    }

    /// Takes the record out of the directory and ends the lease, so that others need not wait for it to run out. The
    /// directory's own deadline bounds it. Afterwards the node is no owner any more.
    pub async fn leave(&self) {
        self.shared.leave.send_replace(true);
        let mut state = self.shared.state.clone();
        // An error means that the keeper's task is gone, which is as good as having left.
        let _ = state.wait_for(|state| matches!(state, State::Left | State::Taken(_))).await;
    }
}

#[cfg(test)]
mod tests;
