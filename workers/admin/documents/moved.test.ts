import { type Condition, compile, type Flag, type Serve } from "@bunting/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { flag as environmentFlag } from "../../../test/support/environment.ts";
import { movedBetween, movedIn, shareMoved } from "./moved.ts";

const ON: Serve = { variation: "on" };
const OFF: Serve = { variation: "off" };
const split = (on: number, seed = "s"): Serve => ({
  split: {
    by: "key",
    seed,
    hash: "xxh32",
    ranges: [
      { variation: "on", from: 0, to: on },
      { variation: "off", from: on, to: 100_000 },
    ],
  },
});
const plan = (...values: string[]): Condition => ({ attribute: "plan", op: "in", values });
const rule = (id: string, conditions: Condition[], serve: Serve = ON) => ({ id, conditions, serve });

const FLAG = environmentFlag("checkout", { fallthrough: split(25_000) });
const flag = (fields: Partial<Flag>): Flag => ({ ...FLAG, ...fields });
const moves = (from: string | null, to: string | null, weight: number) => ({ from, to, weight });

describe("who moves (R10)", () => {
  test("turning a flag off moves everybody that it was on for, in each place", () => {
    const before = flag({ rules: [rule("a", [plan("pro")])] });
    expect(movedBetween(before, { ...before, on: false })).toEqual([
      { rule: "a", movements: [moves("on", "off", 100_000)] },
      { rule: null, movements: [moves("on", "off", 25_000)] },
    ]);
  });

  test("turning it on moves them back", () => {
    expect(movedBetween(flag({ on: false }), FLAG)).toEqual([{ rule: null, movements: [moves("off", "on", 25_000)] }]);
  });

  test("a rule for everybody moves everybody, wherever they were decided on", () => {
    const before = flag({ rules: [rule("a", [plan("pro")], OFF)], fallthrough: OFF });
    const next = flag({ rules: [rule("all", []), ...before.rules], fallthrough: OFF });
    expect(movedBetween(before, next)).toEqual([{ rule: "all", movements: [moves("off", "on", 100_000)] }]);
    expect(shareMoved(movedBetween(before, next))).toBe(100_000);
  });

  test("a rule with conditions moves at most everybody who meets them, where all were served the same before", () => {
    const next = flag({ fallthrough: OFF, rules: [rule("a", [plan("pro")])] });
    expect(movedBetween(flag({ fallthrough: OFF }), next)).toEqual([
      { rule: "a", movements: [moves("off", "on", 100_000)] },
    ]);
  });

  test("a rule whose users were served different things before moves nobody can say whom", () => {
    const before = flag({ rules: [rule("a", [plan("pro")])], fallthrough: OFF });
    const next = flag({ rules: [rule("b", [plan("free")], split(10_000)), ...before.rules], fallthrough: OFF });
    expect(movedBetween(before, next)).toEqual([{ rule: "b", movements: "unknown" }]);
    expect(shareMoved(movedBetween(before, next))).toBe("unknown");
  });

  test("a wider split moves those who join it, and another seed nobody can say whom", () => {
    expect(movedBetween(FLAG, flag({ fallthrough: split(30_000) }))).toEqual([
      { rule: null, movements: [moves("off", "on", 5_000)] },
    ]);
    expect(movedBetween(FLAG, flag({ fallthrough: split(25_000, "t") }))).toEqual([
      { rule: null, movements: "unknown" },
    ]);
  });

  test("a variation with another value moves everybody who is served it", () => {
    const variations = [FLAG.variations[0]!, { key: "off", value: true }];
    expect(movedBetween(FLAG, flag({ variations }))).toEqual([
      { rule: null, movements: [moves("off", "off", 75_000)] },
    ]);
  });

  test("archiving a flag moves everybody to the code's default", () => {
    expect(movedBetween(flag({ fallthrough: ON }), null)).toEqual([
      { rule: null, movements: [moves("on", null, 100_000)] },
    ]);
  });

  test("a new flag that is off, a description and an order of variations move nobody", () => {
    expect(movedBetween(null, flag({ on: false }))).toEqual([]);
    expect(movedBetween(FLAG, flag({ variations: FLAG.variations.toReversed() }))).toEqual([]);
  });

  test("prerequisites, and what client-side SDKs receive, are unknown", () => {
    const unknown = [{ rule: null, movements: "unknown" }];
    expect(movedBetween(FLAG, flag({ prerequisites: [{ flag: "x", variations: ["on"] }] }))).toEqual(unknown);
    expect(movedBetween(FLAG, flag({ clientSide: true }))).toEqual(unknown);
  });

  test("rules of a segment are unknown, its listed members and all that is new or gone are not counted", () => {
    const segment = { key: "s", version: 1, included: [], excluded: [], rules: [] };
    const rules = [{ id: "a", conditions: [plan("pro")] }];
    const touched = (before: object | null, after: object | null) =>
      ({ environment: "live", kind: "segment", key: "s", before, after }) as Parameters<typeof movedIn>[0][number];
    expect(movedIn([touched(segment, { ...segment, rules })])).toEqual([
      { environment: "live", kind: "segment", key: "s", rule: null, movements: "unknown" },
    ]);
    expect(movedIn([touched(segment, { ...segment, included: ["u"] }), touched(null, segment)])).toEqual([]);
  });

  test("whoever is in no range is served the off variation, which is no move from it", () => {
    const half: Serve = {
      split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to: 50_000 }] },
    };
    expect(movedBetween(flag({ fallthrough: ON }), flag({ fallthrough: half }))).toEqual([
      { rule: null, movements: [moves("on", "off", 50_000)] },
    ]);
    expect(movedBetween(flag({ fallthrough: split(50_000) }), flag({ fallthrough: half }))).toEqual([]);
    expect(movedBetween(flag({ fallthrough: half }), flag({ fallthrough: half, offVariation: null }))).toEqual([
      { rule: null, movements: [moves("off", null, 50_000)] },
    ]);
  });
});

describe("against the engine", () => {
  const part = (on: number): Serve => ({
    split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to: on }] },
  });
  const serves = fc.oneof(
    fc.constantFrom(ON, OFF),
    fc.integer({ min: 0, max: 100_000 }).map(part),
    fc.tuple(fc.integer({ min: 0, max: 100_000 }), fc.constantFrom("s", "t")).map(([on, seed]) => split(on, seed)),
  );
  const conditions = fc.subarray(["free", "pro"], { maxLength: 2 }).map((plans) => (plans[0] ? [plan(...plans)] : []));
  const rules = fc
    .array(fc.record({ conditions, serve: serves }), { maxLength: 3 })
    .map((all) => all.map((one, index) => ({ id: `r${index}`, ...one })));
  const flags = fc.record({
    on: fc.boolean(),
    offVariation: fc.constantFrom("on", "off", null),
    rules,
    fallthrough: serves,
  });

  test("whoever is served something else is in a movement, or it says that it does not know", () => {
    const ruleset = (one: Flag) =>
      compile({
        schema: 1,
        environment: "e",
        revision: 1,
        events: { exposureSampleRate: 1, summarySeconds: 30 },
        flags: { [one.key]: one },
        segments: {},
      });
    const contexts = Array.from({ length: 60 }, (_, index) => ({
      targetingKey: `user-${index}`,
      plan: ["free", "pro", "team"][index % 3]!,
    }));
    fc.assert(
      fc.property(flags, flags, (one, other) => {
        const [before, next] = [flag(one), flag(other)];
        const moved = movedBetween(before, next);
        const [was, will] = [ruleset(before), ruleset(next)];
        const known = moved.flatMap(({ movements }) => (movements === "unknown" ? [] : movements));
        const isUnknown = moved.some(({ movements }) => movements === "unknown");
        for (const context of contexts) {
          const from = was.evaluate(FLAG.key, context, null).variation;
          const to = will.evaluate(FLAG.key, context, null).variation;
          if (from === to || isUnknown) continue;
          expect(known.some((movement) => movement.from === from && movement.to === to)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });
});
