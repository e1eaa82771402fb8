import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { init } from "@launchdarkly/node-server-sdk";
import { FileDataSourceFactory } from "@launchdarkly/node-server-sdk/integrations";
import { type FlagSpec, type Side, type Test, variationsOf } from "./workloads.ts";

const silent = { error() {}, warn() {}, info() {}, debug() {} };

const side: Side = {
  asynchronous: true,
  document: (flags) => ({
    flags: Object.fromEntries(flags.map((flag) => [flag.key, toFlag(flag)])),
    segments: Object.fromEntries(
      flags
        .filter(({ segment }) => segment.length > 0)
        .map(({ key, segment }) => [key, { key, version: 1, included: segment, excluded: [], salt: "s", rules: [] }]),
    ),
  }),
  async open(text) {
    const folder = mkdtempSync(join(tmpdir(), "bunting-bench-"));
    const path = join(folder, "flags.json");
    writeFileSync(path, text);
    const client = init("sdk-key", {
      updateProcessor: new FileDataSourceFactory({ paths: [path] }).getFactory(),
      sendEvents: false,
      diagnosticOptOut: true,
      logger: silent,
    });
    await client.waitForInitialization({ timeout: 60 });
    rmSync(folder, { recursive: true });
    return {
      context: ({ targetingKey, ...attributes }) => ({ kind: "user", key: targetingKey, ...attributes }),
      ask({ key, hit }) {
        const fallback = typeof hit === "boolean" ? false : "none";
        return (context: never) => client.variation(key, context, fallback);
      },
      askAll: () => (context: never) => client.allFlagsState(context),
      value: (answer: boolean | string) => answer,
      valueOf: (state: { getFlagValue(key: string): boolean }, key) => state.getFlagValue(key),
    };
  },
};
export default side;

function toFlag(flag: FlagSpec) {
  const variations = variationsOf(flag);
  const hit = variations.indexOf(flag.hit);
  const rules = flag.rules.map((tests, index) => ({
    id: `rule-${index}`,
    variation: hit,
    clauses: tests.map(toClause),
  }));
  if (flag.segment.length > 0) {
    const inSegment = { attribute: "", op: "segmentMatch", values: [flag.key], negate: false };
    rules.push({ id: "segment", variation: hit, clauses: [inSegment] });
  }
  const { otherwise } = flag;
  const fallthrough = Array.isArray(otherwise)
    ? {
        rollout: {
          variations: otherwise.map(([value, percent]) => ({
            variation: variations.indexOf(value),
            weight: percent * 1000,
          })),
        },
      }
    : { variation: variations.indexOf(otherwise) };
  return {
    key: flag.key,
    version: 3,
    on: true,
    salt: "s",
    variations,
    offVariation: null,
    prerequisites: [],
    targets: flag.targets.length > 0 ? [{ variation: hit, values: flag.targets }] : [],
    rules,
    fallthrough,
  };
}

function toClause(test: Test) {
  const values: unknown[] = test.op === "in" ? test.values : [test.value];
  return { contextKind: "user", attribute: test.attribute, op: test.op, values, negate: false };
}
