import { createExecutionContext, createScheduledController, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { eq } from "drizzle-orm";
import { expect, test, vi } from "vitest";
import { newId } from "../../workers/platform/random-id.ts";
import { commit, LostRace, retryingLostRaces } from "../../workers/store/outbox/commit.ts";
import { laggingEnvironments, markPublished, trimOutbox, trimProjectEdits } from "../../workers/store/outbox/outbox.ts";
import * as table from "../../workers/store/schema/index.ts";
import { commitDocuments, db, flag, newEnvironment } from "../support/environment.ts";
import { RelaySocket } from "../support/relay-socket.ts";
import worker from "../support/worker.ts";

async function sweep(): Promise<void> {
  const ctx = createExecutionContext();
  await worker.scheduled(createScheduledController(), env);
  await waitOnExecutionContext(ctx);
}

test("the sweep delivers a committed change whose publish call was lost, and calls only lagging environments (Q8)", async () => {
  const head = await newEnvironment();
  await env.HUB.get(env.HUB.idFromName(head.environmentId)).create(head.environmentId);
  const client = await RelaySocket.open(head.environmentId);
  await commitDocuments(head, { flags: { a: flag("a") } });
  await sweep();
  await vi.waitFor(() => expect(client.received).toEqual(["hello 1", "patch 2"]));
  const [row] = await db.select().from(table.environments).where(eq(table.environments.id, head.environmentId));
  expect(row).toMatchObject({ version: 1, publishedVersion: 1 });
  await sweep();
  expect(client.received).toEqual(["hello 1", "patch 2"]);
});

test("an environment that only D1's mark has as lagging is corrected, and not called every minute", async () => {
  const head = await newEnvironment();
  const hub = env.HUB.get(env.HUB.idFromName(head.environmentId));
  await hub.create(head.environmentId);
  const { change } = await commitDocuments(head, { flags: { a: flag("a") } });
  await hub.publish(change);
  await sweep();
  // As after a restore of D1 to the moment between a write and its mark.
  const here = eq(table.environments.id, head.environmentId);
  await db.update(table.environments).set({ publishedVersion: 0, publishedRevision: 1 }).where(here);
  await sweep();
  expect(await laggingEnvironments(db, 100)).not.toContain(head.environmentId);
});

test("a late mark in D1 does not overwrite a newer one", async () => {
  const { environmentId } = await newEnvironment();
  await markPublished(db, environmentId, 2, 3);
  await markPublished(db, environmentId, 1, 2);
  const [row] = await db.select().from(table.environments).where(eq(table.environments.id, environmentId));
  expect(row).toMatchObject({ publishedVersion: 2, publishedRevision: 3 });
});

test("old changes are deleted from the outbox, except the newest and unpublished ones", async () => {
  const head = await newEnvironment();
  const first = await commitDocuments(head, { flags: { a: flag("a") } });
  const second = await commitDocuments(first.head, { flags: { b: flag("b") } });
  await commitDocuments(second.head, { flags: { c: flag("c") } });
  await db.update(table.environments).set({ publishedVersion: 2 }).where(eq(table.environments.id, head.environmentId));
  await trimOutbox(db, Date.now() + 1_000);
  const rows = await db.select().from(table.changes).where(eq(table.changes.environmentId, head.environmentId));
  expect(rows.map(({ version }) => version).sort()).toEqual([2, 3]);
});

test("old locks of project edits are deleted, except the newest: a write against an older version still loses (Q8)", async () => {
  const projectId = newId("prj");
  const project = { id: projectId, key: projectId, name: "t", version: 0, createdAt: 0, updatedAt: 0 };
  await db.insert(table.projects).values(project);
  const edit = (version: number) =>
    commit(db, { statements: [], edits: [], audit: [], project: { id: projectId, version }, now: Date.now() });
  for (let version = 0; version < 3; version++) await edit(version);
  const left = async () => {
    const rows = await db.select().from(table.projectEdits).where(eq(table.projectEdits.projectId, projectId));
    return rows.map(({ version }) => version);
  };
  await trimProjectEdits(db, Date.now() - 60_000);
  expect(await left()).toEqual([1, 2, 3]);
  await trimProjectEdits(db, Date.now() + 60_000);
  expect(await left()).toEqual([3]);
  await expect(edit(2)).rejects.toThrow(LostRace);
});

test("the sweep mirrors a token that KV lacks, and its revocation (X2)", async () => {
  const row = {
    id: newId("tok"),
    name: "t",
    shown: "…",
    hash: newId("hash"),
    role: "editor" as const,
    scope: { projects: [], environments: [] },
    version: 1,
  };
  await db.insert(table.apiTokens).values({ ...row, createdAt: Date.now(), updatedAt: Date.now() });
  await sweep();
  expect(await env.KV.get(`token:${row.hash}`, "json")).toMatchObject({ id: row.id, role: "editor", revokedAt: null });
  await db
    .update(table.apiTokens)
    .set({ revokedAt: Date.now(), updatedAt: Date.now() })
    .where(eq(table.apiTokens.id, row.id));
  await sweep();
  expect(await env.KV.get(`token:${row.hash}`, "json")).toMatchObject({ revokedAt: expect.any(Number) });
});

test("a write that keeps losing races fails after ten seconds or sixty tries", async () => {
  for (const [each, atMost] of [
    [3_000, 5],
    [0, 61],
  ] as const) {
    let [time, tries] = [0, 0];
    const losing = () => {
      tries++;
      time += each;
      return Promise.reject(new LostRace());
    };
    await expect(retryingLostRaces(losing, () => time)).rejects.toThrow(LostRace);
    expect(tries).toBeLessThanOrEqual(atMost);
    expect(tries).toBeGreaterThan(2);
  }
});
