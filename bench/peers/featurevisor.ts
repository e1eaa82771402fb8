import { createInstance } from "@featurevisor/sdk";
import { type FlagSpec, type Side, type Test, variationsOf } from "./workloads.ts";

const side: Side = {
  document(flags) {
    const segments: Record<string, { conditions: unknown }> = {};
    const features = flags.map((flag) => [flag.key, toFeature(flag, segments)]);
    return { schemaVersion: "2", revision: "1", segments, features: Object.fromEntries(features) };
  },
  open(text) {
    const instance = createInstance({ datafile: text, logLevel: "fatal" });
    return {
      context: ({ targetingKey, ...attributes }) => ({ userId: targetingKey, ...attributes }),
      ask({ key, hit }) {
        return typeof hit === "boolean"
          ? (context: never) => instance.isEnabled(key, context)
          : (context: never) => instance.getVariation(key, context);
      },
      askAll: (flags) => (context: never) => {
        const values: Record<string, unknown> = {};
        for (const { key } of flags) values[key] = instance.isEnabled(key, context);
        return values;
      },
      value: (answer: boolean | string) => answer,
      valueOf: (answers: Record<string, boolean>, key) => answers[key],
    };
  },
};
export default side;

type Segments = Record<string, { conditions: unknown }>;

function toFeature(flag: FlagSpec, segments: Segments) {
  const { hit, otherwise } = flag;
  const traffic: unknown[] = [];
  const matched = (key: string, conditions: unknown): void => {
    const name = `${flag.key}-${key}`;
    segments[name] = { conditions };
    const named = typeof hit === "string" ? { variation: hit } : {};
    traffic.push({ key, segments: name, percentage: 100_000, allocation: [], ...named });
  };
  for (const [index, tests] of flag.rules.entries()) matched(`rule-${index}`, tests.map(toCondition));
  const isOneOf = (value: string[]) => [{ attribute: "userId", operator: "in", value }];
  if (flag.segment.length > 0) matched("segment", isOneOf(flag.segment));
  if (Array.isArray(otherwise)) {
    let from = 0;
    const allocation = otherwise.map(([variation, percent]) => {
      const range = [from, from + percent * 1000];
      from = range[1]!;
      return { variation: String(variation), range };
    });
    const isBoolean = typeof hit === "boolean";
    traffic.push({
      key: "split",
      segments: "*",
      percentage: isBoolean ? otherwise[0]![1] * 1000 : 100_000,
      allocation: isBoolean ? [] : allocation,
    });
  } else if (otherwise !== false) {
    traffic.push({ key: "everyone", segments: "*", percentage: 100_000, allocation: [] });
  }
  const force = flag.targets.length > 0 ? [{ conditions: isOneOf(flag.targets), enabled: true }] : [];
  const variations = typeof hit === "string" ? { variations: variationsOf(flag).map((value) => ({ value })) } : {};
  return { bucketBy: "userId", traffic, force, ...variations };
}

function toCondition(test: Test): unknown {
  const { attribute } = test;
  switch (test.op) {
    case "in":
      return { attribute, operator: "in", value: test.values };
    case "semverLessThan":
      return { attribute, operator: "semverLessThan", value: test.value };
    default:
      return { attribute, operator: test.op, value: test.value };
  }
}
