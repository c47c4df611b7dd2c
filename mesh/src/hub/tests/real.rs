//! Hubs over ZeroMQ, on threads and clocks of their own, as in production.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::calls::Method;
use crate::transport::Topic;
use crate::transport::zeromq::{self, ZmqConfig};

static READ: Method = Method::query("read", 5_000);

fn node(place: &Place, name: &str, life: u64) -> Node {
    let tasks = Tasks::real();
    let transport = zeromq::start(ZmqConfig::new(IpAddr::V4(Ipv4Addr::LOCALHOST), life), &tasks).unwrap();
    let mut config = config(name, life);
    config.record.publish.clone_from(&transport.endpoints.publish);
    config.record.request.clone_from(&transport.endpoints.request);
    let record = config.record.clone();
    let (mesh, inbox) = start(config, transport, Arc::new(place.directory.client()), &tasks);
    Node { id: record.node, tasks, mesh, inbox, seen: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_over_zeromq_find_each_other_talk_and_notice_death() {
    let place = Place::new(1);
    let (one, mut two) = (node(&place, "zoo-1", 1), node(&place, "zoo-2", 2));
    one.until_up(&two).await;
    two.until_up(&one).await;
    two.echo();
    two.mesh.subscribe(Topic::new("a1"));
    for number in 0..200u32 {
        let body = Bytes::copy_from_slice(&number.to_be_bytes());
        assert_eq!(one.mesh.call(&two.id, &READ, body.clone()).await, Ok(body));
    }
    let large = Bytes::from(vec![3; 2 << 20]);
    assert_eq!(one.mesh.call(&two.id, &READ, large.clone()).await, Ok(large));
    until("frames arrive", || {
        one.mesh.publish(Topic::new("a1"), vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        two.told().iter().any(|told| told == "frames 1 a1")
    })
    .await;
    one.tasks.stop();
    two.until_told("down zoo-1/1 Cut").await;
    two.until_told("gone zoo-1/1").await;
    let again = node(&place, "zoo-1", 11);
    two.until_up(&again).await;
    again.until_up(&two).await;
    again.mesh.leave().await;
    two.until_told("gone zoo-1/11").await;
}
