// The vectors, read in place by every language. A table's fields are listed here: one that is not is a mistake in the vectors
// or something that this runner does not check. There is no list of cases to skip.

import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { parseAttribute, targetingKeyOf } from "../../sdk/core/attributes.ts";
import { bucketable } from "../../sdk/core/bucket.ts";
import { allocate, bucket, compile, type Flag, type Range, type Ruleset, xxh32 } from "../../sdk/core/index.ts";
import { parsePattern } from "../../sdk/core/pattern.ts";
import { lowerCase } from "../../sdk/core/strings.ts";

type Vector = { id: string; requirement: string; description: string; expected: unknown; [field: string]: unknown };
type Table = { fields: readonly string[]; optional?: readonly string[]; run: (vector: Vector) => unknown };

const ON: Flag = {
  key: "f",
  version: 1,
  type: "boolean",
  on: true,
  variations: [
    { key: "yes", value: true },
    { key: "no", value: false },
  ],
  offVariation: "no",
  prerequisites: [],
  targets: [],
  rules: [],
  fallthrough: { variation: "no" },
  clientSide: false,
  trackExposures: false,
  experiment: null,
  killed: false,
};

function ruleset(flags: unknown, segments: unknown): Ruleset {
  return {
    schema: 1,
    environment: "env_conformance",
    revision: 1,
    events: { exposureSampleRate: 1, summarySeconds: 30 },
    flags: flags as Ruleset["flags"],
    segments: segments as Ruleset["segments"],
  };
}

/** Whether a flag's one condition holds: through the front door, so that a leaf is what a flag sees of it. */
function holds(condition: unknown, context: unknown, segments: unknown = {}): boolean | "malformed" {
  const flag = { ...ON, rules: [{ id: "r", conditions: [condition], serve: { variation: "yes" } }] };
  const decision = compile(ruleset({ f: flag }, segments)).evaluate("f", context, null);
  return decision.errorCode === "MALFORMED_FLAG" ? "malformed" : (decision.value as boolean);
}

const TABLES: Record<string, Table> = {
  hash: { fields: ["text", "seed"], run: ({ text, seed }) => xxh32(text as string, seed as number) },
  bucket: {
    fields: ["seed", "value"],
    run({ seed, value }) {
      const text = bucketable(value);
      return text === undefined ? null : bucket(seed as string, text);
    },
  },
  attribute: {
    fields: ["reference", "context"],
    run({ reference, context }) {
      const attribute = parseAttribute(reference);
      if (attribute === undefined) return "malformed";
      const value = attribute.read(context as object, targetingKeyOf(context as object));
      return value === undefined ? "missing" : { value };
    },
  },
  operator: {
    fields: ["op"],
    optional: ["values", "value", "negate", "ignoreCase"],
    run({ value, id: _id, requirement: _requirement, description: _description, expected: _expected, ...condition }) {
      return holds(
        { attribute: "subject", ...condition },
        { targetingKey: "u", ...(value === undefined ? {} : { subject: value }) },
      );
    },
  },
  lowercase: { fields: ["text"], run: ({ text }) => lowerCase(text as string) },
  pattern: { fields: ["pattern"], run: ({ pattern }) => (parsePattern(pattern as string).ok ? "accepted" : "refused") },
  segment: {
    fields: ["segments", "context"],
    run: ({ segments, context }) => holds({ segment: ["s"] }, context, segments),
  },
  allocate: {
    fields: ["previous", "weights"],
    run: ({ previous, weights }) => allocate(previous as Range[], weights as Record<string, number>),
  },
  evaluation: {
    fields: ["flags", "segments", "flag", "context", "default"],
    run({ flags, segments, flag, context, default: defaultValue }) {
      const decision = compile(ruleset(flags, segments)).evaluate(flag as string, context, defaultValue);
      return Object.fromEntries(Object.entries(decision).filter(([, value]) => value !== undefined));
    },
  },
};

const RULES = new Set([...range(1, 19), ...range(30, 36)].map((number) => `EV-${number}`));
const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".json"));
const cited = new Set<string>();
let count = 0;

describe.each(files)("%s", (name) => {
  const file = JSON.parse(readFileSync(`${import.meta.dirname}/${name}`, "utf8")) as {
    table: string;
    about: string;
    cases: Vector[];
  };
  const table = TABLES[file.table]!;
  count += file.cases.length;

  it("has a table and unique ids", () => {
    expect(Object.keys(file).sort()).toEqual(["about", "cases", "table"]);
    expect(table).toBeDefined();
    expect(new Set(file.cases.map(({ id }) => id)).size).toBe(file.cases.length);
  });

  it.each(file.cases.map((vector) => [vector.requirement, vector.id, vector.description, vector] as const))(
    "%s %s: %s",
    (requirement, _id, _description, vector) => {
      expect(RULES).toContain(requirement);
      cited.add(requirement);
      const common = ["id", "requirement", "description", "expected"];
      const fields = Object.keys(vector).filter((field) => !table.optional?.includes(field));
      expect(fields.sort()).toEqual([...common, ...table.fields].sort());
      expect(table.run(vector)).toStrictEqual(vector.expected);
    },
  );
});

it("has a vector for every rule that a vector can show", () => {
  expect([...cited].sort()).toEqual([...RULES].sort());
});

afterAll(() => console.log(`conformance vectors: ${count} in ${files.length} tables`));

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
