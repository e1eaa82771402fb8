/** How counts of many relays become one receipt (X1). */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  bucketOf,
  emptyCounts,
  emptyPart,
  mergeParts,
  quantile,
  type ReceiptCounts,
  type ReceiptPart,
  recordDuration,
  silentPart,
  toReceipt,
} from "./receipt.ts";

const counts = (fields: Partial<ReceiptCounts>): ReceiptCounts => ({ ...emptyCounts(), ...fields });

function partOf(times: number[], fields: Partial<ReceiptPart> = {}): ReceiptPart {
  const durations: number[] = [];
  for (const ms of times) recordDuration(durations, ms);
  return {
    ...emptyPart(),
    applied: times.length,
    connected: times.length,
    durations,
    max: Math.max(0, ...times),
    ...fields,
  };
}

test.each([
  [0, 0],
  [1, 0],
  [2, 15],
  [100, 95],
  [1_000, 142],
  [10 * 365 * 86_400_000, 288],
])("%i ms is in bucket %i", (ms, bucket) => {
  expect(bucketOf(ms)).toBe(bucket);
});

describe("quantiles", () => {
  test("are at most 5 % (and a rounded millisecond) above the exact ones, and never below them", () => {
    const times = fc.array(fc.integer({ min: 0, max: 600_000 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(times, fc.constantFrom(0.5, 0.9, 0.99, 1), (list, q) => {
        const { durations, max } = partOf(list);
        const sorted = [...list].sort((one, other) => one - other);
        const exact = sorted[Math.ceil(sorted.length * q) - 1] as number;
        const approximate = quantile(durations, max, q) as number;
        expect(approximate).toBeGreaterThanOrEqual(exact);
        expect(approximate).toBeLessThanOrEqual(exact * 1.05 + 1);
      }),
    );
  });

  test("are null without clients", () => {
    expect(toReceipt(emptyPart(), 7, 1)).toMatchObject({
      revision: 7,
      publishedAt: 1,
      p50: null,
      p99: null,
      max: null,
    });
  });
});

describe("merging", () => {
  const region = fc.constantFrom("weur" as const, "enam" as const, "afr" as const);
  const part: fc.Arbitrary<ReceiptPart> = fc
    .record({
      times: fc.array(fc.integer({ min: 0, max: 100_000 }), { maxLength: 30 }),
      region,
      sdk: fc.constantFrom("a/1", "b/2", "__proto__", "constructor"),
      polling: fc.nat(9),
      stragglers: fc.array(
        fc.record({
          instance: fc.string({ maxLength: 3 }),
          name: fc.constant("n"),
          sdk: fc.constant("s"),
          revision: fc.nat(5),
          lastSeen: fc.nat(5),
        }),
        { maxLength: 20 },
      ),
    })
    .map(({ times, region, sdk, polling, stragglers }) => {
      const own = counts({ connected: times.length, applied: times.length });
      const by = { byRegion: { [region]: own }, bySdk: Object.fromEntries([[sdk, own]]) };
      return mergeParts(partOf(times, { polling, stragglers, ...by }), emptyPart());
    });

  test("is commutative and associative, and an empty part changes nothing", () => {
    fc.assert(
      fc.property(part, part, part, (a, b, c) => {
        expect(mergeParts(a, b)).toEqual(mergeParts(b, a));
        expect(mergeParts(mergeParts(a, b), c)).toEqual(mergeParts(a, mergeParts(b, c)));
        expect(mergeParts(a, emptyPart())).toEqual(a);
      }),
    );
  });

  test("adds up histograms", () => {
    const list = fc.array(fc.integer({ min: 0, max: 1_000_000 }), { maxLength: 50 });
    fc.assert(
      fc.property(list, list, (one, other) => {
        expect(mergeParts(partOf(one), partOf(other)).durations).toEqual(partOf([...one, ...other]).durations);
      }),
    );
  });

  test("keeps the twenty stragglers that are furthest behind and the twenty largest SDKs, and loses no count", () => {
    const parts = Array.from({ length: 100 }, (_, index) => {
      const own = counts({ connected: index + 1, applied: index });
      const straggler = { instance: `i${index}`, name: "n", sdk: `s/${index}`, revision: 100 - index, lastSeen: 0 };
      return { ...emptyPart(), ...own, bySdk: { [`s/${index}`]: own }, stragglers: [straggler] };
    });
    const whole = parts.reduce(mergeParts, emptyPart());
    expect(whole.stragglers.map(({ revision }) => revision)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
    expect(Object.keys(whole.bySdk)).toHaveLength(20);
    const all = Object.values(whole.bySdk);
    expect(all.reduce((sum, { connected }) => sum + connected, 0)).toBe(whole.connected);
    expect(all.reduce((sum, { applied }) => sum + applied, 0)).toBe(whole.applied);
  });

  test("counts the clients that an unresponsive relay last reported as silent", () => {
    const whole = mergeParts(partOf([3]), silentPart("afr", 5));
    const silent = counts({ connected: 5, silent: 5 });
    expect(whole).toMatchObject({ connected: 6, applied: 1, silent: 5, byRegion: { afr: silent } });
  });
});
