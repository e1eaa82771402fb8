import { bucket, bucketable } from "../bucketing/bucket.ts";
import type { Decision } from "../decision.ts";
import type { Flag, Split } from "../ruleset.ts";
import { parseAttribute, targetingKeyOf } from "./attributes.ts";

/** What an exposure event reports. SDKs and the edge decide it here, so that both report alike. */
export type Exposure = { unit: string; experiment: string | null; sampleRate: number };

/** Null where nothing is reported: the flag tracks no exposures, there is no unit, or the unit is not in the sample. */
export function exposureOf(flag: Flag, decision: Decision, context: object, sampleRate: number): Exposure | null {
  if (decision.variation === null || decision.reason === "ERROR") return null;
  const { trackExposures, experiment = null } = flag;
  if (!trackExposures && experiment === null) return null;
  const unit = unitOf(flag, decision, context);
  return unit !== null && isSampled(unit, sampleRate) ? { unit, experiment, sampleRate } : null;
}

/** Whose exposure it is: the value that the split hashed, else the targeting key; null when there is neither. */
export function unitOf(flag: Flag, decision: Decision, context: object): string | null {
  const targetingKey = targetingKeyOf(context);
  const split = splitOf(flag, decision);
  const value = split === null ? targetingKey : parseAttribute(split.by)?.read(context, targetingKey);
  return bucketable(value) || null;
}

function splitOf(flag: Flag, decision: Decision): Split | null {
  if (decision.bucket === undefined) return null;
  const serve = decision.ruleIndex === undefined ? flag.fallthrough : flag.rules[decision.ruleIndex]?.serve;
  return serve !== undefined && "split" in serve ? serve.split : null;
}

/** By hash and never at random, so that a unit is in or out for all its events, in every SDK. */
export function isSampled(unit: string, rate: number): boolean {
  return rate >= 1 || bucket("exposure", unit) < rate * 100_000;
}
