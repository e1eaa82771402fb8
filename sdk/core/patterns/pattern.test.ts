import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { costOf } from "./cost.ts";
import { Machine } from "./machine.ts";
import type { Syntax } from "./parser.ts";
import { MAX_MACHINE_SIZE, MAX_NATIVE_VISITS, MAX_SUBJECT_UNITS, parsePattern, simplify } from "./pattern.ts";
import { refusalOf } from "./refusals.ts";

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

/** Loops in loops, branches that begin alike, long counts: what makes backtracking slow, and what only looks like it. */
const attacks = fc
  .tuple(
    fc.constantFrom("", "", "^"),
    fc.letrec<{ part: string }>((tie) => ({
      part: fc.oneof(
        { depthSize: "medium", withCrossShrink: true },
        fc.constantFrom("a", "b", "ab", "aa", "[ab]", "[^a]", "\\d", "\\w", ".", "x"),
        fc.tuple(tie("part"), tie("part")).map((two) => two.join("")),
        fc.tuple(tie("part"), tie("part")).map(([a, b]) => `(?:${a}|${b})`),
        fc
          .tuple(tie("part"), fc.constantFrom("*", "+", "?", "{2,}", "{1,3}", "{0,20}", "{1,100}", "{50}"))
          .map(([body, times]) => `(?:${body})${times}`),
      ),
    })).part,
    fc.constantFrom("$", "!", "x$", "\\d$", "[ab]$", "c"),
  )
  .map((parts) => parts.join(""));
const UNITS = ["a", "b", "ab", "aab", "1", "x", "a1", "aaaaaaaaab"];

/** How many partial matches a backtracking engine visits, counted by one until it has passed `most` or its stack ends. */
function visits(syntax: Syntax, isAnchored: boolean, text: string, most: number): number {
  let count = 0;
  type Then = (at: number) => boolean;
  const isWord = (at: number) => /\w/.test(text[at] ?? "");
  const run = (part: Syntax, at: number, then: Then): boolean => {
    if (count > most) return true;
    switch (part.kind) {
      case "set": {
        const code = text.charCodeAt(at);
        if (!part.set.some((first, i) => i % 2 === 0 && code >= first && code <= part.set[i + 1]!)) return false;
        count++;
        return then(at + 1);
      }
      case "assertion": {
        if (part.text === "^") return at === 0 && then(at);
        if (part.text === "$") return at === text.length && then(at);
        return (isWord(at - 1) !== isWord(at)) === (part.text === "\\b") && then(at);
      }
      case "sequence": {
        const from = (index: number, here: number): boolean =>
          index === part.parts.length ? then(here) : run(part.parts[index]!, here, (next) => from(index + 1, next));
        return from(0, at);
      }
      case "choice":
        return part.branches.some((branch) => run(branch, at, then));
      case "repeat": {
        const more = (times: number, here: number): boolean =>
          (times < part.max &&
            run(part.body, here, (next) => (next > here || times < part.min) && more(times + 1, next))) ||
          (times >= part.min && then(here));
        return more(0, at);
      }
    }
  };
  try {
    for (let at = 0; at <= (isAnchored ? 0 : text.length); at++) if (run(syntax, at, () => true)) break;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return count;
}

describe("EV-14: patterns", () => {
  it("match what JavaScript's own engine matches, trimmed and rewritten as they are", () => {
    let accepted = 0;
    fc.assert(
      fc.property(patterns, fc.array(subjects, { minLength: 5, maxLength: 5 }), (source, texts) => {
        const pattern = parsePattern(source);
        if (pattern === undefined) return;
        accepted++;
        const native = new RegExp(source, "u");
        for (const text of texts) expect([text, pattern.tester.test(text)]).toEqual([text, native.test(text)]);
      }),
      { numRuns: 5_000 },
    );
    expect(accepted).toBeGreaterThan(1_000);
  });

  it("match the same on the machine that is linear, which takes those that could be slow", () => {
    fc.assert(
      fc.property(patterns, fc.array(subjects, { minLength: 5, maxLength: 5 }), (source, texts) => {
        const pattern = parsePattern(source);
        if (pattern === undefined) return;
        const machine = new Machine(simplify(source).syntax);
        for (const text of texts) expect([text, machine.test(text)]).toEqual([text, pattern.tester.test(text)]);
      }),
      { numRuns: 5_000 },
    );
  });

  it("that are accepted stay within their bound, on the longest texts made against them", () => {
    let native = 0;
    let linear = 0;
    fc.assert(
      fc.property(attacks, fc.constantFrom(...UNITS), fc.constantFrom("", "!", "x"), (source, unit, end) => {
        const pattern = parsePattern(source);
        if (pattern === undefined) return;
        const { syntax, isAnchored } = simplify(source);
        if (pattern.tester instanceof Machine) {
          linear++;
          expect(pattern.tester.size).toBeLessThanOrEqual(MAX_MACHINE_SIZE);
          expect(pattern.tester.size).toBe(costOf(syntax, isAnchored).size);
          return;
        }
        native++;
        const bound = costOf(syntax, isAnchored).visits;
        const text = unit.repeat(MAX_SUBJECT_UNITS).slice(0, MAX_SUBJECT_UNITS - end.length) + end;
        expect(bound).toBeLessThanOrEqual(MAX_NATIVE_VISITS);
        expect([source, visits(syntax, isAnchored, text, bound) <= bound]).toEqual([source, true]);
      }),
      { numRuns: 1_500 },
    );
    expect([native > 300, linear > 50]).toEqual([true, true]);
  });

  it("are refused with a reason, or accepted, whatever the text", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(..."ab\\[](){}^$.|?*+-,:<>=!dwpPQEZ019&~\ud83d\n"), { maxLength: 14 }),
        (parts) => {
          const source = parts.join("");
          const refusal = refusalOf(source);
          expect(parsePattern(source) === undefined).toBe(refusal !== undefined);
          if (refusal !== undefined) expect(refusal).toMatch(/^\w+ .*\w/);
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
      expect(() => parsePattern(source)).not.toThrow();
    }
  });
});
