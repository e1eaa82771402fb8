import { GrowthBookClient } from "@growthbook/growthbook";
import type { FlagSpec, Side, Test, User } from "./workloads.ts";

const side: Side = {
  document: (flags) => ({
    features: Object.fromEntries(flags.map((flag) => [flag.key, toFeature(flag)])),
    savedGroups: Object.fromEntries(
      flags.filter(({ segment }) => segment.length > 0).map(({ key, segment }) => [key, segment]),
    ),
  }),
  open(text) {
    const client = new GrowthBookClient().initSync({ payload: JSON.parse(text) });
    return {
      context: (attributes) => ({ attributes }),
      ask:
        ({ key }) =>
        (context: { attributes: User }) =>
          client.evalFeature(key, context),
      askAll: (flags) => (context: { attributes: User }) => {
        const results: Record<string, unknown> = {};
        for (const { key } of flags) results[key] = client.evalFeature(key, context);
        return results;
      },
      value: (result: { value: boolean | string }) => result.value,
      valueOf: (results: Record<string, { value: boolean }>, key) => results[key]?.value,
    };
  },
};
export default side;

function toFeature({ key, hit, targets, rules, segment, otherwise }: FlagSpec) {
  const force = (condition: unknown) => ({ condition, force: hit });
  const all: unknown[] = [];
  if (targets.length > 0) all.push(force({ targetingKey: { $in: targets } }));
  for (const tests of rules) all.push(force(Object.assign({}, ...tests.map(toCondition))));
  if (segment.length > 0) all.push(force({ targetingKey: { $inGroup: key } }));
  if (!Array.isArray(otherwise)) return { defaultValue: otherwise, rules: all };
  all.push({
    key,
    variations: otherwise.map(([value]) => value),
    weights: otherwise.map(([, percent]) => percent / 100),
    coverage: 1,
    hashAttribute: "targetingKey",
    hashVersion: 2,
  });
  return { defaultValue: otherwise[0]![0], rules: all };
}

function toCondition(test: Test): object {
  switch (test.op) {
    case "in":
      return { [test.attribute]: { $in: test.values } };
    case "semverLessThan":
      return { [test.attribute]: { $vlt: test.value } };
    case "matches":
      return { [test.attribute]: { $regex: test.value } };
    // Dates are compared as texts.
    case "lessThan":
    case "before":
      return { [test.attribute]: { $lt: test.value } };
  }
}
