//! Keeps this node's record in the directory, under a lease that is renewed three times in its life.
//!
//! Whatever it waits for, it says the moment the lease may have run out. A write whose outcome is unknown is followed
//! by a look at what stands there; what stands under the own lease is adopted. It NEVER takes a name from the living,
//! and NEVER waits for whoever listens.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::name::{self, Claim, Verdict};
use super::{Config, OwnLease, RegistryEvent, State};
use crate::directory::{self, CALL_DEADLINE, Directory, Error, LeaseId, Revision};
use crate::record::NodeRecord;

/// Renewals in the life of a lease.
const RENEWALS: u32 = 3;

/// The pause before a renewal that failed is sent again.
const RENEW_AGAIN: Duration = Duration::from_millis(200);

/// The first pause between tries to register; it doubles up to [`PAUSE_MOST`].
const PAUSE_LEAST: Duration = Duration::from_millis(100);

/// The longest pause between tries to register.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// How often to look whether a former life's lease has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long past its lease a former life's key may stay, before its node counts as alive: etcd ends leases in batches,
/// and begins them anew when its leader changes.
const NAME_GRACE: Duration = Duration::from_secs(3);

/// Calls that fail in a row before the directory counts as down.
const FAILURES_DOWN: u32 = 2;

/// What waits to be told, at most: the keeper's news are few, and come in pairs.
const UNTOLD: usize = 64;

pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) lease: OwnLease,
    pub(super) events: mpsc::Sender<RegistryEvent>,
    pub(super) state: watch::Sender<State>,
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) link: Arc<Link>,
}

/// What the follower lets the keeper know.
#[derive(Debug, Default)]
pub(super) struct Link {
    nudge: Notify,
    /// The latest revision at which the follower saw the own key gone or changed; 0: none that was not looked into.
    key_touched: AtomicI64,
    trouble: Mutex<(u32, String)>,
}

impl Link {
    /// The own key was gone or somebody else's at this revision.
    pub(super) fn look_after_key(&self, revision: Revision) {
        self.key_touched.fetch_max(revision, Ordering::SeqCst);
        self.nudge.notify_one();
    }

    /// What the follower saw up to now is dealt with.
    fn looked_into(&self, touched: Revision) {
        // If it has seen more meanwhile, that stays to be looked into.
        let _ = self.key_touched.compare_exchange(touched, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(super) fn follower_failed(&self, reason: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = (trouble.0.saturating_add(1), reason);
        self.nudge.notify_one();
    }

    pub(super) fn follower_worked(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = (0, String::new());
        self.nudge.notify_one();
    }

    fn follower_trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        (trouble.0 >= FAILURES_DOWN).then(|| trouble.1.clone())
    }
}

/// A lease that was granted or renewed, and when that was asked for.
#[derive(Clone, Copy, Debug)]
struct Lease {
    id: LeaseId,
    sent: Instant,
}

/// Why the keeper stopped holding, or could not begin to.
enum End {
    /// The lease or the key is gone: register anew.
    Gone,
    /// Another living node has the name.
    Taken(Box<NodeRecord>),
    /// The node leaves.
    Left,
}

pub(super) struct Keeper {
    setup: Setup,
    key: String,
    value: Vec<u8>,
    ttl: Duration,
    lease: Option<Lease>,
    /// The last revision at which the key surely stood as it should.
    stands_at: Revision,
    /// True while the hub believes that this node may act as an owner.
    acting: bool,
    ever_registered: bool,
    /// True if the key may have been missing since the hub last believed so.
    was_gone: bool,
    failures: u32,
    down: bool,
    untold: VecDeque<RegistryEvent>,
}

impl Keeper {
    pub(super) fn new(setup: Setup) -> Keeper {
        let key = setup.config.district.key(&setup.config.record);
        // A record is made of texts and numbers, which JSON always has room for; an empty value is a bad record to all.
        let value = serde_json::to_vec(&setup.config.record).unwrap_or_default();
        let ttl = setup.config.ttl();
        Keeper {
            setup,
            key,
            value,
            ttl,
            lease: None,
            stands_at: 0,
            acting: false,
            ever_registered: false,
            was_gone: false,
            failures: 0,
            down: false,
            untold: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.join().await {
                break end;
            }
            match self.hold().await {
                End::Gone => {
                    self.setup.lease.end();
                    self.was_gone = true;
                }
                end => break end,
            }
        };
        self.setup.lease.end();
        match end {
            End::Taken(by) => {
                let incarnation = by.incarnation.0;
                tracing::error!(node = %by.node, incarnation, at = by.request, "the node's name is taken");
                self.lose();
                self.say(RegistryEvent::NameTaken { by: (*by).clone() });
                self.setup.state.send_replace(State::Taken(by));
            }
            _ => {
                self.revoke().await;
                self.setup.state.send_replace(State::Left);
            }
        }
        while self.tell_one().await {}
    }

    /// Registers: waits for the name where it must, writes the record under a new lease, and begins to act.
    async fn join(&mut self) -> Result<(), End> {
        let mut pause = PAUSE_LEAST;
        let mut held_since: Option<Instant> = None;
        loop {
            if *self.setup.leaving.borrow() {
                return Err(End::Left);
            }
            match self.try_name().await {
                Ok(Verdict::Mine) => {
                    self.worked();
                    self.act();
                    return Ok(());
                }
                // Written, or overtaken by somebody: the next look tells.
                Ok(Verdict::Take(_)) => {
                    self.worked();
                    continue;
                }
                Ok(Verdict::Held(by)) => {
                    self.worked();
                    let waited = held_since.get_or_insert_with(Instant::now).elapsed();
                    if self.ever_registered || waited > self.ttl + NAME_GRACE {
                        return Err(End::Taken(by));
                    }
                    self.rest(LOOK_EVERY).await;
                }
                Err(error) => {
                    // What a former life's lease does while the directory does not answer, nobody knows.
                    held_since = None;
                    self.failed(&error);
                    self.rest(pause).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
        }
    }

    /// Looks at the name and, where it may be taken, tries to take it. `Mine` once it stands under a usable lease.
    async fn try_name(&mut self) -> directory::Result<Verdict> {
        let verdict = self.look().await?;
        match verdict {
            Verdict::Mine if self.usable_lease().is_some() => return Ok(Verdict::Mine),
            // Ours, but so slow to come that it must be renewed first.
            Verdict::Mine => self.renew().await?,
            Verdict::Take(expected) => {
                if self.take(expected).await? && self.usable_lease().is_some() {
                    return Ok(Verdict::Mine);
                }
            }
            Verdict::Held(_) => return Ok(verdict),
        }
        Ok(Verdict::Take(0))
    }

    /// Looks at what stands under the name, without touching it.
    async fn look(&mut self) -> directory::Result<Verdict> {
        let (directory, prefix) = (self.setup.directory.clone(), self.setup.config.district.prefix().to_owned());
        let (entries, revision) = self.attend(async move { directory.list(&prefix).await }).await?;
        let lease = self.lease.map(|lease| lease.id);
        let prefix = self.setup.config.district.prefix();
        let claim = Claim { me: &self.setup.config.record, key: &self.key, lease, had_it: self.ever_registered };
        let verdict = name::judge(prefix, &claim, &entries);
        if verdict == Verdict::Mine {
            self.stands_at = revision;
        }
        Ok(verdict)
    }

    /// Writes the record if the key is at the expected revision still; true if it was.
    async fn take(&mut self, expected: Revision) -> directory::Result<bool> {
        let lease = match self.usable_lease() {
            Some(lease) => lease,
            None => self.grant().await?,
        };
        let (directory, key, value) = (self.setup.directory.clone(), self.key.clone(), self.value.clone());
        let swapped = self.attend(async move { directory.swap(&key, expected, &value, Some(lease.id)).await }).await;
        match swapped {
            Ok(written) => {
                self.stands_at = written.unwrap_or(self.stands_at);
                Ok(written.is_some())
            }
            Err(Error::LeaseGone(_)) => {
                self.lease = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn grant(&mut self) -> directory::Result<Lease> {
        let sent = Instant::now();
        let directory = self.setup.directory.clone();
        let ttl_s = u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX);
        let id = self.attend(async move { directory.grant(ttl_s).await }).await?;
        let lease = Lease { id, sent };
        self.lease = Some(lease);
        Ok(lease)
    }

    /// The lease, if a node may still act under it.
    fn usable_lease(&self) -> Option<Lease> {
        self.lease.filter(|lease| lease.sent + super::lease::usable(self.ttl) > Instant::now())
    }

    /// Renews the lease once; `LeaseGone` is no error but leaves no lease.
    async fn renew(&mut self) -> directory::Result<()> {
        let Some(lease) = self.lease else { return Ok(()) };
        let directory = self.setup.directory.clone();
        let sent = Instant::now();
        // Two tries fit between the time of a renewal and the end of what the last one allows.
        let patience = (self.ttl / (RENEWALS + 1)).min(CALL_DEADLINE);
        let kept = self.attend(timeout(patience, async move { directory.keep_alive(lease.id).await })).await;
        let (kept, sent) =
            if planted::is("lease_counted_from_reply") { (Ok(Ok(())), Instant::now()) } else { (kept, sent) };
        match kept {
            Ok(Ok(())) => {
                self.lease = Some(Lease { id: lease.id, sent });
                Ok(())
            }
            Ok(Err(Error::LeaseGone(_))) => {
                self.lease = None;
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                Err(Error::Ambiguous { reason: format!("no answer to a renewal within {} ms", patience.as_millis()) })
            }
        }
    }

    /// Renews the lease until it or the key is gone.
    async fn hold(&mut self) -> End {
        let mut next = self.lease.map_or_else(Instant::now, |lease| lease.sent) + self.ttl / RENEWALS;
        loop {
            self.rest_until(next).await;
            if *self.setup.leaving.borrow() {
                return End::Left;
            }
            if Instant::now() >= next {
                match self.renew().await {
                    Ok(()) => self.worked(),
                    Err(error) => {
                        self.failed(&error);
                        next = Instant::now() + RENEW_AGAIN;
                        continue;
                    }
                }
            }
            let Some(lease) = self.lease else {
                self.lose();
                return End::Gone;
            };
            next = lease.sent + self.ttl / RENEWALS;
            self.judge_directory();
            // After a gap, or when the follower saw the own key gone, the key itself is looked at before acting on.
            let touched = self.setup.link.key_touched.load(Ordering::SeqCst);
            if touched > self.stands_at || !self.acting {
                match self.look().await {
                    Ok(Verdict::Mine) => {
                        self.setup.link.looked_into(touched);
                        self.act();
                    }
                    Ok(Verdict::Take(_)) => {
                        tracing::warn!(
                            key = self.key,
                            "the node's record was removed or overwritten; writing it again"
                        );
                        self.lose();
                        return End::Gone;
                    }
                    Ok(Verdict::Held(by)) => return End::Taken(by),
                    Err(error) => {
                        self.failed(&error);
                        next = next.min(Instant::now() + RENEW_AGAIN);
                    }
                }
            } else {
                self.act();
            }
        }
    }

    /// Ends the lease, so that nobody waits for it; where that fails, it runs out by itself.
    async fn revoke(&mut self) {
        self.lose();
        if let Some(lease) = self.lease.take() {
            let directory = self.setup.directory.clone();
            if let Err(error) = self.attend(async move { directory.revoke(lease.id).await }).await {
                tracing::warn!(%error, "leaving: the lease could not be ended and will run out by itself");
            }
        }
    }

    /// Counts the lease from its last renewal and says so, if the node was not acting.
    fn act(&mut self) {
        let Some(lease) = self.usable_lease() else { return };
        self.setup.lease.renewed(lease.sent, self.ttl);
        if !self.acting {
            self.acting = true;
            let was_gone = std::mem::take(&mut self.was_gone) && self.ever_registered;
            self.ever_registered = true;
            self.say(RegistryEvent::OwnLeaseBack { was_gone });
            self.setup.state.send_replace(State::Registered);
        }
    }

    /// Stops acting.
    fn lose(&mut self) {
        self.setup.lease.lapse();
        if std::mem::take(&mut self.acting) {
            self.say(RegistryEvent::OwnLeaseLost);
        }
    }

    fn worked(&mut self) {
        self.failures = 0;
        self.judge_directory();
    }

    /// The directory is up when neither the keeper's calls nor the follower's fail.
    fn judge_directory(&mut self) {
        match self.setup.link.follower_trouble() {
            Some(reason) => self.go_down(reason),
            None if self.down && self.failures == 0 => {
                self.down = false;
                self.say(RegistryEvent::DirectoryBack);
            }
            None => {}
        }
    }

    fn failed(&mut self, error: &Error) {
        tracing::warn!(%error, "a call to the directory failed");
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_DOWN {
            self.go_down(error.to_string());
        }
    }

    fn go_down(&mut self, reason: String) {
        if !self.down {
            self.down = true;
            self.say(RegistryEvent::DirectoryDown { reason });
        }
    }

    fn say(&mut self, event: RegistryEvent) {
        // Nobody has listened for long if this is full: what is oldest matters least then.
        if self.untold.len() >= UNTOLD {
            self.untold.pop_front();
        }
        self.untold.push_back(event);
    }

    /// Hands over the oldest news when there is room; false if there is none or nobody listens.
    async fn tell_one(&mut self) -> bool {
        if self.untold.is_empty() {
            return false;
        }
        match self.setup.events.reserve().await {
            Ok(permit) => {
                if let Some(event) = self.untold.pop_front() {
                    permit.send(event);
                }
                true
            }
            Err(_) => {
                self.untold.clear();
                false
            }
        }
    }

    async fn rest(&mut self, time: Duration) {
        self.rest_until(Instant::now() + time).await;
    }

    /// Waits, but no longer than until the follower or a leaving node wants something.
    async fn rest_until(&mut self, until: Instant) {
        let link = self.setup.link.clone();
        let mut leaving = self.setup.leaving.clone();
        self.attend(async move {
            tokio::select! {
                biased;
                Ok(_) = leaving.wait_for(|leaving| *leaving) => {}
                () = link.nudge.notified() => {}
                () = sleep_until(until) => {}
            }
        })
        .await;
    }

    /// Does some work, and meanwhile says when the lease may have run out, and tells what is to be told.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let (acting, until) = (self.acting, self.setup.lease.until());
            tokio::select! {
                biased;
                () = sleep_until(until), if acting => self.lose(),
                result = &mut work => return result,
                true = self.tell_one() => {}
            }
        }
    }
}
