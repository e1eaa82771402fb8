import { movements, type Serve } from "@bunting/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { servesOf, weightsServed, widened } from "./served-splits.ts";

const variations = ["a", "b", "c", "d"].map((key) => ({ key, value: key }));
const flag = { key: "flag", variations };

describe("a variation that grows", () => {
  test.each([
    ["takes from the only other", { a: 100_000 }, "b", 5_000, null, { a: 95_000, b: 5_000 }],
    [
      "takes in proportion",
      { a: 60_000, b: 30_000, c: 10_000 },
      "c",
      28_000,
      null,
      { a: 48_000, b: 24_000, c: 28_000 },
    ],
    ["takes all", { a: 60_000, b: 40_000 }, "c", 100_000, null, { a: 0, b: 0, c: 100_000 }],
    ["takes first those who are in no range", { a: 10_000, b: 10_000 }, "b", 50_000, null, { a: 10_000, b: 50_000 }],
    ["then the others", { a: 10_000, b: 10_000 }, "b", 95_000, null, { a: 5_000, b: 95_000 }],
    [
      "leaves those who are not named",
      { a: 50_000, b: 40_000, c: 10_000 },
      "c",
      20_000,
      ["b"],
      { a: 50_000, b: 30_000, c: 20_000 },
    ],
    [
      "leaves those who are in no range, if others are named",
      { a: 50_000 },
      "b",
      20_000,
      ["a"],
      { a: 30_000, b: 20_000 },
    ],
    [
      "shares what does not divide",
      { a: 33_333, b: 33_333, c: 33_334 },
      "d",
      1,
      null,
      { a: 33_333, b: 33_333, c: 33_333, d: 1 },
    ],
  ])("%s", (_, before, variation, weight, others, after) => {
    expect(widened(before, variation, weight, others)).toEqual(after);
  });

  test("cannot take what the others do not have", () => {
    expect(() => widened({ a: 60_000, b: 40_000 }, "c", 50_000, ["b"])).toThrow(RangeError);
  });

  const split = fc
    .array(fc.integer({ min: 0, max: 30_000 }), { minLength: 4, maxLength: 4 })
    .filter((weights) => weights.reduce((sum, one) => sum + one) <= 100_000);
  const climb = fc.uniqueArray(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 6 });

  test("never loses anybody, and nobody else gains: from step to step, and back to the beginning (X3)", () => {
    fc.assert(
      fc.property(split, climb, ([a = 0, b = 0, c = 0, d = 0], weights) => {
        const first = splitOf({ a, b, c, d });
        const has = weightsServed(first).d ?? 0;
        const steps = weights
          .sort((one, other) => one - other)
          .filter((weight) => weight > has)
          .map((weight) => ({ weight }));
        const serves = servesOf(first, { variation: "d", others: null, steps }, flag);
        expect(serves[0]).toBe(first);
        serves.slice(1).forEach((serve, index) => {
          expect(weightsServed(serve).d).toBe(steps[index]?.weight);
          const sum = Object.values(weightsServed(serve)).reduce((total, one) => total + one, 0);
          expect(sum).toBeLessThanOrEqual(100_000);
          for (const { to } of movements(rangesOf(serves[index]!), rangesOf(serve))) expect(to).toBe("d");
        });
        // Whoever an abort moves goes from what grew to where they were.
        for (const { from } of movements(rangesOf(serves.at(-1)!), rangesOf(first))) expect(from).toBe("d");
      }),
      { numRuns: 60 },
    );
  });
});

const rangesOf = (serve: Serve) =>
  "split" in serve ? serve.split.ranges : [{ variation: serve.variation, from: 0, to: 100_000 }];

/** In ranges that follow each other. */
function splitOf(weights: Record<string, number>): Serve {
  let from = 0;
  const ranges = Object.entries(weights).map(([variation, weight]) => {
    from += weight;
    return { variation, from: from - weight, to: from };
  });
  return { split: { by: "key", seed: "s", hash: "xxh32", ranges: ranges.filter(({ from, to }) => to > from) } };
}
