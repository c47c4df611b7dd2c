//! The zoo's rules: which habitats are awake, when they are saved and fall asleep, and the minds' turn in every tick.
//!
//! Runs inside the world loop, synchronously. Posts are claimed and saved by keepers, calls run in flows; both come back as
//! inputs. A habitat that is not watched has nothing here: what sleeps NEVER costs a tick anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cartographer::geometry::{Cell, ObjectId};
use cartographer::world::{CellFrame, TickOutput};
use mesh::{NodeId, PeerTable, Role};
use prometheus::IntGauge;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Map, Value};
use tokio::sync::{oneshot, watch};

use super::dens::{Dens, Last, Moment, post_of};
use super::fights::Fights;
use super::habitats::{self, HabitatId, Part};
use super::keeper::{self, Keeper};
use super::sights::Sights;
use super::{Shared, ZooInput};
use crate::game::animal::AnimalId;
use crate::game::minds::Minds;
use crate::game::minds::lore::Lore;
use crate::game::{GameWorld, kind};
use crate::metrics::Metrics;
use crate::world_loop::{Rules, WorldHandle};

/// Animals that are awake on one zoo, at most: habitats beyond them stay asleep until others have fallen asleep.
pub(super) const ANIMALS: usize = 50_000;
/// Threads that share the thoughts of a tick, at most.
const THREADS: usize = 4;
/// How often a zoo looks at what is not told by an event, in milliseconds.
const SECOND_MS: u64 = 1_000;
/// How often a habitat that is awake is saved, in milliseconds.
const SAVE_MS: u64 = 30_000;
/// How long a habitat stays awake that nobody watches, in milliseconds.
const LINGER_MS: u64 = 5_000;
/// A habitat that could not be claimed is tried again after so many milliseconds.
const CLAIM_AGAIN_MS: u64 = 2_000;
/// Claims under way, at most.
const CLAIMS: usize = 32;

/// How far a habitat's post has come.
enum Stage {
    /// It is being claimed.
    Claiming,
    /// It was not to be had; it may be tried again then.
    Refused(u64),
    /// It is ours, and awake.
    Awake(Awake),
    /// It is being given up.
    Leaving,
}

struct Awake {
    epoch: u64,
    keeper: Keeper,
    unwatched_since: Option<u64>,
    save_at: u64,
    /// It is not known whether the post is still ours: its minds rest.
    unchecked: bool,
}

/// What a zoo tells of itself.
pub(super) struct Gauges {
    habitats: IntGauge,
    animals: IntGauge,
    most: IntGauge,
    crowded_out: IntGauge,
    decisions: IntGauge,
    alarms: IntGauge,
    fighting: IntGauge,
    born: IntGauge,
    /// Animals that died.
    pub(super) deaths: IntGauge,
    /// Animals that were eaten.
    pub(super) meals: IntGauge,
    /// Battles that animals opened.
    pub(super) opened: IntGauge,
}

impl Gauges {
    fn new(metrics: &Metrics) -> Gauges {
        let gauge = |name: &str, help: &str| metrics.gauge(name, help);
        Gauges {
            habitats: gauge("zoo_habitats_awake", "Habitats that are awake."),
            animals: gauge("zoo_animals_awake", "Animals that are awake."),
            most: gauge("zoo_animals_most", "Animals that may be awake at most."),
            crowded_out: gauge("zoo_habitats_crowded_out", "Habitats that stay asleep because too many are awake."),
            decisions: gauge("zoo_decisions", "Decisions of minds so far."),
            alarms: gauge("zoo_alarms", "Minds that a threat woke so far."),
            fighting: gauge("zoo_animals_fighting", "Animals in battles."),
            born: gauge("zoo_animals_replaced", "Animals that took the places of dead ones so far."),
            deaths: gauge("zoo_animals_died", "Animals that died so far."),
            meals: gauge("zoo_animals_eaten", "Animals that were eaten so far."),
            opened: gauge("zoo_battles_opened", "Battles that animals wanted so far."),
        }
    }
}

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
    stages: BTreeMap<HabitatId, Stage>,
    /// Habitats that players see.
    seen: BTreeSet<HabitatId>,
    /// Our parts in them.
    parts: BTreeMap<HabitatId, Part>,
    /// The cells that our world watches for each habitat.
    watched: BTreeMap<HabitatId, Vec<Cell>>,
    second_at: u64,
    pub(super) lease_held: bool,
    leaving: bool,
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
        let lease_held = shared.mesh.lease().holds();
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
            stages: BTreeMap::new(),
            seen: BTreeSet::new(),
            parts: BTreeMap::new(),
            watched: BTreeMap::new(),
            second_at: 0,
            lease_held,
            leaving: false,
        }
    }

    pub(super) fn moment(&self, now: u64) -> Moment {
        Moment { now, now_s: self.shared.calendar.now_s() }
    }

    /// Whether this zoo may act for an animal.
    pub(super) fn may_act(&self, animal: ObjectId) -> bool {
        self.lease_held && self.dens.of(animal).is_some()
    }

    /// Finds out which habitats are seen, and what our part in them is.
    fn look(&mut self, world: &mut GameWorld, now: u64) {
        let cells = self.audience.borrow_and_update().clone();
        let peers = self.peers.borrow_and_update().clone();
        self.sights.learn(&peers, now);
        let shared = &self.shared;
        let me = &shared.mesh.me().node;
        let mut zoos: Vec<NodeId> = peers.up(Role::Zoo).map(|peer| peer.record.node.clone()).collect();
        zoos.push(me.clone());
        self.seen = if self.leaving { BTreeSet::new() } else { habitats::watched(&cells, |id| shared.terrain(id)) };
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
    fn claim(&mut self, now: u64) {
        if !self.lease_held || self.leaving {
            return;
        }
        let mut claiming = self.stages.values().filter(|stage| matches!(stage, Stage::Claiming)).count();
        let (mut animals, mut crowded_out) = (self.dens.animals(), 0);
        for (id, part) in &self.parts {
            let free = match self.stages.get(id) {
                None => true,
                Some(Stage::Refused(again)) => now >= *again,
                Some(_) => false,
            };
            if (*part != Part::First && !planted::is("habitat_woken_twice")) || !free || claiming >= CLAIMS {
                continue;
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
            self.stages.insert(*id, Stage::Claiming);
            self.shared.tasks.spawn(keeper::keep(self.shared.clone(), self.handle.clone(), *id));
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

    /// A habitat's post is ours.
    fn claimed(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: HabitatId,
        epoch: u64,
        state: Map<String, Value>,
        keeper: Keeper,
    ) {
        let at = self.moment(now);
        let terrain = self.shared.terrain(id.island).filter(|_| self.lease_held && self.seen.contains(&id));
        let last = self.last_seen(world, now, id, epoch);
        let known = |animal: ObjectId| last.get(&animal).copied();
        let woken = terrain
            .is_some_and(|terrain| self.dens.wake(world, &mut self.minds, at, id, &terrain, epoch, &state, known));
        if !woken {
            keeper.leave(state, None);
            self.stages.insert(id, Stage::Leaving);
            return;
        }
        tracing::debug!(habitat = %id, epoch, "a habitat wakes");
        // Spread, so that not all that woke together are saved together.
        let save_at = now + SAVE_MS / 2 + self.random.next_u64() % (SAVE_MS / 2);
        self.stages.insert(id, Stage::Awake(Awake { epoch, keeper, unwatched_since: None, save_at, unchecked: false }));
    }

    /// How the animals of a habitat were under its last owner, if we see their ghosts: fresher than what it saved.
    fn last_seen(&self, world: &GameWorld, now: u64, id: HabitatId, epoch: u64) -> BTreeMap<ObjectId, Last> {
        let cells = self.watched.get(&id).map_or(&[][..], Vec::as_slice);
        let mut last = BTreeMap::new();
        for (object, ghost) in cells.iter().flat_map(|cell| world.ghosts_in(*cell)) {
            let ours = AnimalId::of(object).is_some_and(|it| (it.island, it.habitat) == (id.island, id.index));
            if ours
                && ghost.view().kind == kind::ANIMAL
                && (post_of(ghost.epoch()) + 1 == epoch || planted::is("last_seen_of_any_epoch"))
                && ghost.view().health > 0
            {
                let place = ghost.place(self.sights.theirs(ghost.publisher(), now));
                last.insert(object, Last { place, health: ghost.view().health });
            }
        }
        last
    }

    /// The habitat is somebody else's: its animals go at once.
    fn drop_at_once(&mut self, world: &mut GameWorld, now: u64, id: HabitatId, epoch: u64) {
        if self.epoch(id) == Some(epoch) {
            tracing::info!(habitat = %id, epoch, "another zoo has taken a habitat over");
            self.dens.sleep(world, &mut self.minds, now, id);
            self.stages.insert(id, Stage::Refused(now + CLAIM_AGAIN_MS));
        }
    }

    fn epoch(&self, id: HabitatId) -> Option<u64> {
        match self.stages.get(&id) {
            Some(Stage::Awake(awake)) => Some(awake.epoch),
            _ => None,
        }
    }

    /// Saves a habitat for the last time and takes its animals out of the world.
    fn put_to_sleep(&mut self, world: &mut GameWorld, now: u64, id: HabitatId, done: Option<oneshot::Sender<()>>) {
        let state = self.dens.state(world, &self.minds, self.moment(now), id);
        if let Some(Stage::Awake(awake)) = self.stages.insert(id, Stage::Leaving) {
            self.dens.sleep(world, &mut self.minds, now, id);
            awake.keeper.leave(state, done);
        }
    }

    /// Everything is given up, because the node leaves.
    fn leave(&mut self, world: &mut GameWorld, now: u64) -> Vec<oneshot::Receiver<()>> {
        self.leaving = true;
        let awake: Vec<HabitatId> = self.dens.ids().collect();
        let told = awake.into_iter().map(|id| {
            let (done, told) = oneshot::channel();
            self.put_to_sleep(world, now, id, Some(done));
            told
        });
        told.collect()
    }

    /// What is done once a second.
    fn every_second(&mut self, world: &mut GameWorld, now: u64) {
        let at = self.moment(now);
        if self.lease_held {
            self.counts.born.add(self.dens.replace_dead(world, &mut self.minds, at) as i64);
            self.watch_battles(world, now);
        }
        let (mut over, mut due) = (Vec::new(), Vec::new());
        for (id, stage) in &mut self.stages {
            let Stage::Awake(awake) = stage else { continue };
            if awake.unchecked && self.lease_held {
                awake.keeper.check();
            }
            let sunk = self.shared.terrain(id.island).is_none();
            if sunk || awake.unwatched_since.is_some_and(|since| now >= since + LINGER_MS) {
                over.push(*id);
            } else if now >= awake.save_at {
                awake.save_at = now + SAVE_MS;
                due.push(*id);
            }
        }
        for id in due {
            let state = self.dens.state(world, &self.minds, at, id);
            if let Some(Stage::Awake(awake)) = self.stages.get(&id) {
                // A keeper that is still busy is left alone: the next save is newer.
                awake.keeper.save(state);
            }
        }
        over.into_iter().for_each(|id| self.put_to_sleep(world, now, id, None));
        let (minds, stages, parts) = (&self.minds, &mut self.stages, &self.parts);
        stages.retain(|id, stage| !matches!(stage, Stage::Refused(_)) || parts.contains_key(id));
        self.fights.retain(|animal| minds.get(animal).is_some());
        self.tell();
    }

    fn tell(&self) {
        let counts = self.minds.counts();
        self.counts.habitats.set(self.dens.len() as i64);
        self.counts.animals.set(self.minds.len() as i64);
        self.counts.decisions.set(counts.decisions as i64);
        self.counts.alarms.set(counts.alarms as i64);
        self.counts.fighting.set(self.fights.len() as i64);
    }

    /// Asks whether a habitat is still ours; meanwhile its minds rest.
    fn check(&mut self, id: HabitatId) {
        if let (Some(Stage::Awake(awake)), Some(den)) = (self.stages.get_mut(&id), self.dens.get(id)) {
            self.minds.hold(den.herd, true);
            awake.unchecked = true;
            // A keeper that is busy is asked again in a second.
            awake.keeper.check();
        }
    }
}

impl Rules for ZooRules {
    type Input = ZooInput;

    fn input(&mut self, world: &mut GameWorld, now: u64, input: ZooInput) {
        match input {
            ZooInput::Claimed { id, epoch, state, keeper } => self.claimed(world, now, id, epoch, state, keeper),
            ZooInput::NotClaimed(id) => drop(self.stages.insert(id, Stage::Refused(now + CLAIM_AGAIN_MS))),
            ZooInput::Checked(id, epoch) => {
                if let (Some(Stage::Awake(awake)), Some(den)) = (self.stages.get_mut(&id), self.dens.get(id))
                    && awake.epoch == epoch
                {
                    awake.unchecked = false;
                    self.minds.hold(den.herd, false);
                }
            }
            ZooInput::Fenced(id, epoch) => self.drop_at_once(world, now, id, epoch),
            ZooInput::Released(id, epoch) => {
                if matches!(self.stages.get(&id), Some(Stage::Leaving)) {
                    tracing::debug!(habitat = %id, epoch, "a habitat sleeps");
                    self.stages.remove(&id);
                    self.look(world, now);
                }
            }
            ZooInput::Call(call) => self.call(world, now, call),
            ZooInput::Opened { animal, battle, sure, node } => {
                let entered = self.opened(world, now, animal, battle.filter(|_| sure));
                if let Some(battle) = battle.filter(|battle| entered != Some(*battle)) {
                    self.not_in(animal, battle, node);
                }
            }
            ZooInput::Resumed { battle, over } => self.resumed(world, now, battle, over),
            ZooInput::Struck { hunter, killed } => self.blow_landed(now, hunter, killed),
            // An error means that nobody waits any more.
            ZooInput::Leave(reply) => drop(reply.send(self.leave(world, now))),
        }
    }

    fn ticked(&mut self, world: &mut GameWorld, now: u64, out: &TickOutput, _: Vec<CellFrame>) {
        for id in out.fenced.iter().filter_map(|object| self.dens.of(*object)).collect::<BTreeSet<_>>() {
            self.check(id);
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
        // The lease may be over without our having been told yet.
        if self.lease_held && self.minds.is_due(now) && self.shared.mesh.lease().holds() {
            let others = self.sights.look(world, &mut self.minds, &self.shared.content, now);
            let strikes = self.minds.tick(world, now, &others);
            self.strikes(world, now, strikes);
        }
    }

    fn lease(&mut self, world: &mut GameWorld, now: u64, held: bool) {
        self.lease_held = held;
        let awake: Vec<HabitatId> = self.dens.ids().collect();
        if held {
            // Others may have taken them over meanwhile: each rests until its post is known to be ours.
            awake.into_iter().for_each(|id| self.check(id));
            self.look(world, now);
        }
    }
}
