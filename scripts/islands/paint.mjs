// Paints the tileset's picture: one square of 16×16 pixels for each kind of ground and each natural object.

import { GROUND, NATURALS, NATURALS_FIRST } from './catalogue.mjs';
import { chance } from './shape.mjs';
import { TILE_PIXELS } from './write.mjs';

const COLUMNS = 8;

/** The picture of all tiles. */
export function paint() {
  const rows = Math.ceil((NATURALS_FIRST + NATURALS.length) / COLUMNS);
  const width = COLUMNS * TILE_PIXELS, height = rows * TILE_PIXELS;
  const rgba = new Uint8Array(width * height * 4);
  const canvas = (id) => (x, y, [r, g, b], alpha = 1) => {
    if (x < 0 || y < 0 || x >= TILE_PIXELS || y >= TILE_PIXELS) return;
    const at = (((Math.floor(id / COLUMNS) * TILE_PIXELS) + y) * width + (id % COLUMNS) * TILE_PIXELS + x) * 4;
    const old = rgba[at + 3] / 255, whole = alpha + old * (1 - alpha);
    [r, g, b].forEach((value, k) => {
      rgba[at + k] = Math.round((value * alpha + rgba[at + k] * old * (1 - alpha)) / whole);
    });
    rgba[at + 3] = Math.round(whole * 255);
  };
  GROUND.forEach((ground, id) => paintGround(canvas(id), ground, id));
  NATURALS.forEach((name, i) => paintNatural(canvas(NATURALS_FIRST + i), name, i));
  return { width, height, columns: COLUMNS, rows, rgba };
}

const hex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const lit = (colour, by) => colour.map((value) => Math.max(0, Math.min(255, Math.round(value * by))));

/** The kind's colour with a grain that repeats without a seam, and marks of its own. */
function paintGround(dot, { name, colour }, id) {
  const base = hex(colour);
  for (let y = 0; y < TILE_PIXELS; y++) {
    for (let x = 0; x < TILE_PIXELS; x++) dot(x, y, lit(base, 0.985 + 0.03 * chance(x, y, id + 1)));
  }
  const specks = { deep_water: [5, 1.06], shallow_water: [7, 1.07], beach: [9, 0.94], grass: [11, 0.92], meadow: [9, 0.94],
    forest: [16, 0.88], rock: [12, 0.88], cliff: [14, 0.82] }[name];
  for (let n = 0; n < specks[0]; n++) {
    const x = Math.floor(chance(n, 1, id + 100) * 16), y = Math.floor(chance(n, 2, id + 100) * 16);
    dot(x, y, lit(base, specks[1]), 0.8);
    if (name.endsWith('water')) for (let k = 1; k < 4; k++) dot((x + k) % 16, y, lit(base, specks[1]), 0.8);
    else dot(x, (y + 1) % 16, lit(base, name === 'cliff' ? 0.72 : specks[1]), 0.5);
  }
  if (name === 'meadow') [[3, 4], [11, 2], [7, 10], [13, 13]].forEach(([x, y], n) => dot(x, y, [[250, 244, 214], [242, 196, 206]][n % 2]));
}

/** A disc with light from the upper left and a darker rim below. */
function ball(dot, cx, cy, rx, ry, colour) {
  for (let y = Math.floor(cy - ry); y <= cy + ry; y++) {
    for (let x = Math.floor(cx - rx); x <= cx + rx; x++) {
      const u = (x + 0.5 - cx) / rx, v = (y + 0.5 - cy) / ry;
      if (u * u + v * v <= 1) dot(x, y, lit(colour, 1.06 - 0.16 * u - 0.26 * v));
    }
  }
}

const shadow = (dot, y, rx) => {
  for (let x = 0; x < 16; x++) for (let k = -1; k <= 1; k++) if (((x - 7.5) / rx) ** 2 + (k / 1.6) ** 2 < 1) dot(x, y + k, [40, 50, 40], 0.25);
};
const trunk = (dot, top, colour = [112, 82, 58]) => {
  for (let y = top; y < 15; y++) [7, 8].forEach((x) => dot(x, y, lit(colour, x === 7 ? 1.1 : 0.85)));
};

const crown = (colour, fruit) => (dot) => {
  shadow(dot, 14, 5); trunk(dot, 10);
  ball(dot, 8, 6.5, 6, 5.5, colour); ball(dot, 6, 5, 3, 2.6, lit(colour, 1.1));
  if (fruit) [[4, 6], [8, 4], [11, 7], [7, 9], [10, 10]].forEach(([x, y]) => dot(x, y, fruit));
};
const cone = (colour) => (dot) => {
  shadow(dot, 14, 4); trunk(dot, 12);
  for (let y = 1; y < 13; y++) {
    const half = 1 + ((y - 1) % 4) + Math.floor((y - 1) / 4);
    for (let x = 8 - half; x < 8 + half; x++) dot(x, y, lit(colour, x < 8 ? 1.08 : 0.86));
  }
};
const bush = (colour, dots) => (dot) => {
  shadow(dot, 13, 5);
  ball(dot, 5.5, 10, 3.5, 3.2, colour); ball(dot, 10.5, 10, 3.5, 3.2, lit(colour, 0.94)); ball(dot, 8, 8.5, 4, 3.6, lit(colour, 1.05));
  if (dots) [[5, 9], [8, 7], [11, 9], [7, 11], [10, 12], [4, 11]].forEach(([x, y]) => dot(x, y, dots));
};
const lump = (colour, vein, big) => (dot) => {
  shadow(dot, 13, big ? 6 : 4.5);
  ball(dot, 8, 10, big ? 6 : 4.5, big ? 5 : 3.6, colour);
  ball(dot, big ? 5.5 : 6.5, big ? 8 : 9, 2.2, 1.8, lit(colour, 1.12));
  if (vein) [[5, 10], [6, 11], [9, 8], [10, 9], [11, 11], [8, 12]].forEach(([x, y]) => dot(x, y, vein));
};
const sprig = (leaf, top) => (dot) => {
  [[8, 13, 4, 8], [8, 13, 8, 5], [8, 13, 12, 8], [8, 13, 6, 6], [8, 13, 10, 6]].forEach(([x0, y0, x1, y1], n) => {
    for (let t = 0; t <= 8; t++) dot(Math.round(x0 + ((x1 - x0) * t) / 8), Math.round(y0 + ((y1 - y0) * t) / 8), lit(leaf, 0.85 + 0.03 * t));
    if (top) [[0, 0], [1, 0], [0, -1]].forEach(([dx, dy]) => dot(x1 + dx, y1 + dy, n % 2 ? lit(top, 0.9) : top));
  });
};
const palm = (dot) => {
  shadow(dot, 14, 4);
  for (let y = 5; y < 15; y++) dot(7 + (y < 9 ? 1 : 0), y, [140, 108, 74]);
  [[-6, 1], [-5, -3], [-1, -4], [4, -4], [6, 0], [-3, 4], [4, 3]].forEach(([dx, dy]) => {
    for (let t = 0; t <= 6; t++) {
      const x = Math.round(8 + (dx * t) / 6), y = Math.round(5 + (dy * t) / 6 + (t * t) / 18);
      dot(x, y, [86, 148, 84]); dot(x, y + 1, [64, 118, 70]);
    }
  });
};
const stalks = (colour) => (dot) => [3, 5, 8, 10, 12].forEach((x, n) => {
  for (let y = 2 + (n % 3); y < 15; y++) dot(x + (y < 6 ? n % 2 : 0), y, lit(colour, y % 4 === 0 ? 0.8 : 1.05));
});
const wood = (colour) => (dot) => {
  shadow(dot, 12, 6.5);
  for (let x = 1; x < 15; x++) for (let k = 0; k < 3; k++) dot(x, 10 + k - Math.floor(x / 6), lit(colour, 1.1 - 0.14 * k));
  dot(1, 11, lit(colour, 0.7)); dot(11, 6, lit(colour, 0.9)); dot(12, 5, lit(colour, 0.9));
};
const shell = (dot) => { ball(dot, 8, 10, 3.4, 2.8, [246, 222, 206]); [6, 8, 10].forEach((x) => dot(x, 10, [214, 170, 152])); dot(8, 12, [214, 170, 152]); };
const mushroom = (dot) => { shadow(dot, 13, 3); for (let y = 9; y < 13; y++) [7, 8].forEach((x) => dot(x, y, [240, 228, 206])); ball(dot, 8, 7.5, 4, 2.6, [190, 92, 70]); dot(6, 7, [250, 236, 220]); dot(9, 6, [250, 236, 220]); };

const PAINTERS = {
  pine: cone([62, 112, 80]), broadleaf: crown([92, 146, 78]), palm, olive: crown([138, 156, 108]), tangerine: crown([84, 138, 74], [244, 152, 54]),
  juniper: cone([92, 132, 106]), koa: crown([116, 150, 76]), bamboo: stalks([132, 170, 84]),
  berry_bush: bush([88, 136, 76], [206, 62, 84]), azalea: bush([112, 142, 84], [236, 124, 168]), fern: sprig([84, 144, 82]),
  herb: sprig([122, 162, 92], [206, 190, 236]), wild_garlic: sprig([96, 150, 90], [250, 250, 240]), vine: bush([110, 146, 76], [122, 78, 146]),
  flower: sprig([118, 160, 88], [246, 206, 92]), reed: stalks([164, 160, 98]),
  stone: lump([160, 156, 150]), boulder: lump([146, 140, 134], null, true), basalt: lump([92, 90, 94], null, true), pumice: lump([214, 206, 196], [180, 170, 160]),
  flint: lump([112, 116, 124], [176, 180, 188]), copper_ore: lump([140, 130, 122], [214, 132, 84]), iron_ore: lump([128, 120, 118], [186, 104, 82]), obsidian: lump([56, 50, 66], [138, 126, 168]),
  driftwood: wood([186, 166, 140]), shell, mushroom, clay: lump([192, 138, 106]), sulphur: lump([166, 156, 130], [240, 218, 84]),
  log: wood([128, 94, 66]), coral: bush([236, 140, 128]), salt: lump([240, 240, 244], [214, 222, 232]),
};

function paintNatural(dot, name) {
  PAINTERS[name](dot);
}
