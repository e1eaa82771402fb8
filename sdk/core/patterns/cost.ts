// How much a pattern can cost (EV-14), read off its syntax: on the host's backtracking engine, and on our machine.

import type { CharSet, Syntax } from "./parser.ts";

/** Longer attributes never match. */
export const MAX_SUBJECT_UNITS = 1024;

/** An upper bound for one starting position of a text: parts that may overlap are counted as overlapping. */
type Cost = {
  /** Characters that a backtracking engine takes, those that it gives back and takes again included. */
  readonly visits: number;
  /** Ends that it goes on from, if whatever follows fails each time. */
  readonly ways: number;
  /** Instructions of the machine. */
  readonly size: number;
};

const NOTHING: Cost = { visits: 0, ways: 1, size: 0 };

/** For a whole text of MAX_SUBJECT_UNITS. `anchored`: only tried at the start. */
export function costOf(syntax: Syntax, anchored: boolean): { visits: number; size: number } {
  const { visits, size } = cost(syntax);
  // One more for its end.
  return { visits: visits * (anchored ? 1 : MAX_SUBJECT_UNITS), size: size + 1 };
}

function cost(syntax: Syntax): Cost {
  switch (syntax.kind) {
    case "set":
      return { visits: 1, ways: 1, size: 1 };
    case "assertion":
      return { visits: 0, ways: 1, size: 1 };
    case "sequence":
      return sequence(syntax.parts);
    case "choice":
      return choice(syntax.branches);
    case "repeat":
      return repeat(cost(syntax.body), syntax.min, syntax.max);
  }
}

function sequence(parts: readonly Syntax[]): Cost {
  let { visits, ways, size } = NOTHING;
  for (const [index, part] of parts.entries()) {
    const one = cost(part);
    visits += ways * one.visits;
    size += one.size;
    // `[a-z]+-`: of all the ends of a repetition only the last can be followed by what is not repeated.
    const isDecided = part.kind === "repeat" && part.body.kind === "set" && !overlap(part.body, parts[index + 1]);
    if (!isDecided) ways *= one.ways;
  }
  return { visits, ways, size };
}

/** Branches that no character has in common as their first do not add up. */
function choice(branches: readonly Syntax[]): Cost {
  const costs = branches.map(cost);
  let visits = 0;
  let ways = 0;
  for (const one of branches) {
    const rivals = costs.filter((_, other) => overlap(one, branches[other]));
    visits = Math.max(visits, total(rivals.map((rival) => rival.visits)));
    ways = Math.max(ways, total(rivals.map((rival) => rival.ways)));
  }
  // A split and a jump for each but the last.
  return { visits, ways, size: total(costs.map(({ size }) => size)) + 2 * (branches.length - 1) };
}

function repeat(body: Cost, min: number, max: number): Cost {
  // Each time round takes a character, but for those that must be and may be empty.
  const most = Math.max(min, Math.min(max, MAX_SUBJECT_UNITS));
  const size = max === Number.POSITIVE_INFINITY ? (min + 1) * body.size + 2 : max * body.size + (max - min);
  let visits = 0;
  let ways = min === 0 ? 1 : 0;
  let rounds = 1;
  for (let round = 1; round <= most && Number.isFinite(visits); round++) {
    visits += rounds * body.visits;
    rounds *= body.ways;
    if (round >= min) ways += rounds;
  }
  return { visits, ways, size };
}

/** Whether one character can begin both. */
function overlap(one: Syntax, other: Syntax | undefined): boolean {
  const a = firstOf(one);
  const b = other && firstOf(other);
  if (a === undefined || b === undefined) return true;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i + 1]! < b[j]!) i += 2;
    else if (b[j + 1]! < a[i]!) j += 2;
    else return true;
  }
  return false;
}

/** The characters that it must begin with; undefined where that is not plain to see. */
function firstOf(syntax: Syntax): CharSet | undefined {
  switch (syntax.kind) {
    case "set":
      return syntax.set;
    case "sequence":
      return syntax.parts[0] && firstOf(syntax.parts[0]);
    case "repeat":
      return syntax.min > 0 ? firstOf(syntax.body) : undefined;
    default:
      return undefined;
  }
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
