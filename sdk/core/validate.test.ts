import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { contexts, rulesets } from "../../test/conformance/arbitrary-ruleset.ts";
import { type Condition, compile, type Flag, type Json, type Operator, type Segment, type Serve } from "./index.ts";
import { type Documents, type Problem, validate } from "./validate.ts";

function flag(fields: Record<string, unknown> = {}): Flag {
  return {
    key: "f",
    version: 1,
    type: "boolean",
    on: true,
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
    offVariation: "off",
    prerequisites: [],
    targets: [],
    rules: [],
    fallthrough: { variation: "on" },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
    ...fields,
  } as Flag;
}

function segment(fields: Record<string, unknown> = {}): Segment {
  return { key: "s", version: 1, included: [], excluded: [], rules: [], ...fields } as Segment;
}

const documents: Documents = {
  flags: { g: flag({ key: "g" }), back: flag({ key: "back", prerequisites: [{ flag: "f", variations: ["on"] }] }) },
  segments: { t: segment({ key: "t" }), to: segment({ key: "to", rules: [{ conditions: [{ segment: ["s"] }] }] }) },
};
const when = (condition: unknown, serve: unknown = { variation: "on" }) =>
  flag({ rules: [{ id: "r", conditions: [condition], serve }] });
const leaf = (op: string, ...values: Json[]) => when({ attribute: "p", op, values });
const split = (ranges: unknown, fields: Record<string, unknown> = {}): Serve =>
  ({ split: { by: "key", seed: "s", hash: "xxh32", ranges, ...fields } }) as Serve;
const ranges = (...of: [string, unknown, unknown][]) =>
  flag({ fallthrough: split(of.map(([variation, from, to]) => ({ variation, from, to }))) });
const VALUE = "/rules/0/conditions/0/values/0";
const PLACE = "/rules/0/conditions/0";

/** Each validation error alone: the document, and the pointer and code of the report. */
const INVALID_DOCUMENTS: [description: string, document: Flag | Segment, pointer: string, code: string][] = [
  ["an offVariation that does not exist", flag({ offVariation: "x" }), "/offVariation", "variation-not-found"],
  [
    "a target's variation",
    flag({ targets: [{ variation: "x", values: ["u"] }] }),
    "/targets/0/variation",
    "variation-not-found",
  ],
  [
    "a rule's",
    when({ attribute: "p", op: "exists" }, { variation: "x" }),
    "/rules/0/serve/variation",
    "variation-not-found",
  ],
  ["a range's", ranges(["x", 0, 100_000]), "/fallthrough/split/ranges/0/variation", "variation-not-found"],
  [
    "fallthrough's",
    flag({ fallthrough: { variation: "constructor" } }),
    "/fallthrough/variation",
    "variation-not-found",
  ],
  [
    "a value of another type",
    flag({
      variations: [
        { key: "on", value: true },
        { key: "off", value: "false" },
      ],
    }),
    "/variations/1/value",
    "variation-value-type",
  ],
  [
    "two variations of one key",
    flag({
      variations: [
        { key: "on", value: true },
        { key: "off", value: false },
        { key: "on", value: true },
      ],
    }),
    "/variations/2/key",
    "variation-key-duplicate",
  ],
  [
    "no variations",
    flag({ variations: [], offVariation: null, fallthrough: split([]) }),
    "/variations",
    "variations-count",
  ],
  ["an unknown type", flag({ type: "text" }), "/type", "type-unknown"],
  ["a bad key", flag({ key: "new checkout" }), "/key", "key-invalid"],
  ["a key of a prototype", flag({ key: "__proto__" }), "/key", "key-invalid"],
  [
    "a variation's bad key",
    flag({
      variations: [
        { key: "on", value: true },
        { key: "off", value: false },
        { key: "a/b", value: true },
      ],
    }),
    "/variations/2/key",
    "key-invalid",
  ],
  ["a segment's bad key", segment({ key: ".." }), "/key", "key-invalid"],
  ["an unknown operator", leaf("resembles", "x"), `${PLACE}/op`, "operator-unknown"],
  ["an operator of a prototype", leaf("constructor", "x"), `${PLACE}/op`, "operator-unknown"],
  ["an object to compare with", leaf("in", { a: 1 }), VALUE, "operand-not-comparable"],
  ["a number for a text", leaf("startsWith", 5), VALUE, "operand-not-a-string"],
  ["a text for a number", leaf("lessThan", "5"), VALUE, "operand-not-a-number"],
  ["a date without a time", leaf("before", "2017-12-06"), VALUE, "operand-not-a-date"],
  ["a version with a v", leaf("semverEqual", "v1.0.0"), VALUE, "operand-not-a-version"],
  ["an address without a prefix", leaf("cidr", "10.0.0.1"), VALUE, "operand-not-a-network"],
  ["a back-reference", leaf("matches", "(a)\\1"), VALUE, "pattern-refused"],
  ["a pattern that could be slow", leaf("matches", "a{1000}"), VALUE, "pattern-refused"],
  ["a division by 0", leaf("modulo", 0, 0), VALUE, "modulo-divisor"],
  ["a remainder that nothing leaves", leaf("modulo", 3, 3), "/rules/0/conditions/0/values/1", "modulo-remainder"],
  ["a modulo of one", leaf("modulo", 3), "/rules/0/conditions/0/values", "modulo-operands"],
  ["nothing to compare with", leaf("in"), "/rules/0/conditions/0/values", "values-empty"],
  ["an empty target", flag({ targets: [{ variation: "on", values: [] }] }), "/targets/0/values", "values-empty"],
  ["an empty group", when({ any: [] }), `${PLACE}/any`, "values-empty"],
  ["values for exists", leaf("exists", true), "/rules/0/conditions/0/values", "values-unused"],
  [
    "ignoreCase where there is no case",
    when({ attribute: "p", op: "matches", values: ["a"], ignoreCase: true }),
    `${PLACE}/ignoreCase`,
    "ignore-case-unsupported",
  ],
  [
    "a negate that is no boolean",
    when({ attribute: "p", op: "exists", negate: "yes" }),
    `${PLACE}/negate`,
    "not-a-boolean",
  ],
  ["a path with an empty step", when({ attribute: "/a//b", op: "exists" }), `${PLACE}/attribute`, "attribute-invalid"],
  ["no attribute", when({ op: "exists" }), `${PLACE}/attribute`, "attribute-invalid"],
  ["an unknown kind of condition", when({ weather: "sunny" }), PLACE, "condition-unknown"],
  ["two kinds at once", when({ segment: ["t"], flag: "g", variations: ["on"] }), PLACE, "condition-ambiguous"],
  [
    "a segment that does not exist",
    when({ not: { segment: ["t", "x"] } }),
    `${PLACE}/not/segment/1`,
    "segment-not-found",
  ],
  [
    "a flag that does not exist",
    when({ all: [{ flag: "x", variations: ["on"] }] }),
    `${PLACE}/all/0/flag`,
    "flag-not-found",
  ],
  [
    "a prerequisite that does not exist",
    flag({ prerequisites: [{ flag: "x", variations: ["on"] }] }),
    "/prerequisites/0/flag",
    "flag-not-found",
  ],
  [
    "a prerequisite's variation",
    flag({ prerequisites: [{ flag: "g", variations: ["on", "x"] }] }),
    "/prerequisites/0/variations/1",
    "variation-not-found",
  ],
  ["a condition's variation", when({ flag: "g", variations: ["x"] }), `${PLACE}/variations/0`, "variation-not-found"],
  [
    "itself as a prerequisite",
    flag({ prerequisites: [{ flag: "f", variations: ["on"] }] }),
    "/prerequisites/0/flag",
    "cycle",
  ],
  ["a cycle of two", flag({ prerequisites: [{ flag: "back", variations: ["on"] }] }), "/prerequisites/0/flag", "cycle"],
  ["a cycle of segments", segment({ rules: [{ conditions: [{ segment: ["to"] }] }] }), `${PLACE}/segment/0`, "cycle"],
  [
    "ranges that overlap",
    ranges(["on", 0, 60_000], ["off", 50_000, 100_000]),
    "/fallthrough/split/ranges/1",
    "range-overlap",
  ],
  [
    "ranges out of order",
    ranges(["on", 50_000, 60_000], ["off", 0, 50_000]),
    "/fallthrough/split/ranges/1",
    "range-overlap",
  ],
  ["a range that goes too far", ranges(["on", 0, 100_001]), "/fallthrough/split/ranges/0", "range-invalid"],
  ["an empty range", ranges(["on", 5, 5]), "/fallthrough/split/ranges/0", "range-invalid"],
  ["a fraction of a bucket", ranges(["on", 0, 0.5]), "/fallthrough/split/ranges/0", "range-invalid"],
  ["no seed", flag({ fallthrough: split([], { seed: "" }) }), "/fallthrough/split/seed", "seed-missing"],
  ["an unknown hash", flag({ fallthrough: split([], { hash: "md5" }) }), "/fallthrough/split/hash", "hash-unknown"],
  ["a split by nothing", flag({ fallthrough: split([], { by: "" }) }), "/fallthrough/split/by", "attribute-invalid"],
  ["nothing to serve", flag({ fallthrough: {} }), "/fallthrough", "serve-unknown"],
  ["two things to serve", flag({ fallthrough: { variation: "on", ...split([]) } }), "/fallthrough", "serve-unknown"],
  [
    "two rules of one id",
    flag({ rules: [1, 2].map(() => ({ id: "r", conditions: [], serve: { variation: "on" } })) }),
    "/rules/1/id",
    "rule-id-duplicate",
  ],
  [
    "a rule without an id",
    flag({ rules: [{ conditions: [], serve: { variation: "on" } }] }),
    "/rules/0/id",
    "rule-id-missing",
  ],
  [
    "a sample of too many",
    segment({ rules: [{ conditions: [], sample: { by: "key", seed: "s", buckets: 100_001 } }] }),
    "/rules/0/sample/buckets",
    "buckets-invalid",
  ],
  ["a member that is no string", segment({ included: ["u", 5] }), "/included/1", "not-a-string"],
  ["rules that are no list", flag({ rules: {} }), "/rules", "not-an-array"],
  ["a rule that is no object", flag({ rules: [null] }), "/rules/0", "not-an-object"],
];

function onlySound<T extends Flag | Segment>(
  kind: "flag" | "segment",
  of: Record<string, T>,
  among: Documents,
): Record<string, T> {
  return Object.fromEntries(
    Object.entries(of).filter(([, document]) => validate(kind, document, among).every(isWarning)),
  );
}

const isWarning = ({ severity }: Problem) => severity === "warning";
const size = ({ flags, segments }: Documents) => Object.keys(flags).length + Object.keys(segments).length;
const kindOf = (document: Flag | Segment) => ("variations" in document ? "flag" : "segment");

describe("validate", () => {
  it.each(INVALID_DOCUMENTS)("reports %s, and nothing else", (_, document, pointer, code) => {
    const problems = validate(kindOf(document), document, documents);
    expect(problems.map((problem) => [problem.pointer, problem.code])).toEqual([[pointer, code]]);
    expect(problems[0]!.message).toMatch(/^\S.*\.$/);
  });

  it("finds nothing wrong with sound documents", () => {
    const sound = flag({
      prerequisites: [{ flag: "g", variations: ["on", "off"] }],
      targets: [{ variation: "on", values: ["u"], attribute: "/org/id" }],
      rules: [
        { id: "a", conditions: [{ attribute: "q", op: "exists" }], serve: { variation: "on" } },
        {
          id: "b",
          conditions: [{ not: { any: [{ segment: ["t", "s"] }, { attribute: "p", op: "modulo", values: [-3, 2] }] } }],
          serve: { variation: "off" },
        },
      ],
      fallthrough: split([
        { variation: "off", from: 0, to: 2 },
        { variation: "on", from: 2, to: 100_000 },
      ]),
    });
    expect(validate("flag", sound, { ...documents, segments: { ...documents.segments, s: segment() } })).toEqual([]);
    expect(
      validate(
        "segment",
        segment({ rules: [{ conditions: [], sample: { by: "key", seed: "s", buckets: 0 } }] }),
        documents,
      ),
    ).toEqual([]);
  });

  it("reports all validation errors together, each with its pointer", () => {
    const problems = validate(
      "flag",
      flag({ key: "a b", type: "?", offVariation: "x", fallthrough: { variation: "y" } }),
      documents,
    );
    expect(problems.map(({ pointer }) => pointer)).toEqual([
      "/key",
      "/type",
      "/offVariation",
      "/fallthrough/variation",
    ]);
  });

  it("names a cycle by its keys, the shortest way round (EV-4)", () => {
    const flags = {
      b: flag({ key: "b", rules: [{ id: "r", conditions: [{ segment: ["c"] }], serve: { variation: "on" } }] }),
      // What is saved under the document's own key does not count: the document stands in for it.
      f: flag({ prerequisites: [{ flag: "nothing", variations: ["on"] }] }),
    };
    const segments = {
      c: segment({ key: "c", rules: [{ conditions: [{ not: { flag: "f", variations: ["on"] } }] }] }),
    };
    const [problem] = validate("flag", flag({ prerequisites: [{ flag: "b", variations: ["on"] }] }), {
      flags,
      segments,
    });
    expect(problem).toMatchObject({ code: "cycle", pointer: "/prerequisites/0/flag" });
    expect(problem!.message).toContain("f → b → c → f");
  });

  it("reports a chain longer than evaluation follows (EV-4)", () => {
    const flags: Record<string, Flag> = {};
    for (let i = 0; i < 64; i++)
      flags[`f${i}`] = flag({ key: `f${i}`, prerequisites: [{ flag: `f${i + 1}`, variations: ["on"] }] });
    flags.f64 = flag({ key: "f64" });
    const first = flag({ prerequisites: [{ flag: "f0", variations: ["on"] }] });
    expect(validate("flag", first, { flags, segments: {} }).map(({ code }) => code)).toEqual(["chain-too-long"]);
    expect(validate("flag", flags.f0, { flags, segments: {} })).toEqual([]);
    const evaluator = compile({
      schema: 1,
      environment: "e",
      revision: 1,
      events: { exposureSampleRate: 1, summarySeconds: 30 },
      flags: { ...flags, f: first },
      segments: {},
    });
    expect(evaluator.evaluate("f", {}, null).errorCode).toBe("MALFORMED_FLAG");
    expect(evaluator.evaluate("f0", {}, null).errorCode).toBeUndefined();
  });

  it("takes any document whatever", () => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), (document, part) => {
        validate("flag", document, documents);
        validate("segment", document, documents);
        validate(
          "flag",
          flag({
            rules: [{ id: "r", conditions: [part, { all: part }], serve: part }],
            variations: [part],
            fallthrough: { split: part },
          }),
          documents,
        );
        validate("segment", segment({ rules: [part, { conditions: part, sample: part }] }), documents);
      }),
      { numRuns: 1_000 },
    );
  });

  it("passes nothing that evaluation then finds malformed (EV-8)", () => {
    let sound = 0;
    fc.assert(
      fc.property(rulesets, contexts, (rules, context) => {
        // What is left when nothing unsound is, and nothing that depends on it.
        let left = rules;
        for (let before = -1; before !== size(left); ) {
          before = size(left);
          left = {
            ...left,
            flags: onlySound("flag", left.flags, left),
            segments: onlySound("segment", left.segments, left),
          };
        }
        sound += Object.keys(left.flags).length;
        for (const decision of Object.values(compile(left).all(context)))
          expect(decision.errorCode).not.toBe("MALFORMED_FLAG");
      }),
      { numRuns: 3_000 },
    );
    expect(sound).toBeGreaterThan(100);
  });

  it("accepts exactly the operands that evaluation can use (EV-13)", () => {
    const operands: Json[] = ["x", "", "1.0.0", "2020-01-01T00:00:00Z", "10.0.0.0/8", "(", 5, 0, true, null, [], {}];
    const operators: Operator[] = ["startsWith", "matches", "lessThan", "before", "semverEqual", "cidr"];
    for (const op of operators) {
      for (const operand of operands) {
        const condition: Condition = { attribute: "p", op, values: [operand], negate: true };
        const tested = when(condition, { variation: "off" });
        const passes = validate("flag", tested, documents).every(isWarning);
        const rules = {
          schema: 1 as const,
          environment: "e",
          revision: 1,
          events: { exposureSampleRate: 1, summarySeconds: 30 },
          flags: { f: tested },
          segments: {},
        };
        // Negated and of no usable type, the attribute shows whether the operand was usable.
        expect([op, operand, compile(rules).evaluate("f", { p: {} }, null).reason === "RULE_MATCH"]).toEqual([
          op,
          operand,
          passes,
        ]);
      }
    }
  });
});
