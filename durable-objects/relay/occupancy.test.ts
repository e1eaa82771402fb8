/** Who may come in, and how slowly: tables. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { acknowledgeWithinMs, spreadMs } from "../fan-out/pacing.ts";
import { excess, refusal, worthReporting } from "./occupancy.ts";

test.each([
  [0, 1_000],
  [500, 1_000],
  [501, 2_000],
  [4_000, 8_000],
  [10_000, 20_000],
  [1_000_000, 600_000],
])("%i clients come back within %i ms (X4)", (clients, ms) => {
  expect(spreadMs(clients)).toBe(ms);
});

test("the window never shrinks as clients become more", () => {
  const count = fc.integer({ min: 0, max: 10_000_000 });
  fc.assert(fc.property(count, count, (one, more) => spreadMs(one) <= spreadMs(one + more)));
});

test.each([
  [1_000, false, 0],
  [1_000, true, 0],
  [1_001, true, 500],
  [1_001, false, 3_000],
  [10_000_000, true, 500],
])("%i clients acknowledge (a kill: %s) within %i ms", (clients, urgent, ms) => {
  expect(acknowledgeWithinMs(clients, urgent)).toBe(ms);
});

describe("who is refused", () => {
  const limits = { relay: 4, key: 10, environment: 20 };
  const nobody = { here: 0, hereOfKey: 0, everywhere: 0, everywhereOfKey: 0 };
  test.each([
    [{}, null],
    [{ here: 3 }, null],
    [{ here: 4 }, "full"],
    [{ everywhereOfKey: 10 }, "key"],
    [{ here: 4, everywhereOfKey: 10 }, "key"],
    [{ everywhere: 20 }, "environment"],
    [{ here: 4, everywhere: 20 }, "environment"],
  ] as const)("%j: %s", (crowd, expected) => {
    expect(refusal({ ...nobody, ...crowd }, limits)).toBe(expected);
  });
});

test.each([
  [10, 100, 100, 0],
  [10, 110, 100, 1],
  [60, 120, 100, 10],
  [60, 0, 50, 10],
])("%i here of %i, where %i may be: %i have to go", (here, everywhere, limit, expected) => {
  expect(excess(here, everywhere, limit)).toBe(expected);
});

test.each([
  [0, 399, 4_000, false],
  [0, 400, 4_000, true],
  [4_000, 3_600, 4_000, true],
  [130_000, 142_999, 4_000, false],
  [130_000, 143_000, 4_000, true],
  [130_000, 117_001, 4_000, false],
  [130_000, 0, 4_000, true],
  [0, 1, 1, true],
])("told of %i, with %i of %i now: worth a report: %s", (told, now, cap, expected) => {
  expect(worthReporting(told, now, cap)).toBe(expected);
});
