/** What the README shows, on a copy of what is committed: `npm start`, `npm run watch`, curl. */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Development } from "../../scripts/seed.ts";
import { freePort } from "../support/server.ts";
import { Watched } from "../support/watcher.ts";

const checkout = mkdtempSync(join(tmpdir(), "bunting-checkout-"));
let port: number;
let server: Watched;
let watcher: Watched;
let development: Development;

/** Where the Workers of one machine find each other: not those of other checkouts. */
const WRANGLER_REGISTRY_PATH = join(checkout, "registry");
const start = (...args: string[]) =>
  new Watched(["scripts/start.ts", ...args], { cwd: checkout, env: { PORT: String(port), WRANGLER_REGISTRY_PATH } });

async function change(path: string, method: string, body: unknown): Promise<Record<string, unknown>> {
  const url = `${development.url}/api/v1/projects/demo/flags/new-checkout/environments/production${path}`;
  const headers = { authorization: `Bearer ${development.apiToken}`, "content-type": "application/json" };
  const response = await fetch(url, { method, headers, body: JSON.stringify(body) });
  expect(response.status).toBe(200);
  return (await response.json()) as Record<string, unknown>;
}

beforeAll(async () => {
  const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { encoding: "utf8" });
  for (const file of files.split("\n").filter(Boolean)) cpSync(file, join(checkout, file));
  symlinkSync(resolve("node_modules"), join(checkout, "node_modules"), "dir");
  port = await freePort();
  server = start();
  await server.line(/Bunting serves on/);
  development = JSON.parse(readFileSync(join(checkout, ".bunting/dev.json"), "utf8"));
});

afterAll(async () => {
  await watcher?.end();
  await server?.end();
  rmSync(checkout, { recursive: true, force: true });
});

test("npm start serves a demo with five flags, a segment and two policies, and writes where things are", async () => {
  expect(development).toMatchObject({ url: `http://localhost:${port}`, project: "demo" });
  expect(Object.keys(development.environments)).toEqual(["production", "development"]);
  const { serverKey } = development.environments.production!;
  const response = await fetch(`${development.url}/sdk/v1/ruleset`, {
    headers: { authorization: `Bearer ${serverKey}` },
  });
  const ruleset = (await response.json()) as { flags: object; segments: object };
  expect(Object.keys(ruleset.flags).sort()).toEqual([
    "beta-dashboard",
    "new-checkout",
    "payments-enabled",
    "pricing-page",
    "search-settings",
  ]);
  expect(Object.keys(ruleset.segments)).toEqual(["beta-users"]);
  const policies = await fetch(`${development.url}/api/v1/projects/demo/policies`, {
    headers: { authorization: `Bearer ${development.apiToken}` },
  });
  expect(await policies.json()).toMatchObject({ items: [{ key: "most-users", share: 50_001 }, { key: "payment" }] });
});

test("the watcher prints a change of targeting, and a kill whose answer counts it as a live client (R7)", async () => {
  watcher = new Watched(["scripts/watch.ts", "new-checkout"], { cwd: checkout });
  await watcher.line(/connected by websocket/);
  await watcher.line(/on (4|5)\d\.\d %/);
  await change("", "PATCH", { fallthrough: { split: { weights: { on: "100%", off: "0%" } } } });
  expect(await watcher.line(/on 100\.0 %/)).toMatch(/age \d+ ms/);
  const killed = await change("/kill", "POST", { reason: "trying it" });
  expect(await watcher.line(/KILLED/)).toMatch(/age \d+ ms/);
  expect(killed).toMatchObject({ killed: { reason: "trying it" }, receipt: { connected: 1, applied: 1 } });
  await change("/restore", "POST", {});
  await watcher.line(/RESTORED/);
});

test("a Worker of one's own, started beside it, asks it by service binding (examples/worker)", async () => {
  const { serverKey } = development.environments.production!;
  const key = `BUNTING_SERVER_KEY:${serverKey}`;
  const config = "examples/worker/beside.toml";
  const own = await freePort();
  const worker = new Watched(
    [
      "node_modules/wrangler/bin/wrangler.js",
      "dev",
      "--config",
      config,
      "--port",
      String(own),
      "--inspector-port",
      "0",
      "--var",
      key,
    ],
    { cwd: checkout, env: { CI: "1", WRANGLER_SEND_METRICS: "false", WRANGLER_REGISTRY_PATH } },
  );
  try {
    await worker.line(/Ready on/);
    const visit = async () => (await fetch(`http://localhost:${own}/?user=ada`)).json();
    await expect.poll(visit, { timeout: 20_000, interval: 250 }).toMatchObject({ source: "snapshot", stale: false });
    expect(await visit()).toMatchObject({ user: "ada", "new-checkout": expect.any(Boolean) });
  } finally {
    await worker.end();
  }
});

test("the server stops: the watcher evaluates from memory; it starts again on the same data: the watcher catches up by itself", async () => {
  expect(await server.end()).toBe(0);
  await watcher.line(/disconnected .* from memory: .*true/);
  const from = watcher.output.length;
  server = start();
  await server.line(/Bunting serves on/);
  expect(server.output).not.toMatch(/Applying migrations|Seeding/);
  await watcher.line(/connected by/, { from });
  await change("/kill", "POST", { reason: "after the restart" });
  await watcher.line(/KILLED/, { from });
});

test("a second npm start on a port that is taken says so and how to go on", async () => {
  const second = start();
  await second.line(/Port \d+ is taken.*PORT=/);
  expect(await second.ended()).toBe(1);
});

test("a second npm start in the folder on another port says that one runs, and where", async () => {
  const second = new Watched(["scripts/start.ts", "--reset"], {
    cwd: checkout,
    env: { PORT: String(await freePort()), WRANGLER_REGISTRY_PATH },
  });
  await second.line(/already runs in this folder, on http:\/\/localhost:\d+ \(process \d+\)/);
  expect(await second.ended()).toBe(1);
  expect(existsSync(join(checkout, ".wrangler"))).toBe(true);
});

test("--reset beside a running server is refused, and its data stays", async () => {
  const second = start("--reset");
  await second.line(/Port \d+ is taken/);
  expect(await second.ended()).toBe(1);
  expect(existsSync(join(checkout, ".bunting/dev.json"))).toBe(true);
  expect(existsSync(join(checkout, ".wrangler"))).toBe(true);
});

test.each([
  ["without a number, as before there was one", null, "an earlier"],
  ["of an earlier layout", "1", "an earlier"],
  ["of a later layout", "9999", "a later"],
])("npm start beside data %s says what to do, and leaves the data alone", async (_, layout, writer) => {
  const folder = mkdtempSync(join(tmpdir(), "bunting-layout-"));
  try {
    for (const name of ["scripts", "sdk", "migrations", "package.json"]) symlinkSync(resolve(name), join(folder, name));
    mkdirSync(join(folder, ".wrangler"));
    mkdirSync(join(folder, ".bunting"));
    writeFileSync(join(folder, ".wrangler/migrated"), "0000_initial.sql");
    if (layout !== null) writeFileSync(join(folder, ".bunting/layout"), layout);
    const env = { PORT: String(await freePort()) };
    const stale = new Watched(["scripts/start.ts"], { cwd: folder, env });
    expect(await stale.ended()).toBe(1);
    expect(stale.output.trim()).toBe(
      `This data was written by ${writer} version: \`npm start -- --reset\` begins again.`,
    );
    expect(readFileSync(join(folder, ".wrangler/migrated"), "utf8")).toBe("0000_initial.sql");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("npm watch with a key that is none says what a key looks like, without a stack", async () => {
  const env = { BUNTING_URL: development.url, BUNTING_SERVER_KEY: "bnt_srv_x" };
  const mistaken = new Watched(["scripts/watch.ts", "new-checkout"], { cwd: checkout, env });
  expect(await mistaken.ended()).toBe(1);
  expect(mistaken.output).toMatch(/bnt_srv_<environment>_<secret>/);
  expect(mistaken.output).not.toMatch(/^\s+at /m);
});

test("npm start ends with the npm that started it, which passes no SIGTERM on", async () => {
  expect(await server.end()).toBe(0);
  const script = `require("node:child_process").spawn(process.execPath, ["scripts/start.ts"], { stdio: "inherit" })`;
  const env = { PORT: String(port), npm_lifecycle_event: "start" };
  const npm = new Watched(["-e", script], { cwd: checkout, env });
  await npm.line(/Bunting serves on/);
  npm.process.kill("SIGKILL");
  await expect
    .poll(() => fetch(`${development.url}/healthz`).catch(() => null), { timeout: 10_000, interval: 100 })
    .toBeNull();
});
