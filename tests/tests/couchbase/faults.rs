//! What becomes of calls while the server, a node or a connection fails.

use std::time::Duration;

use estate::store::couchbase::{ATTEMPT, CALL_DEADLINE, CouchbaseStore};
use estate::store::{Ack, Expiry, Outcome, Store, StoreError, WriteOptions};
use tests::couchbase::{Fault, Options, Rule, What};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{Bed, PATIENCE, bytes, note};

/// A key whose document lies on a node.
fn key_on(bed: &Bed, node: usize) -> String {
    (0..).map(|n| format!("doc/{n}")).find(|key| bed.server.node_of(key) == node).expect("one of many")
}

/// Waits until a write is taken again.
async fn works(store: &CouchbaseStore, key: &str) {
    let again = async {
        while store.touch(key, Expiry::Keep).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("the store works again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_reply_is_lost_is_found_by_its_token() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let note = note(&store, "doc");
    for fault in [Fault::CloseAfter, Fault::SwallowReply, Fault::Misreport(0xa3)] {
        bed.server.faults().add(Rule::once(What::Writes, "doc", fault));
        let version = note.insert("one").await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!(store.get("doc").await.expect("get").expect("there").version, version, "{fault:?}");
        note.remove(version).await.expect("its version is the present one");
    }
    assert_eq!(bed.server.faults().hits(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_request_is_lost_may_have_happened_and_is_not_sent_again() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::CloseBefore));
    let error = note(&store, "doc").insert("one").await.expect_err("lost");
    assert_eq!(error.outcome(), Outcome::Maybe, "{error}");
    assert_eq!(note(&store, "doc").value().await, None, "whoever removed it meanwhile would find it there again");
    assert!(bed.server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replace_whose_request_or_reply_is_lost_is_settled_and_applied_once() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let note = note(&store, "doc");
    let mut version = note.insert("0").await.expect("insert");
    for fault in
        [Fault::CloseBefore, Fault::CloseAfter, Fault::SwallowRequest, Fault::SwallowReply, Fault::Misreport(0xa3)]
    {
        bed.server.seen();
        bed.server.faults().add(Rule::once(What::Writes, "doc", fault));
        version = note.replace(&format!("{fault:?}"), version).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!(note.value().await, Some(format!("{fault:?}")));
        let applied = bed.server.seen().iter().filter(|seen| seen.applied).count();
        assert_eq!(applied, 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remove_whose_reply_is_lost_may_have_happened() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let note = note(&store, "doc");
    let version = note.insert("one").await.expect("insert");
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::CloseAfter));
    let error = note.remove(version).await.expect_err("somebody else may have removed it");
    assert_eq!(error.outcome(), Outcome::Maybe, "{error}");
    assert_eq!(note.value().await, None, "reading back shows it");
    let version = note.insert("two").await.expect("insert");
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::CloseBefore));
    note.remove(version).await.expect("sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_reply_stays_lost_may_have_happened_and_reading_back_shows_it() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let note = note(&store, "doc");
    let version = note.insert("one").await.expect("insert");
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::SwallowReply));
    bed.server.faults().add(Rule::always(What::Documents, "doc", Fault::SwallowRequest));
    let begun = Instant::now();
    let error = note.replace("two", version).await.expect_err("nobody knows");
    assert_eq!(error.outcome(), Outcome::Maybe, "{error}");
    assert!(begun.elapsed() < CALL_DEADLINE + ATTEMPT, "it ends within its bound: {:?}", begun.elapsed());
    bed.server.faults().clear();
    assert_eq!(note.value().await, Some("two".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_applied_after_its_caller_gave_up_was_never_called_undone() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let late = ATTEMPT + Duration::from_millis(500);
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::Delay(late)));
    let error = note(&store, "doc").insert("late").await.expect_err("not there yet when read back");
    assert_eq!(error.outcome(), Outcome::Maybe, "{error}");
    let arrives = async {
        while note(&store, "doc").value().await.is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, arrives).await.expect("it lands after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rival_with_the_same_value_is_not_taken_for_ones_own_write() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let rival = estate::store::couchbase::connect(bed.config(), 2).await.expect("connected");
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::SwallowRequest));
    let (mine, theirs) = (note(&store, "doc"), note(&rival, "doc"));
    let (mine, theirs) = tokio::join!(mine.insert("same"), async {
        // The first write to arrive is the one that is swallowed: mine.
        while bed.server.faults().hits() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        theirs.insert("same").await
    });
    theirs.expect("the rival's is there");
    assert_eq!(mine.expect_err("mine is not").outcome(), Outcome::Maybe);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_busy_is_asked_again_and_given_up_within_the_bound() {
    const TEMPORARY_FAILURE: u16 = 0x86;
    const DURABLE_WRITE_IN_PROGRESS: u16 = 0xa2;
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    for (key, status) in [("a", TEMPORARY_FAILURE), ("b", DURABLE_WRITE_IN_PROGRESS)] {
        bed.server.faults().add(Rule { times: 3, ..Rule::always(What::Documents, key, Fault::Refuse(status)) });
        note(&store, key).insert("one").await.unwrap_or_else(|e| panic!("{status:x}: {e}"));
    }
    bed.server.faults().add(Rule::always(What::Writes, "c", Fault::Refuse(TEMPORARY_FAILURE)));
    let begun = Instant::now();
    let error = note(&store, "c").insert("one").await.expect_err("busy for good");
    assert!(matches!(error, StoreError::Unavailable(_)), "surely not done: {error}");
    assert!(begun.elapsed() < CALL_DEADLINE + ATTEMPT);
    assert_eq!(bed.server.document("c"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_and_impossible_durability_are_refusals() {
    const OUT_OF_MEMORY: u16 = 0x82;
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    bed.server.faults().add(Rule::once(What::Writes, "doc", Fault::Refuse(OUT_OF_MEMORY)));
    let error = note(&store, "doc").insert("one").await.expect_err("no room");
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    bed.server.refuse_durability(true);
    let error = note(&store, "doc").insert("one").await.expect_err("too few nodes");
    assert_eq!(error.outcome(), Outcome::NotDone);
    assert!(error.to_string().contains("durability=none"), "{error}");
    let early = WriteOptions { ack: Ack::Early, ..WriteOptions::default() };
    store.insert("doc", bytes("one"), early).await.expect("early writes ask for none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_down_and_comes_back_costs_its_own_documents_only() {
    let bed = Bed::nodes(3).await;
    let store = bed.connect().await;
    let keys = [0, 1, 2].map(|node| key_on(&bed, node));
    for key in &keys {
        note(&store, key).insert("one").await.expect("insert");
    }
    bed.server.stop_node(1).await;
    let error = note(&store, &keys[1]).insert("x").await.expect_err("its node is down");
    assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Ambiguous(_)), "{error}");
    for key in [&keys[0], &keys[2]] {
        assert_eq!(note(&store, key).value().await, Some("one".to_owned()), "the others answer");
        works(&store, key).await;
    }
    bed.server.start_node(1).await.expect("its ports are free");
    works(&store, &keys[1]).await;
    assert_eq!(note(&store, &keys[1]).value().await, Some("one".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_refuses_writes_instead_of_leaving_each_in_doubt() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    note(&store, "doc").insert("one").await.expect("insert");
    bed.server.stop_node(0).await;
    // The first may still go out over a connection that nobody has found broken yet.
    note(&store, "first").insert("x").await.expect_err("down");
    let error = note(&store, "second").insert("x").await.expect_err("down");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(matches!(store.get("doc").await, Err(StoreError::Unavailable(_))));
    bed.server.start_node(0).await.expect("its ports are free");
    works(&store, "doc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_nobody_answers_any_more_get_a_new_link() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    note(&store, "doc").insert("one").await.expect("insert");
    let before = bed.server.connections();
    bed.server.faults().add(Rule::always(What::Documents, "doc", Fault::SwallowRequest));
    store.get("doc").await.expect_err("nobody answers");
    let replaced = async {
        while bed.server.connections() <= before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, replaced).await.expect("another link is opened");
    bed.server.faults().clear();
    works(&store, "doc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vbuckets_that_move_take_their_writes_along() {
    let bed = Bed::nodes(3).await;
    let store = bed.connect().await;
    note(&store, "counter").insert("0").await.expect("insert");
    let mut writers = JoinSet::new();
    const WRITERS: u64 = 8;
    const EACH: u64 = 40;
    for _ in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let note = note(&store, "counter");
            let mut done = 0;
            while done < EACH {
                let stored = store.get("counter").await.expect("get").expect("there");
                let count: u64 = std::str::from_utf8(&stored.value).expect("text").parse().expect("a number");
                match note.replace(&(count + 1).to_string(), stored.version).await {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error, StoreError::Conflict),
                }
            }
        });
    }
    let holder = bed.server.node_of("counter");
    for step in 0..6 {
        let (from, to) = ((holder + step) % 3, (holder + step + 1) % 3);
        bed.server.rebalance(from, to);
        sleep(Duration::from_millis(30)).await;
    }
    timeout(PATIENCE, writers.join_all()).await.expect("all writers end");
    assert_eq!(note(&store, "counter").value().await, Some((WRITERS * EACH).to_string()));
    assert!(bed.server.misdirected() > 0, "somebody was sent elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_lost_replies_and_late_answers_counters_still_add_up() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let bed = Bed::new(Options { nodes: 3, ..Options::default() }).await;
    let store = bed.connect().await;
    note(&store, "counter").insert("0").await.expect("insert");
    let every = |every, fault| Rule { every, ..Rule::always(What::Writes, "counter", fault) };
    bed.server.faults().add(every(13, Fault::CloseAfter));
    bed.server.faults().add(every(11, Fault::CloseBefore));
    bed.server.faults().add(every(7, Fault::Delay(Duration::from_millis(40))));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let (mut done, mut doubts) = (0, 0u64);
            while done < EACH {
                let stored = store.get("counter").await.expect("get").expect("there");
                let text = std::str::from_utf8(&stored.value).expect("text").to_owned();
                let count: u64 = text.split(' ').next().expect("a word").parse().expect("a number");
                let value = format!("{} {writer}:{done}", count + 1);
                match note(&store, "counter").replace(&value, stored.version).await {
                    Ok(_) => done += 1,
                    Err(StoreError::Conflict) => {}
                    Err(StoreError::Ambiguous(_)) => {
                        // Overwritten since, or never there: the test cannot tell, so it counts.
                        (done, doubts) = (done + 1, doubts + 1);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            doubts
        });
    }
    let doubts: u64 = timeout(PATIENCE * 4, writers.join_all()).await.expect("all writers end").iter().sum();
    bed.server.faults().clear();
    let value = note(&store, "counter").value().await.expect("there");
    let count: u64 = value.split(' ').next().expect("a word").parse().expect("a number");
    let sure = WRITERS * EACH - doubts;
    assert!((sure..=sure + doubts).contains(&count), "{count} of {sure} sure and {doubts} doubtful");
    assert!(bed.server.faults().hits() > 10);
    println!("{count} counted, {doubts} in doubt, {} faults", bed.server.faults().hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_and_thaws_is_used_again() {
    let bed = Bed::nodes(3).await;
    let store = bed.connect().await;
    bed.server.faults().add(Rule::always(What::Documents, "", Fault::SwallowRequest));
    assert!(matches!(store.get("doc").await, Err(StoreError::Unavailable(_))));
    let error = note(&store, "doc").insert("one").await.expect_err("frozen");
    assert!(matches!(error, StoreError::Unavailable(_)), "not even sent: {error}");
    bed.server.faults().clear();
    let inserts = async {
        while note(&store, "doc").insert("one").await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, inserts).await.expect("thawed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_removed_and_made_again_is_found_again() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    note(&store, "doc").insert("one").await.expect("insert");
    bed.server.drop_collection("world", "estate", "documents");
    let error = note(&store, "doc").insert("two").await.expect_err("there is no collection");
    assert_ne!(error.outcome(), Outcome::Done, "{error}");
    estate::store::couchbase::setup::init(&bed.config()).await.expect("made again");
    let inserts = async {
        while note(&store, "doc").insert("three").await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE * 2, inserts).await.expect("found under its new number");
    assert_eq!(note(&store, "doc").value().await, Some("three".to_owned()));
}
