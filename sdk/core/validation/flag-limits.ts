import { type Documents, type Kind, reachable } from "../references/graph.ts";
import { checkWork, conditionsOf } from "./evaluation-cost.ts";
import { jsonBytes, LIMITS } from "./limits.ts";
import { type Fields, type Path, type Report, show } from "./report.ts";

/** What all documents reachable from a flag may hold together, and what the flag itself may weigh. */
export function checkFlagLimits(flag: Fields, key: string, report: Report): void {
  for (const [index, variation] of list(flag.variations).entries()) {
    const bytes = jsonBytes(variation?.value);
    if (bytes <= LIMITS.valueBytes) continue;
    report.add(
      ["variations", index, "value"],
      "value-too-large",
      `A value has at most ${LIMITS.valueBytes / 1024} KB of JSON, this one ${Math.ceil(bytes / 1024)}: give the address of a larger one.`,
    );
  }
  const bytes = jsonBytes(flag);
  if (bytes > LIMITS.flagBytes) {
    report.add(
      [],
      "flag-too-large",
      `A flag has at most ${LIMITS.flagBytes / 1024} KB of JSON, this one ${Math.ceil(bytes / 1024)}: move long lists to segments.`,
    );
  }
  checkReach("flag", key, report, report.documents);
  checkWork(key, report, report.documents);
}

function checkReach(kind: Kind, key: string, report: Report, documents: Documents): void {
  let conditions = 0;
  let patterns = 0;
  for (const document of reachable({ kind, key }, documents)) {
    const size = sizeOf(document as unknown as Fields);
    conditions += size.conditions;
    patterns += size.patterns;
  }
  if (conditions > LIMITS.reachableConditions) {
    report.add(
      [],
      "conditions-reachable",
      `With all that it depends on, a flag has at most ${LIMITS.reachableConditions} conditions, this one ${conditions}: depend on less.`,
    );
  }
  if (patterns > LIMITS.reachablePatterns) {
    report.add(
      [],
      "patterns-reachable",
      `With all that it depends on, a flag has at most ${LIMITS.reachablePatterns} patterns, this one ${patterns}: use startsWith, endsWith or contains for some.`,
    );
  }
}

export function checkRuleLimits(rules: readonly unknown[], report: Report): void {
  if (rules.length > LIMITS.rules) {
    report.add(
      ["rules"],
      "rules-count",
      `There are at most ${LIMITS.rules} rules, here ${rules.length}: put what they share into segments.`,
    );
  }
  for (const [index, rule] of rules.entries()) {
    const { conditions } = sizeOf({ rules: [rule] });
    if (conditions <= LIMITS.conditions) continue;
    report.add(
      ["rules", index, "conditions"],
      "conditions-count",
      `A rule has at most ${LIMITS.conditions} conditions, those inside others included, this one ${conditions}: put some into a segment.`,
    );
  }
}

export function checkValuesLimit(values: readonly unknown[], path: Path, op: unknown, report: Report): void {
  if (values.length <= LIMITS.values) return;
  report.add(
    path,
    "values-count",
    `A condition has at most ${LIMITS.values} values, this one ${values.length}: put ${op === "in" ? "them into a segment" : `them into several conditions of ${show(op)}`}.`,
  );
}

/** How many conditions a document has, groups and those inside them counted alike, and how many patterns. */
function sizeOf(document: Fields): { conditions: number; patterns: number } {
  const conditions = conditionsOf(document);
  const patterns = conditions.flatMap(({ op, values }) => (op === "matches" ? list(values) : []));
  return { conditions: conditions.length, patterns: patterns.length };
}

function list(value: unknown): readonly (Fields | null)[] {
  return Array.isArray(value) ? value : [];
}
