import { describe, expect, test } from "vitest";
import {
  FILTER_KEPT_MS,
  isTooMany,
  isWorthAFilter,
  MAX_MEMBERS,
  newState,
  nextAlarm,
  type SegmentState,
  UPLOAD_TIMEOUT_MS,
  type Upload,
} from "./state.ts";

test.each([
  ["add", MAX_MEMBERS, false, false],
  ["add", MAX_MEMBERS + 1, false, true],
  ["add", MAX_MEMBERS + 1, true, true],
  // Until it ends, its members are stored beside those that it replaces.
  ["replace", 2 * MAX_MEMBERS, false, false],
  ["replace", 2 * MAX_MEMBERS + 1, false, true],
  ["replace", MAX_MEMBERS, true, false],
  ["replace", MAX_MEMBERS + 1, true, true],
  ["remove", 2 * MAX_MEMBERS + 1, false, false],
  ["remove", 2 * MAX_MEMBERS + 1, true, false],
] as const)("whether an upload (%s) of %i members (ended: %s) has too many: %s", (mode, count, ended, wanted) => {
  expect(isTooMany(mode, count, ended)).toBe(wanted);
});

test("ten thousand changes, or a million characters of them, start a filter build", () => {
  expect(isWorthAFilter({ members: 9_999, units: 999_999 })).toBe(false);
  expect(isWorthAFilter({ members: 10_000, units: 10_000 })).toBe(true);
  expect(isWorthAFilter({ members: 977, units: 1_000_000 })).toBe(true);
});

describe("a big segment's next alarm is", () => {
  const now = 1_000_000_000_000;
  const idle = { unsent: false, firstSupersededAt: null, failures: 0 };
  const state = (fields: Partial<SegmentState>): SegmentState => ({ ...newState(1, 1), ...fields });
  const upload: Upload = { id: "u", mode: "add", state: "receiving", received: 0, startedAt: now, at: now - 1_000 };
  test.each([
    ["never if there is nothing to do", state({}), idle, null],
    ["at once for a filter that is due", state({ due: true }), idle, now],
    ["at once for a filter whose build was interrupted", state({ building: 3 }), idle, now],
    ["at once for changes that D1 does not have", state({}), { ...idle, unsent: true }, now],
    ["a second after a failure", state({ due: true }), { ...idle, failures: 1 }, now + 1_000],
    ["eight seconds after the fourth failure", state({ due: true }), { ...idle, failures: 4 }, now + 8_000],
    ["at most a minute after a failure", state({ due: true }), { ...idle, failures: 40 }, now + 60_000],
    ["when an upload has timed out", state({ upload }), idle, now - 1_000 + UPLOAD_TIMEOUT_MS],
    ["never for an upload that has ended", state({ upload: { ...upload, state: "done" } }), idle, null],
    [
      "when the oldest superseded filter may be deleted",
      state({}),
      { ...idle, firstSupersededAt: now },
      now + FILTER_KEPT_MS,
    ],
  ])("%s", (_, given, waiting, wanted) => {
    expect(nextAlarm(given, waiting, now)).toBe(wanted);
  });
});
