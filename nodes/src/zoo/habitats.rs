//! Habitats: which of them are watched, which cells they are about, and which zoo looks after them.
//!
//! Which zoo that is, is a preference by rendezvous hashing; the claim of the habitat's post decides. The zoo that would be
//! next keeps watching, so that it knows where the animals are should the first one die. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cartographer::geometry::{Cell, IslandId, Place};
use cartographer::ground::Ground;
use cartographer::terrain::{Habitat, Terrain};
use mesh::NodeId;

use crate::rendezvous::choose;

/// Cells around a habitat from which it is seen, and that it sees.
const MARGIN: u16 = 1;

/// A habitat, by its island and its index in the island's terrain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HabitatId {
    /// The island.
    pub island: IslandId,
    /// The index in [`Terrain::habitats`].
    pub index: u16,
}

impl fmt::Display for HabitatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.island.0, self.index)
    }
}

impl HabitatId {
    /// What zoos are chosen by.
    pub(super) fn bytes(self) -> Vec<u8> {
        [b"habitat".as_slice(), &self.island.0.to_be_bytes(), &self.index.to_be_bytes()].concat()
    }
}

/// Columns and rows, first and last, of the cells from which a habitat is seen.
fn rectangle(size: (u16, u16), habitat: &Habitat) -> ((u16, u16), (u16, u16)) {
    let along = |low: i32, high: i32, tiles: u16| {
        let last = i32::from(tiles.div_ceil(32).max(1)) - 1;
        let cell = |units: i32, by: i32| (units.div_euclid(Cell::UNITS) + by).clamp(0, last) as u16;
        (cell(low, -i32::from(MARGIN)), cell(high, i32::from(MARGIN)))
    };
    let (Place { x: left, y: top }, Place { x: right, y: bottom }) = habitat.bounds;
    (along(left, right, size.0), along(top, bottom, size.1))
}

/// The cells from which a habitat is seen, and which its animals see.
pub fn cells(terrain: &Terrain, id: HabitatId) -> Vec<Cell> {
    let Some(habitat) = terrain.habitats().get(usize::from(id.index)) else { return Vec::new() };
    let (x, y) = rectangle(terrain.size(), habitat);
    (y.0..=y.1).flat_map(|cy| (x.0..=x.1).map(move |cx| Cell::new(id.island, cx, cy))).collect()
}

/// The habitats that are seen from these cells.
pub fn watched(seen: &BTreeSet<Cell>, terrain: impl Fn(IslandId) -> Option<Arc<Terrain>>) -> BTreeSet<HabitatId> {
    let mut watched = BTreeSet::new();
    let mut next = seen.first().copied();
    while let Some(Cell { island, .. }) = next {
        let ashore = terrain(island);
        let habitats = ashore.iter().flat_map(|terrain| terrain.habitats().iter().map(|it| (terrain.size(), it)));
        for ((size, habitat), index) in habitats.zip(0_u16..) {
            let (x, y) = rectangle(size, habitat);
            let column = |cx: u16| Cell::new(island, cx, y.0)..=Cell::new(island, cx, y.1);
            if (x.0..=x.1).any(|cx| seen.range(column(cx)).next().is_some()) {
                watched.insert(HabitatId { island, index });
            }
        }
        next = island.0.checked_add(1).and_then(|n| seen.range(Cell::new(IslandId(n), 0, 0)..).next()).copied();
    }
    watched
}

/// A zoo's part in a habitat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It looks after it.
    First,
    /// It would, if the first one were not.
    Second,
}

/// The part of `me` in each of the habitats in which it has one; `zoos` are all that are up, with `me`.
pub fn parts(watched: &BTreeSet<HabitatId>, zoos: &[NodeId], me: &NodeId) -> BTreeMap<HabitatId, Part> {
    let mut parts = BTreeMap::new();
    for id in watched {
        let key = id.bytes();
        let Some(first) = choose(&key, zoos) else { continue };
        if first == me {
            parts.insert(*id, Part::First);
        } else if choose(&key, zoos.iter().filter(|zoo| *zoo != first)) == Some(me) {
            parts.insert(*id, Part::Second);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoos(count: usize) -> Vec<NodeId> {
        (0..count).map(|i| NodeId::new(&format!("zoo-{i}")).expect("a name")).collect()
    }

    #[test]
    fn each_habitat_has_one_first_zoo_and_one_second_which_becomes_the_first_when_that_is_gone() {
        let all: BTreeSet<HabitatId> = (0..200).map(|index| HabitatId { island: IslandId(3), index }).collect();
        let zoos = zoos(4);
        let by_zoo: Vec<BTreeMap<HabitatId, Part>> = zoos.iter().map(|me| parts(&all, &zoos, me)).collect();
        for id in &all {
            for part in [Part::First, Part::Second] {
                assert_eq!(by_zoo.iter().filter(|parts| parts.get(id) == Some(&part)).count(), 1, "{id}: {part:?}");
            }
        }
        // The first zoo dies.
        let left = &zoos[1..];
        for (me, before) in left.iter().zip(&by_zoo[1..]) {
            let after = parts(&all, left, me);
            for id in by_zoo[0].iter().filter(|(_, part)| **part == Part::First).map(|(id, _)| id) {
                assert_eq!(after.get(id) == Some(&Part::First), before.get(id) == Some(&Part::Second), "{id}");
            }
        }
    }

    #[test]
    fn a_habitat_is_watched_from_its_cells_and_those_around_it() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
        let terrains = cartographer::terrain::open_folder(folder).expect("the islands that come with Wildmesh");
        for terrain in terrains.into_iter().map(Arc::new) {
            let island = terrain.id();
            let find = |wanted: IslandId| (wanted == island).then(|| terrain.clone());
            let size = terrain.size();
            let all = (0..size.1.div_ceil(32)).flat_map(|y| (0..size.0.div_ceil(32)).map(move |x| (x, y)));
            let mut by_cell: BTreeMap<HabitatId, BTreeSet<Cell>> = BTreeMap::new();
            for (x, y) in all {
                let cell = Cell::new(island, x, y);
                for id in watched(&BTreeSet::from([cell, Cell::new(IslandId(9_999), 0, 0)]), find) {
                    by_cell.entry(id).or_default().insert(cell);
                }
            }
            assert_eq!(by_cell.len(), terrain.habitats().len(), "{}", terrain.name());
            for (id, from) in by_cell {
                assert_eq!(from, cells(&terrain, id).into_iter().collect(), "{id}");
                let bounds = terrain.habitats()[usize::from(id.index)].bounds;
                assert!(from.contains(&bounds.0.cell(island).expect("a cell")));
            }
        }
    }
}
