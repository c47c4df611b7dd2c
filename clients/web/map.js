// The live map: one island, everybody on it drawn from the motion that their owner published, and who owns whom.
// The gateway's feed (`/v1/map`, described in clients/PROTOCOL.md) says everything; nothing here asks a node directly.

import { Feeds, decode } from "./msgpack.js";

const UNITS = 256; // in one tile
const CELL = 32; // tiles
const COLOURS = ["#6fd3ff", "#ffb35c", "#8ee88a", "#ff86a5", "#c9a2ff", "#f4e06d",
  "#52dcc4", "#ff9f80", "#9bb8ff", "#e3a1e8", "#b7dd6b", "#ffd0a6"];
const NOBODY = "#d5dfe6"; // of publishers that the gateway has not told us of
const NIGHT = "#64809a"; // the picture of an island is multiplied by this
const FINE = "?scale=8"; // asks for the finest picture that the gateway draws
const CLOCK_MS = 500; // a better reading of a clock is taken over in about this long
const SETTLE_MS = 90; // a correction of somebody's place is drawn out over about this long
const JUMP = 3; // tiles; corrections beyond it are drawn at once
const CROSSING_MS = 300; // who leaves a cell for another is still drawn for so long, until the other cell tells of them
const STUCK_MS = 5000; // a cell whose keyframe does not come for so long: connect anew
const SILENT_MS = 6000; // nothing at all for so long: connect anew
const element = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 640px)");

/**
 * A server's clock. The largest difference ever seen to ours is the truest, since messages are only ever late; what is
 * shown follows it smoothly, so that a better sample moves nobody visibly.
 */
class Clock {
  #best = -Infinity;
  #shown = -Infinity;
  #at = 0;

  see(serverMs) {
    this.#best = Math.max(this.#best, serverMs - performance.now());
  }

  now() {
    const now = performance.now();
    const behind = this.#best - this.#shown;
    this.#shown = behind > 2000 ? this.#best : this.#shown + behind * (1 - Math.exp((this.#at - now) / CLOCK_MS));
    this.#at = now;
    return now + this.#shown;
  }
}

/** What is known of one island: objects, nodes, clocks. */
class World {
  constructor() {
    this.feeds = new Feeds({
      everywhere: true,
      onMove: (object, motion, publisher) => this.#ease(object, object, motion, publisher),
      onEnter: (object) => {
        const before = this.crossing.get(object.id);
        if (before) this.#ease(before.object, object, object.motion, object.publisher);
      },
      onLeave: (object, to) => to && this.crossing.set(object.id, { object, until: performance.now() + CROSSING_MS }),
    });
    this.nodes = [];
    this.clear();
  }

  clear() {
    this.feeds.clear();
    this.crossing = new Map();
    this.gateway = new Clock();
    this.clocks = new Map();
    this.stuckSince = null;
  }

  tell(message) {
    this.gateway.see(message.now_ms);
    if (message.type === "reset") this.feeds.clear();
    if (message.type !== "nodes") return;
    this.nodes = message.nodes;
    this.byPublisher = new Map(message.nodes.map((node) => [node.publisher, node]));
  }

  frame(bytes) {
    const frame = decode(bytes);
    const [, publisher, , , , , time] = frame;
    if (!this.clocks.has(publisher)) this.clocks.set(publisher, new Clock());
    this.clocks.get(publisher).see(time);
    this.feeds.apply(frame);
  }

  /** Everybody to draw: the objects, and those between two cells. */
  *everybody() {
    yield* this.feeds.objects.values();
    const now = performance.now();
    for (const [id, { object, until }] of this.crossing) {
      if (until < now || this.feeds.objects.has(id)) this.crossing.delete(id);
      else yield object;
    }
  }

  /** Whether feeds have waited too long for a keyframe; looked at now and then. */
  stuck() {
    if (!this.feeds.waiting) this.stuckSince = null;
    else this.stuckSince ??= performance.now();
    return this.stuckSince !== null && performance.now() - this.stuckSince > STUCK_MS;
  }

  node(publisher) {
    return this.byPublisher?.get(publisher);
  }

  /** The publisher's clock now: by the gateway's word if there is one, else by the frames themselves. */
  time(publisher) {
    const node = this.node(publisher);
    return node ? this.gateway.now() - node.offset_ms : this.clocks.get(publisher)?.now() ?? 0;
  }

  /** Where an object is, in tiles and fractions: now, or `at` a time on its publisher's clock. */
  place(object, at = this.time(object.publisher), motion = object.motion) {
    const [x, y, vx, vy, since, duration] = motion;
    const elapsed = Math.min(Math.max(at - since, 0), duration) / 1000;
    return [(x + vx * elapsed) / UNITS, (y + vy * elapsed) / UNITS];
  }

  /** A new motion must not make anybody jump: what it corrects is remembered, and fades. */
  #ease(before, object, motion, publisher) {
    const [oldX, oldY] = this.place(before);
    const [x, y] = this.place(object, this.time(publisher), motion);
    const now = performance.now();
    const left = before.easedAt === undefined ? 0 : Math.exp((before.easedAt - now) / SETTLE_MS);
    const [dx, dy] = [oldX - x + (before.dx ?? 0) * left, oldY - y + (before.dy ?? 0) * left];
    const far = Math.hypot(dx, dy) > JUMP;
    Object.assign(object, { dx: far ? 0 : dx, dy: far ? 0 : dy, easedAt: now });
  }
}

/** Which part of the island is on the screen. */
class Camera {
  constructor() {
    Object.assign(this, { x: 0, y: 0, scale: 1, goal: 1, anchor: null, width: 1, height: 1, island: null });
  }

  /** The part of the screen that no panel covers. */
  free() {
    const panel = element("panel").getBoundingClientRect();
    if (narrow.matches) return { left: 0, top: 0, right: this.width, bottom: Math.max(panel.top, this.height * 0.3) };
    return { left: panel.right, top: 0, right: this.width, bottom: this.height };
  }

  fit(island) {
    this.island = island;
    const { left, top, right, bottom } = this.free();
    const [width, height] = [Math.max(right - left, 80), Math.max(bottom - top, 80)];
    this.whole = Math.min(width / island.width_tiles, height / island.height_tiles) * 0.96;
    this.scale = this.goal = this.whole;
    this.anchor = null;
    this.x = island.width_tiles / 2 - ((left + right) / 2 - this.width / 2) / this.scale;
    this.y = island.height_tiles / 2 - ((top + bottom) / 2 - this.height / 2) / this.scale;
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  toTile(sx, sy) {
    return [(sx - this.width / 2) / this.scale + this.x, (sy - this.height / 2) / this.scale + this.y];
  }

  pan(dx, dy) {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.#hold();
  }

  /** Zooms so that what is under the point stays under it. */
  zoom(factor, sx, sy, now = false) {
    this.goal = Math.min(Math.max(this.goal * factor, this.whole * 0.5), 64);
    this.anchor = { sx, sy, at: this.toTile(sx, sy) };
    if (now || calm.matches) this.#to(this.goal);
  }

  /** Goes on with a zoom; true while there is something to go on with. */
  step(ms) {
    if (this.scale === this.goal) return false;
    const next = this.scale * (this.goal / this.scale) ** (1 - Math.exp(-ms / 55));
    this.#to(Math.abs(next / this.goal - 1) < 0.001 ? this.goal : next);
    return true;
  }

  #to(scale) {
    this.scale = scale;
    const { sx, sy, at } = this.anchor ?? { sx: this.width / 2, sy: this.height / 2, at: [this.x, this.y] };
    this.x = at[0] - (sx - this.width / 2) / scale;
    this.y = at[1] - (sy - this.height / 2) / scale;
    this.#hold();
  }

  #hold() {
    if (!this.island) return;
    this.x = Math.min(Math.max(this.x, 0), this.island.width_tiles);
    this.y = Math.min(Math.max(this.y, 0), this.island.height_tiles);
  }
}

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

class Painter {
  constructor(canvas, world, camera, panel) {
    Object.assign(this, { canvas, world, camera, panel, ground: null, sea: "#0d2740", sprites: new Map(), sights: new Map() });
    this.fine = false;
    this.context = canvas.getContext("2d", { alpha: false });
    this.drawn = [];
    this.times = [];
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

  /** Everybody on the screen, by colour: first the tails of those who walk, then the dots, then names. */
  #objects() {
    const { context, camera } = this;
    const batches = this.#batches();
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
    if (camera.scale > 11 && this.drawn.length <= 160) this.#names(radius);
    if (this.panel.chosen !== null) this.#ring(radius);
  }

  #batches() {
    const { world, camera } = this;
    const times = new Map();
    const batches = new Map();
    const now = performance.now();
    this.drawn = [];
    this.moving = 0;
    for (const object of world.everybody()) {
      const { publisher } = object;
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
      const [sx, sy] = camera.toScreen(x, y);
      if (sx < -20 || sy < -20 || sx > camera.width + 20 || sy > camera.height + 20) continue;
      const reach = Math.min(Math.max(camera.scale, 2.4), 22) / 1.6 / UNITS;
      const mark = { object, x: sx, y: sy, tileX: x, tileY: y, walks, tail: walks ? [vx * reach, vy * reach] : null };
      this.drawn.push(mark);
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
      context.strokeText(object.view[1], x, y - radius - 6);
      context.fillText(object.view[1], x, y - radius - 6);
    }
  }

  #ring(radius) {
    const mark = this.drawn.find(({ object }) => object.id === this.panel.chosen);
    if (!mark) return;
    this.context.strokeStyle = "#ffffff";
    this.context.lineWidth = 1.6;
    this.context.beginPath();
    this.context.arc(mark.x, mark.y, radius + 5, 0, 7);
    this.context.stroke();
  }

  /** Who is drawn nearest to a point, within `reach` pixels. */
  near(sx, sy, reach) {
    let best = null;
    let distance = reach;
    for (const mark of this.drawn) {
      const away = Math.hypot(mark.x - sx, mark.y - sy);
      if (away <= distance) [best, distance] = [mark, away];
    }
    return best;
  }
}

function colourOf(node) {
  return COLOURS[node.colour % COLOURS.length];
}

/** Everything on the page that is not the map itself. */
class Panel {
  constructor(world, camera) {
    Object.assign(this, { world, camera, hidden: new Set(), shown: new Set(), chosen: null, hovered: null, lost: false });
    this.rows = new Map();
    this.frozen = new Map();
    element("all").onclick = () => this.#toggleAll();
    document.querySelector("#panel header").onclick = () => {
      if (narrow.matches) this.fold(!element("panel").classList.contains("folded"));
    };
    if (narrow.matches) this.fold(true);
  }

  fold(folded) {
    element("panel").classList.toggle("folded", folded);
    element("fold").setAttribute("aria-expanded", String(!folded));
    if (this.camera.island && this.camera.goal === this.camera.whole) this.camera.fit(this.camera.island);
  }

  /** A gateway watches the whole island for the map's sake: its sight is shown only when asked for. */
  shows(node) {
    return node.role === "gateway" ? this.shown.has(node.id) : !this.hidden.has(node.id);
  }

  setLink(state, words) {
    this.lost = state !== "live";
    this.frozen.clear();
    element("link").dataset.state = state;
    element("link").textContent = words;
  }

  /** While the connection is lost, everybody stands where they were. */
  lostAt(publisher, at) {
    if (!this.frozen.has(publisher)) this.frozen.set(publisher, at);
    return this.frozen.get(publisher);
  }

  setIslands(islands, chosen) {
    const select = element("island");
    select.replaceChildren(...islands.map((island) => new Option(island.title || island.name, island.id, false, island.id === chosen)));
    select.disabled = false;
  }

  setNodes(nodes) {
    const order = ["frontend", "zoo", "garden", "colosseum", "gateway"];
    const sorted = [...nodes].sort((one, other) =>
      order.indexOf(one.role) - order.indexOf(other.role) || one.id.localeCompare(other.id, "en", { numeric: true }));
    const list = element("nodes");
    const known = new Set(sorted.map((node) => node.id));
    for (const [id, row] of this.rows) if (!known.has(id)) (row.remove(), this.rows.delete(id));
    sorted.forEach((node, index) => {
      const row = this.#row(node);
      if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
    });
    const up = nodes.filter((node) => node.state === "up").length;
    element("up").textContent = up === nodes.length ? String(up) : `${up} of ${nodes.length}`;
    this.#nameAll();
  }

  #row(node) {
    let row = this.rows.get(node.id);
    if (!row) {
      row = document.createElement("li");
      row.innerHTML = '<button type="button"><span class="swatch"></span><span class="name"></span><span class="load"></span>'
        + '<span class="bar"><i></i></span><span class="note"></span></button>';
      row.firstChild.onclick = () => this.#toggle(row.node);
      this.rows.set(node.id, row);
    }
    row.node = node;
    const { load } = node;
    const button = row.firstChild;
    const state = load?.draining ? "draining" : node.state;
    const part = (name) => button.querySelector(`.${name}`);
    button.style.setProperty("--colour", colourOf(node));
    button.dataset.state = state;
    button.setAttribute("aria-pressed", String(this.shows(node)));
    button.title = this.shows(node) ? "Hide what it sees" : "Show what it sees";
    part("name").textContent = node.id;
    const counts = load && load.capacity > 0;
    part("load").innerHTML = counts ? "<b></b> players" : "";
    if (counts) part("load").firstChild.textContent = load.players.toLocaleString("en");
    part("bar").hidden = !counts;
    if (counts) part("bar").firstChild.style.transform = `scaleX(${Math.min(load.players / load.capacity, 1)})`;
    const tick = load && load.tick_p99_us > 0 ? `tick ${(load.tick_p99_us / 1000).toFixed(1)} ms` : "";
    const words = [node.id.startsWith(node.role) ? "" : node.role, state === "up" ? "" : state, tick];
    part("note").textContent = words.filter(Boolean).join(" · ");
    return row;
  }

  #toggle(node) {
    const set = node.role === "gateway" ? this.shown : this.hidden;
    if (!set.delete(node.id)) set.add(node.id);
    this.#row(node);
    this.#nameAll();
  }

  #toggleAll() {
    const any = this.world.nodes.some((node) => this.shows(node));
    this.shown.clear();
    this.hidden = new Set(any ? this.world.nodes.map((node) => node.id) : []);
    this.setNodes(this.world.nodes);
  }

  #nameAll() {
    element("all").textContent = this.world.nodes.some((node) => this.shows(node)) ? "Hide sight" : "Show sight";
  }

  setCounts(all, moving) {
    element("count").textContent = all.toLocaleString("en");
    element("walking").textContent = moving.toLocaleString("en");
  }

  /** The card beside whoever is pointed at, or chosen. */
  card(mark) {
    const card = element("card");
    card.hidden = !mark;
    if (!mark) return;
    const node = this.world.node(mark.object.publisher);
    const [, , vx, vy] = mark.object.motion;
    card.querySelector("strong").textContent = mark.object.view[1] || `object ${mark.object.id}`;
    card.querySelector(".owner").style.setProperty("--colour", node ? colourOf(node) : NOBODY);
    card.querySelector(".owner span").textContent = node ? node.id : `publisher ${mark.object.publisher}`;
    const pace = mark.walks ? `${(Math.hypot(vx, vy) / UNITS).toFixed(1)} tiles/s` : "standing";
    card.querySelector(".where").textContent = `${mark.tileX.toFixed(1)}, ${mark.tileY.toFixed(1)} · ${pace}`;
    const { width, height } = card.getBoundingClientRect();
    const x = mark.x + 16 + width > this.camera.width ? mark.x - 16 - width : mark.x + 16;
    const y = Math.min(Math.max(mark.y - height / 2, 8), this.camera.height - height - 8);
    card.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }

  setScale() {
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
    const tiles = steps.findLast((step) => step * this.camera.scale <= 130) ?? 1;
    element("scale").firstChild.textContent = `${tiles} ${tiles === 1 ? "tile" : "tiles"}`;
    element("scale").lastChild.style.width = `${Math.round(tiles * this.camera.scale)}px`;
  }
}

/** The connection to the gateway: comes back by itself, sooner after a good time, later after failures. */
class Link {
  constructor(world, panel) {
    Object.assign(this, { world, panel, socket: null, pause: 500, timer: 0, heard: 0 });
    setInterval(() => this.#watch(), 1000);
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retryNow());
  }

  open(island) {
    this.island = island;
    this.world.clear();
    this.world.nodes = [];
    this.#connect("connecting", "Connecting");
  }

  #connect(state, words) {
    clearTimeout(this.timer);
    this.socket?.close();
    this.panel.setLink(state, words);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/map?island=${this.island}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = performance.now();
    socket.onmessage = ({ data }) => this.socket === socket && this.#take(data);
    socket.onclose = () => this.socket === socket && this.#lost();
  }

  #take(data) {
    this.heard = performance.now();
    try {
      if (typeof data !== "string") return this.world.frame(new Uint8Array(data));
      const message = JSON.parse(data);
      this.world.tell(message);
      if (message.type === "nodes") this.panel.setNodes(message.nodes);
      if (message.type === "reset") (this.panel.setLink("live", "Live"), (this.pause = 500));
    } catch (error) {
      console.error("the feed makes no sense", error);
      this.socket.close();
    }
  }

  #lost() {
    this.socket = null;
    this.panel.setLink("lost", "Reconnecting");
    this.timer = setTimeout(() => this.#connect("lost", "Reconnecting"), this.pause * (0.7 + 0.6 * Math.random()));
    this.pause = Math.min(this.pause * 2, 8000);
  }

  #watch() {
    const open = this.socket?.readyState === WebSocket.OPEN;
    if (open && (performance.now() - this.heard > SILENT_MS || this.world.stuck())) this.#connect("lost", "Reconnecting");
  }

  #retryNow() {
    if (this.socket === null && this.island !== undefined) this.#connect("lost", "Reconnecting");
  }
}

/** Drag, wheel, pinch, keys and clicks. */
function control(canvas, camera, painter, panel) {
  const pointers = new Map();
  let pinch = 0;
  let travelled = 0;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 1) travelled = 0;
    pinch = spread(pointers);
    canvas.classList.add("dragging");
  };
  canvas.onpointermove = (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      panel.hovered = painter.near(event.clientX, event.clientY, 12)?.object.id ?? null;
      canvas.classList.toggle("pointing", panel.hovered !== null);
      return;
    }
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    travelled += Math.hypot(dx, dy);
    camera.goal = camera.scale;
    camera.pan(dx / pointers.size, dy / pointers.size);
    if (pointers.size < 2) return;
    const points = [...pointers.values()];
    const now = spread(pointers);
    const middle = [0, 1].map((axis) => (points[0][axis] + points[1][axis]) / 2);
    if (pinch > 0 && now > 0) camera.zoom(now / pinch, ...middle, true);
    pinch = now;
  };
  const released = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    pinch = spread(pointers);
    if (pointers.size > 0) return;
    canvas.classList.remove("dragging");
    if (event.type !== "pointerup" || travelled > 6) return;
    const reach = event.pointerType === "mouse" ? 12 : 26;
    panel.chosen = painter.near(event.clientX, event.clientY, reach)?.object.id ?? null;
  };
  canvas.onpointerup = canvas.onpointercancel = released;
  canvas.onpointerleave = () => (panel.hovered = null);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 240 : 1;
    const strength = event.ctrlKey ? 0.011 : 0.0022;
    const delta = Math.max(-240, Math.min(240, event.deltaY * lines));
    camera.zoom(Math.exp(-delta * strength), event.clientX, event.clientY);
  }, { passive: false });
  canvas.ondblclick = (event) => camera.zoom(event.shiftKey ? 0.5 : 2, event.clientX, event.clientY);
  const middle = () => {
    const { left, top, right, bottom } = camera.free();
    return [(left + right) / 2, (top + bottom) / 2];
  };
  element("in").onclick = () => camera.zoom(1.7, ...middle());
  element("out").onclick = () => camera.zoom(1 / 1.7, ...middle());
  element("whole").onclick = () => camera.fit(camera.island);
  addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
    if (event.key === "+" || event.key === "=") camera.zoom(1.4, ...middle());
    else if (event.key === "-" || event.key === "_") camera.zoom(1 / 1.4, ...middle());
    else if (event.key === "0") camera.fit(camera.island);
    else if (event.key === "Escape") panel.chosen = null;
    else if (steps[event.key]) camera.pan(...steps[event.key]);
    else return;
    event.preventDefault();
  });
}

function spread(pointers) {
  if (pointers.size < 2) return 0;
  const [[x1, y1], [x2, y2]] = pointers.values();
  return Math.hypot(x1 - x2, y1 - y2);
}

/** The island's picture, as soon as the gateway has drawn it; null if by then another island is `wanted`. */
async function ground(island, query, wanted) {
  for (let pause = 1000; wanted(); pause = Math.min(pause * 2, 8000)) {
    const image = new Image();
    image.src = (island.map ?? `/v1/islands/${island.id}/map.png`) + query;
    const drawn = await image.decode().then(() => true, () => false);
    if (drawn) return wanted() ? image : null;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return null;
}

async function islands() {
  for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
    try {
      const answer = await fetch("/v1/islands");
      if (answer.ok) return await answer.json();
    } catch {
      // Asked again below.
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function start() {
  const world = new World();
  const camera = new Camera();
  const panel = new Panel(world, camera);
  const canvas = element("map");
  const painter = new Painter(canvas, world, camera, panel);
  const link = new Link(world, panel);
  const list = await islands();
  const picture = (island, query) => {
    painter.fine = query !== "";
    ground(island, query, () => camera.island === island).then((image) => image && painter.setGround(image));
  };
  const show = (island) => {
    location.replace(`#${island.id}`);
    document.title = `${island.title || island.name} · Wildmesh`;
    panel.chosen = panel.hovered = painter.ground = null;
    painter.sights.clear();
    camera.fit(island);
    picture(island, "");
    link.open(island.id);
  };
  const asked = list.find((island) => String(island.id) === location.hash.slice(1)) ?? list[0];
  if (!asked) return panel.setLink("lost", "No islands");
  panel.setIslands(list, asked.id);
  element("island").onchange = ({ target }) => show(list.find((island) => String(island.id) === target.value));
  control(canvas, camera, painter, panel);
  show(asked);
  addEventListener("resize", () => {
    const whole = camera.goal === camera.whole;
    painter.resize();
    if (whole) camera.fit(camera.island);
  });

  let last = performance.now();
  let told = 0;
  const frame = (now) => {
    camera.step(Math.min(now - last, 100));
    last = now;
    painter.paint();
    const pointed = panel.hovered ?? panel.chosen;
    panel.card(pointed === null ? null : painter.drawn.find(({ object }) => object.id === pointed));
    if (now - told > 250) {
      told = now;
      panel.setCounts(world.feeds.objects.size + world.crossing.size, painter.moving);
      panel.setScale();
      if (painter.coarse()) picture(camera.island, FINE);
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  // For the page's own tests and for whoever is curious.
  window.wildmesh = { world, camera, painter, panel, link };
}

start();
