/** The shape of the fan-out tree, and how many relays a region gets. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ancestorsOf, parentOf, parseRelayName, relayCount, relayCounts, relayName, rootsOf } from "./tree.ts";

test("a name holds a relay's environment, region and number", () => {
  const address = { environmentId: "env_abc", region: "weur" as const, n: 12 };
  expect(relayName(address)).toBe("relay:env_abc:weur:12");
  expect(parseRelayName(relayName(address))).toEqual(address);
});

test.each([
  // fan-out, relay, its ancestors; null is the hub
  [64, 0, [null]],
  [64, 6, [null]],
  [64, 7, [0, null]],
  [64, 70, [0, null]],
  [64, 71, [1, null]],
  [64, 454, [6, null]],
  [64, 455, [7, 0, null]],
  [2, 0, [null]],
  [2, 1, [0, null]],
  [2, 2, [0, null]],
  [2, 3, [1, 0, null]],
  [2, 6, [2, 0, null]],
  [1, 3, [2, 1, 0, null]],
])("with a fan-out of %i, relay %i has the ancestors %j", (fanOut, n, ancestors) => {
  expect(ancestorsOf(n, fanOut)).toEqual(ancestors);
});

test("no relay has more children than the fan-out, and every relay reaches the hub", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 3_000 }), (fanOut, count) => {
      const children = new Map<number | null, number>();
      for (let n = 0; n < count; n++) {
        const parent = parentOf(n, fanOut);
        if (parent !== null && parent >= n) return false;
        children.set(parent, (children.get(parent) ?? 0) + 1);
      }
      children.delete(null);
      return [...children.values()].every((size) => size <= fanOut);
    }),
    { numRuns: 50 },
  );
  expect(9 * rootsOf(64)).toBeLessThanOrEqual(64);
});

test("with the defaults ten million clients are at most three relays deep, even if all are in one region (Q4)", () => {
  for (const regions of [9, 1]) {
    const relays = relayCount(1, 10_000_000 / regions, 4_000);
    expect(relays * 4_000).toBeGreaterThanOrEqual(10_000_000 / regions);
    expect(ancestorsOf(relays - 1, 64)).toHaveLength(3);
  }
});

test.each([
  // relays, clients, new relays; the cap of a relay is 100
  [1, 0, 1],
  [1, 79, 1],
  [1, 80, 2],
  [2, 159, 2],
  [2, 160, 4],
  [1, 1_000, 20],
  [4, 80, 4],
  [4, 79, 2],
  [20, 0, 1],
  [1, 10 ** 9, 4_096],
])("a region with %i relays and %i clients gets %i relays", (count, connected, wanted) => {
  expect(relayCount(count, connected, 100)).toBe(wanted);
});

test("a region that has just changed its relays does not change them again", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 0, max: 200_000 }), (count, connected) => {
      const once = relayCount(count, connected, 1_000);
      expect(relayCount(once, connected, 1_000)).toBe(once);
    }),
  );
});

test("a region without clients loses its entry", () => {
  expect(relayCounts({ weur: 3, afr: 1 }, new Map([["weur", 250]]), 100)).toEqual({ weur: 5 });
});
