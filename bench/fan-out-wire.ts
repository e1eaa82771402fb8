/**
 * publish → the last byte at every client. Sides take turns, round by round, each a server in a process of its own with its
 * clients in another; all share this machine's cores.
 * Arguments: websocket or sse; clients (default 1000); rounds (default 20); then the sides, the first of which is compared
 * with each of the others: `one` relay, a `tree` of about a dozen, `acks` (one relay, clients that acknowledge, and a write that waits
 * for them), `kill` (the same, of kills while D1 fails), `bare` (a Node server that sends as many bytes from one loop), `floor` (an
 * object and a Worker in the same runtime that do the least that can be done), `woken` (one relay that has gone to sleep each time).
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { bundle, Server } from "../test/support/server.ts";
import type { ClientGroup, Report } from "./fan-out-clients.ts";
import { startFloor } from "./fan-out-floor.ts";

const [kind = "websocket", clientCount = "1000", roundCount = "20", ...sideNames] = process.argv.slice(2);
const count = Number(clientCount);
const rounds = Number(roundCount);
const WARM_UP_ROUNDS = 3;
/** Before each round: a kill's acknowledgements come for half a second; an object hibernates that has done nothing for ten. */
const PAUSE_MS: Record<string, number> = { kill: 1_000, woken: 12_000 };
const SHORT_PAUSE_MS = 200;

type Side = {
  name: string;
  pid: number;
  group: Omit<ClientGroup, "kind" | "count">;
  publish(round: number): Promise<void>;
  close(): Promise<void>;
};

class Clients {
  readonly #process: ChildProcess;
  #onReport: ((report: Report) => void) | null = null;
  lost = 0;

  constructor(group: ClientGroup) {
    this.#process = fork("bench/fan-out-clients.ts", [JSON.stringify(group)]);
    this.#process.on("message", (report: Report) => this.#onReport?.(report));
  }

  receive(): Promise<Report> {
    return new Promise((resolve, reject) => {
      this.#onReport = (report) => ("failed" in report ? reject(new Error(report.failed)) : resolve(report));
    });
  }

  /** Milliseconds from publishing to each client, sorted, and from asking for it to the last client. */
  async round(publish: () => Promise<void>): Promise<{ ages: number[]; asked: number }> {
    this.#process.send("round");
    await this.receive();
    const askedAt = Date.now();
    const [report] = await Promise.all([this.receive(), publish()]);
    if (!("ages" in report)) throw new Error("The clients lost count");
    this.lost = report.lost;
    return { ages: report.ages, asked: report.lastAt - askedAt };
  }

  close(): void {
    this.#process.kill();
  }
}

async function bunting(name: string): Promise<Side> {
  // A tree: few enough places for a dozen relays, all but the first of them below the first.
  const tree = { RELAY_CAP: String(Math.ceil(count / 6)), RELAY_FAN_OUT: "17" };
  const entry = name === "kill" ? "test/support/faulty-worker.ts" : "workers/index.ts";
  const server = await Server.start(entry, bundle(entry), name === "tree" ? tree : { RELAY_CAP: "50000" });
  const { serverKey, flags, path } = await server.environment();
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "bench", name: "Bench", type: "boolean", variations });
  let revision = 0;
  let killed = false;
  return {
    name,
    pid: workerdOf(server.pid as number),
    group: {
      port: Number(new URL(server.url).port),
      path: kind === "websocket" ? "/sdk/v1/socket" : "/sdk/v1/stream",
      // Each by a name of its own: what one instance may ask for is limited.
      headers: { authorization: `Bearer ${serverKey}`, "x-bunting-client": "bench/1;instance={index}" },
      acknowledges: name === "acks" || name === "kill",
    },
    async publish(round) {
      if (name === "kill") {
        await server.setFaults({ DB: { mode: "fail" } });
        const action = killed ? "restore" : "kill";
        await server.ask("POST", `${flags}/bench/environments/production/${action}`, { reason: "bench" });
        killed = !killed;
        return;
      }
      const targets = [{ variation: "on", values: [`user-${round}`] }];
      ({ revision } = await server.ask<{ revision: number }>(
        "PATCH",
        `/projects/p/flags/bench/environments/production${name === "acks" ? "?wait=1000" : ""}`,
        { targets },
      ));
    },
    async close() {
      if (name === "acks") {
        const receipt = await server.ask<object>("GET", `${path}/receipts/${revision}`);
        console.log("receipt:", JSON.stringify({ ...receipt, stragglers: undefined }));
      }
      await server.dispose();
    },
  };
}

async function bareNode(): Promise<Side> {
  const peer = spawn(process.execPath, ["bench/fan-out-peer.ts"], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise<string>((resolve) => {
    peer.stdout?.on("data", (chunk) => resolve(String(chunk).trim().split(" ")[1] as string));
  });
  return bareSide("bare", Number(port), peer.pid as number, async () => void peer.kill());
}

async function floor(): Promise<Side> {
  const { port, close } = await startFloor();
  return bareSide("floor", port, workerdOf(process.pid), close);
}

function bareSide(name: string, port: number, pid: number, close: () => Promise<void>): Side {
  return {
    name,
    pid,
    group: { port, path: "/", headers: {}, acknowledges: false },
    async publish(round) {
      // As many bytes as a patch of one small flag.
      const body = JSON.stringify({ type: "patch", round, filler: "x".repeat(420) });
      await fetch(`http://127.0.0.1:${port}`, { method: "POST", body });
    },
    close,
  };
}

/** The runtime is a child of the process that serves. */
function workerdOf(pid: number): number {
  const child = readdirSync("/proc").find(
    (entry) => /^\d+$/.test(entry) && new RegExp(`\\(workerd\\) \\S ${pid} `).test(statOf(entry)),
  );
  return Number(child);
}

function statOf(pid: string | number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return "";
  }
}

/** Processor time so far, ms (ticks are 10 ms), and memory, KB. */
function usage(pid: number): { cpuMs: number; rssKb: number } {
  const fields = statOf(pid).split(") ")[1]?.split(" ") ?? [];
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssKb: Number(fields[21]) * 4 };
}

const quantile = (sorted: number[], q: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
const sorted = (list: number[]) => [...list].sort((one, other) => one - other);
const median = (list: number[]) => quantile(sorted(list), 0.5);
const load = () => readFileSync("/proc/loadavg", "utf8").split(" ")[0];

type Figures = { p50: number[]; p99: number[]; last: number[]; asked: number[]; cpuMs: number };

for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void end(signal));
console.log(`load average before: ${load()}`);
const sides: { side: Side; clients: Clients; figures: Figures }[] = [];
for (const name of sideNames.length > 0 ? sideNames : ["one", "bare"]) {
  const side = name === "bare" ? await bareNode() : name === "floor" ? await floor() : await bunting(name);
  const idle = usage(side.pid);
  const startedAt = Date.now();
  const clients = new Clients({ ...side.group, kind: kind as ClientGroup["kind"], count });
  sides.push({ side, clients, figures: { p50: [], p99: [], last: [], asked: [], cpuMs: 0 } });
  await clients.receive().catch((error) => end(error));
  const seconds = ((Date.now() - startedAt) / 1_000).toFixed(1);
  const { cpuMs, rssKb } = usage(side.pid);
  console.log(
    `${name}: ${count} connected in ${seconds} s; each ${((cpuMs - idle.cpuMs) / count).toFixed(2)} ms of processor and ${((rssKb - idle.rssKb) / count).toFixed(1)} KB`,
  );
}
for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
  for (const { side, clients, figures } of sides) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS[side.name] ?? SHORT_PAUSE_MS));
    const before = usage(side.pid).cpuMs;
    const { ages, asked } = await clients.round(() => side.publish(round)).catch((error) => end(error));
    await new Promise((resolve) => setTimeout(resolve, SHORT_PAUSE_MS));
    if (round < 0) continue;
    figures.p50.push(quantile(ages, 0.5));
    figures.p99.push(quantile(ages, 0.99));
    figures.last.push(ages.at(-1) as number);
    figures.asked.push(asked);
    figures.cpuMs += usage(side.pid).cpuMs - before;
  }
}

console.log(`\n${count} × ${kind}: medians of ${rounds} rounds, ms from publishing to the client; load ${load()}`);
for (const { side, clients, figures } of sides) {
  const { p50, p99, last, asked } = figures;
  const each = ((figures.cpuMs / rounds / count) * 1_000).toFixed(1);
  console.log(
    `${side.name.padEnd(5)} p50 ${median(p50)}  p99 ${median(p99)}  last ${median(last)}, at worst ${Math.max(...last)}; from the request ${median(asked)}, at worst ${Math.max(...asked)}  processor ${each} µs a client  lost ${clients.lost}`,
  );
}
const [first, ...others] = sides;
for (const other of others) {
  const ratios = (["p50", "p99", "last"] as const).map((name) => {
    const each = (first as (typeof sides)[0]).figures[name].map(
      (ms, n) => ms / Math.max(1, other.figures[name][n] as number),
    );
    return `${name} ${median(each).toFixed(2)}`;
  });
  console.log(`${first?.side.name} ÷ ${other.side.name}: ${ratios.join("  ")} (medians of the rounds' ratios)`);
}
await end(null);

async function end(error: unknown): Promise<never> {
  if (error !== null) console.error(error);
  for (const { side, clients } of sides) {
    clients.close();
    await side.close().catch(() => {});
  }
  process.exit(error === null ? 0 : 1);
}
