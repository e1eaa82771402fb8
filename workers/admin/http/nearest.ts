/** "Did you mean": the name that a misspelt one was probably meant to be. */

/** None of our names is nearly as long; a longer one is not a misspelling. */
const MAX_COMPARED = 64;

/** The name that was meant by one of another case, with other separators, or with a letter or two wrong. */
export function nearest(name: string, known: readonly string[]): string | null {
  if (name.length > MAX_COMPARED) return null;
  const given = folded(name);
  const allowed = given.length <= 5 ? 1 : 2;
  const [first] = known
    .map((one) => ({ one, away: distance(given, folded(one)) }))
    .filter(({ away }) => away <= allowed)
    .sort((one, other) => one.away - other.away);
  return first?.one ?? null;
}

const folded = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, "");

/** Levenshtein's, a row at a time. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const swapped = row[j - 1]! + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(swapped, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[other.length]!;
}
