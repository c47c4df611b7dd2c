//! The islands of a node: which there are, where they belong, and what their land is like.
//!
//! Packages of kind `stable` are islands from the start, even without a directory. Packages of kind `unstable` are
//! templates: islands made from them come and go by the records in the directory, which every node follows
//! ([`follower`]). What is known at a moment is a [`Chart`]: a value that never changes; a change makes a new one, and
//! whoever watches is told. An island NEVER changes its land, and a number is NEVER used for two islands.

pub mod follower;
pub mod record;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use cartographer::geometry::IslandId;
use cartographer::terrain::{Stability, Terrain};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};

use crate::world_loop::Input;
use record::{IslandRecord, IslandState};

/// The folder's name, looked for where people run the program and beside an installed binary.
const FOLDER: &str = "islands";

/// All islands that a node knows. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Archipelago {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    packages: Arc<Packages>,
    district: String,
    chart: watch::Sender<Arc<Chart>>,
}

/// The terrain packages that were opened.
#[derive(Debug, Default)]
struct Packages {
    /// Islands that last, by their number.
    stable: BTreeMap<IslandId, Arc<Terrain>>,
    /// What islands that come and go are made from, by name.
    templates: BTreeMap<String, Arc<Terrain>>,
}

/// What is known of the islands at one moment.
#[derive(Debug, Default)]
pub struct Chart {
    all: Arc<Vec<Arc<Terrain>>>,
    own: FxHashMap<IslandId, Arc<Terrain>>,
    elsewhere: FxHashMap<IslandId, Arc<Terrain>>,
    records: Arc<BTreeMap<IslandId, IslandRecord>>,
}

impl Chart {
    /// An island of this node's district.
    pub fn get(&self, id: IslandId) -> Option<&Arc<Terrain>> {
        self.own.get(&id)
    }

    /// An island of any district whose package this node has.
    pub fn known(&self, id: IslandId) -> Option<&Arc<Terrain>> {
        self.own.get(&id).or_else(|| self.elsewhere.get(&id))
    }

    /// The islands of this node's district, by rising number.
    pub fn all(&self) -> &Arc<Vec<Arc<Terrain>>> {
        &self.all
    }

    /// The record of an island of any district.
    pub fn record(&self, id: IslandId) -> Option<&IslandRecord> {
        self.records.get(&id)
    }

    /// All records, of all districts.
    pub fn records(&self) -> &Arc<BTreeMap<IslandId, IslandRecord>> {
        &self.records
    }

    /// Whether somebody may arrive on this island now: it is of this district and not sinking.
    pub fn takes_arrivals(&self, id: IslandId) -> bool {
        self.own.contains_key(&id) && self.record(id).is_none_or(|record| record.state != IslandState::Sinking)
    }
}

impl Archipelago {
    /// The islands of these packages, for a node of no district yet: see [`Archipelago::of_district`].
    pub fn new(packages: impl IntoIterator<Item = Arc<Terrain>>) -> Archipelago {
        let mut opened = Packages::default();
        for package in packages {
            match package.stability() {
                Stability::Stable => drop(opened.stable.insert(package.id(), package)),
                Stability::Unstable => drop(opened.templates.insert(package.name().to_owned(), package)),
            }
        }
        Archipelago::with(Arc::new(opened), String::new())
    }

    /// The same packages as a node of this district knows them. What it learns from now on is its own.
    pub fn of_district(&self, district: &str) -> Archipelago {
        Archipelago::with(self.shared.packages.clone(), district.to_owned())
    }

    fn with(packages: Arc<Packages>, district: String) -> Archipelago {
        let chart = packages.chart(&district, Arc::default(), &Chart::default());
        Archipelago { shared: Arc::new(Shared { packages, district, chart: watch::Sender::new(Arc::new(chart)) }) }
    }

    /// What is known now.
    pub fn chart(&self) -> Arc<Chart> {
        self.shared.chart.borrow().clone()
    }

    /// An island of this node's district.
    pub fn get(&self, id: IslandId) -> Option<Arc<Terrain>> {
        self.shared.chart.borrow().get(id).cloned()
    }

    /// The islands of this node's district, by rising number.
    pub fn all(&self) -> Arc<Vec<Arc<Terrain>>> {
        self.shared.chart.borrow().all.clone()
    }

    /// Those of them that last.
    pub fn lasting(&self) -> Vec<Arc<Terrain>> {
        self.all().iter().filter(|it| it.stability() == Stability::Stable).cloned().collect()
    }

    /// All records of all districts.
    pub fn records(&self) -> Arc<BTreeMap<IslandId, IslandRecord>> {
        self.shared.chart.borrow().records.clone()
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<Arc<Chart>> {
        self.shared.chart.subscribe()
    }

    /// Where an island belongs. Islands without a record belong to this node's district, if they are known at all.
    pub fn district_of(&self, id: IslandId) -> Option<String> {
        let chart = self.shared.chart.borrow();
        let recorded = chart.record(id).map(|record| record.district.clone());
        recorded.or_else(|| chart.get(id).map(|_| self.shared.district.clone()))
    }

    /// This node's district.
    pub fn district(&self) -> &str {
        &self.shared.district
    }

    /// Packages of kind `stable`: the islands that last, wherever they belong.
    pub fn stable_packages(&self) -> impl Iterator<Item = &Arc<Terrain>> {
        self.shared.packages.stable.values()
    }

    /// Packages that islands which come and go are made from, by name.
    pub fn templates(&self) -> &BTreeMap<String, Arc<Terrain>> {
        &self.shared.packages.templates
    }

    /// Takes these records for the truth. Only [`follower`] and tests call this.
    pub fn adopt(&self, records: BTreeMap<IslandId, IslandRecord>) {
        let Shared { packages, district, chart } = &*self.shared;
        chart.send_if_modified(|chart| {
            let news = *chart.records != records;
            if news {
                *chart = Arc::new(packages.chart(district, Arc::new(records), chart));
            }
            news
        });
    }
}

impl Packages {
    /// What these records mean to a node of this district. Islands that were there before stay the same values.
    fn chart(&self, district: &str, records: Arc<BTreeMap<IslandId, IslandRecord>>, before: &Chart) -> Chart {
        let recorded_elsewhere = |id| records.get(id).is_some_and(|record| record.district != district);
        let stable = |here: bool| {
            let known = self.stable.iter().filter(move |(id, _)| recorded_elsewhere(id) != here);
            known.map(|(id, terrain)| (*id, terrain.clone()))
        };
        let (mut own, mut elsewhere): (FxHashMap<_, _>, FxHashMap<_, _>) =
            (stable(true).collect(), stable(false).collect());
        for (id, record) in &*records {
            if self.stable.contains_key(id) {
                continue;
            }
            let Some(template) = self.templates.get(&record.template) else { continue };
            let known = before.known(*id).cloned();
            let terrain = known.unwrap_or_else(|| Arc::new(template.instance(*id, record.title.clone())));
            let group = if record.district == district { &mut own } else { &mut elsewhere };
            group.insert(*id, terrain);
        }
        let mut all: Vec<Arc<Terrain>> = own.values().cloned().collect();
        all.sort_by_key(|terrain| terrain.id());
        Chart { all: Arc::new(all), own, elsewhere, records }
    }
}

/// Keeps a world's islands like the archipelago's. `added` are those that the world has already.
pub async fn keep_world<I: Send>(islands: Archipelago, added: Arc<Vec<Arc<Terrain>>>, world: mpsc::Sender<Input<I>>) {
    let mut changes = islands.changes();
    let mut has: BTreeMap<IslandId, ()> = added.iter().map(|terrain| (terrain.id(), ())).collect();
    loop {
        let chart = changes.borrow_and_update().clone();
        let gone: Vec<IslandId> = has.keys().filter(|id| chart.get(**id).is_none()).copied().collect();
        for id in gone {
            has.remove(&id);
            if world.send(Input::RemoveIsland(id)).await.is_err() {
                return;
            }
        }
        for terrain in chart.all().iter() {
            if has.insert(terrain.id(), ()).is_none()
                && world.send(Input::AddIsland(terrain.id(), terrain.clone())).await.is_err()
            {
                return;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Opens all packages of `folder`, or of the usual one. Any that cannot be used is an error that names it.
pub fn open(folder: Option<&Path>) -> anyhow::Result<Archipelago> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => usual_folder()?,
    };
    let terrains = cartographer::terrain::open_folder(&folder)
        .with_context(|| format!("could not open the islands in {}", folder.display()))?;
    if !terrains.iter().any(|terrain| terrain.stability() == Stability::Stable) {
        bail!(
            "no terrain package (.tmx or .tmj) of kind stable in {}: put one there, or name another folder by --islands",
            folder.display()
        );
    }
    Ok(Archipelago::new(terrains.into_iter().map(Arc::new)))
}

fn usual_folder() -> anyhow::Result<PathBuf> {
    let beside_binary = std::env::current_exe().ok().and_then(|exe| {
        let prefix = exe.parent()?.parent()?;
        Some(prefix.join("share/wildmesh").join(FOLDER))
    });
    let candidates: Vec<PathBuf> = std::iter::once(PathBuf::from(FOLDER)).chain(beside_binary).collect();
    match candidates.iter().find(|c| c.is_dir()) {
        Some(found) => Ok(found.clone()),
        None => bail!(
            "no folder of islands at {}: run from the repository, or name one by --islands",
            candidates.iter().map(|c| c.display().to_string()).collect::<Vec<_>>().join(" or ")
        ),
    }
}
