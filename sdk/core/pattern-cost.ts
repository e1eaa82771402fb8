// What a backtracking engine can be made to do, at most (EV-14). Positions of the pattern become the states of its Glushkov
// automaton, whose edges keep count of the ways in which an engine may take them; the bound is on the number of partial
// matches it can visit. Loops cost one factor of the subject's length each, unless what ends a loop cannot also continue it.

import { type CharSet, Refused, type Syntax } from "./pattern-syntax.ts";

/** Longer attributes never match. */
export const MAX_SUBJECT_UNITS = 1024;
/** At worst quadratic, with this factor for all that is constant in a pattern. */
const BUDGET = 64 * MAX_SUBJECT_UNITS ** 2;
// Bounds on the analysis itself, which runs wherever patterns are compiled.
const MAX_POSITIONS = 2000;
const MAX_EDGES = 4000;
const MAX_PAIRS = 200_000;

export const TOO_LARGE = "is too large: shorten it, repeat less, or anchor it with `^`";
const TOO_SLOW =
  "could take more than quadratic time: give what follows a `*`, `+` or `{n,m}` a first character that the repetition cannot match, or anchor it with `^`";

type Weights = Map<number, number>;
/** `ways` counts how the part can match nothing. */
type Part = { readonly first: Weights; readonly last: Weights; readonly ways: number };

/**
 * The most visits that a backtracking engine can make of any text. Throws Refused where that cannot be shown to be at worst
 * quadratic. `anchored`: only tried at the start.
 */
export function costOf(syntax: Syntax, anchored: boolean): number {
  if (sizeOf(syntax) > MAX_POSITIONS) throw new Refused(TOO_LARGE);
  const automaton = new Automaton();
  const { first, ways } = automaton.add(syntax);
  const attempt = ways + automaton.branching([...first], automaton.costs());
  const cost = attempt * (anchored ? 1 : MAX_SUBJECT_UNITS);
  if (!(cost <= BUDGET)) throw new Refused(TOO_SLOW);
  return cost;
}

/** Positions after writing repetitions out; nothing counts for less than one, or nested repetitions of it would be free. */
function sizeOf(syntax: Syntax): number {
  switch (syntax.kind) {
    case "set":
    case "assertion":
      return 1;
    case "sequence":
      return Math.max(1, total(syntax.parts.map(sizeOf)));
    case "choice":
      return total(syntax.branches.map(sizeOf));
    case "repeat":
      return sizeOf(syntax.body) * Math.max(1, copies(syntax));
  }
}

function copies({ min, max }: { min: number; max: number }): number {
  return max === Number.POSITIVE_INFINITY ? Math.max(1, min) : max;
}

function total(numbers: number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

class Automaton {
  readonly #sets: CharSet[] = [];
  readonly #next: Weights[] = [];
  #edges = 0;

  add(syntax: Syntax): Part {
    switch (syntax.kind) {
      case "set": {
        const position = this.#sets.push(syntax.set) - 1;
        this.#next.push(new Map());
        return { first: new Map([[position, 1]]), last: new Map([[position, 1]]), ways: 0 };
      }
      case "assertion":
        return NOTHING;
      case "sequence":
        return syntax.parts.reduce<Part>((left, part) => this.#join(left, this.add(part)), NOTHING);
      case "choice":
        return syntax.branches.map((branch) => this.add(branch)).reduce(either);
      case "repeat":
        return this.#repeat(syntax.body, syntax.min, syntax.max);
    }
  }

  #repeat(body: Syntax, min: number, max: number): Part {
    const unbounded = max === Number.POSITIVE_INFINITY;
    // x{2,4} is xx(x(x)?)?, x{2,} is xx+, and x* is (x+)?
    let part = NOTHING;
    for (let copy = copies({ min, max }); copy > 0; copy--) {
      const one = this.add(body);
      if (unbounded && part === NOTHING) {
        this.#connect(one.last, one.first);
        // A first time round that must be, but may be nothing: an engine goes on from there as from the beginning.
        if (min > 0 && one.ways > 0) sum(one.first, new Map(one.first), one.ways);
      }
      part = this.#join(one, part);
      if (copy > min) part = either(part, NOTHING);
    }
    return part;
  }

  #join(left: Part, right: Part): Part {
    if (left === NOTHING) return right;
    if (right === NOTHING) return left;
    this.#connect(left.last, right.first);
    return {
      first: sum(left.first, right.first, left.ways),
      last: sum(right.last, left.last, right.ways),
      ways: left.ways * right.ways,
    };
  }

  #connect(from: Weights, to: Weights): void {
    this.#edges += from.size * to.size;
    if (this.#edges > MAX_EDGES) throw new Refused(TOO_LARGE);
    for (const [source, weight] of from) {
      const next = this.#next[source]!;
      for (const [target, other] of to) next.set(target, (next.get(target) ?? 0) + weight * other);
    }
  }

  /** For every position, how many partial matches can begin there. */
  costs(): number[] {
    const cost: number[] = [];
    for (const component of components(this.#next)) {
      const inside = new Set(component);
      const position = component[0]!;
      const isLoop = component.length > 1 || this.#next[position]!.has(position);
      const worst = isLoop
        ? this.#loopCost(component, inside, cost)
        : 1 + this.branching([...this.#next[position]!], cost);
      for (const member of component) cost[member] = worst;
    }
    return cost;
  }

  /** The most that one character can lead on to: successors that no character has in common do not add up. */
  branching(successors: readonly (readonly [number, number])[], cost: readonly number[]): number {
    let most = 0;
    for (const [one] of successors) {
      let sum = 0;
      for (const [other, weight] of successors) if (this.#overlap(one, other)) sum += weight * cost[other]!;
      most = Math.max(most, sum);
    }
    return most;
  }

  #loopCost(component: readonly number[], inside: ReadonlySet<number>, cost: readonly number[]): number {
    let deterministic = true;
    let mixes = false;
    let exit = 0;
    for (const position of component) {
      const stays: number[] = [];
      const exits: [number, number][] = [];
      for (const [next, weight] of this.#next[position]!) {
        if (!inside.has(next)) {
          exits.push([next, weight]);
        } else {
          // Two ways to go round with the same character, again and again: exponential.
          if (weight > 1) throw new Refused(TOO_SLOW);
          deterministic &&= !stays.some((other) => this.#overlap(other, next));
          stays.push(next);
        }
      }
      mixes ||= exits.some(([next]) => stays.some((other) => this.#overlap(other, next)));
      exit = Math.max(exit, this.branching(exits, cost));
    }
    if (deterministic) return mixes ? MAX_SUBJECT_UNITS * (1 + exit) : MAX_SUBJECT_UNITS + exit;
    if (this.#isAmbiguous(component, inside)) throw new Refused(TOO_SLOW);
    // Unambiguous: at any moment at most one way to be in each of its positions.
    return MAX_SUBJECT_UNITS * component.length * (1 + exit);
  }

  /** Whether one text can lead from a position back to itself in two ways (Weber and Seidl's criterion EDA). */
  #isAmbiguous(component: readonly number[], inside: ReadonlySet<number>): boolean {
    if (component.length ** 2 > MAX_PAIRS) throw new Refused(TOO_LARGE);
    const width = this.#sets.length;
    const sources = new Map<number, number[]>();
    const open = component.map((position) => position * width + position);
    const seen = new Set(open);
    let work = 0;
    for (let pair = open.pop(); pair !== undefined; pair = open.pop()) {
      for (const left of this.#next[Math.floor(pair / width)]!.keys()) {
        if (!inside.has(left)) continue;
        for (const right of this.#next[pair % width]!.keys()) {
          if (++work > MAX_PAIRS) throw new Refused(TOO_LARGE);
          if (!inside.has(right) || !this.#overlap(left, right)) continue;
          const target = left * width + right;
          const from = sources.get(target);
          if (from === undefined) sources.set(target, [pair]);
          else from.push(pair);
          if (!seen.has(target)) {
            seen.add(target);
            open.push(target);
          }
        }
      }
    }
    // Back from the diagonal: a pair of different positions on the way means that two ways parted and met again.
    const back = component.map((position) => position * width + position);
    const met = new Set(back);
    for (let pair = back.pop(); pair !== undefined; pair = back.pop()) {
      for (const source of sources.get(pair) ?? []) {
        if (Math.floor(source / width) !== source % width) return true;
        if (!met.has(source)) {
          met.add(source);
          back.push(source);
        }
      }
    }
    return false;
  }

  #overlap(one: number, other: number): boolean {
    if (one === other) return true;
    const a = this.#sets[one]!;
    const b = this.#sets[other]!;
    for (let i = 0, j = 0; i < a.length && j < b.length; ) {
      if (a[i + 1]! < b[j]!) i += 2;
      else if (b[j + 1]! < a[i]!) j += 2;
      else return true;
    }
    return false;
  }
}

const NOTHING: Part = { first: new Map(), last: new Map(), ways: 1 };

function either(one: Part, other: Part): Part {
  return { first: sum(one.first, other.first, 1), last: sum(one.last, other.last, 1), ways: one.ways + other.ways };
}

/** Adds to `one`, which like every part is used once, and answers it; copying would cost a long `{n,m}` its square. */
function sum(one: Weights, other: Weights, times: number): Weights {
  if (times === 0 || other.size === 0) return one;
  // Never into the empty weights: NOTHING's belong to everybody.
  const weights: Weights = one.size === 0 ? new Map() : one;
  for (const [position, weight] of other) weights.set(position, (weights.get(position) ?? 0) + weight * times);
  return weights;
}

/** Strongly connected components, successors first (Tarjan). */
function components(next: readonly Weights[]): number[][] {
  const found: number[][] = [];
  const index: (number | undefined)[] = [];
  const low: number[] = [];
  const stack: number[] = [];
  const onStack = new Set<number>();
  let count = 0;
  function visit(position: number): void {
    index[position] = low[position] = count++;
    stack.push(position);
    onStack.add(position);
    for (const target of next[position]!.keys()) {
      if (index[target] === undefined) {
        visit(target);
        low[position] = Math.min(low[position]!, low[target]!);
      } else if (onStack.has(target)) {
        low[position] = Math.min(low[position]!, index[target]);
      }
    }
    if (low[position] !== index[position]) return;
    const component: number[] = [];
    for (let member = -1; member !== position; ) {
      member = stack.pop()!;
      onStack.delete(member);
      component.push(member);
    }
    found.push(component);
  }
  for (let position = 0; position < next.length; position++) if (index[position] === undefined) visit(position);
  return found;
}
