/** Explanations against the evaluator: on every vector the steps lead to the decision that is made. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { explain } from "../../sdk/core/explain.ts";
import { type Context, compile, type Flag, type Ruleset } from "../../sdk/core/index.ts";
import { booleanFlag, rulesetOf } from "../support/peer.ts";
import { contexts, rulesets } from "./arbitrary-ruleset.ts";

type Vector = { id: string; flags: Ruleset["flags"]; segments: Ruleset["segments"]; flag: string; context: Context };

const LOST = "the document is malformed, or compares arrays with more values than an evaluation may";
const vectorsOf = (name: string) =>
  (JSON.parse(readFileSync(`${import.meta.dirname}/${name}.json`, "utf8")) as { cases: Vector[] }).cases;

/** The walk agrees, but for what the evaluator calls malformed. */
function check(ruleset: Ruleset, key: string, context: Context): string[] {
  const evaluator = compile(ruleset);
  const { decision, steps } = explain(evaluator, key, context, "default");
  expect(decision).toEqual(compile(ruleset).evaluate(key, context, "default"));
  if (decision.errorCode !== "MALFORMED_FLAG") expect(steps, steps.join("\n")).not.toContain(LOST);
  expect(steps.length).toBeGreaterThan(0);
  return steps;
}

describe("steps lead to the decision", () => {
  test.each(vectorsOf("evaluation").map((vector) => [vector.id, vector] as const))(
    "%s",
    (_, { flags, segments, flag, context }) => {
      check({ ...rulesetOf(1, []), flags, segments }, flag, context);
    },
  );
});

test("so they do for any ruleset and any context", () => {
  fc.assert(
    fc.property(rulesets, contexts, (ruleset, context) => {
      for (const key of Object.keys(ruleset.flags)) check(ruleset, key, context);
    }),
    { numRuns: 300 },
  );
});

test("says of each step what was looked at, and of what", () => {
  const flag: Flag = booleanFlag("new-checkout", false, 3, {
    prerequisites: [{ flag: "payments", variations: ["on"] }],
    targets: [{ variation: "on", values: ["ada", "grace"] }],
    rules: [
      {
        id: "staff",
        conditions: [{ any: [{ segment: ["staff"] }, { attribute: "plan", op: "in", values: ["pro", "team"] }] }],
        serve: { variation: "on" },
      },
      {
        id: "new",
        conditions: [{ attribute: "version", op: "semverLessThan", values: ["2.0.0"], negate: true }],
        serve: { variation: "on" },
      },
    ],
    fallthrough: {
      split: {
        ...{ by: "targetingKey", seed: "s", hash: "xxh32" },
        ranges: [
          { variation: "on", from: 0, to: 50_000 },
          { variation: "off", from: 50_000, to: 100_000 },
        ],
      },
    },
  });
  const segment = { key: "staff", version: 1, included: ["boss"], excluded: [], rules: [] };
  const ruleset = { ...rulesetOf(1, [flag, booleanFlag("payments", true, 1)]), segments: { staff: segment } };
  expect(check(ruleset, "new-checkout", { targetingKey: "user-42", plan: "free", version: "1.9.9" })).toEqual([
    "it is on, and nobody killed it",
    'prerequisite met: flag "payments" is "on" by STATIC, required is "on"',
    'no target of "on": "targetingKey" "user-42" is not among its 2',
    'rule 1 (staff) does not match: the context is not in segment "staff", and attribute "plan", "free", is not in ["pro", "team"]',
    'rule 2 (new) does not match: attribute "version", "1.9.9", is a version below ["2.0.0"]',
    "nothing above decided, so the fallthrough does",
    expect.stringMatching(
      /^bucket [\d,]+ of "targetingKey" "user-42" lies in (0–50,000, which is "on"|50,000–100,000, which is "off")$/,
    ),
    expect.stringMatching(/^variation "(on|off)", (true|false), is served, because of SPLIT$/),
  ]);
  expect(check(ruleset, "new-checkout", { targetingKey: "boss" })).toContain(
    'rule 1 (staff) matches: the context is in segment "staff"',
  );
  expect(check(ruleset, "new-checkout", {})).toContain(
    'the split is by "targetingKey", which the context does not have',
  );
  const killed = { ...ruleset, flags: { ...ruleset.flags, "new-checkout": { ...flag, killed: true } } };
  expect(check(killed, "new-checkout", {})).toEqual([
    "it was killed",
    'variation "off", false, is served, because of KILLED',
  ]);
  expect(check(ruleset, "no-such", {})).toEqual(['there is no flag "no-such": the caller\'s default is served']);
});

test("changes nothing in the evaluator, and takes whatever context it is given", () => {
  const evaluator = compile(rulesetOf(7, [booleanFlag("a", true, 1)]));
  const before = JSON.stringify(evaluator.ruleset);
  for (const context of [null, 7, "x", [], { targetingKey: 7n }]) explain(evaluator, "a", context as never);
  expect(JSON.stringify(evaluator.ruleset)).toBe(before);
});
