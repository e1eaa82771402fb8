/**
 * From the first request of an isolate that holds nothing to its first evaluation, in workerd, by the size of the ruleset
 * and by where it comes from: `npm run bench -- cold-start [sizes] [starts]`. Bunting is a bare server that answers at
 * once, so that what is measured is the SDK: fetching, parsing, evaluating. The isolate has answered one request that asks
 * for no flags. Starts go round the ways. Milliseconds, and the runtime's processor time with them; medians.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { bundle } from "../test/support/server.ts";
import bunting from "./peers/bunting.ts";
import { tenThousand } from "./peers/workloads.ts";

const sizes = (process.argv[2] ?? "10,1000,10000").split(",").map(Number);
const starts = Number(process.argv[3] ?? 7);
const SERVER_KEY = "bnt_srv_env_0123456789abcdef";
/** Of `getconf CLK_TCK`, which is 100 wherever this runs. */
const TICK_MS = 10;
const WAYS = ["snapshot", "cache, confirmed", "cache, Bunting away"] as const;
type Way = (typeof WAYS)[number];
type Start = { first: number; second: number; processor: number };

const script = bundle("bench/cold-start-peer.ts", "bench/peers/wrangler.toml");
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

/** What the runtimes that this process started have used of processors so far. */
function processorMs(): number {
  const ticks = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        const text = readFileSync(`/proc/${pid}/stat`, "utf8");
        const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
        return Number(fields[1]) === process.pid && text.includes("(workerd)")
          ? Number(fields[11]) + Number(fields[12])
          : 0;
      } catch {
        return 0;
      }
    });
  return ticks.reduce((sum, value) => sum + value, 0) * TICK_MS;
}

/** One environment, and what isolates keep of it. */
class Environment {
  readonly flags: number;
  readonly persist = mkdtempSync(join(tmpdir(), "bunting-cold-"));
  readonly body: string;
  readonly starts: Record<Way, Start[]> = { snapshot: [], "cache, confirmed": [], "cache, Bunting away": [] };
  #isAway = false;
  readonly #server = createServer((request, response) => {
    if (this.#isAway) request.destroy();
    else if (request.headers["if-none-match"] === '"1"') response.writeHead(304, { ETag: '"1"' }).end();
    else response.writeHead(200, { ETag: '"1"', "Content-Type": "application/json" }).end(this.body);
  });

  constructor(flags: number) {
    this.flags = flags;
    this.body = JSON.stringify(bunting.document(tenThousand.slice(0, flags)));
  }

  async begin(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const isolate = await this.#isolate("cache, confirmed");
    await (await isolate.dispatchFetch(`http://shop.test/?flag=flag-0`)).text();
    for (let kept = false; !kept; await pause(100)) {
      const cache = await (await isolate.getCaches()).open("bunting");
      kept = (await (await cache.match("https://bunting.invalid/env"))?.text()) === this.body;
    }
    await isolate.dispose();
  }

  async start(way: Way): Promise<void> {
    this.#isAway = way === "cache, Bunting away";
    const isolate = await this.#isolate(way);
    const url = await isolate.ready;
    const ask = async (flag: string) => {
      const began = performance.now();
      const text = await (await fetch(new URL(flag, url))).text();
      return { text, ms: performance.now() - began };
    };
    await ask("/");
    const before = processorMs();
    const flag = `/?flag=flag-${this.flags - 1}`;
    const { text, ms } = await ask(flag);
    const processor = processorMs() - before;
    const answer = JSON.parse(text) as { reason: string; source: string };
    // A confirmation that takes longer than 50 ms is not waited for.
    const expected =
      way === "cache, Bunting away" ? ["cache"] : way === "snapshot" ? ["snapshot"] : ["snapshot", "cache"];
    if (answer.reason === "ERROR" || !expected.includes(answer.source)) throw new Error(`${way} answered ${text}`);
    await ask(flag);
    const second = (await ask(flag)).ms;
    this.starts[way].push({ first: ms, second, processor });
    await isolate.dispose();
  }

  end(): void {
    this.#server.closeAllConnections();
    this.#server.close();
    rmSync(this.persist, { recursive: true, force: true });
  }

  async #isolate(way: Way): Promise<Miniflare> {
    const { port } = this.#server.address() as AddressInfo;
    const isolate = new Miniflare({
      ...convertV4MiniflareOptions({
        name: "shop",
        modules: [{ type: "ESModule", path: join(script, "cold-start-peer.js") }],
        modulesRoot: "/",
        compatibilityDate: "2026-08-04",
        bindings: {
          BUNTING_URL: `http://127.0.0.1:${port}`,
          BUNTING_SERVER_KEY: SERVER_KEY,
          CACHED: way === "snapshot" ? "no" : "yes",
        },
      }),
      resourcePersistencePath: this.persist,
    });
    await isolate.ready;
    return isolate;
  }
}

console.log(`Medians of ${starts} starts, Node ${process.versions.node}\n`);
console.log("| flags | JSON, MB | ruleset from | first evaluation, ms | processor, ms | a later request, ms |");
console.log("|---|---|---|---|---|---|");
for (const size of sizes) {
  const environment = new Environment(size);
  await environment.begin();
  for (let round = -1; round < starts; round++) {
    for (const way of WAYS) {
      await environment.start(way);
      // The first has the files of the runtime to read.
      if (round < 0) environment.starts[way].length = 0;
    }
  }
  for (const way of WAYS) {
    const of = (name: keyof Start) => median(environment.starts[way].map((start) => start[name])).toFixed(1);
    const megabytes = (environment.body.length / 1e6).toFixed(2);
    console.log(`| ${size} | ${megabytes} | ${way} | ${of("first")} | ${of("processor")} | ${of("second")} |`);
  }
  environment.end();
}
rmSync(script, { recursive: true });
process.exit(0);
