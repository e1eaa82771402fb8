/** Big segments from the upload to SDKs in processes of their own, over real sockets, with storage that fails. */
import type { Client } from "@bunting/sdk/node";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { client, readyClient } from "../support/sdk.ts";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
let server: Server;
let serverKey: string;
let segments: string;
let flags: string;

beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
  const made = await server.environment();
  ({ serverKey, flags } = made);
  segments = `${made.path}/segments`;
});

afterEach(() => server.setFaults({}));
afterAll(() => server.dispose());

const users = (count: number, prefix = "user") => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

type Status = { count: number; generation: number; filterCount: number; pending: number; building: object | null };

/** A segment with a flag of the same key that is on for its members. */
async function newSegment(key: string): Promise<string> {
  await server.ask("POST", segments, { key });
  const variations = [
    { key: "on", value: true },
    { key: "off", value: false },
  ];
  await server.ask("POST", flags, { key, type: "boolean", variations });
  const rules = [{ conditions: [{ segment: [key] }], serve: { variation: "on" } }];
  const targeting = { on: true, rules, fallthrough: { variation: "off" } };
  await server.ask("PATCH", `${flags}/${key}/environments/production`, targeting);
  return `${segments}/${key}/members`;
}

async function send(members: string, list: string[], mode = "add"): Promise<void> {
  const response = await fetch(`${server.url}/api/v1${members}?mode=${mode}`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.token}`, "content-type": "application/x-ndjson" },
    body: list.map((member) => JSON.stringify(member)).join("\n"),
  });
  expect(response.status, await response.text()).toBe(202);
}

const settled = (members: string, fields: Partial<Status>) =>
  vi.waitFor(
    async () => expect(await server.ask<Status>("GET", members)).toMatchObject({ building: null, ...fields }),
    { timeout: 30_000, interval: 50 },
  );

/** An SDK that has that member: what it starts from may be a second old. */
async function clientWith(flag: string, targetingKey: string): Promise<Client> {
  const sdk = await readyClient({ url: server.url, serverKey });
  await vi.waitFor(() => expect(has(sdk, flag, targetingKey)).toBe(true), { timeout: 10_000 });
  return sdk;
}

const has = (sdk: Client, flag: string, targetingKey: string) => sdk.boolean(flag, false, { targetingKey });

async function remotely(flag: string, targetingKey: string): Promise<boolean> {
  const response = await fetch(`${server.url}/ofrep/v1/evaluate/flags/${flag}`, {
    method: "POST",
    headers: { authorization: `Bearer ${serverKey}`, "content-type": "application/json" },
    body: JSON.stringify({ context: { targetingKey } }),
  });
  return ((await response.json()) as { value: boolean }).value;
}

test("an SDK that is ready has the members of a big segment, and one that comes or goes reaches it at once (EV-20)", async () => {
  const members = await newSegment("loyal");
  await send(members, users(20_000));
  await settled(members, { count: 20_000, filterCount: 20_000 });
  const sdk = await clientWith("loyal", "user-0");
  const others = users(5_000, "other");
  expect(users(20_000).filter((user) => !has(sdk, "loyal", user))).toEqual([]);
  // One in a million is to be expected: two of five thousand would be one chance in eighty thousand.
  expect(others.filter((user) => has(sdk, "loyal", user)).length).toBeLessThan(2);

  const change = new Promise<{ segments: string[] }>((resolve) => sdk.on("change", resolve));
  await server.ask("PATCH", members, { add: ["newcomer"], remove: ["user-7"] });
  expect((await change).segments).toEqual(["loyal"]);
  const answers = () => ["newcomer", "user-6", "user-7"].map((user) => has(sdk, "loyal", user));
  expect(answers()).toEqual([true, true, false]);
  // An isolate may be a second behind.
  const remote = () => Promise.all(["newcomer", "user-6", "user-7"].map((user) => remotely("loyal", user)));
  await vi.waitFor(async () => expect(await remote()).toEqual(answers()), { timeout: 5_000, interval: 100 });

  await send(members, ["another"]);
  await settled(members, { count: 20_001, pending: 0 });
  await vi.waitFor(() => expect(has(sdk, "loyal", "another")).toBe(true), { timeout: 10_000 });
  expect(answers()).toEqual([true, true, false]);
});

test("while R2 fails, the old filter and what changed since go on answering; then the new one follows by itself", async () => {
  const members = await newSegment("steady");
  await send(members, users(100));
  await settled(members, { filterCount: 100 });
  const sdk = await clientWith("steady", "user-0");
  await server.setFaults({ SEGMENTS_BUCKET: { mode: "fail" } });
  await send(members, users(100, "late"));
  await server.ask("PATCH", members, { add: [], remove: ["user-1"] });
  await vi.waitFor(async () => expect((await server.ask<Status>("GET", members)).building).not.toBeNull());
  const answers = () => ["user-0", "user-1", "late-0"].map((user) => has(sdk, "steady", user));
  await vi.waitFor(() => expect(answers()).toEqual([true, false, false]));
  await server.setFaults({});
  await settled(members, { count: 199 });
  await vi.waitFor(() => expect(answers()).toEqual([true, false, true]), { timeout: 10_000 });
});

test("an SDK whose filter cannot be fetched yet evaluates by lists, and becomes ready when it can be", async () => {
  const members = await newSegment("cold");
  await send(members, users(100));
  await settled(members, { filterCount: 100 });
  await server.ask("PATCH", members, { add: ["listed"] });
  await clientWith("cold", "user-0");
  await server.setFaults({ SEGMENTS_BUCKET: { mode: "fail" } });
  const sdk = client({ url: server.url, serverKey });
  expect(await sdk.ready({ timeoutMs: 1_500 })).toBe(false);
  await vi.waitFor(() => expect(has(sdk, "cold", "listed")).toBe(true));
  expect(has(sdk, "cold", "user-1")).toBe(false);
  await server.setFaults({});
  expect(await sdk.ready({ timeoutMs: 15_000 })).toBe(true);
  expect(has(sdk, "cold", "user-1")).toBe(true);
});

test("a server that is killed in the middle of a build begins it again, and loses no member", async () => {
  const members = await newSegment("survivors");
  await send(members, users(150_000));
  await server.kill();
  await server.resume();
  await settled(members, { count: 150_000, filterCount: 150_000 });
  const sdk = await clientWith("survivors", "user-0");
  expect(["user-0", "user-149999", "user-150000"].map((user) => has(sdk, "survivors", user))).toEqual([
    true,
    true,
    false,
  ]);
});
