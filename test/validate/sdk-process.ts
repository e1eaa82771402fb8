/**
 * One process of an application: Node SDK clients on streams of their own, all evaluating all the time, every change
 * watched. Started by fleet.ts with a JSON object; told what to do over IPC.
 */
import { type Client, type Context, createClient } from "@bunting/sdk/node";
import { percentile } from "./figures.ts";
import { type Ended, History, type Remembered, type Seen, Watch } from "./invariants.ts";

export type FleetOptions = {
  url: string;
  serverKey: string;
  clients: number;
  /** All clients together. */
  evaluationsPerSecond: number;
  flags: string[];
  name: string;
};

/** Since the last report. Latencies of changes are from the hub's publishing to the client's change event. */
export type FleetReport = {
  evaluations: number;
  failed: number;
  seconds: number;
  /** Milliseconds, of one evaluation in some hundreds. */
  evaluationP99: number | null;
  changeLatenciesMs: number[];
  disconnects: number;
  violations: string[];
  history: Remembered[];
  ended: Ended[];
};

const options = JSON.parse(process.argv[2] ?? "{}") as FleetOptions;

/** Longest that the event loop is held by evaluations. */
const SLICE_MS = 20;
const PACE_MS = 5;
/** A server that refused events for a while is asked again after a back-off. */
const REST_MS = 60_000;
const SAMPLED_EVERY = 509;
const WITNESS = { targetingKey: "witness" };

const contexts = Array.from({ length: 1_000 }, (_, index) => ({
  targetingKey: `user-${index}`,
  plan: index % 3 === 0 ? "enterprise" : "free",
  age: index % 90,
}));

/** Once evaluating has stopped and all events are sent: all evaluations ever made, and what became of their events. */
export type Rest = { evaluations: number; buffered: number; dropped: number };

let evaluations = 0;
let everEvaluated = 0;
let failed = 0;
let disconnects = 0;
let samples: number[] = [];
let changeLatenciesMs: number[] = [];
let since = performance.now();
const history = new History();
const watches: Watch[] = [];

/** The one way in which flags are asked for here, so that no evaluation goes uncounted. */
function decide(client: Client, flag: string, context: Context) {
  evaluations += 1;
  everEvaluated += 1;
  try {
    const decision = client.details(flag, null, context);
    if (decision.variation === null) failed += 1;
    return decision;
  } catch {
    failed += 1;
    return null;
  }
}

function look(client: Client, flag: string): Seen {
  const decision = decide(client, flag, WITNESS);
  const killed = decision?.reason === "KILLED";
  const sequence = killed ? null : Number(decision?.ruleId?.slice(1) ?? 0);
  return { flag, version: decision?.flagVersion ?? 0, sequence, killed };
}

const endOf = (client: Client, name: string): Ended => ({
  client: name,
  revision: client.status().revision ?? 0,
  flags: options.flags.map((flag) => look(client, flag)),
});

async function open(number: number): Promise<Client> {
  const client = createClient({
    url: options.url,
    serverKey: options.serverKey,
    streams: number % 4 === 3 ? ["sse"] : ["websocket"],
    logger: { warn: () => {}, error: () => {} },
  });
  const connected = new Promise<void>((resolve) => client.on("connected", () => resolve()));
  if (!(await client.ready({ timeoutMs: 20_000 }))) throw new Error("A client got no ruleset");
  await connected;
  const watch = new Watch(endOf(client, `${options.name}-${number}`));
  watches.push(watch);
  client.on("disconnected", () => {
    disconnects += 1;
  });
  client.on("change", ({ revision, previous, publishedAt, ageMs, flags }) => {
    const seen = flags.filter((flag) => options.flags.includes(flag)).map((flag) => look(client, flag));
    const patched = publishedAt !== null;
    watch.saw({ revision, previous, patched, seen });
    if (patched) for (const one of seen) history.add({ revision, ...one });
    if (ageMs !== null) changeLatenciesMs.push(ageMs);
  });
  return client;
}

// From here on the parent holds this process: no client does.
process.on("disconnect", () => process.exit(1));

const clients: Client[] = [];
for (let made = 0; made < options.clients; made += 10) {
  const batch = Array.from({ length: Math.min(10, options.clients - made) }, (_, index) => open(made + index));
  clients.push(...(await Promise.all(batch)));
}

let turn = 0;
let paced = { at: performance.now(), done: 0 };
const evaluating = setInterval(() => {
  const started = performance.now();
  const due = ((started - paced.at) * options.evaluationsPerSecond) / 1_000;
  // What could not be done in time is not made up for later: the rate that is reported is lower then.
  if (due - paced.done > options.evaluationsPerSecond) paced = { at: started, done: 0 };
  while (paced.done < due && performance.now() - started < SLICE_MS) {
    for (let times = 0; times < 50 && paced.done < due; times++, turn++) {
      const client = clients[turn % clients.length]!;
      const flag = options.flags[Math.floor(turn / clients.length) % options.flags.length]!;
      const sampledAt = turn % SAMPLED_EVERY === 0 ? performance.now() : 0;
      decide(client, flag, contexts[turn % contexts.length]!);
      if (sampledAt > 0) samples.push(performance.now() - sampledAt);
      paced.done += 1;
    }
  }
}, PACE_MS);

function report(): FleetReport {
  const now = performance.now();
  const ended = clients.map((client, number) => endOf(client, `${options.name}-${number}`));
  const made: FleetReport = {
    evaluations,
    failed,
    seconds: (now - since) / 1_000,
    evaluationP99: percentile(samples, 0.99),
    changeLatenciesMs,
    disconnects,
    violations: [...history.violations, ...watches.flatMap(({ violations }) => violations)],
    history: history.entries(),
    ended,
  };
  [evaluations, failed, disconnects, samples, changeLatenciesMs, since] = [0, 0, 0, [], [], now];
  return made;
}

const streaming = () =>
  clients.map((client) => client.status()).filter(({ connected, transport }) => connected && transport !== "polling")
    .length;

async function rest(): Promise<Rest> {
  clearInterval(evaluating);
  const counted = () => {
    const all = clients.map((client) => client.status().events);
    const sum = (count: (one: (typeof all)[0]) => number) => all.reduce((total, one) => total + count(one), 0);
    return { buffered: sum(({ buffered }) => buffered), dropped: sum(({ dropped }) => dropped) };
  };
  const until = performance.now() + REST_MS;
  do {
    await Promise.all(clients.map((client) => client.flush()));
    if (counted().buffered > 0) await new Promise((resolve) => setTimeout(resolve, 500));
  } while (counted().buffered > 0 && performance.now() < until);
  return { evaluations: everEvaluated, ...counted() };
}

async function close(): Promise<never> {
  await Promise.all(clients.map((client) => client.close()));
  process.exit(0);
}

const tasks = { report, streaming, rest, close };
process.on("message", async (task: keyof typeof tasks) => process.send!(await tasks[task]()));
process.send!("ready");
