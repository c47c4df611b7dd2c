//! What befalls the nodes, drawn from the seed: one thing after the other, several at once, all of them undone by `heal`.
//!
//! Every kind is counted by name. A fault NEVER asks what people do; whether it met anything is for `sometimes` to tell.

use std::time::Duration;

use estate::store::memory::Rates;
use mesh::Role;
use mesh::directory::memory::Cut;
use mesh::transport::memory::Fault;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::time::Instant;

use super::cluster::{Cluster, Place};
use super::plan::{Plan, weighed};
use super::sometimes::Counts;

/// What a write and the reading after it, begun while the store stalls, may take after that, in simulated milliseconds.
const STALLED_MS: u64 = 4_000;

/// How long it takes until somebody notices that a process has ended by itself, in simulated milliseconds.
const STOPPED_MS: u64 = 1_500;

/// How long a lease and what follows from its end takes, in simulated milliseconds.
const BEYOND_LEASE_MS: u64 = 6_500;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $weight:literal),* $(,)?) => {
        /// What may befall the nodes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FaultKind {
            $($(#[$doc])* $kind),*
        }

        impl FaultKind {
            /// All of them, and how often each among the others.
            pub const ALL: &[(FaultKind, u32)] = &[$((FaultKind::$kind, $weight)),*];

            /// Its name in counts.
            pub fn name(self) -> &'static str {
                match self {
                    $(FaultKind::$kind => $name),*
                }
            }
        }
    };
}

kinds! {
    /// A process dies and starts again after a while.
    Kill "kill" 10,
    /// The process that somebody's battle, herd or player needs most dies.
    KillInBattle "kill_in_battle" 5,
    /// The steward's process dies.
    KillSteward "kill_steward" 2,
    /// A process stands still, less long than a lease.
    FreezeShort "freeze_short" 5,
    /// A process stands still beyond its lease.
    FreezeLong "freeze_long" 6,
    /// A process is told to leave, and another takes its place.
    Drain "drain" 8,
    /// All processes of a role are replaced, one after the other.
    Roll "rolling_replacement" 2,
    /// Nothing gets from one node to another.
    CutOneWay "cut_one_way" 10,
    /// Nothing gets from one node to another or back.
    CutBothWays "cut_both_ways" 6,
    /// Nothing gets to a node or from it.
    Isolate "isolate" 4,
    /// Messages vanish.
    Loss "loss" 8,
    /// Messages take their time, each another.
    Delay "delay" 6,
    /// A node cannot reach the directory.
    DirectoryCut "directory_cut" 5,
    /// The directory is there and says nothing.
    DirectorySilent "directory_silent" 4,
    /// Requests to the directory and its replies are lost.
    DirectoryLoss "directory_loss" 5,
    /// The directory's answers come late.
    DirectoryDelay "directory_delay" 3,
    /// A watch ends.
    WatchEnded "watch_ended" 4,
    /// The directory forgets its history, and ends all watches.
    Compaction "compaction" 3,
    /// A lease ends before its time.
    LeaseLost "lease_lost_early" 4,
    /// The store's replies are lost: nobody knows what happened.
    StoreReplies "store_replies_lost" 8,
    /// Writes land long after their writers gave up.
    StoreLate "store_late_writes" 5,
    /// The store takes its time.
    StoreStall "store_stall" 5,
    /// The store refuses.
    StoreRefuses "store_refuses" 4,
    /// Somebody touches documents all the time: compare-and-swap fails.
    StoreStorm "store_swap_storm" 5,
    /// A node cannot reach the store.
    StoreCut "store_cut" 5,
}

/// What ends when a fault's time is over.
#[derive(Clone, Copy, Debug)]
enum Cure {
    Way(usize, usize),
    Directory(usize),
    Store(usize),
    Thaw(usize),
    Revive(usize),
    Drain(usize),
}

/// Whoever makes the faults.
pub struct Nemesis {
    random: StdRng,
    plan: Plan,
    now_ms: u64,
    cures: Vec<(u64, Cure)>,
    counts: Counts,
    /// How many faults of each kind there were.
    pub faults: Counts,
}

impl Nemesis {
    /// No faults yet.
    pub fn new(plan: &Plan, counts: &Counts) -> Nemesis {
        let random = StdRng::seed_from_u64(plan.seed ^ 0x006e_656d);
        Nemesis {
            random,
            plan: plan.clone(),
            now_ms: 0,
            cures: Vec::new(),
            counts: counts.clone(),
            faults: Counts::default(),
        }
    }

    /// Between two faults, in simulated milliseconds.
    pub fn pause(&mut self) -> u64 {
        self.random.random_range(50..=self.plan.calm_ms)
    }

    /// Brings one fault.
    pub async fn strike(&mut self, cluster: &mut Cluster) {
        let Some(kind) = weighed(&mut self.random, &self.plan.faults) else { return };
        if self.befall(cluster, kind).await {
            tracing::info!(kind = kind.name(), at_ms = self.now_ms, "a fault");
            self.faults.add(kind.name());
        }
        let now = Instant::now();
        for (until, cure) in &self.cures {
            let (one, two, after_ms) = match cure {
                Cure::Way(from, to) => (*from, *to, 0),
                Cure::Directory(i) => (*i, *i, 0),
                Cure::Store(i) => (*i, *i, STALLED_MS),
                Cure::Thaw(_) | Cure::Revive(_) | Cure::Drain(_) => continue,
            };
            let until = now + Duration::from_millis(until.saturating_sub(self.now_ms) + after_ms);
            for place in [one, two] {
                let place = &mut cluster.places[place];
                place.troubled_until = place.troubled_until.max(Some(until));
            }
        }
    }

    /// Time has passed: what is over is cured.
    pub async fn pass(&mut self, cluster: &mut Cluster, ms: u64) {
        self.now_ms += ms;
        cluster.reap();
        for i in (0..cluster.places.len()).filter(|i| cluster.places[*i].life.is_none()) {
            if !self.cures.iter().any(|(_, cure)| matches!(cure, Cure::Revive(other) if *other == i)) {
                self.cures.push((self.now_ms + STOPPED_MS, Cure::Revive(i)));
            }
        }
        let (due, later) = self.cures.drain(..).partition(|(at, _)| *at <= self.now_ms);
        self.cures = later;
        for (_, cure) in due {
            self.cure(cluster, cure).await;
        }
    }

    /// Cures everything, and starts whoever is dead.
    pub async fn heal(&mut self, cluster: &mut Cluster) {
        self.heal_the_living(cluster).await;
        self.restore(cluster).await;
    }

    /// Cures everything but death.
    pub async fn heal_the_living(&mut self, cluster: &mut Cluster) {
        for (_, cure) in std::mem::take(&mut self.cures) {
            if !matches!(cure, Cure::Drain(_) | Cure::Revive(_)) {
                self.cure(cluster, cure).await;
            }
        }
        cluster.network.heal();
        for i in 0..cluster.places.len() {
            cluster.places[i].troubled_until = Some(Instant::now());
            for cure in [Cure::Directory(i), Cure::Store(i), Cure::Thaw(i)] {
                self.cure(cluster, cure).await;
            }
        }
    }

    /// Somebody dies. Says who else is to be blind to it; nothing if too few live.
    pub fn die(&mut self, cluster: &mut Cluster) -> Option<usize> {
        cluster.reap();
        let mut alive: Vec<usize> =
            (0..cluster.places.len()).filter(|i| cluster.places[*i].awake().is_some()).collect();
        if alive.len() < 3 {
            return None;
        }
        let dies = alive.swap_remove(self.random.random_range(0..alive.len()));
        tracing::info!(who = cluster.places[dies].name, "dies, and nobody takes its place");
        cluster.kill(dies);
        self.counts.add("died_unseen");
        Some(alive[self.random.random_range(0..alive.len())])
    }

    /// A node cannot reach the directory for so long.
    pub fn blind(&mut self, cluster: &mut Cluster, i: usize, ms: u64) {
        let place = &mut cluster.places[i];
        tracing::info!(who = place.name, "cannot reach the directory");
        place.client.cut(Cut::Refused);
        place.troubled_until = Some(Instant::now() + Duration::from_millis(ms));
    }

    /// Starts whoever has left meanwhile.
    pub async fn restore(&mut self, cluster: &mut Cluster) {
        cluster.reap();
        for i in 0..cluster.places.len() {
            self.cure(cluster, Cure::Revive(i)).await;
        }
    }

    /// False if there is nothing that it could befall.
    async fn befall(&mut self, cluster: &mut Cluster, kind: FaultKind) -> bool {
        let count = cluster.places.len();
        let (one, two) = (self.random.random_range(0..count), self.random.random_range(0..count));
        tracing::debug!(one = cluster.places[one].name, two = cluster.places[two].name, "chosen for a fault");
        let until = self.now_ms + self.random.random_range(200..=self.plan.longest_ms);
        let long = until.max(self.now_ms + BEYOND_LEASE_MS);
        match kind {
            FaultKind::Kill => self.kill(cluster, one, until),
            FaultKind::KillInBattle => {
                let Some(place) = self.in_battle(cluster).await else { return false };
                self.counts.add("member_died_in_battle");
                self.kill(cluster, place, until)
            }
            FaultKind::KillSteward => {
                let Some(place) = steward(cluster) else { return false };
                self.counts.add("steward_died");
                self.kill(cluster, place, until)
            }
            FaultKind::FreezeShort => self.freeze(cluster, one, until.min(self.now_ms + 3_000)),
            FaultKind::FreezeLong => self.freeze(cluster, one, long),
            FaultKind::Drain => self.drain(cluster, one).await,
            FaultKind::Roll => {
                let role = cluster.places[one].role;
                let all = (0..count).filter(|i| cluster.places[*i].role == role);
                let turns = all.enumerate().map(|(turn, i)| (self.now_ms + turn as u64 * 3_000, Cure::Drain(i)));
                self.cures.extend(turns.collect::<Vec<_>>());
                true
            }
            FaultKind::CutOneWay => self.way(cluster, one, two, Fault::CUT, until),
            FaultKind::CutBothWays => {
                self.way(cluster, one, two, Fault::CUT, until) && self.way(cluster, two, one, Fault::CUT, until)
            }
            FaultKind::Isolate => {
                for other in 0..count {
                    self.way(cluster, one, other, Fault::CUT, until);
                    self.way(cluster, other, one, Fault::CUT, until);
                }
                true
            }
            FaultKind::Loss => {
                let loss = Fault { loss_per_mille: self.random.random_range(20..300), ..Fault::NONE };
                self.way(cluster, one, two, loss, until)
            }
            FaultKind::Delay => {
                let delay = Fault::delay(self.random.random_range(1..200), self.random.random_range(0..400));
                self.way(cluster, one, two, delay, until)
            }
            FaultKind::DirectoryCut => {
                cluster.places[one].client.cut(Cut::Refused);
                self.cure_at(until, Cure::Directory(one))
            }
            FaultKind::DirectorySilent => {
                cluster.places[one].client.cut(Cut::Silent);
                self.cure_at(until, Cure::Directory(one))
            }
            FaultKind::DirectoryLoss => {
                cluster.places[one].client.lose_by_chance(100, 150);
                self.cure_at(until, Cure::Directory(one))
            }
            FaultKind::DirectoryDelay => {
                cluster.places[one].client.delay(1, 400);
                self.cure_at(until, Cure::Directory(one))
            }
            FaultKind::WatchEnded => {
                cluster.places[one].client.end_watches("cancelled by the simulation");
                true
            }
            FaultKind::Compaction => {
                cluster.directory.compact();
                cluster.directory.end_watches();
                true
            }
            FaultKind::LeaseLost => cluster.lose_lease(one),
            _ => self.trouble_store(cluster, kind, one, until),
        }
    }

    fn trouble_store(&mut self, cluster: &mut Cluster, kind: FaultKind, one: usize, until: u64) -> bool {
        let deadline = Duration::from_millis(self.random.random_range(50..800));
        let calm = Rates { delay: Duration::from_millis(3), deadline, ..Rates::default() };
        let rates = match kind {
            FaultKind::StoreReplies => Rates { lose_request: 60, lose_reply: 150, ..calm },
            FaultKind::StoreLate => Rates { late: 150, late_by: Duration::from_secs(4), ..calm },
            FaultKind::StoreStall => Rates { delay: Duration::from_millis(1_500), ..calm },
            FaultKind::StoreRefuses => Rates { refuse: 300, ..calm },
            FaultKind::StoreStorm => Rates { storm: 300, ..calm },
            _ => {
                cluster.places[one].store.unreachable(true);
                return self.cure_at(until, Cure::Store(one));
            }
        };
        let everybody = self.random.random_ratio(1, 3);
        for i in (0..cluster.places.len()).filter(|i| everybody || *i == one) {
            cluster.places[i].store.random(self.random.next_u64(), rates);
            self.cures.push((until, Cure::Store(i)));
        }
        true
    }

    fn kill(&mut self, cluster: &mut Cluster, i: usize, until: u64) -> bool {
        if cluster.places[i].life.is_none() {
            return false;
        }
        cluster.kill(i);
        self.cure_at(until, Cure::Revive(i))
    }

    fn freeze(&mut self, cluster: &mut Cluster, i: usize, until: u64) -> bool {
        if cluster.places[i].awake().is_none() {
            return false;
        }
        cluster.freeze(i, true);
        self.cure_at(until, Cure::Thaw(i))
    }

    async fn drain(&mut self, cluster: &mut Cluster, i: usize) -> bool {
        let role = cluster.places[i].role;
        let Some(life) = cluster.places[i].awake() else { return false };
        if life.draining.has_begun() {
            return false;
        }
        let busy = life.look(|world| (world.reals().count(), world.reals().any(|real| fights(real.view())))).await;
        match busy {
            Some((_, true)) => self.counts.add("drained_with_a_fight"),
            Some((1.., _)) if role == Role::Frontend => self.counts.add("drained_with_players"),
            _ => {}
        }
        self.counts.add("drained");
        cluster.drain(i);
        // When it has gone, somebody takes its place: see `pass`.
        true
    }

    fn way(&mut self, cluster: &Cluster, from: usize, to: usize, fault: Fault, until: u64) -> bool {
        if from == to {
            return false;
        }
        cluster.network.set_fault(&cluster.places[from].name, &cluster.places[to].name, fault);
        self.cure_at(until, Cure::Way(from, to))
    }

    fn cure_at(&mut self, until: u64, cure: Cure) -> bool {
        self.cures.push((until, cure));
        true
    }

    async fn cure(&mut self, cluster: &mut Cluster, cure: Cure) {
        match cure {
            Cure::Way(from, to) => {
                let calm = match self.plan.delay_ms {
                    0 => Fault::NONE,
                    delay => Fault::delay(delay, delay / 2),
                };
                cluster.network.set_fault(&cluster.places[from].name, &cluster.places[to].name, calm);
            }
            Cure::Directory(i) => {
                let client = &cluster.places[i].client;
                client.heal();
                client.lose_by_chance(0, 0);
                client.delay(0, 0);
            }
            Cure::Store(i) => cluster.well(i),
            Cure::Thaw(i) => {
                let lost = cluster.places[i].life.as_ref().is_some_and(|life| !life.mesh.lease().holds());
                if cluster.places[i].frozen.is_some() && lost {
                    self.counts.add("thawed_beyond_the_lease");
                }
                cluster.freeze(i, false);
            }
            Cure::Drain(i) => drop(self.drain(cluster, i).await),
            Cure::Revive(i) => {
                // A node that cannot start is missed by the checks.
                if let Err(e) = cluster.revive(i).await {
                    tracing::error!("{} did not start: {e:#}", cluster.places[i].name);
                }
            }
        }
    }

    /// A node that somebody in a battle depends on.
    async fn in_battle(&mut self, cluster: &Cluster) -> Option<usize> {
        let mut busy = Vec::new();
        for (i, place) in cluster.places.iter().enumerate() {
            let Some(life) = place.awake() else { continue };
            if life.look(|world| world.reals().any(|real| fights(real.view()))).await == Some(true) {
                busy.push(i);
            }
        }
        (!busy.is_empty()).then(|| busy[self.random.random_range(0..busy.len())])
    }
}

fn fights(view: &nodes::game::View) -> bool {
    use nodes::game::{kind, pose};
    view.kind == kind::BATTLE || (matches!(view.kind, kind::PLAYER | kind::ANIMAL) && view.pose == pose::FIGHTS)
}

/// The place of the steward, if there is one.
pub fn steward(cluster: &Cluster) -> Option<usize> {
    let key = nodes::election::key(&Cluster::district(), "steward");
    let entry = cluster.directory.peek(&key).into_iter().find(|entry| entry.key == key)?;
    let office: nodes::steward::office::Office = serde_json::from_slice(&entry.value).ok()?;
    let runs = |place: &Place| place.name == office.node && place.life.is_some();
    cluster.places.iter().position(runs)
}
