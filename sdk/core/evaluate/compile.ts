// Documents as they came → what evaluation runs on. Documents are not trusted to have the shape of their types: what is
// malformed is found here, once, and answers MALFORMED_FLAG when evaluation reaches it (EV-8, EV-36).

import { BUCKETS, xxh32 } from "../bucketing/bucket.ts";
import { prepare } from "../operators/operators.ts";
import { StringList } from "../operators/strings.ts";
import type { Json } from "../ruleset.ts";
import type { Attribute } from "./attributes.ts";
import {
  ALL,
  ANY,
  Condition,
  EXISTS,
  FLAG,
  type FlagSlot,
  INVALID,
  type Kind,
  LEAF,
  NEVER,
  NOT,
  type Requirement,
  SEGMENTS,
  type SegmentSlot,
} from "./conditions.ts";

/** Conditions nested deeper make their flag malformed: neither compiling nor evaluating may exhaust the stack. */
const MAX_NESTING = 32;

/** Where documents find what they name. A key without a document gets an empty slot; a malformed attribute is undefined. */
export interface Links {
  attribute(text: unknown): Attribute | undefined;
  flag(key: string): FlagSlot;
  segment(key: string): SegmentSlot;
}

/** A variation, as something to serve. */
export type Choice = { readonly key: string | null; readonly value: Json };
/** `offVariation: null`. */
export const CALLERS_DEFAULT: Choice = { key: null, value: null };
/** A variation that does not exist, or a kind of serve that is not known. */
export const UNKNOWN: Choice = { key: null, value: null };

type Split = {
  readonly by: Attribute;
  readonly seed: number;
  readonly ends: readonly { readonly from: number; readonly to: number; readonly choice: Choice }[];
};
export type Serve = { readonly choice: Choice; readonly split: Split | null };
type Rule = {
  readonly id: string | undefined;
  readonly conditions: readonly Condition[];
  readonly serve: Serve;
};
type Target = { readonly attribute: Attribute; readonly list: StringList; readonly choice: Choice };

type Status = "on" | "off" | "killed" | "malformed";
export type CompiledFlag = {
  readonly version: number;
  readonly status: Status;
  readonly off: Choice;
  readonly prerequisites: readonly (Requirement & { readonly key: string })[];
  readonly targets: readonly Target[];
  readonly rules: readonly Rule[];
  readonly fallthrough: Serve;
  /** EV-7: nothing in it depends on the context. */
  readonly isStatic: boolean;
  /** No other flag and no segment has a say in it. */
  readonly isAlone: boolean;
};

export type CompiledSegment = {
  readonly included: StringList;
  readonly excluded: StringList;
  readonly rules: readonly {
    readonly conditions: readonly Condition[];
    readonly sample: { readonly by: Attribute; readonly seed: number; readonly buckets: number } | null;
  }[];
};

type Fields = Record<string, unknown>;
/** Thrown and caught in this file only. */
class Malformed extends Error {}

const NOWHERE: Serve = { choice: UNKNOWN, split: null };

export function compileFlag(document: unknown, links: Links): CompiledFlag {
  const version = isFields(document) && typeof document.version === "number" ? document.version : 0;
  try {
    return build(fields(document), version, links);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return inert(version, "malformed", UNKNOWN);
  }
}

/** `undefined` for a malformed segment: no different from a missing one, it matches nobody. */
export function compileSegment(document: unknown, links: Links): CompiledSegment | undefined {
  try {
    const segment = fields(document);
    return {
      included: new StringList(list(segment.included)),
      excluded: new StringList(list(segment.excluded)),
      rules: list(segment.rules).map((rule) => {
        const { conditions, sample } = fields(rule);
        return {
          conditions: compileConditions(conditions, links),
          sample: sample == null ? null : compileSample(sample, links),
        };
      }),
    };
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return undefined;
  }
}

function build(flag: Fields, version: number, links: Links): CompiledFlag {
  const choices = new Map<unknown, Choice>();
  for (const variation of array(flag.variations)) {
    const { key, value } = fields(variation);
    if (typeof key !== "string" || value === undefined) throw new Malformed();
    if (!choices.has(key)) choices.set(key, { key, value: deepFreeze(value as Json) });
  }
  const choose = (key: unknown): Choice => choices.get(key) ?? UNKNOWN;
  const off = flag.offVariation == null ? CALLERS_DEFAULT : choose(flag.offVariation);
  if (typeof flag.on !== "boolean") throw new Malformed();
  // EV-3: nothing else is looked at, so that a kill works however broken the rest of its flag is.
  if (flag.killed === true) return inert(version, "killed", off);
  if (!flag.on) return inert(version, "off", off);

  const prerequisites = list(flag.prerequisites).map((prerequisite) => {
    const { flag: key, variations } = fields(prerequisite);
    if (typeof key !== "string") throw new Malformed();
    return { key, flag: links.flag(key), variations: array(variations) as string[] };
  });
  const targets = list(flag.targets).map((target) => {
    const { variation, values, attribute } = fields(target);
    const list = new StringList(array(values));
    return { attribute: reference(attribute ?? "targetingKey", links), list, choice: choose(variation) };
  });
  const rules = list(flag.rules).map((rule) => {
    const { id, conditions, serve } = fields(rule);
    return {
      id: typeof id === "string" ? id : undefined,
      conditions: compileConditions(conditions, links),
      serve: compileServe(serve, choose, links),
    };
  });
  const fallthrough = compileServe(flag.fallthrough, choose, links);
  const isStatic =
    prerequisites.length === 0 && targets.length === 0 && rules.length === 0 && fallthrough.split === null;
  const isAlone = prerequisites.length === 0 && rules.every(({ conditions }) => conditions.every(isSelfContained));
  return { version, status: "on", off, prerequisites, targets, rules, fallthrough, isStatic, isAlone };
}

function inert(version: number, status: Status, off: Choice): CompiledFlag {
  const nothing = { prerequisites: [], targets: [], rules: [], fallthrough: NOWHERE };
  return { version, status, off, ...nothing, isStatic: true, isAlone: true };
}

function compileServe(serve: unknown, choose: (key: unknown) => Choice, links: Links): Serve {
  if (!isFields(serve)) return NOWHERE;
  if (serve.split === undefined) return { choice: choose(serve.variation), split: null };
  const split = serve.split;
  if (!isFields(split) || split.hash !== "xxh32" || typeof split.seed !== "string") return NOWHERE;
  const by = links.attribute(split.by);
  if (by === undefined || !Array.isArray(split.ranges)) return NOWHERE;
  const ends = [];
  for (const range of split.ranges as unknown[]) {
    if (!isFields(range) || typeof range.from !== "number" || typeof range.to !== "number") return NOWHERE;
    ends.push({ from: range.from, to: range.to, choice: choose(range.variation) });
  }
  return { choice: UNKNOWN, split: { by, seed: xxh32(split.seed, 0), ends } };
}

function compileSample(sample: unknown, links: Links): NonNullable<CompiledSegment["rules"][number]["sample"]> {
  const { by, seed, buckets } = fields(sample);
  if (typeof seed !== "string" || typeof buckets !== "number") throw new Malformed();
  return { by: reference(by, links), seed: xxh32(seed, 0), buckets: Math.min(buckets, BUCKETS) };
}

function compileConditions(conditions: unknown, links: Links): Condition[] {
  return array(conditions).map((condition) => compileCondition(condition, links, 1));
}

function compileCondition(condition: unknown, links: Links, nesting: number): Condition {
  if (nesting > MAX_NESTING) throw new Malformed();
  if (!isFields(condition)) return new Condition(NEVER);
  const { attribute, op, segment, flag, variations, all, any, not } = condition;
  const negate = condition.negate === true;
  if (op !== undefined || attribute !== undefined) return compileLeaf(condition, negate, links);
  if (isStrings(segment))
    return new Condition(SEGMENTS, { negate, segments: segment.map((key) => links.segment(key)) });
  if (typeof flag === "string" && isStrings(variations)) {
    return new Condition(FLAG, { requirement: { flag: links.flag(flag), variations } });
  }
  const nest = (kind: Kind, inner: readonly unknown[]): Condition =>
    new Condition(kind, { children: inner.map((child) => compileCondition(child, links, nesting + 1)) });
  if (Array.isArray(all)) return nest(ALL, all);
  if (Array.isArray(any)) return nest(ANY, any);
  if (not !== undefined) return nest(NOT, [not]);
  return new Condition(NEVER);
}

function isSelfContained({ segments, requirement, children }: Condition): boolean {
  return segments.length === 0 && requirement === null && children.every(isSelfContained);
}

function compileLeaf({ attribute: name, op, values, ignoreCase }: Fields, negate: boolean, links: Links): Condition {
  const matcher = op === "exists" ? undefined : prepare(op, values, ignoreCase === true);
  if (matcher === undefined && op !== "exists") return new Condition(NEVER);
  const attribute = links.attribute(name);
  if (attribute === undefined) return new Condition(INVALID);
  return matcher === undefined
    ? new Condition(EXISTS, { negate, attribute })
    : new Condition(LEAF, { negate, attribute, matcher, ignoreCase: ignoreCase === true });
}

function reference(text: unknown, links: Links): Attribute {
  const attribute = links.attribute(text);
  if (attribute === undefined) throw new Malformed();
  return attribute;
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((element) => typeof element === "string");
}

function fields(value: unknown): Fields {
  if (!isFields(value)) throw new Malformed();
  return value;
}

function array(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new Malformed();
  return value;
}

/** A list that an older document may be without (EV-36). */
function list(value: unknown): readonly unknown[] {
  return value == null ? [] : array(value);
}

/** EV-8: callers share the value. Iterative, because JSON may be nested deeper than the stack. */
function deepFreeze(value: Json): Json {
  const open: Json[] = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next !== "object" || next === null || Object.isFrozen(next)) continue;
    Object.freeze(next);
    for (const inner of Object.values(next)) if (typeof inner === "object" && inner !== null) open.push(inner);
  }
  return value;
}
