import type { Flag, Rule, Serve } from "@bunting/core";
import { describe, expect, test } from "vitest";
import { baseOf, type Touched } from "./changed-document.ts";
import { conflictsBetween, conflictsOf } from "./conflicts.ts";

const split = (on: number): Serve => ({
  split: {
    by: "key",
    seed: "s",
    hash: "xxh32",
    ranges: [
      { variation: "on", from: 0, to: on },
      { variation: "off", from: on, to: 100_000 },
    ],
  },
});
const rule = (id: string, plan = id, serve: Serve = { variation: "on" }): Rule => ({
  id,
  conditions: [{ attribute: "plan", op: "in", values: [plan] }],
  serve,
});
const BASE: Flag = {
  key: "checkout",
  version: 3,
  type: "boolean",
  on: false,
  variations: [
    { key: "on", value: true },
    { key: "off", value: false },
  ],
  offVariation: "off",
  prerequisites: [],
  targets: [{ variation: "on", values: ["ada"] }],
  rules: [rule("a"), rule("b")],
  fallthrough: split(10_000),
  clientSide: false,
  trackExposures: false,
  experiment: null,
  killed: false,
};
const on = { ...BASE, on: true };

describe("what was asked for and what has changed since are in conflict (R10)", () => {
  const cases: [string, Flag, Flag, string[]][] = [
    ["nowhere, where nothing has changed", BASE, on, []],
    [
      "nowhere, where others have changed other things",
      { ...BASE, fallthrough: split(20_000) },
      { ...BASE, fallthrough: split(20_000), offVariation: "on" },
      [],
    ],
    [
      "where it would turn on what others have changed",
      { ...BASE, fallthrough: split(20_000) },
      { ...on, fallthrough: split(20_000) },
      ["fallthrough.split.weights.on", "fallthrough.split.weights.off"],
    ],
    [
      "nowhere, where others have turned it on and changed it, and it stays on",
      { ...on, fallthrough: split(20_000) },
      { ...on, fallthrough: split(20_000) },
      [],
    ],
    ["nowhere, where others have done the same", on, on, []],
    [
      "where both change it to something else",
      { ...BASE, fallthrough: split(20_000) },
      { ...BASE, fallthrough: split(50_000) },
      ["fallthrough.split.weights.on", "fallthrough.split.weights.off"],
    ],
    ["where it would undo what others have done", on, BASE, ["on"]],
    [
      "nowhere, where each adds a target",
      { ...BASE, targets: [{ variation: "on", values: ["ada", "bob"] }] },
      { ...BASE, targets: [{ variation: "on", values: ["ada", "bob", "eve"] }] },
      [],
    ],
    [
      "where a target they have added would go",
      { ...BASE, targets: [{ variation: "on", values: ["ada", "bob"] }] },
      { ...BASE, targets: [{ variation: "on", values: ["ada", "eve"] }] },
      ["targets.targetingKey.bob"],
    ],
    [
      "never between names that only begin alike",
      { ...BASE, targets: [{ variation: "on", values: ["ada", "a"] }] },
      { ...BASE, targets: [{ variation: "on", values: ["ada", "a", "a.b"] }] },
      [],
    ],
    [
      "nowhere, where each adds a rule",
      { ...BASE, rules: [rule("a"), rule("b"), rule("c")] },
      { ...BASE, rules: [rule("d"), rule("a"), rule("b"), rule("c")] },
      [],
    ],
    [
      "where a rule that they have changed would go",
      { ...BASE, rules: [rule("a", "team"), rule("b")] },
      { ...BASE, rules: [rule("b")] },
      ["rules.a.conditions[0].values"],
    ],
    [
      "where a rule that they have removed would come back",
      { ...BASE, rules: [rule("b")] },
      { ...BASE, rules: [rule("a", "team"), rule("b")] },
      ["rules.a"],
    ],
    ["where both put rules in another order", { ...BASE, rules: [rule("b"), rule("a")] }, BASE, ["order"]],
    [
      "where prerequisites of one flag differ",
      { ...BASE, prerequisites: [{ flag: "x", variations: ["on"] }] },
      { ...BASE, prerequisites: [{ flag: "x", variations: ["off"] }] },
      ["prerequisites.x"],
    ],
  ];
  test.each(cases)("%s", (_, current, proposed, paths) => {
    expect(conflictsBetween(BASE, current, proposed).map(({ path }) => path)).toEqual(paths);
  });

  const SEGMENT = {
    ...{ key: "beta", version: 2, included: ["ada", "__proto__"], excluded: [] },
    rules: [{ id: "a", conditions: [] }],
  };
  const segments: [string, object | null, object | null, string[]][] = [
    [
      "nowhere, where each lists a member of its own",
      { included: ["ada", "__proto__", "bob"] },
      { included: ["ada", "__proto__", "bob", "eve"] },
      [],
    ],
    ["where a member that they have listed would go", { included: ["ada", "__proto__", "bob"] }, {}, ["included.bob"]],
    ["where a member that they have taken away would come back", { included: ["ada"] }, {}, ["included.__proto__"]],
    [
      "where they have changed a rule that would go",
      { rules: [{ id: "a", conditions: [{}] }] },
      { rules: [] },
      ["rules.a.conditions[0]"],
    ],
    ["where it has gone and would be there again", null, {}, ["included", "excluded", "rules", "order"]],
  ];
  test.each(segments)("of a segment %s", (_, current, proposed, paths) => {
    const document = (fields: object | null) => fields && { ...SEGMENT, ...fields };
    const found = conflictsBetween(SEGMENT, document(current), document(proposed));
    expect(found.map(({ path }) => path)).toEqual(paths);
  });

  test("in what goes as a whole, and in what it is made of, wherever that has changed", () => {
    const touched = (before: Flag, after: Flag | null): Touched => {
      return { environment: "production", kind: "flag", key: "checkout", before, after };
    };
    const source = (version: number) => ({ environment: "staging", kind: "flag" as const, key: "checkout", version });
    const base = [baseOf(touched(BASE, null)), source(7)];
    expect(base[0]).not.toHaveProperty("document");
    expect(conflictsOf(base, [touched(BASE, null)], [source(7)])).toEqual([]);
    const place = { kind: "flag", key: "checkout", path: "version" };
    expect(conflictsOf(base, [touched({ ...BASE, version: 4 }, null)], [source(8)])).toEqual([
      { ...place, environment: "production", base: 3, current: 4 },
      { ...place, environment: "staging", base: 7, current: 8 },
    ]);
  });

  test("in a document that it did not change when it was asked for", () => {
    const touched: Touched = { environment: "production", kind: "flag", key: "checkout", before: on, after: BASE };
    expect(conflictsOf([], [touched], []).map(({ path }) => path)).toEqual(["on"]);
  });

  test("tells what it was, what it is and what it would become", () => {
    expect(conflictsBetween(BASE, on, BASE)).toEqual([{ path: "on", base: false, current: true, proposed: false }]);
  });

  test("is found in long lists without looking at each against each", () => {
    const many = (variation: string) => [
      { variation, values: Array.from({ length: 50_000 }, (_, index) => `user.${index}`) },
    ];
    const found = conflictsBetween(
      { ...BASE, targets: many("on") },
      { ...BASE, targets: many("off") },
      { ...BASE, targets: [] },
    );
    expect(found).toHaveLength(100);
  });
});
