//! Posts under faults and expiry: one owner of each epoch, no acknowledged state lost, nothing written over an heir's.

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::*;
use crate::store::memory::{Fault, MemoryStore, Rates};
use crate::store::{Outcome, StoreError};

const FAULTS: [Fault; 8] = [
    Fault::Refuse,
    Fault::LoseRequest,
    Fault::LoseReply,
    Fault::Late(Duration::from_millis(1)),
    Fault::Late(Duration::from_millis(30)),
    Fault::StopBefore,
    Fault::StopAfter,
    Fault::Storm,
];
const MINUTE: Duration = Duration::from_secs(60);

fn den() -> String {
    key("habitat", "12.3")
}

fn node(name: &str, claim: u64) -> Claimant {
    Claimant { node: name.to_owned(), incarnation: 1, claim }
}

fn nobody_is_gone(_: &Owner) -> bool {
    false
}

fn everybody_is_gone(_: &Owner) -> bool {
    true
}

async fn take(store: &MemoryStore, me: &Claimant, is_gone: fn(&Owner) -> bool) -> Held {
    match claim(store, &den(), me, &is_gone).await.expect("claim") {
        Claim::Claimed(held) => *held,
        Claim::HeldBy(owner) => panic!("held by {owner:?}"),
    }
}

fn put(held: &mut Held, animals: u64) {
    held.state.insert("animals".to_owned(), animals.into());
}

fn animals(state: &Map<String, Value>) -> u64 {
    state.get("animals").and_then(Value::as_u64).unwrap_or(0)
}

fn present(store: &MemoryStore) -> Option<PostDocument> {
    store.snapshot().get(&den()).map(|stored| serde_json::from_slice(&stored.value).expect("a post"))
}

#[tokio::test(start_paused = true)]
async fn a_post_begins_empty_and_the_next_owner_goes_on_from_what_was_released() {
    let store = MemoryStore::new();
    assert_eq!(find(&store, &den()).await, Ok(None));
    let mut first = take(&store, &node("a", 1), nobody_is_gone).await;
    assert_eq!((first.epoch(), first.key(), first.state.is_empty()), (1, "post/habitat/12.3", true));
    put(&mut first, 4);
    save(&store, &mut first, Ack::Early).await.expect("save");
    assert_eq!(animals(&find(&store, &den()).await.expect("read").expect("there").state), 4);
    put(&mut first, 5);
    release(&store, &mut first, None).await.expect("release");
    assert!(first.over());
    assert!(matches!(save(&store, &mut first, Ack::Early).await, Err(PostError::Fenced { by: None, .. })));
    sleep(MINUTE * 60 * 24 * 365).await;
    let next = take(&store, &node("b", 1), nobody_is_gone).await;
    assert_eq!((next.epoch(), animals(&next.state)), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn a_living_owner_keeps_its_post_and_a_gone_one_is_fenced_and_told_by_whom() {
    let store = MemoryStore::new();
    let mut first = take(&store, &node("a", 1), nobody_is_gone).await;
    let refused = claim(&store, &den(), &node("b", 1), &nobody_is_gone).await;
    assert_eq!(refused, Ok(Claim::HeldBy(first.owner().clone())));
    let mut heir = take(&store, &node("b", 1), everybody_is_gone).await;
    put(&mut heir, 7);
    save(&store, &mut heir, Ack::Durable).await.expect("save");
    put(&mut first, 1);
    let error = save(&store, &mut first, Ack::Durable).await.expect_err("fenced");
    assert_eq!(error.to_string(), "fenced: post/habitat/12.3 is no longer owned here, but by b (epoch 2)");
    assert!(first.over());
    assert!(matches!(release(&store, &mut first, None).await, Err(PostError::Fenced { .. })));
    let now = present(&store).expect("there");
    assert_eq!((now.owner.as_ref(), animals(&now.state)), (Some(heir.owner()), 7));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_claim_is_the_same_one_and_another_of_the_same_life_fences_the_former() {
    let store = MemoryStore::new();
    let mut first = take(&store, &node("a", 1), nobody_is_gone).await;
    assert_eq!(take(&store, &node("a", 1), nobody_is_gone).await, first);
    let second = take(&store, &node("a", 2), nobody_is_gone).await;
    assert_eq!(second.epoch(), 2);
    assert!(matches!(save(&store, &mut first, Ack::Durable).await, Err(PostError::Fenced { .. })));
    let reborn = Claimant { incarnation: 2, ..node("a", 2) };
    let held = claim(&store, &den(), &reborn, &nobody_is_gone).await;
    assert_eq!(held, Ok(Claim::HeldBy(second.owner().clone())), "another life of the node is another owner");
}

#[tokio::test(start_paused = true)]
async fn a_released_post_expires_when_that_was_asked_and_a_claimed_one_never_does() {
    let store = MemoryStore::new();
    let mut first = take(&store, &node("a", 1), nobody_is_gone).await;
    put(&mut first, 3);
    release(&store, &mut first, Some(MINUTE)).await.expect("release");
    sleep(MINUTE / 2).await;
    let mut second = take(&store, &node("b", 1), nobody_is_gone).await;
    assert_eq!((second.epoch(), animals(&second.state)), (2, 3));
    sleep(MINUTE * 60).await;
    save(&store, &mut second, Ack::Early).await.expect("claimed, it stays");
    // However short a time is asked, every driver keeps it.
    release(&store, &mut second, Some(Duration::ZERO)).await.expect("release");
    sleep(MINUTE).await;
    assert_eq!(present(&store), None);
    assert_eq!(take(&store, &node("c", 1), nobody_is_gone).await.epoch(), 1, "forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_save_after_a_release_in_doubt_takes_back_that_it_expires() {
    let store = MemoryStore::new();
    let mut held = take(&store, &node("a", 1), nobody_is_gone).await;
    store.faults().at(0, Fault::LoseReply);
    store.faults().random(1, Rates { refuse: 1_000, ..Rates::default() });
    let error = release(&store, &mut held, Some(MINUTE)).await.expect_err("cut off after the write");
    assert!(matches!(&error, PostError::Document(error) if error.outcome() == Outcome::Maybe), "{error}");
    assert_eq!(present(&store).expect("there").owner, None);
    store.faults().clear();
    put(&mut held, 2);
    save(&store, &mut held, Ack::Durable).await.expect("nobody has claimed it since");
    sleep(MINUTE * 2).await;
    let now = present(&store).expect("it does not expire");
    assert_eq!((now.owner.as_ref(), animals(&now.state)), (Some(held.owner()), 2));
}

#[tokio::test(start_paused = true)]
async fn an_owner_frozen_past_its_posts_expiry_is_fenced_by_an_epoch_of_the_same_number() {
    let store = MemoryStore::new();
    let mut frozen = take(&store, &node("a", 1), nobody_is_gone).await;
    let mut heir = take(&store, &node("b", 1), everybody_is_gone).await;
    release(&store, &mut heir, Some(MINUTE)).await.expect("release");
    sleep(MINUTE * 2).await;
    let mut other = take(&store, &node("c", 1), nobody_is_gone).await;
    assert_eq!(other.epoch(), frozen.epoch());
    put(&mut other, 9);
    release(&store, &mut other, None).await.expect("release");
    put(&mut frozen, 1);
    assert!(matches!(save(&store, &mut frozen, Ack::Durable).await, Err(PostError::Fenced { by: None, .. })));
    assert_eq!(animals(&present(&store).expect("there").state), 9);
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_program_wrote_is_kept_or_left_alone() {
    let store = MemoryStore::new();
    let text = r#"{"v":1,"owner":null,"epoch":4,"writes":9,"state":{"animals":3},"hat":"red"}"#;
    store.insert(&den(), Bytes::from(text), WriteOptions::default()).await.expect("insert");
    let mut held = take(&store, &node("a", 1), nobody_is_gone).await;
    assert_eq!((held.epoch(), animals(&held.state)), (5, 3));
    save(&store, &mut held, Ack::Durable).await.expect("save");
    assert_eq!(present(&store).expect("there").rest["hat"], json!("red"));
    let newer = Bytes::from_static(br#"{"v":2,"wings":2}"#);
    let version = store.snapshot()[&den()].version;
    store.replace(&den(), newer.clone(), version, WriteOptions::default()).await.expect("replace");
    assert!(matches!(save(&store, &mut held, Ack::Durable).await, Err(PostError::Fenced { .. })));
    let claimed = claim(&store, &den(), &node("b", 1), &everybody_is_gone).await;
    assert!(matches!(claimed, Err(DocumentError::Newer { found: 2, known: 1, .. })));
    assert_eq!(store.snapshot()[&den()].value, newer);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_too_large_is_refused_and_the_post_stays_owned() {
    let store = MemoryStore::new();
    let mut held = take(&store, &node("a", 1), nobody_is_gone).await;
    held.state.insert("animals".to_owned(), "x".repeat(crate::store::VALUE_BYTES).into());
    let error = save(&store, &mut held, Ack::Durable).await.expect_err("too large");
    assert!(matches!(error, PostError::Document(DocumentError::Store(StoreError::Invalid(_)))), "{error}");
    put(&mut held, 2);
    save(&store, &mut held, Ack::Durable).await.expect("save");
}

#[tokio::test(start_paused = true)]
async fn a_save_that_is_given_up_half_way_leaves_the_state_in_memory() {
    let store = MemoryStore::new();
    let mut held = take(&store, &node("a", 1), nobody_is_gone).await;
    put(&mut held, 8);
    store.faults().at(0, Fault::StopBefore);
    timeout(MINUTE, save(&store, &mut held, Ack::Durable)).await.expect_err("it never ends");
    save(&store, &mut held, Ack::Durable).await.expect("save");
    assert_eq!(animals(&present(&store).expect("there").state), 8);
}

/// What one owner's life was told.
#[derive(Default)]
struct Told {
    saved: u64,
    tried: u64,
    epoch: u64,
    released: bool,
}

/// Claims, saves twice, releases; every error is asked again once, as callers do.
async fn live(store: &MemoryStore, told: &Mutex<Told>) -> Result<(), PostError> {
    let tell = |change: &dyn Fn(&mut Told)| change(&mut told.lock().expect("told"));
    let me = node("a", 1);
    let claimed = match claim(store, &den(), &me, &nobody_is_gone).await {
        Err(_) => claim(store, &den(), &me, &nobody_is_gone).await?,
        Ok(claimed) => claimed,
    };
    let Claim::Claimed(mut held) = claimed else { panic!("nobody else is there") };
    tell(&|told| told.epoch = held.epoch());
    for count in 1..=3 {
        put(&mut held, count);
        tell(&|told| told.tried = count);
        let first =
            if count < 3 { save(store, &mut held, Ack::Durable).await } else { release(store, &mut held, None).await };
        match first {
            Err(_) if count < 3 => save(store, &mut held, Ack::Durable).await?,
            Err(_) => release(store, &mut held, None).await?,
            Ok(()) => {}
        }
        tell(&|told| told.saved = count);
    }
    tell(&|told| told.released = true);
    Ok(())
}

/// Runs [`live`] with faults at the given calls, lets another node take over, and checks what holds.
async fn check_life(faults: &[(u64, Fault)]) {
    let store = MemoryStore::new();
    let client = store.client();
    for (call, fault) in faults {
        client.faults().at(*call, *fault);
    }
    let told = Mutex::new(Told::default());
    if let Ok(Err(error)) = timeout(MINUTE, live(&client, &told)).await {
        assert!(!matches!(error, PostError::Fenced { .. }), "{faults:?}: nobody else was there, but: {error}");
    }
    let told = told.into_inner().expect("told");
    let mid = present(&store).unwrap_or_default();
    let count = animals(&mid.state);
    assert!(count >= told.saved && count <= told.tried, "{faults:?}: {count} in the store, {} saved", told.saved);
    assert!(mid.epoch <= 1, "{faults:?}: claimed twice");
    assert!(!told.released || mid.owner.is_none(), "{faults:?}");
    // A late write lands before or after the heir's claim: both are tried by the two delays of `FAULTS`.
    let mut heir = take(&store, &node("b", 1), everybody_is_gone).await;
    assert!(heir.epoch() > told.epoch && animals(&heir.state) >= told.saved, "{faults:?}");
    sleep(MINUTE).await;
    put(&mut heir, 50);
    release(&store, &mut heir, None).await.expect("the heir is the owner");
    let end = present(&store).expect("there");
    assert_eq!((end.owner, animals(&end.state), end.epoch), (None, 50, heir.epoch()), "{faults:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owners_life_loses_no_acknowledged_state_under_any_pair_of_faults() {
    check_life(&[]).await;
    for first in 0..12 {
        for fault in FAULTS {
            check_life(&[(first, fault)]).await;
            for second in first + 1..first + 5 {
                for other in FAULTS {
                    check_life(&[(first, fault), (second, other)]).await;
                }
            }
        }
    }
}
