// The live map in a headless browser: that it shows who is there, that they move, that drawing is cheap, and that
// toggles, zoom, drag, keys, reconnecting and a phone's screen work.
//
//   node page.mjs                          against the stand-in of fake.mjs, with 1,000 walkers
//   node page.mjs http://127.0.0.1:8080    against a running gateway with somebody walking on its first island
//   node page.mjs http://127.0.0.1:8080/#4 the same, on island 4
//
// Screenshots go to the folder in SCREENSHOTS, or to none. CHROMIUM names the browser (/usr/bin/chromium).

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { start } from "./fake.mjs";

// `node --test` runs every file of a folder of this name; this one is run by itself.
if (process.env.NODE_TEST_CONTEXT) process.exit(0);

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const SCRIPT_MS = 8; // of the 16.7 ms that a frame has; the median, since the machine may be busy with other things
const folder = process.env.SCREENSHOTS;
const given = process.argv[2];
const fake = given ? null : await start({ walkers: 1000 });
const url = given ?? fake.url;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS });
const results = { passed: 0, failed: 0 };

async function check(name, page, body) {
  try {
    await body();
    results.passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    results.failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
    await shot(page, `failed-${results.failed}`);
  }
}

async function shot(page, name) {
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  // A gateway built for debugging draws its pictures slowly.
  page.setDefaultTimeout(90_000);
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`error: ${error.message}`));
  page.on("console", (message) => message.type() === "error"
    && page.faults.push(`console: ${message.text()} (${message.location().url})`));
  page.on("request", (request) => {
    const foreign = !request.url().startsWith(new URL(url).origin) && !request.url().startsWith("data:");
    if (foreign) page.faults.push(`a request to elsewhere: ${request.url()}`);
  });
  await page.goto(url);
  await page.waitForFunction(() => window.wildmesh && document.getElementById("link").dataset.state === "live");
  await page.waitForFunction(() => window.wildmesh.painter.ground && window.wildmesh.painter.drawn.length > 0);
  return page;
}

const places = (page) => page.evaluate(() => window.wildmesh.painter.drawn.map(({ object, tileX, tileY }) => [object.id, tileX, tileY]));
const scale = (page) => page.evaluate(() => window.wildmesh.camera.scale);
const settled = (page) => page.waitForFunction(() => window.wildmesh.camera.scale === window.wildmesh.camera.goal);

const page = await open({ viewport: { width: 1440, height: 900 }, deviceScaleFactor: 1 });

await check("walkers are drawn in their places and move", page, async () => {
  const before = new Map((await places(page)).map(([id, x, y]) => [id, [x, y]]));
  assert.ok(before.size > 0);
  await page.waitForFunction((old) => {
    const known = new Map(old);
    const moved = window.wildmesh.painter.drawn.filter(({ object, tileX, tileY }) => {
      const [x, y] = known.get(object.id) ?? [tileX, tileY];
      return Math.hypot(tileX - x, tileY - y) > 0.5;
    });
    return moved.length >= known.size / 4;
  }, [...before]);
});

await check("nobody jumps while walking", page, async () => {
  const worst = await page.evaluate(async () => {
    const { painter } = window.wildmesh;
    let fastest = 0;
    let last = null;
    for (let round = 0; round < 120; round += 1) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
      const now = performance.now();
      const here = new Map(painter.drawn.map(({ object, tileX, tileY }) => [object.id, [tileX, tileY]]));
      if (last) {
        for (const [id, [x, y]] of here) {
          const before = last.here.get(id);
          const seconds = Math.max(now - last.now, 16) / 1000;
          if (before) fastest = Math.max(fastest, Math.hypot(x - before[0], y - before[1]) / seconds);
        }
      }
      last = { here, now };
    }
    return fastest;
  });
  assert.ok(worst < 40, `somebody was drawn at ${worst.toFixed(1)} tiles a second`);
});

await check("drawing leaves most of every frame's time", page, async () => {
  await page.evaluate(() => (window.wildmesh.painter.times.length = 0));
  await page.waitForFunction(() => window.wildmesh.painter.times.length >= 120);
  const [times, count] = await page.evaluate(() => [[...window.wildmesh.painter.times], window.wildmesh.painter.drawn.length]);
  times.sort((one, other) => one - other);
  const [median, late] = [0.5, 0.95].map((quantile) => times[Math.floor(times.length * quantile)]);
  console.log(`      ${count} drawn; script time of a frame: median ${median.toFixed(2)} ms, p95 ${late.toFixed(2)} ms`);
  assert.ok(median < SCRIPT_MS, `the median is ${median} ms`);
});

await check("the panel tells islands, counts and nodes", page, async () => {
  await page.waitForFunction(() => Number(document.getElementById("count").textContent.replace(",", "")) > 0);
  assert.ok((await page.locator("#nodes li").count()) >= 2);
  assert.ok((await page.locator("#island option").count()) >= 1);
  assert.match(await page.locator("#nodes").innerText(), /frontend/);
  await shot(page, "wide");
});

await check("a node's sight can be hidden and shown", page, async () => {
  const row = page.locator("#nodes button").first();
  assert.equal(await row.getAttribute("aria-pressed"), "true");
  await row.click();
  assert.equal(await row.getAttribute("aria-pressed"), "false");
  const hidden = await page.evaluate(() => window.wildmesh.world.nodes.filter((node) => window.wildmesh.panel.shows(node)).length);
  await row.click();
  const shown = await page.evaluate(() => window.wildmesh.world.nodes.filter((node) => window.wildmesh.panel.shows(node)).length);
  assert.equal(shown, hidden + 1);
  await page.locator("#all").click();
  await shot(page, "no-sight");
  assert.equal(await page.locator('#nodes [aria-pressed="true"]').count(), 0);
  await page.locator("#all").click();
  assert.equal(await row.getAttribute("aria-pressed"), "true");
});

await check("the wheel zooms towards the pointer", page, async () => {
  const point = [900, 400];
  await page.mouse.move(...point);
  const under = (p) => page.evaluate(([x, y]) => window.wildmesh.camera.toTile(x, y), p);
  const [before, from] = [await scale(page), await under(point)];
  await page.mouse.wheel(0, -600);
  await page.waitForFunction((old) => window.wildmesh.camera.scale > old * 1.5, before);
  await settled(page);
  const to = await under(point);
  assert.ok(Math.hypot(to[0] - from[0], to[1] - from[1]) < 0.6, `${from} went to ${to}`);
});

await check("dragging moves the map, keys zoom, and the whole island comes back", page, async () => {
  const before = await page.evaluate(() => window.wildmesh.camera.x);
  await page.mouse.move(900, 500);
  await page.mouse.down();
  await page.mouse.move(800, 480, { steps: 4 });
  await page.mouse.up();
  const after = await page.evaluate(() => window.wildmesh.camera.x);
  assert.ok(after > before);
  const wide = await scale(page);
  await page.keyboard.press("+");
  await page.waitForFunction((old) => window.wildmesh.camera.scale > old * 1.2, wide);
  await page.keyboard.press("0");
  await page.waitForFunction(() => window.wildmesh.camera.scale === window.wildmesh.camera.whole);
});

await check("pointing at somebody tells who it is, whose, and where; a click keeps it", page, async () => {
  await page.evaluate(() => window.wildmesh.camera.zoom(12, 900, 450, true));
  // Somebody near the middle, who is surely on the screen and under no panel.
  const target = () => page.evaluate(() => {
    const { painter, camera } = window.wildmesh;
    const free = painter.drawn.filter(({ x, y }) => x > 420 && x < camera.width - 120 && y > 60 && y < camera.height - 60);
    free.sort((one, other) => Number(one.walks) - Number(other.walks));
    return free[0] && { x: free[0].x, y: free[0].y, name: free[0].object.view[1], id: free[0].object.id };
  });
  let someone = await target();
  if (!someone) {
    // Sparse worlds: go to wherever somebody is.
    await page.evaluate(() => {
      const { world, camera } = window.wildmesh;
      const [x, y] = world.place([...world.feeds.objects.values()][0]);
      Object.assign(camera, { x, y });
    });
    await page.waitForFunction(() => window.wildmesh.painter.drawn.length > 0);
    someone = await target();
  }
  assert.ok(someone, "nobody to point at");
  // On a busy machine whoever walks has gone on before the click: then another one.
  for (let tries = 0; tries < 20 && (await page.evaluate(() => window.wildmesh.panel.chosen)) === null; tries += 1) {
    someone = (await target()) ?? someone;
    await page.mouse.move(someone.x, someone.y);
    await page.mouse.click(someone.x, someone.y);
  }
  await page.locator("#card").waitFor({ state: "visible" });
  const text = await page.locator("#card").innerText();
  assert.match(text, /\d+\.\d, \d+\.\d/);
  assert.match(text, /frontend|zoo|garden|publisher/);
  assert.notEqual(await page.evaluate(() => window.wildmesh.panel.chosen), null);
  await shot(page, "near");
  await page.keyboard.press("Escape");
  await page.mouse.move(5, 890);
  await page.keyboard.press("0");
});

await check("another island can be chosen", page, async () => {
  const options = await page.locator("#island option").evaluateAll((all) => all.map((option) => option.value));
  if (options.length < 2) return;
  const first = await page.locator("#island").inputValue();
  const other = options.find((option) => option !== first);
  await page.locator("#island").selectOption(other);
  await page.waitForFunction(() => document.getElementById("link").dataset.state === "live");
  await page.waitForFunction((id) => String(window.wildmesh.camera.island.id) === id && window.wildmesh.painter.ground, other);
  await shot(page, "second-island");
  await page.locator("#island").selectOption(first);
  await page.waitForFunction(() => window.wildmesh.painter.drawn.length > 0);
});

if (fake) {
  await check("every kind of object is drawn, counted and told in words", page, async () => {
    await page.locator("#island").selectOption("2");
    await page.waitForFunction(() => window.wildmesh.camera.island.id === 2 && window.wildmesh.painter.ground);
    await page.waitForFunction(() => window.wildmesh.world.feeds.objects.has(9099));
    await page.evaluate(() => {
      Object.assign(window.wildmesh.camera, { x: 122, y: 160, scale: 20, goal: 20 });
      for (const node of window.wildmesh.world.nodes) window.wildmesh.panel.hidden.add(node.id);
    });
    await page.waitForFunction(() => window.wildmesh.painter.kinds[4].length === 1 && window.wildmesh.painter.lands.length === 4);
    const kinds = await page.evaluate(() => window.wildmesh.painter.kinds.map((list) => list.length));
    assert.ok(kinds[1] >= 10 && kinds[2] >= 9 && kinds[3] === 2 && kinds[0] >= 4, `${kinds}`);
    await page.waitForFunction(() => document.querySelector("#kinds li:nth-child(6) b")?.textContent === "4");
    const legend = await page.locator("#kinds").innerText();
    for (const row of [/Animals\s+10/, /Buildings\s+10/, /Nature\s+2/, /Battles\s+1/, /Land\s+4/]) assert.match(legend, row);
    for (const [id, words] of [[9099, /1 player against 1 animal · #\d+: Ayu strikes hard at wild boar, −24, who strikes back/],
      [9012, /Wild boar[\s\S]*fighting · health 40%/], [9004, /Bora[\s\S]*health 60% · party 77/]]) {
      await page.evaluate((chosen) => (window.wildmesh.panel.chosen = chosen), id);
      await page.waitForFunction((source) => new RegExp(source).test(document.getElementById("card").innerText), words.source);
    }
    const told = await page.evaluate(async () => {
      const { describe } = await import("/map/kinds.js");
      const { objects } = window.wildmesh.world.feeds;
      return [...objects.values()].filter(({ id }) => id >= 9000).map((object) => describe(object, objects).join(": "));
    });
    for (const words of ["Hearth: lit · 2×2 tiles · built by Mina", "Door: open · 1×1 tiles · built by Mina", "Pine: used up, grows again",
      "Boulder: 60% left", "Land of Mina: 16×16 tiles", "Goat: asleep · health 90%"]) assert.ok(told.includes(words), `${words} in ${told}`);
    await shot(page, "village");
  });

  await check("an exchange of a battle flashes once", page, async () => {
    fake.islands[1].exchange();
    await page.waitForFunction(() => window.wildmesh.painter.flashes.get(9099)?.last === 8);
    await shot(page, "exchange");
    await page.evaluate(() => (window.wildmesh.panel.chosen = 9099));
    await page.waitForFunction(() => /#8: wild boar strikes Ayu, −9, who guards/.test(document.getElementById("card").innerText));
  });

  await check("keys go through what is on the map, and land is told where nothing stands", page, async () => {
    await page.keyboard.press("Escape");
    await page.keyboard.press(".");
    const first = await page.evaluate(() => window.wildmesh.panel.chosen);
    assert.notEqual(first, null);
    // Who walks changes the order; another one it is in any case.
    await page.keyboard.press(",");
    assert.notEqual(await page.evaluate(() => window.wildmesh.panel.chosen), first);
    const [x, y] = await page.evaluate(() => window.wildmesh.camera.toScreen(140.5, 182.5));
    assert.match(await page.evaluate(([sx, sy]) => {
      const mark = window.wildmesh.painter.near(sx, sy, 3);
      return mark ? `kind ${mark.object.view[0]}` : "nothing";
    }, [x - 200, y]), /kind 5|kind 0|kind 1/);
    await page.keyboard.press("Escape");
    await page.locator("#island").selectOption("1");
    await page.waitForFunction(() => window.wildmesh.world.feeds.objects.size === 1000);
    await page.evaluate(() => (window.wildmesh.panel.hidden.clear(), window.wildmesh.panel.setNodes(window.wildmesh.world.nodes)));
  });

  await check("a suspect node is shown as such", page, async () => {
    fake.islands[0].nodes[1].state = "suspect";
    await page.locator('#nodes [data-state="suspect"]').waitFor();
    assert.match(await page.locator('#nodes [data-state="suspect"]').innerText(), /suspect/);
    await shot(page, "suspect");
    fake.islands[0].nodes[1].state = "up";
  });

  await check("a lost connection is told, comes back by itself, and nobody is left behind", page, async () => {
    fake.drop();
    await page.waitForFunction(() => document.getElementById("link").dataset.state === "lost");
    await shot(page, "lost");
    await page.waitForFunction(() => document.getElementById("link").dataset.state === "live");
    await page.waitForFunction(() => window.wildmesh.world.feeds.objects.size === 1000);
  });

  await check("when the world stands still, the page shows exactly what is true", page, async () => {
    fake.pause(true);
    const truth = fake.islands[0].walkers.map(({ id, motion }) => [id, motion]);
    await page.waitForFunction((all) => {
      const { objects } = window.wildmesh.world.feeds;
      return objects.size === all.length
        && all.every(([id, motion]) => objects.get(id)?.motion.every((number, index) => number === motion[index]));
    }, truth);
    fake.pause(false);
  });
}

await check("no error, no request to elsewhere", page, async () => {
  // A gateway that is still drawing a picture when a request's time is up says 503, and the page asks again.
  const drawing = (fault) => / 503 .*\/map\.png/.test(fault);
  const expected = (fault) => drawing(fault) || /WebSocket connection|ERR_/.test(fault);
  assert.deepEqual(page.faults.filter((fault) => !expected(fault)), []);
});

const phone = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
await check("a phone sees the map first and the panel on demand", phone, async () => {
  await shot(phone, "phone");
  const before = await phone.locator("#panel").boundingBox();
  assert.ok(before.height < 90, `the folded panel is ${before.height} high`);
  await phone.locator("#fold").tap();
  await phone.locator("#nodes li").first().waitFor({ state: "visible" });
  await shot(phone, "phone-open");
  const wide = await phone.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(wide, 390);
  await phone.locator("#fold").tap();
});

await check("two fingers zoom", phone, async () => {
  const before = await scale(phone);
  const session = await phone.context().newCDPSession(phone);
  const touch = (type, spread) => session.send("Input.dispatchTouchEvent", {
    type, touchPoints: type === "touchEnd" ? [] : [{ x: 195 - spread, y: 300, id: 1 }, { x: 195 + spread, y: 300, id: 2 }] });
  await touch("touchStart", 40);
  for (const spread of [60, 80, 100, 120]) await touch("touchMove", spread);
  await touch("touchEnd");
  await phone.waitForFunction((old) => window.wildmesh.camera.scale > old * 2, before);
  await shot(phone, "phone-near");
});

await browser.close();
fake?.close();
console.log(`${results.passed} passed, ${results.failed} failed`);
process.exit(results.failed > 0 ? 1 : 0);
