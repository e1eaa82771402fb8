import { describe, expect, it } from "vitest";
import type { Condition, Flag, Json, Rule, Segment } from "../index.ts";
import { validate } from "../validate.ts";
import { jsonBytes } from "./limits.ts";

const leaf = (op: string, values: Json[], attribute = "p") => ({ attribute, op, values }) as Condition;
const exists = leaf("exists", []);
const rule = (index: number, conditions: Condition[]): Rule => ({
  id: `r${index}`,
  conditions,
  serve: { variation: "on" },
});
function flag(rules: Rule[], fields: Partial<Flag> = {}): Flag {
  return {
    key: "f",
    version: 1,
    type: "json",
    on: true,
    variations: [{ key: "on", value: true }],
    offVariation: null,
    prerequisites: [],
    targets: [],
    rules,
    fallthrough: { variation: "on" },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
    ...fields,
  };
}
const segment = (key: string, rules: Segment["rules"]): Segment => ({
  key,
  version: 1,
  included: [],
  excluded: [],
  rules,
});
const many = <T>(count: number, of: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => of(index));
const nested = (levels: number): Condition => (levels === 1 ? exists : { not: nested(levels - 1) });
const different = (count: number) => many(count, (index) => leaf("in", [`v${index}`]));
/** Segments with ninety conditions a rule, and a flag that depends on all of them. */
const asking = (segments: Segment[]) => ({
  document: flag(segments.map(({ key }, index) => rule(index, [{ segment: [key] }]))),
  segments: Object.fromEntries(segments.map((one) => [one.key, one])),
});
const errors = (document: Flag, segments: Record<string, Segment> = {}) =>
  validate("flag", document, { flags: {}, segments })
    .filter(({ severity }) => severity === "error")
    .map(({ pointer, code }) => [pointer, code]);

describe("limits, each met and passed by one", () => {
  it("100 variations", () => {
    const variations = many(101, (index) => ({ key: index === 0 ? "on" : `v${index}`, value: index }));
    expect(errors(flag([], { variations: variations.slice(0, 100) }))).toEqual([]);
    expect(errors(flag([], { variations }))).toEqual([["/variations", "variations-count"]]);
  });

  it("200 rules", () => {
    const rules = many(201, (index) => rule(index, [leaf("in", [`v${index}`])]));
    expect(errors(flag(rules.slice(1)))).toEqual([]);
    expect(errors(flag(rules))).toEqual([["/rules", "rules-count"]]);
  });

  it("100 conditions a rule, those inside others included", () => {
    expect(errors(flag([rule(0, different(100))]))).toEqual([]);
    expect(errors(flag([rule(0, different(101))]))).toEqual([["/rules/0/conditions", "conditions-count"]]);
    expect(errors(flag([rule(0, [{ any: different(99) }])]))).toEqual([]);
    expect(errors(flag([rule(0, [{ any: different(100) }])]))).toEqual([["/rules/0/conditions", "conditions-count"]]);
  });

  it("six levels of conditions", () => {
    expect(errors(flag([rule(0, [nested(6)])]))).toEqual([]);
    expect(errors(flag([rule(0, [nested(7)])])).map(([, code]) => code)).toEqual(["nesting-too-deep"]);
  });

  it("10,000 values a condition", () => {
    const values = many(10_001, (index) => index);
    expect(errors(flag([rule(0, [leaf("in", values.slice(1))])]))).toEqual([]);
    expect(errors(flag([rule(0, [leaf("in", values)])]))).toEqual([["/rules/0/conditions/0/values", "values-count"]]);
  });

  it("20,000 conditions reachable from a flag", () => {
    const big = (key: string, rules: number) =>
      segment(
        key,
        many(rules, () => ({ conditions: different(99) })),
      );
    // 201 rules of 99 are 19,899; the flag's own two make 19,901, and one more rule 20,000.
    const within = asking([big("s", 200), big("t", 1)]);
    expect(errors(within.document, within.segments)).toEqual([]);
    const beyond = asking([big("s", 200), big("t", 3)]);
    expect(errors(beyond.document, beyond.segments)).toEqual([["", "conditions-reachable"]]);
  });

  it("64 patterns reachable from a flag", () => {
    const patterns = (count: number) =>
      asking([
        segment("s", [
          {
            conditions: [
              leaf(
                "matches",
                many(count, (i) => `a${i}`),
              ),
            ],
          },
        ]),
      ]);
    expect(errors(patterns(64).document, patterns(64).segments)).toEqual([]);
    expect(errors(patterns(65).document, patterns(65).segments)).toEqual([["", "patterns-reachable"]]);
  });

  it("1 ms for the worst context, with what weighs most and what to do (Q1)", () => {
    const contains = (count: number) =>
      flag([
        rule(0, [
          leaf(
            "contains",
            many(count, (i) => `needle-${1000 + i}`),
          ),
        ]),
      ]);
    expect(errors(contains(135))).toEqual([]);
    expect(errors(contains(136))).toEqual([["", "work-reachable"]]);
    const [problem] = validate("flag", contains(200), { flags: {}, segments: {} });
    expect(problem?.message).toMatch(
      /^Worst-case evaluation of "\S+" .* would take [\d.]+ ms; the limit is 1 ms\. Most of it, [\d.]+ ms: contains\. .* use in, startsWith or endsWith/,
    );
    // Of attributes whose case does not matter, each once, however many conditions ask for it.
    const folded = (attributes: number) =>
      flag([
        rule(
          0,
          many(99, (i) => ({ ...leaf("in", [`v${i}`], `a${i % attributes}`), ignoreCase: true }) as Condition),
        ),
      ]);
    expect(errors(folded(33))).toEqual([]);
    expect(errors(folded(34))).toEqual([["", "work-reachable"]]);
  });

  it("64 KB a value, in bytes of UTF-8", () => {
    const flagWithValue = (value: Json) => flag([], { variations: [{ key: "on", value }] });
    expect(errors(flagWithValue("é".repeat(32_767)))).toEqual([]);
    expect(errors(flagWithValue("é".repeat(32_768)))).toEqual([["/variations/0/value", "value-too-large"]]);
  });

  it("256 KB a flag", () => {
    const large = (values: number) =>
      flag([], { targets: [{ variation: "on", values: many(values, (index) => `user-${100_000 + index}`) }] });
    expect(errors(large(18_500))).toEqual([]);
    expect(errors(large(19_000))).toEqual([["", "flag-too-large"]]);
  });

  it("counts bytes as UTF-8 has them", () => {
    for (const text of ["", "a", "é", "語", "😀", "\ud83d", '"\\', "a\0b", "\u2028"]) {
      expect([text, jsonBytes(text)]).toEqual([text, new TextEncoder().encode(JSON.stringify(text)).byteLength]);
    }
    expect(jsonBytes(5n)).toBe(Number.POSITIVE_INFINITY);
  });
});
