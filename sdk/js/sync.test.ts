import type { Ruleset } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import { describe, expect, test } from "vitest";
import { transition } from "./sync.ts";
import { backoffMs, type Effect, initialState, pollMs, type SyncEvent, type SyncState } from "./sync-state.ts";

const half = () => 0.5;
const ruleset = (revision: number): Ruleset => ({
  schema: 1,
  environment: "env_1",
  revision,
  events: { exposureSampleRate: 1, summarySeconds: 30 },
  flags: {},
  segments: {},
});
const patch = (revision: number, previous: number, ackWithinMs = 0): PatchMessage => ({
  type: "patch",
  revision,
  previous,
  publishedAt: 1,
  ackWithinMs,
  flags: {},
  segments: {},
});
const fetched = (revision: number): SyncEvent => ({
  type: "fetched",
  message: { type: "ruleset", ruleset: ruleset(revision) },
});
const hello = (revision: number, reconnectWithinMs = 0): SyncEvent => ({
  type: "message",
  message: { type: "hello", revision, reconnectWithinMs },
});
const say = (message: PatchMessage | { type: "resync"; revision: number; withinMs: number }): SyncEvent => ({
  type: "message",
  message,
});
const failed: SyncEvent = { type: "fetch-failed", end: { reason: "ECONNREFUSED" } };
const ended: SyncEvent = { type: "closed", end: { reason: "gone" } };
const timer = (name: "fetch" | "connect" | "silence" | "ping" | "ack" | "stale"): SyncEvent => ({
  type: "timer",
  name,
});

type Step = SyncEvent | [atMs: number, event: SyncEvent];

/** Runs events one after the other; answers the last state and the effects of the last event. */
function run(from: SyncState, ...steps: Step[]): { state: SyncState; effects: Effect[]; all: Effect[] } {
  let state = from;
  let effects: Effect[] = [];
  const all: Effect[] = [];
  let now = 0;
  for (const step of steps) {
    const event = Array.isArray(step) ? step[1] : step;
    if (Array.isArray(step)) now = step[0];
    ({ state, effects } = transition(state, event, now, half));
    all.push(...effects);
  }
  return { state, effects, all };
}
const kinds = (effects: Effect[]): string[] =>
  effects.map((effect) => {
    if (effect.type === "timer") return `${effect.name} in ${effect.inMs}`;
    if (effect.type === "cancel") return `no ${effect.name}`;
    if (effect.type === "fetch") return effect.atLeast === null ? "fetch" : `fetch ≥ ${effect.atLeast}`;
    if (effect.type === "open") return `open ${effect.name} since ${effect.since}`;
    if (effect.type === "install") return `install ${effect.ruleset.revision}`;
    if (effect.type === "apply") return `apply ${effect.patch.revision}`;
    if (effect.type === "acknowledge") return `acknowledge ${effect.revision}`;
    return effect.type;
  });

const start: SyncEvent = { type: "start" };
const both = initialState(["websocket", "sse"]);
const live = run(both, start, fetched(10), hello(10, 8_000)).state;

describe("starting (R15)", () => {
  test("the snapshot comes first, then a stream since its revision", () => {
    expect(kinds(run(both, start).effects)).toEqual(["fetch"]);
    const { effects } = run(both, start, fetched(10));
    expect(kinds(effects)).toContain("install 10");
    expect(kinds(effects)).toContain("open websocket since 10");
  });

  test("a first failure is retried within 250 ms, later ones ever more slowly", () => {
    const delays = [1, 2, 3, 4, 5].map((count) => {
      const steps = Array.from({ length: count }, () => [failed, timer("fetch")]).flat();
      return kinds(run(both, start, ...steps.slice(0, -1)).effects).find((kind) => kind.startsWith("fetch in"));
    });
    expect(delays).toEqual(["fetch in 125", "fetch in 1000", "fetch in 2000", "fetch in 4000", "fetch in 8000"]);
  });

  test("with a cached ruleset a stream is tried although the snapshot fails, and stale is said at once", () => {
    const { effects, state } = run(initialState(["websocket"], 7), start, failed);
    expect(kinds(effects)).toEqual(expect.arrayContaining(["stale", "open websocket since 7"]));
    expect(state).toMatchObject({ stale: true, verifiedAt: null });
    expect(run(state, hello(7)).state).toMatchObject({ stale: false, verifiedAt: 0 });
  });

  test("of the cached revision the server's copy is installed, once; an older one confirms nothing and is asked for again", () => {
    const cached = initialState([], 10);
    expect(kinds(run(cached, start, fetched(10)).effects)).toContain("install 10");
    expect(kinds(run(cached, start, fetched(10), timer("fetch"), fetched(10)).effects)).not.toContain("install 10");
    const { effects, state } = run(cached, start, fetched(9));
    expect(kinds(effects)).toEqual(["fetch in 500"]);
    expect(state).toMatchObject({ revision: 10, verifiedAt: null });
  });

  test("without a streaming transport it polls every 30 s ± 20 %", () => {
    expect(kinds(run(initialState([]), start, fetched(10)).effects)).toContain("fetch in 30000");
    expect([pollMs(() => 0), pollMs(() => 1)]).toEqual([24_000, 36_000]);
  });

  test("a Retry-After is waited for, and then the back-off too: all who were refused were told the same (Q9, X4)", () => {
    const { effects } = run(both, start, { type: "fetch-failed", end: { reason: "503", retryAfterMs: 7_000 } });
    expect(kinds(effects)).toContain("fetch in 7125");
  });
});

describe("patches", () => {
  test.each([
    ["builds on what is held", patch(11, 10), ["apply 11", "acknowledge 11"], 11],
    ["is what is held", patch(10, 9), ["acknowledge 10"], 10],
    ["is older than what is held", patch(4, 3), ["acknowledge 10"], 10],
    ["leaves a gap", patch(13, 12), ["fetch in 125"], 10],
    ["skips revisions but builds on what is held", patch(20, 10), ["apply 20", "acknowledge 20"], 20],
  ])("one that %s (Q8)", (_, message, expected, revision) => {
    const { effects, state } = run(live, say(message));
    expect(kinds(effects).filter((kind) => !/silence|stale/.test(kind))).toEqual(expected);
    expect(state.revision).toBe(revision);
  });

  test("two that overtook each other are applied in order and nothing is fetched (Q8)", () => {
    const { effects, state } = run(live, say(patch(12, 11)), say(patch(11, 10)));
    expect(kinds(effects).filter((kind) => /apply|fetch/.test(kind))).toEqual(["apply 11", "apply 12", "no fetch"]);
    expect(state.early).toEqual([]);
  });

  test("a gap that stays open is fetched, at least at the revision that was named", () => {
    const { effects } = run(live, say(patch(13, 12)), timer("fetch"));
    expect(kinds(effects)).toEqual(["fetch ≥ 13"]);
  });

  test("what arrives while a ruleset is being fetched is applied on top of it", () => {
    const { effects, state } = run(live, say(patch(13, 12)), timer("fetch"), say(patch(14, 13)), fetched(12));
    expect(kinds(effects).filter((kind) => /install|apply/.test(kind))).toEqual(["install 12", "apply 13", "apply 14"]);
    expect(state.revision).toBe(14);
  });

  test("only the last hundred early ones are kept (Q9)", () => {
    const flood = Array.from({ length: 500 }, (_, n) => say(patch(100 + n, 99 + n)));
    expect(run(live, ...flood).state.early).toHaveLength(100);
  });

  test("acknowledging waits for a moment within the window, is cumulative, and never put off by later patches (X1)", () => {
    const { effects, all, state } = run(live, say(patch(11, 10, 400)), say(patch(12, 11, 4_000)), timer("ack"));
    expect(kinds(all).filter((kind) => kind.startsWith("ack"))).toEqual(["ack in 200", "acknowledge 12"]);
    expect(kinds(effects)).toEqual(["acknowledge 12"]);
    expect(state.due.ack).toBeUndefined();
    const [late] = run(live, [1_000, say(patch(11, 10, 400))], [1_200, timer("ack")]).effects;
    expect(late).toEqual({ type: "acknowledge", revision: 11, waitedMs: 200 });
  });

  test("one that the evaluator refuses is replaced by a whole ruleset", () => {
    const { state, effects } = run(live, say(patch(11, 10)), { type: "rejected", revision: 10 }, timer("fetch"));
    expect(state.revision).toBe(10);
    expect(kinds(effects)).toEqual(["fetch ≥ 11"]);
  });
});

describe("whole rulesets", () => {
  test("a lower revision than the one held is never taken (Q8)", () => {
    const { effects, state } = run(live, say(patch(13, 12)), timer("fetch"), fetched(9));
    expect(kinds(effects).some((kind) => kind.startsWith("install"))).toBe(false);
    expect(state.revision).toBe(10);
    expect(state.due.fetch).toBeDefined();
  });

  test("a resync fetches at a random moment within its window", () => {
    const told = run(live, say({ type: "resync", revision: 15, withinMs: 4_000 }));
    expect(kinds(told.effects)).toContain("fetch in 2000");
    expect(kinds(run(told.state, timer("fetch")).effects)).toEqual(["fetch ≥ 15"]);
    expect(kinds(run(told.state, timer("fetch"), fetched(15)).effects)).toContain("acknowledge 15");
  });

  test("a resync to what is held already only needs an acknowledgement", () => {
    const { effects } = run(live, say({ type: "resync", revision: 10, withinMs: 4_000 }));
    expect(kinds(effects)).toContain("acknowledge 10");
    expect(kinds(effects).some((kind) => kind.startsWith("fetch"))).toBe(false);
  });

  test("a hello or heartbeat ahead of what is held is a reason to fetch only if nothing follows", () => {
    const ahead = run(both, start, fetched(10), hello(12));
    expect(kinds(ahead.effects)).toContain("fetch in 3000");
    const caught = run(ahead.state, say(patch(11, 10)), say(patch(12, 11)));
    expect(kinds(caught.effects)).toContain("no fetch");
    const beat = run(live, { type: "message", message: { type: "heartbeat", revision: 12 } });
    expect(kinds(beat.effects)).toContain("fetch in 3000");
  });
});

describe("losing a stream", () => {
  const later: Step = [10_000, ended];

  test("one that had settled is reopened within the window that hello told (X4)", () => {
    const { effects } = run(live, later);
    expect(kinds(effects)).toContain("connect in 4000");
    expect(kinds(effects)).toContain("disconnected");
  });

  test("a goodbye moves the client at a random moment within its window, without waiting for the close (X4)", () => {
    const told = run(live, [
      10_000,
      { type: "message", message: { type: "goodbye", withinMs: 6_000, reason: "deploy" } },
    ]);
    expect(kinds(told.effects)).toContain("connect in 3000");
    expect(kinds(run(told.state, [13_000, timer("connect")]).effects)).toContain("open websocket since 10");
    const closed = run(told.state, [11_000, ended]);
    expect(closed.state.due.connect).toBe(13_000);
  });

  test("a stream that says goodbye as soon as it opens is not reopened in a hot loop", () => {
    const { effects } = run(run(both, start, fetched(10), hello(10)).state, {
      type: "message",
      message: { type: "goodbye", withinMs: 0, reason: "" },
    });
    expect(kinds(effects)).toContain("connect in 500");
  });

  test("while none is up the ruleset is polled every 30 s (R15)", () => {
    const down = run(live, later);
    expect(down.state.due.fetch).toBe(40_000);
    expect(kinds(run(down.state, [40_000, timer("fetch")], fetched(11)).effects)).toContain("install 11");
  });

  test("60 s of silence closes it; anything heard puts that off; the client pings every 25 s", () => {
    expect(live.due).toMatchObject({ silence: 60_000, ping: 25_000 });
    expect(run(live, [20_000, { type: "message", message: { type: "heard" } }]).state.due.silence).toBe(80_000);
    const { effects } = run(live, [60_000, timer("silence")]);
    expect(kinds(effects).slice(0, 1)).toEqual(["disconnect"]);
    expect(kinds(run(live, [25_000, timer("ping")]).effects)).toEqual(["ping", "ping in 25000"]);
  });

  test("a connection without a hello is given up after 15 s", () => {
    const opening = run(both, start, fetched(10)).state;
    expect(opening.due.silence).toBe(15_000);
    const waiting = run(opening, [5_000, { type: "message", message: { type: "heard" } }]).state;
    expect(waiting.due.silence).toBe(15_000);
  });

  test("the last-known ruleset is reported stale when nobody confirmed it for 60 s (Q7)", () => {
    const down = run(live, later);
    expect(down.state.due.stale).toBe(60_000);
    expect(run(down.state, [60_000, timer("stale")]).effects).toEqual([{ type: "stale", forMs: 60_000 }]);
    expect(
      run(down.state, [60_000, timer("stale")], { type: "fetched", message: { type: "unchanged" } }).state.stale,
    ).toBe(false);
  });
});

describe("circuits (Q11)", () => {
  const opening = run(both, start, fetched(10)).state;
  const failures = (count: number): SyncEvent[] =>
    Array.from({ length: count }, () => [ended, timer("connect")]).flat();

  test("failures back off with full jitter from 1 s to 60 s", () => {
    expect([1, 2, 3, 7, 20].map((count) => backoffMs(count, () => 1))).toEqual([1_000, 2_000, 4_000, 60_000, 60_000]);
    expect(backoffMs(7, () => 0)).toBe(0);
    const waits = [1, 2, 3, 4].map((count) => run(opening, ...failures(count).slice(0, -1)).state.due.connect);
    expect(waits).toEqual([500, 1_000, 2_000, 4_000]);
  });

  test("five in a row open a transport's circuit and the next one is used", () => {
    const { effects, state } = run(opening, ...failures(5));
    expect(kinds(effects)).toContain("open sse since 10");
    expect(state.circuits.websocket).toEqual({ failures: 5, openUntil: 30_500 });
  });

  test("with every circuit open it polls, and half-opens the first when its time comes", () => {
    const polling = run(opening, ...failures(9), ended);
    expect(polling.state.stream).toBeNull();
    expect(polling.state.due).toMatchObject({ connect: 30_500, fetch: 30_000 });
    expect(kinds(run(polling.state, [30_500, timer("connect")]).effects)).toContain("open websocket since 10");
  });

  test("a half-open circuit that fails once is open again; one that settles is closed", () => {
    const half = run(opening, ...failures(9), ended, [30_500, timer("connect")]).state;
    expect(run(half, [30_600, ended]).state.circuits.websocket).toEqual({ failures: 6, openUntil: 61_100 });
    const settled = run(half, [30_600, hello(10)], [40_000, ended]).state;
    expect(settled.circuits.websocket).toEqual({ failures: 0, openUntil: 0 });
  });

  test("streams that die as soon as they open count as failures", () => {
    const flapping = Array.from({ length: 5 }, () => [hello(10), ended, timer("connect")]).flat();
    expect(run(opening, ...flapping).state.circuits.websocket.failures).toBe(5);
  });
});

describe("a refused key", () => {
  const refused = { reason: "revoked", refused: true };

  test("ends the stream, keeps the ruleset and is tried again after 30 to 90 s", () => {
    const { effects, state } = run(live, { type: "closed", end: refused });
    expect(kinds(effects)).toContain("fetch in 60000");
    expect(effects).toContainEqual({ type: "error", code: "REFUSED", reason: "revoked" });
    expect(state).toMatchObject({ revision: 10, refused: true, stream: null });
    expect(state.due.connect).toBeUndefined();
  });

  test("that works again leads back to a stream", () => {
    const { effects } = run(live, { type: "closed", end: refused }, timer("fetch"), {
      type: "fetched",
      message: { type: "unchanged" },
    });
    expect(kinds(effects)).toContain("open websocket since 10");
  });
});

test("after close nothing happens, whatever arrives", () => {
  const closed = run(live, { type: "close" });
  expect(kinds(closed.effects)).toContain("disconnect");
  expect(closed.state.due).toEqual({});
  for (const event of [ended, timer("fetch"), fetched(99), say(patch(11, 10))]) {
    expect(run(closed.state, event)).toMatchObject({ state: closed.state, effects: [] });
  }
});

test("a transition changes none of its inputs", () => {
  const frozen = Object.freeze({
    ...live,
    due: Object.freeze({ ...live.due }),
    circuits: Object.freeze({ ...live.circuits }),
  });
  expect(() => run(frozen, say(patch(13, 12)), [10_000, ended], timer("connect"))).not.toThrow();
});
