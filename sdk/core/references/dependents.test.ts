import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rulesets } from "../../../test/conformance/arbitrary-ruleset.ts";
import { compile, dependents, type Flag, references, type Segment } from "../index.ts";

const flag = (...conditions: unknown[]) => ({ rules: [{ conditions }] }) as unknown as Flag;
const segment = (...conditions: unknown[]) => ({ rules: [{ conditions }] }) as unknown as Segment;

describe("dependents", () => {
  const ruleset = {
    flags: {
      a: flag(),
      b: { prerequisites: [{ flag: "a", variations: ["on"] }] } as unknown as Flag,
      c: flag({ not: { segment: ["s"] } }),
      d: flag({ segment: ["a"] }),
      e: flag({ flag: "c", variations: ["on"] }),
    },
    segments: {
      s: segment({ all: [{ flag: "b", variations: ["on"] }] }),
      a: segment(),
      t: segment({ segment: ["a"] }),
    },
  };

  it("are found through prerequisites, conditions and segments, however far", () => {
    expect(dependents(ruleset, "flag", "a")).toEqual({ flags: ["b", "c", "e"], segments: ["s"] });
    expect(dependents(ruleset, "segment", "s")).toEqual({ flags: ["c", "e"], segments: [] });
  });

  it("are of the segment or of the flag, where both have the key", () => {
    expect(dependents(ruleset, "segment", "a")).toEqual({ flags: ["d"], segments: ["t"] });
  });

  it("are none of a leaf, of nothing, and of an inherited name", () => {
    for (const key of ["e", "nowhere", "constructor"]) {
      expect(dependents(ruleset, "flag", key)).toEqual({ flags: [], segments: [] });
    }
  });

  it("are found in a cycle, without the requested one", () => {
    const flags = { a: flag({ flag: "b", variations: [] }), b: flag({ flag: "a", variations: [] }) };
    expect(dependents({ flags, segments: {} }, "flag", "a")).toEqual({ flags: ["b"], segments: [] });
  });

  it("are all whose answers a change can change", () => {
    fc.assert(
      fc.property(rulesets, fc.constantFrom("a", "b", "c", "d"), (rules, key) => {
        const before = compile(rules).all({ targetingKey: "u1", p: "x" });
        const without = { ...rules, flags: { ...rules.flags } };
        delete without.flags[key];
        const after = compile(without).all({ targetingKey: "u1", p: "x" });
        const { flags } = dependents(rules, "flag", key);
        for (const [name, decision] of Object.entries(after)) {
          if (!flags.includes(name)) expect(decision).toEqual(before[name]);
        }
        for (const name of flags) {
          const named = references(rules.flags[name]!);
          expect(named.flags.length + named.segments.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: 500 },
    );
  });
});
