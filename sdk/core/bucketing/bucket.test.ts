import fc from "fast-check";
import { describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { BUCKETS, bucket, bucketable, xxh32 } from "./bucket.ts";

const { h32 } = await xxhash();
const CELLS = 1_000;
/** 999 degrees of freedom, 99.9th percentile. The users are always the same, so that a test that passes goes on passing. */
const CHI_SQUARED_999 = 1_143;
const seeds = fc.integer({ min: 0, max: 0xffffffff });
/** Any UTF-16, lone surrogates among it. */
const units = fc.array(fc.oneof(fc.integer({ min: 0, max: 0x7f }), fc.integer({ min: 0, max: 0xffff })), {
  maxLength: 80,
});

describe("EV-30: buckets", () => {
  it("hashes any text under any seed as xxhash-wasm does", () => {
    fc.assert(
      fc.property(units, seeds, (codes, seed) => {
        const text = String.fromCharCode(...codes);
        expect(xxh32(text, seed)).toBe(h32(text, seed) >>> 0);
      }),
      { numRuns: 20_000 },
    );
  });

  it("hashes a million random texts as xxhash-wasm does", () => {
    const next = random(2026);
    const pool = (mask: number) => String.fromCharCode(...Array.from({ length: 65_536 }, () => next() & mask));
    const ascii = pool(0x7f);
    const mixed = pool(0xffff);
    const part = (from: string, longest: number): string => {
      const start = next() % 65_000;
      return from.slice(start, start + (next() % longest));
    };
    const different: string[] = [];
    for (let i = 0; i < 1_000_000; i++) {
      // Every third is ASCII that ends otherwise: the fast path is left at any point of it.
      const text = i % 3 === 0 ? part(ascii, 64) : i % 3 === 1 ? part(mixed, 48) : part(ascii, 32) + part(mixed, 8);
      const seed = next();
      if (xxh32(text, seed) !== h32(text, seed) >>> 0) different.push(text);
    }
    expect(different).toEqual([]);
  }, 20_000);

  it("hashes ASCII of every length as xxhash-wasm does", () => {
    for (let length = 0; length <= 600; length++) {
      const text = Array.from({ length }, (_, i) => String.fromCharCode((i * 31 + length) % 128)).join("");
      expect(xxh32(text, length)).toBe(h32(text, length) >>> 0);
    }
  });

  it("hashes long texts that are not ASCII, which outgrow the scratch space", () => {
    for (const text of ["é".repeat(5_000), `${"a".repeat(4_999)}😀`, "\ud83d".repeat(3_000)]) {
      expect(xxh32(text, 7)).toBe(h32(text, 7) >>> 0);
    }
  });

  it("fills the hundred thousand buckets evenly, under any seed and for keys of any kind", () => {
    const kinds: ((user: number) => string)[] = [
      (user) => `user-${user}`,
      (user) => String(user),
      (user) => `${(user * 2_654_435_761).toString(16)}@example.com`,
      (user) => `${"é".repeat(user % 5)}${user}😀`,
    ];
    for (const [index, key] of kinds.entries()) {
      const cells = new Array<number>(CELLS).fill(0);
      for (let user = 0; user < BUCKETS; user++) cells[(bucket(`seed-${index}`, key(user)) / (BUCKETS / CELLS)) | 0]!++;
      const chiSquared = cells.reduce((sum, count) => sum + (count - BUCKETS / CELLS) ** 2 / (BUCKETS / CELLS), 0);
      expect([index, chiSquared < CHI_SQUARED_999]).toEqual([index, true]);
    }
  });

  it("puts users independently of where another seed puts them", () => {
    // Pairs of seeds as people choose them, one letter apart: a table of ten by ten, which independence fills evenly.
    for (const [one, other] of [
      ["a", "b"],
      ["new-checkout", "new-checkout2"],
      ["", "\0"],
      ["flag", "galf"],
    ] as const) {
      const table = new Array<number>(100).fill(0);
      for (let user = 0; user < BUCKETS; user++) {
        const row = (bucket(one, `user-${user}`) / 10_000) | 0;
        table[row * 10 + ((bucket(other, `user-${user}`) / 10_000) | 0)]!++;
      }
      const chiSquared = table.reduce((sum, count) => sum + (count - 1_000) ** 2 / 1_000, 0);
      // 99 degrees of freedom: 148.2 is the 99.9th percentile.
      expect([one, other, chiSquared < 148.2]).toEqual([one, other, true]);
    }
  });

  it("puts an integer where its digits are, and nothing else anywhere", () => {
    fc.assert(fc.property(fc.maxSafeInteger(), (integer) => bucketable(integer) === BigInt(integer).toString()));
    for (const value of [2 ** 53, -(2 ** 53), 1e21, 0.5, Number.NaN, Infinity, true, null, undefined, [], {}, 1n]) {
      expect(bucketable(value)).toBeUndefined();
    }
  });
});

/** Unsigned 32-bit numbers (xorshift32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
