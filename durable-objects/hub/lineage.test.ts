import { describe, expect, test } from "vitest";
import type { Change } from "../../workers/store/outbox/change.ts";
import { compareChanges, compareHeads, fits } from "./lineage.ts";

/** `a1`: lineage a, version 1, on top of the previous one unless given. */
const change = (id: string, previousId = `${id[0]}${Number(id.slice(1)) - 1}`): Change => ({
  environmentId: "env",
  version: Number(id.slice(1)),
  id,
  previousId,
  flags: {},
  segments: {},
  keys: {},
});
const at = (id: string) => ({ version: Number(id.slice(1)), changeId: id });
const rows = (...ids: string[]) => ids.map((id) => change(id));

test("a change fits only right on top of the one it was made against", () => {
  expect(fits(change("a2"), at("a1"))).toBe(true);
  for (const other of [change("a1"), change("a3"), change("a2", "b1")]) expect(fits(other, at("a1"))).toBe(false);
});

describe("D1's changes from the version that a hub read from", () => {
  const apply = (ids: string[], isAll = true) => ({ verdict: "apply", changes: rows(...ids), isAll });
  for (const [name, found, from, applied, expected] of [
    ["nothing new", rows("a3"), 3, at("a3"), apply([])],
    ["two changes more", rows("a3", "a4", "a5"), 3, at("a3"), apply(["a4", "a5"])],
    ["a full page: there may be more", rows("a3", "a4", "a5", "a6"), 3, at("a3"), apply(["a4", "a5", "a6"], false)],
    ["the hub moved on meanwhile, along these", rows("a3", "a4", "a5"), 3, at("a4"), apply(["a5"])],
    ["the hub moved on meanwhile, beyond these", rows("a3"), 3, at("a4"), { verdict: "again" }],
    ["the hub moved on meanwhile, elsewhere", rows("a3", "b4"), 3, at("a4"), { verdict: "again" }],
    ["restored to before it", [], 3, at("a3"), { verdict: "reread" }],
    ["restored, and gone on differently", rows("b3", "b4"), 3, at("a3"), { verdict: "reread" }],
    ["trimmed under the hub", rows("a7", "a8"), 3, at("a3"), { verdict: "reread" }],
    ["the next one is of another lineage", [change("a3"), change("b4")], 3, at("a3"), { verdict: "reread" }],
    [
      "a break later on: as far as it goes, then again",
      [...rows("a3", "a4"), change("b5")],
      3,
      at("a3"),
      apply(["a4"], false),
    ],
    ["a hole later on", rows("a3", "a4", "a6"), 3, at("a3"), apply(["a4"], false)],
  ] as const) {
    test(name, () => expect(compareChanges([...found], from, applied, 4)).toEqual(expected));
  }
});

describe("heads", () => {
  for (const [name, heads, mirroredKills, expected] of [
    ["the same", { ...at("a3"), killSeq: 5 }, 5, { catchUp: false, mirrorKills: false }],
    ["a publish call was lost", { ...at("a4"), killSeq: 5 }, 5, { catchUp: true, mirrorKills: false }],
    ["restored to before", { ...at("a2"), killSeq: 4 }, 5, { catchUp: true, mirrorKills: true }],
    ["restored, and as many changes since", { ...at("b3"), killSeq: 5 }, 5, { catchUp: true, mirrorKills: false }],
    [
      "restored to before a kill, no edit between",
      { ...at("a3"), killSeq: 4 },
      5,
      { catchUp: false, mirrorKills: true },
    ],
    ["a hub that lost its log", { ...at("a3"), killSeq: 5 }, 0, { catchUp: false, mirrorKills: false }],
  ] as const) {
    test(name, () => expect(compareHeads(heads, at("a3"), mirroredKills)).toEqual(expected));
  }
});
