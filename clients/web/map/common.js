// What the modules of the map share: units, colours, and the page's elements. No state.

export const UNITS = 256; // in one tile
export const CELL = 32; // tiles
export const COLOURS = ["#6fd3ff", "#ffb35c", "#8ee88a", "#ff86a5", "#c9a2ff", "#f4e06d",
  "#52dcc4", "#ff9f80", "#9bb8ff", "#e3a1e8", "#b7dd6b", "#ffd0a6"];
export const NOBODY = "#d5dfe6"; // of publishers that the gateway has not told us of
export const SETTLE_MS = 90; // a correction of somebody's place is drawn out over about this long
export const element = (id) => document.getElementById(id);
export const calm = matchMedia("(prefers-reduced-motion: reduce)");
export const narrow = matchMedia("(max-width: 640px)");

/** A node's colour. */
export function colourOf(node) {
  return COLOURS[node.colour % COLOURS.length];
}
