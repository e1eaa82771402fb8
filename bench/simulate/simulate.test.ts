/** What is summed for ten million clients agrees with every client simulated by itself, where there are few. */
import { describe, expect, test } from "vitest";
import { publishEach, stormEach } from "./each-client.ts";
import { Histogram, sumBelow } from "./histogram.ts";
import { type Costs, costs, places, regions } from "./parameters.ts";
import { publish } from "./publish.ts";
import { Random } from "./random.ts";
import { storm } from "./storm.ts";

/** A tree of three levels in the large regions, from relays of forty. */
const small: Costs = { ...costs, cap: 40, fanOut: 27, socketMs: 2, spread: 0 };
const clients = 20_000;
const quantiles = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99];
const seeds = [1, 2, 3];

describe("a publish", () => {
  for (const socketsFirst of [false, true]) {
    test.each(seeds)(`agrees with each client by itself, sockets first: ${socketsFirst}, seed %i`, (seed) => {
      const scenario = { clients, hub: "enam" as const, seed, costs: small, socketsFirst };
      const each = publishEach(scenario);
      const summed = publish(scenario);
      expect(each).toHaveLength(Math.round(summed.total));
      // One bin, one socket's write, and what chance leaves among 20,000.
      for (const q of quantiles) {
        expect(Math.abs(summed.quantile(q) - each[Math.ceil(q * each.length) - 1]!)).toBeLessThan(1 + 2 + 3);
      }
      expect(summed.max).toBeGreaterThanOrEqual(each.at(-1)!);
      expect(summed.max - each.at(-1)!).toBeLessThan(20);
    });
  }

  test("takes longer the more there is on the way, and nothing without a cost", () => {
    const base = { clients: 100_000, hub: "enam" as const, seed: 1, costs };
    const maxima = [{ network: false }, {}, { asleep: true }, { asleep: true, socketsFirst: true }].map(
      (more) => publish({ ...base, ...more }).max,
    );
    expect(maxima).toEqual(maxima.toSorted((one, other) => one - other));
    expect(new Set(maxima).size).toBe(4);
    const free = { ...costs, nodeMs: 0, socketMs: 0, childMs: 0 };
    expect(publish({ ...base, costs: free, network: false }).max).toBe(0);
  });
});

describe("a storm", () => {
  test.each(seeds)("agrees with each client by itself, seed %i", (seed) => {
    for (const dropped of [0.1, 1]) {
      const scenario = { clients, dropped, hub: "enam" as const, seed, costs: small };
      const each = stormEach(scenario);
      const summed = storm(scenario);
      const few = 5 * Math.sqrt(clients * dropped);
      expect(Math.abs(summed.dropped - each.dropped)).toBeLessThan(few);
      // Five deviations of a quantile in a window of a second, and one bin.
      const off = 2_500 / Math.sqrt(each.dropped) + each.back.binMs;
      for (const q of quantiles) {
        expect(Math.abs(summed.back.quantile(q) - each.back.quantile(q))).toBeLessThan(off);
      }
      for (const [second, count] of each.workers.seconds.entries()) {
        expect(Math.abs((summed.workers.seconds[second] ?? 0) - count)).toBeLessThan(few);
      }
      // Three deviations of the difference of two counts: a tenth of the clients makes few reports.
      const deviations = Math.abs(summed.hub.max - each.hub.max) / Math.sqrt(summed.hub.max + each.hub.max);
      expect(deviations).toBeLessThan(3);
      expect(summed.relayPeak / each.relayPeak).toBeGreaterThan(0.7);
      expect(summed.relayPeak / each.relayPeak).toBeLessThan(1.5);
    }
  });

  test("brings everybody back, also where relays are too slow for their windows", () => {
    const slow = { ...small, acceptMs: 400, openMs: 1_000 };
    for (const run of [storm, stormEach]) {
      const { dropped, back, refused } = run({ clients: 2_000, dropped: 1, hub: "enam", seed: 1, costs: slow });
      expect(dropped).toBe(2_000);
      expect(back.total).toBe(2_000);
      expect(refused).toBeGreaterThan(100);
      expect(back.max).toBeGreaterThan(costs.retryAfterMs);
    }
  });
});

describe("the parts", () => {
  test("the sum of two uniform numbers is below what sampling says", () => {
    const random = new Random(7);
    for (const [one, other] of [
      [10, 3],
      [3, 10],
      [5, 5],
      [0, 4],
    ] as const) {
      const drawn = Array.from({ length: 20_000 }, () => random.between(0, one) + random.between(0, other));
      for (const x of [-1, 0.5, 2, 4, 7, 9.5, 12, 14]) {
        const share = drawn.filter((sum) => sum < x).length / drawn.length;
        expect(Math.abs(sumBelow(x, one, other) - share)).toBeLessThan(0.02);
      }
    }
  });

  test("a histogram spreads all of its clients, and its quantiles are those of its bins", () => {
    const histogram = new Histogram(1);
    histogram.addSpread(1_000, 50, 2_000, 0.5, 30);
    histogram.add(9_000, 10);
    expect(histogram.total).toBeCloseTo(1_010, 6);
    expect(histogram.quantile(0.5)).toBeCloseTo(50 + 0.5 * (2_000 + 30), -1.5);
    expect(histogram.quantile(1)).toBe(9_000);
    expect(histogram.shares().at(-1)).toEqual([9_001, expect.closeTo(1, 9)]);
  });

  test("chance is the same for a seed, another for another, and as likely as it says", () => {
    const draw = (seed: number) => Array.from({ length: 5 }, new Random(seed).next);
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    const random = new Random(3);
    for (const [count, chance] of [
      [50, 0.02],
      [400, 0.3],
      [400, 0.9],
      [10, 1],
      [10, 0],
    ] as const) {
      const mean = Array.from({ length: 4_000 }, () => random.binomial(count, chance)).reduce((a, b) => a + b) / 4_000;
      const deviation = Math.sqrt(count * chance * (1 - chance));
      expect(Math.abs(mean - count * chance)).toBeLessThanOrEqual((5 * deviation) / Math.sqrt(4_000));
    }
  });

  test("there are figures for all nine regions, and the way there is about as long as the way back", () => {
    expect(regions).toHaveLength(9);
    expect(regions.reduce((sum, region) => sum + places[region].share, 0)).toBeCloseTo(1, 9);
    for (const [row, from] of regions.entries()) {
      expect(places[from].tripsMs).toHaveLength(9);
      expect(places[from].tripsMs[row]).toBe(0);
      for (const [column, to] of regions.entries()) {
        expect(Math.abs(places[from].tripsMs[column]! - places[to].tripsMs[row]!)).toBeLessThanOrEqual(3);
      }
    }
  });
});
