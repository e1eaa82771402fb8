// Rulesets for property tests: mostly sound, now and then not, over few keys so that documents meet each other.

import fc from "fast-check";
import type { Condition, Flag, Json, Operator, Range, Ruleset, Segment, Serve } from "../../sdk/core/index.ts";

const KEYS = ["a", "b", "c", "d", "nowhere"];
const VARIATIONS = ["on", "off", "missing"];
const VALUES: Json[] = [
  "x",
  "y",
  "1.2.3",
  "2020-01-01T00:00:00Z",
  "10.0.0.1",
  0,
  7,
  -1.5,
  true,
  null,
  ["x", 7],
  { inner: "x" },
];
const OPERANDS: Json[] = ["x", "1.0.0", "2019-01-01T00:00:00Z", "10.0.0.0/8", "^[a-z]+$", "(", 3, 1, true];
const ATTRIBUTES = ["p", "q", "/o/inner", "key", "targetingKey", "__proto__", "/"];
const OPERATORS = [
  ...["in", "startsWith", "endsWith", "contains", "matches", "exists", "lessThan", "greaterThanOrEqual", "modulo"],
  ...["before", "after", "semverEqual", "semverLessThan", "cidr", "resembles"],
] as Operator[];

const oneOf = <T>(values: readonly T[]) => fc.constantFrom(...values);
const sometimes = fc.integer({ min: 0, max: 9 }).map((n) => n === 0);

const conditions: fc.Arbitrary<Condition> = fc.letrec<{ condition: Condition }>((tie) => ({
  condition: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({
      attribute: oneOf(ATTRIBUTES),
      op: oneOf(OPERATORS),
      values: fc.array(oneOf(OPERANDS), { maxLength: 3 }),
      negate: fc.boolean(),
      ignoreCase: fc.boolean(),
    }),
    fc.record({ segment: fc.array(oneOf(KEYS), { minLength: 1, maxLength: 2 }), negate: fc.boolean() }),
    fc.record({ flag: oneOf(KEYS), variations: fc.array(oneOf(VARIATIONS), { minLength: 1, maxLength: 2 }) }),
    fc.record({ all: fc.array(tie("condition"), { maxLength: 2 }) }),
    fc.record({ any: fc.array(tie("condition"), { maxLength: 2 }) }),
    fc.record({ not: tie("condition") }),
  ) as fc.Arbitrary<Condition>,
})).condition;

const ranges: fc.Arbitrary<Range[]> = fc
  .tuple(fc.integer({ min: 1, max: 99_999 }), oneOf(VARIATIONS), oneOf(VARIATIONS))
  .map(([at, low, high]) => [
    { variation: low, from: 0, to: at },
    { variation: high, from: at, to: 100_000 },
  ]);

const serves: fc.Arbitrary<Serve> = fc.oneof(
  fc.record({ variation: oneOf(VARIATIONS) }),
  fc.record({
    split: fc.record({
      by: oneOf(["key", "p", "/o/inner"]),
      seed: oneOf(["s", "t"]),
      hash: fc.constant("xxh32"),
      ranges,
    }),
  }),
);

const flags: fc.Arbitrary<Omit<Flag, "key">> = fc.record({
  version: fc.nat(),
  type: fc.constant("string" as const),
  on: sometimes.map((off) => !off),
  variations: fc.constant([
    { key: "on", value: "ON" },
    { key: "off", value: "OFF" },
  ]),
  offVariation: oneOf(["off", "on", null]),
  prerequisites: fc.array(
    fc.record({ flag: oneOf(KEYS), variations: fc.array(oneOf(VARIATIONS), { minLength: 1, maxLength: 2 }) }),
    { maxLength: 1 },
  ),
  targets: fc.array(
    fc.record({ variation: oneOf(VARIATIONS), values: fc.array(oneOf(["u1", "u2"]), { minLength: 1, maxLength: 2 }) }),
    { maxLength: 1 },
  ),
  rules: fc
    .array(fc.record({ conditions: fc.array(conditions, { maxLength: 2 }), serve: serves }), { maxLength: 3 })
    .map((rules) => rules.map((rule, index) => ({ id: `r${index}`, ...rule }))),
  fallthrough: serves,
  clientSide: fc.boolean(),
  trackExposures: fc.constant(false),
  experiment: fc.constant(null),
  killed: sometimes,
});

const segments: fc.Arbitrary<Omit<Segment, "key">> = fc.record({
  version: fc.nat(),
  included: fc.array(oneOf(["u1", "u2"]), { maxLength: 1 }),
  excluded: fc.array(oneOf(["u1", "u2"]), { maxLength: 1 }),
  rules: fc.array(fc.record({ conditions: fc.array(conditions, { maxLength: 2 }) }), { maxLength: 2 }),
});

function keyed<T>(documents: fc.Arbitrary<T>): fc.Arbitrary<Record<string, T & { key: string }>> {
  return fc
    .dictionary(oneOf(["a", "b", "c", "d"]), documents, { maxKeys: 4, noNullPrototype: true })
    .map((found) => Object.fromEntries(Object.entries(found).map(([key, document]) => [key, { key, ...document }])));
}

export const rulesets: fc.Arbitrary<Ruleset> = fc.record({
  schema: fc.constant(1 as const),
  environment: fc.constant("env_property"),
  revision: fc.nat(),
  events: fc.constant({ exposureSampleRate: 1, summarySeconds: 30 }),
  flags: keyed(flags),
  segments: keyed(segments),
});

export const contexts: fc.Arbitrary<Record<string, unknown>> = fc.record(
  { targetingKey: oneOf(["u1", "u2", "u3", "", "😀"]), p: oneOf(VALUES), q: oneOf(VALUES), o: oneOf(VALUES) },
  { requiredKeys: [] },
);
