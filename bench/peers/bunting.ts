import { type Context, compile, type Decision, type Flag, type Json, type Ruleset, type Segment } from "@bunting/core";
import { type FlagSpec, type Side, type Test, variationsOf } from "./workloads.ts";

const side: Side = {
  document(flags): Ruleset {
    const segments = flags.filter(({ segment }) => segment.length > 0).map(toSegment);
    return {
      schema: 1,
      environment: "env",
      revision: 1,
      events: { exposureSampleRate: 1, summarySeconds: 30 },
      flags: Object.fromEntries(flags.map((flag) => [flag.key, toFlag(flag)])),
      segments: Object.fromEntries(segments.map((segment) => [segment.key, segment])),
    };
  },
  open(text) {
    const evaluator = compile(JSON.parse(text) as Ruleset);
    return {
      context: (user): Context => user,
      ask({ key, hit }) {
        const fallback = typeof hit === "boolean" ? false : "none";
        return (context: Context) => evaluator.evaluate(key, context, fallback);
      },
      askAll: () => (context: Context) => evaluator.all(context),
      value: (decision: Decision<boolean | string>) => decision.value,
      valueOf: (decisions: Record<string, Decision<boolean | string>>, key) => decisions[key]?.value,
    };
  },
};
export default side;

function toFlag(flag: FlagSpec): Flag {
  const rules: Flag["rules"] = flag.rules.map((tests, index) => ({
    id: `rule-${index}`,
    conditions: tests.map(toCondition),
    serve: { variation: String(flag.hit) },
  }));
  if (flag.segment.length > 0) {
    rules.push({ id: "segment", conditions: [{ segment: [flag.key] }], serve: { variation: String(flag.hit) } });
  }
  return {
    key: flag.key,
    version: 3,
    type: typeof flag.hit === "boolean" ? "boolean" : "string",
    on: true,
    variations: variationsOf(flag).map((value) => ({ key: String(value), value })),
    offVariation: null,
    prerequisites: [],
    targets: flag.targets.length > 0 ? [{ variation: String(flag.hit), values: flag.targets }] : [],
    rules,
    fallthrough: toServe(flag),
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
  };
}

function toServe({ key, otherwise }: FlagSpec): Flag["fallthrough"] {
  if (!Array.isArray(otherwise)) return { variation: String(otherwise) };
  let from = 0;
  const ranges = otherwise.map(([variation, percent]) => {
    const range = { variation: String(variation), from, to: from + percent * 1000 };
    from = range.to;
    return range;
  });
  return { split: { by: "key", seed: key, hash: "xxh32", ranges } };
}

function toCondition(test: Test): Flag["rules"][number]["conditions"][number] {
  const values: Json[] = test.op === "in" ? test.values : [test.value];
  return { attribute: test.attribute, op: test.op, values };
}

function toSegment(flag: FlagSpec): Segment {
  return { key: flag.key, version: 1, included: flag.segment, excluded: [], rules: [] };
}
