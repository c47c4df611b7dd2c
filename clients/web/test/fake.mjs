// A stand-in for a gateway, for the page's tests only: the page's files, two islands drawn by formula, and a live feed of
// walkers owned by three frontends. Follows clients/PROTOCOL.md, so that what the page shows here it shows there.
// By hand: node fake.mjs 7199 [walkers]

import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { crc32, deflateSync } from "node:zlib";

import { encode } from "../msgpack.js";

const UNITS = 256;
const CELL = 32;
const TICK_MS = 50;
const ISLANDS = [
  { id: 1, name: "first", title: "First Island", stability: "stable", width_tiles: 512, height_tiles: 384 },
  { id: 2, name: "second", title: "Second Island", stability: "unstable", width_tiles: 256, height_tiles: 320 },
];
const FILES = { "/": ["index.html", "text/html; charset=utf-8"], "/style.css": ["style.css", "text/css"],
  "/map.js": ["map.js", "text/javascript"], "/msgpack.js": ["msgpack.js", "text/javascript"],
  ...Object.fromEntries(readdirSync(new URL("../map/", import.meta.url))
    .map((name) => [`/map/${name}`, [`map/${name}`, "text/javascript"]])) };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
  + "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** A repeatable generator of numbers from 0 to 1. */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How far inland a tile is: below 0 is sea. */
function inland({ width_tiles, height_tiles, id }, x, y) {
  const [u, v] = [(x / width_tiles) * 2 - 1, (y / height_tiles) * 2 - 1];
  const angle = Math.atan2(v, u);
  const coast = 0.72 + 0.1 * Math.sin(3 * angle + id) + 0.06 * Math.sin(7 * angle) + 0.03 * Math.sin(13 * angle + 2);
  return coast - Math.hypot(u, v);
}

function picture(island) {
  const { width_tiles: width, height_tiles: height } = island;
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const depth = inland(island, x, y);
      const hills = Math.sin(x / 17) * Math.cos(y / 23) + Math.sin((x + y) / 9) * 0.4;
      const sea = [56, 113, 156].map((value, c) => value + Math.max(0, 1 + depth * 14) * [40, 70, 50][c]);
      const land = depth < 0.015 ? [239, 223, 178] : hills > 0.5 ? [116, 160, 101] : [171, 200, 120];
      rows.set((depth < 0 ? sea : land).map((value) => Math.min(255, value)), y * (width * 3 + 1) + 1 + x * 3);
    }
  }
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const framed = Buffer.alloc(body.length + 8);
    framed.writeUInt32BE(data.length);
    body.copy(framed, 4);
    framed.writeUInt32BE(crc32(body), body.length + 4);
    return framed;
  };
  const head = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

const view = (kind, name, more = {}) =>
  [kind, name, more.hue ?? 0, more.pose ?? 0, more.health ?? 100, more.tie ?? 0, more.detail ?? []];

/** A village at a tile: something of every kind and state that the page draws. `[x, y, view]` each. */
function village(x, y) {
  const exchange = [7, 9001, 2, 9012, 24, 3, 9, 5];
  const fight = [[9001, 0, 71, 9012, 1, 40], exchange];
  return [
    ...[[0, 0], [16, 0], [0, 16]].map(([dx, dy]) => [x + dx, y + dy, view(5, "", { tie: 9003 })]),
    [x - 16, y, view(5, "", { tie: 9004 })],
    [x - 4, y - 4, view(2, "hut", { tie: 9003, detail: [[4, 3, 0]] })],
    [x + 1, y - 2, view(2, "box", { tie: 9003, detail: [[1, 1, 0]] })],
    [x + 4, y + 1, view(2, "hearth", { pose: 2, tie: 9003, detail: [[2, 2, 0]] })],
    [x + 8, y + 1, view(2, "hearth", { tie: 9003, detail: [[2, 2, 0]] })],
    [x - 1, y - 6, view(2, "door", { pose: 1, tie: 9003, detail: [[1, 1, 0]] })],
    [x, y - 6, view(2, "door", { tie: 9003, detail: [[1, 1, 0]] })],
    ...[2, 3, 4, 5].map((dx) => [x + dx, y - 6, view(2, "fence", { tie: 9003, detail: [[1, 1, 0]] })]),
    [x - 8, y + 5, view(3, "pine", { pose: 4, health: 0 })],
    [x - 6, y + 6, view(3, "boulder", { health: 60 })],
    ...["hare", "crab", "gull", "goat", "pony", "wild_boar", "wolf", "raptor", "unheard_of"]
      .map((name, at) => [x - 12 + at * 3, y + 11, view(1, name, { tie: 1, pose: [0, 0, 0, 1, 0, 3, 4, 4, 0][at], health: 90 })]),
    [x + 12, y - 9, view(0, "Ayu", { pose: 5, tie: 9099, health: 71 }), 9001],
    [x + 15, y - 9, view(1, "wild_boar", { pose: 5, tie: 9099, health: 40 }), 9012],
    [x + 13.5, y - 9, view(4, "", { tie: 7, detail: fight }), 9099],
    [x + 2, y + 4, view(0, "Mina", { tie: 77 }), 9003],
    [x + 6, y + 5, view(0, "Bora", { tie: 77, health: 60 }), 9004],
    [x - 10, y - 9, view(0, "Joon", { tie: 78 })],
  ];
}

/** One island's walkers and the frames that tell of them. */
class Island {
  constructor(facts, walkers) {
    this.facts = facts;
    this.random = generator(facts.id);
    this.started = performance.now();
    this.feeds = new Map();
    this.pending = new Map();
    this.viewers = new Set();
    // Every publisher has a clock of its own: offsets as a mesh has them.
    this.nodes = [3, 5, 8].map((number, index) => ({ id: `frontend-${index + 1}`, publisher: 10 ** 11 * number + index,
      offset_ms: [-1000, 0, 123_456][index], colour: index, state: "up" }));
    this.walkers = Array.from({ length: walkers }, (_, index) => this.#born(index));
    for (const walker of this.walkers) this.#feed(walker).objects.set(walker.id, walker);
    // Nothing of a village moves; it is on the second island, where nobody counts.
    this.village = facts.id === 2 ? village(128, 160).map((thing, index) => this.#stood(thing, index)) : [];
  }

  #stood([x, y, view, id], index) {
    const [cx, cy] = [Math.floor(x / CELL), Math.floor(y / CELL)];
    const node = this.nodes[index % 3];
    const motion = [Math.round(x * UNITS), Math.round(y * UNITS), 0, 0, this.now(node), 0];
    const thing = { id: id ?? 9500 + index, node, epoch: 1, version: 1, motion, cx, cy, view };
    this.#feed(thing).objects.set(thing.id, thing);
    return thing;
  }

  /** The battle of the village goes on by one exchange. */
  exchange() {
    const battle = this.village.find(({ id }) => id === 9099);
    const [number] = battle.view[6].at(-1);
    battle.version += 1;
    battle.view = view(4, "", { tie: number + 1, detail: [battle.view[6][0], ...battle.view[6].slice(-7),
      [number + 1, 9012, 0, 9001, 9, 1, 0, 0]].slice(0, 9) });
    this.#say(this.#feed(battle), [1, battle.id, battle.version, battle.view]);
  }

  now(node) {
    return Math.floor(performance.now() - this.started) + 5_000_000 - node.offset_ms;
  }

  #born(index) {
    const { width_tiles, height_tiles } = this.facts;
    let [x, y] = [0, 0];
    do [x, y] = [this.random() * width_tiles, this.random() * height_tiles];
    while (inland(this.facts, x, y) < 0.03);
    const node = this.nodes[Math.min(Math.floor((x / width_tiles) * 2 + this.random()), 2)];
    const motion = [Math.floor(x * UNITS), Math.floor(y * UNITS), 0, 0, this.now(node), 0];
    const [cx, cy] = [Math.floor(x / CELL), Math.floor(y / CELL)];
    return { id: 1000 + index, node, epoch: 1, version: 1, motion, cx, cy, view: [0, `Walker ${index + 1}`, 0], turn: 0 };
  }

  #feed({ node, cx, cy }) {
    const key = `${node.publisher}/${cx}/${cy}`;
    if (!this.feeds.has(key)) this.feeds.set(key, { node, cx, cy, seq: this.now(node), objects: new Map(), fresh: true });
    return this.feeds.get(key);
  }

  #say(feed, entry) {
    if (!this.pending.has(feed)) this.pending.set(feed, []);
    this.pending.get(feed).push(entry);
  }

  tick() {
    for (const walker of this.walkers) this.#live(walker);
    const frames = [];
    for (const [feed, entries] of this.pending) {
      feed.seq += 1;
      const head = [feed.node.publisher, this.facts.id, feed.cx, feed.cy, feed.seq, this.now(feed.node)];
      // The first frame of a cell that nobody has heard of is a keyframe.
      frames.push(encode(feed.fresh ? [11, ...head, listed(feed)] : [10, ...head, entries]));
      feed.fresh = false;
    }
    this.pending.clear();
    for (const viewer of this.viewers) for (const frame of frames) viewer.binary(frame);
  }

  #live(walker) {
    const now = this.now(walker.node);
    const [x, y, vx, vy, since, duration] = walker.motion;
    const elapsed = Math.min(Math.max(now - since, 0), duration);
    const [px, py] = [x + Math.floor((vx * elapsed) / 1000), y + Math.floor((vy * elapsed) / 1000)];
    const [cx, cy] = [Math.floor(px / UNITS / CELL), Math.floor(py / UNITS / CELL)];
    if (cx !== walker.cx || cy !== walker.cy) {
      const [from, to] = [[walker.cx, walker.cy], [cx, cy]];
      const old = this.#feed(walker);
      old.objects.delete(walker.id);
      Object.assign(walker, { cx, cy, version: walker.version + 1 });
      this.#say(old, [3, walker.id, walker.epoch, walker.version - 1, to]);
      const fresh = this.#feed(walker);
      fresh.objects.set(walker.id, walker);
      this.#say(fresh, [0, walker.id, walker.epoch, walker.version, walker.motion, walker.view, from]);
    }
    if (now < walker.turn) return;
    walker.turn = now + 1500 + this.random() * 2500;
    const angle = this.random() * 2 * Math.PI;
    const speed = this.random() < 0.15 ? 0 : 500 + this.random() * 524;
    const [nvx, nvy] = [Math.round(Math.cos(angle) * speed), Math.round(Math.sin(angle) * speed)];
    let ahead = 0;
    const ground = (ms) => inland(this.facts, (px + (nvx * ms) / 1000) / UNITS, (py + (nvy * ms) / 1000) / UNITS);
    while (speed > 0 && ahead < 4000 && ground(ahead + 250) > 0.01) ahead += 250;
    walker.version += 1;
    walker.motion = [px, py, ahead ? nvx : 0, ahead ? nvy : 0, now, ahead];
    this.#say(this.#feed(walker), [2, walker.id, walker.version, walker.motion]);
  }

  nodesMessage() {
    const seen = new Map(this.nodes.map((node) => [node, new Map()]));
    for (const { node, cx, cy } of this.walkers) {
      for (let y = cy - 1; y <= cy + 1; y += 1) {
        const row = seen.get(node).get(y) ?? seen.get(node).set(y, new Set()).get(y);
        for (let x = cx - 1; x <= cx + 1; x += 1) if (x >= 0 && y >= 0) row.add(x);
      }
    }
    const rows = this.nodes.map((node) => {
      const players = this.walkers.filter((walker) => walker.node === node).length;
      const cells = [...seen.get(node)].flatMap(([y, xs]) => [...xs].map((x) => [y, x, 1]));
      return { ...node, role: "frontend", load: { players, capacity: 1000, tick_p99_us: 2100 + players, draining: false }, cells };
    });
    const whole = Array.from({ length: Math.ceil(this.facts.height_tiles / CELL) }, (_, y) => [y, 0, Math.ceil(this.facts.width_tiles / CELL)]);
    rows.push({ id: "gateway-1", role: "gateway", publisher: 42, state: "up", load: null, offset_ms: 0, colour: 3, cells: whole });
    return JSON.stringify({ type: "nodes", island: this.facts.id, now_ms: this.#gatewayNow(), nodes: rows });
  }

  #gatewayNow() {
    return this.now({ offset_ms: 0 });
  }

  everything(viewer) {
    viewer.text(JSON.stringify({ type: "reset", now_ms: this.#gatewayNow() }));
    for (const feed of this.feeds.values()) {
      const { node, cx, cy, seq } = feed;
      viewer.binary(encode([11, node.publisher, this.facts.id, cx, cy, seq, this.now(node), listed(feed)]));
    }
  }
}

function listed({ objects }) {
  return [...objects.values()].map(({ id, epoch, version, motion, view }) => [id, epoch, version, motion, view]);
}

/** The server's end of a WebSocket, as much of it as a feed needs. */
class Viewer {
  constructor(request, socket) {
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept.digest("base64")}\r\n\r\n`);
    this.socket = socket;
  }

  text(text) {
    this.#write(0x81, Buffer.from(text));
  }

  binary(bytes) {
    this.#write(0x82, bytes);
  }

  #write(kind, body) {
    const long = body.length >= 65_536;
    const head = Buffer.alloc(body.length < 126 ? 2 : long ? 10 : 4);
    head[0] = kind;
    head[1] = body.length < 126 ? body.length : long ? 127 : 126;
    if (long) head.writeBigUInt64BE(BigInt(body.length), 2);
    else if (head.length === 4) head.writeUInt16BE(body.length, 2);
    if (this.socket.writable) this.socket.write(Buffer.concat([head, body]));
  }
}

/** Starts a stand-in; `url`, `islands` to meddle with, `drop()` cuts all viewers off, `pause(true)` stops the world. */
export async function start({ port = 0, walkers = 1000 } = {}) {
  const islands = ISLANDS.map((facts) => new Island(facts, facts.id === 1 ? walkers : Math.ceil(walkers / 5)));
  const sockets = new Set();
  const server = createServer(async (request, response) => {
    const path = request.url.split("?")[0];
    const map = path.match(/^\/v1\/islands\/(\d+)\/map\.png$/);
    if (FILES[path]) {
      const [name, type] = FILES[path];
      response.writeHead(200, { "content-type": type, "content-security-policy": POLICY });
      response.end(await readFile(new URL(`../${name}`, import.meta.url)));
    } else if (path === "/v1/islands") {
      const list = ISLANDS.map((facts) => ({ ...facts, spawn_points: [], map: `/v1/islands/${facts.id}/map.png` }));
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(list));
    } else if (map && ISLANDS.some(({ id }) => id === Number(map[1]))) {
      const island = ISLANDS.find(({ id }) => id === Number(map[1]));
      response.writeHead(200, { "content-type": "image/png" }).end(picture(island));
    } else {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { code: "not_found", message: "there is nothing at this path" } }));
    }
  });
  server.on("upgrade", (request, socket) => {
    const island = islands.find(({ facts }) => request.url === `/v1/map?island=${facts.id}`);
    if (!island) return socket.destroy();
    const viewer = new Viewer(request, socket);
    sockets.add(socket);
    socket.on("close", () => (sockets.delete(socket), island.viewers.delete(viewer)));
    socket.on("data", () => {});
    viewer.text(island.nodesMessage());
    island.everything(viewer);
    island.viewers.add(viewer);
  });
  let paused = false;
  const ticking = setInterval(() => paused || islands.forEach((island) => island.tick()), TICK_MS);
  const telling = setInterval(() => {
    for (const island of islands) {
      const message = island.viewers.size > 0 ? island.nodesMessage() : "";
      for (const viewer of island.viewers) viewer.text(message);
    }
  }, 1000);
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    islands,
    pause: (stop) => (paused = stop),
    drop: () => sockets.forEach((socket) => socket.destroy()),
    close: () => {
      clearInterval(ticking);
      clearInterval(telling);
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href && process.argv[2]) {
  const { url } = await start({ port: Number(process.argv[2]), walkers: Number(process.argv[3] ?? 1000) });
  console.log(url);
}
