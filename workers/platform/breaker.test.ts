import { describe, expect, test } from "vitest";
import { admit, type Breaker, CLOSED, settle } from "./breaker.ts";

const rule = { failures: 3, openMs: 1_000, maxOpenMs: 8_000 };
const open = (openUntil: number, failed = 3): Breaker => ({ failed, openUntil, probing: false });
const probing = (openUntil: number, failed = 3): Breaker => ({ failed, openUntil, probing: true });

describe("who may call", () => {
  for (const [name, state, now, admitted, next] of [
    ["closed: everybody", CLOSED, 5, true, CLOSED],
    ["closed after some failures: everybody", { ...CLOSED, failed: 2 }, 5, true, { ...CLOSED, failed: 2 }],
    ["open: nobody", open(1_000), 999, false, open(1_000)],
    ["open long enough: one, which half opens it", open(1_000), 1_000, true, probing(1_000)],
    ["half-open: nobody beside that one", probing(1_000), 5_000, false, probing(1_000)],
    ["half-open, and the one has not come back: another", probing(1_000), 9_000, true, probing(9_000)],
  ] as const) {
    test(name, () => expect(admit(state, rule, now)).toEqual({ admitted, next }));
  }
});

describe("what a call's end does", () => {
  for (const [name, state, succeeded, now, random, next] of [
    ["a success changes nothing", CLOSED, true, 5, 0, CLOSED],
    ["a success forgets failures", { ...CLOSED, failed: 2 }, true, 5, 0, CLOSED],
    ["a failure is counted", CLOSED, false, 5, 0, { ...CLOSED, failed: 1 }],
    ["the third opens it, for half its time at least", { ...CLOSED, failed: 2 }, false, 100, 0, open(600)],
    ["and for all of it at most", { ...CLOSED, failed: 2 }, false, 100, 1, open(1_100)],
    ["failures that were under way add nothing", open(600), false, 200, 1, open(600)],
    ["a probe that fails opens it for twice as long", probing(600), false, 700, 1, open(2_700, 4)],
    ["and never longer than the longest", probing(600, 50), false, 700, 1, open(8_700, 51)],
    ["a probe that succeeds closes it", probing(600), true, 700, 0, CLOSED],
    ["so does a late success", open(600), true, 500, 0, CLOSED],
  ] as const) {
    test(name, () => expect(settle(state, rule, succeeded, now, random)).toEqual(next));
  }
});

test("a part that is dead for a minute is asked a handful of times, and again within the longest time once it is back", () => {
  let state: Breaker = CLOSED;
  let asked = 0;
  let answeredAt = 0;
  for (let now = 0; answeredAt === 0; now += 10) {
    const admission = admit(state, rule, now);
    state = admission.next;
    if (!admission.admitted) continue;
    asked++;
    state = settle(state, rule, now >= 60_000, now, 0.5);
    if (now >= 60_000) answeredAt = now;
  }
  expect(asked).toBeLessThan(20);
  expect(answeredAt).toBeLessThanOrEqual(68_000);
});
