// What a flag can cost at worst, all that it depends on included: so that no permitted flag takes a millisecond (Q1).

import { parsePattern } from "../patterns/pattern.ts";
import { type Documents, reachable } from "../references/graph.ts";
import { LIMITS } from "./limits.ts";
import { type Fields, type Report, show } from "./report.ts";

/** Tenths of a microsecond, for the worst text of 1,024 units: `npm run bench -- evaluate-limits`. */
const CONDITION = 0.2;
const DATE = 40;
const LOWER_CASE = 300;
const ADDRESS = 7;
const SAMPLE = 12;
const FILTER = 30;
const VALUES: Readonly<Record<string, (value: unknown) => number>> = {
  startsWith: (value) => 0.5 + lengthOf(value) / 200,
  endsWith: (value) => 0.5 + lengthOf(value) / 200,
  // An engine begins again at almost each character where an operand differs late.
  contains: (value) => 52 + lengthOf(value) * 2,
  matches: (value) => (typeof value === "string" ? (parsePattern(value)?.steps ?? 0) * 40 : 0),
  semverEqual: version,
  semverLessThan: version,
  semverLessThanOrEqual: version,
  semverGreaterThan: version,
  semverGreaterThanOrEqual: version,
  cidr: () => 0.1,
};

function version(value: unknown): number {
  return 15 + lengthOf(value) / 5;
}

function lengthOf(value: unknown): number {
  return typeof value === "string" ? value.length : 0;
}

export function checkWork(key: string, report: Report, documents: Documents): void {
  const work = new Map<string, number>();
  const add = (what: string, amount: number) => work.set(what, (work.get(what) ?? 0) + amount);
  const folded = new Set<unknown>();
  for (const document of reachable({ kind: "flag", key }, documents)) {
    for (const condition of conditionsOf(document as unknown as Fields)) {
      const { attribute, op, values, ignoreCase } = condition;
      const cost = typeof op === "string" && Object.hasOwn(VALUES, op) ? VALUES[op] : undefined;
      add("conditions", CONDITION);
      if (op === "before" || op === "after") add("dates", DATE);
      if (op === "cidr") add("addresses", ADDRESS);
      if (cost !== undefined) for (const value of list(values)) add(op as string, cost(value));
      if (ignoreCase === true && !folded.has(attribute)) {
        folded.add(attribute);
        add("ignoreCase", LOWER_CASE);
      }
    }
    if ("included" in document) {
      for (const rule of list(document.rules)) if ((rule as Fields | null)?.sample != null) add("samples", SAMPLE);
      if (document.big !== undefined) add("big segments", FILTER);
    }
  }
  const sum = [...work.values()].reduce((total, amount) => total + amount, 0);
  if (sum <= LIMITS.work) return;
  const [heaviest] = [...work].sort((a, b) => b[1] - a[1]);
  const [what, amount] = heaviest!;
  report.add(
    [],
    "work-reachable",
    `Worst-case evaluation of ${show(key)} with all that it depends on would take ${milliseconds(sum)} ms; the limit is ${milliseconds(LIMITS.work)} ms. Most of it, ${milliseconds(amount)} ms: ${what}. To stay below the limit, ${REMEDIES[what] ?? "depend on less"}.`,
  );
}

const milliseconds = (tenthsOfMicroseconds: number): number => Math.ceil(tenthsOfMicroseconds / 100) / 100;

const REMEDIES: Readonly<Record<string, string>> = {
  matches: "anchor patterns with `^`, or use in, startsWith or endsWith",
  contains: "use in, startsWith or endsWith, or search for fewer texts",
  ignoreCase: "compare case as it is for some attributes",
};

/** Those inside others included. Iterative: conditions may be nested deeper than the stack. */
export function conditionsOf(document: Fields): Fields[] {
  const found: Fields[] = [];
  const open = list(document.rules).flatMap((rule) => list((rule as Fields | null)?.conditions));
  // The list grows while it is walked.
  for (let i = 0; i < open.length; i++) {
    const condition = open[i] as Fields | null;
    if (typeof condition !== "object" || condition === null) continue;
    found.push(condition);
    for (const child of list(condition.all)) open.push(child);
    for (const child of list(condition.any)) open.push(child);
    if (condition.not !== undefined) open.push(condition.not);
  }
  return found;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
