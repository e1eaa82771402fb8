import type { Flag, Ruleset, Segment } from "../ruleset.ts";
import { type References, references } from "./references.ts";

type Documents = Pick<Ruleset, "flags" | "segments">;
type Kind = "flag" | "segment";

/** What depends on a flag or segment, directly or through others: all that a change of it may change. In the ruleset's order. */
export function dependents(ruleset: Documents, kind: Kind, key: string): References {
  const found = new Referrers(ruleset).reached([node(kind, key)]);
  // In a cycle it would list itself.
  found.delete(node(kind, key));
  return {
    flags: Object.keys(ruleset.flags).filter((name) => found.has(node("flag", name))),
    segments: Object.keys(ruleset.segments).filter((name) => found.has(node("segment", name))),
  };
}

/** The documents that refer to each document, updated as documents change: for callers that process many changes. */
export class Referrers {
  readonly #users = new Map<string, Set<string>>();

  /** Linear in the documents. */
  constructor({ flags, segments }: Documents) {
    for (const [key, flag] of Object.entries(flags)) this.replace("flag", key, undefined, flag);
    for (const [key, segment] of Object.entries(segments)) this.replace("segment", key, undefined, segment);
  }

  /** Linear in the references of the two documents. */
  replace(
    kind: Kind,
    key: string,
    before: Flag | Segment | null | undefined,
    after: Flag | Segment | null | undefined,
  ): void {
    const user = node(kind, key);
    for (const name of named(before)) this.#users.get(name)?.delete(user);
    for (const name of named(after)) {
      const users = this.#users.get(name);
      if (users === undefined) this.#users.set(name, new Set([user]));
      else users.add(user);
    }
  }

  /** These flags and all flags that depend on these documents; some may not exist. */
  flagsReached({ flags, segments }: References): Set<string> {
    const start = [...flags.map((key) => node("flag", key)), ...segments.map((key) => node("segment", key))];
    const reached = new Set(flags);
    for (const name of this.reached(start)) if (name.startsWith(FLAG)) reached.add(name.slice(FLAG.length));
    return reached;
  }

  /** All nodes that depend on these. Itself only where there is a cycle. */
  reached(start: string[]): Set<string> {
    const found = new Set<string>();
    for (const name of start) for (const user of this.#users.get(name) ?? []) found.add(user);
    // A set is visited in the order of its growth, what is added on the way included.
    for (const name of found) for (const user of this.#users.get(name) ?? []) found.add(user);
    return found;
  }
}

const FLAG = "flag ";
const node = (kind: Kind, key: string): string => `${kind} ${key}`;

function named(document: Flag | Segment | null | undefined): string[] {
  if (document === null || document === undefined) return [];
  const { flags, segments } = references(document);
  return [...flags.map((key) => node("flag", key)), ...segments.map((key) => node("segment", key))];
}
