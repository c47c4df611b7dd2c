//! What becomes of a registered node, and of what others hear of it, when things go wrong. On memory, on paused time.

use super::*;
use crate::directory::WatchEvent;
use crate::directory::memory::{Calls, Cut, Loss};
use RegistryEvent::{DirectoryBack, NodeAppeared, NodeGone, OwnLeaseBack, OwnLeaseLost};

const TTL: Duration = Duration::from_secs(LEASE_TTL_S as u64);

/// When others may at the earliest take over what a node owns: its key is gone.
async fn key_gone_at(world: &World, key: String) -> Instant {
    let client = world.directory.client();
    let mut events = client.watch(&key, 0).await.unwrap();
    while !matches!(events.recv().await, Some(WatchEvent::Deleted { .. })) {}
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn nodes_find_one_another_whoever_comes_first() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (mut b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    let mut seen = b.told();
    if !seen.contains(&NodeAppeared(a.record.clone())) {
        seen.extend(b.until_event(NodeAppeared(a.record.clone())).await);
    }
    assert!(!seen.contains(&NodeAppeared(b.record.clone())), "nobody is their own peer");
    assert_eq!(a.registry.known().keys().map(NodeId::as_str).collect::<Vec<_>>(), ["b"]);
    assert!(a.registry.lease().holds() && b.registry.lease().holds());
    sleep(TTL * 20).await;
    assert_eq!(a.told(), [], "nothing happens in a quiet district");
    assert!(a.registry.lease().holds());
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_gone_when_its_lease_ends() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    let killed = Instant::now();
    b.tasks.stop();
    a.until_event(NodeGone(b.record.clone())).await;
    assert!(killed.elapsed() <= TTL);
    assert!(a.registry.known().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_is_gone_at_once() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (mut b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    let left = Instant::now();
    b.registry.leave().await;
    assert!(!b.registry.lease().holds());
    a.until_event(NodeGone(b.record.clone())).await;
    assert_eq!(left.elapsed(), Duration::ZERO);
    assert!(b.told().contains(&OwnLeaseLost));
    sleep(TTL * 3).await;
    world.until_stands(&[&a.record]).await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_knows_at_once_on_waking_that_it_may_not_act() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (mut b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    b.told();
    b.tasks.freeze(true);
    a.until_event(NodeGone(b.record.clone())).await;
    sleep(TTL).await;
    assert!(!b.registry.lease().holds(), "without any task of the node having run");
    b.tasks.freeze(false);
    assert_eq!(
        b.until(|event| matches!(event, OwnLeaseBack { .. })).await,
        [OwnLeaseLost, OwnLeaseBack { was_gone: true }]
    );
    assert!(b.registry.lease().holds());
    a.until_event(NodeAppeared(b.record.clone())).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_frozen_within_its_lease_goes_on_as_if_nothing_was() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (mut b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    b.told();
    b.tasks.freeze(true);
    sleep(Duration::from_millis(2200)).await;
    b.tasks.freeze(false);
    sleep(TTL * 3).await;
    assert_eq!(a.told(), []);
    assert_eq!(b.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_node_stops_acting_before_others_may_take_over() {
    for cut in [Cut::Silent, Cut::Refused] {
        // Whenever in the life of the lease the cut comes.
        for wait_ms in (0..5000).step_by(170) {
            let world = World::new();
            let (mut a, client) = world.node("a", 1).await;
            sleep(Duration::from_millis(wait_ms)).await;
            let key = config(a.record.clone()).district.key(&a.record);
            client.cut(cut);
            let gone = tokio::spawn(async move { key_gone_at(&world, key).await });
            a.until_event(OwnLeaseLost).await;
            let lost = Instant::now();
            assert!(!a.registry.lease().holds());
            let gone = gone.await.unwrap();
            assert!(lost + Duration::from_millis(500) < gone, "{cut:?} after {wait_ms} ms: {:?}", gone - lost);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn late_replies_do_not_lengthen_a_lease() {
    const LATE_MS: u64 = 1200;
    // First the cut comes right after the registration, then anywhere in the renewals.
    for wait_ms in (0..5000).step_by(170) {
        let world = World::new();
        let client = world.directory.client();
        client.delay_replies(LATE_MS);
        let mut a = Node::up(Arc::new(client.clone()), record("a", 1)).await;
        sleep(Duration::from_millis(wait_ms)).await;
        let told = a.told();
        assert!(!told.contains(&OwnLeaseLost), "late is not too late: {told:?} within {wait_ms} ms");
        let key = config(a.record.clone()).district.key(&a.record);
        client.cut(Cut::Refused);
        let gone = tokio::spawn(async move { key_gone_at(&world, key).await });
        a.until_event(OwnLeaseLost).await;
        let lost = Instant::now();
        assert!(!a.registry.lease().holds());
        let gone = gone.await.unwrap();
        assert!(lost + Duration::from_millis(500) < gone, "after {wait_ms} ms: {lost:?}, {gone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_node_kills_nobody_and_catches_up_afterwards() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    let (b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    client.cut(Cut::Silent);
    let told = a.until(|event| matches!(event, RegistryEvent::DirectoryDown { .. })).await;
    assert!(!told.contains(&NodeGone(b.record.clone())));
    let (c, _) = world.node("c", 3).await;
    b.tasks.stop();
    sleep(TTL * 10).await;
    assert!(!a.told().contains(&NodeGone(b.record.clone())), "only the directory says who is dead");
    client.heal();
    let mut told = a.until(|event| matches!(event, OwnLeaseBack { was_gone: true })).await;
    if !a.registry.known().contains_key(&c.record.node) {
        told.extend(a.until_event(NodeAppeared(c.record.clone())).await);
    }
    told.extend(a.until_event(DirectoryBack).await);
    for event in [NodeGone(b.record.clone()), NodeAppeared(c.record.clone())] {
        assert!(told.contains(&event), "{event:?} is missing in {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_costs_nothing() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    let (mut b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    b.told();
    for _ in 0..20 {
        client.cut(Cut::Refused);
        sleep(Duration::from_millis(1500)).await;
        client.heal();
        sleep(TTL).await;
    }
    assert!(b.told().is_empty());
    let told = a.told();
    assert!(!told.contains(&OwnLeaseLost), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_registration_is_adopted() {
    for (loss, calls) in [
        (Loss::Reply, Calls::Writes),
        (Loss::Request, Calls::Writes),
        (Loss::Reply, Calls::Leases),
        (Loss::Request, Calls::Leases),
        (Loss::Reply, Calls::Reads),
    ] {
        let world = World::new();
        let client = world.directory.client();
        client.lose_next(calls, loss, 1);
        let mut a = Node::start(Arc::new(client), record("a", 1));
        a.until(|event| matches!(event, OwnLeaseBack { was_gone: false })).await;
        world.until_stands(&[&a.record]).await;
        sleep(TTL * 4).await;
        world.until_stands(&[&a.record]).await;
        assert!(!a.told().contains(&OwnLeaseLost), "{loss:?} of {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_before_its_time_is_noticed_and_replaced() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (mut b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    let lease = world.directory.peek(&config(b.record.clone()).district.key(&b.record))[0].lease.unwrap();
    let lost = Instant::now();
    assert!(world.directory.lose_lease(lease));
    b.until_event(OwnLeaseLost).await;
    b.until_event(OwnLeaseBack { was_gone: true }).await;
    assert!(lost.elapsed() < Duration::from_secs(1), "the watch tells, not the next renewal");
    a.until_event(NodeGone(b.record.clone())).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_or_overwritten_record_is_written_again() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let key = config(a.record.clone()).district.key(&a.record);
    let operator = world.directory.client();
    operator.delete(&key, None).await.unwrap();
    a.until_event(OwnLeaseBack { was_gone: true }).await;
    world.until_stands(&[&a.record]).await;
    operator.put(&key, b"oops", None).await.unwrap();
    a.until_event(OwnLeaseBack { was_gone: true }).await;
    world.until_stands(&[&a.record]).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_loses_no_node() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    for round in 0..20u64 {
        let (b, _) = world.node("b", 10 + round).await;
        a.until_event(NodeAppeared(b.record.clone())).await;
        match round % 3 {
            0 => world.directory.compact(),
            1 => client.end_watches("cancelled"),
            _ => world.directory.end_watches(),
        }
        world.directory.compact();
        client.end_watches("compacted");
        b.tasks.stop();
        a.until_event(NodeGone(b.record.clone())).await;
    }
    assert!(!a.told().contains(&OwnLeaseLost));
}

#[tokio::test(start_paused = true)]
async fn a_comparison_finds_what_a_silent_watch_did_not_tell() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    // The watch is made deaf without anybody telling: events take an hour, calls nothing.
    client.delay(3_600_000, 3_600_000);
    let (b, _) = world.node("b", 2).await;
    client.delay(0, 0);
    a.until_event(NodeAppeared(b.record.clone())).await;
    let (c, _) = world.node("c", 3).await;
    a.until_event(NodeAppeared(c.record.clone())).await;
}

#[tokio::test(start_paused = true)]
async fn bad_records_are_passed_over() {
    let world = World::new();
    let operator = world.directory.client();
    let prefix = District::new("test", "north").prefix().to_owned();
    for (key, value) in [("x", "{}"), ("frontend/x", "\u{0}"), ("frontend/y/z", "[1]"), ("", ""), ("frontend/a", "{")] {
        operator.put(&format!("{prefix}{key}"), value.as_bytes(), None).await.unwrap();
    }
    let (mut a, _) = world.node("a", 1).await;
    let (b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    assert_eq!(a.registry.known().len(), 1);
    assert_eq!(read(&operator, &District::new("test", "north")).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_greeted_by_a_stranger_reads_who_it_is() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    a.until_event(RegistryEvent::Listed).await;
    client.delay(40, 40);
    let (b, _) = world.node("b", 2).await;
    let nodes = a.registry.read_now().await.unwrap();
    assert_eq!(nodes.keys().map(NodeId::as_str).collect::<Vec<_>>(), ["b"]);
    a.until_event(NodeAppeared(b.record.clone())).await;
    sleep(TTL).await;
    assert_eq!(a.told(), [], "told once, though read and watched");
    client.cut(Cut::Refused);
    assert!(a.registry.read_now().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_for_a_greeting_is_told_to_all() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    // The watch is deaf, as in the test of the comparison.
    client.delay(3_600_000, 3_600_000);
    let (b, _) = world.node("b", 2).await;
    client.delay(0, 0);
    let read = Instant::now();
    assert_eq!(a.registry.read_now().await.unwrap().len(), 1);
    a.until_event(NodeAppeared(b.record.clone())).await;
    assert!(read.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_comes_late_takes_nothing_back() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    client.delay_replies(1000);
    let registry = a.registry.clone();
    let reading = tokio::spawn(async move { registry.read_now().await.unwrap() });
    sleep(Duration::from_millis(10)).await;
    let (b, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    assert!(reading.await.unwrap().is_empty(), "it was read before there was anybody");
    sleep(TTL).await;
    assert_eq!(a.told(), []);
    assert_eq!(a.registry.known().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_back_within_its_lease_looks_whether_its_key_stands_before_it_acts() {
    let world = World::new();
    let (mut a, client) = world.node("a", 1).await;
    client.cut(Cut::Refused);
    a.until_event(OwnLeaseLost).await;
    // The lease lives on for its margin; the key does not.
    let key = config(a.record.clone()).district.key(&a.record);
    assert!(world.directory.client().delete(&key, None).await.unwrap());
    client.heal();
    a.until(|event| matches!(event, OwnLeaseBack { .. })).await;
    assert_eq!(world.directory.peek(&key).len(), 1, "it acts and does not stand");
}

#[tokio::test(start_paused = true)]
async fn many_readers_at_once_share_a_reading() {
    let world = World::new();
    let (a, client) = world.node("a", 1).await;
    client.delay(100, 100);
    let began = Instant::now();
    let readers = (0..100).map(|_| {
        let registry = a.registry.clone();
        tokio::spawn(async move { registry.read_now().await.map(|nodes| nodes.len()) })
    });
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.unwrap().unwrap(), 0);
    }
    assert!(began.elapsed() <= Duration::from_millis(400), "two readings, not a hundred: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_does_not_stop_renewals() {
    let world = World::new();
    let (a, _) = world.node("a", 1).await;
    for round in 0..(EVENTS as u64) {
        let (b, _) = world.node("b", 10 + round).await;
        b.registry.leave().await;
    }
    sleep(TTL * 5).await;
    assert!(a.registry.lease().holds());
    world.until_stands(&[&a.record]).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_and_lossy_directory_is_lived_with_and_healed_from() {
    let world = World::new();
    let mut nodes = Vec::new();
    for number in 1..=8u64 {
        let client = world.directory.client();
        client.delay(0, 150);
        client.lose_by_chance(30, 30);
        nodes.push((Node::up(Arc::new(client.clone()), record(&format!("n{number}"), number)).await, client));
    }
    sleep(Duration::from_secs(300)).await;
    for (_, client) in &nodes {
        client.delay(0, 0);
        client.lose_by_chance(0, 0);
    }
    sleep(Duration::from_secs(60)).await;
    for (node, _) in &mut nodes {
        assert!(node.registry.lease().holds(), "{}", node.record.node);
        assert_eq!(node.registry.known().len(), 7, "{}", node.record.node);
        // What was told adds up to what is known.
        let mut there = Nodes::new();
        let mut acting = true;
        for event in node.told() {
            match event {
                NodeAppeared(record) => assert!(there.insert(record.node.clone(), record).is_none()),
                NodeGone(record) => assert_eq!(there.remove(&record.node), Some(record)),
                OwnLeaseLost => assert!(std::mem::replace(&mut acting, false)),
                OwnLeaseBack { .. } => assert!(!std::mem::replace(&mut acting, true)),
                _ => {}
            }
        }
        assert!(acting);
        for (name, record) in node.registry.known().iter() {
            assert!(there.get(name).is_none_or(|told| told == record));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    async fn run() -> Vec<String> {
        let world = World::new();
        let began = Instant::now();
        let mut log = Vec::new();
        let client = world.directory.client();
        client.delay(0, 200);
        client.lose_by_chance(50, 50);
        let mut a = Node::start(Arc::new(client), record("a", 1));
        for number in 2..6u64 {
            let (b, other) = world.node("b", number).await;
            other.delay(0, 300);
            sleep(Duration::from_secs(7)).await;
            b.tasks.stop();
            sleep(Duration::from_secs(9)).await;
            log.extend(a.told().iter().map(|event| format!("{:?} {event:?}", began.elapsed())));
        }
        log
    }
    let first = run().await;
    assert!(first.len() > 5, "{first:?}");
    assert_eq!(first, run().await);
}
