//! The objects drawn on a map: habitats, spawn points and harbours.

use std::path::Path;

use super::draft::{Corner, Layer, Object, property};
use super::error::{Reason, TerrainError};
use super::survey::Extent;
use super::{Habitat, Harbour, Land, Spawn};
use crate::geometry::{Place, Tile, UNITS_PER_TILE};

/// Corners of a habitat, at most.
const MAX_CORNERS: usize = 1024;
/// How far from its point a spawn may spread arrivals, in tiles.
const MAX_SPREAD_TILES: u16 = 64;
/// How many animals a habitat may have.
const MAX_ANIMALS: u16 = 1000;
/// How far a harbour may be from the water, in tiles.
const HARBOUR_TO_WATER_TILES: u16 = 4;

/// Turns pixels into places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) tile_width: u32,
    pub(super) tile_height: u32,
    pub(super) extent: Extent,
}

impl Grid {
    /// The place of this pixel; nothing off the map.
    fn place(&self, x: f64, y: f64) -> Option<Place> {
        let units = |pixels: f64, tile: u32, origin: i32, tiles: u16| {
            let units = ((pixels / f64::from(tile) - f64::from(origin)) * f64::from(UNITS_PER_TILE)).round();
            let end = f64::from(tiles) * f64::from(UNITS_PER_TILE);
            (units >= 0.0 && units <= end).then_some(units as i32)
        };
        Some(Place {
            x: units(x, self.tile_width, self.extent.x, self.extent.width)?,
            y: units(y, self.tile_height, self.extent.y, self.extent.height)?,
        })
    }
}

/// Reads the objects of one layer into the terrain, whose ground MUST be complete.
pub(super) fn read(file: &Path, name: &str, layer: &Layer, grid: Grid, land: &mut Land) -> Result<(), TerrainError> {
    for object in &layer.objects {
        let checked = match object.class.as_str() {
            "spawn" => spawn(object, grid, land).map(|spawn| land.spawns.push(spawn)),
            "harbour" => harbour(object, grid, land).map(|harbour| land.harbours.push(harbour)),
            "habitat" => habitat(object, grid).map(|habitat| land.habitats.push(habitat)),
            _ => Err("is none of spawn, harbour and habitat by its class".to_owned()),
        };
        checked.map_err(|problem| {
            let object = format!("{} ({:?} of class {:?})", object.id, object.name, object.class);
            TerrainError::in_layer(file, name, Reason::Object { object, problem })
        })?;
    }
    Ok(())
}

type Check<T> = Result<T, String>;

fn spawn(object: &Object, grid: Grid, land: &Land) -> Check<Spawn> {
    let (place, _) = dry_point(object, grid, land)?;
    let spread_tiles = number(object, "spread", 0, MAX_SPREAD_TILES)?;
    Ok(Spawn { name: object.name.clone(), place, spread_tiles })
}

fn harbour(object: &Object, grid: Grid, land: &Land) -> Check<Harbour> {
    let (place, tile) = dry_point(object, grid, land)?;
    let reach = |at: u16| at.saturating_sub(HARBOUR_TO_WATER_TILES)..=at.saturating_add(HARBOUR_TO_WATER_TILES);
    let wet = |x, y| land.kind_at(Tile::new(x, y)).is_some_and(|kind| kind.water);
    if reach(tile.y).any(|y| reach(tile.x).any(|x| wet(x, y))) {
        Ok(Harbour { name: object.name.clone(), place })
    } else {
        Err(format!("has no water within {HARBOUR_TO_WATER_TILES} tiles"))
    }
}

/// The place of a point on which one can stand, and its tile.
fn dry_point(object: &Object, grid: Grid, land: &Land) -> Check<(Place, Tile)> {
    plain(object)?;
    if object.polygon.is_some() || object.ellipse || object.width != 0.0 || object.height != 0.0 {
        return Err("is not a point".to_owned());
    }
    let place = grid.place(object.x, object.y).filter(|place| place.is_within(land.size));
    let (Some(place), Some(tile)) = (place, place.and_then(Place::tile)) else {
        return Err("lies outside the map".to_owned());
    };
    match land.kind_at(tile) {
        Some(kind) if kind.water => Err(format!("lies on water ({}, tile {tile})", kind.name)),
        Some(kind) if !land.is_walkable(tile) => {
            Err(format!("lies where one cannot walk ({}, tile {tile})", kind.name))
        }
        _ => Ok((place, tile)),
    }
}

fn habitat(object: &Object, grid: Grid) -> Check<Habitat> {
    plain(object)?;
    let species = property(&object.properties, "species").and_then(|value| value.as_text()).unwrap_or("").trim();
    if species.is_empty() {
        return Err("has no string property \"species\"".to_owned());
    }
    if object.ellipse || object.point {
        return Err("is neither a rectangle nor a polygon".to_owned());
    }
    let corners = outline(object, grid)?;
    let along =
        |of: fn(&Place) -> i32| (corners.iter().map(of).min().unwrap_or(0), corners.iter().map(of).max().unwrap_or(0));
    let ((left, right), (top, bottom)) = (along(|p| p.x), along(|p| p.y));
    if left >= right || top >= bottom {
        return Err("has no area".to_owned());
    }
    Ok(Habitat {
        name: object.name.clone(),
        species: species.to_owned(),
        animals: number(object, "animals", 1, MAX_ANIMALS)?.max(1),
        bounds: (Place::new(left, top), Place::new(right, bottom)),
        corners: corners.into(),
    })
}

fn outline(object: &Object, grid: Grid) -> Check<Vec<Place>> {
    let (width, height) = (object.width, object.height);
    let rectangle = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)].map(|(x, y)| Corner { x, y });
    let corners = object.polygon.as_deref().unwrap_or(&rectangle);
    if corners.len() < 3 || corners.len() > MAX_CORNERS {
        return Err(format!("has {} corners; 3 to {MAX_CORNERS} make a habitat", corners.len()));
    }
    let place = |corner: &Corner| grid.place(object.x + corner.x, object.y + corner.y);
    corners.iter().map(place).collect::<Option<_>>().ok_or_else(|| "lies outside the map".to_owned())
}

/// Refuses what no object of ours may be.
fn plain(object: &Object) -> Check<()> {
    let problem = if object.template.is_some() {
        "is made from a template; detach it"
    } else if object.rotation != 0.0 {
        "is turned; draw it as a polygon instead"
    } else if object.gid.is_some() || object.text.is_some() || object.polyline.is_some() || object.capsule {
        "is a tile, a text, a line or a capsule"
    } else {
        return Ok(());
    };
    Err(problem.to_owned())
}

/// An int property within 0 and `most`; `default` where it is not set.
fn number(object: &Object, name: &str, default: u16, most: u16) -> Check<u16> {
    let Some(value) = property(&object.properties, name) else { return Ok(default) };
    let number = value.as_int().and_then(|int| u16::try_from(int).ok()).filter(|&number| number <= most);
    number.ok_or_else(|| format!("has a property {name:?} that is no int from 0 to {most}"))
}
