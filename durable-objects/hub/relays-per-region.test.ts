/** When a region gets fewer relays: not while its clients may only be reconnecting. */
import { expect, test } from "vitest";
import type { RelayCounts } from "../fan-out/tree.ts";
import { decide, SHRINK_AFTER_MS } from "./relays-per-region.ts";

const CAP = 100;

/** The number of relays after each report, in a region that starts with `relays`. A step is one report. */
function run(relays: number, steps: [now: number, clients: number][]): number[] {
  let counts: RelayCounts = { weur: relays };
  let shrinking = {};
  return steps.map(([now, clients]) => {
    ({ counts, shrinking } = decide(counts, shrinking, new Map([["weur", clients]]), CAP, now));
    return counts.weur as number;
  });
}

test("a region whose clients disconnect all at once has room for them when they reconnect (X4)", () => {
  expect(
    run(20, [
      [0, 1_000],
      [1_000, 0],
      [2_000, 3],
      [3_000, 400],
      [6_000, 1_000],
    ]),
  ).toEqual([20, 20, 20, 20, 20]);
});

test("a region that stays that empty for ten minutes gets as few relays as it needs then", () => {
  const end = 1_000 + SHRINK_AFTER_MS;
  expect(
    run(20, [
      [0, 1_000],
      [1_000, 0],
      [end - 1, 100],
      [end, 100],
      [end + 1, 100],
    ]),
  ).toEqual([20, 20, 20, 2, 2]);
});

test("the ten minutes start over when the region was full enough in between", () => {
  const half = SHRINK_AFTER_MS / 2;
  const steps: [number, number][] = [
    [0, 0],
    [half, 500],
    [half + 1, 0],
    [SHRINK_AFTER_MS, 0],
    [half + 1 + SHRINK_AFTER_MS, 0],
  ];
  expect(run(20, steps)).toEqual([20, 20, 20, 20, 1]);
});

test("a region grows at once, also while another one shrinks", () => {
  expect(run(1, [[0, 80]])).toEqual([2]);
  const both = decide(
    { weur: 20, enam: 1 },
    {},
    new Map([
      ["weur", 0],
      ["enam", 1_000],
    ] as const),
    CAP,
    7,
  );
  expect(both).toEqual({ counts: { weur: 20, enam: 20 }, shrinking: { weur: 7 } });
});

test("a region without clients loses its entry", () => {
  expect(decide({ weur: 20 }, { weur: 1 }, new Map(), CAP, 2)).toEqual({ counts: {}, shrinking: {} });
});
