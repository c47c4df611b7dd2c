// Makes islands/ from the public-domain Natural Earth coastlines (npm `world-atlas`). Running it again gives the same
// bytes: `npm ci && node make.mjs [folder]`. Not needed to build, run or test Wildmesh.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ISLANDS } from './catalogue.mjs';
import { make } from './island.mjs';
import { paint } from './paint.mjs';
import { coastlines } from './shape.mjs';
import { map, png, tileset } from './write.mjs';

const folder = process.argv[2] ?? fileURLToPath(new URL('../../islands/', import.meta.url));
mkdirSync(folder, { recursive: true });
const picture = paint();
writeFileSync(join(folder, 'tileset.png'), png(picture.width, picture.height, picture.rgba));
writeFileSync(join(folder, 'tileset.tsx'), tileset('tileset.png', picture.columns, picture.rows));
const rings = coastlines();
for (const island of ISLANDS) {
  const made = make(island, rings);
  const file = `${island.name}.${island.form}`;
  const text = map(island, made);
  writeFileSync(join(folder, file), text);
  const land = made.ground.filter((kind) => kind > 1).length, naturals = made.naturals.filter((n) => n >= 0).length;
  console.log(`${file}: ${island.width}×${island.height} tiles, ${Math.round((land / made.ground.length) * 100)} % land, ` +
    `${naturals} natural objects, ${made.habitats.length} habitats, ${made.spawns.length} spawn points, ${text.length} bytes`);
}
