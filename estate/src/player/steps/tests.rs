//! Owners in transactions: steps that come twice or late, saves that fail, owners that were fenced or have let go.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::*;
use crate::goods::balance::balance;
use crate::goods::{self, Goods, Leg, Place, transfer};
use crate::player::{self, Birth, Claim, Claimant, claim, release};
use crate::store::memory::{Fault, Faults, MemoryStore, Rates};
use crate::store::{Store, WriteOptions};
use crate::transaction::{Gone, Intent, Kinds, NoOwners, OperationId, Owners, REMEMBERED, Request};

const ANN: u64 = 1;
const BOB: u64 = 2;

/// A node that owns players, as frontends will.
struct Home {
    transactions: OnceLock<Arc<Transactions>>,
    players: Mutex<BTreeMap<u64, Claimed>>,
    gone: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Gone for Home {
    async fn is_gone(&self, _owner: &Owner) -> bool {
        self.gone.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[async_trait]
impl Owners for Home {
    async fn take(&self, owner: &Owner, step: &Step) -> Result<Stepped, TransactionError> {
        let mut players = self.players.lock().await;
        let held = players.values_mut().find(|claimed| claimed.owner() == owner && !claimed.over());
        let claimed = held.ok_or_else(|| TransactionError::Busy(step.key.clone()))?;
        let transactions = self.transactions.get().ok_or_else(|| TransactionError::Busy(step.key.clone()))?;
        take(transactions, claimed, step).await
    }
}

struct World {
    store: MemoryStore,
    /// What goes wrong between the owner and the store.
    faults: Faults,
    home: Arc<Home>,
    /// The owner's transactions.
    at_home: Arc<Transactions>,
    /// Those of another node.
    away: Transactions,
}

fn on(store: MemoryStore, owners: Arc<dyn Owners>, seed: u64) -> Transactions {
    Transactions::new(Arc::new(store), goods::kinds(Kinds::default()), owners, seed)
}

fn some(text: &str, count: u64) -> Goods {
    Goods::stack(text.parse().expect("a name"), count)
}

fn wood(from: Place, to: Place, count: u64) -> Leg {
    Leg { from, to, goods: some("wood", count) }
}

fn me(name: &str, number: u64) -> Claimant {
    Claimant { node: name.to_owned(), incarnation: 1, claim: number }
}

impl World {
    /// Ann, at home, with ten wood; Bob, whom nobody owns.
    async fn new() -> World {
        let store = MemoryStore::new();
        let tool = on(store.client(), Arc::new(NoOwners { all_gone: true }), 3);
        for id in [ANN, BOB] {
            let birth = Birth { hue: 1, island: 1, x: 0, y: 0 };
            player::create(&store, id, &format!("account{id}"), "Name", &birth).await.expect("create");
        }
        let made = [wood(Place::Mint, Place::Player(ANN), 10)];
        transfer(&tool, OperationId(0xf1), &made).await.expect("made");
        let client = store.client();
        let home =
            Arc::new(Home { transactions: OnceLock::new(), players: Mutex::default(), gone: Default::default() });
        let faults = client.faults();
        let at_home = Arc::new(on(client, home.clone(), 4));
        home.transactions.set(at_home.clone()).map_err(drop).expect("set once");
        let away = on(store.client(), home.clone(), 5);
        let world = World { store, faults, home, at_home, away };
        let claimed = world.claim("home", 1).await;
        world.home.players.lock().await.insert(ANN, claimed);
        world
    }

    async fn claim(&self, node: &str, number: u64) -> Claimed {
        match claim(&self.store, ANN, &me(node, number), &crate::player::Seating::AsItIs, &|_: &Owner| true)
            .await
            .expect("claim")
        {
            Claim::Claimed(claimed) => *claimed,
            other => panic!("{other:?}"),
        }
    }

    fn stored(&self, id: u64) -> PlayerDocument {
        serde_json::from_slice(&self.store.snapshot()[&key(id)].value).expect("a player")
    }

    async fn memory(&self) -> PlayerDocument {
        self.home.players.lock().await[&ANN].document.clone()
    }

    async fn step(&self, step: &Step) -> Result<Stepped, TransactionError> {
        let mut players = self.home.players.lock().await;
        take(&self.at_home, players.get_mut(&ANN).expect("Ann"), step).await
    }

    /// A transfer's arbiter as its driver leaves it, and the steps that it would ask for next.
    async fn begun(&self, state: &str) -> (Intent, [Step; 3]) {
        let intent = Intent { arbiter: format!("transfer/{}", OperationId(7)), op: OperationId(7), token: 70 };
        let arbiter = serde_json::json!({"v": 1, "token": 70, "state": state, "digest": 1, "parts": []});
        let value = bytes::Bytes::from(arbiter.to_string());
        match self.store.get(&intent.arbiter).await.expect("read") {
            Some(stored) => {
                let written = self.store.replace(&intent.arbiter, value, stored.version, WriteOptions::default()).await;
                written.expect("written")
            }
            None => self.store.insert(&intent.arbiter, value, WriteOptions::default()).await.expect("written"),
        };
        let effect = GoodsEffect { take: some("wood", 3), ..GoodsEffect::default() };
        let effect = serde_json::to_value(&effect).expect("json");
        let acts = [Act::Mark { effect: effect.clone(), closed: None }, Act::Apply { effect }, Act::Clear];
        // Ann's first goods came by an operation of hers alone: no transfer has to be closed first.
        let steps = acts.map(|act| Step { key: key(ANN), intent: intent.clone(), act });
        (intent, steps)
    }

    fn even(&self) {
        let balance = balance(&self.store.snapshot()).expect("readable");
        assert_eq!((balance.differences().count(), balance.unsettled()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_with_an_owner_changes_memory_and_store_alike() {
    let world = World::new().await;
    let there = [wood(Place::Player(ANN), Place::Player(BOB), 3)];
    for node in [&world.away, &*world.at_home] {
        transfer(node, OperationId(1), &there).await.expect("moved");
        assert_eq!((world.memory().await.bag, world.stored(BOB).bag), (some("wood", 7), some("wood", 3)));
        assert_eq!(world.stored(ANN), world.memory().await);
    }
    let back = [wood(Place::Player(BOB), Place::Player(ANN), 2)];
    transfer(&world.away, OperationId(2), &back).await.expect("moved");
    // One document alone, by its owner and by another node.
    for (node, op) in [(&world.away, 3), (&*world.at_home, 4)] {
        for _ in 0..2 {
            let made = [wood(Place::Mint, Place::Player(ANN), 10)];
            transfer(node, OperationId(op), &made).await.expect("gathered");
        }
    }
    assert_eq!(world.memory().await.bag, some("wood", 29));
    assert_eq!(world.stored(ANN), world.memory().await);
    let owner = world.home.players.lock().await[&ANN].owner().clone();
    assert_eq!(world.stored(ANN).owner, Some(owner), "the owner stays the owner");
    world.even();
}

#[tokio::test(start_paused = true)]
async fn a_step_that_comes_twice_has_no_second_effect() {
    let world = World::new().await;
    let (intent, [mark, apply, clear]) = world.begun("pending").await;
    assert_eq!(world.step(&mark).await, Ok(Stepped::Taken));
    assert_eq!(world.stored(ANN).marks.intent, Some(intent.clone()), "durable before it is answered");
    assert_eq!(world.step(&mark).await, Ok(Stepped::Already));
    assert_eq!(world.stored(ANN).bag, some("wood", 10), "a mark only checks");
    world.begun("committed").await;
    for expected in [Stepped::Taken, Stepped::Already, Stepped::Already] {
        assert_eq!(world.step(&apply).await, Ok(expected));
        assert_eq!((world.stored(ANN).bag, world.memory().await.bag), (some("wood", 7), some("wood", 7)));
    }
    assert_eq!(world.step(&clear).await, Ok(Stepped::Already));
    assert_eq!(world.memory().await.marks.last, Some(intent));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_comes_after_the_end_has_no_effect() {
    for end in ["committed", "aborted", "done", "forgotten", "another"] {
        let world = World::new().await;
        let (intent, [mut mark, apply, clear]) = world.begun(if end == "another" { "pending" } else { end }).await;
        if end == "forgotten" {
            let stored = world.store.get(&intent.arbiter).await.expect("read").expect("there");
            let removed = world.store.remove(&intent.arbiter, stored.version, WriteOptions::default()).await;
            removed.expect("removed");
        }
        if end == "another" {
            // The arbiter stands for a newer attempt at the same operation.
            mark.intent.token = 69;
        }
        let before = world.memory().await;
        for late in [&mark, &apply, &clear, &mark] {
            assert_eq!(world.step(late).await, Ok(Stepped::Already), "{end}: {late:?}");
        }
        assert_eq!(world.memory().await, before, "{end}");
        assert_eq!(world.stored(ANN), before, "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_not_possible_is_refused_and_marks_nothing() {
    let world = World::new().await;
    let (_, [mut mark, ..]) = world.begun("pending").await;
    for (effect, expected) in [
        (serde_json::json!({"take": {"stacks": {"wood": 11}}}), "too_little"),
        (serde_json::json!({"put": {"stacks": {"wood": u64::MAX}}}), "overflow"),
        (serde_json::json!({"put": {"stacks": {"wood": -1}}}), "malformed"),
        (serde_json::json!({"wings": 2}), "malformed"),
        (serde_json::json!({"close": true}), "malformed"),
        (serde_json::json!({"keep": {"after": 3, "to": 4}}), "kept"),
        (serde_json::json!({"keep": {"after": 0, "to": 0}}), "kept"),
    ] {
        mark.act = Act::Mark { effect, closed: None };
        let before = world.memory().await;
        match world.step(&mark).await {
            Ok(Stepped::Refused(refusal)) => assert_eq!(refusal.code, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!((world.memory().await, world.stored(ANN)), (before.clone(), before));
    }
    let elsewhere = Step { key: key(BOB), ..mark };
    assert!(matches!(world.step(&elsewhere).await, Ok(Stepped::Refused(_))), "a step on somebody else");
}

/// The faults after which an owner does not know what the store has.
const FAILURES: [Fault; 3] = [Fault::Refuse, Fault::LoseRequest, Fault::LoseReply];

#[tokio::test(start_paused = true)]
async fn an_owner_whose_save_failed_saves_before_it_says_already() {
    for fault in FAILURES {
        let world = World::new().await;
        let (intent, [mark, apply, _]) = world.begun("pending").await;
        for step in [&mark, &apply] {
            // A mark looks at the arbiter first. After the fault the store cannot be reached for a while.
            let calls = u64::from(*step == mark);
            world.faults.random(1, Rates { refuse: 1_000, ..Rates::default() });
            for call in 0..calls {
                world.faults.at(call, Fault::Storm);
            }
            world.faults.at(calls, fault);
            let error = world.step(step).await.expect_err("the store is away");
            assert_ne!(error.outcome(), crate::store::Outcome::Done, "{fault:?}");
            world.step(step).await.expect_err("the store is still away, so nothing is said to be done");
            world.faults.clear();
            assert_eq!(world.step(step).await, Ok(Stepped::Already), "{fault:?}");
            assert_eq!(world.stored(ANN), world.memory().await, "{fault:?}: what is said to be done is durable");
            world.begun("committed").await;
        }
        assert_eq!(world.stored(ANN).bag, some("wood", 7));
        assert_eq!(world.stored(ANN).marks.last, Some(intent));
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_save_of_a_place_does_not_make_a_step_durable() {
    let world = World::new().await;
    let (_, [mark, ..]) = world.begun("pending").await;
    world.faults.random(1, Rates { refuse: 1_000, ..Rates::default() });
    world.faults.at(0, Fault::Storm);
    world.step(&mark).await.expect_err("the store is away");
    world.faults.clear();
    let mut players = world.home.players.lock().await;
    let claimed = players.get_mut(&ANN).expect("Ann");
    save(&world.store, claimed, Ack::Early).await.expect("saved");
    assert!(claimed.unsaved, "seen by all, but a loss of power may take it back");
    save(&world.store, claimed, Ack::Durable).await.expect("saved");
    assert!(!claimed.unsaved);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_answers_no_step() {
    let world = World::new().await;
    let (_, steps) = world.begun("pending").await;
    world.claim("heir", 1).await;
    for step in steps.iter().chain(&steps) {
        let before = world.stored(ANN);
        match world.step(step).await {
            // A step without anything to do is as true of the heir's document, until the first save finds it out.
            Ok(Stepped::Already) => assert!(!matches!(step.act, Act::Mark { .. })),
            Err(TransactionError::Unknown { op: OperationId(7), .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(world.stored(ANN), before);
    }
    assert!(world.home.players.lock().await[&ANN].over());
    let error = world.step(&steps[1]).await.expect_err("over");
    assert_eq!(
        error.to_string(),
        format!("operation {} may or may not have happened: player/1 is no longer owned here", OperationId(7))
    );
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_know_that_it_released_never_saves_over_a_transfer() {
    for saves in [true, false] {
        let world = World::new().await;
        let mut ann = world.home.players.lock().await.remove(&ANN).expect("Ann");
        let cut = world.store.client();
        cut.faults().random(1, Rates { refuse: 1_000, ..Rates::default() });
        cut.faults().at(0, Fault::LoseReply);
        release(&cut, &mut ann).await.expect_err("the reply is lost");
        let there = [wood(Place::Player(ANN), Place::Player(BOB), 3)];
        transfer(&world.away, OperationId(1), &there).await.expect("nobody owns Ann");
        ann.document.x = 99;
        let again = if saves {
            save(&world.store, &mut ann, Ack::Durable).await
        } else {
            release(&world.store, &mut ann).await
        };
        assert!(matches!(again, Err(PlayerError::Fenced { by: None, .. })), "{again:?}");
        assert!(ann.over());
        assert_eq!((world.stored(ANN).bag, world.stored(BOB).bag), (some("wood", 7), some("wood", 3)));
        world.even();
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_judged_gone_is_fenced_by_the_first_step_of_others() {
    let world = World::new().await;
    world.home.gone.store(true, std::sync::atomic::Ordering::Relaxed);
    let there = [wood(Place::Player(ANN), Place::Player(BOB), 3)];
    transfer(&world.away, OperationId(1), &there).await.expect("moved");
    let mut players = world.home.players.lock().await;
    let ann = players.get_mut(&ANN).expect("Ann");
    ann.document.x = 99;
    assert!(matches!(save(&world.store, ann, Ack::Durable).await, Err(PlayerError::Fenced { .. })));
    assert_eq!(world.stored(ANN).bag, some("wood", 7));
    assert_eq!((world.stored(ANN).owner, world.stored(ANN).epoch > 1), (None, true));
    world.even();
}

#[tokio::test(start_paused = true)]
async fn a_claim_between_mark_and_apply_takes_the_intent_along() {
    let world = World::new().await;
    let mut ann = world.home.players.lock().await.remove(&ANN).expect("Ann");
    release(&world.store, &mut ann).await.expect("released");
    // A driver that dies after its commit, whose arbiter says what is to be done.
    let dying = world.store.client();
    let faults = dying.faults();
    let node = on(dying, Arc::new(NoOwners { all_gone: true }), 6);
    let there = [wood(Place::Player(ANN), Place::Player(BOB), 3)];
    // Calls from 0: arbiter looked for and written, Ann read and marked, Bob read and marked, committed.
    faults.at(6, Fault::StopAfter);
    let stopped = tokio::time::timeout(Duration::from_secs(1), transfer(&node, OperationId(1), &there)).await;
    assert!(stopped.is_err(), "it died");
    assert_eq!(world.stored(ANN).bag, some("wood", 10));
    let claimed = world.claim("home", 2).await;
    assert!(claimed.document.marks.intent.is_some(), "held by the transfer");
    world.home.players.lock().await.insert(ANN, claimed);
    // Asked again by another node, which finds it committed and has the new owner apply it.
    transfer(&world.away, OperationId(1), &there).await.expect("moved");
    assert_eq!((world.memory().await.bag, world.stored(BOB).bag), (some("wood", 7), some("wood", 3)));
    assert_eq!(world.stored(ANN), world.memory().await);
    assert_eq!(world.memory().await.marks.intent, None);
    world.even();
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(world.store.snapshot().into_keys().collect::<Vec<_>>(), ["player/1", "player/2"]);
}

#[tokio::test(start_paused = true)]
async fn saving_a_place_and_releasing_keep_bag_and_intent() {
    let world = World::new().await;
    let (intent, [mark, ..]) = world.begun("pending").await;
    assert_eq!(world.step(&mark).await, Ok(Stepped::Taken));
    let mut players = world.home.players.lock().await;
    let ann = players.get_mut(&ANN).expect("Ann");
    ann.document.x = 5;
    save(&world.store, ann, Ack::Early).await.expect("saved");
    assert_eq!(world.stored(ANN).marks.intent.as_ref(), Some(&intent));
    release(&world.store, ann).await.expect("released");
    assert_eq!((world.stored(ANN).marks.intent, world.stored(ANN).bag), (Some(intent), some("wood", 10)));
    drop(players);
    // Whoever meets the intent settles it: nobody drives it, and its arbiter is pending for too long.
    let request =
        Request::transfer(OperationId(9), vec![Place::Player(ANN).part(OperationId(9), &GoodsEffect::default())]);
    let mut asked = 0;
    while world.away.run(request.clone()).await.is_err() {
        asked += 1;
        assert!(asked < 5, "patience is bounded");
    }
    assert_eq!(world.stored(ANN).marks.intent, None);
    world.even();
}

#[tokio::test(start_paused = true)]
async fn promises_are_kept_through_the_owner_at_once() {
    let world = World::new().await;
    let what = goods::promise::What::Goods(some("fish", 2));
    for told in [1, 0] {
        let given = goods::promise::give(&world.away, OperationId(1), Place::Mint, ANN, what.clone()).await;
        assert_eq!(given.expect("given").kept.len(), told);
        let ann = world.memory().await;
        assert_eq!((ann.kept, ann.bag.stacks.len()), (1, 2));
        assert_eq!(world.stored(ANN), ann);
    }
    goods::promise::give(&world.away, OperationId(2), Place::Mint, BOB, what).await.expect("given");
    assert_eq!(world.stored(BOB).kept, 0, "Bob is away");
    world.even();
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_old_never_says_that_what_its_heir_has_marked_is_applied() {
    let world = World::new().await;
    let (_, steps) = world.begun("pending").await;
    // The same node has claimed again, or another; the mark went to the heir, and the step after it comes to the owner of old.
    let mut heir = world.claim("heir", 1).await;
    assert_eq!(take(&world.away, &mut heir, &steps[0]).await, Ok(Stepped::Taken));
    world.begun("committed").await;
    let told = world.step(&steps[1]).await;
    assert!(told.is_err(), "{told:?}: its driver would close the transfer, and three wood would never have been taken");
    assert!(world.home.players.lock().await[&ANN].over());
}
