/** Which sockets a relay refuses and evicts, and that the others stay. */
import {
  createExecutionContext,
  evictDurableObject,
  runDurableObjectAlarm,
  runInDurableObject,
  waitOnExecutionContext,
} from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { encodeDelivery } from "../../durable-objects/fan-out/delivery.ts";
import type { Env } from "../../workers/env.ts";
import { Hub } from "../../workers/index.ts";
import { fetchPath, newPlace, withKey } from "../support/data-plane.ts";
import { flag } from "../support/environment.ts";
import { away, environmentWithHub, hubOf, RelaySocket, relayOf } from "../support/relay-socket.ts";
import worker from "../support/worker.ts";

const withLimits = (node: ReturnType<typeof relayOf> | ReturnType<typeof hubOf>, limits: Partial<Env>) =>
  runInDurableObject(node as DurableObjectStub, (object) => void Reflect.set(object, "env", { ...env, ...limits }));

const open = (environmentId: string, keyHash: string, n = 0) =>
  RelaySocket.open(environmentId, undefined, { keyHash }, n);

describe("a full relay", () => {
  test("refuses, the Worker tries one other, and then the client has to poll (X4, Q9)", async () => {
    const { environmentId, serverKey } = await newPlace();
    await withLimits(relayOf(environmentId, 0), { RELAY_CAP: "1" });
    await withLimits(relayOf(environmentId, 1), { RELAY_CAP: "1" });
    const stream = () => fetchPath("/sdk/v1/stream", { headers: withKey(serverKey) });
    const [first, second] = [await stream(), await stream()];
    expect([first.status, second.status]).toEqual([200, 200]);
    const counts = await Promise.all([0, 1].map((n) => relayOf(environmentId, n).receipt(9, 100)));
    expect(counts.map(({ byRegion }) => byRegion.enam?.connected)).toEqual([2, 1]);
    const third = await stream();
    expect(third.status).toBe(503);
    expect(Number(third.headers.get("retry-after"))).toBeGreaterThanOrEqual(30);
    expect(await third.json()).toMatchObject({ code: "unavailable" });
    const socket = await fetchPath("/sdk/v1/socket", { headers: withKey(serverKey, { upgrade: "websocket" }) });
    expect(socket.status).toBe(503);
    await first.body?.cancel();
    await vi.waitFor(async () => expect((await stream()).status).toBe(200));
    await second.body?.cancel();
  });
});

test("a burst beyond the known relays' cap is admitted: a full relay's refusal carries the current number of relays (X4)", async () => {
  const { environmentId, serverKey } = await newPlace();
  const capped = { RELAY_CAP: "2" };
  await withLimits(hubOf(environmentId), capped);
  for (let n = 0; n < 6; n++) await withLimits(relayOf(environmentId, n), capped);
  const streams = await Promise.all(
    Array.from({ length: 6 }, () => fetchPath("/sdk/v1/stream", { headers: withKey(serverKey) })),
  );
  expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200));
  for (const { body } of streams) await body?.cancel();
});

test("a report covers all clients that connect at once, also those that connect while it is in progress", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const { revision } = await publish({
    keys: { one: { id: "key_1", kind: "server", origins: [], expiresAt: null } },
  });
  await withLimits(relayOf(environmentId), { RELAY_CAP: "100" });
  const connect = () => RelaySocket.open(environmentId, undefined, { keyHash: "one", keyValidAt: revision });
  await connect();
  const { attach } = Hub.prototype;
  const far = vi.spyOn(Hub.prototype, "attach").mockImplementation(async function (this: Hub, report) {
    await scheduler.wait(200);
    return attach.call(this, report);
  });
  onTestFinished(() => far.mockRestore());
  await Promise.all(Array.from({ length: 74 }, connect));
  const reported = () =>
    runInDurableObject(hubOf(environmentId), (_, { storage: { sql } }) =>
      sql.exec<{ connected: number }>("SELECT connected FROM children").one(),
    );
  await vi.waitFor(async () => expect((await reported()).connected).toBeGreaterThan(75 - 10));
});

test("only the first client waits for a relay that does not respond", async () => {
  const { serverKey } = await newPlace();
  await (await fetchPath("/sdk/v1/ruleset", { headers: withKey(serverKey) })).arrayBuffer();
  const calls = new Map<string, number>();
  const dead = (name: string) => () => {
    calls.set(name, (calls.get(name) ?? 0) + 1);
    return Promise.reject(new Error("away"));
  };
  const RELAY = { idFromName: (name: string) => name, get: (name: string) => ({ fetch: dead(name), since: dead("") }) };
  const stream = async () => {
    const ctx = createExecutionContext();
    const request = new Request("https://bunting.test/sdk/v1/stream", { headers: withKey(serverKey) });
    const { status } = await worker.fetch(request as never, { ...env, RELAY } as never, ctx);
    await waitOnExecutionContext(ctx);
    return status;
  };
  for (let clients = 0; clients < 10; clients++) expect(await stream()).toBe(503);
  calls.delete("");
  expect([...calls.values()]).toEqual([1, 1]);
});

test("clients of an unreachable relay connect to another one of their region", async () => {
  const { environmentId, serverKey } = await newPlace();
  await (await fetchPath("/sdk/v1/ruleset", { headers: withKey(serverKey) })).arrayBuffer();
  const back = await away(relayOf(environmentId, 0));
  const stream = await fetchPath("/sdk/v1/stream", { headers: withKey(serverKey) });
  expect(stream.status).toBe(200);
  expect(await relayOf(environmentId, 1).receipt(9, 100)).toMatchObject({ connected: 1 });
  await stream.body?.cancel();
  await back();
});

test("a cold relay stays within its limits, however many clients connect before it has attached", async () => {
  const { environmentId } = await environmentWithHub();
  await withLimits(relayOf(environmentId), { RELAY_CAP: "2", CLIENTS_PER_KEY: "3" });
  const opened = await Promise.allSettled(Array.from({ length: 6 }, () => open(environmentId, "one")));
  expect(opened.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
  expect(await relayOf(environmentId).receipt(9, 100)).toMatchObject({ connected: 2 });
});

test("a relay does not shut down while a client is connecting", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const first = await open(environmentId, "hash");
  first.socket.close(1000, "bye");
  await vi.waitFor(async () => expect(await relayOf(environmentId).receipt(9, 100)).toMatchObject({ connected: 0 }));
  // After the eviction it has to attach to the hub before it admits a client.
  await evictDurableObject(relayOf(environmentId));
  const [client] = await Promise.all([open(environmentId, "hash"), runDurableObjectAlarm(relayOf(environmentId))]);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
});

describe("limits of a key and of an environment", () => {
  test("are 429, by the relay's own clients and by the hub's sums", async () => {
    const { environmentId } = await environmentWithHub();
    const relay = relayOf(environmentId);
    await withLimits(relay, { CLIENTS_PER_KEY: "2", CLIENTS_PER_ENVIRONMENT: "4" });
    await open(environmentId, "one");
    await open(environmentId, "one");
    await expect(open(environmentId, "one")).rejects.toThrow("429");
    await open(environmentId, "two");
    await open(environmentId, "three");
    await expect(open(environmentId, "four")).rejects.toThrow("429");

    // The other relay has no clients, and receives the sums with its first attach, before it admits any.
    await withLimits(relayOf(environmentId, 1), { CLIENTS_PER_KEY: "2", CLIENTS_PER_ENVIRONMENT: "100" });
    await runDurableObjectAlarm(relay);
    await expect(open(environmentId, "one", 1)).rejects.toThrow("429");
    await expect(open(environmentId, "five", 1)).resolves.toBeDefined();
  });

  test("are 429 with Retry-After over HTTP", async () => {
    const { environmentId, serverKey } = await newPlace();
    await withLimits(relayOf(environmentId), { CLIENTS_PER_KEY: "0" });
    const response = await fetchPath("/sdk/v1/stream", { headers: withKey(serverKey) });
    expect(response.status).toBe(429);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThanOrEqual(30);
  });

  test("where relays together admitted too many, the newest are sent goodbye and closed", async () => {
    const { environmentId } = await environmentWithHub();
    const sockets: RelaySocket[] = [];
    for (let index = 0; index < 6; index++) sockets.push(await open(environmentId, "one"));
    await withLimits(relayOf(environmentId), { CLIENTS_PER_KEY: "4" });
    await runDurableObjectAlarm(relayOf(environmentId));
    await vi.waitFor(() => expect(sockets.filter(({ closed }) => closed?.code === 4429)).toHaveLength(2));
    const evicted = sockets.filter(({ closed }) => closed !== null);
    for (const { messages } of evicted) {
      expect(messages.at(-1)).toMatchObject({ type: "goodbye", withinMs: 1_000, reason: "too-many-connections" });
    }
    await runDurableObjectAlarm(relayOf(environmentId));
    expect(sockets.filter(({ closed }) => closed === null)).toHaveLength(4);
  });
});

test("a flood of repeated acknowledgements closes its client's socket and no other", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const [flooding, other] = [await open(environmentId, "hash"), await open(environmentId, "hash")];
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(other.received.at(-1)).toBe("patch 2"));
  for (let times = 0; times < 30; times++) {
    if (flooding.closed === null) flooding.socket.send('{"applied":2}');
    if (times < 10) other.socket.send('{"applied":2}');
  }
  await vi.waitFor(() => expect(flooding.closed).toEqual({ code: 4429, reason: "too many messages" }));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(other.received.at(-1)).toBe("patch 3"));
  expect(other.closed).toBeNull();
});

test("a client that acknowledges each of many changes is not a flood", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const client = await open(environmentId, "hash");
  for (let version = 1; version <= 40; version++) {
    const { revision } = await publish({ flags: { a: flag("a", { version }) } });
    client.socket.send(JSON.stringify({ applied: revision }));
  }
  await vi.waitFor(async () => expect(await hubOf(environmentId).receipt(41)).toMatchObject({ applied: 1 }));
  expect(client.closed).toBeNull();
});

test("a client that has acknowledged nothing of a megabyte is evicted; bridges of SSE and clients that acknowledge are not", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const [slow, reading] = [await open(environmentId, "hash"), await open(environmentId, "hash")];
  const bridge = await RelaySocket.open(environmentId, undefined, { transport: "sse" });
  const values = Array.from({ length: 4_000 }, (_, index) => `user-${index}`);
  for (let version = 1; version <= 25; version++) {
    const { revision } = await publish({
      flags: { a: flag("a", { version, targets: [{ variation: "on", values }] }) },
    });
    await vi.waitFor(() => expect(reading.received.at(-1)).toBe(`patch ${revision}`));
    reading.socket.send(JSON.stringify({ applied: revision }));
  }
  await vi.waitFor(() => expect(slow.closed).toEqual({ code: 4413, reason: "slow" }), 10_000);
  expect([reading.closed, bridge.closed]).toEqual([null, null]);
});

test("a storm of more than a megabyte at once evicts no client that acknowledges", async () => {
  const { environmentId, publish } = await environmentWithHub();
  // Enough of them for the relay to pause between messages.
  const clients = await Promise.all(Array.from({ length: 40 }, () => open(environmentId, "hash")));
  for (const client of clients)
    client.socket.addEventListener("message", ({ data }) => {
      const { type, revision } = JSON.parse(data as string) as { type: string; revision: number };
      if (type === "patch") client.socket.send(JSON.stringify({ applied: revision }));
    });
  const values = Array.from({ length: 1_200 }, (_, index) => `user-${index}`);
  await publish({ flags: { a: flag("a") } });
  const relay = relayOf(environmentId);
  const occupancy = { relays: {}, connected: 0, keys: {} };
  const kills = Array.from({ length: 120 }, (_, index) => {
    const [revision, key] = [index + 3, `flag-${index}`];
    const flags = { [key]: flag(key, { targets: [{ variation: "on", values }] }) };
    return encodeDelivery({ revision, previous: revision - 1, publishedAt: 0, flags, segments: {} }, {}, 0, true)
      .delivery;
  });
  await vi.waitFor(() => expect(clients.every(({ received }) => received.includes("patch 2"))).toBe(true));
  await Promise.all(kills.map((kill) => relay.deliver(kill, occupancy)));
  await vi.waitFor(() => expect(clients.map(({ reached }) => reached)).toEqual(clients.map(() => 122)));
  await vi.waitFor(async () => expect((await relay.receipt(122, 500)).applied).toBe(clients.length));
  expect(clients.filter(({ closed }) => closed !== null).length).toBe(0);
});

test("a client that takes long to fetch the ruleset after a resync is not evicted as one that does not read", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const ofHub = (sql: string) =>
    runInDurableObject(hubOf(environmentId), (_, { storage }) => void storage.sql.exec(sql));
  await publish({ keys: { hash: { id: "key_1", kind: "server", origins: [], expiresAt: null } } });
  const client = await open(environmentId, "hash");
  // Lost on the way and forgotten: the relay skips to it.
  await ofHub("DELETE FROM children");
  const { revision } = await publish({ flags: { a: flag("a") } });
  await ofHub("DELETE FROM deltas");
  await runDurableObjectAlarm(relayOf(environmentId));
  await vi.waitFor(() => expect(client.received.at(-1)).toBe(`resync ${revision}`));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(client.received.at(-1)).toBe(`patch ${revision + 1}`));
  await scheduler.wait(3_200);
  await runDurableObjectAlarm(relayOf(environmentId));
  await publish({ flags: { c: flag("c") } });
  await vi.waitFor(() => expect(client.received.at(-1)).toBe(`patch ${revision + 2}`));
  expect(client.closed).toBeNull();
});

test("a hibernated relay keeps its sockets and their state", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const client = await open(environmentId, "hash");
  const { revision } = await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 2"));
  client.socket.send(JSON.stringify({ applied: revision }));
  await vi.waitFor(async () => expect(await hubOf(environmentId).receipt(revision)).toMatchObject({ applied: 1 }));
  const before = await hubOf(environmentId).receipt(revision);
  await runDurableObjectAlarm(relayOf(environmentId));
  await evictDurableObject(relayOf(environmentId));
  expect(await hubOf(environmentId).receipt(revision)).toEqual(before);
  await evictDurableObject(relayOf(environmentId));
  const pongs: unknown[] = [];
  client.socket.addEventListener("message", ({ data }) => {
    if (data === "pong") pongs.push(data);
  });
  client.socket.send("ping");
  await vi.waitFor(() => expect(pongs).toEqual(["pong"]));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 3"));
});
