import { describe, expect, test } from "vitest";
import type { Change } from "../../workers/store/outbox/change.ts";
import { compareChanges, compareHeads, fits } from "./lineage.ts";

/** `a1` is version 1 of lineage a. It follows the previous version of that lineage unless another is given. */
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

test("a change fits only directly after the one that it was validated against", () => {
  expect(fits(change("a2"), at("a1"))).toBe(true);
  for (const other of [change("a1"), change("a3"), change("a2", "b1")]) expect(fits(other, at("a1"))).toBe(false);
});

describe("D1's changes from the version that a hub read from", () => {
  const apply = (ids: string[], isAll = true) => ({ verdict: "apply", changes: rows(...ids), isAll });
  for (const [name, found, from, applied, expected] of [
    ["nothing new", rows("a3"), 3, at("a3"), apply([])],
    ["two further changes", rows("a3", "a4", "a5"), 3, at("a3"), apply(["a4", "a5"])],
    ["a full page: there may be more", rows("a3", "a4", "a5", "a6"), 3, at("a3"), apply(["a4", "a5", "a6"], false)],
    ["the hub has applied some of them meanwhile", rows("a3", "a4", "a5"), 3, at("a4"), apply(["a5"])],
    ["the hub has applied later ones meanwhile", rows("a3"), 3, at("a4"), { verdict: "again" }],
    ["the hub has applied one of another lineage meanwhile", rows("a3", "b4"), 3, at("a4"), { verdict: "again" }],
    ["D1 was restored to before the applied change", [], 3, at("a3"), { verdict: "reread" }],
    ["D1 was restored and has other changes since", rows("b3", "b4"), 3, at("a3"), { verdict: "reread" }],
    ["the outbox no longer has the applied change", rows("a7", "a8"), 3, at("a3"), { verdict: "reread" }],
    ["the next change is of another lineage", [change("a3"), change("b4")], 3, at("a3"), { verdict: "reread" }],
    [
      "a later change is of another lineage: those before it are applied",
      [...rows("a3", "a4"), change("b5")],
      3,
      at("a3"),
      apply(["a4"], false),
    ],
    [
      "a later version is missing: those before it are applied",
      rows("a3", "a4", "a6"),
      3,
      at("a3"),
      apply(["a4"], false),
    ],
  ] as const) {
    test(name, () => expect(compareChanges([...found], from, applied, 4)).toEqual(expected));
  }
});

describe("heads", () => {
  for (const [name, heads, mirroredKills, expected] of [
    ["D1 and the hub have the same heads", { ...at("a3"), killSeq: 5 }, 5, { catchUp: false, mirrorKills: false }],
    ["a publish call was lost", { ...at("a4"), killSeq: 5 }, 5, { catchUp: true, mirrorKills: false }],
    ["D1 was restored to an earlier version", { ...at("a2"), killSeq: 4 }, 5, { catchUp: true, mirrorKills: true }],
    [
      "D1 was restored and has as many other changes since",
      { ...at("b3"), killSeq: 5 },
      5,
      { catchUp: true, mirrorKills: false },
    ],
    [
      "D1 was restored to before a kill, without an edit between",
      { ...at("a3"), killSeq: 4 },
      5,
      { catchUp: false, mirrorKills: true },
    ],
    ["the hub lost its log", { ...at("a3"), killSeq: 5 }, 0, { catchUp: false, mirrorKills: false }],
  ] as const) {
    test(name, () => expect(compareHeads(heads, at("a3"), mirroredKills)).toEqual(expected));
  }
});
