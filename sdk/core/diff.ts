import type { Ruleset } from "./ruleset.ts";
import type { Delta } from "./wire.ts";

/** The delta that, applied to `previous`, gives the documents of `next`. Linear in the documents. */
export function diff(previous: Ruleset, next: Ruleset): Delta {
  return {
    revision: next.revision,
    previous: previous.revision,
    flags: changes(previous.flags, next.flags),
    segments: changes(previous.segments, next.segments),
  };
}

function changes<T>(before: Record<string, T>, after: Record<string, T>): Record<string, T | null> {
  const changed: Record<string, T | null> = Object.create(null);
  for (const key of Object.keys(before)) if (!Object.hasOwn(after, key)) changed[key] = null;
  for (const [key, document] of Object.entries(after)) {
    if (!Object.hasOwn(before, key) || !isSame(before[key], document)) changed[key] = document;
  }
  return changed;
}

/** Whether two JSON values are the same, whatever the order of their fields. */
function isSame(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const keys = Object.keys(one);
  if (keys.length !== Object.keys(other).length) return false;
  for (const key of keys) {
    if (!Object.hasOwn(other, key)) return false;
    if (!isSame((one as Record<string, unknown>)[key], (other as Record<string, unknown>)[key])) return false;
  }
  return true;
}
