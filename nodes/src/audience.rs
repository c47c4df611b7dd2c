//! The audience: which cells players see, as frontends tell it to those who wake something there.
//!
//! On a frontend a [`lookout`] tells every zoo and garden of its district what has come into sight and what has gone, a few
//! times a second, and all of it whenever something was missed. On the other side an [`Audience`] keeps what each frontend
//! said and gives out the union. What comes twice or late changes nothing; a frontend that the directory has removed sees
//! nothing, and what it still says is not taken until the directory has it again. The frontend need not learn that it was
//! removed for a while, so it tells now and then that nothing has changed, and is asked for all if that is not so. It NEVER
//! decides who owns anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cartographer::geometry::Cell;
use mesh::{CallRefusal, Incarnation, IncomingCall, Mesh, NodeId, Role};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::methods::living::{WATCH_CELLS, Watch};
use crate::methods::{pack, unpack};
use crate::world_loop::WorldReport;

/// How often a frontend looks whether something is to be told.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A peer that was told nothing for so long is told that nothing has changed: it may have forgotten all of it, because for a
/// while the directory did not show this node to it. Shorter than anything stays awake that nobody sees.
const REMIND_EVERY: Duration = Duration::from_secs(2);

/// How long what has gone out of sight is told as if it were seen: a player who goes from one frontend to another, or comes
/// back at once, finds everything as it was. Without it things vanish and come again under the player's hands.
const LINGER: Duration = Duration::from_secs(2);

/// Messages to one peer between two losses of sight, as a power of two: more than a life has quarters of a second.
const AGAIN_BITS: u32 = 40;

/// Cells that one frontend may watch, at most: more than its players can see.
const CELLS: usize = 100_000;

/// What the players of all frontends see.
#[derive(Clone)]
pub struct Audience(Arc<Inner>);

struct Inner {
    frontends: Mutex<BTreeMap<Incarnation, Frontend>>,
    /// The lives that the directory has.
    lives: Mutex<BTreeSet<Incarnation>>,
    union: watch::Sender<Arc<BTreeSet<Cell>>>,
}

#[derive(Default)]
struct Frontend {
    seq: u64,
    cells: BTreeSet<Cell>,
}

impl Default for Audience {
    fn default() -> Audience {
        Audience(Arc::new(Inner {
            frontends: Mutex::default(),
            lives: Mutex::default(),
            union: watch::Sender::new(Arc::default()),
        }))
    }
}

impl Audience {
    /// The cells that somebody sees, as they change.
    pub fn cells(&self) -> watch::Receiver<Arc<BTreeSet<Cell>>> {
        self.0.union.subscribe()
    }

    /// Answers a [`WATCH_CELLS`]. What comes from a life that is over, late, would be believed for ever: it is not taken.
    pub fn answer(&self, call: IncomingCall) {
        let told = match self.lives().contains(&call.incarnation) {
            true => unpack::<Watch>(&call.body).and_then(|watch| self.told(call.incarnation, watch)),
            false => Err(CallRefusal::new("again", "the directory does not show this frontend")),
        };
        call.answer(told.map(|()| bytes::Bytes::new()));
    }

    /// These lives the directory has now: frontends that it had and has no longer see nothing.
    pub fn living(&self, lives: BTreeSet<Incarnation>) {
        let before = std::mem::replace(&mut *self.lives(), lives.clone());
        before.difference(&lives).for_each(|life| self.gone(*life));
    }

    fn lives(&self) -> MutexGuard<'_, BTreeSet<Incarnation>> {
        self.0.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life of a frontend is over, for the directory.
    pub fn gone(&self, frontend: Incarnation) {
        let mut frontends = self.lock();
        if frontends.remove(&frontend).is_some() {
            self.unite(&frontends);
        }
    }

    /// Takes what a frontend said.
    pub fn told(&self, from: Incarnation, watch: Watch) -> Result<(), CallRefusal> {
        let mut frontends = self.lock();
        let frontend = frontends.entry(from).or_default();
        if watch.whole {
            if watch.seq <= frontend.seq {
                // Late: something newer has been said already.
                return Ok(());
            }
            frontend.cells.clear();
        } else if watch.seq == frontend.seq {
            // The answer was lost and it is said again.
            return Ok(());
        } else if watch.seq != frontend.seq + 1 {
            return Err(CallRefusal::new("again", "something was missed: all of it is wanted"));
        }
        frontend.seq = watch.seq;
        if !watch.whole && watch.added.is_empty() && watch.removed.is_empty() {
            // Said only to find out whether anything was missed.
            return Ok(());
        }
        for cell in &watch.removed {
            frontend.cells.remove(cell);
        }
        frontend.cells.extend(watch.added);
        if frontend.cells.len() > CELLS {
            frontends.remove(&from);
            return Err(CallRefusal::new("again", format!("more than {CELLS} cells")));
        }
        self.unite(&frontends);
        Ok(())
    }

    fn unite(&self, frontends: &BTreeMap<Incarnation, Frontend>) {
        let union: BTreeSet<Cell> = frontends.values().flat_map(|f| f.cells.iter().copied()).collect();
        self.0.union.send_if_modified(|cells| {
            let new = **cells != union;
            if new {
                *cells = Arc::new(union);
            }
            new
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Incarnation, Frontend>> {
        self.0.frontends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an audience to the frontends that the directory has, until the node stops.
pub async fn follow(mesh: Mesh, audience: Audience) {
    let mut peers = mesh.watch_peers();
    loop {
        let lives = peers.borrow_and_update().iter().map(|peer| peer.record.incarnation).collect();
        audience.living(lives);
        if peers.changed().await.is_err() {
            return;
        }
    }
}

/// What a peer has been told.
struct Told {
    life: Incarnation,
    seq: u64,
    cells: BTreeSet<Cell>,
    whole: bool,
    /// When it last took what it was told.
    at: Instant,
}

/// Tells every zoo and garden what this frontend's players see, until the node stops.
pub async fn lookout(
    mesh: Mesh,
    report: watch::Receiver<Arc<WorldReport>>,
    sees: watch::Receiver<Arc<BTreeSet<Cell>>>,
) {
    let mut told: BTreeMap<NodeId, Told> = BTreeMap::new();
    // Whoever is told anew, because it was lost from sight, is told under higher numbers than ever before.
    let mut begun: u64 = 0;
    let mut last_seen: BTreeMap<Cell, Instant> = BTreeMap::new();
    loop {
        sleep(LOOK_EVERY).await;
        if report.has_changed().is_err() {
            return;
        }
        let now = Instant::now();
        last_seen.extend(sees.borrow().iter().map(|cell| (*cell, now)));
        last_seen.retain(|_, at| now.duration_since(*at) < LINGER);
        let cells: Arc<BTreeSet<Cell>> = Arc::new(last_seen.keys().copied().collect());
        let peers = mesh.peers();
        let wakers = peers.up(Role::Zoo).chain(peers.up(Role::Garden));
        let wakers: Vec<(NodeId, Incarnation)> =
            wakers.map(|peer| (peer.record.node.clone(), peer.record.incarnation)).collect();
        told.retain(|node, told| wakers.iter().any(|(id, life)| id == node && *life == told.life));
        let round = wakers.into_iter().map(|(node, life)| {
            let before = told.remove(&node).unwrap_or_else(|| {
                begun += 1;
                Told { life, seq: begun << AGAIN_BITS, cells: BTreeSet::new(), whole: true, at: now }
            });
            tell(&mesh, node, before, cells.clone())
        });
        let said = futures_util::future::join_all(round).await;
        told.extend(said);
    }
}

async fn tell(mesh: &Mesh, node: NodeId, mut told: Told, cells: Arc<BTreeSet<Cell>>) -> (NodeId, Told) {
    if !told.whole && told.cells == *cells && told.at.elapsed() < REMIND_EVERY {
        return (node, told);
    }
    let before = if told.whole { BTreeSet::new() } else { std::mem::take(&mut told.cells) };
    let added = cells.difference(&before).copied().collect();
    let removed = before.difference(&cells).copied().collect();
    let watch = Watch { seq: told.seq + 1, whole: told.whole, added, removed };
    match mesh.call(&node, &WATCH_CELLS, pack(&watch)).await {
        Ok(_) => (told.seq, told.cells, told.whole, told.at) = (watch.seq, (*cells).clone(), false, Instant::now()),
        // It may or may not have come: all of it is told again, under a later number.
        Err(_) => (told.seq, told.whole) = (watch.seq, true),
    }
    (node, told)
}

#[cfg(test)]
mod tests {
    use cartographer::geometry::IslandId;

    use super::*;

    fn cell(x: u16) -> Cell {
        Cell::new(IslandId(1), x, 0)
    }

    fn watch(seq: u64, whole: bool, added: &[u16], removed: &[u16]) -> Watch {
        let cells = |xs: &[u16]| xs.iter().map(|x| cell(*x)).collect();
        Watch { seq, whole, added: cells(added), removed: cells(removed) }
    }

    #[test]
    fn what_frontends_say_is_united_and_a_gap_asks_for_all() {
        let audience = Audience::default();
        let cells = audience.cells();
        let seen = || cells.borrow().iter().map(|cell| cell.x).collect::<Vec<_>>();
        let (one, two) = (Incarnation(1), Incarnation(2));
        audience.told(one, watch(1, true, &[1, 2], &[])).expect("all of it");
        audience.told(two, watch(7, true, &[2, 3], &[])).expect("all of it");
        assert_eq!(seen(), [1, 2, 3]);
        audience.told(one, watch(2, false, &[4], &[1])).expect("the next");
        audience.told(one, watch(2, false, &[4], &[1])).expect("the same again");
        assert_eq!(seen(), [2, 3, 4]);
        let missed = audience.told(one, watch(4, false, &[9], &[])).expect_err("one is missing");
        assert_eq!((missed.code.as_str(), seen()), ("again", vec![2, 3, 4]));
        audience.told(one, watch(5, true, &[9], &[])).expect("all of it");
        audience.gone(two);
        assert_eq!(seen(), [9]);
        audience.told(one, watch(6, false, &[], &[])).expect("nothing was missed");
        audience.gone(one);
        let forgotten = audience.told(one, watch(7, false, &[], &[])).expect_err("all of it was");
        assert_eq!((forgotten.code.as_str(), seen()), ("again", vec![]));
    }

    #[test]
    fn what_comes_twice_or_late_changes_nothing() {
        let audience = Audience::default();
        let cells = audience.cells();
        let seen = || cells.borrow().iter().map(|cell| cell.x).collect::<Vec<_>>();
        let one = Incarnation(1);
        audience.told(one, watch(5, true, &[1], &[])).expect("all of it");
        audience.told(one, watch(6, true, &[2], &[])).expect("all of it, because an answer was lost");
        for late in [watch(5, true, &[1], &[]), watch(6, true, &[7], &[]), watch(6, false, &[8], &[])] {
            audience.told(one, late).expect("known already");
            assert_eq!(seen(), [2]);
        }
        audience.told(one, watch(7, false, &[3], &[])).expect("the next");
        assert_eq!(seen(), [2, 3]);
    }

    #[tokio::test]
    async fn what_a_frontend_says_that_the_directory_does_not_have_is_not_taken() {
        let audience = Audience::default();
        let cells = audience.cells();
        let say = async |seq: u64| {
            let node = NodeId::new("frontend-1").expect("a name");
            let (call, mut answer) = IncomingCall::pretend(node, WATCH_CELLS.name, pack(&watch(seq, true, &[1], &[])));
            let life = call.incarnation;
            audience.answer(call);
            (life, answer.recv().await.expect("an answer").result.map_err(|refusal| refusal.code))
        };
        let (life, told) = say(1).await;
        assert_eq!((told, cells.borrow().len()), (Err("again".to_owned()), 0), "not there yet");
        audience.living(BTreeSet::from([life]));
        assert_eq!((say(2).await.1, cells.borrow().len()), (Ok(bytes::Bytes::new()), 1));
        audience.living(BTreeSet::new());
        assert_eq!(cells.borrow().len(), 0, "it is dead and sees nothing");
        assert_eq!((say(3).await.1, cells.borrow().len()), (Err("again".to_owned()), 0), "nor does its last word");
        // It was only out of reach, and is back in the same life.
        audience.living(BTreeSet::from([life]));
        assert_eq!((say(4).await.1, cells.borrow().len()), (Ok(bytes::Bytes::new()), 1));
    }
}
