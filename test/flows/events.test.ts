/** From an evaluation in a Node SDK to a line in R2, through the real queue. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
let server: Server;
let serverKey: string;

type Line = { batchId: string; index: number; kind: string } & Record<string, unknown>;

async function landed(): Promise<Line[]> {
  const text = await (await fetch(`${server.url}/__events`)).text();
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const environment = await server.environment();
  serverKey = environment.serverKey;
  await server.ask("POST", environment.flags, {
    key: "pricing",
    name: "Pricing",
    type: "string",
    variations: [
      { key: "a", value: "table" },
      { key: "b", value: "cards" },
    ],
  });
  const split = { weights: { a: 50_000, b: 50_000 } };
  const targeting = { on: true, trackExposures: true, fallthrough: { split } };
  await server.ask("PATCH", `${environment.flags}/pricing/environments/production`, targeting);
});

afterAll(() => server.dispose());

test("evaluations become one summary, an exposure for each unit, and metrics, in R2", async () => {
  const sdk = await readyClient({ url: server.url, serverKey, events: {} });
  for (let times = 0; times < 3; times++) {
    for (const user of ["ada", "grace"]) sdk.string("pricing", "table", { targetingKey: user });
  }
  sdk.track("checkout-completed", { targetingKey: "ada" }, 42);
  await sdk.flush();
  await vi.waitFor(async () => expect((await landed()).length).toBeGreaterThanOrEqual(4), {
    timeout: 20_000,
    interval: 250,
  });

  const lines = await landed();
  const ofKind = (kind: string) => lines.filter((line) => line.kind === kind);
  expect(
    ofKind("exposure")
      .map(({ unit, flag, reason }) => [unit, flag, reason])
      .sort(),
  ).toEqual([
    ["ada", "pricing", "SPLIT"],
    ["grace", "pricing", "SPLIT"],
  ]);
  expect(ofKind("metric")).toMatchObject([{ metric: "checkout-completed", unit: "ada", value: 42 }]);
  const counts = ofKind("summary").flatMap(({ counts }) => counts as { flag: string; count: number }[]);
  expect(counts.every(({ flag }) => flag === "pricing")).toBe(true);
  expect(counts.reduce((sum, { count }) => sum + count, 0)).toBe(6);
});

test("with the queue down, events are kept and sent again under the same batch id: they land once (Q8)", async () => {
  const before = (await landed()).length;
  const sdk = await readyClient({ url: server.url, serverKey, events: {} });
  await server.setFaults({ EVENTS_QUEUE: { mode: "fail" } });
  sdk.track("while-down", { targetingKey: "ada" });
  await sdk.flush();
  expect(sdk.status().events.buffered).toBeGreaterThan(0);
  await server.setFaults({});
  await vi.waitFor(
    async () => {
      await sdk.flush();
      expect(sdk.status().events).toEqual({ buffered: 0, dropped: 0 });
    },
    { timeout: 20_000, interval: 250 },
  );
  await vi.waitFor(async () => expect((await landed()).length).toBeGreaterThan(before), {
    timeout: 20_000,
    interval: 250,
  });
  const lines = (await landed()).filter(({ metric }) => metric === "while-down");
  expect(new Set(lines.map(({ batchId, index }) => `${batchId} ${index}`)).size).toBe(1);
});

test("a batch that came twice can be told apart from two batches by batch id and index (Q8)", async () => {
  const batch = {
    batchId: crypto.randomUUID(),
    events: [{ kind: "metric", at: Date.now(), metric: "sent-twice", unit: "ada", value: 1 }],
  };
  for (let times = 0; times < 2; times++) {
    const response = await fetch(`${server.url}/sdk/v1/events`, {
      method: "POST",
      headers: { authorization: `Bearer ${serverKey}`, "content-type": "application/json" },
      body: JSON.stringify(batch),
    });
    expect(response.status).toBe(202);
  }
  const twice = async () => (await landed()).filter(({ metric }) => metric === "sent-twice");
  await vi.waitFor(async () => expect((await twice()).length).toBe(2), { timeout: 20_000, interval: 250 });
  expect(new Set((await twice()).map(({ batchId, index }) => `${batchId} ${index}`)).size).toBe(1);
});
