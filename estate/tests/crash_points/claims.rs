//! The claim of ownership: one owner per epoch, whoever was told that it owns and saved does so, nothing saved is lost.

use std::sync::Arc;

use estate::document::DocumentError;
use estate::player::{
    self, Birth, Claim, Claimant, Owner, PlayerDocument, PlayerError, Seating, claim, create, release, save,
};
use estate::schedules::{End, Scenario};
use estate::store::{Ack, Outcome, Store};
use serde_json::{Value, json};

use super::{ensure, left, prove};

const ID: u64 = 7;
const NODES: [&str; 2] = ["a", "b"];
const BIRTH: Birth = Birth { hue: 120, island: 1, x: 0, y: 64 };
/// The document's own list of saves, which every owner reads and lengthens.
const SAVES: &str = "saves";

/// What one node was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    /// It claimed this epoch; its save was acknowledged, and its release if it wanted one.
    Saved(u64),
    /// It claimed this epoch and was fenced before its save, or before its release.
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

/// Claims, adds to the list of saves, and lets go if that is planned.
async fn own(store: Arc<dyn Store>, node: &'static str, plan: Plan) -> Told {
    let me = Claimant { node: node.to_owned(), incarnation: 1, claim: 1 };
    let mut owned = match claim(&*store, ID, &me, &Seating::AsItIs, &|_: &Owner| plan.everybody_is_gone).await {
        Ok(Claim::Claimed(owned)) => *owned,
        Ok(Claim::HeldBy(owner)) => return Told::HeldBy(owner),
        Ok(Claim::Missing | Claim::Unseated(_)) => unreachable!("the setup made it, and nobody asks for its seat"),
        Err(error) => return Told::Failed(error),
    };
    let epoch = owned.epoch();
    let mut saves = owned.document.rest.get(SAVES).and_then(Value::as_array).cloned().unwrap_or_default();
    saves.push(json!([node, epoch]));
    owned.document.rest.insert(SAVES.to_owned(), Value::Array(saves));
    let mut saved = save(&*store, &mut owned, Ack::Durable).await;
    if saved.is_ok() && plan.releases {
        saved = release(&*store, &mut owned).await;
    }
    match saved {
        Ok(()) => Told::Saved(epoch),
        Err(PlayerError::Fenced { .. }) => Told::Fenced(epoch),
        Err(_) => Told::Doubt(epoch),
    }
}

/// One claims on each of [`NODES`].
fn claiming(name: &str, plan: Plan) -> Scenario<Told> {
    let scenario = Scenario::new(name)
        .setup(async |store| drop(create(&*store, ID, "ann", "Ann", &BIRTH).await.expect("create")))
        .recover(async |store| player::find(&*store, ID).await.map(drop).map_err(|error| error.to_string()))
        .check(move |end| check(end, plan));
    NODES.into_iter().fold(scenario, |scenario, node| scenario.driver(move |store| own(store, node, plan)))
}

/// What holds after every schedule, whoever claimed.
fn check(end: &End<Told>, plan: Plan) -> Result<(), String> {
    let document: PlayerDocument = left(&end.documents, &player::key(ID))?.ok_or("the player is gone")?;
    ensure(end.documents.len() == 1, || format!("left over: {:?}", end.documents.keys()))?;
    let saves: Vec<(String, u64)> =
        serde_json::from_value(document.rest.get(SAVES).cloned().unwrap_or(json!([]))).map_err(|e| e.to_string())?;
    ensure(saves.is_sorted_by_key(|(_, epoch)| *epoch), || format!("owners wrote out of turn: {saves:?}"))?;
    for told in end.told() {
        let times = saves.iter().filter(|(_, epoch)| Some(*epoch) == told.epoch()).count();
        let fits = match told {
            Told::Saved(_) => times == 1,
            // The save was acknowledged if it was the release that was fenced.
            Told::Fenced(_) | Told::Doubt(_) => times <= 1,
            Told::HeldBy(_) | Told::Failed(_) => true,
        };
        ensure(fits, || format!("{told:?}, but the saves are {saves:?}"))?;
        ensure(told.epoch().is_none_or(|epoch| epoch <= document.epoch), || format!("{told:?} of {document:?}"))?;
    }
    let owner = document.owner.as_ref();
    for (told, node) in end.answers.iter().zip(NODES) {
        let surely_not = matches!(told, Some(Told::Failed(error)) if error.outcome() == Outcome::NotDone);
        let owns = owner.is_some_and(|owner| owner.node == node);
        ensure(!(surely_not && owns), || format!("{node} was told {told:?}, but owns {document:?}"))?;
    }
    ensure(owner.is_none_or(|owner| owner.epoch == document.epoch), || {
        format!("owned by a former epoch: {document:?}")
    })?;
    let last = end.told().find(|told| matches!(told, Told::Saved(epoch) if *epoch == document.epoch));
    ensure(last.is_none() || owner.is_none() == plan.releases, || format!("{last:?} of {document:?}"))
}

/// No two of these were told that they own one epoch.
fn check_epochs(end: &End<Told>) -> Result<(), String> {
    let mut epochs: Vec<u64> = end.told().filter_map(Told::epoch).collect();
    epochs.sort_unstable();
    ensure(epochs.windows(2).all(|pair| pair[0] < pair[1]), || format!("one epoch told twice: {:?}", end.answers))
}

#[test]
fn of_two_living_nodes_one_owns_and_the_other_is_told_so() {
    let plan = Plan { everybody_is_gone: false, releases: false };
    let scenario = claiming("claim, the owner lives", plan).check(move |end| {
        check(end, plan)?;
        check_epochs(end)?;
        let owners: Vec<&Told> = end.told().filter(|told| told.epoch().is_some()).collect();
        ensure(owners.len() <= 1, || format!("two own: {owners:?}"))?;
        let document: PlayerDocument = left(&end.documents, &player::key(ID))?.ok_or("the player is gone")?;
        for told in end.told() {
            ensure(!matches!(told, Told::Fenced(_)), || format!("{told:?} though nobody is gone"))?;
            if let Told::HeldBy(owner) = told {
                ensure(document.owner.as_ref() == Some(owner), || format!("{told:?} of {document:?}"))?;
            }
        }
        let undisturbed = end.faults == 0 && !end.alone;
        ensure(!undisturbed || (owners.len() == 1 && *owners[0] == Told::Saved(1)), || format!("{:?}", end.answers))
    });
    assert!(prove(&scenario).every_interleaving);
}

#[test]
fn of_two_nodes_that_take_each_other_for_dead_each_owns_an_epoch_of_its_own() {
    let plan = Plan { everybody_is_gone: true, releases: false };
    let scenario = claiming("claim, the owner is taken for dead", plan).check(move |end| {
        check(end, plan)?;
        check_epochs(end)?;
        if end.faults > 0 || end.alone {
            return Ok(());
        }
        let last = end.told().any(|told| *told == Told::Saved(2));
        let first = end.told().any(|told| matches!(told, Told::Saved(1) | Told::Fenced(1)));
        ensure(first && last, || format!("{:?}", end.answers))
    });
    prove(&scenario);
}

#[test]
fn owners_that_let_go_leave_the_player_to_the_next() {
    let plan = Plan { everybody_is_gone: false, releases: true };
    let scenario = claiming("claim and release", plan).check(move |end| {
        check(end, plan)?;
        check_epochs(end)
    });
    prove(&scenario);
}

#[test]
fn a_claim_asked_for_twice_at_once_is_one_claim() {
    let drive = async |store: Arc<dyn Store>| {
        let me = Claimant { node: "a".to_owned(), incarnation: 1, claim: 1 };
        claim(&*store, ID, &me, &Seating::AsItIs, &|_: &Owner| false).await
    };
    let scenario = Scenario::new("the same claim twice")
        .setup(async |store| drop(create(&*store, ID, "ann", "Ann", &BIRTH).await.expect("create")))
        .driver(drive)
        .driver(drive)
        .check(|end| {
            let document: PlayerDocument = left(&end.documents, &player::key(ID))?.ok_or("the player is gone")?;
            ensure(document.epoch <= 1, || format!("claimed twice: {document:?}"))?;
            for told in end.told().flatten() {
                let Claim::Claimed(claimed) = told else { return Err(format!("{told:?}")) };
                ensure(document.owner.as_ref() == Some(claimed.owner()), || format!("{told:?} of {document:?}"))?;
            }
            Ok(())
        });
    assert!(prove(&scenario).every_interleaving);
}
