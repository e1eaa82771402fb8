/** Who is refused a socket, who loses it, and that the others notice nothing. */
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
import { away, hubOf, livingEnvironment, RelaySocket, relayOf } from "../support/relay-socket.ts";
import worker from "../support/worker.ts";

const withLimits = (node: ReturnType<typeof relayOf> | ReturnType<typeof hubOf>, limits: Partial<Env>) =>
  runInDurableObject(node as DurableObjectStub, (object) => void Reflect.set(object, "env", { ...env, ...limits }));

const open = (environmentId: string, keyHash: string, n = 0) =>
  RelaySocket.open(environmentId, undefined, { keyHash }, n);

describe("a full relay", () => {
  test("refuses, the Worker tries one other, and then tells clients to poll (X4, Q9)", async () => {
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

test("a burst beyond what the relays hold that anybody knows of is let in: one that is full tells how many there are by now (X4)", async () => {
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

test("those above hear of all who came at once, also of those who came while they were told of the first", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const { revision } = await publish({
    keys: { one: { id: "key_1", kind: "server", origins: [], expiresAt: null } },
  });
  await withLimits(relayOf(environmentId), { RELAY_CAP: "100" });
  const come = () => RelaySocket.open(environmentId, undefined, { keyHash: "one", keyGoodAt: revision });
  await come();
  const { attach } = Hub.prototype;
  const far = vi.spyOn(Hub.prototype, "attach").mockImplementation(async function (this: Hub, report) {
    await scheduler.wait(200);
    return attach.call(this, report);
  });
  onTestFinished(() => far.mockRestore());
  await Promise.all(Array.from({ length: 74 }, come));
  const heard = () =>
    runInDurableObject(hubOf(environmentId), (_, { storage: { sql } }) =>
      sql.exec<{ connected: number }>("SELECT connected FROM children").one(),
    );
  await vi.waitFor(async () => expect((await heard()).connected).toBeGreaterThan(75 - 10));
});

test("a relay that does not answer is waited for by the first client, not by each", async () => {
  const { serverKey } = await newPlace();
  await (await fetchPath("/sdk/v1/ruleset", { headers: withKey(serverKey) })).arrayBuffer();
  const asked = new Map<string, number>();
  const dead = (name: string) => () => {
    asked.set(name, (asked.get(name) ?? 0) + 1);
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
  asked.delete("");
  expect([...asked.values()]).toEqual([1, 1]);
});

test("the clients of a relay that is lost land at another of their region", async () => {
  const { environmentId, serverKey } = await newPlace();
  await (await fetchPath("/sdk/v1/ruleset", { headers: withKey(serverKey) })).arrayBuffer();
  const back = await away(relayOf(environmentId, 0));
  const stream = await fetchPath("/sdk/v1/stream", { headers: withKey(serverKey) });
  expect(stream.status).toBe(200);
  expect(await relayOf(environmentId, 1).receipt(9, 100)).toMatchObject({ connected: 1 });
  await stream.body?.cancel();
  await back();
});

test("a relay that was just woken takes no more than it may hold, however many come before it knows where it stands", async () => {
  const { environmentId } = await livingEnvironment();
  await withLimits(relayOf(environmentId), { RELAY_CAP: "2", CLIENTS_PER_KEY: "3" });
  const opened = await Promise.allSettled(Array.from({ length: 6 }, () => open(environmentId, "one")));
  expect(opened.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
  expect(await relayOf(environmentId).receipt(9, 100)).toMatchObject({ connected: 2 });
});

test("a relay does not leave while somebody is on the way in", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const first = await open(environmentId, "hash");
  first.socket.close(1000, "bye");
  await vi.waitFor(async () => expect(await relayOf(environmentId).receipt(9, 100)).toMatchObject({ connected: 0 }));
  // It trusts nobody after so long, and has to ask the hub before it lets anybody in.
  await evictDurableObject(relayOf(environmentId));
  const [client] = await Promise.all([open(environmentId, "hash"), runDurableObjectAlarm(relayOf(environmentId))]);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(client.told).toEqual(["hello 1", "patch 2"]));
});

describe("limits of a key and of an environment", () => {
  test("are 429, by what this relay has and by what the hub has summed up of all", async () => {
    const { environmentId } = await livingEnvironment();
    const relay = relayOf(environmentId);
    await withLimits(relay, { CLIENTS_PER_KEY: "2", CLIENTS_PER_ENVIRONMENT: "4" });
    await open(environmentId, "one");
    await open(environmentId, "one");
    await expect(open(environmentId, "one")).rejects.toThrow("429");
    await open(environmentId, "two");
    await open(environmentId, "three");
    await expect(open(environmentId, "four")).rejects.toThrow("429");

    // The other relay has nobody, and hears from above how many there are before it lets anybody in.
    await withLimits(relayOf(environmentId, 1), { CLIENTS_PER_KEY: "2", CLIENTS_PER_ENVIRONMENT: "100" });
    await runDurableObjectAlarm(relay);
    await expect(open(environmentId, "one", 1)).rejects.toThrow("429");
    await expect(open(environmentId, "five", 1)).resolves.toBeDefined();
  });

  test("are told over HTTP as 429 with Retry-After", async () => {
    const { environmentId, serverKey } = await newPlace();
    await withLimits(relayOf(environmentId), { CLIENTS_PER_KEY: "0" });
    const response = await fetchPath("/sdk/v1/stream", { headers: withKey(serverKey) });
    expect(response.status).toBe(429);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThanOrEqual(30);
  });

  test("where relays together let in too many, the newest are told goodbye and go", async () => {
    const { environmentId } = await livingEnvironment();
    const sockets: RelaySocket[] = [];
    for (let index = 0; index < 6; index++) sockets.push(await open(environmentId, "one"));
    await withLimits(relayOf(environmentId), { CLIENTS_PER_KEY: "4" });
    await runDurableObjectAlarm(relayOf(environmentId));
    await vi.waitFor(() => expect(sockets.filter(({ closed }) => closed?.code === 4429)).toHaveLength(2));
    const cut = sockets.filter(({ closed }) => closed !== null);
    for (const { messages } of cut) {
      expect(messages.at(-1)).toMatchObject({ type: "goodbye", withinMs: 1_000, reason: "too-many-connections" });
    }
    await runDurableObjectAlarm(relayOf(environmentId));
    expect(sockets.filter(({ closed }) => closed === null)).toHaveLength(4);
  });
});

test("a flood of acknowledgements that tell nothing new costs its client the socket, and the others nothing", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const [flooding, other] = [await open(environmentId, "hash"), await open(environmentId, "hash")];
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(other.told.at(-1)).toBe("patch 2"));
  for (let times = 0; times < 30; times++) {
    if (flooding.closed === null) flooding.socket.send('{"applied":2}');
    if (times < 10) other.socket.send('{"applied":2}');
  }
  await vi.waitFor(() => expect(flooding.closed).toEqual({ code: 4429, reason: "too many messages" }));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(other.told.at(-1)).toBe("patch 3"));
  expect(other.closed).toBeNull();
});

test("a client that acknowledges every change of many is no flood", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const client = await open(environmentId, "hash");
  for (let version = 1; version <= 40; version++) {
    const { revision } = await publish({ flags: { a: flag("a", { version }) } });
    client.socket.send(JSON.stringify({ applied: revision }));
  }
  await vi.waitFor(async () => expect(await hubOf(environmentId).receipt(41)).toMatchObject({ applied: 1 }));
  expect(client.closed).toBeNull();
});

test("who has acknowledged nothing of a megabyte is cut, SSE's bridges and those who read are not", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const [slow, reading] = [await open(environmentId, "hash"), await open(environmentId, "hash")];
  const bridge = await RelaySocket.open(environmentId, undefined, { transport: "sse" });
  const values = Array.from({ length: 4_000 }, (_, index) => `user-${index}`);
  for (let version = 1; version <= 25; version++) {
    const { revision } = await publish({
      flags: { a: flag("a", { version, targets: [{ variation: "on", values }] }) },
    });
    await vi.waitFor(() => expect(reading.told.at(-1)).toBe(`patch ${revision}`));
    reading.socket.send(JSON.stringify({ applied: revision }));
  }
  await vi.waitFor(() => expect(slow.closed).toEqual({ code: 4413, reason: "slow" }), 10_000);
  expect([reading.closed, bridge.closed]).toEqual([null, null]);
});

test("a storm of more than a megabyte that is sent at once cuts nobody who reads", async () => {
  const { environmentId, publish } = await livingEnvironment();
  // As many as make the relay pause between messages.
  const clients = await Promise.all(Array.from({ length: 40 }, () => open(environmentId, "hash")));
  for (const client of clients)
    client.socket.addEventListener("message", ({ data }) => {
      const { type, revision } = JSON.parse(data as string) as { type: string; revision: number };
      if (type === "patch") client.socket.send(JSON.stringify({ applied: revision }));
    });
  const values = Array.from({ length: 1_200 }, (_, index) => `user-${index}`);
  await publish({ flags: { a: flag("a") } });
  const relay = relayOf(environmentId);
  const standing = { relays: {}, connected: 0, keys: {} };
  const kills = Array.from({ length: 120 }, (_, index) => {
    const [revision, key] = [index + 3, `flag-${index}`];
    const flags = { [key]: flag(key, { targets: [{ variation: "on", values }] }) };
    return encodeDelivery({ revision, previous: revision - 1, publishedAt: 0, flags, segments: {} }, {}, 0, true)
      .delivery;
  });
  await vi.waitFor(() => expect(clients.every(({ told }) => told.includes("patch 2"))).toBe(true));
  await Promise.all(kills.map((kill) => relay.deliver(kill, standing)));
  await vi.waitFor(() => expect(clients.map(({ reached }) => reached)).toEqual(clients.map(() => 122)));
  await vi.waitFor(async () => expect((await relay.receipt(122, 500)).applied).toBe(clients.length));
  expect(clients.filter(({ closed }) => closed !== null).length).toBe(0);
});

test("a client that takes long to fetch what could not be told is not taken for one that does not read", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const ofHub = (sql: string) =>
    runInDurableObject(hubOf(environmentId), (_, { storage }) => void storage.sql.exec(sql));
  await publish({ keys: { hash: { id: "key_1", kind: "server", origins: [], expiresAt: null } } });
  const client = await open(environmentId, "hash");
  // Lost on the way and forgotten: the relay leaps.
  await ofHub("DELETE FROM children");
  const { revision } = await publish({ flags: { a: flag("a") } });
  await ofHub("DELETE FROM deltas");
  await runDurableObjectAlarm(relayOf(environmentId));
  await vi.waitFor(() => expect(client.told.at(-1)).toBe(`resync ${revision}`));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(client.told.at(-1)).toBe(`patch ${revision + 1}`));
  await scheduler.wait(3_200);
  await runDurableObjectAlarm(relayOf(environmentId));
  await publish({ flags: { c: flag("c") } });
  await vi.waitFor(() => expect(client.told.at(-1)).toBe(`patch ${revision + 2}`));
  expect(client.closed).toBeNull();
});

test("a relay asleep keeps its sockets and what it knows of them", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const client = await open(environmentId, "hash");
  const { revision } = await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(client.told.at(-1)).toBe("patch 2"));
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
  await vi.waitFor(() => expect(client.told.at(-1)).toBe("patch 3"));
});
