/**
 * A storm of writes to one environment, and kills in the middle of it. At each size so many instructions are sent at once;
 * beside them kills, four at once with the storm and then one every half second while it lasts, each timed from the request until
 * it is answered and until the last connected client has it. "cost" is the runtime's processor time for each write that
 * landed, and the clients' deliveries with it. Arguments: sizes (default 1,20,100,200,500), clients (default 1000), rounds
 * (default 3), how D1 is meanwhile (`well`, `slow`: each call takes 2 s; `flaky`: half of the calls fail), environments
 * stormed at once (default 1; the clients are those of the first). Size 1 is a hundred writes, one after another.
 */
import { type ChildProcess, fork } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { bundle, Server } from "../test/support/server.ts";
import type { Arrivals } from "./write-storm-clients.ts";

const [sizeList = "1,20,100,200,500", clientCount = "1000", roundCount = "3", d1 = "well", environmentCount = "1"] =
  process.argv.slice(2);
const sizes = sizeList.split(",").map(Number);
const ENTRY = "test/support/faulty-worker.ts";
const FLAGS = 20;
const KILLS_AT_ONCE = 4;
const KILL_EVERY_MS = 500;
const REST_MS = 1_500;
const ONE_AFTER_ANOTHER = 100;
const CLOCK_TICKS_A_SECOND = 100;
const FAULTS = {
  well: {},
  slow: { DB: { mode: "delay", ms: 2_000 } },
  flaky: { DB: { mode: "flaky", rate: 0.5 } },
} as const;

const BOOLEAN = [true, false].map((value) => ({ key: value ? "on" : "off", value }));

class Clients {
  readonly #process: ChildProcess;

  constructor(count: number, port: number, key: string) {
    this.#process = fork("bench/write-storm-clients.ts", [JSON.stringify({ count, port, key })]);
  }

  next(): Promise<Arrivals> {
    return new Promise((resolve, reject) => {
      this.#process.once("message", resolve);
      this.#process.once("exit", () => reject(new Error("The clients ended")));
    });
  }

  /** When the last of them had the revision; null where not all have it. */
  async had(revision: number): Promise<number | null> {
    this.#process.send(revision);
    const arrivals = await this.next();
    if (!("revision" in arrivals) || arrivals.revision !== revision) throw new Error("The clients lost count");
    return arrivals.missing === 0 ? arrivals.lastAt : null;
  }

  close(): void {
    this.#process.kill();
  }
}

type Outcome = { status: number; ms: number };
type Kill = Outcome & { flag: string; at: number; revision: number | null; everywhereMs: number | null };

const server = await Server.start(ENTRY, bundle(ENTRY));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void end(1));
const { serverKey, flags } = await server.environment();
const environments = ["production"];
for (let n = 1; n < Number(environmentCount); n++) {
  environments.push(`environment-${n}`);
  await server.ask("POST", "/projects/p/environments", { key: `environment-${n}` });
}
for (let n = 0; n < FLAGS; n++) {
  await server.ask("POST", flags, { key: `flag-${n}`, type: "boolean", variations: BOOLEAN });
  await server.ask("POST", flags, { key: `victim-${n}`, type: "boolean", variations: BOOLEAN });
}
const clients = new Clients(Number(clientCount), Number(new URL(server.url).port), serverKey);
await clients.next();
const runtime = workerdOf(server.pid as number);

async function end(code: number): Promise<never> {
  clients.close();
  await server.dispose();
  process.exit(code);
}

let written = 0;

/** Adds a user that nobody else adds: nothing acknowledged may be missing afterwards. */
async function writeOnce(environment: string): Promise<Outcome & { user: string; flag: string }> {
  const user = `user-${written++}`;
  const flag = `flag-${written % FLAGS}`;
  const begunAt = performance.now();
  const instructions = [{ kind: "addTargets", variation: "on", values: [user] }];
  const response = await server.api("POST", `${flags}/${flag}/environments/${environment}/instructions`, {
    instructions,
  });
  await response.text();
  return { status: response.status, ms: performance.now() - begunAt, user, flag };
}

async function kill(number: number, action: "kill" | "restore"): Promise<Kill> {
  const flag = `victim-${number % FLAGS}`;
  const at = Date.now();
  const begunAt = performance.now();
  const response = await server.api("POST", `${flags}/${flag}/environments/production/${action}?wait=0`, {
    reason: "bench",
  });
  const { revision = null } = (await response.json()) as { revision?: number };
  return { status: response.status, ms: performance.now() - begunAt, flag, at, revision, everywhereMs: null };
}

type Round = { writes: Outcome[]; kills: Kill[]; seconds: number; processorMs: number; lost: number };

async function storm(size: number): Promise<Round> {
  const processorBefore = processorMs(runtime);
  const begunAt = performance.now();
  const kills: Promise<Kill>[] = [];
  let isOver = false;
  const writes: Awaited<ReturnType<typeof writeOnce>>[] = [];
  const storming = (async () => {
    if (size === 1) for (let n = 0; n < ONE_AFTER_ANOTHER; n++) writes.push(await writeOnce("production"));
    else {
      const all = environments.flatMap((environment) => Array.from({ length: size }, () => writeOnce(environment)));
      writes.push(...(await Promise.all(all)));
    }
    isOver = true;
  })();
  for (let n = 0; n < KILLS_AT_ONCE; n++) kills.push(kill(n, "kill"));
  for (let n = KILLS_AT_ONCE; !isOver; n++) {
    await new Promise((resolve) => setTimeout(resolve, KILL_EVERY_MS));
    if (!isOver && n < FLAGS) kills.push(kill(n, "kill"));
  }
  await storming;
  const seconds = (performance.now() - begunAt) / 1_000;
  const spent = processorMs(runtime) - processorBefore;
  const killed = await Promise.all(kills);
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  await server.setFaults({});
  for (const one of killed) {
    if (one.revision === null) continue;
    const lastAt = await clients.had(one.revision);
    one.everywhereMs = lastAt === null ? null : lastAt - one.at;
  }
  const shown = await Promise.all(
    Array.from({ length: FLAGS }, async (_, n) => {
      const all = environments.map((environment) =>
        server.ask<{ targets: { values: string[] }[] }>("GET", `${flags}/flag-${n}/environments/${environment}`),
      );
      return (await Promise.all(all)).flatMap(({ targets }) => targets.flatMap(({ values }) => values));
    }),
  );
  const kept = new Set(shown.flat());
  const lost = writes.filter(({ status, user }) => status === 200 && !kept.has(user)).length;
  // Nothing of this storm weighs on the next.
  for (let n = 0; n < killed.length; n++) await kill(n, "restore");
  for (let n = 0; n < FLAGS; n++) {
    for (const environment of environments)
      await server.ask("PATCH", `${flags}/flag-${n}/environments/${environment}`, { targets: [] });
  }
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  return { writes, kills: killed, seconds, processorMs: spent, lost };
}

function workerdOf(pid: number): number {
  const children = readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      return stat.includes("(workerd)") && Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
    } catch {
      return false;
    }
  });
  return Number(children[0] ?? pid);
}

/** User and system time of a process so far. */
function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_A_SECOND) * 1_000;
}

const quantile = (values: number[], q: number) =>
  values.toSorted((one, other) => one - other)[Math.min(values.length - 1, Math.floor(q * values.length))] ??
  Number.NaN;
const whole = (value: number | undefined) => (value === undefined || Number.isNaN(value) ? "–" : value.toFixed(0));

for (let n = 0; n < 20; n++) await writeOnce("production");
console.log(`${clientCount} clients, D1 ${d1}, ${environmentCount} environments, ${roundCount} rounds`);
console.log(
  "| at once | writes/s | answered 200 | 429 | 5xx | lost | p50 ms | worst ms | cost ms | kills | not 200 | answered p50 | p99 | worst | everywhere p50 | p99 | worst | not everywhere |",
);
console.log(`|${"---|".repeat(18)}`);
for (const size of sizes) {
  const rounds: Round[] = [];
  for (let round = 0; round < Number(roundCount); round++) {
    await server.setFaults(FAULTS[d1 as keyof typeof FAULTS]);
    rounds.push(await storm(size));
  }
  const writes = rounds.flatMap((round) => round.writes);
  const kills = rounds.flatMap((round) => round.kills);
  const done = writes.filter(({ status }) => status === 200);
  const answered = kills.map(({ ms }) => ms);
  const everywhere = kills.flatMap(({ everywhereMs }) => everywhereMs ?? []);
  const seconds = rounds.reduce((sum, round) => sum + round.seconds, 0);
  const row = [
    size,
    (done.length / seconds).toFixed(1),
    done.length,
    writes.filter(({ status }) => status === 429).length,
    writes.filter(({ status }) => status >= 500).length,
    rounds.reduce((sum, { lost }) => sum + lost, 0),
    whole(
      quantile(
        writes.map(({ ms }) => ms),
        0.5,
      ),
    ),
    whole(Math.max(...writes.map(({ ms }) => ms))),
    (rounds.reduce((sum, round) => sum + round.processorMs, 0) / done.length).toFixed(1),
    kills.length,
    kills.filter(({ status }) => status !== 200).length,
    ...[0.5, 0.99, 1].map((q) => whole(quantile(answered, q))),
    ...[0.5, 0.99, 1].map((q) => whole(quantile(everywhere, q))),
    kills.filter(({ everywhereMs }) => everywhereMs === null).length,
  ];
  console.log(`| ${row.join(" | ")} |`);
}
await end(0);
