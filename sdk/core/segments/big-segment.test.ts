import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BigMembers, compile, type Evaluator, type Flag, type Ruleset, type Segment } from "../index.ts";
import { validate } from "../validate.ts";
import { emptyFilter, filterSize, placeOf, setBits } from "./bloom-filter.ts";

const FLAG: Flag = {
  key: "f",
  version: 1,
  type: "boolean",
  on: true,
  variations: [
    { key: "on", value: true },
    { key: "off", value: false },
  ],
  offVariation: "off",
  prerequisites: [],
  targets: [],
  rules: [{ id: "r", conditions: [{ segment: ["s"] }], serve: { variation: "on" } }],
  fallthrough: { variation: "off" },
  clientSide: false,
  trackExposures: false,
  experiment: null,
  killed: false,
};

function filterOf(members: Iterable<string>, { bits, hashes }: { bits: number; hashes: number }): Uint8Array {
  const filter = emptyFilter({ bits, hashes });
  for (const member of members) setBits(filter, { bits, hashes }, ...placeOf(member));
  return filter;
}

const bigOf = (generation: number, members: number, fields: Partial<BigMembers> = {}): BigMembers => ({
  generation,
  count: members,
  ...(generation === 0 ? { bits: 0, hashes: 0 } : filterSize(members)),
  url: generation === 0 ? "" : `/sdk/v1/segments/s/${generation}`,
  added: [],
  removed: [],
  ...fields,
});

const segmentOf = (big: BigMembers, fields: Partial<Segment> = {}): Segment => ({
  key: "s",
  version: 1,
  included: [],
  excluded: [],
  rules: [],
  big,
  ...fields,
});

const rulesetOf = (segment: Segment, revision = 1): Ruleset => ({
  schema: 1,
  environment: "env_test",
  revision,
  events: { exposureSampleRate: 1, summarySeconds: 30 },
  flags: { f: FLAG },
  segments: { s: segment },
});

const has = (evaluator: Evaluator, targetingKey: string): boolean =>
  evaluator.evaluate("f", { targetingKey }, false).value as boolean;

const delta = (revision: number, fields: object) => ({
  revision,
  previous: revision - 1,
  flags: {},
  segments: {},
  ...fields,
});

describe("a big segment", () => {
  test("reports its filter as missing, and decides by lists and rules until it has one (EV-20)", () => {
    const rules = [{ conditions: [{ attribute: "key", op: "in" as const, values: ["by-rule"] }] }];
    const evaluator = compile(
      rulesetOf(segmentOf(bigOf(3, 2, { added: ["new"], removed: ["by-rule-no"] }), { rules })),
    );
    expect(evaluator.missingFilters()).toEqual([
      {
        segment: "s",
        generation: 3,
        url: "/sdk/v1/segments/s/3",
        bytes: Math.ceil(filterSize(2).bits / 8),
        first: true,
      },
    ]);
    expect(["new", "by-rule", "one", "two"].map((key) => has(evaluator, key))).toEqual([true, true, false, false]);
    expect(evaluator.setFilter("s", 3, filterOf(["one", "two"], filterSize(2)))).toBe(true);
    expect(["new", "by-rule", "one", "two", "three"].map((key) => has(evaluator, key))).toEqual([
      true,
      true,
      true,
      true,
      false,
    ]);
    expect(evaluator.missingFilters()).toEqual([]);
    expect(evaluator.filterBytes).toBe(Math.ceil(filterSize(2).bits / 8));
  });

  test("takes no filter of another generation, segment or length", () => {
    const evaluator = compile(rulesetOf(segmentOf(bigOf(3, 2))));
    expect(evaluator.setFilter("s", 2, new Uint8Array(8))).toBe(false);
    expect(evaluator.setFilter("t", 3, new Uint8Array(8))).toBe(false);
    expect(evaluator.setFilter("s", 3, new Uint8Array(7))).toBe(false);
    expect(evaluator.missingFilters()).toHaveLength(1);
  });

  test("changes member by member, in the documents too, and saying it twice changes nothing", () => {
    const evaluator = compile(rulesetOf(segmentOf(bigOf(1, 2))));
    evaluator.setFilter("s", 1, filterOf(["one", "two"], filterSize(2)));
    const change = delta(2, { members: { s: { added: ["three"], removed: ["one"] } } });
    evaluator.apply(change);
    evaluator.apply(change);
    expect(["one", "two", "three"].map((key) => has(evaluator, key))).toEqual([false, true, true]);
    evaluator.apply(delta(3, { members: { s: { added: ["one"], removed: ["three"] } } }));
    expect(["one", "two", "three"].map((key) => has(evaluator, key))).toEqual([true, true, false]);
    expect(evaluator.ruleset.segments.s?.big).toMatchObject({ added: ["one"], removed: ["three"] });
    // Membership of what is not big, or not there, is nobody's: it is ignored.
    evaluator.apply(delta(4, { members: { nowhere: { added: ["x"], removed: [] } } }));
    expect(evaluator.revision).toBe(4);
  });

  test("answers from the old filter until the new one is here, while all else applies at once (EV-20)", () => {
    const evaluator = compile(rulesetOf(segmentOf(bigOf(1, 3))));
    evaluator.setFilter("s", 1, filterOf(["one", "two", "old"], filterSize(3)));
    const next = segmentOf(bigOf(2, 3, { added: ["since"], removed: ["one"] }), { excluded: ["old"] });
    evaluator.apply(delta(2, { segments: { s: next } }));
    expect(["one", "two", "old", "since", "fresh"].map((key) => has(evaluator, key))).toEqual([
      false,
      true,
      false,
      true,
      false,
    ]);
    evaluator.apply(delta(3, { members: { s: { added: [], removed: ["two"] } } }));
    expect(has(evaluator, "two")).toBe(false);
    expect(evaluator.setFilter("s", 2, filterOf(["one", "two", "fresh"], filterSize(3)))).toBe(true);
    expect(["one", "two", "since", "fresh"].map((key) => has(evaluator, key))).toEqual([false, false, true, true]);
    // A kill waits for no filter.
    evaluator.apply(delta(4, { segments: { s: segmentOf(bigOf(3, 3)) }, flags: { f: { ...FLAG, killed: true } } }));
    expect(evaluator.evaluate("f", { targetingKey: "fresh" }, null).reason).toBe("KILLED");
  });

  test("keeps its filters when a whole ruleset takes the place of another", () => {
    const first = compile(rulesetOf(segmentOf(bigOf(1, 1))));
    first.setFilter("s", 1, filterOf(["one"], filterSize(1)));
    const same = compile(rulesetOf(segmentOf(bigOf(1, 1, { added: ["two"] })), 2), first);
    expect(same.missingFilters()).toEqual([]);
    expect(["one", "two"].map((key) => has(same, key))).toEqual([true, true]);
    const later = compile(rulesetOf(segmentOf(bigOf(2, 1, { removed: ["two"] })), 3), same);
    expect(later.missingFilters()).toHaveLength(1);
    expect(["one", "two"].map((key) => has(later, key))).toEqual([true, false]);
    expect(has(same, "two")).toBe(true);
  });

  test("whose `big` cannot be read answers by what it has beside it, and is refused on saving", () => {
    for (const big of [
      7,
      {},
      { ...bigOf(1, 1), added: [1] },
      { ...bigOf(1, 1), bits: 0 },
      { ...bigOf(1, 1), url: null },
    ]) {
      const segment = { ...segmentOf(big as BigMembers), included: ["one"] };
      const evaluator = compile(rulesetOf(segment));
      expect(evaluator.missingFilters()).toEqual([]);
      expect(["one", "two"].map((key) => has(evaluator, key))).toEqual([true, false]);
      expect(validate("segment", segment, { flags: {}, segments: {} })).not.toEqual([]);
    }
    expect(validate("segment", segmentOf(bigOf(4, 9)), { flags: {}, segments: {} })).toEqual([]);
    const twice = segmentOf(bigOf(4, 9, { added: ["a"], removed: ["b", "a"] }));
    expect(validate("segment", twice, { flags: {}, segments: {} })).toMatchObject([
      { pointer: "/big/removed/1", code: "member-twice" },
    ]);
  });

  test("has exactly its members, up to the rate of false positives, through any run of changes and generations", () => {
    const user = fc.nat(40).map((n) => `user-${n}`);
    const step = fc.oneof(
      fc.record({ add: fc.uniqueArray(user, { maxLength: 5 }), remove: fc.uniqueArray(user, { maxLength: 5 }) }),
      fc.constantFrom("build" as const, "arrive" as const, "resync" as const),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const exact = new Set<string>();
        let big = bigOf(0, 0);
        let pending: { generation: number; bytes: Uint8Array } | null = null;
        let evaluator = compile(rulesetOf(segmentOf(big)));
        let revision = 1;
        for (const taken of steps) {
          revision += 1;
          if (taken === "build") {
            big = bigOf(big.generation + 1, exact.size);
            pending = { generation: big.generation, bytes: filterOf(exact, big) };
            evaluator.apply(delta(revision, { segments: { s: segmentOf(big) } }));
          } else if (taken === "arrive") {
            if (pending !== null) evaluator.setFilter("s", pending.generation, pending.bytes);
          } else if (taken === "resync") {
            evaluator = compile({ ...evaluator.ruleset, revision }, evaluator);
          } else {
            const added = taken.add.filter((member) => !taken.remove.includes(member));
            for (const member of added) exact.add(member);
            for (const member of taken.remove) exact.delete(member);
            evaluator.apply(delta(revision, { members: { s: { added, removed: taken.remove } } }));
            big = evaluator.ruleset.segments.s!.big!;
          }
          const answers = Array.from({ length: 41 }, (_, n) => has(evaluator, `user-${n}`));
          // One chance in a million each, over tens of thousands of answers: none is to be expected, two would be a defect.
          const wrong = answers.filter((answer, n) => answer !== exact.has(`user-${n}`)).length;
          expect(wrong).toBeLessThan(2);
        }
      }),
    );
  });
});
