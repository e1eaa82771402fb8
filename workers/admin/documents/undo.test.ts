import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { revert, undoOf, undoOfWhole } from "./undo.ts";

const rule = (id: string, plan = "free", serve: object = { variation: "on" }) => ({
  id,
  conditions: [{ attribute: "plan", op: "in", values: [plan] }],
  serve,
});

describe("a change that is taken back (R11)", () => {
  const document = fc.record({
    on: fc.boolean(),
    offVariation: fc.option(fc.constantFrom("on", "off")),
    fallthrough: fc.constantFrom({ variation: "on" }, { variation: "off" }, { split: { seed: "a", ranges: [] } }),
    rules: fc
      .uniqueArray(fc.tuple(fc.constantFrom("a", "b", "c", "d", "e"), fc.constantFrom("free", "pro")), {
        selector: ([id]) => id,
      })
      .map((all) => all.map(([id, plan]) => rule(id, plan))),
    targets: fc
      .uniqueArray(fc.tuple(fc.constantFrom("on", "off"), fc.constantFrom("targetingKey", "company"), fc.nat(3)), {
        selector: ([variation, attribute]) => `${variation} ${attribute}`,
      })
      .map((all) => all.map(([variation, attribute, n]) => ({ variation, attribute, values: [`user-${n}`] }))),
  });

  test("leaves what was there before, to the letter, where nothing has happened since", () => {
    fc.assert(
      fc.property(document, document, (before, after) => {
        const { next, conflicts } = revert(undoOf(before, after), after, false);
        expect(conflicts).toEqual([]);
        expect(next).toEqual(before);
      }),
    );
  });

  test("is a change like others: taken back in turn it is there again", () => {
    fc.assert(
      fc.property(document, document, (before, after) => {
        const { next } = revert(undoOf(before, after), after, false);
        expect(revert(undoOf(after, next as object as typeof before), next, false).next).toEqual(after);
      }),
    );
  });

  test("twice changes nothing more", () => {
    fc.assert(
      fc.property(document, document, (before, after) => {
        const taken = undoOf(before, after);
        const once = revert(taken, after, false).next;
        expect(revert(taken, once, false)).toEqual({ next: once, conflicts: [] });
      }),
    );
  });

  test("with force never stops at what was written since, but at what is gone", () => {
    fc.assert(
      fc.property(document, document, document, (before, after, now) => {
        const { conflicts } = revert(undoOf(before, after), now, true);
        expect(conflicts.every(({ gone }) => gone === true)).toBe(true);
      }),
    );
  });
});

describe("on top of what others have done since", () => {
  const before = { on: false, rules: [rule("a"), rule("b")] };
  const after = { on: true, rules: [rule("b"), rule("a", "pro")] };
  const taken = undoOf(before, after);

  test("it finds a rule wherever it was moved, and leaves alone what it has not changed", () => {
    const now = { on: true, rules: [rule("new"), rule("b", "team"), rule("a", "pro")] };
    const { next, conflicts } = revert(taken, now, false);
    expect(conflicts).toEqual([]);
    expect(next).toEqual({ on: false, rules: [rule("new"), rule("a"), rule("b", "team")] });
  });

  test("it tells what it would overwrite, with both versions", () => {
    const now = { on: true, rules: [rule("b"), rule("a", "team")] };
    expect(revert(taken, now, false).conflicts).toEqual([
      { at: "rules[a].conditions", written: rule("a", "pro").conditions, now: rule("a", "team").conditions },
    ]);
    expect(revert(taken, now, true)).toEqual({ next: before, conflicts: [] });
  });

  test("a rule that is gone cannot be put back in part", () => {
    expect(revert(taken, { on: true, rules: [rule("b")] }, true).conflicts).toEqual([
      { at: "rules[a].conditions", gone: true },
    ]);
  });

  test("of long lists only those come back who left, and only those leave who came", () => {
    const users = Array.from({ length: 100 }, (_, index) => `u${index}`);
    const undo = undoOf({ included: users }, { included: [...users.slice(1), "new"] });
    expect(undo).toEqual([{ at: ["included"], left: ["u0"], came: ["new"] }]);
    const { next } = revert(undo, { included: ["u5", "new", "later"] }, false);
    expect(next).toEqual({ included: ["u5", "later", "u0"] });
  });

  test("a document that came goes, and one that went comes back, unless it is another by now", () => {
    const fields = { name: "Beta", rules: [] };
    expect(revert(undoOfWhole(null, fields), fields, false)).toEqual({ next: null, conflicts: [] });
    expect(revert(undoOfWhole(fields, null), null, false)).toEqual({ next: fields, conflicts: [] });
    expect(revert(undoOfWhole(null, fields), { ...fields, name: "Gamma" }, false).conflicts).toHaveLength(1);
    expect(revert(undoOf(fields, { ...fields, name: "x" }), null, true).conflicts).toEqual([{ at: "", gone: true }]);
  });
});
