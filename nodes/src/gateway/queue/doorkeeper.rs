//! The doorkeeper: the one gateway of a district, elected, that lets the first of the queue in, at a bounded rate and while
//! the frontends have room.
//!
//! Letting somebody in takes three steps: a frontend is asked to expect the player, the session's document is *inserted*,
//! the entry is taken out. The second is the moment of truth: nobody is told of a ticket that is not in the document, and
//! a document that is there already is never written again. So a doorkeeper that dies anywhere in between admits nobody
//! twice: the next one finds the entry, asks again, finds the document if there is one, and goes on. Documents are inserted
//! for the first of the line only as far as ALL before them could be let in: nobody is passed over. The entry is taken out
//! under the guard of the doorkeeper's own key, so that one who was frozen does nothing after its term.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use estate::document;
use estate::store::{Store, StoreError, WriteOptions};
use estate::transaction::Transactions;
use futures_util::future::join_all;
use mesh::directory::{CHANGES, Change, Directory, Expect, Revision};
use prometheus::{Histogram, IntCounter, IntCounterVec};
use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::follower::Line;
use super::view::key;
use super::{DOORKEEPER, Office, Waiting};
use crate::election::{self, Term};
use crate::gateway::session::{self, MEMORY, SessionDocument};
use crate::metrics::Metrics;

/// The lease of the doorkeeper's key, in seconds.
pub const TERM_S: u32 = 5;

/// How often a gateway that is not the doorkeeper looks whether there is one.
const STAND_EVERY: Duration = Duration::from_secs(2);

/// Gateways are spread by up to this, so that not all stand in the same moment.
const SPREAD_MS: u64 = 500;

/// How often the doorkeeper looks while somebody waits.
const ROUND: Duration = Duration::from_millis(50);

/// How often it looks while nobody does, at the latest.
const IDLE: Duration = Duration::from_secs(1);

/// The pause after the frontends turned out to be full or not to answer.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// Players let in in one round, at most.
const WAVE: usize = 64;

const _: () = assert!(WAVE <= CHANGES, "a round's entries are taken out in one call");

/// How long what a frontend has offered is relied on: its tickets last 30 s, of which the client needs some.
const OFFER_LASTS: Duration = Duration::from_secs(10);

/// Upper bounds of the buckets of waiting times, in seconds.
const WAIT_BUCKETS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];

/// How often the doorkeeper's key is written.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// The frontends, as the doorkeeper needs them.
#[async_trait]
pub trait Frontends: Send + Sync + 'static {
    /// How many more they would take, as far as is known.
    fn room(&self) -> u32;

    /// Has one of them expect a player. Asking again for the same session MUST do no harm.
    async fn open(&self, waiting: &Waiting) -> Result<SessionDocument, Refused>;
}

/// Why the frontends did not take somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// They are full, or cannot be reached: everybody waits.
    Full,
    /// They will never take this one: it must not be in the way of the others.
    Unfit(String),
}

/// What a doorkeeper is made from.
pub struct Parts {
    /// The gateway's name.
    pub node: String,
    /// The directory.
    pub directory: Arc<dyn Directory>,
    /// The queue's prefix.
    pub prefix: String,
    /// The queue.
    pub line: Arc<Line>,
    /// Where sessions' documents lie.
    pub estate: Arc<Transactions>,
    /// The frontends.
    pub frontends: Arc<dyn Frontends>,
    /// How many are let in each second, at most.
    pub per_second: u32,
    /// How far this gateway's stands for election are moved against others', at random.
    pub spread: u64,
    /// Where it counts.
    pub counts: Counts,
}

/// Where a doorkeeper counts.
#[derive(Clone)]
pub struct Counts {
    /// Players let in, by way: `direct`, `queue`; and those whom no frontend would have: `unfit`.
    pub admissions: IntCounterVec,
    /// Entries that went without having been let in.
    pub abandoned: IntCounter,
    /// How long those let in had waited, in seconds, as far as the doorkeeper saw.
    pub wait: Histogram,
}

impl Counts {
    /// Where the doorkeeper of this node counts.
    pub fn new(metrics: &Metrics) -> Counts {
        Counts {
            admissions: metrics.counters("admissions_total", "Players let in, by way.", &["way"]),
            abandoned: metrics.counter("abandoned_total", "Entries of the queue that went without having been let in."),
            wait: metrics.histogram("admission_wait_seconds", "Waiting of those who were let in.", &WAIT_BUCKETS),
        }
    }
}

/// Stands for election, and keeps the door whenever it is won. Ends with the node. `may` says whether the node may act at all.
pub async fn serve(parts: Parts, may: impl Fn() -> bool + Send + Sync) {
    let key = format!("{}{DOORKEEPER}", parts.prefix);
    let spread = Duration::from_millis(parts.spread % SPREAD_MS);
    loop {
        let office = Office { node: parts.node.clone(), most_per_s: parts.per_second, ..Office::default() };
        // Standing needs the present: a doorkeeper that does not know who waits is of no use.
        if may() && parts.line.fresh() {
            match election::stand(parts.directory.clone(), &key, TERM_S, &to_bytes(&office)).await {
                Ok(Some(term)) => {
                    tracing::info!(node = parts.node, "keeps the door now");
                    // What is done when the term ends is dropped where it waits: all of it can be taken up by another.
                    tokio::select! {
                        biased;
                        () = term.keep() => {}
                        () = Doorkeeper::new(&parts, office).hold(&term, &may) => {}
                    }
                    tracing::info!(node = parts.node, "does not keep the door any more");
                    term.resign().await;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "could not stand for doorkeeper"),
            }
        }
        sleep(STAND_EVERY + spread).await;
    }
}

fn to_bytes(office: &Office) -> Vec<u8> {
    // Writing plain values to memory cannot fail.
    serde_json::to_vec(office).unwrap_or_default()
}

/// How one of the first in line stands.
enum Ready {
    /// Its document is there: a former doorkeeper, or a former round, let it in.
    Already(Box<SessionDocument>),
    /// A frontend expects it.
    Offered(Box<SessionDocument>),
    /// It cannot be let in now, and so nobody behind it.
    Wait,
    /// It cannot ever be let in.
    Unfit(String),
}

/// One term's memory. Nothing in it must not be lost.
struct Doorkeeper<'a> {
    parts: &'a Parts,
    office: Office,
    /// What frontends offered for those whose documents are not inserted yet, and when.
    offers: FxHashMap<Uuid, (SessionDocument, Instant)>,
    /// Entries of those who were let in, to be taken out.
    leaving: Vec<(String, Revision)>,
    budget: f64,
    counted_at: Instant,
    abandoned_before: u64,
    told: (Instant, u64, Office),
}

impl<'a> Doorkeeper<'a> {
    fn new(parts: &'a Parts, office: Office) -> Doorkeeper<'a> {
        parts.line.view().forget_let_in();
        let (now, abandoned_before) = (Instant::now(), parts.line.view().abandoned());
        let told = (now, 0, office.clone());
        let (offers, leaving) = (FxHashMap::default(), Vec::new());
        Doorkeeper { parts, office, offers, leaving, budget: 0.0, counted_at: now, abandoned_before, told }
    }

    async fn hold(mut self, term: &Term, may: impl Fn() -> bool) {
        while term.holds() && may() {
            let busy = !self.parts.line.view().is_empty() || !self.leaving.is_empty();
            if !busy {
                self.parts.line.until_news(IDLE).await;
            }
            let in_time = if self.parts.line.fresh() { self.round(term).await } else { false };
            self.tell(term).await;
            sleep(if in_time { ROUND } else { FULL_PAUSE }).await;
        }
    }

    /// Lets in as many as may be; false if something is in the way.
    async fn round(&mut self, term: &Term) -> bool {
        if !self.take_out(term).await {
            return false;
        }
        let room = self.parts.frontends.room();
        self.office.room = room;
        let count = self.allowance().min(room as usize).min(WAVE);
        let heads = self.parts.line.view().heads(count);
        let ready = join_all(heads.iter().map(|(waiting, ..)| self.prepare(waiting))).await;
        self.offers.clear();
        let mut whole = true;
        let mut first = Vec::new();
        for ((waiting, created, seen), ready) in heads.iter().zip(ready) {
            match ready {
                // What was offered to those behind is kept for the next round; nobody was told.
                Ready::Offered(offer) if !whole => drop(self.offers.insert(waiting.session, (*offer, Instant::now()))),
                _ if !whole => {}
                Ready::Wait => whole = false,
                Ready::Already(document) => first.push((waiting, *created, *seen, *document, true)),
                Ready::Offered(offer) => first.push((waiting, *created, *seen, *offer, false)),
                Ready::Unfit(why) => {
                    tracing::warn!(session = %waiting.session, why, "a waiting player cannot be let in");
                    first.push((waiting, *created, *seen, SessionDocument::closed(waiting.player), false));
                }
            }
        }
        // Nothing was awaited since the offers came but them: one that was frozen meanwhile stops here.
        if !term.holds() {
            return false;
        }
        let store = &**self.parts.estate.store();
        let inserts = first.iter().map(|(waiting, _, _, document, there)| async {
            if *there { Ok(()) } else { insert(store, waiting.session, document).await }
        });
        let inserted = join_all(inserts).await;
        let mut failed = false;
        for ((waiting, created, seen, document, _), inserted) in first.into_iter().zip(inserted) {
            match inserted {
                // Nobody is told while the entry stands: those behind one that failed stay in line with it, and the next
                // round finds their documents.
                Ok(()) if failed => {}
                Ok(()) => self.leaves(waiting, created, seen, document.closed),
                Err(error) => {
                    tracing::warn!(session = %waiting.session, %error, "a session could not be written");
                    self.offers.insert(waiting.session, (document, Instant::now()));
                    failed = true;
                }
            }
        }
        whole &= !failed;
        self.take_out(term).await && whole
    }

    /// How many may be let in now by the rate. What is not used is lost, but for a round or two.
    fn allowance(&mut self) -> usize {
        let (now, rate) = (Instant::now(), f64::from(self.parts.per_second));
        let earned = now.duration_since(self.counted_at).as_secs_f64() * rate;
        self.counted_at = now;
        self.budget = (self.budget + earned).min((rate * 2.0 * FULL_PAUSE.as_secs_f64()).max(1.0));
        self.budget.max(0.0) as usize
    }

    /// Sees to it that a frontend expects the player.
    async fn prepare(&self, waiting: &Waiting) -> Ready {
        let store = &**self.parts.estate.store();
        match document::peek::<SessionDocument>(store, &session::key(waiting.session)).await {
            Ok(Some(kept)) => return Ready::Already(Box::new(kept.document)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the store does not say whether a session is open");
                return Ready::Wait;
            }
        }
        let kept = self.offers.get(&waiting.session).filter(|(_, since)| since.elapsed() < OFFER_LASTS);
        if let Some((offer, _)) = kept {
            return Ready::Offered(Box::new(offer.clone()));
        }
        match self.parts.frontends.open(waiting).await {
            Ok(offer) => Ready::Offered(Box::new(offer)),
            Err(Refused::Full) => Ready::Wait,
            Err(Refused::Unfit(why)) => Ready::Unfit(why),
        }
    }

    /// Somebody was let in: the entry is to be taken out.
    fn leaves(&mut self, waiting: &Waiting, created: Revision, seen: Instant, closed: bool) {
        self.parts.line.view().let_in(waiting.player, created);
        self.leaving.push((key(&self.parts.prefix, waiting.player), created));
        self.budget -= 1.0;
        self.office.admitted += u64::from(!closed);
        let way = if closed { "unfit" } else { "queue" };
        self.parts.counts.admissions.with_label_values(&[way]).inc();
        self.parts.counts.wait.observe(seen.elapsed().as_secs_f64());
    }

    /// Takes out the entries of those who were let in; false if that did not work (yet).
    async fn take_out(&mut self, term: &Term) -> bool {
        while !self.leaving.is_empty() {
            let some = &self.leaving[..self.leaving.len().min(CHANGES)];
            let gone = |(key, created): &(String, Revision)| Change {
                key: key.clone(),
                expect: Expect::Created(*created),
                becomes: None,
            };
            let changes: Vec<Change> = some.iter().map(gone).collect();
            match self.parts.directory.change(Some(term.guard()), &changes).await {
                Ok(Some(_)) => drop(self.leaving.drain(..changes.len())),
                Ok(None) => {
                    term.end();
                    return false;
                }
                Err(error) => {
                    // Taken out in the next round: what is gone by then is as good.
                    tracing::warn!(%error, "entries could not be taken out of the queue");
                    return false;
                }
            }
        }
        true
    }

    async fn tell(&mut self, term: &Term) {
        let abandoned = self.parts.line.view().abandoned().saturating_sub(self.abandoned_before);
        self.parts.counts.abandoned.inc_by(abandoned.saturating_sub(self.office.abandoned));
        self.office.abandoned = abandoned;
        let (told_at, admitted, _) = self.told;
        let elapsed = told_at.elapsed();
        if elapsed < TELL_EVERY {
            return;
        }
        let per_s = (self.office.admitted - admitted) as f64 / elapsed.as_secs_f64();
        self.office.per_s = (per_s * 10.0).round() / 10.0;
        if self.office != self.told.2 && term.holds() {
            term.tell(&to_bytes(&self.office)).await;
        }
        self.told = (Instant::now(), self.office.admitted, self.office.clone());
    }
}

/// Writes a session's document unless there is one; that one holds then.
async fn insert(store: &dyn Store, session: Uuid, document: &SessionDocument) -> Result<(), StoreError> {
    let bytes = document::encode(document).map_err(|error| StoreError::Invalid(error.to_string()))?;
    match store.insert(&session::key(session), bytes, WriteOptions::expiring(MEMORY)).await {
        Ok(_) | Err(StoreError::Exists | StoreError::NotDurable(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
