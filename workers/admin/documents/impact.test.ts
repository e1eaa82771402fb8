import type { Condition, Flag, Serve } from "@bunting/core";
import { describe, expect, test } from "vitest";
import { shareOfFlag, shareOfSegment } from "./impact.ts";

const ON: Serve = { variation: "on" };
const OFF: Serve = { variation: "off" };
const split = (on: number, seed = "s", by = "key"): Serve => ({
  split: {
    by,
    seed,
    hash: "xxh32",
    ranges: [
      { variation: "on", from: 0, to: on },
      { variation: "off", from: on, to: 100_000 },
    ],
  },
});
const partial = (to: number): Serve => ({
  split: { by: "key", seed: "s", hash: "xxh32", ranges: [{ variation: "on", from: 0, to }] },
});
const rule = (id: string, plan: string, serve: Serve = ON) => ({
  id,
  conditions: [{ attribute: "plan", op: "in", values: [plan] } satisfies Condition],
  serve,
});

const FLAG: Flag = {
  key: "checkout",
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
  rules: [rule("a", "free", split(10_000)), rule("b", "pro")],
  fallthrough: split(25_000),
  clientSide: false,
  trackExposures: false,
  experiment: null,
  killed: false,
};
const off = { ...FLAG, on: false };

describe("the share of users that an edit of a flag affects (R10)", () => {
  const cases: [string, Flag | null, Flag | null, number][] = [
    ["nothing", FLAG, { ...FLAG }, 0],
    ["turning it on", off, FLAG, 100_000],
    ["turning it off", FLAG, off, 100_000],
    ["what is served while off", off, { ...off, offVariation: "on" }, 100_000],
    ["another value of a variation", FLAG, { ...FLAG, variations: [{ key: "on", value: false }] }, 100_000],
    [
      "a variation that nobody is served",
      FLAG,
      { ...FLAG, variations: [...FLAG.variations, { key: "x", value: true }] },
      0,
    ],
    ["another name of a variation", FLAG, { ...FLAG, variations: [{ key: "on", value: true, name: "On" }] }, 0],
    ["shown to browsers", FLAG, { ...FLAG, clientSide: true }, 100_000],
    ["prerequisites", FLAG, { ...FLAG, prerequisites: [{ flag: "other", variations: ["on"] }] }, 100_000],
    ["individual targets", FLAG, { ...FLAG, targets: [{ variation: "on", values: ["ada", "grace"] }] }, 0],
    ["tracking", FLAG, { ...FLAG, trackExposures: true }, 0],
    ["rules of a flag that is off and stays off", off, { ...off, rules: [], fallthrough: ON }, 0],
    ["a wider split", FLAG, { ...FLAG, fallthrough: split(50_000) }, 25_000],
    ["a narrower split", FLAG, { ...FLAG, fallthrough: split(20_000) }, 5_000],
    ["the whole of a split", FLAG, { ...FLAG, fallthrough: ON }, 75_000],
    ["a variation in place of a split", { ...FLAG, fallthrough: OFF }, { ...FLAG, fallthrough: ON }, 100_000],
    [
      "users whom no range holds",
      { ...FLAG, fallthrough: partial(10_000) },
      { ...FLAG, fallthrough: partial(15_000) },
      5_000,
    ],
    ["a new seed", FLAG, { ...FLAG, fallthrough: split(25_000, "other") }, 100_000],
    ["another attribute to bucket by", FLAG, { ...FLAG, fallthrough: split(25_000, "s", "company") }, 100_000],
    [
      "a new seed where all have one",
      { ...FLAG, fallthrough: split(100_000) },
      { ...FLAG, fallthrough: split(100_000, "x") },
      0,
    ],
    ["a rule's split", FLAG, { ...FLAG, rules: [rule("a", "free", split(30_000)), rule("b", "pro")] }, 20_000],
    [
      "two places at once: nobody is in both",
      FLAG,
      { ...FLAG, rules: [rule("a", "free", split(40_000)), rule("b", "pro")], fallthrough: split(35_000) },
      30_000,
    ],
    ["a rule added", FLAG, { ...FLAG, rules: [...FLAG.rules, rule("c", "team")] }, 100_000],
    ["a rule removed", FLAG, { ...FLAG, rules: FLAG.rules.slice(1) }, 100_000],
    ["a rule moved", FLAG, { ...FLAG, rules: FLAG.rules.toReversed() }, 100_000],
    ["other conditions", FLAG, { ...FLAG, rules: [rule("a", "team", split(10_000)), rule("b", "pro")] }, 100_000],
    [
      "a last rule that serves what is served anyway",
      FLAG,
      { ...FLAG, rules: [...FLAG.rules, rule("c", "x", split(25_000))] },
      0,
    ],
    [
      "such a rule, and then another split",
      FLAG,
      { ...FLAG, rules: [...FLAG.rules, rule("c", "x", split(25_000))], fallthrough: ON },
      100_000,
    ],
    ["a description", FLAG, { ...FLAG, rules: [{ ...FLAG.rules[0]!, description: "x" }, FLAG.rules[1]!] }, 0],
    ["archiving", FLAG, null, 100_000],
    ["bringing back what is on", null, FLAG, 100_000],
    ["a new flag, off", null, off, 0],
  ];
  test.each(cases)("%s", (_, before, next, share) => {
    expect(shareOfFlag(before, next)).toBe(share);
  });
});

test("a segment's rules affect whom they could catch, its listed members nobody more", () => {
  const segment = { key: "beta", version: 1, included: [], excluded: [], rules: [] };
  const rules = [{ conditions: rule("a", "free").conditions }];
  expect(shareOfSegment(segment, { ...segment, included: ["ada"], excluded: ["bob"] })).toBe(0);
  expect(shareOfSegment(segment, { ...segment, rules })).toBe(100_000);
  expect(shareOfSegment({ ...segment, rules }, null)).toBe(100_000);
});
