import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rulesets } from "../../../test/conformance/arbitrary-ruleset.ts";
import { compile, diff, type Flag, isKey, references, type Segment } from "../index.ts";

describe("references", () => {
  it("finds flags and segments wherever they are named, each once", () => {
    const document = {
      prerequisites: [{ flag: "a", variations: ["on"] }],
      rules: [
        { conditions: [{ any: [{ not: { segment: ["s", "t"] } }, { all: [{ flag: "b", variations: [] }] }] }] },
        { conditions: [{ segment: ["s"] }, { flag: "a", variations: [] }] },
      ],
    } as unknown as Flag;
    expect(references(document)).toEqual({ flags: ["a", "b"], segments: ["s", "t"] });
    expect(references({ key: "s" } as Segment)).toEqual({ flags: [], segments: [] });
  });

  it("takes any document whatever", () => {
    fc.assert(
      fc.property(fc.anything(), (part) => {
        references({ prerequisites: part, rules: part } as unknown as Flag);
        references({ rules: [part, { conditions: part }, { conditions: [part] }] } as unknown as Flag);
      }),
    );
  });
});

describe("diff", () => {
  it("is empty between equal rulesets, whatever the order of their fields", () => {
    fc.assert(
      fc.property(rulesets, (rules) => {
        const reversed = Object.fromEntries(
          Object.entries(rules.flags).map(([key, flag]) => [
            key,
            Object.fromEntries(Object.entries(flag).reverse()) as Flag,
          ]),
        );
        const delta = diff(rules, { ...rules, flags: reversed });
        expect([Object.keys(delta.flags), Object.keys(delta.segments)]).toEqual([[], []]);
      }),
    );
  });

  it("names what changed, what is new and what is gone", () => {
    const flag = (version: number) => ({ key: "f", version }) as Flag;
    const rules = {
      schema: 1 as const,
      environment: "e",
      events: { exposureSampleRate: 1, summarySeconds: 30 },
      segments: {},
    };
    const before = { ...rules, revision: 1, flags: { same: flag(1), changed: flag(1), gone: flag(1) } };
    const after = { ...rules, revision: 4, flags: { same: flag(1), changed: flag(2), added: flag(1) } };
    const delta = diff(before, after);
    expect({ ...delta, flags: { ...delta.flags } }).toEqual({
      revision: 4,
      previous: 1,
      flags: { gone: null, changed: flag(2), added: flag(1) },
      segments: {} as never,
    });
    expect(diff(before, compile(after).ruleset)).toEqual(delta);
  });
});

describe("keys", () => {
  it("are 1 to 128 of A-Z a-z 0-9 . _ ~ -, and no name with a meaning of its own", () => {
    for (const key of ["a", "A.b_c~d-9", "-", "...", "constructors", "proto", "x".repeat(128)])
      expect([key, isKey(key)]).toEqual([key, true]);
    for (const key of [
      "",
      ".",
      "..",
      "__proto__",
      "constructor",
      "prototype",
      "a b",
      "a/b",
      "é",
      "a\n",
      "x".repeat(129),
      5,
      null,
      ["a"],
    ]) {
      expect([key, isKey(key)]).toEqual([key, false]);
    }
  });
});
