/**
 * The worst flags that the limits permit, evaluated by those who take longest: `npm run bench -- evaluate-limits`.
 * Every condition is looked at and fails; a flag is as large as 256 KB let it be.
 */
import { type Condition, type Context, compile, type Flag, type Json, type Operator, type Rule } from "@bunting/core";
import { validate } from "@bunting/core/validate";

const EVALUATIONS = 400;
const RULES = 200;

function flagOf(condition: (index: number) => Condition, count: number): Flag {
  // One condition that fails would end its rule: inside `any`, all are asked for.
  const rules = Array.from({ length: RULES }, (_, rule): Rule => {
    const share = Math.floor(((rule + 1) * count) / RULES) - Math.floor((rule * count) / RULES);
    const any = Array.from({ length: share }, (_, index) => condition(rule * 100 + index));
    return { id: `r${rule}`, conditions: [{ any }], serve: { variation: "on" } };
  });
  return {
    key: "worst",
    version: 1,
    type: "boolean",
    on: true,
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
    offVariation: "off",
    prerequisites: [],
    targets: [],
    rules: rules.filter(({ conditions: [only] }) => only !== undefined && "any" in only && only.any.length > 0),
    fallthrough: { variation: "off" },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
  };
}

const leaf = (op: Operator, ...values: Json[]): Condition => ({ attribute: "a", op, values });
const elements = Array.from({ length: 1000 }, (_, index) => `element-${index}`);
const filler = "a".repeat(1024);
const folded = Array.from({ length: 33 }, (_, index) => [`a${index}`, "Σ".repeat(1024)]);

/** As many conditions as are permitted are put into the flag. */
const worst: { name: string; condition: (index: number) => Condition; context: Context }[] = [
  { name: "in, a text", condition: (index) => leaf("in", `${index}`), context: { a: "missing" } },
  { name: "in, 1,000 elements", condition: (index) => leaf("in", `${index}`), context: { a: elements } },
  {
    name: "startsWith, 1,000 elements",
    condition: (index) => leaf("startsWith", `${index}`),
    context: { a: elements },
  },
  {
    name: "startsWith, 40 elements",
    condition: (i) => leaf("startsWith", `${i}`),
    context: { a: elements.slice(0, 40) },
  },
  { name: "contains, short", condition: (index) => leaf("contains", `a${index}`), context: { a: filler } },
  {
    name: "contains, long",
    condition: (i) => leaf("contains", `${filler.slice(0, 250)}${i}${filler.slice(0, 250)}`),
    context: { a: filler },
  },
  { name: "lessThan", condition: (index) => leaf("lessThan", index), context: { a: 1e9 } },
  { name: "semverEqual", condition: (index) => leaf("semverEqual", `1.2.${index}`), context: { a: "1.2.3-rc.1" } },
  {
    name: "semverEqual, 600 units",
    condition: (index) => leaf("semverEqual", `1.2.4-${"1.".repeat(300)}${index}`),
    context: { a: `1.2.4-${"1.".repeat(300)}x` },
  },
  {
    name: "before",
    condition: (index) => leaf("before", index),
    context: { a: `2026-11-21T12:00:00.${"1".repeat(1000)}Z` },
  },
  {
    name: "cidr",
    condition: (index) => leaf("cidr", `10.0.${index % 200}.0/24`),
    context: { a: "2001:db8:1111:2222:3333:4444:255.255.255.255" },
  },
  { name: "matches, quadratic", condition: (index) => leaf("matches", `a[a-z]*${index}$`), context: { a: filler } },
  { name: "matches, literal", condition: (index) => leaf("matches", `aaa${index}$`), context: { a: filler } },
  {
    name: "matches, costly",
    condition: (index) => leaf("matches", `(?:\\d|(?:[ab]){30}(?:\\w\\d|(?:aa){0,10}))\\d${index}$`),
    context: { a: filler },
  },
  {
    name: "ignoreCase",
    condition: (i) => ({ attribute: `a${i % 33}`, op: "in", values: [`${i}`], ignoreCase: true }),
    context: Object.fromEntries(folded),
  },
];

const rulesetOf = (flag: Flag) => ({
  schema: 1 as const,
  environment: "env",
  revision: 1,
  events: { exposureSampleRate: 1, summarySeconds: 30 },
  flags: { worst: flag },
  segments: {},
});
const isPermitted = (flag: Flag) =>
  !validate("flag", flag, rulesetOf(flag)).some(({ severity }) => severity === "error");

/** The most conditions with which the flag can be saved. */
function fullest(condition: (index: number) => Condition): { flag: Flag; count: number } {
  let [permitted, refused] = [0, RULES * 99];
  while (refused - permitted > 1) {
    const middle = (permitted + refused) >> 1;
    if (isPermitted(flagOf(condition, middle))) permitted = middle;
    else refused = middle;
  }
  return { flag: flagOf(condition, permitted), count: permitted };
}

console.log("| | conditions permitted | P50, µs | P99, µs |\n|---|---|---|---|");
for (const { name, condition, context } of worst) {
  const { flag, count } = fullest(condition);
  const evaluator = compile(rulesetOf(flag));
  const took: number[] = [];
  for (let index = -EVALUATIONS; index < EVALUATIONS; index++) {
    const start = performance.now();
    evaluator.evaluate("worst", { targetingKey: `user-${index}`, ...context }, false);
    if (index >= 0) took.push((performance.now() - start) * 1000);
  }
  const { reason } = evaluator.evaluate("worst", { targetingKey: "user", ...context }, false);
  if (reason !== "FALLTHROUGH" && !name.includes("elements")) throw new Error(`${name}: ${reason}`);
  took.sort((a, b) => a - b);
  const label = reason === "ERROR" ? `${name} (ends in an error)` : name;
  console.log(
    `| ${label} | ${count} | ${took[took.length >> 1]?.toFixed(0)} | ${took[Math.floor(took.length * 0.99)]?.toFixed(0)} |`,
  );
}
