import { expect, test } from "vitest";
import { difference } from "./diff.ts";

test("a difference names items by their id, gives lists whole, and gives long lists as what was added and removed", () => {
  const rule = (id: string, plans: string[]) => ({ id, conditions: [{ attribute: "plan", op: "in", values: plans }] });
  expect(difference({ rules: [rule("a", ["free"])] }, { rules: [rule("a", ["free", "pro"])] })).toEqual({
    "rules[0].conditions[0].values": { from: ["free"], to: ["free", "pro"] },
  });
  expect(difference({ rules: [rule("a", []), rule("b", [])] }, { rules: [rule("b", []), rule("a", ["x"])] })).toEqual({
    "rules[1].conditions[0].values": { from: [], to: ["x"] },
    "rules.order": { from: ["a", "b"], to: ["b", "a"] },
  });
  expect(difference({ rules: [rule("a", [])] }, { rules: [rule("new", []), rule("a", [])] })).toEqual({
    "rules[0]": { to: rule("new", []) },
  });
  expect(difference({ rules: [rule("a", [])] }, { rules: [rule("b", [])] })).toEqual({
    "rules[0]": { from: rule("a", []), to: rule("b", []) },
  });
  const users = Array.from({ length: 100 }, (_, index) => `u${index}`);
  expect(difference({ values: users }, { values: [...users.slice(1), "new"] })).toEqual({
    "values.removed": { from: ["u0"] },
    "values.added": { to: ["new"] },
  });
  expect(difference({ a: 1, b: { c: null } }, { a: 1, b: { c: 2 }, d: [] })).toEqual({
    "b.c": { from: null, to: 2 },
    d: { to: [] },
  });
});
