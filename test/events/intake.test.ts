import { env } from "cloudflare:workers";
import { gzipSync } from "node:zlib";
import { MAX_EVENT_BYTES } from "@bunting/core/wire";
import { describe, expect, test } from "vitest";
import { acceptEvents } from "../../workers/edge/events/intake.ts";
import type { Env } from "../../workers/env.ts";
import { problemResponse } from "../../workers/platform/problem.ts";

const now = Date.UTC(2026, 10, 20, 13, 30);
const batchId = "0190b3c2-7c1e-7a70-9d5f-2b7f3f1c9a11";
const exposure = {
  kind: "exposure",
  at: now - 1_000,
  flag: "new-checkout",
  flagVersion: 12,
  variation: "on",
  reason: "RULE_MATCH",
  experiment: null,
  unit: "user-42",
  sampleRate: 1,
};
const metric = { kind: "metric", at: now - 1_000, metric: "checkout-completed", unit: "user-42", value: 1 };
const count = { flag: "new-checkout", variation: "on", reason: "RULE_MATCH", flagVersion: 12, count: 7 };
const summary = { kind: "summary", from: now - 30_000, to: now, counts: [count] };

type Answer = {
  code?: string;
  detail?: string;
  errors?: { pointer: string; code: string }[];
  accepted?: number;
  dropped?: number;
  clamped?: number;
};
type Sending = {
  headers?: Record<string, string>;
  bindings?: Partial<Env>;
  keyId?: string;
  kind?: "server" | "client";
};

async function post(body: BodyInit | null, { headers = {}, bindings = {}, keyId, kind = "server" }: Sending = {}) {
  const request = new Request("https://edge/sdk/v1/events", {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });
  const sender = { environmentId: "env_intake", keyId: keyId ?? crypto.randomUUID(), now };
  const response = await acceptEvents(request, { ...env, ...bindings }, { ...sender, kind, clientHeader: null }).catch(
    (error: unknown) => problemResponse(error, "test"),
  );
  return { status: response.status, headers: response.headers, answer: await response.json<Answer>() };
}

const send = (batch: unknown, sending?: Sending) => post(JSON.stringify(batch), sending);
const sendEvents = (...events: unknown[]) => send({ batchId, events });
const pointers = (answer: Answer) => answer.errors?.map(({ pointer, code }) => `${pointer} ${code}`);

describe("what is accepted", () => {
  test("every kind of event", async () => {
    const attributes = { plan: "pro", org: { size: 3, tags: ["a", "b"] } };
    const { status, answer } = await sendEvents(exposure, { ...exposure, attributes }, metric, summary);
    expect({ status, answer }).toEqual({ status: 202, answer: { accepted: 4, dropped: 0, clamped: 0 } });
  });

  test("gzip", async () => {
    const body = gzipSync(JSON.stringify({ batchId, events: [exposure] }));
    expect((await post(body, { headers: { "content-encoding": "gzip" } })).status).toBe(202);
  });

  test("text/plain, which is what a closing page can send, from client keys alone", async () => {
    const headers = { "content-type": "text/plain;charset=UTF-8" };
    const batch = { batchId, events: [metric] };
    expect((await send(batch, { headers, kind: "client" })).status).toBe(202);
    expect((await send(batch, { headers })).status).toBe(415);
    const form = { "content-type": "application/x-www-form-urlencoded" };
    expect((await send(batch, { headers: form, kind: "client" })).status).toBe(415);
  });

  test("a batch without events", async () => {
    expect((await sendEvents()).answer).toEqual({ accepted: 0, dropped: 0, clamped: 0 });
  });

  test("exactly 1,000 events", async () => {
    expect((await sendEvents(...Array(1_000).fill(metric))).answer.accepted).toBe(1_000);
  });

  test("what a later SDK adds: kinds of event are counted and dropped, fields are left out", async () => {
    const later = { kind: "heat-map", at: "noon", grid: [[1]] };
    const { status, answer } = await send({
      batchId,
      added: 1,
      events: [later, { ...metric, currency: "EUR" }, later],
    });
    expect({ status, answer }).toEqual({ status: 202, answer: { accepted: 1, dropped: 2, clamped: 0 } });
  });

  test("times that are too old or ahead, which are clamped and counted", async () => {
    const { answer } = await sendEvents({ ...metric, at: 0 }, { ...metric, at: now + 3_600_000 }, metric);
    expect(answer).toEqual({ accepted: 3, dropped: 0, clamped: 2 });
  });

  test("hostile names and bad Unicode, which are only text", async () => {
    const text = `{"batchId":"${batchId}","__proto__":{"polluted":1},"events":[${JSON.stringify(exposure).slice(0, -1)},
      "__proto__":{"flag":7},"constructor":1,"unit":"\\ud800","attributes":{"__proto__":{"polluted":1},"x":"\\udfff"}}]}`;
    expect((await post(text)).status).toBe(202);
    expect("polluted" in {}).toBe(false);
  });
});

describe("what is refused, and where", () => {
  test("a body that is no JSON, no UTF-8, empty, or no gzip", async () => {
    const gzip = { headers: { "content-encoding": "gzip" } };
    const truncated = gzipSync("{}").subarray(0, 12);
    for (const body of ["{", "", new Uint8Array([0x22, 0xff, 0x22]), "[".repeat(500_000)]) {
      const { status, answer } = await post(body);
      expect([status, answer.code]).toEqual([400, "invalid-request"]);
    }
    for (const body of ["{}", truncated, new Uint8Array()]) expect((await post(body, gzip)).status).toBe(400);
    expect((await post(null)).status).toBe(400);
  });

  test("an encoding that is not offered", async () => {
    const { status, answer } = await post("{}", { headers: { "content-encoding": "br" } });
    expect([status, answer.code]).toEqual([415, "unsupported-encoding"]);
  });

  test("a document of another shape", async () => {
    for (const body of [null, 1, "x", [], true]) expect(pointers((await send(body)).answer)).toEqual([" wrong-type"]);
    expect(pointers((await send({})).answer)).toEqual(["/batchId required", "/events wrong-type"]);
    expect(pointers((await send({ batchId, events: { length: 1 } })).answer)).toEqual(["/events wrong-type"]);
    expect(pointers((await send({ batchId: 7, events: [] })).answer)).toEqual(["/batchId wrong-type"]);
    expect(pointers((await send({ batchId: "batch-1", events: [] })).answer)).toEqual(["/batchId not-a-uuid"]);
    expect(pointers((await send({ batchId: `${batchId}0`, events: [] })).answer)).toEqual(["/batchId too-long"]);
  });

  test("1,001 events", async () => {
    const { status, answer } = await sendEvents(...Array(1_001).fill(metric));
    expect([status, pointers(answer)]).toEqual([400, ["/events too-many"]]);
  });

  test("every mistake of every event, with its pointer", async () => {
    const wrongExposure = {
      ...exposure,
      at: "now",
      flag: null,
      flagVersion: 1.5,
      variation: 1,
      sampleRate: 0,
      unit: 42,
    };
    const { status, answer } = await sendEvents(
      { ...wrongExposure, experiment: false, reason: undefined, attributes: [] },
      "exposure",
      { kind: 3 },
      { ...metric, value: null, metric: "m".repeat(257) },
      { ...summary, counts: [count, { ...count, count: -1, flag: ["x"] }, null] },
      { ...summary, from: undefined, counts: {} },
    );
    expect(status).toBe(400);
    expect(answer.code).toBe("invalid-request");
    expect(pointers(answer)?.toSorted()).toEqual([
      "/events/0/at wrong-type",
      "/events/0/attributes wrong-type",
      "/events/0/experiment wrong-type",
      "/events/0/flag wrong-type",
      "/events/0/flagVersion out-of-range",
      "/events/0/reason required",
      "/events/0/sampleRate out-of-range",
      "/events/0/unit wrong-type",
      "/events/0/variation wrong-type",
      "/events/1 wrong-type",
      "/events/2/kind wrong-type",
      "/events/3/metric too-long",
      "/events/3/value wrong-type",
      "/events/4/counts/1/count out-of-range",
      "/events/4/counts/1/flag wrong-type",
      "/events/4/counts/2 wrong-type",
      "/events/5/counts wrong-type",
      "/events/5/from required",
    ]);
  });

  test("an infinity, which JSON can spell", async () => {
    const text = JSON.stringify({ batchId, events: [metric] }).replace('"value":1', '"value":1e999');
    expect(pointers((await post(text)).answer)).toEqual(["/events/0/value out-of-range"]);
  });

  test("more mistakes than anybody reads: a hundred are listed, all are counted", async () => {
    const { answer } = await sendEvents(...Array(500).fill({}));
    expect(answer.errors).toHaveLength(100);
    expect(answer.detail).toContain("500");
  });

  test("huge strings, an event too large for a message, attributes too deep", async () => {
    const nested = (levels: number): unknown => (levels === 0 ? 1 : { a: nested(levels - 1) });
    const { answer } = await sendEvents(
      { ...exposure, unit: "u".repeat(1_025) },
      { ...exposure, attributes: { bio: "b".repeat(99_000) } },
      { ...summary, counts: Array(1_500).fill(count) },
      { ...exposure, attributes: nested(10) },
      { ...exposure, attributes: nested(11) },
    );
    expect(pointers(answer)).toEqual([
      "/events/0/unit too-long",
      "/events/1 too-large",
      "/events/2 too-large",
      "/events/4/attributes too-deep",
    ]);
  });

  test("attributes nested a hundred thousand levels deep, without a stack overflow", async () => {
    const deep = `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`;
    const text = `{"batchId":"${batchId}","events":[${JSON.stringify(exposure).slice(0, -1)},"attributes":${deep}}]}`;
    expect((await post(text)).status).toBe(400);
  });

  test("more than 1 MB: announced, streamed, or hidden in gzip", async () => {
    const spaces = (bytes: number) => new Uint8Array(bytes).fill(0x20);
    const streamed = new ReadableStream({
      pull(controller) {
        controller.enqueue(spaces(65_536));
      },
    });
    const bomb = gzipSync(new Uint8Array(100_000_000));
    expect(bomb.byteLength).toBeLessThan(MAX_EVENT_BYTES);
    const refused = [
      await post(spaces(MAX_EVENT_BYTES + 1)),
      await post(streamed),
      await post(bomb, { headers: { "content-encoding": "gzip" } }),
    ];
    for (const { status, answer } of refused) expect([status, answer.code]).toEqual([413, "body-too-large"]);
    expect((await post(spaces(MAX_EVENT_BYTES))).status).toBe(400);
  });
});

describe("when to come back", () => {
  test("a client key has a limit of its own, which its limiter grants in lots", async () => {
    const bindings = {
      EVENTS_PER_SECOND: "0.01",
      EVENTS_BURST: "1",
      CLIENT_EVENTS_PER_SECOND: "0.01",
      CLIENT_EVENTS_BURST: "60",
    };
    const keyId = crypto.randomUUID();
    const statuses: number[] = [];
    for (let i = 0; i < 130; i++) {
      statuses.push((await send({ batchId, events: [] }, { bindings, keyId, kind: "client" })).status);
    }
    expect(statuses.slice(0, 50)).toEqual(Array(50).fill(202));
    // Fifty at a time, and no more than the burst but for what a limiter that starts slowly lets through uncounted.
    expect(statuses.at(-1)).toBe(429);
    const refused = await send({ batchId, events: [] }, { bindings, keyId, kind: "client" });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await send({ batchId, events: [] }, { bindings, kind: "client" })).status).toBe(202);
  });

  test("a key that sends too often gets 429, another key does not", async () => {
    const bindings = { EVENTS_PER_SECOND: "0.01", EVENTS_BURST: "2" };
    const keyId = crypto.randomUUID();
    // More than the burst: a limiter that starts slowly on a busy machine lets the first ones through uncounted.
    const statuses: number[] = [];
    for (let i = 0; i < 8; i++) statuses.push((await send({ batchId, events: [] }, { bindings, keyId })).status);
    expect(statuses.at(-1)).toBe(429);
    const refused = await send({ batchId, events: [] }, { bindings, keyId });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(refused.answer.code).toBe("too-many-requests");
    expect((await send({ batchId, events: [] }, { bindings })).status).toBe(202);
  });

  test("a queue that fails or hangs is a 503, never a 202", { timeout: 15_000 }, async () => {
    const queue = (disturb: () => Promise<void>) => ({
      EVENTS_QUEUE: {
        send: (...message: Parameters<typeof env.EVENTS_QUEUE.send>) => env.EVENTS_QUEUE.send(...message),
        sendBatch: async (...messages: Parameters<typeof env.EVENTS_QUEUE.sendBatch>) => {
          await disturb();
          return env.EVENTS_QUEUE.sendBatch(...messages);
        },
      } as typeof env.EVENTS_QUEUE,
    });
    const failing = queue(() => Promise.reject(new Error("Queue is overloaded")));
    const hanging = queue(() => scheduler.wait(8_000));
    for (const bindings of [failing, hanging]) {
      const { status, headers, answer } = await send({ batchId, events: [metric] }, { bindings });
      expect([status, answer.code]).toEqual([503, "unavailable"]);
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
    }
  });
});
