//! Everything at once: what the driver says of a write must be true, whatever happens to requests, replies and nodes.

use std::time::Duration;

use estate::store::couchbase::CouchbaseStore;
use estate::store::{Outcome, Store, StoreError, Version, WriteOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::couchbase::{Fault, Rule, What};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{Bed, PATIENCE, bytes};

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(12);

const WORKERS: u64 = 16;

/// What one worker was told.
#[derive(Default)]
struct Told {
    done: Vec<String>,
    undone: Vec<String>,
    doubtful: u64,
}

async fn inserts(store: CouchbaseStore, worker: u64, until: Instant) -> Told {
    let mut told = Told::default();
    for n in 0.. {
        if Instant::now() > until {
            break;
        }
        let key = format!("insert/{worker}/{n}");
        match store.insert(&key, bytes(&key), WriteOptions::default()).await {
            Ok(_) => told.done.push(key),
            Err(e) if e.outcome() == Outcome::Maybe => told.doubtful += 1,
            Err(e) => {
                assert!(matches!(e, StoreError::Unavailable(_)), "nobody else writes {key}: {e}");
                told.undone.push(key);
            }
        }
    }
    told
}

/// Replaces one document over and over. Nobody else writes it: what is there is what was last surely written, or one of
/// those in doubt since.
async fn replaces(store: CouchbaseStore, worker: u64, until: Instant) -> (u64, u64) {
    let key = format!("replace/{worker}");
    let (mut sure, mut doubtful): (String, Vec<String>) = ("0".to_owned(), Vec::new());
    let mut version: Option<Version> = None;
    let mut count = (0, 0);
    for n in 1.. {
        if Instant::now() > until {
            break;
        }
        let Some(present) = version else {
            let Ok(stored) = store.get(&key).await else { continue };
            let stored = stored.expect("never removed");
            let text = String::from_utf8(stored.value.to_vec()).expect("text");
            assert!(
                text == sure || doubtful.contains(&text),
                "{key} holds {text}; sure was {sure}, in doubt {doubtful:?}"
            );
            (sure, version) = (text, Some(stored.version));
            continue;
        };
        let value = n.to_string();
        match store.replace(&key, bytes(&value), present, WriteOptions::default()).await {
            Ok(next) => {
                (sure, version) = (value, Some(next));
                doubtful.clear();
                count.0 += 1;
            }
            Err(e) => {
                match e.outcome() {
                    Outcome::Maybe => {
                        doubtful.push(value);
                        count.1 += 1;
                    }
                    // A write in doubt that landed late may have taken the version; nobody else does.
                    _ if e == StoreError::Conflict => assert!(!doubtful.is_empty(), "nobody else writes {key}"),
                    _ => {}
                }
                version = None;
            }
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_done_is_there_and_what_is_called_undone_is_not() {
    let bed = Bed::nodes(3).await;
    let store = bed.connect().await;
    for worker in 0..WORKERS {
        let key = format!("replace/{worker}");
        store.insert(&key, bytes("0"), WriteOptions::default()).await.expect("insert");
    }
    let every = |what, every, fault| Rule { every, ..Rule::always(what, "", fault) };
    let faults = [
        every(What::Writes, 97, Fault::CloseBefore),
        every(What::Writes, 89, Fault::CloseAfter),
        every(What::Writes, 83, Fault::SwallowReply),
        every(What::Writes, 101, Fault::SwallowRequest),
        every(What::Documents, 29, Fault::Delay(Duration::from_millis(15))),
        every(What::Writes, 113, Fault::Delay(Duration::from_millis(2_800))),
        every(What::Writes, 61, Fault::Refuse(0x86)),
        every(What::Writes, 59, Fault::Misreport(0xa3)),
    ];
    faults.into_iter().for_each(|rule| bed.server.faults().add(rule));
    let until = Instant::now() + TROUBLE;
    let mut inserting = JoinSet::new();
    let mut replacing = JoinSet::new();
    for worker in 0..WORKERS {
        inserting.spawn(inserts(store.clone(), worker, until));
        replacing.spawn(replaces(store.clone(), worker, until));
    }
    // Nodes fall and rise, and vBuckets move, by a seed; the schedule of tasks is nobody's.
    let mut dice = StdRng::seed_from_u64(1);
    while Instant::now() < until {
        let node = dice.random_range(0..3);
        bed.server.stop_node(node).await;
        sleep(Duration::from_millis(dice.random_range(10..400))).await;
        bed.server.start_node(node).await.expect("its ports are free");
        bed.server.rebalance(node, dice.random_range(0..3));
        sleep(Duration::from_millis(dice.random_range(200..900))).await;
    }
    let told = timeout(PATIENCE * 2, inserting.join_all()).await.expect("all end within their bounds");
    let replaced = timeout(PATIENCE * 2, replacing.join_all()).await.expect("all end within their bounds");
    bed.server.faults().clear();
    let landed = async {
        while bed.server.delayed() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, landed).await.expect("whatever was delayed has landed");
    for told in &told {
        for key in &told.done {
            assert_eq!(bed.server.document(key).as_deref(), Some(key.as_bytes()), "{key} was called done");
        }
        for key in &told.undone {
            assert_eq!(bed.server.document(key), None, "{key} was called undone");
        }
    }
    let doubtful: u64 = told.iter().map(|told| told.doubtful).sum();
    let undone: usize = told.iter().map(|told| told.undone.len()).sum();
    let done: usize = told.iter().map(|told| told.done.len()).sum();
    println!("inserts: {done} done, {doubtful} in doubt, {undone} undone; {} faults", bed.server.faults().hits());
    let (replaces, in_doubt) = replaced.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("replaces: {replaces} done, {in_doubt} in doubt");
    assert!(done > 500 && replaces > 500 && bed.server.faults().hits() > 50, "something was tried");
}
