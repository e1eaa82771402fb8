import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { contexts, rulesets } from "../../../test/conformance/arbitrary-ruleset.ts";
import {
  type Condition,
  compile,
  type Decision,
  diff,
  type Flag,
  type Json,
  type Operator,
  type Ruleset,
} from "../index.ts";

const REASONS = [
  "OFF",
  "KILLED",
  "PREREQUISITE_FAILED",
  "TARGET_MATCH",
  "RULE_MATCH",
  "FALLTHROUGH",
  "SPLIT",
  "STATIC",
  "ERROR",
];

function flag(fields: Partial<Flag> = {}): Flag {
  return {
    key: "f",
    version: 1,
    type: "json",
    on: true,
    variations: [
      { key: "on", value: { deep: [{ er: 1 }] } },
      { key: "off", value: null },
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
  };
}

function ruleset(flags: Record<string, unknown>, segments: Record<string, unknown> = {}): Ruleset {
  return {
    schema: 1,
    environment: "env_test",
    revision: 7,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags: flags as Ruleset["flags"],
    segments: segments as Ruleset["segments"],
  };
}

function checkShape({ reason, errorCode, variation, value }: Decision): void {
  expect(REASONS).toContain(reason);
  expect(errorCode !== undefined).toBe(reason === "ERROR");
  if (variation === null) expect(value).toBe(null);
}

const inP = (value: string): Flag["rules"] => [
  { id: "r", conditions: [{ attribute: "p", op: "in", values: [value] }], serve: { variation: "off" } },
];

describe("EV-1: evaluation is total and pure", () => {
  it("answers any flag of any ruleset in any context", () => {
    fc.assert(
      fc.property(rulesets, contexts, (rules, context) => {
        for (const decision of Object.values(compile(rules).all(context))) checkShape(decision);
      }),
      { numRuns: 1_000 },
    );
  });

  it("answers whatever the context is", () => {
    fc.assert(
      fc.property(
        rulesets,
        fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true, withMap: true }),
        (rules, context) => {
          for (const decision of Object.values(compile(rules).all(context))) checkShape(decision);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("answers whatever the documents are", () => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), contexts, (document, part, context) => {
        const broken = flag({ rules: part as never, prerequisites: [{ flag: "g", variations: ["on"] }] });
        const inner = flag({
          rules: [{ id: "r", conditions: [part as never, { segment: ["s"] }], serve: part as never }],
        });
        const evaluator = compile(ruleset({ d: document, f: broken, g: inner }, { s: part }));
        for (const key of ["d", "f", "g"]) checkShape(evaluator.evaluate(key, context, null));
      }),
      { numRuns: 2_000 },
    );
  });

  it("answers the same again, whatever was evaluated in between, and changes neither documents nor contexts", () => {
    fc.assert(
      fc.property(rulesets, contexts, contexts, (rules, one, other) => {
        const before = JSON.stringify(rules);
        const context = JSON.stringify(one);
        const evaluator = compile(rules);
        const first = evaluator.all(one);
        expect(JSON.stringify(one)).toBe(context);
        evaluator.all(other);
        expect(evaluator.all(one)).toEqual(first);
        expect(compile(JSON.parse(before) as Ruleset).all(one)).toEqual(first);
        expect(JSON.stringify(rules)).toBe(before);
      }),
      { numRuns: 500 },
    );
  });

  it("survives contexts made to break it", () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    const revokedArray = Proxy.revocable([], {});
    revoke();
    revokedArray.revoke();
    const cyclic: Record<string, unknown> = { targetingKey: "u" };
    cyclic.p = cyclic;
    const hostile: unknown[] = [
      proxy,
      { p: proxy, targetingKey: proxy },
      { p: revokedArray.proxy },
      cyclic,
      Object.create(null),
      Object.create({ targetingKey: "inherited", p: "x" }),
      new Proxy(
        {},
        {
          getOwnPropertyDescriptor: () => {
            throw new Error("no");
          },
          has: () => {
            throw new Error("no");
          },
        },
      ),
      {
        get targetingKey(): string {
          throw new Error("no");
        },
        get p(): string {
          throw new Error("no");
        },
      },
      {
        p: [
          {
            get x(): string {
              throw new Error("no");
            },
          },
        ],
      },
      {
        p: new Proxy([1], {
          get: () => {
            throw new Error("no");
          },
        }),
      },
      { p: () => "x", q: Symbol("x"), targetingKey: 5n },
      { p: "\ud83d", targetingKey: "\ude00" },
      undefined,
      null,
      5,
      "text",
      true,
      [],
      () => {},
      Symbol("x"),
      5n,
      new Date(),
      new Map(),
    ];
    const conditions = ["p", "/p/x", "key", "/p/p/p/p"].flatMap((attribute) =>
      (["in", "matches", "before", "semverEqual", "cidr", "modulo"] as const).map((op) => ({
        not: {
          attribute,
          op,
          values:
            op === "modulo"
              ? [2, 1]
              : op === "before"
                ? [1]
                : op === "semverEqual"
                  ? ["1.0.0"]
                  : op === "cidr"
                    ? ["::/0"]
                    : ["x"],
        },
      })),
    );
    const split = {
      split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to: 100_000 }] },
    };
    const evaluator = compile(
      ruleset({ f: flag({ rules: [{ id: "r", conditions, serve: split }], fallthrough: split }) }),
    );
    for (const context of hostile) expect(REASONS).toContain(evaluator.evaluate("f", context, null).reason);
    expect(evaluator.evaluate("f", Object.create({ targetingKey: "inherited" }), null).errorCode).toBe(
      "TARGETING_KEY_MISSING",
    );
  });

  it("survives an evaluation from inside a getter", () => {
    const evaluator = compile(
      ruleset({
        f: flag({ rules: inP("x") }),
        g: flag({ prerequisites: [{ flag: "f", variations: ["on"] }], rules: inP("y") }),
      }),
    );
    const context = {
      targetingKey: "u",
      get p(): unknown {
        return evaluator.evaluate("g", { targetingKey: "v", p: "y" }, null).variation === "off" ? "z" : "x";
      },
    };
    expect(evaluator.evaluate("g", context, null)).toMatchObject({ variation: "on", reason: "FALLTHROUGH" });
  });

  it("does not exhaust the stack, however deep a document is", () => {
    let condition: unknown = { attribute: "p", op: "exists" };
    let value: unknown = 1;
    for (let i = 0; i < 100_000; i++) {
      condition = { not: condition };
      value = [value];
    }
    const deep = flag({ rules: [{ id: "r", conditions: [condition as never], serve: { variation: "on" } }] });
    const json = flag({ variations: [{ key: "on", value: value as Json }] });
    const evaluator = compile(ruleset({ f: deep, g: json }));
    expect(evaluator.evaluate("f", {}, 1).errorCode).toBe("MALFORMED_FLAG");
    expect(evaluator.evaluate("g", {}, 1).reason).toBe("STATIC");
  });

  it("matches an array exactly when it matches one of its elements (EV-12)", () => {
    const text = fc.constantFrom("a", "b", "A", "\ufffd", "\ud800", "x1", "1.2.3", "10.0.0.1");
    const element = fc.oneof(text, fc.constantFrom<Json>(0, 1, -0, true, null, [], {}));
    const op = fc.constantFrom<Operator>("in", "in", "startsWith", "contains", "matches", "lessThan", "semverLessThan");
    const condition = fc.record({
      attribute: fc.constant("p"),
      op,
      values: fc.array(fc.oneof(text, fc.constantFrom<Json>(0, 1, false)), { minLength: 1, maxLength: 4 }),
      negate: fc.boolean(),
      ignoreCase: fc.boolean(),
    });
    fc.assert(
      fc.property(condition, fc.array(element, { maxLength: 12 }), (given, elements) => {
        const holds = (conditions: Condition[], p: Json): boolean => {
          const rules = [{ id: "r", conditions, serve: { variation: "off" } }];
          return compile(ruleset({ f: flag({ rules }) })).evaluate("f", { p }, null).reason === "RULE_MATCH";
        };
        const plain = { ...given, negate: false };
        const any = elements.some((one) => one !== null && !Array.isArray(one) && holds([plain], one));
        expect(holds([plain], elements)).toBe(any);
        // What cannot be used as an operand is false, negated or not: seen where the attribute is an empty array.
        expect(holds([{ ...given, negate: true }], elements)).toBe(!any && holds([{ ...given, negate: true }], []));
      }),
      { numRuns: 3_000 },
    );
  });

  it("ends in an error where arrays ask for more than half a millisecond's comparisons (EV-12)", () => {
    const asking = (count: number, op: Operator, ...values: Json[]) =>
      flag({
        rules: Array.from({ length: count }, (_, n) => ({
          id: `r${n}`,
          conditions: [{ attribute: "p", op, values }],
          serve: { variation: "off" },
        })),
      });
    const elements = Array.from({ length: 1000 }, (_, n) => `e${n}`);
    const flags = {
      few: asking(7, "startsWith", "x"),
      many: asking(8, "startsWith", "x"),
      members: asking(200, "in", "x", "y"),
      behind: flag({ prerequisites: [{ flag: "many", variations: ["on"] }] }),
    };
    const evaluator = compile(ruleset(flags));
    const answer = (key: string) => evaluator.evaluate(key, { p: elements }, "mine");
    expect(answer("few").reason).toBe("FALLTHROUGH");
    expect(answer("many")).toMatchObject({ value: "mine", reason: "ERROR", errorCode: "MALFORMED_FLAG" });
    expect(answer("members").reason).toBe("FALLTHROUGH");
    expect(answer("behind").reason).toBe("PREREQUISITE_FAILED");
    // Each evaluation anew, and so each flag of all.
    expect(answer("few").reason).toBe("FALLTHROUGH");
    expect(evaluator.all({ p: elements }).few?.reason).toBe("FALLTHROUGH");
    expect(evaluator.evaluate("many", { p: elements.slice(0, 100) }, null).reason).toBe("FALLTHROUGH");
  });

  it("evaluates a flag once, however many paths lead to it", () => {
    // Thirty layers of two: a billion ways without remembering.
    const flags: Record<string, Flag> = { f30a: flag(), f30b: flag() };
    for (let layer = 0; layer < 30; layer++) {
      const both = ["a", "b"].map((side) => ({ flag: `f${layer + 1}${side}`, variations: ["on"] }));
      flags[`f${layer}a`] = flag({ prerequisites: both });
      flags[`f${layer}b`] = flag({ prerequisites: both });
    }
    expect(compile(ruleset(flags)).evaluate("f0a", { targetingKey: "u" }, null).reason).toBe("FALLTHROUGH");
  });
});

describe("an evaluator", () => {
  it("after a delta answers as one compiled from the whole", () => {
    fc.assert(
      fc.property(rulesets, rulesets, contexts, (before, after, context) => {
        const evaluator = compile(before);
        evaluator.all(context);
        evaluator.apply(diff(before, after));
        expect(evaluator.all(context)).toEqual(compile(after).all(context));
        expect(evaluator.revision).toBe(after.revision);
        expect(JSON.parse(JSON.stringify(evaluator.ruleset.flags))).toEqual(JSON.parse(JSON.stringify(after.flags)));
        expect({ ...evaluator.ruleset.segments }).toEqual(after.segments);
      }),
      { numRuns: 1_000 },
    );
  });

  it("follows a flag that others refer to, before it exists and after it is gone", () => {
    const evaluator = compile(ruleset({ f: flag({ prerequisites: [{ flag: "g", variations: ["on"] }] }) }));
    const reason = () => evaluator.evaluate("f", { targetingKey: "u" }, null).reason;
    expect(reason()).toBe("PREREQUISITE_FAILED");
    evaluator.apply({ revision: 8, previous: 7, flags: { g: flag() }, segments: {} });
    expect(reason()).toBe("FALLTHROUGH");
    evaluator.apply({ revision: 9, previous: 8, flags: { g: null }, segments: {} });
    expect(reason()).toBe("PREREQUISITE_FAILED");
    expect(evaluator.evaluate("g", {}, "mine")).toMatchObject({ value: "mine", errorCode: "FLAG_NOT_FOUND" });
  });

  it("leaves the ruleset it was given as it was", () => {
    const rules = ruleset({ f: flag() });
    compile(rules).apply({ revision: 8, previous: 7, flags: { f: null, g: flag() }, segments: {} });
    expect(Object.keys(rules.flags)).toEqual(["f"]);
    expect(rules.revision).toBe(7);
  });

  it("takes a document under any key, __proto__ too", () => {
    const flags = JSON.parse(`{"__proto__": ${JSON.stringify(flag())}}`) as Record<string, Flag>;
    const evaluator = compile(ruleset(flags));
    expect(evaluator.evaluate("__proto__", {}, null).reason).toBe("STATIC");
    evaluator.apply({ revision: 8, previous: 7, flags: JSON.parse('{"__proto__": null}'), segments: {} });
    expect(evaluator.evaluate("__proto__", {}, null).errorCode).toBe("FLAG_NOT_FOUND");
    expect(({} as Record<string, unknown>).key).toBeUndefined();
  });

  it("answers all flags as it answers each, also along a chain longer than is followed (EV-4)", () => {
    const chain = Array.from({ length: 80 }, (_, n) => {
      const prerequisites = n === 0 ? [] : [{ flag: `f${n - 1}`, variations: ["on"] }];
      return [`f${n}`, flag({ key: `f${n}`, prerequisites })] as const;
    });
    for (const order of [chain, chain.toReversed()]) {
      const evaluator = compile(ruleset(Object.fromEntries(order)));
      const all = evaluator.all({});
      for (const key of Object.keys(all)) expect(all[key]).toEqual(evaluator.evaluate(key, {}, null));
      expect(new Set(Object.values(all).map(({ reason }) => reason))).toContain("ERROR");
    }
  });

  it("answers all flags as it answers each, and only client-side ones on request", () => {
    fc.assert(
      fc.property(rulesets, contexts, (rules, context) => {
        const evaluator = compile(rules);
        const all = evaluator.all(context);
        expect(Object.keys(all)).toEqual(Object.keys(rules.flags));
        for (const key of Object.keys(all)) expect(all[key]).toEqual(evaluator.evaluate(key, context, null));
        const visible = Object.keys(rules.flags).filter((key) => rules.flags[key]!.clientSide);
        expect(Object.keys(evaluator.all(context, { clientSide: true }))).toEqual(visible);
      }),
      { numRuns: 200 },
    );
  });

  it("freezes JSON values, however deep (EV-8)", () => {
    const { value } = compile(ruleset({ f: flag() })).evaluate("f", {}, null);
    expect(Object.isFrozen(value)).toBe(true);
    expect(() => ((value as { deep: { er: number }[] }).deep[0]!.er = 2)).toThrow(TypeError);
  });
});
