//! The driver within one process: all nodes share a [`MemoryNetwork`].
//!
//! For `wildmesh up`, tests and the simulation. Without faults a message is one hop: the sender's task puts it into the
//! receiver's event channel. With faults it waits in the receiver's driver until it is due. What a network does is
//! decided by its seed, the order of commands and tokio's clock alone: the same run on a current-thread runtime gives the
//! same result. It NEVER reorders what one node sends to another on one connection, however it jitters.
//!
//! A node whose [`Tasks`] stop is dead to the others at once, as if its process was killed: their links break. One whose
//! tasks are frozen is merely silent. A name that is used again takes the place of its former life.

mod network;

mod faults;
mod flight;
mod links;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

pub use self::faults::Fault;
use self::network::{Key, Network, Next};
use super::events::{self, Outbox};
use super::{COMMANDS, Command, Counters, Endpoints, Transport};
use crate::tasks::Tasks;

/// Commands taken in one go, at most, so that the nodes of one runtime take turns.
const BATCH: usize = 128;

/// A network within this process. Clones are the same network.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    network: Arc<Mutex<Network>>,
}

impl MemoryNetwork {
    /// A network without nodes and faults. Jitter and loss come from the seed.
    pub fn new(seed: u64) -> MemoryNetwork {
        MemoryNetwork { network: Arc::new(Mutex::new(Network::new(seed))) }
    }

    /// Joins the network as `name`, in the place of whoever had that name before. Leaves it when `tasks` stop, or when
    /// the hub drops the transport.
    ///
    /// MUST be called on a runtime. Endpoints are `mem://{name}/publish` and `mem://{name}/request`.
    pub fn transport(&self, name: &str, tasks: &Tasks) -> Transport {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (outbox, events) = events::channel();
        let counters = Arc::new(Counters::default());
        let wake = Arc::new(Notify::new());
        let key = self.lock().join(Instant::now(), name, outbox.clone(), counters.clone(), wake.clone());
        let membership = Membership { network: self.clone(), key };
        tasks.spawn(run(membership, inbox, outbox, wake));
        Transport { endpoints: endpoints(name), events, counters, commands }
    }

    /// Sets what befalls messages from one node to the other, now and whenever nodes of these names exist. The way back
    /// is a direction of its own.
    pub fn set_fault(&self, from: &str, to: &str, fault: Fault) {
        self.lock().set_fault(Instant::now(), from, to, Some(fault));
    }

    /// Sets what befalls messages between nodes for which nothing else is set.
    pub fn set_default_fault(&self, fault: Fault) {
        self.lock().set_default_fault(Instant::now(), fault);
    }

    /// Takes all faults away. What is under way arrives in its time.
    pub fn heal(&self) {
        self.lock().heal(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoints of the node of that name, whether or not it exists.
pub fn endpoints(name: &str) -> Endpoints {
    Endpoints { publish: format!("mem://{name}/publish"), request: format!("mem://{name}/request") }
}

/// Leaves the network when dropped: at the latest when the node's tasks are.
struct Membership {
    network: MemoryNetwork,
    key: Key,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.network.lock().leave(Instant::now(), self.key);
    }
}

async fn run(membership: Membership, mut commands: mpsc::Receiver<Command>, events: Outbox, wake: Arc<Notify>) {
    let Membership { network, key } = &membership;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let next = network.lock().next(Instant::now(), *key);
        let (ready, due) = match next {
            Next::Gone => return,
            Next::Ready => (true, None),
            Next::At(due) => (false, due),
        };
        tokio::select! {
            biased;
            permit = events.reserve(), if ready => {
                let Ok(permit) = permit else { return };
                if let Some(event) = network.lock().take(Instant::now(), *key) {
                    permit.send(event);
                }
            }
            taken = commands.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    return;
                }
                let mut network = network.lock();
                let now = Instant::now();
                batch.drain(..).for_each(|command| network.obey(now, *key, command));
            }
            () = wake.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}
