import fc from "fast-check";
import { expect, test } from "vitest";
import { type Effect, initialState, type Patch, type SyncEvent, type SyncState, type TimerName } from "./state.ts";
import { transition } from "./sync.ts";

const revision = fc.integer({ min: 0, max: 20 });
const windowMs = fc.integer({ min: 0, max: 10_000 });
const end = fc.record({ reason: fc.constant("x"), refused: fc.boolean(), retryAfterMs: fc.constantFrom(0, 5_000) });
const put = fc.record({ type: fc.constant("put" as const), revision });
const patch = fc
  .tuple(revision, fc.integer({ min: 1, max: 3 }), windowMs)
  .map(([previous, step, ackWithinMs]): Patch => {
    return { type: "patch", revision: previous + step, previous, ackWithinMs };
  });
const message = fc.oneof(
  { weight: 4, arbitrary: patch },
  put,
  fc.record({ type: fc.constant("hello" as const), revision, reconnectWithinMs: windowMs }),
  fc.record({ type: fc.constant("resync" as const), revision, withinMs: windowMs }),
  fc.record({ type: fc.constant("heartbeat" as const), revision }),
  fc.record({ type: fc.constant("goodbye" as const), withinMs: windowMs, reason: fc.constant("x") }),
  fc.constantFrom({ type: "alive" as const }, { type: "invalid" as const }),
);
/** What the world may do next; which of it can happen depends on the state. */
const happening = fc.oneof(
  fc.record({ kind: fc.constant("message" as const), message }),
  fc.record({ kind: fc.constant("fetched" as const), put }),
  fc.constant({ kind: "unchanged" as const }),
  fc.constant({ kind: "forget" as const }),
  fc.constant({ kind: "sleep" as const }),
  fc.constant({ kind: "wake" as const }),
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
      return state.stream === null ? null : ["message", happens.message];
    case "closed":
      return state.stream === null ? null : ["closed", happens.end];
    case "fetched":
      return state.fetching ? ["fetched", happens.put] : null;
    case "unchanged":
      return state.fetching && state.revision !== null ? ["fetched", { type: "unchanged" }] : null;
    case "fetch-failed":
      return state.fetching ? ["failed", happens.end] : null;
    case "forget":
    case "sleep":
    case "wake":
      return [happens.kind];
    default:
      return null;
  }
}

/** Neither asleep nor closed, it is never stuck. */
function check(
  before: SyncState,
  [type]: SyncEvent,
  after: SyncState,
  effects: Effect[],
  now: number,
  asleep: boolean,
) {
  // Q8: what is applied builds on what is held, and nothing goes back.
  let held = type === "forget" ? null : before.revision;
  for (const [does, detail] of effects) {
    if (does === "apply") {
      expect(detail.previous).toBeLessThanOrEqual(held ?? -1);
      expect(detail.revision).toBeGreaterThan(held ?? -1);
      held = detail.revision;
    }
    if (does === "install") {
      // What the server says takes the place of what was held before it was asked.
      expect(detail.revision).toBeGreaterThanOrEqual((held ?? -1) + (before.verifiedAt === null ? 0 : 1));
      held = detail.revision;
    }
  }
  expect(after.revision).toBe(held);
  for (const at of Object.values(after.due)) expect(at).toBeGreaterThanOrEqual(now);
  if (asleep) {
    expect(after).toMatchObject({ stream: null, fetching: false });
    expect(Object.keys(after.due).filter((name) => name !== "stale")).toEqual([]);
    return;
  }
  // Never stuck: something is under way or will wake it, whatever has happened.
  const live = after.stream?.helloAt != null;
  expect(after.fetching || live || after.due.fetch !== undefined).toBe(true);
  if (after.stream !== null) expect(after.due.silence).toBeGreaterThanOrEqual(now);
  const mayStream = after.order.length > 0 && !after.refused && after.revision !== null;
  if (mayStream && after.stream === null) expect(after.fetching || after.due.connect !== undefined).toBe(true);
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
      fc.option(revision),
      (history, random, order, held) => {
        let now = 0;
        let [state] = transition(initialState(order, held) as SyncState, ["start"], now, () => random);
        let asleep = false;
        const take = (event: SyncEvent) => {
          const [after, effects] = transition(state, event, now, () => random);
          asleep = event[0] === "sleep" || (asleep && event[0] !== "wake" && event[0] !== "forget");
          check(state, event, after, effects, now, asleep);
          state = after;
        };
        const fire = () => {
          const timer = nextTimer(state);
          if (timer === undefined) return;
          now = Math.max(now, timer[1]);
          take(["timer", timer[0]]);
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
