import { describe, expect, test } from "vitest";
import { backoffMs } from "./backoff.ts";
import {
  type Effect,
  type Incoming,
  initialState,
  type Patch,
  pollMs,
  type SyncEvent,
  type SyncState,
  type TimerName,
} from "./state.ts";
import { transition } from "./sync.ts";

const half = () => 0.5;
const patch = (revision: number, previous: number, ackWithinMs = 0): Patch => ({
  type: "patch",
  revision,
  previous,
  ackWithinMs,
});
const put = (revision: number): Incoming => ({ type: "put", revision });
const fetched = (revision: number): SyncEvent => ["fetched", put(revision)];
const unchanged: SyncEvent = ["fetched", { type: "unchanged" }];
const say = (message: Incoming): SyncEvent => ["message", message];
const hello = (revision: number, reconnectWithinMs = 0) => say({ type: "hello", revision, reconnectWithinMs });
const failed: SyncEvent = ["failed", { reason: "ECONNREFUSED" }];
const ended: SyncEvent = ["closed", { reason: "gone" }];
const timer = (name: TimerName): SyncEvent => ["timer", name];

type Step = SyncEvent | [atMs: number, event: SyncEvent];
type Ran = { state: SyncState; effects: Effect[]; did: string[]; allDid: string[] };

/** Runs events one after the other; answers the last state, and what the last event and all of them led to. */
function run(from: SyncState, ...steps: Step[]): Ran {
  let ran: Ran = { state: from, effects: [], did: [], allDid: [] };
  let now = 0;
  for (const step of steps) {
    const event = typeof step[0] === "number" ? (step[1] as SyncEvent) : (step as SyncEvent);
    if (typeof step[0] === "number") now = step[0];
    const [state, effects] = transition(ran.state, event, now, half);
    const did = [...effects.map(inWords), ...timersInWords(ran.state, state, event, now)];
    ran = { state, effects, did, allDid: [...ran.allDid, ...did] };
  }
  return ran;
}

function inWords([type, detail, more]: Effect): string {
  if (type === "fetch") return detail === null ? "fetch" : `fetch ≥ ${detail}`;
  if (type === "open") return `open ${detail} since ${more}`;
  if (type === "install" || type === "apply") return `${type} ${detail.revision}`;
  if (type === "acknowledge") return `acknowledge ${detail}`;
  return type === "report" ? detail.type : type;
}

/** What was set, and what was called off; a timer that fired was neither. */
function timersInWords({ due: before }: SyncState, { due: after }: SyncState, [type, fired]: SyncEvent, now: number) {
  const names = Object.keys({ ...before, ...after }) as TimerName[];
  return names.flatMap((name) => {
    if (after[name] === undefined) return type === "timer" && fired === name ? [] : [`no ${name}`];
    return after[name] === before[name] ? [] : [`${name} in ${after[name] - now}`];
  });
}

const start: SyncEvent = ["start"];
const both = initialState(["websocket", "sse"]);
const live = run(both, start, fetched(10), hello(10, 8_000)).state;

describe("starting (R15)", () => {
  test("the snapshot comes first, then a stream since its revision", () => {
    expect(run(both, start).did).toEqual(["fetch"]);
    const { did } = run(both, start, fetched(10));
    expect(did).toContain("install 10");
    expect(did).toContain("open websocket since 10");
  });

  test("a first failure is retried within 250 ms, later ones ever more slowly", () => {
    const delays = [1, 2, 3, 4, 5].map((count) => {
      const steps = Array.from({ length: count }, () => [failed, timer("fetch")]).flat();
      return run(both, start, ...steps.slice(0, -1)).did.find((kind) => kind.startsWith("fetch in"));
    });
    expect(delays).toEqual(["fetch in 125", "fetch in 1000", "fetch in 2000", "fetch in 4000", "fetch in 8000"]);
  });

  test("with a cached ruleset a stream is tried although the snapshot fails, and stale is said at once", () => {
    const { did, state } = run(initialState(["websocket"], 7), start, failed);
    expect(did).toEqual(expect.arrayContaining(["stale", "open websocket since 7"]));
    expect(state).toMatchObject({ stale: true, verifiedAt: null });
    expect(run(state, hello(7)).state).toMatchObject({ stale: false, verifiedAt: 0 });
  });

  test("of the cached revision the server's copy is installed, once; an older one confirms nothing and is asked for again", () => {
    const cached = initialState([], 10);
    expect(run(cached, start, fetched(10)).did).toContain("install 10");
    expect(run(cached, start, fetched(10), timer("fetch"), fetched(10)).did).not.toContain("install 10");
    const { did, state } = run(cached, start, fetched(9));
    expect(did).toEqual(["fetch in 500"]);
    expect(state).toMatchObject({ revision: 10, verifiedAt: null });
  });

  test("without a streaming transport it polls every 30 s ± 20 %", () => {
    expect(run(initialState([]), start, fetched(10)).did).toContain("fetch in 30000");
    expect([pollMs(() => 0), pollMs(() => 1)]).toEqual([24_000, 36_000]);
  });

  test("a Retry-After is waited for, and then the back-off too: all who were refused were told the same (Q9, X4)", () => {
    const { did } = run(both, start, ["failed", { reason: "503", retryAfterMs: 7_000 }]);
    expect(did).toContain("fetch in 7125");
  });
});

describe("patches", () => {
  test.each([
    ["builds on what is held", patch(11, 10), ["apply 11", "acknowledge 11"], 11],
    ["is what is held", patch(10, 9), ["acknowledge 10"], 10],
    ["is older than what is held", patch(4, 3), ["acknowledge 10"], 10],
    ["leaves a gap", patch(13, 12), ["fetch in 125"], 10],
    ["skips revisions but builds on what is held", patch(20, 10), ["apply 20", "acknowledge 20"], 20],
    ["stands for several, some of which are held", patch(12, 8), ["apply 12", "acknowledge 12"], 12],
  ])("one that %s (Q8)", (_, message, expected, revision) => {
    const { did, state } = run(live, say(message));
    expect(did.filter((kind) => !/silence|stale/.test(kind))).toEqual(expected);
    expect(state.revision).toBe(revision);
  });

  test("two that overtook each other are applied in order and nothing is fetched (Q8)", () => {
    const { did, state } = run(live, say(patch(12, 11)), say(patch(11, 10)));
    expect(did.filter((kind) => /apply|fetch/.test(kind))).toEqual(["apply 11", "apply 12", "no fetch"]);
    expect(state.early).toEqual([]);
  });

  test("a gap that stays open is fetched, at least at the revision that was named", () => {
    const { did } = run(live, say(patch(13, 12)), timer("fetch"));
    expect(did).toEqual(["fetch ≥ 13"]);
  });

  test("what arrives while a ruleset is being fetched is applied on top of it", () => {
    const { did, state } = run(live, say(patch(13, 12)), timer("fetch"), say(patch(14, 13)), fetched(12));
    expect(did.filter((kind) => /install|apply/.test(kind))).toEqual(["install 12", "apply 13", "apply 14"]);
    expect(state.revision).toBe(14);
  });

  test("only the last hundred early ones are kept (Q9)", () => {
    const flood = Array.from({ length: 500 }, (_, n) => say(patch(100 + n, 99 + n)));
    expect(run(live, ...flood).state.early).toHaveLength(100);
  });

  test("acknowledging waits for a moment within the window, is cumulative, and never put off by later patches (X1)", () => {
    const { did, allDid, state } = run(live, say(patch(11, 10, 400)), say(patch(12, 11, 4_000)), timer("ack"));
    expect(allDid.filter((kind) => kind.startsWith("ack"))).toEqual(["ack in 200", "acknowledge 12"]);
    expect(did).toEqual(["acknowledge 12"]);
    expect(state.due.ack).toBeUndefined();
    const [late] = run(live, [1_000, say(patch(11, 10, 400))], [1_200, timer("ack")]).effects;
    expect(late).toEqual(["acknowledge", 11, 200]);
  });

  test("one that the evaluator refuses is replaced by a whole ruleset", () => {
    const { state, did } = run(live, say(patch(11, 10)), ["rejected", 10], timer("fetch"));
    expect(state.revision).toBe(10);
    expect(did).toEqual(["fetch ≥ 11"]);
  });
});

describe("whole rulesets", () => {
  test("a lower revision than the one held is never taken (Q8)", () => {
    const { did, state } = run(live, say(patch(13, 12)), timer("fetch"), fetched(9));
    expect(did.some((kind) => kind.startsWith("install"))).toBe(false);
    expect(state.revision).toBe(10);
    expect(state.due.fetch).toBeDefined();
  });

  test("a resync fetches at a random moment within its window", () => {
    const next = run(live, say({ type: "resync", revision: 15, withinMs: 4_000 }));
    expect(next.did).toContain("fetch in 2000");
    expect(run(next.state, timer("fetch")).did).toEqual(["fetch ≥ 15"]);
    expect(run(next.state, timer("fetch"), fetched(15)).did).toContain("acknowledge 15");
  });

  test("a resync to what is held already only needs an acknowledgement", () => {
    const { did } = run(live, say({ type: "resync", revision: 10, withinMs: 4_000 }));
    expect(did).toContain("acknowledge 10");
    expect(did.some((kind) => kind.startsWith("fetch"))).toBe(false);
  });

  test("a hello or heartbeat ahead of what is held is a reason to fetch only if nothing follows", () => {
    const ahead = run(both, start, fetched(10), hello(12));
    expect(ahead.did).toContain("fetch in 3000");
    const caught = run(ahead.state, say(patch(11, 10)), say(patch(12, 11)));
    expect(caught.did).toContain("no fetch");
    const beat = run(live, say({ type: "heartbeat", revision: 12 }));
    expect(beat.did).toContain("fetch in 3000");
  });
});

describe("losing a stream", () => {
  const later: Step = [10_000, ended];

  test("one that had wasStable is reopened within the window that hello told (X4)", () => {
    const { did } = run(live, later);
    expect(did).toContain("connect in 4000");
    expect(did).toContain("disconnected");
  });

  test("a goodbye moves the client at a random moment within its window, without waiting for the close (X4)", () => {
    const next = run(live, [10_000, say({ type: "goodbye", withinMs: 6_000, reason: "deploy" })]);
    expect(next.did).toContain("connect in 3000");
    expect(run(next.state, [13_000, timer("connect")]).did).toContain("open websocket since 10");
    const closed = run(next.state, [11_000, ended]);
    expect(closed.state.due.connect).toBe(13_000);
  });

  test("a stream that says goodbye as soon as it opens is not reopened in a hot loop", () => {
    const { did } = run(
      run(both, start, fetched(10), hello(10)).state,
      say({ type: "goodbye", withinMs: 0, reason: "" }),
    );
    expect(did).toContain("connect in 500");
  });

  test("while none is up the ruleset is polled every 30 s (R15)", () => {
    const down = run(live, later);
    expect(down.state.due.fetch).toBe(40_000);
    expect(run(down.state, [40_000, timer("fetch")], fetched(11)).did).toContain("install 11");
  });

  test("60 s of silence closes it; anything heard puts that off; the client pings every 25 s", () => {
    expect(live.due).toMatchObject({ silence: 60_000, ping: 25_000 });
    expect(run(live, [20_000, say({ type: "alive" })]).state.due.silence).toBe(80_000);
    const { did } = run(live, [60_000, timer("silence")]);
    expect(did.slice(0, 1)).toEqual(["disconnect"]);
    expect(run(live, [25_000, timer("ping")]).did).toEqual(["ping", "ping in 25000"]);
  });

  test("a connection without a hello is given up after 15 s", () => {
    const opening = run(both, start, fetched(10)).state;
    expect(opening.due.silence).toBe(15_000);
    const waiting = run(opening, [5_000, say({ type: "alive" })]).state;
    expect(waiting.due.silence).toBe(15_000);
  });

  test("the last-known ruleset is reported stale when nobody confirmed it for 60 s (Q7)", () => {
    const down = run(live, later);
    expect(down.state.due.stale).toBe(60_000);
    expect(run(down.state, [60_000, timer("stale")]).effects).toEqual([["report", { type: "stale", forMs: 60_000 }]]);
    expect(run(down.state, [60_000, timer("stale")], unchanged).state.stale).toBe(false);
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
    const { did, state } = run(opening, ...failures(5));
    expect(did).toContain("open sse since 10");
    expect(state.circuits.websocket).toEqual({ failures: 5, openUntil: 30_500 });
  });

  test("with every circuit open it polls, and half-opens the first when its time comes", () => {
    const polling = run(opening, ...failures(9), ended);
    expect(polling.state.stream).toBeNull();
    expect(polling.state.due).toMatchObject({ connect: 30_500, fetch: 30_000 });
    expect(run(polling.state, [30_500, timer("connect")]).did).toContain("open websocket since 10");
  });

  test("a half-open circuit that fails once is open again; one that settles is closed", () => {
    const half = run(opening, ...failures(9), ended, [30_500, timer("connect")]).state;
    expect(run(half, [30_600, ended]).state.circuits.websocket).toEqual({ failures: 6, openUntil: 61_100 });
    const wasStable = run(half, [30_600, hello(10)], [40_000, ended]).state;
    expect(wasStable.circuits.websocket).toEqual({ failures: 0, openUntil: 0 });
  });

  test("streams that die as soon as they open count as failures", () => {
    const flapping = Array.from({ length: 5 }, () => [hello(10), ended, timer("connect")]).flat();
    expect(run(opening, ...flapping).state.circuits.websocket.failures).toBe(5);
  });
});

describe("a refused key", () => {
  const refused = { reason: "revoked", refused: true };

  test("ends the stream, keeps the ruleset and is tried again after 30 to 90 s", () => {
    const { did, effects, state } = run(live, ["closed", refused]);
    expect(did).toContain("fetch in 60000");
    expect(effects).toContainEqual(["report", { type: "error", code: "REFUSED", message: "revoked" }]);
    expect(state).toMatchObject({ revision: 10, refused: true, stream: null });
    expect(state.due.connect).toBeUndefined();
  });

  test("that works again leads back to a stream", () => {
    const { did } = run(live, ["closed", refused], timer("fetch"), unchanged);
    expect(did).toContain("open websocket since 10");
  });
});

describe("what is held no longer answers what is asked", () => {
  test("so that everything is asked for again, at least at the revision that was heard of, and nothing before is taken", () => {
    const { did, state } = run(live, say(patch(13, 12)), ["forget"]);
    expect(did).toEqual(expect.arrayContaining(["disconnect", "disconnected", "fetch ≥ 13", "no silence", "no ping"]));
    expect(state).toMatchObject({ revision: null, early: [], stream: null });
    expect(run(state, say(patch(14, 13)), ["closed", { reason: "gone" }]).allDid).toEqual([]);
    expect(run(state, fetched(13)).did).toEqual(expect.arrayContaining(["install 13", "open websocket since 13"]));
  });

  test("a failure to hear is told of again", () => {
    const failing = run(both, start, failed).state;
    expect(run(failing, ["forget"], failed).did).toContain("error");
  });
});

describe("sleeping", () => {
  test("ends everything; only that nobody confirms what is held is still noticed", () => {
    const { did, state } = run(live, [1_000, ["sleep"]]);
    expect(did).toEqual(expect.arrayContaining(["disconnect", "no silence", "no ping"]));
    expect(Object.keys(state.due)).toEqual(["stale"]);
    expect(run(both, start, ["sleep"]).did).toContain("abort");
  });

  test("ends with asking for what was missed, and a stream", () => {
    const woken = run(live, [1_000, ["sleep"]], [90_000, ["wake"]]);
    expect(woken.did).toContain("fetch");
    expect(run(woken.state, [90_001, unchanged]).did).toContain("open websocket since 10");
  });

  test("that nobody has told of is noticed on waking: the stream has to prove itself, and is not waited for", () => {
    expect(run(live, [30_000, ["wake"]]).did).toEqual(["ping", "fetch", "silence in 15000"]);
    expect(run(live, [1_000, ["wake"]]).did).toEqual(["ping", "silence in 15000"]);
  });
});

test("after close nothing happens, whatever arrives", () => {
  const closed = run(live, ["close"]);
  expect(closed.did).toContain("disconnect");
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

test.each(["sleep", "forget", "close"] as const)("a stream that is left says that it was for this: %s", (reason) => {
  const report = { type: "disconnected", transport: "websocket", reason };
  expect(run(live, [reason]).effects).toContainEqual(["report", report]);
});
