//! Transfers, trades and promises: goods are conserved, what was told is true, nothing is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use estate::goods::promise::{PromiseDocument, What, give, keep};
use estate::goods::trade::{self, TradeDocument, TradeState};
use estate::goods::{
    self, BoxKind, Goods, GoodsEffect, GroundKind, Leg, Limits, MintKind, Place, PromiseKind, transfer,
};
use estate::player::{self, Birth, Claim, Claimant, Owner, PlayerDocument, PlayerKind};
use estate::schedules::{Bounds, End, Scenario, explore};
use estate::store::{Outcome, Store, Stored};
use estate::transaction::{
    Gone, Kinds, NoOwners, OperationId, Owners, PATIENCE, REMEMBERED, Request, Step, Stepped, TransactionError,
    Transactions,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::{ensure, left};

const ANN: u64 = 1;
const BOB: u64 = 2;
const A: Place = Place::Player(ANN);
const B: Place = Place::Player(BOB);
const CHEST: Place = Place::Box(9);
const GRASS: Place = Place::Ground { island: 1, x: 0, y: 0 };
const TRADE: OperationId = OperationId(0x7ade);
/// What was made before everything.
const MADE: OperationId = OperationId(0xf1);

/// Stands for keeping Bob's promises, which has no operation of its own.
const KEEPING: u128 = 0;
/// What the drivers do.
const OPERATIONS: [u128; 2] = [1, 2];

/// Explores within bounds that let all of this file take a minute or two, prints what was tried, and wants it to be much.
fn prove<T: 'static>(scenario: &Scenario<T>) {
    let report = explore(scenario, &Bounds { schedules: 600, random: 500, ..Bounds::default() });
    println!("{report}");
    assert!(report.schedules > 1_000 && report.stopped > 0 && report.lost > 0 && report.paused > 0, "{report}");
}

type Told = Result<(), TransactionError>;
type Documents = BTreeMap<String, Stored>;

fn on(store: Arc<dyn Store>, seed: u64) -> Transactions {
    Transactions::new(store, goods::kinds(Kinds::default()), Arc::new(NoOwners { all_gone: true }), seed)
}

fn some(item: &str, count: u64) -> Goods {
    Goods::stack(item.parse().expect("a name"), count)
}

fn leg(from: Place, to: Place, item: &str, count: u64) -> Leg {
    Leg { from, to, goods: some(item, count) }
}

/// Ann has ten wood, Bob ten stone, and a chest stands.
async fn village(store: Arc<dyn Store>) {
    let transactions = on(store.clone(), 8_000);
    let birth = Birth { hue: 1, island: 1, x: 0, y: 0 };
    for (id, item) in [(ANN, "wood"), (BOB, "stone")] {
        player::create(&*store, id, &format!("account{id}"), "Name", &birth).await.expect("create");
        transfer(&transactions, MADE, &[leg(Place::Mint, Place::Player(id), item, 10)]).await.expect("made");
    }
    let built = CHEST.part(MADE, &GoodsEffect::open(Limits { slots: 4, per_stack: 10 }));
    transactions.run(Request::transfer(MADE, vec![built])).await.expect("built");
}

/// Reads as the game does, all that a transaction here may have touched, then lets memories expire.
async fn recover(store: Arc<dyn Store>) -> Result<(), String> {
    let reader = on(store.clone(), 9_000);
    let read = async {
        for id in [ANN, BOB] {
            reader.read(&PlayerKind, &player::key(id)).await?;
            reader.read(&PromiseKind, &goods::promise::key(id)).await?;
        }
        reader.read(&BoxKind, &CHEST.key(MADE)).await?;
        reader.read(&GroundKind, &GRASS.key(MADE)).await?;
        for op in OPERATIONS {
            reader.read(&MintKind, &Place::Mint.key(OperationId(op))).await?;
        }
        trade::find(&reader, TRADE).await?;
        keep(&reader, BOB).await
    };
    read.await.map_err(|error: TransactionError| error.to_string())?;
    sleep(REMEMBERED + PATIENCE).await;
    Ok(())
}

/// How much of an item lies at a place in the end.
fn count(documents: &Documents, place: Place, item: &str) -> Result<u64, String> {
    let key = place.key(MADE);
    let held = match place {
        Place::Player(_) => left::<PlayerDocument>(documents, &key)?.map(|document| document.bag),
        Place::Box(_) => left::<goods::container::BoxDocument>(documents, &key)?.map(|document| document.0.goods),
        _ => left::<goods::container::GroundDocument>(documents, &key)?.map(|document| document.0.goods),
    };
    Ok(held.and_then(|goods| goods.stacks.get(&item.parse().expect("a name")).copied()).unwrap_or(0))
}

/// What holds in the end whatever was done: the books agree, nothing is held, nothing is left but what holds goods.
fn check_rest(documents: &Documents) -> Result<(), String> {
    let balance = goods::balance::balance(documents).map_err(|error| error.to_string())?;
    ensure(balance.unsettled() == 0, || "an intent was left".to_owned())?;
    if let Some(difference) = balance.differences().next() {
        return Err(difference.to_string());
    }
    if let Some(trade) = left::<TradeDocument>(documents, &trade::key(TRADE))? {
        ensure(trade.marks.intent.is_none() && trade.state == TradeState::Open, || format!("left over: {trade:?}"))?;
    }
    let kinds = ["player/", "box/", "ground/", "mint/", "promise/", "trade/"];
    let over = documents.keys().find(|key| !kinds.iter().any(|kind| key.starts_with(kind)));
    ensure(over.is_none(), || format!("left over: {over:?}"))?;
    let promises = left::<PromiseDocument>(documents, &goods::promise::key(BOB))?;
    ensure(promises.is_none_or(|promises| promises.queue.is_empty()), || "a promise is not kept".to_owned())
}

/// What was told of each operation fits what has happened. `ops` are those of the drivers, in their order.
fn check_told(end: &End<Told>, ops: &[u128], happened: &BTreeSet<u128>) -> Result<(), String> {
    // Keeping has no answer that could be wrong: that each promise is kept once shows in the documents.
    for op in ops.iter().filter(|op| **op != KEEPING) {
        let told: Vec<&Option<Told>> =
            end.answers.iter().zip(ops).filter(|(_, of)| *of == op).map(|(told, _)| told).collect();
        let did = happened.contains(op);
        let acknowledged = told.iter().any(|told| matches!(told, Some(Ok(()))));
        let surely_not = |told: &&Option<Told>| matches!(told, Some(Err(error)) if error.outcome() == Outcome::NotDone);
        ensure(did || !acknowledged, || format!("{op} was acknowledged, but has not happened: {:?}", end.answers))?;
        ensure(!did || !told.iter().all(surely_not), || {
            format!("{op} was denied, but has happened: {:?}", end.answers)
        })?;
        let stuck = told.iter().any(|told| matches!(told, Some(Err(TransactionError::Stuck { .. }))));
        ensure(!stuck, || format!("{op} is stuck: {:?}", end.answers))?;
    }
    Ok(())
}

/// One transfer for each driver; `effects` tells how much of wood Bob has by each operation if it happened.
fn transfers(
    name: &str,
    drivers: &'static [(u128, &'static [Leg])],
    happened: fn(&Documents) -> Result<BTreeSet<u128>, String>,
) -> Scenario<Told> {
    let ops: Vec<u128> = drivers.iter().map(|(op, _)| *op).collect();
    let scenario = Scenario::new(name).setup(village).recover(recover).check(move |end| {
        check_rest(&end.documents)?;
        check_told(end, &ops, &happened(&end.documents)?)
    });
    drivers.iter().zip(1..).fold(scenario, |scenario, ((op, legs), seed)| {
        scenario.driver(move |store| async move { transfer(&on(store, seed), OperationId(*op), legs).await })
    })
}

/// The set of operations that explains what is at places. Each operation changes each count by its number here or by none.
fn explain(found: &[u64], start: &[u64], ops: &[(u128, &[i64])]) -> Result<BTreeSet<u128>, String> {
    for set in 0_u32..1 << ops.len() {
        let of = || ops.iter().enumerate().filter(move |(place, _)| set >> place & 1 == 1).map(|(_, op)| op);
        let fits = start.iter().enumerate().all(|(place, start)| {
            let sum = of().map(|(_, changes)| changes[place]).sum::<i64>();
            start.checked_add_signed(sum) == Some(found[place])
        });
        if fits {
            return Ok(of().map(|(op, _)| *op).collect());
        }
    }
    Err(format!("an operation happened twice or by half: {found:?}"))
}

/// Legs live as long as the tests.
fn legs(legs: Vec<Leg>) -> &'static [Leg] {
    Vec::leak(legs)
}

#[test]
fn a_transfer_asked_for_twice_at_once_happens_once() {
    let there = legs(vec![leg(A, B, "wood", 3)]);
    let drivers = Vec::leak(vec![(1, there), (1, there)]);
    prove(&transfers("goods: one transfer twice", drivers, |documents| {
        let found = [count(documents, A, "wood")?, count(documents, B, "wood")?];
        explain(&found, &[10, 0], &[(1, &[-3, 3])])
    }));
}

#[test]
fn transfers_that_cross_happen_whole_or_not_at_all() {
    let drivers = Vec::leak(vec![
        (1, legs(vec![leg(A, B, "wood", 7), leg(B, A, "stone", 1)])),
        (2, legs(vec![leg(B, A, "stone", 2), leg(A, CHEST, "wood", 6)])),
    ]);
    prove(&transfers("goods: transfers that cross", drivers, |documents| {
        let found = [
            count(documents, A, "wood")?,
            count(documents, B, "wood")?,
            count(documents, A, "stone")?,
            count(documents, CHEST, "wood")?,
        ];
        let happened = explain(&found, &[10, 0, 0, 0], &[(1, &[-7, 7, 1, 0]), (2, &[-6, 0, 2, 6])])?;
        ensure(happened.len() < 2, || "there is too little for both".to_owned())?;
        Ok(happened)
    }));
}

fn many_legs() -> &'static [Leg] {
    legs(vec![
        leg(A, B, "wood", 3),
        leg(A, CHEST, "wood", 2),
        leg(A, B, "wood", 1),
        leg(B, GRASS, "stone", 4),
        leg(Place::Mint, CHEST, "gold", 5),
    ])
}

#[test]
fn a_transfer_of_many_legs_happens_whole_or_not_at_all() {
    fn happened(documents: &Documents) -> Result<BTreeSet<u128>, String> {
        let at = |place, item| count(documents, place, item);
        let found = [at(A, "wood")?, at(B, "wood")?, at(CHEST, "wood")?, at(GRASS, "stone")?, at(CHEST, "gold")?];
        explain(&found, &[10, 0, 0, 0, 0], &[(1, &[-6, 4, 2, 4, 5]), (2, &[-1, 0, 1, 0, 0])])
    }
    prove(&transfers("goods: many legs twice", Vec::leak(vec![(1, many_legs()), (1, many_legs())]), happened));
    let other = legs(vec![leg(A, CHEST, "wood", 1)]);
    prove(&transfers("goods: many legs and another", Vec::leak(vec![(1, many_legs()), (2, other)]), happened));
}

#[test]
fn gathering_twice_at_once_gathers_once() {
    let berries = legs(vec![leg(Place::Mint, A, "berry", 2), leg(A, Place::Mint, "wood", 1)]);
    prove(&transfers("goods: one gathering twice", Vec::leak(vec![(1, berries), (1, berries)]), |documents| {
        explain(&[count(documents, A, "berry")?, count(documents, A, "wood")?], &[0, 10], &[(1, &[2, -1])])
    }));
}

/// What one side says in a trade that both have made their offers in.
#[derive(Clone, Copy, Debug)]
enum Says {
    Consents,
    Withdraws,
    OffersElse,
}

/// A trade of five wood for four stone at revision 2; `agreed` have consented before the drivers speak.
fn trading(name: &str, agreed: &'static [u64], drivers: &'static [(u128, u64, Says)]) -> Scenario<Option<Told>> {
    let setup = move |store: Arc<dyn Store>| async move {
        village(store.clone()).await;
        let node = on(store, 8_001);
        trade::open(&node, TRADE, [ANN, BOB]).await.expect("opened");
        trade::offer(&node, OperationId(101), TRADE, ANN, some("wood", 5)).await.expect("offered");
        trade::offer(&node, OperationId(102), TRADE, BOB, some("stone", 4)).await.expect("offered");
        for player in agreed {
            trade::consent(&node, OperationId(110 + u128::from(*player)), TRADE, *player, 2).await.expect("consented");
        }
    };
    let scenario = Scenario::new(name).setup(setup).recover(recover).check(move |end| check_trade(end, drivers));
    drivers.iter().zip(1..).fold(scenario, |scenario, ((op, player, says), seed)| {
        let (op, player) = (OperationId(*op), *player);
        scenario.driver(move |store| async move {
            let node = on(store, seed);
            match says {
                Says::Withdraws => Some(trade::withdraw(&node, op, TRADE, player).await),
                Says::OffersElse => Some(trade::offer(&node, op, TRADE, player, some("stone", 1)).await),
                Says::Consents => match trade::consent(&node, op, TRADE, player, 2).await {
                    Ok(trade::Consented::Waiting) => None,
                    Ok(trade::Consented::Done) => Some(Ok(())),
                    Err(error) => Some(Err(error)),
                },
            }
        })
    })
}

fn check_trade(end: &End<Option<Told>>, drivers: &[(u128, u64, Says)]) -> Result<(), String> {
    check_rest(&end.documents)?;
    let at = |place, item| count(&end.documents, place, item);
    let found = [at(A, "wood")?, at(B, "wood")?, at(A, "stone")?, at(B, "stone")?];
    let traded = !explain(&found, &[10, 0, 0, 10], &[(1, &[-5, 5, 4, -4])])?.is_empty();
    for (told, (op, _, says)) in end.answers.iter().zip(drivers) {
        let Some(Some(told)) = told else { continue };
        let told_so = |holds: bool| ensure(holds, || format!("{op} {says:?} was told {told:?}; traded: {traded}"));
        match (says, told) {
            (Says::Consents, Ok(())) => told_so(traded)?,
            (Says::Withdraws | Says::OffersElse, Ok(())) => told_so(!traded)?,
            // Refused by these words, neither this consent nor the other's trades.
            (Says::Consents, Err(TransactionError::Refused(refusal)))
                if ["changed", "withdrawn"].contains(&refusal.code.as_str()) =>
            {
                told_so(!traded)?;
            }
            (_, Err(TransactionError::Refused(refusal))) if refusal.code == "done" => told_so(traded)?,
            (_, Err(TransactionError::Refused(_))) => told_so(false)?,
            (_, Err(_)) => {}
        }
    }
    let spoken = |told: &&Option<Option<Told>>| matches!(told, Some(None | Some(Ok(()))));
    let consents = drivers.iter().all(|(_, _, says)| matches!(says, Says::Consents));
    let players: BTreeSet<u64> = drivers.iter().map(|(_, player, _)| *player).collect();
    // Whoever consents last sees both consents and trades.
    let all = end.answers.iter().filter(spoken).count() == drivers.len();
    ensure(!(all && consents && players.len() == 2 && !traded), || "both consented, and nobody traded".to_owned())
}

#[test]
fn two_who_consent_at_once_trade_once() {
    const DRIVERS: &[(u128, u64, Says)] = &[(1, ANN, Says::Consents), (2, BOB, Says::Consents)];
    prove(&trading("goods: both consent", &[], DRIVERS));
}

#[test]
fn a_consent_asked_for_twice_at_once_trades_once() {
    const DRIVERS: &[(u128, u64, Says)] = &[(1, ANN, Says::Consents), (1, ANN, Says::Consents)];
    prove(&trading("goods: one consent twice", &[BOB], DRIVERS));
}

#[test]
fn a_trade_is_withdrawn_or_done_but_never_both() {
    const DRIVERS: &[(u128, u64, Says)] = &[(1, ANN, Says::Consents), (2, BOB, Says::Withdraws)];
    prove(&trading("goods: consent and withdrawal", &[BOB], DRIVERS));
}

#[test]
fn an_offer_that_changes_is_never_traded_unseen() {
    const DRIVERS: &[(u128, u64, Says)] = &[(1, ANN, Says::Consents), (2, BOB, Says::OffersElse)];
    prove(&trading("goods: consent and another offer", &[BOB], DRIVERS));
}

/// Gives Bob wood from Ann by each operation, so much as its number; [`KEEPING`] keeps Bob's promises.
fn promising(name: &str, waiting: bool, drivers: &'static [u128]) -> Scenario<Told> {
    let setup = move |store: Arc<dyn Store>| async move {
        village(store.clone()).await;
        if waiting {
            let node = on(store, 8_002);
            for (op, what) in [(101, What::Goods(some("wood", 4))), (102, What::Experience(7))] {
                give(&node, OperationId(op), A, BOB, what).await.expect("given");
            }
        }
    };
    let scenario = Scenario::new(name).setup(setup).recover(recover).check(move |end| {
        check_rest(&end.documents)?;
        let bob = left::<PlayerDocument>(&end.documents, &player::key(BOB))?.ok_or("Bob is gone")?;
        ensure(bob.experience == if waiting { 7 } else { 0 }, || format!("experience {}", bob.experience))?;
        let found = [count(&end.documents, A, "wood")?, count(&end.documents, B, "wood")?];
        let start = if waiting { [6, 4] } else { [10, 0] };
        let happened = explain(&found, &start, &[(1, &[-1, 1]), (2, &[-2, 2])])?;
        check_told(end, drivers, &happened)
    });
    drivers.iter().zip(1..).fold(scenario, |scenario, (op, seed)| {
        scenario.driver(move |store| async move {
            let node = on(store, seed);
            match *op {
                KEEPING => keep(&node, BOB).await.map(drop),
                op => give(&node, OperationId(op), A, BOB, What::Goods(some("wood", op as u64))).await.map(drop),
            }
        })
    })
}

#[test]
fn a_promise_given_twice_at_once_is_given_once() {
    prove(&promising("goods: one promise twice", false, &[1, 1]));
    prove(&promising("goods: two promises", false, &[1, 2]));
}

#[test]
fn two_who_keep_at_once_keep_each_promise_once() {
    prove(&promising("goods: two keep", true, &[KEEPING, KEEPING]));
}

#[test]
fn a_promise_given_while_others_are_kept_is_kept_as_well() {
    prove(&promising("goods: give and keep", true, &[1, KEEPING]));
}

/// How long a node without anything to do stays up.
const IDLE: Duration = Duration::from_secs(20);
/// How long one waits for an owner's answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Whoever gives no sign of life for so long is taken for gone: wrongly, if it was only frozen.
const LEASE: Duration = Duration::from_secs(10);

type Asked = (Step, oneshot::Sender<Result<Stepped, TransactionError>>);

/// The node that has Ann, as others see it. New for every run.
#[derive(Default)]
struct Home {
    door: Mutex<Option<mpsc::UnboundedSender<Asked>>>,
    /// When it was last heard of; `None` once it has ended, or was never there.
    heard: Mutex<Option<Instant>>,
}

/// Says that the node has ended, whatever ended it.
struct Up(Arc<Home>);

impl Drop for Up {
    fn drop(&mut self) {
        *self.0.heard.lock().expect("whole") = None;
        *self.0.door.lock().expect("whole") = None;
    }
}

#[async_trait]
impl Gone for Home {
    async fn is_gone(&self, _owner: &Owner) -> bool {
        self.heard.lock().expect("whole").is_none_or(|heard| heard.elapsed() > LEASE)
    }
}

#[async_trait]
impl Owners for Home {
    async fn take(&self, _owner: &Owner, step: &Step) -> Result<Stepped, TransactionError> {
        let busy = || TransactionError::Busy(step.key.clone());
        let (answer, answered) = oneshot::channel();
        let door = self.door.lock().expect("whole").clone().ok_or_else(busy)?;
        door.send((step.clone(), answer)).map_err(|_| busy())?;
        timeout(ANSWER, answered).await.map_err(|_| busy())?.map_err(|_| busy())?
    }
}

/// The node that claims Ann, makes a transfer of its own, and takes steps for others until nobody asks any more.
async fn at_home(store: Arc<dyn Store>, home: Arc<Home>, op: u128, legs: &[Leg], releases: bool) -> Told {
    let (door, mut steps) = mpsc::unbounded_channel::<Asked>();
    let heard = home.clone();
    let _up = Up(home.clone());
    *home.heard.lock().expect("whole") = Some(Instant::now());
    *home.door.lock().expect("whole") = Some(door);
    let node = Transactions::new(store.clone(), goods::kinds(Kinds::default()), home.clone(), 1);
    let me = Claimant { node: "home".to_owned(), incarnation: 1, claim: 1 };
    let mut claimed = match player::claim(&*store, ANN, &me, &player::Seating::AsItIs, &|_: &Owner| true).await {
        Ok(Claim::Claimed(claimed)) => *claimed,
        Ok(_) => unreachable!("everybody else is gone"),
        Err(error) => return Err(error.into()),
    };
    let serving = async {
        while let Ok(Some((step, answer))) = timeout(IDLE, steps.recv()).await {
            *heard.heard.lock().expect("whole") = Some(Instant::now());
            // Whoever asked may have gone.
            let _ = answer.send(player::take(&node, &mut claimed, &step).await);
        }
    };
    let (told, ()) = tokio::join!(transfer(&node, OperationId(op), legs), serving);
    if releases {
        // After an error it stays ours, and is claimed from us.
        let _ = player::release(&*store, &mut claimed).await;
    }
    told
}

/// Ann's node and another one make transfers that take from Ann and from Bob.
fn with_owner(name: &str, ops: [u128; 2], releases: bool) -> Scenario<Told> {
    let home: Arc<Mutex<Arc<Home>>> = Arc::default();
    let (fresh, owner, other) = (home.clone(), home.clone(), home);
    let legs_of = |op: u128| match op {
        1 => legs(vec![leg(A, B, "wood", 3), leg(B, A, "stone", 1)]),
        _ => legs(vec![leg(B, A, "stone", 2), leg(A, CHEST, "wood", 6)]),
    };
    let wanted = ops.map(legs_of);
    Scenario::new(name)
        .setup(move |store| {
            *fresh.lock().expect("whole") = Arc::default();
            village(store)
        })
        .driver(move |store| at_home(store, owner.lock().expect("whole").clone(), ops[0], wanted[0], releases))
        .driver(move |store| {
            let home = other.lock().expect("whole").clone();
            async move {
                let node = Transactions::new(store, goods::kinds(Kinds::default()), home, 2);
                transfer(&node, OperationId(ops[1]), wanted[1]).await
            }
        })
        .recover(recover)
        .check(move |end| {
            check_rest(&end.documents)?;
            let at = |place, item| count(&end.documents, place, item);
            let found = [at(A, "wood")?, at(B, "wood")?, at(A, "stone")?, at(CHEST, "wood")?];
            let happened = explain(&found, &[10, 0, 0, 0], &[(1, &[-3, 3, 1, 0]), (2, &[-6, 0, 2, 6])])?;
            check_told(end, &ops, &happened)
        })
}

#[test]
fn transfers_with_a_live_owner_happen_whole_or_not_at_all() {
    prove(&with_owner("goods: with an owner", [1, 2], false));
    prove(&with_owner("goods: with an owner that lets go", [1, 2], true));
}

#[test]
fn a_transfer_asked_for_by_the_owner_and_by_another_at_once_happens_once() {
    prove(&with_owner("goods: one transfer, with an owner", [1, 1], true));
}
