/** What to send in place of a field that is not known where it stands. */
import { nearest } from "./nearest.ts";

/** Fields that are shown in answers and refused in requests, each with what to send in its place. */
const READ_ONLY: Record<string, string> = {
  ranges: "Ranges are computed so that the fewest users move: send `weights`.",
  seed: "The seed is kept as it was: send `reshuffle: true` for a new one.",
  hash: "The bucketing algorithm is not chosen by a request: leave it out.",
  killed: "Use …/kill and …/restore.",
  archivedAt: "Use …/archive and …/unarchive.",
};

const ROLLOUT: [string, string][] = [
  ["serve", "A rollout is `serve: {split: {weights}}`."],
  ["fallthrough", "A rollout is `fallthrough: {split: {weights}}`."],
  ["split", "A rollout is `split: {weights}`."],
  ["variation", "A rollout is `split: {weights}` in place of `variation`."],
];
const as = (...fields: string[]): [string, string][] => fields.map((field) => [field, `Did you mean \`${field}\`?`]);
const EQUALS: [string, string][] = [["op", 'Did you mean `op: "in"` with `values`?']];

/** Words of other systems, in lower case: the field that has to be known at that place, and the remedy in our words. */
const FOREIGN: Record<string, [string, string][]> = {
  enabled: as("on"),
  isenabled: as("on"),
  targetingenabled: as("on"),
  active: as("on"),
  strategies: as("rules"),
  filters: as("rules"),
  clauses: as("conditions"),
  constraints: as("conditions"),
  operator: as("op"),
  comparator: as("op"),
  equals: EQUALS,
  eq: EQUALS,
  property: as("attribute"),
  contextname: as("attribute"),
  trait: as("attribute"),
  inverted: as("negate"),
  invert: as("negate"),
  caseinsensitive: as("ignoreCase"),
  value: as("values"),
  percentage: [...as("weight", "weights", "share"), ...ROLLOUT],
  percent: [...as("weight", "weights", "share"), ...ROLLOUT],
  rollout: [...as("weights"), ...ROLLOUT],
  rolloutpercentage: [...as("weights"), ...ROLLOUT],
  bucketby: as("by"),
  stickiness: as("by"),
  variants: as("variations"),
  variant: as("variation"),
  defaultvariant: as("fallthrough"),
  defaultvariation: as("fallthrough"),
  defaultrule: as("fallthrough"),
  offvariant: as("offVariation"),
  duration: as("forMs"),
  id: as("key"),
};

/** `known`: the fields that may stand there. */
export function remedyFor(field: string, known: readonly string[]): string {
  if (/^dry[_-]?run$/i.test(field)) return "Did you mean ?dryRun=true? It belongs in the query.";
  if (Object.hasOwn(READ_ONLY, field)) return READ_ONLY[field]!;
  const word = field.toLowerCase().replace(/[_-]/g, "");
  const foreign = Object.hasOwn(FOREIGN, word) ? FOREIGN[word]!.find(([ours]) => known.includes(ours)) : undefined;
  if (foreign !== undefined) return foreign[1];
  const meant = nearest(field, known);
  return meant === null
    ? "There is no such field here, or it cannot be set: leave it out."
    : `Did you mean \`${meant}\`?`;
}
