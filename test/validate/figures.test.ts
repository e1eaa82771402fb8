import { expect, test } from "vitest";
import { percentile, rowOf, Totals, table } from "./figures.ts";

const oneToHundred = Array.from({ length: 100 }, (_, index) => 100 - index);

test.each([
  [[], 0.5, null],
  [[7], 0.95, 7],
  [[3, 1, 2], 0.5, 2],
  [oneToHundred, 0.5, 50],
  [oneToHundred, 0.95, 95],
  [oneToHundred, 0.99, 99],
  [oneToHundred, 1, 100],
])("percentile of %j at %d is %s", (values, q, expected) => expect(percentile(values, q)).toBe(expected));

test("a row times only what succeeded, and tells what was never sent apart from errors", () => {
  const totals = new Totals();
  for (const [status, latencyMs] of [
    [200, 10],
    [304, 30],
    [201, 20],
    [503, 5_000],
    [503, 5_000],
    [0, 1],
  ] as const)
    totals.note(status, latencyMs);
  totals.shed = 2;
  expect(rowOf("calm", "polls", totals, 2)).toEqual({
    phase: "calm",
    what: "polls",
    perSecond: 1.5,
    p50: 20,
    p95: 30,
    p99: 30,
    errorRate: 3 / 6,
    note: "1 × lost, 2 × 503, 2 not sent",
  });
});

test("the table is Markdown, and shows a small error rate as what it is", () => {
  const row = { phase: "calm", what: "polls", perSecond: 1_234, p50: 1, p95: null, p99: 3, errorRate: 0, note: "" };
  expect(table([row, { ...row, errorRate: 0.0004 }]).split("\n")).toEqual([
    "| phase | what | a second | p50, ms | p95, ms | p99, ms | errors |  |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    "| calm | polls | 1,234 | 1 | – | 3 | 0.0 % |  |",
    "| calm | polls | 1,234 | 1 | – | 3 | 0.040 % |  |",
  ]);
});
