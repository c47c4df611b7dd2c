//! Several real processes on one folder: killed at random, out of space, without permission.
//!
//! The test runs its own program again as the processes (the ignored test `child`). What a process acknowledged it has
//! told over its standard output before, so that the documents can be compared with what was said.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use estate::embedded::{self, Durability, EmbeddedStore};
use estate::store::{Outcome, Store, StoreError, WriteOptions};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const KEYS: [&str; 3] = ["counter/a", "counter/b", "counter/c"];
const PROCESSES: u64 = 4;
/// How long the killing lasts; `WILDMESH_CHAOS_SECONDS` for longer runs.
const SECONDS: u64 = 4;
/// Far longer than anything here takes unless it hangs.
const STUCK: Duration = Duration::from_secs(20);

/// How often each life of a process counted each key up.
type Counts = BTreeMap<(u64, usize), u64>;

fn command(role: &str, folder: &Path, life: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    arguments(&mut command, role, folder, life);
    command
}

fn arguments(command: &mut Command, role: &str, folder: &Path, life: u64) {
    command
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("WILDMESH_TEST_ROLE", role)
        .env("WILDMESH_TEST_FOLDER", folder)
        .env("WILDMESH_TEST_LIFE", life.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
}

/// Not a test: what the processes of the tests below do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the other tests"]
async fn child() {
    let Ok(role) = std::env::var("WILDMESH_TEST_ROLE") else { return };
    let folder = std::env::var("WILDMESH_TEST_FOLDER").expect("folder");
    let life: u64 = std::env::var("WILDMESH_TEST_LIFE").expect("life").parse().expect("number");
    match role.as_str() {
        "count" => count(&folder, life, u64::MAX).await,
        "count a little" => count(&folder, life, 20).await,
        "open" => match embedded::open(&folder, Durability::Process).await {
            Ok(_) => println!("@opened"),
            Err(error) => println!("@{error}"),
        },
        "fill" => fill(&folder).await,
        other => panic!("no role {other}"),
    }
}

/// Counts every key up, and says so before and after.
async fn count(folder: &str, life: u64, times: u64) {
    let store = Arc::new(embedded::open(folder, Durability::Process).await.expect("open"));
    println!("@open");
    let (mut tasks, mut beside) = (JoinSet::new(), JoinSet::new());
    for (index, key) in KEYS.into_iter().enumerate() {
        let counter = store.clone();
        tasks.spawn(async move {
            for _ in 0..times {
                println!("@try {index}");
                count_up(&counter, key, life).await;
                println!("@done {index}");
            }
        });
        // Other writes, so that groups are larger than one and pages move.
        let other = store.clone();
        beside.spawn(async move {
            for n in 0_u64.. {
                let key = format!("beside/{life}/{index}/{}", n % 50);
                let options = WriteOptions::expiring(Duration::from_secs(2));
                let stored = other.get(&key).await.expect("get");
                let value = Bytes::from(vec![n as u8; 1_000]);
                let result = match stored {
                    Some(stored) => other.replace(&key, value, stored.version, options).await,
                    None => other.insert(&key, value, options).await,
                };
                assert!(matches!(result, Ok(_) | Err(StoreError::NotFound)), "nobody else writes it: {result:?}");
            }
        });
    }
    tasks.join_all().await;
    beside.shutdown().await;
    store.close().await;
}

async fn count_up(store: &EmbeddedStore, key: &str, life: u64) {
    loop {
        let stored = store.get(key).await.expect("get").expect("made by the test");
        let mut counts: BTreeMap<u64, u64> = serde_json::from_slice(&stored.value).expect("whole");
        *counts.entry(life).or_default() += 1;
        let value = Bytes::from(serde_json::to_vec(&counts).expect("json"));
        match store.replace(key, value, stored.version, WriteOptions::default()).await {
            Ok(_) => return,
            Err(error) => assert_eq!(error, StoreError::Conflict),
        }
    }
}

/// What one process said before it ended.
#[derive(Default)]
struct Said {
    tried: Counts,
    done: Counts,
}

impl Said {
    fn line(&mut self, life: u64, line: &str) {
        let number = |text: &str| text.parse::<usize>().expect("a key's number");
        if let Some(index) = line.strip_prefix("@try ") {
            *self.tried.entry((life, number(index))).or_default() += 1;
        } else if let Some(index) = line.strip_prefix("@done ") {
            *self.done.entry((life, number(index))).or_default() += 1;
        }
    }
}

/// SplitMix64: when to kill.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Runs one process until it is killed, or (`until_end`) ends by itself, and keeps what it said.
async fn one_life(folder: &Path, life: u64, chance: &mut Chance, until_end: bool, said: &mut Said) {
    let role = if until_end { "count a little" } else { "count" };
    let mut process = command(role, folder, life).spawn().expect("spawn");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    // Every eighth is killed while it opens; the others once they have counted.
    let counts_first = until_end || chance.below(8) > 0;
    let mut counted = false;
    while counts_first && !counted {
        let line = timeout(STUCK, lines.next_line()).await.expect("a process hangs").expect("read");
        let Some(line) = line else { panic!("process {life} ended: {}", ended(process).await) };
        said.line(life, &line);
        counted = line.starts_with("@done");
    }
    if !until_end {
        let until = Instant::now() + Duration::from_micros(chance.below(60_000));
        while let Ok(Ok(Some(line))) = tokio::time::timeout_at(until, lines.next_line()).await {
            said.line(life, &line);
        }
        process.start_kill().expect("kill");
    }
    while let Some(line) = timeout(STUCK, lines.next_line()).await.expect("a process hangs").expect("read") {
        said.line(life, &line);
    }
    if until_end {
        assert!(process.wait().await.expect("wait").success(), "process {life}: {}", ended(process).await);
    } else {
        process.wait().await.expect("wait");
    }
}

async fn ended(process: tokio::process::Child) -> String {
    let output = process.wait_with_output().await.expect("output");
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn killed_processes_lose_no_acknowledged_write_and_leave_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded::open(folder.path(), Durability::Process).await.expect("open");
    for key in KEYS {
        store.insert(key, Bytes::from_static(b"{}"), WriteOptions::default()).await.expect("insert");
    }
    let seconds = std::env::var("WILDMESH_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let until = Instant::now() + Duration::from_secs(seconds);
    let lives = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for seat in 0..PROCESSES {
        let (lives, folder) = (lives.clone(), folder.path().to_owned());
        tasks.spawn(async move {
            let (mut said, mut chance) = (Said::default(), Chance(seat));
            while Instant::now() < until {
                one_life(&folder, lives.fetch_add(1, Ordering::SeqCst), &mut chance, false, &mut said).await;
            }
            one_life(&folder, lives.fetch_add(1, Ordering::SeqCst), &mut chance, true, &mut said).await;
            said
        });
    }
    let (mut tried, mut done) = (Counts::new(), Counts::new());
    while let Some(said) = tasks.join_next().await {
        let said = said.expect("no process hangs or fails");
        tried.extend(said.tried);
        done.extend(said.done);
    }
    for (index, key) in KEYS.into_iter().enumerate() {
        let stored = store.get(key).await.expect("get").expect("there");
        let counts: BTreeMap<u64, u64> = serde_json::from_slice(&stored.value).expect("whole");
        assert!(counts.keys().all(|life| tried.contains_key(&(*life, index))));
        for (&(life, _), &tried) in tried.iter().filter(|((_, of), _)| *of == index) {
            let counted = counts.get(&life).copied().unwrap_or(0);
            let done = done.get(&(life, index)).copied().unwrap_or(0);
            assert!((done..=tried).contains(&counted), "{key}, life {life}: {done} acknowledged, {counted} counted");
            assert!(tried - done <= 1, "each counts one at a time");
        }
    }
    let (lives, writes) = (lives.load(Ordering::SeqCst), done.values().sum::<u64>());
    println!("{lives} lives, {writes} acknowledged counts, {}", store.describe().await);
    assert!(writes > 100 && lives > PROCESSES, "the test did something");
    store.close().await;
}

/// Fills a store whose file may not grow, and says what happened.
async fn fill(folder: &str) {
    let store = embedded::open(folder, Durability::Process).await.expect("open");
    let value = Bytes::from(vec![1; 10_000]);
    let mut kept = 0_u64;
    let error = loop {
        match store.insert(&kept.to_string(), value.clone(), WriteOptions::default()).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.outcome(), Outcome::NotDone);
    for n in 0..=kept {
        let there = store.get(&n.to_string()).await.expect("reading goes on");
        assert_eq!(there.map(|stored| stored.value), (n < kept).then(|| value.clone()));
    }
    println!("@{kept} kept, then {error}");
}

async fn said_by(mut command: Command) -> String {
    let output = timeout(STUCK, command.output()).await.expect("hangs").expect("output");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once('@')).map(|(_, said)| said);
    line.unwrap_or_else(|| panic!("said nothing: {text} {}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[tokio::test]
async fn a_full_disk_is_said_and_costs_nothing_that_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("sh");
    let program = std::env::current_exe().expect("own path");
    // A limit on the file's size fails writes as a full disk does.
    command.args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""]).arg(program);
    arguments(&mut command, "fill", folder.path(), 0);
    let said = said_by(command).await;
    assert!(said.contains("kept, then store full: "), "{said}");
    let kept: u64 = said.split(' ').next().expect("a number").parse().expect("a number");
    assert!(kept > 10, "{said}");
    let store = embedded::open(folder.path(), Durability::Process).await.expect("open with room");
    store.insert(&kept.to_string(), Bytes::from(vec![1; 10_000]), WriteOptions::default()).await.expect("insert");
    store.close().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_may_not_be_written_is_said_so() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("store");
    std::fs::create_dir(&folder).expect("create");
    for path in [parent.path(), &folder] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o555)).expect("chmod");
    }
    let mut command = command("open", &folder, 0);
    if std::fs::metadata(&folder).expect("metadata").uid() == 0 {
        // Permissions do not bind root: be nobody.
        command.uid(65_534);
    }
    let said = said_by(command).await;
    assert!(said.ends_with("/store cannot be written; a store needs a folder that this user may write"), "{said}");
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
}
