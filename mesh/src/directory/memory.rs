//! The in-process directory: what `wildmesh up` runs on by default, and what tests and the simulation run on.
//!
//! It keeps etcd's semantics on tokio's clock, so that simulated time drives it, and is repeatable: the same calls at
//! the same times give the same answers. Every node gets a client of its own, which can be cut off and troubled alone.
//! It NEVER outlives its process and NEVER reaches another.

mod core;
mod faults;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

pub use faults::{Calls, Cut, Loss};

use self::core::Core;
use self::faults::Faults;
use super::{
    CALL_DEADLINE, Change, Changed, Directory, Entry, Error, Guard, LeaseId, Result, Revision, WatchEvent,
    check_changes,
};
use crate::tasks::Tasks;

/// How long a watch of a silently cut client stays quiet before it ends: as long as etcd's connection takes to notice.
pub const SILENCE: Duration = Duration::from_secs(9);

/// The directory that all nodes of the process share. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryDirectory {
    shared: Arc<Shared>,
    seed: u64,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// Wakes the clock when something is due sooner than it thinks.
    sooner: Notify,
    clients: Mutex<u64>,
}

impl MemoryDirectory {
    /// Makes an empty directory. Leases end and delayed events arrive for as long as `tasks` run, which MUST NOT be
    /// those of a node that may be stopped or frozen alone. The seed decides all chances of its clients.
    pub fn start(tasks: &Tasks, seed: u64) -> MemoryDirectory {
        let shared = Arc::new(Shared { core: Mutex::new(Core::new()), sooner: Notify::new(), clients: Mutex::new(0) });
        tasks.spawn(run_clock(shared.clone()));
        MemoryDirectory { shared, seed }
    }

    /// A client of its own for one node.
    pub fn client(&self) -> MemoryClient {
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        *clients += 1;
        let seed = self.seed.rotate_left(17) ^ *clients;
        MemoryClient { shared: self.shared.clone(), faults: Arc::new(Faults::new(seed)) }
    }

    /// What is there, past all faults: for checkers.
    pub fn peek(&self, prefix: &str) -> Vec<Entry> {
        self.shared.settled(|core, _| core.list(prefix).0)
    }

    /// Forgets all history: watches that resume from before now end at once.
    pub fn compact(&self) {
        self.shared.settled(|core, _| core.compact());
    }

    /// Ends every watch of every client, as a restart of etcd does.
    pub fn end_watches(&self) {
        self.shared.settled(|core, _| core.end_watches(None, "the directory cancelled the watch"));
    }

    /// Ends a lease before its time, with all its keys; false if it is gone already.
    pub fn lose_lease(&self, lease: LeaseId) -> bool {
        self.shared.settled(|core, now| core.end_lease(lease, now))
    }
}

async fn run_clock(shared: Arc<Shared>) {
    loop {
        let next = shared.settled(|core, _| core.next_due());
        tokio::select! {
            biased;
            () = shared.sooner.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

impl Shared {
    /// Works on the state as it is at this moment.
    fn settled<T>(&self, work: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let now = Instant::now();
        let mut core: MutexGuard<'_, Core> = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.settle(now);
        let due_before = core.next_due();
        let result = work(&mut core, now);
        let due = core.next_due();
        drop(core);
        if due.is_some_and(|due| due_before.is_none_or(|before| due < before)) {
            self.sooner.notify_one();
        }
        result
    }
}

/// One node's way to the directory, with the faults that befall it. Clones share the faults.
#[derive(Clone, Debug)]
pub struct MemoryClient {
    shared: Arc<Shared>,
    faults: Arc<Faults>,
}

impl MemoryClient {
    /// Cuts this client off until [`MemoryClient::heal`].
    pub fn cut(&self, cut: Cut) {
        self.faults.set_cut(Some(cut));
        if cut == Cut::Refused {
            self.end_watches("connection refused");
        }
        self.shared.sooner.notify_one();
    }

    /// Ends a cut. Of a silent one, what was on its way arrives now.
    pub fn heal(&self) {
        self.faults.set_cut(None);
        self.shared.sooner.notify_one();
    }

    /// Loses the next `count` of such calls.
    pub fn lose_next(&self, calls: Calls, loss: Loss, count: u32) {
        self.faults.lose_next(calls, loss, count);
    }

    /// Loses requests and replies of any calls by chance, in thousandths.
    pub fn lose_by_chance(&self, requests_permille: u16, replies_permille: u16) {
        self.faults.set_loss(requests_permille, replies_permille);
    }

    /// Delays every request, reply and watch event by a time drawn between the two; events keep their order.
    pub fn delay(&self, least_ms: u64, most_ms: u64) {
        self.faults.set_delay(least_ms, most_ms);
    }

    /// Delays replies by this much more: what was asked for has long happened when the answer comes.
    pub fn delay_replies(&self, delay_ms: u64) {
        self.faults.set_reply_delay(delay_ms);
    }

    /// Ends this client's watches, as a cancelling server does.
    pub fn end_watches(&self, reason: &str) {
        self.shared.settled(|core, _| core.end_watches(Some(&self.faults), reason));
    }

    /// Carries a call there and back, through whatever befalls it.
    async fn call<T>(&self, calls: Calls, work: impl FnOnce(&mut Core, Instant) -> Result<T> + Send) -> Result<T> {
        let deadline = Instant::now() + CALL_DEADLINE;
        let fate = self.faults.draw(calls);
        if self.faults.cut() == Some(Cut::Refused) {
            return Err(unavailable("connection refused"));
        }
        sleep_some(fate.delay_there.min(CALL_DEADLINE)).await;
        if self.faults.cut().is_some() || fate.loss == Some(Loss::Request) {
            return lost(calls, deadline).await;
        }
        let result = self.shared.settled(work);
        if fate.loss == Some(Loss::Reply) {
            return lost(calls, deadline).await;
        }
        sleep_some(fate.delay_back).await;
        if self.faults.cut().is_some() || Instant::now() > deadline {
            return lost(calls, deadline).await;
        }
        result
    }
}

/// A call whose answer never comes: after the deadline, the caller knows as little as with etcd.
async fn lost<T>(calls: Calls, deadline: Instant) -> Result<T> {
    sleep_until(deadline).await;
    match calls {
        Calls::Reads => Err(unavailable("no answer within the deadline")),
        Calls::Writes | Calls::Leases => Err(Error::Ambiguous { reason: "no answer within the deadline".to_owned() }),
    }
}

async fn sleep_some(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable { endpoints: "this process".to_owned(), reason: reason.to_owned() }
}

#[async_trait]
impl Directory for MemoryClient {
    async fn grant(&self, ttl_s: u32) -> Result<LeaseId> {
        self.call(Calls::Leases, |core, now| Ok(core.grant(Duration::from_secs(ttl_s.into()), now))).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.call(Calls::Leases, |core, now| core.keep_alive(lease, now)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.call(Calls::Leases, |core, now| core.revoke(lease, now)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.call(Calls::Reads, |core, _| Ok(core.get(key))).await
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision)> {
        self.call(Calls::Reads, |core, _| Ok(core.list(prefix))).await
    }

    async fn put(&self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Result<Revision> {
        self.call(Calls::Writes, |core, now| core.put(key, value, lease, now)).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Revision,
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>> {
        self.call(Calls::Writes, |core, now| core.swap(key, expected, value, lease, now)).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<bool> {
        self.call(Calls::Writes, |core, now| Ok(core.delete(key, expected, now))).await
    }

    async fn change(&self, guard: Option<Guard<'_>>, changes: &[Change]) -> Result<Option<Changed>> {
        check_changes(changes)?;
        self.call(Calls::Writes, |core, now| core.change(guard, changes, now)).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        let faults = self.faults.clone();
        self.call(Calls::Reads, |core, now| Ok(core.watch(faults, prefix, from, now))).await
    }

    async fn describe(&self) -> Result<String> {
        self.call(Calls::Reads, |_, _| Ok("in-process directory (it lives and dies with this process)".to_owned()))
            .await
    }
}

#[cfg(test)]
mod tests;
