import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Range } from "../ruleset.ts";
import { allocate } from "./allocate.ts";
import { BUCKETS, bucket } from "./bucket.ts";

type Weights = Record<string, number>;
const ALL = 100_000;

function weightOf(ranges: readonly Range[], variation: string): number {
  return ranges.filter((range) => range.variation === variation).reduce((sum, { from, to }) => sum + to - from, 0);
}

/** How many buckets both allocations give to the variation; null is "in no range". */
function kept(before: readonly Range[], after: readonly Range[]): Map<string | null, number> {
  const cuts = [...new Set([0, ALL, ...[...before, ...after].flatMap(({ from, to }) => [from, to])])].sort(
    (a, b) => a - b,
  );
  const owner = (ranges: readonly Range[], at: number) =>
    ranges.find(({ from, to }) => at >= from && at < to)?.variation ?? null;
  const same = new Map<string | null, number>();
  for (const [index, from] of cuts.slice(0, -1).entries()) {
    const variation = owner(before, from);
    if (variation === owner(after, from)) same.set(variation, (same.get(variation) ?? 0) + cuts[index + 1]! - from);
  }
  return same;
}

function sum(weights: Weights): number {
  return Object.values(weights).reduce((total, weight) => total + weight, 0);
}

/** Weights for up to `count` variations from cuts of the whole, one part of it in no range. */
function weights(count: number, unit = 1): fc.Arbitrary<Weights> {
  const cut = fc.integer({ min: 0, max: ALL / unit }).map((cut) => cut * unit);
  return fc.array(cut, { minLength: count, maxLength: count }).map((cuts) => {
    const sorted = [0, ...cuts.sort((a, b) => a - b)];
    return Object.fromEntries(cuts.map((_, index) => [`v${index}`, sorted[index + 1]! - sorted[index]!]));
  });
}

function checkEdit(before: readonly Range[], after: readonly Range[], wanted: Weights): void {
  let end = 0;
  for (const { from, to } of after) {
    expect(from).toBeGreaterThanOrEqual(end);
    expect(to).toBeGreaterThan(from);
    end = to;
  }
  expect(end).toBeLessThanOrEqual(ALL);
  const same = kept(before, after);
  const variations = new Set([...Object.keys(wanted), ...before.map(({ variation }) => variation)]);
  for (const variation of variations) {
    const weight = wanted[variation] ?? 0;
    expect(weightOf(after, variation)).toBe(weight);
    // Nobody leaves a variation that did not shrink; from one that did, exactly as many as it lost.
    expect(same.get(variation) ?? 0).toBe(Math.min(weight, weightOf(before, variation)));
  }
  const nobodyBefore = ALL - before.reduce((total, { from, to }) => total + to - from, 0);
  expect(same.get(null) ?? 0).toBe(Math.min(ALL - sum(wanted), nobodyBefore));
  expect(runs(after) - runs(before)).toBeLessThanOrEqual(variations.size);
}

/** Ranges, and the stretches between them that are in none. */
function runs(ranges: readonly Range[]): number {
  const gaps = ranges.filter(({ from }, index) => from > (ranges[index - 1]?.to ?? 0)).length;
  return ranges.length + gaps + Number((ranges.at(-1)?.to ?? 0) < ALL);
}

/** Fifty edits of one split, the same in every run; `whole` leaves nobody out. */
function chain(count: number, whole: boolean): Weights[] {
  const cuts = count - Number(whole);
  const edits = fc.array(fc.integer({ min: 0, max: ALL }), { minLength: cuts, maxLength: cuts }).map((at) => {
    const sorted = [0, ...at.sort((a, b) => a - b), ALL];
    return Object.fromEntries(
      Array.from({ length: count }, (_, index) => [`v${index}`, sorted[index + 1]! - sorted[index]!]),
    );
  });
  return fc.sample(edits, { numRuns: 50, seed: count });
}

const COUNTS = Array.from({ length: 19 }, (_, index) => index + 2);

describe("EV-34: allocation", () => {
  it("moves exactly the least through any chain of edits", () => {
    const chains = fc
      .integer({ min: 1, max: 5 })
      .chain((count) => fc.array(weights(count), { minLength: 1, maxLength: 8 }));
    fc.assert(
      fc.property(chains, (edits) => {
        let ranges: Range[] = [];
        for (const wanted of edits) {
          const next = allocate(ranges, wanted);
          checkEdit(ranges, next, wanted);
          ranges = next;
        }
      }),
      { numRuns: 100 },
    );
  });

  it("leaves as few ranges as any least movement can", () => {
    const UNITS = 8;
    const unit = ALL / UNITS;
    const fewest = (before: readonly Range[], wanted: Weights): number => {
      const names = [...Object.keys(wanted), null];
      const now = Array.from(
        { length: UNITS },
        (_, at) => before.find((r) => at * unit >= r.from && at * unit < r.to)?.variation ?? null,
      );
      const goal = new Map<string | null, number>(
        Object.entries(wanted).map(([name, weight]) => [name, weight / unit]),
      );
      goal.set(null, UNITS - sum(wanted) / unit);
      const least = names.reduce(
        (moves, name) => moves + Math.max(0, now.filter((n) => n === name).length - goal.get(name)!),
        0,
      );
      let best = Number.POSITIVE_INFINITY;
      const place = (at: number, moved: number, previous: string | null, ranges: number): void => {
        if (moved > least || ranges >= best) return;
        if (at === UNITS) {
          best = ranges;
          return;
        }
        for (const name of names) {
          const left = goal.get(name)!;
          if (left === 0) continue;
          goal.set(name, left - 1);
          place(
            at + 1,
            moved + Number(name !== now[at]),
            name,
            ranges + Number(name !== null && (at === 0 || name !== previous)),
          );
          goal.set(name, left);
        }
      };
      place(0, 0, null, 0);
      return best;
    };
    const chains = fc
      .integer({ min: 1, max: 3 })
      .chain((count) => fc.array(weights(count, unit), { minLength: 1, maxLength: 5 }));
    fc.assert(
      fc.property(chains, (edits) => {
        let ranges: Range[] = [];
        for (const wanted of edits) {
          const next = allocate(ranges, wanted);
          expect(next.length).toBeLessThanOrEqual(fewest(ranges, wanted));
          ranges = next;
        }
      }),
      { numRuns: 300 },
    );
  });

  it.each(COUNTS)("moves exactly the least through fifty edits of %i variations", (count) => {
    for (const whole of [true, false]) {
      let ranges: Range[] = [];
      for (const wanted of chain(count, whole)) {
        const next = allocate(ranges, wanted);
        checkEdit(ranges, next, wanted);
        ranges = next;
      }
    }
  });

  it("of a million users, none leaves a variation whose weight did not shrink", () => {
    const users = new Uint32Array(1_000_000);
    for (const index of users.keys()) users[index] = bucket("new-checkout", `user-${index}`);
    const owners = (ranges: readonly Range[]): Int8Array => {
      const owner = new Int8Array(BUCKETS).fill(-1);
      for (const { variation, from, to } of ranges) owner.fill(Number(variation.slice(1)), from, to);
      return owner;
    };
    for (const count of [2, 20]) {
      let ranges: Range[] = [];
      let before = owners(ranges);
      for (const wanted of chain(count, true)) {
        const next = allocate(ranges, wanted);
        const after = owners(next);
        const shrank = Array.from({ length: count }, (_, v) => weightOf(ranges, `v${v}`) > wanted[`v${v}`]!);
        let left = 0;
        for (const at of users) {
          if (before[at] !== after[at] && before[at]! >= 0 && !shrank[before[at]!]) left++;
        }
        expect(left).toBe(0);
        ranges = next;
        before = after;
      }
    }
  });

  it.each(COUNTS)("brings the same users back, 50 → 5 → 50, in a new split of %i variations", (count) => {
    for (const [edit, start] of chain(count, true).entries()) {
      const first = allocate([], start);
      const names = Object.keys(start);
      const one = names[edit % count]!;
      const freed = start[one]! - Math.floor(start[one]! / 10);
      const spread = Object.fromEntries(names.map((name) => [name, start[name]!]));
      spread[one]! -= freed;
      const others = names.filter((name) => name !== one);
      for (const [index, name] of others.entries()) {
        spread[name]! += Math.floor(freed / others.length) + Number(index < freed % others.length);
      }
      const given = { ...start, [one]: start[one]! - freed, [others[0]!]: start[others[0]!]! + freed };
      for (const less of [spread, given]) expect(allocate(allocate(first, less), start)).toEqual(first);
    }
  });

  it("keeps the one boundary of a two-way split, and brings the same users back", () => {
    let ranges = allocate([], { on: 50_000, off: 50_000 });
    const first = ranges;
    for (const on of [5_000, 50_000, 99_999, 1, 30_000, 50_000]) {
      ranges = allocate(ranges, { on, off: ALL - on });
      expect(ranges).toHaveLength(2);
      expect(ranges[0]).toEqual({ variation: "on", from: 0, to: on });
    }
    expect(ranges).toEqual(first);
  });

  it("answers for a hundred variations", () => {
    const even = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`v${i}`, 1_000]));
    const uneven = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`v${i}`, i % 2 === 0 ? 500 : 1_500]));
    const before = allocate([], even);
    expect(before).toHaveLength(100);
    checkEdit(before, allocate(before, uneven), uneven);
  });

  it("refuses weights that are not whole, negative, or more than everybody", () => {
    const refused: Weights[] = [{ a: 0.5 }, { a: -1 }, { a: 60_000, b: 40_001 }, { a: Number.NaN }];
    for (const wrong of refused) {
      expect(() => allocate([], wrong)).toThrow(RangeError);
    }
  });

  it("does not change what it is given", () => {
    const before = Object.freeze([
      Object.freeze({ variation: "b", from: 5, to: 10 }),
      Object.freeze({ variation: "a", from: 0, to: 5 }),
    ]);
    expect(allocate(before, { a: 7, b: 3 })).toHaveLength(2);
  });
});
