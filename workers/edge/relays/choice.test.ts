import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseAnother, chooseTwo } from "./choice.ts";

describe("the relays that a client tries", () => {
  test.each([
    [1, 0.9, [0, 1]],
    [2, 0.1, [0, 1]],
    [2, 0.9, [1, 0]],
    [4, 0.5, [2, 0]],
  ])("of %i relays, with the random number %f, are %j", (count, random, expected) => {
    expect(chooseTwo(count, () => random)).toEqual(expected);
  });

  test("are two different ones", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (count, at) => {
        const [first, other] = chooseTwo(count, () => at);
        expect(first).not.toBe(other);
        expect(Math.max(first, other)).toBeLessThan(Math.max(2, count));
      }),
    );
  });

  test.each([
    [1, 1, [0, 1], 0, null],
    [1, 2, [0, 1], 0, null],
    [1, 4, [0, 1], 0, 2],
    [1, 4, [0, 1], 0.9, 3],
    [4, 8, [3, 1], 0.5, 6],
    [4, 8, [3, 1, 7], 0.5, 4],
    [4, 4, [0, 1], 0, 2],
    [8, 4, [3, 1], 0.5, 2],
    [4, 4, [0, 1, 2, 3], 0, null],
    [1, 0, [0, 1], 0, null],
    [1, Number.NaN, [0, 1], 0, null],
  ])("known are %i, now %f, tried %j, at %f: %j", (known, current, tried, random, expected) => {
    expect(chooseAnother(known, current, tried, () => random)).toBe(expected);
  });
});
