import { describe, expect, test } from "vitest";
import { dueAt, dueBy, interleave, isSustained } from "./schedule.ts";

describe("a mix of requests", () => {
  const rows: [Record<string, number>, string][] = [
    [{ a: 1 }, "a"],
    [{ a: 1, b: 1 }, "a b"],
    [{ a: 2, b: 1 }, "a b a"],
    [{ a: 4, b: 2, c: 1 }, "a b a c a b a"],
    [{ a: 0, b: 2 }, "b b"],
  ];
  for (const [mix, order] of rows) {
    test(`${JSON.stringify(mix)} is ${order}`, () => expect(interleave(mix).join(" ")).toBe(order));
  }
});

test.each([
  [100, 0, 1],
  [100, 9, 1],
  [100, 10, 2],
  [100, 1_000, 101],
  [1_500, 2_000, 3_001],
])("at %i a second, after %i ms, %i requests are due", (perSecond, elapsedMs, due) => {
  expect(dueBy(perSecond, elapsedMs)).toBe(due);
  expect(dueAt(perSecond, due - 1)).toBeLessThanOrEqual(elapsedMs);
  expect(dueAt(perSecond, due)).toBeGreaterThan(elapsedMs);
});

test.each([
  ["all answered", { offered: 1_000, answered: 1_000, failed: 0, shed: 0 }, true],
  ["a few still on their way", { offered: 1_000, answered: 975, failed: 0, shed: 0 }, true],
  ["too many on their way", { offered: 1_000, answered: 960, failed: 0, shed: 0 }, false],
  ["one in a hundred failed", { offered: 1_000, answered: 1_000, failed: 10, shed: 0 }, true],
  ["more than that failed", { offered: 1_000, answered: 1_000, failed: 11, shed: 0 }, false],
  ["some were never sent", { offered: 1_000, answered: 980, failed: 0, shed: 20 }, false],
])("%s: %o is sustained: %s", (_, step, sustained) => expect(isSustained(step)).toBe(sustained));
