//! Who does not belong: wrong keys, other clusters, other versions, foreign processes and noise.

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;
use crate::membership::greeting::Refusal;
use crate::registry::District;
use crate::transport::{Command, LinkId, Topic, Transport};
use crate::wire::HEARTBEAT_TOPIC;

/// Waits until `one` shows that its greeting of the other was refused for that reason, and the other shows it too.
async fn until_refused(one: &Node, other: &Node, refusal: Refusal) {
    until(&format!("{} knows: {refusal}", one.id), || {
        let view = one.mesh.view();
        view.peers.iter().any(|peer| peer.node == other.id && peer.refusal == Some(refusal.clone()))
    })
    .await;
    let text = refusal.to_string();
    until(&format!("{} shows the stranger: {refusal}", other.id), || {
        let view = other.mesh.view();
        view.strangers.iter().any(|stranger| stranger.node == one.id.as_str() && stranger.reason == text)
    })
    .await;
    sleep(Duration::from_secs(20)).await;
    assert_ne!(one.state(&other.id), Some(PeerState::Up));
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_key_is_refused_and_both_say_so() {
    let place = Place::new(1);
    let one = place.node("zoo-1", 1);
    let other = Config { key: b"guess".to_vec(), ..config("zoo-2", 2) };
    let two = place.node_with(other, Arc::new(place.directory.client()));
    until_refused(&one, &two, Refusal::WrongKey).await;
    until_refused(&two, &one, Refusal::WrongKey).await;
    let tries = one.mesh.view().counters.greetings_refused;
    assert!((2..40).contains(&tries), "pauses grow: {tries} refusals in 40 s");
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_protocol_version_is_refused_and_both_say_so() {
    let place = Place::new(1);
    let one = place.node("zoo-1", 1);
    let mut other = config("zoo-2", 2);
    other.record.protocol = PROTOCOL_VERSION + 1;
    let two = place.node_with(other, Arc::new(place.directory.client()));
    let refused = |theirs, ours| Refusal::OtherVersion { theirs, ours };
    until_refused(&one, &two, refused(PROTOCOL_VERSION, PROTOCOL_VERSION + 1)).await;
    until_refused(&two, &one, refused(PROTOCOL_VERSION + 1, PROTOCOL_VERSION)).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_of_another_cluster_or_district_on_the_same_network_are_refused() {
    type Change = fn(&mut Config);
    let cases: [(Change, Refusal); 2] = [
        (
            |config| config.cluster = "foreign".to_owned(),
            Refusal::OtherCluster { theirs: "test".to_owned(), ours: "foreign".to_owned() },
        ),
        (
            |config| config.district = "south".to_owned(),
            Refusal::OtherDistrict { theirs: "north".to_owned(), ours: "south".to_owned() },
        ),
    ];
    for (change, refusal) in cases {
        let place = Place::new(1);
        let one = place.node("zoo-1", 1);
        let mut other = config("zoo-2", 2);
        change(&mut other);
        let two = place.node_with(other, Arc::new(place.directory.client()));
        // A record left over under our prefix leads to their address.
        let (client, planted) = (place.directory.client(), record("zoo-2", 2));
        let key = District::new("test", "north").key(&planted);
        client.put(&key, &serde_json::to_vec(&planted).unwrap(), None).await.unwrap();
        until_refused(&one, &two, refusal).await;
        assert!(two.mesh.peers().peers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_life_has_taken_over_is_no_peer() {
    let place = Place::new(1);
    let one = place.node("zoo-1", 1);
    let two = place.node("zoo-2", 2);
    one.until_up(&two).await;
    let mut planted = record("zoo-3", 3);
    (planted.publish, planted.request) = (two.mesh.me().publish.clone(), two.mesh.me().request.clone());
    let key = District::new("test", "north").key(&planted);
    place.directory.client().put(&key, &serde_json::to_vec(&planted).unwrap(), None).await.unwrap();
    let refusal = Refusal::NotMe { node: id("zoo-2"), incarnation: Incarnation(2) };
    until("the greeting is refused", || {
        let view = one.mesh.view();
        view.peers.iter().any(|peer| peer.node == id("zoo-3") && peer.refusal == Some(refusal.clone()))
    })
    .await;
    assert_eq!(one.state(&two.id), Some(PeerState::Up));
}

/// A process on the network that has no key: a bare transport.
struct Foreigner {
    transport: Transport,
    tasks: Tasks,
}

impl Foreigner {
    fn new(place: &Place, name: &str) -> Foreigner {
        let tasks = Tasks::simulated();
        Foreigner { transport: place.network.transport(name, &tasks), tasks }
    }

    fn connect(&self, to: &str) -> LinkId {
        let link = LinkId(1);
        self.transport.command(Command::Connect { link, to: endpoints(to) });
        link
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn noise_is_counted_and_hurts_nobody() {
    let place = Place::new(1);
    let (one, mut two) = place.pair().await;
    two.echo();
    let noise = Foreigner::new(&place, "noise");
    let link = noise.connect("zoo-1");
    let mut rng = StdRng::seed_from_u64(5);
    for _ in 0..3_000 {
        let mut bytes = vec![0; rng.random_range(0..6_000)];
        rng.fill_bytes(&mut bytes);
        noise.transport.command(Command::Send { link, message: bytes.into() });
    }
    until("the noise is counted", || {
        let counters = one.mesh.view().counters;
        counters.malformed + counters.ungreeted >= 3_000
    })
    .await;
    assert!(one.mesh.view().counters.malformed > 0 && one.mesh.view().counters.ungreeted > 0);
    assert!(one.mesh.call(&two.id, &super::calls::READ, Bytes::new()).await.is_ok());
    assert_eq!(one.state(&two.id), Some(PeerState::Up));
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_process_that_cannot_greet_are_dropped() {
    let place = Place::new(1);
    let mut one = place.node("zoo-1", 1);
    one.mesh.subscribe(Topic::new("a1"));
    let foreigner = Foreigner::new(&place, "zoo-2");
    // It even got a record into the directory; and it publishes heartbeats, but has no key.
    let planted = record("zoo-2", 2);
    let key = District::new("test", "north").key(&planted);
    place.directory.client().put(&key, &serde_json::to_vec(&planted).unwrap(), None).await.unwrap();
    one.until_state(&id("zoo-2"), Some(PeerState::Connecting)).await;
    for _ in 0..100 {
        for topic in ["a1", HEARTBEAT_TOPIC] {
            let parts = vec![Bytes::from_static(b"believe me")];
            foreigner.transport.command(Command::Publish { topic: Topic::new(topic), parts });
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(one.state(&id("zoo-2")), Some(PeerState::Suspect));
    assert!(one.mesh.view().counters.ungreeted >= 150);
    assert!(!one.told().iter().any(|told| told.starts_with("frames") || told.starts_with("up")), "{:?}", one.seen);
}
