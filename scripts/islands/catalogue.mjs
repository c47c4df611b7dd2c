// What the islands are made of: their places on the globe, the kinds of ground, the natural objects, the animals.

/** Kinds of ground; the position is the tile's number in the tileset. */
export const GROUND = [
  { name: 'deep_water', walkable: false, water: true, colour: '#3f7fa6' },
  { name: 'shallow_water', walkable: false, water: true, colour: '#7cc4c6' },
  { name: 'beach', walkable: true, water: false, colour: '#efdfb2' },
  { name: 'grass', walkable: true, water: false, colour: '#abc878' },
  { name: 'meadow', walkable: true, water: false, colour: '#c4d78a' },
  { name: 'forest', walkable: true, water: false, colour: '#74a065' },
  { name: 'rock', walkable: true, water: false, colour: '#b3a696' },
  { name: 'cliff', walkable: false, water: false, colour: '#85796f' },
];
export const kind = Object.fromEntries(GROUND.map((ground, id) => [ground.name, id]));

/** Natural objects; their numbers begin after sixteen places for ground. Order is for ever: deeds hold the numbers. */
export const NATURALS_FIRST = 16;
export const NATURALS = [
  'pine', 'broadleaf', 'palm', 'olive', 'tangerine', 'juniper', 'koa', 'bamboo',
  'berry_bush', 'azalea', 'fern', 'herb', 'wild_garlic', 'vine', 'flower', 'reed',
  'stone', 'boulder', 'basalt', 'pumice', 'flint', 'copper_ore', 'iron_ore', 'obsidian',
  'driftwood', 'shell', 'mushroom', 'clay', 'sulphur', 'log', 'coral', 'salt',
];
export const natural = Object.fromEntries(NATURALS.map((name, i) => [name, NATURALS_FIRST + i]));

/**
 * The islands. `centre` and `span` (degrees) choose the coastlines; `shrink` is the cosine of the latitude, written out;
 * `ragged` is how far, in tiles, the coast is frayed; `radius` of a peak is a share of the map's width.
 * `cliffs`, `rocks` and `heights` are shares of the land: the steepest, the next steepest, the highest.
 * `growth` is, for each kind of ground, what grows there and how many in a thousand tiles. `habitats`: how many are tried for,
 * where width alone would give too few.
 */
export const ISLANDS = [
  {
    name: 'jeju', title: 'Jeju', island: 1, stability: 'stable', form: 'tmx', seed: 1950, width: 1280, height: 736,
    centre: [126.55, 33.38], span: 0.5, shrink: 0.8350, margin: 56, ragged: 9,
    base: 0.16, shoulder: 9, beaches: 0.02, woods: 0.06, ridges: 90, cliffs: 0.008, rocks: 0.035, heights: 0.02, shelf: 9,
    peaks: [
      { at: [[126.5292, 33.3617]], radius: 0.105, height: 0.82 },
      { at: [[126.5292, 33.3617]], radius: 0.022, height: 0.24 },
      { at: [[126.30, 33.33], [126.42, 33.36]], radius: 0.03, height: 0.10 },
      { at: [[126.68, 33.40], [126.80, 33.45]], radius: 0.04, height: 0.12 },
      { at: [[126.9427, 33.4581]], radius: 0.006, height: 0.40 },
      { at: [[126.3131, 33.2411]], radius: 0.006, height: 0.42 },
    ],
    cones: 60, ponds: [[126.5335, 33.3617, 4]],
    growth: {
      beach: { driftwood: 9, shell: 14, salt: 3 },
      grass: { tangerine: 9, berry_bush: 8, herb: 8, basalt: 7, azalea: 5, broadleaf: 8, flower: 6 },
      meadow: { flower: 26, herb: 14 },
      forest: { pine: 70, broadleaf: 46, fern: 14, mushroom: 8, log: 5, azalea: 7 },
      rock: { basalt: 34, boulder: 15, iron_ore: 7, copper_ore: 5, azalea: 8 },
    },
    animals: { forest: ['roe_deer', 'wild_boar'], grass: ['pony', 'pheasant'], beach: ['crab', 'gull'], rock: ['roe_deer'] },
  },
  {
    name: 'oahu', title: 'Oʻahu', island: 2, stability: 'stable', form: 'tmx', seed: 1959, width: 896, height: 736,
    centre: [-157.96, 21.48], span: 0.4, shrink: 0.9306, margin: 48, ragged: 7,
    base: 0.17, shoulder: 7, beaches: 0.18, woods: 0.02, ridges: 70, cliffs: 0.030, rocks: 0.06, heights: 0.02, shelf: 8,
    peaks: [
      { at: [[-157.975, 21.645], [-157.90, 21.53], [-157.80, 21.40], [-157.72, 21.32]], radius: 0.05, height: 0.60 },
      { at: [[-157.90, 21.53], [-157.80, 21.40]], radius: 0.017, height: 0.26 },
      { at: [[-158.225, 21.545], [-158.15, 21.50], [-158.09, 21.39]], radius: 0.045, height: 0.58 },
      { at: [[-158.143, 21.507]], radius: 0.03, height: 0.25 },
      { at: [[-157.806, 21.262]], radius: 0.011, height: 0.40 },
    ],
    cones: 8, ponds: [],
    growth: {
      beach: { palm: 34, driftwood: 8, shell: 15, coral: 6 },
      grass: { koa: 8, berry_bush: 9, herb: 9, stone: 7, palm: 7, flower: 7 },
      meadow: { flower: 30, palm: 6 },
      forest: { koa: 66, bamboo: 30, fern: 34, palm: 14, mushroom: 7, log: 6 },
      rock: { basalt: 26, boulder: 16, iron_ore: 6, flint: 7, fern: 10 },
    },
    animals: { forest: ['wild_boar', 'honeycreeper'], grass: ['nene', 'goat'], beach: ['green_turtle', 'crab'], rock: ['goat'] },
  },
  {
    name: 'santorini', title: 'Santorini', island: 3, stability: 'stable', form: 'tmx', seed: 1613, width: 512, height: 640,
    centre: [25.41, 36.41], span: 0.14, shrink: 0.8048, margin: 40, ragged: 8,
    base: 0.20, shoulder: 5, beaches: 0.10, woods: -0.28, ridges: 60, cliffs: 0.05, rocks: 0.10, heights: 0.03, shelf: 6,
    peaks: [
      { at: [[25.463, 36.370]], radius: 0.06, height: 0.62 },
      {
        at: [[25.379, 36.470], [25.409, 36.461], [25.423, 36.447], [25.425, 36.435], [25.434, 36.417], [25.439, 36.395],
          [25.427, 36.375], [25.411, 36.362], [25.392, 36.358]],
        radius: 0.024, height: 0.46,
      },
    ],
    cones: 5, ponds: [],
    growth: {
      beach: { pumice: 14, shell: 12, driftwood: 8, salt: 6 },
      grass: { vine: 22, olive: 12, herb: 12, stone: 9, berry_bush: 4, pumice: 6 },
      meadow: { flower: 22, vine: 14 },
      forest: { olive: 60, juniper: 42, pine: 20, herb: 16, mushroom: 5 },
      rock: { obsidian: 13, pumice: 22, sulphur: 8, copper_ore: 8, boulder: 12 },
    },
    animals: { forest: ['hare'], grass: ['goat', 'partridge'], beach: ['gull', 'crab'], rock: ['goat', 'falcon'] },
  },
  {
    name: 'ulleung', title: 'Ulleung', island: 4, stability: 'unstable', form: 'tmj', seed: 512, width: 320, height: 320,
    centre: [130.865, 37.5], span: 0.12, shrink: 0.7934, margin: 30, ragged: 9,
    base: 0.30, shoulder: 4, beaches: -0.06, woods: 0.24, ridges: 46, cliffs: 0.045, rocks: 0.10, heights: 0.03, shelf: 5,
    peaks: [
      { at: [[130.8665, 37.4945]], radius: 0.13, height: 0.60 },
      { at: [[130.8435, 37.4985]], radius: 0.05, height: 0.26 },
      { at: [[130.893, 37.513]], radius: 0.05, height: 0.30 },
      { at: [[130.8685, 37.518]], radius: 0.045, height: -0.46 },
    ],
    cones: 0, ponds: [],
    growth: {
      beach: { shell: 16, driftwood: 10, boulder: 12 },
      grass: { wild_garlic: 26, berry_bush: 12, herb: 12, stone: 9, broadleaf: 10 },
      meadow: { flower: 24, wild_garlic: 22 },
      forest: { broadleaf: 84, juniper: 30, fern: 28, mushroom: 14, log: 8, wild_garlic: 12 },
      rock: { boulder: 26, iron_ore: 13, copper_ore: 8, flint: 10, juniper: 14 },
    },
    animals: { forest: ['wood_pigeon', 'wild_boar'], grass: ['hare'], beach: ['crab', 'gull'], rock: ['goat', 'gull'] },
  },
  {
    name: 'tristan', title: 'Tristan', island: 5, stability: 'unstable', form: 'tmx', seed: 1506, width: 256, height: 256,
    centre: [-12.28, -37.105], span: 0.1, shrink: 0.7975, margin: 14, ragged: 8,
    base: 0.22, shoulder: 4, beaches: 0.10, woods: 0.02, ridges: 44, cliffs: 0.03, rocks: 0.12, heights: 0.04, shelf: 5,
    peaks: [{ at: [[-12.28, -37.112]], radius: 0.12, height: 0.62 }],
    cones: 4, ponds: [],
    growth: {
      beach: { driftwood: 29, shell: 32, coral: 18, salt: 22 },
      grass: { berry_bush: 32, herb: 29, stone: 25, flower: 14 },
      meadow: { flower: 40, herb: 32 },
      forest: { broadleaf: 126, fern: 54, mushroom: 29, log: 25 },
      rock: { obsidian: 47, iron_ore: 40, copper_ore: 32, sulphur: 25, boulder: 22 },
    },
    animals: { forest: ['wild_boar', 'wolf'], grass: ['goat', 'hare'], beach: ['crab', 'gull'], rock: ['goat', 'raptor'] },
    habitats: 12,
  },
  {
    name: 'rapanui', title: 'Rapa Nui', island: 6, stability: 'unstable', form: 'tmx', seed: 1722, width: 256, height: 224,
    centre: [-109.36, -27.12], span: 0.2, shrink: 0.8901, margin: 13, ragged: 6,
    base: 0.20, shoulder: 5, beaches: 0.14, woods: 0.06, ridges: 50, cliffs: 0.02, rocks: 0.10, heights: 0.03, shelf: 5,
    peaks: [
      { at: [[-109.377, -27.083]], radius: 0.09, height: 0.5 }, { at: [[-109.435, -27.185]], radius: 0.04, height: 0.4 },
      { at: [[-109.245, -27.11]], radius: 0.05, height: 0.4 },
    ],
    cones: 6, ponds: [],
    growth: {
      beach: { palm: 54, shell: 32, coral: 25, pumice: 18 },
      grass: { stone: 40, herb: 25, berry_bush: 22, flint: 22, palm: 14 },
      meadow: { flower: 47, herb: 29 },
      forest: { palm: 119, koa: 61, fern: 40, mushroom: 18, log: 18 },
      rock: { obsidian: 61, flint: 40, copper_ore: 36, basalt: 29 },
    },
    animals: { forest: ['roe_deer', 'wolf'], grass: ['pony', 'hare'], beach: ['crab', 'gull'], rock: ['goat', 'falcon'] },
    habitats: 12,
  },
];
