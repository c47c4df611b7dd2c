//! Claims and saves under every fault: never two owners of one epoch, nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::store::memory::{Fault, MemoryStore, Rates};
use crate::store::{Outcome, WriteOptions};

const ID: u64 = 7;
const BIRTH: Birth = Birth { hue: 120, island: 1, x: 0, y: 64 };

/// All that may go wrong with one call.
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

fn node(name: &str, claim: u64) -> Claimant {
    Claimant { node: name.to_owned(), incarnation: 1, claim }
}

fn nobody_is_gone(_: &Owner) -> bool {
    false
}

fn everybody_is_gone(_: &Owner) -> bool {
    true
}

async fn born() -> MemoryStore {
    let store = MemoryStore::new();
    create(&store, ID, "ann", "Ann", &BIRTH).await.expect("create");
    store
}

async fn take(store: &MemoryStore, me: &Claimant, is_gone: fn(&Owner) -> bool) -> Claimed {
    match claim(store, ID, me, &Seating::AsItIs, &is_gone).await.expect("claim") {
        Claim::Claimed(claimed) => *claimed,
        other => panic!("{other:?}"),
    }
}

fn present(store: &MemoryStore) -> PlayerDocument {
    serde_json::from_slice(&store.snapshot()[&key(ID)].value).expect("a player")
}

#[tokio::test(start_paused = true)]
async fn an_owner_saves_and_releases_and_the_next_goes_on_from_there() {
    let store = born().await;
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    assert_eq!((ann.epoch(), ann.document.name.as_str(), ann.document.hue), (1, "Ann", 120));
    ann.document.x = 256;
    save(&store, &mut ann, Ack::Early).await.expect("save");
    ann.document.y = 512;
    release(&store, &mut ann).await.expect("release");
    assert!(ann.over());
    assert!(matches!(save(&store, &mut ann, Ack::Durable).await, Err(PlayerError::Fenced { by: None, .. })));
    let next = take(&store, &node("b", 1), nobody_is_gone).await;
    assert_eq!((next.epoch(), next.document.x, next.document.y), (2, 256, 512));
    assert_eq!(next.document.owner.as_ref(), Some(next.owner()));
}

#[tokio::test(start_paused = true)]
async fn a_living_owner_keeps_its_player_and_a_gone_one_is_fenced() {
    let store = born().await;
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    let refused = claim(&store, ID, &node("b", 1), &Seating::AsItIs, &nobody_is_gone).await.expect("claim");
    assert_eq!(refused, Claim::HeldBy(ann.owner().clone()));
    let heir = take(&store, &node("b", 1), everybody_is_gone).await;
    assert_eq!(heir.epoch(), 2);
    for _ in 0..2 {
        let error = save(&store, &mut ann, Ack::Durable).await.expect_err("fenced");
        assert!(matches!(error, PlayerError::Fenced { id: ID, .. }), "{error}");
        assert!(ann.over());
    }
    assert_eq!(present(&store).owner.as_ref(), Some(heir.owner()));
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_fenced_owner_names_the_present_one() {
    let store = born().await;
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    take(&store, &node("b", 1), everybody_is_gone).await;
    let error = save(&store, &mut ann, Ack::Durable).await.expect_err("fenced");
    assert_eq!(error.to_string(), "fenced: player 7 is no longer owned here, but by b (epoch 2)");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_claim_is_the_same_one_and_another_claim_of_the_same_node_fences_the_former() {
    let store = born().await;
    let mut first = take(&store, &node("a", 1), nobody_is_gone).await;
    let same = take(&store, &node("a", 1), nobody_is_gone).await;
    assert_eq!((same.epoch(), same.hold.version), (first.epoch(), first.hold.version));
    let second = take(&store, &node("a", 2), nobody_is_gone).await;
    assert_eq!(second.epoch(), 2);
    assert!(matches!(save(&store, &mut first, Ack::Durable).await, Err(PlayerError::Fenced { .. })));
    let reborn = Claimant { incarnation: 2, ..node("a", 2) };
    let held = claim(&store, ID, &reborn, &Seating::AsItIs, &nobody_is_gone).await.expect("claim");
    assert_eq!(held, Claim::HeldBy(second.owner().clone()), "another life of the node is another owner");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_the_claimants() {
    let store = born().await;
    let client = store.client();
    // The second call is the write.
    client.faults().at(1, Fault::LoseReply);
    let mut ann = take(&client, &node("a", 1), nobody_is_gone).await;
    assert!(client.faults().calls() > 2, "it was looked at again");
    assert_eq!((ann.epoch(), present(&store).owner.as_ref()), (1, Some(ann.owner())));
    save(&store, &mut ann, Ack::Durable).await.expect("save");
}

#[tokio::test(start_paused = true)]
async fn a_missing_player_cannot_be_claimed_and_a_removed_one_is_fenced() {
    let store = MemoryStore::new();
    assert_eq!(claim(&store, ID, &node("a", 1), &Seating::AsItIs, &nobody_is_gone).await, Ok(Claim::Missing));
    let store = born().await;
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    store.remove(&key(ID), ann.hold.version, WriteOptions::default()).await.expect("remove");
    assert!(matches!(release(&store, &mut ann).await, Err(PlayerError::Fenced { by: None, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_player_written_by_a_newer_program_is_left_alone() {
    let store = born().await;
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    let newer = Bytes::from_static(br#"{"v":5,"wings":2}"#);
    store.replace(&key(ID), newer.clone(), ann.hold.version, WriteOptions::default()).await.expect("replace");
    assert!(matches!(save(&store, &mut ann, Ack::Durable).await, Err(PlayerError::Fenced { .. })));
    let claimed = claim(&store, ID, &node("b", 1), &Seating::AsItIs, &everybody_is_gone).await;
    assert!(matches!(claimed, Err(DocumentError::Newer { found: 5, known: 4, .. })));
    assert_eq!(store.snapshot()[&key(ID)].value, newer);
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_newer_program_survive_a_claim_and_a_save() {
    let store = born().await;
    let mut fields: Map<String, Value> = serde_json::from_slice(&store.snapshot()[&key(ID)].value).expect("json");
    fields.insert("wings".to_owned(), serde_json::json!({"left": 3}));
    let value = Bytes::from(serde_json::to_vec(&fields).expect("json"));
    store.replace(&key(ID), value, store.snapshot()[&key(ID)].version, WriteOptions::default()).await.expect("replace");
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    ann.document.x = 9;
    release(&store, &mut ann).await.expect("release");
    assert_eq!(present(&store).rest["wings"], serde_json::json!({"left": 3}));
}

/// Players as version 1 wrote them: released, and owned by somebody.
const VERSION_1: [&str; 2] = [
    r#"{"v":1,"id":7,"account":"ann","name":"Ann","hue":120,"owner":null,"epoch":4,"writes":9,"island":1,"x":-5,"y":64}"#,
    r#"{"v":1,"id":7,"account":"ann","name":"Ann","hue":120,"owner":{"node":"a","incarnation":1,"epoch":4,"claim":1},"epoch":4,"writes":9,"island":1,"x":-5,"y":64,"hat":"red"}"#,
];

#[tokio::test(start_paused = true)]
async fn a_player_of_version_1_has_an_empty_bag_and_is_saved_as_the_present_one() {
    for text in VERSION_1 {
        let store = MemoryStore::new();
        store.insert(&key(ID), Bytes::from(text), WriteOptions::default()).await.expect("insert");
        let found = find(&store, ID).await.expect("read").expect("there").document;
        assert_eq!((found.v, found.x, found.epoch, found.writes), (4, -5, 4, 9));
        assert!(found.bag.is_empty() && found.page.is_empty() && found.kept == 0 && found.experience == 0);
        assert!(found.marks.is_empty());
        assert_eq!(store.snapshot()[&key(ID)].value, Bytes::from(text), "reading a player never writes");
        let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
        save(&store, &mut ann, Ack::Durable).await.expect("save");
        let mut fields: Map<String, Value> = serde_json::from_slice(&store.snapshot()[&key(ID)].value).expect("json");
        let hat = fields.remove("hat");
        assert_eq!(hat.is_some(), text.contains("hat"), "unknown fields are kept");
        assert_eq!(
            (&fields["v"], &fields["bag"], &fields["page"]),
            (&4.into(), &serde_json::json!({}), &serde_json::json!({}))
        );
        assert_eq!((&fields["kept"], &fields["experience"]), (&0.into(), &0.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_player_of_version_1_with_fields_of_version_2_is_refused_and_left_as_it_is() {
    for field in ["bag", "page", "kept", "experience"] {
        let store = MemoryStore::new();
        let text = VERSION_1[0].replace("\"v\":1", &format!("\"v\":1,\"{field}\":{{\"stone\":3}}"));
        store.insert(&key(ID), Bytes::from(text.clone()), WriteOptions::default()).await.expect("insert");
        let error = claim(&store, ID, &node("a", 1), &Seating::AsItIs, &nobody_is_gone).await.expect_err("malformed");
        assert!(
            error.to_string().contains(&format!("cannot be migrated from version 1: it has a field \"{field}\"")),
            "{error}"
        );
        assert_eq!(store.snapshot()[&key(ID)].value, Bytes::from(text));
    }
}

/// A player as version 2 wrote it.
const VERSION_2: &str = r#"{"v":2,"id":7,"account":"ann","name":"Ann","hue":120,"owner":null,"epoch":4,"writes":9,"island":12,"x":-5,"y":64,"bag":{"stacks":{"wood":3}},"page":{"created":{"wood":3}},"kept":2,"experience":5,"hat":"red"}"#;

#[tokio::test(start_paused = true)]
async fn a_player_of_version_2_is_well_and_at_home_where_it_is_and_keeps_its_goods() {
    let store = MemoryStore::new();
    store.insert(&key(ID), Bytes::from(VERSION_2), WriteOptions::default()).await.expect("insert");
    let found = find(&store, ID).await.expect("read").expect("there").document;
    assert_eq!((found.v, found.health, found.home, found.floor), (4, 100, 12, 0));
    assert_eq!((found.kept, found.experience, found.bag.stacks.values().sum::<u64>()), (2, 5, 3));
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    (ann.document.health, ann.document.home, ann.document.floor) = (40, 3, 5 << 20);
    release(&store, &mut ann).await.expect("release");
    let saved = present(&store);
    assert_eq!((saved.v, saved.health, saved.home, saved.floor), (4, 40, 3, 5 << 20));
    assert_eq!(saved.rest["hat"], "red", "unknown fields are kept");
}

#[tokio::test(start_paused = true)]
async fn a_player_of_version_2_with_fields_of_version_3_is_refused_and_left_as_it_is() {
    for (bad, wanted) in [
        (VERSION_2.replace("\"v\":2", "\"v\":2,\"health\":3"), "it has a field \"health\" already"),
        (VERSION_2.replace("\"v\":2", "\"v\":2,\"home\":3"), "it has a field \"home\" already"),
        (VERSION_2.replace("\"v\":2", "\"v\":2,\"floor\":3"), "it has a field \"floor\" already"),
        (VERSION_2.replace("\"island\"", "\"continent\""), "it is on no island"),
    ] {
        let store = MemoryStore::new();
        store.insert(&key(ID), Bytes::from(bad.clone()), WriteOptions::default()).await.expect("insert");
        let error = claim(&store, ID, &node("a", 1), &Seating::AsItIs, &nobody_is_gone).await.expect_err("malformed");
        assert!(error.to_string().contains(&format!("cannot be migrated from version 2: {wanted}")), "{error}");
        assert_eq!(store.snapshot()[&key(ID)].value, Bytes::from(bad));
    }
}

/// Players as version 3 wrote them: released, and owned by somebody.
const VERSION_3: [&str; 2] = [
    r#"{"v":3,"id":7,"account":"ann","name":"Ann","hue":120,"owner":null,"epoch":4,"writes":9,"island":12,"x":-5,"y":64,"health":80,"home":12,"floor":4194304,"floor_s":1800000000,"bag":{"stacks":{"wood":3}},"page":{"created":{"wood":3}},"kept":2,"experience":5,"hat":"red"}"#,
    r#"{"v":3,"id":7,"account":"ann","name":"Ann","hue":120,"owner":{"node":"a","incarnation":1,"epoch":4,"claim":1},"epoch":4,"writes":9,"island":12,"x":-5,"y":64,"health":80,"home":12,"floor":4194304,"floor_s":1800000000,"bag":{"stacks":{"wood":3}},"page":{"created":{"wood":3}},"kept":2,"experience":5,"hat":"red"}"#,
];

#[tokio::test(start_paused = true)]
async fn in_a_player_of_version_3_nobody_sits_and_nothing_else_changes() {
    for (text, abandoned) in VERSION_3.into_iter().zip([0, 4]) {
        let store = MemoryStore::new();
        store.insert(&key(ID), Bytes::from(text), WriteOptions::default()).await.expect("insert");
        let found = find(&store, ID).await.expect("read").expect("there").document;
        assert_eq!((found.v, found.health, found.floor, found.floor_s), (4, 80, 4_194_304, 1_800_000_000));
        assert_eq!((&found.seat, found.held), (&Seat::default(), 0));
        assert_eq!(claim_back(&store, "b", Some(0), nobody_is_gone).await, Claim::Unseated(Unseated::Ended));
        let mut ann = take(&store, &node("b", 1), everybody_is_gone).await;
        assert_eq!(ann.abandoned(), abandoned, "the owner of then had not let go");
        release(&store, &mut ann).await.expect("release");
        let saved = present(&store);
        assert_eq!((saved.v, saved.seat, saved.held), (4, Seat::default(), 0));
        assert_eq!((&saved.rest["hat"], saved.kept, saved.experience), (&"red".into(), 2, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_player_of_version_3_with_fields_of_version_4_is_refused_and_left_as_it_is() {
    for field in ["seat", "held"] {
        let store = MemoryStore::new();
        let text = VERSION_3[0].replace("\"v\":3", &format!("\"v\":3,\"{field}\":3"));
        store.insert(&key(ID), Bytes::from(text.clone()), WriteOptions::default()).await.expect("insert");
        let error = claim(&store, ID, &node("a", 1), &Seating::AsItIs, &nobody_is_gone)
            .await
            .expect_err("malformed")
            .to_string();
        assert!(
            error.contains(&format!("cannot be migrated from version 3: it has a field \"{field}\" already")),
            "{error}"
        );
        assert_eq!(store.snapshot()[&key(ID)].value, Bytes::from(text));
    }
}

/// A claim by session 7 that comes back with a token of this turn.
async fn claim_back(store: &MemoryStore, by: &str, turn: Option<u64>, is_gone: fn(&Owner) -> bool) -> Claim {
    let back = Seating::Back { session: Seat::name(7), turn, now_s: 100 };
    claim(store, ID, &node(by, 1), &back, &is_gone).await.expect("claim")
}

/// A player claimed by `a` for session 7.
async fn seated() -> (MemoryStore, Claimed) {
    let store = born().await;
    let anew = Seating::Anew { session: Seat::name(7), until_s: 700 };
    let Ok(Claim::Claimed(ann)) = claim(&store, ID, &node("a", 1), &anew, &nobody_is_gone).await else {
        panic!("nobody holds it")
    };
    (store, *ann)
}

#[tokio::test(start_paused = true)]
async fn the_seat_is_claimed_with_the_player_in_one_write_and_kept_when_it_is_released() {
    let (store, mut ann) = seated().await;
    assert_eq!(present(&store).seat, Seat { session: Seat::name(7), turn: 0, until_s: 700 });
    ann.document.seat.turn = 2;
    release(&store, &mut ann).await.expect("release");
    let writes = present(&store).writes;
    assert_eq!(claim_back(&store, "b", Some(1), nobody_is_gone).await, Claim::Unseated(Unseated::Used));
    let Claim::Claimed(heir) = claim_back(&store, "b", Some(2), nobody_is_gone).await else { panic!("it is its own") };
    let now = present(&store);
    assert_eq!((now.seat.turn, now.writes, now.owner.as_ref()), (2, writes + 1, Some(heir.owner())));
    assert_eq!(heir.abandoned(), 0, "it was released");
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_sit_takes_nothing_from_anybody_not_even_from_the_dead() {
    let (store, ann) = seated().await;
    let before = present(&store);
    let strangers = Seating::Back { session: Seat::name(8), turn: Some(9), now_s: 100 };
    for is_gone in [nobody_is_gone, everybody_is_gone] {
        let claimed = claim(&store, ID, &node("b", 1), &strangers, &is_gone).await;
        assert_eq!(claimed, Ok(Claim::Unseated(Unseated::Replaced)));
    }
    assert_eq!(claim_back(&store, "b", Some(0), nobody_is_gone).await, Claim::HeldBy(ann.owner().clone()));
    assert_eq!(present(&store), before);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_repeated_keeps_its_seat_though_its_token_was_used_by_it() {
    let (store, mut ann) = seated().await;
    ann.document.seat.turn = 5;
    release(&store, &mut ann).await.expect("release");
    let Claim::Claimed(mut first) = claim_back(&store, "b", Some(5), nobody_is_gone).await else { panic!("its own") };
    first.document.seat.turn = 6;
    save(&store, &mut first, Ack::Durable).await.expect("save");
    let Claim::Claimed(same) = claim_back(&store, "b", Some(5), nobody_is_gone).await else { panic!("the same claim") };
    assert_eq!((same.epoch(), same.document.seat.turn), (first.epoch(), 6));
}

#[tokio::test(start_paused = true)]
async fn of_two_who_come_back_with_one_token_one_is_too_late() {
    let (store, mut ann) = seated().await;
    release(&store, &mut ann).await.expect("release");
    let (one, other) = tokio::join!(
        claim_back(&store, "b", Some(0), nobody_is_gone),
        claim_back(&store, "c", Some(0), nobody_is_gone)
    );
    let won = [&one, &other].iter().filter(|claim| matches!(claim, Claim::Claimed(_))).count();
    let held = [&one, &other].iter().filter(|claim| matches!(claim, Claim::HeldBy(_))).count();
    assert_eq!((won, held), (1, 1), "{one:?} {other:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_did_not_let_go_is_named_to_its_heir_even_if_transactions_have_written_since() {
    let (store, ann) = seated().await;
    let mut disowned = present(&store);
    crate::transaction::Kind::disown(&PlayerKind, &mut disowned);
    let version = store.snapshot()[&key(ID)].version;
    let value = encode(&disowned).expect("encode");
    store.replace(&key(ID), value, version, WriteOptions::default()).await.expect("replace");
    let heir = take(&store, &node("b", 1), nobody_is_gone).await;
    assert_eq!((heir.abandoned(), heir.epoch()), (ann.epoch(), ann.epoch() + 2));
}

#[tokio::test(start_paused = true)]
async fn creating_is_repeatable_and_refuses_a_taken_id() {
    let store = born().await;
    let ann = take(&store, &node("a", 1), nobody_is_gone).await;
    let again = create(&store, ID, "ann", "Ann", &Birth { hue: 1, ..BIRTH }).await.expect("again");
    assert_eq!(again.document, ann.document);
    assert_eq!(create(&store, ID, "bob", "Bob", &BIRTH).await, Err(PlayerError::IdTaken(ID)));
    for bits in [0, 1, u64::MAX, 1 << 53] {
        assert!((1..1 << 53).contains(&id_from_random(bits)));
    }
}

/// What one run of an owner's life was told.
#[derive(Clone, Default)]
struct Told {
    epochs: Vec<u64>,
    /// The highest `x` whose save was acknowledged.
    saved: i32,
    /// The highest `x` that it tried to save.
    tried: i32,
    released: bool,
}

/// Claims, saves twice, releases; every error is asked again once, as callers do.
async fn live(store: &MemoryStore, told: &Mutex<Told>) -> Result<(), PlayerError> {
    let tell = |change: &dyn Fn(&mut Told)| change(&mut told.lock().expect("told"));
    let mut claimed = match claim(store, ID, &node("a", 1), &Seating::AsItIs, &nobody_is_gone).await? {
        Claim::Claimed(claimed) => *claimed,
        other => panic!("nobody else is there: {other:?}"),
    };
    tell(&|told| told.epochs.push(claimed.epoch()));
    for x in 1..=2 {
        claimed.document.x = x;
        tell(&|told| told.tried = x);
        if save(store, &mut claimed, Ack::Durable).await.is_err() {
            save(store, &mut claimed, Ack::Durable).await?;
        }
        tell(&|told| told.saved = x);
    }
    claimed.document.x = 3;
    tell(&|told| told.tried = 3);
    if release(store, &mut claimed).await.is_err() {
        release(store, &mut claimed).await?;
    }
    tell(&|told| (told.saved, told.released) = (3, true));
    Ok(())
}

/// Runs [`live`] with the given faults at the given calls, then lets another node take over, and checks what holds.
async fn check_life(faults: &[(u64, Fault)]) {
    let store = born().await;
    let client = store.client();
    for (call, fault) in faults {
        client.faults().at(*call, *fault);
    }
    let told = Mutex::new(Told::default());
    let result = timeout(Duration::from_secs(60), live(&client, &told)).await;
    if let Ok(Err(error)) = &result {
        assert!(!matches!(error, PlayerError::Fenced { .. }), "{faults:?}: nobody else was there, but: {error}");
    }
    let told = told.into_inner().expect("told");
    let mid = present(&store);
    assert!(mid.x >= told.saved && mid.x <= told.tried, "{faults:?}: {} in the store, {} saved", mid.x, told.saved);
    assert!(!told.released || mid.owner.is_none(), "{faults:?}");
    // A late write lands before or after the heir's claim: both are tried by the two delays of `FAULTS`.
    let mut heir = take(&store, &node("b", 1), everybody_is_gone).await;
    assert!(told.epochs.iter().all(|epoch| *epoch < heir.epoch()), "{faults:?}");
    assert!(heir.document.x >= told.saved, "{faults:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    heir.document.x = 50;
    release(&store, &mut heir).await.expect("the heir is the owner");
    let end = present(&store);
    assert_eq!((end.owner, end.x, end.epoch), (None, 50, heir.epoch()), "{faults:?}");
}

/// Calls of a life without faults: claim (2), two saves, release.
const CALLS: u64 = 5;

#[tokio::test(start_paused = true)]
async fn whatever_fails_at_whichever_call_nothing_acknowledged_is_lost() {
    check_life(&[]).await;
    for call in 0..CALLS + 3 {
        for fault in FAULTS {
            check_life(&[(call, fault)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_failures_at_any_two_calls_lose_nothing_either() {
    for first in 0..CALLS + 1 {
        for second in first + 1..CALLS + 4 {
            for one in FAULTS {
                for other in FAULTS {
                    check_life(&[(first, one), (second, other)]).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_leaves_the_outcome_open_and_a_later_save_settles_it() {
    let store = born().await;
    let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
    store.faults().at(0, Fault::LoseReply);
    store.faults().random(1, Rates { refuse: 1_000, ..Rates::default() });
    ann.document.x = 5;
    let error = save(&store, &mut ann, Ack::Durable).await.expect_err("cut off after the write");
    assert!(matches!(&error, PlayerError::Document(error) if error.outcome() == Outcome::Maybe), "{error}");
    store.faults().clear();
    ann.document.x = 6;
    save(&store, &mut ann, Ack::Durable).await.expect("save");
    assert_eq!(present(&store).x, 6);
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_reply_was_lost_can_be_repeated_or_taken_back() {
    for repeat in [true, false] {
        let store = born().await;
        let mut ann = take(&store, &node("a", 1), nobody_is_gone).await;
        store.faults().at(0, Fault::LoseReply);
        store.faults().random(1, Rates { refuse: 1_000, ..Rates::default() });
        ann.document.x = 5;
        release(&store, &mut ann).await.expect_err("cut off after the write");
        assert_eq!(present(&store).owner, None);
        store.faults().clear();
        ann.document.x = 6;
        if repeat {
            release(&store, &mut ann).await.expect("again");
        } else {
            save(&store, &mut ann, Ack::Durable).await.expect("nobody has claimed it since");
        }
        let present = present(&store);
        assert_eq!((present.x, present.epoch, present.owner.is_none()), (6, 1, repeat));
    }
}

/// What many owners were told, epoch by epoch.
#[derive(Default)]
struct Log {
    /// The owner of each epoch and the `x` that it found.
    claims: BTreeMap<u64, (Owner, i32)>,
    /// Acknowledged saves.
    saves: Vec<(u64, i32)>,
}

/// Many nodes claim, save and release one player, judging each other gone at random, over an unsteady store.
async fn contend(seed: u64) -> (u64, usize) {
    let store = born().await;
    let log = Arc::new(Mutex::new(Log::default()));
    let mut tasks = JoinSet::new();
    for index in 0..4_u64 {
        let (client, log) = (store.client(), log.clone());
        let rates = Rates {
            refuse: 30,
            lose_request: 40,
            lose_reply: 60,
            late: 40,
            late_by: Duration::from_millis(200),
            storm: 30,
            delay: Duration::from_millis(10),
            deadline: Duration::from_millis(40),
        };
        client.faults().random(seed * 100 + index, rates);
        tasks.spawn(async move {
            for round in 0..20_u64 {
                let hasty = (seed + index + round).is_multiple_of(3);
                let me = node(&format!("n{index}"), round);
                let Ok(Claim::Claimed(mut claimed)) =
                    claim(&client, ID, &me, &Seating::AsItIs, &|_: &Owner| hasty).await
                else {
                    tokio::time::sleep(Duration::from_millis(7)).await;
                    continue;
                };
                let found = (claimed.owner().clone(), claimed.document.x);
                let former = log.lock().expect("log").claims.insert(claimed.epoch(), found);
                assert_eq!(former, None, "seed {seed}: epoch {} had an owner", claimed.epoch());
                for _ in 0..4 {
                    claimed.document.x += 1;
                    match save(&client, &mut claimed, Ack::Durable).await {
                        Ok(()) => log.lock().expect("log").saves.push((claimed.epoch(), claimed.document.x)),
                        Err(PlayerError::Fenced { .. }) => break,
                        Err(_) => {}
                    }
                }
                // A fenced one cannot release, and one that fails leaves its player to whoever judges it gone.
                let _ = release(&client, &mut claimed).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no owner was doubled");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let last = take(&store, &node("last", 0), everybody_is_gone).await;
    let mut log = Arc::into_inner(log).expect("all ended").into_inner().expect("log");
    log.claims.insert(last.epoch(), (last.owner().clone(), last.document.x));
    for (epoch, x) in &log.saves {
        let (_, (heir, found)) = log.claims.range(epoch + 1..).next().expect("the last");
        assert!(found >= x, "seed {seed}: {x} was acknowledged in epoch {epoch}, but {heir:?} found {found}");
    }
    (last.epoch(), log.saves.len())
}

#[tokio::test(start_paused = true)]
async fn contending_nodes_never_own_the_same_epoch_and_lose_no_acknowledged_save() {
    let (mut epochs, mut saves) = (0, 0);
    for seed in 0..200 {
        let (epoch, saved) = contend(seed).await;
        epochs += epoch;
        saves += saved;
    }
    assert!(epochs > 2_000 && saves > 2_000, "the test did something: {epochs} epochs, {saves} saves");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_contention() {
    assert_eq!(contend(42).await, contend(42).await);
}
