//! Follows the district: lists, watches from there, and lists again whenever the watch ends, and now and then anyway.
//!
//! What it tells is the difference between what it knew and what is; so a lost watch loses no node. It NEVER concludes
//! anything from a call that failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::keeper::Link;
use super::nodes::{NodeSet, Outcome};
use super::{COMPARE_EVERY, District, Listing, Nodes, RegistryEvent};
use crate::directory::{self, Directory, WatchEvent};
use crate::record::NodeRecord;

/// The first pause after a failed call or a watch that ended soon; it doubles up to [`PAUSE_MOST`].
const PAUSE_LEAST: Duration = Duration::from_millis(100);

/// The longest pause between tries.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// A watch that lived this long has worked: the next one is opened without a pause.
const WORKED: Duration = Duration::from_secs(10);

/// Nodes are spread by up to this, so that a whole district does not list in the same moment.
const SPREAD_MS: u64 = 100;

pub(super) struct Setup {
    pub(super) district: District,
    pub(super) record: NodeRecord,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) events: mpsc::Sender<RegistryEvent>,
    pub(super) known: watch::Sender<Arc<Nodes>>,
    pub(super) readings: watch::Receiver<Option<Arc<Listing>>>,
    pub(super) link: Arc<Link>,
    /// How long others are given to register again in a directory that lost its data.
    pub(super) grace: Duration,
}

pub(super) struct Follower {
    setup: Setup,
    set: NodeSet,
    spread: Duration,
    pause: Duration,
    listed_once: bool,
}

impl Follower {
    pub(super) fn new(setup: Setup) -> Follower {
        let key = setup.district.key(&setup.record);
        let set = NodeSet::new(setup.district.prefix(), key, setup.record.clone());
        let spread = Duration::from_millis(setup.record.incarnation.0 % SPREAD_MS);
        Follower { setup, set, spread, pause: Duration::ZERO, listed_once: false }
    }

    /// Goes on until the node stops, or until nobody listens any more.
    pub(super) async fn run(mut self) {
        while !self.setup.events.is_closed() {
            if !self.pause.is_zero() {
                sleep(self.pause + self.spread).await;
            }
            let began = Instant::now();
            match self.round().await {
                Ok(reason) => tracing::info!(reason, "the watch on the directory ended; listing anew"),
                Err(error) => {
                    tracing::warn!(%error, "following the district failed; trying again");
                    self.setup.link.follower_failed(error.to_string());
                }
            }
            let worked = began.elapsed() >= WORKED;
            self.pause = if worked { Duration::ZERO } else { (self.pause * 2).clamp(PAUSE_LEAST, PAUSE_MOST) };
        }
    }

    /// Lists, watches from there, and follows until that ends; says why it did.
    async fn round(&mut self) -> directory::Result<String> {
        let relists = !self.listed_once || !planted::is("watch_not_relisted");
        self.list().await?;
        let prefix = self.setup.district.prefix().to_owned();
        let from = if relists { self.set.watch_from() } else { 0 };
        let mut watch = self.setup.directory.watch(&prefix, from).await?;
        self.setup.link.follower_worked();
        let mut compare_at = Instant::now() + COMPARE_EVERY + self.spread;
        loop {
            tokio::select! {
                biased;
                event = watch.recv() => match event {
                    Some(WatchEvent::Ended { reason }) => return Ok(reason),
                    None => return Ok("the driver stopped".to_owned()),
                    Some(event) => {
                        let outcome = self.set.apply(&event);
                        self.tell(outcome).await;
                    }
                },
                Ok(()) = self.setup.readings.changed() => {
                    let reading = self.setup.readings.borrow_and_update().clone();
                    if let Some(listing) = reading.filter(|listing| self.set.is_news(listing)) {
                        let outcome = self.set.adopt(&listing);
                        self.tell(outcome).await;
                    }
                }
                () = sleep_until(compare_at) => {
                    // A healthy watch has told everything, save what is still on its way: watching anew costs little.
                    if self.list().await? > 0 {
                        return Ok("a comparison found what the watch had not told".to_owned());
                    }
                    compare_at = Instant::now() + COMPARE_EVERY;
                }
                () = self.setup.events.closed() => return Ok("nobody listens".to_owned()),
            }
        }
    }

    /// Lists the district and tells what is different from what was known; says how much that was.
    async fn list(&mut self) -> directory::Result<usize> {
        if planted::is("watch_not_relisted") && self.listed_once {
            return Ok(0);
        }
        let mut listing = self.read().await?;
        if !self.set.is_news(&listing) {
            // A directory that lost its data has lost everybody's key: all get the time to register again before
            // anybody is told dead.
            tracing::error!(
                revision = listing.revision,
                "the directory went back in time: was it restored or emptied?"
            );
            sleep(self.setup.grace).await;
            listing = self.read().await?;
        }
        let outcome = self.set.adopt(&listing);
        let differences = outcome.events.len();
        self.tell(outcome).await;
        if !self.listed_once {
            self.listed_once = true;
            // An error means that nobody listens; the main loop sees that itself.
            let _ = self.setup.events.send(RegistryEvent::Listed).await;
        }
        Ok(differences)
    }

    async fn read(&self) -> directory::Result<Listing> {
        let (entries, revision) = self.setup.directory.list(self.setup.district.prefix()).await?;
        Ok(Listing { entries, revision })
    }

    async fn tell(&mut self, outcome: Outcome) {
        if let Some(revision) = outcome.own_key {
            self.setup.link.look_after_key(revision);
        }
        if outcome.events.is_empty() {
            return;
        }
        self.setup.known.send_replace(self.set.snapshot());
        for event in outcome.events {
            let _ = self.setup.events.send(event).await;
        }
    }
}
