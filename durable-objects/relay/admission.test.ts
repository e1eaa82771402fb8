/** Limits of clients, and the time over which they spread reconnects and acknowledgements. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { acknowledgeWithinMs, spreadMs } from "../fan-out/pacing.ts";
import { checkAdmission, countExcess, isWorthReporting } from "./admission.ts";

test.each([
  [0, 1_000],
  [500, 1_000],
  [501, 2_000],
  [4_000, 8_000],
  [10_000, 20_000],
  [1_000_000, 600_000],
])("%i clients reconnect within %i ms (X4)", (clients, ms) => {
  expect(spreadMs(clients)).toBe(ms);
});

test("more clients never have a shorter window", () => {
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

describe("the reason to refuse a client", () => {
  const limits = { relay: 4, key: 10, environment: 20 };
  const none = { inRelay: 0, inRelayOfKey: 0, inEnvironment: 0, inEnvironmentOfKey: 0 };
  test.each([
    [{}, null],
    [{ inRelay: 3 }, null],
    [{ inRelay: 4 }, "full"],
    [{ inEnvironmentOfKey: 10 }, "key"],
    [{ inRelay: 4, inEnvironmentOfKey: 10 }, "key"],
    [{ inEnvironment: 20 }, "environment"],
    [{ inRelay: 4, inEnvironment: 20 }, "environment"],
  ] as const)("with %j is %s", (counts, expected) => {
    expect(checkAdmission({ ...none, ...counts }, limits)).toBe(expected);
  });
});

test.each([
  [10, 100, 100, 0],
  [10, 110, 100, 1],
  [60, 120, 100, 10],
  [60, 0, 50, 10],
])(
  "with %i clients in the relay, %i in the environment and a limit of %i, the relay evicts %i",
  (inRelay, inEnvironment, limit, expected) => {
    expect(countExcess(inRelay, inEnvironment, limit)).toBe(expected);
  },
);

test.each([
  [0, 399, 4_000, false],
  [0, 400, 4_000, true],
  [4_000, 3_600, 4_000, true],
  [130_000, 142_999, 4_000, false],
  [130_000, 143_000, 4_000, true],
  [130_000, 117_001, 4_000, false],
  [130_000, 0, 4_000, true],
  [0, 1, 1, true],
])("reported %i, now %i of %i: worth a report: %s", (reported, now, cap, expected) => {
  expect(isWorthReporting(reported, now, cap)).toBe(expected);
});
