//! Parties: whoever comes, goes, leads or dissolves at the same time, party and members agree, and what was told is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use estate::party::{self, MemberDocument, PARTY_MOST, PartyDocument};
use estate::player::{self, Birth};
use estate::schedules::{Bounds, End, Scenario, explore};
use estate::store::{Outcome, Store, Stored};
use estate::transaction::{Kinds, NoOwners, OperationId, PATIENCE, REMEMBERED, TransactionError, Transactions};
use tokio::time::sleep;

use super::{ensure, left};

const PARTY: u64 = 60;
const PLAYERS: [u64; 4] = [1, 2, 3, 4];

type Told = Result<(), TransactionError>;
type Documents = BTreeMap<String, Stored>;
/// Who leads, and who is in it; nothing if there is no party.
type Standing = Option<(u64, Vec<u64>)>;

/// One operation.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Found { id: u64, by: u64 },
    Enter { player: u64 },
    Leave { player: u64 },
    Lead { by: u64, to: u64 },
    Dissolve { by: u64 },
}

impl Ask {
    async fn once(self, on: &Transactions, op: u128) -> Told {
        let op = OperationId(op);
        match self {
            Ask::Found { id, by } => party::found(on, op, id, by).await,
            Ask::Enter { player } => party::enter(on, op, PARTY, player, PARTY_MOST).await,
            Ask::Leave { player } => party::leave(on, op, player).await,
            Ask::Lead { by, to } => party::lead(on, op, by, to).await,
            Ask::Dissolve { by } => party::dissolve(on, op, by).await,
        }
    }
}

fn on(store: Arc<dyn Store>, seed: u64) -> Transactions {
    Transactions::new(store, party::kinds(Kinds::default()), Arc::new(NoOwners { all_gone: true }), seed)
}

/// Explores within bounds that let all of this file take some forty seconds.
fn prove<T: 'static>(scenario: &Scenario<T>) {
    let report = explore(scenario, &Bounds { schedules: 300, random: 250, ..Bounds::default() });
    println!("{report}");
    assert!(report.schedules > 1_000 && report.stopped > 0 && report.lost > 0 && report.paused > 0, "{report}");
}

/// A party of 1, who leads it, and 2; 3 is invited, and 4 stands by.
async fn company(store: Arc<dyn Store>) {
    let birth = Birth { hue: 1, island: 1, x: 0, y: 0 };
    for id in PLAYERS {
        player::create(&*store, id, &format!("account{id}"), "Name", &birth).await.expect("create");
    }
    let on = on(store, 8_000);
    party::found(&on, OperationId(101), PARTY, 1).await.expect("founded");
    party::invite(&on, OperationId(102), 1, 2).await.expect("invited");
    party::enter(&on, OperationId(103), PARTY, 2, PARTY_MOST).await.expect("entered");
    party::invite(&on, OperationId(104), 1, 3).await.expect("invited");
    sleep(REMEMBERED * 2).await;
}

/// Reads as the game does, then lets memories expire.
async fn recover(store: Arc<dyn Store>) -> Result<(), String> {
    let reader = on(store, 9_000);
    for id in [PARTY, 61, 62] {
        party::find(&reader, id).await.map_err(|error| error.to_string())?;
    }
    for player in PLAYERS {
        party::of(&reader, player).await.map_err(|error| error.to_string())?;
    }
    sleep(REMEMBERED * 2 + PATIENCE).await;
    Ok(())
}

/// Party and members agree, nothing is held, nothing else is left. Gives every party.
fn check_agreement(documents: &Documents) -> Result<BTreeMap<u64, (u64, Vec<u64>)>, String> {
    let mut parties = BTreeMap::new();
    let mut listed = BTreeMap::new();
    for key in documents.keys().filter(|key| key.starts_with("party/")) {
        let party: PartyDocument = left(documents, key)?.ok_or("gone")?;
        ensure(party.marks.intent.is_none(), || format!("held: {party:?}"))?;
        ensure(party.has(party.leader), || format!("nobody leads: {party:?}"))?;
        for player in &party.members {
            let other = listed.insert(*player, party.id);
            ensure(other.is_none(), || format!("player {player} is in two places: {party:?} and {other:?}"))?;
        }
        parties.insert(party.id, (party.leader, party.members));
    }
    for key in documents.keys().filter(|key| key.starts_with("member/")) {
        let member: MemberDocument = left(documents, key)?.ok_or("gone")?;
        ensure(member.marks.intent.is_none(), || format!("held: {member:?}"))?;
        let party = listed.remove(&member.player);
        ensure(party.is_some() && party == member.party, || format!("{member:?}, but the parties are {parties:?}"))?;
    }
    ensure(listed.is_empty(), || format!("{listed:?} do not know of it"))?;
    let over = documents.keys().find(|key| !["player/", "party/", "member/"].iter().any(|kind| key.starts_with(kind)));
    ensure(over.is_none(), || format!("left over: {over:?}"))?;
    Ok(parties)
}

/// What was told fits one of the sets of operations that explain what was found.
fn check_told(end: &End<Told>, ops: &[u128], explanations: &[BTreeSet<u128>]) -> Result<(), String> {
    let fits = |happened: &BTreeSet<u128>| {
        ops.iter().all(|op| {
            let did = happened.contains(op);
            let told = || end.answers.iter().zip(ops).filter(|(_, of)| *of == op).map(|(told, _)| told);
            let acknowledged = told().any(|told| matches!(told, Some(Ok(()))));
            let surely_not =
                |told: &Option<Told>| matches!(told, Some(Err(error)) if error.outcome() == Outcome::NotDone);
            (did || !acknowledged) && (!did || !told().all(surely_not))
        })
    };
    ensure(explanations.iter().any(fits), || {
        format!("told {:?}, but what has happened is one of {explanations:?}", end.answers)
    })?;
    let clear = |told: &Told| matches!(told, Ok(()) | Err(TransactionError::Refused(_)));
    ensure(end.faults > 0 || end.told().all(clear), || format!("{:?}", end.answers))
}

/// One operation for each driver; `rows` say which standing of [`PARTY`] is explained by which operations.
fn at_once(name: &str, asks: &'static [(u128, Ask)], rows: &[(Standing, &[&[u128]])]) {
    let ops: Vec<u128> = asks.iter().map(|(op, _)| *op).collect();
    let sets = |sets: &[&[u128]]| sets.iter().map(|set| set.iter().copied().collect()).collect();
    let rows: Vec<(Standing, Vec<BTreeSet<u128>>)> =
        rows.iter().map(|(standing, explained)| (standing.clone(), sets(explained))).collect();
    let scenario = Scenario::new(name).setup(company).recover(recover).check(move |end| {
        let standing = check_agreement(&end.documents)?.remove(&PARTY);
        let row = rows.iter().find(|(expected, _)| *expected == standing);
        let (_, explanations) = row.ok_or_else(|| format!("no order of operations leaves {standing:?}"))?;
        check_told(end, &ops, explanations)
    });
    let scenario = asks.iter().zip(1..).fold(scenario, |scenario, ((op, ask), seed)| {
        scenario.driver(move |store| async move { ask.once(&on(store, seed), *op).await })
    });
    prove(&scenario);
}

fn of(leader: u64, members: &[u64]) -> Standing {
    Some((leader, members.to_vec()))
}

#[test]
fn one_enters_while_the_leader_leaves() {
    at_once(
        "party: enter and leave",
        &[(1, Ask::Enter { player: 3 }), (2, Ask::Leave { player: 1 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(1, &[1, 2, 3]), &[&[1]]), (of(2, &[2]), &[&[2]]), (of(2, &[2, 3]), &[&[1, 2]])],
    );
}

#[test]
fn one_enters_while_the_party_is_dissolved() {
    at_once(
        "party: enter and dissolve",
        &[(1, Ask::Enter { player: 3 }), (2, Ask::Dissolve { by: 1 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(1, &[1, 2, 3]), &[&[1]]), (None, &[&[2], &[1, 2]])],
    );
}

#[test]
fn one_leaves_while_it_is_made_the_leader() {
    at_once(
        "party: lead and leave",
        &[(1, Ask::Lead { by: 1, to: 2 }), (2, Ask::Leave { player: 2 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(2, &[1, 2]), &[&[1]]), (of(1, &[1]), &[&[2], &[1, 2]])],
    );
}

#[test]
fn a_party_is_dissolved_or_handed_on_but_never_both() {
    at_once(
        "party: dissolve and lead",
        &[(1, Ask::Lead { by: 1, to: 2 }), (2, Ask::Dissolve { by: 1 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(2, &[1, 2]), &[&[1]]), (None, &[&[2]])],
    );
}

#[test]
fn one_leaves_while_the_party_is_dissolved() {
    at_once(
        "party: dissolve and leave",
        &[(1, Ask::Leave { player: 2 }), (2, Ask::Dissolve { by: 1 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(1, &[1]), &[&[1]]), (None, &[&[2], &[1, 2]])],
    );
}

#[test]
fn the_last_two_leave_at_once() {
    at_once(
        "party: both leave",
        &[(1, Ask::Leave { player: 1 }), (2, Ask::Leave { player: 2 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(2, &[2]), &[&[1]]), (of(1, &[1]), &[&[2]]), (None, &[&[1, 2]])],
    );
}

#[test]
fn a_leave_asked_for_twice_at_once_happens_once() {
    at_once(
        "party: one leave twice",
        &[(1, Ask::Leave { player: 1 }), (1, Ask::Leave { player: 1 })],
        &[(of(1, &[1, 2]), &[&[]]), (of(2, &[2]), &[&[1]])],
    );
}

#[test]
fn one_who_founds_two_parties_at_once_leads_one() {
    const ASKS: [(u128, Ask); 2] = [(1, Ask::Found { id: 61, by: 4 }), (2, Ask::Found { id: 62, by: 4 })];
    let scenario = Scenario::new("party: two founded").setup(company).recover(recover).check(|end| {
        let parties = check_agreement(&end.documents)?;
        let founded: BTreeSet<u128> =
            [(61, 1), (62, 2)].iter().filter(|(id, _)| parties.contains_key(id)).map(|(_, op)| *op).collect();
        ensure(founded.len() <= 1, || "both were founded".to_owned())?;
        ensure(end.faults > 0 || !founded.is_empty(), || "none was founded".to_owned())?;
        check_told(end, &ASKS.map(|(op, _)| op), &[founded])
    });
    let scenario = ASKS.iter().zip(1..).fold(scenario, |scenario, ((op, ask), seed)| {
        scenario.driver(move |store| async move { ask.once(&on(store, seed), *op).await })
    });
    prove(&scenario);
}
