/** What both OpenFeature providers say alike: our decisions in OpenFeature's words, its contexts in ours. */
import type { Context, Decision, ErrorCode, Json } from "@bunting/core";

/** OpenFeature's error codes that a resolution can have, by name: each of its SDKs has an enum of its own for them. */
export type ResolutionError =
  | "FLAG_NOT_FOUND"
  | "PARSE_ERROR"
  | "TYPE_MISMATCH"
  | "TARGETING_KEY_MISSING"
  | "PROVIDER_NOT_READY";

export type FlagMetadata = Record<string, string | number | boolean>;

/** The words of docs/evaluation.md, "Decisions". A decision with a bucket was drawn by lot, whatever led to it. */
export function reasonOf({ reason, bucket }: Pick<Decision, "reason" | "bucket">): string {
  if (bucket !== undefined) return "SPLIT";
  switch (reason) {
    case "OFF":
    case "KILLED":
    case "PREREQUISITE_FAILED":
      return "DISABLED";
    case "TARGET_MATCH":
    case "RULE_MATCH":
      return "TARGETING_MATCH";
    case "FALLTHROUGH":
      return "DEFAULT";
    default:
      return reason;
  }
}

export const errorOf = (code: ErrorCode): ResolutionError => (code === "MALFORMED_FLAG" ? "PARSE_ERROR" : code);

/** What OpenFeature has no words for. Its metadata is flat. */
export function metadataOf(decision: Decision): FlagMetadata {
  const { flagVersion, reason, ruleId, ruleIndex, prerequisite, bucket } = decision;
  return {
    flagVersion,
    buntingReason: reason,
    ...(ruleId !== undefined && { ruleId }),
    ...(ruleIndex !== undefined && { ruleIndex }),
    ...(prerequisite !== undefined && { prerequisite }),
    ...(bucket !== undefined && { bucket }),
  };
}

/** Says to a developer what to do; `type` is what was asked for. */
export function messageOf(error: ResolutionError, key: string, type: string): string {
  switch (error) {
    case "FLAG_NOT_FOUND":
      return `flag "${key}" does not exist in this environment: create it, or check its spelling`;
    case "PARSE_ERROR":
      return `flag "${key}" is malformed: its page in Bunting names the mistake`;
    case "TYPE_MISMATCH":
      return `flag "${key}" has no ${type} value: ask for the type that it has`;
    case "TARGETING_KEY_MISSING":
      return `flag "${key}" is split by the targeting key: pass a targetingKey in the evaluation context`;
    case "PROVIDER_NOT_READY":
      return "no flags have been received from Bunting yet: check the address, the key and the network";
  }
}

/** An object getter is answered with objects, lists and null, and with a scalar only where the default is one of its type. */
export const isStructure = (value: Json, defaultValue: Json): boolean =>
  typeof value === "object" || typeof value === typeof defaultValue;

/** A protocol's limit (docs/protocol.md), and a guard of the stack. */
const MAX_DEPTH = 64;

/** Dates, which only OpenFeature's contexts hold, as RFC 3339, which is what conditions and JSON take. The rest stays as it is. */
export function contextOf(given: object): Context {
  return withoutDates(given, new Map(), 0) as Context;
}

function withoutDates(value: unknown, seen: Map<object, unknown>, depth: number): unknown {
  if (typeof value !== "object" || value === null || depth > MAX_DEPTH) return value;
  const known = seen.get(value);
  if (known !== undefined) return known;
  // A cycle comes back to itself as it was.
  seen.set(value, value);
  try {
    const mapped = value instanceof Date ? textOf(value) : mapEntries(value, seen, depth);
    seen.set(value, mapped);
    return mapped;
  } catch {
    // A getter that throws: the evaluator takes what cannot be read for missing (EV-1).
    return value;
  }
}

function mapEntries(value: object, seen: Map<object, unknown>, depth: number): unknown {
  let changed = false;
  const map = (one: unknown) => {
    const mapped = withoutDates(one, seen, depth + 1);
    changed ||= mapped !== one;
    return mapped;
  };
  // fromEntries and not assignment: a key may be `__proto__`.
  const copy = Array.isArray(value)
    ? value.map(map)
    : Object.fromEntries(Object.entries(value).map(([key, one]) => [key, map(one)]));
  return changed ? copy : value;
}

const textOf = (date: Date): string | undefined => (Number.isNaN(date.getTime()) ? undefined : date.toISOString());
