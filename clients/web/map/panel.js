// Everything on the page that is not the map itself: islands, counts, nodes, and the card of what is pointed at.

import { NOBODY, UNITS, colourOf, element, narrow } from "./common.js";
import { ANIMAL, LABELS, PLAYER, describe } from "./kinds.js";

/** Everything on the page that is not the map itself. */
export class Panel {
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

  /** Players who wait to be let in: shown only while there are any. */
  setWaiting(waiting) {
    element("line").hidden = waiting === 0;
    element("waiting").textContent = waiting.toLocaleString("en");
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
    part("load").innerHTML = counts ? `<b></b> ${node.role === "colosseum" ? "battles" : "players"}` : "";
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

  /** How many there are of each kind. */
  setKinds(objects) {
    const counts = LABELS.map(() => 0);
    for (const { view } of objects.values()) if (view[0] < counts.length) counts[view[0]] += 1;
    const list = element("kinds");
    if (list.children.length === 0) {
      list.append(...LABELS.map((label, kind) => {
        const row = document.createElement("li");
        row.innerHTML = '<span class="mark"></span><span></span><b></b>';
        row.firstChild.dataset.kind = kind;
        row.children[1].textContent = label;
        return row;
      }));
    }
    counts.forEach((count, kind) => {
      const row = list.children[kind];
      row.lastChild.textContent = count.toLocaleString("en");
      row.classList.toggle("none", count === 0);
    });
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
    const [title, state] = describe(mark.object, this.world.feeds.objects);
    card.querySelector("strong").textContent = title;
    card.querySelector(".state").textContent = state;
    card.querySelector(".state").hidden = state === "";
    card.querySelector(".owner").style.setProperty("--colour", node ? colourOf(node) : NOBODY);
    card.querySelector(".owner span").textContent = node ? node.id : `publisher ${mark.object.publisher}`;
    const moves = mark.object.view[0] === PLAYER || mark.object.view[0] === ANIMAL;
    const pace = !moves ? "" : mark.walks ? ` · ${(Math.hypot(vx, vy) / UNITS).toFixed(1)} tiles/s` : " · standing";
    card.querySelector(".where").textContent = `${mark.tileX.toFixed(1)}, ${mark.tileY.toFixed(1)}${pace}`;
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
