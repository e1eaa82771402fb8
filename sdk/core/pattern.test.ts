import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parsePattern } from "./pattern.ts";

/** Patterns of a few characters that JavaScript reads as we do, nested as they come. */
const patterns = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { depthSize: "medium", withCrossShrink: true },
    fc.constantFrom("a", "b", "[ab]", "[^a]", "\\d", "\\w", "\\b", "^", "$", "-", "\\.", "é", "😀"),
    fc.tuple(tie("pattern"), tie("pattern")).map((two) => two.join("")),
    fc.tuple(tie("pattern"), tie("pattern")).map(([a, b]) => `(?:${a}|${b})`),
    fc
      .tuple(tie("pattern"), fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "{0,2}?"))
      .map(([body, times]) => `(${body})${times}`),
  ),
})).pattern;
const subjects = fc
  .array(fc.constantFrom("a", "b", "1", "-", ".", "é", "😀", "\n"), { maxLength: 12 })
  .map((parts) => parts.join(""));

describe("EV-14: patterns", () => {
  it("match what JavaScript's own engine matches, trimmed and rewritten as they are", () => {
    let accepted = 0;
    fc.assert(
      fc.property(patterns, fc.array(subjects, { minLength: 5, maxLength: 5 }), (source, texts) => {
        const pattern = parsePattern(source);
        if (!pattern.ok) return;
        accepted++;
        const native = new RegExp(source, "u");
        for (const text of texts) expect([text, pattern.regexp.test(text)]).toEqual([text, native.test(text)]);
      }),
      { numRuns: 5_000 },
    );
    expect(accepted).toBeGreaterThan(1_000);
  });

  it("that are accepted end, on the longest texts made against them", () => {
    // An exponential or cubic pattern let through would hold this test until it is stopped.
    fc.assert(
      fc.property(
        patterns,
        fc.constantFrom("a", "ab", "aab", "b", "1", "a-", "é"),
        fc.constantFrom("", "!", "c"),
        (source, unit, end) => {
          const pattern = parsePattern(source);
          const text = unit.repeat(1_024).slice(0, 1_024 - end.length) + end;
          if (pattern.ok) expect(typeof pattern.regexp.test(text)).toBe("boolean");
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it("are refused with a reason, or accepted, whatever the text", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(..."ab\\[](){}^$.|?*+-,:<>=!dwpPQEZ019&~\ud83d\n"), { maxLength: 14 }),
        (parts) => {
          const pattern = parsePattern(parts.join(""));
          if (!pattern.ok) expect(pattern.message).not.toBe("");
        },
      ),
      { numRuns: 10_000 },
    );
  });

  it("are analysed within bounds of their own, however they are made", () => {
    for (const source of [
      "(".repeat(400),
      `${"(".repeat(300)}a${")".repeat(300)}`,
      "(?:a?){1000}",
      "(?:(?:a{10}){10}){10}",
      "a?".repeat(450),
      `(?:${Array.from({ length: 300 }, () => "a").join("|")})*`,
      `(?:${"(a|b)".repeat(150)})*$`,
      "(a*)*".repeat(150),
      "[a-z]*".repeat(160),
    ]) {
      expect(parsePattern(source)).toHaveProperty("ok");
    }
  });
});
