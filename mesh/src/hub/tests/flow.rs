//! What becomes of events when the program does not keep up.

use super::*;
use crate::transport::Topic;

#[tokio::test(start_paused = true)]
async fn a_slow_program_loses_frames_but_no_comings_and_goings() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    two.mesh.subscribe(Topic::new("a1"));
    sleep(Duration::from_millis(50)).await;
    for _ in 0..EVENTS / 64 + 10 {
        for _ in 0..64 {
            one.mesh.publish(Topic::new("a1"), vec![Bytes::from_static(b"frame")]);
        }
        sleep(Duration::from_millis(10)).await;
    }
    let three = place.node("zoo-3", 3);
    two.until_up(&three).await;
    three.tasks.stop();
    two.until_state(&three.id, None).await;
    assert!(two.mesh.view().counters.frames_dropped > 0);
    two.until_told("gone zoo-3/3").await;
    two.until_told("lost 1").await;
    one.mesh.publish(Topic::new("a1"), vec![Bytes::from_static(b"frame")]);
    let before = two.seen.len();
    until("frames flow again", || two.told().len() > before).await;
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_what_a_program_takes_are_refused_as_overloaded() {
    let place = Place::new(1);
    let (one, two) = place.pair().await;
    static ONCE: crate::Method = crate::Method { retries: 0, ..crate::Method::sync("once", 500) };
    let (ended, mut results) = mpsc::channel(4_096);
    let others: Vec<Node> = (3..6).map(|life| place.node(&format!("zoo-{life}"), life)).collect();
    for node in &others {
        node.until_up(&two).await;
        two.until_up(node).await;
    }
    for node in others.iter().chain([&one]) {
        for _ in 0..1_000 {
            let (mesh, ended) = (node.mesh.clone(), ended.clone());
            node.tasks.spawn(async move {
                let result = mesh.call(&id("zoo-2"), &ONCE, Bytes::new()).await;
                // An error means that the test is over.
                let _ = ended.send(result).await;
            });
        }
    }
    let mut overloaded = 0;
    for _ in 0..4_000 {
        let result = results.recv().await.unwrap();
        overloaded += usize::from(matches!(result, Err(crate::CallError::Overloaded { .. })));
    }
    assert_eq!(overloaded, 4_000 - CALLS);
    assert_eq!(two.inbox.calls.len(), CALLS);
}
