/** All validation errors of a document, for code that writes documents (EV-4, EV-8, EV-13). SDKs answer MALFORMED_FLAG instead. */
import { BUCKETS } from "./bucketing/bucket.ts";
import { MAX_DEPTH } from "./evaluate/evaluate.ts";
import { type Documents, find, type Kind, longestChain } from "./references/graph.ts";
import type { Flag, Segment } from "./ruleset.ts";
import { censusOf } from "./validation/attribute-types.ts";
import { checkBig } from "./validation/big-segments.ts";
import { checkConditions } from "./validation/conditions.ts";
import { checkFlagLimits, checkRuleLimits } from "./validation/flag-limits.ts";
import { LIMITS } from "./validation/limits.ts";
import { type Fields, type Path, type Problem, Report, show } from "./validation/report.ts";
import { warn } from "./validation/warnings.ts";

export type { Documents } from "./references/graph.ts";
export { jsonBytes, LIMITS } from "./validation/limits.ts";
export type { Problem } from "./validation/report.ts";

const TYPES: readonly unknown[] = ["boolean", "string", "number", "json"];
const SERVES = ["variation", "split"] as const;

/**
 * `documents` need hold only what the document refers to, directly or not; the document itself stands in for whatever they
 * have under its key. No errors: it works. Warnings are found only then, and compare it with all of `documents`. Never throws,
 * whatever the document's shape.
 */
export function validate(kind: Kind, document: unknown, documents: Documents): Problem[] {
  const key = isObject(document) && typeof document.key === "string" ? document.key : "";
  const report = new Report(withDocument(documents, kind, key, document), kind, key);
  const fields = report.object(document, []);
  if (fields === undefined) return report.problems;
  report.key(fields.key, ["key"]);
  if (kind === "flag") checkFlag(fields, report);
  else checkSegment(fields, report);
  if (longestChain({ kind, key }, report.documents) > MAX_DEPTH) {
    report.add([], "chain-too-long", `This depends on others through more than ${MAX_DEPTH} steps: shorten the chain.`);
  }
  if (report.problems.length === 0) warn(fields, report, censusOf(documents, kind, key));
  return report.problems;
}

function checkFlag(flag: Fields, report: Report): void {
  if (!TYPES.includes(flag.type)) {
    report.add(["type"], "type-unknown", `${show(flag.type)} is not a flag type: use one of ${TYPES.join(", ")}.`);
  }
  if (typeof flag.on !== "boolean") report.add(["on"], "not-a-boolean", "This must be true or false.");
  const variations = checkVariations(flag, report);
  if (flag.offVariation != null) checkVariation(flag.offVariation, ["offVariation"], variations, report);
  for (const [index, value] of report.array(flag.prerequisites, ["prerequisites"]).entries()) {
    const path = ["prerequisites", index];
    const prerequisite = report.object(value, path);
    if (prerequisite !== undefined) report.requirement(prerequisite.flag, prerequisite.variations, path);
  }
  for (const [index, value] of report.array(flag.targets, ["targets"]).entries()) {
    const path = ["targets", index];
    const target = report.object(value, path);
    if (target === undefined) continue;
    checkVariation(target.variation, [...path, "variation"], variations, report);
    report.texts(target.values, [...path, "values"]);
    if (target.attribute !== undefined) report.attribute(target.attribute, [...path, "attribute"]);
  }
  for (const [path, rule] of checkRules(flag.rules, report, true)) {
    checkServe(rule.serve, [...path, "serve"], variations, report);
  }
  checkServe(flag.fallthrough, ["fallthrough"], variations, report);
  checkFlagLimits(flag, typeof flag.key === "string" ? flag.key : "", report);
}

function checkSegment(segment: Fields, report: Report): void {
  report.texts(segment.included, ["included"], { allowEmpty: true });
  report.texts(segment.excluded, ["excluded"], { allowEmpty: true });
  if (segment.big !== undefined) checkBig(segment.big, report);
  for (const [path, { sample }] of checkRules(segment.rules, report, false)) {
    if (sample == null) continue;
    const place = [...path, "sample"];
    const fields = report.object(sample, place);
    if (fields === undefined) continue;
    checkSeed(fields, place, report);
    if (!isWithin(fields.buckets, 0, BUCKETS)) {
      report.add(
        [...place, "buckets"],
        "buckets-invalid",
        `This must be a whole number from 0 to ${BUCKETS} (thousandths of a percent).`,
      );
    }
  }
}

/** The keys that other fields may name. */
function checkVariations(flag: Fields, report: Report): ReadonlySet<unknown> {
  const variations = report.array(flag.variations, ["variations"]);
  if (Array.isArray(flag.variations) && (variations.length === 0 || variations.length > LIMITS.variations)) {
    report.add(
      ["variations"],
      "variations-count",
      `A flag has 1 to ${LIMITS.variations} variations, this one ${variations.length}.`,
    );
  }
  const keys = new Set<unknown>();
  for (const [index, value] of variations.entries()) {
    const path = ["variations", index];
    const variation = report.object(value, path);
    if (variation === undefined) continue;
    report.key(variation.key, [...path, "key"]);
    if (keys.has(variation.key)) {
      report.add(
        [...path, "key"],
        "variation-key-duplicate",
        `Another variation is called ${show(variation.key)} too: rename one of them.`,
      );
    }
    keys.add(variation.key);
    if (TYPES.includes(flag.type) && !isOfType(variation.value, flag.type)) {
      report.add(
        [...path, "value"],
        "variation-value-type",
        `${show(variation.value)} is not a value of a ${flag.type} flag: give a ${flag.type}, or change the flag's type.`,
      );
    }
  }
  return keys;
}

function isOfType(value: unknown, type: unknown): boolean {
  if (type === "json") return value !== undefined;
  return typeof value === type && (type !== "number" || Number.isFinite(value));
}

function checkVariation(key: unknown, path: Path, variations: ReadonlySet<unknown>, report: Report): void {
  if (variations.has(key)) return;
  const known = [...variations].map(show).join(", ");
  report.add(path, "variation-not-found", `This flag has no variation ${show(key)}: it has ${known || "none"}.`);
}

function* checkRules(value: unknown, report: Report, needId: boolean): Generator<[Path, Fields]> {
  const ids = new Set<unknown>();
  const rules = report.array(value, ["rules"]);
  checkRuleLimits(rules, report);
  for (const [index, element] of rules.entries()) {
    const path = ["rules", index];
    const rule = report.object(element, path);
    if (rule === undefined) continue;
    if (rule.id === undefined ? needId : typeof rule.id !== "string" || rule.id === "") {
      report.add(
        [...path, "id"],
        "rule-id-missing",
        "A rule's id is a string that is not empty: it names the rule in answers and history.",
      );
    } else if (rule.id !== undefined) {
      if (ids.has(rule.id)) {
        report.add(
          [...path, "id"],
          "rule-id-duplicate",
          `Another rule has the id ${show(rule.id)} too: give each its own.`,
        );
      }
      ids.add(rule.id);
    }
    checkConditions(rule.conditions, [...path, "conditions"], report);
    yield [path, rule];
  }
}

function checkServe(value: unknown, path: Path, variations: ReadonlySet<unknown>, report: Report): void {
  const serve = report.object(value, path);
  if (serve === undefined) return;
  if (SERVES.filter((kind) => serve[kind] !== undefined).length !== 1) {
    report.add(path, "serve-unknown", `What is served is either ${SERVES.join(" or ")}: give exactly one of them.`);
    return;
  }
  if (serve.split === undefined) {
    checkVariation(serve.variation, [...path, "variation"], variations, report);
    return;
  }
  const place = [...path, "split"];
  const split = report.object(serve.split, place);
  if (split === undefined) return;
  checkSeed(split, place, report);
  if (split.hash !== "xxh32")
    report.add([...place, "hash"], "hash-unknown", `There is no hash ${show(split.hash)}: use "xxh32".`);
  checkRanges(split.ranges, [...place, "ranges"], variations, report);
}

function checkSeed({ by, seed }: Fields, path: Path, report: Report): void {
  report.attribute(by, [...path, "by"]);
  if (typeof seed !== "string" || seed === "") {
    report.add(
      [...path, "seed"],
      "seed-missing",
      "A seed is a string that is not empty: the key of the flag or segment will do.",
    );
  }
}

function checkRanges(value: unknown, path: Path, variations: ReadonlySet<unknown>, report: Report): void {
  let end = 0;
  for (const [index, element] of report.array(value, path).entries()) {
    const place = [...path, index];
    const range = report.object(element, place);
    if (range === undefined) continue;
    checkVariation(range.variation, [...place, "variation"], variations, report);
    const { from, to } = range;
    if (!isWithin(from, 0, BUCKETS) || !isWithin(to, 0, BUCKETS) || from >= to) {
      report.add(
        place,
        "range-invalid",
        `A range goes from a whole number up to a larger one, between 0 and ${BUCKETS}: this goes from ${show(from)} to ${show(to)}.`,
      );
      continue;
    }
    if (from < end) {
      report.add(
        place,
        "range-overlap",
        `This begins at ${from}, before the range ahead of it ends (${end}): ranges ascend and do not overlap.`,
      );
    }
    end = Math.max(end, to);
  }
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null;
}

function withDocument(documents: Documents, kind: Kind, key: string, document: unknown): Documents {
  const { flags, segments } = documents;
  if (!isObject(document)) return documents;
  // Whoever validates a whole ruleset need not pay for a copy of it for each document.
  if (find(documents, kind, key) === document) return documents;
  // A computed name, so that even `__proto__` is an own field here.
  return kind === "flag"
    ? { flags: { ...flags, [key]: document as unknown as Flag }, segments }
    : { flags, segments: { ...segments, [key]: document as unknown as Segment } };
}
