import { Unleash } from "unleash-client";
import type { FlagSpec, Side, Test } from "./workloads.ts";

const side: Side = {
  document: (flags) => ({
    version: 2,
    features: flags.map((flag, index) => toFeature(flag, index)),
    segments: flags.flatMap(({ segment }, id) =>
      segment.length > 0 ? [{ id, constraints: [constraint("userId", "IN", { values: segment })] }] : [],
    ),
  }),
  async open(text) {
    const { features, segments } = JSON.parse(text);
    const unleash = new Unleash({
      appName: "bench",
      url: "http://127.0.0.1:1/api/",
      refreshInterval: 0,
      metricsInterval: 0,
      disableMetrics: true,
      skipInstanceCountWarning: true,
      disableAutoStart: true,
      storageProvider: { set: async () => {}, get: async () => undefined },
      bootstrap: { data: features, segments },
    });
    // There is no server to fetch from; the bootstrap is all there is.
    unleash.on("error", () => {});
    unleash.on("warn", () => {});
    const ready = new Promise((resolve) => unleash.once("ready", resolve));
    void unleash.start();
    await ready;
    return {
      // Dates are only compared with `currentTime`.
      context: ({ targetingKey, createdAt, ...properties }) => ({
        userId: targetingKey,
        currentTime: new Date(createdAt as string),
        properties,
      }),
      ask({ key, hit }) {
        return typeof hit === "boolean"
          ? (context: never) => unleash.isEnabled(key, context, false)
          : (context: never) => unleash.getVariant(key, context);
      },
      askAll: (flags) => (context: never) => {
        const values: Record<string, unknown> = {};
        for (const { key } of flags) values[key] = unleash.isEnabled(key, context, false);
        return values;
      },
      value: (answer: boolean | { name: string }) => (typeof answer === "boolean" ? answer : answer.name),
      valueOf: (answers: Record<string, boolean>, key) => answers[key],
    };
  },
};
export default side;

type Constraint = { contextName: string; operator: string; values: string[]; value?: string; inverted: boolean };

function constraint(contextName: string, operator: string, rest: { values?: string[]; value?: string }): Constraint {
  return { contextName, operator, values: [], inverted: false, ...rest };
}

function toFeature(flag: FlagSpec, id: number) {
  const { key, otherwise, hit } = flag;
  const rollout = (percent: number, constraints: Constraint[], variants: unknown[] = []) => ({
    name: "flexibleRollout",
    parameters: { rollout: String(percent), stickiness: "default", groupId: key },
    constraints,
    variants,
  });
  const named = typeof hit === "string" ? [variant(hit, 100)] : [];
  const strategies: unknown[] = [];
  if (flag.targets.length > 0) {
    strategies.push({ name: "userWithId", parameters: { userIds: flag.targets.join(",") }, constraints: [] });
  }
  for (const tests of flag.rules) strategies.push(rollout(100, tests.map(toConstraint), named));
  if (flag.segment.length > 0) strategies.push({ ...rollout(100, []), segments: [id] });
  if (!Array.isArray(otherwise)) {
    if (otherwise !== false) strategies.push({ name: "default", parameters: {}, constraints: [] });
  } else if (typeof hit === "boolean") {
    strategies.push(rollout(otherwise[0]![1], []));
  } else {
    strategies.push(
      rollout(
        100,
        [],
        otherwise.map(([name, percent]) => variant(String(name), percent)),
      ),
    );
  }
  return { name: key, type: "release", enabled: true, impressionData: false, strategies, variants: [] };
}

function variant(name: string, percent: number) {
  return { name, weight: percent * 10, stickiness: "default", payload: { type: "string", value: name } };
}

function toConstraint(test: Test): Constraint {
  switch (test.op) {
    case "in":
      return constraint(test.attribute, "IN", { values: test.values });
    case "semverLessThan":
      return constraint(test.attribute, "SEMVER_LT", { value: test.value });
    case "matches":
      return constraint(test.attribute, "REGEX", { value: test.value });
    case "lessThan":
      return constraint(test.attribute, "NUM_LT", { value: String(test.value) });
    case "before":
      return constraint("currentTime", "DATE_BEFORE", { value: test.value });
  }
}
