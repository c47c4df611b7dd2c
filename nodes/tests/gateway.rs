//! The gateway over real HTTP, with real hubs in a cluster in memory.

// What a test makes itself may be unwrapped; clippy's exception for tests covers test functions only.
#![allow(clippy::unwrap_used)]

#[path = "gateway/line.rs"]
mod line;
#[path = "gateway/schema.rs"]
mod schema;
#[path = "gateway/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use cartographer::geometry::{Chunk, ObjectId, TILES_PER_CHUNK, Tile};
use cartographer::ground::Ground;
use estate::land::{By, Footprint, Grounds, Rotation, claims, works};
use estate::player::{self, Claim, Claimant};
use estate::transaction::OperationId;
use futures_util::{SinkExt, StreamExt};
use nodes::game::grounds::Terrains;
use schema::Description;
use serde_json::{Value, json};
use site::{BEAST, Mood, Site, answer, tight, until};
use tokio_tungstenite::tungstenite::Message;

const LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// Codes that the API's description lists.
fn described_codes() -> BTreeSet<String> {
    let described: Value = serde_json::from_str(nodes::gateway::pages::OPENAPI).unwrap();
    let codes = &described["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"];
    codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_request_gets_its_code_as_json() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let codes = described_codes();
    let json_type = Some("application/json");
    let big = format!(r#"{{"name":"{}"}}"#, "x".repeat(20_000));
    let long_name = format!(r#"{{"name":"{LONG}","password":"correct horse"}}"#);
    let long_password = format!(r#"{{"name":"ayu","password":"{}"}}"#, "x".repeat(300));
    let nested = "[".repeat(10_000);
    type Row<'a> = (&'a str, &'a str, Option<&'a str>, &'a str, u16, &'a str);
    let rows: &[Row<'_>] = &[
        ("GET", "/nowhere", None, "", 404, "not_found"),
        ("GET", "/v1", None, "", 404, "not_found"),
        ("GET", "/v1/accounts/", None, "", 404, "not_found"),
        ("GET", "/../../etc/passwd", None, "", 404, "not_found"),
        ("GET", "/%2e%2e/%00", None, "", 404, "not_found"),
        ("GET", "/v1/accounts", None, "", 405, "method_not_allowed"),
        ("PUT", "/v1/sessions", None, "", 405, "method_not_allowed"),
        ("POST", "/health", None, "", 405, "method_not_allowed"),
        ("BREW", "/v1/islands", None, "", 405, "method_not_allowed"),
        ("POST", "/v1/accounts", None, r#"{"name":"a","password":"b"}"#, 415, "unsupported_media_type"),
        ("POST", "/v1/accounts", Some("text/plain"), "{}", 415, "unsupported_media_type"),
        ("POST", "/v1/accounts", json_type, "", 400, "malformed_json"),
        ("POST", "/v1/accounts", json_type, "{", 400, "malformed_json"),
        ("POST", "/v1/accounts", json_type, "name=ayu", 400, "malformed_json"),
        ("POST", "/v1/accounts", json_type, &nested, 400, "malformed_json"),
        ("POST", "/v1/accounts", json_type, "[]", 400, "bad_body"),
        ("POST", "/v1/accounts", json_type, "{}", 400, "bad_body"),
        ("POST", "/v1/accounts", json_type, r#"{"name":"ayu"}"#, 400, "bad_body"),
        ("POST", "/v1/accounts", json_type, r#"{"name":7,"password":"correct horse"}"#, 400, "bad_body"),
        ("POST", "/v1/accounts", json_type, r#"{"name":"ayu","password":["x"]}"#, 400, "bad_body"),
        (
            "POST",
            "/v1/accounts",
            json_type,
            r#"{"name":"ayu","password":"correct horse","admin":true}"#,
            400,
            "bad_body",
        ),
        ("POST", "/v1/accounts", json_type, r#"{"name":"","password":"correct horse"}"#, 400, "bad_name"),
        ("POST", "/v1/accounts", json_type, r#"{"name":"a b","password":"correct horse"}"#, 400, "bad_name"),
        ("POST", "/v1/accounts", json_type, r#"{"name":"a\u0000b","password":"correct horse"}"#, 400, "bad_name"),
        ("POST", "/v1/accounts", json_type, r#"{"name":"../../x","password":"correct horse"}"#, 400, "bad_name"),
        ("POST", "/v1/accounts", json_type, &long_name, 400, "bad_name"),
        ("POST", "/v1/accounts", json_type, r#"{"name":"ayu","password":"short"}"#, 400, "bad_password"),
        ("POST", "/v1/accounts", json_type, &long_password, 400, "bad_password"),
        ("POST", "/v1/accounts", json_type, &big, 413, "body_too_large"),
        ("POST", "/v1/sessions", json_type, "null", 400, "bad_body"),
        (
            "POST",
            "/v1/sessions",
            json_type,
            r#"{"name":"nobody","password":"correct horse"}"#,
            401,
            "wrong_credentials",
        ),
        ("POST", "/v1/sessions", json_type, r#"{"name":"\u0001","password":"x"}"#, 401, "wrong_credentials"),
        ("POST", "/v1/sessions", json_type, &long_password, 401, "wrong_credentials"),
        ("POST", "/v1/sessions", json_type, r#"{"name":"a","password":"b","island":-1}"#, 400, "bad_body"),
        ("POST", "/v1/sessions", json_type, r#"{"name":"a","password":"b","island":4294967296}"#, 400, "bad_body"),
        ("POST", "/v1/sessions", json_type, r#"{"name":"a","password":"b","island":"3"}"#, 400, "bad_body"),
        ("GET", "/v1/sessions/7", None, "", 404, "unknown_session"),
        ("GET", "/v1/sessions/2b1d6a53-6f7e-4c39-9b1e-0d0c7a3f2e11", None, "", 404, "unknown_session"),
        ("DELETE", "/v1/sessions/2b1d6a53-6f7e-4c39-9b1e-0d0c7a3f2e11", None, "", 404, "unknown_session"),
        ("DELETE", "/v1/sessions/%ff", None, "", 400, "bad_path"),
        ("GET", "/v1/islands/99/map.png", None, "", 404, "unknown_island"),
        ("GET", "/v1/islands/-3/map.png", None, "", 404, "unknown_island"),
        ("GET", "/v1/islands/x/map.png", None, "", 404, "unknown_island"),
        ("GET", "/v1/islands/3/map.png?scale=big", None, "", 400, "bad_query"),
        ("GET", "/v1/islands/3/map.png?scale=0", None, "", 400, "bad_scale"),
        ("GET", "/v1/islands/3/map.png?scale=-1", None, "", 400, "bad_scale"),
        ("GET", "/v1/islands/3/map.png?scale=NaN", None, "", 400, "bad_scale"),
        ("GET", "/v1/islands/99/chunks/0/0", None, "", 404, "unknown_island"),
        ("GET", "/v1/islands/x/chunks/0/0", None, "", 404, "unknown_island"),
        ("GET", "/v1/islands/3/chunks/-1/0", None, "", 404, "unknown_chunk"),
        ("GET", "/v1/islands/3/chunks/0/65535", None, "", 404, "unknown_chunk"),
        ("GET", "/v1/islands/3/chunks/0/99999999999", None, "", 404, "unknown_chunk"),
        ("GET", "/v1/holdings/7", None, "", 404, "unknown_holding"),
        ("GET", "/v1/holdings/0", None, "", 404, "unknown_holding"),
        ("GET", "/v1/holdings/-7", None, "", 404, "unknown_holding"),
        ("GET", "/v1/map", None, "", 400, "bad_query"),
        ("GET", "/v1/map?island=99", None, "", 404, "unknown_island"),
        ("GET", "/v1/map?island=3", None, "", 426, "upgrade_required"),
    ];
    for (method, path, content_type, body, status, code) in rows {
        let mut request = gateway.request(method, path).body((*body).to_owned());
        if let Some(content_type) = content_type {
            request = request.header("content-type", *content_type);
        }
        let got = answer(request).await;
        let shown = &body[..body.len().min(60)];
        assert_eq!((got.status, got.code()), (*status, *code), "{method} {path} {shown}: {}", got.json);
        assert!(codes.contains(*code), "{code} is not in the description");
        assert_eq!(got.headers["content-type"], "application/json", "{method} {path}");
        assert!(got.json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
    }
    assert!(site.store.snapshot().is_empty(), "bad requests leave nothing behind");
    let counted = gateway.get("/metrics").await;
    let text = String::from_utf8(counted.bytes.to_vec()).unwrap();
    let line = r#"wildmesh_refused_total{node="gateway-1",reason="wrong_credentials",role="gateway"} 3"#;
    assert!(text.lines().any(|l| l == line), "refusals are counted by reason:\n{text}");
}

#[test]
fn the_examples_of_the_description_fit_its_schemas() {
    assert!(Description::new().check_examples() > 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_described() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let described = Description::new();
    let _frontend = site.frontend("frontend-1", Mood::Welcoming, 3);
    let (_zoo, zoo_tasks) = site.beast("zoo-1");
    gateway.until_frontends(1).await;
    let check = |method: &str, path: &str, status: u16, got: &site::Answer| {
        assert_eq!(got.status, status, "{method} {path}: {}", got.json);
        described.check(method, path, status, &got.json);
    };
    let account = json!({ "name": "ayu", "password": "correct horse" });
    check("post", "/v1/accounts", 201, &gateway.post("/v1/accounts", account.clone()).await);
    check("post", "/v1/accounts", 409, &gateway.post("/v1/accounts", account.clone()).await);
    check("post", "/v1/accounts", 400, &gateway.post("/v1/accounts", json!({})).await);
    let opened = gateway.post("/v1/sessions", account).await;
    check("post", "/v1/sessions", 201, &opened);
    let path = format!("/v1/sessions/{}", opened.json["session"].as_str().unwrap());
    check("get", "/v1/sessions/{id}", 200, &gateway.get(&path).await);
    check("get", "/v1/sessions/{id}", 404, &gateway.get("/v1/sessions/x").await);
    until("all nodes report", async || {
        let nodes = gateway.get("/v1/mesh").await.json["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().filter(|node| node["report"].is_object()).count() == 3
    })
    .await;
    for path in ["/v1/islands", "/v1/nodes", "/v1/mesh", "/v1/openapi.json", "/health"] {
        check("get", path, 200, &gateway.get(path).await);
    }
    until("the gateway is ready", async || gateway.get("/ready").await.status == 200).await;
    check("get", "/ready", 200, &gateway.get("/ready").await);
    zoo_tasks.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_given_once_and_a_repeated_request_makes_one_account() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let made = gateway.post("/v1/accounts", json!({ "name": "Ayu", "password": "correct horse" })).await;
    assert_eq!((made.status, &made.json["account"]), (201, &json!("Ayu")), "{}", made.json);
    let again = gateway.post("/v1/accounts", json!({ "name": "aYU", "password": "correct horse" })).await;
    assert_eq!((again.status, again.code()), (409, "name_taken"));

    let other = site.gateway("gateway-2").await;
    let mut players = BTreeSet::new();
    for gateway in [&gateway, &other, &gateway] {
        let body = json!({ "name": "bo-2", "password": "correct horse" });
        let request = gateway.request("POST", "/v1/accounts").header("idempotency-key", "k1").json(&body);
        let made = answer(request).await;
        assert_eq!(made.status, 201, "{}", made.json);
        players.insert(made.json["player"].as_u64().unwrap());
    }
    assert_eq!(players.len(), 1);
    let stored = site.store.snapshot();
    assert_eq!(stored.keys().filter(|key| key.starts_with("player/")).count(), 2, "one player for each account");
    let account = String::from_utf8(stored["account/ayu"].value.to_vec()).unwrap();
    assert!(account.contains("$argon2id$") && !account.contains("correct horse"), "{account}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_to_a_frontend_and_every_gateway_knows_it() {
    let site = Site::new();
    let (gateway, other) = (site.gateway("gateway-1").await, site.gateway("gateway-2").await);
    let player = gateway.account("ayu").await;
    let refused = gateway.session("ayu").await;
    assert_eq!((refused.status, refused.code()), (503, "no_frontend"));
    assert!(refused.headers.contains_key("retry-after"));

    let frontend = site.frontend("frontend-1", Mood::Welcoming, 0);
    gateway.until_frontends(1).await;
    other.until_frontends(1).await;
    let opened = gateway.session("AYU").await;
    assert_eq!(opened.status, 201, "{}", opened.json);
    let session = opened.json["session"].as_str().unwrap();
    assert_eq!(
        opened.json,
        json!({ "session": session, "state": "admitted", "player": player,
            "frontend": { "node": "frontend-1", "url": "ws://frontend-1.test" },
            "ticket": format!("ticket of {player} at frontend-1"), "expires_in_s": 30 })
    );
    let path = format!("/v1/sessions/{session}");
    assert_eq!(other.get(&path).await.json, opened.json, "another gateway tells the same");

    let wrong = gateway.post("/v1/sessions", json!({ "name": "ayu", "password": "wrong horse" })).await;
    assert_eq!((wrong.status, wrong.code()), (401, "wrong_credentials"));
    let elsewhere = json!({ "name": "ayu", "password": "correct horse", "island": 99 });
    let elsewhere = gateway.post("/v1/sessions", elsewhere).await;
    assert_eq!((elsewhere.status, elsewhere.code()), (400, "unknown_island"));

    let closed = answer(other.request("DELETE", &path)).await;
    assert_eq!(closed.status, 204);
    assert_eq!(*frontend.closed.lock().unwrap(), [ObjectId(player)]);
    assert_eq!(gateway.get(&path).await.json["state"], "closed");
    assert_eq!(answer(gateway.request("DELETE", &path)).await.status, 204, "closing again is no failure");
    assert_eq!(frontend.closed.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frontend_that_refuses_or_fails_is_followed_by_the_next() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let empty = site.frontend("frontend-1", Mood::Draining, 0);
    let busy = site.frontend("frontend-2", Mood::Welcoming, 900);
    gateway.until_frontends(2).await;
    gateway.account("ayu").await;
    let opened = gateway.session("ayu").await;
    assert_eq!((opened.status, &opened.json["frontend"]["node"]), (201, &json!("frontend-2")), "{}", opened.json);

    *empty.mood.lock().unwrap() = Mood::Silent;
    let opened = gateway.session("ayu").await;
    assert_eq!((opened.status, &opened.json["frontend"]["node"]), (201, &json!("frontend-2")), "{}", opened.json);

    *empty.mood.lock().unwrap() = Mood::Full;
    *busy.mood.lock().unwrap() = Mood::Full;
    let waits = gateway.session("ayu").await;
    assert_eq!((waits.status, &waits.json["state"]), (202, &json!("queued")), "{}", waits.json);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_spreads_over_equal_frontends() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let frontends = ["frontend-1", "frontend-2"].map(|name| site.frontend(name, Mood::Welcoming, 10));
    gateway.until_frontends(2).await;
    let loads_known = async || {
        let rows = gateway.get("/v1/nodes").await.json;
        rows.as_array().unwrap().iter().filter(|row| row["load"]["players"] == 10).count() == 2
    };
    until("the loads are known", loads_known).await;
    gateway.account("ayu").await;
    for _ in 0..20 {
        assert_eq!(gateway.session("ayu").await.status, 201);
    }
    let sent = frontends.map(|frontend| frontend.opened.load(Ordering::SeqCst));
    assert!(sent.iter().all(|sent| (8..=12).contains(sent)), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_that_is_live_somewhere_is_sent_there() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let _near = site.frontend("frontend-1", Mood::Welcoming, 0);
    let home = site.frontend("frontend-2", Mood::Welcoming, 1_000);
    gateway.until_frontends(2).await;
    let player = gateway.account("ayu").await;
    assert_eq!(gateway.session("ayu").await.json["frontend"]["node"], "frontend-1");
    let me = Claimant { node: "frontend-2".to_owned(), incarnation: home.mesh.me().incarnation.0, claim: 1 };
    let claim =
        player::claim(&site.store, player, &me, &player::Seating::AsItIs, &|_: &player::Owner| false).await.unwrap();
    assert!(matches!(claim, Claim::Claimed(_)), "{claim:?}");
    assert_eq!(gateway.session("ayu").await.json["frontend"]["node"], "frontend-2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_flood_and_others_are_not_concerned() {
    let site = Site::new();
    let gateway = site.gateway_with("gateway-1", tight()).await;
    let from = |address: &str, path: &str, body: Value| {
        answer(gateway.request("POST", path).header("x-forwarded-for", format!("198.51.100.9, {address}")).json(&body))
    };
    let account = |name: &str| json!({ "name": name, "password": "correct horse" });
    for (address, name, expected) in [
        ("192.0.2.1", "one", 201),
        ("192.0.2.1", "two", 201),
        ("192.0.2.1", "three", 429),
        ("192.0.2.2", "three", 201),
        ("127.0.0.1", "four", 201),
        ("127.0.0.1", "five", 201),
        ("127.0.0.1", "six", 201),
    ] {
        let made = from(address, "/v1/accounts", account(name)).await;
        assert_eq!(made.status, expected, "{name} from {address}: {}", made.json);
        assert_eq!(made.headers.contains_key("retry-after"), expected == 429);
    }
    let wrong = json!({ "name": "one", "password": "wrong horse" });
    for expected in [401, 401, 429] {
        assert_eq!(from("192.0.2.3", "/v1/sessions", wrong.clone()).await.status, expected);
    }
    assert_eq!(from("192.0.2.3", "/v1/sessions", account("one")).await.status, 429, "not even the right one");
    assert_eq!(from("192.0.2.4", "/v1/sessions", account("one")).await.code(), "no_frontend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn islands_pictures_and_pages_are_served_once_and_then_known() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let islands = gateway.get("/v1/islands").await;
    let island = &islands.json[0];
    assert_eq!((islands.status, &island["id"], &island["width_tiles"]), (200, &json!(3), &json!(512)));
    assert!(!island["spawn_points"].as_array().unwrap().is_empty());
    let small = format!("{}?scale=0.125", island["map"].as_str().unwrap());
    for (path, kind) in [
        ("/v1/islands", "application/json"),
        ("/v1/openapi.json", "application/json"),
        (small.as_str(), "image/png"),
        ("/", "text/html; charset=utf-8"),
        ("/map.js", "text/javascript; charset=utf-8"),
        ("/msgpack.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        let got = gateway.get(path).await;
        assert_eq!((got.status, got.headers["content-type"].to_str().unwrap()), (200, kind), "{path}");
        assert!(got.headers.contains_key("cache-control"), "{path}");
        assert_eq!(got.headers["x-content-type-options"], "nosniff");
        let again = answer(gateway.request("GET", path).header("if-none-match", &got.headers["etag"])).await;
        assert_eq!((again.status, again.bytes.len()), (304, 0), "{path}");
    }
    let page = gateway.get("/").await;
    assert!(page.headers.contains_key("content-security-policy"));
    let picture = gateway.get(&small).await;
    assert_eq!(&picture.bytes[..8], b"\x89PNG\r\n\x1a\n");
    let same = gateway.get("/v1/islands/3/map.png?scale=0.12").await;
    assert_eq!(same.headers["etag"], picture.headers["etag"], "scales are rounded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_may_see_what_stands_on_a_chunk_and_whose_it_is() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let description = Description::new();
    let terrain = &site.islands.all()[0];
    let (island, (width, height)) = (terrain.id(), terrain.size());
    let tiles = (0..height).flat_map(|y| (0..width).map(move |x| Tile { x, y }));
    let grounds = Terrains::new(&site.islands);
    let free = |tile: &Tile| grounds.buildable(island, *tile) && grounds.natural(island, *tile) == 0;
    let tile = tiles.into_iter().find(free).expect("somewhere to build");
    let (x, y) = (tile.x / TILES_PER_CHUNK, tile.y / TILES_PER_CHUNK);
    let path = format!("/v1/islands/{island}/chunks/{x}/{y}");
    let before = gateway.get(&path).await;
    description.check("get", "/v1/islands/{id}/chunks/{x}/{y}", before.status, &before.json);
    assert_eq!(before.json["holding"], Value::Null);

    let estate = site.estate();
    let chunk = Chunk { island, x, y };
    let (holding, owner) = (ObjectId(70), ObjectId(9));
    let claim = claims::Claim { holding, chunk, owner, now_s: 1_000, paid_until_s: 2_000 };
    claims::claim(&estate, &grounds, OperationId(1), &claim, &[]).await.expect("claimed");
    let building = works::Building {
        id: ObjectId(80),
        kind: "hut".to_owned(),
        island,
        footprint: Footprint::new(tile, 1, 1, Rotation::default()).expect("a footprint"),
        made_s: 1_000,
        data: serde_json::Map::new(),
    };
    works::build(&estate, &grounds, OperationId(2), By::Player(owner), &building, &[]).await.expect("built");

    let after = gateway.get(&path).await;
    description.check("get", "/v1/islands/{id}/chunks/{x}/{y}", after.status, &after.json);
    let row = json!({ "x": tile.x, "y": tile.y, "object": 80 });
    assert!(after.json["tiles"].as_array().expect("tiles").contains(&row), "{}", after.json);
    let held = gateway.get("/v1/holdings/70").await;
    description.check("get", "/v1/holdings/{id}", held.status, &held.json);
    assert_eq!(held.json, after.json["holding"]);
    assert_eq!((&held.json["owner"], &held.json["chunks"]), (&owner.0.into(), &json!([[x, y]])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_web_page_may_use_the_api() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let asked = gateway
        .request("OPTIONS", "/v1/sessions")
        .header("origin", "https://game.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let asked = answer(asked).await;
    assert_eq!((asked.status, &asked.headers["access-control-allow-origin"]), (204, &"*".parse().unwrap()));
    assert!(asked.headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    let refused = answer(gateway.request("GET", "/v1/nowhere").header("origin", "https://game.example")).await;
    assert_eq!(refused.headers["access-control-allow-origin"], "*", "failures can be read too");
    assert!(!gateway.get("/metrics").await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_means_that_the_whole_data_path_works() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    assert_eq!(gateway.get("/health").await.json["status"], "alive");
    let check = |readiness: &Value, name: &str| {
        let checks = readiness["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).is_some_and(|check| check["ok"] == true)
    };
    let before = gateway.get("/ready").await;
    assert_eq!(before.status, 503, "{}", before.json);
    assert!(check(&before.json, "directory") && check(&before.json, "store") && !check(&before.json, "frontend"));

    let frontend = site.frontend("frontend-1", Mood::Welcoming, 0);
    until("the gateway is ready", async || gateway.get("/ready").await.status == 200).await;
    *frontend.mood.lock().unwrap() = Mood::Silent;
    until("a silent frontend is noticed", async || gateway.get("/ready").await.status == 503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_is_told_by_every_node_and_contradictions_are_marked() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let silent = site.frontend("frontend-1", Mood::Welcoming, 3);
    let (_zoo, zoo_tasks) = site.beast("zoo-1");
    until("the mesh is whole", async || {
        let mesh = gateway.get("/v1/mesh").await.json;
        mesh["whole"] == true
            && mesh["nodes"].as_array().unwrap().iter().filter(|n| n["report"].is_object()).count() == 3
    })
    .await;
    let mesh = gateway.get("/v1/mesh").await.json;
    assert_eq!(mesh["asked_by"], "gateway-1");
    assert_eq!(mesh["nodes"][0]["report"]["mesh"]["node"]["node"], "frontend-1");

    *silent.mood.lock().unwrap() = Mood::Silent;
    let mesh = gateway.get("/v1/mesh").await.json;
    assert_eq!(mesh["whole"], false);
    let first = &mesh["disagreements"][0];
    assert_eq!((&first["kind"], &first["nodes"]), (&json!("unreachable"), &json!(["frontend-1"])), "{mesh}");
    let row = mesh["nodes"].as_array().unwrap().iter().find(|row| row["node"] == "frontend-1").unwrap();
    assert!(row["error"].as_str().is_some_and(|why| !why.is_empty()) && row["report"].is_null());
    zoo_tasks.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_map_shows_nodes_and_frames_unchanged() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let (zoo, zoo_tasks) = site.beast("zoo-1");
    let publisher = zoo.me().incarnation.0;
    let url = format!("{}/v1/map?island=3", gateway.base.replace("http", "ws"));
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.expect("the map opens");
    let (mut reset, mut seen_beast, mut seen_nodes) = (false, false, false);
    let described = Description::new();
    while !(seen_beast && seen_nodes) {
        match socket.next().await.expect("the map goes on").expect("the map goes on") {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                reset |= message["type"] == "reset";
                described
                    .check_schema(if message["type"] == "nodes" { "NodesMessage" } else { "ResetMessage" }, &message);
                let rows = message["nodes"].as_array().cloned().unwrap_or_default();
                let row = rows.iter().find(|row| row["id"] == "zoo-1");
                seen_nodes |= row.is_some_and(|row| {
                    assert_eq!((&row["publisher"], &row["role"]), (&json!(publisher), &json!("zoo")), "{row}");
                    assert!(row["offset_ms"].is_i64() && row["colour"].is_u64(), "{row}");
                    // The beast sees its surroundings: the zoo's vision on this island.
                    row["state"] == "up" && !row["cells"].as_array().unwrap().is_empty()
                });
            }
            Message::Binary(frame) => {
                assert!(reset, "frames come after the first reset");
                let frame: Value = rmp_serde::from_slice(&frame).unwrap();
                let kind = frame[0].as_u64().unwrap();
                assert!(kind == 10 || kind == 11);
                if frame[1].as_u64() == Some(publisher) {
                    let text = frame.to_string();
                    seen_beast |= text.contains(&BEAST.to_string()) && text.contains("beast");
                }
            }
            _ => {}
        }
    }
    until("the viewer is counted", async || gateway.metrics.map_viewers.get() == 1).await;
    socket.send(Message::Text("what viewers say is ignored".into())).await.unwrap();
    socket.close(None).await.unwrap();
    until("the viewer is gone", async || gateway.metrics.map_viewers.get() == 0).await;
    zoo_tasks.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_says_goodbye_to_viewers_and_takes_no_more() {
    let site = Site::new();
    let gateway = site.gateway("gateway-1").await;
    let url = format!("{}/v1/map?island=3", gateway.base.replace("http", "ws"));
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.expect("the map opens");
    gateway.gateway.shut_down().await;
    let last = loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => break frame,
            Some(Ok(_)) => {}
            other => panic!("no goodbye but {other:?}"),
        }
    };
    assert_eq!(u16::from(last.expect("a reason").code), 1001);
    let refused = gateway.request("GET", "/health").send().await;
    assert!(refused.is_err(), "{refused:?}");
}
