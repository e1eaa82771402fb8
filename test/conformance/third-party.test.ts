import { describe, expect, it } from "vitest";
import { compile, type Decision, type Json } from "../../sdk/core/index.ts";
import { type Case, cases, expectation, refusals, toDocuments } from "../third-party/vectors.ts";

const all = cases();
const portable = all.filter(({ klass }) => klass === "portable");
const policy = all.filter(({ klass }) => klass === "policy");

function ask(source: Case): Decision {
  const { flags, segments } = toDocuments(source, "case.");
  const evaluator = compile({
    schema: 1,
    environment: "env_third_party",
    revision: 1,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags,
    segments,
  });
  const { key, context, defaultValue } = expectation(source, "case.");
  return evaluator.evaluate<Json>(key, context, defaultValue);
}

describe(`the ${portable.length} cases on which other systems agree`, () => {
  it.each(portable.map((source) => [source.id, source] as const))("%s", (_, source) => {
    expect(ask(source)).toMatchObject(expectation(source, "case.").decision);
  });
});

/** Where systems differ: the rule of docs/evaluation.md that decides. `ours` is what we answer where it is not their answer. */
type Ruling = { rule: string; ours?: Partial<Decision> };
const no: Partial<Decision> = { value: false, variation: "v1", reason: "FALLTHROUGH" };
const yes: Partial<Decision> = { value: true, variation: "v0", reason: "RULE_MATCH", ruleIndex: 0 };

const RULINGS: Record<string, Ruling> = {
  // Partial versions: missing parts are 0.
  "configcat/semver1/147": { rule: "EV-17" },
  "hostile/68": { rule: "EV-17" },
  "hostile/69": { rule: "EV-17" },
  "ld/operators-semver-equal/489": { rule: "EV-17" },
  "ld/operators-semver-unequal/498": { rule: "EV-17" },
  "ld/operators-semver-unequal/499": { rule: "EV-17" },
  "ld/operators-semver-unequal/500": { rule: "EV-17" },
  "ld/operators-semver-unequal/508": { rule: "EV-17" },
  "ld/operators-semver-unequal/517": { rule: "EV-17" },
  // A leading v is no version, in an attribute or in an operand.
  "growthbook/195": { rule: "EV-17", ours: no },
  "growthbook/196": { rule: "EV-17", ours: no },
  "growthbook/198": { rule: "EV-17", ours: no },
  "growthbook/206": { rule: "EV-17", ours: no },
  "growthbook/224": { rule: "EV-17", ours: no },
  // Texts are not read as numbers.
  "growthbook/52": { rule: "EV-13", ours: no },
  "unleash/13-constraint-operators/13": { rule: "EV-13", ours: no },
  "unleash/13-constraint-operators/15": { rule: "EV-13", ours: yes },
  "unleash/13-constraint-operators/19": { rule: "EV-13", ours: no },
  "unleash/13-constraint-operators/20": { rule: "EV-13" },
  "unleash/13-constraint-operators/25": { rule: "EV-13", ours: no },
  "unleash/13-constraint-operators/28": { rule: "EV-13" },
  // A missing attribute is no match, negated or not.
  "growthbook/50": { rule: "EV-11" },
  "hostile/10": { rule: "EV-11" },
  "unleash/09-strategy-constraints/4": { rule: "EV-11", ours: no },
  "unleash/13-constraint-operators/42": { rule: "EV-11", ours: no },
  // Paths, and names that are none.
  "ld/attribute-references/3": { rule: "EV-10" },
  "ld/attribute-references/12": { rule: "EV-10" },
  "ld/errors-bad-attribute-reference/35": { rule: "EV-10" },
  // One dialect of patterns.
  "hostile/77": { rule: "EV-14" },
  "unleash/21-regex-constraint-operators/36": { rule: "EV-13" },
  // Variations that do not exist.
  "ld/errors/56": { rule: "EV-8" },
  "ld/errors/62": { rule: "EV-8" },
  "ld/errors/74": { rule: "EV-8" },
  "ld/errors/89": { rule: "EV-8" },
  "ld/errors/90": { rule: "EV-8" },
  // The evaluator compares no types: the clients' typed getters do, and have tests of their own.
  "ld/errors-wrong-type/40": { rule: "EV-8", ours: { value: "a", variation: "v0", reason: "OFF" } },
  "ld/errors-wrong-type/43": { rule: "EV-8", ours: { value: true, variation: "v0", reason: "OFF" } },
  "ld/rule-match/648": { rule: "EV-13" },
  "ld/segment-recursion/678": { rule: "EV-19" },
};

describe(`the ${policy.length} cases on which they do not`, () => {
  it("has a ruling for each of them, and no others", () => {
    expect(Object.keys(RULINGS).sort()).toEqual(policy.map(({ id }) => id).sort());
  });

  it.each(policy.map((source) => [RULINGS[source.id]?.rule, source.id, source] as const))(
    "%s decides %s",
    (_, id, source) => {
      const theirs = expectation(source, "case.").decision;
      const ours = RULINGS[id]?.ours;
      expect(ask(source)).toMatchObject(ours ?? theirs);
      // A ruling that changes nothing is a mistake in the table.
      if (ours !== undefined) expect(ask(source)).not.toMatchObject(theirs);
    },
  );
});

it("knows which of the cases the API refuses to save, and why (EV-13)", () => {
  const codes = portable.flatMap((source) => [...new Set(refusals(source, "case.").map(({ code }) => code))]);
  const counts = Object.fromEntries([...new Set(codes)].map((code) => [code, codes.filter((c) => c === code).length]));
  expect(counts).toEqual({
    "operand-not-a-date": 13,
    "operand-not-a-version": 13,
    "pattern-refused": 2,
    "values-empty": 3,
  });
});

it("prints how many there are", () => {
  console.log(`third-party cases: ${portable.length} portable, ${policy.length} policy`);
  expect(portable.length + policy.length).toBe(320);
});
