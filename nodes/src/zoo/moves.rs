//! Habitats that are handed on: how a zoo that leaves gives up what it has, and how another is told to wake it.
//!
//! One by one, [`AT_ONCE`] at a time: the minds rest, the post is saved and given up, the next zoo by rendezvous is called
//! (`animal.wake`), and the animals stay to be seen here until their higher epoch is seen from there, or for [`SHOWN_MS`] after
//! the answer. Late words of rooms about animals that have gone are passed on. What waits its turn lives on. Nobody is told to
//! wake what was not given up, and this NEVER decides who has it then: a claim does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cartographer::geometry::ObjectId;
use estate::post;
use mesh::{CallError, CallRefusal, IncomingCall, Method, NodeId, Role};
use tokio::sync::oneshot;

use super::habitats::HabitatId;
use super::rules::ZooRules;
use super::stages::{Moving, Stage};
use super::{Shared, ZooInput};
use crate::draining::takes_work;
use crate::game::GameWorld;
use crate::game::animal::AnimalId;
use crate::methods::animals::{ANIMAL_WAKE, Wake};
use crate::methods::{pack, unpack};
use crate::protocol::codes;
use crate::rendezvous::ranked;
use crate::world_loop::WorldHandle;

/// Habitats that are handed on at once, at most.
const AT_ONCE: usize = 64;
/// Zoos that are asked to wake a habitat, at most.
const ASKED: usize = 2;
/// How long animals that another zoo has are still shown, if that does not show them, in milliseconds.
const SHOWN_MS: u64 = 500;
/// Habitats that others are waited for to be woken for, at most.
const EXPECTED: usize = 1_024;
/// Habitats of which it is remembered that others have them, at most.
const WENT: usize = 4_096;

/// What is handed on, and what is taken.
#[derive(Default)]
pub(super) struct Moves {
    /// What is to be handed on yet, and who is told when it is.
    waiting: VecDeque<(HabitatId, oneshot::Sender<()>)>,
    /// What others have given up for us, and who waits for it to be awake.
    expected: BTreeMap<HabitatId, Vec<IncomingCall>>,
    /// What was ours and is others', and whose if that is known.
    went: BTreeMap<HabitatId, Option<NodeId>>,
}

impl Moves {
    /// What others have given up for us.
    pub(super) fn expected(&self) -> impl Iterator<Item = HabitatId> {
        self.expected.keys().copied()
    }

    /// Whether a habitat was given up for us.
    pub(super) fn expects(&self, id: HabitatId) -> bool {
        self.expected.contains_key(&id)
    }

    /// A habitat that was given up for us is awake here, or will not be.
    pub(super) fn answer_expected(&mut self, id: HabitatId, awake: bool) {
        if awake {
            self.went.remove(&id);
        }
        for call in self.expected.remove(&id).into_iter().flatten() {
            let answer = if awake { Ok(bytes::Bytes::new()) } else { refused(codes::BUSY, "it could not be claimed") };
            call.answer(answer);
        }
    }

    /// A habitat is another's now.
    pub(super) fn went(&mut self, id: HabitatId, to: Option<NodeId>) {
        if self.went.len() >= WENT {
            self.went.pop_first();
        }
        self.went.insert(id, to);
    }
}

/// Where an animal is, for whoever asks for it.
pub(super) enum Whereabouts {
    /// It is this zoo's.
    Here,
    /// It may be this zoo's, or soon be another's: to be asked again.
    Unsure,
    /// It was here, and is another's.
    Gone(HabitatId, Option<NodeId>),
    /// It was never here, as far as is known.
    Unknown,
}

fn refused(code: &'static str, text: &str) -> Result<bytes::Bytes, CallRefusal> {
    Err(CallRefusal::new(code, text))
}

impl ZooRules {
    /// Where an animal is.
    pub(super) fn whereabouts(&self, animal: ObjectId) -> Whereabouts {
        let Some(AnimalId { island, habitat: index, .. }) = AnimalId::of(animal) else { return Whereabouts::Unknown };
        let id = HabitatId { island, index };
        match self.stages.get(&id) {
            _ if !self.is_sure() => Whereabouts::Unsure,
            Some(Stage::Awake(awake)) if awake.doubt.is_none() => Whereabouts::Here,
            Some(Stage::Moving(Moving { to: Some(to), .. })) => Whereabouts::Gone(id, Some(to.clone())),
            Some(Stage::Awake(_) | Stage::Moving(_) | Stage::Claiming(_)) => Whereabouts::Unsure,
            Some(Stage::Refused(_) | Stage::Leaving) | None => match self.moves.went.get(&id) {
                Some(to) => Whereabouts::Gone(id, to.clone()),
                None => Whereabouts::Unknown,
            },
        }
    }

    /// Another zoo has given a habitat up, and wants it to be woken here.
    pub(super) fn wake(&mut self, now: u64, call: IncomingCall) {
        let Wake { island, index, epoch } = match unpack(&call.body) {
            Ok(wake) => wake,
            Err(refusal) => return call.answer(Err(refusal)),
        };
        let id = HabitatId { island, index };
        let terrain = self.shared.terrain(island);
        let habitat = terrain.as_ref().and_then(|terrain| terrain.habitats().get(usize::from(index)));
        let answer = match self.stages.get(&id) {
            _ if self.leaving || self.shared.draining.has_begun() => refused(codes::DRAINING, "this zoo is leaving"),
            _ if !self.is_sure() => refused(codes::UNAVAILABLE, "this zoo has lost its lease for the moment"),
            _ if habitat.is_none_or(|it| self.minds.lore().number(&it.species).is_none()) => {
                refused(codes::MISSING, "there is no such habitat")
            }
            Some(Stage::Awake(awake)) if awake.epoch > epoch => Ok(bytes::Bytes::new()),
            Some(Stage::Awake(_) | Stage::Moving(_) | Stage::Leaving) => refused(codes::BUSY, "it is just leaving"),
            _ if self.moves.expected.len() >= EXPECTED => refused(codes::FULL, "too many habitats are waking"),
            _ => {
                self.moves.expected.entry(id).or_default().push(call);
                self.claim(now);
                return;
            }
        };
        call.answer(answer);
    }

    /// The node leaves: everything is handed on.
    pub(super) fn leave(&mut self, world: &mut GameWorld, now: u64) -> Vec<oneshot::Receiver<()>> {
        self.leaving = true;
        let awake: Vec<HabitatId> = self.dens.ids().collect();
        let mut told = Vec::with_capacity(awake.len());
        for id in awake {
            let (done, over) = oneshot::channel();
            self.moves.waiting.push_back((id, done));
            told.push(over);
        }
        self.move_on(world, now);
        told
    }

    /// Begins to hand on what waits, as far as there is room.
    pub(super) fn move_on(&mut self, world: &mut GameWorld, now: u64) {
        let mut moving = self.stages.values().filter(|stage| matches!(stage, Stage::Moving(_))).count();
        while moving < AT_ONCE && self.is_sure() {
            let Some((id, done)) = self.moves.waiting.pop_front() else { return };
            let somebody = !takes_work(&self.shared.mesh.peers(), Role::Zoo).is_empty();
            match self.stages.get(&id) {
                // Whoever waits is told by the end of `done`.
                Some(Stage::Awake(awake)) if awake.doubt.is_some() => drop(done),
                Some(Stage::Awake(_)) if somebody => {
                    self.hand_on(world, now, id, done);
                    moving += 1;
                }
                Some(Stage::Awake(_)) => self.put_to_sleep(world, now, id, Some(done)),
                _ => drop(done),
            }
        }
    }

    /// Gives a habitat up for another zoo: from now on nothing happens to its animals here.
    fn hand_on(&mut self, world: &mut GameWorld, now: u64, id: HabitatId, done: oneshot::Sender<()>) {
        let Some(den) = self.dens.get(id) else { return };
        self.minds.hold(den.herd, true);
        let state = self.dens.state(world, &self.minds, self.moment(now), id);
        self.numbers += 1;
        self.deaths.not_saved(id);
        self.deaths.saving(id, self.numbers);
        if let Some(Stage::Awake(awake)) = self.stages.remove(&id) {
            tracing::debug!(habitat = %id, epoch = awake.epoch, "a habitat is handed on");
            let moving = Moving { epoch: awake.epoch, to: None, handed_at: None, done: Some(done) };
            self.stages.insert(id, Stage::Moving(moving));
            awake.keeper.leave(state, None);
        }
    }

    /// A habitat's post was given up, or that is taking long.
    pub(super) fn released(&mut self, world: &mut GameWorld, now: u64, (id, epoch): (HabitatId, u64), given_up: bool) {
        match self.stages.get_mut(&id) {
            Some(Stage::Leaving) => {
                tracing::debug!(habitat = %id, epoch, "a habitat sleeps");
                self.stages.remove(&id);
                self.look(world, now);
            }
            Some(Stage::Moving(moving)) if moving.epoch == epoch && given_up => {
                self.deaths_saved(world, now, id, self.numbers);
                let flow = find_heir(self.shared.clone(), self.handle.clone(), id, epoch);
                self.shared.tasks.spawn(flow);
            }
            Some(Stage::Moving(moving)) if moving.epoch == epoch => {
                // Nobody can claim it before this node is gone; the sight of its animals is all that is left of them then.
                // An error means that nobody waits any more.
                let _ = moving.done.take().map(|done| done.send(()));
            }
            _ => {}
        }
    }

    /// Another zoo has woken a habitat, or none has.
    pub(super) fn handed_on(&mut self, now: u64, id: HabitatId, epoch: u64, to: Option<NodeId>) {
        if let Some(Stage::Moving(moving)) = self.stages.get_mut(&id)
            && moving.epoch == epoch
        {
            self.counts.handed_on.add(i64::from(to.is_some()));
            (moving.to, moving.handed_at) = (to, Some(now));
        }
    }

    /// Once a tick: what others show by now is not shown here any more.
    pub(super) fn watch_moves(&mut self, world: &mut GameWorld, now: u64) {
        let mut over = BTreeSet::new();
        for (id, stage) in &mut self.stages {
            let Stage::Moving(moving) = stage else { continue };
            let (some, all) = self.dens.is_outranked(world, *id);
            if some {
                // Whoever shows them has them, whether or not its answer comes.
                moving.handed_at.get_or_insert(now);
            }
            if moving.handed_at.is_some_and(|at| all || now >= at + SHOWN_MS) {
                over.insert(*id);
            }
        }
        if over.is_empty() {
            return;
        }
        over.into_iter().for_each(|id| self.let_go(world, now, id));
        self.move_on(world, now);
    }

    /// Takes what was handed on out of the world.
    pub(super) fn let_go(&mut self, world: &mut GameWorld, now: u64, id: HabitatId) {
        if let Some(Stage::Moving(moving)) = self.stages.remove(&id) {
            self.dens.sleep(world, &mut self.minds, now, id);
            self.deaths.forget(id);
            self.moves.went(id, moving.to);
            // An error means that nobody waits any more.
            let _ = moving.done.map(|done| done.send(()));
        }
    }

    /// Passes a word about an animal on to the zoo that has it now, and its answer back.
    pub(super) fn pass_on(&self, call: IncomingCall, method: &'static Method, id: HabitatId, to: Option<NodeId>) {
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            let to = match to {
                Some(to) => Some(to),
                None => owner(&shared, id).await,
            };
            let unknown = || refused(codes::UNAVAILABLE, "it is not known yet who has the animal");
            let Some(to) = to.filter(|to| *to != shared.mesh.me().node) else { return call.answer(unknown()) };
            if !call.wants_answer() {
                return shared.mesh.send(&to, method, call.body.clone());
            }
            let answer = match shared.mesh.call(&to, method, call.body.clone()).await {
                Ok(answer) => Ok(answer),
                Err(CallError::Refused { refusal, .. }) => Err(refusal),
                Err(error) => refused(codes::UNAVAILABLE, &error.to_string()),
            };
            call.answer(answer);
        });
    }
}

/// Who looks after a habitat, if somebody does.
async fn owner(shared: &Shared, id: HabitatId) -> Option<NodeId> {
    let key = post::key("habitat", &id.to_string());
    let found = post::find(&**shared.estate.store(), &key).await.ok()??;
    NodeId::new(&found.owner?.node).ok()
}

/// Has another zoo wake a habitat that was given up here.
async fn find_heir(shared: Arc<Shared>, world: WorldHandle<ZooInput>, id: HabitatId, epoch: u64) {
    let zoos = takes_work(&shared.mesh.peers(), Role::Zoo);
    let wake = pack(&Wake { island: id.island, index: id.index, epoch });
    let mut heir = None;
    for zoo in ranked(&id.bytes(), &zoos).into_iter().take(ASKED) {
        match shared.mesh.call(zoo, &ANIMAL_WAKE, wake.clone()).await {
            Ok(_) => {
                heir = Some(zoo.clone());
                break;
            }
            Err(error) => tracing::debug!(habitat = %id, %error, "a zoo does not wake what was given up"),
        }
    }
    world.role(ZooInput::HandedOn(id, epoch, heir)).await;
}
