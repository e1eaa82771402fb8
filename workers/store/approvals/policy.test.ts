import { describe, expect, test } from "vitest";
import { given, isEscaped, isExempt, isMet, isNamed, lacking } from "./policy.ts";

const ANY = { enabled: true, environments: [], tags: [], share: 0 };
const CHANGE = { environment: "production", tags: ["payment", "checkout"], share: 20_000 };

describe("a policy is met (R10)", () => {
  const cases: [string, Partial<typeof ANY> & object, boolean][] = [
    ["by anything, without a condition", {}, true],
    ["never, once it is disabled", { enabled: false }, false],
    ["in its environments", { environments: ["staging", "production"] as never }, true],
    ["nowhere else", { environments: ["staging"] as never }, false],
    ["by a flag with one of its tags", { tags: ["billing", "payment"] as never }, true],
    ["by no other flag", { tags: ["billing"] as never }, false],
    ["from its share on", { share: 20_000 }, true],
    ["not below it", { share: 20_001 }, false],
    [
      "where all of its parts hold",
      { environments: ["production"] as never, tags: ["payment"] as never, share: 1 },
      true,
    ],
    ["not where one does not", { environments: ["staging"] as never, tags: ["payment"] as never, share: 1 }, false],
  ];
  test.each(cases)("%s", (_, condition, met) => {
    expect(isMet({ ...ANY, ...condition }, CHANGE)).toBe(met);
  });
});

test("taking a flag's tags away takes it from under a policy only where no tag of it is left", () => {
  const policy = { ...ANY, tags: ["payment", "billing"] };
  expect(isEscaped(policy, ["payment"], [])).toBe(true);
  expect(isEscaped(policy, ["payment", "billing"], ["billing"])).toBe(false);
  expect(isEscaped(policy, ["search"], [])).toBe(false);
  expect(isEscaped(policy, [], ["payment"])).toBe(false);
  expect(isEscaped(ANY, ["payment"], [])).toBe(false);
  expect(isEscaped({ ...policy, enabled: false }, ["payment"], [])).toBe(false);
});

const ada = { id: "tok_ada", role: "approver" as const, groups: ["payments"] };
const bob = { id: "tok_bob", role: "admin" as const, groups: [] };

test("approvers are named by role, by group or one by one", () => {
  expect([ada, bob].map((one) => isNamed({ role: "approver" }, one))).toEqual([true, true]);
  expect([ada, bob].map((one) => isNamed({ role: "admin" }, one))).toEqual([false, true]);
  expect([ada, bob].map((one) => isNamed({ group: "payments" }, one))).toEqual([true, false]);
  expect([ada, bob].map((one) => isNamed({ members: ["tok_bob"] }, one))).toEqual([false, true]);
});

test("each policy counts those that it names, each of them once; two policies need both", () => {
  const payment = { key: "payment", approvers: { group: "payments" }, approvals: 1 };
  const wide = { key: "wide", approvers: { role: "approver" as const }, approvals: 2 };
  const still = (...people: (typeof ada | typeof bob)[]) =>
    lacking(given([payment, wide], people)).map(({ policy, given }) => [policy.key, given]);
  expect(still()).toEqual([
    ["payment", 0],
    ["wide", 0],
  ]);
  expect(still(ada)).toEqual([["wide", 1]]);
  expect(still(ada, ada)).toEqual([["wide", 1]]);
  expect(still(bob)).toEqual([
    ["payment", 0],
    ["wide", 1],
  ]);
  expect(still(ada, bob)).toEqual([]);
});

test("nobody goes without approvals unless the policy says from which role on", () => {
  expect([null, "editor", "admin"].map((role) => isExempt({ bypass: null }, role as "admin" | null))).toEqual([
    false,
    false,
    false,
  ]);
  expect(
    [null, "editor", "approver", "admin"].map((role) => isExempt({ bypass: "approver" }, role as "admin" | null)),
  ).toEqual([false, false, true, true]);
});
