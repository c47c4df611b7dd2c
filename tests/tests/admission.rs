//! The queue on a real etcd: its order outlives a doorkeeper, a compaction and a pause of etcd, and expiring leases take
//! out who stopped asking.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::ObjectId;
use estate::store::memory::MemoryStore;
use estate::transaction::{NoOwners, Transactions};
use futures_util::future::join_all;
use mesh::NodeId;
use mesh::directory::{Directory, Revision, WatchEvent};
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::testing::EtcdServer;
use nodes::game::grounds::Terrains;
use nodes::gateway::queue::doorkeeper::{self, Counts, Frontends, Refused};
use nodes::gateway::queue::follower::{self, Line};
use nodes::gateway::queue::scribe::Scribe;
use nodes::gateway::queue::view::View;
use nodes::gateway::queue::{Class, Waiting, prefix};
use nodes::gateway::session::{FrontendAddress, SessionDocument};
use nodes::islands::Archipelago;
use nodes::metrics::Metrics;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

const PLAYERS: u64 = 1_000;

/// Longer than anything takes here on a busy machine.
const LONG: Duration = Duration::from_secs(120);

struct Hall(Arc<AtomicU32>);

#[async_trait]
impl Frontends for Hall {
    fn room(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    async fn open(&self, waiting: &Waiting) -> Result<SessionDocument, Refused> {
        let frontend = FrontendAddress { node: NodeId::new("frontend-1").unwrap(), url: "ws://f".to_owned() };
        let closed = SessionDocument::closed(waiting.player);
        Ok(SessionDocument { frontend: Some(frontend), ticket: "t".to_owned(), closed: false, ..closed })
    }
}

struct Gate {
    tasks: Tasks,
    line: Arc<Line>,
    scribe: Scribe,
}

async fn gate(etcd: &EtcdServer, store: &MemoryStore, room: &Arc<AtomicU32>, number: u64) -> Gate {
    let (tasks, name) = (Tasks::real(), format!("gateway-{number}"));
    let directory: Arc<dyn Directory> = Arc::new(etcd.directory(&tasks).await);
    let metrics = Metrics::new(&name, "gateway");
    let prefix = prefix(&District::new("etcd", "main"));
    let line = Line::new(&prefix, metrics.gauge("queue_length", "waiting"));
    tasks.spawn(follower::follow(directory.clone(), prefix.clone(), line.clone()));
    let scribe = Scribe::start(directory.clone(), &prefix, line.clone(), &tasks);
    let kinds = estate::kinds::all(Arc::new(Terrains::new(&Archipelago::new([])))).beside(nodes::gateway::DOCUMENTS);
    let owners = Arc::new(NoOwners { all_gone: false });
    let parts = doorkeeper::Parts {
        node: name,
        directory,
        prefix,
        line: line.clone(),
        estate: Arc::new(Transactions::new(Arc::new(store.client()), kinds, owners, number)),
        frontends: Arc::new(Hall(room.clone())),
        per_second: 200,
        spread: number,
        counts: Counts::new(&metrics),
    };
    tasks.spawn(doorkeeper::serve(parts, || true));
    Gate { tasks, line, scribe }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(LONG, waiting).await.is_ok(), "this never came true: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_etcd_the_order_outlives_doorkeeper_compaction_and_pause() {
    let etcd = EtcdServer::start().await;
    let (store, room) = (MemoryStore::new(), Arc::new(AtomicU32::new(0)));
    let gates = [gate(&etcd, &store, &room, 1).await, gate(&etcd, &store, &room, 2).await];
    until("both know the queue", async || gates.iter().all(|gate| gate.line.fresh())).await;
    let joins = (1..=PLAYERS).map(|player| {
        let session = Uuid::from_u128(player.into());
        let waiting = Waiting {
            session,
            player: ObjectId(player),
            class: Class::Arriving,
            number: 0,
            island: None,
            at: (1, 0, 0),
        };
        gates[player as usize % 2].scribe.join(waiting)
    });
    assert!(join_all(joins).await.into_iter().all(|joined| joined.is_ok()));
    let tasks = Tasks::real();
    let client = etcd.directory(&tasks).await;
    let begin = prefix(&District::new("etcd", "main"));
    let (entries, revision) = client.list(&begin).await.unwrap();
    let mut view = View::new(&begin);
    view.adopt(&entries, revision, Instant::now());
    let order: Vec<ObjectId> = view.heads(usize::MAX).into_iter().map(|(waiting, ..)| waiting.player).collect();
    assert_eq!(order.len() as u64, PLAYERS);
    until("both know all", async || gates.iter().all(|gate| gate.line.view().len() as u64 == PLAYERS)).await;
    sleep(Duration::from_millis(300)).await;
    for gate in &gates {
        let placed: Vec<u32> =
            order.iter().map(|player| gate.line.view().place(*player).map_or(0, |place| place.place)).collect();
        assert!(placed.into_iter().eq(1..=PLAYERS as u32), "true places everywhere");
    }

    let mut watch = client.watch(&format!("{begin}waiting/"), revision + 1).await.unwrap();
    let mut gone: Vec<(Revision, ObjectId)> = Vec::new();
    room.store(u32::MAX, Ordering::SeqCst);
    let mut troubled = false;
    while (gone.len() as u64) < PLAYERS {
        match timeout(LONG, watch.recv()).await.expect("it goes on") {
            Some(WatchEvent::Deleted { key, revision }) => {
                gone.push((revision, ObjectId(key.rsplit('/').next().unwrap().parse().unwrap())));
            }
            Some(WatchEvent::Put(_)) => {}
            other => panic!("{other:?}"),
        }
        if gone.len() > 300 && !std::mem::replace(&mut troubled, true) {
            let (entries, _) = client.list(&format!("{begin}doorkeeper")).await.unwrap();
            let text = String::from_utf8_lossy(&entries[0].value).into_owned();
            gates[usize::from(text.contains("gateway-2"))].tasks.stop();
            etcd.compact().await;
            etcd.pause().await;
            sleep(Duration::from_secs(2)).await;
            etcd.resume();
        }
    }
    let rank = |player: &ObjectId| order.iter().position(|one| one == player).unwrap();
    let mut ranks: Vec<(Revision, usize)> = gone.iter().map(|(revision, player)| (*revision, rank(player))).collect();
    ranks.sort_unstable();
    assert!(ranks.iter().map(|(_, rank)| *rank).eq(0..PLAYERS as usize), "out of order: {ranks:?}");
    let documents = store.snapshot().into_keys().filter(|key| key.starts_with("session/")).count();
    assert_eq!(documents as u64, PLAYERS, "each is let in once");
    gates.iter().for_each(|gate| gate.tasks.stop());
    tasks.stop();
}
