// Warnings: documents that are valid but probably not intended. A warning never blocks a write.

import { BUCKETS } from "../bucketing/bucket.ts";
import { type Census, expectedTypesOf, leavesOf } from "./attribute-types.ts";
import { type Fields, type Path, type Report, show } from "./report.ts";

/** For a document without errors: every field has the shape of its type. */
export function warn(document: Fields, report: Report, elsewhere: Census): void {
  const rules = list(document.rules);
  for (const [index, rule] of rules.entries()) {
    warnUnreachable(rules, index, report);
    warnIncomplete(rule.serve, ["rules", index, "serve"], report);
  }
  warnIncomplete(document.fallthrough, ["fallthrough"], report);
  for (const [index, target] of list(document.targets).entries()) {
    warnDuplicate(target.values, ["targets", index, "values"], report);
  }
  warnDuplicate(document.included, ["included"], report);
  warnDuplicate(document.excluded, ["excluded"], report);
  const leaves = [...leavesOf(document)];
  for (const { leaf, path } of leaves) {
    if (leaf.op !== "modulo") warnDuplicate(leaf.values, [...path, "values"], report);
    if (leaf.op !== "in") continue;
    const beside = leaves.filter((other) => other.leaf !== leaf && other.leaf.attribute === leaf.attribute);
    const known = new Set([
      ...elsewhere.of(leaf.attribute),
      ...beside.flatMap((other) => [...expectedTypesOf(other.leaf)]),
    ]);
    warnType(leaf, path, known, report);
  }
}

/** An earlier rule whose every condition is implied by one of this rule's has answered whoever comes so far. */
function warnUnreachable(rules: readonly Fields[], index: number, report: Report): void {
  const own = list(rules[index]!.conditions);
  const earlier = rules
    .slice(0, index)
    .findIndex(
      (rule) =>
        rule.sample == null && list(rule.conditions).every((wide) => own.some((narrow) => implies(narrow, wide))),
    );
  if (earlier < 0) return;
  const { id } = rules[earlier]!;
  report.warn(
    ["rules", index],
    "rule-unreachable",
    `Rule ${earlier + 1}${id === undefined ? "" : ` (${show(id)})`} matches everyone whom this one does, and comes first: move this one up, or remove it.`,
  );
}

function warnIncomplete(serve: unknown, path: Path, report: Report): void {
  const split = (serve as { split?: { ranges: { from: number; to: number }[] } } | undefined)?.split;
  if (split === undefined) return;
  const weight = split.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
  if (weight >= BUCKETS) return;
  report.warn(
    [...path, "split", "ranges"],
    "split-incomplete",
    `The weights add to ${weight / 1000} %: the other ${(BUCKETS - weight) / 1000} % get the off variation.`,
  );
}

function warnDuplicate(values: unknown, path: Path, report: Report): void {
  const seen = new Set<unknown>();
  for (const [index, value] of (Array.isArray(values) ? values : []).entries()) {
    if (seen.has(value)) {
      report.warn([...path, index], "value-duplicate", `${show(value)} is in this list already: remove one of them.`);
      return;
    }
    seen.add(value);
  }
}

function warnType(leaf: Fields, path: Path, known: ReadonlySet<string>, report: Report): void {
  const attribute = show(leaf.attribute);
  if (known.size > 0) {
    const index = (leaf.values as unknown[]).findIndex((value) => !known.has(typeof value));
    if (index < 0) return;
    const value = (leaf.values as unknown[])[index];
    report.warn(
      [...path, "values", index],
      "value-type-unusual",
      `Elsewhere ${attribute} is a ${[...known].join(" or ")}, and a ${typeof value} like ${show(value)} equals none: nothing is converted.`,
    );
  } else if (expectedTypesOf(leaf).size > 1) {
    report.warn(
      [...path, "values"],
      "values-mixed",
      `These are of several types, of which ${attribute} has one at a time: nothing is converted.`,
    );
  }
}

/** Whether the second holds wherever the first does. Certain where true; false where it takes more than a look. */
function implies(narrow: Fields, wide: Fields): boolean {
  if (canonical(narrow) === canonical(wide)) return true;
  const listed = ["values", "segment", "variations"].find((name) => Array.isArray(narrow[name]));
  if (listed === undefined || !Array.isArray(wide[listed]) || narrow.op === "modulo") return false;
  if (canonical({ ...narrow, [listed]: [] }) !== canonical({ ...wide, [listed]: [] })) return false;
  // Any-of: fewer values match fewer; negated it is the other way round.
  const [less, more] = narrow.negate === true ? [wide, narrow] : [narrow, wide];
  const all = new Set(more[listed] as unknown[]);
  return (less[listed] as unknown[]).every((value) => all.has(value));
}

/** As JSON, fields in one order, without those that are as if they were missing. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "";
  const fields = Object.entries(value).filter(([name, field]) => !(DEFAULT_FALSE.has(name) && field === false));
  return `{${fields
    .map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`)
    .sort()
    .join()}}`;
}
const DEFAULT_FALSE: ReadonlySet<string> = new Set(["negate", "ignoreCase"]);

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value : [];
}
