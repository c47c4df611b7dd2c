//! Tries schedules: what may happen when drivers of a protocol run at once, stop, freeze, and lose calls and replies.
//!
//! A [`Scenario`] says how a store is set up, what one to three *drivers* do with it, how ordinary reading recovers from
//! whatever they left, and what must hold then. [`explore`] runs it under many schedules: every call of a driver is a
//! point at which another one may go on and at which something may go wrong ([`Fault`]). All within [`Bounds`] are
//! tried, then some at random by seed. What fails is told with a text that [`replay`] repeats exactly. It NEVER waits in
//! real time, starts a thread or draws a number that a seed does not repeat. Outside this crate: feature `conformance`.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use estate::schedules::{Bounds, End, Scenario, explore, find_fault};
//! use estate::store::{Store, StoreError, WriteOptions};
//!
//! /// Adds one as it should be done: what another has changed meanwhile is read again.
//! async fn count(store: Arc<dyn Store>, careful: bool) -> Result<(), StoreError> {
//!     loop {
//!         let Some(stored) = store.get("counter").await? else { return Err(StoreError::NotFound) };
//!         let value = Bytes::from(vec![stored.value[0] + 1]);
//!         match store.replace("counter", value, stored.version, WriteOptions::default()).await {
//!             Err(StoreError::Conflict) if careful => {}
//!             Err(StoreError::Conflict) => return Ok(()),
//!             result => return result.map(|_| ()),
//!         }
//!     }
//! }
//!
//! fn counting(careful: bool) -> Scenario<Result<(), StoreError>> {
//!     Scenario::new("counting")
//!         .setup(async |store| {
//!             store.insert("counter", Bytes::from_static(&[0]), WriteOptions::default()).await.expect("insert");
//!         })
//!         .driver(move |store| count(store, careful))
//!         .driver(move |store| count(store, careful))
//!         .check(|end: &End<_>| {
//!             let (found, told) = (end.documents["counter"].value[0], end.told().filter(|one| one.is_ok()).count());
//!             // A driver that was not told may have counted all the same.
//!             if usize::from(found) >= told { Ok(()) } else { Err(format!("{told} counted, but it is {found}")) }
//!         })
//! }
//!
//! let report = explore(&counting(true), &Bounds::default());
//! assert!(report.schedules > 100, "{report}");
//! let failure = find_fault(&counting(false), &Bounds::default()).expect_err("a lost update");
//! assert_eq!(failure.schedule, "alone a: a a!conflict");
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Store, Stored};

mod schedule;

mod explorer;
mod gate;
mod report;
mod run;
mod search;

pub use explorer::{explore, find_fault, replay};
pub use report::{Failure, Report};
pub use schedule::{BadSchedule, Fault, STORM};

/// The most drivers of a scenario: their names are letters.
const DRIVERS_MOST: usize = 8;

/// A future on this thread only.
type Local<T> = Pin<Box<dyn Future<Output = T>>>;
type Start<T> = Box<dyn Fn(Arc<dyn Store>) -> Local<T>>;
type Check<T> = Box<dyn Fn(&End<T>) -> Result<(), String>>;

/// What is tried under many schedules. `T` is what a driver's operation gives.
///
/// A scenario MUST be repeatable: its parts draw nothing and spawn nothing. What drivers share in memory (a live owner,
/// channels to it) lies in a cell that they and the setup hold, and the setup MUST make it anew for every run; a driver
/// that serves others MUST end when they have ended. Calls that one driver makes at the same time (`join!`) go on in the
/// order in which it made them.
pub struct Scenario<T> {
    name: String,
    setup: Start<()>,
    drivers: Vec<Start<T>>,
    recover: Start<Result<(), String>>,
    check: Option<Check<T>>,
}

impl<T> fmt::Debug for Scenario<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scenario {:?} of {} drivers", self.name, self.drivers.len())
    }
}

/// What a run has left behind, after recovery.
#[derive(Debug)]
pub struct End<T> {
    /// Every document.
    pub documents: BTreeMap<String, Stored>,
    /// What each driver's operation gave, in the order in which they were added; `None` if it was stopped or never
    /// started.
    pub answers: Vec<Option<T>>,
    /// How many calls went wrong. With none, and nobody [`End::alone`], only the order was out of the ordinary.
    pub faults: usize,
    /// One driver ran by itself; the others were left out.
    pub alone: bool,
}

impl<T> End<T> {
    /// What the drivers that came to their end were told.
    pub fn told(&self) -> impl Iterator<Item = &T> {
        self.answers.iter().flatten()
    }
}

impl<T: 'static> Scenario<T> {
    /// A scenario without anything. It needs at least one driver and a check.
    pub fn new(name: impl Into<String>) -> Scenario<T> {
        Scenario {
            name: name.into(),
            setup: start(async |_| ()),
            drivers: Vec::new(),
            recover: start(async |_| Ok(())),
            check: None,
        }
    }

    /// What lies in the store before; nothing goes wrong with it.
    #[must_use]
    pub fn setup<R: Future<Output = ()> + 'static>(mut self, setup: impl Fn(Arc<dyn Store>) -> R + 'static) -> Self {
        self.setup = start(setup);
        self
    }

    /// Adds a driver: what one node does, to its end. The first is called `a` in schedules, the second `b`.
    #[must_use]
    pub fn driver<R: Future<Output = T> + 'static>(mut self, drive: impl Fn(Arc<dyn Store>) -> R + 'static) -> Self {
        self.drivers.push(start(drive));
        self
    }

    /// Ordinary reading, after which everything must be settled. It runs when all drivers have ended or died, without
    /// faults, and once more if a write landed only afterwards. An error fails the schedule.
    #[must_use]
    pub fn recover<R: Future<Output = Result<(), String>> + 'static>(
        mut self,
        recover: impl Fn(Arc<dyn Store>) -> R + 'static,
    ) -> Self {
        self.recover = start(recover);
        self
    }

    /// What must hold after recovery. A panic is as good as an error.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&End<T>) -> Result<(), String> + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }
}

fn start<U, R: Future<Output = U> + 'static>(start: impl Fn(Arc<dyn Store>) -> R + 'static) -> Start<U> {
    Box::new(move |store| Box::pin(start(store)))
}

/// How much is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What may go wrong with a call.
    pub faults: Vec<Fault>,
    /// Each driver alone, with every combination of so many faults and fewer.
    pub faults_alone: u32,
    /// All drivers without faults: every schedule with so many preemptions and fewer. Taking the turn from a driver that
    /// could go on is one; letting time pass before its eyes is one.
    pub preemptions: u32,
    /// All drivers with every combination of so many faults and fewer, at least one.
    pub faults_together: u32,
    /// How many preemptions those schedules have at most.
    pub preemptions_with_fault: u32,
    /// The most schedules of each of these searches: per driver alone and number of faults, per number of preemptions.
    pub schedules: u64,
    /// How many schedules of all drivers with several faults are drawn at random.
    pub random: u64,
    /// The seed of the first of them; the next ones' follow.
    pub seed: u64,
    /// How long a frozen driver stays so: longer than anybody's patience.
    pub pause: Duration,
    /// A schedule that everything tried begins with; what it spends is not counted. For what lies too deep to be found
    /// from the beginning. No driver is tried alone then. Empty as a rule.
    pub after: String,
}

impl Default for Bounds {
    /// Pairs of faults alone; six preemptions without faults, two with one; a thousand at random. Of each search at most
    /// 2,000, so that a scenario takes seconds in a debug build.
    fn default() -> Bounds {
        Bounds {
            faults: Fault::ALL.to_vec(),
            faults_alone: 2,
            preemptions: 6,
            faults_together: 1,
            preemptions_with_fault: 2,
            schedules: 2_000,
            random: 1_000,
            seed: 1,
            pause: Duration::from_secs(120),
            after: String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
