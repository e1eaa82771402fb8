import { describe, expect, test } from "vitest";
import { ABANDONED_MS, answered, type Freshness, failed, plan } from "./freshness.ts";

const limits = { revalidateMs: 1_000, verifyMs: 5_000, waitMs: 50, startMs: 2_000 };
const cold: Freshness = { held: false, verifiedAt: null, askingSince: null, notBefore: 0, failures: 0 };
const fresh = answered(10_000, limits);

test.each<[string, Freshness, number, { ask: boolean; waitMs: number }]>([
  ["the first request of an isolate asks and waits for a ruleset", cold, 0, { ask: true, waitMs: 2_000 }],
  ["those beside it wait for the same answer", { ...cold, askingSince: 0 }, 300, { ask: false, waitMs: 1_700 }],
  ["within a second of the last answer nothing is asked", fresh, 10_900, { ask: false, waitMs: 0 }],
  ["after a second it is asked in the background", fresh, 11_000, { ask: true, waitMs: 0 }],
  ["one not verified for over 5 s is verified before use, for 50 ms", fresh, 15_001, { ask: true, waitMs: 50 }],
  [
    "and 50 ms is counted from when it was asked",
    { ...fresh, askingSince: 16_000 },
    16_020,
    { ask: false, waitMs: 30 },
  ],
  ["a server that hangs makes nobody wait again", { ...fresh, askingSince: 16_000 }, 17_000, { ask: false, waitMs: 0 }],
  [
    "a request that was ended unanswered is taken over",
    { ...fresh, askingSince: 16_000 },
    16_000 + ABANDONED_MS,
    { ask: true, waitMs: 50 },
  ],
  ["bootstrap data is verified like any ruleset", { ...cold, held: true }, 0, { ask: true, waitMs: 50 }],
])("%s (R14)", (_, freshness, now, expected) => {
  expect(plan(freshness, now, limits)).toEqual(expected);
});

describe("failures", () => {
  const after = (count: number, end = {}): Freshness => {
    let freshness: Freshness = { ...fresh, askingSince: 10_000 };
    for (let n = 0; n < count; n++) freshness = failed(freshness, end, 20_000, limits, () => 0.5);
    return freshness;
  };

  test("keep the ruleset and its age, and hold the next attempt for a second", () => {
    expect(after(1)).toEqual({ ...fresh, notBefore: 21_000, failures: 1 });
    expect(plan(after(1), 20_500, limits)).toEqual({ ask: false, waitMs: 0 });
  });

  test("five in a row open the circuit: back-off with full jitter (Q11)", () => {
    expect(after(4).notBefore).toBe(21_000);
    expect(after(5).notBefore).toBe(28_000);
    expect(after(9).notBefore).toBe(50_000);
  });

  test("Retry-After and a refused key put it off further (Q9)", () => {
    expect(after(1, { retryAfterMs: 9_000 }).notBefore).toBe(29_000);
    expect(after(1, { refused: true }).notBefore).toBe(80_000);
  });
});
