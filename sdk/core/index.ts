/**
 * Bunting's evaluation engine: pure and total, the same in every place that evaluates (docs/evaluation.md).
 * `validate.ts` is a subpath of its own: it is for those who write documents, never in an SDK's bundle.
 */
export { allocate } from "./allocate.ts";
export type { MissingFilter } from "./big-segment.ts";
export { emptyFilter, filterSize, placeOf, setBits } from "./bloom.ts";
export { bucket, xxh32 } from "./bucket.ts";
export { type Decision, type ErrorCode, openFeatureReason, type Reason } from "./decision.ts";
export { dependents, Referrers } from "./dependents.ts";
export { diff } from "./diff.ts";
export { compile, type Evaluator } from "./evaluate.ts";
export { type Exposure, exposureOf } from "./exposures.ts";
export { isKey, KEY_PATTERN } from "./keys.ts";
export { type Movement, movements } from "./movements.ts";
export { type References, references } from "./references.ts";
export type * from "./ruleset.ts";
export { VERSION } from "./version.ts";
