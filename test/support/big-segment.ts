/** A big segment and its hub, created through the store, for tests that do not need the API. */
import { env } from "cloudflare:workers";
import { compile, type Evaluator, type Ruleset } from "@bunting/core";
import { expect, vi } from "vitest";
import type { OriginAndReason } from "../../durable-objects/segment/big-segment.ts";
import type { Head } from "../../workers/store/outbox/change.ts";
import { commit } from "../../workers/store/outbox/commit.ts";
import { insertSegment } from "../../workers/store/segments.ts";
import { commitDocuments, db, flag, newEnvironment } from "./environment.ts";

export const ORIGIN: OriginAndReason = {
  reason: null,
  actor: "tester",
  tokenId: "tok_1",
  project: "p",
  environment: "e",
  sourceIp: null,
  userAgent: null,
  correlationId: "c",
};
export const CREATED_AT = 1_000;
export const users = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => `user-${from + index}`);

export const hubOf = (environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));
export const objectOf = (environmentId: string) =>
  env.BIG_SEGMENT.get(env.BIG_SEGMENT.idFromName(`${environmentId}/s`));

const FOR_MEMBERS = flag("f", {
  rules: [{ id: "r", conditions: [{ segment: ["s"] }], serve: { variation: "on" } }],
  fallthrough: { variation: "off" },
});

/** An environment with a segment `s` and a flag `f` that is on for its members. */
export async function newSegment(createdAt = CREATED_AT): Promise<{ head: Head; environmentId: string }> {
  const head = await newEnvironment();
  const { environmentId } = head;
  await hubOf(environmentId).create(environmentId);
  const made = await commitDocuments(head, { flags: { f: FOR_MEMBERS } });
  await putSegment(made.head, createdAt);
  return { head: made.head, environmentId };
}

export async function putSegment(head: Head, createdAt: number): Promise<void> {
  const { environmentId } = head;
  const fields = { name: "S", description: "", included: [], excluded: [], rules: [], big: null };
  const row = { environmentId, key: "s", ...fields, version: 1, createdAt, updatedAt: createdAt };
  const document = { key: "s", version: 1, included: [], excluded: [], rules: [] };
  const edits = [{ head, documents: { segments: { s: document } } }];
  const [change] = await commit(db, { statements: [insertSegment(db, row)], edits, audit: [], now: createdAt });
  await hubOf(environmentId).publish(change!);
}

export async function upload(
  environmentId: string,
  mode: "add" | "remove" | "replace",
  ...batches: string[][]
): Promise<void> {
  const object = objectOf(environmentId);
  const { outcome, upload } = await object.beginUpload(CREATED_AT, mode, ORIGIN);
  expect(outcome).toBe("begun");
  for (const batch of batches) expect(await object.receive(upload.id, batch)).toBe("taken");
  await object.finishUpload(upload.id);
}

export const settled = (environmentId: string, generation: number) =>
  vi.waitFor(
    async () => expect(await objectOf(environmentId).status(CREATED_AT)).toMatchObject({ generation, building: null }),
    { timeout: 15_000, interval: 20 },
  );

/** The evaluator of an SDK that starts now. */
export async function evaluatorOf(environmentId: string): Promise<Evaluator> {
  const evaluator = compile(JSON.parse((await hubOf(environmentId).snapshot())!.ruleset) as Ruleset);
  for (const { segment, generation } of evaluator.missingFilters()) {
    const object = await env.SEGMENTS_BUCKET.get(`segments/${environmentId}/${segment}/${generation}`);
    expect(evaluator.setFilter(segment, generation, new Uint8Array(await object!.arrayBuffer()))).toBe(true);
  }
  return evaluator;
}

export async function membersAmong(environmentId: string, candidates: string[]): Promise<string[]> {
  const evaluator = await evaluatorOf(environmentId);
  // It is only in the outbox: a hub that has read D1 again no longer has it.
  const { revision } = evaluator;
  evaluator.apply({ revision, previous: revision, flags: { f: FOR_MEMBERS }, segments: {} });
  return candidates.filter((targetingKey) => evaluator.evaluate("f", { targetingKey }, null).value === true);
}
