/**
 * The same loops in workerd and in Node, from one bundle, measured from outside: `npm run bench -- evaluate-workerd`.
 * Rounds alternate; a request of no iterations is taken off. Then the weight of the core in a minified bundle.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { workloads } from "./peers/workloads.ts";

const ROUNDS = 11;
const ROUND_MILLISECONDS = 150;
const WRANGLER = "node_modules/wrangler/bin/wrangler.js";
const CONFIG = "bench/peers/wrangler.toml";

type Ask = (workload: string, times: number) => Promise<void>;

/** As a deploy bundles it. */
function bundle(entry: string, ...flags: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), "bunting-bench-"));
  const args = [WRANGLER, "deploy", `bench/peers/${entry}.ts`, "--config", CONFIG, "--dry-run", "--outdir", folder];
  const { status, stderr } = spawnSync(process.execPath, [...args, ...flags], {
    env: { ...process.env, CI: "1", WRANGLER_SEND_METRICS: "false" },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`Bundling ${entry} failed:\n${stderr}`);
  return join(folder, `${entry}.js`);
}

const address = (workload: string, times: number): string =>
  `http://127.0.0.1/?${new URLSearchParams({ workload, times: String(times) })}`;

async function inWorkerd(path: string): Promise<{ ask: Ask; end(): Promise<void> }> {
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      name: "bench",
      modules: [{ type: "ESModule", path }],
      modulesRoot: join(path, ".."),
      rootPath: join(path, ".."),
      compatibilityDate: "2026-08-04",
    }),
  );
  const url = await miniflare.ready;
  return {
    async ask(workload, times) {
      const response = await fetch(new URL(address(workload, times).slice("http://127.0.0.1".length), url));
      if ((await response.text()) !== "done") throw new Error(`workerd answered ${response.status}`);
    },
    end: () => miniflare.dispose(),
  };
}

async function inNode(path: string): Promise<Ask> {
  const worker: { fetch(request: Request): Promise<Response> } = (await import(pathToFileURL(path).href)).default;
  return async (workload, times) => {
    await (await worker.fetch(new Request(address(workload, times)))).text();
  };
}

async function took(ask: Ask, workload: string, times: number): Promise<number> {
  const start = performance.now();
  await ask(workload, times);
  return performance.now() - start;
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

const path = bundle("worker");
const workerd = await inWorkerd(path);
const asks = [workerd.ask, await inNode(path)];
console.log(`Nanoseconds, medians of ${ROUNDS} alternating rounds, Node ${process.versions.node}`);
console.log("\n| | workerd | Node | workerd ÷ Node |\n|---|---|---|---|");
for (const { name } of workloads) {
  let times = 64;
  for (const ask of asks) await took(ask, name, times);
  while ((await took(asks[1] as Ask, name, times)) < ROUND_MILLISECONDS) times *= 2;
  const rounds = asks.map(() => [] as number[]);
  for (let round = -2; round < ROUNDS; round++) {
    for (const [index, ask] of asks.entries()) {
      const empty = await took(ask, name, 0);
      const ns = ((await took(ask, name, times)) - empty) * (1e6 / times);
      if (round >= 0) rounds[index]?.push(ns);
    }
  }
  const [there = Number.NaN, here = Number.NaN] = rounds.map(median);
  console.log(`| ${name} | ${there.toFixed(0)} | ${here.toFixed(0)} | ${(there / here).toFixed(2)} |`);
}
await workerd.end();
rmSync(join(path, ".."), { recursive: true });

const minified = bundle("sdk", "--minify");
const code = readFileSync(minified);
console.log(
  `\nThe core without validate: ${code.length} bytes minified, ${gzipSync(code, { level: 9 }).length} gzipped`,
);
rmSync(join(minified, ".."), { recursive: true });
process.exit(0);
