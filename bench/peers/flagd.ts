import { FlagdCore } from "@openfeature/flagd-core";
import { type FlagSpec, type Side, type Test, type User, variationsOf } from "./workloads.ts";

const silent = { error() {}, warn() {}, info() {}, debug() {} };

export function flagd(options: { disableDynamicCodeGeneration: boolean }): Side {
  return {
    document: (flags) => ({ flags: Object.fromEntries(flags.map((flag) => [flag.key, toFlag(flag)])) }),
    open(text) {
      const core = new FlagdCore(undefined, silent, options);
      core.setConfigurations(text);
      return {
        // No operator parses dates: numbers are compared.
        context: (user) => ({ ...user, createdAt: Date.parse(user.createdAt as string) }),
        ask({ key, hit }) {
          return typeof hit === "boolean"
            ? (user: User) => core.resolveBooleanEvaluation(key, false, user, silent)
            : (user: User) => core.resolveStringEvaluation(key, "none", user, silent);
        },
        askAll: () => (user: User) => core.resolveAll(user, silent),
        value: (details: { value: boolean | string }) => details.value,
        valueOf: (all: { flagKey: string; value: boolean }[], key) => all.find(({ flagKey }) => flagKey === key)?.value,
      };
    },
  };
}
export default flagd({ disableDynamicCodeGeneration: false });

function toFlag(flag: FlagSpec) {
  const variants = Object.fromEntries(variationsOf(flag).map((value) => [String(value), value]));
  const { otherwise } = flag;
  const branches: unknown[] = [];
  const hit = (test: unknown): unknown => branches.push(test, String(flag.hit));
  if (flag.targets.length > 0) hit({ in: [{ var: "targetingKey" }, flag.targets] });
  for (const tests of flag.rules) hit(tests.length > 1 ? { and: tests.map(toLogic) } : toLogic(tests[0]!));
  if (flag.segment.length > 0) hit({ in: [{ var: "targetingKey" }, flag.segment] });
  const rest = Array.isArray(otherwise)
    ? { fractional: otherwise.map(([variation, percent]) => [String(variation), percent]) }
    : String(otherwise);
  const targeting = branches.length > 0 ? { if: [...branches, rest] } : rest;
  const isStatic = typeof targeting === "string";
  return {
    state: "ENABLED",
    variants,
    defaultVariant: isStatic ? targeting : String(flag.hit),
    ...(isStatic ? {} : { targeting }),
  };
}

function toLogic(test: Test): unknown {
  const attribute = { var: test.attribute };
  switch (test.op) {
    case "in":
      return { in: [attribute, test.values] };
    case "semverLessThan":
      return { sem_ver: [attribute, "<", test.value] };
    case "matches":
      return { ends_with: [attribute, test.suffix] };
    case "lessThan":
      return { "<": [attribute, test.value] };
    case "before":
      return { "<": [attribute, Date.parse(test.value)] };
  }
}
