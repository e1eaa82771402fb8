/** A hub's kills: they outlast every edit, are idempotent, and are mirrored to D1. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Flag } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import { eq, like } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import * as table from "../../workers/store/schema/index.ts";
import { commitDocuments, db, flag, newEnvironment } from "../support/environment.ts";
import { killRequest } from "../support/kill.ts";

const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));

async function flagsOf(environmentId: string): Promise<Record<string, Flag>> {
  const snapshot = await hubOf(environmentId).snapshot();
  return JSON.parse(snapshot?.ruleset ?? "{}").flags;
}

describe("kill", () => {
  async function withFlag(key = "a") {
    const head = await newEnvironment();
    const hub = hubOf(head.environmentId);
    await hub.create(head.environmentId);
    const next = await commitDocuments(head, { flags: { [key]: flag(key) } });
    await hub.publish(next.change);
    return { hub, head: next.head, environmentId: head.environmentId };
  }

  test("no edit lifts a kill; only restore does (X2)", async () => {
    const { hub, head, environmentId } = await withFlag();
    expect(await hub.setKilled(killRequest("a", "kill"))).toMatchObject({
      outcome: "done",
      revision: 3,
      changed: true,
    });
    expect((await flagsOf(environmentId)).a?.killed).toBe(true);
    const edited = await commitDocuments(head, { flags: { a: flag("a", { version: 2, on: true }) } });
    await hub.publish(edited.change);
    expect((await flagsOf(environmentId)).a).toMatchObject({ version: 2, killed: true });
    const deleted = await commitDocuments(edited.head, { flags: { a: null } });
    await hub.publish(deleted.change);
    const again = await commitDocuments(deleted.head, { flags: { a: flag("a", { version: 3 }) } });
    await hub.publish(again.change);
    expect((await flagsOf(environmentId)).a).toMatchObject({ version: 3, killed: true });
    await hub.setKilled(killRequest("a", "restore"));
    expect((await flagsOf(environmentId)).a).toMatchObject({ version: 3, killed: false });
    const { deliveries } = await hub.since(2);
    const killed = deliveries?.map(({ message }) => (JSON.parse(message) as PatchMessage).flags.a?.killed);
    expect(killed).toEqual([true, true, undefined, true, false]);
  });

  test("killing twice is one kill, and a repeated request gets its first response (Q8)", async () => {
    const { hub } = await withFlag();
    const first = await hub.setKilled(killRequest("a", "kill", "key-1"));
    expect(await hub.setKilled(killRequest("a", "kill"))).toMatchObject({ changed: false, revision: 3 });
    await hub.setKilled(killRequest("a", "restore"));
    expect(await hub.setKilled(killRequest("a", "kill", "key-1"))).toMatchObject({
      revision: 3,
      changed: true,
      killed: null,
    });
    expect(first).toMatchObject({ revision: 3, changed: true, mirrored: true });
    for (const other of [
      killRequest("a", "restore", "key-1"),
      { ...killRequest("a", "kill", "key-1"), reason: "other" },
    ]) {
      expect(await hub.setKilled(other)).toEqual({ outcome: "idempotency-key-reused" });
    }
  });

  test("each kill and restore is mirrored to D1 once: the row and its audit entry", async () => {
    const { hub, environmentId } = await withFlag();
    await hub.setKilled(killRequest("a", "kill"));
    await hub.setKilled(killRequest("a", "restore"));
    await runDurableObjectAlarm(hub);
    const [row] = await db.select().from(table.kills).where(eq(table.kills.environmentId, environmentId));
    expect(row).toMatchObject({ flagKey: "a", killed: false, seq: 2 });
    const entries = await db
      .select()
      .from(table.audit)
      .where(like(table.audit.mirrorId, `${environmentId}/%`));
    expect(entries.map(({ action, mirrorId }) => [action, mirrorId])).toEqual([
      ["flag.kill", `${environmentId}/1`],
      ["flag.restore", `${environmentId}/2`],
    ]);
  });

  test("one alarm mirrors all kills that D1 lacks, however many", async () => {
    const { hub, head, environmentId } = await withFlag();
    const keys = Array.from({ length: 60 }, (_, index) => `flag-${index}`);
    const flags = Object.fromEntries(keys.map((key) => [key, flag(key)]));
    await hub.publish((await commitDocuments(head, { flags })).change);
    for (const key of keys) await hub.setKilled(killRequest(key, "kill"));
    await runDurableObjectAlarm(hub);
    await db.delete(table.kills).where(eq(table.kills.environmentId, environmentId));
    await runInDurableObject(hub, async (instance, { storage }) => {
      storage.sql.exec("UPDATE kill_log SET mirrored = 0");
      await instance.alarm();
    });
    const rows = await db.select().from(table.kills).where(eq(table.kills.environmentId, environmentId));
    expect(rows).toHaveLength(60);
  });

  test("a repeated kill gets its first response, also when its flag is deleted by then (Q8)", async () => {
    const { hub, head } = await withFlag();
    const first = await hub.setKilled(killRequest("a", "kill", "key-1"));
    await hub.setKilled(killRequest("a", "restore"));
    await hub.publish((await commitDocuments(head, { flags: { a: null } })).change);
    const supersededBy = expect.objectContaining({ action: "restore", flag: "a" });
    expect(await hub.setKilled(killRequest("a", "kill", "key-1"))).toEqual({
      ...first,
      killed: null,
      replayed: true,
      supersededBy,
    });
  });

  test("a flag whose publish call was lost is found in D1 and killed; killing an unknown flag is an error", async () => {
    const { hub, head } = await withFlag();
    await commitDocuments(head, { flags: { late: flag("late") } });
    expect(await hub.setKilled(killRequest("late", "kill"))).toMatchObject({ outcome: "done", changed: true });
    expect(await hub.setKilled(killRequest("unknown", "kill"))).toEqual({ outcome: "unknown-flag" });
  });
});
