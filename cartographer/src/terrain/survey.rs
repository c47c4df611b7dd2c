//! Turns the draft of a map into a terrain, or says which layer is wrong and why.

use std::collections::BTreeSet;
use std::path::Path;

use super::data::{Encoding, tile_numbers};
use super::draft::{self, Chunk, Data, Draft, Layer, property};
use super::error::{Reason, TerrainError};
use super::marks::{self, Grid};
use super::naturals::Naturals;
use super::tilesets::{Palette, Shelf};
use super::{Land, Stability, Terrain};
use crate::geometry::{IslandId, MAX_ISLAND_TILES, Tile};

/// Layers of a map, at most: they bound the time a small file can take.
const MAX_LAYERS: usize = 64;
/// The longest title, in bytes.
const MAX_TITLE_BYTES: usize = 128;
/// Tiles that all chunks of a layer may have together.
const MAX_CHUNK_TILES: u64 = MAX_ISLAND_TILES as u64 * MAX_ISLAND_TILES as u64;

/// The part of the editor's plane that is the island, in tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: u16,
    pub(super) height: u16,
}

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Ground,
    Naturals,
    Marks,
    Decoration,
}

/// A layer with its full name.
struct Named {
    name: String,
    of: Use,
    layer: Layer,
}

/// Checks everything and builds the terrain.
pub(super) fn terrain(file: &Path, name: String, mut draft: Draft, shelf: &mut Shelf) -> Result<Terrain, TerrainError> {
    let refused = |reason| TerrainError::new(file, reason);
    if draft.orientation != "orthogonal" {
        return Err(refused(Reason::Orientation(draft.orientation)));
    }
    if draft.tilewidth == 0 || draft.tileheight == 0 {
        return Err(refused(Reason::Format("its tiles have no size in pixels".to_owned())));
    }
    let (id, title, stability) = describe(&draft).map_err(refused)?;
    let layers = named_layers(file, std::mem::take(&mut draft.layers))?;
    let extent = extent(&draft, &layers).map_err(refused)?;
    let palette = Palette::open(file, std::mem::take(&mut draft.tilesets), shelf)?;
    let size = (extent.width, extent.height);
    let mut land = Land::at_sea(name, stability, size);
    let mut objects = Vec::new();
    for Named { name, of, layer } in layers {
        let in_layer = |reason| TerrainError::in_layer(file, &name, reason);
        match of {
            Use::Ground => ground(&draft, extent, layer, &palette, &mut land).map_err(in_layer)?,
            Use::Naturals => naturals(&draft, extent, layer, &palette, &mut land).map_err(in_layer)?,
            Use::Marks => objects.push((name, layer)),
            Use::Decoration => {}
        }
    }
    land.kinds = palette.into_kinds().into();
    let grid = Grid { tile_width: draft.tilewidth, tile_height: draft.tileheight, extent };
    for (name, layer) in &objects {
        marks::read(file, name, layer, grid, &mut land)?;
    }
    if land.spawns.is_empty() {
        return Err(refused(Reason::NoSpawn));
    }
    Ok(Terrain { id, title, land: land.into() })
}

/// The island's number, title and stability, from the map's properties.
fn describe(draft: &Draft) -> Result<(IslandId, String, Stability), Reason> {
    let get = |name| property(&draft.properties, name);
    let wrong = |name, problem: &str| Reason::Property { name, problem: problem.to_owned() };
    let id = get("island").ok_or_else(|| wrong("island", "is missing: the number of the island"))?;
    let id = id.as_int().and_then(|id| u32::try_from(id).ok()).filter(|&id| id > 0);
    let id = id.ok_or_else(|| wrong("island", "is no int from 1 to 4294967295"))?;
    let title = get("title").and_then(|title| title.as_text()).unwrap_or("").trim();
    if title.is_empty() || title.len() > MAX_TITLE_BYTES {
        return Err(wrong("title", &format!("is no text of 1 to {MAX_TITLE_BYTES} bytes")));
    }
    let stability = match get("kind").map(draft::Value::as_text) {
        None | Some(Some("stable")) => Stability::Stable,
        Some(Some("unstable")) => Stability::Unstable,
        Some(_) => return Err(wrong("kind", "is neither \"stable\" nor \"unstable\"")),
    };
    Ok((IslandId(id), title.to_owned(), stability))
}

/// All layers that are not groups, bottom to top, each with its use; names are unique.
fn named_layers(file: &Path, layers: Vec<Layer>) -> Result<Vec<Named>, TerrainError> {
    let mut flat = Vec::new();
    flatten("", layers, &mut flat);
    if flat.len() > MAX_LAYERS {
        return Err(TerrainError::new(file, Reason::TooManyLayers { limit: MAX_LAYERS }));
    }
    let (mut names, mut has_ground, mut has_naturals) = (BTreeSet::new(), false, false);
    let mut named = Vec::new();
    for (name, layer) in flat {
        let refused = |reason| TerrainError::in_layer(file, &name, reason);
        let of = layer_use(&layer).map_err(refused)?;
        let twice = !names.insert(name.clone()) || (of == Use::Naturals && has_naturals);
        has_ground |= of == Use::Ground;
        has_naturals |= of == Use::Naturals;
        if twice && of != Use::Decoration {
            return Err(refused(Reason::DuplicateLayer));
        }
        let moved = layer.offsetx != 0.0 || layer.offsety != 0.0;
        if moved && of != Use::Decoration {
            return Err(refused(Reason::Offset));
        }
        named.push(Named { name, of, layer });
    }
    if has_ground { Ok(named) } else { Err(TerrainError::new(file, Reason::NoGround)) }
}

fn flatten(prefix: &str, layers: Vec<Layer>, flat: &mut Vec<(String, Layer)>) {
    for mut layer in layers {
        if flat.len() > MAX_LAYERS {
            return;
        }
        let name = format!("{prefix}{}", layer.name);
        let inner = std::mem::take(&mut layer.layers);
        if layer.kind == "group" { flatten(&format!("{name}/"), inner, flat) } else { flat.push((name, layer)) }
    }
}

fn layer_use(layer: &Layer) -> Result<Use, Reason> {
    let word = if layer.class.is_empty() { &layer.name } else { &layer.class };
    match (layer.kind.as_str(), word.as_str()) {
        ("imagelayer", _) | (_, "decor") => Ok(Use::Decoration),
        ("objectgroup", _) => Ok(Use::Marks),
        ("tilelayer", "ground") => Ok(Use::Ground),
        ("tilelayer", "naturals") => Ok(Use::Naturals),
        ("tilelayer", _) => Err(Reason::UnknownUse),
        _ => Err(Reason::Format(format!("it has a layer of type {:?}", layer.kind))),
    }
}

/// The whole map; of an infinite one, the smallest rectangle around the chunks of its ground and naturals.
fn extent(draft: &Draft, layers: &[Named]) -> Result<Extent, Reason> {
    let (mut left, mut top) = (0, 0);
    let (mut right, mut bottom) = (i64::from(draft.width), i64::from(draft.height));
    if draft.infinite {
        let chunks = || {
            let drawn = layers.iter().filter(|named| matches!(named.of, Use::Ground | Use::Naturals));
            drawn.flat_map(|named| &named.layer.chunks)
        };
        left = chunks().map(|c| i64::from(c.x)).min().unwrap_or(0);
        top = chunks().map(|c| i64::from(c.y)).min().unwrap_or(0);
        right = chunks().map(|c| i64::from(c.x) + i64::from(c.width)).max().unwrap_or(0);
        bottom = chunks().map(|c| i64::from(c.y) + i64::from(c.height)).max().unwrap_or(0);
    }
    let (width, height) = (right - left, bottom - top);
    let fits = |tiles: i64| u16::try_from(tiles).ok().filter(|tiles| (1..=MAX_ISLAND_TILES).contains(tiles));
    match (fits(width), fits(height)) {
        (Some(width), Some(height)) => Ok(Extent { x: left as i32, y: top as i32, width, height }),
        _ => Err(Reason::Size { width: width.max(0) as u64, height: height.max(0) as u64 }),
    }
}

/// A rectangle of tile numbers; `x` and `y` are tiles of the island.
struct Patch {
    x: u16,
    y: u16,
    width: u16,
    data: Vec<u32>,
}

impl Patch {
    /// Its tiles that are not empty, row by row, with the map-wide number.
    fn tiles(&self) -> impl Iterator<Item = (Tile, u32)> {
        let rows = self.data.chunks_exact(usize::from(self.width)).zip(self.y..);
        rows.flat_map(move |(row, y)| {
            row.iter()
                .zip(self.x..)
                .filter(|&(&number, _)| number != 0)
                .map(move |(&number, x)| (Tile::new(x, y), number))
        })
    }
}

/// Calls `visit` for each rectangle of the layer, one decoded at a time.
fn each_patch(
    draft: &Draft,
    extent: Extent,
    layer: Layer,
    mut visit: impl FnMut(Patch) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let encoding = Encoding::of(layer.encoding.as_deref(), layer.compression.as_deref())?;
    if !draft.infinite {
        let (width, height, map_width, map_height) = (layer.width, layer.height, draft.width, draft.height);
        if (width, height) != (map_width, map_height) {
            return Err(Reason::LayerSize { width, height, map_width, map_height });
        }
        let expected = usize::from(extent.width) * usize::from(extent.height);
        let data = tile_numbers(layer.data, encoding, expected)?;
        return visit(Patch { x: 0, y: 0, width: extent.width, data });
    }
    let mut total = 0;
    for Chunk { x, y, width, height, data } in layer.chunks {
        let wrong = |problem: String| Reason::Chunk { x, y, problem };
        total += u64::from(width) * u64::from(height);
        if width == 0 || height == 0 || total > MAX_CHUNK_TILES {
            return Err(wrong(format!("of {width}×{height} tiles is empty or one too many")));
        }
        // The extent holds every chunk, so that what is left after subtracting it fits.
        let (left, top) = ((i64::from(x) - i64::from(extent.x)) as u16, (i64::from(y) - i64::from(extent.y)) as u16);
        let data: Option<Data> = data;
        let data = tile_numbers(data, encoding, width as usize * height as usize).map_err(|e| wrong(e.to_string()))?;
        visit(Patch { x: left, y: top, width: width as u16, data })?;
    }
    Ok(())
}

fn ground(draft: &Draft, extent: Extent, layer: Layer, palette: &Palette, land: &mut Land) -> Result<(), Reason> {
    each_patch(draft, extent, layer, |patch| {
        for (tile, number) in patch.tiles() {
            let Some((gid, slot)) = palette.look_up(number) else { continue };
            let slot = slot.ok_or(Reason::UnknownTile { tile, gid })?;
            let (kind, walkable) = slot.ground.map_err(|problem| {
                let tileset = palette.tileset(slot).to_owned();
                Reason::WrongTile { tile, id: u32::from(slot.id), tileset, problem }
            })?;
            land.set_ground(tile, kind, walkable);
        }
        Ok(())
    })
}

fn naturals(draft: &Draft, extent: Extent, layer: Layer, palette: &Palette, land: &mut Land) -> Result<(), Reason> {
    let mut found: Vec<(Tile, u16)> = Vec::new();
    let mut first = None;
    each_patch(draft, extent, layer, |patch| {
        for (tile, number) in patch.tiles() {
            let Some((gid, slot)) = palette.look_up(number) else { continue };
            let slot = slot.ok_or(Reason::UnknownTile { tile, gid })?;
            let one_tileset = palette.same_tileset(slot, first.get_or_insert(*slot));
            let several = Err("is not the tileset of the other natural objects, so that their numbers would clash");
            slot.natural.and(if one_tileset { Ok(()) } else { several }).map_err(|problem| {
                let tileset = palette.tileset(slot).to_owned();
                Reason::WrongTile { tile, id: u32::from(slot.id), tileset, problem }
            })?;
            found.push((tile, slot.id));
            if let Some(class) = palette.class(slot)
                && !land.natural_names.contains_key(&slot.id)
            {
                land.natural_names.insert(slot.id, class.to_owned());
            }
        }
        Ok(())
    })?;
    // Chunks come in any order; where two overlap, the later one counts, as for the ground.
    found.sort_by_key(|(tile, _)| (tile.y, tile.x));
    found.reverse();
    found.dedup_by_key(|(tile, _)| *tile);
    found.reverse();
    land.naturals = Naturals::new(extent.height, &found);
    Ok(())
}
