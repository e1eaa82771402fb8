/**
 * From a new isolate of Bunting's own Worker to its first answers, in workerd: `npm run bench -- cold-start-server
 * [starts] [folders of other bundles…]`. A start runs the bundle of `wrangler deploy` over data that is there: a 304 of the
 * data plane, then a first read of management. Processor time of workerd's threads, above that of a bare Worker with the
 * same bindings, which answers 304 at once. Starts go round the Workers; medians.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle, Server } from "../test/support/server.ts";

const [count = "9", ...others] = process.argv.slice(2);
const starts = Number(count);
const ENTRY = "workers/index.ts";
const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

const bare = mkdtempSync(join(tmpdir(), "bunting-bare-"));
const objects = ["Hub", "Relay", "BigSegment", "RateLimiter", "Timer", "WriteLine"];
writeFileSync(
  join(bare, "index.js"),
  `import { DurableObject } from "cloudflare:workers";
  ${objects.map((name) => `export class ${name} extends DurableObject {}`).join("\n")}
  export default { fetch: (request) => new Response(null, { status: 304 }), queue() {}, scheduled() {} };`,
);

type Start = { ready: number; data: number; management: number };
const workers: Record<string, { folder: string; starts: Start[] }> = {
  "a bare Worker": { folder: bare, starts: [] },
  "this one": { folder: bundle(ENTRY), starts: [] },
  ...Object.fromEntries(others.map((folder) => [folder, { folder, starts: [] }])),
};

/** Milliseconds of processor that the workerd below this process has used since it started. */
function processorMs(parent: number): number {
  const children = readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && parentOf(pid) === parent);
  const threads = children.flatMap((pid) =>
    readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}`),
  );
  return (
    threads.reduce((sum, thread) => sum + Number(readFileSync(`${thread}/schedstat`, "utf8").split(" ")[0]), 0) / 1e6
  );
}

function parentOf(pid: string): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0; // It has ended meanwhile.
  }
}

const server = await Server.start(ENTRY, workers["this one"]!.folder);
const { serverKey, flags } = await server.environment();
await server.ask("POST", flags, { key: "new-checkout", type: "boolean" });
const headers: Record<string, string> = { authorization: `Bearer ${serverKey}` };
const first = await fetch(`${server.url}/sdk/v1/ruleset`, { headers });
headers["if-none-match"] = first.headers.get("etag") ?? "";
await server.stop();

async function start({ folder, starts }: { folder: string; starts: Start[] }): Promise<void> {
  await server.resume({}, folder);
  const ready = processorMs(server.pid!);
  const { status } = await fetch(`${server.url}/sdk/v1/ruleset`, { headers });
  if (status !== 304) throw new Error(`${folder} answered ${status}`);
  const data = processorMs(server.pid!);
  await (await server.api("GET", "/me")).text();
  starts.push({ ready, data, management: processorMs(server.pid!) });
  await server.stop();
}

for (let round = -1; round < starts; round++) {
  for (const worker of Object.values(workers)) {
    await start(worker);
    // The first has the files of the runtime to read.
    if (round < 0) worker.starts.length = 0;
  }
}
const floor = workers["a bare Worker"]!.starts;
console.log(`Medians of ${starts} starts, Node ${process.versions.node}; ms of processor above a bare Worker\n`);
console.log("| Worker | until it listens | until the first 304 | until the first answer of management |");
console.log("|---|---|---|---|");
for (const [name, worker] of Object.entries(workers)) {
  const overFloor = (key: keyof Start) =>
    median(worker.starts.map((one) => one[key])) - median(floor.map((one) => one[key]));
  const cells = (["ready", "data", "management"] as const).map((key) => overFloor(key).toFixed(0));
  console.log(`| ${name} | ${cells.join(" | ")} |`);
}
await server.dispose();
rmSync(bare, { recursive: true });
process.exit(0);
