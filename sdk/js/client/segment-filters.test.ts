import { compile, type Evaluator, emptyFilter, filterSize, placeOf, type Ruleset, setBits } from "@bunting/core";
import { expect, test, vi } from "vitest";
import type { Clock } from "../sync/clock.ts";
import { Filters, retryAfterMs } from "./segment-filters.ts";

const size = filterSize(3);
const filter = emptyFilter(size);
for (const member of ["a", "b", "c"]) setBits(filter, size, ...placeOf(member));

function evaluatorFor(url = "/sdk/v1/segments/s/1"): Evaluator {
  const big = { generation: 1, count: 3, ...size, url, added: [], removed: [] };
  const ruleset: Ruleset = {
    schema: 1,
    environment: "env_1",
    revision: 1,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags: {},
    segments: { s: { key: "s", version: 1, included: [], excluded: [], rules: [], big } },
  };
  return compile(ruleset);
}

/** Timers that a test fires. */
function tools(answers: (() => Response | Promise<Response>)[]) {
  // A deadline of a minute is no pause.
  const timers: { ms: number; fire: () => void }[] = [];
  const clock: Clock = {
    now: () => 0,
    elapsed: () => 0,
    timer(ms, fire) {
      if (ms >= 60_000) return () => {};
      const timer = { ms, fire };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer), 1);
    },
  };
  const asked: string[] = [];
  const endpoint = {
    url: "https://flags.test",
    headers: () => ({ Authorization: "Bearer key" }),
    async fetch(url: string) {
      asked.push(url);
      return (answers.shift() ?? (() => new Response(null, { status: 500 })))();
    },
  };
  const reports: string[] = [];
  const arrived: string[] = [];
  const filters = new Filters(
    endpoint,
    clock,
    () => 1,
    (message) => reports.push(message),
  );
  filters.onArrival((segment) => arrived.push(segment));
  return { filters, timers, asked, reports, arrived };
}

const answer = () => new Response(filter);

test("what is missing is fetched and set, once", async () => {
  const { filters, asked, arrived, reports } = tools([answer]);
  const evaluator = evaluatorFor();
  filters.serve(evaluator);
  await filters.keepFetching();
  await filters.keepFetching();
  expect(evaluator.missingFilters()).toEqual([]);
  expect([asked, arrived, reports]).toEqual([["https://flags.test/sdk/v1/segments/s/1"], ["s"], []]);
});

test("what fails is told once and tried again, later each time", async () => {
  const bad = [
    () => new Response(null, { status: 503 }),
    () => new Response(filter.subarray(1)),
    () => new Response(new Uint8Array(filter.length + 1)),
    () => Promise.reject(new Error("refused")),
  ];
  const { filters, timers, arrived, reports } = tools([...bad, answer]);
  const evaluator = evaluatorFor();
  filters.serve(evaluator);
  await filters.keepFetching();
  for (const ms of [1_000, 2_000, 4_000, 8_000]) {
    expect(timers.map((timer) => timer.ms)).toEqual([ms]);
    const { fire } = timers.splice(0, 1)[0]!;
    fire();
    await vi.waitFor(() => expect(timers.length + arrived.length).toBe(1));
  }
  expect(evaluator.missingFilters()).toEqual([]);
  expect(reports).toEqual([expect.stringContaining("the server answered 503")]);
});

test("the server key goes nowhere but to the deployment", async () => {
  for (const url of ["https://elsewhere.test/f", "//elsewhere.test/f", "@elsewhere.test/f", ""]) {
    const { filters, asked } = tools([answer]);
    filters.serve(evaluatorFor(url));
    expect(await filters.fetchMissing()).toBe(false);
    expect(asked).toEqual([]);
  }
});

test("a closed client asks no more", async () => {
  const { filters, timers, asked } = tools([]);
  filters.serve(evaluatorFor());
  await filters.keepFetching();
  filters.close();
  await filters.keepFetching();
  expect([timers.length, asked.length]).toEqual([0, 1]);
});

test("the pause doubles from a second to a minute, half of it chance", () => {
  expect([1, 2, 6, 7, 50].map((failures) => retryAfterMs(failures, () => 1))).toEqual([
    1_000, 2_000, 32_000, 60_000, 60_000,
  ]);
  expect(retryAfterMs(1, () => 0)).toBe(500);
});
