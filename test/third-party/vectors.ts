// Cases from other systems' suites (ORIGIN.md) as documents of ours. Pure but for reading the files beside it.

import { readFileSync } from "node:fs";
import type { Condition, ErrorCode, Flag, FlagType, Json, Operator, Reason, Segment } from "../../sdk/core/index.ts";
import { type Problem, validate } from "../../sdk/core/validate.ts";

type Clause = { attribute?: string; op: string; values: Json[]; negate?: boolean };
type NeutralFlag = {
  on: boolean;
  variations: Json[];
  offVariation?: number;
  fallthrough?: { variation: number };
  targets: { values: string[]; variation: number }[];
  prerequisites: { key: string; variation: number }[];
  rules: { id?: string; clauses: Clause[]; variation: number }[];
};
type NeutralSegment = { included: string[]; excluded: string[]; rules: { clauses: Clause[] }[] };

export type Case = {
  id: string;
  source: string;
  name: string;
  klass: "portable" | "policy";
  notes: string[];
  flags: Record<string, NeutralFlag>;
  segments: Record<string, NeutralSegment>;
  flagKey: string;
  context: Record<string, unknown>;
  default?: Json;
  expect: {
    value: Json;
    variationIndex?: number;
    reason: string;
    ruleIndex?: number;
    prerequisiteKey?: string;
    errorKind?: string;
  };
};

const FILES = ["configcat-semver", "growthbook", "hostile", "launchdarkly", "unleash"];

/** All of them, in the order of their files. */
export function cases(): Case[] {
  return FILES.flatMap((file) =>
    readFileSync(`${import.meta.dirname}/${file}.jsonl`, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Case),
  );
}

/** Documents whose keys begin with `prefix`, so that many cases can share an environment. Variation i is `v<i>`. */
export function toDocuments(
  { flags, segments }: Case,
  prefix: string,
): { flags: Record<string, Flag>; segments: Record<string, Segment> } {
  return {
    flags: mapEntries(flags, prefix, (flag, key) => toFlag(flag, key, prefix)),
    segments: mapEntries(segments, prefix, (segment, key) => toSegment(segment, key, prefix)),
  };
}

export type Expectation = {
  key: string;
  context: Record<string, unknown>;
  defaultValue: Json;
  decision: {
    value: Json;
    variation: string | null;
    reason: Reason;
    ruleIndex?: number;
    prerequisite?: string;
    errorCode?: ErrorCode;
  };
};

/** What to ask, and what the case's own suite answers, in our words. */
export function expectation(source: Case, prefix: string): Expectation {
  const { expect, flags, flagKey } = source;
  const flag = flags[flagKey];
  // Other systems have one word where EV-7 has two.
  const everyoneAlike =
    flag !== undefined && [flag.prerequisites, flag.targets, flag.rules].every((list) => list.length === 0);
  const reason = expect.reason === "FALLTHROUGH" && everyoneAlike ? "STATIC" : (expect.reason as Reason);
  return {
    key: prefix + flagKey,
    context: source.context,
    defaultValue: source.default ?? null,
    decision: {
      value: expect.value,
      variation: expect.variationIndex === undefined ? null : variationKey(expect.variationIndex),
      reason,
      ...(expect.ruleIndex === undefined ? {} : { ruleIndex: expect.ruleIndex }),
      ...(expect.prerequisiteKey === undefined ? {} : { prerequisite: prefix + expect.prerequisiteKey }),
      ...(expect.errorKind === undefined ? {} : { errorCode: toErrorCode(expect.errorKind) }),
    },
  };
}

/** A flag as `POST …/flags` takes it. */
export function createBody({ key, type, variations, clientSide }: Flag) {
  return { key, name: key, type, clientSide, variations: variations.map(({ key, value }) => ({ key, value })) };
}

/** Its targeting as `PATCH …/flags/{flag}/environments/{environment}` takes it. No case has a split: nothing needs weights. */
export function targetingBody({ on, offVariation, prerequisites, targets, rules, fallthrough }: Flag) {
  return { on, offVariation, prerequisites, targets, rules, fallthrough };
}

/** A segment as it is created in an environment. */
export function segmentBody({ key, included, excluded, rules }: Segment) {
  return { key, name: key, included, excluded, rules };
}

/** What the API refuses of a case's documents: some cases are about operands that nobody should be able to save. */
export function refusals(source: Case, prefix: string): Problem[] {
  const documents = toDocuments(source, prefix);
  return [
    ...Object.values(documents.flags).flatMap((flag) => validate("flag", flag, documents)),
    ...Object.values(documents.segments).flatMap((segment) => validate("segment", segment, documents)),
  ].filter(({ severity }) => severity === "error");
}

/** The keys of a case's flags, those that others need first, as they have to be created. */
export function creationOrder({ flags }: Case, prefix: string): string[] {
  const order: string[] = [];
  const visit = (key: string): void => {
    if (order.includes(prefix + key) || flags[key] === undefined) return;
    for (const prerequisite of flags[key].prerequisites) visit(prerequisite.key);
    order.push(prefix + key);
  };
  for (const key of Object.keys(flags)) visit(key);
  return order;
}

function toFlag(flag: NeutralFlag, key: string, prefix: string): Flag {
  return {
    key,
    version: 1,
    type: typeOf(flag.variations),
    on: flag.on,
    variations: flag.variations.map((value, index) => ({ key: variationKey(index), value })),
    offVariation: flag.offVariation === undefined ? null : variationKey(flag.offVariation),
    prerequisites: flag.prerequisites.map(({ key, variation }) => ({
      flag: prefix + key,
      variations: [variationKey(variation)],
    })),
    targets: flag.targets.map(({ values, variation }) => ({ variation: variationKey(variation), values })),
    rules: flag.rules.map(({ id, clauses, variation }, index) => ({
      id: id ?? `rule-${index}`,
      conditions: clauses.map((clause) => toCondition(clause, prefix)),
      serve: { variation: variationKey(variation) },
    })),
    // A flag that is off, or of whose rules one always matches, may have been written without.
    fallthrough: { variation: variationKey(flag.fallthrough?.variation ?? 0) },
    clientSide: false,
    trackExposures: false,
    experiment: null,
    killed: false,
  };
}

function toSegment({ included, excluded, rules }: NeutralSegment, key: string, prefix: string): Segment {
  return {
    key,
    version: 1,
    included,
    excluded,
    rules: rules.map(({ clauses }) => ({ conditions: clauses.map((clause) => toCondition(clause, prefix)) })),
  };
}

function toCondition({ attribute, op, values, negate }: Clause, prefix: string): Condition {
  if (op === "segmentMatch") {
    return { segment: values.map((key) => prefix + key), ...(negate === undefined ? {} : { negate }) };
  }
  return {
    // Left out where the case leaves it out: one of them is about just that.
    ...(attribute === undefined ? {} : { attribute }),
    op: op as Operator,
    values,
    ...(negate === undefined ? {} : { negate }),
  } as Condition;
}

function typeOf(variations: Json[]): FlagType {
  const types = new Set(variations.map((value) => typeof value));
  const [type] = types;
  return types.size === 1 && (type === "boolean" || type === "string" || type === "number") ? type : "json";
}

function toErrorCode(kind: string): ErrorCode {
  return kind === "WRONG_TYPE" ? "TYPE_MISMATCH" : (kind as ErrorCode);
}

/** An index that does not exist becomes a key that does not exist. */
function variationKey(index: number): string {
  return `v${index}`;
}

function mapEntries<A, B>(source: Record<string, A>, prefix: string, map: (value: A, key: string) => B) {
  return Object.fromEntries(
    Object.entries(source).map(([key, value]): [string, B] => [prefix + key, map(value, prefix + key)]),
  );
}
