//! A district in memory: real colosseums, and doubles for the nodes that own fighters.
//!
//! A double keeps fighters as a zoo or frontend would: takes them for one battle at a time, believes what it is told, and
//! gets them back. What it was told is there to be looked at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{IslandId, ObjectId, Place, Tile};
use cartographer::ground::Plain;
use cartographer::world::WorldConfig;
use estate::land::Grounds;
use estate::store::memory::{Faults, MemoryStore};
use estate::transaction::Transactions;
use mesh::directory::memory::MemoryDirectory;
use mesh::registry::District as Named;
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{
    CallError, CallRefusal, Inbox, Incarnation, IncomingCall, Mesh, Method, NodeId, NodeRecord, PeerState, Role,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::super::rules::{BLOWS, REACTIONS};
use super::super::{Colosseum, Shared, run};
use crate::draining::Draining;
use crate::game::battle::Battle;
use crate::game::content::Content;
use crate::game::{Body, GameWorld};
use crate::methods::living::*;
use crate::methods::moving::Seen;
use crate::methods::{pack, unpack};
use crate::metrics::Metrics;
use crate::owners::{Hands, MeshOwners};
use crate::protocol::codes;
use crate::role::Answers;
use crate::world_loop::Input;

/// How long a state is waited for, in simulated time.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) const ISLAND: IslandId = IslandId(7);
pub(super) const PLACE: Place = Place::new(9_000, 9_000);

/// No island has anything on it.
#[derive(Debug)]
struct Bare;

impl Grounds for Bare {
    fn size(&self, _: IslandId) -> Option<(u16, u16)> {
        None
    }

    fn buildable(&self, _: IslandId, _: Tile) -> bool {
        false
    }

    fn natural(&self, _: IslandId, _: Tile) -> u32 {
        0
    }
}

pub(super) struct District {
    _ground: Tasks,
    directory: MemoryDirectory,
    network: MemoryNetwork,
    pub(super) store: MemoryStore,
}

/// A node of the district.
pub(super) struct Arena {
    pub(super) node: NodeId,
    pub(super) colosseum: Colosseum,
    pub(super) estate: Arc<Transactions>,
    pub(super) faults: Faults,
    pub(super) tasks: Tasks,
    mesh: Mesh,
}

/// A double of a node that owns fighters.
pub(super) struct Owner {
    pub(super) node: NodeId,
    pub(super) mesh: Mesh,
    pub(super) tasks: Tasks,
    state: Arc<Mutex<Kept>>,
}

/// What a double has.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) fighters: BTreeMap<ObjectId, Owned>,
    pub(super) notes: Vec<Note>,
    /// Takes nobody back and does not say so.
    pub(super) mute: bool,
    /// How often it was asked to take somebody back.
    pub(super) asked_back: u32,
    /// So many answers to `fighter.take` are lost.
    pub(super) lose_takes: u32,
    /// Has handed its fighters over: says so if it is to take one back.
    pub(super) moved_on: bool,
    /// What it sees of battles.
    pub(super) sees: Vec<Seen>,
    /// How often it was told something of a fighter, by which node.
    pub(super) told_by: BTreeMap<NodeId, u32>,
    /// The number of the last command.
    cause: u64,
}

pub(super) struct Owned {
    pub(super) fighter: Fighter,
    pub(super) battle: u64,
    pub(super) freed: Vec<FighterFreed>,
}

impl District {
    pub(super) fn new() -> District {
        let ground = Tasks::simulated();
        let directory = MemoryDirectory::start(&ground, 1);
        District { _ground: ground, directory, network: MemoryNetwork::new(1), store: MemoryStore::new() }
    }

    fn join(&self, name: &str, role: Role, tasks: &Tasks) -> (Mesh, Inbox) {
        let transport = self.network.transport(name, tasks);
        // Names tell lives apart here: nobody comes back.
        let life = name.bytes().fold(7, |life: u64, byte| life * 31 % (1 << 40) + u64::from(byte));
        let record = NodeRecord {
            node: NodeId::new(name).expect("a name"),
            role,
            incarnation: Incarnation(life),
            publish: transport.endpoints.publish.clone(),
            request: transport.endpoints.request.clone(),
            public: None,
            version: String::new(),
            protocol: 1,
        };
        let (cluster, district) = ("test".to_owned(), "test".to_owned());
        let config = mesh::Config { cluster, district, key: b"key".to_vec(), record, seed: life, lease_ttl_s: 5 };
        mesh::start(config, transport, Arc::new(self.directory.client()), tasks)
    }

    pub(super) fn arena(&self, name: &str) -> Arena {
        let tasks = Tasks::simulated();
        let (mesh, inbox) = self.join(name, Role::Colosseum, &tasks);
        let owners = Arc::new(MeshOwners {
            mesh: mesh.clone(),
            directory: Arc::new(self.directory.client()),
            district: Named::new("test", "test"),
            hands: Arc::new(Hands::default()),
            looks: crate::owners::Looks::default(),
        });
        let store = self.store.client();
        let (faults, kinds) = (store.faults(), estate::kinds::all(Arc::new(Bare)));
        let life = mesh.me().incarnation.0;
        let estate = Arc::new(Transactions::new(Arc::new(store), kinds, owners.clone(), life));
        let metrics = Metrics::new(name, "colosseum");
        let mut world = GameWorld::new(WorldConfig::new(life));
        world.add_island(ISLAND, Arc::new(Plain::new(128, 128)));
        let shared = Shared::new(mesh.clone(), estate.clone(), owners, Content::bundled(), tasks.clone(), &metrics);
        let colosseum = run(shared, world, inbox.events, metrics, Draining::default()).expect("started");
        let (answers, mut calls, spawner) = (Arc::new(colosseum.clone()), inbox.calls, tasks.clone());
        tasks.spawn(async move {
            while let Some(call) = calls.recv().await {
                let answers = answers.clone();
                spawner.spawn(async move {
                    match call.method.starts_with("battle.") {
                        true => answers.answer(call).await,
                        // About cells. An error means that the world has stopped.
                        false => drop(answers.world.inputs.send(Input::Call(call)).await),
                    }
                });
            }
        });
        let node = mesh.me().node.clone();
        Arena { node, colosseum, estate, faults, tasks, mesh }
    }

    pub(super) fn owner(&self, name: &str, role: Role) -> Owner {
        let tasks = Tasks::simulated();
        let (mesh, inbox) = self.join(name, role, &tasks);
        let state = Arc::new(Mutex::new(Kept::default()));
        let (kept, mut calls) = (state.clone(), inbox.calls);
        tasks.spawn(async move {
            while let Some(call) = calls.recv().await {
                answer(&mut lock(&kept), call);
            }
        });
        // Events of a node without a world are taken and forgotten.
        let mut events = inbox.events;
        tasks.spawn(async move { while events.recv().await.is_some() {} });
        Owner { node: mesh.me().node.clone(), mesh, tasks, state }
    }
}

fn lock(state: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(kept: &mut Kept, call: IncomingCall) {
    let refuse = |code: &str, text: String| Err(CallRefusal::new(code, text));
    let answer = match call.method.as_str() {
        "fighter.take" => {
            let FighterTake { battle, object } = unpack(&call.body).expect("a body");
            match kept.fighters.get_mut(&object) {
                None => refuse(codes::MISSING, String::new()),
                Some(owned) if ![0, battle].contains(&owned.battle) => {
                    refuse(codes::IN_BATTLE, owned.battle.to_string())
                }
                Some(owned) => {
                    owned.battle = battle;
                    if kept.lose_takes > 0 {
                        kept.lose_takes -= 1;
                        return;
                    }
                    Ok(pack(&owned.fighter))
                }
            }
        }
        "fighter.told" => {
            let FighterTold { battle, object, health } = unpack(&call.body).expect("a body");
            *kept.told_by.entry(call.from.clone()).or_default() += 1;
            if let Some(owned) = kept.fighters.get_mut(&object).filter(|owned| owned.battle == battle) {
                owned.fighter.health = health;
            }
            Ok(Bytes::new())
        }
        "fighter.freed" => {
            kept.asked_back += 1;
            if kept.mute {
                return;
            }
            if kept.moved_on {
                return call.answer(refuse(ELSEWHERE, String::new()));
            }
            let freed: FighterFreed = unpack(&call.body).expect("a body");
            if let Some(owned) = kept.fighters.get_mut(&freed.object).filter(|owned| owned.battle == freed.battle) {
                (owned.battle, owned.fighter.health) = (0, freed.health);
                owned.freed.push(freed);
            }
            Ok(Bytes::new())
        }
        "cells.ghosts" => Ok(pack(&kept.sees)),
        "people.note" => {
            kept.notes.push(unpack(&call.body).expect("a body"));
            Ok(Bytes::new())
        }
        other => Err(CallRefusal::unknown_method(other)),
    };
    call.answer(answer);
}

impl Owner {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.state)
    }

    /// Adds a fighter; `change` makes it what it is.
    pub(super) fn has(&self, id: u64, side: u8, change: impl FnOnce(&mut Fighter)) -> ObjectId {
        let (object, node) = (ObjectId(id), self.node.clone());
        let (name, toughness) = if side == 0 { (format!("player {id}"), 100) } else { ("wild_boar".to_owned(), 150) };
        let mut fighter = Fighter { object, node, side, name, health: 100, harm: 10, toughness, fear: 0 };
        change(&mut fighter);
        self.kept().fighters.insert(object, Owned { fighter, battle: 0, freed: Vec::new() });
        object
    }

    pub(super) fn fighter(&self, object: ObjectId) -> Fighter {
        self.kept().fighters[&object].fighter.clone()
    }

    pub(super) fn battle_of(&self, object: ObjectId) -> u64 {
        self.kept().fighters[&object].battle
    }

    /// How it was given back, once for each time.
    pub(super) fn freed(&self, object: ObjectId) -> Vec<(u8, Freed)> {
        self.kept().fighters[&object].freed.iter().map(|freed| (freed.health, freed.how)).collect()
    }

    /// Calls a colosseum; a refusal is its code.
    async fn call(&self, to: &Arena, method: &'static Method, body: Bytes) -> Result<Bytes, String> {
        self.mesh.call(&to.node, method, body).await.map_err(|error| match error {
            CallError::Refused { refusal, .. } => refusal.code,
            other => other.to_string(),
        })
    }

    pub(super) async fn open(
        &self,
        at: &Arena,
        battle: u64,
        opener: ObjectId,
        of: &Owner,
        target: ObjectId,
    ) -> Result<u64, String> {
        let (opener, target_node) = (self.fighter(opener), of.node.clone());
        let ask = BattleOpen { battle, island: ISLAND, place: PLACE, opener: opener.clone(), target, target_node };
        let number = self.call(at, &BATTLE_OPEN, pack(&ask)).await?;
        let number = unpack(&number).expect("a number");
        self.kept().fighters.get_mut(&opener.object).expect("it is here").battle = number;
        Ok(number)
    }

    pub(super) async fn join(&self, at: &Arena, battle: u64, who: ObjectId) -> Result<(), String> {
        let ask = BattleJoin { battle, fighter: self.fighter(who) };
        // Before: it may be given back even before the answer comes.
        let is_in = |battle: u64| self.kept().fighters.get_mut(&who).expect("it is here").battle = battle;
        is_in(battle);
        self.call(at, &BATTLE_JOIN, pack(&ask)).await.map(drop).inspect_err(|_| is_in(0))
    }

    pub(super) async fn act(
        &self,
        at: &Arena,
        battle: u64,
        who: ObjectId,
        blow: u8,
        whom: ObjectId,
    ) -> Result<(), String> {
        let cause = {
            let mut kept = self.kept();
            kept.cause += 1;
            kept.cause
        };
        let act = BattleAct { battle, actor: who, blow, target: whom, cause };
        self.call(at, &BATTLE_ACT, pack(&act)).await.map(drop)
    }

    pub(super) async fn leave(&self, at: &Arena, battle: u64, object: ObjectId) -> Result<(), String> {
        self.call(at, &BATTLE_LEAVE, pack(&BattleLeave { battle, object })).await.map(drop)
    }

    pub(super) async fn resume(&self, at: &Arena, battle: u64) -> Result<(), String> {
        self.call(at, &BATTLE_RESUME, pack(&battle)).await.map(drop)
    }

    /// Does the same again and again until it is out of the battle, by the owner's knowledge.
    pub(super) async fn fight_on(&self, at: &Arena, battle: u64, who: ObjectId, blow: u8, whom: ObjectId) {
        until("the battle ends", async || {
            let answer = self.act(at, battle, who, blow, whom).await;
            let known = ["too_soon", "missing"];
            assert!(answer.as_ref().is_ok() || known.contains(&answer.clone().unwrap_err().as_str()), "{answer:?}");
            self.battle_of(who) == 0
        })
        .await;
    }

    /// Waits until it sees so many others, and all of them well.
    pub(super) async fn meets(&self, others: usize) {
        until("all have met", async || {
            self.mesh.peers().iter().filter(|peer| peer.state == PeerState::Up).count() == others
        })
        .await;
    }
}

impl Arena {
    /// What others see of the battle now.
    pub(super) async fn seen(&self, battle: u64) -> Seen {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |world: &GameWorld| {
            let real = world.get(ObjectId(battle)).expect("the battle is here");
            let _ = reply.send((real.epoch(), real.motion(), real.view().clone()));
        });
        self.colosseum.world.inputs.send(Input::Inspect(look)).await.expect("it runs");
        let (epoch, motion, view) = answer.await.expect("it answers");
        let publisher = self.mesh.me().incarnation.0;
        Seen { object: ObjectId(battle), epoch, version: 99, publisher, island: ISLAND, motion, view }
    }

    /// How many exchanges there have been in its rooms.
    pub(super) fn exchanges(&self) -> u64 {
        let exchanges = &self.colosseum.flows.shared.exchanges;
        let of = |blow: &str| REACTIONS.map(|reaction| exchanges.with_label_values(&[blow, reaction]).get());
        BLOWS.into_iter().flat_map(of).sum()
    }

    /// The battle as its own world shows it, with the epoch of its post; `None` if it is not here.
    pub(super) async fn shown(&self, battle: u64) -> Option<(u64, Battle)> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |world: &GameWorld| {
            let shown = world.get(ObjectId(battle)).and_then(|real| match real.body() {
                Body::Battle(body) => Some((real.epoch().0, body.clone())),
                _ => None,
            });
            let _ = reply.send(shown);
        });
        self.colosseum.world.inputs.send(Input::Inspect(look)).await.ok()?;
        answer.await.ok()?
    }

    pub(super) async fn health(&self, battle: u64, who: ObjectId) -> Option<u8> {
        let (_, shown) = self.shown(battle).await?;
        shown.members.iter().find(|(id, ..)| *id == who.0).map(|(.., health)| *health)
    }

    /// Whether it knows so many others, and no more.
    pub(super) fn meets_only(&self, others: usize) -> bool {
        self.mesh.peers().iter().count() == others
    }

    /// Waits until it sees so many others.
    pub(super) async fn meets(&self, others: usize) {
        until("all have met", async || {
            self.mesh.peers().iter().filter(|peer| peer.state == PeerState::Up).count() == others
        })
        .await;
    }
}

/// Waits for a state.
pub(super) async fn until(what: &str, mut state: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !state().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
