/** What both OpenFeature providers say alike: our decisions in OpenFeature's words, its contexts in ours. */
import { type Decision, type Json, openFeatureReason } from "@bunting/core";
import { adviceOn } from "../client/advice.ts";

/** OpenFeature's error codes that a resolution can have, by name: each of its SDKs has an enum of its own for them. */
type ResolutionError =
  | "FLAG_NOT_FOUND"
  | "PARSE_ERROR"
  | "TYPE_MISMATCH"
  | "TARGETING_KEY_MISSING"
  | "PROVIDER_NOT_READY";

/** OpenFeature's types of flags. */
export type Type = "boolean" | "string" | "number" | "object";

type Resolution<Value> = {
  value: Value;
  reason: string;
  flagMetadata: Record<string, string | number | boolean>;
  variant?: string;
  error?: { code: ResolutionError; message: string };
};

export const NOT_READY = "no flags have been received from Bunting yet: check the address, the key and the network";
export const REFUSED = "Bunting refuses the SDK key: make a new one, or check the address";

export const CLOSED = "this provider was closed, and its client with it: register a provider with a new client";

/** A decision in OpenFeature's words. `isEmpty`: the client has nothing to decide with yet. */
export function resolutionOf<Value>(
  decision: Decision,
  { key, defaultValue, type, isEmpty }: { key: string; defaultValue: Value; type: Type; isEmpty: boolean },
): Resolution<Value> {
  const flagMetadata = metadataOf(decision);
  const code = errorOf(decision, defaultValue as Json, type, isEmpty);
  if (code !== null) {
    const message = code === "PROVIDER_NOT_READY" ? NOT_READY : adviceOn(decision.errorCode ?? MISMATCH, key, type);
    return { value: defaultValue, reason: "ERROR", flagMetadata, error: { code, message } };
  }
  const { variation } = decision;
  const value = decision.value as Value;
  return {
    value,
    reason: openFeatureReason(decision),
    flagMetadata,
    ...(variation !== null && { variant: variation }),
  };
}

function errorOf(decision: Decision, defaultValue: Json, type: Type, isEmpty: boolean): ResolutionError | null {
  const { errorCode, value, variation } = decision;
  if (errorCode === "FLAG_NOT_FOUND" && isEmpty) return "PROVIDER_NOT_READY";
  if (errorCode !== undefined) return errorCode === "MALFORMED_FLAG" ? "PARSE_ERROR" : errorCode;
  return type !== "object" || variation === null || isOfObject(value, defaultValue) ? null : MISMATCH;
}

export const MISMATCH = "TYPE_MISMATCH" as const;

/** An object getter is answered with objects, lists and null, and with a scalar only where the default is one of its type. */
export const isOfObject = (value: unknown, defaultValue: unknown): boolean =>
  typeof value === "object" || typeof value === typeof defaultValue;

/** What OpenFeature has no words for. Its metadata is flat. */
function metadataOf(decision: Decision): Resolution<Json>["flagMetadata"] {
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

type Impairment = "Stale" | "Error";

/** Reports a provider's state to OpenFeature's SDK, which stores it. */
export class Health {
  readonly #isWell: () => boolean;
  readonly #emit: (event: "Ready" | Impairment, message?: string) => void;
  /** Until then nothing is reported: the SDK sets READY or ERROR itself, later, and would overwrite ours. */
  #initialised = false;
  #impaired = false;

  constructor(isWell: () => boolean, emit: (event: "Ready" | Impairment, message?: string) => void) {
    this.#isWell = isWell;
    this.#emit = emit;
  }

  /** Called when initialising is about to resolve or reject; `found` is what makes the provider STALE. */
  initialised(found: string | null): void {
    setTimeout(() => {
      this.#initialised = true;
      if (found !== null) this.impair("Stale", found);
      this.recover();
    }, 0);
  }

  /** The SDK will say ERROR by itself, of what is thrown. */
  failed(): void {
    this.#impaired = true;
  }

  impair(event: Impairment, message: string): void {
    if (!this.#initialised) return;
    this.#impaired = true;
    this.#emit(event, message);
  }

  /** Also called at each evaluation: a poll that finds nothing new is no event. */
  recover(): void {
    if (!this.#impaired || !this.#initialised || !this.#isWell()) return;
    this.#impaired = false;
    this.#emit("Ready");
  }
}
