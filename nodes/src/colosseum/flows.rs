//! What a colosseum waits for: taking fighters and posts, giving fighters back, paying spoils.
//!
//! Flows hold no world state; they ask the world and tell it. What is owed for a battle is tried, and the world is told whether
//! it is settled or to be tried again: by then a fighter may have another owner. Every wait has a bound, and nothing is said for
//! a battle without the lease. Paying is one operation of the estate under a number derived from battle, animal and player, so
//! that it happens once whoever does it and however often.

use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::{Epoch, ObjectId};
use estate::goods::promise::{self, What};
use estate::goods::{Goods, GoodsEffect, Place};
use estate::post::{self, Claim, Gone, Held, Owner};
use estate::transaction::{OperationId, Request, TransactionError, Transactions};
use mesh::{CallError, CallRefusal, NodeId};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::hosted::{Hosting, epoch_of, room_of, state_of};
use super::{ColosseumInput, Life, Reply, Reserved, Shared, keeper};
use crate::battles;
use crate::game::battle::Battle;
use crate::game::combat::{Debt, Event, Room, Spoil};
use crate::game::kind;
use crate::last_seen;
use crate::methods::living::{
    BATTLE_JOIN, BATTLE_OPEN, BATTLE_RESUME, BattleJoin, BattleOpen, ELSEWHERE, FIGHTER_FREED, FIGHTER_TAKE, Fighter,
    FighterFreed, FighterTake, Freed, Note, PEOPLE_NOTE,
};
use crate::methods::{pack, unpack};
use crate::protocol::codes;
use crate::world_loop::WorldHandle;

/// The first pause after a call that was not answered, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How often somebody whose target fights already tries to join, and the pause in between: together less than the patience
/// of whoever opens a battle.
const JOINS: u32 = 6;
const JOIN_PAUSE: Duration = Duration::from_millis(250);

const _: () = assert!(JOINS as u128 * JOIN_PAUSE.as_millis() < BATTLE_OPEN.deadline_ms as u128);

/// How often a spoil is tried to be paid before the world is asked anew; with the pauses, about a minute without documents.
const PAYMENTS: u32 = 16;

/// How often an owner is asked for a fighter that may have been taken, or to take one back whose battle has not come to be:
/// with the pauses, about ten minutes.
const ASKED: u32 = 120;

/// How long somebody waits for a battle that is just being brought here, in milliseconds, and the pause before asking again
/// for one that nobody brings any more: together less than the patience of whoever asks.
const ARRIVAL_MS: u64 = 3_000;
const ARRIVAL_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(ARRIVAL_MS as u128 + ARRIVAL_PAUSE.as_millis() < BATTLE_RESUME.deadline_ms as u128);

/// How often the others are asked to go on with a battle that is released here, the pause in between, and how many of them each
/// time.
const HAND_OVERS: u32 = 8;
const HAND_OVER_PAUSE: Duration = Duration::from_millis(250);
const HAND_OVER_ASKED: usize = 3;

/// The kind of a battle's post.
const POST: &str = "battle";

/// The key of a battle's document.
pub(super) fn key(number: u64) -> String {
    post::key(POST, &number.to_string())
}

/// The flows that answer calls.
pub(super) struct Flows {
    pub(super) shared: Arc<Shared>,
    pub(super) world: WorldHandle<ColosseumInput>,
}

impl Flows {
    /// Something happens in a battle that is here.
    pub(super) async fn happens(&self, number: u64, from: Life, event: Event) -> Result<(), CallRefusal> {
        self.ask(|reply| ColosseumInput::Happens { number, from, event, reply }).await
    }

    async fn ask<T>(&self, input: impl FnOnce(Reply<T>) -> ColosseumInput) -> Result<T, CallRefusal> {
        let gone = || CallRefusal::new(codes::UNAVAILABLE, "this colosseum has stopped");
        let (reply, answer) = oneshot::channel();
        if !self.world.role(input(reply)).await {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())?
    }

    /// Begins a battle; the answer is the number of the battle in which the target is.
    pub(super) async fn open(&self, from: Life, ask: BattleOpen) -> Result<u64, CallRefusal> {
        let number = ask.battle;
        if self.reserve(number, 0).await? == Reserved::Here {
            let event = Event::Join(ask.opener, from.1);
            return self.happens(number, from, event).await.map(|()| number);
        }
        let taken = self.take(&ask).await;
        let began = match taken {
            Ok(Taken::Ours(target)) => {
                let began = self.begin(&from, &ask, target.clone()).await;
                if began.is_err() {
                    self.give_back(number, &target);
                }
                began.map(|()| number)
            }
            Ok(Taken::Fights(other)) => Ok(other),
            Err(refusal) => Err(refusal),
        };
        if began != Ok(number) {
            // Who wants to go on with it finds out by themselves whether there ever was one.
            self.world.role(ColosseumInput::Forget(number, None)).await;
        }
        let other = began?;
        if other != number {
            return self.join_other(other, from, ask.opener).await;
        }
        Ok(number)
    }

    /// The target fights already: the opener joins that battle, wherever it is.
    async fn join_other(&self, other: u64, from: Life, opener: Fighter) -> Result<u64, CallRefusal> {
        let mut last = CallRefusal::new(codes::BUSY, "the target is just being taken by another battle");
        for _ in 0..JOINS {
            let event = Event::Join(opener.clone(), from.1);
            let answer = match self.happens(other, from.clone(), event).await {
                Err(refusal) if refusal.code == codes::MISSING => self.join_elsewhere(other, &opener).await,
                answer => answer,
            };
            match answer {
                Ok(()) => return Ok(other),
                // It is just beginning, or just over; in both cases that passes.
                Err(refusal) if [codes::BUSY, codes::MISSING].contains(&refusal.code.as_str()) => last = refusal,
                Err(refusal) => return Err(refusal),
            }
            sleep(JOIN_PAUSE).await;
        }
        Err(CallRefusal::new(codes::BUSY, last.text))
    }

    /// Has the colosseum that looks after a battle take the opener in.
    async fn join_elsewhere(&self, battle: u64, opener: &Fighter) -> Result<(), CallRefusal> {
        let missing = || CallRefusal::new(codes::MISSING, "nobody leads that battle");
        let unread = |error: estate::document::DocumentError| CallRefusal::new(codes::UNAVAILABLE, error.to_string());
        let found = post::find(&**self.shared.estate.store(), &key(battle)).await.map_err(unread)?;
        let owner = found.and_then(|document| document.owner).ok_or_else(missing)?;
        let node = NodeId::new(&owner.node).map_err(|_| missing())?;
        if node == self.shared.mesh.me().node {
            return Err(missing());
        }
        let join = BattleJoin { battle, fighter: opener.clone() };
        match self.shared.mesh.call(&node, &BATTLE_JOIN, pack(&join)).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused { refusal, .. }) => Err(refusal),
            // If it came through, the room learns from the opener's owner that it is not there.
            Err(error) => Err(CallRefusal::new(codes::UNAVAILABLE, error.to_string())),
        }
    }

    /// Takes the target from its owner.
    async fn take(&self, ask: &BattleOpen) -> Result<Taken, CallRefusal> {
        let BattleOpen { battle, target, target_node, .. } = ask;
        let away = |why: String| CallRefusal::new(codes::UNAVAILABLE, why);
        let life = self.shared.mesh.peers().get(target_node).map(|peer| peer.record.incarnation.0);
        let life = life.ok_or_else(|| away(format!("{target_node} is not in the directory")))?;
        let take = FighterTake { battle: *battle, object: *target };
        match self.shared.mesh.call(target_node, &FIGHTER_TAKE, pack(&take)).await {
            Ok(answer) => {
                let fighter: Fighter = unpack(&answer)?;
                let fighter = Fighter { object: *target, node: target_node.clone(), ..fighter };
                Ok(Taken::Ours((fighter, life)))
            }
            Err(CallError::Refused { refusal, .. }) if refusal.code == codes::IN_BATTLE => {
                let other = refusal.text.parse().ok().filter(|other| other != battle);
                // Its owner says that it is in this very battle, which nobody runs: it is asked for again later.
                let busy = || CallRefusal::new(codes::BUSY, "the target is just being taken");
                other.map(Taken::Fights).ok_or_else(busy)
            }
            Err(CallError::Refused { refusal, .. }) if refusal.code != CallRefusal::DROPPED => Err(refusal),
            Err(error) => {
                // It may have been taken, and nobody but us would give it back.
                let (shared, owner) = (self.shared.clone(), (target_node.clone(), life));
                self.shared.tasks.spawn(async move { take_back(&shared, &owner, &take).await });
                Err(away(error.to_string()))
            }
        }
    }

    /// Both are here: claims the post and hands the battle to the world.
    async fn begin(&self, from: &Life, ask: &BattleOpen, target: (Fighter, u64)) -> Result<(), CallRefusal> {
        let opener = (ask.opener.clone(), from.1);
        let now = self.shared.mesh.now_ms();
        let room = Room::open(ask.battle, (ask.island, ask.place), opener, target, now);
        let room = room.map_err(|refused| CallRefusal::new(refused.code(), refused.to_string()))?;
        let term = self.shared.mesh.lease().term();
        let held = self.claim(ask.battle, &nobody_is_gone).await?;
        if !held.state.is_empty() {
            let over = CallRefusal::new(codes::MISSING, "there was a battle of this number already");
            self.put_down(ask.battle, held).await;
            return Err(over);
        }
        self.host(room, held, term).await
    }

    async fn reserve(&self, number: u64, until_ms: u64) -> Result<Reserved, CallRefusal> {
        self.ask(|reply| ColosseumInput::Reserve { number, until_ms, reply }).await
    }

    /// Goes on with a battle whose colosseum is gone, or has released it. Whoever asks while it is being brought here by another's
    /// wish waits for that, and is answered as the other is.
    pub(super) async fn resume(&self, number: u64) -> Result<(), CallRefusal> {
        let until_ms = self.shared.mesh.now_ms() + ARRIVAL_MS;
        let mut reserved = self.reserve(number, until_ms).await;
        while matches!(&reserved, Err(refusal) if refusal.code == codes::BUSY) && self.shared.mesh.now_ms() < until_ms {
            sleep(ARRIVAL_PAUSE).await;
            reserved = self.reserve(number, until_ms).await;
        }
        match reserved? {
            Reserved::Here => return Ok(()),
            Reserved::Nothing(why) => return Err(why),
            Reserved::Yours => {}
        }
        let resumed = self.take_over(number).await;
        if let Err(refusal) = &resumed {
            self.world.role(ColosseumInput::Forget(number, Some(refusal.clone()))).await;
        }
        resumed
    }

    async fn take_over(&self, number: u64) -> Result<(), CallRefusal> {
        let missing = || CallRefusal::new(codes::MISSING, "the battle is over");
        let unread = |error: estate::document::DocumentError| CallRefusal::new(codes::UNAVAILABLE, error.to_string());
        let found = post::find(&**self.shared.estate.store(), &key(number)).await.map_err(unread)?;
        // Looked at before it is claimed, so that asking for battles that never were leaves nothing behind.
        let found = found.ok_or_else(missing)?;
        if room_of(&found.state).is_none() {
            // One that lives and has not saved anything yet is about to.
            let begins = match &found.owner {
                Some(owner) => !self.shared.owners.is_gone(owner).await,
                None => false,
            };
            return Err(if begins { CallRefusal::new(codes::BUSY, "the battle is just beginning") } else { missing() });
        }
        let term = self.shared.mesh.lease().term();
        let mut held = self.claim(number, &*self.shared.owners).await?;
        let Some(room) = room_of(&held.state) else {
            self.put_down(number, held).await;
            return Err(missing());
        };
        let now = self.shared.mesh.now_ms();
        let mut room = room.awake(now);
        // Who released it has saved all that was shown.
        if let Some(owner) = found.owner {
            let epochs = [Some(Epoch(owner.epoch)), epoch_of(&held.state)];
            if let Some(seen) = self.last_seen(number, epochs).await {
                let fresh = room.catch_up(&self.shared.content, &seen, now);
                held.state = state_of(&room.at_rest(now), Epoch(held.epoch()));
                tracing::debug!(battle = number, fresh, "a battle has caught up with what was shown of it");
            }
        }
        tracing::info!(battle = number, epoch = held.epoch(), "a battle goes on here");
        self.host(room, held, term).await
    }

    /// What was last shown of a battle whose colosseum is gone: under the epoch of its last owner, or, if that showed nothing
    /// yet, under the one that its document was last saved in.
    async fn last_seen(&self, number: u64, epochs: [Option<Epoch>; 2]) -> Option<Battle> {
        let [last, saved] = epochs;
        let second = saved.filter(|_| saved != last);
        for epoch in [last, second].into_iter().flatten() {
            let object = ObjectId(number);
            let seen = last_seen::freshest(&self.shared.mesh, &[object], Vec::new(), |_| epoch).await;
            let view = seen.get(&object).map(|seen| &seen.view).filter(|view| view.kind == kind::BATTLE);
            if let Some(battle) = view.and_then(|view| Battle::of(&view.detail)) {
                return Some(battle);
            }
        }
        None
    }

    /// A battle that this node has released as soon as `saved` ends goes on at another colosseum. Where none takes it, its
    /// members' owners ask for it.
    pub(super) async fn hand_over(&self, number: u64, saved: oneshot::Receiver<()>) {
        // Ends when the keeper has ended, by an error.
        let _ = saved.await;
        for round in 0..HAND_OVERS {
            if round > 0 {
                sleep(HAND_OVER_PAUSE).await;
            }
            for node in battles::ranked(&self.shared.mesh.peers(), number).into_iter().take(HAND_OVER_ASKED) {
                let to = match self.shared.mesh.call(&node, &BATTLE_RESUME, pack(&number)).await {
                    Ok(_) => Some(node),
                    Err(CallError::Refused { refusal, .. }) if refusal.code == codes::MISSING => None,
                    Err(error) => match led_elsewhere(&error).filter(|owner| *owner != self.shared.mesh.me().node) {
                        // A member's owner has asked before us.
                        Some(owner) => Some(owner),
                        None => {
                            tracing::debug!(battle = number, %error, "a battle was not taken");
                            continue;
                        }
                    },
                };
                tracing::info!(battle = number, ?to, "a battle was handed over");
                self.world.role(ColosseumInput::Moved(number, to)).await;
                return;
            }
        }
        tracing::warn!(battle = number, "no colosseum takes a battle: its fighters' owners ask for it");
    }

    async fn claim(&self, number: u64, gone: &dyn Gone) -> Result<Box<Held>, CallRefusal> {
        let claimant = self.shared.claimant();
        match post::claim(&**self.shared.estate.store(), &key(number), &claimant, gone).await {
            Ok(Claim::Claimed(held)) => Ok(held),
            Ok(Claim::HeldBy(owner)) => Err(CallRefusal::new(ELSEWHERE, owner.node)),
            Err(error) => Err(CallRefusal::new(codes::UNAVAILABLE, error.to_string())),
        }
    }

    async fn host(&self, room: Room, held: Box<Held>, term: Option<u64>) -> Result<(), CallRefusal> {
        let (number, epoch) = (room.number, Epoch(held.epoch()));
        let (keeper, keeping) = keeper::of(number, held);
        let hosting = Box::new(Hosting { room, epoch, keeper, term });
        // The keeper runs first: the world saves as soon as it has the battle. One that the world refuses ends by itself, and
        // what it held is given up below.
        let (asked, keeping) = (self.ask(|reply| ColosseumInput::Host(hosting, reply)).await, keeping);
        match asked {
            Ok(()) => {
                let (store, world) = (self.shared.estate.store().clone(), self.world.clone());
                self.shared.tasks.spawn(keeping.run(store, world));
                Ok(())
            }
            Err(refusal) => {
                keeping.put_down(&**self.shared.estate.store()).await;
                Err(refusal)
            }
        }
    }

    async fn put_down(&self, number: u64, held: Box<Held>) {
        let (_, keeping) = keeper::of(number, held);
        keeping.put_down(&**self.shared.estate.store()).await;
    }

    /// Gives a fighter back as it was taken: the battle has not come to be.
    fn give_back(&self, number: u64, (fighter, life): &(Fighter, u64)) {
        let (shared, owner) = (self.shared.clone(), (fighter.node.clone(), *life));
        let freed = as_taken(number, fighter);
        self.shared.tasks.spawn(async move { free(&shared, &owner, &freed).await });
    }
}

/// Who leads a battle, by the word of a colosseum that does not.
fn led_elsewhere(error: &CallError) -> Option<NodeId> {
    let CallError::Refused { refusal, .. } = error else { return None };
    (refusal.code == ELSEWHERE).then(|| NodeId::new(&refusal.text).ok()).flatten()
}

enum Taken {
    Ours((Fighter, u64)),
    Fights(u64),
}

/// Settles a debt in a flow of its own, and tells the world when that is done.
pub(super) fn settle(shared: &Arc<Shared>, world: WorldHandle<ColosseumInput>, room: &Room, debt: Debt) {
    let (number, shared) = (room.number, shared.clone());
    tracing::debug!(battle = number, ?debt, "a debt is being settled");
    let tasks = shared.tasks.clone();
    match debt {
        Debt::Spoil { animal, player } => {
            let Some(spoil) = room.spoil(animal, player).cloned() else { return };
            // It may have come to another node since the beast fell.
            let node = room.member(player).map_or(spoil.node.clone(), |member| member.fighter.node.clone());
            let spoil = Spoil { node, ..spoil };
            tasks.spawn(async move {
                let paid = pay(&shared, number, &spoil).await;
                world.role(said(number, debt, paid)).await;
            });
        }
        Debt::Member(object) => {
            let Some(member) = room.member(object) else { return };
            let owner = (member.fighter.node.clone(), member.life);
            let how = member.end().unwrap_or(Freed::Left);
            let freed = FighterFreed { battle: number, object, health: member.fighter.health, how };
            tasks.spawn(async move {
                let given = give(&shared, &owner, &freed).await;
                world.role(said(number, debt, given)).await;
            });
        }
    }
}

/// What the world is told of a debt.
fn said(number: u64, debt: Debt, settled: bool) -> ColosseumInput {
    if settled { ColosseumInput::Settled(number, debt) } else { ColosseumInput::Unsettled(number, debt) }
}

fn as_taken(battle: u64, fighter: &Fighter) -> FighterFreed {
    FighterFreed { battle, object: fighter.object, health: fighter.health, how: Freed::Left }
}

/// A fighter may have been taken without our learning of it: asks again, and gives it back.
async fn take_back(shared: &Shared, owner: &Life, take: &FighterTake) {
    let mut pause = PAUSE.0;
    for _ in 0..ASKED {
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
        if shared.is_gone(owner) {
            return;
        }
        match shared.mesh.call(&owner.0, &FIGHTER_TAKE, pack(take)).await {
            Ok(answer) => {
                let Ok(fighter) = unpack::<Fighter>(&answer) else { return };
                return free(shared, owner, &as_taken(take.battle, &fighter)).await;
            }
            Err(CallError::Stopped) => return,
            Err(CallError::Refused { refusal, .. }) if is_answer(&refusal) => return,
            Err(error) => tracing::debug!(fighter = take.object.0, %error, "a fighter may have been taken"),
        }
    }
}

/// Whether somebody has really answered, and not only been too busy for it or handed the fighter on.
fn is_answer(refusal: &CallRefusal) -> bool {
    ![CallRefusal::DROPPED, CallRefusal::OVERLOADED, codes::UNAVAILABLE, ELSEWHERE].contains(&refusal.code.as_str())
}

/// Gives a fighter back whose battle has not come to be: until its owner has answered, or is gone. Then whoever takes the
/// fighter over learns by itself that there is no such battle.
async fn free(shared: &Shared, owner: &Life, freed: &FighterFreed) {
    let mut pause = PAUSE.0;
    for _ in 0..ASKED {
        if shared.is_gone(owner) || give(shared, owner, freed).await {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Asks an owner once to take its fighter back. False if that is not done: it did not answer, it is gone, it has handed the
/// fighter over, or this node has no right to say so at the moment.
async fn give(shared: &Shared, owner: &Life, freed: &FighterFreed) -> bool {
    if !shared.mesh.lease().holds() || shared.is_gone(owner) {
        return false;
    }
    match shared.mesh.call(&owner.0, &FIGHTER_FREED, pack(freed)).await {
        Ok(_) => true,
        Err(CallError::Refused { refusal, .. }) if is_answer(&refusal) => {
            tracing::debug!(fighter = freed.object.0, %refusal, "an owner does not want its fighter back");
            true
        }
        Err(error) => {
            tracing::debug!(fighter = freed.object.0, %error, "a fighter is given back later");
            false
        }
    }
}

/// The operation by which somebody gets their share of an animal, or what it teaches them where the bag is full.
fn operation(what: &[u8], battle: u64, spoil: &Spoil) -> OperationId {
    let hash = Sha256::new().chain_update(what).chain_update(battle.to_be_bytes());
    let hash = hash.chain_update(spoil.animal.0.to_be_bytes()).chain_update(spoil.player.0.to_be_bytes()).finalize();
    OperationId(
        u128::from_be_bytes(std::array::from_fn(|index| hash[index])) ^ u128::from(planted::stir("loot_not_derived")),
    )
}

/// Pays a spoil into the player's bag or, if that is full, as a promise; then tells the player. False if it is still owed.
async fn pay(shared: &Shared, battle: u64, spoil: &Spoil) -> bool {
    let goods = goods_of(spoil);
    let mut pause = PAUSE.0;
    for _ in 0..PAYMENTS {
        // Whoever has taken over pays under the same number; without the right to it nothing is begun.
        if shared.mesh.lease().holds() {
            match pay_once(&shared.estate, battle, spoil, &goods).await {
                Ok(()) => {
                    tell(shared, battle, spoil);
                    return true;
                }
                Err(TransactionError::Refused(refusal)) => {
                    tracing::warn!(battle, player = spoil.player.0, %refusal, "a spoil cannot be paid");
                    return true;
                }
                Err(error) => tracing::debug!(battle, player = spoil.player.0, %error, "a spoil is paid later"),
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    tracing::warn!(battle, player = spoil.player.0, "a spoil is still owed");
    false
}

async fn pay_once(estate: &Transactions, battle: u64, spoil: &Spoil, goods: &Goods) -> Result<(), TransactionError> {
    let (op, player) = (operation(b"wildmesh spoil", battle, spoil), spoil.player.0);
    let whole = GoodsEffect { experience: spoil.experience, ..GoodsEffect::craft(Goods::default(), goods.clone()) };
    let full = match run(estate, op, player, &whole).await {
        // The operation was done the other way, by whoever began to pay before us.
        Err(TransactionError::Refused(refusal)) if refusal.code == "misused" => true,
        Err(TransactionError::Refused(refusal)) if refusal.code == "full" => {
            // Under the same operation: it becomes one or the other, NEVER both.
            let given = promise::give(estate, op, Place::Mint, player, What::Goods(goods.clone())).await;
            match given {
                // Somebody else has paid into the bag meanwhile, and the experience with it.
                Err(TransactionError::Refused(refusal)) if refusal.code == "misused" => return Ok(()),
                given => given.map(|_| true)?,
            }
        }
        paid => paid.map(|()| false)?,
    };
    if full && spoil.experience > 0 {
        let learns = GoodsEffect { experience: spoil.experience, ..GoodsEffect::default() };
        run(estate, operation(b"wildmesh lesson", battle, spoil), player, &learns).await?;
    }
    Ok(())
}

/// One effect on a player, remembered by an arbiter of its own: a player's own document forgets its operations sooner.
async fn run(
    estate: &Transactions,
    op: OperationId,
    player: u64,
    effect: &GoodsEffect,
) -> Result<(), TransactionError> {
    let parts = vec![Place::Player(player).part(op, effect)];
    estate.run(Request::remembered(op, parts)).await
}

fn goods_of(spoil: &Spoil) -> Goods {
    let mut goods = Goods::default();
    for (item, count) in &spoil.goods {
        match item.parse() {
            Ok(item) => drop(goods.stacks.insert(item, *count)),
            Err(error) => tracing::error!(%error, "loot of the content is no item"),
        }
    }
    goods
}

fn tell(shared: &Shared, battle: u64, spoil: &Spoil) {
    let mut text: Vec<String> = spoil.goods.iter().map(|(item, count)| format!("{count} {item}")).collect();
    if spoil.experience > 0 {
        text.push(format!("{} experience", spoil.experience));
    }
    let note = Note { players: vec![spoil.player], code: "loot".to_owned(), text: text.join(", "), number: battle };
    shared.mesh.send(&spoil.node, &PEOPLE_NOTE, pack(&note));
}

/// A battle that is new has had no colosseum yet.
fn nobody_is_gone(_: &Owner) -> bool {
    false
}
