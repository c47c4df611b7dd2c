//! The suite over real sockets, and the library's traps one by one.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::transport::conformance::{Fabric, Node, conformance, until_heard};
use crate::transport::{EVENTS, Event, Topic};

static LIVES: AtomicU64 = AtomicU64::new(1);

struct Sockets(Limits);

impl Fabric for Sockets {
    fn node(&mut self, _name: &str, on: Option<&Endpoints>) -> Node {
        let tasks = Tasks::real();
        let mut config = ZmqConfig::new(Ipv4Addr::LOCALHOST.into(), LIVES.fetch_add(1, Ordering::Relaxed));
        config.limits = self.0.clone();
        if let Some(on) = on {
            (config.publish_port, config.request_port) = (port(&on.publish), port(&on.request));
        }
        Node { transport: start_patiently(config, &tasks), tasks }
    }
}

/// A node that was just stopped may hold its ports for another moment.
fn start_patiently(config: ZmqConfig, tasks: &Tasks) -> Transport {
    let mut last = None;
    for _ in 0..1_000 {
        match start(config.clone(), tasks) {
            Ok(transport) => return transport,
            Err(error) => last = Some(error),
        }
        #[allow(clippy::disallowed_methods, reason = "a test waits for another thread to let go of a port")]
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{last:?}");
}

fn port(endpoint: &str) -> u16 {
    endpoint.rsplit(':').next().and_then(|p| p.parse().ok()).expect("an endpoint ends in its port")
}

conformance!(Sockets(Limits::DEFAULT));

fn node(limits: Limits) -> Node {
    Sockets(limits).node("", None)
}

/// A peer that speaks just enough ZMTP to be let in, as a socket of that type, and then does as it likes.
async fn stranger(endpoint: &str, socket_type: &str) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).await.expect("somebody listens");
    stream.write_all(&greeting(socket_type)).await.expect("it is taken");
    let mut theirs = [0; 64 + 2];
    stream.read_exact(&mut theirs).await.expect("they greet");
    let mut ready = vec![0; usize::from(theirs[65])];
    stream.read_exact(&mut ready).await.expect("they are ready");
    stream
}

fn greeting(socket_type: &str) -> Vec<u8> {
    let mut greeting = vec![0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
    ready.extend((socket_type.len() as u32).to_be_bytes());
    ready.extend(socket_type.as_bytes());
    greeting.extend([4, ready.len() as u8]);
    greeting.extend(ready);
    greeting
}

/// Asks until an answer comes, with both hubs doing their part.
async fn ping(asker: &mut Node, link: LinkId, answerer: &mut Node) {
    let asking = async {
        loop {
            asker.send(link, "ping");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let route = tokio::select! {
        biased;
        (route, _) = answerer.request() => route,
        () = asking => return,
    };
    answerer.answer(route, "pong");
    assert_eq!(asker.answered().await, "pong");
}

#[tokio::test]
async fn a_subscriber_whose_hub_does_not_listen_is_cut_off_and_comes_back() {
    let limits = Limits { backlog_bytes: 1 << 20, patience_ms: 300, ..Limits::DEFAULT };
    let (mut a, b) = (node(limits.clone()), node(limits));
    a.connect(1, &b);
    a.subscribe("news");
    until_heard(&b, &mut a, "news").await;
    let body = vec![3; 64 << 10];
    while b.count(|c| &c.evicted) == 0 {
        b.publish("news", &[&body]);
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    a.until(|event| matches!(event, Event::Lost { .. }).then_some(())).await;
    until_heard(&b, &mut a, "news").await;
}

#[tokio::test]
async fn a_subscriber_that_is_none_of_ours_is_cut_off() {
    let limits = Limits { greeting_ms: 200, ..Limits::DEFAULT };
    let (mut a, b) = (node(limits.clone()), node(limits));
    a.connect(1, &b);
    a.subscribe("news");
    let mut strange = stranger(&b.transport.endpoints.publish, "SUB").await;
    strange.write_all(&[0, 1, 1]).await.expect("subscribes to everything");
    // It is read to its end, which comes by no doing of its own.
    let mut bytes = Vec::new();
    strange.read_to_end(&mut bytes).await.expect("closed in order");
    // On a slow machine one of ours may be cut off as well before it has said who it is; it comes back.
    assert!(b.count(|c| &c.evicted) >= 1);
    until_heard(&b, &mut a, "news").await;
}

#[tokio::test]
async fn who_does_not_take_its_answers_is_cut_off_and_delays_nobody() {
    let limits = Limits { window_bytes: 1 << 20, ..Limits::DEFAULT };
    let (mut a, mut b) = (node(limits.clone()), node(limits));
    let link = a.connect(1, &b);
    let mut strange = stranger(&b.transport.endpoints.request, "DEALER").await;
    // A request of one byte, in our envelope; then it reads nothing.
    strange.write_all(&[1, 2, 1, 0, 0, 1, b'x']).await.expect("it is taken");
    let (route, message) = b.request().await;
    assert_eq!(message, "x");
    let answer = Bytes::from(vec![4; 256 << 10]);
    while b.count(|c| &c.evicted) == 0 {
        b.answer(route.clone(), answer.clone());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ping(&mut a, link, &mut b).await;
}

#[tokio::test]
async fn requests_to_a_peer_that_does_not_read_are_bounded_and_delay_nobody() {
    let limits = Limits { window_messages: 64, queue_messages: 64, ..Limits::DEFAULT };
    let (mut a, b, mut c) = (node(limits.clone()), node(limits.clone()), node(limits));
    let (stuck, good) = (a.connect(1, &b), a.connect(2, &c));
    // Fill b's hub, which nobody serves; then its sockets, the window, and the queue.
    while b.transport.events.len() < EVENTS || a.count(|counters| &counters.dropped) == 0 {
        for _ in 0..64 {
            a.send(stuck, "unheard");
        }
        ping(&mut a, good, &mut c).await;
    }
    let before = a.count(|counters| &counters.dropped);
    for _ in 0..1_000 {
        a.send(stuck, "unheard");
    }
    ping(&mut a, good, &mut c).await;
    assert!(a.count(|counters| &counters.dropped) - before >= 800, "what does not fit is dropped and counted");
}

#[tokio::test]
async fn garbage_on_either_endpoint_harms_nobody() {
    let limits = Limits { greeting_ms: 500, ..Limits::DEFAULT };
    let (mut a, mut b) = (node(limits.clone()), node(limits));
    let link = a.connect(1, &b);
    a.subscribe("news");
    let mut rng = StdRng::seed_from_u64(7);
    let mut held = Vec::new();
    for round in 0..300_usize {
        let endpoints = &b.transport.endpoints;
        let endpoint = if round % 2 == 0 { &endpoints.publish } else { &endpoints.request };
        let bytes: Vec<u8> = (0..rng.random_range(0..2_000)).map(|_| rng.random()).collect();
        let mut stream = match round % 5 {
            0 => TcpStream::connect(endpoint.trim_start_matches("tcp://")).await.expect("somebody listens"),
            1 => {
                let mut stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).await.expect("listens");
                stream.write_all(&greeting("DEALER")[..rng.random_range(0..80)]).await.expect("taken");
                stream
            }
            _ => stranger(endpoint, if round % 2 == 0 { "SUB" } else { "DEALER" }).await,
        };
        // It may be cut off while it still talks.
        let _ = stream.write_all(&bytes).await;
        if round % 3 == 0 {
            held.push(stream);
        }
        if round % 20 == 0 {
            ping(&mut a, link, &mut b).await;
            until_heard(&b, &mut a, "news").await;
        }
    }
    assert!(b.count(|c| &c.refused) > 50, "{}", b.count(|c| &c.refused));
    let lost = std::iter::from_fn(|| a.transport.events.try_recv().ok()).any(|e| matches!(e, Event::Lost { .. }));
    assert!(!lost, "the others noticed nothing");
}

#[tokio::test]
async fn a_peer_that_never_greets_or_falls_silent_is_given_up_and_tried_again() {
    let limits = Limits { connect_ms: 200, tick_ms: 50, silent_ticks: 6, pulse_ms: 20, ..Limits::DEFAULT };
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (mut a, mut b) = (node(limits.clone()), node(limits));
    let endpoint = |l: &TcpListener| format!("tcp://{}", l.local_addr().expect("bound"));
    let to = Endpoints { publish: endpoint(&silent), request: endpoint(&mute) };
    a.command(Command::Connect { link: LinkId(5), to });
    let link = a.connect(1, &b);
    let strange = async {
        let mut held = Vec::new();
        let (mut muted, mut silenced) = (0, 0);
        while muted < 3 || silenced < 3 {
            tokio::select! {
                stream = mute.accept() => {
                    held.push(stream.expect("accepted"));
                    muted += 1;
                }
                stream = silent.accept() => {
                    let mut stream = stream.expect("accepted");
                    stream.0.write_all(&greeting("PUB")).await.expect("taken");
                    held.push(stream);
                    silenced += 1;
                }
            }
        }
    };
    tokio::select! {
        biased;
        tried = tokio::time::timeout(Duration::from_secs(30), strange) => tried.expect("both are tried again"),
        () = async { loop { ping(&mut a, link, &mut b).await } } => {}
    }
    a.until(|event| matches!(event, Event::Broken { link: LinkId(5) }).then_some(())).await;
}

#[tokio::test]
async fn nothing_is_heard_of_a_life_that_its_request_endpoint_does_not_confirm() {
    let limits = Limits { pulse_ms: 20, ..Limits::DEFAULT };
    let (mut a, b, mut c) = (node(limits.clone()), node(limits.clone()), node(limits));
    // As if b's process had been replaced by c's between the two connections.
    let to =
        Endpoints { publish: b.transport.endpoints.publish.clone(), request: c.transport.endpoints.request.clone() };
    a.command(Command::Connect { link: LinkId(1), to });
    a.connect(2, &b);
    a.subscribe("news");
    until_heard(&b, &mut a, "news").await;
    ping(&mut a, LinkId(1), &mut c).await;
    for _ in 0..50 {
        b.publish("news", &[b"whose?"]);
        let (link, _) =
            a.until(|e| if let Event::Published { link, parts, .. } = e { Some((link, parts)) } else { None }).await;
        assert_eq!(link, LinkId(2));
    }
}

/// PUB deadlocks for good on a multi-threaded runtime when subscriptions change while it publishes.
async fn churn(subscribers: usize, rounds: usize) {
    let b = node(Limits::DEFAULT);
    let mut others: Vec<Node> = (0..subscribers).map(|_| node(Limits::DEFAULT)).collect();
    for other in &mut others {
        other.connect(1, &b);
        other.subscribe("kept");
        until_heard(&b, other, "kept").await;
    }
    let before = b.count(|c| &c.published);
    for round in 0..rounds {
        for other in &others {
            for n in 0..10 {
                other.subscribe(&format!("t{}", (round * 10 + n) % 100));
                other.command(Command::Unsubscribe(Topic::new(&format!("t{}", (round * 10 + n + 50) % 100))));
            }
        }
        for n in 0..100 {
            b.publish(&format!("t{n}"), &[&[1; 200]]);
        }
        // As fast as the publisher goes, and no faster: its commands have bounded room.
        while b.count(|c| &c.published) < before + 100 * (round as u64 + 1) {
            tokio::task::yield_now().await;
        }
        for other in &mut others {
            while other.transport.events.try_recv().is_ok() {}
        }
    }
    for other in &mut others {
        until_heard(&b, other, "kept").await;
    }
}

#[tokio::test]
async fn publishing_goes_on_while_subscriptions_change() {
    churn(8, 300).await;
}

#[tokio::test]
#[ignore = "the same for a minute; run it after any change to the library's version"]
async fn publishing_goes_on_for_long_while_subscriptions_change() {
    churn(8, 20_000).await;
}
