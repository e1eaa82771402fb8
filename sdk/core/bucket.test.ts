import fc from "fast-check";
import { describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { BUCKETS, bucket, bucketable, xxh32 } from "./bucket.ts";

const { h32 } = await xxhash();
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

  it("fills the hundred thousand buckets evenly", () => {
    const tenths = new Array<number>(10).fill(0);
    for (let user = 0; user < 100_000; user++) {
      const at = bucket("seed", `user-${user}`);
      expect(Number.isInteger(at) && at >= 0 && at < BUCKETS).toBe(true);
      tenths[Math.floor(at / 10_000)]!++;
    }
    // Chi-squared with 9 degrees of freedom: 27.9 is its 99.9th percentile. The users are always the same.
    const chiSquared = tenths.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    expect(chiSquared).toBeLessThan(27.9);
  });

  it("puts an integer where its digits are, and nothing else anywhere", () => {
    fc.assert(fc.property(fc.maxSafeInteger(), (integer) => bucketable(integer) === BigInt(integer).toString()));
    for (const value of [2 ** 53, -(2 ** 53), 1e21, 0.5, Number.NaN, Infinity, true, null, undefined, [], {}, 1n]) {
      expect(bucketable(value)).toBeUndefined();
    }
  });
});
