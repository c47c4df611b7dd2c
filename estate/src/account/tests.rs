//! Names and registrations, under every fault: one account per name, one player per account, no orphans.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::store::memory::{Fault, MemoryStore, Rates};

const BIRTH: Birth = Birth { hue: 10, island: 1, x: 0, y: 0 };
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA";

fn check(name: &str, expected: Result<(), NameFault>) {
    assert_eq!(check_name(name), expected, "{name:?}");
}

#[test]
fn names_have_letters_that_cannot_pass_for_others() {
    for good in ["Ann", "bot-17", "x_1", "9lives", "Éloïse", "다크호스", "すずめ", "李小龍", "ab", &"n".repeat(32)]
    {
        check(good, Ok(()));
    }
    check("a", Err(NameFault::Length(1)));
    check("", Err(NameFault::Length(0)));
    check(&"n".repeat(33), Err(NameFault::Length(33)));
    check("-ann", Err(NameFault::Beginning));
    check("_ann", Err(NameFault::Beginning));
    for bad in [' ', '/', '\n', '\0', '.', '@', '×', 'а', 'ο', 'ａ', '\u{301}', '\u{1112}', '²', 'İ', '😀', '\u{200b}']
    {
        check(&format!("an{bad}n"), Err(NameFault::Character(bad)));
    }
}

async fn register_on(store: &MemoryStore, name: &str, token: u64, ids: u64) -> Result<u64, AccountError> {
    let mut bits = ids;
    let draw = || {
        bits += 1;
        bits
    };
    register(store, name, HASH, token, &BIRTH, draw).await.map(|account| account.document.player)
}

fn keys(store: &MemoryStore) -> Vec<String> {
    store.snapshot().into_keys().collect()
}

#[tokio::test(start_paused = true)]
async fn an_account_is_found_in_any_case_and_its_name_is_taken() {
    let store = MemoryStore::new();
    let player = register_on(&store, "Ann", 1, 100).await.expect("register");
    assert_eq!(player, 101);
    let found = find(&store, "aNN").await.expect("find").expect("there").document;
    assert_eq!((found.name.as_str(), found.password_hash.as_str(), found.player), ("Ann", HASH, 101));
    assert_eq!(register_on(&store, "ANN", 2, 200).await, Err(AccountError::Taken));
    assert_eq!(keys(&store), ["account/ann", "player/101"]);
    let ann = player::find(&store, 101).await.expect("find").expect("there").document;
    assert_eq!((ann.account.as_str(), ann.name.as_str()), ("ann", "Ann"));
    for absent in ["bob", "../x", ""] {
        assert_eq!(find(&store, absent).await, Ok(None));
    }
    assert_eq!(register_on(&store, "a b", 3, 300).await, Err(AccountError::Name(NameFault::Character(' '))));
}

#[tokio::test(start_paused = true)]
async fn a_taken_player_id_is_drawn_again() {
    let store = MemoryStore::new();
    register_on(&store, "Ann", 1, 100).await.expect("register");
    assert_eq!(register_on(&store, "Bob", 2, 100).await, Ok(102));
    assert_eq!(find(&store, "bob").await.expect("find").expect("there").document.player, 102);
    assert_eq!(keys(&store), ["account/ann", "account/bob", "player/101", "player/102"]);
    let stuck = register(&store, "Cat", HASH, 3, &BIRTH, || 101).await;
    assert_eq!(stuck, Err(AccountError::NoId));
}

/// Registers with a fault at one call, asks again, signs in, and checks what is there.
async fn check_registration(call: u64, fault: Fault, collide: bool) {
    let store = MemoryStore::new();
    if collide {
        register_on(&store, "Other", 9, 100).await.expect("register");
    }
    let others = keys(&store);
    let client = store.client();
    client.faults().at(call, fault);
    let first = timeout(Duration::from_secs(60), register_on(&client, "Ann", 1, 100)).await;
    // A late write lands in the meantime.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let again = register_on(&store, "Ann", 1, 500).await.expect("asked again with the same token");
    if let Ok(Ok(player)) = first {
        assert_eq!(player, again, "call {call}, {fault:?}");
    }
    assert_eq!(register_on(&store, "Ann", 2, 900).await, Err(AccountError::Taken));
    let mut wanted = others;
    wanted.extend(["account/ann".to_owned(), format!("player/{again}")]);
    wanted.sort();
    assert_eq!(keys(&store), wanted, "call {call}, {fault:?}: no orphans");
}

#[tokio::test(start_paused = true)]
async fn a_registration_may_fail_anywhere_and_be_asked_again() {
    let late = Fault::Late(Duration::from_millis(10));
    let faults =
        [Fault::Refuse, Fault::LoseRequest, Fault::LoseReply, late, Fault::StopBefore, Fault::StopAfter, Fault::Storm];
    for collide in [false, true] {
        for call in 0..8 {
            for fault in faults {
                check_registration(call, fault, collide).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_finishes_a_registration_that_stopped_half_way() {
    let store = MemoryStore::new();
    let client = store.client();
    client.faults().at(1, Fault::StopBefore);
    let stopped = timeout(Duration::from_secs(1), register_on(&client, "Ann", 1, 100)).await;
    assert!(stopped.is_err());
    assert_eq!(keys(&store), ["account/ann"]);
    let account = find(&store, "ann").await.expect("find").expect("there");
    let account = settle(&store, account, &BIRTH, || 500).await.expect("settle");
    assert_eq!(account.document.player, 101);
    assert_eq!(keys(&store), ["account/ann", "player/101"]);
}

/// Asks again, as a client does, while the store cannot be asked.
async fn insist(store: &MemoryStore, name: &str, token: u64, ids: u64) -> Result<u64, AccountError> {
    for _ in 0..20 {
        match register_on(store, name, token, ids).await {
            Err(AccountError::Document(_)) => {}
            settled => return settled,
        }
    }
    panic!("{name} was not settled in 20 attempts");
}

#[tokio::test(start_paused = true)]
async fn of_two_who_want_a_name_at_once_one_gets_it_and_the_other_leaves_nothing() {
    for seed in 0..100 {
        let store = MemoryStore::new();
        let (one, other) = (store.client(), store.client());
        let rates = Rates { lose_reply: 200, lose_request: 100, delay: Duration::from_millis(5), ..Rates::default() };
        one.faults().random(seed, rates);
        other.faults().random(seed + 1_000, rates);
        let (first, second) = tokio::join!(insist(&one, "Ann", 1, 100), insist(&other, "ann", 2, 200));
        let winners = [&first, &second].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(winners, 1, "seed {seed}: {first:?} {second:?}");
        assert!([first.clone(), second.clone()].contains(&Err(AccountError::Taken)));
        let player = first.or(second).expect("one");
        assert_eq!(keys(&store), ["account/ann".to_owned(), format!("player/{player}")], "seed {seed}");
    }
}
