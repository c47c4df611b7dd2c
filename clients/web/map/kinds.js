// What there is besides nodes: the kinds of objects as views tell of them, how each is drawn, and in words. No state but
// sprites. A view is [kind, name, hue, pose, health, tie, detail]; clients/PROTOCOL.md describes it.

import { UNITS } from "./common.js";

export const PLAYER = 0;
export const ANIMAL = 1;
export const FACILITY = 2;
export const NATURE = 3;
export const BATTLE = 4;
export const LAND = 5;

/** What the legend calls them. */
export const LABELS = ["Players", "Animals", "Buildings", "Nature", "Battles", "Land"];
export const CHUNK = 16; // tiles
export const FIGHTS = 5; // the pose of who is in a battle
const SLEEPS = 1;
const FLEES = 3;
const HUNTS = 4;
const DEFEATED = 6;
const OPEN = 1;
const LIT = 2;
const USED_UP = 4;

const POSES = ["", "asleep", "busy", "fleeing", "hunting", "fighting", "defeated"];
const BLOWS = ["strikes", "takes up a guard", "strikes hard at", "flees"];
const REACTIONS = ["is struck", "guards", "dodges", "strikes back", "falls", "gets away", "is held"];

// Shapes tell what an animal is like, colours which it is.
const SPECIES = {
  hare: ["small", "#dcc9a2"], crab: ["small", "#ff9a78"], honeycreeper: ["bird", "#ff7f7f"], partridge: ["bird", "#c9a27b"],
  pheasant: ["bird", "#d98f5c"], nene: ["bird", "#b9b3a5"], wood_pigeon: ["bird", "#a9b6d1"], gull: ["bird", "#f2f5f7"],
  falcon: ["bird", "#e0b04f"], goat: ["beast", "#ece4d3"], roe_deer: ["beast", "#c98d5b"], pony: ["beast", "#a9794f"],
  wild_boar: ["beast", "#8f6f5c"], wolf: ["hunter", "#c4cfda"], raptor: ["hunter", "#ff6a55"],
};
const FACILITIES = { box: "#c99a5b", hearth: "#8d8178", door: "#b07f4a", fence: "#a58a63", workbench: "#b89263", kiln: "#a0705c",
  bed: "#c4a6b8", shrine: "#b7c4d6", hut: "#b5885e" };

/** A colour for a number or a name, always the same. */
export function hueOf(of) {
  const number = typeof of === "number" ? of : [...of].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7);
  return Math.round((number * 137.508) % 360);
}

export const partyColour = (party) => `hsl(${hueOf(party)} 90% 68%)`;
export const landColour = (holding) => `hsl(${hueOf(holding)} 75% 62%)`;

/** The shape and the colour of an animal. */
export function lookOf(species) {
  return SPECIES[species] ?? ["beast", `hsl(${hueOf(species)} 45% 65%)`];
}

const shapes = {
  small: (context, m, r) => context.ellipse(m, m, r * 0.8, r * 0.62, 0, 0, 7),
  beast: (context, m, r) => context.roundRect(m - r, m - r * 0.66, r * 2, r * 1.32, r * 0.5),
  bird: (context, m, r) => poly(context, m, r, [[-1.1, -0.5], [0, 0.1], [1.1, -0.5], [0, 0.85]]),
  hunter: (context, m, r) => poly(context, m, r, [[0, -1.15], [1.1, 0.85], [0, 0.4], [-1.1, 0.85]]),
};

function poly(context, m, r, corners) {
  for (const [x, y] of corners) context.lineTo(m + x * r, m + y * r);
  context.closePath();
}

const sprites = new Map();

/** An animal's sprite: its shape with a dark rim; a red one while it hunts or fights. */
export function animalSprite(species, pose, radius) {
  const rim = pose === HUNTS || pose === FIGHTS ? "#ff5c4d" : pose === FLEES ? "#ffffff" : "#0a1b2b";
  const key = `${species} ${rim} ${radius}`;
  let sprite = sprites.get(key);
  if (sprite) return sprite;
  if (sprites.size > 400) sprites.clear();
  const [shape, colour] = lookOf(species);
  sprite = document.createElement("canvas");
  sprite.width = sprite.height = Math.ceil(radius * 2.6 + 6);
  const context = sprite.getContext("2d");
  context.beginPath();
  shapes[shape](context, sprite.width / 2, radius);
  context.lineJoin = "round";
  context.lineWidth = Math.max(radius * 0.5, 2);
  context.strokeStyle = rim;
  context.stroke();
  context.fillStyle = colour;
  context.fill();
  sprites.set(key, sprite);
  return sprite;
}

/** How solid somebody is drawn. */
export function solidity(pose) {
  return pose === DEFEATED ? 0.35 : pose === SLEEPS ? 0.6 : 1;
}

/** A chunk that belongs to somebody. `[x, y]` is its corner on the screen. */
export function drawLand(context, view, [x, y], side) {
  context.globalAlpha = 0.17;
  context.fillStyle = context.strokeStyle = landColour(view[5]);
  context.fillRect(x, y, side, side);
  context.globalAlpha = 0.55;
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
  context.globalAlpha = 1;
}

/** A facility: its footprint; a lit hearth glows, an open door is only a frame. */
export function drawFacility(context, view, x, y, scale) {
  const [width, height] = sizeOf(view).map((tiles) => Math.max(tiles * scale, 3));
  const [left, top] = [x - width / 2, y - height / 2];
  const colour = FACILITIES[view[1]] ?? `hsl(${hueOf(view[1])} 30% 58%)`;
  if (view[3] & LIT) {
    const reach = Math.max(width * 1.9, 9);
    const glow = context.createRadialGradient(x, y, 0, x, y, reach);
    glow.addColorStop(0, "rgb(255 190 90 / 75%)");
    glow.addColorStop(1, "rgb(255 130 40 / 0%)");
    context.fillStyle = glow;
    context.fillRect(x - reach, y - reach, reach * 2, reach * 2);
  }
  context.lineWidth = Math.min(Math.max(scale * 0.12, 1), 3);
  context.strokeStyle = "#0a1b2b";
  context.strokeRect(left, top, width, height);
  if (view[3] & OPEN) {
    context.strokeStyle = colour;
    context.strokeRect(left, top, width, height);
    return;
  }
  context.fillStyle = view[3] & LIT ? "#ffb861" : colour;
  context.fillRect(left, top, width, height);
}

/** A natural object that was touched: a stump when used up, else a ring of what is left. */
export function drawNature(context, view, x, y, scale) {
  const radius = Math.min(Math.max(scale * 0.36, 1.6), 9);
  context.lineWidth = Math.max(radius * 0.35, 1);
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fillStyle = view[3] & USED_UP ? "#6d5238" : "#31543c";
  context.fill();
  context.beginPath();
  context.arc(x, y, radius, -Math.PI / 2, -Math.PI / 2 + (Math.PI * 2 * view[4]) / 100);
  context.strokeStyle = "#9fe08c";
  context.stroke();
}

/** Crossed swords; `fresh` from 1 to 0 is how new the last exchange is. */
export function drawBattle(context, view, x, y, radius, fresh) {
  const r = radius + 5;
  if (fresh > 0) {
    context.globalAlpha = fresh;
    context.strokeStyle = "#ffe9b0";
    context.lineWidth = 2 + 3 * fresh;
    context.beginPath();
    context.arc(x, y, r + 10 * (1 - fresh), 0, 7);
    context.stroke();
    context.globalAlpha = 1;
  }
  for (const [colour, width] of [["#1a0d0d", 5], [fresh > 0 ? "#ffffff" : "#ff8f7a", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.lineCap = "round";
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(x - side * r * 0.7, y + r * 0.7);
      context.lineTo(x + side * r * 0.7, y - r * 0.7);
      context.moveTo(x - side * r * 0.75, y + r * 0.15);
      context.lineTo(x - side * r * 0.15, y + r * 0.75);
    }
    context.stroke();
  }
  const last = exchangesOf(view).at(-1);
  if (fresh <= 0 || !last || last[4] + last[6] === 0) return;
  context.globalAlpha = Math.min(fresh * 2, 1);
  context.font = "700 13px ui-sans-serif, system-ui, sans-serif";
  context.textAlign = "center";
  context.fillStyle = "#ffd9c9";
  context.fillText(`−${last[4] || last[6]}`, x, y - r - 6 - 10 * (1 - fresh));
  context.globalAlpha = 1;
}

const sizeOf = (view) => view[6]?.[0]?.slice(0, 2) ?? [1, 1];
const exchangesOf = (view) => view[6]?.slice(1) ?? [];
const plain = (name) => (name ?? "").replaceAll("_", " ");
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const listed = (...parts) => parts.filter(Boolean).join(" · ");

/** What somebody or something is called, by its number. */
function called(id, objects) {
  const view = objects.get(id)?.view;
  return view ? plain(view[1]) || `object ${id}` : `object ${id}`;
}

/** An object in words: a title, and a line about how it is. */
export function describe({ id, view }, objects) {
  const [kind, name, , pose = 0, health = 100, tie = 0, detail = []] = view;
  const state = listed(POSES[pose], health < 100 || kind === ANIMAL ? `health ${health}%` : "");
  switch (kind) {
    case PLAYER: return [name || `player ${id}`, listed(state, tie && pose !== FIGHTS ? `party ${tie}` : "")];
    case ANIMAL: return [capital(plain(name)), state];
    case FACILITY: {
      const [width, height] = sizeOf(view);
      const by = tie ? `built by ${called(tie, objects)}` : "";
      return [capital(plain(name)), listed(pose & LIT ? "lit" : "", pose & OPEN ? "open" : "", `${width}×${height} tiles`, by)];
    }
    case NATURE: return [capital(plain(name)), pose & USED_UP ? "used up, grows again" : `${health}% left`];
    case BATTLE: return ["Battle", battle(detail, objects)];
    case LAND: return [`Land of ${called(tie, objects)}`, `${CHUNK}×${CHUNK} tiles`];
    default: return [name || `object ${id}`, ""];
  }
}

function battle([members = [], ...exchanges], objects) {
  const sides = [0, 0];
  for (let at = 0; at + 2 < members.length; at += 3) sides[Math.min(members[at + 1], 1)] += 1;
  const last = exchanges.at(-1);
  const many = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
  const who = `${many(sides[0], "player")} against ${many(sides[1], "animal")}`;
  if (!last) return who;
  const [number, actor, blow, target, harm, reaction] = last;
  const whom = actor === target ? "" : ` ${called(target, objects)}`;
  const deed = `${called(actor, objects)} ${BLOWS[blow] ?? "acts"}${whom}`;
  return listed(who, `#${number}: ${deed}${harm ? `, −${harm}` : ""}, ${actor === target ? "" : "who "}${REACTIONS[reaction] ?? ""}`);
}

/** The middle of a facility whose upper left tile has its middle at `x, y`. */
export function middleOf(view, x, y) {
  const [width, height] = sizeOf(view);
  return [x + (width - 1) / 2, y + (height - 1) / 2];
}

/** The chunk of a place in tiles. */
export const chunkOf = (x, y) => [Math.floor(x / CHUNK), Math.floor(y / CHUNK)];

/** Where an object that stands still is, in tiles. */
export const standing = ({ motion }) => [motion[0] / UNITS, motion[1] / UNITS];
