// What is known of one island: objects, nodes and their clocks, from the gateway's feed. Nothing is drawn here.

import { Feeds, decode } from "../msgpack.js";
import { SETTLE_MS, UNITS } from "./common.js";

const CLOCK_MS = 500; // a better reading of a clock is taken over in about this long
const JUMP = 3; // tiles; corrections beyond it are drawn at once
const CROSSING_MS = 300; // who leaves a cell for another is still drawn for so long, until the other cell tells of them
const STUCK_MS = 5000; // a cell whose keyframe does not come for so long: connect anew

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
export class World {
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
