/**
 * Runs the Worker in workerd in a process of its own, with data in a folder that survives it. The argument is JSON.
 * The workerd of vitest has no restarts, kill -9, cold isolates or thousands of sockets.
 */
import { globSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";

export type ServeOptions = {
  bundle: string;
  entry: string;
  persist: string;
  port: number;
  vars: Record<string, string>;
};

const { bundle, entry, persist, port, vars } = JSON.parse(process.argv[2] ?? "{}") as ServeOptions;

const modules = globSync(join(bundle, "*.{js,wasm}"))
  .sort((one) => (one.endsWith(entry) ? -1 : 1))
  .map((path) => ({ type: path.endsWith(".wasm") ? ("CompiledWasm" as const) : ("ESModule" as const), path }));

/** A value of wrangler.toml as text, which is JSON as well: tests run with the settings of a deployment. */
function configured(name: string): string {
  const value = new RegExp(`^${name} = (.+)$`, "m").exec(readFileSync("wrangler.toml", "utf8"))?.[1];
  if (value === undefined) throw new Error(`wrangler.toml has no ${name}`);
  return value;
}

const miniflare = new Miniflare({
  ...convertV4MiniflareOptions({
    name: "bunting",
    // Bypasses Miniflare's entry, which would compress WebSockets.
    unsafeDirectSockets: [{ host: "127.0.0.1", port }],
    rootPath: bundle,
    modulesRoot: bundle,
    modules,
    compatibilityDate: JSON.parse(configured("compatibility_date")) as string,
    compatibilityFlags: JSON.parse(configured("compatibility_flags")) as string[],
    bindings: vars,
    d1Databases: { DB: "bunting" },
    kvNamespaces: { KV: "bunting" },
    r2Buckets: {
      EVENTS_BUCKET: "bunting-events",
      SEGMENTS_BUCKET: "bunting-segments",
      REVISIONS_BUCKET: "bunting-revisions",
    },
    queueProducers: { EVENTS_QUEUE: "bunting-events", DEAD_EVENTS_QUEUE: "bunting-events-dead" },
    queueConsumers: {
      "bunting-events": {
        maxBatchSize: 100,
        maxBatchTimeout: 1,
        maxRetries: 5,
        deadLetterQueue: "bunting-events-dead",
      },
      "bunting-events-dead": { maxBatchSize: 100, maxBatchTimeout: 1, maxRetries: 100 },
    },
    ratelimits: { READ_LIMITER: { namespace_id: "1001", simple: { limit: 40, period: 10 } } },
    analyticsEngineDatasets: { ANALYTICS: { dataset: "bunting" } },
    durableObjects: {
      HUB: { className: "Hub", useSQLite: true },
      RELAY: { className: "Relay", useSQLite: true },
      BIG_SEGMENT: { className: "BigSegment", useSQLite: true },
      RATE_LIMITER: { className: "RateLimiter", useSQLite: true },
      TIMER: { className: "Timer", useSQLite: true },
      WRITE_LINE: { className: "WriteLine", useSQLite: true },
    },
    unsafeTriggerHandlers: true,
  }),
  resourcePersistencePath: persist,
});
process.on("SIGTERM", () => void miniflare.dispose().then(() => process.exit(0)));

await miniflare.ready;
const d1 = await miniflare.getD1Database("DB");
const applied = await d1.prepare("SELECT name FROM sqlite_master WHERE name = 'projects'").first();
if (applied === null) {
  for (const file of globSync("migrations/*.sql").sort()) {
    for (const statement of readFileSync(file, "utf8").split("--> statement-breakpoint"))
      await d1.prepare(statement).run();
  }
}
console.log(`READY on ${port}, data in ${relative(process.cwd(), persist)}`);
