import { describe, expect, test } from "vitest";
import { flag } from "../../../test/support/environment.ts";
import { fullSinceAfter, mostServed } from "./serves-one-variation.ts";

const split = (...weights: [string, number][]) => {
  const startOf = (index: number) => weights.slice(0, index).reduce((sum, [, weight]) => sum + weight, 0);
  const ranges = weights.map(([variation], index) => ({ variation, from: startOf(index), to: startOf(index + 1) }));
  return { split: { by: "key", seed: "s", hash: "xxh32", ranges } };
};
const rule = (serve: object) => ({ id: "r", conditions: [], serve }) as never;
const all = (variation: string | null) => ({ variation, share: 100_000 });

describe("what most are served (R12)", () => {
  test.each([
    [
      "off: the off variation, whatever the rest says",
      flag("f", { on: false, rules: [rule(split(["on", 5]))] }),
      all("off"),
    ],
    ["off without one: the code's default", flag("f", { on: false, offVariation: null }), all(null)],
    ["on: the fallthrough", flag("f"), all("on")],
    ["a split that gives all to one", flag("f", { fallthrough: split(["on", 60_000], ["on", 40_000]) }), all("on")],
    ["a split of which the rest is off", flag("f", { fallthrough: split(["off", 40_000]) }), all("off")],
    [
      "a split",
      flag("f", { fallthrough: split(["on", 12_500], ["off", 87_500]) }),
      { variation: "off", share: 87_500 },
    ],
    ["a split of less than all", flag("f", { fallthrough: split(["on", 40_000]) }), { variation: "on", share: 40_000 }],
    [
      "rules and targets that serve the same",
      flag("f", { rules: [rule({ variation: "on" })], targets: [{ variation: "on", values: ["u"] }] }),
      all("on"),
    ],
    ["a rule that serves another", flag("f", { rules: [rule({ variation: "off" })] }), null],
    ["a target that is served another", flag("f", { targets: [{ variation: "off", values: ["u"] }] }), null],
    [
      "an empty list of targets",
      flag("f", { targets: [{ variation: "off", values: [] }], rules: [rule({ variation: "on" })] }),
      all("on"),
    ],
    ["a prerequisite that may fail", flag("f", { prerequisites: [{ flag: "g", variations: ["on"] }] }), null],
    [
      "a prerequisite that changes nothing",
      flag("f", { prerequisites: [{ flag: "g", variations: ["on"] }], offVariation: "on" }),
      all("on"),
    ],
  ])("%s", (_, document, expected) => {
    expect(mostServed(document)).toEqual(expected);
  });
});

describe("since when everybody is served the same", () => {
  const half = flag("f", { fallthrough: split(["on", 50_000], ["off", 50_000]) });
  const renamed = flag("f", {
    variations: [
      { key: "on", value: true, name: "New" },
      { key: "off", value: false },
    ],
  });
  const otherValue = flag("f", {
    variations: [
      { key: "on", value: "yes" },
      { key: "off", value: false },
    ],
  });

  test.each([
    ["begins when the last are served it", half, flag("f"), null, 9],
    ["ends when some are served another", flag("f"), half, 5, null],
    ["goes on where an edit changes nobody's value", flag("f"), flag("f", { trackExposures: true }), 5, 5],
    ["goes on where a variation is renamed", flag("f"), renamed, 5, 5],
    ["begins again with another variation", flag("f"), flag("f", { on: false }), 5, 9],
    ["begins again with another value of the same variation", flag("f"), otherValue, 5, 9],
    ["is never where it depends on who asks", half, half, null, null],
  ])("it %s", (_, before, next, since, expected) => {
    expect(fullSinceAfter(before, next, since, 9)).toBe(expected);
  });
});
