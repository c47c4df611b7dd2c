//! Follows the queue in the directory, and shares what is known of it: lists, watches from there, and lists again whenever
//! the watch ends, and now and then anyway.
//!
//! Nothing is EVER concluded from a call that failed: while the directory is away, everybody keeps the place last known.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cartographer::geometry::ObjectId;
use mesh::directory::{self, Directory, Revision, WatchEvent};
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::view::{Place, View};

/// The first pause after a failed call or a watch that ended soon; it doubles up to [`PAUSE_MOST`].
const PAUSE_LEAST: Duration = Duration::from_millis(50);

/// The longest pause between tries.
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// A watch that lived this long has worked: the next one is opened without a pause.
const WORKED: Duration = Duration::from_secs(10);

/// How often everything is listed and compared with what the watch told.
const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// How often places are counted, at most.
const COUNT_EVERY: Duration = Duration::from_millis(200);

/// Events taken in under one lock, at most.
const EVENTS: usize = 256;

/// For how long after the watch was lost what is known still counts as the present.
const GRACE: Duration = Duration::from_secs(3);

/// The queue as this gateway knows it, shared by all who ask.
pub struct Line {
    view: Mutex<View>,
    /// Told after every batch of news.
    news: watch::Sender<()>,
    /// Since when the watch is lost; `None`: it works.
    lost: watch::Sender<Option<Lost>>,
    length: IntGauge,
}

#[derive(Clone, Copy, Debug)]
enum Lost {
    /// Nothing was ever listed.
    Never,
    /// Since then.
    Since(Instant),
}

impl Line {
    /// The queue under this prefix, of which nothing is known yet. `length` shows how many wait.
    pub fn new(prefix: &str, length: IntGauge) -> Arc<Line> {
        let (view, lost) = (Mutex::new(View::new(prefix)), watch::Sender::new(Some(Lost::Never)));
        Arc::new(Line { view, news: watch::Sender::new(()), lost, length })
    }

    /// What is known. Never hold it across an await.
    pub fn view(&self) -> MutexGuard<'_, View> {
        // Whole after a panic elsewhere as far as anybody can tell; the next listing mends the rest.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if what is known is the present: the watch works, or did so a moment ago.
    pub fn fresh(&self) -> bool {
        match *self.lost.borrow() {
            None => true,
            Some(Lost::Since(at)) => at.elapsed() < GRACE,
            Some(Lost::Never) => false,
        }
    }

    /// Waits until what is known is the present; false if that takes longer.
    pub async fn until_fresh(&self, within: Duration) -> bool {
        let mut lost = self.lost.subscribe();
        self.fresh() || timeout(within, lost.wait_for(Option::is_none)).await.is_ok_and(|told| told.is_ok())
    }

    /// Waits for any news, at most so long.
    pub async fn until_news(&self, within: Duration) {
        let _ = timeout(within, self.news.subscribe().changed()).await;
    }

    /// Where a session stands, waiting a moment for its entry to be told here. Being asked keeps the entry alive.
    pub async fn until_session(&self, session: Uuid, within: Duration) -> Option<Place> {
        self.until(within, |view| view.poll(session, Instant::now())).await
    }

    /// Where a player stands whose entry was made at this revision, waiting a moment for it to be told here.
    pub async fn until_player(&self, player: ObjectId, created: Revision, within: Duration) -> Option<Place> {
        self.until(within, |view| view.place(player).filter(|place| place.created == created)).await
    }

    async fn until<T>(&self, within: Duration, mut look: impl FnMut(&mut View) -> Option<T>) -> Option<T> {
        let mut news = self.news.subscribe();
        let looking = async {
            loop {
                let found = look(&mut self.view());
                if found.is_some() || news.changed().await.is_err() {
                    return found;
                }
            }
        };
        timeout(within, looking).await.ok().flatten()
    }

    fn told(&self) {
        self.length.set(self.view().len() as i64);
        self.news.send_replace(());
    }
}

/// Follows the queue under `prefix`, for ever.
pub async fn follow(directory: Arc<dyn Directory>, prefix: String, line: Arc<Line>) {
    let mut pause = Duration::ZERO;
    loop {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let began = Instant::now();
        match round(&*directory, &prefix, &line).await {
            Ok(reason) => tracing::debug!(reason, "the watch on the queue ended; listing anew"),
            Err(error) => tracing::warn!(%error, "following the queue failed; trying again"),
        }
        line.lost.send_if_modified(|lost| {
            let works = lost.is_none();
            *lost = lost.or(Some(Lost::Since(Instant::now())));
            works
        });
        let worked = began.elapsed() >= WORKED;
        pause = if worked { Duration::ZERO } else { (pause * 2).clamp(PAUSE_LEAST, PAUSE_MOST) };
    }
}

/// Lists, watches from there, and follows until that ends; says why it did.
async fn round(directory: &dyn Directory, prefix: &str, line: &Line) -> directory::Result<String> {
    list(directory, prefix, line).await?;
    let from = line.view().listed() + 1;
    let mut watch = directory.watch(prefix, from).await?;
    line.lost.send_replace(None);
    let (mut compare_at, mut counted) = (Instant::now() + COMPARE_EVERY, Instant::now());
    let mut events = Vec::with_capacity(EVENTS);
    let mut uncounted = false;
    loop {
        tokio::select! {
            biased;
            came = watch.recv_many(&mut events, EVENTS) => {
                if came == 0 {
                    return Ok("the driver stopped".to_owned());
                }
                let now = Instant::now();
                uncounted |= take(line, &events, now);
                if uncounted && now.duration_since(counted) >= COUNT_EVERY {
                    line.view().count();
                    (counted, uncounted) = (now, false);
                }
                line.told();
                if let Some(WatchEvent::Ended { reason }) = events.last() {
                    return Ok(reason.clone());
                }
                events.clear();
            }
            () = sleep_until(counted + COUNT_EVERY), if uncounted => {
                line.view().count();
                (counted, uncounted) = (Instant::now(), false);
            }
            () = sleep_until(compare_at) => {
                // A healthy watch has told everything, save what is still on its way: watching anew costs little.
                if list(directory, prefix, line).await? {
                    return Ok("a comparison found what the watch had not told".to_owned());
                }
                compare_at = Instant::now() + COMPARE_EVERY;
            }
        }
    }
}

fn take(line: &Line, events: &[WatchEvent], now: Instant) -> bool {
    let mut view = line.view();
    let mut news = false;
    for event in events {
        news |= view.apply(event, now);
    }
    news
}

async fn list(directory: &dyn Directory, prefix: &str, line: &Line) -> directory::Result<bool> {
    let (entries, revision) = directory.list(prefix).await?;
    let latest = line.view().latest();
    if revision < latest {
        tracing::error!(revision, latest, "the directory went back in time: was it restored or emptied?");
    }
    let news = line.view().adopt(&entries, revision, Instant::now());
    line.told();
    Ok(news)
}
