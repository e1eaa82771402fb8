import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { begun, decide, isOver, type RampEvent, type RampState } from "./state.ts";

const MINUTE = 60_000;
const STEPS = [5_000, 25_000, 50_000, 100_000].map((weight) => ({ weight, forMs: 10 * MINUTE }));
const pause = { code: "requested", detail: "x", by: "Ada", at: 0 };
const hold: RampEvent = { kind: "hold", pause: { ...pause, code: "edited", by: null } };
const tick: RampEvent = { kind: "tick" };

/** What becomes of it, told shortly: status, step, when next; then the split that is written. */
function outcome(events: [RampEvent, number][], steps = STEPS) {
  let state = begun(steps, 0);
  const written: (number | undefined)[] = [];
  let refused: string | undefined;
  for (const [event, minute] of events) {
    const decision = decide(state, event, minute * MINUTE);
    if ("refused" in decision) refused = decision.refused;
    if (!("next" in decision)) continue;
    state = decision.next;
    written.push(decision.serve);
  }
  const next = state.nextAt === null ? null : state.nextAt / MINUTE;
  return { status: state.status, step: state.step, next, written, ...(refused && { refused }) };
}

describe("a ramp", () => {
  test.each<[string, [RampEvent, number][], ReturnType<typeof outcome>]>([
    ["begins at its first step", [], { status: "running", step: 0, next: 10, written: [] }],
    ["does nothing before its time", [[tick, 9]], { status: "running", step: 0, next: 10, written: [] }],
    ["takes the next step at its time", [[tick, 10]], { status: "running", step: 1, next: 20, written: [2] }],
    ["takes one step, however late", [[tick, 500]], { status: "running", step: 1, next: 510, written: [2] }],
    [
      "is finished when its last step is over",
      [
        [tick, 10],
        [tick, 20],
        [tick, 30],
        [tick, 40],
      ],
      { status: "finished", step: 3, next: null, written: [2, 3, 4, undefined] },
    ],
    [
      "goes on after a pause with what was left of the step",
      [
        [{ kind: "pause", pause }, 4],
        [tick, 30],
        [{ kind: "resume" }, 100],
      ],
      { status: "running", step: 0, next: 106, written: [undefined, undefined] },
    ],
    [
      "has the whole time of its step again after it was held",
      [
        [hold, 10],
        [{ kind: "resume" }, 100],
      ],
      { status: "running", step: 0, next: 110, written: [undefined, undefined] },
    ],
    ["jumps forwards", [[{ kind: "jump", step: 2 }, 3]], { status: "running", step: 2, next: 13, written: [3] }],
    [
      "jumps back",
      [
        [tick, 10],
        [{ kind: "jump", step: 0 }, 11],
      ],
      { status: "running", step: 0, next: 21, written: [2, 1] },
    ],
    [
      "stays paused when it jumps",
      [
        [{ kind: "pause", pause }, 4],
        [{ kind: "jump", step: 1 }, 5],
        [tick, 100],
      ],
      { status: "paused", step: 1, next: null, written: [undefined, 2] },
    ],
    [
      "has no other steps",
      [[{ kind: "jump", step: 4 }, 1]],
      { status: "running", step: 0, next: 10, written: [], refused: "no-such-step" },
    ],
    [
      "aborts to where it began",
      [
        [tick, 10],
        [{ kind: "abort" }, 11],
      ],
      { status: "aborted", step: 1, next: null, written: [2, 0] },
    ],
    [
      "is over once it is over",
      [
        [{ kind: "abort" }, 1],
        [tick, 10],
        [{ kind: "resume" }, 11],
      ],
      { status: "aborted", step: 0, next: null, written: [0], refused: "ramp-ended" },
    ],
  ])("%s", (_, events, expected) => expect(outcome(events)).toEqual(expected));

  test("whose last step has no time is finished with it", () => {
    const steps = [
      { weight: 5_000, forMs: MINUTE },
      { weight: 100_000, forMs: 0 },
    ];
    expect(outcome([[tick, 1]], steps)).toEqual({ status: "finished", step: 1, next: null, written: [2] });
    expect(begun([{ weight: 5_000, forMs: 0 }], 0).status).toBe("finished");
  });

  const events = fc.oneof(
    fc.constant<RampEvent>(tick),
    fc.constant<RampEvent>(tick),
    fc.constant<RampEvent>({ kind: "pause", pause }),
    fc.constant<RampEvent>(hold),
    fc.constant<RampEvent>({ kind: "resume" }),
    fc.integer({ min: -1, max: 6 }).map((step): RampEvent => ({ kind: "jump", step })),
    fc.constant<RampEvent>({ kind: "abort" }),
  );
  const steps = fc
    .array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 5 })
    .map((minutes) => minutes.map((one, index) => ({ weight: (index + 1) * 10_000, forMs: one * MINUTE })));

  test("is always at one of its steps, and has exactly one next time while it runs, in whatever order things happen", () => {
    fc.assert(
      fc.property(steps, fc.array(fc.tuple(events, fc.nat(90)), { maxLength: 40 }), (steps, happens) => {
        let state: RampState = begun(steps, 0);
        let now = 0;
        for (const [event, minutes] of happens) {
          now += minutes * MINUTE;
          const decision = decide(state, event, now);
          if (!("next" in decision)) continue;
          const { next, serve } = decision;
          expect(isOver(state)).toBe(false);
          expect(next.step).toBeGreaterThanOrEqual(0);
          expect(next.step).toBeLessThan(steps.length);
          expect(next.nextAt !== null).toBe(next.status === "running");
          expect(next.remainingMs !== null).toBe(next.status === "paused");
          expect(next.pause !== null).toBe(next.status === "paused");
          expect(next.endedAt !== null).toBe(isOver(next));
          // What is written is the step that it is at, or, for an abort alone, the beginning.
          if (event.kind === "abort") expect(serve).toBe(0);
          else if (next.step !== state.step) expect(serve).toBe(next.step + 1);
          if (event.kind === "tick") {
            // Never before its time, and one step at most.
            expect(state.nextAt).not.toBeNull();
            expect(now).toBeGreaterThanOrEqual(state.nextAt ?? Number.POSITIVE_INFINITY);
            expect(next.step - state.step).toBe(next.status === "finished" ? 0 : 1);
          }
          state = next;
        }
      }),
    );
  });
});
