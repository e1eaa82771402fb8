import { type References, references } from "./references.ts";
import type { Ruleset } from "./ruleset.ts";

/** What depends on a flag or segment, directly or through others: all that a change of it may change. In the ruleset's order. */
export function dependents(
  ruleset: Pick<Ruleset, "flags" | "segments">,
  kind: "flag" | "segment",
  key: string,
): References {
  const users = new Map<string, string[]>();
  const note = (user: string, named: References): void => {
    for (const name of [...named.flags.map((flag) => `flag ${flag}`), ...named.segments.map((s) => `segment ${s}`)]) {
      const known = users.get(name);
      if (known === undefined) users.set(name, [user]);
      else known.push(user);
    }
  };
  for (const [name, flag] of Object.entries(ruleset.flags)) note(`flag ${name}`, references(flag));
  for (const [name, segment] of Object.entries(ruleset.segments)) note(`segment ${name}`, references(segment));

  // A set is visited in the order of its growth, what is added on the way included.
  const found = new Set(users.get(`${kind} ${key}`));
  for (const name of found) for (const user of users.get(name) ?? []) found.add(user);
  // In a cycle it depends on itself, which nobody asked.
  found.delete(`${kind} ${key}`);
  return {
    flags: Object.keys(ruleset.flags).filter((name) => found.has(`flag ${name}`)),
    segments: Object.keys(ruleset.segments).filter((name) => found.has(`segment ${name}`)),
  };
}
