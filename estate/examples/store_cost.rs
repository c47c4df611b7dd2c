//! What the embedded store costs on this machine: reads and compare-and-swaps per second, with 1 and 256 tasks.
//!
//! `cargo run --release -p wildmesh-estate --example store_cost -- [process|power|strict] [folder] [documents]`
//! Several at once on the same folder show what processes cost one another. A document holds 1,000 bytes. CPU time per
//! operation stays comparable on a busy machine, where the rates do not.
#![allow(clippy::expect_used, clippy::disallowed_methods)] // a measuring tool: real time, and it may stop at the first error

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use estate::embedded::{self, Durability, EmbeddedStore};
use estate::store::{Store, StoreError, WriteOptions};
use tokio::task::JoinSet;

const VALUE: [u8; 1_000] = [7; 1_000];
const MEASURE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let durability: Durability = arguments.first().map_or("process", String::as_str).parse().expect("a durability");
    let own = tempfile::tempdir().expect("a folder");
    let folder = arguments.get(1).map_or(own.path().to_owned(), Into::into);
    let documents: u64 = arguments.get(2).map_or(100_000, |text| text.parse().expect("a number"));
    let started = Instant::now();
    let store = Arc::new(embedded::open(&folder, durability).await.expect("open"));
    println!("open                {:>10.1} ms", started.elapsed().as_secs_f64() * 1e3);
    fill(&store, documents).await;
    println!("{}", store.describe().await);
    for tasks in [1, 256] {
        measure("reads", tasks, &store, documents, read).await;
    }
    for tasks in [1, 256] {
        measure("compare-and-swaps", tasks, &store, documents, swap).await;
    }
    store.close().await;
}

async fn fill(store: &Arc<EmbeddedStore>, documents: u64) {
    let mut tasks = JoinSet::new();
    for part in 0..256 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in (part..documents).step_by(256) {
                let result = store.insert(&key(n), Bytes::from_static(&VALUE), WriteOptions::early()).await;
                assert!(matches!(result, Ok(_) | Err(StoreError::Exists)), "{result:?}");
            }
        });
    }
    tasks.join_all().await;
}

async fn measure<F>(
    what: &str,
    tasks: u64,
    store: &Arc<EmbeddedStore>,
    documents: u64,
    act: fn(Arc<EmbeddedStore>, u64) -> F,
) where
    F: Future<Output = bool> + Send + 'static,
{
    let (stop, done, refused) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut running = JoinSet::new();
    let (started, cpu_before, commits_before) = (Instant::now(), cpu_us(), commits(store));
    for task in 0..tasks {
        let (store, stop, done, refused) = (store.clone(), stop.clone(), done.clone(), refused.clone());
        let mut random = task.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
        running.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // A linear congruential generator (Knuth, MMIX) spreads the keys well enough.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let succeeded = act(store.clone(), (random >> 33) % documents).await;
                let counter = if succeeded { &done } else { &refused };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(MEASURE).await;
    stop.store(true, Ordering::Relaxed);
    running.join_all().await;
    let (done, refused) = (done.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    let rate = done as f64 / started.elapsed().as_secs_f64();
    let cpu = (cpu_us() - cpu_before) as f64 / done.max(1) as f64;
    println!("{what:<18} {tasks:>4} tasks {rate:>10.0} /s, {cpu:>6.1} µs of CPU each ({refused} refused)");
    let commits = commits(store) - commits_before;
    if commits > 0 {
        println!("{:>36.1} writes to a commit", (done + refused) as f64 / commits as f64);
    }
}

fn commits(store: &EmbeddedStore) -> u64 {
    store.counters().groups.load(Ordering::Relaxed)
}

/// The CPU time of this process in microseconds, all threads together: what counts on a machine that others use, too.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Fields 14 and 15 of proc(5), user and system, in ticks of 10 ms.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000
}

async fn read(store: Arc<EmbeddedStore>, n: u64) -> bool {
    let stored = store.get(&key(n)).await.expect("get");
    // A task that never waits must let others run.
    tokio::task::consume_budget().await;
    stored.is_some()
}

async fn swap(store: Arc<EmbeddedStore>, n: u64) -> bool {
    let stored = store.get(&key(n)).await.expect("get").expect("filled");
    let result = store.replace(&key(n), stored.value, stored.version, WriteOptions::default()).await;
    assert!(matches!(result, Ok(_) | Err(StoreError::Conflict)), "{result:?}");
    result.is_ok()
}

fn key(n: u64) -> String {
    format!("player/{n}")
}
