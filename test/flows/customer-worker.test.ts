/** A customer's Worker with the Workers SDK, in a workerd of its own beside the server's. */

import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const TARGETING = "/projects/p/flags/new-checkout/environments/production";
let server: Server;
let customer: Miniflare;

async function visit(user = "ada"): Promise<{ "new-checkout": boolean; reason: string }> {
  const response = await customer.dispatchFetch(`http://shop.test/?user=${user}`);
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
  customer = new Miniflare(
    convertV4MiniflareOptions({
      modules: [
        {
          type: "ESModule",
          path: join(bundle("examples/worker/index.ts", "examples/worker/wrangler.toml"), "index.js"),
        },
      ],
      modulesRoot: "/",
      compatibilityDate: "2026-10-23",
      bindings: { BUNTING_URL: server.url, BUNTING_SERVER_KEY: serverKey },
    }),
  );
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

test("with Bunting gone, it goes on with what it knows (Q7)", async () => {
  await server.kill();
  for (let times = 0; times < 3; times++)
    expect(await visit()).toMatchObject({ "new-checkout": false, reason: "KILLED" });
  await server.resume();
});
