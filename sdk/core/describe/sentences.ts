import type { Condition, Operator } from "../ruleset.ts";

/** How sdk/core/explain.ts says what a value is and what an operator found. */

type Leaf = Extract<Condition, { attribute: string }>;

const MAX_SHOWN = 60;
const MAX_VALUES = 5;

/** What holds, and what does not. */
const WORDS: Record<Operator, readonly [yes: string, no: string]> = {
  in: ["is in", "is not in"],
  startsWith: ["starts with one of", "starts with none of"],
  endsWith: ["ends with one of", "ends with none of"],
  contains: ["contains one of", "contains none of"],
  matches: ["matches one of", "matches none of"],
  exists: ["is there", "is not there"],
  lessThan: ["is less than", "is not less than"],
  lessThanOrEqual: ["is at most", "is not at most"],
  greaterThan: ["is greater than", "is not greater than"],
  greaterThanOrEqual: ["is at least", "is not at least"],
  modulo: ["leaves, by divisor and remainder,", "does not leave, by divisor and remainder,"],
  before: ["is before", "is not before"],
  after: ["is after", "is not after"],
  semverEqual: ["is version", "is not version"],
  semverLessThan: ["is a version below", "is no version below"],
  semverLessThanOrEqual: ["is at most version", "is not at most version"],
  semverGreaterThan: ["is a version above", "is no version above"],
  semverGreaterThanOrEqual: ["is at least version", "is not at least version"],
  cidr: ["is in a network of", "is in no network of"],
};

/** As JSON, cut where it is long. What has no JSON is shown by its type. */
export function shown(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // A cycle or a BigInt.
  }
  text ??= typeof value;
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

/** `holds` is the whole condition's, its `negate` included. */
export function conditionInWords(leaf: Leaf, value: unknown, holds: boolean | null): string {
  const name = `attribute ${shown(leaf.attribute)}`;
  const words = WORDS[leaf.op];
  if (holds === null) return `${name} is no attribute's name, or holds too much to compare`;
  if (words === undefined) return `operator ${shown(leaf.op)} is not known, which never holds`;
  const isThere = value !== undefined;
  if (leaf.op === "exists") return `${name} ${words[isThere ? 0 : 1]}`;
  if (!isThere) return `${name} is missing`;
  const found = holds !== (leaf.negate === true);
  return `${name}, ${shown(value)}, ${words[found ? 0 : 1]} ${listed(leaf.values ?? [])}`;
}

function listed(values: readonly unknown[]): string {
  if (!Array.isArray(values)) return shown(values);
  const more = values.length - MAX_VALUES;
  const some = values.slice(0, MAX_VALUES).map(shown).join(", ");
  return more > 0 ? `[${some}, … ${more} more]` : `[${some}]`;
}
