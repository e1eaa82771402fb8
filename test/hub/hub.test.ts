import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Flag } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import { eq } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { HubStorage } from "../../durable-objects/hub/storage.ts";
import { readLatestSnapshot } from "../../workers/store/kv-snapshot.ts";
import { LostRace } from "../../workers/store/outbox/commit.ts";
import * as table from "../../workers/store/schema/index.ts";
import { commitDocuments, db, flag, newEnvironment } from "../support/environment.ts";
import { setFaults, withFaults } from "../support/faults.ts";
import { killRequest } from "../support/kill.ts";
import { environmentWithHub } from "../support/relay-socket.ts";

const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));

async function flagsOf(environmentId: string): Promise<Record<string, Flag>> {
  const snapshot = await hubOf(environmentId).snapshot();
  return JSON.parse(snapshot?.ruleset ?? "{}").flags;
}

describe("order", () => {
  test("changes are published in version order, each as one revision after the previous (Q8)", async () => {
    const head = await newEnvironment();
    const hub = hubOf(head.environmentId);
    expect(await hub.create(head.environmentId)).toEqual({ revision: 1, version: 0 });
    const first = await commitDocuments(head, { flags: { a: flag("a") } });
    const second = await commitDocuments(first.head, { flags: { b: flag("b") } });
    expect(await hub.publish(first.change)).toEqual({ revision: 2, version: 1 });
    expect(await hub.publish(second.change)).toEqual({ revision: 3, version: 2 });
    const { deliveries } = await hub.since(1);
    expect(deliveries?.map(({ previous, revision }) => [previous, revision])).toEqual([
      [1, 2],
      [2, 3],
    ]);
    expect(Object.keys((JSON.parse(deliveries?.[1]?.message ?? "") as PatchMessage).flags)).toEqual(["b"]);
  });

  test("publish calls out of order, repeated or lost do not change the result (Q8)", async () => {
    const head = await newEnvironment();
    const hub = hubOf(head.environmentId);
    await hub.create(head.environmentId);
    const first = await commitDocuments(head, { flags: { a: flag("a", { version: 1 }) } });
    const second = await commitDocuments(first.head, { flags: { a: flag("a", { version: 2 }) } });
    const third = await commitDocuments(second.head, { flags: { a: flag("a", { version: 3 }) } });
    await Promise.all([hub.publish(third.change), hub.publish(first.change), hub.publish(third.change)]);
    expect(await hub.publish(first.change)).toEqual({ revision: 4, version: 3 });
    expect((await flagsOf(head.environmentId)).a?.version).toBe(3);
  });

  test("a hub that has missed many changes reads them page by page, each once and in order", async () => {
    let head = await newEnvironment();
    const hub = hubOf(head.environmentId);
    await hub.create(head.environmentId);
    for (let version = 1; version <= 25; version++) {
      ({ head } = await commitDocuments(head, { flags: { a: flag("a", { version }) } }));
    }
    expect(await hub.catchUp()).toEqual({ revision: 26, version: 25 });
    const { deliveries } = await hub.since(1);
    const versions = deliveries?.map(({ message }) => (JSON.parse(message) as PatchMessage).flags.a?.version);
    expect(versions).toEqual(Array.from({ length: 25 }, (_, index) => index + 1));
  });

  test("of two writes validated against the same version one is committed, and nothing of the other", async () => {
    const head = await newEnvironment();
    const attempts = await Promise.allSettled([
      commitDocuments(head, { flags: { a: flag("a") } }),
      commitDocuments(head, { flags: { b: flag("b") } }),
    ]);
    const lost = attempts.filter((attempt) => attempt.status === "rejected");
    expect(lost).toHaveLength(1);
    expect(lost[0]?.reason).toBeInstanceOf(LostRace);
    const rows = await db.select().from(table.changes).where(eq(table.changes.environmentId, head.environmentId));
    expect(rows).toHaveLength(2);
  });

  test("the delta log knows its size, also after rolled-back transactions", async () => {
    const { environmentId } = await environmentWithHub();
    await runInDurableObject(hubOf(environmentId), (_, { storage }) => {
      const hub = new HubStorage(storage);
      const large = { publishedAt: 0, message: "x".repeat(1_000_000), urgent: false, keys: {} };
      const add = (revision: number) => {
        const delivery = { ...large, revision, previous: revision - 1 };
        hub.deltas.add(delivery, delivery.message, 200);
      };
      hub.atomically(() => add(2));
      const failed = () => {
        add(3);
        throw new Error("undone");
      };
      for (let times = 0; times < 20; times++) expect(() => hub.atomically(failed)).toThrow("undone");
      hub.atomically(() => add(3));
      expect([2, 3].map((revision) => hub.deltas.get(revision)?.revision)).toEqual([2, 3]);
    });
  });

  test("the delta log is bounded, and a client beyond it fetches the ruleset", async () => {
    const { environmentId } = await newEnvironment();
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    await runInDurableObject(hub, (_, { storage }) => {
      const { deltas } = new HubStorage(storage);
      for (let revision = 2; revision <= 200; revision++) {
        const delivery = {
          revision,
          previous: revision - 1,
          publishedAt: 0,
          message: "x".repeat(65_536),
          urgent: false,
          keys: {},
        };
        deltas.add(delivery, delivery.message, 200);
      }
      const { bytes } = storage.sql.exec<{ bytes: number }>("SELECT total(bytes) AS bytes FROM deltas").one();
      expect(bytes).toBeLessThanOrEqual(8 * 1024 * 1024);
      expect(deltas.get(2)).toBeNull();
      expect(deltas.after(1, 200)).toBeNull();
      expect(deltas.after(198, 200)?.map(({ revision }) => revision)).toEqual([199, 200]);
    });
  });

  test("an evicted hub continues at its revision", async () => {
    const head = await newEnvironment();
    const hub = hubOf(head.environmentId);
    await hub.create(head.environmentId);
    const first = await commitDocuments(head, { flags: { a: flag("a") } });
    await hub.publish(first.change);
    await evictDurableObject(hub);
    const second = await commitDocuments(first.head, { flags: { b: flag("b") } });
    expect(await hub.publish(second.change)).toEqual({ revision: 3, version: 2 });
    expect(Object.keys(await flagsOf(head.environmentId))).toEqual(["a", "b"]);
  });

  test("the alarm marks the published version in D1 and writes KV, one snapshot for many changes", async () => {
    let head = await newEnvironment();
    const { environmentId } = head;
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    for (const key of ["a", "b", "c"]) {
      const next = await commitDocuments(head, { flags: { [key]: flag(key) } });
      await hub.publish(next.change);
      head = next.head;
    }
    await runDurableObjectAlarm(hub);
    const snapshot = await readLatestSnapshot(env.KV, environmentId);
    expect(snapshot?.revision).toBe(4);
    expect(Object.keys(JSON.parse(snapshot?.ruleset ?? "").flags)).toEqual(["a", "b", "c"]);
    const [row] = await db.select().from(table.environments).where(eq(table.environments.id, environmentId));
    expect(row).toMatchObject({ publishedVersion: 3, publishedRevision: 4 });
  });

  test("snapshots in KV are deleted once no reader can still have their pointer; the newest two stay", async () => {
    let head = await newEnvironment();
    const { environmentId } = head;
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    for (const key of ["a", "b", "c"]) {
      const next = await commitDocuments(head, { flags: { [key]: flag(key) } });
      head = next.head;
      await hub.publish(next.change);
      // Ten minutes later.
      await runInDurableObject(hub, (_, { storage }) => void storage.sql.exec("UPDATE snapshots SET at = 0"));
      await runDurableObjectAlarm(hub);
    }
    const { keys } = await env.KV.list({ prefix: `snapshot:${environmentId}:` });
    expect(keys.map(({ name }) => name.split(":")[2])).toEqual(["3", "4"]);
  });

  test("a snapshot that KV failed to delete is deleted later (Q8)", async () => {
    const head = await newEnvironment();
    const { environmentId } = head;
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    const snapshots = async () => {
      const { keys } = await env.KV.list({ prefix: `snapshot:${environmentId}:` });
      return keys.map(({ name }) => Number(name.split(":")[2])).sort((one, other) => one - other);
    };
    let last = head;
    const written = async (key: string) => {
      const next = await commitDocuments(last, { flags: { [key]: flag(key) } });
      last = next.head;
      await hub.publish(next.change);
      await runInDurableObject(hub, (_, { storage }) => void storage.sql.exec("UPDATE snapshots SET at = 0"));
      await runDurableObjectAlarm(hub);
    };
    await written("a");
    await runInDurableObject(hub, (object) => {
      Object.assign(Reflect.get(object, "env"), { KV: withFaults(env).KV });
    });
    setFaults({ KV: { mode: "fail", at: "^delete" } });
    await written("b");
    expect(await snapshots()).toEqual([1, 2, 3]);
    setFaults({});
    await written("c");
    expect(await snapshots()).toEqual([3, 4]);
  });

  test("an environment id that D1 does not have leaves no storage behind", async () => {
    const hub = hubOf("env_00000000000000000000");
    expect(await hub.snapshot()).toBeNull();
    expect(
      await hub.attach({
        name: "relay:env_00000000000000000000:enam:0",
        region: "enam",
        revision: 0,
        connected: 0,
        keys: {},
      }),
    ).toBeNull();
    await runInDurableObject(hub, (_, { storage }) => {
      expect(storage.sql.exec("SELECT name FROM sqlite_master").toArray()).toEqual([]);
    });
  });
});

describe("lineage", () => {
  test("a D1 restored to an earlier state is read whole, and the difference is one new revision", async () => {
    const head = await newEnvironment();
    const { environmentId } = head;
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    const first = await commitDocuments(head, { flags: { a: flag("a") } });
    await hub.publish(first.change);
    // As after Time Travel: the change and its rows are gone, and other changes follow.
    await db.delete(table.changes).where(eq(table.changes.id, first.change.id));
    await db
      .update(table.environments)
      .set({ version: 0, changeId: head.changeId })
      .where(eq(table.environments.id, environmentId));
    const other = await commitDocuments(head, { flags: {} });
    const published = await hub.publish(other.change);
    expect(published).toEqual({ revision: 3, version: 1 });
    expect(await flagsOf(environmentId)).toEqual({});
    const { deliveries } = await hub.since(2);
    expect((JSON.parse(deliveries?.[0]?.message ?? "") as PatchMessage).flags).toEqual({ a: null });
  });

  test("a change of another lineage is not applied, though its version is the next", async () => {
    const head = await newEnvironment();
    const { environmentId } = head;
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    await hub.publish((await commitDocuments(head, { flags: { a: flag("a") } })).change);
    await db.delete(table.changes).where(eq(table.changes.environmentId, environmentId));
    const other = await commitDocuments(head, {});
    const next = await commitDocuments(other.head, {});
    expect(await hub.publish(next.change)).toEqual({ revision: 3, version: 2 });
    expect(await flagsOf(environmentId)).toEqual({});
  });

  test("a hub that lost its storage starts a million revisions above KV and D1, with all kills", async () => {
    const head = await newEnvironment();
    const { environmentId } = head;
    const hub = hubOf(environmentId);
    await hub.create(environmentId);
    const first = await commitDocuments(head, { flags: { a: flag("a") } });
    await hub.publish(first.change);
    await hub.setKilled(killRequest("a", "kill"));
    await runDurableObjectAlarm(hub);
    await runInDurableObject(hub, async (_, state) => {
      await state.storage.deleteAlarm();
      await state.storage.deleteAll();
    });
    await evictDurableObject(hub);
    const snapshot = await hub.snapshot();
    expect(snapshot?.revision).toBe(1_000_003);
    expect(Object.keys(snapshot?.kills ?? {})).toEqual(["a"]);
  });

  for (const [action, killed] of [
    ["kill", true],
    ["restore", false],
  ] as const) {
    test(`a hub that lost its storage keeps a ${action} that KV has and D1 lacks (X2)`, async () => {
      const head = await newEnvironment();
      const { environmentId } = head;
      const hub = hubOf(environmentId);
      await hub.create(environmentId);
      await hub.publish((await commitDocuments(head, { flags: { a: flag("a") } })).change);
      await hub.setKilled(killRequest("a", "kill"));
      const mirrored = db.select().from(table.kills).where(eq(table.kills.environmentId, environmentId));
      const [before] = action === "kill" ? [] : await mirrored;
      if (action === "restore") await hub.setKilled(killRequest("a", "restore"));
      await runDurableObjectAlarm(hub);
      // D1 was down when it happened.
      await db.delete(table.kills).where(eq(table.kills.environmentId, environmentId));
      if (before !== undefined) await db.insert(table.kills).values(before);
      await runInDurableObject(hub, async (_, state) => {
        await state.storage.deleteAlarm();
        await state.storage.deleteAll();
      });
      await evictDurableObject(hub);
      expect(Object.keys((await hub.snapshot())?.kills ?? {})).toEqual(killed ? ["a"] : []);
    });
  }
});
