//! How a node leaves: emptied first or at once, and in which order, so that nothing of it is missed.
//!
//! It takes nothing new, its role hands over what it has, its stewardship is given up, calls in progress end, and last its
//! record leaves the directory: until then nobody else takes over what it may still hold. Everything is bounded; what a
//! bound cuts off is saved and released as far as it goes, and the lease does the rest. A node NEVER comes back from here.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mesh::directory::Directory;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{Door, Node};
use crate::draining::order::{self, DrainOrder, Progress};

/// How long a node may take to empty itself unless told otherwise.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a leaving node waits for what it must finish.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the stewardship may take to be given up.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(4);

/// How long calls in progress may take to end: as long as their callers wait, as a rule.
const CALLS_TIMEOUT: Duration = Duration::from_secs(3);

/// Calls in progress that are counted, at most.
const CALLS: u32 = 1 << 16;

/// How often the node tells in its order how far it is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// What a node keeps to leave in order.
pub(super) struct Exit {
    directory: Arc<dyn Directory>,
    /// Where an order to leave stands.
    pub(super) key: String,
    ordered: watch::Receiver<Option<DrainOrder>>,
    resign: watch::Sender<bool>,
    /// Closed when nobody here stands for steward any more.
    serves: mpsc::Receiver<()>,
    /// Places for calls in progress.
    pub(super) calls: Arc<Semaphore>,
}

/// The other ends.
pub(super) struct Ends {
    pub(super) ordered: watch::Sender<Option<DrainOrder>>,
    pub(super) resign: watch::Receiver<bool>,
    pub(super) serves: mpsc::Sender<()>,
}

impl Exit {
    pub(super) fn new(directory: Arc<dyn Directory>, key: String) -> (Exit, Ends) {
        let (orders, ordered) = watch::channel(None);
        let (resign, resigned) = watch::channel(false);
        let (served, serves) = mpsc::channel(1);
        let calls = Arc::new(Semaphore::new(CALLS as usize));
        let exit = Exit { directory, key, ordered, resign, serves, calls };
        (exit, Ends { ordered: orders, resign: resigned, serves: served })
    }

    /// The stewardship ends, if it was here; then the calls in progress.
    async fn wind_up(&mut self) {
        self.resign.send_replace(true);
        if timeout(RESIGN_TIMEOUT, self.serves.recv()).await.is_err() {
            tracing::warn!("the stewardship could not be given up in time; its lease will run out");
        }
        if timeout(CALLS_TIMEOUT, self.calls.acquire_many(CALLS)).await.is_err() {
            tracing::warn!("calls of peers were still under way at the end");
        }
    }

    async fn tell(&self, progress: impl Fn() -> Progress) {
        loop {
            if let Err(error) = order::tell(&*self.directory, &self.key, progress()).await {
                tracing::debug!(%error, "nobody could be told how far this node is");
            }
            sleep(TELL_EVERY).await;
        }
    }

    async fn forget_order(&self) {
        if let Err(error) = self.directory.delete(&self.key, None).await {
            tracing::debug!(%error, "the order to leave stays behind; it means this life only");
        }
    }
}

impl Node {
    /// Waits until somebody writes the order to empty this node into the directory; why, in their words.
    pub async fn ordered_to_leave(&self) -> String {
        let mut ordered = self.exit.ordered.clone();
        let reason = match ordered.wait_for(Option::is_some).await {
            Ok(order) => order.as_ref().map(|order| order.reason.clone()),
            Err(_) => None,
        };
        match reason {
            Some(reason) => reason,
            // Whoever watched is gone with the node.
            None => std::future::pending().await,
        }
    }

    /// Empties this node and leaves: what it has is handed to others first. After `patience`, or when `hurry` ends, what is
    /// left is saved and released as by [`Node::leave`].
    pub async fn drain(self, patience: Duration, hurry: impl Future<Output = ()>) {
        self.draining.begin();
        let node = self.mesh.me().node.clone();
        tracing::info!(%node, "draining");
        let cut = async {
            tokio::select! {
                biased;
                () = sleep(patience) => tracing::warn!(%node, "it has not emptied itself in {} s", patience.as_secs()),
                () = hurry => tracing::warn!(%node, "it is to leave at once"),
            }
        };
        let report = self.report.clone();
        let players = matches!(self.door, Door::Frontend(_));
        let progress = move || {
            let report = report.borrow();
            let bodies = u32::try_from(report.stats.reals).unwrap_or(u32::MAX);
            Progress { players: if players { report.load.players } else { 0 }, bodies }
        };
        tokio::select! {
            biased;
            () = self.empty(cut) => {}
            () = self.exit.tell(progress) => {}
        }
        self.end().await;
    }

    /// Leaves the mesh at once and in order: takes nobody new, saves and releases what it owns, leaves the directory, stops.
    pub async fn leave(self) {
        self.draining.begin();
        match &self.door {
            Door::Frontend(frontend) => frontend.sessions.close_all().await,
            Door::Gateway(gateway) => gateway.shut_down().await,
            Door::Garden(role) => within(role.leave()).await,
            Door::Zoo(role) => within(role.leave()).await,
            Door::Colosseum(role) => within(role.leave()).await,
        }
        self.end().await;
    }

    /// Hands over what the role has, until `cut` at most; then gives up the rest.
    async fn empty(&self, cut: impl Future<Output = ()>) {
        match &self.door {
            Door::Frontend(frontend) => {
                tokio::select! { biased; () = frontend.sessions.empty() => {}, () = cut => {} }
                frontend.sessions.close_all().await;
            }
            Door::Gateway(gateway) => {
                tokio::select! { biased; () = gateway.drain() => {}, () = cut => {} }
                gateway.shut_down().await;
            }
            Door::Garden(role) => until(role.leave(), cut).await,
            Door::Zoo(role) => until(role.leave(), cut).await,
            Door::Colosseum(role) => until(role.leave(), cut).await,
        }
    }

    async fn end(mut self) {
        self.exit.wind_up().await;
        self.exit.forget_order().await;
        if timeout(LEAVE_TIMEOUT, self.mesh.leave()).await.is_err() {
            tracing::warn!(node = %self.mesh.me().node, "could not leave the directory in time; the lease will run out");
        }
        self.tasks.stop();
    }
}

/// What a role does to leave; cut off, it has [`LEAVE_TIMEOUT`] more to save what it holds.
async fn until(leaving: impl Future<Output = ()>, cut: impl Future<Output = ()>) {
    let mut leaving = pin!(leaving);
    tokio::select! { biased; () = &mut leaving => {}, () = cut => within(leaving).await }
}

async fn within(leaving: impl Future<Output = ()>) {
    if timeout(LEAVE_TIMEOUT, leaving).await.is_err() {
        tracing::warn!("not everything could be given up in time; the lease's end does it");
    }
}
