//! Links: found, cut one way, restarted, frozen, left; and both ends agree.

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::directory::memory::Cut;
use crate::directory::{self, Change, Changed, Entry, Guard, LeaseId, Revision, WatchEvent};
use crate::transport::Topic;
use crate::transport::memory::Fault;

#[tokio::test(start_paused = true)]
async fn two_nodes_find_each_other() {
    let place = Place::new(1);
    let (mut one, mut two) = place.pair().await;
    one.until_told("up zoo-2/2").await;
    two.until_told("up zoo-1/1").await;
    let view = one.mesh.view();
    assert!(view.registered && view.peers.len() == 1 && view.peers[0].reason.is_none(), "{view:?}");
    until("they agree", || one.mesh.view().peers[0].agrees && two.mesh.view().peers[0].agrees).await;
    let text = serde_json::to_string(&one.mesh.view()).unwrap();
    assert!(serde_json::from_str::<MeshView>(&text).is_ok());
}

#[tokio::test(start_paused = true)]
async fn clocks_are_compared() {
    let place = Place::new(1);
    place.network.set_default_fault(Fault::delay(3, 0));
    let mut one = place.node("zoo-1", 1);
    sleep(Duration::from_millis(5_000)).await;
    let two = place.node("zoo-2", 2);
    let peer = loop {
        if let Event::PeerUp(peer) = one.inbox.events.recv().await.unwrap() {
            break peer;
        }
    };
    assert!((4_999..=5_001).contains(&peer.clock_offset_ms), "known from the first moment: {peer:?}");
    let offset = |of: &Node, to: &NodeId| of.mesh.peers().get(to).map(|p| (p.clock_offset_ms, p.rtt_us / 1000));
    // What is added to the clock of the later one is what it missed.
    until("offsets are known", || {
        offset(&one, &two.id).is_some_and(|(ms, rtt)| (4_999..=5_001).contains(&ms) && (6..=8).contains(&rtt))
            && offset(&two, &one.id).is_some_and(|(ms, _)| (-5_001..=-4_999).contains(&ms))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_link_cut_one_way_is_suspect_at_both_ends_and_heals() {
    for (from, to) in [("zoo-1", "zoo-2"), ("zoo-2", "zoo-1")] {
        let place = Place::new(1);
        let (mut one, mut two) = place.pair().await;
        place.network.set_fault(from, to, Fault::CUT);
        one.until_told("down zoo-2/2 Cut").await;
        two.until_told("down zoo-1/1 Cut").await;
        assert_eq!(one.state(&two.id), Some(PeerState::Suspect));
        assert_eq!(two.state(&one.id), Some(PeerState::Suspect));
        assert!(one.mesh.view().peers[0].reason.is_some());
        let refused = one.mesh.call(&two.id, &super::calls::READ, Bytes::new()).await;
        assert!(matches!(refused, Err(CallError::NotUp { .. })), "it is given no new work: {refused:?}");
        sleep(Duration::from_secs(60)).await;
        for node in [&mut one, &mut two] {
            assert!(!node.told().iter().any(|told| told.starts_with("gone")), "the directory decides death, no link");
            assert_eq!(
                node.seen.iter().filter(|told| told.starts_with("up")).count(),
                1,
                "no flapping: {:?}",
                node.seen
            );
        }
        place.network.heal();
        let healed = Instant::now();
        one.until_up(&two).await;
        two.until_up(&one).await;
        assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
        one.until_told("lost 2").await;
        two.until_told("lost 1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_is_first_gone_and_then_up_with_its_new_life() {
    let place = Place::new(1);
    let (mut one, two) = place.pair().await;
    one.until_told("up zoo-2/2").await;
    two.tasks.stop();
    let again = place.node("zoo-2", 22);
    one.until_up(&again).await;
    again.until_up(&one).await;
    one.until_told("up zoo-2/22").await;
    let told: Vec<&str> = one.seen.iter().map(String::as_str).filter(|told| told.contains("zoo-2")).collect();
    let gone = ["up zoo-2/2", "down zoo-2/2 Cut", "gone zoo-2/2", "up zoo-2/22"];
    assert_eq!(told, gone);
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_down_at_once_and_gone_when_its_lease_ends() {
    let place = Place::new(1);
    let (mut one, two) = place.pair().await;
    let killed = Instant::now();
    two.tasks.stop();
    one.until_told("down zoo-2/2 Cut").await;
    assert!(killed.elapsed() < Duration::from_secs(1));
    one.until_told("gone zoo-2/2").await;
    assert!(killed.elapsed() < Duration::from_secs(7), "{:?}", killed.elapsed());
    assert_eq!(one.state(&two.id), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_loses_the_directory_is_gone_and_comes_back_in_the_same_life() {
    let place = Place::new(1);
    let client = place.directory.client();
    let mut one = place.node("zoo-1", 1);
    let mut two = place.node_with(config("zoo-2", 2), Arc::new(client.clone()));
    one.until_up(&two).await;
    client.cut(Cut::Refused);
    two.until_told("own lease lost").await;
    assert!(!two.mesh.lease().holds());
    one.until_told("gone zoo-2/2").await;
    until("the view shows it", || two.mesh.view().directory_down.is_some() && !two.mesh.view().registered).await;
    client.heal();
    one.until_up(&two).await;
    two.until_up(&one).await;
    until("the view shows that too", || two.mesh.view().directory_down.is_none() && two.mesh.view().registered).await;
    let told: Vec<&str> = one.told().iter().map(String::as_str).filter(|told| told.contains("zoo-2")).collect();
    assert_eq!(told, ["up zoo-2/2", "down zoo-2/2 Gone", "gone zoo-2/2", "up zoo-2/2"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_node_of_the_same_name_is_told_so() {
    let place = Place::new(1);
    let (mut one, two) = place.pair().await;
    let mut thief = config("zoo-2", 22);
    (thief.record.publish, thief.record.request) = ("mem://thief/publish".into(), "mem://thief/request".into());
    let tasks = Tasks::simulated();
    let transport = place.network.transport("thief", &tasks);
    let (mesh, inbox) = start(thief, transport, Arc::new(place.directory.client()), &tasks);
    let mut thief = Node { id: id("zoo-2"), tasks, mesh, inbox, seen: Vec::new() };
    thief.until_told("name taken by 2").await;
    assert!(!one.told().iter().any(|told| told.contains("gone")));
    assert_eq!(one.state(&two.id), Some(PeerState::Up));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_is_gone_at_once() {
    let place = Place::new(1);
    let (mut one, two) = place.pair().await;
    let left = Instant::now();
    two.mesh.leave().await;
    one.until_told("gone zoo-2/2").await;
    assert!(left.elapsed() < Duration::from_secs(1));
    let refused = two.mesh.call(&one.id, &super::calls::READ, Bytes::new()).await;
    assert_eq!(refused, Err(CallError::Stopped));
    two.mesh.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_is_suspect_and_up_again_after_it_thaws() {
    let place = Place::new(1);
    let (mut one, mut two) = place.pair().await;
    one.told();
    two.tasks.freeze(true);
    one.until_told("down zoo-2/2 Cut").await;
    sleep(Duration::from_millis(500)).await;
    two.tasks.freeze(false);
    one.until_up(&two).await;
    two.until_up(&one).await;
    assert!(!two.told().iter().any(|told| told.starts_with("down zoo-1/1 Gone")), "{:?}", two.seen);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_slept_does_not_suspect_the_others_for_it() {
    let place = Place::new(1);
    let (mut one, mut two) = place.pair().await;
    one.told();
    two.told();
    two.tasks.freeze(true);
    sleep(Duration::from_millis(3_600)).await;
    two.tasks.freeze(false);
    one.until_up(&two).await;
    sleep(Duration::from_secs(1)).await;
    let downs = two.told().iter().filter(|told| told.starts_with("down")).count();
    assert_eq!(downs, 0, "{:?}", two.seen);
}

/// A directory whose watch can go deaf: it tells nothing and does not end.
struct Deaf(MemoryClient);

#[async_trait]
impl Directory for Deaf {
    async fn grant(&self, ttl_s: u32) -> directory::Result<LeaseId> {
        self.0.grant(ttl_s).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> directory::Result<()> {
        self.0.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> directory::Result<()> {
        self.0.revoke(lease).await
    }
    async fn get(&self, key: &str) -> directory::Result<Option<Entry>> {
        self.0.get(key).await
    }
    async fn list(&self, prefix: &str) -> directory::Result<(Vec<Entry>, Revision)> {
        self.0.list(prefix).await
    }
    async fn put(&self, key: &str, value: &[u8], lease: Option<LeaseId>) -> directory::Result<Revision> {
        self.0.put(key, value, lease).await
    }
    async fn swap(
        &self,
        key: &str,
        expected: Revision,
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> directory::Result<Option<Revision>> {
        self.0.swap(key, expected, value, lease).await
    }
    async fn delete(&self, key: &str, expected: Option<Revision>) -> directory::Result<bool> {
        self.0.delete(key, expected).await
    }
    async fn change(&self, guard: Option<Guard<'_>>, changes: &[Change]) -> directory::Result<Option<Changed>> {
        self.0.change(guard, changes).await
    }
    async fn watch(&self, _: &str, _: Revision) -> directory::Result<mpsc::Receiver<WatchEvent>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move { sender.closed().await });
        Ok(receiver)
    }
    async fn describe(&self) -> directory::Result<String> {
        self.0.describe().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_watch_went_deaf_learns_of_others_by_their_greetings() {
    let place = Place::new(1);
    let deaf = place.node_with(config("zoo-1", 1), Arc::new(Deaf(place.directory.client())));
    until("registered", || deaf.mesh.view().registered).await;
    sleep(Duration::from_secs(1)).await;
    let joined = Instant::now();
    let two = place.node("zoo-2", 2);
    two.until_up(&deaf).await;
    deaf.until_up(&two).await;
    assert!(joined.elapsed() < Duration::from_secs(2), "long before the regular comparison: {:?}", joined.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_others_hear_and_one_does_not_is_named_in_the_view() {
    let place = Place::new(1);
    let (one, two) = place.pair().await;
    let three = place.node("zoo-3", 3);
    for node in [&one, &two] {
        node.until_up(&three).await;
    }
    place.network.set_fault("zoo-1", "zoo-2", Fault::CUT);
    place.network.set_fault("zoo-2", "zoo-1", Fault::CUT);
    let misses = |of: &NodeId| {
        let view = three.mesh.view();
        view.peers.into_iter().find(|peer| peer.node == *of).map(|peer| (peer.agrees, peer.misses))
    };
    until("the third sees who does not hear whom", || {
        misses(&one.id) == Some((false, vec![two.id.clone()])) && misses(&two.id) == Some((false, vec![one.id.clone()]))
    })
    .await;
    place.network.heal();
    until("they agree again", || [&one.id, &two.id].iter().all(|node| misses(node) == Some((true, vec![])))).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_says_of_its_load_reaches_the_others() {
    let place = Place::new(1);
    let (one, two) = place.pair().await;
    one.mesh.set_load(Bytes::from_static(b"busy"));
    until("the load is known", || two.mesh.peers().get(&one.id).is_some_and(|p| p.load == b"busy"[..])).await;
}

#[tokio::test(start_paused = true)]
async fn frames_reach_those_who_subscribed_and_nobody_else() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    two.mesh.subscribe(Topic::new("a1"));
    two.mesh.subscribe(Topic::new("a2"));
    two.mesh.unsubscribe(Topic::new("a2"));
    sleep(Duration::from_millis(50)).await;
    for topic in ["a1", "a2", "a3"] {
        one.mesh.publish(Topic::new(topic), vec![Bytes::from_static(b"frame")]);
    }
    two.until_told("frames 1 a1").await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(two.told().iter().filter(|told| told.starts_with("frames")).count(), 1);
}
