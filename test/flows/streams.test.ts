/** Streams as other people's clients hold them: curl, EventSource, and processes that are killed. */
import { spawn } from "node:child_process";
import { EventSource } from "eventsource";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "workers/index.ts";
let server: Server;
let serverKey: string;
let round = 0;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const { serverKey: key, flags } = await server.environment();
  serverKey = key;
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key: "a", name: "A", type: "boolean", variations });
});

afterAll(() => server.dispose());

type Receipt = { revision: number; receipt: { connected: number; delivered: number; gone: number } };

/** A change, and who was there to get it. */
const change = () =>
  server.ask<Receipt>("PATCH", "/projects/p/flags/a/environments/production?wait=2000", {
    targets: [{ variation: "on", values: [`user-${round++}`] }],
  });

function curl(...more: string[]) {
  const child = spawn("curl", [
    "-sN",
    "-H",
    `authorization: Bearer ${serverKey}`,
    ...more,
    `${server.url}/sdk/v1/stream`,
  ]);
  const client = { process: child, output: "" };
  child.stdout.on("data", (chunk) => {
    client.output += chunk;
  });
  return client;
}

test("curl reads a stream, and clients that are killed leave no socket at the relay", async () => {
  const clients = Array.from({ length: 20 }, () => curl());
  for (const client of clients) await vi.waitFor(() => expect(client.output).toContain("event: hello\n"), 10_000);
  const { revision, receipt } = await change();
  expect(receipt).toMatchObject({ connected: 20, delivered: 20 });
  for (const client of clients) {
    await vi.waitFor(() => expect(client.output).toContain(`event: patch\nid: ${revision}\ndata: {`));
  }
  for (const { process } of clients) process.kill("SIGKILL");
  await vi.waitFor(async () => expect((await change()).receipt.connected).toBe(0), { timeout: 20_000, interval: 200 });
});

test("EventSource reads it, comes back by itself after the server was killed, and misses nothing", async () => {
  const seen: number[] = [];
  const asked: (string | null)[] = [];
  const source = new EventSource(`${server.url}/sdk/v1/stream`, {
    fetch: (url, init) => {
      asked.push(new Headers(init.headers).get("last-event-id"));
      return fetch(url, { ...init, headers: { ...init.headers, authorization: `Bearer ${serverKey}` } });
    },
  });
  try {
    await new Promise((resolve) => source.addEventListener("hello", resolve));
    source.addEventListener("patch", ({ lastEventId }) => seen.push(Number(lastEventId)));
    const { revision } = await change();
    await vi.waitFor(() => expect(seen).toEqual([revision]));
    await server.kill();
    await server.resume();
    await change();
    await change();
    await vi.waitFor(() => expect(seen).toEqual([revision, revision + 1, revision + 2]), 20_000);
    expect(asked[0]).toBeNull();
    expect(asked.at(-1)).toBe(String(revision));
  } finally {
    source.close();
  }
});
