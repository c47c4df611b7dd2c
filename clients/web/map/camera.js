// Which part of the island is on the screen.

import { calm, element, narrow } from "./common.js";

/** Which part of the island is on the screen. */
export class Camera {
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
