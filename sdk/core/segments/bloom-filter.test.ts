import fc from "fast-check";
import { describe, expect, test } from "vitest";
import xxhash from "xxhash-wasm";
import { emptyFilter, type FilterSize, filterSize, mayContain, placeOf, setBits } from "./bloom-filter.ts";

function filterOf(members: Iterable<string>, size: FilterSize): Uint8Array {
  const filter = emptyFilter(size);
  for (const member of members) setBits(filter, size, ...placeOf(member));
  return filter;
}

describe("a filter of a big segment (EV-20)", () => {
  test("never denies a member, whatever its text", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string({ unit: "binary" }), { maxLength: 200 }), (members) => {
        const size = filterSize(members.length);
        const filter = filterOf(members, size);
        expect(members.every((member) => mayContain(filter, size, member))).toBe(true);
      }),
    );
  });

  test("takes at most 30 bits a member for one false positive in a million", () => {
    for (const members of [31_000, 100_000, 5_000_000]) {
      const { bits, hashes } = filterSize(members);
      expect(bits / members).toBeLessThanOrEqual(30);
      expect(hashes).toBe(20);
    }
  });

  test("has false positives at the requested rate, measured where it can be counted", () => {
    const members = 20_000;
    for (const rate of [0.02, 0.001]) {
      const size = filterSize(members, rate);
      const filter = filterOf(
        Array.from({ length: members }, (_, index) => `member-${index}`),
        size,
      );
      const nonMembers = 400_000;
      let falsePositives = 0;
      for (let index = 0; index < nonMembers; index++)
        if (mayContain(filter, size, `non-member-${index}`)) falsePositives++;
      // Six standard deviations of a binomial: a filter a tenth worse than promised would be seen.
      const expected = nonMembers * rate;
      expect(falsePositives).toBeLessThan(expected + 6 * Math.sqrt(expected));
    }
  });

  // The fewer bits there are, the likelier two members' hashes run along each other.
  test.each([1, 3, 30, 1_000, 50_000])(
    "of %i has no more false positives in a million keys than chance explains",
    (members) => {
      const size = filterSize(members);
      const filter = filterOf(
        Array.from({ length: members }, (_, index) => `user-${index}`),
        size,
      );
      let falsePositives = 0;
      for (let index = 0; index < 1_000_000; index++) if (mayContain(filter, size, `other-${index}`)) falsePositives++;
      // One is expected; eight would be one chance in a million.
      expect(falsePositives).toBeLessThan(8);
    },
  );

  test("places members by xxHash-32 as EV-20 writes it: a = xxh32(v, 0), b = xxh32(v, a) | 1", async () => {
    const { h32 } = await xxhash();
    for (const member of ["", "user-42", "é", "🎏", "a".repeat(1_000)]) {
      const a = h32(member, 0);
      expect(placeOf(member)).toEqual([a, (h32(member, a) | 1) >>> 0]);
    }
  });

  test("sets exactly the bits (a + i·b) mod bits", () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(0xffffffff), fc.integer({ min: 64, max: 5_000 }), (a, b, bits) => {
        const size = { bits, hashes: 20 };
        const filter = emptyFilter(size);
        setBits(filter, size, a, b);
        const wanted = new Set(
          Array.from({ length: 20 }, (_, i) => Number((BigInt(a) + BigInt(i) * BigInt(b)) % BigInt(bits))),
        );
        const found = Array.from({ length: bits }, (_, bit) => bit).filter(
          (bit) => (filter[bit >> 3]! >> (bit & 7)) & 1,
        );
        expect(found).toEqual([...wanted].sort((one, other) => one - other));
      }),
    );
  });
});
