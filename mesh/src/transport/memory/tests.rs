//! The suite on the network in memory, and what only this driver promises: faults, freezing, repeatable runs.

use tokio::time::Duration;

use super::*;
use crate::transport::Event;
use crate::transport::conformance::{Fabric, Node, conformance, until_heard};

struct InMemory(MemoryNetwork);

impl Fabric for InMemory {
    fn node(&mut self, name: &str, _on: Option<&Endpoints>) -> Node {
        let tasks = Tasks::simulated();
        Node { transport: self.0.transport(name, &tasks), tasks }
    }
}

conformance!(InMemory(MemoryNetwork::new(1)));

/// Two nodes, each connected to the other, that hear each other's `news`.
async fn pair(network: &MemoryNetwork) -> (Node, Node) {
    let mut fabric = InMemory(network.clone());
    let (mut a, mut b) = (fabric.node("a", None), fabric.node("b", None));
    a.connect(1, &b);
    b.connect(1, &a);
    a.subscribe("news");
    b.subscribe("news");
    until_heard(&b, &mut a, "news").await;
    until_heard(&a, &mut b, "news").await;
    (a, b)
}

fn drain(node: &mut Node) -> Vec<Event> {
    std::iter::from_fn(|| node.transport.events.try_recv().ok()).collect()
}

async fn settle(node: &mut Node, ms: u64) -> Vec<Event> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    drain(node)
}

fn numbers(events: &[Event]) -> Vec<u32> {
    let number = |event: &Event| match event {
        Event::Published { parts, .. } => Some(u32::from_be_bytes(parts[0][..].try_into().ok()?)),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

#[tokio::test(start_paused = true)]
async fn delayed_messages_arrive_in_their_time_and_in_order() {
    let network = MemoryNetwork::new(3);
    let (mut a, b) = pair(&network).await;
    network.set_fault("b", "a", Fault::delay(100, 500));
    for number in 0..200_u32 {
        b.publish("news", &[&number.to_be_bytes()]);
    }
    assert_eq!(settle(&mut a, 99).await.len(), 0);
    let mut got = numbers(&settle(&mut a, 300).await);
    // What comes without delay still does not overtake what is under way.
    network.heal();
    b.publish("news", &[&200_u32.to_be_bytes()]);
    got.extend(numbers(&settle(&mut a, 600).await));
    assert_eq!(got, (0..=200).collect::<Vec<u32>>());
}

#[tokio::test(start_paused = true)]
async fn different_senders_overtake_one_another() {
    let network = MemoryNetwork::new(3);
    let (mut a, b) = pair(&network).await;
    let mut fabric = InMemory(network.clone());
    let c = fabric.node("c", None);
    a.connect(2, &c);
    until_heard(&c, &mut a, "news").await;
    network.set_default_fault(Fault::delay(0, 100));
    let mut overtaken = false;
    for _ in 0..20 {
        b.publish("news", &[&1_u32.to_be_bytes()]);
        settle(&mut a, 0).await;
        c.publish("news", &[&2_u32.to_be_bytes()]);
        overtaken |= numbers(&settle(&mut a, 200).await) == [2, 1];
    }
    assert!(overtaken);
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_one_way_loses_messages_and_says_so() {
    let network = MemoryNetwork::new(3);
    let (mut a, mut b) = pair(&network).await;
    network.set_fault("b", "a", Fault::CUT);
    b.publish("news", &[&1_u32.to_be_bytes()]);
    a.publish("news", &[&2_u32.to_be_bytes()]);
    assert_eq!(numbers(&settle(&mut b, 100).await), [2], "the other way is open");
    assert!(settle(&mut a, 1_000).await.is_empty());
    network.heal();
    b.publish("news", &[&3_u32.to_be_bytes()]);
    let events = settle(&mut a, 100).await;
    assert!(matches!(events[..], [Event::Lost { .. }, Event::Published { .. }]), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_cut_breaks_links_on_both_sides_and_they_come_back() {
    let network = MemoryNetwork::new(3);
    let (mut a, mut b) = pair(&network).await;
    network.set_fault("a", "b", Fault::CUT);
    for node in [&mut a, &mut b] {
        assert!(settle(node, 2_000).await.is_empty(), "nobody notices yet");
    }
    let broken = |events: &[Event]| events.iter().filter(|e| matches!(e, Event::Broken { .. })).count();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((broken(&drain(&mut a)), broken(&drain(&mut b))), (3, 3), "after 5, 8 and 11 seconds");
    // What is wanted during the cut is known when it is over.
    a.subscribe("more");
    network.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.publish("more", &[&9_u32.to_be_bytes()]);
    let events = settle(&mut a, 10).await;
    assert!(matches!(events[0], Event::Lost { .. }), "{events:?}");
    assert_eq!(numbers(&events), [9]);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_is_silent_and_then_takes_what_came_meanwhile() {
    let network = MemoryNetwork::new(3);
    let (mut a, b) = pair(&network).await;
    network.set_fault("b", "a", Fault::delay(10, 0));
    a.tasks.freeze(true);
    a.publish("news", &[b"unsaid"]);
    b.publish("news", &[&1_u32.to_be_bytes()]);
    assert!(settle(&mut a, 20_000).await.is_empty());
    a.tasks.freeze(false);
    assert_eq!(numbers(&settle(&mut a, 1).await), [1]);
}

#[tokio::test(start_paused = true)]
async fn loss_follows_the_seed() {
    let mut first = None;
    for (seed, same) in [(5, true), (5, true), (6, false)] {
        let network = MemoryNetwork::new(seed);
        let (mut a, b) = pair(&network).await;
        network.set_default_fault(Fault { loss_per_mille: 300, jitter_ms: 5, ..Fault::NONE });
        for number in 0..1_000_u32 {
            b.publish("news", &[&number.to_be_bytes()]);
        }
        let got = numbers(&settle(&mut a, 100).await);
        assert!((600..800).contains(&got.len()), "{}", got.len());
        assert_eq!(first.get_or_insert_with(|| got.clone()) == &got, same);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_life_is_announced_before_it_is_heard_even_over_a_slow_network() {
    let network = MemoryNetwork::new(3);
    let (mut a, b) = pair(&network).await;
    network.set_default_fault(Fault::delay(50, 200));
    b.publish("news", &[&6_u32.to_be_bytes()]);
    b.tasks.stop();
    let again = InMemory(network.clone()).node("b", None);
    let mut events = Vec::new();
    for _ in 0..100 {
        again.publish("news", &[&7_u32.to_be_bytes()]);
        events.extend(settle(&mut a, 20).await);
    }
    let at = |wanted: fn(&Event) -> bool| events.iter().position(wanted).expect("it comes");
    let broken = at(|e| matches!(e, Event::Broken { .. }));
    let lost = at(|e| matches!(e, Event::Lost { .. }));
    let heard = at(|e| numbers(std::slice::from_ref(e)) == [7]);
    assert!(broken < lost && lost < heard, "{events:?}");
}
