import fc from "fast-check";
import { expect, test } from "vitest";
import {
  MAX_ONE_EVENT_BYTES,
  NEWEST_MS,
  OLDEST_MS,
  type ParsedBatch,
  parseBatch,
} from "../../workers/edge/events/batch.ts";
import { MAX_CALL_BYTES, MAX_CALL_MESSAGES, MAX_MESSAGE_BYTES, pack, sdkOf } from "../../workers/edge/events/intake.ts";

const now = Date.UTC(2026, 10, 20, 13, 30);
const batchId = "0190b3c2-7c1e-7a70-9d5f-2b7f3f1c9a11";
const envelope = {
  environment: "env_packing",
  source: "server" as const,
  sdk: { name: "node", version: "1.0.0" },
  batchId,
  receivedAt: now,
};
const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value)).byteLength;

function parsed(events: unknown[]): ParsedBatch & { ok: true } {
  const batch = parseBatch({ batchId, events }, now);
  if (!batch.ok) throw new Error(JSON.stringify(batch.errors));
  return batch;
}

const unit = fc.string({ unit: "binary", maxLength: 200 });
const event = fc.oneof(
  fc.record({ kind: fc.constant("later"), payload: fc.jsonValue() }),
  fc.record({ kind: fc.constant("metric"), at: fc.integer(), metric: unit, unit, value: fc.integer() }),
  fc.record({
    kind: fc.constant("exposure"),
    at: fc.integer(),
    flag: unit,
    flagVersion: fc.nat(),
    variation: fc.option(unit),
    reason: fc.constantFrom("RULE_MATCH", "FALLTHROUGH"),
    experiment: fc.option(unit),
    unit,
    sampleRate: fc.double({ min: 0.001, max: 1, noNaN: true }),
    attributes: fc.record({ bio: fc.nat(60_000).map((length) => "b".repeat(length)) }),
  }),
);

test("packing keeps every event, its index and the Queue's limits", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const batch = parsed(events);
      const calls = pack(envelope, batch.events);
      for (const call of calls) {
        expect(call.length).toBeLessThanOrEqual(MAX_CALL_MESSAGES);
        expect(call.reduce((sum, message) => sum + bytes(message), 0)).toBeLessThanOrEqual(MAX_CALL_BYTES);
        for (const message of call) expect(bytes(message)).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
      }
      const packed = calls
        .flat()
        .flatMap((message) => message.events.map((queued, offset) => [message.firstIndex + offset, queued] as const))
        .filter(([, queued]) => queued !== null);
      const sent = batch.events.flatMap((sized, index) =>
        sized.event === null ? [] : [[index, sized.event] as const],
      );
      expect(packed).toEqual(sent);
    }),
  );
});

test("parsing is total and idempotent: what it lets through, it lets through again unchanged", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 5 }), (events) => {
      const once = parsed(events).events.flatMap((sized) => sized.event ?? []);
      expect(parsed(once).events.map((sized) => sized.event)).toEqual(once);
    }),
  );
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.jsonValue({ maxDepth: 6 }), (anything, item) => {
      expect(parseBatch(anything, now).ok).toBe(false);
      expect(() => parseBatch({ batchId, events: [item] }, now)).not.toThrow();
    }),
  );
});

test("a full batch of ordinary events is few messages, one of unknown events none", () => {
  const metric = { kind: "metric", at: now, metric: "checkout-completed", unit: "user-42", value: 1 };
  const lengths = (events: unknown[]) => pack(envelope, parsed(events).events).map((call) => call.length);
  expect(lengths(Array(1_000).fill(metric))).toEqual([1]);
  // 370 KB are four messages, of which two fit in a call.
  const large = { ...metric, metric: "🚩".repeat(128), unit: "単".repeat(1_024) };
  expect(lengths(Array(100).fill(large))).toEqual([2, 2]);
  expect(lengths(Array(1_000).fill({ kind: "later" }))).toEqual([]);
});

test("lone surrogates become U+FFFD and no prototype survives", () => {
  const exposure = { kind: "exposure", at: now, flag: "f", flagVersion: 1, variation: null, reason: "OFF" };
  const attributes = JSON.parse('{"\\ud800":"\\udfff","__proto__":{"polluted":1},"list":["\\ud800",{"__proto__":1}]}');
  const [first] = parsed([{ ...exposure, experiment: null, unit: "\ud800", sampleRate: 1, attributes }]).events;
  expect(first?.event).toMatchObject({ unit: "\ufffd", attributes: { "\ufffd": "\ufffd", list: ["\ufffd", {}] } });
  expect(JSON.stringify(first?.event)).not.toContain("polluted");
});

test("times are clamped to two days back and ten minutes ahead, to the millisecond", () => {
  const at = (time: number) => ({ kind: "metric", at: time, metric: "paid", unit: "u", value: 1 });
  const [oldest, newest] = [now - OLDEST_MS, now + NEWEST_MS];
  const batch = parsed([at(oldest), at(newest), at(oldest - 1), at(newest + 1), at(-1e308)]);
  expect(batch.events.map((sized) => sized.event)).toMatchObject(
    [oldest, newest, oldest, newest, oldest].map((time) => ({ at: time })),
  );
  expect(batch.clamped).toBe(3);
});

test("the largest event that is let through fits in a message, whatever its SDK is called", () => {
  const decided = { kind: "exposure", at: now, flag: "f", flagVersion: 1, variation: null, reason: "OFF" };
  const exposure = { ...decided, experiment: null, unit: "u", sampleRate: 1, attributes: { bio: "" } };
  const largest = { ...exposure, attributes: { bio: "b".repeat(MAX_ONE_EVENT_BYTES - bytes(exposure)) } };
  const sdk = sdkOf(`${"\u0001".repeat(100)}/${"\u0001".repeat(100)}`);
  const [[message] = []] = pack({ ...envelope, sdk }, parsed([largest]).events);
  expect(bytes(message)).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
});

test("a summary's clock may be set back", () => {
  const [first] = parsed([{ kind: "summary", from: now, to: now - 5_000, counts: [] }]).events;
  expect(first?.event).toEqual({ kind: "summary", from: now, to: now, counts: [] });
});

test("the client header names the SDK, and anything else is survived", () => {
  expect(sdkOf("node/1.4.0;instance=0190;name=shop")).toEqual({ name: "node", version: "1.4.0" });
  for (const header of [null, "", ";", "/", "/1.0", "x".repeat(10_000), "node"]) {
    const { name, version } = sdkOf(header);
    expect(name.length).toSatisfy((length: number) => length > 0 && length <= 64);
    expect(version.length).toBeLessThanOrEqual(64);
  }
});
