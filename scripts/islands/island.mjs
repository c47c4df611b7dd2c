// Makes one island: its ground by height, slope and noise; what grows on it; where animals live and players arrive.

import { GROUND, kind, natural } from './catalogue.mjs';
import { chance, coast, distance, fractal, hash, heights, pieces } from './shape.mjs';

const WALKABLE = GROUND.map((ground) => ground.walkable);
const VILLAGE_TILES = 13;

/** The whole island: layers of tile numbers (kinds; naturals or -1) and marks in tiles. */
export function make(island, rings) {
  const { width, height } = island;
  const shape = coast(island, rings);
  const inland = distance(shape.land, 0, width, height);
  const offshore = distance(shape.land, 1, width, height);
  const height0 = heights(island, shape, inland);
  addCones(island, height0, inland);
  const ground = kinds(island, shape, inland, offshore, height0);
  clean(ground, width, height);
  const world = { island, width, height, ground, inland, main: mainland(ground, width, height) };
  const village = findVillage(world, offshore);
  layMeadow(world, village);
  world.main = mainland(ground, width, height);
  const harbour = findHarbour(world, village);
  const spawns = [{ name: 'village meadow', x: village.x, y: village.y, spread: 10 }, ...findSpawns(world, village, 7)];
  const naturals = grow(world, spawns, harbour);
  return { ground, naturals, spawns, harbour, habitats: findHabitats(world, spawns) };
}

/** Small volcanic cones scattered over the land. */
function addCones(island, field, inland) {
  const { width, height, seed, cones } = island;
  for (let n = 0, tried = 0; n < cones && tried < 5000; tried++) {
    const cx = hash(tried, 1, seed + 31) % width, cy = hash(tried, 2, seed + 31) % height;
    if (inland[cy * width + cx] < 14) continue;
    n++;
    const radius = 4 + 6 * chance(tried, 3, seed + 31), rise = 0.05 + 0.10 * chance(tried, 4, seed + 31);
    for (let y = Math.floor(cy - 3 * radius); y <= cy + 3 * radius; y++) {
      for (let x = Math.floor(cx - 3 * radius); x <= cx + 3 * radius; x++) {
        if (x < 0 || y < 0 || x >= width || y >= height || inland[y * width + x] === 0) continue;
        const d = Math.sqrt((x - cx) ** 2 + (y - cy) ** 2) / radius;
        const crater = d < 0.45 ? (0.45 - d) * 1.2 : 0;
        field[y * width + x] += rise * Math.max(0, 1 / ((1 + d * d) * (1 + d * d)) - crater);
      }
    }
  }
}

function kinds(island, shape, inland, offshore, field) {
  const { width, height, seed } = island;
  const ground = new Uint8Array(width * height);
  const steep = Float32Array.from(field, (_, i) => slope(field, i % width, Math.floor(i / width), width, height));
  const limits = {
    cliff: quantile(steep, shape.land, 1 - island.cliffs), rock: quantile(steep, shape.land, 1 - island.cliffs - island.rocks),
    heights: quantile(field, shape.land, 1 - island.heights),
  };
  const ponds = island.ponds.map(([lon, lat, radius]) => [...shape.tileOf([lon, lat]), radius]);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (!shape.land[i]) {
        const reach = island.shelf * (0.75 + 0.7 * fractal(x, y, 40, 3, seed + 41));
        ground[i] = offshore[i] <= Math.max(2, reach) ? kind.shallow_water : kind.deep_water;
        continue;
      }
      const wave = 1.5 * fractal(x, y, 9, 2, seed + 42);
      if (ponds.some(([px, py, r]) => Math.sqrt((x - px) ** 2 + (y - py) ** 2) + wave < r)) {
        ground[i] = kind.shallow_water;
        continue;
      }
      ground[i] = landKind(island, limits, x, y, inland[i], field[i], steep[i]);
    }
  }
  return ground;
}

function slope(field, x, y, width, height) {
  const at = (dx, dy) => field[Math.min(height - 1, Math.max(0, y + dy)) * width + Math.min(width - 1, Math.max(0, x + dx))];
  const gx = (at(1, 0) - at(-1, 0)) / 2, gy = (at(0, 1) - at(0, -1)) / 2;
  return Math.sqrt(gx * gx + gy * gy);
}

/** The value that this share of the land lies below. */
function quantile(field, land, share) {
  const values = field.filter((_, i) => land[i]).sort();
  return values[Math.min(values.length - 1, Math.floor(values.length * share))];
}

function landKind(island, limits, x, y, shore, high, steep) {
  const { seed } = island;
  const fine = fractal(x, y, 10, 2, seed + 51), broad = fractal(x, y, 130, 4, seed + 52);
  const sandy = fractal(x, y, 80, 3, seed + 53) + island.beaches;
  const strand = 1.3 + 7 * Math.max(0, sandy + 0.1) + 0.9 * fine;
  if (shore <= strand && sandy > -0.1 && steep < limits.rock) return kind.beach;
  if (steep > limits.cliff * (1 + 0.2 * fine)) return kind.cliff;
  if (steep > limits.rock * (1 + 0.25 * fine) || high > limits.heights * (1 + 0.12 * fine + 0.1 * broad)) return kind.rock;
  if (shore <= 1.5) return sandy > -0.35 ? kind.grass : kind.rock;
  const woody = broad * 1.1 + 0.3 * fine + island.woods + 0.8 * Math.min(high, 0.5) - 0.16;
  if (woody > 0.03 && shore > 3) return kind.forest;
  return fractal(x, y, 40, 3, seed + 54) > 0.30 ? kind.meadow : kind.grass;
}

/** Takes away specks: pieces too small to read on a map take the kind that most of their border has. */
function clean(ground, width, height) {
  for (let round = 0; round < 2; round++) {
    const smallest = 7;
    const number = new Int32Array(ground.length).fill(-1);
    for (let start = 0; start < ground.length; start++) {
      if (number[start] >= 0) continue;
      const members = [start], border = new Map(), mine = ground[start];
      number[start] = start;
      for (let k = 0; k < members.length; k++) {
        const i = members[k], x = i % width;
        for (const j of [x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1, i - width, i + width]) {
          if (j < 0 || j >= ground.length) continue;
          if (ground[j] !== mine) border.set(ground[j], (border.get(ground[j]) ?? 0) + 1);
          else if (number[j] < 0) {
            number[j] = start;
            members.push(j);
          }
        }
      }
      if (members.length >= smallest || border.size === 0) continue;
      const [best] = [...border].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0];
      for (const i of members) ground[i] = best;
    }
  }
}

/** The largest piece of ground that one can walk on, as a mask. */
function mainland(ground, width, height) {
  const [number, sizes] = pieces((i) => WALKABLE[ground[i]], width, height);
  const largest = sizes.indexOf(Math.max(...sizes));
  return Uint8Array.from(number, (n) => (n === largest ? 1 : 0));
}

/** How many of the tiles around are mainland, as a share. */
function openness({ main, width, height }, x, y, radius) {
  let open = 0, all = 0;
  for (let dy = -radius; dy <= radius; dy++) {
    for (let dx = -radius; dx <= radius; dx++) {
      if (dx * dx + dy * dy > radius * radius) continue;
      all++;
      const [tx, ty] = [x + dx, y + dy];
      if (tx >= 0 && ty >= 0 && tx < width && ty < height) open += main[ty * width + tx];
    }
  }
  return open / all;
}

/** The most open grassy place within reach of a beach. */
function findVillage(world, offshore) {
  const { island, width, height, ground, inland, main } = world;
  let best = { score: -Infinity };
  for (let tried = 0; tried < 60000; tried++) {
    const x = hash(tried, 1, island.seed + 61) % width, y = hash(tried, 2, island.seed + 61) % height, i = y * width + x;
    if (!main[i] || inland[i] < 9 || inland[i] > 40 || (ground[i] !== kind.grass && ground[i] !== kind.meadow)) continue;
    const open = openness(world, x, y, VILLAGE_TILES);
    if (open < 0.9) continue;
    let beach = 0;
    for (let dy = -30; dy <= 30; dy += 3) {
      for (let dx = -30; dx <= 30; dx += 3) if (ground[(y + dy) * width + x + dx] === kind.beach) beach++;
    }
    const score = open * 40 + Math.min(beach, 30) - Math.abs(inland[i] - 18) * 0.3;
    if (score > best.score) best = { score, x, y };
  }
  if (best.score === -Infinity) throw new Error(`${island.name}: no room for a village`);
  return best;
}

function layMeadow({ island, width, ground }, { x: cx, y: cy }) {
  for (let dy = -VILLAGE_TILES; dy <= VILLAGE_TILES; dy++) {
    for (let dx = -VILLAGE_TILES; dx <= VILLAGE_TILES; dx++) {
      const x = cx + dx, y = cy + dy, i = y * width + x;
      const reach = VILLAGE_TILES - 1 + 2 * fractal(x, y, 8, 2, island.seed + 62);
      if (dx * dx + dy * dy <= reach * reach && !GROUND[ground[i]].water && ground[i] !== kind.beach) ground[i] = kind.meadow;
    }
  }
}

/** The beach tile beside the sea that is nearest to the village. */
function findHarbour({ island, width, height, ground, inland, main }, village) {
  let best = { far: Infinity };
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x;
      if (ground[i] !== kind.beach || !main[i] || inland[i] > 1.5) continue;
      const far = (x - village.x) ** 2 + (y - village.y) ** 2;
      if (far < best.far) best = { far, name: `${island.title} harbour`, x, y };
    }
  }
  if (best.far === Infinity) throw new Error(`${island.name}: no beach for a harbour`);
  return best;
}

/** Places to arrive, each as far as can be from all before it (Gonzalez 1985). */
function findSpawns(world, village, count) {
  const { island, width, height, ground, main } = world;
  const fit = [];
  for (let tried = 0; tried < 40000; tried++) {
    const x = hash(tried, 1, island.seed + 71) % width, y = hash(tried, 2, island.seed + 71) % height, i = y * width + x;
    const gentle = [kind.beach, kind.grass, kind.meadow].includes(ground[i]);
    if (gentle && main[i] && openness(world, x, y, 5) > 0.8) fit.push({ x, y });
  }
  const chosen = [village];
  while (chosen.length <= count) {
    let best = { far: -1 };
    for (const place of fit) {
      const far = Math.min(...chosen.map((c) => (c.x - place.x) ** 2 + (c.y - place.y) ** 2));
      if (far > best.far) best = { far, ...place };
    }
    chosen.push(best);
  }
  return chosen.slice(1).map(({ x, y }) => ({ name: nameOf(island, x, y, ground[y * width + x]), x, y, spread: 3 }));
}

function nameOf({ width, height }, x, y, on) {
  const north = y < height * 0.38 ? 'north' : y > height * 0.62 ? 'south' : '';
  const east = x < width * 0.38 ? 'west' : x > width * 0.62 ? 'east' : '';
  return `${north}${north && east ? '-' : ''}${east}${north || east ? 'ern' : 'inland'} ${GROUND[on].name}`;
}

/** Numbers of natural objects by tile, -1 for none; spawns and the harbour keep clear ground. */
function grow({ island, width, height, ground }, spawns, harbour) {
  const { seed, growth } = island;
  const naturals = new Int16Array(width * height).fill(-1);
  const clear = [...spawns.map((s) => ({ ...s, r: s.spread > 3 ? 9 : 3 })), { ...harbour, r: 3 }];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x, here = growth[GROUND[ground[i]].name];
      if (!here || clear.some((c) => (c.x - x) ** 2 + (c.y - y) ** 2 <= c.r * c.r)) continue;
      let draw = chance(x, y, seed + 81) * 1000;
      for (const [name, perThousand] of Object.entries(here)) {
        const thick = Math.max(0, 1 + 1.1 * fractal(x, y, 22, 2, seed + natural[name]));
        draw -= perThousand * thick;
        if (draw < 0) {
          naturals[i] = natural[name];
          break;
        }
      }
    }
  }
  return naturals;
}

/** Habitats: uneven heptagons (rectangles on beaches) on the ground their animals like. */
function findHabitats(world, spawns) {
  const { island, width, height, ground } = world;
  const habitats = [], wanted = island.habitats ?? Math.round(6 + width / 80);
  for (let tried = 0; tried < 20000 && habitats.length < wanted; tried++) {
    const x = hash(tried, 1, island.seed + 91) % width, y = hash(tried, 2, island.seed + 91) % height;
    const on = GROUND[ground[y * width + x]].name, choice = island.animals[on];
    const near = (p, d) => (p.x - x) ** 2 + (p.y - y) ** 2 < d * d;
    const room = Math.max(30, width / 14);
    if (!choice || habitats.some((h) => near(h, room)) || spawns.some((s) => near(s, 24))) continue;
    if (habitats.filter((h) => h.on === on).length >= wanted * 0.4) continue;
    const species = choice[hash(tried, 3, island.seed + 91) % choice.length];
    const radius = 8 + (hash(tried, 4, island.seed + 91) % 8);
    if (x < 2 * radius || y < 2 * radius || x > width - 2 * radius || y > height - 2 * radius) continue;
    const animals = 3 + (hash(tried, 5, island.seed + 91) % 6);
    habitats.push({ on, species, animals, x, y, ...outline(island, tried, x, y, radius, on === 'beach') });
  }
  return habitats;
}

/** The seven corners of a circle, in hundredths. */
const HEPTAGON = [[100, 0], [62, 78], [-22, 97], [-90, 43], [-90, -43], [-22, -97], [62, -78]];

function outline(island, n, x, y, radius, square) {
  if (square) return { rectangle: [x - radius, y - Math.ceil(radius / 2), 2 * radius, 2 * Math.ceil(radius / 2)] };
  const corner = ([dx, dy], k) => {
    const far = radius * (0.75 + 0.5 * chance(n, k, island.seed + 92));
    return [Math.round((dx * far) / 100), Math.round((dy * far) / 100)];
  };
  return { polygon: HEPTAGON.map(corner) };
}
