//! Who gets a name: restarts, twins, and lives that overlap. On memory, on paused time.

use super::*;
use RegistryEvent::{NameTaken, NodeAppeared, NodeGone, OwnLeaseBack, OwnLeaseLost};

#[tokio::test(start_paused = true)]
async fn a_killed_node_that_comes_back_on_its_own_ports_is_there_at_once() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let (former, _) = world.node("b", 2).await;
    a.until_event(NodeAppeared(former.record.clone())).await;
    former.tasks.stop();
    let restarted = Instant::now();
    let record = NodeRecord { incarnation: Incarnation(3), ..former.record.clone() };
    let b = Node::up(Arc::new(world.directory.client()), record).await;
    assert!(restarted.elapsed() < Duration::from_millis(100));
    a.until_event(NodeGone(former.record.clone())).await;
    a.until_event(NodeAppeared(b.record.clone())).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(a.told(), [], "the former life's lease ends without taking the new one's key");
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_that_comes_back_on_other_ports_waits_for_its_former_lease() {
    let world = World::new();
    let (former, _) = world.node("b", 2).await;
    former.tasks.stop();
    let restarted = Instant::now();
    let (mut b, _) = world.node("b", 3).await;
    assert!(restarted.elapsed() < Duration::from_secs(6), "{:?}", restarted.elapsed());
    assert!(b.registry.registered().await.is_ok());
    world.until_stands(&[&b.record]).await;
    assert!(!b.told().iter().any(|event| matches!(event, OwnLeaseLost)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_can_come_back_at_once() {
    let world = World::new();
    let (former, _) = world.node("b", 2).await;
    former.registry.leave().await;
    let restarted = Instant::now();
    world.node("b", 3).await;
    assert_eq!(restarted.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_twin_of_a_living_node_is_refused() {
    let world = World::new();
    let (mut b, _) = world.node("b", 2).await;
    b.told();
    let mut twin = Node::start(Arc::new(world.directory.client()), record("b", 3));
    let refusal = timeout(LONG, twin.registry.registered()).await.unwrap().unwrap_err();
    assert!(refusal.to_string().contains("the name b is taken: frontend with incarnation 2"), "{refusal}");
    twin.until_event(NameTaken { by: b.record.clone() }).await;
    assert!(!twin.registry.lease().holds());
    assert_eq!(b.told(), [], "the living one does not even notice");
    assert!(b.registry.lease().holds());
}

#[tokio::test(start_paused = true)]
async fn a_twin_in_another_role_is_refused() {
    let world = World::new();
    let (mut b, _) = world.node("b", 2).await;
    b.told();
    let twin = Node::start(Arc::new(world.directory.client()), NodeRecord { role: Role::Zoo, ..record("b", 3) });
    assert!(matches!(timeout(LONG, twin.registry.registered()).await.unwrap(), Err(JoinError::NameTaken { .. })));
    assert_eq!(b.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_name_was_taken_meanwhile_gives_up_and_does_not_fight() {
    let world = World::new();
    let (mut former, _) = world.node("b", 2).await;
    former.tasks.freeze(true);
    let record = NodeRecord { incarnation: Incarnation(3), ..former.record.clone() };
    let mut b = Node::up(Arc::new(world.directory.client()), record).await;
    former.tasks.freeze(false);
    former.until_event(NameTaken { by: b.record.clone() }).await;
    assert!(!former.registry.lease().holds());
    sleep(Duration::from_secs(30)).await;
    world.until_stands(&[&b.record]).await;
    assert!(!b.told().contains(&OwnLeaseLost));
}

#[tokio::test(start_paused = true)]
async fn a_zombie_frozen_past_its_lease_finds_its_successor() {
    let world = World::new();
    let (mut former, _) = world.node("b", 2).await;
    former.tasks.freeze(true);
    let (b, _) = world.node("b", 3).await;
    former.tasks.freeze(false);
    let told = former.until_event(NameTaken { by: b.record.clone() }).await;
    assert!(told.contains(&OwnLeaseLost));
    assert!(!told.contains(&OwnLeaseBack { was_gone: true }));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_ends_with_the_last_life_registered() {
    let world = World::new();
    let (mut a, _) = world.node("a", 1).await;
    let mut last = record("b", 2);
    for incarnation in 2..12u64 {
        last = NodeRecord { incarnation: Incarnation(incarnation), ..last };
        let b = Node::start(Arc::new(world.directory.client()), last.clone());
        // Killed at another step of its registration each time.
        for _ in 0..incarnation {
            tokio::task::yield_now().await;
        }
        b.tasks.stop();
    }
    let last = NodeRecord { incarnation: Incarnation(99), ..last };
    let _b = Node::up(Arc::new(world.directory.client()), last.clone()).await;
    a.until_event(NodeAppeared(last.clone())).await;
    world.until_stands(&[&a.record, &last]).await;
}
