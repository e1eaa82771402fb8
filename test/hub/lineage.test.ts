/** A D1 that was restored by Time Travel, or that is slow or down when a hub cold-starts. */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { PatchMessage } from "@bunting/core/wire";
import { and, eq, gt, like } from "drizzle-orm";
import { afterEach, describe, expect, test, vi } from "vitest";
import { readInitialState } from "../../durable-objects/hub/initial-state.ts";
import { KillLog } from "../../durable-objects/hub/kills/log.ts";
import { Replication } from "../../durable-objects/hub/replication.ts";
import { HubStorage } from "../../durable-objects/hub/storage.ts";
import { openDatabase } from "../../workers/store/database.ts";
import { latestPointer, SnapshotWriter } from "../../workers/store/kv-snapshot.ts";
import type { Head } from "../../workers/store/outbox/change.ts";
import * as table from "../../workers/store/schema/index.ts";
import { commitDocuments, db, flag, insertFlags, newEnvironment } from "../support/environment.ts";
import { setFaults, withFaults } from "../support/faults.ts";
import { killRequest } from "../support/kill.ts";
import { RelaySocket, relayOf } from "../support/relay-socket.ts";

const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));
afterEach(() => setFaults({}));

async function hubAtRevisionOne() {
  const head = await newEnvironment();
  const hub = hubOf(head.environmentId);
  await hub.create(head.environmentId);
  return { head, hub, environmentId: head.environmentId };
}

async function commitAndPublish(head: Head, key: string): Promise<Head> {
  const next = await commitDocuments(head, { flags: { [key]: flag(key) } });
  await hubOf(head.environmentId).publish(next.change);
  return next.head;
}

/** Removes an environment's rows after `head`, as Time Travel does. (The audit log's triggers prevent that here.) */
async function restoreD1({ environmentId, version, changeId }: Head, killSeq = 0): Promise<void> {
  const { changes, environments, kills } = table;
  await db.delete(changes).where(and(eq(changes.environmentId, environmentId), gt(changes.version, version)));
  await db
    .update(environments)
    .set({ version, changeId, publishedVersion: version })
    .where(eq(environments.id, environmentId));
  await db.delete(kills).where(and(eq(kills.environmentId, environmentId), gt(kills.seq, killSeq)));
}

const killsIn = (environmentId: string) =>
  db.select().from(table.kills).where(eq(table.kills.environmentId, environmentId));
const auditedKills = async (environmentId: string) => {
  const rows = await db
    .select()
    .from(table.audit)
    .where(like(table.audit.mirrorId, `${environmentId}/%`));
  return rows.map(({ mirrorId }) => Number(mirrorId?.split("/")[1]));
};

describe("a D1 restored to an hour ago under live clients", () => {
  test("is detected at a relay's next attach, without a write, and every client receives the difference (Q8)", async () => {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    const client = await RelaySocket.open(environmentId);
    const hourAgo = await commitAndPublish(head, "a");
    await insertFlags(head, ["a"]);
    await commitAndPublish(await commitAndPublish(hourAgo, "b"), "c");
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 4"));
    await restoreD1(hourAgo);
    await evictDurableObject(hub);
    await runDurableObjectAlarm(relayOf(environmentId));
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 5"));
    expect((client.messages.at(-1) as PatchMessage).flags).toMatchObject({ a: { on: false }, b: null, c: null });
  });

  test("is detected also where as many other changes were made since", async () => {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    const client = await RelaySocket.open(environmentId);
    await commitAndPublish(head, "a");
    await restoreD1(head);
    await commitDocuments(head, { flags: {} });
    await evictDurableObject(hub);
    await runDurableObjectAlarm(relayOf(environmentId));
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 3"));
    expect((client.messages.at(-1) as PatchMessage).flags).toEqual({ a: null });
  });

  test("lifts no kill, and every kill and restore that it lost is mirrored again, however old (X2)", async () => {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    const weeksAgo = await commitAndPublish(await commitAndPublish(head, "a"), "b");
    await insertFlags(head, ["a", "b"]);
    await hub.setKilled(killRequest("b", "kill"));
    const [b] = await killsIn(environmentId);
    await hub.setKilled(killRequest("a", "kill"));
    await hub.setKilled(killRequest("b", "restore"));
    await commitAndPublish(weeksAgo, "c");
    await runInDurableObject(hub, (_, { storage }) => {
      storage.sql.exec("UPDATE kill_log SET at = ?", Date.now() - 29 * 24 * 60 * 60_000);
    });
    // The log is trimmed as it is every day.
    await runDurableObjectAlarm(hub);
    await restoreD1(weeksAgo, 1);
    await db.insert(table.kills).values(b!);
    await evictDurableObject(hub);
    const client = await RelaySocket.open(environmentId);
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 8"));
    expect(JSON.parse((await hub.snapshot())!.ruleset).flags).toMatchObject({
      a: { killed: true },
      b: { killed: false },
    });
    await vi.waitFor(async () =>
      expect((await killsIn(environmentId)).map(({ flagKey, killed, seq }) => [flagKey, killed, seq])).toEqual([
        ["a", true, 2],
        ["b", false, 3],
      ]),
    );
    expect(await auditedKills(environmentId)).toEqual([1, 2, 3]);
  });

  test("is detected by a missing kill alone, without an edit", async () => {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    const then = await commitAndPublish(head, "a");
    await hub.setKilled(killRequest("a", "kill"));
    await hub.setKilled(killRequest("a", "restore"));
    await hub.setKilled(killRequest("a", "kill"));
    expect(await auditedKills(environmentId)).toEqual([1, 2, 3]);
    await restoreD1(then, 0);
    await evictDurableObject(hub);
    await RelaySocket.open(environmentId);
    await vi.waitFor(async () =>
      expect(await killsIn(environmentId)).toMatchObject([{ flagKey: "a", killed: true, seq: 3 }]),
    );
    expect(await auditedKills(environmentId)).toEqual([1, 2, 3]);
  });

  test("to before the environment was created: it is still served", async () => {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    await commitAndPublish(head, "a");
    await db.delete(table.environments).where(eq(table.environments.id, environmentId));
    await evictDurableObject(hub);
    const client = await RelaySocket.open(environmentId);
    await runDurableObjectAlarm(hub);
    expect(client.received).toEqual(["hello 2"]);
  });
});

describe("the log of kills", () => {
  test("keeps what Time Travel could take from D1, and of very many the newest of each flag", async () => {
    const { head, hub } = await hubAtRevisionOne();
    await commitAndPublish(await commitAndPublish(head, "a"), "b");
    await hub.setKilled(killRequest("b", "kill"));
    for (let times = 0; times < 10; times++) {
      await hub.setKilled(killRequest("a", times % 2 === 0 ? "kill" : "restore"));
      await hub.setKilled(killRequest("a", times % 2 === 0 ? "kill" : "restore"));
    }
    const seqs = () =>
      runInDurableObject(hub, (_, { storage }) =>
        storage.sql
          .exec<{ seq: number }>("SELECT seq FROM kill_log ORDER BY seq")
          .toArray()
          .map(({ seq }) => seq),
      );
    expect(await seqs()).toHaveLength(21);
    const day = 24 * 60 * 60_000;
    await runInDurableObject(hub, (_, { storage }) => new KillLog(storage.sql).trim(Date.now() + 2 * day));
    // Records that changed nothing are deleted.
    expect(await seqs()).toEqual([1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
    await runInDurableObject(hub, (_, { storage }) => new KillLog(storage.sql).trim(Date.now(), 4));
    expect(await seqs()).toEqual([1, 18, 20]);
    await runInDurableObject(hub, (_, { storage }) => new KillLog(storage.sql).trim(Date.now() + 32 * day));
    expect(await seqs()).toEqual([]);
  });

  test("an Idempotency-Key is valid for a day, then it is new", async () => {
    const { head, hub } = await hubAtRevisionOne();
    await commitAndPublish(head, "a");
    const first = await hub.setKilled(killRequest("a", "kill", "key-1"));
    await hub.setKilled(killRequest("a", "restore"));
    expect(await hub.setKilled(killRequest("a", "kill", "key-1"))).toMatchObject({
      ...first,
      killed: null,
      replayed: true,
      supersededBy: { action: "restore" },
    });
    await runInDurableObject(hub, (_, { storage }) => void storage.sql.exec("UPDATE kill_log SET at = at - 86400001"));
    expect(await hub.setKilled(killRequest("a", "kill", "key-1"))).toMatchObject({ changed: true, revision: 5 });
  });
});

describe("a hub's cold start", () => {
  const faulty = withFaults(env);
  const coldStart = (environmentId: string) => readInitialState(openDatabase(faulty.DB), faulty.KV, environmentId);

  test("does not wait for a slow D1 if KV has a snapshot", async () => {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    const next = await commitAndPublish(head, "a");
    await runDurableObjectAlarm(hub);
    setFaults({ DB: { mode: "delay", ms: 60_000 } });
    expect(await coldStart(environmentId)).toMatchObject({ revision: 1_000_002, version: next.version });
  });

  test("reads a slow D1 if KV has no snapshot; without either it fails and stores nothing", async () => {
    const { environmentId } = await newEnvironment();
    setFaults({ DB: { mode: "delay", ms: 700 } });
    expect(await coldStart(environmentId)).toMatchObject({ version: 0 });
    setFaults({ DB: { mode: "fail" } });
    await expect(coldStart(environmentId)).rejects.toThrow("Neither D1 nor KV");
    setFaults({ KV: { mode: "fail" } });
    expect(await coldStart(environmentId)).toMatchObject({ version: 0, revision: 1_000_000 });
    setFaults({});
    expect(await coldStart("env_00000000000000000000")).toBeNull();
  });

  test("applies a change once, though it is published twice during the cold start (Q8)", async () => {
    const { head, hub } = await hubAtRevisionOne();
    const next = await commitAndPublish(head, "a");
    await runDurableObjectAlarm(hub);
    const { change } = await commitDocuments(next, { flags: { b: flag("b") } });
    await runInDurableObject(hub, async (_, state) => {
      await state.storage.deleteAlarm();
      await state.storage.deleteAll();
    });
    await evictDurableObject(hub);
    // The initial state comes from KV, since D1 does not respond: it is one change behind.
    await env.DB.exec("ALTER TABLE sdk_keys RENAME TO hidden");
    const published = await Promise.all([hub.publish(change), hub.publish(change), hub.publish(change)]);
    await env.DB.exec("ALTER TABLE hidden RENAME TO sdk_keys");
    for (const answer of published) expect(answer).toEqual({ revision: 1_000_003, version: 2 });
    expect(Object.keys(JSON.parse((await hub.snapshot())!.ruleset).flags)).toEqual(["a", "b"]);
  });
});

describe("a hub that cold-started from a KV without the last kills while D1 did not respond", () => {
  async function lose(hub: ReturnType<typeof hubOf>): Promise<void> {
    await runInDurableObject(hub, async (_, { storage }) => {
      await storage.deleteAlarm();
      await storage.deleteAll();
    });
    await evictDurableObject(hub);
  }

  /** In KV b is killed. Only D1 has that b was restored and a killed since. */
  async function lost() {
    const { head, hub, environmentId } = await hubAtRevisionOne();
    await commitAndPublish(await commitAndPublish(head, "a"), "b");
    await insertFlags(head, ["a", "b"]);
    await hub.setKilled(killRequest("b", "kill"));
    await runDurableObjectAlarm(hub);
    await hub.setKilled(killRequest("b", "restore"));
    await hub.setKilled(killRequest("a", "kill"));
    await lose(hub);
    await env.DB.exec("ALTER TABLE sdk_keys RENAME TO hidden");
    await hub.snapshot();
    await env.DB.exec("ALTER TABLE hidden RENAME TO sdk_keys");
    return { hub, environmentId };
  }

  const killedBy = async (hub: ReturnType<typeof hubOf>) => Object.keys((await hub.kills()).killed);

  test("imports them once D1 responds, and publishes them in one revision (X2)", async () => {
    const { hub, environmentId } = await lost();
    const client = await RelaySocket.open(environmentId);
    await vi.waitFor(() => expect(client.received).toEqual(["hello 1000004"]));
    await runDurableObjectAlarm(hub);
    await vi.waitFor(() => expect(client.received.at(-1)).toBe("patch 1000005"));
    expect((client.messages.at(-1) as PatchMessage).flags).toMatchObject({ a: { killed: true }, b: { killed: false } });
    expect(await killedBy(hub)).toEqual(["a"]);
    await runDurableObjectAlarm(hub);
    expect((await hub.snapshot())?.revision).toBe(1_000_005);
  });

  test("keeps decisions made before D1 responded, and mirrors them, also if they seemed to change nothing", async () => {
    const { hub, environmentId } = await lost();
    expect(await hub.setKilled(killRequest("a", "restore"))).toMatchObject({ changed: false });
    expect(await hub.setKilled(killRequest("b", "kill"))).toMatchObject({ changed: false });
    await runDurableObjectAlarm(hub);
    expect(await killedBy(hub)).toEqual(["b"]);
    expect((await killsIn(environmentId)).map(({ flagKey, killed }) => [flagKey, killed])).toEqual([
      ["a", false],
      ["b", true],
    ]);
  });

  test("loses none if it loses its storage again before D1 responds, after it wrote a snapshot", async () => {
    const { hub, environmentId } = await lost();
    await env.DB.exec("ALTER TABLE kills RENAME TO hidden");
    await runDurableObjectAlarm(hub);
    expect(await latestPointer(env.KV, environmentId)).toMatchObject({ revision: 1_000_004 });
    await lose(hub);
    await env.DB.exec("ALTER TABLE hidden RENAME TO kills");
    expect(await killedBy(hub)).toEqual(["a"]);
  });
});

test("KV's pointer does not go back when a write lands after its deadline", async () => {
  const { hub, environmentId } = await hubAtRevisionOne();
  await runInDurableObject(hub, (_, { storage }) => storage.deleteAlarm());
  const snapshots = new SnapshotWriter(withFaults(env));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  setFaults({ KV: { mode: "delay", ms: 15_000 } });
  const late = snapshots.point(environmentId, { revision: 2, relays: {} }).catch(String);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await late).toContain("took longer");
  setFaults({});
  const next = snapshots.point(environmentId, { revision: 3, relays: {} });
  await vi.advanceTimersByTimeAsync(5_000);
  await next;
  vi.useRealTimers();
  expect(await latestPointer(env.KV, environmentId)).toMatchObject({ revision: 3 });
});

test("KV's pointer does not go back when one snapshot's write is slow and the next is not", async () => {
  const { hub, environmentId } = await hubAtRevisionOne();
  await runInDurableObject(hub, async (_, { storage }) => {
    await storage.deleteAlarm();
    const held = new HubStorage(storage);
    const replication = new Replication(withFaults(env), db, held);
    held.move({ snapshotRevision: 0 });
    setFaults({ KV: { mode: "delay", ms: 200 } });
    const slow = replication.writeSnapshot();
    await scheduler.wait(20);
    setFaults({});
    held.move({ revision: 2 });
    await Promise.all([slow, replication.writeSnapshot()]);
  });
  expect(await latestPointer(env.KV, environmentId)).toMatchObject({ revision: 2 });
});
