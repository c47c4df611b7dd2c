// Writes islands the way the Tiled editor saves them, .tmx and .tmj, and PNG files; the same bytes on every machine.

import pako from 'pako';
import { GROUND, NATURALS, NATURALS_FIRST } from './catalogue.mjs';

export const TILE_PIXELS = 16;
const TILED = { version: '1.10', tiledversion: '1.10.2' };

const escaped = (text) => String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

/** Tile numbers as zlib-packed little-endian words in Base64. */
function packed(numbers) {
  const bytes = new Uint8Array(numbers.length * 4);
  const view = new DataView(bytes.buffer);
  numbers.forEach((number, i) => view.setUint32(i * 4, number, true));
  return Buffer.from(pako.deflate(bytes, { level: 9 })).toString('base64');
}

/** The map in the editor's JSON model; the XML form is written from it. */
function model(island, made) {
  const { width, height } = island;
  const property = (name, value) => ({ name, type: typeof value === 'number' ? 'int' : 'string', value });
  let id = 0;
  const object = (type, name, x, y, more) => ({
    id: ++id, name, type, x: x * TILE_PIXELS, y: y * TILE_PIXELS, width: 0, height: 0, rotation: 0, visible: true, ...more,
  });
  const point = (type, mark, properties) =>
    object(type, mark.name, mark.x + 0.5, mark.y + 0.5, { point: true, ...(properties && { properties }) });
  const habitat = (h) => {
    const properties = [property('animals', h.animals), property('species', h.species)];
    const name = h.species.replaceAll('_', ' ');
    if (h.polygon) {
      const polygon = h.polygon.map(([x, y]) => ({ x: x * TILE_PIXELS, y: y * TILE_PIXELS }));
      return object('habitat', name, h.x, h.y, { polygon, properties });
    }
    const [x, y, w, t] = h.rectangle;
    return object('habitat', name, x, y, { width: w * TILE_PIXELS, height: t * TILE_PIXELS, properties });
  };
  const tiles = (id, name, numbers) => ({
    id, name, type: 'tilelayer', class: name, x: 0, y: 0, width, height, opacity: 1, visible: true,
    encoding: 'base64', compression: 'zlib', data: packed(numbers),
  });
  const objects = (id, name, color, list) =>
    ({ id, name, type: 'objectgroup', color, draworder: 'topdown', x: 0, y: 0, opacity: 1, visible: true, objects: list });
  const layers = [
    tiles(1, 'ground', Array.from(made.ground, (kind) => kind + 1)),
    tiles(2, 'naturals', Array.from(made.naturals, (number) => number + 1)),
    objects(3, 'habitats', '#b0703a', made.habitats.map(habitat)),
    objects(4, 'arrivals', '#c03a5b', [
      ...made.spawns.map((spawn) => point('spawn', spawn, [property('spread', spawn.spread)])),
      point('harbour', made.harbour),
    ]),
  ];
  return {
    type: 'map', ...TILED, orientation: 'orthogonal', renderorder: 'right-down', infinite: false, compressionlevel: -1,
    width, height, tilewidth: TILE_PIXELS, tileheight: TILE_PIXELS, nextlayerid: 5, nextobjectid: id + 1,
    properties: [property('island', island.island), property('kind', island.stability), property('title', island.title)],
    tilesets: [{ firstgid: 1, source: 'tileset.tsx' }],
    layers,
  };
}

/** The island's file. */
export function map(island, made) {
  const it = model(island, made);
  return island.form === 'tmj' ? `${JSON.stringify(it, null, 1)}\n` : xml(it);
}

function xml(it) {
  const attributes = (pairs) => Object.entries(pairs).map(([key, value]) => ` ${key}="${escaped(value)}"`).join('');
  const properties = (list, indent) => !list ? [] : [
    `${indent}<properties>`,
    ...list.map(({ name, type, value }) =>
      `${indent} <property${attributes({ name, ...(type !== 'string' && { type }), value })}/>`),
    `${indent}</properties>`,
  ];
  const object = (o) => {
    const size = o.width || o.height ? { width: o.width, height: o.height } : {};
    const shape = o.point ? ['   <point/>']
      : o.polygon ? [`   <polygon points="${o.polygon.map(({ x, y }) => `${x},${y}`).join(' ')}"/>`] : [];
    return [`  <object${attributes({ id: o.id, name: o.name, type: o.type, x: o.x, y: o.y, ...size })}>`,
      ...properties(o.properties, '   '), ...shape, '  </object>'];
  };
  const layer = (l) => l.type === 'tilelayer'
    ? [` <layer${attributes({ id: l.id, name: l.name, class: l.class, width: l.width, height: l.height })}>`,
      `  <data encoding="${l.encoding}" compression="${l.compression}">`, `   ${l.data}`, '  </data>', ' </layer>']
    : [` <objectgroup${attributes({ color: l.color, id: l.id, name: l.name })}>`, ...l.objects.flatMap(object), ' </objectgroup>'];
  const { version, tiledversion, orientation, renderorder, width, height, tilewidth, tileheight, nextlayerid, nextobjectid } = it;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<map${attributes({ version, tiledversion, orientation, renderorder, width, height, tilewidth, tileheight, infinite: 0, nextlayerid, nextobjectid })}>`,
    ...properties(it.properties, ' '),
    ...it.tilesets.map((tileset) => ` <tileset${attributes(tileset)}/>`),
    ...it.layers.flatMap(layer),
    '</map>', '',
  ].join('\n');
}

/** The shared tileset's file. */
export function tileset(image, columns, rows) {
  const tile = (id, type, properties) => properties.length === 0 ? [` <tile id="${id}" type="${type}"/>`] : [
    ` <tile id="${id}" type="${type}">`, '  <properties>',
    ...properties.map(([name, kind, value]) => `   <property name="${name}" type="${kind}" value="${value}"/>`),
    '  </properties>', ' </tile>',
  ];
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<tileset version="${TILED.version}" tiledversion="${TILED.tiledversion}" name="wildmesh" tilewidth="${TILE_PIXELS}" ` +
      `tileheight="${TILE_PIXELS}" tilecount="${columns * rows}" columns="${columns}">`,
    ` <image source="${image}" width="${columns * TILE_PIXELS}" height="${rows * TILE_PIXELS}"/>`,
    ...GROUND.flatMap(({ name, walkable, water, colour }, id) => tile(id, name, [
      ['colour', 'color', colour.replace('#', '#ff')], ['walkable', 'bool', walkable], ...(water ? [['water', 'bool', true]] : []),
    ])),
    ...NATURALS.flatMap((name, i) => tile(NATURALS_FIRST + i, name, [])),
    '</tileset>', '',
  ].join('\n');
}

/** A PNG of red, green, blue, alpha bytes. */
export function png(width, height, rgba) {
  const raw = new Uint8Array(height * (width * 4 + 1));
  for (let y = 0; y < height; y++) raw.set(rgba.subarray(y * width * 4, (y + 1) * width * 4), y * (width * 4 + 1) + 1);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 6, 0, 0, 0], 8);
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]), whole = Buffer.alloc(body.length + 8);
    whole.writeUInt32BE(data.length, 0);
    body.copy(whole, 4);
    whole.writeUInt32BE(crc(body), body.length + 4);
    return whole;
  };
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const data = Buffer.from(pako.deflate(raw, { level: 9 }));
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  }
  return (c ^ 0xffffffff) >>> 0;
}
