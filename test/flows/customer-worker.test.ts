/** A customer's Worker with the Workers SDK, in a workerd of its own beside the server's. */

import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const TARGETING = "/projects/p/flags/new-checkout/environments/production";
let server: Server;
let customer: Miniflare;
let script: string;
let bindings: { BUNTING_URL: string; BUNTING_SERVER_KEY: string };

/** An isolate that has just started. */
const newCustomer = (): Miniflare =>
  new Miniflare(
    convertV4MiniflareOptions({
      modules: [{ type: "ESModule", path: join(script, "index.js") }],
      modulesRoot: "/",
      compatibilityDate: "2026-10-23",
      bindings,
    }),
  );

async function visit(user = "ada", worker = customer): Promise<{ "new-checkout": boolean; reason: string }> {
  const response = await worker.dispatchFetch(`http://shop.test/?user=${user}`);
  return (await response.json()) as { "new-checkout": boolean; reason: string };
}

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const { serverKey, flags } = await server.environment();
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "new-checkout", name: "New checkout", type: "boolean", variations });
  await server.ask("PATCH", TARGETING, { on: true, trackExposures: true });
  script = bundle("examples/worker/index.ts", "examples/worker/wrangler.toml");
  bindings = { BUNTING_URL: server.url, BUNTING_SERVER_KEY: serverKey };
  customer = newCustomer();
  await customer.ready;
});

afterAll(async () => {
  await customer?.dispose();
  await server?.dispose();
});

test("evaluates in process, and sees a change and a kill within its next requests (R14)", async () => {
  expect(await visit()).toMatchObject({ "new-checkout": true, reason: "STATIC" });
  await server.ask("PATCH", TARGETING, { targets: [{ variation: "off", values: ["ada"] }] });
  await vi.waitFor(
    async () => expect(await visit()).toMatchObject({ "new-checkout": false, reason: "TARGET_MATCH" }),
    10_000,
  );
  expect(await visit("grace")).toMatchObject({ "new-checkout": true, reason: "FALLTHROUGH" });
  await server.ask("POST", `${TARGETING}/kill`, { reason: "test" });
  await vi.waitFor(
    async () => expect(await visit()).toMatchObject({ "new-checkout": false, reason: "KILLED" }),
    10_000,
  );
});

test("answers many requests at once from one ruleset, and sends what it counted", async () => {
  const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => visit(`user-${index}`)));
  expect(new Set(answers.map(({ reason }) => reason))).toEqual(new Set(["KILLED"]));
  await vi.waitFor(
    async () => expect(await (await fetch(`${server.url}/__events`)).text()).toContain('"new-checkout"'),
    {
      timeout: 20_000,
      interval: 250,
    },
  );
});

type Members = { count: number; building: object | null; generation: number };
const MEMBERS = "/projects/p/environments/production/segments/loyal/members";

/** Sends a list, and waits until its filter is published. */
async function upload(list: string[], mode: string): Promise<number> {
  const response = await fetch(`${server.url}/api/v1${MEMBERS}?mode=${mode}`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.token}`, "content-type": "application/x-ndjson" },
    body: list.map((member) => JSON.stringify(member)).join("\n"),
  });
  expect(response.status, await response.text()).toBe(202);
  const settled = async () => {
    const status = await server.ask<Members>("GET", MEMBERS);
    expect(status).toMatchObject({ building: null, filterCount: list.length });
    return status.generation;
  };
  return vi.waitFor(settled, { timeout: 20_000, interval: 50 });
}

test("has a big segment from its first requests on, follows its generations, and answers as OFREP and /evaluate do (EV-20)", async () => {
  await server.ask("POST", `${TARGETING}/restore`, {});
  await server.ask("POST", "/projects/p/environments/production/segments", { key: "loyal" });
  const users = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `loyal-${from + index}`);
  const generation = await upload(users(0, 5_000), "add");
  const rules = [{ conditions: [{ segment: ["loyal"] }], serve: { variation: "on" } }];
  await server.ask("PATCH", TARGETING, { targets: [], rules, fallthrough: { variation: "off" } });
  const headers = { authorization: `Bearer ${bindings.BUNTING_SERVER_KEY}` };
  // What a new isolate is given may be a second old.
  await vi.waitFor(async () => {
    const ruleset = await (await fetch(`${server.url}/sdk/v1/ruleset`, { headers })).json();
    expect(ruleset).toMatchObject({ segments: { loyal: { big: { generation } } } });
    expect(ruleset).toMatchObject({ flags: { "new-checkout": { killed: false, rules: [{}] } } });
  }, 10_000);

  await server.setFaults({ SEGMENTS_BUCKET: { mode: "delay", ms: 300 } });
  const fresh = newCustomer();
  try {
    await fresh.ready;
    const first = await Promise.all(users(0, 30).map((user) => visit(user, fresh)));
    expect(new Set(first.map(({ reason }) => reason))).toEqual(new Set(["RULE_MATCH"]));
    expect((await visit("stranger", fresh))["new-checkout"]).toBe(false);
  } finally {
    await server.setFaults({});
    await fresh.dispose();
  }

  const answersOf = async (candidates: string[]) => {
    const answers: boolean[] = [];
    for (const user of candidates) answers.push((await visit(user))["new-checkout"]);
    return answers;
  };
  const candidates = ["loyal-0", "loyal-10", "loyal-4999", "loyal-5500", "added", "stranger"];
  await vi.waitFor(async () => expect(await answersOf(["loyal-0", "loyal-5500"])).toEqual([true, false]), 10_000);
  await upload(users(10, 6_000), "replace");
  await server.ask("PATCH", MEMBERS, { add: ["added"], remove: ["loyal-10"] });
  const wanted = [false, false, true, true, true, false];
  await vi.waitFor(async () => expect(await answersOf(candidates)).toEqual(wanted), 10_000);
  const answerOf = async (path: string, more: object, user: string) => {
    const init = { method: "POST", headers: { "content-type": "application/json", ...more } };
    const body = JSON.stringify({ context: { targetingKey: user } });
    return ((await (await fetch(`${server.url}${path}`, { ...init, body })).json()) as { value: boolean }).value;
  };
  const ofrep = (user: string) => answerOf("/ofrep/v1/evaluate/flags/new-checkout", headers, user);
  const token = { authorization: `Bearer ${server.token}` };
  const managed = (user: string) => answerOf(`/api/v1${TARGETING}/evaluate`, token, user);
  await vi.waitFor(async () => expect(await Promise.all(candidates.map(ofrep))).toEqual(wanted), 10_000);
  expect(await Promise.all(candidates.map(managed))).toEqual(wanted);
  await server.ask("POST", `${TARGETING}/kill`, { reason: "test" });
  await vi.waitFor(async () => expect(await visit()).toMatchObject({ reason: "KILLED" }), 10_000);
});

test("with Bunting gone, it goes on with what it knows (Q7)", async () => {
  await server.kill();
  for (let times = 0; times < 3; times++)
    expect(await visit()).toMatchObject({ "new-checkout": false, reason: "KILLED" });
  await server.resume();
});
