//! The islands in `islands/`: they open, make sense, and mean to us what they mean to the editor's own library.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cartographer::geometry::{IslandId, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::{Stability, Terrain, open_folder};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands")
}

fn islands() -> &'static [Terrain] {
    static ISLANDS: OnceLock<Vec<Terrain>> = OnceLock::new();
    ISLANDS.get_or_init(|| open_folder(folder()).expect("the islands that come with Wildmesh open"))
}

fn tiles(terrain: &Terrain) -> impl Iterator<Item = Tile> + use<> {
    let (width, height) = terrain.size();
    (0..height).flat_map(move |y| (0..width).map(move |x| Tile::new(x, y)))
}

/// All tiles that one can walk to from here, over edges.
fn reachable(terrain: &Terrain, start: Tile) -> BTreeSet<Tile> {
    let mut reached = BTreeSet::from([start]);
    let mut open = vec![start];
    while let Some(Tile { x, y }) = open.pop() {
        for (x, y) in [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)] {
            let next = Tile::new(x, y);
            if terrain.walkable(next) && reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

#[test]
fn at_least_four_islands_of_different_sizes_open_with_their_names() {
    let islands = islands();
    let names: Vec<(u32, &str, &str)> = islands.iter().map(|i| (i.id().0, i.name(), i.title())).collect();
    let expected = [
        (1, "jeju", "Jeju"),
        (2, "oahu", "Oʻahu"),
        (3, "santorini", "Santorini"),
        (4, "ulleung", "Ulleung"),
        (5, "tristan", "Tristan"),
        (6, "rapanui", "Rapa Nui"),
    ];
    assert_eq!(names, expected);
    let sizes: BTreeSet<(u16, u16)> = islands.iter().map(Terrain::size).collect();
    assert_eq!(sizes.len(), islands.len());
    assert!(sizes.iter().all(|(width, height)| (256..=2048).contains(width) && (192..=2048).contains(height)));
    assert!(islands.iter().any(|i| i.stability() == Stability::Stable));
    assert!(islands.iter().any(|i| i.stability() == Stability::Unstable));
    let bytes: u64 = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 1_500_000, "{bytes} bytes in git");
}

#[test]
fn every_island_has_the_shares_of_sea_and_land_of_an_island() {
    for island in islands() {
        let all = tiles(island).count();
        let mut counts = BTreeMap::new();
        tiles(island).for_each(|tile| *counts.entry(island.kind_at(tile).unwrap().name.as_str()).or_insert(0) += 1);
        let of = |name: &str| f64::from(counts.get(name).copied().unwrap_or(0)) / all as f64;
        let title = island.title();
        let water = of("deep_water") + of("shallow_water");
        assert!((0.4..0.8).contains(&water), "{title}: water {water}");
        assert!(island.walkable_tiles() as f64 / all as f64 > 0.9 * (1.0 - water), "{title}: too much that is no way");
        for kind in ["shallow_water", "beach", "grass", "meadow", "forest", "rock", "cliff"] {
            assert!(of(kind) > 0.0005, "{title}: {kind} {}", of(kind));
        }
        let (width, height) = island.size();
        let border = tiles(island).filter(|t| t.x == 0 || t.y == 0 || t.x == width - 1 || t.y == height - 1);
        assert!(border.into_iter().all(|tile| !island.walkable(tile)), "{title}: land at the edge of the map");
    }
}

#[test]
fn one_can_walk_from_every_spawn_to_every_other_and_to_the_harbour() {
    for island in islands() {
        let title = island.title();
        assert!(island.spawns().len() >= 6 && island.harbours().len() == 1, "{title}");
        let reached = reachable(island, island.spawns()[0].place.tile().unwrap());
        assert!(
            reached.len() as f64 > 0.9 * island.walkable_tiles() as f64,
            "{title}: the mainland is {} tiles",
            reached.len()
        );
        let marks = island.spawns().iter().map(|s| s.place).chain(island.harbours().iter().map(|h| h.place));
        for place in marks {
            assert!(reached.contains(&place.tile().unwrap()), "{title}: {place:?}");
        }
        for bits in 0..5000u64 {
            let tile = island.arrival(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15)).tile().unwrap();
            assert!(reached.contains(&tile), "{title}: somebody arrives at {tile}");
        }
        let meadow = &island.spawns()[0];
        assert!(meadow.name == "village meadow" && meadow.spread_tiles >= 8, "{title}");
        let green = tiles(island).filter(|t| t.centre().reach(meadow.place) < 9 * 256 && island.walkable(*t)).count();
        assert!(green > 250, "{title}: the meadow has room on {green} tiles");
    }
}

#[test]
fn natural_objects_are_sparse_named_and_stand_on_land() {
    for island in islands() {
        let title = island.title();
        let (width, height) = island.size();
        let all: Vec<(Tile, u16)> = island.naturals_within(Tile::new(0, 0), Tile::new(width, height)).collect();
        assert_eq!(all.len(), island.natural_count(), "{title}");
        let per_tile = all.len() as f64 / island.walkable_tiles() as f64;
        assert!((0.02..0.25).contains(&per_tile), "{title}: {per_tile} on a tile of land");
        for (tile, number) in all {
            assert_eq!(island.natural_at(tile), Some(number));
            assert!(island.natural_name(number).is_some(), "{title}: {number} has no name");
            assert!(!island.kind_at(tile).unwrap().water, "{title}: {tile}");
        }
    }
}

#[test]
fn habitats_lie_on_ground_where_their_animals_can_stand() {
    for island in islands() {
        assert!(island.habitats().len() >= 8, "{}", island.title());
        for habitat in island.habitats() {
            let (low, high) = habitat.bounds;
            let near = |t: &Tile| (low.x..high.x).contains(&t.centre().x) && (low.y..high.y).contains(&t.centre().y);
            let inside: Vec<Tile> = tiles(island).filter(|t| near(t) && habitat.contains(t.centre())).collect();
            let firm = inside.iter().filter(|&&tile| island.walkable(tile)).count();
            assert!(
                firm > 30 && firm * 3 > inside.len(),
                "{}: {habitat:?}: {firm} of {}",
                island.title(),
                inside.len()
            );
        }
    }
}

#[test]
fn the_library_of_the_editor_reads_the_same_island() {
    for island in islands() {
        let path = folder().join(format!("{}.tmx", island.name()));
        if !path.exists() {
            continue; // The library reads no .tmj; `forms` shows that both forms are one.
        }
        let map = tiled::Loader::new().load_tmx_map(path).unwrap();
        let (width, height) = island.size();
        assert_eq!((map.width, map.height), (u32::from(width), u32::from(height)));
        let layer = |name: &str| map.layers().find(|l| l.name == name).and_then(tiled::Layer::as_tile_layer).unwrap();
        let (ground, naturals) = (layer("ground"), layer("naturals"));
        for tile in tiles(island) {
            let (x, y) = (i32::from(tile.x), i32::from(tile.y));
            let theirs = ground.get_tile(x, y).unwrap().get_tile().unwrap();
            assert_eq!(island.kind_at(tile).unwrap().name, theirs.user_type);
            assert_eq!(
                Some(&tiled::PropertyValue::BoolValue(island.walkable(tile))),
                theirs.properties.get("walkable")
            );
            assert_eq!(island.natural_at(tile).map(u32::from), naturals.get_tile(x, y).map(|tile| tile.id()));
        }
        let objects = |class: &str| {
            let layers = map.layers().filter_map(tiled::Layer::as_object_layer);
            layers.flat_map(|layer| layer.objects()).filter(|object| object.user_type == class).count()
        };
        assert_eq!(objects("habitat"), island.habitats().len());
        assert_eq!(objects("spawn"), island.spawns().len());
        assert_eq!(objects("harbour"), island.harbours().len());
    }
}

#[test]
fn a_picture_shows_the_sea_blue_and_the_land_not_at_every_scale() {
    let island = islands().last().unwrap();
    let (width, _) = island.size();
    for scale in [f32::NAN, f32::NEG_INFINITY, 0.0, 1e-9, 0.1, 0.37, 1.0, 3.0] {
        let picture = island.picture(scale);
        assert_eq!(picture.rgb.len(), (picture.width * picture.height * 3) as usize);
        assert!(picture.width >= 1 && picture.height >= 1);
        if (0.1..=3.0).contains(&scale) {
            assert_eq!(picture.width, (f32::from(width) * scale).round() as u32);
            let is_blue = |x: u32, y: u32| {
                let at = ((y * picture.width + x) * 3) as usize;
                picture.rgb[at + 2] > picture.rgb[at + 1]
            };
            let (middle_x, middle_y) = (picture.width / 2, picture.height / 2);
            assert!(
                is_blue(0, 0) && is_blue(picture.width - 1, middle_y) && !is_blue(middle_x, middle_y),
                "scale {scale}"
            );
        }
        assert_eq!(picture, island.picture(scale), "the same map gives the same picture");
    }
}

#[test]
fn another_island_with_the_same_map_shares_the_land() {
    let terrain = &islands()[0];
    let copies: Vec<Terrain> = (0..1_000).map(|n| terrain.instance(IslandId(1_000_000 + n), "Twin")).collect();
    let twin = &copies[7];
    assert_eq!((twin.id(), twin.title(), twin.name()), (IslandId(1_000_007), "Twin", terrain.name()));
    assert_eq!(
        twin.naturals_within(Tile::new(0, 0), Tile::new(64, 64)).count(),
        terrain.naturals_within(Tile::new(0, 0), Tile::new(64, 64)).count()
    );
    // Habitats lie at the same address: the land is there once.
    assert!(std::ptr::eq(twin.habitats(), terrain.habitats()) && !twin.habitats().is_empty());
}
