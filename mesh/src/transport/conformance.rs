//! What every driver must do, whatever is beneath it: one suite, run on each by `conformance!`.
//!
//! A driver's tests supply a [`Fabric`]. Everything here waits for states, with a limit that only a hanging driver meets.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{Command, Endpoints, Event, LinkId, MESSAGE_BYTES, Route, Topic, Transport};
use crate::tasks::Tasks;

/// What the suite needs of a driver.
pub(super) trait Fabric {
    /// Starts a node of that name on endpoints of its own, or, if given, on the endpoints of a former life.
    fn node(&mut self, name: &str, on: Option<&Endpoints>) -> Node;
}

/// A running node.
pub(super) struct Node {
    pub(super) transport: Transport,
    pub(super) tasks: Tasks,
}

/// A limit that only a driver that hangs will meet.
const HANGS: Duration = Duration::from_secs(30);

impl Node {
    pub(super) fn connect(&self, link: u64, to: &Node) -> LinkId {
        let link = LinkId(link);
        self.command(Command::Connect { link, to: to.transport.endpoints.clone() });
        link
    }

    pub(super) fn command(&self, command: Command) {
        assert!(self.transport.command(command), "the driver takes commands");
    }

    pub(super) fn subscribe(&self, topic: &str) {
        self.command(Command::Subscribe(Topic::new(topic)));
    }

    pub(super) fn publish(&self, topic: &str, parts: &[&[u8]]) {
        let parts = parts.iter().map(|p| Bytes::copy_from_slice(p)).collect();
        self.command(Command::Publish { topic: Topic::new(topic), parts });
    }

    pub(super) async fn event(&mut self) -> Event {
        timeout(HANGS, self.transport.events.recv()).await.expect("an event in time").expect("the driver lives")
    }

    /// Waits for an event that `pick` takes; others are passed over.
    pub(super) async fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.transport.events.recv().await.expect("the driver lives");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(HANGS, found).await.expect("the event in time")
    }

    pub(super) async fn published(&mut self, topic: &str) -> Vec<Bytes> {
        self.until(|event| match event {
            Event::Published { topic: t, parts, .. } if t.as_str() == topic => Some(parts),
            _ => None,
        })
        .await
    }

    pub(super) async fn request(&mut self) -> (Route, Bytes) {
        self.until(|event| match event {
            Event::Requested { route, message } => Some((route, message)),
            _ => None,
        })
        .await
    }

    pub(super) async fn answered(&mut self) -> Bytes {
        self.until(|event| match event {
            Event::Answered { message, .. } => Some(message),
            _ => None,
        })
        .await
    }

    pub(super) fn send(&self, link: LinkId, message: impl Into<Bytes>) {
        self.command(Command::Send { link, message: message.into() });
    }

    pub(super) fn answer(&self, route: Route, message: impl Into<Bytes>) {
        self.command(Command::Answer { route, message: message.into() });
    }

    pub(super) fn count(&self, of: impl Fn(&super::Counters) -> &std::sync::atomic::AtomicU64) -> u64 {
        of(&self.transport.counters).load(Ordering::Relaxed)
    }
}

/// Publishes on `topic` until the other hears it: subscriptions take effect in their own time.
pub(super) async fn until_heard(from: &Node, to: &mut Node, topic: &str) {
    let publishing = async {
        loop {
            from.publish(topic, &[b"ready?"]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        biased;
        _ = to.published(topic) => {}
        () = publishing => {}
    }
}

/// The next message that was published on `topic`, but for the calls of [`until_heard`].
async fn next_published(node: &mut Node, topic: &str) -> Vec<Bytes> {
    loop {
        let parts = node.published(topic).await;
        if parts != [&b"ready?"[..]] {
            return parts;
        }
    }
}

/// Two nodes, each connected to the other.
async fn pair(fabric: &mut impl Fabric) -> (Node, Node) {
    let (a, b) = (fabric.node("a", None), fabric.node("b", None));
    a.connect(1, &b);
    b.connect(1, &a);
    (a, b)
}

pub(super) async fn subscribers_get_what_they_asked_for_and_nothing_else(fabric: &mut impl Fabric) {
    let (mut a, b) = pair(fabric).await;
    a.subscribe("wanted");
    a.subscribe("wanted");
    until_heard(&b, &mut a, "wanted").await;
    b.publish("other", &[b"no"]);
    b.publish("wante", &[b"no"]);
    b.publish("wanted", &[b"one", b"", b"three"]);
    b.publish("wanted", &[]);
    b.publish("wanted", &[b"end"]);
    assert_eq!(next_published(&mut a, "wanted").await, [&b"one"[..], b"", b"three"]);
    assert!(next_published(&mut a, "wanted").await.is_empty());
    assert_eq!(next_published(&mut a, "wanted").await, [&b"end"[..]]);
}

pub(super) async fn who_unsubscribes_hears_no_more(fabric: &mut impl Fabric) {
    let (mut a, b) = pair(fabric).await;
    a.subscribe("left");
    a.subscribe("kept");
    until_heard(&b, &mut a, "left").await;
    until_heard(&b, &mut a, "kept").await;
    a.command(Command::Unsubscribe(Topic::new("left")));
    // What was under way may still come; after the news has gone round nothing does.
    a.subscribe("later");
    until_heard(&b, &mut a, "later").await;
    while a.transport.events.try_recv().is_ok() {}
    b.publish("left", &[b"no"]);
    b.publish("kept", &[b"end"]);
    loop {
        match a.event().await {
            Event::Published { topic, .. } if topic.as_str() == "left" => panic!("heard what was left"),
            Event::Published { topic, parts, .. } if topic.as_str() == "kept" && parts == [&b"end"[..]] => break,
            _ => {}
        }
    }
}

pub(super) async fn what_one_peer_publishes_arrives_in_order(fabric: &mut impl Fabric) {
    const MESSAGES: u32 = 10_000;
    let (mut a, b) = pair(fabric).await;
    let c = fabric.node("c", None);
    let to_c = a.connect(2, &c);
    a.subscribe("numbers");
    until_heard(&b, &mut a, "numbers").await;
    until_heard_on(&c, &mut a, "numbers", to_c).await;
    let mut next = [0; 2];
    for number in 0..MESSAGES {
        b.publish("numbers", &[&number.to_be_bytes()]);
        c.publish("numbers", &[&number.to_be_bytes()]);
        if number % 1_000 == 999 {
            while next.iter().any(|n| *n <= number) {
                let event = a.event().await;
                let Event::Published { link, parts, .. } = event else { panic!("unexpected {event:?}") };
                if let Ok(number) = <[u8; 4]>::try_from(&parts[0][..]) {
                    let next = &mut next[usize::from(link == to_c)];
                    assert_eq!(u32::from_be_bytes(number), *next, "on {link:?}");
                    *next += 1;
                }
            }
        }
    }
}

async fn until_heard_on(from: &Node, to: &mut Node, topic: &str, on: LinkId) {
    loop {
        from.publish(topic, &[b"ready?"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Ok(event) = to.transport.events.try_recv() {
            if matches!(event, Event::Published { link, .. } if link == on) {
                return;
            }
        }
    }
}

pub(super) async fn answers_find_their_way_back(fabric: &mut impl Fabric) {
    let (mut a, mut b) = pair(fabric).await;
    let mut c = fabric.node("c", None);
    let from_c = c.connect(7, &b);
    for round in 0..200 {
        a.send(LinkId(1), format!("a{round}"));
        c.send(from_c, format!("c{round}"));
    }
    // The answers go out the other way round, so that order cannot be what finds the way.
    let mut asked = Vec::new();
    while asked.len() < 400 {
        asked.push(b.request().await);
    }
    for (route, message) in asked.into_iter().rev() {
        b.answer(route, [&b"re "[..], &message].concat());
    }
    for round in (0..200).rev() {
        assert_eq!(a.answered().await, format!("re a{round}"));
        assert_eq!(c.answered().await, format!("re c{round}"));
    }
}

pub(super) async fn messages_of_any_allowed_size_arrive_and_larger_ones_are_refused(fabric: &mut impl Fabric) {
    let (mut a, mut b) = pair(fabric).await;
    a.subscribe("big");
    until_heard(&b, &mut a, "big").await;
    let half = Bytes::from(vec![7; MESSAGE_BYTES / 2]);
    let whole = Bytes::from(vec![8; MESSAGE_BYTES]);
    let over = Bytes::from(vec![9; MESSAGE_BYTES + 1]);
    for parts in [vec![half.clone(), half.clone()], vec![half.clone(), half.clone(), over.slice(..1)]] {
        b.command(Command::Publish { topic: Topic::new("big"), parts });
    }
    let many = vec![over.slice(..3); super::MESSAGE_PARTS];
    b.command(Command::Publish { topic: Topic::new("big"), parts: many.clone() });
    assert_eq!(next_published(&mut a, "big").await, [half.clone(), half]);
    assert_eq!(next_published(&mut a, "big").await, many);

    for message in [over.clone(), whole.clone()] {
        a.send(LinkId(1), message);
    }
    let (route, message) = b.request().await;
    assert_eq!(message, whole);
    for message in [over, whole.clone()] {
        b.answer(route.clone(), message);
    }
    assert_eq!(a.answered().await, whole);
    assert_eq!((a.count(|c| &c.refused), b.count(|c| &c.refused)), (1, 2));
}

pub(super) async fn a_peer_that_was_killed_comes_back_on_the_same_endpoints(fabric: &mut impl Fabric) {
    let (mut a, mut b) = pair(fabric).await;
    let c = fabric.node("c", None);
    a.connect(2, &c);
    a.subscribe("news");
    until_heard(&b, &mut a, "news").await;
    a.send(LinkId(1), "hello");
    b.request().await;
    for life in 0..3 {
        b.tasks.stop();
        a.until(|event| matches!(event, Event::Broken { link: LinkId(1) }).then_some(())).await;
        let on = b.transport.endpoints.clone();
        drop(b);
        // The others go on meanwhile.
        until_heard_on(&c, &mut a, "news", LinkId(2)).await;
        b = fabric.node("b", Some(&on));

        let hello = Bytes::from(format!("hello {life}"));
        let mut lost = false;
        let mut heard = false;
        let mut asked = false;
        while !(heard && asked) {
            a.send(LinkId(1), hello.clone());
            b.publish("news", &[b"ready?"]);
            tokio::time::sleep(Duration::from_millis(5)).await;
            while let Ok(event) = a.transport.events.try_recv() {
                match event {
                    Event::Lost { link: LinkId(1) } => lost = true,
                    Event::Published { link: LinkId(1), .. } => {
                        assert!(lost, "a loss is told before messages flow again");
                        heard = true;
                    }
                    _ => {}
                }
            }
            while let Ok(event) = b.transport.events.try_recv() {
                asked |= matches!(&event, Event::Requested { message, .. } if *message == hello);
            }
        }
    }
}

pub(super) async fn a_peer_that_is_not_there_delays_nobody(fabric: &mut impl Fabric) {
    let (mut a, mut b) = pair(fabric).await;
    let gone = fabric.node("gone", None);
    let endpoints = gone.transport.endpoints.clone();
    gone.tasks.stop();
    drop(gone);
    let link = LinkId(9);
    a.command(Command::Connect { link, to: endpoints.clone() });
    a.send(LinkId(1), "ping");
    let (route, _) = b.request().await;
    b.answer(route, "pong");
    assert_eq!(a.answered().await, "pong");
    a.until(|event| matches!(event, Event::Broken { link: l } if l == link).then_some(())).await;

    let mut gone = fabric.node("gone", Some(&endpoints));
    let sending = async {
        loop {
            a.send(link, "at last");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        biased;
        (_, message) = gone.request() => assert_eq!(message, "at last"),
        () = sending => {}
    }
}

pub(super) async fn a_closed_link_is_silent(fabric: &mut impl Fabric) {
    let (mut a, b) = pair(fabric).await;
    let c = fabric.node("c", None);
    let to_c = a.connect(2, &c);
    a.subscribe("news");
    until_heard(&b, &mut a, "news").await;
    until_heard_on(&c, &mut a, "news", to_c).await;
    a.command(Command::Disconnect { link: LinkId(1) });
    a.send(LinkId(1), "nobody");
    // Once the driver has counted that, it has taken the command before it.
    while a.count(|counters| &counters.dropped) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while a.transport.events.try_recv().is_ok() {}
    for _ in 0..50 {
        b.publish("news", &[b"no"]);
        c.publish("news", &[b"yes"]);
    }
    for _ in 0..50 {
        let event = a.event().await;
        assert!(matches!(event, Event::Published { link, .. } if link == to_c), "unexpected {event:?}");
    }
}

pub(super) async fn a_hub_that_does_not_listen_loses_nothing_unsaid(fabric: &mut impl Fabric) {
    const MESSAGES: u32 = 120_000;
    let (mut a, b) = pair(fabric).await;
    let mut c = fabric.node("c", None);
    c.connect(1, &b);
    a.subscribe("flood");
    c.subscribe("flood");
    until_heard(&b, &mut a, "flood").await;
    until_heard(&b, &mut c, "flood").await;
    // Nobody reads a's events; c's are read, and must not suffer.
    let body = [5; 1_000];
    for number in 0..MESSAGES {
        b.publish("flood", &[&number.to_be_bytes(), &body]);
        if number % 1_000 == 999 {
            loop {
                let event = c.event().await;
                let Event::Published { parts, .. } = event else { panic!("c lost something: {event:?}") };
                if parts[0][..] == number.to_be_bytes() {
                    break;
                }
            }
        }
    }
    let mut next = 0;
    let mut lost = false;
    while next < MESSAGES {
        let wake = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            b.publish("flood", &[&MESSAGES.to_be_bytes()]);
        };
        let event = tokio::select! {
            biased;
            event = a.event() => event,
            () = wake => continue,
        };
        match event {
            Event::Lost { .. } => lost = true,
            Event::Published { parts, .. } => {
                let Ok(number) = <[u8; 4]>::try_from(&parts[0][..]) else { continue };
                let number = u32::from_be_bytes(number);
                assert!(number == next || (lost && number > next), "{number} came unannounced, after {next}");
                lost = false;
                next = number + 1;
            }
            _ => {}
        }
    }
}

pub(super) async fn what_makes_no_sense_is_counted_and_harms_nobody(fabric: &mut impl Fabric) {
    let (mut a, mut b) = pair(fabric).await;
    a.send(LinkId(99), "nobody");
    for route in [&b""[..], b"nobody", &[0; 8], &[1; 300]] {
        a.answer(Route(Bytes::from_static(route)), "nobody");
    }
    a.command(Command::Disconnect { link: LinkId(98) });
    a.command(Command::Unsubscribe(Topic::new("never")));
    for (number, odd) in
        ["", "tcp://", "tcp://nowhere", "ipc://x", "tcp://127.0.0.1:99999", "mem://"].iter().enumerate()
    {
        let link = LinkId(50 + number as u64);
        a.command(Command::Connect { link, to: Endpoints { publish: odd.to_string(), request: odd.to_string() } });
        a.until(|event| matches!(event, Event::Broken { link: l } if l == link).then_some(())).await;
    }
    a.send(LinkId(1), "ping");
    assert_eq!(b.request().await.1, "ping");
    while a.count(|c| &c.dropped) < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Makes the whole suite into tests of a driver. `$fabric` is an expression that makes a [`Fabric`].
macro_rules! conformance {
    ($fabric:expr) => {
        conformance!($fabric =>
            subscribers_get_what_they_asked_for_and_nothing_else,
            who_unsubscribes_hears_no_more,
            what_one_peer_publishes_arrives_in_order,
            answers_find_their_way_back,
            messages_of_any_allowed_size_arrive_and_larger_ones_are_refused,
            a_peer_that_was_killed_comes_back_on_the_same_endpoints,
            a_peer_that_is_not_there_delays_nobody,
            a_closed_link_is_silent,
            a_hub_that_does_not_listen_loses_nothing_unsaid,
            what_makes_no_sense_is_counted_and_harms_nobody,
        );
    };
    ($fabric:expr => $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::transport::conformance::$name(&mut $fabric).await;
            }
        )*
    };
}
pub(super) use conformance;
