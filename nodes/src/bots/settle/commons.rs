//! What settling bots of one run share: the content, what grows where, the islands, the report, and what was shown to whom.
//!
//! What grows is asked from the gateway by one flow, chunk by chunk, when a bot first looks there; it is bounded, and a bot
//! that asks for what is not known yet NEVER waits. All locks are held briefly and by one thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;

use super::account::Counts;
use super::report::{SettleReport, SettleTally};
use crate::client::Gateway;
use crate::client::rest::Island;
use crate::game::content::Content;
use crate::protocol::Motion;

/// Chunks asked for that wait; more are asked for again later.
const WANTED: usize = 256;
/// Chunks asked for at the same time.
const AT_ONCE: usize = 4;
/// Chunks kept in memory.
const KEPT: usize = 20_000;
/// Objects whose last statement is kept.
const SHOWN_KEPT: usize = 50_000;
/// How often the list of islands is asked for.
const ISLANDS_EVERY: Duration = Duration::from_secs(30);

/// Island, column and row of a chunk.
pub(super) type ChunkKey = (u32, u16, u16);

/// A natural object: its tile and its name.
pub(super) type Natural = ((u16, u16), String);

/// What bots share.
#[derive(Debug)]
pub(in crate::bots) struct Commons {
    pub(super) content: Arc<Content>,
    islands: Mutex<Vec<Island>>,
    chunks: Mutex<Chunks>,
    wanted: mpsc::Sender<ChunkKey>,
    asked: Mutex<Option<mpsc::Receiver<ChunkKey>>>,
    tally: Mutex<SettleTally>,
    shown: Mutex<FxHashMap<u64, Shown>>,
    /// What bots have left for players.
    gifts: Mutex<FxHashMap<u64, Given>>,
}

/// What bots have left for one player.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// All that was asked for and not surely refused.
    pub(super) asked: Counts,
    /// What of it was acknowledged.
    pub(super) acknowledged: Counts,
}

#[derive(Debug, Default)]
struct Chunks {
    known: FxHashMap<ChunkKey, Arc<Vec<Natural>>>,
    asked: FxHashSet<ChunkKey>,
}

/// What a statement about an object said.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::bots) struct Shown {
    pub(in crate::bots) epoch: u64,
    pub(in crate::bots) version: u64,
    pub(in crate::bots) publisher: u64,
    pub(in crate::bots) motion: Motion,
}

impl Commons {
    pub(in crate::bots) fn new(islands: Vec<Island>) -> Commons {
        let (wanted, asked) = mpsc::channel(WANTED);
        Commons {
            content: Content::bundled(),
            islands: Mutex::new(islands),
            chunks: Mutex::default(),
            wanted,
            asked: Mutex::new(Some(asked)),
            tally: Mutex::default(),
            shown: Mutex::default(),
            gifts: Mutex::default(),
        }
    }

    pub(super) fn report(&self) -> MutexGuard<'_, SettleTally> {
        lock(&self.tally)
    }

    pub(in crate::bots) fn snapshot(&self) -> SettleReport {
        self.report().snapshot()
    }

    /// What grew on a chunk when it was asked for; asks for it if that is not known.
    pub(super) fn naturals(&self, key: ChunkKey) -> Option<Arc<Vec<Natural>>> {
        let mut chunks = lock(&self.chunks);
        if let Some(known) = chunks.known.get(&key) {
            return Some(known.clone());
        }
        if !chunks.asked.contains(&key) && self.wanted.try_send(key).is_ok() {
            chunks.asked.insert(key);
        }
        None
    }

    /// A chunk is known.
    pub(super) fn learn(&self, key: ChunkKey, naturals: Vec<Natural>) {
        let mut chunks = lock(&self.chunks);
        if chunks.known.len() >= KEPT {
            chunks.known.clear();
        }
        chunks.asked.remove(&key);
        chunks.known.insert(key, Arc::new(naturals));
    }

    pub(super) fn island(&self, id: u32) -> Option<Island> {
        lock(&self.islands).iter().find(|island| island.id == id).cloned()
    }

    /// The numbers of all islands but one.
    pub(super) fn other_islands(&self, id: u32) -> Vec<u32> {
        lock(&self.islands).iter().map(|island| island.id).filter(|other| *other != id).collect()
    }

    /// A bot asks to leave something for a player.
    pub(super) fn gives(&self, player: u64, what: &Counts) {
        let mut gifts = lock(&self.gifts);
        let asked = &mut gifts.entry(player).or_default().asked;
        what.iter().for_each(|(item, count)| *asked.entry(item.clone()).or_default() += count);
    }

    /// It was surely not done.
    pub(super) fn gives_not(&self, player: u64, what: &Counts) {
        let mut gifts = lock(&self.gifts);
        let asked = &mut gifts.entry(player).or_default().asked;
        for (item, count) in what {
            let asked = asked.entry(item.clone()).or_default();
            *asked = asked.saturating_sub(*count);
        }
    }

    /// It was done.
    pub(super) fn gave(&self, player: u64, what: &Counts) {
        let mut gifts = lock(&self.gifts);
        let acknowledged = &mut gifts.entry(player).or_default().acknowledged;
        what.iter().for_each(|(item, count)| *acknowledged.entry(item.clone()).or_default() += count);
    }

    /// What bots have left for a player, ever.
    pub(super) fn given_to(&self, player: u64) -> Given {
        lock(&self.gifts).get(&player).cloned().unwrap_or_default()
    }

    /// An object was shown to a bot. One epoch and version of an object says the same to everybody: else it would be in two
    /// places.
    pub(in crate::bots) fn shown(&self, me: u64, id: u64, shown: Shown) {
        let mut all = lock(&self.shown);
        if all.len() >= SHOWN_KEPT {
            all.clear();
        }
        let Some(known) = all.get(&id) else {
            all.insert(id, shown);
            return;
        };
        let (before, now) = ((known.epoch, known.version), (shown.epoch, shown.version));
        if before == now {
            let mut report = self.report();
            report.objects_compared += 1;
            if *known != shown {
                report.finding("two_places", || format!("{id} is shown as {known:?} and, to {me}, as {shown:?}"));
            }
        } else if now > before {
            all.insert(id, shown);
        }
    }

    /// Asks the gateway for what bots want to know, until all have gone.
    pub(in crate::bots) async fn learn_all(&self, gateway: &Gateway) {
        let Some(asked) = lock(&self.asked).take() else { return };
        let chunks = futures_util::stream::unfold(asked, |mut asked| async move { Some((asked.recv().await?, asked)) });
        let learning = chunks.for_each_concurrent(AT_ONCE, |key| async move {
            match gateway.chunk(key.0, key.1, key.2).await {
                Ok(chunk) => {
                    let naturals = chunk.tiles.into_iter().filter_map(|tile| Some(((tile.x, tile.y), tile.name?)));
                    self.learn(key, naturals.collect());
                }
                Err(crate::client::ClientError::Refused { status: 404, .. }) => self.learn(key, Vec::new()),
                // It is asked for again when somebody looks there again.
                Err(_) => {
                    lock(&self.chunks).asked.remove(&key);
                }
            }
        });
        let listing = async {
            loop {
                tokio::time::sleep(ISLANDS_EVERY).await;
                if let Ok(islands) = gateway.islands().await {
                    *lock(&self.islands) = islands;
                }
            }
        };
        tokio::select! {
            () = learning => {}
            () = listing => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
