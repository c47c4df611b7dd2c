// The page's decoder, formula of motion and feeds against clients/vectors.json. Run with `node --test`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Feeds, cellKey, decode, encode, place } from "../msgpack.js";

const vectors = JSON.parse(readFileSync(new URL("../../vectors.json", import.meta.url), "utf8"));
const unhex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

for (const part of ["client", "server"]) {
  test(`every ${part} message decodes to its value and encodes to its bytes`, () => {
    assert.ok(vectors[part].length > 0);
    for (const { name, hex: bytes, value } of vectors[part]) {
      assert.deepEqual(decode(unhex(bytes)), value, name);
      assert.equal(hex(encode(value)), bytes, name);
    }
  });
}

test("other forms of the same values decode", () => {
  const values = { "ping in 64-bit form": [4, 7], "stop with a 32-bit number": [2, 2, "stop"] };
  for (const { name, hex: bytes } of vectors.lenient) {
    const value = decode(unhex(bytes));
    if (values[name]) assert.deepEqual(value, values[name], name);
  }
});

test("a message cut short is refused, wherever it is cut", () => {
  for (const { name, hex: bytes } of [...vectors.client, ...vectors.server]) {
    const whole = unhex(bytes);
    for (let end = 0; end < whole.length; end += 1) {
      assert.throws(() => decode(whole.subarray(0, end)), RangeError, `${name} at ${end}`);
    }
    assert.throws(() => decode(Uint8Array.from([...whole, 0])), RangeError, name);
  }
});

test("no malformed vector hangs the decoder or fails in another way", () => {
  for (const { name, hex: bytes } of vectors.malformed) {
    try {
      decode(unhex(bytes));
    } catch (error) {
      assert.ok(error instanceof RangeError, `${name}: ${error}`);
    }
  }
});

test("integers take their shortest form", () => {
  const forms = { 0: "00", 127: "7f", 128: "cc80", 256: "cd0100", 65536: "ce00010000", 4294967296: "cf0000000100000000",
    "-1": "ff", "-32": "e0", "-33": "d0df", "-129": "d1ff7f", "-32769": "d2ffff7fff", "-2147483649": "d3ffffffff7fffffff" };
  for (const [number, bytes] of Object.entries(forms)) {
    assert.equal(hex(encode(Number(number))), bytes);
    assert.equal(decode(unhex(bytes)), Number(number));
  }
  assert.throws(() => decode(unhex("cfffffffffffffffff")), RangeError);
});

test("places follow the formula of motion", () => {
  for (const { motion, now_ms, place: expected } of vectors.motion) {
    assert.deepEqual(place(motion, now_ms), expected, `${motion} at ${now_ms}`);
  }
});

test("feeds play out as written down", () => {
  for (const { name, steps, ghosts } of vectors.feeds) {
    const feeds = new Feeds();
    for (const { vision, frame, effect } of steps) {
      if (vision) feeds.see(vision.island, vision.entered, vision.left);
      else assert.equal(feeds.apply(decode(unhex(frame))), effect, name);
    }
    const shown = [...feeds.objects.values()].sort((one, other) => one.id - other.id);
    const plain = shown.map(({ id, publisher, epoch, version, cell, motion }) => ({ id, publisher, epoch, version, cell, motion }));
    const expected = ghosts.map((ghost) => ({ ...ghost, cell: cellKey(...ghost.cell) }));
    assert.deepEqual(plain, expected, name);
  }
});
