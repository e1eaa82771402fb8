import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { explain } from "../explain.ts";
import { compile } from "../index.ts";
import type { Condition, Flag, Ruleset } from "../ruleset.ts";

const flagOf = (condition: Condition): Flag =>
  ({
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
    rules: [{ id: "r", conditions: [condition], serve: { variation: "on" } }],
    fallthrough: { variation: "off" },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
  }) as Flag;

function evaluatorOf(condition: Condition) {
  const ruleset = {
    schema: 1,
    environment: "e",
    revision: 1,
    events: {},
    flags: { f: flagOf(condition) },
    segments: {},
  };
  return compile(ruleset as unknown as Ruleset);
}
const matches = (condition: Condition, context: object): boolean =>
  evaluatorOf(condition).evaluate("f", context, false).value === true;

class Plan {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
  get upper(): string {
    return this.name.toUpperCase();
  }
}

class Money {
  readonly cents: number;
  constructor(cents: number) {
    this.cents = cents;
  }
  toJSON() {
    return { amount: this.cents / 100, at: new Date(0) };
  }
}

describe("a context is read as its JSON (EV-10)", () => {
  const before: Condition = { attribute: "a", op: "before", values: ["2026-01-01T00:00:00Z"] };
  const is = (...values: never[]): Condition => ({ attribute: "a", op: "in", values });
  const exists: Condition = { attribute: "a", op: "exists" } as Condition;
  test.each<[string, unknown, Condition, boolean]>([
    ["a date is its text", new Date("2025-06-01T00:00:00Z"), before, true],
    ["a date in a list is its text", [new Date("2025-06-01T00:00:00Z")], before, true],
    ["an invalid date is missing", new Date(Number.NaN), exists, false],
    ["an object says itself what it is", new Money(1250), { attribute: "/a/amount", op: "in", values: [12.5] }, true],
    ["and what is in it is read alike", new Money(1), { attribute: "/a/at", op: "before", values: [1] }, true],
    [
      "of an instance its own properties count",
      new Plan("pro"),
      { attribute: "/a/name", op: "in", values: ["pro"] },
      true,
    ],
    ["and not its getters", new Plan("pro"), { attribute: "/a/upper", op: "exists" } as Condition, false],
    ["a string object is a string", new String("pro"), is("pro" as never), true],
    ["a map has no entries", new Map([["plan", "pro"]]), { attribute: "/a/plan", op: "exists" } as Condition, false],
    ["a set is no list", new Set(["pro"]), is("pro" as never), false],
    ["a typed array is no list", new Uint8Array([1]), is(1 as never), false],
    ["a list with holes has nothing in them", Object.assign([], { 3: "pro" }), is("pro" as never), true],
    ["NaN is missing", Number.NaN, exists, false],
    ["infinity is missing", Number.POSITIVE_INFINITY, exists, false],
    ["minus zero is zero", -0, is(0 as never), true],
    ["undefined is missing", undefined, exists, false],
    ["a bigint is missing", 1n, exists, false],
    ["a function is missing", () => "pro", exists, false],
    ["a symbol is missing", Symbol("pro"), exists, false],
  ])("%s", (_, a, condition, expected) => {
    const context = { targetingKey: "u", a };
    expect(matches(condition, context)).toBe(expected);
    expect(explain(evaluatorOf(condition), "f", context, false).decision.value).toBe(expected);
  });

  const odd = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.constantFrom<unknown>("pro", "", 0, -0, 1.5, Number.NaN, -Infinity, true, null, undefined),
      fc.date({ noInvalidDate: false }),
      fc.constantFrom<unknown>(
        new Plan("pro"),
        new Money(150),
        new String("pro"),
        new Number(1.5),
        new Map([["a", 1]]),
      ),
      fc.constantFrom<unknown>(
        new Set(["pro"]),
        new Uint8Array([1]),
        Object.assign([], { 2: "pro" }),
        Object.create(null),
      ),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom("a", "b", "name", "0", "toJSON"), tie("value"), { maxKeys: 3 }),
    ),
  })).value;
  const condition = fc.record({
    attribute: fc.constantFrom("a", "/a", "/a/a", "/a/b/a", "/a/0", "/a/name", "/a/amount", "/a/at"),
    op: fc.constantFrom("in", "exists", "before", "after", "startsWith", "greaterThan", "modulo"),
    values: fc.constantFrom(["pro", 0, 1.5, true], ["2000-01-01T00:00:00Z"], [0], [3, 1]),
    negate: fc.boolean(),
  });

  test("whatever is in it: evaluated as it is or as its JSON, the answer is one", () => {
    fc.assert(
      fc.property(odd, condition, (a, one) => {
        const context = { targetingKey: "u", a };
        const json = JSON.parse(JSON.stringify(context)) as object;
        expect(matches(one as unknown as Condition, context)).toBe(matches(one as unknown as Condition, json));
      }),
      { numRuns: 2_000 },
    );
  });
});
