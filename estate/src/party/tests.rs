//! Parties from founding to end: who is in which, who leads, and what is refused.

use std::sync::Arc;

use crate::kinds;
use crate::land::Grounds;
use crate::player::Birth;
use crate::store::memory::MemoryStore;
use crate::transaction::{NoOwners, REMEMBERED};
use cartographer::geometry::{IslandId, Tile};
use tokio::time::sleep;

use super::*;

const PARTY: u64 = 60;

struct Nowhere;

impl Grounds for Nowhere {
    fn size(&self, _island: IslandId) -> Option<(u16, u16)> {
        None
    }

    fn buildable(&self, _island: IslandId, _tile: Tile) -> bool {
        false
    }

    fn natural(&self, _island: IslandId, _tile: Tile) -> u32 {
        0
    }
}

/// A store with players 1 to 40, and a new operation id for each call.
struct World {
    store: MemoryStore,
    transactions: Transactions,
    op: std::cell::Cell<u128>,
}

impl World {
    async fn new() -> World {
        let store = MemoryStore::new();
        for id in 1..=40 {
            let birth = Birth { hue: 0, island: 1, x: 0, y: 0 };
            player::create(&store, id, &format!("account{id}"), "Ann", &birth).await.expect("made");
        }
        let owners = Arc::new(NoOwners { all_gone: true });
        let transactions = Transactions::new(Arc::new(store.client()), kinds::all(Arc::new(Nowhere)), owners, 1);
        World { store, transactions, op: 1.into() }
    }

    fn op(&self) -> OperationId {
        self.op.set(self.op.get() + 1);
        OperationId(self.op.get())
    }

    /// A party led by 1 with these others.
    async fn with(others: &[u64]) -> World {
        let world = World::new().await;
        found(&world.transactions, world.op(), PARTY, 1).await.expect("founded");
        for other in others {
            invite(&world.transactions, world.op(), 1, *other).await.expect("invited");
            enter(&world.transactions, world.op(), PARTY, *other, PARTY_MOST).await.expect("entered");
        }
        world
    }

    /// Who leads and who is in it, after a look that every member agrees.
    async fn party(&self) -> Option<(u64, Vec<u64>)> {
        let party = find(&self.transactions, PARTY).await.expect("read");
        for player in 1..=40 {
            let own = of(&self.transactions, player).await.expect("read").filter(|own| own.id == PARTY);
            let listed = party.as_ref().filter(|party| party.has(player));
            assert_eq!(own.as_ref(), listed, "player {player}");
        }
        party.map(|party| (party.leader, party.members))
    }
}

fn code(result: Result<(), TransactionError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(TransactionError::Refused(refusal)) => refusal.code,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_party_is_founded_grows_changes_its_leader_and_ends_without_a_trace() {
    let world = World::with(&[2, 3]).await;
    let on = &world.transactions;
    assert_eq!(world.party().await, Some((1, vec![1, 2, 3])));
    lead(on, world.op(), 1, 3).await.expect("handed on");
    assert_eq!(world.party().await, Some((3, vec![1, 2, 3])));
    leave(on, world.op(), 3).await.expect("left");
    assert_eq!(world.party().await, Some((1, vec![1, 2])), "the oldest leads");
    leave(on, world.op(), 1).await.expect("left");
    assert_eq!(world.party().await, Some((2, vec![2])));
    leave(on, world.op(), 2).await.expect("left");
    assert_eq!(world.party().await, None);
    sleep(REMEMBERED * 2).await;
    let left: Vec<String> = world.store.snapshot().into_keys().filter(|key| !key.starts_with("player/")).collect();
    assert!(left.is_empty(), "left over: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_party_is_dissolved_for_all_at_once() {
    let others: Vec<u64> = (2..=PARTY_MOST as u64).collect();
    let world = World::with(&others).await;
    let on = &world.transactions;
    invite(on, world.op(), 1, 30).await.expect("invited");
    assert_eq!(code(enter(on, world.op(), PARTY, 30, 100).await), codes::PARTY, "full, whatever the caller's bound");
    assert_eq!(code(dissolve(on, world.op(), 2).await), codes::FORBIDDEN);
    let op = world.op();
    dissolve(on, op, 1).await.expect("dissolved");
    assert_eq!(world.party().await, None);
    dissolve(on, op, 1).await.expect("asked again, it has happened once");
    assert_eq!(code(dissolve(on, world.op(), 1).await), codes::PARTY);
    found(on, world.op(), PARTY + 1, 2).await.expect("everybody is free");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_possible_is_refused_and_changes_nothing() {
    let world = World::with(&[2]).await;
    let on = &world.transactions;
    invite(on, world.op(), 1, 5).await.expect("invited");
    found(on, world.op(), 61, 9).await.expect("another party");
    let before = world.party().await;
    assert_eq!(code(found(on, world.op(), 62, 2).await), codes::PARTY, "in one already");
    assert_eq!(code(found(on, world.op(), PARTY, 7).await), codes::TAKEN);
    assert_eq!(code(invite(on, world.op(), 2, 6).await), codes::FORBIDDEN, "not the leader");
    assert_eq!(code(invite(on, world.op(), 7, 6).await), codes::PARTY, "in none");
    assert_eq!(code(invite(on, world.op(), 1, 2).await), codes::PARTY, "in this one");
    assert_eq!(code(invite(on, world.op(), 1, 77).await), codes::MISSING);
    assert_eq!(code(enter(on, world.op(), PARTY, 6, 8).await), codes::FORBIDDEN, "not invited");
    assert_eq!(code(enter(on, world.op(), PARTY, 9, 8).await), codes::PARTY, "in another");
    assert_eq!(code(enter(on, world.op(), PARTY, 5, 2).await), codes::PARTY, "full by the caller's bound");
    assert_eq!(code(enter(on, world.op(), 99, 5, 8).await), codes::MISSING);
    assert_eq!(code(leave(on, world.op(), 7).await), codes::PARTY);
    assert_eq!(code(lead(on, world.op(), 2, 1).await), codes::FORBIDDEN);
    assert_eq!(code(lead(on, world.op(), 1, 9).await), codes::MISSING);
    assert_eq!(code(lead(on, world.op(), 7, 1).await), codes::PARTY);
    for bad in [0, 1 << 53, u64::MAX] {
        assert_eq!(code(found(on, world.op(), bad, 7).await), codes::MALFORMED);
        assert_eq!(code(enter(on, world.op(), PARTY, bad, 8).await), codes::MALFORMED);
    }
    assert_eq!(world.party().await, before);
    // Refused is not used up: what was invited comes in after all.
    enter(on, world.op(), PARTY, 5, 3).await.expect("entered");
    assert_eq!(code(enter(on, world.op(), PARTY, 5, 8).await), codes::PARTY, "in it already");
}

#[tokio::test(start_paused = true)]
async fn an_operation_asked_for_again_happens_once_even_if_much_happened_since() {
    let world = World::with(&[2]).await;
    let on = &world.transactions;
    let (inviting, entering, leaving, leading) = (world.op(), world.op(), world.op(), world.op());
    for _ in 0..2 {
        invite(on, inviting, 1, 3).await.expect("invited");
        enter(on, entering, PARTY, 3, 8).await.expect("entered");
    }
    for _ in 0..2 {
        leave(on, leaving, 3).await.expect("left");
    }
    assert_eq!(world.party().await, Some((1, vec![1, 2])));
    invite(on, inviting, 1, 3).await.expect("long ago");
    assert_eq!(code(enter(on, world.op(), PARTY, 3, 8).await), codes::FORBIDDEN, "an invitation is for once");
    for _ in 0..2 {
        lead(on, leading, 1, 2).await.expect("handed on");
    }
    leave(on, world.op(), 2).await.expect("left");
    lead(on, leading, 1, 2).await.expect("long ago");
    enter(on, entering, PARTY, 3, 8).await.expect("long ago");
    assert_eq!(world.party().await, Some((1, vec![1])));
    assert_eq!(code(enter(on, entering, PARTY, 4, 8).await), "misused", "an id is for one thing");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_invitation_makes_room_for_one_more_and_an_ended_party_keeps_none() {
    let world = World::with(&[]).await;
    let on = &world.transactions;
    for guest in (2..).take(INVITED_MOST + 1) {
        invite(on, world.op(), 1, guest).await.expect("invited");
    }
    invite(on, world.op(), 1, 3).await.expect("the same again is the newest");
    assert_eq!(code(enter(on, world.op(), PARTY, 2, 8).await), codes::FORBIDDEN);
    enter(on, world.op(), PARTY, 3, 8).await.expect("entered");
    dissolve(on, world.op(), 1).await.expect("dissolved");
    assert_eq!(code(enter(on, world.op(), PARTY, 4, 8).await), codes::MISSING);
    assert_eq!(code(found(on, world.op(), PARTY, 4).await), codes::TAKEN, "its number is not used again");
}
