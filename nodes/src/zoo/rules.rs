//! The zoo's rules: which habitats are awake, when they are saved and fall asleep, and the minds' turn in every tick.
//!
//! Runs inside the world loop, synchronously. Posts are claimed and saved by keepers, calls run in flows; both come back as
//! inputs. A habitat that is not watched has nothing here: what sleeps NEVER costs a tick anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cartographer::geometry::{Cell, ObjectId};
use cartographer::world::{CellFrame, TickOutput};
use mesh::{Incarnation, PeerTable, Role};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::watch;

use super::deaths::Deaths;
use super::dens::{Dens, Moment};
use super::fights::Fights;
use super::gauges::Gauges;
use super::habitats::{self, HabitatId, Part};
use super::keeper;
use super::moves::Moves;
use super::sights::Sights;
use super::stages::{Claiming, Stage};
use super::{Shared, ZooInput};
use crate::draining::takes_work;
use crate::game::GameWorld;
use crate::game::minds::Minds;
use crate::game::minds::lore::Lore;
use crate::metrics::Metrics;
use crate::world_loop::{Rules, WorldHandle};

/// Animals that are awake on one zoo, at most: habitats beyond them stay asleep until others have fallen asleep.
pub(super) const ANIMALS: usize = 50_000;
/// Threads that share the thoughts of a tick, at most.
const THREADS: usize = 4;
/// How often a zoo looks at what is not told by an event, in milliseconds.
pub(super) const SECOND_MS: u64 = 1_000;
/// How often a habitat that is awake is saved, in milliseconds.
pub(super) const SAVE_MS: u64 = 30_000;
/// How long a habitat stays awake that nobody watches, in milliseconds.
const LINGER_MS: u64 = 5_000;
/// A habitat that could not be claimed is tried again after so many milliseconds; more and more, up to the second number, while
/// another zoo has it that lives. When a zoo is gone for the directory all are tried again at once.
pub(super) const CLAIM_AGAIN_MS: u64 = 2_000;
pub(super) const CLAIM_LATER_MS: u64 = 32_000;
/// Claims under way, at most.
const CLAIMS: usize = 32;

/// The rules of a zoo.
pub(super) struct ZooRules {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: WorldHandle<ZooInput>,
    pub(super) minds: Minds,
    pub(super) dens: Dens,
    pub(super) fights: Fights,
    pub(super) sights: Sights,
    pub(super) counts: Gauges,
    pub(super) random: StdRng,
    audience: watch::Receiver<Arc<BTreeSet<Cell>>>,
    peers: watch::Receiver<Arc<PeerTable>>,
    pub(super) deaths: Deaths,
    pub(super) moves: Moves,
    pub(super) stages: BTreeMap<HabitatId, Stage>,
    /// Habitats that players see.
    pub(super) seen: BTreeSet<HabitatId>,
    /// The lives of zoos that the directory has.
    lives: BTreeSet<Incarnation>,
    /// The gaps of the lease after which every habitat's post was asked.
    pub(super) gaps: u64,
    /// Habitats of which it is not known, since the last gap, whether they are still ours.
    pub(super) unsure: BTreeSet<HabitatId>,
    /// What was dropped since the last tick is not to be told.
    pub(super) hush: bool,
    /// Counts saves and questions.
    pub(super) numbers: u64,
    /// Our parts in them.
    parts: BTreeMap<HabitatId, Part>,
    /// The cells that our world watches for each habitat.
    watched: BTreeMap<HabitatId, Vec<Cell>>,
    second_at: u64,
    pub(super) leaving: bool,
}

impl ZooRules {
    pub(super) fn new(
        shared: Arc<Shared>,
        handle: WorldHandle<ZooInput>,
        audience: watch::Receiver<Arc<BTreeSet<Cell>>>,
        metrics: &Metrics,
        secret: [u8; 32],
    ) -> ZooRules {
        let mut random = StdRng::from_seed(secret);
        let lore = Arc::new(Lore::new(&shared.content));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let minds = Minds::new(lore, random.next_u64(), threads);
        let peers = shared.mesh.watch_peers();
        let counts = Gauges::new(metrics);
        counts.most.set(ANIMALS as i64);
        ZooRules {
            shared,
            handle,
            minds,
            dens: Dens::default(),
            fights: Fights::default(),
            sights: Sights::default(),
            counts,
            random,
            audience,
            peers,
            deaths: Deaths::default(),
            moves: Moves::default(),
            stages: BTreeMap::new(),
            seen: BTreeSet::new(),
            lives: BTreeSet::new(),
            gaps: 0,
            unsure: BTreeSet::new(),
            hush: false,
            numbers: 0,
            parts: BTreeMap::new(),
            watched: BTreeMap::new(),
            second_at: 0,
            leaving: false,
        }
    }

    pub(super) fn moment(&self, now: u64) -> Moment {
        Moment { now, now_s: self.shared.calendar.now_s() }
    }

    /// Whether this zoo surely owns what it took for its own when it last looked.
    pub(super) fn is_sure(&self) -> bool {
        let lease = self.shared.mesh.lease();
        lease.holds() && lease.gaps() == self.gaps
    }

    /// Whether this zoo may act for an animal.
    pub(super) fn may_act(&self, animal: ObjectId) -> bool {
        let stage = self.dens.of(animal).and_then(|id| self.stages.get(&id));
        self.is_sure() && stage.is_some_and(|stage| stage.sure().is_some())
    }

    /// Finds out which habitats are seen, and what our part in them is.
    pub(super) fn look(&mut self, world: &mut GameWorld, now: u64) {
        let cells = self.audience.borrow_and_update().clone();
        let peers = self.peers.borrow_and_update().clone();
        self.sights.learn(&peers, now);
        let is_zoo = |peer: &&mesh::PeerInfo| peer.record.role == Role::Zoo;
        let lives: BTreeSet<Incarnation> = peers.iter().filter(is_zoo).map(|peer| peer.record.incarnation).collect();
        let somebody_died = self.lives.difference(&lives).next().is_some();
        self.lives = lives;
        if somebody_died {
            self.try_again(now);
        }
        let shared = &self.shared;
        let me = &shared.mesh.me().node;
        let mut zoos = takes_work(&peers, Role::Zoo);
        if !self.leaving && !shared.draining.has_begun() {
            zoos.push(me.clone());
        }
        self.seen = habitats::watched(&cells, |id| shared.terrain(id));
        self.parts = habitats::parts(&self.seen, &zoos, me);
        for (id, stage) in &mut self.stages {
            if let Stage::Awake(awake) = stage {
                let watched = self.seen.contains(id);
                awake.unwatched_since = if watched { None } else { awake.unwatched_since.or(Some(now)) };
            }
        }
        self.claim(now);
        self.watch(world);
    }

    /// Claims the habitats that are ours to look after and not awake yet.
    pub(super) fn claim(&mut self, now: u64) {
        if !self.is_sure() || self.leaving {
            return;
        }
        let mut claiming = self.stages.values().filter(|stage| matches!(stage, Stage::Claiming(_))).count();
        let (mut animals, mut crowded_out) = (self.dens.animals(), 0);
        let expected: Vec<HabitatId> = self.moves.expected().collect();
        let is_ours = |part: Part| part == Part::First || planted::is("habitat_woken_twice");
        let ours = self.parts.iter().filter(|(_, part)| is_ours(**part)).map(|(id, _)| (*id, false));
        for (id, handed) in expected.into_iter().map(|id| (id, true)).chain(ours) {
            let pause_ms = match self.stages.get(&id) {
                None => 0,
                Some(Stage::Refused(refused)) if handed || now >= refused.again => refused.pause_ms,
                Some(_) => continue,
            };
            if claiming >= CLAIMS {
                break;
            }
            let Some(terrain) = self.shared.terrain(id.island) else { continue };
            let Some(habitat) = terrain.habitats().get(usize::from(id.index)) else { continue };
            if self.minds.lore().number(&habitat.species).is_none() {
                continue;
            }
            if animals + usize::from(habitat.animals) > ANIMALS {
                crowded_out += 1;
                continue;
            }
            animals += usize::from(habitat.animals);
            claiming += 1;
            self.stages.insert(id, Stage::Claiming(Claiming { gaps: self.gaps, pause_ms }));
            self.shared.tasks.spawn(keeper::keep(self.shared.clone(), self.handle.clone(), id, handed));
        }
        self.counts.crowded_out.set(crowded_out);
    }

    /// Has the world see the cells of all habitats in which we have a part, and no others.
    fn watch(&mut self, world: &mut GameWorld) {
        let wanted: BTreeSet<HabitatId> = self.parts.keys().chain(self.stages.keys()).copied().collect();
        for id in &wanted {
            if !self.watched.contains_key(id)
                && let Some(terrain) = self.shared.terrain(id.island)
            {
                let cells = habitats::cells(&terrain, *id);
                world.watch_cells(cells.iter().copied());
                self.watched.insert(*id, cells);
            }
        }
        self.watched.retain(|id, cells| {
            let stays = wanted.contains(id);
            if !stays {
                world.unwatch_cells(cells.iter().copied());
            }
            stays
        });
    }

    /// What is done once a second.
    fn every_second(&mut self, world: &mut GameWorld, now: u64) {
        let at = self.moment(now);
        if self.is_sure() && !self.leaving {
            self.counts.born.add(self.dens.replace_dead(world, &mut self.minds, at) as i64);
        }
        if self.is_sure() {
            self.watch_battles(world, now);
            self.tend(world, now);
        }
        let (minds, stages, parts) = (&self.minds, &mut self.stages, &self.parts);
        stages.retain(|id, stage| !matches!(stage, Stage::Refused(_)) || parts.contains_key(id));
        self.fights.retain(|animal| minds.get(animal).is_some());
        self.tell();
    }

    /// Saves what is due, puts to sleep what nobody sees, and asks again for what it is not known whose it is.
    fn tend(&mut self, world: &mut GameWorld, now: u64) {
        let (mut over, mut due) = (Vec::new(), Vec::new());
        for (id, stage) in &mut self.stages {
            let Stage::Awake(awake) = stage else { continue };
            if let Some(number) = awake.doubt {
                awake.keeper.check(number);
                continue;
            }
            let sunk = self.shared.terrain(id.island).is_none();
            let unseen = awake.unwatched_since.is_some_and(|since| now >= since + LINGER_MS);
            if sunk || (unseen && !self.leaving && !self.deaths.any(*id)) {
                over.push(*id);
            } else if now >= awake.save_at {
                due.push(*id);
            }
        }
        due.into_iter().for_each(|id| self.save(world, now, id));
        over.into_iter().for_each(|id| self.put_to_sleep(world, now, id, None));
        self.save_deaths(world, now);
    }

    fn tell(&self) {
        let counts = self.minds.counts();
        self.counts.habitats.set(self.dens.len() as i64);
        self.counts.animals.set(self.minds.len() as i64);
        self.counts.decisions.set(counts.decisions as i64);
        self.counts.alarms.set(counts.alarms as i64);
        self.counts.fighting.set(self.fights.len() as i64);
    }
}

impl Rules for ZooRules {
    type Input = ZooInput;

    fn input(&mut self, world: &mut GameWorld, now: u64, input: ZooInput) {
        match input {
            ZooInput::Claimed(claimed) => self.claimed(world, now, *claimed),
            ZooInput::NotClaimed(id, why) => self.not_claimed(now, id, why),
            ZooInput::Checked { id, epoch, number } => self.checked(id, epoch, number),
            ZooInput::Saved { id, epoch, number } => self.saved(world, now, (id, epoch), number),
            ZooInput::Unsaved(id, epoch) => self.unsaved(now, id, epoch),
            ZooInput::Fenced(id, epoch) => self.drop_at_once(world, now, id, epoch),
            ZooInput::Released { id, epoch, given_up } => self.released(world, now, (id, epoch), given_up),
            ZooInput::HandedOn(id, epoch, to) => self.handed_on(now, id, epoch, to),
            ZooInput::Call(call) => self.call(world, now, call),
            ZooInput::Opened { animal, battle, sure, node } => {
                let entered = self.opened(world, now, animal, battle.filter(|_| sure));
                if let Some(battle) = battle.filter(|battle| entered != Some(*battle)) {
                    self.not_in(animal, battle, node);
                }
            }
            ZooInput::Resumed { battle, over } => self.resumed(world, now, battle, over),
            ZooInput::Rejoined { animal, battle, over } => self.rejoined(world, now, animal, battle, over),
            ZooInput::Struck { hunter, killed } => self.blow_landed(now, hunter, killed),
            // An error means that nobody waits any more.
            ZooInput::Leave(reply) => drop(reply.send(self.leave(world, now))),
        }
    }

    fn ticked(&mut self, world: &mut GameWorld, now: u64, out: &TickOutput, _: Vec<CellFrame>) {
        self.hush = false;
        let lease = self.shared.mesh.lease();
        if lease.holds() && lease.gaps() != self.gaps {
            self.recheck(world, now);
        }
        for id in out.fenced.iter().filter_map(|object| self.dens.of(*object)).collect::<BTreeSet<_>>() {
            self.check(id, false);
        }
        let second = now >= self.second_at;
        let changed = |told: Result<bool, watch::error::RecvError>| told.unwrap_or(false);
        if second || changed(self.audience.has_changed()) || changed(self.peers.has_changed()) {
            self.look(world, now);
        }
        if second {
            self.second_at = now + SECOND_MS;
            self.every_second(world, now);
        }
        self.mourn(now);
        self.watch_moves(world, now);
        // The lease may be over without our having been told yet.
        if self.minds.is_due(now) && self.is_sure() {
            let others = self.sights.look(world, &mut self.minds, &self.shared.content, now);
            let strikes = self.minds.tick(world, now, &others);
            self.strikes(world, now, strikes);
        }
    }

    fn lease(&mut self, world: &mut GameWorld, now: u64, held: bool) {
        if held {
            // Others may have taken them over meanwhile: each rests until its post is known to be ours.
            if self.shared.mesh.lease().gaps() != self.gaps {
                self.recheck(world, now);
            }
            self.look(world, now);
        }
    }

    fn is_silent(&self) -> bool {
        self.hush || !self.is_sure() || !self.unsure.is_empty()
    }
}
