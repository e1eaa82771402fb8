import { createExecutionContext, createMessageBatch, getQueueResult } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { gunzipSync } from "node:zlib";
import type { ExposureEvent, SummaryEvent, TelemetryEvent } from "@bunting/core/wire";
import { describe, expect, test } from "vitest";
import { acceptEvents } from "../../workers/edge/events/intake.ts";
import type { Env } from "../../workers/env.ts";
import { MAX_POINTS } from "../../workers/events/analytics.ts";
import { consume, retryDelaySeconds } from "../../workers/events/consumer.ts";
import { DEAD_LETTERS, replayDeadLetters } from "../../workers/events/dead-letters.ts";
import type { QueuedEvents } from "../../workers/events/message.ts";
import worker from "../support/worker.ts";

const receivedAt = Date.UTC(2026, 10, 20, 13, 59, 58);
const batchId = "0190b3c2-7c1e-7a70-9d5f-2b7f3f1c9a11";
const exposure: ExposureEvent = {
  kind: "exposure",
  at: receivedAt,
  flag: "new-checkout",
  flagVersion: 12,
  variation: "on",
  reason: "RULE_MATCH",
  experiment: "exp_1",
  unit: "user-42",
  sampleRate: 0.5,
};
const metric: TelemetryEvent = { kind: "metric", at: receivedAt, metric: "paid", unit: "user-42", value: 1 };

function queued(
  environment: string,
  events: (TelemetryEvent | null)[],
  more: Partial<QueuedEvents> = {},
): QueuedEvents {
  const sdk = { name: "node", version: "1.0.0" };
  return { environment, source: "server", sdk, batchId, firstIndex: 0, receivedAt, events, ...more };
}

type Delivered = { id: string; body: unknown; attempts?: number };

async function deliver(messages: Delivered[], bindings: Partial<Env> = {}) {
  const batch = createMessageBatch(
    "bunting-events",
    messages.map(({ id, body, attempts = 1 }) => ({ id, body, attempts, timestamp: receivedAt })),
  ) as MessageBatch<QueuedEvents>;
  await consume(batch, { ...env, ...bindings });
  return getQueueResult(batch, createExecutionContext());
}

async function stored(environment: string): Promise<Record<string, Record<string, unknown>[]>> {
  const { objects } = await env.EVENTS_BUCKET.list({ prefix: `events/environment=${environment}/` });
  const contents = objects.map(async ({ key }) => {
    const object = await env.EVENTS_BUCKET.get(key);
    const text = gunzipSync(await object!.bytes()).toString();
    expect(text.endsWith("\n")).toBe(true);
    const lines = text.trimEnd().split("\n");
    return [key, lines.map((line) => JSON.parse(line) as Record<string, unknown>)] as const;
  });
  return Object.fromEntries(await Promise.all(contents));
}

/** Analytics Engine cannot be read back here: what was written to it is recorded. */
function recording(): { points: AnalyticsEngineDataPoint[]; ANALYTICS: AnalyticsEngineDataset } {
  const points: AnalyticsEngineDataPoint[] = [];
  return { points, ANALYTICS: { writeDataPoint: (point) => void (point && points.push(point)) } };
}

test("one object for each environment and hour of receipt, one line for each event", async () => {
  const { explicitAcks } = await deliver([
    { id: "m1", body: queued("env_a", [exposure, null, metric], { firstIndex: 3 }) },
    { id: "m2", body: queued("env_b", [metric], { source: "client" }) },
    { id: "m3", body: queued("env_a", [metric], { receivedAt: receivedAt + 5_000 }) },
  ]);
  expect(explicitAcks).toEqual(["m1", "m2", "m3"]);

  const a = await stored("env_a");
  expect(Object.keys(a)).toEqual([
    expect.stringMatching(/^events\/environment=env_a\/date=2026-11-20\/hour=13\/[0-9a-f]{32}\.ndjson\.gz$/),
    expect.stringMatching(/^events\/environment=env_a\/date=2026-11-20\/hour=14\/[0-9a-f]{32}\.ndjson\.gz$/),
  ]);
  const common = { environment: "env_a", source: "server", sdk: { name: "node", version: "1.0.0" }, batchId };
  expect(Object.values(a)).toEqual([
    [
      { ...common, receivedAt, index: 3, ...exposure },
      { ...common, receivedAt, index: 5, ...metric },
    ],
    [{ ...common, receivedAt: receivedAt + 5_000, index: 0, ...metric }],
  ]);
  expect(Object.values(await stored("env_b"))).toMatchObject([[{ environment: "env_b", source: "client", index: 0 }]]);
});

test("a delivery that comes again, in another order, overwrites itself", async () => {
  const first = { id: "m1", body: queued("env_again", [exposure]) };
  const second = { id: "m2", body: queued("env_again", [metric], { firstIndex: 1 }) };
  await deliver([first, second]);
  await deliver([second, first]);
  expect(Object.values(await stored("env_again")).map((lines) => lines.length)).toEqual([2]);
});

test("a batch that its SDK sends again has the same batchId and indexes, by which readers count it once", async () => {
  const body = queued("env_resent", [exposure, metric]);
  await deliver([{ id: "m1", body }]);
  await deliver([{ id: "m2", body: { ...body, receivedAt: receivedAt + 1_000 } }]);
  const lines = Object.values(await stored("env_resent")).flat();
  expect(lines).toHaveLength(4);
  expect(new Set(lines.map((line) => `${line.batchId} ${line.index}`)).size).toBe(2);
});

test("where R2 fails for one environment, only its messages are retried, ever later", async () => {
  const bucket = {
    put: (...[key, value, options]: [string, ArrayBuffer, R2PutOptions]) =>
      key.includes("env_unlucky")
        ? Promise.reject(new Error("R2 is away"))
        : env.EVENTS_BUCKET.put(key, value, options),
  } as R2Bucket;
  const { points, ANALYTICS } = recording();
  const result = await deliver(
    [
      { id: "m1", body: queued("env_unlucky", [exposure]) },
      { id: "m2", body: queued("env_lucky", [exposure]) },
    ],
    { EVENTS_BUCKET: bucket, ANALYTICS },
  );
  expect(result.explicitAcks).toEqual(["m2"]);
  expect(result.retryMessages).toEqual([{ msgId: "m1" }]);
  expect(Object.values(await stored("env_lucky")).flat()).toHaveLength(1);
  // What is retried is counted when it arrives, not twice.
  expect(points.map(({ indexes }) => indexes)).toEqual([["env_lucky"]]);
  // The plugin's QueueResult leaves delays out.
  expect([1, 2, 3, 4, 5, 6].map(retryDelaySeconds)).toEqual([30, 120, 480, 1_920, 7_680, 7_680]);
});

test("messages that cannot be read go to the dead-letter queue by being retried, and hold up nobody", async () => {
  const poison = [
    null,
    "text",
    {},
    { ...queued("env_poison", []), receivedAt: "soon" },
    { ...queued("env_poison", []), receivedAt: 1e300 },
  ];
  const result = await deliver([
    ...poison.map((body, index) => ({ id: `poison${index}`, body })),
    { id: "good", body: queued("env_poison", [metric]) },
    // Written as it is, though it cannot be counted.
    { id: "odd", body: queued("env_poison", [{ kind: "summary" } as SummaryEvent]) },
  ]);
  expect(result.explicitAcks).toEqual(["good", "odd"]);
  expect(result.retryMessages.map(({ msgId }) => msgId)).toEqual(poison.map((_, index) => `poison${index}`));
});

test("Analytics Engine gets one point for each decision, SDK and source, with what sampling left out", async () => {
  const { points, ANALYTICS } = recording();
  const counted = (variation: string, flagVersion: number, count: number) => ({
    flag: "new-checkout",
    variation,
    reason: "SPLIT",
    flagVersion,
    count,
  });
  const summary = (...counts: SummaryEvent["counts"]): SummaryEvent => ({ kind: "summary", from: 0, to: 1, counts });
  await deliver(
    [
      {
        id: "m1",
        body: queued("env_points", [exposure, metric, summary(counted("on", 12, 70), counted("off", 12, 20))]),
      },
      { id: "m2", body: queued("env_points", [exposure, summary(counted("on", 13, 30))]) },
    ],
    { ANALYTICS },
  );
  const evaluation = (variation: string) => [
    "evaluation",
    "new-checkout",
    variation,
    "SPLIT",
    "node",
    "1.0.0",
    "",
    "server",
  ];
  expect(points).toEqual([
    { indexes: ["env_points"], blobs: evaluation("on"), doubles: [100, 100, 13] },
    { indexes: ["env_points"], blobs: evaluation("off"), doubles: [20, 20, 12] },
    {
      indexes: ["env_points"],
      blobs: ["exposure", "new-checkout", "on", "RULE_MATCH", "node", "1.0.0", "exp_1", "server"],
      doubles: [2, 4, 12],
    },
  ]);
});

test("at most 250 points an invocation: the smallest are left out", async () => {
  const { points, ANALYTICS } = recording();
  const counts = Array.from({ length: 400 }, (_, index) => ({
    flag: `flag-${index}`,
    variation: null,
    reason: "OFF",
    flagVersion: 1,
    count: index + 1,
  }));
  const body = queued("env_many", [{ kind: "summary", from: 0, to: 1, counts }]);
  await deliver([{ id: "m1", body }], { ANALYTICS });
  expect(points).toHaveLength(MAX_POINTS);
  expect(points.map(({ doubles }) => doubles?.[0])).toEqual(Array.from({ length: 250 }, (_, index) => 400 - index));
});

test("an event that is posted reaches R2 through the real Queue", { timeout: 30_000 }, async () => {
  const request = new Request("https://edge/sdk/v1/events", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ batchId, events: [exposure, { kind: "later" }, metric] }),
  });
  const sender = { environmentId: "env_flow", keyId: crypto.randomUUID(), kind: "server", now: receivedAt } as const;
  const answer = await acceptEvents(request, env, { ...sender, clientHeader: "node/1.4.0;name=shop" });
  expect(answer.status).toBe(202);
  await expect
    .poll(async () => Object.values(await stored("env_flow")).flat(), { timeout: 25_000, interval: 250 })
    .toMatchObject([
      { batchId, index: 0, kind: "exposure", receivedAt, sdk: { name: "node", version: "1.4.0" } },
      { batchId, index: 2, kind: "metric" },
    ]);
});

describe("dead letters", () => {
  const sent: unknown[] = [];
  const EVENTS_QUEUE = {
    sendBatch: async (messages: { body: unknown }[]) => void sent.push(...messages.map(({ body }) => body)),
  } as unknown as Env["EVENTS_QUEUE"];
  const dead = (bodies: unknown[]) =>
    createMessageBatch(
      DEAD_LETTERS,
      bodies.map((body, index) => ({ id: `dead${index}`, body, attempts: 1, timestamp: new Date(receivedAt) })),
    );

  test("what was acknowledged with 202 and could not be delivered is kept, and sent again until it can be (Q8)", async () => {
    const letters = Array.from({ length: 5 }, (_, firstIndex) => queued("env_dead", [metric], { firstIndex }));
    const large = queued("env_dead", [{ ...metric, metric: "x".repeat(90_000) }]);
    const odd = { from: "another version" };
    const batch = dead([...letters, odd, large, large]);
    await worker.queue(batch as never, env);
    expect((await getQueueResult(batch, createExecutionContext())).ackAll).toBe(true);

    const away = { sendBatch: () => Promise.reject(new Error("away")) } as unknown as Env["EVENTS_QUEUE"];
    await expect(replayDeadLetters({ ...env, EVENTS_QUEUE: away })).rejects.toThrow("away");
    expect(await replayDeadLetters({ ...env, EVENTS_QUEUE })).toBe(7);
    expect(sent).toEqual([...letters, large, large]);
    expect(await replayDeadLetters({ ...env, EVENTS_QUEUE })).toBe(0);
    // What nobody can read yet is not thrown away.
    const { objects } = await env.EVENTS_BUCKET.list({ prefix: "unreadable/" });
    const texts = await Promise.all(objects.map(async ({ key }) => (await env.EVENTS_BUCKET.get(key))!.json()));
    expect(texts).toEqual([odd]);
  });

  test("while R2 is away they stay in their queue", async () => {
    const batch = dead([queued("env_dead", [metric])]);
    const EVENTS_BUCKET = { put: () => Promise.reject(new Error("away")) } as unknown as R2Bucket;
    await worker.queue(batch as never, { ...env, EVENTS_BUCKET });
    const result = await getQueueResult(batch, createExecutionContext());
    expect([result.ackAll, result.retryBatch.retry]).toEqual([false, true]);
  });
});
