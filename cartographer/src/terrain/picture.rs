//! Draws an island as a picture: soft colours from the tileset, relief from the distance to the coast and the roughness of
//! the ground, a sea that deepens away from the shore.
//!
//! A pure function of the map; the encoding (PNG) is the caller's. Memory and time are bounded whatever scale is asked for.

use super::Terrain;
use super::relief::{Field, coast_distance};
use crate::geometry::Tile;

/// Pixels along each side of a picture, at most.
pub const MAX_PICTURE_PIXELS: u32 = 4096;
/// Larger islands are drawn from every second or fourth tile.
const MAX_GRID: usize = 4 << 20;

type Rgb = [f32; 3];

/// The sea far from any shore, and the white of the surf.
const ABYSS: Rgb = [56.0, 113.0, 156.0];
const SURF: Rgb = [236.0, 246.0, 240.0];
/// The colour of ground whose tileset names none.
const NEUTRAL: Rgb = [170.0, 170.0, 160.0];
/// The distance from the coast, in tiles, over which the sea deepens and the land rises.
const DEEPENING: f32 = 64.0;
const RISING: f32 = 26.0;

/// A picture without an encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels along x.
    pub width: u32,
    /// Pixels along y.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    pub rgb: Vec<u8>,
}

impl Terrain {
    /// The map as a picture of `scale` pixels per tile; less than 1 makes it smaller than the map. Any number will do:
    /// each side has 1 to [`MAX_PICTURE_PIXELS`] pixels.
    pub fn picture(&self, scale: f32) -> Picture {
        let (tiles_x, tiles_y) = self.land.size;
        let longest = f32::from(tiles_x.max(tiles_y));
        let wanted = if scale.is_nan() { 1.0 } else { scale };
        let scale = wanted.clamp(1.0 / longest, MAX_PICTURE_PIXELS as f32 / longest);
        let pixels = |tiles: u16| ((f32::from(tiles) * scale).round() as u32).clamp(1, MAX_PICTURE_PIXELS);
        let (width, height) = (pixels(tiles_x), pixels(tiles_y));
        let sheet = Sheet::of(self);
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        // More than one sample per pixel when shrinking, so that nothing small flickers in and out.
        let samples = ((1.0 / scale) / sheet.step as f32).ceil().clamp(1.0, 8.0) as u32;
        for y in 0..height {
            for x in 0..width {
                let mut sum = [0.0; 3];
                for n in 0..samples * samples {
                    let along = |pixel: u32, part: u32, of: u32, tiles: u16| {
                        (pixel as f32 + (part as f32 + 0.5) / samples as f32) / of as f32 * f32::from(tiles)
                    };
                    let at = (along(x, n % samples, width, tiles_x), along(y, n / samples, height, tiles_y));
                    let colour = sheet.colour(at.0, at.1, scale);
                    sum = [0, 1, 2].map(|c| sum[c] + colour[c]);
                }
                rgb.extend(sum.map(|value| (value / (samples * samples) as f32).clamp(0.0, 255.0) as u8));
            }
        }
        Picture { width, height, rgb }
    }
}

/// The fields from which colours are taken, at one value per tile (or per `step` tiles).
struct Sheet {
    step: u16,
    /// 1 on land, 0 on water, with softened coasts.
    land: Field,
    /// The colours of the land, spread a little beyond its coast, and of the sea.
    ground: [Field; 3],
    sea: [Field; 3],
    /// How bright the light falls: 1 on even ground.
    light: Field,
}

impl Sheet {
    fn of(terrain: &Terrain) -> Sheet {
        let tiles = terrain.land.ground.len();
        let step = (1..).find(|step| tiles / (step * step) <= MAX_GRID).unwrap_or(1) as u16;
        let (width, height) =
            (terrain.land.size.0.div_ceil(step) as usize, terrain.land.size.1.div_ceil(step) as usize);
        let tile = |i: usize| Tile::new((i % width) as u16 * step, (i / width) as u16 * step);
        let is_land = |i: usize| terrain.kind_at(tile(i)).is_some_and(|kind| !kind.water);
        let mask = Field::new(width, height, |i| if is_land(i) { 1.0 } else { 0.0 });
        let coast = coast_distance(&mask, f32::from(step));
        let colours: Vec<Rgb> =
            terrain.land.kinds.iter().map(|kind| kind.colour.map_or(NEUTRAL, |c| c.map(f32::from))).collect();
        let colour = |i: usize| {
            let kind = terrain.land.ground.get(terrain.land.index(tile(i)).unwrap_or(0)).copied().unwrap_or(0);
            let base = colours.get(usize::from(kind)).copied().unwrap_or(NEUTRAL);
            if mask[i] > 0.5 { land_colour(terrain, tile(i), base) } else { sea_colour(base, -coast[i]) }
        };
        let painted: Vec<Rgb> = (0..width * height).map(colour).collect();
        let channel = |c: usize, on_land: bool, radius: usize| {
            let here = |i: usize| (mask[i] > 0.5) == on_land;
            let weight = Field::new(width, height, |i| if here(i) { 1.0 } else { 0.0 }).blurred(radius).blurred(radius);
            let sum = Field::new(width, height, |i| if here(i) { painted[i][c] } else { 0.0 })
                .blurred(radius)
                .blurred(radius);
            Field::new(width, height, |i| if weight[i] > 1e-4 { sum[i] / weight[i] } else { painted[i][c] })
        };
        Sheet {
            step,
            ground: [0, 1, 2].map(|c| channel(c, true, 1)),
            sea: [0, 1, 2].map(|c| channel(c, false, 3)),
            light: light(terrain, &mask, &coast, &tile),
            land: mask.blurred(1),
        }
    }

    /// The colour at this point, in tiles.
    fn colour(&self, x: f32, y: f32, scale: f32) -> Rgb {
        let (x, y) = (x / f32::from(self.step) - 0.5, y / f32::from(self.step) - 0.5);
        let land = self.land.at(x, y);
        let edge = (0.4 / scale).clamp(0.08, 0.4);
        let cover = smooth((land - 0.5 + edge) / (2.0 * edge));
        let surf = 0.55 * smooth(land / 0.5) * (1.0 - cover);
        let light = self.light.at(x, y);
        let ground = [0, 1, 2].map(|c| self.ground[c].at(x, y) * light);
        let sea = [0, 1, 2].map(|c| self.sea[c].at(x, y));
        mix(mix(sea, SURF, surf), ground, cover)
    }
}

/// The colour of a land tile: its kind's with a slight grain; what grows there shows as darker dots.
fn land_colour(terrain: &Terrain, tile: Tile, base: Rgb) -> Rgb {
    let grain = 0.97 + 0.06 * grain(tile);
    let grown = if terrain.natural_at(tile).is_some() { 0.86 } else { 1.0 };
    base.map(|value| value * grain * grown)
}

/// The colour of the sea at this distance from the shore, in tiles: deeper, and with two faint waterlines.
fn sea_colour(base: Rgb, offshore: f32) -> Rgb {
    let deep = mix(base, ABYSS, 0.9 * smooth(offshore / DEEPENING));
    let line = |at: f32| 0.13 * (1.0 - ((offshore - at).abs() / 1.4).min(1.0));
    mix(deep, SURF, line(14.0).max(0.6 * line(24.0)))
}

/// Light from the upper left on land that rises from its coast, higher where it is rocky or wooded.
fn light(terrain: &Terrain, mask: &Field, coast: &Field, tile: &dyn Fn(usize) -> Tile) -> Field {
    let rough: Vec<f32> = terrain.land.kinds.iter().map(|kind| roughness(&kind.name)).collect();
    let bump = |i: usize| {
        let kind = terrain.land.index(tile(i)).and_then(|index| terrain.land.ground.get(index)).copied().unwrap_or(0);
        rough.get(usize::from(kind)).copied().unwrap_or(0.0)
    };
    let dome = Field::new(mask.width, mask.height, |i| 9.0 * (coast[i].max(0.0) / RISING).min(4.0).sqrt())
        .blurred(5)
        .blurred(5);
    let broad = Field::new(mask.width, mask.height, bump).blurred(7).blurred(7);
    let fine = Field::new(mask.width, mask.height, |i| bump(i) + 0.8 * grain(tile(i))).blurred(1);
    let height =
        Field::new(mask.width, mask.height, |i| dome[i] + 2.4 * broad[i] + 0.55 * fine[i] + 2.6 * hills(tile(i)));
    Field::new(mask.width, mask.height, |i| {
        let (dx, dy) = height.slope(i);
        let facing = (dx + dy) * 0.20;
        1.0 + 0.26 * (facing / (1.0 + facing.abs())) + 0.007 * (height[i] - 9.0).clamp(-9.0, 9.0)
    })
}

/// Gentle hills, 0 to 1, about twenty tiles wide: values on a lattice, joined smoothly.
fn hills(tile: Tile) -> f32 {
    const WIDE: u16 = 22;
    let corner = |dx: u16, dy: u16| grain(Tile::new(tile.x / WIDE + dx, tile.y / WIDE + dy));
    let (u, v) =
        (smooth(f32::from(tile.x % WIDE) / f32::from(WIDE)), smooth(f32::from(tile.y % WIDE) / f32::from(WIDE)));
    let top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * u;
    let bottom = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * u;
    top + (bottom - top) * v
}

/// How far a kind of ground stands out of the land, by the usual names; others lie flat.
fn roughness(kind: &str) -> f32 {
    match kind {
        "cliff" => 7.0,
        "rock" => 5.0,
        "forest" => 2.2,
        _ => 0.0,
    }
}

/// A number from 0 to 1 that looks random.
fn grain(tile: Tile) -> f32 {
    (super::mixed(u64::from(tile.x) << 16 | u64::from(tile.y)) >> 40) as f32 / (1 << 24) as f32
}

fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|c| from[c] + (to[c] - from[c]) * share)
}

/// From 0 to 1 with soft ends.
fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
