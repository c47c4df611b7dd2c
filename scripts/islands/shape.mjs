// The shape of an island: from coastlines to land, sea, distances and heights on a grid of tiles. Everything here is plain
// arithmetic (no sine, no exponential, no clock, no Math.random), so that every machine computes the same bits.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { feature } from 'topojson-client';

/** A hash of two whole numbers and a seed: 32 even bits. */
export function hash(x, y, seed) {
  let h = Math.imul(x | 0, 0x27d4eb2d) ^ Math.imul(y | 0, 0x165667b1) ^ Math.imul(seed | 0, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The same as a fraction of 1. */
export const chance = (x, y, seed) => hash(x, y, seed) / 4294967296;

/** Sixteen directions of about equal length, in whole numbers. */
const DIRECTIONS = [[5, 0], [4, 2], [4, 3], [2, 4], [0, 5], [-2, 4], [-4, 3], [-4, 2],
  [-5, 0], [-4, -2], [-4, -3], [-2, -4], [0, -5], [2, -4], [4, -3], [4, -2]];

/** Smooth noise around 0, about -1 to 1, with features about one unit wide (gradient noise, Perlin 2002). */
export function noise(x, y, seed) {
  const x0 = Math.floor(x), y0 = Math.floor(y), dx = x - x0, dy = y - y0;
  const fade = (t) => t * t * t * (t * (t * 6 - 15) + 10);
  const u = fade(dx), v = fade(dy);
  const at = (cx, cy) => {
    const [gx, gy] = DIRECTIONS[hash(x0 + cx, y0 + cy, seed) >>> 28];
    return (gx * (dx - cx) + gy * (dy - cy)) / 3.2;
  };
  const a = at(0, 0), b = at(1, 0), c = at(0, 1), d = at(1, 1);
  const top = a + (b - a) * u, bottom = c + (d - c) * u;
  return top + (bottom - top) * v;
}

/** Noise of several octaves, each turned against the last; features up to `size` tiles wide. */
export function fractal(x, y, size, octaves, seed) {
  return octavesOf(x, y, size, octaves, seed, (n) => n);
}

/** The same with sharp crests, 0 to 1: mountains with ridges and valleys. */
export function ridged(x, y, size, octaves, seed) {
  return octavesOf(x, y, size, octaves, seed, (n) => (1 - Math.abs(n)) * (1 - Math.abs(n)));
}

function octavesOf(x, y, size, octaves, seed, shaped) {
  let sum = 0, amplitude = 1, total = 0;
  [x, y] = [(0.8 * x + 0.6 * y) / size, (0.8 * y - 0.6 * x) / size];
  for (let i = 0; i < octaves; i++) {
    sum += amplitude * shaped(noise(x, y, seed + i * 101));
    total += amplitude;
    amplitude /= 2;
    [x, y] = [1.6 * x + 1.2 * y + 17.31, -1.2 * x + 1.6 * y - 9.77];
  }
  return sum / total;
}

/** Every outer ring of the world's land, [longitude, latitude] pairs. */
export function coastlines() {
  const file = createRequire(import.meta.url).resolve('world-atlas/land-10m.json');
  const atlas = JSON.parse(readFileSync(file, 'utf8'));
  const land = feature(atlas, atlas.objects.land);
  const geometries = land.type === 'FeatureCollection' ? land.features.map((f) => f.geometry) : [land.geometry];
  return geometries.flatMap((g) => (g.type === 'Polygon' ? [g.coordinates] : g.coordinates)).map((rings) => rings[0]);
}

/** Cuts the corners of a ring, so that its straight pieces become curves (Chaikin's rule), several times. */
function rounded(ring, times) {
  for (; times > 0; times--) {
    const next = [];
    for (let i = 0; i < ring.length; i++) {
      const [ax, ay] = ring[i], [bx, by] = ring[(i + 1) % ring.length];
      next.push([ax * 0.75 + bx * 0.25, ay * 0.75 + by * 0.25], [ax * 0.25 + bx * 0.75, ay * 0.25 + by * 0.75]);
    }
    ring = next;
  }
  return ring;
}

/** The land of `rings` (in tiles) on a grid of twice the size, by the even-odd rule. */
function filled(rings, width, height) {
  const mask = new Uint8Array(width * height * 4);
  for (let y = 0; y < height * 2; y++) {
    const at = (y + 0.5) / 2;
    for (const ring of rings) {
      const cuts = [];
      for (let i = 0; i < ring.length; i++) {
        const [ax, ay] = ring[i], [bx, by] = ring[(i + 1) % ring.length];
        if (ay > at !== by > at) cuts.push(ax + ((bx - ax) * (at - ay)) / (by - ay));
      }
      cuts.sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        const from = Math.max(0, Math.ceil(cuts[i] * 2 - 0.5)), to = Math.min(width * 2 - 1, Math.floor(cuts[i + 1] * 2 - 0.5));
        for (let x = from; x <= to; x++) mask[y * width * 2 + x] ^= 1;
      }
    }
  }
  return mask;
}

/** For each tile the distance in tiles to the nearest one where `mask` is `value`
 *  (exact; Felzenszwalb and Huttenlocher 2012). */
export function distance(mask, value, width, height) {
  const far = 1e12, field = new Float64Array(width * height);
  for (let i = 0; i < field.length; i++) field[i] = mask[i] === value ? 0 : far;
  const longest = Math.max(width, height);
  const f = new Float64Array(longest), v = new Int32Array(longest), z = new Float64Array(longest + 1);
  const pass = (start, step, n) => {
    for (let i = 0; i < n; i++) f[i] = field[start + i * step];
    let k = 0;
    v[0] = 0; z[0] = -far; z[1] = far;
    for (let q = 1; q < n; q++) {
      let s;
      do {
        const p = v[k];
        s = (f[q] + q * q - (f[p] + p * p)) / (2 * q - 2 * p);
      } while (s <= z[k] && --k >= 0);
      v[++k] = q; z[k] = s; z[k + 1] = far;
    }
    k = 0;
    for (let q = 0; q < n; q++) {
      while (z[k + 1] < q) k++;
      field[start + q * step] = (q - v[k]) * (q - v[k]) + f[v[k]];
    }
  };
  for (let x = 0; x < width; x++) pass(x, width, height);
  for (let y = 0; y < height; y++) pass(y * width, 1, width);
  return Float32Array.from(field, Math.sqrt);
}

/** Numbers each connected piece (by edges) of the tiles where `inside(i)` holds: [numbers, sizes]; 0 is outside. */
export function pieces(inside, width, height) {
  const number = new Int32Array(width * height), sizes = [0], stack = [];
  for (let start = 0; start < number.length; start++) {
    if (number[start] || !inside(start)) continue;
    const mine = sizes.length;
    let size = 0;
    number[start] = mine;
    stack.push(start);
    while (stack.length) {
      const i = stack.pop(), x = i % width;
      size++;
      for (const j of [x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1, i - width, i + width]) {
        if (j >= 0 && j < number.length && !number[j] && inside(j)) {
          number[j] = mine;
          stack.push(j);
        }
      }
    }
    sizes.push(size);
  }
  return [number, sizes];
}

/** Land (1) and sea (0) of one island and its neighbours on a grid of tiles, and the way from degrees to tiles. */
export function coast(island, rings) {
  const { width, height, seed } = island;
  const near = rings.filter((ring) => ring.every(([lon, lat]) =>
    Math.abs(lon - island.centre[0]) < island.span && Math.abs(lat - island.centre[1]) < island.span));
  const flat = near.map((ring) => ring.slice(0, -1).map(([lon, lat]) => [lon * island.shrink, -lat]));
  const xs = flat.flat().map((p) => p[0]), ys = flat.flat().map((p) => p[1]);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const margin = island.margin;
  const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
  const toTile = ([x, y]) =>
    [(x - (left + right) / 2) * scale + width / 2, (y - (top + bottom) / 2) * scale + height / 2];
  const mask2 = filled(flat.map((ring) => rounded(ring.map(toTile), 2)), width, height);
  const land = new Uint8Array(width * height);
  const wild = island.ragged;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const wx = x + 0.5 + wild * fractal(x, y, wild * 5, 5, seed + 1);
      const wy = y + 0.5 + wild * fractal(x, y, wild * 5, 5, seed + 2);
      const sx = Math.floor(wx * 2), sy = Math.floor(wy * 2);
      if (sx >= 0 && sy >= 0 && sx < width * 2 && sy < height * 2) land[y * width + x] = mask2[sy * width * 2 + sx];
    }
  }
  const [islets, isletSizes] = pieces((i) => land[i] === 1, width, height);
  for (let i = 0; i < land.length; i++) if (isletSizes[islets[i]] < 30) land[i] = 0;
  const [waters, waterSizes] = pieces((i) => land[i] === 0, width, height);
  for (let i = 0; i < land.length; i++) if (land[i] === 0 && waterSizes[waters[i]] < 30) land[i] = 1;
  return { land, scale, tileOf: ([lon, lat]) => toTile([lon * island.shrink, -lat]) };
}

/** The height of the land, 0 at the shore to about 1 at the highest peak. */
export function heights(island, shape, inland) {
  const { width, height, seed } = island;
  const peaks = island.peaks.map((peak) => {
    const line = peak.at.map(shape.tileOf);
    return { ...peak, line: line.length > 1 ? line : [line[0], line[0]] };
  });
  const field = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x, shore = inland[i];
      if (shore === 0) continue;
      const bx = x + 16 * fractal(x, y, 60, 4, seed + 11), by = y + 16 * fractal(x, y, 60, 4, seed + 12);
      let rise = island.base * (shore / (shore + 40));
      for (const peak of peaks) {
        let nearest = Infinity;
        for (let k = 0; k + 1 < peak.line.length; k++) nearest = Math.min(nearest, toSegment(bx, by, peak.line[k], peak.line[k + 1]));
        const d = nearest / (peak.radius * width);
        rise += peak.height / ((1 + d * d) * (1 + d * d));
      }
      const rough = 0.42 + 0.95 * ridged(bx, by, island.ridges, 5, seed + 21);
      field[i] = Math.max(0, rise) * rough * (shore / (shore + island.shoulder));
    }
  }
  return field;
}

function toSegment(x, y, [ax, ay], [bx, by]) {
  const length = (bx - ax) ** 2 + (by - ay) ** 2;
  const t = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length));
  const dx = x - ax - t * (bx - ax), dy = y - ay - t * (by - ay);
  return Math.sqrt(dx * dx + dy * dy);
}
