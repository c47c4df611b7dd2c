//! Calls between hubs: lanes, refusals, stalled peers, breakers, repeats.

use std::collections::BTreeMap;

use super::*;
use crate::calls::{CallError, CallRefusal, Lane, Method, Outcome};
use crate::transport::memory::Fault;

pub(super) static READ: Method = Method::query("read", 2_000);
static OPEN: Method = Method::sync("open", 2_000);
static GIVE: Method = Method::commit("give", 5_000);
static HINT: Method = Method::send("hint");

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    two.echo();
    assert_eq!(one.mesh.call(&two.id, &READ, body("hello")).await, Ok(body("hello")));
    let large = Bytes::from(vec![7; 4 << 20]);
    assert_eq!(one.mesh.call(&two.id, &READ, large.clone()).await, Ok(large));
    let huge = one.mesh.call(&two.id, &READ, Bytes::from(vec![7; 9 << 20])).await;
    assert!(matches!(huge, Err(CallError::TooLarge { .. })), "{huge:?}");
    let nobody = one.mesh.call(&id("zoo-9"), &READ, Bytes::new()).await;
    assert_eq!(nobody, Err(CallError::UnknownPeer(id("zoo-9"))));
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_properly_is_reported_as_such() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    let ask = || one.mesh.call(&two.id, &OPEN, Bytes::new());
    let serve = async |calls: &mut mpsc::Receiver<IncomingCall>, how: u8| {
        let call = calls.recv().await.unwrap();
        match how {
            0 => drop(call),
            1 => call.answer(Err(CallRefusal::unknown_method("open"))),
            _ => call.answer(Ok(Bytes::from(vec![0; 9 << 20]))),
        }
    };
    for (how, code, outcome) in [
        (0, CallRefusal::DROPPED, Outcome::Maybe),
        (1, CallRefusal::UNKNOWN_METHOD, Outcome::Answered),
        (2, "too_large", Outcome::Answered),
    ] {
        let (answer, ()) = tokio::join!(ask(), serve(&mut two.inbox.calls, how));
        let error = answer.unwrap_err();
        assert!(matches!(&error, CallError::Refused { refusal, .. } if refusal.code == code), "{error}");
        assert_eq!(error.outcome(), outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_arrives_and_wants_no_answer() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    one.mesh.send(&two.id, &HINT, body("there"));
    let call = two.inbox.calls.recv().await.unwrap();
    assert_eq!((call.method.as_str(), &call.body[..], call.wants_answer()), ("hint", &b"there"[..], false));
    assert_eq!((call.from.clone(), call.incarnation), (one.id.clone(), one.incarnation()));
    call.answer(Ok(Bytes::new()));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_peer_does_not_delay_calls_to_others() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    two.echo();
    let three = place.node("zoo-3", 3);
    one.until_up(&three).await;
    three.tasks.freeze(true);
    for _ in 0..2_000 {
        let mesh = one.mesh.clone();
        one.tasks.spawn(async move {
            let answer = mesh.call(&id("zoo-3"), &READ, Bytes::from(vec![0; 1_000])).await;
            assert!(answer.is_err());
        });
    }
    let asked = Instant::now();
    for _ in 0..200 {
        assert!(one.mesh.call(&two.id, &READ, body("you?")).await.is_ok());
    }
    assert!(asked.elapsed() < Duration::from_millis(200), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_breaker_turns_calls_away_and_tries_again() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    // Nobody takes the calls out of the inbox: they are never answered.
    for _ in 0..5 {
        let failed = one.mesh.call(&two.id, &OPEN, Bytes::new()).await;
        assert!(matches!(failed, Err(CallError::Deadline { .. })), "{failed:?}");
    }
    let asked = Instant::now();
    let refused = one.mesh.call(&two.id, &OPEN, Bytes::new()).await;
    assert!(matches!(refused, Err(CallError::BreakerOpen { .. })), "{refused:?}");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(one.state(&two.id), Some(PeerState::Up), "a failing method is no failing link");
    two.echo();
    assert!(one.mesh.call(&two.id, &READ, Bytes::new()).await.is_ok(), "other methods go on");
    sleep(Duration::from_secs(1)).await;
    assert!(one.mesh.call(&two.id, &OPEN, Bytes::new()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_carried_out_once_however_much_is_lost() {
    let place = Place::new(7);
    let (one, mut two) = place.pair().await;
    let three = place.node("zoo-3", 3);
    three.until_up(&two).await;
    two.until_up(&three).await;
    place.network.set_default_fault(Fault { loss_per_mille: 300, ..Fault::delay(5, 20) });
    let done = Arc::new(std::sync::Mutex::new(BTreeMap::<u128, u32>::new()));
    let counted = done.clone();
    let (_, none) = mpsc::channel(1);
    let mut calls = std::mem::replace(&mut two.inbox.calls, none);
    two.tasks.spawn(async move {
        while let Some(call) = calls.recv().await {
            *counted.lock().unwrap().entry(call.operation.unwrap()).or_default() += 1;
            sleep(Duration::from_millis(50)).await;
            call.answer(Ok(Bytes::from_static(b"done")));
        }
    });
    for operation in 0..60 {
        // Who gets no answer asks again under the same id, and so may another node.
        let mut asker = &one;
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < LONG);
            match asker.mesh.call_once(&two.id, &GIVE, operation, Bytes::new()).await {
                Ok(answer) => break assert_eq!(answer, body("done")),
                Err(_) => asker = if asker.id == one.id { &three } else { &one },
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    let done = done.lock().unwrap();
    assert_eq!(done.len(), 60);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    let repeats = two.mesh.view().counters.repeats;
    assert!(repeats > 0, "something was repeated, or the test shows nothing");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_operation_id_on_the_commit_lane_is_sent_once() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    assert_eq!(GIVE.lane, Lane::Commit);
    let failed = one.mesh.call(&two.id, &GIVE, Bytes::new()).await;
    assert!(matches!(&failed, Err(error) if error.outcome() == Outcome::Maybe), "{failed:?}");
    assert!(two.inbox.calls.try_recv().is_ok());
    assert!(two.inbox.calls.try_recv().is_err());
    assert_eq!(one.mesh.view().counters.retries, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_end_when_the_peer_is_gone() {
    let place = Place::new(1);
    let (one, two) = place.pair().await;
    static SLOW: Method = Method::sync("slow", 60_000);
    let asked = Instant::now();
    let kill = async {
        sleep(Duration::from_millis(100)).await;
        two.tasks.stop();
    };
    let (answer, ()) = tokio::join!(one.mesh.call(&two.id, &SLOW, Bytes::new()), kill);
    assert!(matches!(answer, Err(CallError::Gone { .. })), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
}
