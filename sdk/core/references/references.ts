import type { Flag, Segment } from "../ruleset.ts";

/** The keys a document refers to, each once, in the order of their first mention. */
export type References = { flags: string[]; segments: string[] };

/** What a flag or segment depends on: prerequisites, and flag and segment conditions however deep. Never throws. */
export function references(document: Flag | Segment): References {
  const flags = new Set<string>();
  const segments = new Set<string>();
  const { prerequisites, rules } = document as Partial<Flag & Segment>;
  for (const prerequisite of list(prerequisites)) add(flags, prerequisite?.flag);
  const open: Fields[] = [];
  for (const rule of list(rules)) open.push(...list(rule?.conditions));
  // Iterative: conditions may be nested deeper than the stack.
  for (let i = 0; i < open.length; i++) {
    const condition = open[i];
    add(flags, condition?.flag);
    for (const key of list(condition?.segment)) add(segments, key);
    for (const inner of [...list(condition?.all), ...list(condition?.any), condition?.not]) {
      if (typeof inner === "object" && inner !== null) open.push(inner as Fields);
    }
  }
  return { flags: [...flags], segments: [...segments] };
}

type Fields = Record<string, unknown> | null | undefined;

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value : [];
}

function add(keys: Set<string>, key: unknown): void {
  if (typeof key === "string") keys.add(key);
}
