//! Goods of players that are at home: transactions reach them through the frontends that own them, and past one that died.

// What a test makes itself may be unwrapped; clippy's exception for tests covers test functions only.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::audit::audit;
use estate::goods::promise::{self, What};
use estate::goods::trade;
use estate::goods::transfer::{Leg, transfer};
use estate::goods::{Goods, Place};
use estate::player::{self, PlayerDocument};
use estate::store::WriteOptions;
use estate::transaction::{OperationId, TransactionError, Transactions};
use nodes::client::{ClientError, Connection, Gateway};
use nodes::commands::up::{LocalConfig, LocalMesh};
use nodes::frontend::Config;
use nodes::methods::OpenSession;
use nodes::protocol::HelloKind;
use nodes::wiring::{Door, Node};
use tokio::time::Instant;
use uuid::Uuid;

/// How long a state is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> LocalMesh {
    let islands = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
    let config = LocalConfig::small(2, Config::default(), Some(islands));
    let mesh = LocalMesh::start(config).await.unwrap();
    mesh.ready().await.unwrap();
    mesh
}

fn node<'a>(mesh: &'a LocalMesh, name: &str) -> &'a Node {
    mesh.nodes.iter().find(|node| node.mesh.me().node.as_str() == name).unwrap()
}

/// A new player who has come in at this frontend.
async fn enter(mesh: &LocalMesh, name: &str, frontend: &str) -> (u64, Connection) {
    let gateway = Gateway::new(&format!("http://{}", mesh.http)).unwrap();
    let account = gateway.create_account(name, "correct horse").await.unwrap();
    (account.player, come_in(mesh, account.player, frontend).await)
}

async fn come_in(mesh: &LocalMesh, player: u64, frontend: &str) -> Connection {
    try_to_come_in(mesh, player, frontend).await.unwrap()
}

async fn try_to_come_in(mesh: &LocalMesh, player: u64, frontend: &str) -> Result<Connection, ClientError> {
    let Door::Frontend(door) = &node(mesh, frontend).door else { panic!("{frontend} is no frontend") };
    let open = OpenSession { session: Uuid::new_v4(), player: ObjectId(player), island: None };
    let offer = door.sessions.open(&open).unwrap();
    Connection::open(&offer.url, &offer.ticket, HelloKind::Ticket).await.map(|(connection, _)| connection)
}

/// Transactions of the gateway, which owns no player.
fn estate(mesh: &LocalMesh) -> &Transactions {
    &node(mesh, "gateway-1").estate
}

async fn document(mesh: &LocalMesh, player: u64) -> PlayerDocument {
    player::find(&**estate(mesh).store(), player).await.unwrap().unwrap().document
}

fn held(document: &PlayerDocument, item: &str) -> u64 {
    document.bag.stacks.get(&item.parse().unwrap()).copied().unwrap_or(0)
}

fn some(item: &str, count: u64) -> Goods {
    Goods::stack(item.parse().unwrap(), count)
}

fn leg(from: Place, to: Place, goods: Goods) -> Vec<Leg> {
    vec![Leg { from, to, goods }]
}

async fn clean(mesh: &LocalMesh) {
    let report = audit(estate(mesh), false, &mut |_| {}).await.unwrap();
    assert!(report.clean(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goods_change_hands_between_players_of_two_frontends_who_are_at_home() {
    let mesh = start().await;
    let ((ann, _at_home), (bob, _too)) =
        (enter(&mesh, "ann", "frontend-1").await, enter(&mesh, "bob", "frontend-2").await);
    let estate = estate(&mesh);
    transfer(estate, OperationId(1), &leg(Place::Mint, Place::Player(ann), some("wood", 9))).await.unwrap();
    transfer(estate, OperationId(2), &leg(Place::Mint, Place::Player(bob), some("stone", 5))).await.unwrap();
    for _ in 0..2 {
        transfer(estate, OperationId(3), &leg(Place::Player(ann), Place::Player(bob), some("wood", 2))).await.unwrap();
    }
    let much = transfer(estate, OperationId(4), &leg(Place::Player(ann), Place::Player(bob), some("wood", 8))).await;
    assert!(matches!(&much, Err(TransactionError::Refused(refusal)) if refusal.code == "too_little"), "{much:?}");

    // A trade, each side driven by its own frontend.
    let deal = OperationId(5);
    let (of_ann, of_bob) = (&node(&mesh, "frontend-1").estate, &node(&mesh, "frontend-2").estate);
    trade::open(of_ann, deal, [ann, bob]).await.unwrap();
    trade::offer(of_ann, OperationId(6), deal, ann, some("wood", 3)).await.unwrap();
    trade::offer(of_bob, OperationId(7), deal, bob, some("stone", 4)).await.unwrap();
    let revision = trade::find(of_bob, deal).await.unwrap().unwrap().document.revision;
    trade::consent(of_ann, OperationId(8), deal, ann, revision).await.unwrap();
    trade::consent(of_bob, OperationId(9), deal, bob, revision).await.unwrap();

    // A promise is kept at once where the receiver is at home.
    promise::give(of_ann, OperationId(10), Place::Player(ann), bob, What::Goods(some("wood", 1))).await.unwrap();
    let (ann, bob) = (document(&mesh, ann).await, document(&mesh, bob).await);
    assert_eq!((held(&ann, "wood"), held(&ann, "stone")), (3, 4));
    assert_eq!((held(&bob, "wood"), held(&bob, "stone"), bob.kept), (6, 1, 1));
    assert!(ann.owner.is_some_and(|owner| owner.node == "frontend-1"), "still at home");
    assert!(bob.owner.is_some_and(|owner| owner.node == "frontend-2"), "still at home");
    clean(&mesh).await;
    mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_promised_to_somebody_away_waits_until_they_come_home() {
    let mesh = start().await;
    let (ann, connection) = enter(&mesh, "ann", "frontend-1").await;
    connection.close().await;
    let Door::Frontend(door) = &node(&mesh, "frontend-1").door else { panic!("no frontend") };
    door.sessions.close(ObjectId(ann), "the test says so").await;
    assert_eq!(document(&mesh, ann).await.owner, None, "away");
    promise::give(estate(&mesh), OperationId(1), Place::Mint, ann, What::Goods(some("wood", 7))).await.unwrap();
    assert_eq!(held(&document(&mesh, ann).await, "wood"), 0);
    let _at_home = come_in(&mesh, ann, "frontend-2").await;
    let end = Instant::now() + PATIENCE;
    while held(&document(&mesh, ann).await, "wood") == 0 {
        assert!(Instant::now() < end, "the promise was not kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Kept once, whoever visits again.
    promise::keep(estate(&mesh), ann).await.unwrap();
    assert_eq!(held(&document(&mesh, ann).await, "wood"), 7);
    clean(&mesh).await;
    mesh.leave().await;
}

/// Writes into a player's document that `node` owns it, in this life.
async fn owned_by(mesh: &LocalMesh, player: u64, node: &str, incarnation: u64) -> u64 {
    let store = estate(mesh).store();
    let stored = store.get(&player::key(player)).await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
    let epoch = value["epoch"].as_u64().unwrap() + 1;
    value["epoch"] = epoch.into();
    value["owner"] = serde_json::json!({ "node": node, "incarnation": incarnation, "epoch": epoch, "claim": 1 });
    let value = value.to_string().into_bytes().into();
    store.replace(&player::key(player), value, stored.version, WriteOptions::default()).await.unwrap();
    epoch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_owner_is_passed_over_and_a_living_one_is_not() {
    let mesh = start().await;
    let gateway = Gateway::new(&format!("http://{}", mesh.http)).unwrap();
    let ann = gateway.create_account("ann", "correct horse").await.unwrap().player;
    let bob = gateway.create_account("bob", "correct horse").await.unwrap().player;
    transfer(estate(&mesh), OperationId(1), &leg(Place::Mint, Place::Player(ann), some("wood", 9))).await.unwrap();
    let legs = leg(Place::Player(ann), Place::Player(bob), some("wood", 4));
    let living = node(&mesh, "frontend-2").mesh.me().incarnation.0;

    // A node that has no hands at all; a frontend that does not know of its claim gives it up when it is asked.
    owned_by(&mesh, ann, "gateway-1", node(&mesh, "gateway-1").mesh.me().incarnation.0).await;
    let busy = transfer(estate(&mesh), OperationId(2), &legs).await;
    assert!(matches!(busy, Err(TransactionError::Busy(_))), "it lives and does not let go: {busy:?}");
    assert_eq!((held(&document(&mesh, ann).await, "wood"), held(&document(&mesh, bob).await, "wood")), (9, 0));

    // A former life of a living node is as dead as a node that is not there.
    for (op, node, life) in [(3, "frontend-2", living + 1), (4, "frontend-9", 7)] {
        let epoch = owned_by(&mesh, ann, node, life).await;
        transfer(estate(&mesh), OperationId(op), &legs).await.unwrap();
        let ann = document(&mesh, ann).await;
        assert!(ann.owner.is_none() && ann.epoch > epoch, "whoever wakes is fenced");
    }
    assert_eq!((held(&document(&mesh, ann).await, "wood"), held(&document(&mesh, bob).await, "wood")), (1, 8));
    clean(&mesh).await;
    mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_that_a_newer_node_has_written_is_refused_by_an_older_one_and_left_whole() {
    let mesh = start().await;
    let gateway = Gateway::new(&format!("http://{}", mesh.http)).unwrap();
    let ann = gateway.create_account("ann", "correct horse").await.unwrap().player;
    let bob = gateway.create_account("bob", "correct horse").await.unwrap().player;
    transfer(estate(&mesh), OperationId(1), &leg(Place::Mint, Place::Player(bob), some("wood", 9))).await.unwrap();
    let (store, key) = (estate(&mesh).store(), player::key(ann));
    let stored = store.get(&key).await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
    (value["v"], value["wings"]) = (99.into(), 2.into());
    let newer = value.to_string().into_bytes();
    store.replace(&key, newer.clone().into(), stored.version, WriteOptions::default()).await.unwrap();

    let refused = try_to_come_in(&mesh, ann, "frontend-1").await.expect_err("refused");
    assert!(refused.to_string().contains("version 99"), "{refused}");
    let legs = leg(Place::Player(bob), Place::Player(ann), some("wood", 4));
    let refused = transfer(estate(&mesh), OperationId(2), &legs).await.expect_err("refused");
    assert!(refused.to_string().contains("version 99"), "{refused}");
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, newer, "left whole");
    // Whoever wanted to give is free again, and has all that was to be given.
    assert_eq!(held(&document(&mesh, bob).await, "wood"), 9);
    let legs = leg(Place::Player(bob), Place::Mint, some("wood", 9));
    transfer(estate(&mesh), OperationId(3), &legs).await.unwrap();
    mesh.leave().await;
}
