//! The faults of the in-process directory do what they say, and nothing else.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, sleep};

use super::*;

fn pair() -> (MemoryDirectory, MemoryClient, MemoryClient) {
    let directory = MemoryDirectory::start(&Tasks::simulated(), 3);
    let (one, other) = (directory.client(), directory.client());
    (directory, one, other)
}

fn key_of(event: Option<WatchEvent>) -> String {
    match event {
        Some(WatchEvent::Put(entry)) => entry.key,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silently_cut_client_hears_nothing_and_catches_up_when_healed_in_time() {
    let (_directory, cut, other) = pair();
    let mut events = cut.watch("/", 0).await.unwrap();
    cut.cut(Cut::Silent);
    other.put("/a", b"", None).await.unwrap();
    sleep(SILENCE - Duration::from_secs(1)).await;
    assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
    cut.heal();
    assert_eq!(key_of(events.recv().await), "/a");
}

#[tokio::test(start_paused = true)]
async fn the_watch_of_a_silently_cut_client_ends_after_the_silence() {
    let (_directory, cut, other) = pair();
    let mut events = cut.watch("/", 0).await.unwrap();
    let began = Instant::now();
    cut.cut(Cut::Silent);
    other.put("/a", b"", None).await.unwrap();
    assert!(matches!(events.recv().await, Some(WatchEvent::Ended { .. })));
    assert_eq!(began.elapsed(), SILENCE);
    assert_eq!(events.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_knows_at_once_and_others_are_not_touched() {
    let (_directory, cut, other) = pair();
    let mut events = cut.watch("/", 0).await.unwrap();
    let mut others = other.watch("/", 0).await.unwrap();
    cut.cut(Cut::Refused);
    assert!(matches!(events.try_recv(), Ok(WatchEvent::Ended { .. })));
    assert!(matches!(cut.put("/a", b"", None).await, Err(Error::Unavailable { .. })));
    other.put("/b", b"", None).await.unwrap();
    assert_eq!(key_of(others.recv().await), "/b");
    cut.heal();
    assert_eq!(cut.list("/").await.unwrap().0.len(), 1, "what was refused did not happen");
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_ambiguous_whether_it_happened_or_not() {
    let (directory, client, _) = pair();
    for (loss, happened) in [(Loss::Request, false), (Loss::Reply, true)] {
        let key = format!("/{loss:?}");
        client.lose_next(Calls::Writes, loss, 1);
        let began = Instant::now();
        assert!(matches!(client.put(&key, b"", None).await, Err(Error::Ambiguous { .. })));
        assert_eq!(began.elapsed(), CALL_DEADLINE);
        assert_eq!(!directory.peek(&key).is_empty(), happened);
        assert!(client.put(&key, b"", None).await.is_ok(), "one was to be lost");
        client.lose_next(Calls::Reads, loss, 1);
        assert!(matches!(client.get(&key).await, Err(Error::Unavailable { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn delays_keep_the_order_of_events_and_their_bounds() {
    let (_directory, slow, fast) = pair();
    slow.delay(100, 900);
    let mut events = slow.watch("/", 0).await.unwrap();
    let began = Instant::now();
    for number in 0..50 {
        fast.put(&format!("/{number:02}"), b"", None).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "only the slow one is slow");
    for number in 0..50 {
        assert_eq!(key_of(events.recv().await), format!("/{number:02}"));
    }
    let took = began.elapsed();
    assert!((Duration::from_millis(100)..=Duration::from_millis(900)).contains(&took), "{took:?}");
    let began = Instant::now();
    slow.get("/00").await.unwrap();
    assert!((Duration::from_millis(200)..=Duration::from_millis(1800)).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_cut_while_a_call_is_under_way_loses_its_reply() {
    let (directory, client, _) = pair();
    client.delay(100, 100);
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.put("/a", b"", None).await });
    sleep(Duration::from_millis(150)).await;
    client.cut(Cut::Silent);
    assert!(matches!(write.await.unwrap(), Err(Error::Ambiguous { .. })));
    assert_eq!(directory.peek("/a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn chances_are_those_of_the_seed() {
    async fn run(seed: u64) -> Vec<bool> {
        let client = MemoryDirectory::start(&Tasks::simulated(), seed).client();
        client.lose_by_chance(300, 0);
        let mut outcomes = Vec::new();
        for _ in 0..64 {
            outcomes.push(client.get("/a").await.is_ok());
        }
        outcomes
    }
    let first = run(1).await;
    assert!(first.contains(&true) && first.contains(&false));
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
}
