//! The protocol of transactions by itself, over jars that hold a number: all or nothing, once, and nothing left over.

use std::sync::Arc;

use bytes::Bytes;
use estate::document::{Document, Migration};
use estate::schedules::{Bounds, End, Scenario, explore, replay};
use estate::store::{Outcome, Store, WriteOptions};
use estate::transaction::{
    Kind, Kinds, Marks, NoOwners, OperationId, PATIENCE, Part, REMEMBERED, Refusal, Request, TransactionError,
    Transactions,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{ensure, left, prove};

const FULL: i64 = 10;
const JARS: [&str; 2] = ["jar/a", "jar/b"];
const LEDGER: &str = "ledger/x";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Jar {
    v: u32,
    amount: i64,
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    marks: Marks,
}

impl Document for Jar {
    const KIND: &'static str = "jar";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

struct Jars;

impl Kind for Jars {
    type Document = Jar;
    type Effect = i64;

    fn born(&self, _key: &str) -> Result<Jar, Refusal> {
        Ok(Jar { v: 1, amount: 0, marks: Marks::default() })
    }

    fn marks<'a>(&self, jar: &'a mut Jar) -> &'a mut Marks {
        &mut jar.marks
    }

    fn apply(&self, jar: &mut Jar, effect: &i64) -> Result<(), Refusal> {
        jar.amount += effect;
        if jar.amount < 0 { Err(Refusal::new("too_little", "too little")) } else { Ok(()) }
    }

    fn is_blank(&self, _key: &str, jar: &Jar) -> bool {
        jar.amount == 0
    }
}

type Told = Result<(), TransactionError>;

/// What one driver wants: amounts poured from the first jar to the second, decided in a ledger or not.
#[derive(Clone, Copy, Debug)]
struct Pour {
    op: u128,
    amount: i64,
    ledger: bool,
}

fn on(store: Arc<dyn Store>, seed: u64) -> Transactions {
    Transactions::new(store, Kinds::default().with(Jars), Arc::new(NoOwners { all_gone: true }), seed)
}

async fn pour(store: Arc<dyn Store>, seed: u64, pour: Pour) -> Told {
    let parts = vec![Part::new::<Jars>(JARS[0], &-pour.amount), Part::new::<Jars>(JARS[1], &pour.amount)];
    let op = OperationId(pour.op);
    let request = if pour.ledger { Request::land(op, LEDGER, parts) } else { Request::transfer(op, parts) };
    on(store, seed).run(request).await
}

/// Reads as the game does, then lets memories expire.
async fn read_all(store: Arc<dyn Store>, seed: u64) -> Told {
    let reader = on(store, seed);
    reader.settle_ledger(LEDGER).await?;
    for key in JARS {
        reader.read(&Jars, key).await?;
    }
    Ok(())
}

async fn recover(store: Arc<dyn Store>) -> Result<(), String> {
    read_all(store, 9_000).await.map_err(|error| error.to_string())?;
    sleep(REMEMBERED + PATIENCE).await;
    Ok(())
}

fn pouring(name: &str, pours: &'static [Pour]) -> Scenario<Told> {
    let scenario = Scenario::new(name)
        .setup(async |store| {
            for key in JARS {
                let jar = Bytes::from(format!(r#"{{"v":1,"amount":{FULL}}}"#));
                store.insert(key, jar, WriteOptions::default()).await.expect("insert");
            }
        })
        .recover(recover)
        .check(move |end| check(end, pours));
    pours.iter().zip(1..).fold(scenario, |scenario, (one, seed)| scenario.driver(move |store| pour(store, seed, *one)))
}

fn check(end: &End<Told>, pours: &[Pour]) -> Result<(), String> {
    ensure(end.documents.keys().eq(JARS), || format!("left over: {:?}", end.documents.keys()))?;
    let mut amounts = Vec::new();
    for key in JARS {
        let jar: Jar = left(&end.documents, key)?.ok_or("a jar is gone")?;
        ensure(jar.marks.intent.is_none(), || format!("left over in {key}: {:?}", jar.marks))?;
        amounts.push(jar.amount);
    }
    ensure(amounts[0] + amounts[1] == 2 * FULL, || format!("not conserved: {amounts:?}"))?;
    // The amounts are chosen so that what was poured tells which operations have happened.
    let mut ops: Vec<(u128, i64)> = pours.iter().map(|pour| (pour.op, pour.amount)).collect();
    ops.dedup();
    let poured = FULL - amounts[0];
    let sets = (0_usize..1 << ops.len()).map(|set| {
        let happened = ops.iter().enumerate().filter(move |(place, _)| set >> place & 1 == 1);
        happened.map(|(_, op)| *op).collect::<Vec<_>>()
    });
    let mut fitting = sets.filter(|set| set.iter().map(|(_, amount)| amount).sum::<i64>() == poured);
    let happened = fitting.next().ok_or_else(|| format!("an operation happened twice or by half: {amounts:?}"))?;
    for (op, _) in ops {
        let asked = end.answers.iter().zip(pours).filter(|(_, pour)| pour.op == op).map(|(told, _)| told);
        let did = happened.iter().any(|(happened, _)| *happened == op);
        let acknowledged = asked.clone().any(|told| *told == Some(Ok(())));
        let surely_not = |told: &Option<Told>| matches!(told, Some(Err(error)) if error.outcome() == Outcome::NotDone);
        let denied = asked.clone().all(surely_not);
        ensure(did || !acknowledged, || format!("{op} was acknowledged, but has not happened: {:?}", end.answers))?;
        ensure(!did || !denied, || format!("{op} was denied, but has happened: {:?}", end.answers))?;
    }
    Ok(())
}

#[test]
fn two_transfers_over_the_same_jars_happen_whole_or_not_at_all() {
    const POURS: &[Pour] = &[Pour { op: 1, amount: 3, ledger: false }, Pour { op: 2, amount: -2, ledger: false }];
    prove(&pouring("two transfers", POURS));
}

#[test]
fn two_transactions_of_one_ledger_happen_whole_or_not_at_all() {
    const POURS: &[Pour] = &[Pour { op: 1, amount: 3, ledger: true }, Pour { op: 2, amount: -2, ledger: true }];
    prove(&pouring("two of one ledger", POURS));
}

#[test]
fn of_two_transfers_for_which_there_is_too_little_one_is_refused() {
    const POURS: &[Pour] = &[Pour { op: 1, amount: 7, ledger: false }, Pour { op: 2, amount: 6, ledger: false }];
    prove(&pouring("too little for two", POURS));
}

#[test]
fn an_operation_asked_for_twice_at_once_happens_once() {
    const TRANSFER: &[Pour] = &[Pour { op: 1, amount: 3, ledger: false }, Pour { op: 1, amount: 3, ledger: false }];
    const LAND: &[Pour] = &[Pour { op: 1, amount: 3, ledger: true }, Pour { op: 1, amount: 3, ledger: true }];
    prove(&pouring("one transfer asked for twice", TRANSFER));
    prove(&pouring("one of a ledger asked for twice", LAND));
}

/// What all schedules here begin with: the driver's arbiter is written, but not the driver knows it, which freezes before
/// it reads back. Meanwhile the other loses patience, aborts, and is itself slow to clear what the attempt has marked.
const DOUBTFUL: &str = "a2 a!lose-reply b4 a!pause-before b39 a~";

#[test]
fn a_slow_reader_undoes_nothing_that_a_slow_driver_does_again() {
    const POURS: &[Pour] = &[Pour { op: 1, amount: 3, ledger: true }];
    let scenario = pouring("a slow reader of a ledger", POURS).driver(async |store| read_all(store, 7_000).await);
    let trace = replay(&scenario, &Bounds::default(), DOUBTFUL).expect("nothing wrong without more");
    let aborted = trace.iter().position(|line| line.starts_with("b") && line.contains(r#"{"v":1,"entries":{}}"#));
    let thawed = trace.iter().position(|line| line == "time passes until a stirs");
    assert!(aborted.is_some() && aborted.map(|at| at + 1) == thawed, "find where the reader aborts: {trace:#?}");
    let bounds = Bounds { faults: Vec::new(), after: DOUBTFUL.to_owned(), ..Bounds::default() };
    println!("{}", explore(&scenario, &bounds));
}
