import type { PatchMessage } from "@bunting/core/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { transition } from "./sync.ts";
import { type Effect, initialState, type SyncEvent, type SyncState, type TimerName } from "./sync-state.ts";

const revision = fc.integer({ min: 0, max: 20 });
const windowMs = fc.integer({ min: 0, max: 10_000 });
const end = fc.record({ reason: fc.constant("x"), refused: fc.boolean(), retryAfterMs: fc.constantFrom(0, 5_000) });
const ruleset = revision.map((at) => ({
  schema: 1 as const,
  environment: "env-1",
  revision: at,
  events: { exposureSampleRate: 1, summarySeconds: 30 },
  flags: {},
  segments: {},
}));
const patch = fc
  .tuple(revision, fc.integer({ min: 1, max: 3 }), windowMs)
  .map(([previous, step, ackWithinMs]): PatchMessage => {
    return { type: "patch", revision: previous + step, previous, publishedAt: 1, ackWithinMs, flags: {}, segments: {} };
  });
const message = fc.oneof(
  { weight: 4, arbitrary: patch },
  fc.record({ type: fc.constant("hello" as const), revision, reconnectWithinMs: windowMs }),
  fc.record({ type: fc.constant("resync" as const), revision, withinMs: windowMs }),
  fc.record({ type: fc.constant("heartbeat" as const), revision }),
  fc.record({ type: fc.constant("goodbye" as const), withinMs: windowMs, reason: fc.constant("x") }),
  fc.constantFrom({ type: "heard" as const }, { type: "garbage" as const }),
);
/** What the world may do next; which of it can happen depends on the state. */
const happening = fc.oneof(
  fc.record({ kind: fc.constant("message" as const), message }),
  fc.record({ kind: fc.constant("fetched" as const), ruleset }),
  fc.constant({ kind: "unchanged" as const }),
  fc.record({ kind: fc.constant("fetch-failed" as const), end }),
  fc.record({ kind: fc.constant("closed" as const), end }),
  fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 90_000 }) }),
  fc.constant({ kind: "next timer" as const }),
);
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

const nextTimer = (state: SyncState): [TimerName, number] | undefined =>
  (Object.entries(state.due) as [TimerName, number][]).toSorted((a, b) => a[1] - b[1])[0];

function eventOf(state: SyncState, happens: Happening): SyncEvent | null {
  switch (happens.kind) {
    case "message":
      return state.stream === null ? null : { type: "message", message: happens.message };
    case "closed":
      return state.stream === null ? null : { type: "closed", end: happens.end };
    case "fetched":
      return state.fetching ? { type: "fetched", message: { type: "ruleset", ruleset: happens.ruleset } } : null;
    case "unchanged":
      return state.fetching && state.revision !== null ? { type: "fetched", message: { type: "unchanged" } } : null;
    case "fetch-failed":
      return state.fetching ? { type: "fetch-failed", end: happens.end } : null;
    default:
      return null;
  }
}

function check(before: SyncState, after: SyncState, effects: Effect[], now: number): void {
  // Q8: what is applied builds on what is held, and nothing goes back.
  let held = before.revision;
  for (const effect of effects) {
    if (effect.type === "apply") {
      expect(effect.patch.previous).toBe(held);
      held = effect.patch.revision;
    }
    if (effect.type === "install") {
      expect(effect.ruleset.revision).toBeGreaterThan(held ?? -1);
      held = effect.ruleset.revision;
    }
    if (effect.type === "timer") expect(effect.inMs).toBeGreaterThanOrEqual(0);
  }
  expect(after.revision).toBe(held);
  // Never stuck: something is under way or will wake it, whatever has happened.
  const live = after.stream?.helloAt != null;
  expect(after.fetching || live || after.due.fetch !== undefined).toBe(true);
  if (after.stream !== null) expect(after.due.silence).toBeGreaterThanOrEqual(now);
  const mayStream = after.order.length > 0 && !after.refused && after.revision !== null;
  if (mayStream && after.stream === null) expect(after.due.connect).toBeDefined();
  // Behind, and nobody asks: that would be a lost change.
  const behind = after.revision === null || after.revision < after.wanted;
  if (behind) expect(after.fetching || after.due.fetch !== undefined).toBe(true);
}

test("whatever arrives in whatever order, no change is lost or misapplied, and the client is never stuck (Q7, Q8)", () => {
  const histories = fc.array(happening, { maxLength: 60 });
  const randomness = fc.double({ min: 0, max: 0.999, noNaN: true });
  fc.assert(
    fc.property(
      histories,
      randomness,
      fc.constantFrom(["websocket", "sse"] as const, ["sse"] as const, []),
      (history, random, order) => {
        let now = 0;
        let { state } = transition(initialState(order), { type: "start" }, now, () => random);
        const take = (event: SyncEvent) => {
          const step = transition(state, event, now, () => random);
          check(state, step.state, step.effects, now);
          state = step.state;
        };
        const fire = () => {
          const timer = nextTimer(state);
          if (timer === undefined) return;
          now = Math.max(now, timer[1]);
          take({ type: "timer", name: timer[0] });
        };
        for (const happens of history) {
          if (happens.kind === "next timer") fire();
          else if (happens.kind === "wait") {
            const until = now + happens.ms;
            for (let timer = nextTimer(state); timer !== undefined && timer[1] <= until; timer = nextTimer(state))
              fire();
            now = until;
          } else {
            const event = eventOf(state, happens);
            if (event !== null) take(event);
          }
        }
      },
    ),
    { numRuns: 2_000 },
  );
});
