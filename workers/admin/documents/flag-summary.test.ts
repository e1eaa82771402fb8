import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StoredSummary } from "../../store/schema/index.ts";
import { servesOf } from "./flag-summary.ts";

/** Ranges of these widths, one after another. */
function ranges(...weights: [variation: string, weight: number][]) {
  let to = 0;
  return weights.map(([variation, weight]) => {
    const from = to;
    to += weight;
    return { variation, from, to };
  });
}

describe("what a list says that a flag serves", () => {
  test.each<[string, StoredSummary, unknown]>([
    ["one variation", ["variation", "on"], { variation: "on" }],
    ["the code's default", ["variation", null], { variation: null }],
    ["what rules, targets and prerequisites decide", ["depends", 3, 2, 1], { rules: 3, targets: 2, prerequisites: 1 }],
    ["a split", ["split", "off", ranges(["on", 25_000], ["off", 75_000])], { split: { on: 25_000, off: 75_000 } }],
    [
      "a split in three ranges",
      ["split", null, ranges(["on", 10_000], ["off", 60_000], ["on", 30_000])],
      { split: { on: 40_000, off: 60_000 } },
    ],
    ["a split with an empty range", ["split", null, ranges(["off", 0], ["on", 100_000])], { variation: "on" }],
    ["a split of less than everybody", ["split", "off", ranges(["on", 1])], { split: { on: 1 } }],
    ["a split of which the rest is the same", ["split", "on", ranges(["on", 1])], { variation: "on" }],
    ["a split of nobody", ["split", null, ranges(["on", 0])], { variation: null }],
  ])("is %s", (_, stored, serves) => {
    expect(servesOf(stored)).toEqual(serves);
  });

  test("has the weights of a split's ranges, however they are cut", () => {
    const piece = fc.tuple(fc.constantFrom("on", "off"), fc.integer({ min: 0, max: 9_000 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 11 }), (pieces) => {
        const sum = (name: string) => pieces.reduce((all, [key, weight]) => all + (key === name ? weight : 0), 0);
        // Less than everybody: the rest is served the off variation.
        const weights = Object.entries({ on: sum("on"), off: sum("off") }).filter(([, weight]) => weight > 0);
        const expected = sum("on") === 0 ? { variation: "off" } : { split: Object.fromEntries(weights) };
        expect(servesOf(["split", "off", ranges(...pieces)])).toEqual(expected);
      }),
    );
  });
});
