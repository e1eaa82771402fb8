/** Turns of writes: none is overtaken, none is lost, and none waits for a write that it does not conflict with. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { begin, enter, leave, MAX_AHEAD, MAX_TURN_MS, MAX_WAIT_MS, NO_TURNS, overrunAt, type Turns } from "./turns.ts";

const some = fc.oneof(
  { weight: 5, arbitrary: fc.subarray(["a", "b", "c"], { minLength: 1 }) },
  { weight: 1, arbitrary: fc.constant(null) },
);
type Step =
  | { kind: "enter"; environments: string[] | null }
  | { kind: "leave"; which: number }
  | { kind: "wait"; ms: number };
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: some.map((environments) => ({ kind: "enter" as const, environments })) },
    { weight: 3, arbitrary: fc.nat(50).map((which) => ({ kind: "leave" as const, which })) },
    { weight: 1, arbitrary: fc.nat(MAX_TURN_MS / 2).map((ms) => ({ kind: "wait" as const, ms })) },
  ),
  { maxLength: 80 },
);

const meet = (one: readonly string[] | null, other: readonly string[] | null) =>
  one === null || other === null || one.some((environment) => other.includes(environment));

/** Plays the steps, as the object does: after each one all begin whose turn it is. */
function play(all: Step[], check: (turns: Turns, begunNow: number[], now: number) => void): Turns {
  let turns = NO_TURNS;
  let now = 0;
  let id = 0;
  for (const step of all) {
    if (step.kind === "enter") {
      turns = enter(turns, { id: ++id, environments: step.environments }, now).turns ?? turns;
    } else if (step.kind === "leave") {
      const there = [...turns.working, ...turns.waiting];
      turns = leave(turns, there[step.which % Math.max(1, there.length)]?.id ?? 0, now);
    } else now += step.ms;
    const next = begin(turns, now);
    turns = next.turns;
    check(turns, next.begun, now);
  }
  return turns;
}

test("two writes to one environment never run at once, and a write to the project runs alone", () => {
  fc.assert(
    fc.property(steps, (all) => {
      play(all, ({ working }) => {
        for (const one of working)
          for (const other of working)
            if (one !== other) expect(meet(one.environments, other.environments)).toBe(false);
      });
    }),
  );
});

test("of two writes to the same environment, the first to arrive runs first", () => {
  fc.assert(
    fc.property(steps, (all) => {
      play(all, ({ waiting, working }) => {
        for (const one of working)
          for (const earlier of waiting)
            if (earlier.id < one.id) expect(meet(earlier.environments, one.environments)).toBe(false);
      });
    }),
  );
});

test("no wake-up is lost: every waiting write is behind a running or an earlier waiting one", () => {
  fc.assert(
    fc.property(steps, (all) => {
      play(all, ({ waiting, working }, _, now) => {
        waiting.forEach((ticket, index) => {
          const before = [...working, ...waiting.slice(0, index)];
          expect(before.some((other) => meet(other.environments, ticket.environments))).toBe(true);
        });
        // If a running turn overruns, the timer starts the next one.
        if (waiting.length > 0) expect(overrunAt({ waiting, working, turnMs: 0 })).toBeGreaterThan(now);
      });
    }),
  );
});

test("every write gets a turn, also behind writers that crashed", () => {
  fc.assert(
    fc.property(steps, (all) => {
      let turns = play(all, () => {});
      let now = 1_000_000;
      for (let rounds = 0; turns.waiting.length > 0; rounds++) {
        expect(rounds).toBeLessThan(100);
        const next = begin(turns, now);
        expect(next.begun.length).toBeGreaterThan(0);
        turns = next.turns;
        now += MAX_TURN_MS;
      }
    }),
  );
});

test("leaving twice, or with an unknown ticket, changes nothing", () => {
  const entered = begin(enter(NO_TURNS, { id: 1, environments: ["a"] }, 0).turns!, 0).turns;
  const left = leave(entered, 1, 10);
  expect(leave(left, 1, 1_000)).toEqual(left);
  expect(leave(left, 77, 1_000)).toEqual(left);
});

test("a line is bounded by its length and its estimated wait", () => {
  const full = (turnMs: number, length: number): Turns => ({
    waiting: Array.from({ length: length - 1 }, (_, index) => ({ id: index + 2, environments: ["a"], since: 0 })),
    working: [{ id: 1, environments: ["a"], since: 0 }],
    turnMs,
  });
  const ticket = { id: 9_999, environments: ["a"] };
  expect(enter(full(1, MAX_AHEAD - 1), ticket, 0)).toMatchObject({ turns: expect.anything(), ahead: MAX_AHEAD - 1 });
  expect(enter(full(1, MAX_AHEAD), ticket, 0)).toEqual({ turns: null, ahead: MAX_AHEAD, waitMs: MAX_AHEAD });
  const tooSlow = MAX_WAIT_MS / 10 + 1;
  expect(enter(full(tooSlow, 10), ticket, 0)).toEqual({ turns: null, ahead: 10, waitMs: Math.round(10 * tooSlow) });
  // The next ticket is never refused, since its turn shows whether turns are still slow.
  expect(enter(full(60_000, 1), ticket, 0).turns).not.toBeNull();
  // Writes to another environment do not count.
  expect(enter(full(1, MAX_AHEAD), { id: 9_999, environments: ["b"] }, 0)).toMatchObject({ ahead: 0 });
});

test("the duration of a turn is a moving average of ended turns", () => {
  let turns = NO_TURNS;
  for (let id = 1; id <= 60; id++) {
    turns = begin(enter(turns, { id, environments: ["a"] }, id * 1_000).turns!, id * 1_000).turns;
    turns = leave(turns, id, id * 1_000 + 400);
  }
  expect(turns.turnMs).toBeGreaterThan(390);
  expect(turns.turnMs).toBeLessThanOrEqual(400);
});

test("a turn that overruns counts in the moving average with its full duration", () => {
  let turns = NO_TURNS;
  for (let id = 1; id <= 20; id++)
    turns = begin(enter(turns, { id, environments: ["a"] }, 0).turns!, id * MAX_TURN_MS).turns;
  expect(turns.turnMs).toBeGreaterThan(MAX_TURN_MS / 2);
  turns = { ...turns, waiting: Array.from({ length: 5 }, (_, n) => ({ id: 90 + n, environments: ["a"], since: 0 })) };
  expect(enter(turns, { id: 99, environments: ["a"] }, 0).turns).toBeNull();
});

test("the next tickets are found in linear time (Q9)", () => {
  let looks = 0;
  const ticket = (id: number) => ({
    id,
    since: 0,
    get environments() {
      looks++;
      return [`environment-${id % 20}`];
    },
  });
  const waiting = Array.from({ length: 5_000 }, (_, id) => ticket(id));
  expect(begin({ ...NO_TURNS, waiting }, 0).begun).toHaveLength(20);
  expect(looks).toBeLessThanOrEqual(5 * waiting.length);
});
