import { type Context, type Decision, exposureOf, type Flag } from "@bunting/core";
import { MAX_EVENT_BYTES, type TelemetryEvent } from "@bunting/core/wire";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../../../test/support/peer.ts";
import { isSampled, unitOf } from "../../core/evaluate/exposures.ts";
import { systemClock } from "../sync/clock.ts";
import { postEvents } from "../transports/ruleset-protocol.ts";
import { encodeBatch, isFinal } from "./batches.ts";
import { type EventOptions, Events } from "./events.ts";
import { publicAttributes } from "./public-attributes.ts";

let peer: Peer;
let aheadMs: number;
let reported: string[];
const clock = { ...systemClock, elapsed: () => performance.now() + aheadMs };

beforeEach(async () => {
  peer = await new Peer(rulesetOf(1, [])).start();
  aheadMs = 0;
  reported = [];
});
afterEach(() => peer.stop());

function buffer(options: EventOptions = {}): Events {
  const headers = { Authorization: `Bearer ${SERVER_KEY}` };
  const endpoint = { url: peer.url, headers: () => headers, fetch: (url: string, init: object) => fetch(url, init) };
  return new Events(
    postEvents(endpoint),
    clock,
    () => crypto.randomUUID(),
    options,
    (message) => reported.push(message),
  );
}
const decision = (more: Partial<Decision> = {}): Decision => ({
  value: true,
  variation: "on",
  reason: "STATIC",
  flagVersion: 3,
  ...more,
});
const tracked = booleanFlag("new-checkout", true, 3, { trackExposures: true });
const sent = (): TelemetryEvent[] => peer.batches.flatMap(({ events }) => events);
const see = (
  events: Events,
  unit: string,
  more: { flag?: Flag; context?: Context; decision?: Partial<Decision>; rate?: number } = {},
) => {
  const context = { targetingKey: unit, ...more.context };
  const made = decision(more.decision);
  events.evaluated("new-checkout", made, context, exposureOf(more.flag ?? tracked, made, context, more.rate ?? 1));
};

describe("summaries", () => {
  test("count every evaluation by flag, variation, reason and version", async () => {
    const events = buffer();
    for (let n = 0; n < 3; n++) events.evaluated("quiet", decision(), {});
    events.evaluated("quiet", decision({ variation: "off" }), {});
    events.evaluated("no-such", decision({ variation: null, reason: "ERROR", flagVersion: 0 }), {});
    await events.flush();
    expect(sent()).toEqual([
      {
        kind: "summary",
        from: expect.any(Number),
        to: expect.any(Number),
        counts: [
          { flag: "quiet", variation: "on", reason: "STATIC", flagVersion: 3, count: 3 },
          { flag: "quiet", variation: "off", reason: "STATIC", flagVersion: 3, count: 1 },
          { flag: "no-such", variation: null, reason: "ERROR", flagVersion: 0, count: 1 },
        ],
      },
    ]);
  });

  test("of keys made up at run time are bounded (Q9)", () => {
    const events = buffer();
    for (let n = 0; n < 20_100; n++) events.evaluated(`flag-${n}`, decision(), {});
    expect(events).toMatchObject({ buffered: 20_000, dropped: 100 });
  });

  test("are split so that no event is larger than the intake takes", async () => {
    const events = buffer();
    const longest = "k".repeat(256);
    events.evaluated(`${longest}!`, decision(), {});
    events.evaluated(longest, decision({ variation: longest }), {});
    for (let n = 1; n < 250; n++) events.evaluated(`flag-${n}`, decision(), {});
    await events.flush();
    expect(sent().map((event) => event.kind === "summary" && event.counts.length)).toEqual([100, 100, 50]);
  });
});

describe("exposures (R13)", () => {
  const exposures = () => sent().filter((event) => event.kind === "exposure");

  test("go out once for a unit, flag and variation, and again in the next window", async () => {
    const events = buffer();
    for (let n = 0; n < 5; n++) see(events, "u1");
    see(events, "u2");
    see(events, "u1", { decision: { variation: "off" } });
    await events.flush();
    expect(exposures()).toHaveLength(3);
    see(events, "u1");
    await events.flush();
    expect(exposures()).toHaveLength(4);
  });

  test("are only of flags that track or run an experiment, and never of errors", async () => {
    const events = buffer();
    see(events, "u1", { flag: booleanFlag("new-checkout", true, 3) });
    see(events, "u2", { decision: { reason: "ERROR", variation: null } });
    see(events, "", {});
    see(events, "u3", { flag: booleanFlag("new-checkout", true, 3, { experiment: "exp_1" }) });
    await events.flush();
    expect(exposures()).toMatchObject([{ unit: "u3", experiment: "exp_1", sampleRate: 1, flagVersion: 3 }]);
  });

  test("carry attributes only when asked, and then neither the targeting key nor private ones", async () => {
    const context = { plan: "pro", email: "a@b.c" };
    const silent = buffer();
    see(silent, "u1", { context });
    await silent.flush();
    const open = buffer({ sendAttributes: true, privateAttributes: ["email"] });
    see(open, "u1", { context });
    await open.flush();
    expect(exposures().map((event) => event.attributes)).toEqual([undefined, { plan: "pro" }]);
    expect(JSON.stringify(sent())).not.toContain("a@b.c");
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    expect(publicAttributes({ targetingKey: "u1", a: 1, b: 2, cycle }, ["b"])).toEqual({ a: 1 });
  });

  test("go out as often as the environment asks, within bounds, and not at the same moment as everybody's (Q5)", () => {
    const events = buffer();
    const window = (summarySeconds: number, random: number) => {
      events.configure({ exposureSampleRate: 1, summarySeconds });
      return Math.round(events.nextWindow(() => random));
    };
    expect([window(30, 0), window(30, 0.5), window(30, 1)]).toEqual([24_000, 30_000, 36_000]);
    expect([window(3_600, 0.5), window(1e9, 0.5), window(0, 0.5)]).toEqual([3_600_000, 3_600_000, 1_000]);
  });

  test("are sampled by hash of the unit: the same units always, at the rate asked", async () => {
    const units = Array.from({ length: 10_000 }, (_, n) => `user-${n}`);
    const tenth = units.filter((unit) => isSampled(unit, 0.1));
    expect(tenth.length).toBeGreaterThan(850);
    expect(tenth.length).toBeLessThan(1_150);
    expect(tenth.every((unit) => isSampled(unit, 0.5))).toBe(true);
    expect([isSampled("u", 0), isSampled("u", 1)]).toEqual([false, true]);
    const events = buffer();
    for (const unit of units) see(events, unit, { rate: 0.1 });
    await events.flush();
    expect(exposures().map((event) => event.unit)).toEqual(tenth);
    expect(exposures()[0]?.sampleRate).toBe(0.1);
  });

  test("name the unit that the split hashed", () => {
    const split = (by: string) => ({ split: { by, seed: "s", hash: "xxh32", ranges: [] } });
    const flag = booleanFlag("f", true, 1, {
      fallthrough: split("company"),
      rules: [{ id: "r", conditions: [], serve: split("/org/id") }],
    });
    const context = { targetingKey: "u1", company: "acme", org: { id: 12 } };
    expect(unitOf(flag, decision(), context)).toBe("u1");
    expect(unitOf(flag, decision({ bucket: 5 }), context)).toBe("acme");
    expect(unitOf(flag, decision({ bucket: 5, ruleIndex: 0 }), context)).toBe("12");
    expect(unitOf(flag, decision({ bucket: 5, ruleIndex: 0 }), { targetingKey: "u1" })).toBeNull();
    expect(unitOf({ ...flag, fallthrough: split("key") }, decision({ bucket: 5 }), { ...context, key: "other" })).toBe(
      "u1",
    );
  });
});

describe("sending (Q8)", () => {
  test("a batch that failed goes out again under the same id, before newer events", async () => {
    const events = buffer();
    const ids: string[] = [];
    peer.refuse = { events: 503 };
    events.metric("paid", "u1", 12.5);
    await events.flush();
    await events.flush();
    events.metric("paid", "u2", 1);
    peer.refuse = {};
    await events.flush();
    for (const { batchId } of peer.batches) ids.push(batchId);
    expect(new Set(ids).size).toBe(2);
    expect(sent()).toMatchObject([{ unit: "u1", value: 12.5 }, { unit: "u2" }]);
    expect(events).toMatchObject({ buffered: 0, dropped: 0 });
    expect(reported).toEqual(["events could not be sent (kept): the server answered 503"]);
  });

  test("an answer that was lost is not counted twice: the second try has the first one's id", async () => {
    const bodies: string[] = [];
    const endpoint = {
      url: peer.url,
      headers: () => ({ Authorization: `Bearer ${SERVER_KEY}` }),
      async fetch(url: string, init: { body?: string }) {
        bodies.push(init.body ?? "");
        const response = await fetch(url, init);
        if (bodies.length === 1) throw new Error("connection reset");
        return response;
      },
    };
    const events = new Events(
      postEvents(endpoint),
      clock,
      () => crypto.randomUUID(),
      {},
      () => {},
    );
    events.metric("paid", "u1", 1);
    await events.flush();
    await events.flush();
    expect(bodies).toHaveLength(2);
    expect(bodies[1]).toBe(bodies[0]);
    expect(new Set(peer.batches.map(({ batchId }) => batchId)).size).toBe(1);
  });

  test("Retry-After is waited for (Q9)", async () => {
    const events = buffer();
    peer.refuse = { events: 429 };
    peer.headers = { "Retry-After": "20" };
    events.metric("paid", "u1", 1);
    await events.flush();
    peer.refuse = {};
    await events.flush();
    expect(peer.batches).toHaveLength(0);
    aheadMs += 20_000;
    await events.flush();
    expect(peer.batches).toHaveLength(1);
  });

  test("a batch that can never be taken is dropped and counted; a refused key keeps it", async () => {
    const events = buffer();
    peer.refuse = { events: 400 };
    events.metric("paid", "u1", 1);
    await events.flush();
    expect(events).toMatchObject({ buffered: 0, dropped: 1 });
    expect([401, 403, 404, 408, 429, 500].some(isFinal)).toBe(false);
  });

  test("a full buffer drops the oldest and counts them (Q9)", async () => {
    const events = buffer({ maxBuffered: 10 });
    for (let n = 0; n < 25; n++) events.metric("paid", `u${n}`, 1);
    expect(events).toMatchObject({ buffered: 10, dropped: 15 });
    await events.flush();
    expect(sent()[0]).toMatchObject({ unit: "u15" });
  });

  test("who has been exposed is not remembered without bound while nothing can be sent (Q9)", () => {
    const events = buffer({ maxBuffered: 5 });
    for (let n = 0; n < 20_000; n++) see(events, `user-${n}`);
    expect(events.dropped).toBe(19_995);
    see(events, "user-19999");
    expect(events.dropped).toBe(19_995);
    see(events, "one more");
    // Forgotten with all the others, so that it goes out again.
    see(events, "user-19999");
    expect(events.dropped).toBe(19_997);
  });

  test("flushes at the same time send once", async () => {
    const events = buffer();
    events.metric("paid", "u1", 1);
    await Promise.all([events.flush(), events.flush(), events.flush()]);
    expect(peer.batches).toHaveLength(1);
  });

  test("batches hold at most a thousand events and a megabyte", async () => {
    const events = buffer();
    for (let n = 0; n < 2_100; n++) events.metric("paid", `u${n}`, 1);
    expect(events.isFull).toBe(true);
    await events.flush();
    expect(peer.batches.map((batch) => batch.events.length)).toEqual([1_000, 1_000, 100]);

    const metric = (unit: string): TelemetryEvent => ({ kind: "metric", at: 1, metric: "m", unit, value: 1 });
    const long = "é".repeat(100);
    const first = encodeBatch("id", [metric(long), metric(long), metric(long)], 700);
    expect(first.taken).toBe(2);
    expect(new TextEncoder().encode(first.body).length).toBeLessThanOrEqual(700);
    expect(encodeBatch("id", [metric("x".repeat(65_536))], MAX_EVENT_BYTES)).toMatchObject({ taken: 1, tooLarge: 1 });
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const exposure = { ...metric("u"), kind: "exposure", attributes: circular } as unknown as TelemetryEvent;
    const rest = encodeBatch("id", [metric("x".repeat(900)), exposure, metric("ok")], 700);
    expect(rest).toMatchObject({ taken: 3, tooLarge: 2 });
    expect(JSON.parse(rest.body).events).toHaveLength(1);
  });
});
