import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocate, movements, type Range } from "../index.ts";

const range = (variation: string, from: number, to: number): Range => ({ variation, from, to });

describe("movements", () => {
  it("says who moves from where to where, each pair once", () => {
    const before = [range("on", 0, 5_000), range("off", 5_000, 90_000)];
    const after = [range("on", 0, 50_000), range("new", 50_000, 60_000), range("off", 60_000, 95_000)];
    expect(movements(before, after)).toEqual([
      { from: "off", to: "on", weight: 45_000 },
      { from: "off", to: "new", weight: 10_000 },
      { from: null, to: "off", weight: 5_000 },
    ]);
    expect(movements(after, before)).toContainEqual({ from: "off", to: null, weight: 5_000 });
  });

  it("is empty where nobody moves, however the ranges are cut", () => {
    expect(movements([range("a", 0, 10), range("a", 10, 20)], [range("a", 0, 20)])).toEqual([]);
    expect(movements([], [])).toEqual([]);
  });

  it("adds up to what the weights demand, and no more (EV-34)", () => {
    const weights = fc
      .array(fc.integer({ min: 0, max: 20_000 }), { minLength: 2, maxLength: 5 })
      .map((values) => Object.fromEntries(values.map((weight, index) => [`v${index}`, weight])));
    fc.assert(
      fc.property(weights, weights, (one, other) => {
        const before = allocate([], one);
        const moved = movements(before, allocate(before, other));
        const names = new Set([...Object.keys(one), ...Object.keys(other)]);
        const lost = [...names].map((name) => (one[name] ?? 0) - (other[name] ?? 0));
        lost.push(-lost.reduce((sum, loss) => sum + loss, 0));
        const least = lost.reduce((sum, loss) => sum + Math.max(0, loss), 0);
        expect(moved.reduce((sum, { weight }) => sum + weight, 0)).toBe(least);
        for (const { from } of moved) expect(from === null || (one[from] ?? 0) > (other[from] ?? 0)).toBe(true);
      }),
    );
  });
});
