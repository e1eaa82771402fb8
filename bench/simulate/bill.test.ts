import { describe, expect, test } from "vitest";
import { cost, prices, SUBSCRIPTION, total, use } from "./bill.ts";

const month = { clients: 1_000, relays: 9, reconnects: 2, publishesPerDay: 100, summarySeconds: 30, isolates: 1 };

describe("a month's bill", () => {
  test("charges what is above the allowance", () => {
    expect(cost("Workers requests", 10e6)).toBe(0);
    expect(cost("Workers requests", 15e6)).toBeCloseTo(1.5, 9);
    // The example of Cloudflare's own page: 15 million requests of 7 ms cost 8 dollars.
    expect(SUBSCRIPTION + cost("Workers requests", 15e6) + cost("Workers CPU ms", 105e6)).toBeCloseTo(8, 9);
    // And its third: 100 objects, each awake all month on a message a second.
    expect(cost("Durable Object GB-s", 100 * 2_592_000 * 0.128)).toBeCloseTo(409.72, 2);
  });

  test("is the subscription where nobody uses anything", () => {
    const nobody = { clients: 0, relays: 0, reconnects: 0, publishesPerDay: 0, summarySeconds: 30, isolates: 0 };
    expect(total(use(nobody).used)).toBe(SUBSCRIPTION);
  });

  test("counts a batch of events once at each place that it passes", () => {
    const few = use(month).used;
    const half = use({ ...month, summarySeconds: 60 });
    expect(half.batchesPerSecond).toBeCloseTo(1_000 / 60, 9);
    const batches = (1_000 * 2_592_000) / 60;
    expect(few["Queues operations"] - half.used["Queues operations"]).toBeCloseTo(3 * batches, 3);
    expect(few["Workers requests"] - half.used["Workers requests"]).toBeCloseTo(batches, 3);
    expect(few["Durable Object requests"] - half.used["Durable Object requests"]).toBeCloseTo(batches, 3);
  });

  test("never gets smaller with more of anything", () => {
    const before = use(month).used;
    for (const name of ["clients", "relays", "reconnects", "publishesPerDay", "isolates"] as const) {
      const after = use({ ...month, [name]: month[name] * 10 }).used;
      for (const item of Object.keys(prices) as (keyof typeof prices)[]) {
        expect(after[item]).toBeGreaterThanOrEqual(before[item]);
      }
      expect(total(after)).toBeGreaterThanOrEqual(total(before));
    }
  });
});
