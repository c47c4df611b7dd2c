//! The SDK's connections, replaced as a whole when they have gone silent for good.
//!
//! The SDK reconnects by itself. But a request dropped at the wrong moment (and every request is dropped at its
//! deadline) can leave it waiting for something that nobody works on any more, for every later request. So when several
//! requests in a row go unanswered, and no other has been answered meanwhile, a second link is opened beside the first
//! and takes its place. A link NEVER disappears under a request: it lives until the last one that uses it ends.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use couchbase::cluster::Cluster;
use couchbase::collection::Collection;
use tokio::time::sleep;

use super::config::CouchbaseConfig;
use super::connect::{self, ConnectError};

/// How many requests in a row must go unanswered before the link is replaced.
const SILENCES: u32 = 3;

/// The pause after an attempt to replace the link, so that a cluster that is down is not stormed: twice as long after
/// every one that failed. The old link goes on trying meanwhile; mostly it is the one to come back.
const REPLACE_PAUSE_MIN: Duration = Duration::from_secs(2);

/// The longest such pause.
const REPLACE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// One set of connections.
pub(super) struct Link {
    /// Dropping it would end the collection's calls.
    pub(super) cluster: Cluster,
    pub(super) collection: Collection,
    silences: AtomicU32,
}

impl Link {
    /// Something has been answered.
    pub(super) fn answered(&self) {
        // Read first: this runs for every request, and the line is shared by all threads.
        if self.silences.load(Ordering::Relaxed) != 0 {
            self.silences.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the last request went unanswered.
    pub(super) fn is_silent(&self) -> bool {
        self.silences.load(Ordering::Relaxed) != 0
    }
}

/// The present link and what is needed to replace it.
pub(super) struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    config: CouchbaseConfig,
    present: RwLock<Arc<Link>>,
    replacing: AtomicBool,
    failures: AtomicU32,
}

impl Links {
    /// Opens the first link.
    pub(super) async fn open(config: CouchbaseConfig) -> Result<Links, ConnectError> {
        let link = open(&config).await?;
        let present = RwLock::new(Arc::new(link));
        let (replacing, failures) = (AtomicBool::new(false), AtomicU32::new(0));
        Ok(Links { shared: Arc::new(Shared { config, present, replacing, failures }) })
    }

    /// The link to use now.
    pub(super) fn present(&self) -> Arc<Link> {
        self.shared.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the link was opened with.
    pub(super) fn config(&self) -> &CouchbaseConfig {
        &self.shared.config
    }

    /// A request over this link went unanswered.
    pub(super) fn silent(&self, link: &Arc<Link>) {
        let silences = link.silences.fetch_add(1, Ordering::Relaxed) + 1;
        if silences < SILENCES || self.shared.replacing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.shared.clone();
        let broken = link.clone();
        // A task of its own: dropped half-way with the request that noticed, the attempt would leave its mark behind.
        tokio::spawn(async move {
            // The link may have been replaced, or have come back, since it was noticed.
            let present = shared.present.read().unwrap_or_else(PoisonError::into_inner).clone();
            if Arc::ptr_eq(&present, &broken) && present.is_silent() {
                shared.replace().await;
                sleep(shared.pause()).await;
            }
            shared.replacing.store(false, Ordering::Release);
        });
    }
}

impl Shared {
    async fn replace(&self) {
        tracing::warn!("couchbase is silent: connecting to {} anew", self.config);
        match open(&self.config).await {
            Ok(link) => {
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(link);
                self.failures.store(0, Ordering::Relaxed);
                tracing::info!("connected to {} anew", self.config);
            }
            Err(e) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("could not connect anew: {e}");
            }
        }
    }

    fn pause(&self) -> Duration {
        let failures = self.failures.load(Ordering::Relaxed);
        REPLACE_PAUSE_MIN.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(REPLACE_PAUSE_MAX)
    }
}

async fn open(config: &CouchbaseConfig) -> Result<Link, ConnectError> {
    let (cluster, collection) = connect::open(config).await?;
    Ok(Link { cluster, collection, silences: AtomicU32::new(0) })
}
