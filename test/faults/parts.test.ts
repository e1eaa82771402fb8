/** Each part lost, slow, and back: what goes on meanwhile, what does not, and that nothing committed is missing afterwards (Q7, Q8). */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Faults } from "../support/faults.ts";
import { readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const user = { targetingKey: "user-42" };
let server: Server;
let serverKey: string;
let targeting: string;
let batches = 0;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const place = await server.environment();
  serverKey = place.serverKey;
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", place.flags, { key: "flag", name: "flag", type: "boolean", variations });
  targeting = `${place.flags}/flag/environments/production`;
});

afterAll(() => server.dispose());

const data = (path: string, init: RequestInit = {}) =>
  fetch(`${server.url}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${serverKey}`, "content-type": "application/json" },
  });

async function statusOf(answer: Promise<Response>): Promise<number> {
  const response = await answer;
  await response.arrayBuffer();
  // Whatever cannot be done now says when to come back.
  if (response.status === 503) expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  return response.status;
}

const event = { kind: "metric", at: 0, metric: "paid", unit: "user-42", value: 1 };
const ways = {
  ruleset: () => statusOf(data("/sdk/v1/ruleset")),
  remote: () =>
    statusOf(data("/ofrep/v1/evaluate/flags/flag", { method: "POST", body: JSON.stringify({ context: user }) })),
  events: () => {
    const batchId = `00000000-0000-4000-8000-${String(++batches).padStart(12, "0")}`;
    const events = [{ ...event, at: Date.now() }];
    return statusOf(data("/sdk/v1/events", { method: "POST", body: JSON.stringify({ batchId, events }) }));
  },
  edit: () => statusOf(server.api("PATCH", targeting, { on: true, trackExposures: batches++ % 2 === 0 })),
  kill: () => statusOf(server.api("POST", `${targeting}/kill?wait=0`, { reason: "a part is away" })),
};

const all = { ruleset: 200, remote: 200, events: 202, edit: 200, kill: 200 };
const parts = {
  D1: { faulty: ["DB"], ...all, edit: 503 },
  KV: { faulty: ["KV"], ...all },
  hub: { faulty: ["HUB"], ...all, kill: 503 },
  relay: { faulty: ["RELAY"], ...all },
  queue: { faulty: ["EVENTS_QUEUE"], ...all, events: 503 },
  R2: { faulty: ["EVENTS_BUCKET", "SEGMENTS_BUCKET", "REVISIONS_BUCKET"], ...all },
  // Nobody can tell whose the token is.
  "D1, KV and R2": { faulty: ["DB", "KV", "REVISIONS_BUCKET"], ...all, edit: 503, kill: 503 },
} as const;

for (const [part, { faulty, ...expected }] of Object.entries(parts)) {
  describe(part, () => {
    for (const [state, fault] of [
      ["lost", { mode: "fail" }],
      // Longer than any deadline.
      ["slow", { mode: "delay", ms: 20_000 }],
    ] as const) {
      test(`${state}: what needs it says so, the rest goes on, and once it is back everything has arrived`, async () => {
        const sdk = await readyClient({ url: server.url, serverKey });
        await server.ask("PATCH", targeting, { on: true });
        await vi.waitFor(() => expect(sdk.boolean("flag", false, user)).toBe(true), 10_000);
        await server.setFaults(Object.fromEntries(faulty.map((name) => [name, fault])) as Faults);

        const statuses = await Promise.all(Object.entries(ways).map(async ([way, ask]) => [way, await ask()] as const));
        expect(Object.fromEntries(statuses)).toEqual(expected);
        expect(sdk.details("flag", false, user).errorCode).toBeUndefined();

        await server.setFaults({});
        await server.sweep();
        // A breaker may still keep a moment's distance.
        await vi.waitFor(async () => expect(await ways.kill()).toBe(200), 20_000);
        await vi.waitFor(() => expect(sdk.details("flag", true, user).reason).toBe("KILLED"), 20_000);
        await server.ask("POST", `${targeting}/restore`, {});
        const edited = await server.ask<{ revision: number; version: number }>("PATCH", targeting, { on: false });
        await vi.waitFor(() => expect(sdk.details("flag", true, user).reason).toBe("OFF"), 20_000);
        const served = await data(`/sdk/v1/ruleset?revision=${edited.revision}`);
        const { flags } = (await served.json()) as { flags: { flag: { version: number; killed: boolean } } };
        expect(flags.flag).toMatchObject({ version: edited.version, killed: false });
      });
    }
  });
}
