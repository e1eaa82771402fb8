/** A tree of real relays: with a fan-out of two, relay 3 is below 1, which is below 0, which is below the hub. */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, onTestFinished, test, vi } from "vitest";
import { relayName } from "../../durable-objects/fan-out/tree.ts";
import { Hub, Relay } from "../../workers/index.ts";
import { latestPointer } from "../../workers/store/kv-snapshot.ts";
import * as table from "../../workers/store/schema/index.ts";
import { db, flag } from "../support/environment.ts";
import { killRequest } from "../support/kill.ts";
import { away, hubOf, livingEnvironment, RelaySocket, relayOf } from "../support/relay-socket.ts";

const open = (environmentId: string, n: number, since?: number) => RelaySocket.open(environmentId, since, {}, n);

const key = { hash: { id: "key_1", kind: "server" as const, origins: [], expiresAt: null } };
/** From a Worker that knows no more than the relay does. */
const reopen = (environmentId: string, since: number) => RelaySocket.open(environmentId, since, { keyValidAt: 2 });

/** The numbers of the relays below a node. */
const below = (node: DurableObjectStub<Hub> | DurableObjectStub<Relay>): Promise<number[]> =>
  runInDurableObject(node as DurableObjectStub, (_, { storage }) =>
    storage.sql
      .exec<{ name: string }>("SELECT name FROM children ORDER BY name")
      .toArray()
      .map(({ name }) => Number(name.split(":")[3])),
  );

const nameOf = (node: unknown): string => (Reflect.get(node as Hub, "ctx") as DurableObjectState).id.name ?? "";

/** How often an environment's hub, or its relays, were asked since `asked` began to watch all of them. */
const timesAsked = (asked: { mock: { contexts: unknown[] } }, environmentId: string): number =>
  asked.mock.contexts.filter((node) => nameOf(node).includes(environmentId)).length;

/** Every object below has few places. */
const withCap = (node: DurableObjectStub<Hub> | DurableObjectStub<Relay>, cap: number) =>
  runInDurableObject(
    node as DurableObjectStub,
    (object) => void Reflect.set(object, "env", { ...env, RELAY_CAP: String(cap) }),
  );

test("a change goes down three levels of relays, to every socket, and each node keeps its own children", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const sockets = await Promise.all([0, 1, 2, 3].map((n) => open(environmentId, n)));
  await publish({ flags: { a: flag("a") } });
  await publish({ flags: { b: flag("b") } });
  for (const socket of sockets) {
    await vi.waitFor(() => expect(socket.reached).toBe(3));
    expect(socket.flags).toEqual({ a: flag("a"), b: flag("b") });
  }
  expect(await below(hubOf(environmentId))).toEqual([0]);
  expect(await below(relayOf(environmentId, 0))).toEqual([1, 2]);
  expect(await below(relayOf(environmentId, 1))).toEqual([3]);
});

test("relays below are told before the sockets here, however many these are (Q3)", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const low = await open(environmentId, 1);
  const here = await Promise.all(Array.from({ length: 300 }, () => open(environmentId, 0)));
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(here.every(({ told }) => told.length === 2)).toBe(true));
  let toldHere = 0;
  for (const { socket } of here) socket.addEventListener("message", () => toldHere++);
  const before = new Promise<number>((resolve) => low.socket.addEventListener("message", () => resolve(toldHere)));
  await publish({ flags: { b: flag("b") } });
  expect(await before).toBeLessThan(here.length / 2);
});

test("many changes at once arrive at every level in order, and nobody has to ask for any of them (Q8)", async () => {
  const { environmentId, publish } = await livingEnvironment();
  await publish({ flags: { a: flag("a") } });
  const sockets = await Promise.all([0, 1, 3].map((n) => open(environmentId, n)));
  const attached = vi.spyOn(Relay.prototype, "attach");
  onTestFinished(() => attached.mockRestore());
  const kills = Array.from({ length: 20 }, (_, index) =>
    hubOf(environmentId).setKilled(killRequest("a", index % 2 ? "restore" : "kill")),
  );
  await Promise.all(kills);
  for (const socket of sockets) await vi.waitFor(() => expect(socket.reached).toBe(22));
  expect(timesAsked(attached, environmentId)).toBe(0);
});

test("relays that were asleep at every level pass on what comes", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const sockets = await Promise.all([0, 1, 3].map((n) => open(environmentId, n)));
  for (const n of [0, 1, 3]) await evictDurableObject(relayOf(environmentId, n));
  await publish({ flags: { a: flag("a") } });
  for (const socket of sockets) await vi.waitFor(() => expect(socket.told).toEqual(["hello 1", "patch 2"]));
});

test("a gap heals from the parent, at every level and in order", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const [, , low] = [await open(environmentId, 0), await open(environmentId, 1), await open(environmentId, 3)];
  await runInDurableObject(
    relayOf(environmentId, 0),
    (_, { storage }) => void storage.sql.exec("DELETE FROM children"),
  );
  for (const key of ["a", "b"]) await publish({ flags: { [key]: flag(key) } });
  expect(low.told).toEqual(["hello 1"]);
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  await evictDurableObject(relayOf(environmentId, 1));
  await runDurableObjectAlarm(relayOf(environmentId, 1));
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  await vi.waitFor(() => expect(low.told).toEqual(["hello 1", "patch 2", "patch 3"]));
  await publish({ flags: { c: flag("c") } });
  await vi.waitFor(() => expect(low.told.at(-1)).toBe("patch 4"));
});

test("clients that come back together cost those above one read, whatever each of them lacks (X4)", async () => {
  const { environmentId, publish } = await livingEnvironment();
  await publish({ keys: key });
  for (const key of ["a", "b", "c"]) await publish({ flags: { [key]: flag(key) } });
  await open(environmentId, 0);
  const asked = vi.spyOn(Hub.prototype, "since");
  const resumed = await Promise.all(Array.from({ length: 30 }, (_, index) => reopen(environmentId, 1 + (index % 4))));
  for (const [index, socket] of resumed.entries()) {
    await vi.waitFor(() => expect(socket.told).toHaveLength(5 - (index % 4)));
  }
  expect(timesAsked(asked, environmentId)).toBe(1);
  for (let again = 0; again < 5; again++) await reopen(environmentId, 1);
  expect(timesAsked(asked, environmentId)).toBe(1);
  asked.mockRestore();
});

test("a change too large for a message costs the hub one read, however many isolates and relays want all of it (Q9)", async () => {
  const { environmentId, publish } = await livingEnvironment();
  for (const n of [0, 1, 2, 3]) await open(environmentId, n);
  const values = Array.from({ length: 4_000 }, (_, index) => `a-user-with-a-long-name-${index}`);
  const asked = ["since", "snapshot"].map((method) => vi.spyOn(Hub.prototype, method as "since"));
  onTestFinished(() => {
    for (const spy of asked) spy.mockRestore();
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
  expect(asked.map((spy) => timesAsked(spy, environmentId))).toEqual([0, 1]);
  // Later, and for the next: what was read is not kept for ever.
  await runDurableObjectAlarm(relayOf(environmentId, 0));
  const next = await publish({ flags: { b: flag("b", { targets: [{ variation: "on", values }] }) } });
  await vi.waitFor(async () => expect((await relayOf(environmentId, 3).since(1))?.revision).toBe(next.revision));
  expect((await relayOf(environmentId, 3).snapshot(next.revision))?.revision).toBe(next.revision);
});

test("those who come from so far back that nobody knows cost one read too, and fetch the ruleset", async () => {
  const { environmentId, publish } = await livingEnvironment();
  await publish({ keys: key });
  for (const key of ["a", "b"]) await publish({ flags: { [key]: flag(key) } });
  await runInDurableObject(hubOf(environmentId), (_, { storage }) => void storage.sql.exec("DELETE FROM deltas"));
  await open(environmentId, 0);
  const asked = vi.spyOn(Hub.prototype, "since");
  for (let again = 0; again < 5; again++) {
    const lost = await reopen(environmentId, 3 - (again % 3));
    await vi.waitFor(() => expect(lost.told).toEqual(["hello 4", "resync 4"]));
  }
  expect(timesAsked(asked, environmentId)).toBe(1);
  asked.mockRestore();
});

test("a relay that nobody needs leaves its parent and keeps nothing; whoever comes again finds it as new", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const [one, two] = [await open(environmentId, 0), await open(environmentId, 1)];
  two.socket.close(1000, "bye");
  await vi.waitFor(async () => {
    await runDurableObjectAlarm(relayOf(environmentId, 1));
    expect(await below(relayOf(environmentId, 0))).toEqual([]);
  });
  await runInDurableObject(relayOf(environmentId, 1), async (_, { storage }) => {
    expect(storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_%' ESCAPE '\\'").toArray()).toEqual(
      [],
    );
    expect(await storage.getAlarm()).toBeNull();
  });
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(one.told).toEqual(["hello 1", "patch 2"]));
  const back = await open(environmentId, 1, 1);
  await vi.waitFor(() => expect(back.told).toEqual(["hello 2", "patch 2"]));
  await publish({ flags: { b: flag("b") } });
  await vi.waitFor(() => expect(back.told.at(-1)).toBe("patch 3"));
});

test("a relay stays while relays are below it, or isolates ask it", async () => {
  const { environmentId } = await livingEnvironment();
  await open(environmentId, 1);
  await runDurableObjectAlarm(relayOf(environmentId, 0));
  expect(await below(hubOf(environmentId))).toEqual([0]);
  const asked = await livingEnvironment();
  await relayOf(asked.environmentId).since(1);
  await runDurableObjectAlarm(relayOf(asked.environmentId));
  expect(await below(hubOf(asked.environmentId))).toEqual([0]);
  await evictDurableObject(relayOf(asked.environmentId));
  await runDurableObjectAlarm(relayOf(asked.environmentId));
  expect(await below(hubOf(asked.environmentId))).toEqual([]);
});

test("whoever has lost its parent goes to the one above it, and back when it is there again", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const low = await open(environmentId, 3);
  const back = await away(relayOf(environmentId, 1));
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  expect(await below(relayOf(environmentId, 0))).toEqual([1, 3]);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(low.told).toEqual(["hello 1", "patch 2"]));
  await back();
  await evictDurableObject(relayOf(environmentId, 3));
  await runDurableObjectAlarm(relayOf(environmentId, 3));
  await vi.waitFor(async () => expect(await below(relayOf(environmentId, 0))).toEqual([1]));
  expect(await below(relayOf(environmentId, 1))).toEqual([3]);
});

test("whoever goes back to its parent and loses it again at once is not taken from the one that stands in by a late goodbye", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const low = await open(environmentId, 3);
  const { attach, detach } = Relay.prototype;
  let lost = true;
  const attached = vi.spyOn(Relay.prototype, "attach").mockImplementation(async function (this: Relay, report) {
    if (lost && nameOf(this) === relayName({ environmentId, region: "enam", n: 1 })) throw new Error("lost");
    return attach.call(this, report);
  });
  const round = () => runDurableObjectAlarm(relayOf(environmentId, 3));
  await round();
  expect(await below(relayOf(environmentId, 0))).toEqual([1, 3]);
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
  expect(await below(relayOf(environmentId, 0))).toEqual([1, 3]);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(low.told).toEqual(["hello 1", "patch 2"]));
});

test("a relay that has just come is told once where all stand: nobody asks for what came after nothing, nor asks it again", async () => {
  const { environmentId, publish } = await livingEnvironment();
  await publish({ flags: { a: flag("a") } });
  const asked = vi.spyOn(Hub.prototype, "since");
  const again = vi.spyOn(Relay.prototype, "refresh");
  await open(environmentId, 1);
  await runDurableObjectAlarm(hubOf(environmentId));
  await runDurableObjectAlarm(relayOf(environmentId, 0));
  expect(timesAsked(again, environmentId)).toBe(0);
  // Both times by relay 0, as it attached.
  expect(timesAsked(asked, environmentId)).toBe(2);
  for (const spy of [asked, again]) spy.mockRestore();
});

test("the relays of a hub that was lost with all it knew hear about it as soon as it is born again", async () => {
  const { environmentId, publish } = await livingEnvironment();
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
  await vi.waitFor(() => expect(low.told.at(-1)).toBe("patch 2"));
  await runDurableObjectAlarm(hubOf(environmentId));
  expect(await latestPointer(env.KV, environmentId)).toEqual({ revision: 2, relays: { enam: 1 } });
  await runInDurableObject(hubOf(environmentId), (_, { storage }) => storage.deleteAll());
  await evictDurableObject(hubOf(environmentId));
  const revision = (await hubOf(environmentId).snapshot())?.revision ?? 0;
  expect(revision).toBeGreaterThan(1_000_000);
  for (const socket of [high, low]) await vi.waitFor(() => expect(socket.told.at(-1)).toBe(`resync ${revision}`));
  await publish({ flags: { a: flag("a") } });
  for (const socket of [high, low]) await vi.waitFor(() => expect(socket.told.at(-1)).toBe(`patch ${revision + 1}`));
});

test("a relay below that missed a delivery is told again though nobody above answers", async () => {
  const { environmentId, publish } = await livingEnvironment();
  const low = await open(environmentId, 1);
  await publish({ flags: { a: flag("a") } });
  await vi.waitFor(() => expect(low.told.at(-1)).toBe("patch 2"));
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

test("a region that is 80 % full gets more relays, and relays, isolates and KV are told", async () => {
  const { environmentId } = await livingEnvironment();
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

test("a child that never answers is asked less and less often, and at once again when it has answered", async () => {
  const { environmentId, publish } = await livingEnvironment();
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
