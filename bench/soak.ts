/**
 * Clients that stay connected while the flags keep changing: `npm run bench -- soak 600 100`. One change a second through
 * the API; half the clients stream over WebSocket, half by server-sent events; each evaluates and sends its events. Every
 * client's revisions must follow on one another without a gap and end where the server's do, and no process may grow: a
 * line is fitted to the second half of the memory samples. Arguments: seconds (600), clients (100).
 */
import { readdirSync, readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Client, createClient } from "@bunting/sdk/node";
import { bundle, Server } from "../test/support/server.ts";

const seconds = Number(process.argv[2] ?? 600);
const count = Number(process.argv[3] ?? 100);
const SAMPLE_MS = 2_000;
const FLAGS = 50;
/** A quarter of a percent of the memory in a minute would show within a night. */
const GROWTH_A_MINUTE = 0.0025;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

type SoakClient = {
  client: Client;
  stream: string;
  changes: number;
  last: number;
  breaks: string[];
  interruptions: number;
};

function follow(server: Server, serverKey: string, index: number): SoakClient {
  const stream = index % 2 === 0 ? "websocket" : "sse";
  const client = createClient({ serverKey, url: server.url, name: `soak-${index}`, streams: [stream] });
  const soakClient: SoakClient = { client, stream, changes: 0, last: -1, breaks: [], interruptions: 0 };
  client.on("ready", ({ revision }) => {
    soakClient.last = revision;
  });
  client.on("change", ({ revision, previous }) => {
    soakClient.changes += 1;
    if (previous !== soakClient.last || revision <= previous)
      soakClient.breaks.push(`${soakClient.last}: ${previous} → ${revision}`);
    soakClient.last = revision;
  });
  client.on("disconnected", () => {
    soakClient.interruptions += 1;
  });
  return soakClient;
}

/** Resident bytes of the runtimes below the server's process, which is workerd. */
function residentBytes(parent: number): number {
  const field = (text: string, name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
  const below = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/status`, "utf8");
      } catch {
        return "";
      }
    })
    .filter((status) => field(status, "PPid") === parent && /^Name:\s+workerd/m.test(status));
  return below.reduce((sum, status) => sum + field(status, "VmRSS") * 1024, 0);
}

type Sample = { at: number; heap: number; resident: number; runtime: number };
type Line = { mean: number; perMinute: number; error: number };

/** Least squares over the samples, with the slope's standard error. */
function line(samples: Sample[], of: (sample: Sample) => number): Line {
  const xs = samples.map(({ at }) => at / 60_000);
  const ys = samples.map(of);
  const meanOf = (numbers: number[]) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const [x, y] = [meanOf(xs), meanOf(ys)];
  const spread = xs.reduce((sum, value) => sum + (value - x) ** 2, 0);
  const slope = xs.reduce((sum, value, index) => sum + (value - x) * (ys[index]! - y), 0) / spread;
  const residual = ys.reduce((sum, value, index) => sum + (value - y - slope * (xs[index]! - x)) ** 2, 0);
  return { mean: y, perMinute: slope, error: Math.sqrt(residual / (xs.length - 2) / spread) };
}

const server = await Server.start("workers/index.ts", bundle("workers/index.ts"));
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => void server.kill().then(() => process.exit(1)));
const { serverKey, flags } = await server.environment();
const variations = [
  { key: "on", value: true },
  { key: "off", value: false },
];
for (let index = 0; index < FLAGS; index++) {
  const key = `flag-${index}`;
  await server.ask("POST", flags, { key, name: key, type: "boolean", variations });
}

const soakClients = Array.from({ length: count }, (_, index) => follow(server, serverKey, index));
for (const { client } of soakClients)
  if (!(await client.ready({ timeoutMs: 60_000 }))) throw new Error("a client got no flags");
while (!soakClients.every(({ client }) => client.status().transport !== "polling")) await pause(100);
for (const soakClient of soakClients)
  soakClient.last = Math.max(soakClient.last, soakClient.client.status().revision ?? 0);
const started = {
  changes: soakClients.map(({ changes }) => changes),
  revision: soakClients[0]!.client.status().revision ?? 0,
};

const evaluating = setInterval(() => {
  for (const [index, { client }] of soakClients.entries())
    for (let flag = 0; flag < 10; flag++) client.boolean(`flag-${flag}`, false, { targetingKey: `user-${index}` });
}, 100);

const samples: Sample[] = [];
const began = performance.now();
const sampling = setInterval(() => {
  collect();
  const { heapUsed, rss } = process.memoryUsage();
  samples.push({ at: performance.now() - began, heap: heapUsed, resident: rss, runtime: residentBytes(server.pid!) });
}, SAMPLE_MS);

let revision = started.revision;
let changes = 0;
for (; changes < seconds; changes++) {
  await pause(Math.max(0, began + changes * 1_000 - performance.now()));
  const path = `${flags}/flag-${changes % FLAGS}/environments/production`;
  const targets = [{ variation: "on", values: [`user-${changes % count}`] }];
  ({ revision } = await server.ask<{ revision: number }>("PATCH", path, { on: true, targets }));
}
const deadline = performance.now() + 30_000;
while (soakClients.some(({ last }) => last !== revision) && performance.now() < deadline) await pause(50);
clearInterval(sampling);
clearInterval(evaluating);

const missed = soakClients.filter(({ last }) => last !== revision).length;
const breaks = soakClients.flatMap((soakClient) => soakClient.breaks);
const seen = soakClients.map((soakClient, index) => soakClient.changes - started.changes[index]!);
const dropped = soakClients.reduce((sum, { client }) => sum + client.status().events.dropped, 0);
console.log(
  `\n${changes} changes in ${Math.round((performance.now() - began) / 1_000)} s, ${count} clients, Node ${process.versions.node}`,
);
console.log(
  `Revisions ${started.revision} → ${revision}; changes seen by each client: ${Math.min(...seen)} to ${Math.max(...seen)}`,
);
console.log(
  `Clients that ended elsewhere: ${missed}; breaks in a client's chain: ${breaks.length} ${breaks.slice(0, 5).join("; ")}`,
);
console.log(
  `Interruptions: ${soakClients.reduce((sum, one) => sum + one.interruptions, 0)}; events dropped: ${dropped}`,
);

const half = samples.slice(samples.length >> 1);
const megabytes = (bytes: number, digits = 1) => (bytes / 1_048_576).toFixed(digits);
console.log("\n| second half | mean, MB | grows, KB a minute | ± standard error | |\n|---|---|---|---|---|");
let grew = false;
for (const [name, of] of [
  ["clients' heap, collected", (sample: Sample) => sample.heap],
  ["clients' process, resident", (sample: Sample) => sample.resident],
  ["workerd, resident", (sample: Sample) => sample.runtime],
] as const) {
  const { mean, perMinute, error } = line(half, of);
  const grows = perMinute - 2 * error > mean * GROWTH_A_MINUTE;
  grew ||= grows && name.includes("heap");
  console.log(
    `| ${name} | ${megabytes(mean)} | ${(perMinute / 1_024).toFixed(1)} | ${(error / 1_024).toFixed(1)} | ${grows ? "grows" : "does not grow"} |`,
  );
}

const minutes = samples.filter((_, index) => index % (60_000 / SAMPLE_MS) === 0);
const curve = (of: (sample: Sample) => number) => minutes.map((sample) => megabytes(of(sample), 0)).join(", ");
console.log(`\nMB by the minute: heap ${curve(({ heap }) => heap)}; workerd ${curve(({ runtime }) => runtime)}`);

await Promise.all(soakClients.map(({ client }) => client.close()));
await server.dispose();
process.exit(missed > 0 || breaks.length > 0 || grew ? 1 : 0);
