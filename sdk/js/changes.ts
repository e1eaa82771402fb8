/** Which documents differ between two versions of a ruleset. Versions answer for most; the rest is compared in full. */
type Document = { version: number; killed?: boolean };

export function changedKeys(
  before: ReadonlyMap<string, Document>,
  after: Readonly<Record<string, Document>>,
): string[] {
  const keys: string[] = [];
  for (const key of before.keys()) if (!Object.hasOwn(after, key)) keys.push(key);
  for (const key of Object.keys(after)) {
    const old = before.get(key);
    const now = after[key]!;
    if (old === undefined || old.version !== now.version || old.killed !== now.killed || !same(old, now))
      keys.push(key);
  }
  return keys;
}

function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  const names = Object.keys(left);
  if (names.length !== Object.keys(right).length) return false;
  return names.every((name) => Object.hasOwn(right, name) && same(left[name], right[name]));
}
