//! Posts: one node at a time looks after each, and what it was told is saved is found by the next.

use std::sync::Arc;
use std::time::Duration;

use estate::document::DocumentError;
use estate::post::{self, Claim, Claimant, Owner, PostDocument, PostError, claim, release, save};
use estate::schedules::{End, Scenario};
use estate::store::{Ack, Outcome, Store};
use serde_json::{Value, json};

use super::{ensure, left, prove};

const NODES: [&str; 2] = ["a", "b"];
/// What every owner lengthens: who wrote, in which epoch.
const BOOK: &str = "book";

/// What one node was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    /// It claimed this epoch, and what it wrote last was acknowledged.
    Saved(u64),
    /// It claimed this epoch and was fenced.
    Fenced(u64),
    /// It claimed this epoch and does not know whether it saved.
    Doubt(u64),
    HeldBy(Owner),
    /// The claim failed.
    Failed(DocumentError),
}

impl Told {
    fn epoch(&self) -> Option<u64> {
        match self {
            Told::Saved(epoch) | Told::Fenced(epoch) | Told::Doubt(epoch) => Some(*epoch),
            Told::HeldBy(_) | Told::Failed(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    everybody_is_gone: bool,
    releases: bool,
}

fn den() -> String {
    post::key("battle", "7")
}

/// Claims, writes into the book, and lets go if that is planned.
async fn look_after(store: Arc<dyn Store>, node: &'static str, plan: Plan) -> Told {
    let me = Claimant { node: node.to_owned(), incarnation: 1, claim: 1 };
    let mut held = match claim(&*store, &den(), &me, &|_: &Owner| plan.everybody_is_gone).await {
        Ok(Claim::Claimed(held)) => *held,
        Ok(Claim::HeldBy(owner)) => return Told::HeldBy(owner),
        Err(error) => return Told::Failed(error),
    };
    let epoch = held.epoch();
    let mut book = held.state.get(BOOK).and_then(Value::as_array).cloned().unwrap_or_default();
    book.push(json!([node, epoch]));
    held.state.insert(BOOK.to_owned(), Value::Array(book));
    let mut saved = save(&*store, &mut held, Ack::Durable).await;
    if saved.is_ok() && plan.releases {
        // Longer than the explorer's pauses: what expires under an owner is told in the unit tests.
        saved = release(&*store, &mut held, Some(Duration::from_secs(86_400))).await;
    }
    match saved {
        Ok(()) => Told::Saved(epoch),
        Err(PostError::Fenced { .. }) => Told::Fenced(epoch),
        Err(PostError::Document(_)) => Told::Doubt(epoch),
    }
}

fn looking_after(name: &str, plan: Plan) -> Scenario<Told> {
    let scenario = Scenario::new(name)
        .recover(async |store| post::find(&*store, &den()).await.map(drop).map_err(|error| error.to_string()))
        .check(move |end| check(end, plan));
    NODES.into_iter().fold(scenario, |scenario, node| scenario.driver(move |store| look_after(store, node, plan)))
}

fn check(end: &End<Told>, plan: Plan) -> Result<(), String> {
    let Some(document) = left::<PostDocument>(&end.documents, &den())? else {
        let told = end.told().any(|told| told.epoch().is_some());
        return ensure(!told, || format!("claimed and gone: {:?}", end.answers));
    };
    let book: Vec<(String, u64)> =
        serde_json::from_value(document.state.get(BOOK).cloned().unwrap_or(json!([]))).map_err(|e| e.to_string())?;
    ensure(book.is_sorted_by(|a, b| a.1 < b.1), || format!("owners wrote out of turn: {book:?}"))?;
    let mut epochs: Vec<u64> = end.told().filter_map(Told::epoch).collect();
    epochs.sort_unstable();
    ensure(epochs.is_sorted_by(|a, b| a < b), || format!("one epoch told twice: {:?}", end.answers))?;
    for told in end.told() {
        let times = book.iter().filter(|(_, epoch)| Some(*epoch) == told.epoch()).count();
        let fits = match told {
            Told::Saved(_) => times == 1,
            Told::Fenced(_) | Told::Doubt(_) => times <= 1,
            Told::HeldBy(_) | Told::Failed(_) => true,
        };
        ensure(fits, || format!("{told:?}, but the book is {book:?}"))?;
        // A release whose reply was lost lets the next one claim, which fences whoever repeats it.
        let may = plan.everybody_is_gone || plan.releases || !matches!(told, Told::Fenced(_));
        ensure(may, || format!("{told:?} though nobody is gone"))?;
    }
    for (told, node) in end.answers.iter().zip(NODES) {
        let surely_not = matches!(told, Some(Told::Failed(error)) if error.outcome() == Outcome::NotDone);
        let owns = document.owner.as_ref().is_some_and(|owner| owner.node == node);
        ensure(!(surely_not && owns), || format!("{node} was told {told:?}, but owns {document:?}"))?;
    }
    let last = end.told().find(|told| matches!(told, Told::Saved(epoch) if *epoch == document.epoch));
    ensure(last.is_none() || document.owner.is_none() == plan.releases, || format!("{last:?} of {document:?}"))
}

#[test]
fn of_two_living_nodes_one_looks_after_a_post_and_the_other_is_told_so() {
    let plan = Plan { everybody_is_gone: false, releases: false };
    let scenario = looking_after("post, the owner lives", plan).check(move |end| {
        check(end, plan)?;
        let owners = end.told().filter(|told| told.epoch().is_some()).count();
        ensure(owners <= 1, || format!("two own: {:?}", end.answers))?;
        let undisturbed = end.faults == 0 && !end.alone;
        ensure(!undisturbed || end.told().any(|told| *told == Told::Saved(1)), || format!("{:?}", end.answers))
    });
    assert!(prove(&scenario).every_interleaving);
}

#[test]
fn of_two_nodes_that_take_each_other_for_dead_each_has_a_post_for_an_epoch() {
    prove(&looking_after("post, the owner is taken for dead", Plan { everybody_is_gone: true, releases: false }));
}

#[test]
fn a_released_post_is_the_next_nodes() {
    prove(&looking_after("post, claim and release", Plan { everybody_is_gone: false, releases: true }));
}

#[test]
fn released_posts_of_nodes_that_take_each_other_for_dead_lose_nothing() {
    prove(&looking_after("post, released and taken", Plan { everybody_is_gone: true, releases: true }));
}
