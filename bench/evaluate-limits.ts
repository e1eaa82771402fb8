/**
 * The worst flags that the limits permit, evaluated by those who take longest: `npm run bench -- evaluate-limits`.
 * Every condition is looked at and fails; a flag is as large as 256 KB let it be.
 */
import { type Condition, type Context, compile, type Flag, type Json, type Operator, type Rule } from "@bunting/core";
import { validate } from "@bunting/core/validate";

const FLAG_BYTES = 256 * 1024;
const EVALUATIONS = 400;
const RULES = 200;

type Worst = { name: string; flag: Flag; context: Context };

function flagOf(condition: (index: number) => Condition, most = Number.POSITIVE_INFINITY): Flag {
  const each = JSON.stringify(condition(100_000)).length + 1;
  const room = FLAG_BYTES - 1000 - RULES * 70;
  const count = Math.min(most, RULES * 100, Math.floor(room / each));
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

const worst: Worst[] = [
  { name: "in, a string", flag: flagOf((index) => leaf("in", `${index}`)), context: { a: "missing" } },
  { name: "contains, 1,024 units", flag: flagOf((index) => leaf("contains", `a${index}`)), context: { a: filler } },
  { name: "semverEqual", flag: flagOf((index) => leaf("semverEqual", `1.2.${index}`)), context: { a: "1.2.3-rc.1" } },
  {
    name: "before, a date",
    flag: flagOf((index) => leaf("before", index)),
    context: { a: "2026-11-21T12:00:00.123Z" },
  },
  {
    name: "cidr",
    flag: flagOf((index) => leaf("cidr", `10.0.${index % 200}.0/24`)),
    context: { a: "192.168.100.200" },
  },
  { name: "64 patterns", flag: flagOf((index) => leaf("matches", `a[a-z]*${index}$`), 64), context: { a: filler } },
  { name: "in, 1,000 elements", flag: flagOf((index) => leaf("in", `${index}`)), context: { a: elements } },
];

console.log(`| | conditions | P50, µs | P99, µs |\n|---|---|---|---|`);
for (const { name, flag, context } of worst) {
  const ruleset = {
    schema: 1 as const,
    environment: "env",
    revision: 1,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags: { worst: flag },
    segments: {},
  };
  const refused = validate("flag", flag, ruleset)[0];
  const evaluator = compile(ruleset);
  const took: number[] = [];
  for (let index = -EVALUATIONS; index < EVALUATIONS; index++) {
    const start = performance.now();
    const { reason } = evaluator.evaluate("worst", { targetingKey: `user-${index}`, ...context }, false);
    const microseconds = (performance.now() - start) * 1000;
    if (reason !== "FALLTHROUGH") throw new Error(`${name}: ${reason}`);
    if (index >= 0) took.push(microseconds);
    if (microseconds > 20_000 && index < -10) index = -10;
  }
  took.sort((a, b) => a - b);
  const conditions = flag.rules.flatMap(({ conditions: [only] }) =>
    only !== undefined && "any" in only ? only.any : [],
  );
  const cells = [
    conditions.length,
    took[took.length >> 1]?.toFixed(0),
    took[Math.floor(took.length * 0.99)]?.toFixed(0),
  ];
  console.log(`| ${[refused === undefined ? name : `${name} (refused: ${refused.message})`, ...cells].join(" | ")} |`);
}
