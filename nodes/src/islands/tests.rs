//! Tests of the archipelago, and of following the directory's records into it.

use std::time::Duration;

use mesh::directory::Directory;
use mesh::directory::memory::MemoryDirectory;
use mesh::registry::District;
use mesh::tasks::Tasks;

use super::record::{IslandKind, prefix};
use super::*;

/// The record of an unstable island made from the bundled template.
pub(super) fn record(id: u32, district: &str) -> IslandRecord {
    IslandRecord {
        id: IslandId(id),
        title: format!("Island {id}"),
        template: "santorini".to_owned(),
        district: district.to_owned(),
        kind: IslandKind::Unstable,
        state: IslandState::Open,
        born_s: 1,
        ends_s: 2,
        size: (1, 1),
        harbours: Vec::new(),
    }
}

/// Two stable islands and a template called `santorini`.
fn archipelago() -> Archipelago {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
    let opened = open(Some(&folder)).expect("the islands that come with Wildmesh");
    let package = |name: &str| opened.stable_packages().find(|it| it.name() == name).expect("it is there").clone();
    let mut packages = Packages::default();
    for name in ["jeju", "oahu"] {
        packages.stable.insert(package(name).id(), package(name));
    }
    packages.templates.insert("santorini".to_owned(), package("santorini"));
    Archipelago::with(Arc::new(packages), "main".to_owned())
}

fn ids(islands: &Archipelago) -> Vec<u32> {
    islands.all().iter().map(|terrain| terrain.id().0).collect()
}

fn records(list: &[IslandRecord]) -> BTreeMap<IslandId, IslandRecord> {
    list.iter().map(|record| (record.id, record.clone())).collect()
}

#[test]
fn islands_that_last_are_there_without_records_and_others_come_and_go_with_theirs() {
    let islands = archipelago();
    let lasting = ids(&islands);
    assert_eq!(lasting.len(), 2);
    assert_eq!(islands.district_of(IslandId(lasting[0])).as_deref(), Some("main"));
    islands.adopt(records(&[record(900, "main"), record(901, "south")]));
    assert_eq!(ids(&islands), [lasting[0], lasting[1], 900]);
    let first = islands.get(IslandId(900)).expect("it is ours");
    assert_eq!((first.title(), first.name()), ("Island 900", "santorini"));
    assert!(islands.get(IslandId(901)).is_none(), "it is served elsewhere");
    assert!(islands.chart().known(IslandId(901)).is_some());
    assert_eq!(islands.district_of(IslandId(901)).as_deref(), Some("south"));
    islands.adopt(records(&[record(900, "main"), record(902, "main")]));
    assert!(Arc::ptr_eq(&first, &islands.get(IslandId(900)).expect("still there")), "an island stays the same value");
    let sinking = IslandRecord { state: IslandState::Sinking, ..record(902, "main") };
    islands.adopt(records(&[sinking]));
    assert!(islands.get(IslandId(900)).is_none());
    assert!(!islands.chart().takes_arrivals(IslandId(902)) && islands.chart().takes_arrivals(IslandId(lasting[0])));
    let unknown = IslandRecord { template: "atlantis".to_owned(), ..record(903, "main") };
    islands.adopt(records(&[unknown]));
    assert_eq!(ids(&islands), lasting, "what has no package here cannot be served");
}

#[test]
fn an_island_that_lasts_belongs_where_its_record_says() {
    let islands = archipelago();
    let moved = islands.all()[0].clone();
    islands.adopt(records(&[IslandRecord::new(&moved, "south", 1, 0)]));
    assert!(islands.get(moved.id()).is_none() && islands.chart().known(moved.id()).is_some());
    assert_eq!(islands.of_district("south").all().len(), 2, "another node's knowledge is its own");
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_what_was_written_while_its_watch_was_lost() {
    let tasks = Tasks::simulated();
    let server = MemoryDirectory::start(&tasks, 1);
    let (client, district) = (Arc::new(server.client()), District::new("c", "main"));
    let islands = archipelago();
    let lasting = ids(&islands);
    tasks.spawn(follower::follow(client.clone(), prefix(&district), islands.clone()));
    let mut changes = islands.changes();
    let write = async |id: u32| {
        client.put(&record::key(&district, IslandId(id)), &record(id, "main").to_bytes(), None).await.expect("written")
    };
    write(900).await;
    let has = |id: u32| move |chart: &Arc<Chart>| chart.get(IslandId(id)).is_some();
    changes.wait_for(has(900)).await.expect("told");
    server.end_watches();
    write(901).await;
    client.delete(&record::key(&district, IslandId(900)), None).await.expect("removed");
    tokio::time::timeout(Duration::from_secs(60), changes.wait_for(has(901))).await.expect("in time").expect("told");
    tokio::time::timeout(Duration::from_secs(60), changes.wait_for(|chart| chart.get(IslandId(900)).is_none()))
        .await
        .expect("in time")
        .expect("told");
    assert_eq!(ids(&islands), [lasting[0], lasting[1], 901]);
    tasks.stop();
}
