//! Trades told as little stories, every line asked twice; and what happens when both sides act at once.

use std::time::Duration;

use super::*;
use crate::goods::tests::{ANN, BOB, CAT, World, code, goods, transactions};
use crate::store::memory::Rates;

const TRADE: OperationId = OperationId(0x7ade);

/// Does one line of a story: `"ann offers 3 wood"`, `"bob consents 2"`, `"ann withdraws"`, `"ann opens"`.
async fn act(world: &Transactions, op: OperationId, line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let player = match words.next() {
        Some("ann") => ANN,
        Some("bob") => BOB,
        _ => CAT,
    };
    let (verb, rest) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let result = match verb {
        "opens" => open(world, TRADE, [player, BOB]).await,
        "offers" => offer(world, op, TRADE, player, goods(rest)).await,
        "withdraws" => withdraw(world, op, TRADE, player).await,
        _ => {
            let consented = consent(world, op, TRADE, player, rest.parse().expect("a revision")).await;
            match consented {
                Ok(Consented::Waiting) => return "waiting".to_owned(),
                Ok(Consented::Done) => return "traded".to_owned(),
                Err(error) => Err(error),
            }
        }
    };
    code(&result).to_owned()
}

/// A story of a trade, each line with its answer, and what Ann and Bob have in the end.
async fn check(story: &[(&str, &str)], ann: &str, bob: &str) {
    let world = World::new(["10 wood #1 sword", "20 stone", "64000 sand"]).await;
    for (n, (line, expected)) in story.iter().enumerate() {
        let op = OperationId(n as u128 + 1);
        for time in ["once", "twice"] {
            assert_eq!(act(&world.transactions, op, line).await, *expected, "{line}, asked {time}, in {story:?}");
        }
        world.is_even();
    }
    assert_eq!((world.player(ANN).bag, world.player(BOB).bag), (goods(ann), goods(bob)), "{story:?}");
}

const KEPT: (&str, &str) = ("10 wood #1 sword", "20 stone");

#[tokio::test(start_paused = true)]
async fn what_both_consent_to_changes_hands_once() {
    let story = [
        ("ann opens", "ok"),
        ("ann offers 3 wood #1 sword", "ok"),
        ("bob offers 20 stone", "ok"),
        ("ann consents 2", "waiting"),
        ("bob consents 2", "traded"),
        ("ann consents 2", "done"),
        ("ann withdraws", "done"),
        ("bob offers 1 stone", "done"),
        ("ann opens", "ok"),
    ];
    check(&story, "7 wood 20 stone", "3 wood #1 sword").await;
    let gift = [
        ("ann opens", "ok"),
        ("bob offers 5 stone", "ok"),
        ("ann consents 1", "waiting"),
        ("bob consents 1", "traded"),
    ];
    check(&gift, "10 wood 5 stone #1 sword", "15 stone").await;
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_changes_after_a_consent_clears_both() {
    let story = [
        ("ann opens", "ok"),
        ("ann offers 3 wood", "ok"),
        ("bob offers 20 stone", "ok"),
        ("ann consents 2", "waiting"),
        ("bob offers 1 stone", "ok"),
        ("bob consents 2", "changed"),
        ("bob consents 3", "waiting"),
        ("ann consents 2", "changed"),
        ("ann consents 4", "changed"),
    ];
    check(&story, KEPT.0, KEPT.1).await;
    check(&[&story[..], &[("ann consents 3", "traded")]].concat(), "7 wood 1 stone #1 sword", "19 stone 3 wood").await;
}

#[tokio::test(start_paused = true)]
async fn a_trade_withdrawn_at_the_last_moment_does_not_happen() {
    for who in ["ann", "bob"] {
        let withdraws = format!("{who} withdraws");
        let story = [
            ("ann opens", "ok"),
            ("ann offers 3 wood", "ok"),
            ("ann consents 1", "waiting"),
            (&withdraws, "ok"),
            ("bob consents 1", "withdrawn"),
            ("ann offers 1 wood", "withdrawn"),
            ("ann withdraws", "ok"),
            ("bob withdraws", "ok"),
        ];
        check(&story, KEPT.0, KEPT.1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_executed_is_refused_and_both_consent_anew() {
    for (offer, refusal) in [("11 wood", "too_little"), ("10 wood #2 sword", "too_little"), ("#1 map", "changed")] {
        let offers = format!("ann offers {offer}");
        let story = [
            ("ann opens", "ok"),
            (&offers, "ok"),
            ("bob offers 2 stone", "ok"),
            ("bob consents 2", "waiting"),
            ("ann consents 2", refusal),
        ];
        // Asked again, the consent that failed tells that it no longer stands.
        let world = World::new(["10 wood #1 sword", "20 stone", ""]).await;
        let before = world.content();
        for (n, (line, expected)) in story.iter().enumerate() {
            assert_eq!(act(&world.transactions, OperationId(n as u128 + 1), line).await, *expected, "{line}");
        }
        assert_eq!(act(&world.transactions, OperationId(5), "ann consents 2").await, "lapsed");
        assert_eq!(act(&world.transactions, OperationId(4), "bob consents 2").await, "lapsed");
        let players = |content: std::collections::BTreeMap<String, Value>| {
            content.into_iter().filter(|(key, _)| key.starts_with("player/")).collect::<Vec<_>>()
        };
        assert_eq!(players(world.content()), players(before));
        for (n, (line, expected)) in [
            ("ann consents 2", "waiting"),
            ("ann offers 1 wood", "ok"),
            ("bob consents 3", "waiting"),
            ("ann consents 3", "traded"),
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(act(&world.transactions, OperationId(n as u128 + 10), line).await, *expected, "{line}");
        }
        assert_eq!(world.player(BOB).bag, goods("18 stone 1 wood"));
        world.is_even();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_bag_refuses_a_trade_and_room_lets_it_happen_at_the_same_revision() {
    let world = World::new(["10 wood", "64000 sand", ""]).await;
    let act = async |n: u128, line: &str| act(&world.transactions, OperationId(n), line).await;
    assert_eq!(act(1, "ann opens").await, "ok");
    assert_eq!(act(2, "ann offers 1 wood").await, "ok");
    assert_eq!(act(3, "ann consents 1").await, "waiting");
    assert_eq!(act(4, "bob consents 1").await, "full");
    let dropped = [crate::goods::tests::leg(Place::Player(BOB), Place::Mint, "1000 sand")];
    world.run(OperationId(5), &dropped).await.expect("dropped");
    assert_eq!(act(6, "ann consents 1").await, "waiting");
    assert_eq!(act(7, "bob consents 1").await, "traded");
    assert_eq!((world.player(ANN).bag, world.player(BOB).bag), (goods("9 wood"), goods("63000 sand 1 wood")));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_trade_is_refused() {
    let many: Vec<String> = (0..=OFFER_MOST).map(|n| format!("1 item_{n}")).collect();
    let too_many = format!("ann offers {}", many.join(" "));
    let story = [
        ("ann offers 1 wood", "missing"),
        ("ann consents 0", "missing"),
        ("ann withdraws", "missing"),
        ("bob opens", "malformed"),
        ("ann opens", "ok"),
        ("ann consents 0", "malformed"),
        ("cat offers 1 sand", "stranger"),
        (&too_many, "malformed"),
        ("cat withdraws", "stranger"),
        ("ann offers 1 wood", "ok"),
        ("cat consents 1", "stranger"),
        ("ann offers ", "ok"),
        ("ann consents 2", "malformed"),
    ];
    check(&story, KEPT.0, KEPT.1).await;
    // Another trade under the same id.
    let world = World::new(["", "", ""]).await;
    open(&world.transactions, TRADE, [ANN, BOB]).await.expect("opened");
    let other = Part::new::<TradeKind>(key(TRADE), &TradeEffect::Open { players: [ANN, CAT] });
    let again = world.transactions.run(Request::transfer(OperationId(5), vec![other])).await;
    assert_eq!(code(&again), "taken");
}

#[tokio::test(start_paused = true)]
async fn a_trade_that_nobody_touches_is_forgotten_and_one_that_ended_sooner() {
    let world = World::new(["10 wood", "", ""]).await;
    let state = async || find(&world.transactions, TRADE).await.expect("read").map(|kept| kept.document.state);
    assert_eq!(state().await, None);
    open(&world.transactions, TRADE, [ANN, BOB]).await.expect("opened");
    tokio::time::sleep(OPEN - Duration::from_secs(1)).await;
    assert_eq!(act(&world.transactions, OperationId(1), "ann offers 3 wood").await, "ok");
    tokio::time::sleep(OPEN - Duration::from_secs(1)).await;
    assert_eq!(state().await, Some(TradeState::Open), "every change is a beginning");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(state().await, None);
    open(&world.transactions, TRADE, [ANN, BOB]).await.expect("opened");
    assert_eq!(act(&world.transactions, OperationId(2), "ann withdraws").await, "ok");
    assert_eq!(state().await, Some(TradeState::Withdrawn));
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(state().await, None);
    let left: Vec<String> = world.store.snapshot().into_keys().collect();
    assert_eq!(left, ["player/1", "player/2", "player/3"], "nothing is left over");
}

/// A trade agreed but for the last words, spoken by two nodes at once over a store that takes its time.
/// The second begins up to `spread` milliseconds after the first.
async fn race(seed: u64, spread: u64, agreed: &[&str], lines: [&str; 2]) -> ([String; 2], bool) {
    let world = World::new(["10 wood", "20 stone", ""]).await;
    let offers = ["ann opens", "ann offers 10 wood", "bob offers 20 stone"];
    for (n, line) in offers.iter().chain(agreed).enumerate() {
        let said = act(&world.transactions, OperationId(n as u128 + 1), line).await;
        assert!(["ok", "waiting"].contains(&said.as_str()), "{said}");
    }
    let slow = |n: u64| {
        let client = world.store.client();
        let rates = Rates { storm: 50, delay: Duration::from_millis(9), ..Rates::default() };
        client.faults().random(seed * 10 + n, rates);
        Transactions::new(
            std::sync::Arc::new(client),
            crate::goods::kinds(crate::transaction::Kinds::default()),
            std::sync::Arc::new(crate::transaction::NoOwners { all_gone: true }),
            seed * 10 + n + 5,
        )
    };
    let (one, other) = (slow(1), slow(2));
    let later = async {
        tokio::time::sleep(Duration::from_millis(seed % spread)).await;
        act(&other, OperationId(11), lines[1]).await
    };
    let (first, second) = tokio::join!(act(&one, OperationId(10), lines[0]), later);
    let reader = transactions(&world.store, 77);
    for id in [ANN, BOB] {
        reader.read(&crate::player::PlayerKind, &crate::player::key(id)).await.expect("settled");
    }
    find(&reader, TRADE).await.expect("settled");
    world.is_even();
    let swapped = world.player(ANN).bag == goods("20 stone");
    let kept = world.player(ANN).bag == goods("10 wood");
    assert!(
        swapped != kept && world.player(BOB).bag == goods(if swapped { "10 wood" } else { "20 stone" }),
        "seed {seed}"
    );
    ([first, second], swapped)
}

#[tokio::test(start_paused = true)]
async fn both_consenting_at_once_trade_once() {
    let mut together = 0;
    for seed in 0..200 {
        let (answers, swapped) = race(seed, 10, &[], ["ann consents 2", "bob consents 2"]).await;
        let traded = answers.iter().filter(|answer| *answer == "traded").count();
        assert!(swapped && traded > 0, "seed {seed}: {answers:?}");
        assert!(
            answers.iter().all(|answer| ["traded", "waiting"].contains(&answer.as_str())),
            "seed {seed}: {answers:?}"
        );
        together += u32::from(traded == 2);
    }
    assert!((10..190).contains(&together), "both happen: {together} of 200 by both");
}

#[tokio::test(start_paused = true)]
async fn of_a_consent_and_a_withdrawal_at_once_one_wins() {
    let mut done = 0;
    for seed in 0..300 {
        let (answers, swapped) = race(seed, 100, &["bob consents 2"], ["ann consents 2", "bob withdraws"]).await;
        let expected = if swapped { ["traded", "done"] } else { ["withdrawn", "ok"] };
        assert_eq!(answers, expected, "seed {seed}");
        done += u32::from(swapped);
    }
    assert!((10..290).contains(&done), "both happen: {done} of 300 traded");
}

#[tokio::test(start_paused = true)]
async fn an_offer_changed_while_the_other_consents_is_never_traded_unseen() {
    let mut done = 0;
    for seed in 0..300 {
        let (answers, swapped) = race(seed, 100, &["bob consents 2"], ["ann consents 2", "bob offers 1 stone"]).await;
        let expected: [&str; 2] = if swapped { ["traded", "done"] } else { ["changed", "ok"] };
        assert_eq!(answers, expected, "seed {seed}");
        done += u32::from(swapped);
    }
    assert!((10..290).contains(&done), "both happen: {done} of 300 traded");
}
