//! Guards the document of one player: saves it, checks that it is still ours, releases it at the end.
//!
//! One task per player, fed by the world through a small queue and NEVER waited for by it. A save that is refused means
//! that another node owns the player now: the keeper tells the world to drop it at once (rule 2 of the design). Steps of
//! transactions on the player come here too, from this node and others, and are taken between two saves.
//!
//! At home a player is *visited*: what a dead transaction left in its document is settled, and promises left for it are
//! kept. That happens when it comes in, and again with every save of its place, by a task of its own: the visit's
//! transactions come back here as steps. What steps change of the bag is told to the world, and what was kept to the player.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cartographer::geometry::{Epoch, IslandId, ObjectId, Place};
use estate::goods::{Goods, promise};
use estate::player::{self, Claimed, PlayerDocument, PlayerError};
use estate::store::{Ack, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::acts::told;
use super::players::FrontInput;
use crate::owners::Take;
use crate::protocol::codes;
use crate::world_loop::WorldHandle;

/// Orders that wait for one keeper, at most. A save that finds the queue full is left out: the next one is newer.
const ORDERS: usize = 4;

/// Steps of transactions that wait for one keeper, at most; whoever has another waits.
const TAKES: usize = 4;

/// How often the last save of a leaving player is tried before whoever waits for it is told; then it is tried on, now and
/// then.
const LAST_SAVES: u32 = 5;

/// The pause between two tries of the last save.
const PAUSE: Duration = Duration::from_millis(500);

/// The pause before the last save is tried on, after all the tries for which somebody waits.
const PAUSE_LATER: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Order {
    Save(Standing),
    Check,
    Visit,
}

/// What the world knows of a player and its document keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub island: IslandId,
    /// Where it is.
    pub place: Place,
    /// Its health in percent.
    pub health: u8,
    /// The lowest number of an act that is still taken.
    pub floor: u64,
    /// No act from `floor` on was asked for before this, in seconds since 1970; 0 if that is not known.
    pub floor_s: u64,
    /// The turn of the last token that its client is known to have.
    pub turn: u64,
}

/// For how long a session may come back to a player that nobody serves any more, in seconds.
pub(super) const SEAT_S: u64 = 600;

/// By how much what is saved of [`Standing::floor_s`] may be behind, in seconds: it passes with time, and is no reason to save
/// by itself.
const FLOOR_BEHIND_S: u64 = 120;

impl Standing {
    /// Whether a document that says `saved` need not be written.
    pub fn is_saved_by(&self, saved: &Standing) -> bool {
        let behind = self.floor_s.abs_diff(saved.floor_s) >= FLOOR_BEHIND_S;
        !behind && *self == Standing { floor_s: self.floor_s, ..*saved }
    }
}

/// What the document says that the world shows: changed by transactions only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// What the player carries.
    pub bag: Goods,
    /// What it has learnt.
    pub experience: u64,
}

impl Carried {
    fn of(document: &PlayerDocument) -> Arc<Carried> {
        Arc::new(Carried { bag: document.bag.clone(), experience: document.experience })
    }
}

#[derive(Debug)]
struct Leaving {
    standing: Standing,
    /// Whether its session may come back.
    keeps_seat: bool,
    done: Option<oneshot::Sender<()>>,
}

/// The world's side of a keeper.
#[derive(Debug)]
pub struct Keeper {
    orders: mpsc::Sender<Order>,
    leave: oneshot::Sender<Leaving>,
    carried: watch::Receiver<Arc<Carried>>,
    told: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts the keeper of a claimed player.
    pub(super) fn start(shared: Arc<Shared>, world: WorldHandle<FrontInput>, claimed: Claimed) -> Keeper {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (leave, leaving) = oneshot::channel();
        let tasks = shared.tasks.clone();
        let (carries, carried) = watch::channel(Carried::of(&claimed.document));
        let told = Arc::<AtomicBool>::default();
        let kept = shared.keepers.keep(ObjectId(claimed.document.id));
        let home = Home::open(shared, world.clone(), claimed.document.id, carries, told.clone());
        tasks.spawn(async move {
            keep(home, world, claimed, inbox, leaving).await;
            drop(kept);
        });
        Keeper { orders, leave, carried, told }
    }

    /// What the player carries now. The world is told by [`FrontInput::Carries`] when that has changed, once for all changes
    /// since it last looked.
    pub fn carried(&self) -> Arc<Carried> {
        self.told.store(false, Ordering::Release);
        self.carried.borrow().clone()
    }

    /// Saves where the player is. False if the keeper is still busy with earlier saves.
    pub fn save(&self, standing: Standing) -> bool {
        self.orders.try_send(Order::Save(standing)).is_ok()
    }

    /// Settles what transactions have left and keeps promises, as every save does too.
    pub fn visit(&self) {
        // A full queue holds saves, and every save visits.
        let _ = self.orders.try_send(Order::Visit);
    }

    /// Looks whether the document is still ours.
    pub fn check(&self) {
        // A full queue holds saves, and every save checks.
        let _ = self.orders.try_send(Order::Check);
    }

    /// The player has left the world: saves for the last time, releases the document, and tells `done`. Unless its seat is
    /// kept its session is over, wherever its client comes back.
    pub fn leave(self, standing: Standing, keeps_seat: bool, done: Option<oneshot::Sender<()>>) {
        // An error means that the keeper has ended because the player was fenced: there is nothing to save.
        let _ = self.leave.send(Leaving { standing, keeps_seat, done });
    }
}

/// The player's document as a place where steps of transactions are taken, for as long as the keeper keeps it.
struct Home {
    shared: Arc<Shared>,
    world: WorldHandle<FrontInput>,
    player: u64,
    key: String,
    door: mpsc::Sender<Take>,
    takes: mpsc::Receiver<Take>,
    visited: Arc<AtomicBool>,
    carries: watch::Sender<Arc<Carried>>,
    /// The world was told of a change and has not looked since.
    told: Arc<AtomicBool>,
}

impl Home {
    fn open(
        shared: Arc<Shared>,
        world: WorldHandle<FrontInput>,
        player: u64,
        carries: watch::Sender<Arc<Carried>>,
        told: Arc<AtomicBool>,
    ) -> Home {
        let (door, takes) = mpsc::channel(TAKES);
        let key = player::key(player);
        shared.owners.hands.hold(&key, door.clone());
        Home { shared, world, player, key, door, takes, visited: Arc::default(), carries, told }
    }

    /// Tells the world what the player carries, if a step has changed that.
    async fn carry(&self, document: &PlayerDocument) {
        let before = self.carries.borrow().clone();
        if before.bag == document.bag && before.experience == document.experience {
            return;
        }
        self.carries.send_replace(Carried::of(document));
        if !self.told.swap(true, Ordering::AcqRel) {
            // False means that the world has ended.
            self.world.role(FrontInput::Carries(ObjectId(self.player))).await;
        }
    }

    /// Settles what transactions have left and keeps promises, unless that is going on already.
    fn visit(&self) {
        if self.visited.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, player, key) = (self.shared.clone(), self.player, self.key.clone());
        let (visited, world) = (self.visited.clone(), self.world.clone());
        self.shared.tasks.spawn(async move {
            let settled = shared.estate.settle(&key).await;
            let kept = promise::keep(&shared.estate, player).await;
            let kept = kept.map(|keeping| keeping.kept);
            for kept in kept.iter().flatten() {
                // False means that the world has ended.
                world.role(FrontInput::Noted(told(ObjectId(player), kept))).await;
            }
            if let Err(error) = settled.and(kept.map(drop)) {
                tracing::info!(player, %error, "promises wait for the next visit");
            }
            visited.store(false, Ordering::Release);
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Steps that wait are answered by nobody, and asked again of whoever has the document next.
        self.shared.owners.hands.let_go(&self.key, &self.door);
    }
}

async fn keep(
    mut home: Home,
    world: WorldHandle<FrontInput>,
    mut claimed: Claimed,
    mut orders: mpsc::Receiver<Order>,
    mut leaving: oneshot::Receiver<Leaving>,
) {
    let shared = home.shared.clone();
    let store = shared.store();
    home.visit();
    // When to look again whether the document is ours, if that could not be found out.
    let mut unsure: Option<Instant> = None;
    let leaving = loop {
        let again = unsure.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            // An error means that the world dropped the player without a word: it never came in.
            leaving = &mut leaving => break leaving.ok(),
            () = sleep_until(again), if unsure.is_some() => {
                match confirm(store, &mut claimed).await {
                    Some(true) => {
                        unsure = None;
                        sure(&world, &claimed).await;
                    }
                    Some(false) => return fenced(&shared, &world, &claimed).await,
                    None => unsure = Some(Instant::now() + PAUSE),
                }
            }
            order = orders.recv() => {
                let kept = match order {
                    Some(Order::Save(standing)) => {
                        home.visit();
                        save(&shared, store, &mut claimed, standing).await
                    }
                    Some(Order::Check) => {
                        unsure = Some(Instant::now());
                        true
                    }
                    Some(Order::Visit) => {
                        home.visit();
                        true
                    }
                    None => continue,
                };
                if !kept {
                    return fenced(&shared, &world, &claimed).await;
                }
            }
            Some(Take { step, reply }) = home.takes.recv() => {
                // Whoever asked has lost patience and asks again: what waited here is late, and would only hold up others.
                if reply.is_closed() {
                    continue;
                }
                let taken = player::take(&shared.estate, &mut claimed, &step).await;
                home.carry(&claimed.document).await;
                // An error means that whoever asked has given up.
                let _ = reply.send(taken);
                if claimed.over() {
                    return fenced(&shared, &world, &claimed).await;
                }
            }
        }
    };
    if let Some(Leaving { standing, keeps_seat, .. }) = leaving.as_ref().filter(|_| !planted::is("early_release")) {
        stand(&shared, &mut claimed, *standing);
        if !keeps_seat {
            claimed.document.seat.clear();
        }
    }
    let mut released = release(&shared, store, &mut claimed).await;
    if let Some(done) = leaving.and_then(|l| l.done) {
        let _ = done.send(());
    }
    // A document that names a living owner and has no keeper is out of reach of every transaction, and its last place and
    // steps are only here: so it is not left alone before it is released, or claimed by another.
    drop(home);
    while !released {
        // A node that is being emptied waits for its last documents, and clients wait elsewhere for their players.
        let pause = if shared.draining() { PAUSE } else { PAUSE_LATER };
        tokio::time::sleep(pause).await;
        released = release(&shared, store, &mut claimed).await;
    }
}

/// False if the document is not ours any more.
async fn save(shared: &Shared, store: &dyn Store, claimed: &mut Claimed, standing: Standing) -> bool {
    stand(shared, claimed, standing);
    let saved = player::save(store, claimed, Ack::Early).await;
    count(shared, &saved, "saved");
    match saved {
        Ok(()) => true,
        Err(PlayerError::Fenced { .. }) => false,
        Err(e) => {
            tracing::warn!(player = claimed.document.id, error = %e, "could not save a player's place; it is tried again");
            true
        }
    }
}

fn stand(shared: &Shared, claimed: &mut Claimed, standing: Standing) {
    let (document, Standing { island, place, health, floor, floor_s, turn }) = (&mut claimed.document, standing);
    document.seat.turn = document.seat.turn.max(turn);
    document.seat.until_s = shared.calendar.now_s() + SEAT_S;
    (document.island, document.x, document.y) = (island.0, place.x, place.y);
    (document.health, document.floor, document.floor_s) = (health, floor.max(document.floor), floor_s);
    document.floor = if planted::is("floor_not_kept") { 0 } else { document.floor };
}

fn count(shared: &Shared, saved: &Result<(), PlayerError>, well: &str) {
    let outcome = match saved {
        Ok(()) => well,
        Err(PlayerError::Fenced { .. }) => "fenced",
        Err(_) => "failed",
    };
    shared.metrics.saves.with_label_values(&[outcome]).inc();
}

/// Whether the document is ours; none if that cannot be found out now. A write, not a look: a claim that was decided while this
/// node was thought dead, and has not landed yet, never will.
async fn confirm(store: &dyn Store, claimed: &mut Claimed) -> Option<bool> {
    match player::save(store, claimed, Ack::Early).await {
        Ok(()) => Some(true),
        Err(PlayerError::Fenced { .. }) => Some(false),
        Err(_) => None,
    }
}

/// Tells the world that the player is ours.
async fn sure(world: &WorldHandle<FrontInput>, claimed: &Claimed) {
    let (player, epoch) = (ObjectId(claimed.document.id), Epoch(claimed.epoch()));
    // False means that the world has ended.
    world.role(FrontInput::Sure { player, epoch }).await;
}

/// False if the document may still be ours.
async fn release(shared: &Shared, store: &dyn Store, claimed: &mut Claimed) -> bool {
    for _ in 0..LAST_SAVES {
        let released = player::release(store, claimed).await;
        count(shared, &released, "released");
        match released {
            Ok(()) | Err(PlayerError::Fenced { .. }) => return true,
            Err(e) => tracing::warn!(player = claimed.document.id, error = %e, "could not release a player's document"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

/// Tells the world that the player is another's now, and why: its own session may go on elsewhere, or a newer one has it.
async fn fenced(shared: &Shared, world: &WorldHandle<FrontInput>, claimed: &Claimed) {
    let (player, epoch) = (ObjectId(claimed.document.id), Epoch(claimed.epoch()));
    let seat = &claimed.document.seat.session;
    let now = player::find(shared.store(), player.0).await.ok().flatten().map(|kept| kept.document.seat.session);
    let words = match now {
        Some(now) if !now.is_empty() && now != *seat => (codes::REPLACED, "a newer session has taken over"),
        _ => (codes::FENCED, "another node owns this player now"),
    };
    // False means that the world has ended.
    world.role(FrontInput::Fenced { player, epoch, words }).await;
}
