import { describe, expect, it } from "vitest";
import type { Condition, Flag, Json, Rule, Segment, Serve } from "../index.ts";
import { validate } from "../validate.ts";

const ON: Serve = { variation: "on" };
function flag(fields: Partial<Flag> = {}): Flag {
  return {
    key: "f",
    version: 1,
    type: "boolean",
    on: true,
    variations: [{ key: "on", value: true }],
    offVariation: null,
    prerequisites: [],
    targets: [],
    rules: [],
    fallthrough: ON,
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
    ...fields,
  };
}
const segment = (fields: Partial<Segment> = {}): Segment => ({
  key: "s",
  version: 1,
  included: [],
  excluded: [],
  rules: [],
  ...fields,
});
const leaf = (attribute: string, op: string, values: Json[], more = {}) =>
  ({ attribute, op, values, ...more }) as Condition;
const rules = (...conditions: Condition[][]): Rule[] =>
  conditions.map((of, index) => ({ id: `r${index}`, conditions: of, serve: ON }));
const split = (to: number): Serve => ({
  split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to }] },
});

const DOCUMENTS = {
  flags: {
    f: flag({ rules: rules([leaf("own", "in", [1])]) }),
    g: flag({ key: "g", rules: rules([leaf("plan", "in", ["pro"]), leaf("age", "lessThan", [18])]) }),
  },
  segments: { s: segment(), t: segment({ key: "t", rules: [{ conditions: [{ not: leaf("/org/id", "in", [7]) }] }] }) },
};
const warnings = (document: Flag | Segment) =>
  validate("variations" in document ? "flag" : "segment", document, DOCUMENTS).map(({ severity, code, pointer }) => [
    severity,
    code,
    pointer,
  ]);
const P = leaf("p", "in", ["x", "y"]);
const Q = leaf("q", "contains", ["z"]);

describe("validate warns of", () => {
  it.each<[string, Condition[], Condition[]]>([
    ["one without conditions", [], [P]],
    ["the same", [P], [P]],
    ["the same, fields in another order", [{ values: ["x"], op: "in", attribute: "p" }], [leaf("p", "in", ["x"])]],
    ["the same, negate said or not", [{ ...P, negate: false } as Condition], [P]],
    ["one with fewer conditions", [P], [Q, P]],
    ["one with more values", [P], [leaf("p", "in", ["y"])]],
    ["one that excludes less", [leaf("p", "in", ["x"], { negate: true })], [{ ...P, negate: true } as Condition]],
    ["one of more segments", [{ segment: ["s", "t"] }], [{ segment: ["t"] }]],
    ["the same group", [{ any: [P, Q] }], [{ any: [P, Q] }]],
  ])("a rule that can never match after %s", (_, earlier, later) => {
    expect(warnings(flag({ rules: rules(earlier, later) }))).toEqual([["warning", "rule-unreachable", "/rules/1"]]);
    expect(warnings(segment({ key: "u", rules: [{ conditions: earlier }, { conditions: later }] }))).toEqual([
      ["warning", "rule-unreachable", "/rules/1"],
    ]);
  });

  it.each<[string, Condition[], Condition[]]>([
    ["more conditions", [P, Q], [P]],
    ["fewer values", [leaf("p", "in", ["x"])], [P]],
    ["another attribute", [P], [leaf("q", "in", ["x"])]],
    ["another operator", [leaf("p", "startsWith", ["x"])], [leaf("p", "endsWith", ["x"])]],
    ["case that counts", [leaf("p", "in", ["x"])], [leaf("p", "in", ["x"], { ignoreCase: true })]],
    ["the opposite", [P], [{ ...P, negate: true } as Condition]],
    ["more that it excludes", [{ ...P, negate: true } as Condition], [leaf("p", "in", ["x"], { negate: true })]],
    ["another remainder", [leaf("n", "modulo", [3, 1])], [leaf("n", "modulo", [1, 0])]],
  ])("no rule after one with %s", (_, earlier, later) => {
    expect(warnings(flag({ rules: rules(earlier, later) }))).toEqual([]);
  });

  it("no rule after one that takes a sample", () => {
    const sample = { by: "key", seed: "s", buckets: 5 };
    expect(warnings(segment({ rules: [{ conditions: [], sample }, { conditions: [P] }] }))).toEqual([]);
  });

  it("a split that leaves somebody out", () => {
    expect(warnings(flag({ fallthrough: split(100_000) }))).toEqual([]);
    expect(warnings(flag({ fallthrough: split(99_999) }))).toEqual([
      ["warning", "split-incomplete", "/fallthrough/split/ranges"],
    ]);
    expect(warnings(flag({ rules: [{ id: "r", conditions: [P], serve: split(1) }] }))[0]).toEqual([
      "warning",
      "split-incomplete",
      "/rules/0/serve/split/ranges",
    ]);
  });

  it("a value of a type that the attribute never has", () => {
    const at = (condition: Condition) => warnings(flag({ rules: rules([condition]) }));
    const place = "/rules/0/conditions/0";
    expect(at(leaf("plan", "in", ["pro", 5]))).toEqual([["warning", "value-type-unusual", `${place}/values/1`]]);
    expect(at(leaf("age", "in", ["18"]))).toEqual([["warning", "value-type-unusual", `${place}/values/0`]]);
    expect(at({ all: [leaf("/org/id", "in", ["7"])] })).toEqual([
      ["warning", "value-type-unusual", `${place}/all/0/values/0`],
    ]);
    expect(at(leaf("key", "in", [42]))).toEqual([["warning", "value-type-unusual", `${place}/values/0`]]);
    expect(at(leaf("new", "in", ["1", 1]))).toEqual([["warning", "values-mixed", `${place}/values`]]);
    // What the document was before does not count, only what it is.
    expect(at(leaf("own", "in", ["1"]))).toEqual([]);
    expect(at(leaf("plan", "in", ["free"]))).toEqual([]);
  });

  it("a value that is there twice", () => {
    expect(warnings(flag({ rules: rules([leaf("plan", "in", ["a", "b", "a"])]) }))).toEqual([
      ["warning", "value-duplicate", "/rules/0/conditions/0/values/2"],
    ]);
    expect(warnings(flag({ targets: [{ variation: "on", values: ["u", "u"] }] }))[0]?.[2]).toBe("/targets/0/values/1");
    expect(warnings(segment({ included: ["u", "v", "v"] }))[0]?.[2]).toBe("/included/2");
    expect(warnings(flag({ rules: rules([leaf("n", "modulo", [-2, -1])]) }))).toEqual([]);
  });

  it("nothing while there are errors", () => {
    const problems = validate("flag", flag({ offVariation: "gone", fallthrough: split(1) }), DOCUMENTS);
    expect(problems.map(({ severity }) => severity)).toEqual(["error"]);
  });
});
