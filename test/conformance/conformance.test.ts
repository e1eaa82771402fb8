// The vectors, read in place by every language. vectors.schema.json lists each table's fields: one that is not there is a
// mistake in the vectors or something that this runner does not check. There is no list of cases to skip.

import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { bucketable } from "../../sdk/core/bucketing/bucket.ts";
import { parseAttribute, targetingKeyOf } from "../../sdk/core/evaluate/attributes.ts";
import {
  allocate,
  bucket,
  compile,
  type Decision,
  emptyFilter,
  type Flag,
  placeOf,
  type Range,
  type Ruleset,
  setBits,
  xxh32,
} from "../../sdk/core/index.ts";
import { lowerCase } from "../../sdk/core/operators/strings.ts";
import { parsePattern } from "../../sdk/core/patterns/pattern.ts";

type Vector = { id: string; requirement: string; description: string; expected: unknown; [field: string]: unknown };
type Table = (vector: Vector) => unknown;

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

/** By segment, in base64. */
type Filters = Record<string, { generation: number; bits: string }>;

/** Whether a flag's one condition holds: through the front door, so that a leaf is what a flag sees of it. */
function holds(condition: unknown, context: unknown, segments: unknown = {}, filters: Filters = {}): unknown {
  const flag = { ...ON, rules: [{ id: "r", conditions: [condition], serve: { variation: "yes" } }] };
  const evaluator = compile(ruleset({ f: flag }, segments));
  for (const [key, { generation, bits }] of Object.entries(filters)) {
    evaluator.setFilter(key, generation, Buffer.from(bits, "base64"));
  }
  const decision = evaluator.evaluate("f", context, null);
  return decision.errorCode === "MALFORMED_FLAG" ? "malformed" : decision.value;
}

/** Without the fields that do not apply. */
function listed(decision: Decision): object {
  return Object.fromEntries(Object.entries(decision).filter(([, value]) => value !== undefined));
}

const TABLES: Record<string, Table> = {
  hash: ({ text, seed }) => xxh32(text as string, seed as number),
  bucket({ seed, value }) {
    const text = bucketable(value);
    return text === undefined ? null : bucket(seed as string, text);
  },
  attribute({ reference, context }) {
    const attribute = parseAttribute(reference);
    if (attribute === undefined) return "malformed";
    const value = attribute.read(context as object, targetingKeyOf(context as object));
    return value === undefined ? "missing" : { value };
  },
  operator: ({ value, id: _id, requirement: _requirement, description: _description, expected: _expected, ...leaf }) =>
    holds({ attribute: "subject", ...leaf }, { targetingKey: "u", ...(value === undefined ? {} : { subject: value }) }),
  lowercase: ({ text }) => lowerCase(text as string),
  pattern: ({ pattern }) => (parsePattern(pattern as string) === undefined ? "refused" : "accepted"),
  segment: ({ segments, context, filters }) => holds({ segment: ["s"] }, context, segments, filters as Filters),
  filter({ members, bits, hashes }) {
    const size = { bits: bits as number, hashes: hashes as number };
    const filter = emptyFilter(size);
    for (const member of members as string[]) setBits(filter, size, ...placeOf(member));
    return Buffer.from(filter).toString("base64");
  },
  allocate: ({ previous, weights }) => allocate(previous as Range[], weights as Record<string, number>),
  evaluation: ({ flags, segments, flag, context, default: defaultValue }) =>
    listed(compile(ruleset(flags, segments)).evaluate(flag as string, context, defaultValue) as Decision),
  delta({ flags, segments, delta, flag, context, default: defaultValue }) {
    const evaluator = compile(ruleset(flags, segments));
    evaluator.evaluate(flag as string, context, defaultValue);
    evaluator.apply({ revision: 2, previous: 1, flags: {}, segments: {}, ...(delta as object) });
    return listed(evaluator.evaluate(flag as string, context, defaultValue) as Decision);
  },
  all({ flags, segments, context, clientSide }) {
    const decisions = compile(ruleset(flags, segments)).all(context, { clientSide: clientSide as boolean });
    return Object.fromEntries(Object.entries(decisions).map(([key, { variation }]) => [key, variation]));
  },
};

const schema = z.fromJSONSchema(JSON.parse(readFileSync(`${import.meta.dirname}/vectors.schema.json`, "utf8")));
const RULES = new Set([...range(1, 20), ...range(30, 36)].map((number) => `EV-${number}`));
const files = readdirSync(import.meta.dirname).filter(
  (name) => name.endsWith(".json") && !name.endsWith(".schema.json"),
);
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

  it("is as its schema says, with unique ids", () => {
    expect(schema.safeParse(file).error?.issues).toBeUndefined();
    expect(new Set(file.cases.map(({ id }) => id)).size).toBe(file.cases.length);
  });

  it.each(file.cases.map((vector) => [vector.requirement, vector.id, vector.description, vector] as const))(
    "%s %s: %s",
    (requirement, _id, _description, vector) => {
      expect(RULES).toContain(requirement);
      cited.add(requirement);
      expect(table(vector)).toStrictEqual(vector.expected);
    },
  );
});

it("would refuse a vector with a field that no runner reads, or without one that it does", () => {
  const vector = { id: "hash/x", requirement: "EV-30", description: "x", text: "", seed: 0, expected: 0 };
  const file = (one: object) => schema.safeParse({ table: "hash", about: "x", cases: [one] }).success;
  expect([file(vector), file({ ...vector, skip: true }), file({ ...vector, text: undefined })]).toEqual([
    true,
    false,
    false,
  ]);
});

it("has a vector for every rule that a vector can show", () => {
  expect([...cited].sort()).toEqual([...RULES].sort());
});

afterAll(() => console.log(`conformance vectors: ${count} in ${files.length} tables`));

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
