/** The three validation tests of `npm run test:validate`, each for a few seconds (Q14, Q7, Q8). */
import { beforeAll, expect, test, vi } from "vitest";
import { bundle } from "../support/server.ts";
import { degradation, runDegradation } from "./degradation.ts";
import { failover, runFailover } from "./failover.ts";
import { peakLoad, runPeakLoad } from "./peak-load.ts";
import { ENTRY, type Size, type Verdict } from "./stage.ts";

const size: Size = {
  processes: 1,
  clients: 8,
  evaluationsPerSecond: 1_000,
  written: 6,
  rulesetPollers: 8,
  flagPollers: 4,
  readers: 8,
};
let folder: string;

// What does not arrive is waited for, so that it is told apart from what is slow.
vi.setConfig({ testTimeout: 240_000 });

beforeAll(() => {
  folder = bundle(ENTRY);
});

function held({ violations, evaluations, acknowledged }: Verdict): void {
  expect(violations).toEqual([]);
  expect(evaluations).toBeGreaterThan(0);
  expect(acknowledged.writes).toBeGreaterThan(0);
  expect(acknowledged.kills).toBeGreaterThan(0);
}

test("under load, every evaluation is answered and counted, every change arrives once and in order", async () => {
  held(await runPeakLoad(folder, { ...peakLoad, size, steps: [40], stepSeconds: 1, holdSeconds: 2 }));
});

test("with D1, KV and the Queue slow and failing, every evaluation, poll and kill is answered, every change arrives", async () => {
  held(await runDegradation(folder, { ...degradation, size, perSecond: 20, seconds: 1, delayMs: 1_000 }));
});

test("with the hub, the relay and the runtime killed among writes, every evaluation is answered, every change arrives", async () => {
  held(await runFailover(folder, { ...failover, size, perSecond: 30, kills: 1, everySeconds: 1 }));
});
