/** Faults between a big segment's exact members, D1, R2 and the clients, and how each is repaired. */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { eq, gt } from "drizzle-orm";
import { afterEach, expect, test, vi } from "vitest";
import { commitMembers } from "../../workers/store/big-segments.ts";
import type { AuditEntry } from "../../workers/store/outbox/change.ts";
import * as table from "../../workers/store/schema/index.ts";
import {
  CREATED_AT,
  hubOf,
  membersAmong,
  newSegment,
  ORIGIN,
  objectOf,
  settled,
  upload,
  users,
} from "../support/big-segment.ts";
import { db } from "../support/environment.ts";
import { setFaults, withFaults } from "../support/faults.ts";
import { BigSegment } from "../support/worker.ts";

const DAY_MS = 24 * 60 * 60_000;
afterEach(() => {
  vi.useRealTimers();
  setFaults({});
});

const here = (environmentId: string) => ({
  environment: eq(table.environments.id, environmentId),
  segment: eq(table.segments.environmentId, environmentId),
  changes: eq(table.changes.environmentId, environmentId),
  members: eq(table.segmentChanges.environmentId, environmentId),
});

/** An environment's rows in D1, to be restored as Time Travel does. */
async function restorePoint(environmentId: string): Promise<() => Promise<void>> {
  const { environment, segment, members } = here(environmentId);
  const [head] = await db.select().from(table.environments).where(environment);
  const [row] = await db.select().from(table.segments).where(segment);
  const lists = await db.select().from(table.segmentChanges).where(members);
  return async () => {
    await db.update(table.environments).set(head!).where(environment);
    await db.update(table.segments).set(row!).where(segment);
    await db.delete(table.segmentChanges).where(members);
    if (lists.length > 0) await db.insert(table.segmentChanges).values(lists);
    const later = await db.select().from(table.changes).where(gt(table.changes.version, head!.version));
    for (const change of later.filter((one) => one.environmentId === environmentId))
      await db.delete(table.changes).where(eq(table.changes.id, change.id));
  };
}

const auditOf = (correlationId: string) =>
  db.select().from(table.audit).where(eq(table.audit.correlationId, correlationId));

test("a hub that detects Time Travel has the filter rebuilt from the current members", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  await upload(environmentId, "add", users(0, 100));
  await settled(environmentId, 1);
  await object.change(CREATED_AT, ["then"], ["user-1"], ORIGIN);
  const restore = await restorePoint(environmentId);
  await object.change(CREATED_AT, ["later"], ["then"], ORIGIN);
  await upload(environmentId, "add", users(100, 120));
  await settled(environmentId, 2);
  await object.change(CREATED_AT, ["last"], [], ORIGIN);
  await restore();
  await hubOf(environmentId).catchUp();
  await settled(environmentId, 3);
  const candidates = [...users(0, 130), "then", "later", "last"];
  const wanted = [...users(0, 1), ...users(2, 120), "later", "last"];
  expect(await membersAmong(environmentId, candidates)).toEqual(wanted);
  expect((await db.select().from(table.segmentChanges).where(here(environmentId).members)).length).toBe(0);
});

test("if the hub cold-starts and cannot detect Time Travel, the next change of a member does", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 10));
  await settled(environmentId, 1);
  const restore = await restorePoint(environmentId);
  await upload(environmentId, "replace", users(5, 15));
  await settled(environmentId, 2);
  await restore();
  const hub = hubOf(environmentId);
  await runInDurableObject(hub, (_, { storage }) => storage.deleteAll());
  await evictDurableObject(hub);
  await objectOf(environmentId).change(CREATED_AT, ["one"], [], ORIGIN);
  await settled(environmentId, 3);
  expect(await membersAmong(environmentId, [...users(0, 20), "one"])).toEqual([...users(5, 15), "one"]);
});

test("the filters of a deleted segment stay in R2 for 30 days (time injected)", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  await upload(environmentId, "add", users(0, 10));
  await settled(environmentId, 1);
  const begun = Date.now();
  await object.clear();
  const filters = async () =>
    (await env.SEGMENTS_BUCKET.list({ prefix: `segments/${environmentId}/` })).objects.map(({ key }) => key);
  vi.useFakeTimers({ toFake: ["Date"], now: begun + 30 * DAY_MS - 60_000 });
  await runDurableObjectAlarm(object);
  expect(await filters()).toEqual([`segments/${environmentId}/s/1`]);
  vi.setSystemTime(begun + 30 * DAY_MS + 60_000);
  await runDurableObjectAlarm(object);
  expect(await filters()).toEqual([]);
  await runInDurableObject(object, async (_, { storage }) => {
    expect(storage.sql.exec("SELECT * FROM filters").toArray()).toEqual([]);
    expect(await storage.getAlarm()).toBeNull();
  });
});

test("an upload whose commit fails in D1 is published nowhere in part, and as a whole when retried", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  const counts = async () => {
    const { segment, changes, members } = here(environmentId);
    const [row] = await db.select().from(table.segments).where(segment);
    const audit = (await auditOf(environmentId)).length;
    const outbox = (await db.select().from(table.changes).where(changes)).length;
    return { big: row?.big?.generation ?? null, audit, outbox, lists: await db.$count(table.segmentChanges, members) };
  };
  const before = await counts();
  await runInDurableObject(object, async (_, state) => {
    const faulty = new BigSegment(state, withFaults(env));
    const by = { ...ORIGIN, correlationId: environmentId };
    const { upload } = await faulty.beginUpload(CREATED_AT, "add", by);
    faulty.receive(upload.id, users(0, 50));
    setFaults({ DB: { mode: "fail" } });
    expect(await faulty.finishUpload(upload.id)).toMatchObject({ outcome: "done" });
    expect(await faulty.change(CREATED_AT, ["late"], [], by)).toMatchObject({ outcome: "done", revision: null });
    await faulty.alarm();
    await faulty.alarm();
    // The object has stored it durably; clients and D1 are unchanged.
    expect(faulty.status(CREATED_AT)).toMatchObject({ count: 51, generation: 0, pending: 1 });
    expect(await state.storage.getAlarm()).not.toBeNull();
  });
  expect(await counts()).toEqual(before);
  expect(await membersAmong(environmentId, [...users(0, 51), "late"])).toEqual([]);
  setFaults({});
  await evictDurableObject(object);
  await runDurableObjectAlarm(object);
  await vi.waitFor(async () => expect(await object.status(CREATED_AT)).toMatchObject({ building: null, pending: 0 }));
  expect(await membersAmong(environmentId, [...users(0, 51), "late"])).toEqual([...users(0, 50), "late"]);
  expect((await auditOf(environmentId)).map(({ action }) => action)).toEqual(["segment.upload", "segment.members"]);
});

test("a commit whose response was lost is retried, and leaves one audit entry", async () => {
  const { environmentId } = await newSegment();
  const since = { added: ["one"], removed: [], generation: 1 };
  const entry: AuditEntry = {
    ...ORIGIN,
    mirrorId: `lost-${environmentId}`,
    correlationId: environmentId,
    timestamp: 1,
    action: "segment.members",
    resourceType: "segment",
    key: "s",
    changes: {},
  };
  for (let times = 0; times < 2; times++) {
    const done = await commitMembers(db, { environmentId, key: "s", createdAt: CREATED_AT }, since, [entry]);
    expect(done).toMatchObject({ generationBefore: 0 });
    await hubOf(environmentId).publish(done!.change);
  }
  expect(await auditOf(environmentId)).toHaveLength(1);
  expect(await membersAmong(environmentId, ["one", "two"])).toEqual(["one"]);
});

test("changes of a segment are in the audit log even if it was deleted before they were committed", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  await db.delete(table.segments).where(here(environmentId).segment);
  const by = { ...ORIGIN, correlationId: environmentId };
  expect(await object.change(CREATED_AT, ["one"], [], by)).toMatchObject({ added: ["one"] });
  await vi.waitFor(async () => expect(await auditOf(environmentId)).toHaveLength(1));
  expect(await object.status(CREATED_AT)).toMatchObject({ count: 0, pending: 0 });
});

test("a filter build has no audit entry; each change of members has one", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  const by = { ...ORIGIN, correlationId: environmentId };
  const long = (n: number) => `${String(n).padStart(6, "0")}-${"x".repeat(1_000)}`;
  // A thousand of a thousand characters: lists beside a filter are bounded by their length too.
  await object.change(
    CREATED_AT,
    Array.from({ length: 995 }, (_, n) => long(n)),
    [],
    by,
  );
  await settled(environmentId, 1);
  expect(await object.status(CREATED_AT)).toMatchObject({ filterCount: 995, pending: 0 });
  expect((await auditOf(environmentId)).map(({ action }) => action)).toEqual(["segment.members"]);
});
