/** One side in a process of its own: does what its parent asks, one thing at a time. */
import { type Loop, ready } from "./engine.ts";
import { type Side, tenThousand, workloads } from "./workloads.ts";

export type Order = { task: "time" | "bytes"; workload: string } | { task: "load"; repeat: number };
export type Loading = { milliseconds: number; parsing: number; bytes: number; parsedBytes: number; textBytes: number };
export type Report = { value: number } | { loading: Loading } | { error: string };

/** A side's first calls are interpreted; nothing is timed before this. Milliseconds. */
const WARM_UP = 400;
const ROUND = 60;

const name = process.argv[2]!;
const side: Side = (await import(`./${name}.ts`)).default;
const loops = new Map<string, { loop: Loop; times: number }>();
const collect = globalThis.gc!;

process.on("message", async (order: Order) => {
  let report: Report;
  try {
    if (order.task === "load") report = { loading: await load(order.repeat) };
    else report = { value: order.task === "time" ? await time(order.workload) : await bytes(order.workload) };
  } catch (error) {
    report = { error: String(error instanceof Error ? error.stack : error) };
  }
  process.send!(report);
});
process.send!({ value: 0 } satisfies Report);

async function prepared(workload: string): Promise<{ loop: Loop; times: number }> {
  let known = loops.get(workload);
  if (known === undefined) {
    const loop = await ready(side, workloads.find((one) => one.name === workload)!);
    let times = 1;
    let each = 0;
    for (const end = performance.now() + WARM_UP; performance.now() < end; times = Math.min(times * 2, 65_536)) {
      const start = performance.now();
      await loop(times);
      each = (performance.now() - start) / times;
    }
    known = { loop, times: Math.max(1, Math.ceil(ROUND / each)) };
    loops.set(workload, known);
  }
  return known;
}

/** Nanoseconds for one. */
async function time(workload: string): Promise<number> {
  const { loop, times } = await prepared(workload);
  const start = performance.now();
  await loop(times);
  return ((performance.now() - start) * 1e6) / times;
}

/** The process must have a young generation that none of this fills. */
async function bytes(workload: string): Promise<number> {
  const { loop } = await prepared(workload);
  const times = workload === "W7" ? 100 : 20_000;
  await loop(times);
  collect();
  const before = process.memoryUsage().heapUsed;
  await loop(times);
  return (process.memoryUsage().heapUsed - before) / times;
}

async function load(repeat: number): Promise<Loading> {
  const text = JSON.stringify(side.document(tenThousand));
  const parsing: number[] = [];
  const opening: number[] = [];
  for (let i = 0; i < repeat; i++) {
    parsing.push(await took(() => JSON.parse(text)));
    opening.push(await took(() => side.open(text)));
  }
  return {
    milliseconds: median(opening),
    parsing: median(parsing),
    parsedBytes: await held(() => JSON.parse(text)),
    bytes: await held(() => side.open(text)),
    textBytes: text.length,
  };
}

async function took(work: () => unknown): Promise<number> {
  collect();
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Where what is weighed stays reachable. */
const kept: unknown[] = [];

async function held(work: () => unknown): Promise<number> {
  kept.pop();
  // The last of what was dropped is held until the next turn.
  await new Promise((resolve) => setTimeout(resolve, 20));
  collect();
  const before = process.memoryUsage().heapUsed;
  kept.push(await work());
  collect();
  return process.memoryUsage().heapUsed - before;
}

function median(numbers: number[]): number {
  return numbers.sort((a, b) => a - b)[numbers.length >> 1]!;
}
