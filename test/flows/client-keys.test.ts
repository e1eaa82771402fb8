/** Client keys through whole processes: EventSource and WebSocket as browsers have them, curl, and clients that are killed. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { EventSource } from "eventsource";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";
import { Watched } from "../support/watcher.ts";

const ENTRY = "workers/index.ts";
let server: Server;
let serverKey: string;
let clientKey: string;
let flags: string;

async function makeFlag(key: string, fields: object = {}): Promise<string> {
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key, type: "boolean", variations, clientSide: true, ...fields });
  const targeting = `${flags}/${key}/environments/production`;
  await server.ask("PATCH", targeting, { on: true });
  return targeting;
}

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const environment = await server.environment();
  ({ serverKey, flags } = environment);
  ({ key: clientKey } = await server.ask<{ key: string }>("POST", `${environment.path}/keys`, { kind: "client" }));
});

afterAll(() => server.dispose());

const context = Buffer.from('{"targetingKey":"user-42"}').toString("base64url");
const streamUrl = () => `${server.url}/client/v1/stream?key=${clientKey}&context=${context}`;

/** How many streams the relay held when a change was delivered. */
async function connected(targeting: string): Promise<number> {
  await server.ask("PATCH", targeting, { on: true });
  const { receipt } = await server.ask<{ receipt: { connected: number } }>("PATCH", `${targeting}?wait=2000`, {
    on: false,
  });
  return receipt.connected;
}

test("EventSource gets values, a patch for a change, and after a restart of the server resumes where it was (R14, R15)", async () => {
  const targeting = await makeFlag("in-browser");
  await makeFlag("other");
  const source = new EventSource(streamUrl());
  onTestFinished(() => source.close());
  const received: { type: string; revision: number; flags: Record<string, { value: boolean }> }[] = [];
  for (const name of ["put", "patch"])
    source.addEventListener(name, ({ data }) => void received.push(JSON.parse(data)));
  await vi.waitFor(() => expect(received).toHaveLength(1));
  expect(received[0]).toMatchObject({ type: "put", flags: { "in-browser": { value: true }, other: { value: true } } });
  await server.ask("PATCH", targeting, { on: false });
  await vi.waitFor(() => expect(received).toHaveLength(2));
  expect(received[1]).toMatchObject({ type: "patch", flags: { "in-browser": { value: false } } });
  expect(Object.keys(received[1]?.flags ?? {})).toEqual(["in-browser"]);

  await server.stop();
  await server.resume();
  await server.ask("PATCH", targeting, { on: true });
  await vi.waitFor(() => expect(received.at(-1)?.flags["in-browser"]).toMatchObject({ value: true }), 20_000);
});

test("a WebSocket tells its context first and again when it changes (R14)", async () => {
  const targeting = await makeFlag("by-socket");
  await server.ask("PATCH", targeting, { targets: [{ variation: "off", values: ["user-42"] }] });
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/client/v1/socket?key=${clientKey}`);
  onTestFinished(() => socket.close());
  const received: { type: string; flags: Record<string, { value: boolean }> }[] = [];
  socket.addEventListener("message", ({ data }) => void received.push(JSON.parse(data)));
  await once(socket as never, "open");
  socket.send('{"context":{"targetingKey":"user-1"}}');
  await vi.waitFor(() => expect(received.at(-1)?.flags["by-socket"]).toMatchObject({ value: true }));
  socket.send('{"context":{"targetingKey":"user-42"}}');
  await vi.waitFor(() => expect(received.at(-1)?.flags["by-socket"]).toMatchObject({ value: false }));
  await server.ask("POST", `${targeting}/kill`, { reason: "test" });
  await vi.waitFor(() => expect(received.at(-1)?.flags["by-socket"]).toMatchObject({ value: false, reason: "KILLED" }));
  expect(received.map(({ type }) => type)).toEqual(["hello", "put", "put", "patch"]);
});

test("clients of every kind that are killed leave no socket at the relay", async () => {
  const targeting = await makeFlag("counting");
  const post = [
    "-d",
    '{"context":{}}',
    "-H",
    "content-type: application/json",
    "-H",
    `authorization: Bearer ${clientKey}`,
  ];
  const bulk = await fetch(`${server.url}/ofrep/v1/evaluate/flags`, {
    method: "POST",
    headers: { "x-api-key": clientKey, "content-type": "application/json" },
    body: '{"context":{"targetingKey":"ada"}}',
  });
  const { eventStreams } = (await bulk.json()) as { eventStreams: { endpoint: { requestUri: string } }[] };
  const commands: [string, string[]][] = [
    ["curl", ["-sN", streamUrl()]],
    ["curl", ["-sN", ...post, `${server.url}/client/v1/stream`]],
    ["curl", ["-sN", `${server.url}${eventStreams[0]?.endpoint.requestUri}`]],
    ["curl", ["-sN", "-H", `authorization: Bearer ${serverKey}`, `${server.url}/sdk/v1/stream`]],
  ];
  await vi.waitFor(async () => expect(await connected(targeting)).toBe(0), 20_000);
  const curls = commands.map(([command, args]) => spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] }));
  onTestFinished(() => curls.forEach((curl) => void curl.kill("SIGKILL")));
  await Promise.all(curls.map((curl) => once(curl.stdout, "data")));
  const script = `const s = new WebSocket(process.argv[1]);
    s.onopen = () => s.send('{"context":{}}');
    s.onmessage = ({ data }) => console.log(data);`;
  const socket = new Watched(["-e", script, `${server.url.replace("http", "ws")}/client/v1/socket?key=${clientKey}`], {
    cwd: ".",
  });
  onTestFinished(() => void socket.process.kill("SIGKILL"));
  await socket.line(/"type":"put"/);
  expect(await connected(targeting)).toBe(5);
  for (const curl of curls) curl.kill("SIGKILL");
  socket.process.kill("SIGKILL");
  await vi.waitFor(async () => expect(await connected(targeting)).toBe(0), 20_000);
});

test("HEAD opens no stream that nobody would close", async () => {
  const targeting = await makeFlag("headless");
  for (const [path, key] of [
    ["/sdk/v1/stream", serverKey],
    [`/client/v1/stream?context=${context}`, clientKey],
  ] as const) {
    const response = await fetch(server.url + path, { method: "HEAD", headers: { authorization: `Bearer ${key}` } });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "GET"]);
  }
  await vi.waitFor(async () => expect(await connected(targeting)).toBe(0), 20_000);
});

test("events of a client key are accepted, also as a closing page sends them (R13)", async () => {
  const batch = (batchId: string) =>
    JSON.stringify({
      batchId,
      events: [{ kind: "metric", at: Date.now(), metric: "checkout", unit: "user-42", value: 1 }],
    });
  const beacon = await fetch(`${server.url}/client/v1/events?key=${clientKey}`, {
    method: "POST",
    headers: { "content-type": "text/plain;charset=UTF-8", origin: "https://shop.example" },
    body: batch(crypto.randomUUID()),
  });
  expect([beacon.status, await beacon.json()]).toEqual([202, { accepted: 1, dropped: 0, clamped: 0 }]);
  const forServers = await fetch(`${server.url}/client/v1/events`, {
    method: "POST",
    headers: { authorization: `Bearer ${serverKey}`, "content-type": "application/json" },
    body: batch(crypto.randomUUID()),
  });
  expect(forServers.status).toBe(403);
});
