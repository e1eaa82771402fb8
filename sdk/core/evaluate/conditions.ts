import type { Decision } from "../decision.ts";
import { In, type Matcher } from "../operators/operators.ts";
import { lowerCase } from "../operators/strings.ts";
import { type Attribute, elementOf, isArray, lengthOf } from "./attributes.ts";

/** The result of a condition. The last two end the evaluation: the flag is malformed (EV-4, EV-10). */
export type Verdict = typeof NO | typeof YES | typeof MALFORMED | typeof CYCLE;
export const NO = 0;
export const YES = 1;
export const MALFORMED = 2;
/** Unlike MALFORMED it propagates: every flag that depends on the flag that meets the cycle fails as well. */
export const CYCLE = 3;

export const LEAF = 0;
export const EXISTS = 1;
export const NEVER = 2;
export const INVALID = 3;
export const SEGMENTS = 4;
export const FLAG = 5;
export const ALL = 6;
export const ANY = 7;
export const NOT = 8;
export type Kind = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** Longer arrays never match: what a context holds may not decide what an evaluation costs. */
const MAX_ELEMENTS = 1000;
/** Nor may all of its arrays together (EV-12): about as many lookups as fit into half a millisecond. */
const MAX_ARRAY_WORK = 30_000;
let arrayWork = 0;

/** Before each evaluation, which is synchronous. */
export function beginArrayWork(): void {
  arrayWork = 0;
}

/** Another flag or segment, as conditions see it. evaluate.ts implements both; importing it here would be a cycle. */
export interface FlagSlot {
  decideOnce(context: object, key: string, epoch: number, depth: number): Decision | null;
}
export interface SegmentSlot {
  includes(context: object, key: string, epoch: number, depth: number): Verdict;
}

/** Another flag, and the variations of it that will do: a prerequisite, or a condition (EV-4, EV-9). */
export type Requirement = { readonly flag: FlagSlot; readonly variations: readonly string[] };

type Parts = {
  negate?: boolean;
  attribute?: Attribute;
  matcher?: Matcher;
  ignoreCase?: boolean;
  segments?: readonly SegmentSlot[];
  requirement?: Requirement;
  children?: readonly Condition[];
};

const NONE: readonly never[] = [];

/** A prepared condition. One class for every kind, so that evaluation always sees one hidden class. */
export class Condition {
  readonly kind: Kind;
  readonly negate: boolean;
  readonly attribute: Attribute | null;
  readonly matcher: Matcher | null;
  readonly ignoreCase: boolean;
  readonly segments: readonly SegmentSlot[];
  readonly requirement: Requirement | null;
  readonly children: readonly Condition[];

  constructor(kind: Kind, parts: Parts = {}) {
    this.kind = kind;
    this.negate = parts.negate ?? false;
    this.attribute = parts.attribute ?? null;
    this.matcher = parts.matcher ?? null;
    this.ignoreCase = parts.ignoreCase ?? false;
    this.segments = parts.segments ?? NONE;
    this.requirement = parts.requirement ?? null;
    this.children = parts.children ?? NONE;
  }
}

function holds(condition: Condition, context: object, key: string, epoch: number, depth: number): Verdict {
  switch (condition.kind) {
    case LEAF: {
      const value = condition.attribute!.readOnce(context, key, epoch);
      if (value === undefined) return NO;
      if (typeof value === "object" && isArray(value)) return anyMatches(condition, value);
      const compared = condition.ignoreCase && typeof value === "string" ? condition.attribute!.lower(value) : value;
      return condition.matcher!.matches(compared) === condition.negate ? NO : YES;
    }
    case EXISTS:
      return (condition.attribute!.readOnce(context, key, epoch) !== undefined) === condition.negate ? NO : YES;
    case SEGMENTS:
      return inAny(condition, context, key, epoch, depth);
    case FLAG:
      return meets(condition.requirement!, context, key, epoch, depth);
    case ALL:
      return allHold(condition.children, context, key, epoch, depth);
    case ANY:
      return anyHolds(condition.children, context, key, epoch, depth);
    case NOT: {
      const verdict = holds(condition.children[0]!, context, key, epoch, depth);
      return verdict === NO ? YES : verdict === YES ? NO : verdict;
    }
    case INVALID:
      return MALFORMED;
    default:
      return NO;
  }
}

export function allHold(
  conditions: readonly Condition[],
  context: object,
  key: string,
  epoch: number,
  depth: number,
): Verdict {
  for (let i = 0; i < conditions.length; i++) {
    const verdict = holds(conditions[i]!, context, key, epoch, depth);
    if (verdict !== YES) return verdict;
  }
  return YES;
}

/** EV-4: whether the other flag is on and resolves to one of the required variations. */
export function meets(
  requirement: Requirement,
  context: object,
  key: string,
  epoch: number,
  depth: number,
): typeof NO | typeof YES | typeof CYCLE {
  const decision = requirement.flag.decideOnce(context, key, epoch, depth + 1);
  if (decision === null) return CYCLE;
  switch (decision.reason) {
    case "OFF":
    case "KILLED":
    case "ERROR":
      return NO;
    default:
      return decision.variation !== null && requirement.variations.includes(decision.variation) ? YES : NO;
  }
}

/** EV-12: whether any element matches. */
function anyMatches(condition: Condition, array: readonly unknown[]): Verdict {
  const { negate, ignoreCase } = condition;
  const matcher = condition.matcher!;
  const length = lengthOf(array);
  const match = negate ? NO : YES;
  const noMatch = negate ? YES : NO;
  if (length > MAX_ELEMENTS) return noMatch;
  if (matcher instanceof In && matcher.isExact && matcher.size < length) {
    arrayWork += matcher.size;
    if (arrayWork > MAX_ARRAY_WORK) return MALFORMED;
    return matcher.matchesAny(condition.attribute!.elementsOf(array)) ? match : noMatch;
  }
  for (let i = 0; i < length; i++) {
    const element = elementOf(array, i);
    const isText = typeof element === "string";
    arrayWork += isText ? matcher.weight * (1 + (element.length >> 4)) : matcher.weight;
    if (arrayWork > MAX_ARRAY_WORK) return MALFORMED;
    if (matcher.matches(isText && ignoreCase ? lowerCase(element) : element)) return match;
  }
  return noMatch;
}

function anyHolds(
  conditions: readonly Condition[],
  context: object,
  key: string,
  epoch: number,
  depth: number,
): Verdict {
  for (let i = 0; i < conditions.length; i++) {
    const verdict = holds(conditions[i]!, context, key, epoch, depth);
    if (verdict !== NO) return verdict;
  }
  return NO;
}

function inAny(condition: Condition, context: object, key: string, epoch: number, depth: number): Verdict {
  const segments = condition.segments;
  for (let i = 0; i < segments.length; i++) {
    const verdict = segments[i]!.includes(context, key, epoch, depth + 1);
    if (verdict === YES) return condition.negate ? NO : YES;
    if (verdict !== NO) return verdict;
  }
  return condition.negate ? YES : NO;
}
