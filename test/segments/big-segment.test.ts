import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import type { PatchMessage } from "@bunting/core/wire";
import { and, eq } from "drizzle-orm";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { commit } from "../../workers/store/outbox/commit.ts";
import * as table from "../../workers/store/schema/index.ts";
import {
  CREATED_AT,
  evaluatorOf,
  hubOf,
  membersAmong,
  newSegment,
  ORIGIN,
  objectOf,
  putSegment,
  settled,
  upload,
  users,
} from "../support/big-segment.ts";
import { db } from "../support/environment.ts";

async function lastPatch(environmentId: string): Promise<{ patch: PatchMessage; bytes: number }> {
  const { revision } = await hubOf(environmentId).since(0);
  const { deliveries } = await hubOf(environmentId).since(revision - 1);
  const { message } = deliveries!.at(-1)!;
  return { patch: JSON.parse(message) as PatchMessage, bytes: message.length };
}

test("an upload becomes a filter with every member and, except for false positives, no other key (EV-20)", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 3_000), users(2_000, 5_000));
  await settled(environmentId, 1);
  expect(await objectOf(environmentId).status(CREATED_AT)).toMatchObject({
    count: 5_000,
    filterCount: 5_000,
    pending: 0,
  });
  expect(await objectOf(environmentId).has(CREATED_AT, ["user-0", "user-4999", "user-5000"])).toEqual([
    "user-0",
    "user-4999",
  ]);
  expect(await membersAmong(environmentId, users(0, 6_000))).toEqual(users(0, 5_000));
  const [entry] = await db.select().from(table.audit).where(eq(table.audit.action, "segment.upload"));
  expect(entry).toMatchObject({ actor: "tester", key: "s", changes: { members: { from: 0, to: 5_000 } } });
});

test("adding or removing one member is one small patch, correct at once and in the next filter (EV-20)", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 2_000));
  await settled(environmentId, 1);
  const object = objectOf(environmentId);
  const changed = await object.change(CREATED_AT, ["newcomer", "user-1"], ["user-7", "stranger"], ORIGIN);
  expect(changed).toMatchObject({ added: ["newcomer"], removed: ["user-7"] });
  const { patch, bytes } = await lastPatch(environmentId);
  expect(patch).toMatchObject({
    revision: changed.revision,
    flags: {},
    segments: {},
    members: { s: { added: ["newcomer"], removed: ["user-7"] } },
  });
  expect(bytes).toBeLessThan(250);
  expect(await membersAmong(environmentId, ["newcomer", "user-6", "user-7", "stranger"])).toEqual([
    "newcomer",
    "user-6",
  ]);
  expect(await object.change(CREATED_AT, ["newcomer"], ["user-7"], ORIGIN)).toMatchObject({ added: [], removed: [] });
  expect(await object.status(CREATED_AT)).toMatchObject({ count: 2_000, pending: 2 });

  await upload(environmentId, "add", ["another"]);
  await settled(environmentId, 2);
  const evaluator = await evaluatorOf(environmentId);
  expect(evaluator.ruleset.segments.s?.big).toMatchObject({ generation: 2, count: 2_001, added: [], removed: [] });
  const candidates = ["newcomer", "user-6", "user-7", "another"];
  expect(await membersAmong(environmentId, candidates)).toEqual(["newcomer", "user-6", "another"]);
  const rows = await db
    .select()
    .from(table.segmentChanges)
    .where(eq(table.segmentChanges.environmentId, environmentId));
  expect(rows).toEqual([]);
});

test("a segment without an upload has lists and no filter", async () => {
  const { environmentId } = await newSegment();
  await objectOf(environmentId).change(CREATED_AT, ["one", "two"], [], ORIGIN);
  await objectOf(environmentId).change(CREATED_AT, [], ["one"], ORIGIN);
  expect(await membersAmong(environmentId, ["one", "two", "three"])).toEqual(["two"]);
});

test("an upload that replaces removes all other members, and no member of both lists is ever missing", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 100));
  await upload(environmentId, "remove", users(0, 10), ["stranger"]);
  expect(await objectOf(environmentId).status(CREATED_AT)).toMatchObject({ count: 90 });
  const object = objectOf(environmentId);
  const { upload: replacing } = await object.beginUpload(CREATED_AT, "replace", ORIGIN);
  expect(await object.beginUpload(CREATED_AT, "add", ORIGIN)).toMatchObject({ outcome: "busy" });
  await object.receive(replacing.id, users(50, 120));
  expect(await object.has(CREATED_AT, ["user-20"])).toEqual(["user-20"]);
  await object.change(CREATED_AT, ["patched", "user-21"], ["user-60"], ORIGIN);
  await object.finishUpload(replacing.id);
  expect(await object.status(CREATED_AT)).toMatchObject({ count: 71 });
  const wanted = [...users(50, 60), ...users(61, 120), "patched", "user-21"];
  await vi.waitFor(async () => {
    expect(await object.status(CREATED_AT)).toMatchObject({ building: null, filterCount: 71 });
  });
  expect(await membersAmong(environmentId, [...users(0, 130), "patched"])).toEqual(expect.arrayContaining(wanted));
  expect(await membersAmong(environmentId, [...users(0, 130), "patched"])).toHaveLength(71);
  // Their rows are deleted as well.
  await runInDurableObject(object, (_, { storage }) => {
    expect(storage.sql.exec("SELECT count(*) AS n FROM members").one()).toEqual({ n: 71 });
  });
});

test("an interrupted upload that replaces changes nobody: neither who was sent nor who was not, in no filter", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 10));
  const object = objectOf(environmentId);
  const all = [...users(0, 12), "late", "later", "patched"];
  const { upload: broken } = await object.beginUpload(CREATED_AT, "replace", ORIGIN);
  await object.receive(broken.id, ["late", ...users(5, 12)]);
  // Stores what was received.
  await object.change(CREATED_AT, ["patched"], [], ORIGIN);
  expect(await object.has(CREATED_AT, all)).toEqual([...users(0, 10), "patched"].sort());
  expect(await object.status(CREATED_AT)).toMatchObject({ count: 11 });
  await object.abandonUpload(broken.id);
  expect(await object.receive(broken.id, ["later"])).toBe("ended");
  await vi.waitFor(async () =>
    expect(await object.status(CREATED_AT)).toMatchObject({ count: 11, filterCount: 11, building: null }),
  );
  expect(await object.has(CREATED_AT, all)).toEqual([...users(0, 10), "patched"].sort());
  expect(await membersAmong(environmentId, all)).toEqual([...users(0, 10), "patched"]);
  await runInDurableObject(object, (_, { storage }) => {
    expect(storage.sql.exec("SELECT count(*) AS n FROM members").one()).toEqual({ n: 11 });
  });
  // Who waited in vain can be added as anybody.
  await object.change(CREATED_AT, ["late"], [], ORIGIN);
  expect(await object.has(CREATED_AT, ["late"])).toEqual(["late"]);
});

test("whatever is uploaded, changed and broken off in whatever order, members are those of a set", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  const some = fc.uniqueArray(fc.constantFrom(...users(0, 12)), { maxLength: 8 });
  const step = fc.oneof(
    fc.record({ type: fc.constant("change" as const), add: some, remove: some }),
    fc.record({
      type: fc.constantFrom("add" as const, "remove" as const, "replace" as const),
      parts: fc.array(some, { maxLength: 3 }),
      ends: fc.boolean(),
      between: some,
    }),
  );
  let model = new Set<string>();
  const check = async () => {
    expect(await object.has(CREATED_AT, users(0, 12))).toEqual([...model].sort());
    expect((await object.status(CREATED_AT)).count).toBe(model.size);
  };
  const change = async (add: string[], remove: string[]) => {
    await object.change(
      CREATED_AT,
      add.filter((one) => !remove.includes(one)),
      remove,
      ORIGIN,
    );
    for (const one of add) model.add(one);
    for (const one of remove) model.delete(one);
  };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
      for (const one of steps) {
        if (one.type === "change") await change(one.add, one.remove);
        else {
          const { upload } = await object.beginUpload(CREATED_AT, one.type, ORIGIN);
          const sent = new Set(one.parts.flat());
          for (const part of one.parts) await object.receive(upload.id, part);
          if (one.type === "add") model = model.union(sent);
          else if (one.type === "remove") model = model.difference(sent);
          if (one.type === "replace") {
            // A change of one member holds now and after the upload.
            await change(one.between, []);
            for (const added of one.between) sent.add(added);
            await check();
          }
          if (one.ends) await object.finishUpload(upload.id);
          else await object.abandonUpload(upload.id);
          if (one.type === "replace" && one.ends) model = new Set(sent);
        }
        await check();
      }
    }),
    { numRuns: 40 },
  );
}, 60_000);

test("an upload that lost members in an eviction is refused at its end, and removes no member", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 10));
  const object = objectOf(environmentId);
  const { upload: lost } = await object.beginUpload(CREATED_AT, "replace", ORIGIN);
  await object.receive(lost.id, ["late"]);
  await evictDurableObject(object);
  expect(await object.finishUpload(lost.id)).toMatchObject({ outcome: "ended" });
  expect(await object.status(CREATED_AT)).toMatchObject({ count: 10, upload: { state: "abandoned" } });
});

test("changes during a build stay beside the filter, and after an eviction it is built with a new generation", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  await upload(environmentId, "add", ...Array.from({ length: 22 }, (_, n) => users(n * 10_000, (n + 1) * 10_000)));
  await vi.waitFor(async () => expect((await object.status(CREATED_AT)).building).not.toBeNull(), { interval: 1 });
  await object.change(CREATED_AT, ["during"], ["user-3"], ORIGIN);
  await evictDurableObject(object);
  await vi.waitFor(
    async () => expect(await object.status(CREATED_AT)).toMatchObject({ building: null, count: 220_000 }),
    {
      timeout: 30_000,
    },
  );
  const { generation, filterCount } = await object.status(CREATED_AT);
  expect(generation).toBeGreaterThanOrEqual(1);
  expect(filterCount).toBeGreaterThanOrEqual(219_999);
  expect(await membersAmong(environmentId, ["user-2", "user-3", "user-219999", "during", "stranger"])).toEqual([
    "user-2",
    "user-219999",
    "during",
  ]);
}, 60_000);

test("more than ten thousand changes start a filter build", async () => {
  const { environmentId } = await newSegment();
  const object = objectOf(environmentId);
  for (let n = 0; n < 10; n++) await object.change(CREATED_AT, users(n * 1_000, (n + 1) * 1_000), [], ORIGIN);
  await settled(environmentId, 1);
  expect(await object.status(CREATED_AT)).toMatchObject({ count: 10_000, filterCount: 10_000, pending: 0 });
  expect(await membersAmong(environmentId, ["user-0", "user-9999", "user-10000"])).toEqual(["user-0", "user-9999"]);
}, 60_000);

test("a segment that is deleted and created again starts empty, with new generations", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 10));
  await settled(environmentId, 1);
  const [head] = await db.select().from(table.environments).where(eq(table.environments.id, environmentId));
  const gone = { environmentId, version: head!.version, changeId: head!.changeId };
  const at = and(eq(table.segments.environmentId, environmentId), eq(table.segments.key, "s"));
  const edits = [{ head: gone, documents: { segments: { s: null } } }];
  const [change] = await commit(db, { statements: [db.delete(table.segments).where(at)], edits, audit: [], now: 1 });
  await putSegment({ environmentId, version: change!.version, changeId: change!.id }, CREATED_AT + 1);
  const object = objectOf(environmentId);
  // The call of `clear` was lost: the object detects it by the time of creation.
  expect(await object.has(CREATED_AT + 1, ["user-1"])).toEqual([]);
  await object.change(CREATED_AT + 1, ["one"], [], ORIGIN);
  expect(await object.status(CREATED_AT + 1)).toMatchObject({ count: 1, generation: 0, pending: 1 });
  expect(await membersAmong(environmentId, ["user-1", "one"])).toEqual(["one"]);
  const { upload: second } = await object.beginUpload(CREATED_AT + 1, "add", ORIGIN);
  await object.receive(second.id, ["two"]);
  await object.finishUpload(second.id);
  await vi.waitFor(async () => expect((await object.status(CREATED_AT + 1)).generation).toBeGreaterThan(1));
  expect(await membersAmong(environmentId, ["user-1", "one", "two"])).toEqual(["one", "two"]);
});

test("a hub that reads its environment again has the filters and the lists", async () => {
  const { environmentId } = await newSegment();
  await upload(environmentId, "add", users(0, 100));
  await settled(environmentId, 1);
  await objectOf(environmentId).change(CREATED_AT, ["late"], ["user-5"], ORIGIN);
  await runInDurableObject(hubOf(environmentId), (_, { storage }) => storage.deleteAll());
  await evictDurableObject(hubOf(environmentId));
  const evaluator = await evaluatorOf(environmentId);
  expect(evaluator.ruleset.segments.s?.big).toMatchObject({ generation: 1, added: ["late"], removed: ["user-5"] });
});
