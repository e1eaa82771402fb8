import type { Json } from "./ruleset.ts";

export type Reason =
  | "OFF"
  | "KILLED"
  | "PREREQUISITE_FAILED"
  | "TARGET_MATCH"
  | "RULE_MATCH"
  | "FALLTHROUGH"
  | "SPLIT"
  | "STATIC"
  | "ERROR";

/** TYPE_MISMATCH is never the evaluator's: the clients' typed getters answer it (EV-8). */
export type ErrorCode = "FLAG_NOT_FOUND" | "MALFORMED_FLAG" | "TARGETING_KEY_MISSING" | "TYPE_MISMATCH";

/** What one evaluation answered, and why. Fields that do not apply are `undefined`. */
export type Decision<T = Json> = {
  /** The variation's value (JSON values are deep-frozen), or the caller's default where `variation` is null. */
  readonly value: T;
  readonly variation: string | null;
  readonly reason: Reason;
  /** RULE_MATCH: the rule's id, and its place counted from 0. */
  readonly ruleId?: string | undefined;
  readonly ruleIndex?: number | undefined;
  /** PREREQUISITE_FAILED: the key of the flag that failed. */
  readonly prerequisite?: string | undefined;
  /** ERROR only. */
  readonly errorCode?: ErrorCode | undefined;
  /** 0 where there is no such flag. */
  readonly flagVersion: number;
  /** Present whenever a split was hashed: an integer in [0, 100000). */
  readonly bucket?: number | undefined;
};

// Every Decision is built here, field by field in one order, so that all of them share one hidden class.
export function decision<T>(
  value: T,
  variation: string | null,
  reason: Reason,
  flagVersion: number,
  ruleId: string | undefined,
  ruleIndex: number | undefined,
  prerequisite: string | undefined,
  errorCode: ErrorCode | undefined,
  bucket: number | undefined,
): Decision<T> {
  return { value, variation, reason, ruleId, ruleIndex, prerequisite, errorCode, flagVersion, bucket };
}

export function failure<T>(value: T, errorCode: ErrorCode, flagVersion: number): Decision<T> {
  return decision(value, null, "ERROR", flagVersion, undefined, undefined, undefined, errorCode, undefined);
}

/** OpenFeature's words for why (docs/evaluation.md). A decision with a bucket was drawn by lot, whatever led to it. */
export function openFeatureReason({ reason, bucket }: Pick<Decision, "reason" | "bucket">): string {
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
