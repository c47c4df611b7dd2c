//! What publishing costs with many peers and many subscriptions, and how many bytes per second a link carries.
//!
//! `cargo run --release -p wildmesh-mesh --example publishing`

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mesh::tasks::Tasks;
use mesh::transport::zeromq::{ZmqConfig, start};
use mesh::transport::{Command, Endpoints, Event, LinkId, Topic, Transport};
use tokio::time::Instant;
use zeromq::{PubSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

const PEERS: u64 = 50;
/// Of the peers, those that want the topic that is published.
const WANTED_BY: u64 = 5;

fn node(life: u64, tasks: &Tasks) -> Transport {
    start(ZmqConfig::new(Ipv4Addr::LOCALHOST.into(), life), tasks).expect("two free ports")
}

/// As a block's topic: hex digits, those that differ most first.
fn topic(n: u64) -> Topic {
    Topic::new(&format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn subscribe(transport: &Transport, to: &Endpoints, topics: impl Iterator<Item = Topic>) {
    topics.for_each(|topic| assert!(transport.command(Command::Subscribe(topic))));
    assert!(transport.command(Command::Connect { link: LinkId(1), to: to.clone() }));
}

/// The ids of all drivers' threads.
fn drivers() -> BTreeSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
    let named = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|c| c.trim() == "mesh-zeromq");
    tasks.filter(named).map(|task| task.display().to_string()).collect()
}

/// CPU time of a thread, in seconds.
fn cpu_seconds(thread: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("{thread}/schedstat")).expect("it lives");
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1e9
}

/// Microseconds of the publisher's thread for each message.
async fn matching(subscriptions: u64) -> f64 {
    const MESSAGES: u64 = 10_000;
    let mine = Tasks::real();
    let before = drivers();
    let publisher = node(1, &mine);
    let thread = loop {
        if let Some(new) = drivers().difference(&before).next() {
            break new.clone();
        }
    };
    let others: Vec<Tasks> = (0..PEERS).map(|_| Tasks::real()).collect();
    let mut peers: Vec<Transport> = others.iter().enumerate().map(|(n, t)| node(100 + n as u64, t)).collect();
    let wanted = topic(0);
    for (n, peer) in peers.iter().enumerate() {
        let n = n as u64;
        let of_its_own = (1..subscriptions).map(|s| topic(1 + n * 1_000 + s));
        // The wanted one comes last, so that it is found last.
        let last = if n < WANTED_BY { wanted.clone() } else { topic(1_000_000 + n) };
        subscribe(peer, &publisher.endpoints, of_its_own.chain([last]));
    }
    let publish = |topic: &Topic| {
        let parts = vec![Bytes::from_static(&[1; 50]), Bytes::from_static(&[2; 50])];
        publisher.command(Command::Publish { topic: topic.clone(), parts })
    };
    for peer in peers.iter_mut().take(WANTED_BY as usize) {
        while peer.events.try_recv().is_err() {
            publish(&wanted);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Everybody's subscriptions have arrived by now, or will in a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let published = publisher.counters.published.load(Ordering::Relaxed);
    let cpu = cpu_seconds(&thread);
    for sent in 0..MESSAGES {
        while !publish(&wanted) {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        if sent % 200 == 199 {
            tokio::time::sleep(Duration::from_millis(4)).await;
            peers.iter_mut().for_each(|peer| while peer.events.try_recv().is_ok() {});
        }
    }
    while publisher.counters.published.load(Ordering::Relaxed) < published + MESSAGES {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let spent = cpu_seconds(&thread) - cpu;
    mine.stop();
    others.iter().for_each(Tasks::stop);
    spent * 1e6 / MESSAGES as f64
}

/// Messages and bytes per second from one node to another.
async fn throughput(bytes: usize) -> (f64, f64) {
    const SECONDS: f64 = 2.0;
    let (mine, theirs) = (Tasks::real(), Tasks::real());
    let (publisher, mut reader) = (node(1, &mine), node(2, &theirs));
    let wanted = topic(0);
    subscribe(&reader, &publisher.endpoints, std::iter::once(wanted.clone()));
    let body = Bytes::from(vec![7; bytes]);
    let Transport { commands, counters, .. } = publisher;
    let publish = Command::Publish { topic: wanted, parts: vec![body] };
    let writer = tokio::spawn(async move { while commands.send(publish.clone()).await.is_ok() {} });
    reader.events.recv().await;
    let (mut got, start) = (0_u64, Instant::now());
    while start.elapsed().as_secs_f64() < SECONDS {
        match reader.events.recv().await {
            Some(Event::Published { .. }) => got += 1,
            Some(Event::Lost { .. }) => println!("lost some: the publisher is faster than the reader"),
            _ => {}
        }
    }
    let rate = got as f64 / start.elapsed().as_secs_f64();
    writer.abort();
    mine.stop();
    theirs.stop();
    let _ = counters;
    (rate, rate * bytes as f64)
}

/// The same through the library alone, each socket on a thread with a runtime of its own, as in the driver.
async fn bare(bytes: usize) -> f64 {
    const SECONDS: f64 = 2.0;
    let tasks = Tasks::real();
    let (bound, endpoint) = tokio::sync::oneshot::channel();
    let publish = move || async move {
        let mut socket = PubSocket::new();
        let at = socket.bind("tcp://127.0.0.1:0").await.expect("a free port");
        let _ = bound.send(at.to_string());
        let body = Bytes::from(vec![7; bytes]);
        let name = Bytes::from_static(b"0123456789abcdef");
        loop {
            // A few at a time, so that its queues never fill: it would drop what does not fit.
            for _ in 0..64 {
                let message = ZmqMessage::try_from(vec![name.clone(), body.clone()]).expect("two frames");
                socket.send(message).await.expect("it always takes them");
            }
            tokio::task::yield_now().await;
        }
    };
    tasks.spawn_thread("bare", publish).expect("a thread");
    let endpoint = endpoint.await.expect("bound");
    let (done, rate) = tokio::sync::oneshot::channel();
    let receive = move || async move {
        let mut socket = SubSocket::new();
        socket.subscribe("0123456789abcdef").await.expect("nobody to refuse");
        socket.connect(&endpoint).await.expect("it listens");
        let (mut got, start) = (0_u64, Instant::now());
        while start.elapsed().as_secs_f64() < SECONDS {
            got += u64::from(socket.recv().await.is_ok());
        }
        let _ = done.send(got as f64 / start.elapsed().as_secs_f64());
    };
    tasks.spawn_thread("bare", receive).expect("a thread");
    let rate = rate.await.expect("measured");
    tasks.stop();
    rate
}

#[tokio::main]
async fn main() {
    println!("| subscriptions of each of {PEERS} peers | of all | µs per message |\n|---|---|---|");
    let only_bytes = std::env::args().any(|a| a == "--bytes");
    for subscriptions in [1, 10, 60, 100, 500].into_iter().filter(|_| !only_bytes) {
        let mut best = f64::MAX;
        for _ in 0..3 {
            best = best.min(matching(subscriptions).await);
        }
        println!("| {subscriptions} | {} | {best:.1} |", subscriptions * PEERS);
    }
    println!("\n| bytes | thousand messages/s | MB/s | of the library alone |\n|---|---|---|---|");
    for bytes in [256, 1_024, 4_096, 65_536] {
        let (mut best, mut alone) = ((0.0, 0.0), 0.0_f64);
        for _ in 0..3 {
            let now = throughput(bytes).await;
            best = if now.0 > best.0 { now } else { best };
            alone = alone.max(bare(bytes).await);
        }
        println!("| {bytes} | {:.0} | {:.0} | {:.0} % |", best.0 / 1e3, best.1 / 1e6, 100.0 * best.0 / alone);
    }
}
