/** The documents of docs/evaluation.md: what an environment evaluates with. Data only: see sdk/core/evaluate/compile.ts for behaviour. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export type FlagType = "boolean" | "string" | "number" | "json";

export type Variation = { key: string; value: Json; name?: string };

/** Half-open range of buckets, in thousandths of a percent: 0 ≤ from < to ≤ 100000. */
export type Range = { variation: string; from: number; to: number };

/** `by` names the attribute that is hashed; `hash` names the algorithm (EV-35). */
export type Split = { by: string; seed: string; hash: string; ranges: Range[] };

export type Serve = { variation: string } | { split: Split };

export type Operator =
  | "in"
  | "startsWith"
  | "endsWith"
  | "contains"
  | "matches"
  | "exists"
  | "lessThan"
  | "lessThanOrEqual"
  | "greaterThan"
  | "greaterThanOrEqual"
  | "modulo"
  | "before"
  | "after"
  | "semverEqual"
  | "semverLessThan"
  | "semverLessThanOrEqual"
  | "semverGreaterThan"
  | "semverGreaterThanOrEqual"
  | "cidr";

export type Condition =
  | { attribute: string; op: Operator; values?: Json[]; negate?: boolean; ignoreCase?: boolean }
  | { segment: string[]; negate?: boolean }
  | { flag: string; variations: string[] }
  | { all: Condition[] }
  | { any: Condition[] }
  | { not: Condition };

export type Rule = { id: string; description?: string; conditions: Condition[]; serve: Serve };

export type Target = { variation: string; values: string[]; attribute?: string };

export type Prerequisite = { flag: string; variations: string[] };

/** One environment's compiled view of a flag. */
export type Flag = {
  key: string;
  version: number;
  type: FlagType;
  on: boolean;
  variations: Variation[];
  offVariation: string | null;
  prerequisites: Prerequisite[];
  targets: Target[];
  rules: Rule[];
  fallthrough: Serve;
  clientSide: boolean;
  trackExposures: boolean;
  experiment: string | null;
  killed: boolean;
};

export type SegmentRule = {
  id?: string;
  description?: string;
  conditions: Condition[];
  /** EV-19: the rule holds only for buckets below `buckets`. */
  sample?: { by: string; seed: string; buckets: number };
};

export type Segment = {
  key: string;
  version: number;
  included: string[];
  excluded: string[];
  rules: SegmentRule[];
  /** Only where the list of members is too long to travel with the ruleset. */
  big?: BigMembers;
};

/**
 * EV-20. The filter of `generation` is fetched from `url`, a path of the deployment; `added` and `removed` are what has
 * changed since and decide before it. Generation 0 has no filter: then the lists are all there is.
 */
export type BigMembers = {
  generation: number;
  /** Members when the filter was built. */
  count: number;
  bits: number;
  hashes: number;
  url: string;
  added: string[];
  removed: string[];
};

export type Ruleset = {
  schema: 1;
  environment: string;
  revision: number;
  events: { exposureSampleRate: number; summarySeconds: number };
  flags: Record<string, Flag>;
  segments: Record<string, Segment>;
};

/** OpenFeature's evaluation context: a targeting key and any attributes. */
export type Context = { targetingKey?: string | undefined; [attribute: string]: unknown };
