/** A tree of real relays with a fan-out of two: relay 3 is a child of 1, which is one of 0, which is one of the hub. */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, onTestFinished, test, vi } from "vitest";
import { relayName } from "../../durable-objects/fan-out/tree.ts";
import { Hub, Relay } from "../../workers/index.ts";
import { latestPointer } from "../../workers/store/kv-snapshot.ts";
import * as table from "../../workers/store/schema/index.ts";
import { db, flag } from "../support/environment.ts";
import { killRequest } from "../support/kill.ts";
import { away, environmentWithHub, hubOf, RelaySocket, relayOf } from "../support/relay-socket.ts";

const open = (environmentId: string, n: number, since?: number) => RelaySocket.open(environmentId, since, {}, n);

const key = { hash: { id: "key_1", kind: "server" as const, origins: [], expiresAt: null } };
/** With a Worker that is not ahead of the relay. */
const reopen = (environmentId: string, since: number) => RelaySocket.open(environmentId, since, { keyValidAt: 2 });

/** The numbers of a node's child relays. */
const childrenOf = (node: DurableObjectStub<Hub> | DurableObjectStub<Relay>): Promise<number[]> =>
  runInDurableObject(node as DurableObjectStub, (_, { storage }) =>
    storage.sql
      .exec<{ name: string }>("SELECT name FROM children ORDER BY name")
      .toArray()
      .map(({ name }) => Number(name.split(":")[3])),
  );

const nameOf = (node: unknown): string => (Reflect.get(node as Hub, "ctx") as DurableObjectState).id.name ?? "";

/** How often a spy on all hubs or relays was called on those of one environment. */
const callsTo = (spy: { mock: { contexts: unknown[] } }, environmentId: string): number =>
  spy.mock.contexts.filter((node) => nameOf(node).includes(environmentId)).length;

/** Gives an object a small cap. */
const withCap = (node: DurableObjectStub<Hub> | DurableObjectStub<Relay>, cap: number) =>
  runInDurableObject(
    node as DurableObjectStub,
    (object) => void Reflect.set(object, "env", { ...env, RELAY_CAP: String(cap) }),
  );

test("a change reaches every socket through three levels of relays, and each node keeps its own children", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const sockets = await Promise.all([0, 1, 2, 3].map((n) => open(environmentId, n)));
  await publish({ flags: { a: flag("a") } });
  await publish({ flags: { b: flag("b") } });
  for (const socket of sockets) {
    await vi.waitFor(() => expect(socket.reached).toBe(3));
    expect(socket.flags).toEqual({ a: flag("a"), b: flag("b") });
  }
  expect(await childrenOf(hubOf(environmentId))).toEqual([0]);
  expect(await childrenOf(relayOf(environmentId, 0))).toEqual([1, 2]);
  expect(await childrenOf(relayOf(environmentId, 1))).toEqual([3]);
});

test("child relays are sent a delivery before a relay's own sockets, however many these are (Q3)", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const low = await open(environmentId, 1);
  const here = await Promise.all(Array.from({ length: 300 }, () => open(environmentId, 0)));
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(here.every(({ received }) => received.length === 2)).toBe(true));
  let receivedHere = 0;
  for (const { socket } of here) socket.addEventListener("message", () => receivedHere++);
  const before = new Promise<number>((resolve) => low.socket.addEventListener("message", () => resolve(receivedHere)));
  await publish({ flags: { b: flag("b") } });
  expect(await before).toBeLessThan(here.length / 2);
});

test("many changes at once arrive at every level in order, without an attach (Q8)", async () => {
  const { environmentId, publish } = await environmentWithHub();
  await publish({ flags: { a: flag("a") } });
  const sockets = await Promise.all([0, 1, 3].map((n) => open(environmentId, n)));
  const attached = vi.spyOn(Relay.prototype, "attach");
  onTestFinished(() => attached.mockRestore());
  const kills = Array.from({ length: 20 }, (_, index) =>
    hubOf(environmentId).setKilled(killRequest("a", index % 2 ? "restore" : "kill")),
  );
  await Promise.all(kills);
  for (const socket of sockets) await vi.waitFor(() => expect(socket.reached).toBe(22));
  expect(callsTo(attached, environmentId)).toBe(0);
});

test("hibernated relays at every level forward a delivery", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const sockets = await Promise.all([0, 1, 3].map((n) => open(environmentId, n)));
  for (const n of [0, 1, 3]) await evictDurableObject(relayOf(environmentId, n));
  await publish({ flags: { a: flag("a") } });
  for (const socket of sockets) await vi.waitFor(() => expect(socket.received).toEqual(["hello 1", "patch 2"]));
});

test("a gap is filled from the parent, at every level and in order", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const [, , low] = [await open(environmentId, 0), await open(environmentId, 1), await open(environmentId, 3)];
  await runInDurableObject(
    relayOf(environmentId, 0),
    (_, { storage }) => void storage.sql.exec("DELETE FROM children"),
  );
  for (const key of ["a", "b"]) await publish({ flags: { [key]: flag(key) } });
  expect(low.received).toEqual(["hello 1"]);
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  await evictDurableObject(relayOf(environmentId, 1));
  await runDurableObjectAlarm(relayOf(environmentId, 1));
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  await vi.waitFor(() => expect(low.received).toEqual(["hello 1", "patch 2", "patch 3"]));
  await publish({ flags: { c: flag("c") } });
  await vi.waitFor(() => expect(low.received.at(-1)).toBe("patch 4"));
});

test("clients that reconnect together cost upstream one read, whatever each has missed (X4)", async () => {
  const { environmentId, publish } = await environmentWithHub();
  await publish({ keys: key });
  for (const key of ["a", "b", "c"]) await publish({ flags: { [key]: flag(key) } });
  await open(environmentId, 0);
  const reads = vi.spyOn(Hub.prototype, "since");
  const resumed = await Promise.all(Array.from({ length: 30 }, (_, index) => reopen(environmentId, 1 + (index % 4))));
  for (const [index, socket] of resumed.entries()) {
    await vi.waitFor(() => expect(socket.received).toHaveLength(5 - (index % 4)));
  }
  expect(callsTo(reads, environmentId)).toBe(1);
  for (let again = 0; again < 5; again++) await reopen(environmentId, 1);
  expect(callsTo(reads, environmentId)).toBe(1);
  reads.mockRestore();
});

test("a change too large for a message costs the hub one read, however many isolates and relays read the snapshot (Q9)", async () => {
  const { environmentId, publish } = await environmentWithHub();
  for (const n of [0, 1, 2, 3]) await open(environmentId, n);
  const values = Array.from({ length: 4_000 }, (_, index) => `a-user-with-a-long-name-${index}`);
  const reads = ["since", "snapshot"].map((method) => vi.spyOn(Hub.prototype, method as "since"));
  onTestFinished(() => {
    for (const spy of reads) spy.mockRestore();
  });
  const { revision } = await publish({ flags: { a: flag("a", { targets: [{ variation: "on", values }] }) } });
  const isolate = async (n: number) => {
    const since = await vi.waitFor(async () => {
      const answer = await relayOf(environmentId, n).since(1);
      expect(answer?.revision).toBe(revision);
      return answer;
    });
    expect(since?.deliveries?.map(({ message }) => JSON.parse(message).type)).toEqual(["resync"]);
    const whole = await relayOf(environmentId, n).snapshot(revision);
    expect(JSON.parse(whole!.ruleset)).toMatchObject({ revision, flags: { a: { targets: [{ values }] } } });
  };
  await Promise.all(Array.from({ length: 100 }, (_, index) => isolate(index % 4)));
  expect(reads.map((spy) => callsTo(spy, environmentId))).toEqual([0, 1]);
  // The snapshot is read again after the next maintenance and for the next change.
  await runDurableObjectAlarm(relayOf(environmentId, 0));
  const next = await publish({ flags: { b: flag("b", { targets: [{ variation: "on", values }] }) } });
  await vi.waitFor(async () => expect((await relayOf(environmentId, 3).since(1))?.revision).toBe(next.revision));
  expect((await relayOf(environmentId, 3).snapshot(next.revision))?.revision).toBe(next.revision);
});

test("clients whose revision is no longer in any log cost one read too, and fetch the ruleset", async () => {
  const { environmentId, publish } = await environmentWithHub();
  await publish({ keys: key });
  for (const key of ["a", "b"]) await publish({ flags: { [key]: flag(key) } });
  await runInDurableObject(hubOf(environmentId), (_, { storage }) => void storage.sql.exec("DELETE FROM deltas"));
  await open(environmentId, 0);
  const reads = vi.spyOn(Hub.prototype, "since");
  for (let again = 0; again < 5; again++) {
    const lost = await reopen(environmentId, 3 - (again % 3));
    await vi.waitFor(() => expect(lost.received).toEqual(["hello 4", "resync 4"]));
  }
  expect(callsTo(reads, environmentId)).toBe(1);
  reads.mockRestore();
});

test("an unused relay detaches and deletes its storage; the next client starts it anew", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const [one, two] = [await open(environmentId, 0), await open(environmentId, 1)];
  two.socket.close(1000, "bye");
  await vi.waitFor(async () => {
    await runDurableObjectAlarm(relayOf(environmentId, 1));
    expect(await childrenOf(relayOf(environmentId, 0))).toEqual([]);
  });
  await runInDurableObject(relayOf(environmentId, 1), async (_, { storage }) => {
    expect(storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_%' ESCAPE '\\'").toArray()).toEqual(
      [],
    );
    expect(await storage.getAlarm()).toBeNull();
  });
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(one.received).toEqual(["hello 1", "patch 2"]));
  const back = await open(environmentId, 1, 1);
  await vi.waitFor(() => expect(back.received).toEqual(["hello 2", "patch 2"]));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(back.received.at(-1)).toBe("patch 3"));
});

test("a relay stays while it has children, or isolates poll it", async () => {
  const { environmentId } = await environmentWithHub();
  await open(environmentId, 1);
  await runDurableObjectAlarm(relayOf(environmentId, 0));
  expect(await childrenOf(hubOf(environmentId))).toEqual([0]);
  const polled = await environmentWithHub();
  await relayOf(polled.environmentId).since(1);
  await runDurableObjectAlarm(relayOf(polled.environmentId));
  expect(await childrenOf(hubOf(polled.environmentId))).toEqual([0]);
  await evictDurableObject(relayOf(polled.environmentId));
  await runDurableObjectAlarm(relayOf(polled.environmentId));
  expect(await childrenOf(hubOf(polled.environmentId))).toEqual([]);
});

test("a relay whose parent is unreachable attaches to the next ancestor, and returns when the parent is back", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const low = await open(environmentId, 3);
  const back = await away(relayOf(environmentId, 1));
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  expect(await childrenOf(relayOf(environmentId, 0))).toEqual([1, 3]);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(low.received).toEqual(["hello 1", "patch 2"]));
  await back();
  await evictDurableObject(relayOf(environmentId, 3));
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  await vi.waitFor(async () => expect(await childrenOf(relayOf(environmentId, 0))).toEqual([1]));
  expect(await childrenOf(relayOf(environmentId, 1))).toEqual([3]);
});

test("a late detach does not remove a relay from its next ancestor if it lost its parent again right after returning", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const low = await open(environmentId, 3);
  const { attach, detach } = Relay.prototype;
  let lost = true;
  const attached = vi.spyOn(Relay.prototype, "attach").mockImplementation(async function (this: Relay, report) {
    if (lost && nameOf(this) === relayName({ environmentId, region: "enam", n: 1 })) throw new Error("lost");
    return attach.call(this, report);
  });
  const round = () => runDurableObjectAlarm(relayOf(environmentId, 3));
  await round();
  expect(await childrenOf(relayOf(environmentId, 0))).toEqual([1, 3]);
  const detached = vi.spyOn(Relay.prototype, "detach").mockImplementation(async function (this: Relay, name) {
    await scheduler.wait(150);
    return detach.call(this, name);
  });
  lost = false;
  await evictDurableObject(relayOf(environmentId, 3));
  await round();
  await vi.waitFor(() => expect(detached).toHaveBeenCalled(), { interval: 5 });
  lost = true;
  await relayOf(environmentId, 3).refresh();
  await Promise.all(detached.mock.results.map(({ value }) => value));
  for (const spy of [attached, detached]) spy.mockRestore();
  expect(await childrenOf(relayOf(environmentId, 0))).toEqual([1, 3]);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(low.received).toEqual(["hello 1", "patch 2"]));
});

test("a new relay receives the current revision once: no further reads and no refresh follow", async () => {
  const { environmentId, publish } = await environmentWithHub();
  await publish({ flags: { a: flag("a") } });
  const reads = vi.spyOn(Hub.prototype, "since");
  const again = vi.spyOn(Relay.prototype, "refresh");
  await open(environmentId, 1);
  await runDurableObjectAlarm(hubOf(environmentId));
  await runDurableObjectAlarm(relayOf(environmentId, 0));
  expect(callsTo(again, environmentId)).toBe(0);
  // Both times by relay 0, as it attached.
  expect(callsTo(reads, environmentId)).toBe(2);
  for (const spy of [reads, again]) spy.mockRestore();
});

test("the relays of a hub that lost its storage attach again as soon as it has cold-started", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const [high, low] = [await open(environmentId, 0), await open(environmentId, 1)];
  const row = {
    kind: "server" as const,
    name: "n",
    hash: "hash",
    shown: "…",
    origins: [],
    version: 1,
    createdAt: 0,
    updatedAt: 0,
  };
  await db.insert(table.sdkKeys).values({ id: "key_1", environmentId, ...row });
  await publish({ keys: key });
  await vi.waitFor(() => expect(low.received.at(-1)).toBe("patch 2"));
  await runDurableObjectAlarm(hubOf(environmentId));
  expect(await latestPointer(env.KV, environmentId)).toEqual({ revision: 2, relays: { enam: 1 } });
  await runInDurableObject(hubOf(environmentId), (_, { storage }) => storage.deleteAll());
  await evictDurableObject(hubOf(environmentId));
  const revision = (await hubOf(environmentId).snapshot())?.revision ?? 0;
  expect(revision).toBeGreaterThan(1_000_000);
  for (const socket of [high, low]) await vi.waitFor(() => expect(socket.received.at(-1)).toBe(`resync ${revision}`));
  await publish({ flags: { a: flag("a") } });
  for (const socket of [high, low])
    await vi.waitFor(() => expect(socket.received.at(-1)).toBe(`patch ${revision + 1}`));
});

test("a child that missed a delivery is refreshed even though no ancestor responds", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const low = await open(environmentId, 1);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(low.received.at(-1)).toBe("patch 2"));
  const known = () =>
    runInDurableObject(relayOf(environmentId, 0), (_, { storage: { sql } }) =>
      sql.exec<{ revision: number }>("SELECT revision FROM children").one(),
    );
  await vi.waitFor(async () => expect(await known()).toEqual({ revision: 2 }));
  await runInDurableObject(relayOf(environmentId, 0), (_, { storage: { sql } }) => {
    sql.exec("UPDATE children SET revision = 1");
  });
  const back = await away(hubOf(environmentId));
  await runDurableObjectAlarm(relayOf(environmentId, 0)).catch(() => {});
  expect(await known()).toEqual({ revision: 2 });
  await back();
});

test("a region that is 80 % full gets more relays, and relays, isolates and KV receive the count", async () => {
  const { environmentId } = await environmentWithHub();
  await open(environmentId, 0);
  await withCap(hubOf(environmentId), 10);
  await withCap(relayOf(environmentId, 0), 10);
  for (let more = 0; more < 6; more++) await open(environmentId, 0);
  await vi.waitFor(async () => expect((await relayOf(environmentId).since(1))?.relays).toEqual({ enam: 1 }));
  await open(environmentId, 0);
  await vi.waitFor(async () => expect((await relayOf(environmentId).since(1))?.relays).toEqual({ enam: 2 }));
  await runDurableObjectAlarm(hubOf(environmentId));
  expect((await latestPointer(env.KV, environmentId))?.relays).toEqual({ enam: 2 });
});

test("retries to an unresponsive child back off, and start over once it has responded", async () => {
  const { environmentId, publish } = await environmentWithHub();
  const hub = hubOf(environmentId);
  await open(environmentId, 0);
  const isBack = await away(relayOf(environmentId, 0));
  await publish({ flags: { a: flag("a") } });
  /** In how many seconds the hub wakes for nothing but its child. */
  const wakesIn = async () => {
    await runDurableObjectAlarm(hub);
    return runInDurableObject(hub, async (_, { storage }) => {
      return Math.round((((await storage.getAlarm()) as number) - Date.now()) / 1_000);
    });
  };
  const waits: number[] = [];
  while (waits.length < 8 && waits.at(-1) !== 60) waits.push(await wakesIn());
  expect(waits).toEqual([...waits].sort((one, other) => one - other));
  expect(waits.at(-1)).toBe(60);
  await isBack();
  await runDurableObjectAlarm(hub);
  const isAwayAgain = await away(relayOf(environmentId, 0));
  await publish({ flags: { b: flag("b") } });
  await runDurableObjectAlarm(hub);
  expect(await wakesIn()).toBeLessThan(20);
  await isAwayAgain();
});
