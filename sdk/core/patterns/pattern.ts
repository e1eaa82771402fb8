// `matches` (EV-14): one syntax for every language, compiled to an equivalent JavaScript pattern.

import { costOf, MAX_SUBJECT_UNITS } from "./cost.ts";
import { Machine } from "./machine.ts";
import { type CharSet, EMPTY, parse, Refused, type Syntax } from "./parser.ts";

export { MAX_SUBJECT_UNITS } from "./cost.ts";

/** Longer patterns are refused. UTF-16 units. */
export const MAX_PATTERN_UNITS = 1000;

// No text of MAX_SUBJECT_UNITS may cost a millisecond (EV-14, docs/decisions/0003): what JavaScript's own engine can be made to
// do in that time, in visits; and what our machine can, in instructions.
export const MAX_NATIVE_VISITS = 110 * MAX_SUBJECT_UNITS;
export const MAX_MACHINE_SIZE = 128;

/** The part of RegExp that evaluation uses. */
type Tester = Pick<RegExp, "test">;
export type Pattern = {
  readonly tester: Tester;
  /** At worst, for each character of a text, some 4 ns each: what the host's engine takes for a visit. */
  readonly steps: number;
};

/** Undefined for a pattern that is refused. */
export function parsePattern(source: string): Pattern | undefined {
  try {
    return preparePattern(source);
  } catch (error) {
    if (error instanceof Refused) return undefined;
    throw error;
  }
}

/** Ready to test texts of at most MAX_SUBJECT_UNITS. Throws Refused. */
export function preparePattern(source: string): Pattern {
  if (source.length > MAX_PATTERN_UNITS) throw new Refused("too-long");
  const { syntax, isAnchored } = simplify(source);
  const { visits, size } = costOf(syntax, isAnchored);
  if (visits <= MAX_NATIVE_VISITS) {
    return { tester: new RegExp(write(syntax), "u"), steps: Math.max(1, Math.ceil(visits / MAX_SUBJECT_UNITS)) };
  }
  if (size > MAX_MACHINE_SIZE) throw new Refused("too-large");
  return { tester: new Machine(syntax), steps: Math.ceil(size * 1.75) };
}

// Evaluation needs only whether a text matches, unanchored: parts at either edge that may match nothing are removed, and
// repetitions there are cut to their minimum. `.*foo.*` is `foo`, which costs linear time rather than cubic.

/** What is matched in the pattern's place, and whether a match can only begin at the start. Throws Refused. */
export function simplify(source: string): { syntax: Syntax; isAnchored: boolean } {
  const syntax = trimEnd(trimStart(parse(source)));
  return { syntax, isAnchored: beginsAtStart(syntax) };
}

function trimStart(syntax: Syntax): Syntax {
  if (syntax.kind === "sequence") {
    const from = syntax.parts.findIndex((part) => !canBeNothing(part));
    if (from < 0) return EMPTY;
    const [first, ...rest] = syntax.parts.slice(from);
    return { kind: "sequence", parts: [trimStart(first!), ...rest] };
  }
  return trimEdge(syntax, trimStart);
}

function trimEnd(syntax: Syntax): Syntax {
  if (syntax.kind === "sequence") {
    const to = syntax.parts.findLastIndex((part) => !canBeNothing(part));
    if (to < 0) return EMPTY;
    return { kind: "sequence", parts: [...syntax.parts.slice(0, to), trimEnd(syntax.parts[to]!)] };
  }
  return trimEdge(syntax, trimEnd);
}

function trimEdge(syntax: Syntax, trim: (syntax: Syntax) => Syntax): Syntax {
  if (canBeNothing(syntax)) return EMPTY;
  if (syntax.kind === "choice") return { kind: "choice", branches: syntax.branches.map(trim) };
  return syntax.kind === "repeat" ? { ...syntax, max: syntax.min } : syntax;
}

/** Whether it matches the empty text anywhere; an assertion depends on its position. */
function canBeNothing(syntax: Syntax): boolean {
  switch (syntax.kind) {
    case "set":
    case "assertion":
      return false;
    case "sequence":
      return syntax.parts.every(canBeNothing);
    case "choice":
      return syntax.branches.some(canBeNothing);
    case "repeat":
      return syntax.min === 0 || canBeNothing(syntax.body);
  }
}

function beginsAtStart(syntax: Syntax): boolean {
  switch (syntax.kind) {
    case "set":
      return false;
    case "assertion":
      return syntax.text === "^";
    case "sequence":
      return syntax.parts.length > 0 && beginsAtStart(syntax.parts[0]!);
    case "choice":
      return syntax.branches.every(beginsAtStart);
    case "repeat":
      return syntax.min > 0 && beginsAtStart(syntax.body);
  }
}

function write(syntax: Syntax): string {
  switch (syntax.kind) {
    case "set":
      return writeSet(syntax.set);
    case "assertion":
      return syntax.text;
    case "sequence":
      return syntax.parts.map((part) => (part.kind === "choice" ? `(?:${write(part)})` : write(part))).join("");
    case "choice":
      return syntax.branches.map(write).join("|");
    case "repeat": {
      const { min, max } = syntax;
      return `(?:${write(syntax.body)}){${min},${max === Number.POSITIVE_INFINITY ? "" : max}}`;
    }
  }
}

function writeSet(set: CharSet): string {
  let text = "";
  for (let i = 0; i < set.length; i += 2) text += `\\u{${set[i]!.toString(16)}}-\\u{${set[i + 1]!.toString(16)}}`;
  return set.length === 2 && set[0] === set[1] ? `\\u{${set[0]!.toString(16)}}` : `[${text}]`;
}
