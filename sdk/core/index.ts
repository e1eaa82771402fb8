/**
 * Bunting's evaluation engine: pure and total, the same in every place that evaluates (docs/evaluation.md).
 * `validate.ts` is a subpath of its own: it is for those who write documents, never in an SDK's bundle.
 */
export { allocate } from "./bucketing/allocate.ts";
export { bucket, xxh32 } from "./bucketing/bucket.ts";
export { type Movement, movements } from "./bucketing/movements.ts";
export { type Decision, type ErrorCode, openFeatureReason, type Reason } from "./decision.ts";
export { diff } from "./diff.ts";
export { compile, type Evaluator } from "./evaluate/evaluate.ts";
export { type Exposure, exposureOf } from "./evaluate/exposures.ts";
export { isKey, KEY_PATTERN } from "./keys.ts";
export { dependents, Referrers } from "./references/dependents.ts";
export { type References, references } from "./references/references.ts";
export type * from "./ruleset.ts";
export type { MissingFilter } from "./segments/big-segment.ts";
export { emptyFilter, filterSize, placeOf, setBits } from "./segments/bloom-filter.ts";
export { VERSION } from "./version.ts";
