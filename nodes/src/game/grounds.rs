//! The terrain packages as land operations see them: what one can build on, and what grows there by nature.
//!
//! Answers come from the packages that a node has opened; those about one island NEVER change. One can build wherever one can
//! stand: not in water, and not on rocks.

use std::sync::Arc;

use cartographer::geometry::{IslandId, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::land::Grounds;

use crate::islands::Archipelago;

/// The islands of a node, those that appear later included.
#[derive(Clone, Debug)]
pub struct Terrains {
    islands: Archipelago,
}

impl Terrains {
    /// These islands.
    pub fn new(islands: &Archipelago) -> Terrains {
        Terrains { islands: islands.clone() }
    }

    fn get(&self, island: IslandId) -> Option<Arc<Terrain>> {
        self.islands.get(island)
    }
}

impl Grounds for Terrains {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        Some(self.get(island)?.size())
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        let terrain = self.get(island);
        // A bridge is a kind of ground that is water and can be walked on.
        terrain.is_some_and(|it| it.walkable(tile) && it.kind_at(tile).is_some_and(|kind| !kind.water))
    }

    fn natural(&self, island: IslandId, tile: Tile) -> u32 {
        let number = self.get(island).and_then(|terrain| terrain.natural_at(tile));
        number.map_or(0, number_of)
    }
}

/// The number of a natural object in deeds: its tile's id, but for the first tile of a tileset, because 0 is none in a deed.
fn number_of(tile_id: u16) -> u32 {
    if tile_id == 0 { FIRST_TILE } else { u32::from(tile_id) }
}

/// Beyond every id that a tile can have.
const FIRST_TILE: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cartographer::geometry::TILES_PER_CHUNK;
    use estate::land::deed::{self, Stand};
    use estate::land::footprint::tile_in_chunk;

    use super::*;

    fn all() -> (Vec<Arc<Terrain>>, Terrains) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
        let islands = crate::islands::open(Some(&folder)).expect("the islands that come with Wildmesh");
        (islands.all().to_vec(), Terrains::new(&islands))
    }

    #[test]
    fn a_real_island_can_be_built_on_where_one_can_stand_and_nowhere_else() {
        let (terrains, grounds) = all();
        for terrain in &terrains {
            let (island, size) = (terrain.id(), grounds.size(terrain.id()).expect("it is there"));
            assert_eq!(size, terrain.size());
            let tiles = || (0..size.1).flat_map(move |y| (0..size.0).map(move |x| Tile::new(x, y)));
            let buildable = tiles().filter(|tile| grounds.buildable(island, *tile)).count();
            assert_eq!(buildable, terrain.walkable_tiles(), "{}: no bridges yet", terrain.name());
            assert!(buildable > 0 && buildable < tiles().count(), "{} has land and water", terrain.name());
            let naturals = tiles().filter(|tile| grounds.natural(island, *tile) != 0).count();
            assert_eq!(naturals, terrain.natural_count(), "{}", terrain.name());
            let spawn = terrain.spawns()[0].place.tile().expect("a tile");
            assert!(grounds.buildable(island, spawn));
            for off in [Tile::new(size.0, 0), Tile::new(0, size.1), Tile::new(u16::MAX, u16::MAX)] {
                assert!(!grounds.buildable(island, off) && grounds.natural(island, off) == 0);
            }
        }
    }

    #[test]
    fn the_deeds_of_an_island_are_born_with_all_that_grows_there() {
        let (terrains, grounds) = all();
        let terrain = &terrains[0];
        let (island, (width, height)) = (terrain.id(), terrain.size());
        let mut grown = 0;
        for y in 0..height.div_ceil(TILES_PER_CHUNK) {
            for x in 0..width.div_ceil(TILES_PER_CHUNK) {
                let chunk = cartographer::geometry::Chunk { island, x, y };
                let deed = deed::born(&grounds, chunk).expect("a chunk of the island");
                grown += deed.stands.len();
                for (index, stand) in &deed.stands {
                    let tile = tile_in_chunk(chunk, *index).expect("a tile");
                    let number = terrain.natural_at(tile).expect("something grows there");
                    assert_eq!(*stand, Stand::Natural(u32::from(number)), "{tile}");
                }
            }
        }
        assert_eq!(grown, terrain.natural_count());
    }

    #[test]
    fn no_island_and_no_natural_object_is_taken_for_another() {
        let (_, grounds) = all();
        let nowhere = IslandId(9_999);
        assert_eq!(grounds.size(nowhere), None);
        assert!(!grounds.buildable(nowhere, Tile::new(0, 0)) && grounds.natural(nowhere, Tile::new(0, 0)) == 0);
        let numbers: std::collections::BTreeSet<u32> = (0..=u16::MAX).map(number_of).collect();
        assert_eq!((numbers.len(), numbers.first()), (1 << 16, Some(&1)));
    }
}
