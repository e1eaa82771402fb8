// From weights to ranges with the least movement (EV-34). What a variation loses is fixed by the weights; which of its
// buckets go, and to whom, is searched for. Every step moves as much as it can from one end of one run of buckets: a whole
// run, which adds none, or all that a variation has yet to lose or to gain, which adds one. The last step ends two of those at
// once, and "in no range" counts as one more variation: an edit adds at most as many runs as there are variations.
//
// The fewest ranges that a least movement can leave are a question like the fewest transfers that settle debts, which is
// NP-hard (it holds the partition problem): the search is a beam, wide enough to find them for ordinary splits.

import type { Range } from "../ruleset.ts";
import { BUCKETS } from "./bucket.ts";

/** Buckets that follow each other and have one owner: an index into the variations, or their number for "in no range". */
type Run = { readonly owner: number; readonly length: number };
type State = {
  readonly runs: readonly Run[];
  readonly surplus: readonly number[];
  readonly need: readonly number[];
  readonly ranges: number;
};
type Move = {
  readonly state: State;
  readonly run: number;
  readonly to: number;
  readonly end: "low" | "high";
  readonly ranges: number;
};

// How many moves a step tries and how many states it keeps, divided by what each costs: about a millisecond for an edit of
// twenty variations, some forty for a hundred. Thirty times wider saves one range in fifteen.
const TRIED = 30_000;
const KEPT = 2_000;

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
    {
      runs,
      surplus: change.map((gain) => Math.max(0, -gain)),
      need: change.map((gain) => Math.max(0, gain)),
      ranges: runs.filter(({ owner }) => owner < variations.length).length,
    },
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

/** The states one move on, the best first, each once. */
function advance(states: readonly State[], nobody: number): State[] {
  const cost = (states[0]!.runs.length + nobody) ** 2;
  const next = promising(states, nobody, Math.max(8, Math.floor(TRIED / cost))).map(make);
  next.sort((a, b) => a.ranges - b.ranges || compare(a.runs, b.runs));
  const distinct = next.filter((state, at) => at === 0 || compare(next[at - 1]!.runs, state.runs) !== 0);
  return distinct.slice(0, Math.max(1, Math.floor(KEPT / cost)));
}

/** At most so many moves, those that leave the fewest ranges. Not sorted: a large split has tens of thousands. */
function promising(states: readonly State[], nobody: number, most: number): Move[] {
  const byRanges = new Map<number, Move[]>();
  const offer = (state: State, run: number, to: number, end: "low" | "high", ranges: number): void => {
    const moves = byRanges.get(ranges);
    if (moves === undefined) byRanges.set(ranges, [{ state, run, to, end, ranges }]);
    else if (moves.length < most) moves.push({ state, run, to, end, ranges });
  };
  for (const state of states) {
    const { runs, surplus, need } = state;
    const growing = need.flatMap((buckets, owner) => (buckets > 0 ? [owner] : []));
    // A finished state waits for the others.
    if (growing.length === 0) offer(state, -1, -1, "low", state.ranges);
    for (const [run, { owner, length }] of runs.entries()) {
      if (growing.length === 0 || surplus[owner]! === 0) continue;
      const before = runs[run - 1]?.owner;
      const after = runs[run + 1]?.owner;
      for (const to of growing) {
        const gained = to === nobody ? 0 : 1;
        if (Math.min(surplus[owner]!, need[to]!) >= length) {
          const joined = gained === 0 ? 0 : Number(before === to) + Number(after === to);
          offer(state, run, to, "low", state.ranges - Number(owner !== nobody) + gained - joined);
        } else {
          offer(state, run, to, "low", state.ranges + gained - Number(gained === 1 && before === to));
          offer(state, run, to, "high", state.ranges + gained - Number(gained === 1 && after === to));
        }
      }
    }
  }
  const ascending = [...byRanges].sort(([a], [b]) => a - b).flatMap(([, moves]) => moves);
  return ascending.slice(0, most);
}

function make({ state, run, to, end, ranges }: Move): State {
  if (run < 0) return state;
  const { owner, length } = state.runs[run]!;
  const moved = Math.min(length, state.surplus[owner]!, state.need[to]!);
  const given: Run = { owner: to, length: moved };
  const kept: Run = { owner, length: length - moved };
  const surplus = state.surplus.with(owner, state.surplus[owner]! - moved);
  const need = state.need.with(to, state.need[to]! - moved);
  const runs = state.runs.toSpliced(run, 1, ...(end === "low" ? [given, kept] : [kept, given]));
  return { runs: merge(runs), surplus, need, ranges };
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
