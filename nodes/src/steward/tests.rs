//! Tests of stewards over a memory directory and a memory store, on simulated time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::IslandId;
use estate::kinds;
use estate::store::memory::MemoryStore;
use estate::transaction::Transactions;
use mesh::directory::Directory;
use mesh::directory::memory::MemoryDirectory;
use mesh::record::PROTOCOL_VERSION;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::transport::memory::MemoryNetwork;
use mesh::{Inbox, Incarnation, NodeId, NodeRecord, Role};
use tokio::sync::watch;
use tokio::time::timeout;

use super::duty::{Duty, Parts};
use super::{WorldRules, book};
use crate::calendar::Calendar;
use crate::draining::Draining;
use crate::election;
use crate::game::grounds::Terrains;
use crate::islands::record::{self, IslandKind, IslandState};
use crate::islands::{self, Archipelago, Chart, follower};
use crate::owners::MeshOwners;

/// Everything that is waited for comes within this time, simulated.
const SOON: Duration = Duration::from_secs(600);

struct Stage {
    tasks: Tasks,
    network: MemoryNetwork,
    directory: MemoryDirectory,
    store: MemoryStore,
    calendar: Calendar,
    district: District,
    packages: Archipelago,
}

impl Stage {
    fn new() -> Stage {
        let tasks = Tasks::simulated();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
        Stage {
            network: MemoryNetwork::new(1),
            directory: MemoryDirectory::start(&tasks, 1),
            store: MemoryStore::new(),
            calendar: Calendar::beginning(1_800_000_000),
            district: District::new("c", "main"),
            packages: islands::open(Some(&folder)).expect("the islands that come with Wildmesh"),
            tasks,
        }
    }

    /// What a steward of this name is made from, once its node is registered.
    async fn parts(&self, name: &str, life: u64, rules: WorldRules) -> Parts {
        let transport = self.network.transport(name, &self.tasks);
        let record = NodeRecord {
            node: NodeId::new(name).expect("a name"),
            role: Role::Zoo,
            incarnation: Incarnation(life),
            publish: transport.endpoints.publish.clone(),
            request: transport.endpoints.request.clone(),
            public: None,
            version: "test".to_owned(),
            protocol: PROTOCOL_VERSION,
        };
        let config = mesh::Config {
            cluster: "c".to_owned(),
            district: "main".to_owned(),
            key: b"key".to_vec(),
            record,
            seed: life,
            lease_ttl_s: 5,
        };
        let directory: Arc<dyn Directory> = Arc::new(self.directory.client());
        let (mesh, Inbox { mut events, mut calls }) = mesh::start(config, transport, directory.clone(), &self.tasks);
        self.tasks.spawn(async move { while events.recv().await.is_some() {} });
        self.tasks.spawn(async move { while calls.recv().await.is_some() {} });
        timeout(SOON, mesh.registered()).await.expect("in time").expect("registered");
        let islands = self.packages.of_district("main");
        let owners = Arc::new(MeshOwners {
            mesh: mesh.clone(),
            directory: directory.clone(),
            district: self.district.clone(),
            hands: Arc::default(),
            looks: crate::owners::Looks::default(),
        });
        let kinds = kinds::all(Arc::new(Terrains::new(&islands))).beside(super::DOCUMENTS);
        let estate = Arc::new(Transactions::new(Arc::new(self.store.client()), kinds, owners.clone(), life));
        let report = watch::channel(Arc::default()).1;
        let (district, calendar) = (self.district.clone(), self.calendar);
        Parts {
            mesh,
            directory,
            district,
            estate,
            owners,
            islands,
            report,
            calendar,
            lease_ttl_s: 5,
            rules,
            draining: Draining::default(),
            resign: watch::channel(false).1,
        }
    }

    /// An archipelago that follows the directory.
    fn follow(&self) -> Archipelago {
        let islands = self.packages.of_district("main");
        let directory = Arc::new(self.directory.client());
        self.tasks.spawn(follower::follow(directory, record::prefix(&self.district), islands.clone()));
        islands
    }

    async fn book(&self) -> book::BookDocument {
        book::read(&self.store.client(), &book::key("main")).await.expect("readable")
    }
}

async fn until(changes: &mut watch::Receiver<Arc<Chart>>, what: &str, so: impl Fn(&Chart) -> bool) -> Arc<Chart> {
    let told = timeout(SOON, changes.wait_for(|chart| so(chart))).await;
    told.unwrap_or_else(|_| panic!("never: {what}")).expect("followed").clone()
}

fn unstable(chart: &Chart) -> Vec<(IslandId, IslandState)> {
    let records = chart.records().values().filter(|record| record.kind == IslandKind::Unstable);
    records.map(|record| (record.id, record.state)).collect()
}

#[tokio::test(start_paused = true)]
async fn two_stewards_of_one_moment_make_one_island() {
    let stage = Stage::new();
    let rules = WorldRules { islands_least: 1, ..WorldRules::default() };
    let mut duties = Vec::new();
    for (life, name) in [(1, "zoo-1"), (2, "zoo-2")] {
        let parts = stage.parts(name, life, rules.clone()).await;
        let directory = parts.directory.clone();
        // Each holds a key of its own: as though the directory had told both that they won.
        let term = election::stand(directory, &format!("/wildmesh/c/main/steward-{name}"), 60, b"").await;
        duties.push((Duty::new(parts), term.expect("answered").expect("won")));
    }
    let now_s = stage.calendar.now_s();
    let [(first, one), (second, two)] = duties.as_mut_slice() else { panic!("two") };
    for _ in 0..3 {
        let (a, b) = tokio::join!(first.round(one, now_s), second.round(two, now_s));
        a.expect("a round");
        b.expect("a round");
    }
    let book = stage.book().await;
    assert_eq!(book.islands.len(), 1, "{book:?}");
    let kept: BTreeSet<String> = stage.directory.peek("/wildmesh/c/islands/").into_iter().map(|it| it.key).collect();
    let lasting = stage.packages.stable_packages().count();
    assert_eq!(kept.len(), lasting + 1, "{kept:?}");
    stage.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn an_island_lives_is_warned_sinks_and_is_replaced_and_what_should_exist_comes_back() {
    let stage = Stage::new();
    let rules = WorldRules { islands_least: 1, islands_most: 4, ..WorldRules::with_life(Duration::from_secs(100)) };
    let parts = stage.parts("zoo-1", 1, rules).await;
    stage.tasks.spawn(super::serve(parts));
    let islands = stage.follow();
    let mut changes = islands.changes();
    let lasting = stage.packages.stable_packages().count();
    let made = |chart: &Chart| !unstable(chart).is_empty() && chart.records().len() == lasting + 1;
    let chart = until(&mut changes, "an island and the records of those that last", made).await;
    let (first, _) = unstable(&chart)[0];
    assert!(islands.get(first).is_some_and(|it| it.id() == first), "it is served");
    // Somebody takes records away: they come back, with the same numbers.
    let client = stage.directory.client();
    for id in [first, islands.lasting()[0].id()] {
        assert!(client.delete(&record::key(&stage.district, id), None).await.expect("removed"));
        until(&mut changes, "it is gone", |chart| chart.record(id).is_none()).await;
        until(&mut changes, "it is back", |chart| chart.record(id).is_some()).await;
    }
    // A record that no book knows goes.
    let stray = record::IslandRecord { id: IslandId(5_000_000), ..chart.record(first).expect("it").clone() };
    client.put(&record::key(&stage.district, stray.id), &stray.to_bytes(), None).await.expect("written");
    until(&mut changes, "the stray is seen", |chart| chart.record(stray.id).is_some()).await;
    until(&mut changes, "the stray is gone", |chart| chart.record(stray.id).is_none()).await;
    // Its life ends: warned, replaced, gone.
    let is = |id, state| move |chart: &Chart| chart.record(id).is_some_and(|record| record.state == state);
    until(&mut changes, "a warning", is(first, IslandState::Warned)).await;
    until(&mut changes, "another", |chart| unstable(chart).iter().any(|it| it.1 == IslandState::Open)).await;
    until(&mut changes, "its end", |chart| chart.record(first).is_none()).await;
    assert!(!stage.book().await.islands.contains_key(&first.0));
    stage.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn when_the_steward_dies_another_goes_on_with_the_same_islands() {
    let stage = Stage::new();
    let rules = WorldRules { islands_least: 2, animals_per_player: 1_000, ..WorldRules::default() };
    let first = stage.parts("zoo-1", 1, rules.clone()).await;
    let second = stage.parts("zoo-2", 2, rules).await;
    let islands = stage.follow();
    let mut changes = islands.changes();
    let ground = Tasks::simulated();
    ground.spawn(super::serve(first));
    let chart = until(&mut changes, "two islands", |chart| unstable(chart).len() == 2).await;
    ground.stop();
    let before: Vec<IslandId> = unstable(&chart).into_iter().map(|it| it.0).collect();
    stage.tasks.spawn(super::serve(second));
    let client = stage.directory.client();
    client.delete(&record::key(&stage.district, before[0]), None).await.expect("removed");
    until(&mut changes, "it is gone", |chart| unstable(chart).len() == 1).await;
    let chart = until(&mut changes, "the next steward mends it", |chart| unstable(chart).len() == 2).await;
    let after: Vec<IslandId> = unstable(&chart).into_iter().map(|it| it.0).collect();
    assert_eq!(before, after);
    stage.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_steward_that_dies_is_followed_within_its_lease_and_two_seconds() {
    let stage = Stage::new();
    let key = election::key(&stage.district, "steward");
    let client = stage.directory.client();
    let steward = async || {
        let entry = client.get(&key).await.expect("answered")?;
        serde_json::from_slice::<super::office::Office>(&entry.value).ok().map(|office| office.node)
    };
    let mut grounds = BTreeMap::new();
    for (life, name) in [(1, "zoo-1"), (250, "zoo-2"), (499, "zoo-3")] {
        let (parts, ground) = (stage.parts(name, life, WorldRules::default()).await, Tasks::simulated());
        ground.spawn(super::serve(parts));
        grounds.insert(name.to_owned(), ground);
    }
    for deaths in 1..=2 {
        let first = timeout(SOON, async {
            loop {
                match steward().await.filter(|node| grounds.contains_key(node)) {
                    Some(node) => break node,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        let first = first.await.expect("a steward");
        grounds.remove(&first).expect("it lives").stop();
        let began = tokio::time::Instant::now();
        while steward().await.is_none_or(|node| node == first) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(began.elapsed() < Duration::from_secs(5 + 2), "death {deaths}: nobody follows {first}");
        }
    }
    stage.tasks.stop();
}
