//! Waiting in line over HTTP: places, any gateway, leaving, and being let in.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::schema::Description;
use crate::site::{Mood, Served, Site, answer, until};

/// Waits until the gateways know that the frontend is full.
async fn until_full(gateways: &[&Served]) {
    for gateway in gateways {
        until("the load is known", async || {
            let rows = gateway.get("/v1/nodes").await.json;
            rows.as_array().unwrap().iter().any(|row| row["load"]["players"] == 1_000)
        })
        .await;
    }
}

async fn wait_in_line(gateway: &Served, name: &str) -> String {
    gateway.account(name).await;
    let waits = gateway.session(name).await;
    assert_eq!((waits.status, &waits.json["state"]), (202, &json!("queued")), "{}", waits.json);
    waits.json["session"].as_str().unwrap().to_owned()
}

async fn place(gateway: &Served, session: &str) -> Value {
    gateway.get(&format!("/v1/sessions/{session}")).await.json["place"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_wait_while_frontends_are_full_and_any_gateway_tells_and_keeps_their_places() {
    let site = Site::new();
    let (one, two) = (site.gateway("gateway-1").await, site.gateway("gateway-2").await);
    let frontend = site.frontend("frontend-1", Mood::Welcoming, 1_000);
    until_full(&[&one, &two]).await;
    let described = Description::new();
    let mut sessions = Vec::new();
    for (number, name) in ["ann", "bob", "cid", "dan", "eve"].into_iter().enumerate() {
        let gateway = if number % 2 == 0 { &one } else { &two };
        sessions.push(wait_in_line(gateway, name).await);
    }
    let again = two.session("cid").await;
    described.check("post", "/v1/sessions", 202, &again.json);
    assert_eq!((again.json["session"].as_str(), &again.json["place"]), (Some(sessions[2].as_str()), &json!(3)));
    let told = two.get(&format!("/v1/sessions/{}", sessions[4])).await;
    described.check("get", "/v1/sessions/{id}", 200, &told.json);
    for (expected, session) in (1..).zip(&sessions) {
        until("both gateways tell the place", async || {
            place(&one, session).await == expected && place(&two, session).await == expected
        })
        .await;
    }
    assert_eq!(answer(two.request("DELETE", &format!("/v1/sessions/{}", sessions[1]))).await.status, 204);
    until("those behind move up", async || place(&one, &sessions[4]).await == 4).await;
    assert_eq!(one.get(&format!("/v1/sessions/{}", sessions[1])).await.code(), "unknown_session");
    until("a doorkeeper is elected", async || one.get("/v1/queue").await.json["doorkeeper"].is_object()).await;
    let queue = one.get("/v1/queue").await;
    described.check("get", "/v1/queue", 200, &queue.json);
    assert_eq!(queue.json["waiting"], 4);

    // The gateway dies that lets players in; then there is room.
    let first_keeps = queue.json["doorkeeper"]["node"] == "gateway-1";
    let (dead, alive) = if first_keeps { (&one, &two) } else { (&two, &one) };
    dead.tasks.stop();
    frontend.set_players(10);
    let left = [&sessions[0], &sessions[2], &sessions[3], &sessions[4]];
    let mut tickets = BTreeSet::new();
    for session in left {
        let path = format!("/v1/sessions/{session}");
        until("it is let in", async || alive.get(&path).await.json["state"] == "admitted").await;
        let admitted = alive.get(&path).await;
        described.check("get", "/v1/sessions/{id}", 200, &admitted.json);
        tickets.insert(admitted.json["ticket"].as_str().unwrap().to_owned());
    }
    assert_eq!(tickets.len(), 4);
    until("nobody waits", async || alive.get("/v1/queue").await.json["waiting"] == 0).await;
    assert_eq!(alive.session("bob").await.status, 201, "with room and nobody waiting there is no line");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_so_and_those_in_it_may_ask_again() {
    let site = Site::new();
    let gateway = site.gateway_with_queue("gateway-1", 2).await;
    let _frontend = site.frontend("frontend-1", Mood::Welcoming, 1_000);
    until_full(&[&gateway]).await;
    wait_in_line(&gateway, "ann").await;
    wait_in_line(&gateway, "bob").await;
    gateway.account("cid").await;
    let refused = gateway.session("cid").await;
    assert_eq!((refused.status, refused.code()), (503, "queue_full"));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(gateway.session("ann").await.json["place"], 1);
    let text = gateway.get("/metrics").await;
    let text = String::from_utf8(text.bytes.to_vec()).unwrap();
    assert!(text.contains(r#"wildmesh_queue_length{node="gateway-1",role="gateway"} 2"#), "{text}");
}
