// Drag, wheel, pinch, keys and clicks.

import { element } from "./common.js";

/** Drag, wheel, pinch, keys and clicks. */
export function control(canvas, camera, painter, panel) {
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
  /** Goes through all that is on the screen, from left to right. */
  const choose = (step) => {
    const marks = [...painter.drawn].sort((one, other) => one.x - other.x || one.object.id - other.object.id);
    const at = marks.findIndex(({ object }) => object.id === panel.chosen);
    const next = at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length;
    panel.chosen = marks[next]?.object.id ?? null;
  };
  addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
    if (event.key === "+" || event.key === "=") camera.zoom(1.4, ...middle());
    else if (event.key === "-" || event.key === "_") camera.zoom(1 / 1.4, ...middle());
    else if (event.key === "0") camera.fit(camera.island);
    else if (event.key === "Escape") panel.chosen = null;
    else if (event.key === "." || event.key === ",") choose(event.key === "." ? 1 : -1);
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
