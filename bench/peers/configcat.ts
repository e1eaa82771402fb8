import { getClient, PollingMode } from "@configcat/sdk";
import type { FlagSpec, Side, Test } from "./workloads.ts";

const TEXT_IS_ONE_OF = 0;
const SEMVER_LESS = 6;
const NUMBER_LESS = 12;
const DATE_BEFORE = 18;
const TEXT_ENDS_WITH_ANY_OF = 32;
const silent = { level: -1, log() {}, isEnabled: () => false };
let clients = 0;

const side: Side = {
  document: (flags) => ({
    p: { u: "https://cdn.invalid", r: 0, s: "" },
    s: [],
    f: Object.fromEntries(flags.map((flag) => [flag.key, toSetting(flag)])),
  }),
  async open(text) {
    const client = getClient(
      `configcat-sdk-1/${String(++clients).padStart(22, "0")}/${"x".repeat(22)}`,
      PollingMode.ManualPoll,
      {
        offline: true,
        logger: silent,
        cache: { get: () => `${Date.now()}\netag\n${text}`, set() {} },
      },
    );
    await client.waitForReady();
    const snapshot = client.snapshot();
    return {
      // Dates are seconds.
      context: ({ targetingKey, email, country, ...custom }) => ({
        identifier: targetingKey,
        email,
        country,
        custom: { ...custom, createdAt: Date.parse(custom.createdAt as string) / 1000 },
      }),
      ask({ key, hit }) {
        const fallback = typeof hit === "boolean" ? false : "none";
        return (user: never) => snapshot.getValue(key, fallback, user);
      },
      // There is getAllValuesAsync, which first looks into the cache again.
      askAll: (flags) => (user: never) => {
        const values: Record<string, unknown> = {};
        for (const { key } of flags) values[key] = snapshot.getValue(key, false, user);
        return values;
      },
      value: (answer: boolean | string) => answer,
      valueOf: (answers: Record<string, boolean>, key) => answers[key],
    };
  },
};
export default side;

const toValue = (value: boolean | string) => (typeof value === "boolean" ? { b: value } : { s: value });

function toSetting(flag: FlagSpec) {
  const served = { v: toValue(flag.hit), i: "hit" };
  const rules: unknown[][] = flag.rules.map((tests) => tests.map(toCondition));
  if (flag.targets.length > 0) rules.unshift([{ a: "Identifier", c: TEXT_IS_ONE_OF, l: flag.targets }]);
  if (flag.segment.length > 0) rules.push([{ a: "Identifier", c: TEXT_IS_ONE_OF, l: flag.segment }]);
  const split = Array.isArray(flag.otherwise) ? flag.otherwise : [];
  return {
    t: typeof flag.hit === "boolean" ? 0 : 1,
    r: rules.map((conditions) => ({ c: conditions.map((condition) => ({ u: condition })), s: served })),
    p: split.map(([value, percent]) => ({ p: percent, v: toValue(value), i: String(value) })),
    v: toValue(Array.isArray(flag.otherwise) ? flag.otherwise[0]![0] : flag.otherwise),
    i: "otherwise",
  };
}

function toCondition(test: Test) {
  const a = test.attribute === "email" ? "Email" : test.attribute === "country" ? "Country" : test.attribute;
  switch (test.op) {
    case "in":
      return { a, c: TEXT_IS_ONE_OF, l: test.values };
    case "semverLessThan":
      return { a, c: SEMVER_LESS, s: test.value };
    case "matches":
      return { a, c: TEXT_ENDS_WITH_ANY_OF, l: [test.suffix] };
    case "lessThan":
      return { a, c: NUMBER_LESS, d: test.value };
    case "before":
      return { a, c: DATE_BEFORE, d: Date.parse(test.value) / 1000 };
  }
}
