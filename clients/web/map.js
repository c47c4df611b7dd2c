// The live map: one island, everybody on it drawn from the motion that their owner published, and who owns whom.
// The gateway's feed (`/v1/map`, described in clients/PROTOCOL.md) says everything; nothing here asks a node directly.
// The parts are in map/: world (what is known), camera, painter (what is drawn), panel, link, control.

import { Camera } from "./map/camera.js";
import { element } from "./map/common.js";
import { control } from "./map/control.js";
import { Link } from "./map/link.js";
import { Painter } from "./map/painter.js";
import { Panel } from "./map/panel.js";
import { World } from "./map/world.js";

const FINE = "?scale=8"; // asks for the finest picture that the gateway draws

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
    panel.card(pointed === null ? null : painter.markOf(pointed));
    if (now - told > 250) {
      told = now;
      panel.setCounts(world.feeds.objects.size + world.crossing.size, painter.moving);
      panel.setKinds(world.feeds.objects);
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

