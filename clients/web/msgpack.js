// What comes over the wire: MessagePack, the formula of motion, and the rules of feeds. No DOM, no network: Node's tests
// run this file as it is. clients/PROTOCOL.md describes all of it; clients/vectors.json checks it.

const text = new TextDecoder("utf-8", { fatal: true });
const utf8 = new TextEncoder();

/** Decodes one value, the whole of `bytes`. Throws a RangeError on anything malformed or beyond 2^53. */
export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [value, end] = read(bytes, view, 0, 0);
  if (end !== bytes.length) throw new RangeError("bytes behind the end of the message");
  return value;
}

const MAX_DEPTH = 32;

function read(bytes, view, at, depth) {
  const kind = view.getUint8(at);
  at += 1;
  if (kind < 0x80) return [kind, at];
  if (kind >= 0xe0) return [kind - 0x100, at];
  if (kind < 0x90) return readMap(bytes, view, at, kind & 15, depth);
  if (kind < 0xa0) return readArray(bytes, view, at, kind & 15, depth);
  if (kind < 0xc0) return readText(bytes, at, kind & 31);
  switch (kind) {
    case 0xc0: return [null, at];
    case 0xc2: return [false, at];
    case 0xc3: return [true, at];
    case 0xc4: return readBytes(bytes, at + 1, view.getUint8(at));
    case 0xc5: return readBytes(bytes, at + 2, view.getUint16(at));
    case 0xc6: return readBytes(bytes, at + 4, view.getUint32(at));
    case 0xca: return [view.getFloat32(at), at + 4];
    case 0xcb: return [view.getFloat64(at), at + 8];
    case 0xcc: return [view.getUint8(at), at + 1];
    case 0xcd: return [view.getUint16(at), at + 2];
    case 0xce: return [view.getUint32(at), at + 4];
    case 0xcf: return [safe(view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)), at + 8];
    case 0xd0: return [view.getInt8(at), at + 1];
    case 0xd1: return [view.getInt16(at), at + 2];
    case 0xd2: return [view.getInt32(at), at + 4];
    case 0xd3: return [safe(view.getInt32(at) * 2 ** 32 + view.getUint32(at + 4)), at + 8];
    case 0xd9: return readText(bytes, at + 1, view.getUint8(at));
    case 0xda: return readText(bytes, at + 2, view.getUint16(at));
    case 0xdb: return readText(bytes, at + 4, view.getUint32(at));
    case 0xdc: return readArray(bytes, view, at + 2, view.getUint16(at), depth);
    case 0xdd: return readArray(bytes, view, at + 4, view.getUint32(at), depth);
    case 0xde: return readMap(bytes, view, at + 2, view.getUint16(at), depth);
    case 0xdf: return readMap(bytes, view, at + 4, view.getUint32(at), depth);
    default: throw new RangeError(`no value begins with 0x${kind.toString(16)}`);
  }
}

function readArray(bytes, view, at, length, depth) {
  if (length > bytes.length - at || depth >= MAX_DEPTH) throw new RangeError("an array that cannot be");
  const values = new Array(length);
  for (let index = 0; index < length; index += 1) [values[index], at] = read(bytes, view, at, depth + 1);
  return [values, at];
}

function readMap(bytes, view, at, length, depth) {
  if (length > bytes.length - at || depth >= MAX_DEPTH) throw new RangeError("a map that cannot be");
  const entries = new Map();
  for (let index = 0; index < length; index += 1) {
    let key, value;
    [key, at] = read(bytes, view, at, depth + 1);
    [value, at] = read(bytes, view, at, depth + 1);
    entries.set(key, value);
  }
  return [entries, at];
}

function readBytes(bytes, at, length) {
  if (length > bytes.length - at) throw new RangeError("the message ends early");
  return [bytes.subarray(at, at + length), at + length];
}

function readText(bytes, at, length) {
  const [raw, end] = readBytes(bytes, at, length);
  try {
    return [text.decode(raw), end];
  } catch {
    throw new RangeError("a text that is not UTF-8");
  }
}

function safe(number) {
  if (!Number.isSafeInteger(number)) throw new RangeError("a number beyond 2^53");
  return number;
}

/** Encodes nulls, booleans, safe integers, strings and arrays in their shortest forms. */
export function encode(value) {
  const out = [];
  write(out, value);
  return Uint8Array.from(out);
}

function write(out, value) {
  if (value === null) out.push(0xc0);
  else if (typeof value === "boolean") out.push(value ? 0xc3 : 0xc2);
  else if (typeof value === "string") writeText(out, utf8.encode(value));
  else if (Array.isArray(value)) {
    writeLength(out, value.length, 0x90, 16, null, 0xdc, 0xdd);
    for (const item of value) write(out, item);
  } else if (Number.isSafeInteger(value)) writeInteger(out, value);
  else throw new RangeError(`cannot encode ${value}`);
}

function writeText(out, raw) {
  writeLength(out, raw.length, 0xa0, 32, 0xd9, 0xda, 0xdb);
  for (const byte of raw) out.push(byte);
}

function writeLength(out, length, fixed, fixedBelow, one, two, four) {
  if (length < fixedBelow) out.push(fixed | length);
  else if (one !== null && length < 0x100) out.push(one, length);
  else if (length < 0x10000) out.push(two, length >> 8, length & 255);
  else out.push(four, length >>> 24, (length >> 16) & 255, (length >> 8) & 255, length & 255);
}

function writeInteger(out, value) {
  if (value >= 0) {
    if (value < 0x80) out.push(value);
    else if (value < 0x100) writeBig(out, 0xcc, value, 1);
    else if (value < 0x10000) writeBig(out, 0xcd, value, 2);
    else if (value < 2 ** 32) writeBig(out, 0xce, value, 4);
    else writeBig(out, 0xcf, value, 8);
  } else if (value >= -32) out.push(value + 0x100);
  else if (value >= -0x80) writeBig(out, 0xd0, value, 1);
  else if (value >= -0x8000) writeBig(out, 0xd1, value, 2);
  else if (value >= -(2 ** 31)) writeBig(out, 0xd2, value, 4);
  else writeBig(out, 0xd3, value, 8);
}

function writeBig(out, kind, value, size) {
  out.push(kind);
  const big = BigInt.asUintN(size * 8, BigInt(value));
  for (let shift = size - 1; shift >= 0; shift -= 1) out.push(Number((big >> BigInt(8 * shift)) & 255n));
}

/** The place of a motion `[x, y, vx, vy, since_ms, duration_ms]` at `now` on its publisher's clock: whole numbers. */
export function place([x, y, vx, vy, since, duration], now) {
  const elapsed = Math.min(Math.max(now - since, 0), duration);
  return [x + Math.floor((vx * elapsed) / 1000), y + Math.floor((vy * elapsed) / 1000)];
}

/** Newer frames kept while a keyframe is awaited. */
const MAX_WAITING = 64;

const DELTA = 10;
const KEYFRAME = 11;
const ENTER = 0;
const CHANGE = 1;
const MOVE = 2;
const LEAVE = 3;

/**
 * All that is shown: a feed per publisher and cell, and the objects that come of them, by id:
 * `{ id, publisher, epoch, version, cell, motion, view }`, cell as a key of `cellKey`.
 */
export class Feeds {
  /**
   * `everywhere`: all cells are in sight, as on the live map; otherwise those that `see` was told of.
   * `onMove(object, motion, publisher)` hears of a motion before it is taken, `onEnter(object)` of who is new, and
   * `onLeave(object, to)` of who has left a cell.
   */
  constructor({ everywhere = false, onMove = null, onEnter = null, onLeave = null } = {}) {
    this.everywhere = everywhere;
    this.onEnter = onEnter;
    this.onMove = onMove;
    this.onLeave = onLeave;
    this.clear();
  }

  clear() {
    this.objects = new Map();
    this.feeds = new Map();
    this.cells = new Set();
    this.island = null;
  }

  /** A vision message. */
  see(island, entered, left) {
    if (island !== this.island) this.clear();
    this.island = island;
    for (const [x, y] of left) this.cells.delete(cellKey(x, y));
    if (left.length > 0) {
      for (const [key, feed] of this.feeds) if (!this.cells.has(feed.cell)) this.feeds.delete(key);
      for (const [id, object] of this.objects) if (!this.cells.has(object.cell)) this.objects.delete(id);
    }
    for (const [x, y] of entered) this.cells.add(cellKey(x, y));
  }

  /** True if a keyframe is awaited somewhere. */
  get waiting() {
    for (const feed of this.feeds.values()) if (feed.waiting) return true;
    return false;
  }

  /** Takes a decoded frame; says "applied", "old", "gap", "waits" or "stray". After a gap the cell must be asked for. */
  apply(frame) {
    const [kind, publisher, island, x, y, seq, , entries] = frame;
    const cell = cellKey(x, y);
    if (this.everywhere) this.island ??= island;
    if (island !== this.island || !(this.everywhere || this.cells.has(cell))) return "stray";
    const key = `${publisher}/${cell}`;
    let feed = this.feeds.get(key);
    const known = feed !== undefined;
    // A feed that we do not know had nothing in the cell, else a keyframe had come: its first frame begins it.
    if (!known) this.feeds.set(key, (feed = { cell, last: seq - 1, waiting: null }));
    if (kind === KEYFRAME) return this.#keyframe(feed, known, publisher, seq, entries);
    if (kind !== DELTA) return "stray";
    if (seq <= feed.last) return "old";
    if (feed.waiting) {
      if (feed.waiting.length === MAX_WAITING) feed.waiting.shift();
      feed.waiting.push(frame);
      return "waits";
    }
    if (seq !== feed.last + 1) {
      feed.waiting = [frame];
      return "gap";
    }
    feed.last = seq;
    for (const entry of entries) this.#entry(publisher, cell, entry);
    return "applied";
  }

  #keyframe(feed, known, publisher, seq, objects) {
    if (known && seq < feed.last) return "old";
    feed.last = seq;
    const waiting = feed.waiting ?? [];
    feed.waiting = null;
    if (known) {
      const listed = new Set(objects.map(([id]) => id));
      for (const [id, object] of this.objects) {
        if (object.publisher === publisher && object.cell === feed.cell && !listed.has(id)) this.objects.delete(id);
      }
    }
    for (const object of objects) this.#show(publisher, feed.cell, object);
    let outcome = "applied";
    for (const frame of waiting) if (frame[5] > feed.last && this.apply(frame) === "gap") outcome = "gap";
    return outcome;
  }

  #entry(publisher, cell, entry) {
    if (entry[0] === ENTER) return this.#show(publisher, cell, entry.slice(1));
    const object = this.objects.get(entry[1]);
    if (object === undefined) return;
    if (entry[0] === LEAVE) {
      const [, id, epoch, version, to] = entry;
      if (object.cell !== cell || newer(object.epoch, object.version, epoch, version)) return;
      this.objects.delete(id);
      this.onLeave?.(object, to);
    } else if (object.publisher === publisher && entry[2] > object.version) {
      object.version = entry[2];
      if (entry[0] === MOVE) this.#move(object, entry[3]);
      else if (entry[0] === CHANGE) object.view = entry[3];
    }
  }

  #show(publisher, cell, [id, epoch, version, motion, view]) {
    const object = this.objects.get(id);
    if (object === undefined) {
      const fresh = { id, publisher, epoch, version, cell, motion, view };
      this.objects.set(id, fresh);
      this.onEnter?.(fresh);
    } else if (newer(epoch, version, object.epoch, object.version)) {
      const before = object.publisher;
      Object.assign(object, { epoch, version, cell, view });
      if (before !== publisher || !sameMotion(object.motion, motion)) this.#move(object, motion, publisher);
    }
  }

  #move(object, motion, publisher = object.publisher) {
    this.onMove?.(object, motion, publisher);
    object.publisher = publisher;
    object.motion = motion;
  }
}

/** One number for a cell. */
export function cellKey(x, y) {
  return y * 65536 + x;
}

function newer(epoch, version, thanEpoch, thanVersion) {
  return epoch > thanEpoch || (epoch === thanEpoch && version > thanVersion);
}

function sameMotion(one, other) {
  return one.every((number, index) => number === other[index]);
}
