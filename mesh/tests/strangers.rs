//! What strangers can do to a node, byte by byte, over raw sockets: in a process of its own, so that memory can be measured.
//!
//! Each attack is followed by the same questions: is the stranger's connection closed, does the node still serve its honest
//! peers, has it grown. One attack at a time, or the measures would mix.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mesh::tasks::Tasks;
use mesh::transport::zeromq::{Limits, ZmqConfig, start};
use mesh::transport::{Command, Endpoints, Event, LinkId, MESSAGE_BYTES, Topic, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// Only a node that hangs meets it.
const HANGS: Duration = Duration::from_secs(30);

/// What a node may grow by during an attack, in bytes: a few messages of the largest size.
const GROWTH: usize = 8 * MESSAGE_BYTES;

/// Flags of a frame's first byte.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

static ALONE: Mutex<()> = Mutex::const_new(());
static LIVES: AtomicU64 = AtomicU64::new(1);

/// Two honest nodes that are connected, and the questions about them.
struct Honest {
    asker: Transport,
    victim: Transport,
    before: Memory,
    _tasks: [Tasks; 2],
    _alone: MutexGuard<'static, ()>,
}

fn node(limits: Limits) -> (Transport, Tasks) {
    let tasks = Tasks::real();
    let mut config = ZmqConfig::new(Ipv4Addr::LOCALHOST.into(), LIVES.fetch_add(1, Ordering::Relaxed));
    config.limits = limits;
    (start(config, &tasks).expect("two free ports"), tasks)
}

async fn honest(limits: Limits) -> Honest {
    let alone = ALONE.lock().await;
    let (asker, asking) = node(limits.clone());
    let (victim, tasks) = node(limits);
    asker.command(Command::Connect { link: LinkId(1), to: victim.endpoints.clone() });
    asker.command(Command::Subscribe(Topic::new("news")));
    let before = memory();
    let mut honest = Honest { asker, victim, before, _tasks: [asking, tasks], _alone: alone };
    honest.served().await;
    honest.before = memory();
    honest
}

impl Honest {
    /// The peer still hears what is published and gets its requests answered; the node has not grown.
    async fn served(&mut self) {
        serves(&mut self.asker, &mut self.victim).await;
        let now = memory();
        assert!(now.resident < self.before.resident + GROWTH, "{now:?}, it was {:?}", self.before);
        // Address space is taken in arenas of 64 MiB by each thread.
        assert!(now.reserved < self.before.reserved + GROWTH + (256 << 20), "{now:?}, it was {:?}", self.before);
    }

    /// Both endpoints, each with the type of socket that it takes.
    fn doors(&self) -> [(String, &'static str); 2] {
        [(self.victim.endpoints.publish.clone(), "SUB"), (self.victim.endpoints.request.clone(), "DEALER")]
    }
}

/// Asks and publishes until both have arrived.
async fn serves(asker: &mut Transport, victim: &mut Transport) {
    let exchange = async {
        let (mut answered, mut heard) = (false, false);
        let mut again = tokio::time::interval(Duration::from_millis(20));
        while !(answered && heard) {
            tokio::select! {
                _ = again.tick() => {
                    asker.command(Command::Send { link: LinkId(1), message: Bytes::from_static(b"ping") });
                    let parts = vec![Bytes::from_static(b"heard?")];
                    victim.command(Command::Publish { topic: Topic::new("news"), parts });
                }
                event = victim.events.recv() => {
                    if let Event::Requested { route, message } = event.expect("the victim lives") {
                        victim.command(Command::Answer { route, message });
                    }
                }
                event = asker.events.recv() => match event.expect("the asker lives") {
                    Event::Answered { .. } => answered = true,
                    Event::Published { .. } => heard = true,
                    _ => {}
                },
            }
        }
    };
    timeout(HANGS, exchange).await.expect("honest peers are served");
}

#[derive(Clone, Copy, Debug)]
struct Memory {
    reserved: usize,
    resident: usize,
}

/// What this process holds, in bytes.
fn memory() -> Memory {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let mut pages = pages.split(' ').map(|p| p.parse::<usize>().expect("a number") * 4096);
    let mut next = || pages.next().expect("two numbers");
    Memory { reserved: next(), resident: next() }
}

async fn dial(endpoint: &str) -> TcpStream {
    TcpStream::connect(endpoint.trim_start_matches("tcp://")).await.expect("somebody listens")
}

/// The 64 bytes with which a connection begins.
fn greeting() -> Vec<u8> {
    let mut greeting = vec![0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// A READY with these properties.
fn ready(properties: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut ready = b"\x05READY".to_vec();
    for (name, value) in properties {
        ready.push(name.len() as u8);
        ready.extend_from_slice(name);
        ready.extend((value.len() as u32).to_be_bytes());
        ready.extend_from_slice(value);
    }
    command(&ready)
}

fn command(body: &[u8]) -> Vec<u8> {
    let mut frame = match u8::try_from(body.len()) {
        Ok(len) => vec![COMMAND, len],
        Err(_) => announced(COMMAND, body.len() as u64),
    };
    frame.extend_from_slice(body);
    frame
}

/// The header of a long frame.
fn announced(flags: u8, len: u64) -> Vec<u8> {
    let mut header = vec![flags | LONG];
    header.extend(len.to_be_bytes());
    header
}

/// A frame of a mebibyte, after which more are to come.
fn part() -> Vec<u8> {
    let mut part = announced(MORE, 1 << 20);
    part.resize(part.len() + (1 << 20), 7);
    part
}

/// A stranger that greets as it should.
async fn stranger(endpoint: &str, socket_type: &str) -> TcpStream {
    let mut stream = dial(endpoint).await;
    greet(&mut stream, socket_type).await;
    stream
}

async fn greet(stream: &mut TcpStream, socket_type: &str) {
    stream.write_all(&greeting()).await.expect("taken");
    stream.write_all(&ready(&[(b"Socket-Type", socket_type.as_bytes())])).await.expect("taken");
    let mut theirs = [0; 64 + 2];
    stream.read_exact(&mut theirs).await.expect("they greet");
    stream.read_exact(&mut vec![0; usize::from(theirs[65])]).await.expect("they are ready");
}

/// Reads until the other side has closed, in whatever manner.
async fn closed(stream: &mut TcpStream, why: &str) {
    let mut bytes = vec![0; 4096];
    let reading = async { while matches!(stream.read(&mut bytes).await, Ok(n) if n > 0) {} };
    timeout(HANGS, reading).await.unwrap_or_else(|_| panic!("{why}: the connection is still open"));
}

/// Writes the same bytes until the other side has closed; how many times.
async fn flood(stream: &mut TcpStream, mut bytes: impl FnMut(u64) -> Vec<u8>, most: u64, why: &str) -> u64 {
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        for n in 0..most {
            if writer.write_all(&bytes(n)).await.is_err() {
                return n;
            }
        }
        panic!("{why}: taken {most} times");
    };
    // What they say must be read, or closing would count as their waiting.
    let reading = async {
        let mut theirs = vec![0; 4096];
        while matches!(reader.read(&mut theirs).await, Ok(n) if n > 0) {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        written = timeout(HANGS, writing) => written.unwrap_or_else(|_| panic!("{why}: still open")),
        () = reading => unreachable!("it never ends"),
    }
}

/// Nobody but the attacks' own connections may be cut off for want of patience.
fn patient() -> Limits {
    Limits { greeting_ms: 600_000, connect_ms: 120_000, ..Limits::DEFAULT }
}

#[tokio::test]
async fn an_announced_length_beyond_every_bound_costs_only_the_connection() {
    let mut honest = honest(patient()).await;
    for len in [1_u64 << 62, u64::MAX, i64::MAX as u64, 3 << 30, MESSAGE_BYTES as u64 + 65] {
        for (endpoint, socket_type) in honest.doors() {
            let mut stream = stranger(&endpoint, socket_type).await;
            stream.write_all(&announced(0, len)).await.expect("taken");
            closed(&mut stream, &format!("{len} bytes announced to {socket_type}'s peer")).await;
            honest.served().await;
        }
    }
}

#[tokio::test]
async fn a_length_announced_before_the_handshake_is_over_costs_only_the_connection() {
    let mut honest = honest(patient()).await;
    for flags in [0, COMMAND] {
        for len in [1_u64 << 62, 3 << 30, 1 << 20] {
            for (endpoint, _) in honest.doors() {
                let mut stream = dial(&endpoint).await;
                stream.write_all(&greeting()).await.expect("taken");
                stream.write_all(&announced(flags, len)).await.expect("taken");
                closed(&mut stream, &format!("{len} bytes announced as READY")).await;
                honest.served().await;
            }
        }
    }
}

#[tokio::test]
async fn what_was_only_announced_takes_no_memory() {
    let mut honest = honest(patient()).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = stranger(&honest.victim.endpoints.request, "DEALER").await;
        // The largest that is allowed, of which nothing follows.
        stream.write_all(&announced(0, MESSAGE_BYTES as u64)).await.expect("taken");
        held.push(stream);
    }
    honest.served().await;
}

#[tokio::test]
async fn a_peer_that_we_connect_to_cannot_announce_too_much_either() {
    let mut honest = honest(patient()).await;
    let listeners = [
        (TcpListener::bind("127.0.0.1:0").await.expect("a port"), "PUB"),
        (TcpListener::bind("127.0.0.1:0").await.expect("a port"), "ROUTER"),
    ];
    let endpoint = |l: &TcpListener| format!("tcp://{}", l.local_addr().expect("bound"));
    let to = Endpoints { publish: endpoint(&listeners[0].0), request: endpoint(&listeners[1].0) };
    honest.victim.command(Command::Connect { link: LinkId(9), to });
    for (listener, socket_type) in &listeners {
        for len in [1_u64 << 62, 3 << 30] {
            let attack = async {
                let (mut stream, _) = listener.accept().await.expect("it connects, and again after being refused");
                greet(&mut stream, socket_type).await;
                stream.write_all(&announced(0, len)).await.expect("taken");
                closed(&mut stream, &format!("{len} bytes announced by a {socket_type}")).await;
            };
            timeout(HANGS, attack).await.expect("it comes back");
        }
    }
    // Published messages may have many parts, but not without end.
    let (mut stream, _) = timeout(HANGS, listeners[0].0.accept()).await.expect("it comes back").expect("it connects");
    greet(&mut stream, "PUB").await;
    flood(&mut stream, |_| part(), 1 << 10, "parts without end").await;
    honest.served().await;
}

#[tokio::test]
async fn a_message_that_never_ends_costs_only_the_connection() {
    let mut honest = honest(patient()).await;
    for (endpoint, socket_type) in honest.doors() {
        let empty: Vec<u8> = [MORE, 0].repeat(4096);
        let mut stream = stranger(&endpoint, socket_type).await;
        flood(&mut stream, |_| empty.clone(), 16 << 10, "empty frames without end").await;
        honest.served().await;

        let mut stream = stranger(&endpoint, socket_type).await;
        flood(&mut stream, |_| part(), 1 << 10, "full frames without end").await;
        honest.served().await;

        // A part, and then commands that would pin what it shares a buffer with.
        let mut stream = stranger(&endpoint, socket_type).await;
        stream.write_all(&[MORE, 1, 1]).await.expect("taken");
        let again = ready(&[(b"Socket-Type", socket_type.as_bytes())]).repeat(1024);
        flood(&mut stream, |_| again.clone(), 16 << 10, "commands inside a message").await;
        honest.served().await;
    }
}

#[tokio::test]
async fn who_falls_silent_while_greeting_is_let_go() {
    let mut honest = honest(Limits { connect_ms: 500, ..patient() }).await;
    for (endpoint, _) in honest.doors() {
        let whole = greeting();
        let half_ready = ready(&[(b"Socket-Type", b"DEALER")])[..9].to_vec();
        for said in [&[][..], &whole[..1], &whole[..32], &whole, &[whole.clone(), half_ready].concat()] {
            let mut stream = dial(&endpoint).await;
            stream.write_all(said).await.expect("taken");
            closed(&mut stream, &format!("silent after {} bytes", said.len())).await;
        }
        // Who says one byte now and then is no better.
        let mut stream = dial(&endpoint).await;
        let dribble = async {
            for byte in whole.iter().cycle() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(HANGS, dribble).await.expect("who dribbles is let go");
    }
    honest.served().await;
}

#[tokio::test]
async fn who_greets_and_then_says_nothing_of_ours_is_let_go() {
    let mut honest = honest(Limits { greeting_ms: 500, tick_ms: 100, ..patient() }).await;
    for (endpoint, socket_type) in honest.doors() {
        let mut silent = stranger(&endpoint, socket_type).await;
        closed(&mut silent, "silent after the greeting").await;
        let mut half = stranger(&endpoint, socket_type).await;
        half.write_all(&[0, 40, 1]).await.expect("taken");
        closed(&mut half, "silent inside its first message").await;
    }
    assert!(honest.victim.counters.evicted.load(Ordering::Relaxed) >= 4, "it is counted");
    honest.served().await;
}

#[tokio::test]
async fn a_malformed_greeting_costs_only_the_connection() {
    let mut honest = honest(patient()).await;
    let with = |at: usize, byte: u8| {
        let mut greeting = greeting();
        greeting[at] = byte;
        greeting
    };
    let after = |command: Vec<u8>| [greeting(), command].concat();
    let identity = [7; 300];
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("a first byte of nobody", with(0, 0)),
        ("no end of the signature", with(9, 0)),
        ("an old version", with(10, 1)),
        ("an unknown mechanism", with(12, b'X')),
        ("a mechanism that is no text", with(15, 0xfe)),
        ("all ones", vec![0xff; 64]),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n".to_vec()),
        ("no command", after(command(b""))),
        ("a name beyond the frame", after(command(b"\xffREADY"))),
        ("an unknown command", after(command(b"\x04PING\0\0"))),
        ("a property beyond the frame", after(command(b"\x05READY\xffSocket"))),
        ("a property without a value", after(command(b"\x05READY\x0bSocket-Type\0\0"))),
        ("a value beyond the frame", after(command(b"\x05READY\x0bSocket-Type\xff\xff\xff\xffSUB"))),
        ("a property that is no text", after(command(b"\x05READY\x02\xff\xfe\0\0\0\0"))),
        ("no socket type", after(ready(&[]))),
        ("an unknown socket type", after(ready(&[(b"Socket-Type", b"ANY")]))),
        ("a socket type outside of the table", after(ready(&[(b"Socket-Type", b"STREAM")]))),
        ("a socket type that does not fit", after(ready(&[(b"Socket-Type", b"PUSH")]))),
        ("too long an identity", after(ready(&[(b"Socket-Type", b"SUB"), (b"Identity", &identity)]))),
        ("a message instead of READY", after(vec![0, 1, 1])),
        ("a part instead of READY", after(vec![MORE, 1, 1, COMMAND, 0])),
        ("too large a READY", after(ready(&[(b"Socket-Type", b"DEALER"), (b"X", &[1; 2_000])]))),
    ];
    for (endpoint, _) in honest.doors() {
        for (what, bytes) in &attacks {
            let mut stream = dial(&endpoint).await;
            stream.write_all(bytes).await.expect("taken");
            closed(&mut stream, what).await;
        }
    }
    honest.served().await;
}

#[tokio::test]
async fn subscriptions_are_counted_and_their_length_is_bounded() {
    let mut honest = honest(Limits { subscriptions: 10_000, ..patient() }).await;
    let endpoint = honest.victim.endpoints.publish.clone();
    let subscribe = |n: u64| format!("\0\u{21}\u{1}{n:032}").into_bytes();
    let mut stream = stranger(&endpoint, "SUB").await;
    let batch = |n: u64| (n * 100..(n + 1) * 100).flat_map(subscribe).collect();
    flood(&mut stream, batch, 100_000, "ten million subscriptions").await;
    honest.served().await;

    let mut stream = stranger(&endpoint, "SUB").await;
    let mut long = announced(0, 1 << 20);
    long.resize(long.len() + (1 << 20), 1);
    flood(&mut stream, |_| long.clone(), 1_000, "subscriptions of a mebibyte").await;
    honest.served().await;

    // As many as are allowed are kept.
    let mut stream = stranger(&endpoint, "SUB").await;
    stream.write_all(&(0..9_999).flat_map(subscribe).collect::<Vec<u8>>()).await.expect("taken");
    stream.write_all(b"\0\x05\x01news").await.expect("taken");
    let hears = async {
        let mut heard = Vec::new();
        while !heard.windows(4).any(|w| w == b"news") {
            let parts = vec![Bytes::from_static(b"heard?")];
            honest.victim.command(Command::Publish { topic: Topic::new("news"), parts });
            let mut bytes = [0; 4096];
            if let Ok(read) = timeout(Duration::from_millis(20), stream.read(&mut bytes)).await {
                let read = read.expect("it is open");
                assert!(read > 0, "it is not closed");
                heard.extend_from_slice(&bytes[..read]);
            }
        }
    };
    timeout(HANGS, hears).await.expect("the last of them holds");
}

#[tokio::test]
async fn no_more_connections_are_held_than_allowed_and_places_come_back() {
    let mut honest = honest(Limits { connections: 9, ..patient() }).await;
    for (endpoint, socket_type) in honest.doors() {
        // The asker has one place; half of the strangers never greet.
        let mut held = Vec::new();
        for n in 0..8 {
            held.push(if n % 2 == 0 { dial(&endpoint).await } else { stranger(&endpoint, socket_type).await });
        }
        for _ in 0..50 {
            closed(&mut dial(&endpoint).await, "one connection too many").await;
        }
        honest.served().await;
    }
    // The strangers are gone: others get in.
    let (mut other, _tasks) = node(patient());
    other.command(Command::Connect { link: LinkId(1), to: honest.victim.endpoints.clone() });
    other.command(Command::Subscribe(Topic::new("news")));
    serves(&mut other, &mut honest.victim).await;
}

#[tokio::test]
async fn a_subscriber_that_is_cut_off_without_reading_gives_its_place_back() {
    let limits = Limits { connections: 2, backlog_bytes: 16 << 20, backlog_hard_bytes: 24 << 20, ..patient() };
    let mut honest = honest(limits).await;
    let mut stuck = dial(&honest.victim.endpoints.publish).await;
    stuck.write_all(&greeting()).await.expect("taken");
    let identity = (&b"Identity"[..], &[9; 16][..]);
    stuck.write_all(&ready(&[(b"Socket-Type", b"SUB"), identity])).await.expect("taken");
    stuck.write_all(b"\0\x01\x01").await.expect("subscribes to everything");
    // It reads nothing; the honest one keeps pace.
    let body = Bytes::from(vec![3; 256 << 10]);
    let cut_off = async {
        while honest.victim.counters.evicted.load(Ordering::Relaxed) == 0 {
            let parts = vec![body.clone()];
            honest.victim.command(Command::Publish { topic: Topic::new("news"), parts });
            tokio::time::sleep(Duration::from_millis(2)).await;
            while honest.asker.events.try_recv().is_ok() {}
        }
    };
    timeout(HANGS, cut_off).await.expect("it is cut off");
    // Its place is free although it has neither read nor closed.
    let (mut other, _tasks) = node(patient());
    other.command(Command::Connect { link: LinkId(1), to: honest.victim.endpoints.clone() });
    other.command(Command::Subscribe(Topic::new("news")));
    serves(&mut other, &mut honest.victim).await;
    drop(stuck);
}
