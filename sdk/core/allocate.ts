// From weights to ranges with the least movement (EV-34). What a variation loses is fixed by the weights; which of its
// buckets go, and to whom, is searched for: every step moves as much as it can from one end of one run of buckets, so an
// edit adds at most one range for each variation that grows or shrinks.

import { BUCKETS } from "./bucket.ts";
import type { Range } from "./ruleset.ts";

/** Buckets that follow each other and have one owner: an index into the variations, or their number for "in no range". */
type Run = { readonly owner: number; readonly length: number };
type State = { readonly runs: readonly Run[]; readonly surplus: readonly number[]; readonly need: readonly number[] };
type Move = {
  readonly state: State;
  readonly run: number;
  readonly to: number;
  readonly end: "low" | "high";
  readonly ranges: number;
};

// How many moves a step tries and how many states it keeps, divided by what each costs: in effect all of them for ordinary
// splits, the most promising for large ones.
const TRIED = 1_000_000;
const KEPT = 20_000;

/**
 * New ranges for new weights, in thousandths of a percent. A variation without a weight gets none; what is left of 100000 is
 * in no range. Throws RangeError for weights that are not whole, negative, or sum to more than 100000.
 */
export function allocate(previous: readonly Range[], weights: Readonly<Record<string, number>>): Range[] {
  const wanted = Object.entries(weights);
  if (wanted.some(([, weight]) => !Number.isInteger(weight) || weight < 0)) {
    throw new RangeError("weights are whole numbers of thousandths of a percent, 0 or more");
  }
  const sum = wanted.reduce((total, [, weight]) => total + weight, 0);
  if (sum > BUCKETS) throw new RangeError(`weights sum to ${sum}, more than ${BUCKETS}`);

  // Ties go by this order, bucket by bucket from the lowest: variations as weighted, and "in no range" last.
  const variations = [
    ...new Set([...wanted.map(([variation]) => variation), ...previous.map((range) => range.variation)]),
  ];
  const runs = toRuns(previous, variations);
  const change = [
    ...variations.map((variation) => (Object.hasOwn(weights, variation) ? weights[variation]! : 0)),
    BUCKETS - sum,
  ];
  for (const run of runs) change[run.owner]! -= run.length;
  let states: State[] = [
    { runs, surplus: change.map((gain) => Math.max(0, -gain)), need: change.map((gain) => Math.max(0, gain)) },
  ];
  while (states.some(({ need }) => need.some((buckets) => buckets > 0))) states = advance(states, variations.length);
  return toRanges(states[0]!.runs, variations);
}

function toRuns(ranges: readonly Range[], variations: readonly string[]): Run[] {
  const runs: Run[] = [];
  let at = 0;
  for (const { variation, from, to } of [...ranges].sort((a, b) => a.from - b.from)) {
    const start = Math.max(at, from);
    const end = Math.min(to, BUCKETS);
    if (end <= start) continue;
    runs.push(
      { owner: variations.length, length: start - at },
      { owner: variations.indexOf(variation), length: end - start },
    );
    at = end;
  }
  return merge([...runs, { owner: variations.length, length: BUCKETS - at }]);
}

function toRanges(runs: readonly Run[], variations: readonly string[]): Range[] {
  const ranges: Range[] = [];
  let from = 0;
  for (const { owner, length } of runs) {
    const variation = variations[owner];
    if (variation !== undefined) ranges.push({ variation, from, to: from + length });
    from += length;
  }
  return ranges;
}

function merge(runs: readonly Run[]): Run[] {
  const merged: Run[] = [];
  for (const run of runs) {
    const last = merged.at(-1);
    if (run.length === 0) continue;
    if (last?.owner === run.owner) merged[merged.length - 1] = { owner: run.owner, length: last.length + run.length };
    else merged.push(run);
  }
  return merged;
}

/** Every state one move on, the best first, each once. */
function advance(states: readonly State[], nobody: number): State[] {
  const moves = states.flatMap((state) => movesFrom(state, nobody)).sort((a, b) => a.ranges - b.ranges);
  const cost = (states[0]!.runs.length + nobody) ** 2;
  const next = new Map<string, State>();
  for (const move of moves.slice(0, Math.max(8, Math.floor(TRIED / cost)))) {
    const state = make(move);
    next.set(state.runs.map(({ owner, length }) => `${owner}:${length}`).join(), state);
  }
  const ranked = [...next.values()].sort(
    (a, b) => count(a.runs, nobody) - count(b.runs, nobody) || compare(a.runs, b.runs),
  );
  return ranked.slice(0, Math.max(1, Math.floor(KEPT / cost)));
}

function movesFrom(state: State, nobody: number): Move[] {
  const growing = state.need.flatMap((buckets, owner) => (buckets > 0 ? [owner] : []));
  // A finished state waits for the others.
  if (growing.length === 0) return [{ state, run: -1, to: -1, end: "low", ranges: count(state.runs, nobody) }];
  const now = count(state.runs, nobody);
  return state.runs.flatMap(({ owner, length }, run) => {
    if (state.surplus[owner]! === 0) return [];
    const before = state.runs[run - 1]?.owner;
    const after = state.runs[run + 1]?.owner;
    return growing.flatMap((to): Move[] => {
      const whole = Math.min(state.surplus[owner]!, state.need[to]!) >= length;
      const gained = to === nobody ? 0 : 1;
      if (whole) {
        const joined = gained === 0 ? 0 : Number(before === to) + Number(after === to);
        return [{ state, run, to, end: "low", ranges: now - Number(owner !== nobody) + gained - joined }];
      }
      return [
        { state, run, to, end: "low", ranges: now + gained - Number(gained === 1 && before === to) },
        { state, run, to, end: "high", ranges: now + gained - Number(gained === 1 && after === to) },
      ];
    });
  });
}

function make({ state, run, to, end }: Move): State {
  if (run < 0) return state;
  const { owner, length } = state.runs[run]!;
  const moved = Math.min(length, state.surplus[owner]!, state.need[to]!);
  const given: Run = { owner: to, length: moved };
  const kept: Run = { owner, length: length - moved };
  const surplus = state.surplus.with(owner, state.surplus[owner]! - moved);
  const need = state.need.with(to, state.need[to]! - moved);
  const runs = state.runs.toSpliced(run, 1, ...(end === "low" ? [given, kept] : [kept, given]));
  return { runs: merge(runs), surplus, need };
}

function count(runs: readonly Run[], nobody: number): number {
  return runs.reduce((ranges, { owner }) => ranges + Number(owner !== nobody), 0);
}

/** Bucket by bucket from the lowest, the earlier variation first. */
function compare(a: readonly Run[], b: readonly Run[]): number {
  let i = 0;
  let j = 0;
  let endA = 0;
  let endB = 0;
  while (i < a.length && j < b.length) {
    if (a[i]!.owner !== b[j]!.owner) return a[i]!.owner - b[j]!.owner;
    const nextA = endA + a[i]!.length;
    const nextB = endB + b[j]!.length;
    if (nextA <= nextB) {
      i++;
      endA = nextA;
    }
    if (nextB <= nextA) {
      j++;
      endB = nextB;
    }
  }
  return 0;
}
