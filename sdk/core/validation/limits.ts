/** What a document may hold (docs/evaluation.md, "Limits"): enforced by `validate`, so that the worst flag still answers in time. */
export const LIMITS = {
  variations: 100,
  rules: 200,
  /** In one rule, those nested in others included. */
  conditions: 100,
  nesting: 6,
  /** Of one condition. Longer lists are segments. */
  values: 10_000,
  /** Reachable from one flag: its own, and those of all that it depends on. */
  reachableConditions: 20_000,
  reachablePatterns: 64,
  /** Of one evaluation, with the worst texts of 1,024 units; in tenths of a microsecond. */
  work: 10_000,
  /** UTF-8 bytes of JSON: a value travels to every client with each change of its flag. */
  valueBytes: 65_536,
  flagBytes: 262_144,
  /** Of all flags and segments of an environment together: what every client holds, and KV takes 25 MB. */
  rulesetBytes: 20_971_520,
} as const;

/** UTF-8 bytes of the value's JSON; infinite for what has none. Not every host of the core has a TextEncoder. */
export function jsonBytes(value: unknown): number {
  let text: string;
  try {
    text = JSON.stringify(value) ?? "";
  } catch {
    return Number.POSITIVE_INFINITY;
  }
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // A pair is two units and four bytes; JSON has no lone surrogates, they are escaped.
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return bytes;
}
