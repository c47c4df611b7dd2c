// The map itself: the island's picture by night, what nodes see, and everything that is on it.

import { ANIMAL, BATTLE, CHUNK, FACILITY, FIGHTS, LAND, NATURE, PLAYER, animalSprite, chunkOf, drawBattle, drawFacility,
  drawLand, drawNature, middleOf, partyColour, solidity, standing } from "./kinds.js";
import { CELL, NOBODY, SETTLE_MS, UNITS, colourOf, narrow } from "./common.js";

const FLASH_MS = 700; // a battle's last exchange is shown for so long
const NIGHT = "#64809a"; // the picture of an island is multiplied by this

/** The cells that a node sees: one path to fill, and the lines around it. In tiles. */
function sightOf(runs) {
  const cells = new Set();
  const fill = new Path2D();
  for (const [y, first, count] of runs) {
    fill.rect(first * CELL, y * CELL, count * CELL, CELL);
    for (let x = first; x < first + count; x += 1) cells.add(y * 65536 + x);
  }
  const edge = new Path2D();
  const line = (x1, y1, x2, y2) => {
    edge.moveTo(x1 * CELL, y1 * CELL);
    edge.lineTo(x2 * CELL, y2 * CELL);
  };
  for (const cell of cells) {
    const [x, y] = [cell % 65536, Math.floor(cell / 65536)];
    if (!cells.has(cell - 65536)) line(x, y, x + 1, y);
    if (!cells.has(cell + 65536)) line(x, y + 1, x + 1, y + 1);
    if (!cells.has(cell - 1)) line(x, y, x, y + 1);
    if (!cells.has(cell + 1)) line(x + 1, y, x + 1, y + 1);
  }
  return { fill, edge };
}

export class Painter {
  constructor(canvas, world, camera, panel) {
    Object.assign(this, { canvas, world, camera, panel, ground: null, sea: "#0d2740", sprites: new Map(), sights: new Map() });
    this.fine = false;
    this.context = canvas.getContext("2d", { alpha: false });
    this.drawn = [];
    this.times = [];
    // When each battle's last exchange was first drawn, by battle.
    this.flashes = new Map();
    this.resize();
  }

  resize() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [window.innerWidth, window.innerHeight];
    Object.assign(this.canvas, { width: Math.round(width * this.ratio), height: Math.round(height * this.ratio) });
    Object.assign(this.camera, { width, height });
    this.sprites.clear();
  }

  /** The picture by night, once; and the colour of its sea, to go on beyond its edge. */
  setGround(image) {
    const ground = document.createElement("canvas");
    Object.assign(ground, { width: image.width, height: image.height });
    const context = ground.getContext("2d");
    context.drawImage(image, 0, 0);
    context.globalCompositeOperation = "multiply";
    context.fillStyle = NIGHT;
    context.fillRect(0, 0, ground.width, ground.height);
    const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
    this.sea = `rgb(${r} ${g} ${b})`;
    this.ground = ground;
  }

  /** Whether the picture is stretched so far that a finer one would show more, and none was asked for. */
  coarse() {
    const { ground, camera } = this;
    return ground !== null && !this.fine && camera.scale * this.ratio > (1.5 * ground.width) / camera.island.width_tiles;
  }

  paint() {
    const { context, camera, ratio } = this;
    const started = performance.now();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.fillStyle = this.sea;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const scale = camera.scale * ratio;
    const [left, top] = camera.toScreen(0, 0);
    context.setTransform(scale, 0, 0, scale, left * ratio, top * ratio);
    if (this.ground && camera.island) {
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      context.drawImage(this.ground, 0, 0, camera.island.width_tiles, camera.island.height_tiles);
    }
    this.#sight(scale);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#objects();
    this.times.push(performance.now() - started);
    if (this.times.length > 240) this.times.shift();
  }

  #sight(scale) {
    const { context, world, camera, panel } = this;
    const shown = world.nodes.filter((node) => node.cells.length > 0 && panel.shows(node));
    shown.forEach((node, index) => {
      const key = `${node.id} ${JSON.stringify(node.cells)}`;
      let sight = this.sights.get(node.id);
      if (sight?.key !== key) this.sights.set(node.id, (sight = { key, ...sightOf(node.cells) }));
      context.globalAlpha = node.state === "up" ? 0.1 : 0.04;
      context.fillStyle = context.strokeStyle = colourOf(node);
      context.fill(sight.fill);
      // Where nodes see the same cells, their dashes take turns along the common line.
      context.globalAlpha = 0.8;
      context.lineWidth = (1.4 * this.ratio) / scale;
      const dash = Math.min(CELL / 8, 9 / camera.scale);
      context.setLineDash(shown.length > 1 ? [dash, dash * (shown.length - 1)] : []);
      context.lineDashOffset = -dash * index;
      context.stroke(sight.edge);
    });
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** Everything on the screen: land and what stands on it, then everybody, battles, and names. */
  #objects() {
    const { context, camera } = this;
    const batches = this.#batches();
    const { scale } = camera;
    for (const { object } of this.lands) {
      const [x, y] = chunkOf(...standing(object));
      drawLand(context, object.view, camera.toScreen(x * CHUNK, y * CHUNK), CHUNK * scale);
    }
    for (const { object, x, y } of this.kinds[NATURE]) drawNature(context, object.view, x, y, scale);
    for (const { object, x, y } of this.kinds[FACILITY]) drawFacility(context, object.view, x, y, scale);
    // The more there are, the smaller they must be to be told apart.
    const least = Math.max(5 - 0.8 * Math.log10(this.drawn.length + 1) - (narrow.matches ? 0.6 : 0), 1.8);
    const radius = Math.min(Math.max(camera.scale * 0.34, least), 9);
    context.lineCap = "round";
    for (const [colour, { list, faint }] of batches) {
      context.globalAlpha = faint ? 0.25 : 0.5;
      context.strokeStyle = colour.slice(0, 7);
      context.lineWidth = radius * 0.9;
      context.beginPath();
      for (const { x, y, tail } of list) {
        if (!tail) continue;
        context.moveTo(x, y);
        context.lineTo(x - tail[0], y - tail[1]);
      }
      context.stroke();
      const sprite = this.#sprite(colour.slice(0, 7), radius);
      const size = sprite.width / this.ratio;
      context.globalAlpha = faint ? 0.5 : 1;
      for (const { x, y } of list) context.drawImage(sprite, x - size / 2, y - size / 2, size, size);
    }
    context.globalAlpha = 1;
    this.#animals(radius);
    this.#parties(radius);
    this.#battles(radius);
    if (camera.scale > 11 && this.drawn.length <= 160) this.#names(radius);
    if (this.panel.chosen !== null) this.#ring(radius);
  }

  #animals(radius) {
    const { context, ratio } = this;
    const size = Math.round(Math.max(radius * 0.85, 2) * ratio * 2) / 2;
    for (const { object, x, y } of this.kinds[ANIMAL]) {
      const sprite = animalSprite(object.view[1], object.view[3], size);
      const side = sprite.width / ratio;
      context.globalAlpha = solidity(object.view[3]);
      context.drawImage(sprite, x - side / 2, y - side / 2, side, side);
    }
    context.globalAlpha = 1;
  }

  /** A ring around each member of a party, in the party's colour. */
  #parties(radius) {
    const { context } = this;
    context.lineWidth = Math.max(radius * 0.35, 1.2);
    for (const { object, x, y } of this.kinds[PLAYER]) {
      const [, , , pose, , party] = object.view;
      if (!party || pose === FIGHTS) continue;
      context.strokeStyle = partyColour(party);
      context.beginPath();
      context.arc(x, y, radius + 2.2, 0, 7);
      context.stroke();
    }
  }

  #battles(radius) {
    const now = performance.now();
    for (const { object, x, y } of this.kinds[BATTLE]) {
      const last = object.view[5];
      let flash = this.flashes.get(object.id);
      if (flash?.last !== last) this.flashes.set(object.id, (flash = { last, at: last > 0 ? now : -Infinity }));
      drawBattle(this.context, object.view, x, y, radius, Math.max(1 - (now - flash.at) / FLASH_MS, 0));
    }
    if (this.flashes.size > 200) this.flashes.clear();
  }

  #batches() {
    const { world, camera } = this;
    const times = new Map();
    const batches = new Map();
    const now = performance.now();
    this.drawn = [];
    this.lands = [];
    this.kinds = [PLAYER, ANIMAL, FACILITY, NATURE, BATTLE].map(() => []);
    this.moving = 0;
    for (const object of world.everybody()) {
      const { publisher } = object;
      const kind = object.view[0];
      if (kind === LAND) {
        this.lands.push({ object });
        continue;
      }
      let source = times.get(publisher);
      if (source === undefined) {
        const node = world.node(publisher);
        const faint = this.panel.lost || (node !== undefined && node.state !== "up");
        const colour = node ? colourOf(node) : NOBODY;
        times.set(publisher, (source = { at: world.time(publisher), key: faint ? `${colour} faint` : colour, faint }));
      }
      const at = this.panel.lost ? this.panel.lostAt(publisher, source.at) : source.at;
      let [x, y] = world.place(object, at);
      const [, , vx, vy, since, duration] = object.motion;
      const walks = duration > 0 && at < since + duration;
      if (walks) this.moving += 1;
      if (object.easedAt !== undefined) {
        const left = Math.exp((object.easedAt - now) / SETTLE_MS);
        if (left > 0.01) [x, y] = [x + object.dx * left, y + object.dy * left];
      }
      // A facility stands in its upper left tile; it is pointed at in its middle.
      if (kind === FACILITY) [x, y] = middleOf(object.view, x, y);
      const [sx, sy] = camera.toScreen(x, y);
      if (sx < -20 || sy < -20 || sx > camera.width + 20 || sy > camera.height + 20) continue;
      const reach = Math.min(Math.max(camera.scale, 2.4), 22) / 1.6 / UNITS;
      const mark = { object, x: sx, y: sy, tileX: x, tileY: y, walks, tail: walks ? [vx * reach, vy * reach] : null };
      this.drawn.push(mark);
      this.kinds[kind]?.push(mark);
      // Players are dots in the colour of the node that owns them, and so is what this page does not know.
      if (kind !== PLAYER && kind <= LAND) continue;
      const batch = batches.get(source.key);
      if (batch) batch.list.push(mark);
      else batches.set(source.key, { list: [mark], faint: source.faint });
    }
    return batches;
  }

  /** A dot with a dark rim, drawn once per colour and size. */
  #sprite(colour, radius) {
    const rounded = Math.round(radius * this.ratio * 2) / 2;
    const key = `${colour} ${rounded}`;
    let sprite = this.sprites.get(key);
    if (sprite) return sprite;
    if (this.sprites.size > 400) this.sprites.clear();
    sprite = document.createElement("canvas");
    sprite.width = sprite.height = Math.ceil(rounded * 2 + 6 * this.ratio);
    const context = sprite.getContext("2d");
    const middle = sprite.width / 2;
    context.shadowColor = "rgb(2 12 20 / 70%)";
    context.shadowBlur = 2.5 * this.ratio;
    context.fillStyle = "#0a1b2b";
    context.beginPath();
    context.arc(middle, middle, rounded + this.ratio, 0, 7);
    context.fill();
    context.shadowBlur = 0;
    context.fillStyle = colour;
    context.beginPath();
    context.arc(middle, middle, rounded, 0, 7);
    context.fill();
    this.sprites.set(key, sprite);
    return sprite;
  }

  #names(radius) {
    const { context } = this;
    context.font = "550 11.5px ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
    context.textAlign = "center";
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeStyle = "rgb(6 20 32 / 75%)";
    context.fillStyle = "#eef5f9";
    for (const { object, x, y } of this.drawn) {
      const [kind, name] = object.view;
      if (kind !== PLAYER && kind !== ANIMAL) continue;
      const words = kind === ANIMAL ? name.replaceAll("_", " ") : name;
      context.strokeText(words, x, y - radius - 6);
      context.fillText(words, x, y - radius - 6);
    }
  }

  #ring(radius) {
    const mark = this.markOf(this.panel.chosen);
    if (!mark) return;
    this.context.strokeStyle = "#ffffff";
    this.context.lineWidth = 1.6;
    this.context.beginPath();
    this.context.arc(mark.x, mark.y, radius + 5, 0, 7);
    this.context.stroke();
  }

  /** Whoever or whatever is drawn nearest to a point, within `reach` pixels; else whose land is there. */
  near(sx, sy, reach) {
    let best = null;
    let distance = reach;
    for (const mark of this.drawn) {
      const away = Math.hypot(mark.x - sx, mark.y - sy);
      if (away <= distance) [best, distance] = [mark, away];
    }
    return best ?? this.#landAt(sx, sy);
  }

  #landAt(sx, sy) {
    const [x, y] = chunkOf(...this.camera.toTile(sx, sy));
    const land = this.lands.find(({ object }) => {
      const [cx, cy] = chunkOf(...standing(object));
      return cx === x && cy === y;
    });
    return land && this.#landMark(land.object);
  }

  #landMark(object) {
    const [tileX, tileY] = chunkOf(...standing(object)).map((along) => (along + 0.5) * CHUNK);
    const [x, y] = this.camera.toScreen(tileX, tileY);
    return { object, x, y, tileX, tileY, walks: false, tail: null };
  }

  /** What is drawn of an object; null if it is not on the screen. */
  markOf(id) {
    const land = this.lands.find(({ object }) => object.id === id);
    return this.drawn.find(({ object }) => object.id === id) ?? (land ? this.#landMark(land.object) : null);
  }
}
